//! How processes start, stop, die and come back.

use quorate_core::configuration::Addresses;
use quorate_core::{Input, Limits, Node, NodeConfig, NodeId, Recovered, StopReason, Window};

use super::failover::client_address;
use super::{Armed, Host, NEVER, RunRef, Seen, What, World};
use crate::checks::RunView;
use crate::counts::Count;
use crate::disk::{DirId, Directory, Shadow};
use crate::network::{MS, address};
use crate::outcome::{Verdict, Violation};
use crate::plan::{Moment, Step};
use crate::trace::tell;
use crate::view::{Kind, Told};

/// How many backups of a disk are kept.
pub(super) const COPIES_MAX: usize = 4;

impl World {
    /// A new directory for a host, with a new id.
    pub(super) fn new_directory(&mut self, host: usize) -> DirId {
        let node = NodeId(self.node_dice.wide());
        let dir = self.disks.add(Directory::new(Recovered::fresh(node)));
        self.hosts[host].dir = Some(dir);
        dir
    }

    /// A host is to start, unless it has been started since, or may not.
    pub(super) fn start_if(&mut self, host: usize, run: u32) -> Verdict {
        let held = &self.hosts[host];
        if held.is_up() || held.run != run || held.ended.is_some() {
            return Ok(());
        }
        let dir = match held.dir {
            Some(dir) => dir,
            None => self.new_directory(host),
        };
        if self.disks.get(dir).gone.is_some() && !self.is_fair_to_start(dir) {
            tell!(
                self,
                Told::at(host, Kind::Life),
                "host {host} stays down: its old disk could do harm nobody can know of"
            );
            if self.peace.is_some() {
                self.hosts[host].ended = Some("superseded");
            }
            return Ok(());
        }
        self.start(host, dir)
    }

    fn start(&mut self, host: usize, dir: DirId) -> Verdict {
        self.counts.add(Count::Starts);
        // Somebody makes backups: the state before each start may be put back later.
        let now = self.now;
        self.disks.get_mut(dir).back_up(now, COPIES_MAX);
        let mut seed = [0; 32];
        for word in seed.chunks_mut(8) {
            word.copy_from_slice(&self.node_dice.bits().to_le_bytes());
        }
        let config = self.node_config(host);
        let recovered = self.disks.get_mut(dir).recovered(config.limits.window);
        tell!(
            self,
            Told::Starts(host, recovered.identity.node),
            "host {host} starts {:?} '{:?}'",
            recovered.identity.node,
            config.name
        );
        let local = self.hosts[host].clock.local(self.now);
        let node = Node::new(config, recovered, seed, local);
        let directory = self.disks.get_mut(dir);
        directory.written_log.begin_run();
        directory.written_shards.values_mut().for_each(Shadow::begin_run);
        let held = &mut self.hosts[host];
        held.run += 1;
        held.node = Some(node);
        held.paused = false;
        held.inbox.clear();
        held.seen = Seen::default();
        held.seen_shards.clear();
        held.recorded.clear();
        held.engines.clear();
        held.file_calls.clear();
        held.links.clear();
        held.view = RunView::default();
        held.dials = 0;
        held.spins = 0;
        held.disk_busy = self.now;
        held.disk_failed = false;
        self.settle(host, false)
    }

    /// How much of the logs of shards is kept in memory.
    pub(super) fn window(&self) -> Window {
        self.plan.databases.as_ref().map_or_else(Window::default, |plan| plan.window)
    }

    fn node_config(&self, host: usize) -> NodeConfig {
        let held = &self.hosts[host];
        let mut seeds = held.plan.seeds.clone();
        seeds.extend(held.leads_to.iter().copied());
        NodeConfig {
            limits: Limits { window: self.window(), ..self.plan.limits },
            shards: self.plan.databases.as_ref().map(|plan| plan.limits),
            name: held.plan.name.clone(),
            group: held.plan.credentials.group_name(),
            addresses: Addresses {
                node: address(host),
                client: self.failover.as_ref().map(|_| client_address(host)),
                http: None,
            },
            seeds,
            multicast: held.plan.multicast,
            defaults: self.plan.defaults.clone(),
            timings: self.plan.timings.clone(),
        }
    }

