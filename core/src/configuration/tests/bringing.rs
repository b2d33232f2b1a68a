//! Names that are reserved, and what is made of them.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{
    Absorption, Applied, Attempt, Bringing, Brought, ConfigCommand, Configuration, CopyStatus,
    DatabaseRules, MAIN, PlaceRule, QuorumRule, Rejection, Role, apply,
};
use super::{
    after, cluster, configure, create, founded, join, node, on, placed, places, refused, rules,
    shard,
};
use crate::configuration::Defaults;
use crate::ids::{ClusterId, DatabaseId, LogId, NodeId};

/// The cluster that brings, the id of its one server there, and the one that it gets here.
const OTHER: ClusterId = ClusterId(77);
const HOLDER: NodeId = NodeId(770);
const COMES: NodeId = NodeId(9);

fn brought(name: &str, id: u128) -> Brought {
    Brought {
        name: name.to_owned(),
        was: DatabaseId(id),
        id: DatabaseId(id << 64),
        rules: DatabaseRules::default(),
        logs: BTreeMap::from([(MAIN.to_owned(), LogId(1))]),
    }
}

fn bringing(attempt: Attempt, names: &[&str]) -> Bringing {
    let databases = names.iter().zip(1..).map(|(name, id)| brought(name, id)).collect();
    Bringing { holder: HOLDER, name: "guest".into(), attempt, databases }
}

fn reserve(what: &Bringing) -> ConfigCommand {
    ConfigCommand::Reserve { cluster: OTHER, bringing: Box::new(what.clone()) }
}

fn reserve_names(attempt: Attempt, names: &[&str]) -> ConfigCommand {
    reserve(&bringing(attempt, names))
}

fn release(attempt: Attempt) -> ConfigCommand {
    ConfigCommand::Release { cluster: OTHER, attempt }
}

fn named(name: &str, id: u128) -> ConfigCommand {
    let rules = Box::new(DatabaseRules::default());
    ConfigCommand::CreateDatabase { name: name.into(), id: DatabaseId(id), rules }
}

fn arrives(name: &str) -> ConfigCommand {
    let ConfigCommand::Join { node, name, addresses, start, .. } = join(COMES.0, name) else {
        unreachable!("a join")
    };
    ConfigCommand::Join {
        node,
        name,
        addresses,
        start,
        dissolved_from: Some(OTHER),
        brings: Some(HOLDER),
    }
}

fn unchanged(document: &Configuration, command: &ConfigCommand) {
    let mut held = Some(document.clone());
    assert_eq!(apply(&mut held, command), Ok(Applied::Unchanged));
    assert_eq!(held.as_ref(), Some(document));
}

#[test]
fn a_reserved_name_is_nobody_elses() {
    let document = after(&cluster(&["a", "b"]), &reserve_names((1, 1), &["shop", "stock"]));
    assert_eq!(
        refused(&document, &named("SHOP", 5)),
        Rejection::NameReserved { name: "SHOP".into(), server: "guest".into(), cluster: OTHER }
    );
    after(&document, &named("demo", 5));
    // Nor another cluster's that brings one of that name.
    let third = ConfigCommand::Reserve {
        cluster: ClusterId(78),
        bringing: Box::new(Bringing {
            holder: NodeId(780),
            name: "third".into(),
            ..bringing((1, 1), &["Stock", "x"])
        }),
    };
    let taken = Rejection::NamesTaken { names: vec!["Stock".into()] };
    assert_eq!(refused(&document, &third), taken);
}

#[test]
fn databases_of_the_same_names_are_all_named_and_nothing_is_reserved() {
    let document = after(&cluster(&["a"]), &named("shop", 5));
    let document = after(&document, &named("stock", 6));
    let names = vec!["Shop".to_owned(), "stock".to_owned()];
    let asked = reserve_names((1, 1), &["Shop", "free", "stock"]);
    assert_eq!(refused(&document, &asked), Rejection::NamesTaken { names });
}

#[test]
fn of_one_clusters_questions_only_the_latest_counts() {
    let document = after(&cluster(&["a"]), &reserve_names((2, 4), &["shop"]));
    assert_eq!(refused(&document, &reserve_names((2, 3), &["old"])), Rejection::OldAttempt);
    assert_eq!(refused(&document, &reserve_names((1, 9), &["old"])), Rejection::OldAttempt);
    assert_eq!(refused(&document, &release((2, 3))), Rejection::OldAttempt);
    unchanged(&document, &reserve_names((2, 4), &["shop"]));
    // A later one stands in for all of the one before it.
    let document = after(&document, &reserve_names((3, 1), &["stock"]));
    assert!(document.reserved("shop").is_none() && document.reserved("stock").is_some());
    after(&document, &named("shop", 5));
}

