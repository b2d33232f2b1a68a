//! What is aimed: at entries of a log that somebody may still want to read, and at rare states of a node.

use quorate_core::marks::Mark;

use super::schedule::Draw;
use super::{Action, Due, Plan, Strike};
use crate::network::MS;

/// Orders that somebody who lies in ambush may give.
const ORDERS: [&str; 4] = ["remove", "set-role", "set-registration", "stop"];

impl Draw {
    /// Every now and then entries of a log rot. Half of these disks are read anew soon after.
    pub(super) fn log_rot(&mut self, plan: &Plan, due: &mut Vec<Due>) {
        let every = plan.log_rot_every_ms * MS;
        let mut at = self.dice.tailed(every.max(1));
        while every > 0 && at < plan.safety {
            let (host, which) = (self.host(), self.dice.index(8));
            let back = if self.dice.one_in(2) { self.dice.index(4) } else { self.dice.index(200) };
            let more = if self.dice.one_in(3) { self.dice.index(20) } else { 0 };
            due.push(Due { at, action: Action::RotLog { host, which, back, more } });
            if self.dice.one_in(2) {
                let at = at + self.dice.between(1, 2_000) * MS;
                let (power, down) = (self.dice.one_in(2), self.dice.between(1, 2_000) * MS);
                let action = Action::Crash { hosts: 1 << host, power, down };
                // In peace nobody dies.
                due.extend((at < plan.safety).then_some(Due { at, action }));
            }
            at += 1 + self.dice.tailed(every);
        }
    }

    /// Every now and then a copy lies in the place of another.
    pub(super) fn misplacements(&mut self, plan: &Plan, due: &mut Vec<Due>) {
        let every = plan.misplace_every_ms * MS;
        let mut at = self.dice.tailed(every.max(1));
        while every > 0 && at < plan.safety {
            let (host, which, other) = (self.host(), self.dice.index(8), self.dice.index(64));
            let down = self.dice.between(1, 2_000) * MS;
            due.push(Due { at, action: Action::Misplace { host, which, other, down } });
            at += 1 + self.dice.tailed(every);
        }
    }

    /// Every now and then somebody lies down in ambush.
    pub(super) fn ambushes(&mut self, plan: &Plan, due: &mut Vec<Due>) {
        let every = plan.ambush_every_ms * MS;
        let mut at = self.dice.tailed(every.max(1));
        while every > 0 && at < plan.safety {
            let (_, mark) = self.dice.pick(Mark::ALL);
            let skip = if self.dice.one_in(2) { 0 } else { self.dice.below(5) };
            let strike = match self.dice.below(4) {
                0 => Strike::Crash {
                    power: self.dice.one_in(2),
                    down: self.dice.between(1, 5_000) * MS,
                },
                1 => Strike::Pause { lasts: self.lasts() },
                _ => self.aimed_order(plan),
            };
            due.push(Due { at, action: Action::Ambush { mark, skip, strike } });
            at += 1 + self.dice.tailed(every);
        }
    }

    fn aimed_order(&mut self, plan: &Plan) -> Strike {
        let action = match &plan.databases {
            Some(databases) if self.dice.one_in(2) => {
                let kind = self.dice.pick(&["configure", "set-owner", "set-offline"]);
                self.database_order(kind, plan, databases)
            }
            _ => {
                let kind = self.dice.pick(&ORDERS);
                self.order(kind)
            }
        };
        match action {
            Action::Order { host, order } => Strike::Order { host, order },
            _ => unreachable!("it was drawn as an order"),
        }
    }
}
