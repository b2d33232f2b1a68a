//! What a node has shown to those who asked it: it does not answer from before that.
//!
//! A write is answered when it is committed, which is before the copies elsewhere have it. Whoever
//! writes through a node and then reads there, by another connection and without a token, would miss
//! it for a moment. So a read of which nothing is asked but what the configuration says waits for what
//! the node has answered before: for a while only, for one that is cut off goes on with what it has.

use std::collections::BTreeMap;

use crate::configuration::Configuration;
use crate::engine::Position;
use crate::shard::{Reply, ShardId};

/// The furthest answer of each shard.
#[derive(Default, Debug)]
pub(super) struct Shown(BTreeMap<ShardId, Position>);

impl Shown {
    /// Somebody at this node is answered.
    pub(super) fn answered(&mut self, of: ShardId, reply: &Reply) {
        let Some(at) = reply.done_at() else { return };
        let shown = self.0.entry(of).or_default();
        if at.index > shown.index {
            *shown = at;
        }
    }

    /// What a read of a shard must have; `None`: nothing was answered of it.
    pub(super) fn of(&self, of: ShardId) -> Option<Position> {
        self.0.get(&of).copied().filter(|at| *at != Position::default())
    }

    /// Nobody in reach has what was shown: it is not waited for again.
    pub(super) fn gave_up(&mut self, of: ShardId, at: Position) {
        if self.of(of) == Some(at) {
            self.0.remove(&of);
        }
    }

    /// Keeps what the document knows.
    pub(super) fn keep(&mut self, document: &Configuration) {
        self.0.retain(|of, _| {
            let shard = document.shard_of(of.log).filter(|_| document.cluster == of.cluster);
            shard.is_some_and(|shard| shard.database.id == of.database)
        });
    }
}
