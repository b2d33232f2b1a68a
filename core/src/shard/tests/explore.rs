//! Random schedules: whatever is delivered, lost, delayed, killed or fails, and when.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

use super::super::*;
use super::world::*;
use crate::configuration::QuorumRule;
use crate::engine::{Fault, Transaction};
use crate::storage::Window;

struct Dice(ChaCha8Rng);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0.next_u64() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }
}

/// Writes that must be there, or must not be, once all has come to rest; by key.
#[derive(Default)]
struct Claims {
    asked: BTreeMap<RequestId, i64>,
    reads: BTreeMap<RequestId, BTreeSet<i64>>,
    done: BTreeSet<i64>,
    not_done: BTreeSet<i64>,
    counter: Counter,
    stepper: Stepper,
}

/// What a client asks of an interactive transaction.
#[derive(Clone, Copy)]
enum Call {
    Begin,
    /// To add this key.
    Step(i64),
    Finish,
    Abandon,
}

/// Adds keys in interactive transactions: all of one, or none.
#[derive(Default)]
struct Stepper {
    asked: Option<(RequestId, Call)>,
    open: Option<TransactionId>,
    /// Added in it; and those of which it was said that they were not.
    keys: BTreeSet<i64>,
    failed: BTreeSet<i64>,
    finished: u64,
    lost: u64,
}

impl Stepper {
    fn act(&mut self, world: &mut World, dice: &mut Dice, node: NodeId, key: &mut i64) {
        let Some(of) = self.open else {
            self.asked = Some((world.begin(node), Call::Begin));
            return;
        };
        self.asked = Some(match dice.below(8) {
            0..5 => {
                *key += 1;
                (world.step(node, of, insert(*key)), Call::Step(*key))
            }
            5 => (world.abandon(node, of), Call::Abandon),
            _ => (world.finish(node, of, None), Call::Finish),
        });
        if let Some((_, Call::Step(key))) = self.asked {
            self.keys.insert(key);
        }
    }

    /// What it was told; `gives_up`: it waits no longer.
    fn hear(
        &mut self,
        world: &World,
        done: &mut BTreeSet<i64>,
        not: &mut BTreeSet<i64>,
        gives_up: bool,
    ) {
        let Some((id, call)) = self.asked else { return };
        let reply = world.replies.get(&id);
        if reply.is_none() && !gives_up {
            return;
        }
        self.asked = None;
        match (call, reply) {
            (Call::Begin, Some(Reply::Began { transaction })) => self.open = Some(*transaction),
            (Call::Begin, _) => {}
            (Call::Step(_), Some(Reply::Stepped { error: None, .. })) => {}
            (Call::Step(key), Some(Reply::Stepped { error: Some(_), .. })) => {
                self.failed.insert(key);
            }
            (
                Call::Finish,
                Some(Reply::Done { .. } | Reply::Failed(ShardError::CommittedBelowQuorum { .. })),
            ) => {
                self.finished += 1;
                done.extend(self.keys.difference(&self.failed));
                not.extend(self.failed.iter());
                self.end();
            }
            (Call::Finish, Some(Reply::Failed(ShardError::TransactionLost { .. }))) => {
                self.lost += 1;
                self.never(not);
            }
            // It may be an entry, or become one.
            (Call::Finish, None | Some(Reply::Failed(ShardError::OutcomeUnknown))) => self.end(),
            // Nothing ran: it may be open still, and is tried again.
            (Call::Finish, Some(Reply::Failed(_))) => {}
            (_, Some(Reply::Failed(ShardError::TransactionLost { .. }))) => {
                self.lost += 1;
                self.never(not);
            }
            // Nobody asks for its end, so it has none.
            (Call::Step(_) | Call::Abandon, _) => self.never(not),
            (_, Some(other)) => panic!("{other:?}"),
        }
    }

    fn never(&mut self, not: &mut BTreeSet<i64>) {
        not.extend(self.keys.iter());
        self.end();
    }

