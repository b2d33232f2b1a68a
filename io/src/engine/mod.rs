//! The database engine: one copy of one shard in SQLite.
//!
//! [`SqliteEngine`] is the writer of a copy, [`SqliteReader`] reads beside it, [`Syncer`] makes it durable,
//! [`snapshot_to`] copies it, [`Pinned`] reads its file as it lies. What they promise is said in [`quorate_core::engine`].
//!
//! # What travels
//!
//! SQLite tells of every row that it changes, in order, through its *preupdate hook*. The effects of
//! a batch are these changes: which row of which table, by its rowid, gets which values. Another
//! copy does the same to the same rows. So whatever decides the values (`random()`, the clock,
//! triggers, cascades, conflict clauses) runs once, and nothing can come out differently.
//!
//! SQLite's session extension, made for the like, does not do: it names a row by its primary key
//! where there is one that is not the rowid, and never carries such a row's rowid, so the copies' rowids
//! part at once (and everything that refers to them: full-text indexes, `last_insert_rowid()`,
//! `SELECT rowid`); it forgets rows with a NULL in the key; it
//! reorders changes and must then untie knots of UNIQUE values; it cannot see past a DROP.
//!
//! - **Schema changes** travel as SQL, in their place among the rows, and are run again. A new
//!   table travels as the schema holds it, and with its rows if it was made `AS SELECT`.
//! - **`sqlite_sequence`** is read before and after a transaction; what differs travels.
//! - **ANALYZE** depends on the form of the file: the tables that it fills travel.
//! - **Virtual tables** (`fts5`, `rtree`) keep their content in ordinary tables, whose rows travel.
//! - **`PRAGMA foreign_keys`** is a property of the database, not of a connection: it holds from the
//!   statement on, also inside of a transaction, until another one changes it, on every copy. A new
//!   database enforces foreign keys. `PRAGMA defer_foreign_keys` holds until its transaction ends.
//! - `PRAGMA user_version` and `application_id` travel as SQL.
//!
//! Refused by name: what begins or ends a transaction; `VACUUM`, `ATTACH`, `DETACH`; temporary
//! tables; other virtual tables; pragmas that change the file or a connection; tables whose columns
//! hide the rowid; anything named `_quorate…`.
//!
//! # `DESCRIBE`
//!
//! `DESCRIBE statement` tells what a statement is, without running it: whether it writes, its columns, its
//! parameters. It may be asked wherever a statement may be run; no values are given for it.
//!
//! # Limits
//!
//! Time is looked at every few thousand steps of SQLite's machine; a single call of a function, bounded
//! by the memory that it may use, is not interrupted. Memory is counted for all that SQLite takes on the
//! thread during the transaction, its page cache included, so a limit below some MiB refuses
//! ordinary work. A result's rows are counted apart from that. Lengths of values, SQL and
//! rows are bounded; what is too long is named in the error.

mod adopt;
mod apply;
mod authorizer;
mod capture;
mod describe;
mod effects;
mod errors;
mod execute;
mod executor;
mod ffi;
mod hash;
mod interactive;
mod open;
mod pinned;
mod reader;
mod schema;
mod sequences;
mod snapshot;
mod statement;
mod sync;
mod tables;
#[cfg(test)]
mod tests;
mod view;
mod watch;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use quorate_core::engine::{
    ContentHash, Effect, Engine, Executed, Fault, Note, Position, SqlLimits, Stepped, Transaction,
};
use rusqlite::Connection;

use apply::Applier;
use errors::fault;
use executor::Executor;
use interactive::Interactive;
use open::{COMMIT, Meta, Role, read_notes, write_meta, write_notes};

pub use adopt::{NotAdopted, adopt};
pub(crate) use adopt::{check_adopted, put_position};
pub(crate) use open::io_fault;
pub use pinned::Pinned;
pub use reader::SqliteReader;
pub use snapshot::{SnapshotProgress, snapshot_to, snapshot_unsynced};
pub use sync::Syncer;
pub use view::{Hashing, View};

/// Whether something is open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Idle,
    /// An interactive transaction is open.
    Interactive,
    /// Executed, neither committed nor forgotten.
    Open,
    /// A call has failed: what is in memory may not be what is in the file.
    Failed,
}

