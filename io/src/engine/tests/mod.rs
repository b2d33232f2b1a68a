//! What the engine promises, on real files.

mod apply;
mod caretaker;
mod conformance;
mod describing;
mod effects;
mod faults;
mod generated;
mod interactive;
mod limits;
mod pinned;
mod readers;
mod refusals;
mod rows;
mod schema;
mod transactions;

use bytes::Bytes;
use quorate_core::engine::{
    Effect, Engine, Executed, Outcome, Position, Reader, Rows, SqlError, SqlErrorKind, SqlLimits,
    Statement, Transaction, Value,
};
use quorate_core::{Index, Term};
use tempfile::TempDir;

use super::SqliteEngine;

/// A position in the first term.
fn at(index: u64) -> Position {
    Position { index: Index(index), term: Term(1) }
}

/// A transaction of statements without parameters.
fn transaction(statements: &[&str]) -> Transaction {
    Transaction { statements: statements.iter().map(|sql| Statement::new(*sql)).collect() }
}

fn int(value: i64) -> Value {
    Value::Integer(value)
}

fn text(value: &str) -> Value {
    Value::Text(value.to_owned())
}

/// Three copies: one executes, one gets every entry as it comes, one gets all at the end.
struct Copies {
    dir: TempDir,
    owner: SqliteEngine,
    follower: SqliteEngine,
    log: Vec<Effect>,
    limits: SqlLimits,
}

impl Copies {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let owner = SqliteEngine::create(&dir.path().join("owner.db")).unwrap();
        let follower = SqliteEngine::create(&dir.path().join("follower.db")).unwrap();
        Self { dir, owner, follower, log: Vec::new(), limits: SqlLimits::default() }
    }

    /// Executes and commits a batch, and applies it to the follower.
    fn batch(&mut self, batch: &[Transaction]) -> Vec<Outcome> {
        let Executed { outcomes, effects } = self.owner.execute(batch, &self.limits).unwrap();
        self.enter(effects);
        outcomes
    }

    /// What the owner has open becomes an entry, if it has changed anything.
    fn enter(&mut self, effects: Bytes) {
        if effects.is_empty() {
            return;
        }
        let at = at(self.log.len() as u64 + 1);
        self.owner.commit(at, &[]).unwrap();
        let effect = Effect { at, effects };
        self.follower.apply(std::slice::from_ref(&effect), &[]).unwrap();
        self.log.push(effect);
    }

    /// One transaction as one entry.
    fn outcome(&mut self, statements: &[&str]) -> Outcome {
        let mut outcomes = self.batch(&[transaction(statements)]);
        assert_eq!(outcomes.len(), 1);
        outcomes.remove(0)
    }

    /// One transaction that must succeed, and leave both copies the same.
    #[track_caller]
    fn run(&mut self, statements: &[&str]) -> Vec<Rows> {
        let rows =
            self.outcome(statements).unwrap_or_else(|error| panic!("{statements:?}: {error}"));
        self.assert_same();
        rows
    }

    /// One transaction that must fail, and leave nothing behind.
    #[track_caller]
    fn refused(&mut self, statements: &[&str]) -> SqlError {
        let before = self.owner.content_hash().unwrap();
        let error = self.outcome(statements).expect_err("it was not refused");
        assert_eq!(
            self.owner.content_hash().unwrap(),
            before,
            "something is left of {statements:?}"
        );
        error
    }

    #[track_caller]
    fn assert_same(&mut self) {
        assert_eq!(self.owner.content_hash().unwrap(), self.follower.content_hash().unwrap());
    }

    /// The two change places.
    fn swap(&mut self) {
        std::mem::swap(&mut self.owner, &mut self.follower);
    }

    /// A third copy that gets all entries at once ends the same.
    #[track_caller]
    fn finish(mut self) {
        self.assert_same();
        let mut late = SqliteEngine::create(&self.dir.path().join("late.db")).unwrap();
        late.apply(&self.log, &[]).unwrap();
        assert_eq!(late.content_hash().unwrap(), self.owner.content_hash().unwrap());
        for copy in [&self.owner, &self.follower, &late] {
            assert_eq!(query(copy, "PRAGMA integrity_check"), [[text("ok")]]);
        }
    }
}

/// What a reader of the copy gets.
#[track_caller]
fn query(copy: &SqliteEngine, sql: &str) -> Vec<Vec<Value>> {
    let mut reader = copy.reader().unwrap();
    let (_, outcome) = reader.query(&transaction(&[sql]), &SqlLimits::default()).unwrap();
    outcome.unwrap_or_else(|error| panic!("{sql}: {error}")).remove(0).rows
}

#[track_caller]
fn assert_kind(error: &SqlError, kind: SqlErrorKind, says: &str) {
    assert_eq!(error.kind, kind, "{error}");
    assert!(error.message.contains(says), "{:?} does not say {says:?}", error.message);
}
