use std::collections::BTreeSet;

use super::super::{
    Applied, ConfigCommand, CopyStatus, DatabaseRules, PlaceRule, QuorumRule, Rejection,
    RemoveReason, Role, Settings, ShardRules, apply,
};
use super::{
    DEMO, add_shard, after, away, born, cluster, configure, create, drop_shard, join, logs, node,
    on, placed, places, refused, remove, role, rules, set_owner, shard,
};
use crate::ids::{DatabaseId, LogId};

fn names() -> (String, String) {
    ("demo".to_owned(), "notes".to_owned())
}

#[test]
fn a_database_without_rules_has_one_shard_on_every_server_all_online() {
    let document = after(&cluster(&["a", "b", "c"]), &create(&DatabaseRules::default()));
    let database = &document.databases["demo"];
    assert_eq!(database.shards.keys().collect::<Vec<_>>(), ["main"]);
    assert_eq!((database.id, database.created), (DEMO, document.version));
    let main = shard(&document, "main");
    assert_eq!(placed(&document, "main"), "a b c +");
    assert_eq!((main.shard.log, document.last_log), (LogId(1), LogId(1)));
    assert!(main.shard.copies.values().all(|status| *status == CopyStatus::Online));
    assert_eq!(main.write_quorum(), QuorumRule::Majority);
    assert_eq!(document.shard_of(LogId(1)).unwrap().name, "main");
}

#[test]
fn the_star_governs_main_and_every_shard_that_does_not_say_otherwise() {
    let mut given = rules(&[("notes", "c b"), ("internal", "z"), ("index", "z"), ("*", "z")]);
    given.settings.places = places("b +");
    given.settings.owner = Some("a".to_owned());
    given.settings.write_quorum = QuorumRule::All;
    given.shards.insert(
        "mail".to_owned(),
        ShardRules { write_quorum: Some(QuorumRule::Count(2)), ..ShardRules::default() },
    );
    let document = after(&cluster(&["a", "b", "c"]), &create(&given));
    let all: Vec<&str> = document.shards().map(|shard| shard.name).collect();
    assert_eq!(all, ["mail", "main", "notes"], "internal and index hold nothing");
    assert_eq!(placed(&document, "main"), "b a c +");
    assert_eq!(shard(&document, "main").preferred_owner(), Some(node(1)));
    assert_eq!(placed(&document, "notes"), "c b");
    assert_eq!(shard(&document, "notes").shard.owner, None, "its own servers, its own owner");
    assert_eq!(shard(&document, "mail").write_quorum(), QuorumRule::Count(2));
    assert_eq!(shard(&document, "notes").write_quorum(), QuorumRule::All);
}

#[test]
fn a_database_made_anew_has_another_id_and_logs_that_were_never_used() {
    let given = rules(&[("notes", "+")]);
    let first = after(&cluster(&["a", "b"]), &create(&given));
    let dropped = after(&first, &ConfigCommand::DropDatabase { name: "demo".to_owned() });
    assert_eq!(dropped.last_log, first.last_log, "remembered though nothing has it");
    let rules = Box::new(given);
    let id = DatabaseId(2);
    let again = ConfigCommand::CreateDatabase { name: "demo".to_owned(), id, rules };
    let second = after(&dropped, &again);
    assert!(logs(&second).iter().all(|log| !logs(&first).contains(log)));
    assert_eq!(second.databases["demo"].id, DatabaseId(2));
    // What was meant for the first does not hit the second.
    let other = Rejection::OtherDatabase { name: "demo".to_owned() };
    assert_eq!(refused(&second, &set_owner("notes", Some("a"))), other);
    assert_eq!(refused(&second, &drop_shard("notes")), other);
    let late = born(&first, "notes", &[1, 2]);
    assert_eq!(refused(&second, &late), Rejection::UnknownLog { log: LogId(2) });
}

#[test]
fn a_dropped_shard_made_anew_has_another_log() {
    let document = after(&cluster(&["a"]), &create(&rules(&[("notes", "+")])));
    let log = shard(&document, "notes").shard.log;
    let document = after(&document, &drop_shard("notes"));
    let document = after(&document, &add_shard("notes", &ShardRules::default()));
    assert!(shard(&document, "notes").shard.log > log);
}

