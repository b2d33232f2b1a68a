//! Opening the connections of a copy, and the one table in it that is Quorate's.
//!
//! A copy is read and written in WAL mode. Commits do not wait for the disk (`synchronous =
//! NORMAL`, no checkpoint at a commit): what they hold is durable in the shard's log, and
//! [`super::Syncer`] says up to where it is durable in the file.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quorate_core::engine::{Fault, Note, Position};
use quorate_core::{Index, Term};
use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, OpenFlags};

use super::errors::fault;
use super::ffi::memory;

/// A table that is Quorate's: a row with what belongs to the copy and not to its content.
pub(super) const META: &str = "_quorate_meta";
/// The other one: what the shard remembers with the content.
pub(super) const NOTES: &str = "_quorate_notes";
pub(super) const MAKE_NOTES: &str =
    "CREATE TABLE _quorate_notes(key INTEGER PRIMARY KEY, value BLOB NOT NULL)";
/// The form of both.
pub(super) const FORMAT: i64 = 2;
/// How long one connection waits for another of the same process.
const BUSY: Duration = Duration::from_secs(5);

pub(super) const READ_META: &str =
    "SELECT position_index, position_term, foreign_keys FROM _quorate_meta";
pub(super) const WRITE_META: &str =
    "UPDATE _quorate_meta SET position_index = ?1, position_term = ?2, foreign_keys = ?3";
const READ_NOTES: &str = "SELECT key, value FROM _quorate_notes ORDER BY key";
const PUT_NOTE: &str = "INSERT INTO _quorate_notes VALUES(?1, ?2) \
                        ON CONFLICT(key) DO UPDATE SET value = excluded.value";
const DROP_NOTE: &str = "DELETE FROM _quorate_notes WHERE key = ?1";
pub(super) const BEGIN: &str = "BEGIN";
pub(super) const COMMIT: &str = "COMMIT";
pub(super) const ROLLBACK: &str = "ROLLBACK";
pub(super) const SAVEPOINT: &str = "SAVEPOINT _quorate";
pub(super) const RELEASE: &str = "RELEASE _quorate";
pub(super) const BACK: &str = "ROLLBACK TO _quorate";
pub(super) const FLUSH: &str = "SAVEPOINT _quorate_flush";
pub(super) const FLUSHED: &str = "RELEASE _quorate_flush";
/// Statements of ours that are kept compiled. The same text from outside must be compiled anew, for
/// these were compiled without the rules.
pub(super) const OWN: [&str; 13] = [
    READ_META, WRITE_META, READ_NOTES, PUT_NOTE, DROP_NOTE, BEGIN, COMMIT, ROLLBACK, SAVEPOINT,
    RELEASE, BACK, FLUSH, FLUSHED,
];

/// Whether a table is Quorate's.
pub(super) fn is_ours(table: &str) -> bool {
    table == META || table == NOTES
}

/// What belongs to the copy and not to its content.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Meta {
    pub(super) at: Position,
    pub(super) foreign_keys: bool,
}

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    /// Runs transactions and captures what they change.
    Executor,
    /// Applies effects.
    Applier,
    /// Only reads.
    Reader,
}

/// Makes a new, empty copy at `path`.
///
/// # Errors
/// There is something already, or it cannot be written.
pub(super) fn create(path: &Path) -> Result<(), Fault> {
    memory::install().map_err(|reason| Fault::Io(reason.into()))?;
    // An old WAL beside a new file would be taken for its own.
    for path in [with_suffix(path, "-wal"), with_suffix(path, "-shm"), path.to_owned()] {
        match path.symlink_metadata() {
            Ok(_) => return Err(Fault::Io(format!("{} exists already", path.display()))),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(io_fault(&path, &error)),
        }
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(|error| io_fault(path, &error))?;
    let conn = connect(path, Role::Applier)?;
    let made = conn.execute_batch(&make_meta());
    made.map_err(|error| fault(&error))?;
    sync_directory(path)
}

/// Makes [`META`], at no position, and [`NOTES`], empty.
pub(super) fn make_meta() -> String {
    format!(
        "BEGIN;
         CREATE TABLE {META}(id INTEGER PRIMARY KEY CHECK (id = 1), format INTEGER NOT NULL,
           position_index INTEGER NOT NULL, position_term INTEGER NOT NULL,
           foreign_keys INTEGER NOT NULL);
         INSERT INTO {META} VALUES(1, {FORMAT}, 0, 0, 1);
         {MAKE_NOTES};
         COMMIT;"
    )
}

/// Opens an existing file for one purpose.
///
/// # Errors
/// It is not there, is no database, or its directory cannot be written.
pub(super) fn connect(path: &Path, role: Role) -> Result<Connection, Fault> {
    memory::install().map_err(|reason| Fault::Io(reason.into()))?;
    let access = match role {
        Role::Reader => OpenFlags::SQLITE_OPEN_READ_ONLY,
        Role::Executor | Role::Applier => OpenFlags::SQLITE_OPEN_READ_WRITE,
    };
    let conn = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(|error| fault(&error))?;
    configure(&conn, role).map_err(|error| fault(&error))?;
    Ok(conn)
}

fn configure(conn: &Connection, role: Role) -> rusqlite::Result<()> {
    conn.busy_timeout(BUSY)?;
    if role != Role::Reader {
        // A file that is in WAL mode stays so; a new one becomes so here.
        conn.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
        conn.execute_batch("PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 0")?;
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    }
    conn.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
    conn.set_limit(Limit::SQLITE_LIMIT_WORKER_THREADS, 0)?;
    conn.set_prepared_statement_cache_capacity(super::statement::CACHED_MAX);
    match role {
        Role::Executor => {
            conn.execute_batch("PRAGMA cache_size = -32768")?;
            // Tables behind virtual tables, and the schema itself, only change through SQLite.
            conn.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        }
        Role::Applier => {
            // What they do has travelled as rows already.
            conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
            conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, false)?;
            // What the executor accepted is not judged again.
            conn.execute_batch("PRAGMA cache_size = -32768; PRAGMA ignore_check_constraints = ON")?;
        }
        Role::Reader => {
            conn.execute_batch("PRAGMA cache_size = -8192; PRAGMA query_only = ON")?;
            conn.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        }
    }
    Ok(())
}

