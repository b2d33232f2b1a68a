use std::time::Duration;

use super::super::*;
use super::world::*;
use crate::configuration::QuorumRule;
use crate::engine::{Fault, Position, SqlErrorKind, Transaction, Value};
use crate::marks::reaches;

fn once(session: SessionId, sequence: u64, acknowledged: u64) -> Delivery {
    Delivery::Once(Once { cluster: CLUSTER, log: LOG, session, sequence, acknowledged })
}

/// The value of a row, by whoever owns the shard.
fn value(world: &mut World, key: i64) -> Option<Value> {
    let owner = world.owner().expect("somebody owns it");
    world.hosts[&owner].engine.table("t").remove(&key)
}

fn led_with_row() -> (World, NodeId, SessionId) {
    let (mut world, owner) = World::led(&[A, B, C]);
    world.write(owner, insert(1));
    let session = world.session(owner);
    (world, owner, session)
}

#[test]
fn a_request_that_comes_again_is_not_done_again_and_gets_the_answer_that_it_had() {
    reaches!(SessionReplayed);
    let (mut world, owner, session) = led_with_row();
    let first = world.send(owner, add(1, 1), once(session, 1, 0));
    world.settle();
    let again = world.send(owner, add(1, 1), once(session, 1, 0));
    world.settle();
    assert_eq!(world.replies[&first], world.replies[&again]);
    assert!(matches!(world.replies[&again], Reply::Done { .. }));
    assert_eq!(value(&mut world, 1), Some(Value::Integer(2)));
}

#[test]
fn the_next_owner_knows_what_the_one_before_has_done() {
    let (mut world, owner, session) = led_with_row();
    let first = world.send(owner, add(1, 1), once(session, 1, 0));
    world.settle();
    world.kill(owner, 0, true);
    world.run(3000);
    let next = world.owner().expect("another owns it");
    assert_ne!(next, owner);
    let again = world.send(next, add(1, 1), once(session, 1, 0));
    world.settle();
    assert_eq!(world.replies[&first], world.replies[&again]);
    assert_eq!(value(&mut world, 1), Some(Value::Integer(2)));
}

#[test]
fn what_comes_again_while_the_first_waits_or_runs_is_done_once() {
    let (mut world, owner, session) = led_with_row();
    let ids: Vec<RequestId> =
        (0..3).map(|_| world.send(owner, add(1, 1), once(session, 1, 0))).collect();
    world.step_engine(owner);
    let late = world.send(owner, add(1, 1), once(session, 1, 0));
    world.settle();
    for id in ids.iter().chain([&late]) {
        assert!(matches!(world.replies[id], Reply::Done { .. }), "{:?}", world.replies[id]);
    }
    assert_eq!(value(&mut world, 1), Some(Value::Integer(2)));
}

#[test]
fn what_comes_twice_while_another_runs_is_done_once() {
    reaches!(DuplicateInBatch);
    let (mut world, owner, session) = led_with_row();
    world.write(owner, insert(2));
    let ids = [1, 2].map(|_| world.send(owner, add(1, 1), once(session, 1, 0)));
    world.settle();
    assert_eq!(world.replies[&ids[0]], world.replies[&ids[1]]);
    assert!(matches!(world.replies[&ids[0]], Reply::Done { .. }));
    assert_eq!(value(&mut world, 1), Some(Value::Integer(2)));
}

#[test]
fn an_error_that_was_told_stays_the_answer_though_it_would_work_by_now() {
    let (mut world, owner, session) = led_with_row();
    let refused = world.send(owner, insert(1), once(session, 1, 0));
    world.settle();
    let kind = |error: ShardError| match error {
        ShardError::Sql(error) => error.kind,
        other => panic!("{other}"),
    };
    assert_eq!(kind(world.error(refused)), SqlErrorKind::Constraint);
    let statement =
        crate::engine::Statement::with("DELETE FROM t WHERE k = ?", [Value::Integer(1)]);
    world.write(owner, Transaction { statements: vec![statement] });
    world.settle();
    let late = world.send(owner, insert(1), once(session, 1, 0));
    world.settle();
    assert_eq!(kind(world.error(late)), SqlErrorKind::Constraint);
    assert_eq!(value(&mut world, 1), None);
}

