//! A state: replicas, their disks, what is under way, and what was.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use quorate_core::raft::{Entry, Index, NodeId, Raft, Term, Ticket};
use quorate_core::{LogId, Recovered, RecoveredLog, StorageOp};

use crate::history::History;
use crate::laws::Broken;
use crate::network::Network;
use crate::world::Budget;

/// The log that everybody has.
pub(crate) const LOG: LogId = LogId::CONFIGURATION;

/// A hash that is the same in each run.
pub(crate) fn digest(value: &impl Hash) -> u64 {
    // The keys of this hasher are fixed.
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// A node: its replica and its disk.
#[derive(Clone, Debug)]
pub struct Host {
    /// The replica.
    pub raft: Raft,
    /// What is durable.
    pub disk: Recovered,
    /// What is being written, oldest first.
    pub writes: VecDeque<(Ticket, Vec<StorageOp>)>,
    /// The hash of all this, made when it last changed.
    pub(crate) digest: u64,
}

impl Host {
    /// What the disk holds of the log.
    #[must_use]
    pub fn durable(&self) -> &RecoveredLog {
        &self.disk.logs[&LOG]
    }

    /// Whether the entry at `index` on the disk is of `term`.
    #[must_use]
    pub fn holds(&self, index: Index, term: Term) -> bool {
        entry_in(&self.durable().entries, index).is_some_and(|entry| entry.term == term)
    }

    /// How many operations are not durable yet.
    #[must_use]
    pub fn unsynced(&self) -> usize {
        self.writes.iter().map(|(_, ops)| ops.len()).sum()
    }

    /// Makes the hash anew.
    pub(crate) fn seal(&mut self) {
        let mut hasher = DefaultHasher::new();
        self.raft.hash_state(&mut hasher);
        let log = self.durable();
        (&log.hard_state, &log.entries).hash(&mut hasher);
        for (_, ops) in &self.writes {
            ops.hash(&mut hasher);
        }
        self.digest = hasher.finish();
    }
}

/// The entry at `index` of a log that begins with 1.
pub(crate) fn entry_in(entries: &[Entry], index: Index) -> Option<&Entry> {
    entries.get(usize::try_from(index.0.checked_sub(1)?).ok()?)
}

/// A state of a world.
#[derive(Clone, Debug)]
pub struct State {
    /// The nodes, by id.
    pub hosts: Vec<(NodeId, Arc<Host>)>,
    /// What was sent.
    pub network: Network,
    /// What was.
    pub history: Arc<History>,
    /// The hash of that, made when it last changed.
    pub(crate) history_digest: u64,
    /// What may still happen.
    pub left: Budget,
    /// The law that the step to here has broken.
    pub broken: Option<Arc<Broken>>,
}

impl State {
    /// A node.
    ///
    /// # Panics
    /// If there is none of this id.
    #[must_use]
    pub fn host(&self, node: NodeId) -> &Arc<Host> {
        let found = self.hosts.iter().find(|(id, _)| *id == node);
        &found.unwrap_or_else(|| panic!("there is no node {node:?} in this world")).1
    }

    pub(crate) fn place(&mut self, node: NodeId, host: Host) {
        for (id, held) in &mut self.hosts {
            if *id == node {
                *held = Arc::new(host);
                return;
            }
        }
        self.hosts.push((node, Arc::new(host)));
    }

    /// Everything that a state is, in short: replicas and letters by their hashes.
    fn essence(&self) -> impl Iterator<Item = u64> {
        let hosts = self.hosts.iter().map(|(_, host)| host.digest);
        let rest = [
            self.history_digest,
            digest(&self.left),
            digest(&self.broken.as_ref().map(|broken| broken.law)),
        ];
        hosts.chain(self.network.digests()).chain(rest)
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.essence().for_each(|part| part.hash(hasher));
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.essence().eq(other.essence())
    }
}
