//! The engines of a process: calls take time, every one may fail, and a crash leaves what a disk
//! would leave.

use std::collections::VecDeque;

use quorate_core::engine::memory::Memory;
use quorate_core::engine::{Engine as _, Fault, Reader as _, SqlLimits};
use quorate_core::shard::{Answer, Call, CallKind, Name};
use quorate_core::{Generation, Index, Input, LogId, Term};

use super::{RunRef, What, World};
use crate::counts::Count;
use crate::disk::{DirId, Files};
use crate::network::MS;
use crate::outcome::{Verdict, Violation};
use crate::plan::Step;
use crate::trace::tell;
use crate::view::{Kind, Told};

/// The most calls of one engine that may be unanswered.
const CALLS_MAX: usize = 16;

/// The engine of one copy in one process.
#[derive(Debug, Default)]
pub struct Pump {
    /// Calls that are not carried out yet, oldest first, and the term in which each was made.
    pub calls: VecDeque<(Call, Term)>,
    /// The copy that is open.
    pub open: Option<Generation>,
    /// The epoch in which a call has failed: nothing more of it is carried out.
    failed: u64,
    /// A transaction is open, which was run in this term.
    pub transaction: Option<Term>,
}

impl World {
    /// A node calls the engine of a copy.
    pub(super) fn call_engine(&mut self, host: usize, log: LogId, call: Call) -> Verdict {
        tell!(
            self,
            Told::Log(host, Kind::Copies, log),
            "host {host} calls the engine of {log:?}: {:?}",
            call.what
        );
        let by = self.run_of(host);
        let wait = self.engine_wait(host);
        if let CallKind::Query(..) = call.what {
            self.queue.push(self.now + wait, What::Query { by, log, call: Box::new(call) });
            return Ok(());
        }
        let opens = matches!(call.what, CallKind::Open { create: false, .. });
        if opens {
            self.comes_to(host, Step::Opening);
        }
        let held = &mut self.hosts[host];
        let shard = held.node.as_ref().and_then(|node| node.shard(log));
        let term = shard.map(|shard| shard.log().term()).unwrap_or_default();
        let pump = held.engines.entry(log).or_default();
        match call.what {
            CallKind::Execute(..) => {
                self.counts.add(Count::Batches);
                self.late.push(super::outputs::Late::Executes(log));
            }
            CallKind::Begin(..) => {
                self.late.push(super::outputs::Late::Executes(log));
            }
            // What a finish has come to is told with its answer, as of a batch.
            CallKind::Commit(..)
            | CallKind::Rollback
            | CallKind::Finish
            | CallKind::Open { .. } => {
                pump.transaction = None;
            }
            _ => {}
        }
        pump.calls.push_back((call, term));
        let waiting = pump.calls.len();
        if waiting == 1 {
            self.queue.push(self.now + wait, What::Engine { by, log });
        }
        match &held.node {
            Some(node) => {
                crate::checks::bounded(node.id(), "calls of an engine", waiting, CALLS_MAX)
            }
            None => Ok(()),
        }
    }

    pub(super) fn engine_wait(&mut self, host: usize) -> u64 {
        let Some(plan) = &self.plan.databases else { return 0 };
        let wait = self.engine_dice.between(plan.call_min_us, plan.call_max_us) * 1_000;
        let hiccup = self.peace.is_none() && self.engine_dice.chance(plan.hiccup_ppm);
        let more = if hiccup { self.engine_dice.below(1_000 * MS) } else { 0 };
        wait + more + self.hosts[host].engines_slow
    }

    /// A node lets a copy go.
    pub(super) fn close_engine(&mut self, host: usize, log: LogId) {
        tell!(self, Told::Log(host, Kind::Copies, log), "host {host} closes the engine of {log:?}");
        let pump = self.hosts[host].engines.remove(&log);
        let (Some(pump), Some(dir)) = (pump, self.hosts[host].dir) else { return };
        if let Some(generation) = pump.open
            && let Some(copy) = self.disks.get_mut(dir).files(log).copy(generation)
        {
            copy.kill();
        }
    }

