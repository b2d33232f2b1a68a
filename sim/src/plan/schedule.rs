//! The faults and orders of a run, in time: a list, so that it can be kept, edited and shrunk.

use quorate_core::configuration::{Registration, Role};
use serde::{Deserialize, Serialize};

use super::databases::{DATABASES, SHARDS, rules, shard_rules};
use super::{
    Action, Content, DatabaseOrder, DatabasePlan, FaultPlan, Moment, Order, Plan, Step,
    WorkloadPlan,
};
use crate::network::MS;
use crate::random::{Dice, Stream};

/// An action and its time in nanoseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Due {
    /// When.
    pub at: u64,
    /// What.
    pub action: Action,
}

/// All faults and orders of a run: drawn, unless the plan says what they are.
#[must_use]
pub fn schedule(plan: &Plan) -> Vec<Due> {
    if let Some(given) = &plan.schedule {
        return given.clone();
    }
    let mut due = plan.script.clone();
    let starting = plan.starting().count();
    let mut draw = Draw { hosts: starting, cuts: 1, dice: Dice::new(plan.seed, Stream::Faults) };
    if let Some((side, until)) = plan.apart {
        let all = draw.all();
        let action = draw.cut(side, all & !side, true, (true, true), until);
        due.push(Due { at: 0, action });
    }
    if plan.faults.every_ms > 0 && plan.faults.weights.iter().any(|w| *w > 0) {
        let mut at = draw.dice.tailed(plan.faults.every_ms * MS);
        while at < plan.safety {
            let kind = FaultPlan::KINDS[draw.dice.weighted(&plan.faults.weights)];
            let action = draw.fault(kind, &plan.timings);
            due.push(Due { at, action });
            at += 1 + draw.dice.tailed(plan.faults.every_ms * MS);
        }
    }
    draw.dice = Dice::new(plan.seed, Stream::Workload);
    if plan.workload.every_ms > 0 && plan.workload.weights.iter().any(|w| *w > 0) {
        let mut at = draw.dice.tailed(plan.workload.every_ms * MS);
        while at < plan.safety {
            let kind = WorkloadPlan::KINDS[draw.dice.weighted(&plan.workload.weights)];
            let action = draw.order(kind);
            due.push(Due { at, action });
            at += 1 + draw.dice.tailed(plan.workload.every_ms * MS);
        }
    }
    if let Some(databases) = &plan.databases {
        draw.dice = Dice::new(plan.seed ^ 0xdb, Stream::Databases);
        draw.databases(plan, databases, &mut due);
        draw.loners(databases, &mut due);
        draw.dice = Dice::new(plan.seed ^ 0x4e57, Stream::Databases);
        draw.restores(plan, databases, &mut due);
        draw.dice = Dice::new(plan.seed ^ 0x57e9, Stream::Databases);
        draw.swap_crashes(plan, databases, &mut due);
        draw.dice = Dice::new(plan.seed ^ 0x5749, Stream::Databases);
        draw.syncs(plan, databases, &mut due);
    }
    draw.dice = Dice::new(plan.seed ^ 0x5a9e, Stream::Faults);
    draw.shapes(plan, &mut due);
    draw.dice = Dice::new(plan.seed ^ 0x7077, Stream::Faults);
    draw.log_rot(plan, &mut due);
    draw.dice = Dice::new(plan.seed ^ 0xa3b5, Stream::Faults);
    draw.ambushes(plan, &mut due);
    draw.dice = Dice::new(plan.seed ^ 0x3159, Stream::Faults);
    draw.misplacements(plan, &mut due);
    due
}

/// What others make must not be made by one that is by itself, or the two would have one name.
fn spare_loners(databases: &DatabasePlan, due: &mut [Due]) {
    let alone = |at: u64, host: usize| {
        databases.loners.iter().any(|loner| loner.host == host && at < loner.until)
    };
    for Due { at, action } in due {
        let Action::Order { host, order } = action else { continue };
        let makes = match order {
            Order::Create(_) => true,
            Order::Database(_, order) => matches!(**order, DatabaseOrder::Create(_)),
            _ => false,
        };
        if makes && alone(*at, *host) {
            *host = (0..).find(|other| !alone(*at, *other)).unwrap_or(*host);
        }
    }
}

/// Draws actions, for so many hosts.
pub(super) struct Draw {
    pub(super) hosts: usize,
    /// The number of the next cut.
    pub(super) cuts: u32,
    pub(super) dice: Dice,
}

