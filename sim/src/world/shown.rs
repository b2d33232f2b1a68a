//! What a run of a node has answered with: who asks it next, and says nothing of what it must see, is
//! not answered from before that, unless the node has waited in vain.

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_core::shard::Reply;
use quorate_core::{ClusterId, Index, LogId};

use super::event::RunRef;
use super::outputs::Late;
use super::{Failover, World};
use crate::counts::Count;
use crate::network::MS;

/// The least that a node waits, in nanoseconds: half of what it should, for its clock may run fast.
const WAITS: u64 = 500 * MS;

/// What was asked of a node, as far as that matters here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shows {
    /// At whom.
    pub(super) by: RunRef,
    /// Of which shard.
    pub(super) of: (ClusterId, LogId),
    /// When.
    pub(super) at: u64,
    /// How long the node was given.
    pub(super) timeout: Duration,
    /// The last position that it had answered with before.
    pub(super) shown: Index,
    /// It is a read that asks for no more than the configuration says.
    pub(super) as_configured: bool,
}

impl Shows {
    /// Whether the node may have given up by now what this is to see; a clock has last jumped then: its
    /// own, or that of the node that reads for it.
    fn has_waited(&self, now: u64, jumped: u64) -> bool {
        let timeout = u64::try_from(self.timeout.as_nanos()).unwrap_or(u64::MAX);
        jumped > self.at || now - self.at >= WAITS.min(timeout / 4)
    }
}

/// The last position that each run of a node has answered with, by shard.
#[derive(Debug, Default)]
pub(super) struct Shown(BTreeMap<(RunRef, ClusterId, LogId), Furthest>);

#[derive(Debug, Default)]
struct Furthest {
    at: Index,
    /// When an answer last told that the node had given up what it had shown.
    given_up: Option<u64>,
}

impl Shown {
    /// What a request must see that is handed to a node now.
    pub(super) fn of(&self, by: RunRef, cluster: ClusterId, log: LogId) -> Index {
        self.0.get(&(by, cluster, log)).map_or(Index::ZERO, |furthest| furthest.at)
    }
}

impl World {
    /// Whether another request has waited for the same, and is not answered yet: the node gives up for
    /// all when it does for one, and what that gets instead may take its time.
    fn others_have_waited(&self, request: Shows, jumped: u64) -> bool {
        let same = |other: Shows| {
            other.as_configured
                && (other.by, other.of, other.shown) == (request.by, request.of, request.shown)
                && other.has_waited(self.now, jumped)
        };
        self.clients.open_shows().any(same)
            || self.failover.iter().flat_map(Failover::open_shows).any(same)
    }

    /// A node has answered.
    pub(super) fn note_shown(&mut self, request: Shows, reply: &Reply) {
        let key = (request.by, request.of.0, request.of.1);
        let at = reply.done_at().map(|at| at.index);
        if request.as_configured && at.is_none_or(|at| at < request.shown) {
            let jumped = self.hosts.iter().map(|host| host.jumped).max().unwrap_or_default();
            let waited =
                request.has_waited(self.now, jumped) || self.others_have_waited(request, jumped);
            let furthest = self.clients.shown.0.entry(key).or_default();
            if furthest.given_up.is_some_and(|given_up| given_up >= request.at) {
                // The node gave up before the one for which it did was answered: this one was handed
                // to it in between, and need not have waited.
            } else if waited && furthest.at == request.shown {
                // It has given up what it waited for, also if what it read instead has failed.
                self.counts.add(Count::ShownGivenUp);
                *furthest = Furthest { at: Index::ZERO, given_up: Some(self.now) };
            } else if let Some(at) = at.filter(|_| !waited) {
                self.late.push(Late::TakenBack(request.of, at, request.shown));
            }
        }
        if let Some(at) = at {
            let shown = self.clients.shown.0.entry(key).or_default();
            shown.at = at.max(shown.at);
        }
    }
}
