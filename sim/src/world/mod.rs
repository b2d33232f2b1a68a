//! The world: hosts, disks, network and time, and one queue of what happens next.
//!
//! `mod` the loop · `event` what can happen · `host` a machine · `process` starts and ends ·
//! `deliver` one input and all it causes · `outputs` what a node wants done · `streams` dialling ·
//! `engines` and `files` of copies · `clients` and what they are told · `workload` what they ask for · `sessions` and `attempts`, sent until it is known · `failover` clients with the machine of `core::client` · `act` faults · `orders` operators · `restores` files of content · `fair` which old disks may come back · `recovery` when a quorum is lost · `peace` the end.

mod act;
mod ambush;
mod attempts;
mod clients;
mod deliver;
mod engines;
mod event;
mod failover;
mod fair;
mod files;
mod host;
mod orders;
mod outputs;
mod peace;
mod probes;
mod process;
mod recovery;
mod restores;
mod sessions;
mod shown;
mod steps;
mod streams;
mod workload;

pub use clients::{Client, Clients};
pub use engines::Pump;
pub use event::{RunRef, What};
pub use failover::{Failover, Happening};
pub use files::FileCalls;
pub use host::{Armed, Host, Seen};
pub use orders::Issued;
pub use peace::Peace;
pub use probes::{Probe, Probes};

use quorate_core::StopReason;

use self::ambush::Ambush;
use crate::checks::Checks;
use crate::clock::Clock;
use crate::counts::{Count, Counts};
use crate::disk::Disks;
use crate::hash::Fingerprint;
use crate::network::{HOSTS_MAX, Network};
use crate::outcome::{Report, Verdict, Violation};
use crate::plan::{Due, Plan, schedule};
use crate::queue::Queue;
use crate::random::{Dice, Stream};
use crate::trace::{Trace, tell};
use crate::view::{Kind, Lane, Told};

/// Never.
pub(crate) const NEVER: u64 = u64::MAX;
/// A full sweep of the checks follows every so many events.
const SWEEP_EVERY: u64 = 1_000;
/// More events than any run needs: a run that gets there does not rest.
const EVENTS_MAX: u64 = 20_000_000;

/// Whose timer is the first, and when that is due.
pub(crate) fn first_due(due: &[u64]) -> (usize, u64) {
    let mut first = (0, NEVER);
    for (host, due) in due.iter().enumerate() {
        if *due < first.1 {
            first = (host, *due);
        }
    }
    first
}

/// A world of one seed.
#[derive(Debug)]
pub struct World {
    /// What was drawn for it.
    pub plan: Plan,
    /// What will happen to it.
    pub schedule: Vec<Due>,
    /// The time in nanoseconds.
    pub now: u64,
    /// The hosts.
    pub hosts: Vec<Host>,
    /// When the timer of each host is due.
    due: [u64; HOSTS_MAX],
    /// All directories.
    pub disks: Disks,
    /// The network.
    pub network: Network,
    /// The invariants.
    pub checks: Checks,
    /// How often things happened.
    pub counts: Counts,
    /// What is told of it.
    pub trace: Trace,
    /// What operators asked for.
    pub issued: Vec<Issued>,
    /// Who uses databases.
    pub clients: Clients,
    /// What operators have kept of the content of shards, the oldest first.
    pub backups: Vec<Vec<u8>>,
    /// Whether every shard takes writes in the end.
    pub probes: Probes,
    /// Set once every fault has ended.
    pub peace: Option<Peace>,
    queue: Queue<What>,
    print: Fingerprint,
    disk_dice: Dice,
    clock_dice: Dice,
    node_dice: Dice,
    fault_dice: Dice,
    engine_dice: Dice,
    client_dice: Dice,
    session_dice: Dice,
    /// Clients that go on with another server when one is gone.
    failover: Option<Failover>,
    late: Vec<outputs::Late>,
    /// A process whose last moment has come.
    dying: Option<usize>,
    /// Those who wait for a rare state.
    ambushes: Vec<Ambush>,
    /// The host whose node was last given an input.
    acting: usize,
    /// What a node said when it ended.
    stopped: [Option<StopReason>; HOSTS_MAX],
}

