//! One stream: a connection to one database, as its holder sees it.

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_core::engine::{Rows, SqlErrorKind, Statement, Value};
use quorate_core::shard::{ShardError, Token};

use super::super::backend::{Backend, Undone};
use super::super::sql::SQL_BYTES_MAX;
use super::asking::first;
use super::holder::Holder;
use super::inside::Inside;
use super::proto::{Error, SqlText, Stmt, StmtResult, StreamRequest, StreamResponse};
use super::text::{self, Kind, Mode};
use super::{batch, inside};

/// How long one request of a stream is waited for.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);
/// SQL that a stream stores: texts, and bytes of them all. The JavaScript driver stores 30 of up to 5000
/// UTF-16 units each.
const STORED_MAX: usize = 128;
const STORED_BYTES_MAX: usize = 512 * 1024;
/// Once an answer holds so much no further request of it is carried out. One result has 4 MiB at most.
pub(super) const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A stream.
pub(super) struct Stream {
    /// Whose it is.
    pub(super) who: Holder,
    pub(super) database: String,
    /// The last answer: what is read later has seen it.
    pub(super) seen: Option<Token>,
    stored: BTreeMap<i32, String>,
    /// As `PRAGMA foreign_keys` has set it on this stream; `None`: as the database has it.
    pub(super) foreign_keys: Option<bool>,
    pub(super) inside: Inside,
    /// A `close` has been carried out.
    pub(super) is_closed: bool,
}

impl Stream {
    pub(super) fn new(who: Holder, database: String) -> Self {
        Self {
            who,
            database,
            seen: None,
            stored: BTreeMap::new(),
            foreign_keys: None,
            inside: Inside::Nothing,
            is_closed: false,
        }
    }

    /// Whether a transaction is open on it.
    pub(super) fn is_inside(&self) -> bool {
        self.inside.is_open()
    }

    /// The SQL that is meant.
    pub(super) fn sql<'s>(&'s self, given: &'s SqlText) -> Result<&'s str, Error> {
        let malformed = |message: String| Error::new("HRANA_PROTO_ERROR", message);
        match (&given.sql, given.sql_id) {
            (Some(sql), None) => Ok(sql),
            (None, Some(id)) => match self.stored.get(&id) {
                Some(sql) => Ok(sql),
                None => Err(malformed(format!("no SQL is stored under \"sql_id\" {id}"))),
            },
            _ => Err(malformed("give either \"sql\" or \"sql_id\"".to_owned())),
        }
    }

    fn store(&mut self, id: i32, sql: String) -> Result<(), Error> {
        if self.stored.contains_key(&id) {
            let message = format!("\"sql_id\" {id} is in use: close it first");
            return Err(Error::new("HRANA_PROTO_ERROR", message));
        }
        let bytes: usize = self.stored.values().map(String::len).sum();
        if self.stored.len() >= STORED_MAX || bytes + sql.len() > STORED_BYTES_MAX {
            return Err(Error::new(
                "SQL_STORE_TOO_LARGE",
                format!(
                    "a stream stores {STORED_MAX} texts and {STORED_BYTES_MAX} bytes of SQL: send this \
                     one with each request"
                ),
            ));
        }
        self.stored.insert(id, sql);
        Ok(())
    }

    /// The statement that is meant, with its values.
    pub(super) fn statement(&self, stmt: Stmt) -> Result<Statement, Error> {
        let sql = self.sql(&stmt.text)?.to_owned();
        let args: Vec<Value> = stmt.args.unwrap_or_default().into_iter().map(|v| v.0).collect();
        let named = stmt.named_args.unwrap_or_default();
        let named = named.into_iter().map(|arg| (arg.name, arg.value.0)).collect();
        let statement = Statement { sql, args, named };
        match text::statements(&statement.sql).len() {
            1 => {}
            0 => return Err(no_statement()),
            _ => {
                let message = "there is a second statement after the first: send one at a time";
                return Err(Error::new("SQL_MANY_STATEMENTS", message));
            }
        }
        let bytes = size(&statement);
        if bytes > SQL_BYTES_MAX {
            return Err(too_big(bytes));
        }
        Ok(statement)
    }
}

pub(super) fn no_statement() -> Error {
    Error::new("SQL_NO_STATEMENT", "there is no SQL statement in the text")
}

pub(super) fn too_big(bytes: usize) -> Error {
    let message = format!(
        "{bytes} bytes of SQL and values; what is done together may have {SQL_BYTES_MAX}: split it. \
         Nothing of it was done"
    );
    Error::new("SQLITE_TOOBIG", message)
}

/// Bytes of a statement and its values.
pub(super) fn size(statement: &Statement) -> usize {
    let named = statement.named.iter().map(|(name, value)| name.len() + value_size(value));
    let values = statement.args.iter().map(value_size).chain(named);
    statement.sql.len() + values.sum::<usize>()
}

fn value_size(value: &Value) -> usize {
    8 + match value {
        Value::Text(text) => text.len(),
        Value::Blob(bytes) => bytes.len(),
        Value::Null | Value::Integer(_) | Value::Real(_) => 0,
    }
}

