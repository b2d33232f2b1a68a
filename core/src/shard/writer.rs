//! Batches of transactions on their way to becoming an entry.

use std::collections::{BTreeMap, VecDeque};

use super::follow::Order;
use super::{CallKind, CopyState, RequestId, Shard, ShardError, Write, entry};
use crate::engine::{Executed, Outcome, Position, Rights};
use crate::faults;
use crate::ids::{Index, NodeId};
use crate::raft::{Membership, ProposeError};
use crate::time::Time;

/// One transaction that has run, and what came of it.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub id: RequestId,
    pub deadline: Time,
    pub outcome: Outcome,
}

/// Transactions that have run together.
#[derive(Debug)]
pub(super) struct Batch {
    /// The entry that they became; where the copy stood, if they changed nothing.
    pub at: Position,
    pub runs: Vec<Run>,
    /// Bytes of its effects.
    pub bytes: u64,
}

/// A batch that is committed, and held by fewer than the write quorum asks for.
#[derive(Debug)]
pub(super) struct Awaiting {
    pub batch: Batch,
    /// Whose copies count: those of the membership that governs the entry, which the log may have
    /// cut by the time they hold it.
    pub membership: Membership,
}

/// What waits at an owner.
#[derive(Debug, Default)]
pub(super) struct Writer {
    /// Not run yet.
    pub queue: VecDeque<Write>,
    /// Run, appended, and open in the engine until the entry is committed.
    pub open: Option<Batch>,
    /// Appended, and no longer open: whether the entry is ever committed will show.
    pub unresolved: BTreeMap<Index, Batch>,
    /// Committed, but not yet on as many copies as the write quorum asks for.
    pub awaiting: BTreeMap<Index, Awaiting>,
}

impl Shard {
    /// A transaction that may write. Its answer comes from [`Shard::next_reply`], by its deadline.
    pub fn write(&mut self, now: Time, write: Write) {
        self.now = now;
        if !self.raft.is_leader() {
            let error = self.not_owner();
            self.fail(write.id, error);
        } else if self.writer.queue.len() >= self.limits.queue_max {
            self.fail(write.id, ShardError::Busy);
        } else {
            self.writer.queue.push_back(write);
        }
        self.drive();
    }

    /// Runs what has gathered, if the copy holds every entry of its log, one of this term included.
    pub(super) fn start_batch(&mut self) {
        if self.sealed {
            let error = self.not_owner();
            for write in std::mem::take(&mut self.writer.queue) {
                self.fail(write.id, error.clone());
            }
            return;
        }
        let idle = self.copy == CopyState::Open
            && !self.restore.waits()
            && self.writer.open.is_none()
            && !self.follow.executes()
            && self.follow.orders.len() < self.limits.calls_max;
        let complete = self.raft.is_settled_leader() && self.follow.next > self.raft.last_index()
            || self.raft.is_leader() && faults::active(faults::Fault::ExecuteBeforeOwnTerm);
        if self.writer.queue.is_empty() || !idle || !complete || self.raft.is_transferring() {
            return;
        }
        if let Some(error) = self.out_of_reach() {
            // Whoever has just been elected has not heard from all who are there.
            if self.now.since(self.office_since) < self.limits.patience {
                return;
            }
            for write in std::mem::take(&mut self.writer.queue) {
                self.fail(write.id, error.clone());
            }
            return;
        }
        let count = self.writer.queue.len().min(self.limits.batch_max);
        let writes: Vec<Write> = self.writer.queue.drain(..count).collect();
        let batch = writes.iter().map(|write| write.transaction.clone()).collect();
        let term = self.raft.term();
        self.follow.orders.push_back(Order::Execute { writes, term });
        let rights = match self.terms.static_owner {
            Some(_) => Rights::Caretaker,
            None => Rights::Owner,
        };
        self.call(CallKind::Execute(batch, rights));
    }

    /// A leader whose copy is of no use, and from whom nobody could take over, says why.
    pub(super) fn refuse_if_broken(&mut self) {
        let reason = self.broken().or(self.ails());
        let Some(reason) = reason.map(ToString::to_string) else { return };
        let given_up = self.lame.is_some_and(|since| {
            self.now.since(since) >= self.limits.patience * 2 && !self.raft.is_transferring()
        });
        if given_up {
            let writes = std::mem::take(&mut self.writer.queue);
            let ids: Vec<RequestId> =
                writes.iter().map(|write| write.id).chain(self.reads.take_waiting()).collect();
            ids.into_iter().for_each(|id| self.fail(id, ShardError::Unavailable(reason.clone())));
        }
    }

