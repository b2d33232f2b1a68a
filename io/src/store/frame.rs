//! The two things a segment is made of: one header, then *frames*, all in blocks of 4 KiB.
//!
//! A frame is what one write and one sync make durable. It begins on a block, so that writing it
//! never rewrites a block that was synced before, and so that frames are found again behind an
//! unreadable one. Its header says where it is (segment, random salt of the segment, offset), so
//! that no copy of it, stale or inside somebody's data, is ever taken for a frame.
//!
//! ```text
//! segment header (block 0)            frame
//!   0 magic   "QRTSEG\0\1"              0 magic   "QFR1"
//!   8 crc32c  of all that follows       4 crc32c  of the header behind it
//!  12 flags   1: holds a checkpoint     8 crc32c  of the payload
//!  16 number                           12 payload bytes
//!  24 salt                             16 header bytes
//!  32 first frame                      20 flags   1 seal, 2 continues, 4 identity, 8 everything, 16 peers
//!  40 frames it was born with          24 segment number
//!  48 salt of the segment before       32 offset in the segment
//!  56 size at birth                    40 number of the frame
//!  64 node id, 16 bytes                48 frames below this number were synced before
//!                                      56 salt of the segment
//!                                      64 the logs it changes, 8 bytes each
//! ```
//! All numbers are little-endian.

use quorate_core::{LogId, NodeId};

use super::item::Touched;

/// Everything begins at a multiple of this.
pub(super) const BLOCK: u64 = 4096;
const BLOCK_BYTES: usize = 4096;

const SEGMENT_MAGIC: [u8; 8] = *b"QRTSEG\0\x01";
const SEGMENT_HEADER_BYTES: usize = 80;
const FRAME_MAGIC: [u8; 4] = *b"QFR1";
const FRAME_HEADER_BYTES: usize = 64;
/// More logs than this in one frame are written as "everything".
const TOUCHED_MAX: usize = 128;

const FLAG_CHECKPOINT: u32 = 1;
const FLAG_SEAL: u32 = 1;
const FLAG_CONTINUES: u32 = 2;
const FLAG_IDENTITY: u32 = 4;
const FLAG_EVERYTHING: u32 = 8;
const FLAG_PEERS: u32 = 16;

/// The first block of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SegmentHeader {
    /// Consecutive; names the file too.
    pub(super) number: u64,
    /// Random, so that nothing of another segment passes for a frame of this one.
    pub(super) salt: u64,
    /// The number of its first frame: all frames below were durable in the segments before.
    pub(super) first_frame: u64,
    /// So many frames were synced before the segment got its name.
    pub(super) born_with: u64,
    /// The salt of the segment before; 0 for the first.
    pub(super) previous_salt: u64,
    /// The size of the file when it got its name, in bytes; it never shrinks.
    pub(super) size: u64,
    /// The frames it was born with hold the whole state: nothing before it is needed.
    pub(super) checkpoint: bool,
    /// Whose log this is.
    pub(super) node: NodeId,
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(BLOCK_BYTES);
        out.extend_from_slice(&SEGMENT_MAGIC);
        out.extend_from_slice(&[0; 4]);
        let flags = if self.checkpoint { FLAG_CHECKPOINT } else { 0 };
        out.extend_from_slice(&flags.to_le_bytes());
        for field in [
            self.number,
            self.salt,
            self.first_frame,
            self.born_with,
            self.previous_salt,
            self.size,
        ] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        out.extend_from_slice(&self.node.0.to_le_bytes());
        debug_assert_eq!(out.len(), SEGMENT_HEADER_BYTES);
        let crc = crc32c::crc32c(&out[12..]);
        out[8..12].copy_from_slice(&crc.to_le_bytes());
        out.resize(BLOCK_BYTES, 0);
        out
    }

    /// `None` if the block is not a segment header, or was changed.
    pub(super) fn decode(block: &[u8]) -> Option<Self> {
        let bytes = block.get(..SEGMENT_HEADER_BYTES)?;
        let sound = bytes[..8] == SEGMENT_MAGIC && crc32c::crc32c(&bytes[12..]) == u32_at(bytes, 8);
        let node = u128::from_le_bytes(bytes.get(64..80)?.try_into().ok()?);
        sound.then(|| Self {
            number: u64_at(bytes, 16),
            salt: u64_at(bytes, 24),
            first_frame: u64_at(bytes, 32),
            born_with: u64_at(bytes, 40),
            previous_salt: u64_at(bytes, 48),
            size: u64_at(bytes, 56),
            checkpoint: u32_at(bytes, 12) & FLAG_CHECKPOINT != 0,
            node: NodeId(node),
        })
    }
}

/// What a frame is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// It carries batches.
    Data,
    /// It carries nothing, stands where the next frame will, and says that all before it was
    /// synced. `continues`: a later segment exists, durably.
    Seal { continues: bool },
}

/// The header of a frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct FrameHeader {
    pub(super) kind: Kind,
    pub(super) segment: u64,
    pub(super) salt: u64,
    /// Its own position in the segment, in bytes.
    pub(super) offset: u64,
    /// Consecutive over all segments.
    pub(super) number: u64,
    /// When this was written, all frames with a smaller number than this had been synced.
    pub(super) synced: u64,
    /// What is lost with it.
    pub(super) touched: Touched,
    pub(super) payload_crc: u32,
    pub(super) payload_bytes: u32,
    /// Where the payload begins, from the start of the frame.
    pub(super) header_bytes: u32,
}

