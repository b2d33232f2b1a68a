//! Whom a client is connected to, and whom it asks.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::api::{ConnectionId, Event, Output, Strategy, ToServer};
use super::{Client, backoff};
use crate::copies::CopyReport;
use crate::ids::{LogId, NodeId};
use crate::marks::sometimes;
use crate::time::Time;

/// Connections that may be on their way at one time.
const DIALING_MAX: usize = 3;

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    address: SocketAddr,
    /// Whom it leads to, once that has said so.
    pub(super) node: Option<NodeId>,
    began: Time,
    heard: Time,
    next_ping: Time,
    /// What it was asked last it could not do, though another may: here, or over the connection before.
    unfit: bool,
    /// When it was last asked, as a count.
    asked: u64,
    /// The copies that are not whole, as it has told.
    copies: Vec<(LogId, NodeId, CopyReport)>,
}

/// What is known of an address.
#[derive(Debug, Default)]
struct Target {
    /// Not dialled before this.
    not_before: Time,
    /// How often in a row it led nowhere.
    failures: u32,
    /// When it was last dialled, as a count: who waits longest is the next in turn.
    turn: u64,
    /// It has said that no server wants this client, and why, and has not let it in since.
    refuses: Option<String>,
    /// It is there, and what it was asked last it could not do.
    unfit: bool,
}

/// Servers and connections to them.
#[derive(Debug, Default)]
pub(super) struct Servers {
    pub(super) all: BTreeMap<ConnectionId, Connection>,
    targets: BTreeMap<SocketAddr, Target>,
    last: u64,
    turns: u64,
    /// How often one was chosen to be asked.
    asks: u64,
    next_dial: Time,
    /// The one in use.
    using: Option<ConnectionId>,
    /// The one that was last asked, where all are asked in turn.
    asked: ConnectionId,
    /// A server has let this client in before.
    let_in: bool,
    /// Since when all that are known refuse.
    refused_since: Option<Time>,
}

impl Servers {
    /// How many addresses something is remembered of.
    pub(super) fn addresses(&self) -> usize {
        self.targets.len()
    }
}

impl Client {
    /// The connection for the next request; not `but`, if there is another.
    pub(super) fn choose(&mut self, but: Option<ConnectionId>) -> Option<ConnectionId> {
        let chosen = self.next_to_ask(but)?;
        self.servers.asks += 1;
        if let Some(connection) = self.servers.all.get_mut(&chosen) {
            connection.asked = self.servers.asks;
        }
        Some(chosen)
    }

    fn next_to_ask(&mut self, but: Option<ConnectionId>) -> Option<ConnectionId> {
        let servers = &self.servers;
        let ready = |(id, c): (&ConnectionId, &Connection)| c.node.is_some().then_some(*id);
        let mut open: Vec<ConnectionId> = servers.all.iter().filter_map(ready).collect();
        if open.iter().any(|id| !servers.all[id].unfit) {
            open.retain(|id| !servers.all[id].unfit);
        } else if self.config.strategy != Strategy::RoundRobinRequest {
            // None could do what it was asked last: one after the other is asked again.
            return open.into_iter().min_by_key(|id| servers.all[id].asked);
        }
        if open.len() > 1 {
            open.retain(|id| Some(*id) != but);
        }
        if self.config.strategy != Strategy::RoundRobinRequest {
            return servers.using.filter(|id| open.contains(id)).or(open.first().copied());
        }
        let near: Vec<ConnectionId> =
            open.iter().copied().filter(|id| self.is_near(servers.all[id].address)).collect();
        let among = if near.is_empty() { open } else { near };
        let next = among.iter().find(|id| **id > servers.asked).or(among.first()).copied();
        self.servers.asked = next.unwrap_or_default();
        next
    }

    /// Whether a server is in the client's data centre, or the client in none.
    fn is_near(&self, address: SocketAddr) -> bool {
        let Some(own) = &self.config.data_center else { return true };
        let known = self.layout.servers.iter().find(|server| server.address == Some(address));
        known.is_some_and(|server| server.data_centers.contains(own))
    }

    /// Keeps as many connections as the strategy wants, and watches over them.
    pub(super) fn tend_connections(&mut self) {
        let now = self.now;
        let silent = |c: &&Connection| now.since(c.heard.max(c.began)) >= self.config.silence;
        let gone: Vec<ConnectionId> =
            self.servers.all.iter().filter(|(_, c)| silent(c)).map(|(id, _)| *id).collect();
        for id in gone {
            self.out.push_back(Output::Close(id));
            self.lost(id);
        }
        for (id, connection) in &mut self.servers.all {
            if connection.node.is_some() && now >= connection.next_ping {
                connection.next_ping = now + self.config.ping;
                self.out.push_back(Output::Send(*id, ToServer::Ping(now.as_millis())));
            }
        }
        self.dial();
        self.use_one();
    }

    /// Whether there is a server that can do what it is asked.
    fn is_open(&self) -> bool {
        self.servers.all.values().any(|connection| connection.node.is_some() && !connection.unfit)
    }

