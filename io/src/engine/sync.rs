//! Making durable what is committed.
//!
//! Commits write to the WAL and do not wait for the disk. [`Syncer::sync`] waits for the WAL alone: one
//! `fdatasync`, whatever the size of the database, which stops neither writer nor readers. When the
//! WAL has grown it then moves its pages into the database file (a passive checkpoint, which
//! waits for nobody and syncs both files itself).
//!
//! **After a power loss** the copy is what it was at some commit, no older than the last position that
//! `sync` answered: SQLite takes from the WAL what has an unbroken chain of checksums up to a commit,
//! and the database file is written only with what is durable in the WAL, and is synced before the
//! WAL is used from its beginning again.

use std::fs::File;
use std::path::{Path, PathBuf};

use quorate_core::engine::{Fault, Position};
use rusqlite::Connection;

use super::errors::fault;
use super::open::{self, Role, io_fault, read_meta, sync_directory, with_suffix};

/// From so many pages on, the WAL is moved into the database file: SQLite's own measure, 4 MiB.
const CHECKPOINT_PAGES: i64 = 1_000;

/// Makes a copy durable; may run on another thread than its engine.
pub struct Syncer {
    conn: Connection,
    path: PathBuf,
    wal: PathBuf,
    directory_synced: bool,
}

impl Syncer {
    /// For the copy at `path`.
    ///
    /// # Errors
    /// It is not there, or is no copy.
    pub fn open(path: &Path) -> Result<Self, Fault> {
        let conn = open::connect(path, Role::Applier)?;
        open::check(&conn)?;
        Ok(Self {
            conn,
            path: path.to_owned(),
            wal: with_suffix(path, "-wal"),
            directory_synced: false,
        })
    }

    /// Makes durable what is committed, and says up to where.
    ///
    /// # Errors
    /// A [`Fault`]: nothing can be said then of what is durable. What was answered before stays so
    /// only if the disk did not lose it; the copy should be checked or replaced.
    pub fn sync(&mut self) -> Result<Position, Fault> {
        let at = read_meta(&self.conn).map_err(|error| fault(&error))?.at;
        match File::open(&self.wal) {
            Ok(wal) => wal.sync_data().map_err(|error| io_fault(&self.wal, &error))?,
            // Without a WAL everything is in the database file.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                File::open(&self.path)
                    .and_then(|file| file.sync_data())
                    .map_err(|error| io_fault(&self.path, &error))?;
            }
            Err(error) => return Err(io_fault(&self.wal, &error)),
        }
        if !self.directory_synced {
            sync_directory(&self.path)?;
            self.directory_synced = true;
        }
        if self.waiting_pages()? >= CHECKPOINT_PAGES {
            // What readers still need, or the writer adds meanwhile, stays for the next time.
            self.checkpoint("PASSIVE")?;
        }
        Ok(at)
    }

    /// How many pages of the WAL are not in the database file yet. The size of the WAL does not
    /// tell: it is used again from its beginning, and keeps its length.
    fn waiting_pages(&mut self) -> Result<i64, Fault> {
        let (in_wal, moved) = self.checkpoint("NOOP")?;
        Ok(in_wal - moved)
    }

    /// Pages that are in the WAL, and those of them that are in the database file.
    fn checkpoint(&mut self, mode: &str) -> Result<(i64, i64), Fault> {
        self.conn
            .query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| {
                Ok((row.get(1)?, row.get(2)?))
            })
            .map_err(|error| fault(&error))
    }
}
