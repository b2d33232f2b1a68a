//! Copies of shards: how their logs begin, who votes in them, who is `ONLINE`, and what was
//! acknowledged, judged by the disks.

use std::collections::{BTreeMap, BTreeSet};

use quorate_core::configuration::{Configuration, QuorumRule, Role};
use quorate_core::engine::Position;
use quorate_core::raft::{Membership, Snapshot};
use quorate_core::{ClusterId, ConfigVersion, Index, LogId, NodeId, Term};

use super::Checks;
use crate::disk::{Directory, Disks, Shadow};
use crate::outcome::{Verdict, Violation};

/// What is remembered of copies.
#[derive(Debug, Default)]
pub struct Known {
    /// Who has ever held which log durably.
    held: BTreeSet<(NodeId, LogId)>,
    /// Grants that were judged when they were asked for.
    grants: BTreeSet<(ClusterId, LogId, NodeId, ConfigVersion)>,
    /// What was brought to which cluster, by the cluster and the log it comes from.
    brought: BTreeSet<(ClusterId, ClusterId, LogId)>,
    /// When each log of a node last held all that was committed.
    whole: BTreeMap<(ClusterId, LogId, NodeId), u64>,
}

/// A grant of `ONLINE`.
#[derive(Clone, Copy, Debug)]
pub struct Grant {
    /// In which cluster.
    pub cluster: ClusterId,
    /// Of which shard.
    pub log: LogId,
    /// To whose copy.
    pub node: NodeId,
    /// By which version of the document.
    pub judged_at: ConfigVersion,
}

/// A batch that an owner has acknowledged.
#[derive(Clone, Copy, Debug)]
pub struct Promise {
    /// Of which log.
    pub log: LogId,
    /// As which entry.
    pub at: Position,
    /// From here on the owner knows what governs an entry: an answer to an earlier one, which a
    /// session repeats, goes by what governs this place.
    pub known_from: Index,
    /// What the owner goes by.
    pub rule: QuorumRule,
    /// Whether the commit of the log is all that was asked for.
    pub asynchronous: bool,
}

impl Checks {
    /// A node begins to write a log from its first entry.
    ///
    /// # Errors
    /// `log-begun-anew` if it has held the log before: it would have forgotten what it promised.
    pub fn not_begun_anew(&self, directory: &Directory, log: &Shadow) -> Verdict {
        let (node, which) = (directory.node, log.log);
        if log.last_index() > Index::ZERO || !self.copies.held.contains(&(node, which)) {
            return Ok(());
        }
        let detail = format!("{node:?} begins {which:?}, which it has held before");
        Err(Violation::new("log-begun-anew", detail))
    }

    /// A node drops the log of a shard.
    ///
    /// # Errors
    /// `shard-log-dropped` if the shard is still there, or never was.
    pub fn drops(&self, node: NodeId, cluster: ClusterId, log: LogId) -> Verdict {
        let document = self.known(cluster).and_then(|ledger| ledger.document());
        let gone = |d: &Configuration| log <= d.last_log && d.shard_of(log).is_none();
        if document.is_some_and(gone) {
            return Ok(());
        }
        let detail = format!("{node:?} drops {log:?} of {cluster:?}");
        Err(Violation::new("shard-log-dropped", detail))
    }

    /// What is durable in a directory has changed.
    pub fn holds_now(&mut self, directory: &Directory) {
        for (log, held) in &directory.durable_shards {
            if held.last_index() > Index::ZERO {
                self.copies.held.insert((directory.node, *log));
            }
        }
    }

    /// A log of a directory has grown, or what is committed in it has.
    pub fn is_whole_now(&mut self, directory: &Directory, log: LogId) {
        let Some(cluster) = directory.durable_log.cluster else { return };
        let Some(ledger) = self.shards.get(&(cluster, log)) else { return };
        let commit = ledger.commit();
        let Some(term) = ledger.committed_term(commit) else { return };
        if directory.durable_log_of(log).is_some_and(|held| held.covers(commit, term)) {
            self.copies.whole.insert((cluster, log, directory.node), self.now);
        }
    }

    /// More of a log is about to be committed, up to `commit`, as the node in `directory` says: what
    /// is whole stays so until then.
    pub fn were_whole(&mut self, disks: &Disks, directory: &Directory, log: LogId, commit: Index) {
        let cluster = directory.written_log.cluster;
        let ledger = cluster.and_then(|cluster| self.shard(cluster, log));
        if ledger.is_some_and(|ledger| commit > ledger.commit()) {
            self.are_whole_now(disks, log);
        }
    }

    /// The same for all directories.
    pub fn are_whole_now(&mut self, disks: &Disks, log: LogId) {
        for (_, directory) in disks.iter().filter(|(_, d)| d.gone.is_none()) {
            self.is_whole_now(directory, log);
        }
    }

