//! Batches of [`StorageOp`]s as bytes: a row of *items*, each with its length and checksum.
//!
//! An entry is an item of its own, so that it can be read back later by where it lies; every
//! other operation is one item whole. Each item is `length u32 | crc32c u32 | postcard bytes`,
//! little-endian, the length and the checksum being those of the postcard bytes.

use std::collections::BTreeSet;

use quorate_core::raft::{Entry, Index, Payload, Snapshot};
use quorate_core::{Generation, HardState, Identity, LogId, NodeId, Start, StorageOp, Term};
use serde::{Deserialize, Serialize};

/// Bytes before the body of an item.
pub(super) const ITEM_HEADER_BYTES: usize = 8;

/// What is written; [`Item`] is what is read. Both must have the same shape.
#[derive(Serialize)]
enum ItemRef<'a> {
    Op(&'a StorageOp),
    Entry(LogId, &'a Entry),
    Carried(LogId, &'a Entry),
    Checkpoint(&'a Checkpoint),
}

#[derive(Deserialize)]
enum Item {
    Op(StorageOp),
    Entry(LogId, Entry),
    Carried(LogId, Entry),
    Checkpoint(Checkpoint),
}

/// An older segment that is still needed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) number: u64,
    pub(super) salt: u64,
    /// The number of the frame after its last.
    pub(super) end: u64,
}

/// What a checkpoint says first: all that is not in it and not in the segments that it keeps is over.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    /// The segments before this one that hold entries which are not carried over, oldest first.
    pub(super) kept: Vec<Kept>,
    /// The logs there are, and the last entry of each; the index of its snapshot, if it has none.
    pub(super) logs: Vec<(LogId, Index)>,
}

/// Where an item lies in the bytes of its batch or frame: `at` is its header's first byte, `len`
/// counts header and body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Span {
    pub(super) at: u64,
    pub(super) len: u32,
}

/// What an item does to the state, big content left where it lies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Change {
    Identity(Box<Identity>),
    PeerStart(NodeId, Start),
    HardState(LogId, HardState),
    /// One entry, as if appended alone.
    Entry(LogId, Mark, Span),
    /// One entry lies here too, and what is behind it stays.
    Carried(LogId, Mark, Span),
    /// What is not named in it is over.
    Checkpoint(Checkpoint),
    /// An append of nothing: the log exists from here on.
    Touch(LogId),
    Truncate(LogId, Index),
    Snapshot {
        log: LogId,
        index: Index,
        reset: bool,
        span: Span,
    },
    Copy(LogId, Generation),
    DropLog(LogId),
}

/// An entry but for its payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Mark {
    pub(super) index: Index,
    pub(super) term: Term,
    /// It brings a membership in force.
    pub(super) membership: bool,
}

impl Mark {
    pub(super) fn of(entry: &Entry) -> Self {
        let membership = matches!(entry.payload, Payload::Membership(_));
        Self { index: entry.index, term: entry.term, membership }
    }
}

/// Which parts of the state a batch or frame changes: what is lost if it is lost.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Touched {
    /// The identity is among it.
    pub(super) identity: bool,
    /// Not known, or too much to list.
    pub(super) everything: bool,
    /// The remembered start of a peer is among it.
    pub(super) peers: bool,
    /// These logs.
    pub(super) logs: BTreeSet<LogId>,
}

impl Touched {
    /// Whatever there is.
    pub(super) fn unknown() -> Self {
        Self { identity: true, everything: true, peers: true, logs: BTreeSet::new() }
    }

    pub(super) fn note(&mut self, change: &Change) {
        match change {
            Change::Identity(_) => self.identity = true,
            Change::PeerStart(..) => self.peers = true,
            // Without it nothing of what follows can be told.
            Change::Checkpoint(_) => *self = Self::unknown(),
            Change::HardState(log, _)
            | Change::Entry(log, ..)
            | Change::Carried(log, ..)
            | Change::Touch(log)
            | Change::Truncate(log, _)
            | Change::Snapshot { log, .. }
            | Change::Copy(log, _)
            | Change::DropLog(log) => {
                self.logs.insert(*log);
            }
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.identity |= other.identity;
        self.everything |= other.everything;
        self.peers |= other.peers;
        self.logs.extend(other.logs.iter().copied());
    }
}

/// Operations made ready to be written.
#[derive(Default, Debug)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) changes: Vec<Change>,
    pub(super) touched: Touched,
}

impl Batch {
    /// The most bytes of one batch: 1 GiB, far above anything that core hands out.
    pub(super) const BYTES_MAX: usize = 1 << 30;

