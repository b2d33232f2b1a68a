//! What a node keeps on disk, as operations that go out and as the state that comes back.
//!
//! Operations are applied in the order they were handed out. A batch is durable when the adapter
//! says [`crate::Input::Persisted`]; until then any *prefix* of the outstanding operations may
//! survive a crash. Completions come in the order of the batches.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{ClusterId, Generation, LogId, NodeId, Start, Term};
use crate::raft::{Entry, Index, LogRead, Membership, Snapshot, size_of_entry};

/// Who the node is and what it has been: small, replaced whole.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Identity {
    /// Made with the directory.
    pub node: NodeId,
    /// The name under which it joined; `None` until it has chosen one.
    pub name: Option<String>,
    /// The cluster it belongs to; a node that has one never founds again.
    pub cluster: Option<ClusterId>,
    /// The cluster this machine left by a committed `Dissolve`, told to the one it joins.
    pub dissolved_from: Option<ClusterId>,
    /// What this machine was called there, if it brings the databases of that cluster and has not come
    /// to the one that waits for them.
    pub brings: Option<NodeId>,
    /// Its starts, oldest first; at most [`Identity::STARTS_MAX`], the oldest fall out.
    pub starts: Vec<Start>,
}

impl Identity {
    /// How many starts are remembered.
    pub const STARTS_MAX: usize = 4096;

    /// The identity of a new directory.
    #[must_use]
    pub fn new(node: NodeId) -> Self {
        Self {
            node,
            name: None,
            cluster: None,
            dissolved_from: None,
            brings: None,
            starts: Vec::new(),
        }
    }

    /// Whether this directory knows of `start`. One older than all that are kept counts as known.
    #[must_use]
    pub fn knows_start(&self, start: Start) -> bool {
        match self.starts.first() {
            Some(oldest) if start.number < oldest.number => true,
            _ => self.starts.contains(&start),
        }
    }
}

/// Term, vote and what is known to be committed in one log.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct HardState {
    /// The current term; never falls.
    pub term: Term,
    /// Who got this node's vote in `term`; never changes within a term once set.
    pub vote: Option<NodeId>,
    /// A lower bound of the commit index. Written along with other things, never for its own sake.
    pub commit: Index,
}

/// One durable change.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum StorageOp {
    /// Replaces the identity.
    Identity(Identity),
    /// The last start of a peer that this node has acknowledged.
    PeerStart {
        /// Whose.
        peer: NodeId,
        /// Which.
        start: Start,
    },
    /// Replaces a log's hard state.
    HardState {
        /// Which log.
        log: LogId,
        /// Its new state.
        state: HardState,
    },
    /// Writes entries with consecutive indexes; those already at or after the first index are
    /// replaced (truncated), so the last entry given is the log's last.
    Append {
        /// Which log.
        log: LogId,
        /// At least one.
        entries: Vec<Entry>,
    },
    /// Drops the entries at and after `from`.
    Truncate {
        /// Which log.
        log: LogId,
        /// The first index that goes.
        from: Index,
    },
    /// The log now begins behind this snapshot. Entries up to its index go; those after it stay,
    /// unless `reset`, when they go too (a snapshot that came from the leader over a diverged log).
    Snapshot {
        /// Which log.
        log: LogId,
        /// The state up to its index.
        snapshot: Snapshot,
        /// Whether the entries after the snapshot go too.
        reset: bool,
    },
    /// The live copy of a log's content is this one from here on. Only what this names is ever
    /// opened, and what it names is never made anew.
    Copy {
        /// Of which log.
        log: LogId,
        /// Which directory.
        generation: Generation,
    },
    /// Forgets a log whole.
    DropLog {
        /// Which log.
        log: LogId,
    },
}

impl StorageOp {
    /// The log that it is about; `None` if it is about the node.
    #[must_use]
    pub fn log(&self) -> Option<LogId> {
        match self {
            Self::Identity(_) | Self::PeerStart { .. } => None,
            Self::HardState { log, .. }
            | Self::Append { log, .. }
            | Self::Truncate { log, .. }
            | Self::Snapshot { log, .. }
            | Self::Copy { log, .. }
            | Self::DropLog { log } => Some(*log),
        }
    }
}

/// What a log holds after a restart.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct RecoveredLog {
    /// Term, vote, commit.
    pub hard_state: HardState,
    /// The state that the entries build on; index 0 if there is none.
    pub snapshot: Snapshot,
    /// What is known of the entries that lie between the snapshot and `entries`, on the disk only.
    pub on_disk: OnDisk,
    /// The last entries, consecutive: all after the snapshot, unless `on_disk` tells of some. At least
    /// the last one, if there is any.
    pub entries: Vec<Entry>,
    /// The live copy of the content; `None` if none was ever whole, or the log needs none.
    pub copy: Option<Generation>,
    /// True when durable entries are known or suspected to be unreadable (a failed checksum that
    /// is not a torn last write). The node must then abstain: it may have acknowledged what is lost.
    pub damaged: bool,
}

