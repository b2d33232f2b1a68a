//! The copies of shards that this node holds: their logs beside the configuration log, and what the
//! leader of each owes to the configuration.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::bringing::{Import, is_unbegun};
use super::links::push_packet;
use super::persist::{LogBatch, Then};
use super::{Event, Node, Output, State};
use crate::configuration::{
    ConfigCommand, Configuration, CopyStatus, ExecutionMode, MAIN, Reach, ServerStatus, ShardRef,
    plan_shard,
};
use crate::faults::{self, Fault};
use crate::ids::{ClusterId, ConfigVersion, Index, LinkId, LogId, NodeId, Term};
use crate::raft::{Body, Entry, Message, ReadId, Unreadable};
use crate::shard::{Answer, Name, Shard, StaticOwner, Terms};
use crate::storage::{HardState, RecoveredLog, StorageOp};
use crate::time::Time;
use crate::wire::{LOGS_MAX, Packet, Request};

/// A change of the document that the leader of a shard has asked for: of which copy, or of whether
/// the log has begun.
type Duty = (LogId, Option<NodeId>);

/// The copies that this node holds.
#[derive(Default, Debug)]
pub(super) struct Shards {
    pub all: BTreeMap<LogId, Box<Shard>>,
    /// Their databases and names, for when the document does not know them any more.
    names: BTreeMap<LogId, (String, String)>,
    /// What the store held at the start, of logs that the document has not spoken of yet.
    recovered: BTreeMap<LogId, RecoveredLog>,
    /// Logs whose first entry is on its way to the disk.
    pub(super) beginning: BTreeMap<LogId, RecoveredLog>,
    /// Shards whose content this node brings, until it is in its place.
    pub(super) importing: BTreeMap<LogId, Import>,
    /// When each shard is to be looked at; the first is the node's.
    due: BTreeMap<LogId, Time>,
    timers: BTreeSet<(Time, LogId)>,
    /// Shards to which something has happened with this input.
    touched: Touched,
    /// Logs of databases that were dropped, and the entry of the configuration log by which that is
    /// known here. They go when a restart is sure to know of it: else it would begin them anew.
    dropped: BTreeMap<LogId, Index>,
    /// Duties that were asked for, and when.
    asked: BTreeMap<Duty, Time>,
    next_duties: Option<Time>,
    /// Who leads each log, as was told last, and in which term.
    pub(super) owners: BTreeMap<LogId, (NodeId, Term)>,
}

impl Shards {
    pub(super) fn holding(recovered: BTreeMap<LogId, RecoveredLog>) -> Self {
        Self { recovered, ..Self::default() }
    }

    pub(super) fn next(&self) -> Option<Time> {
        let first = self.timers.first().map(|(at, _)| *at);
        first.into_iter().chain(self.next_duties).min()
    }

    /// What the leaders of logs owe to the document is looked at with the next input.
    pub(super) fn hurry_duties(&mut self, now: Time) {
        self.next_duties = self.next_duties.map(|at| at.min(now));
    }

    /// The database and the name of a shard, as far as the document has ever told them here.
    pub(super) fn name_of(&self, log: LogId) -> (String, String) {
        let unnamed = || (format!("log-{}", log.0), MAIN.to_owned());
        self.names.get(&log).cloned().unwrap_or_else(unnamed)
    }

    pub(super) fn touch(&mut self, log: LogId) -> Option<&mut Shard> {
        let shard = self.all.get_mut(&log)?;
        self.touched.insert(log);
        Some(shard)
    }

    /// When a shard is to be looked at. Most inputs do not change that.
    fn set_due(&mut self, log: LogId, at: Time) {
        match self.due.get_mut(&log) {
            Some(before) if *before == at => return,
            Some(before) => {
                self.timers.remove(&(*before, log));
                *before = at;
            }
            None => {
                self.due.insert(log, at);
            }
        }
        self.timers.insert((at, log));
    }
}

