use super::super::*;
use super::world::*;
use crate::engine::{SqlErrorKind, Value};

#[test]
fn a_write_is_answered_once_it_is_committed_and_is_then_on_every_copy() {
    let (mut world, owner) = World::led(&[A, B, C]);
    let id = world.write(owner, insert(1));
    assert!(!world.replies.contains_key(&id));
    world.settle();
    assert_eq!(world.rows(id)[0].affected, 1);
    world.run(200);
    for node in [A, B, C] {
        assert_eq!(world.keys(node), [1].into(), "{node:?}");
    }
}

#[test]
fn nobody_is_answered_before_the_entry_is_committed() {
    let (mut world, owner) = World::led(&[A, B, C]);
    let good = world.write(owner, insert(1));
    let bad = world.write(owner, sql("nonsense"));
    let seen = world.write(owner, select());
    let _first = world.step_engine(owner);
    // The first batch holds one; the others wait for it and run together.
    for _ in 0..10 {
        world.step_engine(owner);
    }
    assert!(world.replies.keys().all(|id| ![good, bad, seen].contains(id)));
    world.settle();
    assert!(matches!(world.error(bad), ShardError::Sql(e) if e.kind == SqlErrorKind::Statement));
    assert_eq!(world.rows(seen)[0].rows, [[Value::Integer(1), Value::Integer(1)]]);
    assert_eq!(world.rows(good)[0].affected, 1);
}

/// An answered write whose entry is committed, and that the owner's copy has not committed yet.
fn answered_first(world: &mut World, owner: NodeId) -> RequestId {
    let id = world.write(owner, insert(1));
    assert!(world.step_engine(owner));
    world.settle_but(&[owner]);
    assert!(matches!(world.replies[&id], Reply::Done { .. }));
    assert!(world.keys(owner).is_empty(), "the copy is still to commit it");
    id
}

#[test]
fn whoever_reads_the_copy_of_an_owner_sees_what_was_answered_before() {
    let (mut world, owner) = World::led(&[A, B, C]);
    answered_first(&mut world, owner);
    let read = world.read(owner, select(), Consistency::Local);
    let asked = |call: &Call| matches!(call.what, CallKind::Query(..));
    assert!(!world.hosts[&owner].calls.iter().any(asked), "the copy does not hold it yet");
    world.settle();
    assert_eq!(world.rows(read)[0].rows, [[Value::Integer(1), Value::Integer(1)]]);
}

#[test]
fn a_copy_that_fails_to_commit_what_was_answered_gets_it_from_the_log() {
    let (mut world, owner) = World::led(&[A, B, C]);
    answered_first(&mut world, owner);
    world.hosts.get_mut(&owner).unwrap().engine.fail = Some(Fault::Io("as told".to_owned()));
    world.settle();
    assert!(world.keys(owner).is_empty());
    world.run(1000);
    assert_eq!(world.keys(owner), [1].into());
}

#[test]
fn a_follower_applies_quick_writes_together_unless_somebody_waits_for_one() {
    let (mut world, owner) = World::led(&[A, B, C]);
    world.run(200);
    let other = world.other_than(owner);
    let ids: Vec<RequestId> = (0..6)
        .map(|key| {
            let id = world.write(owner, insert(key));
            world.settle();
            id
        })
        .collect();
    assert_eq!(world.keys(other), [0].into(), "the first at once, the others later");
    let Reply::Done { at, .. } = world.replies[&ids[3]] else { panic!("it is not done") };
    let read = world.read(other, select(), Consistency::AtLeast(at));
    world.settle();
    assert!(world.rows(read)[0].rows.len() >= 4);
    world.run(20);
    assert_eq!(world.keys(other), (0..6).collect());
}

#[test]
fn what_gathers_while_a_batch_is_under_way_becomes_one_entry() {
    let (mut world, owner) = World::led(&[A, B, C]);
    let before = world.at(owner).log().last_index();
    let ids: Vec<RequestId> = (0..65).map(|key| world.write(owner, insert(key))).collect();
    world.settle();
    assert!(ids.iter().all(|id| matches!(world.replies[id], Reply::Done { .. })));
    assert_eq!(world.at(owner).log().last_index().0, before.0 + 2, "one, then all the others");
}

