//! What a seed means: which hosts there are, which faults exist at all, and how often they happen.
//!
//! Everything is drawn before the world begins, from the stream of the plan; `--verbose` prints it.

mod action;
mod aimed;
mod case;
mod databases;
mod failover;
mod hosts;
mod profile;
mod schedule;
mod sessions;
mod shapes;

pub use action::{Action, Content, DatabaseOrder, Moment, Order, Step, Strike};
pub use case::{CHANCES, Case, Chance};
pub use databases::{ClientPlan, DatabasePlan, Loner, Work};
pub use failover::{AppPlan, FailoverPlan, Task};
pub use hosts::{Credentials, HostPlan};
pub use profile::Profile;
pub use schedule::{Due, schedule};
pub use sessions::{NEVER_ENDS, SessionPlan};

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use quorate_core::configuration::Defaults;
use quorate_core::{Limits, Timings};

use crate::network::MS;
use crate::random::{Dice, Stream};

/// Rates and delays of the network. Chances in parts per million.
#[derive(Clone, Debug)]
pub struct NetworkPlan {
    /// The shortest usual delay between two hosts, in microseconds.
    pub delay_min_us: u64,
    /// The longest.
    pub delay_max_us: u64,
    /// How much longer than usual a delay may be.
    pub jitter_percent: u32,
    /// A datagram is lost, per receiver.
    pub loss_ppm: u32,
    /// It comes twice.
    pub double_ppm: u32,
    /// It comes up to 50 ms late.
    pub reorder_ppm: u32,
    /// It is changed, cut or replaced by noise.
    pub mangle_ppm: u32,
    /// An old one comes once more, up to 10 s later.
    pub replay_ppm: u32,
    /// A packet of a stream is sent again after 0.2 to 1 s, and what follows waits for it.
    pub retransmit_ppm: u32,
    /// A dial comes to nothing.
    pub dial_fail_ppm: u32,
    /// How long a stream that gets nothing through is kept, in milliseconds.
    pub give_up_ms: u64,
}

impl NetworkPlan {
    /// How long a message is on its way at most where nothing makes a host slow, in microseconds.
    #[must_use]
    pub fn way_max_us(&self) -> u64 {
        self.delay_max_us * u64::from(100 + self.jitter_percent) / 100
    }
}

/// Disks.
#[derive(Clone, Debug)]
pub struct DiskPlan {
    /// A sync takes at least so many microseconds.
    pub sync_min_us: u64,
    /// And mostly at most so many.
    pub sync_max_us: u64,
    /// In a million, a sync takes up to a second.
    pub hiccup_ppm: u32,
    /// A process dies while the outputs of one input are carried out, in a million inputs.
    pub die_ppm: u32,
}

/// Clocks.
#[derive(Clone, Debug)]
pub struct ClockPlan {
    /// How many millionths clocks may run too fast or too slow.
    pub drift_ppm: u32,
    /// How late timers may fire, in microseconds.
    pub lateness_us: u64,
}

impl ClockPlan {
    /// How late the timer fires that is due then, both in nanoseconds. It follows from the time, so that
    /// asking again draws nothing.
    #[must_use]
    pub fn lateness(&self, due: u64) -> u64 {
        let spread = due.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        (spread * self.lateness_us * 1_000) >> 24
    }
}

/// How likely each kind of fault is among all; 0: there is none of it.
#[derive(Clone, Debug)]
pub struct FaultPlan {
    /// Between two faults on average, in milliseconds.
    pub every_ms: u64,
    /// By [`FaultPlan::KINDS`].
    pub weights: [u32; FaultPlan::KINDS.len()],
}

impl FaultPlan {
    /// The kinds of faults.
    pub const KINDS: [&'static str; 18] = [
        "partition",
        "one-way",
        "isolate",
        "datagrams-only",
        "streams-only",
        "pause",
        "long-pause",
        "crash",
        "crash-at-write",
        "crash-many",
        "wipe",
        "restore",
        "clone",
        "disk-failure",
        "slow-disk",
        "clock",
        "slow-links",
        "reset",
    ];
}

/// What operators do.
#[derive(Clone, Debug)]
pub struct WorkloadPlan {
    /// Between two orders on average, in milliseconds; 0: nobody does anything.
    pub every_ms: u64,
    /// By [`WorkloadPlan::KINDS`].
    pub weights: [u32; WorkloadPlan::KINDS.len()],
}

