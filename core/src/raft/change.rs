//! Changes of membership: joint whenever voters or the tie-breaker change.

use std::collections::BTreeSet;

use thiserror::Error;

use super::progress::Progress;
use super::{ConfigVersion, Half, Index, Membership, NodeId, Office, Payload, Raft};
use crate::faults::{self, Fault};
use crate::marks::sometimes;
use crate::time::Time;

/// A change of membership.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// The voters and the tie-breaker to come.
    pub half: Half,
    /// The learners to come.
    pub learners: BTreeSet<NodeId>,
    /// The configuration version that it implements.
    pub version: ConfigVersion,
}

/// Why a change of membership was refused. Nothing was appended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum ChangeError {
    /// Ask the leader.
    #[error("not the leader")]
    NotLeader,
    /// A leader that has not committed an entry of its own term may not know of a change that a
    /// predecessor committed.
    #[error("the leader has not committed an entry of its own term yet")]
    NoOwnEntry,
    /// One change at a time.
    #[error("a change is under way")]
    InProgress,
    /// The membership in force implements a later version of the configuration.
    #[error("the change implements configuration version {asked}, {held} is implemented already")]
    OldVersion {
        /// Of the change.
        asked: ConfigVersion,
        /// Of the membership in force.
        held: ConfigVersion,
    },
    /// A voter to be is no learner, or does not answer, or has not caught up.
    #[error("{0:?} is not a learner that has caught up")]
    NotCaughtUp(NodeId),
    /// Somebody must decide, and the tie-breaker must be a voter.
    #[error("the change would leave no voters, or a tie-breaker who is none")]
    Malformed,
    /// The leader hands over.
    #[error("the leader is handing over")]
    Transferring,
}

impl Raft {
    /// Changes the membership. If voters or tie-breaker change, the first entry is a joint one, and
    /// whoever leads when it is committed appends the second.
    ///
    /// # Errors
    /// [`ChangeError`]: nothing was appended.
    pub fn change(&mut self, now: Time, change: Change) -> Result<Index, ChangeError> {
        self.check_change(now, &change)?;
        let Change { half, learners, version } = change;
        let present = self.log.membership();
        let single = faults::active(Fault::SingleStepChange);
        let outgoing = (half != present.incoming && !single).then(|| present.incoming.clone());
        let membership = Membership { incoming: half, outgoing, learners, version };
        Ok(self.append_membership(now, membership))
    }

    fn check_change(&self, now: Time, change: &Change) -> Result<(), ChangeError> {
        if !self.is_leader() {
            return Err(ChangeError::NotLeader);
        }
        if self.is_transferring() {
            return Err(ChangeError::Transferring);
        }
        if !self.is_settled_leader() {
            return Err(ChangeError::NoOwnEntry);
        }
        let present = self.log.membership();
        if present.is_joint() || self.log.membership_index() > self.commit {
            return Err(ChangeError::InProgress);
        }
        if change.version < present.version {
            let (asked, held) = (change.version, present.version);
            return Err(ChangeError::OldVersion { asked, held });
        }
        let voters = &change.half.voters;
        let tie_is_voter = change.half.tie_breaker.is_none_or(|tie| voters.contains(&tie));
        if voters.is_empty() || !tie_is_voter || !voters.is_disjoint(&change.learners) {
            return Err(ChangeError::Malformed);
        }
        let mut new = voters.difference(&present.incoming.voters);
        let lagging = new.find(|v| !present.learners.contains(v) || !self.is_caught_up(now, **v));
        lagging.map_or(Ok(()), |voter| Err(ChangeError::NotCaughtUp(*voter)))
    }

    /// Appends a membership, in force from now on, and sends to whoever it adds.
    fn append_membership(&mut self, now: Time, membership: Membership) -> Index {
        let last = self.log.last_index();
        let mut members = membership.members();
        members.remove(&self.settings.node);
        let index = self.append_own(Payload::Membership(membership));
        if let Office::Leader(leading) = &mut self.office {
            // Whoever is out hears no more of it; that it is out it is told by the configuration.
            leading.progress.retain(|member, _| members.contains(member));
            for member in members {
                leading.progress.entry(member).or_insert_with(|| Progress::new(last, now));
            }
        }
        // With fewer voters, what is there may be enough already.
        self.advance_commit(now);
        index
    }

    /// Something was committed: leave a joint membership that is; step down if no longer a voter.
    pub(super) fn continue_change(&mut self, now: Time) {
        if !self.is_settled_leader() || self.log.membership_index() > self.commit {
            return;
        }
        let present = self.log.membership();
        if present.is_joint() {
            // Also a leader that has inherited the joint entry comes by here, with its own first.
            let left = Membership { outgoing: None, ..present.clone() };
            self.append_membership(now, left);
        } else if !present.is_voter(self.settings.node) && !self.is_transferring() {
            sometimes!(LeaderLeftOut);
            self.hand_over(now);
        }
    }
}