    /// A node writes the first entry of a shard's log.
    ///
    /// # Errors
    /// `founded-otherwise` if no committed version of the document says that the log begins so.
    pub fn begins(
        &mut self,
        node: NodeId,
        (cluster, log): (ClusterId, LogId),
        first: &Membership,
        term: Term,
    ) -> Verdict {
        if self.ledger_of(cluster, log).commit() > Index::ZERO {
            // The same entry, or the log would not match.
            return Ok(());
        }
        let document = self.known(cluster).and_then(|l| l.version(first.version));
        let shard = document.and_then(|document| document.shard_of(log));
        let founding = shard.and_then(|shard| shard.shard.founding.as_ref());
        if founding.is_none_or(|founding| founding.first != *first) {
            let detail = format!("{node:?} begins {log:?} of {cluster:?} with {first:?}");
            return Err(Violation::new("founded-otherwise", detail));
        }
        let now = self.now;
        let ledger = self.ledger_of(cluster, log);
        ledger.governing = Some(std::sync::Arc::new(first.clone()));
        ledger.extend(term, term, now)
    }

    /// A node begins a shard's log behind what it brings from its former cluster.
    ///
    /// # Errors
    /// `founded-otherwise` if no committed version of the document says that the log begins so,
    /// `brought-undissolved` if the shard's former cluster goes on, `brought-twice`.
    pub fn imports(
        &mut self,
        node: NodeId,
        (cluster, log): (ClusterId, LogId),
        base: &Snapshot,
    ) -> Verdict {
        // Its database may have been dropped, which the node does not know yet.
        let Some(document) = self.known(cluster).and_then(|ledger| ledger.last_with(log)) else {
            return Ok(());
        };
        let founding = document.shard_of(log).and_then(|shard| shard.shard.founding.as_ref());
        let Some((founding, origin)) = founding.and_then(|f| Some((f, f.origin?))) else {
            return Ok(()); // A full copy of one that goes on.
        };
        let mine = founding.first.incoming.voters.contains(&node);
        if base.index > Index(1) || !mine {
            return Ok(());
        }
        let wrong = |invariant| {
            let detail = format!("{node:?} begins {log:?} of {cluster:?} with {origin:?}");
            Err(Violation::new(invariant, detail))
        };
        if founding.first != base.membership {
            return wrong("founded-otherwise");
        }
        let former = self.known(origin.cluster).and_then(|ledger| ledger.document());
        if former.is_none_or(|held| held.dissolved_into.is_none()) {
            return wrong("brought-undissolved");
        }
        if !self.copies.brought.insert((cluster, origin.cluster, origin.log)) {
            return match self.shards.get(&(cluster, log)).is_some_and(|l| l.commit() > base.index) {
                true => wrong("brought-twice"),
                false => Ok(()), // A crash has cut the first short.
            };
        }
        let Some(old) = self.shards.get(&(origin.cluster, origin.log)) else {
            return wrong("brought-undissolved");
        };
        let ledger = old.brought(cluster, log, base);
        self.shards.insert((cluster, log), ledger);
        self.carry_answers((origin.cluster, origin.log), (cluster, log));
        Ok(())
    }

    /// The membership of a shard's log changes.
    ///
    /// # Errors
    /// `replica-votes` if a voter is added that is no master with a place, `voter-dropped` if one is
    /// taken out that is: what its copy is worth does not depend on whether it is there.
    pub fn shard_membership(
        &self,
        node: NodeId,
        (cluster, log): (ClusterId, LogId),
        before: &Membership,
        after: &Membership,
    ) -> Verdict {
        let ledger = self.known(cluster);
        if ledger.is_some_and(|ledger| ledger.is_before(after.version)) {
            return Ok(());
        }
        let Some(document) = ledger.and_then(|ledger| ledger.version(after.version)) else {
            let detail = format!("{node:?} writes a membership of {log:?} by {}", after.version);
            return Err(Violation::new("membership-of-uncommitted-version", detail));
        };
        let Some(masters) = masters(document, log) else { return Ok(()) };
        let (old, new) = (&before.incoming.voters, &after.incoming.voters);
        if let Some(added) = new.difference(old).find(|id| !masters.contains(id)) {
            let detail = format!("{node:?} lets {added:?} vote in {log:?}, by {}", after.version);
            return Err(Violation::new("replica-votes", detail));
        }
        if let Some(dropped) = old.difference(new).find(|id| masters.contains(id)) {
            let detail = format!(
                "{node:?} takes the vote in {log:?} from {dropped:?}, by {}: {before:?} -> {after:?}",
                after.version
            );
            return Err(Violation::new("voter-dropped", detail));
        }
        Ok(())
    }

