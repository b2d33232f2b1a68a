//! Handing leadership over.

use super::super::*;
use super::net::*;
use crate::marks::reaches;

fn transfer(net: &mut Net, from: NodeId, to: NodeId) -> Result<(), TransferError> {
    net.with(from, |raft, now| raft.transfer(now, to))
}

#[test]
fn leadership_is_handed_over_without_waiting_for_a_time_out() {
    let mut net = Net::led(&[A, B, C], &[]);
    net.run(1000);
    let term = net.at(A).term();
    transfer(&mut net, A, C).unwrap();
    net.settle();
    assert_eq!((net.leader(), net.at(C).term()), (Some(C), term.next()));
    assert!(net.at(C).is_settled_leader());
    assert!(!net.at(A).is_leader());
    assert_eq!(transfer(&mut net, A, B), Err(TransferError::NotLeader));
}

#[test]
fn a_successor_that_lags_gets_everything_first() {
    let mut net = Net::led(&[A, B, C], &[]);
    net.isolate(C);
    for number in 0..5 {
        net.propose(A, &format!("{number}")).unwrap();
        net.settle();
    }
    net.heal();
    transfer(&mut net, A, C).unwrap();
    assert!(!net.wire(A, C).contains(&Body::TimeoutNow));
    net.settle();
    assert_eq!(net.leader(), Some(C));
    assert_eq!(net.texts(C).len(), 5);
}

#[test]
fn proposals_are_refused_while_leadership_is_handed_over_and_taken_again_after_a_time_out() {
    reaches!(TransferGivenUp);
    let mut net = Net::led(&[A, B, C], &[]);
    net.cut(A, C);
    transfer(&mut net, A, C).unwrap();
    assert_eq!(net.propose(A, "x"), Err(ProposeError::Transferring));
    net.run(ELECTION_MIN_MS);
    assert_eq!(net.propose(A, "x"), Err(ProposeError::Transferring));
    net.run(ELECTION_MAX_MS);
    assert!(net.at(A).is_leader() && !net.at(A).is_transferring());
    assert!(net.propose(A, "x").is_ok());
}

#[test]
fn only_the_leader_of_the_term_may_ask_for_an_election() {
    let mut net = Net::led(&[A, B, C], &[D]);
    let term = net.at(A).term();
    net.inject(C, B, Message { term, body: Body::TimeoutNow });
    net.inject(A, B, Message { term: Term(1), body: Body::TimeoutNow });
    net.inject(A, D, Message { term, body: Body::TimeoutNow });
    assert_eq!((net.at(B).term(), net.at(D).term()), (term, term));
    net.inject(A, B, Message { term, body: Body::TimeoutNow });
    assert_eq!(net.at(B).role(), Role::Candidate);
}

#[test]
fn a_leader_whose_own_disk_is_slow_hands_over() {
    reaches!(SlowLeader);
    let mut net = Net::led(&[A, B, C], &[]);
    let term = net.at(A).term();
    net.propose(A, "x").unwrap();
    net.run_but(3 * ELECTION_MAX_MS, &[A]);
    let leader = net.leader().expect("another leads");
    assert_ne!(leader, A);
    assert_eq!(net.at(leader).term(), term.next(), "handed over, not fought for");
    assert_eq!(net.texts(leader), ["x"]);
    // A disk that is only busy is no reason.
    let mut net = Net::led(&[A, B, C], &[]);
    for _ in 0..20 {
        net.propose(A, "x").unwrap();
        net.run_but(ELECTION_MIN_MS, &[A]);
        net.settle();
    }
    assert_eq!((net.leader(), net.at(A).term()), (Some(A), term));
}

#[test]
fn a_tie_breaker_of_two_keeps_the_leadership_that_nobody_else_can_have() {
    let mut net = Net::led(&[A, B], &[]);
    net.propose(A, "x").unwrap();
    net.run_but(3 * ELECTION_MAX_MS, &[A]);
    assert!(net.at(A).is_leader());
    net.settle();
    assert_eq!(net.texts(B), ["x"]);
}

#[test]
fn the_best_successor_holds_most_and_answers() {
    let mut net = Net::led(&[A, B, C, D], &[E]);
    assert_eq!(net.at(A).best_successor(net.now, |_| true), Some(B), "equal: the smallest");
    net.cut(A, B);
    net.propose(A, "x").unwrap();
    net.settle();
    assert_eq!(net.at(A).best_successor(net.now, |_| true), Some(C));
    net.isolate(A);
    net.pass(2000);
    assert_eq!(net.at(A).best_successor(net.now, |_| true), None);
}
