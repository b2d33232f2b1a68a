//! The threads that carry full copies: one that receives, and one for each copy that is given.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use quorate_core::copies::{CopyAnswer, CopyCall};
use quorate_core::engine::Fault;
use quorate_core::{Generation, LogId};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::handle::{NoSnapshot, Snapshot, UploadBegun};
use crate::copies::{Files, Former, Given, Incoming, Outgoing, UploadFile};

/// An answer on its way to the node.
pub(super) type CopyAnswered = (LogId, CopyAnswer);

type Call = (LogId, CopyCall);

/// How often what is given is looked after while nobody reads it.
const TEND: Duration = Duration::from_secs(1);

struct Export {
    calls: mpsc::Sender<Call>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// What is given to others.
#[derive(Clone, Copy)]
enum Source {
    /// The live copy.
    Live(Generation),
    /// A file that was handed to this node.
    Upload(u64),
}

/// What is being received: of which log, and whether it is to be staged.
type Held = BTreeMap<(LogId, bool), (u64, Incoming)>;

/// All transfers of a node.
pub(super) struct Copies {
    files: Files,
    answers: UnboundedSender<CopyAnswered>,
    receiver: Option<(mpsc::Sender<Call>, JoinHandle<()>)>,
    exports: BTreeMap<u64, Export>,
    /// Numbers those snapshots that core knows nothing of, from the top.
    own: u64,
}

impl Copies {
    /// For the data directory `dir`. Removes what an earlier process has left of its snapshots.
    pub(super) fn new(dir: &Path, answers: UnboundedSender<CopyAnswered>) -> Self {
        let files = Files::new(dir);
        if let Err(fault) = files.sweep() {
            warn!(%fault, "what is left of earlier snapshots cannot be removed");
        }
        Self { files, answers, receiver: None, exports: BTreeMap::new(), own: u64::MAX }
    }

    /// Has the files of a copy do something; the answer comes by the channel.
    pub(super) fn call(&mut self, log: LogId, call: CopyCall) {
        match call {
            CopyCall::Export { export, live } => self.export(log, export, Source::Live(live)),
            CopyCall::ExportUpload { export, upload } => {
                self.export(log, export, Source::Upload(upload));
            }
            CopyCall::Read { export, .. } => {
                if let Some(held) = self.exports.get(&export) {
                    // A thread that has failed has said so.
                    let _ = held.calls.send((log, call));
                }
            }
            CopyCall::EndExport { export } => {
                if let Some(held) = self.exports.remove(&export) {
                    // It ends by itself, and nobody waits for it.
                    held.stop.store(true, Ordering::Relaxed);
                }
            }
            CopyCall::Receive { .. }
            | CopyCall::Write { .. }
            | CopyCall::Finish { .. }
            | CopyCall::FinishStage { .. }
            | CopyCall::StageOwn { .. }
            | CopyCall::Place { .. }
            | CopyCall::Import { .. }
            | CopyCall::Unstage(_)
            | CopyCall::Tidy { .. } => self.receive(log, call),
        }
    }

    /// Takes a snapshot for somebody at this node.
    pub(super) fn snapshot(
        &mut self,
        log: LogId,
        live: Generation,
        answer: oneshot::Sender<Snapshot>,
    ) {
        let (files, number) = (self.files.clone(), self.own);
        self.own -= 1;
        let take = move || {
            let taken = Outgoing::take(&files, log, live, number, || !answer.is_closed());
            let _ = answer.send(taken.map_err(NoSnapshot::Failed));
        };
        if let Err(error) = Builder::new().name(format!("copy {} is saved", log.0)).spawn(take) {
            // The asker is told that the node has stopped, which is nearly so.
            warn!(%error, "no thread for a snapshot");
        }
    }

    /// Begins to take a file for a shard from somebody at this node.
    pub(super) fn upload(&self, log: LogId, answer: oneshot::Sender<UploadBegun>) {
        let mut number = [0; 8];
        let begun = match getrandom::fill(&mut number) {
            Ok(()) => UploadFile::begin(&self.files, log, u64::from_le_bytes(number)),
            Err(error) => Err(Fault::Io(format!("the system gives no randomness: {error}"))),
        };
        // Whoever asked may have gone: then it is removed again.
        let _ = answer.send(begun.map_err(NoSnapshot::Failed));
    }

