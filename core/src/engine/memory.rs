//! An engine in memory, for tests and for the simulator: it knows a handful of statements, the same
//! that SQLite knows, and fails when it is told to.
//!
//! `CREATE TABLE t (k INTEGER PRIMARY KEY, v)` · `DROP TABLE t` · `INSERT INTO t (k, v) VALUES (?, ?)`,
//! also `INSERT OR REPLACE` · `UPDATE t SET v = ? WHERE k = ?`, also `v = v + ?` · `DELETE FROM t WHERE
//! k = ?` · `SELECT v FROM t WHERE k = ?` · `SELECT k, v FROM t ORDER BY k`.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    Column, ContentHash, Effect, Engine, Executed, Fault, Outcome, Position, Reader, Rights, Rows,
    SqlError, SqlErrorKind, SqlLimits, Statement, Transaction, Value,
};

type Tables = BTreeMap<String, BTreeMap<i64, Value>>;

/// One change, as it travels.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
enum Change {
    Create(String),
    Drop(String),
    Row { table: String, key: i64, before: Option<Value>, after: Option<Value> },
}

/// A state of the content, and where in the log it stands.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
struct State {
    at: Position,
    tables: Tables,
}

/// A copy in memory.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    committed: State,
    synced: State,
    open: Option<Tables>,
    /// The next call but a query fails with this.
    pub fail: Option<Fault>,
}

impl Memory {
    /// The process has ended: what was open is gone.
    pub fn kill(&mut self) {
        self.open = None;
        self.fail = None;
    }

    /// The power has failed: what was not synced is gone too.
    pub fn lose_power(&mut self) {
        self.kill();
        self.committed = self.synced.clone();
    }

    /// What would survive a power failure.
    #[must_use]
    pub fn synced_at(&self) -> Position {
        self.synced.at
    }

    /// The committed content as one file.
    #[must_use]
    pub fn to_file(&self) -> Vec<u8> {
        let bytes = postcard::to_allocvec(&self.committed);
        bytes.unwrap_or_else(|e| unreachable!("a state always encodes: {e}"))
    }

    /// A copy from such a file, durable; `None` if it is none.
    #[must_use]
    pub fn from_file(bytes: &[u8]) -> Option<Self> {
        let (committed, rest): (State, &[u8]) = postcard::take_from_bytes(bytes).ok()?;
        rest.is_empty().then(|| Self { synced: committed.clone(), committed, ..Self::default() })
    }

    /// The same content, durable, at another place in the log.
    #[must_use]
    pub fn placed(&self, at: Position) -> Self {
        let committed = State { at, tables: self.committed.tables.clone() };
        Self { synced: committed.clone(), committed, ..Self::default() }
    }

    /// The committed rows of a table.
    #[must_use]
    pub fn table(&self, name: &str) -> BTreeMap<i64, Value> {
        self.committed.tables.get(name).cloned().unwrap_or_default()
    }

    /// Changes a row behind the back of everybody, as a disk may.
    pub fn spoil(&mut self, table: &str, key: i64) {
        if let Some(rows) = self.committed.tables.get_mut(table) {
            rows.insert(key, Value::Text("spoiled".to_owned()));
        }
    }