    /// The oldest call of an engine is carried out.
    pub(super) fn engine(&mut self, by: RunRef, log: LogId) -> Verdict {
        if !self.is_now(by) {
            return Ok(());
        }
        let host = by.host;
        let Some(pump) = self.hosts[host].engines.get_mut(&log) else { return Ok(()) };
        let Some((call, asked)) = pump.calls.pop_front() else { return Ok(()) };
        if !pump.calls.is_empty() {
            let wait = self.engine_wait(host);
            self.queue.push(self.now + wait, What::Engine { by, log });
        }
        let Some(dir) = self.hosts[host].dir else { return Ok(()) };
        let failed = self.hosts[host].engines.get(&log).map_or(0, |pump| pump.failed);
        if failed == call.epoch {
            return Ok(());
        }
        let answer = match self.carry_out_call((host, dir), log, &call.what, asked)? {
            Ok(answer) => answer,
            Err(fault) => {
                self.give_up(host, dir, log, call.epoch);
                Answer::Failed(fault)
            }
        };
        self.print.word(0x300 + host as u64);
        tell!(
            self,
            Told::Log(host, Kind::Copies, log),
            "host {host} {log:?} engine says {answer:?}"
        );
        self.deliver(host, Input::Engine { log, epoch: call.epoch, answer }, false)
    }

    /// Nothing more of that epoch is carried out; what was open is undone.
    fn give_up(&mut self, host: usize, dir: DirId, log: LogId, epoch: u64) {
        let Some(pump) = self.hosts[host].engines.get_mut(&log) else { return };
        (pump.failed, pump.transaction) = (epoch, None);
        let open = pump.open.take();
        if let Some(copy) = open.and_then(|g| self.disks.get_mut(dir).files(log).copy(g)) {
            copy.kill();
        }
    }

    /// A call that fails by itself, and whether it is done all the same.
    fn draw_fault(&mut self, host: usize, what: &CallKind) -> Option<(Fault, bool)> {
        let writes = !matches!(what, CallKind::Rollback | CallKind::Query(..));
        if self.hosts[host].full && writes {
            self.counts.add(Count::EngineFaults);
            return Some((Fault::Full("no space left on device".to_owned()), false));
        }
        let ppm = self.plan.databases.as_ref().map_or(0, |plan| plan.fail_ppm);
        if self.peace.is_some() || !self.engine_dice.chance(ppm) {
            return None;
        }
        self.counts.add(Count::EngineFaults);
        if matches!(what, CallKind::Commit(..)) {
            self.counts.add(Count::CommitsFailed);
        }
        // A write whose error came from its last step may have been done.
        let done = matches!(what, CallKind::Commit(..) | CallKind::Apply(..) | CallKind::Sync)
            && self.engine_dice.one_in(2);
        let text = "input/output error".to_owned();
        Some(if self.engine_dice.one_in(3) {
            (Fault::Full(text), done)
        } else {
            (Fault::Io(text), done)
        })
    }

    fn carry_out_call(
        &mut self,
        (host, dir): (usize, DirId),
        log: LogId,
        what: &CallKind,
        asked: Term,
    ) -> Result<Result<Answer, Fault>, Violation> {
        let fault = self.draw_fault(host, what);
        if let Some((fault, false)) = fault {
            return Ok(Err(fault));
        }
        if let CallKind::Open { generation, create } = what {
            return self.open_copy(host, dir, log, (*generation, *create));
        }
        let open = self.hosts[host].engines.get(&log).and_then(|pump| pump.open);
        let files = self.disks.get_mut(dir).files(log);
        let rotten = open.is_some_and(|g| files.rotten.contains(&g));
        let Some(at) = open.and_then(|g| files.copy(g)).map(|copy| copy.position()) else {
            let detail = format!("host {host} asks for {what:?} of {log:?} before it is open");
            return Err(Violation::new("engine-not-open", detail));
        };
        if rotten && !matches!(what, CallKind::Rollback) {
            return Ok(Err(Fault::Corrupt("database disk image is malformed".to_owned())));
        }
        if let CallKind::Execute(..) | CallKind::Begin(..) = what {
            self.executes_on_all((host, dir), log, at, asked)?;
        }
        let copy = open.and_then(|g| self.disks.get_mut(dir).files(log).copy(g));
        let Some(copy) = copy else { return Ok(Ok(Answer::RolledBack)) };
        let answer = perform(copy, what);
        if let Err(
            fault @ (Fault::Conflict { .. } | Fault::Misuse { .. } | Fault::Unreadable { .. }),
        ) = &answer
        {
            let detail = format!("host {host} {log:?} {what:?}: {fault}");
            return Err(Violation::new("copy-does-not-follow", detail));
        }
        self.note_open(host, log, &answer);
        if matches!(what, CallKind::Commit(..) | CallKind::Apply(..)) {
            self.compare_copy(host, dir, log)?;
        }
        Ok(match fault {
            Some((fault, _)) => Err(fault),
            None => answer,
        })
    }

