//! `DESCRIBE` tells what a statement is, and does nothing.

use super::*;
use crate::engine::SqliteReader;

fn described(copy: &SqliteEngine, sql: &str) -> Vec<Vec<Value>> {
    query(copy, &format!("DESCRIBE {sql}"))
}

fn row(what: &str, name: Option<&str>, decltype: Option<&str>) -> Vec<Value> {
    let optional = |given: Option<&str>| given.map_or(Value::Null, text);
    vec![text(what), optional(name), optional(decltype)]
}

#[test]
fn columns_and_parameters_are_told_in_their_order() {
    let mut copies = Copies::new();
    copies.run(&["CREATE TABLE t(id INTEGER PRIMARY KEY, name VARCHAR(9))"]);
    assert_eq!(
        described(&copies.owner, "SELECT *, id + 1 AS more FROM t WHERE id > ? AND name <> :n"),
        [
            row("statement", Some("read"), None),
            row("column", Some("id"), Some("INTEGER")),
            row("column", Some("name"), Some("VARCHAR(9)")),
            row("column", Some("more"), None),
            row("parameter", None, None),
            row("parameter", Some(":n"), None),
        ]
    );
    let numbered = described(&copies.owner, "SELECT ?3");
    let names: Vec<&Value> = numbered[2..].iter().map(|row| &row[1]).collect();
    assert_eq!(names, [&Value::Null, &Value::Null, &text("?3")]);
}

#[test]
fn it_is_told_what_writes_and_nothing_is_written() {
    let mut copies = Copies::new();
    copies.run(&["CREATE TABLE t(a)"]);
    let before = copies.owner.content_hash().unwrap();
    for (sql, what) in [
        ("SELECT 1", "read"),
        ("INSERT INTO t VALUES (1)", "write"),
        ("INSERT INTO t VALUES (1) RETURNING a", "write"),
        ("WITH x AS (SELECT 1) DELETE FROM t", "write"),
        ("DROP TABLE t", "write"),
        ("CREATE TABLE u(a)", "write"),
        ("PRAGMA user_version", "read"),
        ("PRAGMA user_version = 3", "write"),
        ("PRAGMA table_info(t)", "read"),
        ("EXPLAIN DELETE FROM t", "explain"),
        ("EXPLAIN QUERY PLAN SELECT 1", "explain"),
    ] {
        let reader = described(&copies.owner, sql);
        assert_eq!(reader[0][1], text(what), "{sql}");
        // Whoever writes tells the same, and has nothing to send to others.
        let executed = copies
            .owner
            .execute(&[transaction(&[&format!("DESCRIBE {sql}")])], &copies.limits)
            .unwrap();
        assert_eq!(executed.outcomes[0].as_ref().unwrap()[0].rows, reader, "{sql}");
        assert!(executed.effects.is_empty(), "{sql}");
    }
    assert_eq!(copies.owner.content_hash().unwrap(), before);
}

#[test]
fn a_transaction_sees_what_it_has_made_and_a_reader_the_schema_of_now() {
    let mut copies = Copies::new();
    copies.run(&["CREATE TABLE t(a)"]);
    let mut reader = copies.owner.reader().unwrap();
    let columns = |reader: &mut SqliteReader| {
        let ask = transaction(&["DESCRIBE SELECT * FROM t", "SELECT * FROM t"]);
        let (_, outcome) = reader.query(&ask, &SqlLimits::default()).unwrap();
        outcome.unwrap()[0].rows.len() - 1
    };
    assert_eq!(columns(&mut reader), 1);
    copies.run(&["ALTER TABLE t ADD COLUMN b"]);
    assert_eq!(columns(&mut reader), 2);
    let inside = transaction(&["CREATE TABLE u(a, b, c)", "DESCRIBE SELECT * FROM u"]);
    let executed = copies.owner.execute(&[inside], &copies.limits).unwrap();
    assert_eq!(executed.outcomes[0].as_ref().unwrap()[1].rows.len(), 4);
}

#[test]
fn what_could_not_be_run_is_not_described() {
    let mut copies = Copies::new();
    copies.run(&["CREATE TABLE t(a)"]);
    for (sql, kind, says) in [
        ("DESCRIBE SELECT * FROM nosuch", SqlErrorKind::Statement, "no such table"),
        ("DESCRIBE ", SqlErrorKind::Statement, "no SQL"),
        ("DESCRIBE SELECT 1; SELECT 2", SqlErrorKind::Statement, "second statement"),
        ("DESCRIBE VACUUM", SqlErrorKind::Unsupported, "VACUUM"),
        ("DESCRIBE COMMIT", SqlErrorKind::Unsupported, "COMMIT"),
        ("DESCRIBE SELECT * FROM _quorate_meta", SqlErrorKind::Unsupported, "belongs to"),
        ("DESCRIBE DESCRIBE SELECT 1", SqlErrorKind::Statement, "syntax error"),
    ] {
        let mut reader = copies.owner.reader().unwrap();
        let (_, outcome) = reader.query(&transaction(&[sql]), &SqlLimits::default()).unwrap();
        assert_kind(&outcome.unwrap_err(), kind, says);
        assert_kind(&copies.refused(&[sql]), kind, says);
    }
}
