//! How much of a disk a copy on its way may take.
//!
//! The logs of a node lie on the same disk as a rule. Without room for them the node stops, and with
//! it all that it serves, so a copy that is received leaves some.

use std::path::Path;

use quorate_core::engine::Fault;

use crate::engine::io_fault;

/// So large a part of the disk is left to others, up to a bound.
const LEFT_PART: u64 = 16;
const LEFT_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Makes sure that the file system of `dir` has room for `bytes` more, and some is left then.
///
/// # Errors
/// [`Fault::Full`], with what is missing. [`Fault::Io`]: it cannot be asked.
pub(super) fn check(dir: &Path, bytes: u64) -> Result<(), Fault> {
    let disk = rustix::fs::statvfs(dir).map_err(|error| io_fault(dir, &error.into()))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let left = (disk.f_blocks.saturating_mul(disk.f_frsize) / LEFT_PART).min(LEFT_BYTES_MAX);
    let needed = bytes.saturating_add(left);
    if free >= needed {
        return Ok(());
    }
    let missing = (needed - free).div_ceil(1_000_000);
    Err(Fault::Full(format!(
        "{}: No space left for the copy: it lacks {} MB, {} MB are free, of which {} MB stay free \
         for the logs: free {missing} MB, and it goes on",
        dir.display(),
        bytes.div_ceil(1_000_000),
        free / 1_000_000,
        left.div_ceil(1_000_000),
    )))
}
