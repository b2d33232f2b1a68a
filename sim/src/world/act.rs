//! Faults, carried out.

use quorate_core::engine::memory::Memory;
use quorate_core::shard::Name;
use quorate_core::{Generation, LogId, Node, RecoveredLog};

use super::process::COPIES_MAX;
use super::{Armed, What, World};
use crate::checks::quorum::is_enough;
use crate::counts::Count;
use crate::disk::{DirId, Directory};
use crate::network::{Cut, MS};
use crate::outcome::Verdict;
use crate::plan::Action;
use crate::trace::tell;
use crate::view::{Kind, Told};

impl World {
    pub(super) fn act(&mut self, place: usize) -> Verdict {
        let action = match self.schedule[place].action.clone() {
            Action::IsolateLeader { id, which, sends, hears, lasts } => {
                let Some(host) = self.leader_of(which) else { return Ok(()) };
                let (own, all) = (1 << host, u32::MAX);
                let (from, to) = if sends { (all, own) } else { (own, all) };
                let both = !sends && !hears;
                Action::Cut { id, from, to, both, datagrams: true, streams: true, lasts }
            }
            action => action,
        };
        if !matches!(action, Action::Order { .. }) {
            tell!(self, Told::Fault(&action), "FAULT {action:?}");
        }
        match action {
            Action::Cut { id, from, to, both, datagrams, streams, lasts } => {
                let cut = Cut::one_way(id, from, to, datagrams, streams);
                self.network.cuts.begin(if both { cut.both_ways() } else { cut });
                self.counts.add(Count::Partitions);
                self.queue.push(self.now + lasts, What::Heal(id));
                Ok(())
            }
            Action::Pause { host, lasts } => {
                self.pause(host, lasts);
                Ok(())
            }
            Action::Crash { hosts, power, down } => self.crash_many(hosts, power, down),
            Action::Arm { host, moment, skip, down } => {
                self.hosts[host].armed = Some(Armed { moment, skip, down });
                Ok(())
            }
            Action::Wipe { host, down, ruthless } => self.wipe(host, down, ruthless),
            Action::BackUp { host } => {
                if let Some(dir) = self.hosts[host].dir {
                    let now = self.now;
                    self.disks.get_mut(dir).back_up(now, COPIES_MAX);
                }
                Ok(())
            }
            Action::Restore { host, copy } => self.restore(host, copy),
            Action::Clone { host } => self.clone_disk(host),
            Action::FailDisk { host, down } => self.fail_disk(host, down),
            Action::SlowDisk { host, extra, lasts } => {
                self.hosts[host].disk_slow = extra;
                self.queue.push(self.now + lasts, What::HastenDisk(host));
                Ok(())
            }
            Action::FillDisk { host, lasts } => {
                self.hosts[host].full = true;
                self.queue.push(self.now + lasts, What::Emptied(host));
                Ok(())
            }
            Action::SlowEngines { host, extra, lasts } => {
                self.hosts[host].engines_slow = extra;
                self.queue.push(self.now + lasts, What::HastenEngines(host));
                Ok(())
            }
            Action::Rot { host, which } => {
                self.rot(host, which);
                Ok(())
            }
            Action::Misplace { host, which, other, down } => {
                self.misplace(host, (which, other), down)
            }
            Action::RotLog { host, which, back, more } => {
                self.rot_log(host, which, back, more);
                Ok(())
            }
            Action::Ambush { mark, skip, strike } => {
                self.lie_in_ambush(mark, skip, strike);
                Ok(())
            }
            Action::Drift { host, ppm } => {
                self.hosts[host].disturb_clock(|clock| clock.set_rate(self.now, ppm));
                self.reset_timer(host);
                Ok(())
            }
            Action::Jump { host, ahead } => {
                self.hosts[host].disturb_clock(|clock| clock.jump(self.now, ahead));
                self.hosts[host].jumped = self.now;
                self.reset_timer(host);
                Ok(())
            }
            Action::SlowLinks { host, extra, lasts } => {
                self.network.slow[host] = extra;
                self.queue.push(self.now + lasts, What::Hasten(host));
                Ok(())
            }
            Action::Reset { host, one_in } => {
                let by = self.run_of(host);
                for (link, _) in self.network.links.of_run(by) {
                    if self.network.dice.one_in(one_in) {
                        self.counts.add(Count::Resets);
                        self.network.reset(&mut self.queue, self.now, link);
                    }
                }
                Ok(())
            }
            Action::Order { host, order } => self.order(host, order),
            Action::IsolateLeader { .. } => unreachable!("it is a cut by now"),
        }
    }

