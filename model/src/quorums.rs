//! What is enough, said once more and without weights: the laws must not rest on core's `Quorum`.

use std::collections::BTreeSet;

use quorate_core::raft::{Half, Membership, NodeId};

/// A majority, or exactly half with the tie-breaker; if joint, in both halves. Nobody else counts.
pub(crate) fn is_enough(membership: &Membership, agrees: impl Fn(NodeId) -> bool) -> bool {
    let half_agrees = |half: &Half| {
        let yes = half.voters.iter().filter(|voter| agrees(**voter)).count();
        let no = half.voters.len() - yes;
        yes > no || (yes == no && yes > 0 && half.tie_breaker.is_some_and(&agrees))
    };
    half_agrees(&membership.incoming) && membership.outgoing.as_ref().is_none_or(half_agrees)
}

/// Whether every quorum of the one has a node in common with every quorum of the other.
pub(crate) fn intersect(one: &Membership, other: &Membership) -> bool {
    let mut voters = one.voters();
    voters.extend(other.voters());
    let voters: Vec<NodeId> = voters.into_iter().collect();
    (0_u32..1 << voters.len()).all(|subset| {
        let chosen = voters.iter().enumerate().filter(|(place, _)| subset >> place & 1 == 1);
        let chosen: BTreeSet<NodeId> = chosen.map(|(_, voter)| *voter).collect();
        !is_enough(one, |node| chosen.contains(&node))
            || !is_enough(other, |node| !chosen.contains(&node))
    })
}

#[cfg(test)]
mod tests {
    use quorate_core::raft::ConfigVersion;

    use super::*;

    fn of(voters: &[u128]) -> Membership {
        let voters: BTreeSet<NodeId> = voters.iter().copied().map(NodeId).collect();
        let tie_breaker = voters.first().copied();
        let incoming = Half { voters, tie_breaker };
        let (outgoing, learners) = (None, BTreeSet::new());
        Membership { incoming, outgoing, learners, version: ConfigVersion(1) }
    }

    #[test]
    fn half_is_enough_with_the_tie_breaker_only() {
        let two = of(&[1, 2]);
        assert!(is_enough(&two, |node| node == NodeId(1)));
        assert!(!is_enough(&two, |node| node == NodeId(2)));
        assert!(!is_enough(&of(&[1, 2, 3]), |node| node == NodeId(1)));
        assert!(!is_enough(&of(&[]), |_| true));
    }

    #[test]
    fn with_a_tie_breaker_one_voter_more_may_share_no_quorum_but_a_joint_step_does() {
        let (two, three) = (of(&[1, 2]), of(&[1, 2, 3]));
        assert!(!intersect(&two, &three), "1 alone, and 2 with 3");
        let joint = Membership { outgoing: Some(two.incoming.clone()), ..three.clone() };
        assert!(intersect(&two, &joint) && intersect(&joint, &three));
    }
}
