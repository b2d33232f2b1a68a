//! A small, kind world for tests of the lifecycle: messages arrive after a millisecond, disks take
//! one more, and nothing fails unless the test says so. The simulator is the unkind one.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use crate::configuration::{Defaults, Origin};
use crate::copies::memory::MemoryFiles;
use crate::copies::{CopyAnswer, CopyCall};
use crate::engine::memory::Memory;
use crate::engine::{Engine as _, Fault, Note, Position, Reader as _, SqlLimits, Transaction};
use crate::measures::Traffic;
use crate::node::SqlRequest;
use crate::shard::{Answer, Call, CallKind, Reply as SqlReply, ShardLimits, SqlKind};
use crate::{
    Command, CommandId, DialError, Event, Generation, Input, LinkId, LogId, Node, NodeConfig,
    NodeId, Output, Recovered, Reply, State, StopReason, StorageOp, Time,
};

/// Directories of nodes whose clusters have dissolved, by what they were.
pub(crate) type Aside = BTreeMap<NodeId, (Recovered, BTreeMap<LogId, MemoryFiles>)>;

/// One machine: its disk outlives its process.
pub(crate) struct Machine {
    pub node: Option<Node>,
    pub config: NodeConfig,
    pub disk: Recovered,
    pub events: Vec<Event>,
    pub stopped: Option<StopReason>,
    pub replies: BTreeMap<CommandId, Reply>,
    pub answers: BTreeMap<CommandId, SqlReply>,
    /// The copies on its disk.
    pub files: BTreeMap<LogId, MemoryFiles>,
    /// What it held as other nodes, whose clusters have dissolved.
    pub aside: Aside,
    /// Which generation of each is open.
    open: BTreeMap<LogId, Generation>,
    /// Epochs in which an engine has failed.
    failed: BTreeMap<LogId, u64>,
    pub password: &'static str,
    /// How long a write takes to become durable.
    pub sync: Duration,
    /// How long a call of an engine takes.
    pub engine: Duration,
    /// How long a call to the files of a copy takes.
    pub filing: Duration,
    /// The process dies as soon as it has handed out so many operations, and just these survive.
    pub crash_after: Option<usize>,
    /// Operations handed out over all starts.
    pub written: usize,
    /// When the last batch handed out is durable.
    durable_at: Time,
    /// Batches that are not durable yet.
    unsynced: VecDeque<(crate::PersistId, Vec<StorageOp>)>,
    starts: u8,
}

#[derive(PartialEq)]
struct Due {
    at: Time,
    order: u64,
    to: usize,
    /// The process it was meant for: a restart makes it void.
    start: u8,
    what: What,
}

#[derive(PartialEq)]
enum What {
    Wake,
    Durable(crate::PersistId),
    Packet(LinkId, bytes::Bytes),
    Datagram(SocketAddr, bytes::Bytes),
    Down(LinkId),
    Up(LinkId, NodeId, Option<SocketAddr>),
    Failed(SocketAddr, DialError),
    Refused(SocketAddr),
    Engine(LogId, Call),
    ReadLog(LogId, crate::raft::LogRead),
    Copy(LogId, CopyCall),
    Traffic,
}

impl Eq for Due {}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

pub(crate) struct World {
    pub now: Time,
    pub machines: Vec<Machine>,
    queue: BinaryHeap<Due>,
    order: u64,
    links: BTreeMap<LinkId, (usize, usize)>,
    next_link: u64,
    next_command: u64,
    /// Pairs that cannot reach each other.
    pub cut: BTreeSet<(usize, usize)>,
    /// From the first to the second nothing comes through, the other way it does.
    pub deaf: BTreeSet<(usize, usize)>,
    /// How often anybody has dialled.
    pub dials: usize,
    /// Packets sent.
    pub packets: usize,
}

pub(crate) const STEP: Duration = Duration::from_millis(1);

