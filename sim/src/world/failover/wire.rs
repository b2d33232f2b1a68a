//! Connections of clients: in order, or broken, or silent; what is on its way when one breaks is lost,
//! and what one end closes the other learns of in its own time, or never.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use quorate_core::client::{ConnectionId, Input, ToClient, ToServer};

use super::{Failover, Happening};
use crate::counts::Count;
use crate::network::{MS, host_at};
use crate::outcome::Verdict;
use crate::trace::tell;
use crate::view::{Fate, Kind, Lane, Mark, Told};
use crate::world::{RunRef, What, World};

/// The port of clients; simulated, like every address here.
const PORT: u16 = 2424;
/// How many messages may wait for a partition to end before the sender gives the line up.
const STALLED_MAX: usize = 1_000;

/// Where a host listens for clients.
#[must_use]
pub(in crate::world) fn client_address(host: usize) -> SocketAddr {
    let last = u8::try_from(host + 1).unwrap_or(u8::MAX);
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)), PORT)
}

fn listener_at(address: SocketAddr) -> Option<usize> {
    let node = SocketAddr::new(address.ip(), crate::network::PORT);
    host_at(node).filter(|_| address.port() == PORT)
}

/// A connection of a client, until both ends know that it is gone.
#[derive(Debug)]
pub(super) struct Line {
    /// Whose.
    pub(super) app: usize,
    /// As its client calls it.
    pub(super) id: ConnectionId,
    /// To which host.
    pub(super) host: usize,
    /// The process that has accepted it.
    pub(super) run: Option<RunRef>,
    /// The client's end is open, as far as the client has said or was told.
    client_open: bool,
    /// The host's end is.
    pub(super) host_open: bool,
    /// What the client has closed comes to it all the same if it is on its way.
    after_close: bool,
    /// Broken: nothing more gets through.
    dead: bool,
    /// Nothing arrives before this, towards the client and towards the host.
    horizon: [u64; 2],
    to_host: VecDeque<(ToServer, Option<Mark>)>,
    to_client: VecDeque<(ToClient, Option<Mark>)>,
    stalled_since: [u64; 2],
}

const TO_CLIENT: usize = 0;
const TO_HOST: usize = 1;

impl Failover {
    /// The host at the other end of a line.
    pub(in crate::world) fn host_of_line(&self, number: u64) -> Option<usize> {
        self.lines.get(&number).map(|line| line.host)
    }

    /// The usual delay between a client and a host, and more at times.
    fn delay(&mut self, app: usize, host: usize, slow: u64) -> u64 {
        let base = self.base[app][host];
        base + self.dice.below(base + 1) + slow
    }
}

impl World {
    /// Whether something gets from a client to a host, or back.
    fn is_open(&self, app: usize, host: usize, to_host: bool) -> bool {
        let Some(failover) = &self.failover else { return false };
        if self.peace.is_some() {
            return true;
        }
        let cut = failover.cuts.iter().any(|cut| cut.stops(app, host, to_host));
        let beside = failover.apps[app].plan.beside.filter(|beside| *beside != host);
        let parted = beside.is_some_and(|beside| {
            let (from, to) = if to_host { (beside, host) } else { (host, beside) };
            !self.network.cuts.stream_open(from, to)
        });
        !cut && !parted
    }

    fn line_delay(&mut self, app: usize, host: usize) -> u64 {
        let slow = self.network.slow[host];
        self.failover.as_mut().map_or(MS, |failover| failover.delay(app, host, slow))
    }

    fn give_up_after(&self) -> u64 {
        self.network.plan.give_up_ms * MS
    }

