//! What a node wants done, carried out in order and checked on its way out.

use std::sync::Arc;

use bytes::Bytes;
use quorate_core::configuration::{ConfigCommand, Configuration, CopyStatus};
use quorate_core::copies::CopyMessage;
use quorate_core::measures::Traffic;
use quorate_core::raft::{Body, Entry, LogRead, Membership, Message, Payload, Snapshot};
use quorate_core::shard::SessionId;
use quorate_core::wire::{self, Packet, Request, Response};
use quorate_core::{
    ClusterId, Command, ConfigVersion, Event, Generation, Index, Input, LinkId, LogId, NodeId,
    Output, PersistId, Reply, State, StorageOp, Term,
};

use super::clients::Acknowledged;
use super::failover::is_of_a_client;
use super::{What, World};
use crate::checks::copies::Grant;
use crate::checks::workloads::Asked;
use crate::checks::{DIALS_MAX, PENDING_MAX, Sent, bounded};
use crate::counts::Count;
use crate::disk::{Batch, DirId};
use crate::network::{LinkRef, MS, Parcel, host_at};
use crate::outcome::{Verdict, Violation};
use crate::plan::{Moment, Step};
use crate::trace::tell;
use crate::view::{Kind, Lane, Mark, Told};

/// A check that can be made only once all outputs of an input are there.
#[derive(Clone, Debug)]
pub(super) enum Late {
    Shows(Arc<Configuration>),
    Answers(ClusterId, ConfigVersion),
    Acknowledges(Box<Command>, ConfigVersion, ConfigVersion),
    Snapshots(LogId, Index, Term),
    Reverted,
    Begins(LogId, Membership, Term),
    /// A node begins a shard's log behind a copy.
    Imports(LogId, Box<Snapshot>),
    Member(LogId, Box<(Membership, Membership)>),
    Executes(LogId),
    Drops(LogId),
    Promises(LogId, Acknowledged, quorate_core::shard::Reply),
    Answered(Box<Asked>, quorate_core::shard::Reply),
    /// A request in a session has a final answer.
    Once((ClusterId, LogId), Sent, quorate_core::shard::Reply),
    /// A request in a session that was sent once is said not to have run.
    NothingRan((ClusterId, LogId), Sent),
    /// A session is called expired, though none ends by itself.
    Expired((ClusterId, LogId), SessionId),
    Grants(Grant, Index),
    /// A node answers from here, though it has answered from there before.
    TakenBack((ClusterId, LogId), Index, Index),
}

/// The first byte of the encoded packets that are looked at: hello, welcome, info, a log's, question,
/// answer, several logs', transaction and its answer, measures.
const LOOKED_AT: [u8; 10] = [0, 1, 3, 4, 6, 7, 8, 9, 12, 16];

/// How long it takes to count what went over links.
const COUNTED_WITHIN: u64 = MS / 10;

impl World {
    pub(super) fn carry_out(&mut self, host: usize, output: Output, pre_vote: bool) -> Verdict {
        match output {
            Output::Persist { id, ops } => self.persist(host, id, ops, pre_vote),
            Output::Datagram { bytes } => self.multicast(host, &bytes),
            Output::Dial { addr } => {
                tell!(self, Told::at(host, Kind::Links), "host {host} dials {addr}");
                self.hosts[host].dials += 1;
                let dials = self.hosts[host].dials;
                if let Some(node) = &self.hosts[host].node {
                    bounded(node.id(), "dials under way", dials, DIALS_MAX)?;
                }
                let by = self.run_of(host);
                let ends = (Lane::Host(host), host_at(addr).map(Lane::Host));
                let mark = self.trace.dials(self.now, ends, addr);
                self.network.dial(&mut self.queue, self.now, by, addr, mark);
                Ok(())
            }
            Output::Close { link } => {
                self.hosts[host].links.retain(|open| *open != link);
                tell!(self, Told::at(host, Kind::Links), "host {host} closes {link:?}");
                self.clients.link_ends(link);
                let (link, side) = LinkRef::of(link);
                self.network.close(&mut self.queue, self.now, link, side, false);
                Ok(())
            }
            Output::Packet { link, bytes } => self.send(host, link, bytes),
            Output::Reply { id, reply } => self.replied(host, id, &reply),
            Output::Event(event) => {
                self.event(host, event);
                Ok(())
            }
            Output::SqlReply { id, reply, of } if is_of_a_client(id) => {
                self.client_replied(host, id, reply, of)
            }
            Output::SqlReply { id, reply, of: _ } => self.sql_replied(host, id, &reply),
            Output::Engine { log, call } if self.plan.databases.is_some() => {
                self.call_engine(host, log, call)
            }
            Output::CloseEngine { log } if self.plan.databases.is_some() => {
                self.close_engine(host, log);
                Ok(())
            }
            Output::Copy { log, call } if self.plan.databases.is_some() => {
                self.call_files(host, log, call)
            }
            Output::Engine { .. } | Output::CloseEngine { .. } | Output::Copy { .. } => {
                let detail = format!("host {host} was given no engines, and calls one");
                Err(Violation::new("engine-unasked", detail))
            }
            Output::ReadLog { log, read } => {
                if let Some(dir) = self.hosts[host].dir {
                    let wait =
                        self.disk_dice.between(10, 1_000) * 1_000 + self.hosts[host].disk_slow;
                    let (at, by) = (self.now + wait, self.run_of(host));
                    self.queue.push(at, What::LogRead { dir, by, log, read });
                }
                Ok(())
            }
            Output::CountTraffic => {
                let by = self.run_of(host);
                self.queue.push(self.now + COUNTED_WITHIN, What::Traffic(by));
                Ok(())
            }
            Output::Stop(reason) => {
                tell!(self, Told::Stops(host), "host {host} ends: {reason}");
                self.stopped[host] = Some(reason);
                Ok(())
            }
        }
    }

