//! How a log's membership follows the configuration, one step at a time. The rules exist once, for
//! the configuration log and for the logs of shards; these differ in who is to take part.

use std::collections::{BTreeMap, BTreeSet};

use super::database::CopyStatus;
use super::document::{Configuration, Role, ServerStatus};
use super::ownership::ShardRef;
use crate::faults::{self, Fault};
use crate::ids::NodeId;
use crate::raft::{Change, Half, Membership, Quorum};

/// What the leader knows of the others while it plans.
pub struct Reach<'a> {
    /// Whether it has heard from a node of late. True for itself.
    pub reachable: &'a dyn Fn(NodeId) -> bool,
    /// Whether a learner holds all that is committed. True for itself.
    pub caught_up: &'a dyn Fn(NodeId) -> bool,
}

/// Who is to take part in a log.
struct Wanted<'a> {
    document: &'a Configuration,
    /// The masters, and whether each may be made a voter if it is none yet.
    masters: BTreeMap<NodeId, bool>,
    /// Who receives the log if it does not vote.
    admitted: BTreeSet<NodeId>,
    /// Who has no part any more and yet votes until those who are there have caught up: whoever
    /// moves house does not burn the old one first.
    lingering: BTreeSet<NodeId>,
    /// Of the masters those for whom that is done: they will have caught up without an operator.
    awaited: BTreeSet<NodeId>,
}

/// The next change of the configuration log's membership, or `None` when it implements the
/// configuration as far as can be for now.
///
/// Voters are the masters, once caught up; learners are all other servers. The tie-breaker stays
/// where it is while its holder is a reachable voter, and else goes to the reachable voter that
/// has been a member longest. No change of voters is planned that could not decide with those
/// that are reachable, for it would stop the log half-way; learners are added all the same. None
/// is planned from an older version of the configuration than the membership implements.
#[must_use]
pub fn plan(
    configuration: &Configuration,
    membership: &Membership,
    reach: &Reach<'_>,
) -> Option<Change> {
    let masters = configuration.masters().map(|(id, _)| (id, true)).collect();
    let admitted = configuration.servers.keys().copied().collect();
    let (lingering, awaited) = (BTreeSet::new(), BTreeSet::new());
    let wanted = Wanted { document: configuration, masters, admitted, lingering, awaited };
    wanted.next(membership, reach)
}

/// The next change of the membership of a shard's log, by the same rules as [`plan`].
///
/// A master's copy becomes a voter when it is caught up and `ONLINE`, and **stays one whatever its
/// status** until its server is removed, made a replica, or taken from the shard's places: what a
/// copy is worth in a quorum does not depend on whether it is there. All other copies are learners.
/// When a shard moves, those that have only lost their place vote on until the masters that are
/// placed and there have caught up, so that no move thins out what is durable. Those do not wait for
/// an `OFFLINE` copy: it comes to vote only when an operator ends that.
///
/// Where `autoDeploy` is off, a copy is no member at all until it is asked for (`SYNCHRONIZING`),
/// for to receive the log is to be copied; once it is a member it stays one. Nor does an `OFFLINE`
/// copy become a member, while one that is stays.
///
/// Nothing is planned before the document knows that the log has a leader
/// ([`ConfigCommand::Born`](super::ConfigCommand)): until then the membership is the first one, so
/// that nobody who may still have to begin the log has been taken out of it.
#[must_use]
pub fn plan_shard(
    shard: ShardRef<'_>,
    membership: &Membership,
    reach: &Reach<'_>,
) -> Option<Change> {
    if shard.shard.founding.as_ref().is_some_and(|founding| !founding.led) {
        return None;
    }
    let status = |id: NodeId| shard.shard.copies.get(&id).copied();
    let whole = |id: NodeId| status(id).is_some_and(CopyStatus::is_whole);
    let admitted = |id: &NodeId| {
        membership.contains(*id)
            || match status(*id) {
                Some(CopyStatus::NotAvailable) => shard.database.settings.auto_deploy,
                Some(CopyStatus::Offline) | None => false,
                Some(CopyStatus::Synchronizing | CopyStatus::Online | CopyStatus::Backup) => true,
            }
    };
    let by_status = faults::active(Fault::StatusDecidesTheVote);
    let masters = shard.masters().map(|(id, _)| (id, whole(id)));
    let masters: BTreeMap<NodeId, bool> =
        masters.filter(|(_, whole)| *whole || !by_status).collect();
    let admitted: BTreeSet<NodeId> = shard.servers().map(|(id, _)| id).filter(admitted).collect();
    let is_master = |id: &NodeId| {
        let server = shard.document.servers.get(id);
        server.is_some_and(|server| shard.database.role_of(server) == Role::Master)
    };
    let placed: BTreeSet<NodeId> = shard.servers().map(|(id, _)| id).collect();
    let lingering = membership.incoming.voters.difference(&placed).copied().filter(is_master);
    let lingering = lingering.collect();
    let comes = |id: &&NodeId| admitted.contains(id) && status(**id) != Some(CopyStatus::Offline);
    let awaited = masters.keys().filter(comes).copied().collect();
    let document = shard.document;
    Wanted { document, masters, admitted, lingering, awaited }.next(membership, reach)
}

