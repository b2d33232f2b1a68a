//! The engines of the copies that a node holds: a writing and a reading thread for each.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};
use std::thread::{Builder, JoinHandle};

use quorate_core::engine::{ContentHash, Engine as _, Fault, Reader as _, SqlLimits, Transaction};
use quorate_core::shard::{Answer, Call, CallKind, RequestId};
use quorate_core::{Generation, LogId};
use tokio::sync::mpsc::UnboundedSender;
use tracing::warn;

use super::mailbox::{Receiver, Sender, mailbox};
use crate::copies::Files;
use crate::engine::{Hashing, SqliteEngine, SqliteReader};

/// An answer on its way to the node: of whose copy, to a call of which epoch.
pub(super) type Answered = (LogId, u64, Answer);

/// A query on its way to the reading thread.
struct Query {
    epoch: u64,
    path: PathBuf,
    id: RequestId,
    transaction: Transaction,
}

struct Copy {
    /// The one that was last asked for.
    live: Generation,
    writer: Sender<Call>,
    reader: Sender<Query>,
    threads: Vec<JoinHandle<()>>,
}

/// All engines of a node. Calls are bounded by the node: so many for each copy.
pub(super) struct Engines {
    files: Files,
    copies: BTreeMap<LogId, Copy>,
    answers: UnboundedSender<Answered>,
}

impl Engines {
    /// For the copies in the data directory `dir`.
    pub(super) fn new(dir: &Path, answers: UnboundedSender<Answered>) -> Self {
        Self { files: Files::new(dir), copies: BTreeMap::new(), answers }
    }

    /// Has the engine of a copy do something; the answer comes by the channel.
    pub(super) fn call(&mut self, log: LogId, call: Call) {
        let started = match self.copies.entry(log) {
            Entry::Occupied(copy) => Ok(copy.into_mut()),
            Entry::Vacant(place) => {
                start(&self.files, log, &self.answers).map(|copy| place.insert(copy))
            }
        };
        let copy = match started {
            Ok(copy) => copy,
            Err(error) => {
                let fault = Fault::Io(format!("no thread for the copy of log {}: {error}", log.0));
                let _ = self.answers.send((log, call.epoch, Answer::Failed(fault)));
                return;
            }
        };
        let Call { epoch, what } = call;
        // The threads end only when this end of their mailboxes is dropped.
        match what {
            CallKind::Query(id, transaction) => {
                let path = self.files.copy(log, copy.live);
                copy.reader.send(Query { epoch, path, id, transaction });
            }
            what => {
                if let CallKind::Open { generation, .. } = what {
                    copy.live = generation;
                }
                copy.writer.send(Call { epoch, what });
            }
        }
    }

    /// Closes the engine of a copy that is not the node's any more.
    pub(super) fn close(&mut self, log: LogId) {
        if let Some(copy) = self.copies.remove(&log) {
            copy.end();
        }
    }

    /// Closes all of them; what they were doing is finished first.
    pub(super) fn shutdown(&mut self) {
        std::mem::take(&mut self.copies).into_values().for_each(Copy::end);
    }
}

