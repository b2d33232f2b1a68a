//! Replacing the content of a shard by that of a file: the leader of its log has the file staged beside
//! the copies, then puts the entry that names it, then waits until the copies have come to it.
//!
//! The file is with the node that it was handed to. Each copy fetches it from there, in the chunks of a
//! full copy, and says so when it lies there durably. The leader repeats what it asks for until it is
//! answered. What must hold is said in `shard::restore`; here only this is decided: whom to wait for,
//! and what the asker is told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand_core::Rng as _;

use super::{Node, Output};
use crate::copies::{
    CopyAnswer, CopyCall, CopyMessage, CopyState, Goal, Incoming, IncomingStep, Unneeded,
};
use crate::engine::Fault;
use crate::ids::{Index, LogId, NodeId, Term};
use crate::shard::{Name, Placing, Reply, RequestId, RestoreState, ShardError, StageId, Upload};
use crate::time::Time;

/// How often copies that have not answered are asked again, and running ones are looked at.
const LOOK: Duration = Duration::from_millis(100);
const REPEAT: Duration = Duration::from_millis(500);
/// A server with the file that is out of reach for so long is not waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// Reasons are cut to so many characters.
const REASON_MAX: usize = 200;

/// A restore whose leader this node is.
#[derive(Debug)]
struct Running {
    id: RequestId,
    stage: StageId,
    upload: Upload,
    /// The asker waits no longer.
    until: Time,
    /// Then it goes on with those that have the file, if they are enough.
    staged_until: Time,
    staged: BTreeSet<NodeId>,
    failed: BTreeMap<NodeId, String>,
    /// The entry is to be put: from then on the shard says what becomes of it.
    put: bool,
    repeat: Time,
    /// Since when the server with the file is out of reach.
    lost: Option<Time>,
}

/// A file on its way to this node.
#[derive(Debug)]
struct Staging {
    stage: StageId,
    leader: NodeId,
    /// `None`: it was handed to this node itself.
    machine: Option<Incoming>,
}

/// Restores, and staged files on their way.
#[derive(Default, Debug)]
pub(super) struct Restores {
    last: u64,
    running: BTreeMap<LogId, Running>,
    staging: BTreeMap<LogId, Staging>,
    /// What this process knows to be staged here.
    staged: BTreeMap<LogId, StageId>,
    /// The term before which staged files were last removed.
    swept: BTreeMap<LogId, Term>,
    /// When to look at what runs here.
    look: Time,
}

impl Restores {
    pub(super) fn next(&self) -> Option<Time> {
        if self.running.is_empty() && self.staging.is_empty() {
            return None;
        }
        let look = (!self.running.is_empty()).then_some(self.look);
        let machines = self.staging.values().filter_map(|s| Some(s.machine.as_ref()?.next()));
        machines.chain(look).min()
    }

    /// The database of a log was dropped.
    pub(super) fn forget(&mut self, log: LogId) {
        self.staging.remove(&log);
        self.staged.remove(&log);
        self.swept.remove(&log);
    }
}

impl Node {
    /// Replaces the content of a shard whose log this node leads; answered by its deadline.
    pub(super) fn restore(&mut self, id: RequestId, log: LogId, upload: Upload, until: Time) {
        let now = self.now;
        let held = self.shards.all.get(&log);
        let error = match held {
            Some(held) if held.log().is_settled_leader() && !held.log().is_transferring() => {
                let active = |node: &NodeId| held.log().is_active(now, *node);
                let reached: BTreeSet<NodeId> =
                    held.log().membership().voters().into_iter().filter(active).collect();
                if self.restores.running.contains_key(&log) {
                    Some(ShardError::Restoring)
                } else if !held.are_enough(&reached) {
                    let voters = held.log().membership().voters();
                    let (count, needed) = (voters.len(), voters.len() / 2 + 1);
                    let missing = voters.into_iter().filter(|n| !reached.contains(n)).collect();
                    Some(ShardError::NoQuorum { missing, needed, voters: count })
                } else {
                    None
                }
            }
            _ => Some(ShardError::NotOwner { owner: None }),
        };
        let (None, Some(held)) = (&error, held) else {
            let error = error.unwrap_or(ShardError::NotOwner { owner: None });
            self.on_shard_reply(id, Reply::Failed(error));
            return;
        };
        let term = held.log().term();
        self.restores.last += 1;
        let stage = StageId { term, number: self.restores.last };
        let left = until.since(now);
        let running = Running {
            id,
            stage,
            upload,
            until,
            staged_until: now + left.saturating_sub(left / 4),
            staged: BTreeSet::new(),
            failed: BTreeMap::new(),
            put: false,
            repeat: now,
            lost: None,
        };
        self.restores.running.insert(log, running);
        self.restores.look = now;
        self.run_restores();
    }

