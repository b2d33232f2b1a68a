//! Which addresses to dial, and when.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use super::{DialError, Event, Node, Output, State};
use crate::ids::NodeId;
use crate::time::Time;

/// Addresses known at one time; the least recently wanted fall out.
const ADDRESSES_MAX: usize = 4096;
/// How long a refusal counts as recent.
const REFUSAL: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug)]
struct Target {
    /// Not before this.
    next: Time,
    /// The wait after the next failure.
    wait: Duration,
    /// A dial is out.
    dialing: bool,
    /// Who answered there last.
    node: Option<NodeId>,
    /// The last refusal (group, password or encryption differ).
    refused: Option<Time>,
    myself: bool,
}

#[derive(Default, Debug)]
pub(super) struct Dialer {
    targets: BTreeMap<SocketAddr, Target>,
    /// Peers that dialled this node and were refused, and when.
    refused_peers: BTreeMap<SocketAddr, Time>,
}

impl Dialer {
    fn target(&mut self, addr: SocketAddr) -> &mut Target {
        if self.targets.len() >= ADDRESSES_MAX && !self.targets.contains_key(&addr) {
            let idle = self.targets.iter().filter(|(_, t)| !t.dialing);
            let oldest = idle.min_by_key(|(_, t)| t.next).map(|(a, _)| *a);
            oldest.map(|a| self.targets.remove(&a));
        }
        self.targets.entry(addr).or_insert(Target {
            next: Time::ZERO,
            wait: Duration::ZERO,
            dialing: false,
            node: None,
            refused: None,
            myself: false,
        })
    }

    pub(super) fn reached(&mut self, addr: SocketAddr, node: NodeId) {
        let target = self.target(addr);
        target.dialing = false;
        target.node = Some(node);
        target.refused = None;
    }

    /// A process with this node's id is there: it may stop one day, and another server run in its
    /// place.
    pub(super) fn met_twin(&mut self, now: Time, addr: SocketAddr, first: Duration) {
        let target = self.target(addr);
        target.dialing = false;
        target.refused = None;
        target.wait = first * 8;
        target.next = now + target.wait;
    }

    /// A link that was dialled, and stood since `up`, is gone: try again at once, then ever more
    /// slowly. One that is closed as soon as it is up is no better than none.
    pub(super) fn lost(&mut self, now: Time, addr: SocketAddr, up: Time, first: Duration) {
        let target = self.target(addr);
        target.wait = if now.since(up) >= first * 8 {
            Duration::ZERO
        } else if target.wait.is_zero() {
            first
        } else {
            (target.wait * 2).min(first * 8)
        };
        target.next = now + target.wait;
    }

    pub(super) fn has_failed(&self, addr: SocketAddr) -> bool {
        self.targets.get(&addr).is_some_and(|t| !t.wait.is_zero() || t.myself)
    }

    /// Whether this node itself is there.
    pub(super) fn is_myself(&self, addr: SocketAddr) -> bool {
        self.targets.get(&addr).is_some_and(|target| target.myself)
    }

    /// Addresses that refused this node, or were refused by it, of late.
    pub(super) fn refused(&self, now: Time) -> Vec<SocketAddr> {
        let recent = |at: Time| now.since(at) < REFUSAL;
        let dialed = self.targets.iter().filter(|(_, t)| t.refused.is_some_and(recent));
        let came = self.refused_peers.iter().filter(|(_, at)| recent(**at));
        dialed.map(|(a, _)| *a).chain(came.map(|(a, _)| *a)).take(64).collect()
    }

    /// Whether a node that this one dialled has refused it of late.
    pub(super) fn was_refused(&self, now: Time) -> bool {
        self.targets.values().any(|t| t.refused.is_some_and(|at| now.since(at) < REFUSAL))
    }
}

impl Node {
    /// Wants a link to `addr`, where `node` is said to be. Dials if none is there and it is time.
    pub(super) fn want(&mut self, addr: SocketAddr, node: Option<NodeId>) {
        if addr == self.config.addresses.node || addr.port() == 0 {
            return;
        }
        let now = self.now;
        let linked = |peer: NodeId| self.links.any(peer);
        let known = self.dialer.targets.get(&addr);
        let there = node.or(known.and_then(|t| t.node));
        if there.is_some_and(linked) || there == Some(self.id()) {
            return;
        }
        // Whoever is sought there, somebody else is: a wiped disk under a new name, say.
        let mut usable = self.links.all.values().filter(|link| link.usable());
        if usable.any(|l| l.hello.as_ref().is_some_and(|h| h.addresses.node == addr)) {
            return;
        }
        let target = self.dialer.target(addr);
        if target.dialing || target.myself || now < target.next {
            return;
        }
        target.dialing = true;
        self.out.push_back(Output::Dial { addr });
    }

    pub(super) fn on_dial_failed(&mut self, addr: SocketAddr, error: DialError) {
        let (now, first) = (self.now, self.config.timings.redial);
        let slow = self.state == State::Member;
        let spread = self.random(first / 2);
        let target = self.dialer.target(addr);
        target.dialing = false;
        let wait = if target.wait.is_zero() { first } else { target.wait * 2 };
        let most = if slow { first * 8 } else { first * 4 };
        target.wait = wait.min(most);
        target.next = now + target.wait + spread;
        match error {
            DialError::Unreachable => {}
            DialError::Myself => target.myself = true,
            DialError::Refused => {
                target.refused = Some(now);
                target.wait = first * 8;
                target.next = now + target.wait + spread;
                self.counters.refused += 1;
                self.out.push_back(Output::Event(Event::Refused { peer: addr }));
            }
        }
    }

    pub(super) fn on_peer_refused(&mut self, from: SocketAddr) {
        self.counters.refused += 1;
        let now = self.now;
        self.dialer.refused_peers.retain(|_, at| now.since(*at) < REFUSAL);
        if self.dialer.refused_peers.len() < 64 {
            self.dialer.refused_peers.insert(from, now);
        }
        self.out.push_back(Output::Event(Event::Refused { peer: from }));
    }

    /// Dials whoever should be linked and is not.
    pub(super) fn dial_missing(&mut self) {
        if !self.started {
            return;
        }
        let me = self.id();
        let mut wanted: BTreeMap<SocketAddr, Option<NodeId>> = BTreeMap::new();
        for seed in &self.config.seeds {
            wanted.insert(*seed, None);
        }
        for (node, sighting) in self.discovery.worth_dialing(self.identity.cluster) {
            wanted.insert(sighting, Some(node));
        }
        if let Some(document) = &self.document {
            for (node, server) in document.servers.iter().filter(|(id, _)| **id != me) {
                wanted.insert(server.addresses.node, Some(*node));
            }
        }
        // Who runs on a copy of this directory, if anybody does, settles with this one who goes on.
        let listed = self.document.as_ref().and_then(|document| document.servers.get(&me));
        for addr in
            listed.map(|server| server.addresses.node).into_iter().chain(self.discovery.twin)
        {
            wanted.entry(addr).or_insert(None);
        }
        // A coordinator that somebody has named, when none is known otherwise.
        let named: BTreeSet<(NodeId, SocketAddr)> =
            self.links.peers().values().filter_map(|(_, info)| info.coordinator).collect();
        for (node, addr) in named {
            wanted.entry(addr).or_insert(Some(node));
        }
        for (addr, node) in wanted {
            self.want(addr, node);
        }
    }
}
