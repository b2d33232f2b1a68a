//! Every quorum up to seven voters, with every tie-breaker and with none.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::{ConfigVersion, Half, Index, Membership, NodeId, Quorum};

/// The voters at the one-bits of `bits`.
fn nodes(bits: u8) -> BTreeSet<NodeId> {
    (0..8).filter(|i| bits & (1 << i) != 0).map(|i| NodeId(i + 1)).collect()
}

fn bit(node: NodeId) -> u8 {
    1 << (node.0 - 1)
}

/// Every half whose voters are at one-bits of `universe`, with every tie-breaker and none.
fn halves(universe: u8) -> Vec<Half> {
    let mut all = Vec::new();
    for bits in (1..=u8::MAX >> 1).filter(|bits| bits & !universe == 0) {
        let voters = nodes(bits);
        all.push(Half { voters: voters.clone(), tie_breaker: None });
        let with = |tie: &NodeId| Half { voters: voters.clone(), tie_breaker: Some(*tie) };
        all.extend(voters.iter().map(with));
    }
    all
}

fn joint(outgoing: &Half, incoming: &Half) -> Membership {
    Membership {
        incoming: incoming.clone(),
        outgoing: Some(outgoing.clone()),
        learners: BTreeSet::new(),
        version: ConfigVersion(1),
    }
}

fn met(half: &Half, bits: u8) -> bool {
    Quorum::of_half(half).is_met(|node| bits & bit(node) != 0)
}

fn joint_met(membership: &Membership, bits: u8) -> bool {
    Quorum::of(membership).is_met(|node| bits & bit(node) != 0)
}

/// For each set of nodes, whether it is a quorum: bit `s` for the set `s`.
fn table(half: &Half) -> u128 {
    (0..128).filter(|s| met(half, *s)).fold(0, |table, s| table | 1 << s)
}

#[test]
fn a_quorum_is_a_majority_or_half_with_the_tie_breaker_at_every_size_up_to_seven() {
    for half in halves(0x7f) {
        let size = half.voters.len();
        for bits in 0..128 {
            let agree = nodes(bits).intersection(&half.voters).count();
            let tie = half.tie_breaker.is_some_and(|tie| bits & bit(tie) != 0);
            let enough = agree * 2 > size || (agree * 2 == size && tie);
            assert_eq!(met(&half, bits), enough, "{half:?} with {:?}", nodes(bits));
        }
    }
}

#[test]
fn any_two_quorums_of_one_membership_intersect() {
    for half in halves(0x7f) {
        for one in (0..128).filter(|s| met(&half, *s)) {
            // A quorum that does not meet it would lie in its complement.
            assert!(!met(&half, !one & 0x7f), "{half:?}: {one:b} and its complement");
        }
    }
}

#[test]
fn more_agreement_never_unmakes_a_quorum() {
    for half in halves(0x7f) {
        for (bits, one_more) in (0..128).flat_map(|s| (0..7).map(move |i| (s, s | 1 << i))) {
            assert!(!met(&half, bits) || met(&half, one_more), "{half:?}: {bits:b}, {one_more:b}");
        }
    }
}

#[test]
fn a_joint_quorum_is_a_quorum_of_both_halves() {
    let halves = halves(0x1f);
    for old in &halves {
        for new in &halves {
            let membership = joint(old, new);
            for bits in 0..32 {
                let both = met(old, bits) && met(new, bits);
                assert_eq!(joint_met(&membership, bits), both, "{membership:?} with {bits:b}");
            }
        }
    }
}

#[test]
fn quorums_of_adjacent_memberships_intersect_through_the_joint_step_up_to_seven_voters() {
    // A joint quorum is a quorum of both halves (shown above), so its table is their conjunction.
    let tables: Vec<u128> = halves(0x7f).iter().map(table).collect();
    for old in &tables {
        for new in &tables {
            let joint = old & new;
            assert_ne!(joint, 0, "all of them together are a joint quorum");
            // The complement of set s is set 127 - s: reversed bits are the complements' table.
            let met_in_old = joint & old.reverse_bits();
            let met_in_new = joint & new.reverse_bits();
            assert_eq!((met_in_old, met_in_new), (0, 0), "a joint quorum misses one of a half");
        }
    }
}

#[test]
fn a_single_step_change_would_be_unsafe() {
    // {t, b} -> {t, b, c}: t alone decides in the old, b and c in the new one.
    let (t, b, c) = (NodeId(1), NodeId(2), NodeId(3));
    let old = Half { voters: BTreeSet::from([t, b]), tie_breaker: Some(t) };
    let new = Half { voters: BTreeSet::from([t, b, c]), tie_breaker: Some(t) };
    assert!(Quorum::of_half(&old).is_met(|n| n == t));
    assert!(Quorum::of_half(&new).is_met(|n| n == b || n == c));
    // And through the joint step neither can decide.
    let joint = joint(&old, &new);
    assert!(!Quorum::of(&joint).is_met(|n| n == t));
    assert!(!Quorum::of(&joint).is_met(|n| n == b || n == c));
}