#[test]
fn a_failing_transaction_leaves_nothing_and_does_no_harm_to_its_batch() {
    let (mut world, owner) = World::led(&[A, B, C]);
    world.write(owner, insert(1));
    let mut both = insert(2);
    both.statements.extend(insert(1).statements);
    let twice = world.write(owner, both);
    let third = world.write(owner, insert(3));
    world.run(200);
    let error = world.error(twice);
    assert!(
        matches!(&error, ShardError::Sql(e) if e.kind == SqlErrorKind::Constraint && e.statement == 1),
        "{error:?}"
    );
    assert!(matches!(world.replies[&third], Reply::Done { .. }));
    assert_eq!(world.keys(world.other_than(owner)), [1, 3].into());
}

#[test]
fn what_does_not_fit_an_entry_goes_into_the_next_or_is_refused_by_name() {
    let (mut world, owner) = World::led(&[A, B, C]);
    world.sql.effect_bytes = 40;
    world.write(owner, insert(0));
    let ids: Vec<RequestId> = (1..20).map(|key| world.write(owner, insert(key))).collect();
    let mut large = insert(20);
    (21..40).for_each(|key| large.statements.extend(insert(key).statements));
    let refused = world.write(owner, large);
    world.settle();
    assert!(ids.iter().all(|id| matches!(world.replies[id], Reply::Done { .. })));
    let error = world.error(refused);
    assert!(matches!(error, ShardError::Sql(e) if e.kind == SqlErrorKind::TooLarge));
    assert_eq!(world.keys(owner).len(), 20);
}

#[test]
fn another_node_says_who_owns_the_shard_and_runs_nothing() {
    let (mut world, owner) = World::led(&[A, B, C]);
    world.run(200);
    let other = world.other_than(owner);
    let id = world.write(other, insert(1));
    assert_eq!(world.error(id), ShardError::NotOwner { owner: Some(owner) });
    world.settle();
    assert!(world.keys(owner).is_empty());
}

#[test]
fn a_transaction_that_changes_nothing_needs_no_entry_and_the_word_of_a_quorum() {
    let (mut world, owner) = World::led(&[A, B, C]);
    let before = world.at(owner).log().last_index();
    let id = world.write(owner, select());
    while world.step_engine(owner) {}
    assert!(!world.replies.contains_key(&id), "it may have been deposed");
    world.settle();
    assert!(world.rows(id)[0].rows.is_empty());
    assert_eq!(world.at(owner).log().last_index(), before);
}

#[test]
fn a_queue_that_is_full_says_so_and_what_waits_too_long_was_not_done() {
    let (mut world, owner) = World::led(&[A, B, C]);
    let max = world.limits.queue_max;
    let ids: Vec<RequestId> =
        (0..i64::try_from(max).unwrap() + 2).map(|key| world.write(owner, insert(key))).collect();
    // The first is with the engine, so that the queue takes one more.
    assert_eq!(world.error(ids[max + 1]), ShardError::Busy);
    for _ in 0..600 {
        world.now = world.now + Duration::from_millis(10);
        world.tick_all();
        world.settle_but(&[owner]);
    }
    assert_eq!(world.error(ids[5]), ShardError::TimedOut);
    world.settle();
    assert!(!world.keys(owner).contains(&5));
}

#[test]
fn the_copy_is_made_durable_every_so_many_entries_and_a_power_loss_replays_the_rest() {
    let (mut world, owner) = World::led(&[A, B, C]);
    let other = world.other_than(owner);
    world.limits.sync_after = 8;
    world.kill(other, usize::MAX, false);
    world.start(other);
    world.run(1000);
    for key in 0..30 {
        world.write(owner, insert(key));
        world.settle();
    }
    world.run(200);
    let shard = world.at(other);
    let (held, durable) = (shard.position().index.0, shard.synced().index.0);
    assert!(durable > 0 && held - durable < 8, "{durable} of {held}");
    world.kill(other, usize::MAX, true);
    assert!(world.keys(other).len() < 30);
    world.start(other);
    world.run(1000);
    assert_eq!(world.keys(other).len(), 30);
}
