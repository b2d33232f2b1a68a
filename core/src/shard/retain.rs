//! What the log keeps, and what it lets go of.
//!
//! Entries may go once they are durable in this node's own copy; a log that begins behind its copy
//! could not bring it up again. Beyond that they are kept for others: for those that come back, by
//! bytes and age; for members that are catching up; for full copies that are under way, by a *hold*.
//! Whoever finds too little left is sent a full copy, so that all of that is a matter of cost.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::session::Records;
use super::{Shard, entry};
use crate::faults::{self, Fault};
use crate::ids::{Index, NodeId};
use crate::marks::sometimes;
use crate::raft::Raft;
use crate::time::Time;

/// The log is let go of in steps of this part of what is retained.
const STEPS: u32 = 16;

/// A point in the log up to which it may be let go of.
#[derive(Clone, Copy, Debug)]
struct Mark {
    index: Index,
    /// [`Raft::appended_bytes`] there.
    bytes: u64,
    /// When the log ended there; of what was there at the start, the start.
    at: Time,
}

#[derive(Clone, Copy, Debug)]
struct Hold {
    index: Index,
    until: Time,
}

/// Where the log could be cut, and for whom it may not be.
#[derive(Debug)]
pub(super) struct Retain {
    marks: VecDeque<Mark>,
    holds: BTreeMap<NodeId, Hold>,
}

impl Retain {
    pub(super) fn new(raft: &Raft, now: Time) -> Self {
        // How the bytes of what is there are spread is not known: evenly, for all that matters.
        let (base, last) = (raft.snapshot().index.0, raft.last_index().0);
        let bytes = raft.appended_bytes();
        let steps = u64::from(STEPS) * 4;
        let mark = |step: u64| Mark {
            index: Index(base + part(last - base, step, steps)),
            bytes: part(bytes, step, steps),
            at: now,
        };
        Self { marks: (1..=steps).map(mark).collect(), holds: BTreeMap::new() }
    }

    /// The last point that is at least so many bytes, and so long a time, behind the end.
    fn behind(&self, end: u64, bytes: u64, old: impl Fn(Time) -> bool) -> Index {
        let far = |mark: &&Mark| end - mark.bytes >= bytes && old(mark.at);
        // The first is the farthest and the oldest: unless it is far enough, none is.
        if self.marks.front().filter(far).is_none() {
            return Index::ZERO;
        }
        self.marks.iter().rev().find(far).map_or(Index::ZERO, |mark| mark.index)
    }
}

fn part(whole: u64, step: u64, steps: u64) -> u64 {
    u64::try_from(u128::from(whole) * u128::from(step) / u128::from(steps)).unwrap_or(whole)
}

impl Shard {
    /// Keeps the entries after `index` until that time, for the full copy that `peer` is getting; in
    /// place of what was kept for it before. False if they are gone already, or too many are held.
    pub fn hold(&mut self, now: Time, peer: NodeId, index: Index, until: Time) -> bool {
        let holds = &mut self.retain.holds;
        holds.retain(|_, hold| hold.until > now);
        let room = holds.len() < self.limits.holds_max || holds.contains_key(&peer);
        if !room || index < self.raft.snapshot().index {
            sometimes!(HoldRefused);
            return false;
        }
        holds.insert(peer, Hold { index, until });
        true
    }

    /// Nothing is kept for the copy of `peer` any more.
    pub fn release(&mut self, peer: NodeId) {
        self.retain.holds.remove(&peer);
    }

    /// Somebody who cannot have all entries up to `index` from any log needs a copy that holds them. If
    /// the last of them change no copy, as a change of the membership, none comes to stand there until
    /// something is written behind: so an owner writes nothing, as a batch that does nothing.
    pub fn bring_copies_to(&mut self, now: Time, index: Index) {
        self.now = now;
        let (applied, stands) = (self.follow.applied, self.follow.position.index);
        let idle = self.writer.open.is_none() && self.writer.interactive.is_none();
        let all = applied == self.raft.last_index() && self.is_open() && idle;
        if all && stands < index && index <= applied && self.raft.is_settled_leader() {
            sometimes!(UnreadableSteppedOver);
            let nothing = entry::encode(&Records::default(), &Bytes::new());
            // If it cannot be put now, whoever asked comes again.
            let _put = self.raft.propose(nothing);
        }
        self.drive();
    }

    /// Lets go of what nobody needs any more, a good part of the log at a time.
    pub(super) fn compact_log(&mut self) {
        self.mark_end();
        let base = self.raft.snapshot().index;
        let first = self.retain.marks.front().map(|mark| mark.index);
        if first.is_none_or(|first| first > self.may_go()) {
            return;
        }
        // Whoever has just been elected does not know yet how far the others are.
        if self.raft.is_leader() && self.now.since(self.office_since) < self.limits.patience {
            return;
        }
        let cut = self.may_go().min(self.nobody_needs());
        if first.is_none_or(|first| first > cut) {
            return;
        }
        let Some(mark) = self.retain.marks.iter().rev().find(|mark| mark.index <= cut) else {
            return;
        };
        let index = mark.index;
        self.retain.marks.retain(|mark| mark.index > index);
        if index > base {
            self.raft.compact_to(index);
        }
    }

    fn mark_end(&mut self) {
        let (now, limits) = (self.now, self.limits);
        let (index, bytes) = (self.raft.last_index(), self.raft.appended_bytes());
        let marks = &mut self.retain.marks;
        // Where it was cut off, something else came, or will come.
        while marks.back().is_some_and(|mark| mark.index > index) {
            marks.pop_back();
        }
        let steps = u64::from(STEPS);
        let due = marks.back().is_none_or(|last| {
            let many = bytes - last.bytes >= (limits.retain_bytes / steps).max(1);
            index > last.index && (many || now.since(last.at) >= limits.retain_age / STEPS)
        });
        if due && index > self.raft.snapshot().index {
            marks.push_back(Mark { index, bytes, at: now });
        }
    }

    /// What this node itself does not need any more.
    fn may_go(&self) -> Index {
        let synced = match faults::active(Fault::CompactedPastSynced) {
            true => self.follow.applied,
            false => self.follow.synced.index,
        };
        synced.min(self.follow.applied).min(self.raft.commit())
    }

    /// What is kept for nobody else.
    fn nobody_needs(&mut self) -> Index {
        let (now, limits) = (self.now, self.limits);
        let end = self.raft.appended_bytes();
        let base = self.raft.snapshot().index;
        let retain = &mut self.retain;
        retain.holds.retain(|_, hold| hold.until > now);
        let excess = retain.behind(end, limits.retain_bytes_max, |_| true);
        let old = |at: Time| now.since(at) >= limits.retain_age;
        let retained = retain.behind(end, limits.retain_bytes, old);
        // Whoever is behind even that gets a full copy, as does one that is too far behind.
        let catching_up = self.raft.reached(now).filter(|index| *index >= base.max(excess));
        let cut = catching_up.fold(retained.max(excess), Index::min);
        retain.holds.values().fold(cut.max(excess), |cut, hold| cut.min(hold.index))
    }
}
