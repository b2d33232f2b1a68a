//! The durable store of a node: its data directory, and one log on disk for all its logs.
//!
//! [`open`] locks a directory, reads what is in it and starts a thread. [`Store::submit`] hands
//! over a batch of [`StorageOp`]s; a [`Completion`] says when it is durable, in order. What a batch
//! means is defined by [`Recovered::apply`]; this module only makes sure that what comes back
//! after a crash is `apply` of a prefix of the batches that holds every one that was completed.
//!
//! ```text
//! <data>/              0700, made by the first start
//!   lock               held with the system's lock while a node runs; names its process
//!   FORMAT             version and node id; written last, so whoever has it has a log
//!   log/<number>.seg   segments: a header, then frames, in blocks of 4 KiB
//!   backup/clusters/   what `move_aside` has put away; never opened, never deleted
//!   MOVING             only while that goes on: where to
//! ```
//!
//! # Group commit
//!
//! While one sync runs, batches queue. When it is done, all that wait (up to
//! [`Options::group_bytes_max`]) become *one frame*, written with one write and made durable with
//! one sync. So at any instant **at most one frame is not yet synced, and it is the last**. All
//! below rests on that. The file is filled with zeros ahead of the frames, since a sync that finds
//! neither size nor extents changed costs half as much. Each frame begins on its own block: no
//! write ever touches a block that holds something synced.
//!
//! # Torn, or damaged?
//!
//! A frame that cannot be read is one of two things. Either its sync had not finished when the
//! machine stopped: then nothing rests on it and it is cut off in silence. Or it was durable once:
//! then something acknowledged may be lost, the logs it changed are reported as damaged, and a
//! node that holds one abstains. Taking the second for the first loses writes; so it is decided by
//! *proof that the frame had been synced*, never by its position:
//!
//! 1. every frame says how far everything was synced when it was written. A readable frame (its
//!    header suffices) with a greater number, found anywhere behind by looking at every block,
//!    proves it;
//! 2. a segment's header says with which frame it begins; it got its name only after its own sync,
//!    and after every earlier frame was synced. So any later segment proves it;
//! 3. the frames that a segment is *born with* (a checkpoint, or a frame written anew) were synced
//!    before it got its name: its own header proves them;
//! 4. a **seal** stands where the next frame will. It is written without a sync when nothing
//!    has come for [`Options::seal_after`], and with one when the store is closed; it proves
//!    the last frame, and the next frame overwrites it.
//!
//! What has no proof is torn. What remains undecidable: the last frame is unreadable, *and* so is
//! its seal, or the power failed before that was written out. The same holds for several last
//! frames that go together with everything behind them, as when the newest segment is cut short (below the
//! size that it was made with, its header tells). Ruling that out would take a second sync for
//! every first one. A whole frame that this program cannot decode is never called torn.
//!
//! A header carries the numbers of the logs that its frame changes, under a checksum of its own. If
//! the payload is unreadable only those are damaged. If the header is, all are, those that are
//! made later too, and always the configuration log: **a damaged configuration log means that
//! any log may be incomplete or missing.** It also stands for lost starts of peers, which nothing
//! heals. When the frame may have held the identity and no later one is found, nothing is opened
//! ([`StoreError::IdentityUnreadable`]). Damage is told at every start, for the segments that show
//! it are kept (no checkpoint replaces them) until core has dropped the logs concerned.
//!
//! Frames name their segment's random salt and their own offset, so neither a stale block nor
//! a copy of the log inside somebody's data passes for one. Segments are numbered, and each names
//! the salt of the one before; the end of each says that there is a next. So a missing, exchanged
//! or reordered segment is found out, also if it is the newest.
//!
//! # After a start
//!
//! Old segments are not written again, but for the mark that a next one exists. Every opening begins
//! a new one. A last frame without proof is **written anew** into it and synced before it counts:
//! it may stand in the system's memory only, left there by a killed process, or by a sync that
//! failed (after which the system believes pages to be clean that never reached the disk, and
//! no later sync says otherwise). For the same reason the first failed write or sync poisons the
//! store: nothing later is written, every later completion carries the error.
//!
//! # Space
//!
//! When a segment is full, or at opening, segments of which at most a quarter is live may go. If that
//! frees enough, the next segment begins with a checkpoint: all the small state, the snapshots, the
//! entries that are live in what goes, *carried over*, and the names of the older segments that are
//! *kept*. All other entries stay where they are. So a checkpoint writes a quarter of what it frees at
//! most and [`Options::carry_bytes_max`] besides the small state, however much the logs retain, and
//! the segments hold at most four times what is live, beside what the bounds let wait.
//!
//! It is written and synced under another name, renamed, the directory synced; only then are the
//! segments removed that it does not keep, in any order. A crash leaves an unfinished file, or
//! superfluous ones, and both are removed by the next opening.
//!
//! A reader begins with the segments that the newest checkpoint keeps, each up to the frame with which
//! it ended; one that is missing, or another, is damage. Segments between them may be gone, and with
//! them whatever revoked something in a kept one. Nothing revoked comes back for all that:
//!
//! * the checkpoint begins with the list of the logs there are and the last entry of each. What is
//!   beyond goes, and all but entries is said anew; the snapshots that follow take what is before.
//! * Between the two every index has a live entry, either carried over or in a kept segment. The last
//!   that was ever written at its index is the live one; so it is also the last that is read there.
//! * A live entry is removed by nothing that is read later, for nothing written later removed it.
//!
//! # Memory
//!
//! In memory are the small states and, for each entry and snapshot, where it lies: eight bytes an
//! entry. At opening the terms, memberships and newest entries of a shard's log are read back, the
//! configuration log whole; [`Reader`] reads entries back, each with its own checksum.

