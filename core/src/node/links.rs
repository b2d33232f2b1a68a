//! Links to peers: the hello, the welcome, and which link speaks for a peer.
//!
//! A link is *usable* when both ends have durably remembered the start of the other. Only then do
//! log messages pass: a restored or cloned directory is found out before it can vote.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use super::persist::Then;
use super::{Event, Node, Output, StopReason};
use crate::ids::{LinkId, NodeId, Start};
use crate::marks::sometimes;
use crate::storage::StorageOp;
use crate::time::Time;
use crate::wire::{self, Acknowledged, Hello, Info, Packet, StaleReason};

/// Links at one time. Beyond, new ones are closed.
const LINKS_MAX: usize = 512;
/// Links to one peer at one time: one in each direction, and a replacement for each.
const LINKS_PER_PEER_MAX: usize = 4;
/// Peers whose starts are remembered.
const PEER_STARTS_MAX: usize = 1024;

#[derive(Debug)]
pub(super) struct Link {
    pub peer: NodeId,
    pub dialed: Option<SocketAddr>,
    pub hello: Option<Hello>,
    /// The peer's start is durable here.
    pub accepted: bool,
    /// This node's start is durable there.
    pub welcomed: bool,
    pub info: Option<Info>,
    pub info_sent: Option<Info>,
    /// Since when it is open.
    pub up: Time,
    pub heard: Time,
}

impl Link {
    pub(super) fn usable(&self) -> bool {
        self.accepted && self.welcomed
    }
}

#[derive(Default, Debug)]
pub(super) struct Links {
    pub all: BTreeMap<LinkId, Link>,
    /// The last start of each peer, durable.
    pub peer_starts: BTreeMap<NodeId, Start>,
    /// Starts on their way to the disk.
    pub remembering: BTreeMap<NodeId, Start>,
    /// The newest usable link of each peer that has one. Every message asks for it; it changes only
    /// with a link: see [`Links::note`].
    speaking: BTreeMap<NodeId, LinkId>,
    /// To processes that run with this node's own id, and since when: see `twin`.
    pub twins: BTreeMap<LinkId, Time>,
}

impl Links {
    /// No link yet, and what the disk knows of peers.
    pub(super) fn remembering(peer_starts: BTreeMap<NodeId, Start>) -> Self {
        Self { peer_starts, ..Self::default() }
    }

    /// The link that speaks for `peer`: the newest usable one.
    pub(super) fn usable(&self, peer: NodeId) -> Option<LinkId> {
        let link = self.speaking.get(&peer).copied();
        debug_assert_eq!(link, self.newest_usable(peer));
        link
    }

    fn newest_usable(&self, peer: NodeId) -> Option<LinkId> {
        let mut of_peer = self.all.iter().rev().filter(|(_, l)| l.peer == peer && l.usable());
        of_peer.next().map(|(id, _)| *id)
    }

    /// A link to `peer` has come, has gone, or is usable or not as it was not before.
    fn note(&mut self, peer: NodeId) {
        match self.newest_usable(peer) {
            Some(link) => self.speaking.insert(peer, link),
            None => self.speaking.remove(&peer),
        };
    }

    /// What is known of the link that speaks for `peer`.
    fn speaker(&self, peer: NodeId) -> Option<&Link> {
        self.all.get(self.speaking.get(&peer)?)
    }

    pub(super) fn any(&self, peer: NodeId) -> bool {
        self.all.values().any(|link| link.peer == peer)
    }

    /// What a peer last said of itself on a usable link.
    pub(super) fn info(&self, peer: NodeId) -> Option<&Info> {
        let speaker = self.speaker(peer)?;
        // The newest may not have said it yet, and an older one has.
        speaker.info.as_ref().or_else(|| {
            let of_peer = self.all.values().rev().filter(|l| l.peer == peer && l.usable());
            of_peer.filter_map(|l| l.info.as_ref()).next()
        })
    }

    pub(super) fn hello(&self, peer: NodeId) -> Option<&Hello> {
        // It is usable since its hello has come.
        self.speaker(peer)?.hello.as_ref()
    }

