//! The content as a file: giving it to others, and taking another one in place of the own.

use super::follow::Follow;
use super::{CopyState, Shard};
use crate::engine::{Fault, Position};
use crate::faults;
use crate::ids::{Generation, Index, Term};
use crate::marks::sometimes;
use crate::raft::Snapshot;

/// A copy that is to take the place of the live one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Swap {
    generation: Generation,
    /// The batch that names it; `None` until it is handed out.
    recorded_by: Option<u64>,
}

/// Why a copy whose log is unreadable in part does not go on.
const DAMAGED: &str = "part of its log is unreadable: this server must come back as another one \
                       (`quorate start --new-identity`)";

impl Shard {
    /// The live copy; `None` before the first is there.
    #[must_use]
    pub fn generation(&self) -> Option<Generation> {
        self.generation
    }

    /// What the copy is called that comes after the live one.
    #[must_use]
    pub fn next_generation(&self) -> Generation {
        self.generation.unwrap_or(Generation(1)).next()
    }

    /// Whether it holds nothing yet, neither of the log nor of the content.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.raft.last_index() == Index::ZERO && self.follow.position.index == Index::ZERO
    }

    /// Whether the entries of the log are passed over for now, since a whole copy is to come.
    #[must_use]
    pub fn awaits_copy(&self) -> bool {
        self.awaits_copy
    }

    /// A copy that holds nothing passes over the log for as long as a whole copy may be quicker. What
    /// it passes over it does not acknowledge: it is as if it had not come.
    pub fn await_copy(&mut self, awaits: bool) {
        self.awaits_copy = awaits && self.is_blank();
    }

    /// Whether the copy is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.copy == CopyState::Open
    }

    /// Whether the copy cannot go on from the log: then a copy is needed that holds at least the
    /// entry at this index.
    #[must_use]
    pub fn needs_copy(&self) -> Option<Index> {
        if self.raft.abstains() {
            // Its log would begin anew behind it, and forget the rest of what it has promised.
            return None;
        }
        match &self.copy {
            CopyState::Swapping(_) | CopyState::Placing(_) => None,
            CopyState::Broken(_) => {
                let lacks = self.restore.at_least.max(self.leads_up_from());
                Some(self.raft.wanted().unwrap_or_default().max(lacks))
            }
            _ => self.raft.wanted(),
        }
    }

    /// What a copy must hold at least to take the place of this one, while this one is in order: all
    /// that is in its file for certain, as it was opened or has been synced since.
    #[must_use]
    pub fn least_successor(&self) -> Index {
        let Follow { synced, opened, .. } = &self.follow;
        synced.index.max(opened.index).max(self.leads_up_from())
    }

    /// The first entry from which this node can bring a copy up: where its log begins, or else where the
    /// content was last replaced by that of a file, which is gone since.
    fn leads_up_from(&self) -> Index {
        self.raft.snapshot().index.max(self.restore.done)
    }

    /// How far the copy is in what is known to be committed; `None` while it is not open, or the log
    /// does not know yet that what it holds is committed.
    #[must_use]
    pub fn serves_copies_of(&self) -> Option<Index> {
        let index = self.follow.position.index;
        (self.is_open() && index <= self.raft.commit()).then_some(index)
    }

    /// The term of the last entry that is in the copy; `None` while it is not open, or the log does not
    /// know that entry.
    #[must_use]
    pub fn applied_term(&self) -> Option<Term> {
        self.raft.term_at(self.follow.applied).filter(|_| self.is_open())
    }

    /// What a log that begins behind the copy at `at` begins behind; `None` if this log does not
    /// reach back so far, or not so far forward, or knows another entry there.
    #[must_use]
    pub fn base_at(&self, at: Position) -> Option<Snapshot> {
        let base = self.raft.snapshot().index;
        if at.index < base || at.index > self.raft.commit() {
            return None;
        }
        let term = self.raft.term_at(at.index).filter(|term| *term == at.term)?;
        let membership = self.raft.membership_at(at.index).clone();
        Some(Snapshot { index: at.index, term, membership, data: bytes::Bytes::new() })
    }

    /// A copy with the content at `base` lies whole and durable in `generation`. It becomes the live
    /// one when the record that says so is durable. Whether it fits: not if this node could not bring it
    /// up, or knows another entry there to be committed; then nothing has happened.
    pub fn install(&mut self, now: crate::Time, generation: Generation, base: Snapshot) -> bool {
        self.now = now;
        let at = Position { index: base.index, term: base.term };
        let known: Option<Term> =
            (at.index <= self.raft.commit()).then(|| self.raft.term_at(at.index)).flatten();
        if at.index < self.leads_up_from() || known.is_some_and(|term| term != at.term) {
            sometimes!(InstallRefused);
            return false;
        }
        self.awaits_copy = false;
        self.follow.epoch += 1;
        self.abandon_orders();
        self.copy = CopyState::Swapping(Swap { generation, recorded_by: None });
        // What was durable in the former copy need not be in this one: the log keeps the rest.
        if self.follow.synced.index > at.index {
            self.follow.synced = at;
        }
        self.raft.install_copy(generation, base);
        if faults::active(faults::Fault::OldCopyPutAsideFirst) {
            self.take_live(generation);
        }
        self.drive();
        true
    }

    /// A batch of the log has been handed out: from then on the record is on its way.
    pub(super) fn swap_is_written(&mut self, ticket: u64) {
        if let CopyState::Swapping(swap) = &mut self.copy {
            swap.recorded_by.get_or_insert(ticket);
        }
    }

    /// Batches up to this one are durable.
    pub(super) fn swap_is_durable(&mut self, ticket: u64) {
        if let CopyState::Swapping(Swap { generation, recorded_by: Some(by) }) = self.copy
            && by <= ticket
        {
            self.take_live(generation);
        }
    }

    /// The record says so: this copy is opened from here on, and the one before it may go.
    fn take_live(&mut self, generation: Generation) {
        self.generation = Some(generation);
        self.restore_is_recorded();
        self.copy = CopyState::Closed { until: self.now, wait: self.limits.reopen };
    }

    /// Why the copy cannot go on, in words; `None` while it can.
    #[must_use]
    pub fn lack(&self) -> Option<String> {
        if self.raft.abstains() {
            return Some(DAMAGED.to_owned());
        }
        match (&self.copy, self.raft.wanted()) {
            (CopyState::Broken(fault), _) => Some(fault.to_string()),
            (_, Some(index)) => Some(format!("the owner's log begins behind entry {index}")),
            _ => self.ails().map(|fault| format!("it cannot be written: {fault}")),
        }
    }

    /// The copy was found to differ from the others: it is of no use until a full copy takes its place.
    pub fn distrust(&mut self, fault: Fault) {
        self.break_copy(fault);
    }
}
