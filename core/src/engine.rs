//! What a shard asks of the database engine that holds its copy.
//!
//! The engine is dumb: it runs, captures, rolls back, applies and commits when it is told, and it may
//! fail every call. Who may run what, and when something counts as done, is decided by the shard.
//!
//! One copy is written by one caller, in this order: [`Engine::execute`] leaves a transaction open
//! and names its effects; they go through the shard's log; [`Engine::commit`] makes them the copy's
//! content, with the entry's position in the same transaction. [`Engine::rollback`] forgets them
//! instead. A copy that did not execute an entry gets it by [`Engine::apply`]. The two ways end in
//! the same content.
//!
//! An *interactive* transaction is executed in several calls, because what it does next depends on what
//! it found: [`Engine::begin`], any number of [`Engine::step`], and [`Engine::finish`], which leaves
//! what [`Engine::execute`] leaves.

#[cfg(any(test, feature = "memory-engine"))]
pub mod conformance;
#[cfg(any(test, feature = "memory-engine"))]
pub mod memory;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ids::{Index, Term};

/// A place in a shard's log. What a copy has applied is known by it, and by it alone.
#[derive(
    Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize,
)]
pub struct Position {
    /// The index of the entry: the copy's LSN.
    pub index: Index,
    /// Its term. Two logs that agree in index and term agree in all before.
    pub term: Term,
}

/// A value of a parameter or of a column.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Value {
    /// NULL.
    Null,
    /// INTEGER.
    Integer(i64),
    /// REAL. Never a NaN: SQLite has none, and stores NULL for it.
    Real(f64),
    /// TEXT.
    Text(String),
    /// BLOB.
    Blob(Vec<u8>),
}

/// One SQL statement with its parameters.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Statement {
    /// One statement; a second one after it is an error.
    pub sql: String,
    /// Values for `?` and `?NNN`, the first for `?1`.
    pub args: Vec<Value>,
    /// Values for `:name`, `@name` and `$name`; the name may be given with or without that sign.
    pub named: Vec<(String, Value)>,
}

impl Statement {
    /// A statement without parameters.
    #[must_use]
    pub fn new(sql: impl Into<String>) -> Self {
        Self { sql: sql.into(), ..Self::default() }
    }

    /// A statement with values for its `?`.
    #[must_use]
    pub fn with(sql: impl Into<String>, args: impl Into<Vec<Value>>) -> Self {
        Self { sql: sql.into(), args: args.into(), named: Vec::new() }
    }
}

/// Statements that are done together or not at all.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Transaction {
    /// In order. The first that fails undoes those before it.
    pub statements: Vec<Statement>,
}

/// A column of a result.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// The declared type, for a column of a table that has one.
    pub decltype: Option<String>,
}

/// What one statement returned.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Rows {
    /// The columns; none for a statement that returns nothing.
    pub columns: Vec<Column>,
    /// The rows.
    pub rows: Vec<Vec<Value>>,
    /// Rows inserted, updated or deleted by the statement itself, not by triggers or cascades.
    pub affected: u64,
    /// The rowid of the last row that the statement inserted, if it inserted one.
    pub last_insert_rowid: Option<i64>,
}

/// What kind of failure a statement met.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum SqlErrorKind {
    /// It does not parse, names what is not there, or has wrong parameters.
    Statement,
    /// A constraint is violated, a deferred foreign key at the end of the transaction included.
    Constraint,
    /// A value does not fit a STRICT column, or a key.
    Type,
    /// It cannot be replicated (`VACUUM`, `ATTACH`, a file-changing PRAGMA), or touches tables that are
    /// Quorate's own.
    Unsupported,
    /// Its effects are larger than an entry may be, or a value or a result than allowed.
    TooLarge,
    /// It ran longer than it may.
    Timeout,
    /// It needs more memory than it may.
    Memory,
    /// It writes where only reading is allowed.
    ReadOnly,
    /// The engine failed while it ran (disk full, I/O error): the copy may need to be reopened.
    Engine,
    /// It inserts, which only the shard's owner may: see [`Rights::Caretaker`].
    OwnerOnly,
}

