//! Stopping in good order.

use super::{Node, Reply, State, StopReason};
use crate::configuration::Registration;
use crate::ids::{CommandId, NodeId};
use crate::time::Time;

/// A stop that is under way.
#[derive(Default, Debug)]
pub(super) struct Leaving {
    commands: Vec<CommandId>,
    deadline: Time,
    asked: bool,
}

impl Leaving {
    pub(super) fn deadline(&self) -> Time {
        self.deadline
    }
}

impl Node {
    pub(super) fn leave(&mut self, command: Option<CommandId>) {
        self.leaving.commands.extend(command);
        let in_cluster = matches!(self.state, State::Member | State::Returning);
        if self.state == State::Leaving {
            return;
        }
        self.leaving.deadline = self.now + self.config.timings.leave;
        self.set_state(State::Leaving);
        self.on_peer_leaving();
        let alone =
            self.document.as_ref().is_none_or(|d| d.servers.keys().all(|node| *node == self.id()));
        if !in_cluster || alone {
            self.finish_leaving(StopReason::Left);
        }
    }

    /// Hands over, takes leave, and goes at the deadline at the latest.
    pub(super) fn drive_leave(&mut self) {
        if self.state != State::Leaving {
            return;
        }
        let now = self.now;
        if now >= self.leaving.deadline {
            self.finish_leaving(StopReason::LeftUnheard);
            return;
        }
        let hopeless = self.quorum_lost_for() >= self.config.timings.election_max * 3;
        if hopeless {
            self.finish_leaving(StopReason::LeftUnheard);
            return;
        }
        if !self.leaving.asked && self.hand_over_shards() {
            return;
        }
        let successor = self.successor();
        let Some(raft) = &mut self.raft else {
            self.finish_leaving(StopReason::Left);
            return;
        };
        if let Some(successor) = successor.filter(|_| raft.is_leader()) {
            // Whoever leads next sees this node off.
            if !raft.is_transferring() {
                let _ = raft.transfer(now, successor);
            }
            return;
        }
        if !self.leaving.asked {
            self.leaving.asked = true;
            self.begin_leave();
        }
    }

    /// A dynamic server that leads while others leave with it goes last. Were it to take itself out
    /// first, it would leave the cluster to servers that are about to stop.
    pub(super) fn sees_others_off(&self) -> bool {
        let (Some(raft), Some(document)) = (&self.raft, &self.document) else { return false };
        let mine = document.servers.get(&self.id()).map(|server| server.registration);
        let mut others = raft.membership().voters().into_iter().filter(|v| *v != self.id());
        raft.is_leader()
            && mine == Some(Registration::Dynamic)
            && others.any(|v| self.peer_is_leaving(v) && raft.is_active(self.now, v))
    }

    /// Who is to lead next: the voter that holds most of those that are there and stay. With none,
    /// a leader takes leave of itself.
    fn successor(&self) -> Option<NodeId> {
        let raft = self.raft.as_ref()?;
        raft.best_successor(self.now, |voter| !self.peer_is_leaving(voter))
    }

    /// The coordinator's answer to the leave.
    pub(super) fn on_left(&mut self, done: bool) {
        let reason = if done { StopReason::Left } else { StopReason::LeftUnheard };
        self.finish_leaving(reason);
    }

    fn finish_leaving(&mut self, reason: StopReason) {
        let version = self.document.as_ref().map(|d| d.version).unwrap_or_default();
        for id in std::mem::take(&mut self.leaving.commands) {
            self.reply(id, Reply::Done { version });
        }
        self.stop(reason);
    }
}