/// Logs, each once, in their order. It is filled and emptied with every input, mostly by a single
/// one, so that it keeps its memory.
#[derive(Default, Debug)]
pub(super) struct Touched(VecDeque<LogId>);

impl Touched {
    pub(super) fn insert(&mut self, log: LogId) {
        match self.0.back() {
            Some(last) if *last >= log => {
                if let Err(place) = self.0.binary_search(&log) {
                    self.0.insert(place, log);
                }
            }
            _ => self.0.push_back(log),
        }
    }

    pub(super) fn remove(&mut self, log: LogId) {
        if let Ok(place) = self.0.binary_search(&log) {
            self.0.remove(place);
        }
    }

    pub(super) fn pop_first(&mut self) -> Option<LogId> {
        self.0.pop_front()
    }
}

impl Node {
    /// Its copies of shards, by log.
    pub fn shards(&self) -> impl Iterator<Item = (LogId, &Shard)> {
        self.shards.all.iter().map(|(log, shard)| (*log, &**shard))
    }

    /// Opens the copies that the document gives this node, begins the logs that it is to begin, and
    /// closes the copies of databases that were dropped.
    pub(super) fn adopt_shards(&mut self, document: &Arc<Configuration>) {
        if self.config.shards.is_none() {
            return;
        }
        let me = self.id();
        let mut listed = BTreeSet::new();
        // Whoever cannot read all of it knows neither what was begun nor what was dropped since.
        let may_begin = self.raft.as_ref().is_none_or(|raft| !raft.abstains());
        for shard in document.shards() {
            let log = shard.shard.log;
            listed.insert(log);
            // Its store drops no log of a listed shard, so that what it has begun once is found there.
            let first = shard.shard.first_entry(me, ConfigVersion::ZERO);
            // Who has lost its place votes on until the log has committed that it does not.
            let kept = self.shards.recovered.contains_key(&log);
            let mine = shard.shard.copies.contains_key(&me) || first.is_some() || kept;
            let held =
                self.shards.all.contains_key(&log) || self.shards.beginning.contains_key(&log);
            let held = held || self.shards.importing.contains_key(&log);
            let origin = shard.shard.founding.as_ref().and_then(|founding| founding.origin);
            if mine {
                let name = (shard.database_name.to_owned(), shard.name.to_owned());
                self.shards.names.insert(log, name);
            }
            if mine && !held {
                match (self.shards.recovered.remove(&log), first) {
                    (_, Some(first)) if faults::active(Fault::ShardFoundedTwice) => {
                        self.begin_shard(log, first);
                    }
                    // What an import writes first does not begin the log yet.
                    (recovered, Some(first))
                        if origin.is_some()
                            && may_begin
                            && recovered.as_ref().is_none_or(is_unbegun) =>
                    {
                        if let Some(origin) = origin {
                            self.begin_import(log, first, origin);
                        }
                    }
                    (Some(recovered), _) => self.open_shard(log, recovered),
                    (None, _) if !may_begin => {}
                    (None, Some(first)) => self.begin_shard(log, first),
                    (None, None) => {
                        self.open_shard(log, RecoveredLog::default());
                        self.await_copy(log);
                    }
                }
            }
            self.refresh_terms(shard);
        }
        let gone: Vec<LogId> =
            self.shards.all.keys().filter(|log| !listed.contains(log)).copied().collect();
        for log in gone {
            self.forget_shard(log);
        }
        let unwanted = |log: &LogId| !listed.contains(log);
        let unwanted: Vec<LogId> =
            self.shards.importing.keys().filter(|log| unwanted(log)).copied().collect();
        for log in unwanted {
            self.shards.importing.remove(&log);
            let name = self.shards.name_of(log);
            self.drop_copies(log, name);
            self.drop_log(log);
        }
        self.drop_forgotten(document);
        self.shards.next_duties = (!self.shards.all.is_empty()).then_some(self.now);
    }

