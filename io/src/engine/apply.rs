//! Applying effects: the same changes to the same rows, in the same order.
//!
//! Triggers, foreign keys and CHECK constraints are off: what they do, or would refuse, is decided.
//! A row that is not there, is there already, or has other values than the executor's had, means that
//! the copies differ, and stops everything.

use std::collections::HashMap;
use std::sync::Arc;

use quorate_core::engine::{Effect, Fault, Note};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, Error};

use super::effects::{self, Decoder, Key, Segment, Statistics, Unreadable};
use super::errors::{apply_fault, fault};
use super::open::{BEGIN, COMMIT, Meta, ROLLBACK, run, write_meta, write_notes};
use super::schema::STATISTICS;
use super::sequences;
use super::tables::{Table, TableError, quoted};

/// The connection that applies, and what it has learnt of the tables.
pub(super) struct Applier {
    conn: Connection,
    tables: HashMap<Box<str>, Arc<Target>>,
}

/// A table to change, with the statements for it.
struct Target {
    table: Table,
    insert: String,
    delete: String,
    select: String,
}

/// Why an entry cannot be applied.
enum Failure {
    /// It does not fit the copy.
    Conflict(String),
    /// It cannot be read.
    Unreadable(Unreadable),
    /// SQLite refuses.
    Sql(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Sql(error)
    }
}

impl From<Unreadable> for Failure {
    fn from(unreadable: Unreadable) -> Self {
        Self::Unreadable(unreadable)
    }
}

/// What an applied entry changed beside rows.
#[derive(Default)]
pub(super) struct Applied {
    /// The schema may be another one.
    pub(super) schema: bool,
}

impl Applier {
    pub(super) fn new(conn: Connection) -> Self {
        Self { conn, tables: HashMap::new() }
    }

    /// As if the disk had room for no more.
    #[cfg(test)]
    pub(super) fn limit_pages(&self, pages: u32) {
        let sql = format!("PRAGMA max_page_count = {pages}");
        self.conn.query_row(&sql, [], |_| Ok(())).expect("the pragma answers");
    }

    /// Another connection may have changed the schema.
    pub(super) fn forget_schema(&mut self) {
        self.tables.clear();
        self.conn.flush_prepared_statement_cache();
    }

    /// Applies the entries in one transaction, and the notes and `meta` with them.
    ///
    /// # Errors
    /// None of them is applied; or, if the commit failed, perhaps all.
    pub(super) fn apply(
        &mut self,
        entries: &[&Effect],
        notes: &[Note],
        meta: &mut Meta,
    ) -> Result<Applied, Fault> {
        run(&self.conn, BEGIN).map_err(|error| fault(&error))?;
        let mut applied = Applied::default();
        let result = entries
            .iter()
            .try_for_each(|entry| self.entry(entry, meta, &mut applied))
            .and_then(|()| write_meta(&self.conn, meta).map_err(|error| fault(&error)))
            .and_then(|()| write_notes(&self.conn, notes).map_err(|error| fault(&error)))
            .and_then(|()| run(&self.conn, COMMIT).map_err(|error| fault(&error)));
        if result.is_err() && !self.conn.is_autocommit() {
            // Nothing to add to the first failure: dropping the connection undoes it as well.
            let _ = run(&self.conn, ROLLBACK);
        }
        result.map(|()| applied)
    }

    fn entry(
        &mut self,
        entry: &Effect,
        meta: &mut Meta,
        applied: &mut Applied,
    ) -> Result<(), Fault> {
        let at = entry.at;
        if !entry.effects.is_empty() {
            self.segments(&entry.effects, meta, applied).map_err(|failure| match failure {
                Failure::Conflict(reason) => Fault::Conflict { at, reason },
                Failure::Unreadable(Unreadable(reason)) => {
                    Fault::Unreadable { at, reason: reason.into() }
                }
                Failure::Sql(error) => apply_fault(&error, at),
            })?;
        }
        meta.at = at;
        Ok(())
    }