impl Draw {
    pub(super) fn all(&self) -> u32 {
        (1 << self.hosts) - 1
    }

    pub(super) fn some(&mut self) -> u32 {
        u32::try_from(self.dice.bits() & u64::from(self.all())).unwrap_or(0)
    }

    pub(super) fn host(&mut self) -> usize {
        self.dice.index(self.hosts)
    }

    pub(super) fn cut(
        &mut self,
        from: u32,
        to: u32,
        both: bool,
        what: (bool, bool),
        lasts: u64,
    ) -> Action {
        let id = self.cuts;
        self.cuts += 1;
        Action::Cut { id, from, to, both, datagrams: what.0, streams: what.1, lasts }
    }

    /// Partitions last a moment, or longer than any time-out.
    pub(super) fn lasts(&mut self) -> u64 {
        if self.dice.one_in(2) {
            self.dice.between(50, 2_000) * MS
        } else {
            self.dice.between(2_000, 20_000) * MS
        }
    }

    fn down(&mut self) -> u64 {
        match self.dice.below(4) {
            0 => self.dice.between(1, 100) * MS,
            1 | 2 => self.dice.between(100, 5_000) * MS,
            _ => self.dice.between(5_000, 40_000) * MS,
        }
    }

    fn fault(&mut self, kind: &str, timings: &quorate_core::Timings) -> Action {
        let all = self.all();
        let host = self.host();
        match kind {
            "partition" => {
                let (side, lasts) = (self.some(), self.lasts());
                self.cut(side, all & !side, true, (true, true), lasts)
            }
            "one-way" => {
                let (from, to, lasts) = (self.some(), self.some(), self.lasts());
                self.cut(from, to, false, (true, true), lasts)
            }
            "isolate" => {
                let lasts = self.lasts();
                self.cut(1 << host, all, true, (true, true), lasts)
            }
            "datagrams-only" => {
                let (from, lasts) = (self.some(), self.lasts());
                self.cut(from, all, self.hosts.is_multiple_of(2), (true, false), lasts)
            }
            "streams-only" => {
                let (from, to, lasts) = (self.some(), self.some(), self.lasts());
                let both = self.dice.one_in(2);
                self.cut(from, to, both, (false, true), lasts)
            }
            "pause" => Action::Pause { host, lasts: self.dice.between(5, 600) * MS },
            "long-pause" => {
                let longest =
                    u64::try_from(timings.max_no_heartbeat.as_millis()).unwrap_or(5_000) * 3;
                Action::Pause { host, lasts: self.dice.between(600, longest) * MS }
            }
            "crash" => {
                let (power, down) = (self.dice.one_in(2), self.down());
                Action::Crash { hosts: 1 << host, power, down }
            }
            "crash-at-write" => {
                let moment = self.dice.pick(&[Moment::Write, Moment::Send, Moment::Durable]);
                let skip = u32::try_from(self.dice.below(6)).unwrap_or(0);
                Action::Arm { host, moment, skip, down: self.down() }
            }
            "crash-many" => {
                let hosts = if self.dice.one_in(3) { all } else { self.some() };
                let (power, down) = (self.dice.one_in(2), self.down());
                Action::Crash { hosts, power, down }
            }
            "wipe" => {
                let down = self.down();
                Action::Wipe { host, down, ruthless: self.dice.one_in(10) }
            }
            "restore" if self.dice.one_in(2) => Action::BackUp { host },
            "restore" => Action::Restore { host, copy: self.dice.index(3) },
            "clone" => Action::Clone { host },
            "disk-failure" => Action::FailDisk { host, down: self.down() },
            "slow-disk" => {
                let extra = self.dice.between(10, 1_500) * MS;
                Action::SlowDisk { host, extra, lasts: self.lasts() }
            }
            "clock" if self.dice.one_in(2) => {
                Action::Jump { host, ahead: self.dice.between(10, 10_000) * MS }
            }
            "clock" => {
                let ppm = i32::try_from(self.dice.below(400_000)).unwrap_or(0) - 200_000;
                Action::Drift { host, ppm }
            }
            "slow-links" => {
                let extra = self.dice.between(5, 400) * MS;
                Action::SlowLinks { host, extra, lasts: self.lasts() }
            }
            _ => Action::Reset { host, one_in: self.dice.between(1, 3) },
        }
    }