    /// The database of a copy was dropped. Its log's number is never given again.
    fn forget_shard(&mut self, log: LogId) {
        self.shards.all.remove(&log);
        self.shards.owners.remove(&log);
        self.shards.touched.remove(log);
        if let Some(at) = self.shards.due.remove(&log) {
            self.shards.timers.remove(&(at, log));
        }
        self.out.push_back(Output::CloseEngine { log });
        self.sql_shard_gone(log);
        let name = self.shards.name_of(log);
        self.shards.names.remove(&log);
        self.drop_copies(log, name);
        self.drop_log(log);
    }

    fn drop_log(&mut self, log: LogId) {
        let known = self.raft.as_ref().map(|raft| raft.applied()).unwrap_or_default();
        self.shards.dropped.insert(log, known);
        self.drop_logs();
    }

    /// Drops the logs of which a restart will know that their databases are gone.
    pub(super) fn drop_logs(&mut self) {
        let durable = self.persist.commit;
        let due = self.shards.dropped.iter().filter(|(_, known)| **known <= durable);
        let due: Vec<LogId> = due.map(|(log, _)| *log).collect();
        for log in due {
            self.shards.dropped.remove(&log);
            self.persist.push(StorageOp::DropLog { log }, None);
        }
    }

    /// Logs in the store that the document does not speak of, although it has given out their numbers:
    /// their databases were dropped while this node was away.
    fn drop_forgotten(&mut self, document: &Configuration) {
        let given = |log: &LogId| *log <= document.last_log && document.shard_of(*log).is_none();
        let gone: Vec<LogId> =
            self.shards.recovered.keys().filter(|log| given(log)).copied().collect();
        for log in gone {
            self.shards.recovered.remove(&log);
            self.drop_copies(log, self.shards.name_of(log));
            self.drop_log(log);
        }
    }

    /// Writes the first entry of a shard's log: the same on every node that may. It is committed by
    /// the document that says so.
    fn begin_shard(&mut self, log: LogId, first: Entry) {
        let hard_state = HardState { term: first.term, vote: None, commit: first.index };
        let entries = vec![first];
        let append = StorageOp::Append { log, entries: entries.clone() };
        self.persist.push(append, None);
        let state = StorageOp::HardState { log, state: hard_state };
        self.persist.push(state, Some(Then::Begun(log)));
        let recovered = RecoveredLog { hard_state, entries, ..RecoveredLog::default() };
        self.shards.beginning.insert(log, recovered);
    }

    pub(super) fn on_begun(&mut self, log: LogId) {
        let Some(recovered) = self.shards.beginning.remove(&log) else { return };
        let Some(document) = self.document.clone() else { return };
        if let Some(shard) = document.shard_of(log) {
            self.open_shard(log, recovered);
            self.refresh_terms(shard);
        }
    }

    /// A peer is about to stop: it is no good owner any more.
    pub(super) fn on_peer_leaving(&mut self) {
        let Some(document) = self.document.clone() else { return };
        document.shards().for_each(|shard| self.refresh_terms(shard));
    }

    fn refresh_terms(&mut self, shard: ShardRef<'_>) {
        let (now, log) = (self.now, shard.shard.log);
        if !self.shards.all.contains_key(&log) {
            return;
        }
        let terms = self.terms_of(shard);
        if let Some(held) = self.shards.touch(log) {
            held.set_terms(now, terms);
        }
    }

    /// What the document says of a shard, for the copy of this node.
    fn terms_of(&self, shard: ShardRef<'_>) -> Terms {
        let mut stay = shard.candidates().into_iter().filter(|node| !self.peer_is_leaving(*node));
        Terms {
            write_quorum: shard.write_quorum(),
            asynchronous: shard.database.settings.execution_mode == ExecutionMode::Asynchronous,
            preferred: stay.next(),
            online: shard.shard.copies.get(&self.id()) == Some(&CopyStatus::Online),
            static_owner: self.static_owner_of(shard),
        }
    }

