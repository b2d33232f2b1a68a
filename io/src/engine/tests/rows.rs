//! Rows of every kind of table end the same on every copy.

use super::*;

#[test]
fn a_table_without_a_key_keeps_its_rowids() {
    let mut copies = Copies::new();
    copies.run(&["CREATE TABLE t(a)"]);
    copies.run(&["INSERT INTO t VALUES('x'), ('x'), ('y')", "DELETE FROM t WHERE rowid = 2"]);
    copies.run(&["INSERT INTO t VALUES('z')", "UPDATE t SET a = 'w' WHERE a = 'x'"]);
    let rows = query(&copies.follower, "SELECT rowid, a FROM t ORDER BY 1");
    assert_eq!(rows, [[int(1), text("w")], [int(3), text("y")], [int(4), text("z")]]);
    copies.finish();
}

#[test]
fn rows_with_a_text_key_keep_their_rowids_in_any_order_of_changes() {
    let mut copies = Copies::new();
    copies.run(&["CREATE TABLE t(k TEXT PRIMARY KEY, v)"]);
    copies.run(&[
        "INSERT INTO t VALUES('q', 1), ('b', 2), ('zz', 3), ('a', 4)",
        "DELETE FROM t WHERE k = 'q'",
        "INSERT INTO t VALUES('q', 5)",
    ]);
    let rows = query(&copies.follower, "SELECT rowid, k FROM t ORDER BY 1");
    let wanted = [(2, "b"), (3, "zz"), (4, "a"), (5, "q")].map(|(id, k)| vec![int(id), text(k)]);
    assert_eq!(rows, wanted);
    copies.finish();
}

#[test]
fn a_null_in_a_primary_key_is_replicated_by_insert_update_select_upsert_and_trigger() {
    let mut copies = Copies::new();
    copies.run(&["CREATE TABLE t(k TEXT PRIMARY KEY, v)", "CREATE TABLE src(k, v)"]);
    copies.run(&["INSERT INTO t VALUES(NULL, 1), (NULL, 2), ('a', 3)"]);
    copies.run(&["UPDATE t SET k = NULL WHERE k = 'a'"]);
    copies.run(&["INSERT INTO src VALUES(NULL, 10)", "INSERT INTO t SELECT k, v FROM src"]);
    copies.run(&["INSERT INTO t VALUES(NULL, 11) ON CONFLICT(k) DO UPDATE SET v = 12"]);
    copies.run(&[
        "CREATE TRIGGER tr AFTER INSERT ON src BEGIN INSERT INTO t VALUES(NULL, NEW.v); END",
    ]);
    copies.run(&["INSERT INTO src VALUES(1, 13)"]);
    copies.run(&["UPDATE t SET v = v + 100 WHERE k IS NULL", "DELETE FROM t WHERE v = 102"]);
    assert_eq!(query(&copies.follower, "SELECT count(*) FROM t WHERE k IS NULL"), [[int(5)]]);
    copies.finish();
}

#[test]
fn autoincrement_goes_on_at_the_same_value_after_the_last_row_was_deleted() {
    let mut copies = Copies::new();
    copies.run(&["CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, v)"]);
    copies.run(&["INSERT INTO t(v) VALUES('a'), ('b')", "DELETE FROM t WHERE id = 2"]);
    copies.swap();
    copies.run(&["INSERT INTO t(v) VALUES('c')"]);
    assert_eq!(query(&copies.follower, "SELECT max(id) FROM t"), [[int(3)]]);
    copies.finish();
}

