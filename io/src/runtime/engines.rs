//! The engines of the copies that a node holds: a writing and a reading thread for each.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::{Builder, JoinHandle};

use quorate_core::engine::{Engine as _, Fault, Reader as _, SqlLimits, Transaction};
use quorate_core::shard::{Answer, Call, CallKind, RequestId};
use quorate_core::{Generation, LogId};
use tokio::sync::mpsc::UnboundedSender;
use tracing::warn;

use crate::engine::{SqliteEngine, SqliteReader};

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
    /// Where its generations are.
    dir: PathBuf,
    /// The one that was last asked for.
    live: Generation,
    writer: mpsc::Sender<Call>,
    reader: mpsc::Sender<Query>,
    threads: Vec<JoinHandle<()>>,
}

/// All engines of a node. Calls are bounded by the node: so many for each copy.
pub(super) struct Engines {
    dir: PathBuf,
    copies: BTreeMap<LogId, Copy>,
    answers: UnboundedSender<Answered>,
}

impl Engines {
    /// For the copies in the data directory `dir`.
    pub(super) fn new(dir: &Path, answers: UnboundedSender<Answered>) -> Self {
        Self { dir: dir.join("shards"), copies: BTreeMap::new(), answers }
    }

    /// Has the engine of a copy do something; the answer comes by the channel.
    pub(super) fn call(&mut self, log: LogId, call: Call) {
        let started = match self.copies.entry(log) {
            Entry::Occupied(copy) => Ok(copy.into_mut()),
            Entry::Vacant(place) => start(&self.dir.join(log.0.to_string()), log, &self.answers)
                .map(|copy| place.insert(copy)),
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
        // The threads end only when this end of their channels is dropped.
        match what {
            CallKind::Query(id, transaction) => {
                let path = file(&copy.dir, copy.live);
                let _ = copy.reader.send(Query { epoch, path, id, transaction });
            }
            what => {
                if let CallKind::Open { generation, .. } = what {
                    copy.live = generation;
                }
                let _ = copy.writer.send(Call { epoch, what });
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

/// The database file of a generation.
fn file(dir: &Path, generation: Generation) -> PathBuf {
    dir.join(generation.to_string()).join("copy.sqlite")
}

fn start(dir: &Path, log: LogId, answers: &UnboundedSender<Answered>) -> std::io::Result<Copy> {
    let (writer, calls) = mpsc::channel();
    let (reader, queries) = mpsc::channel();
    let writing = Writing { dir: dir.to_owned(), engine: None, failed: None };
    let (to, from) = (answers.clone(), answers.clone());
    let name = |what: &str| Builder::new().name(format!("shard {} {what}", log.0));
    let threads = vec![
        name("writes").spawn(move || write(writing, log, &calls, &to))?,
        name("reads").spawn(move || read(log, &queries, &from))?,
    ];
    let (dir, live) = (dir.to_owned(), Generation::ZERO);
    Ok(Copy { dir, live, writer, reader, threads })
}

struct Writing {
    dir: PathBuf,
    engine: Option<SqliteEngine>,
    /// The epoch in which a call has failed: nothing more of it is done.
    failed: Option<u64>,
}

fn write(
    mut writing: Writing,
    log: LogId,
    calls: &mpsc::Receiver<Call>,
    answers: &UnboundedSender<Answered>,
) {
    while let Ok(Call { epoch, what }) = calls.recv() {
        if writing.failed == Some(epoch) {
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
            CallKind::Execute(batch) => {
                Answer::Executed(engine.execute(&batch, &SqlLimits::default())?)
            }
            CallKind::Commit(at) => engine.commit(at).map(|()| Answer::Committed)?,
            CallKind::Rollback => engine.rollback().map(|()| Answer::RolledBack)?,
            CallKind::Apply(entries) => engine.apply(&entries).map(|()| Answer::Applied)?,
            CallKind::Sync => Answer::Synced(engine.sync()?),
            CallKind::Open { .. } | CallKind::Query(..) => unreachable!("handled elsewhere"),
        })
    }

    fn open(&mut self, generation: Generation, create: bool) -> Result<Answer, Fault> {
        self.engine = None;
        let path = file(&self.dir, generation);
        let engine = match create {
            true => make(&path)?,
            false if path.try_exists().map_err(io_fault)? => SqliteEngine::open(&path)?,
            false => return Err(Fault::Missing(path.display().to_string())),
        };
        let position = engine.position();
        self.engine = Some(engine);
        Ok(Answer::Opened(position))
    }
}

/// Makes an empty copy, durable with every name on the way to it from the data directory. What lies
/// there was never whole, or its record would be there.
fn make(path: &Path) -> Result<SqliteEngine, Fault> {
    let mut above = path.ancestors().skip(1);
    let (Some(generation), Some(copy), Some(shards), Some(data)) =
        (above.next(), above.next(), above.next(), above.next())
    else {
        return Err(Fault::Missing(format!("{} has no data directory", path.display())));
    };
    if generation.try_exists().map_err(io_fault)? {
        std::fs::remove_dir_all(generation).map_err(io_fault)?;
    }
    std::fs::create_dir_all(generation).map_err(io_fault)?;
    let engine = SqliteEngine::create(path)?;
    for dir in [copy, shards, data] {
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(io_fault)?;
    }
    Ok(engine)
}

#[expect(clippy::needless_pass_by_value, reason = "made for map_err")]
fn io_fault(error: std::io::Error) -> Fault {
    Fault::Io(error.to_string())
}

fn read(log: LogId, queries: &mpsc::Receiver<Query>, answers: &UnboundedSender<Answered>) {
    let mut open: Option<(u64, SqliteReader)> = None;
    while let Ok(Query { epoch, path, id, transaction }) = queries.recv() {
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
