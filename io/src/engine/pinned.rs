//! Reading the database file of a copy as it is at one position, while its writer goes on.
//!
//! In WAL mode only checkpoints change the database file. A checkpoint moves no frame of the WAL that
//! is behind the end mark of an open read transaction, and none at all while a transaction reads the
//! database file alone, and the WAL is not begun anew while a transaction needs frames of it
//! (`walCheckpoint`, `walTryBeginRead` and `walRestartLog` in SQLite's `wal.c`). So while a read
//! transaction is open the file stays what it is from the moment on that it holds all frames up to
//! that transaction's end mark, and none behind it.
//!
//! That is known when a checkpoint that began after the transaction says that the file holds every
//! frame of the WAL: then it was not held back by the transaction, so nothing was committed since that
//! began.

use std::ffi::c_int;
use std::path::Path;
use std::time::Duration;

use quorate_core::engine::{Fault, Position};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, Error, ErrorCode};

use super::errors::fault;
use super::ffi::file;
use super::open::{self, BEGIN, ROLLBACK, Role, read_meta, run};

/// How often it is tried to find the writer between two commits.
const TRIES: u32 = 200;
/// Between two of them.
const PAUSE: Duration = Duration::from_micros(500);

/// The database file of a copy, held still. The WAL grows with all that is written meanwhile.
pub struct Pinned {
    /// In the transaction that holds the file.
    conn: Connection,
    /// Moves the WAL into the file, and looks at it.
    mover: Connection,
    at: Position,
    pages: u32,
    page_bytes: u32,
}

impl Pinned {
    /// Holds the file of the copy at `path` as it is now. `None`: other readers or a writer that never
    /// pauses do not let it come to rest.
    ///
    /// # Errors
    /// It is not there, is no copy, or cannot be read.
    pub fn open(path: &Path) -> Result<Option<Self>, Fault> {
        let conn = open::connect(path, Role::Reader)?;
        // What is in the WAL when this one is closed is the engine's business.
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
            .map_err(|error| fault(&error))?;
        let mover = open::connect(path, Role::Applier)?;
        // Most of the WAL goes into the file before the transaction begins, which is to be short of
        // commits from then on.
        is_all_moved(&mover)?;
        for _ in 0..TRIES {
            let at = run(&conn, BEGIN).and_then(|()| read_meta(&conn));
            let at = at.map_err(|error| fault(&error))?.at;
            if is_all_moved(&mover)? {
                let size = pages(&conn).map_err(|error| fault(&error))?;
                let (pages, page_bytes) = size;
                return Ok(Some(Self { conn, mover, at, pages, page_bytes }));
            }
            run(&conn, ROLLBACK).map_err(|error| fault(&error))?;
            std::thread::sleep(PAUSE);
        }
        Ok(None)
    }

    /// What it holds.
    #[must_use]
    pub fn position(&self) -> Position {
        self.at
    }

    /// How long the file is.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        u64::from(self.pages) * u64::from(self.page_bytes)
    }

    /// Fills `into` with the bytes from `at` on.
    ///
    /// # Errors
    /// They cannot be read, or the file ends before.
    pub fn read(&self, at: u64, into: &mut [u8]) -> Result<(), Fault> {
        file::read(&self.conn, at, into).map_err(|code| {
            let error = rusqlite::ffi::Error::new(code);
            fault(&Error::SqliteFailure(error, Some(format!("{error}, at byte {at}"))))
        })
    }

    /// What is in the WAL, in bytes: it is seldom used from its beginning again while this is held.
    ///
    /// # Errors
    /// That cannot be told.
    pub fn wal_bytes(&self) -> Result<u64, Fault> {
        let told = self.mover.query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| row.get(1));
        let frames: i64 = told.map_err(|error| fault(&error))?;
        Ok(u64::try_from(frames).unwrap_or(0) * u64::from(self.page_bytes))
    }
}

/// Moves what can be moved into the file; whether that was all of the WAL.
fn is_all_moved(mover: &Connection) -> Result<bool, Fault> {
    let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let told = mover.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], row);
    match told {
        Ok((busy, in_wal, moved)) => {
            let (busy, in_wal, moved): (c_int, c_int, c_int) = (busy, in_wal, moved);
            Ok(busy == 0 && in_wal >= 0 && in_wal == moved)
        }
        // The engine is at it itself.
        Err(Error::SqliteFailure(error, _)) if error.code == ErrorCode::DatabaseBusy => Ok(false),
        Err(error) => Err(fault(&error)),
    }
}

/// How many pages there are, and how long each is.
fn pages(conn: &Connection) -> rusqlite::Result<(u32, u32)> {
    let number = |pragma| conn.query_row(pragma, [], |row| row.get(0));
    Ok((number("PRAGMA page_count")?, number("PRAGMA page_size")?))
}
