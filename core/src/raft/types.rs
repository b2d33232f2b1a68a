//! Entries, memberships, snapshots and messages of one log.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use crate::ids::{ConfigVersion, Index, NodeId, Term};

/// Voters that decide together, and who breaks a tie among them.
#[derive(Clone, Default, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Half {
    /// Who votes.
    pub voters: BTreeSet<NodeId>,
    /// The voter that makes exactly half of an even number a quorum. Explicit, in the log, never
    /// computed from the configuration document.
    pub tie_breaker: Option<NodeId>,
}

/// Who takes part in a log: one half, or two while a change of voters is under way.
#[derive(Clone, Default, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Membership {
    /// The voters; while joint, the new ones.
    pub incoming: Half,
    /// While joint, the old voters: both halves must agree.
    pub outgoing: Option<Half>,
    /// Who receives the log without a vote.
    pub learners: BTreeSet<NodeId>,
    /// The configuration version that this membership implements.
    pub version: ConfigVersion,
}

impl Membership {
    /// A membership of one voter, who is also the tie-breaker.
    #[must_use]
    pub fn founder(node: NodeId, version: ConfigVersion) -> Self {
        Self {
            incoming: Half { voters: BTreeSet::from([node]), tie_breaker: Some(node) },
            outgoing: None,
            learners: BTreeSet::new(),
            version,
        }
    }

    /// Whether a change of voters is under way.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        self.outgoing.is_some()
    }

    /// Whether `node` votes, in either half.
    #[must_use]
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.incoming.voters.contains(&node)
            || self.outgoing.as_ref().is_some_and(|half| half.voters.contains(&node))
    }

    /// Whether `node` takes part at all.
    #[must_use]
    pub fn contains(&self, node: NodeId) -> bool {
        self.is_voter(node) || self.learners.contains(&node)
    }

    /// Everyone who votes in either half.
    #[must_use]
    pub fn voters(&self) -> BTreeSet<NodeId> {
        let mut all = self.incoming.voters.clone();
        if let Some(half) = &self.outgoing {
            all.extend(half.voters.iter().copied());
        }
        all
    }

    /// Everyone who receives the log.
    #[must_use]
    pub fn members(&self) -> BTreeSet<NodeId> {
        let mut all = self.voters();
        all.extend(self.learners.iter().copied());
        all
    }
}

/// What an entry carries.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Payload {
    /// Nothing: a leader's first entry of its term.
    Empty,
    /// In force from the moment it is appended, and again without force when truncated.
    Membership(Membership),
    /// For the state machine; takes effect when committed.
    Data(Bytes),
}

/// One entry of a log.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Its position; 1 is the first.
    pub index: Index,
    /// The term of the leader that made it.
    pub term: Term,
    /// What it carries.
    pub payload: Payload,
}

/// The state that a log builds on.
#[derive(Clone, Default, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    /// The last entry it contains; 0: none.
    pub index: Index,
    /// The term of that entry.
    pub term: Term,
    /// The membership in force at that entry.
    pub membership: Membership,
    /// The state machine, encoded by its owner.
    pub data: Bytes,
}

/// A message between two nodes about one log. The sender is known from the authenticated link.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Message {
    /// The sender's current term.
    pub term: Term,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Body {
    /// Would you vote for me in `next`? Changes nobody's term or vote.
    PreVote {
        /// The term the sender would campaign in.
        next: Term,
        /// The index of the last entry in its log.
        last_index: Index,
        /// The term of that entry.
        last_term: Term,
    },
    /// The answer to a pre-vote. Never counted as a vote.
    PreVoteReply {
        /// The term that was asked about.
        next: Term,
        /// Whether the sender would vote for it.
        granted: bool,
    },
    /// Vote for me in this message's term.
    Vote {
        /// The index of the last entry in its log.
        last_index: Index,
        /// The term of that entry.
        last_term: Term,
        /// The present leader asked for this election: its lease does not stand against it.
        transfer: bool,
    },
    /// The answer to a vote request, of this message's term.
    VoteReply {
        /// Whether the vote was given.
        granted: bool,
    },
    /// Entries that follow (`prev_index`, `prev_term`); may be none.
    Append {
        /// The entry before the first one sent.
        prev_index: Index,
        /// Its term.
        prev_term: Term,
        /// Consecutive entries.
        entries: Vec<Entry>,
        /// The leader's commit index.
        commit: Index,
    },
    /// The sender's log agrees with the leader's up to `matched`, durably.
    Appended {
        /// The last index that agrees.
        matched: Index,
    },
    /// The sender has no entry (`prev_index`, its term): try lower.
    AppendRefused {
        /// The `prev_index` that was refused, so that a stale refusal is recognised.
        prev_index: Index,
        /// The highest index at which the logs may agree.
        hint_index: Index,
        /// The term of the sender's entry there.
        hint_term: Term,
    },
    /// The state up to an index, instead of entries that are no longer kept.
    Install {
        /// The state.
        snapshot: Snapshot,
    },
    /// The leader is alive.
    Heartbeat {
        /// What the receiver may commit: never above what it is known to hold.
        commit: Index,
        /// Rises with every round; the reply repeats it (check-quorum and read index count replies).
        round: u64,
    },
    /// The answer to a heartbeat.
    HeartbeatReply {
        /// The round answered.
        round: u64,
    },
    /// The leader wants the receiver to campaign now.
    TimeoutNow,
}
