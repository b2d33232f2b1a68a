//! The hash of a copy's content: what two copies at one position must have in common.
//!
//! Everything that a statement can see: the schema in its order, all rows with their rowids, the
//! tables behind virtual tables, `sqlite_sequence`, the numbers in the header, and whether foreign keys
//! are enforced. Left out: Quorate's own table, generated columns (they follow from the others),
//! and where things lie in the file.

use blake3::Hasher;
use quorate_core::engine::{ContentHash, Fault};
use rusqlite::Connection;
use rusqlite::types::ValueRef;

use super::effects;
use super::errors::fault;
use super::open::{BEGIN, ROLLBACK, is_ours, read_meta, run};
use super::tables::{Table, TableError};

/// Rows are hashed in pieces of at least this size.
const PIECE_BYTES: usize = 64 * 1024;

/// Hashes what is committed, on one state.
pub(super) fn content(conn: &Connection) -> Result<ContentHash, Fault> {
    run(conn, BEGIN).map_err(|error| fault(&error))?;
    let hashed = of_open(conn);
    let ended = run(conn, ROLLBACK);
    let hash = hashed?;
    ended.map_err(|error| fault(&error))?;
    Ok(hash)
}

/// Hashes the state that the open transaction of `conn` sees.
pub(super) fn of_open(conn: &Connection) -> Result<ContentHash, Fault> {
    hash(conn).map_err(|error| match error {
        TableError::Sql(error) => fault(&error),
        TableError::HiddenRowid => Fault::Corrupt("a table has no rowid that can be named".into()),
    })
}

fn hash(conn: &Connection) -> Result<ContentHash, TableError> {
    let meta = read_meta(conn)?;
    let mut sink = Sink { hasher: Hasher::new(), piece: Vec::with_capacity(2 * PIECE_BYTES) };
    sink.value(ValueRef::Integer(i64::from(meta.foreign_keys)));
    for pragma in ["PRAGMA user_version", "PRAGMA application_id"] {
        let number: i64 = conn.query_row(pragma, [], |row| row.get(0))?;
        sink.value(ValueRef::Integer(number));
    }
    let names = schema(conn, &mut sink)?;
    for name in names {
        table(conn, &Table::load(conn, &name)?, &mut sink)?;
    }
    sink.flush();
    Ok(ContentHash { at: meta.at, hash: *sink.hasher.finalize().as_bytes() })
}

/// The schema; the names of the tables that hold rows.
fn schema(conn: &Connection, sink: &mut Sink) -> rusqlite::Result<Vec<String>> {
    let mut names = Vec::new();
    let mut statement = conn.prepare(
        "SELECT rowid, type, name, tbl_name, sql, rootpage FROM sqlite_schema ORDER BY rowid",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (kind, name): (String, String) = (row.get(1)?, row.get(2)?);
        if is_ours(&name) {
            continue;
        }
        for column in 0..5 {
            sink.value(row.get_ref(column)?);
        }
        if kind == "table" && row.get::<_, i64>(5)? > 0 {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn table(conn: &Connection, table: &Table, sink: &mut Sink) -> rusqlite::Result<()> {
    sink.value(ValueRef::Text(table.name.as_bytes()));
    let order = match &table.rowid {
        Some(rowid) => rowid.clone(),
        None => {
            let names = table.key.iter().map(|place| table.columns[*place].name.as_str());
            names.collect::<Vec<_>>().join(", ")
        }
    };
    let width = table.columns.len() + usize::from(table.rowid.is_some());
    let mut statement = conn.prepare(&format!("{} ORDER BY {order}", table.select()))?;
    let mut rows = statement.query([])?;
    let mut count: i64 = 0;
    while let Some(row) = rows.next()? {
        for column in 0..width {
            sink.value(row.get_ref(column)?);
        }
        count += 1;
    }
    sink.value(ValueRef::Integer(count));
    Ok(())
}

struct Sink {
    hasher: Hasher,
    piece: Vec<u8>,
}

impl Sink {
    fn value(&mut self, value: ValueRef<'_>) {
        effects::put_value(&mut self.piece, value);
        if self.piece.len() >= PIECE_BYTES {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.hasher.update(&self.piece);
        self.piece.clear();
    }
}
