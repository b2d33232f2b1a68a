//! Committed entries on their way into the copy, and the copy's opening and failing.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use super::entry::{self, Content};
use super::session::Sessions;
use super::{CallKind, CopyState, Delivery, Name, RequestId, Shard, TransactionId, Write};
use crate::engine::{Effect, Fault, Note, Position};
use crate::faults;
use crate::ids::{Generation, Index, Term};
use crate::marks::sometimes;
use crate::raft::{Entry, Payload, Unreadable};
use crate::time::Time;

/// How long a follower may keep back what is committed, so that the next entries are applied together
/// with it: one transaction of the engine then serves several. Nobody who writes waits for it, and a
/// read that waits for an entry ends it.
const APPLIED_WITHIN: Duration = Duration::from_millis(5);
/// How many entries it keeps back at most.
const HELD_BACK_MAX: u64 = 64;

/// A call to the engine that has not been answered.
#[derive(Debug)]
pub(super) enum Order {
    /// To open.
    Open,
    /// To run transactions, in this term, at this time of the log.
    Execute { writes: Vec<Write>, term: Term, time: u64 },
    /// To begin an interactive transaction.
    Begin(TransactionId),
    /// To run a step of it.
    Step(TransactionId, RequestId),
    /// To commit what is open, which is told already: its entry is committed in the log.
    Commit { at: Position },
    /// To apply entries.
    Apply { at: Position, through: Index },
    /// To undo what is open.
    Rollback,
    /// To make durable.
    Sync,
}

/// How far the copy is.
#[derive(Debug, Default)]
pub(super) struct Follow {
    /// Counts the openings.
    pub epoch: u64,
    /// Unanswered calls, oldest first.
    pub orders: VecDeque<Order>,
    /// The next entry that the engine has not been told of.
    pub next: Index,
    /// The last content that is committed in the copy.
    pub position: Position,
    /// The copy says of which shard it is, or has been told.
    pub named: bool,
    /// Every entry up to here is in the copy.
    pub applied: Index,
    /// The last entry of which a writer was told here that it is done. It may not be in the copy yet:
    /// whoever reads here waits for it.
    pub told: Index,
    /// Durable in the copy.
    pub synced: Position,
    /// Bytes of effects that were given to the copy since it was last asked to become durable.
    pub unsynced_bytes: u64,
    /// When entries were last given to the engine.
    given: Time,
    /// Committed entries wait for others to be applied with.
    held_back: bool,
    /// What the copy held when it was opened.
    pub opened: Position,
    /// Entries that are not in memory, read back from the disk.
    fetched: VecDeque<Entry>,
}

impl Follow {
    /// When what is committed is given to the engine at the latest, if some of it waits for that.
    pub(super) fn due(&self) -> Option<Time> {
        self.held_back.then(|| self.given + APPLIED_WITHIN)
    }

    pub(super) fn executes(&self) -> bool {
        self.orders.iter().any(|order| matches!(order, Order::Execute { .. }))
    }

    /// Whether an interactive transaction is being finished.
    pub(super) fn finishes(&self) -> bool {
        let finishes = |write: &Write| matches!(write.delivery, Delivery::Finishes(..));
        self.orders.iter().any(|order| match order {
            Order::Execute { writes, .. } => writes.iter().any(finishes),
            _ => false,
        })
    }
}

impl Shard {
    pub(super) fn open_if_due(&mut self) {
        let CopyState::Closed { until, wait } = self.copy else { return };
        if self.now < until {
            return;
        }
        let create = self.generation.is_none();
        let base = self.raft.snapshot().index;
        if create && base > Index::ZERO {
            let reason = format!("the log begins behind entry {base}, and there is no copy yet");
            self.break_copy(Fault::Missing(reason));
            return;
        }
        self.copy = CopyState::Opening { wait };
        self.follow.epoch += 1;
        self.follow.orders.push_back(Order::Open);
        // Only while the log holds everything is a copy made from nothing.
        let generation = self.generation.unwrap_or(Generation(1));
        self.call(CallKind::Open { generation, create });
    }