impl Machine {
    fn carry_out(&mut self, log: LogId, call: &Call) -> Option<Answer> {
        let files = self.files.entry(log).or_default();
        let limits = SqlLimits::default();
        if self.failed.get(&log) == Some(&call.epoch) && !matches!(call.what, CallKind::Query(..)) {
            return None;
        }
        if let CallKind::Open { generation, .. } = call.what {
            self.open.insert(log, generation);
        }
        let live = self.open.get(&log).copied().unwrap_or_default();
        let engine = match call.what {
            CallKind::Open { generation, create } => files.open(generation, create),
            _ => Ok(files.generations.get_mut(&live).expect("it is open")),
        };
        let answer = engine.and_then(|engine| match &call.what {
            CallKind::Open { .. } => Ok(Answer::Opened(engine.position(), engine.notes()?)),
            CallKind::Execute(batch, rights) => {
                let limits = SqlLimits { rights: *rights, ..limits };
                engine.execute(batch, &limits).map(Answer::Executed)
            }
            CallKind::Commit(at, notes) => engine.commit(*at, notes).map(|()| Answer::Committed),
            CallKind::Rollback => engine.rollback().map(|()| Answer::RolledBack),
            CallKind::Apply(entries, notes) => {
                engine.apply(entries, notes).map(|()| Answer::Applied)
            }
            CallKind::Sync => engine.sync().map(Answer::Synced),
            CallKind::Query(id, transaction) => {
                Ok(Answer::Queried(*id, engine.query(transaction, &limits)))
            }
            CallKind::Begin(rights, _) => {
                let limits = SqlLimits { rights: *rights, ..SqlLimits::default() };
                engine.begin(&limits).map(|()| Answer::Begun)
            }
            CallKind::Step(statements) => engine.step(statements).map(Answer::Stepped),
            CallKind::Finish => engine.finish().map(Answer::Executed),
            CallKind::Hash(mark) => Ok(Answer::Hashed(*mark, Ok(engine.hash()))),
        });
        Some(answer.unwrap_or_else(|fault| {
            self.failed.insert(log, call.epoch);
            Answer::Failed(fault)
        }))
    }
}

impl Machine {
    /// The machine is another node from here on; what it held stays aside, as a power failure leaves it.
    pub(crate) fn move_aside(&mut self, disk: Recovered) {
        let was = std::mem::replace(&mut self.disk, disk);
        let mut files = std::mem::take(&mut self.files);
        let engines = files.values_mut().flat_map(|files| files.generations.values_mut());
        engines.for_each(Memory::lose_power);
        self.open.clear();
        self.failed.clear();
        self.aside.insert(was.identity.node, (was, files));
    }

    fn import(
        &mut self,
        log: LogId,
        origin: Origin,
        at: (Position, &[Note]),
        to: Generation,
    ) -> Result<(), Fault> {
        let missing = || Fault::Missing("it is not there".to_owned());
        let (disk, files) = self.aside.get(&origin.node).ok_or_else(missing)?;
        let live = disk.logs.get(&origin.log).and_then(|held| held.copy).ok_or_else(missing)?;
        let held = files.get(&origin.log).and_then(|files| files.generations.get(&live));
        let held = held.ok_or_else(missing)?;
        self.files.entry(log).or_default().import(held, at, to);
        Ok(())
    }

