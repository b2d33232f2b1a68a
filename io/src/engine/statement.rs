//! One statement: compiled once and kept, given its values, run, its rows read.

use std::collections::HashMap;
use std::sync::Arc;

use quorate_core::engine::{Column, Rows, SqlErrorKind, SqlLimits, Statement, Value};
use rusqlite::limits::Limit;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, Error, ffi};

use super::authorizer::{Authorizer, Info};
use super::describe::describe;
use super::errors::{Stop, refusal, stop};
use super::open::OWN;
use super::watch::Watch;

/// How many statements a connection keeps compiled.
pub(super) const CACHED_MAX: usize = 256;
/// SQLite's own bound on a value.
const LENGTH_MAX: u64 = 1_000_000_000;
/// A statement above this size is compiled anew each time: 256 of the largest would take too much.
const KEPT_BYTES_MAX: usize = 64 * 1024;
/// What a value in a result counts besides its content.
const VALUE_BYTES: usize = 16;

/// The statements of one connection, with what each one is.
pub(super) struct Statements {
    pub(super) authorizer: Authorizer,
    pub(super) watch: Arc<Watch>,
    /// A superset of those that are kept compiled.
    infos: HashMap<Box<str>, Arc<Info>>,
    /// One is kept that is too large to be kept.
    oversized: bool,
}

/// How much of its results a transaction has used up.
pub(super) struct ResultBytes {
    pub(super) left: usize,
    pub(super) limit: usize,
}

impl Statements {
    pub(super) fn new(authorizer: Authorizer, watch: Arc<Watch>) -> Self {
        Self { authorizer, watch, infos: HashMap::new(), oversized: false }
    }

    /// The schema is another one: everything is compiled anew.
    pub(super) fn forget(&mut self, conn: &Connection) {
        self.infos.clear();
        self.oversized = false;
        conn.flush_prepared_statement_cache();
    }

    /// How much SQL is kept.
    #[cfg(test)]
    pub(super) fn kept_bytes(&self) -> usize {
        self.infos.keys().map(|sql| sql.len()).sum()
    }

    /// Compiles a statement that comes from outside, by the rules, or takes it as it was kept.
    pub(super) fn prepare<'c>(
        &mut self,
        conn: &'c Connection,
        sql: &str,
        limits: &SqlLimits,
    ) -> Result<(CachedStatement<'c>, Arc<Info>), Stop> {
        if let Some(info) = self.infos.get(sql) {
            self.authorizer.reset();
            let statement = conn.prepare_cached(sql).map_err(|error| self.explain(&error))?;
            return Ok((statement, Arc::clone(info)));
        }
        check(sql, limits)?;
        if self.infos.len() >= CACHED_MAX || self.oversized || OWN.contains(&sql.trim()) {
            self.forget(conn);
        }
        let (mut statement, mut info) = self.compile(conn, sql)?;
        if info == Info::default() && !statement.readonly() && statement.is_explain() == 0 {
            // Nothing was asked while it was compiled: it must have been kept, by whatever mistake.
            drop(statement);
            self.forget(conn);
            (statement, info) = self.compile(conn, sql)?;
            if info == Info::default() {
                // Like DROP … IF EXISTS of what is not there. If the schema changes all the same,
                // it will be seen.
                info.schema = true;
            }
        }
        let info = Arc::new(info);
        self.oversized = sql.len() > KEPT_BYTES_MAX;
        self.infos.insert(sql.into(), Arc::clone(&info));
        Ok((statement, info))
    }

    fn compile<'c>(
        &self,
        conn: &'c Connection,
        sql: &str,
    ) -> Result<(CachedStatement<'c>, Info), Stop> {
        self.authorizer.reset();
        let statement = conn.prepare_cached(sql).map_err(|error| self.explain(&error))?;
        not_empty(&statement)?;
        let info = what_it_is(&statement, self.authorizer.info(), sql);
        Ok((statement, info))
    }

    /// What a statement is, without running it. It is compiled anew: one that was kept would tell of the
    /// schema as it was when it last ran.
    pub(super) fn describe(
        &self,
        conn: &Connection,
        sql: &str,
        limits: &SqlLimits,
    ) -> Result<Rows, Stop> {
        check(sql, limits)?;
        self.authorizer.reset();
        let statement = conn.prepare(sql).map_err(|error| self.explain(&error))?;
        not_empty(&statement)?;
        let info = what_it_is(&statement, self.authorizer.info(), sql);
        Ok(describe(&statement, &info))
    }

    /// What an error means: the reason of the authorizer or the watch, if it was theirs.
    pub(super) fn explain(&self, error: &Error) -> Stop {
        let mut stop = stop(error);
        let Stop::Sql(failure) = &mut stop else { return stop };
        if let Some(reason) = self.authorizer.denied() {
            failure.kind = SqlErrorKind::Unsupported;
            failure.message = reason;
        } else if failure.kind == SqlErrorKind::Timeout {
            if self.watch.has_given_up() {
                failure.kind = SqlErrorKind::TooLarge;
                failure.message =
                    "the effects of the transaction are larger than an entry may be: \
                                   split it"
                        .into();
            } else {
                failure.message = "the transaction ran longer than it may".into();
            }
        } else if matches!(error, Error::MultipleStatement) {
            failure.message =
                "there is a second statement after the first: send one at a time".into();
        }
        stop
    }

    /// Runs a statement to its end.
    pub(super) fn run(
        &self,
        statement: &mut CachedStatement<'_>,
        bytes: &mut ResultBytes,
    ) -> Result<Rows, Stop> {
        // Known from the first step on: it compiles the statement anew if the schema has changed.
        let mut known = None;
        let mut rows = Vec::new();
        let mut cursor = statement.raw_query();
        loop {
            match cursor.next() {
                Ok(None) => break,
                Ok(Some(row)) => {
                    let width = known.get_or_insert_with(|| columns(row.as_ref())).len();
                    let mut values = Vec::with_capacity(width);
                    for at in 0..width {
                        let value = row.get_ref(at).map_err(|error| self.explain(&error))?;
                        bytes.take(value)?;
                        values.push(owned(value));
                    }
                    rows.push(values);
                }
                Err(error) => return Err(self.explain(&error)),
            }
        }
        drop(cursor);
        let columns = known.unwrap_or_else(|| columns(statement));
        Ok(Rows { columns, rows, affected: 0, last_insert_rowid: None })
    }
}

