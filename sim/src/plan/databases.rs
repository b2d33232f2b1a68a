//! Databases of a world: what engines are like, who uses them, and what operators do to them.

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_core::Window;
use quorate_core::configuration::{
    DatabaseRules, EVERY, ExecutionMode, MAIN, PlaceRule, QuorumRule, Role, Settings, ShardRules,
};
use quorate_core::shard::ShardLimits;

use super::{HostPlan, SessionPlan, maybe};
use crate::network::MS;
use crate::random::Dice;

/// How many databases there may be at most.
pub(super) const DATABASES: u8 = 4;
/// The shards that a database may have.
pub(super) const SHARDS: [&str; 3] = [MAIN, "s1", "s2"];

/// What a client does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    /// Adds keys that were never used before.
    Appends,
    /// Moves money between accounts and counts it.
    Bank,
    /// Reads registers, sets them, and sets them if they hold a value.
    Registers,
}

/// A client.
#[derive(Clone, Debug)]
pub struct ClientPlan {
    /// What it does.
    pub work: Work,
    /// In which database.
    pub database: u8,
    /// In which shard.
    pub shard: &'static str,
    /// Between two requests on average, in milliseconds.
    pub every_ms: u64,
    /// How long it waits for an answer, in milliseconds.
    pub timeout_ms: u64,
    /// Always asks the same host, as long as that is there.
    pub sticky: bool,
    /// The host that it asks first.
    pub home: usize,
    /// It sends its writes in sessions.
    pub sessions: Option<SessionPlan>,
}

/// A host that is by itself at first: it founds a cluster of one server, which makes databases, and
/// brings them when it meets the others.
#[derive(Clone, Debug)]
pub struct Loner {
    /// Which.
    pub host: usize,
    /// Until when nobody sees it, in nanoseconds.
    pub until: u64,
    /// The number of its database; 0 is that of the others too, so that the clusters stay apart.
    pub database: u8,
    /// What that is like.
    pub rules: DatabaseRules,
    /// When an operator drops the database that both have.
    pub gives_up: Option<u64>,
}

/// The number of the database that a host makes by itself.
fn own_database(host: usize) -> u8 {
    10 + u8::try_from(host).unwrap_or(0)
}

/// Databases of a world.
#[derive(Clone, Debug)]
pub struct DatabasePlan {
    /// How much a copy takes at once.
    pub limits: ShardLimits,
    /// How much of a log it keeps in memory.
    pub window: Window,
    /// A call of an engine takes at least so many microseconds.
    pub call_min_us: u64,
    /// And mostly at most so many.
    pub call_max_us: u64,
    /// In a million, a call takes up to a second.
    pub hiccup_ppm: u32,
    /// In a million, a call fails.
    pub fail_ppm: u32,
    /// Between two faults of engines on average, in milliseconds; 0: there are none.
    pub fault_every_ms: u64,
    /// By [`DatabasePlan::FAULTS`].
    pub fault_weights: [u32; DatabasePlan::FAULTS.len()],
    /// Between two orders on average, in milliseconds; 0: only the databases are made.
    pub order_every_ms: u64,
    /// By [`DatabasePlan::ORDERS`].
    pub order_weights: [u32; DatabasePlan::ORDERS.len()],
    /// What the databases are like that are made at the beginning.
    pub databases: Vec<DatabaseRules>,
    /// Who uses them.
    pub clients: Vec<ClientPlan>,
    /// Who is by itself at first.
    pub loners: Vec<Loner>,
    /// Between two backups or restores on average, in milliseconds; 0: there are none.
    pub restore_every_ms: u64,
    /// Between two processes on average that are to die while a copy takes the place of another, in
    /// milliseconds; 0: there are none.
    pub swap_crash_every_ms: u64,
    /// Between two orders to bring a copy up to date on average, in milliseconds; 0: there are none.
    pub sync_every_ms: u64,
}

