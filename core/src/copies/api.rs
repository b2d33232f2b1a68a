//! Messages between the two ends of a transfer, and calls to the files at each.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::configuration::Origin;
use crate::engine::{Fault, Note, Position};
use crate::ids::{Generation, Index, NodeId, Term};
use crate::raft::Snapshot;
use crate::shard::{StageId, Upload};

/// BLAKE3 of a chunk as it is in the file.
pub type ChunkHash = [u8; 32];

/// A file in chunks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FileShape {
    /// How long it is.
    pub bytes: u64,
    /// How long a chunk is, but for the last one; from 1 to [`FileShape::CHUNK_MAX`].
    pub chunk: u32,
}

impl FileShape {
    /// The longest chunk: a few of them on a link do not keep the messages of the logs waiting for
    /// long.
    pub const CHUNK_MAX: u32 = 1024 * 1024;

    /// Whether it can be: not empty, its chunks within bounds, and no more of them than a number has
    /// room for.
    #[must_use]
    pub fn is_sound(self) -> bool {
        let sound = self.bytes > 0 && (1..=Self::CHUNK_MAX).contains(&self.chunk);
        sound && self.bytes.div_ceil(u64::from(self.chunk)) < u64::from(u32::MAX)
    }

    /// How many chunks it has.
    #[must_use]
    pub fn chunks(self) -> u32 {
        u32::try_from(self.bytes.div_ceil(u64::from(self.chunk.max(1)))).unwrap_or(u32::MAX)
    }

    /// Where chunk number `chunk` lies, and how long it is.
    #[must_use]
    pub fn place(self, chunk: u32) -> (u64, u32) {
        let at = u64::from(chunk) * u64::from(self.chunk);
        let left = self.bytes.saturating_sub(at);
        (at, u32::try_from(left).unwrap_or(u32::MAX).min(self.chunk))
    }
}

/// A chunk on its way.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ChunkData {
    /// The receiver has it already: the hashes are equal.
    Same,
    /// As it is in the file.
    Plain(Bytes),
    /// Compressed with zstd.
    Packed(Bytes),
}

/// Why a donor does not serve.
#[derive(Clone, PartialEq, Eq, Debug, Error, Serialize, Deserialize)]
pub enum CopyRefusal {
    /// It holds no copy of that shard that serves.
    #[error("it has no copy that serves")]
    NoCopy,
    /// Its copy is not as far as is needed.
    #[error("its copy is at entry {held}, and entry {needed} is needed")]
    Behind {
        /// How far it is.
        held: Index,
        /// How far it would have to be.
        needed: Index,
    },
    /// It serves as many as it does at one time.
    #[error("it serves as many transfers as it can")]
    Busy,
    /// It does not know of this transfer, or not any more.
    #[error("it does not know of the transfer")]
    Unknown,
    /// Its files failed.
    #[error("{0}")]
    Failed(String),
}

/// What the two ends of a transfer say. The receiver names the transfer; `transfer` is unique for it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum CopyMessage {
    /// Receiver: give me your copy.
    Ask {
        /// How the receiver calls it.
        transfer: u64,
        /// What it must hold at least.
        at_least: Index,
    },
    /// Donor: the snapshot is being made. Repeated, so that it is known to be alive.
    Preparing {
        /// Of which transfer.
        transfer: u64,
    },
    /// Donor: this is what there is to fetch.
    Offer {
        /// Of which transfer.
        transfer: u64,
        /// The position of the content, with the membership there.
        base: Box<Snapshot>,
        /// The file.
        shape: FileShape,
    },
    /// Donor: no.
    Refused {
        /// Of which transfer.
        transfer: u64,
        /// Why.
        reason: CopyRefusal,
    },
    /// Receiver: the next chunk.
    Fetch {
        /// Of which transfer.
        transfer: u64,
        /// Which.
        chunk: u32,
        /// The hash of what the receiver has in its place.
        known: Option<ChunkHash>,
        /// Whether it may be compressed: the link is slower than compressing.
        pack: bool,
    },
    /// Donor: a chunk.
    Chunk {
        /// Of which transfer.
        transfer: u64,
        /// Which.
        chunk: u32,
        /// Of the chunk as it is in the file.
        hash: ChunkHash,
        /// The content.
        data: ChunkData,
    },
    /// Receiver: it has all that it needs, or needs it no more.
    End {
        /// Which transfer.
        transfer: u64,
    },
    /// Receiver to the leader of the log: keep the entries after this one for a while.
    Hold {
        /// The last entry that is not needed.
        after: Index,
    },
    /// Receiver: give me the file that was handed to you.
    AskUpload {
        /// How the receiver calls it.
        transfer: u64,
        /// How the donor calls it.
        upload: u64,
    },
    /// The leader of the log: fetch this file, and keep it beside your copy.
    Stage {
        /// What to call it.
        stage: StageId,
        /// Where it is.
        upload: Upload,
    },
    /// To the leader: what has become of that.
    Staged {
        /// Which.
        stage: StageId,
        /// Why it is not there; `None`: it is, durably.
        failed: Option<String>,
    },
    /// The leader: no entry will ever name it.
    Unstage {
        /// Which.
        stage: StageId,
    },
}

