//! Disks: what must be durable before what, and what a crash may leave.

use super::super::*;
use super::net::*;

#[test]
fn a_slow_disk_does_not_make_a_follower_silent() {
    // The commit index rides along with entries, but nobody waits for it: answers to heartbeats do
    // not rest on it, or two slow disks of three would depose the leader.
    let mut net = Net::led(&[A, B, C], &[]);
    let term = net.at(A).term();
    for number in 0..5 {
        net.propose(A, &format!("{number}")).unwrap();
        net.run_but(1000, &[B, C]);
    }
    assert_eq!((net.leader(), net.at(A).term()), (Some(A), term));
    assert!(net.unwritten(B) > 0);
    assert_eq!(net.texts(A), [""; 0]);
    net.settle();
    assert_eq!(net.texts(A).len(), 5);
}
