//! Terms, pre-votes, votes, hand-over.

use std::collections::BTreeSet;

use super::progress::Progress;
use super::{
    Body, Half, Index, Leading, Message, NodeId, Office, Payload, Quorum, Raft, Reads, Rests, Term,
    Transfer, TransferError,
};
use crate::marks::sometimes;
use crate::time::Time;

impl Raft {
    /// A message of a higher term. Returns whether it is to be looked at further.
    pub(super) fn meet_higher_term(&mut self, now: Time, from: NodeId, message: &Message) -> bool {
        match &message.body {
            // Asks without changing anything, here or there.
            Body::PreVote { next, last_index, last_term } => {
                self.on_pre_vote(now, from, *next, *last_index, *last_term);
                return false;
            }
            // A node that comes back with a higher term must not disrupt a leader that is there.
            Body::Vote { transfer: false, .. } if self.has_lease(now) => {
                sometimes!(DisruptionIgnored);
                return false;
            }
            _ => {}
        }
        self.adopt(now, message.term);
        true
    }

    /// A message of a term that is over: its sender must learn that.
    pub(super) fn answer_lower_term(&mut self, from: NodeId, message: &Message) {
        let body = match &message.body {
            Body::Append { prev_index, .. } => Body::AppendRefused {
                prev_index: *prev_index,
                hint_index: self.log.snapshot().index,
                hint_term: self.log.snapshot().term,
            },
            Body::Heartbeat { round, .. } => Body::HeartbeatReply { round: *round },
            Body::Install { .. } => Body::HeartbeatReply { round: 0 },
            Body::PreVote { next, .. } => Body::PreVoteReply { next: *next, granted: false },
            Body::Vote { .. } => Body::VoteReply { granted: false },
            _ => return,
        };
        self.send(from, body, Rests::State);
    }

    /// Whether a leader is there whose followers owe it their silence towards candidates.
    fn has_lease(&self, now: Time) -> bool {
        match &self.office {
            Office::Leader(_) => true,
            _ => {
                self.leader.is_some()
                    && self
                        .leader_heard
                        .is_some_and(|heard| now.since(heard) < self.settings.election_min)
            }
        }
    }

    /// Enters `term` as a follower of nobody yet.
    pub(super) fn adopt(&mut self, now: Time, term: Term) {
        self.enter(term);
        self.reset_election(now);
    }

    /// There is such a term: what was said in an earlier one is over.
    pub(super) fn enter(&mut self, term: Term) {
        assert!(term > self.term, "terms never fall");
        self.leave_office();
        self.term = term;
        self.vote = None;
        self.leader = None;
        self.leader_heard = None;
        self.outbox.forget_held();
        self.write_state();
    }

    /// Steps down within the term.
    pub(super) fn resign(&mut self, now: Time) {
        self.leave_office();
        self.leader = None;
        self.leader_heard = None;
        self.reset_election(now);
    }

    fn leave_office(&mut self) {
        self.office = Office::Follower;
    }

    /// The sender is the leader of this term.
    pub(super) fn follow(&mut self, now: Time, leader: NodeId) {
        assert!(
            !self.is_leader(),
            "two leaders in one term: {leader:?} and {:?}",
            self.settings.node
        );
        assert!(self.leader.is_none_or(|known| known == leader), "two leaders in one term");
        self.office = Office::Follower;
        self.leader = Some(leader);
        self.leader_heard = Some(now);
        self.reset_election(now);
    }