#[test]
fn names_of_databases_and_shards_are_told_apart_without_regard_to_case() {
    let document = after(&cluster(&["a"]), &create(&rules(&[("notes", "+")])));
    let again = ConfigCommand::create_database("DEMO", DatabaseId(9));
    assert_eq!(refused(&document, &again), Rejection::DatabaseExists { name: "demo".to_owned() });
    let (database, shard) = names();
    let taken = Rejection::ShardExists { database, shard };
    assert_eq!(refused(&document, &add_shard("Notes", &ShardRules::default())), taken);
    let twice = create(&rules(&[("a", "+"), ("A", "+")]));
    let (database, shard) = ("demo".to_owned(), "A".to_owned());
    assert_eq!(refused(&cluster(&["a"]), &twice), Rejection::ShardExists { database, shard });
}

#[test]
fn names_that_cannot_be_directories_are_refused_by_name() {
    let document = cluster(&["a"]);
    for name in ["", "a/b", "a.b", "..", &"x".repeat(65)] {
        let command = ConfigCommand::create_database(name, DEMO);
        assert!(matches!(refused(&document, &command), Rejection::BadDatabaseName { .. }));
        if !name.is_empty() {
            let refused = refused(&document, &create(&rules(&[(name, "+")])));
            let (database, shard) = ("demo".to_owned(), name.to_owned());
            assert_eq!(refused, Rejection::BadShardName { database, shard });
        }
    }
    let document = after(&document, &create(&DatabaseRules::default()));
    let refused = refused(&document, &add_shard("Internal", &ShardRules::default()));
    assert!(matches!(refused, Rejection::BadShardName { .. }));
}

#[test]
fn every_bad_placement_is_refused_and_names_the_shard() {
    let document = after(&cluster(&["a", "b", "r"]), &role(3, Role::Replica));
    let refused_with = |own: ShardRules| {
        let mut given = DatabaseRules::default();
        given.shards.insert("notes".to_owned(), own);
        refused(&document, &create(&given))
    };
    let (database, shard) = names();
    assert_eq!(refused_with(on("")), Rejection::NoPlace { database, shard });
    let (database, shard) = names();
    let many: Vec<String> = (0..66).map(|number| format!("x{number}")).collect();
    let too_many = Rejection::TooManyPlaces { database, shard, asked: 66, max: 64 };
    assert_eq!(refused_with(on(&many.join(" "))), too_many);
    let (database, shard) = names();
    let servers = vec!["x".to_owned(), "y".to_owned()];
    assert_eq!(refused_with(on("x y")), Rejection::NoneThere { database, shard, servers });
    let (database, shard) = names();
    assert_eq!(refused_with(on("r x")), Rejection::NoMaster { database, shard });
    let (database, shard) = names();
    let owned = ShardRules { owner: Some("b".to_owned()), ..on("a") };
    let owner = "b".to_owned();
    assert_eq!(refused_with(owned), Rejection::OwnerNotListed { database, shard, owner });
    let (database, shard) = names();
    let owned = ShardRules { owner: Some("r".to_owned()), ..on("a r") };
    let owner = "r".to_owned();
    assert_eq!(refused_with(owned), Rejection::OwnerIsReplica { database, shard, owner });
    for (key, write, read) in [("writeQuorum", 3, 1), ("readQuorum", 2, 4)] {
        let (database, shard) = names();
        let quorums = ShardRules {
            write_quorum: Some(QuorumRule::Count(write)),
            read_quorum: Some(QuorumRule::Count(read)),
            ..on("a b r")
        };
        let (key, asked) = (key.to_owned(), write.max(read));
        let expected = Rejection::QuorumTooLarge { database, shard, key, asked, most: 2 };
        assert_eq!(refused_with(quorums), expected);
    }
    assert!(matches!(refused_with(on("a b.c")), Rejection::BadName { .. }));
    let mut bad = DatabaseRules::default();
    bad.settings.roles.insert("no/name".to_owned(), Role::Master);
    assert!(matches!(refused(&document, &create(&bad)), Rejection::BadName { .. }));
}

