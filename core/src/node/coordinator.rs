//! What the leader of the configuration log does besides: it sees who is gone and who is back,
//! and makes the membership follow the document.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::{Event, Node, Output, State};
use crate::configuration::{
    Addresses, AutoRemove, ConfigCommand, Configuration, Reach, Registration, RemoveReason, Server,
    ServerStatus, plan,
};
use crate::faults::{self, Fault};
use crate::ids::{ConfigVersion, Index, NodeId, Start, Term};
use crate::raft::{Change, Raft};
use crate::time::Time;

/// What a coordinator remembers while it is in office.
#[derive(Default, Debug)]
pub(super) struct Coordinator {
    /// Since when this node has led, settled, in the present term.
    since: Option<(Term, Time)>,
    /// The last one that was told as an event.
    told: Option<(Option<NodeId>, Term)>,
    /// What it has proposed about a server and not seen applied.
    proposed: BTreeMap<NodeId, Index>,
    /// Since when a server has been away, as this coordinator saw it.
    away: BTreeMap<NodeId, Time>,
    /// Changes that servers asked for by what they say of themselves, and that were refused.
    refused: BTreeSet<(NodeId, String)>,
    next: Time,
    /// Commit index, membership index and configuration version at the last look.
    looked_at: (Index, Index, ConfigVersion),
}

impl Coordinator {
    pub(super) fn next(&self) -> Option<Time> {
        self.since.map(|_| self.next)
    }

    /// Something happened that the duties depend on.
    pub(super) fn look_again(&mut self) {
        self.next = Time::ZERO;
    }

    /// After a pause nobody's absence is counted from before it.
    pub(super) fn absolve(&mut self, now: Time) {
        if let Some((_, since)) = &mut self.since {
            *since = now;
        }
        self.away.clear();
    }
}

impl Node {
    /// Whether this node leads the configuration log and knows all that is committed in it.
    pub(super) fn is_coordinator(&self) -> bool {
        self.raft.as_ref().is_some_and(|raft| {
            raft.is_settled_leader() && !raft.is_transferring() && raft.applied() == raft.commit()
        }) && self.document.is_some()
    }

    /// Whom this node takes for the coordinator, and where that is.
    pub(super) fn known_coordinator(&self) -> Option<(NodeId, SocketAddr)> {
        let node = self.raft.as_ref()?.leader()?;
        if node == self.id() {
            return Some((node, self.config.addresses.node));
        }
        let said = self.links.hello(node).map(|hello| hello.addresses.node);
        let listed = self.document.as_ref().and_then(|d| d.servers.get(&node));
        Some((node, said.or(listed.map(|s| s.addresses.node))?))
    }

    /// Tells of a new coordinator, and begins or ends this node's own office.
    pub(super) fn watch_office(&mut self) {
        let Some(raft) = &self.raft else { return };
        let (leader, term, settled) = (raft.leader(), raft.term(), raft.is_settled_leader());
        if self.coordinator.told != Some((leader, term)) {
            let silent = leader.is_none() && self.coordinator.told.is_none_or(|t| t.0.is_none());
            self.coordinator.told = Some((leader, term));
            if !silent {
                let event = Event::Coordinator { node: leader, term };
                self.out.push_back(Output::Event(event));
            }
            self.requests_retry();
        }
        let in_office = self.coordinator.since.is_some_and(|(since, _)| since == term) && settled;
        if settled && !in_office {
            self.forget_waiters();
            self.coordinator.since = Some((term, self.now));
            self.coordinator.next = self.now;
            self.coordinator.proposed.clear();
            self.coordinator.away.clear();
            self.coordinator.refused.clear();
        } else if !settled && self.coordinator.since.is_some() {
            self.coordinator.since = None;
            self.forget_waiters();
        }
    }

    /// What the duties depend on has changed since they were looked at, by what they did themselves
    /// too.
    pub(super) fn duties_have_changed(&self) -> bool {
        self.is_coordinator() && self.duties_rest_on() != Some(self.coordinator.looked_at)
    }

    fn duties_rest_on(&self) -> Option<(Index, Index, ConfigVersion)> {
        let (raft, document) = self.raft.as_ref().zip(self.document.as_ref())?;
        Some((raft.commit(), raft.membership_index(), document.version))
    }

    fn duties_are_due(&mut self) -> bool {
        let Some(at) = self.duties_rest_on() else { return false };
        let changed = std::mem::replace(&mut self.coordinator.looked_at, at) != at;
        changed || self.now >= self.coordinator.next
    }

    /// The deliberate fault: a node that finds itself alone removes the others by itself.
    fn remove_without_quorum(&mut self) {
        let (limit, me) = (self.config.timings.max_no_heartbeat, self.id());
        let Some(document) = self.document.clone() else { return };
        if self.quorum_lost_for() < limit {
            return;
        }
        for (node, server) in &document.servers {
            let heard = self.detector.last(*node).unwrap_or(Time::ZERO);
            let gone = self.now.since(heard) > limit;
            if gone && *node != me && server.registration == Registration::Dynamic {
                let reason = RemoveReason::Unreachable;
                let _ = self.apply_command(&ConfigCommand::Remove { node: *node, reason });
            }
        }
    }

    /// The coordinator's duties. Cheap when there is nothing to do.
    pub(super) fn coordinate(&mut self) {
        if faults::active(Fault::RemovalWithoutQuorum) {
            self.remove_without_quorum();
        }
        if !self.is_coordinator() || !self.duties_are_due() {
            return;
        }
        let now = self.now;
        self.coordinator.next = now + self.config.timings.heartbeat;
        let applied = self.raft.as_ref().map(|raft| raft.applied()).unwrap_or_default();
        self.coordinator.proposed.retain(|_, index| *index > applied);
        let Some(document) = self.document.clone() else { return };
        if self.state == State::Returning && document.servers.contains_key(&self.id()) {
            // Nobody else is needed to say so.
            self.set_state(State::Member);
        }
        for (node, server) in &document.servers {
            if *node != self.id() {
                self.look_after(*node, server, &document);
            } else {
                self.look_after_myself(server);
            }
        }
        self.follow_plan();
        self.release_leavers();
        self.drive_merge();
        self.drive_bringing();
    }

