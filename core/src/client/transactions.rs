//! Interactive transactions: what is asked of them, and what becomes of those that nobody waits for.
//!
//! One is open at the owner of its shard, and no other writes while it is. So each that this client
//! gives up is undone as far as a server is in reach; the owner ends it when nothing is asked of it
//! for a while. What is asked in it is sent once: if the answer is lost, so is the transaction. It is
//! committed in a session, however often that has to be sent, and the session is there before it is
//! begun.

use super::api::{Answer, ClientError, ConnectionId, Done, Kind, TicketId, ToServer};
use super::requests::{Of, Requests};
use super::{Client, Output};
use crate::engine::{Position, Transaction};
use crate::marks::sometimes;
use crate::shard::{Reply, ShardError, SqlKind, TransactionId};

/// Transactions that were begun and that nobody waits for: what is beyond that the owner ends.
const ORPHANS_MAX: usize = 64;
/// How long a server may take to undo one, in milliseconds.
const ABANDON_MS: u32 = 2_000;

/// What a server says of a transaction that is open.
pub(super) fn in_transaction(reply: Reply) -> Answer {
    let at = Position::default();
    match reply {
        Reply::Began { transaction } => {
            Ok(Done { at, of: None, rows: Vec::new(), transaction: Some(transaction) })
        }
        Reply::Stepped { rows, error: None } => Ok(Done { at, of: None, rows, transaction: None }),
        Reply::Stepped { error: Some(error), .. } => {
            Err(ClientError::Shard(ShardError::Sql(error)))
        }
        other => unreachable!("not of a transaction that is open: {other:?}"),
    }
}

impl Requests {
    /// Nobody waits any more for the transaction that this is to begin.
    pub(super) fn orphan(&mut self, number: u64, connection: ConnectionId, of: &Of) {
        self.orphans.insert(number, (connection, of.clone()));
        if self.orphans.len() > ORPHANS_MAX {
            self.orphans.pop_first();
        }
    }
}

impl Client {
    /// What was asked in a transaction may have been done or not: nothing of it is to stay.
    pub(super) fn lose_transaction(&mut self, ticket: TicketId, reason: &str) {
        if let Some((of, transaction)) = self.transaction_of(ticket) {
            let reason = reason.to_owned();
            let error = ClientError::Shard(ShardError::TransactionLost { reason });
            self.answer(ticket, Err(error));
            self.abandon(of, transaction);
        }
    }

    /// Something has come for a request that nobody waits for.
    pub(super) fn on_orphan(&mut self, connection: ConnectionId, number: u64, reply: &Reply) {
        let known = self.requests.orphans.get(&number);
        if known.is_none_or(|(over, _)| *over != connection) {
            return;
        }
        let of = self.requests.orphans.remove(&number).map(|(_, of)| of);
        if let (Some(of), Reply::Began { transaction }) = (of, reply) {
            sometimes!(OrphanUndone);
            self.abandon(of, *transaction);
        }
    }

    /// Has a transaction undone, if a server is in reach. Nobody waits for the answer.
    fn abandon(&mut self, (database, shard): Of, of: TransactionId) {
        let Some(connection) = self.choose(None) else { return };
        let message = ToServer::Sql {
            id: self.requests.number(),
            database,
            shard,
            transaction: Transaction::default(),
            kind: SqlKind::Abandon(of),
            timeout_ms: ABANDON_MS,
        };
        self.out.push_back(Output::Send(connection, message));
    }

    fn transaction_of(&self, ticket: TicketId) -> Option<(Of, TransactionId)> {
        let request = self.requests.request(ticket)?;
        let of = request.of();
        match request.kind {
            Kind::Step(id) | Kind::Finish(id) | Kind::Abandon(id) => Some((of, id)),
            Kind::Write | Kind::Read(_) | Kind::Begin => None,
        }
    }
}
