//! Votes: the traps others fell into.

use super::super::*;
use super::net::*;
use crate::marks::reaches;

fn vote(term: u64, last: u64, transfer: bool) -> Message {
    let body = Body::Vote { last_index: Index(last), last_term: Term(2), transfer };
    Message { term: Term(term), body }
}

#[test]
fn a_pre_vote_changes_neither_term_nor_vote_and_writes_nothing() {
    let mut net = Net::of(&[A, B, C]);
    net.pass(1000);
    let waits_until = net.at(B).next_timeout();
    net.timeout(A);
    net.deliver(A, B);
    assert!(matches!(net.wire(B, A)[..], [Body::PreVoteReply { granted: true, .. }]));
    assert_eq!(net.at(B).next_timeout(), waits_until, "who only asks does not keep others waiting");
    for node in [A, B] {
        assert_eq!((net.at(node).term(), net.at(node).vote()), (Term(1), None));
        assert_eq!(net.unwritten(node), 0);
    }
    // So that b may say yes to another, and really vote for it.
    net.timeout(C);
    net.deliver(C, B);
    net.deliver(B, C);
    net.persist(C);
    net.deliver_all(C, B);
    assert_eq!((net.at(B).term(), net.at(B).vote()), (Term(2), Some(C)));
}

#[test]
fn answers_to_a_pre_vote_are_not_votes() {
    let mut net = Net::of(&[A, B, C]);
    net.pass(1000);
    net.timeout(A);
    net.deliver(A, B);
    net.deliver(B, A);
    net.persist(A);
    assert_eq!((net.at(A).role(), net.at(A).term()), (Role::Candidate, Term(2)));
    // c's answer to the pre-vote comes late, others as they may.
    net.deliver(A, C);
    net.deliver(C, A);
    for (term, next) in [(1, 2), (2, 2), (2, 3), (1, 3)] {
        let body = Body::PreVoteReply { next: Term(next), granted: true };
        net.inject(C, A, Message { term: Term(term), body });
    }
    assert_eq!(net.at(A).role(), Role::Candidate);
    // Nor is a vote a pre-vote.
    net.timeout(A);
    assert_eq!(net.at(A).role(), Role::PreCandidate);
    net.inject(C, A, Message { term: Term(2), body: Body::VoteReply { granted: true } });
    assert_eq!((net.at(A).role(), net.at(A).term()), (Role::PreCandidate, Term(2)));
}

#[test]
fn a_follower_in_a_higher_term_answers_a_stale_leader() {
    // c has become a candidate while nobody heard it. Without its answer the leader would send to
    // it for ever, and c would ignore it for ever.
    for probe in ["heartbeat", "append", "install"] {
        let mut net = Net::led(&[A, B, C], &[]);
        net.isolate(C);
        net.with(C, |raft, now| {
            raft.leader_heard = None;
            raft.adopt(now, Term(7));
        });
        while net.persist(C) {}
        net.cut.clear();
        match probe {
            "heartbeat" => net.tick(A),
            "append" => drop(net.propose(A, "x").unwrap()),
            _ => {
                let snapshot = net.at(A).snapshot().clone();
                let term = net.at(A).term();
                net.inject(A, C, Message { term, body: Body::Install { snapshot } });
            }
        }
        net.pass(HEARTBEAT_MS);
        if probe == "heartbeat" {
            net.tick(A);
        }
        net.deliver_all(A, C);
        net.deliver_all(C, A);
        assert_eq!((net.at(A).term(), net.at(A).role()), (Term(7), Role::Follower), "{probe}");
        net.run(3000);
        let leader = net.leader().expect("a leader again");
        assert!(net.at(leader).term() > Term(7));
        assert_eq!(net.at(C).leader(), Some(leader), "{probe}");
    }
}

