//! One input to one node, and everything it causes.

use quorate_core::{Index, Input, LogId};

use super::{NEVER, Seen, World};
use crate::checks::quorum::Sway;
use crate::checks::{Mind, OUTPUTS_MAX, bounded};
use crate::counts::{Count, Counts};
use crate::disk::Shadow;
use crate::outcome::{Verdict, Violation};
use crate::trace::tell;
use crate::view::{Kind, Told};

/// How many inputs may come without time passing before a node counts as one that never rests.
const SPINS_MAX: u32 = 100_000;
/// A socket's buffer holds so many datagrams while nobody reads them.
const DATAGRAMS_WAITING_MAX: usize = 256;

impl World {
    /// Hands an input to a host's process, or keeps it while that is stopped.
    pub(super) fn deliver(&mut self, host: usize, input: Input, pre_vote: bool) -> Verdict {
        let held = &mut self.hosts[host];
        if held.node.is_none() {
            return Ok(());
        }
        if held.paused {
            let full = held.inbox.len() >= DATAGRAMS_WAITING_MAX;
            if !(full && matches!(input, Input::Datagram { .. })) {
                held.inbox.push_back(input);
            }
            return Ok(());
        }
        self.acting = host;
        self.handle(host, input, pre_vote)
    }

    fn handle(&mut self, host: usize, input: Input, pre_vote: bool) -> Verdict {
        let held = &mut self.hosts[host];
        let local = held.clock.local(self.now);
        let (Some(node), Some(dir)) = (held.node.as_mut(), held.dir) else { return Ok(()) };
        self.disks.get_mut(dir).forget_previous();
        match &input {
            Input::LinkUp { link, .. } => held.links.push(*link),
            Input::LinkDown { link } => {
                self.clients.link_ends(*link);
                held.links.retain(|open| open != link);
            }
            _ => {}
        }
        node.handle(local, input);
        self.settle(host, pre_vote)
    }

    /// Carries out all that a node wants done, and looks at what it has become.
    pub(super) fn settle(&mut self, host: usize, pre_vote: bool) -> Verdict {
        let dies_after = self.draw_death();
        let mut outputs = 0;
        while let Some(output) = self.hosts[host].node.as_mut().and_then(|n| n.poll_output()) {
            if dies_after == Some(outputs) {
                tell!(
                    self,
                    Told::at(host, Kind::Life),
                    "host {host} dies after {outputs} outputs of one input"
                );
                self.observe(host, false)?;
                self.observe_shards(host, false)?;
                self.check_late(host)?;
                let down = self.fault_dice.between(1, 3_000) * 1_000_000;
                return self.kill(host, false, Some(down));
            }
            outputs += 1;
            self.carry_out(host, output, pre_vote)?;
            if self.hosts[host].node.is_none() {
                break;
            }
        }
        if let Some(node) = self.hosts[host].node.as_ref() {
            bounded(node.id(), "outputs of one input", outputs, OUTPUTS_MAX)?;
        }
        // One that has stopped writes no more: what it would have written is not there to compare.
        self.observe(host, self.stopped[host].is_none())?;
        self.observe_shards(host, self.stopped[host].is_none())?;
        self.check_late(host)?;
        self.push_layout(host);
        self.finish_if_stopped(host)?;
        self.die_if_armed(host)?;
        self.trace.watch(self.now, host, self.hosts[host].node.as_ref());
        self.reset_timer(host);
        Ok(())
    }

    fn draw_death(&mut self) -> Option<usize> {
        let dies = self.peace.is_none() && self.fault_dice.chance(self.plan.disks.die_ppm);
        dies.then(|| self.fault_dice.index(6))
    }

    /// The timer of a host is due.
    pub(super) fn timer(&mut self, host: usize) -> Verdict {
        self.due[host] = NEVER;
        let held = &mut self.hosts[host];
        held.spins += 1;
        if held.spins > SPINS_MAX {
            let detail = format!("host {host} wakes again and again at {} ns", self.now);
            return Err(Violation::new("node-does-not-rest", detail));
        }
        self.deliver(host, Input::Timer, false)
    }

