use super::super::*;
use super::world::*;
use crate::engine::{Engine as _, Fault};
use crate::marks::reaches;

fn io() -> Option<Fault> {
    Some(Fault::Io("as told".to_owned()))
}

#[test]
fn an_engine_that_fails_to_commit_gets_the_entry_again_and_the_write_is_answered() {
    let (mut world, owner) = World::led(&[A, B, C]);
    let id = world.write(owner, insert(1));
    world.step_engine(owner);
    world.settle_but(&[owner]);
    let host = world.hosts.get_mut(&owner).unwrap();
    assert!(matches!(host.calls.front().map(|c| &c.what), Some(CallKind::Commit(..))));
    host.engine.fail = io();
    world.run(500);
    assert!(matches!(world.replies[&id], Reply::Done { .. }), "{:?}", world.replies.get(&id));
    assert!([A, B, C].into_iter().all(|n| world.keys(n) == [1].into()));
}

#[test]
fn an_engine_that_fails_to_run_a_batch_is_opened_again_and_runs_it() {
    let (mut world, owner) = World::led(&[A, B, C]);
    let id = world.write(owner, insert(1));
    world.hosts.get_mut(&owner).unwrap().engine.fail = io();
    world.run(500);
    assert!(matches!(world.replies[&id], Reply::Done { .. }), "{:?}", world.replies.get(&id));
}

#[test]
fn an_engine_that_fails_to_apply_or_to_open_is_tried_again_ever_more_slowly() {
    let (mut world, owner) = World::led(&[A, B, C]);
    world.run(200);
    let other = world.other_than(owner);
    let epoch = world.at(other).follow.epoch;
    world.hosts.get_mut(&other).unwrap().engine.fail = io();
    world.write(owner, insert(1));
    world.settle();
    for _ in 0..200 {
        world.hosts.get_mut(&other).unwrap().engine.fail = io();
        world.run(10);
    }
    let tries = world.at(other).follow.epoch - epoch;
    assert!((3..12).contains(&tries), "{tries} tries in two seconds");
    world.hosts.get_mut(&other).unwrap().engine.fail = None;
    world.run(4000);
    assert_eq!(world.keys(other), [1].into());
}

#[test]
fn a_copy_that_differs_stops_and_is_not_written_over() {
    // Of another history, or of the same and with a row that nobody wrote through the log.
    for term_off in [7, 0] {
        let (mut world, owner) = World::led(&[A, B, C]);
        world.run(200);
        let other = world.other_than(owner);
        let engine = &mut world.hosts.get_mut(&other).unwrap().engine;
        let held = engine.position();
        let term = crate::ids::Term(held.term.0 + term_off);
        let at = Position { index: held.index.next(), term };
        engine.execute(&[insert(2)], &crate::engine::SqlLimits::default()).unwrap();
        engine.commit(at, &[]).unwrap();
        world.kill(other, 0, false);
        world.start(other);
        world.write(owner, insert(1));
        world.settle();
        if term_off == 0 {
            world.write(owner, add(1, 5));
        }
        world.run(1000);
        let fault = world.at(other).broken().cloned();
        assert!(matches!(fault, Some(Fault::Conflict { .. })), "{term_off}: {fault:?}");
        assert_eq!(world.keys(other), [2].into());
        // Its log goes on: it counts for what it holds.
        assert_eq!(world.at(other).log().commit(), world.at(owner).log().commit());
    }
}

#[test]
fn an_owner_whose_copy_fails_for_good_hands_over() {
    let (mut world, owner) = World::led(&[A, B, C]);
    world.run(200);
    world.hosts.get_mut(&owner).unwrap().engine.fail = Some(Fault::Corrupt("as told".to_owned()));
    world.write(owner, insert(1));
    world.run(3000);
    let next = world.owner().expect("another owns it");
    assert_ne!(next, owner);
    let id = world.write(next, insert(2));
    world.settle();
    assert!(matches!(world.replies[&id], Reply::Done { .. }));
}

