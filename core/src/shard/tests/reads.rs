use super::super::*;
use super::world::*;
use crate::engine::{Engine, Position};

#[test]
fn a_local_read_sees_what_the_copy_has_and_never_an_open_batch() {
    let (mut world, owner) = World::led(&[A, B, C]);
    world.run(200);
    world.write(owner, insert(1));
    world.step_engine(owner);
    let id = world.read(owner, select(), Consistency::Local);
    while world.step_engine(owner) {}
    assert!(world.rows(id)[0].rows.is_empty(), "it is not committed");
    let other = world.other_than(owner);
    world.settle();
    world.run(200);
    let id = world.read(other, select(), Consistency::Local);
    world.settle();
    assert_eq!(world.rows(id)[0].rows.len(), 1);
}

#[test]
fn a_reader_of_its_own_writes_waits_for_them() {
    let (mut world, owner) = World::led(&[A, B, C]);
    let slow = world.other_than(owner);
    world.settle();
    let id = world.write(owner, insert(1));
    world.settle_but(&[slow]);
    let Reply::Done { at, .. } = world.replies[&id].clone() else { panic!("it is done") };
    let id = world.read(slow, select(), Consistency::AtLeast(at));
    world.run(200);
    assert_eq!(world.rows(id)[0].rows.len(), 1);
    let far = Position { index: crate::ids::Index(at.index.0 + 1000), ..at };
    let id = world.read(slow, select(), Consistency::AtLeast(far));
    world.run(5200);
    assert_eq!(world.error(id), ShardError::TimedOut);
}

/// Seed 8108033: a write is answered when its entry is committed, and its owner's copy has it a moment
/// later.
#[test]
fn who_names_an_entry_sees_no_less_at_the_owner_than_who_names_none() {
    let (mut world, owner) = World::led(&[A, B, C]);
    let first = world.write(owner, insert(1));
    world.settle();
    let Reply::Done { at: old, .. } = world.replies[&first].clone() else { panic!("it is done") };
    let second = world.write(owner, insert(2));
    world.step_engine(owner);
    world.run_but(200, &[owner]);
    assert!(matches!(world.replies[&second], Reply::Done { .. }));
    for consistency in [Consistency::Local, Consistency::AtLeast(old)] {
        let id = world.read(owner, select(), consistency);
        world.settle_but(&[owner]);
        assert!(!world.replies.contains_key(&id));
    }
    let id = world.read(owner, select(), Consistency::AtLeast(old));
    world.settle();
    assert_eq!(world.rows(id)[0].rows.len(), 2);
}

#[test]
fn a_linearizable_read_takes_the_word_of_a_quorum() {
    let (mut world, owner) = World::led(&[A, B, C]);
    world.write(owner, insert(1));
    world.settle();
    let others: Vec<NodeId> = [A, B, C].into_iter().filter(|n| *n != owner).collect();
    let id = world.read(owner, select(), Consistency::Linearizable);
    world.settle();
    assert_eq!(world.rows(id)[0].rows.len(), 1);
    // Cut off, it may have a successor: it must not answer from memory.
    others.iter().for_each(|other| world.cut(owner, *other));
    let id = world.read(owner, select(), Consistency::Linearizable);
    world.run(3000);
    assert!(matches!(world.error(id), ShardError::NotOwner { .. }));
    let id = world.read(owner, select(), Consistency::Linearizable);
    assert!(matches!(world.error(id), ShardError::NotOwner { .. }));
}

#[test]
fn a_copy_that_is_not_online_serves_no_reads_of_its_own() {
    let (mut world, owner) = World::led(&[A, B, C]);
    let terms = Terms { online: false, ..world.terms.clone() };
    let other = world.other_than(owner);
    world.with(other, |shard, now| shard.set_terms(now, terms));
    let id = world.read(other, select(), Consistency::Local);
    assert!(matches!(world.error(id), ShardError::Unavailable(_)));
}

#[test]
fn many_reads_ask_the_quorum_once() {
    let (mut world, owner) = World::led(&[A, B, C]);
    world.settle();
    let ids: Vec<RequestId> =
        (0..50).map(|_| world.read(owner, select(), Consistency::Linearizable)).collect();
    let other = world.other_than(owner);
    let asked = world.wires.get(&(owner, other)).map_or(0, std::collections::VecDeque::len);
    assert!(asked <= 2, "{asked} messages");
    world.settle();
    assert!(ids.iter().all(|id| matches!(world.replies[id], Reply::Done { .. })));
}

