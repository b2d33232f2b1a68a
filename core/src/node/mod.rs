//! One node: routes what happens to the machines that decide.
//!
//! Files: `api` inputs and outputs · `links` who is on the other end · `dialer` whom to dial ·
//! `detector` who was heard · `discovery` announcements and founding · `joining` · `leaving` ·
//! `document` the configuration log's state machine · `coordinator` its leader's duties ·
//! `merge` two clusters of one name · `bringing` one of one server that has databases · `requests` questions and answers · `report` what is told ·
//! `shards` the copies of shards · `sql` transactions on their way to them · `reach` who is missing
//! for that · `settle` what follows from an input · `verify` comparing copies · `measuring` what every node has measured · `restore` replacing their content · `persist` writes on their way.

mod api;
mod bringing;
mod coordinator;
mod copies;
mod detector;
mod dialer;
mod discovery;
mod document;
mod joining;
mod leaving;
mod links;
mod measuring;
mod merge;
mod persist;
mod reach;
mod report;
mod requests;
mod restore;
mod settle;
mod shards;
mod shown;
mod sql;
#[cfg(test)]
mod tests;
mod twin;
mod verify;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

pub use api::{
    Command, CommandError, Counters, DialError, Event, Input, NoQuorum, NodeConfig, Output, Reply,
    SqlRequest, State, Status, StopReason, SyncStart, Timings,
};

use crate::configuration::Configuration;
use crate::ids::{ClusterId, LinkId, LogId, NodeId, Start};
use crate::raft::{Content, Raft, Settings};
use crate::storage::{Identity, Recovered, RecoveredLog, StorageOp};
use crate::time::Time;
use crate::wire::{self, Packet};
pub use document::decode_command;
use persist::Then;

/// One node of a cluster. See the crate's documentation for the contract.
#[derive(Debug)]
pub struct Node {
    config: NodeConfig,
    rng: ChaCha8Rng,
    now: Time,
    out: VecDeque<Output>,
    stopped: bool,
    /// Why it stops, until all that this input caused has gone out before it.
    stopping: Option<StopReason>,

    identity: Identity,
    start: Start,
    /// This start is durable: contact is allowed.
    started: bool,
    /// The cluster in the identity is durable: it may be spoken of.
    cluster_durable: bool,
    state: State,
    persist: persist::Persist,

    raft: Option<Raft>,
    founding: Option<RecoveredLog>,
    document: Option<Arc<Configuration>>,
    leaderless_since: Option<Time>,
    told_no_quorum: Option<NoQuorum>,
    told_infos: Option<report::Basis>,

    links: links::Links,
    dialer: dialer::Dialer,
    detector: detector::Detector,
    discovery: discovery::Discovery,
    joining: joining::Joining,
    leaving: leaving::Leaving,
    coordinator: coordinator::Coordinator,
    requests: requests::Requests,
    merge: merge::Merge,
    bring: bringing::Bring,
    shards: shards::Shards,
    sql: sql::Sql,
    copies: copies::Copies,
    restores: restore::Restores,
    measuring: measuring::Measuring,
    counters: Counters,

    next_dial: Time,
    next_alive: Time,
    /// When the next input was due at the latest: later than that, this node was paused.
    due: Option<Time>,
    /// Something has happened that may concern more than copies of shards.
    stirred: bool,
    /// What concerns the cluster need not be looked at before, unless something stirs.
    calm_until: Option<Time>,
    /// When the machines that concern the cluster are due.
    cluster_due: Time,
}

