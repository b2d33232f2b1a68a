//! An engine in memory, for tests and for the simulator: it knows a handful of statements, the same
//! that SQLite knows, and fails when it is told to.
//!
//! `CREATE TABLE t (k INTEGER PRIMARY KEY, v)` · `DROP TABLE t` · `INSERT INTO t (k, v) VALUES (?, ?)`,
//! also `INSERT OR REPLACE`, `INSERT OR ROLLBACK` · `UPDATE t SET v = ? WHERE k = ?`, also `v = v + ?`, also `AND v = ?` ·
//! `DELETE FROM t WHERE k = ?` · `SELECT v FROM t WHERE k = ?` · `SELECT k, v FROM t ORDER BY k`.
//!
//! It changes its one state in place and remembers how to undo: what is open, and what is committed
//! and not synced. So a call costs what it changes, however much the copy holds.

mod interactive;
mod sql;

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    ContentHash, Effect, Engine, Executed, Fault, Note, Outcome, Position, Reader, Rights,
    SqlError, SqlErrorKind, SqlLimits, Stepped, Transaction, Value,
};
use interactive::Interactive;

type Tables = BTreeMap<String, BTreeMap<i64, Value>>;

/// One change, as it travels. Rows go before their table does, so that each can be undone.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
enum Change {
    Create(String),
    Drop(String),
    Row { table: String, key: i64, before: Option<Value>, after: Option<Value> },
}

/// What the shard remembers with the content.
type Notes = BTreeMap<u64, Bytes>;

/// What one commit changed, and where the copy stood before it.
#[derive(Clone, Debug)]
struct Commit {
    before: Position,
    changes: Vec<Change>,
    /// Notes that it changed, as they were.
    notes: Vec<(u64, Option<Bytes>)>,
}

/// A copy in memory.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    at: Position,
    /// With what is open.
    tables: Tables,
    notes: Notes,
    /// Of all rows and tables; a sum, so that it follows each change.
    sum: u128,
    open: Option<Vec<Change>>,
    /// What is open is an interactive transaction.
    interactive: Option<Interactive>,
    /// Committed since the last sync, oldest first.
    unsynced: Vec<Commit>,
    /// The next call but a query fails with this.
    pub fail: Option<Fault>,
}

impl Memory {
    /// The process has ended: what was open is gone.
    pub fn kill(&mut self) {
        self.forget_open();
        self.fail = None;
    }

    /// The power has failed: what was not synced is gone too.
    pub fn lose_power(&mut self) {
        self.lose_power_after(0);
    }

    /// The power has failed, and of what was committed since the last sync only the first `kept`
    /// commits are left.
    pub fn lose_power_after(&mut self, kept: usize) {
        self.kill();
        while self.unsynced.len() > kept
            && let Some(commit) = self.unsynced.pop()
        {
            self.undo(&commit.changes);
            for (key, value) in commit.notes.into_iter().rev() {
                put_note(&mut self.notes, key, value);
            }
            self.at = commit.before;
        }
        self.unsynced.clear();
    }

    /// How many commits a power failure may take.
    #[must_use]
    pub fn unsynced(&self) -> usize {
        self.unsynced.len()
    }

    /// Whether a transaction is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// What would survive a power failure.
    #[must_use]
    pub fn synced_at(&self) -> Position {
        self.unsynced.first().map_or(self.at, |oldest| oldest.before)
    }

    /// The committed content as one file.
    #[must_use]
    pub fn to_file(&self) -> Vec<u8> {
        let mut committed = self.tables.clone();
        for change in self.open.iter().flatten().rev() {
            revert(&mut committed, change);
        }
        let bytes = postcard::to_allocvec(&(self.at, committed, &self.notes));
        bytes.unwrap_or_else(|e| unreachable!("content always encodes: {e}"))
    }

    /// A copy from such a file, durable; `None` if it is none.
    #[must_use]
    pub fn from_file(bytes: &[u8]) -> Option<Self> {
        let ((at, tables, notes), rest): ((Position, Tables, Notes), &[u8]) =
            postcard::take_from_bytes(bytes).ok()?;
        let mut sum: u128 = 0;
        for (table, rows) in &tables {
            sum = sum.wrapping_add(digest(table, None));
            for (key, value) in rows {
                sum = sum.wrapping_add(digest(table, Some((*key, value))));
            }
        }
        rest.is_empty().then(|| Self { at, tables, notes, sum, ..Self::default() })
    }

