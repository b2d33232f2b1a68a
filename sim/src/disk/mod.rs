//! Simulated disks: what is durable, what is on its way, and what a crash leaves of it.

mod copies;
mod directory;
mod shadow;

pub use copies::{Copies, Files};
pub use directory::{Batch, DirId, Directory, OldCopy};
pub use shadow::{Change, Shadow, Stub};

use quorate_core::{Index, LogId, NodeId, Term};

/// All directories that ever were in this world.
#[derive(Debug, Default)]
pub struct Disks {
    dirs: Vec<Directory>,
}

impl Disks {
    /// Makes a directory.
    pub fn add(&mut self, directory: Directory) -> DirId {
        self.dirs.push(directory);
        DirId(self.dirs.len() - 1)
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, id: DirId) -> &Directory {
        &self.dirs[id.0]
    }

    /// One of them, to be changed.
    pub fn get_mut(&mut self, id: DirId) -> &mut Directory {
        &mut self.dirs[id.0]
    }

    /// The one directory that speaks for `node`: neither wiped, nor an old copy, nor superseded by
    /// a copy that was started in its place.
    #[must_use]
    pub fn of(&self, node: NodeId) -> Option<&Directory> {
        self.dirs.iter().rev().find(|d| d.node == node && d.gone.is_none())
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (DirId, &Directory)> {
        self.dirs.iter().enumerate().map(|(index, dir)| (DirId(index), dir))
    }

    /// Whether more than one directory bears this id, or an old copy of it came back: then any
    /// of them may be sent away as stale.
    #[must_use]
    pub fn is_ambiguous(&self, node: NodeId) -> bool {
        let mut bearers = self.dirs.iter().filter(|d| d.node == node);
        bearers.clone().count() > 1 || bearers.any(|d| d.restored)
    }

    /// Whether `node` holds the entry durably, or held it when its directory ended for good: then
    /// it keeps its promise by never voting again.
    #[must_use]
    pub fn holds(&self, node: NodeId, log: LogId, index: Index, term: Term) -> bool {
        self.bearers(node).any(|dir| dir.has_held(log, index, term))
    }

    /// Whether `node` has ever durably voted for `candidate` in `term` of `log`.
    #[must_use]
    pub fn voted(&self, node: NodeId, log: LogId, term: Term, candidate: NodeId) -> bool {
        self.bearers(node).any(|dir| dir.votes.get(&(log, term)) == Some(&candidate))
    }

    fn bearers(&self, node: NodeId) -> impl Iterator<Item = &Directory> {
        self.dirs.iter().filter(move |dir| dir.node == node)
    }
}
