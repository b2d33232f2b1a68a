//! What a node writes: nothing durable goes back, and no two logs disagree about an entry.

use quorate_core::raft::{Entry, Payload};
use quorate_core::{ClusterId, HardState, Index, LogId, StorageOp, Term};

use super::Checks;
use super::quorum::are_disjoint;
use crate::disk::{Directory, Shadow};
use crate::outcome::{Verdict, Violation};

impl Checks {
    /// A node hands out an operation; `directory` is as before it, `commit` the node's commit index,
    /// `cluster` the one it belongs to with all operations of the batch.
    ///
    /// # Errors
    /// `term-regressed`, `vote-changed`, `commit-regressed`, `committed-entry-cut`,
    /// `cluster-changed`, `starts-rewritten`, `log-gap`, `log-without-cluster`, `log-matching`,
    /// `quorums-disjoint`, `membership-version-regressed`, `snapshot-regressed`,
    /// `log-dropped`, `leftover-log-adopted`, `identity-changed`.
    pub fn writes(
        &mut self,
        directory: &Directory,
        commit: Index,
        cluster: Option<ClusterId>,
        op: &StorageOp,
    ) -> Verdict {
        let log = &directory.written_log;
        match op {
            StorageOp::Identity(identity) => {
                if identity.node != directory.node {
                    let detail =
                        format!("{:?} writes that it is {:?}", directory.node, identity.node);
                    return Err(Violation::new("identity-changed", detail));
                }
                if log.cluster.is_some() && identity.cluster != log.cluster {
                    let detail = format!(
                        "{:?} leaves {:?} for {:?} without a new id",
                        directory.node, log.cluster, identity.cluster
                    );
                    return Err(Violation::new("cluster-changed", detail));
                }
                if log.cluster.is_none() && identity.cluster.is_some() && log.has_leftover() {
                    let detail = format!(
                        "{:?} takes what a founding left ({:?}, log to {}) for its log of {:?}",
                        directory.node,
                        log.hard,
                        log.last_index(),
                        identity.cluster
                    );
                    return Err(Violation::new("leftover-log-adopted", detail));
                }
                let kept = &directory.durable.identity.starts;
                let forgotten = kept.iter().find(|start| !identity.knows_start(**start));
                if let Some(start) = forgotten {
                    let detail = format!("{:?} forgets its start {start:?}", directory.node);
                    return Err(Violation::new("starts-rewritten", detail));
                }
                Ok(())
            }
            StorageOp::HardState { log: which, state } => {
                let Some(held) = directory.written(*which) else { return Ok(()) };
                // Without a cluster there was no log: what is there is left of a founding.
                log.cluster.map_or(Ok(()), |_| hard_state(directory, held, state))
            }
            StorageOp::Append { log: which, entries } => {
                let empty = Shadow::empty(*which, log.cluster);
                let held = directory.written(*which).unwrap_or(&empty);
                if *which != LogId::CONFIGURATION {
                    self.not_begun_anew(directory, held)?;
                }
                self.append(directory, held, commit, cluster, entries)
            }
            StorageOp::Truncate { log: which, from } => {
                let Some(held) = directory.written(*which) else { return Ok(()) };
                not_cut(directory, held, *from, commit.max(held.hard.commit))
            }
            StorageOp::Snapshot { log: which, snapshot, .. } => {
                let Some(held) = directory.written(*which) else { return Ok(()) };
                snapshot_goes_on(directory, held, snapshot.index)
            }
            // That of a shard: judged by the document, see `drops`.
            StorageOp::DropLog { log: LogId::CONFIGURATION } if log.cluster.is_some() => {
                let detail = format!("{:?} drops its log of {:?}", directory.node, log.cluster);
                Err(Violation::new("log-dropped", detail))
            }
            _ => Ok(()),
        }
    }

    fn append(
        &mut self,
        directory: &Directory,
        log: &Shadow,
        commit: Index,
        cluster: Option<ClusterId>,
        entries: &[Entry],
    ) -> Verdict {
        let Some(cluster) = cluster else {
            let detail = format!("{:?} writes entries without a cluster", directory.node);
            return Err(Violation::new("log-without-cluster", detail));
        };
        let founds = log.cluster.is_none();
        let ledger = self.ledger_of(cluster, log.log);
        let Some(first) = entries.first() else { return Ok(()) };
        let Some(mut previous) = log.term_at(first.index.previous()) else {
            let detail = format!(
                "{:?} appends at {}, its log ends at {}",
                directory.node,
                first.index,
                log.last_index()
            );
            return Err(Violation::new("log-gap", detail));
        };
        let committed = if founds { Index::ZERO } else { commit.max(log.hard.commit) };
        entries_follow(directory, log, committed, entries)?;
        let mut membership = log.membership_at(first.index.previous()).cloned();
        for entry in entries {
            ledger.write(previous, entry)?;
            previous = entry.term;
            if let Payload::Membership(next) = &entry.payload {
                // A survivor that was recovered goes on alone, whatever the membership was.
                if let Some(before) = membership.as_ref().filter(|_| entry.index > ledger.base()) {
                    adjacent(directory, entry.index, before, next)?;
                }
                membership = Some(std::sync::Arc::new(next.clone()));
            }
        }
        Ok(())
    }