    /// The static owner of a shard, if that is not this node.
    fn static_owner_of(&self, shard: ShardRef<'_>) -> Option<StaticOwner> {
        let name = shard.shard.owner.clone().filter(|_| !shard.may_own(self.id()))?;
        let node = shard.preferred_owner().filter(|node| !self.peer_is_leaving(*node));
        Some(StaticOwner { name, node })
    }

    fn open_shard(&mut self, log: LogId, recovered: RecoveredLog) {
        let Some(limits) = self.config.shards else { return };
        let copy = recovered.copy;
        let raft = self.new_replica(log, recovered);
        let mut shard = Shard::new(raft, (copy, self.shard_name(log)), limits, self.now);
        if self.may_have_dissolved() {
            shard.seal(self.now, true);
        }
        self.shards.all.insert(log, Box::new(shard));
        self.shards.touched.insert(log);
        self.shards.next_duties = Some(self.now);
    }

    /// What the copies of a shard of this cluster call themselves.
    pub(super) fn shard_name(&self, log: LogId) -> Option<Name> {
        self.document.as_ref().map(|document| Name::new(document.origin, log))
    }

    pub(super) fn on_shard_message(&mut self, log: LogId, from: NodeId, message: Message) {
        let now = self.now;
        match self.shards.touch(log) {
            Some(shard) => shard.receive(now, from, message),
            None => self.counters.messages_dropped += 1,
        }
    }

    pub(super) fn on_engine(&mut self, log: LogId, epoch: u64, answer: Answer) {
        let now = self.now;
        if let Some(shard) = self.shards.touch(log) {
            shard.answer(now, epoch, answer);
        }
    }

    pub(super) fn on_log_read(
        &mut self,
        log: LogId,
        id: ReadId,
        result: Result<Vec<Entry>, Unreadable>,
    ) {
        let now = self.now;
        if let Some(shard) = self.shards.touch(log) {
            shard.log_read(now, id, result);
        }
    }

    pub(super) fn each_shard(&mut self, mut f: impl FnMut(&mut Shard, Time)) {
        let now = self.now;
        for (log, shard) in &mut self.shards.all {
            self.shards.touched.insert(*log);
            f(shard, now);
        }
    }

    /// Lets the shards do what is due.
    pub(super) fn run_shards(&mut self) {
        let now = self.now;
        while let Some((at, log)) = self.shards.timers.first().copied().filter(|(at, _)| *at <= now)
        {
            self.shards.timers.remove(&(at, log));
            self.shards.due.remove(&log);
            if let Some(shard) = self.shards.touch(log) {
                shard.tick(now);
            }
        }
        if self.shards.next_duties.is_some_and(|at| at <= now) {
            self.shards.next_duties =
                (!self.shards.all.is_empty()).then_some(now + self.config.timings.heartbeat);
            self.do_duties();
        }
    }

    /// What the leader of a shard's log owes to the document: the membership follows it, and it
    /// learns which copies have caught up.
    fn do_duties(&mut self) {
        let now = self.now;
        let retry = self.config.timings.retry;
        self.shards.asked.retain(|_, at| now.since(*at) < retry * 2);
        let Some(document) = self.document.clone() else { return };
        for shard in document.shards() {
            let log = shard.shard.log;
            if self.shards.all.get(&log).is_some_and(|held| held.log().is_settled_leader()) {
                self.follow_plan_of(shard);
                self.tell_begun(shard);
                self.grant_copies(shard);
            }
        }
    }

    fn follow_plan_of(&mut self, shard: ShardRef<'_>) {
        let (now, log) = (self.now, shard.shard.log);
        let Some(held) = self.shards.all.get(&log) else { return };
        let raft = held.log();
        let here = |node: NodeId| self.counts_on(raft, shard.document, node);
        let caught_up = |node: NodeId| raft.is_caught_up(now, node);
        let reach = Reach { reachable: &here, caught_up: &caught_up };
        let Some(change) = plan_shard(shard, raft.membership(), &reach) else { return };
        if let Some(held) = self.shards.touch(log) {
            // Refused while another change is under way; planned again then.
            let _ = held.change(now, change);
        }
    }

