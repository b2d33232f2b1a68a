//! Holding the database file of a copy still while its writer goes on.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use quorate_core::engine::{Engine as _, SqlLimits, Statement, Transaction};
use rusqlite::Connection;

use super::super::{Pinned, SqliteEngine, Syncer};
use super::{Copies, at, transaction};

const ACCOUNTS: u64 = 500;

/// Moves something from one account to another, counts that, and commits it as entry `index`.
fn transfer(engine: &mut SqliteEngine, index: u64) {
    let (from, to) = (index * 7919 % ACCOUNTS, index * 104_729 % ACCOUNTS);
    let sql = [
        format!("UPDATE a SET v = v - 1 WHERE k = {from}"),
        format!("UPDATE a SET v = v + 1 WHERE k = {to}"),
        format!("UPDATE n SET i = {index}"),
        // Pages come and go.
        format!("INSERT INTO more VALUES({index}, randomblob(9000))"),
        format!("DELETE FROM more WHERE k < {index} - 20"),
    ];
    let batch = [Transaction { statements: sql.into_iter().map(Statement::new).collect() }];
    let done = engine.execute(&batch, &SqlLimits::default()).unwrap();
    assert!(done.outcomes[0].is_ok(), "{:?}", done.outcomes);
    engine.commit(at(index), &[]).unwrap();
}

fn accounts(path: &Path) -> SqliteEngine {
    let mut engine = SqliteEngine::create(path).unwrap();
    let make = [
        "CREATE TABLE a(k INTEGER PRIMARY KEY, v INTEGER, fill BLOB)",
        "CREATE TABLE n(i INTEGER)",
        "CREATE TABLE more(k INTEGER PRIMARY KEY, v BLOB)",
        "INSERT INTO n VALUES(0)",
        "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 499)
         INSERT INTO a SELECT i, 100, randomblob(1500) FROM n",
    ];
    engine.execute(&[transaction(&make)], &SqlLimits::default()).unwrap();
    engine.commit(at(1), &[]).unwrap();
    engine
}

fn whole(pinned: &Pinned) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(pinned.bytes()).unwrap()];
    for (part, bytes) in bytes.chunks_mut(10_000).enumerate() {
        pinned.read(part as u64 * 10_000, bytes).unwrap();
    }
    bytes
}

#[test]
fn a_held_file_stays_what_it_was_at_one_position_while_its_writer_goes_on() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("copy.db");
    let mut engine = accounts(&path);
    let (stop, target) = (AtomicBool::new(false), dir.path().join("given.db"));
    std::thread::scope(|scope| {
        let (stop, engine) = (&stop, &mut engine);
        let writer = scope.spawn(move || {
            let mut index = 1;
            while !stop.load(Ordering::Relaxed) {
                index += 1;
                transfer(engine, index);
                // Checkpoints are part of it.
                if index.is_multiple_of(10) {
                    engine.sync().unwrap();
                }
            }
            index
        });
        let mut held = 0;
        for _ in 0..15 {
            let Some(pinned) = Pinned::open(&path).unwrap() else { continue };
            held += 1;
            let first = whole(&pinned);
            std::thread::sleep(std::time::Duration::from_millis(20));
            assert!(first == whole(&pinned), "the file has changed while it was held");
            std::fs::write(&target, first).unwrap();
            let given = SqliteEngine::open(&target).unwrap();
            assert_eq!(given.position(), pinned.position());
            drop(given);
            let conn = Connection::open(&target).unwrap();
            let one = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
            assert_eq!(one("SELECT i FROM n").cast_unsigned(), pinned.position().index.0);
            assert_eq!(one("SELECT sum(v) FROM a"), 50_000);
            let sound: String =
                conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
            assert_eq!(sound, "ok");
            drop(conn);
            for suffix in ["", "-wal", "-shm"] {
                let _ = std::fs::remove_file(dir.path().join(format!("given.db{suffix}")));
            }
        }
        stop.store(true, Ordering::Relaxed);
        let last = writer.join().unwrap();
        assert!(held >= 5, "a writer with pauses lets itself be held: {held} of 15");
        assert!(last > 20, "it wrote meanwhile: {last}");
    });
    // Nothing of it holds the engine up afterwards.
    engine.sync().unwrap();
}

#[test]
fn a_file_that_older_readers_keep_behind_is_not_held() {
    let mut copies = Copies::new();
    copies.outcome(&["CREATE TABLE t(a)"]).unwrap();
    let path = copies.owner.path().to_owned();
    Syncer::open(&path).unwrap().sync().unwrap();
    let view = copies.owner.view().unwrap();
    copies.outcome(&["INSERT INTO t VALUES(1)"]).unwrap();
    let behind = Pinned::open(&path).unwrap();
    assert!(behind.is_none(), "the view reads an older state");
    drop(view);
    let pinned = Pinned::open(&path).unwrap().expect("nobody else reads");
    assert_eq!(pinned.position(), at(2));
    let before = pinned.wal_bytes().unwrap();
    copies.outcome(&["INSERT INTO t VALUES(2)"]).unwrap();
    copies.outcome(&["INSERT INTO t VALUES(randomblob(100000))"]).unwrap();
    assert_eq!(pinned.position(), at(2));
    let grown = pinned.wal_bytes().unwrap();
    assert!(grown > before.min(50_000), "{before} {grown}");
}
