use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng as _;

use super::super::*;
use crate::engine::memory::Memory;
use crate::engine::{
    ContentHash, Engine as _, Fault, Reader as _, Rows, SqlLimits, Statement, Transaction, Value,
};
use crate::ids::LogId;
use crate::raft::{
    ConfigVersion, Entry, Half, Limits, Membership, Payload, Settings, Snapshot, Unreadable,
};
use crate::storage::{HardState, RecoveredLog};

pub(super) const A: NodeId = NodeId(1);
pub(super) const B: NodeId = NodeId(2);
pub(super) const C: NodeId = NodeId(3);
pub(super) const LOG: LogId = LogId(7);
pub(super) const CLUSTER: crate::ids::ClusterId = crate::ids::ClusterId(5);

pub(super) struct Host {
    pub shard: Option<Shard>,
    pub disk: RecoveredLog,
    unwritten: VecDeque<(Ticket, Vec<StorageOp>)>,
    pub engine: Memory,
    /// Its disk is full: it opens, and every write fails.
    pub full: bool,
    pub calls: VecDeque<Call>,
    /// Entries wanted from the log on the disk.
    pub wanted: VecDeque<LogRead>,
    /// An entry that cannot be read back.
    pub unreadable: Option<Index>,
    /// The epoch in which a call has failed: nothing more of it is carried out.
    failed: u64,
    opened: bool,
    starts: u64,
}

/// A world of copies. Nothing moves but by the methods below.
pub(super) struct World {
    pub now: Time,
    pub hosts: BTreeMap<NodeId, Host>,
    pub wires: BTreeMap<(NodeId, NodeId), VecDeque<Message>>,
    pub cut: BTreeSet<(NodeId, NodeId)>,
    pub replies: BTreeMap<RequestId, Reply>,
    pub terms: Terms,
    pub limits: ShardLimits,
    pub sql: SqlLimits,
    pub window: crate::storage::Window,
    requests: u64,
    /// How many questions for entries on the disk were answered.
    pub reads: u64,
    first: Membership,
    /// The content at each position that any copy ever had.
    contents: BTreeMap<Position, (NodeId, ContentHash, BTreeMap<u64, bytes::Bytes>)>,
    /// What each copy said it is at each mark.
    /// A copy was changed by hand: they may differ.
    pub spoiled: bool,
    pub hashes: BTreeMap<Mark, BTreeMap<NodeId, Hashed>>,
}

/// What the copies of the world's shard call themselves.
pub(super) fn name() -> Name {
    Name::new(crate::ids::ClusterId(1), LogId(7))
}

pub(super) fn insert(key: i64) -> Transaction {
    let sql = "INSERT INTO t (k, v) VALUES (?, ?)";
    let args = vec![Value::Integer(key), Value::Integer(1)];
    Transaction { statements: vec![Statement::with(sql, args)] }
}

pub(super) fn add(key: i64, more: i64) -> Transaction {
    let sql = "UPDATE t SET v = v + ? WHERE k = ?";
    let args = vec![Value::Integer(more), Value::Integer(key)];
    Transaction { statements: vec![Statement::with(sql, args)] }
}

pub(super) fn sql(text: &str) -> Transaction {
    Transaction { statements: vec![Statement::new(text)] }
}

pub(super) fn select() -> Transaction {
    sql("SELECT k, v FROM t ORDER BY k")
}

pub(super) fn create() -> Transaction {
    sql("CREATE TABLE t (k INTEGER PRIMARY KEY, v)")
}

impl World {
    pub(super) fn of(voters: &[NodeId]) -> Self {
        let half =
            Half { voters: voters.iter().copied().collect(), tie_breaker: voters.first().copied() };
        let first = Membership {
            incoming: half,
            outgoing: None,
            learners: BTreeSet::new(),
            version: ConfigVersion(1),
        };
        let mut world = Self {
            now: Time::from_millis(1000),
            hosts: BTreeMap::new(),
            wires: BTreeMap::new(),
            cut: BTreeSet::new(),
            replies: BTreeMap::new(),
            terms: Terms { online: true, ..Terms::default() },
            limits: ShardLimits::default(),
            sql: SqlLimits::default(),
            window: crate::storage::Window::default(),
            requests: 0,
            reads: 0,
            first,
            contents: BTreeMap::new(),
            spoiled: false,
            hashes: BTreeMap::new(),
        };
        for node in voters {
            let payload = Payload::Membership(world.first.clone());
            let entry = Entry { index: Index(1), term: Term(1), payload };
            let hard_state = HardState { term: Term(1), vote: None, commit: Index(1) };
            let disk = RecoveredLog { hard_state, entries: vec![entry], ..RecoveredLog::default() };
            let host = Host {
                shard: None,
                disk,
                unwritten: VecDeque::new(),
                engine: Memory::default(),
                full: false,
                calls: VecDeque::new(),
                wanted: VecDeque::new(),
                unreadable: None,
                failed: 0,
                opened: false,
                starts: 0,
            };
            world.hosts.insert(*node, host);
            world.start(*node);
        }
        world
    }

