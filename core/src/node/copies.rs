//! Full copies on their way to this node and from it, and what is said of copies.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use rand_core::Rng as _;

use super::{Event, Node, Output, SyncStart};
use crate::configuration::{ConfigCommand, CopyStatus, Rejection, ShardRef};
use crate::copies::{
    CopyAnswer, CopyMessage, CopyRefusal, CopyReport, CopyState, Donor, Goal, Incoming,
    IncomingStep, Need, Outgoing, OutgoingStep, SyncPlan, plan_sync,
};
use crate::ids::{Generation, Index, LinkId, LogId, NodeId, Term};
use crate::marks::sometimes;
use crate::raft::Snapshot;
use crate::time::Time;
use crate::wire::{self, COPIES_MAX, Packet, Request};

/// How often copies are looked at, and the others told of them.
const LOOK: Duration = Duration::from_millis(200);
/// So long is waited for more peers when one has come, before copies are looked at.
const ARRIVALS: Duration = Duration::from_millis(50);
/// How often the others are told of copies of which there is no news.
const TELL_AGAIN: Duration = Duration::from_secs(2);
/// For so long a copy that holds nothing waits to hear what others hold; then the log will do.
const HEARSAY: Duration = Duration::from_secs(1);
/// How often clients are told of progress.
const TELL: Duration = Duration::from_secs(1);
/// Transfers to this node at one time.
const INCOMING_MAX: usize = 4;
/// Snapshots of this node's copies at one time.
const OUTGOING_MAX: usize = 4;
/// A donor that failed is not asked again for so long.
const DONOR_REST: Duration = Duration::from_secs(5);
/// One that is only not ready yet is asked again after this.
const DONOR_REFUSED: Duration = Duration::from_millis(500);
/// After this node's own files failed, nothing is received for so long.
const FILES_REST: Duration = Duration::from_secs(5);
/// An order for a copy in the place of one in order lapses after so long in which no server could serve
/// it: none need ever hold as much, and one that came much later would serve it unexpectedly.
const ORDERED: Duration = Duration::from_secs(30);
/// How often the owner is asked to keep its log, and it keeps it for five times as long.
const HOLD: Duration = Duration::from_secs(1);

/// A transfer to this node.
#[derive(Debug)]
struct Receiving {
    machine: Incoming,
    began: Time,
    held: Option<Time>,
}

/// A copy that holds nothing.
#[derive(Debug)]
struct Blank {
    since: Time,
    /// Who could not give it a whole one. An entry need not have content: a log may be long, and the
    /// copies that follow it hold nothing. So nobody is asked for ever.
    asked: BTreeSet<NodeId>,
}

/// Full copies, and what is known of copies.
#[derive(Default, Debug)]
pub(super) struct Copies {
    incoming: BTreeMap<LogId, Receiving>,
    outgoing: BTreeMap<u64, (LogId, Outgoing)>,
    exports: u64,
    /// Donors that failed since the copy is needed, and until when they are left alone.
    rests: BTreeMap<(LogId, NodeId), Time>,
    /// Logs whose files failed here, and until when they are left alone.
    waits: BTreeMap<LogId, (Time, String)>,
    /// What is known of the copies of others.
    reports: BTreeMap<(LogId, NodeId), CopyReport>,
    /// What the others were told of this node's.
    told: BTreeMap<LogId, CopyReport>,
    /// As the leader of a log: what was committed when a copy was first seen not to be online.
    goals: BTreeMap<(LogId, NodeId), (Term, Index)>,
    /// Copies that hold nothing and wait to be fetched whole.
    blank: BTreeMap<LogId, Blank>,
    /// Copies in order that an operator wants replaced by another's, and when each order lapses.
    forced: BTreeMap<LogId, Time>,
    /// Copies that have just come whole, and what they still have to apply, once they are open: the
    /// others are waiting to hear of both.
    arrived: BTreeMap<LogId, Option<Index>>,
    /// The live generation when the files of a copy were last put in order.
    tidy: BTreeMap<LogId, Generation>,
    next: Time,
    /// When all is told once more.
    tell_all: Time,
    /// The copies that are not whole, as they were last told to clients, and when.
    unwhole: (Time, Vec<(LogId, NodeId, CopyReport)>),
}

impl Copies {
    pub(super) fn next(&self) -> Option<Time> {
        if self.incoming.is_empty() && self.outgoing.is_empty() {
            return Some(self.next);
        }
        let incoming = self.incoming.values().map(|receiving| receiving.machine.next());
        let outgoing = self.outgoing.values().map(|(_, machine)| machine.next());
        incoming.chain(outgoing).chain([self.next]).min()
    }

    /// What a node has said of its copy.
    pub(super) fn report(&self, log: LogId, node: NodeId) -> Option<&CopyReport> {
        self.reports.get(&(log, node))
    }

