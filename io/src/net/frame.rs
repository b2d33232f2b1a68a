//! Packets on a link: cut into records, sealed, and put together again.
//!
//! A link carries records: a length of two bytes (big endian) and so many sealed bytes. The
//! plaintext of all records, one after the other, is a stream of packets: a length of four bytes
//! and so many bytes. Small packets share a record; a long one spans several. Both lengths are
//! checked against their bounds before anything is kept for them.

use bytes::{Buf, Bytes, BytesMut};
use quorate_core::wire::PACKET_BYTES_MAX;
use thiserror::Error;

use super::handshake::session::{
    Opener, PLAIN_BYTES_MAX, RECORD_BYTES_MAX, Sealer, SessionError, TAG_BYTES,
};

/// The length before each record, in bytes.
pub const RECORD_HEAD_BYTES: usize = 2;
/// The length before each packet, in bytes.
pub const PACKET_HEAD_BYTES: usize = 4;
/// Room is made for so much of a packet before it has come.
const ROOM_BYTES_MAX: usize = 512 * 1024;

/// What came on a link is no stream of packets: close it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum FrameError {
    /// A record too short to hold anything.
    #[error("a record of {bytes} bytes, too short to hold anything")]
    RecordTooShort {
        /// Its length.
        bytes: usize,
    },
    /// A packet above the bound.
    #[error("a packet of {bytes} bytes; at most {PACKET_BYTES_MAX} are allowed")]
    PacketTooLong {
        /// The length it claims.
        bytes: usize,
    },
    /// It does not authenticate.
    #[error(transparent)]
    Session(#[from] SessionError),
}

/// Makes the bytes that go out.
pub struct FrameWriter {
    sealer: Sealer,
    /// Plaintext that does not fill a record yet.
    plain: Vec<u8>,
    /// Records to be written.
    out: Vec<u8>,
}

impl FrameWriter {
    /// For one direction of a link.
    #[must_use]
    pub fn new(sealer: Sealer) -> Self {
        Self { sealer, plain: Vec::new(), out: Vec::new() }
    }

    /// Adds a packet. Full records are sealed at once, the rest when [`FrameWriter::flush`] is
    /// called or enough has come together.
    ///
    /// # Errors
    /// [`FrameError::PacketTooLong`], before anything is written; [`FrameError::Session`].
    pub fn push(&mut self, packet: &[u8]) -> Result<(), FrameError> {
        let too_long = FrameError::PacketTooLong { bytes: packet.len() };
        if packet.len() > PACKET_BYTES_MAX {
            return Err(too_long);
        }
        let length = u32::try_from(packet.len()).map_err(|_| too_long)?;
        self.add(&length.to_be_bytes())?;
        self.add(packet)
    }

    fn add(&mut self, mut bytes: &[u8]) -> Result<(), FrameError> {
        while !bytes.is_empty() {
            if self.plain.is_empty()
                && let Some((record, later)) = bytes.split_at_checked(PLAIN_BYTES_MAX)
            {
                // A whole record at once need not be put together first.
                self.seal(record)?;
                bytes = later;
                continue;
            }
            let room = PLAIN_BYTES_MAX - self.plain.len();
            let (now, later) = bytes.split_at(bytes.len().min(room));
            self.plain.extend_from_slice(now);
            bytes = later;
            if self.plain.len() == PLAIN_BYTES_MAX {
                self.flush()?;
            }
        }
        debug_assert!(self.plain.len() < PLAIN_BYTES_MAX);
        Ok(())
    }

    /// Seals what is left into a last, shorter record.
    ///
    /// # Errors
    /// [`FrameError::Session`].
    pub fn flush(&mut self) -> Result<(), FrameError> {
        if self.plain.is_empty() {
            return Ok(());
        }
        let mut plain = std::mem::take(&mut self.plain);
        let sealed = self.seal(&plain);
        plain.clear();
        self.plain = plain;
        sealed
    }

    fn seal(&mut self, plain: &[u8]) -> Result<(), FrameError> {
        let sealed = plain.len() + TAG_BYTES;
        let Ok(length) = u16::try_from(sealed) else {
            unreachable!("a record of {sealed} bytes was cut above {RECORD_BYTES_MAX}")
        };
        self.out.extend_from_slice(&length.to_be_bytes());
        Ok(self.sealer.seal(plain, &mut self.out)?)
    }

    /// The records made so far.
    #[must_use]
    pub fn sealed(&self) -> &[u8] {
        &self.out
    }

