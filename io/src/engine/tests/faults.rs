//! Opening, closing, wrong calls, damaged files, full disks.

use quorate_core::engine::Fault;

use super::super::{Syncer, snapshot_to};
use super::*;

#[test]
fn calls_out_of_order_are_refused_and_change_nothing() {
    let mut copies = Copies::new();
    copies.run(&["CREATE TABLE t(a)"]);
    let write = [transaction(&["INSERT INTO t VALUES(1)"])];
    let owner = &mut copies.owner;
    let misuse = |result: Result<(), Fault>| assert!(matches!(result, Err(Fault::Misuse { .. })));
    misuse(owner.commit(at(5), &[]));
    owner.rollback().unwrap();
    owner.execute(&write, &copies.limits).unwrap();
    misuse(owner.execute(&write, &copies.limits).map(|_| ()));
    misuse(owner.apply(&[], &[]));
    misuse(owner.commit(at(1), &[]));
    owner.commit(at(2), &[]).unwrap();
    misuse(owner.commit(at(3), &[]));
    assert_eq!(query(owner, "SELECT count(*) FROM t"), [[int(1)]]);
}

#[test]
fn what_is_open_when_the_process_ends_is_gone_and_what_is_committed_stays() {
    let mut copies = Copies::new();
    copies.run(&["CREATE TABLE t(a)", "INSERT INTO t VALUES(1)"]);
    let before = copies.owner.content_hash().unwrap();
    copies.owner.execute(&[transaction(&["INSERT INTO t VALUES(2)"])], &copies.limits).unwrap();
    let path = copies.owner.path().to_owned();
    copies.owner = SqliteEngine::open(&path).unwrap();
    assert_eq!(copies.owner.content_hash().unwrap(), before);
    assert_eq!(copies.owner.position(), at(1));
    copies.run(&["INSERT INTO t VALUES(3)"]);
    copies.finish();
}

#[test]
fn the_files_of_a_process_that_was_killed_open_at_the_last_commit() {
    let mut copies = Copies::new();
    copies.run(&["CREATE TABLE t(a)"]);
    for n in 0..50 {
        copies.run(&[&format!("INSERT INTO t VALUES({n})")]);
    }
    let hash = copies.owner.content_hash().unwrap();
    copies.owner.execute(&[transaction(&["INSERT INTO t VALUES(99)"])], &copies.limits).unwrap();
    // The files as they are, without the memory of the one who writes them.
    let killed = copies.dir.path().join("killed.db");
    for suffix in ["", "-wal"] {
        let from = super::super::open::with_suffix(copies.owner.path(), suffix);
        std::fs::copy(from, super::super::open::with_suffix(&killed, suffix)).unwrap();
    }
    let mut copy = SqliteEngine::open(&killed).unwrap();
    assert_eq!(copy.content_hash().unwrap(), hash);
    assert_eq!(copy.position(), at(51));
}

#[test]
fn a_new_copy_is_never_made_over_something() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("db");
    for beside in ["db", "db-wal", "db-shm"] {
        std::fs::write(dir.path().join(beside), b"something").unwrap();
        let Err(fault) = SqliteEngine::create(&path) else { panic!("made over {beside}") };
        assert!(fault.to_string().contains(&format!("{beside} exists")), "{fault}");
        std::fs::remove_file(dir.path().join(beside)).unwrap();
    }
    SqliteEngine::create(&path).unwrap();
}

#[test]
fn what_is_no_copy_is_not_opened_and_not_changed() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("db");
    let fault = SqliteEngine::open(&path).err().unwrap();
    assert!(matches!(fault, Fault::Io(_)), "{fault}");
    assert!(!path.exists());
    std::fs::write(&path, vec![7; 10_000]).unwrap();
    let fault = SqliteEngine::open(&path).err().unwrap();
    assert!(matches!(fault, Fault::Corrupt(_)), "{fault}");
    assert_eq!(std::fs::read(&path).unwrap(), vec![7; 10_000]);
    let foreign = dir.path().join("foreign.db");
    rusqlite::Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE t(a)").unwrap();
    let fault = SqliteEngine::open(&foreign).err().unwrap();
    assert!(fault.to_string().contains("not a copy"), "{fault}");
}

