use std::time::Duration;

use super::super::*;
use super::world::*;
use crate::engine::{Fault, Rows, SqlErrorKind, Statement, Transaction, Value};
use crate::marks::reaches;

fn all() -> (World, NodeId) {
    World::led(&[A, B, C])
}

fn once(session: SessionId, sequence: u64, acknowledged: u64) -> Once {
    Once { cluster: CLUSTER, log: LOG, session, sequence, acknowledged }
}

/// The results of a step that worked.
#[track_caller]
fn stepped(world: &World, id: RequestId) -> Vec<Rows> {
    match &world.replies[&id] {
        Reply::Stepped { rows, error: None } => rows.clone(),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn lost(world: &World, id: RequestId, says: &str) {
    match world.error(id) {
        ShardError::TransactionLost { reason } if reason.contains(says) => {}
        other => panic!("{other:?} does not say {says:?}"),
    }
}

#[track_caller]
fn done(world: &World, id: RequestId) {
    assert!(matches!(world.replies[&id], Reply::Done { .. }), "{:?}", world.replies[&id]);
}

fn value(world: &World, key: i64) -> Option<Value> {
    let owner = world.owner().expect("somebody owns it");
    world.hosts[&owner].engine.table("t").remove(&key)
}

#[test]
fn what_its_steps_change_is_one_entry_and_nobody_sees_it_before() {
    let (mut world, owner) = all();
    let of = world.began(owner);
    let last = world.at(owner).log().last_index();
    let first = world.step(owner, of, insert(1));
    let second = world.step(owner, of, add(1, 5));
    let third = world.step(owner, of, select());
    world.settle();
    stepped(&world, first);
    stepped(&world, second);
    assert_eq!(stepped(&world, third)[0].rows, [[Value::Integer(1), Value::Integer(6)]]);
    let read = world.read(owner, select(), Consistency::Linearizable);
    world.settle();
    assert!(world.rows(read)[0].rows.is_empty());
    assert_eq!(world.at(owner).log().last_index(), last);
    let id = world.finish(owner, of, None);
    world.run(100);
    assert!(world.rows(id).is_empty());
    assert_eq!(world.at(owner).log().last_index(), last.next());
    for node in [A, B, C] {
        assert_eq!(world.hosts[&node].engine.table("t")[&1], Value::Integer(6));
    }
}

#[test]
fn a_statement_that_fails_leaves_it_open_and_those_behind_it_are_not_run() {
    let (mut world, owner) = all();
    world.write(owner, insert(1));
    let of = world.began(owner);
    let mut three = insert(2);
    three.statements.extend(insert(1).statements);
    three.statements.extend(insert(3).statements);
    let id = world.step(owner, of, three);
    world.settle();
    let Reply::Stepped { rows, error: Some(error) } = &world.replies[&id] else {
        panic!("{:?}", world.replies[&id]);
    };
    assert_eq!((rows.len(), error.kind, error.statement), (1, SqlErrorKind::Constraint, 1));
    let id = world.finish(owner, of, None);
    world.settle();
    done(&world, id);
    assert_eq!(world.keys(owner).into_iter().collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn what_sqlite_undoes_as_a_whole_is_lost_and_others_go_on() {
    let (mut world, owner) = all();
    world.write(owner, insert(1));
    let of = world.began(owner);
    world.step(owner, of, insert(2));
    let sql = "INSERT OR ROLLBACK INTO t (k, v) VALUES (?, ?)";
    let args = vec![Value::Integer(1), Value::Integer(1)];
    let clash = Transaction { statements: vec![Statement::with(sql, args)] };
    let id = world.step(owner, of, clash);
    let behind = world.step(owner, of, insert(3));
    let write = world.write(owner, insert(4));
    world.settle();
    lost(&world, id, "UNIQUE constraint failed");
    lost(&world, behind, "UNIQUE constraint failed");
    done(&world, write);
    assert_eq!(world.keys(owner).into_iter().collect::<Vec<_>>(), [1, 4]);
}

#[test]
fn others_wait_while_it_is_open_and_go_before_the_next_one() {
    let (mut world, owner) = all();
    let of = world.began(owner);
    let second = world.begin(owner);
    let writes: Vec<RequestId> = (1..5).map(|key| world.write(owner, insert(key))).collect();
    let third = world.begin(owner);
    world.settle();
    for id in writes.iter().chain([&second, &third]) {
        assert!(!world.replies.contains_key(id), "it does not wait");
    }
    // The engine is given one call after the other: with each, what was answered is looked at.
    let id = world.abandon(owner, of);
    while !world.replies.contains_key(&second) {
        assert!(!world.replies.contains_key(&third));
        let moved = world.step_engine(owner);
        if !moved {
            world.settle_but(&[owner]);
        }
    }
    done(&world, id);
    writes.iter().for_each(|id| done(&world, *id));
    let Reply::Began { transaction } = world.replies[&second] else { panic!("it is not begun") };
    assert!(transaction > of);
    // What comes later goes before the third one, but not before the second one is over.
    let late = world.write(owner, insert(9));
    world.settle();
    assert!(!world.replies.contains_key(&late));
    let id = world.finish(owner, transaction, None);
    world.settle();
    done(&world, id);
    done(&world, late);
    assert!(matches!(world.replies[&third], Reply::Began { .. }));
}

#[test]
fn an_abandoned_one_leaves_nothing_and_to_abandon_it_again_is_done() {
    let (mut world, owner) = all();
    let of = world.began(owner);
    let step = world.step(owner, of, insert(1));
    // Also while a step runs.
    let first = world.abandon(owner, of);
    lost(&world, step, "abandoned");
    world.settle();
    let again = world.abandon(owner, of);
    let step = world.step(owner, of, insert(1));
    let finish = world.finish(owner, of, None);
    world.settle();
    done(&world, first);
    done(&world, again);
    lost(&world, step, "abandoned");
    lost(&world, finish, "abandoned");
    assert!(world.keys(owner).is_empty());
    let write = world.write(owner, insert(1));
    world.settle();
    done(&world, write);
}

#[test]
fn one_that_is_open_for_too_long_is_undone_and_its_next_call_is_told_the_limit() {
    let (mut world, owner) = all();
    let of = world.began(owner);
    let begun = world.now;
    let step = world.step(owner, of, insert(1));
    world.settle();
    stepped(&world, step);
    let waits = world.write(owner, insert(2));
    for _ in 0..4 {
        world.run(1000);
        let step = world.step(owner, of, add(1, 1));
        world.settle();
        stepped(&world, step);
        assert!(!world.replies.contains_key(&waits));
    }
    world.run(990);
    world.run(20);
    assert!(world.now < begun + world.limits.interactive_time + Duration::from_millis(50));
    done(&world, waits);
    let step = world.step(owner, of, add(1, 1));
    let finish = world.finish(owner, of, None);
    world.settle();
    lost(&world, step, "5000 ms");
    lost(&world, finish, "5000 ms");
    assert_eq!(world.keys(owner).into_iter().collect::<Vec<_>>(), [2]);
}

#[test]
fn one_of_which_nothing_is_asked_is_undone_and_others_run() {
    let (mut world, owner) = all();
    let of = world.began(owner);
    world.step(owner, of, insert(1));
    world.settle();
    let waits = world.write(owner, insert(2));
    world.run(1950);
    assert!(!world.replies.contains_key(&waits));
    world.run(100);
    done(&world, waits);
    let finish = world.finish(owner, of, None);
    world.settle();
    lost(&world, finish, "nothing was asked of it for 2000 ms");
    assert_eq!(world.keys(owner).into_iter().collect::<Vec<_>>(), [2]);
}

#[test]
fn a_step_that_is_not_done_in_its_time_ends_it() {
    let (mut world, owner) = all();
    let of = world.began(owner);
    let id = RequestId(1 << 40);
    let deadline = world.now + Duration::from_millis(300);
    let step = Step { id, of, transaction: insert(1), deadline };
    world.with(owner, |shard, now| shard.step(now, step));
    world.run_but(400, &[owner]);
    lost(&world, id, "within the time");
    world.settle();
    let write = world.write(owner, insert(2));
    world.settle();
    done(&world, write);
    assert_eq!(world.keys(owner).into_iter().collect::<Vec<_>>(), [2]);
}

#[test]
fn it_does_not_outlive_the_term_in_which_it_was_begun() {
    reaches!(InteractiveCut);
    let (mut world, owner) = all();
    let of = world.began(owner);
    let step = world.step(owner, of, insert(1));
    world.settle();
    stepped(&world, step);
    for other in [A, B, C] {
        if other != owner {
            world.cut(owner, other);
        }
    }
    world.run(1500);
    let next = world.owner().expect("another owns it");
    assert_ne!(next, owner);
    let write = world.write(next, insert(2));
    let here = world.finish(next, of, None);
    world.settle();
    done(&world, write);
    lost(&world, here, "changed");
    world.cut.clear();
    // It comes back, and leads again: what was open then is gone.
    let terms = Terms { preferred: Some(owner), ..world.terms.clone() };
    world.set_terms(terms);
    world.run(8000);
    assert_eq!(world.owner(), Some(owner));
    let step = world.step(owner, of, insert(3));
    let finish = world.finish(owner, of, None);
    world.settle();
    lost(&world, step, "changed");
    lost(&world, finish, "changed");
    assert_eq!(world.keys(owner).into_iter().collect::<Vec<_>>(), [2]);
}

#[test]
fn who_begins_at_a_node_that_does_not_own_the_shard_is_sent_on() {
    let (mut world, owner) = all();
    let other = world.other_than(owner);
    let of = world.began(owner);
    let begin = world.begin(other);
    let step = world.step(other, of, insert(1));
    let abandon = world.abandon(other, of);
    for id in [begin, step, abandon] {
        assert_eq!(world.error(id), ShardError::NotOwner { owner: Some(owner) });
    }
}

#[test]
fn a_finish_that_comes_again_is_answered_from_its_session_by_whatever_owner() {
    let (mut world, owner) = all();
    let session = world.session(owner);
    let of = world.began(owner);
    world.step(owner, of, insert(1));
    let first = world.finish(owner, of, Some(once(session, 1, 0)));
    // Also while the first is under way.
    let second = world.finish(owner, of, Some(once(session, 1, 0)));
    world.settle();
    done(&world, first);
    assert_eq!(world.replies[&first], world.replies[&second]);
    world.kill(owner, 0, true);
    world.run(3000);
    let next = world.owner().expect("another owns it");
    let again = world.finish(next, of, Some(once(session, 1, 0)));
    world.settle();
    assert_eq!(world.replies[&first], world.replies[&again]);
    assert_eq!(value(&world, 1), Some(Value::Integer(1)));
}

#[test]
fn a_finish_of_one_that_is_gone_is_never_executed() {
    let (mut world, owner) = all();
    let session = world.session(owner);
    let of = world.began(owner);
    world.step(owner, of, insert(1));
    world.settle();
    world.kill(owner, 0, true);
    world.run(3000);
    let next = world.owner().expect("another owns it");
    let finish = world.finish(next, of, Some(once(session, 1, 0)));
    let unknown = SessionId { number: 9, ..session };
    let elsewhere = world.finish(next, of, Some(once(unknown, 1, 0)));
    world.settle();
    lost(&world, finish, "changed");
    assert_eq!(world.error(elsewhere), ShardError::SessionExpired);
    assert!(world.keys(next).is_empty());
    // Nothing of it is in the session: the same request may be another one's.
    let write = world.send(next, insert(2), Delivery::Once(once(session, 1, 0)));
    world.settle();
    done(&world, write);
}

#[test]
fn a_finish_that_was_appended_is_done_or_not_as_its_entry_is() {
    for committed in [true, false] {
        let (mut world, owner) = all();
        let session = world.session(owner);
        let of = world.began(owner);
        world.step(owner, of, insert(1));
        world.settle();
        let others: Vec<NodeId> = [A, B, C].into_iter().filter(|node| *node != owner).collect();
        if !committed {
            others.iter().for_each(|other| world.cut(owner, *other));
        }
        let first = world.finish(owner, of, Some(once(session, 1, 0)));
        if committed {
            world.settle();
        } else {
            while world.step_engine(owner) || world.persist(owner) {}
        }
        world.kill(owner, 0, true);
        world.cut.clear();
        world.run(3000);
        let next = world.owner().expect("another owns it");
        let again = world.finish(next, of, Some(once(session, 1, 0)));
        world.settle();
        match committed {
            true => assert_eq!(world.replies[&again], world.replies[&first]),
            false => lost(&world, again, "changed"),
        }
        assert_eq!(value(&world, 1).is_some(), committed);
    }
}

#[test]
fn a_second_finish_without_a_session_is_told_that_it_is_done() {
    let (mut world, owner) = all();
    let of = world.began(owner);
    world.step(owner, of, insert(1));
    let first = world.finish(owner, of, None);
    let second = world.finish(owner, of, None);
    let step = world.step(owner, of, insert(2));
    world.settle();
    let Reply::Done { at, .. } = world.replies[&first] else { panic!("it failed") };
    assert_eq!(world.error(second), ShardError::AlreadyDone { at });
    assert!(
        matches!(world.error(step), ShardError::OutcomeUnknown | ShardError::AlreadyDone { .. }),
        "{:?}",
        world.error(step)
    );
    assert_eq!(world.keys(owner).into_iter().collect::<Vec<_>>(), [1]);
}

#[test]
fn one_that_changed_nothing_is_done_when_it_is_certain_that_its_owner_led() {
    let (mut world, owner) = all();
    let of = world.began(owner);
    world.step(owner, of, select());
    world.settle();
    for other in [A, B, C] {
        if other != owner {
            world.cut(owner, other);
        }
    }
    let id = world.finish(owner, of, None);
    world.settle();
    assert!(!world.replies.contains_key(&id), "nobody has confirmed it");
    world.cut.clear();
    world.run(200);
    done(&world, id);
}

#[test]
fn a_finish_that_nobody_could_acknowledge_leaves_it_open() {
    let (mut world, owner) = all();
    let of = world.began(owner);
    world.step(owner, of, insert(1));
    world.settle();
    let terms =
        Terms { write_quorum: crate::configuration::QuorumRule::All, ..world.terms.clone() };
    world.set_terms(terms);
    let other = world.other_than(owner);
    world.kill(other, 0, false);
    world.run(1000);
    let id = world.finish(owner, of, None);
    world.settle();
    assert!(matches!(world.error(id), ShardError::NoQuorum { .. }), "{:?}", world.error(id));
    world.start(other);
    world.run(500);
    let id = world.finish(owner, of, None);
    world.run(100);
    done(&world, id);
}

#[test]
fn a_copy_that_fails_ends_it_and_the_owner_goes_on() {
    let (mut world, owner) = all();
    let of = world.began(owner);
    let begin = world.begin(owner);
    world.step(owner, of, insert(1));
    world.settle();
    world.hosts.get_mut(&owner).unwrap().engine.fail = Some(Fault::Io("as told".to_owned()));
    let step = world.step(owner, of, insert(2));
    world.settle();
    lost(&world, step, "open its copy again");
    let finish = world.finish(owner, of, None);
    world.run(300);
    lost(&world, finish, "open its copy again");
    assert!(matches!(world.replies[&begin], Reply::Began { .. }), "{:?}", world.replies[&begin]);
    assert!(world.keys(owner).is_empty());
}

#[test]
fn a_begin_whose_copy_fails_is_begun_when_it_is_open_again() {
    let (mut world, owner) = all();
    world.hosts.get_mut(&owner).unwrap().engine.fail = Some(Fault::Io("as told".to_owned()));
    let begin = world.begin(owner);
    world.run(300);
    assert!(matches!(world.replies[&begin], Reply::Began { .. }), "{:?}", world.replies[&begin]);
}

#[test]
fn a_hand_over_that_is_wished_for_waits_for_it_and_no_other_is_begun_before() {
    let (mut world, owner) = all();
    let preferred = world.other_than(owner);
    let of = world.began(owner);
    world.step(owner, of, insert(1));
    let terms = Terms { preferred: Some(preferred), ..world.terms.clone() };
    world.set_terms(terms);
    let next = world.begin(owner);
    world.run(1000);
    assert_eq!(world.owner(), Some(owner), "it waits");
    let id = world.finish(owner, of, None);
    world.run(1000);
    done(&world, id);
    assert_eq!(world.owner(), Some(preferred));
    assert!(matches!(world.error(next), ShardError::NotOwner { .. }));
    assert!(world.keys(preferred).contains(&1));
}

#[test]
fn a_hand_over_waits_no_longer_than_it_may_be_open() {
    let (mut world, owner) = all();
    let preferred = world.other_than(owner);
    let of = world.began(owner);
    let terms = Terms { preferred: Some(preferred), ..world.terms.clone() };
    world.set_terms(terms);
    world.run(2500);
    assert_eq!(world.owner(), Some(preferred));
    let id = world.finish(preferred, of, None);
    world.settle();
    lost(&world, id, "changed");
}

#[test]
fn a_server_that_stops_ends_it_at_once() {
    let (mut world, owner) = all();
    let of = world.began(owner);
    let step = world.step(owner, of, insert(1));
    let next = world.other_than(owner);
    world.with(owner, |shard, now| shard.hand_over(now, next));
    lost(&world, step, "handed over");
    world.run(300);
    assert_eq!(world.owner(), Some(next));
    assert!(world.keys(next).is_empty());
}

#[test]
fn a_log_that_ends_ends_it_at_once() {
    let (mut world, owner) = all();
    let of = world.began(owner);
    world.step(owner, of, insert(1));
    world.settle();
    world.with(owner, |shard, now| shard.seal(now, true));
    let step = world.step(owner, of, insert(2));
    world.run(100);
    lost(&world, step, "another cluster");
    assert!(world.at(owner).is_sealed());
    let begin = world.begin(owner);
    assert!(matches!(world.error(begin), ShardError::NotOwner { .. }));
    assert!(world.keys(owner).is_empty());
}

#[test]
fn the_entry_of_a_restore_waits_for_it_and_no_other_is_begun_before() {
    let (mut world, owner) = all();
    let of = world.began(owner);
    let term = world.at(owner).log().term();
    let stage = StageId { term, number: 1 };
    let holders = [A, B, C].into_iter().collect();
    world.with(owner, |shard, now| shard.put_restore(now, stage, holders));
    let next = world.begin(owner);
    let step = world.step(owner, of, insert(1));
    world.settle();
    stepped(&world, step);
    assert_eq!(world.at(owner).restore_state(stage), Some(&RestoreState::Waiting));
    let id = world.finish(owner, of, None);
    world.settle();
    done(&world, id);
    let Reply::Done { at, .. } = world.replies[&id] else { unreachable!() };
    let put = world.at(owner).restore_state(stage).cloned();
    assert!(
        matches!(put, Some(RestoreState::Proposed(behind)) if behind.index == at.index.next()),
        "{put:?}"
    );
    assert!(!world.replies.contains_key(&next));
}

#[test]
fn a_change_of_what_the_owner_may_do_ends_it() {
    let (mut world, owner) = all();
    let of = world.began(owner);
    let step = world.step(owner, of, insert(1));
    world.settle();
    stepped(&world, step);
    let away = StaticOwner { name: "away".to_owned(), node: None };
    world.set_terms(Terms { static_owner: Some(away), ..world.terms.clone() });
    let finish = world.finish(owner, of, None);
    world.settle();
    lost(&world, finish, "another owner");
    // A caretaker has them too, and inserts nothing in them.
    let of = world.began(owner);
    let step = world.step(owner, of, insert(1));
    world.settle();
    let Reply::Stepped { error: Some(error), .. } = &world.replies[&step] else {
        panic!("{:?}", world.replies[&step]);
    };
    assert_eq!(error.kind, SqlErrorKind::OwnerOnly);
}

#[test]
fn copies_are_compared_while_one_is_open() {
    let (mut world, owner) = all();
    let of = world.began(owner);
    let step = world.step(owner, of, insert(1));
    let mark = world.mark(owner);
    world.run(100);
    stepped(&world, step);
    assert_eq!(world.hashes[&mark].values().filter(|hash| hash.is_ok()).count(), 3);
    let id = world.finish(owner, of, None);
    world.settle();
    done(&world, id);
}

#[test]
fn calls_that_wait_are_bounded() {
    let (mut world, owner) = all();
    let of = world.began(owner);
    let steps: Vec<RequestId> = (0..40).map(|key| world.step(owner, of, insert(key))).collect();
    let finish = world.finish(owner, of, None);
    let busy = steps.iter().filter(|id| world.replies.contains_key(id)).count();
    assert_eq!(busy, 40 - 17, "one runs, and sixteen wait");
    assert_eq!(world.error(finish), ShardError::Busy);
    world.settle();
    let id = world.finish(owner, of, None);
    world.settle();
    done(&world, id);
    assert_eq!(world.keys(owner).len(), 17);
}

#[test]
fn of_those_that_are_finished_and_those_that_fail_at_their_end_each_is_told_once() {
    let (mut world, owner) = all();
    let names: Vec<TransactionId> = (0..100)
        .map(|key| {
            let of = world.began(owner);
            world.step(owner, of, insert(key));
            let id = world.finish(owner, of, None);
            world.settle();
            done(&world, id);
            of
        })
        .collect();
    assert!(names.is_sorted_by(|a, b| a < b), "no name is given twice");
    // Of those that ended long ago nothing is known but that they are not open.
    let long_ago = world.finish(owner, names[0], None);
    world.settle();
    lost(&world, long_ago, "does not know it");
}