#[test]
fn a_later_question_that_is_refused_leaves_the_one_before_it() {
    let document = after(&cluster(&["a"]), &named("mine", 5));
    let document = after(&document, &reserve_names((1, 1), &["shop"]));
    refused(&document, &reserve_names((1, 2), &["shop", "mine"]));
    assert!(document.reserved("shop").is_some());
}

#[test]
fn what_is_released_is_free_and_binds_no_longer() {
    let document = after(&cluster(&["a"]), &reserve_names((1, 1), &["shop"]));
    assert_eq!(document.absorbed.get(&OTHER), Some(&Absorption::Offered));
    let into = ClusterId(99);
    let dissolve = ConfigCommand::Dissolve { into, addresses: Vec::new() };
    assert_eq!(refused(&document, &dissolve), Rejection::Absorbing);
    let document = after(&document, &release((1, 2)));
    assert!(document.bringing.is_empty() && document.absorbed.is_empty());
    unchanged(&document, &release((1, 2)));
    after(&document, &named("shop", 5));
    assert!(after(&document, &dissolve).dissolved_into.is_some());
}

#[test]
fn nobody_brings_anything_to_itself_or_after_it_has_ended() {
    let document = cluster(&["a"]);
    let own = ConfigCommand::Reserve {
        cluster: document.cluster,
        bringing: Box::new(bringing((1, 1), &["shop"])),
    };
    assert_eq!(refused(&document, &own), Rejection::NotFounding);
    let document = after(&document, &ConfigCommand::Absorbed { cluster: OTHER });
    let before = Rejection::BroughtBefore { cluster: OTHER };
    assert_eq!(refused(&document, &reserve_names((1, 1), &["shop"])), before);
}

#[test]
fn whoever_arrives_makes_all_of_its_databases_and_is_alone_in_them() {
    let document = cluster(&["a", "b"]);
    let document = after(&document, &reserve_names((1, 1), &["shop", "stock"]));
    let document = after(&document, &arrives("guest"));
    assert!(document.bringing.is_empty());
    assert_eq!(document.absorbed.get(&OTHER), Some(&Absorption::Done));
    for (name, id) in [("shop", 1_u128), ("stock", 2)] {
        assert_eq!(document.databases[name].id, DatabaseId(id << 64), "a new id");
        let shard = document.shard(name, MAIN).unwrap().shard;
        let founding = shard.founding.as_ref().expect("it has yet to begin");
        assert_eq!(founding.unborn, BTreeSet::from([COMES]));
        assert_eq!(founding.first.incoming.voters, BTreeSet::from([COMES]));
        let origin = founding.origin.expect("it begins with what is brought");
        assert_eq!((origin.cluster, origin.node, origin.log), (OTHER, HOLDER, LogId(1)));
        assert_eq!(shard.copies.len(), 3);
        assert!(shard.copies.values().all(|status| *status == CopyStatus::NotAvailable));
    }
    // It has come; nothing is made a second time.
    unchanged(&document, &arrives("guest"));
}

#[test]
fn somebody_else_of_that_cluster_brings_nothing() {
    let document = after(&cluster(&["a"]), &reserve_names((1, 1), &["shop"]));
    let ConfigCommand::Join { node, name, addresses, start, dissolved_from, .. } = arrives("other")
    else {
        unreachable!("a join")
    };
    let brings = Some(NodeId(771));
    let other = ConfigCommand::Join { node, name, addresses, start, dissolved_from, brings };
    let document = after(&document, &other);
    assert!(document.databases.is_empty());
    assert!(document.reserved("shop").is_some(), "the holder is still awaited");
    // Its cluster counts as taken in by now, but what it left is promised to this one alone.
    assert_eq!(document.absorbed.get(&OTHER), Some(&Absorption::Done));
    let end = ConfigCommand::Dissolve { into: ClusterId(5), addresses: Vec::new() };
    assert_eq!(refused(&document, &end), Rejection::Absorbing);
    after(&after(&document, &ConfigCommand::DropDatabase { name: "shop".into() }), &end);
}

