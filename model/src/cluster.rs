//! A world as a model: from each state, what may happen, and what comes of it.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use quorate_core::raft::{
    Body, Content, Entry, Index, Lapse, NodeId, Payload, Raft, Settings, Term,
};
use quorate_core::{Limits, Recovered};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng as _;
use stateright::{Model, Property};

use crate::history::{Committed, History};
use crate::idle::Idle;
use crate::laws::{Broken, Law, Mark, Marks, state_law};
use crate::network::{Letter, Network};
use crate::state::{Host, LOG, State, digest};
use crate::steps::{Doing, NOW, founded};
use crate::world::World;

/// One thing that may happen.
#[derive(Clone, PartialEq, Debug)]
pub enum Step {
    /// A letter arrives; with `late`, when the lease of the leader that the receiver follows is over.
    Deliver {
        /// Which.
        letter: Arc<Letter>,
        /// Whether that long after the leader was heard.
        late: bool,
    },
    /// The oldest write of a node becomes durable.
    Sync(NodeId),
    /// An election time-out.
    Timeout(NodeId),
    /// A leader's heartbeats are due.
    Heartbeat(NodeId),
    /// A leader has heard of nobody for long.
    Silence(NodeId),
    /// A leader has waited long enough for its successor.
    GiveUpTransfer(NodeId),
    /// A client proposes an entry to a leader.
    Propose(NodeId),
    /// A leader is told to change the membership.
    Change(NodeId),
    /// A leader is told to hand over.
    Transfer(NodeId, NodeId),
    /// A process dies and starts again. Of its operations under way so many are on the disk.
    Crash(NodeId, usize),
}

impl Step {
    /// Whose replica it is about.
    #[must_use]
    pub fn node(&self) -> NodeId {
        match self {
            Self::Deliver { letter, .. } => letter.to,
            Self::Sync(node)
            | Self::Timeout(node)
            | Self::Heartbeat(node)
            | Self::Silence(node)
            | Self::GiveUpTransfer(node)
            | Self::Propose(node)
            | Self::Change(node)
            | Self::Transfer(node, _)
            | Self::Crash(node, _) => *node,
        }
    }
}

/// A world whose states can be searched.
#[derive(Debug)]
pub struct Cluster {
    world: World,
    pub(crate) marks: Marks,
    /// The laws of which it was told that they are broken: once each, so that the path to the first
    /// time, which is the shortest, is the one that is kept.
    told: [AtomicBool; Law::ALL.len()],
    /// Whether disks say that a write is durable and forget it in a crash: an adapter's fault.
    lying_disks: bool,
    idle: Idle,
}

impl Cluster {
    /// The states of `world`.
    #[must_use]
    pub fn new(world: &World) -> Self {
        let (marks, told) = (Marks::default(), Default::default());
        Self { world: world.clone(), marks, told, lying_disks: false, idle: Idle::default() }
    }

    /// The same with disks that lose in a crash what they said was durable. No log survives that: a
    /// check that finds nothing here finds nothing.
    #[must_use]
    pub fn with_lying_disks(world: &World) -> Self {
        Self { lying_disks: true, ..Self::new(world) }
    }