    fn follow_plan(&mut self) {
        let Some(change) = self.planned_change() else { return };
        let now = self.now;
        if let Some(raft) = &mut self.raft {
            // Refused while another change is under way; planned again then.
            let _ = raft.change(now, change);
        }
    }

    pub(super) fn planned_change(&self) -> Option<Change> {
        let (raft, document) = (self.raft.as_ref()?, self.document.as_ref()?);
        let here = |node: NodeId| self.counts_on(raft, document, node);
        let caught_up = |node: NodeId| raft.is_caught_up(self.now, node);
        plan(document, raft.membership(), &Reach { reachable: &here, caught_up: &caught_up })
    }

    /// Whether a log that this node leads can be planned with `node`: it answers, is not recorded as
    /// away, and stays.
    pub(super) fn counts_on(&self, raft: &Raft, document: &Configuration, node: NodeId) -> bool {
        let listed = document.servers.get(&node);
        node == self.id()
            || raft.is_active(self.now, node)
                && listed.is_none_or(|s| s.status == ServerStatus::Online)
                && !self.peer_is_leaving(node)
    }

    pub(super) fn peer_is_leaving(&self, node: NodeId) -> bool {
        if node == self.id() {
            return self.state == State::Leaving;
        }
        self.requests.is_leaving(node) || self.links.info(node).is_some_and(|info| info.leaving)
    }

    /// One server: gone, back, moved or renamed?
    fn look_after(&mut self, node: NodeId, server: &Server, document: &Configuration) {
        if self.coordinator.proposed.contains_key(&node) {
            return;
        }
        let (now, limit) = (self.now, self.config.timings.max_no_heartbeat);
        let Some((_, since)) = self.coordinator.since else { return };
        let voters = self.raft.as_ref().map(|r| r.membership().voters()).unwrap_or_default();
        let reporters = voters.into_iter().filter(|v| *v != node);
        let heard = self.detector.last_by_any(node, reporters);
        let silent = now.since(heard.unwrap_or(Time::ZERO).max(since)) > limit;
        if !silent {
            self.coordinator.away.remove(&node);
            self.bring_back(node, server);
            return;
        }
        let gone_since = *self.coordinator.away.entry(node).or_insert(now);
        let away = ConfigCommand::SetStatus {
            node,
            status: ServerStatus::Away,
            addresses: None,
            start: None,
        };
        let remove = ConfigCommand::Remove { node, reason: RemoveReason::Unreachable };
        let online = server.status == ServerStatus::Online;
        let due = match (server.registration, document.defaults.auto_remove) {
            (Registration::Dynamic, AutoRemove::AtOnce) => true,
            (Registration::Dynamic, AutoRemove::AfterMs(ms)) => {
                now.since(gone_since).as_millis() >= u128::from(ms) && !online
            }
            _ => false,
        };
        let command = match due && document.may_go(node) {
            true => Some(remove),
            false => online.then_some(away),
        };
        if let Some(command) = command {
            self.propose_about(node, &command);
        }
    }

    fn propose_about(&mut self, node: NodeId, command: &ConfigCommand) {
        let mut trial = self.document.as_deref().cloned();
        if crate::configuration::apply(&mut trial, command).is_err() {
            return;
        }
        if let Some((index, _)) = self.propose(command) {
            self.coordinator.proposed.insert(node, index);
        }
    }

    /// A server that is there and is not recorded so, or under another name or address.
    fn bring_back(&mut self, node: NodeId, server: &Server) {
        let linked = self.links.hello(node).is_some() && !self.peer_is_leaving(node);
        let active = self.raft.as_ref().is_some_and(|raft| raft.is_active(self.now, node));
        if !linked || !active {
            return;
        }
        let Some(hello) = self.links.hello(node) else { return };
        let (name, addresses, start) = (hello.name.clone(), hello.addresses, hello.start);
        self.correct(node, server, name, (addresses, start));
    }

    fn look_after_myself(&mut self, server: &Server) {
        let me = self.id();
        if self.state == State::Leaving || self.coordinator.proposed.contains_key(&me) {
            return;
        }
        self.correct(me, server, self.name(), (self.config.addresses, self.start));
    }

    fn correct(
        &mut self,
        node: NodeId,
        server: &Server,
        name: String,
        (addresses, start): (Addresses, Start),
    ) {
        let start = Some(start);
        let renamed = server.name != name;
        if renamed && !self.coordinator.refused.contains(&(node, name.clone())) {
            let join = ConfigCommand::Join {
                node,
                name: name.clone(),
                addresses,
                start,
                dissolved_from: None,
                brings: None,
            };
            let mut trial = self.document.as_deref().cloned();
            if crate::configuration::apply(&mut trial, &join).is_ok() {
                self.propose_about(node, &join);
                return;
            }
            // The new name is taken: it stays under the old one.
            self.coordinator.refused.insert((node, name));
        }
        let unnoted = server.start.is_none_or(|s| start.is_some_and(|is| is.number > s.number));
        if server.status == ServerStatus::Away || server.addresses != addresses || unnoted {
            let status = ServerStatus::Online;
            let back = ConfigCommand::SetStatus { node, status, addresses: Some(addresses), start };
            self.propose_about(node, &back);
        }
    }
}
