//! Reading effects: every length and number is checked before it is used.

use rusqlite::types::ValueRef;

use super::{
    COLUMNS_MAX, DELETE, FOREIGN_KEYS, INSERT, Key, SCRIPT, SEQUENCES, STATISTICS, Segment,
    Statistics, TABLE, UPDATE, VERSION,
};

/// Why effects cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) struct Unreadable(pub(in super::super) &'static str);

/// What is known of a table number.
#[derive(Clone, Copy)]
struct Shape {
    columns: usize,
    key_columns: usize,
}

/// Reads segments one after the other.
pub(in super::super) struct Decoder<'a> {
    rest: &'a [u8],
    tables: Vec<Shape>,
}

impl<'a> Decoder<'a> {
    /// # Errors
    /// The version is another one, or there are no bytes.
    pub(in super::super) fn new(effects: &'a [u8]) -> Result<Self, Unreadable> {
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
    pub(in super::super) fn next(&mut self) -> Result<Option<Segment<'a>>, Unreadable> {
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