#[test]
fn with_a_tie_breaker_every_growth_of_an_even_half_by_one_has_two_disjoint_quorums() {
    let mut found = 0;
    for old in halves(0x3f).iter().filter(|h| h.voters.len() % 2 == 0) {
        let Some(tie) = old.tie_breaker else { continue };
        let newcomer = NodeId(7);
        let mut voters = old.voters.clone();
        voters.insert(newcomer);
        let new = Half { voters, tie_breaker: Some(tie) };
        let everyone = nodes(0x7f).iter().map(|n| bit(*n)).sum::<u8>();
        let disjoint = (0..128).find(|s| met(old, *s) && met(&new, everyone & !s));
        assert!(disjoint.is_some(), "{old:?} -> {new:?}");
        found += 1;
    }
    // And without one, none has: which is why the paper may change one server at a time.
    for old in halves(0x3f).iter().filter(|h| h.tie_breaker.is_none()) {
        let mut voters = old.voters.clone();
        voters.insert(NodeId(7));
        let new = Half { voters, tie_breaker: None };
        assert!((0..128).all(|s| !met(old, s) || !met(&new, 0x7f & !s)), "{old:?} -> {new:?}");
    }
    assert_eq!(found, 15 * 2 + 15 * 4 + 6, "every pair, every four and every six of six");
}

#[test]
fn a_tie_breaker_changes_nothing_at_odd_sizes() {
    for half in halves(0x7f).iter().filter(|h| h.voters.len() % 2 == 1) {
        let plain = Half { tie_breaker: None, ..half.clone() };
        assert_eq!(table(half), table(&plain), "{half:?}");
    }
}

#[test]
fn without_voters_nothing_is_enough() {
    assert!(!Quorum::of_half(&Half::default()).is_met(|_| true));
    assert_eq!(Quorum::of(&Membership::default()).index(|_| Index(9)), Index::ZERO);
    let to_nobody = joint(&Half { voters: nodes(1), tie_breaker: None }, &Half::default());
    assert!(!Quorum::of(&to_nobody).is_met(|_| true));
}

#[test]
fn a_learner_counts_for_nothing() {
    let mut membership = joint(&halves(0x3)[0], &halves(0x3)[0]);
    membership.learners = nodes(0x7c);
    for bits in 0..128 {
        assert_eq!(joint_met(&membership, bits), joint_met(&membership, bits & !0x7c));
    }
    assert_eq!(Quorum::of(&membership).index(|n| Index(u64::from(bit(n) > 3))), Index::ZERO);
}

#[test]
fn a_vote_is_lost_exactly_when_those_who_may_still_agree_are_not_enough() {
    for half in halves(0x1f) {
        for refuse in 0..32 {
            let lost = Quorum::of_half(&half).is_lost(|n| refuse & bit(n) != 0);
            // Whoever has not refused may still agree, in any combination.
            let winnable = (0..32).any(|agree| agree & refuse == 0 && met(&half, agree));
            assert_eq!(lost, !winnable, "{half:?} when {refuse:b} refuse");
        }
    }
}

/// The highest index that a quorum holds, by trying each.
fn brute_force(enough: impl Fn(u8) -> bool, held: &[u64]) -> Index {
    let holders = |index: u64| {
        (0..held.len()).filter(|i| held[*i] >= index).fold(0_u8, |bits, i| bits | 1 << i)
    };
    let highest = held.iter().copied().max().unwrap_or(0);
    Index((0..=highest).rev().find(|index| enough(holders(*index))).unwrap_or(0))
}

fn index_of(quorum: Quorum<'_>, held: &[u64]) -> Index {
    quorum.index(|node| Index(held[usize::try_from(node.0).unwrap() - 1]))
}

#[test]
fn the_index_a_quorum_holds_agrees_with_brute_force() {
    for half in halves(0x1f) {
        for number in 0..4_u64.pow(5) {
            let held: Vec<u64> = (0..5).map(|i| number / 4_u64.pow(i) % 4).collect();
            let expected = brute_force(|bits| met(&half, bits), &held);
            assert_eq!(index_of(Quorum::of_half(&half), &held), expected, "{half:?} {held:?}");
        }
    }
}

fn any_half() -> impl Strategy<Value = Half> {
    (1_u8..128, 0_usize..8).prop_map(|(bits, tie)| {
        let voters = nodes(bits);
        let tie_breaker = voters.iter().nth(tie).copied();
        Half { voters, tie_breaker }
    })
}

proptest! {
    #[test]
    fn the_joint_index_is_the_lower_of_both_halves(
        old in any_half(),
        new in any_half(),
        held in prop::collection::vec(0_u64..12, 7),
    ) {
        let membership = joint(&old, &new);
        let index = index_of(Quorum::of(&membership), &held);
        let lower = index_of(Quorum::of_half(&old), &held)
            .min(index_of(Quorum::of_half(&new), &held));
        prop_assert_eq!(index, lower);
        prop_assert_eq!(index, brute_force(|bits| joint_met(&membership, bits), &held));
    }

    #[test]
    fn a_joint_quorum_of_seven_is_a_quorum_of_both_halves(
        old in any_half(),
        new in any_half(),
        bits in 0_u8..128,
    ) {
        let both = met(&old, bits) && met(&new, bits);
        prop_assert_eq!(joint_met(&joint(&old, &new), bits), both);
    }
}
