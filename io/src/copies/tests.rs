//! Copies as files: what is given is what is taken, and nothing is lost on the way.

use std::path::PathBuf;

use bytes::Bytes;
use quorate_core::copies::{ChunkData, ChunkHash, FileShape};
use quorate_core::engine::{
    ContentHash, Engine as _, Fault, Position, SqlLimits, Statement, Transaction,
};
use quorate_core::{Generation, Index, LogId, Term};
use tempfile::TempDir;

use super::{BACKUPS_MAX, Files, Given, Incoming, Outgoing};
use crate::engine::SqliteEngine;

const LOG: LogId = LogId(7);
const LIVE: Generation = Generation(1);
const CHUNK: u32 = 4096;

fn at(index: u64) -> Position {
    Position { index: Index(index), term: Term(1) }
}

fn name() -> (String, String) {
    ("demo".to_owned(), "main".to_owned())
}

/// A server's files with a copy of some hundred pages.
struct Server {
    dir: TempDir,
    files: Files,
    engine: SqliteEngine,
}

impl Server {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let files = Files::new(dir.path());
        let engine = files.create(LOG, LIVE).unwrap();
        let mut server = Self { dir, files, engine };
        server.run(1, "CREATE TABLE t (k INTEGER PRIMARY KEY, v BLOB)");
        server
    }

    fn run(&mut self, index: u64, sql: &str) {
        let batch = [Transaction { statements: vec![Statement::new(sql)] }];
        let done = self.engine.execute(&batch, &SqlLimits::default()).unwrap();
        assert!(done.outcomes[0].is_ok(), "{:?}", done.outcomes);
        self.engine.commit(at(index), &[]).unwrap();
    }

    fn fill(&mut self, index: u64, rows: u64) {
        self.run(
            index,
            &format!(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
                 INSERT INTO t(v) SELECT randomblob(1000) FROM n"
            ),
        );
    }

    fn give(&self) -> (Given, FileShape) {
        let given = Given::hold(&self.files, LOG, LIVE, 1, || true).unwrap();
        assert!(given.holds(), "nobody else uses the copy");
        let shape = FileShape { bytes: given.bytes(), chunk: CHUNK };
        (given, shape)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.files.shard(LOG).join(name)
    }
}

/// Fetches chunks `from..to`; how many were known already.
fn fetch(
    (given, shape): (&Given, FileShape),
    (taken, known): (&mut Incoming, &[ChunkHash]),
    chunks: std::ops::Range<u32>,
    pack: bool,
) -> usize {
    let mut same = 0;
    for chunk in chunks {
        let (at, len) = shape.place(chunk);
        let known = known.get(chunk as usize).copied();
        let (hash, data) = given.read(at, len, known, pack).unwrap();
        match data {
            ChunkData::Same => same += 1,
            data => taken.write(at, len, hash, &data).unwrap(),
        }
    }
    same
}

fn hash(engine: &mut SqliteEngine) -> ContentHash {
    engine.content_hash().unwrap()
}

#[test]
fn what_is_given_is_taken_whole_and_the_old_copy_is_put_away_afterwards() {
    for pack in [false, true] {
        let (mut donor, mut taker) = (Server::new(), Server::new());
        donor.fill(2, 300);
        taker.fill(2, 10);
        let (given, shape) = donor.give();
        assert!(shape.chunks() > 70);
        // The donor goes on; what is given does not change.
        donor.fill(3, 10);
        let (mut taken, known) = Incoming::begin(&taker.files, LOG, shape).unwrap();
        assert!(known.is_empty());
        fetch((&given, shape), (&mut taken, &known), 0..shape.chunks(), pack);
        taken.finish(shape.bytes, at(2), Generation(2)).unwrap();
        // Both are there until the caller says which is live.
        assert!(taker.path("1").exists() && taker.path("2").exists());
        assert!(!taker.path("incoming").exists());
        let mut copy = taker.files.open(LOG, Generation(2)).unwrap();
        assert_eq!(copy.position(), given.position());
        assert_eq!(copy.position(), at(2));
        drop(given);
        assert!(!donor.path("outgoing-1").exists());
        taker.files.tidy(LOG, Some(Generation(2)), false, &name()).unwrap();
        assert!(!taker.path("1").exists());
        let backups = taker.dir.path().join("backup/databases/demo");
        let kept: Vec<_> = std::fs::read_dir(&backups).unwrap().collect();
        assert_eq!(kept.len(), 1);
        let kept = kept[0].as_ref().unwrap().path();
        assert!(kept.display().to_string().ends_with("-main-1"), "{kept:?}");
        let mut old = SqliteEngine::open(&kept.join("copy.sqlite")).unwrap();
        assert_eq!(hash(&mut old), hash(&mut taker.engine));
        // It goes on as any copy does.
        let batch = [Transaction { statements: vec![Statement::new("DELETE FROM t")] }];
        copy.execute(&batch, &SqlLimits::default()).unwrap();
        copy.commit(at(4), &[]).unwrap();
    }
}