impl World {
    /// The world of a plan, before its first event.
    #[must_use]
    pub fn new(plan: Plan, print: Fingerprint, trace: Trace) -> Self {
        let seed = plan.seed;
        let mut clock_dice = Dice::new(seed, Stream::Clocks);
        let mut queue = Queue::default();
        let mut hosts = Vec::new();
        for (place, host) in plan.hosts.iter().enumerate() {
            let drift = u64::from(plan.clocks.drift_ppm);
            let ppm = i32::try_from(clock_dice.below(2 * drift + 1)).unwrap_or(0);
            let ppm = ppm - i32::try_from(drift).unwrap_or(0);
            let clock = Clock::new(clock_dice.below(1 << 50), ppm);
            hosts.push(Host::new(host.clone(), clock));
            if let Some(at) = host.start_at {
                queue.push(at, What::Start { host: place, run: 0 });
            }
        }
        let schedule = schedule(&plan);
        for (place, due) in schedule.iter().enumerate() {
            queue.push(due.at, What::Act(place));
        }
        let users = plan.clients();
        for which in (0..users.len()).filter(|which| !plan.idle_clients.contains(which)) {
            queue.push(2_000_000_000, What::Client(which));
        }
        queue.push(plan.safety, What::Peace);
        Self {
            schedule,
            now: 0,
            hosts,
            due: [NEVER; HOSTS_MAX],
            disks: Disks::default(),
            network: Network::new(seed, plan.network.clone()),
            checks: Checks::default(),
            counts: Counts::default(),
            trace,
            issued: Vec::new(),
            clients: Clients::of(users),
            backups: Vec::new(),
            probes: Probes::default(),
            peace: None,
            queue,
            print,
            disk_dice: Dice::new(seed, Stream::Disks),
            clock_dice,
            node_dice: Dice::new(seed, Stream::Nodes),
            // The schedule has drawn from the stream of faults; what is drawn when a fault
            // happens (which operations survive, whether restoring is fair) comes from here.
            fault_dice: Dice::new(seed ^ 0x5eed, Stream::Faults),
            engine_dice: Dice::new(seed, Stream::Engines),
            client_dice: Dice::new(seed, Stream::Clients),
            session_dice: Dice::new(seed, Stream::Sessions),
            failover: Failover::of(&plan),
            late: Vec::new(),
            ambushes: Vec::new(),
            acting: 0,
            dying: None,
            stopped: [const { None }; HOSTS_MAX],
            plan,
        }
    }

    /// Lets everything happen, to the end or to the first violation.
    pub fn run(&mut self) -> Report {
        self.begin_failover();
        let violation = loop {
            match self.step() {
                Ok(true) => {}
                Ok(false) => break self.end().err(),
                Err(violation) => break Some(violation),
            }
        };
        if let Some(violation) = &violation {
            tell!(self, Told::In(Lane::World, Kind::Violation), "VIOLATION {violation}");
        }
        let peace = self.peace.take();
        Report {
            seed: self.plan.seed,
            events: self.print.events(),
            simulated_ms: self.now / 1_000_000,
            hash: self.hash(),
            violated_at: violation.as_ref().map_or(0, |_| self.now),
            violation,
            converged_ms: peace.as_ref().and_then(|p| p.converged_ms),
            reasons: peace.map(|p| p.tally).unwrap_or_default().into_reasons(),
            counts: self.counts.by_name(),
            ..Report::default()
        }
    }

    /// One event; false once there is nothing more to wait for.
    fn step(&mut self) -> Result<bool, Violation> {
        let (host, timer) = first_due(&self.due[..self.hosts.len()]);
        let event = self.queue.next_at().unwrap_or(NEVER);
        let at = timer.min(event);
        if at == NEVER || self.peace.as_ref().is_some_and(|p| p.over || at > p.deadline) {
            return Ok(false);
        }
        if self.print.events() >= EVENTS_MAX {
            let detail = format!("{EVENTS_MAX} events by {} ms", self.now / 1_000_000);
            return Err(Violation::new("world-does-not-rest", detail));
        }
        self.now = self.now.max(at);
        self.checks.now = self.now;
        self.print.word(at);
        if timer < event {
            self.print.word(host as u64);
            self.timer(host)?;
        } else if let Some((_, what)) = self.queue.pop() {
            self.happens(what)?;
        }
        if !self.ambushes.is_empty() {
            self.spring()?;
        }
        self.print.word(self.draws());
        self.print.end_event();
        if self.print.events().is_multiple_of(SWEEP_EVERY) {
            self.sweep()?;
        }
        Ok(true)
    }