    /// The process of a host is gone: of what was outstanding a prefix survives. It is started
    /// again after `down`, if that is given.
    pub(super) fn kill(&mut self, host: usize, power: bool, down: Option<u64>) -> Verdict {
        if !self.hosts[host].is_up() {
            return Ok(());
        }
        self.counts.add(Count::Crashes);
        let Some(dir) = self.hosts[host].dir else { return Ok(()) };
        let outstanding = self.disks.get(dir).outstanding();
        let survive = match self.disk_dice.below(3) {
            0 => 0,
            1 => outstanding,
            _ => self.disk_dice.index(outstanding + 1),
        };
        if outstanding > 0 {
            self.counts.add(Count::CrashesWithWrites);
        }
        tell!(
            self,
            Told::Dies(host),
            "host {host} dies, {survive} of {outstanding} writes survive, power {power}"
        );
        self.end_process(host, survive, power);
        if let Some(down) = down {
            let run = self.hosts[host].run;
            self.queue.push(self.now + down, What::Start { host, run });
        }
        Ok(())
    }

    fn end_process(&mut self, host: usize, survive: usize, power: bool) {
        let by = self.run_of(host);
        for (link, side) in self.network.links.of_run(by) {
            self.clients.link_ends(link.id(side));
            self.network.close(&mut self.queue, self.now, link, side, power);
        }
        if let Some(dir) = self.hosts[host].dir {
            self.disks.get_mut(dir).crash(survive);
            self.checks.holds_now(self.disks.get(dir));
        }
        self.crash_engines(host, power);
        self.clients_end(host, power);
        let held = &mut self.hosts[host];
        held.node = None;
        held.inbox.clear();
        held.paused = false;
        held.armed = None;
        self.due[host] = NEVER;
        if self.dying == Some(host) {
            self.dying = None;
        }
        self.stopped[host] = None;
    }

    /// A node that has said that it ends is ended.
    pub(super) fn finish_if_stopped(&mut self, host: usize) -> Verdict {
        let Some(reason) = self.stopped[host].take() else { return Ok(()) };
        let Some(dir) = self.hosts[host].dir else { return Ok(()) };
        // The adapter waits for what it was told to write before the process ends.
        let outstanding = self.disks.get(dir).outstanding();
        let failed = self.hosts[host].disk_failed;
        self.end_process(host, if failed { 0 } else { outstanding }, false);
        match reason {
            StopReason::Left | StopReason::LeftUnheard | StopReason::Removed => {
                self.counts.add(Count::Leaves);
                if self.hosts[host].plan.returns_after_leaving {
                    self.start_in(host, 100, 20_000);
                } else {
                    self.hosts[host].ended = Some("left");
                }
            }
            StopReason::StaleDisk(why) => return self.ended_stale(host, dir, &why.to_string()),
            StopReason::Dissolved { from, addresses, committed, brings, .. } => {
                if committed {
                    self.checks.dissolves(self.disks.get(dir), from)?;
                }
                self.counts.add(Count::Dissolutions);
                self.disks.get_mut(dir).retire();
                let node = NodeId(self.node_dice.wide());
                let new = if committed {
                    Recovered::after_dissolve(node, from)
                } else {
                    Recovered::fresh(node)
                };
                let new = match brings {
                    Some(was) => {
                        self.counts.add(Count::Bringings);
                        self.hosts[host].former.insert(was, dir);
                        new.bringing(was)
                    }
                    None => new,
                };
                let new = Directory::new(new);
                self.hosts[host].dir = Some(self.disks.add(new));
                self.hosts[host].leads_to = addresses;
                self.start_in(host, 1, 50);
            }
            StopReason::StorageFailed(_) => {}
        }
        Ok(())
    }

    fn start_in(&mut self, host: usize, low_ms: u64, high_ms: u64) {
        let high_ms = if self.peace.is_some() { high_ms.min(500) } else { high_ms };
        let at = self.now + self.fault_dice.between(low_ms.min(high_ms), high_ms) * MS;
        let run = self.hosts[host].run;
        self.queue.push(at, What::Start { host, run });
    }

    /// Only a directory of which there is another copy, or an older one, may be sent away.
    fn ended_stale(&mut self, host: usize, dir: DirId, why: &str) -> Verdict {
        self.counts.add(Count::StaleDisks);
        let node = self.disks.get(dir).node;
        if !self.disks.is_ambiguous(node) {
            let detail = format!("host {host} {node:?}: {why}");
            return Err(Violation::new("sound-disk-called-stale", detail));
        }
        self.disks.get_mut(dir).retire();
        if self.hosts[host].plan.renews_stale {
            self.new_directory(host);
            self.start_in(host, 100, 10_000);
        } else {
            self.hosts[host].ended = Some("stale-disk");
        }
        Ok(())
    }

    /// Somebody reads what the node of a host says of its log, and will do what it asks for.
    pub(super) fn will_be_renewed(&mut self, host: usize) {
        let high_ms = if self.peace.is_some() { 500 } else { 20_000 };
        let at = self.now + self.fault_dice.between(50, high_ms) * MS;
        self.queue.push(at, What::Renew(self.run_of(host)));
    }