/// Staged files that can go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unneeded {
    /// This one.
    One(StageId),
    /// Those of earlier terms.
    Before(Term),
}

/// What the files are to do. Calls of one log are carried out one after the other; reading for
/// others and receiving go on beside each other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CopyCall {
    /// Makes the live copy, as it is at one position, ready for reading: [`CopyAnswer::Exported`].
    Export {
        /// What to call it; unique for this process.
        export: u64,
        /// The live copy.
        live: Generation,
    },
    /// Opens a file that was handed to this node, for reading: [`CopyAnswer::Exported`], at no position.
    ExportUpload {
        /// What to call it; unique for this process, snapshots included.
        export: u64,
        /// Which file.
        upload: u64,
    },
    /// Reads a chunk of it: [`CopyAnswer::Read`].
    Read {
        /// Of which snapshot.
        export: u64,
        /// Where it begins.
        at: u64,
        /// How long it is.
        len: u32,
        /// If it has this hash it need not be given.
        known: Option<ChunkHash>,
        /// Compress it, if that makes it smaller.
        pack: bool,
    },
    /// Removes the snapshot. No answer.
    EndExport {
        /// Which.
        export: u64,
    },
    /// Makes ready to receive a file, keeping what lies there from earlier: [`CopyAnswer::Receiving`].
    Receive {
        /// For which transfer; repeated in the answers.
        transfer: u64,
        /// The file.
        shape: FileShape,
        /// To be staged as this; `None`: to be the live copy.
        stage: Option<StageId>,
    },
    /// Checks a chunk by its hash and writes it: [`CopyAnswer::Written`].
    Write {
        /// Of which transfer.
        transfer: u64,
        /// Where it begins; repeated in the answer.
        at: u64,
        /// How long it must be.
        len: u32,
        /// What it must be.
        hash: ChunkHash,
        /// Its content; never [`ChunkData::Same`].
        data: ChunkData,
    },
    /// All is there. Makes the file durable, checks that it is a copy at this position, gives it its
    /// place as this generation and makes that durable: [`CopyAnswer::Finished`]. Nothing that is
    /// there is touched, but a directory of that generation: it was never named.
    Finish {
        /// Of which transfer.
        transfer: u64,
        /// How long the file must be.
        bytes: u64,
        /// What it must hold.
        at: Position,
        /// Where it goes.
        generation: Generation,
    },
    /// All is there. Makes the file durable, checks that it can become a copy, and keeps it as this
    /// stage: [`CopyAnswer::Finished`].
    FinishStage {
        /// Of which transfer.
        transfer: u64,
        /// How long the file must be.
        bytes: u64,
        /// What it is to be called.
        stage: StageId,
    },
    /// Keeps a file that was handed to this node as this stage, durably: [`CopyAnswer::Staged`].
    StageOwn {
        /// What it is to be called.
        stage: StageId,
        /// Which file.
        upload: u64,
    },
    /// Gives a staged file its position, and its place as this generation, durably:
    /// [`CopyAnswer::Placed`]. The stage stays, for a restart that finds no record of the generation.
    Place {
        /// Which.
        stage: StageId,
        /// What it is to say that it holds.
        at: Position,
        /// All that it is to remember.
        notes: Vec<Note>,
        /// Where it goes.
        generation: Generation,
    },
    /// Takes what this machine held as another node, before its cluster dissolved, as a copy at this
    /// position, and gives it its place as this generation, durably: [`CopyAnswer::Imported`]. What it
    /// was taken from stays as it was. May be done again.
    Import {
        /// What it was there.
        origin: Origin,
        /// What it is to say that it holds.
        at: Position,
        /// All that it is to remember.
        notes: Vec<Note>,
        /// Where it goes.
        generation: Generation,
    },
    /// Removes staged files. No answer.
    Unstage(Unneeded),
    /// Puts everything but the live copy away: other generations to the backups, unless they were
    /// never whole, and what was received, unless that goes on. No answer.
    Tidy {
        /// The live copy; `None`: the shard is no more.
        live: Option<Generation>,
        /// Whether something is being received.
        receiving: bool,
        /// What the backup is called: database and shard.
        name: (String, String),
    },
}