    pub(super) fn reports(&self) -> impl Iterator<Item = (LogId, NodeId, &CopyReport)> {
        self.reports.iter().map(|((log, node), report)| (*log, *node, report))
    }
}

impl Node {
    /// Lets transfers go on, begins those that are needed, tells the others of this node's copies.
    pub(super) fn run_copies(&mut self) {
        if self.shards.all.is_empty() && self.copies.outgoing.is_empty() {
            return;
        }
        let now = self.now;
        self.watch_arrived();
        if now >= self.copies.next {
            self.copies.next = now + LOOK;
            self.copies.waits.retain(|_, (until, _)| *until > now);
            self.begin_transfers();
            self.put_in_order();
            self.sweep_stages();
            self.tell_of_copies();
            self.tell_of_transfers();
        }
        if !self.copies.incoming.is_empty() || !self.copies.outgoing.is_empty() {
            self.run_transfers();
        }
        self.run_restores();
    }

    fn run_transfers(&mut self) {
        let now = self.now;
        let logs: Vec<LogId> = self.copies.incoming.keys().copied().collect();
        for log in logs {
            if let Some(receiving) = self.copies.incoming.get_mut(&log)
                && receiving.machine.next() <= now
            {
                receiving.machine.tick(now);
            }
            self.hold_log(log);
            self.drain_incoming(log);
        }
        let exports: Vec<u64> = self.copies.outgoing.keys().copied().collect();
        for export in exports {
            if let Some((_, machine)) = self.copies.outgoing.get_mut(&export) {
                machine.tick(now);
            }
            self.drain_outgoing(export);
        }
    }

    /// What has become of a copy that has just come is told at once.
    fn watch_arrived(&mut self) {
        if self.copies.arrived.is_empty() {
            return;
        }
        let (now, shards) = (self.now, &self.shards);
        let Copies { arrived, next, .. } = &mut self.copies;
        arrived.retain(|log, goal| {
            let Some(held) = shards.all.get(log).filter(|held| held.lack().is_none()) else {
                return false;
            };
            if !held.is_open() {
                return true;
            }
            let news = goal.is_none();
            let there = held.applied() >= *goal.get_or_insert(held.log().commit());
            if news || there {
                *next = now;
            }
            !there
        });
    }

    fn begin_transfers(&mut self) {
        let Some(document) = self.document.clone() else { return };
        let (member, me) = (self.takes_requests(), self.id());
        let mut needing = BTreeSet::new();
        for shard in document.shards() {
            let log = shard.shard.log;
            // Whoever has lost its place votes until its successor can, and what it votes on it must be
            // able to hold.
            if !member && !self.votes_in(log, me) {
                continue;
            }
            self.look_at_blank(shard);
            self.look_at_order(log);
            let needed = self.needed(shard);
            needing.extend(needed.map(|_| log));
            match needed {
                Some(full) if !self.copies.incoming.contains_key(&log) => {
                    self.begin_transfer(shard, full);
                }
                None => self.stop_transfer(log),
                Some(_) => {}
            }
        }
        self.copies.rests.retain(|(log, _), _| needing.contains(log));
    }

    fn votes_in(&self, log: LogId, node: NodeId) -> bool {
        let held = self.shards.all.get(&log);
        held.is_some_and(|held| held.log().membership().is_voter(node))
    }

    /// Whether this node is to have a full copy of a shard, with what in it at least.
    fn needed(&self, shard: ShardRef<'_>) -> Option<Index> {
        let held = self.shards.all.get(&shard.shard.log)?;
        // One that is part of the log is mended, also where an operator has put it out of use, or has
        // taken its place: others may count on its vote, and the shard could not even move without.
        let wanted = held.log().membership().contains(self.id())
            || match *shard.shard.copies.get(&self.id())? {
                CopyStatus::Offline => false,
                CopyStatus::Synchronizing => true,
                CopyStatus::NotAvailable | CopyStatus::Online | CopyStatus::Backup => {
                    shard.database.settings.auto_deploy
                }
            };
        let forced = self.copies.forced.contains_key(&shard.shard.log) && held.is_open();
        // One that is in order gives way to none that holds less than its disk: of the entries between
        // them this log may be the last, and none of them may have been read for long.
        let forced = forced.then(|| held.least_successor());
        let blank = (held.awaits_copy() && held.is_open()).then_some(Index(1));
        held.needs_copy().or(forced).or(blank).filter(|_| wanted && !held.log().abstains())
    }

    /// An order for a copy that nobody serves lapses.
    fn look_at_order(&mut self, log: LogId) {
        let lapses = self.copies.forced.get(&log).is_some_and(|until| *until <= self.now);
        if lapses && !self.copies.incoming.contains_key(&log) {
            self.copies.forced.remove(&log);
            let reason = "no other server holds as much as this copy: the order lapses".to_owned();
            self.tell_copy_failed(log, None, reason);
        }
    }