    /// A world with a leader, a table, and nothing under way.
    pub(super) fn led(voters: &[NodeId]) -> (Self, NodeId) {
        let mut world = Self::of(voters);
        world.run(3000);
        let leader = world.owner().expect("somebody leads");
        let id = world.write(leader, create());
        world.settle();
        assert!(matches!(world.replies[&id], Reply::Done { .. }), "{:?}", world.replies[&id]);
        (world, leader)
    }

    pub(super) fn start(&mut self, node: NodeId) {
        let (limits, now) = (self.limits, self.now);
        let host = self.hosts.get_mut(&node).expect("a host");
        host.starts += 1;
        let settings = Settings {
            node,
            log: LOG,
            content: crate::raft::Content::Apart,
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(300),
            election_max: Duration::from_millis(600),
            limits: Limits { window: self.window, ..Limits::default() },
        };
        let mut seed = [0; 32];
        seed[0] = u8::try_from(node.0).unwrap();
        seed[1] = u8::try_from(host.starts % 251).unwrap();
        let copy = host.disk.copy;
        let recovered = host.disk.clone().within(self.window);
        let raft = Raft::new(settings, recovered, ChaCha8Rng::from_seed(seed), now);
        let mut shard = Shard::new(raft, (copy, Some(name())), limits, now);
        shard.set_terms(now, self.terms.clone());
        host.shard = Some(shard);
        (host.failed, host.opened) = (0, false);
        self.drain(node);
    }

    /// The process ends; of what the log wrote and nobody synced `keep` operations survive.
    pub(super) fn kill(&mut self, node: NodeId, keep: usize, power: bool) {
        let host = self.hosts.get_mut(&node).expect("a host");
        host.shard = None;
        host.calls.clear();
        host.wanted.clear();
        if power {
            host.engine.lose_power();
        } else {
            host.engine.kill();
        }
        let ops: Vec<StorageOp> =
            std::mem::take(&mut host.unwritten).into_iter().flat_map(|(_, ops)| ops).collect();
        for op in ops.iter().take(keep) {
            apply(&mut host.disk, op);
        }
        self.wires.retain(|(from, to), _| *from != node && *to != node);
    }

    pub(super) fn at(&self, node: NodeId) -> &Shard {
        self.hosts[&node].shard.as_ref().expect("it runs")
    }

    pub(super) fn with<R>(&mut self, node: NodeId, f: impl FnOnce(&mut Shard, Time) -> R) -> R {
        let now = self.now;
        let shard = self.hosts.get_mut(&node).and_then(|h| h.shard.as_mut()).expect("it runs");
        let result = f(shard, now);
        shard.flush(now);
        self.drain(node);
        result
    }

    fn drain(&mut self, node: NodeId) {
        let now = self.now;
        let host = self.hosts.get_mut(&node).expect("a host");
        let Some(shard) = &mut host.shard else { return };
        host.unwritten.extend(shard.take_batch(now));
        while let Some((to, message)) = shard.next_message() {
            self.wires.entry((node, to)).or_default().push_back(message);
        }
        while let Some(call) = shard.next_call() {
            host.calls.push_back(call);
        }
        host.wanted.extend(std::iter::from_fn(|| shard.next_read()));
        let base = shard.log().snapshot().index;
        let synced = host.engine.synced_at().index;
        assert!(base <= synced, "{node:?}: the log begins behind {base}, durable is {synced}");
        while let Some((mark, hashed)) = shard.next_hash() {
            let told = self.hashes.entry(mark).or_default();
            let before = told.insert(node, hashed);
            assert_eq!(before, None, "{node:?} answers {mark:?} twice");
            let mut hashes = told.values().filter_map(|hashed| hashed.as_ref().ok());
            let first = hashes.next();
            assert!(self.spoiled || hashes.all(|other| Some(other) == first), "{told:?}");
        }
        while let Some((id, reply)) = shard.next_reply() {
            let before = self.replies.insert(id, reply.clone());
            assert_eq!(before, None, "{id:?} is answered twice, now with {reply:?}");
        }
    }

