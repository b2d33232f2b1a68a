//! The form of effects: what one batch changed, as bytes that another copy can apply.
//!
//! A version byte, then segments in the order in which things happened. Rows are named by their
//! rowid, or by their key in a table without rowids, and carry their values; so the receiver does the same
//! to the same rows in the same order, whatever made the executor do it. Old rows are not carried,
//! only a checksum of them, by which a copy that differs is found out.
//!
//! Table numbers begin anew after every [`Segment::Script`], for it may change what they mean.
//! Numbers are LEB128, signed ones zigzag, lengths in bytes. Nothing is allocated by a length from
//! the bytes without that many bytes being there.

mod decode;

use rusqlite::types::ValueRef;

pub(super) use decode::{Decoder, Unreadable};

/// The version that is written, and the only one that is read.
pub(super) const VERSION: u8 = 1;
/// More columns than a table can have (SQLite's limit is 2,000, at most 32,767).
const COLUMNS_MAX: usize = 32_767;

const TABLE: u8 = 1;
const INSERT: u8 = 2;
const DELETE: u8 = 3;
const UPDATE: u8 = 4;
const SCRIPT: u8 = 5;
const SEQUENCES: u8 = 6;
const FOREIGN_KEYS: u8 = 7;
const STATISTICS: u8 = 8;

/// Which row: what names it in its table.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Key<'a> {
    /// Its rowid.
    Rowid(i64),
    /// The values of its primary key, in a table without rowids.
    Columns(Vec<ValueRef<'a>>),
}

/// One step of what was done.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Segment<'a> {
    /// The next table number stands for this table.
    Table { name: &'a str, columns: usize, key_columns: usize },
    /// A row of a table comes to be. Without rowid its key is among the values.
    Insert { table: usize, rowid: Option<i64>, values: Vec<ValueRef<'a>> },
    /// A row goes.
    Delete { table: usize, key: Key<'a>, check: u32 },
    /// A row gets other values in some columns, or another rowid.
    Update {
        table: usize,
        key: Key<'a>,
        check: u32,
        rowid: Option<i64>,
        values: Vec<(usize, ValueRef<'a>)>,
    },
    /// SQL that changes the schema, or a number in the header of the file.
    Script(&'a str),
    /// What `sqlite_sequence` holds afterwards: in all, or for the given names.
    Sequences { all: bool, names: Vec<(ValueRef<'a>, Vec<SequenceRow<'a>>)> },
    /// Foreign keys are enforced from here on, or no longer.
    ForeignKeys(bool),
    /// All rows of the tables that ANALYZE fills: table, columns, rows.
    Statistics(Vec<Statistics<'a>>),
}

/// A row of `sqlite_sequence` less its name: rowid and value.
pub(super) type SequenceRow<'a> = (i64, ValueRef<'a>);

/// One table that ANALYZE fills, with its rows.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Statistics<'a> {
    pub(super) table: &'a str,
    /// Rowid and values.
    pub(super) rows: Vec<(i64, Vec<ValueRef<'a>>)>,
}

pub(super) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push((number & 0x7f) as u8);
}

fn put_signed(out: &mut Vec<u8>, number: i64) {
    put_number(out, ((number << 1) ^ (number >> 63)).cast_unsigned());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A value: its type, then its content.
pub(super) fn put_value(out: &mut Vec<u8>, value: ValueRef<'_>) {
    match value {
        ValueRef::Null => out.push(0),
        ValueRef::Integer(number) => {
            out.push(1);
            put_signed(out, number);
        }
        ValueRef::Real(number) => {
            out.push(2);
            out.extend_from_slice(&number.to_bits().to_le_bytes());
        }
        ValueRef::Text(bytes) => {
            out.push(3);
            put_bytes(out, bytes);
        }
        ValueRef::Blob(bytes) => {
            out.push(4);
            put_bytes(out, bytes);
        }
    }
}

/// A value as part of a checksum. SQLite may keep a REAL with an integral value as an integer, and shows it
/// as either depending on where one looks; here it is always the integer.
pub(super) fn put_check_value(out: &mut Vec<u8>, value: ValueRef<'_>) {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        #[expect(clippy::cast_possible_truncation, reason = "integral and within 2^53")]
        ValueRef::Real(real) if real.trunc() == real && real.abs() <= EXACT => {
            put_value(out, ValueRef::Integer(real as i64));
        }
        _ => put_value(out, value),
    }
}

pub(super) fn put_table(out: &mut Vec<u8>, name: &str, columns: usize, key_columns: usize) {
    out.push(TABLE);
    put_bytes(out, name.as_bytes());
    put_number(out, columns as u64);
    put_number(out, key_columns as u64);
}

/// Begins an insert; its values follow.
pub(super) fn put_insert(out: &mut Vec<u8>, table: usize, rowid: Option<i64>) {
    out.push(INSERT);
    put_number(out, table as u64);
    if let Some(rowid) = rowid {
        put_signed(out, rowid);
    }
}

pub(super) fn put_delete(out: &mut Vec<u8>, table: usize, key: &Key<'_>, check: u32) {
    out.push(DELETE);
    put_number(out, table as u64);
    put_key(out, key);
    out.extend_from_slice(&check.to_le_bytes());
}

/// Begins an update; as many pairs of a column's number and its value follow as `changed` says.
pub(super) fn put_update(
    out: &mut Vec<u8>,
    table: usize,
    key: &Key<'_>,
    check: u32,
    rowid: Option<i64>,
    changed: usize,
) {
    out.push(UPDATE);
    put_number(out, table as u64);
    put_key(out, key);
    out.extend_from_slice(&check.to_le_bytes());
    match rowid {
        None => out.push(0),
        Some(rowid) => {
            out.push(1);
            put_signed(out, rowid);
        }
    }
    put_number(out, changed as u64);
}

fn put_key(out: &mut Vec<u8>, key: &Key<'_>) {
    match key {
        Key::Rowid(rowid) => put_signed(out, *rowid),
        Key::Columns(values) => values.iter().for_each(|value| put_value(out, *value)),
    }
}

pub(super) fn put_script(out: &mut Vec<u8>, sql: &str) {
    out.push(SCRIPT);
    put_bytes(out, sql.as_bytes());
}

pub(super) fn put_foreign_keys(out: &mut Vec<u8>, on: bool) {
    out.push(FOREIGN_KEYS);
    out.push(u8::from(on));
}

pub(super) fn put_sequences(
    out: &mut Vec<u8>,
    all: bool,
    names: &[(ValueRef<'_>, Vec<SequenceRow<'_>>)],
) {
    out.push(SEQUENCES);
    out.push(u8::from(all));
    put_number(out, names.len() as u64);
    for (name, rows) in names {
        put_value(out, *name);
        put_number(out, rows.len() as u64);
        for (rowid, value) in rows {
            put_signed(out, *rowid);
            put_value(out, *value);
        }
    }
}

/// Begins the tables of statistics; each is put by [`put_statistics_table`].
pub(super) fn put_statistics(out: &mut Vec<u8>, tables: usize) {
    out.push(STATISTICS);
    put_number(out, tables as u64);
}

pub(super) fn put_statistics_table(out: &mut Vec<u8>, name: &str, rows: usize, columns: usize) {
    put_bytes(out, name.as_bytes());
    put_number(out, rows as u64);
    put_number(out, columns as u64);
}

pub(super) fn put_rowid(out: &mut Vec<u8>, rowid: i64) {
    put_signed(out, rowid);
}