    /// Makes room for the records of packets of so many bytes in all, so that they are not moved while
    /// they grow in number.
    pub fn reserve(&mut self, bytes: usize) {
        let records = bytes / PLAIN_BYTES_MAX + 1;
        let heads = records * (RECORD_HEAD_BYTES + TAG_BYTES);
        self.out.reserve(PACKET_HEAD_BYTES + bytes + heads);
    }

    /// Forgets the records made so far: they are written. Memory beyond `keep` bytes is returned.
    pub fn written(&mut self, keep: usize) {
        self.out.clear();
        self.out.shrink_to(keep);
    }
}

/// Reads the bytes that come in.
pub struct FrameReader {
    opener: Opener,
    /// Bytes as they came. Holds less than one record whenever all packets have been taken.
    sealed: BytesMut,
    packets: PacketReader,
}

impl FrameReader {
    /// For one direction of a link.
    #[must_use]
    pub fn new(opener: Opener) -> Self {
        Self { opener, sealed: BytesMut::new(), packets: PacketReader::default() }
    }

    /// Where bytes from the wire are to be appended. Take all packets before more are read.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.sealed
    }

    /// The next whole packet, if there is one.
    ///
    /// # Errors
    /// [`FrameError`]: nothing that comes on the link can be trusted any more.
    pub fn next_packet(&mut self) -> Result<Option<Bytes>, FrameError> {
        loop {
            if let Some(packet) = self.packets.next_packet()? {
                return Ok(Some(packet));
            }
            if !self.open_record()? {
                return Ok(None);
            }
        }
    }

    fn open_record(&mut self) -> Result<bool, FrameError> {
        let Some(head) = self.sealed.first_chunk::<RECORD_HEAD_BYTES>() else { return Ok(false) };
        let length = usize::from(u16::from_be_bytes(*head));
        // An empty record would be work for nothing, without end.
        if length <= TAG_BYTES {
            return Err(FrameError::RecordTooShort { bytes: length });
        }
        let Some(record) = self.sealed.get(RECORD_HEAD_BYTES..RECORD_HEAD_BYTES + length) else {
            return Ok(false);
        };
        let opener = &mut self.opener;
        // With the room of the whole record it is opened where it is to lie.
        self.packets.fill(length, |plain| opener.open(record, plain))?;
        self.sealed.advance(RECORD_HEAD_BYTES + length);
        Ok(true)
    }

    /// Bytes held, decrypted or not: at most a packet and two records.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.sealed.len() + self.packets.held_bytes()
    }
}

/// Cuts the decrypted stream into packets.
#[derive(Default)]
pub struct PacketReader {
    plain: BytesMut,
}

impl PacketReader {
    /// Appends what `fill` writes into `bytes` bytes, as many of them as it says.
    fn fill<E>(
        &mut self,
        bytes: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<(), E> {
        let start = self.plain.len();
        self.reserve(bytes);
        self.plain.resize(start + bytes, 0);
        let filled = fill(&mut self.plain[start..])?;
        debug_assert!(filled <= bytes);
        self.plain.truncate(start + filled);
        Ok(())
    }

    /// Makes room for `bytes` more, and for a part of the packet that they are of: one that is long is
    /// moved a few times at most, and one that is only claimed to be long costs little.
    fn reserve(&mut self, bytes: usize) {
        if self.plain.capacity() - self.plain.len() >= bytes {
            return;
        }
        let head = self.plain.first_chunk::<PACKET_HEAD_BYTES>();
        let claimed = head.map_or(0, |head| u32::from_be_bytes(*head)) as usize;
        let missing = (PACKET_HEAD_BYTES + claimed).saturating_sub(self.plain.len());
        self.plain.reserve(bytes.max(missing.min(ROOM_BYTES_MAX) + bytes));
    }

    /// Appends decrypted bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.plain.extend_from_slice(bytes);
    }

    /// The next whole packet, if there is one. Room for it is made only as its bytes come.
    ///
    /// # Errors
    /// [`FrameError::PacketTooLong`], as soon as the length is read.
    pub fn next_packet(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some(head) = self.plain.first_chunk::<PACKET_HEAD_BYTES>() else { return Ok(None) };
        let claimed = u32::from_be_bytes(*head);
        let length = usize::try_from(claimed).unwrap_or(usize::MAX);
        if length > PACKET_BYTES_MAX {
            return Err(FrameError::PacketTooLong { bytes: length });
        }
        if self.plain.len() < PACKET_HEAD_BYTES + length {
            return Ok(None);
        }
        self.plain.advance(PACKET_HEAD_BYTES);
        Ok(Some(self.plain.split_to(length).freeze()))
    }

    /// Bytes held: never more than one packet and what was fed after it.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.plain.len()
    }
}
