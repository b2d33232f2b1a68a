//! A client among servers that keep one history, fail as they are told, and lose what is on its way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use super::super::*;
use crate::configuration::CopyStatus;
use crate::engine::{Position, Rows, SqlError, SqlErrorKind, Statement, Transaction, Value};
use crate::ids::{ClusterId, ConfigVersion, DatabaseId, Index, LogId, NodeId, Term};
use crate::shard::{
    Consistency, Once, Reply, SessionId, ShardError, ShardId, SqlKind, TransactionId,
};

pub(super) const LOG: LogId = LogId(7);
pub(super) const DATABASE: DatabaseId = DatabaseId(1);

/// How a server answers writes and linearizable reads.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Mood {
    /// It does what it is asked.
    Well,
    /// It hears, and never answers: frozen, with all connections open.
    Frozen,
    /// It does what it is asked, and its answer is lost with the connection.
    DoesAndDrops,
    /// It says this, and has done nothing.
    Says(ShardError),
    /// It does it, and says that it does not know.
    Unsure,
}

pub(super) struct Server {
    pub node: NodeId,
    pub up: bool,
    pub mood: Mood,
    /// How far its copy is.
    pub applied: u64,
    pub asked: u64,
}

pub(super) struct World {
    pub now: Time,
    pub client: Client,
    pub servers: BTreeMap<SocketAddr, Server>,
    pub conns: BTreeMap<ConnectionId, SocketAddr>,
    /// On its way to servers, and back.
    pub there: VecDeque<(ConnectionId, ToServer)>,
    pub back: VecDeque<(ConnectionId, ToClient)>,
    pub answers: BTreeMap<TicketId, Answer>,
    pub events: Vec<Event>,
    /// Sessions that are known.
    pub sessions: BTreeSet<SessionId>,
    /// What ran: by session and sequence, the position and the key that was inserted.
    pub ran: BTreeMap<(SessionId, u64), (u64, i64)>,
    /// By key, how often it was inserted.
    pub keys: BTreeMap<i64, u32>,
    pub index: u64,
    /// The interactive transaction that is open, and what was inserted in it.
    pub open: Option<(TransactionId, Vec<i64>)>,
    begun: u64,
    tickets: u64,
    pub dialed: Vec<SocketAddr>,
    pub layout: Layout,
    /// The log of the database that has the name now.
    pub log: LogId,
    /// The client's user may not write.
    pub read_only: bool,
    /// Servers that take so long to welcome the client, and whom they will welcome when.
    slow: BTreeMap<SocketAddr, Duration>,
    welcomes: Vec<(Time, ConnectionId, NodeId)>,
    /// Servers that do not want the client, why, and whether they think that of all others.
    refusing: BTreeMap<SocketAddr, (String, bool)>,
}

pub(super) fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number], 2424))
}

impl World {
    pub(super) fn with(servers: u8, config: impl FnOnce(&mut ClientConfig)) -> Self {
        let mut used = ClientConfig::new((1..=servers).map(address).collect());
        config(&mut used);
        let layout = Layout {
            cluster: Some(ClusterId(1)),
            version: ConfigVersion(1),
            servers: (1..=servers).map(listed).collect(),
            shards: vec![LayoutShard {
                database: "demo".to_owned(),
                id: DATABASE,
                name: "main".to_owned(),
                log: LOG,
                owner: Some(NodeId(1)),
                term: Term(1),
                is_linearizable: false,
                copies: (1..=servers).map(|n| (NodeId(n.into()), CopyStatus::Online)).collect(),
            }],
        };
        let server = |n: u8| {
            let (node, mood) = (NodeId(n.into()), Mood::Well);
            (address(n), Server { node, up: true, mood, applied: 0, asked: 0 })
        };
        let now = Time::from_millis(1);
        let mut world = Self {
            now,
            client: Client::new(used, [3; 32], now),
            servers: (1..=servers).map(server).collect(),
            conns: BTreeMap::new(),
            there: VecDeque::new(),
            back: VecDeque::new(),
            answers: BTreeMap::new(),
            events: Vec::new(),
            sessions: BTreeSet::new(),
            ran: BTreeMap::new(),
            keys: BTreeMap::new(),
            index: 0,
            open: None,
            begun: 0,
            tickets: 0,
            dialed: Vec::new(),
            layout,
            log: LOG,
            read_only: false,
            slow: BTreeMap::new(),
            welcomes: Vec::new(),
            refusing: BTreeMap::new(),
        };
        world.drain();
        world
    }