impl WorkloadPlan {
    /// The kinds of orders.
    pub const KINDS: [&'static str; 6] =
        ["remove", "set-role", "set-registration", "create-database", "drop-database", "stop"];
}

/// All of it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Of which seed.
    pub seed: u64,
    /// The hosts, those that start later or only as clones included.
    pub hosts: Vec<HostPlan>,
    /// All durations of the nodes.
    pub timings: Timings,
    /// How much is sent and kept at once.
    pub limits: Limits,
    /// What a founder's file says.
    pub defaults: Defaults,
    /// How long faults go on, in nanoseconds.
    pub safety: u64,
    /// Two sides that cannot see each other at first, and until when.
    pub apart: Option<(u32, u64)>,
    /// The network.
    pub network: NetworkPlan,
    /// The disks.
    pub disks: DiskPlan,
    /// The clocks.
    pub clocks: ClockPlan,
    /// The faults.
    pub faults: FaultPlan,
    /// Between two partitions of more than one cut, or of whoever leads, on average, in milliseconds; 0: there
    /// are none.
    pub shape_every_ms: u64,
    /// Between two times that entries of a log become unreadable on average, in milliseconds; 0: never.
    pub log_rot_every_ms: u64,
    /// Between two copies that come to lie in the place of another on average, in milliseconds; 0: none do.
    pub misplace_every_ms: u64,
    /// Between two that lie in ambush on average, in milliseconds; 0: nobody does.
    pub ambush_every_ms: u64,
    /// The operators.
    pub workload: WorkloadPlan,
    /// Databases, their engines and clients; `None`: nodes hold no copies.
    pub databases: Option<DatabasePlan>,
    /// Clients that go on with another server when one is gone; only where there are databases.
    pub failover: Option<FailoverPlan>,
    /// What happens besides what is drawn: for tests.
    pub script: Vec<Due>,
    /// Clients that ask for nothing.
    pub idle_clients: BTreeSet<usize>,
    /// All faults and orders; `None`: they are drawn.
    pub schedule: Option<Vec<Due>>,
}

