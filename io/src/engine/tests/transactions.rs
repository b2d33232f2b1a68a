//! Batches: what is undone, and what stays.

use super::*;

fn table() -> Copies {
    let mut copies = Copies::new();
    copies.run(&["CREATE TABLE t(id INTEGER PRIMARY KEY, v UNIQUE NOT NULL)"]);
    copies
}

fn kinds(outcomes: &[Outcome]) -> Vec<Option<SqlErrorKind>> {
    outcomes.iter().map(|outcome| outcome.as_ref().err().map(|error| error.kind)).collect()
}

#[test]
fn a_failing_transaction_is_undone_alone() {
    let mut copies = table();
    let outcomes = copies.batch(&[
        transaction(&["INSERT INTO t VALUES(1, 'a')"]),
        transaction(&["INSERT INTO t VALUES(2, 'b')", "INSERT INTO t VALUES(3, 'a')"]),
        transaction(&["INSERT INTO t VALUES(4, 'd')"]),
        transaction(&["SELECT count(*) FROM t"]),
    ]);
    assert_eq!(kinds(&outcomes), [None, Some(SqlErrorKind::Constraint), None, None]);
    let error = outcomes[1].as_ref().unwrap_err();
    assert_eq!(error.statement, 1);
    assert!(error.message.contains("t.v"), "{error}");
    assert_eq!(outcomes[3].as_ref().unwrap()[0].rows, [[int(2)]]);
    copies.assert_same();
    copies.finish();
}

#[test]
fn each_transaction_sees_those_before_it_and_none_is_seen_outside() {
    let mut copies = table();
    let batch = [
        transaction(&["INSERT INTO t VALUES(1, 'a')"]),
        transaction(&["UPDATE t SET v = v || '2' RETURNING v"]),
    ];
    let before = copies.owner.content_hash().unwrap();
    let executed = copies.owner.execute(&batch, &copies.limits).unwrap();
    assert_eq!(executed.outcomes[1].as_ref().unwrap()[0].rows, [[text("a2")]]);
    assert_eq!(query(&copies.owner, "SELECT count(*) FROM t"), [[int(0)]]);
    assert_eq!(copies.owner.content_hash().unwrap(), before);
    copies.owner.rollback().unwrap();
    assert_eq!(copies.owner.content_hash().unwrap(), before);
    copies.finish();
}

#[test]
fn or_rollback_undoes_the_offender_alone_and_leaves_what_follows_for_the_next_call() {
    let mut copies = table();
    let batch = [
        transaction(&["INSERT INTO t VALUES(1, 'a')"]),
        transaction(&["INSERT INTO t VALUES(2, 'b')"]),
        transaction(&["INSERT INTO t VALUES(3, 'c')", "INSERT OR ROLLBACK INTO t VALUES(4, 'a')"]),
        transaction(&["INSERT INTO t VALUES(5, 'e')"]),
    ];
    let outcomes = copies.batch(&batch);
    assert_eq!(kinds(&outcomes), [None, None, Some(SqlErrorKind::Constraint)]);
    copies.assert_same();
    assert_eq!(query(&copies.owner, "SELECT id FROM t"), [[int(1)], [int(2)]]);
    assert_eq!(kinds(&copies.batch(&batch[3..])), [None]);
    copies.finish();
}

#[test]
fn or_rollback_with_nothing_before_it_lets_the_batch_go_on() {
    let mut copies = table();
    copies.run(&["INSERT INTO t VALUES(1, 'a')"]);
    let outcomes = copies.batch(&[
        transaction(&["INSERT OR ROLLBACK INTO t VALUES(2, 'a')"]),
        transaction(&["INSERT INTO t VALUES(3, 'c')"]),
    ]);
    assert_eq!(kinds(&outcomes), [Some(SqlErrorKind::Constraint), None]);
    copies.assert_same();
    copies.finish();
}

#[test]
fn raise_rollback_in_a_trigger_undoes_the_offender_alone() {
    let mut copies = table();
    copies.run(&["CREATE TRIGGER tr BEFORE DELETE ON t BEGIN SELECT RAISE(ROLLBACK, 'kept'); END"]);
    let outcomes = copies
        .batch(&[transaction(&["INSERT INTO t VALUES(1, 'a')"]), transaction(&["DELETE FROM t"])]);
    assert_eq!(kinds(&outcomes), [None, Some(SqlErrorKind::Constraint)]);
    assert_eq!(outcomes[1].as_ref().unwrap_err().message, "kept");
    copies.assert_same();
    copies.finish();
}

#[test]
fn or_fail_leaves_nothing_of_its_transaction() {
    let mut copies = table();
    let error = copies.refused(&["INSERT OR FAIL INTO t VALUES(1, 'a'), (2, 'a')"]);
    assert_kind(&error, SqlErrorKind::Constraint, "t.v");
    copies.finish();
}