/// What one HTTP request does on a stream.
pub(super) struct Run<'r> {
    pub(super) backend: &'r Backend,
    pub(super) stream: &'r mut Stream,
    /// Whether whoever asks has the right to write.
    pub(super) may_write: bool,
    /// Bytes of the answer until now, about.
    spent: usize,
}

impl<'r> Run<'r> {
    pub(super) fn new(backend: &'r Backend, stream: &'r mut Stream, may_write: bool) -> Self {
        Self { backend, stream, may_write, spent: 0 }
    }

    /// Carries out one request of a pipeline.
    pub(super) async fn request(
        &mut self,
        request: StreamRequest,
    ) -> Result<StreamResponse, Error> {
        if self.stream.is_closed {
            let message = "the stream was closed by an earlier request of this pipeline";
            return Err(Error::new("STREAM_CLOSED", message));
        }
        match request {
            StreamRequest::Close => {
                self.stream.is_closed = true;
                self.abandon().await;
                Ok(StreamResponse::Close)
            }
            StreamRequest::Execute { stmt } => {
                let result = self.execute(stmt).await?;
                Ok(StreamResponse::Execute { result })
            }
            StreamRequest::Batch { batch } => {
                let steps = batch::run(self, batch).await?;
                Ok(StreamResponse::Batch { result: batch::result(steps) })
            }
            StreamRequest::Sequence(given) => {
                self.sequence(&given).await?;
                Ok(StreamResponse::Sequence)
            }
            StreamRequest::Describe(given) => {
                let result = self.describe(&given).await?;
                Ok(StreamResponse::Describe { result })
            }
            StreamRequest::StoreSql { sql_id, sql } => {
                self.stream.store(sql_id, sql)?;
                Ok(StreamResponse::StoreSql)
            }
            StreamRequest::CloseSql { sql_id } => {
                self.stream.stored.remove(&sql_id);
                Ok(StreamResponse::CloseSql)
            }
            StreamRequest::GetAutocommit => {
                Ok(StreamResponse::GetAutocommit { is_autocommit: !self.stream.is_inside() })
            }
        }
    }

    /// One statement.
    pub(super) async fn execute(&mut self, stmt: Stmt) -> Result<StmtResult, Error> {
        let without_rows = stmt.want_rows == Some(false);
        let statement = self.stream.statement(stmt)?;
        let rows = self.statement(statement).await?;
        Ok(StmtResult { rows, without_rows })
    }

    /// A script: each statement by itself, until one fails. What was done before that stays, outside of a
    /// transaction; so it is with libSQL's own server. A transaction that the script begins is one.
    async fn sequence(&mut self, given: &SqlText) -> Result<(), Error> {
        let script = self.stream.sql(given)?.to_owned();
        for statement in text::statements(&script) {
            if statement.len() > SQL_BYTES_MAX {
                return Err(too_big(statement.len()));
            }
            self.statement(Statement::new(statement)).await?;
        }
        Ok(())
    }

    /// Runs one statement, by what it is and where the stream is.
    pub(super) async fn statement(&mut self, statement: Statement) -> Result<Rows, Error> {
        self.has_room()?;
        let kind = text::kind(&statement.sql);
        if let Inside::Lost(reason) = &self.stream.inside
            && !matches!(kind, Kind::Begin(_) | Kind::Commit | Kind::Rollback)
        {
            return Err(inside::lost(reason));
        }
        match kind {
            Kind::Begin(mode) => self.begin(mode).await.map(|()| Rows::default()),
            Kind::Commit => self.commit().await.map(|()| Rows::default()),
            Kind::Rollback => self.rollback().await.map(|()| Rows::default()),
            Kind::ForeignKeys(Some(on)) => {
                // As in SQLite, nothing happens inside of a transaction.
                if !self.stream.is_inside() {
                    self.stream.foreign_keys = Some(on);
                }
                Ok(Rows::default())
            }
            Kind::ForeignKeys(None) => self.ask_foreign_keys().await,
            Kind::Read { .. } | Kind::Write => {
                let rows = match self.stream.inside {
                    Inside::Open(_) => self.step(statement).await?,
                    _ => self.alone(statement, kind).await?,
                };
                self.spend(&rows);
                Ok(rows)
            }
        }
    }

    /// One statement outside of a transaction, or in one that only reads.
    async fn alone(&mut self, statement: Statement, kind: Kind) -> Result<Rows, Error> {
        let only_reads = matches!(self.stream.inside, Inside::ReadOnly);
        if let Kind::Write = kind {
            if only_reads {
                return Err(read_only());
            }
            self.check_right()?;
            return self.done(vec![statement], true).await.map_err(|e| self.told(&e)).map(first);
        }
        let again = match kind {
            Kind::Read { may_write: true } if !only_reads => Some(statement.clone()),
            _ => None,
        };
        match (self.done(vec![statement], false).await, again) {
            (Err(error), Some(statement)) if is_read_only(&error) => {
                self.check_right()?;
                self.done(vec![statement], true).await.map_err(|e| self.told(&e)).map(first)
            }
            (result, _) => result.map_err(|error| self.told(&error)).map(first),
        }
    }

