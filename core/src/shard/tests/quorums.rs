use std::time::Duration;

use super::super::*;
use super::world::*;
use crate::configuration::QuorumRule;
use crate::marks::reaches;

fn with_quorum(voters: &[NodeId], write_quorum: QuorumRule) -> (World, NodeId) {
    let (mut world, owner) = World::led(voters);
    let terms = Terms { write_quorum, ..world.terms.clone() };
    world.set_terms(terms);
    (world, owner)
}

#[test]
fn a_write_quorum_counts_voters() {
    let cases = [
        (QuorumRule::Majority, 1, 1),
        (QuorumRule::Majority, 2, 2),
        (QuorumRule::Majority, 3, 2),
        (QuorumRule::Majority, 4, 3),
        (QuorumRule::All, 4, 4),
        (QuorumRule::Count(1), 5, 1),
        (QuorumRule::Count(7), 5, 7),
    ];
    for (quorum, voters, needed) in cases {
        assert_eq!(quorum.copies(voters), needed, "{quorum:?} of {voters}");
    }
}

#[test]
fn of_two_copies_one_alone_does_not_write_and_says_who_is_missing() {
    let (mut world, owner) = with_quorum(&[A, B], QuorumRule::Majority);
    let other = world.other_than(owner);
    // The tie-breaker goes on leading; it could commit by itself.
    let (tie, gone) = if owner == A { (owner, other) } else { (other, owner) };
    world.kill(gone, 0, false);
    world.run(3000);
    assert_eq!(world.owner(), Some(tie));
    let id = world.write(tie, insert(1));
    world.settle();
    let missing = vec![gone];
    assert_eq!(world.error(id), ShardError::NoQuorum { missing, needed: 2, voters: 2 });
    world.start(gone);
    world.run(3000);
    let id = world.write(tie, insert(2));
    world.run(500);
    assert!(matches!(world.replies[&id], Reply::Done { .. }), "{:?}", world.replies[&id]);
    assert_eq!(world.keys(tie), [2].into());
}

#[test]
fn a_number_lets_the_tie_breaker_write_alone() {
    let (mut world, owner) = with_quorum(&[A, B], QuorumRule::Count(1));
    let gone = if owner == A { world.other_than(owner) } else { owner };
    world.kill(gone, 0, false);
    world.run(3000);
    let tie = world.owner().expect("the tie-breaker leads");
    let id = world.write(tie, insert(1));
    world.run(100);
    assert!(matches!(world.replies[&id], Reply::Done { .. }), "{:?}", world.replies[&id]);
}

#[test]
fn all_means_all_and_a_copy_lost_in_between_leaves_a_commit_below_the_quorum() {
    reaches!(BelowQuorum);
    let (mut world, owner) = with_quorum(&[A, B, C], QuorumRule::All);
    let id = world.write(owner, insert(1));
    world.settle();
    assert!(matches!(world.replies[&id], Reply::Done { .. }));
    let slow = world.other_than(owner);
    world.cut(owner, slow);
    let id = world.write(owner, insert(2));
    world.settle();
    assert!(!world.replies.contains_key(&id), "committed, and not on all");
    assert!(world.keys(owner).contains(&2));
    world.run(5200);
    assert!(matches!(world.error(id), ShardError::CommittedBelowQuorum { .. }));
    let id = world.write(owner, insert(3));
    world.settle();
    assert_eq!(world.error(id), ShardError::NoQuorum { missing: vec![slow], needed: 3, voters: 3 });
}

#[test]
fn asynchronous_means_answered_at_the_commit_never_before() {
    let (mut world, owner) = with_quorum(&[A, B, C], QuorumRule::All);
    let terms = Terms { asynchronous: true, ..world.terms.clone() };
    world.set_terms(terms);
    let slow = world.other_than(owner);
    world.cut(owner, slow);
    let id = world.write(owner, insert(1));
    while world.step_engine(owner) {}
    assert!(!world.replies.contains_key(&id));
    world.settle();
    assert!(matches!(world.replies[&id], Reply::Done { .. }));
}

