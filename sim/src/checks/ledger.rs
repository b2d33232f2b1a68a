//! What is known of one log of a cluster: every entry ever written in it, and what is committed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quorate_core::configuration::{self, ConfigCommand, Configuration};
use quorate_core::engine::Position;
use quorate_core::node::decode_command;
use quorate_core::raft::{Entry, Membership, Payload, Snapshot};
use quorate_core::shard::StageId;
use quorate_core::{ClusterId, ConfigVersion, Index, LogId, NodeId, Term};

use super::{Content, Stages, restores};
use crate::disk::{Shadow, Stub};
use crate::outcome::{Verdict, Violation};

/// An entry that was written in some log, and the term of the one before it there.
#[derive(Clone, Debug)]
pub struct Written {
    /// The term of the entry before.
    pub previous: Term,
    /// The entry in short.
    pub stub: Stub,
    /// The entry.
    pub entry: Entry,
}

/// One log from its founding to its end, as an observer who sees every disk knows it. That of a
/// configuration log stands for its cluster.
#[derive(Debug)]
pub struct Ledger {
    /// Which cluster.
    pub cluster: ClusterId,
    /// Which of its logs.
    pub log: LogId,
    /// What a shard's log has made of its copies; of the configuration log it stays empty.
    pub content: Content,
    /// What it had made of them where the history begins.
    content_before: Content,
    /// Files that were staged to be the content.
    pub stages: Stages,
    /// Who was elected in which term.
    pub leaders: BTreeMap<Term, NodeId>,
    /// Every entry ever written, by index and term: with one predecessor for each, any two logs
    /// that agree in an entry agree in all before it.
    pub chain: BTreeMap<(Index, Term), Written>,
    /// The terms of the committed entries, and those of the leaders that committed them; the
    /// first entry at place 0.
    committed: Vec<(Term, Term)>,
    /// Whose disks held the last entry of each step in which they were committed. Those who leave
    /// take their disks with them, and what is answered again was safe all the same.
    holders: BTreeMap<Index, BTreeSet<NodeId>>,
    /// What came before them: the state that a recovery went on with, at this index.
    base: Index,
    base_term: Term,
    /// The version before the first of the history.
    base_version: ConfigVersion,
    /// The membership that governed the last commit.
    pub governing: Option<Arc<Membership>>,
    /// The document after the last committed entry, made by replaying the committed commands.
    document: Option<Configuration>,
    /// The document in each version, the first at place 0.
    history: Vec<Arc<Configuration>>,
    /// When each was committed, in nanoseconds.
    times: Vec<u64>,
    /// How many servers were removed from the document so far.
    removals: u64,
    /// Whether the first announcement was seen.
    pub announced: bool,
}

/// The static owner of each shard that has one.
fn static_owners(document: &Configuration) -> BTreeMap<LogId, String> {
    let shards = document.shards();
    shards.filter_map(|shard| Some((shard.shard.log, shard.shard.owner.clone()?))).collect()
}

/// Whether an operator may mean another owner by it.
fn is_about_owners(command: &ConfigCommand) -> bool {
    matches!(
        command,
        ConfigCommand::CreateDatabase { .. }
            | ConfigCommand::DropDatabase { .. }
            | ConfigCommand::Configure { .. }
            | ConfigCommand::AddShard { .. }
            | ConfigCommand::DropShard { .. }
            | ConfigCommand::SetOwner { .. }
    )
}

fn keeps_owners(
    owners: &BTreeMap<LogId, String>,
    after: Option<&Configuration>,
    command: &ConfigCommand,
) -> Verdict {
    let Some(after) = after else { return Ok(()) };
    for (log, owner) in owners {
        let now = after.shard_of(*log).and_then(|shard| shard.shard.owner.as_ref());
        if now != Some(owner) {
            let detail = format!("{log:?} was {owner}'s, and is {now:?}'s after {command:?}");
            return Err(Violation::new("static-owner-replaced", detail));
        }
    }
    Ok(())
}

impl Ledger {
    /// Of a log of which nothing is known yet.
    #[must_use]
    pub fn new(cluster: ClusterId, log: LogId) -> Self {
        Self {
            cluster,
            log,
            content: Content::default(),
            content_before: Content::default(),
            stages: Stages::new(),
            leaders: BTreeMap::new(),
            chain: BTreeMap::new(),
            committed: Vec::new(),
            holders: BTreeMap::new(),
            base: Index::ZERO,
            base_term: Term::ZERO,
            base_version: ConfigVersion::ZERO,
            governing: None,
            document: None,
            history: Vec::new(),
            times: Vec::new(),
            removals: 0,
            announced: false,
        }
    }

