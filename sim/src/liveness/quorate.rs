//! Whether a cluster can still decide, judged from the disks.

use quorate_core::{ClusterId, NodeId};

use super::Living;
use crate::checks::quorum::is_enough;
use crate::world::World;

/// Whether any of those who live could be elected by those who live, under the membership that is
/// in force in its own log: everyone whose log is not ahead of its own can vote for it.
pub(super) fn can_decide(members: &[&Living<'_>]) -> bool {
    members.iter().any(|candidate| {
        let log = &candidate.directory.written_log;
        let Some(membership) = log.membership() else { return false };
        let end = (log.last_term(), log.last_index());
        let votes = |id: NodeId| {
            members.iter().any(|voter| {
                let held = &voter.directory.written_log;
                voter.id == id
                    && voter.directory.gone.is_none()
                    && (held.last_term(), held.last_index()) <= end
            })
        };
        membership.is_voter(candidate.id) && is_enough(membership, &votes)
    })
}

/// The cluster into which this one has dissolved, if it has.
pub(super) fn has_dissolved(world: &World, cluster: ClusterId) -> Option<ClusterId> {
    let document = world.checks.known(cluster)?.document()?;
    document.dissolved_into.as_ref().map(|to| to.into)
}