#[test]
fn an_owner_whose_disk_is_full_hands_over_and_follows_once_there_is_room() {
    let (mut world, owner) = World::led(&[A, B, C]);
    world.run(200);
    world.hosts.get_mut(&owner).unwrap().full = true;
    let id = world.write(owner, insert(1));
    world.run(3000);
    let next = world.owner().expect("another owns it");
    assert_ne!(next, owner);
    assert!(!matches!(world.replies.get(&id), Some(Reply::Done { .. })));
    let id = world.write(next, insert(2));
    world.settle();
    assert!(matches!(world.replies[&id], Reply::Done { .. }));
    // It opens each time, what comes from the log fails, and it says what is wrong.
    world.run(1000);
    let lack = world.at(owner).lack().expect("it is of no use");
    assert!(lack.contains("cannot be written") && lack.contains("no space"), "{lack}");
    world.hosts.get_mut(&owner).unwrap().full = false;
    world.run(1000);
    assert_eq!(world.at(owner).lack(), None);
    assert_eq!(world.keys(owner), [2].into());
}

#[test]
fn a_failure_that_passes_leaves_the_owner_in_office() {
    let (mut world, owner) = World::led(&[A, B, C]);
    world.run(200);
    world.hosts.get_mut(&owner).unwrap().full = true;
    let id = world.write(owner, insert(1));
    world.run(100);
    world.hosts.get_mut(&owner).unwrap().full = false;
    world.run(3000);
    assert!(matches!(world.replies[&id], Reply::Done { .. }), "{:?}", world.replies.get(&id));
    assert_eq!((world.owner(), world.at(owner).lack()), (Some(owner), None));
}

#[test]
fn a_process_that_dies_between_the_commit_of_the_log_and_that_of_the_copy_replays() {
    for power in [false, true] {
        let (mut world, owner) = World::led(&[A, B, C]);
        world.write(owner, insert(1));
        world.step_engine(owner);
        world.settle_but(&[owner]);
        world.kill(owner, usize::MAX, power);
        world.start(owner);
        world.run(3000);
        assert!([A, B, C].into_iter().all(|n| world.keys(n) == [1].into()), "{power}");
    }
}

#[test]
fn a_copy_that_is_ahead_of_its_own_disks_log_after_a_crash_goes_on() {
    // The others held the entry, so that it was committed and in the copy before the owner's own log
    // had it on disk.
    let (mut world, owner) = World::led(&[A, B, C]);
    world.run(200);
    let others: Vec<NodeId> = [A, B, C].into_iter().filter(|n| *n != owner).collect();
    let id = world.write(owner, insert(1));
    world.step_engine(owner);
    for other in &others {
        while world.deliver(owner, *other) {}
        while world.persist(*other) {}
        while world.deliver(*other, owner) {}
    }
    while world.step_engine(owner) {}
    assert!(matches!(world.replies[&id], Reply::Done { .. }));
    world.kill(owner, 0, false);
    world.start(owner);
    assert!(world.at(owner).log().last_index() < world.hosts[&owner].engine.position().index);
    world.run(3000);
    assert_eq!(world.at(owner).broken(), None);
    let next = world.owner().expect("somebody owns it");
    world.write(next, insert(2));
    world.run(500);
    assert!([A, B, C].into_iter().all(|n| world.keys(n) == [1, 2].into()));
}

#[test]
fn an_entry_of_a_later_version_stops_a_copy_and_what_it_was_asked_before_counts_for_nothing() {
    let (mut world, owner) = World::led(&[A, B, C]);
    world.run(200);
    let other = world.other_than(owner);
    world.write(owner, insert(1));
    world.settle_but(&[other]);
    let later = bytes::Bytes::from_static(&[200, 1, 2]);
    world.with(owner, |shard, _| shard.raft.propose(later).map(|_| ())).unwrap();
    world.settle_but(&[other]);
    world.run(200);
    for node in [A, B, C] {
        let fault = world.at(node).broken().cloned();
        assert!(matches!(fault, Some(Fault::Unreadable { .. })), "{node:?}: {fault:?}");
        assert_eq!(world.keys(node), [1].into());
    }
}

