//! Interactive transactions: what holds for a batch holds over several steps.

use std::time::{Duration, Instant};

use quorate_core::engine::Stepped;

use super::super::ffi::memory::Allowance;
use super::*;

impl Copies {
    fn begin(&mut self) {
        self.owner.begin(&self.limits).unwrap();
    }

    fn try_step(&mut self, statements: &[&str]) -> Stepped {
        self.owner.step(&transaction(statements)).unwrap()
    }

    /// A step that must work.
    #[track_caller]
    fn step(&mut self, statements: &[&str]) -> Vec<Rows> {
        let Stepped { rows, error, lost } = self.try_step(statements);
        assert_eq!((error, lost), (None, false), "{statements:?}");
        rows
    }

    /// A step of one statement that must fail, and leave what was before it.
    #[track_caller]
    fn fails(&mut self, statement: &str) -> SqlError {
        let Stepped { rows, error, lost } = self.try_step(&[statement]);
        assert_eq!((rows.len(), lost), (0, false), "{statement}");
        error.expect("it works")
    }

    /// The end, as an entry if anything was changed; both copies are the same then.
    #[track_caller]
    fn end(&mut self) -> Outcome {
        let Executed { mut outcomes, effects } = self.owner.finish().unwrap();
        self.enter(effects);
        self.assert_same();
        assert_eq!(outcomes.len(), 1);
        outcomes.remove(0)
    }
}

#[test]
fn full_text_indexes_and_sequences_follow_over_several_steps() {
    let mut copies = Copies::new();
    copies.begin();
    copies.step(&["CREATE VIRTUAL TABLE ft USING fts5(x)"]);
    copies.step(&["CREATE TABLE t(k INTEGER PRIMARY KEY AUTOINCREMENT, x UNIQUE)"]);
    copies.step(&["INSERT INTO ft VALUES('one two')", "INSERT INTO t(x) VALUES(1), (2)"]);
    assert_kind(
        &copies.fails("INSERT OR FAIL INTO t(x) VALUES(3), (1)"),
        SqlErrorKind::Constraint,
        "t.x",
    );
    copies.step(&["INSERT INTO ft SELECT 'word ' || value FROM json_each('[1,2,3]')"]);
    let found = copies.step(&["SELECT rowid FROM ft WHERE ft MATCH 'word'"]);
    assert_eq!(found[0].rows.len(), 3);
    copies.step(&["DELETE FROM t", "SELECT 1"]);
    copies.end().unwrap();
    assert_eq!(query(&copies.follower, "SELECT count(*) FROM ft('word')"), [[int(3)]]);
    assert_eq!(query(&copies.follower, "SELECT seq FROM sqlite_sequence"), [[int(2)]]);
    copies.swap();
    copies.run(&["INSERT INTO t(x) VALUES(9)", "INSERT INTO ft VALUES('nine')"]);
    copies.finish();
}

#[test]
fn a_full_text_index_whose_drop_failed_goes_on_to_be_captured() {
    let mut copies = Copies::new();
    copies.run(&["CREATE VIRTUAL TABLE ft USING fts5(x)", "CREATE TABLE t(x UNIQUE)"]);
    copies.begin();
    let stepped = copies.try_step(&["DROP TABLE ft", "CREATE TABLE _quorate_mine(x)"]);
    assert_eq!(stepped.rows.len(), 1);
    copies.owner.rollback().unwrap();
    copies.begin();
    copies.step(&["INSERT INTO ft VALUES('still')"]);
    copies.fails("ALTER TABLE ft RENAME TO _quorate_mine");
    copies.step(&["INSERT INTO ft VALUES('here')"]);
    copies.end().unwrap();
    assert_eq!(query(&copies.follower, "SELECT count(*) FROM ft"), [[int(2)]]);
    copies.finish();
}

#[test]
fn rows_before_and_after_a_change_of_the_schema_are_captured() {
    let mut copies = Copies::new();
    copies.run(&["CREATE TABLE t(k TEXT PRIMARY KEY, x)"]);
    copies.begin();
    copies.step(&["INSERT INTO t VALUES('a', 1)"]);
    copies.step(&["ALTER TABLE t ADD COLUMN y DEFAULT 7"]);
    copies.step(&["INSERT INTO t VALUES('b', 2, 3)"]);
    copies.fails("ALTER TABLE t DROP COLUMN nothing");
    copies.fails("INSERT INTO t VALUES('b', 2, 3)");
    copies.step(&["CREATE TABLE u AS SELECT * FROM t"]);
    copies.step(&["UPDATE u SET y = y + 1", "DROP TABLE t"]);
    copies.end().unwrap();
    assert_eq!(query(&copies.follower, "SELECT sum(y) FROM u"), [[int(12)]]);
    copies.finish();
}

