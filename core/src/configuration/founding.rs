//! How a shard's log begins: once, with one set of voters, on each of their disks.
//!
//! The entry of the configuration log that creates a shard fixes the first membership of the
//! shard's log. Nobody sends it: each of its voters writes it by itself, as entry 1 of term 1,
//! already committed, when it applies the document, late or early, and all write the same bytes.
//! That is safe as the initial state of a Raft voter is: **once**. A voter that had the log, lost
//! it, and wrote the first entry anew would have forgotten what it voted for and acknowledged:
//!
//! > `{A, B, C}` found the log. The shard moves to `{A, D, E}`: the log commits it, B and C drop
//! > their copies. Later both are placed there again. Were they still allowed to write the first
//! > entry, then B and C, two of its three voters, would elect a leader: of an empty log, beside
//! > the one that `{A, D, E}` go on with. Two sets of voters, and two histories of one shard.
//!
//! Hence [`Founding::unborn`]: a voter may write the first entry only while it is in there, and it
//! leaves for ever when the leader of the log has seen it hold the log, or when it loses its place
//! or the cluster loses it. In one case it stays although it lost its place: as long as no leader
//! was ever seen, and those that would remain could not decide without it. Then the log may not
//! exist until this node writes it, and without this exception a tie-breaker that crashed between
//! the creation and its own first entry, and was removed, could never be helped. It is safe because
//! no membership but the first is planned until a leader was seen, so that nobody had to drop it.
//!
//! What this asks of a node, since the document it knows after a restart may be an old one:
//!
//! * It writes the first entry only if its store has **never** held that log. A log that is dropped
//!   leaves a mark in the store, or is dropped only after a configuration that no longer lists the
//!   node as unborn is *durably* known to be committed.
//! * It drops no log in whose `unborn` set it is.
//! * Without the log it answers no vote request for it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::database::Shard;
use crate::ids::{ConfigVersion, Index, NodeId, Term};
use crate::raft::{Entry, Half, Membership, Payload, Quorum};

/// How a shard's log begins.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Founding {
    /// The membership in the log's first entry. Constant.
    pub first: Membership,
    /// The voters of `first` that may still write that entry. Only ever shrinks; never empty, for
    /// then there is no founding any more.
    pub unborn: BTreeSet<NodeId>,
    /// Whether a leader of the log was ever seen, hence a quorum of `first` that holds it.
    pub led: bool,
}

impl Founding {
    pub(super) fn new(voters: BTreeSet<NodeId>, tie_breaker: NodeId, at: ConfigVersion) -> Self {
        assert!(voters.contains(&tie_breaker), "the tie-breaker is one of the voters");
        let unborn = voters.clone();
        let incoming = Half { voters, tie_breaker: Some(tie_breaker) };
        let first = Membership { incoming, version: at, ..Membership::default() };
        Self { first, unborn, led: false }
    }

    /// Those that have lost their place may not begin the log any more, unless it needs them to.
    fn forget(&mut self, placed: &BTreeSet<NodeId>) {
        let gone: Vec<NodeId> = self.unborn.difference(placed).copied().collect();
        for node in gone {
            let rest = |id: NodeId| id != node && self.unborn.contains(&id);
            if self.led || Quorum::of(&self.first).is_met(rest) {
                self.unborn.remove(&node);
            }
        }
    }
}

impl Shard {
    /// The log's first entry, for `node` to write as committed, provided that its store has never
    /// held the log; `None`: it must not write it.
    #[must_use]
    pub fn first_entry(&self, node: NodeId) -> Option<Entry> {
        let founding = self.founding.as_ref().filter(|f| f.unborn.contains(&node))?;
        let payload = Payload::Membership(founding.first.clone());
        Some(Entry { index: Index(1), term: Term(1), payload })
    }

    /// What is left to begin when only `placed` have a place.
    pub(super) fn founding_among(&self, placed: &BTreeSet<NodeId>) -> Option<Founding> {
        let mut founding = self.founding.clone()?;
        founding.forget(placed);
        Some(founding).filter(|f| !f.unborn.is_empty())
    }

    /// A leader of the log has seen `nodes` hold it.
    pub(super) fn founding_after(&self, nodes: &BTreeSet<NodeId>) -> Option<Founding> {
        let mut founding = self.founding.clone()?;
        founding.led = true;
        founding.unborn.retain(|id| !nodes.contains(id));
        founding.forget(&self.copies.keys().copied().collect());
        Some(founding).filter(|f| !f.unborn.is_empty())
    }
}
