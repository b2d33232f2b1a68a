//! Who is told what, and when.

use super::session::SessionId;
use super::writer::{Awaiting, Batch, Run, Told};
use super::{CopyState, Reply, SWEEP, Shard, ShardError, Write};
use crate::configuration::QuorumRule;
use crate::engine::Position;
use crate::faults::{self, Fault};
use crate::ids::Index;
use crate::marks::sometimes;
use crate::raft::Membership;

impl Shard {
    /// The batch's entry is committed.
    pub(super) fn committed(&mut self, batch: Batch) {
        let governed = self.raft.membership_at(batch.at.index);
        if self.terms.asynchronous || self.is_implied(governed) {
            self.acknowledge(batch.at, batch.runs);
        } else if let Some(awaiting) = self.writer.awaiting.get_mut(&batch.at.index) {
            // Somebody asks again for what still waits.
            awaiting.batch.runs.extend(batch.runs);
        } else {
            let membership = governed.clone();
            self.writer.awaiting.insert(batch.at.index, Awaiting { batch, membership });
        }
    }

    /// Whether the commit of an entry that this membership governs already says that the write quorum
    /// holds it: an odd number of voters decides by a majority, which is what is asked for.
    fn is_implied(&self, membership: &Membership) -> bool {
        let voters = membership.incoming.voters.len();
        let enough = match self.terms.write_quorum {
            QuorumRule::Majority => true,
            QuorumRule::All => voters == 1,
            QuorumRule::Count(count) => u64::from(count) <= voters as u64 / 2 + 1,
        };
        !membership.is_joint() && voters % 2 == 1 && enough
    }

    /// Whether as many voters as the write quorum asks for are known to hold the entry durably, which
    /// this membership governs.
    fn is_held(&self, index: Index, membership: &Membership) -> bool {
        let mut halves = std::iter::once(&membership.incoming).chain(&membership.outgoing);
        halves.all(|half| {
            let mut voters = half.voters.clone();
            if faults::active(Fault::WriteQuorumOfTheLiving) {
                voters.retain(|node| self.raft.is_active(self.now, *node));
            } else if faults::active(Fault::ReplicaCounted) {
                voters.extend(&membership.learners);
            }
            let held = voters.iter().filter(|v| self.raft.durable_at(**v) >= index).count();
            let counted =
                if faults::active(Fault::WriteQuorumOfTheLiving) { &voters } else { &half.voters };
            held >= self.terms.write_quorum.copies(counted.len())
        })
    }

    /// Looks what has become of batches whose fate was open.
    pub(super) fn resolve(&mut self) {
        let applied = self.follow.applied;
        while let Some(entry) = self.writer.unresolved.first_entry() {
            let at = entry.get().at;
            let committed = self.raft.commit() >= at.index;
            let term = self.raft.term_at(at.index);
            match term {
                // In the log as it was appended, and not in the copy yet.
                Some(term) if term == at.term && applied < at.index => break,
                Some(term) if term == at.term => {
                    sometimes!(CommittedAfterAll);
                    let batch = entry.remove();
                    self.committed(batch);
                }
                _ if !committed => break,
                // Another entry is there: it has not been done and never will.
                Some(_) => {
                    sometimes!(AppendedInVain);
                    let batch = entry.remove();
                    let error = self.not_owner();
                    self.fail_all(&batch.runs, &error);
                }
                None => {
                    let batch = entry.remove();
                    self.fail_all(&batch.runs, &ShardError::OutcomeUnknown);
                }
            }
        }
        self.settle_awaiting();
    }

    fn settle_awaiting(&mut self) {
        if self.writer.awaiting.is_empty() {
            return;
        }
        if !self.raft.is_leader() {
            // Nobody tells a follower who holds what.
            for Awaiting { batch, .. } in std::mem::take(&mut self.writer.awaiting).into_values() {
                batch.runs.iter().for_each(|run| self.fail(run.id, below_quorum(run, batch.at)));
            }
            return;
        }
        // One that waits for a server that is gone does not hold up one of a later membership.
        let all = self.writer.awaiting.iter();
        let held = all.filter(|(index, awaiting)| self.is_held(**index, &awaiting.membership));
        let held: Vec<Index> = held.map(|(index, _)| *index).collect();
        for index in held {
            if let Some(awaiting) = self.writer.awaiting.remove(&index) {
                self.acknowledge(awaiting.batch.at, awaiting.batch.runs);
            }
        }
    }