    pub(super) fn campaign_if_voter(&mut self, now: Time) {
        // A learner does not campaign; but it answers, for it may be a voter without knowing yet.
        // A voter that is none by an uncommitted entry does: the others may lack that entry, need
        // its vote, and never get it, for its log is longer (Ongaro's thesis, section 4.2.2).
        if self.abstains || !self.log.may_be_voter(self.settings.node, self.commit) {
            sometimes!(self.abstains, VoterAbstains);
            // Nor does it take for its leader one that has long been silent, and may be none.
            let silent = |heard| now.since(heard) >= self.settings.election_min;
            if self.leader_heard.is_none_or(silent) {
                self.leader = None;
                self.leader_heard = None;
            }
            return;
        }
        let me = self.settings.node;
        if matches!(&self.office, Office::Candidate { granted, .. } if !granted.contains(&me)) {
            // Its own vote is still being written. In a new term it would have to be written again,
            // and a disk slower than an election would never see one through.
            sometimes!(OwnVoteSlow);
            return;
        }
        self.pre_campaign(now);
    }

    fn pre_campaign(&mut self, now: Time) {
        self.campaigns += 1;
        self.leader = None;
        let granted = BTreeSet::from([self.settings.node]);
        self.office = Office::PreCandidate { granted, refused: BTreeSet::new() };
        if self.quorum_met(|node| node == self.settings.node) {
            self.campaign(now, false);
            return;
        }
        let body = Body::PreVote {
            next: self.term.next(),
            last_index: self.log.last_index(),
            last_term: self.log.last_term(),
        };
        for voter in self.other_voters() {
            self.send(voter, body.clone(), Rests::State);
        }
    }

    fn campaign(&mut self, now: Time, transfer: bool) {
        self.adopt(now, self.term.next());
        self.vote = Some(self.settings.node);
        self.write_state();
        self.office = Office::Candidate { granted: BTreeSet::new(), refused: BTreeSet::new() };
        let (last_index, last_term) = (self.log.last_index(), self.log.last_term());
        for voter in self.other_voters() {
            self.send(voter, Body::Vote { last_index, last_term, transfer }, Rests::State);
        }
    }

    fn other_voters(&self) -> BTreeSet<NodeId> {
        let mut voters = self.log.membership().voters();
        voters.remove(&self.settings.node);
        voters
    }

    pub(super) fn on_pre_vote(
        &mut self,
        now: Time,
        from: NodeId,
        next: Term,
        last_index: Index,
        last_term: Term,
    ) {
        let open = next > self.term
            || (next == self.term
                && self.leader.is_none()
                && self.vote.is_none_or(|vote| vote == from));
        let granted = open && !self.has_lease(now) && self.log.is_up_to_date(last_index, last_term);
        self.send(from, Body::PreVoteReply { next, granted }, Rests::State);
    }

    pub(super) fn on_pre_vote_reply(&mut self, now: Time, from: NodeId, next: Term, granted: bool) {
        if next != self.term.next() {
            return;
        }
        let Office::PreCandidate { granted: yes, refused: no } = &mut self.office else { return };
        if granted {
            yes.insert(from)
        } else {
            no.insert(from)
        };
        let (yes, no) = (yes.clone(), no.clone());
        if self.quorum_met(|node| yes.contains(&node)) {
            self.campaign(now, false);
        } else if self.quorum_refused(&no) {
            self.office = Office::Follower;
        }
    }

    fn quorum_refused(&self, no: &BTreeSet<NodeId>) -> bool {
        Quorum::of(&self.effective_membership()).is_lost(|node| no.contains(&node))
    }

    pub(super) fn on_vote(
        &mut self,
        now: Time,
        from: NodeId,
        last_index: Index,
        last_term: Term,
        transfer: bool,
    ) {
        let free = self.vote.is_none_or(|vote| vote == from) && self.leader.is_none();
        let lease = self.has_lease(now) && !transfer;
        let granted = free && !lease && self.log.is_up_to_date(last_index, last_term);
        if granted {
            if self.vote.is_none() {
                self.vote = Some(from);
                self.write_state();
            }
            self.office = Office::Follower;
            self.reset_election(now);
        }
        self.send(from, Body::VoteReply { granted }, Rests::State);
    }

    pub(super) fn on_vote_reply(&mut self, now: Time, from: NodeId, granted: bool) {
        self.count_vote(now, from, granted);
    }

