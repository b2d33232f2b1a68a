//! Changes of membership: the traps others fell into.

use super::super::*;
use super::net::*;
use crate::marks::reaches;

#[test]
fn a_change_is_refused_before_an_entry_of_the_own_term_is_committed() {
    let mut net = Net::of(&[A, B, C]);
    net.pass(1000);
    net.timeout(A);
    net.settle_but(&[]);
    let learner = change(&[A, B, C], &[D], 2);
    net.with(A, |raft, now| raft.transfer(now, B)).unwrap();
    net.deliver_all(A, B);
    net.persist(B);
    net.deliver_all(B, C);
    net.persist(C);
    net.deliver_all(C, B);
    assert!(net.at(B).is_leader() && !net.at(B).is_settled_leader());
    assert_eq!(net.change(B, learner.clone()), Err(ChangeError::NoOwnEntry));
    net.settle();
    assert!(net.change(B, learner).is_ok());
}

#[test]
fn a_membership_is_in_force_at_append_and_reverted_when_truncated() {
    reaches!(LogCut, MembershipCut);
    let mut net = Net::led(&[A, B, C], &[D]);
    let old = net.at(A).membership().clone();
    net.isolate(A);
    net.cut.remove(&(A, B));
    net.change(A, change(&[A, B, C, D], &[], 2)).unwrap();
    while net.persist(A) {}
    net.deliver_all(A, B);
    for node in [A, B] {
        assert!(net.at(node).membership().is_joint(), "in force though not committed");
        assert!(net.at(node).membership_index() > net.at(node).commit());
    }
    // b dies before the entry is durable there; a restarts, and it is still in force.
    net.crash(B, 0);
    net.restart(B);
    assert_eq!(*net.at(B).membership(), old);
    net.crash(A, 0);
    net.restart(A);
    assert!(net.at(A).membership().is_joint());
    // Another leader, who has never heard of it, cuts it off.
    net.cut(A, B);
    net.elect(C);
    net.propose(C, "instead").unwrap();
    net.settle();
    net.heal();
    net.run(1000);
    for node in [A, B, C, D] {
        assert_eq!(*net.at(node).membership(), old, "{node:?}");
        assert_eq!(net.at(node).membership_index(), Index(1));
    }
    net.crash(A, 0);
    net.restart(A);
    assert_eq!(*net.at(A).membership(), old);
}

#[test]
fn a_leader_that_inherits_a_joint_entry_finishes_the_change() {
    reaches!(ElectedUnderJoint);
    let mut net = Net::led(&[A, B, C], &[D]);
    net.cut(A, C);
    net.change(A, change(&[B, C, D], &[], 2)).unwrap();
    net.deliver_all(A, B);
    net.deliver_all(A, D);
    for node in [B, D] {
        while net.persist(node) {}
    }
    net.crash(A, 0);
    assert!(net.at(B).membership().is_joint() && !net.at(C).membership().is_joint());
    net.heal();
    net.run(3000);
    let leader = net.leader().expect("b or d leads");
    assert_ne!(leader, C);
    let done = Membership { version: ConfigVersion(2), ..membership(&[B, C, D], &[]) };
    for node in [B, C, D] {
        assert_eq!(*net.at(node).membership(), done);
        assert!(net.at(node).commit() >= net.at(node).membership_index());
    }
}

#[test]
fn changes_are_not_interleaved() {
    let mut net = Net::led(&[A, B, C], &[D, E]);
    // Not while an entry that changes learners alone is uncommitted,
    net.change(A, change(&[A, B, C], &[D], 2)).unwrap();
    assert_eq!(net.change(A, change(&[A, B, C, D], &[], 3)), Err(ChangeError::InProgress));
    net.settle();
    // not while the membership is joint,
    net.change(A, change(&[A, B, C, D], &[], 3)).unwrap();
    let next = change(&[A, B, C], &[D], 4);
    assert_eq!(net.change(A, next.clone()), Err(ChangeError::InProgress));
    // and not before the entry that leaves it is committed.
    net.persist(A);
    while net.at(A).membership().is_joint() {
        for node in [B, C, D] {
            net.persist(node);
            net.deliver(A, node);
            net.deliver(node, A);
        }
        assert!(net.change(A, next.clone()) == Err(ChangeError::InProgress));
    }
    assert!(net.at(A).membership_index() > net.at(A).commit());
    assert_eq!(net.change(A, next.clone()), Err(ChangeError::InProgress));
    net.settle();
    assert!(net.change(A, next).is_ok());
}

