//! The log of one replica: entries, the snapshot they build on, and the memberships in them.

use std::collections::VecDeque;

use super::types::{Entry, Index, Membership, NodeId, Payload, Snapshot, Term};
use crate::faults::{self, Fault};

/// Entries after a snapshot. Knows nothing of terms of office, votes or disks.
#[derive(Debug)]
pub(super) struct Log {
    snapshot: Snapshot,
    entries: VecDeque<Entry>,
    /// Where each membership came into force, oldest first. The first is the snapshot's.
    memberships: Vec<(Index, Membership)>,
}

impl Log {
    pub(super) fn new(snapshot: Snapshot, entries: Vec<Entry>) -> Self {
        let memberships = vec![(snapshot.index, snapshot.membership.clone())];
        let mut log = Self { snapshot, entries: VecDeque::new(), memberships };
        for entry in entries {
            log.push(entry);
        }
        log
    }

    pub(super) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    pub(super) fn last_index(&self) -> Index {
        self.entries.back().map_or(self.snapshot.index, |e| e.index)
    }

    pub(super) fn last_term(&self) -> Term {
        self.entries.back().map_or(self.snapshot.term, |e| e.term)
    }

    fn offset(&self, index: Index) -> Option<usize> {
        let offset = index.0.checked_sub(self.snapshot.index.0 + 1)?;
        usize::try_from(offset).ok().filter(|o| *o < self.entries.len())
    }

    pub(super) fn entry(&self, index: Index) -> Option<&Entry> {
        self.offset(index).and_then(|o| self.entries.get(o))
    }

    /// The term of the entry at `index`; `None` if it is not there, or no longer.
    pub(super) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.snapshot.index {
            return Some(self.snapshot.term);
        }
        self.entry(index).map(|e| e.term)
    }

    /// Entries from `from` on, at most `count_max` and `bytes_max` (one always fits).
    pub(super) fn slice(&self, from: Index, count_max: usize, bytes_max: usize) -> Vec<Entry> {
        let Some(offset) = self.offset(from) else { return Vec::new() };
        let mut bytes = 0;
        let mut taken = Vec::new();
        for entry in self.entries.range(offset..).take(count_max) {
            bytes += size_of_entry(entry);
            if bytes > bytes_max && !taken.is_empty() {
                break;
            }
            taken.push(entry.clone());
        }
        taken
    }

    /// The membership in force: that of the last membership entry, committed or not.
    pub(super) fn membership(&self) -> &Membership {
        &self.memberships.last().unwrap_or_else(|| unreachable!("the snapshot has one")).1
    }

    /// The index of the entry that brought the membership in force.
    pub(super) fn membership_index(&self) -> Index {
        self.memberships.last().map_or(Index::ZERO, |(index, _)| *index)
    }

    /// The membership in force at `index`.
    pub(super) fn membership_at(&self, index: Index) -> &Membership {
        let held = self.memberships.iter().rev().find(|(at, _)| *at <= index);
        &held.or(self.memberships.first()).unwrap_or_else(|| unreachable!("never empty")).1
    }

    /// Whether `node` votes in the membership in force, or in one that is in force again if what is
    /// above `commit` is truncated.
    pub(super) fn may_be_voter(&self, node: NodeId, commit: Index) -> bool {
        let newest_first = self.memberships.iter().rev();
        let committed = newest_first.clone().position(|(at, _)| *at <= commit);
        let count = committed.map_or(self.memberships.len(), |position| position + 1);
        newest_first.take(count).any(|(_, membership)| membership.is_voter(node))
    }

    /// Appends an entry that follows the last one; a membership in it is in force at once.
    pub(super) fn push(&mut self, entry: Entry) {
        assert_eq!(entry.index, self.last_index().next(), "entries are consecutive");
        assert!(entry.term >= self.last_term(), "terms in a log never fall");
        if let Payload::Membership(membership) = &entry.payload {
            self.memberships.push((entry.index, membership.clone()));
        }
        self.entries.push_back(entry);
    }

    /// Drops the entries at and after `from`, and the memberships that came with them.
    pub(super) fn truncate(&mut self, from: Index) {
        assert!(from > self.snapshot.index, "what a snapshot covers is committed");
        let keep = usize::try_from(from.0 - self.snapshot.index.0 - 1).unwrap_or(usize::MAX);
        self.entries.truncate(keep);
        if !faults::active(Fault::MembershipNotReverted) {
            self.memberships.retain(|(at, _)| *at < from);
        }
        assert!(!self.memberships.is_empty(), "the snapshot's membership stays");
    }

    /// Replaces the entries up to `index` by a snapshot of the state there.
    pub(super) fn compact(&mut self, snapshot: Snapshot) {
        assert!(snapshot.index > self.snapshot.index);
        while self.entries.front().is_some_and(|e| e.index <= snapshot.index) {
            self.entries.pop_front();
        }
        self.memberships.retain(|(at, _)| *at > snapshot.index);
        self.memberships.insert(0, (snapshot.index, snapshot.membership.clone()));
        self.snapshot = snapshot;
    }

    /// Forgets every entry and begins behind `snapshot`.
    pub(super) fn reset(&mut self, snapshot: Snapshot) {
        *self = Self::new(snapshot, Vec::new());
    }

    /// The highest index at or below `index` whose entry has a term of at most `term`; where two
    /// logs may agree at the earliest (section 5.3 of the Raft paper, the optimisation).
    pub(super) fn agree_before(&self, index: Index, term: Term) -> (Index, Term) {
        let mut at = index.min(self.last_index());
        while at > self.snapshot.index {
            match self.term_at(at) {
                Some(held) if held <= term => return (at, held),
                _ => at = at.previous(),
            }
        }
        (self.snapshot.index, self.snapshot.term)
    }

    /// Whether a log that ends with (`index`, `term`) is at least as complete as this one.
    pub(super) fn is_up_to_date(&self, index: Index, term: Term) -> bool {
        (term, index) >= (self.last_term(), self.last_index())
    }
}

/// What an entry takes on the wire, roughly, in bytes.
pub(super) fn size_of_entry(entry: &Entry) -> usize {
    24 + match &entry.payload {
        Payload::Empty => 0,
        Payload::Membership(m) => 32 + m.members().len() * 40,
        Payload::Data(data) => data.len(),
    }
}
