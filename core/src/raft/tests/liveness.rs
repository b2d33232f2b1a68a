//! What must go on again by itself, whatever stopped it.

use super::super::*;
use super::net::*;
use crate::marks::reaches;

#[test]
fn a_pre_vote_of_a_voter_in_a_lower_term_counts() {
    // b was promoted and does not know it yet, so that it never campaigns itself. a has been a
    // candidate, its request to b was lost: a is in term 3, b in term 2.
    let mut net = Net::led(&[C, A], &[B]);
    net.cut(C, B);
    net.cut(A, B);
    net.change(C, change(&[A, B, C], &[], 2)).unwrap();
    net.settle();
    net.crash(C, 0);
    net.heal();
    net.pass(1000);
    net.timeout(A);
    net.deliver_all(A, B);
    net.deliver_all(B, A);
    net.persist(A);
    net.lose_everything();
    assert_eq!((net.at(A).term(), net.at(A).role()), (Term(3), Role::Candidate));
    assert_eq!(net.at(B).term(), Term(2));
    assert!(!net.at(B).membership().is_voter(B));

    net.run(3000);
    assert_eq!(net.leader(), Some(A));
    assert!(net.at(B).membership().is_voter(B));
}

#[test]
fn a_leader_that_was_cut_off_while_removing_itself_finishes_it() {
    // Thesis, section 4.2.2: a server that is not in its latest membership must still campaign
    // while that is uncommitted. Here b needs a's vote by the joint membership, and a must refuse
    // it, for a's log is longer.
    let mut net = Net::led(&[A, B], &[]);
    net.change(A, change(&[B], &[], 2)).unwrap();
    net.settle_but(&[A]);
    net.cut(A, B);
    net.persist(A);
    assert!(!net.at(A).membership().is_joint() && !net.at(A).membership().is_voter(A));
    assert!(net.at(B).membership().is_joint());
    net.run(3000);
    assert_eq!(net.leader(), None);

    net.heal();
    net.run(3000);
    assert_eq!(net.leader(), Some(B));
    assert_eq!(
        *net.at(B).membership(),
        Membership { version: ConfigVersion(2), ..membership(&[B], &[]) }
    );
}

#[test]
fn a_leader_that_crashes_while_removing_itself_finishes_it() {
    let mut net = Net::led(&[A, B], &[]);
    net.change(A, change(&[B], &[A], 2)).unwrap();
    net.settle_but(&[A]);
    net.cut(A, B);
    net.persist(A);
    net.persist(A);
    net.crash(A, 0);
    assert!(net.host(A).disk().entries.last().unwrap().index > net.at(B).last_index());
    net.restart(A);
    net.heal();
    net.run(3000);
    assert_eq!(net.leader(), Some(B));
    assert!(!net.at(B).membership().is_joint());
    assert_eq!(net.at(A).role(), Role::Follower);
    assert_eq!(net.at(A).commit(), net.at(B).commit());
}

#[test]
fn a_tie_breaker_that_restarts_does_not_disrupt_the_leader_of_two() {
    let mut net = Net::led(&[A, B], &[]);
    net.with(A, |raft, now| raft.transfer(now, B)).unwrap();
    net.settle();
    let term = net.at(B).term();
    net.crash(A, 0);
    net.restart(A);
    net.heal();
    net.with(B, |raft, now| raft.link_open(now, A));
    net.run(3000);
    assert_eq!((net.leader(), net.at(B).term()), (Some(B), term));
}

#[test]
fn a_tie_breaker_of_two_that_restarts_alone_leads() {
    let mut net = Net::led(&[A, B], &[]);
    net.crash(B, 0);
    net.crash(A, 0);
    net.restart(A);
    net.run(ELECTION_MAX_MS + 10);
    assert_eq!(net.leader(), Some(A));
}

#[test]
fn a_single_voter_that_restarts_leads_at_once() {
    let mut net = Net::led(&[A], &[]);
    net.crash(A, 0);
    net.restart(A);
    net.run(5);
    assert_eq!(net.leader(), Some(A));
}

/// Lets `steps` single things happen, one disk or one message at a time, in a fixed order.
fn take_steps(net: &mut Net, mut steps: usize) -> bool {
    loop {
        let mut quiet = true;
        for node in net.nodes() {
            for other in net.nodes() {
                let did = if node == other { net.persist(node) } else { net.deliver(node, other) };
                if did {
                    quiet = false;
                    if steps == 0 {
                        return true;
                    }
                    steps -= 1;
                }
            }
        }
        if quiet {
            return false;
        }
    }
}

