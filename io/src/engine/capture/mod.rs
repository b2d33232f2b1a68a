//! Writes down what a batch changes, while it changes it.
//!
//! Every change of a row passes through [`Capture::row`], in order, whoever causes it: the
//! statement, a trigger, a cascade, REPLACE, or a virtual table that keeps its content in ordinary
//! tables. What is undone is cut off again: [`Capture::mark`] and [`Capture::back_to`] go with
//! SQLite's savepoints. A change that comes while nothing is being captured is remembered, and
//! refuses the commit: nothing may change that does not travel.

mod row;

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _};

use super::effects::{self, Key};
use super::ffi::preupdate::{Change, NoValue, RowChange};
use super::tables::{Table, TableError};
use super::watch::Watch;
use row::{encoded, put_delete, put_insert, put_update};

/// Which changes of rows are written down.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Listen {
    /// None is expected: one that comes is a stray.
    Closed,
    /// All.
    All,
    /// None: the receiver's own execution of the statement makes them.
    Nothing,
    /// All but those of a table that is being dropped.
    AllBut(String),
}

/// A state to go back to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Mark {
    length: usize,
    named: usize,
    generation: usize,
}

/// Why what was captured is of no use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Trouble {
    /// SQLite had no memory for a value.
    Memory,
    /// The table cannot be carried, or its schema cannot be read.
    Table(String),
}

/// A row of which only the old content is known. Full-text indexes write BLOBs in place.
struct Rewritten {
    table: Arc<Table>,
    rowid: i64,
    /// Its old values, as effects carry them.
    old: Vec<Vec<u8>>,
    check: u32,
}

/// The effects of a batch, as they come to be.
pub(super) struct Capture {
    pub(super) listen: Listen,
    bytes: Vec<u8>,
    /// Bytes that were not kept, for there are too many already.
    skipped: usize,
    watch: Arc<Watch>,
    limit: usize,
    /// Begin of the current transaction's part in `bytes`.
    begin: usize,
    tables: HashMap<Box<str>, Arc<Table>>,
    /// The tables that have a number since the last script, in order.
    named: Vec<Box<str>>,
    /// How many scripts there were: numbers of an older generation mean nothing.
    generation: usize,
    trouble: Option<Trouble>,
    stray: Option<String>,
    /// A row in which a BLOB is being written in place.
    rewritten: Option<Rewritten>,
    inserted: bool,
    scratch: Vec<u8>,
}

impl Capture {
    pub(super) fn new(watch: Arc<Watch>) -> Self {
        Self {
            watch,
            listen: Listen::Closed,
            bytes: Vec::new(),
            skipped: 0,
            limit: 0,
            begin: 0,
            tables: HashMap::new(),
            named: Vec::new(),
            generation: 0,
            trouble: None,
            stray: None,
            rewritten: None,
            inserted: false,
            scratch: Vec::new(),
        }
    }

    /// Begins a batch whose effects take at most `limit` bytes.
    pub(super) fn start(&mut self, limit: usize) {
        self.bytes.clear();
        self.bytes.push(effects::VERSION);
        self.skipped = 0;
        self.limit = limit;
        self.begin = self.bytes.len();
        self.named.clear();
        self.generation = 0;
        self.trouble = None;
        self.rewritten = None;
        self.listen = Listen::Closed;
    }

