//! What a node tells: peers, clients and people.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::{Event, NoQuorum, Node, Output, State, Status};
use crate::configuration::Rejection;
use crate::ids::{ClusterId, ConfigVersion, Index, LinkId, NodeId};
use crate::wire::{Info, Packet};

/// What every [`Info`] of a node is made of; while it is the same, there is nothing to tell.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Basis {
    cluster: Option<ClusterId>,
    state: State,
    version: ConfigVersion,
    coordinator: Option<(NodeId, SocketAddr)>,
    damaged: bool,
    membership: Option<Index>,
    clashes: BTreeMap<ClusterId, Rejection>,
}

impl Node {
    /// Whether what this node tells its peers has changed since it was last asked.
    pub(super) fn news(&mut self) -> bool {
        let basis = Basis {
            cluster: self.known_cluster(),
            state: self.state,
            version: self.document.as_ref().map(|d| d.version).unwrap_or_default(),
            coordinator: self.known_coordinator(),
            damaged: self.raft.as_ref().is_some_and(|raft| raft.abstains()),
            membership: self.settled_membership(),
            clashes: self.bring.clashes().clone(),
        };
        if self.told_infos.as_ref() == Some(&basis) {
            return false;
        }
        self.told_infos = Some(basis);
        true
    }

    /// The cluster this node may speak of: only once that is durable.
    pub(super) fn known_cluster(&self) -> Option<ClusterId> {
        self.identity.cluster.filter(|_| self.cluster_durable)
    }

    /// As coordinator: the entry of the membership in force, once that is committed and not joint.
    fn settled_membership(&self) -> Option<Index> {
        let raft = self.raft.as_ref().filter(|raft| raft.is_settled_leader())?;
        let settled = !raft.membership().is_joint() && raft.membership_index() <= raft.commit();
        settled.then(|| raft.membership_index())
    }

    fn releases(&self, peer: NodeId) -> bool {
        let without = self.raft.as_ref().is_some_and(|raft| !raft.membership().contains(peer));
        let unlisted = self.document.as_ref().is_some_and(|d| !d.servers.contains_key(&peer));
        without && unlisted && self.settled_membership().is_some()
    }

    fn info_for(&self, peer: NodeId, theirs: Option<&Info>) -> Info {
        let document = self.document.as_ref();
        let other = theirs.and_then(|info| info.cluster);
        let absorption = other.and_then(|c| document.and_then(|d| d.absorbed.get(&c)));
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Info {
            cluster: self.known_cluster(),
            seeking: self.is_seeking(),
            version: document.map(|d| d.version).unwrap_or_default(),
            servers: document.map_or(0, |d| count(d.servers.len())),
            databases: document.map_or(0, |d| count(d.databases_promised())),
            coordinator: self.known_coordinator(),
            you_are_member: document.is_some_and(|d| d.servers.contains_key(&peer)),
            you_were_removed: document.is_some_and(|d| d.expelled.contains_key(&peer)),
            released: self.releases(peer),
            leaving: self.state == State::Leaving,
            your_cluster: absorption.copied(),
            damaged: self.raft.as_ref().is_some_and(|raft| raft.abstains()),
            clash: other.and_then(|cluster| self.bring.refused_by(cluster).cloned()),
        }
    }

    pub(super) fn send_info(&mut self, id: LinkId) {
        let Some(link) = self.links.all.get(&id).filter(|l| l.usable()) else { return };
        let info = self.info_for(link.peer, link.info.as_ref());
        if link.info_sent.as_ref() == Some(&info) {
            return;
        }
        if let Some(link) = self.links.all.get_mut(&id) {
            link.info_sent = Some(info.clone());
        }
        self.send_packet(id, &Packet::Info(info));
    }

    /// Tells every peer what has changed since it was last told.
    pub(super) fn send_infos(&mut self) {
        let links: Vec<LinkId> = self.links.all.keys().copied().collect();
        for link in links {
            self.send_info(link);
        }
    }

    /// How long there has been no coordinator to be seen from here.
    pub(super) fn quorum_lost_for(&self) -> Duration {
        self.leaderless_since.map_or(Duration::ZERO, |since| self.now.since(since))
    }

