//! What is durable, read back from where it lies.

use std::collections::BTreeMap;
use std::ops::Range;

use quorate_core::raft::{Entry, Index, Payload, Snapshot, size_of_entry};
use quorate_core::{Identity, LogId, NodeId, OnDisk, Recovered, RecoveredLog, Window};

use super::error::StoreError;
use super::item::{decode_entry, decode_snapshot};
use super::segment::Segment;
use super::state::{Place, Placed, State};

/// What is durable, and where: written by the log's thread after each sync, read by anyone.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) state: State,
    pub(super) segments: BTreeMap<u64, Segment>,
    /// How much of a shard's log is read back whole.
    pub(super) window: Window,
}

impl Shared {
    /// A segment is there, and what its first frames change has happened.
    pub(super) fn begin(&mut self, segment: &Segment, number: u64, changes: &[Placed]) {
        for (base, changes) in changes {
            changes.iter().for_each(|change| self.state.apply(change, *base));
        }
        self.segments.insert(number, segment.clone());
    }

    /// Nothing is in these segments any more.
    pub(super) fn forget(&mut self, gone: &[u64]) {
        self.segments.retain(|number, _| !gone.contains(number));
    }

    /// The content, read back: of shards' logs only the newest entries.
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
        // Core relies on entries without a gap; one can only come from a loss.
        let last = held.entries.last_after(snapshot.index);
        damaged |= held.entries.last().is_some_and(|held| held != last);
        let window = if log == LogId::CONFIGURATION { Window::WHOLE } else { self.window };
        let commit = held.hard_state.commit;
        let mut entries: Vec<Entry> = Vec::new();
        let (mut bytes, mut index) = (0, last);
        while index > snapshot.index {
            let Some(place) = held.entries.get(index) else { break };
            let entry = self.entry(log, index, place)?;
            bytes += size_of_entry(&entry);
            let fits = entries.len() < window.entries_max && bytes <= window.bytes_max;
            if !(entries.is_empty() || fits || index > commit) {
                break;
            }
            entries.push(entry);
            index = index.previous();
        }
        entries.reverse();
        let on_disk = self.on_disk(log, snapshot.index, index)?;
        Ok(RecoveredLog {
            hard_state: held.hard_state,
            snapshot,
            on_disk,
            entries,
            copy: held.copy,
            damaged,
        })
    }

    /// What core needs to know of the entries after `base` and up to `last` without reading them.
    fn on_disk(&self, log: LogId, base: Index, last: Index) -> Result<OnDisk, StoreError> {
        let mut found = OnDisk::default();
        let Some(held) = self.state.logs.get(&log).filter(|_| last > base) else {
            return Ok(found);
        };
        found.runs = held.entries.runs();
        found.runs.retain(|(first, _)| *first <= last);
        for index in held.entries.memberships().filter(|index| *index <= last) {
            let Some(place) = held.entries.get(index) else { continue };
            if let Payload::Membership(membership) = self.entry(log, index, place)?.payload {
                found.memberships.push((index, membership));
            }
        }
        let all = held.entries.from(base.next()).take_while(|(index, _)| *index <= last);
        found.bytes = all.map(|(_, place)| u64::from(place.len)).sum();
        Ok(found)
    }

    /// Where the entries of a log lie, and the files that hold them.
    pub(super) fn places(
        &self,
        log: LogId,
        range: Range<Index>,
        bytes_max: usize,
    ) -> Vec<(Index, Place, Segment)> {
        let Some(held) = self.state.logs.get(&log) else { return Vec::new() };
        let mut places = Vec::new();
        let mut bytes = 0;
        for (index, place) in held.entries.from(range.start) {
            bytes += usize::try_from(place.len).unwrap_or(usize::MAX);
            if index >= range.end || (bytes > bytes_max && !places.is_empty()) {
                break;
            }
            if let Some(segment) = self.segments.get(&place.segment) {
                places.push((index, place, segment.clone()));
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
