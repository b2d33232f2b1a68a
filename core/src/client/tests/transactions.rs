//! Interactive transactions of a client.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

use super::super::*;
use super::world::*;
use crate::marks::reaches;
use crate::shard::{ShardError, TransactionId};

/// Begins one, with all servers well.
fn begun(world: &mut World) -> TransactionId {
    let ticket = world.request(Kind::Begin, 0, 2000);
    world.settle();
    let Ok(done) = &world.answers[&ticket] else { panic!("{:?}", world.answers) };
    done.transaction.expect("it is open")
}

fn used(world: &World) -> u8 {
    u8::try_from(world.using().expect("one is in use").0).unwrap()
}

fn is_lost(answer: Option<&Answer>) -> bool {
    matches!(answer, Some(Err(ClientError::Shard(ShardError::TransactionLost { .. }))))
}

#[test]
fn a_transaction_is_begun_goes_step_by_step_and_is_done_when_it_is_finished() {
    let mut world = World::of(3);
    let of = begun(&mut world);
    for key in [1, 2] {
        let step = world.request(Kind::Step(of), key, 1000);
        world.settle();
        assert_eq!(world.answers[&step].as_ref().expect("it ran").rows[0].affected, 1);
    }
    assert!(world.keys.is_empty(), "nothing is done yet");
    let finish = world.request(Kind::Finish(of), 0, 1000);
    world.settle();
    let at = world.answers[&finish].as_ref().expect("it is done").at;
    assert_eq!((at.index.0, world.keys.len()), (world.index, 2));
    // What it did is seen by whoever reads as usual.
    let read = world.request(Kind::Read(Reading::Session), 0, 1000);
    world.servers.values_mut().for_each(|server| server.applied = at.index.0);
    world.settle();
    assert!(world.answers[&read].as_ref().expect("it is there").at >= at);
}

#[test]
fn its_session_is_open_before_it_is_for_nobody_else_writes_then() {
    let mut world = World::of(3);
    begun(&mut world);
    assert_eq!(world.sessions.len(), 1);
}

#[test]
fn a_statement_that_fails_leaves_the_transaction_open() {
    let mut world = World::of(3);
    let of = begun(&mut world);
    let bad = world.request(Kind::Step(of), -1, 1000);
    let good = world.request(Kind::Step(of), 1, 1000);
    world.settle();
    assert!(matches!(&world.answers[&bad], Err(ClientError::Shard(ShardError::Sql(_)))));
    assert!(world.answers[&good].is_ok());
    let undone = world.request(Kind::Abandon(of), 0, 1000);
    world.settle();
    assert!(world.answers[&undone].is_ok() && world.open.is_none() && world.keys.is_empty());
}

#[test]
fn a_step_whose_answer_is_lost_loses_the_transaction_and_undoes_it() {
    reaches!(TransactionLost);
    for mood in [Mood::DoesAndDrops, Mood::Unsure] {
        let mut world = World::of(3);
        let of = begun(&mut world);
        let first = used(&world);
        world.mood(first, mood.clone());
        let step = world.request(Kind::Step(of), 1, 2000);
        world.settle();
        world.pass(100);
        assert!(is_lost(world.answers.get(&step)), "{mood:?}: {:?}", world.answers);
        world.mood(first, Mood::Well);
        world.pass(2000);
        // One whose connection went down with it is found by the owner, when nothing is asked.
        assert!(mood == Mood::DoesAndDrops || world.open.is_none(), "{mood:?}: open still");
        assert!(world.keys.is_empty());
    }
}

#[test]
fn a_step_that_is_not_answered_in_its_time_loses_the_transaction() {
    let mut world = World::with(3, |config| config.silence = std::time::Duration::from_secs(60));
    world.settle();
    let of = begun(&mut world);
    let first = used(&world);
    world.mood(first, Mood::Frozen);
    let step = world.request(Kind::Step(of), 1, 300);
    world.settle();
    world.pass(301);
    assert!(is_lost(world.answers.get(&step)), "{:?}", world.answers);
}

#[test]
fn a_step_that_certainly_did_not_run_is_asked_for_again() {
    for error in [ShardError::Busy, ShardError::NotOwner { owner: None }, ShardError::TimedOut] {
        let mut world = World::of(3);
        let of = begun(&mut world);
        let first = used(&world);
        world.mood(first, Mood::Says(error.clone()));
        let step = world.request(Kind::Step(of), 1, 5000);
        world.settle();
        world.mood(first, Mood::Well);
        world.pass(1000);
        assert!(matches!(world.answers.get(&step), Some(Ok(_))), "{error}: {:?}", world.answers);
        assert_eq!(world.open, Some((of, vec![1])), "{error}: it ran once");
    }
}

#[test]
fn a_finish_whose_answer_is_lost_is_sent_again_and_done_once() {
    reaches!(OutcomeInDoubt);
    for mood in [Mood::DoesAndDrops, Mood::Unsure] {
        let mut world = World::of(3);
        let of = begun(&mut world);
        let step = world.request(Kind::Step(of), 7, 1000);
        world.settle();
        assert!(world.answers[&step].is_ok());
        let first = used(&world);
        world.mood(first, mood.clone());
        let finish = world.request(Kind::Finish(of), 0, 5000);
        world.settle();
        world.mood(first, Mood::Well);
        world.pass(1000);
        assert!(matches!(world.answers.get(&finish), Some(Ok(_))), "{mood:?}: {:?}", world.answers);
        assert_eq!(world.keys[&7], 1);
    }
}

#[test]
fn a_finish_of_one_that_is_gone_is_told_so_at_once() {
    let mut world = World::of(3);
    let of = begun(&mut world);
    world.open = None;
    let finish = world.request(Kind::Finish(of), 0, 5000);
    world.settle();
    assert!(is_lost(world.answers.get(&finish)), "{:?}", world.answers);
}