#[test]
fn what_has_come_is_kept_and_not_fetched_again_even_from_another_donor() {
    let (mut donor, taker) = (Server::new(), Server::new());
    donor.fill(2, 300);
    let (given, shape) = donor.give();
    let (mut taken, known) = Incoming::begin(&taker.files, LOG, shape).unwrap();
    fetch((&given, shape), (&mut taken, &known), 0..50, false);
    drop((taken, given));
    // Rows are added behind: the pages before them are the same, but for the first, and few others.
    donor.fill(3, 20);
    let (given, shape) = donor.give();
    let (mut taken, known) = Incoming::begin(&taker.files, LOG, shape).unwrap();
    assert_eq!(known.len(), 50);
    let same = fetch((&given, shape), (&mut taken, &known), 0..shape.chunks(), false);
    assert!(same >= 45, "{same} of 50 were kept");
    taken.finish(shape.bytes, at(3), Generation(2)).unwrap();
    let mut copy = taker.files.open(LOG, Generation(2)).unwrap();
    assert_eq!(hash(&mut copy), hash(&mut donor.engine));
}

#[test]
fn a_copy_whose_wal_has_grown_for_long_is_copied_aside_and_let_go() {
    let (mut donor, taker) = (Server::new(), Server::new());
    for index in 2..6 {
        donor.fill(index, 3000);
    }
    let (mut given, shape) = donor.give();
    given.bound_wal(1 << 20);
    assert!(!given.tend().unwrap() && given.holds(), "nothing was written yet");
    let (mut taken, known) = Incoming::begin(&taker.files, LOG, shape).unwrap();
    fetch((&given, shape), (&mut taken, &known), 0..10, false);
    assert!(!donor.path("outgoing-1").exists(), "nothing is copied");
    for index in 6..11 {
        donor.fill(index, 300);
        donor.engine.sync().unwrap();
    }
    // A part at a time: chunks are read between two of them.
    assert!(given.tend().unwrap() && given.holds());
    fetch((&given, shape), (&mut taken, &known), 10..20, false);
    while given.tend().unwrap() {}
    assert!(!given.holds() && donor.path("outgoing-1/copy.sqlite").exists());
    assert_eq!((given.bytes(), given.position()), (shape.bytes, at(5)));
    fetch((&given, shape), (&mut taken, &known), 20..shape.chunks(), false);
    taken.finish(shape.bytes, at(5), Generation(2)).unwrap();
    drop(given);
    assert!(!donor.path("outgoing-1").exists());
}