    /// The live copy of a shard.
    pub(crate) fn engine(&self, log: LogId) -> &Memory {
        let live = self.disk.logs[&log].copy.expect("a copy was named");
        &self.files[&log].generations[&live]
    }
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            now: Time::ZERO,
            machines: Vec::new(),
            queue: BinaryHeap::new(),
            order: 0,
            links: BTreeMap::new(),
            next_link: 1,
            next_command: 1,
            cut: BTreeSet::new(),
            deaf: BTreeSet::new(),
            dials: 0,
            packets: 0,
        }
    }

    /// Another world in which the same machines are switched off.
    pub(crate) fn clone_disks(other: &Self) -> Self {
        let mut world = Self::new();
        for machine in &other.machines {
            let name = machine.config.name.clone().unwrap_or_default();
            let number = world.add(&name, machine.config.defaults.clone());
            world.machines[number].config = machine.config.clone();
            world.machines[number].disk = machine.disk.clone();
        }
        world
    }

    /// Adds a machine with a fresh disk; ids rise with the number, so that the first founds.
    pub(crate) fn add(&mut self, name: &str, defaults: Defaults) -> usize {
        let number = self.machines.len();
        let port = 2434 + u16::try_from(number).unwrap();
        let mut config = NodeConfig::loopback("demo", port);
        config.name = Some(name.to_owned());
        config.defaults = defaults;
        config.shards = Some(ShardLimits::default());
        let id = NodeId((u128::try_from(number).unwrap() + 1) << 96);
        self.machines.push(Machine {
            node: None,
            config,
            disk: Recovered::fresh(id),
            events: Vec::new(),
            stopped: None,
            replies: BTreeMap::new(),
            answers: BTreeMap::new(),
            files: BTreeMap::new(),
            aside: BTreeMap::new(),
            open: BTreeMap::new(),
            failed: BTreeMap::new(),
            password: "secret",
            sync: STEP,
            engine: STEP,
            filing: STEP,
            crash_after: None,
            written: 0,
            durable_at: Time::ZERO,
            unsynced: VecDeque::new(),
            starts: 0,
        });
        number
    }

    pub(crate) fn start(&mut self, number: usize) {
        let machine = &mut self.machines[number];
        machine.starts += 1;
        machine.stopped = None;
        let mut seed = [machine.starts; 32];
        seed[0] = u8::try_from(number).unwrap();
        let node = Node::new(machine.config.clone(), machine.disk.clone(), seed, self.now);
        machine.node = Some(node);
        self.drain(number);
    }

    /// The process ends at once; the peers' systems say so. What it had written survives.
    pub(crate) fn kill(&mut self, number: usize) {
        self.crash(number, usize::MAX);
    }

    /// The process ends at once; of its operations that were not durable the first `keep` survive.
    pub(crate) fn crash(&mut self, number: usize, keep: usize) {
        let machine = &mut self.machines[number];
        let unsynced = std::mem::take(&mut machine.unsynced);
        for op in unsynced.into_iter().flat_map(|(_, ops)| ops).take(keep) {
            machine.disk.apply(&op);
        }
        machine.durable_at = Time::ZERO;
        machine.files.values_mut().for_each(MemoryFiles::kill);
        machine.node = None;
        let gone: Vec<(LinkId, usize)> = self
            .links
            .iter()
            .filter_map(|(link, (a, b))| {
                let other = if *a == number { Some(*b) } else { (*b == number).then_some(*a) };
                other.map(|other| (*link, other))
            })
            .collect();
        for (link, other) in gone {
            self.links.remove(&link);
            self.later(other, What::Down(link));
        }
    }

    pub(crate) fn cut(&mut self, a: usize, b: usize) {
        self.cut.insert((a.min(b), a.max(b)));
    }

    /// The system of `at` gives up its links to `other`, which does not learn of it.
    pub(crate) fn forget_link(&mut self, at: usize, other: usize) {
        let between = |pair: &(usize, usize)| *pair == (at, other) || *pair == (other, at);
        let gone: Vec<LinkId> =
            self.links.iter().filter(|(_, pair)| between(pair)).map(|(link, _)| *link).collect();
        for link in gone {
            self.links.remove(&link);
            self.later(at, What::Down(link));
        }
    }

    /// Nothing that `from` sends reaches `to` any more.
    pub(crate) fn deafen(&mut self, from: usize, to: usize) {
        self.deaf.insert((from, to));
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
        self.deaf.clear();
    }

    pub(crate) fn command(&mut self, number: usize, command: Command) -> CommandId {
        let id = CommandId(self.next_command);
        self.next_command += 1;
        self.input(number, Input::Command { id, command });
        id
    }

    /// A link between these two, and who is on its other end as `one` sees it.
    pub(crate) fn link_between(&self, one: usize, other: usize) -> Option<(LinkId, usize)> {
        let joins = |pair: &(usize, usize)| *pair == (one, other) || *pair == (other, one);
        self.links.iter().find(|(_, pair)| joins(pair)).map(|(link, _)| (*link, other))
    }

    pub(crate) fn next_command_id(&mut self) -> CommandId {
        self.next_command += 1;
        CommandId(self.next_command - 1)
    }

    /// Asks a node to run a transaction in the shard `main` of a database.
    pub(crate) fn sql(
        &mut self,
        number: usize,
        database: &str,
        kind: SqlKind,
        transaction: Transaction,
    ) -> CommandId {
        let id = self.next_command_id();
        let (database, shard) = (database.to_owned(), None);
        let timeout = Duration::from_secs(5);
        let request = SqlRequest { database, shard, transaction, kind, timeout };
        self.input(number, Input::Sql { id, request });
        id
    }

    /// The copy of a node turns out to differ from the others.
    pub(crate) fn distrust(&mut self, number: usize, log: LogId) {
        let node = self.machines[number].node.as_mut().expect("the process runs");
        node.distrust_copy(log);
        self.input(number, Input::Timer);
    }

    pub(crate) fn node(&self, number: usize) -> &Node {
        self.machines[number].node.as_ref().expect("the process runs")
    }

    pub(crate) fn id(&self, number: usize) -> NodeId {
        self.machines[number].disk.identity.node
    }

    pub(crate) fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.queue.peek().is_some_and(|due| due.at <= end) {
            self.step();
        }
        self.now = end;
    }

    /// Runs until `condition` holds, for at most `limit`.
    pub(crate) fn until(&mut self, limit: Duration, condition: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + limit;
        while !condition(self) {
            if self.queue.peek().is_none_or(|due| due.at > end) {
                return false;
            }
            self.step();
        }
        true
    }

    fn step(&mut self) {
        let Some(due) = self.queue.pop() else { return };
        self.now = self.now.max(due.at);
        if self.machines[due.to].starts != due.start || self.machines[due.to].node.is_none() {
            return;
        }
        let node = self.machines[due.to].node.as_ref();
        if due.what == What::Wake && node.and_then(Node::next_timeout).is_none_or(|t| t > self.now)
        {
            return; // Something happened since; another wake is due.
        }
        let reachable = |link: &LinkId| {
            let pair = self.links.get(link);
            pair.is_some_and(|(a, b)| {
                let from = if *a == due.to { *b } else { *a };
                self.passes(from, due.to)
            })
        };
        let input = match due.what {
            What::Wake => Input::Timer,
            What::Durable(id) => {
                let machine = &mut self.machines[due.to];
                if let Some((first, ops)) = machine.unsynced.pop_front() {
                    assert_eq!(first, id, "batches become durable in order");
                    ops.iter().for_each(|op| machine.disk.apply(op));
                }
                Input::Persisted { id }
            }
            What::Packet(link, _) if !reachable(&link) => return,
            What::Packet(link, bytes) => Input::Packet { link, bytes },
            What::Datagram(from, bytes) => Input::Datagram { from, bytes },
            What::Down(link) => Input::LinkDown { link },
            What::Up(link, peer, dialed) => Input::LinkUp { link, peer, dialed },
            What::Failed(addr, error) => Input::DialFailed { addr, error },
            What::Refused(from) => Input::PeerRefused { from },
            What::Traffic => {
                let linked = |(a, b): &(usize, usize)| match due.to {
                    to if to == *a => Some(*b),
                    to if to == *b => Some(*a),
                    _ => None,
                };
                let peers: BTreeSet<usize> = self.links.values().filter_map(linked).collect();
                let id = |number: usize| self.machines[number].disk.identity.node;
                let traffic = peers.into_iter().map(|peer| (id(peer), Traffic::default()));
                Input::Traffic { traffic: traffic.collect() }
            }
            What::ReadLog(log, read) => {
                let held = self.machines[due.to].disk.logs.get(&log);
                let entries = held.map_or(Vec::new(), |held| held.read(read));
                Input::LogRead { log, id: read.id, result: Ok(entries) }
            }
            What::Engine(log, call) => {
                let Some(answer) = self.machines[due.to].carry_out(log, &call) else { return };
                Input::Engine { log, epoch: call.epoch, answer }
            }
            What::Copy(log, CopyCall::Import { origin, at, notes, generation }) => {
                let at = (at, notes.as_slice());
                let result = self.machines[due.to].import(log, origin, at, generation);
                Input::Copy { log, answer: CopyAnswer::Imported { result } }
            }
            What::Copy(log, call) => {
                let files = self.machines[due.to].files.entry(log).or_default();
                let Some(answer) = files.carry_out(call) else { return };
                Input::Copy { log, answer }
            }
        };
        self.input(due.to, input);
    }

    fn passes(&self, from: usize, to: usize) -> bool {
        !self.cut.contains(&(from.min(to), from.max(to))) && !self.deaf.contains(&(from, to))
    }

    fn later(&mut self, to: usize, what: What) {
        self.at(self.now + STEP, to, what);
    }

    fn at(&mut self, at: Time, to: usize, what: What) {
        self.order += 1;
        let start = self.machines[to].starts;
        self.queue.push(Due { at, order: self.order, to, start, what });
    }

    pub(crate) fn input(&mut self, number: usize, input: Input) {
        let now = self.now;
        if let Some(node) = &mut self.machines[number].node {
            node.handle(now, input);
        }
        self.drain(number);
    }

    fn drain(&mut self, number: usize) {
        let mut outputs = VecDeque::new();
        if let Some(node) = &mut self.machines[number].node {
            while let Some(output) = node.poll_output() {
                outputs.push_back(output);
            }
        }
        for output in outputs {
            assert!(self.machines[number].stopped.is_none(), "a stop is the last output");
            if self.machines[number].node.is_none() {
                return;
            }
            self.carry_out(number, output);
        }
        if let Some(due) = self.machines[number].node.as_ref().and_then(|n| n.next_timeout()) {
            self.at(due.max(self.now), number, What::Wake);
        }
    }

    fn carry_out(&mut self, number: usize, output: Output) {
        match output {
            Output::Persist { id, ops } => {
                let machine = &mut self.machines[number];
                machine.written += ops.len();
                machine.unsynced.push_back((id, ops));
                let at = machine.durable_at.max(self.now + machine.sync);
                let beyond = machine.crash_after;
                machine.durable_at = at;
                match beyond.and_then(|limit| machine.written.checked_sub(limit)) {
                    Some(lost) => {
                        let open: usize = machine.unsynced.iter().map(|(_, ops)| ops.len()).sum();
                        machine.crash_after = None;
                        machine.written -= lost;
                        self.crash(number, open - lost);
                    }
                    None => self.at(at, number, What::Durable(id)),
                }
            }
            Output::Datagram { bytes } => {
                let from = self.machines[number].config.addresses.node;
                for other in 0..self.machines.len() {
                    if other != number && self.passes(number, other) {
                        self.later(other, What::Datagram(from, bytes.clone()));
                    }
                }
            }
            Output::Dial { addr } => self.dial(number, addr),
            Output::Close { link } => {
                if let Some((a, b)) = self.links.remove(&link) {
                    self.later(if a == number { b } else { a }, What::Down(link));
                }
            }
            Output::Packet { link, bytes } => {
                self.packets += 1;
                if let Some((a, b)) = self.links.get(&link).copied() {
                    self.later(if a == number { b } else { a }, What::Packet(link, bytes));
                }
            }
            Output::Reply { id, reply } => {
                self.machines[number].replies.insert(id, reply);
            }
            Output::SqlReply { id, reply, of: _ } => {
                let before = self.machines[number].answers.insert(id, reply);
                assert_eq!(before, None, "{id:?} is answered twice");
            }
            Output::Engine { log, call } => {
                let at = self.now + self.machines[number].engine;
                self.at(at, number, What::Engine(log, call));
            }
            Output::ReadLog { log, read } => self.later(number, What::ReadLog(log, read)),
            Output::CloseEngine { log } => {
                self.machines[number].open.remove(&log);
            }
            Output::Copy { log, call } => {
                let at = self.now + self.machines[number].filing;
                self.at(at, number, What::Copy(log, call));
            }
            Output::CountTraffic => self.later(number, What::Traffic),
            Output::Event(event) => self.machines[number].events.push(event),
            Output::Stop(reason) => {
                self.machines[number].stopped = Some(reason);
                self.kill(number);
            }
        }
    }

    fn dial(&mut self, number: usize, addr: SocketAddr) {
        self.dials += 1;
        let there = self.machines.iter().position(|m| m.config.addresses.node == addr);
        let running = there.filter(|other| self.machines[*other].node.is_some());
        let reached =
            running.filter(|other| self.passes(number, *other) && self.passes(*other, number));
        let Some(other) = reached else {
            self.later(number, What::Failed(addr, DialError::Unreachable));
            return;
        };
        if other == number {
            self.later(number, What::Failed(addr, DialError::Myself));
            return;
        }
        let from = self.machines[number].config.addresses.node;
        let (mine, theirs) = (&self.machines[number], &self.machines[other]);
        if (mine.password, &mine.config.group) != (theirs.password, &theirs.config.group) {
            self.later(number, What::Failed(addr, DialError::Refused));
            self.later(other, What::Refused(from));
            return;
        }
        let link = LinkId(self.next_link);
        self.next_link += 1;
        self.links.insert(link, (number, other));
        self.later(number, What::Up(link, self.id(other), Some(addr)));
        self.later(other, What::Up(link, self.id(number), None));
    }

    /// Whether the machines in `numbers` are members of one cluster, see it alike, and it has just
    /// these servers, all there and with the vote they should have.
    pub(crate) fn agree(&self, numbers: &[usize]) -> bool {
        let Some(first) = numbers.first() else { return true };
        let Some(document) = self.machines[*first].node.as_ref().and_then(|n| n.configuration())
        else {
            return false;
        };
        numbers.iter().all(|number| {
            self.machines[*number].node.as_ref().is_some_and(|node| {
                let raft = node.configuration_log();
                node.state() == State::Member
                    && node.configuration() == Some(document)
                    && document.servers.contains_key(&node.id())
                    && raft.is_some_and(|raft| {
                        let masters = document.masters().map(|(id, _)| id);
                        !raft.membership().is_joint()
                            && raft.membership().incoming.voters == masters.collect()
                            && raft.leader().is_some()
                    })
            })
        })
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for machine in &self.machines {
            let status = machine.node.as_ref().map(|n| n.status(self.now));
            writeln!(f, "{:?}\n{status:#?}\n{:?}\n", machine.config.name, machine.events)?;
        }
        Ok(())
    }
}