#[test]
fn a_node_in_a_lower_term_learns_the_term_from_its_refused_pre_vote() {
    let mut net = Net::of(&[A, B, C]);
    net.isolate(C);
    net.elect(A);
    net.crash(A, 0);
    net.heal();
    assert!(net.at(C).term() < net.at(B).term());
    net.timeout(C);
    net.deliver_all(C, B);
    net.deliver_all(B, C);
    assert_eq!(net.at(C).term(), net.at(B).term());
    net.run(3000);
    assert_eq!(net.leader(), Some(B), "the one with the longer log");
}

#[test]
fn a_node_that_returns_does_not_disrupt_the_leader_that_is_there() {
    let mut net = Net::led(&[A, B, C], &[]);
    let term = net.at(A).term();
    net.isolate(C);
    net.run(10_000);
    assert!(net.at(C).campaigns() > 10);
    assert_eq!(net.at(C).term(), term, "asking raises no term");
    net.heal();
    net.run(3000);
    assert_eq!((net.leader(), net.at(A).term()), (Some(A), term));
    assert_eq!(net.at(C).leader(), Some(A));
}

#[test]
fn a_request_for_votes_in_a_higher_term_is_ignored_while_a_leader_is_heard() {
    reaches!(DisruptionIgnored);
    let mut net = Net::led(&[A, B, C], &[]);
    let term = net.at(A).term();
    net.run(1000);
    for node in [A, B] {
        net.inject(C, node, vote(9, 5, false));
        assert_eq!(net.at(node).term(), term);
        assert_eq!(net.unwritten(node), 0);
    }
    // But not when it has been silent, and not when it has asked for the election itself.
    net.inject(C, B, vote(9, 5, true));
    assert_eq!((net.at(B).term(), net.at(B).vote()), (Term(9), Some(C)));
    let mut net = Net::led(&[A, B, C], &[]);
    net.pass(ELECTION_MIN_MS);
    net.inject(C, B, vote(9, 5, false));
    assert_eq!(net.at(B).vote(), Some(C));
}

#[test]
fn a_deaf_node_does_not_livelock_elections() {
    // d is heard by all and hears nobody: it campaigns without end.
    let mut net = Net::led(&[A, B, C, D, E], &[]);
    for other in [A, B, C, E] {
        net.cut_one_way(other, D);
    }
    let term = net.at(A).term();
    net.run(5000);
    assert!(net.at(D).campaigns() > 5);
    assert_eq!((net.leader(), net.at(A).term()), (Some(A), term), "under a leader");
    net.crash(A, 0);
    for _ in 0..30 {
        // It asks faster than anybody loses patience.
        net.timeout(D);
        net.run(HEARTBEAT_MS);
    }
    let leader = net.leader().expect("elected in spite of d");
    let term = net.at(leader).term();
    assert!(term <= Term(5), "after few attempts: {term}");
    net.run(5000);
    assert_eq!((net.leader(), net.at(leader).term()), (Some(leader), term));
}

#[test]
fn a_deaf_leader_gives_way() {
    let mut net = Net::led(&[A, B, C], &[]);
    net.cut_one_way(B, A);
    net.cut_one_way(C, A);
    net.run(5000);
    let leader = net.leader().expect("another leads");
    assert_ne!(leader, A);
    assert!(!net.at(A).is_leader());
    let term = net.at(leader).term();
    net.run(5000);
    assert_eq!(net.at(leader).term(), term);
}

#[test]
fn the_same_vote_is_granted_again_in_the_same_term_and_no_other() {
    let mut net = Net::of(&[A, B, C]);
    net.pass(1000);
    let yes = |net: &Net, to| net.wire(B, to).last().cloned();
    let ask = vote(5, 1, false);
    net.inject(A, B, ask.clone());
    net.persist(B);
    for round in 0..3 {
        net.inject(C, B, ask.clone());
        assert_eq!(yes(&net, C), Some(Body::VoteReply { granted: false }), "round {round}");
        net.inject(A, B, ask.clone());
        assert_eq!(yes(&net, A), Some(Body::VoteReply { granted: true }), "round {round}");
        net.lose_everything();
        if round == 1 {
            // Also after a restart: the vote is read back.
            net.crash(B, 0);
            net.restart(B);
        }
    }
    assert_eq!(net.host(B).disk().hard_state.vote, Some(A));
}