    /// The world.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.world
    }

    /// What of the world's marks was not reached.
    #[must_use]
    pub fn missed(&self) -> Vec<Mark> {
        let expected = self.world.expected.iter().copied();
        expected.filter(|mark| !self.marks.has(*mark)).collect()
    }

    fn start(&self, node: NodeId, disk: Recovered) -> Host {
        let append_count_max = if self.world.one_by_one { 1 } else { 1024 };
        let settings = Settings {
            node,
            log: LOG,
            content: Content::InSnapshots,
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(300),
            election_max: Duration::from_millis(600),
            limits: Limits { append_count_max, ..Limits::default() },
        };
        let rng = ChaCha8Rng::seed_from_u64(0);
        let recovered = disk.logs.get(&LOG).cloned().unwrap_or_default();
        let mut raft = Raft::new(settings, recovered, rng, NOW);
        raft.pass_committed();
        let mut host = Host { raft, disk, writes: VecDeque::new(), digest: 0 };
        host.disk.logs.entry(LOG).or_default();
        host.seal();
        host
    }

    /// Everybody has just started, the voters with the first entry.
    fn founded(&self) -> State {
        let membership = self.world.membership();
        let mut history = History::default();
        let payload = Payload::Membership(membership.clone());
        let entry = Entry { index: Index(1), term: Term(1), payload };
        let memberships = [membership.clone(), membership.clone()];
        history.committed.insert(Index(1), Committed { entry, by: Term(1), memberships });
        let host = |node: NodeId| {
            let place = self.world.voters.iter().position(|voter| NodeId(*voter) == node);
            let disk = place.map_or_else(
                || Recovered::fresh(node),
                |place| founded(node, membership.clone(), self.world.disks.get(place)),
            );
            (node, Arc::new(self.start(node, disk)))
        };
        let hosts = self.world.nodes().into_iter().map(host).collect();
        let history = Arc::new(history);
        let history_digest = digest(&history);
        let (network, left) = (Network::default(), self.world.budget);
        State { hosts, network, history, history_digest, left, broken: None }
    }

    /// The first voter leads, and all that was sent has arrived.
    fn led(&self) -> State {
        let mut state = self.founded();
        let first = NodeId(self.world.voters.first().copied().unwrap_or_default());
        state.left.timeouts = 1;
        let take = |state: &mut State, step: Step| {
            if let Some(next) = self.next_state(state, step) {
                *state = next;
            }
        };
        take(&mut state, Step::Timeout(first));
        // Where a step has broken a law already, that is where the world begins.
        while state.broken.is_none() {
            let writing = state.hosts.iter().find(|(_, host)| !host.writes.is_empty());
            // Each letter arrives once: this is before the world begins, and nothing is to be left.
            match (writing.map(|(node, _)| *node), state.network.take_first()) {
                (Some(node), letter) => {
                    if let Some(letter) = letter {
                        state.network.send(&letter);
                    }
                    take(&mut state, Step::Sync(node));
                }
                (None, Some(letter)) => take(&mut state, Step::Deliver { letter, late: false }),
                (None, None) => break,
            }
        }
        State { left: self.world.budget, ..state }
    }

    fn node_steps(&self, state: &State, node: NodeId, host: &Host, steps: &mut Vec<Step>) {
        let (raft, left) = (&host.raft, state.left);
        if !host.writes.is_empty() {
            steps.push(Step::Sync(node));
        }
        if left.crashes > 0 {
            steps.extend((0..=host.unsynced()).map(|survive| Step::Crash(node, survive)));
        }
        if !raft.is_leader() {
            if left.timeouts > 0 && raft.term().0 < self.world.terms_max {
                steps.push(Step::Timeout(node));
            }
            return;
        }
        if left.heartbeats > 0 {
            steps.push(Step::Heartbeat(node));
        }
        if left.silences > 0 {
            steps.push(Step::Silence(node));
        }
        if raft.is_transferring() {
            steps.push(Step::GiveUpTransfer(node));
        }
        if left.proposals > 0 {
            steps.push(Step::Propose(node));
        }
        if left.changes > 0 {
            steps.push(Step::Change(node));
        }
        if left.transfers > 0 {
            let others = state.hosts.iter().filter(|(other, _)| *other != node);
            steps.extend(others.map(|(other, _)| Step::Transfer(node, *other)));
        }
    }

    /// Takes what the step uses from the budget.
    fn pay(state: &mut State, step: &Step) {
        let left = &mut state.left;
        let used = match step {
            Step::Timeout(_) => &mut left.timeouts,
            Step::Heartbeat(_) => &mut left.heartbeats,
            Step::Silence(_) => &mut left.silences,
            Step::Propose(_) => &mut left.proposals,
            Step::Change(_) => &mut left.changes,
            Step::Transfer(..) => &mut left.transfers,
            Step::Crash(..) => &mut left.crashes,
            Step::Deliver { .. } | Step::Sync(_) | Step::GiveUpTransfer(_) => return,
        };
        *used = used.saturating_sub(1);
    }

    /// What a step does. Returns whether anything is other than before.
    fn take(&self, state: &mut State, step: &Step) -> Result<bool, Broken> {
        let slow = self.world.slow_disks;
        let proposed = self.world.budget.proposals - state.left.proposals;
        let change = self.world.change();
        let mut on = |node: NodeId, act: &mut dyn FnMut(&mut Raft)| {
            Doing::new(state, &self.marks, node, slow).with(act)
        };
        match step {
            Step::Deliver { letter, late } => {
                let Letter { from, to, message } = &**letter;
                let mut doing = Doing::new(state, &self.marks, *to, slow);
                let changed = doing.with(|raft| {
                    raft.lapse(NOW, if *late { Lapse::Lease } else { Lapse::Heard });
                    let answer = matches!(message.body, Body::HeartbeatReply { .. });
                    let behind = raft.matched(*from).is_some_and(|held| held < raft.last_index());
                    if raft.is_leader() && answer && behind {
                        // What it lacks counts as lost, as when the link has been.
                        raft.link_lost(NOW, *from);
                    }
                    raft.receive(NOW, *from, message.clone());
                })?;
                if let Some(answers) = doing.only_answers() {
                    self.idle.note(state.host(*to), letter, *late, answers);
                }
                Ok(changed)
            }
            Step::Sync(node) => Doing::new(state, &self.marks, *node, slow).complete_write(),
            Step::Timeout(node) => on(*node, &mut |raft| due(raft, Lapse::Election)),
            Step::Heartbeat(node) => on(*node, &mut |raft| due(raft, Lapse::Heartbeat)),
            Step::GiveUpTransfer(node) => on(*node, &mut |raft| due(raft, Lapse::Transfer)),
            Step::Silence(node) => {
                let mut resigned = false;
                let changed = on(*node, &mut |raft| {
                    due(raft, Lapse::Silence);
                    resigned = !raft.is_leader();
                })?;
                if resigned {
                    self.marks.set(Mark::Resigned);
                }
                // One that is enough by itself goes on; then this is as if it had not been.
                Ok(changed && resigned)
            }
            Step::Propose(node) => on(*node, &mut |raft| {
                raft.propose(Bytes::copy_from_slice(&[proposed])).ok();
            }),
            Step::Change(node) => on(*node, &mut |raft| {
                change.clone().map(|change| raft.change(NOW, change).ok());
            }),
            Step::Transfer(node, to) => on(*node, &mut |raft| {
                raft.transfer(NOW, *to).ok();
            }),
            Step::Crash(node, survive) => {
                let mut host = Doing::new(state, &self.marks, *node, slow).crash(*survive)?;
                if self.lying_disks {
                    let log = host.disk.logs.entry(LOG).or_default();
                    log.entries.truncate(1);
                    log.hard_state.commit = Index(1);
                }
                state.place(*node, self.start(*node, host.disk));
                Doing::new(state, &self.marks, *node, slow).with(|_| ())?;
                Ok(true)
            }
        }
    }
}

