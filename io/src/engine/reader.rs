//! Reading a copy beside its writer.

use std::path::Path;
use std::sync::Arc;

use quorate_core::engine::{
    Fault, Outcome, Position, Reader, Rows, SqlError, SqlErrorKind, SqlLimits, Transaction,
};
use rusqlite::Connection;

use super::authorizer::Authorizer;
use super::describe::{described, writes};
use super::errors::{Stop, fault, refusal};
use super::ffi::memory;
use super::open::{self, BEGIN, ROLLBACK, Role, read_meta, run};
use super::statement::{ResultBytes, Statements, bind, set_lengths};
use super::watch::{STEPS, Watch};

/// A connection that only reads; any number of them may, each on its own thread.
pub struct SqliteReader {
    conn: Connection,
    statements: Statements,
    watch: Arc<Watch>,
    lengths_for: u64,
    failed: bool,
}

impl SqliteReader {
    /// Opens the copy at `path` for reading. Its engine must have been opened before.
    ///
    /// # Errors
    /// It is not there, or is no copy.
    pub fn open(path: &Path) -> Result<Self, Fault> {
        let mut conn = open::connect(path, Role::Reader)?;
        open::check(&conn)?;
        let watch = Arc::new(Watch::new());
        let stops = Arc::clone(&watch);
        let authorizer = conn
            .progress_handler(STEPS, Some(move || stops.stops()))
            .and_then(|()| Authorizer::install(&mut conn))
            .map_err(|error| fault(&error))?;
        let statements = Statements::new(authorizer, Arc::clone(&watch));
        Ok(Self { conn, statements, watch, lengths_for: 0, failed: false })
    }

    fn transaction(
        &mut self,
        transaction: &Transaction,
        limits: &SqlLimits,
    ) -> Result<Outcome, Fault> {
        let mut bytes = ResultBytes::new(limits);
        let mut results = Vec::with_capacity(transaction.statements.len());
        for (at, statement) in transaction.statements.iter().enumerate() {
            match self.statement(statement, limits, &mut bytes) {
                Ok(rows) => results.push(rows),
                Err(Stop::Sql(error)) => return Ok(Err(SqlError { statement: at, ..error })),
                Err(Stop::Fault(fault)) => return Err(fault),
            }
        }
        Ok(Ok(results))
    }

    fn statement(
        &mut self,
        statement: &quorate_core::engine::Statement,
        limits: &SqlLimits,
        bytes: &mut ResultBytes,
    ) -> Result<Rows, Stop> {
        if let Some(sql) = described(&statement.sql) {
            return self.statements.describe(&self.conn, sql, limits);
        }
        let (mut prepared, info) = self.statements.prepare(&self.conn, &statement.sql, limits)?;
        if writes(&prepared, &info) {
            return Err(refusal(
                SqlErrorKind::ReadOnly,
                "the statement writes where only reading is allowed",
            ));
        }
        bind(&mut prepared, statement, limits)?;
        let rows = self.statements.run(&mut prepared, bytes)?;
        if self.watch.is_late() {
            return Err(refusal(
                SqlErrorKind::Timeout,
                format!("the transaction ran longer than {} ms", limits.time_ms),
            ));
        }
        Ok(rows)
    }

    fn begin(&mut self, limits: &SqlLimits) -> rusqlite::Result<Position> {
        if self.lengths_for != limits.memory_bytes {
            set_lengths(&self.conn, limits)?;
            self.lengths_for = limits.memory_bytes;
        }
        run(&self.conn, BEGIN)?;
        Ok(read_meta(&self.conn)?.at)
    }

    fn read(
        &mut self,
        transaction: &Transaction,
        limits: &SqlLimits,
    ) -> Result<(Position, Outcome), Fault> {
        let at = self.begin(limits).map_err(|error| fault(&error))?;
        self.watch.begin(limits.time_ms);
        self.statements.authorizer.guard(true);
        let outcome =
            memory::limited(limits.memory_bytes, || self.transaction(transaction, limits));
        self.statements.authorizer.guard(false);
        self.watch.end();
        if !self.conn.is_autocommit() {
            run(&self.conn, ROLLBACK).map_err(|error| fault(&error))?;
        }
        Ok((at, outcome?))
    }
}

impl Reader for SqliteReader {
    fn query(
        &mut self,
        transaction: &Transaction,
        limits: &SqlLimits,
    ) -> Result<(Position, Outcome), Fault> {
        if self.failed {
            return Err(Fault::Misuse {
                call: "query",
                state: "it has failed and must be opened again",
            });
        }
        let result = self.read(transaction, limits);
        self.failed = result.is_err();
        result
    }
}