#[test]
fn a_copy_that_has_nothing_of_its_log_answers_no_request_for_a_vote() {
    use crate::ids::{LogId, Term};
    use crate::raft::{Body, Limits, Message, Raft, Settings};
    use rand_core::SeedableRng as _;

    let settings = Settings {
        node: C,
        log: LogId(7),
        content: crate::raft::Content::Apart,
        heartbeat: Duration::from_millis(100),
        election_min: Duration::from_millis(300),
        election_max: Duration::from_millis(600),
        limits: Limits::default(),
    };
    let now = crate::Time::from_millis(1);
    let rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    let raft = Raft::new(settings, crate::RecoveredLog::default(), rng, now);
    let mut shard = Shard::new(raft, (None, None), ShardLimits::default(), now);
    let last_index = crate::ids::Index(9);
    let body = Body::Vote { last_index, last_term: Term(3), transfer: false };
    shard.receive(now, A, Message { term: Term(4), body });
    shard.flush(now);
    assert!(shard.take_batch(now).is_none() && shard.next_message().is_none());
}

#[test]
fn a_copy_of_another_history_is_found_out_when_it_is_opened() {
    reaches!(CopyDiverged);
    let (mut world, owner) = World::led(&[A, B, C]);
    world.run(200);
    let other = world.other_than(owner);
    let held = world.hosts[&other].engine.position();
    // More entries, so that its disk knows that this one is committed.
    for key in 1..4 {
        world.write(owner, insert(key));
        world.run(200);
    }
    let mut foreign = crate::engine::memory::Memory::default();
    foreign.execute(&[create(), insert(9)], &crate::engine::SqlLimits::default()).unwrap();
    let term = crate::ids::Term(held.term.0 + 7);
    foreign.commit(Position { term, ..held }, &[]).unwrap();
    world.kill(other, usize::MAX, false);
    world.hosts.get_mut(&other).unwrap().engine = foreign;
    world.start(other);
    world.run(500);
    let fault = world.at(other).broken().cloned();
    assert!(matches!(fault, Some(Fault::Conflict { .. })), "{fault:?}");
}

#[test]
fn a_leader_without_a_usable_copy_that_nobody_can_succeed_says_why_instead_of_waiting() {
    let (mut world, owner) = World::led(&[A]);
    world.write(owner, insert(1));
    world.settle();
    let damage = Fault::Corrupt("file is not a database".to_owned());
    world.hosts.get_mut(&owner).unwrap().engine.fail = Some(damage);
    let lost = world.write(owner, insert(2));
    world.settle();
    assert!(world.at(owner).broken().is_some());
    let read = world.read(owner, select(), Consistency::Linearizable);
    world.run(1500);
    for id in [lost, read] {
        let error = world.error(id);
        let named =
            matches!(&error, ShardError::Unavailable(why) if why.contains("not a database"));
        assert!(named, "{error:?}");
    }
}

#[test]
fn a_copy_of_another_shard_is_found_out_also_where_its_position_fits() {
    reaches!(CopyDiverged);
    let (mut world, owner) = World::led(&[A, B, C]);
    world.write(owner, insert(1));
    world.settle();
    world.run(200);
    let other = world.other_than(owner);
    let held = world.hosts[&other].engine.position();
    let notes = world.hosts.get_mut(&other).unwrap().engine.notes().unwrap();
    assert_eq!(Name::of(&notes), Some(name()));
    let theirs = Name::new(crate::ids::ClusterId(1), crate::ids::LogId(8));
    let mut foreign = crate::engine::memory::Memory::default();
    foreign.execute(&[create(), insert(9)], &crate::engine::SqlLimits::default()).unwrap();
    foreign.commit(held, &[theirs.note()]).unwrap();
    world.kill(other, usize::MAX, false);
    world.hosts.get_mut(&other).unwrap().engine = foreign;
    world.start(other);
    world.run(500);
    let Some(Fault::Foreign(why)) = world.at(other).broken() else { panic!("it is taken") };
    assert!(why.contains("it holds log 8 of cluster"), "{why}");
}
