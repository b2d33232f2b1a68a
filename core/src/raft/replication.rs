//! Entries, heartbeats, commit.

use super::progress::Flow;
use super::{
    Body, COMMIT_TOLD_WITHIN, Content, Entry, Index, NodeId, Office, Payload, Quorum, Raft, Rests,
    Snapshot, Term, size_of_entry,
};
use crate::faults::{self, Fault};
use crate::marks::sometimes;
use crate::storage::StorageOp;
use crate::time::Time;

impl Raft {
    /// Appends an entry of the leader's own term.
    pub(super) fn append_own(&mut self, payload: Payload) -> Index {
        let index = self.log.last_index().next();
        let entry = Entry { index, term: self.term, payload };
        self.push(entry.clone());
        let log = self.settings.log;
        self.outbox.write_log(StorageOp::Append { log, entries: vec![entry] });
        if let Office::Leader(leading) = &mut self.office {
            leading.unsent = true;
        }
        index
    }

    pub(super) fn on_append(
        &mut self,
        from: NodeId,
        prev_index: Index,
        prev_term: Term,
        entries: Vec<Entry>,
        commit: Index,
    ) {
        if prev_index < self.log.snapshot().index {
            // All up to the snapshot is committed here; the leader may go on from there.
            let matched = self.commit;
            self.send(from, Body::Appended { matched }, Rests::Log);
            return;
        }
        let held = self.log.term_at(prev_index);
        let diverged = faults::active(Fault::DeltaFromDivergedHistory) && held.is_some();
        if held != Some(prev_term) && !diverged {
            sometimes!(prev_index > self.log.last_index(), AppendAfterGap);
            let (hint_index, hint_term) = self.log.agree_before(prev_index, prev_term);
            let refused = Body::AppendRefused { prev_index, hint_index, hint_term };
            self.send(from, refused, Rests::State);
            return;
        }
        let consecutive = entries.iter().zip(prev_index.0 + 1..).all(|(e, i)| e.index.0 == i);
        let rising = entries.iter().try_fold(prev_term, |t, e| (e.term >= t).then_some(e.term));
        if !consecutive || rising.is_none_or(|last| last > self.term) {
            // Not what any leader sends; nothing in it can be trusted.
            return;
        }
        let matched = Index(prev_index.0 + entries.len() as u64);
        self.append_new(entries);
        self.commit_to(commit.min(matched));
        self.send(from, Body::Appended { matched }, Rests::Log);
    }

    /// Appends those of `entries` that are not there yet, cutting off what contradicts them.
    fn append_new(&mut self, mut entries: Vec<Entry>) {
        let held = entries.iter().take_while(|e| self.log.term_at(e.index) == Some(e.term)).count();
        let new = entries.split_off(held);
        let Some(first) = new.first() else { return };
        if first.index <= self.log.last_index() {
            assert!(first.index > self.commit, "a committed entry is never cut off");
            sometimes!(LogCut);
            sometimes!(self.log.membership_index() >= first.index, MembershipCut);
            self.log.truncate(first.index);
            self.outbox.truncated(first.index);
            self.stored = self.stored.min(first.index.previous());
            self.fetches.log_changed();
        }
        for entry in &new {
            self.push(entry.clone());
        }
        let log = self.settings.log;
        self.outbox.write_log(StorageOp::Append { log, entries: new });
    }

    fn push(&mut self, entry: Entry) {
        self.appended_bytes += size_of_entry(&entry) as u64;
        self.log.push(entry);
    }

    pub(super) fn commit_to(&mut self, index: Index) {
        assert!(index <= self.log.last_index(), "a commit index is in the log");
        self.commit = self.commit.max(index);
    }

    pub(super) fn on_install(&mut self, from: NodeId, snapshot: Snapshot) {
        if snapshot.index <= self.commit {
            let matched = self.commit;
            self.send(from, Body::Appended { matched }, Rests::Log);
            return;
        }
        let matched = snapshot.index;
        if self.log.term_at(snapshot.index) == Some(snapshot.term) {
            // The log has it all; only the commit index lagged.
            self.commit_to(snapshot.index);
        } else if self.settings.content == Content::Apart {
            sometimes!(DeltaRefused);
            self.wanted = Some(snapshot.index);
            return;
        } else {
            self.begin_behind(snapshot);
        }
        self.send(from, Body::Appended { matched }, Rests::Log);
    }

