//! The documented example of a sharded database, and what joining does to it.

use super::super::{CopyStatus, DatabaseRules, Registration, Rejection, RemoveReason, preview};
use super::{
    after, away, caught_up, cluster, create, join, node, placed, places, refused, remove, rules,
    shard,
};

fn example() -> DatabaseRules {
    let mut example = rules(&[
        ("client_usa", "usa europe"),
        ("client_europe", "europe"),
        ("client_china", "china usa europe"),
    ]);
    example.settings.places = places("usa +");
    example
}

#[test]
fn while_only_usa_exists_the_shard_that_is_europes_alone_is_refused_by_name() {
    let (database, shard) = ("demo".to_owned(), "client_europe".to_owned());
    let servers = vec!["europe".to_owned()];
    let expected = Rejection::NoneThere { database, shard, servers };
    let refused = refused(&cluster(&["usa"]), &create(&example()));
    assert_eq!(refused, expected);
    assert_eq!(
        refused.to_string(),
        "the shard 'client_europe' of 'demo' is placed on europe only, not in the cluster: start \
         one of them first, or list another"
    );
}

#[test]
fn each_shard_is_where_it_belongs_and_who_is_missing_takes_its_place_when_it_joins() {
    let document = cluster(&["usa", "europe"]);
    let moves = preview(&document, &create(&example())).unwrap();
    let shown: Vec<String> = moves.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "demo/client_china: is new; on usa, europe; awaits china; owner usa, before nobody",
            "demo/client_europe: is new; on europe; owner europe, before nobody",
            "demo/client_usa: is new; on usa, europe; owner usa, before nobody",
            "demo/main: is new; on usa, europe; owner usa, before nobody",
        ]
    );
    let founded = after(&document, &create(&example()));
    let first = &shard(&founded, "client_china").shard.founding.as_ref().unwrap().first;
    assert_eq!(first.incoming.voters, super::nodes(&[1, 2]));
    let joined = after(&founded, &join(3, "china"));
    assert_eq!(placed(&joined, "client_china"), "china usa europe");
    assert_eq!(placed(&joined, "client_usa"), "usa europe", "not a place of china's");
    assert_eq!(placed(&joined, "client_europe"), "europe");
    assert_eq!(placed(&joined, "main"), "usa europe china +");
    let china = shard(&joined, "client_china");
    assert_eq!(china.shard.copies[&node(3)], CopyStatus::NotAvailable);
    assert_eq!(china.preferred_owner(), Some(node(1)), "not before its copy is online");
    let online = caught_up(&joined, "client_china");
    assert_eq!(shard(&online, "client_china").preferred_owner(), Some(node(3)));
    let same = &shard(&online, "client_china").shard.founding.as_ref().unwrap().first;
    assert_eq!(same, first, "the first membership is constant");
}

#[test]
fn a_shard_whose_only_holder_is_away_has_no_owner_and_no_other_server_gets_one() {
    let document = after(&cluster(&["usa", "europe", "china"]), &create(&example()));
    let gone = after(&document, &away(2));
    let europe = shard(&gone, "client_europe");
    assert_eq!((europe.preferred_owner(), europe.preferred_leader()), (None, None));
    assert_eq!(shard(&gone, "client_usa").preferred_owner(), Some(node(1)));
    assert!(!gone.may_go(node(2)), "it is awaited");
    // A wiped disk takes the name and the place, and must not begin the log: it has no copy.
    let wiped = after(&gone, &join(9, "europe"));
    let europe = shard(&wiped, "client_europe");
    assert_eq!(europe.shard.copies[&node(9)], CopyStatus::NotAvailable);
    assert_eq!(europe.shard.first_entry(node(9), crate::ConfigVersion::ZERO), None);
}

#[test]
fn a_joining_server_is_inserted_before_the_mark_unless_it_is_listed() {
    let document = after(&cluster(&["a", "b"]), &create(&rules(&[("notes", "b + late")])));
    assert_eq!(placed(&document, "notes"), "b a + [late]");
    let document = after(&document, &join(3, "c"));
    assert_eq!(placed(&document, "notes"), "b a c + [late]");
    let document = after(&document, &join(4, "late"));
    assert_eq!(placed(&document, "notes"), "b a c + late");
    // A dynamic server that is removed goes from where it joined, and stays where it is named.
    let removed = after(&document, &remove(2, RemoveReason::Unreachable));
    let removed = after(&removed, &remove(3, RemoveReason::Unreachable));
    assert_eq!(placed(&removed, "notes"), "[b] a + late");
    assert_eq!(placed(&after(&removed, &join(3, "c")), "notes"), "[b] a c + late");
}

#[test]
fn a_wiped_disk_takes_the_places_of_its_predecessor() {
    let document = after(&cluster(&["a", "b", "c"]), &create(&rules(&[("notes", "c b")])));
    let document = after(&document, &away(2));
    let wiped = after(&document, &join(9, "b"));
    assert_eq!(wiped.servers[&node(9)].registration, Registration::Dynamic);
    assert_eq!(placed(&wiped, "main"), "a b c +", "in the same order");
    assert_eq!(placed(&wiped, "notes"), "c b");
    for shard in wiped.shards() {
        assert!(!shard.shard.copies.contains_key(&node(2)));
        assert_eq!(shard.shard.copies[&node(9)], CopyStatus::NotAvailable);
    }
    assert_eq!(wiped.turns, [node(1), node(9), node(3)]);
}
