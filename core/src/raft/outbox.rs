//! The choke point: nothing leaves a replica before what it claims is durable.

use std::collections::VecDeque;

use super::types::{Index, Message, NodeId, Term};
use crate::faults::{self, Fault};
use crate::storage::StorageOp;
use crate::time::Time;

/// What must be durable before a message may leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rests {
    /// Term and vote as they are now.
    State,
    /// The log as it is now (and the state).
    Log,
    /// Only on what the sender's present office already rests on: a leader's entries may leave
    /// while its own disk still writes them, for it counts itself only afterwards.
    Office,
}

/// A batch of operations handed out, named so that its completion can be told from an older term's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ticket {
    /// Counts the batches of this replica from 1.
    pub sequence: u64,
    /// The replica's term when the batch was handed out. A completion in a later term counts for
    /// nothing but the release of what waits for it.
    pub term: Term,
}

#[cfg_attr(feature = "model", derive(Clone))]
#[derive(Debug)]
struct Flight {
    ticket: Ticket,
    last: Index,
    since: Time,
}

#[cfg_attr(feature = "model", derive(Clone))]
#[derive(Debug)]
struct Held {
    until: u64,
    to: NodeId,
    message: Message,
}

/// Operations and messages on their way out.
#[cfg_attr(feature = "model", derive(Clone))]
#[derive(Debug)]
pub(super) struct Outbox {
    ops: Vec<StorageOp>,
    /// The sequence number that the open batch will get.
    open: u64,
    durable: u64,
    state_in: u64,
    log_in: u64,
    flights: VecDeque<Flight>,
    held: VecDeque<Held>,
    ready: VecDeque<(NodeId, Message)>,
}

impl Outbox {
    pub(super) fn new() -> Self {
        Self {
            ops: Vec::new(),
            open: 1,
            durable: 0,
            state_in: 0,
            log_in: 0,
            flights: VecDeque::new(),
            held: VecDeque::new(),
            ready: VecDeque::new(),
        }
    }

    /// Writes term, vote and commit index. Messages rest on it if it `binds`, that is, if term or
    /// vote are new; a commit index is a lower bound that nobody waits for.
    pub(super) fn write_state(&mut self, op: StorageOp, binds: bool) {
        // Order matters: a commit index must not become durable before the entries it speaks of,
        // nor entries before their term. Only a state that directly follows another replaces it.
        if let Some(StorageOp::HardState { .. }) = self.ops.last() {
            self.ops.pop();
        }
        self.ops.push(op);
        if binds {
            self.state_in = self.open;
        }
    }

    pub(super) fn write_log(&mut self, op: StorageOp) {
        if let (StorageOp::Append { entries, .. }, Some(StorageOp::Append { entries: held, .. })) =
            (&op, self.ops.last_mut())
        {
            let follows = held.last().map(|e| e.index.next()) == entries.first().map(|e| e.index);
            if follows {
                held.extend(entries.iter().cloned());
                self.log_in = self.open;
                return;
            }
        }
        self.ops.push(op);
        self.log_in = self.open;
    }

    /// The log was cut off before `from`: batches on their way hold nothing of it behind that.
    pub(super) fn truncated(&mut self, from: Index) {
        for flight in &mut self.flights {
            flight.last = flight.last.min(from.previous());
        }
    }

    pub(super) fn has_ops(&self) -> bool {
        !self.ops.is_empty()
    }

    pub(super) fn send(&mut self, to: NodeId, message: Message, rests: Rests) {
        let until = match rests {
            Rests::State => self.state_in,
            Rests::Log => self.log_in.max(self.state_in),
            Rests::Office => 0,
        };
        if until <= self.durable || faults::active(Fault::SendBeforePersist) {
            self.ready.push_back((to, message));
        } else {
            self.held.push_back(Held { until, to, message });
        }
    }

    /// The term has changed: what was held back speaks for a term that is over.
    pub(super) fn forget_held(&mut self) {
        self.held.clear();
    }

    pub(super) fn take_batch(
        &mut self,
        now: Time,
        term: Term,
        last: Index,
    ) -> Option<(Ticket, Vec<StorageOp>)> {
        if self.ops.is_empty() {
            return None;
        }
        let ticket = Ticket { sequence: self.open, term };
        self.open += 1;
        self.flights.push_back(Flight { ticket, last, since: now });
        Some((ticket, std::mem::take(&mut self.ops)))
    }

    /// A batch is durable. Returns the last index of the log when it was handed out.
    pub(super) fn complete(&mut self, ticket: Ticket) -> Index {
        let flight = self.flights.pop_front();
        let flight = flight.unwrap_or_else(|| unreachable!("a completion has a batch"));
        assert_eq!(flight.ticket, ticket, "batches become durable in order");
        self.durable = ticket.sequence;
        while self.held.front().is_some_and(|held| held.until <= self.durable) {
            let Some(held) = self.held.pop_front() else { break };
            self.ready.push_back((held.to, held.message));
        }
        flight.last
    }

    /// How many batches are on their way to the disk.
    pub(super) fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// Since when the oldest batch has been on its way to the disk.
    pub(super) fn waiting_since(&self) -> Option<Time> {
        self.flights.front().map(|flight| flight.since)
    }

    /// What is held back, for whom, and until which batch is durable.
    #[cfg(test)]
    pub(super) fn held(&self) -> impl Iterator<Item = (NodeId, &Message, u64)> {
        self.held.iter().map(|held| (held.to, &held.message, held.until))
    }

    /// Hashes what is on its way out, for a model checker: batches by how many are before them, and what
    /// is held back once however often it is, in no order, as in a network where anything may arrive
    /// twice and overtake anything.
    #[cfg(feature = "model")]
    pub(super) fn hash_state<H: std::hash::Hasher>(&self, hasher: &mut H) {
        use std::hash::Hash as _;
        let behind = |sequence: u64| sequence.saturating_sub(self.durable);
        (&self.ops, behind(self.open), behind(self.state_in), behind(self.log_in)).hash(hasher);
        for flight in &self.flights {
            (flight.ticket.term, flight.last).hash(hasher);
        }
        let held = self.held.iter().map(|held| {
            let mut hasher = std::hash::DefaultHasher::new();
            (behind(held.until), held.to, &held.message).hash(&mut hasher);
            std::hash::Hasher::finish(&hasher)
        });
        held.collect::<std::collections::BTreeSet<u64>>().hash(hasher);
        self.ready.hash(hasher);
    }

    pub(super) fn next_message(&mut self) -> Option<(NodeId, Message)> {
        self.ready.pop_front()
    }
}
