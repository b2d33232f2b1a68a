//! What follows from an input: each machine does what is due, then what may leave is sent.
//!
//! Most inputs concern copies of shards alone: their log messages, their engines, transactions. All
//! else that a node does, here called what concerns the *cluster*, depends on the configuration log,
//! the document, the links, the requests and the state of its life, and on the time. So it is left
//! out while the node is *calm*: a member that knows a leader, to which none of that has happened
//! since it was last looked at, before the first of those machines is due. Whatever happens to them
//! sets `stirred`; what is left out then would change nothing. A debug build does it all the same,
//! and asserts that nothing came of it.

use std::time::Duration;

use super::persist::LogBatch;
use super::{Node, Output, State};
use crate::ids::LogId;
use crate::time::Time;
use crate::wire::Packet;

impl Node {
    /// After every input: let each machine do what is due, then send what may leave.
    pub(super) fn settle(&mut self) {
        let calm = self.is_calm();
        self.stirred = false;
        if !calm {
            self.tend_cluster();
        } else if cfg!(debug_assertions) {
            self.prove_calm();
        }
        if !self.stopped {
            self.run_shards();
            self.run_imports();
            self.run_copies();
            self.drive_sql();
            self.drive_measuring();
        }
        self.drain_log(calm);
        if !calm || self.stirred {
            self.look_ahead();
        }
        self.due = (!self.stopped).then(|| self.earliest());
        if let Some(reason) = self.stopping.take() {
            self.out.push_back(Output::Stop(reason));
        }
    }

    /// Whether nothing that concerns the cluster has happened or is due.
    pub(super) fn is_calm(&self) -> bool {
        !self.stirred && !self.stopped && self.calm_until.is_some_and(|until| self.now < until)
    }

    /// Until when the machines that concern the cluster can be left alone, if at all.
    fn look_ahead(&mut self) {
        self.cluster_due = self.cluster_due();
        // In any other state, and without a leader, time alone may change what is to be done.
        let settled = self.state == State::Member && self.started && self.cluster_durable;
        let led = self.raft.as_ref().is_some_and(|raft| raft.leader().is_some());
        let told = self.leaderless_since.is_none() && self.told_no_quorum.is_none();
        let stays = self.merge.dissolved.is_none() && !self.duties_have_changed();
        self.calm_until = (settled && led && told && stays).then_some(self.cluster_due);
    }

    /// In a debug build: what is left out would have done nothing.
    fn prove_calm(&mut self) {
        let (outputs, due) = (self.out.len(), self.cluster_due);
        self.tend_cluster();
        assert_eq!(self.out.len(), outputs, "what was left out had something to say");
        assert!(!self.stirred && !self.stopped, "what was left out had something to do");
        assert_eq!(self.cluster_due(), due, "what was left out was due at another time");
    }

    /// Lets everything that concerns the cluster do what is due.
    fn tend_cluster(&mut self) {
        let now = self.now;
        if let Some(raft) = &mut self.raft
            && now >= raft.next_timeout()
        {
            raft.tick(now);
        }
        if self.started && !self.stopped {
            self.run_timers();
        }
        if !self.stopped {
            self.advance();
        }
    }

    fn run_timers(&mut self) {
        let now = self.now;
        if now >= self.next_alive {
            self.next_alive = now + self.alive_interval();
            self.send_alive();
            self.close_silent();
            self.close_old_twins();
            self.watch_split();
            self.follow_dissolutions();
        }
        if now >= self.discovery.next() {
            self.announce();
        }
        if now >= self.next_dial {
            self.next_dial = now + self.config.timings.redial;
            self.dial_missing();
        }
        self.notice_cluster();
        self.maybe_found();
        self.ask_to_join();
    }

    /// Lets the log and its state machine go on until nothing more follows from this input.
    fn advance(&mut self) {
        self.apply_committed();
        if self.stopped {
            return;
        }
        self.watch_office();
        self.notice_return();
        self.coordinate();
        self.drive_requests();
        // What was just proposed may be committed at once by a cluster of one, once durable.
        self.drive_leave();
        if self.stopped {
            return;
        }
        self.notice_removal();
        if self.stopped {
            return;
        }
        self.go_if_dissolved();
        if self.stopped {
            return;
        }
        self.watch_quorum();
        if self.news() {
            self.send_infos();
        }
    }

    /// Hands out what the logs want durable and what they may send. A calm node has asked its
    /// configuration log when something last happened to that, and taken all.
    fn drain_log(&mut self, calm: bool) {
        let ask = !calm || cfg!(debug_assertions);
        let configuration = ask.then(|| self.configuration_batch()).flatten();
        debug_assert!(!calm || configuration.is_none(), "what was left out is to be written");
        let mut batches = Vec::new();
        if let Some(batch) = configuration {
            batches.push(batch);
        }
        self.shard_batches(&mut batches);
        let nothing = batches.is_empty() && self.persist.is_empty();
        if !nothing
            && let Some((id, ops)) = self.persist.take(batches)
            && !self.stopped
        {
            self.out.push_back(Output::Persist { id, ops });
        }
        self.drain_shards();
        if ask {
            let sent = self.send_configuration_messages();
            debug_assert!(!calm || sent == 0, "what was left out is to be sent");
        }
    }

    fn configuration_batch(&mut self) -> Option<LogBatch> {
        let (now, log) = (self.now, LogId::CONFIGURATION);
        let raft = self.raft.as_mut()?;
        raft.flush(now);
        let (ticket, ops) = raft.take_batch(now)?;
        Some(LogBatch { log, ticket, ops })
    }

    /// Returns how many there were.
    fn send_configuration_messages(&mut self) -> usize {
        let mut count = 0;
        let cluster = self.identity.cluster.filter(|_| !self.stopped && self.cluster_durable);
        let Some(cluster) = cluster else { return count };
        while let Some((to, message)) = self.raft.as_mut().and_then(|raft| raft.next_message()) {
            count += 1;
            // Without a usable link it is lost, as on a broken one: Raft sends again.
            if let Some(link) = self.links.usable(to) {
                let log = LogId::CONFIGURATION;
                self.send_packet(link, &Packet::Raft { cluster, log, message });
            }
        }
        count
    }

    /// When the machines that concern the cluster are due.
    fn cluster_due(&self) -> Time {
        let mut due = self.raft.as_ref().map_or(Time(u64::MAX), |raft| raft.next_timeout());
        if self.started {
            due = due.min(self.next_alive).min(self.discovery.next());
            due = due.min(self.next_dial);
            match self.state {
                State::Discovering => {
                    let decision = self.discovery.decision(self.config.timings.found_wait);
                    due = if decision > self.now { due.min(decision) } else { due };
                }
                State::Joining => due = due.min(self.joining.next()),
                State::Leaving => due = due.min(self.leaving.deadline()),
                _ => {}
            }
        }
        let machines = [self.coordinator.next(), self.requests.next(), self.merge.dissolved];
        machines.into_iter().flatten().fold(due, Time::min)
    }

    fn earliest(&self) -> Time {
        let sooner = |due: Time, next: Option<Time>| next.map_or(due, |at| due.min(at));
        let mut due = sooner(self.cluster_due, self.next_import());
        due = sooner(due, self.shards.next());
        due = sooner(due, self.sql.next());
        due = sooner(due, self.restores.next());
        due = sooner(due, self.measuring.next());
        if !self.shards.all.is_empty() {
            due = sooner(due, self.copies.next());
        }
        // Never in the past: a machine that could not act now is looked at again soon.
        due.max(self.now + Duration::from_millis(1))
    }
}