    fn persist(
        &mut self,
        host: usize,
        id: PersistId,
        ops: Vec<StorageOp>,
        pre_vote: bool,
    ) -> Verdict {
        let Some(dir) = self.hosts[host].dir else { return Ok(()) };
        let commit = self.hosts[host].seen.commit;
        tell!(self, Told::at(host, Kind::Disk), "host {host} writes {} {}", id.0, brief(&ops));
        let named = ops.iter().rev().find_map(|op| match op {
            StorageOp::Identity(identity) => Some(identity.cluster),
            _ => None,
        });
        let cluster = named.unwrap_or(self.disks.get(dir).written_log.cluster);
        for op in &ops {
            let directory = self.disks.get(dir);
            if pre_vote {
                pre_vote_changes_nothing(directory, op)?;
            }
            let of_shard = shard_of(op);
            let known = of_shard.and_then(|log| self.hosts[host].seen_shards.get(&log));
            let known = of_shard.map_or(commit, |_| known.map_or(Index::ZERO, |s| s.commit));
            self.checks.writes(directory, known, cluster, op)?;
            if let Some(cluster) = cluster {
                self.note_memberships(host, dir, cluster, op);
            }
            if let (StorageOp::DropLog { log }, Some(_)) = (op, of_shard) {
                self.hosts[host].recorded.remove(log);
                self.late.push(Late::Drops(*log));
            }
            if let StorageOp::Copy { log, generation } = op {
                self.hosts[host].recorded.insert(*log, *generation);
            }
            if let StorageOp::Snapshot { log, snapshot, reset } = op {
                let held = of_shard.and_then(|log| self.disks.get(dir).written(log));
                let begins = held.is_none_or(|held| held.last_index() == Index::ZERO);
                if of_shard.is_some() && begins && *reset {
                    self.late.push(Late::Imports(*log, Box::new(snapshot.clone())));
                }
                self.late.push(Late::Snapshots(*log, snapshot.index, snapshot.term));
                if of_shard.is_some() {
                    self.lets_go(host, dir, *log, snapshot.index, *reset)?;
                }
            }
            let change = self.disks.get_mut(dir).write(op);
            if of_shard.is_some() {
                if change.truncated.is_some() {
                    self.counts.add(Count::ShardTruncations);
                }
                continue;
            }
            if change.reverted {
                self.late.push(Late::Reverted);
            }
            self.count_op(op, change);
        }
        self.print.word(ops.len() as u64);
        let records = ops.iter().any(is_record);
        let directory = self.disks.get_mut(dir);
        directory.enqueue(Batch { id, ops });
        bounded(directory.node, "outstanding writes", directory.pending.len(), PENDING_MAX)?;
        self.arm(host, Moment::Write);
        if records {
            self.comes_to(host, Step::Recording);
        }
        if !self.hosts[host].disk_failed {
            self.schedule_sync(host, dir);
        }
        Ok(())
    }

