//! Asking to be let in.

use std::collections::BTreeSet;

use super::persist::Then;
use super::{Event, Node, Output, State};
use crate::configuration::{self, ConfigCommand, Rejection};
use crate::ids::{ClusterId, ConfigVersion, LinkId, LogId, NodeId};
use crate::storage::{RecoveredLog, StorageOp};
use crate::time::Time;
use crate::wire::{Info, Packet, Request, Response};

/// What a node that wants in knows.
#[derive(Default, Debug)]
pub(super) struct Joining {
    /// The request that is out: its id, the link it went over, and when.
    asked: Option<(u64, LinkId, Time)>,
    /// The cluster that was asked last.
    asked_of: Option<ClusterId>,
    /// Clusters that have refused this node since it last went through all of them.
    refused_by: BTreeSet<ClusterId>,
    /// Not again before.
    next: Time,
    /// How often in a row nobody could say who coordinates.
    unled: u32,
    pub refused: Option<Rejection>,
    /// The version of the configuration that had it in: who knows only less cannot say it is out.
    pub since: ConfigVersion,
    /// The version that did not have it in: an earlier one that did is history.
    pub out_at: ConfigVersion,
}

impl Joining {
    pub(super) fn next(&self) -> Time {
        self.next
    }

    pub(super) fn link_down(&mut self, now: Time, link: LinkId) {
        if self.asked.is_some_and(|(_, over, _)| over == link) {
            self.asked = None;
            self.next = now;
        }
    }
}

impl Node {
    /// What peers say of themselves decides whether there is a cluster to join or to return to.
    pub(super) fn on_info(&mut self, info: &Info) {
        match self.state {
            State::Joining if info.coordinator.is_some() && self.joining.asked.is_none() => {
                self.joining.next = self.now;
            }
            State::Returning | State::Member if info.cluster == self.identity.cluster => {
                self.on_info_of_own_cluster(info);
            }
            _ => {}
        }
    }

    /// There is a cluster to join as long as a peer says so. Looked at again and again, for of two
    /// links to one peer the one that is about to be closed may hide what came over the other.
    pub(super) fn notice_cluster(&mut self) {
        if self.state != State::Discovering {
            return;
        }
        let peers = self.links.peers();
        if peers.values().any(|(_, info)| info.cluster.is_some() && !info.damaged) {
            self.set_state(State::Joining);
            self.joining.next = self.now;
        }
    }

    fn on_info_of_own_cluster(&mut self, info: &Info) {
        let held = self.document.as_ref().map(|d| d.version).unwrap_or_default();
        let held = held.max(self.joining.since);
        if info.cluster.is_none() || info.version == ConfigVersion::ZERO {
            return;
        }
        // Of two that know the same version, both know who is in it.
        let out = !info.you_are_member && info.version >= held;
        let by_operator = info.you_were_removed && self.state == State::Member;
        if out && by_operator {
            // Its vote may be needed until the membership has followed.
            if info.released {
                self.stop(super::StopReason::Removed);
            }
        } else if out {
            self.knock_again(info.version);
        }
    }

    /// A configuration of this version does not have this node in it: it asks to be let in again.
    pub(super) fn knock_again(&mut self, version: ConfigVersion) {
        self.joining.out_at = self.joining.out_at.max(version);
        self.joining.next = self.now;
        self.set_state(State::Joining);
    }

    /// Back for good once the one that leads says so: others may not know yet that this node was
    /// taken out while it was down.
    pub(super) fn notice_return(&mut self) {
        if self.state != State::Returning {
            return;
        }
        let leader = self.raft.as_ref().and_then(|raft| raft.leader());
        let info = leader.and_then(|leader| self.links.info(leader));
        if info.is_some_and(|i| i.you_are_member && i.cluster == self.identity.cluster) {
            self.set_state(State::Member);
        }
    }

    /// Asks the coordinator of the cluster that was found, or finds out who that is.
    pub(super) fn ask_to_join(&mut self) {
        let (now, retry) = (self.now, self.config.timings.retry);
        if self.state != State::Joining || now < self.joining.next {
            return;
        }
        if self.is_coordinator() {
            self.joining.next = now + retry;
            self.let_myself_in();
            return;
        }
        if self.joining.asked.is_some_and(|(_, _, at)| now.since(at) < retry * 4) {
            self.joining.next = now + retry;
            return;
        }
        let Some((link, cluster)) = self.whom_to_ask() else {
            self.joining.next = now + retry;
            if self.identity.cluster.is_none() && self.nobody_to_join() {
                self.set_state(State::Discovering);
                self.discovery.begin(now);
            }
            return;
        };
        let id = self.next_request();
        let request = Request::Join {
            name: self.name(),
            addresses: self.config.addresses,
            dissolved_from: self.identity.dissolved_from,
            brings: self.identity.brings,
        };
        self.joining.asked = Some((id, link, now));
        self.joining.asked_of = Some(cluster);
        self.joining.next = now + retry;
        self.send_packet(link, &Packet::Request { id, request });
    }

