//! Hosts that send each other messages and do nothing else: what a world costs without its nodes and
//! checks.
//!
//! Queue, streams, clocks, random streams and the hash over everything are those of [`crate::world`], and
//! each event takes the same way through them; in the place of a node is a counter. So it can stand
//! beside simulators that have no nodes: `quorate-sim bench --beside-madsim`.

use bytes::Bytes;
use quorate_core::{LinkId, NodeId, Time};

use crate::clock::Clock;
use crate::hash::Fingerprint;
use crate::network::{Arrival, HOSTS_MAX, LinkRef, MS, Network, Parcel, Side, address, host_at};
use crate::plan::{ClockPlan, NetworkPlan, Plan};
use crate::queue::Queue;
use crate::random::{Dice, Stream};
use crate::world::{NEVER, RunRef, What, first_due};

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Job {
    /// How many hosts, at most [`HOSTS_MAX`].
    pub hosts: usize,
    /// How long a message is, in bytes: eight at least.
    pub bytes: usize,
    /// How often each host sends one to each other host, in milliseconds.
    pub every_ms: u64,
    /// For how long, in milliseconds.
    pub for_ms: u64,
}

impl Job {
    /// How often each host sends.
    #[must_use]
    pub fn rounds(&self) -> u64 {
        self.for_ms / self.every_ms.max(1)
    }

    /// How many messages that makes.
    #[must_use]
    pub fn messages(&self) -> u64 {
        let hosts = self.hosts as u64;
        self.rounds() * hosts * hosts.saturating_sub(1)
    }
}

/// What has become of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Done {
    /// How many messages have arrived.
    pub arrived: u64,
    /// How long that took in the world, in nanoseconds.
    pub simulated_ns: u64,
    /// The hash of every event and every draw.
    pub hash: u64,
}

/// One host, with what is there in place of a node.
#[derive(Debug)]
struct Messenger {
    clock: Clock,
    links: Vec<LinkId>,
    /// When it sends next, by its clock, and when that is in the world.
    next: Option<(Time, u64)>,
    /// How many rounds it has sent.
    rounds: u64,
    /// What it has received: how many, and the sum of the numbers in them.
    received: (u64, u64),
}

impl Messenger {
    /// It sends next so long after that moment of its clock.
    fn wait(&mut self, after: Time, ms: u64) {
        let next = Time(after.0 + ms * MS);
        self.next = Some((next, self.clock.world(next)));
    }
}

/// The hosts and what is between them.
#[derive(Debug)]
pub struct Messengers {
    job: Job,
    now: u64,
    hosts: Vec<Messenger>,
    due: [u64; HOSTS_MAX],
    clocks: ClockPlan,
    network: Network,
    queue: Queue<What>,
    print: Fingerprint,
    clock_dice: Dice,
}

impl Messengers {
    /// The world of `seed`, in which every host is about to dial those before it. A message is under way
    /// for one to ten milliseconds.
    #[must_use]
    pub fn new(seed: u64, job: Job) -> Self {
        let calm = Plan::calm(seed, job.hosts, job.for_ms);
        let plan = NetworkPlan {
            delay_min_us: 1_000,
            delay_max_us: 1_000,
            jitter_percent: 900,
            ..calm.network
        };
        let mut clock_dice = Dice::new(seed, Stream::Clocks);
        let drift = calm.clocks.drift_ppm;
        let hosts = (0..job.hosts.min(HOSTS_MAX)).map(|_| {
            let ppm = i32::try_from(clock_dice.below(2 * u64::from(drift) + 1)).unwrap_or(0);
            let ppm = ppm - i32::try_from(drift).unwrap_or(0);
            let clock = Clock::new(clock_dice.below(1 << 50), ppm);
            Messenger { clock, links: Vec::new(), next: None, rounds: 0, received: (0, 0) }
        });
        let hosts: Vec<Messenger> = hosts.collect();
        let mut network = Network::new(seed, plan);
        let mut queue = Queue::default();
        for host in 0..hosts.len() {
            for other in 0..host {
                network.dial(&mut queue, 0, RunRef { host, run: 1 }, address(other), None);
            }
        }
        Self {
            job,
            now: 0,
            hosts,
            due: [NEVER; HOSTS_MAX],
            clocks: calm.clocks,
            network,
            queue,
            print: Fingerprint::default(),
            clock_dice,
        }
    }

