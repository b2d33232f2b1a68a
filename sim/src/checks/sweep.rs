//! The full sweep: everything that is committed is still where it cannot be lost.

use quorate_core::NodeId;

use super::quorum::is_enough;
use super::{Checks, Ledger};
use crate::disk::{Directory, Disks};
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
        for (_, directory) in disks.iter().filter(|(_, d)| d.gone.is_none()) {
            self.agrees(directory)?;
        }
        self.all_acknowledged_held()
    }

    fn agrees(&self, directory: &Directory) -> Verdict {
        let log = &directory.durable_log;
        let Some(ledger) = log.cluster.and_then(|cluster| self.known(cluster)) else {
            return Ok(());
        };
        let to = log.hard.commit.min(log.last_index()).min(ledger.commit());
        let Some(term) = ledger.committed_term(to) else { return Ok(()) };
        if log.covers(to, term) {
            return Ok(());
        }
        let detail = format!(
            "{:?} holds entry {to} of {:?} as committed, which is of term {term}",
            directory.node,
            log.term_at(to)
        );
        Err(Violation::new("disks-diverged", detail))
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

/// Those who could still vote and lack the last committed entry must not be enough to elect one of
/// their own. Whoever has ended for good votes for nobody.
fn cannot_be_lost(ledger: &Ledger, disks: &Disks) -> Verdict {
    let commit = ledger.commit();
    let Some(term) = ledger.committed_term(commit) else { return Ok(()) };
    let Some(governing) = &ledger.governing else { return Ok(()) };
    let lacks = |id: NodeId| {
        disks.of(id).is_some_and(|directory| !directory.durable_log.covers(commit, term))
    };
    if !is_enough(governing, &lacks) {
        return Ok(());
    }
    let lacking: Vec<NodeId> = governing.voters().into_iter().filter(|id| lacks(*id)).collect();
    let detail = format!(
        "entry {commit} of term {term} of {:?} is missing at {lacking:?}, who can decide under \
         {governing:?}",
        ledger.cluster
    );
    Err(Violation::new("committed-can-be-lost", detail))
}