    /// The last content that is durable in a copy, if it is there.
    fn durable_in(&mut self, dir: DirId, log: LogId, copy: Option<Generation>) -> Option<Index> {
        let copy = self.disks.get_mut(dir).files(log).copy(copy?)?;
        Some(copy.synced_at().index)
    }

    /// The log of a shard begins later from here on. What goes is durable in the copy that is in use, or
    /// that comes into use next.
    fn lets_go(
        &mut self,
        host: usize,
        dir: DirId,
        log: LogId,
        index: Index,
        reset: bool,
    ) -> Verdict {
        if reset {
            self.counts.add(Count::CopiesInstalled);
            return Ok(());
        }
        self.counts.add(Count::ShardCompactions);
        let cluster = self.disks.get(dir).written_log.cluster;
        let ledger = cluster.and_then(|cluster| self.checks.shard(cluster, log));
        let least = ledger.map_or(Index::ZERO, |ledger| ledger.content.position_at(index));
        let open = self.hosts[host].engines.get(&log).and_then(|pump| pump.open);
        let live = self.hosts[host].recorded.get(&log).copied().or(open);
        let Some(synced) = self.durable_in(dir, log, live) else { return Ok(()) };
        if synced >= least {
            return Ok(());
        }
        let detail = format!(
            "host {host} lets go of {log:?} up to {index}; durable in its copy is {synced}, content \
             came last with {least}"
        );
        Err(Violation::new("let-go-before-synced", detail))
    }

    fn count_op(&mut self, op: &StorageOp, change: crate::disk::Change) {
        if change.truncated.is_some() {
            self.counts.add(Count::Truncations);
        }
        if change.reverted && !matches!(op, StorageOp::Snapshot { .. }) {
            self.counts.add(Count::MembershipsReverted);
        }
        match op {
            StorageOp::Snapshot { reset: true, .. } => self.counts.add(Count::SnapshotsInstalled),
            StorageOp::Snapshot { reset: false, .. } => self.counts.add(Count::Compactions),
            _ => {}
        }
    }

    fn schedule_sync(&mut self, host: usize, dir: DirId) {
        let disks = &self.plan.disks;
        let (low, high, hiccup) = (disks.sync_min_us, disks.sync_max_us, disks.hiccup_ppm);
        let mut wait = self.disk_dice.between(low, high) * 1_000 + self.hosts[host].disk_slow;
        if self.peace.is_none() && self.disk_dice.chance(hiccup) {
            wait += self.disk_dice.below(1_000 * MS);
        }
        let at = (self.now + wait).max(self.hosts[host].disk_busy);
        self.hosts[host].disk_busy = at;
        let by = self.run_of(host);
        self.queue.push(at, What::Synced { dir, by });
    }

    /// The oldest outstanding batch of a directory is durable.
    pub(super) fn synced(&mut self, dir: DirId, by: super::RunRef) -> Verdict {
        if !self.is_now(by) || self.hosts[by.host].disk_failed {
            return Ok(());
        }
        let records =
            self.disks.get(dir).pending.front().is_some_and(|b| b.ops.iter().any(is_record));
        let Some((id, grown)) = self.disks.get_mut(dir).sync() else { return Ok(()) };
        if !grown.is_empty() {
            let directory = self.disks.get(dir);
            self.checks.holds_now(directory);
            for log in grown {
                self.checks.is_whole_now(directory, log);
            }
        }
        self.counts.add(Count::Syncs);
        self.print.word(id.0);
        self.arm(by.host, Moment::Durable);
        if records {
            self.comes_to(by.host, Step::Recorded);
        }
        if self.dying == Some(by.host) {
            return self.die_if_armed(by.host);
        }
        tell!(self, Told::at(by.host, Kind::Disk), "host {} has {} durable", by.host, id.0);
        self.deliver(by.host, Input::Persisted { id }, false)
    }

    /// A transport tells what it has counted: something of every node that there ever was, as one may that
    /// has met them.
    pub(super) fn traffic(&mut self, by: super::RunRef) -> Verdict {
        if !self.is_now(by) {
            return Ok(());
        }
        let nodes: Vec<NodeId> =
            self.hosts.iter().filter_map(|host| Some(self.disks.get(host.dir?).node)).collect();
        let traffic = nodes.into_iter().map(|node| (node, Traffic::default())).collect();
        self.print.word(0x700 + by.host as u64);
        self.deliver(by.host, Input::Traffic { traffic }, false)
    }