impl ResultBytes {
    pub(super) fn new(limits: &SqlLimits) -> Self {
        Self { left: limits.result_bytes, limit: limits.result_bytes }
    }

    fn take(&mut self, value: ValueRef<'_>) -> Result<(), Stop> {
        let size = VALUE_BYTES
            + match value {
                ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.len(),
                _ => 0,
            };
        match self.left.checked_sub(size) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(refusal(
                SqlErrorKind::TooLarge,
                format!(
                    "the results are larger than {} bytes: ask for fewer rows or columns",
                    self.limit
                ),
            )),
        }
    }
}

fn not_empty(statement: &rusqlite::Statement<'_>) -> Result<(), Stop> {
    if statement.column_count() == 0 && statement.expanded_sql().is_none() {
        return Err(refusal(SqlErrorKind::Statement, "there is no SQL statement in the text"));
    }
    Ok(())
}

/// What a statement is, less what the authorizer was asked only because a virtual table looked at
/// its own tables, or because EXPLAIN tells of it.
fn what_it_is(statement: &rusqlite::Statement<'_>, mut info: Info, sql: &str) -> Info {
    let begins = |word: &str| first_word(sql).eq_ignore_ascii_case(word);
    if !begins("pragma") {
        info.pragma = None;
    }
    // A virtual table that is connected to may compile inserts into its own tables.
    let inserts = begins("insert") || begins("replace") || begins("with");
    info.adds = inserts && info.inserts_directly || info.created.is_some() && info.selects;
    if statement.is_explain() != 0 || (statement.readonly() && info.pragma.is_none()) {
        return Info::default();
    }
    info
}

/// Sets what a value, a row and a statement may take on this connection.
pub(super) fn set_lengths(conn: &Connection, limits: &SqlLimits) -> rusqlite::Result<()> {
    let longest = limits.memory_bytes.clamp(1 << 20, LENGTH_MAX);
    conn.set_limit(Limit::SQLITE_LIMIT_LENGTH, i32::try_from(longest).unwrap_or(i32::MAX))?;
    Ok(())
}

/// Gives a statement its values.
pub(super) fn bind(
    prepared: &mut CachedStatement<'_>,
    statement: &Statement,
    limits: &SqlLimits,
) -> Result<(), Stop> {
    let count = prepared.parameter_count();
    if statement.args.len() > count {
        return Err(refusal(
            SqlErrorKind::Statement,
            format!("{} values are given for {count} parameters", statement.args.len()),
        ));
    }
    let mut used = 0;
    for number in 1..=count {
        let name = prepared.parameter_name(number).map(str::to_owned);
        let named = name.as_deref().and_then(|name| by_name(&statement.named, name));
        if let Some((_, value)) = named {
            used += 1;
            bind_one(prepared, number, value, name.as_deref(), limits)?;
        } else if let Some(value) = statement.args.get(number - 1) {
            bind_one(prepared, number, value, name.as_deref(), limits)?;
        } else {
            let name = name.unwrap_or_else(|| format!("?{number}"));
            return Err(refusal(
                SqlErrorKind::Statement,
                format!("no value is given for parameter {name}"),
            ));
        }
    }
    if used < statement.named.len() {
        check_names(prepared, &statement.named)?;
    }
    Ok(())
}