impl Plan {
    /// What `seed` means.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut dice = Dice::new(seed, Stream::Plan);
        let timings = timings(&mut dice);
        let hosts = hosts::draw(seed, &mut dice);
        let mut defaults = hosts::defaults(&mut dice, &hosts);
        let safety = dice.between(10_000, 60_000) * MS;
        let all = (1_u32 << hosts.len()) - 1;
        let apart = dice.one_in(4).then(|| {
            let side = u32::try_from(dice.bits() & u64::from(all)).unwrap_or(0);
            (side, dice.between(1_000, 20_000) * MS)
        });
        let mut databases = databases::draw(&mut Dice::new(seed, Stream::Databases), &hosts);
        let mut others = Dice::new(seed ^ 0x10e, Stream::Databases);
        if others.one_in(3) {
            databases = databases.map(|plan| plan.with_loners(&mut others, &hosts, safety));
        }
        if others.one_in(2)
            && let Some(plan) = &mut databases
        {
            plan.restore_every_ms = others.between(500, 6_000);
        }
        if others.one_in(2)
            && let Some(plan) = &mut databases
        {
            plan.swap_crash_every_ms = others.between(300, 5_000);
        }
        let mut syncs = Dice::new(seed ^ 0x5749, Stream::Databases);
        if syncs.one_in(4)
            && let Some(plan) = &mut databases
        {
            plan.sync_every_ms = syncs.between(200, 5_000);
        }
        if syncs.one_in(6)
            && let Some(plan) = &mut databases
        {
            // An answer takes some twenty bytes.
            plan.limits.session_bytes_max = syncs.pick(&[0, 10, 50, 200]);
        }
        let mut sessions = Dice::new(seed ^ 0x5e55, Stream::Sessions);
        if !sessions.one_in(3) {
            databases = databases.map(|plan| plan.with_sessions(&mut sessions));
        }
        let mut clients = Dice::new(seed, Stream::Failover);
        let mut failover = match &mut databases {
            Some(plan) if clients.one_in(2) => Some(FailoverPlan::draw(&mut clients, plan, &hosts)),
            _ => None,
        };
        let known = failover.as_ref().and_then(|plan| plan.apps.first().cloned());
        if let (Some(plan), Some(like)) = (&mut failover, known)
            && Dice::new(seed ^ 0x57a9, Stream::Failover).one_in(6)
        {
            plan.apps.push(AppPlan { stranger: true, ..like });
        }
        if databases.as_ref().is_some_and(|plan| !plan.loners.is_empty()) {
            // Who waits for others founds nothing by itself.
            defaults.expect = 0;
        }
        let mut shapes = Dice::new(seed ^ 0x5a9e, Stream::Plan);
        let shape_every_ms = if shapes.one_in(4) { shapes.between(1_000, 10_000) } else { 0 };
        let mut rot = Dice::new(seed ^ 0x7077, Stream::Plan);
        let log_rot_every_ms = if rot.one_in(4) { rot.between(2_000, 20_000) } else { 0 };
        let mut misplaced = Dice::new(seed ^ 0x3159, Stream::Plan);
        let misplace_every_ms =
            if misplaced.one_in(4) { misplaced.between(2_000, 20_000) } else { 0 };
        let mut ambushes = Dice::new(seed ^ 0xa3b5, Stream::Plan);
        let ambush_every_ms = if ambushes.one_in(4) { ambushes.between(200, 5_000) } else { 0 };
        Self {
            seed,
            timings,
            limits: limits(&mut dice),
            defaults,
            safety,
            apart,
            databases,
            failover,
            script: Vec::new(),
            idle_clients: BTreeSet::new(),
            schedule: None,
            network: network(&mut dice),
            disks: disks(&mut dice),
            clocks: clocks(&mut dice),
            faults: faults(&mut dice),
            shape_every_ms,
            log_rot_every_ms,
            misplace_every_ms,
            ambush_every_ms,
            workload: workload(&mut dice),
            hosts,
        }
    }

    /// The hosts that start by themselves; the others only hold copies of disks.
    pub fn starting(&self) -> impl Iterator<Item = &HostPlan> {
        self.hosts.iter().filter(|host| host.start_at.is_some())
    }

    /// The clients that ask nodes.
    #[must_use]
    pub fn clients(&self) -> &[ClientPlan] {
        self.databases.as_ref().map_or(&[], |databases| &databases.clients)
    }

    /// The clients that fail over.
    #[must_use]
    pub fn apps(&self) -> &[AppPlan] {
        self.failover.as_ref().map_or(&[], |failover| &failover.apps)
    }

    /// The same with one database of every default, and a client of each kind.
    #[must_use]
    pub fn with_database(mut self) -> Self {
        self.databases = Some(DatabasePlan::calm());
        self
    }

    /// The same with a failover client of each kind, which know all hosts.
    #[must_use]
    pub fn with_failover(mut self) -> Self {
        self.failover = Some(FailoverPlan::calm(self.hosts.len()));
        self
    }

    /// Five hosts and no fault at all: for measuring.
    #[must_use]
    pub fn calm(seed: u64, hosts: usize, safety_ms: u64) -> Self {
        let mut plan = Self::of(seed);
        plan.hosts = (0..hosts).map(HostPlan::plain).collect();
        plan.timings = Timings::default();
        plan.limits = Limits::default();
        plan.defaults = Defaults::default();
        plan.safety = safety_ms * MS;
        plan.apart = None;
        plan.databases = None;
        plan.failover = None;
        plan.network = NetworkPlan {
            delay_min_us: 100,
            delay_max_us: 500,
            jitter_percent: 50,
            loss_ppm: 0,
            double_ppm: 0,
            reorder_ppm: 0,
            mangle_ppm: 0,
            replay_ppm: 0,
            retransmit_ppm: 0,
            dial_fail_ppm: 0,
            give_up_ms: 5_000,
        };
        plan.disks = DiskPlan { sync_min_us: 200, sync_max_us: 2_000, hiccup_ppm: 0, die_ppm: 0 };
        plan.clocks = ClockPlan { drift_ppm: 50, lateness_us: 200 };
        plan.faults = FaultPlan { every_ms: 0, weights: [0; FaultPlan::KINDS.len()] };
        (plan.shape_every_ms, plan.log_rot_every_ms) = (0, 0);
        (plan.misplace_every_ms, plan.ambush_every_ms) = (0, 0);
        plan.workload = WorkloadPlan { every_ms: 0, weights: [0; WorkloadPlan::KINDS.len()] };
        plan
    }
}

/// Each seed has half of the faults, so that they meet in all combinations, and rare ones are not
/// always drowned by common ones.
fn maybe(dice: &mut Dice, max: u32) -> u32 {
    if dice.one_in(2) { 0 } else { u32::try_from(dice.between(1, u64::from(max))).unwrap_or(0) }
}

fn timings(dice: &mut Dice) -> Timings {
    let usual = Timings::default();
    let max_no_heartbeat = Duration::from_millis(dice.pick(&[1_500, 3_000, 5_000, 5_000]));
    let pause = if dice.one_in(4) { Duration::from_millis(150) } else { usual.pause };
    let leave = Duration::from_millis(dice.pick(&[2_000, 10_000]));
    Timings { max_no_heartbeat, pause, leave, ..usual }
}

/// Small limits bring about in a short run what large ones do in a long one: entries that are
/// acknowledged one by one, full windows, snapshots.
fn limits(dice: &mut Dice) -> Limits {
    let usual = Limits::default();
    Limits {
        append_count_max: dice.pick(&[1, 2, 5, usual.append_count_max]),
        in_flight_max: dice.pick(&[1, 2, usual.in_flight_max]),
        entries_before_snapshot: dice.pick(&[3, 10, 40, usual.entries_before_snapshot]),
        ..usual
    }
}

