//! Writing blocks past the system's cache.
//!
//! A write and its sync are the most that a small batch costs. Through the cache each block is
//! copied, marked, found again by the sync and written from there; past it the write itself goes to
//! the device, and the sync finds nothing left but to have the device's own cache written out. What
//! is durable when is the same: the sync says so, as before. Reads go through the cache; the system
//! drops from it what is written past it.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::frame::BLOCK;

/// Where in memory, and in the file, such a write must begin and end. No device has larger sectors.
const ALIGNMENT: usize = 4096;
/// The most that is written at once; a longer write is continued by its caller.
const PIECE_MAX: usize = 256 * 1024;

/// What became of a write.
pub(super) enum Written {
    /// So many bytes are with the device.
    Bytes(usize),
    /// It must go through the cache.
    Not,
}

/// A second handle on a file that is open.
pub(super) struct Direct {
    file: File,
    /// The file system has refused such a write once.
    refused: AtomicBool,
    /// Where a write is copied to if it does not lie as it must.
    place: Mutex<Vec<u8>>,
}

impl Direct {
    /// `None` where the system or the file system cannot.
    pub(super) fn open(path: &Path) -> Option<Self> {
        let file = open(path)?;
        Some(Self { file, refused: AtomicBool::new(false), place: Mutex::default() })
    }

    /// Writes a part of `buf` from its beginning, if it consists of whole blocks.
    ///
    /// # Errors
    /// Those of the device.
    pub(super) fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<Written> {
        let whole = buf.len().is_multiple_of(ALIGNMENT) && offset.is_multiple_of(BLOCK);
        if !whole || buf.is_empty() || self.refused.load(Ordering::Relaxed) {
            return Ok(Written::Not);
        }
        let piece = &buf[..buf.len().min(PIECE_MAX)];
        match self.write_aligned(piece, offset) {
            Ok(bytes) => Ok(Written::Bytes(bytes)),
            // Larger sectors than any known, or a file system that only pretends: nothing of it
            // was written.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                self.refused.store(true, Ordering::Relaxed);
                Ok(Written::Not)
            }
            Err(error) => Err(error),
        }
    }

    fn write_aligned(&self, piece: &[u8], offset: u64) -> io::Result<usize> {
        use std::os::unix::fs::FileExt as _;
        if piece.as_ptr().addr().is_multiple_of(ALIGNMENT) {
            return self.file.write_at(piece, offset);
        }
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        if place.len() < piece.len() + ALIGNMENT {
            place.resize(piece.len() + ALIGNMENT, 0);
        }
        let start = place.as_ptr().addr().next_multiple_of(ALIGNMENT) - place.as_ptr().addr();
        let aligned = &mut place[start..start + piece.len()];
        aligned.copy_from_slice(piece);
        self.file.write_at(aligned, offset)
    }
}

#[cfg(target_os = "linux")]
fn open(path: &Path) -> Option<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let flags = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).ok()?;
    std::fs::OpenOptions::new().write(true).custom_flags(flags).open(path).ok()
}

#[cfg(not(target_os = "linux"))]
fn open(_: &Path) -> Option<File> {
    None
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;

    fn new_file() -> (tempfile::TempDir, std::path::PathBuf, File) {
        // Not the system's temporary directory: it may lie in memory, where nothing is direct.
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = dir.path().join("file");
        let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        (dir, path, file)
    }

    fn block(with: u8, blocks: usize) -> Vec<u8> {
        vec![with; blocks * ALIGNMENT]
    }

    #[test]
    fn what_is_written_past_the_cache_is_read_through_it_also_where_it_was_read_before() {
        let (_dir, path, file) = new_file();
        file.write_all_at(&block(1, 4), 0).unwrap();
        let mut read = block(0, 4);
        file.read_exact_at(&mut read, 0).unwrap();
        let Some(direct) = Direct::open(&path) else { return };
        // Neither aligned nor a multiple of what is copied at once.
        let long = [vec![0], block(2, 2)].concat();
        let written = direct.write_at(&long[1..], ALIGNMENT as u64).unwrap();
        if let Written::Bytes(bytes) = written {
            assert_eq!(bytes, 2 * ALIGNMENT);
            file.read_exact_at(&mut read, 0).unwrap();
            assert_eq!(read, [block(1, 1), block(2, 2), block(1, 1)].concat());
        }
    }

    #[test]
    fn what_is_not_of_whole_blocks_is_left_to_the_cache() {
        let (_dir, path, file) = new_file();
        let Some(direct) = Direct::open(&path) else { return };
        for (bytes, offset) in [(100, 0), (ALIGNMENT, 512), (0, 0), (ALIGNMENT + 1, 0)] {
            let written = direct.write_at(&vec![1; bytes], offset).unwrap();
            assert!(matches!(written, Written::Not), "{bytes} bytes at {offset}");
        }
        assert_eq!(file.metadata().unwrap().len(), 0);
    }

    #[test]
    fn a_long_write_is_done_in_pieces() {
        let (_dir, path, file) = new_file();
        let Some(direct) = Direct::open(&path) else { return };
        let long = block(3, PIECE_MAX / ALIGNMENT + 1);
        if let Written::Bytes(bytes) = direct.write_at(&long, 0).unwrap() {
            assert_eq!(bytes, PIECE_MAX);
            assert_eq!(file.metadata().unwrap().len(), PIECE_MAX as u64);
        }
    }
}
