//! One data directory.

use std::collections::{BTreeMap, VecDeque};

use quorate_core::{LogId, NodeId, PersistId, Recovered, RecoveredLog, Start, StorageOp, Term};

use super::shadow::{Change, Shadow};

/// Which directory of the world.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct DirId(pub usize);

/// A batch of operations on its way to the disk.
#[derive(Clone, Debug)]
pub struct Batch {
    /// What the node calls it.
    pub id: PersistId,
    /// In order.
    pub ops: Vec<StorageOp>,
}

/// An earlier durable state, as a backup would hold it.
#[derive(Clone, Debug)]
pub struct OldCopy {
    /// When it was made, in the world's time.
    pub at: u64,
    /// What it holds.
    pub held: Recovered,
}

/// One data directory: the durable state and what is outstanding.
#[derive(Debug)]
pub struct Directory {
    /// Whose it is.
    pub node: NodeId,
    /// What a restart would find.
    pub durable: Recovered,
    /// The configuration log of `durable`, in short.
    pub durable_log: Shadow,
    /// The configuration log once all that is outstanding is durable, in short.
    pub written_log: Shadow,
    /// Handed out by the node and not yet durable, oldest first.
    pub pending: VecDeque<Batch>,
    /// Every vote that was ever durable here.
    pub votes: BTreeMap<Term, NodeId>,
    /// It counts no more (wiped, moved aside, superseded by a copy, or replaced by an older one),
    /// and its log was this when it did so: what it had promised until then it will never break.
    pub gone: Option<Shadow>,
    /// An old copy was put back into it, so that it must be found out as stale.
    pub restored: bool,
    /// Backups of it.
    pub copies: Vec<OldCopy>,
    /// Every start that it ever knew, old copies put back included.
    pub starts: Vec<Start>,
}

impl Directory {
    /// A directory that holds `recovered` and nothing else.
    #[must_use]
    pub fn new(recovered: Recovered) -> Self {
        let log = Shadow::of(&recovered);
        let mut votes = BTreeMap::new();
        note_vote(&mut votes, &log);
        Self {
            node: recovered.identity.node,
            starts: recovered.identity.starts.clone(),
            durable: recovered,
            written_log: log.clone(),
            durable_log: log,
            pending: VecDeque::new(),
            votes,
            gone: None,
            restored: false,
            copies: Vec::new(),
        }
    }

    /// Takes one operation of a batch that [`Directory::enqueue`] takes whole.
    pub fn write(&mut self, op: &StorageOp) -> Change {
        if matches!(op, StorageOp::DropLog { log: LogId::CONFIGURATION }) {
            // What it voted there it voted for a cluster that never was.
            self.votes.clear();
        }
        self.written_log.apply(op)
    }

    /// Takes a batch; it is durable when [`Directory::sync`] says so.
    pub fn enqueue(&mut self, batch: Batch) {
        self.pending.push_back(batch);
    }

    /// The oldest outstanding batch is durable.
    pub fn sync(&mut self) -> Option<PersistId> {
        let batch = self.pending.pop_front()?;
        for op in &batch.ops {
            self.make_durable(op);
        }
        Some(batch.id)
    }

    fn make_durable(&mut self, op: &StorageOp) {
        self.durable.apply(op);
        self.durable_log.apply(op);
        match op {
            StorageOp::HardState { .. } => note_vote(&mut self.votes, &self.durable_log),
            StorageOp::Identity(identity) => {
                if let Some(last) = identity.starts.last().filter(|s| !self.starts.contains(s)) {
                    self.starts.push(*last);
                }
            }
            _ => {}
        }
    }

    /// How many operations are outstanding.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.pending.iter().map(|batch| batch.ops.len()).sum()
    }

    /// The process is gone: the first `survive` outstanding operations are durable, the others lost.
    pub fn crash(&mut self, survive: usize) {
        let pending = std::mem::take(&mut self.pending);
        for op in pending.iter().flat_map(|batch| &batch.ops).take(survive) {
            self.make_durable(op);
        }
        self.written_log = self.durable_log.clone();
    }

    /// Makes a backup; only the latest `keep` are kept.
    pub fn back_up(&mut self, at: u64, keep: usize) {
        if self.copies.len() >= keep {
            self.copies.remove(0);
        }
        self.copies.push(OldCopy { at, held: self.durable.clone() });
    }

    /// Puts an old copy back, as an operator with a backup would. From here on the directory counts
    /// for nothing and must be found out.
    pub fn restore(&mut self, copy: Recovered) {
        self.retire();
        self.durable_log = Shadow::of(&copy);
        self.written_log = self.durable_log.clone();
        self.durable = copy;
        self.pending.clear();
        self.restored = true;
    }

    /// From here on the directory counts for nothing.
    pub fn retire(&mut self) {
        if self.gone.is_none() {
            self.gone = Some(self.durable_log.clone());
        }
    }

    /// Whether an entry is, or was when the directory ended, durable here.
    #[must_use]
    pub fn has_held(&self, index: quorate_core::Index, term: Term) -> bool {
        self.gone.as_ref().unwrap_or(&self.durable_log).covers(index, term)
    }

    /// The last start of `peer` that is durably remembered here.
    #[must_use]
    pub fn remembers(&self, peer: NodeId) -> Option<Start> {
        self.durable.peer_starts.get(&peer).copied()
    }

    /// The configuration log as a restart would find it.
    #[must_use]
    pub fn configuration_log(&self) -> Option<&RecoveredLog> {
        self.durable.logs.get(&LogId::CONFIGURATION)
    }
}

fn note_vote(votes: &mut BTreeMap<Term, NodeId>, log: &Shadow) {
    if let Some(vote) = log.hard.vote {
        votes.entry(log.hard.term).or_insert(vote);
    }
}

#[cfg(test)]
mod tests {
    use quorate_core::{HardState, Index};

    use super::*;

    fn hard(term: u64) -> StorageOp {
        let state = HardState { term: Term(term), vote: None, commit: Index::ZERO };
        StorageOp::HardState { log: LogId::CONFIGURATION, state }
    }

    fn directory() -> Directory {
        let mut directory = Directory::new(Recovered::fresh(NodeId(1)));
        for (id, ops) in [(1, vec![hard(1), hard(2)]), (2, vec![hard(3)])] {
            for op in &ops {
                directory.write(op);
            }
            directory.enqueue(Batch { id: PersistId(id), ops });
        }
        directory
    }

    #[test]
    fn a_crash_keeps_a_prefix_of_operations_not_only_of_batches() {
        for survive in 0..=3 {
            let mut directory = directory();
            directory.crash(survive);
            assert_eq!(directory.durable_log.hard.term, Term(survive as u64));
            assert_eq!(directory.written_log.hard, directory.durable_log.hard);
            assert!(directory.pending.is_empty());
        }
    }

    #[test]
    fn what_was_reported_durable_survives_every_crash() {
        let mut directory = directory();
        assert_eq!(directory.sync(), Some(PersistId(1)));
        directory.crash(0);
        assert_eq!(directory.durable_log.hard.term, Term(2));
    }
}
