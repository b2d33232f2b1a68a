//! How the rest of the process asks a running node, and how it hears of changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_core::configuration::Configuration;
use quorate_core::copies::CopyReport;
use quorate_core::engine::Fault;
use quorate_core::measures::Measures;
use quorate_core::node::SqlRequest;
use quorate_core::shard::{Reply as SqlReply, ShardId};
use quorate_core::{Command, LogId, NodeId, Reply, Status, StopReason, Term};
use thiserror::Error;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::copies::{Outgoing, UploadFile};

/// How many questions and commands may wait for the node; more callers wait for their turn.
const ASKS_MAX: usize = 64;
/// How many changes of the layout a slow listener may lag behind before it is sent the newest.
const CHANGES_MAX: usize = 64;

/// What clients are told of the cluster, as this node knows it.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// The configuration applied last.
    pub configuration: Option<Arc<Configuration>>,
    /// Who coordinates.
    pub coordinator: Option<NodeId>,
    /// In which term.
    pub term: Term,
    /// Who leads the log of each shard of which this node has a part, as far as it knows, and in which
    /// term.
    pub owners: BTreeMap<LogId, (NodeId, Term)>,
    /// The copies that are not whole.
    pub copies: Vec<(LogId, NodeId, CopyReport)>,
}

/// The node has stopped: nobody is there to answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("the node has stopped")]
pub struct Stopped;

/// What came of a transaction.
#[derive(Clone, PartialEq, Debug)]
pub struct SqlAnswer {
    /// What came of it.
    pub reply: SqlReply,
    /// The shard that was asked; `None`: nobody was, or the cluster is another one by now.
    pub of: Option<ShardId>,
}

pub(super) enum Ask {
    Status(oneshot::Sender<Status>),
    Measures(oneshot::Sender<Measures>),
    Command(Box<Command>, oneshot::Sender<Reply>),
    Sql(Box<SqlRequest>, oneshot::Sender<SqlAnswer>),
    Snapshot { database: String, shard: String, answer: oneshot::Sender<Snapshot> },
    Upload { database: String, shard: String, answer: oneshot::Sender<UploadBegun> },
}

/// A snapshot of the node's own copy of a shard, or why there is none.
pub(super) type Snapshot = Result<Outgoing, NoSnapshot>;

/// An empty file that is to become the content of a shard, or why there is none.
pub(super) type UploadBegun = Result<UploadFile, NoSnapshot>;

/// Why there is no snapshot of a copy, or no place for a file.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum NoSnapshot {
    /// There is no such shard.
    #[error("there is no shard '{shard}' of a database '{database}'; `quorate db list` lists them")]
    Unknown {
        /// As given.
        database: String,
        /// As given.
        shard: String,
    },
    /// This node holds no copy of it that can be used now.
    #[error("this node has no copy of it that can be used now; ask another")]
    NotHere,
    /// It could not be made.
    #[error("the file could not be made: {0}")]
    Failed(Fault),
}

/// Asks a running node; cheap to clone. It outlives a change of the node's identity.
#[derive(Clone, Debug)]
pub struct Handle {
    asks: mpsc::Sender<Ask>,
    layout: watch::Receiver<Layout>,
    changes: broadcast::Sender<Layout>,
    stopped: watch::Receiver<Option<StopReason>>,
}

/// The node's end of its [`Handle`]s: kept across the identities that one process takes on.
#[derive(Debug)]
pub struct Inbox {
    asks: mpsc::Receiver<Ask>,
    layout: watch::Sender<Layout>,
    changes: broadcast::Sender<Layout>,
    stopped: watch::Sender<Option<StopReason>>,
}

/// Makes a handle and the inbox it leads to.
#[must_use]
pub fn channel() -> (Handle, Inbox) {
    let (asks, asks_in) = mpsc::channel(ASKS_MAX);
    let (layout, layout_in) = watch::channel(Layout::default());
    let (changes, _) = broadcast::channel(CHANGES_MAX);
    let (stopped, stopped_in) = watch::channel(None);
    let handle = Handle { asks, layout: layout_in, changes: changes.clone(), stopped: stopped_in };
    (handle, Inbox { asks: asks_in, layout, changes, stopped })
}

impl Handle {
    /// What the node knows at the moment.
    ///
    /// # Errors
    /// [`Stopped`] when it has ended.
    pub async fn status(&self) -> Result<Status, Stopped> {
        let (answer, answered) = oneshot::channel();
        self.asks.send(Ask::Status(answer)).await.map_err(|_| Stopped)?;
        answered.await.map_err(|_| Stopped)
    }

