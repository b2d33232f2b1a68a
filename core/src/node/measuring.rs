//! Gathering what every node has measured. It asks, waits for a bounded time, and tells who did not
//! answer; nothing that is decided rests on it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{CommandError, Node, Output, Reply};
use crate::ids::{CommandId, LinkId, NodeId};
use crate::measures::{Measures, NoMeasures, Owned, Traffic};
use crate::raft::Latency;
use crate::time::Time;
use crate::wire::Packet;

/// How many may gather at one time.
const GATHERING_MAX: usize = 16;
/// How many may wait for this node's own measures at one time.
const OWED_MAX: usize = 64;

/// What comes together for one who asked here.
#[derive(Debug)]
struct Gathering {
    id: CommandId,
    until: Time,
    /// Over which link each was asked; `None`: this node itself.
    waiting: BTreeMap<NodeId, Option<LinkId>>,
    told: BTreeMap<NodeId, Result<Measures, NoMeasures>>,
}

/// Who waits for this node's own measures.
#[derive(Clone, Copy, Debug)]
enum Asker {
    /// A gathering of this node.
    Own(u64),
    /// A peer's.
    Peer { link: LinkId, id: u64 },
}

/// Questions in both directions.
#[derive(Default, Debug)]
pub(super) struct Measuring {
    last: u64,
    gathering: BTreeMap<u64, Gathering>,
    /// They are answered together, when the adapter has counted.
    owed: Vec<Asker>,
}

impl Measuring {
    pub(super) fn next(&self) -> Option<Time> {
        self.gathering.values().map(|gathering| gathering.until).min()
    }
}

impl Node {
    /// Asks every server, and answers when all have, or the time is up.
    pub(super) fn gather_measures(&mut self, id: CommandId, timeout: Duration) {
        if self.measuring.gathering.len() >= GATHERING_MAX {
            self.reply(id, Reply::Failed(CommandError::Busy));
            return;
        }
        self.measuring.last += 1;
        let (number, me) = (self.measuring.last, self.id());
        let waiting = BTreeMap::from([(me, None)]);
        let until = self.now + timeout;
        let mut gathering = Gathering { id, until, waiting, told: BTreeMap::new() };
        let document = self.document.clone();
        let servers = document.iter().flat_map(|document| document.servers.keys());
        for node in servers.copied().filter(|node| *node != me) {
            match self.links.usable(node) {
                Some(link) => {
                    self.send_packet(link, &Packet::Measure { id: number });
                    gathering.waiting.insert(node, Some(link));
                }
                None => {
                    gathering.told.insert(node, Err(NoMeasures::OutOfReach));
                }
            }
        }
        self.measuring.gathering.insert(number, gathering);
        self.owe_measures(Asker::Own(number));
    }

    /// A peer gathers.
    pub(super) fn on_measure(&mut self, link: LinkId, peer: NodeId, id: u64) {
        if self.is_server(peer) {
            self.owe_measures(Asker::Peer { link, id });
        } else {
            self.counters.messages_dropped += 1;
        }
    }

    fn owe_measures(&mut self, asker: Asker) {
        // Beyond the bound they are not told, and find out by their own deadlines.
        if self.measuring.owed.len() < OWED_MAX {
            self.measuring.owed.push(asker);
            if self.measuring.owed.len() == 1 {
                self.out.push_back(Output::CountTraffic);
            }
        }
    }

    /// The adapter has counted what went over the links: all who wait are answered.
    pub(super) fn on_traffic(&mut self, traffic: Vec<(NodeId, Traffic)>) {
        let measures = self.measures(self.now, traffic);
        for asker in std::mem::take(&mut self.measuring.owed) {
            match asker {
                Asker::Own(number) => self.on_measured((None, self.id()), number, measures.clone()),
                Asker::Peer { link, id } if self.links.all.contains_key(&link) => {
                    let measures = Box::new(measures.clone());
                    self.send_packet(link, &Packet::Measured { id, measures });
                }
                Asker::Peer { .. } => {}
            }
        }
    }

    /// A server tells what it has measured.
    pub(super) fn on_measured(
        &mut self,
        (over, peer): (Option<LinkId>, NodeId),
        number: u64,
        measures: Measures,
    ) {
        let Some(gathering) = self.measuring.gathering.get_mut(&number) else { return };
        if gathering.waiting.get(&peer) == Some(&over) {
            gathering.waiting.remove(&peer);
            gathering.told.insert(peer, Ok(measures));
        }
        self.drive_measuring();
    }

    /// Those that were asked over a link that is gone do not answer any more.
    pub(super) fn measuring_link_down(&mut self, link: LinkId) {
        for gathering in self.measuring.gathering.values_mut() {
            let lost = gathering.waiting.extract_if(.., |_, over| *over == Some(link));
            let lost: Vec<NodeId> = lost.map(|(node, _)| node).collect();
            gathering.told.extend(lost.into_iter().map(|node| (node, Err(NoMeasures::OutOfReach))));
        }
    }

    /// Answers those for whom all is there, or whose time is up.
    pub(super) fn drive_measuring(&mut self) {
        let now = self.now;
        if self.measuring.gathering.is_empty() {
            return;
        }
        let is_due = |_: &u64, of: &mut Gathering| of.waiting.is_empty() || now >= of.until;
        let due: Vec<(u64, Gathering)> = self.measuring.gathering.extract_if(.., is_due).collect();
        for (_, Gathering { id, waiting, mut told, .. }) in due {
            told.extend(waiting.into_keys().map(|node| (node, Err(NoMeasures::TooLate))));
            self.reply(id, Reply::Measured { servers: told.into_iter().collect() });
        }
    }

    /// What this node has measured of its own side, with what its adapter has counted.
    #[must_use]
    pub fn measures(&self, now: Time, traffic: Vec<(NodeId, Traffic)>) -> Measures {
        let peers_max = Measures::PEERS_MAX;
        let of_servers = traffic.into_iter().filter(|(node, _)| self.is_server(*node));
        let mut followers: BTreeMap<NodeId, Latency> = BTreeMap::new();
        let mut owned = Vec::new();
        for (log, shard) in self.shards().filter(|(_, shard)| shard.log().is_leader()) {
            let (term, refuses) = (shard.log().term(), shard.refuses());
            owned.push(Owned { log, term, refuses });
            for (node, latency) in shard.log().followers(now) {
                let all = followers.entry(node).or_default();
                *all = all.and(latency);
            }
        }
        let followers = followers.into_iter().filter(|(node, _)| self.is_server(*node));
        Measures {
            owned,
            followers: followers.take(peers_max).collect(),
            traffic: of_servers.take(peers_max).collect(),
        }
    }
}
