//! Who owns a shard, and who is next.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::{Configuration, DatabaseRules, Defaults, Registration, RemoveReason, Role};
use super::{
    after, away, back, caught_up, cluster, cluster_of, create, join, node, on, remove, role, rules,
    set_owner, shard,
};
use crate::ids::{LogId, NodeId};

fn many(names: &[&str], count: usize) -> Configuration {
    let mut given = DatabaseRules::default();
    for number in 1..count {
        given.shards.insert(format!("s{number:03}"), on("+"));
    }
    after(&cluster(names), &create(&given))
}

fn owners(document: &Configuration) -> BTreeMap<LogId, Option<NodeId>> {
    document.shards().map(|shard| (shard.shard.log, shard.preferred_owner())).collect()
}

fn all_caught_up(document: &Configuration) -> Configuration {
    let names: Vec<String> = document.shards().map(|shard| shard.name.to_owned()).collect();
    names.iter().fold(document.clone(), |document, name| caught_up(&document, name))
}

fn shares(document: &Configuration) -> Vec<usize> {
    let mut shares: BTreeMap<NodeId, usize> = BTreeMap::new();
    for owner in owners(document).into_values().flatten() {
        *shares.entry(owner).or_default() += 1;
    }
    shares.into_values().collect()
}

#[test]
fn shards_are_spread_evenly_over_the_masters() {
    assert_eq!(shares(&many(&["a", "b", "c"], 3)), [1, 1, 1]);
    assert_eq!(shares(&many(&["a", "b", "c"], 30)), [10, 10, 10]);
    let shares = shares(&many(&["a", "b", "c", "d", "e"], 100));
    assert!(shares.iter().all(|share| (19..=21).contains(share)), "{shares:?}");
}

#[test]
fn a_server_that_leaves_moves_only_its_own_shards_and_gets_just_those_back() {
    for registration in [Registration::Static, Registration::Dynamic] {
        let before = many(&["a", "b", "c", "d"], 40);
        let gone = match registration {
            Registration::Static => after(&before, &away(2)),
            Registration::Dynamic => after(&before, &remove(2, RemoveReason::Unreachable)),
        };
        let (was, is) = (owners(&before), owners(&gone));
        for (log, owner) in &was {
            if *owner == Some(node(2)) {
                assert!(is[log].is_some_and(|owner| owner != node(2)));
            } else {
                assert_eq!(is[log], *owner, "moved without need");
            }
        }
        let shares = shares(&gone);
        assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 3, "{shares:?}");
        let returned = match registration {
            Registration::Static => after(&gone, &back(2)),
            Registration::Dynamic => after(&gone, &join(2, "b")),
        };
        assert_eq!(owners(&returned), is, "not before its copies are online");
        assert_eq!(owners(&all_caught_up(&returned)), was);
    }
}

#[test]
fn a_newcomer_takes_a_fair_share_and_moves_nothing_between_the_others() {
    let before = many(&["a", "b", "c"], 60);
    let joined = all_caught_up(&after(&before, &join(9, "n")));
    let (was, is) = (owners(&before), owners(&joined));
    let moved = was.iter().filter(|(log, owner)| is[log] != **owner).count();
    assert!(was.iter().all(|(log, owner)| is[log] == *owner || is[log] == Some(node(9))));
    assert!((13..=17).contains(&moved), "{moved}");
}

#[test]
fn a_newcomer_takes_over_the_turns_of_one_that_is_gone() {
    let before = many(&["a", "b", "c"], 30);
    let gone = after(&before, &remove(2, RemoveReason::Left));
    let replaced = all_caught_up(&after(&gone, &join(9, "n")));
    let (was, is) = (owners(&before), owners(&replaced));
    for (log, owner) in was {
        let expected = if owner == Some(node(2)) { Some(node(9)) } else { owner };
        assert_eq!(is[&log], expected);
    }
}

#[test]
fn a_named_first_place_owns_and_without_it_the_others_take_turns() {
    let given = rules(&[("s1", "b a c"), ("s2", "b a c"), ("s3", "x c +")]);
    let document = after(&cluster(&["a", "b", "c"]), &create(&given));
    for name in ["s1", "s2"] {
        assert_eq!(shard(&document, name).preferred_owner(), Some(node(2)));
    }
    assert!(shard(&document, "s3").preferred_owner().is_some(), "nobody waits for x");
    let gone = after(&document, &away(2));
    let next = |name: &str| shard(&gone, name).preferred_owner();
    assert!(next("s1") != next("s2") && next("s1").is_some() && next("s2").is_some());
}

#[test]
fn while_a_static_owner_is_away_nobody_owns_and_a_caretaker_leads() {
    let document = after(&cluster(&["a", "b", "c"]), &create(&rules(&[("notes", "a b c")])));
    let document = after(&document, &set_owner("notes", Some("b")));
    assert_eq!(shard(&document, "notes").candidates()[0], node(2));
    let gone = after(&document, &away(2));
    let notes = shard(&gone, "notes");
    assert_eq!(notes.preferred_owner(), None);
    assert_eq!(notes.preferred_leader(), Some(node(1)), "the first place");
    assert!(!notes.may_own(node(1)) && notes.may_own(node(2)));
    assert_eq!(notes.shard.owner.as_deref(), Some("b"), "never reassigned");
    let returned = caught_up(&after(&gone, &back(2)), "notes");
    assert_eq!(shard(&returned, "notes").preferred_owner(), Some(node(2)));
    // Also when it is taken out, and until it is back under its name.
    let out = after(&document, &remove(2, RemoveReason::Unreachable));
    assert_eq!(shard(&out, "notes").preferred_owner(), None);
    let renewed = caught_up(&after(&out, &join(9, "b")), "notes");
    assert_eq!(shard(&renewed, "notes").preferred_owner(), Some(node(9)));
}

#[test]
fn a_replica_never_owns_even_if_it_is_first() {
    let defaults = Defaults { roles: [("r".into(), Role::Replica)].into(), ..Defaults::default() };
    let document = cluster_of(&["a", "r", "b"], defaults);
    let document = after(&document, &create(&rules(&[("notes", "r a b"), ("mail", "+")])));
    let document = all_caught_up(&document);
    for shard in document.shards() {
        assert_eq!(shard.shard.copies.len(), 3);
        assert!(!shard.candidates().contains(&node(2)), "{}", shard.name);
        assert_eq!(shard.candidates().len(), 2);
    }
    let demoted = after(&document, &role(1, Role::Replica));
    assert!(demoted.shards().all(|shard| shard.candidates() == [node(3)]));
}

proptest! {
    #[test]
    fn candidates_are_online_masters_in_an_order_that_absence_does_not_change(
        servers in 1_usize..9,
        shards in 1_usize..40,
        gone in proptest::collection::btree_set(1_u128..9, 0..5),
    ) {
        let names: Vec<String> = (1..=servers).map(|n| format!("n{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let whole = many(&names, shards);
        let mut without = whole.clone();
        for number in gone.iter().filter(|number| whole.servers.contains_key(&node(**number))) {
            without = after(&without, &away(*number));
        }
        for shard in whole.shards() {
            let left = without.shard_of(shard.shard.log).unwrap().candidates();
            let mut expected = shard.candidates();
            prop_assert_eq!(expected.len(), servers);
            expected.retain(|id| !gone.contains(&id.0));
            prop_assert_eq!(left, expected);
        }
    }
}