    /// The leader of a shard's log asks for `ONLINE` for a copy; it had committed up to `commit`.
    ///
    /// # Errors
    /// `online-behind` if that copy does not hold what was committed.
    pub fn asks_online(
        &mut self,
        disks: &Disks,
        leader: NodeId,
        grant: Grant,
        commit: Index,
    ) -> Verdict {
        let Grant { cluster, log, node, judged_at } = grant;
        let Some(ledger) = self.shards.get(&(cluster, log)) else { return Ok(()) };
        let commit = commit.min(ledger.commit());
        let Some(term) = ledger.committed_term(commit) else { return Ok(()) };
        let Some(directory) = disks.of(node) else { return Ok(()) };
        let log_holds = directory.durable_log_of(log).is_some_and(|l| l.covers(commit, term));
        // A leader may have applied what is not durable in its own log yet.
        let written = directory.written(log).is_some_and(|l| l.covers(commit, term));
        let applied = leader == node && written;
        // A request may wait for a coordinator: it was judged after the version that it names.
        let known = self.known(cluster).and_then(|l| l.version_since(judged_at));
        let was = self.copies.whole.get(&(cluster, log, node));
        let was_whole = was.zip(known).is_some_and(|(whole, known)| *whole >= known);
        // The database was dropped, which the leader does not know yet: nobody will grant it.
        let dropped =
            self.known(cluster).and_then(|l| l.latest()).map(|d| d.shard_of(log).is_none());
        if dropped == Some(true) {
            return Ok(());
        }
        if log_holds || applied || was_whole {
            self.copies.grants.insert((cluster, log, node, judged_at));
            return Ok(());
        }
        let ends = directory.durable_log_of(log).map(Shadow::last_index);
        let detail = format!(
            "{leader:?} lets the copy of {log:?} at {node:?} come ONLINE, whose log ends at \
             {ends:?}; committed is {commit}"
        );
        Err(Violation::new("online-behind", detail))
    }

    /// Whether a grant was judged when it was asked for.
    #[must_use]
    pub fn was_judged(&self, grant: &Grant) -> bool {
        let Grant { cluster, log, node, judged_at } = *grant;
        self.copies.grants.contains(&(cluster, log, node, judged_at))
    }

    /// The owner in `directory` says that a write is done.
    ///
    /// # Errors
    /// `answered-before-commit`, `acknowledged-below-quorum` if fewer voters of the governing
    /// membership than the write quorum asks for have it on their disks, or had when it was
    /// committed: one that is answered again may have outlived those who held it then.
    pub fn promises(&self, disks: &Disks, directory: &Directory, promise: Promise) -> Verdict {
        let Promise { log, at, known_from, rule, asynchronous } = promise;
        let node = directory.node;
        if at == Position::default() {
            return Ok(());
        }
        let cluster = directory.written_log.cluster;
        let ledger = cluster.and_then(|cluster| self.shard(cluster, log));
        let base = ledger.is_some_and(|ledger| ledger.base() >= at.index);
        let term = ledger.and_then(|ledger| ledger.committed_term(at.index));
        if !base && term != Some(at.term) {
            let detail = format!(
                "{node:?} answers with entry {} of term {} of {log:?}, committed there: {term:?}",
                at.index, at.term
            );
            return Err(Violation::new("answered-before-commit", detail));
        }
        if asynchronous || base {
            return Ok(());
        }
        let governed = at.index.max(known_from);
        let Some(membership) = directory.written(log).and_then(|l| l.membership_at(governed))
        else {
            return Ok(());
        };
        let held = |id| ledger.is_some_and(|ledger| ledger.was_held_by(at.index, id));
        let holds = |id: &&NodeId| disks.holds(**id, log, at.index, at.term) || held(**id);
        let halves = std::iter::once(&membership.incoming).chain(&membership.outgoing);
        for half in halves {
            let needed = match rule {
                QuorumRule::Majority => half.voters.len() / 2 + 1,
                QuorumRule::All => half.voters.len(),
                QuorumRule::Count(count) => usize::try_from(count).unwrap_or(usize::MAX).max(1),
            };
            let holding = half.voters.iter().filter(holds).count();
            if holding < needed {
                let detail = format!(
                    "{node:?} acknowledges entry {} of {log:?}, durable on {holding} of {:?}, \
                     needed are {needed}",
                    at.index, half.voters
                );
                return Err(Violation::new("acknowledged-below-quorum", detail));
            }
        }
        Ok(())
    }
}

/// The masters that have a place, worked out from the document apart from core.
fn masters(document: &Configuration, log: LogId) -> Option<BTreeSet<NodeId>> {
    let shard = document.shard_of(log)?;
    let settings = &shard.database.settings;
    let placed = shard.servers().filter(|(_, server)| {
        let here = settings.roles.get(&server.name).or_else(|| settings.roles.get("*"));
        server.role == Role::Master && here.is_none_or(|role| *role == Role::Master)
    });
    Some(placed.map(|(id, _)| id).collect())
}