    /// Whether anything was written down in this batch.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.len() <= 1 && self.skipped == 0
    }

    /// What was written down. The next batch starts with a new buffer.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.named.clear();
        let capacity = self.bytes.len().min(64 * 1024);
        std::mem::replace(&mut self.bytes, Vec::with_capacity(capacity))
    }

    /// Begins a transaction; the way back to before it.
    pub(super) fn mark(&mut self) -> Mark {
        self.begin = self.bytes.len();
        self.here()
    }

    /// The way back to what is captured now.
    pub(super) fn here(&self) -> Mark {
        Mark { length: self.bytes.len(), named: self.named.len(), generation: self.generation }
    }

    /// Forgets what came after `mark`.
    pub(super) fn back_to(&mut self, mark: Mark) {
        self.bytes.truncate(mark.length);
        self.skipped = 0;
        self.trouble = None;
        self.rewritten = None;
        if self.generation == mark.generation {
            self.named.truncate(mark.named);
        } else {
            // A script came in between and took the numbers with it. Tables are named anew: the
            // numbers go on from those that stand in the bytes, so those must be known.
            self.named.clear();
            self.generation = mark.generation;
            self.recount();
        }
    }

    /// Reads from the bytes that are left which tables have a number.
    fn recount(&mut self) {
        let Ok(mut decoder) = effects::Decoder::new(&self.bytes) else { return };
        let mut named = Vec::new();
        while let Ok(Some(segment)) = decoder.next() {
            match segment {
                effects::Segment::Script(_) => named.clear(),
                effects::Segment::Table { name, .. } => named.push(name.into()),
                _ => {}
            }
        }
        self.named = named;
    }

    /// Bytes of the current transaction, those included that were not kept.
    pub(super) fn own_bytes(&self) -> usize {
        self.bytes.len() - self.begin + self.skipped
    }

    /// Whether the batch has become too large for its limit.
    pub(super) fn is_over(&self) -> bool {
        self.skipped > 0 || self.bytes.len() > self.limit
    }

    pub(super) fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref()
    }

    /// The table of a change that came while nothing was captured, if there was one.
    pub(super) fn stray(&self) -> Option<&str> {
        self.stray.as_deref()
    }

    /// Whether a statement itself inserted a row since this was last asked.
    pub(super) fn take_inserted(&mut self) -> bool {
        std::mem::take(&mut self.inserted)
    }

    /// The schema is, or may be, another one: what is known of tables counts no more.
    pub(super) fn forget_tables(&mut self) {
        self.tables.clear();
    }

    /// Writes down SQL that the receiver is to run.
    pub(super) fn script(&mut self, sql: &str) {
        self.add(|out| effects::put_script(out, sql));
        self.named.clear();
        self.generation += 1;
        self.forget_tables();
    }

    /// Writes down anything else than a change of a row.
    pub(super) fn add(&mut self, put: impl FnOnce(&mut Vec<u8>)) {
        if self.is_over() {
            let before = self.scratch.len();
            put(&mut self.scratch);
            self.skipped += self.scratch.len() - before;
            self.scratch.clear();
        } else {
            put(&mut self.bytes);
        }
    }

    /// Writes down a row that is there and that no change has told of.
    pub(super) fn existing_row(
        &mut self,
        table: &Arc<Table>,
        rowid: Option<i64>,
        values: &[ValueRef<'_>],
    ) {
        let number = self.number(table);
        self.add(|out| {
            effects::put_insert(out, number, rowid);
            values.iter().for_each(|value| effects::put_value(out, *value));
        });
    }

    /// A row is about to change.
    pub(super) fn row(&mut self, row: &RowChange<'_>) {
        if row.change == Change::Insert && row.is_direct() {
            self.inserted = true;
        }
        match &self.listen {
            Listen::Nothing => return,
            Listen::AllBut(table) if table.eq_ignore_ascii_case(row.table) => return,
            _ if is_apart(row.table) => return,
            Listen::Closed => {
                self.stray = Some(row.table.to_owned());
                return;
            }
            Listen::All | Listen::AllBut(_) => {}
        }
        if self.trouble.is_some() {
            return;
        }
        if let Err(trouble) = self.changed(row) {
            self.trouble = Some(trouble);
        }
    }

    fn changed(&mut self, row: &RowChange<'_>) -> Result<(), Trouble> {
        if self.rewritten.is_some() {
            let conn = row.connection().map_err(|error| unreadable(row.table, &error))?;
            self.settle_rewritten(&conn)?;
        }
        let table = self.table(row)?;
        if row.is_blob_write() {
            let mut check = Vec::new();
            let mut old = Vec::with_capacity(table.columns.len());
            for column in &table.columns {
                let value = row.old_value(column.number).map_err(|NoValue| Trouble::Memory)?;
                effects::put_check_value(&mut check, value);
                old.push(encoded(value));
            }
            let check = crc32c::crc32c(&check);
            self.rewritten = Some(Rewritten { table, rowid: row.old_rowid, old, check });
            return Ok(());
        }
        self.write(row, &table).map_err(|NoValue| Trouble::Memory)
    }

    /// Writes down what a BLOB that was written in place has become; to be called after every
    /// statement.
    pub(super) fn settle(&mut self, conn: &Connection) {
        if let Err(trouble) = self.settle_rewritten(conn) {
            self.trouble.get_or_insert(trouble);
        }
    }

    fn settle_rewritten(&mut self, conn: &Connection) -> Result<(), Trouble> {
        let Some(Rewritten { table, rowid, old, check }) = self.rewritten.take() else {
            return Ok(());
        };
        let new: Option<Vec<Vec<u8>>> = conn
            .query_row(&format!("{} WHERE {}", table.select(), table.is_row(1)), [rowid], |row| {
                (0..table.columns.len()).map(|place| row.get_ref(place + 1).map(encoded)).collect()
            })
            .optional()
            .map_err(|error| unreadable(&table.name, &error))?;
        let new = new.ok_or_else(|| {
            Trouble::Table(format!("row {rowid} of table {} is gone unseen", table.name))
        })?;
        let changed: Vec<usize> =
            (0..old.len()).filter(|place| old[*place] != new[*place]).collect();
        if changed.is_empty() {
            return Ok(());
        }
        let number = self.number(&table);
        self.add(|out| {
            effects::put_update(out, number, &Key::Rowid(rowid), check, None, changed.len());
            for place in changed {
                effects::put_number(out, place as u64);
                out.extend_from_slice(&new[place]);
            }
        });
        Ok(())
    }

    fn table(&mut self, row: &RowChange<'_>) -> Result<Arc<Table>, Trouble> {
        if let Some(table) = self.tables.get(row.table) {
            return Ok(Arc::clone(table));
        }
        let loaded = row
            .connection()
            .map_err(TableError::Sql)
            .and_then(|conn| Table::load(&conn, row.table));
        let table = Arc::new(loaded.map_err(|error| match error {
            TableError::HiddenRowid => Trouble::Table(hidden_rowid(row.table)),
            TableError::Sql(error) => unreadable(row.table, &error),
        })?);
        self.tables.insert(row.table.into(), Arc::clone(&table));
        Ok(table)
    }

    fn write(&mut self, row: &RowChange<'_>, table: &Arc<Table>) -> Result<(), NoValue> {
        let (before, named) = (self.bytes.len(), self.named.len());
        let over = self.is_over();
        let number = if over { 0 } else { self.number(table) };
        let mut out = std::mem::take(if over { &mut self.scratch } else { &mut self.bytes });
        let start = out.len();
        let result = match row.change {
            Change::Insert => put_insert(&mut out, number, row, table),
            Change::Delete if over => put_delete(&mut out, &mut Vec::new(), number, row, table),
            Change::Delete => put_delete(&mut out, &mut self.scratch, number, row, table),
            Change::Update => put_update(&mut out, number, row, table),
        };
        if over {
            self.skipped += out.len() - start;
            out.clear();
            self.scratch = out;
            if self.own_bytes() > self.limit {
                self.watch.give_up();
            }
        } else {
            if result.is_err() || out.len() == start {
                // Nothing changes: then nothing is named either.
                out.truncate(before);
                self.named.truncate(named);
            }
            self.bytes = out;
        }
        result
    }

    /// The number of `table` in the effects; names it first if it has none.
    fn number(&mut self, table: &Arc<Table>) -> usize {
        if let Some(number) = self.named.iter().rposition(|named| **named == *table.name) {
            return number;
        }
        effects::put_table(&mut self.bytes, &table.name, table.columns.len(), table.key.len());
        self.named.push(table.name.as_str().into());
        self.named.len() - 1
    }
}

/// Tables whose content travels another way, or not at all.
fn is_apart(table: &str) -> bool {
    table == "sqlite_sequence" || super::open::is_ours(table)
}

fn unreadable(table: &str, error: &rusqlite::Error) -> Trouble {
    let (code, message) = super::errors::code_and_message(error);
    if code & 0xff == rusqlite::ffi::SQLITE_NOMEM {
        return Trouble::Memory;
    }
    Trouble::Table(format!("table {table} is changed, but cannot be read: {message}"))
}

/// What to say of a table whose rows cannot be named.
pub(super) fn hidden_rowid(table: &str) -> String {
    format!(
        "table {table} cannot be replicated: its columns rowid, oid and _rowid_ hide the rowid; \
         rename one of them, or declare an INTEGER PRIMARY KEY"
    )
}
