//! The log of one replica: the snapshot it builds on, the terms and memberships of all that is behind
//! it, and the last of the entries themselves.
//!
//! What is below the *window* of entries lies on the disk only. Its terms are still known, for they
//! come in runs: all that a log is ever asked for but payloads is answered from memory.

use std::collections::VecDeque;

use super::types::{Entry, Index, Membership, NodeId, Payload, Snapshot, Term};
use crate::faults::{self, Fault};
use crate::storage::OnDisk;

/// Entries after a snapshot. Knows nothing of terms of office, votes or disks.
#[cfg_attr(feature = "model", derive(Clone))]
#[derive(Debug)]
pub(super) struct Log {
    snapshot: Snapshot,
    /// The first index of each run of entries of one term behind the snapshot, oldest first.
    runs: VecDeque<(Index, Term)>,
    last: Index,
    /// The last entries, consecutive up to the last index.
    window: VecDeque<Entry>,
    /// What those take, in bytes.
    window_bytes: usize,
    /// Where each membership came into force, oldest first. The first is the snapshot's.
    memberships: Vec<(Index, Membership)>,
    /// Those that came into force before, as far as they are remembered, oldest first.
    past: VecDeque<(Index, Membership)>,
}

/// Memberships before the snapshot's that are remembered.
const PAST_MAX: usize = 16;

impl Log {
    /// The log of which `on_disk` tells the entries behind `snapshot` that are not among `entries`.
    pub(super) fn new(snapshot: Snapshot, on_disk: OnDisk, entries: Vec<Entry>) -> Self {
        let mut memberships = vec![(snapshot.index, snapshot.membership.clone())];
        memberships.extend(on_disk.memberships);
        let mut runs: VecDeque<(Index, Term)> = on_disk.runs.into();
        let last = match entries.first() {
            Some(first) if !runs.is_empty() => first.index.previous(),
            _ => {
                assert!(runs.is_empty(), "the last entry comes with its payload");
                snapshot.index
            }
        };
        runs.retain(|(at, _)| *at <= last);
        let (window, past) = (VecDeque::new(), VecDeque::new());
        let mut log = Self { snapshot, runs, last, window, window_bytes: 0, memberships, past };
        for entry in entries {
            log.push(entry);
        }
        log
    }

    pub(super) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    pub(super) fn last_index(&self) -> Index {
        self.last
    }

    pub(super) fn last_term(&self) -> Term {
        self.runs.back().map_or(self.snapshot.term, |(_, term)| *term)
    }

    /// The first entry that is in memory; the one after the last if none is.
    pub(super) fn window_start(&self) -> Index {
        self.window.front().map_or(self.last.next(), |e| e.index)
    }

    /// What the entries in memory take, in bytes.
    pub(super) fn window_bytes(&self) -> usize {
        self.window_bytes
    }

    fn offset(&self, index: Index) -> Option<usize> {
        let offset = index.0.checked_sub(self.window_start().0)?;
        usize::try_from(offset).ok().filter(|o| *o < self.window.len())
    }

    /// The entry at `index`, if it is in memory.
    pub(super) fn entry(&self, index: Index) -> Option<&Entry> {
        self.offset(index).and_then(|o| self.window.get(o))
    }

    /// The term of the entry at `index`; `None` if it is not there, or no longer.
    pub(super) fn term_at(&self, index: Index) -> Option<Term> {
        if index <= self.snapshot.index || index > self.last {
            return (index == self.snapshot.index).then_some(self.snapshot.term);
        }
        let behind = self.runs.partition_point(|(at, _)| *at <= index);
        self.runs.get(behind.checked_sub(1)?).map(|(_, term)| *term)
    }

    /// Entries from `from` on, at most `count_max` and `bytes_max` (one always fits); `None` if they
    /// are not in memory.
    pub(super) fn slice(
        &self,
        from: Index,
        count_max: usize,
        bytes_max: usize,
    ) -> Option<Vec<Entry>> {
        if from > self.last {
            return Some(Vec::new());
        }
        let offset = self.offset(from)?;
        let mut bytes = 0;
        let mut taken = Vec::new();
        for entry in self.window.range(offset..).take(count_max) {
            bytes += size_of_entry(entry);
            if bytes > bytes_max && !taken.is_empty() {
                break;
            }
            taken.push(entry.clone());
        }
        Some(taken)
    }

    /// The membership in force: that of the last membership entry, committed or not.
    pub(super) fn membership(&self) -> &Membership {
        &self.memberships.last().unwrap_or_else(|| unreachable!("the snapshot has one")).1
    }

    /// The index of the entry that brought the membership in force.
    pub(super) fn membership_index(&self) -> Index {
        self.memberships.last().map_or(Index::ZERO, |(index, _)| *index)
    }

    /// The membership in force at `index`, also if the log has let go of that. If it is not known any
    /// more, for long ago or before a restart: the oldest that is.
    pub(super) fn membership_at(&self, index: Index) -> &Membership {
        let mut newest_first = self.memberships.iter().rev().chain(self.past.iter().rev());
        let held = newest_first.find(|(at, _)| *at <= index);
        let oldest = || self.past.front().or(self.memberships.first());
        &held.or_else(oldest).unwrap_or_else(|| unreachable!("never empty")).1
    }