    /// The hash of what is committed, as one beside the writer takes it: it does not fail.
    #[must_use]
    pub fn hash(&self) -> ContentHash {
        let text = format!("{:?}", self.committed.tables);
        // FNV-1a, spread over the width of the real one: equal content, equal hash.
        let mut hash = [0; 32];
        let mut word: u64 = 0xcbf2_9ce4_8422_2325;
        for (place, byte) in text.bytes().enumerate() {
            word = (word ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            hash[place % 32] ^= word.to_le_bytes()[0];
        }
        hash[..8].copy_from_slice(&word.to_le_bytes());
        ContentHash { at: self.committed.at, hash }
    }

    fn take_fault(&mut self) -> Result<(), Fault> {
        match self.fail.take() {
            Some(fault) => {
                self.open = None;
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
}

impl Engine for Memory {
    fn position(&self) -> Position {
        self.committed.at
    }

    fn execute(&mut self, batch: &[Transaction], limits: &SqlLimits) -> Result<Executed, Fault> {
        self.take_fault()?;
        self.closed("execute")?;
        let mut tables = self.committed.tables.clone();
        let (mut all, mut outcomes) = (Vec::new(), Vec::new());
        for transaction in batch {
            let mut trial = tables.clone();
            let mut changes = Vec::new();
            let outcome = run(&mut trial, transaction, limits.rights, &mut changes);
            if outcome.is_ok() {
                let size = encode(&changes).len();
                if size > limits.effect_bytes {
                    let message = "the effects are larger than an entry may be".to_owned();
                    let kind = SqlErrorKind::TooLarge;
                    let statement = transaction.statements.len();
                    outcomes.push(Err(SqlError { kind, code: 0, message, statement }));
                    continue;
                }
                if !all.is_empty() && encode(&all).len() + size > limits.effect_bytes {
                    break;
                }
                tables = trial;
                all.extend(changes);
            }
            outcomes.push(outcome);
        }
        let effects = if all.is_empty() { Bytes::new() } else { encode(&all) };
        self.open = (!all.is_empty()).then_some(tables);
        Ok(Executed { outcomes, effects })
    }

    fn commit(&mut self, at: Position) -> Result<(), Fault> {
        self.take_fault()?;
        if at.index <= self.committed.at.index {
            return Err(Fault::Misuse { call: "commit", state: "the copy is further on" });
        }
        let open = self.open.take();
        let tables = open.ok_or(Fault::Misuse { call: "commit", state: "nothing is open" })?;
        self.committed = State { at, tables };
        Ok(())
    }

    fn rollback(&mut self) -> Result<(), Fault> {
        self.take_fault()?;
        self.open = None;
        Ok(())
    }

    fn apply(&mut self, entries: &[Effect]) -> Result<(), Fault> {
        self.take_fault()?;
        self.closed("apply")?;
        let mut state = self.committed.clone();
        for Effect { at, effects } in entries {
            if at.index <= state.at.index {
                continue;
            }
            for change in decode(*at, effects)? {
                put(&mut state.tables, *at, change)?;
            }
            state.at = *at;
        }
        self.committed = state;
        Ok(())
    }

    fn sync(&mut self) -> Result<Position, Fault> {
        self.take_fault()?;
        self.synced = self.committed.clone();
        Ok(self.synced.at)
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
        let mut tables = self.committed.tables.clone();
        let mut changes = Vec::new();
        let outcome = run(&mut tables, transaction, Rights::Owner, &mut changes);
        let outcome = match outcome {
            Ok(_) if !changes.is_empty() => Err(SqlError {
                kind: SqlErrorKind::ReadOnly,
                code: 8,
                message: "attempt to write a readonly database".to_owned(),
                statement: 0,
            }),
            other => other,
        };
        Ok((self.committed.at, outcome))
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
fn put(tables: &mut Tables, at: Position, change: Change) -> Result<(), Fault> {
    let conflict = |reason: String| Fault::Conflict { at, reason };
    match change {
        Change::Create(table) => match tables.insert(table.clone(), BTreeMap::new()) {
            None => Ok(()),
            Some(_) => Err(conflict(format!("table {table} is there already"))),
        },
        Change::Drop(table) => match tables.remove(&table) {
            Some(_) => Ok(()),
            None => Err(conflict(format!("there is no table {table}"))),
        },
        Change::Row { table, key, before, after } => {
            let rows = tables.get_mut(&table);
            let rows = rows.ok_or_else(|| conflict(format!("there is no table {table}")))?;
            if rows.get(&key) != before.as_ref() {
                return Err(conflict(format!("row {key} of {table} is another one")));
            }
            match after {
                Some(value) => rows.insert(key, value),
                None => rows.remove(&key),
            };
            Ok(())
        }
    }
}

fn run(
    tables: &mut Tables,
    transaction: &Transaction,
    rights: Rights,
    changes: &mut Vec<Change>,
) -> Outcome {
    let mut results = Vec::new();
    for (number, statement) in transaction.statements.iter().enumerate() {
        let inserts = words(&statement.sql).first().is_some_and(|word| word == "insert");
        let done = match rights {
            Rights::Caretaker if inserts => {
                let message = "only the owner of the shard inserts".to_owned();
                Err((SqlErrorKind::OwnerOnly, 0, message))
            }
            Rights::Owner | Rights::Caretaker => step(tables, statement, changes),
        };
        results.push(done.map_err(|(kind, code, message)| SqlError {
            kind,
            code,
            message,
            statement: number,
        })?);
    }
    Ok(results)
}

type Failure = (SqlErrorKind, i32, String);

fn step(
    tables: &mut Tables,
    statement: &Statement,
    changes: &mut Vec<Change>,
) -> Result<Rows, Failure> {
    let words = words(&statement.sql);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let arg = |n: usize| statement.args.get(n).cloned().unwrap_or(Value::Null);
    let key = |n: usize| match arg(n) {
        Value::Integer(key) => Ok(key),
        other => Err((SqlErrorKind::Type, 20, format!("datatype mismatch: {other:?}"))),
    };
    match words.as_slice() {
        ["create", "table", name, "(", "k", "integer", "primary", "key", ",", "v", ")"] => {
            if tables.contains_key(*name) {
                return Err(wrong(format!("table {name} already exists")));
            }
            tables.insert((*name).to_owned(), BTreeMap::new());
            changes.push(Change::Create((*name).to_owned()));
            Ok(Rows::default())
        }
        ["drop", "table", name] => {
            tables.remove(*name).ok_or_else(|| no_table(name))?;
            changes.push(Change::Drop((*name).to_owned()));
            Ok(Rows::default())
        }
        ["insert", "into", name, "(", "k", ",", "v", ")", "values", "(", "?", ",", "?", ")"] => {
            insert(tables, changes, name, (key(0)?, arg(1)), false)
        }
        [
            "insert",
            "or",
            "replace",
            "into",
            name,
            "(",
            "k",
            ",",
            "v",
            ")",
            "values",
            "(",
            "?",
            ",",
            "?",
            ")",
        ] => insert(tables, changes, name, (key(0)?, arg(1)), true),
        ["update", name, "set", "v", "=", "?", "where", "k", "=", "?"] => {
            update(tables, changes, name, key(1)?, |_| arg(0))
        }
        ["update", name, "set", "v", "=", "v", "+", "?", "where", "k", "=", "?"] => {
            let more = |held: &Value| match (held, arg(0)) {
                (Value::Integer(a), Value::Integer(b)) => Value::Integer(a.wrapping_add(b)),
                _ => Value::Null,
            };
            update(tables, changes, name, key(1)?, more)
        }
        ["delete", "from", name, "where", "k", "=", "?"] => {
            let (rows, key) = (tables.get_mut(*name).ok_or_else(|| no_table(name))?, key(0)?);
            let before = rows.remove(&key);
            let affected = u64::from(before.is_some());
            if before.is_some() {
                let table = (*name).to_owned();
                changes.push(Change::Row { table, key, before, after: None });
            }
            Ok(Rows { affected, ..Rows::default() })
        }
        ["select", "v", "from", name, "where", "k", "=", "?"] => {
            let held = tables.get(*name).ok_or_else(|| no_table(name))?.get(&key(0)?);
            let rows = held.map(|value| vec![value.clone()]).into_iter().collect();
            Ok(Rows { columns: columns(&["v"]), rows, ..Rows::default() })
        }
        ["select", "k", ",", "v", "from", name, "order", "by", "k"] => {
            let held = tables.get(*name).ok_or_else(|| no_table(name))?;
            let rows = held.iter().map(|(k, v)| vec![Value::Integer(*k), v.clone()]).collect();
            Ok(Rows { columns: columns(&["k", "v"]), rows, ..Rows::default() })
        }
        _ => Err(wrong(format!("near \"{}\": syntax error", words.first().unwrap_or(&"")))),
    }
}

fn insert(
    tables: &mut Tables,
    changes: &mut Vec<Change>,
    name: &str,
    (key, value): (i64, Value),
    replace: bool,
) -> Result<Rows, Failure> {
    let rows = tables.get_mut(name).ok_or_else(|| no_table(name))?;
    let before = rows.get(&key).cloned();
    if before.is_some() && !replace {
        let message = format!("UNIQUE constraint failed: {name}.k");
        return Err((SqlErrorKind::Constraint, 1555, message));
    }
    rows.insert(key, value.clone());
    let table = name.to_owned();
    changes.push(Change::Row { table, key, before, after: Some(value) });
    Ok(Rows { affected: 1, last_insert_rowid: Some(key), ..Rows::default() })
}

fn update(
    tables: &mut Tables,
    changes: &mut Vec<Change>,
    name: &str,
    key: i64,
    new: impl Fn(&Value) -> Value,
) -> Result<Rows, Failure> {
    let rows = tables.get_mut(name).ok_or_else(|| no_table(name))?;
    let Some(held) = rows.get_mut(&key) else { return Ok(Rows::default()) };
    let before = std::mem::replace(held, Value::Null);
    *held = new(&before);
    if *held != before {
        let (table, after) = (name.to_owned(), Some(held.clone()));
        changes.push(Change::Row { table, key, before: Some(before), after });
    }
    Ok(Rows { affected: 1, ..Rows::default() })
}

fn no_table(name: &str) -> Failure {
    wrong(format!("no such table: {name}"))
}

fn wrong(message: String) -> Failure {
    (SqlErrorKind::Statement, 1, message)
}

fn columns(names: &[&str]) -> Vec<Column> {
    names.iter().map(|name| Column { name: (*name).to_owned(), decltype: None }).collect()
}

/// Words and signs, in lower case.
fn words(sql: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    for letter in sql.chars() {
        if letter.is_alphanumeric() || letter == '_' {
            word.push(letter.to_ascii_lowercase());
            continue;
        }
        if !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if !letter.is_whitespace() {
            words.push(letter.to_string());
        }
    }
    words.extend((!word.is_empty()).then_some(word));
    words
}
