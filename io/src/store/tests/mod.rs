//! Tests of the store, most of them on a file system that fails and forgets.

mod crash;
mod damage;
mod directory;
mod format;
mod model;
mod world;
mod writing;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use quorate_core::{Recovered, StorageOp};

use super::directory::open_log;
use super::item::Batch;
use super::log::Log;
use super::scan::Finding;
use super::{Options, StoreError, read_shared};
use world::World;

/// Everything small, so that a short history goes through several segments and checkpoints.
fn small() -> Options {
    Options {
        segment_bytes: 32 << 10,
        allocation_bytes: 8 << 10,
        checkpoint_bytes_min: 48 << 10,
        ..Options::default()
    }
}

fn data_dir() -> PathBuf {
    PathBuf::from("/data")
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
