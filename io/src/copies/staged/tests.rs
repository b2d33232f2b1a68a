//! Files from outside as copies: what is taken is what was given, and what is refused changes nothing.

use bytes::Bytes;
use quorate_core::copies::{ChunkData, FileShape};
use quorate_core::engine::{Engine as _, Note, SqlLimits, Statement, Transaction};
use quorate_core::{Index, LogId};
use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::copies::{Incoming, Outgoing};
use crate::engine::SqliteEngine;

const LOG: LogId = LogId(7);
const STAGE: StageId = StageId { term: Term(3), number: 2 };

/// A connection that is none of an engine's. An engine must be the first to use SQLite in a process.
fn outside(path: &Path) -> Connection {
    let nowhere = SqliteEngine::open(Path::new("/nowhere"));
    assert!(nowhere.is_err());
    Connection::open(path).unwrap()
}

fn at(index: u64) -> Position {
    Position { index: Index(index), term: Term(3) }
}

fn server() -> (TempDir, Files) {
    let dir = TempDir::new().unwrap();
    let files = Files::new(dir.path());
    drop(files.create(LOG, Generation(1)).unwrap());
    (dir, files)
}

/// An ordinary database that these statements make.
fn database(sql: &str) -> Vec<u8> {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("made.sqlite");
    let conn = outside(&path);
    conn.execute_batch(sql).unwrap();
    conn.close().unwrap();
    std::fs::read(&path).unwrap()
}

fn hand(files: &Files, content: &[u8]) -> UploadFile {
    let mut file = UploadFile::begin(files, LOG, 9).unwrap();
    content.chunks(1000).for_each(|part| file.write(part).unwrap());
    file
}

fn refusal(content: &[u8]) -> String {
    let (dir, files) = server();
    let mut file = hand(&files, content);
    let said = file.check().expect_err("it is refused").to_string();
    drop(file);
    let left = std::fs::read_dir(dir.path().join("shards/7")).unwrap();
    assert_eq!(left.count(), 1, "nothing of it stays");
    said
}

const ROWS: &str = "CREATE TABLE t (k TEXT PRIMARY KEY, v);
    CREATE INDEX i ON t(v);
    CREATE VIRTUAL TABLE \"a full text\" USING fts5(x);
    INSERT INTO \"a full text\" VALUES ('some words');
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
      INSERT INTO t SELECT 'key ' || i, randomblob(100) FROM n;
    PRAGMA user_version = 12;";