#[test]
fn a_schema_change_that_is_undone_with_its_transaction_is_forgotten() {
    let mut copies = table();
    let outcomes = copies.batch(&[
        transaction(&["INSERT INTO t VALUES(1, 'a')"]),
        transaction(&[
            "CREATE TABLE u(a, b)",
            "INSERT INTO u VALUES(1, 2)",
            "INSERT INTO t VALUES(1, 'b')",
        ]),
        transaction(&[
            "CREATE TABLE u(b INT, c, a INTEGER PRIMARY KEY)",
            "INSERT INTO u VALUES(1, 2, 3)",
        ]),
        transaction(&[
            "INSERT INTO t VALUES(2, 'b')",
            "ALTER TABLE t ADD COLUMN w DEFAULT 3",
            "SELECT * FROM nowhere",
        ]),
        transaction(&["INSERT INTO t VALUES(3, 'c')", "UPDATE u SET c = 4"]),
    ]);
    assert_eq!(
        kinds(&outcomes),
        [None, Some(SqlErrorKind::Constraint), None, Some(SqlErrorKind::Statement), None]
    );
    copies.assert_same();
    copies.finish();
}

#[test]
fn a_batch_that_is_undone_leaves_no_trace_in_what_follows() {
    let mut copies = table();
    copies.run(&["CREATE TABLE s(id INTEGER PRIMARY KEY AUTOINCREMENT, v)"]);
    let undone = [transaction(&[
        "CREATE TABLE u(a)",
        "INSERT INTO u VALUES(1)",
        "INSERT INTO s(v) VALUES(1), (2)",
        "PRAGMA foreign_keys = OFF",
        "CREATE VIRTUAL TABLE ft USING fts5(x)",
        "INSERT INTO ft VALUES('y')",
    ])];
    copies.owner.execute(&undone, &copies.limits).unwrap().outcomes[0].as_ref().unwrap();
    copies.owner.rollback().unwrap();
    copies.assert_same();
    copies.run(&[
        "CREATE TABLE u(b, a)",
        "INSERT INTO u VALUES(1, 2)",
        "INSERT INTO s(v) VALUES(3)",
    ]);
    assert_eq!(copies.run(&["PRAGMA foreign_keys"])[0].rows, [[int(1)]]);
    assert_eq!(query(&copies.follower, "SELECT id FROM s"), [[int(1)]]);
    copies.finish();
}

#[test]
fn a_deferred_foreign_key_fails_its_own_transaction_at_its_end() {
    let mut copies = table();
    copies.run(&["CREATE TABLE c(t REFERENCES t DEFERRABLE INITIALLY DEFERRED)"]);
    let outcomes = copies.batch(&[
        transaction(&["INSERT INTO t VALUES(1, 'a')"]),
        transaction(&["INSERT INTO c VALUES(99)", "SELECT 1"]),
        transaction(&["INSERT INTO c VALUES(2)", "INSERT INTO t VALUES(2, 'b')"]),
    ]);
    assert_eq!(kinds(&outcomes), [None, Some(SqlErrorKind::Constraint), None]);
    assert_eq!(outcomes[1].as_ref().unwrap_err().statement, 2);
    copies.assert_same();
    copies.finish();
}

#[test]
fn defer_foreign_keys_ends_with_its_transaction() {
    let mut copies = table();
    copies.run(&["CREATE TABLE c(t REFERENCES t)"]);
    let outcomes = copies.batch(&[
        transaction(&[
            "PRAGMA defer_foreign_keys = ON",
            "INSERT INTO c VALUES(1)",
            "INSERT INTO t VALUES(1, 'a')",
        ]),
        transaction(&["INSERT INTO c VALUES(2)", "INSERT INTO t VALUES(2, 'b')"]),
        transaction(&["PRAGMA defer_foreign_keys = ON", "INSERT INTO c VALUES(3)"]),
    ]);
    let constraint = Some(SqlErrorKind::Constraint);
    assert_eq!(kinds(&outcomes), [None, constraint, constraint]);
    assert_eq!(outcomes[1].as_ref().unwrap_err().statement, 0);
    assert_eq!(outcomes[2].as_ref().unwrap_err().statement, 2);
    copies.assert_same();
    copies.finish();
}

#[test]
fn foreign_keys_are_on_at_first_and_switched_for_all_copies() {
    let mut copies = table();
    copies.run(&["CREATE TABLE c(t REFERENCES t)"]);
    assert_kind(
        &copies.refused(&["INSERT INTO c VALUES(1)"]),
        SqlErrorKind::Constraint,
        "FOREIGN KEY",
    );
    copies.run(&[
        "INSERT INTO t VALUES(5, 'e')",
        "PRAGMA foreign_keys = off",
        "INSERT INTO c VALUES(1)",
    ]);
    copies.run(&["INSERT INTO c VALUES(2)"]);
    copies.swap();
    assert_eq!(copies.run(&["PRAGMA foreign_keys"])[0].rows, [[int(0)]]);
    copies.run(&["INSERT INTO c VALUES(3)", "PRAGMA foreign_keys = 1"]);
    copies.swap();
    assert_kind(
        &copies.refused(&["INSERT INTO c VALUES(4)"]),
        SqlErrorKind::Constraint,
        "FOREIGN KEY",
    );
    let error = copies.refused(&[
        "PRAGMA foreign_keys = OFF",
        "INSERT INTO c VALUES(4)",
        "SELECT * FROM no",
    ]);
    assert_kind(&error, SqlErrorKind::Statement, "no such table: no");
    assert_kind(
        &copies.refused(&["INSERT INTO c VALUES(4)"]),
        SqlErrorKind::Constraint,
        "FOREIGN KEY",
    );
    copies.finish();
}

