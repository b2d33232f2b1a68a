//! How a log's membership follows the configuration, one step at a time.

use std::collections::BTreeSet;

use super::document::{Configuration, Role};
use crate::ids::NodeId;
use crate::raft::{Change, Half, Membership, Quorum};

/// What the leader knows of the others while it plans.
pub struct Reach<'a> {
    /// Whether it has heard from a node of late. True for itself.
    pub reachable: &'a dyn Fn(NodeId) -> bool,
    /// Whether a learner holds all that is committed. True for itself.
    pub caught_up: &'a dyn Fn(NodeId) -> bool,
}

/// The next change of the configuration log's membership, or `None` when it implements the
/// configuration as far as can be for now.
///
/// Voters are the masters, once caught up; learners are all other servers. The tie-breaker stays
/// where it is while its holder is a reachable voter, and else goes to the reachable voter that
/// has been a member longest. No change of voters is planned that could not decide with those
/// that are reachable, for it would stop the log half-way; learners are added all the same.
#[must_use]
pub fn plan(
    configuration: &Configuration,
    membership: &Membership,
    reach: &Reach<'_>,
) -> Option<Change> {
    if membership.is_joint() {
        // The log leaves a joint membership by itself, and nothing else may be changed until then.
        return None;
    }
    let voters = target_voters(configuration, membership, reach);
    let tie_breaker = tie_breaker(configuration, membership, &voters, reach);
    let mut half = Half { voters, tie_breaker };
    if half != membership.incoming && !Quorum::of_half(&half).is_met(|id| (reach.reachable)(id)) {
        // The voters cannot change yet. Whoever is to vote some day must be able to catch up.
        half = membership.incoming.clone();
    }
    let others = configuration.servers.keys().filter(|id| !half.voters.contains(id));
    let learners: BTreeSet<NodeId> = others.copied().collect();
    if half == membership.incoming && learners == membership.learners {
        return None;
    }
    Some(Change { half, learners, version: configuration.version })
}

fn target_voters(
    configuration: &Configuration,
    membership: &Membership,
    reach: &Reach<'_>,
) -> BTreeSet<NodeId> {
    let present = &membership.incoming.voters;
    let mut voters = BTreeSet::new();
    for (id, server) in &configuration.servers {
        if server.role != Role::Master {
            continue;
        }
        let ready =
            membership.learners.contains(id) && (reach.reachable)(*id) && (reach.caught_up)(*id);
        if present.contains(id) || ready {
            voters.insert(*id);
        } else if let Some(old) = server.replaces.filter(|old| present.contains(old)) {
            // The holder of the name goes when its successor comes: one joint change for both.
            voters.insert(old);
        }
    }
    voters
}

fn tie_breaker(
    configuration: &Configuration,
    membership: &Membership,
    voters: &BTreeSet<NodeId>,
    reach: &Reach<'_>,
) -> Option<NodeId> {
    let held = membership.incoming.tie_breaker.filter(|id| voters.contains(id));
    if held.is_some_and(|id| (reach.reachable)(id)) {
        return held;
    }
    let oldest = voters
        .iter()
        .filter(|id| (reach.reachable)(**id))
        .filter_map(|id| configuration.servers.get(id).map(|s| (s.joined, *id)))
        .min();
    oldest.map(|(_, id)| id).or(held).or_else(|| voters.first().copied())
}
