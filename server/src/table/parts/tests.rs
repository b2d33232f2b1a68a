use quorate_core::configuration::{Registration, Role};

use super::*;
use crate::gathered::{CopyCell, Gathered, QuorumShown, SentShown, Unanswered};
use crate::table::render;
use crate::view::ServerView;

/// A cluster of so many servers, all there, the last one silent and the one before it away.
fn view(count: u16) -> StatusView {
    let server = |number: u16| ServerView {
        id: format!("{number:032}"),
        name: format!("db{number}"),
        role: Role::Master,
        registration: Registration::Static,
        status: if number + 1 == count { ServerStatus::Away } else { ServerStatus::Online },
        address: ([10, 0, 0, 1], 2434).into(),
        client: None,
        http: None,
        voter: true,
        coordinator: false,
        tie_breaker: false,
        answering: false,
        heard_ms: None,
    };
    let last = Unanswered { server: format!("db{count}"), why: "no answer in time".to_owned() };
    let gathered = Gathered { unanswered: vec![last], ..Gathered::default() };
    StatusView {
        servers: (1..=count).map(server).collect(),
        gathered,
        ..crate::table::tests::view()
    }
}

fn shard(name: &str, owner: usize, marks: &[&str]) -> ShardRow {
    let cell = |(at, mark): (usize, &&str)| CopyCell {
        server: format!("db{}", at + 1),
        mark: (*mark).to_owned(),
        status: String::new(),
        progress: None,
    };
    let copies = marks.iter().enumerate().filter(|(_, mark)| !mark.is_empty()).map(cell);
    ShardRow {
        database: "shop".to_owned(),
        shard: name.to_owned(),
        owner: Some(format!("db{owner}")),
        term: Some(3),
        writes: Writes::Yes,
        why: None,
        write_quorum: QuorumShown { rule: "majority".to_owned(), copies: 2, of: 3 },
        read_quorum: QuorumShown { rule: "1".to_owned(), copies: 1, of: 3 },
        copies: copies.collect(),
        awaited: Vec::new(),
    }
}

fn shown(view: &StatusView, width: Option<usize>) -> String {
    let text = render(view, false, Screen { width, colors: false });
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    // What every status begins with is shown elsewhere.
    lines[3..].join("\n")
}

#[test]
fn owners_and_copies_stand_by_shard_and_server_with_what_the_marks_mean() {
    let mut view = view(4);
    let refuses = ShardRow {
        owner: None,
        writes: Writes::No,
        why: Some("nobody owns it, for 2 of its 3 masters are missing: db3, db4".to_owned()),
        ..shard("west", 0, &["", "42%", "-", "?"])
    };
    let inserts = ShardRow {
        writes: Writes::NoInserts,
        awaited: vec!["db9".to_owned()],
        ..shard("index", 1, &["X", "b", "off", ""])
    };
    view.gathered.shards = Some(vec![shard("main", 1, &["X", "o", "-", "?"]), refuses, inserts]);
    let expected = "\
database shop
SHARD  WRITES      W    R    db1  db2   db3    db4
                                       AWAY  silent
main   yes         2/3  1/3   X    o     -      ?
west   NO          2/3  1/3       42%    -      ?
index  no inserts  2/3  1/3   X    b    off

X owner   o copy   b in backup   - not available   off put out of use   ? its server does not answer   % received of a whole copy   W, R copies that a write, a read needs

! AWAY: db3. Still counted and awaited; `quorate server remove NAME` ends that.
! WRITES: shop/west takes none: nobody owns it, for 2 of its 3 masters are missing: db3, db4.
! AWAITED: shop/index is to have copies on db9, not here yet.
! NO ANSWER: db4 (no answer in time). What they would tell is shown as `?`.";
    assert_eq!(shown(&view, None), expected);
}

#[test]
fn fifteen_servers_fit_eighty_columns() {
    let mut view = view(15);
    let marks = ["X", "o", "o", "o", "o", "o", "o", "o", "o", "o", "o", "o", "o", "-", "?"];
    view.gathered.shards = Some(vec![shard("main", 1, &marks)]);
    view.gathered.latency = Some(vec![]);
    let text = shown(&view, Some(80));
    let table = text.lines().take_while(|line| !line.starts_with('!'));
    let long: Vec<&str> = table.filter(|line| line.chars().count() > 80).collect();
    assert!(long.is_empty(), "{long:#?}\n{text}");
    let row = text.lines().find(|line| line.starts_with("main")).unwrap();
    let online = row.split_whitespace().filter(|cell| *cell == "o").count();
    assert_eq!(online, 12, "all in one row:\n{text}");
    let wide = shown(&view, Some(160));
    assert!(wide.contains(" db14  "), "there is room for names:\n{wide}");
    let narrow = shown(&view, Some(30));
    let rows: Vec<&str> = narrow.lines().filter(|line| line.starts_with("main")).collect();
    assert!(rows.len() > 1, "cut between columns:\n{narrow}");
    assert_eq!(rows.iter().map(|row| row.matches('o').count()).sum::<usize>(), 12, "{narrow}");
}

