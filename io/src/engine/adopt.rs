//! Files from outside: what must be seen in a database before it may become a copy, and giving it the
//! form of one.
//!
//! A file is trusted in nothing. It is checked whole, for damage that only shows later would be on all
//! copies; what the engine would have refused to make is refused here by the same names.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use quorate_core::engine::{Fault, Note, Position};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _};
use thiserror::Error;

use super::authorizer::{MODULES, OWN_PREFIX};
use super::capture::hidden_rowid;
use super::errors::fault;
use super::ffi::memory;
use super::open::{
    self, FORMAT, MAKE_NOTES, META, Meta, NOTES, io_fault, is_ours, read_meta, write_meta,
    write_notes,
};
use super::tables::{Table, TableError};

const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Why a file cannot become the content of a shard.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum NotAdopted {
    /// It does not begin as one.
    #[error("the file is no SQLite database")]
    NoDatabase,
    /// SQLite finds damage in it.
    #[error("the database in the file is damaged: {0}")]
    Damaged(String),
    /// A later version made it.
    #[error("the file was made by a later version: {0}")]
    LaterVersion(String),
    /// It holds what cannot be replicated.
    #[error("the database holds what cannot be replicated: {0}")]
    Refused(String),
    /// It cannot be read or written here.
    #[error(transparent)]
    Failed(Fault),
}

impl From<rusqlite::Error> for NotAdopted {
    fn from(error: rusqlite::Error) -> Self {
        match fault(&error) {
            Fault::Corrupt(text) => Self::Damaged(text),
            other => Self::Failed(other),
        }
    }
}

/// Checks a database file and gives it the form of a copy, at no position. Nobody else may have it
/// open. Afterwards it is durable, and needs no other file beside it.
///
/// # Errors
/// [`NotAdopted`]: what is wrong; the file may have been changed.
pub fn adopt(path: &Path) -> Result<(), NotAdopted> {
    check_head(path)?;
    let conn = alone(path)?;
    let encoding: String = conn.query_row("PRAGMA encoding", [], |row| row.get(0))?;
    if encoding != "UTF-8" {
        return Err(NotAdopted::Refused(format!(
            "its text is stored as {encoding}; write it out with `.dump` and read it into a new file"
        )));
    }
    check_whole(&conn)?;
    check_schema(&conn)?;
    let meta = give_meta(&conn)?;
    conn.execute_batch("BEGIN")?;
    // What another log remembered means nothing here.
    conn.execute_batch(&format!("DROP TABLE {NOTES}; {MAKE_NOTES}"))
        .map_err(|error| broken(NOTES, &error))?;
    write_meta(&conn, &Meta { at: Position::default(), ..meta })?;
    conn.execute_batch("COMMIT")?;
    close(conn, path).map_err(NotAdopted::Failed)
}

/// Checks that a staged file has the form of a copy.
///
/// # Errors
/// It has not, or cannot be read.
pub(crate) fn check_adopted(path: &Path) -> Result<(), Fault> {
    let conn = alone(path).map_err(|error| fault(&error))?;
    open::check(&conn)?;
    close(conn, path)
}

/// Writes into a staged file which entry it is, and all that it remembers; the same entry may be written
/// again.
///
/// # Errors
/// It has not the form of a copy, or cannot be written.
pub(crate) fn put_position(path: &Path, at: Position, notes: &[Note]) -> Result<(), Fault> {
    let conn = alone(path).map_err(|error| fault(&error))?;
    let meta = open::check(&conn)?;
    let written = conn
        .execute_batch("BEGIN")
        .and_then(|()| conn.execute_batch(&format!("DELETE FROM {NOTES}")))
        .and_then(|()| write_notes(&conn, notes))
        .and_then(|()| write_meta(&conn, &Meta { at, ..meta }))
        .and_then(|()| conn.execute_batch("COMMIT"));
    written.map_err(|error| fault(&error))?;
    close(conn, path)
}

/// A connection that keeps nothing beside the file but a journal that goes.
fn alone(path: &Path) -> rusqlite::Result<Connection> {
    // Only fails where the engine itself could not be opened, and that says why.
    let _ = memory::install();
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    conn.execute_batch("PRAGMA cell_size_check = ON")?;
    conn.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))?;
    conn.execute_batch("PRAGMA synchronous = FULL; PRAGMA ignore_check_constraints = ON")?;
    Ok(conn)
}

fn close(conn: Connection, path: &Path) -> Result<(), Fault> {
    conn.close().map_err(|(_, error)| fault(&error))?;
    File::open(path).and_then(|file| file.sync_all()).map_err(|error| io_fault(path, &error))
}