mod checkpoint;
mod directory;
mod entries;
mod error;
mod frame;
mod fs;
mod item;
mod log;
mod scan;
mod segment;
mod shared;
mod state;
mod writer;

#[cfg(test)]
mod tests;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use quorate_core::raft::{Entry, Index};
use quorate_core::{LogId, NodeId, PersistId, Recovered, StorageOp, Window};

#[cfg(feature = "node")]
pub(crate) use directory::utc;
pub use directory::{DataDir, Follows, View, is_data_dir, put_aside, read_only};
pub use error::StoreError;
pub use scan::Finding;
pub use writer::Completion;

use log::Log;
use shared::Shared;
use writer::Writer;

/// Sizes and bounds. The defaults are for production; tests make everything small.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// A segment is full at this size, in bytes; one frame that is larger gets one of its own.
    pub segment_bytes: u64,
    /// Zeros are written ahead in steps of this many bytes.
    pub allocation_bytes: u64,
    /// The most bytes of batches in one frame; a single larger batch makes a larger one.
    pub group_bytes_max: usize,
    /// [`Store::submit`] waits while so many bytes are queued.
    pub queue_bytes_max: usize,
    /// [`Store::submit`] waits while so many batches are queued.
    pub queue_batches_max: usize,
    /// No checkpoint that frees less than this, in bytes.
    pub checkpoint_bytes_min: u64,
    /// A checkpoint carries over at most so many bytes of entries.
    pub carry_bytes_max: u64,
    /// How much of each log of a shard is in memory when it is opened. The configuration log is whole.
    pub window: Window,
    /// After so long without a batch the last one is sealed.
    pub seal_after: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            allocation_bytes: 1 << 20,
            group_bytes_max: 8 << 20,
            queue_bytes_max: 64 << 20,
            queue_batches_max: 16_384,
            checkpoint_bytes_min: 8 << 20,
            carry_bytes_max: 32 << 20,
            window: Window::default(),
            seal_after: Duration::from_millis(5),
        }
    }
}

impl Options {
    /// How long the file is to be so that `end` fits in.
    fn allocation(&self, end: u64) -> u64 {
        end.next_multiple_of(self.allocation_bytes.max(frame::BLOCK))
    }
}

/// The open store of a node. Dropping it writes what waits and ends in good order.
pub struct Store {
    // Before the directory, so that the lock goes last.
    writer: Writer,
    shared: Arc<RwLock<Shared>>,
    findings: Vec<Finding>,
    dir: DataDir,
}

/// Opens the store of a data directory, made if need be: see [`DataDir::lock`] and
/// [`DataDir::open`], which this does one after the other.
///
/// # Errors
/// Those of both.
pub fn open(
    dir: &Path,
    options: Options,
    complete: impl FnMut(Completion) + Send + 'static,
) -> Result<(Store, Recovered), StoreError> {
    DataDir::lock(dir)?.open(options, complete)
}

/// Writes operations into the directory of a stopped node: [`DataDir::append_offline`].
///
/// # Errors
/// See there, and [`DataDir::lock`].
pub fn append_offline(dir: &Path, ops: &[StorageOp]) -> Result<(), StoreError> {
    lock_existing(dir)?.append_offline(ops)
}

/// Moves the contents of a stopped node's directory aside: [`DataDir::move_aside`].
///
/// # Errors
/// See there, and [`DataDir::lock`].
pub fn move_aside(dir: &Path) -> Result<Option<PathBuf>, StoreError> {
    lock_existing(dir)?.move_aside()
}

/// Gives a stopped node's directory to a new node: [`DataDir::new_identity`].
///
/// # Errors
/// See there, and [`DataDir::lock`].
pub fn new_identity(dir: &Path) -> Result<(NodeId, Option<PathBuf>), StoreError> {
    lock_existing(dir)?.new_identity()
}

