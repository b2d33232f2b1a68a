//! Looks at the cluster: what the writer's client is told, and how far each node's copy is.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use quorate_io::client::Client as Application;

use super::DATABASE;
use super::board::Board;
use super::nodes::Process;
use crate::cli::Target;
use crate::client::Client;
use crate::http::CopyNews;

/// How often each node is asked how far its copy is, and how long it may take to answer.
const LOOK_EVERY: Duration = Duration::from_millis(300);
const LOOK_MAX: Duration = Duration::from_millis(500);

/// Tells the board of every change of the layout, until the client ends.
pub(super) async fn follow(client: Application, board: Arc<Board>) {
    let mut view = client.watch();
    // So that it ends: a client of our own would keep the channel open.
    drop(client);
    board.seen(&view.borrow_and_update().clone());
    while view.changed().await.is_ok() {
        let seen = view.borrow_and_update().clone();
        board.seen(&seen);
    }
}

/// Asks the nodes how far their copies are. Ends when it is dropped.
pub(super) struct Looker {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Looker {
    pub(super) fn begin(nodes: Vec<PathBuf>, board: Arc<Board>) -> std::io::Result<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&over);
        let look = move || {
            while !stop.load(Ordering::Relaxed) {
                for (at, data) in nodes.iter().enumerate() {
                    look(at, data, &board);
                }
                std::thread::sleep(LOOK_EVERY);
            }
        };
        let thread = std::thread::Builder::new().name("looker".to_owned()).spawn(look)?;
        Ok(Self { over, thread: Some(thread) })
    }
}

impl Drop for Looker {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A node that does not answer keeps what it said last.
fn look(at: usize, data: &std::path::Path, board: &Board) {
    if board.lock().rows[at].process != Process::Running {
        return;
    }
    let path = format!("/db/{DATABASE}/copies");
    let told = Client::find(&Target::of(data))
        .and_then(|client| client.get_within::<Vec<CopyNews>>(&path, LOOK_MAX));
    let mut state = board.lock();
    let row = &mut state.rows[at];
    let own = told.ok().and_then(|copies| copies.into_iter().find(|copy| copy.server == row.name));
    row.lsn = own.map(|own| own.lsn).or(row.lsn);
}
