//! Hot changes of a database, and what they would move.

use super::super::{
    Applied, ConfigCommand, CopyStatus, DatabaseRules, ExecutionMode, Presence, QuorumRule,
    Rejection, apply, preview, what_moves,
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
