use std::net::SocketAddr;

use quorate_core::NoQuorum;

use super::*;
use crate::gathered::Gathered;
use crate::http::Progress;
use crate::view::{CountersView, ExpectView, LogView, QuorumView};

const PIPE: Screen = Screen { width: None, colors: false };

fn server(name: &str, port: u16, status: ServerStatus) -> ServerView {
    ServerView {
        id: format!("{port:08}{:024}", 0),
        name: name.to_owned(),
        role: Role::Master,
        registration: Registration::Static,
        status,
        address: SocketAddr::from(([10, 0, 0, 1], port)),
        client: None,
        http: None,
        voter: true,
        coordinator: name == "db1",
        tie_breaker: name == "db2",
        answering: name == "db1",
        heard_ms: (name == "db2").then_some(42),
    }
}

pub(super) fn view() -> StatusView {
    let (online, away) = (ServerStatus::Online, ServerStatus::Away);
    StatusView {
        node: format!("{:032}", 1),
        name: "db1".to_owned(),
        software: "0.1.0".to_owned(),
        state: State::Member,
        group: "demo".to_owned(),
        cluster: Some(format!("{:032}", 7)),
        version: 5,
        coordinator: Some(format!("{:032}", 1)),
        servers: vec![
            server("db1", 2434, online),
            server("db2", 2435, online),
            server("db3", 2436, away),
        ],
        databases: vec![],
        quorum: QuorumView { voters: 3, needed: 2, tie_breaker_counts: false, joint: false },
        no_quorum: None,
        refused: vec![],
        join_refused: None,
        split_with: vec![],
        clashes: vec![],
        expect: None,
        damaged: false,
        copies: vec![],
        start: Some(1),
        log: LogView { term: 2, last: 9, commit: 9 },
        counters: CountersView::default(),
        warnings: vec![],
        gathered: Gathered::default(),
    }
}

#[test]
fn every_server_and_its_marks_are_on_one_line_each() {
    let text = render(&view(), true, PIPE);
    let line = |name: &str| text.lines().find(|l| l.trim_start().starts_with(name)).unwrap();
    assert!(line("db1").contains("coordinator") && line("db1").contains("(asked)"));
    assert!(line("db2").contains("tie-breaker") && line("db2").contains("42 ms ago"));
    assert!(line("db3").contains("AWAY") && line("db3").contains("never"));
    assert!(!text.contains('\u{1b}'), "no escape sequences where there is no terminal");
}

#[test]
fn a_lost_quorum_names_who_is_missing() {
    let no_quorum =
        NoQuorum { missing: vec!["db2".into(), "db3".into()], tie_breaker: None, voters: 3 };
    let text = render(&StatusView { no_quorum: Some(no_quorum), ..view() }, true, PIPE);
    assert!(text.contains("NoQuorum: 2 of 3 voters are missing: db2, db3"), "{text}");
    assert!(text.contains("quorum 2 of 3, LOST"), "{text}");
}

#[test]
fn everything_that_is_wrong_is_said() {
    let text = render(
        &StatusView {
            damaged: true,
            refused: vec![SocketAddr::from(([10, 0, 0, 9], 2434))],
            join_refused: Some("the name 'db1' is taken".into()),
            split_with: vec![format!("{:032x}", 0xabcd_u128 << 112)],
            expect: Some(ExpectView { missing: 1, expected: 4 }),
            warnings: vec!["PASSWORD: the default".into()],
            ..view()
        },
        true,
        PIPE,
    );
    for word in [
        "DAMAGED",
        "10.0.0.9:2434",
        "JOIN REFUSED",
        "SPLIT: cluster abcd0000",
        "1 of the 4",
        "PASSWORD",
    ] {
        assert!(text.contains(word), "{word} is missing in\n{text}");
    }
}

#[test]
fn a_copy_that_is_not_whole_says_what_it_lacks_and_how_far_it_is() {
    let copy = CopyNews {
        database: "demo".to_owned(),
        shard: "main".to_owned(),
        server: "db2".to_owned(),
        status: "SYNCHRONIZING".to_owned(),
        lsn: 7,
        state: "receiving".to_owned(),
        lacks: None,
        progress: Some(Progress {
            donor: "db3".to_owned(),
            done: 50 << 20,
            total: 200 << 20,
            rate: 10 << 20,
            seconds_left: Some(15),
            kept: 0,
        }),
    };
    let why = "the database file is not there".to_owned();
    let lacking = CopyNews {
        server: "db3".to_owned(),
        state: "lacking".to_owned(),
        lacks: Some(why),
        progress: None,
        ..copy.clone()
    };
    let text = render(&StatusView { copies: vec![copy, lacking], ..view() }, true, PIPE);
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let receives = "COPY: demo/main on db2 is fetched from db3: 50.00 MiB of 200.00 MiB at 10.00 MiB/s, 15 s left.";
    assert!(flat.contains(receives), "{text}");
    let lacks = "COPY: demo/main on db3 cannot go on: the database file is not there.";
    assert!(flat.contains(lacks), "{text}");
}
