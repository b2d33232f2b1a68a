//! Bytes to text with lines.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::error::{Bounds, ConfigError};

/// Reads a file of at most [`Bounds::FILE_BYTES`]; never more is held, whatever the file's size.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    let file = path.display().to_string();
    let unreadable = |source| ConfigError::Unreadable { file: file.clone(), source };
    let mut bytes = Vec::new();
    let limit = u64::try_from(Bounds::FILE_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path)
        .map_err(unreadable)?
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    Ok(bytes)
}

/// Checks size and encoding; a byte order mark is skipped.
pub(crate) fn text<'a>(file: &str, bytes: &'a [u8]) -> Result<&'a str, ConfigError> {
    if bytes.len() > Bounds::FILE_BYTES {
        return Err(ConfigError::TooLarge { file: file.to_owned(), max: Bounds::FILE_BYTES });
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|error| {
        let line = Lines::new(&bytes[..error.valid_up_to()]).of(error.valid_up_to());
        ConfigError::NotUtf8 { file: file.to_owned(), line }
    })
}

/// Finds the line of a byte.
#[derive(Debug)]
pub(crate) struct Lines {
    /// Where each line but the first begins.
    starts: Vec<usize>,
}

impl Lines {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let newlines = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        Self { starts: newlines.map(|(at, _)| at + 1).collect() }
    }

    /// The line, from 1, of the byte at `offset`.
    pub(crate) fn of(&self, offset: usize) -> u32 {
        let before = self.starts.partition_point(|start| *start <= offset);
        u32::try_from(before).unwrap_or(u32::MAX).saturating_add(1)
    }
}
