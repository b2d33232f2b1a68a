//! Disks: what must be durable before what, and what a crash may leave.

use super::super::*;
use super::net::*;
use crate::marks::reaches;

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

#[test]
fn a_completion_of_an_older_term_counts_for_nothing() {
    // a could elect itself, once its vote is durable. What completes first is older.
    let mut net = Net::of(&[A, B]);
    net.with(A, |raft, now| raft.adopt(now, Term(4)));
    net.timeout(A);
    assert_eq!((net.at(A).role(), net.at(A).term()), (Role::Candidate, Term(5)));
    assert_eq!(net.host(A).writes.len(), 2);
    net.persist(A);
    assert_eq!(net.at(A).role(), Role::Candidate, "term 4 is durable, the vote of term 5 is not");
    net.persist(A);
    assert_eq!(net.at(A).role(), Role::Leader);
}

#[test]
fn a_completion_of_an_older_term_does_not_make_entries_durable_that_were_cut_off() {
    // a leads in term 2 and writes entries 3 to 5, slowly. b is elected and cuts them off, and a
    // takes over again, with fewer entries, while the old batches are still on their way.
    let mut net = Net::led(&[A, B, C], &[]);
    net.isolate(A);
    for text in ["3", "4", "5"] {
        net.propose(A, text).unwrap();
    }
    net.pass(1000);
    net.timeout(B);
    net.settle_but(&[A]);
    net.heal();
    net.settle_but(&[A]);
    assert_eq!(net.at(A).last_index(), Index(3));
    assert!(net.unwritten(A) >= 4, "nothing of it is durable");
    assert!(net.wire(A, B).is_empty());
    while net.persist(A) {
        // Each completion releases what rests on it, and the checks hold it against the disk.
    }
    net.settle();
    assert_eq!(net.copies(Index(3), net.at(B).term()), 3);
}

#[test]
fn a_leader_counts_its_own_copy_only_when_it_is_durable() {
    let mut net = Net::led(&[A, B, C], &[]);
    let index = net.propose(A, "x").unwrap();
    net.deliver_all(A, B);
    net.persist(B);
    net.deliver_all(B, A);
    assert!(net.at(A).commit() < index, "one of three disks holds it");
    net.persist(A);
    assert_eq!(net.at(A).commit(), index);
    // And two others are enough without it.
    let index = net.propose(A, "y").unwrap();
    net.settle_but(&[A]);
    assert_eq!(net.at(A).commit(), index);
    assert_ne!(net.host(A).durable_term(index), Some(net.at(A).term()));
}

#[test]
fn an_entry_of_an_old_term_is_not_committed_by_counting_copies() {
    reaches!(EarlierTermHeld);
    // Figure 8 of the Raft paper. Entry 3 of term 2 reaches b alone; it fills a message by itself.
    let mut net = Net::led(&[A, B, C, D, E], &[]);
    net.isolate(A);
    net.cut.remove(&(A, B));
    let big = Bytes::from(vec![7; 2 * APPEND_BYTES_MAX]);
    net.with(A, |raft, _| raft.propose(big)).unwrap();
    net.persist(A);
    net.deliver_all(A, B);
    net.persist(B);
    net.crash(A, 0);
    net.crash(B, 0);
    // e leads in term 3 with another entry 3, which nobody else gets.
    net.pass(1000);
    net.timeout(E);
    for _ in 0..20 {
        if net.at(E).is_leader() {
            break;
        }
        for node in [C, D, E] {
            net.persist(node);
            net.deliver(node, E);
            net.deliver(E, node);
        }
    }
    net.persist(E);
    net.crash(E, 0);
    net.lose_everything();
    // b leads in term 4 and brings the old entry to c and d, and its own to nobody.
    net.restart(B);
    net.cut.clear();
    net.pass(1000);
    net.timeout(B);
    net.deliver_all(B, C);
    net.deliver_all(C, B);
    assert_eq!(net.at(B).term(), Term(3), "it hears of the term first");
    net.timeout(B);
    let old = (Index(3), Term(2));
    for _ in 0..20 {
        if net.copies(old.0, old.1) == 4 {
            break;
        }
        for node in [B, C, D] {
            net.persist(node);
            net.deliver(node, B);
            if net.host(node).durable_term(old.0) == Some(old.1) {
                net.lose(B, node);
            }
            net.deliver(B, node);
        }
    }
    for node in [C, D] {
        net.deliver_all(node, B);
        net.lose(B, node);
        assert_eq!(net.at(B).matched(node), Some(old.0));
    }
    assert_eq!(net.at(B).commit(), Index(2), "on four of five disks, and not committed");
    // For e may still be elected, and cuts it off.
    net.crash(B, 0);
    net.lose_everything();
    net.restart(E);
    net.run(3000);
    assert_eq!(net.leader(), Some(E));
    assert_eq!(net.at(C).entry(old.0).map(|e| e.term), Some(Term(3)));
}