    pub(super) fn on_opened(&mut self, position: Position, notes: &[Note]) {
        if !matches!(self.follow.orders.pop_front(), Some(Order::Open)) {
            unreachable!("calls are answered in order");
        }
        if self.generation.is_none() {
            self.generation = Some(Generation(1));
            self.raft.record_copy(Generation(1));
        }
        let named = Name::of(notes);
        if let (Some(other), Some(name)) = (&named, &self.name)
            && other != name
        {
            sometimes!(CopyDiverged);
            self.break_copy(Fault::Foreign(format!("it holds {other}, and should hold {name}")));
            return;
        }
        self.follow.named = named.is_some();
        let (index, base) = (position.index, self.raft.snapshot().index);
        if index < base {
            let reason = format!("it ends at entry {index}, the log begins behind {base}");
            self.break_copy(Fault::Conflict { at: position, reason });
            return;
        }
        let lost = faults::active(faults::Fault::SessionsLostInCopy)
            && self.generation > Some(Generation(1));
        match Sessions::load(if lost { &[] } else { notes }) {
            Some(sessions) => self.sessions = sessions,
            None => {
                let reason = "its sessions were written by a later version".to_owned();
                self.break_copy(Fault::Unreadable { at: position, reason });
                return;
            }
        }
        self.copy = CopyState::Open;
        self.open_since = self.now;
        let follow = &mut self.follow;
        (follow.position, follow.opened) = (position, position);
        // What it holds may stand in the system's memory only. Durable is what was once said to be,
        // and what the log has let go of, for it did so only when that was durable.
        let base = self.raft.snapshot();
        if follow.synced.index < base.index {
            follow.synced = Position { index: base.index, term: base.term };
        }
        if follow.synced.index > index {
            follow.synced = position;
        }
        follow.applied = index;
        self.raft.learn_committed(index, position.term);
        // The log may still lack what the copy holds: it is compared when it comes.
        let follow = &mut self.follow;
        follow.next = index.min(self.raft.commit()).next();
        if let Some(term) = self.term_of(index).filter(|term| *term != position.term) {
            self.diverged(position, term);
        }
    }

    /// The term of a *committed* entry, or of the entry that the log begins behind.
    pub(super) fn term_of(&self, index: Index) -> Option<Term> {
        self.raft.term_at(index).filter(|_| index <= self.raft.commit())
    }

    /// The copy says that it holds the entry at `position`, and the log holds another one there.
    fn diverged(&mut self, position: Position, term: Term) {
        sometimes!(CopyDiverged);
        let reason = format!("the log has an entry of term {term} there");
        self.break_copy(Fault::Conflict { at: position, reason });
    }

    /// Tells the engine of what has been committed.
    pub(super) fn follow_log(&mut self) {
        if self.copy == CopyState::Open {
            let Position { index, term } = self.follow.position;
            self.raft.learn_committed(index, term);
        }
        self.raft.pass_committed();
        // The log's own part of what a peer sent instead of entries is its business; the copy is
        // behind it until it is replaced.
        self.raft.take_restored();
        self.take_fetched();
        self.follow.held_back = self.holds_back();
        while !self.follow.held_back
            && self.copy == CopyState::Open
            && self.follow.next <= self.raft.commit()
            && self.follow.orders.len() < self.limits.calls_max
            && !self.follow.executes()
        {
            if !self.give_next() {
                break;
            }
        }
        self.sync_if_due();
        if self.follow.orders.is_empty() && self.copy == CopyState::Open {
            self.follow.applied = self.follow.applied.max(self.follow.next.previous());
        }
    }

    /// Whether what is committed waits for more: an owner gives it at once, and so does everybody for
    /// whoever waits to read it.
    fn holds_back(&self) -> bool {
        let some = self.follow.next <= self.raft.commit();
        let many = self.follow.next.0 + HELD_BACK_MAX <= self.raft.commit().0;
        let early = self.now < self.follow.given + APPLIED_WITHIN;
        some && !many && early && !self.raft.is_leader() && !self.reads.any()
    }

