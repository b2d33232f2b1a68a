//! Streams: in order, or broken; what was on its way when one breaks is lost.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::Bytes;
use quorate_core::{LinkId, NodeId};

use super::{MS, Network};
use crate::queue::Queue;
use crate::view::Mark;
use crate::world::{RunRef, What};

/// An end of a link: 0 dialled, 1 was dialled.
pub type Side = usize;

/// A link, as long as it has not ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkRef {
    place: u32,
    generation: u32,
}

impl LinkRef {
    /// What the node at that end calls it.
    #[must_use]
    pub fn id(self, side: Side) -> LinkId {
        LinkId((u64::from(self.generation) << 24) | (u64::from(self.place) << 1) | side as u64)
    }

    /// The link and the end that a node means.
    #[must_use]
    pub fn of(id: LinkId) -> (Self, Side) {
        let place = u32::try_from((id.0 >> 1) & 0x7f_ffff).unwrap_or(u32::MAX);
        let generation = u32::try_from(id.0 >> 24).unwrap_or(u32::MAX);
        (Self { place, generation }, usize::from(id.0 & 1 == 1))
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// The handshake is not done at this end.
    Coming,
    Open,
    Closed,
}

/// A stream between two processes.
#[derive(Debug)]
pub struct Link {
    generation: u32,
    /// The process at each end.
    pub ends: [RunRef; 2],
    /// The node at each end, as the handshake proved.
    pub nodes: [NodeId; 2],
    /// What was dialled.
    pub addr: SocketAddr,
    state: [End; 2],
    /// Nothing arrives towards each end before this: streams keep their order.
    horizon: [u64; 2],
    /// Broken: nothing on its way arrives.
    dead: bool,
    stalled: [VecDeque<Parcel>; 2],
    stalled_since: [u64; 2],
}

/// Something on its way over a stream.
#[derive(Clone, Debug)]
pub struct Parcel {
    /// Whether it asks for a pre-vote, which must change nobody's vote.
    pub pre_vote: bool,
    /// As what it is recorded.
    pub mark: Option<Mark>,
    /// What it holds.
    pub bytes: Bytes,
}

/// What an end learns when something arrives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// It is there.
    Here(RunRef),
    /// Lost.
    Lost,
}

/// What a closing end has to be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// Its link is down.
    Down(RunRef),
    /// Its dial came to nothing.
    NeverUp(RunRef, SocketAddr),
    /// Nothing: it knows, or waits for nothing.
    Nothing,
}

/// How many packets may wait for a partition to end before the sender gives the stream up.
const STALLED_MAX: usize = 2_000;

/// All streams.
#[derive(Debug, Default)]
pub struct Links {
    links: Vec<Link>,
    free: Vec<u32>,
}

impl Links {
    /// A link that has not ended.
    #[must_use]
    pub fn get(&self, link: LinkRef) -> Option<&Link> {
        self.links.get(link.place as usize).filter(|l| l.generation == link.generation)
    }

    fn get_mut(&mut self, link: LinkRef) -> Option<&mut Link> {
        self.links.get_mut(link.place as usize).filter(|l| l.generation == link.generation)
    }

    fn add(&mut self, ends: [RunRef; 2], nodes: [NodeId; 2], addr: SocketAddr) -> LinkRef {
        let link = Link {
            generation: 0,
            ends,
            nodes,
            addr,
            state: [End::Coming; 2],
            horizon: [0; 2],
            dead: false,
            stalled: [VecDeque::new(), VecDeque::new()],
            stalled_since: [0; 2],
        };
        if let Some(place) = self.free.pop() {
            let held = &mut self.links[place as usize];
            let generation = held.generation;
            *held = Link { generation, ..link };
            return LinkRef { place, generation };
        }
        self.links.push(link);
        let place = u32::try_from(self.links.len() - 1).unwrap_or(u32::MAX);
        LinkRef { place, generation: 0 }
    }

    fn free_if_ended(&mut self, link: LinkRef) {
        let held = &mut self.links[link.place as usize];
        if held.state == [End::Closed; 2] {
            held.generation += 1;
            self.free.push(link.place);
        }
    }

    /// The links of a host's process, and the end that is its.
    pub fn of_run(&self, by: RunRef) -> Vec<(LinkRef, Side)> {
        let mut found = Vec::new();
        for (place, link) in self.links.iter().enumerate() {
            let place = u32::try_from(place).unwrap_or(u32::MAX);
            let this = LinkRef { place, generation: link.generation };
            for side in 0..2 {
                if link.ends[side] == by && link.state[side] != End::Closed {
                    found.push((this, side));
                }
            }
        }
        found
    }
}

impl Network {
    /// A handshake has succeeded: each end learns it in its own time.
    pub fn open(
        &mut self,
        queue: &mut Queue<What>,
        now: u64,
        ends: [RunRef; 2],
        nodes: [NodeId; 2],
        addr: SocketAddr,
    ) {
        let link = self.links.add(ends, nodes, addr);
        for side in 0..2 {
            let at =
                now + self.delay(ends[side].host, ends[1 - side].host) + self.dice.below(2 * MS);
            if let Some(held) = self.links.get_mut(link) {
                held.horizon[side] = at + 1;
            }
            queue.push(at, What::LinkUp { link, side });
        }
    }

    /// The handshake is done at one end: who is to be told, unless it has ended meanwhile.
    pub fn is_up(&mut self, link: LinkRef, side: Side) -> Option<RunRef> {
        let held = self.links.get_mut(link)?;
        if held.state[side] != End::Coming {
            return None;
        }
        held.state[side] = End::Open;
        Some(held.ends[side])
    }