    /// A voter that the document does not list any more may still be elected: as the coordinator it
    /// has nobody else to ask.
    fn let_myself_in(&mut self) {
        let command = ConfigCommand::Join {
            node: self.id(),
            name: self.name(),
            addresses: self.config.addresses,
            start: Some(self.start),
            dissolved_from: None,
            brings: None,
        };
        let mut trial = self.document.as_deref().cloned();
        match configuration::apply(&mut trial, &command) {
            Ok(_) => {
                let _ = self.propose(&command);
            }
            Err(rejection) => self.tell_refusal(&rejection),
        }
    }

    fn tell_refusal(&mut self, rejection: &Rejection) {
        if self.joining.refused.as_ref() != Some(rejection) {
            self.joining.refused = Some(rejection.clone());
            self.out.push_back(Output::Event(Event::JoinRefused(rejection.clone())));
        }
    }

    fn wants_to_join(&self, cluster: Option<ClusterId>) -> bool {
        match self.identity.cluster {
            Some(own) => cluster == Some(own),
            None => cluster.is_some(),
        }
    }

    fn nobody_to_join(&self) -> bool {
        !self.links.peers().values().any(|(_, info)| self.wants_to_join(info.cluster))
    }

    /// The link to the coordinator, as far as peers say who that is, else to any member; and of which
    /// cluster.
    fn whom_to_ask(&self) -> Option<(LinkId, ClusterId)> {
        let peers = self.links.peers();
        let members = || peers.iter().filter(|(_, (_, info))| self.wants_to_join(info.cluster));
        // Of several clusters one that can let somebody in, in turn if they refuse; then the one that
        // lists this node already, for it waits for it; then the smallest id, so that nodes started
        // together do not spread.
        let rank = |info: &Info| {
            let cluster = info.cluster?;
            let refused = self.joining.refused_by.contains(&cluster);
            Some((info.coordinator.is_none(), refused, !info.you_are_member, cluster))
        };
        let (.., cluster) = members().filter_map(|(_, (_, info))| rank(info)).min()?;
        let of_it = || members().filter(|(_, (_, info))| info.cluster == Some(cluster));
        let coordinator = of_it()
            .filter_map(|(_, (_, info))| Some((info.version, info.coordinator?.0)))
            .max()
            .and_then(|(_, node)| Some(peers.get(&node)?.0));
        // Asking a member that is not the coordinator tells at least who is.
        let link = coordinator.or_else(|| of_it().map(|(_, (link, _))| *link).next())?;
        Some((link, cluster))
    }

    /// The cluster that was asked has refused: the others first, until all have.
    fn note_refusal(&mut self) {
        self.joining.refused_by.extend(self.joining.asked_of);
        let peers = self.links.peers();
        let mut open = peers.values().filter_map(|(_, info)| info.cluster.zip(info.coordinator));
        if open.all(|(cluster, _)| self.joining.refused_by.contains(&cluster)) {
            self.joining.refused_by.clear();
        }
    }

    /// The answer to a request to join. Returns whether `id` was one.
    pub(super) fn on_join_response(&mut self, from: NodeId, id: u64, response: &Response) -> bool {
        if self.joining.asked.is_none_or(|(asked, _, _)| asked != id) {
            return false;
        }
        self.joining.asked = None;
        let retry = self.config.timings.retry;
        self.joining.next = self.now + retry;
        let unled = std::mem::take(&mut self.joining.unled);
        match response {
            Response::Done { cluster, version } if self.state == State::Joining => {
                self.on_let_in(*cluster, *version);
            }
            Response::Done { .. } => {}
            Response::NotCoordinator { coordinator } => {
                // An office is taken up within a few writes: look again soon, then less often.
                let soon = retry / 10 * (1 << unled.min(4));
                self.joining.next = self.now + soon.min(retry);
                self.joining.unled = unled.saturating_add(1);
                if let Some((node, addr)) = coordinator.filter(|(node, _)| *node != from) {
                    self.want(addr, Some(node));
                    if self.links.usable(node).is_some() {
                        self.joining.next = self.now;
                    }
                }
            }
            Response::Refused(rejection) => {
                self.note_refusal();
                self.tell_refusal(rejection);
            }
            Response::Unknown => self.joining.next = self.now,
        }
        true
    }

    fn on_let_in(&mut self, cluster: ClusterId, version: ConfigVersion) {
        self.joining.refused = None;
        self.joining.refused_by.clear();
        self.joining.since = version;
        if self.identity.cluster == Some(cluster) {
            self.set_state(State::Member);
            return;
        }
        if self.identity.cluster.is_some() {
            return; // Not the cluster that was asked for.
        }
        self.identity.cluster = Some(cluster);
        self.identity.name = Some(self.name());
        self.identity.brings = None;
        // A founding that a crash cut short may have left its entries. Read back under the identity
        // of this cluster, they would make the node a leader by itself.
        self.persist.push(StorageOp::DropLog { log: LogId::CONFIGURATION }, None);
        self.persist.push(StorageOp::Identity(self.identity.clone()), Some(Then::Joined));
        // The log is there at once, so that nothing the coordinator sends is missed; what it says
        // itself waits for the identity to be durable.
        self.open_log(RecoveredLog::default());
        self.set_state(State::Member);
    }
}