#[test]
fn sqlite_sequence_is_the_same_whoever_writes_it() {
    let mut copies = Copies::new();
    copies.run(&[
        "CREATE TABLE a(id INTEGER PRIMARY KEY AUTOINCREMENT, v UNIQUE)",
        "CREATE TABLE b(id INTEGER PRIMARY KEY AUTOINCREMENT, v)",
        "CREATE TRIGGER tr AFTER INSERT ON b BEGIN INSERT INTO a(v) VALUES(NEW.v); END",
    ]);
    copies.run(&["INSERT INTO b(v) SELECT 1 WHERE 0"]);
    copies.run(&["INSERT INTO b(v) VALUES(7)"]);
    copies.run(&["INSERT OR IGNORE INTO a(v) VALUES(7)"]);
    copies.run(&[
        "INSERT INTO a(v) VALUES(8)",
        "UPDATE sqlite_sequence SET seq = 1 WHERE name = 'a'",
    ]);
    copies.run(&["UPDATE sqlite_sequence SET seq = 500 WHERE name = 'b'"]);
    copies.run(&["DELETE FROM sqlite_sequence WHERE name = 'b'"]);
    copies.run(&["INSERT INTO b(v) VALUES(9)"]);
    copies.run(&["ALTER TABLE b RENAME TO c"]);
    copies.run(&["INSERT INTO c(v) VALUES(10)"]);
    copies.run(&["DROP TABLE c", "DELETE FROM a", "DELETE FROM sqlite_sequence"]);
    copies.run(&["INSERT INTO sqlite_sequence VALUES('a', 20), ('a', 30), (NULL, 'x')"]);
    copies.run(&["INSERT INTO a(v) VALUES(11)"]);
    copies.finish();
}

#[test]
fn tables_without_rowid_are_named_by_their_key() {
    let mut copies = Copies::new();
    copies
        .run(&["CREATE TABLE t(v, b TEXT COLLATE NOCASE, a INT, PRIMARY KEY(b, a)) WITHOUT ROWID"]);
    copies.run(&["INSERT INTO t VALUES(1, 'x', 1), (2, 'y', 1), (3, 'y', 2)"]);
    copies.run(&["UPDATE t SET b = 'Y' WHERE a = 2", "UPDATE t SET v = v * 2"]);
    copies.run(&["UPDATE t SET a = a + 10", "DELETE FROM t WHERE b = 'x'"]);
    copies
        .run(&["REPLACE INTO t VALUES(9, 'Y', 11)", "INSERT OR REPLACE INTO t VALUES(8, 'q', 1)"]);
    copies.run(&["CREATE TABLE u(v, b TEXT, a INT, PRIMARY KEY(b, a)) WITHOUT ROWID"]);
    copies.run(&["INSERT INTO u SELECT * FROM t", "DELETE FROM t"]);
    copies.finish();
}

