use super::super::*;
use super::world::World;
use crate::ids::{ClusterId, ConfigVersion, NodeId, Term};

fn layout() -> Layout {
    World::of(3).layout
}

#[test]
fn a_layout_that_comes_late_takes_nothing_back() {
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
