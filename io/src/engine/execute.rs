//! Running a batch of transactions in one transaction of SQLite, each undone alone if it fails.

use std::sync::Arc;

use quorate_core::engine::{
    Fault, Outcome, Rights, Rows, SqlError, SqlErrorKind, SqlLimits, Statement, Transaction,
};

use super::capture::{Listen, Mark, Trouble};
use super::describe::described;
use super::effects;
use super::errors::{Stop, fault, refusal};
use super::executor::Executor;
use super::ffi::{clear_last_insert_rowid, has_deferred_violations, memory};
use super::open::{BACK, BEGIN, FLUSH, FLUSHED, RELEASE, ROLLBACK, SAVEPOINT};
use super::statement::{FOREIGN_KEY_CODE, ResultBytes, bind, set_lengths};

/// What a batch came to.
pub(super) struct Batch {
    pub(super) outcomes: Vec<Outcome>,
    /// Empty if nothing was written; then nothing is open.
    pub(super) effects: Vec<u8>,
}

/// How one transaction of a batch ended.
enum End {
    /// With an answer; the batch goes on.
    Answer(Outcome),
    /// Its effects do not fit behind those before it: it is left for another batch.
    Left,
    /// It failed and took everything before it with it.
    Lost(SqlError),
}

/// How a run over some transactions ended.
enum Run {
    /// All answered, or the rest left for another batch.
    Done(Vec<Outcome>),
    /// This one undid those before it.
    Lost(usize, SqlError),
}

impl Executor {
    /// Runs as many of the transactions as fit. Something written: SQLite's transaction is open.
    pub(super) fn batch(
        &mut self,
        transactions: &[Transaction],
        limits: &SqlLimits,
    ) -> Result<Batch, Fault> {
        self.set_lengths_for(limits)?;
        let foreign_keys = self.foreign_keys;
        let mut upto = transactions.len();
        let mut offender = None;
        // Each turn that is lost shortens the batch: the offender is answered, and what stands
        // behind it is left for the next call.
        let outcomes = loop {
            match self.run(&transactions[..upto], limits)? {
                Run::Done(mut outcomes) => {
                    if let Some(error) = offender
                        && outcomes.len() == upto
                    {
                        outcomes.push(Err(error));
                    }
                    break outcomes;
                }
                Run::Lost(at, error) => {
                    self.forget_batch(foreign_keys)?;
                    upto = at;
                    offender = Some(error);
                }
            }
        };
        let effects = self.take_effects()?;
        Ok(Batch { outcomes, effects })
    }

    pub(super) fn set_lengths_for(&mut self, limits: &SqlLimits) -> Result<(), Fault> {
        if self.lengths_for != limits.memory_bytes {
            set_lengths(&self.conn, limits).map_err(|error| fault(&error))?;
            self.lengths_for = limits.memory_bytes;
        }
        Ok(())
    }

    /// What was captured. With nothing captured nothing is left open.
    pub(super) fn take_effects(&mut self) -> Result<Vec<u8>, Fault> {
        let effects = {
            let mut capture = self.capture();
            capture.listen = Listen::Closed;
            if capture.is_empty() { Vec::new() } else { capture.take() }
        };
        if effects.is_empty() && !self.conn.is_autocommit() {
            self.undo()?;
        }
        Ok(effects)
    }

    fn run(&mut self, transactions: &[Transaction], limits: &SqlLimits) -> Result<Run, Fault> {
        self.capture().start(limits.effect_bytes);
        self.begin()?;
        let mut outcomes = Vec::with_capacity(transactions.len());
        for (at, transaction) in transactions.iter().enumerate() {
            self.watch.begin(limits.time_ms);
            let end = self.transaction(transaction, limits);
            self.watch.end();
            match end? {
                End::Answer(outcome) => outcomes.push(outcome),
                End::Left => break,
                End::Lost(error) => return Ok(Run::Lost(at, error)),
            }
        }
        Ok(Run::Done(outcomes))
    }

    pub(super) fn begin(&mut self) -> Result<(), Fault> {
        self.own(BEGIN).map_err(|error| fault(&error))?;
        if self.stale {
            self.refresh().map_err(|error| fault(&error))?;
        }
        Ok(())
    }

    /// What was kept of a batch that is undone counts no more.
    pub(super) fn forget_batch(&mut self, foreign_keys: bool) -> Result<(), Fault> {
        if self.foreign_keys != foreign_keys {
            self.set_foreign_keys(foreign_keys).map_err(|error| fault(&error))?;
        }
        if self.schema_changed {
            self.forget_schema();
            self.schema_changed = false;
        }
        self.stale = true;
        Ok(())
    }

    /// Undoes all that is open.
    pub(super) fn undo(&mut self) -> Result<(), Fault> {
        self.listen(Listen::Closed);
        if !self.conn.is_autocommit() {
            memory::unlimited(|| self.own(ROLLBACK)).map_err(|error| fault(&error))?;
        }
        Ok(())
    }

