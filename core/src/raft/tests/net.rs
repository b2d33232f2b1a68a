//! A small network of replicas with disks: nothing happens unless a test says so.
//!
//! Messages wait on wires (one queue a direction) until delivered or dropped; batches wait in front
//! of disks until made durable; the clock moves when told. After every step [`Checks`] holds the
//! safety properties against what happened.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng as _;

use super::super::*;
use super::checks::Checks;
use super::show;
use crate::ids::Generation;
use crate::storage::Recovered;

pub(super) const A: NodeId = NodeId(1);
pub(super) const B: NodeId = NodeId(2);
pub(super) const C: NodeId = NodeId(3);
pub(super) const D: NodeId = NodeId(4);
pub(super) const E: NodeId = NodeId(5);

const LOG: LogId = LogId::CONFIGURATION;
/// Between two heartbeats.
pub(super) const HEARTBEAT_MS: u64 = 100;
/// The shortest election time-out.
pub(super) const ELECTION_MIN_MS: u64 = 300;
/// The longest.
pub(super) const ELECTION_MAX_MS: u64 = 600;

/// One node: a replica while it runs, and its disk always.
pub(super) struct Host {
    pub raft: Option<Raft>,
    pub disk: Recovered,
    /// Handed out, not yet durable.
    pub writes: VecDeque<(Ticket, Vec<StorageOp>)>,
    /// The entries that its state machine was given since it last started.
    pub applied: Vec<Entry>,
    /// A hash of all that was ever applied: equal at one index everywhere.
    pub state: u64,
    /// The reads that may be served.
    pub reads: Vec<(u64, Index)>,
    /// Entries wanted from the disk.
    pub wanted: VecDeque<LogRead>,
    /// Entries that it turned out could not be read.
    pub unreadable: Vec<Index>,
    starts: u64,
}

impl Host {
    /// Part of the log becomes unreadable: the next start finds out.
    pub(super) fn damage(&mut self) {
        assert!(self.raft.is_none(), "a running node has read its log");
        self.disk.logs.entry(LOG).or_default().damaged = true;
    }

    /// What the disk holds of the log.
    pub(super) fn disk(&self) -> &RecoveredLog {
        &self.disk.logs[&LOG]
    }

    /// The term of the entry at `index` on the disk; the snapshot's, if it is below that.
    pub(super) fn durable_term(&self, index: Index) -> Option<Term> {
        let log = self.disk();
        if index <= log.snapshot.index {
            return (index == log.snapshot.index).then_some(log.snapshot.term);
        }
        let offset = usize::try_from(index.0 - log.snapshot.index.0 - 1).ok()?;
        log.entries.get(offset).map(|e| e.term)
    }
}

/// The network.
pub(super) struct Net {
    pub now: Time,
    pub hosts: BTreeMap<NodeId, Host>,
    pub wires: BTreeMap<(NodeId, NodeId), VecDeque<Message>>,
    /// Directions in which messages vanish.
    pub cut: BTreeSet<(NodeId, NodeId)>,
    pub checks: Checks,
    /// What happened, if it is recorded.
    pub transcript: Option<Vec<String>>,
    /// How much at a time, for whoever starts from now on.
    pub limits: Limits,
    /// Where the state is, for whoever starts from now on.
    pub content: Content,
    /// Whoever lacks the content gets a copy from another at once.
    pub copies: bool,
    seed: u64,
}

/// A founding membership: the first of `voters` is the tie-breaker.
pub(super) fn membership(voters: &[NodeId], learners: &[NodeId]) -> Membership {
    Membership {
        incoming: half(voters),
        outgoing: None,
        learners: learners.iter().copied().collect(),
        version: ConfigVersion(1),
    }
}

/// Voters that decide together; the first is the tie-breaker.
pub(super) fn half(voters: &[NodeId]) -> Half {
    Half { voters: voters.iter().copied().collect(), tie_breaker: voters.first().copied() }
}

/// A change to `voters`, the first the tie-breaker.
pub(super) fn change(voters: &[NodeId], learners: &[NodeId], version: u64) -> Change {
    Change {
        half: half(voters),
        learners: learners.iter().copied().collect(),
        version: ConfigVersion(version),
    }
}