    /// What the node itself has measured.
    ///
    /// # Errors
    /// [`Stopped`] when it has ended.
    pub async fn measures(&self) -> Result<Measures, Stopped> {
        let (answer, answered) = oneshot::channel();
        self.asks.send(Ask::Measures(answer)).await.map_err(|_| Stopped)?;
        answered.await.map_err(|_| Stopped)
    }

    /// Has the node run a transaction, itself or through the node that can, and waits for what came
    /// of it.
    ///
    /// # Errors
    /// [`Stopped`] when it ended before it answered: a write may have been done.
    pub async fn sql(&self, request: SqlRequest) -> Result<SqlAnswer, Stopped> {
        let (answer, answered) = oneshot::channel();
        self.asks.send(Ask::Sql(Box::new(request), answer)).await.map_err(|_| Stopped)?;
        answered.await.map_err(|_| Stopped)
    }

    /// A snapshot of the node's own copy of a shard, as a file that is removed when it is dropped.
    /// Writes go on.
    ///
    /// # Errors
    /// [`Stopped`] when the node has ended; inside: why there is none.
    pub async fn snapshot(
        &self,
        database: &str,
        shard: &str,
    ) -> Result<Result<Outgoing, NoSnapshot>, Stopped> {
        let (answer, answered) = oneshot::channel();
        let (database, shard) = (database.to_owned(), shard.to_owned());
        let ask = Ask::Snapshot { database, shard, answer };
        self.asks.send(ask).await.map_err(|_| Stopped)?;
        answered.await.map_err(|_| Stopped)
    }

    /// A place for a file that is to become the content of a shard by [`SqlKind::Restore`]. The node must
    /// hold a copy of the shard. The file is removed when it is dropped.
    ///
    /// [`SqlKind::Restore`]: quorate_core::shard::SqlKind::Restore
    ///
    /// # Errors
    /// [`Stopped`] when the node has ended; inside: why there is none.
    pub async fn upload(
        &self,
        database: &str,
        shard: &str,
    ) -> Result<Result<UploadFile, NoSnapshot>, Stopped> {
        let (answer, answered) = oneshot::channel();
        let (database, shard) = (database.to_owned(), shard.to_owned());
        let ask = Ask::Upload { database, shard, answer };
        self.asks.send(ask).await.map_err(|_| Stopped)?;
        answered.await.map_err(|_| Stopped)
    }

    /// Has the node carry out `command` and waits for its answer. For [`Command::Stop`] see
    /// [`Handle::stopped`]: the node may end before it answers.
    ///
    /// # Errors
    /// [`Stopped`] when it ended before it answered.
    pub async fn command(&self, command: Command) -> Result<Reply, Stopped> {
        let (answer, answered) = oneshot::channel();
        self.asks.send(Ask::Command(Box::new(command), answer)).await.map_err(|_| Stopped)?;
        answered.await.map_err(|_| Stopped)
    }

    /// What clients are told at the moment.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.layout.borrow().clone()
    }

    /// The configuration that was applied last, which is part of the layout.
    #[must_use]
    pub fn configuration(&self) -> Option<Arc<Configuration>> {
        self.layout.borrow().configuration.clone()
    }

    /// The changes of the layout from now on. A listener that lags more than 64 behind is told so
    /// and goes on with [`Handle::layout`].
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<Layout> {
        self.changes.subscribe()
    }

    /// Hands the present layout to `told`, and then each change as it comes, until the node ends; to
    /// who lags behind, the newest.
    pub async fn follow(self, mut told: impl FnMut(&Layout)) {
        // First the subscription, then the present state: nothing falls between the two.
        let mut changes = self.changes();
        told(&self.layout());
        loop {
            let change = tokio::select! {
                change = changes.recv() => change,
                _ = self.stopped() => return,
            };
            match change {
                Ok(layout) => told(&layout),
                Err(RecvError::Lagged(_)) => told(&self.layout()),
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// Waits until the process's node has ended for good, and says why.
    pub async fn stopped(&self) -> Option<StopReason> {
        let mut stopped = self.stopped.clone();
        stopped.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone())
    }
}

impl Inbox {
    /// Tells all who wait in [`Handle::stopped`]. No node runs after this.
    pub fn close(self, reason: StopReason) {
        self.stopped.send_replace(Some(reason));
    }

    pub(super) async fn next(&mut self) -> Option<Ask> {
        self.asks.recv().await
    }

    /// The next question if there is one.
    pub(super) fn next_now(&mut self) -> Option<Ask> {
        self.asks.try_recv().ok()
    }

    /// Changes what clients are told, and tells those who listen.
    pub fn publish(&self, change: impl FnOnce(&mut Layout)) {
        self.layout.send_modify(change);
        // Nobody listening is no error.
        let _ = self.changes.send(self.layout.borrow().clone());
    }

    pub(super) fn forget_layout(&self) {
        self.layout.send_replace(Layout::default());
    }
}
