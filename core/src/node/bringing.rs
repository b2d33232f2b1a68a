//! A cluster of one server brings its databases to another one (DESIGN §4.3): the part of the one that
//! goes, and how what it brings begins at its new place. What must hold is said in
//! `configuration::bringing`; here is decided when to ask, when to seal, and when to give up.
//!
//! *Sealed* is a shard that runs nothing any more and whose copy holds all of its log, durably. Only when
//! all are sealed is the dissolution put into the log, and from then on nothing is run until it is known
//! to be refused: so whatever was acknowledged is in the files.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand_core::Rng as _;

use super::document::decode_command;
use super::merge::Other;
use super::persist::Then;
use super::{Event, Node, Output, State};
use crate::configuration::{
    Absorption, Attempt, Bringing, Brought, ConfigCommand, Configuration, Origin, Rejection,
};
use crate::copies::CopyCall;
use crate::engine::{self, Position};
use crate::faults::{self, Fault};
use crate::ids::{ClusterId, DatabaseId, Generation, Index, LinkId, LogId, NodeId, Term};
use crate::raft::{Entry, Payload, Snapshot};
use crate::shard::Name;
use crate::storage::{HardState, RecoveredLog, StorageOp};
use crate::time::Time;
use crate::wire::{Packet, Request, Response};

/// Shards that are not sealed by then are run again, and it is tried later.
const SEAL_MAX: Duration = Duration::from_secs(10);
/// After a refusal for good reason it is asked again so much later.
const ASK_AGAIN: Duration = Duration::from_secs(3);
/// An import that failed is tried again so much later.
const IMPORT_AGAIN: Duration = Duration::from_secs(3);

/// What this cluster of one server is about to bring.
#[derive(Default, Debug)]
pub(super) struct Bring {
    /// Where to.
    to: Option<ClusterId>,
    /// The question that is out.
    asked: Option<(u64, LinkId, Time)>,
    /// What was asked last.
    databases: Vec<Brought>,
    /// Since when the other one keeps the names.
    agreed: Option<Time>,
    /// The dissolution, in the log here.
    entry: Option<(Index, Term)>,
    next: Time,
    /// Why others would not have them.
    refused: BTreeMap<ClusterId, Rejection>,
    /// When others were last told that nothing will come.
    withdrew: BTreeMap<ClusterId, Time>,
}

impl Bring {
    pub(super) fn link_down(&mut self, link: LinkId) {
        if self.asked.is_some_and(|(_, over, _)| over == link) {
            self.asked = None;
        }
    }

    /// Why that cluster would not have this one's databases.
    pub(super) fn refused_by(&self, cluster: ClusterId) -> Option<&Rejection> {
        self.refused.get(&cluster)
    }

    /// By which clusters, and why: nearly always by none.
    pub(super) fn clashes(&self) -> &BTreeMap<ClusterId, Rejection> {
        &self.refused
    }

    fn is_under_way(&self) -> bool {
        self.agreed.is_some() || self.entry.is_some()
    }
}

/// A shard whose content this node is to fetch from what its directory was.
#[derive(Debug)]
pub(super) struct Import {
    first: Entry,
    origin: Origin,
    /// When to ask the files; `None`: they have been asked.
    due: Option<Time>,
}

/// The generation that what was brought becomes.
const IMPORTED: Generation = Generation(1);

impl Node {
    /// The coordinator's part, in a cluster of one server.
    pub(super) fn drive_bringing(&mut self) {
        let Some(document) = self.document.clone() else { return };
        if self.merge.dissolved.is_some() {
            return;
        }
        if let Some(entry) = self.bring.entry {
            if self.is_open(entry) {
                return;
            }
            // It was refused: something has changed since.
            self.stop_bringing();
        }
        let others = self.others();
        let target = self.bring_target(&document, &others);
        if target.map(|other| other.cluster) != self.bring.to {
            self.stop_bringing();
            self.bring.to = target.map(|other| other.cluster);
        }
        self.bring.refused.retain(|cluster, _| others.contains_key(cluster));
        self.tell_unwanted(&document, &others);
        match target {
            Some(other) if self.bring.agreed.is_some() => self.seal_and_dissolve(other, &document),
            Some(other) => self.ask_to_bring(other, &document),
            None => self.unseal(),
        }
    }

    /// Whether an entry that this coordinator has put into the log is not decided yet.
    pub(super) fn is_open(&self, (index, term): (Index, Term)) -> bool {
        self.raft.as_ref().is_some_and(|r| r.term() == term && r.applied() < index)
    }