    /// Forgets every entry: the log goes on behind `snapshot`.
    pub(super) fn begin_behind(&mut self, snapshot: Snapshot) {
        self.log.reset(snapshot.clone());
        self.outbox.truncated(snapshot.index.next());
        self.stored = snapshot.index;
        self.fetches.log_changed();
        self.commit = snapshot.index;
        self.applied = snapshot.index;
        self.restored = Some(snapshot.clone());
        let log = self.settings.log;
        self.outbox.write_log(StorageOp::Snapshot { log, snapshot, reset: true });
    }

    pub(super) fn on_heartbeat(&mut self, from: NodeId, commit: Index, round: u64) {
        // The leader names no more than it knows this log to hold.
        self.commit_to(commit.min(self.log.last_index()));
        self.send(from, Body::HeartbeatReply { round }, Rests::State);
    }

    pub(super) fn on_appended(&mut self, now: Time, from: NodeId, matched: Index) {
        let last = self.log.last_index();
        let Office::Leader(leading) = &mut self.office else { return };
        let Some(progress) = leading.progress.get_mut(&from) else { return };
        if matched > last {
            return;
        }
        progress.hear(now);
        progress.appended(now, matched);
        self.advance_commit(now);
        self.continue_transfer();
        self.send_entries(now, from, false);
    }

    pub(super) fn on_append_refused(
        &mut self,
        now: Time,
        from: NodeId,
        prev_index: Index,
        hint_index: Index,
        hint_term: Term,
    ) {
        let (agree, _) = self.log.agree_before(hint_index, hint_term);
        let Office::Leader(leading) = &mut self.office else { return };
        let Some(progress) = leading.progress.get_mut(&from) else { return };
        progress.hear(now);
        if progress.refused(prev_index, agree) {
            self.send_entries(now, from, true);
        }
    }

    pub(super) fn on_heartbeat_reply(&mut self, now: Time, from: NodeId, round: u64) {
        let (last, heartbeat) = (self.log.last_index(), self.settings.heartbeat);
        let Office::Leader(leading) = &mut self.office else { return };
        let Some(progress) = leading.progress.get_mut(&from) else { return };
        progress.hear(now);
        progress.round = progress.round.max(round);
        progress.beat(now, heartbeat);
        let behind = progress.matched < last;
        // A probe is due even from the end of the log, where there is no entry to send: after a lost
        // snapshot only its refusal tells.
        let probing = matches!(progress.flow, Flow::Probe { .. });
        self.serve_reads();
        if behind {
            self.send_entries(now, from, probing);
        }
    }

    /// Sends `to` what it lacks, as far as its window allows; with `even_empty` also if that is
    /// only the commit index.
    pub(super) fn send_entries(&mut self, now: Time, to: NodeId, even_empty: bool) {
        let mut even_empty = even_empty;
        loop {
            let (commit, last) = (self.commit, self.log.last_index());
            let limits = self.settings.limits;
            let Office::Leader(leading) = &mut self.office else { return };
            let Some(progress) = leading.progress.get_mut(&to) else { return };
            let prev_index = progress.next.previous();
            let open = match progress.flow {
                Flow::Probe { sent } => sent.is_none(),
                Flow::Replicate => progress.in_flight < limits.in_flight_max,
                Flow::Read { .. } | Flow::Install { .. } => false,
            };
            if !open || (progress.next > last && !even_empty) {
                return;
            }
            let slice =
                self.log.slice(progress.next, limits.append_count_max, limits.append_bytes_max);
            let lost = slice.is_none() && self.fetches.is_lost(progress.next);
            let Some(prev_term) = self.log.term_at(prev_index).filter(|_| !lost) else {
                self.send_snapshot(now, to);
                return;
            };
            let entries = match (slice, progress.flow) {
                (Some(entries), _) => entries,
                (None, Flow::Replicate) => {
                    self.read_for(to);
                    return;
                }
                // Where the logs agree is found out without an entry.
                (None, _) => Vec::new(),
            };
            let more = match &mut progress.flow {
                Flow::Probe { sent } => {
                    *sent = Some(now);
                    false
                }
                Flow::Replicate => {
                    progress.sends(now, entries.len(), limits.in_flight_max);
                    progress.next <= last
                }
                Flow::Read { .. } | Flow::Install { .. } => false,
            };
            let body = Body::Append { prev_index, prev_term, entries, commit };
            self.send(to, body, Rests::Office);
            even_empty = false;
            if !more {
                return;
            }
        }
    }

