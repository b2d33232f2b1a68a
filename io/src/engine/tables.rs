//! What must be known of a table to name its rows and carry their values.

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _};

/// A column that holds a value of its own: neither generated, nor another name of the rowid.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Column {
    /// Its name, quoted for SQL.
    pub(super) name: String,
    /// Its number in the table, generated columns counted.
    pub(super) number: usize,
}

/// A table whose rows are carried.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Table {
    /// Its name as written in the schema.
    pub(super) name: String,
    /// By what name SQL reaches the rowid, quoted; none in a table without rowids.
    pub(super) rowid: Option<String>,
    /// The columns that are carried.
    pub(super) columns: Vec<Column>,
    /// Without rowids: the places in `columns` of the primary key.
    pub(super) key: Vec<usize>,
}

/// Why the rows of a table cannot be carried.
#[derive(Debug)]
pub(super) enum TableError {
    /// Columns named `rowid`, `oid` and `_rowid_` hide the rowid.
    HiddenRowid,
    /// SQLite failed, or there is no such table.
    Sql(rusqlite::Error),
}

impl From<rusqlite::Error> for TableError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

/// A name as SQL takes it, whatever is in it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

struct RawColumn {
    name: String,
    decltype: String,
    /// Its place in the primary key, the first being 1; 0: it is not in it.
    key: i64,
    /// 0 for an ordinary column.
    hidden: i64,
}

impl Table {
    /// What the schema says of table `name` of the main database.
    ///
    /// # Errors
    /// See [`TableError`].
    pub(super) fn load(conn: &Connection, name: &str) -> Result<Self, TableError> {
        let (name, without_rowid) = conn
            .prepare_cached("SELECT name, wr FROM pragma_table_list(?1) WHERE schema = 'main'")?
            .query_row([name], |row| Ok((row.get::<_, String>(0)?, row.get::<_, bool>(1)?)))?;
        let raw = raw_columns(conn, &name)?;
        let alias = if without_rowid { None } else { rowid_alias(conn, &name, &raw)? };
        let rowid = if without_rowid {
            None
        } else {
            Some(match alias {
                Some(number) => quoted(&raw[number].name),
                None => free_rowid_name(&raw).ok_or(TableError::HiddenRowid)?.to_owned(),
            })
        };
        let mut columns = Vec::with_capacity(raw.len());
        let mut key = Vec::new();
        for (number, column) in raw.iter().enumerate() {
            if column.hidden != 0 || alias == Some(number) {
                continue;
            }
            if without_rowid && column.key > 0 {
                key.push((column.key, columns.len()));
            }
            columns.push(Column { name: quoted(&column.name), number });
        }
        key.sort_unstable();
        Ok(Self { name, rowid, columns, key: key.into_iter().map(|(_, place)| place).collect() })
    }

    /// `SELECT` of the carried columns, the rowid before them if there is one.
    pub(super) fn select(&self) -> String {
        let mut names: Vec<&str> = Vec::with_capacity(self.columns.len() + 1);
        names.extend(self.rowid.as_deref());
        names.extend(self.columns.iter().map(|column| column.name.as_str()));
        format!("SELECT {} FROM main.{}", names.join(", "), quoted(&self.name))
    }

    /// What names one row, from parameter `first` on, as a `WHERE` takes it.
    pub(super) fn is_row(&self, first: usize) -> String {
        match &self.rowid {
            Some(rowid) => format!("{rowid} = ?{first}"),
            None => self
                .key
                .iter()
                .enumerate()
                .map(|(nth, place)| format!("{} = ?{}", self.columns[*place].name, first + nth))
                .collect::<Vec<_>>()
                .join(" AND "),
        }
    }
}

fn raw_columns(conn: &Connection, table: &str) -> rusqlite::Result<Vec<RawColumn>> {
    conn.prepare_cached("SELECT name, type, pk, hidden FROM pragma_table_xinfo(?1) ORDER BY cid")?
        .query_map([table], |row| {
            Ok(RawColumn {
                name: row.get(0)?,
                decltype: match row.get_ref(1)?.data_type() {
                    Type::Text => row.get(1)?,
                    _ => String::new(),
                },
                key: row.get(2)?,
                hidden: row.get(3)?,
            })
        })?
        .collect()
}

/// The column that is another name of the rowid: an INTEGER PRIMARY KEY, unless an index of its own
/// shows that it is none (`INTEGER PRIMARY KEY DESC` is such an oddity).
fn rowid_alias(
    conn: &Connection,
    table: &str,
    columns: &[RawColumn],
) -> rusqlite::Result<Option<usize>> {
    let mut keys = columns.iter().enumerate().filter(|(_, column)| column.key > 0);
    let (Some((number, column)), None) = (keys.next(), keys.next()) else { return Ok(None) };
    if !column.decltype.eq_ignore_ascii_case("INTEGER") {
        return Ok(None);
    }
    let indexed = conn
        .prepare_cached("SELECT 1 FROM pragma_index_list(?1) WHERE origin = 'pk'")?
        .query_row([table], |_| Ok(()))
        .optional()?
        .is_some();
    Ok((!indexed).then_some(number))
}

fn free_rowid_name(columns: &[RawColumn]) -> Option<&'static str> {
    ["rowid", "_rowid_", "oid"]
        .into_iter()
        .find(|name| !columns.iter().any(|column| column.name.eq_ignore_ascii_case(name)))
}