    /// Of a cluster that begins with what a survivor of another held: its first entry is the
    /// snapshot at `at`, of `term`.
    #[must_use]
    pub fn recovered(document: Configuration, at: Index, term: Term, survivor: Membership) -> Self {
        let mut ledger = Self::new(document.cluster, LogId::CONFIGURATION);
        ledger.base = at;
        ledger.base_term = term;
        ledger.base_version = document.version.previous();
        ledger.governing = Some(Arc::new(survivor));
        ledger.history.push(Arc::new(document.clone()));
        ledger.times.push(0);
        ledger.document = Some(document);
        ledger.announced = true;
        ledger
    }

    /// Of a shard's log that goes on in another cluster with what a survivor of this one holds: its
    /// history begins with that. `given_up` is that of the same log in the cluster that it comes from,
    /// and the last entry that the survivor's log had there.
    ///
    /// # Errors
    /// If the survivor's log cannot be replayed.
    pub fn carried_over(
        log: &Shadow,
        given_up: Option<(&Self, (Index, Term))>,
        into: ClusterId,
    ) -> Result<Self, Violation> {
        let mut ledger = Self::new(into, log.log);
        (ledger.base, ledger.base_term) = (log.last_index(), log.last_term());
        ledger.governing = log.membership().cloned();
        if let Some((given_up, (index, term))) = given_up {
            ledger.content = given_up.content_at(index, term)?;
            ledger.content_before = ledger.content.clone();
            ledger.stages = given_up.stages.clone();
        }
        Ok(ledger)
    }

    /// Of a shard's log that begins behind `base` with what this one has made of its copies.
    #[must_use]
    pub fn brought(&self, cluster: ClusterId, log: LogId, base: &Snapshot) -> Self {
        let mut ledger = Self::new(cluster, log);
        (ledger.base, ledger.base_term) = (base.index, base.term);
        ledger.governing = Some(Arc::new(base.membership.clone()));
        ledger.content = self.content.brought(Position { index: base.index, term: base.term });
        ledger.content_before = ledger.content.clone();
        ledger
    }

    /// What the copies hold in a log that ends with this entry, committed or not. One that holds no
    /// entry has not come to what this history begins behind either.
    fn content_at(&self, index: Index, term: Term) -> Result<Content, Violation> {
        if index == Index::ZERO {
            return Ok(Content::default());
        }
        if index < self.base {
            let detail = format!("entry {index} of term {term} is before entry {}", self.base);
            return Err(Violation::new("log-of-unknown-entries", detail));
        }
        let (mut at, mut entries) = ((index, term), Vec::new());
        while at.0 > self.base {
            let Some(written) = self.chain.get(&at) else {
                let detail = format!("entry {} of term {} was never written", at.0, at.1);
                return Err(Violation::new("log-of-unknown-entries", detail));
            };
            entries.push(&written.entry);
            at = (at.0.previous(), written.previous);
        }
        let mut content = self.content_before.clone();
        content.sessions = content.sessions.meaning_as(&self.content.sessions);
        entries.into_iter().rev().try_for_each(|entry| content.take(entry, &self.stages))?;
        Ok(content)
    }

    /// The stage that the committed entry at a position makes the content, if it does.
    #[must_use]
    pub fn restored_at(&self, at: Position) -> Option<StageId> {
        self.chain.get(&(at.index, at.term)).and_then(|written| restores(&written.entry.payload))
    }

    /// Whether a file with such a hash has become the content.
    pub fn has_restored(&self, is_it: impl Fn([u8; 32]) -> bool) -> bool {
        let done = self.content.replaced().filter_map(|index| {
            let term = self.committed_term(index)?;
            self.stages.get(&self.restored_at(Position { index, term })?)
        });
        done.into_iter().any(|held| is_it(held.hash().hash))
    }

    /// Where the history begins: what is before it was never compared.
    #[must_use]
    pub fn base(&self) -> Index {
        self.base
    }

    /// The last committed index.
    #[must_use]
    pub fn commit(&self) -> Index {
        Index(self.base.0 + self.committed.len() as u64)
    }

    /// The term of a committed entry.
    #[must_use]
    pub fn committed_term(&self, index: Index) -> Option<Term> {
        if index == self.base && index > Index::ZERO {
            return Some(self.base_term);
        }
        let place = usize::try_from(index.0.checked_sub(self.base.0 + 1)?).ok()?;
        self.committed.get(place).map(|(term, _)| *term)
    }

    /// All up to `to` was committed, on these disks.
    pub fn held_by(&mut self, to: Index, holders: BTreeSet<NodeId>) {
        self.holders.insert(to, holders);
    }

    /// Whether the disk of `node` held an entry when it was committed.
    #[must_use]
    pub fn was_held_by(&self, index: Index, node: NodeId) -> bool {
        self.holders.range(index..).next().is_some_and(|(_, holders)| holders.contains(&node))
    }

    /// The last entry that was committed by a leader of a term before `term`, and its own term:
    /// the leader of `term` must hold it.
    #[must_use]
    pub fn committed_before(&self, term: Term) -> Option<(Index, Term)> {
        let count = self.committed.partition_point(|(_, by)| *by < term);
        let last = self.committed[..count].last().map(|(last, _)| *last);
        let last = last.or_else(|| (self.base > Index::ZERO).then_some(self.base_term))?;
        Some((Index(self.base.0 + count as u64), last))
    }

