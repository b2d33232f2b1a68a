//! The thread that writes: everything that waits goes out with one write and one sync.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use quorate_core::{PersistId, StorageOp};

use super::Options;
use super::error::StoreError;
use super::item::Batch;
use super::log::Log;
use crate::lull::Lull;

/// A batch is durable, or never will be.
#[derive(Debug, Clone)]
pub struct Completion {
    /// The batch.
    pub id: PersistId,
    /// After the first error all later batches fail too.
    pub result: Result<(), StoreError>,
}

/// What waits to be written. A batch that could not be encoded waits in its turn, too: nothing
/// behind it may become durable.
struct Waiting {
    id: PersistId,
    batch: Result<Batch, StoreError>,
}

impl Waiting {
    fn bytes(&self) -> usize {
        self.batch.as_ref().map_or(0, |batch| batch.bytes.len())
    }
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    /// No more is taken; the thread ends when all that waits is written.
    closing: bool,
    /// The thread has ended.
    ended: bool,
}

/// Queue and thread.
pub(super) struct Writer {
    gate: Arc<Gate>,
    thread: Option<JoinHandle<()>>,
}

struct Gate {
    queue: Mutex<Queue>,
    work: Condvar,
    room: Condvar,
    options: Options,
}

impl Writer {
    /// Starts the thread. `complete` is called on it for every batch, in order, and must not block.
    pub(super) fn start(
        log: Log,
        options: Options,
        complete: impl FnMut(Completion) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (queue, work, room) = Default::default();
        let gate = Arc::new(Gate { queue, work, room, options });
        let theirs = Arc::clone(&gate);
        let thread = thread::Builder::new()
            .name("quorate-store".to_owned())
            .spawn(move || run(&theirs, log, complete))?;
        Ok(Self { gate, thread: Some(thread) })
    }

    /// Takes a batch; waits while the queue is full.
    pub(super) fn submit(&self, id: PersistId, ops: &[StorageOp]) -> Result<(), StoreError> {
        let batch = Batch::encode(ops).map_err(|why| StoreError::BadBatch { id, why });
        let waiting = Waiting { id, batch };
        let mut queue = self.gate.lock();
        while queue.is_full(&self.gate.options) && !queue.ended {
            queue = self.gate.room.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        if queue.ended || queue.closing {
            return Err(StoreError::Closed);
        }
        queue.bytes += waiting.bytes();
        queue.waiting.push_back(waiting);
        drop(queue);
        self.gate.work.notify_one();
        Ok(())
    }

    /// How many batches wait or are being written.
    pub(super) fn waiting(&self) -> usize {
        self.gate.lock().waiting.len()
    }

    /// Writes what waits, says on the disk that it ended in good order, and ends the thread.
    pub(super) fn close(&mut self) {
        self.gate.lock().closing = true;
        self.gate.work.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic of the callback has been reported by the thread itself.
            let _ = thread.join();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close();
    }
}

impl Queue {
    fn is_full(&self, options: &Options) -> bool {
        self.waiting.len() >= options.queue_batches_max
            || (self.bytes >= options.queue_bytes_max && !self.waiting.is_empty())
    }

    /// Takes from the front as much as goes into one frame, at least one batch.
    fn take_group(&mut self, options: &Options) -> Vec<Waiting> {
        let mut group: Vec<Waiting> = Vec::new();
        let mut bytes = 0;
        while let Some(next) = self.waiting.front() {
            if !group.is_empty() && bytes + next.bytes() > options.group_bytes_max {
                break;
            }
            bytes += next.bytes();
            group.extend(self.waiting.pop_front());
        }
        self.bytes -= bytes;
        group
    }
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for work. `None`: nothing came for a while, and the log should be sealed.
    /// An empty group: closing.
    fn next(&self, sealed: bool, lull: &mut Lull) -> Option<Vec<Waiting>> {
        let began = Instant::now();
        lull.look(began, || (!self.lock().waiting.is_empty()).then_some(()));
        let mut queue = self.lock();
        while queue.waiting.is_empty() && !queue.closing {
            if sealed {
                queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let waited = self.work.wait_timeout(queue, self.options.seal_after);
            let (held, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            queue = held;
            if timeout.timed_out() && queue.waiting.is_empty() && !queue.closing {
                return None;
            }
        }
        let group = queue.take_group(&self.options);
        drop(queue);
        lull.ended(began);
        self.room.notify_all();
        Some(group)
    }
}

/// Marks the queue as ended however the thread ends, so that nobody waits for it.
struct Ended<'a>(&'a Gate);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.room.notify_all();
    }
}

fn run(gate: &Gate, mut log: Log, mut complete: impl FnMut(Completion)) {
    let _ended = Ended(gate);
    let mut sealed = true;
    let mut lull = Lull::default();
    let mut whole = Batch::default();
    loop {
        let Some(group) = gate.next(sealed, &mut lull) else {
            // A failure is kept by the log and told to the next batch.
            let _ = log.seal(false);
            sealed = true;
            continue;
        };
        if group.is_empty() {
            break;
        }
        write_group(&mut log, group, &mut whole, &mut complete);
        sealed = false;
    }
    if let Err(error) = log.seal(true) {
        tracing::error!(%error, "the log store could not be closed in good order");
    }
}

/// Writes the batches of a group up to the first that is bad, and tells how it went.
fn write_group(
    log: &mut Log,
    group: Vec<Waiting>,
    whole: &mut Batch,
    complete: &mut impl FnMut(Completion),
) {
    whole.clear();
    let mut good = Vec::with_capacity(group.len());
    let mut rest = group.into_iter().peekable();
    while let Some(Ok(batch)) = rest.peek().map(|waiting| &waiting.batch) {
        whole.extend(batch);
        good.extend(rest.next().map(|waiting| waiting.id));
    }
    if !good.is_empty() {
        let result = log.append(whole);
        for id in good {
            complete(Completion { id, result: result.clone() });
        }
    }
    for Waiting { id, batch } in rest {
        let error = match batch {
            Err(error) => error,
            Ok(batch) => match log.append(&batch) {
                Err(error) => error,
                // Cannot be: the bad batch before it has poisoned the log.
                Ok(()) => StoreError::Closed,
            },
        };
        log.poison(&error);
        complete(Completion { id, result: Err(error) });
    }
}