    /// Lets restores and files on their way go on.
    pub(super) fn run_restores(&mut self) {
        if self.restores.running.is_empty() && self.restores.staging.is_empty() {
            return;
        }
        let now = self.now;
        let logs: Vec<LogId> = self.restores.staging.keys().copied().collect();
        for log in logs {
            if let Some(Staging { machine: Some(machine), .. }) =
                self.restores.staging.get_mut(&log)
                && machine.next() <= now
            {
                machine.tick(now);
            }
            self.drain_staging(log);
        }
        if self.restores.running.is_empty() || now < self.restores.look {
            return;
        }
        self.restores.look = now + LOOK;
        let logs: Vec<LogId> = self.restores.running.keys().copied().collect();
        for log in logs {
            self.drive_restore(log);
        }
    }

    fn drive_restore(&mut self, log: LogId) {
        let Some(running) = self.restores.running.get(&log) else { return };
        match running.put {
            true => self.follow_restore(log),
            false => self.gather_stages(log),
        }
    }

    /// Sees to it that the file comes to the copies; puts the entry when it has.
    fn gather_stages(&mut self, log: LogId) {
        let (now, me) = (self.now, self.id());
        let copies: BTreeSet<NodeId> = match self.document.as_ref().and_then(|d| d.shard_of(log)) {
            Some(shard) => shard.shard.copies.keys().copied().collect(),
            None => BTreeSet::new(),
        };
        let reached = |node: &NodeId| *node == me || self.links.usable(*node).is_some();
        let here: BTreeSet<NodeId> = copies.into_iter().filter(reached).collect();
        let (Some(running), Some(held)) =
            (self.restores.running.get(&log), self.shards.all.get(&log))
        else {
            self.end_restore(log, Reply::Failed(ShardError::NotOwner { owner: None }));
            return;
        };
        if !held.log().is_settled_leader() || held.log().term() != running.stage.term {
            let owner = held.log().leader().filter(|leader| *leader != me);
            self.end_restore(log, Reply::Failed(ShardError::NotOwner { owner }));
            return;
        }
        let source_is_here = reached(&running.upload.node);
        let (stage, upload) = (running.stage, running.upload);
        let open =
            |node: &&NodeId| !running.staged.contains(*node) && !running.failed.contains_key(*node);
        let waiting: Vec<NodeId> = here.iter().filter(open).copied().collect();
        let enough = running.staged.contains(&me) && held.are_enough(&running.staged);
        let lost = running.lost.is_some_and(|since| now.since(since) >= PATIENCE);
        let over = waiting.is_empty() || lost || now >= running.staged_until;
        if over && enough {
            let holders = running.staged.clone();
            if let Some(running) = self.restores.running.get_mut(&log) {
                running.put = true;
            }
            if let Some(held) = self.shards.touch(log) {
                held.put_restore(now, stage, holders);
            }
            return;
        }
        if over {
            let why = self.why_not_staged(log, lost);
            self.abort_restore(log, ShardError::NotStaged(why));
            return;
        }
        let again = now >= running.repeat;
        if let Some(running) = self.restores.running.get_mut(&log) {
            running.lost = if source_is_here { None } else { running.lost.or(Some(now)) };
            if again {
                running.repeat = now + REPEAT;
            }
        }
        for node in waiting.into_iter().filter(|_| again) {
            if node == me {
                self.on_stage(me, log, stage, upload);
            } else {
                self.send_copy_message(log, node, CopyMessage::Stage { stage, upload });
            }
        }
    }

