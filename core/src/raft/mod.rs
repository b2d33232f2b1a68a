//! Raft, sans I/O.

mod quorum;
mod types;

use std::collections::BTreeSet;

pub use quorum::Quorum;
pub use types::{
    Body, ConfigVersion, Entry, Half, Index, Membership, Message, NodeId, Payload, Snapshot, Term,
};

/// A change of membership.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// The voters and tie-breaker to come.
    pub half: Half,
    /// The learners to come.
    pub learners: BTreeSet<NodeId>,
    /// The configuration version that it implements.
    pub version: ConfigVersion,
}

/// What a node does in a log at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Follows.
    Follower,
    /// Asks whether an election could be won.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

/// One replica of one log.
#[derive(Debug)]
pub struct Raft {}

impl Raft {
    /// The current term.
    #[must_use]
    pub fn term(&self) -> Term {
        Term::ZERO
    }
    /// What it does.
    #[must_use]
    pub fn role(&self) -> Role {
        Role::Follower
    }
    /// The commit index.
    #[must_use]
    pub fn commit(&self) -> Index {
        Index::ZERO
    }
    /// The last index.
    #[must_use]
    pub fn last_index(&self) -> Index {
        Index::ZERO
    }
    /// The membership in force.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        unreachable!()
    }
    /// Entries.
    #[must_use]
    pub fn entry(&self, _index: Index) -> Option<&Entry> {
        None
    }
    /// The snapshot.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        unreachable!()
    }
}
