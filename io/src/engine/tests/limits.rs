//! Time, memory, results, effects and lengths are bounded, and what is too much is named.

use std::time::{Duration, Instant};

use super::*;

const ENDLESS: &str =
    "WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";

fn limited(change: impl FnOnce(&mut SqlLimits)) -> Copies {
    let mut copies = Copies::new();
    copies.run(&["CREATE TABLE t(a)", "INSERT INTO t VALUES(1)"]);
    change(&mut copies.limits);
    copies
}

#[test]
fn a_statement_that_runs_too_long_is_stopped_and_undone_alone() {
    let mut copies = limited(|limits| limits.time_ms = 100);
    let start = Instant::now();
    assert_kind(&copies.refused(&[ENDLESS]), SqlErrorKind::Timeout, "longer than");
    let outcomes = copies.batch(&[
        transaction(&["INSERT INTO t VALUES(2)"]),
        transaction(&[
            "INSERT INTO t VALUES(3)",
            "INSERT INTO t WITH RECURSIVE n(i) AS
            (VALUES(1) UNION ALL SELECT i + 1 FROM n) SELECT i FROM n WHERE i < 0",
        ]),
        transaction(&["INSERT INTO t VALUES(4)"]),
    ]);
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(outcomes.len(), 2, "what follows the offender is left for the next call");
    assert!(outcomes[0].is_ok());
    assert_kind(outcomes[1].as_ref().unwrap_err(), SqlErrorKind::Timeout, "longer than");
    assert_eq!(query(&copies.owner, "SELECT a FROM t"), [[int(1)], [int(2)]]);
    copies.finish();
}

#[test]
fn many_short_statements_that_take_too_long_together_are_stopped() {
    let mut copies = limited(|limits| limits.time_ms = 30);
    let sql =
        "SELECT count(*) FROM (WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n
        WHERE i < 3000) SELECT i FROM n)";
    let error = copies.refused(&vec![sql; 2_000]);
    assert_kind(&error, SqlErrorKind::Timeout, "longer than");
    copies.finish();
}

#[test]
fn memory_is_bounded_and_freed() {
    let mut copies = limited(|limits| limits.memory_bytes = 40_000_000);
    for sql in [
        "SELECT length(zeroblob(30000000) || zeroblob(30000000))",
        "SELECT sum(length(x)) FROM (SELECT group_concat(hex(zeroblob(1000000)), '') AS x
           FROM (WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 100) SELECT i FROM n))",
        "SELECT length(randomblob(20000000)), length(randomblob(20000001)), length(hex(randomblob(19000000)))",
    ] {
        let error = copies.refused(&[sql]);
        assert!(
            matches!(error.kind, SqlErrorKind::Memory | SqlErrorKind::TooLarge),
            "{sql}: {error}"
        );
    }
    let outcomes = copies.batch(&[
        transaction(&["INSERT INTO t VALUES(5)"]),
        transaction(&["INSERT INTO t SELECT zeroblob(25000000) || zeroblob(25000001)"]),
    ]);
    assert!(outcomes[0].is_ok() && outcomes[1].is_err());
    for _ in 0..20 {
        copies.run(&["SELECT length(hex(zeroblob(8000000)))"]);
    }
    copies.finish();
}

#[test]
fn a_result_that_is_too_large_is_refused() {
    let mut copies = limited(|limits| limits.result_bytes = 10_000);
    let rows = "WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 1000) SELECT i FROM n";
    assert_kind(&copies.refused(&[rows]), SqlErrorKind::TooLarge, "10000 bytes");
    let half = "SELECT zeroblob(6000)";
    copies.run(&[half]);
    assert_kind(&copies.refused(&[half, half]), SqlErrorKind::TooLarge, "results");
    copies.finish();
}

#[test]
fn effects_that_fit_alone_wait_for_the_next_call_and_others_are_refused() {
    let mut copies = limited(|limits| limits.effect_bytes = 10_000);
    let put = |bytes: usize| transaction(&[&format!("INSERT INTO t VALUES(zeroblob({bytes}))")]);
    let batch = [put(4_000), put(4_000), put(4_000), put(100)];
    assert_eq!(copies.batch(&batch).len(), 2);
    copies.assert_same();
    assert_eq!(copies.batch(&batch[2..]).len(), 2);
    copies.assert_same();
    let outcomes = copies.batch(&[put(9_000), put(20_000), put(100)]);
    assert!(outcomes[0].is_ok());
    assert_kind(outcomes[1].as_ref().unwrap_err(), SqlErrorKind::TooLarge, "entry");
    copies.assert_same();
    assert_eq!(query(&copies.owner, "SELECT count(*) FROM t WHERE length(a) = 20000"), [[int(0)]]);
    let error = copies
        .refused(&["CREATE TABLE made AS SELECT zeroblob(6000) UNION ALL SELECT zeroblob(6001)"]);
    assert_kind(&error, SqlErrorKind::TooLarge, "entry");
    copies.finish();
}

#[test]
fn a_statement_that_changes_far_too_much_is_stopped_early() {
    let mut copies = limited(|limits| limits.effect_bytes = 100_000);
    let start = Instant::now();
    let error = copies.refused(&["INSERT INTO t WITH RECURSIVE n(i) AS
        (VALUES(1) UNION ALL SELECT i + 1 FROM n) SELECT hex(i) FROM n"]);
    assert_kind(&error, SqlErrorKind::TooLarge, "entry");
    assert!(start.elapsed() < Duration::from_secs(5));
    copies.finish();
}

#[test]
fn a_parameter_of_100_mb_is_named_in_the_error() {
    let mut copies = limited(|_| {});
    let statement = Statement {
        sql: "INSERT INTO t VALUES(:photo)".into(),
        args: Vec::new(),
        named: vec![("photo".into(), Value::Blob(vec![0; 100_000_000]))],
    };
    let outcomes = copies.batch(&[Transaction { statements: vec![statement] }]);
    assert_kind(
        outcomes[0].as_ref().unwrap_err(),
        SqlErrorKind::TooLarge,
        ":photo has 100000000 bytes",
    );
    let long = format!("SELECT '{}'", "x".repeat(4_000_000));
    assert_kind(&copies.refused(&[&long]), SqlErrorKind::TooLarge, "4000009 bytes");
    copies.finish();
}

#[test]
fn a_row_that_grew_beyond_an_entry_can_still_be_read_changed_and_deleted() {
    let mut copies = limited(|limits| limits.effect_bytes = 100_000);
    copies.run(&[
        "CREATE TABLE wide(id INTEGER PRIMARY KEY, a, b, c)",
        "INSERT INTO wide(id) VALUES(1)",
    ]);
    for column in ["a", "b", "c"] {
        copies.run(&[&format!("UPDATE wide SET {column} = zeroblob(90000)")]);
    }
    copies.run(&["UPDATE wide SET id = 2", "DELETE FROM wide"]);
    copies.finish();
}

#[test]
fn large_statements_do_not_pile_up() {
    let mut copies = limited(|_| {});
    for n in 0..40 {
        let sql = format!("SELECT '{}', {n}", "x".repeat(1_000_000));
        copies.batch(&[transaction(&[&sql])])[0].as_ref().unwrap();
        assert!(copies.owner.executor.statements.kept_bytes() < 2_000_000);
    }
    copies.finish();
}
