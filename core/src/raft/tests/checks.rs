//! The safety properties, held against a [`super::net::Net`] after every step.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::super::*;
use super::net::Host;

/// What was ever seen.
#[derive(Default)]
pub(super) struct Checks {
    leaders: BTreeMap<Term, NodeId>,
    /// Every entry that was ever written, with the term of the one before it.
    entries: BTreeMap<(Index, Term), (Entry, Option<Term>)>,
    /// The state after each index: the same wherever it is applied.
    states: BTreeMap<Index, u64>,
    commits: BTreeMap<NodeId, (Term, Index)>,
}

impl Checks {
    /// The entry that all disks begin with.
    pub(super) fn founding(&mut self, entry: &Entry) {
        self.entries.insert((entry.index, entry.term), (entry.clone(), None));
    }

    /// Folds an entry into the state: FNV-1a over what it says.
    pub(super) fn fold(state: u64, entry: &Entry) -> u64 {
        let text = format!("{entry:?}");
        text.bytes().fold(state ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }

    /// The state as the data of a snapshot.
    pub(super) fn snapshot_data(state: u64) -> Bytes {
        Bytes::copy_from_slice(&state.to_be_bytes())
    }

    /// The state that a snapshot holds.
    pub(super) fn state_of(snapshot: &Snapshot) -> u64 {
        u64::from_be_bytes(snapshot.data.as_ref().try_into().expect("eight bytes"))
    }

    /// Log matching: an index and a term name one entry, and one history before it.
    pub(super) fn written(&mut self, ops: &[StorageOp]) {
        for op in ops {
            let StorageOp::Append { entries, .. } = op else { continue };
            let mut before = None;
            for entry in entries {
                let key = (entry.index, entry.term);
                let (held, held_before) =
                    self.entries.entry(key).or_insert_with(|| (entry.clone(), before));
                assert_eq!(held, entry, "two entries of one index and term");
                if let (Some(held), Some(now)) = (&held_before, before) {
                    assert_eq!(*held, now, "two histories before {key:?}");
                }
                *held_before = held_before.or(before);
                before = Some(entry.term);
            }
        }
    }

    /// State machine safety: one state at one index.
    pub(super) fn applied(&mut self, index: Index, state: u64) {
        let held = *self.states.entry(index).or_insert(state);
        assert_eq!(held, state, "two states at {index}: a committed entry was lost");
    }

    /// The state at an index that was applied somewhere.
    pub(super) fn state_at(&self, index: Index) -> u64 {
        *self.states.get(&index).expect("only what is committed is ever compacted")
    }

    /// Whether `state` was the state at some index, in all histories there were.
    pub(super) fn was_applied(&self, state: u64) -> bool {
        self.states.values().any(|held| *held == state)
    }

    /// Term and vote never regress on a disk, and no commit index comes before its entries.
    pub(super) fn durable(&self, host: &Host, op: &StorageOp) {
        let StorageOp::HardState { state, .. } = op else { return };
        let held = host.disk().hard_state;
        assert!(state.term >= held.term, "the term falls on disk");
        if state.term == held.term && held.vote.is_some() {
            assert_eq!(state.vote, held.vote, "the vote changes within a term on disk");
        }
        assert!(state.commit >= held.commit, "the commit index falls on disk");
        let log = host.disk();
        let last = log.entries.last().map_or(log.snapshot.index, |e| e.index);
        assert!(state.commit <= last, "commit {} is durable before its entries", state.commit);
    }

    /// A disk holds a log without gaps, in rising terms, and never an entry before its term.
    pub(super) fn disk(&self, host: &Host) {
        let log = host.disk();
        let mut at = (log.snapshot.index, log.snapshot.term);
        for entry in &log.entries {
            assert_eq!(entry.index, at.0.next(), "a gap on disk");
            assert!(entry.term >= at.1, "terms fall on disk");
            at = (entry.index, entry.term);
        }
        assert!(at.1 <= log.hard_state.term, "an entry is durable before its term");
    }

    /// Nothing leaves a node before what it claims is durable.
    pub(super) fn sent(&self, host: &Host, from: NodeId, to: NodeId, message: &Message) {
        let raft = host.raft.as_ref().expect("it runs");
        let state = host.disk().hard_state;
        let Message { term, body } = message;
        assert!(state.term >= *term, "{body:?} of {term} leaves before its term is durable");
        match body {
            Body::Vote { .. } => assert_eq!((state.term, state.vote), (*term, Some(from))),
            Body::VoteReply { granted: true } => {
                assert_eq!((state.term, state.vote), (*term, Some(to)), "a vote not on disk");
            }
            Body::Appended { matched } if *matched > raft.snapshot().index => {
                let held = host.durable_term(*matched);
                let meant = raft.term_at(*matched);
                assert!(held.is_some(), "{matched} acknowledged, not durable");
                assert_eq!(held, meant, "{matched} acknowledged, another entry is durable");
            }
            _ => {}
        }
    }

    /// One leader a term; what a leader commits is of its term and durable on a quorum.
    pub(super) fn after(&mut self, hosts: &BTreeMap<NodeId, Host>, node: NodeId) {
        let raft = hosts[&node].raft.as_ref().expect("it runs");
        if !raft.is_leader() {
            return;
        }
        let leader = *self.leaders.entry(raft.term()).or_insert(node);
        assert_eq!(leader, node, "two leaders in term {}", raft.term());
        let (term, commit) = (raft.term(), raft.commit());
        let before = self.commits.insert(node, (term, commit));
        let opened = before.filter(|(t, _)| *t == term).map(|(_, commit)| commit);
        let Some(opened) = opened.filter(|opened| commit > *opened) else { return };
        let at = raft.term_at(commit).expect("a commit index is in the log");
        assert_eq!(at, term, "a leader commits up to an entry of its own term only");
        let holds = |id: NodeId| {
            hosts.get(&id).is_some_and(|h| {
                h.durable_term(commit) == Some(at) || h.disk().snapshot.index > commit
            })
        };
        let governing = raft.membership_at(commit);
        let enough = [governing, raft.membership()].map(|m| Quorum::of(m).is_met(holds));
        assert!(enough.contains(&true), "{opened}..={commit} committed, no quorum holds it");
    }

    /// In how many terms somebody led.
    pub(super) fn reigns(&self) -> usize {
        self.leaders.len()
    }
}