impl Wanted<'_> {
    fn next(&self, membership: &Membership, reach: &Reach<'_>) -> Option<Change> {
        if membership.is_joint() || self.document.version < membership.version {
            // The log leaves a joint membership by itself, and nothing else may be changed until
            // then. And what it implements is never taken back by who knows an older version.
            return None;
        }
        let voters = self.voters(membership, reach);
        let tie_breaker = self.tie_breaker(membership, &voters, reach);
        let mut half = Half { voters, tie_breaker };
        if half != membership.incoming && !Quorum::of_half(&half).is_met(|id| (reach.reachable)(id))
        {
            // The voters cannot change yet. Whoever is to vote some day must be able to catch up.
            half = membership.incoming.clone();
        }
        let learners = self.admitted.difference(&half.voters).copied().collect();
        if half == membership.incoming && learners == membership.learners {
            return None;
        }
        Some(Change { half, learners, version: self.document.version })
    }

    fn voters(&self, membership: &Membership, reach: &Reach<'_>) -> BTreeSet<NodeId> {
        let present = &membership.incoming.voters;
        let mut voters = BTreeSet::new();
        for (id, may_vote) in &self.masters {
            let follows = membership.learners.contains(id)
                && (reach.reachable)(*id)
                && (reach.caught_up)(*id);
            let replaces = self.document.servers.get(id).and_then(|server| server.replaces);
            if present.contains(id) || (follows && *may_vote) {
                voters.insert(*id);
            } else if let Some(old) = replaces.filter(|old| present.contains(old)) {
                // The holder of the name goes when its successor comes: one joint change for both.
                voters.insert(old);
            }
        }
        let servers = &self.document.servers;
        let on_its_way = |id: &NodeId| {
            !voters.contains(id)
                && servers.get(id).is_some_and(|s| s.status == ServerStatus::Online)
        };
        if self.awaited.iter().any(on_its_way) {
            voters.extend(&self.lingering);
        }
        voters
    }

    fn tie_breaker(
        &self,
        membership: &Membership,
        voters: &BTreeSet<NodeId>,
        reach: &Reach<'_>,
    ) -> Option<NodeId> {
        let held = membership.incoming.tie_breaker.filter(|id| voters.contains(id));
        if held.is_some_and(|id| (reach.reachable)(id)) {
            return held;
        }
        let servers = &self.document.servers;
        let oldest = voters
            .iter()
            .filter(|id| (reach.reachable)(**id))
            .filter_map(|id| servers.get(id).map(|s| (s.joined, *id)))
            .min();
        oldest.map(|(_, id)| id).or(held).or_else(|| voters.first().copied())
    }
}
