//! Segment files: their names, making them, reading them whole.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::StoreError;
use super::frame::{BLOCK, SegmentHeader};
use super::fs::{FileSystem, StoreFile, read_full, write_all};

/// The longest segment that is read; a longer file is not ours.
const SEGMENT_BYTES_MAX: u64 = 1 << 33;
/// Zeros are written in pieces of this size.
const ZEROS: usize = 256 * 1024;

const SUFFIX: &str = ".seg";
/// A segment that has not got its name yet: worth nothing after a restart.
pub(super) const UNFINISHED: &str = ".seg.tmp";

/// An open segment.
#[derive(Clone)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn StoreFile>,
    /// The size of the file in bytes, written zeros included.
    pub(super) size: u64,
    /// Its salt; 0 if its header cannot be read.
    pub(super) salt: u64,
    /// The number of the frame after its last, once there is a later segment.
    pub(super) end: u64,
    /// Something in it could not be read at the start.
    pub(super) rotten: bool,
}

pub(super) fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016x}{SUFFIX}"))
}

pub(super) fn unfinished_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016x}{UNFINISHED}"))
}

/// The number that a segment's name says; `None` if it is not a segment's name.
pub(super) fn parse_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    let plain = digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    plain.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

/// Opens a segment that exists.
pub(super) fn open(
    fs: &dyn FileSystem,
    dir: &Path,
    number: u64,
    write: bool,
) -> Result<Segment, StoreError> {
    let path = segment_path(dir, number);
    let file = fs.open(&path, write).map_err(StoreError::io("open", &path))?;
    let size = file.size().map_err(StoreError::io("read the size of", &path))?;
    Ok(Segment { path, file, size, salt: 0, end: 0, rotten: false })
}

impl Segment {
    /// The whole content. What the disk refuses to read is an error, not an empty place.
    pub(super) fn read(&self) -> Result<Vec<u8>, StoreError> {
        let too_long = || std::io::Error::from(std::io::ErrorKind::FileTooLarge);
        if self.size > SEGMENT_BYTES_MAX {
            return Err(StoreError::io("read", &self.path)(too_long()));
        }
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        let mut bytes = vec![0; size];
        let read = read_full(&*self.file, &mut bytes, 0);
        let read = read.map_err(StoreError::io("read", &self.path))?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// The header, if there is a sound one.
    pub(super) fn header(&self) -> Result<Option<SegmentHeader>, StoreError> {
        let mut block = vec![0; usize::try_from(BLOCK.min(self.size)).unwrap_or(0)];
        let read = read_full(&*self.file, &mut block, 0);
        let read = read.map_err(StoreError::io("read", &self.path))?;
        Ok(SegmentHeader::decode(&block[..read]))
    }

    /// Reads `len` bytes at `offset`; fewer if the file ends before.
    pub(super) fn read_at(&self, offset: u64, len: u32) -> Result<Vec<u8>, StoreError> {
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
        let read = read_full(&*self.file, &mut bytes, offset);
        let read = read.map_err(StoreError::io("read", &self.path))?;
        bytes.truncate(read);
        Ok(bytes)
    }

    pub(super) fn write(&self, bytes: &[u8], offset: u64) -> Result<(), StoreError> {
        write_all(&*self.file, bytes, offset).map_err(StoreError::io("write", &self.path))
    }

    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.file.sync().map_err(StoreError::io("sync", &self.path))
    }

    /// Fills the file with zeros up to `size`, so that later syncs find nothing to change but
    /// the blocks themselves. The next sync makes it durable.
    pub(super) fn extend(&mut self, size: u64) -> Result<(), StoreError> {
        static NOTHING: [u8; ZEROS] = [0; ZEROS];
        while self.size < size {
            let step = (size - self.size).min(ZEROS as u64);
            self.write(&NOTHING[..usize::try_from(step).unwrap_or(ZEROS)], self.size)?;
            self.size += step;
        }
        Ok(())
    }
}
