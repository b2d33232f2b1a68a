use super::super::*;
use super::world::*;
use crate::engine::{Transaction, Value};
use crate::marks::reaches;

#[test]
fn the_preferred_node_becomes_the_owner_and_no_write_is_lost_on_the_way() {
    let (mut world, owner) = World::led(&[A, B, C]);
    let preferred = world.other_than(owner);
    let first: Vec<RequestId> = (0..20).map(|key| world.write(owner, insert(key))).collect();
    let terms = Terms { preferred: Some(preferred), ..world.terms.clone() };
    world.set_terms(terms);
    world.run(2000);
    assert_eq!(world.owner(), Some(preferred));
    for (key, id) in (0..20).zip(first) {
        let there = world.keys(preferred).contains(&key);
        match &world.replies[&id] {
            Reply::Done { .. } => assert!(there, "{key}"),
            Reply::Failed(ShardError::NotOwner { .. }) => assert!(!there, "{key}"),
            other => panic!("{other:?}"),
        }
    }
    let term = world.at(preferred).log().term();
    world.run(6000);
    assert_eq!(world.at(preferred).log().term(), term, "it stays there");
}

#[test]
fn a_preferred_node_that_is_away_gets_the_shard_back_when_it_has_caught_up() {
    let (mut world, owner) = World::led(&[A, B, C]);
    let preferred = world.other_than(owner);
    let terms = Terms { preferred: Some(preferred), ..world.terms.clone() };
    world.set_terms(terms);
    world.run(2000);
    world.kill(preferred, 0, false);
    world.run(2000);
    let other = world.owner().expect("another owns it");
    (0..50).for_each(|key| {
        world.write(other, insert(key));
    });
    world.settle();
    world.start(preferred);
    world.run(8000);
    assert_eq!(world.owner(), Some(preferred));
    assert_eq!(world.keys(preferred).len(), 50);
}

#[test]
fn an_owner_of_a_new_term_runs_nothing_before_its_own_entry_is_in_the_copy() {
    let (mut world, owner) = World::led(&[A, B, C]);
    let next = world.other_than(owner);
    world.write(owner, insert(1));
    world.settle_but(&[next]);
    let terms = Terms { preferred: Some(next), ..world.terms.clone() };
    world.set_terms(terms);
    world.settle_but(&[next]);
    assert!(world.at(next).log().is_settled_leader());
    // Its copy lacks the row: the same key again must fail, not slip in.
    let id = world.write(next, insert(1));
    world.settle();
    assert!(matches!(world.error(id), ShardError::Sql(_)), "{:?}", world.replies[&id]);
}

#[test]
fn a_leader_that_does_not_know_what_is_committed_runs_nothing() {
    let (mut world, owner) = World::led(&[A, B, C]);
    world.run(200);
    let next = world.other_than(owner);
    let third = [A, B, C].into_iter().find(|n| ![owner, next].contains(n)).unwrap();
    // The entry reaches one of the others only, and its owner dies.
    world.write(owner, insert(1));
    world.step_engine(owner);
    while world.deliver(owner, next) {}
    while world.persist(next) {}
    world.kill(owner, 0, false);
    for _ in 0..500 {
        world.now = world.now + Duration::from_millis(10);
        world.tick_all();
        for _ in 0..4 {
            if world.at(next).log().is_leader() {
                break;
            }
            for (from, to) in [(next, third), (third, next)] {
                while world.deliver(from, to) {}
            }
            while world.persist(next) || world.persist(third) {}
        }
        if world.at(next).log().is_leader() {
            break;
        }
    }
    assert!(world.at(next).log().is_leader() && !world.at(next).log().is_settled_leader());
    // The row may be committed; its own copy does not have it yet.
    let id = world.write(next, insert(1));
    while world.step_engine(next) {}
    world.settle();
    assert!(matches!(world.error(id), ShardError::Sql(_)), "{:?}", world.replies[&id]);
    assert_eq!(world.at(third).broken(), None);
}

