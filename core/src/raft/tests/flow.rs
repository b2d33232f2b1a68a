//! How entries and snapshots reach a member: windows, lost messages, catching up.

use super::super::progress::Flow;
use super::super::*;
use super::net::*;
use crate::marks::reaches;

fn progress(net: &Net, leader: NodeId, member: NodeId) -> Progress {
    let Office::Leader(leading) = &net.at(leader).office else { panic!("it leads") };
    leading.progress[&member].clone()
}

/// Heartbeats go round `count` times; entries to `deaf` are lost, and so are its answers to them.
fn heartbeats_only(net: &mut Net, count: u64, deaf: NodeId) {
    for _ in 0..count {
        net.run_but_lose(HEARTBEAT_MS, deaf, |body| {
            matches!(body, Body::Append { .. } | Body::Install { .. } | Body::Appended { .. })
        });
    }
}

#[test]
fn a_window_full_of_lost_messages_opens_again_without_a_new_link() {
    let mut net = Net::led(&[A, B, C], &[]);
    // Commit indexes alone are sent too; only they are lost, until they fill the window.
    for number in 0..IN_FLIGHT_MAX {
        net.propose(A, &format!("{number}")).unwrap();
        net.persist(A);
        net.deliver_all(A, C);
        net.persist(C);
        net.deliver_all(C, A);
        let commit_only =
            |body: &Body| matches!(body, Body::Append { entries, .. } if entries.is_empty());
        net.wires.entry((A, C)).or_default().retain(|message| !commit_only(&message.body));
    }
    assert_eq!(progress(&net, A, C).in_flight, IN_FLIGHT_MAX);
    assert_eq!(progress(&net, A, C).matched, net.at(A).last_index());
    net.propose(A, "last").unwrap();
    net.run(5000);
    assert_eq!(net.texts(C).last().map(String::as_str), Some("last"));
}

#[test]
fn no_more_than_a_window_is_sent_to_a_member_that_does_not_answer() {
    let mut net = Net::led(&[A, B, C], &[]);
    net.lose_everything();
    for number in 0..500 {
        net.propose(A, &format!("{number}")).unwrap();
        net.persist(A);
    }
    let appends = |net: &Net| {
        net.wire(A, B).iter().filter(|body| matches!(body, Body::Append { .. })).count()
    };
    assert_eq!(appends(&net), IN_FLIGHT_MAX);
    // Each answer lets one more leave, with all that has come together.
    net.deliver(A, B);
    net.persist(B);
    net.deliver_all(B, A);
    assert_eq!(appends(&net), IN_FLIGHT_MAX);
    net.settle();
    assert_eq!(net.texts(B).len(), 500);
}

#[test]
fn a_leader_whose_disk_stands_still_takes_a_bounded_number_of_entries() {
    for voters in [&[A][..], &[A, B, C][..]] {
        let mut net = Net::led(voters, &[]);
        let taken = (0..1000).take_while(|n| net.propose(A, &format!("{n}")).is_ok()).count();
        assert_eq!(net.at(A).outbox.in_flight(), BATCHES_MAX);
        assert_eq!(taken, BATCHES_MAX);
        assert_eq!(net.propose(A, "more"), Err(ProposeError::Busy));
        assert!(net.persist(A));
        assert!(net.propose(A, "one for one").is_ok());
        net.settle();
        assert_eq!(net.texts(A).len(), BATCHES_MAX + 1);
    }
}

#[test]
fn one_message_holds_a_bounded_number_of_bytes() {
    let mut net = Net::led(&[A, B], &[C]);
    net.isolate(C);
    for _ in 0..40 {
        let big = Bytes::from(vec![7; APPEND_BYTES_MAX / 4]);
        net.with(A, |raft, _| raft.propose(big)).unwrap();
        net.settle();
    }
    let longest = Bytes::from(vec![7; ENTRY_BYTES_MAX]);
    net.with(A, |raft, _| raft.propose(longest)).unwrap();
    let too_long = Bytes::from(vec![7; ENTRY_BYTES_MAX + 1]);
    let refused = net.with(A, |raft, _| raft.propose(too_long));
    assert_eq!(refused, Err(ProposeError::TooLarge));
    net.settle();
    net.heal();
    let mut messages = 0;
    for _ in 0..1000 {
        for body in net.wire(A, C) {
            let Body::Append { entries, .. } = body else { continue };
            let bytes: usize = entries.iter().map(log::size_of_entry).sum();
            assert!(bytes <= APPEND_BYTES_MAX || entries.len() == 1, "{bytes}");
            messages += usize::from(!entries.is_empty());
        }
        net.deliver_all(A, C);
        net.persist(C);
        net.deliver_all(C, A);
    }
    assert!(messages >= 11, "{messages}");
    assert_eq!(net.at(C).last_index(), net.at(A).last_index());
}

#[test]
fn a_lost_snapshot_is_sent_again_without_a_new_link() {
    let mut net = Net::led(&[A, B], &[C]);
    net.isolate(C);
    net.propose(A, "one").unwrap();
    net.settle();
    net.compact(A);
    assert_eq!(net.at(A).snapshot().index, net.at(A).last_index(), "nothing is left to probe with");
    net.heal();
    let install = |net: &Net| net.wire(A, C).iter().any(|b| matches!(b, Body::Install { .. }));
    for _ in 0..5 {
        if install(&net) {
            break;
        }
        net.deliver_all(A, C);
        net.persist(C);
        net.deliver_all(C, A);
    }
    assert!(install(&net));
    net.lose(A, C);
    net.run(5000);
    assert_eq!(net.at(C).commit(), net.at(A).commit());
    assert_eq!(net.host(C).state, net.host(A).state);
}