    /// A node sends a packet. It is lost if the link is down, of which the node need not know yet.
    pub fn send(&mut self, queue: &mut Queue<What>, now: u64, id: LinkId, parcel: Parcel) {
        let (link, side) = LinkRef::of(id);
        let to = 1 - side;
        let Some(held) = self.links.get(link) else { return };
        if held.dead || held.state[side] != End::Open || held.state[to] == End::Closed {
            return;
        }
        let (from_host, to_host) = (held.ends[side].host, held.ends[to].host);
        let waits = !held.stalled[to].is_empty();
        if waits || !self.cuts.stream_open(from_host, to_host) {
            return self.stall(queue, now, link, to, parcel);
        }
        let mut at = now + self.delay(from_host, to_host);
        if !self.peace && self.dice.chance(self.plan.retransmit_ppm) {
            at += self.dice.between(200 * MS, 1_000 * MS);
        }
        self.arrive(queue, link, to, at, parcel);
    }

    fn arrive(
        &mut self,
        queue: &mut Queue<What>,
        link: LinkRef,
        side: Side,
        at: u64,
        parcel: Parcel,
    ) {
        if let Some(held) = self.links.get_mut(link) {
            let at = at.max(held.horizon[side]);
            held.horizon[side] = at + 1;
            queue.push(at, What::Packet { link, side, parcel });
        }
    }

    fn stall(
        &mut self,
        queue: &mut Queue<What>,
        now: u64,
        link: LinkRef,
        to: Side,
        parcel: Parcel,
    ) {
        let wait = self.dice.between(100 * MS, 300 * MS);
        let Some(held) = self.links.get_mut(link) else { return };
        if held.stalled[to].is_empty() {
            held.stalled_since[to] = now;
            queue.push(now + wait, What::Retransmit { link, side: to });
        }
        held.stalled[to].push_back(parcel);
        if held.stalled[to].len() > STALLED_MAX {
            self.reset(queue, now, link);
        }
    }

    /// The sender tries again what did not get through, or gives the stream up.
    pub fn retransmit(&mut self, queue: &mut Queue<What>, now: u64, link: LinkRef, side: Side) {
        let Some(held) = self.links.get_mut(link) else { return };
        if held.dead || held.state[side] == End::Closed {
            held.stalled[side].clear();
            return;
        }
        let (from, to) = (held.ends[1 - side].host, held.ends[side].host);
        let waited = now - held.stalled_since[side];
        if self.cuts.stream_open(from, to) {
            let waiting = std::mem::take(&mut held.stalled[side]);
            let at = now + self.delay(from, to);
            for parcel in waiting {
                self.arrive(queue, link, side, at, parcel);
            }
        } else if waited > self.plan.give_up_ms * MS {
            self.reset(queue, now, link);
        } else {
            let again = now + (waited / 2).clamp(100 * MS, 2_000 * MS);
            queue.push(again, What::Retransmit { link, side });
        }
    }

    /// A packet arrives at one end.
    pub fn arrives(&self, link: LinkRef, side: Side) -> Arrival {
        match self.links.get(link) {
            Some(held) if !held.dead && held.state[side] == End::Open => {
                Arrival::Here(held.ends[side])
            }
            _ => Arrival::Lost,
        }
    }

    /// The link breaks: what is on its way is lost, and each end finds out in its own time, at
    /// times one of them much later.
    pub fn reset(&mut self, queue: &mut Queue<What>, now: u64, link: LinkRef) {
        let half_open = self.dice.one_in(4).then(|| self.dice.index(2));
        let late = self.dice.between(200 * MS, self.plan.give_up_ms * MS);
        let soon = [self.dice.below(5 * MS), self.dice.below(5 * MS)];
        let Some(held) = self.links.get_mut(link) else { return };
        held.dead = true;
        for (side, soon) in soon.into_iter().enumerate() {
            held.stalled[side].clear();
            if held.state[side] != End::Closed {
                let wait = if half_open == Some(side) { late } else { soon };
                queue.push(now + wait, What::LinkDown { link, side });
            }
        }
    }

    /// A process closes its end. `silent`: the host loses its power, nobody tells the other end.
    pub fn close(
        &mut self,
        queue: &mut Queue<What>,
        now: u64,
        link: LinkRef,
        side: Side,
        silent: bool,
    ) {
        let Some(held) = self.links.get(link) else { return };
        let other = 1 - side;
        let (from, to) = (held.ends[side].host, held.ends[other].host);
        let late = self.dice.between(500 * MS, self.plan.give_up_ms * MS);
        let abrupt = self.dice.one_in(4);
        let delay = self.delay(from, to);
        let open = self.cuts.stream_open(from, to);
        let Some(held) = self.links.get_mut(link) else { return };
        if held.state[side] == End::Closed {
            return;
        }
        held.state[side] = End::Closed;
        held.stalled[other].clear();
        held.dead |= abrupt;
        let wait = if silent || !open { late } else { delay };
        if held.state[other] != End::Closed {
            let at = if held.dead { now + wait } else { (now + wait).max(held.horizon[other]) };
            queue.push(at, What::LinkDown { link, side: other });
        }
        self.links.free_if_ended(link);
    }

    /// One end finds that the link is down.
    pub fn goes_down(&mut self, link: LinkRef, side: Side) -> Ended {
        let Some(held) = self.links.get_mut(link) else { return Ended::Nothing };
        let ended = match held.state[side] {
            End::Closed => return Ended::Nothing,
            End::Open => Ended::Down(held.ends[side]),
            End::Coming if side == 0 => Ended::NeverUp(held.ends[side], held.addr),
            End::Coming => Ended::Nothing,
        };
        held.state[side] = End::Closed;
        self.links.free_if_ended(link);
        ended
    }
}