    /// What the shard remembers with the content.
    #[must_use]
    pub fn noted(&self) -> &BTreeMap<u64, Bytes> {
        &self.notes
    }

    /// The same content, durable, at another place in the log, or in another log: without the notes.
    #[must_use]
    pub fn placed(&self, at: Position, notes: &[Note]) -> Self {
        let mut placed = self.clone();
        placed.kill();
        placed.unsynced.clear();
        placed.notes = notes.iter().map(|note| (note.key, note.value.clone())).collect();
        placed.at = at;
        placed
    }

    /// The committed rows of a table.
    #[must_use]
    pub fn table(&self, name: &str) -> BTreeMap<i64, Value> {
        let mut committed = self.tables.clone();
        for change in self.open.iter().flatten().rev() {
            revert(&mut committed, change);
        }
        committed.remove(name).unwrap_or_default()
    }

    /// A row of a table, with what is open.
    #[must_use]
    pub fn row(&self, table: &str, key: i64) -> Option<&Value> {
        self.tables.get(table)?.get(&key)
    }

    /// The rows of a table, with what is open; `None` if there is no such table.
    #[must_use]
    pub fn rows(&self, table: &str) -> Option<&BTreeMap<i64, Value>> {
        self.tables.get(table)
    }

    fn undo(&mut self, changes: &[Change]) {
        for change in changes.iter().rev() {
            revert(&mut self.tables, change);
            self.sum = self.sum.wrapping_sub(weight(change));
        }
    }

    fn forget_open(&mut self) {
        self.interactive = None;
        if let Some(changes) = self.open.take() {
            for change in changes.iter().rev() {
                revert(&mut self.tables, change);
            }
        }
    }

    /// Changes a row behind the back of everybody, as a disk may.
    pub fn spoil(&mut self, table: &str, key: i64) {
        let value = Value::Text("spoiled".to_owned());
        if let Some(rows) = self.tables.get_mut(table) {
            let before = rows.insert(key, value.clone());
            let (table, after) = (table.to_owned(), Some(value));
            let change = Change::Row { table, key, before, after };
            self.sum = self.sum.wrapping_add(weight(&change));
        }
    }

    /// The hash of what is committed, as one beside the writer takes it: it does not fail.
    #[must_use]
    pub fn hash(&self) -> ContentHash {
        let mut hash = [0; 32];
        hash[..16].copy_from_slice(&self.sum.to_le_bytes());
        ContentHash { at: self.at, hash }
    }

    fn take_fault(&mut self) -> Result<(), Fault> {
        match self.fail.take() {
            Some(fault) => {
                self.forget_open();
                Err(fault)
            }
            None => Ok(()),
        }
    }

    fn closed(&self, call: &'static str) -> Result<(), Fault> {
        match self.open {
            Some(_) => Err(Fault::Misuse { call, state: "a transaction is open" }),
            None => Ok(()),
        }
    }

    /// What is in the tables already is committed.
    fn conclude(&mut self, at: Position, changes: Vec<Change>, notes: &[Note]) {
        for change in &changes {
            self.sum = self.sum.wrapping_add(weight(change));
        }
        let held = &mut self.notes;
        let noted = notes.iter().map(|Note { key, value }| {
            let value = Some(value.clone()).filter(|value| !value.is_empty());
            (*key, put_note(held, *key, value))
        });
        let notes = noted.collect();
        self.unsynced.push(Commit { before: self.at, changes, notes });
        self.at = at;
    }

    fn apply_each(
        &mut self,
        entries: &[Effect],
        done: &mut Vec<Change>,
    ) -> Result<Position, Fault> {
        let mut reached = self.at;
        for Effect { at, effects } in entries.iter().filter(|entry| entry.at.index > self.at.index)
        {
            for change in decode(*at, effects)? {
                put(&mut self.tables, *at, &change)?;
                done.push(change);
            }
            reached = *at;
        }
        Ok(reached)
    }
}

impl Engine for Memory {
    fn position(&self) -> Position {
        self.at
    }

