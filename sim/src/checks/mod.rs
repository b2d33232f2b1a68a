//! The invariants: what must hold whatever the world does to the nodes.
//!
//! Every check judges by the disks and by what is sent, never by what a node says of itself, and
//! what is enough it works out for itself. Incremental checks follow every event; a sweep looks at
//! everything from time to time. Each check is a function of plain values, so that a test can hand
//! it a history that is wrong and see it found.

mod content;
pub mod copies;
mod decisions;
mod documents;
pub mod guarantees;
pub mod histories;
mod ledger;
mod messages;
pub mod quorum;
mod sessions;
mod sweep;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_of_copies;
#[cfg(test)]
mod tests_of_sessions;
pub mod workloads;
mod writes;

use std::collections::BTreeMap;

pub use content::{Content, Stages, restores, total};
pub use decisions::Mind;
pub use documents::{Acknowledged, RunView};
pub use ledger::{Ledger, Written};
pub use quorate_core::ClusterId;
use quorate_core::{LogId, NodeId, Term};
pub use sessions::{Meant, Sent};

use crate::outcome::{Verdict, Violation};

/// Everything the checks remember.
#[derive(Debug, Default)]
pub struct Checks {
    ledgers: Vec<Ledger>,
    /// Those of the logs of shards.
    shards: BTreeMap<(ClusterId, LogId), Ledger>,
    /// Every vote that was ever sent.
    votes: BTreeMap<(NodeId, LogId, Term), NodeId>,
    /// What clients did and saw.
    pub workloads: workloads::Workloads,
    /// What is known of copies.
    copies: copies::Known,
    /// The time, in nanoseconds.
    pub now: u64,
    acknowledged: Vec<Acknowledged>,
    /// Clusters that an operator has given up, and the one that a survivor went on with.
    given_up: Vec<(ClusterId, ClusterId)>,
}

/// The most outputs one input may cause.
pub const OUTPUTS_MAX: usize = 4_096;
/// The most batches that may be outstanding.
pub const PENDING_MAX: usize = 512;
/// The most dials under way at once.
pub const DIALS_MAX: usize = 256;

impl Checks {
    /// The ledger of a cluster; a new one if nothing is known of it yet.
    pub fn ledger(&mut self, cluster: ClusterId) -> &mut Ledger {
        let known = self.ledgers.iter().position(|ledger| ledger.cluster == cluster);
        let place = known.unwrap_or_else(|| {
            self.ledgers.push(Ledger::new(cluster, LogId::CONFIGURATION));
            self.ledgers.len() - 1
        });
        &mut self.ledgers[place]
    }

    /// The ledger of a cluster, if anything is known of it.
    #[must_use]
    pub fn known(&self, cluster: ClusterId) -> Option<&Ledger> {
        self.ledgers.iter().find(|ledger| ledger.cluster == cluster)
    }

    /// The ledger of a log of a cluster; a new one if nothing is known of it yet.
    pub fn ledger_of(&mut self, cluster: ClusterId, log: LogId) -> &mut Ledger {
        match log {
            LogId::CONFIGURATION => self.ledger(cluster),
            log => {
                let new = || Ledger::new(cluster, log);
                self.shards.entry((cluster, log)).or_insert_with(new)
            }
        }
    }

    /// The ledger of a shard's log, if anything is known of it.
    #[must_use]
    pub fn shard(&self, cluster: ClusterId, log: LogId) -> Option<&Ledger> {
        self.shards.get(&(cluster, log))
    }

    /// All logs of shards.
    pub fn shards(&self) -> impl Iterator<Item = &Ledger> {
        self.shards.values()
    }

    /// The logs of a cluster's shards.
    pub fn shards_of(&self, cluster: ClusterId) -> impl Iterator<Item = &Ledger> {
        let all = (cluster, LogId(0))..=(cluster, LogId(u64::MAX));
        self.shards.range(all).map(|(_, ledger)| ledger)
    }

    /// A shard's log goes on in a cluster that a survivor went on with.
    pub fn carries_over(&mut self, ledger: Ledger) {
        self.shards.insert((ledger.cluster, ledger.log), ledger);
    }

    /// An operator has given `from` up; `ledger` begins with what its survivor held.
    pub fn recovers(&mut self, from: ClusterId, ledger: Ledger) {
        self.given_up.push((from, ledger.cluster));
        self.ledgers.push(ledger);
    }

    /// Whether an operator has given the cluster up.
    #[must_use]
    pub fn is_given_up(&self, cluster: ClusterId) -> bool {
        self.given_up.iter().any(|(from, _)| *from == cluster)
    }

    /// All of them, in the order in which they were founded.
    #[must_use]
    pub fn ledgers(&self) -> &[Ledger] {
        &self.ledgers
    }
}

/// Whether a queue is within its bound.
///
/// # Errors
/// `queue-unbounded`.
pub fn bounded(node: NodeId, what: &str, length: usize, bound: usize) -> Verdict {
    if length <= bound {
        return Ok(());
    }
    let detail = format!("{node:?} has {length} {what}, allowed are {bound}");
    Err(Violation::new("queue-unbounded", detail))
}