/// What is newly committed: from memory, or else from the disk, where it must be.
fn committed(raft: &mut Raft, disk: &Recovered) -> Vec<Entry> {
    if raft.settings.content == Content::InSnapshots {
        return std::iter::from_fn(|| raft.take_committed()).collect();
    }
    let Some((first, last)) = raft.pass_committed() else { return Vec::new() };
    let on_disk = |index: u64| {
        let held = disk.logs[&LOG].entries.iter().find(|e| e.index.0 == index);
        held.expect("what is not in memory is on the disk").clone()
    };
    let entry = |index| raft.entry(Index(index)).cloned().unwrap_or_else(|| on_disk(index));
    let entries: Vec<Entry> = (first.0..=last.0).map(entry).collect();
    assert!(entries.iter().all(|e| raft.term_at(e.index) == Some(e.term)));
    entries
}

impl Net {
    /// A network in which everybody's disk holds `first` as entry 1 of term 1.
    pub(super) fn with_membership(first: Membership, seed: u64) -> Self {
        let mut net = Self {
            now: Time::from_millis(1000),
            hosts: BTreeMap::new(),
            wires: BTreeMap::new(),
            cut: BTreeSet::new(),
            checks: Checks::default(),
            transcript: None,
            limits: Limits::default(),
            content: Content::InSnapshots,
            copies: false,
            seed,
        };
        let entry = Entry { index: Index(1), term: Term(1), payload: Payload::Membership(first) };
        net.checks.founding(&entry);
        let Payload::Membership(first) = &entry.payload else { unreachable!() };
        for node in first.members() {
            let mut disk = Recovered::fresh(node);
            let state = HardState { term: Term(1), vote: None, commit: Index(1) };
            disk.apply(&StorageOp::HardState { log: LOG, state });
            disk.apply(&StorageOp::Append { log: LOG, entries: vec![entry.clone()] });
            net.place(node, disk);
        }
        net
    }

    /// A network of `voters`, the first the tie-breaker.
    pub(super) fn of(voters: &[NodeId]) -> Self {
        Self::with_membership(membership(voters, &[]), 1)
    }

    /// A network of `voters`, the first the tie-breaker, and `learners`; the first voter leads.
    pub(super) fn led(voters: &[NodeId], learners: &[NodeId]) -> Self {
        let mut net = Self::with_membership(membership(voters, learners), 1);
        net.elect(voters[0]);
        net
    }

    /// A node with an empty disk.
    pub(super) fn add(&mut self, node: NodeId) {
        self.place(node, Recovered::fresh(node));
    }

    fn place(&mut self, node: NodeId, mut disk: Recovered) {
        disk.logs.entry(LOG).or_default();
        let host = Host {
            raft: None,
            disk,
            writes: VecDeque::new(),
            applied: Vec::new(),
            state: 0,
            reads: Vec::new(),
            wanted: VecDeque::new(),
            unreadable: Vec::new(),
            starts: 0,
        };
        self.hosts.insert(node, host);
        self.restart(node);
    }

    pub(super) fn nodes(&self) -> Vec<NodeId> {
        self.hosts.keys().copied().collect()
    }

    pub(super) fn host(&self, node: NodeId) -> &Host {
        &self.hosts[&node]
    }

    /// A running replica.
    pub(super) fn at(&self, node: NodeId) -> &Raft {
        self.host(node).raft.as_ref().expect("it runs")
    }

    pub(super) fn is_up(&self, node: NodeId) -> bool {
        self.hosts.get(&node).is_some_and(|host| host.raft.is_some())
    }

    /// Something happens to a replica; then all that it wants done is taken from it.
    pub(super) fn with<R>(&mut self, node: NodeId, f: impl FnOnce(&mut Raft, Time) -> R) -> R {
        let now = self.now;
        let host = self.hosts.get_mut(&node).expect("it exists");
        let raft = host.raft.as_mut().expect("it runs");
        let before = self.transcript.is_some().then(|| show::Before::of(raft));
        let result = f(raft, now);
        raft.flush(now);
        self.drain(node, before);
        result
    }

    fn drain(&mut self, node: NodeId, before: Option<show::Before>) {
        let now = self.now;
        let mut lines = Vec::new();
        let host = self.hosts.get_mut(&node).expect("it exists");
        let raft = host.raft.as_mut().expect("it runs");
        if let Some(before) = &before {
            before.changes(raft, &mut lines);
        }
        let batch = raft.take_batch(now);
        if let (Some((ticket, ops)), Some(_)) = (&batch, &before) {
            lines.push(show::batch(node, *ticket, ops));
        }
        if let Some(before) = &before {
            before.held(raft, &mut lines);
        }
        let messages: Vec<_> = std::iter::from_fn(|| raft.next_message()).collect();
        let restored = raft.take_restored();
        let committed = committed(raft, &host.disk);
        host.wanted.extend(std::iter::from_fn(|| raft.next_read()));
        host.unreadable.extend(raft.take_unreadable());
        host.reads.extend(std::iter::from_fn(|| raft.take_read()));
        if let Some(batch) = batch {
            self.checks.written(&batch.1);
            host.writes.push_back(batch);
        }
        for (to, message) in messages {
            if before.is_some() {
                lines.push(show::sent(node, to, &message, self.cut.contains(&(node, to))));
            }
            self.checks.sent(&self.hosts[&node], node, to, &message);
            if !self.cut.contains(&(node, to)) {
                self.wires.entry((node, to)).or_default().push_back(message);
            }
        }
        self.apply(node, restored, committed, before.is_some().then_some(&mut lines));
        self.checks.after(&self.hosts, node);
        if let Some(transcript) = &mut self.transcript {
            transcript.extend(lines);
        }
    }

