//! One data directory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use quorate_core::raft::{Entry, LogRead, Unreadable};
use quorate_core::{
    Index, LogId, NodeId, PersistId, Recovered, RecoveredLog, Start, StorageOp, Term, Window,
};

use super::copies::{Copies, Files};
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
    /// The copies of shards in it.
    pub copies: Copies,
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
    /// The logs of shards in `durable`, in short.
    pub durable_shards: BTreeMap<LogId, Shadow>,
    /// The logs of shards once all that is outstanding is durable, in short.
    pub written_shards: BTreeMap<LogId, Shadow>,
    /// The files of the copies of shards.
    pub engines: Copies,
    /// Entries that cannot be read back any more.
    rotten: BTreeMap<LogId, BTreeSet<Index>>,
    /// Logs of which that was found out. What shows it is kept: they are never sound again.
    damaged: BTreeSet<LogId>,
    /// Logs of dropped databases as they were: what was promised of them was true.
    dropped: BTreeMap<LogId, Shadow>,
    /// Handed out by the node and not yet durable, oldest first.
    pub pending: VecDeque<Batch>,
    /// Every vote that was ever durable here, by log and term.
    pub votes: BTreeMap<(LogId, Term), NodeId>,
    /// It counts no more (wiped, moved aside, superseded by a copy, or replaced by an older one),
    /// and its logs were these when it did so: what it had promised until then it will never break.
    pub gone: Option<BTreeMap<LogId, Shadow>>,
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
        let log = Shadow::of(&recovered, LogId::CONFIGURATION);
        let shards = shards_of(&recovered);
        let mut votes = BTreeMap::new();
        shards.values().chain([&log]).for_each(|log| note_vote(&mut votes, log));
        Self {
            node: recovered.identity.node,
            starts: recovered.identity.starts.clone(),
            durable: recovered,
            written_log: log.clone(),
            durable_log: log,
            written_shards: shards.clone(),
            durable_shards: shards,
            engines: Copies::default(),
            rotten: BTreeMap::new(),
            damaged: BTreeSet::new(),
            dropped: BTreeMap::new(),
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
            self.votes.retain(|(log, _), _| *log != LogId::CONFIGURATION);
        }
        apply(&mut self.written_log, &mut self.written_shards, op)
    }

    /// A log as it is once all that is outstanding is durable.
    #[must_use]
    pub fn written(&self, log: LogId) -> Option<&Shadow> {
        match log {
            LogId::CONFIGURATION => Some(&self.written_log),
            log => self.written_shards.get(&log),
        }
    }

    /// A log as a restart would find it.
    #[must_use]
    pub fn durable_log_of(&self, log: LogId) -> Option<&Shadow> {
        match log {
            LogId::CONFIGURATION => Some(&self.durable_log),
            log => self.durable_shards.get(&log),
        }
    }

    /// A new event begins.
    pub fn forget_previous(&mut self) {
        self.written_log.forget_previous();
        self.written_shards.values_mut().for_each(Shadow::forget_previous);
    }

    /// Takes a batch; it is durable when [`Directory::sync`] says so.
    pub fn enqueue(&mut self, batch: Batch) {
        self.pending.push_back(batch);
    }

    /// The oldest outstanding batch is durable; says which logs of shards have grown.
    pub fn sync(&mut self) -> Option<(PersistId, Vec<LogId>)> {
        let batch = self.pending.pop_front()?;
        let mut grown = Vec::new();
        for op in &batch.ops {
            self.make_durable(op);
            if let StorageOp::Append { log, .. } = op
                && *log != LogId::CONFIGURATION
            {
                grown.push(*log);
            }
        }
        Some((batch.id, grown))
    }

    fn make_durable(&mut self, op: &StorageOp) {
        if let StorageOp::DropLog { log } = op
            && let Some(held) = self.durable_shards.get(log)
        {
            self.dropped.insert(*log, held.clone());
        }
        keep(&mut self.durable, op);
        self.replace_rotten(op);
        apply(&mut self.durable_log, &mut self.durable_shards, op);
        match op {
            StorageOp::HardState { log, .. } => {
                let held = match *log {
                    LogId::CONFIGURATION => Some(&self.durable_log),
                    log => self.durable_shards.get(&log),
                };
                held.into_iter().for_each(|held| note_vote(&mut self.votes, held));
            }
            StorageOp::Identity(identity) => {
                if let Some(last) = identity.starts.last().filter(|s| !self.starts.contains(s)) {
                    self.starts.push(*last);
                }
            }
            _ => {}
        }
    }

    /// The last entry of each shard's log, as a restart would find it.
    #[must_use]
    pub fn shard_ends(&self) -> BTreeMap<LogId, (Index, Term)> {
        let end = |log: &Shadow| (log.last_index(), log.last_term());
        self.durable_shards.iter().map(|(log, held)| (*log, end(held))).collect()
    }

    /// Entries of a log rot: the `back`th before the last, and `more` others, each as many further
    /// on. Whether there are any.
    pub fn rot(&mut self, log: LogId, back: usize, more: usize) -> bool {
        let Some(held) = self.durable.logs.get(&log).filter(|held| !held.entries.is_empty()) else {
            return false;
        };
        let places = (0..=more).map(|n| (back + 1).saturating_mul(n + 1) - 1);
        let entries = places.map(|place| {
            let place = place % held.entries.len();
            held.entries[held.entries.len() - 1 - place].index
        });
        self.rotten.entry(log).or_default().extend(entries);
        true
    }

    /// Whether entries of a log are rotten here.
    #[must_use]
    pub fn has_rotten_logs(&self) -> bool {
        !(self.rotten.is_empty() && self.damaged.is_empty())
    }

    /// Whether that was found out for this log: then nobody decides by it.
    #[must_use]
    pub fn abstains_from(&self, log: LogId) -> bool {
        [log, LogId::CONFIGURATION].iter().any(|log| self.damaged.contains(log))
    }

    /// Takes over what is rotten from the disk of which this is a copy.
    pub fn rots_like(&mut self, other: &Self) {
        (self.rotten, self.damaged) = (other.rotten.clone(), other.damaged.clone());
    }

    /// What is written anew, or put away, is not rotten.
    fn replace_rotten(&mut self, op: &StorageOp) {
        let Some(log) = op.log().filter(|_| self.has_rotten_logs()) else { return };
        let rotten = self.rotten.entry(log).or_default();
        match op {
            StorageOp::Append { entries, .. } => {
                let first = entries.first().map(|entry| entry.index);
                first.into_iter().for_each(|first| rotten.retain(|index| *index < first));
            }
            StorageOp::Truncate { from, .. } => rotten.retain(|index| index < from),
            StorageOp::Snapshot { snapshot, reset, .. } => {
                rotten.retain(|index| !reset && *index > snapshot.index);
            }
            StorageOp::DropLog { .. } => rotten.clear(),
            _ => {}
        }
        self.rotten.retain(|_, rotten| !rotten.is_empty());
        if let StorageOp::DropLog { log } = op {
            self.damaged.remove(log);
        }
    }

    /// The answer to a question for entries of a log.
    ///
    /// # Errors
    /// The first of them cannot be read back.
    pub fn read(&self, log: LogId, read: LogRead) -> Result<Vec<Entry>, Unreadable> {
        let held = self.durable.logs.get(&log);
        let mut entries = held.map_or(Vec::new(), |held| held.read(read));
        if let Some(rotten) = self.rotten.get(&log) {
            let sound = entries.iter().take_while(|entry| !rotten.contains(&entry.index)).count();
            if let (0, Some(Entry { index, .. })) = (sound, entries.first()) {
                return Err(Unreadable { index: *index });
            }
            entries.truncate(sound);
        }
        Ok(entries)
    }

    /// What a process that starts is given: of the logs of shards only the newest entries, and of
    /// those in which some are rotten what is before.
    #[must_use]
    pub fn recovered(&mut self, window: Window) -> Recovered {
        let mut recovered = self.durable.clone();
        for (log, held) in &mut recovered.logs {
            if let Some(first) = self.rotten.get(log).and_then(BTreeSet::first) {
                held.entries.truncate(held.entries.partition_point(|entry| entry.index < *first));
                self.damaged.insert(*log);
            }
            held.damaged = self.damaged.contains(log);
            if *log != LogId::CONFIGURATION {
                *held = std::mem::take(held).within(window);
            }
        }
        recovered
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
        self.written_shards = self.durable_shards.clone();
    }

    /// Makes a backup; only the latest `keep` are kept.
    pub fn back_up(&mut self, at: u64, keep: usize) {
        if self.copies.len() >= keep {
            self.copies.remove(0);
        }
        let (held, copies) = (self.durable.clone(), self.engines.clone());
        self.copies.push(OldCopy { at, held, copies });
    }

    /// Puts an old copy back, as an operator with a backup would. From here on the directory counts
    /// for nothing and must be found out.
    pub fn restore(&mut self, copy: OldCopy) {
        self.retire();
        self.durable_log = Shadow::of(&copy.held, LogId::CONFIGURATION);
        self.written_log = self.durable_log.clone();
        self.durable_shards = shards_of(&copy.held);
        self.written_shards = self.durable_shards.clone();
        self.durable = copy.held;
        self.engines = copy.copies;
        self.pending.clear();
        self.rotten.clear();
        self.damaged.clear();
        self.restored = true;
    }

    /// From here on the directory counts for nothing.
    pub fn retire(&mut self) {
        if self.gone.is_none() {
            let mut logs = self.durable_shards.clone();
            logs.insert(LogId::CONFIGURATION, self.durable_log.clone());
            self.gone = Some(logs);
        }
    }

    /// Whether an entry is, or was when the directory ended, durable here.
    #[must_use]
    pub fn has_held(&self, log: LogId, index: Index, term: Term) -> bool {
        let held = match &self.gone {
            Some(logs) => logs.get(&log),
            None => self.durable_log_of(log),
        };
        let dropped = self.dropped.get(&log);
        held.into_iter().chain(dropped).any(|held| held.covers(index, term))
    }

    /// The last start of `peer` that is durably remembered here.
    #[must_use]
    pub fn remembers(&self, peer: NodeId) -> Option<Start> {
        self.durable.peer_starts.get(&peer).copied()
    }

    /// The files of a shard.
    pub fn files(&mut self, log: LogId) -> &mut Files {
        self.engines.entry(log).or_default()
    }

    /// Whether the live copy of a shard is whole; `None` if none was ever named.
    #[must_use]
    pub fn has_sound_copy(&self, log: LogId) -> Option<bool> {
        let live = self.durable.logs.get(&log)?.copy?;
        Some(self.engines.get(&log).is_some_and(|files| files.is_sound(live)))
    }

    /// The configuration log as a restart would find it.
    #[must_use]
    pub fn configuration_log(&self) -> Option<&RecoveredLog> {
        self.durable.logs.get(&LogId::CONFIGURATION)
    }
}