impl Node {
    /// A node on the directory that holds `recovered`, with one random stream from `seed`.
    /// Its first outputs are there at once.
    #[must_use]
    pub fn new(config: NodeConfig, recovered: Recovered, seed: [u8; 32], now: Time) -> Self {
        let mut rng = ChaCha8Rng::from_seed(seed);
        let Recovered { mut identity, peer_starts, mut logs } = recovered;
        let number = identity.starts.last().map_or(0, |s| s.number).saturating_add(1);
        let start = Start { number, nonce: rng.next_u64() };
        identity.starts.push(start);
        if identity.starts.len() > Identity::STARTS_MAX {
            identity.starts.remove(0);
        }
        let member = identity.cluster.is_some();
        if member && config.name.is_some() {
            // Started without a name some day, it goes by the last one that it was given.
            identity.name.clone_from(&config.name);
        }
        let mut node = Self {
            config,
            rng,
            now,
            out: VecDeque::new(),
            stopped: false,
            stopping: None,
            identity,
            start,
            started: false,
            cluster_durable: member,
            state: if member { State::Returning } else { State::Discovering },
            persist: persist::Persist::default(),
            raft: None,
            founding: None,
            document: None,
            leaderless_since: None,
            told_no_quorum: None,
            told_infos: None,
            links: links::Links::remembering(peer_starts),
            dialer: dialer::Dialer::default(),
            detector: detector::Detector::default(),
            discovery: discovery::Discovery::default(),
            joining: joining::Joining::default(),
            leaving: leaving::Leaving::default(),
            coordinator: coordinator::Coordinator::default(),
            requests: requests::Requests::default(),
            merge: merge::Merge::default(),
            bring: bringing::Bring::default(),
            shards: shards::Shards::default(),
            sql: sql::Sql::default(),
            copies: copies::Copies::default(),
            restores: restore::Restores::default(),
            measuring: measuring::Measuring::default(),
            counters: Counters::default(),
            next_dial: now,
            next_alive: now,
            due: None,
            stirred: true,
            calm_until: None,
            cluster_due: now,
        };
        node.out.push_back(Output::Event(Event::State(node.state)));
        node.persist.push(StorageOp::Identity(node.identity.clone()), Some(Then::Started));
        if member {
            let configuration = logs.remove(&LogId::CONFIGURATION).unwrap_or_default();
            if configuration.damaged {
                // What it says of shards is old at best, and their logs may lack the end as well.
                logs.values_mut().for_each(|log| log.damaged = true);
            }
            node.shards = shards::Shards::holding(logs);
            node.persist.commit = configuration.hard_state.commit.max(configuration.snapshot.index);
            node.open_log(configuration);
        }
        node.settle();
        node
    }

    /// One thing happened, at `now`. Drain [`Node::poll_output`] afterwards.
    pub fn handle(&mut self, now: Time, input: Input) {
        if self.stopped {
            return;
        }
        debug_assert!(self.out.is_empty(), "drain all outputs before the next input");
        self.now = self.now.max(now);
        self.notice_pause();
        self.route(input);
        self.settle();
    }

