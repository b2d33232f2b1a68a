use super::super::*;
use super::world::*;

#[test]
fn the_preferred_node_becomes_the_owner_and_no_write_is_lost_on_the_way() {
    let (mut world, owner) = World::led(&[A, B, C]);
    let preferred = world.other_than(owner);
    let first: Vec<RequestId> = (0..20).map(|key| world.write(owner, insert(key))).collect();
    let terms = Terms { preferred: Some(preferred), ..world.terms };
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
    let terms = Terms { preferred: Some(preferred), ..world.terms };
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
    let terms = Terms { preferred: Some(next), ..world.terms };
    world.set_terms(terms);
    world.settle_but(&[next]);
    assert!(world.at(next).log().is_settled_leader());
    // Its copy lacks the row: the same key again must fail, not slip in.
    let id = world.write(next, insert(1));
    world.settle();
    assert!(matches!(world.error(id), ShardError::Sql(_)), "{:?}", world.replies[&id]);
}
