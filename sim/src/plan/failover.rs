//! Which worlds have clients that go on with another server when one is gone, and what they are like.

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_core::client::{ClientConfig, Reading, Strategy};
use quorate_core::configuration::{MAIN, QuorumRule};

use super::databases::SHARDS;
use super::{DatabasePlan, HostPlan, maybe};
use crate::network::MS;
use crate::random::Dice;

/// How long sessions live at least where clients wait for what comes of them: networks are slow.
const SESSIONS_LIVE: Duration = Duration::from_secs(1);

/// What a failover client does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Task {
    /// Reads registers, sets them, and sets them if they hold a value.
    Registers,
    /// Adds keys that were never used before.
    Appends,
    /// Adds to a counter.
    Counts,
    /// Moves money between accounts and counts it.
    Bank,
}

/// A process with a client's machine of its own.
#[derive(Clone, Debug)]
pub struct AppPlan {
    /// What it does.
    pub task: Task,
    /// In which database.
    pub database: u8,
    /// In which shard.
    pub shard: &'static str,
    /// Between two requests on average, in milliseconds.
    pub every_ms: u64,
    /// How long a request may take, in milliseconds: one of these.
    pub timeouts_ms: [u64; 2],
    /// So many requests may be under way at once.
    pub at_once: usize,
    /// How it reads.
    pub readings: [Reading; 2],
    /// Which server is asked.
    pub strategy: Strategy,
    /// The data centre that it says it is in.
    pub data_center: Option<&'static str>,
    /// The hosts whose addresses it is given.
    pub seeds: Vec<usize>,
    /// The host beside which it stands: what cuts that off cuts it off. `None`: no partition of the
    /// nodes concerns it.
    pub beside: Option<usize>,
    /// When it starts, in nanoseconds.
    pub start_at: u64,
    /// Requests that its machine takes.
    pub requests_max: usize,
    /// [`quorate_core::client::ClientConfig::ping`].
    pub ping: Duration,
    /// [`quorate_core::client::ClientConfig::silence`].
    pub silence: Duration,
    /// [`quorate_core::client::ClientConfig::retry_max`].
    pub retry_max: Duration,
    /// How many millionths its clock runs too fast or too slow.
    pub drift_ppm: i32,
    /// No server knows its user.
    pub stranger: bool,
}

/// The failover clients of a world, and what happens to them.
#[derive(Clone, Debug)]
pub struct FailoverPlan {
    /// The clients.
    pub apps: Vec<AppPlan>,
    /// Between two faults of theirs on average, in milliseconds; 0: there are none.
    pub fault_every_ms: u64,
    /// By [`FailoverPlan::FAULTS`].
    pub fault_weights: [u32; FailoverPlan::FAULTS.len()],
    /// In a million messages, the connection breaks.
    pub reset_ppm: u32,
    /// In a million messages, it comes up to a second late.
    pub late_ppm: u32,
    /// In a million connections that a client closes, what is on its way reaches it all the same.
    pub after_close_ppm: u32,
    /// A register takes so many requests, then the next one is used: histories stay short.
    pub register_max: usize,
    /// Databases, by number, whose reads are as configured linearizable all the time.
    pub linearizable: Vec<u8>,
}