impl DatabasePlan {
    /// The kinds of faults of engines.
    pub const FAULTS: [&'static str; 3] = ["full", "slow-engine", "rot"];
    /// The kinds of orders.
    pub const ORDERS: [&'static str; 7] =
        ["create", "drop", "configure", "add-shard", "drop-shard", "set-owner", "set-offline"];

    /// One database with every default and one client of each kind.
    #[must_use]
    pub fn calm() -> Self {
        let client = |work| ClientPlan {
            work,
            database: 0,
            shard: MAIN,
            every_ms: 100,
            timeout_ms: 2_000,
            sticky: false,
            home: 0,
            sessions: None,
        };
        Self {
            limits: ShardLimits::default(),
            window: Window::default(),
            call_min_us: 20,
            call_max_us: 200,
            hiccup_ppm: 0,
            fail_ppm: 0,
            fault_every_ms: 0,
            fault_weights: [0; Self::FAULTS.len()],
            order_every_ms: 0,
            order_weights: [0; Self::ORDERS.len()],
            databases: vec![DatabaseRules::default()],
            clients: [Work::Appends, Work::Bank, Work::Registers].map(client).to_vec(),
            loners: Vec::new(),
            restore_every_ms: 0,
            swap_crash_every_ms: 0,
            sync_every_ms: 0,
        }
    }

    /// The same in a world in which some are by themselves at first, and have databases of their own
    /// and clients there.
    #[must_use]
    pub(super) fn with_loners(mut self, dice: &mut Dice, hosts: &[HostPlan], safety: u64) -> Self {
        let usual = hosts.first().map(|host| host.credentials);
        let fit = |host: &&HostPlan| host.start_at.is_some() && Some(host.credentials) == usual;
        let mut fit: Vec<&HostPlan> = hosts.iter().filter(fit).collect();
        let count = dice.pick(&[1, 1, 2]).min(fit.len().saturating_sub(1));
        for _ in 0..count {
            let host = fit.remove(dice.index(fit.len()));
            let met = host.start_at.unwrap_or(0) + dice.between(3_000, 12_000) * MS;
            let same = dice.one_in(5);
            let gives_up = met + dice.between(1_000, 15_000) * MS;
            let rules = if dice.one_in(3) { rules(dice, hosts) } else { DatabaseRules::default() };
            let database = if same { 0 } else { own_database(host.place) };
            let loner = Loner {
                host: host.place,
                until: met.min(safety),
                database,
                rules,
                gives_up: (same && dice.one_in(2)).then_some(gives_up),
            };
            for _ in 0..dice.between(1, 3) {
                self.clients.push(ClientPlan {
                    work: dice.pick(&[Work::Appends, Work::Appends, Work::Bank, Work::Registers]),
                    database,
                    shard: MAIN,
                    every_ms: dice.pick(&[20, 50, 200]),
                    timeout_ms: dice.pick(&[300, 2_000]),
                    sticky: true,
                    home: host.place,
                    sessions: None,
                });
            }
            self.loners.push(loner);
        }
        self
    }
}

/// Two worlds in three have databases.
pub(super) fn draw(dice: &mut Dice, hosts: &[HostPlan]) -> Option<DatabasePlan> {
    if dice.one_in(3) {
        return None;
    }
    let usual = ShardLimits::default();
    let limits = ShardLimits {
        batch_max: dice.pick(&[1, 3, usual.batch_max]),
        apply_max: dice.pick(&[1, 4, usual.apply_max]),
        calls_max: dice.pick(&[1, 2, usual.calls_max]),
        sync_after: dice.pick(&[1, 5, 20, usual.sync_after]),
        queue_max: dice.pick(&[2, usual.queue_max, usual.queue_max]),
        interactive_time: dice.pick(&[Duration::from_millis(400), usual.interactive_time]),
        interactive_idle: dice.pick(&[Duration::from_millis(150), usual.interactive_idle]),
        ..usual
    };
    let (call_min_us, call_max_us) = dice.pick(&[(10, 100), (50, 2_000), (500, 20_000)]);
    let mut fault_weights = [0; DatabasePlan::FAULTS.len()];
    fault_weights.iter_mut().for_each(|weight| *weight = maybe(dice, 10));
    let mut order_weights = [0; DatabasePlan::ORDERS.len()];
    for (kind, weight) in DatabasePlan::ORDERS.iter().zip(&mut order_weights) {
        // What ends the work of clients is kept rare.
        let max = if matches!(*kind, "drop" | "drop-shard") { 2 } else { 10 };
        *weight = maybe(dice, max);
    }
    let count = dice.pick(&[1, 1, 1, 2, 3]);
    let databases: Vec<DatabaseRules> = (0..count).map(|_| rules(dice, hosts)).collect();
    let clients = clients(dice, &databases);
    let hiccup_ppm = maybe(dice, 10_000);
    let fail_ppm = maybe(dice, 30_000);
    let fault_every_ms = if dice.one_in(2) { 0 } else { dice.between(1_000, 10_000) };
    let order_every_ms = if dice.one_in(2) { 0 } else { dice.between(300, 8_000) };
    let (limits, window) = short_logs(dice, limits);
    Some(DatabasePlan {
        limits,
        window,
        call_min_us,
        call_max_us,
        hiccup_ppm,
        fail_ppm,
        fault_every_ms,
        fault_weights,
        order_every_ms,
        order_weights,
        databases,
        clients,
        loners: Vec::new(),
        restore_every_ms: 0,
        swap_crash_every_ms: 0,
        sync_every_ms: 0,
    })
}

/// Logs of which little is in memory, and which are soon cut: in so short a run the usual bounds
/// would never be reached.
fn short_logs(dice: &mut Dice, limits: ShardLimits) -> (ShardLimits, Window) {
    let usual = Window::default();
    let entries_max = dice.pick(&[1, 3, 10, usual.entries_max]);
    let window = Window { entries_max, ..usual };
    // An entry takes some hundred bytes.
    let retain_bytes = dice.pick(&[0, 400, 4_000, limits.retain_bytes]);
    let retain_age = dice.pick(&[Duration::ZERO, Duration::from_secs(1), Duration::from_secs(5)]);
    let retain_bytes_max = dice.pick(&[1_000, 10_000, limits.retain_bytes_max]).max(retain_bytes);
    let blank_worth = dice.pick(&[1, 10, 100, limits.blank_worth]);
    let chunk_bytes = dice.pick(&[64, 1_000, limits.chunk_bytes]);
    let limits = ShardLimits {
        retain_bytes,
        retain_age,
        retain_bytes_max,
        blank_worth,
        chunk_bytes,
        ..limits
    };
    (limits, window)
}

fn clients(dice: &mut Dice, databases: &[DatabaseRules]) -> Vec<ClientPlan> {
    let count = dice.pick(&[1, 2, 3, 4, 6]);
    // All clients together ask some five to forty times a second.
    let pace = dice.pick(&[25, 50, 100, 200]) * count;
    let one = |_| {
        let database = dice.index(databases.len());
        let named = databases[database].shards.keys().filter_map(|name| known(name));
        let shards: Vec<&'static str> = named.chain([MAIN]).collect();
        ClientPlan {
            work: dice.pick(&[Work::Appends, Work::Appends, Work::Bank, Work::Registers]),
            database: u8::try_from(database).unwrap_or(0),
            shard: dice.pick(&shards),
            every_ms: pace,
            timeout_ms: dice.pick(&[300, 2_000, 2_000, 10_000]),
            sticky: dice.one_in(2),
            home: 0,
            sessions: None,
        }
    };
    (0..count).map(one).collect()
}

fn known(name: &str) -> Option<&'static str> {
    SHARDS.into_iter().find(|shard| *shard == name)
}

fn quorum(dice: &mut Dice) -> QuorumRule {
    let count = QuorumRule::Count(u32::try_from(dice.between(1, 3)).unwrap_or(1));
    dice.pick(&[QuorumRule::Majority, QuorumRule::Majority, QuorumRule::All, count])
}

/// Some of the names, in any order; with the mark, or without.
fn places(dice: &mut Dice, names: &[String]) -> Vec<PlaceRule> {
    let mut left = names.to_vec();
    let mut places = Vec::new();
    let count = dice.index(left.len().min(4) + 1);
    for _ in 0..count {
        places.push(PlaceRule::Server(left.remove(dice.index(left.len()))));
    }
    if places.is_empty() || dice.one_in(2) {
        places.push(PlaceRule::NewNode);
    }
    places
}

fn owner(dice: &mut Dice, places: &[PlaceRule]) -> Option<String> {
    let named: Vec<&String> = places
        .iter()
        .filter_map(|place| match place {
            PlaceRule::Server(name) => Some(name),
            PlaceRule::NewNode => None,
        })
        .collect();
    if named.is_empty() || dice.one_in(2) {
        return None;
    }
    Some(named[dice.index(named.len())].clone())
}

/// The rules of one shard.
pub(super) fn shard_rules(dice: &mut Dice, hosts: &[HostPlan]) -> ShardRules {
    let names = names(hosts);
    let places = (!dice.one_in(3)).then(|| places(dice, &names));
    let owner = places.as_deref().and_then(|places| owner(dice, places));
    let write_quorum = if dice.one_in(2) { Some(quorum(dice)) } else { None };
    ShardRules { places, owner, write_quorum, ..ShardRules::default() }
}

/// The rules of a database: often the usual ones.
pub(super) fn rules(dice: &mut Dice, hosts: &[HostPlan]) -> DatabaseRules {
    if dice.one_in(3) {
        return DatabaseRules::default();
    }
    let names = names(hosts);
    let places = if dice.one_in(2) { vec![PlaceRule::NewNode] } else { places(dice, &names) };
    let mut roles = BTreeMap::from([(EVERY.to_owned(), Role::Master)]);
    if dice.one_in(4)
        && let Some(name) = names.get(dice.index(names.len()))
    {
        roles.insert(name.clone(), Role::Replica);
    }
    let execution_mode =
        if dice.one_in(4) { ExecutionMode::Asynchronous } else { ExecutionMode::Undefined };
    let owner = if dice.one_in(4) { owner(dice, &places) } else { None };
    let settings = Settings {
        write_quorum: quorum(dice),
        read_quorum: QuorumRule::Count(1),
        execution_mode,
        roles,
        places,
        owner,
        ..Settings::default()
    };
    let mut shards = BTreeMap::new();
    for name in &SHARDS[1..] {
        if dice.one_in(3) {
            shards.insert((*name).to_owned(), shard_rules(dice, hosts));
        }
    }
    DatabaseRules { settings, shards }
}

fn names(hosts: &[HostPlan]) -> Vec<String> {
    let mut names: Vec<String> = hosts.iter().filter_map(|host| host.name.clone()).collect();
    names.sort();
    names.dedup();
    names
}