    /// The databases are made, more than once, for nobody may be there to make them; then operators
    /// change them, and engines have faults of their own.
    fn databases(&mut self, plan: &Plan, databases: &DatabasePlan, due: &mut Vec<Due>) {
        for round in 0..8 {
            for (number, rules) in (0..).zip(&databases.databases) {
                let at = (1_500 + round * 2_500) * MS + self.dice.below(1_000 * MS);
                let order = Order::Database(number, Box::new(DatabaseOrder::Create(rules.clone())));
                due.push(Due { at, action: Action::Order { host: self.host(), order } });
            }
        }
        let mut every = |draw: &mut Self, every_ms: u64, act: &dyn Fn(&mut Self) -> Action| {
            let mut at = draw.dice.tailed(every_ms * MS);
            while every_ms > 0 && at < plan.safety {
                let action = act(draw);
                due.push(Due { at, action });
                at += 1 + draw.dice.tailed(every_ms * MS);
            }
        };
        if databases.order_weights.iter().any(|weight| *weight > 0) {
            every(self, databases.order_every_ms, &|draw| {
                let kind = DatabasePlan::ORDERS[draw.dice.weighted(&databases.order_weights)];
                draw.database_order(kind, plan, databases)
            });
        }
        if databases.fault_weights.iter().any(|weight| *weight > 0) {
            every(self, databases.fault_every_ms, &|draw| draw.engine_fault(databases));
        }
        due.retain(|due| due.at < plan.safety);
    }

    /// Each is cut off from everybody, makes its database, and meets the others.
    fn loners(&mut self, databases: &DatabasePlan, due: &mut Vec<Due>) {
        spare_loners(databases, due);
        for loner in &databases.loners {
            let (host, until) = (loner.host, loner.until);
            let action = self.cut(1 << host, self.all() & !(1 << host), true, (true, true), until);
            due.push(Due { at: 0, action });
            let made = Order::Database(
                loner.database,
                Box::new(DatabaseOrder::Create(loner.rules.clone())),
            );
            let (first, every) = (until.saturating_sub(2_500 * MS), 500 * MS);
            for round in 0..5 {
                let at = first + round * every;
                due.push(Due { at, action: Action::Order { host, order: made.clone() } });
            }
            if let Some(at) = loner.gives_up {
                let order = Order::Database(loner.database, Box::new(DatabaseOrder::Drop));
                due.push(Due { at, action: Action::Order { host, order } });
            }
        }
    }

    /// Operators keep what shards hold, and put it back into these or others.
    fn restores(&mut self, plan: &Plan, databases: &DatabasePlan, due: &mut Vec<Due>) {
        let every = databases.restore_every_ms * MS;
        let mut at = 3_000 * MS;
        while every > 0 && at < plan.safety {
            let order = match self.dice.below(8) {
                0..4 => DatabaseOrder::BackUp(self.dice.pick(&SHARDS)),
                4..7 => {
                    let content = Content::Backup(self.dice.index(3));
                    DatabaseOrder::Restore(self.dice.pick(&SHARDS), content)
                }
                _ => {
                    let content = self.dice.pick(&[Content::Nothing, Content::Rubbish]);
                    DatabaseOrder::Restore(self.dice.pick(&SHARDS), content)
                }
            };
            let number = self.dice.index(databases.databases.len() + databases.loners.len());
            let loner = databases.loners.get(number.wrapping_sub(databases.databases.len()));
            let (number, home) = match loner {
                Some(loner) => (loner.database, Some(loner.host)),
                None => (u8::try_from(number).unwrap_or(0), None),
            };
            let host = home.filter(|_| self.dice.one_in(2)).unwrap_or_else(|| self.host());
            let order = Order::Database(number, Box::new(order));
            due.push(Due { at, action: Action::Order { host, order } });
            at += 1 + self.dice.tailed(every);
        }
    }

    /// Processes die at each step by which a copy takes the place of another.
    fn swap_crashes(&mut self, plan: &Plan, databases: &DatabasePlan, due: &mut Vec<Due>) {
        let every = databases.swap_crash_every_ms * MS;
        let mut at = 2_000 * MS;
        while every > 0 && at < plan.safety {
            let (host, moment) = (self.host(), Moment::Swap(self.dice.pick(&Step::ALL)));
            let action = Action::Arm { host, moment, skip: 0, down: self.down() / 4 };
            due.push(Due { at, action });
            at += 1 + self.dice.tailed(every);
        }
    }

