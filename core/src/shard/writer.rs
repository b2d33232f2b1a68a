//! Batches of transactions on their way to becoming an entry.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::follow::Order;
use super::interactive::{Interactive, Past};
use super::session::{Judgement, Records, SESSIONS_MAX};
use super::{CallKind, CopyState, Delivery, RequestId, Shard, ShardError, Write, entry};
use crate::engine::{Executed, Outcome, Position, Rows, SqlError, SqlErrorKind};
use crate::faults;
use crate::ids::{Index, NodeId, Term};
use crate::marks::sometimes;
use crate::raft::{Membership, ProposeError};
use crate::time::Time;

/// One transaction that has run, and what came of it.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub id: RequestId,
    pub deadline: Time,
    pub told: Told,
}

/// What whoever asked is told when the entry is committed.
#[derive(Clone, Debug)]
pub(super) enum Told {
    /// It is done.
    Rows(Vec<Rows>),
    /// A session is open, of those that the entry opened the one of this number.
    Session(u8),
    /// It failed, and nothing of it is left.
    Sql(SqlError),
    /// It was not run.
    Refused(ShardError),
}

/// Transactions that have run together.
#[derive(Debug)]
pub(super) struct Batch {
    /// The entry that they became; where the copy stood, if they changed nothing.
    pub at: Position,
    pub runs: Vec<Run>,
    /// Bytes of its effects.
    pub bytes: u64,
    /// What sessions have to remember of it.
    pub records: Records,
}

impl Batch {
    /// One request that nothing is run for.
    fn of(at: Position, write: &Write, told: Told) -> Self {
        let runs = vec![Run { id: write.id, deadline: write.deadline, told }];
        Self { at, runs, bytes: 0, records: Records::default() }
    }

    /// Whether the engine has a transaction open for it: it has changed something.
    pub(super) fn is_open(&self) -> bool {
        self.bytes > 0
    }
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
    /// Run, appended, and open in the engine, if it changed anything, until the entry is committed.
    pub open: Option<Batch>,
    /// Appended, and no longer open: whether the entry is ever committed will show.
    pub unresolved: BTreeMap<Index, Batch>,
    /// Committed, but not yet on as many copies as the write quorum asks for.
    pub awaiting: BTreeMap<Index, Awaiting>,
    /// The interactive transaction that is open. Then nothing else is, nor is anything run.
    pub interactive: Option<Interactive>,
    /// Those that were.
    pub past: Past,
    /// A hand-over waits for the interactive transaction.
    pub hands_over: bool,
    /// The log's time when this term began here, and when that was.
    clock: Option<(Term, u64, Time)>,
}