impl Drop for Engines {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl Copy {
    fn end(self) {
        drop((self.writer, self.reader));
        for thread in self.threads {
            if thread.join().is_err() {
                warn!("the thread of a database engine has panicked");
            }
        }
    }
}

fn start(files: &Files, log: LogId, answers: &UnboundedSender<Answered>) -> std::io::Result<Copy> {
    let (writer, calls) = mailbox();
    let (reader, queries) = mailbox();
    let files = files.clone();
    let writing = Writing { files, log, hashing: None, engine: None, failed: None };
    let (to, from) = (answers.clone(), answers.clone());
    let name = |what: &str| Builder::new().name(format!("shard {} {what}", log.0));
    let threads = vec![
        name("writes").spawn(move || write(writing, log, calls, &to))?,
        name("reads").spawn(move || read(log, queries, &from))?,
    ];
    Ok(Copy { live: Generation::ZERO, writer, reader, threads })
}

struct Writing {
    files: Files,
    log: LogId,
    /// The hash that was last asked for.
    hashing: Option<Hashing>,
    engine: Option<SqliteEngine>,
    /// The epoch in which a call has failed: nothing more of it is done.
    failed: Option<u64>,
}

fn write(
    mut writing: Writing,
    log: LogId,
    mut calls: Receiver<Call>,
    answers: &UnboundedSender<Answered>,
) {
    while let Some(Call { epoch, what }) = calls.receive() {
        if writing.failed == Some(epoch) {
            continue;
        }
        if let CallKind::Hash(mark) = what {
            let to = answers.clone();
            let tell = move |hash| {
                // Whoever asked is gone with the node.
                let _ = to.send((log, epoch, Answer::Hashed(mark, hash)));
            };
            writing.hash(log, tell);
            continue;
        }
        let answer = writing.carry_out(what).unwrap_or_else(|fault| {
            warn!(log = log.0, %fault, "a database engine has failed");
            writing.failed = Some(epoch);
            writing.engine = None;
            Answer::Failed(fault)
        });
        if answers.send((log, epoch, answer)).is_err() {
            return;
        }
    }
}

impl Writing {
    fn carry_out(&mut self, what: CallKind) -> Result<Answer, Fault> {
        if let CallKind::Open { generation, create } = what {
            return self.open(generation, create);
        }
        let Some(engine) = &mut self.engine else {
            return Err(Fault::Misuse { call: "something", state: "the copy is not open" });
        };
        Ok(match what {
            CallKind::Execute(batch, rights) => {
                let limits = SqlLimits { rights, ..SqlLimits::default() };
                Answer::Executed(engine.execute(&batch, &limits)?)
            }
            CallKind::Begin(rights, time) => {
                let time_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
                let limits = SqlLimits { rights, time_ms, ..SqlLimits::default() };
                engine.begin(&limits).map(|()| Answer::Begun)?
            }
            CallKind::Step(statements) => Answer::Stepped(engine.step(&statements)?),
            CallKind::Finish => Answer::Executed(engine.finish()?),
            CallKind::Commit(at, notes) => engine.commit(at, &notes).map(|()| Answer::Committed)?,
            CallKind::Rollback => engine.rollback().map(|()| Answer::RolledBack)?,
            CallKind::Apply(entries, notes) => {
                engine.apply(&entries, &notes).map(|()| Answer::Applied)?
            }
            CallKind::Sync => Answer::Synced(engine.sync()?),
            CallKind::Open { .. } | CallKind::Query(..) | CallKind::Hash(_) => {
                unreachable!("handled elsewhere")
            }
        })
    }

    /// Has the content as it is now hashed on a thread of its own, one at a time.
    fn hash(
        &mut self,
        log: LogId,
        tell: impl FnOnce(Result<ContentHash, Fault>) + Send + Clone + 'static,
    ) {
        let busy = self.hashing.as_ref().is_some_and(|hashing| !hashing.is_finished());
        let view = match &self.engine {
            _ if busy => Err(Fault::Io("an earlier hash of this copy is still under way".into())),
            Some(engine) => engine.view(),
            None => Err(Fault::Misuse { call: "hash", state: "the copy is not open" }),
        };
        let name = format!("shard {} hashes", log.0);
        let told = tell.clone();
        match view.and_then(|view| Hashing::start(view, name, tell)) {
            Ok(hashing) => self.hashing = Some(hashing),
            Err(fault) => told(Err(fault)),
        }
    }

    fn open(&mut self, generation: Generation, create: bool) -> Result<Answer, Fault> {
        self.engine = None;
        let mut engine = match create {
            true => self.files.create(self.log, generation)?,
            false => self.files.open(self.log, generation)?,
        };
        let (position, notes) = (engine.position(), engine.notes()?);
        self.engine = Some(engine);
        Ok(Answer::Opened(position, notes))
    }
}

fn read(log: LogId, mut queries: Receiver<Query>, answers: &UnboundedSender<Answered>) {
    let mut open: Option<(u64, SqliteReader)> = None;
    while let Some(Query { epoch, path, id, transaction }) = queries.receive() {
        // Of an earlier opening the file may be another one.
        if open.as_ref().is_none_or(|(of, _)| *of != epoch) {
            open = None;
        }
        let reader = match open.take() {
            Some((_, reader)) => Ok(reader),
            None => SqliteReader::open(&path),
        };
        let result = reader.and_then(|mut reader| {
            let result = reader.query(&transaction, &SqlLimits::default())?;
            open = Some((epoch, reader));
            Ok(result)
        });
        if answers.send((log, epoch, Answer::Queried(id, result))).is_err() {
            return;
        }
    }
}