#[test]
fn a_latency_that_is_not_known_is_no_figure() {
    let mut view = view(4);
    let pair = |from: &str, to: &str, measured: Option<LatencyShown>| PairLatency {
        from: from.to_owned(),
        to: to.to_owned(),
        measured,
    };
    let measured = |average_us, worst_us, waiting_us, behind| {
        let acknowledged = u64::from(average_us > 0);
        let given = |us| (acknowledged > 0).then_some(us);
        let (average_us, worst_us) = (given(average_us), given(worst_us));
        Some(LatencyShown { acknowledged, average_us, worst_us, waiting_us, behind })
    };
    view.gathered.latency = Some(vec![
        pair("db1", "db2", measured(850, 12_345, 0, 0)),
        pair("db1", "db3", measured(1_950, 2_000, 61_000_000, 7)),
        pair("db1", "db4", measured(0, 0, 0, 0)),
        pair("db2", "db3", measured(0, 0, 5_000_000, 1)),
        pair("db4", "db1", None),
        pair("db4", "db2", None),
        pair("db4", "db3", None),
    ]);
    let expected = "\
latency: from when an owner sends entries until they are durable at the other
average/worst of the last minute in ms; - no writes, + still waiting
FROM \\ TO  db1    db2        db3       db4
                            AWAY     silent
db1         \\   0.85/12  1.9/61000+     -
db2                \\       -/5000+
db3                           \\
db4         ?      ?          ?         \\

! AWAY: db3. Still counted and awaited; `quorate server remove NAME` ends that.
! BEHIND: db3 has not acknowledged 7 entries of db1; the oldest waits for 61 s.
! BEHIND: db3 has not acknowledged 1 entries of db2; the oldest waits for 5 s.
! NO ANSWER: db4 (no answer in time). What they would tell is shown as `?`.";
    assert_eq!(shown(&view, None), expected);
}

#[test]
fn messages_of_who_did_not_answer_are_not_counted_as_none() {
    let mut view = view(3);
    let tally = |messages, bytes| Tally { messages, bytes };
    let tallies = |messages, bytes| Tallies {
        total: tally(messages, bytes),
        kinds: [("entries".to_owned(), tally(messages, bytes))].into(),
    };
    let sent = |messages, bytes, links| SentShown {
        written: tallies(messages, bytes),
        queued: tally(2, 200),
        dropped: tally(0, 0),
        links,
    };
    let pair = |from: &str, to: &str, sent, received| PairMessages {
        from: from.to_owned(),
        to: to.to_owned(),
        sent,
        received,
    };
    view.gathered.messages = Some(vec![
        pair("db1", "db2", Some(sent(1_234_567, 9_876_543_210, 3)), Some(tallies(1_234_000, 9))),
        pair("db1", "db3", Some(sent(0, 0, 0)), None),
        pair("db2", "db1", Some(sent(999, 1_000, 1)), Some(tallies(999, 1_000))),
        pair("db3", "db1", None, Some(tallies(5, 60))),
    ]);
    let text = shown(&view, None);
    let expected = "\
messages sent, as the sender counts them: messages/bytes
FROM \\ TO     db1       db2       db3
                        AWAY    silent
db1            \\     1.2M/9.8G    0/0
db2        999/1.0k      \\         ?
db3            ?         ?         \\

messages received, as the receiver counts them
FROM \\ TO     db1      db2     db3
                      AWAY   silent
db1            \\     1.2M/9     ?
db2        999/1.0k     \\       ?
db3          5/60       ?       \\

links since the start/messages waiting to be sent/dropped with a link
FROM \\ TO   db1    db2     db3
                   AWAY  silent
db1          \\    3/2/0   0/2/0
db2        1/2/0    \\       ?
db3          ?      ?       \\

KIND     SENT  BYTES  RECEIVED  BYTES
entries  1.2M   9.8G    1.2M     1.0k

! AWAY: db2. Still counted and awaited; `quorate server remove NAME` ends that.
! NO ANSWER: db3 (no answer in time). What they would tell is shown as `?`.";
    assert_eq!(text, expected);
}

#[test]
fn numbers_and_times_keep_the_digits_that_tell_something() {
    let numbers = [0, 999, 1_000, 9_999, 10_000, 999_999, 1_000_000, u64::MAX];
    assert_eq!(numbers.map(short), ["0", "999", "1.0k", "9.9k", "10k", "999k", "1.0M", "18E"]);
    let times = [0, 9, 850, 1_000, 9_999, 10_000, 61_000_000];
    assert_eq!(times.map(ms), ["0.00", "0.00", "0.85", "1.0", "9.9", "10", "61000"]);
}