/// The writer of one copy in one SQLite file.
///
/// It holds several connections: one runs transactions and captures, one applies effects (with
/// triggers and foreign keys off, and apart from the first because full-text indexes remember what they
/// wrote themselves), one reads for the content hash, one syncs.
pub struct SqliteEngine {
    path: PathBuf,
    executor: Executor,
    applier: Applier,
    viewer: Connection,
    syncer: Syncer,
    meta: Meta,
    state: State,
    /// What goes with [`State::Interactive`].
    interactive: Option<Interactive>,
    /// The executor has changed the schema that the applier knows.
    others_stale: bool,
}

impl SqliteEngine {
    /// Makes a new, empty copy in the file `path`.
    ///
    /// # Errors
    /// There is such a file, or one that SQLite would take for its WAL; or it cannot be written.
    pub fn create(path: &Path) -> Result<Self, Fault> {
        open::create(path)?;
        Self::open(path)
    }

    /// Opens a copy. What was not committed is gone; what was committed, and is durable, is there.
    ///
    /// # Errors
    /// There is no such file, it is no copy, or it is damaged.
    pub fn open(path: &Path) -> Result<Self, Fault> {
        let conn = open::connect(path, Role::Applier)?;
        let meta = open::check(&conn)?;
        Ok(Self {
            path: path.to_owned(),
            executor: Executor::open(path, meta.foreign_keys)?,
            applier: Applier::new(conn),
            viewer: open::connect(path, Role::Reader)?,
            syncer: Syncer::open(path)?,
            meta,
            state: State::Idle,
            interactive: None,
            others_stale: false,
        })
    }

    /// The file of the copy.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A new reader of this copy.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn reader(&self) -> Result<SqliteReader, Fault> {
        SqliteReader::open(&self.path)
    }

    /// What is committed in the copy now, to be hashed beside the writer.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn view(&self) -> Result<View, Fault> {
        View::open(&self.path)
    }

    /// Fails if the engine is not in the state that a call needs.
    fn expect(&self, call: &'static str, wanted: State) -> Result<(), Fault> {
        if self.state == wanted {
            return Ok(());
        }
        let state = match self.state {
            State::Idle => "nothing is open",
            State::Interactive => "an interactive transaction is open",
            State::Open => "a batch is open",
            State::Failed => "it has failed and must be opened again",
        };
        Err(Fault::Misuse { call, state })
    }

    /// Passes a result on; after a fault only reopening helps.
    fn checked<T>(&mut self, result: Result<T, Fault>) -> Result<T, Fault> {
        if result.is_err() {
            // The fault is what counts; what cannot be undone now is undone by reopening.
            let _ = self.executor.undo();
            self.state = State::Failed;
            self.interactive = None;
        }
        result
    }

    fn commit_at(&mut self, at: Position, notes: &[Note]) -> Result<(), Fault> {
        let meta = Meta { at, foreign_keys: self.executor.foreign_keys };
        write_meta(&self.executor.conn, &meta)
            .and_then(|()| write_notes(&self.executor.conn, notes))
            .and_then(|()| self.executor.own(COMMIT))
            .map_err(|error| self.commit_fault(&error))?;
        self.meta = meta;
        self.others_stale |= std::mem::take(&mut self.executor.schema_changed);
        Ok(())
    }

    fn commit_fault(&self, error: &rusqlite::Error) -> Fault {
        match self.executor.capture().stray() {
            Some(table) => Fault::Io(format!(
                "table {table} was changed after the effects were taken: the commit is refused"
            )),
            None => fault(error),
        }
    }

    fn apply_behind(&mut self, entries: &[Effect], notes: &[Note]) -> Result<(), Fault> {
        let mut last = self.meta.at;
        let mut behind = Vec::with_capacity(entries.len());
        for entry in entries {
            if entry.at.index <= last.index {
                continue;
            }
            last = entry.at;
            behind.push(entry);
        }
        if behind.is_empty() {
            return Ok(());
        }
        let mut meta = self.meta;
        let applied = self.applier.apply(&behind, notes, &mut meta)?;
        self.executor.stale = true;
        if applied.schema {
            self.executor.forget_schema();
        }
        if meta.foreign_keys != self.meta.foreign_keys {
            self.executor.set_foreign_keys(meta.foreign_keys).map_err(|error| fault(&error))?;
        }
        self.meta = meta;
        Ok(())
    }
}