    fn apply(
        &mut self,
        node: NodeId,
        restored: Option<Snapshot>,
        committed: Vec<Entry>,
        mut lines: Option<&mut Vec<String>>,
    ) {
        let host = self.hosts.get_mut(&node).expect("it exists");
        if let Some(snapshot) = restored {
            let raft = host.raft.as_ref().expect("it runs");
            host.state = match raft.settings.content {
                Content::InSnapshots => Checks::state_of(&snapshot),
                Content::Apart => self.checks.state_at(snapshot.index),
            };
            self.checks.applied(snapshot.index, host.state);
            if let Some(lines) = &mut lines {
                lines.push(format!(
                    "{} takes over the state at {}",
                    show::name(node),
                    snapshot.index
                ));
            }
        }
        for entry in committed {
            host.state = Checks::fold(host.state, &entry);
            self.checks.applied(entry.index, host.state);
            if let Some(lines) = &mut lines {
                lines.push(format!("{} commits {}", show::name(node), show::entry(&entry)));
            }
            host.applied.push(entry);
        }
    }

    /// The clock moves; nobody's timer is looked at.
    pub(super) fn pass(&mut self, ms: u64) {
        self.now = self.now + Duration::from_millis(ms);
    }

    /// Whatever timer of `node` is due goes off.
    pub(super) fn tick(&mut self, node: NodeId) {
        self.with(node, |raft, now| raft.tick(now));
    }

    /// `node` has waited long enough for a leader.
    pub(super) fn timeout(&mut self, node: NodeId) {
        self.with(node, |raft, now| {
            raft.election = now;
            raft.tick(now);
        });
    }

    /// The first message on a wire arrives. Returns whether there was one.
    pub(super) fn deliver(&mut self, from: NodeId, to: NodeId) -> bool {
        let Some(message) = self.wires.get_mut(&(from, to)).and_then(VecDeque::pop_front) else {
            return false;
        };
        self.inject(from, to, message);
        true
    }

    /// All that is on a wire now arrives.
    pub(super) fn deliver_all(&mut self, from: NodeId, to: NodeId) {
        for _ in 0..self.wires.get(&(from, to)).map_or(0, VecDeque::len) {
            self.deliver(from, to);
        }
    }

    /// A message arrives that may be on no wire.
    pub(super) fn inject(&mut self, from: NodeId, to: NodeId, message: Message) {
        if self.is_up(to) {
            self.with(to, |raft, now| raft.receive(now, from, message));
        }
    }

    /// What is on a wire is lost, and neither end is told.
    pub(super) fn lose(&mut self, from: NodeId, to: NodeId) {
        self.wires.remove(&(from, to));
    }

    /// All that is on any wire is lost.
    pub(super) fn lose_everything(&mut self) {
        self.wires.clear();
    }

    /// The messages on a wire.
    pub(super) fn wire(&self, from: NodeId, to: NodeId) -> Vec<Body> {
        let wire = self.wires.get(&(from, to)).into_iter().flatten();
        wire.map(|message| message.body.clone()).collect()
    }

    /// The oldest batch of `node` becomes durable. Returns whether there was one.
    pub(super) fn persist(&mut self, node: NodeId) -> bool {
        let host = self.hosts.get_mut(&node).expect("it exists");
        if host.raft.is_none() {
            return false;
        }
        let Some((ticket, ops)) = host.writes.pop_front() else { return false };
        for op in &ops {
            self.checks.durable(host, op);
            host.disk.apply(op);
        }
        self.checks.disk(host);
        self.with(node, |raft, now| raft.persisted(now, ticket));
        true
    }