    /// The cluster to go to: the one that it is on its way to, else the smallest id.
    fn bring_target(
        &self,
        document: &Configuration,
        others: &BTreeMap<ClusterId, Other>,
    ) -> Option<Other> {
        if document.databases_promised() == 0 || self.state != State::Member {
            return None;
        }
        let fits = |other: &&Other| {
            other.databases > 0
                && other.coordinator.is_some()
                && self.survives(other) == Some(false)
        };
        let mut fit = others.values().filter(fits);
        let same = fit.clone().find(|other| Some(other.cluster) == self.bring.to);
        same.or_else(|| fit.next()).copied()
    }

    /// Whether this node alone decides everything here, and holds everything.
    fn stands_alone(&self, document: &Configuration) -> bool {
        let me = BTreeSet::from([self.id()]);
        let alone = |raft: &crate::raft::Raft| {
            let membership = raft.membership();
            !membership.is_joint()
                && membership.members() == me
                && raft.membership_index() <= raft.commit()
        };
        let mut logs = document.shards().map(|shard| self.shards.all.get(&shard.shard.log));
        document.lone_holder().is_some_and(|(id, _)| id == self.id())
            && self.raft.as_ref().is_some_and(alone)
            && logs.all(|held| held.is_some_and(|held| alone(held.log())))
    }

    /// A shard whose copy here is not open.
    fn first_unusable(&self, document: &Configuration) -> Option<Rejection> {
        let open = |log| self.shards.all.get(&log).is_some_and(|held| held.is_open());
        let shard = document.shards().find(|shard| !open(shard.shard.log))?;
        let (database, shard) = (shard.database_name.to_owned(), shard.name.to_owned());
        Some(Rejection::CopyUnusable { database, shard })
    }

    fn ask_to_bring(&mut self, other: Other, document: &Configuration) {
        self.unseal();
        let (now, retry) = (self.now, self.config.timings.retry);
        let waits = self.bring.asked.is_some_and(|(_, _, at)| now.since(at) < retry * 4);
        if waits || now < self.bring.next {
            return;
        }
        if !self.stands_alone(document) {
            self.bring.refused.insert(other.cluster, Rejection::NotAlone);
            self.bring.next = now + retry;
            return;
        }
        if let Some((cluster, awaited)) = document.bringing.iter().next() {
            let awaits = Rejection::AwaitsOther { server: awaited.name.clone(), cluster: *cluster };
            self.bring.refused.insert(other.cluster, awaits);
            self.bring.next = now + retry;
            return;
        }
        if let Some(unusable) = self.first_unusable(document) {
            // It could not be sealed, and all others would be sealed in vain, again and again.
            self.bring.refused.insert(other.cluster, unusable);
            self.bring.next = now + ASK_AGAIN;
            return;
        }
        let Some((node, addr)) = other.coordinator else { return };
        let Some(link) = self.links.usable(node) else {
            self.want(addr, Some(node));
            return;
        };
        let mut databases = document.to_bring();
        for database in &mut databases {
            database.id = self.new_database_id();
        }
        let id = self.next_request();
        let attempt = self.attempt(id);
        let bringing = Box::new(Bringing {
            holder: self.id(),
            name: self.name(),
            attempt,
            databases: databases.clone(),
        });
        self.bring.databases = databases;
        self.bring.asked = Some((id, link, now));
        self.bring.next = now + retry;
        let request = Request::Bring { cluster: document.cluster, bringing };
        self.send_packet(link, &Packet::Request { id, request });
    }

    /// Terms order what different coordinators of this cluster ask.
    fn attempt(&self, id: u64) -> Attempt {
        (self.raft.as_ref().map_or(0, |raft| raft.term().0), id)
    }

    fn new_database_id(&mut self) -> DatabaseId {
        let high = u128::from(self.rng.next_u64()) << 64;
        DatabaseId(high | u128::from(self.rng.next_u64()))
    }

    /// The answer to what was asked. Returns whether `id` was that.
    pub(super) fn on_bring_response(&mut self, id: u64, response: &Response) -> bool {
        let Some((asked, ..)) = self.bring.asked else { return false };
        if asked != id {
            return false;
        }
        self.bring.asked = None;
        let (now, retry) = (self.now, self.config.timings.retry);
        let Some(to) = self.bring.to else { return true };
        match response {
            Response::Done { cluster, .. } if *cluster == to => {
                self.bring.refused.remove(&to);
                self.bring.agreed = Some(now);
                self.coordinator.look_again();
            }
            Response::Done { .. } => {}
            // It is busy with another one, or sees this one otherwise than this one sees itself.
            Response::Refused(Rejection::Absorbing | Rejection::OldAttempt) => {
                self.bring.next = now + retry;
            }
            Response::Refused(rejection) => {
                self.bring.refused.insert(to, rejection.clone());
                self.bring.next = now + ASK_AGAIN;
            }
            Response::NotCoordinator { .. } | Response::Unknown => {
                self.bring.next = now + retry / 4
            }
        }
        true
    }

