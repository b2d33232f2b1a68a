//! Changes of the schema run again on every copy, in their place among the rows.

use super::*;

#[test]
fn rows_and_schema_changes_mix_in_one_transaction() {
    let mut copies = Copies::new();
    copies.run(&[
        "CREATE TABLE a(x)",
        "INSERT INTO a VALUES(1), (2)",
        "ALTER TABLE a RENAME TO b",
        "INSERT INTO b VALUES(3)",
        "ALTER TABLE b ADD COLUMN y DEFAULT 7",
        "UPDATE b SET y = 8 WHERE x = 2",
        "CREATE TABLE a(z INTEGER PRIMARY KEY, x)",
        "INSERT INTO a SELECT NULL, y FROM b",
        "DELETE FROM b WHERE x = 1",
        "ALTER TABLE b DROP COLUMN x",
        "INSERT INTO b VALUES(9)",
        "DROP TABLE a",
        "CREATE TABLE a(only)",
        "INSERT INTO a SELECT y FROM b",
    ]);
    copies.finish();
}

#[test]
fn a_table_made_from_a_query_travels_with_its_rows() {
    let mut copies = Copies::new();
    copies.run(&[
        "CREATE TABLE t(i INTEGER PRIMARY KEY, s TEXT)",
        "INSERT INTO t VALUES(5, 'a'), (7, 'b')",
    ]);
    copies.run(&[
        "CREATE TABLE made AS SELECT *, random() AS r FROM t",
        "INSERT INTO made VALUES(1, 'c', 2)",
    ]);
    copies.run(&[
        "CREATE TABLE IF NOT EXISTS made AS SELECT 1",
        "CREATE TABLE none AS SELECT * FROM t WHERE 0",
    ]);
    let with = Transaction {
        statements: vec![Statement::with("CREATE TABLE given AS SELECT ? AS a", [text("x")])],
    };
    copies.batch(&[with])[0].as_ref().unwrap();
    assert_eq!(query(&copies.follower, "SELECT a FROM given"), [[text("x")]]);
    copies.finish();
}

#[test]
fn what_exists_already_makes_no_effects() {
    let mut copies = Copies::new();
    copies.run(&["CREATE TABLE t(a)", "CREATE INDEX i ON t(a)"]);
    let before = copies.log.len();
    copies.run(&[
        "CREATE TABLE IF NOT EXISTS t(a)",
        "CREATE INDEX IF NOT EXISTS i ON t(a)",
        "DROP TABLE IF EXISTS x",
    ]);
    assert_eq!(copies.log.len(), before);
    copies.finish();
}

#[test]
fn indexes_views_and_triggers_are_made_changed_and_dropped() {
    let mut copies = Copies::new();
    copies.run(&[
        "CREATE TABLE t(a, b, c CHECK (c > 0))",
        "INSERT INTO t VALUES(1, 'x', 1), (2, 'y', 2)",
    ]);
    copies.run(&[
        "CREATE UNIQUE INDEX i ON t(a, lower(b)) WHERE c > 0",
        "CREATE VIEW v AS SELECT a FROM t",
        "CREATE TRIGGER tr AFTER INSERT ON t BEGIN UPDATE t SET c = c + 1 WHERE a = NEW.a; END",
    ]);
    copies.run(&[
        "INSERT INTO t VALUES(3, 'z', 1)",
        "ALTER TABLE t RENAME COLUMN a TO aa",
        "REINDEX",
    ]);
    copies.run(&[
        "INSERT INTO t VALUES(4, 'z', 1)",
        "DROP TRIGGER tr",
        "DROP VIEW v",
        "DROP INDEX i",
    ]);
    copies.run(&["INSERT INTO t VALUES(4, 'z', 1)", "DROP TABLE t"]);
    copies.finish();
}

