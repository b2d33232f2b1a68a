//! What is durable, read back from where it lies.

use std::collections::BTreeMap;

use quorate_core::raft::{Entry, Index, Snapshot};
use quorate_core::{Identity, LogId, NodeId, Recovered, RecoveredLog};

use super::error::StoreError;
use super::item::{decode_entry, decode_snapshot};
use super::segment::Segment;
use super::state::{Place, State};

/// What is durable, and where: written by the log's thread after each sync, read by anyone.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) state: State,
    pub(super) segments: BTreeMap<u64, Segment>,
}

impl Shared {
    /// The whole content, read back.
    pub(super) fn recovered(&self) -> Result<Recovered, StoreError> {
        let identity = self.state.identity.clone();
        let identity = identity.unwrap_or_else(|| Identity::new(NodeId(0)));
        let mut logs = BTreeMap::new();
        for log in self.state.logs.keys() {
            logs.insert(*log, self.recovered_log(*log)?);
        }
        // A damaged log of which nothing is left, and the log that every node has.
        for log in self.state.damage.named().chain([LogId::CONFIGURATION]) {
            if self.state.damage.hits(log) {
                logs.entry(log).or_default().damaged = true;
            }
        }
        Ok(Recovered { identity, peer_starts: self.state.peer_starts.clone(), logs })
    }

    fn recovered_log(&self, log: LogId) -> Result<RecoveredLog, StoreError> {
        let mut damaged = self.state.damage.hits(log);
        let Some(held) = self.state.logs.get(&log) else { return Ok(RecoveredLog::default()) };
        let snapshot = match held.snapshot {
            Some((_, place)) => self.snapshot(log, place)?,
            None => Snapshot::default(),
        };
        let mut entries: Vec<Entry> = Vec::with_capacity(held.entries.len());
        let mut expected = snapshot.index.next();
        for (index, place) in &held.entries {
            if *index != expected {
                // Core relies on entries without a gap; one can only come from a loss.
                damaged = true;
                break;
            }
            entries.push(self.entry(log, *index, *place)?);
            expected = index.next();
        }
        Ok(RecoveredLog {
            hard_state: held.hard_state,
            snapshot,
            entries,
            copy: held.copy,
            damaged,
        })
    }

    /// Where the entries of a log lie, and the files that hold them.
    pub(super) fn places(
        &self,
        log: LogId,
        from: Index,
        to: Index,
    ) -> Vec<(Index, Place, Segment)> {
        let Some(held) = self.state.logs.get(&log).filter(|_| from < to) else { return Vec::new() };
        let mut places = Vec::new();
        for (index, place) in held.entries.range(from..to) {
            if let Some(segment) = self.segments.get(&place.segment) {
                places.push((*index, *place, segment.clone()));
            }
        }
        places
    }

    /// The bytes of an item.
    pub(super) fn item(&self, place: Place) -> Result<Vec<u8>, StoreError> {
        match self.segments.get(&place.segment) {
            Some(segment) => segment.read_at(place.offset, place.len),
            None => Ok(Vec::new()),
        }
    }

    fn entry(&self, log: LogId, index: Index, place: Place) -> Result<Entry, StoreError> {
        let found = decode_entry(&self.item(place)?);
        let found = found.filter(|(of, entry)| *of == log && entry.index == index);
        found.map(|(_, entry)| entry).ok_or_else(|| self.unreadable(log, index, place))
    }

    fn snapshot(&self, log: LogId, place: Place) -> Result<Snapshot, StoreError> {
        let found = decode_snapshot(&self.item(place)?).filter(|(of, _)| *of == log);
        let index = self.state.logs.get(&log).and_then(|l| l.snapshot).map_or(Index::ZERO, |s| s.0);
        found.map(|(_, snapshot)| snapshot).ok_or_else(|| self.unreadable(log, index, place))
    }

    pub(super) fn unreadable(&self, log: LogId, index: Index, place: Place) -> StoreError {
        let path = self.segments.get(&place.segment).map(|s| s.path.clone()).unwrap_or_default();
        StoreError::EntryUnreadable { log, index: index.0, path }
    }
}