/// The rows of `t` as one text.
fn rows(path: &Path) -> String {
    let conn = outside(path);
    let sql = "SELECT group_concat(rowid || k || hex(v)) FROM t";
    conn.query_row(sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn an_ordinary_database_becomes_a_copy_that_is_written_as_any_other() {
    for wal in ["", "PRAGMA journal_mode = WAL;"] {
        let content = database(&format!("{wal}{ROWS}"));
        let ((_keep, files), (_away, others)) = (server(), server());
        let mut file = hand(&files, &content);
        file.check().unwrap();
        files.stage_own(LOG, STAGE, 9).unwrap();
        // The other server has it in chunks.
        let given = Outgoing::of_upload(&files, LOG, 9).unwrap();
        let shape = FileShape { bytes: given.bytes(), chunk: 4096 };
        let (mut taken, _) = Incoming::begin_stage(&others, LOG, STAGE, shape).unwrap();
        for chunk in 0..shape.chunks() {
            let (place, len) = shape.place(chunk);
            let (hash, data) = given.read(place, len, None, true).unwrap();
            assert_ne!(data, ChunkData::Same);
            taken.write(place, len, hash, &data).unwrap();
        }
        taken.finish_stage(shape.bytes, STAGE).unwrap();
        drop((given, file));
        let mut hashes = Vec::new();
        for files in [&files, &others] {
            // A crash before the record: it is done again.
            for _ in 0..3 {
                files.place(LOG, STAGE, (at(40), &[]), Generation(2)).unwrap();
            }
            files.unstage(LOG, Unneeded::One(STAGE)).unwrap();
            let mut engine = files.open(LOG, Generation(2)).unwrap();
            assert_eq!(engine.position(), at(40));
            assert_eq!(rows(engine.path()), rows_in(&content));
            let insert = Statement::new("INSERT INTO t VALUES ('new', 1)");
            let batch = [Transaction { statements: vec![insert] }];
            let done = engine.execute(&batch, &SqlLimits::default()).unwrap();
            assert!(done.outcomes[0].is_ok(), "{:?}", done.outcomes);
            engine.commit(at(41), &[]).unwrap();
            hashes.push(engine.content_hash().unwrap());
            let names = list(&files.shard(LOG)).unwrap();
            assert_eq!(names.len(), 2, "{names:?}");
        }
        assert_eq!(hashes[0], hashes[1]);
    }
}

/// What a file holds, read by SQLite itself.
fn rows_in(content: &[u8]) -> String {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("read.sqlite");
    std::fs::write(&path, content).unwrap();
    rows(&path)
}

#[test]
fn a_backup_of_a_copy_is_taken_and_keeps_what_belongs_to_it() {
    let (dir, files) = server();
    let mut engine = files.open(LOG, Generation(1)).unwrap();
    let off = ["PRAGMA foreign_keys = OFF", "CREATE TABLE t (k, v)", "INSERT INTO t VALUES (1, 2)"];
    let statements = off.map(Statement::new).to_vec();
    let done = engine.execute(&[Transaction { statements }], &SqlLimits::default()).unwrap();
    assert!(done.outcomes[0].is_ok(), "{:?}", done.outcomes);
    let note = Note { key: 7, value: Bytes::from_static(b"of another log") };
    engine.commit(at(5), &[note]).unwrap();
    let before = engine.content_hash().unwrap();
    let saved = dir.path().join("saved.sqlite");
    crate::engine::snapshot_to(engine.path(), &saved, |_| true).unwrap();
    let mut file = hand(&files, &std::fs::read(saved).unwrap());
    file.check().unwrap();
    files.stage_own(LOG, STAGE, 9).unwrap();
    let name = Note { key: 0, value: b"a name"[..].into() };
    for _ in 0..2 {
        files.place(LOG, STAGE, (at(90), std::slice::from_ref(&name)), Generation(2)).unwrap();
    }
    let mut restored = files.open(LOG, Generation(2)).unwrap();
    let after = restored.content_hash().unwrap();
    assert_eq!((after.at, after.hash), (at(90), before.hash));
    let notes = restored.notes();
    assert_eq!(notes, Ok(vec![name]), "what another log remembered means nothing here");
}

#[test]
fn what_is_no_sound_database_is_refused_by_name() {
    assert!(refusal(b"").contains("no SQLite database"));
    assert!(refusal(&[7; 5000]).contains("no SQLite database"));
    let good = database(ROWS);
    assert!(refusal(&good[..good.len() / 2]).contains("damaged"));
    let mut torn = good.clone();
    let middle = torn.len() / 2 / 4096 * 4096;
    torn[middle..middle + 4096].fill(0xa5);
    assert!(refusal(&torn).contains("damaged"));
    let mut later = good;
    (later[18], later[19]) = (3, 3);
    let said = refusal(&later);
    assert!(said.contains("later version") && said.contains("format 3"), "{said}");
}

#[test]
fn what_the_engine_would_not_make_is_refused_by_name() {
    let cases = [
        ("CREATE TABLE _Quorate_x (a)", "_Quorate_x"),
        ("CREATE TABLE h (rowid, oid, _rowid_)", "table h"),
        ("CREATE VIRTUAL TABLE old USING fts4(x)", "the module fts4"),
        ("PRAGMA encoding = 'UTF-16le'; CREATE TABLE t (a)", "UTF-16le"),
        ("CREATE TABLE _quorate_meta (a)", "not the table that Quorate makes"),
        ("CREATE VIEW _quorate_meta AS SELECT 1 AS id, 2 AS format", "_quorate_meta"),
        ("CREATE TABLE _quorate_notes (a)", "_quorate_notes is not the table"),
        ("CREATE VIEW _quorate_notes AS SELECT 1 AS key", "_quorate_notes is not the table"),
        (
            "CREATE TABLE _quorate_meta (id, format); INSERT INTO _quorate_meta VALUES (1, 3)",
            "form 3; this version knows form 2",
        ),
    ];
    for (sql, part) in cases {
        let said = refusal(&database(sql));
        assert!(said.contains(part), "{sql}: {said}");
    }
}

#[test]
fn stages_go_by_their_name_or_by_their_term_and_survive_a_start() {
    let (_keep, files) = server();
    let stages = [(2, 1), (3, 1), (3, 2), (10, 1)];
    let stages = stages.map(|(term, number)| StageId { term: Term(term), number });
    let mut file = hand(&files, &database(ROWS));
    file.check().unwrap();
    stages.iter().for_each(|stage| files.stage_own(LOG, *stage, 9).unwrap());
    files.sweep().unwrap();
    files.tidy(LOG, Some(Generation(1)), false, &("demo".into(), "main".into())).unwrap();
    let held = || stages.map(|stage| files.staged(LOG, stage).exists());
    assert_eq!(held(), [true; 4]);
    assert!(Outgoing::of_upload(&files, LOG, 9).is_err(), "a start removes uploads");
    files.unstage(LOG, Unneeded::One(stages[1])).unwrap();
    assert_eq!(held(), [true, false, true, true]);
    files.unstage(LOG, Unneeded::Before(Term(4))).unwrap();
    assert_eq!(held(), [false, false, false, true]);
    let missing = files.place(LOG, stages[0], (at(3), &[]), Generation(2));
    assert!(matches!(missing, Err(Fault::Missing(_))), "{missing:?}");
}
