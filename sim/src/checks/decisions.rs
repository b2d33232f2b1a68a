//! Who leads, and what is committed: both judged by the disks.

use std::collections::BTreeSet;
use std::sync::Arc;

use quorate_core::raft::Membership;
use quorate_core::{Index, NodeId, Term};

use super::quorum::{Sway, decides};
use super::{Checks, Ledger};
use crate::disk::{Directory, Disks, Shadow};
use crate::outcome::{Verdict, Violation};

/// What a node goes by when it decides: its log in memory may be ahead of what it has handed out
/// to be written.
#[derive(Clone, Copy)]
pub struct Mind<'a> {
    /// Its log as handed out.
    pub log: &'a Shadow,
    /// The terms of the entries in memory.
    pub term_at: &'a dyn Fn(Index) -> Option<Term>,
    /// The membership in memory.
    pub membership: Option<&'a Membership>,
}

impl<'a> Mind<'a> {
    fn term(&self, index: Index) -> Option<Term> {
        (self.term_at)(index).or_else(|| self.log.term_at(index))
    }

    fn covers(&self, index: Index, term: Term) -> bool {
        match (self.term_at)(index) {
            Some(at) => at == term,
            None => self.log.covers(index, term),
        }
    }

    /// The memberships it may have decided under: that before the event that is under way, and
    /// those which came into force during it.
    fn memberships(&self) -> impl Iterator<Item = &'a Membership> {
        let log = self.log;
        let written = [log.previous_membership(), log.membership()].into_iter().flatten();
        written.map(AsRef::as_ref).chain(self.membership)
    }
}

impl Checks {
    /// The owner of `directory` has become the leader of `term`.
    ///
    /// # Errors
    /// `two-leaders` in one term, `leader-without-quorum` if the durable votes of the voters do not
    /// suffice, `leader-incomplete` if its log lacks a committed entry.
    pub fn leads(
        &mut self,
        disks: &Disks,
        directory: &Directory,
        mind: Mind<'_>,
        term: Term,
    ) -> Result<Sway, Violation> {
        let node = directory.node;
        let Some(cluster) = mind.log.cluster else {
            let detail = format!("{node:?} leads in term {term} without a cluster");
            return Err(Violation::new("leader-without-cluster", detail));
        };
        let log = mind.log.log;
        let ledger = self.ledger_of(cluster, log);
        let known = *ledger.leaders.entry(term).or_insert(node);
        if known != node {
            let detail = format!("{known:?} and {node:?} in term {term} of {log:?} of {cluster:?}");
            return Err(Violation::new("two-leaders", detail));
        }
        complete(ledger, node, mind, term)?;
        let voted = |id: NodeId| disks.voted(id, log, term, node);
        let governed = governing(mind, &voted);
        let Some((_, sway)) = governed else {
            let detail = format!(
                "{node:?} leads {log:?} in term {term}, durable votes are those of {:?} under {:?}",
                who(mind, &voted),
                mind.membership
            );
            return Err(Violation::new("leader-without-quorum", detail));
        };
        Ok(sway)
    }

    /// The owner of `directory` has advanced its commit index to `to`, as the leader of `led` or
    /// as one who was told.
    ///
    /// # Errors
    /// `commit-by-old-term` if a leader commits an entry that is not of its own term,
    /// `commit-without-quorum` if the disks of the governing voters do not hold it,
    /// `commit-invented` if one who was told knows of more than leaders committed,
    /// `commit-diverged` if what it takes for committed is another entry.
    pub fn commits(
        &mut self,
        disks: &Disks,
        directory: &Directory,
        mind: Mind<'_>,
        to: Index,
        led: Option<Term>,
    ) -> Result<Option<Sway>, Violation> {
        let node = directory.node;
        let Some(cluster) = mind.log.cluster else {
            let detail = format!("{node:?} commits {to} without a cluster");
            return Err(Violation::new("commit-without-cluster", detail));
        };
        let now = self.now;
        let of = (cluster, mind.log.log);
        let ledger = self.ledger_of(of.0, of.1);
        let began = ledger.content.began(Index(u64::MAX));
        let mut decided = None;
        if to > ledger.commit() {
            let Some(term) = led.or_else(|| founds(ledger, node, mind, to)) else {
                let detail = format!(
                    "{node:?} takes {to} for committed, the leaders have committed {}",
                    ledger.commit()
                );
                return Err(Violation::new("commit-invented", detail));
            };
            decided = Some(decide(ledger, disks, node, mind, (to, term), now)?);
        }
        diverged(ledger, node, mind, to)?;
        if ledger.content.began(Index(u64::MAX)) > began {
            self.restored(of)?;
        }
        Ok(decided)
    }
}

