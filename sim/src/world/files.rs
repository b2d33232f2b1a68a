//! The files of copies: snapshots for others, and full copies that are received.

use std::collections::VecDeque;

use quorate_core::configuration::Origin;
use quorate_core::copies::{CopyAnswer, CopyCall};
use quorate_core::engine::{Fault, Note, Position};
use quorate_core::shard::{Name, StageId};
use quorate_core::{Generation, Input, LogId};

use super::{RunRef, What, World};
use crate::counts::Count;
use crate::disk::DirId;
use crate::outcome::{Verdict, Violation};
use crate::plan::Step;
use crate::trace::tell;
use crate::view::{Kind, Told};

/// The most calls of the files of one copy that may be unanswered.
const CALLS_MAX: usize = 512;

/// Calls to the files of one copy that are not carried out yet, oldest first.
pub type FileCalls = VecDeque<CopyCall>;

impl World {
    /// A node wants something of the files of a copy.
    pub(super) fn call_files(&mut self, host: usize, log: LogId, call: CopyCall) -> Verdict {
        tell!(
            self,
            Told::Log(host, Kind::Copies, log),
            "host {host} calls the files of {log:?}: {}",
            brief(&call)
        );
        let by = self.run_of(host);
        let wait = self.engine_wait(host);
        match call {
            CopyCall::Write { .. } => self.comes_to(host, Step::Receiving),
            CopyCall::Finish { .. } | CopyCall::Place { .. } | CopyCall::Import { .. } => {
                self.comes_to(host, Step::Finishing)
            }
            CopyCall::Tidy { live: Some(_), .. } => self.comes_to(host, Step::Tidying),
            _ => {}
        }
        let held = &mut self.hosts[host];
        let calls = held.file_calls.entry(log).or_default();
        calls.push_back(call);
        let waiting = calls.len();
        if waiting == 1 {
            self.queue.push(self.now + wait, What::Files { by, log });
        }
        match &held.node {
            Some(node) => crate::checks::bounded(node.id(), "calls of files", waiting, CALLS_MAX),
            None => Ok(()),
        }
    }

    /// The oldest call to the files of a copy is carried out.
    pub(super) fn files(&mut self, by: RunRef, log: LogId) -> Verdict {
        if !self.is_now(by) {
            return Ok(());
        }
        let host = by.host;
        let calls = self.hosts[host].file_calls.entry(log).or_default();
        let Some(call) = calls.pop_front() else { return Ok(()) };
        if !calls.is_empty() {
            let wait = self.engine_wait(host);
            self.queue.push(self.now + wait, What::Files { by, log });
        }
        let Some(dir) = self.hosts[host].dir else { return Ok(()) };
        self.draw_file_fault(host, dir, log, &call);
        let finishes = matches!(call, CopyCall::Finish { .. });
        let staged = match &call {
            CopyCall::FinishStage { stage, .. } | CopyCall::StageOwn { stage, .. } => Some(*stage),
            _ => None,
        };
        let answer = self.perform_on_files(host, dir, log, call);
        if finishes {
            self.counts.add(Count::FullCopies);
            self.count_copied_sessions(dir, log);
        }
        if let Some(CopyAnswer::Placed { result: Ok(()), .. }) = &answer {
            self.counts.add(Count::ContentPlaced);
        }
        self.note_staged(dir, log, staged)?;
        self.keeps_live_copy(host, dir, log)?;
        self.print.word(0x500 + host as u64);
        let Some(answer) = answer else { return Ok(()) };
        let placed = matches!(
            answer,
            CopyAnswer::Finished { .. }
                | CopyAnswer::Placed { result: Ok(()), .. }
                | CopyAnswer::Imported { result: Ok(()) }
        );
        if placed {
            self.comes_to(host, Step::Placed);
        }
        if self.dying == Some(host) {
            return self.die_if_armed(host);
        }
        self.deliver(host, Input::Copy { log, answer }, false)
    }

    /// A full copy has come: it is the last one that lies there.
    fn count_copied_sessions(&mut self, dir: DirId, log: LogId) {
        let files = self.disks.get(dir).engines.get(&log);
        let last = files.and_then(|files| files.held.generations.values().next_back());
        if last.is_some_and(|copy| copy.noted().keys().any(|key| *key != Name::KEY)) {
            self.counts.add(Count::SessionsCopied);
        }
    }

    fn draw_file_fault(&mut self, host: usize, dir: DirId, log: LogId, call: &CopyCall) {
        let files = self.disks.get(dir).engines.get(&log);
        let damaged = match call {
            CopyCall::Export { live, .. } => files.is_some_and(|f| f.rotten.contains(live)),
            _ => false,
        };
        let writes = matches!(
            call,
            CopyCall::Export { .. }
                | CopyCall::Write { .. }
                | CopyCall::Finish { .. }
                | CopyCall::Import { .. }
                | CopyCall::StageOwn { .. }
                | CopyCall::FinishStage { .. }
                | CopyCall::Place { .. }
        );
        let ppm = self.plan.databases.as_ref().map_or(0, |plan| plan.fail_ppm);
        let fails = self.peace.is_none() && self.engine_dice.chance(ppm);
        let fault = if damaged {
            Some(Fault::Corrupt("database disk image is malformed".to_owned()))
        } else if self.hosts[host].full && writes {
            Some(Fault::Full("no space left on device".to_owned()))
        } else if fails {
            self.counts.add(Count::EngineFaults);
            Some(Fault::Io("input/output error".to_owned()))
        } else {
            None
        };
        self.disks.get_mut(dir).files(log).held.fail = fault;
    }