#[test]
fn a_learner_answers_votes_for_it_may_be_a_voter_without_knowing() {
    // {a, b} to {a, b, c}: c has caught up and gets none of the two entries; a dies. b needs c.
    let mut net = Net::led(&[A, B], &[C]);
    net.cut(A, C);
    net.change(A, change(&[A, B, C], &[], 2)).unwrap();
    net.settle();
    net.crash(A, 0);
    assert!(!net.at(C).membership().is_voter(C));
    net.heal();
    net.run(3000);
    assert_eq!(net.leader(), Some(B));
    assert_eq!(net.at(C).vote(), Some(B));
}

#[test]
fn a_learner_stays_a_learner_through_updates_and_counts_for_nothing() {
    let mut net = Net::led(&[A, B], &[C]);
    net.change(A, change(&[A, B], &[C, D], 2)).unwrap();
    net.add(D);
    net.settle();
    net.change(A, change(&[B, A], &[C, D], 3)).unwrap();
    net.settle();
    for node in [A, B, C, D] {
        let membership = net.at(node).membership();
        assert!(!membership.is_joint() && membership.learners.contains(&C));
        assert_eq!(membership.incoming, half(&[B, A]));
        assert_eq!(membership.version, ConfigVersion(3));
    }
    // b is the tie-breaker now: a with both learners is not enough.
    net.cut(A, B);
    let index = net.propose(A, "x").unwrap();
    net.settle();
    assert_eq!(net.copies(index, net.at(A).term()), 3);
    assert!(net.at(A).commit() < index);
    // And no learner campaigns.
    net.crash(A, 0);
    net.crash(B, 0);
    net.run(5000);
    assert_eq!((net.at(C).campaigns(), net.at(D).campaigns()), (0, 0));
}

#[test]
fn a_learner_that_is_unreachable_or_behind_is_not_promoted() {
    let mut net = Net::led(&[A, B], &[C]);
    let promote = || change(&[A, B, C], &[], 2);
    // It holds everything, but has not answered for long.
    net.isolate(C);
    net.run(2000);
    assert_eq!(net.change(A, promote()), Err(ChangeError::NotCaughtUp(C)));
    // It answers, but lacks what is committed.
    net.propose(A, "x").unwrap();
    net.settle();
    net.cut.clear();
    net.run_but(500, &[C]);
    assert!(net.at(A).is_active(net.now, C));
    assert_eq!(net.change(A, promote()), Err(ChangeError::NotCaughtUp(C)));
    // It has never been a learner.
    net.add(D);
    let stranger = change(&[A, B, D], &[C], 2);
    assert_eq!(net.change(A, stranger), Err(ChangeError::NotCaughtUp(D)));
    net.run(3000);
    assert!(net.change(A, promote()).is_ok());
}

#[test]
fn a_leader_that_removes_itself_leads_until_that_is_committed_without_counting_itself() {
    let mut net = Net::led(&[A, B, C, D], &[]);
    let term = net.at(A).term();
    net.change(A, change(&[B, C, D], &[], 2)).unwrap();
    net.persist(A);
    net.cut(A, D);
    for node in [B, C] {
        net.deliver_all(A, node);
        net.persist(node);
        net.deliver_all(node, A);
    }
    assert!(!net.at(A).membership().is_voter(A), "the joint entry is committed, the next appended");
    net.persist(A);
    net.lose(A, C);
    net.deliver_all(A, B);
    net.persist(B);
    net.deliver_all(B, A);
    // a and b hold it: two of four, but one of the three that count.
    assert!(net.at(A).membership_index() > net.at(A).commit());
    assert!(net.at(A).is_leader());
    net.heal();
    net.run(2 * HEARTBEAT_MS);
    // It hands over, and nobody waits for an election time-out.
    let leader = net.leader().expect("one of the others leads");
    assert_ne!(leader, A);
    assert_eq!(net.at(leader).term(), term.next());
    assert!(!net.at(A).is_leader());
    net.run(2000);
    assert_eq!(net.at(leader).term(), term.next(), "and a does not disturb");
}

#[test]
fn leadership_is_not_handed_to_a_node_that_is_out_or_going_out_or_a_learner() {
    let mut net = Net::led(&[A, B, C, D], &[E]);
    let to = |net: &mut Net, node| net.with(A, |raft, now| raft.transfer(now, node));
    assert_eq!(to(&mut net, E), Err(TransferError::NotVoter));
    assert_eq!(to(&mut net, A), Err(TransferError::NotVoter));
    net.change(A, change(&[A, B, C], &[E], 2)).unwrap();
    assert!(net.at(A).membership().is_joint());
    assert_eq!(to(&mut net, D), Err(TransferError::NotVoter), "a voter of the old half only");
    net.settle();
    assert_eq!(to(&mut net, D), Err(TransferError::NotVoter));
    assert!(!net.at(A).is_transferring());
    assert_eq!(to(&mut net, B), Ok(()));
}