    /// Runs one transaction; undoes it if it fails.
    fn transaction(&mut self, transaction: &Transaction, limits: &SqlLimits) -> Result<End, Fault> {
        let mark = self.capture().mark();
        // With nothing written before it, undoing it is undoing everything.
        let alone = self.capture().is_empty();
        if !alone {
            self.own(SAVEPOINT).map_err(|error| fault(&error))?;
        }
        let sequences = Arc::clone(&self.sequences);
        let (foreign_keys, virtual_tables) = (self.foreign_keys, self.has_virtual_tables);
        clear_last_insert_rowid(&self.conn);
        self.statements.authorizer.guard(true);
        let result =
            memory::limited(limits.memory_bytes, || self.statements_of(transaction, limits));
        self.statements.authorizer.guard(false);
        self.listen(Listen::Closed);
        let stop = match result {
            Ok(_) if !alone && self.capture().is_over() => None,
            Ok(rows) => {
                if !alone {
                    self.own(RELEASE).map_err(|error| fault(&error))?;
                }
                return Ok(End::Answer(Ok(rows)));
            }
            Err(Stop::Fault(fault)) => return Err(fault),
            Err(Stop::Sql(error)) => Some(error),
        };
        // Undoing is not to be stopped by what stopped the transaction.
        self.watch.end();
        let lost = self.conn.is_autocommit();
        self.undo_one(mark, alone)?;
        if self.foreign_keys != foreign_keys {
            self.set_foreign_keys(foreign_keys).map_err(|error| fault(&error))?;
        }
        self.sequences = sequences;
        self.has_virtual_tables = virtual_tables;
        Ok(match stop {
            None => End::Left,
            Some(error) if lost && !alone => End::Lost(error),
            Some(error) => End::Answer(Err(error)),
        })
    }

    fn undo_one(&mut self, mark: Mark, alone: bool) -> Result<(), Fault> {
        self.capture().back_to(mark);
        if self.schema_changed {
            self.forget_schema();
        }
        let lost = self.conn.is_autocommit();
        let undone = memory::unlimited(|| {
            if alone {
                if !lost {
                    self.own(ROLLBACK)?;
                }
                self.own(BEGIN)
            } else if lost {
                Ok(())
            } else {
                self.own(BACK)?;
                self.own(RELEASE)
            }
        });
        undone.map_err(|error| fault(&error))
    }

    /// The statements of a transaction, and what its end demands.
    fn statements_of(
        &mut self,
        transaction: &Transaction,
        limits: &SqlLimits,
    ) -> Result<Vec<Rows>, Stop> {
        let mut bytes = ResultBytes::new(limits);
        let mut results = Vec::with_capacity(transaction.statements.len());
        let mut seen = Seen::default();
        for (at, statement) in transaction.statements.iter().enumerate() {
            let result = self.statement(statement, limits, &mut bytes, &mut seen);
            results.push(result.map_err(|stop| numbered(stop, at))?);
        }
        self.end(&seen, limits).map_err(|stop| numbered(stop, transaction.statements.len()))?;
        Ok(results)
    }

    pub(super) fn statement(
        &mut self,
        statement: &Statement,
        limits: &SqlLimits,
        bytes: &mut ResultBytes,
        seen: &mut Seen,
    ) -> Result<Rows, Stop> {
        // Of a statement that failed, or told of nothing.
        self.capture().take_inserted();
        // Compiling, too, can make a virtual table look at its tables, but never change a row.
        self.listen(Listen::All);
        if let Some(sql) = described(&statement.sql) {
            return self.statements.describe(&self.conn, sql, limits);
        }
        let (mut prepared, info) = self.statements.prepare(&self.conn, &statement.sql, limits)?;
        if info.adds && limits.rights == Rights::Caretaker {
            return Err(refusal(
                SqlErrorKind::OwnerOnly,
                "the statement inserts, which only the owner of the shard does",
            ));
        }
        bind(&mut prepared, statement, limits)?;
        seen.inserts |= info.inserts;
        seen.sequences |= info.sequences;
        seen.writes |= info.writes;
        if let Some((name, value)) = &info.pragma {
            drop(prepared);
            let (name, value) = (name.clone(), value.clone());
            return self.pragma(&name, value.as_deref(), statement, limits, bytes, seen);
        }
        if info.schema || info.analyzes || info.reindexes {
            drop(prepared);
            seen.schema |= info.schema;
            return self.schema_statement(statement, &info, limits, bytes);
        }
        let result = self.statements.run(&mut prepared, bytes);
        drop(prepared);
        let mut rows = result?;
        self.check_capture()?;
        if self.conn.is_autocommit() {
            // Only failing statements may end the transaction, and then all is done again.
            return Err(Stop::Fault(Fault::Io("a statement has ended the open batch".into())));
        }
        if info.writes {
            rows.affected = self.conn.changes();
            if self.capture().take_inserted() {
                rows.last_insert_rowid = Some(self.conn.last_insert_rowid());
            }
        }
        Ok(rows)
    }