/// Why a transaction has failed. Nothing of it is left.
#[derive(Clone, PartialEq, Eq, Debug, Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct SqlError {
    /// What kind of failure.
    pub kind: SqlErrorKind,
    /// The extended result code of SQLite; 0 where it was not SQLite that refused.
    pub code: i32,
    /// What is wrong, naming the thing.
    pub message: String,
    /// Which statement, the first being 0; the number of statements if the end of the transaction
    /// failed.
    pub statement: usize,
}

/// What became of a transaction: the result of each statement, or why there is none.
pub type Outcome = Result<Vec<Rows>, SqlError>;

/// On whose behalf transactions run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Rights {
    /// The owner's: all that can be replicated.
    #[default]
    Owner,
    /// A caretaker's, while the static owner is away: no statement that adds rows by itself, be it
    /// `INSERT`, `REPLACE`, one with `ON CONFLICT`, or `CREATE TABLE … AS SELECT`. What triggers insert
    /// because of an update or a deletion belongs to that, and is done.
    Caretaker,
}

/// How much a transaction may take, and what it may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SqlLimits {
    /// What it may do.
    pub rights: Rights,
    /// Time of one transaction, in milliseconds; of an interactive one from its begin to its end.
    pub time_ms: u64,
    /// Memory that the engine may use for all of its connection's work, in bytes.
    pub memory_bytes: u64,
    /// Rows and values of all results of one transaction, in bytes.
    pub result_bytes: usize,
    /// Effects of one call of [`Engine::execute`], in bytes. A transaction that does not fit behind
    /// those before it is left for the next call; one that does not fit alone is `TooLarge`.
    pub effect_bytes: usize,
}

impl Default for SqlLimits {
    fn default() -> Self {
        Self {
            rights: Rights::Owner,
            time_ms: 10_000,
            memory_bytes: 256 * 1024 * 1024,
            // A result travels in one packet, which is twice as long at most.
            result_bytes: 4 * 1024 * 1024,
            effect_bytes: 3 * 1024 * 1024,
        }
    }
}

/// What [`Engine::execute`] did.
#[derive(Clone, PartialEq, Debug)]
pub struct Executed {
    /// What became of each transaction that was run, in order: at least one, at most all that were
    /// given. Those that failed left nothing behind.
    pub outcomes: Vec<Outcome>,
    /// What the others changed, for [`Engine::apply`]; empty if nothing was written. Then nothing is
    /// left open, and there is nothing to commit.
    pub effects: Bytes,
}

/// What [`Engine::step`] did.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Stepped {
    /// The results of the statements that ran, in order.
    pub rows: Vec<Rows>,
    /// Why the one after those failed. Nothing of it is left, and those behind it were not run.
    pub error: Option<SqlError>,
    /// Its failure has undone the whole transaction (`ON CONFLICT ROLLBACK`, an interrupt, a full disk):
    /// nothing is open any more.
    pub lost: bool,
}

/// The effects of one committed entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Effect {
    /// Where in the log.
    pub at: Position,
    /// What [`Engine::execute`] named on the copy that ran it; empty for an entry that changes no
    /// content.
    pub effects: Bytes,
}

/// Something that belongs to the content and that no statement sees: what the shard remembers with it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Note {
    /// Which.
    pub key: u64,
    /// What; empty: there is none any more.
    pub value: Bytes,
}

/// Why an engine cannot go on. What was open is undone; the copy must be reopened.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum Fault {
    /// The disk is full.
    #[error("no space is left for the database: {0}")]
    Full(String),
    /// Reading or writing failed.
    #[error("the database cannot be read or written: {0}")]
    Io(String),
    /// The copy that should be there is not. Never made anew: what it held would be lost in silence.
    #[error("the database file is not there: {0}")]
    Missing(String),
    /// The file is not a database, or is damaged.
    #[error("the database file is damaged: {0}")]
    Corrupt(String),
    /// Effects do not fit the content: this copy differs from the one that ran them.
    #[error("the effects of entry {} do not fit this copy: {reason}", .at.index)]
    Conflict {
        /// Which entry.
        at: Position,
        /// What did not fit.
        reason: String,
    },
    /// The copy is not one of this shard.
    #[error("the database file is a copy of another shard: {0}")]
    Foreign(String),
    /// The effects cannot be read, or were made by a later version.
    #[error("the effects of entry {} cannot be read: {reason}", .at.index)]
    Unreadable {
        /// Which entry.
        at: Position,
        /// Why.
        reason: String,
    },
    /// A call that does not fit what is open: a bug of the caller.
    #[error("the engine was asked for {call} while {state}")]
    Misuse {
        /// What was asked for.
        call: &'static str,
        /// What was open.
        state: &'static str,
    },
}

