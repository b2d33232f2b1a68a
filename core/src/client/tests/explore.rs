//! Random schedules of servers that fail while a client writes and reads.

use std::collections::BTreeMap;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

use super::super::*;
use super::world::*;
use crate::shard::ShardError;

fn explore(seed: u64, steps: u32) -> [bool; 3] {
    let mut dice = ChaCha8Rng::seed_from_u64(seed);
    let mut below = move |n: u64| dice.next_u64() % n;
    let strategies = [Strategy::Sticky, Strategy::RoundRobinConnect, Strategy::RoundRobinRequest];
    let strategy = strategies[usize::try_from(below(3)).unwrap()];
    let mut world = World::with(3, |config| config.strategy = strategy);
    let (mut key, mut writes, mut reads) = (0, BTreeMap::new(), BTreeMap::new());
    let mut floor = 0;
    for _ in 0..steps {
        let server = u8::try_from(below(3) + 1).unwrap();
        match below(100) {
            0..12 => {
                key += 1;
                let ms = [50, 1000, 20_000][usize::try_from(below(3)).unwrap()];
                let deadline = world.now + std::time::Duration::from_millis(ms);
                writes.insert(world.write(key, ms), (key, deadline));
            }
            12..18 => {
                let ticket = world.request(Kind::Read(Reading::Session), 0, 5000);
                reads.insert(ticket, floor);
            }
            18..48 => _ = world.step_there(),
            48..78 => _ = world.step_back(),
            78..84 => world.tick(below(40)),
            84..86 => world.tick(below(2000)),
            86 => world.crash(server),
            87..90 => world.start(server),
            90 => {
                let id = world.conns.keys().next().copied();
                id.into_iter().for_each(|id| world.close(id));
            }
            91 if below(4) == 0 => world.sessions.clear(),
            92..94 => {
                let mood = match below(6) {
                    0 => Mood::Frozen,
                    1 => Mood::DoesAndDrops,
                    2 => Mood::Unsure,
                    3 => Mood::Says(ShardError::NotOwner { owner: None }),
                    4 => Mood::Says(ShardError::Busy),
                    _ => Mood::Says(ShardError::TimedOut),
                };
                world.mood(server, mood);
            }
            94..98 => world.mood(server, Mood::Well),
            _ => {
                let index = world.index;
                world.servers.values_mut().for_each(|server| {
                    server.applied = server.applied.max(below(index + 1));
                });
            }
        }
        for (ticket, answer) in &world.answers {
            if writes.contains_key(ticket)
                && let Ok(Done { at, .. }) = answer
            {
                floor = floor.max(at.index.0);
            }
        }
    }
    for server in 1..=3 {
        world.mood(server, Mood::Well);
        world.start(server);
    }
    let index = world.index;
    world.servers.values_mut().for_each(|server| server.applied = index);
    world.pass(60_000);
    let (mut done, mut unknown, mut not) = (false, false, false);
    for (ticket, (key, deadline)) in &writes {
        assert!(world.now >= *deadline);
        let times = world.keys.get(key).copied().unwrap_or_default();
        let answer = world.answers.get(ticket);
        let fits = match answer {
            Some(Ok(_)) => {
                done = true;
                times == 1
            }
            Some(Err(ClientError::OutcomeUnknown { .. })) => {
                unknown = true;
                times <= 1
            }
            Some(Err(ClientError::TimedOut { .. } | ClientError::Shard(_))) => {
                not = true;
                times == 0
            }
            Some(Err(ClientError::Busy | ClientError::Refused(_) | ClientError::Denied(_)))
            | None => false,
        };
        assert!(fits, "seed {seed}: {key} was done {times} times, and told {answer:?}");
    }
    for (ticket, floor) in reads {
        match world.answers.get(&ticket) {
            Some(Ok(Done { at, .. })) => {
                assert!(at.index.0 >= floor, "seed {seed}: read at {at:?}, wrote at {floor}");
            }
            Some(Err(ClientError::TimedOut { .. } | ClientError::Shard(_))) => {}
            other => panic!("seed {seed}: a read is told {other:?}"),
        }
    }
    [done, unknown, not]
}

#[test]
fn random_failures_leave_each_write_done_once_or_told_otherwise() {
    let reached: Vec<[bool; 3]> = (0..1500).map(|seed| explore(seed, 400)).collect();
    for (what, name) in ["done", "unknown", "not done"].iter().enumerate() {
        let runs = reached.iter().filter(|run| run[what]).count();
        assert!(runs > 100, "{name} in {runs} runs");
    }
}
