//! Logs whose state is kept apart from them: nothing is acknowledged before it is there.

use super::super::*;
use super::net::{A, B, C, Net};
use crate::ids::Generation;
use crate::marks::reaches;

/// A network led by `A` in which `C` lacks what `A`'s log does not hold any more.
fn behind(apart: NodeId) -> Net {
    let mut net = Net::led(&[A, B, C], &[]);
    net.crash(apart, 0);
    net.content = Content::Apart;
    net.restart(apart);
    net.settle();
    net.isolate(apart);
    for text in ["one", "two", "three"] {
        net.propose(A, text).unwrap();
    }
    net.settle();
    net.compact(A);
    net.heal();
    net.run(1000);
    net
}

#[test]
fn a_snapshot_without_content_is_not_taken_for_the_content() {
    let mut net = behind(C);
    let base = net.at(A).snapshot().clone();
    let held = net.at(C).last_index();
    assert!(held < base.index);
    assert_eq!(net.at(C).wanted(), Some(base.index));
    assert_eq!(net.at(A).matched(C), Some(held), "nothing more was acknowledged");
    // B is gone: A cannot commit with what C says it lacks.
    net.isolate(B);
    let index = net.propose(A, "four").unwrap();
    net.run(5000);
    assert!(net.at(A).commit() < index);
    assert_eq!(net.at(C).last_index(), held);
}

#[test]
fn with_a_copy_it_goes_on_behind_it_and_says_so_only_when_the_record_is_durable() {
    reaches!(DeltaRefused);
    let mut net = behind(C);
    let base = net.at(A).snapshot().clone();
    net.lose_everything();
    net.with(C, |raft, _| raft.install_copy(Generation(2), base.clone()));
    assert!(net.wire(C, A).is_empty(), "not before it is durable");
    assert_eq!(net.at(C).wanted(), None);
    net.run(3000);
    assert_eq!(net.at(C).commit(), net.at(A).commit());
    assert_eq!(net.host(C).disk().copy, Some(Generation(2)));
    assert_eq!(net.host(C).disk().snapshot, base);
    let index = net.propose(A, "four").unwrap();
    net.settle();
    assert_eq!(net.at(C).last_index(), index);
}

#[test]
fn whatever_survives_of_the_record_the_log_never_begins_behind_its_copy() {
    for survive in 0..=2 {
        let mut net = behind(C);
        let base = net.at(A).snapshot().clone();
        net.lose_everything();
        net.with(C, |raft, _| raft.install_copy(Generation(2), base.clone()));
        net.crash(C, survive);
        let disk = net.host(C).disk();
        assert!(disk.copy == Some(Generation(2)) || disk.snapshot.index < base.index, "{disk:?}");
    }
}

#[test]
fn a_copy_in_the_middle_of_the_log_leaves_what_was_acknowledged_behind_it() {
    let mut net = Net::led(&[A, B, C], &[]);
    net.content = Content::Apart;
    net.crash(C, 0);
    net.restart(C);
    net.settle();
    for text in ["one", "two", "three"] {
        net.propose(A, text).unwrap();
        net.settle();
    }
    let last = net.at(C).last_index();
    let at = last.previous();
    let term = net.at(C).entry(at).unwrap().term;
    let membership = net.at(C).membership_at(at).clone();
    let base = Snapshot { index: at, term, membership, data: Bytes::new() };
    net.with(C, |raft, _| raft.install_copy(Generation(5), base));
    net.settle();
    assert_eq!(net.at(C).last_index(), last);
    assert_eq!(net.host(C).disk().entries.last().unwrap().index, last);
    assert_eq!(net.host(C).disk().copy, Some(Generation(5)));
}

#[test]
fn a_copy_from_a_later_term_brings_the_term_with_it() {
    let mut net = behind(C);
    net.isolate(C);
    net.with(A, |raft, now| raft.adopt(now, Term(9)));
    net.elect(A);
    net.propose(A, "of a later term").unwrap();
    net.settle();
    net.compact(A);
    let base = net.at(A).snapshot().clone();
    assert!(net.at(C).term() < base.term);
    net.with(C, |raft, _| raft.install_copy(Generation(2), base.clone()));
    assert_eq!((net.at(C).term(), net.at(C).vote()), (base.term, None));
    while net.persist(C) {}
    assert_eq!(net.host(C).disk().hard_state.term, base.term);
    // It campaigns in terms behind that of its last entry only.
    net.timeout(C);
    assert!(net.at(C).last_index() == base.index && net.at(C).term() >= base.term);
}

/// A network led by `A` in which the content of every log is apart.
fn all_apart() -> Net {
    let mut net = Net::of(&[A, B, C]);
    net.content = Content::Apart;
    for node in [A, B, C] {
        net.crash(node, 0);
        net.restart(node);
    }
    net.elect(A);
    net.run(100);
    net
}

/// The commit indices on the wire from the leader to `node`, each with how many entries come with it.
fn told(net: &Net, node: NodeId) -> Vec<(usize, Index)> {
    let told = |body: &Body| match body {
        Body::Append { entries, commit, .. } => Some((entries.len(), *commit)),
        _ => None,
    };
    net.wire(A, node).iter().filter_map(told).collect()
}

#[test]
fn the_next_entry_takes_a_commit_index_along() {
    let mut net = all_apart();
    let first = net.propose(A, "one").unwrap();
    net.settle();
    assert_eq!(net.at(A).commit(), first);
    assert!(net.at(B).commit() < first, "no message of its own");
    net.propose(A, "two").unwrap();
    assert_eq!(told(&net, B), [(1, first)]);
    net.settle();
    assert_eq!(net.at(B).commit(), first);
}

#[test]
fn a_commit_index_that_no_entry_takes_along_is_told_soon_and_once() {
    let mut net = all_apart();
    let index = net.propose(A, "one").unwrap();
    net.settle();
    assert_eq!(net.at(A).next_timeout(), net.now + COMMIT_TOLD_WITHIN);
    net.pass(1);
    net.tick(A);
    assert_eq!(told(&net, B), []);
    net.pass(1);
    net.tick(A);
    assert_eq!((told(&net, B), told(&net, C)), (vec![(0, index)], vec![(0, index)]));
    net.settle();
    assert_eq!((net.at(B).commit(), net.at(C).commit()), (index, index));
    assert!(net.at(A).next_timeout() > net.now + COMMIT_TOLD_WITHIN);
    net.pass(2);
    net.tick(A);
    assert_eq!(told(&net, B), []);
}