    /// The names are kept: nothing is run any more; when all that was run is durable in the files, this
    /// cluster ends.
    fn seal_and_dissolve(&mut self, other: Other, document: &Configuration) {
        let (now, since) = (self.now, self.bring.agreed.unwrap_or(self.now));
        let unchanged = document.is_all(&self.bring.databases);
        if !unchanged || !self.stands_alone(document) || now.since(since) > SEAL_MAX {
            self.stop_bringing();
            self.bring.next = now + ASK_AGAIN;
            return;
        }
        let logs: Vec<LogId> = document.shards().map(|shard| shard.shard.log).collect();
        let mut sealed = true;
        for log in logs {
            if faults::active(Fault::BroughtUnsealed) {
                break;
            }
            if let Some(shard) = self.shards.touch(log) {
                shard.seal(now, true);
                sealed &= shard.is_sealed();
            }
        }
        if !sealed {
            return;
        }
        let peers = self.links.peers();
        let of_it = peers.iter().filter(|(_, (_, info))| info.cluster == Some(other.cluster));
        let addresses = of_it.filter_map(|(node, _)| self.links.hello(*node));
        let addresses = addresses.map(|hello| hello.addresses.node).take(16).collect();
        let databases = self.bring.databases.clone();
        let command = ConfigCommand::DissolveBringing { into: other.cluster, addresses, databases };
        self.bring.entry = self.propose(&command);
        if self.bring.entry.is_some() {
            self.out.push_back(Output::Event(Event::Bringing { into: other.cluster }));
        }
    }

    fn stop_bringing(&mut self) {
        self.unseal();
        self.bring.to = None;
        self.bring.asked = None;
        self.bring.agreed = None;
        self.bring.entry = None;
    }

    fn unseal(&mut self) {
        let sealed: Vec<LogId> = self
            .shards
            .all
            .iter()
            .filter(|(_, held)| held.was_told_to_seal())
            .map(|(log, _)| *log)
            .collect();
        let now = self.now;
        for log in sealed {
            if let Some(shard) = self.shards.touch(log) {
                shard.seal(now, false);
            }
        }
    }

    /// Whether the log holds a dissolution of which is not known whether it takes place: this process
    /// is a new one, and what it opens stays sealed until that is known.
    pub(super) fn may_have_dissolved(&self) -> bool {
        let Some(raft) = &self.raft else { return false };
        let mut open = raft.applied().0 + 1..=raft.last_index().0;
        open.any(|index| {
            raft.entry(Index(index)).is_some_and(|entry| match &entry.payload {
                Payload::Data(data) => {
                    matches!(decode_command(data), Some(ConfigCommand::DissolveBringing { .. }))
                }
                Payload::Empty | Payload::Membership(_) => false,
            })
        })
    }

    /// Whether this node may find in its own log that it brings what it holds, and should wait for that:
    /// one that decides alone will have read its log to the end soon.
    pub(super) fn may_yet_bring(&self) -> bool {
        let Some(raft) = &self.raft else { return false };
        let alone = raft.membership().voters() == BTreeSet::from([self.id()]);
        alone && !raft.abstains() && !self.is_coordinator()
    }

    /// Whoever keeps names for this cluster, although it does not go there, is told.
    fn tell_unwanted(&mut self, document: &Configuration, others: &BTreeMap<ClusterId, Other>) {
        if document.databases_promised() == 0 {
            return; // The other one absorbs it.
        }
        let (now, retry) = (self.now, self.config.timings.retry);
        for other in others.values().filter(|other| other.offers) {
            let last = self.bring.withdrew.get(&other.cluster);
            let soon = last.is_some_and(|at| now.since(*at) < retry * 2);
            let Some((node, addr)) = other.coordinator else { continue };
            if Some(other.cluster) == self.bring.to || soon {
                continue;
            }
            let Some(link) = self.links.usable(node) else {
                self.want(addr, Some(node));
                continue;
            };
            self.bring.withdrew.insert(other.cluster, now);
            let id = self.next_request();
            let request = Request::Unbring { cluster: document.cluster, attempt: self.attempt(id) };
            self.send_packet(link, &Packet::Request { id, request });
        }
    }

