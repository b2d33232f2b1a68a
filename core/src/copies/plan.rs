//! What a copy needs, and from whom it can be had.

use crate::ids::{Index, NodeId};
use crate::time::Time;

/// What the copy of this node is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Need {
    /// Every entry up to here is in it.
    pub applied: Index,
    /// What is known to be committed.
    pub commit: Index,
    /// It cannot go on from the log: a copy with at least the content at this index is needed.
    pub full: Option<Index>,
}

/// Another copy of the same shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Donor {
    /// Whose.
    pub node: NodeId,
    /// What it said last that it holds; `None` if it has said nothing yet.
    pub applied: Option<Index>,
    /// It is whole, as far as is known, and in reach.
    pub serves: bool,
    /// The document calls it `ONLINE`.
    pub online: bool,
    /// The document calls it `OFFLINE`: an operator has put it out of use.
    pub offline: bool,
    /// It owns the shard, and has enough to do.
    pub owns: bool,
    /// It failed of late.
    pub failed: bool,
    /// Until when it was left alone after it had failed; `None` if it has not failed since the copy is
    /// needed.
    pub rested: Option<Time>,
    /// Transfers from it to this node that are under way.
    pub busy: usize,
}

/// How a copy comes to hold all that is committed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SyncPlan {
    /// It holds it.
    UpToDate,
    /// It goes on from the log, after this entry.
    Delta {
        /// The last entry that is in it.
        from: Index,
    },
    /// It needs a full copy, and gets it there.
    Full {
        /// From whom.
        donor: NodeId,
        /// What it must hold at least.
        at_least: Index,
    },
    /// It needs a full copy, and nobody can give it at the moment.
    NoDonor {
        /// What it would have to hold at least.
        at_least: Index,
    },
}

/// What is to be done for a copy. Donors serve, are not this node, and are taken in this order: one
/// that has not failed of late, then one that has not failed at all, or longest ago (or the last in
/// order would never be asked where many refuse), one that is in use, one that is `ONLINE`, not the owner
/// if another serves, the one from which least is under way, the most advanced.
#[must_use]
pub fn plan_sync(need: Need, donors: &[Donor]) -> SyncPlan {
    let Some(at_least) = need.full else {
        return match need.applied >= need.commit {
            true => SyncPlan::UpToDate,
            false => SyncPlan::Delta { from: need.applied },
        };
    };
    // One that was behind when it last spoke may be there by now: it says so itself.
    let rank = |d: &Donor| {
        let order = (d.failed, d.rested, d.offline, !d.online, d.owns, d.busy);
        (order, std::cmp::Reverse(d.applied), d.node)
    };
    match donors.iter().filter(|donor| donor.serves).min_by_key(|donor| rank(donor)) {
        Some(donor) if !donor.failed => SyncPlan::Full { donor: donor.node, at_least },
        _ => SyncPlan::NoDonor { at_least },
    }
}

#[cfg(test)]
mod tests;
