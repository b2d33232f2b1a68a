//! A log of a directory in short: what the checks need at every event.

use std::sync::Arc;

use quorate_core::raft::{Entry, Membership, Payload};
use quorate_core::shard::is_mark;
use quorate_core::{ClusterId, HardState, Index, LogId, Recovered, StorageOp, Term};

use crate::hash::{mix, mix_bytes};

/// An entry in short.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stub {
    /// Its term.
    pub term: Term,
    /// Whether it carries content.
    pub data: bool,
    /// The hash of what it carries.
    pub hash: u64,
}

impl Stub {
    /// Of an entry.
    #[must_use]
    pub fn of(entry: &Entry) -> Self {
        let hash = match &entry.payload {
            Payload::Empty => 1,
            Payload::Data(bytes) => mix_bytes(2, bytes),
            Payload::Membership(membership) => hash_membership(membership),
        };
        Self { term: entry.term, data: has_content(entry), hash }
    }
}

/// Whether copies come to stand at an entry of a shard's log.
fn has_content(entry: &Entry) -> bool {
    match &entry.payload {
        Payload::Data(data) => !is_mark(data),
        Payload::Empty | Payload::Membership(_) => false,
    }
}

fn hash_membership(membership: &Membership) -> u64 {
    let mut hash = mix(3, membership.version.0);
    let halves = std::iter::once(&membership.incoming).chain(membership.outgoing.as_ref());
    for half in halves {
        let tie_breaker = half.tie_breaker.map_or(0, |id| id.0);
        let voters = half.voters.iter().map(|id| id.0);
        for id in std::iter::once(tie_breaker).chain(voters) {
            hash = mix_bytes(hash, &id.to_le_bytes());
        }
        hash = mix(hash, half.voters.len() as u64);
    }
    for id in &membership.learners {
        hash = mix_bytes(hash, &id.0.to_le_bytes());
    }
    hash
}

/// What an operation did to the log.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Change {
    /// Entries that were there before were dropped from this index on.
    pub truncated: Option<Index>,
    /// A membership was among them.
    pub reverted: bool,
}

/// A log of a directory in short. Unlike the log itself it remembers entries that were compacted
/// away, so that they can still be compared.
#[derive(Clone, Debug)]
pub struct Shadow {
    /// Which log.
    pub log: LogId,
    /// Term, vote, commit.
    pub hard: HardState,
    /// The cluster the directory belongs to.
    pub cluster: Option<ClusterId>,
    /// The last entry that the snapshot contains.
    pub base: Index,
    /// Its term.
    pub base_term: Term,
    /// The index of the first stub.
    first: Index,
    stubs: Vec<Stub>,
    /// Memberships of the snapshot and of the entries, oldest first.
    memberships: Vec<(Index, Arc<Membership>)>,
    /// The membership in force before the first change since [`Shadow::forget_previous`].
    previous: Option<Option<Arc<Membership>>>,
    /// Entries, and a hard state, that a founding left which was never finished: the node must
    /// replace both before it belongs to a cluster.
    leftover: (bool, bool),
    /// Where the log began when whoever keeps it was started, or took it from another: what governed
    /// entries before that he does not know.
    begun: Index,
}

/// How many memberships behind which its log is cut a node remembers.
const REMEMBERED: usize = 16;

impl Shadow {
    /// A log that holds nothing.
    #[must_use]
    pub fn empty(log: LogId, cluster: Option<ClusterId>) -> Self {
        Self {
            log,
            hard: HardState::default(),
            cluster,
            base: Index::ZERO,
            base_term: Term::ZERO,
            first: Index(1),
            stubs: Vec::new(),
            memberships: Vec::new(),
            previous: None,
            leftover: (false, false),
            begun: Index::ZERO,
        }
    }

    /// Of what a restart finds in `log`.
    #[must_use]
    pub fn of(recovered: &Recovered, log: LogId) -> Self {
        let mut shadow = Self::empty(log, recovered.identity.cluster);
        if let Some(log) = recovered.logs.get(&log) {
            shadow.hard = log.hard_state;
            if log.snapshot.index > Index::ZERO {
                shadow.install(log.snapshot.index, log.snapshot.term, &log.snapshot.membership);
            }
            for entry in &log.entries {
                shadow.push(entry);
            }
        }
        shadow.previous = None;
        shadow
    }

    /// The index of the last entry.
    #[must_use]
    pub fn last_index(&self) -> Index {
        Index(self.first.0 + self.stubs.len() as u64 - 1)
    }

    /// The term of the last entry.
    #[must_use]
    pub fn last_term(&self) -> Term {
        self.stubs.last().map_or(self.base_term, |stub| stub.term)
    }

    /// The entry at `index`, as far as it was ever seen here.
    #[must_use]
    pub fn stub(&self, index: Index) -> Option<Stub> {
        let place = index.0.checked_sub(self.first.0)?;
        self.stubs.get(usize::try_from(place).ok()?).copied()
    }