    fn end(&mut self) {
        (self.open, self.keys, self.failed) = (None, BTreeSet::new(), BTreeSet::new());
    }
}

/// A row to which a client adds one, in sessions, and asks again until it knows.
#[derive(Default)]
struct Counter {
    session: Option<SessionId>,
    opening: Option<RequestId>,
    sequence: u64,
    acknowledged: u64,
    /// What it does at the moment, and in which session: its attempts that are not answered.
    current: Option<(SessionId, u64)>,
    attempts: BTreeMap<RequestId, (SessionId, u64)>,
    done: i64,
    unknown: i64,
    again: u64,
}

impl Counter {
    const ROW: i64 = -1;

    fn act(&mut self, world: &mut World, node: NodeId) {
        let Some(session) = self.session else {
            let id = world.send(node, Transaction::default(), Delivery::Opens);
            self.opening = Some(id);
            return;
        };
        if self.current.is_none() {
            self.sequence += 1;
            self.current = Some((session, self.sequence));
        } else {
            self.again += 1;
        }
        let (session, sequence) = self.current.expect("there is one");
        let once =
            Once { cluster: CLUSTER, log: LOG, session, sequence, acknowledged: self.acknowledged };
        let id = world.send(node, add(Self::ROW, 1), Delivery::Once(once));
        self.attempts.insert(id, (session, sequence));
    }

