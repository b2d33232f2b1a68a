//! The writing thread: order, grouping, bounds, failures; and reading entries back.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use quorate_core::raft::{Entry, Index, Payload, Snapshot};
use quorate_core::{LogId, PersistId, StorageOp, Term};

use super::super::shared::Shared;
use super::super::writer::Writer;
use super::super::{self as store, Completion, Options, StoreError};
use super::world::{Faults, World};
use super::{append, open, segments, small};

const LOG: LogId = LogId(4);

fn entries(from: u64, to: u64, bytes: usize) -> StorageOp {
    let entry = |index| {
        let payload = Payload::Data(Bytes::from(vec![0x77; bytes]));
        Entry { index: Index(index), term: Term(1), payload }
    };
    StorageOp::Append { log: LOG, entries: (from..=to).map(entry).collect() }
}

/// A writer whose thread waits, in the completion of the first batch, until it is let go.
struct Held {
    world: World,
    writer: Writer,
    done: Receiver<Completion>,
    go: Sender<()>,
}

fn held(options: &Options) -> Held {
    let world = World::new();
    let log = open(&world, options).expect("sound").log;
    let (send, done) = channel();
    let (go, gate) = channel::<()>();
    let mut first = true;
    let complete = move |completion: Completion| {
        send.send(completion).expect("the test listens");
        if std::mem::take(&mut first) {
            gate.recv().expect("the test lets it go");
        }
    };
    let writer = Writer::start(log, options.clone(), complete).expect("a thread");
    writer.submit(PersistId(1), &[entries(1, 1, 10)]).expect("the thread runs");
    Held { world, writer, done, go }
}

impl Held {
    /// The first batch is durable and the thread is in its completion.
    fn wait_for_first(&self) {
        let first = self.done.recv().expect("the first completes");
        assert_eq!(first.id, PersistId(1));
        first.result.expect("sound");
    }
}

#[test]
fn all_that_waits_goes_out_with_one_write_and_one_sync_and_completes_in_order() {
    let held = held(&Options::default());
    held.wait_for_first();
    let (_, syncs, writes) = held.world.counts();
    for id in 2..=100 {
        held.writer.submit(PersistId(id), &[entries(id, id, 100)]).expect("the thread runs");
    }
    held.go.send(()).expect("it waits");
    for id in 2..=100 {
        let completion = held.done.recv().expect("every batch completes");
        assert_eq!(completion.id, PersistId(id));
        completion.result.expect("sound");
        if id == 2 {
            let (_, syncs_now, writes_now) = held.world.counts();
            assert_eq!((syncs_now - syncs, writes_now - writes), (1, 1));
        }
    }
    let Held { world, writer, .. } = held;
    drop(writer);
    world.lose_power(1);
    let recovered = open(&world, &small()).expect("sound").recovered;
    assert_eq!(recovered.logs[&LOG].entries.len(), 100);
}

#[test]
fn a_group_is_bounded_in_bytes() {
    let held = held(&Options { group_bytes_max: 1000, ..Options::default() });
    held.wait_for_first();
    let (_, syncs, _) = held.world.counts();
    for id in 2..=9 {
        held.writer.submit(PersistId(id), &[entries(id, id, 400)]).expect("the thread runs");
    }
    held.go.send(()).expect("it waits");
    let results: Vec<_> = (2..=9).map(|_| held.done.recv().expect("it completes")).collect();
    assert!(results.iter().all(|completion| completion.result.is_ok()));
    assert_eq!(held.world.counts().1 - syncs, 4, "two batches a group");
}

#[test]
fn after_a_failed_sync_every_later_batch_fails_in_order() {
    let held = held(&Options::default());
    held.wait_for_first();
    held.world.set(Faults { fail_sync_at: Some(held.world.counts().1), ..Faults::default() });
    held.writer.submit(PersistId(2), &[entries(2, 2, 10)]).expect("the thread runs");
    held.go.send(()).expect("it waits");
    for id in 2..=6 {
        if id > 2 {
            held.writer.submit(PersistId(id), &[entries(id, id, 10)]).expect("the thread runs");
        }
        let completion = held.done.recv().expect("every batch completes");
        assert_eq!(completion.id, PersistId(id));
        let error = completion.result.expect_err("the sync failed");
        assert!(error.to_string().contains("input/output error"), "{error}");
        assert_eq!(matches!(error, StoreError::Failed(_)), id > 2);
    }
}