/// The answer to a [`CopyCall`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CopyAnswer {
    /// The snapshot is there.
    Exported {
        /// Which.
        export: u64,
        /// What it holds.
        at: Position,
        /// How long it is.
        bytes: u64,
    },
    /// A chunk of it.
    Read {
        /// Of which snapshot.
        export: u64,
        /// Of the chunk as it is in the file.
        hash: ChunkHash,
        /// Its content, or that it is the same.
        data: ChunkData,
    },
    /// The snapshot cannot be made or read; it is gone.
    ExportFailed {
        /// Which.
        export: u64,
        /// Why.
        fault: Fault,
    },
    /// Ready; these are the hashes of the chunks that lie there, in order. There may be fewer than
    /// the file is to have.
    Receiving {
        /// For which transfer.
        transfer: u64,
        /// Chunk by chunk.
        known: Vec<ChunkHash>,
    },
    /// A chunk is written.
    Written {
        /// Of which transfer.
        transfer: u64,
        /// Where it begins.
        at: u64,
    },
    /// The new copy is in its place, durably.
    Finished {
        /// Of which transfer.
        transfer: u64,
    },
    /// A file of this node's own is staged, or cannot be.
    Staged {
        /// Which.
        stage: StageId,
        /// Why not.
        result: Result<(), Fault>,
    },
    /// A staged file is in its place, or cannot be.
    Placed {
        /// Which.
        stage: StageId,
        /// [`Fault::Missing`]: there is no such stage. [`Fault::Corrupt`]: it is of no use.
        result: Result<(), Fault>,
    },
    /// What was brought is in its place, or cannot be.
    Imported {
        /// [`Fault::Missing`]: it is not where it was put aside. [`Fault::Corrupt`]: it lacks something.
        result: Result<(), Fault>,
    },
    /// Receiving failed. What was written before may still be there.
    ReceiveFailed {
        /// Of which transfer.
        transfer: u64,
        /// Why. [`Fault::Corrupt`]: what was received is worth nothing, and is gone.
        fault: Fault,
    },
}

/// How far a transfer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CopyProgress {
    /// From whom.
    pub donor: NodeId,
    /// Bytes of the file that are there.
    pub done: u64,
    /// Bytes of the file; 0 while the donor makes it ready.
    pub total: u64,
    /// Bytes a second of late.
    pub rate: u64,
    /// Bytes that were there from an earlier attempt.
    pub kept: u64,
}

impl CopyProgress {
    /// Nothing yet.
    #[must_use]
    pub fn from(donor: NodeId) -> Self {
        Self { donor, done: 0, total: 0, rate: 0, kept: 0 }
    }

    /// Seconds that are left at this rate; `None` if that cannot be told yet.
    #[must_use]
    pub fn seconds_left(&self) -> Option<u64> {
        (self.total > 0 && self.rate > 0).then(|| (self.total - self.done).div_ceil(self.rate))
    }
}

/// What a node says of a copy of its own.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum CopyState {
    /// It is open and follows the log.
    Whole,
    /// It is opened, or opened again after a failure.
    Opening,
    /// It cannot go on from the log, and nothing is on its way; why.
    Lacking(String),
    /// A full copy is on its way.
    Receiving(CopyProgress),
}

/// What a node tells the others of a copy of its own.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CopyReport {
    /// Every entry up to here is in it.
    pub applied: Index,
    /// What it is.
    pub state: CopyState,
}