    pub(super) fn dial_of_client(&mut self, app: usize, id: ConnectionId, to: SocketAddr) {
        let hosts = self.hosts.len();
        let host = listener_at(to).filter(|host| *host < hosts);
        let delay = self.line_delay(app, host.unwrap_or(0));
        let Some(failover) = &mut self.failover else { return };
        let number = failover.next();
        let ppm = failover.plan.after_close_ppm;
        let line = Line {
            app,
            id,
            host: host.unwrap_or(0),
            run: None,
            client_open: true,
            host_open: false,
            after_close: failover.dice.chance(ppm),
            dead: host.is_none(),
            horizon: [0; 2],
            to_host: VecDeque::new(),
            to_client: VecDeque::new(),
            stalled_since: [0; 2],
        };
        failover.lines.insert(number, line);
        failover.apps[app].lines.insert(id, number);
        self.queue.push(self.now + delay, What::Failover(Happening::Knock(number)));
    }

    /// A client's dial arrives at its host: it is accepted, refused, or never answered.
    pub(super) fn knock_of_client(&mut self, number: u64) -> Verdict {
        let Some(line) = self.failover.as_ref().and_then(|f| f.lines.get(&number)) else {
            return Ok(());
        };
        let (app, host, nowhere) = (line.app, line.host, line.dead);
        if !line.client_open {
            self.forget_line(number);
            return Ok(());
        }
        let late = self.give_up_after();
        let open = self.is_open(app, host, true) && self.is_open(app, host, false);
        let delay = self.line_delay(app, host);
        if nowhere || !open || !self.hosts[host].is_up() {
            self.counts.add(Count::ClientDialsFailed);
            let Some(failover) = &mut self.failover else { return Ok(()) };
            // Where a process is gone the system answers, unless the machine is gone too.
            let silent = !open || failover.dice.one_in(4);
            let after = if silent { late } else { delay };
            if let Some(line) = failover.lines.get_mut(&number) {
                line.dead = true;
            }
            self.queue.push(self.now + after, What::Failover(Happening::Gone(number)));
            return Ok(());
        }
        let run = self.run_of(host);
        if let Some(line) = self.failover.as_mut().and_then(|f| f.lines.get_mut(&number)) {
            (line.run, line.host_open) = (Some(run), true);
        }
        self.counts.add(Count::ClientConnections);
        self.accepted(number);
        Ok(())
    }

    /// A client sends over a line.
    pub(super) fn send_to_host(&mut self, app: usize, id: ConnectionId, message: ToServer) {
        let Some(failover) = &mut self.failover else { return };
        let Some(number) = failover.apps[app].lines.get(&id).copied() else { return };
        if self.breaks_now(number) {
            return;
        }
        let Some(line) = self.failover.as_ref().and_then(|f| f.lines.get(&number)) else { return };
        if line.dead {
            return;
        }
        let host = line.host;
        let mark = self.trace.speaks(self.now, (Lane::Failover(app), Lane::Host(host)), &message);
        if !line.to_host.is_empty() || !self.is_open(app, host, true) {
            return self.stall(number, TO_HOST, |line| line.to_host.push_back((message, mark)));
        }
        let at = self.arrives_at(number, TO_HOST);
        self.queue.push(at, What::Failover(Happening::AtHost(number, message, mark)));
    }

    /// A host sends over a line.
    pub(super) fn send_to_client(&mut self, number: u64, message: ToClient) {
        if self.breaks_now(number) {
            return;
        }
        let Some(line) = self.failover.as_ref().and_then(|f| f.lines.get(&number)) else { return };
        if line.dead || !line.host_open {
            return;
        }
        let (app, host) = (line.app, line.host);
        let mark = self.trace.speaks(self.now, (Lane::Host(host), Lane::Failover(app)), &message);
        if !line.to_client.is_empty() || !self.is_open(app, host, false) {
            return self.stall(number, TO_CLIENT, |line| line.to_client.push_back((message, mark)));
        }
        self.carry_to_client(number, message, mark);
    }

    fn carry_to_client(&mut self, number: u64, message: ToClient, mark: Option<Mark>) {
        let at = self.arrives_at(number, TO_CLIENT);
        let Some(line) = self.failover.as_ref().and_then(|f| f.lines.get(&number)) else { return };
        let message = Box::new(message);
        let what = Happening::AtClient { line: number, app: line.app, id: line.id, message, mark };
        self.queue.push(at, What::Failover(what));
    }

