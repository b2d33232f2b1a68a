//! What a leader knows of one member's log.

use std::time::Duration;

use super::fetch::ReadId;
use super::latency::Measured;
use super::types::Index;
use crate::time::Time;

/// How entries are sent to a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Flow {
    /// One message at a time, until it is known where the logs agree.
    Probe {
        /// When a message went out that has not been answered.
        sent: Option<Time>,
    },
    /// As fast as the window allows.
    Replicate,
    /// As `Replicate`, but what is next to be sent is being read from the disk.
    Read {
        /// Which read.
        id: ReadId,
    },
    /// A snapshot is out; entries follow once it has been taken up.
    Install {
        /// What the snapshot covers.
        until: Index,
    },
}

/// What a leader knows of one member's log.
#[derive(Clone, Debug)]
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
    /// Whether an answer ever came in this term; until then `active` is only the benefit of doubt.
    pub answered: bool,
    /// The highest heartbeat round answered.
    pub round: u64,
    /// Since when heartbeats are answered, but not the entries that went out.
    pub stalled: Option<Time>,
    /// How long it takes to acknowledge; decides nothing.
    pub measured: Measured,
}

/// After so many heartbeats' time in which heartbeats are answered and entries are not, what was
/// sent counts as lost: the receiver may have dropped it without the link breaking.
const STALLED_HEARTBEATS_MAX: u32 = 20;

impl Progress {
    pub(super) fn new(last: Index, now: Time) -> Self {
        let flow = Flow::Probe { sent: None };
        Self {
            matched: Index::ZERO,
            next: last.next(),
            flow,
            in_flight: 0,
            active: now,
            answered: false,
            round: 0,
            stalled: None,
            measured: Measured::default(),
        }
    }

    /// The member has said that it holds the log up to `matched`.
    pub(super) fn appended(&mut self, now: Time, matched: Index) {
        self.measured.acknowledged(now, matched);
        self.stalled = None;
        self.in_flight = self.in_flight.saturating_sub(1);
        if matched > self.matched {
            self.matched = matched;
        }
        self.next = self.next.max(self.matched.next());
        match self.flow {
            Flow::Probe { .. } => self.replicate(),
            Flow::Install { until } if self.matched >= until => self.replicate(),
            Flow::Install { .. } | Flow::Replicate | Flow::Read { .. } => {}
        }
    }

    /// A message with `count` entries from `next` on goes out, in `Replicate`, where at most `max` may be
    /// unanswered.
    pub(super) fn sends(&mut self, now: Time, count: usize, max: usize) {
        self.in_flight += 1;
        if count > 0 {
            self.next = Index(self.next.0 + count as u64);
            self.measured.sent(now, self.next.previous(), max);
        }
    }

    fn replicate(&mut self) {
        self.flow = Flow::Replicate;
        self.in_flight = 0;
        self.measured.forget();
        self.next = self.matched.next();
    }

    /// The member has refused the entries after `prev`; `agree` is where the logs may agree.
    /// Returns whether that is news.
    pub(super) fn refused(&mut self, prev: Index, agree: Index) -> bool {
        match self.flow {
            Flow::Replicate | Flow::Read { .. } if prev <= self.matched => return false,
            Flow::Replicate | Flow::Read { .. } => {}
            Flow::Probe { .. } | Flow::Install { .. } if prev.next() != self.next => return false,
            Flow::Probe { .. } | Flow::Install { .. } => {}
        }
        self.next = agree.min(prev.previous()).max(self.matched).next();
        self.flow = Flow::Probe { sent: None };
        self.in_flight = 0;
        self.measured.forget();
        true
    }

    /// An answer came.
    pub(super) fn hear(&mut self, now: Time) {
        self.active = now;
        self.answered = true;
    }

    /// A heartbeat was answered. Measured in time, not in answers: reads send heartbeats too.
    pub(super) fn beat(&mut self, now: Time, heartbeat: Duration) {
        if let Flow::Probe { sent } = &mut self.flow {
            *sent = sent.filter(|sent| now.since(*sent) < heartbeat);
        } else if self.in_flight > 0 || self.next > self.matched.next() {
            // Also what carries a commit index alone is awaited, or lost ones would fill the window.
            let since = *self.stalled.get_or_insert(now);
            if now.since(since) >= heartbeat * STALLED_HEARTBEATS_MAX {
                self.probe();
            }
        }
    }

    /// What was under way may be lost: find out anew where the logs agree. A search goes on where it
    /// is, and a snapshot is assumed to have arrived: if not, the refusal tells.
    pub(super) fn probe(&mut self) {
        if matches!(self.flow, Flow::Replicate | Flow::Read { .. }) {
            self.next = self.matched.next();
        }
        self.flow = Flow::Probe { sent: None };
        self.in_flight = 0;
        self.stalled = None;
        self.measured.forget();
    }
}