#[test]
fn a_batch_that_breaks_the_contract_stops_all_behind_it_and_none_before() {
    let held = held(&Options::default());
    held.wait_for_first();
    let StorageOp::Append { log, mut entries } = entries(3, 5, 10) else { unreachable!() };
    entries.swap(0, 1);
    let bad = [StorageOp::Append { log, entries }];
    held.writer.submit(PersistId(2), &[self::entries(2, 2, 10)]).expect("the thread runs");
    held.writer.submit(PersistId(3), &bad).expect("the thread runs");
    held.writer.submit(PersistId(4), &[self::entries(3, 3, 10)]).expect("the thread runs");
    held.go.send(()).expect("it waits");
    let results: Vec<_> = (2..=4).map(|_| held.done.recv().expect("it completes")).collect();
    assert!(results[0].result.is_ok());
    assert!(matches!(results[1].result, Err(StoreError::BadBatch { id: PersistId(3), .. })));
    assert!(matches!(results[2].result, Err(StoreError::Failed(_))));
    let Held { world, writer, .. } = held;
    drop(writer);
    let recovered = open(&world, &small()).expect("sound").recovered;
    assert_eq!(recovered.logs[&LOG].entries.len(), 2);
}

#[test]
fn a_full_queue_makes_submitters_wait() {
    let held = held(&Options { queue_batches_max: 3, ..Options::default() });
    held.wait_for_first();
    let (submitted, seen) = channel();
    std::thread::scope(|scope| {
        let writer = &held.writer;
        scope.spawn(move || {
            for id in 2..=12 {
                writer.submit(PersistId(id), &[entries(id, id, 10)]).expect("the thread runs");
                submitted.send(id).expect("the test listens");
            }
        });
        for id in 2..=4 {
            assert_eq!(seen.recv(), Ok(id));
        }
        // The fifth can only come in when the thread goes on; it has every chance to be wrong.
        assert!(seen.recv_timeout(Duration::from_millis(50)).is_err());
        assert_eq!(held.writer.waiting(), 3);
        held.go.send(()).expect("it waits");
        for id in 2..=12 {
            assert_eq!(held.done.recv().expect("it completes").id, PersistId(id));
        }
    });
}

#[test]
fn a_submitter_does_not_hang_when_the_thread_is_gone() {
    let log = open(&World::new(), &small()).expect("sound").log;
    let options = Options { queue_batches_max: 1, ..small() };
    let complete = |_| panic!("a callback that panics, on purpose");
    let writer = Writer::start(log, options, complete).expect("a thread");
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match writer.submit(PersistId(1), &[entries(1, 1, 10)]) {
            Err(StoreError::Closed) => break,
            other => other.expect("nothing else can fail"),
        }
        assert!(Instant::now() < deadline, "the thread lives on");
    }
}

#[test]
fn an_idle_store_seals_its_last_batch_by_itself() {
    let world = World::new();
    // With room written ahead a batch is one write, and the next write is the seal.
    let options = Options { allocation_bytes: 1 << 20, ..Options::default() };
    let log = open(&world, &options).expect("sound").log;
    let (send, done) = channel();
    let complete = move |completion| send.send(completion).expect("the test listens");
    let writer = Writer::start(log, options, complete).expect("a thread");
    let (.., before) = world.counts();
    writer.submit(PersistId(1), &[entries(1, 1, 64)]).expect("the thread runs");
    done.recv().expect("it completes").result.expect("sound");
    let deadline = Instant::now() + Duration::from_secs(20);
    while world.counts().2 < before + 2 {
        assert!(Instant::now() < deadline, "no seal was written");
        std::thread::sleep(Duration::from_millis(1));
    }
    // As after a kill: what was written is there, nothing was closed.
    let left = world.copy();
    let path = segments(&left).pop().expect("there is one");
    left.tamper(&path, |bytes| {
        let at = bytes.windows(60).position(|w| w.iter().all(|b| *b == 0x77)).expect("the entry");
        bytes[at] = 0;
    });
    let found = open(&left, &small()).expect("the identity is readable").recovered;
    assert!(found.logs[&LOG].damaged, "the loss of the last batch went unnoticed");
}