    /// Whether too few voters are in reach for the write quorum: then nothing is run that could not
    /// be acknowledged.
    fn out_of_reach(&self) -> Option<ShardError> {
        let membership = self.raft.membership();
        let halves = std::iter::once(&membership.incoming).chain(&membership.outgoing);
        let active = |node: &NodeId| self.raft.is_active(self.now, *node);
        for half in halves {
            let mut voters = half.voters.len();
            if faults::active(faults::Fault::WriteQuorumOfTheLiving) {
                voters = half.voters.iter().filter(|v| active(v)).count();
            }
            let needed = self.terms.write_quorum.copies(voters);
            if half.voters.iter().filter(|v| active(v)).count() < needed {
                let missing = half.voters.iter().filter(|v| !active(v)).copied().collect();
                return Some(ShardError::NoQuorum { missing, needed, voters });
            }
        }
        None
    }

    /// The engine has run a batch: its effects become an entry, or it is undone.
    pub(super) fn on_executed(&mut self, executed: Executed) {
        let Some(Order::Execute { mut writes, term }) = self.follow.orders.pop_front() else {
            unreachable!("calls are answered in order");
        };
        let Executed { outcomes, effects } = executed;
        let taken = outcomes.len().min(writes.len());
        self.requeue(writes.split_off(taken));
        if term != self.raft.term() || !self.raft.is_leader() {
            // Nothing was appended: whoever leads now runs it.
            self.undo(!effects.is_empty());
            self.requeue(writes);
            self.send_away_if_deposed();
            return;
        }
        let bytes = effects.len() as u64;
        let proposed = (!effects.is_empty()).then(|| self.raft.propose(entry::encode(&effects)));
        let ids: Vec<(RequestId, Time)> = writes.iter().map(|w| (w.id, w.deadline)).collect();
        let runs = ids.into_iter().zip(outcomes);
        let runs = runs.map(|((id, deadline), outcome)| Run { id, deadline, outcome }).collect();
        match proposed {
            None => self.confirm(Batch { at: self.follow.position, runs, bytes }),
            Some(Ok((index, term))) => {
                let mut batch = Batch { at: Position { index, term }, runs, bytes };
                if faults::active(faults::Fault::AnswerBeforeCommit) {
                    let runs = std::mem::take(&mut batch.runs);
                    self.acknowledge(Batch { at: batch.at, runs, bytes });
                }
                self.writer.open = Some(batch);
            }
            Some(Err(ProposeError::NotLeader | ProposeError::Transferring)) => {
                self.undo(true);
                self.requeue(writes);
            }
            Some(Err(ProposeError::Busy | ProposeError::TooLarge)) => {
                self.undo(true);
                for write in writes {
                    self.fail(write.id, ShardError::Busy);
                }
            }
        }
    }

    /// What was not run, or not appended, is the first to be run.
    pub(super) fn requeue(&mut self, writes: Vec<Write>) {
        for write in writes.into_iter().rev() {
            self.writer.queue.push_front(write);
        }
    }

    fn undo(&mut self, open: bool) {
        if open {
            self.follow.orders.push_back(Order::Rollback);
            self.call(CallKind::Rollback);
        }
    }

    /// What is open may not become the entry that it was appended as: it is undone. Should the entry
    /// be committed after all, it is applied like any other.
    pub(super) fn undo_open(&mut self) {
        if faults::active(faults::Fault::OpenOverATerm) {
            return;
        }
        if let Some(batch) = self.writer.open.take() {
            self.undo(true);
            self.leave_open(batch);
        }
    }

    /// The batch's entry is in the log, and will be committed or replaced.
    pub(super) fn leave_open(&mut self, batch: Batch) {
        self.writer.unresolved.insert(batch.at.index, batch);
    }

    fn send_away_if_deposed(&mut self) {
        if !self.raft.is_leader() {
            self.send_away_waiting();
        }
    }
}
