//! The full sweep: everything that is committed is still where it cannot be lost.

use quorate_core::{Index, LogId, NodeId};

use super::quorum::is_enough;
use super::{Checks, Ledger};
use crate::disk::{Directory, Disks, Shadow};
use crate::outcome::{Verdict, Violation};

impl Checks {
    /// Looks at every cluster and every disk.
    ///
    /// # Errors
    /// `committed-can-be-lost` if the voters whose disks lack a committed entry could elect one of
    /// themselves, `disks-diverged` if a disk holds another entry where one is known to be
    /// committed there, `dissolved-in-a-circle`, `acknowledged-lost`.
    pub fn sweep(&self, disks: &Disks) -> Verdict {
        for ledger in self.ledgers() {
            cannot_be_lost(ledger, disks)?;
            self.no_circle(ledger)?;
        }
        for ledger in self.shards() {
            let document = self.known(ledger.cluster).and_then(|known| known.document());
            if document.is_none_or(|document| document.shard_of(ledger.log).is_none()) {
                // Its database was dropped.
                continue;
            }
            cannot_be_lost(ledger, disks)?;
        }
        for (_, directory) in disks.iter().filter(|(_, d)| d.gone.is_none()) {
            self.agrees(directory)?;
        }
        self.all_acknowledged_held()
    }

    fn agrees(&self, directory: &Directory) -> Verdict {
        let Some(cluster) = directory.durable_log.cluster else { return Ok(()) };
        let shards = directory.durable_shards.values();
        let shards = shards.filter_map(|log| self.shard(cluster, log.log).map(|l| (log, l)));
        let own = self.known(cluster).map(|ledger| (&directory.durable_log, ledger));
        let mut all = own.into_iter().chain(shards);
        all.try_for_each(|(log, ledger)| has_what_is_committed(directory.node, log, ledger))
    }

    fn no_circle(&self, ledger: &Ledger) -> Verdict {
        let mut at = ledger;
        for _ in 0..=self.ledgers().len() {
            let next = at.document().and_then(|held| held.dissolved_into.as_ref());
            let Some(next) = next.and_then(|to| self.known(to.into)) else { return Ok(()) };
            at = next;
        }
        let detail = format!("{:?} and those it dissolved into", ledger.cluster);
        Err(Violation::new("dissolved-in-a-circle", detail))
    }
}

fn has_what_is_committed(node: NodeId, log: &Shadow, ledger: &Ledger) -> Verdict {
    if log.hard.commit < ledger.base() {
        return Ok(());
    }
    let to = log.hard.commit.min(log.last_index()).min(ledger.commit());
    let Some(term) = ledger.committed_term(to) else { return Ok(()) };
    if log.covers(to, term) {
        return Ok(());
    }
    let detail = format!(
        "{node:?} holds entry {to} of {:?} of {:?} as committed, which is of term {term}",
        log.term_at(to),
        log.log
    );
    Err(Violation::new("disks-diverged", detail))
}

/// Those who could still vote and lack the last committed entry must not be enough to elect one of
/// their own. Whoever has ended for good votes for nobody.
fn cannot_be_lost(ledger: &Ledger, disks: &Disks) -> Verdict {
    let commit = ledger.commit();
    let Some(term) = ledger.committed_term(commit) else { return Ok(()) };
    let is_shard = ledger.log != LogId::CONFIGURATION;
    if is_shard && commit == Index(1) {
        // Whoever has not begun the log yet does not vote in it.
        return Ok(());
    }
    let Some(governing) = &ledger.governing else { return Ok(()) };
    let lacks = |id: NodeId| {
        disks.of(id).is_some_and(|directory| {
            let held = directory.durable_log_of(ledger.log);
            // It may hold it for another cluster.
            let member = !is_shard || directory.durable_log.cluster == Some(ledger.cluster);
            let votes = !directory.abstains_from(ledger.log);
            member && votes && !held.is_some_and(|log| log.covers(commit, term))
        })
    };
    if !is_enough(governing, &lacks) {
        return Ok(());
    }
    let lacking: Vec<NodeId> = governing.voters().into_iter().filter(|id| lacks(*id)).collect();
    let detail = format!(
        "entry {commit} of term {term} of {:?} of {:?} is missing at {lacking:?}, who can decide \
         under {governing:?}",
        ledger.log, ledger.cluster
    );
    Err(Violation::new("committed-can-be-lost", detail))
}