    /// The term of the entry at `index`; of entry 0 it is 0.
    #[must_use]
    pub fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base {
            return Some(self.base_term);
        }
        self.stub(index).map(|stub| stub.term)
    }

    /// The last entry of a term before `term` that carries content.
    #[must_use]
    pub fn last_content_before(&self, term: Term) -> Option<Index> {
        let count = self.stubs.partition_point(|stub| stub.term < term);
        let place = self.stubs[..count].iter().rposition(|stub| stub.data)?;
        Some(Index(self.first.0 + place as u64))
    }

    /// Whether the log holds this entry, as itself or within its snapshot.
    #[must_use]
    pub fn covers(&self, index: Index, term: Term) -> bool {
        match self.stub(index) {
            Some(stub) => stub.term == term,
            None => index <= self.base && self.base > Index::ZERO,
        }
    }

    /// The membership in force: the last in the log, committed or not.
    #[must_use]
    pub fn membership(&self) -> Option<&Arc<Membership>> {
        self.memberships.last().map(|(_, membership)| membership)
    }

    /// All memberships the log knows of, oldest first.
    #[must_use]
    pub fn memberships(&self) -> &[(Index, Arc<Membership>)] {
        &self.memberships
    }

    /// The membership that was in force at `index`.
    #[must_use]
    pub fn membership_at(&self, index: Index) -> Option<&Arc<Membership>> {
        self.memberships.iter().rev().find(|(at, _)| *at <= index).map(|(_, m)| m)
    }

    /// From where on whoever keeps the log knows what governs an entry. What governed one before is
    /// not known to him any more, and he goes by what governs this place.
    #[must_use]
    pub fn remembered_from(&self) -> Index {
        let cut = self.memberships.iter().filter(|(at, _)| *at > self.begun && *at <= self.base);
        let mut governing = self.membership_at(self.begun);
        let mut changes = vec![self.begun];
        for (at, membership) in cut {
            if governing.is_none_or(|before| before != membership) {
                changes.push(*at);
                governing = Some(membership);
            }
        }
        changes[changes.len().saturating_sub(REMEMBERED)]
    }

    /// The membership in force before the first change since [`Shadow::forget_previous`], if there
    /// was one.
    #[must_use]
    pub fn previous_membership(&self) -> Option<&Arc<Membership>> {
        match &self.previous {
            Some(previous) => previous.as_ref(),
            None => self.membership(),
        }
    }

    /// A process starts on this log.
    pub fn begin_run(&mut self) {
        self.begun = self.base;
        if self.cluster.is_none() {
            let entries = self.last_index() > Index::ZERO;
            self.leftover = (entries, self.hard != HardState::default());
        }
    }

    /// Whether something is left of a founding that was never finished.
    #[must_use]
    pub fn has_leftover(&self) -> bool {
        self.leftover != (false, false)
    }

    /// A new event begins.
    pub fn forget_previous(&mut self) {
        self.previous = None;
    }

    /// Applies one operation.
    pub fn apply(&mut self, op: &StorageOp) -> Change {
        match op {
            StorageOp::Identity(identity) => self.cluster = identity.cluster,
            StorageOp::HardState { log, state } if *log == self.log => {
                self.hard = *state;
                self.leftover.1 = false;
            }
            StorageOp::Append { log, entries } if *log == self.log => {
                let Some(first) = entries.first() else { return Change::default() };
                let change = self.truncate(first.index);
                self.leftover.0 &= first.index > Index(1);
                for entry in entries {
                    self.push(entry);
                }
                return change;
            }
            StorageOp::Truncate { log, from } if *log == self.log => return self.truncate(*from),
            StorageOp::Snapshot { log, snapshot, reset } if *log == self.log => {
                let change =
                    if *reset { self.truncate(snapshot.index.next()) } else { Change::default() };
                self.install(snapshot.index, snapshot.term, &snapshot.membership);
                if *reset {
                    self.begun = self.base;
                }
                return change;
            }
            StorageOp::DropLog { log } if *log == self.log => {
                *self = Self::empty(self.log, self.cluster);
            }
            _ => {}
        }
        Change::default()
    }

    fn push(&mut self, entry: &Entry) {
        if self.stubs.is_empty() {
            self.first = entry.index;
        }
        self.stubs.push(Stub::of(entry));
        if let Payload::Membership(membership) = &entry.payload {
            self.keep_previous();
            self.memberships.push((entry.index, Arc::new(membership.clone())));
        }
    }

    fn truncate(&mut self, from: Index) -> Change {
        let mut change = Change::default();
        let keep = usize::try_from(from.0.saturating_sub(self.first.0)).unwrap_or(usize::MAX);
        if keep < self.stubs.len() {
            change.truncated = Some(from);
            self.stubs.truncate(keep);
        }
        if self.memberships.last().is_some_and(|(at, _)| *at >= from) {
            change.reverted = true;
            self.keep_previous();
            self.memberships.retain(|(at, _)| *at < from);
        }
        change
    }

    fn install(&mut self, index: Index, term: Term, membership: &Membership) {
        self.base = index;
        self.base_term = term;
        let agrees = self.stub(index).is_some_and(|stub| stub.term == term);
        if !agrees {
            // What lay before it is of another past, and there must be no gap behind it.
            let later = index.0.saturating_sub(self.first.0).saturating_add(1);
            let later = usize::try_from(later).unwrap_or(usize::MAX).min(self.stubs.len());
            self.stubs.drain(..later);
            self.first = index.next();
        }
        let known = self.membership_at(index).is_some_and(|held| **held == *membership);
        if !known {
            self.keep_previous();
            self.memberships.retain(|(at, _)| *at > index);
            self.memberships.insert(0, (index, Arc::new(membership.clone())));
        }
    }

    fn keep_previous(&mut self) {
        if self.previous.is_none() {
            self.previous = Some(self.membership().cloned());
        }
    }
}