    /// Usable links that have said what they are, one a peer.
    pub(super) fn peers(&self) -> BTreeMap<NodeId, (LinkId, &Info)> {
        let usable = self.all.iter().filter(|(_, link)| link.usable());
        usable.filter_map(|(id, l)| l.info.as_ref().map(|info| (l.peer, (*id, info)))).collect()
    }
}

/// Sends a packet, for those who borrow another part of the node at the time.
pub(super) fn push_packet(out: &mut VecDeque<Output>, link: LinkId, packet: &Packet) {
    let bytes = wire::encode_packet(packet).into();
    out.push_back(Output::Packet { link, bytes });
}

impl Node {
    pub(super) fn on_link_up(&mut self, link: LinkId, peer: NodeId, dialed: Option<SocketAddr>) {
        if peer == self.id() {
            self.on_twin_up(link, dialed);
            return;
        }
        if let Some(addr) = dialed {
            self.dialer.reached(addr, peer);
        }
        let redundant = dialed.is_some()
            && self.links.all.values().any(|other| {
                // Two nodes may dial each other at once: the smaller id's link stays.
                let stays = other.dialed.is_some() || self.id() > peer;
                other.peer == peer && other.usable() && stays
            });
        let of_peer = self.links.all.values().filter(|l| l.peer == peer).count();
        let full = self.links.all.len() >= LINKS_MAX || of_peer >= LINKS_PER_PEER_MAX;
        if redundant || full {
            self.out.push_back(Output::Close { link });
            return;
        }
        let state = Link {
            peer,
            dialed,
            hello: None,
            accepted: false,
            welcomed: false,
            info: None,
            info_sent: None,
            up: self.now,
            heard: self.now,
        };
        self.links.all.insert(link, state);
        self.send_hello(link);
    }

    pub(super) fn on_link_down(&mut self, link: LinkId) {
        self.links.twins.remove(&link);
        let Some(gone) = self.links.all.remove(&link) else { return };
        self.stirred = true;
        self.links.note(gone.peer);
        self.requests_link_down(link);
        self.sql_link_down(link);
        self.measuring_link_down(link);
        self.next_dial = self.now;
        if let Some(addr) = gone.dialed {
            self.dialer.lost(self.now, addr, gone.up, self.config.timings.redial);
        }
        if gone.usable() && self.links.usable(gone.peer).is_none() {
            let now = self.now;
            if let Some(raft) = &mut self.raft {
                raft.link_lost(now, gone.peer);
            }
            self.each_shard(|shard, now| shard.link_lost(now, gone.peer));
            self.copies_lost_link(gone.peer);
        }
    }

    /// Closes a link of our own accord.
    pub(super) fn close(&mut self, link: LinkId) {
        self.out.push_back(Output::Close { link });
        self.on_link_down(link);
    }

    pub(super) fn send_packet(&mut self, link: LinkId, packet: &Packet) {
        push_packet(&mut self.out, link, packet);
    }

    pub(super) fn send_hellos(&mut self) {
        let links: Vec<LinkId> = self.links.all.keys().copied().collect();
        for link in links {
            self.send_hello(link);
        }
    }

    /// The starts of `peer` that are known here: acknowledged by this node, durably or about to be,
    /// and by the cluster.
    fn known_starts(&self, peer: NodeId) -> impl Iterator<Item = Start> {
        let links = &self.links;
        let document = self.document.as_ref();
        let told = document.and_then(|document| document.last_start(peer));
        let own = [links.remembering.get(&peer), links.peer_starts.get(&peer)];
        own.into_iter().flatten().copied().chain(told)
    }

    /// The last start that is known here and cannot be in the past of a peer that says `hello`. The
    /// last one alone would not do: a directory that was put back may have been started more often
    /// since than the one that it took the place of.
    fn contradiction(&self, peer: NodeId, hello: &Hello) -> Option<Start> {
        self.known_starts(peer).filter(|start| hello.contradicts(*start)).max()
    }

