//! A copy that comes from another server, chunk by chunk.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::{Builder, JoinHandle};

use quorate_core::copies::{ChunkData, ChunkHash, FileShape};
use quorate_core::engine::{Engine as _, Fault, Position};
use quorate_core::shard::StageId;
use quorate_core::{Generation, LogId};

use super::{FILE, Files, INCOMING, make_dir, remove_dir, rename, room, sync};
use crate::engine::{SqliteEngine, io_fault};

/// So many bytes are written before the system is asked to bring them to the disk: the end has less
/// to wait for then, and others who write to that disk are not held up by all of it at once.
const FLUSH_BYTES: u64 = 8 * 1024 * 1024;

/// A file on its way.
#[derive(Debug)]
pub struct Incoming {
    files: Files,
    log: LogId,
    dir: PathBuf,
    path: PathBuf,
    file: File,
    unflushed: u64,
    flusher: Flusher,
}

/// Brings a file to the disk while it is written.
#[derive(Debug)]
struct Flusher {
    due: mpsc::SyncSender<()>,
    thread: JoinHandle<std::io::Result<()>>,
}

impl Flusher {
    fn start(file: &File) -> std::io::Result<Self> {
        let file = file.try_clone()?;
        let (due, asked) = mpsc::sync_channel(1);
        let work = move || {
            while asked.recv().is_ok() {
                file.sync_data()?;
            }
            Ok(())
        };
        let thread = Builder::new().name("a copy is flushed".to_owned()).spawn(work)?;
        Ok(Self { due, thread })
    }

    fn flush(&self) {
        // One that is still at it takes this with it, or the next one does.
        let _ = self.due.try_send(());
    }

    /// Waits for what is under way. The system tells of a failure only once: whoever was told has to
    /// pass it on, for the sync at the end may find everything well.
    fn end(self) -> std::io::Result<()> {
        drop(self.due);
        let panicked = |_| Err(std::io::Error::other("the flushing thread has panicked"));
        self.thread.join().unwrap_or_else(panicked)
    }
}

