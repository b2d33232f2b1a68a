//! Looking for others, and founding when there is nobody to join.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::persist::Then;
use super::{Node, Output, State};
use crate::configuration::ConfigCommand;
use crate::faults::{self, Fault};
use crate::ids::{ClusterId, ConfigVersion, LogId, NodeId};
use crate::raft::Raft;
use crate::storage::{RecoveredLog, StorageOp};
use crate::time::Time;
use crate::wire::{self, Announce};

/// Nodes whose announcements are remembered.
const SIGHTINGS_MAX: usize = 256;
/// How long an announcement is worth something.
const SIGHTING: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, Debug)]
struct Sighting {
    address: SocketAddr,
    cluster: Option<ClusterId>,
    first: Time,
    at: Time,
}

/// What a node that looks for a cluster knows.
#[derive(Default, Debug)]
pub(super) struct Discovery {
    sightings: BTreeMap<NodeId, Sighting>,
    /// Since when it has been looking.
    since: Time,
    /// The smaller ids that were waited for, and until when.
    deferred: BTreeMap<NodeId, Time>,
    next_announce: Time,
    last_answer: Option<Time>,
    /// Where somebody announced itself by this node's id, last.
    pub(super) twin: Option<SocketAddr>,
}

impl Discovery {
    /// Nodes that announced themselves of late, other than members of `cluster` (those are dialled
    /// by the configuration, unless they have moved).
    pub(super) fn worth_dialing(
        &self,
        cluster: Option<ClusterId>,
    ) -> impl Iterator<Item = (NodeId, SocketAddr)> {
        // A member does not dial nodes that still look for a cluster: they dial.
        let worth = move |s: &Sighting| cluster.is_none() || s.cluster.is_some();
        self.sightings.iter().filter(move |(_, s)| worth(s)).map(|(id, s)| (*id, s.address))
    }

    pub(super) fn begin(&mut self, now: Time) {
        self.since = now;
        self.deferred.clear();
        self.next_announce = now;
    }

    pub(super) fn next(&self) -> Time {
        self.next_announce
    }

    /// When a seeker looks whether to found.
    pub(super) fn decision(&self, found_wait: Duration) -> Time {
        self.since + found_wait
    }

    pub(super) fn announce_soon(&mut self, now: Time) {
        self.next_announce = now;
    }

    fn see(&mut self, now: Time, announce: &Announce, address: SocketAddr) {
        self.sightings.retain(|_, s| now.since(s.at) <= SIGHTING);
        if self.sightings.len() >= SIGHTINGS_MAX && !self.sightings.contains_key(&announce.node) {
            return;
        }
        let cluster = announce.cluster;
        let seen = self.sightings.entry(announce.node);
        let seen = seen.or_insert(Sighting { address, cluster, first: now, at: now });
        (seen.address, seen.cluster, seen.at) = (address, cluster, now);
    }
}

impl Node {
    pub(super) fn announce(&mut self) {
        let seeking = self.is_seeking();
        let timings = &self.config.timings;
        let every = if seeking { timings.announce_seeking } else { timings.announce_member };
        let spread = self.random(every / 4);
        self.discovery.next_announce = self.now + every + spread;
        self.send_announce();
    }

    fn send_announce(&mut self) {
        if !self.config.multicast || !self.started || self.state == State::Leaving {
            return;
        }
        let announce = Announce {
            group: wire::group_hash(&self.config.group),
            node: self.id(),
            cluster: self.known_cluster(),
            address: self.config.addresses.node,
            seeking: self.is_seeking(),
        };
        let bytes = Bytes::from(wire::encode_announce(&announce));
        self.out.push_back(Output::Datagram { bytes });
    }

