//! Interactive transactions.

use quorate_core::client::{Done, Kind};
use quorate_core::engine::Statement;
use quorate_core::shard::{ShardError, TransactionId};

use super::{Client, Error, Executed, FromRow, Params, Rows, first};

/// A transaction that is open at the owner of the shard; see [`Client::begin`]. Dropped, it is undone.
#[derive(Debug)]
pub struct Transaction {
    client: Client,
    id: TransactionId,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Open,
    /// A call is under way; or it was given up, and what became of it nobody knows.
    Asked,
    Over,
}

impl Transaction {
    pub(super) async fn begin(client: Client) -> Result<Self, Error> {
        let done = client.ask(Vec::new(), Kind::Begin).await?;
        let unknown = "the server that was asked does not say which".to_owned();
        let id = done.transaction.ok_or(Error::OutcomeUnknown { last: unknown })?;
        Ok(Self { client, id, state: State::Open })
    }

    /// Reads, and sees what the transaction has done so far.
    ///
    /// # Errors
    /// [`enum@Error`]. After [`Error::Sql`] the transaction is open still, and so it is after
    /// [`Error::TimedOut`]; after [`ShardError::TransactionLost`] nothing of it is left.
    pub async fn query(&mut self, sql: &str, params: impl Params) -> Result<Rows, Error> {
        let statement = params.statement(sql);
        if self.state != State::Open {
            return Err(lost("a call in it was given up before its answer was there"));
        }
        self.state = State::Asked;
        let answer = self.client.ask(vec![statement], Kind::Step(self.id)).await;
        self.state = match &answer {
            Ok(_) | Err(Error::Sql(_) | Error::TimedOut { .. } | Error::TooLarge { .. }) => {
                State::Open
            }
            Err(Error::Shard(ShardError::TransactionLost { .. })) => State::Over,
            Err(_) => State::Asked,
        };
        answer.map(|done| first(done.rows))
    }

    /// Writes, or may. How many rows it changed, and what it returned, are in the result.
    ///
    /// # Errors
    /// As [`Transaction::query`].
    pub async fn execute(&mut self, sql: &str, params: impl Params) -> Result<Rows, Error> {
        self.query(sql, params).await
    }

    /// Reads rows as tuples.
    ///
    /// # Errors
    /// As [`Transaction::query`]; [`Error::Column`] if a row does not fit.
    pub async fn fetch<T: FromRow>(
        &mut self,
        sql: &str,
        params: impl Params,
    ) -> Result<Vec<T>, Error> {
        self.query(sql, params).await?.fetch()
    }

    /// Reads the one row that there is.
    ///
    /// # Errors
    /// As [`Transaction::query`]; [`Error::NotOneRow`] if there is none, or more than one.
    pub async fn fetch_one<T: FromRow>(
        &mut self,
        sql: &str,
        params: impl Params,
    ) -> Result<T, Error> {
        self.query(sql, params).await?.fetch_one()
    }

    /// Reads the one row that there is, if there is one.
    ///
    /// # Errors
    /// As [`Transaction::query`]; [`Error::NotOneRow`] if there is more than one.
    pub async fn fetch_optional<T: FromRow>(
        &mut self,
        sql: &str,
        params: impl Params,
    ) -> Result<Option<T>, Error> {
        self.query(sql, params).await?.fetch_optional()
    }

    /// Has it done, once.
    ///
    /// # Errors
    /// [`enum@Error`]. Whatever it is, the transaction is not open any more; only after
    /// [`Error::OutcomeUnknown`], [`ShardError::CommittedBelowQuorum`] and
    /// [`ShardError::AlreadyDone`] something of it may be, or is, left.
    pub async fn commit(mut self) -> Result<Executed, Error> {
        if self.state != State::Open {
            return Err(lost("a call in it failed, or was given up before its answer was there"));
        }
        self.state = State::Asked;
        let Done { at, rows, .. } = self.client.ask(Vec::new(), Kind::Finish(self.id)).await?;
        self.state = State::Over;
        Ok(Executed { lsn: at.index.0, rows: first(rows) })
    }

    /// Undoes it.
    ///
    /// # Errors
    /// [`enum@Error`]: no server could be told in time. The owner ends it by itself soon.
    pub async fn rollback(mut self) -> Result<(), Error> {
        if self.state == State::Over {
            return Ok(());
        }
        self.state = State::Over;
        self.client.ask(Vec::new(), Kind::Abandon(self.id)).await.map(|_| ())
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if self.state != State::Over {
            self.client.post(Vec::<Statement>::new(), Kind::Abandon(self.id));
        }
    }
}

fn lost(reason: &str) -> Error {
    Error::Shard(ShardError::TransactionLost { reason: reason.to_owned() })
}