    /// Everybody in the batch learns what came of it.
    pub(super) fn acknowledge(&mut self, at: Position, runs: Vec<Run>) {
        self.follow.told = self.follow.told.max(at.index);
        for Run { id, told, .. } in runs {
            let reply = match told {
                Told::Rows(rows) => Reply::Done { at, rows },
                Told::Session(number) => Reply::Session { session: SessionId { at, number } },
                Told::Sql(error) => Reply::Failed(ShardError::Sql(error)),
                Told::Refused(error) => Reply::Failed(error),
            };
            self.reply(id, reply);
        }
    }

    /// What a write would be refused with at the moment, by this replica as a leader; of a caretaker: an
    /// insert. `None`: it can be written.
    #[must_use]
    pub fn refuses(&self) -> Option<ShardError> {
        let because = |why: &str| Some(ShardError::Unavailable(why.to_owned()));
        if !self.raft.is_leader() {
            return Some(self.not_owner());
        }
        if self.sealed {
            return because("its database goes over to another cluster");
        }
        if let Some(error) = self.out_of_reach() {
            return Some(error);
        }
        if let Some(fault) = self.broken().or(self.ails()) {
            return because(&fault.to_string());
        }
        if self.raft.is_transferring() {
            return because("it is being handed over to another server");
        }
        if !self.raft.is_settled_leader() {
            return because("its owner has just been elected");
        }
        if self.copy != CopyState::Open {
            return because("it is being opened");
        }
        self.terms.static_owner.is_some().then(|| self.owner_only())
    }

    /// Why an insert was not done by this caretaker.
    pub(super) fn owner_only(&self) -> ShardError {
        let here = |node| self.raft.is_active(self.now, node);
        match &self.terms.static_owner {
            Some(owner) if !owner.node.is_some_and(here) => {
                ShardError::OwnerAway { owner: owner.name.clone() }
            }
            // The owner is there, and takes over soon.
            Some(_) | None => ShardError::NotOwner { owner: None },
        }
    }

    pub(super) fn fail_all(&mut self, runs: &[Run], error: &ShardError) {
        for run in runs {
            self.fail(run.id, error.clone());
        }
    }

    /// This replica does not lead any more: who waits to be run is to ask the next owner.
    pub(super) fn send_away_waiting(&mut self) {
        let error = self.not_owner();
        for write in std::mem::take(&mut self.writer.queue) {
            self.fail(write.id, error.clone());
        }
        self.send_away_asking(&error);
    }

    /// Answers those whose time is up with what is known.
    pub(super) fn sweep(&mut self) {
        let waiting = !self.writer.queue.is_empty()
            || self.writer.open.is_some()
            || !self.writer.unresolved.is_empty()
            || !self.writer.awaiting.is_empty()
            || self.follow.executes()
            || self.reads.any()
            || self.verify.any();
        let now = self.now;
        if !waiting && self.lame.is_none() {
            self.next_sweep = None;
            return;
        }
        if self.next_sweep.is_some_and(|at| now < at) {
            return;
        }
        self.next_sweep = Some(now + SWEEP);
        let late = |deadline| now >= deadline;
        let queue = std::mem::take(&mut self.writer.queue);
        let (expired, kept): (Vec<Write>, Vec<Write>) =
            queue.into_iter().partition(|write| late(write.deadline));
        self.writer.queue = kept.into();
        expired.iter().for_each(|write| self.fail(write.id, ShardError::TimedOut));
        let mut told = Vec::new();
        let mut expire = |batch: &mut Batch, error: fn(&Run, Position) -> ShardError| {
            let at = batch.at;
            batch.runs.retain(|run| {
                if late(run.deadline) {
                    told.push((run.id, error(run, at)));
                }
                !late(run.deadline)
            });
        };
        let unknown = |_: &Run, _| ShardError::OutcomeUnknown;
        for batch in self.writer.open.iter_mut().chain(self.writer.unresolved.values_mut()) {
            expire(batch, unknown);
        }
        for awaiting in self.writer.awaiting.values_mut() {
            expire(&mut awaiting.batch, below_quorum);
        }
        told.into_iter().for_each(|(id, error)| self.fail(id, error));
        self.writer.unresolved.retain(|_, batch| !batch.runs.is_empty());
        self.writer.awaiting.retain(|_, awaiting| !awaiting.batch.runs.is_empty());
        self.sweep_reads();
        self.sweep_marks();
    }
}

/// What a transaction is told whose batch is committed on too few copies: one that failed in it has
/// left nothing behind, however many hold the others.
fn below_quorum(run: &Run, at: Position) -> ShardError {
    match &run.told {
        Told::Rows(_) | Told::Session(_) => {
            sometimes!(BelowQuorum);
            ShardError::CommittedBelowQuorum { at }
        }
        Told::Sql(error) => ShardError::Sql(error.clone()),
        Told::Refused(error) => error.clone(),
    }
}