impl Engine for SqliteEngine {
    fn position(&self) -> Position {
        self.meta.at
    }

    fn notes(&mut self) -> Result<Vec<Note>, Fault> {
        if self.state == State::Failed {
            self.expect("notes", State::Idle)?;
        }
        read_notes(&self.viewer).map_err(|error| fault(&error))
    }

    fn execute(&mut self, batch: &[Transaction], limits: &SqlLimits) -> Result<Executed, Fault> {
        self.expect("execute", State::Idle)?;
        let result = self.executor.batch(batch, limits);
        let batch = self.checked(result)?;
        if !batch.effects.is_empty() {
            self.state = State::Open;
        }
        Ok(Executed { outcomes: batch.outcomes, effects: Bytes::from(batch.effects) })
    }

    fn begin(&mut self, limits: &SqlLimits) -> Result<(), Fault> {
        self.expect("begin", State::Idle)?;
        let result = self.executor.begin_interactive(limits);
        self.interactive = Some(self.checked(result)?);
        self.state = State::Interactive;
        Ok(())
    }

    fn step(&mut self, statements: &Transaction) -> Result<Stepped, Fault> {
        self.expect("step", State::Interactive)?;
        let Some(mut interactive) = self.interactive.take() else {
            unreachable!("it goes with the state");
        };
        let result = self.executor.step(&mut interactive, statements);
        let stepped = self.checked(result)?;
        if stepped.lost {
            let forgotten = self.executor.forget_batch(self.meta.foreign_keys);
            self.checked(forgotten)?;
            self.state = State::Idle;
        } else {
            self.interactive = Some(interactive);
        }
        Ok(stepped)
    }

    fn finish(&mut self) -> Result<Executed, Fault> {
        self.expect("finish", State::Interactive)?;
        let Some(interactive) = self.interactive.take() else {
            unreachable!("it goes with the state");
        };
        let result = self.executor.finish(interactive, self.meta.foreign_keys);
        let batch = self.checked(result)?;
        self.state = if batch.effects.is_empty() { State::Idle } else { State::Open };
        Ok(Executed { outcomes: batch.outcomes, effects: Bytes::from(batch.effects) })
    }

    fn commit(&mut self, at: Position, notes: &[Note]) -> Result<(), Fault> {
        self.expect("commit", State::Open)?;
        if at.index <= self.meta.at.index {
            return Err(Fault::Misuse {
                call: "commit",
                state: "the copy has that position or a later one",
            });
        }
        let result = self.commit_at(at, notes);
        self.checked(result)?;
        self.state = State::Idle;
        Ok(())
    }

    fn rollback(&mut self) -> Result<(), Fault> {
        if !matches!(self.state, State::Open | State::Interactive) {
            return self.expect("rollback", State::Idle);
        }
        self.interactive = None;
        let result =
            self.executor.undo().and_then(|()| self.executor.forget_batch(self.meta.foreign_keys));
        self.checked(result)?;
        self.state = State::Idle;
        Ok(())
    }

    fn apply(&mut self, entries: &[Effect], notes: &[Note]) -> Result<(), Fault> {
        self.expect("apply", State::Idle)?;
        if std::mem::take(&mut self.others_stale) {
            self.applier.forget_schema();
        }
        let result = self.apply_behind(entries, notes);
        self.checked(result)
    }

    fn sync(&mut self) -> Result<Position, Fault> {
        if self.state == State::Failed {
            return self.expect("sync", State::Idle).map(|()| self.meta.at);
        }
        let result = self.syncer.sync();
        self.checked(result)
    }

    fn content_hash(&mut self) -> Result<ContentHash, Fault> {
        if self.state == State::Failed {
            self.expect("content_hash", State::Idle)?;
        }
        hash::content(&self.viewer)
    }
}