fn network(dice: &mut Dice) -> NetworkPlan {
    // A local network, a slow one, or one between cities.
    let (delay_min_us, delay_max_us) =
        dice.pick(&[(50, 500), (50, 500), (500, 5_000), (2_000, 40_000)]);
    NetworkPlan {
        delay_min_us,
        delay_max_us,
        jitter_percent: dice.pick(&[10, 50, 300]),
        loss_ppm: maybe(dice, 300_000),
        double_ppm: maybe(dice, 100_000),
        reorder_ppm: maybe(dice, 200_000),
        mangle_ppm: maybe(dice, 50_000),
        replay_ppm: maybe(dice, 20_000),
        retransmit_ppm: maybe(dice, 10_000),
        dial_fail_ppm: maybe(dice, 200_000),
        give_up_ms: dice.between(1_000, 20_000),
    }
}

fn disks(dice: &mut Dice) -> DiskPlan {
    let (sync_min_us, sync_max_us) = dice.pick(&[(50, 500), (500, 5_000), (2_000, 30_000)]);
    DiskPlan {
        sync_min_us,
        sync_max_us,
        hiccup_ppm: maybe(dice, 20_000),
        die_ppm: maybe(dice, 1_000),
    }
}

fn clocks(dice: &mut Dice) -> ClockPlan {
    ClockPlan {
        drift_ppm: dice.pick(&[0, 100, 500, 20_000]),
        lateness_us: dice.pick(&[50, 1_000, 15_000]),
    }
}

fn faults(dice: &mut Dice) -> FaultPlan {
    let mut weights = [0; FaultPlan::KINDS.len()];
    for (kind, weight) in FaultPlan::KINDS.iter().zip(&mut weights) {
        // What ends a directory for good is kept rare: else every cluster would end with it.
        let max = match *kind {
            "wipe" | "clone" => 4,
            "restore" => 12,
            "crash-at-write" => 40,
            "crash" | "partition" => 20,
            _ => 10,
        };
        *weight = maybe(dice, max);
    }
    FaultPlan { every_ms: dice.between(200, 4_000), weights }
}

fn workload(dice: &mut Dice) -> WorkloadPlan {
    let mut weights = [0; WorkloadPlan::KINDS.len()];
    for weight in &mut weights {
        *weight = maybe(dice, 10);
    }
    let every_ms = match dice.below(6) {
        0 | 1 => 0,
        // So much that logs are compacted and snapshots are needed.
        2 => dice.between(10, 60),
        _ => dice.between(200, 5_000),
    };
    WorkloadPlan { every_ms, weights }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: faults for {} ms", self.seed, self.safety / MS)?;
        for host in &self.hosts {
            writeln!(f, "  {host}")?;
        }
        if let Some((side, until)) = self.apart {
            writeln!(f, "  hosts {side:#b} are apart from the others until {} ms", until / MS)?;
        }
        writeln!(f, "  {:?}", self.timings)?;
        writeln!(f, "  {:?}", self.limits)?;
        writeln!(f, "  {:?}", self.defaults)?;
        writeln!(f, "  {:?}", self.network)?;
        writeln!(f, "  {:?}", self.disks)?;
        writeln!(f, "  {:?}", self.clocks)?;
        write!(f, "  a fault every {} ms:", self.faults.every_ms)?;
        list(f, &FaultPlan::KINDS, &self.faults.weights)?;
        writeln!(f, "  a shaped partition every {} ms", self.shape_every_ms)?;
        writeln!(f, "  entries of a log that rot every {} ms", self.log_rot_every_ms)?;
        writeln!(f, "  a copy in the place of another every {} ms", self.misplace_every_ms)?;
        writeln!(f, "  somebody in ambush every {} ms", self.ambush_every_ms)?;
        write!(f, "  an order every {} ms:", self.workload.every_ms)?;
        list(f, &WorkloadPlan::KINDS, &self.workload.weights)?;
        match &self.databases {
            Some(databases) => writeln!(f, "  {databases:?}")?,
            None => writeln!(f, "  no databases")?,
        }
        match &self.failover {
            Some(failover) => writeln!(f, "  {failover:?}"),
            None => Ok(()),
        }
    }
}

fn list(f: &mut fmt::Formatter<'_>, kinds: &[&str], weights: &[u32]) -> fmt::Result {
    for (kind, weight) in kinds.iter().zip(weights).filter(|(_, weight)| **weight > 0) {
        write!(f, " {kind} {weight}")?;
    }
    writeln!(f)
}