    /// What is durable in the copy need not be kept in the log.
    fn sync_if_due(&mut self) {
        let (follow, every) = (&self.follow, self.limits.sync_after);
        let behind = follow.position.index.0 - follow.synced.index.0;
        let asked = follow.orders.iter().any(|order| matches!(order, Order::Sync));
        let heavy = follow.unsynced_bytes >= self.limits.sync_after_bytes;
        let due = behind >= every || ((heavy || self.sealed) && behind > 0);
        if self.copy == CopyState::Open && due && !asked {
            self.follow.unsynced_bytes = 0;
            self.follow.orders.push_back(Order::Sync);
            self.call(CallKind::Sync);
        }
    }

    /// What was read back from the disk for the copy.
    fn take_fetched(&mut self) {
        match self.raft.take_fetched() {
            Some(Ok(entries)) => self.follow.fetched = entries.into(),
            Some(Err(Unreadable { index })) if self.copy == CopyState::Open => {
                let at = Position { index, term: self.raft.term_at(index).unwrap_or_default() };
                let reason = "it cannot be read from the disk".to_owned();
                self.restore.at_least = index;
                self.break_copy(Fault::Unreadable { at, reason });
            }
            Some(Err(_)) | None => {}
        }
    }

    /// The payload of a committed entry; `None` if it is not in memory.
    fn payload(&mut self, index: Index) -> Option<Payload> {
        if let Some(entry) = self.raft.entry(index) {
            self.follow.fetched.clear();
            return Some(entry.payload.clone());
        }
        while self.follow.fetched.front().is_some_and(|entry| entry.index < index) {
            self.follow.fetched.pop_front();
        }
        let first = self.follow.fetched.front().filter(|entry| entry.index == index)?;
        Some(first.payload.clone())
    }

    /// Gives the engine the next entry, or as many as go together. False: it is being read back.
    fn give_next(&mut self) -> bool {
        let mut apply: Vec<Effect> = Vec::new();
        let mut noted = BTreeMap::new();
        let (mut bytes, limits) = (0, self.limits);
        let mut here = true;
        while self.follow.next <= self.raft.commit() && apply.len() < limits.apply_max {
            let index = self.follow.next;
            let base = self.raft.snapshot().index;
            let Some(term) = self.raft.term_at(index).filter(|_| index > base) else {
                let at = self.follow.position;
                let reason = format!("entry {index} is not in the log any more");
                self.break_copy(Fault::Conflict { at, reason });
                return true;
            };
            let at = Position { index, term };
            if index == self.follow.opened.index && at != self.follow.opened {
                self.diverged(self.follow.opened, at.term);
                return true;
            }
            if index <= self.follow.opened.index {
                self.follow.next = index.next();
                continue;
            }
            if self.writer.open.as_ref().is_some_and(|open| open.at == at) {
                if apply.is_empty() {
                    self.follow.next = index.next();
                    self.commit_open();
                }
                break;
            }
            let Some(payload) = self.payload(index) else {
                here = false;
                self.raft.fetch(index, limits.apply_bytes_max);
                break;
            };
            let Payload::Data(data) = payload else {
                self.follow.next = index.next();
                continue;
            };
            let (records, effects) = match entry::decode(&data) {
                Some(Content::Effects(records, effects)) => (records, effects),
                // What was gathered stands before it.
                Some(Content::Mark(_) | Content::Restore(_)) if !apply.is_empty() => break,
                Some(Content::Restore(stage)) => {
                    self.come_to_restore(at, stage);
                    return false;
                }
                Some(Content::Mark(mark)) => {
                    self.at_mark(mark);
                    self.follow.next = index.next();
                    continue;
                }
                None => {
                    let reason = "it was made by a later version".to_owned();
                    self.break_copy(Fault::Unreadable { at, reason });
                    return true;
                }
            };
            if !apply.is_empty() && bytes + effects.len() > limits.apply_bytes_max {
                break;
            }
            // Another entry in its place: what is open will never be one.
            self.undo_open();
            bytes += effects.len();
            self.follow.unsynced_bytes += effects.len() as u64;
            if !faults::active(faults::Fault::SessionsLostInDelta) {
                self.sessions.apply(at, &records, &mut noted);
            }
            apply.push(Effect { at, effects });
            self.follow.next = index.next();
        }
        if let Some(last) = apply.last() {
            let (at, through) = (last.at, self.follow.next.previous());
            self.follow.given = self.now;
            self.follow.orders.push_back(Order::Apply { at, through });
            let noted = self.notes(noted);
            self.call(CallKind::Apply(apply, noted));
        }
        here
    }

