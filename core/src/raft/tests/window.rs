//! Logs that keep only their newest entries in memory, and read the others from the disk.

use super::super::*;
use super::net::*;
use crate::marks::reaches;
use crate::storage::Window;

/// A network led by `A` that keeps two entries in memory and sends two at a time.
fn narrow(voters: &[NodeId]) -> Net {
    let mut net = Net::of(voters);
    net.content = Content::Apart;
    net.limits.window = Window { entries_max: 2, bytes_max: usize::MAX };
    net.limits.append_count_max = 2;
    net.restart_all();
    net.elect(A);
    net
}

fn propose(net: &mut Net, count: usize) -> Index {
    for number in 0..count {
        net.propose(A, &format!("entry {number}")).unwrap();
        net.settle();
    }
    net.at(A).last_index()
}

/// As [`narrow`], and C lacks ten entries. It has just been reached again; nothing was sent yet.
fn behind() -> Net {
    let mut net = narrow(&[A, B, C]);
    net.isolate(C);
    propose(&mut net, 10);
    net.lose_everything();
    net.heal();
    net
}

/// Lets everything go on until `A` asks its disk.
fn until_asked(net: &mut Net) -> LogRead {
    for _ in 0..100 {
        if let Some(read) = net.host(A).wanted.front() {
            return *read;
        }
        for node in net.nodes() {
            net.persist(node);
            net.deliver_all(node, A);
            net.deliver_all(A, node);
        }
        net.pass(5);
        net.tick(A);
    }
    panic!("nothing is asked for");
}

#[test]
fn only_the_newest_entries_stay_in_memory_and_the_terms_of_all_are_known() {
    let mut net = narrow(&[A, B, C]);
    let last = propose(&mut net, 50);
    net.run(10);
    for node in [A, B, C] {
        let raft = net.at(node);
        let held = (1..=last.0).filter(|i| raft.entry(Index(*i)).is_some()).count();
        assert_eq!(held, 2, "{node:?}");
        let terms: Vec<_> = (1..=last.0).map(|i| raft.term_at(Index(i))).collect();
        let disk: Vec<_> = (1..=last.0).map(|i| net.host(node).durable_term(Index(i))).collect();
        assert_eq!(terms, disk);
    }
    assert_eq!(net.texts(C).len(), 50);
}

#[test]
fn what_is_not_durable_or_not_committed_stays_in_memory() {
    let mut net = narrow(&[A, B, C]);
    propose(&mut net, 4);
    net.isolate(A);
    for number in 0..20 {
        net.propose(A, &format!("{number}")).unwrap();
    }
    let (commit, last) = (net.at(A).commit(), net.at(A).last_index());
    let all = |net: &Net| (commit.0 + 1..=last.0).all(|i| net.at(A).entry(Index(i)).is_some());
    assert!(all(&net), "neither durable nor committed");
    while net.persist(A) {}
    assert!(all(&net), "durable, and not committed");
    // B holds them durably, so that they are committed; A's own disk is slow.
    let mut net = narrow(&[A, B, C]);
    propose(&mut net, 4);
    for number in 0..20 {
        net.propose(A, &format!("{number}")).unwrap();
    }
    net.settle_but(&[A]);
    assert_eq!(net.at(A).commit(), last);
    assert!(all(&net), "committed, and not durable here");
    net.settle();
    net.with(A, |_, _| ());
    assert!(net.at(A).entry(commit.next()).is_none());
}

#[test]
fn a_follower_below_the_window_catches_up_by_reads() {
    let mut net = behind();
    let before = net.at(C).last_index();
    assert!(net.at(A).entry(before.next()).is_none());
    let read = until_asked(&mut net);
    assert_eq!((read.from, read.to), (before.next(), Index(before.0 + 3)));
    assert_eq!(net.host(A).wanted.len(), 1, "one read at a time");
    net.run(300);
    assert_eq!(net.at(C).last_index(), net.at(A).last_index());
    assert_eq!(net.texts(C), net.texts(A));
    assert_eq!(net.at(C).wanted(), None);
}

#[test]
fn reads_for_a_member_that_does_not_answer_are_bounded() {
    let mut net = narrow(&[A, B, C]);
    net.isolate(C);
    propose(&mut net, 100);
    net.lose_everything();
    net.heal();
    until_asked(&mut net);
    net.deliver_all(C, A);
    let mut reads = 0;
    while net.answer_read(A) {
        reads += 1;
    }
    assert_eq!(reads, 8, "so many messages with entries from the disk may be unanswered");
    net.run(300);
    assert_eq!(net.at(C).last_index(), net.at(A).last_index());
}