#[test]
fn a_quorum_may_count_on_a_server_that_is_still_to_come() {
    let mut given = rules(&[("notes", "a x")]);
    given.settings.write_quorum = QuorumRule::Count(2);
    let document = after(&cluster(&["a"]), &create(&given));
    assert_eq!(placed(&document, "notes"), "a [x]");
    assert_eq!(shard(&document, "notes").awaited().collect::<Vec<_>>(), ["x"]);
    assert_eq!(placed(&document, "main"), "a +", "the mark has place for any number");
}

#[test]
fn a_shard_whose_masters_are_all_away_is_not_founded() {
    let document = after(&cluster(&["a", "b"]), &away(2));
    let (database, shard) = names();
    let away = vec!["b".to_owned()];
    let expected = Rejection::NoneOnline { database, shard, away };
    assert_eq!(refused(&document, &create(&rules(&[("notes", "b")]))), expected);
}

#[test]
fn a_role_of_the_database_makes_a_replica_and_never_a_master() {
    let mut given = rules(&[("notes", "b a r")]);
    given.settings.roles = [("b".to_owned(), Role::Replica), ("r".to_owned(), Role::Master)].into();
    let document = after(&cluster(&["a", "b", "r"]), &role(3, Role::Replica));
    let document = after(&document, &create(&given));
    let masters: Vec<_> = shard(&document, "notes").masters().map(|(id, _)| id).collect();
    assert_eq!(masters, [node(1)]);
    // An operator's word weighs more than the file.
    let document = after(&document, &role(2, Role::Master));
    let masters: Vec<_> = shard(&document, "notes").masters().map(|(id, _)| id).collect();
    assert_eq!(masters, [node(2), node(1)]);
}

#[test]
fn main_cannot_be_dropped_nor_what_is_not_there() {
    let document = after(&cluster(&["a"]), &create(&DatabaseRules::default()));
    let database = "demo".to_owned();
    assert_eq!(refused(&document, &drop_shard("main")), Rejection::MainShard { database });
    let (database, shard) = names();
    assert_eq!(
        refused(&document, &drop_shard("notes")),
        Rejection::UnknownShard { database, shard }
    );
    let (database, shard) = names();
    let unknown = Rejection::UnknownShard { database, shard };
    assert_eq!(refused(&document, &set_owner("notes", None)), unknown);
    let nowhere = refused(&cluster(&["a"]), &configure(&DatabaseRules::default()));
    assert_eq!(nowhere, Rejection::UnknownDatabase { name: "demo".to_owned() });
}

#[test]
fn nobody_takes_the_last_whole_copy_of_a_shard() {
    let document = after(&cluster(&["a", "b", "c"]), &create(&rules(&[("notes", "b c")])));
    let document = after(&document, &away(3));
    let (database, shard) = names();
    let last = Rejection::LastCopy { server: "b".to_owned(), database, shard };
    assert_eq!(refused(&document, &remove(2, RemoveReason::Operator)), last);
    assert_eq!(refused(&document, &role(2, Role::Replica)), last);
    // The one without a whole copy may go, and then the other is the last of all.
    let without = after(&document, &remove(3, RemoveReason::Operator));
    assert_eq!(refused(&without, &remove(2, RemoveReason::Operator)), last);
    // One that is gone is awaited, whatever it is registered as: once out it would come back with
    // nothing. Neither of the two may go, for the other may have missed something.
    let gone = after(&document, &away(2));
    for number in [2, 3] {
        for reason in [RemoveReason::Unreachable, RemoveReason::Left] {
            let why = refused(&gone, &remove(number, reason));
            assert!(matches!(why, Rejection::LastCopy { .. }), "{why}");
            assert!(!gone.may_go(node(number)));
        }
    }
    let there = after(&gone, &super::back(3));
    let online = super::set_copy(&there, "notes", 3, CopyStatus::Synchronizing);
    let there = after(&there, &online);
    let online = super::set_copy(&there, "notes", 3, CopyStatus::Online);
    let online = after(&there, &online);
    let gone = after(&online, &remove(2, RemoveReason::Unreachable));
    assert_eq!(placed(&gone, "notes"), "[b] c");
}