#[test]
fn whoever_brings_to_a_cluster_that_waits_for_nothing_is_refused() {
    let not = Rejection::NotReserved { cluster: OTHER };
    assert_eq!(refused(&cluster(&["a"]), &arrives("guest")), not);
}

#[test]
fn a_name_that_an_operator_gave_up_is_not_made() {
    let document = after(&cluster(&["a"]), &reserve_names((1, 1), &["shop", "stock"]));
    let document = after(&document, &ConfigCommand::DropDatabase { name: "Shop".into() });
    let document = after(&document, &named("shop", 5));
    let document = after(&document, &arrives("guest"));
    assert_eq!(document.databases["shop"].id, DatabaseId(5));
    assert_eq!(document.databases["stock"].id, DatabaseId(2 << 64));
}

#[test]
fn the_holder_has_a_place_under_the_name_that_it_gets() {
    let mut what = bringing((1, 1), &["shop"]);
    let rules = &mut what.databases[0].rules;
    rules.settings.places = places("guest");
    rules.settings.owner = Some("guest".into());
    let document = after(&cluster(&["a", "b"]), &reserve(&what));
    // It was started under another name since.
    let document = after(&document, &arrives("visitor"));
    let shard = document.shard("shop", MAIN).unwrap();
    assert_eq!(shard.shard.owner.as_deref(), Some("visitor"));
    let holders: Vec<NodeId> = shard.servers().map(|(id, _)| id).collect();
    assert_eq!(holders, [COMES]);
}

#[test]
fn a_holder_whose_name_is_taken_keeps_its_cluster() {
    // Whether that server is there or away: the holder could not join, or would take its place.
    let document = cluster(&["a", "guest"]);
    let name = || "guest".to_owned();
    let taken = Rejection::DuplicateName { name: name(), holder: super::addresses(2).node };
    assert_eq!(refused(&document, &reserve_names((1, 1), &["shop"])), taken);
    let document = after(&document, &super::away(2));
    assert_eq!(refused(&document, &reserve_names((1, 1), &["shop"])), taken);
}

#[test]
fn two_holders_of_one_name_are_not_both_waited_for() {
    let document = after(&cluster(&["a"]), &reserve_names((1, 1), &["shop"]));
    let kept = Rejection::ServerNameReserved { name: "guest".into(), cluster: OTHER };
    let third = ConfigCommand::Reserve {
        cluster: ClusterId(78),
        bringing: Box::new(Bringing { holder: NodeId(780), ..bringing((1, 1), &["x"]) }),
    };
    assert_eq!(refused(&document, &third), kept);
    let document = after(&document, &ConfigCommand::DropDatabase { name: "shop".into() });
    after(&document, &third);
}

#[test]
fn a_holder_whose_disk_was_lost_joins_with_nothing() {
    let document = after(&cluster(&["a"]), &reserve_names((1, 1), &["shop"]));
    let document = after(&document, &join(5, "guest"));
    assert!(document.reserved("shop").is_some(), "until an operator gives it up");
}

#[test]
fn a_holder_that_was_a_replica_can_decide_in_what_it_brings() {
    let mut what = bringing((1, 1), &["shop"]);
    what.databases[0].rules.settings.roles.insert("guest".into(), Role::Replica);
    what.databases[0].rules.settings.places = vec![PlaceRule::NewNode];
    let document = after(&cluster(&["a"]), &reserve(&what));
    let document = after(&document, &arrives("guest"));
    assert_eq!(document.servers[&COMES].role, Role::Master);
    let shard = document.shard("shop", MAIN).unwrap();
    assert!(shard.masters().any(|(id, _)| id == COMES), "{:?}", shard.shard.copies);
}

