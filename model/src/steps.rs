//! What happens to one node, and what comes of it: the loop that core's owner runs, with the laws that
//! are about steps.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_core::raft::{Body, Entry, Index, Membership, NodeId, Payload, Raft, Term};
use quorate_core::{HardState, Recovered, StorageOp, Time};

use crate::history::Committed;
use crate::laws::{Broken, Law, Mark, Marks, disk_law, elected_law, membership_law, sent_law};
use crate::network::{Letter, is_dead};
use crate::quorums::is_enough;
use crate::state::{Host, LOG, State};
use crate::world::Disk;

/// When everything happens: later than any time-out is long.
pub(crate) const NOW: Time = Time::from_millis(3_600_000);

/// What was before a step.
struct Before {
    leads: Option<Term>,
    commit: Index,
    last: Index,
    membership: Membership,
}

impl Before {
    fn of(raft: &Raft) -> Self {
        Self {
            leads: raft.is_leader().then(|| raft.term()),
            commit: raft.commit(),
            last: raft.last_index(),
            membership: raft.membership().clone(),
        }
    }
}

/// A step of one node, while it happens.
pub(crate) struct Doing<'a> {
    pub(crate) state: &'a mut State,
    pub(crate) marks: &'a Marks,
    pub(crate) node: NodeId,
    pub(crate) slow_disks: bool,
    /// Whether anything left that was not on its way already.
    sent: bool,
    /// All that left.
    letters: Vec<Letter>,
    /// Whether the replica is other than it was.
    changed: bool,
}

impl<'a> Doing<'a> {
    pub(crate) fn new(state: &'a mut State, marks: &'a Marks, node: NodeId, slow: bool) -> Self {
        Self {
            state,
            marks,
            node,
            slow_disks: slow,
            sent: false,
            letters: Vec::new(),
            changed: false,
        }
    }

    /// Something happens to the replica; then all that it wants done is done. Returns whether anything
    /// is other than it was.
    pub(crate) fn with(&mut self, act: impl FnOnce(&mut Raft)) -> Result<bool, Broken> {
        let mut host = Host::clone(self.state.host(self.node));
        let digest = host.digest;
        let mut before = Before::of(&host.raft);
        act(&mut host.raft);
        loop {
            self.drain(&mut host, &before)?;
            self.look(&host, &before)?;
            if self.slow_disks {
                break;
            }
            before = Before::of(&host.raft);
            if !self.sync(&mut host)? {
                break;
            }
        }
        host.seal();
        self.changed = host.digest != digest;
        if self.changed {
            self.settle(host);
        }
        Ok(self.changed || self.sent)
    }

    /// If a step has left the replica as it was: what it has sent.
    pub(crate) fn only_answers(self) -> Option<Vec<Letter>> {
        (!self.changed).then_some(self.letters)
    }

    /// The oldest batch becomes durable.
    pub(crate) fn complete_write(&mut self) -> Result<bool, Broken> {
        let mut host = Host::clone(self.state.host(self.node));
        let before = Before::of(&host.raft);
        if !self.sync(&mut host)? {
            return Ok(false);
        }
        self.drain(&mut host, &before)?;
        self.look(&host, &before)?;
        host.seal();
        self.settle(host);
        Ok(true)
    }

    /// The node is as it is now; what that makes void is forgotten.
    fn settle(&mut self, host: Host) {
        self.state.network.forget_dead(self.node, &host);
        self.state.place(self.node, host);
        self.forget_votes();
    }

    /// The process dies. Of what is not durable the first `survive` operations are on the disk.
    pub(crate) fn crash(&mut self, survive: usize) -> Result<Host, Broken> {
        let mut host = Host::clone(self.state.host(self.node));
        if survive < host.unsynced() {
            self.marks.set(Mark::CrashBeforeSync);
        }
        let writes = std::mem::take(&mut host.writes);
        for op in writes.iter().flat_map(|(_, ops)| ops).take(survive) {
            self.write(&mut host, op)?;
        }
        Ok(host)
    }

    fn sync(&mut self, host: &mut Host) -> Result<bool, Broken> {
        let Some((ticket, ops)) = host.writes.pop_front() else { return Ok(false) };
        for op in &ops {
            self.write(host, op)?;
        }
        host.raft.persisted(NOW, ticket);
        Ok(true)
    }

    fn write(&mut self, host: &mut Host, op: &StorageOp) -> Result<(), Broken> {
        refuse(disk_law(host.durable(), op))?;
        host.disk.apply(op);
        if let StorageOp::HardState { state, .. } = op
            && let Some(whom) = state.vote
        {
            let key = (state.term, self.node);
            if let Some(held) = self.state.history.votes.get(&key) {
                if *held != whom {
                    let what = format!("{:?} votes for {held:?} and {whom:?}", self.node);
                    return Err(Law::DiskNeverRegresses.broken(what));
                }
            } else {
                Arc::make_mut(&mut self.state.history).votes.insert(key, whom);
            }
        }
        Ok(())
    }