/// Reads what belongs to the copy; makes sure that it is one.
///
/// # Errors
/// The file is not a copy, or of a later version.
pub(super) fn check(conn: &Connection) -> Result<Meta, Fault> {
    let ours: bool = conn
        .query_row("SELECT count(*) FROM sqlite_schema WHERE name = ?1", [META], |row| row.get(0))
        .map_err(|error| fault(&error))?;
    if !ours {
        return Err(Fault::Corrupt(format!(
            "the file holds no table {META}: it is a database, but not a copy of Quorate's"
        )));
    }
    let format: i64 = conn
        .query_row("SELECT format FROM _quorate_meta", [], |row| row.get(0))
        .map_err(|error| fault(&error))?;
    if format != FORMAT {
        return Err(Fault::Corrupt(format!(
            "the copy has form {format}; this version knows form {FORMAT}"
        )));
    }
    read_meta(conn).map_err(|error| fault(&error))
}

/// Reads what belongs to the copy.
pub(super) fn read_meta(conn: &Connection) -> rusqlite::Result<Meta> {
    conn.prepare_cached(READ_META)?.query_row([], |row| {
        Ok(Meta {
            at: Position {
                index: Index(row.get::<_, i64>(0)?.cast_unsigned()),
                term: Term(row.get::<_, i64>(1)?.cast_unsigned()),
            },
            foreign_keys: row.get(2)?,
        })
    })
}

/// Writes what belongs to the copy, in the open transaction.
pub(super) fn write_meta(conn: &Connection, meta: &Meta) -> rusqlite::Result<()> {
    conn.prepare_cached(WRITE_META)?.execute((
        meta.at.index.0.cast_signed(),
        meta.at.term.0.cast_signed(),
        meta.foreign_keys,
    ))?;
    Ok(())
}

/// The notes, by key.
pub(super) fn read_notes(conn: &Connection) -> rusqlite::Result<Vec<Note>> {
    let mut statement = conn.prepare_cached(READ_NOTES)?;
    let note = |row: &rusqlite::Row<'_>| {
        let (key, value): (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
        Ok(Note { key: key.cast_unsigned(), value: value.into() })
    };
    statement.query_map([], note)?.collect()
}

/// Writes notes, in the open transaction.
pub(super) fn write_notes(conn: &Connection, notes: &[Note]) -> rusqlite::Result<()> {
    for Note { key, value } in notes {
        let key = key.cast_signed();
        if value.is_empty() {
            conn.prepare_cached(DROP_NOTE)?.execute([key])?;
        } else {
            conn.prepare_cached(PUT_NOTE)?.execute((key, &value[..]))?;
        }
    }
    Ok(())
}

/// Runs one of [`OWN`].
pub(super) fn run(conn: &Connection, sql: &str) -> rusqlite::Result<()> {
    conn.prepare_cached(sql)?.execute([])?;
    Ok(())
}

/// `path` with something at its end: the files that SQLite keeps beside a database.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path.as_os_str());
    name.push(suffix);
    PathBuf::from(name)
}

/// Makes durable that the directory holds the file.
pub(super) fn sync_directory(path: &Path) -> Result<(), Fault> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    std::fs::File::open(parent)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| io_fault(parent, &error))
}

/// An error of the file system, by the file's name.
pub(crate) fn io_fault(path: &Path, error: &std::io::Error) -> Fault {
    let text = format!("{}: {error}", path.display());
    if error.kind() == ErrorKind::StorageFull { Fault::Full(text) } else { Fault::Io(text) }
}