    pub(super) fn on_datagram(&mut self, from: SocketAddr, bytes: &[u8]) {
        let Ok(announce) = wire::decode_announce(bytes) else {
            self.counters.datagrams_bad += 1;
            return;
        };
        if announce.group != wire::group_hash(&self.config.group) {
            self.counters.datagrams_other_group += 1;
            return;
        }
        if !self.config.multicast {
            return;
        }
        let mut address = announce.address;
        if address.ip().is_unspecified() {
            address.set_ip(from.ip());
        }
        if announce.node == self.id() {
            // Its own voice come back, or a process on a copy of its directory.
            if !self.dialer.is_myself(address) {
                self.discovery.twin = Some(address);
            }
            return;
        }
        self.discovery.see(self.now, &announce, address);
        if !self.links.any(announce.node) {
            self.next_dial = self.now;
        }
        let answer = announce.seeking && !self.is_seeking();
        let due = self
            .discovery
            .last_answer
            .is_none_or(|at| self.now.since(at) >= self.config.timings.announce_seeking / 4);
        if answer && due {
            self.discovery.last_answer = Some(self.now);
            self.send_announce();
        }
    }

    /// Founds a cluster if nobody is there to join and nobody with a smaller id is about to.
    pub(super) fn maybe_found(&mut self) {
        let (now, timings) = (self.now, &self.config.timings);
        let waited = now.since(self.discovery.since);
        if self.state != State::Discovering || !self.started || waited < timings.found_wait {
            return;
        }
        if self.identity.brings.is_some() {
            return; // Some cluster waits for what it brings, and only that.
        }
        let peers = self.links.peers();
        if peers.values().any(|(_, info)| info.cluster.is_some()) {
            return; // There is one to join.
        }
        if peers.is_empty() && self.dialer.was_refused(now) {
            return; // Somebody of this group is there, who does not know us or whom we do not.
        }
        // Whoever has been sighted and not linked yet may turn out to be a member: a bounded wait,
        // for a sighting is a hint that anybody can forge.
        let patience = timings.found_wait + timings.defer_wait;
        let unmet = self.discovery.sightings.iter().any(|(node, s)| {
            !peers.contains_key(node)
                && now.since(s.at) <= timings.found_wait
                && now.since(s.first) <= patience
                && !self.dialer.has_failed(s.address)
        });
        // A link that is up and silent: the disk at one of its ends is slow.
        let mut links = self.links.all.values();
        let silent = links.any(|l| !peers.contains_key(&l.peer) && now.since(l.up) <= patience);
        if (unmet || silent) && waited < patience * 2 {
            return;
        }
        // All of them are without a cluster, or about to have one: see above.
        let seekers = peers.keys().copied();
        let smaller: Vec<NodeId> = seekers.filter(|id| *id < self.identity.node).collect();
        let defer = timings.defer_wait;
        let mut waits = false;
        for node in smaller {
            let until = self.discovery.deferred.entry(node).or_insert(now + defer);
            waits |= now < *until;
        }
        if !waits {
            self.found();
        }
    }

    fn found(&mut self) {
        let cluster = self.new_cluster_id();
        let name = self.name();
        let command = ConfigCommand::Found {
            cluster,
            group: self.config.group.clone(),
            node: self.id(),
            name: name.clone(),
            addresses: self.config.addresses,
            start: self.start,
            defaults: self.config.defaults.clone(),
        };
        let data = super::document::encode_command(&command);
        let (state, entries) = Raft::founding(self.id(), data, ConfigVersion(1));
        self.set_state(State::Founding);
        self.identity.cluster = Some(cluster);
        self.identity.name = Some(name);
        let log = LogId::CONFIGURATION;
        // A founding that a crash cut short may have left its entries: they are nobody's now.
        self.persist.push(StorageOp::DropLog { log }, None);
        self.persist.push(StorageOp::Append { log, entries: entries.clone() }, None);
        self.persist.push(StorageOp::HardState { log, state }, None);
        // Last, so that a directory that knows its cluster knows the cluster's first entries too.
        self.persist.push(StorageOp::Identity(self.identity.clone()), Some(Then::Founded));
        let recovered = RecoveredLog { hard_state: state, entries, ..RecoveredLog::default() };
        self.founding = Some(recovered);
        if faults::active(Fault::FounderDoesNotPersist) {
            self.on_founded();
        }
    }

    /// The founding is durable: from here on the cluster exists.
    pub(super) fn on_founded(&mut self) {
        let Some(recovered) = self.founding.take() else { return };
        self.cluster_durable = true;
        self.open_log(recovered);
        self.set_state(State::Member);
        self.discovery.announce_soon(self.now);
    }
}
