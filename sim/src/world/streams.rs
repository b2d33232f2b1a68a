//! Dialling, handshakes, and what arrives.

use std::net::SocketAddr;

use bytes::Bytes;
use quorate_core::{DialError, Input, Node};

use super::{Happening, RunRef, What, World};
use crate::counts::Count;
use crate::network::{Arrival, Ended, LinkRef, MS, Parcel, Side, address, host_at};
use crate::outcome::Verdict;
use crate::trace::tell;
use crate::view::{Fate, Kind, Lane, Mark, Told};

impl World {
    /// What is on its way when the run ends.
    pub(super) fn note_under_way(&mut self) {
        if !self.trace.is_recording() {
            return;
        }
        while let Some((_, what)) = self.queue.pop() {
            let (mark, to) = match what {
                What::Datagram { to, mark, .. } => (mark, Some(Lane::Host(to))),
                What::Packet { link, side, parcel } => {
                    let held = self.network.links.get(link);
                    (parcel.mark, held.map(|held| Lane::Host(held.ends[side].host)))
                }
                What::Knock { addr, mark, .. } => (mark, host_at(addr).map(Lane::Host)),
                What::Failover(Happening::AtHost(line, _, mark)) => {
                    let failover = self.failover.as_ref();
                    (mark, failover.and_then(|f| f.host_of_line(line)).map(Lane::Host))
                }
                What::Failover(Happening::AtClient { app, mark, .. }) => {
                    (mark, Some(Lane::Failover(app)))
                }
                _ => continue,
            };
            if let Some(to) = to {
                self.trace.ends(self.now, mark, to, Fate::UnderWay);
            }
        }
    }

    pub(super) fn datagram(
        &mut self,
        to: usize,
        from: SocketAddr,
        mark: Option<Mark>,
        bytes: Bytes,
    ) -> Verdict {
        let held = &self.hosts[to];
        let hears = held.is_up() && held.plan.multicast;
        self.trace.ends(self.now, mark, Lane::Host(to), held.fate(hears));
        if !hears {
            return Ok(());
        }
        self.counts.add(Count::Datagrams);
        self.print.word(0x100 + to as u64);
        self.deliver(to, Input::Datagram { from, bytes }, false)
    }

    pub(super) fn packet(&mut self, link: LinkRef, side: Side, parcel: Parcel) -> Verdict {
        let Parcel { pre_vote, mark, bytes } = parcel;
        let arrival = self.network.arrives(link, side);
        let there = matches!(arrival, Arrival::Here(by) if self.is_now(by));
        if mark.is_some()
            && let Some(held) = self.network.links.get(link)
        {
            let host = held.ends[side].host;
            self.trace.ends(self.now, mark, Lane::Host(host), self.hosts[host].fate(there));
        }
        let Arrival::Here(by) = arrival else { return Ok(()) };
        if !there {
            return Ok(());
        }
        self.counts.add(Count::Packets);
        self.print.word(0x200 + by.host as u64);
        self.deliver(by.host, Input::Packet { link: link.id(side), bytes }, pre_vote)
    }

