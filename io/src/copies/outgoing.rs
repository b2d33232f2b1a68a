//! A snapshot of a copy, to be read by others.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use bytes::Bytes;
use quorate_core::copies::{ChunkData, ChunkHash};
use quorate_core::engine::{Fault, Position};
use quorate_core::{Generation, LogId};

use super::{FILE, Files, OUTGOING, make_dir, remove_dir};
use crate::engine::{io_fault, snapshot_unsynced};

/// The level of compression: the fastest that is worth it.
const LEVEL: i32 = 1;

/// A snapshot, removed when it is dropped; or a file that was handed to this node.
#[derive(Debug)]
pub struct Outgoing {
    dir: Option<PathBuf>,
    path: PathBuf,
    file: File,
    at: Position,
    bytes: u64,
}

impl Outgoing {
    /// Takes a snapshot of the live copy. Its writer goes on meanwhile.
    ///
    /// # Errors
    /// It cannot be read, or the snapshot cannot be written.
    pub fn take(
        files: &Files,
        log: LogId,
        live: Generation,
        export: u64,
        mut goes_on: impl FnMut() -> bool,
    ) -> Result<Self, Fault> {
        let dir = files.shard(log).join(format!("{OUTGOING}{export}"));
        remove_dir(&dir)?;
        make_dir(&dir)?;
        let path = dir.join(FILE);
        let taken = snapshot_unsynced(&files.copy(log, live), &path, |_| goes_on());
        let opened = taken.and_then(|at| {
            let file = File::open(&path).map_err(|error| io_fault(&path, &error))?;
            let bytes = file.metadata().map_err(|error| io_fault(&path, &error))?.len();
            Ok((at, file, bytes))
        });
        match opened {
            Ok((at, file, bytes)) => Ok(Self { dir: Some(dir), path, file, at, bytes }),
            Err(fault) => {
                // The fault is what counts; what stays is removed at the next start.
                let _ = remove_dir(&dir);
                Err(fault)
            }
        }
    }

    /// Opens a file that was handed to this node; it stays when this is dropped.
    ///
    /// # Errors
    /// It is not there any more, or cannot be read.
    pub fn of_upload(files: &Files, log: LogId, upload: u64) -> Result<Self, Fault> {
        let path = files.upload(log, upload);
        let file = File::open(&path).map_err(|error| io_fault(&path, &error))?;
        let bytes = file.metadata().map_err(|error| io_fault(&path, &error))?.len();
        Ok(Self { dir: None, path, file, at: Position::default(), bytes })
    }

    /// What it holds.
    #[must_use]
    pub fn position(&self) -> Position {
        self.at
    }

    /// How long it is.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
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
        let mut bytes = vec![0; len as usize];
        self.file.read_exact_at(&mut bytes, at).map_err(|error| io_fault(&self.path, &error))?;
        Ok(chunk(bytes, known, pack))
    }

    /// Begins a file that is to become what is at this position; parts of it are added.
    pub(super) fn begin(dir: PathBuf, at: Position) -> Result<Self, Fault> {
        remove_dir(&dir)?;
        make_dir(&dir)?;
        let path = dir.join(FILE);
        let mut options = File::options();
        let file = options.read(true).write(true).create_new(true).open(&path);
        let file = file.map_err(|error| io_fault(&path, &error))?;
        Ok(Self { dir: Some(dir), path, file, at, bytes: 0 })
    }

    /// Adds what comes next.
    pub(super) fn add(&mut self, part: &[u8]) -> Result<(), Fault> {
        let written = self.file.write_all_at(part, self.bytes);
        written.map_err(|error| io_fault(&self.path, &error))?;
        self.bytes += part.len() as u64;
        Ok(())
    }
}

/// A chunk as it travels.
pub(super) fn chunk(
    bytes: Vec<u8>,
    known: Option<ChunkHash>,
    pack: bool,
) -> (ChunkHash, ChunkData) {
    let hash = *blake3::hash(&bytes).as_bytes();
    if known == Some(hash) {
        return (hash, ChunkData::Same);
    }
    let packed = pack.then(|| zstd::bulk::compress(&bytes, LEVEL)).and_then(Result::ok);
    match packed.filter(|packed| packed.len() < bytes.len()) {
        Some(packed) => (hash, ChunkData::Packed(Bytes::from(packed))),
        None => (hash, ChunkData::Plain(Bytes::from(bytes))),
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        // What stays is removed at the next start.
        let _ = self.dir.as_deref().map(remove_dir);
    }
}
