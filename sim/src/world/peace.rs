//! The end of all faults, and what must have become of the world by then.

use quorate_core::LogId;

use super::failover::HeldUp;
use super::{What, World};
use crate::checks::Ledger;
use crate::disk::Shadow;
use crate::liveness::{Assessment, Tally, assess};
use crate::network::MS;
use crate::outcome::{Verdict, Violation};
use crate::trace::tell;
use crate::view::Told;

/// How often the world is looked at.
const WATCH_EVERY: u64 = 250 * MS;
/// For so long it must stay as it is to count as settled.
const SETTLED: u64 = 3_000 * MS;

/// Since the last fault.
#[derive(Debug)]
pub struct Peace {
    /// When it began.
    pub since: u64,
    /// By when the world must have settled.
    pub deadline: u64,
    /// Nothing more is waited for.
    pub over: bool,
    /// When it had settled.
    pub converged_ms: Option<u64>,
    /// Since when nothing has been wrong, and what that looked like.
    settled: Option<(u64, u64)>,
    /// Named reasons.
    pub tally: Tally,
}

impl World {
    /// Every fault ends: partitions heal, who was stopped goes on, who is down starts.
    pub(super) fn make_peace(&mut self) -> Verdict {
        tell!(self, Told::Peace, "PEACE: every fault ends");
        self.network.peace = true;
        self.network.cuts.heal_all();
        self.network.slow = Default::default();
        let deadline = self.now + self.patience();
        self.peace = Some(Peace {
            since: self.now,
            deadline,
            over: false,
            converged_ms: None,
            settled: None,
            tally: Tally::default(),
        });
        self.ambushes.clear();
        for host in 0..self.hosts.len() {
            self.hosts[host].armed = None;
            self.hosts[host].disk_slow = 0;
            self.hosts[host].engines_slow = 0;
            self.hosts[host].full = false;
            let now = self.now;
            self.hosts[host].disturb_clock(|clock| clock.set_rate(now, 0));
            if self.hosts[host].is_up() {
                let by = self.run_of(host);
                self.resume(by)?;
                self.reset_timer(host);
                continue;
            }
            let starts = self.hosts[host].plan.start_at.is_some() || self.hosts[host].dir.is_some();
            if starts {
                let at = self.now + self.fault_dice.below(500) * MS;
                let run = self.hosts[host].run;
                self.queue.push(at, What::Start { host, run });
            }
        }
        self.hasten_sessions();
        self.clients_in_peace();
        self.queue.push(self.now + WATCH_EVERY, What::Watch);
        self.queue.push(self.now + 1_500 * MS, What::Rescue);
        Ok(())
    }

    /// How long the nodes are given: every time-out of theirs several times over, one after the
    /// other, for each thing that may still have to be done (streams that have not noticed, stale
    /// starts, an election, removals one at a time, joins, a merger).
    fn patience(&self) -> u64 {
        let timings = &self.plan.timings;
        let ms = |d: std::time::Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        let after = match self.plan.defaults.auto_remove {
            quorate_core::configuration::AutoRemove::AfterMs(ms) => ms,
            _ => 0,
        };
        let all = self.network.plan.give_up_ms
            + 3 * ms(timings.max_no_heartbeat)
            + 2 * after
            + ms(timings.leave)
            + 20 * ms(timings.election_max)
            + 10 * ms(timings.retry)
            + 40_000;
        all * MS + self.catching_up()
    }

    /// How long the one that is furthest behind needs for the entries of its logs, where few go at once
    /// and each takes its time.
    fn catching_up(&self) -> u64 {
        let (limits, network) = (&self.plan.limits, &self.network.plan);
        let behind = self.hosts.iter().filter_map(|host| host.dir).map(|dir| {
            let directory = self.disks.get(dir);
            let Some(cluster) = directory.durable_log.cluster else { return 0 };
            let lag = |(log, held): (&LogId, &Shadow)| {
                let commit = self.checks.shard(cluster, *log).map(Ledger::commit);
                commit.unwrap_or_default().0.saturating_sub(held.last_index().0)
            };
            directory.durable_shards.iter().map(lag).max().unwrap_or(0)
        });
        let at_once = limits.append_count_max * limits.in_flight_max;
        let rounds = behind.max().unwrap_or(0) / u64::try_from(at_once).unwrap_or(1).max(1);
        let us = 2 * network.way_max_us()
            + self.plan.disks.sync_max_us
            + 2 * self.plan.clocks.lateness_us;
        2 * rounds * us * (MS / 1_000)
    }

    /// Has the world settled?
    pub(super) fn watch(&mut self) -> Verdict {
        let mut assessment = assess(self);
        let (hash, now) = (assessment.hash, self.now);
        let mut answered = self.all_answered().is_ok();
        if assessment.unnamed.is_empty() {
            answered &= self.probe(&assessment.probes)?.is_empty();
            answered &= assessment.after_writes.is_empty();
            answered &= self.unfinished(&assessment.probes).is_empty();
            for held_up in self.clients_held_up(&assessment.probes) {
                match held_up {
                    HeldUp::Named(reason) => assessment.tally.add(reason),
                    HeldUp::Wrong(_) => answered = false,
                }
            }
        }
        let Some(peace) = self.peace.as_mut() else { return Ok(()) };
        if assessment.unnamed.is_empty() {
            let (since, _) = *peace.settled.get_or_insert((now, hash));
            if peace.settled.is_some_and(|(_, before)| before != hash) {
                peace.settled = Some((now, hash));
            } else if now - since >= SETTLED && answered {
                peace.over = true;
                peace.converged_ms = Some((since - peace.since) / MS);
                peace.tally = assessment.tally;
            }
        } else {
            peace.settled = None;
        }
        self.queue.push(self.now + WATCH_EVERY, What::Watch);
        Ok(())
    }

    /// The run has ended: it has settled, or there is a fault.
    pub(super) fn judge(&mut self) -> Verdict {
        let over = self.peace.as_ref().is_some_and(|peace| peace.over);
        if over {
            return Ok(());
        }
        self.all_answered()?;
        let Assessment { unnamed, probes, after_writes, .. } = assess(self);
        let detail = match unnamed.as_slice() {
            [] => {
                let open = self.probe(&probes)?;
                let unfinished = self.unfinished(&probes).join("; ");
                let wrong = |held_up| match held_up {
                    HeldUp::Wrong(why) => Some(why),
                    HeldUp::Named(_) => None,
                };
                let clients = self.clients_held_up(&probes).into_iter().filter_map(wrong);
                let clients = clients.collect::<Vec<_>>().join("; ");
                let (open, after) = (open.join("; "), after_writes.join("; "));
                format!(
                    "the world keeps changing; writes not taken: {open}; {after}; not ended in \
                     sessions: {unfinished}; {clients}"
                )
            }
            problems => problems.join("; "),
        };
        Err(Violation::new("does-not-converge", detail))
    }
}
