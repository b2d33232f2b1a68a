//! Reads of this copy, and of what the owner knows to be the latest.

use std::collections::BTreeMap;

use super::writer::Batch;
use super::{CallKind, Consistency, CopyState, Read, Reply, RequestId, Shard, ShardError};
use crate::engine::{Fault as EngineFault, Outcome, Position};
use crate::faults::{self, Fault};
use crate::ids::Index;
use crate::time::Time;

/// Who waits for the word that this replica still leads.
#[derive(Debug)]
enum Asking {
    Read(Read),
    /// Transactions that changed nothing: that they saw the latest is all there is to confirm.
    Batch(Batch),
}

/// Reads under way.
#[derive(Debug, Default)]
pub(super) struct Reads {
    /// Not asked for yet.
    asking: Vec<Asking>,
    /// Asked for under this token.
    asked: Option<(u64, Vec<Asking>)>,
    tokens: u64,
    /// To be served once the copy has applied that much, by index.
    waiting: BTreeMap<(Index, RequestId), Read>,
    /// With the engine, and the last content of the copy that each of them is to see.
    running: BTreeMap<RequestId, Index>,
}

impl Reads {
    pub(super) fn any(&self) -> bool {
        !self.asking.is_empty() || self.asked.is_some() || !self.waiting.is_empty()
    }

    /// Those that wait for the copy, given up.
    pub(super) fn take_waiting(&mut self) -> Vec<RequestId> {
        std::mem::take(&mut self.waiting).into_keys().map(|(_, id)| id).collect()
    }

    fn count(&self) -> usize {
        let asked = self.asked.as_ref().map_or(0, |(_, list)| list.len());
        self.asking.len() + asked + self.waiting.len()
    }
}

impl Shard {
    /// A transaction that only reads. Its answer comes from [`Shard::next_reply`].
    pub fn read(&mut self, now: Time, read: Read) {
        self.now = now;
        let linearizable = !read.consistency.any_copy_will_do();
        if linearizable && !self.raft.is_leader() {
            let error = self.not_owner();
            self.fail(read.id, error);
        } else if !linearizable && !self.terms.online {
            let reason = "it is not complete yet".to_owned();
            self.fail(read.id, ShardError::Unavailable(reason));
        } else if self.reads.count() >= self.limits.queue_max {
            self.fail(read.id, ShardError::Busy);
        } else {
            match read.consistency {
                // What was not resolved gets the most.
                Consistency::Linearizable
                | Consistency::Holding(_)
                | Consistency::AsConfigured
                | Consistency::Since(_) => {
                    self.reads.asking.push(Asking::Read(read));
                }
                Consistency::Local => self.wait_for(self.follow.told, read),
                // Whoever names an entry gets no less than who names none.
                Consistency::AtLeast(position) => {
                    self.wait_for(position.index.max(self.follow.told), read);
                }
            }
        }
        self.drive();
    }

    fn wait_for(&mut self, index: Index, read: Read) {
        self.reads.waiting.insert((index, read.id), read);
    }

    /// Transactions of an owner that changed nothing are answered once it is certain that it still
    /// led when they ran.
    pub(super) fn confirm(&mut self, batch: Batch) {
        self.reads.asking.push(Asking::Batch(batch));
    }

    pub(super) fn serve_reads(&mut self) {
        self.take_confirmed();
        if self.reads.asked.is_none() && !self.reads.asking.is_empty() {
            self.reads.tokens += 1;
            let token = self.reads.tokens;
            if faults::active(Fault::ReadIndexSkipped) {
                return self.trust_itself();
            }
            // Refused while it has not committed an entry of its own: then a little later.
            if self.raft.read(token).is_ok() {
                self.reads.asked = Some((token, std::mem::take(&mut self.reads.asking)));
                // A sole voter needs nobody's word.
                self.take_confirmed();
            }
        }
        self.run_reads();
    }

    /// The deliberate fault: whoever takes itself for the leader asks nobody.
    fn trust_itself(&mut self) {
        let commit = self.raft.commit();
        for asking in std::mem::take(&mut self.reads.asking) {
            match asking {
                Asking::Read(read) => self.wait_for(commit, read),
                Asking::Batch(batch) => self.acknowledge(batch.at, batch.runs),
            }
        }
        self.run_reads();
    }