#[test]
fn a_read_answered_after_losing_the_lead_counts_for_nothing() {
    let mut net = behind();
    until_asked(&mut net);
    net.isolate(A);
    net.pass(1000);
    net.timeout(B);
    net.settle_but(&[]);
    assert_eq!(net.leader(), Some(B));
    net.heal();
    net.run(300);
    assert!(!net.at(A).is_leader());
    // Asked in a term that is over; and the answer comes when A leads again, in another term.
    let mut net = behind();
    let read = until_asked(&mut net);
    let held = std::mem::take(&mut net.hosts.get_mut(&A).unwrap().wanted);
    let higher = net.at(A).term().next();
    net.with(A, |raft, now| raft.adopt(now, higher));
    net.elect(A);
    assert!(net.at(A).term() > higher);
    net.run(200);
    let open = net.host(A).wanted.len();
    assert_eq!(open, 0, "no second read for C while the first is under way");
    assert!(net.at(C).last_index() < net.at(A).last_index());
    net.hosts.get_mut(&A).unwrap().wanted = held;
    assert_eq!(net.host(A).wanted.front(), Some(&read));
    net.run(300);
    assert_eq!(net.at(C).last_index(), net.at(A).last_index());
}

#[test]
fn an_answer_from_before_a_compaction_or_a_cut_counts_for_nothing() {
    // Compacted: C is told where the log begins.
    let mut net = behind();
    until_asked(&mut net);
    net.compact(A);
    let base = net.at(A).snapshot().index;
    net.run(300);
    assert_eq!(net.at(C).wanted(), Some(base));
    assert!(net.at(C).last_index() < base);
    // Cut off and written anew in between: what the disk held then is another entry.
    let mut net = narrow(&[A, B, C]);
    propose(&mut net, 6);
    let raft = net.hosts.get_mut(&A).unwrap().raft.as_mut().unwrap();
    let id = {
        raft.fetch(Index(2), 1000);
        raft.next_read().expect("it is asked").id
    };
    raft.fetches.log_changed();
    let data = Payload::Data(Bytes::from_static(b"of another history"));
    let entries = vec![Entry { index: Index(2), term: Term(1), payload: data }];
    raft.log_read(Time::from_millis(9000), id, Ok(entries));
    assert_eq!(raft.take_fetched(), None);
    assert_eq!(raft.take_unreadable(), None);
}

#[test]
fn entries_of_another_term_than_the_log_has_are_not_taken_from_an_answer() {
    let mut net = narrow(&[A, B, C]);
    propose(&mut net, 6);
    let raft = net.hosts.get_mut(&A).unwrap().raft.as_mut().unwrap();
    raft.fetch(Index(3), 1000);
    let id = raft.next_read().expect("it is asked").id;
    let entry = |index, term| Entry { index: Index(index), term, payload: Payload::Empty };
    let term = raft.term();
    let entries = vec![entry(3, term), entry(4, term), entry(5, Term(1)), entry(6, term)];
    raft.log_read(Time::from_millis(9000), id, Ok(entries));
    let taken = raft.take_fetched().expect("an answer").expect("readable");
    assert_eq!(taken.iter().map(|e| e.index.0).collect::<Vec<_>>(), [3, 4]);
}

#[test]
fn an_unreadable_entry_leads_to_a_copy_and_to_nothing_lost() {
    reaches!(EntryUnreadable);
    let mut net = behind();
    let last = net.at(A).last_index();
    let read = until_asked(&mut net);
    let lost = read.from.next();
    net.refuse_read(A, lost);
    net.run(300);
    assert_eq!(net.host(A).unreadable, [lost], "told once");
    assert_eq!(net.at(C).wanted(), Some(lost));
    assert!(net.at(C).last_index() < lost, "nothing was acknowledged");
    assert!(net.at(A).is_leader() && !net.at(A).abstains());
    net.copies = true;
    net.run(300);
    assert_eq!(net.at(C).last_index(), last);
    assert_eq!(net.host(C).state, net.host(A).state);
    // A store that does not hold what was durable is as bad as one that cannot read it.
    let mut net = behind();
    let read = until_asked(&mut net);
    net.with(A, |raft, now| raft.log_read(now, read.id, Ok(Vec::new())));
    assert_eq!(net.host(A).unreadable, [read.from]);
}

