//! Two clusters of one name meet (DESIGN §4.3). The one that survives offers to absorb the other
//! and only then asks it to dissolve; members of the other act on the committed entry alone.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::document::decode_command;
use super::{Event, Node, Output, State, StopReason};
use crate::configuration::{Absorption, ConfigCommand, Rejection};
use crate::ids::{ClusterId, Index, LinkId, NodeId, Term};
use crate::marks::sometimes;
use crate::raft::Payload;
use crate::time::Time;
use crate::wire::{Packet, Request, Response};

/// How long a coordinator stays to tell its members of the dissolution.
const LINGER: Duration = Duration::from_secs(2);

/// An offer to another cluster.
#[derive(Clone, Copy, Debug)]
struct Offer {
    asked: Option<(u64, LinkId)>,
    /// When the other cluster was last asked to dissolve, unless it has refused since: it may have
    /// done so, or may still.
    open_since: Option<Time>,
    next: Time,
    /// When the other cluster was last seen able to decide; an offer to one that is gone, or that
    /// has lost its quorum, is withdrawn.
    seen: Time,
    /// The entry that takes it back, as long as that may still be applied.
    withdrawal: Option<(Index, Term)>,
}

impl Offer {
    fn new(now: Time) -> Self {
        Self { asked: None, open_since: None, next: now, seen: now, withdrawal: None }
    }
}

#[derive(Default, Debug)]
pub(super) struct Merge {
    offers: BTreeMap<ClusterId, Offer>,
    pub split_with: BTreeMap<ClusterId, Option<Rejection>>,
    /// The cluster has dissolved; this node goes at that time at the latest.
    pub dissolved: Option<Time>,
}

impl Merge {
    pub(super) fn link_down(&mut self, link: LinkId) {
        for offer in self.offers.values_mut() {
            if offer.asked.is_some_and(|(_, over)| over == link) {
                offer.asked = None;
            }
        }
    }
}

/// Another cluster of this name, as one of its members describes it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Other {
    pub cluster: ClusterId,
    /// How many it has, or keeps the names of.
    pub databases: u32,
    servers: u32,
    pub coordinator: Option<(NodeId, SocketAddr)>,
    /// Whether it has offered to take this one in.
    pub offers: bool,
}

impl Node {
    /// Whether this node's cluster would go on if it met `other`: the one with databases; if both have
    /// some the one that has several servers, for one server brings what it has; else the smaller id.
    /// `None`: both hold databases and have several servers. One that keeps names counts as one with
    /// databases: it does not dissolve before their holder has come, and that may be never.
    pub(super) fn survives(&self, other: &Other) -> Option<bool> {
        let document = self.document.as_ref()?;
        match (document.databases_promised() == 0, other.databases == 0) {
            (false, false) => match (document.servers.len() == 1, other.servers == 1) {
                (false, false) => None,
                (false, true) => Some(true),
                (true, false) => Some(false),
                (true, true) => Some(document.cluster < other.cluster),
            },
            (false, true) => Some(true),
            (true, false) => Some(false),
            (true, true) => Some(document.cluster < other.cluster),
        }
    }

    pub(super) fn others(&self) -> BTreeMap<ClusterId, Other> {
        let mut others = BTreeMap::new();
        let mut versions = BTreeMap::new();
        for (_, info) in self.links.peers().values() {
            let Some(cluster) = info.cluster.filter(|c| Some(*c) != self.identity.cluster) else {
                continue;
            };
            let known = versions.get(&cluster).copied().unwrap_or_default();
            if info.version < known || info.version == Default::default() {
                continue;
            }
            versions.insert(cluster, info.version);
            let (databases, servers, coordinator) =
                (info.databases, info.servers, info.coordinator);
            let offers = super::bringing::is_offer(info.your_cluster);
            others.insert(cluster, Other { cluster, databases, servers, coordinator, offers });
        }
        others
    }

    /// The coordinator's part: offer, ask, withdraw.
    pub(super) fn drive_merge(&mut self) {
        let others = self.others();
        let now = self.now;
        for other in others.values() {
            // One that brings databases asks by itself.
            if self.survives(other) == Some(true) && other.databases == 0 {
                self.offer(other, &others);
            }
        }
        self.withdraw_stale_offers(now, &others);
    }

    fn offer(&mut self, other: &Other, others: &BTreeMap<ClusterId, Other>) {
        let Some(document) = self.document.clone() else { return };
        match document.absorbed.get(&other.cluster) {
            None => {
                // Not while a third cluster is about that this one would itself dissolve into.
                // Nor to one that cannot decide: the offer would only bind this cluster.
                let stronger =
                    |o: &Other| o.coordinator.is_some() && self.survives(o) == Some(false);
                let doomed = others.values().any(stronger);
                let able = other.coordinator.is_some();
                if able && !doomed && !self.merge.offers.contains_key(&other.cluster) {
                    let absorb = ConfigCommand::Absorb { cluster: other.cluster };
                    if self.propose(&absorb).is_some() {
                        self.note_offer(other.cluster);
                    }
                }
            }
            Some(Absorption::Offered) => self.ask_to_dissolve(other, &document),
            Some(Absorption::Done | Absorption::Abandoned) => {}
        }
    }

