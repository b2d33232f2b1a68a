//! What must go on again by itself, whatever stopped it.

use super::super::*;
use super::net::*;

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
