//! The statements that the engine in memory knows.

use std::collections::BTreeMap;

use super::{Change, Tables};
use crate::engine::{
    Column, Outcome, Rights, Rows, SqlError, SqlErrorKind, Statement, Transaction, Value,
};

/// Runs one transaction; `changes` gets what it changed, also if it fails.
pub(super) fn run(
    tables: &mut Tables,
    transaction: &Transaction,
    rights: Rights,
    changes: &mut Vec<Change>,
) -> Outcome {
    let each = transaction.statements.iter().enumerate();
    each.map(|(number, statement)| run_one(tables, (number, statement), rights, changes)).collect()
}

/// Runs one statement, the `number`th of its transaction.
pub(super) fn run_one(
    tables: &mut Tables,
    (number, statement): (usize, &Statement),
    rights: Rights,
    changes: &mut Vec<Change>,
) -> Result<Rows, SqlError> {
    let inserts = words(&statement.sql).first().is_some_and(|word| word == "insert");
    let done = match rights {
        Rights::Caretaker if inserts => {
            let message = "only the owner of the shard inserts".to_owned();
            Err((SqlErrorKind::OwnerOnly, 0, message))
        }
        Rights::Owner | Rights::Caretaker => step(tables, statement, changes),
    };
    done.map_err(|(kind, code, message)| SqlError { kind, code, message, statement: number })
}

/// Whether the statement undoes the whole transaction if it violates a constraint.
pub(super) fn rolls_back(sql: &str) -> bool {
    let words = words(sql);
    let first: Vec<&str> = words.iter().take(3).map(String::as_str).collect();
    first == ["insert", "or", "rollback"]
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
            let rows = tables.remove(*name).ok_or_else(|| no_table(name))?;
            let table = || (*name).to_owned();
            for (key, value) in rows {
                let before = Some(value);
                changes.push(Change::Row { table: table(), key, before, after: None });
            }
            changes.push(Change::Drop(table()));
            Ok(Rows::default())
        }
        ["insert", "into", name, "(", "k", ",", "v", ")", "values", "(", "?", ",", "?", ")"] => {
            insert(tables, changes, name, (key(0)?, arg(1)), false)
        }
        [
            "insert",
            "or",
            or @ ("replace" | "rollback"),
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
        ] => insert(tables, changes, name, (key(0)?, arg(1)), *or == "replace"),
        ["update", name, "set", "v", "=", "?", "where", "k", "=", "?"] => {
            update(tables, changes, name, key(1)?, |_| arg(0))
        }
        ["update", name, "set", "v", "=", "?", "where", "k", "=", "?", "and", "v", "=", "?"] => {
            let held = tables.get(*name).ok_or_else(|| no_table(name))?.get(&key(1)?);
            if held.is_none_or(|held| *held != arg(2)) {
                return Ok(Rows::default());
            }
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