    pub(super) fn write(&mut self, node: NodeId, transaction: Transaction) -> RequestId {
        self.send(node, transaction, Delivery::Plain)
    }

    pub(super) fn send(
        &mut self,
        node: NodeId,
        transaction: Transaction,
        delivery: Delivery,
    ) -> RequestId {
        let (id, deadline) = (self.next_id(), self.now + Duration::from_secs(5));
        let write = Write { id, transaction, delivery, deadline };
        self.with(node, |shard, now| shard.write(now, write));
        id
    }

    /// Asks for an interactive transaction.
    pub(super) fn begin(&mut self, node: NodeId) -> RequestId {
        self.send(node, Transaction::default(), Delivery::Begins)
    }

    /// An interactive transaction that is open.
    pub(super) fn began(&mut self, owner: NodeId) -> TransactionId {
        let id = self.begin(owner);
        self.settle();
        match &self.replies[&id] {
            Reply::Began { transaction } => *transaction,
            other => panic!("not begun: {other:?}"),
        }
    }

    pub(super) fn step(
        &mut self,
        node: NodeId,
        of: TransactionId,
        transaction: Transaction,
    ) -> RequestId {
        let (id, deadline) = (self.next_id(), self.now + Duration::from_secs(5));
        let step = Step { id, of, transaction, deadline };
        self.with(node, |shard, now| shard.step(now, step));
        id
    }

    pub(super) fn finish(
        &mut self,
        node: NodeId,
        of: TransactionId,
        once: Option<Once>,
    ) -> RequestId {
        self.send(node, Transaction::default(), Delivery::Finishes(of, once))
    }

    pub(super) fn abandon(&mut self, node: NodeId, of: TransactionId) -> RequestId {
        let id = self.next_id();
        self.with(node, |shard, now| shard.abandon(now, id, of));
        id
    }

    /// A session that is open.
    pub(super) fn session(&mut self, owner: NodeId) -> SessionId {
        let id = self.send(owner, Transaction::default(), Delivery::Opens);
        self.settle();
        match &self.replies[&id] {
            Reply::Session { session } => *session,
            other => panic!("no session: {other:?}"),
        }
    }

    pub(super) fn read(
        &mut self,
        node: NodeId,
        transaction: Transaction,
        consistency: Consistency,
    ) -> RequestId {
        let (id, deadline) = (self.next_id(), self.now + Duration::from_secs(5));
        let read = Read { id, transaction, consistency, deadline };
        self.with(node, |shard, now| shard.read(now, read));
        id
    }

    /// Has every copy that runs expect a mark, which `node` puts.
    pub(super) fn mark(&mut self, node: NodeId) -> Mark {
        let term = self.at(node).log().term();
        let mark = Mark { term, number: self.next_id().0 };
        let until = self.now + Duration::from_secs(5);
        let all: Vec<NodeId> = self.hosts.keys().copied().collect();
        for other in all {
            if self.hosts[&other].shard.is_some() {
                self.with(other, |shard, now| shard.expect_mark(now, mark, until));
            }
        }
        // Refused where it does not lead.
        let _ = self.with(node, |shard, now| shard.put_mark(now, mark));
        mark
    }

    fn next_id(&mut self) -> RequestId {
        self.requests += 1;
        RequestId(self.requests)
    }

    /// The oldest batch of the log is durable.
    pub(super) fn persist(&mut self, node: NodeId) -> bool {
        let host = self.hosts.get_mut(&node).expect("a host");
        if host.shard.is_none() {
            return false;
        }
        let Some((ticket, ops)) = host.unwritten.pop_front() else { return false };
        ops.iter().for_each(|op| apply(&mut host.disk, op));
        self.with(node, |shard, now| shard.persisted(now, ticket));
        true
    }

    /// The oldest question for entries of the log on the disk is answered.
    pub(super) fn answer_read(&mut self, node: NodeId) -> bool {
        let host = self.hosts.get_mut(&node).expect("a host");
        let Some(read) = host.wanted.pop_front().filter(|_| host.shard.is_some()) else {
            return false;
        };
        let mut entries = host.disk.read(read);
        entries.truncate(3);
        self.reads += 1;
        let lost = entries.iter().position(|entry| host.unreadable == Some(entry.index));
        entries.truncate(lost.unwrap_or(usize::MAX));
        let read_back = match lost {
            Some(0) => Err(Unreadable { index: read.from }),
            _ => Ok(entries),
        };
        self.with(node, |shard, now| shard.log_read(now, read.id, read_back));
        true
    }

