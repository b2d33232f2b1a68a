//! The table of links and dials, and the promise that events and calls agree about them.
//!
//! Whatever changes the table puts its event into the channel under the same lock. So a link that
//! was closed gets no `LinkDown`, a dial that is under way gets exactly one answer, and a dial
//! that was answered may be made again at once.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use quorate_core::measures::{Tally, Traffic};
use quorate_core::wire::PACKET_BYTES_MAX;
use quorate_core::{DialError, LinkId, NodeId};
use tokio::sync::{mpsc, oneshot};

use super::config::NetLimits;
use super::events::NetEvent;
use super::traffic::{AllTraffic, PeerTraffic, one};

/// What a queued packet costs beyond its bytes: so that empty packets are bounded too.
const PACKET_COST_BYTES: usize = 64;

/// The table.
pub(crate) struct Links {
    events: mpsc::Sender<NetEvent>,
    links_max: usize,
    dials_max: usize,
    queue_bytes_max: usize,
    traffic: AllTraffic,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last: u64,
    open: HashMap<LinkId, Entry>,
    dialing: BTreeSet<SocketAddr>,
    /// Links whose `LinkDown` may still be in the channel; as many as the channel holds.
    downs: VecDeque<LinkId>,
    stopped: bool,
}

struct Entry {
    traffic: Arc<PeerTraffic>,
    /// `None`: told to end, and its `LinkDown` is still to come.
    handle: Option<Handle>,
}

/// The table's end of a link. Dropped, it makes the link deliver what is queued, and end.
struct Handle {
    queue: mpsc::UnboundedSender<Bytes>,
    queued_bytes: Arc<AtomicUsize>,
    abort: oneshot::Sender<Abort>,
}

/// Why the table ends a link at once, without delivering what is queued.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Abort {
    /// More would wait than is allowed.
    Slow {
        /// How much.
        queued_bytes: usize,
    },
    /// A packet was to be sent that is longer than allowed.
    TooLong {
        /// Its length.
        bytes: usize,
    },
}

/// The link's own end.
pub(crate) struct LinkEnds {
    pub(crate) link: LinkId,
    pub(crate) peer: NodeId,
    pub(crate) queue: Queue,
    pub(crate) traffic: Arc<PeerTraffic>,
    /// Yields an [`Abort`], or an error when the link was closed.
    pub(crate) abort: oneshot::Receiver<Abort>,
}

/// What is to be written on a link. Bounded by its bytes, not by its channel.
pub(crate) struct Queue {
    packets: mpsc::UnboundedReceiver<Bytes>,
    queued_bytes: Arc<AtomicUsize>,
    traffic: Arc<PeerTraffic>,
    /// Taken out, and not known to be written.
    taken: Tally,
}

impl Queue {
    /// Waits for the next packet; `None` when the link was closed and nothing is left.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        let packet = self.packets.recv().await;
        self.take(packet)
    }

    /// The next packet if there is one.
    pub(crate) fn next_now(&mut self) -> Option<Bytes> {
        let packet = self.packets.try_recv().ok();
        self.take(packet)
    }

    fn take(&mut self, packet: Option<Bytes>) -> Option<Bytes> {
        let packet = packet?;
        self.taken = self.taken + one(packet.len());
        Some(packet)
    }

    /// Makes room: all that was taken out has been written, so many packets of so many bytes.
    pub(crate) fn written(&mut self, packets: usize, bytes: usize) {
        self.taken = Tally::default();
        self.queued_bytes.fetch_sub(bytes + packets * PACKET_COST_BYTES, Ordering::Relaxed);
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // From here on whoever sends is told that nobody takes it.
        self.packets.close();
        let mut lost = self.taken;
        while let Ok(packet) = self.packets.try_recv() {
            lost = lost + one(packet.len());
        }
        self.traffic.dropped(lost);
    }
}