impl FailoverPlan {
    /// The kinds of faults.
    pub const FAULTS: [&'static str; 5] =
        ["client-cut", "client-deaf", "client-mute", "client-resets", "client-clock"];

    /// A client of each kind, with the usual times, and no fault of theirs.
    #[must_use]
    pub fn calm(hosts: usize) -> Self {
        let usual = ClientConfig::new(Vec::new());
        let app = |(which, task): (usize, Task)| AppPlan {
            task,
            database: 0,
            shard: MAIN,
            every_ms: 20,
            timeouts_ms: [10_000; 2],
            at_once: 3,
            readings: [Reading::Session, Reading::Linearizable],
            strategy: [Strategy::Sticky, Strategy::RoundRobinConnect, Strategy::RoundRobinRequest]
                [which % 3],
            data_center: None,
            seeds: (0..hosts).collect(),
            beside: None,
            start_at: 5_000 * MS,
            requests_max: usual.requests_max,
            ping: usual.ping,
            silence: usual.silence,
            retry_max: usual.retry_max,
            drift_ppm: 50,
            stranger: false,
        };
        let tasks = [Task::Registers, Task::Appends, Task::Counts, Task::Bank, Task::Registers];
        Self {
            apps: tasks.into_iter().enumerate().map(app).collect(),
            fault_every_ms: 0,
            fault_weights: [0; Self::FAULTS.len()],
            reset_ppm: 0,
            late_ppm: 0,
            after_close_ppm: 0,
            register_max: 40,
            linearizable: Vec::new(),
        }
    }

    /// Draws the clients of a world, and changes what its databases are like to fit.
    #[must_use]
    pub(super) fn draw(dice: &mut Dice, plan: &mut DatabasePlan, hosts: &[HostPlan]) -> Self {
        // Where the content is replaced, or databases change, histories of registers are not judged:
        // half of the worlds have none of that.
        if dice.one_in(2) {
            plan.restore_every_ms = 0;
            for (kind, weight) in DatabasePlan::ORDERS.iter().zip(&mut plan.order_weights) {
                if matches!(*kind, "drop" | "configure" | "drop-shard") {
                    *weight = 0;
                }
            }
        }
        let configures = plan.order_every_ms > 0
            && DatabasePlan::ORDERS
                .iter()
                .zip(&plan.order_weights)
                .any(|(kind, weight)| matches!(*kind, "drop" | "configure") && *weight > 0);
        // One that ends before a request can come to it is of no use to anybody who waits for answers.
        let limits = &mut plan.limits;
        limits.session_time_to_live = limits.session_time_to_live.max(SESSIONS_LIVE);
        let mut linearizable = Vec::new();
        for (number, rules) in (0_u8..).zip(&mut plan.databases) {
            let named = hosts.iter().filter_map(|host| host.name.clone());
            let mut centers: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for name in named {
                let center = dice.pick(&[None, Some("a"), Some("b")]);
                if let Some(center) = center {
                    centers.entry(center.to_owned()).or_default().push(name);
                }
            }
            rules.settings.data_centers = centers;
            let strict = dice.one_in(2);
            if strict {
                rules.settings.read_quorum = QuorumRule::Count(2);
            }
            if strict && !configures {
                linearizable.push(number);
            }
        }
        let many = dice.one_in(6);
        let count = if many { dice.between(8, 16) } else { dice.between(1, 5) };
        let starting: Vec<usize> =
            hosts.iter().filter(|host| host.start_at.is_some()).map(|host| host.place).collect();
        let pace = dice.pick(&[15, 40, 100]) * count;
        let apps = (0..count).map(|_| app(dice, plan, &starting, pace)).collect();
        let mut fault_weights = [0; Self::FAULTS.len()];
        fault_weights.iter_mut().for_each(|weight| *weight = maybe(dice, 10));
        Self {
            apps,
            fault_every_ms: if dice.one_in(3) { 0 } else { dice.between(300, 5_000) },
            fault_weights,
            reset_ppm: maybe(dice, 5_000),
            late_ppm: maybe(dice, 20_000),
            after_close_ppm: dice.pick(&[0, 500_000, 1_000_000]),
            register_max: dice.pick(&[12, 24, 40]),
            linearizable,
        }
    }
}

fn app(dice: &mut Dice, plan: &DatabasePlan, hosts: &[usize], pace: u64) -> AppPlan {
    let database = dice.index(plan.databases.len());
    let named = |name: &&'static str| plan.databases[database].shards.contains_key(*name);
    let shards: Vec<&'static str> = SHARDS.into_iter().filter(named).chain([MAIN]).collect();
    let seeds: Vec<usize> = hosts.iter().copied().filter(|_| dice.one_in(2)).collect();
    let seeds = if seeds.is_empty() { hosts.to_vec() } else { seeds };
    let silence = dice.pick(&[250, 700, 1_500]);
    let readings = [Reading::Session, Reading::Session, Reading::Linearizable, Reading::Local];
    let strategies = [Strategy::Sticky, Strategy::RoundRobinConnect, Strategy::RoundRobinRequest];
    AppPlan {
        task: dice.pick(&[
            Task::Registers,
            Task::Registers,
            Task::Registers,
            Task::Appends,
            Task::Counts,
            Task::Bank,
        ]),
        database: u8::try_from(database).unwrap_or(0),
        shard: dice.pick(&shards),
        every_ms: pace,
        timeouts_ms: [dice.pick(&[40, 150, 700, 3_000]), dice.pick(&[700, 3_000, 10_000, 30_000])],
        at_once: dice.pick(&[1, 1, 3, 8]),
        readings: [dice.pick(&readings), dice.pick(&readings)],
        strategy: dice.pick(&strategies),
        data_center: dice.pick(&[None, None, Some("a"), Some("b")]),
        seeds,
        beside: (!dice.one_in(3)).then(|| dice.pick(hosts)),
        start_at: dice.between(0, 6_000) * MS,
        requests_max: dice.pick(&[2, 16, 4_096]),
        ping: Duration::from_millis(silence / 3),
        silence: Duration::from_millis(silence),
        retry_max: Duration::from_millis(dice.pick(&[50, 300, 1_000])),
        drift_ppm: i32::try_from(dice.below(40_001)).unwrap_or(0) - 20_000,
        stranger: false,
    }
}