fn lock_existing(dir: &Path) -> Result<DataDir, StoreError> {
    if !dir.is_dir() {
        return Err(StoreError::Absent { dir: dir.to_owned() });
    }
    DataDir::lock(dir)
}

impl Store {
    fn start(
        dir: DataDir,
        log: Log,
        findings: Vec<Finding>,
        options: Options,
        complete: impl FnMut(Completion) + Send + 'static,
    ) -> Result<Self, StoreError> {
        for finding in &findings {
            tracing::error!(%finding, "part of the log store is unreadable");
        }
        let shared = log.shared();
        let writer = Writer::start(log, options, complete)
            .map_err(StoreError::io("start a thread for", dir.path()))?;
        Ok(Self { writer, shared, findings, dir })
    }

    /// Hands a batch over to be made durable behind all earlier ones; its [`Completion`] follows.
    ///
    /// # Backpressure
    /// Waits while [`Options::queue_bytes_max`] or [`Options::queue_batches_max`] are queued, as
    /// long as the disk takes to write a part of that. Core's own bounds on what is in
    /// flight keep a node far below.
    ///
    /// # Errors
    /// [`StoreError::Closed`] if the writing thread has ended. Everything else, a bad batch
    /// included, comes in the completion.
    pub fn submit(&self, id: PersistId, ops: &[StorageOp]) -> Result<(), StoreError> {
        self.writer.submit(id, ops)
    }

    /// How many batches wait to be taken by the writing thread.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.writer.waiting()
    }

    /// Reads entries of a log back from the disk, those of `range` that are there, in order. Only
    /// what is durable is seen.
    ///
    /// # Errors
    /// [`StoreError::EntryUnreadable`] and [`StoreError::Io`].
    pub fn read_entries(&self, log: LogId, range: Range<Index>) -> Result<Vec<Entry>, StoreError> {
        self.reader().read(log, range, usize::MAX)
    }

    /// Reads entries back from any thread.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader { shared: Arc::clone(&self.shared) }
    }

    /// What was found to be unreadable when the store was opened.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The data directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Bytes that the log takes on the disk.
    #[must_use]
    pub fn log_bytes(&self) -> u64 {
        read_shared(&self.shared).segments.values().map(|segment| segment.size).sum()
    }

    /// Writes what waits, ends in good order, and returns the directory, still locked.
    #[must_use = "dropping the directory lets go of its lock"]
    pub fn close(mut self) -> DataDir {
        self.writer.close();
        self.dir
    }
}

/// So many entries that lie one after the other are read at once.
const READ_TOGETHER_MAX: usize = 256;

/// Reads entries of a store back. One that is used when the store is closed reads what it held.
#[derive(Clone)]
pub struct Reader {
    shared: Arc<RwLock<Shared>>,
}

impl Reader {
    /// Those entries of `range` that are there and durable, in order, with `bytes_max` bytes together
    /// at most, but the first in any case; only those before the first that is unreadable.
    ///
    /// # Errors
    /// [`StoreError::EntryUnreadable`], if that is the first of all, and [`StoreError::Io`].
    pub fn read(
        &self,
        log: LogId,
        range: Range<Index>,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let places = read_shared(&self.shared).places(log, range, bytes_max);
        let mut entries = Vec::with_capacity(places.len());
        let rows = places.chunk_by(|(_, a, _), (_, b, _)| a.is_followed_by(*b));
        for together in rows.flat_map(|row| row.chunks(READ_TOGETHER_MAX)) {
            let Some((_, first, segment)) = together.first() else { continue };
            let len = together.iter().map(|(_, place, _)| place.len).sum();
            let bytes = segment.read_at(first.offset, len)?;
            let mut rest = &bytes[..];
            for (index, place, _) in together {
                let len = usize::try_from(place.len).unwrap_or(usize::MAX).min(rest.len());
                let (item, behind) = rest.split_at(len);
                rest = behind;
                match item::decode_entry(item) {
                    Some((of, entry)) if of == log && entry.index == *index => entries.push(entry),
                    // Those before it can be had.
                    _ if !entries.is_empty() => return Ok(entries),
                    _ => {
                        let path = segment.path.clone();
                        return Err(StoreError::EntryUnreadable { log, index: index.0, path });
                    }
                }
            }
        }
        Ok(entries)
    }
}

/// A poisoned lock is as good as any: the writing thread leaves the state whole at every step.
fn read_shared(shared: &RwLock<Shared>) -> RwLockReadGuard<'_, Shared> {
    shared.read().unwrap_or_else(PoisonError::into_inner)
}