    pub(super) fn told(&self, error: &Undone) -> Error {
        Error::of(self.backend, error)
    }

    pub(super) fn check_right(&self) -> Result<(), Error> {
        if self.may_write { Ok(()) } else { Err(Error::may_not_write(self.stream.who.name())) }
    }

    /// A transaction begins.
    async fn begin(&mut self, mode: Mode) -> Result<(), Error> {
        if self.stream.is_inside() {
            return Err(Error::new(
                "SQLITE_ERROR",
                "SQLite error: cannot start a transaction within a transaction",
            ));
        }
        match mode {
            // Whoever may only read needs no more.
            Mode::Deferred if !self.may_write => self.stream.inside = Inside::ReadOnly,
            Mode::ReadOnly => self.stream.inside = Inside::ReadOnly,
            Mode::Deferred | Mode::Immediate => {
                self.check_right()?;
                match self.open().await {
                    // A cluster says only now who may only read.
                    Err(Undone::Denied(_)) if mode == Mode::Deferred => {
                        self.stream.inside = Inside::ReadOnly;
                    }
                    opened => opened.map_err(|error| self.told(&error))?,
                }
                self.turn_foreign_keys().await?;
            }
        }
        Ok(())
    }

    /// Whether there is room for one more result in the answer.
    pub(super) fn has_room(&self) -> Result<(), Error> {
        if self.spent <= ANSWER_BYTES_MAX {
            return Ok(());
        }
        Err(Error::new(
            "RESPONSE_TOO_LARGE",
            format!(
                "the results before this have {ANSWER_BYTES_MAX} bytes already: nothing of this was \
                 done. Send it by itself"
            ),
        ))
    }

    pub(super) fn spend(&mut self, rows: &Rows) {
        let values = rows.rows.iter().flatten().map(value_size);
        self.spent += 64 + values.sum::<usize>();
    }
}

pub(super) fn is_read_only(error: &Undone) -> bool {
    matches!(error, Undone::Shard(ShardError::Sql(error)) if error.kind == SqlErrorKind::ReadOnly)
}

/// A statement that writes, in a transaction that only reads.
pub(super) fn read_only() -> Error {
    let message = "the transaction was begun READONLY. Nothing of the statement was done";
    Error::new("SQLITE_READONLY", message)
}

#[cfg(test)]
impl Stream {
    pub(super) fn go_inside(&mut self) {
        self.inside = Inside::ReadOnly;
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::access::Who;
    use super::*;

    fn stream() -> Stream {
        Stream::new(Who::admin().into(), "demo".to_owned())
    }

    fn by_id(id: i32) -> SqlText {
        SqlText { sql: None, sql_id: Some(id) }
    }

    #[test]
    fn stored_sql_is_found_by_its_number_until_it_is_closed() {
        let mut stream = stream();
        stream.store(1, "SELECT 1".to_owned()).unwrap();
        assert_eq!(stream.sql(&by_id(1)).unwrap(), "SELECT 1");
        assert_eq!(stream.store(1, "SELECT 2".to_owned()).unwrap_err().code, "HRANA_PROTO_ERROR");
        stream.stored.remove(&1);
        assert_eq!(stream.sql(&by_id(1)).unwrap_err().code, "HRANA_PROTO_ERROR");
        let both = SqlText { sql: Some("SELECT 1".to_owned()), sql_id: Some(1) };
        assert!(stream.sql(&both).is_err());
        assert!(stream.sql(&SqlText { sql: None, sql_id: None }).is_err());
    }

    #[test]
    fn a_stream_stores_so_much_and_no_more() {
        let mut stream = stream();
        let large = "x".repeat(STORED_BYTES_MAX / 2);
        stream.store(1, large.clone()).unwrap();
        stream.store(2, large.clone()).unwrap();
        assert_eq!(stream.store(3, "x".to_owned()).unwrap_err().code, "SQL_STORE_TOO_LARGE");
        let mut stream = self::stream();
        for id in 0..128 {
            stream.store(id, String::new()).unwrap();
        }
        assert_eq!(stream.store(128, String::new()).unwrap_err().code, "SQL_STORE_TOO_LARGE");
    }

    #[test]
    fn what_is_larger_than_can_be_sent_to_the_owner_is_refused_before_anything_is_done() {
        let stream = stream();
        let stmt = |sql: String, base64: String| -> Stmt {
            let args = serde_json::json!([{ "type": "blob", "base64": base64 }]);
            serde_json::from_value(serde_json::json!({ "sql": sql, "args": args })).unwrap()
        };
        let ten = "-".repeat(10_000_000);
        let error = stream.statement(stmt(format!("SELECT 1 {ten}"), String::new())).unwrap_err();
        assert!(error.code == "SQLITE_TOOBIG" && error.message.contains("10000017"), "{error:?}");
        let error = stream.statement(stmt("SELECT ?".to_owned(), "AAAA".repeat(3_000_000)));
        assert_eq!(error.unwrap_err().code, "SQLITE_TOOBIG");
        let error = stream.statement(stmt(" -- nothing\n;".to_owned(), String::new()));
        assert_eq!(error.unwrap_err().code, "SQL_NO_STATEMENT");
    }
}