    fn perform_on_files(
        &mut self,
        host: usize,
        dir: DirId,
        log: LogId,
        call: CopyCall,
    ) -> Option<quorate_core::copies::CopyAnswer> {
        if let CopyCall::Import { origin, at, notes, generation } = call {
            let result = self.import(host, dir, (log, generation), origin, (at, &notes));
            return Some(CopyAnswer::Imported { result });
        }
        let files = self.disks.get_mut(dir).files(log);
        if let CopyCall::Finish { generation, .. } | CopyCall::Place { generation, .. } = &call {
            files.renewed(*generation);
        }
        if let CopyCall::StageOwn { stage, .. } = &call
            && let Some(fault) = files.held.fail.take()
        {
            return Some(CopyAnswer::Staged { stage: *stage, result: Err(fault) });
        }
        let answer = files.carry_out(call);
        files.held.fail = None;
        answer
    }

    /// What was staged is what somebody gave, everywhere.
    fn note_staged(&mut self, dir: DirId, log: LogId, stage: Option<StageId>) -> Verdict {
        let directory = self.disks.get(dir);
        let files = directory.engines.get(&log);
        let staged = stage.and_then(|stage| Some((stage, files?.held.staged.get(&stage)?)));
        match (directory.written_log.cluster, staged) {
            (Some(cluster), Some((stage, held))) => self.checks.stages((cluster, log), stage, held),
            _ => Ok(()),
        }
    }

    /// What the host held as another node becomes a copy.
    fn import(
        &mut self,
        host: usize,
        dir: DirId,
        (log, to): (LogId, Generation),
        origin: Origin,
        at: (Position, &[Note]),
    ) -> Result<(), Fault> {
        let files = self.disks.get_mut(dir).files(log);
        if let Some(fault) = files.held.fail.take() {
            return Err(fault);
        }
        let missing = || Fault::Missing(format!("what {:?} held", origin.node));
        let former = self.hosts[host].former.get(&origin.node).ok_or_else(missing)?;
        let former = self.disks.get(*former);
        let live = former.durable.logs.get(&origin.log).and_then(|held| held.copy);
        let live = live.ok_or_else(missing)?;
        let there = former.engines.get(&origin.log).ok_or_else(missing)?;
        if !there.is_sound(live) {
            return Err(Fault::Corrupt("database disk image is malformed".to_owned()));
        }
        let held = there.held.generations.get(&live).cloned().ok_or_else(missing)?;
        let files = self.disks.get_mut(dir).files(log);
        files.renewed(to);
        files.held.import(&held, at, to);
        self.counts.add(Count::Imports);
        Ok(())
    }

    /// Whatever happens to files, the copy that a restart would open lies there.
    fn keeps_live_copy(&self, host: usize, dir: DirId, log: LogId) -> Verdict {
        let directory = self.disks.get(dir);
        let live = directory.durable.logs.get(&log).and_then(|held| held.copy);
        let files = directory.engines.get(&log);
        let Some(live) = live else { return Ok(()) };
        if files.is_some_and(|files| files.held.generations.contains_key(&live)) {
            return Ok(());
        }
        // That of a shard which is no more goes to the backups.
        if self.was_dropped(dir, log) {
            return Ok(());
        }
        let detail = format!("host {host} has no {live:?} of {log:?}, which its store names");
        Err(Violation::new("live-copy-put-away", detail))
    }

    /// The process is gone: what was under way is done or not.
    pub(super) fn crash_files(&mut self, host: usize, dir: DirId) {
        let calls = std::mem::take(&mut self.hosts[host].file_calls);
        for (log, mut calls) in calls {
            let Some(call) = calls.pop_front() else { continue };
            if self.engine_dice.one_in(2) {
                let tidies = matches!(call, CopyCall::Tidy { .. });
                let _nobody_hears = self.perform_on_files(host, dir, log, call);
                if tidies {
                    // Files go one after the other.
                    self.lose_names(dir, log);
                }
            }
        }
    }
}

impl World {
    /// The power has failed, or a process has: of the files that were put away since the directory was
    /// synced, some lie where they lay, from one on.
    pub(super) fn lose_names(&mut self, dir: DirId, log: LogId) {
        let files = self.disks.get_mut(dir).files(log);
        let unsynced = files.unsynced();
        let kept = self.engine_dice.index(unsynced + 1);
        if kept < unsynced {
            self.counts.add(Count::NamesLost);
        }
        files.lose_names_after(kept);
    }
}

fn brief(call: &CopyCall) -> String {
    match call {
        CopyCall::Write { transfer, at, len, .. } => {
            format!("Write transfer {transfer} at {at}, {len} bytes")
        }
        other => format!("{other:?}"),
    }
}