    /// A copy that this node has just been given, and that holds nothing.
    pub(super) fn await_copy(&mut self, log: LogId) {
        if let Some(held) = self.shards.touch(log) {
            held.await_copy(true);
            self.copies.blank.insert(log, Blank { since: self.now, asked: BTreeSet::new() });
            self.copies.next = self.now;
        }
    }

    /// Whether a copy that holds nothing goes on waiting for a whole one, or takes the log.
    fn look_at_blank(&mut self, shard: ShardRef<'_>) {
        let log = shard.shard.log;
        let Some(Blank { since, asked }) = self.copies.blank.get(&log) else { return };
        let Some(held) = self.shards.all.get(&log) else { return };
        let donors = self.donors(shard);
        let known = donors.iter().filter(|d| d.serves && !d.failed && !asked.contains(&d.node));
        let most = known.filter_map(|donor| donor.applied).max();
        let fetched = self.copies.incoming.contains_key(&log);
        let worth = match most {
            Some(index) => self.config.shards.is_some_and(|limits| index.0 >= limits.blank_worth),
            None => self.now.since(*since) < HEARSAY,
        };
        if !(fetched || worth) || !held.awaits_copy() {
            sometimes!(!fetched, BlankTakesLog);
            self.copies.blank.remove(&log);
            if let Some(held) = self.shards.touch(log) {
                held.await_copy(false);
            }
        }
    }