    /// Whether a server could do what it was asked. One that could not stays in use until there is
    /// another.
    pub(super) fn fit(&mut self, id: ConnectionId, is: bool) {
        if let Some(connection) = self.servers.all.get_mut(&id) {
            connection.unfit = !is;
            self.servers.targets.entry(connection.address).or_default().unfit = !is;
        }
    }

    /// Dials whoever comes next, if one more is wanted.
    fn dial(&mut self) {
        let now = self.now;
        let all = self.config.strategy == Strategy::RoundRobinRequest;
        let open = self.is_open();
        let dialing = self.servers.all.values().filter(|c| c.node.is_none()).count();
        // One after the other, not all at once: the first that answers is used.
        let wanted = if open { all && dialing == 0 } else { dialing < DIALING_MAX };
        if self.refused.is_some() || !wanted || (now < self.servers.next_dial && dialing > 0) {
            return;
        }
        let Some(address) = self.next_address(open) else { return };
        self.servers.last += 1;
        self.servers.turns += 1;
        let id = ConnectionId(self.servers.last);
        let target = self.servers.targets.entry(address).or_default();
        target.turn = self.servers.turns;
        let (node, began, heard, next_ping) = (None, now, now, now + self.config.ping);
        let (unfit, asked, copies) = (target.unfit, 0, Vec::new());
        let connection =
            Connection { address, node, began, heard, next_ping, unfit, asked, copies };
        self.servers.all.insert(id, connection);
        self.servers.next_dial = now + self.config.stagger;
        self.out.push_back(Output::Dial(id, address));
    }

    /// Whom to dial next: those that are near first, of them whoever waits longest, and before all others
    /// whoever was passed over for long. Once one is open only those of the layout count, and only near
    /// ones if there are any.
    fn next_address(&mut self, open: bool) -> Option<SocketAddr> {
        let now = self.now;
        let listed = self.layout.servers.iter().filter_map(|server| server.address);
        let mut addresses: Vec<SocketAddr> = listed.collect();
        if !open {
            addresses.extend(&self.config.seeds);
        } else if addresses.iter().any(|address| self.is_near(*address)) {
            addresses.retain(|address| self.is_near(*address));
        }
        addresses.sort_unstable();
        addresses.dedup();
        // What is known of servers may be old: the ones that should be there may all be gone, and come up
        // for their turn again and again.
        let patience = 2 * addresses.len() as u64;
        let held: Vec<SocketAddr> = self.servers.all.values().map(|c| c.address).collect();
        addresses.retain(|address| !held.contains(address));
        let targets = &self.servers.targets;
        let target = |address: &SocketAddr| targets.get(address);
        addresses.retain(|address| target(address).is_none_or(|t| now >= t.not_before));
        let rank = |address: &SocketAddr| {
            let failures = target(address).map_or(0, |t| t.failures);
            let turn = target(address).map_or(0, |t| t.turn);
            if self.servers.turns.saturating_sub(turn) > patience {
                return (false, false, false, false, false, turn);
            }
            let online =
                self.layout.servers.iter().all(|s| s.address != Some(*address) || s.is_online);
            // One that can do nothing comes after all others, those that were not there included: else
            // two of them would keep the client to themselves.
            let unfit = target(address).is_some_and(|t| t.unfit);
            (true, unfit, !self.is_near(*address), !online, failures > 0, turn)
        };
        let best = addresses.iter().map(&rank).min()?;
        let among: Vec<SocketAddr> =
            addresses.iter().copied().filter(|address| rank(address) == best).collect();
        // Clients that begin together do not all begin at the same server.
        let which = self.below(among.len());
        among.get(which).copied()
    }

    /// A server has sent something.
    pub(super) fn heard(&mut self, id: ConnectionId) -> bool {
        let now = self.now;
        let Some(connection) = self.servers.all.get_mut(&id) else { return false };
        connection.heard = now;
        true
    }

    /// A server has said who it is.
    pub(super) fn welcomed(&mut self, id: ConnectionId, node: NodeId) {
        let Some(connection) = self.servers.all.get_mut(&id) else { return };
        connection.node = Some(node);
        (self.servers.let_in, self.servers.refused_since) = (true, None);
        let target = self.servers.targets.entry(connection.address).or_default();
        (target.failures, target.refuses) = (0, None);
        let fit = |using: ConnectionId| self.servers.all.get(&using).is_some_and(|c| !c.unfit);
        let spare = self.config.strategy != Strategy::RoundRobinRequest
            && self.servers.using.is_some_and(|using| using != id && fit(using));
        if spare {
            self.out.push_back(Output::Close(id));
            self.servers.all.remove(&id);
        }
    }

