//! What must hold: in each state, and of each step; and what must have been reached.

use std::sync::atomic::{AtomicU32, Ordering};

use quorate_core::raft::{Body, Entry, Index, Message, NodeId, Payload, Term};
use quorate_core::{HardState, RecoveredLog, StorageOp};

use crate::quorums::{intersect, is_enough};
use crate::state::{Host, State, entry_in};

/// A law.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Law {
    /// At most one leader a term, ever.
    OneLeader,
    /// Two logs that have an entry of one index and term are the same up to there.
    LogMatching,
    /// A leader has all that leaders of earlier terms committed.
    LeaderCompleteness,
    /// One entry is committed at an index, whoever commits it and whenever.
    CommittedOnce,
    /// What a leader commits ends with an entry of its own term that a quorum of those who decide has
    /// on its disks. Learners and whoever was removed are never counted.
    CommittedByQuorum,
    /// What was committed stays on the disks of a quorum of those who decided.
    CommittedStays,
    /// A leader has the votes of a quorum, on their disks.
    ElectedByQuorum,
    /// Term, vote and commit index never go back on a disk, entries never come before their term.
    DiskNeverRegresses,
    /// A message says nothing of its sender that is not durable there.
    SentIsDurable,
    /// The quorums of memberships that follow each other in a log intersect.
    MembershipsIntersect,
    /// The membership in force is that of the last membership entry in the log.
    MembershipOfLog,
    /// Core's own assertions hold.
    Assertions,
}

impl Law {
    /// Every law, with its name.
    pub const ALL: [(Self, &'static str); 12] = [
        (Self::OneLeader, "at most one leader a term"),
        (Self::LogMatching, "log matching"),
        (Self::LeaderCompleteness, "leader completeness"),
        (Self::CommittedOnce, "one entry is committed at an index"),
        (Self::CommittedByQuorum, "committed by a quorum of disks"),
        (Self::CommittedStays, "what is committed stays on a quorum"),
        (Self::ElectedByQuorum, "elected by a quorum of disks"),
        (Self::DiskNeverRegresses, "disks never regress"),
        (Self::SentIsDurable, "what is sent is durable"),
        (Self::MembershipsIntersect, "adjacent memberships intersect"),
        (Self::MembershipOfLog, "the membership in force is the log's"),
        (Self::Assertions, "core's assertions"),
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(law, _)| *law == self).map_or("", |(_, name)| name)
    }

    /// A law that this step has broken.
    pub(crate) fn broken(self, what: impl Into<String>) -> Broken {
        Broken { law: self, what: what.into() }
    }
}

/// A law that does not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broken {
    /// Which.
    pub law: Law,
    /// In what way.
    pub what: String,
}

/// What a search must come by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Mark {
    /// Somebody was elected.
    Elected,
    /// A client's entry was committed.
    Committed,
    /// A client's entry was committed in a term that was not the first with a leader.
    CommittedAfterChange,
    /// The last membership of a change was committed.
    ChangeDone,
    /// Somebody was elected under a joint membership.
    JointLeader,
    /// Entries were cut off.
    Truncated,
    /// A joint membership was cut off.
    ChangeTruncated,
    /// A crash lost operations that were not durable.
    CrashBeforeSync,
    /// A leader stepped down, for it heard of no quorum.
    Resigned,
    /// Somebody was elected whom the leader before had asked to campaign.
    HandedOver,
}

impl Mark {
    /// Every mark, with its name.
    pub const ALL: [(Self, &'static str); 10] = [
        (Self::Elected, "a leader elected"),
        (Self::Committed, "an entry committed"),
        (Self::CommittedAfterChange, "an entry committed after a change of leader"),
        (Self::ChangeDone, "a change of membership done"),
        (Self::JointLeader, "a leader elected under a joint membership"),
        (Self::Truncated, "a log truncated"),
        (Self::ChangeTruncated, "a joint membership truncated"),
        (Self::CrashBeforeSync, "a crash between write and sync"),
        (Self::Resigned, "a leader that resigns"),
        (Self::HandedOver, "a hand-over"),
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(mark, _)| *mark == self).map_or("", |(_, name)| name)
    }
}