fn note_vote(votes: &mut BTreeMap<(LogId, Term), NodeId>, log: &Shadow) {
    if let Some(vote) = log.hard.vote {
        votes.entry((log.log, log.hard.term)).or_insert(vote);
    }
}

fn shards_of(recovered: &Recovered) -> BTreeMap<LogId, Shadow> {
    let logs = recovered.logs.keys().filter(|log| **log != LogId::CONFIGURATION);
    logs.map(|log| (*log, Shadow::of(recovered, *log))).collect()
}

/// Applies an operation to the log that it is about; all know the cluster.
fn apply(
    configuration: &mut Shadow,
    shards: &mut BTreeMap<LogId, Shadow>,
    op: &StorageOp,
) -> Change {
    let Some(log) = op.log() else {
        if !matches!(op, StorageOp::Identity(_)) {
            return Change::default();
        }
        shards.values_mut().for_each(|shard| {
            shard.apply(op);
        });
        return configuration.apply(op);
    };
    if log == LogId::CONFIGURATION {
        return configuration.apply(op);
    }
    let cluster = configuration.cluster;
    shards.entry(log).or_insert_with(|| Shadow::empty(log, cluster)).apply(op)
}

/// Applies an operation as [`Recovered::apply`] does, at the cost of what it changes: the logs of
/// shards become long.
fn keep(durable: &mut Recovered, op: &StorageOp) {
    match op {
        StorageOp::Append { log, entries } => {
            let held = &mut durable.logs.entry(*log).or_default().entries;
            if let Some(first) = entries.first() {
                held.truncate(held.partition_point(|entry| entry.index < first.index));
            }
            held.extend(entries.iter().cloned());
        }
        StorageOp::Snapshot { log, snapshot, reset: false } => {
            let held = durable.logs.entry(*log).or_default();
            let gone = held.entries.partition_point(|entry| entry.index <= snapshot.index);
            held.entries.drain(..gone);
            held.snapshot = snapshot.clone();
        }
        op => durable.apply(op),
    }
}