#[test]
fn a_finish_whose_session_is_gone_does_not_wait_for_another_one() {
    reaches!(SessionReplaced);
    let mut world = World::of(3);
    let of = begun(&mut world);
    world.sessions.clear();
    let finish = world.request(Kind::Finish(of), 0, 5000);
    world.settle();
    assert!(is_lost(world.answers.get(&finish)), "{:?}", world.answers);
    assert_eq!((world.open.clone(), world.keys.len()), (None, 0));
}

#[test]
fn one_that_begins_when_nobody_waits_any_more_is_undone() {
    reaches!(OrphanUndone);
    let mut world = World::of(3);
    let first = begun(&mut world);
    let ended = world.request(Kind::Abandon(first), 0, 1000);
    world.settle();
    assert!(world.answers[&ended].is_ok());
    let ticket = world.request(Kind::Begin, 0, 2000);
    world.step_there();
    assert!(world.open.is_some(), "the answer is on its way");
    world.forget(ticket);
    world.settle();
    assert_eq!((world.open.clone(), world.client.held().flights), (None, 0));
}

/// What an application asks for next in a transaction of two steps, and how it must end.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Stage {
    Begin,
    Step(TransactionId, i64),
    Finish(TransactionId),
    /// Done so often, at least and at most.
    Over(u32, u32),
}

fn next(stage: Stage, first_key: i64, answer: &Answer) -> Stage {
    match (stage, answer) {
        (Stage::Begin, Ok(done)) => Stage::Step(done.transaction.expect("it is open"), first_key),
        (Stage::Step(of, key), Ok(_)) if key == first_key => Stage::Step(of, key + 1),
        (Stage::Step(of, _), Ok(_)) => Stage::Finish(of),
        (Stage::Finish(_), Ok(_)) => Stage::Over(1, 1),
        (Stage::Finish(_), Err(ClientError::OutcomeUnknown { .. })) => Stage::Over(0, 1),
        (_, Err(ClientError::TimedOut { .. } | ClientError::Shard(_))) => Stage::Over(0, 0),
        other => panic!("told {other:?}"),
    }
}

fn explore(seed: u64) -> [bool; 3] {
    let mut dice = ChaCha8Rng::seed_from_u64(seed);
    let mut below = move |n: u64| dice.next_u64() % n;
    let mut world = World::with(3, |config| {
        config.strategy = [Strategy::Sticky, Strategy::RoundRobinRequest][(seed % 2) as usize];
    });
    // By the first of its two keys: where it is, and the ticket that it waits for.
    let mut all: Vec<(i64, Stage, TicketId)> = Vec::new();
    for step in 0..600u64 {
        let server = u8::try_from(below(3) + 1).unwrap();
        match below(100) {
            0..5 if step < 500 => {
                let key = i64::try_from(step).unwrap() * 2 + 1;
                all.push((key, Stage::Begin, world.request(Kind::Begin, 0, 3000)));
            }
            5..40 => _ = world.step_there(),
            40..76 => _ = world.step_back(),
            76..84 => world.tick(below(30)),
            84 => world.tick(below(2500)),
            85 => world.crash(server),
            86..90 => world.start(server),
            90 => world.conns.keys().next().copied().into_iter().for_each(|id| world.close(id)),
            91 if below(3) == 0 => world.sessions.clear(),
            // The owner ends what takes too long.
            92 => world.open = None,
            93 => {
                let moods = [
                    Mood::Frozen,
                    Mood::DoesAndDrops,
                    Mood::Unsure,
                    Mood::Says(ShardError::NotOwner { owner: None }),
                    Mood::Says(ShardError::TimedOut),
                ];
                world.mood(server, moods[usize::try_from(below(5)).unwrap()].clone());
            }
            94..99 => world.mood(server, Mood::Well),
            _ => {}
        }
        go_on(&mut world, &mut all);
    }
    for server in 1..=3 {
        world.mood(server, Mood::Well);
        world.start(server);
    }
    for _ in 0..40 {
        world.pass(1000);
        world.open.take_if(|_| below(4) == 0);
        go_on(&mut world, &mut all);
    }
    let mut reached = [false; 3];
    for (key, stage, _) in all {
        let Stage::Over(least, most) = stage else { panic!("seed {seed}: {key} is at {stage:?}") };
        let times = [key, key + 1].map(|key| world.keys.get(&key).copied().unwrap_or_default());
        assert_eq!(times[0], times[1], "seed {seed}: half of {key} was done");
        assert!((least..=most).contains(&times[0]), "seed {seed}: {key} done {times:?}, {stage:?}");
        reached[usize::try_from(least + most).unwrap()] = true;
    }
    reached
}

/// Each whose answer is there asks for what comes next.
fn go_on(world: &mut World, all: &mut [(i64, Stage, TicketId)]) {
    for (key, stage, ticket) in all {
        let Some(answer) = world.answers.get(ticket).filter(|_| !matches!(stage, Stage::Over(..)))
        else {
            continue;
        };
        *stage = next(*stage, *key, answer);
        *ticket = match *stage {
            Stage::Begin | Stage::Over(..) => continue,
            Stage::Step(of, key) => world.request(Kind::Step(of), key, 1500),
            Stage::Finish(of) => world.request(Kind::Finish(of), 0, 3000),
        };
    }
}

#[test]
fn random_failures_leave_each_transaction_done_once_as_a_whole_or_not_at_all() {
    let reached: Vec<[bool; 3]> = (0..1500).map(explore).collect();
    for (what, name) in ["not done", "unknown", "done"].iter().enumerate() {
        let runs = reached.iter().filter(|run| run[what]).count();
        assert!(runs > 50, "{name} in {runs} runs");
    }
}