#[test]
fn generated_columns_are_computed_by_every_copy() {
    let mut copies = Copies::new();
    copies.run(&["CREATE TABLE t(
        v1 INT GENERATED ALWAYS AS (a + 1) VIRTUAL, a INT, s TEXT AS (a || '!') STORED, b,
        PRIMARY KEY(b), UNIQUE(s))"]);
    copies.run(&["CREATE INDEX i ON t(v1)"]);
    copies
        .run(&["INSERT INTO t(a, b) VALUES(1, 'x'), (2, 'y')", "UPDATE t SET a = 5 WHERE b = 'y'"]);
    copies.run(&["CREATE TABLE w(k INT, g AS (k * 2), h AS (k * 3) STORED, x, PRIMARY KEY(x, k))
        WITHOUT ROWID"]);
    copies.run(&["INSERT INTO w(k, x) VALUES(1, 1), (2, 1)", "UPDATE w SET k = k + 5"]);
    copies.run(&["DELETE FROM w WHERE g = 12", "DELETE FROM t WHERE v1 = 2"]);
    assert_eq!(
        query(&copies.follower, "SELECT v1, s, b FROM t"),
        [[int(6), text("5!"), text("y")]]
    );
    copies.finish();
}

#[test]
fn random_and_the_clock_give_one_value_to_all_copies() {
    let mut copies = Copies::new();
    copies.run(&["CREATE TABLE t(
        id INTEGER PRIMARY KEY, r DEFAULT (random()), at DEFAULT CURRENT_TIMESTAMP, b)"]);
    copies.run(&["INSERT INTO t(b) VALUES(randomblob(16)), (datetime('now', 'subsec'))"]);
    copies.run(&["UPDATE t SET b = random()"]);
    copies.run(&["CREATE TABLE made AS SELECT random() AS r, * FROM t"]);
    copies.finish();
}

#[test]
fn triggers_run_once_and_their_changes_travel() {
    let mut copies = Copies::new();
    copies.run(&[
        "PRAGMA foreign_keys = ON",
        "CREATE TABLE t(id INTEGER PRIMARY KEY, v)",
        "CREATE TABLE log(what, id)",
        "CREATE VIEW shown AS SELECT id, v FROM t",
        "CREATE TRIGGER before BEFORE INSERT ON t WHEN NEW.v = 'skip' BEGIN SELECT RAISE(IGNORE); END",
        "CREATE TRIGGER after AFTER UPDATE ON t BEGIN INSERT INTO log VALUES('u', NEW.id); END",
        "CREATE TRIGGER gone AFTER DELETE ON t BEGIN
           INSERT INTO log VALUES('d', OLD.id); UPDATE t SET v = 'next' WHERE id = OLD.id + 1; END",
        "CREATE TRIGGER instead INSTEAD OF INSERT ON shown BEGIN
           INSERT INTO t VALUES(NEW.id, NEW.v); INSERT INTO log VALUES('v', NEW.id); END",
    ]);
    copies.run(&["INSERT INTO t VALUES(1, 'a'), (2, 'skip'), (3, 'c')"]);
    copies.run(&["INSERT INTO shown VALUES(4, 'd'), (5, 'skip')"]);
    copies.run(&["DELETE FROM t WHERE id = 3", "UPDATE t SET v = v || '!'"]);
    assert_eq!(query(&copies.follower, "SELECT count(*) FROM log"), [[int(6)]]);
    copies.finish();
}

#[test]
fn cascades_of_foreign_keys_travel_as_rows() {
    let mut copies = Copies::new();
    copies.run(&[
        "CREATE TABLE p(id INTEGER PRIMARY KEY, u UNIQUE)",
        "CREATE TABLE c(id INTEGER PRIMARY KEY, p REFERENCES p ON DELETE CASCADE ON UPDATE CASCADE)",
        "CREATE TABLE n(p REFERENCES p(u) ON DELETE SET NULL ON UPDATE SET DEFAULT)",
    ]);
    copies.run(&["INSERT INTO p VALUES(1, 'x'), (2, 'y'), (3, 'z')"]);
    copies.run(&[
        "INSERT INTO c VALUES(1, 1), (2, 2), (3, 3)",
        "INSERT INTO n VALUES('x'), ('y'), ('z')",
    ]);
    copies.run(&["DELETE FROM p WHERE id = 1", "UPDATE p SET id = 20, u = 'yy' WHERE id = 2"]);
    assert_eq!(query(&copies.follower, "SELECT p FROM c ORDER BY 1"), [[int(3)], [int(20)]]);
    copies.finish();
}

#[test]
fn recursive_triggers_and_self_references_end_the_same() {
    let mut copies = Copies::new();
    copies
        .run(&["CREATE TABLE tree(id INTEGER PRIMARY KEY, up REFERENCES tree ON DELETE CASCADE)"]);
    copies.run(&["INSERT INTO tree VALUES(1, NULL), (2, 1), (3, 2), (4, 2), (5, NULL)"]);
    copies.run(&["DELETE FROM tree WHERE id = 1"]);
    assert_eq!(query(&copies.follower, "SELECT id FROM tree"), [[int(5)]]);
    copies.finish();
}

#[test]
fn unique_values_that_change_places_do_not_get_in_each_others_way() {
    let mut copies = Copies::new();
    copies.run(&[
        "CREATE TABLE t(id INTEGER PRIMARY KEY, u UNIQUE)",
        "INSERT INTO t VALUES(1, 1), (2, 2)",
    ]);
    copies.run(&[
        "UPDATE t SET u = -1 WHERE id = 1",
        "UPDATE t SET u = 1 WHERE id = 2",
        "UPDATE t SET u = 2 WHERE id = 1",
    ]);
    copies.run(&["UPDATE t SET id = id + 10", "REPLACE INTO t VALUES(11, 1)"]);
    assert_eq!(query(&copies.follower, "SELECT id, u FROM t"), [[int(11), int(1)]]);
    copies.finish();
}

#[test]
fn conflict_clauses_of_the_schema_decide_at_the_executor_alone() {
    let mut copies = Copies::new();
    copies.run(&["CREATE TABLE t(a UNIQUE ON CONFLICT REPLACE, b UNIQUE ON CONFLICT IGNORE, c)"]);
    copies.run(&["INSERT INTO t VALUES(1, 1, 'x'), (2, 2, 'y')"]);
    copies.run(&[
        "INSERT INTO t VALUES(1, 3, 'z'), (4, 2, 'ignored')",
        "UPDATE OR REPLACE t SET a = 2",
    ]);
    copies.run(&["INSERT INTO t VALUES(2, 9, 'u') ON CONFLICT(b) DO NOTHING"]);
    copies.finish();
}

#[test]
fn upsert_and_returning_give_what_happened() {
    let mut copies = Copies::new();
    copies.run(&["CREATE TABLE t(k PRIMARY KEY, n INT)"]);
    let upsert =
        "INSERT INTO t VALUES('a', 1) ON CONFLICT DO UPDATE SET n = n + 1 RETURNING k, n, rowid";
    let rows = copies.run(&[upsert]);
    assert_eq!(rows[0].rows, [[text("a"), int(1), int(1)]]);
    assert_eq!((rows[0].affected, rows[0].last_insert_rowid), (1, Some(1)));
    let rows = copies.run(&[upsert]);
    assert_eq!(rows[0].rows, [[text("a"), int(2), int(1)]]);
    assert_eq!((rows[0].affected, rows[0].last_insert_rowid), (1, None));
    copies.finish();
}

#[test]
fn values_of_every_kind_arrive_bit_by_bit() {
    let mut copies = Copies::new();
    copies.run(&["CREATE TABLE t(i INTEGER, r REAL, s TEXT, b BLOB, n NUMERIC, x)"]);
    copies.run(&["INSERT INTO t VALUES(1, 1, 1, 1, '1.0', 1.0)"]);
    copies.run(&[
        "INSERT INTO t VALUES(9223372036854775807, 1e308, 'ä€😀', x'00ff', '12abc', 9e999)",
    ]);
    copies.run(&[
        "INSERT INTO t VALUES(-9223372036854775808, -0.0, '', x'', 0.1, CAST(x'fffe' AS TEXT))",
    ]);
    copies.run(&["INSERT INTO t(s, b) VALUES('a' || char(0) || 'b', zeroblob(5000))"]);
    copies.run(&["UPDATE t SET r = 2, n = 3.5, b = zeroblob(10) WHERE rowid < 3"]);
    copies.run(&["UPDATE t SET x = r", "DELETE FROM t WHERE r = 2"]);
    copies.finish();
}

#[test]
fn a_row_that_is_older_than_a_column_changes_like_any_other() {
    let mut copies = Copies::new();
    copies.run(&["CREATE TABLE t(a)", "INSERT INTO t VALUES(1), (2), (3)"]);
    copies.run(&[
        "ALTER TABLE t ADD COLUMN b DEFAULT 5.0",
        "ALTER TABLE t ADD COLUMN c TEXT DEFAULT 7",
    ]);
    copies.run(&["ALTER TABLE t ADD COLUMN d REAL DEFAULT 4", "UPDATE t SET a = 10 WHERE a = 1"]);
    copies.run(&["DELETE FROM t WHERE a = 2", "UPDATE t SET b = 6, c = NULL"]);
    copies.finish();
}

#[test]
fn a_rowid_under_another_name_is_found() {
    let mut copies = Copies::new();
    copies.run(&[
        "CREATE TABLE t(rowid TEXT, oid, v)",
        "INSERT INTO t VALUES('r', 'o', 1), ('r', 'o', 2)",
    ]);
    copies.run(&["UPDATE t SET v = 3 WHERE v = 2", "DELETE FROM t WHERE v = 1"]);
    copies.run(&[
        "CREATE TABLE d(id INTEGER PRIMARY KEY DESC, v)",
        "INSERT INTO d VALUES(7, 1), (3, 2)",
    ]);
    copies.run(&["UPDATE d SET id = 8 WHERE id = 3", "INSERT INTO d VALUES(NULL, 5)"]);
    copies.run(&[
        "CREATE TABLE i(rowid, _rowid_, oid INTEGER PRIMARY KEY)",
        "INSERT INTO i VALUES(1, 2, 3)",
    ]);
    copies.run(&["UPDATE i SET oid = 4"]);
    copies.finish();
}

#[test]
fn names_may_hold_anything() {
    let mut copies = Copies::new();
    copies.run(&[
        "CREATE TABLE \"a \"\" b; --\"(\"x y\" TEXT PRIMARY KEY, \"select\" INT) WITHOUT ROWID",
    ]);
    copies.run(&[
        "INSERT INTO \"a \"\" b; --\" VALUES('k', 1)",
        "UPDATE \"a \"\" b; --\" SET \"select\" = 2",
    ]);
    copies.run(&[
        "CREATE TABLE [größe](ä INTEGER PRIMARY KEY, [日本])",
        "INSERT INTO größe VALUES(1, 2)",
    ]);
    copies.finish();
}

#[test]
fn deleting_and_copying_whole_tables_is_seen() {
    let mut copies = Copies::new();
    copies.run(&[
        "CREATE TABLE a(id INTEGER PRIMARY KEY, v)",
        "CREATE TABLE b(id INTEGER PRIMARY KEY, v)",
    ]);
    copies.run(&["WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 500)
        INSERT INTO a SELECT i, hex(randomblob(20)) FROM n"]);
    copies.run(&["INSERT INTO b SELECT * FROM a"]);
    copies.run(&["DELETE FROM a", "INSERT INTO a SELECT * FROM b WHERE id % 2", "DELETE FROM b"]);
    copies.finish();
}

#[test]
fn strict_tables_replicate_and_refuse_by_type() {
    let mut copies = Copies::new();
    copies.run(&["CREATE TABLE t(id INTEGER PRIMARY KEY, i INT, r REAL, s TEXT, a ANY) STRICT"]);
    copies.run(&["INSERT INTO t VALUES(1, 2, 3, 'x', '0012')", "UPDATE t SET r = 4, a = 7"]);
    let error = copies.refused(&["INSERT INTO t(i) VALUES('word')"]);
    assert_kind(&error, SqlErrorKind::Type, "t.i");
    let error = copies.refused(&["INSERT INTO t(id) VALUES('word')"]);
    assert_kind(&error, SqlErrorKind::Type, "");
    copies.finish();
}

#[test]
fn a_full_text_index_is_the_same_to_the_byte_and_whole() {
    let mut copies = Copies::new();
    copies.run(&["CREATE VIRTUAL TABLE ft USING fts5(title, body, prefix='2 3')"]);
    copies
        .run(&["INSERT INTO ft VALUES('first', 'the quick brown fox'), ('second', 'jumps over')"]);
    copies.run(&["INSERT INTO ft(ft, rank) VALUES('pgsz', 64)"]);
    for n in 0..40 {
        copies.run(&[&format!("INSERT INTO ft VALUES('n{n}', 'word{n} fox {n}')")]);
    }
    copies.run(&[
        "UPDATE ft SET body = 'nothing' WHERE title = 'n3'",
        "DELETE FROM ft WHERE title = 'n4'",
    ]);
    copies.run(&["INSERT INTO ft(ft) VALUES('rebuild')", "INSERT INTO ft(ft) VALUES('optimize')"]);
    copies.swap();
    for n in 0..20 {
        copies.run(&[&format!("INSERT INTO ft VALUES('s{n}', 'other{n} fox')")]);
    }
    copies.swap();
    copies.run(&["INSERT INTO ft VALUES('back', 'fox again')"]);
    copies.run(&["INSERT INTO ft(ft) VALUES('integrity-check')"]);
    copies.swap();
    copies.run(&["INSERT INTO ft(ft) VALUES('integrity-check')"]);
    let found = query(&copies.owner, "SELECT count(*) FROM ft WHERE ft MATCH 'fox'");
    assert_eq!(query(&copies.follower, "SELECT count(*) FROM ft WHERE ft MATCH 'fox'"), found);
    copies.run(&["DROP TABLE ft"]);
    copies.finish();
}

#[test]
fn full_text_indexes_of_other_tables_and_without_content_replicate() {
    let mut copies = Copies::new();
    copies.run(&[
        "CREATE TABLE doc(id INTEGER PRIMARY KEY, body)",
        "CREATE VIRTUAL TABLE ft USING fts5(body, content='doc', content_rowid='id')",
        "CREATE TRIGGER ai AFTER INSERT ON doc BEGIN
           INSERT INTO ft(rowid, body) VALUES(NEW.id, NEW.body); END",
        "CREATE TRIGGER ad AFTER DELETE ON doc BEGIN
           INSERT INTO ft(ft, rowid, body) VALUES('delete', OLD.id, OLD.body); END",
        "CREATE VIRTUAL TABLE less USING fts5(body, content='', contentless_delete=1)",
        "CREATE VIRTUAL TABLE words USING fts5vocab('ft', 'row')",
    ]);
    copies.run(&["INSERT INTO doc(body) VALUES('one two'), ('two three'), ('three four')"]);
    copies.run(&[
        "DELETE FROM doc WHERE id = 2",
        "INSERT INTO less(rowid, body) VALUES(1, 'x y'), (2, 'y z')",
    ]);
    copies.run(&["DELETE FROM less WHERE rowid = 1", "INSERT INTO ft(ft) VALUES('rebuild')"]);
    copies.run(&["INSERT INTO ft(ft) VALUES('integrity-check')"]);
    assert_eq!(query(&copies.follower, "SELECT count(*) FROM words"), [[int(4)]]);
    copies.finish();
}

#[test]
fn a_failed_transaction_leaves_nothing_in_a_full_text_index() {
    let mut copies = Copies::new();
    copies.run(&["CREATE VIRTUAL TABLE ft USING fts5(body)", "CREATE TABLE t(a NOT NULL)"]);
    let outcomes = copies.batch(&[
        transaction(&["INSERT INTO ft VALUES('kept one')"]),
        transaction(&["INSERT INTO ft VALUES('lost two')", "INSERT INTO t VALUES(NULL)"]),
        transaction(&["INSERT INTO ft VALUES('kept three')"]),
    ]);
    assert!(outcomes[0].is_ok() && outcomes[1].is_err() && outcomes[2].is_ok());
    copies.assert_same();
    copies.run(&["INSERT INTO ft(ft) VALUES('integrity-check')"]);
    let sql = "SELECT count(*) FROM ft WHERE ft MATCH 'kept OR lost'";
    assert_eq!(query(&copies.follower, sql), [[int(2)]]);
    copies.finish();
}

#[test]
fn an_rtree_is_the_same_to_the_byte() {
    let mut copies = Copies::new();
    copies.run(&["CREATE VIRTUAL TABLE r USING rtree(id, x0, x1, y0, y1, +note)"]);
    for n in 0..120 {
        copies.run(&[&format!(
            "INSERT INTO r VALUES({n}, {n}, {n}.5, {}, {}, 'n{n}')",
            n % 7,
            n % 7 + 1
        )]);
    }
    copies.run(&["UPDATE r SET x1 = 1000 WHERE id = 5", "DELETE FROM r WHERE id % 3 = 0"]);
    copies.swap();
    copies.run(&["INSERT INTO r SELECT id + 1000, x0, x1, y0, y1, note FROM r"]);
    assert_eq!(query(&copies.follower, "SELECT rtreecheck('r')"), [[text("ok")]]);
    copies.finish();
}