    /// Whether what a statement did was captured whole, and in time.
    pub(super) fn check_capture(&self) -> Result<(), Stop> {
        let mut capture = self.capture();
        capture.settle(&self.conn);
        match capture.trouble() {
            None => {}
            Some(Trouble::Memory) => {
                return Err(refusal(
                    SqlErrorKind::Memory,
                    "there is no memory to keep what the statement changes",
                ));
            }
            Some(Trouble::Table(message)) => {
                return Err(refusal(SqlErrorKind::Unsupported, message.clone()));
            }
        }
        drop(capture);
        if self.watch.has_given_up() {
            return Err(too_large());
        }
        Ok(())
    }

    /// What has to be true when a transaction ends.
    pub(super) fn end(&mut self, seen: &Seen, limits: &SqlLimits) -> Result<(), Stop> {
        if has_deferred_violations(&self.conn) {
            return Err(Stop::Sql(SqlError {
                kind: SqlErrorKind::Constraint,
                code: FOREIGN_KEY_CODE,
                message: "FOREIGN KEY constraint failed at the end of the transaction".into(),
                statement: 0,
            }));
        }
        self.statements.authorizer.guard(false);
        if seen.defers {
            // It lasts until SQLite's transaction ends, which is the batch's.
            self.conn
                .execute_batch("PRAGMA defer_foreign_keys = OFF")
                .map_err(|error| self.statements.explain(&error))?;
        }
        if seen.writes && self.has_virtual_tables {
            self.flush_virtual_tables()?;
        }
        if self.sequences.exist() && (seen.inserts || seen.sequences || seen.schema) {
            self.note_sequences(seen.sequences || seen.schema)?;
        }
        let own = self.capture().own_bytes();
        if own > limits.effect_bytes {
            return Err(too_large());
        }
        if self.watch.is_late() {
            return Err(refusal(
                SqlErrorKind::Timeout,
                format!("the transaction ran longer than {} ms", limits.time_ms),
            ));
        }
        Ok(())
    }

    /// Full-text indexes hold back what they write until the commit, unless a savepoint is opened.
    pub(super) fn flush_virtual_tables(&mut self) -> Result<(), Stop> {
        self.listen(Listen::All);
        let flushed = self.own(FLUSH).and_then(|()| self.own(FLUSHED));
        self.listen(Listen::Closed);
        flushed.map_err(|error| self.statements.explain(&error))?;
        self.check_capture()
    }

    fn note_sequences(&mut self, all: bool) -> Result<(), Stop> {
        let after =
            self.sequences.reread(&self.conn).map_err(|error| self.statements.explain(&error))?;
        // A schema change may have made, renamed or removed sequences at the receiver too; if none
        // is different here, none needs to be said.
        let all = all && (after != *self.sequences || !after.is_empty());
        let mut capture = self.capture();
        if capture.is_empty() && after == *self.sequences {
            return Ok(());
        }
        capture.add(|out| {
            self.sequences.put_difference(&after, all, out);
        });
        drop(capture);
        self.sequences = Arc::new(after);
        Ok(())
    }

    /// Writes down that foreign keys are enforced from here on, or no longer.
    pub(super) fn note_foreign_keys(&mut self, on: bool) -> Result<(), Stop> {
        if self.foreign_keys != on {
            self.set_foreign_keys(on).map_err(|error| self.statements.explain(&error))?;
            self.capture().add(|out| effects::put_foreign_keys(out, on));
        }
        Ok(())
    }
}

/// What the statements of one transaction have done.
#[derive(Clone, Copy, Default)]
pub(super) struct Seen {
    pub(super) writes: bool,
    inserts: bool,
    sequences: bool,
    pub(super) schema: bool,
    /// Foreign keys were deferred by the pragma.
    pub(super) defers: bool,
}

impl Seen {
    /// Both of them.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            writes: self.writes || other.writes,
            inserts: self.inserts || other.inserts,
            sequences: self.sequences || other.sequences,
            schema: self.schema || other.schema,
            defers: self.defers || other.defers,
        }
    }
}

pub(super) fn too_large() -> Stop {
    refusal(
        SqlErrorKind::TooLarge,
        "the effects of the transaction are larger than an entry may be: split it",
    )
}

fn numbered(stop: Stop, at: usize) -> Stop {
    match stop {
        Stop::Sql(error) => Stop::Sql(SqlError { statement: at, ..error }),
        fault @ Stop::Fault(_) => fault,
    }
}
