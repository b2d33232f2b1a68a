//! Partitions that are more than one cut, and those that are aimed at whoever leads.

use super::schedule::Draw;
use super::{Action, Due, Plan};
use crate::network::MS;

impl Draw {
    /// Every now and then one of them, in worlds of three hosts or more.
    pub(super) fn shapes(&mut self, plan: &Plan, due: &mut Vec<Due>) {
        let every = plan.shape_every_ms * MS;
        if every == 0 || self.hosts < 3 {
            return;
        }
        let mut at = self.dice.tailed(every);
        while at < plan.safety {
            match self.dice.below(6) {
                0 => self.ring(at, due),
                1 => self.bridge(at, due),
                2 => self.swizzle(at, due),
                _ => self.isolate_leader(at, due),
            }
            at += 1 + self.dice.tailed(every);
        }
    }

    fn shuffle<T>(&mut self, all: &mut [T]) {
        for last in (1..all.len()).rev() {
            all.swap(last, self.dice.index(last + 1));
        }
    }

    /// Everybody reaches a majority, and no two the same one: the hosts in a circle, each with as many
    /// neighbours on both sides as a majority needs.
    fn ring(&mut self, at: u64, due: &mut Vec<Due>) {
        let (hosts, lasts) = (self.hosts, self.lasts());
        let mut circle: Vec<usize> = (0..hosts).collect();
        self.shuffle(&mut circle);
        let reach = (hosts / 2).div_ceil(2);
        for (place, host) in circle.iter().enumerate() {
            let far = circle.iter().enumerate().filter(|(other, _)| {
                let apart = place.abs_diff(*other);
                apart.min(hosts - apart) > reach
            });
            let far = far.fold(0, |far, (_, host)| far | 1 << host);
            if far != 0 {
                let action = self.cut(1 << host, far, false, (true, true), lasts);
                due.push(Due { at, action });
            }
        }
    }

    /// Two halves that do not reach each other, and one host that reaches both.
    fn bridge(&mut self, at: u64, due: &mut Vec<Due>) {
        let (between, side, lasts) = (1 << self.host(), self.some(), self.lasts());
        let all = self.all() & !between;
        let action = self.cut(side & all, all & !side, true, (true, true), lasts);
        due.push(Due { at, action });
    }

    /// Some hosts are cut off one after the other, and come back one after the other, in another order.
    fn swizzle(&mut self, at: u64, due: &mut Vec<Due>) {
        let mut hosts: Vec<usize> = (0..self.hosts).collect();
        self.shuffle(&mut hosts);
        hosts.truncate(self.dice.index(self.hosts) + 1);
        let gap = self.dice.between(20, 1_000) * MS;
        let all_cut = gap * hosts.len() as u64;
        let mut back: Vec<u64> = (0..hosts.len() as u64).collect();
        self.shuffle(&mut back);
        for ((turn, host), back) in (0..).zip(hosts).zip(back) {
            let lasts = all_cut - turn * gap + (back + 1) * gap;
            let action = self.cut(1 << host, self.all(), true, (true, true), lasts);
            due.push(Due { at: at + turn * gap, action });
        }
    }

    /// Whoever leads is cut off, from everybody or only so that it still sends or still hears.
    fn isolate_leader(&mut self, at: u64, due: &mut Vec<Due>) {
        let (id, lasts) = (self.cuts, self.lasts());
        self.cuts += 1;
        let (sends, hears) =
            self.dice.pick(&[(false, false), (false, false), (true, false), (false, true)]);
        let which = self.dice.index(8);
        let action = Action::IsolateLeader { id, which, sends, hears, lasts };
        due.push(Due { at, action });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Cut, Cuts};
    use crate::random::{Dice, Stream};

    fn draw(hosts: usize) -> Draw {
        Draw { hosts, cuts: 1, dice: Dice::new(hosts as u64, Stream::Faults) }
    }

    fn carried_out(due: &[Due]) -> Cuts {
        let mut cuts = Cuts::default();
        for Due { action, .. } in due {
            let Action::Cut { id, from, to, both, .. } = *action else { panic!("{action:?}") };
            let cut = Cut::one_way(id, from, to, true, true);
            cuts.begin(if both { cut.both_ways() } else { cut });
        }
        cuts
    }

    #[test]
    fn in_a_ring_everybody_reaches_a_majority_and_from_five_on_not_the_same() {
        for hosts in 3..=15 {
            let mut due = Vec::new();
            draw(hosts).ring(0, &mut due);
            let cuts = carried_out(&due);
            let reached = |host: usize| {
                (0..hosts)
                    .filter(|other| *other == host || cuts.datagram_open(host, *other))
                    .collect::<Vec<_>>()
            };
            let all: Vec<Vec<usize>> = (0..hosts).map(reached).collect();
            assert!(all.iter().all(|reached| 2 * reached.len() > hosts), "{hosts}: {all:?}");
            for (one, other) in (0..hosts).flat_map(|one| (0..one).map(move |other| (one, other))) {
                let mutual = cuts.datagram_open(one, other) == cuts.datagram_open(other, one);
                assert!(mutual, "{hosts}");
                assert!(hosts < 5 || all[one] != all[other], "{hosts}: {all:?}");
            }
        }
    }

    #[test]
    fn one_host_is_the_bridge_between_two_halves() {
        let mut due = Vec::new();
        draw(9).bridge(0, &mut due);
        let cuts = carried_out(&due);
        let reaches_all = |host: usize| (0..9).all(|other| cuts.datagram_open(host, other));
        assert_eq!((0..9).filter(|host| reaches_all(*host)).count(), 1);
    }
}