    /// Whoever lacks what no log holds any more gets the content of another. Whether it did.
    pub(super) fn copy_to(&mut self, node: NodeId) -> bool {
        let Some(wanted) = self.hosts[&node].shard.as_ref().and_then(|s| s.log().wanted()) else {
            return false;
        };
        let up = self.hosts.iter().filter(|(n, host)| **n != node && host.shard.is_some());
        let Some((_, donor)) = up.max_by_key(|(_, host)| host.engine.position().index) else {
            return false;
        };
        let (base, engine) = sent(donor);
        let begins = donor.shard.as_ref().expect("it runs").log().snapshot().index;
        let held = self.at(node).log().snapshot().index;
        if base.index < wanted || base.index < held || begins > base.index {
            return false;
        }
        self.hosts.get_mut(&node).expect("a host").engine = engine;
        self.with(node, |shard, now| {
            let generation = Generation(shard.generation.map_or(1, |g| g.0 + 1));
            shard.raft.install_copy(generation, base);
            shard.generation = Some(generation);
            shard.break_copy(Fault::Missing("it is replaced".to_owned()));
            shard.copy = CopyState::Closed { until: now, wait: shard.limits.reopen };
            shard.drive();
        });
        true
    }

    pub(super) fn deliver(&mut self, from: NodeId, to: NodeId) -> bool {
        let Some(message) = self.wires.get_mut(&(from, to)).and_then(VecDeque::pop_front) else {
            return false;
        };
        if self.hosts[&to].shard.is_none() || self.cut.contains(&(from.min(to), from.max(to))) {
            return true;
        }
        self.with(to, |shard, now| shard.receive(now, from, message));
        true
    }

    /// The engine carries out its next call.
    pub(super) fn step_engine(&mut self, node: NodeId) -> bool {
        let sql = self.sql;
        let host = self.hosts.get_mut(&node).expect("a host");
        if host.shard.is_none() {
            return false;
        }
        let Some(Call { epoch, what }) = host.calls.pop_front() else { return false };
        let before = host.engine.position();
        let answer = match what {
            CallKind::Query(id, transaction) => {
                Some(Answer::Queried(id, host.engine.query(&transaction, &sql)))
            }
            _ if host.failed == epoch => None,
            CallKind::Hash(mark) => Some(Answer::Hashed(mark, Ok(host.engine.hash()))),
            what => Some(match carry_out(host, what, &sql) {
                Ok(answer) => answer,
                Err(fault) => {
                    assert!(!matches!(fault, Fault::Misuse { .. }), "{node:?}: {fault}");
                    host.failed = epoch;
                    Answer::Failed(fault)
                }
            }),
        };
        let at = host.engine.position();
        if at != before {
            let fault = host.engine.fail.take();
            let hash = host.engine.content_hash().expect("it does not fail");
            host.engine.fail = fault;
            let notes = host.engine.noted().clone();
            let held = self.contents.entry(at).or_insert_with(|| (node, hash, notes.clone()));
            assert_eq!(held.1, hash, "{node:?} differs from {:?} at {at:?}", held.0);
            assert_eq!(held.2, notes, "{node:?} notes other than {:?} at {at:?}", held.0);
        }
        if let Some(answer) = answer {
            self.with(node, |shard, now| shard.answer(now, epoch, answer));
        }
        true
    }

    /// Everything that can happen without time passing happens, but nothing at `stuck` engines.
    pub(super) fn settle_but(&mut self, stuck: &[NodeId]) {
        for _ in 0..100_000 {
            let nodes: Vec<NodeId> = self.hosts.keys().copied().collect();
            let mut moved = false;
            for node in &nodes {
                while self.persist(*node) {
                    moved = true;
                }
                while !stuck.contains(node) && self.step_engine(*node) {
                    moved = true;
                }
                while self.answer_read(*node) {
                    moved = true;
                }
            }
            let wires: Vec<(NodeId, NodeId)> = self.wires.keys().copied().collect();
            for (from, to) in wires {
                while self.deliver(from, to) {
                    moved = true;
                }
            }
            if !moved {
                return;
            }
        }
        panic!("it does not settle");
    }

    pub(super) fn settle(&mut self) {
        self.settle_but(&[]);
    }

    /// Time passes, and all that follows happens at once.
    pub(super) fn run(&mut self, ms: u64) {
        self.run_but(ms, &[]);
    }

    /// As [`World::run`], but the engines of `stuck` answer nothing.
    pub(super) fn run_but(&mut self, ms: u64, stuck: &[NodeId]) {
        for _ in 0..ms / 10 {
            self.now = self.now + Duration::from_millis(10);
            self.tick_all();
            self.settle_but(stuck);
        }
    }