#[test]
fn a_deferred_foreign_key_fails_at_the_end_and_nothing_is_left() {
    let mut copies = Copies::new();
    copies.run(&[
        "CREATE TABLE p(k INTEGER PRIMARY KEY)",
        "CREATE TABLE c(p REFERENCES p DEFERRABLE INITIALLY DEFERRED)",
    ]);
    let before = copies.owner.content_hash().unwrap();
    copies.begin();
    copies.step(&["SELECT 1", "INSERT INTO c VALUES(1)"]);
    let error = copies.end().unwrap_err();
    assert_kind(&error, SqlErrorKind::Constraint, "FOREIGN KEY");
    assert_eq!(error.statement, 2, "behind the last that ran");
    assert_eq!(copies.owner.content_hash().unwrap(), before);
    // One that is mended before the end is none.
    copies.begin();
    copies.step(&["INSERT INTO c VALUES(1)"]);
    copies.step(&["INSERT INTO p VALUES(1)"]);
    copies.end().unwrap();
    // The pragma holds until the end of the transaction, over its steps, and no longer.
    copies.run(&["CREATE TABLE i(p REFERENCES p)"]);
    copies.begin();
    copies.step(&["PRAGMA defer_foreign_keys = ON"]);
    copies.step(&["INSERT INTO i VALUES(2)"]);
    copies.step(&["INSERT INTO p VALUES(2)"]);
    copies.end().unwrap();
    copies.begin();
    assert_kind(&copies.fails("INSERT INTO i VALUES(3)"), SqlErrorKind::Constraint, "FOREIGN KEY");
    copies.end().unwrap();
    copies.finish();
}

#[test]
fn what_sqlite_undoes_as_a_whole_is_lost() {
    let mut copies = Copies::new();
    copies.run(&[
        "CREATE TABLE t(k INTEGER PRIMARY KEY)",
        "INSERT INTO t VALUES(1)",
        "CREATE TRIGGER g AFTER INSERT ON t WHEN NEW.k > 10
           BEGIN SELECT RAISE(ROLLBACK, 'too much'); END",
    ]);
    let before = copies.owner.content_hash().unwrap();
    for (sql, says) in [
        ("INSERT OR ROLLBACK INTO t VALUES(1)", "UNIQUE"),
        ("INSERT INTO t VALUES(11)", "too much"),
    ] {
        copies.begin();
        copies.step(&["INSERT INTO t VALUES(2)", "PRAGMA foreign_keys = OFF", "DROP TRIGGER g"]);
        copies.owner.rollback().unwrap();
        copies.begin();
        copies.step(&["INSERT INTO t VALUES(2)", "PRAGMA foreign_keys = OFF"]);
        let stepped = copies.try_step(&["SELECT 1", sql, "INSERT INTO t VALUES(3)"]);
        assert_eq!((stepped.rows.len(), stepped.lost), (1, true));
        assert_kind(&stepped.error.unwrap(), SqlErrorKind::Constraint, says);
        assert_eq!(copies.owner.content_hash().unwrap(), before);
        assert!(copies.owner.finish().is_err(), "nothing is open");
    }
    copies.run(&["INSERT INTO t VALUES(2)"]);
    assert_eq!(copies.run(&["PRAGMA foreign_keys"])[0].rows, [[int(1)]]);
    copies.finish();
}

#[test]
fn foreign_keys_are_enforced_or_not_from_a_step_on_and_taken_back_with_it() {
    let mut copies = Copies::new();
    copies.run(&["CREATE TABLE p(k INTEGER PRIMARY KEY)", "CREATE TABLE c(p REFERENCES p)"]);
    copies.begin();
    copies.fails("INSERT INTO c VALUES(1)");
    copies.step(&["PRAGMA foreign_keys = OFF"]);
    copies.step(&["INSERT INTO c VALUES(1)"]);
    copies.owner.rollback().unwrap();
    copies.begin();
    copies.fails("INSERT INTO c VALUES(1)");
    copies.step(&["PRAGMA foreign_keys = OFF"]);
    copies.step(&["INSERT INTO c VALUES(1)"]);
    copies.end().unwrap();
    copies.swap();
    copies.run(&["INSERT INTO c VALUES(2)"]);
    copies.finish();
}

#[test]
fn what_begins_or_ends_a_transaction_is_refused_within_one_too() {
    let mut copies = Copies::new();
    copies.run(&["CREATE TABLE t(a)"]);
    copies.begin();
    copies.step(&["INSERT INTO t VALUES(1)"]);
    for sql in [
        "BEGIN",
        "BEGIN IMMEDIATE",
        "COMMIT",
        "END",
        "ROLLBACK",
        "SAVEPOINT a",
        "RELEASE a",
        "RELEASE _quorate",
        "ROLLBACK TO _quorate",
        "VACUUM",
        "ATTACH ':memory:' AS o",
    ] {
        assert_eq!(copies.fails(sql).kind, SqlErrorKind::Unsupported, "{sql}");
    }
    copies.step(&["INSERT INTO t VALUES(2)"]);
    copies.end().unwrap();
    assert_eq!(query(&copies.follower, "SELECT a FROM t"), [[int(1)], [int(2)]]);
    copies.finish();
}

