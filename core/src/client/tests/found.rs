//! What the simulator has found.

use super::super::*;
use super::world::*;
use crate::engine::Position;
use crate::ids::{Index, Term};
use crate::shard::ShardError;

#[test]
fn a_session_that_is_opened_below_the_write_quorum_is_no_answer_to_the_write_that_waits_for_it() {
    let mut world = World::of(3);
    let at = Position { index: Index(9), term: Term(1) };
    for server in 1..=3 {
        world.mood(server, Mood::Says(ShardError::CommittedBelowQuorum { at }));
    }
    let (short, long) = (world.write(1, 500), world.write(2, 5000));
    world.settle();
    world.pass(600);
    let answer = &world.answers[&short];
    assert!(matches!(answer, Err(ClientError::TimedOut { .. })), "{answer:?}");
    assert!(!world.answers.contains_key(&long), "it has time left");
    (1..=3).for_each(|server| world.mood(server, Mood::Well));
    world.pass(2000);
    assert!(world.answers[&long].is_ok(), "{:?}", world.answers[&long]);
    assert_eq!(world.keys.get(&1), None);
}

#[test]
fn sessions_that_end_before_anything_is_done_in_them_are_opened_ever_more_slowly() {
    let mut world = World::of(1);
    let ticket = world.write(1, 60_000);
    let until = world.now + std::time::Duration::from_secs(20);
    while world.now < until {
        // Each is forgotten before the first request comes to it.
        if matches!(world.there.front(), Some((_, ToServer::Sql { .. }))) {
            world.sessions.clear();
        }
        if !(world.step_there() || world.step_back()) {
            world.tick(5);
        }
    }
    let opened = world.index;
    assert!(!world.answers.contains_key(&ticket));
    assert!((15..60).contains(&opened), "{opened} sessions in 20 seconds");
    world.settle();
    world.pass(3000);
    assert!(world.answers[&ticket].is_ok(), "{:?}", world.answers[&ticket]);
}

/// Seed 8012844: one that has time left waits in front, and behind it an application asks again and again.
#[test]
fn requests_that_ran_out_of_time_while_no_server_was_there_are_not_kept() {
    let mut world = World::of(1);
    world.crash(1);
    let long = world.write(0, 60_000);
    for key in 1..40 {
        world.write(key, 100);
        let forgotten = world.write(key, 60_000);
        world.forget(forgotten);
        world.pass(150);
    }
    let held = world.client.held();
    assert_eq!((held.requests, held.ready), (1, 1));
    world.start(1);
    world.pass(3000);
    assert!(world.answers[&long].is_ok(), "{:?}", world.answers[&long]);
}

/// Seed 8076150: what the client knows is old. Those that should be there are gone, and the one that is
/// there is listed as away, or in another data centre.
#[test]
fn servers_that_should_be_there_do_not_keep_a_client_from_the_one_that_is() {
    for far in [false, true] {
        let mut world = World::with(9, |config| {
            config.retry_max = std::time::Duration::from_millis(50);
            config.data_center = far.then(|| "odd".to_owned());
            config.seeds.truncate(1);
        });
        let last = if far { 8 } else { 9 };
        world.layout.servers[last - 1].is_online = far;
        let first = world.write(1, 1000);
        world.settle();
        assert!(world.answers[&first].is_ok());
        let last = u8::try_from(last).unwrap();
        let gone = (1..=9).filter(|server| *server != last);
        gone.for_each(|server| world.mood(server, Mood::Frozen));
        let ticket = world.write(2, 60_000);
        world.pass(30_000);
        let answer = world.answers.get(&ticket);
        assert!(answer.is_some_and(Result::is_ok), "{answer:?} {:?}", world.dialed);
    }
}