    /// Whoever is seen to hold the log may not begin it any more.
    fn tell_begun(&mut self, shard: ShardRef<'_>) {
        let (log, me) = (shard.shard.log, self.id());
        let Some(founding) = &shard.shard.founding else { return };
        let Some(held) = self.shards.all.get(&log) else { return };
        let holds = |node: &NodeId| {
            *node == me || held.log().matched(*node).is_some_and(|index| index > Index::ZERO)
        };
        let nodes: BTreeSet<NodeId> =
            founding.unborn.iter().filter(|n| holds(n)).copied().collect();
        if !nodes.is_empty() {
            self.ask_once((log, None), ConfigCommand::Born { log, nodes });
        }
    }

    /// A copy that holds all that is committed, as the leader's log knows it, comes online.
    fn grant_copies(&mut self, shard: ShardRef<'_>) {
        let (now, log) = (self.now, shard.shard.log);
        let judged_at = shard.document.version;
        for (node, status) in &shard.shard.copies {
            let online = shard.document.servers.get(node);
            let online = online.is_some_and(|s| s.status == ServerStatus::Online);
            let Some(held) = self.shards.all.get(&log) else { return };
            let whole = held.log().is_caught_up(now, *node) && self.holds_goal(log, *node);
            let whole = whole || faults::active(Fault::OnlineBeforeCaughtUp);
            self.set_goal(log, *node, *status);
            if let Some(worse) = self.worse_status(log, *node, *status) {
                let fall = ConfigCommand::SetCopy { log, node: *node, status: worse, judged_at };
                self.ask_once((log, Some(*node)), fall);
                continue;
            }
            let due = online
                && whole
                && status.may_become(CopyStatus::Online)
                && *status != CopyStatus::Backup;
            if due {
                let status = CopyStatus::Online;
                let grant = ConfigCommand::SetCopy { log, node: *node, status, judged_at };
                self.ask_once((log, Some(*node)), grant);
            }
        }
    }

    fn ask_once(&mut self, duty: Duty, command: ConfigCommand) {
        let now = self.now;
        let retry = self.config.timings.retry;
        if self.shards.asked.get(&duty).is_some_and(|at| now.since(*at) < retry) {
            return;
        }
        self.shards.asked.insert(duty, now);
        self.begin_duty(Request::Change(command));
    }

    /// Hands the logs that this node leads to others, before it stops. Whether any is left to hand.
    pub(super) fn hand_over_shards(&mut self) -> bool {
        let now = self.now;
        let mut left = false;
        let led: Vec<LogId> = self
            .shards
            .all
            .iter()
            .filter(|(_, s)| s.log().is_leader())
            .map(|(log, _)| *log)
            .collect();
        for log in led {
            let stays = |node: NodeId| !self.peer_is_leaving(node);
            let Some(held) = self.shards.all.get(&log) else { continue };
            let Some(successor) = held.log().best_successor(now, stays) else { continue };
            left = true;
            if !held.log().is_transferring()
                && let Some(held) = self.shards.touch(log)
            {
                held.hand_over(now, successor);
            }
        }
        left
    }

    /// What the logs of shards want durable.
    pub(super) fn shard_batches(&mut self, batches: &mut Vec<LogBatch>) {
        let now = self.now;
        for log in &self.shards.touched.0 {
            let Some(shard) = self.shards.all.get_mut(log) else { continue };
            shard.flush(now);
            if let Some((ticket, ops)) = shard.take_batch(now) {
                batches.push(LogBatch { log: *log, ticket, ops });
            }
        }
    }

