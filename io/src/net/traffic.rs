//! What has gone over the links, by the node at the other end: counted where packets are handed over,
//! written and read, and kept while links come and go.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use quorate_core::NodeId;
use quorate_core::measures::{Tally, Traffic};
use quorate_core::wire::PacketKind;

/// Of how many nodes it is kept. Beyond, those without a link are forgotten.
const PEERS_MAX: usize = 256;

/// Counters of all peers.
#[derive(Debug, Default)]
pub(crate) struct AllTraffic(Mutex<BTreeMap<NodeId, Arc<PeerTraffic>>>);

impl AllTraffic {
    /// The counters of a node to which there is a link now; of one beyond the bound, some that nobody
    /// will be shown.
    pub(crate) fn opened(&self, peer: NodeId) -> Arc<PeerTraffic> {
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if peers.len() >= PEERS_MAX && !peers.contains_key(&peer) {
            let linked = |traffic: &Arc<PeerTraffic>| Arc::strong_count(traffic) > 1;
            let forgotten = peers.iter().find(|(_, traffic)| !linked(traffic)).map(|(id, _)| *id);
            match forgotten {
                Some(forgotten) => drop(peers.remove(&forgotten)),
                None => return Arc::default(),
            }
        }
        let traffic = peers.entry(peer).or_default().clone();
        traffic.links.fetch_add(1, Ordering::Relaxed);
        traffic
    }

    /// What was counted so far.
    pub(crate) fn told(&self) -> Vec<(NodeId, Traffic)> {
        let peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        peers.iter().map(|(peer, traffic)| (*peer, traffic.told())).collect()
    }
}

/// Counters of one peer. Each is right by itself; read together they may be a packet apart.
#[derive(Debug, Default)]
pub(crate) struct PeerTraffic {
    handed_over: Count,
    sent: [Count; PacketKind::COUNT],
    received: [Count; PacketKind::COUNT],
    dropped: Count,
    links: AtomicU64,
}

impl PeerTraffic {
    /// A packet is to be sent.
    pub(crate) fn handed_over(&self, bytes: usize) {
        self.handed_over.add(one(bytes));
    }

    /// Packets that were to be sent never will be.
    pub(crate) fn dropped(&self, packets: Tally) {
        self.dropped.add(packets);
    }

    /// Packets were written to the socket.
    pub(crate) fn sent(&self, batch: &Batch) {
        for (count, packets) in self.sent.iter().zip(&batch.0) {
            if packets.messages > 0 {
                count.add(*packets);
            }
        }
    }

    /// A packet was read from the socket.
    pub(crate) fn received(&self, packet: &[u8]) {
        self.received[PacketKind::of(packet) as usize].add(one(packet.len()));
    }

    fn told(&self) -> Traffic {
        // First what became of packets, then how many there were: never fewer.
        let sent = self.sent.each_ref().map(Count::get);
        let dropped = self.dropped.get();
        let gone = sent.iter().copied().sum::<Tally>() + dropped;
        let handed_over = self.handed_over.get();
        Traffic {
            sent,
            received: self.received.each_ref().map(Count::get),
            queued: Tally {
                messages: handed_over.messages.saturating_sub(gone.messages),
                bytes: handed_over.bytes.saturating_sub(gone.bytes),
            },
            dropped,
            links: self.links.load(Ordering::Relaxed),
        }
    }
}

/// Packets that are written together.
#[derive(Debug, Default)]
pub(crate) struct Batch([Tally; PacketKind::COUNT]);

impl Batch {
    pub(crate) fn add(&mut self, packet: &[u8]) {
        let kind = &mut self.0[PacketKind::of(packet) as usize];
        *kind = *kind + one(packet.len());
    }
}

#[derive(Debug, Default)]
struct Count {
    messages: AtomicU64,
    bytes: AtomicU64,
}

impl Count {
    fn add(&self, packets: Tally) {
        self.messages.fetch_add(packets.messages, Ordering::Relaxed);
        self.bytes.fetch_add(packets.bytes, Ordering::Relaxed);
    }

    fn get(&self) -> Tally {
        let messages = self.messages.load(Ordering::Relaxed);
        Tally { messages, bytes: self.bytes.load(Ordering::Relaxed) }
    }
}

/// One packet of that length.
pub(crate) fn one(bytes: usize) -> Tally {
    Tally { messages: 1, bytes: bytes as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_neither_written_nor_lost_waits() {
        let all = AllTraffic::default();
        let peer = all.opened(NodeId(1));
        (0..5).for_each(|_| peer.handed_over(10));
        let mut batch = Batch::default();
        batch.add(&[5; 10]);
        batch.add(&[6; 10]);
        peer.sent(&batch);
        peer.dropped(one(10));
        peer.received(&[5; 7]);
        let told = all.told();
        let (of, traffic) = &told[0];
        assert_eq!((*of, told.len(), traffic.links), (NodeId(1), 1, 1));
        assert_eq!(traffic.queued, Tally { messages: 2, bytes: 20 });
        assert_eq!(traffic.sent[PacketKind::Alive as usize], one(10));
        assert_eq!(traffic.sent[PacketKind::Requests as usize], one(10));
        assert_eq!(traffic.received[PacketKind::Alive as usize], one(7));
        assert_eq!(traffic.dropped, one(10));
    }

    #[test]
    fn counters_outlive_their_link_and_are_forgotten_only_where_there_is_none() {
        let all = AllTraffic::default();
        let kept = all.opened(NodeId(0));
        kept.handed_over(1);
        all.opened(NodeId(1)).handed_over(1);
        let again = all.opened(NodeId(1));
        assert_eq!(again.told().links, 2);
        assert_eq!(again.told().queued, one(1));
        drop(again);
        (2..1_000).for_each(|id| drop(all.opened(NodeId(id))));
        let told = all.told();
        assert_eq!(told.len(), PEERS_MAX);
        assert_eq!(told[0].1.queued, one(1), "it has a link");
        let open: Vec<_> = (2_000..2_400).map(|id| all.opened(NodeId(id))).collect();
        assert_eq!((all.told().len(), open.len()), (PEERS_MAX, 400));
    }
}
