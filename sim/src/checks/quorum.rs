//! What is enough, once more: written apart from core's `Quorum`, so that a mistake there is seen.

use quorate_core::NodeId;
use quorate_core::raft::{Half, Membership};

/// How a half decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sway {
    /// Not enough.
    No,
    /// A majority.
    Majority,
    /// Exactly half of them, the tie-breaker among these.
    TieBreak,
}

fn sway(half: &Half, agrees: &dyn Fn(NodeId) -> bool) -> Sway {
    let agreeing = half.voters.iter().filter(|id| agrees(**id)).count();
    let others = half.voters.len() - agreeing;
    match agreeing.cmp(&others) {
        std::cmp::Ordering::Greater => Sway::Majority,
        std::cmp::Ordering::Less => Sway::No,
        std::cmp::Ordering::Equal => {
            let holder = half.tie_breaker.filter(|id| half.voters.contains(id));
            if holder.is_some_and(agrees) { Sway::TieBreak } else { Sway::No }
        }
    }
}

/// Whether those for which `agrees` holds can decide: of a joint membership both halves must. Says
/// whether it took the tie-breaker in any half.
#[must_use]
pub fn decides(membership: &Membership, agrees: &dyn Fn(NodeId) -> bool) -> Sway {
    let incoming = sway(&membership.incoming, agrees);
    let outgoing = membership.outgoing.as_ref().map_or(Sway::Majority, |half| sway(half, agrees));
    match (incoming, outgoing) {
        (Sway::No, _) | (_, Sway::No) => Sway::No,
        (Sway::Majority, Sway::Majority) => Sway::Majority,
        _ => Sway::TieBreak,
    }
}

/// Whether those for which `agrees` holds can decide.
#[must_use]
pub fn is_enough(membership: &Membership, agrees: &dyn Fn(NodeId) -> bool) -> bool {
    decides(membership, agrees) != Sway::No
}

/// The most voters for which [`are_disjoint`] tries every subset.
pub const VOTERS_MAX: usize = 18;

/// Two groups that have nobody in common, one able to decide in `one` and the other in `two`, found
/// by trying every subset; `None` if there are none, so that any two decisions share a voter.
#[must_use]
pub fn are_disjoint(one: &Membership, two: &Membership) -> Option<(Vec<NodeId>, Vec<NodeId>)> {
    let mut everyone = one.voters();
    everyone.extend(two.voters());
    let everyone: Vec<NodeId> = everyone.into_iter().collect();
    if everyone.len() > VOTERS_MAX {
        return None;
    }
    let member = |set: u32, id: NodeId| {
        everyone.iter().position(|e| *e == id).is_some_and(|place| set & (1 << place) != 0)
    };
    let all = (1_u32 << everyone.len()) - 1;
    let set = (0..=all).find(|set| {
        is_enough(one, &|id| member(*set, id)) && is_enough(two, &|id| member(all & !set, id))
    })?;
    let (in_set, rest) = everyone.iter().partition(|id| member(set, **id));
    Some((in_set, rest))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use quorate_core::ConfigVersion;
    use quorate_core::raft::Quorum;

    use super::*;

    fn half(voters: &[u128], tie_breaker: Option<u128>) -> Half {
        Half {
            voters: voters.iter().map(|id| NodeId(*id)).collect(),
            tie_breaker: tie_breaker.map(NodeId),
        }
    }

    fn simple(half: Half) -> Membership {
        let version = ConfigVersion(1);
        Membership { incoming: half, outgoing: None, learners: BTreeSet::new(), version }
    }

    #[test]
    fn half_with_the_tie_breaker_is_enough_and_half_without_is_not() {
        let pair = simple(half(&[1, 2], Some(1)));
        assert_eq!(decides(&pair, &|id| id == NodeId(1)), Sway::TieBreak);
        assert_eq!(decides(&pair, &|id| id == NodeId(2)), Sway::No);
        assert_eq!(decides(&pair, &|_| true), Sway::Majority);
        let three = simple(half(&[1, 2, 3], Some(1)));
        assert_eq!(decides(&three, &|id| id == NodeId(1)), Sway::No);
    }

    #[test]
    fn learners_and_strangers_never_count() {
        let mut membership = simple(half(&[1, 2, 3], Some(1)));
        membership.learners.insert(NodeId(9));
        assert!(!is_enough(&membership, &|id| id.0 == 9 || id.0 == 1 || id.0 == 7));
    }

    #[test]
    fn the_unsafe_single_step_of_the_design_is_found() {
        // {t, b} -> {t, b, c}: {t} and {b, c} are disjoint.
        let before = simple(half(&[1, 2], Some(1)));
        let after = simple(half(&[1, 2, 3], Some(1)));
        assert!(are_disjoint(&before, &after).is_some());
        let joint = Membership { outgoing: Some(before.incoming.clone()), ..after.clone() };
        assert_eq!(are_disjoint(&before, &joint), None);
        assert_eq!(are_disjoint(&joint, &after), None);
    }

    #[test]
    fn core_and_the_checker_agree_on_every_subset_up_to_five_voters() {
        for size in 0..=5_u128 {
            let voters: Vec<u128> = (1..=size).collect();
            for tie_breaker in std::iter::once(None).chain(voters.iter().copied().map(Some)) {
                let membership = simple(half(&voters, tie_breaker));
                for set in 0..1_u32 << size {
                    let agrees = |id: NodeId| set & (1 << (id.0 - 1)) != 0;
                    let ours = is_enough(&membership, &agrees);
                    assert_eq!(
                        ours,
                        Quorum::of(&membership).is_met(agrees),
                        "{membership:?} {set}"
                    );
                }
            }
        }
    }
}
