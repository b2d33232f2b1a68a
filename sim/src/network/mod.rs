//! The network: datagrams that may be lost, doubled, delayed and changed, and streams that keep
//! their order or break.

mod cuts;
mod datagrams;
mod links;
#[cfg(test)]
mod tests;

pub use cuts::{Cut, Cuts, HOSTS_MAX};
pub use links::{Arrival, Ended, Link, LinkRef, Links, Parcel, Side};

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::Bytes;

use crate::plan::NetworkPlan;
use crate::queue::Queue;
use crate::random::{Dice, Stream};
use crate::view::Mark;
use crate::world::What;

/// The port of nodes; simulated, like every address here: nothing ever leaves the process.
pub const PORT: u16 = 2434;
/// The port that multicast datagrams come from.
const MULTICAST_PORT: u16 = 54327;
/// One millisecond.
pub const MS: u64 = 1_000_000;

/// The address of a host.
#[must_use]
pub fn address(host: usize) -> SocketAddr {
    let last = u8::try_from(host + 1).unwrap_or(u8::MAX);
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)), PORT)
}

/// The host at an address.
#[must_use]
pub fn host_at(addr: SocketAddr) -> Option<usize> {
    match addr.ip() {
        IpAddr::V4(ip) if addr.port() == PORT => match ip.octets() {
            [10, 0, 0, last] => usize::from(last).checked_sub(1),
            _ => None,
        },
        _ => None,
    }
}

/// The network of a world.
#[derive(Debug)]
pub struct Network {
    /// Rates and delays.
    pub plan: NetworkPlan,
    /// What does not get through.
    pub cuts: Cuts,
    /// The streams.
    pub links: Links,
    /// Where delays and losses are drawn.
    pub dice: Dice,
    /// The usual delay from one host to another.
    base: [[u32; HOSTS_MAX]; HOSTS_MAX],
    /// What is added for each host while its links are slow.
    pub slow: [u64; HOSTS_MAX],
    /// The last datagrams, to be sent once more.
    heard: Vec<Bytes>,
    /// No more losses, doubles or resets.
    pub peace: bool,
}

impl Network {
    /// A network as planned.
    #[must_use]
    pub fn new(seed: u64, plan: NetworkPlan) -> Self {
        let mut dice = Dice::new(seed, Stream::Network);
        let mut base = [[0; HOSTS_MAX]; HOSTS_MAX];
        for (from, row) in base.iter_mut().enumerate() {
            for (to, delay) in row.iter_mut().enumerate() {
                let drawn = dice.between(plan.delay_min_us, plan.delay_max_us) * 1_000;
                *delay = if from == to { 10_000 } else { u32::try_from(drawn).unwrap_or(u32::MAX) };
            }
        }
        let slow = [0; HOSTS_MAX];
        let cuts = Cuts::default();
        Self {
            plan,
            cuts,
            links: Links::default(),
            dice,
            base,
            slow,
            heard: Vec::new(),
            peace: false,
        }
    }

    /// How long the next thing sent takes.
    fn delay(&mut self, from: usize, to: usize) -> u64 {
        let base = u64::from(self.base[from][to]);
        let jitter = self.dice.below(base * u64::from(self.plan.jitter_percent) / 100 + 1);
        base + jitter + self.slow[from] + self.slow[to]
    }

    /// Whether a stream between two hosts could be opened: both directions must be open.
    #[must_use]
    pub fn connects(&self, one: usize, other: usize) -> bool {
        self.cuts.stream_open(one, other) && self.cuts.stream_open(other, one)
    }

    /// A host dials.
    pub fn dial(
        &mut self,
        queue: &mut Queue<What>,
        now: u64,
        by: crate::world::RunRef,
        addr: SocketAddr,
        mark: Option<Mark>,
    ) {
        let delay =
            host_at(addr).filter(|to| *to < HOSTS_MAX).map_or(MS, |to| self.delay(by.host, to));
        queue.push(now + delay, What::Knock { by, addr, mark });
    }
}