#[test]
fn what_analyze_finds_travels() {
    let mut copies = Copies::new();
    copies.run(&["CREATE TABLE t(a, b)", "CREATE INDEX i ON t(a)", "CREATE INDEX j ON t(b, a)"]);
    copies.run(&["WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 300)
        INSERT INTO t SELECT i % 10, i FROM n"]);
    copies.run(&["ANALYZE"]);
    copies.run(&["INSERT INTO t SELECT * FROM t", "ANALYZE t", "PRAGMA optimize"]);
    copies.swap();
    copies.run(&["DELETE FROM t WHERE a = 3", "ANALYZE"]);
    assert!(!query(&copies.follower, "SELECT * FROM sqlite_stat4").is_empty());
    copies.run(&["UPDATE sqlite_stat1 SET stat = '5 1'", "DROP TABLE t"]);
    copies.finish();
}

#[test]
fn a_default_that_cannot_be_added_to_rows_is_refused_by_sqlite() {
    let mut copies = Copies::new();
    copies.run(&["CREATE TABLE t(a)", "ALTER TABLE t ADD COLUMN at DEFAULT CURRENT_TIMESTAMP"]);
    copies.run(&["INSERT INTO t(a) VALUES(1)"]);
    let error = copies.refused(&["ALTER TABLE t ADD COLUMN r DEFAULT (random())"]);
    assert_kind(&error, SqlErrorKind::Statement, "non-constant default");
    let error = copies.refused(&["CREATE INDEX i ON t(random())"]);
    assert_kind(&error, SqlErrorKind::Statement, "non-deterministic");
    let error = copies.refused(&["ALTER TABLE t ADD COLUMN g AS (random())"]);
    assert_kind(&error, SqlErrorKind::Statement, "non-deterministic");
    copies.finish();
}

#[test]
fn a_full_text_index_is_renamed_with_its_tables() {
    let mut copies = Copies::new();
    copies.run(&["CREATE VIRTUAL TABLE ft USING fts5(x)", "INSERT INTO ft VALUES('one')"]);
    copies.run(&["ALTER TABLE ft RENAME TO other", "INSERT INTO other VALUES('two')"]);
    copies.swap();
    copies.run(&[
        "INSERT INTO other VALUES('three')",
        "INSERT INTO other(other) VALUES('integrity-check')",
    ]);
    copies.finish();
}

#[test]
fn a_full_text_index_is_filled_in_the_transaction_that_makes_it() {
    let mut copies = Copies::new();
    copies.run(&[
        "CREATE VIRTUAL TABLE ft USING fts5(x)",
        "INSERT INTO ft VALUES('one')",
        "CREATE TABLE t(a)",
        "INSERT INTO ft VALUES('two')",
        "INSERT INTO t VALUES(1)",
    ]);
    copies.run(&["INSERT INTO ft(ft) VALUES('integrity-check')"]);
    copies.finish();
}

#[test]
fn the_schema_changes_while_readers_and_the_other_role_know_the_old_one() {
    let mut copies = Copies::new();
    copies.run(&["CREATE TABLE t(a, b)", "INSERT INTO t VALUES(1, 2)"]);
    let mut reader = copies.follower.reader().unwrap();
    let select = transaction(&["SELECT * FROM t"]);
    reader.query(&select, &SqlLimits::default()).unwrap().1.unwrap();
    copies.run(&["ALTER TABLE t DROP COLUMN a"]);
    let (_, outcome) = reader.query(&select, &SqlLimits::default()).unwrap();
    assert_eq!(outcome.unwrap()[0].rows, [[int(2)]]);
    copies.swap();
    copies.run(&["INSERT INTO t VALUES(3)", "ALTER TABLE t ADD COLUMN c"]);
    copies.swap();
    copies.run(&["INSERT INTO t VALUES(4, 5)", "UPDATE t SET c = 6"]);
    copies.finish();
}

#[test]
fn a_table_made_of_a_large_query_is_the_same_everywhere() {
    let mut copies = Copies::new();
    let sql = "CREATE TABLE big AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n \
               WHERE i < 1000) SELECT i, randomblob(2000) v FROM n";
    let outcomes = copies.batch(&[transaction(&[sql])]);
    assert!(outcomes[0].is_ok(), "{outcomes:?}");
    copies.finish();
}