    fn why_not_staged(&self, log: LogId, lost: bool) -> String {
        let name = |node: &NodeId| match &self.document {
            Some(document) => document.name_of(*node),
            None => node.short(),
        };
        let Some(running) = self.restores.running.get(&log) else { return String::new() };
        let failed = running.failed.iter().map(|(node, why)| format!("{}: {why}", name(node)));
        let failed: Vec<String> = failed.collect();
        match (lost, failed.is_empty()) {
            (true, _) => format!("{} has the file and is out of reach", name(&running.upload.node)),
            (false, false) => failed.join("; "),
            (false, true) => "it took too long, or too few are in reach".to_owned(),
        }
    }

    /// The entry is to be put, or is in the log: what has become of it?
    fn follow_restore(&mut self, log: LogId) {
        let now = self.now;
        let (Some(running), Some(held)) =
            (self.restores.running.get(&log), self.shards.all.get(&log))
        else {
            self.end_restore(log, Reply::Failed(ShardError::OutcomeUnknown));
            return;
        };
        let late = now >= running.until;
        match held.restore_state(running.stage) {
            Some(RestoreState::Proposed(at)) => {
                let (at, raft) = (*at, held.log());
                let committed = raft.commit() >= at.index;
                match raft.term_at(at.index) {
                    Some(term) if committed && term == at.term => {
                        if self.have_come_to(log, at.index) {
                            self.end_restore(log, Reply::Done { at, rows: Vec::new() });
                        } else if late {
                            let below = ShardError::CommittedBelowQuorum { at };
                            self.end_restore(log, Reply::Failed(below));
                        }
                    }
                    // Another entry is there: it never will be.
                    Some(term) if committed && term != at.term => {
                        let owner = raft.leader();
                        self.end_restore(log, Reply::Failed(ShardError::NotOwner { owner }));
                    }
                    _ if late => {
                        self.end_restore(log, Reply::Failed(ShardError::OutcomeUnknown));
                    }
                    _ => {}
                }
            }
            Some(RestoreState::Refused(error)) => {
                let error = error.clone();
                self.abort_restore(log, error);
            }
            Some(RestoreState::Waiting) if !late => {}
            Some(RestoreState::Waiting) | None => self.abort_restore(log, ShardError::TimedOut),
        }
    }

    /// Whether as many voters as the write quorum asks for have the new content.
    fn have_come_to(&self, log: LogId, index: Index) -> bool {
        let Some(held) = self.shards.all.get(&log) else { return false };
        let come = |node: &NodeId| {
            let report = self.report_of(log, *node);
            report.is_some_and(|r| r.applied >= index && r.state == CopyState::Whole)
        };
        // Whoever votes has been added or taken out since, perhaps: the promise is that of the entry.
        let mut voters = held.log().membership().voters();
        voters.extend(held.log().membership_at(index).voters());
        let come = voters.into_iter().filter(come).collect();
        held.applied() >= index && held.is_open() && held.are_enough_for(index, &come)
    }

    /// The entry is not in the log and will not be: nobody needs to keep the file.
    fn abort_restore(&mut self, log: LogId, error: ShardError) {
        let Some(stage) = self.restores.running.get(&log).map(|running| running.stage) else {
            return;
        };
        let in_time = self.shards.touch(log).is_none_or(|held| held.cancel_restore(stage));
        if !in_time {
            return;
        }
        let shard = self.document.as_ref().and_then(|document| document.shard_of(log));
        let nodes: Vec<NodeId> =
            shard.map(|shard| shard.shard.copies.keys().copied().collect()).unwrap_or_default();
        let me = self.id();
        for node in nodes {
            if node == me {
                self.unstage_here(log, stage);
            } else {
                self.send_copy_message(log, node, CopyMessage::Unstage { stage });
            }
        }
        self.end_restore(log, Reply::Failed(error));
    }