    /// The oldest question of `node` for entries on the disk is answered. Returns whether there was
    /// one.
    pub(super) fn answer_read(&mut self, node: NodeId) -> bool {
        let host = self.hosts.get_mut(&node).expect("it exists");
        let Some(read) = host.wanted.pop_front() else { return false };
        let entries = host.disk().read(read);
        self.with(node, |raft, now| raft.log_read(now, read.id, Ok(entries)));
        true
    }

    /// It is answered that an entry cannot be read.
    pub(super) fn refuse_read(&mut self, node: NodeId, index: Index) {
        let read = self.hosts.get_mut(&node).and_then(|host| host.wanted.pop_front());
        let id = read.expect("something is asked").id;
        self.with(node, |raft, now| raft.log_read(now, id, Err(Unreadable { index })));
    }

    /// Whoever lacks the content gets a copy from the node that is farthest. Whether one did.
    pub(super) fn copy_to(&mut self, node: NodeId) -> bool {
        if !self.is_up(node) {
            return false;
        }
        let Some(wanted) = self.at(node).wanted() else { return false };
        let up = self.nodes().into_iter().filter(|n| self.is_up(*n));
        let donor = up.max_by_key(|n| self.at(*n).applied()).expect("itself");
        let raft = self.at(donor);
        let index = raft.applied();
        if index < wanted || index < self.at(node).snapshot().index {
            return false;
        }
        let term = raft.term_at(index).expect("it is in the log");
        let membership = raft.membership_at(index).clone();
        let base = Snapshot { index, term, membership, data: Bytes::new() };
        self.with(node, |raft, _| raft.install_copy(Generation(2), base));
        true
    }

    /// Everything that is written becomes durable and everything that is sent arrives, until
    /// nothing is left to do. The clock stands still.
    pub(super) fn settle(&mut self) {
        self.settle_but(&[]);
    }

    /// As [`Net::settle`], but the disks of `stuck` are not served.
    pub(super) fn settle_but(&mut self, stuck: &[NodeId]) {
        for _ in 0..10_000 {
            let mut quiet = true;
            for node in self.nodes() {
                while !stuck.contains(&node) && self.persist(node) {
                    quiet = false;
                }
                while self.is_up(node) && self.answer_read(node) {
                    quiet = false;
                }
                if self.copies && self.copy_to(node) {
                    quiet = false;
                }
            }
            let wires: Vec<_> = self.wires.keys().copied().collect();
            for (from, to) in wires {
                quiet &= self.wires.get(&(from, to)).is_none_or(VecDeque::is_empty);
                self.deliver_all(from, to);
            }
            if quiet {
                return;
            }
        }
        panic!("the network does not come to rest");
    }

    /// Time goes by as in life: timers go off when due, everything sent arrives.
    pub(super) fn run(&mut self, ms: u64) {
        self.run_but(ms, &[]);
    }

    /// As [`Net::run`], but the disks of `stuck` are not served.
    pub(super) fn run_but(&mut self, ms: u64, stuck: &[NodeId]) {
        let end = self.now + Duration::from_millis(ms);
        while self.now < end {
            self.pass(5);
            for node in self.nodes() {
                let now = self.now;
                if self.host(node).raft.as_ref().is_some_and(|r| r.next_timeout() <= now) {
                    self.tick(node);
                }
            }
            self.settle_but(stuck);
        }
    }

    /// As [`Net::run`], but what `lost` says of messages to and from `node` is lost.
    pub(super) fn run_but_lose(&mut self, ms: u64, node: NodeId, lost: impl Fn(&Body) -> bool) {
        let end = self.now + Duration::from_millis(ms);
        while self.now < end {
            self.pass(5);
            for id in self.nodes() {
                self.tick(id);
            }
            for _ in 0..4 {
                for id in self.nodes() {
                    while self.persist(id) {}
                }
                for ((from, to), wire) in &mut self.wires {
                    if *from == node || *to == node {
                        wire.retain(|message| !lost(&message.body));
                    }
                }
                let wires: Vec<_> = self.wires.keys().copied().collect();
                for (from, to) in wires {
                    self.deliver_all(from, to);
                }
            }
        }
    }

    /// Messages from `from` to `to` vanish from now on, and those under way. Nobody is told.
    pub(super) fn cut_one_way(&mut self, from: NodeId, to: NodeId) {
        self.cut.insert((from, to));
        self.lose(from, to);
    }

    pub(super) fn cut(&mut self, one: NodeId, other: NodeId) {
        self.cut_one_way(one, other);
        self.cut_one_way(other, one);
    }

    /// Nothing reaches `node` and nothing leaves it.
    pub(super) fn isolate(&mut self, node: NodeId) {
        for other in self.nodes() {
            if other != node {
                self.cut(node, other);
            }
        }
    }