    fn notes(&mut self) -> Result<Vec<Note>, Fault> {
        self.take_fault()?;
        let note = |(key, value): (&u64, &Bytes)| Note { key: *key, value: value.clone() };
        Ok(self.notes.iter().map(note).collect())
    }

    fn execute(&mut self, batch: &[Transaction], limits: &SqlLimits) -> Result<Executed, Fault> {
        self.take_fault()?;
        self.closed("execute")?;
        let (mut all, mut bytes, mut outcomes) = (Vec::new(), 0, Vec::new());
        for transaction in batch {
            let mut changes = Vec::new();
            let mut outcome = sql::run(&mut self.tables, transaction, limits.rights, &mut changes);
            let size = if outcome.is_ok() { encode(&changes).len() } else { 0 };
            let later = outcome.is_ok() && !all.is_empty() && bytes + size > limits.effect_bytes;
            if size > limits.effect_bytes {
                let message = "the effects are larger than an entry may be".to_owned();
                let kind = SqlErrorKind::TooLarge;
                let statement = transaction.statements.len();
                outcome = Err(SqlError { kind, code: 0, message, statement });
            }
            if outcome.is_err() || later {
                changes.drain(..).rev().for_each(|change| revert(&mut self.tables, &change));
            }
            if later && outcome.is_ok() {
                break;
            }
            bytes += size;
            all.extend(changes);
            outcomes.push(outcome);
        }
        let effects = if all.is_empty() { Bytes::new() } else { encode(&all) };
        self.open = (!all.is_empty()).then_some(all);
        Ok(Executed { outcomes, effects })
    }

    fn begin(&mut self, limits: &SqlLimits) -> Result<(), Fault> {
        self.take_fault()?;
        self.begin_interactive(limits)
    }

    fn step(&mut self, statements: &Transaction) -> Result<Stepped, Fault> {
        self.take_fault()?;
        self.step_interactive(statements)
    }

    fn finish(&mut self) -> Result<Executed, Fault> {
        self.take_fault()?;
        self.finish_interactive()
    }

    fn commit(&mut self, at: Position, notes: &[Note]) -> Result<(), Fault> {
        self.take_fault()?;
        if self.interactive.is_some() {
            return Err(Fault::Misuse { call: "commit", state: "a transaction is not finished" });
        }
        if at.index <= self.at.index {
            return Err(Fault::Misuse { call: "commit", state: "the copy is further on" });
        }
        let open = self.open.take();
        let changes = open.ok_or(Fault::Misuse { call: "commit", state: "nothing is open" })?;
        self.conclude(at, changes, notes);
        Ok(())
    }

    fn rollback(&mut self) -> Result<(), Fault> {
        self.take_fault()?;
        self.forget_open();
        Ok(())
    }

    fn apply(&mut self, entries: &[Effect], notes: &[Note]) -> Result<(), Fault> {
        self.take_fault()?;
        self.closed("apply")?;
        let mut done = Vec::new();
        match self.apply_each(entries, &mut done) {
            Ok(at) => {
                let notes = if at == self.at { &[] } else { notes };
                self.conclude(at, done, notes);
                Ok(())
            }
            Err(fault) => {
                done.iter().rev().for_each(|change| revert(&mut self.tables, change));
                Err(fault)
            }
        }
    }

    fn sync(&mut self) -> Result<Position, Fault> {
        self.take_fault()?;
        self.unsynced.clear();
        Ok(self.at)
    }

    fn content_hash(&mut self) -> Result<ContentHash, Fault> {
        self.take_fault()?;
        Ok(self.hash())
    }
}

impl Reader for Memory {
    fn query(
        &mut self,
        transaction: &Transaction,
        _limits: &SqlLimits,
    ) -> Result<(Position, Outcome), Fault> {
        // What is open is taken back for as long as somebody reads.
        let open = self.open.take();
        open.iter().flatten().rev().for_each(|change| revert(&mut self.tables, change));
        let mut changes = Vec::new();
        let outcome = sql::run(&mut self.tables, transaction, Rights::Owner, &mut changes);
        changes.iter().rev().for_each(|change| revert(&mut self.tables, change));
        for change in open.iter().flatten() {
            let again = put(&mut self.tables, self.at, change);
            assert_eq!(again, Ok(()), "nothing has changed meanwhile");
        }
        self.open = open;
        let outcome = match outcome {
            Ok(_) if !changes.is_empty() => Err(SqlError {
                kind: SqlErrorKind::ReadOnly,
                code: 8,
                message: "attempt to write a readonly database".to_owned(),
                statement: 0,
            }),
            other => other,
        };
        Ok((self.at, outcome))
    }
}