    fn happens(&mut self, what: What) -> Verdict {
        match what {
            What::Datagram { to, from, mark, bytes } => self.datagram(to, from, mark, bytes),
            What::Packet { link, side, parcel } => self.packet(link, side, parcel),
            What::Knock { by, addr, mark } => self.knock(by, addr, mark),
            What::LinkUp { link, side } => self.link_up(link, side),
            What::LinkDown { link, side } => self.link_down(link, side),
            What::Retransmit { link, side } => {
                self.network.retransmit(&mut self.queue, self.now, link, side);
                Ok(())
            }
            What::DialFailed { by, addr, error } => self.dial_failed(by, addr, error),
            What::Refused { by, from } => self.refused(by, from),
            What::Synced { dir, by } => self.synced(dir, by),
            What::Engine { by, log } => self.engine(by, log),
            What::Files { by, log } => self.files(by, log),
            What::Query { by, log, call } => self.query(by, log, *call),
            What::Client(which) => self.client(which),
            What::Once { operation, turn } => self.once(operation, turn),
            What::Emptied(host) => {
                self.hosts[host].full = false;
                Ok(())
            }
            What::HastenEngines(host) => {
                self.hosts[host].engines_slow = 0;
                Ok(())
            }
            What::Traffic(by) => self.traffic(by),
            What::LogRead { dir, by, log, read } => self.log_read(dir, by, log, read),
            What::Failover(happening) => self.failover(happening),
            What::Act(place) => self.act(place),
            What::Heal(id) => {
                self.network.cuts.heal(id);
                tell!(self, Told::Healed(id), "cut {id} is healed");
                Ok(())
            }
            What::Hasten(host) => {
                self.network.slow[host] = 0;
                Ok(())
            }
            What::HastenDisk(host) => {
                self.hosts[host].disk_slow = 0;
                Ok(())
            }
            What::Start { host, run } => self.start_if(host, run),
            What::Renew(by) => self.take_the_place(by),
            What::Resume(by) => self.resume(by),
            What::Peace => self.make_peace(),
            What::Watch => self.watch(),
            What::Rescue => self.rescue(),
        }
    }

    fn sweep(&mut self) -> Verdict {
        self.counts.add(Count::Sweeps);
        if self.print.events().is_multiple_of(20 * SWEEP_EVERY) {
            self.checks.all_answers_hold()?;
        }
        self.checks.sweep(&self.disks)
    }

    fn end(&mut self) -> Verdict {
        self.sweep()?;
        self.checks.all_answers_hold()?;
        self.judge_clients()?;
        self.judge()
    }

    /// A number that stands for everything drawn so far, in all streams.
    fn draws(&self) -> u64 {
        self.network
            .dice
            .hash()
            .wrapping_add(self.disk_dice.hash())
            .wrapping_add(self.clock_dice.hash())
            .wrapping_add(self.node_dice.hash())
            .wrapping_add(self.fault_dice.hash())
            .wrapping_add(self.engine_dice.hash())
            .wrapping_add(self.client_dice.hash())
            .wrapping_add(self.session_dice.hash())
            .wrapping_add(self.failover.as_ref().map_or(0, Failover::draws))
    }

    /// The hash of every event and every random draw so far.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.print.hash()
    }

    /// What was recorded of the run, and where it differed from another.
    #[must_use]
    pub fn into_parts(mut self) -> (Fingerprint, Trace) {
        self.note_under_way();
        (self.print, self.trace)
    }

    fn is_now(&self, by: RunRef) -> bool {
        self.hosts[by.host].run == by.run && self.hosts[by.host].is_up()
    }

    fn run_of(&self, host: usize) -> RunRef {
        RunRef { host, run: self.hosts[host].run }
    }
}
