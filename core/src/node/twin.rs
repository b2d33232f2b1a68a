//! Another process that runs with this node's id, on a copy of its directory.
//!
//! Whoever remembers the starts of this node finds out which of the two is the old one (see `links`).
//! Where nobody else is in reach they settle it between them: who takes no part gives way to who
//! takes part in their cluster since a start that its own directory does not know, with a log that
//! goes no less far. Neither gives way where both take part or none does: nothing tells which of them
//! is the right one, and it is for an operator, who is told by the adapter.

use std::net::SocketAddr;

use super::{Event, Node, Output, State, StopReason};
use crate::ids::LinkId;
use crate::marks::sometimes;
use crate::wire::{self, Acknowledged, Hello, Packet, StaleReason};

/// Links to such processes at one time.
const TWINS_MAX: usize = 4;

impl Node {
    pub(super) fn on_twin_up(&mut self, link: LinkId, dialed: Option<SocketAddr>) {
        if let Some(addr) = dialed {
            self.dialer.met_twin(self.now, addr, self.config.timings.redial);
        }
        if !self.started || self.links.twins.len() >= TWINS_MAX {
            self.out.push_back(Output::Close { link });
            return;
        }
        self.links.twins.insert(link, self.now);
        let hello = Packet::Hello(self.hello_to_twin());
        self.send_packet(link, &hello);
    }

    /// Whoever takes part vouches for its start as others would, and for its log.
    fn hello_to_twin(&self) -> Hello {
        let raft = self.raft.as_ref().filter(|_| self.takes_part());
        let acknowledged = raft.zip(self.identity.cluster).map(|(raft, cluster)| Acknowledged {
            cluster,
            term: raft.term(),
            index: raft.last_index(),
        });
        Hello { remembered: acknowledged.map(|_| self.start), acknowledged, ..self.hello() }
    }

    fn takes_part(&self) -> bool {
        let led = self.raft.as_ref().is_some_and(|raft| raft.leader().is_some());
        led && self.state == State::Member
    }

    pub(super) fn on_twin_packet(&mut self, link: LinkId, bytes: &[u8]) {
        match wire::decode_packet(bytes) {
            Ok(Packet::Hello(hello)) => {
                if let Some(reason) = self.gives_way_to(&hello) {
                    sometimes!(StaleDirectory);
                    self.send_packet(link, &Packet::Stale(reason));
                    self.stop(StopReason::StaleDisk(reason));
                }
                // The link stays: the other one may have to say that it is the old one.
            }
            Ok(Packet::Stale(reason)) => {
                let event = Event::StalePeer { peer: self.id(), reason };
                self.out.push_back(Output::Event(event));
                self.close_twin(link);
            }
            Ok(_) => self.counters.messages_dropped += 1,
            Err(_) => {
                self.counters.packets_bad += 1;
                self.close_twin(link);
            }
        }
    }

    fn gives_way_to(&self, hello: &Hello) -> Option<StaleReason> {
        if self.takes_part() {
            return None;
        }
        let theirs = hello.acknowledged.filter(|a| Some(a.cluster) == self.identity.cluster)?;
        let held = self.raft.as_ref().map(|raft| raft.last_index()).unwrap_or_default();
        let start = hello.remembered.filter(|start| !self.identity.knows_start(*start))?;
        (theirs.index >= held).then_some(StaleReason::UnknownStart(start))
    }

    fn close_twin(&mut self, link: LinkId) {
        self.links.twins.remove(&link);
        self.out.push_back(Output::Close { link });
    }

    /// They are met anew from time to time: what they take part in may change.
    pub(super) fn close_old_twins(&mut self) {
        let (now, limit) = (self.now, self.silence());
        let old = self.links.twins.iter().filter(|(_, up)| now.since(**up) > limit);
        let old: Vec<LinkId> = old.map(|(link, _)| *link).collect();
        old.into_iter().for_each(|link| self.close_twin(link));
    }
}