    /// Every link works again, and both ends are told.
    pub(super) fn heal(&mut self) {
        let cut = std::mem::take(&mut self.cut);
        for (from, to) in cut {
            if self.is_up(from) {
                self.with(from, |raft, now| raft.link_open(now, to));
            }
        }
    }

    /// The process dies. Of the operations not yet durable, the first `survive` are on the disk.
    pub(super) fn crash(&mut self, node: NodeId, survive: usize) {
        let host = self.hosts.get_mut(&node).expect("it exists");
        host.raft = None;
        let ops = std::mem::take(&mut host.writes).into_iter().flat_map(|(_, ops)| ops);
        for op in ops.take(survive) {
            self.checks.durable(host, &op);
            host.disk.apply(&op);
        }
        self.checks.disk(host);
        self.wires.retain(|(from, to), _| *from != node && *to != node);
    }

    /// How many operations of `node` are not durable yet.
    pub(super) fn unwritten(&self, node: NodeId) -> usize {
        self.host(node).writes.iter().map(|(_, ops)| ops.len()).sum()
    }

    /// The process starts on what its disk holds.
    pub(super) fn restart(&mut self, node: NodeId) {
        let settings = Settings {
            limits: self.limits,
            node,
            log: LOG,
            content: self.content,
            heartbeat: Duration::from_millis(HEARTBEAT_MS),
            election_min: Duration::from_millis(ELECTION_MIN_MS),
            election_max: Duration::from_millis(ELECTION_MAX_MS),
        };
        let host = self.hosts.get_mut(&node).expect("it exists");
        host.starts += 1;
        host.applied.clear();
        host.reads.clear();
        host.wanted.clear();
        host.state = 0;
        let seed = self.seed.wrapping_mul(1009) + host.starts * 31;
        let rng = ChaCha8Rng::seed_from_u64(seed ^ u64::try_from(node.0 << 32).unwrap_or(0));
        let mut recovered = host.disk().clone();
        if self.content == Content::Apart {
            recovered = recovered.within(self.limits.window);
        }
        host.raft = Some(Raft::new(settings, recovered, rng, self.now));
        self.with(node, |_, _| ());
    }

    /// The whole cluster stops and starts again with what is durable.
    pub(super) fn restart_all(&mut self) {
        for node in self.nodes() {
            self.crash(node, 0);
        }
        for node in self.nodes() {
            self.restart(node);
        }
    }

    /// `node` is elected and its first entry is committed everywhere it can be.
    pub(super) fn elect(&mut self, node: NodeId) {
        self.pass(2 * ELECTION_MAX_MS);
        self.timeout(node);
        self.settle();
        assert!(self.at(node).is_settled_leader(), "{} leads", show::name(node));
    }

    /// `node` proposes `text`.
    pub(super) fn propose(&mut self, node: NodeId, text: &str) -> Result<Index, ProposeError> {
        let data = Bytes::copy_from_slice(text.as_bytes());
        self.with(node, |raft, _| raft.propose(data)).map(|(index, _)| index)
    }

    pub(super) fn change(&mut self, node: NodeId, change: Change) -> Result<Index, ChangeError> {
        self.with(node, |raft, now| raft.change(now, change))
    }

    /// `node` replaces what it has applied by a snapshot.
    pub(super) fn compact(&mut self, node: NodeId) {
        let state = self.host(node).state;
        self.with(node, |raft, _| match raft.settings.content {
            Content::InSnapshots => raft.compact(Checks::snapshot_data(state)),
            Content::Apart => raft.compact_to(raft.applied()),
        });
    }

    /// Who leads, in the highest term in which anybody does.
    pub(super) fn leader(&self) -> Option<NodeId> {
        let rafts = self.hosts.iter().filter_map(|(id, h)| h.raft.as_ref().map(|r| (*id, r)));
        let leading = rafts.filter(|(_, raft)| raft.is_leader());
        leading.max_by_key(|(_, raft)| raft.term()).map(|(id, _)| id)
    }

    /// The texts that the state machine of `node` was given since it started.
    pub(super) fn texts(&self, node: NodeId) -> Vec<String> {
        let data = self.host(node).applied.iter().filter_map(|e| match &e.payload {
            Payload::Data(data) => Some(String::from_utf8_lossy(data).into_owned()),
            _ => None,
        });
        data.collect()
    }

    /// How many nodes are on disk with the entry at `index` of `term`.
    pub(super) fn copies(&self, index: Index, term: Term) -> usize {
        self.hosts.values().filter(|h| h.durable_term(index) == Some(term)).count()
    }
}