    fn segments(
        &mut self,
        bytes: &[u8],
        meta: &mut Meta,
        applied: &mut Applied,
    ) -> Result<(), Failure> {
        let mut decoder = Decoder::new(bytes)?;
        let mut targets: Vec<Arc<Target>> = Vec::new();
        while let Some(segment) = decoder.next()? {
            match segment {
                Segment::Table { name, columns, key_columns } => {
                    targets.push(self.target(name, columns, key_columns)?);
                }
                Segment::Insert { table, rowid, values } => {
                    self.insert(target(&targets, table)?, rowid, &values)?;
                }
                Segment::Delete { table, key, check } => {
                    self.delete(target(&targets, table)?, &key, check)?;
                }
                Segment::Update { table, key, check, rowid, values } => {
                    let target = target(&targets, table)?;
                    self.compare(target, &key, check)?;
                    self.update(target, &key, rowid, &values)?;
                }
                Segment::Script(sql) => {
                    targets.clear();
                    self.forget_schema();
                    self.conn.execute_batch(sql)?;
                    applied.schema = true;
                }
                Segment::Sequences { all, names } => {
                    sequences::apply(&self.conn, all, &names)?;
                }
                Segment::ForeignKeys(on) => meta.foreign_keys = on,
                Segment::Statistics(tables) => {
                    self.statistics(&tables)?;
                    applied.schema = true;
                }
            }
        }
        Ok(())
    }

    fn target(
        &mut self,
        name: &str,
        columns: usize,
        key_columns: usize,
    ) -> Result<Arc<Target>, Failure> {
        let target = match self.tables.get(name) {
            Some(target) => Arc::clone(target),
            None => {
                let target = Arc::new(Target::load(&self.conn, name)?);
                self.tables.insert(name.into(), Arc::clone(&target));
                target
            }
        };
        let table = &target.table;
        if table.columns.len() != columns || table.key.len() != key_columns {
            return Err(Failure::Conflict(format!(
                "table {name} has {} columns, {} of them its key; the executor's had {columns} and \
                 {key_columns}",
                table.columns.len(),
                table.key.len()
            )));
        }
        Ok(target)
    }