    fn note_offer(&mut self, cluster: ClusterId) {
        let now = self.now;
        let offer = self.merge.offers.entry(cluster);
        offer.or_insert(Offer::new(now)).seen = now;
    }

    fn ask_to_dissolve(&mut self, other: &Other, document: &crate::configuration::Configuration) {
        if other.coordinator.is_some() {
            self.note_offer(other.cluster);
        }
        let (now, retry) = (self.now, self.config.timings.retry);
        let Some((node, addr)) = other.coordinator else { return };
        let Some(offer) = self.merge.offers.get(&other.cluster).copied() else { return };
        if now < offer.next || self.is_withdrawing(other.cluster) {
            return;
        }
        let Some(link) = self.links.usable(node) else {
            self.want(addr, Some(node));
            return;
        };
        let id = self.next_request();
        let addresses = document.servers.values().map(|s| s.addresses.node).take(16).collect();
        let request = Request::Dissolve { into: document.cluster, addresses };
        if let Some(offer) = self.merge.offers.get_mut(&other.cluster) {
            offer.asked = Some((id, link));
            offer.open_since = Some(now);
            offer.next = now + retry * 2;
        }
        self.send_packet(link, &Packet::Request { id, request });
    }

    /// Whether this cluster, asked by `into`, may dissolve. Crossed offers: the larger id withdraws.
    pub(super) fn may_dissolve(&mut self, into: ClusterId) -> Result<(), Rejection> {
        let Some(document) = &self.document else { return Err(Rejection::NotFounding) };
        let offered = document.absorbed.get(&into) == Some(&Absorption::Offered);
        if offered && document.cluster > into {
            sometimes!(OffersCrossed);
            self.withdraw(into);
            return Err(Rejection::Absorbing);
        }
        Ok(())
    }

    /// The answer to a request to dissolve. Returns whether `id` was one.
    pub(super) fn on_merge_response(
        &mut self,
        _from: NodeId,
        id: u64,
        response: &Response,
    ) -> bool {
        let offers = self.merge.offers.iter();
        let asked = offers.filter(|(_, o)| o.asked.is_some_and(|(asked, _)| asked == id));
        let Some(cluster) = asked.map(|(c, _)| *c).next() else { return false };
        if let Some(offer) = self.merge.offers.get_mut(&cluster) {
            offer.asked = None;
            if matches!(response, Response::Refused(_)) {
                offer.open_since = None;
            }
        }
        if !self.is_coordinator() {
            return true;
        }
        match response {
            Response::Done { .. } => {
                let _ = self.propose(&ConfigCommand::Absorbed { cluster });
            }
            Response::Refused(Rejection::Dissolved { into })
                if Some(*into) == self.identity.cluster =>
            {
                // It had done so already, and the answer was lost.
                let _ = self.propose(&ConfigCommand::Absorbed { cluster });
            }
            // Another cluster was faster: its servers are found there.
            Response::Refused(Rejection::Dissolved { .. }) => self.withdraw(cluster),
            Response::Refused(Rejection::HoldsDatabases) => self.withdraw(cluster),
            Response::Refused(Rejection::Absorbing) if self.identity.cluster > Some(cluster) => {
                self.withdraw(cluster);
            }
            _ => {}
        }
        true
    }

    /// Takes an offer back. Once only: until the entry is applied the document lists the offer still,
    /// and on a slow disk that may be long.
    fn withdraw(&mut self, cluster: ClusterId) {
        if self.is_withdrawing(cluster) {
            return;
        }
        sometimes!(OfferWithdrawn);
        let withdrawal = self.propose(&ConfigCommand::WithdrawAbsorb { cluster });
        let now = self.now;
        self.merge.offers.entry(cluster).or_insert(Offer::new(now)).withdrawal = withdrawal;
    }

    fn is_withdrawing(&self, cluster: ClusterId) -> bool {
        let withdrawal = self.merge.offers.get(&cluster).and_then(|offer| offer.withdrawal);
        withdrawal.is_some_and(|entry| self.is_open(entry))
    }

    /// Takes back offers to clusters that are no longer seen, or that this one would dissolve into.
    fn withdraw_stale_offers(&mut self, now: Time, others: &BTreeMap<ClusterId, Other>) {
        let Some(document) = self.document.clone() else { return };
        let limit = self.config.timings.max_no_heartbeat;
        for (cluster, state) in &document.absorbed {
            if *state != Absorption::Offered {
                self.merge.offers.remove(cluster);
                continue;
            }
            if document.bringing.contains_key(cluster) {
                continue; // Not this one's to take back.
            }
            let offer = self.merge.offers.entry(*cluster);
            let offer = *offer.or_insert(Offer::new(now));
            let gone = now.since(offer.seen) > limit;
            let lost = others.get(cluster).is_some_and(|o| self.survives(o) == Some(false));
            // Not while it may be dissolving: two clusters would end in each other.
            let open = offer.open_since.is_some_and(|at| now.since(at) <= limit);
            if (gone || lost) && !open {
                self.withdraw(*cluster);
            }
        }
        let absorbed = |cluster: &ClusterId| document.absorbed.contains_key(cluster);
        // An offer whose entry was refused or lost is made again.
        let open = |o: &Offer| o.withdrawal.is_none() && now.since(o.seen) < limit;
        self.merge.offers.retain(|c, offer| absorbed(c) || open(offer));
    }