    /// When what is sent now arrives: streams keep their order.
    fn arrives_at(&mut self, number: u64, way: usize) -> u64 {
        let Some(line) = self.failover.as_ref().and_then(|f| f.lines.get(&number)) else {
            return self.now;
        };
        let (app, host) = (line.app, line.host);
        let mut at = self.now + self.line_delay(app, host);
        let calm = self.peace.is_some();
        let Some(failover) = &mut self.failover else { return at };
        let late = failover.plan.late_ppm;
        if !calm && failover.dice.chance(late) {
            at += failover.dice.between(100 * MS, 1_000 * MS);
        }
        if let Some(line) = failover.lines.get_mut(&number) {
            at = at.max(line.horizon[way]);
            line.horizon[way] = at + 1;
        }
        at
    }

    /// Whether a line breaks as something is sent over it.
    fn breaks_now(&mut self, number: u64) -> bool {
        let calm = self.peace.is_some();
        let Some(failover) = &mut self.failover else { return false };
        let ppm = failover.plan.reset_ppm;
        let breaks = !calm && failover.dice.chance(ppm);
        if breaks {
            self.break_line(number);
        }
        breaks
    }

    /// A line breaks: what is on its way is lost, and each end finds out in its own time.
    pub(super) fn break_line(&mut self, number: u64) {
        let late = self.give_up_after();
        let Some(failover) = &mut self.failover else { return };
        let half_open = failover.dice.one_in(4);
        let soon = [failover.dice.below(5 * MS), failover.dice.below(5 * MS)];
        let Some(line) = failover.lines.get_mut(&number).filter(|line| !line.dead) else { return };
        line.dead = true;
        line.to_host.clear();
        line.to_client.clear();
        self.counts.add(Count::ClientConnectionsLost);
        let at = self.now + if half_open { late } else { soon[0] };
        self.queue.push(at, What::Failover(Happening::Gone(number)));
        self.queue.push(self.now + soon[1], What::Failover(Happening::HungUp(number)));
    }

    fn stall(&mut self, number: u64, way: usize, keep: impl FnOnce(&mut Line)) {
        let now = self.now;
        let Some(failover) = &mut self.failover else { return };
        let wait = failover.dice.between(100 * MS, 300 * MS);
        let Some(line) = failover.lines.get_mut(&number) else { return };
        let waiting = line.to_host.len() + line.to_client.len();
        let first =
            if way == TO_HOST { line.to_host.is_empty() } else { line.to_client.is_empty() };
        if first {
            line.stalled_since[way] = now;
            let again = Happening::Again(number, way == TO_HOST);
            self.queue.push(now + wait, What::Failover(again));
        }
        keep(line);
        if waiting >= STALLED_MAX {
            self.break_line(number);
        }
    }

    /// What did not get through is tried again, or the line is given up.
    pub(super) fn try_line_again(&mut self, number: u64, to_host: bool) {
        let give_up = self.give_up_after();
        let now = self.now;
        let Some(line) = self.failover.as_ref().and_then(|f| f.lines.get(&number)) else { return };
        let way = if to_host { TO_HOST } else { TO_CLIENT };
        let waited = now - line.stalled_since[way];
        if line.dead {
            return;
        }
        if self.is_open(line.app, line.host, to_host) {
            let Some(failover) = &mut self.failover else { return };
            let Some(line) = failover.lines.get_mut(&number) else { return };
            if to_host {
                for (message, mark) in std::mem::take(&mut line.to_host) {
                    let at = self.arrives_at(number, TO_HOST);
                    self.queue.push(at, What::Failover(Happening::AtHost(number, message, mark)));
                }
            } else {
                for (message, mark) in std::mem::take(&mut line.to_client) {
                    self.carry_to_client(number, message, mark);
                }
            }
        } else if waited > give_up {
            self.break_line(number);
        } else {
            let again = now + (waited / 2).clamp(100 * MS, 2_000 * MS);
            self.queue.push(again, What::Failover(Happening::Again(number, to_host)));
        }
    }

