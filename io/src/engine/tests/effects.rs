//! Effects from another version, cut short or made up are refused, and change nothing.

use bytes::Bytes;
use proptest::prelude::*;
use rusqlite::types::ValueRef;

use super::super::effects::{Decoder, Segment};
use super::*;
use quorate_core::engine::Fault;

fn sample() -> Bytes {
    let mut copies = Copies::new();
    copies.run(&["CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, v, w)"]);
    copies.run(&[
        "INSERT INTO t(v, w) VALUES('a', 1.5), (x'00', NULL)",
        "UPDATE t SET w = 'long text'",
        "DELETE FROM t WHERE id = 1",
        "PRAGMA foreign_keys = OFF",
        "CREATE TABLE u(k PRIMARY KEY) WITHOUT ROWID",
        "INSERT INTO u VALUES('k'), ('l')",
        "DELETE FROM u WHERE k = 'l'",
        "ANALYZE",
    ]);
    copies.log.pop().unwrap().effects
}

fn decode(bytes: &[u8]) -> usize {
    let Ok(mut decoder) = Decoder::new(bytes) else { return 0 };
    let mut count = 0;
    while let Ok(Some(_)) = decoder.next() {
        count += 1;
    }
    count
}

#[test]
fn every_kind_of_segment_is_in_the_sample() {
    let sample = sample();
    let mut decoder = Decoder::new(&sample).unwrap();
    let mut kinds = std::collections::BTreeSet::new();
    while let Some(segment) = decoder.next().unwrap() {
        kinds.insert(match segment {
            Segment::Table { .. } => 1,
            Segment::Insert { .. } => 2,
            Segment::Delete { .. } => 3,
            Segment::Update { .. } => 4,
            Segment::Script(_) => 5,
            Segment::Sequences { .. } => 6,
            Segment::ForeignKeys(_) => 7,
            Segment::Statistics(_) => 8,
        });
    }
    assert_eq!(kinds.len(), 8);
}

#[test]
fn effects_of_a_later_version_are_refused_and_named() {
    let mut copies = Copies::new();
    copies.run(&["CREATE TABLE t(a)"]);
    let effects = Bytes::from_static(&[2, 1, 2, 3]);
    let before = copies.follower.content_hash().unwrap();
    let fault = copies.follower.apply(&[Effect { at: at(2), effects }], &[]).unwrap_err();
    assert!(
        matches!(&fault, Fault::Unreadable { at: where_, reason }
        if *where_ == at(2) && reason.contains("later version")),
        "{fault}"
    );
    assert_eq!(SqliteEngine::open(copies.follower.path()).unwrap().content_hash().unwrap(), before);
}

#[test]
fn effects_that_are_cut_short_change_nothing() {
    let effects = sample();
    let mut copies = Copies::new();
    copies.run(&["CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, v, w)"]);
    let before = copies.follower.content_hash().unwrap();
    for length in (1..effects.len()).step_by(7) {
        let entries = [Effect { at: at(2), effects: effects.slice(..length) }];
        // A cut between two segments cannot be told; the log's own checksums see to that.
        if copies.follower.apply(&entries, &[]).is_err() {
            let path = copies.follower.path().to_owned();
            copies.follower = SqliteEngine::open(&path).unwrap();
            assert_eq!(copies.follower.content_hash().unwrap(), before);
        } else {
            copies.follower = {
                let path = copies.dir.path().join(format!("again{length}.db"));
                let mut again = SqliteEngine::create(&path).unwrap();
                again.apply(&copies.log, &[]).unwrap();
                again
            };
        }
    }
}

#[test]
fn a_length_that_is_not_there_takes_no_memory() {
    let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    for tag in 1..=8 {
        let mut bytes = vec![1, tag];
        bytes.extend_from_slice(&huge);
        assert_eq!(decode(&bytes), 0, "tag {tag}");
        bytes.extend_from_slice(&huge);
        assert_eq!(decode(&bytes), 0, "tag {tag}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        decode(&bytes);
        let mut versioned = vec![1];
        versioned.extend_from_slice(&bytes);
        decode(&versioned);
    }

    #[test]
    fn values_come_back_as_they_were(integer: i64, real: f64, blob: Vec<u8>, check: u32) {
        let mut bytes = vec![1];
        super::super::effects::put_table(&mut bytes, "t", 5, 0);
        super::super::effects::put_insert(&mut bytes, 0, Some(integer));
        let values = [ValueRef::Null, ValueRef::Integer(integer), ValueRef::Real(real),
            ValueRef::Text(&blob), ValueRef::Blob(&blob)];
        values.iter().for_each(|value| super::super::effects::put_value(&mut bytes, *value));
        let key = super::super::effects::Key::Rowid(integer);
        super::super::effects::put_delete(&mut bytes, 0, &key, check);
        let mut decoder = Decoder::new(&bytes).unwrap();
        decoder.next().unwrap();
        match decoder.next().unwrap() {
            Some(Segment::Insert { rowid, values: read, .. }) => {
                prop_assert_eq!(rowid, Some(integer));
                prop_assert_eq!(format!("{read:?}"), format!("{values:?}"));
            }
            other => prop_assert!(false, "{:?}", other),
        }
        prop_assert_eq!(decoder.next().unwrap(), Some(Segment::Delete { table: 0, key, check }));
        prop_assert_eq!(decoder.next().unwrap(), None);
    }
}