/// A leads `voters` and `learners`, is asked for `to`, and dies after each possible number of steps.
fn dies_at_each_step(voters: &[NodeId], learners: &[NodeId], to: &[NodeId], returns: bool) {
    for steps in 0.. {
        let mut net = Net::led(voters, learners);
        let old = net.at(A).membership().clone();
        net.change(A, change(to, &[], 2)).unwrap();
        let more = take_steps(&mut net, steps);
        net.crash(A, steps % 3);
        if returns {
            net.restart(A);
        }
        net.run(4000);
        let leader = net.leader().unwrap_or_else(|| panic!("nobody leads after step {steps}"));
        let raft = net.at(leader);
        let new = Membership { version: ConfigVersion(2), ..membership(to, &[]) };
        assert!(*raft.membership() == old || *raft.membership() == new, "after step {steps}");
        assert!(raft.membership_index() <= raft.commit(), "after step {steps}");
        assert!(raft.membership().is_voter(leader), "after step {steps}");
        for voter in raft.membership().voters() {
            let behind = net.is_up(voter) && net.at(voter).commit() < raft.commit();
            assert!(!behind, "{voter:?} after step {steps}");
        }
        if !more {
            assert!(steps > 10 && *raft.membership() == new);
            return;
        }
    }
}

#[test]
fn a_change_ends_whenever_its_leader_dies() {
    dies_at_each_step(&[A, B, C], &[D], &[B, C, D], false);
    dies_at_each_step(&[A, B, C], &[D], &[B, A, C, D], false);
    dies_at_each_step(&[A, B, C, D], &[], &[B, C, D], false);
}

#[test]
fn a_change_ends_whenever_its_leader_dies_and_returns() {
    dies_at_each_step(&[A, B], &[], &[B], true);
    dies_at_each_step(&[A, B], &[C], &[C], true);
    dies_at_each_step(&[A, B], &[C, D], &[C, D], true);
    dies_at_each_step(&[A], &[B], &[B, A], true);
}

#[test]
fn a_removed_node_that_goes_on_campaigning_disturbs_nobody() {
    let mut net = Net::led(&[A, B, C], &[]);
    net.change(A, change(&[A, B], &[], 2)).unwrap();
    net.settle();
    let term = net.at(A).term();
    assert!(net.at(C).membership().is_joint(), "that it is out, its own log does not say");
    net.run(10_000);
    assert!(net.at(C).campaigns() > 5);
    assert_eq!((net.leader(), net.at(A).term()), (Some(A), term));
    // Nor is it elected when there is no leader: its log ends before the change does.
    net.crash(A, 0);
    net.run(10_000);
    assert_eq!(net.leader(), None);
    net.restart(A);
    net.run(3000);
    assert_ne!(net.leader(), Some(C));
    assert!(net.leader().is_some());
}

#[test]
fn learners_that_never_answer_hold_nothing_up() {
    let mut net = Net::led(&[A, B, C], &[]);
    net.change(A, change(&[A, B, C], &[D, E], 2)).unwrap();
    net.settle();
    for number in 0..20 {
        let index = net.propose(A, &format!("{number}")).unwrap();
        net.run(100);
        assert!(net.at(A).commit() >= index);
    }
    net.with(A, |raft, now| raft.transfer(now, B)).unwrap();
    net.settle();
    assert_eq!(net.leader(), Some(B));
    let next = net.change(B, change(&[B, A], &[D, E], 3));
    assert!(next.is_ok());
    net.settle();
    assert!(!net.at(B).membership().is_joint());
}

#[test]
fn a_demoted_voter_that_led_gives_way_and_learns_on() {
    reaches!(LeaderLeftOut);
    let mut net = Net::led(&[A, B, C], &[]);
    net.change(A, change(&[B, C], &[A], 2)).unwrap();
    net.run(1000);
    let leader = net.leader().expect("another leads");
    assert_ne!(leader, A);
    net.propose(leader, "x").unwrap();
    net.run(200);
    assert_eq!(net.texts(A), ["x"]);
    let campaigns = net.at(A).campaigns();
    net.crash(B, 0);
    net.crash(C, 0);
    net.run(5000);
    assert_eq!(net.at(A).campaigns(), campaigns);
}

#[test]
fn a_pause_of_the_leader_does_not_depose_it_by_itself() {
    let mut net = Net::led(&[A, B, C], &[]);
    let term = net.at(A).term();
    net.pass(10_000);
    net.with(A, |raft, now| {
        raft.paused(now);
        raft.tick(now);
    });
    net.settle();
    net.run(2000);
    assert_eq!((net.leader(), net.at(A).term()), (Some(A), term));
}
