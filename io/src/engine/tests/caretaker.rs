//! A caretaker's statements add no rows by themselves, whatever they are called.

use quorate_core::engine::Rights;

use super::*;

fn copies() -> Copies {
    let mut copies = Copies::new();
    copies.run(&[
        "CREATE TABLE t(id INTEGER PRIMARY KEY, v UNIQUE)",
        "CREATE TABLE log(what)",
        "CREATE VIEW shown AS SELECT * FROM t",
        "CREATE TRIGGER noted AFTER UPDATE ON t BEGIN INSERT INTO log VALUES('u'); END",
        "CREATE TRIGGER gone AFTER DELETE ON t BEGIN INSERT INTO log VALUES('d'); END",
        "CREATE TRIGGER through INSTEAD OF INSERT ON shown BEGIN UPDATE t SET v = new.v; END",
        "CREATE VIRTUAL TABLE ft USING fts5(x)",
        "CREATE VIRTUAL TABLE rt USING rtree(id, a, b)",
        "INSERT INTO t VALUES(1, 'a'), (2, 'b')",
        "INSERT INTO ft VALUES('first words')",
        "INSERT INTO rt VALUES(1, 2, 3)",
    ]);
    copies
}

fn caretaker() -> Copies {
    let mut copies = copies();
    copies.limits.rights = Rights::Caretaker;
    // Everything is compiled anew, and virtual tables are connected to again.
    let path = copies.owner.path().to_owned();
    copies.owner = SqliteEngine::open(&path).unwrap();
    copies
}

#[test]
fn every_form_of_an_insert_is_refused_to_a_caretaker_and_leaves_nothing() {
    let mut copies = caretaker();
    for sql in [
        "INSERT INTO t VALUES(3, 'c')",
        " /* x */ insert or ignore into t values(1, 'a')",
        "REPLACE INTO t VALUES(1, 'c')",
        "INSERT OR REPLACE INTO t VALUES(1, 'c')",
        "INSERT INTO t VALUES(1, 'c') ON CONFLICT DO UPDATE SET v = excluded.v",
        "INSERT INTO t SELECT id + 10, v || 'x' FROM t",
        "WITH x(n) AS (SELECT 7) INSERT INTO t SELECT n, n FROM x",
        "INSERT INTO shown VALUES(1, 'c')",
        "INSERT INTO ft VALUES('more')",
        "INSERT INTO rt VALUES(2, 2, 3)",
        "CREATE TABLE made AS SELECT * FROM t",
    ] {
        let error = copies.refused(&["UPDATE t SET v = v || 'z' WHERE id = 1", sql]);
        assert_eq!((error.kind, error.statement), (SqlErrorKind::OwnerOnly, 1), "{sql}: {error}");
    }
    copies.finish();
}

#[test]
fn what_changes_rows_or_the_schema_is_a_caretakers_business_and_so_is_what_its_triggers_insert() {
    let mut copies = caretaker();
    for sql in [
        "UPDATE t SET v = 'x' WHERE id = 1",
        "UPDATE OR REPLACE t SET v = 'b' WHERE id = 1",
        "WITH x(n) AS (SELECT 1) UPDATE t SET v = n FROM x WHERE id = 1",
        "DELETE FROM t WHERE id = 1",
        "UPDATE ft SET x = 'other words'",
        "UPDATE rt SET a = 1 WHERE id = 1",
        "CREATE TABLE more(a)",
        "ALTER TABLE more ADD COLUMN b DEFAULT 1",
        "CREATE INDEX by_v ON t(v)",
        "ANALYZE",
        "EXPLAIN INSERT INTO t VALUES(9, 9)",
        "SELECT count(*) FROM t",
    ] {
        copies.run(&[sql]);
    }
    assert_eq!(query(&copies.owner, "SELECT count(*) FROM log"), [[int(4)]]);
    assert_eq!(query(&copies.owner, "SELECT x FROM ft WHERE ft MATCH 'other'").len(), 1);
    copies.finish();
}

#[test]
fn a_statement_that_an_owner_has_compiled_is_judged_anew_for_a_caretaker() {
    let mut copies = copies();
    let insert = "INSERT INTO t(v) VALUES(random())";
    copies.run(&[insert]);
    copies.limits.rights = Rights::Caretaker;
    assert_eq!(copies.refused(&[insert]).kind, SqlErrorKind::OwnerOnly);
    copies.limits.rights = Rights::Owner;
    copies.run(&[insert]);
    copies.finish();
}
