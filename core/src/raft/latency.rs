//! How long a member takes to acknowledge entries, over the last minute.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::types::Index;
use crate::time::Time;

/// What is measured is kept by slices of time of this length,
const SLICE_NANOS: u64 = 15 * 1_000_000_000;
/// and of so many of them, the present one included: the last 45 to 60 seconds.
const SLICES: usize = 4;

/// How a member follows what a leader sends it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Latency {
    /// Messages with entries that were acknowledged within the last minute: 45 to 60 seconds.
    pub acknowledged: u64,
    /// From when they were sent until the leader heard that they are durable there, together, in
    /// microseconds.
    pub total_us: u64,
    /// The longest of these, in microseconds.
    pub worst_us: u64,
    /// For how long the oldest entry that is under way now has not been acknowledged, in microseconds.
    pub waiting_us: u64,
    /// Entries of the leader's log that the member has not acknowledged.
    pub behind: u64,
}

impl Latency {
    /// The mean, in microseconds, if anything was measured.
    #[must_use]
    pub fn average_us(&self) -> Option<u64> {
        self.total_us.checked_div(self.acknowledged)
    }

    /// Both together: of two logs with the same leader and the same member.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            acknowledged: self.acknowledged.saturating_add(other.acknowledged),
            total_us: self.total_us.saturating_add(other.total_us),
            worst_us: self.worst_us.max(other.worst_us),
            waiting_us: self.waiting_us.max(other.waiting_us),
            behind: self.behind.saturating_add(other.behind),
        }
    }
}

/// What is measured of one member. A few words an append message in flight; the rest does not grow.
#[derive(Clone, Debug, Default)]
pub(super) struct Measured {
    /// Append messages under way: the last entry of each, and when it was sent.
    under_way: VecDeque<(Index, Time)>,
    slices: [Slice; SLICES],
}

#[derive(Clone, Copy, Debug, Default)]
struct Slice {
    /// Which slice of time this is, counted from 1; 0: none.
    number: u64,
    count: u32,
    worst_us: u32,
    total_us: u64,
}

impl Measured {
    /// Entries up to `last` have been sent. Beyond `max` under way nothing is noted.
    pub(super) fn sent(&mut self, now: Time, last: Index, max: usize) {
        if self.under_way.len() < max {
            self.under_way.push_back((last, now));
        }
    }

    /// All up to `matched` is durable there.
    pub(super) fn acknowledged(&mut self, now: Time, matched: Index) {
        while let Some((_, sent)) = self.under_way.pop_front_if(|(last, _)| *last <= matched) {
            self.note(now, now.0.saturating_sub(sent.0) / 1_000);
        }
    }

    /// What is under way may be lost.
    pub(super) fn forget(&mut self) {
        self.under_way.clear();
    }

    fn note(&mut self, now: Time, took_us: u64) {
        let number = number_of(now);
        let place = usize::try_from(number % SLICES as u64).unwrap_or_default();
        let slice = &mut self.slices[place];
        if slice.number != number {
            *slice = Slice { number, ..Slice::default() };
        }
        let us = u32::try_from(took_us).unwrap_or(u32::MAX);
        slice.count = slice.count.saturating_add(1);
        slice.total_us += u64::from(us);
        slice.worst_us = slice.worst_us.max(us);
    }

    /// What was measured, for a member that lacks `behind` entries.
    pub(super) fn told(&self, now: Time, behind: u64) -> Latency {
        let present = number_of(now);
        let recent = |slice: &&Slice| slice.number > 0 && slice.number + SLICES as u64 > present;
        let oldest = self.under_way.front().map(|(_, sent)| now.0.saturating_sub(sent.0) / 1_000);
        let waiting_us = oldest.unwrap_or_default();
        let told = Latency { waiting_us, behind, ..Latency::default() };
        self.slices.iter().filter(recent).fold(told, |told, slice| {
            told.and(Latency {
                acknowledged: slice.count.into(),
                total_us: slice.total_us,
                worst_us: slice.worst_us.into(),
                ..Latency::default()
            })
        })
    }
}

fn number_of(now: Time) -> u64 {
    now.0 / SLICE_NANOS + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn at(ms: u64) -> Time {
        Time(ms * MS)
    }

    #[test]
    fn an_entry_takes_from_its_sending_to_the_answer_that_covers_it() {
        let mut measured = Measured::default();
        measured.sent(at(10), Index(3), 8);
        measured.sent(at(12), Index(5), 8);
        measured.sent(at(13), Index(6), 8);
        assert_eq!(measured.told(at(20), 3).waiting_us, 10_000);
        measured.acknowledged(at(22), Index(5));
        let told = measured.told(at(30), 1);
        assert_eq!((told.acknowledged, told.total_us, told.worst_us), (2, 22_000, 12_000));
        assert_eq!((told.waiting_us, told.behind), (17_000, 1));
        assert_eq!(told.average_us(), Some(11_000));
    }

    #[test]
    fn what_is_older_than_a_minute_is_forgotten_and_the_worst_with_it() {
        let mut measured = Measured::default();
        measured.sent(at(0), Index(1), 8);
        measured.acknowledged(at(900), Index(1));
        measured.sent(at(50_000), Index(2), 8);
        measured.acknowledged(at(50_002), Index(2));
        assert_eq!(measured.told(at(59_999), 0).worst_us, 900_000);
        let later = measured.told(at(60_000), 0);
        assert_eq!((later.acknowledged, later.worst_us), (1, 2_000));
        assert_eq!(measured.told(at(200_000), 0), Latency::default());
        assert_eq!(measured.told(at(200_000), 0).average_us(), None);
    }

    #[test]
    fn no_more_is_kept_than_may_be_under_way_and_nothing_of_what_may_be_lost() {
        let mut measured = Measured::default();
        (1..=100).for_each(|index| measured.sent(at(index), Index(index), 4));
        assert_eq!(measured.under_way.len(), 4);
        measured.forget();
        measured.acknowledged(at(500), Index(100));
        assert_eq!(measured.told(at(500), 0), Latency::default());
    }
}