    /// An entry that follows from what is known of the log without it: a membership, or the empty one
    /// with which a leader begins its term.
    pub(super) fn rebuilt(&self, index: Index) -> Option<Entry> {
        let term = self.term_at(index).filter(|_| index > self.snapshot.index)?;
        let entry = |payload| Entry { index, term, payload };
        if let Some((_, membership)) = self.memberships.iter().find(|(at, _)| *at == index) {
            return Some(entry(Payload::Membership(membership.clone())));
        }
        let before = self.term_at(index.previous()).filter(|_| index > Index(1))?;
        (before < term).then(|| entry(Payload::Empty))
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
        assert_eq!(entry.index, self.last.next(), "entries are consecutive");
        let last_term = self.last_term();
        assert!(entry.term >= last_term, "terms in a log never fall");
        if let Payload::Membership(membership) = &entry.payload {
            self.memberships.push((entry.index, membership.clone()));
        }
        if self.runs.is_empty() || entry.term > last_term {
            self.runs.push_back((entry.index, entry.term));
        }
        self.last = entry.index;
        self.window_bytes += size_of_entry(&entry);
        self.window.push_back(entry);
    }

    /// Lets go of the payloads of old entries until the window keeps within its bounds, but of none
    /// above `safe`: those are not certainly on the disk, or may still be replaced there.
    pub(super) fn trim(&mut self, safe: Index, count_max: usize, bytes_max: usize) {
        while self.window.len() > count_max || self.window_bytes > bytes_max {
            let Some(entry) = self.window.front().filter(|e| e.index <= safe) else { break };
            self.window_bytes -= size_of_entry(entry);
            self.window.pop_front();
        }
        if self.window.len() < self.window.capacity() / 4 {
            self.window.shrink_to(self.window.len() * 2);
        }
    }

    /// Drops the entries at and after `from`, and the memberships that came with them.
    pub(super) fn truncate(&mut self, from: Index) {
        assert!(from > self.snapshot.index, "what a snapshot covers is committed");
        while let Some(entry) = self.window.back().filter(|e| e.index >= from) {
            self.window_bytes -= size_of_entry(entry);
            self.window.pop_back();
        }
        while self.runs.back().is_some_and(|(at, _)| *at >= from) {
            self.runs.pop_back();
        }
        self.last = self.last.min(from.previous());
        if !faults::active(Fault::MembershipNotReverted) {
            self.memberships.retain(|(at, _)| *at < from);
        }
        assert!(!self.memberships.is_empty(), "the snapshot's membership stays");
    }

    /// Replaces the entries up to `index` by a snapshot of the state there.
    pub(super) fn compact(&mut self, snapshot: Snapshot) {
        assert!(snapshot.index > self.snapshot.index);
        while let Some(entry) = self.window.front().filter(|e| e.index <= snapshot.index) {
            self.window_bytes -= size_of_entry(entry);
            self.window.pop_front();
        }
        let next = snapshot.index.next();
        let goes_on = self.term_at(next);
        self.runs.retain(|(at, _)| *at > next);
        if let Some(term) = goes_on {
            self.runs.push_front((next, term));
        }
        self.last = self.last.max(snapshot.index);
        let behind = self
            .memberships
            .split_off(self.memberships.partition_point(|(at, _)| *at <= snapshot.index));
        for (at, membership) in std::mem::replace(&mut self.memberships, behind) {
            if self.past.back().is_none_or(|(_, before)| *before != membership) {
                self.past.push_back((at, membership));
            }
        }
        while self.past.len() > PAST_MAX {
            self.past.pop_front();
        }
        self.memberships.insert(0, (snapshot.index, snapshot.membership.clone()));
        self.snapshot = snapshot;
    }

    /// Forgets every entry and begins behind `snapshot`.
    pub(super) fn reset(&mut self, snapshot: Snapshot) {
        *self = Self::new(snapshot, OnDisk::default(), Vec::new());
    }

    /// The highest index at or below `index` whose entry has a term of at most `term`; where two
    /// logs may agree at the earliest (section 5.3 of the Raft paper, the optimisation).
    pub(super) fn agree_before(&self, index: Index, term: Term) -> (Index, Term) {
        let mut at = index.min(self.last);
        for (first, held) in self.runs.iter().rev() {
            if at >= *first {
                if *held <= term {
                    return (at, *held);
                }
                at = first.previous();
            }
        }
        (self.snapshot.index, self.snapshot.term)
    }

    /// Hashes the log, for a model checker.
    #[cfg(feature = "model")]
    pub(super) fn hash_state<H: std::hash::Hasher>(&self, hasher: &mut H) {
        use std::hash::Hash as _;
        (&self.snapshot, &self.window, &self.memberships, self.last).hash(hasher);
    }

    /// Whether a log that ends with (`index`, `term`) is at least as complete as this one.
    pub(super) fn is_up_to_date(&self, index: Index, term: Term) -> bool {
        (term, index) >= (self.last_term(), self.last_index())
    }
}

/// What an entry takes on the wire, roughly, in bytes.
#[must_use]
pub fn size_of_entry(entry: &Entry) -> usize {
    24 + match &entry.payload {
        Payload::Empty => 0,
        Payload::Membership(m) => 32 + m.members().len() * 40,
        Payload::Data(data) => data.len(),
    }
}
