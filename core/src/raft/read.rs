//! Linearizable reads without a write: read index (Ongaro's thesis, section 6.4). No leases.

use std::collections::VecDeque;

use thiserror::Error;

use super::{Index, Office, Quorum, Raft};

/// Reads that may wait at one time.
const READS_MAX: usize = 4096;

/// Why a read cannot be served here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum ReadError {
    /// Ask the leader.
    #[error("not the leader")]
    NotLeader,
    /// The leader does not know yet what is committed: try again.
    #[error("the leader has not committed an entry of its own term yet")]
    NoOwnEntry,
    /// Too many wait.
    #[error("too many reads are waiting")]
    Busy,
}

/// Reads that wait for a quorum to confirm that this leader still leads.
#[cfg_attr(feature = "model", derive(Clone))]
#[derive(Default, Debug)]
pub(super) struct Reads {
    waiting: VecDeque<(u64, Index, u64)>,
    ready: VecDeque<(u64, Index)>,
}

impl Raft {
    /// Asks for the index that a linearizable read begun now must have applied. The answer comes
    /// from [`Raft::take_read`] under the caller's `token`, or never, if leadership is lost first.
    ///
    /// # Errors
    /// [`ReadError`]: nothing waits.
    pub fn read(&mut self, token: u64) -> Result<(), ReadError> {
        let (settled, commit) = (self.is_settled_leader(), self.commit);
        let Office::Leader(leading) = &mut self.office else { return Err(ReadError::NotLeader) };
        if !settled {
            return Err(ReadError::NoOwnEntry);
        }
        if leading.reads.waiting.len() >= READS_MAX {
            return Err(ReadError::Busy);
        }
        leading.reads.waiting.push_back((token, commit, leading.round + 1));
        self.send_heartbeats();
        self.serve_reads();
        Ok(())
    }

    /// The next read that may be served once its index is applied: its token and that index.
    pub fn take_read(&mut self) -> Option<(u64, Index)> {
        let Office::Leader(leading) = &mut self.office else { return None };
        leading.reads.ready.pop_front()
    }

    pub(super) fn serve_reads(&mut self) {
        let me = self.settings.node;
        let Office::Leader(leading) = &self.office else { return };
        if leading.reads.waiting.is_empty() {
            return;
        }
        let confirmed = |round: u64| {
            Quorum::of(self.log.membership()).is_met(|node| {
                node == me || leading.progress.get(&node).is_some_and(|p| p.round >= round)
            })
        };
        let count = leading.reads.waiting.iter().take_while(|(_, _, r)| confirmed(*r)).count();
        let Office::Leader(leading) = &mut self.office else { return };
        for (token, index, _) in leading.reads.waiting.drain(..count) {
            leading.reads.ready.push_back((token, index));
        }
    }
}