#[test]
fn an_owner_cut_off_with_an_open_batch_does_not_know_what_became_of_it() {
    reaches!(OpenUndone);
    let (mut world, owner) = World::led(&[A, B, C]);
    let others: Vec<NodeId> = [A, B, C].into_iter().filter(|n| *n != owner).collect();
    others.iter().for_each(|other| world.cut(owner, *other));
    let id = world.write(owner, insert(1));
    world.run(6000);
    assert_eq!(world.error(id), ShardError::OutcomeUnknown);
    assert!(!world.keys(owner).contains(&1), "what was open is undone");
    let next = world.owner().expect("the others go on");
    let id = world.write(next, insert(2));
    world.settle();
    assert!(matches!(world.replies[&id], Reply::Done { .. }));
    world.cut.clear();
    world.run(2000);
    assert_eq!(world.keys(owner), [2].into());
}

#[test]
fn an_entry_that_the_next_owner_commits_is_answered_as_done_by_the_one_that_ran_it() {
    reaches!(CommittedAfterAll);
    let (mut world, owner) = World::led(&[A, B, C]);
    let id = world.write(owner, insert(1));
    world.step_engine(owner);
    // The entry reaches the others, their answers are lost, and one of them is elected.
    let others: Vec<NodeId> = [A, B, C].into_iter().filter(|n| *n != owner).collect();
    for other in &others {
        while world.deliver(owner, *other) {}
        while world.persist(*other) {}
        world.cut(owner, *other);
        world.wires.remove(&(*other, owner));
    }
    world.run(2000);
    assert!(!world.replies.contains_key(&id), "{:?}", world.replies.get(&id));
    world.cut.clear();
    world.run(1500);
    assert!(matches!(world.replies[&id], Reply::Done { .. }), "{:?}", world.replies[&id]);
    assert!([A, B, C].into_iter().all(|n| world.keys(n) == [1].into()));
}

#[test]
fn what_a_tie_breaker_commits_alone_waits_for_the_majority_that_is_asked_for() {
    let (mut world, owner) = with_quorum(&[A, B], QuorumRule::Majority);
    if owner != A {
        let terms = Terms { preferred: Some(A), ..world.terms.clone() };
        world.set_terms(terms);
        world.run(2000);
    }
    world.run(500);
    let id = world.write(A, insert(1));
    while world.step_engine(A) || world.persist(A) {}
    assert!(world.keys(A).contains(&1), "the tie-breaker commits it");
    assert!(!world.replies.contains_key(&id), "on one copy of two");
    world.settle();
    assert!(matches!(world.replies[&id], Reply::Done { .. }));
}

#[test]
fn a_new_owner_waits_a_moment_for_the_others_before_it_says_that_they_are_missing() {
    let (mut world, owner) = with_quorum(&[A, B, C], QuorumRule::All);
    world.run(500);
    let next = world.other_than(owner);
    let third = [A, B, C].into_iter().find(|n| ![owner, next].contains(n)).unwrap();
    world.set_terms(Terms { preferred: Some(next), ..world.terms.clone() });
    // What the third one answers comes late.
    for _ in 0..200 {
        if world.at(next).log().is_settled_leader() {
            break;
        }
        world.now = world.now + Duration::from_millis(1);
        world.tick_all();
        for (from, to) in [(owner, next), (next, owner)] {
            while world.deliver(from, to) {}
        }
        for node in [owner, next] {
            while world.persist(node) || world.step_engine(node) {}
        }
    }
    assert!(world.at(next).log().is_settled_leader());
    let id = world.write(next, insert(1));
    while world.step_engine(next) {}
    assert!(!world.replies.contains_key(&id), "{:?}", world.replies.get(&id));
    while world.deliver(third, next) {}
    world.run(100);
    assert!(matches!(world.replies[&id], Reply::Done { .. }), "{:?}", world.replies.get(&id));
}

#[test]
fn a_transaction_that_failed_in_a_batch_below_the_quorum_is_told_of_its_failure() {
    let (mut world, owner) = with_quorum(&[A, B, C], QuorumRule::All);
    let first = world.write(owner, insert(1));
    world.settle();
    assert!(matches!(world.replies[&first], Reply::Done { .. }));
    let slow = world.other_than(owner);
    world.cut(owner, slow);
    // While one runs, the next two gather: they become one batch, in which the second fails.
    let before = world.write(owner, insert(2));
    let good = world.write(owner, insert(3));
    let bad = world.write(owner, insert(1));
    world.run(6000);
    for id in [before, good] {
        assert!(matches!(world.error(id), ShardError::CommittedBelowQuorum { .. }));
    }
    assert!(matches!(world.error(bad), ShardError::Sql(_)), "{:?}", world.error(bad));
}

