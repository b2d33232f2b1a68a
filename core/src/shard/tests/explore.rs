//! Random schedules: whatever is delivered, lost, delayed, killed or fails, and when.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

use super::super::*;
use super::world::*;
use crate::configuration::QuorumRule;
use crate::engine::Fault;
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
}

impl Claims {
    fn hear(&mut self, world: &World) {
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
                Reply::Failed(ShardError::OutcomeUnknown) | Reply::Compared { .. } => {}
                Reply::Failed(_) => {
                    self.not_done.insert(key);
                }
            }
        }
    }
}

fn explore(seed: u64, steps: u32) -> [bool; 2] {
    let mut dice = Dice(ChaCha8Rng::seed_from_u64(seed));
    let nodes: &[NodeId] = if dice.one_in(3) { &[A, B] } else { &[A, B, C] };
    let (mut world, _) = World::led(nodes);
    let write_quorum = dice.pick(&[QuorumRule::Majority, QuorumRule::All, QuorumRule::Count(1)]);
    let terms = Terms { write_quorum, asynchronous: dice.one_in(4), ..world.terms.clone() };
    world.set_terms(terms);
    world.sql.effect_bytes = 200;
    world.limits.sync_after = 5;
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
    let keys = world.keys(nodes[0]);
    for node in nodes {
        assert_eq!(world.at(*node).broken(), None, "seed {seed}");
        assert_eq!(world.keys(*node), keys, "seed {seed}: {node:?} differs");
        assert_eq!(world.at(*node).applied(), world.at(*node).log().commit(), "seed {seed}");
    }
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
    [compacted, world.reads > 0]
}

/// Runs all of them; some must have come by what is interesting.
fn explore_all(seeds: std::ops::Range<u64>, steps: u32) {
    let count = usize::try_from(seeds.end - seeds.start).unwrap();
    let reached: Vec<[bool; 2]> = seeds.map(|seed| explore(seed, steps)).collect();
    for (what, name) in ["a log was compacted", "entries were read back"].iter().enumerate() {
        let runs = reached.iter().filter(|run| run[what]).count();
        assert!(runs > count / 10, "{name} in {runs} of {count} runs");
    }
}

fn step(world: &mut World, dice: &mut Dice, claims: &mut Claims, key: &mut i64, nodes: &[NodeId]) {
    let (node, other) = (dice.pick(nodes), dice.pick(nodes));
    let up = world.hosts[&node].shard.is_some();
    match dice.below(100) {
        0..20 if up => {
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
