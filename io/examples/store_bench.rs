//! How long a durable batch takes in the log store, against bare writes with fdatasync.
//!
//! ```text
//! cargo run --release -p quorate-io --example store_bench [DIR] [SECONDS]
//! ```
//!
//! `DIR` (default: the current directory) must be on the file system to be measured; a scratch
//! directory is made in it and removed. Each batch is one entry that fills a block of 4 KiB.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use quorate_core::raft::{Entry, Index, Payload};
use quorate_core::{LogId, PersistId, StorageOp, Term};
use quorate_io::store::{Completion, Options, Store, open};

/// An entry with this much data makes a frame of one block.
const DATA_BYTES: usize = 3_900;
const BLOCK: usize = 4096;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args_os().skip(1);
    let parent = args.next().map_or_else(|| PathBuf::from("."), PathBuf::from);
    let seconds: f64 = match args.next() {
        Some(text) => text.to_string_lossy().parse()?,
        None => 3.0,
    };
    let time = Duration::from_secs_f64(seconds);
    let scratch = parent.join(format!("store_bench.{}", std::process::id()));
    std::fs::create_dir(&scratch)?;
    let result = measure(&scratch, time);
    std::fs::remove_dir_all(&scratch)?;
    result
}

fn measure(scratch: &Path, time: Duration) -> Result<(), Box<dyn Error>> {
    println!("{:<44} {:>9} {:>9} {:>9} {:>11}", "", "p50 us", "p99 us", "max us", "batches/s");
    bare(scratch, "bare write+fdatasync, file grows", 0, time)?;
    bare(scratch, "bare write+fdatasync, zeros written ahead", 64 << 20, time)?;
    for outstanding in [1, 16, 64] {
        store(scratch, outstanding, DATA_BYTES, time)?;
    }
    for outstanding in [64, 1024] {
        store(scratch, outstanding, 100, time)?;
    }
    bare(scratch, "bare again, zeros written ahead", 64 << 20, time)?;
    Ok(())
}

/// One block after the other, each with its own sync.
fn bare(scratch: &Path, what: &str, ahead: usize, time: Duration) -> Result<(), Box<dyn Error>> {
    let path = scratch.join("bare");
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(&path)?;
    file.write_all_at(&vec![0; ahead], 0)?;
    file.sync_all()?;
    let block = [7; BLOCK];
    let mut latencies = Vec::new();
    let start = Instant::now();
    let mut offset = 0;
    while start.elapsed() < time {
        let begun = Instant::now();
        file.write_all_at(&block, offset)?;
        file.sync_data()?;
        latencies.push(begun.elapsed());
        offset += BLOCK as u64;
        if ahead > 0 && offset >= ahead as u64 {
            offset = 0;
        }
    }
    report(what, &mut latencies, start.elapsed());
    std::fs::remove_file(path)?;
    Ok(())
}

/// So many batches are always under way; each completion hands in the next.
fn store(
    scratch: &Path,
    outstanding: u64,
    bytes: usize,
    time: Duration,
) -> Result<(), Box<dyn Error>> {
    let dir = scratch.join("store");
    let (send, done) = channel();
    let complete = move |completion: Completion| {
        // The receiver goes first when the time is over.
        let _ = send.send(completion);
    };
    let (store, _) = open(&dir, Options::default(), complete)?;
    let start = Instant::now();
    let mut latencies = run(&store, &done, outstanding, bytes, time)?;
    let what = format!("store, {outstanding} outstanding, {bytes} B of data");
    report(&what, &mut latencies, start.elapsed());
    drop(store);
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

fn run(
    store: &Store,
    done: &Receiver<Completion>,
    outstanding: u64,
    bytes: usize,
    time: Duration,
) -> Result<Vec<Duration>, Box<dyn Error>> {
    let data = Bytes::from(vec![7; bytes]);
    let mut begun = BTreeMap::new();
    let mut latencies = Vec::new();
    let start = Instant::now();
    let mut next = 1;
    while next <= outstanding {
        begun.insert(next, Instant::now());
        store.submit(PersistId(next), &batch(next, &data))?;
        next += 1;
    }
    while !begun.is_empty() {
        let completion = done.recv()?;
        completion.result?;
        latencies.extend(begun.remove(&completion.id.0).map(|at| at.elapsed()));
        if start.elapsed() < time {
            begun.insert(next, Instant::now());
            store.submit(PersistId(next), &batch(next, &data))?;
            next += 1;
        }
    }
    Ok(latencies)
}

/// One entry; every thousandth batch drops what came before, as compaction does.
fn batch(index: u64, data: &Bytes) -> Vec<StorageOp> {
    let log = LogId(1);
    let entry = Entry { index: Index(index), term: Term(1), payload: Payload::Data(data.clone()) };
    let mut ops = vec![StorageOp::Append { log, entries: vec![entry] }];
    if index.is_multiple_of(1000) {
        let snapshot = quorate_core::raft::Snapshot {
            index: Index(index - 500),
            term: Term(1),
            ..Default::default()
        };
        ops.push(StorageOp::Snapshot { log, snapshot, reset: false });
    }
    ops
}

fn report(what: &str, latencies: &mut [Duration], elapsed: Duration) {
    latencies.sort_unstable();
    let at = |share: usize| {
        let found =
            latencies.get((latencies.len() * share / 1000).min(latencies.len().saturating_sub(1)));
        found.map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e6)
    };
    let rate = latencies.len() as f64 / elapsed.as_secs_f64();
    println!("{what:<44} {:>9.1} {:>9.1} {:>9.1} {rate:>11.0}", at(500), at(990), at(1000));
}