/// Seed 8052250: the cluster of the holder has ended by then, and roles of others have changed since the
/// names were reserved.
#[test]
fn whoever_comes_is_not_refused_for_roles_that_are_others_by_now() {
    let count = |most| {
        let mut what = bringing((1, 1), &["shop"]);
        let settings = &mut what.databases[0].rules.settings;
        settings.places = ["guest", "b"].map(|name| PlaceRule::Server(name.into())).to_vec();
        settings.write_quorum = QuorumRule::Count(most);
        what
    };
    let why = refused(&cluster(&["a", "b"]), &reserve(&count(3)));
    assert!(matches!(why, Rejection::QuorumTooLarge { asked: 3, most: 2, .. }), "{why:?}");
    let mut what = count(2);
    what.databases[0].rules.settings.owner = Some("b".into());
    let document = after(&cluster(&["a", "b"]), &reserve(&what));
    let b = document.by_name("b").unwrap().0;
    let document = after(&document, &ConfigCommand::SetRole { node: b, role: Role::Replica });
    let document = after(&document, &arrives("guest"));
    let shard = document.shard("shop", MAIN).unwrap();
    assert_eq!(shard.masters().map(|(id, _)| id).collect::<Vec<_>>(), [COMES]);
    assert_eq!(shard.write_quorum(), QuorumRule::Count(2), "as its operators have asked for");
    assert_eq!(shard.shard.owner.as_deref(), Some("b"));
}

/// A cluster of one server with a database.
fn alone() -> Configuration {
    after(&founded(1, Defaults::default()), &create(&rules(&[("s1", "n1 +")])))
}

fn ends_with(databases: Vec<Brought>) -> ConfigCommand {
    ConfigCommand::DissolveBringing { into: OTHER, addresses: Vec::new(), databases }
}

#[test]
fn a_cluster_ends_only_with_exactly_what_was_agreed_on() {
    let document = alone();
    let agreed = document.to_bring();
    assert_eq!(agreed[0].logs.len(), 2, "both shards");
    let plain = ConfigCommand::Dissolve { into: OTHER, addresses: Vec::new() };
    assert_eq!(refused(&document, &plain), Rejection::HoldsDatabases);

    // The ids that they are to get are the other one's affair.
    let mut there = agreed.clone();
    there[0].id = DatabaseId(12345);
    let ended = after(&document, &ends_with(there)).dissolved_into.expect("it ends");
    assert!(ended.into == OTHER && ended.brings);

    let more = after(&document, &named("more", 5));
    assert_eq!(refused(&more, &ends_with(agreed.clone())), Rejection::BringsOther);
    let fewer = after(&document, &ConfigCommand::DropDatabase { name: "demo".into() });
    assert_eq!(refused(&fewer, &ends_with(agreed.clone())), Rejection::BringsOther);
    let changed = after(&document, &configure(&rules(&[("s1", "n1 +"), ("s2", "n1")])));
    assert_eq!(refused(&changed, &ends_with(agreed)), Rejection::BringsOther);
}

#[test]
fn a_cluster_of_two_brings_nothing() {
    let document = after(&alone(), &join(2, "n2"));
    let all = document.to_bring();
    assert_eq!(refused(&document, &ends_with(all)), Rejection::NotAlone);
}

#[test]
fn one_that_does_not_hold_every_shard_brings_nothing() {
    let document = after(&founded(1, Defaults::default()), &join(2, "n2"));
    let document = after(&document, &create(&rules(&[("s1", "n2")])));
    assert_eq!(placed(&document, "s1"), "n2");
    let document = after(&document, &super::away(2));
    // Its last copy is not removed, so a recovery leaves a cluster of one without that shard.
    let recovered = ConfigCommand::Recover { cluster: ClusterId(3), survivor: node(1) };
    let document = after(&document, &recovered);
    assert_eq!(document.servers.len(), 1);
    assert!(!shard(&document, "s1").shard.copies.contains_key(&node(1)));
    let all = document.to_bring();
    assert_eq!(refused(&document, &ends_with(all)), Rejection::NotAlone);
}

#[test]
fn one_that_takes_in_others_does_not_end() {
    let document = after(&alone(), &ConfigCommand::Absorb { cluster: ClusterId(5) });
    let all = document.to_bring();
    assert_eq!(refused(&document, &ends_with(all)), Rejection::Absorbing);
}

#[test]
fn what_is_reserved_counts_for_the_bounds() {
    let mut what = bringing((1, 1), &["shop"]);
    let shards = Configuration::LOGS_MAX;
    what.databases[0].logs = (1..=shards as u64).map(|n| (format!("s{n}"), LogId(n))).collect();
    what.databases[0].rules = DatabaseRules {
        shards: (1..=shards).map(|n| (format!("s{n}"), on("+"))).collect(),
        ..DatabaseRules::default()
    };
    let why = refused(&after(&cluster(&["a"]), &named("x", 5)), &reserve(&what));
    assert!(matches!(why, Rejection::TooManyLogs { .. }), "{why}");
}