    /// How many servers were removed from the document so far.
    #[must_use]
    pub fn removals(&self) -> u64 {
        self.removals
    }

    /// The document after the last committed entry.
    #[must_use]
    pub fn document(&self) -> Option<&Configuration> {
        self.document.as_ref()
    }

    /// The document in a version that was committed.
    #[must_use]
    pub fn version(&self, version: ConfigVersion) -> Option<&Arc<Configuration>> {
        let place = usize::try_from(version.0.checked_sub(self.base_version.0 + 1)?).ok()?;
        self.history.get(place)
    }

    /// The latest version that was committed.
    #[must_use]
    pub fn latest(&self) -> Option<&Arc<Configuration>> {
        self.history.last()
    }

    /// The latest version in which a log is that of a shard.
    #[must_use]
    pub fn last_with(&self, log: LogId) -> Option<&Configuration> {
        self.history.iter().rev().find(|held| held.shard_of(log).is_some()).map(AsRef::as_ref)
    }

    /// Whether a version was committed before the history begins, in a cluster that was given up.
    #[must_use]
    pub fn is_before(&self, version: ConfigVersion) -> bool {
        version <= self.base_version
    }

    /// When a version was committed; one that a recovery began with was always there.
    #[must_use]
    pub fn version_since(&self, version: ConfigVersion) -> Option<u64> {
        let place = usize::try_from(version.0.checked_sub(self.base_version.0 + 1)?).ok()?;
        self.times.get(place).copied()
    }

    /// Notes an entry that is written somewhere.
    ///
    /// # Errors
    /// `log-matching` if another entry, or one with another past, bears its index and term.
    pub fn write(&mut self, previous: Term, entry: &Entry) -> Verdict {
        let stub = Stub::of(entry);
        if let Some(known) = self.chain.get(&(entry.index, entry.term)) {
            if known.stub == stub && known.previous == previous {
                return Ok(());
            }
            let detail = format!(
                "entry {} of term {} is {:?} after term {} in one log, and {:?} after term {} in \
                 another",
                entry.index,
                entry.term,
                known.entry.payload,
                known.previous,
                entry.payload,
                previous
            );
            return Err(Violation::new("log-matching", detail));
        }
        let written = Written { previous, stub, entry: entry.clone() };
        self.chain.insert((entry.index, entry.term), written);
        Ok(())
    }

    /// The next entry is committed, by the leader of `by`: `term` is that of the entry behind the
    /// last committed one.
    ///
    /// # Errors
    /// `commit-of-unknown-entry` if nobody ever wrote it.
    pub fn extend(&mut self, term: Term, by: Term, now: u64) -> Verdict {
        let index = self.commit().next();
        let Some(written) = self.chain.get(&(index, term)) else {
            let detail = format!("entry {index} of term {term} is committed, but nobody wrote it");
            return Err(Violation::new("commit-of-unknown-entry", detail));
        };
        self.committed.push((term, by));
        if self.log != LogId::CONFIGURATION {
            return self.content.take(&written.entry, &self.stages);
        }
        if let Payload::Data(bytes) = &written.entry.payload {
            let Some(command) = decode_command(bytes) else {
                let detail = format!("entry {index} of term {term}");
                return Err(Violation::new("committed-entry-does-not-decode", detail));
            };
            // A command that is refused changes nothing, on every node alike.
            let before = self.document.as_ref().map_or(0, |held| held.version.0);
            let owners = self.document.as_ref().map(static_owners).unwrap_or_default();
            let _refused = configuration::apply(&mut self.document, &command);
            if !is_about_owners(&command) {
                keeps_owners(&owners, self.document.as_ref(), &command)?;
            }
            if let Some(document) = self.document.as_ref().filter(|held| held.version.0 > before) {
                let document = document.clone();
                return self.new_version(document, now);
            }
        }
        Ok(())
    }

    fn new_version(&mut self, document: Configuration, now: u64) -> Verdict {
        let brings = document.dissolved_into.as_ref().is_some_and(|ended| ended.brings);
        if brings && document.servers.len() != 1 {
            let detail = format!("cluster {:?} brings databases, and has others", self.cluster);
            return Err(Violation::new("brings-what-others-hold", detail));
        }
        if document.dissolved_into.is_some() && !brings && !document.databases.is_empty() {
            let detail = format!("cluster {:?} has dissolved with databases", self.cluster);
            return Err(Violation::new("dissolved-with-databases", detail));
        }
        if let Some(before) = self.history.last() {
            let gone = before.servers.keys().filter(|id| !document.servers.contains_key(id));
            self.removals += gone.count() as u64;
        }
        self.history.push(Arc::new(document));
        self.times.push(now);
        Ok(())
    }
}
