//! How far a copy is, and who says so.

use super::super::{
    Applied, ConfigCommand, Configuration, CopyStatus, DatabaseRules, Rejection, apply,
};
use super::{after, away, back, caught_up, cluster, create, join, node, refused, set_copy, shard};

use CopyStatus::{Backup, NotAvailable, Offline, Online, Synchronizing};

const ALL: [CopyStatus; 5] = [NotAvailable, Synchronizing, Online, Backup, Offline];

fn demo() -> Configuration {
    after(&cluster(&["a", "b", "c"]), &create(&DatabaseRules::default()))
}

fn status(document: &Configuration, number: u128) -> CopyStatus {
    shard(document, "main").shard.copies[&node(number)]
}

fn offline(document: &Configuration, number: u128, offline: bool) -> ConfigCommand {
    let log = shard(document, "main").shard.log;
    ConfigCommand::SetOffline { log, node: node(number), offline }
}

#[test]
fn the_legal_changes_of_a_copy_are_these_and_no_others() {
    let legal: Vec<(CopyStatus, CopyStatus)> = ALL
        .into_iter()
        .flat_map(|from| ALL.into_iter().map(move |to| (from, to)))
        .filter(|(from, to)| from.may_become(*to))
        .collect();
    let expected = [
        (NotAvailable, Synchronizing),
        (NotAvailable, Online),
        (Synchronizing, NotAvailable),
        (Synchronizing, Online),
        (Online, NotAvailable),
        (Online, Synchronizing),
        (Online, Backup),
        (Backup, NotAvailable),
        (Backup, Online),
    ];
    assert_eq!(legal, expected);
}

#[test]
fn the_leader_brings_a_copy_online_and_every_other_change_is_refused_by_name() {
    let document = after(&demo(), &join(4, "d"));
    assert_eq!(status(&document, 4), NotAvailable);
    let refused = refused(&document, &set_copy(&document, "main", 4, Backup));
    let expected = Rejection::CopyChange {
        server: "d".to_owned(),
        database: "demo".to_owned(),
        shard: "main".to_owned(),
        from: NotAvailable,
        to: Backup,
    };
    assert_eq!(refused, expected);
    let said = "the copy of 'main' of 'demo' on 'd' is NOT_AVAILABLE and cannot become BACKUP";
    assert_eq!(refused.to_string(), said);
    let document = after(&document, &set_copy(&document, "main", 4, Synchronizing));
    let document = after(&document, &set_copy(&document, "main", 4, Online));
    assert_eq!(
        (status(&document, 4), document.version),
        (Online, shard(&document, "main").shard.revised)
    );
    let mut same = Some(document.clone());
    let again = set_copy(&document, "main", 4, Online);
    assert_eq!(apply(&mut same, &again), Ok(Applied::Unchanged));
}

#[test]
fn a_grant_that_its_servers_leaving_has_overtaken_is_void() {
    let document = after(&demo(), &join(4, "d"));
    let grant = set_copy(&document, "main", 4, Online);
    let returned =
        after(&after(&document, &set_copy(&document, "main", 4, Synchronizing)), &away(4));
    let returned = after(&returned, &back(4));
    assert_eq!(status(&returned, 4), NotAvailable);
    let refused = refused(&returned, &grant);
    assert!(matches!(refused, Rejection::Overtaken { .. }), "{refused}");
    assert_eq!(status(&caught_up(&returned, "main"), 4), Online, "judged anew");
}

#[test]
fn a_copy_of_a_server_that_is_away_does_not_come_online() {
    let document = after(&demo(), &away(2));
    let expected = Rejection::ServerAway { server: "b".to_owned() };
    assert_eq!(refused(&document, &set_copy(&document, "main", 2, Online)), expected);
    assert_eq!(status(&after(&document, &back(2)), 2), NotAvailable, "the leader says when");
}

#[test]
fn offline_is_an_operators_and_outlives_its_servers_leaving() {
    let document = after(&demo(), &offline(&demo(), 2, true));
    assert_eq!(status(&document, 2), Offline);
    for to in [NotAvailable, Synchronizing, Online, Backup] {
        let command = set_copy(&document, "main", 2, to);
        assert!(matches!(refused(&document, &command), Rejection::CopyChange { .. }));
    }
    let returned = after(&after(&document, &away(2)), &back(2));
    assert_eq!(status(&returned, 2), Offline);
    let taken_back = after(&returned, &offline(&returned, 2, false));
    assert_eq!(status(&taken_back, 2), NotAvailable);
    let mut same = Some(taken_back.clone());
    let again = offline(&taken_back, 2, false);
    assert_eq!(apply(&mut same, &again), Ok(Applied::Unchanged));
    let to_offline = set_copy(&demo(), "main", 1, Offline);
    assert!(matches!(refused(&demo(), &to_offline), Rejection::CopyChange { .. }));
}

#[test]
fn a_copy_without_a_place_and_a_log_without_a_shard_are_refused() {
    let document = after(&demo(), &join(4, "d"));
    let stranger = ConfigCommand::SetCopy {
        log: shard(&document, "main").shard.log,
        node: node(9),
        status: Online,
        judged_at: document.version,
    };
    assert!(matches!(refused(&document, &stranger), Rejection::NoCopy { .. }));
    let log = crate::LogId(77);
    let unknown = ConfigCommand::SetOffline { log, node: node(1), offline: true };
    assert_eq!(refused(&document, &unknown), Rejection::UnknownLog { log });
}
