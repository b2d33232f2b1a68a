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

use rusqlite::types::ValueRef;

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

/// Why effects cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Unreadable(pub(super) &'static str);

/// What is known of a table number.
#[derive(Clone, Copy)]
struct Shape {
    columns: usize,
    key_columns: usize,
}

/// Reads segments one after the other.
pub(super) struct Decoder<'a> {
    rest: &'a [u8],
    tables: Vec<Shape>,
}

impl<'a> Decoder<'a> {
    /// # Errors
    /// The version is another one, or there are no bytes.
    pub(super) fn new(effects: &'a [u8]) -> Result<Self, Unreadable> {
        match effects.split_first() {
            Some((&VERSION, rest)) => Ok(Self { rest, tables: Vec::new() }),
            Some((version, _)) if *version > VERSION => Err(Unreadable(
                "they were made by a later version of Quorate; start this node with that version",
            )),
            _ => Err(Unreadable("they have no known version")),
        }
    }

    /// The next segment; none at the end.
    ///
    /// # Errors
    /// The bytes are not effects.
    pub(super) fn next(&mut self) -> Result<Option<Segment<'a>>, Unreadable> {
        let Some((&tag, rest)) = self.rest.split_first() else { return Ok(None) };
        self.rest = rest;
        let segment = match tag {
            TABLE => self.table()?,
            INSERT => {
                let (table, shape) = self.shape()?;
                let rowid = if shape.key_columns == 0 { Some(self.signed()?) } else { None };
                Segment::Insert { table, rowid, values: self.values(shape.columns)? }
            }
            DELETE => {
                let (table, shape) = self.shape()?;
                Segment::Delete { table, key: self.key(shape)?, check: self.check()? }
            }
            UPDATE => self.update()?,
            SCRIPT => {
                self.tables.clear();
                Segment::Script(self.text()?)
            }
            SEQUENCES => self.sequences()?,
            FOREIGN_KEYS => Segment::ForeignKeys(self.flag()?),
            STATISTICS => self.statistics()?,
            _ => return Err(Unreadable("a segment has an unknown kind")),
        };
        Ok(Some(segment))
    }

    fn table(&mut self) -> Result<Segment<'a>, Unreadable> {
        let name = self.text()?;
        let columns = self.size()?;
        let key_columns = self.size()?;
        if columns > COLUMNS_MAX || key_columns > columns {
            return Err(Unreadable("a table has more columns than tables can have"));
        }
        self.tables.push(Shape { columns, key_columns });
        Ok(Segment::Table { name, columns, key_columns })
    }

    fn update(&mut self) -> Result<Segment<'a>, Unreadable> {
        let (table, shape) = self.shape()?;
        let key = self.key(shape)?;
        let check = self.check()?;
        let rowid = if self.flag()? { Some(self.signed()?) } else { None };
        let changed = self.size()?;
        if changed > shape.columns {
            return Err(Unreadable("more columns change than the table has"));
        }
        let mut values = Vec::with_capacity(changed);
        for _ in 0..changed {
            let column = self.size()?;
            if column >= shape.columns {
                return Err(Unreadable("a column changes that the table does not have"));
            }
            values.push((column, self.value()?));
        }
        Ok(Segment::Update { table, key, check, rowid, values })
    }

    fn sequences(&mut self) -> Result<Segment<'a>, Unreadable> {
        let all = self.flag()?;
        let mut names = Vec::new();
        for _ in 0..self.size()? {
            let name = self.value()?;
            let mut rows = Vec::new();
            for _ in 0..self.size()? {
                rows.push((self.signed()?, self.value()?));
            }
            names.push((name, rows));
        }
        Ok(Segment::Sequences { all, names })
    }

    fn statistics(&mut self) -> Result<Segment<'a>, Unreadable> {
        let mut tables = Vec::new();
        for _ in 0..self.size()? {
            let table = self.text()?;
            let (rows, columns) = (self.size()?, self.size()?);
            if columns > COLUMNS_MAX {
                return Err(Unreadable("a table has more columns than tables can have"));
            }
            let mut read = Vec::new();
            for _ in 0..rows {
                read.push((self.signed()?, self.values(columns)?));
            }
            tables.push(Statistics { table, rows: read });
        }
        Ok(Segment::Statistics(tables))
    }

    fn shape(&mut self) -> Result<(usize, Shape), Unreadable> {
        let table = self.size()?;
        match self.tables.get(table) {
            Some(shape) => Ok((table, *shape)),
            None => Err(Unreadable("a row belongs to a table that was not named")),
        }
    }

    fn key(&mut self, shape: Shape) -> Result<Key<'a>, Unreadable> {
        if shape.key_columns == 0 {
            Ok(Key::Rowid(self.signed()?))
        } else {
            Ok(Key::Columns(self.values(shape.key_columns)?))
        }
    }

    fn values(&mut self, count: usize) -> Result<Vec<ValueRef<'a>>, Unreadable> {
        if count > self.rest.len() {
            return Err(ENDS);
        }
        (0..count).map(|_| self.value()).collect()
    }

    fn value(&mut self) -> Result<ValueRef<'a>, Unreadable> {
        Ok(match self.byte()? {
            0 => ValueRef::Null,
            1 => ValueRef::Integer(self.signed()?),
            2 => {
                let (bits, rest) = self.rest.split_first_chunk().ok_or(ENDS)?;
                self.rest = rest;
                ValueRef::Real(f64::from_bits(u64::from_le_bytes(*bits)))
            }
            3 => ValueRef::Text(self.bytes()?),
            4 => ValueRef::Blob(self.bytes()?),
            _ => return Err(Unreadable("a value has an unknown type")),
        })
    }

    fn text(&mut self) -> Result<&'a str, Unreadable> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Unreadable("a name or script is not UTF-8"))
    }

    fn bytes(&mut self) -> Result<&'a [u8], Unreadable> {
        let length = self.size()?;
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(ENDS)?;
        self.rest = rest;
        Ok(bytes)
    }

    fn check(&mut self) -> Result<u32, Unreadable> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(ENDS)?;
        self.rest = rest;
        Ok(u32::from_le_bytes(*bytes))
    }

    fn flag(&mut self) -> Result<bool, Unreadable> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Unreadable("a flag is neither set nor clear")),
        }
    }

    fn byte(&mut self) -> Result<u8, Unreadable> {
        let (&byte, rest) = self.rest.split_first().ok_or(ENDS)?;
        self.rest = rest;
        Ok(byte)
    }

    fn size(&mut self) -> Result<usize, Unreadable> {
        usize::try_from(self.number()?).map_err(|_| ENDS)
    }

    fn signed(&mut self) -> Result<i64, Unreadable> {
        let number = self.number()?;
        Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    fn number(&mut self) -> Result<u64, Unreadable> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                break;
            }
            number |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Unreadable("a number has more than 64 bits"))
    }
}

const ENDS: Unreadable = Unreadable("they end in the middle of a segment");