/// The term of the entries with which `node` founds its cluster: it is the only voter, and its own
/// disk is all that it takes.
fn founds(ledger: &Ledger, node: NodeId, mind: Mind<'_>, to: Index) -> Option<Term> {
    let alone = mind.log.membership_at(to).is_some_and(|m| m.voters().into_iter().eq([node]));
    if ledger.commit() == Index::ZERO && alone { mind.term(to) } else { None }
}

/// A leader commits up to `to`: by an entry of its own term, held by a quorum of disks.
fn decide(
    ledger: &mut Ledger,
    disks: &Disks,
    node: NodeId,
    mind: Mind<'_>,
    (to, term): (Index, Term),
    now: u64,
) -> Result<Sway, Violation> {
    let at = mind.term(to);
    if at != Some(term) {
        let detail = format!("{node:?}, leader of term {term}, commits {to}, which is of {at:?}");
        return Err(Violation::new("commit-by-old-term", detail));
    }
    let holds = |id: NodeId| disks.holds(id, mind.log.log, to, term);
    let Some((membership, sway)) = governing(mind, &holds) else {
        let detail = format!(
            "{node:?} commits {to} of term {term}, which is durable only at {:?} under {:?}",
            who(mind, &holds),
            mind.membership
        );
        return Err(Violation::new("commit-without-quorum", detail));
    };
    ledger.held_by(to, membership.voters().into_iter().filter(|id| holds(*id)).collect());
    ledger.governing = Some(membership);
    while ledger.commit() < to {
        let next = ledger.commit().next();
        let Some(at) = mind.term(next) else {
            let detail = format!("{node:?} commits {to} without knowing {next}");
            return Err(Violation::new("commit-of-unknown-entry", detail));
        };
        ledger.extend(at, term, now)?;
    }
    Ok(sway)
}

/// The membership under which those who agree decide.
fn governing(mind: Mind<'_>, agrees: &dyn Fn(NodeId) -> bool) -> Option<(Arc<Membership>, Sway)> {
    mind.memberships().find_map(|membership| {
        let sway = decides(membership, agrees);
        (sway != Sway::No).then(|| (Arc::new(membership.clone()), sway))
    })
}

fn who(mind: Mind<'_>, agrees: &dyn Fn(NodeId) -> bool) -> Vec<NodeId> {
    let voters: BTreeSet<NodeId> = mind.memberships().flat_map(|m| m.voters()).collect();
    voters.into_iter().filter(|id| agrees(*id)).collect()
}

/// Whether every entry that was committed in an earlier term is in this log: that the last one is,
/// with its term, implies the others, since no two logs disagree before an entry they share. A
/// leader that learns late of its election may lack what a later one has committed; that does no
/// harm.
fn complete(ledger: &Ledger, node: NodeId, mind: Mind<'_>, led: Term) -> Verdict {
    let Some((commit, term)) = ledger.committed_before(led) else { return Ok(()) };
    if mind.covers(commit, term) {
        return Ok(());
    }
    let log = mind.log;
    let detail = format!(
        "{node:?} leads {:?}, but its log (to {} of term {}) lacks the committed entry {commit} of \
         term {term}",
        ledger.cluster,
        log.last_index(),
        log.last_term()
    );
    Err(Violation::new("leader-incomplete", detail))
}

fn diverged(ledger: &Ledger, node: NodeId, mind: Mind<'_>, to: Index) -> Verdict {
    let Some(term) = ledger.committed_term(to) else { return Ok(()) };
    if mind.covers(to, term) {
        return Ok(());
    }
    let detail = format!(
        "{node:?} takes its entry {to} of {:?} for committed, which is of term {term}",
        mind.term(to)
    );
    Err(Violation::new("commit-diverged", detail))
}
