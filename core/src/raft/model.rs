//! What a model checker needs of a replica: copies of it (`Clone`), a hash of whatever decides what it
//! will do, and time-outs as things that happen. Only with the feature `model`; nothing here changes
//! what a replica does.
//!
//! In a model the clock stands still, at a moment later than any time-out is long, and [`Raft::lapse`]
//! makes old what is to be old when something looks at it. So no instant is in the hash, nor what the
//! random generator yields next: they decide when a timer goes off and whether a lease is over, and in a
//! model the one may happen at any moment and the other is chosen at each look.

use std::hash::{Hash, Hasher};

use super::progress::{Flow, Progress};
use super::{Office, Raft};
use crate::time::Time;

/// What the passing of time can do to a replica.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Lapse {
    /// The leader that is followed was heard just now.
    Heard,
    /// It was heard longer ago than its lease lasts.
    Lease,
    /// The election time-out is over; so is the lease, which is shorter.
    Election,
    /// A leader's next heartbeat is due.
    Heartbeat,
    /// Nobody has answered the leader for as long as it waits before it looks whether a quorum is there.
    Silence,
    /// The leader has waited long enough for the one that it hands over to.
    Transfer,
}

impl Raft {
    /// Lets time pass for one thing. [`Raft::tick`] at the same `now` then does what is due.
    pub fn lapse(&mut self, now: Time, lapse: Lapse) {
        match (lapse, &mut self.office) {
            (Lapse::Heard, _) => self.leader_heard = self.leader.map(|_| now),
            (Lapse::Lease | Lapse::Election, _) => {
                self.leader_heard = self.leader_heard.map(|_| Time::ZERO);
                if lapse == Lapse::Election {
                    self.election = now;
                }
            }
            (Lapse::Heartbeat, Office::Leader(leading)) => leading.heartbeat = now,
            (Lapse::Silence, Office::Leader(leading)) => {
                leading.check_quorum = now;
                leading.progress.values_mut().for_each(|p| p.active = Time::ZERO);
            }
            (Lapse::Transfer, Office::Leader(leading)) => {
                leading.transfer.iter_mut().for_each(|transfer| transfer.until = now);
            }
            _ => {}
        }
    }

    /// Hashes whatever decides what this replica will do. Left out are the settings, which stay; what
    /// only counts or measures; the generator and all instants (see above); what only a log whose content
    /// is apart has; reads; and how many batches there were, but for how many are under way.
    pub fn hash_state<H: Hasher>(&self, hasher: &mut H) {
        (self.term, self.vote, self.commit, self.commit_written, self.applied).hash(hasher);
        (self.leader, self.abstains).hash(hasher);
        self.log.hash_state(hasher);
        self.outbox.hash_state(hasher);
        match &self.office {
            Office::Follower => 0_u8.hash(hasher),
            Office::PreCandidate { granted, refused } => (1_u8, granted, refused).hash(hasher),
            Office::Candidate { granted, refused } => (2_u8, granted, refused).hash(hasher),
            Office::Leader(leading) => {
                (3_u8, leading.durable, leading.first, leading.unsent).hash(hasher);
                leading.transfer.map(|t| (t.to, t.sent)).hash(hasher);
                for (member, progress) in &leading.progress {
                    member.hash(hasher);
                    progress.hash_state(hasher);
                }
            }
        }
    }
}

impl Progress {
    /// How many messages are unanswered is asked in two places: at a bound that a small world is far
    /// from, and where a member is given up as stalled, before which a model loses its link.
    fn hash_state<H: Hasher>(&self, hasher: &mut H) {
        assert!(
            self.in_flight < super::IN_FLIGHT_MAX,
            "a window is full: that must be in the hash"
        );
        (self.matched, self.next, self.answered).hash(hasher);
        match self.flow {
            Flow::Probe { sent } => (0_u8, sent.is_some()).hash(hasher),
            Flow::Replicate => 1_u8.hash(hasher),
            Flow::Read { id } => (2_u8, id.0).hash(hasher),
            Flow::Install { until } => (3_u8, until).hash(hasher),
        }
    }
}
