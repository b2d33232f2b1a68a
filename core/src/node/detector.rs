//! Who has been heard, by this node and by others.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::{Node, Output};
use crate::ids::NodeId;
use crate::time::Time;
use crate::wire::{self, HEARD_MAX, Heard, Packet};

/// However patient the cluster is, a dead path is to be noticed and dialled anew soon.
const ALIVE_MAX: Duration = Duration::from_millis(500);

/// When each node was last heard.
#[derive(Default, Debug)]
pub(super) struct Detector {
    by_me: BTreeMap<NodeId, Time>,
    /// By reporter, then by node.
    by_others: BTreeMap<NodeId, BTreeMap<NodeId, Time>>,
}

impl Detector {
    pub(super) fn heard(&mut self, node: NodeId, now: Time) {
        self.by_me.insert(node, now);
    }

    pub(super) fn last(&self, node: NodeId) -> Option<Time> {
        self.by_me.get(&node).copied()
    }

    /// When `node` was last heard by this node or by one of `reporters`.
    pub(super) fn last_by_any(
        &self,
        node: NodeId,
        reporters: impl Iterator<Item = NodeId>,
    ) -> Option<Time> {
        let told = reporters.filter_map(|r| self.by_others.get(&r)?.get(&node).copied());
        told.chain(self.last(node)).max()
    }

    pub(super) fn report(&mut self, from: NodeId, heard: &[Heard], now: Time) {
        let told = self.by_others.entry(from).or_default();
        for heard in heard {
            let age = Duration::from_millis(u64::from(heard.age_ms));
            let at = Time(now.0.saturating_sub(u64::try_from(age.as_nanos()).unwrap_or(u64::MAX)));
            let known = told.entry(heard.node).or_insert(at);
            *known = (*known).max(at);
        }
    }

    /// After a pause nobody's silence means anything: all count as heard just now.
    pub(super) fn absolve(&mut self, now: Time) {
        for at in self.by_me.values_mut() {
            *at = now;
        }
        self.by_others.clear();
    }

    /// Forgets whoever is not in `keep` and was not heard for long.
    pub(super) fn forget(&mut self, now: Time, limit: Duration, keep: impl Fn(NodeId) -> bool) {
        self.by_me.retain(|node, at| keep(*node) || now.since(*at) <= limit);
        self.by_others.retain(|node, _| keep(*node));
        for told in self.by_others.values_mut() {
            told.retain(|node, _| keep(*node));
        }
    }

    pub(super) fn all(&self) -> &BTreeMap<NodeId, Time> {
        &self.by_me
    }
}

impl Node {
    /// Between two signs of life to each peer.
    pub(super) fn alive_interval(&self) -> Duration {
        let timings = &self.config.timings;
        (timings.max_no_heartbeat / 10).min(ALIVE_MAX).max(timings.heartbeat)
    }

    /// After so long without a packet a link counts as dead.
    pub(super) fn silence(&self) -> Duration {
        (self.alive_interval() * 4).max(self.config.timings.election_max * 2)
    }

    pub(super) fn send_alive(&mut self) {
        let (now, limit) = (self.now, self.config.timings.max_no_heartbeat * 4);
        let servers = self.document.as_ref().map(|d| &d.servers);
        self.detector.forget(now, limit, |id| servers.is_some_and(|s| s.contains_key(&id)));
        let heard: Vec<Heard> = self
            .detector
            .all()
            .iter()
            .map(|(node, at)| Heard {
                node: *node,
                age_ms: u32::try_from(now.since(*at).as_millis()).unwrap_or(u32::MAX),
            })
            .take(HEARD_MAX)
            .collect();
        let bytes = Bytes::from(wire::encode_packet(&Packet::Alive { heard }));
        let usable = self.links.all.iter().filter(|(_, link)| link.usable());
        let links: Vec<_> = usable.map(|(id, _)| *id).collect();
        for link in links {
            self.out.push_back(Output::Packet { link, bytes: bytes.clone() });
        }
    }
}