    /// Encodes operations. The error says which rule of [`StorageOp`] they break.
    pub(super) fn encode(ops: &[StorageOp]) -> Result<Self, &'static str> {
        let mut batch = Self::default();
        for op in ops {
            match op {
                StorageOp::Append { log, entries } if !entries.is_empty() => {
                    if entries.windows(2).any(|pair| pair[1].index != pair[0].index.next()) {
                        return Err("the entries of an append are not consecutive");
                    }
                    for entry in entries {
                        let span = batch.push(&ItemRef::Entry(*log, entry))?;
                        batch.note(Change::Entry(*log, Mark::of(entry), span));
                    }
                }
                _ => {
                    let span = batch.push(&ItemRef::Op(op))?;
                    batch.note(change_of(op.clone(), span));
                }
            }
        }
        Ok(batch)
    }

    /// Adds what a checkpoint says first.
    pub(super) fn push_checkpoint(&mut self, checkpoint: Checkpoint) -> Result<(), &'static str> {
        self.push(&ItemRef::Checkpoint(&checkpoint))?;
        self.note(Change::Checkpoint(checkpoint));
        Ok(())
    }

    /// Adds an entry that lies in an older segment, so that it is here too.
    pub(super) fn push_carried(&mut self, log: LogId, entry: &Entry) -> Result<(), &'static str> {
        let span = self.push(&ItemRef::Carried(log, entry))?;
        self.note(Change::Carried(log, Mark::of(entry), span));
        Ok(())
    }

    /// Empties it; the memory is kept.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.changes.clear();
        self.touched = Touched::default();
    }

    /// Adds another batch behind this one.
    pub(super) fn extend(&mut self, other: &Self) {
        let base = self.bytes.len() as u64;
        self.bytes.extend_from_slice(&other.bytes);
        self.changes.extend(other.changes.iter().map(|change| change.shifted(base)));
        self.touched.merge(&other.touched);
    }

    fn note(&mut self, change: Change) {
        self.touched.note(&change);
        self.changes.push(change);
    }

    fn push(&mut self, item: &ItemRef<'_>) -> Result<Span, &'static str> {
        let at = self.bytes.len();
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.extend_from_slice(&[0; ITEM_HEADER_BYTES]);
        bytes = postcard::to_extend(item, bytes).map_err(|_| "it cannot be encoded")?;
        let body = &bytes[at + ITEM_HEADER_BYTES..];
        let crc = crc32c::crc32c(body);
        let length = u32::try_from(body.len()).map_err(|_| "it is too large")?;
        bytes[at..at + 4].copy_from_slice(&length.to_le_bytes());
        bytes[at + 4..at + 8].copy_from_slice(&crc.to_le_bytes());
        self.bytes = bytes;
        if self.bytes.len() > Self::BYTES_MAX {
            return Err("it is too large");
        }
        let len = u32::try_from(self.bytes.len() - at).map_err(|_| "it is too large")?;
        Ok(Span { at: at as u64, len })
    }
}

impl Change {
    fn shifted(&self, base: u64) -> Self {
        let moved = |span: &Span| Span { at: span.at + base, len: span.len };
        match self {
            Self::Entry(log, mark, span) => Self::Entry(*log, *mark, moved(span)),
            Self::Carried(log, mark, span) => Self::Carried(*log, *mark, moved(span)),
            Self::Snapshot { log, index, reset, span } => {
                Self::Snapshot { log: *log, index: *index, reset: *reset, span: moved(span) }
            }
            other => other.clone(),
        }
    }
}

fn change_of(op: StorageOp, span: Span) -> Change {
    match op {
        StorageOp::Identity(identity) => Change::Identity(Box::new(identity)),
        StorageOp::PeerStart { peer, start } => Change::PeerStart(peer, start),
        StorageOp::HardState { log, state } => Change::HardState(log, state),
        StorageOp::Append { log, .. } => Change::Touch(log),
        StorageOp::Truncate { log, from } => Change::Truncate(log, from),
        StorageOp::Snapshot { log, snapshot, reset } => {
            Change::Snapshot { log, index: snapshot.index, reset, span }
        }
        StorageOp::Copy { log, generation } => Change::Copy(log, generation),
        StorageOp::DropLog { log } => Change::DropLog(log),
    }
}

/// Splits the item at the start of `bytes` off: its body, and how many bytes it takes. `None` if
/// it is cut short or its checksum fails.
fn split_item(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let length = u32::from_le_bytes(bytes.get(0..4)?.try_into().ok()?);
    let crc = u32::from_le_bytes(bytes.get(4..8)?.try_into().ok()?);
    let end = ITEM_HEADER_BYTES.checked_add(usize::try_from(length).ok()?)?;
    let body = bytes.get(ITEM_HEADER_BYTES..end)?;
    (crc32c::crc32c(body) == crc).then_some((body, end))
}

/// Decodes the items of a frame's payload; `None` if anything in it is not as it was written.
pub(super) fn decode_changes(payload: &[u8]) -> Option<Vec<Change>> {
    let mut changes = Vec::new();
    let mut at = 0;
    while at < payload.len() {
        let (body, len) = split_item(&payload[at..])?;
        let span = Span { at: at as u64, len: u32::try_from(len).ok()? };
        let change = match postcard::take_from_bytes::<Item>(body) {
            Ok((Item::Op(op), [])) => match op {
                // Never written: such appends are written entry by entry.
                StorageOp::Append { ref entries, .. } if !entries.is_empty() => return None,
                op => change_of(op, span),
            },
            Ok((Item::Entry(log, entry), [])) => Change::Entry(log, Mark::of(&entry), span),
            Ok((Item::Carried(log, entry), [])) => Change::Carried(log, Mark::of(&entry), span),
            Ok((Item::Checkpoint(checkpoint), [])) => Change::Checkpoint(checkpoint),
            _ => return None,
        };
        changes.push(change);
        at += len;
    }
    Some(changes)
}

/// Reads an entry back from its item.
pub(super) fn decode_entry(item: &[u8]) -> Option<(LogId, Entry)> {
    let (body, len) = split_item(item)?;
    match postcard::take_from_bytes::<Item>(body) {
        Ok((Item::Entry(log, entry) | Item::Carried(log, entry), [])) if len == item.len() => {
            Some((log, entry))
        }
        _ => None,
    }
}

/// Reads a snapshot back from its item.
pub(super) fn decode_snapshot(item: &[u8]) -> Option<(LogId, Snapshot)> {
    let (body, len) = split_item(item)?;
    match postcard::take_from_bytes::<Item>(body) {
        Ok((Item::Op(StorageOp::Snapshot { log, snapshot, .. }), [])) if len == item.len() => {
            Some((log, snapshot))
        }
        _ => None,
    }
}