    /// Whether a transaction is open now, by what a call has come to.
    fn note_open(&mut self, host: usize, log: LogId, answer: &Result<Answer, Fault>) {
        let open = match answer {
            Ok(Answer::Begun) => true,
            Ok(Answer::Executed(executed)) => !executed.effects.is_empty(),
            Ok(Answer::Stepped(stepped)) if stepped.lost => false,
            _ => return,
        };
        let shard = self.hosts[host].node.as_ref().and_then(|node| node.shard(log));
        let term = shard.map(|shard| shard.log().term());
        if let Some(pump) = self.hosts[host].engines.get_mut(&log) {
            let ends =
                |call: &Call| matches!(call.what, CallKind::Rollback | CallKind::Open { .. });
            let over = pump.calls.iter().any(|(call, _)| ends(call));
            pump.transaction = term.filter(|_| open && !over);
        }
    }

    fn open_copy(
        &mut self,
        host: usize,
        dir: DirId,
        log: LogId,
        (generation, create): (Generation, bool),
    ) -> Result<Result<Answer, Fault>, Violation> {
        let files = self.disks.get_mut(dir).files(log);
        if files.rotten.contains(&generation) && !create {
            return Ok(Err(Fault::Corrupt("file is not a database".to_owned())));
        }
        if create {
            files.renewed(generation);
        }
        let misplaced = files.misplaced.contains(&generation);
        let opened = files.held.open(generation, create);
        let opened = opened.and_then(|copy| Ok((copy.position(), copy.notes()?)));
        let (at, notes) = match opened {
            Ok(opened) => opened,
            // Its database was dropped, which this node has forgotten.
            Err(fault) if self.was_dropped(dir, log) => return Ok(Err(fault)),
            Err(fault) => {
                let detail = format!("host {host} {log:?}: {fault}");
                return Err(Violation::new("live-copy-missing", detail));
            }
        };
        if let Some(pump) = self.hosts[host].engines.get_mut(&log) {
            pump.open = Some(generation);
        }
        // That it is another one the node has to find out; whatever it does with it is looked at.
        if !misplaced {
            self.compare_copy(host, dir, log)?;
        }
        Ok(Ok(Answer::Opened(at, notes)))
    }

    /// Whether the database of a log is known to be gone.
    pub(super) fn was_dropped(&self, dir: DirId, log: LogId) -> bool {
        let cluster = self.disks.get(dir).written_log.cluster;
        let ledger = cluster.and_then(|cluster| self.checks.known(cluster));
        let document = ledger.and_then(|ledger| ledger.document());
        document.is_some_and(|document| document.shard_of(log).is_none())
    }

    /// A copy at a position holds what every copy holds there.
    fn compare_copy(&mut self, host: usize, dir: DirId, log: LogId) -> Verdict {
        let open = self.hosts[host].engines.get(&log).and_then(|pump| pump.open);
        let directory = self.disks.get_mut(dir);
        let cluster = directory.written_log.cluster;
        let copy = open.and_then(|g| directory.files(log).copy(g));
        let ledger = cluster.and_then(|cluster| self.checks.shard(cluster, log));
        let (Some(copy), Some(ledger)) = (copy, ledger) else { return Ok(()) };
        let Ok(held) = copy.content_hash() else { return Ok(()) };
        ledger.content.agrees(&format!("host {host} {log:?}"), &held)?;
        let noted = copy.noted();
        ledger.content.sessions.agrees(&format!("host {host} {log:?}"), held.at, noted)?;
        // It says of which shard it is from its first entry on.
        let document = cluster.and_then(|cluster| self.checks.known(cluster)?.document());
        let right = document.map(|document| Name::new(document.origin, log).note().value);
        let named = noted.get(&Name::KEY);
        if held.at.index > Index::ZERO && right.is_some_and(|right| named != Some(&right)) {
            let detail = format!("host {host} {log:?}: its copy calls itself {named:?}");
            return Err(Violation::new("copy-misnamed", detail));
        }
        Ok(())
    }

    /// A reader of a copy has come to its end.
    pub(super) fn query(&mut self, by: RunRef, log: LogId, call: Call) -> Verdict {
        let CallKind::Query(id, transaction) = call.what else { return Ok(()) };
        let Some(dir) = self.hosts[by.host].dir.filter(|_| self.is_now(by)) else { return Ok(()) };
        let open = self.hosts[by.host].engines.get(&log).and_then(|pump| pump.open);
        let ppm = self.plan.databases.as_ref().map_or(0, |plan| plan.fail_ppm);
        let fails = self.peace.is_none() && self.engine_dice.chance(ppm);
        let files = self.disks.get_mut(dir).files(log);
        let rotten = open.is_some_and(|g| files.rotten.contains(&g));
        let result = match open.and_then(|g| files.copy(g)) {
            None => Err(Fault::Io("the database is closed".to_owned())),
            Some(_) if rotten => Err(Fault::Corrupt("malformed".to_owned())),
            Some(_) if fails => Err(Fault::Io("disk I/O error".to_owned())),
            Some(copy) => copy.query(&transaction, &SqlLimits::default()),
        };
        self.print.word(0x400 + by.host as u64);
        let answer = Answer::Queried(id, result);
        self.deliver(by.host, Input::Engine { log, epoch: call.epoch, answer }, false)
    }

