//! Hot changes of a database, and what they would move.

use std::collections::BTreeSet;

use super::super::{
    Applied, ConfigCommand, CopyStatus, DatabaseRules, ExecutionMode, MAIN, Presence, QuorumRule,
    Rejection, apply, preview, problems, what_moves,
};
use super::{
    DEMO, add_shard, after, cluster, configure, create, join, node, on, placed, places, refused,
    rules, set_owner, shard,
};
use crate::ids::DatabaseId;

#[test]
fn settings_change_while_the_shards_stay_what_they_are() {
    let document = after(&cluster(&["a", "b"]), &create(&rules(&[("notes", "b +")])));
    let mut given = rules(&[("notes", "b +")]);
    given.settings.write_quorum = QuorumRule::All;
    given.settings.execution_mode = ExecutionMode::Asynchronous;
    given.settings.auto_deploy = false;
    let changed = after(&document, &configure(&given));
    assert_eq!(shard(&changed, "notes").write_quorum(), QuorumRule::All);
    assert_eq!(what_moves(&document, &changed), []);
    for (old, new) in document.shards().zip(changed.shards()) {
        assert_eq!(old.shard, new.shard);
    }
    let mut same = Some(changed.clone());
    assert_eq!(apply(&mut same, &configure(&given)), Ok(Applied::Unchanged));
}

#[test]
fn a_shard_that_moves_is_shown_before_it_does() {
    let document = after(&cluster(&["a", "b", "c"]), &create(&rules(&[("notes", "a b")])));
    let command = configure(&rules(&[("notes", "c b x")]));
    let moves = preview(&document, &command).unwrap();
    let [moves] = moves.as_slice() else { panic!("{moves:?}") };
    assert_eq!((moves.database.as_str(), moves.shard.as_str()), ("demo", "notes"));
    assert_eq!((moves.gains.clone(), moves.loses.clone()), (vec!["c".into()], vec!["a".into()]));
    assert_eq!(moves.awaited, ["x"]);
    assert_eq!(moves.presence, Presence::Kept);
    assert_eq!(moves.owner_before.as_deref(), Some("a"));
    assert_eq!(moves.owner_after.as_deref(), Some("b"), "c is not online yet");
    assert_eq!(moves.to_string(), "demo/notes: on c; no longer on a; awaits x; owner b, before a");
    let changed = after(&document, &command);
    let notes = shard(&changed, "notes").shard;
    assert_eq!(notes.copies[&node(3)], CopyStatus::NotAvailable);
    assert_eq!(notes.copies[&node(2)], CopyStatus::Online, "what stays, stays as it is");
    assert_eq!(notes.log, shard(&document, "notes").shard.log);
}

#[test]
fn a_copy_that_comes_back_to_its_place_must_come_online_anew() {
    let document = after(&cluster(&["a", "b"]), &create(&rules(&[("notes", "a b")])));
    let without = after(&document, &configure(&rules(&[("notes", "a")])));
    let with = after(&without, &configure(&rules(&[("notes", "a b")])));
    assert_eq!(shard(&with, "notes").shard.copies[&node(2)], CopyStatus::NotAvailable);
    let late = ConfigCommand::SetCopy {
        log: shard(&with, "notes").shard.log,
        node: node(2),
        status: CopyStatus::Online,
        judged_at: without.version,
    };
    assert!(matches!(refused(&with, &late), Rejection::Overtaken { .. }));
}

#[test]
fn the_mark_stands_for_all_who_are_in_and_keeps_their_order() {
    let document = after(&cluster(&["a", "b", "c"]), &create(&rules(&[("notes", "+")])));
    let document = after(&document, &configure(&rules(&[("notes", "c +")])));
    assert_eq!(placed(&document, "notes"), "c a b +");
    let document = after(&document, &join(4, "d"));
    let document = after(&document, &configure(&rules(&[("notes", "+")])));
    assert_eq!(placed(&document, "notes"), "a b d c +", "those that were joined first");
    let document = after(&document, &configure(&rules(&[("notes", "b")])));
    assert_eq!(placed(&document, "notes"), "b");
}

#[test]
fn rules_add_shards_and_what_they_do_not_name_follows_the_star() {
    let document = after(&cluster(&["a", "b"]), &create(&rules(&[("notes", "a")])));
    let mut given = rules(&[("mail", "b")]);
    given.settings.places = places("b a");
    let moves = preview(&document, &configure(&given)).unwrap();
    let shown: Vec<(&str, Presence)> =
        moves.iter().map(|moves| (moves.shard.as_str(), moves.presence)).collect();
    assert_eq!(shown[0], ("mail", Presence::Added));
    let document = after(&document, &configure(&given));
    assert_eq!(placed(&document, "notes"), "b a");
    assert_eq!(shard(&document, "mail").shard.log, document.last_log);
    let document = after(&document, &add_shard("late", &Default::default()));
    assert_eq!(placed(&document, "late"), "b a");
}

#[test]
fn a_bad_configuration_changes_nothing_and_names_the_shard() {
    let document = after(&cluster(&["a", "b"]), &create(&rules(&[("notes", "a b")])));
    let (database, shard) = ("demo".to_owned(), "notes".to_owned());
    let servers = vec!["x".to_owned()];
    let expected = Rejection::NoneThere { database, shard, servers };
    assert_eq!(refused(&document, &configure(&rules(&[("notes", "x")]))), expected);
    let (database, shard) = ("demo".to_owned(), "notes".to_owned());
    let no_place = configure(&rules(&[("notes", "")]));
    assert_eq!(refused(&document, &no_place), Rejection::NoPlace { database, shard });
    let mut given = DatabaseRules::default();
    given.settings.owner = Some("c".to_owned());
    let (database, shard, owner) = ("demo".to_owned(), "main".to_owned(), "c".to_owned());
    let expected = Rejection::OwnerNotListed { database, shard, owner };
    assert_eq!(refused(&document, &configure(&given)), expected);
    let other = ConfigCommand::Configure {
        name: "demo".to_owned(),
        id: DatabaseId(5),
        rules: Box::default(),
        drop: BTreeSet::new(),
    };
    assert_eq!(refused(&document, &other), Rejection::OtherDatabase { name: "demo".to_owned() });
    assert_ne!(DEMO, DatabaseId(5));
}

