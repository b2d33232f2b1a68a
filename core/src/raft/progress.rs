//! What a leader knows of one member's log.

use super::types::Index;
use crate::time::Time;

/// How entries are sent to a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Flow {
    /// One message at a time, until it is known where the logs agree.
    Probe {
        /// A message is out and no answer has come since the last heartbeat.
        waiting: bool,
    },
    /// As fast as the window allows.
    Replicate,
    /// A snapshot is out; entries follow once it has been taken up.
    Install {
        /// What the snapshot covers.
        until: Index,
    },
}

/// What a leader knows of one member's log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    /// The member holds the leader's log up to here, durably.
    pub matched: Index,
    /// The next entry to send.
    pub next: Index,
    /// How to send.
    pub flow: Flow,
    /// Append messages sent in `Replicate` and not answered.
    pub in_flight: usize,
    /// When an answer last came.
    pub active: Time,
    /// The highest heartbeat round answered.
    pub round: u64,
    /// Heartbeats answered since an answer to entries last came, while one is due.
    pub stalled: u32,
}

/// After so many heartbeats answered and no entry, what was sent counts as lost: the receiver may
/// have dropped it without the link breaking.
const STALLED_MAX: u32 = 20;

impl Progress {
    pub(super) fn new(last: Index, now: Time) -> Self {
        let flow = Flow::Probe { waiting: false };
        Self {
            matched: Index::ZERO,
            next: last.next(),
            flow,
            in_flight: 0,
            active: now,
            round: 0,
            stalled: 0,
        }
    }

    /// The member has said that it holds the log up to `matched`.
    pub(super) fn appended(&mut self, matched: Index) {
        self.stalled = 0;
        self.in_flight = self.in_flight.saturating_sub(1);
        if matched > self.matched {
            self.matched = matched;
        }
        self.next = self.next.max(self.matched.next());
        match self.flow {
            Flow::Probe { .. } => self.replicate(),
            Flow::Install { until } if self.matched >= until => self.replicate(),
            Flow::Install { .. } | Flow::Replicate => {}
        }
    }

    fn replicate(&mut self) {
        self.flow = Flow::Replicate;
        self.in_flight = 0;
        self.next = self.matched.next();
    }

    /// The member has refused the entries after `prev`; `agree` is where the logs may agree.
    /// Returns whether that is news.
    pub(super) fn refused(&mut self, prev: Index, agree: Index) -> bool {
        match self.flow {
            Flow::Replicate if prev <= self.matched => return false,
            Flow::Replicate => {}
            Flow::Probe { .. } | Flow::Install { .. } if prev.next() != self.next => return false,
            Flow::Probe { .. } | Flow::Install { .. } => {}
        }
        self.next = agree.min(prev.previous()).max(self.matched).next();
        self.flow = Flow::Probe { waiting: false };
        self.in_flight = 0;
        true
    }

    /// A heartbeat was answered.
    pub(super) fn beat(&mut self) {
        if let Flow::Probe { waiting } = &mut self.flow {
            *waiting = false;
        } else if self.next > self.matched.next() {
            self.stalled += 1;
            if self.stalled >= STALLED_MAX {
                self.probe();
            }
        }
    }

    /// What was under way may be lost: find out anew where the logs agree.
    pub(super) fn probe(&mut self) {
        self.flow = Flow::Probe { waiting: false };
        self.next = self.matched.next();
        self.in_flight = 0;
        self.stalled = 0;
    }
}
