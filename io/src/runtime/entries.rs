//! Entries that are read back from the store for the node: a thread of its own, for the disk may be
//! slow, and the node must not wait for it.

use std::sync::mpsc;
use std::thread::{Builder, JoinHandle};

use quorate_core::raft::{Entry, LogRead, ReadId, Unreadable};
use quorate_core::{Index, LogId};
use tokio::sync::mpsc::UnboundedSender;
use tracing::{error, warn};

use crate::store::{Reader, StoreError};

/// An answer on its way to the node.
pub(super) type Entries = (LogId, ReadId, Result<Vec<Entry>, Unreadable>);

/// The thread that reads. Questions are bounded by the node: one for each member of each log, and one
/// for each copy.
pub(super) struct EntryReader {
    questions: Option<mpsc::Sender<(LogId, LogRead)>>,
    thread: Option<JoinHandle<()>>,
}

impl EntryReader {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system has no thread left.
    pub(super) fn start(
        reader: Reader,
        answers: UnboundedSender<Entries>,
    ) -> std::io::Result<Self> {
        let (questions, asked) = mpsc::channel::<(LogId, LogRead)>();
        let thread = Builder::new().name("quorate-log-reads".to_owned()).spawn(move || {
            while let Ok((log, read)) = asked.recv() {
                if answers.send((log, read.id, carry_out(&reader, log, read))).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { questions: Some(questions), thread: Some(thread) })
    }

    /// Asks for entries; the answer comes by the channel.
    pub(super) fn ask(&self, log: LogId, read: LogRead) {
        if let Some(questions) = &self.questions {
            // The thread ends only when this end of its channel is dropped.
            let _ = questions.send((log, read));
        }
    }
}

impl Drop for EntryReader {
    fn drop(&mut self) {
        self.questions = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            warn!("the thread that reads entries of logs has panicked");
        }
    }
}

fn carry_out(reader: &Reader, log: LogId, read: LogRead) -> Result<Vec<Entry>, Unreadable> {
    reader.read(log, read.from..read.to, read.bytes_max).map_err(|error| {
        error!(log = log.0, %error, "entries of a log cannot be read back");
        match error {
            StoreError::EntryUnreadable { index, .. } => Unreadable { index: Index(index) },
            _ => Unreadable { index: read.from },
        }
    })
}