    /// A disk answers what it was asked, as it is now.
    pub(super) fn log_read(
        &mut self,
        dir: DirId,
        by: super::RunRef,
        log: LogId,
        read: LogRead,
    ) -> Verdict {
        if !self.is_now(by) {
            return Ok(());
        }
        let result = self.disks.get(dir).read(log, read);
        self.counts.add(Count::LogReads);
        self.print.word(0x600 + by.host as u64);
        self.deliver(by.host, Input::LogRead { log, id: read.id, result }, false)
    }

    fn multicast(&mut self, host: usize, bytes: &Bytes) -> Verdict {
        let Some(dir) = self.hosts[host].dir else { return Ok(()) };
        if !self.hosts[host].plan.multicast {
            let detail = format!("host {host} multicasts, though it was told not to");
            return Err(Violation::new("multicast-unwanted", detail));
        }
        match wire::decode_announce(bytes) {
            Ok(announce) => self.checks.announces(self.disks.get(dir), &announce)?,
            Err(error) => {
                let detail = format!("host {host} multicasts what does not decode: {error}");
                return Err(Violation::new("sent-undecodable", detail));
            }
        }
        self.print.bytes(bytes);
        let hosts = self.hosts.len();
        let cut = self.network.cuts.datagrams_from(host);
        let mark = self.trace.announces(self.now, host, cut, bytes);
        let hurt = self.network.multicast(&mut self.queue, self.now, host, hosts, (mark, bytes));
        for _ in 0..hurt {
            self.counts.add(Count::DatagramsHurt);
        }
        Ok(())
    }

    fn send(&mut self, host: usize, id: LinkId, bytes: Bytes) -> Verdict {
        self.print.bytes(&bytes);
        let (link, side) = LinkRef::of(id);
        let (mut pre_vote, mut mark) = (false, None);
        let looked_at = bytes.first().is_some_and(|first| LOOKED_AT.contains(first));
        if looked_at || self.trace.is_on() {
            (pre_vote, mark) = self.look_at(host, link, side, &bytes)?;
        }
        self.arm(host, Moment::Send);
        if !self.hosts[host].links.contains(&id) {
            let detail = format!("host {host} sends on {id:?}, which is closed or never was open");
            return Err(Violation::new("sent-on-closed-link", detail));
        }
        self.network.send(&mut self.queue, self.now, id, Parcel { pre_vote, mark, bytes });
        Ok(())
    }

    /// Checks a packet that leaves; says whether it asks for a pre-vote, and what it is recorded as.
    fn look_at(
        &mut self,
        host: usize,
        link: LinkRef,
        side: crate::network::Side,
        bytes: &Bytes,
    ) -> Result<(bool, Option<Mark>), Violation> {
        let packet = match wire::decode_packet(bytes) {
            Ok(packet) => packet,
            Err(error) => {
                let detail = format!("host {host} sends what does not decode: {error}");
                return Err(Violation::new("sent-undecodable", detail));
            }
        };
        let Some(held) = self.network.links.get(link) else { return Ok((false, None)) };
        let to = held.nodes[1 - side];
        let mut mark = None;
        if self.trace.is_on() {
            let peer = held.ends[1 - side].host;
            let cut = !self.network.cuts.stream_open(host, peer);
            mark = self.trace.packet(self.now, (host, peer), cut, (&packet, bytes.len()));
        }
        let Some(dir) = self.hosts[host].dir else { return Ok((false, mark)) };
        if let Packet::Response { response: Response::Done { cluster, version }, .. } = &packet {
            self.late.push(Late::Answers(*cluster, *version));
        } else {
            self.checks.sends(self.disks.get(dir), to, &packet)?;
        }
        self.passes(host, link, side, &packet)?;
        let pre_vote = matches!(
            packet,
            Packet::Raft {
                log: LogId::CONFIGURATION,
                message: Message { body: Body::PreVote { .. }, .. },
                ..
            }
        );
        Ok((pre_vote, mark))
    }