    /// Asks the node when it wants to be woken; timers are a little late.
    pub(super) fn reset_timer(&mut self, host: usize) {
        let held = &mut self.hosts[host];
        let due = match (&held.node, held.paused) {
            (Some(node), false) => node.next_timeout(),
            _ => None,
        };
        let due = due.map_or(NEVER, |local| held.world_time(local));
        if due == NEVER {
            self.due[host] = NEVER;
            return;
        }
        if due > self.now {
            held.spins = 0;
        }
        let late = self.plan.clocks.lateness(due);
        self.due[host] = due.max(self.now).saturating_add(late);
    }

    /// Looks at what the log of a node has become. `whole`: all its outputs were carried out.
    fn observe(&mut self, host: usize, whole: bool) -> Verdict {
        let held = &self.hosts[host];
        let (Some(node), Some(dir)) = (held.node.as_ref(), held.dir) else { return Ok(()) };
        let Some(raft) = node.configuration_log() else { return Ok(()) };
        let seen = held.seen;
        let (term, leads, commit) = (raft.term(), raft.is_leader(), raft.commit());
        if (term, leads, commit) == (seen.term, seen.leads, seen.commit) {
            return Ok(());
        }
        let id = node.id();
        if term < seen.term || commit < seen.commit {
            let detail = format!(
                "{id:?} goes back from term {} commit {} to term {term} commit {commit}",
                seen.term, seen.commit
            );
            return Err(Violation::new("node-went-back", detail));
        }
        let directory = self.disks.get(dir);
        if leads && (!seen.leads || term > seen.term) {
            let mind = Mind {
                log: &directory.written_log,
                term_at: &|index| raft.term_at(index),
                membership: Some(raft.membership()),
            };
            let sway = self.checks.leads(&self.disks, directory, mind, term)?;
            self.counts.add(Count::Elections);
            count_sway(&mut self.counts, sway);
            let joint = directory.written_log.membership().is_some_and(|m| m.is_joint());
            if joint {
                self.counts.add(Count::ElectionsJoint);
            }
            tell!(
                self,
                Told::Log(host, Kind::Leads, LogId::CONFIGURATION),
                "host {host} {id:?} LEADS in term {term}, joint {joint}, by {sway:?}"
            );
        }
        let led = if leads { Some(term) } else { seen.leads.then_some(seen.term) };
        let mut known = seen.commit;
        // A founder's commit rests on nothing but its own disk.
        let alone =
            directory.written_log.membership().is_some_and(|m| m.voters().into_iter().eq([id]));
        if commit > seen.commit && (whole || led.is_some() || alone) {
            self.advance(host, commit, led)?;
            known = commit;
        }
        self.hosts[host].seen = super::Seen { term, leads, commit: known };
        Ok(())
    }

    fn advance(&mut self, host: usize, commit: Index, led: Option<quorate_core::Term>) -> Verdict {
        let held = &self.hosts[host];
        let (Some(dir), Some(node)) = (held.dir, &held.node) else { return Ok(()) };
        let Some(raft) = node.configuration_log() else { return Ok(()) };
        let directory = self.disks.get(dir);
        let mind = Mind {
            log: &directory.written_log,
            term_at: &|index| raft.term_at(index),
            membership: Some(raft.membership()),
        };
        let before = directory.written_log.cluster.and_then(|c| self.checks.known(c));
        let removed_before = before.map_or(0, |l| l.removals());
        let decided = self.checks.commits(&self.disks, directory, mind, commit, led)?;
        if let Some(sway) = decided {
            self.counts.add(Count::Commits);
            count_sway(&mut self.counts, sway);
            let after = directory.written_log.cluster.and_then(|c| self.checks.known(c));
            for _ in removed_before..after.map_or(0, |l| l.removals()) {
                self.counts.add(Count::Removals);
            }
            tell!(
                self,
                Told::Log(host, Kind::Commits, LogId::CONFIGURATION),
                "host {host} commits {commit} by {sway:?}"
            );
        }
        Ok(())
    }
}