    /// Lets everything happen.
    pub fn run(&mut self) -> Done {
        while self.step() {}
        Done {
            arrived: self.hosts.iter().map(|host| host.received.0).sum(),
            simulated_ns: self.now,
            hash: self.print.hash(),
        }
    }

    /// One event, as in a world; false once nothing is to come.
    fn step(&mut self) -> bool {
        let (host, timer) = first_due(&self.due[..self.hosts.len()]);
        let event = self.queue.next_at().unwrap_or(NEVER);
        let at = timer.min(event);
        if at == NEVER {
            return false;
        }
        self.now = self.now.max(at);
        self.print.word(at);
        if timer < event {
            self.print.word(host as u64);
            self.timer(host);
        } else if let Some((_, what)) = self.queue.pop() {
            self.happens(what);
        }
        self.print.word(self.network.dice.hash().wrapping_add(self.clock_dice.hash()));
        self.print.end_event();
        true
    }

    fn happens(&mut self, what: What) {
        match what {
            What::Packet { link, side, parcel } => self.packet(link, side, &parcel.bytes),
            What::Knock { by, addr, .. } => {
                let Some(host) = host_at(addr) else { return };
                let ends = [by, RunRef { host, run: 1 }];
                let nodes = ends.map(|end| NodeId(end.host as u128));
                self.network.open(&mut self.queue, self.now, ends, nodes, addr);
            }
            What::LinkUp { link, side } => {
                let Some(by) = self.network.is_up(link, side) else { return };
                let held = &mut self.hosts[by.host];
                held.links.push(link.id(side));
                if held.links.len() + 1 == self.job.hosts {
                    held.wait(held.clock.local(self.now), self.job.every_ms);
                }
                self.reset_timer(by.host);
            }
            // There are no faults here.
            _ => {}
        }
    }

    fn packet(&mut self, link: LinkRef, side: Side, bytes: &Bytes) {
        let Arrival::Here(by) = self.network.arrives(link, side) else { return };
        self.print.word(0x200 + by.host as u64);
        let (count, sum) = &mut self.hosts[by.host].received;
        *count += 1;
        let number = bytes.first_chunk().map_or(0, |number| u64::from_le_bytes(*number));
        *sum = sum.wrapping_add(number);
        self.reset_timer(by.host);
    }

    /// It is time to send to everybody.
    fn timer(&mut self, host: usize) {
        self.due[host] = NEVER;
        let held = &mut self.hosts[host];
        held.rounds += 1;
        match held.next.take() {
            Some((at, _)) if held.rounds < self.job.rounds() => held.wait(at, self.job.every_ms),
            _ => {}
        }
        for &link in &held.links {
            let mut message = vec![0; self.job.bytes.max(8)];
            message[..8].copy_from_slice(&held.rounds.to_le_bytes());
            self.print.bytes(&message);
            let parcel = Parcel { pre_vote: false, mark: None, bytes: Bytes::from(message) };
            self.network.send(&mut self.queue, self.now, link, parcel);
        }
        self.reset_timer(host);
    }

    /// As after each input of a node.
    fn reset_timer(&mut self, host: usize) {
        let Some((_, due)) = self.hosts[host].next else {
            self.due[host] = NEVER;
            return;
        };
        self.due[host] = due.max(self.now).saturating_add(self.clocks.lateness(due));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: Job = Job { hosts: 5, bytes: 64, every_ms: 100, for_ms: 2_000 };

    #[test]
    fn every_message_arrives_once_and_in_time() {
        let mut messengers = Messengers::new(1, JOB);
        let done = messengers.run();
        assert_eq!(done.arrived, JOB.messages());
        let sum = 4 * JOB.rounds() * (JOB.rounds() + 1) / 2;
        assert!(messengers.hosts.iter().all(|host| host.received.1 == sum));
        assert!((2_000 * MS..2_100 * MS).contains(&done.simulated_ns), "{}", done.simulated_ns);
    }

    #[test]
    fn a_seed_is_a_run() {
        let run = |seed| Messengers::new(seed, JOB).run();
        assert_eq!(run(1), run(1));
        assert_ne!(run(1).hash, run(2).hash);
    }
}
