//! Whether anybody can be reached who could run a transaction, and who is missing.

use std::collections::BTreeSet;

use super::Node;
use crate::configuration::{ServerStatus, ShardRef};
use crate::ids::{LogId, NodeId};
use crate::marks::sometimes;
use crate::raft::Quorum;
use crate::shard::{RequestId, ShardError};

impl Node {
    /// What needs the owner is refused as soon as it is clear that there can be none: too few are in
    /// reach, and have been for longer than an election takes.
    pub(super) fn lost_for_good(&mut self, id: RequestId) -> Option<ShardError> {
        let pending = self.sql.pending.get(&id)?;
        let (log, kind) = (pending.log, pending.kind);
        let lost = !kind.any_copy_will_do() && self.is_out_of_reach(log);
        let (now, patience) = (self.now, self.config.timings.election_max * 2);
        let pending = self.sql.pending.get_mut(&id)?;
        if !lost {
            pending.lost_since = None;
            return None;
        }
        let since = *pending.lost_since.get_or_insert(now);
        (now.since(since) >= patience).then(|| {
            sometimes!(NobodyInReach);
            self.why_nobody(log)
        })
    }

    /// Whether those in reach could not decide in the shard's log, as far as this node knows it.
    fn is_out_of_reach(&self, log: LogId) -> bool {
        let me = self.id();
        let here = |node: NodeId| node == me || self.links.usable(node).is_some();
        if let Some(held) = self.shards.all.get(&log).filter(|held| held.log().last_index().0 > 0) {
            return !Quorum::of(held.log().membership()).is_met(here);
        }
        let shard = self.document.as_ref().and_then(|document| document.shard_of(log));
        let masters: Vec<NodeId> =
            shard.into_iter().flat_map(ShardRef::masters).map(|(node, _)| node).collect();
        // Half of them may be enough, which only they know.
        masters.iter().filter(|node| here(**node)).count() * 2 < masters.len()
    }

    /// Why nobody could be asked until the time was up.
    pub(super) fn why_nobody(&self, log: LogId) -> ShardError {
        let Some(document) = &self.document else { return ShardError::TimedOut };
        let Some(shard) = document.shard_of(log) else { return ShardError::TimedOut };
        let held = self.shards.all.get(&log).map(|held| held.log().membership());
        let voters: BTreeSet<NodeId> = match held {
            Some(membership) => membership.voters(),
            None => shard.masters().map(|(node, _)| node).collect(),
        };
        let here = |node: &NodeId| {
            let listed = document.servers.get(node);
            *node == self.id()
                || listed.is_some_and(|s| s.status == ServerStatus::Online)
                    && self.links.usable(*node).is_some()
        };
        let missing: Vec<NodeId> = voters.iter().filter(|v| !here(v)).copied().collect();
        let needed = voters.len() / 2 + 1;
        if missing.is_empty() {
            return ShardError::TimedOut;
        }
        ShardError::NoQuorum { missing, needed, voters: voters.len() }
    }
}