    /// Those for whom a quorum has confirmed that this replica led when they asked.
    fn take_confirmed(&mut self) {
        while let Some((token, index)) = self.raft.take_read() {
            let Some((_, confirmed)) = self.reads.asked.take_if(|(asked, _)| *asked == token)
            else {
                continue;
            };
            for asking in confirmed {
                match asking {
                    // All that is committed is in this log, since it led when it was asked.
                    Asking::Read(read) => match read.consistency {
                        Consistency::Holding(at) if !self.may_hold(at) => {
                            self.fail_stale(&read, at)
                        }
                        // One that is not committed yet is of an owner that does not wait for that,
                        // or of another history, and by chance here too by now.
                        Consistency::Holding(at) => self.wait_for(index.max(at.index), read),
                        _ => self.wait_for(index, read),
                    },
                    Asking::Batch(batch) => self.acknowledge(batch.at, batch.runs),
                }
            }
        }
    }

    fn run_reads(&mut self) {
        while self.copy == CopyState::Open && self.reads.running.len() < self.limits.queries_max {
            let applied = self.follow.applied;
            let first = self.reads.waiting.first_entry().filter(|e| e.key().0 <= applied);
            let Some(read) = first.map(|entry| entry.remove()) else { return };
            // A copy may hold what its log still lacks: only another entry says that it does not.
            if let Consistency::AtLeast(at) | Consistency::Holding(at) = read.consistency
                && self.term_of(at.index).is_some_and(|term| term != at.term)
            {
                self.fail_stale(&read, at);
                continue;
            }
            self.reads.running.insert(read.id, self.follow.position.index);
            self.call(CallKind::Query(read.id, read.transaction));
        }
    }

    /// As a leader: whether the entry may be in this log. What it begins behind it does not know.
    fn may_hold(&self, at: Position) -> bool {
        at.index < self.raft.snapshot().index || self.raft.term_at(at.index) == Some(at.term)
    }

    fn fail_stale(&mut self, read: &Read, at: Position) {
        self.fail(read.id, ShardError::TokenOfAnotherHistory { at });
    }

    pub(super) fn on_queried(
        &mut self,
        id: RequestId,
        result: Result<(Position, Outcome), EngineFault>,
    ) {
        let Some(index) = self.reads.running.remove(&id) else { return };
        let reply = match result {
            // The copy that held the entry was replaced before it was read, by one that has yet to
            // come to it.
            Ok((at, _)) if at.index < index => {
                let reason = format!("another copy took its place, which holds entry {index} soon");
                Reply::Failed(ShardError::Unavailable(reason))
            }
            Ok((at, Ok(rows))) => Reply::Done { at, rows },
            Ok((_, Err(error))) => Reply::Failed(ShardError::Sql(error)),
            Err(fault) => Reply::Failed(ShardError::Unavailable(fault.to_string())),
        };
        self.reply(id, reply);
    }

    /// Those that wait for this replica's word as the leader will not get it.
    pub(super) fn send_away_asking(&mut self, error: &ShardError) {
        let asked = self.reads.asked.take().map(|(_, list)| list).unwrap_or_default();
        let asking = std::mem::take(&mut self.reads.asking);
        for asking in asked.into_iter().chain(asking) {
            match asking {
                Asking::Read(read) => self.fail(read.id, error.clone()),
                Asking::Batch(batch) => self.fail_all(&batch.runs, error),
            }
        }
    }

    pub(super) fn sweep_reads(&mut self) {
        let now = self.now;
        let mut late = Vec::new();
        let mut keep = |asking: &mut Asking| match asking {
            Asking::Read(read) => {
                if now >= read.deadline {
                    late.push(read.id);
                }
                now < read.deadline
            }
            Asking::Batch(batch) => {
                batch.runs.retain(|run| {
                    if now >= run.deadline {
                        late.push(run.id);
                    }
                    now < run.deadline
                });
                !batch.runs.is_empty()
            }
        };
        self.reads.asking.retain_mut(&mut keep);
        if let Some((_, asked)) = &mut self.reads.asked {
            asked.retain_mut(&mut keep);
        }
        self.reads.waiting.retain(|_, read| {
            if now >= read.deadline {
                late.push(read.id);
            }
            now < read.deadline
        });
        late.into_iter().for_each(|id| self.fail(id, ShardError::TimedOut));
    }
}