    /// The entry of what is open is committed in the log: that decides, and everybody is told. Should
    /// the copy fail to commit it now, it is opened again and gets the entry from the log.
    fn commit_open(&mut self) {
        let Some(batch) = self.writer.open.take() else { return };
        self.follow.unsynced_bytes += batch.bytes;
        let (at, mut noted) = (batch.at, BTreeMap::new());
        self.sessions.apply(at, &batch.records, &mut noted);
        if batch.is_open() {
            self.follow.orders.push_back(Order::Commit { at });
            let noted = self.notes(noted);
            self.call(CallKind::Commit(at, noted));
        } else {
            let effects = Bytes::new();
            self.follow.orders.push_back(Order::Apply { at, through: at.index });
            let noted = self.notes(noted);
            self.call(CallKind::Apply(vec![Effect { at, effects }], noted));
        }
        self.committed(batch);
    }

    /// What is noted with the next entry that the copy is given, and of which shard it is, if it does
    /// not say so yet.
    fn notes(&mut self, noted: BTreeMap<u64, Bytes>) -> Vec<Note> {
        let unnamed = !std::mem::replace(&mut self.follow.named, true);
        let name = self.name.as_ref().filter(|_| unnamed).map(Name::note);
        name.into_iter().chain(noted.into_iter().map(|(key, value)| Note { key, value })).collect()
    }

    /// A commit, an application or an undoing is done.
    pub(super) fn on_carried_out(&mut self) {
        match self.follow.orders.pop_front() {
            Some(Order::Commit { at }) => {
                (self.follow.position, self.follow.applied) = (at, at.index);
                self.ails = None;
            }
            Some(Order::Apply { at, through }) => {
                (self.follow.position, self.follow.applied) = (at, through);
                self.ails = None;
            }
            Some(Order::Rollback) => {}
            _ => unreachable!("calls are answered in order"),
        }
    }

    pub(super) fn on_synced(&mut self, position: Position) {
        if !matches!(self.follow.orders.pop_front(), Some(Order::Sync)) {
            unreachable!("calls are answered in order");
        }
        self.follow.synced = position;
    }

    /// The engine gave up: nothing that it was asked for since is done, except perhaps the commit
    /// that failed, and that will show when it is opened again.
    pub(super) fn on_failed(&mut self, fault: Fault) {
        let wait = match self.copy {
            CopyState::Opening { wait } => (wait * 2).min(self.limits.reopen * 64),
            _ => self.limits.reopen,
        };
        if self.copy == CopyState::Open {
            let now = self.now;
            self.ails.get_or_insert_with(|| (now, fault.clone())).1 = fault.clone();
        }
        self.abandon_orders();
        match fault {
            Fault::Full(_) | Fault::Io(_) | Fault::Misuse { .. } => {
                self.copy = CopyState::Closed { until: self.now + wait, wait };
            }
            Fault::Missing(_)
            | Fault::Corrupt(_)
            | Fault::Conflict { .. }
            | Fault::Foreign(_)
            | Fault::Unreadable { .. } => {
                self.copy = CopyState::Broken(fault);
            }
        }
    }

    pub(super) fn break_copy(&mut self, fault: Fault) {
        self.follow.epoch += 1;
        self.abandon_orders();
        self.copy = CopyState::Broken(fault);
    }

    /// What was asked for and will not be answered: batches wait for what becomes of their entries,
    /// and what was not appended is run again.
    pub(super) fn abandon_orders(&mut self) {
        self.follow.fetched.clear();
        self.forget_interactive("the owner had to open its copy again");
        for order in std::mem::take(&mut self.follow.orders) {
            match order {
                Order::Execute { writes, .. } => self.requeue(writes),
                // What was to be committed is told, and comes from the log.
                Order::Open
                | Order::Begin(_)
                | Order::Step(..)
                | Order::Commit { .. }
                | Order::Apply { .. }
                | Order::Rollback
                | Order::Sync => {}
            }
        }
        if let Some(batch) = self.writer.open.take() {
            self.leave_open(batch);
        }
    }
}