impl World {
    /// Looks at what the logs of shards of a node have become.
    fn observe_shards(&mut self, host: usize, whole: bool) -> Verdict {
        if self.plan.databases.is_none() {
            return Ok(());
        }
        let held = &self.hosts[host];
        let Some(node) = held.node.as_ref() else { return Ok(()) };
        let mut changed = Vec::new();
        for (log, shard) in node.shards() {
            let raft = shard.log();
            let now = Seen { term: raft.term(), leads: raft.is_leader(), commit: raft.commit() };
            let seen = held.seen_shards.get(&log).copied().unwrap_or_default();
            if now != seen {
                changed.push((log, seen, now));
            }
            let pump = held.engines.get(&log).and_then(|pump| pump.transaction);
            // Whoever was stopped meanwhile may not have heard yet that it was run.
            let unheard =
                |input: &Input| matches!(input, Input::Engine { log: of, .. } if *of == log);
            let pump = pump.filter(|_| !held.inbox.iter().any(unheard));
            if let Some(term) = pump.filter(|term| !now.leads || *term != now.term)
                && whole
                // What takes the place of another copy ends what is open in that.
                && shard.is_open()
            {
                let detail = format!(
                    "host {host} keeps a transaction of {log:?} open that was run in term {term}; \
                     it is in term {} and leads: {}",
                    now.term, now.leads
                );
                return Err(Violation::new("transaction-outlives-term", detail));
            }
        }
        changed
            .into_iter()
            .try_for_each(|(log, seen, now)| self.observe_shard(host, whole, log, seen, now))
    }

    fn observe_shard(
        &mut self,
        host: usize,
        whole: bool,
        log: LogId,
        seen: Seen,
        now: Seen,
    ) -> Verdict {
        let held = &self.hosts[host];
        let (Some(node), Some(dir)) = (held.node.as_ref(), held.dir) else { return Ok(()) };
        let id = node.id();
        if now.term < seen.term || now.commit < seen.commit {
            let detail = format!("{id:?} goes back in {log:?} from {seen:?} to {now:?}");
            return Err(Violation::new("node-went-back", detail));
        }
        let directory = self.disks.get(dir);
        let Some(raft) = node.shard(log).map(|shard| shard.log()) else { return Ok(()) };
        let empty = Shadow::empty(log, directory.written_log.cluster);
        let mind = Mind {
            log: directory.written(log).unwrap_or(&empty),
            term_at: &|index| raft.term_at(index),
            membership: Some(raft.membership()),
        };
        if now.leads && (!seen.leads || now.term > seen.term) {
            self.checks.leads(&self.disks, directory, mind, now.term)?;
            self.counts.add(Count::ShardElections);
            tell!(
                self,
                Told::Log(host, Kind::Leads, log),
                "host {host} {id:?} LEADS {log:?} in term {}",
                now.term
            );
        }
        let led = if now.leads { Some(now.term) } else { seen.leads.then_some(seen.term) };
        let mut known = seen.commit;
        if now.commit > seen.commit && (whole || led.is_some()) {
            // Up to this moment they held all that was committed.
            self.checks.were_whole(&self.disks, directory, log, now.commit);
            let decided = self.checks.commits(&self.disks, directory, mind, now.commit, led)?;
            if decided.is_some() {
                self.counts.add(Count::ShardCommits);
                self.checks.are_whole_now(&self.disks, log);
                tell!(
                    self,
                    Told::Log(host, Kind::Commits, log),
                    "host {host} commits {} of {log:?}",
                    now.commit
                );
            }
            known = now.commit;
        }
        self.hosts[host].seen_shards.insert(log, Seen { commit: known, ..now });
        Ok(())
    }
}

fn count_sway(counts: &mut Counts, sway: Sway) {
    if sway == Sway::TieBreak {
        counts.add(Count::TieBreaks);
    }
}
