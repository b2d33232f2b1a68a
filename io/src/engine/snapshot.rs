//! Copying a whole copy, page by page, while it is written.

use std::fs::{File, OpenOptions};
use std::path::Path;

use quorate_core::engine::{Fault, Position};
use rusqlite::backup::{Backup, StepResult};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::errors::fault;
use super::open::{self, BEGIN, Role, io_fault, read_meta, run, sync_directory};

/// Pages that are copied in one step.
const STEP_PAGES: i32 = 256;

/// How far a snapshot is, in pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SnapshotProgress {
    /// Pages that are copied.
    pub done: u64,
    /// Pages in all.
    pub total: u64,
}

/// Copies the copy at `from` into the new file `to`, as it was at one position, which is answered.
/// Writers and readers go on; the WAL cannot be used from its beginning again meanwhile. The pages are
/// copied as they are, so every row keeps its rowid. After each step (1 MiB) `progress` says whether
/// to go on. The file is durable when this returns; it needs no other file beside it.
///
/// # Errors
/// `to` exists, something cannot be read or written, or `progress` said no; then `to` is removed.
pub fn snapshot_to(
    from: &Path,
    to: &Path,
    progress: impl FnMut(SnapshotProgress) -> bool,
) -> Result<Position, Fault> {
    let at = snapshot_unsynced(from, to, progress)?;
    let synced = File::open(to).and_then(|file| file.sync_all());
    let synced = synced.map_err(|error| io_fault(to, &error)).and_then(|()| sync_directory(to));
    if synced.is_err() {
        let _ = std::fs::remove_file(to);
    }
    synced.map(|()| at)
}

/// As [`snapshot_to`], but the file is not made durable: it is to be read, not to be kept.
///
/// # Errors
/// See there.
pub fn snapshot_unsynced(
    from: &Path,
    to: &Path,
    progress: impl FnMut(SnapshotProgress) -> bool,
) -> Result<Position, Fault> {
    // Opened by nobody else, so that a file that is there is never written over.
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(to)
        .map_err(|error| io_fault(to, &error))?;
    let copied = copy(from, to, progress);
    if copied.is_err() {
        // The error says what failed; a file that cannot be removed is no copy all the same.
        let _ = std::fs::remove_file(to);
    }
    copied
}

fn copy(
    from: &Path,
    to: &Path,
    mut progress: impl FnMut(SnapshotProgress) -> bool,
) -> Result<Position, Fault> {
    let source = open::connect(from, Role::Reader)?;
    // One state for all steps: while it is held, changes of others do not make the copy begin anew.
    run(&source, BEGIN).map_err(|error| fault(&error))?;
    let at = read_meta(&source).map_err(|error| fault(&error))?.at;
    {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut target = Connection::open_with_flags(to, flags).map_err(|error| fault(&error))?;
        // It is synced once, at the end; until then it is no copy.
        target
            .execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF")
            .and_then(|()| target.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false))
            .map_err(|error| fault(&error))?;
        let backup = Backup::new(&source, &mut target).map_err(|error| fault(&error))?;
        loop {
            let step = backup.step(STEP_PAGES).map_err(|error| fault(&error))?;
            let seen = backup.progress();
            let (total, left) = (pages(seen.pagecount), pages(seen.remaining));
            let goes_on = progress(SnapshotProgress { done: total.saturating_sub(left), total });
            match step {
                StepResult::Done => break,
                StepResult::More if goes_on => {}
                StepResult::More => return Err(Fault::Io("the snapshot was stopped".into())),
                _ => return Err(Fault::Io("the snapshot is locked by another process".into())),
            }
        }
    }
    Ok(at)
}

fn pages(count: i32) -> u64 {
    u64::try_from(count).unwrap_or(0)
}
