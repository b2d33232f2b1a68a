//! Interactive transactions on a stream.
//!
//! One that writes, or may, is open at the owner of the shard, and no other writes while it is: from its
//! `BEGIN` on, also if that says `DEFERRED`, so that what it reads is what it changes. The owner ends it when
//! it takes too long, or when nothing is asked of it for a while. One that was begun `READONLY` holds up
//! nobody: its reads are those of the stream, each at least as new as the one before, and not all of one
//! state (a batch is, and a single statement).

use quorate_core::engine::{Rows, Statement, Transaction};
use quorate_core::node::SqlRequest;
use quorate_core::shard::{Reply, ShardError, SqlKind, TransactionId};

use super::super::backend::{Backend, Undone};
use super::asking::set_foreign_keys;
use super::proto::Error;
use super::stream::{Run, TIMEOUT};

/// Where a stream is.
pub(super) enum Inside {
    /// Outside of any transaction.
    Nothing,
    /// In one that only reads.
    ReadOnly,
    /// In one that is open at the owner.
    Open(Open),
    /// In one that is gone, for this reason: until its holder has said ROLLBACK nothing is run, for it
    /// would be run by itself.
    Lost(String),
}

impl Inside {
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::ReadOnly | Self::Open(_))
    }
}

/// A transaction that is open at the owner. Dropped, it is undone.
pub(super) struct Open {
    backend: Backend,
    database: String,
    id: TransactionId,
    /// How the database has its foreign keys, if they were turned for the transaction.
    foreign_keys: Option<bool>,
    /// It has ended.
    is_over: bool,
}

impl Open {
    async fn undo(mut self) {
        self.is_over = true;
        let _ = self.backend.sql(self.abandon()).await;
    }

    fn abandon(&self) -> SqlRequest {
        SqlRequest {
            database: self.database.clone(),
            shard: None,
            transaction: Transaction::default(),
            kind: SqlKind::Abandon(self.id),
            timeout: TIMEOUT,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // Whoever does not hear of it ends it when nothing is asked of it.
        if !self.is_over
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (backend, request) = (self.backend.clone(), self.abandon());
            runtime.spawn(async move { backend.sql(request).await });
        }
    }
}

/// The transaction is gone.
pub(super) fn lost(reason: &str) -> Error {
    let message = format!(
        "the transaction is lost, and nothing of it was done: {reason}. Nothing more is run on this \
         stream before ROLLBACK; then begin it anew"
    );
    Error::new("TRANSACTION_LOST", message)
}

impl Run<'_> {
    /// Begins one at the owner.
    pub(super) async fn open(&mut self) -> Result<(), Undone> {
        let turn = self.foreign_keys_to_turn().await?;
        let Reply::Began { transaction: id } = self.reply(Vec::new(), SqlKind::Begin).await? else {
            return Err(ShardError::OutcomeUnknown.into());
        };
        let (backend, database) = (self.backend.clone(), self.stream.database.clone());
        let foreign_keys = turn.map(|(_, held)| held);
        let open = Open { backend, database, id, foreign_keys, is_over: false };
        self.stream.inside = Inside::Open(open);
        Ok(())
    }

    /// Turns foreign keys as the stream has them, in a transaction that has just begun.
    pub(super) async fn turn_foreign_keys(&mut self) -> Result<(), Error> {
        match (&self.stream.inside, self.stream.foreign_keys) {
            (Inside::Open(Open { foreign_keys: Some(_), .. }), Some(wanted)) => {
                self.step(set_foreign_keys(wanted)).await.map(|_| ())
            }
            _ => Ok(()),
        }
    }

    /// Runs a statement in the one that is open.
    pub(super) async fn step(&mut self, statement: Statement) -> Result<Rows, Error> {
        let Inside::Open(open) = &self.stream.inside else {
            return Err(self.told(&ShardError::OutcomeUnknown.into()));
        };
        let kind = SqlKind::Step(open.id);
        let error = match self.reply(vec![statement], kind).await {
            Ok(Reply::Stepped { error: Some(error), .. }) => return Err(Error::of_sql(&error)),
            Ok(Reply::Stepped { rows, .. }) => {
                return Ok(rows.into_iter().next().unwrap_or_default());
            }
            Ok(_) => ShardError::OutcomeUnknown.into(),
            Err(error) => error,
        };
        match error {
            // Nothing ran, and the transaction is as it was.
            Undone::Shard(ShardError::Busy | ShardError::TimedOut) | Undone::TimedOut(_) => {
                Err(self.told(&error))
            }
            Undone::Shard(ShardError::TransactionLost { reason }) => Err(self.lose(reason)),
            // It may have run. It is never committed, so that nothing is left of it.
            Undone::Shard(ShardError::OutcomeUnknown) => {
                Err(self.lose("the node that had it open does not answer".to_owned()))
            }
            other => {
                let told = self.told(&other).message;
                Err(self.lose(told))
            }
        }
    }

    fn lose(&mut self, reason: String) -> Error {
        let error = lost(&reason);
        self.stream.inside = Inside::Lost(reason);
        error
    }

    /// `COMMIT`, after which there is no transaction, whatever came of it.
    pub(super) async fn commit(&mut self) -> Result<(), Error> {
        if let Inside::Open(Open { foreign_keys: Some(held), .. }) = self.stream.inside {
            self.step(set_foreign_keys(held)).await?;
        }
        match std::mem::replace(&mut self.stream.inside, Inside::Nothing) {
            Inside::ReadOnly => Ok(()),
            Inside::Lost(reason) => Err(lost(&reason)),
            Inside::Nothing => Err(none("commit")),
            Inside::Open(open) => {
                match self.reply(Vec::new(), SqlKind::Finish(open.id, None)).await {
                    Ok(Reply::Done { .. }) => {
                        self.over(open);
                        Ok(())
                    }
                    Err(Undone::Shard(ShardError::TransactionLost { reason })) => {
                        self.over(open);
                        Err(lost(&reason))
                    }
                    // What is still open of it is undone as it is dropped.
                    Err(error) => Err(self.told(&error)),
                    Ok(_) => Err(self.told(&ShardError::OutcomeUnknown.into())),
                }
            }
        }
    }

    fn over(&self, mut open: Open) {
        open.is_over = true;
    }

    /// `ROLLBACK`.
    pub(super) async fn rollback(&mut self) -> Result<(), Error> {
        match std::mem::replace(&mut self.stream.inside, Inside::Nothing) {
            Inside::ReadOnly | Inside::Lost(_) => Ok(()),
            Inside::Nothing => Err(none("rollback")),
            Inside::Open(open) => {
                open.undo().await;
                Ok(())
            }
        }
    }

    /// Leaves whatever transaction there is.
    pub(super) async fn abandon(&mut self) {
        if let Inside::Open(open) = std::mem::replace(&mut self.stream.inside, Inside::Nothing) {
            open.undo().await;
        }
    }
}

fn none(what: &str) -> Error {
    let message = format!("SQLite error: cannot {what} - no transaction is active");
    Error::new("SQLITE_ERROR", message)
}