    fn send_hello(&mut self, link: LinkId) {
        if !self.started {
            return; // A crash would take this start back; the hello follows when it is durable.
        }
        let Some((peer, theirs)) = self.links.all.get(&link).map(|l| (l.peer, l.hello.as_ref()))
        else {
            return;
        };
        let contradiction = theirs.and_then(|hello| self.contradiction(peer, hello));
        let raft = self.raft.as_ref();
        let acknowledged = raft.zip(self.identity.cluster).and_then(|(raft, cluster)| {
            let index = raft.matched(peer).filter(|index| index.0 > 0)?;
            Some(Acknowledged { cluster, term: raft.term(), index })
        });
        let remembered = contradiction.or_else(|| self.known_starts(peer).max());
        let hello = Hello { remembered, acknowledged, ..self.hello() };
        self.send_packet(link, &Packet::Hello(hello));
    }

    /// What this node says of itself to whomever.
    pub(super) fn hello(&self) -> Hello {
        let known = self.identity.starts.len();
        let raft = self.raft.as_ref();
        Hello {
            name: self.name(),
            start: self.start,
            recent: self.identity.starts[known.saturating_sub(Hello::RECENT_MAX)..].to_vec(),
            remembered: None,
            last_index: raft.map(|r| r.last_index()).unwrap_or_default(),
            term: raft.map(|r| r.term()).unwrap_or_default(),
            acknowledged: None,
            addresses: self.config.addresses,
        }
    }

    pub(super) fn on_hello(&mut self, id: LinkId, hello: Hello) {
        if let Some(reason) = self.stale_by(&hello) {
            self.send_packet(id, &Packet::Stale(reason));
            sometimes!(StaleDirectory);
            self.stop(StopReason::StaleDisk(reason));
            return;
        }
        let Some(link) = self.links.all.get_mut(&id) else { return };
        let (peer, start) = (link.peer, hello.start);
        link.hello = Some(hello);
        if self.doubt(id) {
            return;
        }
        let durable = self.links.peer_starts.get(&peer).copied();
        if durable == Some(start) && !self.links.remembering.contains_key(&peer) {
            self.accept(id, peer, start);
        } else {
            self.remember(id, peer, start);
        }
    }

    /// Whether what is known of the peer's starts contradicts its hello. Then it is not listened to,
    /// and finds out by a hello of ours.
    fn doubt(&mut self, id: LinkId) -> bool {
        let Some((peer, hello)) =
            self.links.all.get(&id).and_then(|l| Some((l.peer, l.hello.as_ref()?)))
        else {
            return false;
        };
        if self.contradiction(peer, hello).is_none() {
            return false;
        }
        if let Some(link) = self.links.all.get_mut(&id) {
            link.accepted = false;
        }
        self.links.note(peer);
        self.send_hello(id);
        true
    }

    /// The document tells of starts, and this node may have accepted a peer before it knew.
    pub(super) fn doubt_links(&mut self) {
        let accepted = self.links.all.iter().filter(|(_, link)| link.accepted);
        let accepted: Vec<LinkId> = accepted.map(|(id, _)| *id).collect();
        for link in accepted {
            self.doubt(link);
        }
    }

    fn remember(&mut self, link: LinkId, peer: NodeId, start: Start) {
        if self.links.peer_starts.len() >= PEER_STARTS_MAX {
            let servers = self.document.as_ref().map(|d| &d.servers);
            let foreign = |id: &NodeId| servers.is_none_or(|s| !s.contains_key(id));
            let victim = self.links.peer_starts.keys().find(|id| foreign(id)).copied();
            victim.map(|id| self.links.peer_starts.remove(&id));
        }
        self.links.remembering.insert(peer, start);
        let then = Then::Remembered { link, peer, start };
        self.persist.push(StorageOp::PeerStart { peer, start }, Some(then));
    }