#[test]
fn dropping_and_owning_are_shown_too() {
    let document = after(&cluster(&["a", "b"]), &create(&rules(&[("notes", "a b")])));
    let owned = preview(&document, &set_owner("notes", Some("b"))).unwrap();
    assert_eq!(owned[0].to_string(), "demo/notes: owner b, before a");
    let drop = ConfigCommand::DropDatabase { name: "demo".to_owned() };
    let moves = preview(&document, &drop).unwrap();
    assert!(
        moves.iter().all(|moves| moves.presence == Presence::Dropped && !moves.loses.is_empty())
    );
    assert_eq!(moves.len(), 2);
    // Made anew under the same name: the old data goes, and new logs are founded.
    let again = after(&after(&document, &drop), &create(&rules(&[("notes", "a b")])));
    let presence: Vec<Presence> =
        what_moves(&document, &again).iter().map(|moves| moves.presence).collect();
    assert_eq!(presence, [Presence::Dropped, Presence::Added, Presence::Dropped, Presence::Added]);
    let unused = on("a");
    assert_eq!(unused.places, Some(places("a")));
}

fn dropping(given: &DatabaseRules, shards: &[&str]) -> ConfigCommand {
    let ConfigCommand::Configure { name, id, rules, .. } = configure(given) else { unreachable!() };
    let drop = shards.iter().map(|shard| (*shard).to_owned()).collect();
    ConfigCommand::Configure { name, id, rules, drop }
}

#[test]
fn a_shard_goes_only_when_it_is_named_and_then_the_preview_says_so() {
    let document =
        after(&cluster(&["a", "b"]), &create(&rules(&[("notes", "a b"), ("mail", "b")])));
    let left_out = after(&document, &configure(&rules(&[("mail", "b")])));
    assert!(left_out.shard("demo", "notes").is_some(), "leaving it out drops nothing");
    let command = dropping(&rules(&[("mail", "b")]), &["notes"]);
    let moves = preview(&document, &command).unwrap();
    assert_eq!(moves.len(), 1);
    assert_eq!((moves[0].shard.as_str(), moves[0].presence), ("notes", Presence::Dropped));
    let dropped = after(&document, &command);
    assert!(dropped.shard("demo", "notes").is_none());
    let again = after(&dropped, &configure(&rules(&[("notes", "a b"), ("mail", "b")])));
    assert_ne!(shard(&again, "notes").shard.log, shard(&document, "notes").shard.log);
    let named = dropping(&rules(&[("notes", "a")]), &["notes"]);
    let (database, shard_name) = ("demo".to_owned(), "notes".to_owned());
    let expected = Rejection::DroppedAndNamed { database, shard: shard_name };
    assert_eq!(refused(&document, &named), expected);
    let main = dropping(&rules(&[]), &[MAIN]);
    assert!(matches!(refused(&document, &main), Rejection::MainShard { .. }));
    let nothing = dropping(&rules(&[]), &["nothing"]);
    assert!(matches!(refused(&document, &nothing), Rejection::UnknownShard { .. }));
}

#[test]
fn all_that_is_wrong_is_told_at_once_and_each_thing_names_its_shard() {
    let document = after(&cluster(&["a", "b"]), &create(&rules(&[])));
    let mut given = rules(&[("mail", "x"), ("notes", ""), ("fine", "a b"), ("own", "a")]);
    given.shards.get_mut("own").unwrap().owner = Some("b".to_owned());
    given.shards.get_mut("fine").unwrap().write_quorum = Some(QuorumRule::Count(3));
    let told: Vec<String> =
        problems(&document, &configure(&given)).iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 4, "{told:?}");
    for (said, named) in told.iter().zip(["'fine'", "'mail'", "'notes'", "'own'"]) {
        assert!(said.contains(named), "{said}");
    }
    assert_eq!(problems(&document, &configure(&rules(&[("notes", "a")]))), []);
    let dropped = after(&document, &ConfigCommand::DropDatabase { name: "demo".to_owned() });
    let gone = problems(&dropped, &configure(&given));
    assert_eq!(gone, [Rejection::UnknownDatabase { name: "demo".to_owned() }]);
}

#[test]
fn a_database_says_of_itself_what_would_make_it() {
    let mut given = rules(&[("notes", "b +"), ("mail", "a")]);
    given.shards.get_mut("mail").unwrap().write_quorum = Some(QuorumRule::All);
    given.settings.execution_mode = ExecutionMode::Synchronous;
    let document = after(&cluster(&["a", "b", "c"]), &create(&given));
    let mut expected = given.clone();
    expected.shards.insert(MAIN.to_owned(), Default::default());
    let told = |document: &super::Configuration| DatabaseRules::of(&document.databases["demo"]);
    assert_eq!(told(&document), expected);
    let owned = after(&document, &set_owner(MAIN, Some("c")));
    let told = told(&owned);
    assert_eq!(told.shards[MAIN].places, Some(places("c +")));
    assert_eq!(told.shards[MAIN].owner.as_deref(), Some("c"));
    assert_eq!(preview(&owned, &dropping(&told, &[])), Ok(vec![]));
    assert_eq!(BTreeSet::from_iter(told.shards.into_keys()).len(), 3);
}