    /// A client closes its end.
    pub(super) fn close_of_client(&mut self, app: usize, id: ConnectionId) {
        let Some(failover) = &mut self.failover else { return };
        let Some(number) = failover.apps[app].lines.remove(&id) else { return };
        let Some(line) = failover.lines.get_mut(&number) else { return };
        line.client_open = false;
        line.to_host.clear();
        let (host, heard) = (line.host, line.host_open && !line.dead);
        if !heard {
            if line.run.is_some() && !line.host_open {
                self.forget_line(number);
            }
            return;
        }
        let delay = self.line_delay(app, host);
        let after = if self.is_open(app, host, true) { delay } else { self.give_up_after() };
        let horizon = self.failover.as_ref().and_then(|f| f.lines.get(&number));
        let at = horizon.map_or(0, |line| line.horizon[TO_HOST]).max(self.now + after);
        self.queue.push(at, What::Failover(Happening::HungUp(number)));
    }

    /// Something arrives at a client.
    pub(super) fn at_client(
        &mut self,
        number: u64,
        (which, id): (usize, ConnectionId),
        (message, mark): (ToClient, Option<Mark>),
    ) -> Verdict {
        let Some(failover) = &self.failover else { return Ok(()) };
        let line = failover.lines.get(&number);
        let app = &failover.apps[which];
        let held = app.lines.contains_key(&id);
        let broken = line.is_some_and(|line| line.dead && line.client_open);
        let late = line.is_none_or(|line| !line.after_close);
        let lost = app.told_gone.contains(&id) || broken || (!held && late);
        let fate = if lost { Fate::Nobody } else { Fate::Arrived };
        self.trace.ends(self.now, mark, Lane::Failover(which), fate);
        if lost {
            return Ok(());
        }
        if !held {
            self.counts.add(Count::ClientLate);
        }
        self.received(which, id, message)
    }

    /// A client finds that a connection is gone.
    pub(super) fn line_gone(&mut self, number: u64) -> Verdict {
        let Some(failover) = &mut self.failover else { return Ok(()) };
        let Some(line) = failover.lines.get_mut(&number) else { return Ok(()) };
        let (which, id, open) = (line.app, line.id, line.client_open);
        line.client_open = false;
        line.dead = true;
        if !line.host_open {
            failover.lines.remove(&number);
        }
        let app = &mut failover.apps[which];
        if !open || app.lines.remove(&id).is_none() {
            return Ok(());
        }
        app.told_gone.insert(id);
        tell!(
            self,
            Told::In(Lane::Failover(which), Kind::Clients),
            "client {which} loses {}",
            id.0
        );
        self.tell_client(which, Input::Closed(id))
    }

    fn forget_line(&mut self, number: u64) {
        if let Some(failover) = &mut self.failover {
            failover.lines.remove(&number);
        }
    }

    /// The host's end is closed; the client learns of it in its own time, or finds out by itself.
    pub(super) fn host_closes(&mut self, number: u64, silent: bool) {
        let late = self.give_up_after();
        let Some(line) = self.failover.as_ref().and_then(|f| f.lines.get(&number)) else { return };
        let (app, host, dead) = (line.app, line.host, line.dead);
        let hears = self.is_open(app, host, false) && !silent;
        let delay = self.line_delay(app, host);
        let Some(failover) = &mut self.failover else { return };
        let abrupt = failover.dice.one_in(4);
        let Some(line) = failover.lines.get_mut(&number) else { return };
        line.host_open = false;
        line.dead |= abrupt || silent;
        line.to_client.clear();
        if dead {
            // Whoever is there learns of it already.
            return;
        }
        let after = self.now + if hears { delay } else { late };
        let at = if line.dead { after } else { after.max(line.horizon[TO_CLIENT]) };
        self.queue.push(at, What::Failover(Happening::Gone(number)));
    }
}