    /// A node whose log is unreadable in part is stopped, and another takes its place.
    pub(super) fn take_the_place(&mut self, by: RunRef) -> Verdict {
        let Some(dir) = self.hosts[by.host].dir.filter(|_| self.is_now(by)) else { return Ok(()) };
        self.kill(by.host, false, None)?;
        self.counts.add(Count::Renewals);
        self.disks.get_mut(dir).retire();
        self.new_directory(by.host);
        self.start_in(by.host, 1, 1_000);
        Ok(())
    }

    /// A process stops for a while, and does not know it.
    pub(super) fn pause(&mut self, host: usize, lasts: u64) {
        let held = &mut self.hosts[host];
        if !held.is_up() || held.paused {
            return;
        }
        held.paused = true;
        self.due[host] = NEVER;
        self.counts.add(Count::Pauses);
        let by = self.run_of(host);
        self.queue.push(self.now + lasts, What::Resume(by));
        tell!(self, Told::Pauses(host), "host {host} pauses for {} ms", lasts / MS);
    }

    /// It goes on: the timer that was due meanwhile and what came meanwhile, in either order.
    pub(super) fn resume(&mut self, by: RunRef) -> Verdict {
        if !self.is_now(by) || !self.hosts[by.host].paused {
            return Ok(());
        }
        let host = by.host;
        tell!(self, Told::GoesOn(host), "host {host} goes on");
        self.hosts[host].paused = false;
        self.hosts[host].resumed = self.now;
        if self.fault_dice.one_in(2) {
            self.reset_timer(host);
            if self.due[host] <= self.now {
                self.timer(host)?;
            }
        }
        while let Some(input) = self.hosts[host].inbox.pop_front() {
            self.deliver(host, input, false)?;
            if !self.is_now(by) {
                return Ok(());
            }
        }
        self.clients_resume(host)?;
        self.reset_timer(host);
        Ok(())
    }

    /// A moment has come at which a process may be meant to die; it does once the outputs of this
    /// input are carried out.
    pub(super) fn arm(&mut self, host: usize, moment: Moment) {
        let held: &mut Host = &mut self.hosts[host];
        match &mut held.armed {
            Some(armed) if armed.moment == moment && armed.skip == 0 => self.dying = Some(host),
            Some(armed) if armed.moment == moment => armed.skip -= 1,
            _ => {}
        }
    }

    /// The moment has come, and the outputs are carried out.
    pub(super) fn die_if_armed(&mut self, host: usize) -> Verdict {
        if self.dying != Some(host) {
            return Ok(());
        }
        self.dying = None;
        match self.hosts[host].armed.take() {
            Some(Armed { moment: Moment::Swap(step), down, .. }) => {
                self.counts.add(count_of(step));
                let power = self.engine_dice.one_in(2);
                self.kill(host, power, Some(down))
            }
            Some(Armed { down, .. }) => self.kill(host, false, Some(down)),
            None => Ok(()),
        }
    }

    /// A copy that takes the place of another has come to a step, at which a process may be meant to die.
    pub(super) fn comes_to(&mut self, host: usize, step: Step) {
        self.arm(host, Moment::Swap(step));
    }

    /// The disk takes no more writes; the node is told.
    pub(super) fn fail_disk(&mut self, host: usize, down: u64) -> Verdict {
        if !self.hosts[host].is_up() {
            return Ok(());
        }
        self.counts.add(Count::DiskFailures);
        self.hosts[host].disk_failed = true;
        tell!(self, Told::at(host, Kind::Disk), "host {host} can write no more");
        self.deliver(
            host,
            Input::StorageFailed { reason: "no space left on device".into() },
            false,
        )?;
        // Whoever goes on without a disk is put out of its misery.
        let run = self.hosts[host].run;
        if self.hosts[host].is_up() && !self.hosts[host].paused {
            let detail = format!("host {host} goes on with a disk that failed");
            return Err(Violation::new("node-outlives-its-disk", detail));
        }
        if self.hosts[host].paused {
            return self.kill(host, false, Some(down));
        }
        self.queue.push(self.now + down, What::Start { host, run });
        Ok(())
    }
}

fn count_of(step: Step) -> Count {
    match step {
        Step::Receiving => Count::CrashesReceiving,
        Step::Finishing => Count::CrashesFinishing,
        Step::Placed => Count::CrashesPlaced,
        Step::Recording => Count::CrashesRecording,
        Step::Recorded => Count::CrashesRecorded,
        Step::Opening => Count::CrashesOpening,
        Step::Tidying => Count::CrashesTidying,
    }
}
