//! Everything that can go wrong with a data directory, and the way out of it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quorate_core::{LogId, NodeId, PersistId};
use thiserror::Error;

/// Why a data directory cannot be used, or not any more.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process has the directory open. Stop it, or give this node a directory of its own.
    #[error(
        "the data directory {} is in use by {}; stop that node first, or choose another \
         directory with --data",
        dir.display(),
        match holder { Some(pid) => format!("process {pid}"), None => "another process".to_owned() }
    )]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// The process that holds it, if its id can be read.
        holder: Option<u32>,
    },
    /// There is no data directory (only [`super::read_only`] and [`super::append_offline`] mind).
    #[error("{} is not the data directory of a node: there is no log store in it", dir.display())]
    Absent {
        /// Where it was looked for.
        dir: PathBuf,
    },
    /// The directory was written by another version of this program.
    #[error(
        "the data directory {} has format {found:?}, and this program reads format 1: start the \
         version of quorate that wrote it",
        dir.display()
    )]
    Format {
        /// The directory.
        dir: PathBuf,
        /// What its FORMAT file says.
        found: String,
    },
    /// The directory says that it belongs to a node, and holds no log, or another node's.
    #[error(
        "the data directory {} belongs to node {expected}, and its log {}: files of it were lost \
         or mixed with another's. Restore the folder `log` if you have it; else take the node's \
         contents out with `quorate recover --new-id`, and it joins again with a new id",
        dir.display(),
        match found { Some(other) => format!("to node {other}"), None => "is missing".to_owned() }
    )]
    WrongLog {
        /// The directory.
        dir: PathBuf,
        /// The node that its FORMAT file names.
        expected: NodeId,
        /// The node that its log names; `None`: there is no log.
        found: Option<NodeId>,
    },
    /// Durable records that may hold who the node is cannot be read. Nothing has been changed.
    #[error(
        "the identity of the node in {} cannot be read: {why}. Nothing was changed. If the disk \
         can be repaired or the file restored, do that; else take the node's contents out with \
         `quorate recover --new-id`, and it joins again with a new id",
        dir.display()
    )]
    IdentityUnreadable {
        /// The directory.
        dir: PathBuf,
        /// What is unreadable.
        why: String,
    },
    /// The system refused. After a failed write or sync the store takes nothing more.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// An entry that was durable cannot be read back.
    #[error("entry {index} of log {} cannot be read back from {}: its checksum fails", log.0, path.display())]
    EntryUnreadable {
        /// Which log.
        log: LogId,
        /// Which entry.
        index: u64,
        /// The segment it is in.
        path: PathBuf,
    },
    /// A batch that breaks the contract of [`quorate_core::StorageOp`]: a fault of the caller's.
    #[error("batch {} breaks the contract of the store: {why}", id.0)]
    BadBatch {
        /// Which batch.
        id: PersistId,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The store has failed earlier: nothing after that is written.
    #[error("nothing more is written since an earlier failure: {0}")]
    Failed(Arc<StoreError>),
    /// The store has been closed.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// Wraps what the system said about `path`; fits `map_err`.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source: Arc::new(source) }
    }
}