#[test]
fn no_master_becomes_a_replica_whose_vote_a_quorum_needs() {
    let mut given = rules(&[("notes", "a b")]);
    given.settings.write_quorum = QuorumRule::Count(2);
    let document = after(&cluster(&["a", "b", "c"]), &create(&given));
    let (database, shard) = names();
    let key = "writeQuorum".to_owned();
    let expected = Rejection::QuorumTooLarge { database, shard, key, asked: 2, most: 1 };
    assert_eq!(refused(&document, &role(2, Role::Replica)), expected);
    assert_eq!(after(&document, &role(3, Role::Replica)).servers[&node(3)].role, Role::Replica);
}

#[test]
fn a_renamed_server_keeps_its_places_its_ownership_and_its_role() {
    let mut given = rules(&[("notes", "a b")]);
    given.settings.roles.insert("b".to_owned(), Role::Replica);
    given.settings.places = places("b a + x");
    let document = after(&cluster(&["a", "b"]), &create(&given));
    let document = after(&document, &set_owner("notes", Some("a")));
    let renamed = after(&after(&document, &join(1, "a2")), &join(2, "b2"));
    assert_eq!(placed(&renamed, "notes"), "a2 b2");
    let settings = &renamed.databases["demo"].settings;
    assert_eq!(settings.places, places("b2 a2 + x"));
    assert_eq!(settings.roles.get("b2"), Some(&Role::Replica));
    assert_eq!(shard(&renamed, "notes").preferred_owner(), Some(node(1)));
    let kept = shard(&document, "notes").shard.copies.clone();
    assert_eq!(shard(&renamed, "notes").shard.copies, kept);
    // It takes the place that its new name has, and is not in two.
    let renamed = after(&document, &join(2, "x"));
    assert_eq!(placed(&renamed, "main"), "x a +");
}

#[test]
fn a_server_that_goes_away_takes_its_copies_out_of_service_in_the_same_change() {
    let document = after(&cluster(&["a", "b"]), &create(&rules(&[("notes", "+")])));
    let gone = after(&document, &away(2));
    for shard in gone.shards() {
        assert_eq!(shard.shard.copies[&node(2)], CopyStatus::NotAvailable);
        assert_eq!(shard.shard.copies[&node(1)], CopyStatus::Online);
        assert_eq!(shard.shard.revised, gone.version);
    }
}

#[test]
fn what_no_change_touches_is_shared_between_versions() {
    let document = after(&cluster(&["a", "b"]), &create(&DatabaseRules::default()));
    let second = after(&document, &ConfigCommand::create_database("other", DatabaseId(2)));
    let (old, new) = (&document.databases["demo"], &second.databases["demo"]);
    assert!(std::sync::Arc::ptr_eq(old, new));
}

#[test]
fn an_owner_is_awaited_by_name_and_may_be_taken_back() {
    let document = after(&cluster(&["a", "b"]), &create(&DatabaseRules::default()));
    let owned = after(&document, &set_owner("main", Some("b")));
    assert_eq!(shard(&owned, "main").preferred_owner(), Some(node(2)));
    let gone = after(&owned, &remove(2, RemoveReason::Unreachable));
    assert_eq!(placed(&gone, "main"), "a [b] +", "a dynamic server too");
    let mut same = Some(owned.clone());
    assert_eq!(apply(&mut same, &set_owner("main", Some("b"))), Ok(Applied::Unchanged));
    assert_eq!(shard(&after(&owned, &set_owner("main", None)), "main").shard.owner, None);
    let (database, shard) = ("demo".to_owned(), "main".to_owned());
    let owner = "x".to_owned();
    let expected = Rejection::OwnerNotListed { database, shard, owner };
    assert_eq!(refused(&document, &set_owner("main", Some("x"))), expected);
}

#[test]
fn the_rules_of_the_default_file_are_the_default_rules() {
    let settings = Settings::default();
    assert_eq!(settings.places, [PlaceRule::NewNode]);
    assert_eq!(QuorumRule::Majority.copies(4), 3);
    assert_eq!(QuorumRule::Majority.copies(1), 1);
    assert_eq!(QuorumRule::All.copies(5), 5);
    assert_eq!(QuorumRule::Count(0).copies(5), 1);
    let distinct: BTreeSet<usize> = (1..=7).map(|n| QuorumRule::Majority.copies(n)).collect();
    assert_eq!(distinct, BTreeSet::from([1, 2, 3, 4]));
}
