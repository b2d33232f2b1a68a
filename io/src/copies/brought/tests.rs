//! What is brought is what was there, at its new position, and what it was taken from stays as it was.

use quorate_core::configuration::Origin;
use quorate_core::engine::{Engine as _, Reader as _, SqlLimits, Statement, Transaction, Value};
use quorate_core::raft::Entry;
use quorate_core::{ClusterId, HardState, StorageOp, Term};
use tempfile::TempDir;

use super::*;
use crate::engine::SqliteEngine;
use crate::store::{DataDir, Follows, Options};

const OLD: LogId = LogId(3);
const NEW: LogId = LogId(9);
const AT: Position = Position { index: Index(1), term: Term(1) };

fn sql(text: &str) -> Transaction {
    Transaction { statements: vec![Statement::with(text, Vec::new())] }
}

/// A directory that was another node's, with a copy of so many rows and a log of so many entries.
fn moved_aside(rows: i64, entries: u64) -> (TempDir, NodeId, NodeId) {
    let dir = TempDir::new().unwrap();
    let data = DataDir::lock(dir.path()).unwrap();
    let (store, recovered) = data.open(Options::default(), |_| {}).unwrap();
    let was = recovered.identity.node;
    let data = store.close();
    let entry = |index| Entry {
        index: Index(index),
        term: Term(2),
        payload: Payload::Data(bytes::Bytes::from_static(b"content")),
    };
    let state = HardState { term: Term(2), vote: None, commit: Index(entries) };
    data.append_offline(&[
        StorageOp::Append { log: OLD, entries: (1..=entries).map(entry).collect() },
        StorageOp::HardState { log: OLD, state },
        StorageOp::Copy { log: OLD, generation: Generation(4) },
    ])
    .unwrap();
    let files = Files::new(dir.path());
    let mut engine = files.create(OLD, Generation(4)).unwrap();
    let mut batch = vec![sql("CREATE TABLE t (k INTEGER PRIMARY KEY)")];
    batch.extend((0..rows).map(|k| sql(&format!("INSERT INTO t VALUES ({k})"))));
    engine.execute(&batch, &SqlLimits::default()).unwrap();
    engine.commit(Position { index: Index(5), term: Term(2) }, &[]).unwrap();
    drop(engine);
    let follows = Follows { was, name: "solo".to_owned(), from: Some(ClusterId(7)), brings: true };
    let (node, aside) = data.follow(&follows).unwrap();
    assert!(aside.is_some());
    (dir, was, node)
}

fn origin(node: NodeId) -> Origin {
    Origin { cluster: ClusterId(7), node, log: OLD }
}

fn rows(engine: &SqliteEngine) -> Value {
    let mut reader = engine.reader().unwrap();
    let (_, outcome) = reader.query(&sql("SELECT count(*) FROM t"), &SqlLimits::default()).unwrap();
    outcome.unwrap()[0].rows[0][0].clone()
}

#[test]
fn what_was_moved_aside_becomes_a_copy_at_its_new_position_as_often_as_it_is_asked_for() {
    let (dir, was, node) = moved_aside(100, 5);
    let files = Files::new(dir.path());
    for _ in 0..2 {
        let mut former = Former::default();
        files.import(&mut former, (NEW, Generation(1)), origin(was), (AT, &[])).unwrap();
        let mut engine = files.open(NEW, Generation(1)).unwrap();
        assert_eq!(engine.position(), AT);
        assert_eq!(rows(&engine), Value::Integer(100));
        engine.execute(&[sql("DELETE FROM t")], &SqlLimits::default()).unwrap();
        engine.commit(Position { index: Index(2), term: Term(2) }, &[]).unwrap();
    }
    let aside = store::put_aside(dir.path(), was).unwrap().unwrap();
    let old = Files::new(&aside).open(OLD, Generation(4)).unwrap();
    assert_eq!(rows(&old), Value::Integer(100), "it stays as it was");
    assert_ne!(was, node);
}

#[test]
fn a_copy_that_lacks_an_entry_of_its_log_is_refused() {
    let (dir, was, _) = moved_aside(3, 6);
    let files = Files::new(dir.path());
    let refused = files
        .import(&mut Former::default(), (NEW, Generation(1)), origin(was), (AT, &[]))
        .unwrap_err();
    assert!(matches!(&refused, Fault::Corrupt(why) if why.contains("entry 5")), "{refused}");
    assert!(!files.copy(NEW, Generation(1)).exists());
}

#[test]
fn what_is_not_there_is_named() {
    let (dir, was, _) = moved_aside(3, 5);
    let files = Files::new(dir.path());
    let mut former = Former::default();
    let nobody = files.import(&mut former, (NEW, Generation(1)), origin(NodeId(1)), (AT, &[]));
    assert!(matches!(nobody, Err(Fault::Missing(_))), "{nobody:?}");
    let unknown = Origin { log: LogId(77), ..origin(was) };
    let nothing = files.import(&mut former, (NEW, Generation(1)), unknown, (AT, &[]));
    assert!(matches!(nothing, Err(Fault::Missing(_))), "{nothing:?}");
}
