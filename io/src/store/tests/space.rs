//! How space comes back, and at what cost.

use bytes::Bytes;
use quorate_core::raft::{Entry, Index, Payload, Snapshot};
use quorate_core::{LogId, StorageOp, Term};

use super::super::{Options, StoreError};
use super::world::World;
use super::{Opened, append, open, read_shared, segments, small};

const BUSY: LogId = LogId(4);
const IDLE: LogId = LogId(5);

fn entry(log: LogId, index: u64, bytes: usize) -> StorageOp {
    let payload = Payload::Data(Bytes::from(vec![u8::try_from(index % 251).unwrap(); bytes]));
    let entry = Entry { index: Index(index), term: Term(1), payload };
    StorageOp::Append { log, entries: vec![entry] }
}

fn compacted(log: LogId, index: u64) -> StorageOp {
    let snapshot = Snapshot { index: Index(index), term: Term(1), ..Snapshot::default() };
    StorageOp::Snapshot { log, snapshot, reset: false }
}

/// Appends entries that fill a block each, and lets go of all but the last `retain`.
fn write(opened: &mut Opened, range: std::ops::Range<u64>, retain: u64) {
    for index in range {
        append(&mut opened.log, &[entry(BUSY, index, 3900)]).expect("sound");
        if index % 10 == 0 && index > retain {
            append(&mut opened.log, &[compacted(BUSY, index - retain)]).expect("sound");
        }
    }
}

fn whole(opened: &Opened, log: LogId) -> Vec<Entry> {
    let shared = opened.log.shared();
    let mut recovered = read_shared(&shared).recovered().expect("readable");
    recovered.logs.remove(&log).map(|log| log.entries).unwrap_or_default()
}

#[test]
fn what_a_log_retains_is_not_written_again_and_the_space_before_it_comes_back() {
    for retain in [20, 100, 400] {
        let world = World::new();
        let mut opened = open(&world, &small()).expect("sound");
        write(&mut opened, 1..retain * 2, retain);
        let (before, begun) = (world.bytes_written(), retain * 2);
        write(&mut opened, begun..begun + 1000, retain);
        // Zeros are written ahead, so that each block is written twice; and the compactions.
        let least = 2 * 1100 * 4096;
        let more = (world.bytes_written() - before) as f64 / f64::from(least);
        assert!(more < 1.5, "{retain} retained: {more:.2} times what must be");
        let held: usize = segments(&world).iter().map(|path| world.content(path).len()).sum();
        let live = usize::try_from(retain).unwrap() * 4096;
        // Of a segment of eight blocks one is its header, one the checkpoint, and one stays free.
        assert!(held < live * 2 + (160 << 10), "{held} bytes held for {live}");
        let kept = whole(&opened, BUSY).len();
        let again = open(&world, &small()).expect("sound");
        assert_eq!(whole(&again, BUSY).len(), kept);
        assert_eq!(again.findings, []);
    }
}

#[test]
fn a_log_that_nobody_writes_does_not_hold_space_back() {
    let world = World::new();
    let mut opened = open(&world, &small()).expect("sound");
    for index in 1..4 {
        append(&mut opened.log, &[entry(IDLE, index, 500)]).expect("sound");
    }
    let idle = whole(&opened, IDLE);
    write(&mut opened, 1..1000, 30);
    assert!(segments(&world).len() < 12, "{:?}", segments(&world));
    assert_eq!(whole(&opened, IDLE), idle);
    let again = open(&world, &small()).expect("sound");
    assert_eq!(whole(&again, IDLE), idle);
}