    pub(super) fn tick_all(&mut self) {
        let running: Vec<NodeId> =
            self.hosts.iter().filter(|(_, h)| h.shard.is_some()).map(|(n, _)| *n).collect();
        for node in running {
            if self.at(node).next_timeout() <= self.now {
                self.with(node, |shard, now| shard.tick(now));
            }
        }
    }

    pub(super) fn cut(&mut self, one: NodeId, other: NodeId) {
        self.cut.insert((one.min(other), one.max(other)));
    }

    pub(super) fn set_terms(&mut self, terms: Terms) {
        self.terms = terms.clone();
        let nodes: Vec<NodeId> = self.hosts.keys().copied().collect();
        for node in nodes {
            if self.hosts[&node].shard.is_some() {
                self.with(node, |shard, now| shard.set_terms(now, terms.clone()));
            }
        }
    }

    /// Whoever owns the shard in the latest term.
    pub(super) fn owner(&self) -> Option<NodeId> {
        let owners =
            self.hosts.iter().filter_map(|(node, host)| Some((host.shard.as_ref()?, node)));
        let owners = owners.filter(|(shard, _)| shard.is_owner());
        owners.max_by_key(|(shard, _)| shard.log().term()).map(|(_, node)| *node)
    }

    pub(super) fn other_than(&self, node: NodeId) -> NodeId {
        *self.hosts.keys().find(|other| **other != node).expect("another")
    }

    /// The rows of a done request.
    pub(super) fn rows(&self, id: RequestId) -> Vec<Rows> {
        match &self.replies[&id] {
            Reply::Done { rows, .. } => rows.clone(),
            other => panic!("{id:?} failed: {other:?}"),
        }
    }

    pub(super) fn error(&self, id: RequestId) -> ShardError {
        match &self.replies[&id] {
            Reply::Failed(error) => error.clone(),
            other => panic!("{id:?} is {other:?}"),
        }
    }

    pub(super) fn keys(&self, node: NodeId) -> BTreeSet<i64> {
        self.hosts[&node].engine.table("t").into_keys().collect()
    }
}

/// The content of a copy, as another gets it whole, and what its log begins behind then.
pub(super) fn sent(donor: &Host) -> (Snapshot, Memory) {
    let mut engine = donor.engine.clone();
    engine.kill();
    engine.sync().expect("it does not fail");
    let (at, log) = (engine.position(), donor.shard.as_ref().expect("it runs").log());
    let membership = log.membership_at(at.index).clone();
    (Snapshot { index: at.index, term: at.term, membership, data: bytes::Bytes::new() }, engine)
}

fn carry_out(host: &mut Host, what: CallKind, sql: &SqlLimits) -> Result<Answer, Fault> {
    let engine = &mut host.engine;
    assert!(host.opened || matches!(what, CallKind::Open { .. }), "{what:?} before it is open");
    let writes = matches!(what, CallKind::Execute(..) | CallKind::Commit(..) | CallKind::Apply(..));
    if host.full && writes {
        return Err(Fault::Full("as told".to_owned()));
    }
    Ok(match what {
        CallKind::Open { .. } => {
            if let Some(fault) = engine.fail.take() {
                return Err(fault);
            }
            engine.kill();
            host.opened = true;
            Answer::Opened(engine.position(), engine.notes()?)
        }
        CallKind::Execute(batch, rights) => {
            Answer::Executed(engine.execute(&batch, &SqlLimits { rights, ..*sql })?)
        }
        CallKind::Begin(rights, _) => {
            engine.begin(&SqlLimits { rights, ..*sql }).map(|()| Answer::Begun)?
        }
        CallKind::Step(statements) => Answer::Stepped(engine.step(&statements)?),
        CallKind::Finish => Answer::Executed(engine.finish()?),
        CallKind::Commit(at, notes) => engine.commit(at, &notes).map(|()| Answer::Committed)?,
        CallKind::Rollback => engine.rollback().map(|()| Answer::RolledBack)?,
        CallKind::Apply(entries, notes) => {
            engine.apply(&entries, &notes).map(|()| Answer::Applied)?
        }
        CallKind::Sync => Answer::Synced(engine.sync()?),
        CallKind::Query(..) | CallKind::Hash(_) => unreachable!("answered elsewhere"),
    })
}

fn apply(disk: &mut RecoveredLog, op: &StorageOp) {
    let mut whole = crate::storage::Recovered::fresh(NodeId(0));
    whole.logs.insert(LOG, std::mem::take(disk));
    whole.apply(op);
    *disk = whole.logs.remove(&LOG).unwrap_or_default();
}