#[test]
fn foreign_keys_stay_switched_after_a_restart() {
    let mut copies = table();
    copies.run(&["PRAGMA foreign_keys = OFF"]);
    let path = copies.owner.path().to_owned();
    copies.owner = SqliteEngine::open(&path).unwrap();
    assert_eq!(copies.run(&["PRAGMA foreign_keys"])[0].rows, [[int(0)]]);
    copies.finish();
}

#[test]
fn dropping_a_parent_travels_with_what_it_does_to_its_children() {
    let mut copies = table();
    copies.run(&[
        "CREATE TABLE c(id INTEGER PRIMARY KEY, t REFERENCES t ON DELETE CASCADE)",
        "CREATE TABLE n(t REFERENCES t ON DELETE SET NULL)",
    ]);
    copies.run(&[
        "INSERT INTO t VALUES(1, 'a'), (2, 'b')",
        "INSERT INTO c VALUES(1, 1), (2, 2)",
        "INSERT INTO n VALUES(1), (2)",
    ]);
    copies.run(&["DROP TABLE t"]);
    copies.finish();
}

#[test]
fn reading_leaves_nothing_open() {
    let mut copies = table();
    let batch = [
        transaction(&["SELECT 1"]),
        transaction(&["UPDATE t SET v = v"]),
        transaction(&["SELECT no"]),
    ];
    let executed = copies.owner.execute(&batch, &copies.limits).unwrap();
    assert!(executed.effects.is_empty());
    assert_eq!(executed.outcomes.len(), 3);
    copies.owner.execute(&batch, &copies.limits).unwrap();
    copies.owner.rollback().unwrap();
    copies.finish();
}

#[test]
fn no_transaction_learns_the_rowid_that_another_inserted() {
    let mut copies = table();
    let outcomes = copies.batch(&[
        transaction(&["INSERT INTO t VALUES(77, 'a')", "SELECT last_insert_rowid()"]),
        transaction(&["SELECT last_insert_rowid()"]),
    ]);
    assert_eq!(outcomes[0].as_ref().unwrap()[1].rows, [[int(77)]]);
    assert_eq!(outcomes[1].as_ref().unwrap()[0].rows, [[int(0)]]);
    copies.finish();
}

#[test]
fn parameters_are_given_by_place_and_by_name() {
    let mut copies = Copies::new();
    let select = |sql: &str, args: &[Value], named: &[(&str, Value)]| Transaction {
        statements: vec![Statement {
            sql: sql.into(),
            args: args.to_vec(),
            named: named.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        }],
    };
    let rows = |outcome: &Outcome| outcome.as_ref().unwrap()[0].rows.clone();
    let outcomes = copies.batch(&[
        select("SELECT ?, ?3, ?2", &[int(1), int(2), int(3)], &[]),
        select("SELECT :a, @b, $c, :a", &[], &[("a", int(1)), ("@b", int(2)), ("$c", Value::Null)]),
        select("SELECT ?, :a", &[int(1)], &[(":a", text("x"))]),
        select("SELECT ?, ?", &[int(1)], &[]),
        select("SELECT ?", &[int(1), int(2)], &[]),
        select("SELECT :a", &[], &[("a", int(1)), ("b", int(2))]),
    ]);
    assert_eq!(rows(&outcomes[0]), [[int(1), int(3), int(2)]]);
    assert_eq!(rows(&outcomes[1]), [[int(1), int(2), Value::Null, int(1)]]);
    assert_eq!(rows(&outcomes[2]), [[int(1), text("x")]]);
    assert_kind(outcomes[3].as_ref().unwrap_err(), SqlErrorKind::Statement, "parameter ?2");
    assert_kind(outcomes[4].as_ref().unwrap_err(), SqlErrorKind::Statement, "2 values");
    assert_kind(outcomes[5].as_ref().unwrap_err(), SqlErrorKind::Statement, "parameter b");
}

#[test]
fn columns_tell_name_and_declared_type() {
    let mut copies = table();
    let rows = copies.run(&["SELECT id, v, id + 1 AS next FROM t"]);
    let columns: Vec<_> =
        rows[0].columns.iter().map(|c| (c.name.as_str(), c.decltype.as_deref())).collect();
    assert_eq!(columns, [("id", Some("INTEGER")), ("v", None), ("next", None)]);
}