    /// Why nothing can be decided, as seen from here; `None` while there is a coordinator, or while
    /// there has not been one for too short a time to tell.
    #[must_use]
    pub(super) fn no_quorum(&self) -> Option<NoQuorum> {
        let raft = self.raft.as_ref()?;
        let limit = self.config.timings.election_max * 2;
        if self.quorum_lost_for() < limit || raft.membership().voters().is_empty() {
            return None;
        }
        let me = self.id();
        let here = |node: NodeId| {
            let heard = self.detector.last(node).is_some_and(|at| self.now.since(at) < limit);
            // One whose log is damaged is there and cannot vote.
            node == me || heard && !self.links.info(node).is_some_and(|info| info.damaged)
        };
        let name =
            |node: NodeId| self.document.as_ref().map_or_else(|| node.short(), |d| d.name_of(node));
        let voters = raft.membership().voters();
        let missing: Vec<NodeId> = voters.iter().filter(|v| !here(**v)).copied().collect();
        let tie = raft.membership().incoming.tie_breaker.filter(|tie| missing.contains(tie));
        let enough = |tie: NodeId| {
            crate::raft::Quorum::of(raft.membership()).is_met(|node| here(node) || node == tie)
        };
        let mut names: Vec<String> = missing.into_iter().map(name).collect();
        names.sort();
        Some(NoQuorum {
            missing: names,
            tie_breaker: tie.filter(|tie| enough(*tie)).map(name),
            voters: u32::try_from(voters.len()).unwrap_or(u32::MAX),
        })
    }

    /// Tells when the quorum is lost, when those missing change, and when it is back.
    pub(super) fn watch_quorum(&mut self) {
        let now = self.now;
        let leaderless = self.raft.as_ref().is_some_and(|raft| raft.leader().is_none());
        if !leaderless {
            self.leaderless_since = None;
        } else if self.leaderless_since.is_none() {
            self.leaderless_since = Some(now);
        }
        let lost = self.no_quorum();
        if lost == self.told_no_quorum {
            return;
        }
        let event = match &lost {
            Some(reason) => Event::NoQuorum(reason.clone()),
            None => Event::QuorumRestored,
        };
        self.told_no_quorum = lost;
        self.out.push_back(Output::Event(event));
    }

    /// What this node knows, for people.
    #[must_use]
    pub fn status(&self, now: crate::time::Time) -> Status {
        let raft = self.raft.as_ref();
        let document = self.document.as_ref();
        let expect = document.filter(|d| !d.expect_met).map(|d| {
            let present = u32::try_from(d.servers.len()).unwrap_or(u32::MAX);
            (d.defaults.expect.saturating_sub(present), d.defaults.expect)
        });
        let heard = self.detector.all().iter();
        Status {
            node: self.id(),
            name: self.name(),
            state: self.state,
            group: self.config.group.clone(),
            cluster: self.known_cluster(),
            term: raft.map(|r| r.term()).unwrap_or_default(),
            coordinator: raft.and_then(|r| r.leader()),
            configuration: document.cloned(),
            voters: raft.map(|r| r.membership().voters().into_iter().collect()).unwrap_or_default(),
            tie_breaker: raft.and_then(|r| r.membership().incoming.tie_breaker),
            joint: raft.is_some_and(|r| r.membership().is_joint()),
            no_quorum: self.no_quorum(),
            heard_ms: heard
                .map(|(n, at)| (*n, u64::try_from(now.since(*at).as_millis()).unwrap_or(u64::MAX)))
                .collect(),
            refused: self.dialer.refused(now),
            join_refused: self.joining.refused.clone(),
            split_with: self.merge.split_with.keys().copied().collect(),
            clashes: (self.merge.split_with.iter())
                .filter_map(|(other, clash)| Some((*other, clash.as_ref()?.to_string())))
                .collect(),
            expect,
            damaged: raft.is_some_and(|r| r.abstains())
                || self.shards().any(|(_, shard)| shard.log().abstains()),
            start: self.started.then_some(self.start),
            last_index: raft.map(|r| r.last_index().0).unwrap_or_default(),
            commit: raft.map(|r| r.commit().0).unwrap_or_default(),
            copies: self.known_copies(|_| true),
            counters: super::Counters {
                campaigns: raft.map(|r| r.campaigns()).unwrap_or_default(),
                ..self.counters
            },
        }
    }
}