#[test]
fn an_update_to_what_is_there_changes_nothing_and_is_no_entry() {
    let mut copies = Copies::new();
    copies.run(&["CREATE TABLE t(a)", "INSERT INTO t VALUES(1)"]);
    let entries = copies.log.len();
    copies.begin();
    assert_eq!(copies.step(&["UPDATE t SET a = 1"])[0].affected, 1);
    copies.end().unwrap();
    assert_eq!(copies.outcome(&["UPDATE t SET a = 1"]).unwrap()[0].affected, 1);
    assert_eq!(copies.log.len(), entries);
    // Behind it tables are numbered as ever.
    copies.run(&[
        "CREATE TABLE u(a)",
        "UPDATE t SET a = 1",
        "INSERT INTO u VALUES(2)",
        "UPDATE t SET a = 3",
    ]);
    copies.finish();
}

#[test]
fn the_time_of_all_steps_together_is_bounded_and_so_is_what_lies_between() {
    const ENDLESS: &str =
        "WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    let mut copies = Copies::new();
    copies.run(&["CREATE TABLE t(a)"]);
    copies.limits.time_ms = 200;
    let start = Instant::now();
    copies.begin();
    copies.step(&["INSERT INTO t VALUES(1)"]);
    assert_kind(&copies.fails(ENDLESS), SqlErrorKind::Timeout, "longer than");
    assert_kind(&copies.fails("SELECT 1"), SqlErrorKind::Timeout, "longer than");
    assert_kind(&copies.end().unwrap_err(), SqlErrorKind::Timeout, "longer than");
    copies.begin();
    copies.step(&["INSERT INTO t VALUES(1)"]);
    std::thread::sleep(Duration::from_millis(210));
    assert_kind(&copies.fails("INSERT INTO t VALUES(2)"), SqlErrorKind::Timeout, "longer than");
    copies.owner.rollback().unwrap();
    // A write that is interrupted takes everything with it.
    copies.begin();
    let stepped = copies.try_step(&[&format!("INSERT INTO t {ENDLESS}")]);
    assert_kind(&stepped.error.unwrap(), SqlErrorKind::Timeout, "longer than");
    if !stepped.lost {
        copies.owner.rollback().unwrap();
    }
    assert!(start.elapsed() < Duration::from_secs(5));
    assert!(query(&copies.owner, "SELECT a FROM t").is_empty());
    copies.run(&["INSERT INTO t VALUES(3)"]);
    copies.finish();
}

#[test]
fn the_memory_of_all_steps_together_is_bounded_and_what_is_given_back_counts_no_more() {
    let mut copies = Copies::new();
    copies.limits.memory_bytes = 24_000_000;
    copies.run(&["CREATE TABLE t(a)"]);
    copies.begin();
    for _ in 0..10 {
        copies.step(&["SELECT length(zeroblob(10000000) || 'a')"]);
        copies.fails("SELECT length(zeroblob(20000000) || zeroblob(20000000))");
    }
    copies.step(&["INSERT INTO t VALUES(1)"]);
    copies.end().unwrap();
    copies.finish();

    // What stays taken from call to call counts in each.
    let conn = rusqlite::Connection::open_in_memory().unwrap();
    conn.execute_batch("CREATE TABLE t(a)").unwrap();
    let mut allowance = Allowance::new(20_000_000);
    let mut insert = || {
        allowance.limited(|| conn.execute("INSERT INTO t VALUES(zeroblob(6000000))", [])).is_ok()
    };
    let fit = (0..10).take_while(|_| insert()).count();
    assert!((1..4).contains(&fit), "{fit} of them fit, each alone would");
    let deleted = allowance.unlimited(|| conn.execute_batch("DELETE FROM t; VACUUM"));
    assert_eq!(deleted, Ok(()));
    let again = allowance.limited(|| conn.execute("INSERT INTO t VALUES(zeroblob(6000000))", []));
    assert_eq!(again, Ok(1));
}

#[test]
fn who_reads_beside_an_open_transaction_sees_nothing_of_it_and_never_waits() {
    let mut copies = Copies::new();
    copies.run(&["CREATE TABLE t(a)", "INSERT INTO t VALUES(1)"]);
    copies.begin();
    for value in 2..30 {
        copies.step(&[&format!("INSERT INTO t VALUES({value})")]);
        assert_eq!(query(&copies.owner, "SELECT a FROM t"), [[int(1)]]);
    }
    assert_eq!(copies.owner.sync().unwrap(), at(1));
    copies.end().unwrap();
    assert_eq!(query(&copies.owner, "SELECT count(*) FROM t"), [[int(29)]]);
    copies.finish();
}