#[test]
fn a_log_that_lacks_something_gets_no_vote() {
    let mut net = Net::of(&[A, B, C]);
    net.isolate(C);
    net.elect(A);
    net.crash(A, 0);
    net.heal();
    net.pass(1000);
    let term = net.at(B).term().0 + 1;
    for (last_index, last_term, granted) in [(9, 1, false), (1, 2, false), (2, 2, true)] {
        let (last_index, last_term) = (Index(last_index), Term(last_term));
        let body = Body::PreVote { next: Term(term), last_index, last_term };
        net.inject(C, B, Message { term: Term(term - 1), body });
        let answer = net.wire(B, C).last().cloned();
        assert_eq!(answer, Some(Body::PreVoteReply { next: Term(term), granted }));
    }
    for (last_index, last_term, granted) in [(9, 1, false), (1, 2, false), (2, 2, true)] {
        let (last_index, last_term) = (Index(last_index), Term(last_term));
        let body = Body::Vote { last_index, last_term, transfer: false };
        net.inject(C, B, Message { term: Term(term), body });
        while net.persist(B) {}
        assert_eq!(net.wire(B, C).last().cloned(), Some(Body::VoteReply { granted }));
    }
}

#[test]
fn a_damaged_log_neither_votes_nor_acknowledges_nor_campaigns() {
    reaches!(VoterAbstains);
    let mut net = Net::led(&[A, B, C], &[]);
    net.propose(A, "kept").unwrap();
    net.settle();
    net.crash(C, 0);
    net.hosts.get_mut(&C).unwrap().damage();
    net.restart(C);
    net.heal();
    net.run(2000);
    assert!(net.at(C).abstains());
    assert_eq!(net.at(C).leader(), Some(A), "it knows whom to ask");
    assert!(!net.at(A).is_active(net.now, C));
    // Nor does it when its copy takes the place of another, as a restore makes it.
    let at = net.at(C).commit();
    let base = Snapshot {
        index: at,
        term: net.at(C).term_at(at).expect("it is in the log"),
        membership: net.at(C).membership_at(at).clone(),
        data: Bytes::new(),
    };
    net.with(C, |raft, _| raft.install_copy(Generation(9), base));
    while net.persist(C) {}
    assert_eq!(net.wire(C, A), [], "it acknowledges nothing");
    // b and c together could have elected somebody.
    net.crash(A, 0);
    net.run(5000);
    assert_eq!(net.leader(), None);
    assert_eq!(net.at(C).campaigns(), 0);
    assert_eq!(net.host(C).disk().hard_state.vote, Some(A), "as it was");
    net.restart(A);
    net.run(3000);
    assert!(net.leader().is_some());
}

#[test]
fn a_leader_that_reaches_no_quorum_resigns() {
    reaches!(LeaderWithoutQuorum);
    let mut net = Net::led(&[A, B, C, D], &[]);
    net.cut(A, B);
    net.cut(A, C);
    net.run(2000);
    assert!(net.at(A).is_leader(), "half with the tie-breaker is enough");
    net.cut(A, D);
    net.run(2000);
    assert!(!net.at(A).is_leader());
}

#[test]
fn a_lost_link_to_the_leader_starts_an_election_that_its_lease_still_prevents() {
    let mut net = Net::led(&[A, B, C], &[]);
    let term = net.at(A).term();
    net.run(1000);
    net.cut(A, B);
    net.with(B, |raft, now| raft.link_lost(now, A));
    assert!(net.at(B).next_timeout() <= net.now + std::time::Duration::from_millis(HEARTBEAT_MS));
    net.run(200);
    assert!(net.at(B).campaigns() > 0);
    assert_eq!((net.leader(), net.at(A).term()), (Some(A), term));
    // When all have lost it, nobody waits.
    net.crash(A, 0);
    net.with(C, |raft, now| raft.link_lost(now, A));
    net.with(B, |raft, now| raft.link_lost(now, A));
    net.run(150);
    assert!(net.leader().is_some());
}