#[test]
fn a_change_is_refused_while_leadership_is_handed_over() {
    let mut net = Net::led(&[A, B, C], &[]);
    net.cut(A, B);
    net.with(A, |raft, now| raft.transfer(now, B)).unwrap();
    let refused = net.change(A, change(&[A, B, C], &[D], 2));
    assert_eq!(refused, Err(ChangeError::Transferring));
}

#[test]
fn the_tie_breaker_moves_while_its_holder_is_away_and_only_one_side_decides_after() {
    let mut net = Net::led(&[A, B, C, D], &[]);
    net.isolate(A);
    net.elect(B);
    net.change(B, change(&[B, A, C, D], &[], 2)).unwrap();
    net.cut(B, D);
    net.settle();
    assert!(
        net.at(B).membership().is_joint(),
        "b and c are half of the old, without its tie-breaker"
    );
    net.cut.retain(|(from, to)| [*from, *to].contains(&A));
    net.with(B, |raft, now| raft.link_open(now, D));
    net.settle();
    assert_eq!(net.at(B).membership().incoming, half(&[B, A, C, D]));
    // Two and two: a believes that it is still the tie-breaker, and finds d.
    net.heal();
    for (one, other) in [(A, B), (A, C), (D, B), (D, C)] {
        net.cut(one, other);
    }
    net.run(5000);
    assert_eq!(net.leader(), Some(B));
    assert!(!net.at(A).is_leader() && !net.at(D).is_leader());
    let index = net.propose(B, "decided").unwrap();
    net.run(1000);
    assert!(net.at(B).commit() >= index);
}

#[test]
fn a_tie_breaker_of_two_does_not_move_while_its_holder_is_away() {
    let mut net = Net::led(&[A, B], &[]);
    net.crash(A, 0);
    net.run(5000);
    assert_eq!(net.leader(), None, "b alone decides nothing");
    let refused = net.change(B, change(&[B, A], &[], 2));
    assert_eq!(refused, Err(ChangeError::NotLeader));
}

#[test]
fn a_change_from_an_older_configuration_version_is_refused() {
    let mut net = Net::led(&[A, B, C], &[D]);
    net.change(A, change(&[A, B, C], &[], 5)).unwrap();
    net.settle();
    let older = net.change(A, change(&[A, B], &[], 4));
    let (asked, held) = (ConfigVersion(4), ConfigVersion(5));
    assert_eq!(older, Err(ChangeError::OldVersion { asked, held }));
    // One version may take several steps.
    assert!(net.change(A, change(&[A, B], &[], 5)).is_ok());
    net.settle();
    // What a successor inherits counts too.
    net.with(A, |raft, now| raft.transfer(now, B)).unwrap();
    net.settle();
    let older = net.change(B, change(&[A], &[], 3));
    let asked = ConfigVersion(3);
    assert_eq!(older, Err(ChangeError::OldVersion { asked, held }));
}

#[test]
fn a_change_must_leave_voters_a_tie_breaker_among_them_and_nobody_twice() {
    let mut net = Net::led(&[A, B, C], &[D]);
    let mut nobody = change(&[], &[D], 2);
    assert_eq!(net.change(A, nobody.clone()), Err(ChangeError::Malformed));
    nobody.half = Half { tie_breaker: Some(D), ..half(&[A, B, C]) };
    assert_eq!(net.change(A, nobody), Err(ChangeError::Malformed));
    let twice = change(&[A, B, C], &[C, D], 2);
    assert_eq!(net.change(A, twice), Err(ChangeError::Malformed));
    assert_eq!(net.change(B, change(&[A, B], &[], 2)), Err(ChangeError::NotLeader));
}

#[test]
fn joint_decisions_need_both_halves() {
    // {a*, b} to {b*, c}, a leading: neither a with c nor b with c is enough meanwhile.
    for (helper, enough) in [(C, false), (B, true)] {
        let mut net = Net::led(&[A, B], &[C]);
        net.change(A, change(&[B, C], &[], 2)).unwrap();
        while net.persist(A) {}
        net.deliver_all(A, helper);
        while net.persist(helper) {}
        net.deliver_all(helper, A);
        assert_eq!(!net.at(A).membership().is_joint(), enough, "with {helper:?}");
    }
}

#[test]
fn only_learners_change_without_a_joint_step() {
    let mut net = Net::led(&[A, B, C], &[]);
    net.add(D);
    net.change(A, change(&[A, B, C], &[D], 2)).unwrap();
    assert!(!net.at(A).membership().is_joint());
    net.settle();
    net.change(A, change(&[B, A, C], &[D], 3)).unwrap();
    assert!(net.at(A).membership().is_joint(), "the tie-breaker alone is a joint change");
}