#[test]
fn a_linearizable_read_waits_until_the_copy_has_what_it_must_see() {
    let (mut world, owner) = World::led(&[A, B, C]);
    world.run(200);
    let next = world.other_than(owner);
    world.write(owner, insert(1));
    world.settle_but(&[next]);
    world.set_terms(Terms { preferred: Some(next), ..world.terms.clone() });
    world.settle_but(&[next]);
    assert!(world.at(next).log().is_settled_leader());
    let id = world.read(next, select(), Consistency::Linearizable);
    world.settle_but(&[next]);
    let asked = |call: &Call| matches!(call.what, CallKind::Query(..));
    assert!(!world.hosts[&next].calls.iter().any(asked), "the row is not in the copy yet");
    world.settle();
    assert_eq!(world.rows(id)[0].rows.len(), 1);
}

#[test]
fn a_copy_that_holds_what_its_log_lacks_knows_the_tokens_of_it() {
    let (mut world, owner) = World::led(&[A, B, C]);
    let other = world.other_than(owner);
    let id = world.write(owner, insert(1));
    world.run(500);
    let Reply::Done { at, .. } = world.replies[&id].clone() else { panic!("written") };
    world.kill(other, usize::MAX, false);
    // The disk has lost the end of the log: what is in the copy was made durable apart from it.
    let log = &mut world.hosts.get_mut(&other).unwrap().disk;
    log.entries.retain(|entry| entry.index < at.index);
    log.hard_state.commit = at.index.previous();
    world.cut(other, owner);
    [A, B, C].into_iter().filter(|node| *node != other).for_each(|node| world.cut(other, node));
    world.start(other);
    world.settle();
    let id = world.read(other, select(), Consistency::AtLeast(at));
    world.settle();
    assert!(matches!(world.replies[&id], Reply::Done { .. }), "{:?}", world.replies[&id]);
}

#[test]
fn whoever_names_an_entry_that_is_not_committed_yet_sees_it_or_nothing() {
    let (mut world, owner) = World::led(&[A, B, C]);
    let first = world.write(owner, insert(1));
    world.settle();
    let Reply::Done { at, .. } = world.replies[&first].clone() else { panic!("written") };
    // By chance the next entry bears the name that an entry of another cluster had.
    let named = Position { index: at.index.next(), ..at };
    let read = world.read(owner, select(), Consistency::Holding(named));
    world.write(owner, insert(2));
    world.settle();
    match world.replies[&read].clone() {
        Reply::Done { at, rows } => assert!(at >= named && rows[0].rows.len() == 2, "{rows:?}"),
        other => panic!("{other:?}"),
    }
}

/// Seed 8623046: an owner's copy was fetched anew by order, and was behind the one that it replaced.
#[test]
fn a_read_of_the_copy_that_took_the_place_of_a_newer_one_is_not_answered() {
    let (mut world, owner) = World::led(&[A, B, C]);
    world.write(owner, insert(1));
    world.settle();
    let mut older = world.hosts[&owner].engine.clone();
    older.kill();
    older.sync().expect("it does not fail");
    let base = world.at(owner).base_at(older.position()).expect("the log holds it");
    let second = world.write(owner, insert(2));
    world.settle();
    let Reply::Done { at, .. } = world.replies[&second].clone() else { panic!("it is done") };
    let id = world.read(owner, select(), Consistency::AtLeast(at));
    let query = world.hosts.get_mut(&owner).unwrap().calls.pop_front().expect("it is asked");
    assert!(matches!(query.what, CallKind::Query(..)));
    let generation = world.at(owner).next_generation();
    assert!(world.with(owner, |shard, now| shard.install(now, generation, base)));
    world.settle_but(&[owner]);
    let host = world.hosts.get_mut(&owner).unwrap();
    assert!(matches!(host.calls[0].what, CallKind::Open { .. }));
    host.engine = older;
    host.calls.push_front(query);
    world.step_engine(owner);
    assert!(matches!(world.error(id), ShardError::Unavailable(_)));
    let id = world.read(owner, select(), Consistency::AtLeast(at));
    world.settle();
    assert_eq!(world.rows(id)[0].rows.len(), 2, "it has come to it");
}