    fn end_restore(&mut self, log: LogId, reply: Reply) {
        if let Some(running) = self.restores.running.remove(&log) {
            self.on_shard_reply(running.id, reply);
        }
    }

    /// The leader of a log wants a file beside this node's copy.
    pub(super) fn on_stage(&mut self, leader: NodeId, log: LogId, stage: StageId, upload: Upload) {
        let Some(held) = self.shards.all.get(&log) else {
            let none = Some("it holds no copy of the shard".to_owned());
            self.tell_staged(leader, log, stage, none);
            return;
        };
        if stage.term < held.log().term() {
            return;
        }
        if self.restores.staged.get(&log) == Some(&stage) {
            self.tell_staged(leader, log, stage, None);
            return;
        }
        match self.restores.staging.get(&log) {
            Some(under_way) if under_way.stage >= stage => return,
            Some(_) => self.stop_staging(log),
            None => {}
        }
        let machine = if upload.node == self.id() {
            let call = CopyCall::StageOwn { stage, upload: upload.number };
            self.out.push_back(Output::Copy { log, call });
            None
        } else {
            let rate_max = self.config.shards.and_then(|limits| limits.copy_rate_max);
            let goal = Goal::Stage { stage, upload: upload.number };
            let transfer = self.rng.next_u64();
            Some(Incoming::new((transfer, upload.node), goal, rate_max, self.now))
        };
        self.restores.staging.insert(log, Staging { stage, leader, machine });
        self.drain_staging(log);
    }

    fn stop_staging(&mut self, log: LogId) {
        if let Some(Staging { machine: Some(machine), .. }) = self.restores.staging.get_mut(&log) {
            machine.end();
        }
        self.drain_staging(log);
        self.restores.staging.remove(&log);
    }

    fn drain_staging(&mut self, log: LogId) {
        while let Some(Staging { stage, machine: Some(machine), .. }) =
            self.restores.staging.get_mut(&log)
        {
            let (stage, donor) = (*stage, machine.donor());
            let Some(step) = machine.next_step() else { return };
            match step {
                IncomingStep::Send(message) => self.send_copy_message(log, donor, message),
                IncomingStep::Call(call) => self.out.push_back(Output::Copy { log, call }),
                IncomingStep::DonorFailed { reason, .. } => {
                    self.staging_ended(log, stage, Some(reason));
                }
                IncomingStep::Failed(fault) => {
                    self.staging_ended(log, stage, Some(fault.to_string()));
                }
                IncomingStep::Staged(_) => self.staging_ended(log, stage, None),
                IncomingStep::Ready { .. } => {}
            }
        }
    }

    fn staging_ended(&mut self, log: LogId, stage: StageId, failed: Option<String>) {
        let Some(staging) = self.restores.staging.get(&log).filter(|s| s.stage == stage) else {
            return;
        };
        let leader = staging.leader;
        self.restores.staging.remove(&log);
        if failed.is_none() {
            self.restores.staged.insert(log, stage);
        }
        self.tell_staged(leader, log, stage, failed);
    }

    fn tell_staged(&mut self, leader: NodeId, log: LogId, stage: StageId, failed: Option<String>) {
        let failed = failed.map(|reason| reason.chars().take(REASON_MAX).collect());
        if leader == self.id() {
            self.on_staged(leader, log, stage, failed);
        } else {
            self.send_copy_message(log, leader, CopyMessage::Staged { stage, failed });
        }
    }

    /// A copy says whether the file lies beside it.
    pub(super) fn on_staged(
        &mut self,
        from: NodeId,
        log: LogId,
        stage: StageId,
        failed: Option<String>,
    ) {
        let Some(running) = self.restores.running.get_mut(&log).filter(|r| r.stage == stage) else {
            return;
        };
        match failed {
            None => {
                running.failed.remove(&from);
                running.staged.insert(from);
            }
            Some(reason) => {
                running.failed.insert(from, reason);
            }
        }
        self.restores.look = self.now;
    }

