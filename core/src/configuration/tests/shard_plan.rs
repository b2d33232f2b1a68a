//! How the membership of a shard's log follows the document.

use proptest::prelude::*;

use super::super::{
    ConfigCommand, Configuration, CopyStatus, DatabaseRules, Reach, RemoveReason, Role,
    ServerStatus, apply, plan_shard,
};
use super::{
    after, away, back, born, caught_up, cluster, configure, create, join, node, nodes, remove,
    role, rules, set_copy, shard,
};
use crate::ids::{ConfigVersion, NodeId};
use crate::raft::{Change, Half, Membership, Quorum};

fn planned(
    document: &Configuration,
    name: &str,
    membership: &Membership,
    gone: &[u128],
) -> Option<Change> {
    let gone = nodes(gone);
    let reach = Reach { reachable: &|n| !gone.contains(&n), caught_up: &|_| true };
    plan_shard(shard(document, name), membership, &reach)
}

/// Carries a change out, both entries of it.
fn done(membership: &Membership, change: Change) -> Membership {
    check(membership, &change);
    let Change { half, learners, version } = change;
    Membership { incoming: half, outgoing: None, learners, version }
}

/// What the log itself would refuse must not be planned, and the joint membership on the way must
/// have no quorum apart from one of the old or of the new.
fn check(membership: &Membership, change: &Change) {
    let half = &change.half;
    assert!(!membership.is_joint() && change.version >= membership.version);
    assert!(half.tie_breaker.is_some_and(|tie| half.voters.contains(&tie)), "{change:?}");
    assert!(half.voters.is_disjoint(&change.learners), "{change:?}");
    let new = half.voters.difference(&membership.incoming.voters);
    assert!(new.clone().all(|voter| membership.learners.contains(voter)), "{change:?}");
    let (incoming, outgoing) = (half.clone(), Some(membership.incoming.clone()));
    let joint = Membership { incoming, outgoing, ..Membership::default() };
    let all: Vec<NodeId> = joint.voters().into_iter().collect();
    for ayes in 0..1_u32 << all.len() {
        let says = |aye: bool| {
            let all = &all;
            move |id: NodeId| {
                all.iter().position(|v| *v == id).is_some_and(|at| (ayes >> at & 1 == 1) == aye)
            }
        };
        if Quorum::of(&joint).is_met(says(true)) {
            assert!(!Quorum::of(membership).is_met(says(false)), "{joint:?}");
            assert!(!Quorum::of_half(half).is_met(says(false)), "{joint:?}");
        }
    }
}

/// Plans until nothing is left to do, with the leader granting what has caught up.
fn settled(document: &Configuration, name: &str, membership: &Membership) -> Membership {
    let mut membership = membership.clone();
    for _ in 0..20 {
        match planned(document, name, &membership, &[]) {
            Some(change) => membership = done(&membership, change),
            None => return membership,
        }
    }
    panic!("never settles: {membership:?}")
}

fn first(document: &Configuration, name: &str) -> Membership {
    shard(document, name).shard.founding.as_ref().unwrap().first.clone()
}

/// The log has a leader, and the document knows it.
fn led(document: &Configuration, name: &str) -> (Configuration, Membership) {
    let first = first(document, name);
    let holders: Vec<u128> = first.incoming.voters.iter().map(|id| id.0).collect();
    (after(document, &born(document, name, &holders)), first)
}

fn demo(names: &[&str], servers: &str) -> (Configuration, Membership) {
    led(&after(&cluster(names), &create(&rules(&[("notes", servers)]))), "notes")
}

#[test]
fn the_first_membership_implements_the_document_that_made_it() {
    let (document, first) = demo(&["a", "b", "c"], "+");
    assert_eq!(planned(&document, "notes", &first, &[]), None);
}

#[test]
fn nobody_is_taken_out_of_a_log_before_the_document_knows_that_it_has_a_leader() {
    let document = after(&cluster(&["a", "b", "c"]), &create(&rules(&[("notes", "a +")])));
    let first = first(&document, "notes");
    let gone = after(&document, &remove(3, RemoveReason::Unreachable));
    assert_eq!(planned(&gone, "notes", &first, &[3]), None);
    let led = after(&gone, &born(&gone, "notes", &[1]));
    assert!(planned(&led, "notes", &first, &[3]).is_some());
}