#[test]
fn a_chunk_that_is_not_what_it_was_is_refused() {
    let (mut donor, taker) = (Server::new(), Server::new());
    donor.fill(2, 20);
    let (given, shape) = donor.give();
    let (mut taken, _) = Incoming::begin(&taker.files, LOG, shape).unwrap();
    let (hash, data) = given.read(0, CHUNK, None, false).unwrap();
    let ChunkData::Plain(bytes) = data else { panic!("it is plain") };
    let mut wrong = bytes.to_vec();
    wrong[100] ^= 1;
    let bad = [
        ChunkData::Plain(Bytes::from(wrong)),
        ChunkData::Plain(bytes.slice(1..)),
        ChunkData::Packed(Bytes::from_static(b"not packed")),
        ChunkData::Packed(Bytes::from(zstd::bulk::compress(&vec![0; 1 << 20], 1).unwrap())),
        ChunkData::Same,
    ];
    for data in bad {
        let refused = taken.write(0, CHUNK, hash, &data);
        assert!(matches!(refused, Err(Fault::Corrupt(_))), "{refused:?}");
    }
    taken.write(0, CHUNK, hash, &ChunkData::Plain(bytes)).unwrap();
}

#[test]
fn a_file_that_is_no_copy_at_that_position_gets_no_place() {
    let (mut donor, taker) = (Server::new(), Server::new());
    donor.fill(2, 20);
    let (given, shape) = donor.give();
    let whole = shape.chunks();
    for (last, bytes, position) in
        [(whole - 1, shape.bytes, at(2)), (whole, shape.bytes, at(3)), (whole, 1, at(2))]
    {
        let (mut taken, known) = Incoming::begin(&taker.files, LOG, shape).unwrap();
        assert!(known.is_empty(), "a broken file is not gone on with");
        fetch((&given, shape), (&mut taken, &known), 0..last, false);
        let refused = taken.finish(bytes, position, Generation(2));
        assert!(matches!(refused, Err(Fault::Corrupt(_))), "{refused:?}");
        assert!(taker.path("1").exists() && !taker.path("2").exists());
    }
}

#[test]
fn a_start_removes_snapshots_for_others_and_keeps_what_is_received() {
    let (mut donor, taker) = (Server::new(), Server::new());
    donor.fill(2, 20);
    let given = Outgoing::take(&donor.files, LOG, LIVE, 1, || true).unwrap();
    let shape = FileShape { bytes: given.bytes(), chunk: CHUNK };
    std::mem::forget(given);
    assert!(donor.path("outgoing-1").exists());
    let (taken, _) = Incoming::begin(&taker.files, LOG, shape).unwrap();
    drop(taken);
    donor.files.sweep().unwrap();
    taker.files.sweep().unwrap();
    assert!(!donor.path("outgoing-1").exists() && donor.path("1").exists());
    assert!(taker.path("incoming").exists());
    taker.files.tidy(LOG, Some(LIVE), true, &name()).unwrap();
    assert!(taker.path("incoming").exists());
    taker.files.tidy(LOG, Some(LIVE), false, &name()).unwrap();
    assert!(!taker.path("incoming").exists() && taker.path("1").exists());
}

#[test]
fn so_many_old_copies_are_kept_and_the_oldest_go_first() {
    let server = Server::new();
    drop(server.engine);
    let files = server.files;
    for generation in 2..9 {
        drop(files.create(LOG, Generation(generation)).unwrap());
        files.tidy(LOG, Some(Generation(generation)), false, &name()).unwrap();
    }
    let other = ("demo".to_owned(), "../main".to_owned());
    files.tidy(LOG, None, false, &other).unwrap();
    assert!(!files.shard(LOG).exists());
    let backups = server.dir.path().join("backup/databases/demo");
    let kept = std::fs::read_dir(backups).unwrap();
    let mut kept: Vec<String> =
        kept.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    kept.sort();
    let tails: Vec<&str> = kept.iter().map(|name| name.split_once('-').unwrap().1).collect();
    assert_eq!(kept.len(), BACKUPS_MAX + 1, "{kept:?}");
    for generation in [5, 6, 7] {
        let tail = format!("main-{generation}");
        assert!(tails.contains(&tail.as_str()), "{tails:?}");
    }
    assert!(tails.contains(&"___main-8"), "{tails:?}");
}

#[test]
fn a_copy_that_is_not_there_is_never_made_by_opening_it() {
    let server = Server::new();
    let refused = server.files.open(LOG, Generation(2)).err();
    assert!(matches!(refused, Some(Fault::Missing(_))), "{refused:?}");
    assert!(!server.path("2").exists());
}