impl Shard {
    /// A transaction that may write. Its answer comes from [`Shard::next_reply`], by its deadline.
    pub fn write(&mut self, now: Time, write: Write) {
        self.now = now;
        if !self.raft.is_leader() {
            let error = self.not_owner();
            self.fail(write.id, error);
        } else if let Some(write) = self.finish_now(write) {
            if self.writer.queue.len() >= self.limits.queue_max {
                self.fail(write.id, ShardError::Busy);
            } else if let Delivery::Finishes(..) = write.delivery {
                // It runs nothing: it is told at once, before another one is begun.
                self.writer.queue.push_front(write);
            } else {
                self.writer.queue.push_back(write);
            }
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
            && self.writer.interactive.is_none()
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
        let time = self.log_time();
        let writes = self.pick(time);
        if writes.is_empty() {
            self.begin_next();
            return;
        }
        let batch = writes.iter().map(|write| write.transaction.clone()).collect();
        let term = self.raft.term();
        self.follow.orders.push_back(Order::Execute { writes, term, time });
        self.call(CallKind::Execute(batch, self.rights()));
    }

    /// The log's time, as a leader: from where it stood when its term began it goes on at the pace of
    /// this node's clock.
    pub(super) fn log_time(&mut self) -> u64 {
        let (term, now, stands) = (self.raft.term(), self.now, self.sessions.time());
        let clock = self.writer.clock.filter(|(of, ..)| *of == term);
        let (_, began_at, began) = *self.writer.clock.insert(clock.unwrap_or((term, stands, now)));
        let went = u64::try_from(now.since(began).as_millis()).unwrap_or(u64::MAX);
        began_at.saturating_add(went).max(stands)
    }

    /// Takes from the queue what is to be run together, up to an interactive transaction that begins.
    /// Whoever is known to have run is answered; what came twice waits for what becomes of the first.
    fn pick(&mut self, time: u64) -> Vec<Write> {
        let (mut picked, mut later) = (Vec::new(), VecDeque::new());
        let (mut claimed, mut opens) = (BTreeSet::new(), 0);
        while picked.len() < self.limits.batch_max
            && let Some(write) = self.writer.queue.pop_front()
        {
            match write.delivery {
                Delivery::Plain => picked.push(write),
                Delivery::Opens if self.sessions.len() + opens >= SESSIONS_MAX => {
                    self.fail(write.id, ShardError::Busy);
                }
                Delivery::Opens if opens > usize::from(u8::MAX) => later.push_back(write),
                Delivery::Opens => {
                    opens += 1;
                    picked.push(write);
                }
                Delivery::Once(once) => {
                    if self.is_new(&write, time) {
                        let first = claimed.insert((once.session, once.sequence));
                        if first || faults::active(faults::Fault::OpenDuplicateExecuted) {
                            picked.push(write);
                        } else {
                            sometimes!(DuplicateInBatch);
                            later.push_back(write);
                        }
                    }
                }
                Delivery::Finishes(of, _) => self.finish_gone(write, of, time),
                Delivery::Begins => {
                    self.writer.queue.push_front(write);
                    break;
                }
            }
        }
        later.append(&mut self.writer.queue);
        self.writer.queue = later;
        picked
    }

    /// Whether a request has not run yet, as far as its session knows, at this time of the log.
    /// Otherwise it is answered.
    pub(super) fn is_new(&mut self, write: &Write, time: u64) -> bool {
        let Some(once) = write.delivery.once() else { return true };
        match self.sessions.judge(once, time) {
            Judgement::New => return true,
            Judgement::Known(at, told) => {
                sometimes!(SessionReplayed);
                self.committed(Batch::of(at, write, told));
            }
            Judgement::Refused(error) => self.fail(write.id, error),
            Judgement::Expired => {
                sometimes!(SessionExpired);
                let told = Told::Refused(ShardError::SessionExpired);
                self.confirm(Batch::of(self.follow.position, write, told));
            }
        }
        false
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
    pub(super) fn out_of_reach(&self) -> Option<ShardError> {
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
        let Some(Order::Execute { mut writes, term, time }) = self.follow.orders.pop_front() else {
            unreachable!("calls are answered in order");
        };
        let Executed { outcomes, effects } = executed;
        let taken = outcomes.len().min(writes.len());
        self.requeue(writes.split_off(taken));
        if term != self.raft.term() || !self.raft.is_leader() {
            // Nothing was appended: whoever leads now runs it.
            sometimes!(DeposedWhileRunning);
            self.undo(!effects.is_empty());
            self.requeue(writes);
            self.send_away_if_deposed();
            return;
        }
        let bytes = effects.len() as u64;
        let ran: Vec<(&Write, &Outcome)> = writes.iter().zip(&outcomes).collect();
        let records = self.sessions.records(time, &self.limits, &ran);
        let changes = !effects.is_empty() || !records.is_empty();
        let proposed = changes.then(|| self.raft.propose(entry::encode(&records, &effects)));
        let at = match proposed {
            None => self.follow.position,
            Some(Ok((index, term))) => Position { index, term },
            Some(Err(ProposeError::NotLeader | ProposeError::Transferring)) => {
                self.undo(bytes > 0);
                self.requeue(writes);
                return;
            }
            Some(Err(ProposeError::Busy | ProposeError::TooLarge)) => {
                self.undo(bytes > 0);
                for write in writes {
                    self.note_undone(&write);
                    let error = match write.delivery {
                        Delivery::Finishes(of, _) => self.gone(of),
                        _ => ShardError::Busy,
                    };
                    self.fail(write.id, error);
                }
                return;
            }
        };
        self.note_finished(&writes, &outcomes, at);
        let runs = runs(&writes, outcomes, || self.owner_only());
        let mut batch = Batch { at, runs, bytes, records };
        if !changes {
            self.confirm(batch);
            return;
        }
        if faults::active(faults::Fault::AnswerBeforeCommit) {
            let runs = std::mem::take(&mut batch.runs);
            self.acknowledge(at, runs);
        }
        self.writer.open = Some(batch);
    }

    /// What was not run, or not appended, is the first to be run.
    pub(super) fn requeue(&mut self, writes: Vec<Write>) {
        for write in writes.into_iter().rev() {
            self.note_undone(&write);
            self.writer.queue.push_front(write);
        }
    }

    pub(super) fn undo(&mut self, open: bool) {
        if open {
            self.follow.orders.push_back(Order::Rollback);
            self.call(CallKind::Rollback);
        }
    }

    /// What is open may not become the entry that it was appended as: it is undone. Should the entry
    /// be committed after all, it is applied like any other.
    pub(super) fn undo_open(&mut self) {
        if !faults::active(faults::Fault::InteractiveOverATerm) {
            sometimes!(self.writer.interactive.is_some(), InteractiveCut);
            self.end_interactive("the owner of the shard has changed since it was begun");
        }
        if faults::active(faults::Fault::OpenOverATerm) {
            return;
        }
        if let Some(batch) = self.writer.open.take() {
            sometimes!(OpenUndone);
            self.undo(batch.is_open());
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

/// What each is to be told. What only the owner may do is `away` here: it may be done later, so it is
/// never said to be final.
fn runs(writes: &[Write], outcomes: Vec<Outcome>, away: impl Fn() -> ShardError) -> Vec<Run> {
    let mut opened = 0..=u8::MAX;
    let run = |(write, outcome): (&Write, Outcome)| {
        let told = match (outcome, write.delivery) {
            // No more are picked than have a number.
            (Ok(_), Delivery::Opens) => Told::Session(opened.next().unwrap_or_default()),
            (Ok(rows), _) => Told::Rows(rows),
            (Err(error), _) if error.kind == SqlErrorKind::OwnerOnly => Told::Refused(away()),
            (Err(error), _) => Told::Sql(error),
        };
        Run { id: write.id, deadline: write.deadline, told }
    };
    writes.iter().zip(outcomes).map(run).collect()
}