impl FrameHeader {
    /// How far the next frame is, in bytes.
    pub(super) fn stride(&self) -> u64 {
        (u64::from(self.header_bytes) + u64::from(self.payload_bytes)).next_multiple_of(BLOCK)
    }

    /// Reads the header that stands at `offset` of the segment's bytes. `None`: there is none, or
    /// it does not belong there.
    pub(super) fn decode(segment: &SegmentHeader, bytes: &[u8], offset: u64) -> Option<Self> {
        let frame = bytes.get(usize::try_from(offset).ok()?..)?;
        let fixed = frame.get(..FRAME_HEADER_BYTES)?;
        if fixed[..4] != FRAME_MAGIC {
            return None;
        }
        let header_bytes = u32_at(fixed, 16);
        let header = frame.get(..usize::try_from(header_bytes).ok()?)?;
        let listed = header.len().checked_sub(FRAME_HEADER_BYTES)?;
        if listed > TOUCHED_MAX * 8
            || listed % 8 != 0
            || crc32c::crc32c(&header[8..]) != u32_at(fixed, 4)
        {
            return None;
        }
        let flags = u32_at(fixed, 20);
        let logs = header[FRAME_HEADER_BYTES..].chunks_exact(8).map(|c| LogId(u64_at(c, 0)));
        let found = Self {
            kind: if flags & FLAG_SEAL == 0 {
                Kind::Data
            } else {
                Kind::Seal { continues: flags & FLAG_CONTINUES != 0 }
            },
            segment: u64_at(fixed, 24),
            salt: u64_at(fixed, 56),
            offset: u64_at(fixed, 32),
            number: u64_at(fixed, 40),
            synced: u64_at(fixed, 48),
            touched: Touched {
                identity: flags & FLAG_IDENTITY != 0,
                everything: flags & FLAG_EVERYTHING != 0,
                peers: flags & FLAG_PEERS != 0,
                logs: logs.collect(),
            },
            payload_crc: u32_at(fixed, 8),
            payload_bytes: u32_at(fixed, 12),
            header_bytes,
        };
        let here = found.segment == segment.number && found.salt == segment.salt;
        (here && found.offset == offset).then_some(found)
    }

    /// The payload behind this header, if it is whole and unchanged.
    pub(super) fn payload<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let start = usize::try_from(self.offset + u64::from(self.header_bytes)).ok()?;
        let end = start.checked_add(usize::try_from(self.payload_bytes).ok()?)?;
        let payload = bytes.get(start..end)?;
        (crc32c::crc32c(payload) == self.payload_crc).then_some(payload)
    }
}

/// Where a frame is to stand and what it is to say of the frames before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position {
    pub(super) segment: u64,
    pub(super) salt: u64,
    pub(super) offset: u64,
    pub(super) number: u64,
    pub(super) synced: u64,
}

/// Bytes that a frame of so much payload takes at most.
pub(super) fn frame_bytes_max(payload: usize) -> u64 {
    (payload as u64 + (FRAME_HEADER_BYTES + TOUCHED_MAX * 8) as u64).next_multiple_of(BLOCK)
}

/// Writes a frame into `out` (cleared first), padded to whole blocks. Returns where its payload
/// begins in it. The payload must be below 4 GiB.
pub(super) fn encode_frame(
    out: &mut Vec<u8>,
    at: Position,
    kind: Kind,
    touched: &Touched,
    payload: &[u8],
) -> u64 {
    debug_assert!(at.offset.is_multiple_of(BLOCK) && at.synced <= at.number);
    let listed = touched.logs.len() <= TOUCHED_MAX;
    let mut flags = match kind {
        Kind::Data => 0,
        Kind::Seal { continues: false } => FLAG_SEAL,
        Kind::Seal { continues: true } => FLAG_SEAL | FLAG_CONTINUES,
    };
    flags |= if touched.identity { FLAG_IDENTITY } else { 0 };
    flags |= if touched.everything || !listed { FLAG_EVERYTHING } else { 0 };
    flags |= if touched.peers { FLAG_PEERS } else { 0 };
    let logs = if listed { touched.logs.len() } else { 0 };
    let header_bytes = FRAME_HEADER_BYTES + 8 * logs;
    out.clear();
    out.extend_from_slice(&FRAME_MAGIC);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&crc32c::crc32c(payload).to_le_bytes());
    for field in [payload.len(), header_bytes] {
        out.extend_from_slice(&u32::try_from(field).unwrap_or(u32::MAX).to_le_bytes());
    }
    out.extend_from_slice(&flags.to_le_bytes());
    for field in [at.segment, at.offset, at.number, at.synced, at.salt] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    for log in touched.logs.iter().take(logs) {
        out.extend_from_slice(&log.0.to_le_bytes());
    }
    debug_assert_eq!(out.len(), header_bytes);
    let crc = crc32c::crc32c(&out[8..]);
    out[4..8].copy_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(payload);
    out.resize(out.len().next_multiple_of(BLOCK_BYTES), 0);
    header_bytes as u64
}

/// Callers have checked that the bytes are there.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut field = [0; 4];
    field.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(field)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut field = [0; 8];
    field.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(field)
}