    /// Who leads one of the logs that have a leader.
    fn leader_of(&self, which: usize) -> Option<usize> {
        let mut leaders = std::collections::BTreeMap::new();
        for (host, held) in self.hosts.iter().enumerate() {
            let Some(node) = &held.node else { continue };
            let configuration = node.configuration_log().map(|log| (LogId::CONFIGURATION, log));
            let shards = node.shards().map(|(log, shard)| (log, shard.log()));
            for (log, raft) in configuration.into_iter().chain(shards) {
                if raft.is_leader() {
                    leaders.insert(log, host);
                }
            }
        }
        leaders.values().nth(which.checked_rem(leaders.len())?).copied()
    }

    fn crash_many(&mut self, hosts: u32, power: bool, down: u64) -> Verdict {
        let mut later = 0;
        for host in 0..self.hosts.len() {
            if hosts & (1 << host) != 0 {
                self.kill(host, power, Some(down + later))?;
                later += self.fault_dice.between(0, 1_000) * MS;
            }
        }
        Ok(())
    }

    /// A copy that a host may lose: voters with whole copies can still decide without it. Nobody can
    /// serve a shard whose copies are all damaged.
    fn spared_copy(&self, host: usize, which: usize) -> Option<(DirId, LogId, Generation)> {
        let dir = self.hosts[host].dir?;
        let directory = self.disks.get(dir);
        let live = |(log, held): (&LogId, &RecoveredLog)| Some((*log, held.copy?));
        let all: Vec<_> = directory.durable.logs.iter().filter_map(live).collect();
        let (log, generation) = all.get(which % all.len().max(1)).copied()?;
        let ledger = directory.written_log.cluster.and_then(|c| self.checks.shard(c, log));
        let lost = directory.node;
        let whole = |id: quorate_core::NodeId| {
            let ended = self
                .hosts
                .iter()
                .any(|h| h.ended.is_some() && h.dir.is_some_and(|d| self.disks.get(d).node == id));
            let held = self.disks.of(id).filter(|_| id != lost && !ended);
            let held = held.filter(|held| !held.has_rotten_logs());
            held.is_some_and(|held| held.has_sound_copy(log) == Some(true))
        };
        let governing = ledger.and_then(|ledger| ledger.governing.as_ref());
        let own = directory.written(log).and_then(|log| log.membership());
        let spared = governing.into_iter().chain(own).all(|held| is_enough(held, &whole));
        spared.then_some((dir, log, generation))
    }

    /// The files of a copy are damaged.
    fn rot(&mut self, host: usize, which: usize) {
        let Some((dir, log, generation)) = self.spared_copy(host, which) else { return };
        self.disks.get_mut(dir).files(log).rotten.insert(generation);
        self.counts.add(Count::CopiesRotten);
        tell!(
            self,
            Told::Log(host, Kind::Copies, log),
            "host {host} has a damaged copy of {log:?}"
        );
    }