#[test]
fn what_changed_nothing_stays_the_answer_too() {
    let (mut world, owner, session) = led_with_row();
    let none = world.send(owner, add(7, 1), once(session, 1, 0));
    world.settle();
    assert_eq!(world.rows(none)[0].affected, 0);
    world.write(owner, insert(7));
    world.settle();
    let late = world.send(owner, add(7, 1), once(session, 1, 0));
    world.settle();
    assert_eq!(world.rows(late)[0].affected, 0);
    assert_eq!(value(&mut world, 7), Some(Value::Integer(1)));
}

#[test]
fn what_the_client_has_all_answers_of_is_let_go_of_and_never_done_again() {
    reaches!(Superseded);
    let (mut world, owner, session) = led_with_row();
    for sequence in 1..=20 {
        world.send(owner, add(1, 1), once(session, sequence, sequence - 1));
        world.settle();
    }
    world.run(200);
    let notes = world.hosts[&owner].engine.noted().clone();
    assert_eq!(notes.len(), 2, "the session, and whose copy it is");
    assert!(notes.values().all(|note| note.len() < 100), "{notes:?}");
    let late = world.send(owner, add(1, 1), once(session, 3, 2));
    world.settle();
    assert_eq!(world.error(late), ShardError::Superseded);
    assert_eq!(value(&mut world, 1), Some(Value::Integer(21)));
}

#[test]
fn requests_of_one_session_may_overtake_each_other() {
    let (mut world, owner, session) = led_with_row();
    for sequence in [3, 1, 2, 1, 3] {
        let id = world.send(owner, add(1, 1), once(session, sequence, 0));
        world.settle();
        assert!(matches!(world.replies[&id], Reply::Done { .. }));
    }
    assert_eq!(value(&mut world, 1), Some(Value::Integer(4)));
}

#[test]
fn a_session_that_is_not_used_ends_by_the_time_of_the_log_and_then_runs_nothing() {
    reaches!(SessionExpired);
    let (mut world, owner, session) = led_with_row();
    let used = world.session(owner);
    // It comes with entries: with none it stands still, whatever the clocks say.
    for sequence in 1..=70 {
        world.run(10_000);
        let id = world.send(owner, add(1, 1), once(used, sequence, sequence - 1));
        world.settle();
        assert!(matches!(world.replies[&id], Reply::Done { .. }), "{sequence}");
    }
    assert_eq!(world.owner(), Some(owner));
    let id = world.send(owner, add(1, 1), once(session, 1, 0));
    world.settle();
    assert_eq!(world.error(id), ShardError::SessionExpired);
    assert_eq!(value(&mut world, 1), Some(Value::Integer(71)));
    world.run(200);
    for node in [A, B, C] {
        let noted = world.hosts[&node].engine.noted();
        assert_eq!(noted.len(), 2, "{node:?} has forgotten it, and knows whose copy it is");
    }
}

