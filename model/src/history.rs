//! What was, as far as the laws speak of it.

use std::collections::BTreeMap;

use quorate_core::raft::{Entry, Index, Membership, NodeId, Term};

/// An entry that a leader has committed.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Committed {
    /// The entry.
    pub entry: Entry,
    /// The term of the leader that committed it first.
    pub by: Term,
    /// The memberships in force there before and after the step in which it did: one of them has
    /// decided.
    pub memberships: [Membership; 2],
}

/// What was.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct History {
    /// Who has led in each term.
    pub leaders: BTreeMap<Term, NodeId>,
    /// What was ever committed.
    pub committed: BTreeMap<Index, Committed>,
    /// Whom each voter has voted for in each term, on its disk. Only of terms in which somebody may
    /// still be elected.
    pub votes: BTreeMap<(Term, NodeId), NodeId>,
}
