//! Writes on their way to the disk, and what happens when they are durable.

use std::collections::VecDeque;

use crate::ids::{Index, LinkId, LogId, NodeId, PersistId, Start};
use crate::raft::Ticket;
use crate::storage::StorageOp;

/// What rests on a write of the node's own (the log's messages are held by the log itself).
#[derive(Clone, Debug)]
pub(super) enum Then {
    /// This start of the node is durable: it may be contacted.
    Started,
    /// A peer's start is remembered: it may be listened to.
    Remembered { link: LinkId, peer: NodeId, start: Start },
    /// The first entries of a new cluster are durable.
    Founded,
    /// The cluster that was joined is durable.
    Joined,
    /// The first entry of a shard's log is durable.
    Begun(LogId),
}

/// What one log wants durable.
#[derive(Debug)]
pub(super) struct LogBatch {
    pub log: LogId,
    pub ticket: Ticket,
    pub ops: Vec<StorageOp>,
}

#[derive(Debug)]
struct Flight {
    id: PersistId,
    /// Up to where it says that the configuration log is committed.
    commit: Index,
    tickets: Vec<(LogId, Ticket)>,
    then: Vec<Then>,
}

/// Writes on their way.
#[derive(Default, Debug)]
pub(super) struct Persist {
    next: PersistId,
    ops: Vec<StorageOp>,
    then: Vec<Then>,
    flights: VecDeque<Flight>,
    /// Up to where a restart will know the configuration log to be committed.
    pub(super) commit: Index,
}

impl Persist {
    /// Adds a write to the open batch; `then` happens when it is durable.
    pub(super) fn push(&mut self, op: StorageOp, then: Option<Then>) {
        self.ops.push(op);
        self.then.extend(then);
    }

    /// Whether the open batch is empty.
    pub(super) fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Closes the batch: the node's own operations, then those of the logs.
    pub(super) fn take(&mut self, logs: Vec<LogBatch>) -> Option<(PersistId, Vec<StorageOp>)> {
        let mut ops = std::mem::take(&mut self.ops);
        let mut tickets = Vec::with_capacity(logs.len());
        for LogBatch { log, ticket, ops: of_log } in logs {
            ops.extend(of_log);
            tickets.push((log, ticket));
        }
        if ops.is_empty() {
            return None;
        }
        self.next = PersistId(self.next.0 + 1);
        let then = std::mem::take(&mut self.then);
        let commit = ops.iter().filter_map(commit_said).max().unwrap_or_default();
        self.flights.push_back(Flight { id: self.next, commit, tickets, then });
        Some((self.next, ops))
    }

    /// The batch `id` is durable.
    pub(super) fn complete(&mut self, id: PersistId) -> (Vec<(LogId, Ticket)>, Vec<Then>) {
        let flight = self.flights.pop_front();
        let flight = flight.unwrap_or_else(|| unreachable!("a completion has a batch"));
        assert_eq!(flight.id, id, "batches become durable in order");
        self.commit = self.commit.max(flight.commit);
        (flight.tickets, flight.then)
    }
}

/// Up to where the configuration log is committed, as far as an operation says so.
fn commit_said(op: &StorageOp) -> Option<Index> {
    match op {
        StorageOp::HardState { log: LogId::CONFIGURATION, state } => Some(state.commit),
        StorageOp::Snapshot { log: LogId::CONFIGURATION, snapshot, .. } => Some(snapshot.index),
        _ => None,
    }
}