#[test]
fn an_unreadable_entry_that_follows_from_the_others_is_known_all_the_same() {
    reaches!(EntryRebuilt);
    let mut net = narrow(&[A, B, C]);
    propose(&mut net, 3);
    net.change(A, change(&[B, A, C], &[], 2)).unwrap();
    net.settle();
    net.elect(B);
    net.elect(A);
    propose(&mut net, 4);
    let written = net.host(A).disk().entries.clone();
    let first_in_memory = net.at(A).log.window_start();
    let mut kinds = [0; 3];
    for entry in written.iter().filter(|entry| entry.index < first_in_memory) {
        let index = entry.index;
        let raft = net.hosts.get_mut(&A).unwrap().raft.as_mut().unwrap();
        raft.fetch(index, 1000);
        let id = raft.next_read().expect("it is asked").id;
        raft.log_read(Time::from_millis(9000), id, Err(Unreadable { index }));
        let known = raft.take_fetched().expect("an answer");
        assert_eq!(raft.take_unreadable(), Some(index), "it is told all the same");
        match entry.payload {
            Payload::Data(_) => assert!(known.is_err(), "{index}"),
            Payload::Empty | Payload::Membership(_) => {
                assert_eq!(known.expect("it is known"), std::slice::from_ref(entry));
            }
        }
        kinds[match entry.payload {
            Payload::Data(_) => 0,
            Payload::Empty => 1,
            Payload::Membership(_) => 2,
        }] += 1;
    }
    assert!(kinds.iter().all(|count| *count > 0), "{kinds:?}");
}

#[test]
fn a_restart_with_the_tail_of_the_log_knows_the_terms_and_memberships_of_all_of_it() {
    let mut net = narrow(&[A, B, C]);
    propose(&mut net, 5);
    net.change(A, change(&[B, A, C], &[], 2)).unwrap();
    net.settle();
    net.elect(B);
    net.with(B, |raft, _| raft.propose(Bytes::from_static(b"of b"))).unwrap();
    net.settle();
    net.elect(A);
    let last = propose(&mut net, 5);
    let whole: Vec<_> = (1..=last.0).map(|i| net.at(A).term_at(Index(i))).collect();
    let memberships: Vec<_> =
        (1..=last.0).map(|i| net.at(A).membership_at(Index(i)).clone()).collect();
    net.restart_all();
    for node in [A, B, C] {
        let raft = net.at(node);
        let terms: Vec<_> = (1..=last.0).map(|i| raft.term_at(Index(i))).collect();
        assert_eq!(terms, whole, "{node:?}");
        let held: Vec<_> = (1..=last.0).map(|i| raft.membership_at(Index(i)).clone()).collect();
        assert_eq!(held, memberships, "{node:?}");
        let count = (1..=last.0).filter(|i| raft.entry(Index(*i)).is_some()).count();
        assert!(count <= 3, "{node:?} holds {count} entries");
    }
    net.run(3000);
    assert!(net.leader().is_some());
    assert_eq!(net.texts(C).len(), 11);
}

#[test]
fn a_member_that_comes_back_after_a_restart_of_all_catches_up_from_the_disk() {
    let mut net = behind();
    net.crash(C, 0);
    for node in [A, B] {
        net.crash(node, 0);
        net.restart(node);
    }
    net.run(2000);
    net.restart(C);
    net.run(2000);
    let leader = net.leader().expect("a leader");
    assert_eq!(net.at(C).commit(), net.at(leader).commit());
    assert_eq!(net.host(C).state, net.host(leader).state);
}

#[test]
fn where_logs_may_agree_is_found_by_runs_as_by_entries() {
    let entry = |index: u64, term| Entry { index: Index(index), term, payload: Payload::Empty };
    let terms = [2, 2, 3, 3, 3, 5, 8, 8].map(Term);
    let base = Snapshot { index: Index(10), term: Term(2), ..Snapshot::default() };
    let entries: Vec<Entry> = (11..).zip(terms).map(|(i, t)| entry(i, t)).collect();
    let log = Log::new(base, crate::storage::OnDisk::default(), entries);
    for index in 0..25 {
        for term in 0..10 {
            let mut at = Index(index).min(log.last_index());
            while at > Index(10) && log.term_at(at).is_some_and(|held| held > Term(term)) {
                at = at.previous();
            }
            let at = at.max(Index(10));
            let expected = (at, log.term_at(at).unwrap());
            assert_eq!(log.agree_before(Index(index), Term(term)), expected, "{index} {term}");
        }
    }
}

#[test]
fn an_entry_from_before_all_that_a_log_remembers_is_governed_by_the_oldest_that_it_does() {
    let of = |voter| Membership::founder(voter, crate::ids::ConfigVersion(1));
    let cut = |index, voter| Snapshot {
        index: Index(index),
        term: Term(1),
        membership: of(voter),
        ..Snapshot::default()
    };
    let mut log = log::Log::new(cut(57, A), crate::storage::OnDisk::default(), Vec::new());
    for (index, payload) in [(58, Payload::Membership(of(C))), (59, Payload::Empty)] {
        log.push(Entry { index: Index(index), term: Term(1), payload });
    }
    log.compact(cut(59, C));
    assert_eq!(*log.membership_at(Index(59)), of(C));
    assert_eq!(*log.membership_at(Index(57)), of(A));
    // Before the log begins, as of a copy that was received: not who votes today.
    assert_eq!(*log.membership_at(Index(56)), of(A));
}