#[test]
fn a_log_that_was_made_anew_has_nothing_of_the_one_before_it() {
    // The one that is dropped lies in a segment that is kept for the sake of another; the segment
    // with the drop goes.
    let world = World::new();
    let mut opened = open(&world, &small()).expect("sound");
    for index in 1..7 {
        append(&mut opened.log, &[entry(BUSY, index, 3900)]).expect("sound");
    }
    append(&mut opened.log, &[compacted(IDLE, 50), entry(IDLE, 51, 500)]).expect("sound");
    let state = quorate_core::HardState { term: Term(9), ..Default::default() };
    append(&mut opened.log, &[StorageOp::HardState { log: IDLE, state }]).expect("sound");
    append(&mut opened.log, &[StorageOp::DropLog { log: IDLE }]).expect("sound");
    for index in 1..40 {
        append(&mut opened.log, &[entry(LogId(6), index, 3900)]).expect("sound");
        append(&mut opened.log, &[compacted(LogId(6), index)]).expect("sound");
    }
    append(&mut opened.log, &[entry(IDLE, 1, 500)]).expect("sound");
    let kept = segments(&world);
    assert!(kept[0].ends_with("0000000000000001.seg"), "{kept:?}");
    assert!(!kept.iter().any(|path| path.ends_with("0000000000000002.seg")), "{kept:?}");
    let expected = read_shared(&opened.log.shared()).recovered().expect("readable");
    let again = open(&world, &small()).expect("sound");
    assert_eq!(again.recovered, expected);
    assert_eq!(again.recovered.logs[&IDLE].snapshot.index, Index::ZERO);
    assert_eq!(again.recovered.logs[&IDLE].hard_state.term, Term::ZERO);
}

#[test]
fn an_entry_that_cannot_be_carried_over_stays_where_it_is_and_the_store_goes_on() {
    let world = World::new();
    let mut opened = open(&world, &small()).expect("sound");
    append(&mut opened.log, &[entry(IDLE, 1, 500)]).expect("sound");
    let first = segments(&world)[0].clone();
    world.tamper(&first, |bytes| {
        let at = bytes.windows(60).position(|w| w.iter().all(|b| *b == 1)).expect("the entry");
        bytes[at] = 0;
    });
    write(&mut opened, 1..300, 10);
    assert!(segments(&world).contains(&first));
    assert!(segments(&world).len() < 12);
    let reader = super::super::Reader { shared: opened.log.shared() };
    let error = reader.read(IDLE, Index(1)..Index(2), 1000).expect_err("it has rotted");
    assert!(matches!(error, StoreError::EntryUnreadable { index: 1, .. }));
    let again = open(&world, &small()).expect("sound");
    assert!(again.recovered.logs[&IDLE].damaged && !again.recovered.logs[&BUSY].damaged);
}

#[test]
fn a_checkpoint_carries_no_more_than_its_bound() {
    let world = World::new();
    let options = Options { carry_bytes_max: 9000, ..small() };
    let mut opened = open(&world, &options).expect("sound");
    // In each segment one entry of some four kilobytes stays.
    for index in 1..200 {
        append(&mut opened.log, &[entry(BUSY, index, 3900)]).expect("sound");
        append(&mut opened.log, &[compacted(BUSY, index)]).expect("sound");
        if index % 6 == 0 {
            append(&mut opened.log, &[entry(IDLE, index / 6, 3900)]).expect("sound");
        }
    }
    assert!(segments(&world).len() < 20, "{:?}", segments(&world));
    assert_eq!(whole(&opened, IDLE).len(), 33);
    assert_eq!(whole(&open(&world, &options).expect("sound"), IDLE).len(), 33);
}

#[test]
fn a_bounded_read_takes_what_fits_and_the_first_in_any_case() {
    let world = World::new();
    let mut opened = open(&world, &small()).expect("sound");
    write(&mut opened, 1..30, 100);
    let reader = super::super::Reader { shared: opened.log.shared() };
    let count = |bytes_max| {
        let read = reader.read(BUSY, Index(3)..Index(20), bytes_max).expect("readable");
        assert_eq!(read.first().map(|e| e.index), Some(Index(3)));
        read.len()
    };
    assert_eq!([count(1), count(3000), count(8000), count(usize::MAX)], [1, 1, 2, 17]);
}