/// All copies count, and logs let go at once of what all copies hold.
fn with_short_logs() -> (World, NodeId) {
    let (mut world, _) = with_quorum(&[A, B, C], QuorumRule::All);
    world.window = crate::storage::Window { entries_max: 3, bytes_max: usize::MAX };
    world.limits.sync_after = 1;
    world.limits.retain_bytes = 1;
    world.limits.retain_age = Duration::ZERO;
    for node in [A, B, C] {
        world.kill(node, usize::MAX, false);
        world.start(node);
    }
    world.run(3000);
    let owner = world.owner().expect("somebody leads");
    (world, owner)
}

/// The server is taken out of the shard, and so much is written then that the logs begin behind `at`.
fn without(world: &mut World, owner: NodeId, gone: NodeId, at: Index) {
    let voters = [A, B, C].into_iter().filter(|node| *node != gone).collect();
    let half = crate::raft::Half { voters, tie_breaker: Some(owner) };
    let version = crate::ids::ConfigVersion(2);
    let change = crate::raft::Change { half, learners: std::collections::BTreeSet::new(), version };
    world.with(owner, |shard, now| shard.change(now, change)).expect("it leads");
    world.settle();
    for key in 100..120 {
        let later = world.write(owner, insert(key));
        world.settle();
        assert!(matches!(world.replies[&later], Reply::Done { .. }), "{:?}", world.replies[&later]);
    }
    assert!(world.at(owner).log().snapshot().index > at, "the log begins behind it");
}

#[test]
fn whoever_asks_again_is_not_told_that_a_later_membership_holds_what_its_own_does_not() {
    let (mut world, owner) = with_short_logs();
    let session = world.session(owner);
    let once = |sequence| {
        let (session, acknowledged) = (session, 0);
        let (cluster, log) = (CLUSTER, LOG);
        Delivery::Once(Once { cluster, log, session, sequence, acknowledged })
    };
    let slow = world.other_than(owner);
    world.cut(owner, slow);
    let first = world.send(owner, insert(1), once(1));
    world.settle();
    let at = world.at(owner).position().index;
    without(&mut world, owner, slow, at);
    world.run(6000);
    assert!(matches!(world.error(first), ShardError::CommittedBelowQuorum { .. }));
    let again = world.send(owner, insert(1), once(1));
    world.run(6000);
    assert!(matches!(world.error(again), ShardError::CommittedBelowQuorum { .. }));
    let fresh = world.send(owner, insert(2), once(2));
    world.settle();
    assert!(matches!(world.replies[&fresh], Reply::Done { .. }), "{:?}", world.replies[&fresh]);
}

#[test]
fn the_voters_of_its_entry_have_to_hold_a_write_even_when_the_log_has_let_go_of_both() {
    let (mut world, owner) = with_short_logs();
    let slow = world.other_than(owner);
    world.cut(owner, slow);
    let id = world.write(owner, insert(1));
    world.settle();
    assert!(!world.replies.contains_key(&id), "committed, and not on all");
    let at = world.at(owner).position().index;
    // The one that is missing is taken out: all that follows is on all that are left.
    without(&mut world, owner, slow, at);
    assert!(!world.replies.contains_key(&id), "{:?}", world.replies.get(&id));
    world.run(6000);
    assert!(matches!(world.error(id), ShardError::CommittedBelowQuorum { .. }));
}

#[test]
fn an_entry_that_another_has_replaced_was_never_done_and_is_told_so() {
    reaches!(AppendedInVain);
    let (mut world, owner) = World::led(&[A, B, C]);
    let others: Vec<NodeId> = [A, B, C].into_iter().filter(|n| *n != owner).collect();
    others.iter().for_each(|other| world.cut(owner, *other));
    let id = world.write(owner, insert(1));
    world.run(2000);
    let next = world.owner().expect("the others go on");
    world.write(next, insert(2));
    world.settle();
    assert!(!world.replies.contains_key(&id), "nobody knows yet");
    world.cut.clear();
    world.run(1500);
    assert_eq!(world.error(id), ShardError::NotOwner { owner: Some(next) });
    assert!([A, B, C].into_iter().all(|n| world.keys(n) == [2].into()));
}