    /// A snapshot that was written holds only what was committed. To be asked once all that
    /// happened at the same moment is known: a leader may commit and compact at once.
    ///
    /// # Errors
    /// `snapshot-of-uncommitted`.
    pub fn snapshots(
        &mut self,
        directory: &Directory,
        log: LogId,
        index: Index,
        term: Term,
    ) -> Verdict {
        let Some(cluster) = directory.written_log.cluster else { return Ok(()) };
        let ledger = self.ledger_of(cluster, log);
        // Of what a recovery began with nobody knows more than its end.
        let before = log != LogId::CONFIGURATION && index < ledger.base();
        let committed = ledger.committed_term(index);
        if before || committed == Some(term) {
            return Ok(());
        }
        let detail = format!(
            "{:?} writes a snapshot of {log:?} at {index} of term {term}, committed there: {committed:?}",
            directory.node
        );
        Err(Violation::new("snapshot-of-uncommitted", detail))
    }
}

fn snapshot_goes_on(directory: &Directory, log: &Shadow, index: Index) -> Verdict {
    let base = log.base;
    if index >= base {
        return Ok(());
    }
    let detail = format!("{:?} goes back from its snapshot at {base} to {index}", directory.node);
    Err(Violation::new("snapshot-regressed", detail))
}

fn hard_state(directory: &Directory, log: &Shadow, after: &HardState) -> Verdict {
    let (node, before) = (directory.node, &log.hard);
    if after.term < before.term {
        let detail = format!("{node:?} writes term {} after {}", after.term, before.term);
        return Err(Violation::new("term-regressed", detail));
    }
    let vote = directory.votes.get(&(log.log, after.term)).copied();
    let vote = vote.or(before.vote.filter(|_| after.term == before.term));
    if vote.is_some() && after.vote != vote {
        let detail = format!(
            "{node:?} voted for {vote:?} in term {} and writes {:?} in its place",
            after.term, after.vote
        );
        return Err(Violation::new("vote-changed", detail));
    }
    if after.commit < before.commit {
        let detail = format!("{node:?} writes commit {} after {}", after.commit, before.commit);
        return Err(Violation::new("commit-regressed", detail));
    }
    Ok(())
}

fn not_cut(directory: &Directory, log: &Shadow, from: Index, commit: Index) -> Verdict {
    if from > commit {
        return Ok(());
    }
    let (node, log) = (directory.node, log.log);
    let detail = format!("{node:?} cuts its {log:?} at {from}, committed is {commit}");
    Err(Violation::new("committed-entry-cut", detail))
}

/// The entries are consecutive, their terms do not fall, and what is committed stays.
fn entries_follow(
    directory: &Directory,
    log: &Shadow,
    commit: Index,
    entries: &[Entry],
) -> Verdict {
    let mut expected = entries.first().map_or(Index::ZERO, |e| e.index);
    let mut term = Term::ZERO;
    for entry in entries {
        if entry.index != expected || entry.term < term {
            let detail = format!(
                "{:?} appends entry {} of term {} where {expected} of term {term} or later is due",
                directory.node, entry.index, entry.term
            );
            return Err(Violation::new("log-gap", detail));
        }
        if entry.index <= commit && log.term_at(entry.index).is_some_and(|t| t != entry.term) {
            return not_cut(directory, log, entry.index, commit);
        }
        expected = entry.index.next();
        term = entry.term;
    }
    let last = expected.previous();
    if last < commit && last < log.last_index() {
        return not_cut(directory, log, expected, commit);
    }
    Ok(())
}

/// Any two decisions, one under the membership before and one under that after, share a voter.
fn adjacent(
    directory: &Directory,
    index: Index,
    before: &quorate_core::raft::Membership,
    after: &quorate_core::raft::Membership,
) -> Verdict {
    let node = directory.node;
    if after.version < before.version {
        let detail = format!(
            "{node:?} writes a membership of version {} at {index} after one of version {}",
            after.version, before.version
        );
        return Err(Violation::new("membership-version-regressed", detail));
    }
    let same = before.incoming == after.incoming && before.outgoing == after.outgoing;
    if let Some((one, other)) = (!same).then(|| are_disjoint(before, after)).flatten() {
        let detail = format!(
            "{node:?} writes at {index} a membership under which {other:?} can decide without \
             {one:?}, who could decide before: {before:?} -> {after:?}"
        );
        return Err(Violation::new("quorums-disjoint", detail));
    }
    Ok(())
}