    fn hear(&mut self, world: &World) {
        if let Some(Reply::Session { session }) = self.opening.and_then(|id| world.replies.get(&id))
        {
            (self.session, self.opening) = (Some(*session), None);
        }
        let answered: Vec<RequestId> =
            self.attempts.keys().copied().filter(|id| world.replies.contains_key(id)).collect();
        for id in answered {
            // Whoever answers for one before comes too late.
            if self.attempts.remove(&id) != self.current {
                continue;
            }
            match &world.replies[&id] {
                Reply::Done { rows, .. } => {
                    assert_eq!(rows[0].affected, 1);
                    self.end(|counter| counter.done += 1);
                }
                Reply::Failed(
                    ShardError::CommittedBelowQuorum { .. } | ShardError::AlreadyDone { .. },
                ) => self.end(|counter| counter.done += 1),
                Reply::Failed(ShardError::Sql(error)) => panic!("{error}"),
                Reply::Failed(ShardError::SessionExpired) => {
                    self.session = None;
                    // Whether one of the other attempts did it is not known.
                    self.end(|counter| counter.unknown += 1);
                    (self.sequence, self.acknowledged) = (0, 0);
                }
                Reply::Failed(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Attempts that are still under way must change nothing.
    fn end(&mut self, count: impl FnOnce(&mut Self)) {
        count(self);
        self.current = None;
        self.acknowledged = self.sequence;
    }
}

impl Claims {
    fn hear(&mut self, world: &World) {
        self.counter.hear(world);
        self.stepper.hear(world, &mut self.done, &mut self.not_done, false);
        for (id, reply) in &world.replies {
            if let Some(acknowledged) = self.reads.remove(id) {
                if let Reply::Done { rows, .. } = reply {
                    let seen = rows[0].rows.iter().map(|row| match row[0] {
                        crate::engine::Value::Integer(key) => key,
                        _ => panic!("a key"),
                    });
                    let seen: BTreeSet<i64> = seen.collect();
                    assert!(
                        acknowledged.is_subset(&seen),
                        "a linearizable read misses {:?}",
                        acknowledged.difference(&seen).collect::<Vec<_>>()
                    );
                }
                continue;
            }
            let Some(key) = self.asked.remove(id) else { continue };
            match reply {
                Reply::Done { .. } | Reply::Failed(ShardError::CommittedBelowQuorum { .. }) => {
                    self.done.insert(key);
                }
                Reply::Failed(ShardError::OutcomeUnknown)
                | Reply::Compared { .. }
                | Reply::Session { .. }
                | Reply::Began { .. }
                | Reply::Stepped { .. } => {}
                Reply::Failed(_) => {
                    self.not_done.insert(key);
                }
            }
        }
    }
}

fn explore(seed: u64, steps: u32) -> [bool; 5] {
    let mut dice = Dice(ChaCha8Rng::seed_from_u64(seed));
    let nodes: &[NodeId] = if dice.one_in(3) { &[A, B] } else { &[A, B, C] };
    let (mut world, owner) = World::led(nodes);
    world.write(owner, insert(Counter::ROW));
    world.settle();
    world.limits.session_time_to_live = Duration::from_millis(dice.pick(&[100, 2_000, 600_000]));
    let write_quorum = dice.pick(&[QuorumRule::Majority, QuorumRule::All, QuorumRule::Count(1)]);
    let terms = Terms { write_quorum, asynchronous: dice.one_in(4), ..world.terms.clone() };
    world.set_terms(terms);
    world.sql.effect_bytes = 200;
    world.limits.sync_after = 5;
    world.limits.interactive_time = Duration::from_millis(dice.pick(&[300, 5_000]));
    world.limits.interactive_idle = Duration::from_millis(dice.pick(&[100, 2_000]));
    if dice.one_in(2) {
        // Logs that keep next to nothing, in memory or at all.
        world.window = Window { entries_max: 3, bytes_max: 300 };
        world.limits.retain_bytes = 500;
        world.limits.retain_bytes_max = 2000;
        world.limits.retain_age = Duration::from_millis(dice.below(500));
        for node in nodes {
            world.kill(*node, usize::MAX, false);
            world.start(*node);
        }
    }
    let mut claims = Claims::default();
    let mut key = 0;
    for _ in 0..steps {
        step(&mut world, &mut dice, &mut claims, &mut key, nodes);
        claims.hear(&world);
    }
    // Everything comes to rest.
    world.cut.clear();
    for node in nodes {
        world.hosts.get_mut(node).unwrap().engine.fail = None;
        if world.hosts[node].shard.is_none() {
            world.start(*node);
        }
    }
    for _ in 0..10 {
        world.run(1000);
        nodes.iter().for_each(|node| _ = world.copy_to(*node));
    }
    world.run(1000);
    claims.hear(&world);
    let mut keys = world.keys(nodes[0]);
    assert!(keys.contains(&Counter::ROW));
    for node in nodes {
        assert_eq!(world.at(*node).broken(), None, "seed {seed}");
        assert_eq!(world.keys(*node), keys, "seed {seed}: {node:?} differs");
        assert_eq!(world.at(*node).applied(), world.at(*node).log().commit(), "seed {seed}");
    }
    keys.remove(&Counter::ROW);
    let counter = &claims.counter;
    let open = i64::from(counter.current.is_some());
    let held = match world.hosts[&nodes[0]].engine.table("t")[&Counter::ROW] {
        crate::engine::Value::Integer(value) => value - 1,
        ref other => panic!("{other:?}"),
    };
    assert!(
        (counter.done..=counter.done + counter.unknown + open).contains(&held),
        "seed {seed}: {held} were added, {} said to be done, {} unknown, {open} open",
        counter.done,
        counter.unknown
    );
    let lost: Vec<_> = claims.done.difference(&keys).collect();
    assert!(lost.is_empty(), "seed {seed}: acknowledged and lost {lost:?}");
    let ghosts: Vec<_> = claims.not_done.intersection(&keys).collect();
    assert!(ghosts.is_empty(), "seed {seed}: said not to be done, and is {ghosts:?}");
    let owner = world.owner().unwrap_or_else(|| panic!("seed {seed}: nobody owns it"));
    let mark = world.mark(owner);
    let last = world.write(owner, insert(key + 1));
    world.run(200);
    assert!(matches!(world.replies[&last], Reply::Done { .. }), "seed {seed}");
    let compacted = nodes.iter().any(|node| world.at(*node).log().snapshot().index > Index::ZERO);
    let hashed = world.hashes[&mark].values().filter(|hashed| hashed.is_ok()).count();
    assert_eq!(hashed, nodes.len(), "seed {seed}: {:?}", world.hashes[&mark]);
    let stepper = &claims.stepper;
    let (finished, lost) = (stepper.finished > 0, stepper.lost > 0);
    [compacted, world.reads > 0, claims.counter.again > 0, finished, lost]
}

/// Runs all of them; some must have come by what is interesting.
fn explore_all(seeds: std::ops::Range<u64>, steps: u32) {
    let count = usize::try_from(seeds.end - seeds.start).unwrap();
    let reached: Vec<[bool; 5]> = seeds.map(|seed| explore(seed, steps)).collect();
    let names = [
        "a log was compacted",
        "entries were read back",
        "asked again",
        "an interactive transaction was finished",
        "an interactive transaction was lost",
    ];
    for (what, name) in names.iter().enumerate() {
        let runs = reached.iter().filter(|run| run[what]).count();
        assert!(runs > count / 15, "{name} in {runs} of {count} runs");
    }
}

fn step(world: &mut World, dice: &mut Dice, claims: &mut Claims, key: &mut i64, nodes: &[NodeId]) {
    let (node, other) = (dice.pick(nodes), dice.pick(nodes));
    let up = world.hosts[&node].shard.is_some();
    match dice.below(100) {
        0..6 if up => claims.counter.act(world, node),
        6..11 => {
            let Claims { stepper, done, not_done, .. } = claims;
            if stepper.asked.is_some() && dice.one_in(8) {
                stepper.hear(world, done, not_done, true);
            }
            let owner = world.owner().filter(|_| !dice.one_in(8)).unwrap_or(node);
            if stepper.asked.is_none() && world.hosts[&owner].shard.is_some() {
                stepper.act(world, dice, owner, key);
            }
        }
        11..20 if up => {
            *key += 1;
            let id = world.write(node, insert(*key));
            claims.asked.insert(id, *key);
        }
        20 if up => {
            world.mark(node);
        }
        21..24 if up => {
            let acknowledged = claims.done.clone();
            let id = world.read(node, select(), Consistency::Linearizable);
            claims.reads.insert(id, acknowledged);
        }
        24..50 if node != other => {
            world.deliver(node, other);
        }
        50..66 => {
            world.persist(node);
        }
        66..80 => {
            world.step_engine(node);
        }
        80..88 => {
            world.now = world.now + Duration::from_millis(dice.below(40));
            world.tick_all();
        }
        88..90 => {
            let _ = world.answer_read(node) || (dice.one_in(4) && world.copy_to(node));
        }
        90..92 if dice.one_in(2) => world.settle(),
        92 if dice.one_in(3) && node != other => world.cut(node, other),
        93 if dice.one_in(2) => world.cut.clear(),
        94 if dice.one_in(2) => {
            let fault = Fault::Io("as told".to_owned());
            world.hosts.get_mut(&node).unwrap().engine.fail = Some(fault);
        }
        95 if up && dice.one_in(6) => {
            let keep = usize::try_from(dice.below(4)).unwrap();
            let power = dice.one_in(2);
            world.kill(node, keep, power);
            // What it was asked and had not answered, nobody knows.
            claims.asked.retain(|id, _| world.replies.contains_key(id) || !dice.one_in(3));
        }
        96..98 if !up => world.start(node),
        98 if node != other => {
            if let Some(wire) = world.wires.get_mut(&(node, other)) {
                wire.pop_front();
            }
        }
        99 => {
            let preferred = Some(node).filter(|_| dice.one_in(2));
            let terms = Terms { preferred, ..world.terms.clone() };
            world.set_terms(terms);
        }
        _ => {}
    }
}

#[test]
fn random_schedules_lose_nothing_and_double_nothing_first_part() {
    explore_all(0..300, 600);
}

#[test]
fn random_schedules_lose_nothing_and_double_nothing_second_part() {
    explore_all(1000..1100, 3000);
}

#[test]
#[ignore = "takes minutes; run it after a change of core::shard"]
fn very_many_random_schedules_lose_nothing_and_double_nothing() {
    explore_all(2000..20_000, 1500);
}