    /// While its process is away, a copy of another shard comes to lie in the place of one of a host's.
    fn misplace(&mut self, host: usize, (which, other): (usize, usize), down: u64) -> Verdict {
        if self.spared_copy(host, which).is_none() || self.hosts[host].node.is_none() {
            return Ok(());
        }
        self.kill(host, false, Some(down))?;
        // What was under way may have ended with another copy in its place.
        let Some((dir, log, generation)) = self.spared_copy(host, which) else { return Ok(()) };
        let name = |copy: &Memory| copy.noted().get(&Name::KEY).cloned();
        let held = |log: &LogId, directory: &Directory, generation| {
            let files = directory.engines.get(log).filter(|files| files.is_sound(generation));
            files.and_then(|files| files.held.generations.get(&generation)).cloned()
        };
        let cluster = self.disks.get(dir).written_log.cluster;
        let document = cluster.and_then(|cluster| self.checks.known(cluster)?.document());
        let Some(origin) = document.map(|document| document.origin) else { return Ok(()) };
        let own = Name::new(origin, log).note().value;
        let others: Vec<Memory> = self
            .disks
            .iter()
            .flat_map(|(_, directory)| {
                let live = directory.durable.logs.iter();
                live.filter_map(move |(log, live)| held(log, directory, live.copy?))
            })
            // One that nothing was ever written to is nobody's.
            .filter(|copy| name(copy).is_some_and(|name| name != own))
            .collect();
        let Some(other) = others.get(other % others.len().max(1)) else { return Ok(()) };
        self.disks.get_mut(dir).files(log).misplace(generation, other.clone());
        self.counts.add(Count::CopiesMisplaced);
        tell!(
            self,
            Told::Log(host, Kind::Copies, log),
            "host {host} has a copy of another shard in the place of that of {log:?}"
        );
        Ok(())
    }

    /// Entries of a log rot, if the others can still decide when the node finds out: then it takes no
    /// part any more.
    fn rot_log(&mut self, host: usize, which: usize, back: usize, more: usize) {
        let Some(dir) = self.hosts[host].dir else { return };
        let directory = self.disks.get(dir);
        let member = directory.durable.identity.cluster.is_some() && directory.gone.is_none();
        if !member || self.hosts[host].ended.is_some() || !self.is_spared_by(host) {
            return;
        }
        let logs: Vec<LogId> = directory.durable.logs.keys().copied().collect();
        let Some(log) = logs.get(which % logs.len().max(1)).copied() else { return };
        if self.disks.get_mut(dir).rot(log, back, more) {
            self.counts.add(Count::LogsRotten);
            tell!(
                self,
                Told::Log(host, Kind::Disk, log),
                "host {host} has rotten entries of {log:?}"
            );
        }
    }

    /// Whether those who are left when the disk of `host` is lost can still decide.
    fn is_spared_by(&self, host: usize) -> bool {
        let Some(dir) = self.hosts[host].dir else { return true };
        let directory = self.disks.get(dir);
        let Some(ledger) = directory.written_log.cluster.and_then(|c| self.checks.known(c)) else {
            return true;
        };
        let lost = directory.node;
        let stays = |id| {
            let holder = |h: &&super::Host| h.dir.is_some_and(|d| self.disks.get(d).node == id);
            let ended = self.hosts.iter().find(holder).is_none_or(|h| h.ended.is_some());
            // Who cannot read his log is as good as gone once he finds out.
            let sound = self.disks.of(id).is_some_and(|held| !held.has_rotten_logs());
            id != lost && !ended && sound
        };
        let mut memberships = ledger.governing.iter().chain(directory.written_log.membership());
        let shards = self.checks.shards_of(ledger.cluster);
        let mut governing = shards.filter_map(|shard| Some((shard.log, shard.governing.as_ref()?)));
        let own = directory.written_shards.iter();
        let mut own = own.filter_map(|(log, shard)| Some((*log, shard.membership()?)));
        let decides = |(log, membership): (LogId, &std::sync::Arc<_>)| {
            // Whose file is damaged has only a vote left.
            let whole =
                |id| self.disks.of(id).is_some_and(|d| d.has_sound_copy(log) != Some(false));
            let held = |id| (stays(id) && whole(id)) || !Self::concerns(membership, lost);
            is_enough(membership, &held)
        };
        memberships.all(|membership| is_enough(membership, &stays))
            && governing.all(decides)
            && own.all(decides)
    }