    fn insert(
        &self,
        target: &Target,
        rowid: Option<i64>,
        values: &[ValueRef<'_>],
    ) -> Result<(), Failure> {
        let mut statement = self.conn.prepare_cached(&target.insert)?;
        let mut number = 1;
        if let Some(rowid) = rowid {
            statement.raw_bind_parameter(number, rowid)?;
            number += 1;
        }
        for value in values {
            statement.raw_bind_parameter(number, ToSqlOutput::Borrowed(*value))?;
            number += 1;
        }
        statement.raw_execute()?;
        Ok(())
    }

    fn delete(&self, target: &Target, key: &Key<'_>, check: u32) -> Result<(), Failure> {
        self.compare(target, key, check)?;
        let mut statement = self.conn.prepare_cached(&target.delete)?;
        bind_key(&mut statement, 1, key)?;
        one_row(statement.raw_execute()?, target, key)
    }

    fn update(
        &self,
        target: &Target,
        key: &Key<'_>,
        rowid: Option<i64>,
        values: &[(usize, ValueRef<'_>)],
    ) -> Result<(), Failure> {
        let mut statement = self.conn.prepare_cached(&target.update(rowid.is_some(), values))?;
        let mut number = 1;
        if let Some(rowid) = rowid {
            statement.raw_bind_parameter(number, rowid)?;
            number += 1;
        }
        for (_, value) in values {
            statement.raw_bind_parameter(number, ToSqlOutput::Borrowed(*value))?;
            number += 1;
        }
        bind_key(&mut statement, number, key)?;
        one_row(statement.raw_execute()?, target, key)
    }

    /// Whether the row is the one that the executor had.
    fn compare(&self, target: &Target, key: &Key<'_>, check: u32) -> Result<(), Failure> {
        let mut statement = self.conn.prepare_cached(&target.select)?;
        bind_key(&mut statement, 1, key)?;
        let mut rows = statement.raw_query();
        let Some(row) = rows.next()? else { return Err(missing(target, key)) };
        let first = usize::from(target.table.rowid.is_some());
        let mut bytes = Vec::with_capacity(64);
        for place in 0..target.table.columns.len() {
            effects::put_check_value(&mut bytes, row.get_ref(first + place)?);
        }
        if crc32c::crc32c(&bytes) == check {
            Ok(())
        } else {
            Err(Failure::Conflict(format!(
                "the row of table {} with {} has other values than the executor's had",
                target.table.name,
                named(key)
            )))
        }
    }

    fn statistics(&mut self, tables: &[Statistics<'_>]) -> Result<(), Failure> {
        self.forget_schema();
        // Makes the tables if they are not there; what it puts into them goes again.
        self.conn.execute_batch("ANALYZE _quorate_meta")?;
        for Statistics { table, rows } in tables {
            if !STATISTICS.contains(table) {
                return Err(Failure::Conflict(format!("{table} is no table of statistics")));
            }
            self.conn.execute(&format!("DELETE FROM main.{}", quoted(table)), [])?;
            let loaded = Target::load(&self.conn, table)?;
            for (rowid, values) in rows {
                if values.len() != loaded.table.columns.len() {
                    return Err(Failure::Conflict(format!("{table} has other columns here")));
                }
                self.insert(&loaded, Some(*rowid), values)?;
            }
        }
        self.conn.execute_batch("ANALYZE sqlite_schema")?;
        Ok(())
    }
}

impl Target {
    fn load(conn: &Connection, name: &str) -> Result<Self, Failure> {
        let table = Table::load(conn, name).map_err(|error| match error {
            TableError::Sql(Error::QueryReturnedNoRows) => {
                Failure::Conflict(format!("there is no table {name}"))
            }
            TableError::Sql(error) => Failure::Sql(error),
            TableError::HiddenRowid => {
                Failure::Conflict(format!("the rowid of table {name} cannot be named"))
            }
        })?;
        let target = quoted(&table.name);
        let mut names: Vec<&str> = Vec::with_capacity(table.columns.len() + 1);
        names.extend(table.rowid.as_deref());
        names.extend(table.columns.iter().map(|column| column.name.as_str()));
        let places = vec!["?"; names.len()].join(", ");
        let row = table.is_row(1);
        Ok(Self {
            insert: format!(
                "INSERT OR ABORT INTO main.{target}({}) VALUES({places})",
                names.join(", ")
            ),
            delete: format!("DELETE FROM main.{target} WHERE {row}"),
            select: format!("{} WHERE {row}", table.select()),
            table,
        })
    }

    fn update(&self, rowid: bool, values: &[(usize, ValueRef<'_>)]) -> String {
        let mut sets = Vec::with_capacity(values.len() + 1);
        if rowid && let Some(name) = &self.table.rowid {
            sets.push(format!("{name} = ?"));
        }
        for (place, _) in values {
            sets.push(format!("{} = ?", self.table.columns[*place].name));
        }
        let row = self.table.is_row(sets.len() + 1);
        format!(
            "UPDATE OR ABORT main.{} SET {} WHERE {row}",
            quoted(&self.table.name),
            sets.join(", ")
        )
    }
}

fn target(targets: &[Arc<Target>], number: usize) -> Result<&Target, Failure> {
    targets
        .get(number)
        .map(Arc::as_ref)
        .ok_or(Failure::Unreadable(Unreadable("a row belongs to a table that was not named")))
}

fn bind_key(
    statement: &mut rusqlite::Statement<'_>,
    first: usize,
    key: &Key<'_>,
) -> rusqlite::Result<()> {
    match key {
        Key::Rowid(rowid) => statement.raw_bind_parameter(first, rowid),
        Key::Columns(values) => values.iter().enumerate().try_for_each(|(nth, value)| {
            statement.raw_bind_parameter(first + nth, ToSqlOutput::Borrowed(*value))
        }),
    }
}

fn one_row(changed: usize, target: &Target, key: &Key<'_>) -> Result<(), Failure> {
    if changed == 1 { Ok(()) } else { Err(missing(target, key)) }
}

fn missing(target: &Target, key: &Key<'_>) -> Failure {
    Failure::Conflict(format!("table {} has no row with {}", target.table.name, named(key)))
}

/// A key in a message, cut to a readable length.
fn named(key: &Key<'_>) -> String {
    let text = match key {
        Key::Rowid(rowid) => return format!("rowid {rowid}"),
        Key::Columns(values) => {
            let values: Vec<String> = values.iter().map(shown).collect();
            format!("key ({})", values.join(", "))
        }
    };
    match text.char_indices().nth(100) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

fn shown(value: &ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "NULL".into(),
        ValueRef::Integer(integer) => integer.to_string(),
        ValueRef::Real(real) => real.to_string(),
        ValueRef::Text(text) => format!("{:?}", String::from_utf8_lossy(text)),
        ValueRef::Blob(blob) => format!("a BLOB of {} bytes", blob.len()),
    }
}