/// What is known of entries whose payloads are not in memory.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct OnDisk {
    /// The first index of each run of entries of one term, oldest first, the first that of the first
    /// entry. The last run may reach into the entries that are in memory.
    pub runs: Vec<(Index, Term)>,
    /// The memberships among them.
    pub memberships: Vec<(Index, Membership)>,
    /// What they take, in bytes, roughly.
    pub bytes: u64,
}

/// How many entries of a log are kept in memory, the newest first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// So many at most.
    pub entries_max: usize,
    /// With so many bytes at most, together.
    pub bytes_max: usize,
}

impl Default for Window {
    fn default() -> Self {
        Self { entries_max: 8192, bytes_max: 8 * 1024 * 1024 }
    }
}

impl Window {
    /// Everything.
    pub const WHOLE: Self = Self { entries_max: usize::MAX, bytes_max: usize::MAX };
}

impl RecoveredLog {
    /// The answer to a question for entries of this log, if it is whole: the reference meaning, used
    /// by the simulator's disk and by tests.
    #[must_use]
    pub fn read(&self, read: LogRead) -> Vec<Entry> {
        let asked = self.entries.iter().filter(|e| (read.from..read.to).contains(&e.index));
        let mut bytes = 0;
        let fit = asked.take_while(|entry| {
            let first = bytes == 0;
            bytes += size_of_entry(entry);
            first || bytes <= read.bytes_max
        });
        fit.cloned().collect()
    }

    /// The same log with only the newest entries in memory. What may not be committed stays whatever
    /// its size, and so does the last entry.
    #[must_use]
    pub fn within(mut self, window: Window) -> Self {
        let commit = self.hard_state.commit;
        let mut bytes = 0;
        let stay = self.entries.iter().rev().enumerate().take_while(|(count, entry)| {
            bytes += size_of_entry(entry);
            let fits = *count < window.entries_max && bytes <= window.bytes_max;
            *count == 0 || fits || entry.index > commit
        });
        let gone = self.entries.len() - stay.count();
        for entry in self.entries.drain(..gone) {
            self.on_disk.note(&entry);
        }
        self
    }
}

impl OnDisk {
    /// One entry more that is not in memory.
    fn note(&mut self, entry: &Entry) {
        if self.runs.last().is_none_or(|(_, term)| *term != entry.term) {
            self.runs.push((entry.index, entry.term));
        }
        if let crate::raft::Payload::Membership(membership) = &entry.payload {
            self.memberships.push((entry.index, membership.clone()));
        }
        self.bytes += size_of_entry(entry) as u64;
    }
}

/// What the whole directory holds after a restart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovered {
    /// Who the node is.
    pub identity: Identity,
    /// The last start acknowledged of each peer.
    pub peer_starts: BTreeMap<NodeId, Start>,
    /// Each log.
    pub logs: BTreeMap<LogId, RecoveredLog>,
}

impl Recovered {
    /// A directory that has just been made.
    #[must_use]
    pub fn fresh(node: NodeId) -> Self {
        Self { identity: Identity::new(node), peer_starts: BTreeMap::new(), logs: BTreeMap::new() }
    }

    /// A directory that has just been made in the place of one whose cluster `from` has dissolved.
    #[must_use]
    pub fn after_dissolve(node: NodeId, from: ClusterId) -> Self {
        let mut recovered = Self::fresh(node);
        recovered.identity.dissolved_from = Some(from);
        recovered
    }

    /// The same, and it brings the databases that the node `was` held.
    #[must_use]
    pub fn bringing(mut self, was: NodeId) -> Self {
        self.identity.brings = Some(was);
        self
    }

    /// Applies one operation: the reference meaning of [`StorageOp`], used by the simulator's disk
    /// and by the tests of the real store.
    pub fn apply(&mut self, op: &StorageOp) {
        match op {
            StorageOp::Identity(identity) => self.identity = identity.clone(),
            StorageOp::PeerStart { peer, start } => {
                self.peer_starts.insert(*peer, *start);
            }
            StorageOp::HardState { log, state } => {
                self.logs.entry(*log).or_default().hard_state = *state;
            }
            StorageOp::Append { log, entries } => {
                let held = &mut self.logs.entry(*log).or_default().entries;
                if let Some(first) = entries.first() {
                    held.retain(|e| e.index < first.index);
                }
                held.extend(entries.iter().cloned());
            }
            StorageOp::Truncate { log, from } => {
                self.logs.entry(*log).or_default().entries.retain(|e| e.index < *from);
            }
            StorageOp::Snapshot { log, snapshot, reset } => {
                let held = self.logs.entry(*log).or_default();
                held.entries.retain(|e| !*reset && e.index > snapshot.index);
                held.snapshot = snapshot.clone();
            }
            StorageOp::Copy { log, generation } => {
                self.logs.entry(*log).or_default().copy = Some(*generation);
            }
            StorageOp::DropLog { log } => {
                self.logs.remove(log);
            }
        }
    }
}