    fn event(&mut self, host: usize, event: Event) {
        match event {
            Event::Configuration(document) => {
                tell!(
                    self,
                    Told::at(host, Kind::Shows),
                    "host {host} shows version {} of {:?}: {}",
                    document.version,
                    document.cluster,
                    servers(&document)
                );
                self.layout_is_stale(host);
                self.late.push(Late::Shows(document));
            }
            other => {
                if matches!(other, Event::Owner { .. }) {
                    self.layout_is_stale(host);
                }
                if let Event::Copies(copies) = &other {
                    self.push_copies(host, copies);
                }
                tell!(self, Told::at(host, Kind::Says), "host {host} says {other:?}");
                match other {
                    Event::State(State::Founding) => self.counts.add(Count::Foundings),
                    Event::Paused { .. } => self.counts.add(Count::PausesNoticed),
                    Event::NoQuorum(_) => self.counts.add(Count::NoQuorums),
                    Event::Split { .. } => self.counts.add(Count::Splits),
                    Event::Damaged { .. } => self.will_be_renewed(host),
                    _ => {}
                }
            }
        }
    }

    /// Remembers that a command was acknowledged, to be checked with the outputs complete.
    pub(super) fn acknowledge(&mut self, command: Command, since: ConfigVersion, reply: &Reply) {
        if let Reply::Done { version } = reply {
            self.counts.add(Count::Acknowledged);
            // Whoever stops without having been a member names no version.
            if command != Command::Stop {
                self.late.push(Late::Acknowledges(Box::new(command), *version, since));
            }
        }
    }

    /// What could be checked only once all outputs of an input were there.
    pub(super) fn check_late(&mut self, host: usize) -> Verdict {
        if self.late.is_empty() {
            return Ok(());
        }
        let Some(dir) = self.hosts[host].dir else { return Ok(()) };
        let node = self.disks.get(dir).node;
        let mut late = std::mem::take(&mut self.late);
        for check in late.drain(..) {
            match check {
                Late::Shows(document) => {
                    self.checks.shows(node, &mut self.hosts[host].view, &document)?;
                }
                Late::Imports(log, base) => {
                    let Some(cluster) = self.disks.get(dir).written_log.cluster else { continue };
                    self.checks.imports(node, (cluster, log), &base)?;
                }
                Late::Begins(log, first, term) => {
                    let Some(cluster) = self.disks.get(dir).written_log.cluster else { continue };
                    self.checks.begins(node, (cluster, log), &first, term)?;
                }
                Late::Member(log, change) => {
                    let Some(cluster) = self.disks.get(dir).written_log.cluster else { continue };
                    self.checks.shard_membership(node, (cluster, log), &change.0, &change.1)?;
                }
                Late::Drops(log) => {
                    let Some(cluster) = self.disks.get(dir).written_log.cluster else { continue };
                    self.checks.drops(node, cluster, log)?;
                }
                Late::Executes(log) => self.executes_in_own_term(host, log)?,
                Late::Promises(log, promises, reply) => {
                    if let Some(promise) = self.promise(host, log, promises, &reply) {
                        self.checks.promises(&self.disks, self.disks.get(dir), promise)?;
                    }
                }
                Late::Answered(asked, reply) => self.checks.answered(&asked, &reply)?,
                Late::Once(of, sent, reply) => self.checks.answered_once(of, sent, &reply)?,
                Late::TakenBack(of, at, shown) => self.checks.answered_behind(of, at, shown)?,
                Late::NothingRan(of, sent) => self.checks.nothing_ran(of, sent)?,
                Late::Expired(of, session) => self.checks.expired(of, session)?,
                Late::Grants(grant, commit) => {
                    self.counts.add(Count::Grants);
                    self.checks.asks_online(&self.disks, node, grant, commit)?;
                }
                Late::Reverted => self.follows_its_log(host, dir)?,
                Late::Snapshots(log, index, term) => {
                    self.checks.snapshots(self.disks.get(dir), log, index, term)?;
                }
                Late::Answers(cluster, version) => self.checks.answers(node, cluster, version)?,
                Late::Acknowledges(command, version, since) => {
                    let Some(cluster) = self.disks.get(dir).written_log.cluster else { continue };
                    self.checks.acknowledges(node, cluster, version, &command, since)?;
                }
            }
        }
        self.late = late;
        Ok(())
    }
}

impl World {
    /// The membership that a node goes by is the last one in its log, as far as all of that log
    /// has been handed out.
    fn follows_its_log(&self, host: usize, dir: DirId) -> Verdict {
        let Some(node) = &self.hosts[host].node else { return Ok(()) };
        let Some(raft) = node.configuration_log() else { return Ok(()) };
        let log = &self.disks.get(dir).written_log;
        let whole = raft.last_index() == log.last_index();
        let (Some(held), true) = (log.membership(), whole) else { return Ok(()) };
        if **held == *raft.membership() {
            return Ok(());
        }
        let detail = format!(
            "{:?} goes by {:?}; the last membership in its log is {held:?}",
            node.id(),
            raft.membership()
        );
        Err(Violation::new("membership-not-in-log", detail))
    }
}

