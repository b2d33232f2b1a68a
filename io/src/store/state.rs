//! What the store knows in memory: everything small, and of entries and snapshots where they lie.

use std::collections::{BTreeMap, BTreeSet};

use quorate_core::raft::Index;
use quorate_core::{Generation, HardState, Identity, LogId, NodeId, Start};

use super::entries::Entries;
use super::item::{Change, Checkpoint, Span, Touched};

/// Where an item lies on the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub(super) segment: u64,
    pub(super) offset: u64,
    pub(super) len: u32,
}

impl Place {
    /// Whether `next` lies directly behind it.
    pub(super) fn is_followed_by(self, next: Self) -> bool {
        self.segment == next.segment && self.offset + u64::from(self.len) == next.offset
    }
}

/// Where the payload of a frame begins: spans are relative to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Base {
    pub(super) segment: u64,
    pub(super) offset: u64,
}

impl Base {
    fn place(self, span: Span) -> Place {
        Place { segment: self.segment, offset: self.offset + span.at, len: span.len }
    }
}

/// What a frame changes, and where its payload begins.
pub(super) type Placed = (Base, Vec<Change>);

/// One log.
#[derive(Clone, Default, Debug)]
pub(super) struct LogState {
    pub(super) hard_state: HardState,
    pub(super) snapshot: Option<(Index, Place)>,
    pub(super) entries: Entries,
    pub(super) copy: Option<Generation>,
}

/// Which logs have lost something that was durable. Healed for a log only by dropping it. Lost
/// starts of peers are never healed, and count as damage of the configuration log: without them
/// a restored directory of a peer's may pass.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Damage {
    all: bool,
    peers: bool,
    logs: BTreeSet<LogId>,
    dropped_since: BTreeSet<LogId>,
}

impl Damage {
    pub(super) fn hits(&self, log: LogId) -> bool {
        (self.peers && log == LogId::CONFIGURATION)
            || self.logs.contains(&log)
            || (self.all && !self.dropped_since.contains(&log))
    }

    pub(super) fn any(&self) -> bool {
        self.all || self.peers || !self.logs.is_empty()
    }

    /// The logs that are known to be hit.
    pub(super) fn named(&self) -> impl Iterator<Item = LogId> + '_ {
        self.logs.iter().copied()
    }

    fn dropped(&mut self, log: LogId) {
        self.logs.remove(&log);
        if self.all {
            self.dropped_since.insert(log);
        }
    }
}

/// The whole state, as the applied changes make it.
#[derive(Clone, Default, Debug)]
pub(super) struct State {
    pub(super) identity: Option<Identity>,
    /// An identity newer than the one at hand may have been lost.
    pub(super) identity_doubtful: bool,
    pub(super) peer_starts: BTreeMap<NodeId, Start>,
    pub(super) logs: BTreeMap<LogId, LogState>,
    pub(super) damage: Damage,
}

impl State {
    /// Applies what an item does: the meaning of `Recovered::apply`, with places for contents.
    pub(super) fn apply(&mut self, change: &Change, base: Base) {
        match change {
            Change::Identity(identity) => {
                self.identity = Some((**identity).clone());
                self.identity_doubtful = false;
            }
            Change::PeerStart(peer, start) => {
                self.peer_starts.insert(*peer, *start);
            }
            Change::HardState(log, state) => self.log(*log).hard_state = *state,
            Change::Entry(log, mark, span) => {
                self.log(*log).entries.append(*mark, base.place(*span));
            }
            Change::Carried(log, mark, span) => {
                self.log(*log).entries.set(*mark, base.place(*span));
            }
            Change::Checkpoint(checkpoint) => self.keep_only(checkpoint),
            Change::Touch(log) => {
                self.log(*log);
            }
            Change::Truncate(log, from) => {
                self.log(*log).entries.truncate(*from);
            }
            Change::Snapshot { log, index, reset, span } => {
                let held = self.log(*log);
                if *reset {
                    held.entries = Entries::default();
                } else {
                    held.entries.drop_to(*index);
                }
                held.snapshot = Some((*index, base.place(*span)));
            }
            Change::Copy(log, generation) => self.log(*log).copy = Some(*generation),
            Change::DropLog(log) => {
                self.logs.remove(log);
                self.damage.dropped(*log);
            }
        }
    }

    /// What older segments say that is not true any more is over: what revoked it may be gone. All
    /// but entries is said anew behind this.
    fn keep_only(&mut self, checkpoint: &Checkpoint) {
        let mut before = std::mem::take(&mut self.logs);
        for (log, last) in &checkpoint.logs {
            let mut entries = before.remove(log).map_or_else(Entries::default, |held| held.entries);
            entries.truncate(last.next());
            self.logs.insert(*log, LogState { entries, ..LogState::default() });
        }
    }

    /// Notes that something durable which changed `touched` cannot be read.
    pub(super) fn lose(&mut self, touched: &Touched) {
        self.identity_doubtful |= touched.identity || touched.everything;
        if touched.everything {
            self.damage.all = true;
            self.damage.dropped_since.clear();
        }
        self.damage.peers |= touched.peers || touched.everything;
        self.damage.logs.extend(touched.logs.iter().copied());
    }

    /// Bytes that a checkpoint writes in any case: an estimate that counts every snapshot in full and
    /// a small sum for everything else.
    pub(super) fn small_bytes(&self) -> u64 {
        const SMALL: u64 = 64;
        let starts = self.identity.as_ref().map_or(0, |identity| identity.starts.len() as u64);
        let mut sum = SMALL * (1 + self.peer_starts.len() as u64) + 24 * starts;
        for log in self.logs.values() {
            let snapshot = log.snapshot.map_or(0, |(_, place)| u64::from(place.len));
            sum += SMALL + snapshot;
        }
        sum
    }

    /// Bytes of entries in each segment that holds any.
    pub(super) fn live_bytes(&self) -> BTreeMap<u64, u64> {
        let mut live = BTreeMap::new();
        for log in self.logs.values() {
            for (segment, bytes) in log.entries.bytes_by_segment() {
                *live.entry(segment).or_default() += bytes;
            }
        }
        live
    }

    fn log(&mut self, log: LogId) -> &mut LogState {
        self.logs.entry(log).or_default()
    }
}