    /// The leader of that term will never name the file in an entry.
    pub(super) fn on_unstage(&mut self, from: NodeId, log: LogId, stage: StageId) {
        let Some(raft) = self.shards.all.get(&log).map(|held| held.log()) else { return };
        if raft.term() == stage.term && raft.leader() == Some(from) {
            self.unstage_here(log, stage);
        }
    }

    /// Nothing will ever ask for a staged file here.
    pub(super) fn unstage_here(&mut self, log: LogId, stage: StageId) {
        if self.restores.staging.get(&log).is_some_and(|staging| staging.stage == stage) {
            self.stop_staging(log);
        }
        self.restores.staged.retain(|of, held| *of != log || *held != stage);
        let call = CopyCall::Unstage(Unneeded::One(stage));
        self.out.push_back(Output::Copy { log, call });
    }

    /// The copy has come to the entry that names a staged file.
    pub(super) fn place_staged(&mut self, log: LogId, placing: Placing) {
        // A full copy on its way would go to the same place.
        self.stop_transfer(log);
        let Placing { stage, at, generation } = placing;
        let notes = self.shard_name(log).iter().map(Name::note).collect();
        let call = CopyCall::Place { stage, at, notes, generation };
        self.out.push_back(Output::Copy { log, call });
    }

    /// A copy that holds an entry of a later term needs no file that was staged in an earlier one.
    pub(super) fn sweep_stages(&mut self) {
        let terms = self.shards.all.iter();
        let terms = terms.filter_map(|(log, held)| Some((*log, held.applied_term()?)));
        let due = |(log, term): &(LogId, Term)| self.restores.swept.get(log) != Some(term);
        let due: Vec<(LogId, Term)> = terms.filter(due).collect();
        for (log, term) in due {
            self.restores.swept.insert(log, term);
            self.restores.staged.retain(|of, stage| *of != log || stage.term >= term);
            if self.restores.staging.get(&log).is_some_and(|s| s.stage.term < term) {
                self.stop_staging(log);
            }
            let call = CopyCall::Unstage(Unneeded::Before(term));
            self.out.push_back(Output::Copy { log, call });
        }
    }

    /// What the donor of a file says.
    pub(super) fn staging_message(&mut self, from: NodeId, log: LogId, message: CopyMessage) {
        let now = self.now;
        if let Some(Staging { machine: Some(machine), .. }) = self.restores.staging.get_mut(&log)
            && machine.donor() == from
        {
            machine.on_message(now, message);
            self.drain_staging(log);
        }
    }

    /// What the files say of one that is received.
    pub(super) fn staging_answer(&mut self, log: LogId, answer: CopyAnswer) {
        let now = self.now;
        if let Some(Staging { machine: Some(machine), .. }) = self.restores.staging.get_mut(&log) {
            machine.on_answer(now, answer);
            self.drain_staging(log);
        }
    }

    /// A file that was handed to this node itself is staged, or cannot be.
    pub(super) fn own_is_staged(&mut self, log: LogId, stage: StageId, result: Result<(), Fault>) {
        self.staging_ended(log, stage, result.err().map(|fault| fault.to_string()));
    }

    /// What comes from that peer comes no more: the leader asks again.
    pub(super) fn staging_lost_link(&mut self, peer: NodeId) {
        self.restores.staging.retain(|_, staging| {
            staging.machine.as_ref().is_none_or(|machine| machine.donor() != peer)
        });
    }

    /// Whether a restore runs here, and as which entry it is in the log.
    #[cfg(test)]
    pub(crate) fn is_restoring(&self, log: LogId) -> Option<Option<crate::engine::Position>> {
        let running = self.restores.running.get(&log)?;
        let held = self.shards.all.get(&log)?;
        Some(match held.restore_state(running.stage) {
            Some(RestoreState::Proposed(at)) => Some(*at),
            _ => None,
        })
    }
}