impl Links {
    pub(crate) fn new(events: mpsc::Sender<NetEvent>, limits: &NetLimits) -> Self {
        let least = 2 * (PACKET_BYTES_MAX + PACKET_COST_BYTES);
        Self {
            events,
            links_max: limits.links_max,
            dials_max: limits.dials_max,
            queue_bytes_max: limits.write_queue_bytes_max.max(least),
            traffic: AllTraffic::default(),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a link and says `LinkUp`. `None`: there are too many, or the transport has stopped.
    /// An answered dial is always let in: core has asked for it.
    pub(crate) async fn up(&self, peer: NodeId, dialed: Option<SocketAddr>) -> Option<LinkEnds> {
        let permit = self.events.reserve().await.ok()?;
        let mut state = self.state();
        if let Some(addr) = dialed {
            state.dialing.remove(&addr);
        }
        if state.stopped || (dialed.is_none() && state.open.len() >= self.links_max) {
            return None;
        }
        state.last += 1;
        let link = LinkId(state.last);
        let (queue, packets) = mpsc::unbounded_channel();
        let (abort, aborted) = oneshot::channel();
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let traffic = self.traffic.opened(peer);
        let handle = Some(Handle { queue, queued_bytes: queued_bytes.clone(), abort });
        let before = state.open.insert(link, Entry { traffic: traffic.clone(), handle });
        assert!(before.is_none(), "link ids are never reused");
        permit.send(NetEvent::LinkUp { link, peer, dialed });
        let (counts, taken) = (traffic.clone(), Tally::default());
        let queue = Queue { packets, queued_bytes, traffic: counts, taken };
        Some(LinkEnds { link, peer, queue, traffic, abort: aborted })
    }

    /// Takes a link out and says `LinkDown`, unless it was closed in the meantime.
    pub(crate) async fn down(&self, link: LinkId) {
        // Nothing more is accepted for it while the event waits for its place.
        if let Some(entry) = self.state().open.get_mut(&link) {
            entry.handle = None;
        }
        let Ok(permit) = self.events.reserve().await else { return };
        let mut state = self.state();
        if state.open.remove(&link).is_some() {
            if state.downs.len() >= self.events.max_capacity() {
                state.downs.pop_front();
            }
            state.downs.push_back(link);
            permit.send(NetEvent::LinkDown { link });
        }
    }

    /// Queues a packet. More than the bound: the link ends instead, nothing more is queued.
    pub(crate) fn send(&self, link: LinkId, bytes: Bytes) {
        let mut state = self.state();
        let Some(entry) = state.open.get_mut(&link) else { return };
        let Entry { traffic, handle: open } = entry;
        let packet = one(bytes.len());
        traffic.handed_over(bytes.len());
        let Some(handle) = open else {
            traffic.dropped(packet);
            return;
        };
        let cost = bytes.len() + PACKET_COST_BYTES;
        let abort = if bytes.len() > PACKET_BYTES_MAX {
            Some(Abort::TooLong { bytes: bytes.len() })
        } else {
            let queued_bytes = handle.queued_bytes.fetch_add(cost, Ordering::Relaxed) + cost;
            (queued_bytes > self.queue_bytes_max).then_some(Abort::Slow { queued_bytes })
        };
        match abort {
            // A link that has ended by itself takes nothing; its `LinkDown` is on the way.
            None => {
                if handle.queue.send(bytes).is_err() {
                    traffic.dropped(packet);
                }
            }
            Some(reason) => {
                traffic.dropped(packet);
                if let Some(handle) = open.take() {
                    let _ = handle.abort.send(reason);
                }
            }
        }
    }

    /// Closes a link, after what was sent on it has gone out. No `LinkDown` follows.
    pub(crate) fn close(&self, link: LinkId) {
        let mut state = self.state();
        drop(state.open.remove(&link));
        state.downs.retain(|down| *down != link);
    }

    /// Closes all links, for good.
    pub(crate) fn stop(&self) {
        let mut state = self.state();
        state.stopped = true;
        state.open.clear();
    }

    /// Whether an event that comes out of the channel still holds: not one of a link that has
    /// been closed while the event was in there.
    pub(crate) fn admits(&self, event: &NetEvent) -> bool {
        let mut state = self.state();
        match event {
            NetEvent::Packet { link, .. } => {
                state.open.contains_key(link) || state.downs.contains(link)
            }
            NetEvent::LinkDown { link } => {
                let found = state.downs.iter().position(|down| down == link);
                found.is_some_and(|at| state.downs.remove(at).is_some())
            }
            _ => true,
        }
    }

    /// Notes a dial. `Merged`: one to this address is under way, and its answer will do.
    pub(crate) fn begin_dial(&self, addr: SocketAddr) -> Dial {
        let mut state = self.state();
        if state.stopped || state.dialing.contains(&addr) {
            return Dial::Merged;
        }
        let full = state.dialing.len() >= self.dials_max;
        state.dialing.insert(addr);
        if full { Dial::TooMany } else { Dial::Begun }
    }

    /// Answers a dial that came to nothing.
    pub(crate) async fn dial_failed(&self, addr: SocketAddr, error: DialError) {
        let Ok(permit) = self.events.reserve().await else { return };
        let mut state = self.state();
        let was_under_way = state.dialing.remove(&addr);
        debug_assert!(was_under_way, "each dial is answered once");
        permit.send(NetEvent::DialFailed { addr, error });
    }

    /// What has gone over links so far, by the node at the other end.
    pub(crate) fn traffic(&self) -> Vec<(NodeId, Traffic)> {
        self.traffic.told()
    }

    /// How many links are open.
    pub(crate) fn open(&self) -> usize {
        self.state().open.len()
    }
}

/// What became of the wish to dial.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Dial {
    /// To be carried out.
    Begun,
    /// Under way already.
    Merged,
    /// To be answered with a failure: too many are under way.
    TooMany,
}