fn check_head(path: &Path) -> Result<(), NotAdopted> {
    let mut head = [0; 100];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut head));
    match read {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            return Err(NotAdopted::NoDatabase);
        }
        other => other.map_err(|error| NotAdopted::Failed(io_fault(path, &error)))?,
    }
    if !head.starts_with(MAGIC) {
        return Err(NotAdopted::NoDatabase);
    }
    // Bytes 18 and 19: what writing and reading it takes; 2 is the write-ahead log.
    match head[18].max(head[19]) {
        0..=2 => Ok(()),
        form => Err(NotAdopted::LaterVersion(format!("SQLite's file format {form}"))),
    }
}

fn check_whole(conn: &Connection) -> Result<(), NotAdopted> {
    let found: String = conn.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    match found.as_str() {
        "ok" => Ok(()),
        _ => Err(NotAdopted::Damaged(found)),
    }
}

fn check_schema(conn: &Connection) -> Result<(), NotAdopted> {
    let mut statement =
        conn.prepare("SELECT type, name, coalesce(sql, ''), rootpage FROM sqlite_schema")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (kind, name): (String, String) = (row.get(0)?, row.get(1)?);
        let own = name.get(..OWN_PREFIX.len());
        if own.is_some_and(|start| start.eq_ignore_ascii_case(OWN_PREFIX)) && !is_ours(&name) {
            return Err(NotAdopted::Refused(format!(
                "{kind} {name}: names that begin with {OWN_PREFIX} belong to Quorate"
            )));
        }
        if kind != "table" || is_ours(&name) {
            continue;
        }
        let (sql, root): (String, i64) = (row.get(2)?, row.get::<_, Option<i64>>(3)?.unwrap_or(0));
        if root == 0 {
            check_module(&name, &sql)?;
            continue;
        }
        Table::load(conn, &name).map_err(|error| match error {
            TableError::HiddenRowid => NotAdopted::Refused(hidden_rowid(&name)),
            TableError::Sql(error) => error.into(),
        })?;
    }
    Ok(())
}

/// The schema holds a virtual table as `CREATE VIRTUAL TABLE <name as it was written> USING <module>`.
fn check_module(name: &str, sql: &str) -> Result<(), NotAdopted> {
    let forms = [
        name.to_owned(),
        format!("\"{}\"", name.replace('"', "\"\"")),
        format!("`{}`", name.replace('`', "``")),
        format!("'{}'", name.replace('\'', "''")),
        format!("[{name}]"),
    ];
    let behind = sql.strip_prefix("CREATE VIRTUAL TABLE ").map(str::trim_start);
    let behind = behind.and_then(|sql| forms.iter().find_map(|form| sql.strip_prefix(form)));
    let mut words = behind.unwrap_or_default().split_whitespace();
    let using = words.next().is_some_and(|word| word.eq_ignore_ascii_case("using"));
    let module = words.next().filter(|_| using).unwrap_or_default();
    let module = module.split('(').next().unwrap_or_default();
    if MODULES.iter().any(|known| module.eq_ignore_ascii_case(known)) {
        return Ok(());
    }
    Err(NotAdopted::Refused(format!(
        "virtual table {name}: {}; fts5, fts5vocab and rtree can",
        match module {
            "" => "its module cannot be made out".to_owned(),
            module => format!("the module {module} cannot be replicated"),
        }
    )))
}

/// What belongs to the copy: made if it is an ordinary database.
fn give_meta(conn: &Connection) -> Result<Meta, NotAdopted> {
    let kind: Option<String> = conn
        .query_row("SELECT type FROM sqlite_schema WHERE name = ?1", [META], |row| row.get(0))
        .optional()?;
    if kind.is_none() {
        conn.execute_batch(&open::make_meta()).map_err(|error| broken(NOTES, &error))?;
        return Ok(read_meta(conn)?);
    }
    let format = conn.query_row(&format!("SELECT format FROM {META} WHERE id = 1"), [], |row| {
        row.get::<_, i64>(0)
    });
    match format {
        Ok(FORMAT) => read_meta(conn).map_err(|error| broken(META, &error)),
        Ok(format) => Err(NotAdopted::LaterVersion(format!(
            "the copy has form {format}; this version knows form {FORMAT}"
        ))),
        Err(error) => Err(broken(META, &error)),
    }
}

fn broken(table: &str, error: &rusqlite::Error) -> NotAdopted {
    NotAdopted::Refused(format!("{table} is not the table that Quorate makes: {error}"))
}