#[cfg(test)]
mod tests {
    use quorate_core::HardState;

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
    fn what_is_kept_is_what_the_operations_mean() {
        let log = LogId(3);
        let entry = |index| quorate_core::raft::Entry {
            index: Index(index),
            term: Term(1),
            payload: quorate_core::raft::Payload::Empty,
        };
        let append = |entries: std::ops::Range<u64>| {
            let entries = entries.map(entry).collect();
            StorageOp::Append { log, entries }
        };
        let snapshot = |index, reset| {
            let snapshot = quorate_core::raft::Snapshot {
                index: Index(index),
                term: Term(1),
                ..quorate_core::raft::Snapshot::default()
            };
            StorageOp::Snapshot { log, snapshot, reset }
        };
        let ops = [
            append(1..9),
            snapshot(3, false),
            append(7..12),
            snapshot(3, false),
            snapshot(20, false),
            append(21..24),
            snapshot(22, true),
        ];
        let (mut kept, mut meant) = (Recovered::fresh(NodeId(1)), Recovered::fresh(NodeId(1)));
        for op in &ops {
            keep(&mut kept, op);
            meant.apply(op);
            assert_eq!(kept, meant, "{op:?}");
        }
    }

    #[test]
    fn what_was_reported_durable_survives_every_crash() {
        let mut directory = directory();
        assert_eq!(directory.sync(), Some((PersistId(1), Vec::new())));
        directory.crash(0);
        assert_eq!(directory.durable_log.hard.term, Term(2));
    }
}