fn encode(changes: &Vec<Change>) -> Bytes {
    let bytes = postcard::to_allocvec(changes);
    bytes.unwrap_or_else(|e| unreachable!("changes always encode: {e}")).into()
}

fn decode(at: Position, effects: &Bytes) -> Result<Vec<Change>, Fault> {
    if effects.is_empty() {
        return Ok(Vec::new());
    }
    postcard::from_bytes(effects).map_err(|e| Fault::Unreadable { at, reason: e.to_string() })
}

/// Applies a change that another copy made: what it found there must be here too.
fn put(tables: &mut Tables, at: Position, change: &Change) -> Result<(), Fault> {
    let conflict = |reason: String| Fault::Conflict { at, reason };
    match change {
        Change::Create(table) => match tables.get(table) {
            Some(_) => Err(conflict(format!("table {table} is there already"))),
            None => {
                tables.insert(table.clone(), BTreeMap::new());
                Ok(())
            }
        },
        Change::Drop(table) => match tables.get(table) {
            Some(rows) if rows.is_empty() => {
                tables.remove(table);
                Ok(())
            }
            Some(_) => Err(conflict(format!("table {table} has rows"))),
            None => Err(conflict(format!("there is no table {table}"))),
        },
        Change::Row { table, key, before, after } => {
            let rows = tables.get_mut(table);
            let rows = rows.ok_or_else(|| conflict(format!("there is no table {table}")))?;
            if rows.get(key) != before.as_ref() {
                return Err(conflict(format!("row {key} of {table} is another one")));
            }
            set(rows, *key, after.clone());
            Ok(())
        }
    }
}

/// Takes a change back that is the last one.
fn revert(tables: &mut Tables, change: &Change) {
    match change {
        Change::Create(table) => {
            tables.remove(table);
        }
        Change::Drop(table) => {
            tables.insert(table.clone(), BTreeMap::new());
        }
        Change::Row { table, key, before, .. } => {
            if let Some(rows) = tables.get_mut(table) {
                set(rows, *key, before.clone());
            }
        }
    }
}

/// Puts a note, or takes it away; what it was before.
fn put_note(notes: &mut Notes, key: u64, value: Option<Bytes>) -> Option<Bytes> {
    match value {
        Some(value) => notes.insert(key, value),
        None => notes.remove(&key),
    }
}

fn set(rows: &mut BTreeMap<i64, Value>, key: i64, value: Option<Value>) {
    match value {
        Some(value) => rows.insert(key, value),
        None => rows.remove(&key),
    };
}

/// What a change adds to the sum over the content.
fn weight(change: &Change) -> u128 {
    match change {
        Change::Create(table) => digest(table, None),
        Change::Drop(table) => digest(table, None).wrapping_neg(),
        Change::Row { table, key, before, after } => {
            let of = |value: &Option<Value>| {
                value.as_ref().map_or(0, |value| digest(table, Some((*key, value))))
            };
            of(after).wrapping_sub(of(before))
        }
    }
}

/// Of one row, or of a table's being there: FNV-1a, twice as wide as usual.
fn digest(table: &str, row: Option<(i64, &Value)>) -> u128 {
    let mut word: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    let mut add = |bytes: &[u8]| {
        for byte in bytes.iter().chain(&[0xff]) {
            word = (word ^ u128::from(*byte)).wrapping_mul(0x0100_0000_0000_0000_0000_013b);
        }
    };
    add(table.as_bytes());
    if let Some((key, value)) = row {
        add(&key.to_le_bytes());
        match value {
            Value::Null => add(&[0]),
            Value::Integer(number) => add(&[&[1], number.to_le_bytes().as_slice()].concat()),
            Value::Real(number) => add(&[&[2], number.to_le_bytes().as_slice()].concat()),
            Value::Text(text) => add(&[&[3], text.as_bytes()].concat()),
            Value::Blob(bytes) => add(&[&[4], bytes.as_slice()].concat()),
        }
    }
    word
}

#[cfg(test)]
mod tests;