fn read(shared: &Arc<RwLock<Shared>>, from: u64, to: u64) -> Vec<u64> {
    let places = shared.read().unwrap_or_else(PoisonError::into_inner).places(
        LOG,
        Index(from)..Index(to),
        usize::MAX,
    );
    places.iter().map(|(index, ..)| index.0).collect()
}

#[test]
fn entries_are_read_back_over_segments_and_checkpoints() {
    let temp = tempfile::tempdir().expect("a scratch directory");
    let (send, done) = channel();
    let complete = move |completion| send.send(completion).expect("the test listens");
    let (opened, _) = store::open(temp.path(), small(), complete).expect("new");
    let submit = |id: u64, ops: &[StorageOp]| {
        opened.submit(PersistId(id), ops).expect("the thread runs");
        done.recv().expect("it completes").result.expect("the disk is sound");
    };
    for index in 1..=100 {
        submit(index, &[entries(index, index, 2000)]);
    }
    let indexes = |from: u64, to: u64| -> Vec<u64> {
        let read = opened.read_entries(LOG, Index(from)..Index(to)).expect("readable");
        assert!(read.iter().all(|e| matches!(&e.payload, Payload::Data(d) if d.len() == 2000)));
        read.iter().map(|entry| entry.index.0).collect()
    };
    assert_eq!(indexes(1, 101), (1..=100).collect::<Vec<_>>());
    assert_eq!(indexes(40, 43), [40, 41, 42]);
    assert_eq!(indexes(99, 200), [99, 100]);
    assert_eq!(indexes(7, 7), [0; 0]);
    let snapshot = Snapshot { index: Index(90), term: Term(1), ..Snapshot::default() };
    submit(101, &[StorageOp::Snapshot { log: LOG, snapshot, reset: false }]);
    let before = opened.log_bytes();
    for index in 101..=140 {
        submit(index + 1, &[entries(index, index, 2000)]);
    }
    assert!(opened.log_bytes() < before, "no checkpoint was made");
    assert_eq!(indexes(1, 200), (91..=140).collect::<Vec<_>>());
    drop(opened);
    let (opened, recovered) = store::open(temp.path(), small(), |_| {}).expect("sound");
    let all = opened.read_entries(LOG, Index(0)..Index(u64::MAX)).expect("readable");
    assert_eq!(all, recovered.logs[&LOG].entries);
    assert_eq!(all.len(), 50);
}

#[test]
fn only_what_is_durable_is_read_back() {
    let world = World::new();
    let mut opened = open(&world, &small()).expect("sound");
    append(&mut opened.log, &[entries(1, 3, 10)]).expect("sound");
    let shared = opened.log.shared();
    assert_eq!(read(&shared, 0, 9), [1, 2, 3]);
    world.set(Faults { fail_sync_at: Some(world.counts().1), ..Faults::default() });
    append(&mut opened.log, &[entries(4, 5, 10)]).expect_err("the sync fails");
    assert_eq!(read(&shared, 0, 9), [1, 2, 3]);
}

#[test]
fn an_entry_that_has_rotted_since_is_not_handed_out() {
    let temp = tempfile::tempdir().expect("a scratch directory");
    let (send, done) = channel();
    let complete = move |completion| send.send(completion).expect("the test listens");
    let (opened, _) = store::open(temp.path(), Options::default(), complete).expect("new");
    opened.submit(PersistId(1), &[entries(1, 2, 500)]).expect("the thread runs");
    done.recv().expect("it completes").result.expect("the disk is sound");
    let path = temp.path().join("log/0000000000000001.seg");
    let mut bytes = std::fs::read(&path).expect("it is there");
    let at = bytes.windows(60).position(|w| w.iter().all(|b| *b == 0x77)).expect("the entry");
    bytes[at] = 0;
    std::fs::write(&path, bytes).expect("the scratch directory takes it");
    let error = opened.read_entries(LOG, Index(1)..Index(3)).expect_err("its checksum fails");
    assert!(matches!(error, StoreError::EntryUnreadable { index: 1, .. }), "{error}");
    assert_eq!(opened.read_entries(LOG, Index(2)..Index(3)).expect("sound").len(), 1);
}