    /// Whether this cluster, asked by `from`, takes in what a cluster of one server brings.
    pub(super) fn may_take_in(
        &self,
        from: NodeId,
        cluster: ClusterId,
        bringing: &Bringing,
    ) -> Result<(), Rejection> {
        let others = self.others();
        let survives = others.get(&cluster).and_then(|other| self.survives(other));
        if self.bring.is_under_way() || survives != Some(true) || bringing.holder != from {
            return Err(Rejection::Absorbing);
        }
        Ok(())
    }

    /// Why the databases of that cluster and this one's do not come together.
    pub(super) fn clash_with(&self, cluster: ClusterId) -> Option<Rejection> {
        let own = self.bring.refused_by(cluster).cloned();
        own.or_else(|| {
            let peers = self.links.peers();
            let mut of_it = peers.values().filter(|(_, info)| info.cluster == Some(cluster));
            of_it.find_map(|(_, info)| info.clash.clone())
        })
    }

    /// A shard of which this node brings the content.
    pub(super) fn begin_import(&mut self, log: LogId, first: Entry, origin: Origin) {
        let due = Some(self.now);
        self.shards.importing.entry(log).or_insert(Import { first, origin, due });
    }

    /// Asks the files for what is to be imported, once a member has acknowledged this node since its
    /// start: a directory that was put back may have forgotten that all this was done, and more
    /// written. Its own log would not stop it, for nobody else votes in it.
    pub(super) fn run_imports(&mut self) {
        if self.shards.importing.is_empty() || self.state != State::Member {
            return;
        }
        let now = self.now;
        let origin = self.document.as_ref().map(|document| document.origin);
        let due = self.shards.importing.iter_mut().filter(|(_, i)| i.due.is_some_and(|d| d <= now));
        for (log, import) in due {
            import.due = None;
            let at = Position { index: import.first.index, term: import.first.term };
            let name = origin.map(|origin| Name::new(origin, *log).note());
            let notes = name.into_iter().collect();
            let call = CopyCall::Import { origin: import.origin, at, notes, generation: IMPORTED };
            self.out.push_back(Output::Copy { log: *log, call });
        }
    }

    pub(super) fn next_import(&self) -> Option<Time> {
        if self.shards.importing.is_empty() || self.state != State::Member {
            return None;
        }
        self.shards.importing.values().filter_map(|import| import.due).min()
    }

    /// What was brought lies whole and durable in its place, or cannot.
    pub(super) fn on_imported(&mut self, log: LogId, result: Result<(), engine::Fault>) {
        let now = self.now;
        let (database, shard) = self.shards.name_of(log);
        let Some(import) = self.shards.importing.get_mut(&log) else { return };
        if let Err(fault) = result {
            import.due = Some(now + IMPORT_AGAIN);
            let reason = fault.to_string();
            self.out.push_back(Output::Event(Event::NotBrought { database, shard, reason }));
            return;
        }
        let Some(Import { first, .. }) = self.shards.importing.remove(&log) else { return };
        self.begin_behind(log, first);
        self.out.push_back(Output::Event(Event::Brought { database, shard }));
    }

    /// The log begins behind its first entry, with the copy that stands there. The hard state and the
    /// copy alone do not begin it: a restart that finds no more imports anew.
    fn begin_behind(&mut self, log: LogId, first: Entry) {
        let Payload::Membership(membership) = first.payload else { return };
        let (index, term) = (first.index, first.term);
        let snapshot = Snapshot { index, term, membership, data: bytes::Bytes::new() };
        let hard_state = HardState { term, vote: None, commit: Index::ZERO };
        self.persist.push(StorageOp::HardState { log, state: hard_state }, None);
        self.persist.push(StorageOp::Copy { log, generation: IMPORTED }, None);
        let begins = StorageOp::Snapshot { log, snapshot: snapshot.clone(), reset: true };
        self.persist.push(begins, Some(Then::Begun(log)));
        let copy = Some(IMPORTED);
        let recovered = RecoveredLog { hard_state, snapshot, copy, ..RecoveredLog::default() };
        self.shards.beginning.insert(log, recovered);
    }
}

/// Whether the store holds nothing of a log but what an import writes before it.
pub(super) fn is_unbegun(recovered: &RecoveredLog) -> bool {
    faults::active(Fault::BroughtTwice)
        || !recovered.damaged
            && recovered.snapshot.index == Index::ZERO
            && recovered.entries.is_empty()
            && recovered.on_disk.runs.is_empty()
}

/// What the configuration of another cluster says of this one is an offer.
pub(super) fn is_offer(absorption: Option<Absorption>) -> bool {
    absorption == Some(Absorption::Offered)
}