    /// A server does not want this client. One that has just started may not know its user yet: it is
    /// the last word when all that are known say so, and to a client that was let in before, when they
    /// go on saying so.
    pub(super) fn refused_by(&mut self, id: ConnectionId, reason: String, final_: bool) {
        let Some(address) = self.servers.all.get(&id).map(|connection| connection.address) else {
            return;
        };
        let before = self.servers.targets.get(&address).and_then(|target| target.refuses.clone());
        self.out.push_back(Output::Close(id));
        self.lost(id);
        // Whoever was refused for good, and asks again and again, is told to ask less often: that takes
        // nothing back.
        let for_good = if final_ { Some(reason.clone()) } else { before };
        let reason = for_good.clone().unwrap_or(reason);
        self.servers.targets.entry(address).or_default().refuses = for_good;
        let final_ = self.servers.targets[&address].refuses.is_some() && self.all_refuse();
        if final_ {
            sometimes!(RefusedByAll);
            self.refused = Some(reason.clone());
            self.refuse_all(&reason);
        }
        self.out.push_back(Output::Event(Event::Refused { reason, final_ }));
    }

    /// Whether none of the known servers wants this client. Where no one ever has, those count that
    /// lead nowhere.
    fn all_refuse(&mut self) -> bool {
        let let_in = self.servers.let_in;
        let refuses = |address: &SocketAddr| {
            let target = self.servers.targets.get(address);
            target.is_some_and(|t| t.refuses.is_some() || (!let_in && t.failures > 0))
        };
        let listed = self.layout.servers.iter().filter_map(|server| server.address.as_ref());
        if !listed.chain(&self.config.seeds).all(refuses) {
            self.servers.refused_since = None;
            return false;
        }
        let since = *self.servers.refused_since.get_or_insert(self.now);
        !let_in || self.now.since(since) >= self.config.attempt()
    }

    /// Uses one of those that are open.
    fn use_one(&mut self) {
        let all = &self.servers.all;
        let held = self.servers.using.filter(|using| all.contains_key(using));
        let fit = |id: &ConnectionId| all[id].node.is_some() && !all[id].unfit;
        let open = || all.iter().find(|(_, c)| c.node.is_some()).map(|(id, _)| *id);
        let better = || all.keys().copied().find(fit);
        let using = held.filter(fit).or_else(better).or(held).or_else(open);
        if using != self.servers.using {
            self.servers.using = using;
            self.switched();
            let node = using.and_then(|id| self.servers.all[&id].node);
            self.out.push_back(Output::Event(Event::Using(node)));
            self.tell_of_copies();
        }
        self.end_others();
    }

    /// Ends what is not needed beside the one in use. Beside one that can do nothing, as far as is
    /// known, another is wanted: one that is slow to answer would else never be heard.
    fn end_others(&mut self) {
        let using = self.servers.using.filter(|id| !self.servers.all[id].unfit);
        if using.is_none() || self.config.strategy == Strategy::RoundRobinRequest {
            return;
        }
        let others = self.servers.all.keys().copied().filter(|id| Some(*id) != using);
        let others: Vec<ConnectionId> = others.collect();
        for id in others {
            self.out.push_back(Output::Close(id));
            self.servers.all.remove(&id);
            // What is still on its way there is asked again here.
            self.requests_lost(id);
        }
    }

    /// A server has told which copies are not whole.
    pub(super) fn told_of_copies(
        &mut self,
        id: ConnectionId,
        copies: Vec<(LogId, NodeId, CopyReport)>,
    ) {
        if let Some(connection) = self.servers.all.get_mut(&id) {
            connection.copies = copies;
        }
        self.tell_of_copies();
    }

    /// What the server in use knows of copies is told, if it is something else. Without one that stays.
    fn tell_of_copies(&mut self) {
        let using = self.servers.using.and_then(|id| self.servers.all.get(&id));
        let Some(connection) = using.filter(|connection| connection.copies != self.copies) else {
            return;
        };
        self.copies.clone_from(&connection.copies);
        self.out.push_back(Output::Event(Event::Copies(self.copies.clone())));
    }

    /// A connection leads nowhere any more.
    pub(super) fn lost(&mut self, id: ConnectionId) {
        let Some(connection) = self.servers.all.remove(&id) else { return };
        let retry = (self.config.retry, self.config.retry_max);
        let target = self.servers.targets.entry(connection.address).or_default();
        target.failures = target.failures.saturating_add(1);
        target.refuses = None;
        let wait = backoff(retry, target.failures, &mut self.rng);
        target.not_before = self.now + wait;
        self.servers.next_dial = self.now;
        self.requests_lost(id);
        self.use_one();
    }

    /// When connections want to be looked after.
    pub(super) fn connections_due(&self) -> Option<Time> {
        let silence = self.config.silence;
        let each = self.servers.all.values().map(|connection| {
            let silent = connection.heard.max(connection.began) + silence;
            if connection.node.is_some() { silent.min(connection.next_ping) } else { silent }
        });
        let wants = self.refused.is_none()
            && (!self.is_open() || self.config.strategy == Strategy::RoundRobinRequest);
        let dialing = self.servers.all.values().any(|c| c.node.is_none());
        // Whoever may be dialled again, and that nobody has answered yet.
        let again = self.servers.targets.values().map(|target| target.not_before);
        let again = again.filter(|at| *at > self.now).min();
        let next = (dialing && !self.is_open()).then_some(self.servers.next_dial);
        let dial = next.filter(|at| *at > self.now).into_iter().chain(again).min();
        each.chain(dial.filter(|_| wants)).min()
    }
}