    /// Hands out what has come of the shards that something happened to: messages, calls, answers.
    pub(super) fn drain_shards(&mut self) {
        let mut small = Small::default();
        let cluster = self.identity.cluster.filter(|_| self.cluster_durable && !self.stopped);
        while let Some(log) = self.shards.touched.pop_first() {
            let Some(shard) = self.shards.all.get_mut(&log) else { continue };
            while let Some((to, message)) = shard.next_message() {
                let (Some(cluster), Some(link)) = (cluster, self.links.usable(to)) else {
                    continue;
                };
                if is_bulky(&message) {
                    // What is bulky goes alone, behind what was said before it.
                    send_small(&mut self.out, cluster, link, small.take(link));
                    push_packet(&mut self.out, link, &Packet::Raft { cluster, log, message });
                } else {
                    small.add(link, (log, message));
                }
            }
            while let Some(call) = shard.next_call() {
                self.out.push_back(Output::Engine { log, call });
            }
            while let Some(read) = shard.next_read() {
                self.out.push_back(Output::ReadLog { log, read });
            }
            let led = shard.log().leader().map(|leader| (leader, shard.log().term()));
            let mut owned_by = None;
            if let Some((node, term)) = led
                && self.shards.owners.insert(log, (node, term)) != led
            {
                self.out.push_back(Output::Event(Event::Owner { log, node, term }));
                owned_by = Some(node);
            }
            if let Some(index) = shard.take_unreadable() {
                self.out.push_back(Output::Event(Event::LogUnreadable { log, index }));
            }
            let place = shard.next_place();
            let used = shard.take_used_stage();
            // All of them first: what is done about one may bring the shard to say more.
            let mut replies = Vec::new();
            while let Some(reply) = shard.next_reply() {
                replies.push(reply);
            }
            let mut hashes = Vec::new();
            while let Some(hash) = shard.next_hash() {
                hashes.push(hash);
            }
            let at = shard.next_timeout();
            self.shards.set_due(log, at);
            for (id, reply) in replies {
                self.on_shard_reply(id, reply);
            }
            if let Some(owner) = owned_by {
                self.sql_owned_by(log, owner);
            }
            if let Some(place) = place {
                self.place_staged(log, place);
            }
            if let Some(stage) = used {
                self.unstage_here(log, stage);
            }
            for (mark, hashed) in hashes {
                self.on_own_hash(log, mark, hashed);
            }
        }
        if let Some(cluster) = cluster {
            for (link, messages) in small.0 {
                send_small(&mut self.out, cluster, link, messages);
            }
        }
    }

    /// Whether the copies may be used: this node belongs to its cluster.
    pub(super) fn takes_requests(&self) -> bool {
        matches!(self.state, State::Member | State::Returning) && self.document.is_some()
    }
}

/// Messages of several logs that go together, by link, in the order of the links.
#[derive(Default)]
struct Small(Vec<(LinkId, Vec<(LogId, Message)>)>);

impl Small {
    fn add(&mut self, link: LinkId, message: (LogId, Message)) {
        match self.0.binary_search_by_key(&link, |(link, _)| *link) {
            Ok(place) => self.0[place].1.push(message),
            Err(place) => self.0.insert(place, (link, vec![message])),
        }
    }

    fn take(&mut self, link: LinkId) -> Vec<(LogId, Message)> {
        match self.0.binary_search_by_key(&link, |(link, _)| *link) {
            Ok(place) => std::mem::take(&mut self.0[place].1),
            Err(_) => Vec::new(),
        }
    }
}

fn send_small(
    out: &mut VecDeque<Output>,
    cluster: ClusterId,
    link: LinkId,
    mut messages: Vec<(LogId, Message)>,
) {
    while !messages.is_empty() {
        let rest = messages.split_off(messages.len().min(LOGS_MAX));
        push_packet(out, link, &Packet::Logs { cluster, messages });
        messages = rest;
    }
}

fn is_bulky(message: &Message) -> bool {
    match &message.body {
        Body::Append { entries, .. } => !entries.is_empty(),
        Body::Install { .. } => true,
        _ => false,
    }
}

/// How soon a request that found nobody to serve it is tried again.
pub(super) const TRY_AGAIN: Duration = Duration::from_millis(20);
