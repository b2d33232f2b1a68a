//! Read index: linearizable reads without a write.

use super::super::*;
use super::net::*;

fn read(net: &mut Net, node: NodeId, token: u64) -> Result<(), ReadError> {
    net.with(node, |raft, _| raft.read(token))
}

/// All heartbeats to `node`, and its answers.
fn round_trip(net: &mut Net, leader: NodeId, node: NodeId) {
    net.deliver_all(leader, node);
    net.deliver_all(node, leader);
}

#[test]
fn a_read_waits_for_a_quorum_that_still_follows_and_names_the_commit_index() {
    let mut net = Net::led(&[A, B, C], &[D]);
    let index = net.propose(A, "x").unwrap();
    net.settle();
    read(&mut net, A, 7).unwrap();
    round_trip(&mut net, A, D);
    assert_eq!(net.host(A).reads, [], "a learner confirms nothing");
    round_trip(&mut net, A, B);
    assert_eq!(net.host(A).reads, [(7, index)]);
}

#[test]
fn an_answer_to_an_earlier_heartbeat_confirms_no_read() {
    let mut net = Net::led(&[A, B, C], &[]);
    net.pass(HEARTBEAT_MS);
    net.tick(A);
    net.deliver_all(A, B);
    read(&mut net, A, 7).unwrap();
    net.lose(A, B);
    net.deliver_all(B, A);
    assert_eq!(net.host(A).reads, []);
}

#[test]
fn a_leader_serves_no_read_before_an_entry_of_its_own_term_is_committed() {
    let mut net = Net::of(&[A, B, C]);
    assert_eq!(read(&mut net, A, 1), Err(ReadError::NotLeader));
    net.pass(1000);
    net.timeout(A);
    while !net.at(A).is_leader() {
        net.persist(A);
        net.persist(B);
        round_trip(&mut net, A, B);
    }
    assert_eq!(read(&mut net, A, 2), Err(ReadError::NoOwnEntry));
    net.settle();
    assert_eq!(read(&mut net, A, 3), Ok(()));
}

#[test]
fn a_joint_membership_confirms_a_read_by_both_halves() {
    let mut net = Net::led(&[A, B, C], &[D, E]);
    // {a, b, c} to {c, d, e}: joint for as long as d and e do not persist.
    net.change(A, change(&[C, D, E], &[], 2)).unwrap();
    net.settle_but(&[D, E]);
    assert!(net.at(A).membership().is_joint());
    read(&mut net, A, 7).unwrap();
    round_trip(&mut net, A, B);
    round_trip(&mut net, A, C);
    assert_eq!(net.host(A).reads, [], "a quorum of the old half alone");
    round_trip(&mut net, A, D);
    assert_eq!(net.host(A).reads.len(), 1);
    net.settle_but(&[D, E]);
    read(&mut net, A, 8).unwrap();
    round_trip(&mut net, A, D);
    round_trip(&mut net, A, E);
    assert_eq!(net.host(A).reads.len(), 1, "a quorum of the new half alone");
    round_trip(&mut net, A, B);
    assert_eq!(net.host(A).reads.len(), 2);
}

#[test]
fn a_leader_that_was_deposed_unawares_serves_no_read() {
    let mut net = Net::led(&[A, B, C], &[]);
    net.isolate(A);
    net.elect(B);
    net.propose(B, "later").unwrap();
    net.settle();
    assert!(net.at(A).is_leader(), "it does not know yet");
    read(&mut net, A, 7).unwrap();
    net.settle();
    net.heal();
    net.run(3000);
    assert_eq!(net.host(A).reads, []);
    assert_eq!(read(&mut net, A, 8), Err(ReadError::NotLeader));
}

#[test]
fn a_tie_breaker_of_two_and_a_single_voter_confirm_a_read_themselves() {
    for voters in [&[A, B][..], &[A]] {
        let mut net = Net::led(voters, &[]);
        if voters.len() > 1 {
            net.isolate(A);
        }
        read(&mut net, A, 7).unwrap();
        assert_eq!(net.host(A).reads.len(), 1);
    }
}

#[test]
fn reads_that_wait_are_bounded() {
    let mut net = Net::led(&[A, B, C], &[]);
    net.isolate(A);
    let taken = (0..5000).take_while(|token| read(&mut net, A, *token).is_ok()).count();
    assert_eq!(taken, 4096);
    assert_eq!(read(&mut net, A, 9), Err(ReadError::Busy));
}