#[test]
fn a_session_of_another_history_is_none_and_several_of_one_entry_differ() {
    let (mut world, owner, session) = led_with_row();
    let terms = SessionId { at: Position { term: crate::ids::Term(99), ..session.at }, ..session };
    let never = SessionId { number: 9, ..session };
    for unknown in [terms, never] {
        let id = world.send(owner, add(1, 1), once(unknown, 1, 0));
        world.settle();
        assert_eq!(world.error(id), ShardError::SessionExpired);
    }
    world.write(owner, add(1, 1));
    let ids: Vec<RequestId> =
        (0..300).map(|_| world.send(owner, Transaction::default(), Delivery::Opens)).collect();
    world.settle();
    let sessions: std::collections::BTreeSet<SessionId> = ids
        .iter()
        .map(|id| match &world.replies[id] {
            Reply::Session { session } => *session,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(sessions.len(), 300);
    for session in sessions {
        let id = world.send(owner, add(1, 1), once(session, 1, 0));
        world.settle();
        assert!(matches!(world.replies[&id], Reply::Done { .. }));
    }
}

#[test]
fn sessions_outlive_restarts_of_all_and_come_with_a_full_copy() {
    let (mut world, owner, session) = led_with_row();
    let gone = world.other_than(owner);
    world.kill(gone, 0, true);
    world.limits.retain_bytes = 100;
    world.limits.retain_bytes_max = 200;
    world.limits.retain_age = Duration::ZERO;
    world.limits.sync_after = 1;
    for node in [A, B, C].into_iter().filter(|node| *node != gone) {
        world.kill(node, usize::MAX, false);
        world.start(node);
    }
    world.run(3000);
    let owner = world.owner().expect("somebody owns it");
    world.send(owner, add(1, 1), once(session, 1, 0));
    for key in 10..60 {
        world.write(owner, insert(key));
        world.settle();
    }
    world.run(500);
    world.start(gone);
    world.run(1000);
    assert!(world.copy_to(gone), "the log does not reach back so far");
    world.run(1000);
    // All but the one with the full copy may go.
    let third = [A, B, C].into_iter().find(|n| *n != gone && *n != owner).expect("a third");
    world.kill(owner, 0, false);
    world.run(3000);
    let next = world.owner().expect("one of the others");
    if next == third {
        world.with(third, |shard, now| shard.hand_over(now, gone));
        world.run(1000);
    }
    assert_eq!(world.owner(), Some(gone));
    let again = world.send(gone, add(1, 1), once(session, 1, 0));
    world.settle();
    assert!(matches!(world.replies[&again], Reply::Done { .. }), "{:?}", world.replies[&again]);
    assert_eq!(value(&mut world, 1), Some(Value::Integer(2)));
}

#[test]
fn an_answer_that_is_too_long_to_keep_is_told_to_have_been_given() {
    reaches!(AnswerNotKept);
    let (mut world, owner, session) = led_with_row();
    let text = Value::Text("x".repeat(70_000));
    let long = crate::engine::Statement::with(
        "UPDATE t SET v = ? WHERE k = ?",
        vec![text, Value::Integer(1)],
    );
    let both = Transaction { statements: [vec![long], select().statements].concat() };
    let first = world.send(owner, both.clone(), once(session, 1, 0));
    world.settle();
    let Reply::Done { at, .. } = world.replies[&first] else { panic!("it is done") };
    let again = world.send(owner, both, once(session, 1, 0));
    world.settle();
    assert_eq!(world.error(again), ShardError::AlreadyDone { at });
}

#[test]
fn a_failure_that_is_too_long_to_keep_is_not_told_to_have_been_done() {
    let (mut world, _) = World::led(&[A, B, C]);
    world.limits.session_bytes_max = 0;
    for node in [A, B, C] {
        world.kill(node, usize::MAX, false);
        world.start(node);
    }
    world.run(3000);
    let owner = world.owner().expect("somebody leads");
    let session = world.session(owner);
    let twice = [(); 2].map(|()| {
        let asked = world.send(owner, sql("CREATE TABLE t (k)"), once(session, 1, 0));
        world.settle();
        world.error(asked)
    });
    let ShardError::Sql(first) = &twice[0] else { panic!("{twice:?}") };
    let ShardError::Sql(again) = &twice[1] else { panic!("{twice:?}") };
    assert_eq!((first.kind, first.code), (again.kind, again.code));
    assert_ne!(first.message, again.message);
}

#[test]
fn whoever_asks_again_waits_for_the_write_quorum_like_the_first() {
    let (mut world, owner, session) = led_with_row();
    let terms = Terms { write_quorum: QuorumRule::All, ..world.terms.clone() };
    world.set_terms(terms);
    let slow = world.other_than(owner);
    world.cut(owner, slow);
    let first = world.send(owner, add(1, 1), once(session, 1, 0));
    world.settle();
    let again = world.send(owner, add(1, 1), once(session, 1, 0));
    world.settle();
    assert!(!world.replies.contains_key(&first) && !world.replies.contains_key(&again));
    world.cut.clear();
    world.run(1000);
    for id in [first, again] {
        assert!(matches!(world.replies[&id], Reply::Done { .. }), "{:?}", world.replies[&id]);
    }
    assert_eq!(value(&mut world, 1), Some(Value::Integer(2)));
}

#[test]
fn what_a_caretaker_may_not_do_is_never_final_also_if_its_batch_stays_below_the_write_quorum() {
    let (mut world, owner, session) = led_with_row();
    let write_quorum = QuorumRule::All;
    let usa = StaticOwner { name: "usa".to_owned(), node: None };
    let terms = Terms { write_quorum, static_owner: Some(usa), ..world.terms.clone() };
    world.set_terms(terms);
    world.run(200);
    let slow = world.other_than(owner);
    world.cut(owner, slow);
    // What gathers behind the first becomes one entry, which two of three hold.
    world.write(owner, add(1, 1));
    let update = world.write(owner, add(1, 5));
    let refused = world.send(owner, insert(2), once(session, 1, 0));
    world.settle();
    world.run(5200);
    assert!(matches!(world.error(update), ShardError::CommittedBelowQuorum { .. }));
    let told = world.error(refused);
    assert!(!told.is_final(), "{told:?}");
    world.cut.clear();
    world.set_terms(Terms { static_owner: None, ..world.terms.clone() });
    world.run(1000);
    let owner = world.owner().expect("one leads");
    let again = world.send(owner, insert(2), once(session, 1, 0));
    world.settle();
    assert!(matches!(world.replies[&again], Reply::Done { .. }), "{:?}", world.replies[&again]);
}

#[test]
fn one_that_was_deposed_and_has_not_heard_of_it_does_not_call_a_session_expired() {
    let (mut world, old, _) = led_with_row();
    world.run(200);
    let others: Vec<NodeId> = [A, B, C].into_iter().filter(|node| *node != old).collect();
    for other in &others {
        world.cut(old, *other);
    }
    for _ in 0..100 {
        // The old one thinks that it leads, for as long as its own patience lasts.
        world.run(10);
        if world.owner().is_some_and(|owner| owner != old) {
            break;
        }
    }
    let new = world.owner().filter(|owner| *owner != old).expect("another is elected");
    let session = world.session(new);
    let id = world.send(old, add(1, 1), once(session, 1, 0));
    world.run(100);
    world.cut.clear();
    world.run(2000);
    let reply = &world.replies[&id];
    assert!(!matches!(reply, Reply::Failed(ShardError::SessionExpired)), "{reply:?}");
}

#[test]
fn a_copy_that_fails_with_a_session_open_begins_again_with_what_it_has() {
    let (mut world, owner, session) = led_with_row();
    world.send(owner, add(1, 1), once(session, 1, 0));
    world.step_engine(owner);
    world.settle_but(&[owner]);
    // The commit fails: the entry comes from the log, and its session with it.
    world.hosts.get_mut(&owner).unwrap().engine.fail = Some(Fault::Io("as told".to_owned()));
    world.run(1000);
    let owner = world.owner().expect("somebody owns it");
    let again = world.send(owner, add(1, 1), once(session, 1, 0));
    world.settle();
    assert!(matches!(world.replies[&again], Reply::Done { .. }));
    assert_eq!(value(&mut world, 1), Some(Value::Integer(2)));
}
