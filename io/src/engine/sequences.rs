//! `sqlite_sequence`, the table of the last AUTOINCREMENT values. SQLite writes it in a way of its
//! own, of which no hook tells; so it is read before and after, and what differs travels.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, OptionalExtension as _, ToSql as _};

use super::effects::{self, SequenceRow};

/// A name, and its rows less the name.
type Named = (Value, Vec<(i64, Value)>);

/// What `sqlite_sequence` holds.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Sequences {
    exists: bool,
    /// By the encoded name: the name, and its rows. More than one row, or a name that is no text,
    /// is nothing that SQLite would write, but statements can.
    names: BTreeMap<Vec<u8>, Named>,
}

impl Sequences {
    pub(super) fn read(conn: &Connection) -> rusqlite::Result<Self> {
        let exists = conn
            .prepare_cached("SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_sequence'")?
            .query_row([], |_| Ok(()))
            .optional()?
            .is_some();
        let mut sequences = Self { exists, names: BTreeMap::new() };
        if exists {
            sequences.fill(conn)?;
        }
        Ok(sequences)
    }

    /// Whether the copy has the table. Once there, it stays.
    pub(super) fn exist(&self) -> bool {
        self.exists
    }

    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The same, with the table there.
    pub(super) fn existing(&self) -> Self {
        Self { exists: true, names: self.names.clone() }
    }

    /// Reads it again.
    pub(super) fn reread(&self, conn: &Connection) -> rusqlite::Result<Self> {
        let mut sequences = Self { exists: true, names: BTreeMap::new() };
        sequences.fill(conn)?;
        Ok(sequences)
    }

    fn fill(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        let mut statement =
            conn.prepare_cached("SELECT rowid, name, seq FROM sqlite_sequence ORDER BY rowid")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let name: Value = row.get(1)?;
            let mut key = Vec::new();
            effects::put_value(&mut key, ValueRef::from(&name));
            let entry = self.names.entry(key).or_insert_with(|| (name, Vec::new()));
            entry.1.push((row.get(0)?, row.get(2)?));
        }
        Ok(())
    }

    /// Writes down what is different in `after`: all of it, or the names whose rows differ.
    pub(super) fn put_difference(&self, after: &Self, all: bool, out: &mut Vec<u8>) -> bool {
        let keys: BTreeSet<&Vec<u8>> = self.names.keys().chain(after.names.keys()).collect();
        let mut names = Vec::new();
        for key in keys {
            let (old, new) = (self.names.get(key), after.names.get(key));
            if !all && old == new {
                continue;
            }
            let Some((name, _)) = new.or(old) else { continue };
            let rows = new.map_or_else(Vec::new, |(_, rows)| {
                rows.iter().map(|(rowid, value)| (*rowid, ValueRef::from(value))).collect()
            });
            names.push((ValueRef::from(name), rows));
        }
        if names.is_empty() && !all {
            return false;
        }
        effects::put_sequences(out, all, &names);
        true
    }
}

/// Makes `sqlite_sequence` hold what the executor's held.
pub(super) fn apply(
    conn: &Connection,
    all: bool,
    names: &[(ValueRef<'_>, Vec<SequenceRow<'_>>)],
) -> rusqlite::Result<()> {
    if all {
        conn.prepare_cached("DELETE FROM sqlite_sequence")?.execute([])?;
    } else {
        let mut delete = conn.prepare_cached("DELETE FROM sqlite_sequence WHERE name IS ?1")?;
        for (name, _) in names {
            delete.execute([ToSqlOutput::Borrowed(*name)])?;
        }
    }
    let mut insert =
        conn.prepare_cached("INSERT INTO sqlite_sequence(rowid, name, seq) VALUES(?1, ?2, ?3)")?;
    for (name, rows) in names {
        for (rowid, value) in rows {
            insert.execute([
                rowid.to_sql()?,
                ToSqlOutput::Borrowed(*name),
                ToSqlOutput::Borrowed(*value),
            ])?;
        }
    }
    Ok(())
}
