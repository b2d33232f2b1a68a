//! The client's end of a session: sequences, and up to where all are answered.

use std::collections::{BTreeSet, VecDeque};

use super::api::TicketId;
use crate::shard::{Once, SessionId, ShardId};
use crate::time::Time;

/// Sequences of one session that may be unanswered: a server keeps no more answers than these.
pub(super) const UNANSWERED_MAX: usize = 256;

/// Names a session among all that a client ever has: shards may give the same numbers.
pub(super) type Name = (ShardId, SessionId);

/// A session with a shard.
#[derive(Debug, Default)]
pub(super) struct Session {
    open: Option<Name>,
    /// It is asked for.
    pub(super) opening: bool,
    /// Not asked for again before this.
    pub(super) not_before: Time,
    /// How often in a row it was not opened.
    pub(super) failures: u32,
    last: u64,
    /// All up to here are answered.
    acknowledged: u64,
    /// Those beyond that are answered.
    answered: BTreeSet<u64>,
    /// Requests that wait for it.
    pub(super) waiting: VecDeque<TicketId>,
}

impl Session {
    /// Which one, if it is open.
    pub(super) fn is(&self) -> Option<Name> {
        self.open
    }

    /// It is open.
    pub(super) fn opened(&mut self, of: ShardId, session: SessionId) {
        self.open = Some((of, session));
        (self.last, self.acknowledged) = (0, 0);
        self.answered.clear();
        self.opening = false;
    }

    /// It is not known any more. Whether nothing was done in it.
    pub(super) fn expired(&mut self, session: Name) -> bool {
        let was = self.open.take_if(|known| *known == session).is_some();
        was && self.acknowledged == 0 && self.answered.is_empty()
    }

    /// A sequence for a request; `None` while it is not open, or too many are unanswered.
    pub(super) fn sequence(&mut self) -> Option<(Name, u64)> {
        let session = self.open?;
        let unanswered = self.last - self.acknowledged;
        if usize::try_from(unanswered).unwrap_or(usize::MAX) >= UNANSWERED_MAX {
            return None;
        }
        self.last += 1;
        Some((session, self.last))
    }

    /// What is sent along; `None` if the session is another one by now.
    pub(super) fn once(&self, session: Name, sequence: u64) -> Option<Once> {
        let (ShardId { cluster, log, .. }, session) =
            self.open.filter(|known| *known == session)?;
        let acknowledged = self.acknowledged;
        Some(Once { cluster, log, session, sequence, acknowledged })
    }

    /// A request has its answer, or nobody waits for one: it is not sent again.
    pub(super) fn answered(&mut self, session: Name, sequence: u64) {
        if self.open.is_none_or(|known| known != session) {
            return;
        }
        self.failures = 0;
        self.answered.insert(sequence);
        while self.answered.remove(&(self.acknowledged + 1)) {
            self.acknowledged += 1;
        }
    }
}

/// What a client has seen of a shard.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) of: ShardId,
    pub(super) at: crate::engine::Position,
}