impl World {
    /// What the logs of shards begin with, and how their memberships change, is judged by the
    /// document, once all that was committed is known.
    fn note_memberships(&mut self, host: usize, dir: DirId, cluster: ClusterId, op: &StorageOp) {
        let StorageOp::Append { log, entries } = op else { return };
        if *log == LogId::CONFIGURATION {
            self.note_grants(host, cluster, entries);
            return;
        }
        let first = entries.first().map_or(Index::ZERO, |entry| entry.index);
        let held = self.disks.get(dir).written(*log);
        let mut before = held.and_then(|log| log.membership_at(first.previous())).cloned();
        let base = self.checks.shard(cluster, *log).map_or(Index::ZERO, |ledger| ledger.base());
        for entry in entries {
            let Payload::Membership(membership) = &entry.payload else { continue };
            if entry.index <= base {
                // A survivor that was recovered went on alone, whatever the membership was.
                before = Some(Arc::new(membership.clone()));
                continue;
            }
            self.counts.add(Count::ShardMemberships);
            self.late.push(match before {
                None => Late::Begins(*log, membership.clone(), entry.term),
                Some(held) => Late::Member(*log, Box::new(((*held).clone(), membership.clone()))),
            });
            before = Some(Arc::new(membership.clone()));
        }
    }

    /// Grants that a coordinator makes without having been asked are those of its own shards. Whoever
    /// writes the entry besides has asked for nothing, also if it has come to lead the shard by then.
    fn note_grants(&mut self, host: usize, cluster: ClusterId, entries: &[Entry]) {
        let node = self.hosts[host].node.as_ref();
        let log = node.and_then(|node| node.configuration_log());
        let Some(term) = log.filter(|log| log.is_leader()).map(|log| log.term()) else { return };
        for entry in entries.iter().filter(|entry| entry.term == term) {
            if let Payload::Data(bytes) = &entry.payload
                && let Some(command) = quorate_core::node::decode_command(bytes)
                && let Some(grant) = grant(cluster, &command)
            {
                self.note_grant(host, grant);
            }
        }
    }

    /// Whether it comes from whoever leads the shard's log.
    fn note_grant(&mut self, host: usize, grant: Grant) -> bool {
        let held = &self.hosts[host];
        let shard = held.node.as_ref().and_then(|node| node.shard(grant.log));
        // It may have been deposed since it asked, by what came at the same time.
        let seen = held.seen_shards.get(&grant.log);
        let leads = shard.is_some_and(|shard| shard.log().is_leader())
            || seen.is_some_and(|seen| seen.leads);
        let judged = self.checks.was_judged(&grant);
        // Asked again, it is what was judged before.
        if leads && !judged {
            let commit = seen.map_or(Index::ZERO, |seen| seen.commit);
            self.late.push(Late::Grants(grant, commit));
        }
        leads
    }

