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