fn due(raft: &mut Raft, lapse: Lapse) {
    raft.lapse(NOW, lapse);
    raft.tick(NOW);
}

/// What an assertion said.
fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&'static str>().copied()).unwrap_or("a panic").to_owned()
}

impl Model for Cluster {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![if self.world.led { self.led() } else { self.founded() }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        if state.broken.is_some() {
            return;
        }
        for (node, host) in &state.hosts {
            self.node_steps(state, *node, host, steps);
        }
        for letter in state.network.letters() {
            let Some((_, host)) = state.hosts.iter().find(|(id, _)| *id == letter.to) else {
                continue;
            };
            let raft = &host.raft;
            let campaigns = matches!(letter.message.body, Body::TimeoutNow);
            if campaigns && raft.term().0 >= self.world.terms_max {
                continue;
            }
            steps.push(Step::Deliver { letter: Arc::clone(letter), late: false });
            let asks = matches!(letter.message.body, Body::PreVote { .. } | Body::Vote { .. });
            if asks && raft.leader().is_some() && !raft.is_leader() {
                steps.push(Step::Deliver { letter: Arc::clone(letter), late: true });
            }
        }
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        if let Step::Deliver { letter, late } = &step
            && self.idle.is_known(state, letter, *late)
        {
            return None;
        }
        let mut next = state.clone();
        Self::pay(&mut next, &step);
        let taken = catch_unwind(AssertUnwindSafe(|| self.take(&mut next, &step)));
        let broken = match taken {
            Ok(Ok(false)) => return None,
            Ok(Ok(true)) => state_law(&next, step.node()),
            Ok(Err(broken)) => Some(broken),
            Err(panic) => Some(Law::Assertions.broken(said(&*panic))),
        };
        next.broken = broken.map(Arc::new);
        if !Arc::ptr_eq(&next.history, &state.history) {
            next.history_digest = digest(&next.history);
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut all = vec![
            law::<0>(),
            law::<1>(),
            law::<2>(),
            law::<3>(),
            law::<4>(),
            law::<5>(),
            law::<6>(),
            law::<7>(),
            law::<8>(),
            law::<9>(),
            law::<10>(),
            law::<11>(),
        ];
        let marks = [
            mark::<0>(),
            mark::<1>(),
            mark::<2>(),
            mark::<3>(),
            mark::<4>(),
            mark::<5>(),
            mark::<6>(),
            mark::<7>(),
            mark::<8>(),
            mark::<9>(),
        ];
        let expected = |property: &Property<Cluster>| {
            self.world.expected.iter().any(|mark| mark.name() == property.name)
        };
        all.extend(marks.into_iter().filter(expected));
        all
    }
}

/// The law of this number, as a property.
fn law<const N: usize>() -> Property<Cluster> {
    Property::always(Law::ALL[N].1, |cluster: &Cluster, state: &State| {
        let (law, _) = Law::ALL[N];
        let broken = state.broken.as_ref().is_some_and(|broken| broken.law == law);
        !broken || cluster.told[N].swap(true, Ordering::Relaxed)
    })
}

/// The mark of this number, as a property.
fn mark<const N: usize>() -> Property<Cluster> {
    Property::sometimes(Mark::ALL[N].1, |cluster: &Cluster, _| cluster.marks.tell(Mark::ALL[N].0))
}
