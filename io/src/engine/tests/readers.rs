//! Readers see what is committed, one state at a time, and change nothing.

use super::*;

#[test]
fn a_reader_never_sees_an_open_batch() {
    let mut copies = Copies::new();
    copies.run(&["CREATE TABLE t(a)", "INSERT INTO t VALUES(1)"]);
    let mut reader = copies.owner.reader().unwrap();
    let count = transaction(&["SELECT count(*) FROM t"]);
    let mut read = || {
        let (at, outcome) = reader.query(&count, &SqlLimits::default()).unwrap();
        (at, outcome.unwrap()[0].rows[0][0].clone())
    };
    assert_eq!(read(), (at(1), int(1)));
    copies.owner.execute(&[transaction(&["INSERT INTO t VALUES(2)"])], &copies.limits).unwrap();
    assert_eq!(read(), (at(1), int(1)));
    copies.owner.commit(at(2), &[]).unwrap();
    assert_eq!(read(), (at(2), int(2)));
}

#[test]
fn a_reader_reads_one_state_while_others_are_written() {
    let mut copies = Copies::new();
    copies.run(&["CREATE TABLE t(a)", "INSERT INTO t VALUES(0), (0)"]);
    let mut reader = copies.owner.reader().unwrap();
    let thread = std::thread::spawn(move || {
        let both = transaction(&["SELECT min(a) FROM t", "SELECT max(a) FROM t"]);
        let mut last = at(0);
        while last.index.0 < 150 {
            let (now, outcome) = reader.query(&both, &SqlLimits::default()).unwrap();
            let outcome = outcome.unwrap();
            assert_eq!(outcome[0].rows, outcome[1].rows);
            assert_eq!(outcome[0].rows, [[int(now.index.0.cast_signed() - 1)]]);
            assert!(now >= last);
            last = now;
        }
    });
    for _ in 0..150 {
        copies.batch(&[transaction(&[
            "UPDATE t SET a = a + 1 WHERE rowid = 1",
            "UPDATE t SET a = a + 1 WHERE rowid = 2",
        ])]);
    }
    thread.join().unwrap();
}

#[test]
fn a_reader_refuses_to_write() {
    let mut copies = Copies::new();
    copies.run(&["CREATE TABLE t(a)", "CREATE INDEX i ON t(a)"]);
    let mut reader = copies.owner.reader().unwrap();
    for sql in [
        "INSERT INTO t VALUES(1)",
        "DELETE FROM t",
        "CREATE TABLE u(a)",
        "DROP TABLE t",
        "PRAGMA user_version = 3",
        "PRAGMA foreign_keys = OFF",
        "ANALYZE",
        "REINDEX",
        "INSERT INTO t VALUES(1) RETURNING a",
        "PRAGMA optimize",
    ] {
        let (_, outcome) = reader.query(&transaction(&["SELECT 1", sql]), &copies.limits).unwrap();
        let error = outcome.unwrap_err();
        assert_kind(&error, SqlErrorKind::ReadOnly, "only reading");
        assert_eq!(error.statement, 1);
    }
    for sql in [
        "PRAGMA table_info(t)",
        "PRAGMA foreign_keys",
        "PRAGMA integrity_check",
        "EXPLAIN DELETE FROM t",
    ] {
        reader.query(&transaction(&[sql]), &copies.limits).unwrap().1.unwrap();
    }
    let (_, outcome) = reader.query(&transaction(&["COMMIT"]), &copies.limits).unwrap();
    assert_kind(&outcome.unwrap_err(), SqlErrorKind::Unsupported, "one transaction");
    copies.finish();
}

#[test]
fn a_reader_goes_on_after_an_error() {
    let mut copies = Copies::new();
    copies.run(&["CREATE TABLE t(a)"]);
    let mut reader = copies.owner.reader().unwrap();
    let short = SqlLimits { time_ms: 20, ..copies.limits };
    let endless =
        "WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    for (sql, kind) in [("SELECT no", SqlErrorKind::Statement), (endless, SqlErrorKind::Timeout)] {
        let (_, outcome) = reader.query(&transaction(&[sql]), &short).unwrap();
        assert_eq!(outcome.unwrap_err().kind, kind);
        reader.query(&transaction(&["SELECT * FROM t"]), &short).unwrap().1.unwrap();
    }
}

#[test]
fn a_view_is_hashed_as_it_was_while_the_writer_goes_on() {
    let mut copies = Copies::new();
    copies.run(&["CREATE TABLE t(a)", "INSERT INTO t VALUES(1)"]);
    let before = copies.owner.content_hash().unwrap();
    // Open, not committed: not part of it.
    let open = copies.owner.execute(&[transaction(&["INSERT INTO t VALUES(2)"])], &copies.limits);
    assert!(!open.unwrap().effects.is_empty());
    let view = copies.owner.view().unwrap();
    copies.owner.commit(at(2), &[]).unwrap();
    assert_ne!(copies.owner.content_hash().unwrap(), before);
    let (to, from) = std::sync::mpsc::channel();
    let hashing = super::super::Hashing::start(view, "hashes".into(), move |hash| {
        to.send(hash).unwrap();
    });
    let hashing = hashing.unwrap();
    assert_eq!(from.recv().unwrap(), Ok(before));
    drop(hashing);
    let now = copies.owner.view().unwrap().content_hash();
    assert_eq!(now, copies.owner.content_hash());
}

#[test]
fn hashing_that_nobody_waits_for_any_more_is_stopped() {
    let mut copies = Copies::new();
    copies.run(&["CREATE TABLE t(a)"]);
    let fill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000) \
                INSERT INTO t SELECT i FROM n";
    copies.run(&[fill]);
    let (to, from) = std::sync::mpsc::channel();
    let view = copies.owner.view().unwrap();
    let hashing = super::super::Hashing::start(view, "hashes".into(), move |hash| {
        to.send(hash).unwrap();
    });
    drop(hashing.unwrap());
    // Ended one way or the other, and within the drop.
    let ended = from.try_recv().expect("it has ended");
    assert!(ended.is_err() || ended == copies.owner.content_hash(), "{ended:?}");
}