#[test]
fn what_was_held_back_in_a_term_is_dropped_with_it() {
    // Entry 3 of term 2 and what cuts it off come before the disk is asked once. When both are
    // durable, the acknowledgement of the first must not leave: it would be a lie by then.
    let mut net = Net::led(&[A, B, C], &[]);
    let append = |term, text: &str| {
        let payload = Payload::Data(Bytes::copy_from_slice(text.as_bytes()));
        let entries = vec![Entry { index: Index(3), term: Term(term), payload }];
        let (prev_index, prev_term) = (Index(2), Term(2));
        let body = Body::Append { prev_index, prev_term, entries, commit: Index(2) };
        Message { term: Term(term), body }
    };
    net.with(B, |raft, now| {
        raft.receive(now, A, append(2, "cut off"));
        raft.receive(now, C, append(3, "kept"));
    });
    while net.persist(B) {}
    assert_eq!(net.wire(B, A), []);
    assert_eq!(net.wire(B, C), [Body::Appended { matched: Index(3) }]);
}

#[test]
fn a_node_recovers_from_every_prefix_of_what_it_was_writing() {
    let history = || {
        // Entries 3 and 4 of term 2 reach c alone; b and d lead on; c sees them cut off, gets a
        // snapshot, more entries, a membership. None of it is durable.
        let mut net = Net::led(&[A, B, C, D, E], &[]);
        net.isolate(A);
        net.cut.remove(&(A, C));
        net.propose(A, "cut off").unwrap();
        net.propose(A, "cut off too").unwrap();
        net.deliver_all(A, C);
        net.isolate(C);
        net.pass(1000);
        net.timeout(B);
        net.settle_but(&[C]);
        let reach = |net: &mut Net| {
            net.cut.retain(|ends| [ends.0, ends.1].contains(&A));
            net.with(B, |raft, now| raft.link_open(now, C));
            net.run_but(300, &[C]);
        };
        reach(&mut net);
        net.propose(B, "one").unwrap();
        net.run_but(300, &[C]);
        net.isolate(C);
        net.propose(B, "two").unwrap();
        net.settle_but(&[C]);
        net.compact(B);
        reach(&mut net);
        net.propose(B, "three").unwrap();
        net.change(B, change(&[B, C, D, E], &[A], 2)).unwrap();
        net.run_but(300, &[C]);
        net.compact(C);
        net
    };
    let writes = history().unwritten(C);
    assert!(writes >= 8, "cut off, term, instead, snapshot, commits, compaction: {writes}");
    for survive in 0..=writes {
        let mut net = history();
        let state = net.host(B).state;
        net.crash(C, survive);
        net.restart(C);
        net.heal();
        net.run(3000);
        let leader = net.leader().expect("a leader");
        assert_eq!(net.at(C).commit(), net.at(leader).commit(), "after {survive} of {writes}");
        assert_eq!(net.host(C).state, net.host(leader).state);
        assert!(net.checks.was_applied(state), "nothing committed is lost");
        assert!(net.at(C).membership().learners.contains(&A));
    }
}

#[test]
fn a_restart_of_all_nodes_loses_nothing_committed() {
    let mut net = Net::led(&[A, B, C], &[D]);
    for number in 0..10 {
        net.propose(A, &format!("{number}")).unwrap();
        net.settle();
        if number % 4 == 0 {
            net.compact(A);
        }
    }
    net.propose(A, "not committed").unwrap();
    let state = net.host(A).state;
    net.restart_all();
    net.run(3000);
    let leader = net.leader().expect("a leader");
    assert!(net.checks.was_applied(state));
    for node in [A, B, C, D] {
        assert_eq!(net.host(node).state, net.host(leader).state);
    }
}

#[test]
fn a_founder_is_elected_from_what_it_wrote_before_it_told_anybody() {
    let (hard_state, entries) =
        Raft::founding(A, Bytes::from_static(b"document"), ConfigVersion(1));
    let mut net = Net::with_membership(membership(&[A], &[]), 1);
    net.crash(A, 0);
    let disk = &mut net.hosts.get_mut(&A).unwrap().disk;
    disk.apply(&StorageOp::Append { log: LogId::CONFIGURATION, entries });
    disk.apply(&StorageOp::HardState { log: LogId::CONFIGURATION, state: hard_state });
    net.restart(A);
    assert_eq!(net.texts(A), ["document"]);
    net.run(10);
    assert!(net.at(A).is_settled_leader());
    assert_eq!(net.at(A).term(), Term(2));
}