    pub(super) fn of(servers: u8) -> Self {
        let mut world = Self::with(servers, |_| {});
        world.settle();
        world
    }

    fn handle(&mut self, input: Input) {
        self.client.handle(self.now, input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.client.poll_output() {
            match output {
                Output::Dial(id, to) => {
                    self.dialed.push(to);
                    self.conns.insert(id, to);
                    let refused = self.refusing.get(&to).cloned();
                    match self.servers.get(&to).filter(|server| server.up) {
                        Some(_) if refused.is_some() => {
                            let (reason, final_) = refused.expect("it is");
                            self.back.push_back((id, ToClient::Refused { reason, final_ }));
                        }
                        Some(server) if self.slow.contains_key(&to) => {
                            self.welcomes.push((self.now + self.slow[&to], id, server.node));
                        }
                        Some(server) if server.mood != Mood::Frozen => {
                            let node = server.node;
                            self.back.push_back((id, ToClient::Welcome { node }));
                            self.back.push_back((id, ToClient::Layout(self.layout.clone())));
                        }
                        Some(_) => {}
                        None => self.close(id),
                    }
                }
                Output::Send(id, message) => self.there.push_back((id, message)),
                Output::Close(id) => {
                    self.conns.remove(&id);
                    self.there.retain(|(of, _)| *of != id);
                    self.back.retain(|(of, _)| *of != id);
                }
                Output::Answer(ticket, answer) => {
                    let before = self.answers.insert(ticket, answer);
                    assert_eq!(before, None, "{ticket:?} is answered twice");
                }
                Output::Event(event) => self.events.push(event),
            }
        }
    }

    /// The connection ends by itself: what is on its way is lost, the client hears of it.
    pub(super) fn close(&mut self, id: ConnectionId) {
        if self.conns.remove(&id).is_some() {
            self.there.retain(|(of, _)| *of != id);
            self.back.retain(|(of, _)| *of != id);
            self.handle(Input::Closed(id));
        }
    }

    pub(super) fn crash(&mut self, server: u8) {
        self.servers.get_mut(&address(server)).expect("a server").up = false;
        let gone: Vec<ConnectionId> =
            self.conns.iter().filter(|(_, to)| **to == address(server)).map(|c| *c.0).collect();
        gone.into_iter().for_each(|id| self.close(id));
    }

    pub(super) fn start(&mut self, server: u8) {
        self.servers.get_mut(&address(server)).expect("a server").up = true;
    }

    /// From now on a server takes so long to welcome the client.
    pub(super) fn slow(&mut self, server: u8, ms: u64) {
        self.slow.insert(address(server), Duration::from_millis(ms));
    }

    pub(super) fn refuse(&mut self, server: u8, why: Option<(&str, bool)>) {
        match why {
            Some((why, final_)) => self.refusing.insert(address(server), (why.to_owned(), final_)),
            None => self.refusing.remove(&address(server)),
        };
    }

    pub(super) fn mood(&mut self, server: u8, mood: Mood) {
        self.servers.get_mut(&address(server)).expect("a server").mood = mood;
    }

    pub(super) fn request(&mut self, kind: Kind, key: i64, ms: u64) -> TicketId {
        self.tickets += 1;
        let ticket = TicketId(self.tickets);
        let statement = Statement::with("INSERT", [Value::Integer(key)]);
        let request = Request {
            database: "demo".to_owned(),
            shard: None,
            transaction: Transaction { statements: vec![statement] },
            kind,
            timeout: Duration::from_millis(ms),
        };
        self.handle(Input::Request(ticket, request));
        ticket
    }

    pub(super) fn write(&mut self, key: i64, ms: u64) -> TicketId {
        self.request(Kind::Write, key, ms)
    }

    pub(super) fn forget(&mut self, ticket: TicketId) {
        self.handle(Input::Forget(ticket));
    }

    /// A server gets the next message that is on its way to one.
    pub(super) fn step_there(&mut self) -> bool {
        let Some((id, message)) = self.there.pop_front() else { return false };
        let Some(to) = self.conns.get(&id).copied() else { return true };
        let mood = self.servers[&to].mood.clone();
        if mood == Mood::Frozen {
            return true;
        }
        let ToServer::Sql { id: number, transaction, kind, .. } = message else {
            if let ToServer::Ping(n) = message {
                self.back.push_back((id, ToClient::Pong(n)));
            }
            return true;
        };
        self.servers.get_mut(&to).expect("a server").asked += 1;
        let writes = !matches!(kind, SqlKind::Read(_));
        if self.read_only && writes {
            let reason = "it needs the role writer".to_owned();
            self.back.push_back((id, ToClient::Denied { id: number, reason }));
            return true;
        }
        let key = match transaction.statements.first().and_then(|s| s.args.first()) {
            Some(Value::Integer(key)) => *key,
            _ => 0,
        };
        let owner_needed = !matches!(
            kind,
            SqlKind::Read(Consistency::Local | Consistency::AsConfigured | Consistency::Since(_))
        );
        let reply = match mood {
            Mood::Says(error) if owner_needed => Reply::Failed(error),
            Mood::DoesAndDrops if owner_needed => {
                self.run(to, kind, key);
                self.close(id);
                return true;
            }
            Mood::Unsure if owner_needed => {
                self.run(to, kind, key);
                Reply::Failed(ShardError::OutcomeUnknown)
            }
            _ => self.run(to, kind, key),
        };
        let of = Some(ShardId { cluster: ClusterId(1), database: DATABASE, log: self.log });
        self.back.push_back((id, ToClient::Reply { id: number, reply, of }));
        true
    }

    fn run(&mut self, to: SocketAddr, kind: SqlKind, key: i64) -> Reply {
        let at = |index| Position { index: Index(index), term: Term(1) };
        match kind {
            SqlKind::OpenSession => {
                self.index += 1;
                let session = SessionId { at: at(self.index), number: 0 };
                self.sessions.insert(session);
                Reply::Session { session }
            }
            SqlKind::Once(once) => self.done_once(once, Some(vec![key])),
            SqlKind::Begin if self.open.is_some() => Reply::Failed(ShardError::TimedOut),
            SqlKind::Begin => {
                self.begun += 1;
                let transaction = TransactionId { term: Term(1), number: self.begun };
                self.open = Some((transaction, Vec::new()));
                Reply::Began { transaction }
            }
            SqlKind::Step(of) => match &mut self.open {
                // Its keys are such that this one is there already.
                Some((id, _)) if *id == of && key < 0 => {
                    let error = Some(SqlError {
                        statement: 0,
                        kind: SqlErrorKind::Constraint,
                        code: 1555,
                        message: format!("the key {key} is there already"),
                    });
                    Reply::Stepped { rows: Vec::new(), error }
                }
                Some((id, keys)) if *id == of => {
                    keys.push(key);
                    let rows = vec![Rows { affected: 1, ..Rows::default() }];
                    Reply::Stepped { rows, error: None }
                }
                _ => lost(),
            },
            SqlKind::Finish(of, Some(once)) => {
                let keys = self.open.take_if(|(id, _)| *id == of).map(|(_, keys)| keys);
                self.done_once(once, keys)
            }
            SqlKind::Abandon(of) => {
                self.open.take_if(|(id, _)| *id == of);
                Reply::Done { at: at(self.index), rows: Vec::new() }
            }
            SqlKind::Read(consistency) => {
                let server = self.servers.get_mut(&to).expect("a server");
                match consistency {
                    Consistency::Linearizable => server.applied = self.index,
                    Consistency::Since(token) if token.at.index.0 > server.applied => {
                        return Reply::Failed(ShardError::TimedOut);
                    }
                    _ => {}
                }
                Reply::Done { at: at(server.applied), rows: Vec::new() }
            }
            other => panic!("no client asks for {other:?}"),
        }
    }

    /// What is done in a session, unless it was; `None`: there is nothing to do any more.
    fn done_once(&mut self, once: Once, keys: Option<Vec<i64>>) -> Reply {
        if !self.sessions.contains(&once.session) || once.log != self.log {
            return Reply::Failed(ShardError::SessionExpired);
        }
        let name = (once.session, once.sequence);
        if !self.ran.contains_key(&name) {
            if once.sequence <= once.acknowledged {
                return Reply::Failed(ShardError::Superseded);
            }
            let Some(keys) = keys else { return lost() };
            self.index += 1;
            self.ran.insert(name, (self.index, keys.first().copied().unwrap_or_default()));
            keys.into_iter().for_each(|key| *self.keys.entry(key).or_default() += 1);
        }
        let rows = vec![Rows { affected: 1, ..Rows::default() }];
        let at = Position { index: Index(self.ran[&name].0), term: Term(1) };
        Reply::Done { at, rows }
    }

    /// The client gets the next message that is on its way to it.
    pub(super) fn step_back(&mut self) -> bool {
        let Some((id, message)) = self.back.pop_front() else { return false };
        if self.conns.contains_key(&id) {
            self.handle(Input::Received(id, message));
        }
        true
    }

    pub(super) fn settle(&mut self) {
        for _ in 0..100_000 {
            if !(self.step_there() || self.step_back()) {
                return;
            }
        }
        panic!("it does not settle");
    }

    /// Time passes up to the client's next timer, or for so many milliseconds.
    pub(super) fn pass(&mut self, ms: u64) {
        let until = self.now + Duration::from_millis(ms);
        loop {
            let timer = self.client.next_timeout();
            let welcome = self.welcomes.iter().map(|(at, ..)| *at).min();
            let Some(due) = timer.into_iter().chain(welcome).min().filter(|due| *due <= until)
            else {
                break;
            };
            assert!(due > self.now, "a timer that is due is not before now");
            self.now = due;
            for (_, id, node) in self.welcomes.extract_if(.., |(at, ..)| *at <= due) {
                self.back.push_back((id, ToClient::Welcome { node }));
            }
            self.handle(Input::Timer);
            self.settle();
        }
        self.now = until;
        self.handle(Input::Timer);
        self.settle();
    }

    /// As [`World::pass`], and nothing is delivered.
    pub(super) fn tick(&mut self, ms: u64) {
        self.now = self.now + Duration::from_millis(ms);
        self.handle(Input::Timer);
    }

    pub(super) fn using(&self) -> Option<NodeId> {
        self.events.iter().rev().find_map(|event| match event {
            Event::Using(node) => Some(*node),
            Event::Layout(_) | Event::Copies(_) | Event::Refused { .. } => None,
        })?
    }
}

fn lost() -> Reply {
    let reason = "the owner does not know it".to_owned();
    Reply::Failed(ShardError::TransactionLost { reason })
}

fn listed(number: u8) -> LayoutServer {
    LayoutServer {
        node: NodeId(number.into()),
        name: format!("n{number}"),
        address: Some(address(number)),
        data_centers: vec![if number % 2 == 1 { "odd" } else { "even" }.to_owned()],
        is_online: true,
    }
}