    fn send_snapshot(&mut self, now: Time, to: NodeId) {
        if !self.counts_as_active(now, to) {
            return;
        }
        let snapshot = self.snapshot_to_send();
        let until = snapshot.index;
        if let Office::Leader(leading) = &mut self.office
            && let Some(progress) = leading.progress.get_mut(&to)
        {
            progress.flow = Flow::Install { until };
            progress.next = until.next();
        }
        self.send(to, Body::Install { snapshot }, Rests::Office);
    }

    pub(super) fn tick_leader(&mut self, now: Time) {
        let overdue = self
            .outbox
            .waiting_since()
            .is_some_and(|since| now.since(since) >= self.settings.election_max);
        let beat = self.next_beat(now);
        let Office::Leader(leading) = &mut self.office else { return };
        if now >= leading.heartbeat {
            leading.heartbeat = beat;
            self.send_heartbeats();
        }
        let Office::Leader(leading) = &mut self.office else { return };
        leading.unsent |= leading.tell_commit.is_some_and(|at| now >= at);
        if leading.transfer.is_some_and(|transfer| now >= transfer.until) {
            sometimes!(TransferGivenUp);
            leading.transfer = None;
        }
        if now < leading.check_quorum {
            return;
        }
        leading.check_quorum = beat;
        let transferring = leading.transfer.is_some();
        if !self.quorum_met(|node| self.counts_as_active(now, node)) {
            sometimes!(LeaderWithoutQuorum);
            self.resign(now);
        } else if overdue && !transferring && !self.is_alone() {
            // Its own disk is what everybody waits for: another leader serves them better.
            sometimes!(SlowLeader);
            self.hand_over(now);
        } else {
            self.continue_change(now);
        }
    }

    /// The logs of shards that one node leads beat together: their heartbeats are one packet a peer.
    fn next_beat(&self, now: Time) -> Time {
        match self.settings.content {
            Content::Apart => now.after_multiple(self.settings.heartbeat),
            Content::InSnapshots => now + self.settings.heartbeat,
        }
    }

    pub(super) fn send_heartbeats(&mut self) {
        let commit = self.commit;
        let Office::Leader(leading) = &mut self.office else { return };
        leading.round += 1;
        let round = leading.round;
        let members: Vec<(NodeId, Index)> =
            leading.progress.iter().map(|(m, p)| (*m, p.matched)).collect();
        for (member, matched) in members {
            let body = Body::Heartbeat { commit: commit.min(matched), round };
            self.send(member, body, Rests::Office);
        }
    }

    /// Commits what a quorum holds, if the last of it is of the leader's own term (Raft paper,
    /// section 5.4.2).
    pub(super) fn advance_commit(&mut self, now: Time) {
        let me = self.settings.node;
        let Office::Leader(leading) = &self.office else { return };
        let held = |node: NodeId| {
            if node == me {
                return leading.durable;
            }
            leading.progress.get(&node).map_or(Index::ZERO, |p| p.matched)
        };
        let membership = self.effective_membership();
        let quorum = Quorum::of(&membership);
        // Mostly there is no more than before: whether there is, one look at each voter says.
        if !quorum.is_met(|node| held(node) > self.commit) {
            return;
        }
        let index = quorum.index(held);
        let own = self.log.term_at(index) == Some(self.term);
        sometimes!(index > self.commit && !own, EarlierTermHeld);
        if index <= self.commit || !(own || faults::active(Fault::CommitOldTerm)) {
            return;
        }
        self.commit_to(index);
        self.serve_reads();
        let apart = self.settings.content == Content::Apart;
        if let Office::Leader(leading) = &mut self.office {
            if apart {
                leading.tell_commit.get_or_insert(now + COMMIT_TOLD_WITHIN);
            } else {
                leading.unsent = true;
            }
        }
        self.continue_change(now);
    }
}