#[test]
fn a_damaged_file_is_a_fault_and_not_an_answer() {
    let mut copies = Copies::new();
    copies.run(&[
        "CREATE TABLE t(a)",
        "WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n
        WHERE i < 2000) INSERT INTO t SELECT hex(randomblob(100)) FROM n",
    ]);
    let path = copies.dir.path().join("damaged.db");
    snapshot_to(copies.owner.path(), &path, |_| true).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 20_000].fill(0x5a);
    std::fs::write(&path, bytes).unwrap();
    let mut copy = SqliteEngine::open(&path).unwrap();
    let read = copy.execute(&[transaction(&["SELECT sum(length(a)) FROM t"])], &copies.limits);
    assert!(matches!(read, Err(Fault::Corrupt(_))), "{read:?}");
    assert!(matches!(copy.execute(&[], &copies.limits), Err(Fault::Misuse { .. })));
    assert!(matches!(SqliteEngine::open(&path).unwrap().content_hash(), Err(Fault::Corrupt(_))));
}

#[test]
fn sync_names_the_last_commit_and_keeps_the_wal_short() {
    let mut copies = Copies::new();
    copies.run(&["CREATE TABLE t(a)"]);
    let wal = super::super::open::with_suffix(copies.owner.path(), "-wal");
    let mut largest = 0;
    for n in 0..60 {
        copies.batch(&[transaction(&["INSERT INTO t VALUES(randomblob(200000))"])]);
        assert_eq!(copies.owner.sync().unwrap(), at(n + 2));
        largest = largest.max(std::fs::metadata(&wal).unwrap().len());
    }
    assert!(largest < 6 * 1024 * 1024, "the WAL grew to {largest} bytes");
    assert!(std::fs::metadata(copies.owner.path()).unwrap().len() > 6 * 1024 * 1024);
    copies.owner.execute(&[transaction(&["INSERT INTO t VALUES(1)"])], &copies.limits).unwrap();
    assert_eq!(copies.owner.sync().unwrap(), at(61));
    copies.owner.rollback().unwrap();
    copies.finish();
}

#[test]
fn syncing_from_another_thread_stops_nobody() {
    let mut copies = Copies::new();
    copies.run(&["CREATE TABLE t(a)"]);
    let mut syncer = Syncer::open(copies.owner.path()).unwrap();
    let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stop = std::sync::Arc::clone(&done);
    let thread = std::thread::spawn(move || {
        let mut last = at(0);
        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
            let now = syncer.sync().unwrap();
            assert!(now >= last);
            last = now;
        }
    });
    for _ in 0..60 {
        copies.batch(&[transaction(&["INSERT INTO t VALUES(randomblob(200000))"])]);
    }
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    thread.join().unwrap();
    copies.finish();
}

#[test]
fn a_snapshot_is_a_copy_at_its_position_while_writes_go_on() {
    let mut copies = Copies::new();
    copies.run(&["CREATE TABLE t(k TEXT PRIMARY KEY, v)", "CREATE VIRTUAL TABLE ft USING fts5(x)"]);
    for n in 0..20 {
        copies.run(&[
            &format!("INSERT INTO t VALUES('{n}', randomblob(100000))"),
            &format!("INSERT INTO ft VALUES('w{n}')"),
        ]);
    }
    copies.run(&["DELETE FROM t WHERE k = '3'"]);
    let hash = copies.owner.content_hash().unwrap();
    let to = copies.dir.path().join("snapshot.db");
    let mut steps = 0;
    let from = copies.owner.path().to_owned();
    let position = snapshot_to(&from, &to, |seen| {
        steps += 1;
        assert!(seen.done <= seen.total);
        copies.batch(&[transaction(&["INSERT INTO t VALUES(randomblob(8), 1)"])]);
        true
    })
    .unwrap();
    assert!(steps > 1);
    assert_eq!(position, hash.at);
    assert!(!super::super::open::with_suffix(&to, "-wal").exists());
    let mut snapshot = SqliteEngine::open(&to).unwrap();
    assert_eq!(snapshot.content_hash().unwrap(), hash);
    snapshot.apply(&copies.log, &[]).unwrap();
    assert_eq!(snapshot.content_hash().unwrap(), copies.owner.content_hash().unwrap());
    assert!(snapshot_to(&from, &to, |_| true).is_err(), "it was written over");
    let stopped = copies.dir.path().join("stopped.db");
    assert!(snapshot_to(&from, &stopped, |_| false).is_err());
    assert!(!stopped.exists());
    copies.finish();
}