/// What a search has come by. Beside the states, not in them: a state in which something was reached is
/// no other than the same state in which it was not.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    reached: AtomicU32,
    told: AtomicU32,
}

impl Marks {
    pub(crate) fn set(&self, mark: Mark) {
        // Mostly it is set: then nobody else's copy of it is disturbed.
        if !self.has(mark) {
            self.reached.fetch_or(1 << mark as u8, Ordering::Relaxed);
        }
    }

    pub(crate) fn has(&self, mark: Mark) -> bool {
        self.reached.load(Ordering::Relaxed) >> mark as u8 & 1 == 1
    }

    /// Whether it was reached, said once.
    pub(crate) fn tell(&self, mark: Mark) -> bool {
        let bit = 1 << mark as u8;
        let told = self.told.load(Ordering::Relaxed) & bit != 0;
        !told && self.has(mark) && self.told.fetch_or(bit, Ordering::Relaxed) & bit == 0
    }
}

/// The laws that a state shows by itself, after a step of `changed`; those of steps are in
/// [`crate::steps`].
pub(crate) fn state_law(state: &State, changed: NodeId) -> Option<Broken> {
    let broken = leader_completeness(state).or_else(|| committed_stays(state));
    let broken = broken.or_else(|| log_matching(state, changed));
    broken.or_else(|| membership_of_log(state.host(changed)))
}

fn membership_of_log(host: &Host) -> Option<Broken> {
    let last = entries(host).filter(|entry| matches!(entry.payload, Payload::Membership(_))).last();
    let Some(Entry { payload: Payload::Membership(membership), .. }) = last else { return None };
    let wrong = host.raft.membership() != membership;
    let what = || format!("{:?} is in force, {membership:?} is in the log", host.raft.membership());
    wrong.then(|| Law::MembershipOfLog.broken(what()))
}

/// The entries of a replica.
fn entries(host: &Host) -> impl Iterator<Item = &Entry> {
    (1..=host.raft.last_index().0).filter_map(|index| host.raft.entry(Index(index)))
}

/// Of the logs of all pairs of which `one` is one: no other has changed.
fn log_matching(state: &State, one: NodeId) -> Option<Broken> {
    let host = state.host(one);
    let mut others = state.hosts.iter().filter(|(other, _)| *other != one);
    others.find_map(|(other, peer)| {
        let in_memory = match_up(entries(host), entries(peer));
        let on_disk = match_up(host.durable().entries.iter(), peer.durable().entries.iter());
        let index = in_memory.or(on_disk)?;
        let what = format!("{one:?} and {other:?} differ at or before {index}");
        Some(Law::LogMatching.broken(what))
    })
}

/// Where two logs have an entry of one term though something differs up to there.
fn match_up<'a>(
    one: impl Iterator<Item = &'a Entry>,
    other: impl Iterator<Item = &'a Entry>,
) -> Option<Index> {
    let mut differ = false;
    one.zip(other).find_map(|(one, other)| {
        differ |= one != other;
        (differ && one.term == other.term).then_some(one.index)
    })
}

fn leader_completeness(state: &State) -> Option<Broken> {
    let leaders = state.hosts.iter().filter(|(_, host)| host.raft.is_leader());
    for (leader, host) in leaders {
        let term = host.raft.term();
        let due = state.history.committed.values().filter(|committed| committed.by <= term);
        for committed in due {
            let index = committed.entry.index;
            if host.raft.entry(index) != Some(&committed.entry) {
                let what = format!("{leader:?} leads term {term} without {:?}", committed.entry);
                return Some(Law::LeaderCompleteness.broken(what));
            }
        }
    }
    None
}

fn committed_stays(state: &State) -> Option<Broken> {
    state.history.committed.values().find_map(|committed| {
        let (index, term) = (committed.entry.index, committed.entry.term);
        let holds = |node: NodeId| {
            state.hosts.iter().any(|(id, host)| *id == node && host.holds(index, term))
        };
        let held = committed.memberships.iter().any(|membership| is_enough(membership, holds));
        let what = || format!("entry {index} of term {term} is not on the disks of a quorum");
        (!held).then(|| Law::CommittedStays.broken(what()))
    })
}

