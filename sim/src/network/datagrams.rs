//! Multicast: each receiver loses, doubles and delays on its own, and some hear noise.

use std::net::SocketAddr;

use bytes::Bytes;

use super::{MS, MULTICAST_PORT, Network, address};
use crate::queue::Queue;
use crate::view::{Mark, Way};
use crate::world::What;

/// How many datagrams are kept to be replayed.
const HEARD_MAX: usize = 64;

impl Network {
    /// A host sends to the multicast group of `hosts` hosts, itself included. Says how many were
    /// hurt on their way.
    pub fn multicast(
        &mut self,
        queue: &mut Queue<What>,
        now: u64,
        from: usize,
        hosts: usize,
        (mark, bytes): (Option<Mark>, &Bytes),
    ) -> u64 {
        let mut hurt = 0;
        let source = SocketAddr::new(address(from).ip(), MULTICAST_PORT);
        if !self.peace && self.plan.replay_ppm > 0 {
            self.keep(bytes);
        }
        for to in 0..hosts {
            if to != from && !self.cuts.datagram_open(from, to) {
                continue;
            }
            let mut at = now + self.delay(from, to);
            let (mut mark, mut bytes) = (mark, bytes.clone());
            let but = |mark: Option<Mark>, way| mark.map(|mark| mark.but(way));
            if !self.peace {
                if self.dice.chance(self.plan.loss_ppm) {
                    hurt += 1;
                    continue;
                }
                if self.dice.chance(self.plan.reorder_ppm) {
                    at += self.dice.below(50 * MS);
                }
                if self.dice.chance(self.plan.double_ppm) {
                    let late = at + self.dice.below(20 * MS);
                    let (mark, bytes) = (but(mark, Way::Double), bytes.clone());
                    queue.push(late, What::Datagram { to, from: source, mark, bytes });
                }
                if self.dice.chance(self.plan.mangle_ppm) {
                    hurt += 1;
                    bytes = self.mangle(&bytes);
                    mark = but(mark, Way::Mangled);
                }
                if self.dice.chance(self.plan.replay_ppm) {
                    let old = self.heard[self.dice.index(self.heard.len())].clone();
                    let late = at + self.dice.below(10_000 * MS);
                    let mark = but(mark, Way::Older);
                    queue.push(late, What::Datagram { to, from: source, mark, bytes: old });
                }
            }
            queue.push(at, What::Datagram { to, from: source, mark, bytes });
        }
        hurt
    }

    fn keep(&mut self, bytes: &Bytes) {
        if self.heard.len() < HEARD_MAX {
            self.heard.push(bytes.clone());
        } else {
            let place = self.dice.index(HEARD_MAX);
            self.heard[place] = bytes.clone();
        }
    }

    /// Flips bits, cuts short, adds, or makes noise of it.
    fn mangle(&mut self, bytes: &Bytes) -> Bytes {
        let mut changed = bytes.to_vec();
        match self.dice.below(4) {
            0 => {
                for _ in 0..self.dice.between(1, 4) {
                    let place = self.dice.index(changed.len());
                    if let Some(byte) = changed.get_mut(place) {
                        *byte ^= 1 << self.dice.below(8);
                    }
                }
            }
            1 => changed.truncate(self.dice.index(changed.len().max(1))),
            2 => {
                let more = self.dice.between(1, 1_500);
                changed.extend((0..more).map(|_| 0xa5));
            }
            _ => {
                let length = self.dice.index(64);
                changed.clear();
                for _ in 0..length {
                    changed.push(u8::try_from(self.dice.below(256)).unwrap_or(0));
                }
            }
        }
        Bytes::from(changed)
    }
}
