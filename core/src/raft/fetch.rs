//! Entries from below the window: they are read from the disk, for a member that lacks them or for
//! the copy of this node.
//!
//! An answer comes late, and the log may have changed meanwhile. It counts only if the log has been
//! neither cut off nor compacted since it was asked for, if whoever it was for still waits for just
//! that, and as far as index and term of each entry are those that the log has there: these two name
//! the content. For each reader one read is under way at most, whatever became of who asked.

use std::collections::{BTreeMap, VecDeque};

use thiserror::Error;

use super::progress::Flow;
use super::{Body, Content, Entry, Index, NodeId, Office, Raft, Rests, Snapshot};
use crate::marks::sometimes;
use crate::time::Time;

/// Append messages with entries from the disk to one member that may be unanswered.
const FETCHED_IN_FLIGHT_MAX: usize = 8;

/// Names a read of one log in one run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ReadId(pub u64);

/// Entries of a log that are wanted from the disk: those from `from` on and before `to`, as many as
/// fit, but the first in any case.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogRead {
    /// To be repeated in the answer.
    pub id: ReadId,
    /// The first. It is durable.
    pub from: Index,
    /// The one after the last.
    pub to: Index,
    /// The most bytes of all together.
    pub bytes_max: usize,
}

/// An entry that was durable cannot be read back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("entry {index} cannot be read from the disk")]
pub struct Unreadable {
    /// Which.
    pub index: Index,
}

/// For whom entries are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reader {
    Member(NodeId),
    Copy,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    reader: Reader,
    from: Index,
    /// [`Fetches::changes`] when it was asked.
    changes: u64,
}

/// Reads that are under way.
#[cfg_attr(feature = "model", derive(Clone))]
#[derive(Default, Debug)]
pub(super) struct Fetches {
    last: u64,
    under_way: BTreeMap<ReadId, Asked>,
    out: VecDeque<LogRead>,
    /// How often the log was cut off, compacted or begun anew.
    changes: u64,
    /// The last entry that could not be read: what is up to it cannot be sent.
    lost: Option<Index>,
    /// The last that could not be read back, and was known all the same.
    rebuilt: Option<Index>,
    /// What could not be read and has not been told of.
    untold: Option<Index>,
    /// What came for the copy.
    for_copy: Option<Result<Vec<Entry>, Unreadable>>,
}

impl Fetches {
    /// What is asked for from here on is of another log, as it were.
    pub(super) fn log_changed(&mut self) {
        self.changes += 1;
    }

    /// Whether the entry, which is not in memory, cannot be sent.
    pub(super) fn is_lost(&self, index: Index) -> bool {
        self.lost.is_some_and(|lost| index <= lost)
    }

    fn reads_for(&self, reader: Reader) -> bool {
        self.under_way.values().any(|asked| asked.reader == reader)
    }

    fn ask(&mut self, reader: Reader, from: Index, to: Index, bytes_max: usize) -> ReadId {
        self.last += 1;
        let id = ReadId(self.last);
        self.under_way.insert(id, Asked { reader, from, changes: self.changes });
        self.out.push_back(LogRead { id, from, to, bytes_max });
        id
    }
}

impl Raft {
    /// The next entries that are wanted from the disk; [`Raft::log_read`] is the answer.
    pub fn next_read(&mut self) -> Option<LogRead> {
        self.fetches.out.pop_front()
    }

    /// Entries were read from the disk: consecutive ones, the first that was asked for among them; or
    /// one of them cannot be.
    pub fn log_read(&mut self, now: Time, id: ReadId, result: Result<Vec<Entry>, Unreadable>) {
        let Some(asked) = self.fetches.under_way.remove(&id) else { return };
        let current = asked.changes == self.fetches.changes;
        let result = current.then(|| self.checked(asked.from, result));
        match (asked.reader, result) {
            (Reader::Copy, Some(result)) => self.fetches.for_copy = Some(result),
            (Reader::Copy, None) => {}
            (Reader::Member(member), result) => self.on_member_read(now, member, id, asked, result),
        }
    }

    /// Has entries from `from` on read for the copy of this node, unless some are on their way. They
    /// come from [`Raft::take_fetched`], or never, if the log changes meanwhile: then ask again.
    pub fn fetch(&mut self, from: Index, bytes_max: usize) {
        let to = self.log.window_start().min(self.commit.next());
        if from < to && !self.fetches.reads_for(Reader::Copy) {
            self.fetches.ask(Reader::Copy, from, to, bytes_max);
        }
    }