/// An operation is about to become durable.
pub(crate) fn disk_law(log: &RecoveredLog, op: &StorageOp) -> Option<Broken> {
    let broken = |what: String| Some(Law::DiskNeverRegresses.broken(what));
    match op {
        StorageOp::HardState { state, .. } => {
            let held = log.hard_state;
            if state.term < held.term {
                return broken(format!("the term falls from {} to {}", held.term, state.term));
            }
            if state.term == held.term && held.vote.is_some() && state.vote != held.vote {
                let (term, from, to) = (held.term, held.vote, state.vote);
                return broken(format!("the vote in term {term} changes from {from:?} to {to:?}"));
            }
            if state.commit < held.commit {
                return broken(format!("commit falls from {} to {}", held.commit, state.commit));
            }
            let last = log.entries.last().map_or(Index::ZERO, |entry| entry.index);
            if state.commit > last {
                return broken(format!("commit {} comes before its entries", state.commit));
            }
        }
        StorageOp::Append { entries, .. } => {
            if entries.iter().any(|entry| entry.term > log.hard_state.term) {
                return broken(format!("{entries:?} come before their term"));
            }
            let first = entries.first().map_or(Index::ZERO, |entry| entry.index);
            if entry_in(&log.entries, first.previous()).is_none() && first > Index(1) {
                return broken(format!("entry {first} comes behind a gap"));
            }
            let kept = log.entries.iter().take_while(|entry| entry.index < first);
            if kept.last().is_some_and(|last| entries.iter().any(|entry| entry.term < last.term)) {
                return broken(format!("terms fall with {entries:?}"));
            }
        }
        _ => {}
    }
    None
}

/// A message is about to leave `host`, which is `from`.
pub(crate) fn sent_law(host: &Host, from: NodeId, to: NodeId, message: &Message) -> Option<Broken> {
    let HardState { term, vote, .. } = host.durable().hard_state;
    let body = &message.body;
    let voted = |whom: NodeId| (term, vote) == (message.term, Some(whom));
    let durable = term >= message.term
        && match body {
            Body::Vote { .. } => voted(from),
            Body::VoteReply { granted: true } => voted(to),
            Body::Appended { matched } => {
                *matched == Index::ZERO
                    || host.raft.term_at(*matched).is_some_and(|term| host.holds(*matched, term))
            }
            _ => true,
        };
    let what = || format!("{body:?} leaves {from:?} with term {term} and vote {vote:?} on disk");
    (!durable).then(|| Law::SentIsDurable.broken(what()))
}

/// Entries are about to be written to the log of `host`.
pub(crate) fn membership_law(host: &Host, entries: &[Entry]) -> Option<Broken> {
    entries.iter().find_map(|entry| {
        let Payload::Membership(membership) = &entry.payload else {
            return None;
        };
        let before = host.raft.membership_at(entry.index.previous());
        let what = || format!("{before:?} and {membership:?} can both decide");
        let apart = entry.index > Index(1) && !intersect(before, membership);
        apart.then(|| Law::MembershipsIntersect.broken(what()))
    })
}

/// Somebody leads: `term` and whether each voter's disk says so.
pub(crate) fn elected_law(state: &State, host: &Host, leader: NodeId) -> Option<Broken> {
    let term: Term = host.raft.term();
    if let Some(held) = state.history.leaders.get(&term).filter(|held| **held != leader) {
        let what = format!("{held:?} and {leader:?} both lead in term {term}");
        return Some(Law::OneLeader.broken(what));
    }
    let votes = &state.history.votes;
    let for_it = |voter: NodeId| votes.get(&(term, voter)) == Some(&leader);
    let what = || format!("{leader:?} leads term {term} with the votes {votes:?}");
    let enough = is_enough(host.raft.membership(), for_it);
    (!enough).then(|| Law::ElectedByQuorum.broken(what()))
}
