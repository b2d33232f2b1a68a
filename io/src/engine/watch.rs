//! Stops a statement that takes too long, or whose effects have become too large.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How many steps of SQLite's machine pass between two looks at the clock: some 20 µs.
pub(super) const STEPS: i32 = 2_000;

/// What the progress handler looks at.
pub(super) struct Watch {
    start: Instant,
    /// Nanoseconds after `start`; the maximum while nothing is limited.
    deadline: AtomicU64,
    given_up: AtomicBool,
    late: AtomicBool,
}

impl Watch {
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            deadline: AtomicU64::new(u64::MAX),
            given_up: AtomicBool::new(false),
            late: AtomicBool::new(false),
        }
    }

    /// From now on `time_ms` milliseconds are allowed.
    pub(super) fn begin(&self, time_ms: u64) {
        self.begin_at(Instant::now(), time_ms);
    }

    /// Until `time_ms` milliseconds after `begun` something may run.
    pub(super) fn begin_at(&self, begun: Instant, time_ms: u64) {
        let deadline =
            begun.duration_since(self.start).saturating_add(Duration::from_millis(time_ms));
        self.deadline
            .store(u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.given_up.store(false, Ordering::Relaxed);
        self.late.store(false, Ordering::Relaxed);
    }

    /// Nothing is limited any more.
    pub(super) fn end(&self) {
        self.deadline.store(u64::MAX, Ordering::Relaxed);
        self.given_up.store(false, Ordering::Relaxed);
    }

    /// The statement is to be stopped, for its effects fit nowhere.
    pub(super) fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }

    /// Whether the effects became too large.
    pub(super) fn has_given_up(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
    }

    /// Whether the time is over; looks at the clock.
    pub(super) fn is_late(&self) -> bool {
        let deadline = self.deadline.load(Ordering::Relaxed);
        if deadline == u64::MAX {
            return false;
        }
        let late = self.late.load(Ordering::Relaxed)
            || self.start.elapsed().as_nanos() >= u128::from(deadline);
        if late {
            self.late.store(true, Ordering::Relaxed);
        }
        late
    }

    /// What the progress handler answers: whether to stop.
    pub(super) fn stops(&self) -> bool {
        self.has_given_up() || self.is_late()
    }
}