#[test]
fn a_copy_is_a_learner_until_the_leader_grants_online_and_then_a_voter() {
    let (document, first) = demo(&["a", "b"], "+");
    let joined = after(&document, &join(3, "c"));
    let learning = settled(&joined, "notes", &first);
    assert_eq!(
        (learning.incoming.voters.clone(), learning.learners.clone()),
        (nodes(&[1, 2]), nodes(&[3]))
    );
    let online = caught_up(&joined, "notes");
    let voting = settled(&online, "notes", &learning);
    assert_eq!((voting.incoming.voters, voting.learners), (nodes(&[1, 2, 3]), nodes(&[])));
}

#[test]
fn a_voter_stays_one_whatever_becomes_of_its_copy() {
    let (document, first) = demo(&["a", "b", "c"], "+");
    let gone = after(&document, &away(3));
    assert_eq!(planned(&gone, "notes", &first, &[3]), None, "static, away, awaited");
    let returned = after(&gone, &back(3));
    assert_eq!(planned(&returned, "notes", &first, &[]), None);
    for status in [CopyStatus::Backup, CopyStatus::Synchronizing] {
        let changed = after(&document, &set_copy(&document, "notes", 3, status));
        assert_eq!(planned(&changed, "notes", &first, &[]), None, "{status:?}");
    }
}

#[test]
fn a_dynamic_server_that_was_removed_loses_its_vote() {
    let (document, first) = demo(&["a", "b", "c"], "a b +");
    for number in [2, 3] {
        let gone = after(&document, &remove(number, RemoveReason::Unreachable));
        let left = planned(&gone, "notes", &first, &[number]).unwrap();
        assert!(!left.half.voters.contains(&node(number)) && left.half.voters.len() == 2);
        assert_eq!(left.version, gone.version);
    }
}

#[test]
fn a_replica_learns_and_never_votes() {
    let document = after(&cluster(&["a", "b"]), &role(2, Role::Replica));
    let document = after(&document, &create(&rules(&[("notes", "a b")])));
    let (document, first) = led(&document, "notes");
    let members = settled(&document, "notes", &first);
    let document = caught_up(&document, "notes");
    let members = settled(&document, "notes", &members);
    assert_eq!(
        (members.incoming.voters.clone(), members.learners.clone()),
        (nodes(&[1]), nodes(&[2]))
    );
    let (document, first) = demo(&["a", "b", "c"], "+");
    let demoted = after(&document, &role(3, Role::Replica));
    let members = settled(&demoted, "notes", &first);
    assert_eq!((members.incoming.voters, members.learners), (nodes(&[1, 2]), nodes(&[3])));
}

#[test]
fn the_tie_breaker_moves_when_its_holder_is_away_and_not_when_the_owner_changes() {
    let (document, first) = demo(&["a", "b", "c", "d"], "d a b c");
    assert_eq!(first.incoming.tie_breaker, Some(node(4)));
    let change = planned(&document, "notes", &first, &[4]).unwrap();
    assert_eq!((change.half.tie_breaker, change.half.voters.len()), (Some(node(1)), 4));
    let owned = after(&document, &super::set_owner("notes", Some("b")));
    assert_eq!(planned(&owned, "notes", &first, &[]), None);
}

#[test]
fn nothing_is_planned_that_those_in_reach_could_not_finish() {
    let (document, first) = demo(&["a", "b", "c"], "+");
    let gone = after(&document, &remove(3, RemoveReason::Unreachable));
    let alone = Membership {
        incoming: Half { tie_breaker: Some(node(3)), ..first.incoming.clone() },
        ..first
    };
    // Of a and b only a is there: with the tie-breaker moved to it, that is half.
    let change = planned(&gone, "notes", &alone, &[2, 3]).unwrap();
    assert_eq!(change.half.tie_breaker, Some(node(1)));
    assert_eq!(planned(&gone, "notes", &alone, &[1, 2, 3]), None);
}

#[test]
fn nothing_is_planned_while_joint_or_from_an_older_version() {
    let (document, first) = demo(&["a", "b", "c"], "+");
    let gone = after(&document, &remove(3, RemoveReason::Unreachable));
    let mut joint = first.clone();
    joint.outgoing = Some(joint.incoming.clone());
    assert_eq!(planned(&gone, "notes", &joint, &[3]), None);
    let mut newer = first;
    newer.version = ConfigVersion(gone.version.0 + 1);
    assert_eq!(planned(&gone, "notes", &newer, &[3]), None);
}