    /// The next thing to do; `None` when all is drained.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// When [`Input::Timer`] is due; `None` once stopped.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Time> {
        self.due
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.identity.node
    }

    /// Where it is in its life.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Its replica of the configuration log, once there is one.
    #[must_use]
    pub fn configuration_log(&self) -> Option<&Raft> {
        self.raft.as_ref()
    }

    /// Its copy of the shard with that log, if it holds one.
    #[must_use]
    pub fn shard(&self, log: LogId) -> Option<&crate::shard::Shard> {
        self.shards.all.get(&log).map(AsRef::as_ref)
    }

    /// What clients are told at the moment; `None`: it is in no cluster.
    #[must_use]
    pub fn layout(&self) -> Option<crate::client::Layout> {
        let document = self.document.as_deref()?;
        Some(crate::client::Layout::of(document, &self.shards.owners))
    }

    /// The configuration it has applied.
    #[must_use]
    pub fn configuration(&self) -> Option<&Arc<Configuration>> {
        self.document.as_ref()
    }

    /// The cluster it belongs to, if that is durable.
    #[must_use]
    pub fn cluster(&self) -> Option<ClusterId> {
        self.known_cluster()
    }

    fn route(&mut self, input: Input) {
        // Whatever is not named here may concern anything. Packets, and what is durable, are looked
        // at by those who read them.
        self.stirred |= match &input {
            Input::Timer
            | Input::Packet { .. }
            | Input::Persisted { .. }
            | Input::Sql { .. }
            | Input::Engine { .. }
            | Input::LogRead { .. }
            | Input::Copy { .. }
            | Input::Traffic { .. } => false,
            Input::Datagram { .. }
            | Input::LinkUp { .. }
            | Input::LinkDown { .. }
            | Input::DialFailed { .. }
            | Input::PeerRefused { .. }
            | Input::StorageFailed { .. }
            | Input::Seeds { .. }
            | Input::Command { .. } => true,
        };
        match input {
            Input::Timer => {}
            Input::Datagram { from, bytes } => self.on_datagram(from, &bytes),
            Input::LinkUp { link, peer, dialed } => self.on_link_up(link, peer, dialed),
            Input::LinkDown { link } => self.on_link_down(link),
            Input::DialFailed { addr, error } => self.on_dial_failed(addr, error),
            Input::PeerRefused { from } => self.on_peer_refused(from),
            Input::Packet { link, bytes } => self.on_packet(link, &bytes),
            Input::Persisted { id } => self.on_persisted(id),
            Input::StorageFailed { reason } => self.stop(StopReason::StorageFailed(reason)),
            Input::Seeds { addrs } => self.config.seeds = addrs,
            Input::Command { id, command } => self.on_command(id, command),
            Input::Sql { id, request } => self.on_sql(id, request),
            Input::Engine { log, epoch, answer } => self.on_engine(log, epoch, answer),
            Input::LogRead { log, id, result } => self.on_log_read(log, id, result),
            Input::Copy { log, answer } => self.on_copy_answer(log, answer),
            Input::Traffic { traffic } => self.on_traffic(traffic),
        }
    }

    fn on_packet(&mut self, link: LinkId, bytes: &[u8]) {
        if self.links.twins.contains_key(&link) {
            self.on_twin_packet(link, bytes);
            return;
        }
        let Some(held) = self.links.all.get_mut(&link) else { return };
        let Ok(packet) = wire::decode_packet(bytes) else {
            self.counters.packets_bad += 1;
            self.close(link);
            return;
        };
        held.heard = self.now;
        let (peer, accepted) = (held.peer, held.accepted);
        let theirs = held.info.as_ref().and_then(|info| info.cluster);
        // Whoever has gone over to another cluster is not there, however loud.
        let foreign = theirs.is_some() && self.raft.is_some() && theirs != self.identity.cluster;
        if accepted && !foreign {
            self.detector.heard(peer, self.now);
        }
        // Log messages of voters change nothing that the coordinator's duties look at, beyond what
        // its timer covers; they are the bulk of all packets.
        let routine = match &packet {
            Packet::Alive { .. } => true,
            Packet::Raft { .. } => {
                self.raft.as_ref().is_some_and(|raft| raft.membership().is_voter(peer))
            }
            Packet::Logs { .. }
            | Packet::Sql { .. }
            | Packet::SqlReply { .. }
            | Packet::Copy { .. }
            | Packet::Copies { .. }
            | Packet::Verify { .. }
            | Packet::Verified { .. }
            | Packet::Measure { .. }
            | Packet::Measured { .. } => true,
            _ => false,
        };
        if !routine {
            self.coordinator.look_again();
        }
        // The coordinator's duties are among what is left out of a calm node.
        let configuration =
            matches!(&packet, Packet::Raft { log, .. } if *log == LogId::CONFIGURATION);
        self.stirred |= configuration || !routine;
        match packet {
            Packet::Hello(hello) => self.on_hello(link, hello),
            Packet::Welcome { start } => self.on_welcome(link, start),
            Packet::Stale(reason) => self.on_stale(link, reason),
            // All else only from a peer whose start is remembered here.
            _ if !accepted => self.counters.messages_dropped += 1,
            Packet::Info(info) => {
                let leaving = info.leaving;
                if let Some(held) = self.links.all.get_mut(&link) {
                    held.info = Some(info.clone());
                }
                if leaving {
                    self.on_peer_leaving();
                }
                self.next_dial = self.now;
                self.on_info(&info);
                if !self.stopped {
                    self.follow_dissolution(peer);
                    self.send_info(link);
                }
            }
            Packet::Raft { cluster, log, message } => {
                let ours = Some(cluster) == self.identity.cluster;
                match &mut self.raft {
                    Some(raft) if ours && log == LogId::CONFIGURATION => {
                        raft.receive(self.now, peer, message);
                    }
                    Some(_) if ours => self.on_shard_message(log, peer, message),
                    _ => self.counters.messages_dropped += 1,
                }
            }
            Packet::Logs { cluster, messages } => {
                let ours = Some(cluster) == self.identity.cluster;
                for (log, message) in messages.into_iter().filter(|_| ours) {
                    self.on_shard_message(log, peer, message);
                }
            }
            Packet::Sql { id, log, transaction, kind, timeout_ms } => {
                let timeout = Duration::from_millis(timeout_ms.into());
                self.on_peer_sql((link, peer), id, log, (transaction, kind), timeout);
            }
            Packet::Copy { cluster, log, message } => {
                if Some(cluster) == self.identity.cluster {
                    self.on_copy_message(peer, log, message);
                }
            }
            Packet::Copies { cluster, copies } => {
                if Some(cluster) == self.identity.cluster {
                    self.on_reports(peer, copies);
                }
            }
            Packet::SqlReply { id, reply } => self.on_sql_reply(link, id, reply),
            Packet::Verify { log, mark, timeout_ms } => {
                let timeout = Duration::from_millis(timeout_ms.into());
                self.on_verify((link, peer), log, mark, timeout);
            }
            Packet::Verified { log, mark, hashed } => {
                self.on_verified((link, peer), log, mark, hashed);
            }
            Packet::Measure { id } => self.on_measure(link, peer, id),
            Packet::Measured { id, measures } => {
                self.on_measured((Some(link), peer), id, *measures);
            }
            Packet::Alive { heard } => self.detector.report(peer, &heard, self.now),
            Packet::Request { id, request } => self.on_peer_request(link, peer, id, request),
            Packet::Response { id, response } => self.on_response(link, peer, id, response),
        }
    }

    fn on_persisted(&mut self, id: crate::ids::PersistId) {
        let (tickets, then) = self.persist.complete(id);
        self.drop_logs();
        let now = self.now;
        self.stirred |= !then.is_empty();
        for (log, ticket) in tickets {
            if log == LogId::CONFIGURATION {
                self.stirred = true;
                if let Some(raft) = &mut self.raft {
                    raft.persisted(now, ticket);
                }
            } else if let Some(shard) = self.shards.touch(log) {
                shard.persisted(now, ticket);
            }
        }
        for then in then {
            match then {
                Then::Started => {
                    self.started = true;
                    self.discovery.begin(self.now);
                    self.next_dial = self.now;
                    self.send_hellos();
                }
                Then::Remembered { link, peer, start } => self.remembered(link, peer, start),
                Then::Founded => self.on_founded(),
                Then::Joined => self.cluster_durable = true,
                Then::Begun(log) => self.on_begun(log),
            }
        }
    }

    /// Later than every timer said: the process was paused, and its suspicions are void.
    fn notice_pause(&mut self) {
        let now = self.now;
        let late = self.due.map_or(Duration::ZERO, |due| now.since(due));
        if late <= self.config.timings.pause {
            return;
        }
        self.stirred = true;
        let ms = u64::try_from(late.as_millis()).unwrap_or(u64::MAX);
        self.out.push_back(Output::Event(Event::Paused { ms }));
        self.detector.absolve(now);
        self.coordinator.absolve(now);
        for link in self.links.all.values_mut() {
            link.heard = now;
        }
        if let Some(raft) = &mut self.raft {
            raft.paused(now);
        }
        self.each_shard(|shard, now| shard.paused(now));
        if self.state == State::Discovering {
            self.discovery.begin(now);
        }
    }

    fn open_log(&mut self, recovered: RecoveredLog) {
        self.raft = Some(self.new_replica(LogId::CONFIGURATION, recovered));
    }

    /// This node's replica of a log.
    fn new_replica(&mut self, log: LogId, recovered: RecoveredLog) -> Raft {
        if recovered.damaged {
            self.out.push_back(Output::Event(Event::Damaged { log }));
        }
        let timings = &self.config.timings;
        let settings = Settings {
            node: self.id(),
            log,
            content: match log {
                LogId::CONFIGURATION => Content::InSnapshots,
                _ => Content::Apart,
            },
            heartbeat: timings.heartbeat,
            election_min: timings.election_min,
            election_max: timings.election_max,
            limits: self.config.limits,
        };
        let rng = ChaCha8Rng::from_seed(self.new_seed());
        Raft::new(settings, recovered, rng, self.now)
    }

    fn set_state(&mut self, state: State) {
        if self.state != state {
            self.stirred = true;
            self.state = state;
            self.out.push_back(Output::Event(Event::State(state)));
        }
    }

    fn stop(&mut self, reason: StopReason) {
        if self.stopped {
            return;
        }
        self.set_state(State::Left);
        self.stopped = true;
        self.stopping = Some(reason);
    }

    fn is_seeking(&self) -> bool {
        matches!(self.state, State::Discovering | State::Joining | State::Returning)
    }

    /// The name it goes by.
    fn name(&self) -> String {
        let had = || self.identity.name.clone();
        let made = || format!("node-{}", self.identity.node.short());
        self.config.name.clone().or_else(had).unwrap_or_else(made)
    }

    /// Whether the configuration lists `node`.
    fn is_server(&self, node: NodeId) -> bool {
        self.document.as_ref().is_some_and(|document| document.servers.contains_key(&node))
    }

    fn requests_retry(&mut self) {
        self.requests.retry(self.now);
    }

    fn new_cluster_id(&mut self) -> ClusterId {
        let high = u128::from(self.rng.next_u64()) << 64;
        ClusterId(high | u128::from(self.rng.next_u64()))
    }

    fn new_seed(&mut self) -> [u8; 32] {
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        seed
    }

    /// A duration from zero to `max`.
    fn random(&mut self, max: Duration) -> Duration {
        let nanos = u64::try_from(max.as_nanos()).unwrap_or(u64::MAX).max(1);
        Duration::from_nanos(self.rng.next_u64() % nanos)
    }
}
