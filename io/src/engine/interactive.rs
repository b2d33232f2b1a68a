//! A transaction whose statements come in several calls.
//!
//! Each statement runs in a savepoint of its own, so that nothing is left of one that fails, whatever
//! it says of conflicts, and what was captured of it is cut off again. After each, full-text indexes write
//! what they held back, while somebody listens: the next savepoint would have them do it when nobody does.

use std::sync::Arc;
use std::time::Instant;

use quorate_core::engine::{
    Fault, Rows, SqlError, SqlErrorKind, SqlLimits, Statement, Stepped, Transaction,
};

use super::capture::{Listen, Mark};
use super::errors::{Stop, fault, refusal};
use super::execute::{Batch, Seen, too_large};
use super::executor::Executor;
use super::ffi::clear_last_insert_rowid;
use super::ffi::memory::Allowance;
use super::open::{BACK, RELEASE, SAVEPOINT};
use super::sequences::Sequences;
use super::statement::ResultBytes;

/// What an interactive transaction has done, and may still take.
pub(super) struct Interactive {
    limits: SqlLimits,
    begun: Instant,
    results: ResultBytes,
    memory: Allowance,
    seen: Seen,
    /// Statements that ran.
    count: usize,
}

/// What was before a statement.
struct Before {
    mark: Mark,
    sequences: Arc<Sequences>,
    foreign_keys: bool,
    virtual_tables: bool,
}

impl Executor {
    /// SQLite's transaction is open from here on.
    pub(super) fn begin_interactive(&mut self, limits: &SqlLimits) -> Result<Interactive, Fault> {
        self.set_lengths_for(limits)?;
        self.capture().start(limits.effect_bytes);
        self.begin()?;
        clear_last_insert_rowid(&self.conn);
        Ok(Interactive {
            limits: *limits,
            begun: Instant::now(),
            results: ResultBytes::new(limits),
            memory: Allowance::new(limits.memory_bytes),
            seen: Seen::default(),
            count: 0,
        })
    }

    /// Runs statements up to the first that fails. With [`Stepped::lost`] SQLite has no transaction open.
    pub(super) fn step(
        &mut self,
        open: &mut Interactive,
        statements: &Transaction,
    ) -> Result<Stepped, Fault> {
        let mut stepped = Stepped::default();
        for (number, statement) in statements.statements.iter().enumerate() {
            match self.one_step(open, statement)? {
                Ok(rows) => stepped.rows.push(rows),
                Err(error) => {
                    stepped.error = Some(SqlError { statement: number, ..error });
                    stepped.lost = self.conn.is_autocommit();
                    break;
                }
            }
        }
        Ok(stepped)
    }

    fn one_step(
        &mut self,
        open: &mut Interactive,
        statement: &Statement,
    ) -> Result<Result<Rows, SqlError>, Fault> {
        let before = Before {
            mark: self.capture().here(),
            sequences: Arc::clone(&self.sequences),
            foreign_keys: self.foreign_keys,
            virtual_tables: self.has_virtual_tables,
        };
        self.own(SAVEPOINT).map_err(|error| fault(&error))?;
        self.watch.begin_at(open.begun, open.limits.time_ms);
        self.statements.authorizer.guard(true);
        let mut seen = Seen::default();
        let Interactive { limits, results, memory, .. } = open;
        let result = memory.limited(|| self.run_step(statement, limits, results, &mut seen));
        self.statements.authorizer.guard(false);
        self.listen(Listen::Closed);
        self.watch.end();
        match result {
            Ok(rows) => {
                self.own(RELEASE).map_err(|error| fault(&error))?;
                open.seen = open.seen.and(seen);
                open.count += 1;
                Ok(Ok(rows))
            }
            Err(Stop::Fault(fault)) => Err(fault),
            Err(Stop::Sql(error)) => {
                self.take_back(&mut open.memory, before)?;
                Ok(Err(error))
            }
        }
    }

    fn run_step(
        &mut self,
        statement: &Statement,
        limits: &SqlLimits,
        results: &mut ResultBytes,
        seen: &mut Seen,
    ) -> Result<Rows, Stop> {
        self.check_time(limits)?;
        let rows = self.statement(statement, limits, results, seen)?;
        if seen.writes && self.has_virtual_tables {
            self.statements.authorizer.guard(false);
            self.flush_virtual_tables()?;
        }
        if self.capture().own_bytes() > limits.effect_bytes {
            return Err(too_large());
        }
        Ok(rows)
    }

    /// A statement that takes no time is not interrupted; after the end none is begun.
    fn check_time(&self, limits: &SqlLimits) -> Result<(), Stop> {
        match self.watch.is_late() {
            false => Ok(()),
            true => Err(refusal(
                SqlErrorKind::Timeout,
                format!("the transaction was open for longer than {} ms", limits.time_ms),
            )),
        }
    }

    /// Undoes one statement, if SQLite has not undone all of them.
    fn take_back(&mut self, memory: &mut Allowance, before: Before) -> Result<(), Fault> {
        self.capture().back_to(before.mark);
        if self.schema_changed {
            self.forget_schema();
        }
        if !self.conn.is_autocommit() {
            memory
                .unlimited(|| self.own(BACK).and_then(|()| self.own(RELEASE)))
                .map_err(|error| fault(&error))?;
        }
        if self.foreign_keys != before.foreign_keys {
            self.set_foreign_keys(before.foreign_keys).map_err(|error| fault(&error))?;
        }
        self.sequences = before.sequences;
        self.has_virtual_tables = before.virtual_tables;
        Ok(())
    }

    /// What the end demands is looked at, and what was captured is taken. `foreign_keys`: whether they
    /// were enforced before it.
    pub(super) fn finish(
        &mut self,
        mut open: Interactive,
        foreign_keys: bool,
    ) -> Result<Batch, Fault> {
        self.watch.begin_at(open.begun, open.limits.time_ms);
        let Interactive { limits, memory, seen, .. } = &mut open;
        let result = memory.limited(|| self.end(seen, limits));
        self.listen(Listen::Closed);
        self.watch.end();
        match result {
            Ok(()) => {
                let effects = self.take_effects()?;
                Ok(Batch { outcomes: vec![Ok(Vec::new())], effects })
            }
            Err(Stop::Fault(fault)) => Err(fault),
            Err(Stop::Sql(error)) => {
                self.undo()?;
                self.forget_batch(foreign_keys)?;
                let error = SqlError { statement: open.count, ..error };
                Ok(Batch { outcomes: vec![Err(error)], effects: Vec::new() })
            }
        }
    }
}