    /// Sees to it that this node's copies of a database come to hold everything.
    pub(super) fn sync_copies(
        &mut self,
        database: &str,
        only: Option<&str>,
        full: bool,
        force: bool,
    ) -> Result<Vec<(String, SyncStart)>, Rejection> {
        let Some(document) = self.document.clone() else { return Ok(Vec::new()) };
        if !document.databases.contains_key(database) {
            return Err(Rejection::UnknownDatabase { name: database.chars().take(80).collect() });
        }
        let of = |shard: &ShardRef<'_>| {
            shard.database_name == database && only.is_none_or(|name| name == shard.name)
        };
        let shards: Vec<ShardRef<'_>> = document.shards().filter(of).collect();
        if shards.is_empty() {
            let shard = only.unwrap_or_default().chars().take(80).collect();
            return Err(Rejection::UnknownShard { database: database.to_owned(), shard });
        }
        let started = shards.into_iter().map(|shard| {
            let start = self.sync_copy(shard, full, force);
            (shard.name.to_owned(), start)
        });
        let started = started.collect();
        self.copies.next = self.now;
        Ok(started)
    }

    fn sync_copy(&mut self, shard: ShardRef<'_>, full: bool, force: bool) -> SyncStart {
        let (log, me) = (shard.shard.log, self.id());
        let (Some(status), Some(held)) =
            (shard.shard.copies.get(&me).copied(), self.shards.all.get(&log))
        else {
            return SyncStart::NotHere;
        };
        let (applied, commit) = (held.applied(), held.log().commit());
        let whole = held.is_open() && applied >= commit && status == CopyStatus::Online;
        let is_member = held.log().membership().contains(me);
        if status == CopyStatus::Offline {
            return SyncStart::Offline;
        }
        if status == CopyStatus::NotAvailable && !shard.database.settings.auto_deploy && !is_member
        {
            let (status, judged_at) = (CopyStatus::Synchronizing, shard.document.version);
            let ask = ConfigCommand::SetCopy { log, node: me, status, judged_at };
            self.begin_duty(Request::Change(ask));
            return SyncStart::Asked;
        }
        if held.needs_copy().is_some() {
            return SyncStart::Full;
        }
        if full && (force || !whole) {
            if whole && !self.donors(shard).iter().any(|donor| donor.serves) {
                return SyncStart::NobodyElse;
            }
            self.copies.forced.insert(log, self.now + ORDERED);
            return SyncStart::Full;
        }
        match applied >= commit {
            true => SyncStart::UpToDate,
            false => SyncStart::Delta { from: applied.0, to: commit.0 },
        }
    }

    fn begin_transfer(&mut self, shard: ShardRef<'_>, full: Index) {
        let (now, log) = (self.now, shard.shard.log);
        let busy = self.copies.incoming.len() >= INCOMING_MAX;
        if busy || self.copies.waits.contains_key(&log) {
            return;
        }
        let Some(held) = self.shards.all.get(&log) else { return };
        let commit = held.log().commit();
        let need = Need { applied: held.applied(), commit, full: Some(full) };
        let generation = held.next_generation();
        let why = held.lack().unwrap_or_else(|| match held.awaits_copy() {
            true => "it holds nothing yet, and others hold much".to_owned(),
            false => "an operator asked for it".to_owned(),
        });
        let SyncPlan::Full { donor, at_least } = plan_sync(need, &self.donors(shard)) else {
            return;
        };
        let transfer = self.rng.next_u64();
        let rate_max = self.config.shards.and_then(|limits| limits.copy_rate_max);
        let goal = Goal::Copy { generation, at_least };
        let machine = Incoming::new((transfer, donor), goal, rate_max, now);
        self.copies.incoming.insert(log, Receiving { machine, began: now, held: None });
        let (database, shard) = (shard.database_name.to_owned(), shard.name.to_owned());
        self.out.push_back(Output::Event(Event::CopyBegan { database, shard, donor, why }));
    }

    fn donors(&self, shard: ShardRef<'_>) -> Vec<Donor> {
        let (log, me) = (shard.shard.log, self.id());
        let owner = self.shards.all.get(&log).and_then(|held| held.log().leader());
        let listed = shard.shard.copies.iter().map(|(node, status)| (*node, Some(*status)));
        // While a shard moves, those that have lost their place are the ones that hold it.
        let leaving = shard.document.servers.keys().map(|node| (*node, None));
        let leaving = leaving.filter(|(node, _)| !shard.shard.copies.contains_key(node));
        let others = listed.chain(leaving).filter(|(node, _)| *node != me);
        let donors = others.map(|(node, status)| {
            let report = self.copies.report(log, node);
            let whole = report.map(|report| report.state == CopyState::Whole);
            let from = |r: &&Receiving| r.machine.donor() == node;
            let rests = self.copies.rests.get(&(log, node)).copied();
            // What is in a copy is committed, whatever the document says of it: it may have no leader
            // who could say more before somebody has this copy.
            let online = status == Some(CopyStatus::Online);
            let serves = whole.unwrap_or(online);
            Donor {
                node,
                applied: report.map(|report| report.applied),
                serves: serves && self.links.usable(node).is_some(),
                online,
                offline: status == Some(CopyStatus::Offline),
                owns: owner == Some(node),
                failed: rests.is_some_and(|until| until > self.now),
                rested: rests,
                busy: self.copies.incoming.values().filter(from).count(),
            }
        });
        donors.collect()
    }

    pub(super) fn stop_transfer(&mut self, log: LogId) {
        if let Some(receiving) = self.copies.incoming.get_mut(&log) {
            receiving.machine.end();
            self.drain_incoming(log);
            self.copies.incoming.remove(&log);
            self.copies.tidy.remove(&log);
        }
    }

    /// The owner is to keep what the new copy will lack.
    fn hold_log(&mut self, log: LogId) {
        let now = self.now;
        let Some(receiving) = self.copies.incoming.get_mut(&log) else { return };
        let Some(after) = receiving.machine.base().map(|base| base.index) else { return };
        if receiving.held.is_some_and(|at| now.since(at) < HOLD) {
            return;
        }
        receiving.held = Some(now);
        let owner = self.shards.all.get(&log).and_then(|held| held.log().leader());
        if let Some(owner) = owner.filter(|owner| *owner != self.id()) {
            self.send_copy_message(log, owner, CopyMessage::Hold { after });
        }
    }

    fn drain_incoming(&mut self, log: LogId) {
        let now = self.now;
        while let Some(receiving) = self.copies.incoming.get_mut(&log) {
            let donor = receiving.machine.donor();
            let Some(step) = receiving.machine.next_step() else { return };
            match step {
                IncomingStep::Send(message) => self.send_copy_message(log, donor, message),
                IncomingStep::Call(call) => self.out.push_back(Output::Copy { log, call }),
                IncomingStep::DonorFailed { reason, refused } => {
                    let rest = if refused { DONOR_REFUSED } else { DONOR_REST };
                    self.copies.rests.insert((log, donor), now + rest);
                    if let Some(until) = self.copies.forced.get_mut(&log)
                        && receiving.machine.progress().done > 0
                    {
                        *until = now + ORDERED;
                    }
                    if let Some(blank) = self.copies.blank.get_mut(&log) {
                        blank.asked.insert(donor);
                    }
                    self.copies.incoming.remove(&log);
                    self.tell_copy_failed(log, Some(donor), reason);
                    // Another may serve at once.
                    self.copies.next = now;
                }
                IncomingStep::Failed(fault) => {
                    let reason = fault.to_string();
                    self.copies.waits.insert(log, (now + FILES_REST, reason.clone()));
                    self.copies.incoming.remove(&log);
                    self.tell_copy_failed(log, None, reason);
                }
                IncomingStep::Ready { base, generation } => {
                    self.put_in_place(log, generation, *base)
                }
                IncomingStep::Staged(_) => {}
            }
        }
    }

    fn put_in_place(&mut self, log: LogId, generation: Generation, base: Snapshot) {
        let now = self.now;
        let Some(receiving) = self.copies.incoming.remove(&log) else { return };
        let Some(held) = self.shards.touch(log) else { return };
        if !held.install(now, generation, base) {
            // The log has moved on meanwhile: what was received is the start of the next attempt.
            self.copies.next = now;
            return;
        }
        self.copies.forced.remove(&log);
        self.copies.arrived.insert(log, None);
        let progress = receiving.machine.progress();
        let (database, shard) = self.shards.name_of(log);
        self.out.push_back(Output::Event(Event::CopyDone {
            database,
            shard,
            donor: progress.donor,
            bytes: progress.total,
            kept: progress.kept,
            ms: u64::try_from(now.since(receiving.began).as_millis()).unwrap_or(u64::MAX),
        }));
    }

    fn tell_copy_failed(&mut self, log: LogId, donor: Option<NodeId>, reason: String) {
        let (database, shard) = self.shards.name_of(log);
        let failed = Event::CopyFailed { database, shard, donor, reason };
        self.out.push_back(Output::Event(failed));
    }

    pub(super) fn send_copy_message(&mut self, log: LogId, to: NodeId, message: CopyMessage) {
        let (Some(cluster), Some(link)) = (self.identity.cluster, self.links.usable(to)) else {
            return;
        };
        self.send_packet(link, &Packet::Copy { cluster, log, message });
    }

    /// A message about a full copy. Only servers of the cluster get any.
    pub(super) fn on_copy_message(&mut self, from: NodeId, log: LogId, message: CopyMessage) {
        let now = self.now;
        if !self.is_server(from) && !self.votes_in(log, from) {
            return;
        }
        match message {
            CopyMessage::Ask { transfer, at_least } => self.on_ask(log, (from, transfer), at_least),
            CopyMessage::Fetch { transfer, chunk, known, pack } => {
                let user = (from, transfer);
                match self.copies.outgoing.values_mut().find(|(_, m)| m.serves(user)) {
                    Some((_, machine)) => machine.fetch(now, user, (chunk, known, pack)),
                    None => self.refuse_copy(log, user, CopyRefusal::Unknown),
                }
            }
            CopyMessage::End { transfer } => {
                for (_, machine) in self.copies.outgoing.values_mut() {
                    if machine.serves((from, transfer)) {
                        machine.end((from, transfer));
                    }
                }
            }
            CopyMessage::Hold { after } => self.on_hold(from, log, after),
            CopyMessage::AskUpload { transfer, upload } => {
                self.on_ask_upload(log, (from, transfer), upload);
            }
            CopyMessage::Stage { stage, upload } => self.on_stage(from, log, stage, upload),
            CopyMessage::Staged { stage, failed } => self.on_staged(from, log, stage, failed),
            CopyMessage::Unstage { stage } => self.on_unstage(from, log, stage),
            CopyMessage::Preparing { .. }
            | CopyMessage::Offer { .. }
            | CopyMessage::Refused { .. }
            | CopyMessage::Chunk { .. } => {
                if let Some(receiving) = self.copies.incoming.get_mut(&log)
                    && receiving.machine.donor() == from
                {
                    receiving.machine.on_message(now, message.clone());
                }
                self.staging_message(from, log, message);
            }
        }
    }

    /// Keeps what a peer will lack; it asks again long before the time is up. If that is gone already,
    /// the peer will find out, and begin anew.
    fn on_hold(&mut self, from: NodeId, log: LogId, after: Index) {
        let now = self.now;
        if let Some(shard) = self.shards.touch(log) {
            shard.hold(now, from, after, now + HOLD * 5);
        }
    }

    fn on_ask(&mut self, log: LogId, user: (NodeId, u64), at_least: Index) {
        let now = self.now;
        let held = self.shards.all.get(&log);
        let Some((held, position)) = held.and_then(|h| Some((h, h.serves_copies_of()?))) else {
            self.refuse_copy(log, user, CopyRefusal::NoCopy);
            return;
        };
        let live = held.generation();
        let Some(live) = live.filter(|_| position >= at_least) else {
            let refusal = CopyRefusal::Behind { held: position, needed: at_least };
            self.refuse_copy(log, user, refusal);
            if let Some(held) = self.shards.touch(log) {
                held.bring_copies_to(now, at_least);
            }
            return;
        };
        let suits = |of: LogId, machine: &Outgoing| of == log && machine.suits(at_least);
        self.give(log, user, suits, |export, chunk| Outgoing::new(export, live, chunk, now));
    }

    /// Somebody wants a file that was handed to this node.
    fn on_ask_upload(&mut self, log: LogId, user: (NodeId, u64), upload: u64) {
        let now = self.now;
        let suits = |_, machine: &Outgoing| machine.gives(upload);
        let of_upload = |export, chunk| Outgoing::of_upload(export, upload, chunk, now);
        self.give(log, user, suits, of_upload);
    }

    /// Lets somebody have what another has asked for already, or else something new.
    fn give(
        &mut self,
        log: LogId,
        user: (NodeId, u64),
        suits: impl Fn(LogId, &Outgoing) -> bool,
        new: impl FnOnce(u64, u32) -> Outgoing,
    ) {
        let now = self.now;
        let mut given = self.copies.outgoing.values_mut();
        if let Some((_, machine)) = given.find(|(of, machine)| suits(*of, machine)) {
            machine.ask(now, user);
            return;
        }
        if self.copies.outgoing.len() >= OUTGOING_MAX {
            self.refuse_copy(log, user, CopyRefusal::Busy);
            return;
        }
        self.copies.exports += 1;
        let chunk = self.config.shards.map_or(1, |limits| limits.chunk_bytes);
        let mut machine = new(self.copies.exports, chunk);
        machine.ask(now, user);
        self.copies.outgoing.insert(self.copies.exports, (log, machine));
    }

    fn refuse_copy(&mut self, log: LogId, (node, transfer): (NodeId, u64), reason: CopyRefusal) {
        self.send_copy_message(log, node, CopyMessage::Refused { transfer, reason });
    }

    fn drain_outgoing(&mut self, export: u64) {
        while let Some((log, machine)) = self.copies.outgoing.get_mut(&export) {
            let log = *log;
            match machine.next_step() {
                Some(OutgoingStep::Send(to, message)) => self.send_copy_message(log, to, message),
                Some(OutgoingStep::Call(call)) => self.out.push_back(Output::Copy { log, call }),
                None => {
                    if machine.is_over() {
                        self.copies.outgoing.remove(&export);
                    }
                    return;
                }
            }
        }
    }

    /// The files have answered.
    pub(super) fn on_copy_answer(&mut self, log: LogId, answer: CopyAnswer) {
        let now = self.now;
        match answer {
            CopyAnswer::Exported { export, at, bytes } => {
                let base = self.shards.all.get(&log).and_then(|held| held.base_at(at));
                if let Some((_, machine)) = self.copies.outgoing.get_mut(&export) {
                    // A file that was handed to the node has no place in the log yet.
                    let base = if machine.is_upload() { Some(Snapshot::default()) } else { base };
                    machine.on_made(base, at, bytes);
                }
            }
            CopyAnswer::Read { export, .. } | CopyAnswer::ExportFailed { export, .. } => {
                if let Some((_, machine)) = self.copies.outgoing.get_mut(&export) {
                    machine.on_answer(answer);
                }
            }
            CopyAnswer::Receiving { .. }
            | CopyAnswer::Written { .. }
            | CopyAnswer::Finished { .. }
            | CopyAnswer::ReceiveFailed { .. } => {
                if let Some(receiving) = self.copies.incoming.get_mut(&log) {
                    receiving.machine.on_answer(now, answer.clone());
                }
                self.staging_answer(log, answer);
            }
            CopyAnswer::Imported { result } => self.on_imported(log, result),
            CopyAnswer::Staged { stage, result } => self.own_is_staged(log, stage, result),
            CopyAnswer::Placed { stage, result } => {
                if let Some(shard) = self.shards.touch(log) {
                    shard.placed(now, stage, result);
                }
            }
        }
    }

    /// No link to `peer` is left: what came from it stays, the rest comes from another.
    pub(super) fn copies_lost_link(&mut self, peer: NodeId) {
        let now = self.now;
        let from = |(_, receiving): &(&LogId, &Receiving)| receiving.machine.donor() == peer;
        let cut: Vec<LogId> =
            self.copies.incoming.iter().filter(from).map(|(log, _)| *log).collect();
        for log in cut {
            self.copies.incoming.remove(&log);
            self.copies.rests.insert((log, peer), now + DONOR_REST);
            self.tell_copy_failed(log, Some(peer), "the link to it is lost".to_owned());
            self.copies.next = now;
        }
        self.staging_lost_link(peer);
    }

    /// The database of a log was dropped: nothing of it is sent or received any more, and its files
    /// go to the backups.
    pub(super) fn drop_copies(&mut self, log: LogId, name: (String, String)) {
        self.stop_transfer(log);
        self.restores.forget(log);
        let exports = self.copies.outgoing.iter_mut().filter(|(_, (of, _))| *of == log);
        let exports: Vec<u64> = exports
            .map(|(export, (_, machine))| {
                machine.close();
                *export
            })
            .collect();
        exports.into_iter().for_each(|export| self.drain_outgoing(export));
        self.copies.reports.retain(|(of, _), _| *of != log);
        self.copies.told.remove(&log);
        self.copies.forced.remove(&log);
        self.copies.arrived.remove(&log);
        self.copies.tidy.remove(&log);
        let tidy = crate::copies::CopyCall::Tidy { live: None, receiving: false, name };
        self.out.push_back(Output::Copy { log, call: tidy });
    }

    /// The copy of a shard differs from the others: it is to be replaced.
    #[cfg(test)]
    pub(crate) fn distrust_copy(&mut self, log: LogId) {
        if let Some(held) = self.shards.touch(log) {
            let at = held.position();
            held.distrust(crate::engine::Fault::Conflict { at, reason: "it differs".to_owned() });
        }
    }

    /// Puts away what is not needed beside the live copy: after a start, a swap, a transfer.
    fn put_in_order(&mut self) {
        let open = self.shards.all.iter().filter(|(_, held)| held.is_open());
        // What is on its way may be the live one by the time that the files come to it.
        let open = open.filter(|(log, _)| !self.copies.incoming.contains_key(*log));
        let due = open.filter_map(|(log, held)| {
            let live = held.generation()?;
            (self.copies.tidy.get(log) != Some(&live)).then_some((*log, live))
        });
        let due: Vec<(LogId, Generation)> = due.collect();
        for (log, live) in due {
            self.copies.tidy.insert(log, live);
            let receiving = self.shards.all.get(&log).is_some_and(|h| h.needs_copy().is_some());
            let name = self.shards.name_of(log);
            let call = crate::copies::CopyCall::Tidy { live: Some(live), receiving, name };
            self.out.push_back(Output::Copy { log, call });
        }
    }

    /// What this node says of a copy of its own.
    pub(super) fn own_report(&self, log: LogId) -> Option<CopyReport> {
        let held = self.shards.all.get(&log)?;
        let state = match (self.copies.incoming.get(&log), held.lack()) {
            (Some(receiving), _) => CopyState::Receiving(receiving.machine.progress()),
            (None, Some(why)) => {
                let files = self.copies.waits.get(&log).map(|(_, reason)| format!("; {reason}"));
                let why = why + files.as_deref().unwrap_or_default();
                CopyState::Lacking(why.chars().take(200).collect())
            }
            (None, None) if held.is_open() => CopyState::Whole,
            (None, None) => CopyState::Opening,
        };
        Some(CopyReport { applied: held.applied(), state })
    }

    /// What is known of all copies whose state is `wanted`, this node's own included.
    pub(super) fn known_copies(
        &self,
        wanted: impl Fn(&CopyState) -> bool,
    ) -> Vec<(LogId, NodeId, CopyReport)> {
        let me = self.id();
        let own = self.shards.all.keys().filter_map(|log| Some((*log, me, self.own_report(*log)?)));
        let own = own.filter(|(_, _, report)| wanted(&report.state));
        let others = self.copies.reports().filter(|(_, _, report)| wanted(&report.state));
        let others = others.map(|(log, node, report)| (log, node, report.clone()));
        own.chain(others).collect()
    }

    pub(super) fn report_of(&self, log: LogId, node: NodeId) -> Option<CopyReport> {
        if node == self.id() {
            self.own_report(log)
        } else {
            self.copies.report(log, node).cloned()
        }
    }

    /// Whether a copy is whole and holds what was committed when it was first looked at as one that
    /// might come online.
    pub(super) fn holds_goal(&self, log: LogId, node: NodeId) -> bool {
        let (goal, report) = (self.copies.goals.get(&(log, node)), self.report_of(log, node));
        goal.zip(report)
            .is_some_and(|((_, goal), r)| r.state == CopyState::Whole && r.applied >= *goal)
    }

    /// A copy that is not online: what is committed now is what it has to hold before it is.
    pub(super) fn set_goal(&mut self, log: LogId, node: NodeId, status: CopyStatus) {
        let Some(raft) = self.shards.all.get(&log).map(|held| held.log()) else { return };
        let (term, commit) = (raft.term(), raft.commit());
        if status == CopyStatus::Online {
            self.copies.goals.remove(&(log, node));
            return;
        }
        // Of an earlier office it says nothing: others may have committed more since.
        let goal = self.copies.goals.entry((log, node)).or_insert((term, commit));
        if goal.0 != term {
            *goal = (term, commit);
        }
    }

    /// What a copy has become, if that is less than what the document says of it.
    pub(super) fn worse_status(
        &self,
        log: LogId,
        node: NodeId,
        status: CopyStatus,
    ) -> Option<CopyStatus> {
        let worse = match self.report_of(log, node)?.state {
            CopyState::Receiving(_) => CopyStatus::Synchronizing,
            CopyState::Lacking(_) if status.is_whole() => CopyStatus::NotAvailable,
            CopyState::Lacking(_) | CopyState::Whole | CopyState::Opening => return None,
        };
        (status != worse && status.may_become(worse)).then_some(worse)
    }

    /// Tells every peer of those copies of which there is news, and of all from time to time: a report
    /// is lost with its link, or comes before the document that says what it is about.
    fn tell_of_copies(&mut self) {
        let Some(cluster) = self.identity.cluster.filter(|_| self.cluster_durable) else { return };
        let again = self.now >= self.copies.tell_all;
        if again {
            self.copies.tell_all = self.now + TELL_AGAIN;
        }
        let mut news = Vec::new();
        let logs: Vec<LogId> = self.shards.all.keys().copied().collect();
        for log in logs {
            let Some(report) = self.own_report(log) else { continue };
            if again || self.copies.told.get(&log) != Some(&report) {
                self.copies.told.insert(log, report.clone());
                news.push((log, report));
            }
        }
        self.send_reports(cluster, &news, None);
    }

    /// Clients hear of copies that are not whole.
    fn tell_of_transfers(&mut self) {
        let now = self.now;
        let unwhole = self
            .known_copies(|state| matches!(state, CopyState::Receiving(_) | CopyState::Lacking(_)));
        let (at, told) = &self.copies.unwhole;
        let kind = |(log, node, report): &(LogId, NodeId, CopyReport)| {
            (*log, *node, matches!(report.state, CopyState::Receiving(_)))
        };
        let same = unwhole.iter().map(kind).eq(told.iter().map(kind));
        if unwhole == *told || (same && now.since(*at) < TELL) {
            return;
        }
        self.copies.unwhole = (now, unwhole.clone());
        self.out.push_back(Output::Event(Event::Copies(unwhole)));
    }

    /// A peer that has just come hears of all of them, and may be the donor that is missing.
    pub(super) fn tell_peer_of_copies(&mut self, peer: NodeId) {
        // Others may follow at once: of several donors the first to be reached need not be the best.
        self.copies.next = self.copies.next.min(self.now + ARRIVALS);
        let Some(cluster) = self.identity.cluster.filter(|_| self.cluster_durable) else { return };
        let all: Vec<(LogId, CopyReport)> =
            self.copies.told.iter().map(|(log, report)| (*log, report.clone())).collect();
        self.send_reports(cluster, &all, Some(peer));
    }

    fn send_reports(
        &mut self,
        cluster: crate::ids::ClusterId,
        news: &[(LogId, CopyReport)],
        only: Option<NodeId>,
    ) {
        if news.is_empty() {
            return;
        }
        let Some(document) = self.document.clone() else { return };
        let me = self.id();
        let peers = document.servers.keys().filter(|n| **n != me && only.is_none_or(|o| o == **n));
        let links: Vec<LinkId> = peers.filter_map(|peer| self.links.usable(*peer)).collect();
        if links.is_empty() {
            return;
        }
        let packet = |some: &[_]| Packet::Copies { cluster, copies: some.to_vec() };
        let packets = news.chunks(COPIES_MAX).map(|some| wire::encode_packet(&packet(some)).into());
        let packets: Vec<Bytes> = packets.collect();
        for link in links {
            for bytes in &packets {
                self.out.push_back(Output::Packet { link, bytes: bytes.clone() });
            }
        }
    }

    pub(super) fn on_reports(&mut self, from: NodeId, copies: Vec<(LogId, CopyReport)>) {
        let Some(document) = self.document.clone() else { return };
        if !document.servers.contains_key(&from) {
            return;
        }
        let status_of = |shard: ShardRef<'_>| shard.shard.copies.get(&from).copied();
        let spoken_of = |log: LogId| document.shard_of(log).map(|shard| (log, status_of(shard)));
        let all = || document.shards().map(|shard| (shard.shard.log, status_of(shard)));
        // Mostly there is news of one: then it is sought. Many are found by way of all.
        let known: BTreeMap<LogId, Option<CopyStatus>> = match copies.as_slice() {
            [(log, _)] => spoken_of(*log).into_iter().collect(),
            _ => all().collect(),
        };
        let mut asked = Vec::new();
        for (log, report) in copies {
            if let Some(status) = known.get(&log) {
                if report.state == CopyState::Whole && *status != Some(CopyStatus::Online) {
                    // It may be what the leader of its log waits for.
                    self.shards.hurry_duties(self.now);
                }
                if report.applied == Index::ZERO && report.state != CopyState::Opening {
                    // It has just been given its place: what others hold it has not heard yet.
                    let own = self.own_report(log).filter(|own| own.applied > Index::ZERO);
                    asked.extend(own.map(|own| (log, own)));
                }
                self.copies.reports.insert((log, from), report);
                if self.copies.blank.contains_key(&log) {
                    self.copies.next = self.now;
                }
            }
        }
        if let Some(cluster) = self.identity.cluster.filter(|_| !asked.is_empty()) {
            self.send_reports(cluster, &asked, Some(from));
        }
    }
}