#[test]
fn a_snapshot_brings_the_membership_with_it() {
    let mut net = Net::led(&[A, B], &[C, D]);
    net.isolate(C);
    net.change(A, change(&[A, B, D], &[C], 2)).unwrap();
    net.settle();
    net.compact(A);
    net.heal();
    net.run(3000);
    assert_eq!(net.at(C).snapshot().index, net.at(A).snapshot().index);
    assert_eq!(net.at(C).membership(), net.at(A).membership());
    net.crash(C, 0);
    net.restart(C);
    assert_eq!(net.at(C).membership().incoming, half(&[A, B, D]));
}

#[test]
fn what_is_under_way_is_not_sent_again_because_reads_are_many() {
    let mut net = Net::led(&[A, B, C], &[]);
    net.lose_everything();
    net.propose(A, "slow").unwrap();
    let sent = progress(&net, A, B).next;
    net.deliver_all(A, B);
    // b's disk takes its time; meanwhile a hundred reads, each with a heartbeat of its own.
    for token in 0..100 {
        net.with(A, |raft, _| raft.read(token)).unwrap();
        net.deliver_all(A, B);
        net.deliver_all(B, A);
    }
    assert_eq!(progress(&net, A, B).flow, Flow::Replicate);
    assert_eq!(progress(&net, A, B).next, sent);
    net.settle();
    assert_eq!(net.texts(B), ["slow"]);
}

#[test]
fn a_probe_is_not_repeated_before_its_answer_may_have_come() {
    let mut net = Net::of(&[A, B, C]);
    net.pass(1000);
    net.timeout(A);
    let mut probes = 0;
    for _ in 0..20 {
        for node in [A, B, C] {
            net.persist(node);
        }
        for (from, to) in [(A, B), (B, A)] {
            let full =
                |body: &Body| matches!(body, Body::Append { entries, .. } if !entries.is_empty());
            probes += net.wire(from, to).iter().filter(|body| full(body)).count();
            net.deliver_all(from, to);
        }
    }
    assert!(net.at(A).is_settled_leader());
    assert_eq!(probes, 1);
}

#[test]
fn entries_lost_on_the_way_are_sent_again_without_a_new_link() {
    reaches!(AppendAfterGap);
    let mut net = Net::led(&[A, B, C], &[]);
    net.propose(A, "lost").unwrap();
    net.lose(A, C);
    net.settle();
    heartbeats_only(&mut net, 2, C);
    assert_eq!(net.texts(B), ["lost"]);
    net.run(5000);
    assert_eq!(net.texts(C), ["lost"]);
}

#[test]
fn a_member_that_returns_is_sent_what_it_lacks_and_not_a_snapshot_or_the_whole_log() {
    // b has become leader and compacted while c was away: it has not heard of c in its term.
    let mut net = Net::led(&[A, B, C], &[]);
    for number in 0..5 {
        net.propose(A, &format!("{number}")).unwrap();
        net.settle();
    }
    net.isolate(C);
    net.propose(A, "missed").unwrap();
    net.settle();
    let held = net.at(C).last_index();
    // b's snapshot ends where c's log does, and its log goes on from there.
    net.with(A, |raft, now| raft.transfer(now, B)).unwrap();
    net.settle();
    assert_eq!(net.leader(), Some(B));
    net.heal();
    let mut sent = Vec::new();
    for _ in 0..20 {
        sent.extend(net.wire(B, C));
        net.deliver_all(B, C);
        net.persist(C);
        net.deliver_all(C, B);
    }
    for body in sent {
        assert!(!matches!(body, Body::Install { .. }));
        let Body::Append { entries, .. } = body else { continue };
        assert!(entries.iter().all(|e| e.index > held), "c has {entries:?}");
    }
    assert_eq!(net.at(C).last_index(), net.at(B).last_index());
}

#[test]
fn a_member_whose_answer_to_a_snapshot_was_lost_is_not_sent_it_again() {
    let mut net = Net::led(&[A, B], &[C]);
    net.isolate(C);
    net.propose(A, "one").unwrap();
    net.settle();
    net.compact(A);
    net.heal();
    for _ in 0..3 {
        net.deliver_all(C, A);
        net.deliver_all(A, C);
    }
    while net.persist(C) {}
    assert_eq!(net.at(C).commit(), net.at(A).commit());
    net.lose_everything();
    net.with(A, |raft, now| raft.link_lost(now, C));
    net.with(A, |raft, now| raft.link_open(now, C));
    assert!(!net.wire(A, C).iter().any(|body| matches!(body, Body::Install { .. })));
    net.settle();
    assert_eq!(progress(&net, A, C).matched, net.at(A).last_index());
}

#[test]
fn a_leader_that_commits_nothing_takes_a_bounded_number_of_proposals() {
    let mut net = Net::led(&[A, B, C], &[]);
    net.isolate(A);
    let taken = (0..20_000)
        .take_while(|_| {
            net.persist(A);
            net.propose(A, "x").is_ok()
        })
        .count();
    assert!((16_000..17_000).contains(&taken), "{taken}");
}
