use super::super::*;
use super::world::{LOG, World};
use crate::copies::{CopyProgress, CopyState};
use crate::ids::{ClusterId, ConfigVersion, Index, NodeId, Term};
use crate::marks::reaches;

fn layout() -> Layout {
    World::of(3).layout
}

#[test]
fn a_layout_that_comes_late_takes_nothing_back() {
    reaches!(OlderLayout);
    let first = layout();
    let mut newer = first.clone();
    newer.version = ConfigVersion(2);
    newer.servers.pop();
    let mut held = first.clone();
    assert!(held.merge(newer.clone()));
    assert!(!held.merge(first), "it is older");
    assert_eq!(held, newer);
}

#[test]
fn an_owner_goes_by_its_term_whatever_the_version() {
    let first = layout();
    let mut owned = first.clone();
    (owned.shards[0].owner, owned.shards[0].term) = (Some(NodeId(3)), Term(5));
    let mut newer = first.clone();
    newer.version = ConfigVersion(2);
    // The newer document from a server that has not heard of the owner, and the reverse.
    for order in [[owned.clone(), newer.clone()], [newer, owned]] {
        let mut held = first.clone();
        for told in order {
            held.merge(told);
        }
        assert_eq!(held.version, ConfigVersion(2));
        assert_eq!((held.shards[0].owner, held.shards[0].term), (Some(NodeId(3)), Term(5)));
    }
}

#[test]
fn a_cluster_that_was_merged_into_another_is_left_for_it() {
    let mut held = layout();
    held.version = ConfigVersion(90);
    let mut other = layout();
    other.cluster = Some(ClusterId(2));
    assert!(held.merge(other.clone()));
    assert_eq!(held, other);
    assert!(!held.merge(Layout::default()), "one that knows nothing says nothing");
}

#[test]
fn how_far_copies_are_is_told_as_the_server_in_use_knows_it() {
    let mut world = World::of(3);
    let receiving = |done| {
        let progress = CopyProgress { done, total: 100, ..CopyProgress::from(NodeId(1)) };
        let report = CopyReport { applied: Index(5), state: CopyState::Receiving(progress) };
        vec![(LOG, NodeId(3), report)]
    };
    let told = |world: &World| {
        let copies = |event: &Event| match event {
            Event::Copies(copies) => Some(copies.clone()),
            _ => None,
        };
        world.events.iter().filter_map(copies).collect::<Vec<_>>()
    };
    assert!(told(&world).is_empty(), "all are whole at first");
    let id = *world.conns.keys().next().expect("it is connected");
    for done in [10, 10, 60] {
        world.back.push_back((id, ToClient::Copies(receiving(done))));
        world.settle();
    }
    assert_eq!(told(&world), [receiving(10), receiving(60)], "what is told again is not");
    assert_eq!(world.client.copies(), receiving(60));
    // Another server is asked, and knows of none.
    let first = u8::try_from(world.using().expect("one is in use").0).unwrap();
    world.crash(first);
    world.settle();
    world.pass(3000);
    assert!(world.using().is_some_and(|node| node != NodeId(first.into())));
    assert_eq!(told(&world).last(), Some(&vec![]));
    assert_eq!(told(&world).len(), 3);
}