#[test]
fn a_change_that_was_not_captured_refuses_the_commit() {
    let mut copies = Copies::new();
    copies.run(&["CREATE TABLE t(a)"]);
    copies.owner.execute(&[transaction(&["INSERT INTO t VALUES(1)"])], &copies.limits).unwrap();
    copies.owner.executor.conn.execute("INSERT INTO t VALUES(2)", []).unwrap();
    let fault = copies.owner.commit(at(2), &[]).unwrap_err();
    assert!(fault.to_string().contains("table t was changed"), "{fault}");
    let path = copies.owner.path().to_owned();
    copies.owner = SqliteEngine::open(&path).unwrap();
    assert_eq!(copies.owner.position(), at(1));
    copies.finish();
}

#[test]
fn a_disk_that_is_full_fails_the_transaction_that_needs_more_and_keeps_the_others() {
    let mut copies = Copies::new();
    copies.run(&["CREATE TABLE t(a)"]);
    copies.owner.executor.conn.execute_batch("PRAGMA max_page_count = 40").unwrap();
    let large = "INSERT INTO t VALUES(zeroblob(400000))";
    let outcomes = copies.batch(&[
        transaction(&["INSERT INTO t VALUES(1)"]),
        transaction(&["INSERT INTO t VALUES(2)", large]),
        transaction(&["INSERT INTO t VALUES(3)"]),
    ]);
    assert!(outcomes[0].is_ok());
    assert_kind(outcomes[1].as_ref().unwrap_err(), SqlErrorKind::Engine, "full");
    copies.assert_same();
    copies.run(&["INSERT INTO t VALUES(4)"]);
    copies.finish();
}

#[test]
fn a_disk_that_is_full_stops_an_applying_copy_which_goes_on_when_there_is_room() {
    let mut copies = Copies::new();
    copies.run(&["CREATE TABLE t(a)"]);
    let before = copies.follower.content_hash().unwrap();
    let executed = copies
        .owner
        .execute(&[transaction(&["INSERT INTO t VALUES(zeroblob(400000))"])], &copies.limits)
        .unwrap();
    copies.owner.commit(at(2), &[]).unwrap();
    let effect = Effect { at: at(2), effects: executed.effects };
    copies.follower.applier.limit_pages(40);
    let fault = copies.follower.apply(std::slice::from_ref(&effect), &[]).unwrap_err();
    assert!(matches!(fault, Fault::Full(_)), "{fault}");
    assert!(matches!(copies.follower.sync(), Err(Fault::Misuse { .. })));
    let path = copies.follower.path().to_owned();
    copies.follower = SqliteEngine::open(&path).unwrap();
    assert_eq!(copies.follower.content_hash().unwrap(), before);
    copies.follower.apply(std::slice::from_ref(&effect), &[]).unwrap();
    copies.log.push(effect);
    copies.finish();
}

#[test]
fn an_engine_and_its_readers_may_move_to_other_threads() {
    fn moves<T: Send>() {}
    moves::<SqliteEngine>();
    moves::<super::super::SqliteReader>();
    moves::<Syncer>();
}