    /// Whoever runs transactions has every entry of its log with content in the copy.
    fn executes_on_all(
        &self,
        (host, dir): (usize, DirId),
        log: LogId,
        at: quorate_core::engine::Position,
        asked: Term,
    ) -> Verdict {
        let shard = self.hosts[host].node.as_ref().and_then(|node| node.shard(log));
        // What comes from an earlier term is undone as soon as it has run.
        let leads = shard.filter(|s| s.log().is_leader() && s.log().term() == asked);
        let (Some(shard), Some(held)) = (leads, self.disks.get(dir).written(log)) else {
            return Ok(());
        };
        let ledger = held.cluster.and_then(|cluster| self.checks.shard(cluster, log));
        let gone = ledger.map(|ledger| ledger.content.position_at(held.base));
        let least = held.last_content_before(shard.log().term()).max(gone);
        if least.is_none_or(|least| at.index >= least) {
            return Ok(());
        }
        let detail = format!(
            "host {host} runs transactions of {log:?} on a copy at {}, its log has {least:?} of \
             an earlier term",
            at.index
        );
        Err(Violation::new("executed-behind", detail))
    }

    /// The process is gone: what was under way is done or not, what was open is undone, and if the
    /// power has failed, what was not synced is gone, from some commit on.
    pub(super) fn crash_engines(&mut self, host: usize, power: bool) {
        let Some(dir) = self.hosts[host].dir else { return };
        let pumps = std::mem::take(&mut self.hosts[host].engines);
        for (log, mut pump) in pumps {
            let Some((call, _)) = pump.calls.pop_front() else { continue };
            let under_way = call.epoch != pump.failed && self.engine_dice.one_in(2);
            let files = self.disks.get_mut(dir).files(log);
            match (call.what, pump.open) {
                (CallKind::Open { generation, create: true }, _) if under_way => {
                    files.renewed(generation);
                    let _made = files.held.open(generation, true);
                }
                (what @ (CallKind::Commit(..) | CallKind::Apply(..) | CallKind::Sync), Some(g))
                    if under_way && files.is_sound(g) =>
                {
                    let _whatever = files.copy(g).map(|copy| perform(copy, &what));
                }
                _ => {}
            }
        }
        self.crash_files(host, dir);
        let logs: Vec<LogId> = self.disks.get(dir).engines.keys().copied().collect();
        for log in logs {
            self.disks.get_mut(dir).files(log).held.kill();
            if !power {
                continue;
            }
            self.lose_names(dir, log);
            let Files { held, .. } = self.disks.get_mut(dir).files(log);
            // What was received and not put in place yet was never synced.
            if let Some(incoming) = &mut held.incoming {
                incoming.truncate(self.engine_dice.index(incoming.len() + 1));
            }
            for copy in held.generations.values_mut() {
                let kept = self.engine_dice.index(copy.unsynced() + 1);
                if kept < copy.unsynced() {
                    self.counts.add(Count::CommitsLost);
                }
                copy.lose_power_after(kept);
            }
        }
    }
}

fn perform(memory: &mut Memory, what: &CallKind) -> Result<Answer, Fault> {
    Ok(match what {
        CallKind::Execute(batch, rights) => {
            let limits = SqlLimits { rights: *rights, ..SqlLimits::default() };
            Answer::Executed(memory.execute(batch, &limits)?)
        }
        CallKind::Begin(rights, _) => {
            memory.begin(&SqlLimits { rights: *rights, ..SqlLimits::default() })?;
            Answer::Begun
        }
        CallKind::Step(statements) => Answer::Stepped(memory.step(statements)?),
        CallKind::Finish => Answer::Executed(memory.finish()?),
        CallKind::Hash(mark) => Answer::Hashed(*mark, Ok(memory.hash())),
        CallKind::Commit(at, notes) => {
            memory.commit(*at, notes)?;
            Answer::Committed
        }
        CallKind::Rollback => {
            memory.rollback()?;
            Answer::RolledBack
        }
        CallKind::Apply(entries, notes) => {
            memory.apply(entries, notes)?;
            Answer::Applied
        }
        CallKind::Sync => Answer::Synced(memory.sync()?),
        CallKind::Open { .. } => Answer::Opened(memory.position(), memory.notes()?),
        CallKind::Query(id, transaction) => {
            Answer::Queried(*id, memory.query(transaction, &SqlLimits::default()))
        }
    })
}