    /// Transactions on their way to owners, and what owners answer.
    fn passes(
        &mut self,
        host: usize,
        link: LinkRef,
        side: crate::network::Side,
        packet: &Packet,
    ) -> Verdict {
        match packet {
            Packet::Sql { id, log, kind, .. } => {
                self.clients.passes_on(link.id(side), *id, *log, *kind);
            }
            Packet::SqlReply { id, reply } => {
                let asked = self.clients.answers(link.id(1 - side), *id);
                if let Some((log, promises)) = asked {
                    self.late.push(Late::Promises(log, promises, reply.clone()));
                }
            }
            Packet::Copy { log, message: CopyMessage::Ask { at_least, .. }, .. } => {
                self.asks_for_no_less(host, *log, *at_least)?;
            }
            Packet::Request { request: Request::Change(command), .. } => {
                let cluster = self.hosts[host].node.as_ref().and_then(|node| node.cluster());
                if let Some(grant) = cluster.and_then(|cluster| grant(cluster, command))
                    && !self.note_grant(host, grant)
                {
                    let detail = format!("host {host} no longer leads, and asks for {command:?}");
                    return Err(Violation::new("granted-by-no-owner", detail));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A copy that is in order gives way to none that holds less than is durable in it.
    fn asks_for_no_less(&mut self, host: usize, log: LogId, at_least: Index) -> Verdict {
        let Some(node) = &self.hosts[host].node else { return Ok(()) };
        let id = node.id();
        let open = node.shard(log).filter(|shard| shard.is_open()).and_then(|s| s.generation());
        let Some(dir) = self.hosts[host].dir else { return Ok(()) };
        let Some(durable) = self.durable_in(dir, log, open) else { return Ok(()) };
        if at_least >= durable {
            return Ok(());
        }
        let detail = format!(
            "{id:?} asks for a copy of {log:?} that holds entry {at_least}; durable in its own is \
             {durable}"
        );
        Err(Violation::new("copy-set-back", detail))
    }

    /// Whoever runs transactions has committed an entry of its own term.
    fn executes_in_own_term(&self, host: usize, log: LogId) -> Verdict {
        let Some(node) = &self.hosts[host].node else { return Ok(()) };
        let Some(raft) = node.shard(log).map(|shard| shard.log()) else { return Ok(()) };
        let term = raft.term_at(raft.commit());
        if !raft.is_leader() || term == Some(raft.term()) {
            return Ok(());
        }
        let detail = format!(
            "{:?} runs transactions of {log:?} in term {}, committed is {} of {term:?}",
            node.id(),
            raft.term(),
            raft.commit()
        );
        Err(Violation::new("executed-before-own-term", detail))
    }
}

/// Whether an operation names the live copy of a shard.
fn is_record(op: &StorageOp) -> bool {
    matches!(op, StorageOp::Copy { .. })
}

/// The shard's log that an operation is about.
fn shard_of(op: &StorageOp) -> Option<LogId> {
    op.log().filter(|log| *log != LogId::CONFIGURATION)
}

fn grant(cluster: ClusterId, command: &ConfigCommand) -> Option<Grant> {
    match command {
        ConfigCommand::SetCopy { log, node, status: CopyStatus::Online, judged_at } => {
            Some(Grant { cluster, log: *log, node: *node, judged_at: *judged_at })
        }
        _ => None,
    }
}

fn pre_vote_changes_nothing(directory: &crate::disk::Directory, op: &StorageOp) -> Verdict {
    let StorageOp::HardState { log: LogId::CONFIGURATION, state } = op else { return Ok(()) };
    let before = directory.written_log.hard;
    // Its own time-out may be due at the same moment: then it votes for itself.
    let campaigns = state.term > before.term && state.vote == Some(directory.node);
    if (before.term, before.vote) == (state.term, state.vote) || campaigns {
        return Ok(());
    }
    let detail = format!(
        "{:?} writes {state:?} over {before:?} because it was asked for a pre-vote",
        directory.node
    );
    Err(Violation::new("pre-vote-changed-vote", detail))
}

fn servers(document: &Configuration) -> String {
    let line = |(id, s): (&quorate_core::NodeId, &quorate_core::configuration::Server)| {
        format!("{id:?} '{}' {:?} {:?} {:?}", s.name, s.role, s.registration, s.status)
    };
    let servers: Vec<String> = document.servers.iter().map(line).collect();
    format!("{} databases {}", servers.join(", "), document.databases.len())
}

fn brief(ops: &[StorageOp]) -> String {
    let words: Vec<String> = ops.iter().map(brief_op).collect();
    words.join("; ")
}

fn brief_op(op: &StorageOp) -> String {
    match op {
        StorageOp::Identity(identity) => format!(
            "identity cluster {:?} name {:?} start {:?}",
            identity.cluster,
            identity.name,
            identity.starts.last()
        ),
        StorageOp::Append { entries, .. } => {
            let entry = |e: &quorate_core::raft::Entry| {
                let what = match &e.payload {
                    quorate_core::raft::Payload::Empty => "empty".to_owned(),
                    quorate_core::raft::Payload::Membership(m) => format!("{m:?}"),
                    quorate_core::raft::Payload::Data(bytes) => command(bytes),
                };
                format!("{}/{} {what}", e.index, e.term)
            };
            format!("append {}", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
        StorageOp::Snapshot { snapshot, reset, .. } => {
            format!("snapshot {}/{} reset {reset}", snapshot.index, snapshot.term)
        }
        other => format!("{other:?}"),
    }
}

fn command(bytes: &Bytes) -> String {
    match quorate_core::node::decode_command(bytes) {
        Some(command) => format!("{command:?}"),
        None => format!("{} bytes", bytes.len()),
    }
}
