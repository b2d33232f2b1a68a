//! Applying what another copy executed.

use quorate_core::engine::Fault;

use super::*;

fn filled() -> Copies {
    let mut copies = Copies::new();
    copies.run(&[
        "CREATE TABLE t(id INTEGER PRIMARY KEY, v UNIQUE)",
        "CREATE TABLE w(k PRIMARY KEY, v) WITHOUT ROWID",
    ]);
    copies.run(&["INSERT INTO t VALUES(1, 'a'), (2, 'b')", "INSERT INTO w VALUES('k', 1)"]);
    copies
}

/// Changes the follower behind the back of all, then applies what the owner does.
fn diverge(behind: &str, statement: &str) -> (Copies, Fault) {
    let mut copies = filled();
    let path = copies.follower.path().to_owned();
    let conn = rusqlite::Connection::open(&path).unwrap();
    conn.execute_batch(behind).unwrap();
    drop(conn);
    copies.follower = SqliteEngine::open(&path).unwrap();
    let executed = copies.owner.execute(&[transaction(&[statement])], &copies.limits).unwrap();
    copies.owner.commit(at(3), &[]).unwrap();
    let fault = copies
        .follower
        .apply(&[Effect { at: at(3), effects: executed.effects }], &[])
        .expect_err("the difference was not seen");
    (copies, fault)
}

#[test]
fn a_copy_that_differs_stops_with_a_conflict_and_changes_nothing() {
    for (behind, statement, says) in [
        ("UPDATE t SET v = 'x' WHERE id = 1", "UPDATE t SET v = 'c' WHERE id = 1", "rowid 1"),
        ("UPDATE t SET v = 'x' WHERE id = 1", "DELETE FROM t WHERE id = 1", "other values"),
        ("DELETE FROM t WHERE id = 2", "DELETE FROM t WHERE id = 2", "no row with rowid 2"),
        ("DELETE FROM t WHERE id = 2", "UPDATE t SET v = 'c' WHERE id = 2", "no row"),
        ("INSERT INTO t VALUES(3, 'x')", "INSERT INTO t VALUES(3, 'c')", "t.id"),
        ("INSERT INTO t VALUES(9, 'c')", "INSERT INTO t VALUES(3, 'c')", "t.v"),
        ("DELETE FROM w", "UPDATE w SET v = 2", "key (\"k\")"),
        ("ALTER TABLE t ADD COLUMN x", "INSERT INTO t VALUES(3, 'c')", "columns"),
        ("DROP TABLE t", "INSERT INTO t VALUES(3, 'c')", "no table t"),
        ("CREATE TABLE n(a)", "CREATE TABLE n(b)", "already exists"),
    ] {
        let (mut copies, fault) = diverge(behind, statement);
        match &fault {
            Fault::Conflict { at: entry, reason } => {
                assert_eq!(*entry, at(3));
                assert!(reason.contains(says), "{behind}; {statement}: {reason}");
            }
            other => panic!("{behind}; {statement}: {other}"),
        }
        assert!(matches!(copies.follower.apply(&[], &[]), Err(Fault::Misuse { .. })));
        let path = copies.follower.path().to_owned();
        copies.follower = SqliteEngine::open(&path).unwrap();
        assert_eq!(copies.follower.position(), at(2));
    }
}

#[test]
fn entries_at_or_before_the_position_are_passed_over() {
    let mut copies = filled();
    copies.follower.apply(&copies.log, &[]).unwrap();
    copies.follower.apply(&copies.log[..1], &[]).unwrap();
    copies.owner.apply(&copies.log, &[]).unwrap();
    copies.finish();
}

#[test]
fn an_entry_that_changes_no_content_moves_the_position() {
    let mut copies = filled();
    let before = copies.follower.content_hash().unwrap().hash;
    copies.follower.apply(&[Effect { at: at(9), effects: bytes::Bytes::new() }], &[]).unwrap();
    assert_eq!(copies.follower.position(), at(9));
    let after = copies.follower.content_hash().unwrap();
    assert_eq!((after.at, after.hash), (at(9), before));
}

#[test]
fn a_bad_entry_undoes_those_applied_with_it() {
    let mut copies = filled();
    copies.run(&["INSERT INTO t VALUES(3, 'c')"]);
    let mut entries = copies.log.clone();
    entries.push(Effect { at: at(4), effects: bytes::Bytes::from_static(&[1, 99]) });
    let path = copies.dir.path().join("other.db");
    let mut other = SqliteEngine::create(&path).unwrap();
    assert!(matches!(other.apply(&entries, &[]), Err(Fault::Unreadable { .. })));
    drop(other);
    let mut other = SqliteEngine::open(&path).unwrap();
    assert_eq!(other.position(), Position::default());
    other.apply(&copies.log, &[]).unwrap();
    assert_eq!(other.content_hash().unwrap(), copies.owner.content_hash().unwrap());
}

#[test]
fn triggers_foreign_keys_and_checks_are_not_asked_again() {
    let mut copies = filled();
    copies.run(&[
        "CREATE TABLE c(id INTEGER PRIMARY KEY, t REFERENCES t, n CHECK (n > 0))",
        "CREATE TRIGGER tr AFTER INSERT ON t BEGIN INSERT INTO w VALUES('t' || NEW.id, NEW.v); END",
    ]);
    copies.run(&["INSERT INTO t VALUES(5, 'e')", "INSERT INTO c VALUES(1, 5, 1)"]);
    copies.run(&[
        "PRAGMA foreign_keys = OFF",
        "DELETE FROM t WHERE id = 5",
        "PRAGMA foreign_keys = ON",
    ]);
    copies.run(&["UPDATE c SET n = 2"]);
    assert_eq!(query(&copies.follower, "SELECT count(*) FROM w"), [[int(2)]]);
    copies.finish();
}

#[test]
fn the_owner_changes_and_every_copy_goes_on() {
    let mut copies = filled();
    copies.run(&[
        "CREATE TABLE s(id INTEGER PRIMARY KEY AUTOINCREMENT, v)",
        "CREATE VIRTUAL TABLE ft USING fts5(x)",
    ]);
    for n in 0..12 {
        copies.run(&[
            &format!("INSERT INTO s(v) VALUES({n})"),
            &format!("INSERT INTO ft VALUES('w{n} all')"),
            &format!("INSERT INTO t(v) VALUES('n{n}')"),
            "DELETE FROM s WHERE id = (SELECT max(id) FROM s)",
        ]);
        if n % 3 == 0 {
            copies.run(&[&format!("ALTER TABLE t ADD COLUMN c{n} DEFAULT {n}")]);
        }
        copies.swap();
    }
    copies.run(&["INSERT INTO ft(ft) VALUES('integrity-check')"]);
    copies.finish();
}