    /// What [`Raft::fetch`] asked for, once.
    pub fn take_fetched(&mut self) -> Option<Result<Vec<Entry>, Unreadable>> {
        self.fetches.for_copy.take()
    }

    /// An entry that was durable and cannot be read back; each is told once.
    pub fn take_unreadable(&mut self) -> Option<Index> {
        self.fetches.untold.take()
    }

    /// Keeps of the entries in memory only as many as are to be.
    pub(super) fn trim_window(&mut self) {
        if self.settings.content == Content::Apart {
            let window = self.settings.limits.window;
            self.log.trim(self.stored.min(self.commit), window.entries_max, window.bytes_max);
        }
    }

    /// What may be taken of an answer: the entries that the log has there. None at all says that the
    /// store does not hold what was durable.
    fn checked(
        &mut self,
        from: Index,
        result: Result<Vec<Entry>, Unreadable>,
    ) -> Result<Vec<Entry>, Unreadable> {
        let result = result.and_then(|mut entries| {
            let fits = |(entry, index): (&Entry, u64)| {
                entry.index.0 == index && self.log.term_at(entry.index) == Some(entry.term)
            };
            let sound = entries.iter().zip(from.0..).take_while(|pair| fits(*pair)).count();
            entries.truncate(sound);
            if entries.is_empty() { Err(Unreadable { index: from }) } else { Ok(entries) }
        });
        let asked = from..=self.commit;
        let result = result.map_err(|Unreadable { index }| Unreadable {
            index: if asked.contains(&index) { index } else { from },
        });
        if let Err(Unreadable { index }) = result {
            debug_assert!(index <= self.commit, "what is not committed is in memory");
            if let Some(entry) = self.log.rebuilt(index).filter(|_| index == from) {
                sometimes!(EntryRebuilt);
                if self.fetches.rebuilt.is_none_or(|known| known < index) {
                    self.fetches.rebuilt = Some(index);
                    self.fetches.untold = Some(index);
                }
                return Ok(vec![entry]);
            }
            if !self.fetches.is_lost(index) {
                sometimes!(EntryUnreadable);
                self.fetches.lost = Some(index);
                self.fetches.untold = Some(index);
            }
        }
        result
    }

    /// Asks for what is next to be sent to a member, if it is not under way.
    pub(super) fn read_for(&mut self, member: NodeId) {
        let reader = Reader::Member(member);
        let limits = self.settings.limits;
        let to = self.log.window_start();
        let Office::Leader(leading) = &mut self.office else { return };
        let Some(progress) = leading.progress.get_mut(&member) else { return };
        if self.fetches.reads_for(reader) || progress.in_flight >= FETCHED_IN_FLIGHT_MAX {
            return;
        }
        let last = progress.next.0.saturating_add(limits.append_count_max as u64);
        let to = to.min(Index(last));
        let id = self.fetches.ask(reader, progress.next, to, limits.append_bytes_max);
        progress.flow = Flow::Read { id };
    }

    fn on_member_read(
        &mut self,
        now: Time,
        member: NodeId,
        id: ReadId,
        asked: Asked,
        result: Option<Result<Vec<Entry>, Unreadable>>,
    ) {
        let (commit, prev_index) = (self.commit, asked.from.previous());
        let prev_term = self.log.term_at(prev_index);
        let Office::Leader(leading) = &mut self.office else { return };
        let Some(progress) = leading.progress.get_mut(&member) else { return };
        let waited = progress.flow == Flow::Read { id };
        if waited {
            progress.flow = Flow::Replicate;
        }
        let wanted = waited && progress.next == asked.from;
        if let (true, Some(Ok(entries)), Some(prev_term)) = (wanted, result, prev_term) {
            progress.sends(now, entries.len(), self.settings.limits.in_flight_max);
            let body = Body::Append { prev_index, prev_term, entries, commit };
            self.send(member, body, Rests::Office);
        }
        self.send_entries(now, member, false);
    }

    /// Where a member must begin that lacks what this leader cannot send: behind its snapshot, or
    /// behind an entry that cannot be read.
    pub(super) fn snapshot_to_send(&self) -> Snapshot {
        let held = self.log.snapshot();
        let lost = self.fetches.lost.filter(|index| *index > held.index);
        let Some(index) = lost.filter(|_| self.settings.content == Content::Apart) else {
            return held.clone();
        };
        let term = self.log.term_at(index).unwrap_or(held.term);
        let membership = self.log.membership_at(index).clone();
        Snapshot { index, term, membership, data: bytes::Bytes::new() }
    }
}
