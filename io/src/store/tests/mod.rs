//! Tests of the store, most of them on a file system that fails and forgets.

mod crash;
mod damage;
mod directory;
mod format;
mod model;
mod space;
mod world;
mod writing;

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use quorate_core::{LogId, Recovered, StorageOp, Window};

use super::directory::open_log;
use super::item::Batch;
use super::log::Log;
use super::scan::Finding;
use super::shared::Shared;
use super::{Options, StoreError, read_shared};
use world::World;

/// Everything small, so that a short history goes through several segments and checkpoints.
fn small() -> Options {
    Options {
        segment_bytes: 32 << 10,
        allocation_bytes: 8 << 10,
        checkpoint_bytes_min: 48 << 10,
        carry_bytes_max: 16 << 10,
        window: Window::WHOLE,
        ..Options::default()
    }
}

fn data_dir() -> PathBuf {
    PathBuf::from("/data")
}

/// What comes back with only the newest entries in memory, against what it means.
fn check_tail(shared: &RwLock<Shared>, whole: &Recovered) {
    for entries_max in [0, 1, 3] {
        let window = Window { entries_max, bytes_max: 5000 };
        let mut shared = shared.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut shared.window, window);
        let mut found = shared.recovered().expect("readable");
        shared.window = before;
        for (log, expected) in &whole.logs {
            let mut expected = expected.clone();
            if *log != LogId::CONFIGURATION {
                expected = expected.within(window);
            }
            let found = found.logs.get_mut(log).expect("it is there");
            let near = |bytes: u64| bytes / 2..=bytes * 2 + 200 * expected.on_disk.bytes.min(1);
            let entries = expected.on_disk.bytes;
            assert!(near(entries).contains(&found.on_disk.bytes) || entries < 2000);
            found.on_disk.bytes = entries;
            assert_eq!(*found, expected);
        }
    }
}

struct Opened {
    log: Log,
    recovered: Recovered,
    findings: Vec<Finding>,
}

/// Opens the data directory of a simulated machine.
fn open(world: &World, options: &Options) -> Result<Opened, StoreError> {
    let (log, findings) = open_log(Arc::new(world.clone()), &data_dir(), options.clone())?;
    let recovered = read_shared(&log.shared()).recovered()?;
    Ok(Opened { log, recovered, findings })
}

fn append(log: &mut Log, ops: &[StorageOp]) -> Result<(), StoreError> {
    log.append(&Batch::encode(ops).expect("the operations keep the contract"))
}

fn log_dir() -> PathBuf {
    data_dir().join("log")
}

/// The segments there are, oldest first.
fn segments(world: &World) -> Vec<PathBuf> {
    let names = world.names(&log_dir());
    names.iter().filter(|n| n.ends_with(".seg")).map(|n| log_dir().join(n)).collect()
}

fn parent(path: &Path) -> &Path {
    path.parent().expect("no path here is the root")
}
