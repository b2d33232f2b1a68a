//! What is enough: the one type that decides votes, pre-votes, commit, check-quorum and reads.
//!
//! A quorum of a half is a majority of its voters, or exactly half of them if that half holds the
//! tie-breaker. As weights: 2 a voter, 3 the tie-breaker; more than half of the sum is enough. At
//! odd sizes the extra weight changes nothing. Of a joint membership both halves must agree.

use super::types::{Half, Index, Membership, NodeId};
use crate::faults::{self, Fault};

/// The halves that must agree.
#[derive(Clone, Copy, Debug)]
pub struct Quorum<'a> {
    incoming: &'a Half,
    outgoing: Option<&'a Half>,
    membership: Option<&'a Membership>,
}

impl<'a> Quorum<'a> {
    /// The quorums of a membership.
    #[must_use]
    pub fn of(membership: &'a Membership) -> Self {
        let outgoing = membership.outgoing.as_ref();
        Self { incoming: &membership.incoming, outgoing, membership: Some(membership) }
    }

    /// The quorums of one half alone.
    #[must_use]
    pub fn of_half(half: &'a Half) -> Self {
        Self { incoming: half, outgoing: None, membership: None }
    }

    /// Whether the nodes for which `agrees` holds are enough. Without voters nothing is.
    #[must_use]
    pub fn is_met(&self, agrees: impl Fn(NodeId) -> bool) -> bool {
        self.half_is_met(self.incoming, &agrees)
            && self.outgoing.is_none_or(|half| self.half_is_met(half, &agrees))
    }

    /// Whether no answer that is still out can make it enough: `refuses` have said no.
    #[must_use]
    pub fn is_lost(&self, refuses: impl Fn(NodeId) -> bool) -> bool {
        !self.is_met(|node| !refuses(node))
    }

    /// The highest index that a quorum holds, given what each voter holds.
    #[must_use]
    pub fn index(&self, held: impl Fn(NodeId) -> Index) -> Index {
        let candidates = self.everyone().map(&held);
        candidates
            .filter(|index| self.is_met(|node| held(node) >= *index))
            .max()
            .unwrap_or(Index::ZERO)
    }

    fn everyone(&self) -> impl Iterator<Item = NodeId> {
        let outgoing = self.outgoing.into_iter().flat_map(|half| half.voters.iter());
        self.incoming.voters.iter().chain(outgoing).chain(self.counted_learners()).copied()
    }

    fn counted_learners(&self) -> impl Iterator<Item = &'a NodeId> {
        let counted = faults::active(Fault::LearnerCounted);
        self.membership.filter(|_| counted).into_iter().flat_map(|m| m.learners.iter())
    }

    fn half_is_met(&self, half: &Half, agrees: &impl Fn(NodeId) -> bool) -> bool {
        let mut total = 0;
        let mut agreeing = 0;
        let odd = half.voters.len() % 2 == 1;
        for voter in &half.voters {
            let weight = if half.tie_breaker == Some(*voter) { 3 } else { 2 };
            total += weight;
            agreeing += if agrees(*voter) { weight } else { 0 };
        }
        agreeing += self.counted_learners().filter(|l| agrees(**l)).count() * 2;
        if faults::active(Fault::TieBreakAtOddSizes) && odd && half.voters.len() > 1 {
            let holder = half.tie_breaker.is_some_and(agrees);
            return agreeing * 2 > total || (holder && agreeing + 2 > half.voters.len());
        }
        agreeing * 2 > total
    }
}
