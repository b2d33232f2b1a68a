//! What is given to another server.
//!
//! A live copy is held still and read where it lies, so that giving it costs no second file. But its
//! WAL grows meanwhile with all that is written: beyond [`WAL_BYTES_MAX`] the copy is copied aside, a
//! part between one chunk and the next, and let go.

use std::path::PathBuf;

use quorate_core::copies::{ChunkData, ChunkHash};
use quorate_core::engine::{Fault, Position};
use quorate_core::{Generation, LogId};
use tracing::debug;

use super::outgoing::chunk;
use super::{Files, OUTGOING, Outgoing, remove_dir};
use crate::engine::Pinned;

/// So long the WAL of a copy may grow for those who fetch the copy.
const WAL_BYTES_MAX: u64 = 128 * 1024 * 1024;
/// So much is copied aside at once: whoever fetches waits meanwhile.
const ASIDE_BYTES: usize = 8 * 1024 * 1024;

/// A copy at one position, or a file that was handed to this node.
pub struct Given {
    source: Source,
    /// How much was in the WAL when the copy was held: SQLite begins it anew with the next write.
    wal_bytes: u64,
    /// By how much it may grow before the copy is let go.
    grows_max: u64,
}

enum Source {
    /// A file that does not change.
    File(Outgoing),
    /// The live copy.
    Held(Box<Held>),
}

struct Held {
    pinned: Pinned,
    /// Where it is copied aside to, if that becomes necessary.
    dir: PathBuf,
    /// What lies there already.
    aside: Option<Outgoing>,
}

impl Given {
    /// Holds the live copy, or takes a snapshot of it if it never comes to rest. Its writer goes on.
    ///
    /// # Errors
    /// It cannot be read, or the snapshot cannot be written.
    pub fn hold(
        files: &Files,
        log: LogId,
        live: Generation,
        export: u64,
        goes_on: impl FnMut() -> bool,
    ) -> Result<Self, Fault> {
        let Some(pinned) = Pinned::open(&files.copy(log, live))? else {
            debug!(log = log.0, "the copy is never at rest: a snapshot of it is taken");
            return Outgoing::take(files, log, live, export, goes_on).map(Self::file);
        };
        let dir = files.shard(log).join(format!("{OUTGOING}{export}"));
        remove_dir(&dir)?;
        let wal_bytes = pinned.wal_bytes()?;
        let source = Source::Held(Box::new(Held { pinned, dir, aside: None }));
        Ok(Self { source, wal_bytes, grows_max: WAL_BYTES_MAX })
    }

    /// A file that does not change.
    #[must_use]
    pub fn file(file: Outgoing) -> Self {
        Self { source: Source::File(file), wal_bytes: 0, grows_max: WAL_BYTES_MAX }
    }

    /// What it holds.
    #[must_use]
    pub fn position(&self) -> Position {
        match &self.source {
            Source::File(file) => file.position(),
            Source::Held(held) => held.pinned.position(),
        }
    }

    /// How long it is.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match &self.source {
            Source::File(file) => file.bytes(),
            Source::Held(held) => held.pinned.bytes(),
        }
    }

    /// Reads a chunk; not its content if its hash is `known`.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(
        &self,
        at: u64,
        len: u32,
        known: Option<ChunkHash>,
        pack: bool,
    ) -> Result<(ChunkHash, ChunkData), Fault> {
        match &self.source {
            Source::File(file) => file.read(at, len, known, pack),
            Source::Held(held) => {
                let mut bytes = vec![0; len as usize];
                held.pinned.read(at, &mut bytes)?;
                Ok(chunk(bytes, known, pack))
            }
        }
    }

    /// Sees to it that the WAL does not grow without bound for this: call it between chunks, and from
    /// time to time when none is asked for. Whether it has more to do at once.
    ///
    /// # Errors
    /// The copy cannot be copied aside.
    pub fn tend(&mut self) -> Result<bool, Fault> {
        let Source::Held(held) = &mut self.source else { return Ok(false) };
        let Held { pinned, dir, aside } = held.as_mut();
        let file = match aside {
            Some(file) => file,
            None => {
                let in_wal = pinned.wal_bytes()?;
                if in_wal < self.wal_bytes {
                    self.wal_bytes = 0;
                }
                if in_wal - self.wal_bytes <= self.grows_max {
                    return Ok(false);
                }
                aside.insert(Outgoing::begin(dir.clone(), pinned.position())?)
            }
        };
        let left = usize::try_from(pinned.bytes() - file.bytes()).unwrap_or(usize::MAX);
        let mut part = vec![0; left.min(ASIDE_BYTES)];
        pinned.read(file.bytes(), &mut part)?;
        file.add(&part)?;
        if file.bytes() < pinned.bytes() {
            return Ok(true);
        }
        if let Some(file) = aside.take() {
            self.source = Source::File(file);
        }
        Ok(false)
    }

    /// Whether the live copy is held for it.
    #[cfg(test)]
    pub(super) fn holds(&self) -> bool {
        matches!(self.source, Source::Held(_))
    }

    /// Lets the WAL grow for so long only.
    #[cfg(test)]
    pub(super) fn bound_wal(&mut self, bytes: u64) {
        self.grows_max = bytes;
    }
}
