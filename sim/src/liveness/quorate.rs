//! Whether a cluster can still decide, judged from the disks.

use quorate_core::{ClusterId, NodeId};

use super::Living;
use crate::checks::quorum::is_enough;
use crate::disk::Shadow;
use crate::world::World;

/// Whether any of those who live could be elected by those who live, under the membership that is
/// in force in its own log: everyone whose log is not ahead of its own can vote for it.
pub(super) fn can_decide(members: &[&Living<'_>]) -> bool {
    let logs: Vec<(NodeId, &Shadow)> =
        members.iter().map(|m| (m.id, &m.directory.written_log)).collect();
    can_elect(&logs)
}

/// Whether one of these could be elected by these.
pub(crate) fn can_elect(logs: &[(NodeId, &Shadow)]) -> bool {
    logs.iter().any(|(candidate, log)| {
        let Some(membership) = log.membership() else { return false };
        let end = (log.last_term(), log.last_index());
        let votes = |id: NodeId| {
            logs.iter()
                .any(|(voter, held)| *voter == id && (held.last_term(), held.last_index()) <= end)
        };
        membership.is_voter(*candidate) && is_enough(membership, &votes)
    })
}

/// The cluster into which this one has dissolved, if it has.
pub(super) fn has_dissolved(world: &World, cluster: ClusterId) -> Option<ClusterId> {
    let document = world.checks.known(cluster)?.document()?;
    document.dissolved_into.as_ref().map(|to| to.into)
}
