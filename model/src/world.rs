//! Worlds: who is there at first, and how often what may happen.

use std::collections::BTreeSet;

use quorate_core::raft::{Change, ConfigVersion, Half, Membership, NodeId};

use crate::laws::Mark;
use crate::worlds::WORLDS;

/// How often things may still happen. What needs no budget: deliveries and completed writes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Budget {
    /// Election time-outs, of all nodes together.
    pub timeouts: u8,
    /// Rounds of heartbeats.
    pub heartbeats: u8,
    /// Leaders that find that no quorum has answered them.
    pub silences: u8,
    /// Entries that clients propose.
    pub proposals: u8,
    /// Changes of membership that a leader takes up.
    pub changes: u8,
    /// Leaders that are told to hand over.
    pub transfers: u8,
    /// Crashes, each with a restart.
    pub crashes: u8,
}

/// What a voter's disk holds at first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Disk {
    /// Its term.
    pub term: u64,
    /// Its vote in that.
    pub vote: u128,
    /// The terms of its entries, from the second on.
    pub entries: &'static [u64],
}

/// A small cluster and its bounds.
#[derive(Clone, Debug)]
pub struct World {
    /// What it is chosen by.
    pub name: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// Who votes at first. The first breaks ties.
    pub voters: &'static [u128],
    /// Who receives the log without a vote at first, with an empty disk.
    pub learners: &'static [u128],
    /// Whether the first voter leads at first, its first entry committed and known everywhere.
    pub led: bool,
    /// What the voters' disks hold behind the first entry, if it is more: nothing that is committed.
    pub disks: &'static [Disk],
    /// Whether a message takes one entry only.
    pub one_by_one: bool,
    /// Nobody campaigns for a term above this.
    pub terms_max: u64,
    /// Whether writes take time.
    pub slow_disks: bool,
    /// Who votes after the change, if there is to be one. The first breaks ties.
    pub change_to: &'static [u128],
    /// How often things may happen.
    pub budget: Budget,
    /// What must be reached: a search that never got there has shown nothing.
    pub expected: &'static [Mark],
}

fn half(voters: &[u128]) -> Half {
    Half {
        voters: voters.iter().copied().map(NodeId).collect(),
        tie_breaker: voters.first().copied().map(NodeId),
    }
}

impl World {
    /// All worlds, the small ones first.
    #[must_use]
    pub fn all() -> &'static [Self] {
        &WORLDS
    }

    /// The world of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        WORLDS.iter().find(|world| world.name == name)
    }

    /// Whether all its states are found within seconds.
    #[must_use]
    pub fn is_small(&self) -> bool {
        let small = ["contention", "two-removal", "two-crash", "vote", "learner", "diverged"];
        small.contains(&self.name) || self.name == "replication-1"
    }

    /// Everybody who is ever there.
    #[must_use]
    pub fn nodes(&self) -> BTreeSet<NodeId> {
        let all = self.voters.iter().chain(self.learners).chain(self.change_to);
        all.copied().map(NodeId).collect()
    }

    /// The membership that the log begins with.
    #[must_use]
    pub fn membership(&self) -> Membership {
        Membership {
            incoming: half(self.voters),
            outgoing: None,
            learners: self.learners.iter().copied().map(NodeId).collect(),
            version: ConfigVersion(1),
        }
    }

    /// The change of membership, if there is to be one: whoever was there and does not vote is out.
    #[must_use]
    pub fn change(&self) -> Option<Change> {
        let (half, learners) = (half(self.change_to), BTreeSet::new());
        let version = ConfigVersion(2);
        (!self.change_to.is_empty()).then_some(Change { half, learners, version })
    }
}