    fn export(&mut self, log: LogId, export: u64, source: Source) {
        let (calls, queue) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let (files, answers, stopped) = (self.files.clone(), self.answers.clone(), stop.clone());
        let work = move || give(&files, (log, export, source), &queue, &answers, &stopped);
        match Builder::new().name(format!("copy {} gives", log.0)).spawn(work) {
            Ok(thread) => {
                self.exports.insert(export, Export { calls, stop, thread });
            }
            Err(error) => {
                let fault = Fault::Io(format!("no thread for a snapshot: {error}"));
                let _ = self.answers.send((log, CopyAnswer::ExportFailed { export, fault }));
            }
        }
    }

    fn receive(&mut self, log: LogId, call: CopyCall) {
        if self.receiver.is_none() {
            let (calls, queue) = mpsc::channel();
            let (files, answers) = (self.files.clone(), self.answers.clone());
            let work = move || take(&files, &queue, &answers);
            match Builder::new().name("copies are taken".to_owned()).spawn(work) {
                Ok(thread) => self.receiver = Some((calls, thread)),
                Err(error) => {
                    let fault = Fault::Io(format!("no thread for a copy: {error}"));
                    if let Some(answer) = failed(&call, fault) {
                        let _ = self.answers.send((log, answer));
                    }
                    return;
                }
            }
        }
        if let Some((calls, _)) = &self.receiver {
            let _ = calls.send((log, call));
        }
    }

