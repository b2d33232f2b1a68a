//! What happens to clients alone: they are cut off, hear nothing, are not heard, lose connections, and
//! their clocks go wrong.

use super::Happening;
use crate::network::MS;
use crate::plan::FailoverPlan;
use crate::trace::tell;
use crate::view::Told;
use crate::world::{What, World};

/// What does not get from a client to some hosts, or back.
#[derive(Debug)]
pub(super) struct ClientCut {
    /// Which one.
    pub(super) number: u64,
    app: usize,
    /// A bit for each host.
    hosts: u32,
    to_host: bool,
    to_client: bool,
}

impl ClientCut {
    pub(super) fn stops(&self, app: usize, host: usize, to_host: bool) -> bool {
        let way = if to_host { self.to_host } else { self.to_client };
        way && self.app == app && self.hosts & (1 << host) != 0
    }
}

impl World {
    pub(super) fn client_fault(&mut self) {
        if self.peace.is_some() {
            return;
        }
        let now = self.now;
        let Some(failover) = &mut self.failover else { return };
        let every = failover.plan.fault_every_ms * MS;
        let next = now + 1 + failover.dice.tailed(every);
        let kind = FailoverPlan::FAULTS[failover.dice.weighted(&failover.plan.fault_weights)];
        let app = failover.dice.index(failover.apps.len());
        let hosts = u32::try_from(failover.dice.bits() & u64::from(u32::MAX)).unwrap_or(0);
        let all = failover.dice.one_in(3);
        let lasts = failover.dice.tailed(3_000 * MS);
        let drift = i32::try_from(failover.dice.below(100_001)).unwrap_or(0) - 50_000;
        let ahead = failover.dice.tailed(2_000 * MS);
        let jumps = failover.dice.one_in(2);
        let number = failover.next();
        let hosts = if all { u32::MAX } else { hosts };
        let (to_host, to_client) = match kind {
            "client-cut" => (true, true),
            "client-mute" => (true, false),
            "client-deaf" => (false, true),
            _ => (false, false),
        };
        if to_host || to_client {
            failover.cuts.push(ClientCut { number, app, hosts, to_host, to_client });
            self.queue.push(now + lasts, What::Failover(Happening::Heal(number)));
        }
        match kind {
            "client-resets" => {
                let held: Vec<u64> = failover.apps[app].lines.values().copied().collect();
                held.into_iter().for_each(|line| self.break_line(line));
            }
            "client-clock" => {
                let clock = &mut failover.apps[app].clock;
                if jumps {
                    clock.jump(now, ahead);
                } else {
                    clock.set_rate(now, drift);
                }
                failover.apps[app].jumped = now;
                self.set_client_timer(app);
            }
            _ => {}
        }
        let told = Told::ClientFault(app, kind, lasts);
        tell!(self, told, "FAULT {kind} of client {app}, hosts {hosts:#b}, for {} ms", lasts / MS);
        self.queue.push(next, What::Failover(Happening::Fault));
    }

    /// Every fault of clients ends.
    pub(in crate::world) fn clients_in_peace(&mut self) {
        let now = self.now;
        let Some(failover) = &mut self.failover else { return };
        failover.cuts.clear();
        let apps = failover.apps.len();
        for app in &mut failover.apps {
            app.clock.set_rate(now, 0);
        }
        (0..apps).for_each(|app| self.set_client_timer(app));
    }
}