#[test]
fn where_nothing_is_deployed_by_itself_a_copy_is_no_member_until_it_is_asked_for() {
    let mut given = rules(&[("notes", "+")]);
    given.settings.auto_deploy = false;
    let (document, first) = led(&after(&cluster(&["a", "b"]), &create(&given)), "notes");
    let joined = after(&document, &join(3, "c"));
    assert_eq!(planned(&joined, "notes", &first, &[]), None);
    let asked = after(&joined, &set_copy(&joined, "notes", 3, CopyStatus::Synchronizing));
    let members = settled(&asked, "notes", &first);
    assert_eq!(members.learners, nodes(&[3]));
    // Once a member it need not be asked for again.
    let returned = after(&after(&asked, &away(3)), &back(3));
    assert_eq!(shard(&returned, "notes").shard.copies[&node(3)], CopyStatus::NotAvailable);
    assert_eq!(planned(&returned, "notes", &members, &[]), None);
    let voting = settled(&caught_up(&returned, "notes"), "notes", &members);
    assert_eq!(voting.incoming.voters, nodes(&[1, 2, 3]));
}

#[test]
fn a_shard_that_moves_keeps_its_old_voters_until_the_new_ones_have_caught_up() {
    let (document, first) = demo(&["a", "b", "c", "d"], "a b");
    let moved = after(&document, &configure(&rules(&[("notes", "c d")])));
    let members = settled(&moved, "notes", &first);
    assert_eq!(
        (members.incoming.voters.clone(), members.learners.clone()),
        (nodes(&[1, 2]), nodes(&[3, 4]))
    );
    let one = after(&moved, &set_copy(&moved, "notes", 3, CopyStatus::Online));
    let members = settled(&one, "notes", &members);
    assert_eq!(members.incoming.voters, nodes(&[1, 2, 3]), "one copy alone would be too few");
    let both = caught_up(&one, "notes");
    let members = settled(&both, "notes", &members);
    assert_eq!((members.incoming.voters, members.learners), (nodes(&[3, 4]), nodes(&[])));
    // Nobody waits for a server that is away.
    let gone = after(&one, &away(4));
    let members = settled(&gone, "notes", &settled(&moved, "notes", &first));
    assert_eq!((members.incoming.voters, members.learners), (nodes(&[3]), nodes(&[4])));
}

#[test]
fn a_shard_that_moves_does_not_wait_for_a_copy_that_an_operator_has_put_out_of_use() {
    let (document, first) = demo(&["a", "b", "c", "d"], "a b");
    let moved = after(&document, &configure(&rules(&[("notes", "c d")])));
    let receiving = settled(&moved, "notes", &first);
    assert_eq!(receiving.learners, nodes(&[3, 4]));
    let offline = |document: &Configuration, id, offline| {
        let log = shard(document, "notes").shard.log;
        after(document, &ConfigCommand::SetOffline { log, node: node(id), offline })
    };
    // Both of the new ones: then the old ones are all there is.
    let neither = offline(&offline(&moved, 3, true), 4, true);
    assert_eq!(settled(&neither, "notes", &receiving).incoming, receiving.incoming);
    let one = caught_up(&offline(&moved, 4, true), "notes");
    let members = settled(&one, "notes", &receiving);
    assert_eq!(
        (members.incoming.voters.clone(), members.learners.clone()),
        (nodes(&[3]), nodes(&[4]))
    );
    let both = caught_up(&offline(&one, 4, false), "notes");
    assert_eq!(settled(&both, "notes", &members).incoming.voters, nodes(&[3, 4]));
}

#[test]
fn a_wiped_disk_takes_the_vote_of_its_predecessor_in_one_change() {
    let (document, first) = demo(&["a", "b", "c"], "a b c");
    let wiped = after(&after(&document, &away(3)), &join(9, "c"));
    let members = settled(&wiped, "notes", &first);
    assert_eq!(
        (members.incoming.voters.clone(), members.learners.clone()),
        (nodes(&[1, 2, 3]), nodes(&[9]))
    );
    let members = settled(&caught_up(&wiped, "notes"), "notes", &members);
    assert_eq!((members.incoming.voters, members.learners), (nodes(&[1, 2, 9]), nodes(&[])));
}

#[test]
fn a_shard_whose_every_server_was_wiped_keeps_the_voters_it_had() {
    let (document, first) = demo(&["a", "b"], "b");
    let gone = after(&document, &away(2));
    assert_eq!(planned(&gone, "notes", &first, &[2]), None);
    let wiped = after(&gone, &join(9, "b"));
    let change = planned(&wiped, "notes", &first, &[2]).unwrap();
    assert_eq!(change.half, first.incoming, "a copy that holds nothing does not take over");
}

