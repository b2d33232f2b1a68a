//! What a stream asks the database, and what it remembers of the answers.

use quorate_core::engine::{Column, Rows, SqlError, Statement, Transaction, Value};
use quorate_core::node::SqlRequest;
use quorate_core::shard::{Consistency, Reply, ShardError, ShardId, SqlKind, Token};

use super::super::backend::{Answer, Undone};
use super::proto::Error;
use super::stream::{Run, TIMEOUT};

impl Run<'_> {
    /// Has statements run together, in a transaction of their own; the result of each.
    pub(super) async fn done(
        &mut self,
        statements: Vec<Statement>,
        writes: bool,
    ) -> Result<Vec<Rows>, Undone> {
        if !writes {
            return self.read(statements).await;
        }
        let Some((wanted, held)) = self.foreign_keys_to_turn().await? else {
            return self.ask(statements, SqlKind::Write).await;
        };
        let count = statements.len();
        let turned = [set_foreign_keys(wanted)].into_iter().chain(statements);
        let turned = turned.chain([set_foreign_keys(held)]).collect();
        let mut rows = self.ask(turned, SqlKind::Write).await.map_err(|error| match error {
            Undone::Shard(ShardError::Sql(error)) => {
                let statement = error.statement.saturating_sub(1).min(count);
                ShardError::Sql(SqlError { statement, ..error }).into()
            }
            other => other,
        })?;
        rows.truncate(count + 1);
        rows.remove(0);
        Ok(rows)
    }

    /// As the database is configured: then it is seen what this node has answered to anybody. A copy that
    /// lags for long is shown as it is, but not to a stream that has seen more.
    pub(super) async fn read(&mut self, statements: Vec<Statement>) -> Result<Vec<Rows>, Undone> {
        let again = self.stream.seen.map(|_| statements.clone());
        let reply = self.reply(statements, SqlKind::Read(Consistency::AsConfigured)).await;
        match (&reply, again, self.stream.seen) {
            (Ok(Reply::Done { at, .. }), Some(again), Some(seen)) if at.index < seen.at.index => {
                self.ask(again, SqlKind::Read(Consistency::Since(seen))).await
            }
            _ => rows_of(reply),
        }
    }

    /// Whether foreign keys are to be enforced or not for what this stream does, and how the database
    /// has it, if these differ.
    pub(super) async fn foreign_keys_to_turn(&mut self) -> Result<Option<(bool, bool)>, Undone> {
        let Some(wanted) = self.stream.foreign_keys else { return Ok(None) };
        let rows = self.ask(vec![Statement::new("PRAGMA foreign_keys")], SqlKind::Write).await?;
        let held = rows.first().and_then(|rows| rows.rows.first()).and_then(|row| row.first());
        let held = held == Some(&Value::Integer(1));
        Ok((wanted != held).then_some((wanted, held)))
    }

    pub(super) async fn ask_foreign_keys(&mut self) -> Result<Rows, Error> {
        if let Some(on) = self.stream.foreign_keys {
            let columns = vec![Column { name: "foreign_keys".to_owned(), decltype: None }];
            let rows = vec![vec![Value::Integer(i64::from(on))]];
            return Ok(Rows { columns, rows, ..Rows::default() });
        }
        let pragma = vec![Statement::new("PRAGMA foreign_keys")];
        // Only who writes enforces them, and knows.
        let written = match self.may_write {
            true => self.ask(pragma.clone(), SqlKind::Write).await,
            false => Err(Undone::Denied(String::new())),
        };
        let asked = match written {
            Err(Undone::Denied(_)) => {
                self.ask(pragma, SqlKind::Read(Consistency::AsConfigured)).await
            }
            other => other,
        };
        asked.map_err(|error| self.told(&error)).map(first)
    }

    /// Asks the database.
    pub(super) async fn ask(
        &mut self,
        statements: Vec<Statement>,
        kind: SqlKind,
    ) -> Result<Vec<Rows>, Undone> {
        rows_of(self.reply(statements, kind).await)
    }

    /// Asks the database, and remembers what its answer has seen.
    pub(super) async fn reply(
        &mut self,
        statements: Vec<Statement>,
        kind: SqlKind,
    ) -> Result<Reply, Undone> {
        let request = SqlRequest {
            database: self.stream.database.clone(),
            shard: None,
            transaction: Transaction { statements },
            kind,
            timeout: TIMEOUT,
        };
        let Answer { result, of } = self.backend.sql(request).await;
        let at = match &result {
            Ok(Reply::Done { at, .. })
            | Err(Undone::Shard(ShardError::CommittedBelowQuorum { at })) => Some(*at),
            Err(Undone::Shard(
                ShardError::StaleToken { .. } | ShardError::TokenOfAnotherHistory { .. },
            )) => {
                // It is told once: what it stood for is gone for good.
                self.stream.seen = None;
                None
            }
            _ => None,
        };
        if let (Some(ShardId { database, log, .. }), Some(at)) = (of, at) {
            let newer = |seen: &Token| (seen.database, seen.log) != (database, log) || seen.at < at;
            if self.stream.seen.as_ref().is_none_or(newer) {
                self.stream.seen = Some(Token { database, log, at });
            }
        }
        result
    }
}

fn rows_of(reply: Result<Reply, Undone>) -> Result<Vec<Rows>, Undone> {
    match reply? {
        Reply::Done { rows, .. } => Ok(rows),
        _ => Err(ShardError::OutcomeUnknown.into()),
    }
}

pub(super) fn set_foreign_keys(on: bool) -> Statement {
    Statement::new(if on { "PRAGMA foreign_keys = on" } else { "PRAGMA foreign_keys = off" })
}

/// The result of the one statement that was asked for.
pub(super) fn first(rows: Vec<Rows>) -> Rows {
    rows.into_iter().next().unwrap_or_default()
}
