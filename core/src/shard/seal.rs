//! The end of a log: its shard goes over to another cluster, as the file that its copy is.

use super::{CopyState, Shard};
use crate::time::Time;

impl Shard {
    /// From here on nothing is run, or it is run again. Whoever asks for a write is sent away, as by one
    /// that does not own the shard: nothing ran. Reads of the copy go on.
    pub fn seal(&mut self, now: Time, sealed: bool) {
        self.now = now;
        if self.sealed != sealed {
            self.sealed = sealed;
            self.drive();
        }
    }

    /// Whether it is sealed, or to be.
    #[must_use]
    pub fn was_told_to_seal(&self) -> bool {
        self.sealed
    }

    /// Whether nothing is run any more, and the copy holds everything that was, durably: all that was
    /// ever acknowledged is in its file.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        let follow = &self.follow;
        let idle = self.writer.open.is_none()
            && self.writer.interactive.is_none()
            && self.writer.unresolved.is_empty()
            && self.writer.awaiting.is_empty()
            && follow.orders.is_empty()
            && !self.restore.waits();
        let last = self.raft.last_index();
        let complete = self.raft.is_settled_leader()
            && self.raft.commit() == last
            && follow.next > last
            && follow.applied == last;
        let durable = follow.synced.index >= follow.position.index;
        self.sealed && self.copy == CopyState::Open && idle && complete && durable
    }
}