    fn drain(&mut self, host: &mut Host, before: &Before) -> Result<(), Broken> {
        host.raft.flush(NOW);
        if let Some((ticket, ops)) = host.raft.take_batch(NOW) {
            for op in &ops {
                let StorageOp::Append { entries, .. } = op else { continue };
                refuse(membership_law(host, entries))?;
                if entries.first().is_some_and(|entry| entry.index <= before.last) {
                    self.marks.set(Mark::Truncated);
                    if before.membership.is_joint() && !host.raft.membership().is_joint() {
                        self.marks.set(Mark::ChangeTruncated);
                    }
                }
            }
            host.writes.push_back((ticket, ops));
        }
        while let Some((to, message)) = host.raft.next_message() {
            refuse(sent_law(host, self.node, to, &message))?;
            let receiver = self.state.hosts.iter().find(|(id, _)| *id == to);
            let letter = Letter { from: self.node, to, message }.without_round();
            if receiver.is_some_and(|(_, peer)| !is_dead(&letter.message, peer)) {
                self.sent |= self.state.network.send(&letter);
            }
            self.letters.push(letter);
        }
        // What is committed is judged by the commit index; the state machine is nobody's here.
        host.raft.take_restored();
        host.raft.pass_committed();
        Ok(())
    }

    /// Whether it has come to lead, or to know that more is committed.
    fn look(&mut self, host: &Host, before: &Before) -> Result<(), Broken> {
        let raft = &host.raft;
        let leads = raft.is_leader().then(|| raft.term());
        if let Some(term) = leads.filter(|_| before.leads != leads) {
            refuse(elected_law(self.state, host, self.node))?;
            self.marks.set(Mark::Elected);
            if raft.membership().is_joint() {
                self.marks.set(Mark::JointLeader);
            }
            if self.asked_to_lead(term) {
                self.marks.set(Mark::HandedOver);
            }
            Arc::make_mut(&mut self.state.history).leaders.insert(term, self.node);
        }
        for index in before.commit.0 + 1..=raft.commit().0 {
            self.committed(host, before, Index(index))?;
        }
        let commit = raft.commit();
        if leads.is_some() && commit > before.commit && raft.term_at(commit) != leads {
            let what = format!("{:?} commits {commit}, of an earlier term, by itself", self.node);
            return Err(Law::CommittedByQuorum.broken(what));
        }
        Ok(())
    }

    /// Whether somebody asked this node to campaign in the term before.
    fn asked_to_lead(&self, term: Term) -> bool {
        self.state.network.letters().any(|letter| {
            let asks = matches!(letter.message.body, Body::Vote { transfer: true, .. });
            asks && letter.from == self.node && letter.message.term == term
        })
    }

    fn committed(&mut self, host: &Host, before: &Before, index: Index) -> Result<(), Broken> {
        let raft = &host.raft;
        let Some(entry) = raft.entry(index).cloned() else {
            let what = format!("{:?} commits {index}, which it does not hold", self.node);
            return Err(Law::CommittedOnce.broken(what));
        };
        if let Some(held) = self.state.history.committed.get(&index) {
            let what =
                || format!("{:?} is committed, {:?} commits {entry:?}", held.entry, self.node);
            return refuse((held.entry != entry).then(|| Law::CommittedOnce.broken(what())));
        }
        let memberships = [before.membership.clone(), raft.membership().clone()];
        let term = entry.term;
        let holds = |node: NodeId| match node {
            node if node == self.node => host.holds(index, term),
            node => {
                let peer = self.state.hosts.iter().find(|(id, _)| *id == node);
                peer.is_some_and(|(_, peer)| peer.holds(index, term))
            }
        };
        if !raft.is_leader() || !memberships.iter().any(|m| is_enough(m, holds)) {
            let what = format!("{:?} commits {entry:?}, which no quorum holds", self.node);
            return Err(Law::CommittedByQuorum.broken(what));
        }
        self.mark_committed(&entry.payload, raft.term());
        let committed = Committed { entry, by: raft.term(), memberships };
        Arc::make_mut(&mut self.state.history).committed.insert(index, committed);
        Ok(())
    }

    fn mark_committed(&self, payload: &Payload, by: Term) {
        match payload {
            Payload::Data(_) => {
                self.marks.set(Mark::Committed);
                if self.state.history.leaders.keys().any(|term| *term < by) {
                    self.marks.set(Mark::CommittedAfterChange);
                }
            }
            Payload::Membership(membership) if !membership.is_joint() => {
                self.marks.set(Mark::ChangeDone);
            }
            Payload::Membership(_) | Payload::Empty => {}
        }
    }

    /// Votes count only for a candidate, and nobody is one in a term below that on its disk.
    fn forget_votes(&mut self) {
        let terms = self.state.hosts.iter().map(|(_, host)| host.durable().hard_state.term);
        let open = terms.min().unwrap_or_default();
        if self.state.history.votes.keys().any(|(term, _)| *term < open) {
            let votes: BTreeMap<_, _> = self.state.history.votes.clone();
            let kept = votes.into_iter().filter(|((term, _), _)| *term >= open).collect();
            Arc::make_mut(&mut self.state.history).votes = kept;
        }
    }
}

fn refuse(broken: Option<Broken>) -> Result<(), Broken> {
    broken.map_or(Ok(()), Err)
}

/// A disk that holds the log's first entry, and what else a world says.
pub(crate) fn founded(node: NodeId, membership: Membership, more: Option<&Disk>) -> Recovered {
    let first = Entry { index: Index(1), term: Term(1), payload: Payload::Membership(membership) };
    let (term, vote) = more.map_or((1, None), |more| (more.term, Some(NodeId(more.vote))));
    let state = HardState { term: Term(term), vote, commit: Index(1) };
    let behind = more.map_or(&[][..], |more| more.entries).iter().zip(2..);
    let behind = behind.map(|(term, index)| Entry {
        index: Index(index),
        term: Term(*term),
        payload: Payload::Empty,
    });
    let entries = std::iter::once(first).chain(behind).collect();
    let mut disk = Recovered::fresh(node);
    disk.apply(&StorageOp::HardState { log: LOG, state });
    disk.apply(&StorageOp::Append { log: LOG, entries });
    disk
}
