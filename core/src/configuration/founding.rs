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
//! The set alone cannot do it, since the document that a node knows may be an old one: after every
//! restart it goes through old versions again, in which it may still begin what it has dropped since.
//! So this is asked of a node:
//!
//! * Its store holds one number, *begun*: the version of the document up to which it has begun all
//!   logs that it had to. What [`Configuration::logs_to_begin`] gives is written in one piece with the
//!   version of that document as the new number, and nothing up to the number is begun again. A log
//!   that the store already holds, received from its leader, is left as it is.
//! * A node without the log answers no request for a vote in it. And a copy that it begins in another
//!   way, by receiving the log, votes only once that log holds a membership which implements a later
//!   version than that of the document by which the copy was begun. For it may have been a voter
//!   before, have dropped its copy, and so have forgotten what it acknowledged: b above, having slept
//!   through the move, would find in a blank c all that it needs to lead.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::database::Shard;
use super::document::Configuration;
use crate::ids::{ClusterId, ConfigVersion, Index, LogId, NodeId, Term};
use crate::raft::{Entry, Half, Membership, Payload, Quorum};

/// Where the content of a shard lies that is brought from another cluster: in what the directory of its
/// holder was there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Origin {
    /// The cluster that has dissolved.
    pub cluster: ClusterId,
    /// What the holder was called in it.
    pub node: NodeId,
    /// The shard's log there.
    pub log: LogId,
}

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
    /// The content that the log begins behind, which only the one voter of `first` has; `None`: it
    /// begins empty.
    pub origin: Option<Origin>,
}

impl Founding {
    pub(super) fn new(voters: BTreeSet<NodeId>, tie_breaker: NodeId, at: ConfigVersion) -> Self {
        assert!(voters.contains(&tie_breaker), "the tie-breaker is one of the voters");
        let unborn = voters.clone();
        let incoming = Half { voters, tie_breaker: Some(tie_breaker) };
        let first = Membership { incoming, version: at, ..Membership::default() };
        Self { first, unborn, led: false, origin: None }
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

impl Configuration {
    /// The logs that `node` is to begin, each with its first entry, committed from the start. `begun`
    /// is the version of the document up to which the node's store says that it has begun all; this
    /// document's version takes its place in the same write. A log that the store holds is left as
    /// it is.
    #[must_use]
    pub fn logs_to_begin(&self, node: NodeId, begun: ConfigVersion) -> Vec<(LogId, Entry)> {
        let first = |shard: &Shard| Some((shard.log, shard.first_entry(node, begun)?));
        self.shards().filter_map(|shard| first(shard.shard)).collect()
    }
}

impl Shard {
    /// The log's first entry, if `node` is to write it: see [`Configuration::logs_to_begin`].
    #[must_use]
    pub fn first_entry(&self, node: NodeId, begun: ConfigVersion) -> Option<Entry> {
        let founding = self.founding.as_ref()?;
        if !founding.unborn.contains(&node) || founding.first.version <= begun {
            return None;
        }
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