    /// Somebody who dialled has arrived: a handshake succeeds if and only if group, password and
    /// encryption settings are the same.
    pub(super) fn knock(&mut self, by: RunRef, addr: SocketAddr, mark: Option<Mark>) -> Verdict {
        if !self.is_now(by) {
            return Ok(());
        }
        let soon = self.network.dice.between(1, 5) * MS;
        let patience = self.network.dice.between(500, 3_000) * MS;
        let fails = self.peace.is_none() && {
            let ppm = self.network.plan.dial_fail_ppm;
            self.network.dice.chance(ppm)
        };
        let target = host_at(addr).filter(|host| *host < self.hosts.len());
        let Some(target) = target.filter(|host| !fails && self.network.connects(by.host, *host))
        else {
            if let Some(target) = host_at(addr).filter(|host| *host < self.hosts.len()) {
                self.trace.ends(self.now, mark, Lane::Host(target), Fate::Lost);
            }
            return self.dial_fails(by, addr, DialError::Unreachable, patience);
        };
        self.trace.ends(self.now, mark, Lane::Host(target), self.hosts[target].fate(true));
        let (dialler, dialled) = (&self.hosts[by.host], &self.hosts[target]);
        let ids = (dialler.node.as_ref().map(Node::id), dialled.node.as_ref().map(Node::id));
        let (Some(one), Some(other)) = ids else {
            return self.dial_fails(by, addr, DialError::Unreachable, soon);
        };
        if dialled.paused {
            return self.dial_fails(by, addr, DialError::Unreachable, patience);
        }
        if target == by.host {
            return self.dial_fails(by, addr, DialError::Myself, soon);
        }
        if dialler.plan.credentials != dialled.plan.credentials {
            self.counts.add(Count::Refusals);
            let from = SocketAddr::new(
                address(by.host).ip(),
                40_000 + u16::try_from(self.network.dice.below(20_000)).unwrap_or(0),
            );
            let there = self.run_of(target);
            self.queue.push(self.now + soon, What::Refused { by: there, from });
            return self.dial_fails(by, addr, DialError::Refused, soon);
        }
        let ends = [by, self.run_of(target)];
        self.network.open(&mut self.queue, self.now + soon, ends, [one, other], addr);
        Ok(())
    }

    fn dial_fails(&mut self, by: RunRef, addr: SocketAddr, error: DialError, wait: u64) -> Verdict {
        self.queue.push(self.now + wait, What::DialFailed { by, addr, error });
        Ok(())
    }

    pub(super) fn dial_failed(
        &mut self,
        by: RunRef,
        addr: SocketAddr,
        error: DialError,
    ) -> Verdict {
        if !self.is_now(by) {
            return Ok(());
        }
        self.hosts[by.host].dials = self.hosts[by.host].dials.saturating_sub(1);
        tell!(
            self,
            Told::at(by.host, Kind::Links),
            "host {} did not reach {addr}: {error:?}",
            by.host
        );
        self.deliver(by.host, Input::DialFailed { addr, error }, false)
    }

    pub(super) fn refused(&mut self, by: RunRef, from: SocketAddr) -> Verdict {
        if !self.is_now(by) {
            return Ok(());
        }
        self.deliver(by.host, Input::PeerRefused { from }, false)
    }

    pub(super) fn link_up(&mut self, link: LinkRef, side: Side) -> Verdict {
        let Some(by) = self.network.is_up(link, side) else { return Ok(()) };
        if !self.is_now(by) {
            self.network.close(&mut self.queue, self.now, link, side, false);
            return Ok(());
        }
        let Some(held) = self.network.links.get(link) else { return Ok(()) };
        let peer = held.nodes[1 - side];
        let dialed = (side == 0).then_some(held.addr);
        self.counts.add(Count::Links);
        if side == 0 {
            self.hosts[by.host].dials = self.hosts[by.host].dials.saturating_sub(1);
        }
        tell!(
            self,
            Told::at(by.host, Kind::Links),
            "host {} has link {:?} to {peer:?}",
            by.host,
            link.id(side)
        );
        self.deliver(by.host, Input::LinkUp { link: link.id(side), peer, dialed }, false)
    }

    pub(super) fn link_down(&mut self, link: LinkRef, side: Side) -> Verdict {
        match self.network.goes_down(link, side) {
            Ended::Down(by) if self.is_now(by) => {
                tell!(
                    self,
                    Told::at(by.host, Kind::Links),
                    "host {} loses link {:?}",
                    by.host,
                    link.id(side)
                );
                self.deliver(by.host, Input::LinkDown { link: link.id(side) }, false)
            }
            Ended::NeverUp(by, addr) => self.dial_failed(by, addr, DialError::Unreachable),
            Ended::Down(_) | Ended::Nothing => Ok(()),
        }
    }
}
