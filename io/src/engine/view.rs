//! Hashing one state of a copy while its writer goes on.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};

use quorate_core::engine::{ContentHash, Fault};
use rusqlite::Connection;

use super::errors::fault;
use super::hash;
use super::open::{self, BEGIN, Role, read_meta, run};

/// SQLite asks whether to go on after so many steps of its machine.
const STEPS: i32 = 10_000;

/// A state of a copy, kept from being overwritten: the WAL grows while it is there.
pub struct View {
    conn: Connection,
    stop: Arc<AtomicBool>,
}

impl View {
    /// What is committed in the copy at `path` now.
    ///
    /// # Errors
    /// It is not there, or is no copy.
    pub(super) fn open(path: &Path) -> Result<Self, Fault> {
        let mut conn = open::connect(path, Role::Reader)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stops = Arc::clone(&stop);
        conn.progress_handler(STEPS, Some(move || stops.load(Ordering::Relaxed)))
            .and_then(|()| run(&conn, BEGIN))
            // The state is the one that the first read finds.
            .and_then(|()| read_meta(&conn))
            .map_err(|error| fault(&error))?;
        Ok(Self { conn, stop })
    }

    /// Its hash.
    ///
    /// # Errors
    /// A [`Fault`].
    pub fn content_hash(&self) -> Result<ContentHash, Fault> {
        hash::of_open(&self.conn)
    }
}

/// A view that is hashed on a thread of its own. Dropping it stops that.
pub struct Hashing {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Hashing {
    /// Hashes `view`, and hands the result to `done`, on that thread.
    ///
    /// # Errors
    /// There is no thread; `done` is not called.
    pub fn start(
        view: View,
        name: String,
        done: impl FnOnce(Result<ContentHash, Fault>) + Send + 'static,
    ) -> Result<Self, Fault> {
        let stop = Arc::clone(&view.stop);
        let thread = Builder::new().name(name).spawn(move || done(view.content_hash()));
        let thread = thread.map_err(|error| Fault::Io(format!("no thread to hash: {error}")))?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Whether it is done.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Hashing {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has panicked at worst, and has nobody to tell.
            let _ = thread.join();
        }
    }
}