    pub(super) fn count_vote(&mut self, now: Time, from: NodeId, granted: bool) {
        let Office::Candidate { granted: yes, refused: no } = &mut self.office else { return };
        if granted {
            yes.insert(from)
        } else {
            no.insert(from)
        };
        let (yes, no) = (yes.clone(), no.clone());
        if self.quorum_met(|node| yes.contains(&node)) {
            let membership = self.log.membership();
            sometimes!(membership.is_joint(), ElectedUnderJoint);
            let half =
                |half: &Half| 2 * half.voters.intersection(&yes).count() == half.voters.len();
            sometimes!(half(&membership.incoming), ElectedByTieBreaker);
            self.take_office(now);
        } else if self.quorum_refused(&no) {
            self.office = Office::Follower;
        }
    }

    fn take_office(&mut self, now: Time) {
        assert_eq!(self.vote, Some(self.settings.node));
        let last = self.log.last_index();
        let mut members = self.log.membership().members();
        members.remove(&self.settings.node);
        let progress = members.into_iter().map(|m| (m, Progress::new(last, now))).collect();
        self.leader = Some(self.settings.node);
        self.leader_heard = Some(now);
        self.office = Office::Leader(Box::new(Leading {
            progress,
            durable: Index::ZERO,
            first: last.next(),
            round: 0,
            reads: Reads::default(),
            transfer: None,
            unsent: true,
            tell_commit: None,
            check_quorum: now + self.settings.election_max,
            heartbeat: now,
        }));
        self.append_own(Payload::Empty);
        self.tick_leader(now);
    }

    /// Hands leadership to `to` as soon as it holds the whole log. Proposals are refused meanwhile;
    /// after an election time-out without success the leader goes on.
    ///
    /// # Errors
    /// [`TransferError`]: nothing happens.
    pub fn transfer(&mut self, now: Time, to: NodeId) -> Result<(), TransferError> {
        let is_voter = self.log.membership().incoming.voters.contains(&to);
        let until = now + self.settings.election_max;
        let Office::Leader(leading) = &mut self.office else {
            return Err(TransferError::NotLeader);
        };
        if to == self.settings.node || !is_voter || !leading.progress.contains_key(&to) {
            return Err(TransferError::NotVoter);
        }
        leading.transfer = Some(Transfer { to, until, sent: false });
        self.send_entries(now, to, true);
        self.continue_transfer();
        Ok(())
    }

    /// Hands over to the voter that holds most and has answered of late; resigns if there is none.
    pub(super) fn hand_over(&mut self, now: Time) {
        let best = self.best_successor(now, |_| true);
        let handed = best.is_some_and(|to| self.transfer(now, to).is_ok());
        if !handed {
            self.resign(now);
        }
    }

    /// The voter to hand over to: of those that `may` and have answered of late, the one that holds
    /// most.
    #[must_use]
    pub fn best_successor(&self, now: Time, may: impl Fn(NodeId) -> bool) -> Option<NodeId> {
        let me = self.settings.node;
        let voters = &self.log.membership().incoming.voters;
        let others = voters.iter().filter(|v| **v != me && may(**v));
        let candidates = others.filter(|v| self.is_active(now, **v));
        candidates.max_by_key(|v| (self.matched(**v), std::cmp::Reverse(**v))).copied()
    }

    pub(super) fn continue_transfer(&mut self) {
        let last = self.log.last_index();
        let Office::Leader(leading) = &mut self.office else { return };
        let Some(transfer) = &mut leading.transfer else { return };
        let holds_all = leading.progress.get(&transfer.to).is_some_and(|p| p.matched == last);
        if holds_all && !transfer.sent {
            transfer.sent = true;
            let to = transfer.to;
            self.send(to, Body::TimeoutNow, Rests::Office);
        }
    }

    pub(super) fn on_timeout_now(&mut self, now: Time, from: NodeId) {
        let me = self.settings.node;
        if self.leader == Some(from) && self.log.membership().is_voter(me) {
            self.campaign(now, true);
        }
    }
}