/// The hash of everything in a copy that a statement could see: schema, rows, rowids, sequences.
/// Equal on any two copies at one position, whichever executed and whichever applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ContentHash {
    /// The position that the content stands at.
    pub at: Position,
    /// BLAKE3 of the content in a fixed order.
    pub hash: [u8; 32],
}

/// The writer of one copy.
pub trait Engine {
    /// The last entry whose effects are committed in the copy; zero for a new one.
    fn position(&self) -> Position;

    /// The notes that are committed in the copy, by key; none of them is empty.
    ///
    /// # Errors
    /// A [`Fault`].
    fn notes(&mut self) -> Result<Vec<Note>, Fault>;

    /// Runs transactions one after the other, each seeing those before it, in one transaction of the
    /// engine that stays open if anything was written. A failing one is undone alone; if it undoes
    /// the others with it (`ON CONFLICT ROLLBACK`), they are run again without it.
    ///
    /// # Errors
    /// A [`Fault`]; [`Fault::Misuse`] if something is open.
    fn execute(&mut self, batch: &[Transaction], limits: &SqlLimits) -> Result<Executed, Fault>;

    /// Opens an interactive transaction. The limits are for the whole of it.
    ///
    /// # Errors
    /// A [`Fault`]; [`Fault::Misuse`] if something is open.
    fn begin(&mut self, limits: &SqlLimits) -> Result<(), Fault>;

    /// Runs statements in the interactive transaction, each seeing those before it, up to the first
    /// that fails. That one alone is undone, unless the answer says that all is.
    ///
    /// # Errors
    /// A [`Fault`]; [`Fault::Misuse`] if no interactive transaction is open.
    fn step(&mut self, statements: &Transaction) -> Result<Stepped, Fault>;

    /// Ends the interactive transaction: as if it had been the only one given to
    /// [`Engine::execute`], with the statements that did not fail, less their results. If its end fails,
    /// nothing of it is left.
    ///
    /// # Errors
    /// A [`Fault`]; [`Fault::Misuse`] if no interactive transaction is open.
    fn finish(&mut self) -> Result<Executed, Fault>;

    /// Commits what [`Engine::execute`] left open, as the entry at `at`, and these notes with it.
    ///
    /// # Errors
    /// A [`Fault`]: the entry is to be applied again after reopening, unless the position shows that
    /// it was committed. [`Fault::Misuse`] if nothing is open or `at` is not behind the position.
    fn commit(&mut self, at: Position, notes: &[Note]) -> Result<(), Fault>;

    /// Forgets what is open, an interactive transaction too. Nothing open: nothing to do.
    ///
    /// # Errors
    /// A [`Fault`].
    fn rollback(&mut self) -> Result<(), Fault>;

    /// Applies the effects of committed entries that another copy executed, and the notes as they are
    /// after the last of them, all in one transaction of the engine. Entries at or before the position
    /// are passed over, and if all are, so are the notes.
    ///
    /// # Errors
    /// A [`Fault`]: none of them is applied. [`Fault::Misuse`] if something is open.
    fn apply(&mut self, entries: &[Effect], notes: &[Note]) -> Result<(), Fault>;

    /// Makes durable what is committed, and says up to where.
    ///
    /// # Errors
    /// A [`Fault`].
    fn sync(&mut self) -> Result<Position, Fault>;

    /// The hash of the content. Something open: of what was committed before it.
    ///
    /// # Errors
    /// A [`Fault`].
    fn content_hash(&mut self) -> Result<ContentHash, Fault>;
}

/// A reader of one copy. Several may read while the writer writes; none sees what is not committed.
pub trait Reader {
    /// Runs a transaction that only reads, on one state of the copy; says which.
    ///
    /// # Errors
    /// A [`Fault`]. A statement that writes fails with [`SqlErrorKind::ReadOnly`].
    fn query(
        &mut self,
        transaction: &Transaction,
        limits: &SqlLimits,
    ) -> Result<(Position, Outcome), Fault>;
}