/// One random thing that happens to a cluster, or to what its leader sees.
#[derive(Clone, Debug)]
enum Step {
    Away(u128),
    Back(u128),
    Remove(u128),
    Join(u128),
    Role(u128, Role),
    Copy(u128, CopyStatus),
    Configure(&'static str),
    Plan(Vec<u128>),
}

fn any_step() -> impl Strategy<Value = Step> {
    use CopyStatus::{NotAvailable, Online, Synchronizing};
    let number = 1_u128..7;
    prop_oneof![
        1 => number.clone().prop_map(Step::Away),
        1 => number.clone().prop_map(Step::Back),
        1 => number.clone().prop_map(Step::Remove),
        2 => number.clone().prop_map(Step::Join),
        1 => (number.clone(), any::<bool>()).prop_map(|(n, master)| {
            Step::Role(n, if master { Role::Master } else { Role::Replica })
        }),
        4 => (number.clone(), prop_oneof![Just(NotAvailable), Just(Synchronizing), Just(Online), Just(Online)])
            .prop_map(|(n, status)| Step::Copy(n, status)),
        1 => prop_oneof![Just("+"), Just("n1 n2"), Just("n3 +"), Just("n4 n5 n6"), Just("n2")]
            .prop_map(Step::Configure),
        6 => proptest::collection::vec(number, 0..3).prop_map(Step::Plan),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_every_membership_is_one_safe_step_from_the_one_before(
        steps in proptest::collection::vec(any_step(), 1..80)
    ) {
        let names = ["n1", "n2", "n3"];
        let (document, mut members) = demo(&names, "+");
        let mut held = Some(document);
        for step in steps {
            let document = held.clone().unwrap();
            let command = match step {
                Step::Away(n) => away(n),
                Step::Back(n) => back(n),
                Step::Remove(n) => remove(n, RemoveReason::Unreachable),
                Step::Join(n) => join(n, &format!("n{n}")),
                Step::Role(n, to) => role(n, to),
                Step::Copy(n, status) => set_copy(&document, "notes", n, status),
                Step::Configure(servers) => configure(&rules(&[("notes", servers)])),
                Step::Plan(gone) => {
                    if let Some(change) = planned(&document, "notes", &members, &gone) {
                        let reached = |id: NodeId| !gone.contains(&id.0);
                        if change.half != members.incoming {
                            prop_assert!(Quorum::of_half(&change.half).is_met(reached), "a minority");
                        }
                        let seen = shard(&document, "notes");
                        for voter in change.half.voters.difference(&members.incoming.voters) {
                            prop_assert_eq!(seen.shard.copies.get(voter), Some(&CopyStatus::Online));
                            prop_assert!(seen.masters().any(|(id, _)| id == *voter));
                        }
                        // Who still is a master with a place never loses its vote, but to its successor.
                        for voter in members.incoming.voters.difference(&change.half.voters) {
                            prop_assert!(seen.masters().all(|(id, _)| id != *voter));
                        }
                        members = done(&members, change);
                    }
                    continue;
                }
            };
            let _ = apply(&mut held, &command);
        }
        // When all are there and caught up, the masters vote, the others learn, and it is over.
        let mut document = held.unwrap();
        for id in document.servers.clone().into_keys() {
            document = after_or_same(&document, &status_online(id));
        }
        let document = caught_up(&document, "notes");
        let members = settled(&document, "notes", &members);
        let seen = shard(&document, "notes");
        let masters: std::collections::BTreeSet<NodeId> = seen.masters().map(|(id, _)| id).collect();
        if !masters.is_empty() {
            prop_assert_eq!(&members.incoming.voters, &masters);
        }
        prop_assert_eq!(planned(&document, "notes", &members, &[]), None);
    }
}

fn status_online(id: NodeId) -> super::ConfigCommand {
    super::status(id.0, ServerStatus::Online)
}

fn after_or_same(document: &Configuration, command: &super::ConfigCommand) -> Configuration {
    let mut held = Some(document.clone());
    let _ = apply(&mut held, command);
    held.unwrap()
}

#[test]
fn a_database_without_rules_is_planned_like_any_other() {
    let document = after(&cluster(&["a"]), &create(&DatabaseRules::default()));
    let (document, members) = led(&document, "main");
    let joined = after(&document, &join(2, "b"));
    let members = settled(&joined, "main", &members);
    assert_eq!(members.learners, nodes(&[2]));
}