fn by_name<'n>(named: &'n [(String, Value)], name: &str) -> Option<&'n (String, Value)> {
    named.iter().find(|(given, _)| given == name || name.get(1..) == Some(given.as_str()))
}

fn check_names(prepared: &CachedStatement<'_>, named: &[(String, Value)]) -> Result<(), Stop> {
    let count = prepared.parameter_count();
    for (given, _) in named {
        let known = (1..=count)
            .filter_map(|number| prepared.parameter_name(number))
            .any(|name| name == given || name.get(1..) == Some(given.as_str()));
        if !known {
            return Err(refusal(
                SqlErrorKind::Statement,
                format!("the statement has no parameter {given}"),
            ));
        }
    }
    Ok(())
}

fn bind_one(
    prepared: &mut CachedStatement<'_>,
    number: usize,
    value: &Value,
    name: Option<&str>,
    limits: &SqlLimits,
) -> Result<(), Stop> {
    let value = match value {
        Value::Null => ValueRef::Null,
        Value::Integer(integer) => ValueRef::Integer(*integer),
        Value::Real(real) => ValueRef::Real(*real),
        Value::Text(text) => ValueRef::Text(text.as_bytes()),
        Value::Blob(blob) => ValueRef::Blob(blob),
    };
    if let ValueRef::Text(bytes) | ValueRef::Blob(bytes) = value
        && bytes.len() > limits.effect_bytes.max(limits.result_bytes)
    {
        let name = name.map_or_else(|| format!("?{number}"), str::to_owned);
        return Err(refusal(
            SqlErrorKind::TooLarge,
            format!(
                "the value of parameter {name} has {} bytes; {} are allowed",
                bytes.len(),
                limits.effect_bytes.max(limits.result_bytes)
            ),
        ));
    }
    prepared.raw_bind_parameter(number, ToSqlOutput::Borrowed(value)).map_err(|error| stop(&error))
}

fn columns(statement: &rusqlite::Statement<'_>) -> Vec<Column> {
    statement
        .columns()
        .map(|column| Column {
            name: column.name().to_owned(),
            decltype: column.decl_type().map(str::to_owned),
        })
        .collect()
}

/// A value of a result. TEXT that is not UTF-8 gets U+FFFD for what is not.
pub(super) fn owned(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(integer) => Value::Integer(integer),
        ValueRef::Real(real) => Value::Real(real),
        ValueRef::Text(bytes) => Value::Text(String::from_utf8_lossy(bytes).into_owned()),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
    }
}

/// What is refused before it is compiled.
fn check(sql: &str, limits: &SqlLimits) -> Result<(), Stop> {
    if sql.len() > limits.effect_bytes {
        return Err(refusal(
            SqlErrorKind::TooLarge,
            format!(
                "the statement has {} bytes; {} are allowed: give large values as parameters",
                sql.len(),
                limits.effect_bytes
            ),
        ));
    }
    if sql.contains('\0') {
        return Err(refusal(SqlErrorKind::Statement, "there is a NUL character in the SQL"));
    }
    refuse_by_word(sql)
}

/// What the authorizer is not asked about.
fn refuse_by_word(sql: &str) -> Result<(), Stop> {
    let word = first_word(sql);
    if word.eq_ignore_ascii_case("vacuum") {
        return Err(refusal(
            SqlErrorKind::Unsupported,
            "VACUUM gives rows of some tables other rowids, and cannot be replicated",
        ));
    }
    Ok(())
}

/// The first word of a statement, comments and space passed over.
fn first_word(sql: &str) -> &str {
    let mut rest = sql;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ';' || c == '\u{feff}');
        if let Some(comment) = rest.strip_prefix("--") {
            rest = comment.split_once('\n').map_or("", |(_, after)| after);
        } else if let Some(comment) = rest.strip_prefix("/*") {
            rest = comment.split_once("*/").map_or("", |(_, after)| after);
        } else {
            let end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
            return &rest[..end];
        }
    }
}

/// SQLite's code for a foreign key that is violated.
pub(super) const FOREIGN_KEY_CODE: i32 = ffi::SQLITE_CONSTRAINT_FOREIGNKEY;