    fn concerns(membership: &quorate_core::raft::Membership, node: quorate_core::NodeId) -> bool {
        membership.is_voter(node)
    }

    fn wipe(&mut self, host: usize, down: u64, ruthless: bool) -> Verdict {
        let Some(dir) = self.hosts[host].dir else { return Ok(()) };
        if self.hosts[host].ended.is_some() || !(ruthless || self.is_spared_by(host)) {
            return Ok(());
        }
        self.kill(host, true, None)?;
        self.counts.add(Count::Wipes);
        self.disks.get_mut(dir).retire();
        self.new_directory(host);
        let run = self.hosts[host].run;
        self.queue.push(self.now + down, What::Start { host, run });
        Ok(())
    }

    /// An operator puts an old copy back and starts the node on it; only where that is fair.
    fn restore(&mut self, host: usize, copy: usize) -> Verdict {
        let Some(dir) = self.hosts[host].dir else { return Ok(()) };
        let directory = self.disks.get(dir);
        let spared = self.is_spared_by(host) && self.hosts[host].ended.is_none();
        if !spared || directory.gone.is_some() {
            return Ok(());
        }
        let mut older = directory.copies.iter().rev().skip(copy);
        let fair = older.find(|old| self.is_fair_to_restore(dir, &old.held));
        let Some(old) = fair.cloned() else { return Ok(()) };
        self.kill(host, true, None)?;
        self.counts.add(Count::Restores);
        tell!(self, Told::at(host, Kind::Disk), "host {host} gets an old copy of its disk");
        self.disks.get_mut(dir).restore(old);
        let run = self.hosts[host].run;
        self.queue.push(self.now + MS, What::Start { host, run });
        Ok(())
    }

    /// The disk of a host that is down is copied to a spare one and started there; the first one
    /// is started again too, once all others know of its successor.
    fn clone_disk(&mut self, host: usize) -> Verdict {
        let spare = self.hosts.iter().position(|h| h.plan.start_at.is_none() && h.dir.is_none());
        let (Some(spare), Some(dir)) = (spare, self.hosts[host].dir) else { return Ok(()) };
        let directory = self.disks.get(dir);
        let member = directory.durable.identity.cluster.is_some();
        if self.hosts[host].ended.is_some() || directory.gone.is_some() || !member {
            return Ok(());
        }
        self.kill(host, false, None)?;
        self.counts.add(Count::Clones);
        let held = self.disks.get(dir).durable.clone();
        let engines = self.disks.get(dir).engines.clone();
        self.disks.get_mut(dir).retire();
        let mut copy = Directory::new(held);
        copy.engines = engines;
        copy.rots_like(self.disks.get(dir));
        let copy = self.disks.add(copy);
        self.hosts[spare].dir = Some(copy);
        self.hosts[spare].plan.name = self.hosts[host].plan.name.clone();
        self.hosts[spare].plan.credentials = self.hosts[host].plan.credentials;
        tell!(
            self,
            Told::at(host, Kind::Disk),
            "the disk of host {host} is copied to host {spare}"
        );
        let run = self.hosts[spare].run;
        self.queue.push(self.now + MS, What::Start { host: spare, run });
        let again = self.now + self.fault_dice.between(500, 20_000) * MS;
        let run = self.hosts[host].run;
        self.queue.push(again, What::Start { host, run });
        Ok(())
    }

    /// The nodes that run, by host.
    pub(crate) fn running(&self) -> impl Iterator<Item = (usize, &Node)> {
        self.hosts.iter().enumerate().filter_map(|(host, h)| h.node.as_ref().map(|n| (host, n)))
    }
}