    /// A peer's start has become durable.
    pub(super) fn remembered(&mut self, id: LinkId, peer: NodeId, start: Start) {
        if self.links.remembering.get(&peer) == Some(&start) {
            self.links.remembering.remove(&peer);
        }
        self.links.peer_starts.insert(peer, start);
        if !self.links.remembering.contains_key(&peer) && !self.doubt(id) {
            self.accept(id, peer, start);
        }
    }

    /// The start of the peer on `link` is durable here.
    fn accept(&mut self, id: LinkId, peer: NodeId, start: Start) {
        let older: Vec<LinkId> = self
            .links
            .all
            .iter()
            .filter_map(|(other, l)| {
                let other_start = l.hello.as_ref().map(|h| h.start);
                let older =
                    l.peer == peer && *other != id && other_start.is_some_and(|s| s != start);
                older.then_some(*other)
            })
            .collect();
        for other in older {
            self.close(other);
        }
        let Some(link) = self.links.all.get_mut(&id) else { return };
        link.accepted = true;
        self.links.note(peer);
        self.send_packet(id, &Packet::Welcome { start });
        self.maybe_usable(id);
    }

    pub(super) fn on_welcome(&mut self, id: LinkId, start: Start) {
        let Some(link) = self.links.all.get_mut(&id) else { return };
        if start == self.start && !link.welcomed {
            link.welcomed = true;
            let peer = link.peer;
            self.links.note(peer);
            self.maybe_usable(id);
        }
    }

    fn maybe_usable(&mut self, id: LinkId) {
        let Some(link) = self.links.all.get(&id).filter(|l| l.usable()) else { return };
        let peer = link.peer;
        self.close_doubles(peer);
        if !self.links.all.contains_key(&id) {
            return;
        }
        self.detector.heard(peer, self.now);
        self.send_info(id);
        let now = self.now;
        if let Some(raft) = &mut self.raft {
            raft.link_open(now, peer);
        }
        self.each_shard(|shard, now| shard.link_open(now, peer));
        self.tell_peer_of_copies(peer);
    }

    /// Two nodes may dial each other at once. Of several usable links the smaller id keeps the
    /// first that it dialled itself, and closes the others.
    fn close_doubles(&mut self, peer: NodeId) {
        if self.id() > peer {
            return;
        }
        let mine = |l: &&Link| l.peer == peer && l.usable() && l.dialed.is_some();
        let kept = self.links.all.iter().find(|(_, l)| mine(l)).map(|(id, _)| *id);
        let Some(kept) = kept else { return };
        let doubles =
            self.links.all.iter().filter(|(id, l)| **id != kept && l.peer == peer && l.usable());
        let doubles: Vec<LinkId> = doubles.map(|(id, _)| *id).collect();
        for link in doubles {
            self.close(link);
        }
    }

    /// Whether the peer's hello shows that this directory is an old copy or a second one.
    fn stale_by(&self, hello: &Hello) -> Option<StaleReason> {
        if let Some(start) = hello.remembered
            && !self.identity.knows_start(start)
        {
            return Some(StaleReason::UnknownStart(start));
        }
        let said = hello.acknowledged.filter(|a| Some(a.cluster) == self.identity.cluster)?;
        let raft = self.raft.as_ref().filter(|raft| !raft.abstains())?;
        let (term, held) = (raft.term(), raft.last_index());
        let shrank = term < said.term || (term == said.term && held < said.index);
        shrank.then_some(StaleReason::LogShrank { acknowledged: said.index, held })
    }

    pub(super) fn on_stale(&mut self, id: LinkId, reason: StaleReason) {
        let Some(link) = self.links.all.get(&id) else { return };
        let event = Event::StalePeer { peer: link.peer, reason };
        self.out.push_back(Output::Event(event));
        self.close(id);
    }

    /// Closes links on which nothing came for too long: a dead path is dialled anew.
    pub(super) fn close_silent(&mut self) {
        let (now, limit) = (self.now, self.silence());
        let dead = self.links.all.iter().filter(|(_, l)| now.since(l.heard) > limit);
        let dead: Vec<LinkId> = dead.map(|(id, _)| *id).collect();
        for link in dead {
            self.close(link);
        }
    }
}