#[cfg(test)]
mod tests {
    use quorate_core::raft::Snapshot;
    use quorate_core::{ConfigVersion, NodeId};

    use super::*;

    const LOG: LogId = LogId::CONFIGURATION;

    fn entry(index: u64, term: u64) -> Entry {
        Entry { index: Index(index), term: Term(term), payload: Payload::Empty }
    }

    fn membership(node: u128) -> Membership {
        Membership::founder(NodeId(node), ConfigVersion(1))
    }

    fn fresh() -> Shadow {
        Shadow::of(&Recovered::fresh(NodeId(1)), LOG)
    }

    #[test]
    fn an_append_replaces_what_follows_and_reverts_its_membership() {
        let mut log = fresh();
        let mut second = entry(2, 1);
        second.payload = Payload::Membership(membership(2));
        let mut first = entry(1, 1);
        first.payload = Payload::Membership(membership(1));
        log.apply(&StorageOp::Append { log: LOG, entries: vec![first, second, entry(3, 1)] });
        assert_eq!(log.last_index(), Index(3));
        log.forget_previous();
        let change = log.apply(&StorageOp::Append { log: LOG, entries: vec![entry(2, 2)] });
        assert_eq!(change, Change { truncated: Some(Index(2)), reverted: true });
        assert_eq!((log.last_index(), log.last_term()), (Index(2), Term(2)));
        assert_eq!(**log.membership().expect("the first is left"), membership(1));
        assert_eq!(**log.previous_membership().expect("remembered"), membership(2));
    }

    #[test]
    fn a_compacted_log_still_covers_and_compares_what_it_held() {
        let mut log = fresh();
        log.apply(&StorageOp::Append { log: LOG, entries: (1..=5).map(|i| entry(i, 1)).collect() });
        let snapshot = Snapshot {
            index: Index(3),
            term: Term(1),
            membership: membership(1),
            data: Default::default(),
        };
        log.apply(&StorageOp::Snapshot { log: LOG, snapshot, reset: false });
        assert_eq!(log.last_index(), Index(5));
        assert!(log.covers(Index(2), Term(1)) && !log.covers(Index(2), Term(2)));
        assert!(log.covers(Index(5), Term(1)) && !log.covers(Index(6), Term(1)));
    }

    #[test]
    fn an_installed_snapshot_leaves_nothing_of_another_past() {
        let mut log = fresh();
        log.apply(&StorageOp::Append { log: LOG, entries: (1..=5).map(|i| entry(i, 1)).collect() });
        let snapshot = Snapshot {
            index: Index(7),
            term: Term(3),
            membership: membership(2),
            data: Default::default(),
        };
        log.apply(&StorageOp::Snapshot { log: LOG, snapshot, reset: true });
        assert_eq!((log.last_index(), log.last_term()), (Index(7), Term(3)));
        assert!(log.covers(Index(7), Term(3)) && log.covers(Index(4), Term(9)));
        log.apply(&StorageOp::Append { log: LOG, entries: vec![entry(8, 3)] });
        assert_eq!(log.term_at(Index(8)), Some(Term(3)));
    }

    #[test]
    fn whoever_keeps_a_log_remembers_the_last_sixteen_memberships_behind_the_cut() {
        let mut log = fresh();
        let changed = |i: u64| {
            let payload = Payload::Membership(membership(u128::from(i)));
            Entry { payload, ..entry(2 * i, 1) }
        };
        let entries = (1..=20).flat_map(|i| [entry(2 * i - 1, 1), changed(i)]).collect();
        log.apply(&StorageOp::Append { log: LOG, entries });
        let cut = |index: u64, node: u128| {
            let (index, term) = (Index(index), Term(1));
            let membership = membership(node);
            let snapshot = Snapshot { index, term, membership, data: Default::default() };
            StorageOp::Snapshot { log: LOG, snapshot, reset: false }
        };
        assert_eq!(log.remembered_from(), Index::ZERO, "nothing is cut");
        log.apply(&cut(31, 15));
        assert_eq!(log.remembered_from(), Index::ZERO, "that of the empty log, and fifteen");
        log.apply(&cut(35, 17));
        assert_eq!(log.remembered_from(), Index(4));
        log.apply(&cut(40, 20));
        assert_eq!(log.remembered_from(), Index(10));
        log.begin_run();
        assert_eq!(log.remembered_from(), Index(40), "a process that starts knows the snapshot's");
    }
}