    /// What was said of this cluster while it was not known here whether it brings something is heeded
    /// once that is known.
    pub(super) fn follow_dissolutions(&mut self) {
        let peers = self.links.peers();
        let said = peers.iter().map(|(peer, (_, info))| (*peer, info.your_cluster));
        let ended = said.filter(|(_, it)| !matches!(it, None | Some(Absorption::Offered)));
        for peer in ended.map(|(peer, _)| peer).collect::<Vec<_>>() {
            if !self.stopped {
                self.follow_dissolution(peer);
            }
        }
    }

    /// Every member reports a split that it sees, whoever coordinates.
    pub(super) fn watch_split(&mut self) {
        let others = self.others();
        let split = others.values().filter_map(|other| {
            let clash = self.clash_with(other.cluster).filter(|_| other.databases > 0);
            let split = clash.is_some() || self.survives(other).is_none();
            split.then_some((other.cluster, clash))
        });
        let split: BTreeMap<ClusterId, Option<Rejection>> = match &self.document {
            Some(document) if document.databases_promised() > 0 => split.collect(),
            _ => BTreeMap::new(),
        };
        for (other, clash) in &split {
            if self.merge.split_with.get(other) != Some(clash) {
                sometimes!(SplitSeen);
                let event = Event::Split { other: *other, clash: clash.clone() };
                self.out.push_back(Output::Event(event));
            }
        }
        self.merge.split_with = split;
    }

    /// The document says that this cluster has ended.
    pub(super) fn on_dissolved(&mut self) {
        if self.merge.dissolved.is_none() {
            let leads = self.raft.as_ref().is_some_and(|raft| raft.is_leader());
            let linger = if leads { LINGER } else { Duration::ZERO };
            self.merge.dissolved = Some(self.now + linger);
        }
    }

    /// Goes, once the cluster has dissolved and the members have been told.
    pub(super) fn go_if_dissolved(&mut self) {
        let Some(until) = self.merge.dissolved else { return };
        let told = self.raft.as_ref().is_some_and(|raft| {
            let others = raft.membership().members().into_iter().filter(|n| *n != self.id());
            raft.is_leader() && others.into_iter().all(|n| !self.links.any(n))
        });
        if self.now < until && !told {
            return;
        }
        let Some(document) = &self.document else { return };
        let Some(dissolved) = &document.dissolved_into else { return };
        let (into, addresses) = (dissolved.into, dissolved.addresses.clone());
        let (from, brings) = (document.cluster, dissolved.brings.then_some(self.id()));
        self.stop(StopReason::Dissolved { from, into, addresses, committed: true, brings });
    }

    /// Whether this cluster holds a database, or may: an entry that makes one may be committed
    /// without this node's knowing.
    fn may_hold_databases(&self) -> bool {
        let applied = self.document.as_ref().is_some_and(|d| !d.databases.is_empty());
        applied
            || self.raft.as_ref().is_some_and(|raft| {
                let open = raft.applied().0 + 1..=raft.last_index().0;
                let mut entries = open.filter_map(|index| raft.entry(Index(index)));
                entries.any(|entry| match &entry.payload {
                    Payload::Data(data) => matches!(
                        decode_command(data),
                        None | Some(ConfigCommand::CreateDatabase { .. })
                    ),
                    Payload::Empty | Payload::Membership(_) => false,
                })
            })
    }

    /// A peer of another cluster says that this one has ended: a straggler follows. That it has
    /// dissolved rests on a committed entry, which is legal only without databases, whatever an old
    /// document here still lists; one that was abandoned may have them.
    pub(super) fn follow_dissolution(&mut self, peer: NodeId) {
        let Some(info) = self.links.info(peer) else { return };
        let (Some(from), Some(into)) = (self.identity.cluster, info.cluster) else { return };
        let committed = match info.your_cluster {
            Some(Absorption::Done) => true,
            Some(Absorption::Abandoned) if !self.may_hold_databases() => false,
            _ => return,
        };
        let still = !matches!(self.state, State::Leaving | State::Left | State::Founding);
        if self.may_yet_bring() {
            return; // Its own log will say so, if it is the one that holds the databases.
        }
        if from != into && still {
            let said = self.links.hello(peer).map(|hello| hello.addresses.node);
            let addresses = said.into_iter().collect();
            sometimes!(StragglerFollows);
            self.stop(StopReason::Dissolved { from, into, addresses, committed, brings: None });
        }
    }
}