    fn syncs(&mut self, plan: &Plan, databases: &DatabasePlan, due: &mut Vec<Due>) {
        let every = databases.sync_every_ms * MS;
        let mut at = 3_000 * MS;
        while every > 0 && at < plan.safety {
            let (host, number) = (self.host(), self.dice.index(databases.databases.len()));
            let (full, force) = (!self.dice.one_in(4), !self.dice.one_in(4));
            let order = DatabaseOrder::Sync(self.dice.pick(&SHARDS), full, force);
            let number = u8::try_from(number).unwrap_or(0);
            let order = Order::Database(number, Box::new(order));
            due.push(Due { at, action: Action::Order { host, order } });
            at += 1 + self.dice.tailed(every);
        }
    }

    pub(super) fn database_order(
        &mut self,
        kind: &str,
        plan: &Plan,
        databases: &DatabasePlan,
    ) -> Action {
        let shard = self.dice.pick(&SHARDS);
        let (host, whom) = (self.host(), self.host());
        let names = &plan.hosts;
        let order = match kind {
            "create" => DatabaseOrder::Create(rules(&mut self.dice, names)),
            "drop" => DatabaseOrder::Drop,
            "configure" => {
                let drop = self.dice.one_in(4);
                DatabaseOrder::Configure(rules(&mut self.dice, names), drop)
            }
            "add-shard" => DatabaseOrder::AddShard(shard, shard_rules(&mut self.dice, names)),
            "drop-shard" => DatabaseOrder::DropShard(shard),
            "set-owner" => {
                let owner = (!self.dice.one_in(3)).then_some(whom);
                DatabaseOrder::SetOwner(shard, owner)
            }
            _ => DatabaseOrder::SetOffline(shard, whom, self.dice.one_in(2)),
        };
        let number = match kind {
            "create" => self.dice.index(DATABASES.into()),
            _ => self.dice.index(databases.databases.len()),
        };
        let number = u8::try_from(number).unwrap_or(0);
        Action::Order { host, order: Order::Database(number, Box::new(order)) }
    }

    fn engine_fault(&mut self, databases: &DatabasePlan) -> Action {
        let host = self.host();
        match DatabasePlan::FAULTS[self.dice.weighted(&databases.fault_weights)] {
            "full" => Action::FillDisk { host, lasts: self.lasts() },
            "slow-engine" => {
                let extra = self.dice.between(5, 1_500) * MS;
                Action::SlowEngines { host, extra, lasts: self.lasts() }
            }
            _ => Action::Rot { host, which: self.dice.index(8) },
        }
    }

    pub(super) fn order(&mut self, kind: &str) -> Action {
        let (host, whom) = (self.host(), self.host());
        let order = match kind {
            "remove" => Order::Remove(whom),
            "set-role" => {
                Order::SetRole(whom, self.dice.pick(&[Role::Master, Role::Master, Role::Replica]))
            }
            "set-registration" => {
                let registration = self.dice.pick(&[Registration::Static, Registration::Dynamic]);
                Order::SetRegistration(whom, registration)
            }
            "create-database" => Order::Create(u8::try_from(self.dice.below(4)).unwrap_or(0)),
            "drop-database" => Order::Drop(u8::try_from(self.dice.below(4)).unwrap_or(0)),
            _ => Order::Stop,
        };
        Action::Order { host, order }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_one_schedule_and_every_kind_of_fault_is_drawn_by_some_seed() {
        let text = |seed| format!("{:?}", schedule(&Plan::of(seed)));
        assert_eq!(text(5), text(5));
        let all: String = (0..200).map(text).collect();
        for kind in [
            "Cut",
            "Pause",
            "Crash",
            "Arm",
            "Wipe",
            "BackUp",
            "Restore",
            "Clone",
            "FailDisk",
            "SlowDisk",
            "Drift",
            "Jump",
            "SlowLinks",
            "Reset",
            "Order",
            "FillDisk",
            "SlowEngines",
            "Rot",
            "RotLog",
            "Ambush",
            "Configure",
            "AddShard",
            "DropShard",
            "SetOwner",
            "SetOffline",
            "BackUp(",
            "Restore(",
            "Sync(",
        ] {
            assert!(all.contains(kind), "{kind} is never drawn");
        }
    }
}