impl Incoming {
    /// Goes on with what lies there, or begins. Also answers the hashes of the chunks that are there.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub fn begin(
        files: &Files,
        log: LogId,
        shape: FileShape,
    ) -> Result<(Self, Vec<ChunkHash>), Fault> {
        Self::begin_in(files, log, files.shard(log).join(INCOMING), shape)
    }

    /// As [`Incoming::begin`], for a file that is to be staged.
    ///
    /// # Errors
    /// See there.
    pub fn begin_stage(
        files: &Files,
        log: LogId,
        stage: StageId,
        shape: FileShape,
    ) -> Result<(Self, Vec<ChunkHash>), Fault> {
        Self::begin_in(files, log, files.staging(log, stage), shape)
    }

    fn begin_in(
        files: &Files,
        log: LogId,
        dir: PathBuf,
        shape: FileShape,
    ) -> Result<(Self, Vec<ChunkHash>), Fault> {
        make_dir(&dir)?;
        let path = dir.join(FILE);
        let mut open = OpenOptions::new();
        open.read(true).write(true).create(true).truncate(false);
        let file = open.open(&path).map_err(|error| io_fault(&path, &error))?;
        let held = file.metadata().map_err(|error| io_fault(&path, &error))?.len();
        room::check(&dir, shape.bytes.saturating_sub(held))?;
        let flusher = Flusher::start(&file).map_err(|error| io_fault(&path, &error))?;
        let begun = Self { files: files.clone(), log, dir, path, file, unflushed: 0, flusher };
        let known = begun.known(shape)?;
        Ok((begun, known))
    }

    fn known(&self, shape: FileShape) -> Result<Vec<ChunkHash>, Fault> {
        let fault = |error: std::io::Error| io_fault(&self.path, &error);
        let held = self.file.metadata().map_err(fault)?.len();
        if held > shape.bytes {
            self.file.set_len(shape.bytes).map_err(fault)?;
        }
        let mut buffer = vec![0; shape.chunk as usize];
        let mut known = Vec::new();
        for chunk in 0..shape.chunks() {
            let (at, len) = shape.place(chunk);
            if at + u64::from(len) > held {
                break;
            }
            let part = &mut buffer[..len as usize];
            self.file.read_exact_at(part, at).map_err(fault)?;
            known.push(*blake3::hash(part).as_bytes());
        }
        Ok(known)
    }

    /// Writes a chunk if it is what its hash says.
    ///
    /// # Errors
    /// [`Fault::Corrupt`]: it is not. Others: it cannot be written.
    pub fn write(
        &mut self,
        at: u64,
        len: u32,
        hash: ChunkHash,
        data: &ChunkData,
    ) -> Result<(), Fault> {
        let unpacked;
        let bytes: &[u8] = match data {
            ChunkData::Plain(bytes) => bytes,
            ChunkData::Packed(bytes) => {
                let done = zstd::bulk::decompress(bytes, len as usize);
                unpacked =
                    done.map_err(|error| broken(&format!("it cannot be unpacked: {error}")))?;
                &unpacked
            }
            ChunkData::Same => return Err(broken("it has no content")),
        };
        if bytes.len() != len as usize || *blake3::hash(bytes).as_bytes() != hash {
            return Err(broken("it is not what its hash says"));
        }
        // Others write to the same disk: what there was room for at the beginning may be theirs.
        room::check(&self.dir, u64::from(len))?;
        self.file.write_all_at(bytes, at).map_err(|error| io_fault(&self.path, &error))?;
        self.unflushed += u64::from(len);
        if self.unflushed >= FLUSH_BYTES {
            self.unflushed = 0;
            self.flusher.flush();
        }
        Ok(())
    }

    /// Makes the file durable, checks that it is a copy at this position, and gives it its place.
    ///
    /// # Errors
    /// [`Fault::Corrupt`]: it is no such copy, and is gone. Others: it stays to go on with.
    pub fn finish(self, bytes: u64, at: Position, to: Generation) -> Result<(), Fault> {
        let Self { files, log, dir, path, file, flusher, .. } = self;
        flusher.end().map_err(|error| io_fault(&path, &error))?;
        file.sync_all().map_err(|error| io_fault(&path, &error))?;
        drop(file);
        let checked = check(&path, bytes, at);
        if let Err(fault @ Fault::Corrupt(_)) = checked {
            remove_dir(&dir)?;
            return Err(fault);
        }
        checked?;
        sync(&path)?;
        sync(&dir)?;
        let place = files.shard(log).join(to.to_string());
        // It was never named, or it would be the live one, which this is to come after.
        remove_dir(&place)?;
        rename(&dir, &place)?;
        sync(&files.shard(log))
    }

    /// Makes the file durable, checks that it has the form of a copy, and keeps it as a stage.
    ///
    /// # Errors
    /// It has not, and is gone; or it cannot be read or written.
    pub fn finish_stage(self, bytes: u64, stage: StageId) -> Result<(), Fault> {
        let Self { files, log, path, file, .. } = self;
        file.sync_all().map_err(|error| io_fault(&path, &error))?;
        drop(file);
        check_length(&path, bytes)?;
        files.keep_stage(log, stage)
    }
}

/// Opens the file as a copy.
fn check(path: &std::path::Path, bytes: u64, at: Position) -> Result<(), Fault> {
    check_length(path, bytes)?;
    let position = SqliteEngine::open(path)?.position();
    if position != at {
        let (is, should) = (position.index, at.index);
        return Err(Fault::Corrupt(format!("it is at entry {is} instead of {should}")));
    }
    Ok(())
}

fn check_length(path: &std::path::Path, bytes: u64) -> Result<(), Fault> {
    let held = path.metadata().map_err(|error| io_fault(path, &error))?.len();
    match held == bytes {
        true => Ok(()),
        false => Err(Fault::Corrupt(format!("it has {held} bytes instead of {bytes}"))),
    }
}

fn broken(what: &str) -> Fault {
    Fault::Corrupt(format!("a chunk that came is broken: {what}"))
}