    /// Ends all of them.
    pub(super) fn shutdown(&mut self) {
        let mut threads = Vec::new();
        for export in std::mem::take(&mut self.exports).into_values() {
            export.stop.store(true, Ordering::Relaxed);
            drop(export.calls);
            threads.push(export.thread);
        }
        if let Some((calls, thread)) = self.receiver.take() {
            drop(calls);
            threads.push(thread);
        }
        for thread in threads {
            if thread.join().is_err() {
                warn!("the thread of a copy has panicked");
            }
        }
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        self.shutdown();
    }
}

/// Opens what is given and gives its chunks until nobody wants them any more.
fn give(
    files: &Files,
    (log, export, source): (LogId, u64, Source),
    queue: &mpsc::Receiver<Call>,
    answers: &UnboundedSender<CopyAnswered>,
    stopped: &AtomicBool,
) {
    let goes_on = || !stopped.load(Ordering::Relaxed);
    let taken = match source {
        Source::Live(live) => Given::hold(files, log, live, export, goes_on),
        Source::Upload(upload) => Outgoing::of_upload(files, log, upload).map(Given::file),
    };
    let mut given = match taken {
        Ok(given) => given,
        Err(fault) => {
            let _ = answers.send((log, CopyAnswer::ExportFailed { export, fault }));
            return;
        }
    };
    let (at, bytes) = (given.position(), given.bytes());
    let _ = answers.send((log, CopyAnswer::Exported { export, at, bytes }));
    loop {
        let answer = match next_call(&mut given, queue) {
            Ok(Some((_, CopyCall::Read { at, len, known, pack, .. }))) => {
                match given.read(at, len, known, pack) {
                    Ok((hash, data)) => CopyAnswer::Read { export, hash, data },
                    Err(fault) => CopyAnswer::ExportFailed { export, fault },
                }
            }
            Ok(Some(_)) => continue,
            Ok(None) => return,
            Err(fault) => CopyAnswer::ExportFailed { export, fault },
        };
        let over = matches!(answer, CopyAnswer::ExportFailed { .. });
        if answers.send((log, answer)).is_err() || over {
            return;
        }
    }
}

/// Waits for the next call, and tends to what is given meanwhile. `None`: there will be no more.
fn next_call(given: &mut Given, queue: &mpsc::Receiver<Call>) -> Result<Option<Call>, Fault> {
    loop {
        let wait = if given.tend()? { Duration::ZERO } else { TEND };
        match queue.recv_timeout(wait) {
            Ok(call) => return Ok(Some(call)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
        }
    }
}

/// Carries out what is to be received and put away, one after the other.
fn take(files: &Files, queue: &mpsc::Receiver<Call>, answers: &UnboundedSender<CopyAnswered>) {
    let mut held = Held::new();
    let mut former = Former::default();
    while let Ok((log, call)) = queue.recv() {
        let done = match &call {
            CopyCall::Import { origin, at, notes, generation } => {
                let to = (log, *generation);
                let result = files.import(&mut former, to, *origin, (*at, notes));
                Ok(Some(CopyAnswer::Imported { result }))
            }
            _ => carry_out(files, &mut held, log, &call),
        };
        let answer = done.unwrap_or_else(|fault| {
            let stages = stages(&held, log, &call);
            held.remove(&(log, stages));
            let answer = failed(&call, fault.clone());
            if answer.is_none() {
                warn!(log = log.0, %fault, "files that are not needed any more cannot be put away");
            }
            answer
        });
        if let Some(answer) = answer
            && answers.send((log, answer)).is_err()
        {
            return;
        }
    }
}

fn carry_out(
    files: &Files,
    held: &mut Held,
    log: LogId,
    call: &CopyCall,
) -> Result<Option<CopyAnswer>, Fault> {
    let gone = || Fault::Io("the transfer has failed before".to_owned());
    Ok(match call {
        CopyCall::Receive { transfer, shape, stage } => {
            let key = (log, stage.is_some());
            held.remove(&key);
            let (incoming, known) = match stage {
                Some(stage) => Incoming::begin_stage(files, log, *stage, *shape)?,
                None => Incoming::begin(files, log, *shape)?,
            };
            held.insert(key, (*transfer, incoming));
            Some(CopyAnswer::Receiving { transfer: *transfer, known })
        }
        CopyCall::Write { transfer, at, len, hash, data } => {
            let key = (log, stages(held, log, call));
            let found = held.get_mut(&key).filter(|(of, _)| of == transfer);
            let (_, incoming) = found.ok_or_else(gone)?;
            incoming.write(*at, *len, *hash, data)?;
            Some(CopyAnswer::Written { transfer: *transfer, at: *at })
        }
        CopyCall::Finish { transfer, bytes, at, generation } => {
            let found = held.remove(&(log, false)).filter(|(of, _)| of == transfer);
            let (_, incoming) = found.ok_or_else(gone)?;
            incoming.finish(*bytes, *at, *generation)?;
            Some(CopyAnswer::Finished { transfer: *transfer })
        }
        CopyCall::FinishStage { transfer, bytes, stage } => {
            let found = held.remove(&(log, true)).filter(|(of, _)| of == transfer);
            let (_, incoming) = found.ok_or_else(gone)?;
            incoming.finish_stage(*bytes, *stage)?;
            Some(CopyAnswer::Finished { transfer: *transfer })
        }
        CopyCall::StageOwn { stage, upload } => {
            let result = files.stage_own(log, *stage, *upload);
            Some(CopyAnswer::Staged { stage: *stage, result })
        }
        CopyCall::Place { stage, at, notes, generation } => {
            let result = files.place(log, *stage, (*at, notes), *generation);
            match &result {
                Ok(()) => info!(log = log.0, entry = at.index.0, "a restored file takes its place"),
                Err(fault) => warn!(log = log.0, %fault, "a restored file cannot take its place"),
            }
            Some(CopyAnswer::Placed { stage: *stage, result })
        }
        CopyCall::Unstage(which) => {
            files.unstage(log, *which)?;
            None
        }
        CopyCall::Tidy { live, receiving, name } => {
            if !receiving {
                held.remove(&(log, false));
            }
            files.tidy(log, *live, *receiving, name)?;
            None
        }
        CopyCall::Export { .. }
        | CopyCall::ExportUpload { .. }
        | CopyCall::Read { .. }
        | CopyCall::Import { .. }
        | CopyCall::EndExport { .. } => None,
    })
}

/// Whether a call is of a file that is to be staged.
fn stages(held: &Held, log: LogId, call: &CopyCall) -> bool {
    match call {
        CopyCall::Receive { stage, .. } => stage.is_some(),
        CopyCall::FinishStage { .. } => true,
        CopyCall::Write { transfer, .. } => {
            held.get(&(log, true)).is_some_and(|(of, _)| of == transfer)
        }
        _ => false,
    }
}

/// What is said when a call could not be carried out; nothing where nothing is answered.
fn failed(call: &CopyCall, fault: Fault) -> Option<CopyAnswer> {
    match call {
        CopyCall::Receive { transfer, .. }
        | CopyCall::Write { transfer, .. }
        | CopyCall::Finish { transfer, .. }
        | CopyCall::FinishStage { transfer, .. } => {
            Some(CopyAnswer::ReceiveFailed { transfer: *transfer, fault })
        }
        _ => None,
    }
}
