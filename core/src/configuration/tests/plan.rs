use super::super::{
    ConfigCommand, Configuration, Defaults, Reach, RemoveReason, Role, ServerStatus, plan,
};
use super::{after, founded, join, node, nodes};
use crate::raft::{Change, Half, Membership};

fn membership(voters: &[u128], tie_breaker: u128, learners: &[u128]) -> Membership {
    let half = Half { voters: nodes(voters), tie_breaker: Some(node(tie_breaker)) };
    Membership { incoming: half, learners: nodes(learners), ..Membership::default() }
}

/// Plans with all reachable and caught up but those named.
fn planned(
    document: &Configuration,
    membership: &Membership,
    gone: &[u128],
    lagging: &[u128],
) -> Option<Change> {
    let (gone, lagging) = (nodes(gone), nodes(lagging));
    let reach = Reach { reachable: &|n| !gone.contains(&n), caught_up: &|n| !lagging.contains(&n) };
    plan(document, membership, &reach)
}

#[test]
fn a_membership_that_implements_the_configuration_is_left_alone() {
    let document = founded(3, Defaults::default());
    assert_eq!(planned(&document, &membership(&[1, 2, 3], 1, &[]), &[], &[]), None);
    assert_eq!(planned(&document, &membership(&[1, 2, 3], 1, &[]), &[3], &[]), None);
}

#[test]
fn a_joiner_is_a_learner_first_and_a_voter_once_caught_up() {
    let document = founded(3, Defaults::default());
    let change = planned(&document, &membership(&[1, 2], 1, &[]), &[], &[]).unwrap();
    assert_eq!((change.half.voters, change.learners), (nodes(&[1, 2]), nodes(&[3])));
    let present = membership(&[1, 2], 1, &[3]);
    assert_eq!(planned(&document, &present, &[], &[3]), None, "not while it lags");
    assert_eq!(planned(&document, &present, &[3], &[]), None, "not while it is unreachable");
    let change = planned(&document, &present, &[], &[]).unwrap();
    assert_eq!((change.half.voters, change.learners), (nodes(&[1, 2, 3]), nodes(&[])));
    assert_eq!(change.version, document.version);
}

#[test]
fn a_replica_never_votes_and_a_master_made_replica_stops_to() {
    let document = founded(3, Defaults::default());
    let replica = ConfigCommand::SetRole { node: node(3), role: Role::Replica };
    let document = after(&document, &replica);
    let change = planned(&document, &membership(&[1, 2, 3], 1, &[]), &[], &[]).unwrap();
    assert_eq!((change.half.voters, change.learners), (nodes(&[1, 2]), nodes(&[3])));
    assert_eq!(planned(&document, &membership(&[1, 2], 1, &[3]), &[], &[]), None);
}

#[test]
fn the_tie_breaker_moves_to_the_longest_member_in_reach_when_its_holder_is_away() {
    let document = founded(4, Defaults::default());
    let present = membership(&[1, 2, 3, 4], 1, &[]);
    let change = planned(&document, &present, &[1], &[]).unwrap();
    assert_eq!(change.half.tie_breaker, Some(node(2)));
    assert_eq!(change.half.voters, nodes(&[1, 2, 3, 4]), "the one that is away still counts");
    let change = planned(&document, &present, &[1, 2], &[]);
    assert_eq!(change.unwrap().half.tie_breaker, Some(node(3)));
}

#[test]
fn a_wiped_server_takes_its_predecessors_vote_in_one_change() {
    let document = founded(3, Defaults::default());
    let away = ConfigCommand::SetStatus {
        node: node(3),
        status: ServerStatus::Away,
        addresses: None,
        start: None,
    };
    let document = after(&after(&document, &away), &join(9, "n3"));
    let change = planned(&document, &membership(&[1, 2, 3], 1, &[]), &[3], &[9]).unwrap();
    assert_eq!((change.half.voters, change.learners), (nodes(&[1, 2, 3]), nodes(&[9])));
    let change = planned(&document, &membership(&[1, 2, 3], 1, &[9]), &[3], &[]).unwrap();
    assert_eq!((change.half.voters, change.learners), (nodes(&[1, 2, 9]), nodes(&[])));
}

#[test]
fn a_removed_server_loses_its_vote_and_the_tie_breaker_with_it() {
    let document = founded(2, Defaults::default());
    let remove = ConfigCommand::Remove { node: node(1), reason: RemoveReason::Left };
    let document = after(&document, &remove);
    let change = planned(&document, &membership(&[1, 2], 1, &[]), &[], &[]).unwrap();
    assert_eq!((change.half.voters, change.half.tie_breaker), (nodes(&[2]), Some(node(2))));
}

#[test]
fn no_change_is_planned_whose_voters_could_not_decide_with_those_in_reach() {
    let document = founded(3, Defaults::default());
    let remove = ConfigCommand::Remove { node: node(2), reason: RemoveReason::Operator };
    let document = after(&document, &remove);
    // Of 1 and 3 only 1 is there; with the tie-breaker that is enough, without it is not.
    assert!(planned(&document, &membership(&[1, 2, 3], 1, &[]), &[3], &[]).is_some());
    assert_eq!(planned(&document, &membership(&[1, 2, 3], 3, &[]), &[1, 3], &[]), None);
}

#[test]
fn learners_are_added_while_the_voters_cannot_change() {
    // Of the voters, 1 was removed and leads, 2 is away; 3 and 4 are to decide once caught up.
    let document = founded(4, Defaults::default());
    let remove = ConfigCommand::Remove { node: node(1), reason: RemoveReason::Operator };
    let document = after(&document, &remove);
    let change = planned(&document, &membership(&[1, 2], 1, &[]), &[2], &[3, 4]).unwrap();
    assert_eq!(change.half, membership(&[1, 2], 1, &[]).incoming);
    assert_eq!(change.learners, nodes(&[3, 4]));
    let change = planned(&document, &membership(&[1, 2], 1, &[3, 4]), &[2], &[]).unwrap();
    assert_eq!(change.half.voters, nodes(&[2, 3, 4]));
}

#[test]
fn nothing_is_planned_while_a_joint_membership_is_in_force() {
    let document = founded(3, Defaults::default());
    let mut present = membership(&[1, 2], 1, &[]);
    present.outgoing = Some(present.incoming.clone());
    assert_eq!(planned(&document, &present, &[], &[]), None);
}