#[test]
fn what_was_run_in_an_earlier_term_is_not_appended_in_a_later_one() {
    reaches!(DeposedWhileRunning);
    let (mut world, owner) = World::led(&[A, B, C]);
    world.run(200);
    let others: Vec<NodeId> = [A, B, C].into_iter().filter(|n| *n != owner).collect();
    // Its engine is slow: it has not answered when the next owner does the same, and not when it
    // owns the shard again.
    let slow = world.write(owner, insert(1));
    others.iter().for_each(|other| world.cut(owner, *other));
    let without_engine = |world: &mut World, ms: u64| {
        for _ in 0..ms / 10 {
            world.now = world.now + Duration::from_millis(10);
            world.tick_all();
            world.settle_but(&[owner]);
        }
    };
    without_engine(&mut world, 2000);
    let next = world.owner().expect("another owns it");
    let id = world.write(next, insert(1));
    without_engine(&mut world, 100);
    assert!(matches!(world.replies[&id], Reply::Done { .. }));
    world.cut.clear();
    world.set_terms(Terms { preferred: Some(owner), ..world.terms.clone() });
    without_engine(&mut world, 1000);
    assert!(world.at(owner).log().is_settled_leader());
    world.run(500);
    let told = world.replies.get(&slow);
    assert!(!matches!(told, Some(Reply::Done { .. })), "{told:?}");
    assert!([A, B, C].into_iter().all(|n| world.at(n).broken().is_none()));
    let id = world.write(owner, insert(2));
    world.settle();
    assert!(matches!(world.replies[&id], Reply::Done { .. }));
}

fn static_owner(node: Option<NodeId>) -> Option<StaticOwner> {
    Some(StaticOwner { name: "usa".to_owned(), node })
}

#[test]
fn a_caretaker_updates_and_deletes_but_inserts_nothing_and_names_the_owner() {
    let (mut world, owner) = World::led(&[A, B, C]);
    let before = world.write(owner, insert(1));
    world.settle();
    assert!(matches!(world.replies[&before], Reply::Done { .. }));
    world.set_terms(Terms { static_owner: static_owner(None), ..world.terms.clone() });
    let refused = world.write(owner, insert(2));
    let mixed = Transaction { statements: [add(1, 7).statements, insert(3).statements].concat() };
    let mixed = world.write(owner, mixed);
    let update = world.write(owner, add(1, 5));
    world.settle();
    let away = ShardError::OwnerAway { owner: "usa".to_owned() };
    assert_eq!(world.error(refused), away);
    assert_eq!(world.error(mixed), away, "all of a transaction or nothing");
    assert!(matches!(world.replies[&update], Reply::Done { .. }));
    let read = world.read(owner, select(), Consistency::Linearizable);
    world.run(200);
    assert_eq!(world.rows(read)[0].rows, [[Value::Integer(1), Value::Integer(6)]]);
    world.set_terms(Terms { static_owner: None, ..world.terms.clone() });
    let after = world.write(owner, insert(2));
    world.settle();
    assert!(matches!(world.replies[&after], Reply::Done { .. }));
}

#[test]
fn while_the_static_owner_is_there_an_insert_is_sent_on_and_not_refused() {
    let (mut world, owner) = World::led(&[A, B, C]);
    world.run(200);
    let next = world.other_than(owner);
    // It does not prefer the other one, so that it does not hand over.
    world.set_terms(Terms { static_owner: static_owner(Some(next)), ..world.terms.clone() });
    let id = world.write(owner, insert(1));
    world.settle();
    assert_eq!(world.error(id), ShardError::NotOwner { owner: None });
    for other in [A, B, C] {
        if other != next {
            world.cut(other, next);
        }
    }
    world.run(1500);
    let leader = world.owner().expect("two of three");
    let id = world.write(leader, insert(1));
    world.settle();
    let away = ShardError::OwnerAway { owner: "usa".to_owned() };
    assert_eq!(world.error(id), away, "the configuration does not know yet that it is gone");
}
