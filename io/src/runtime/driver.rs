//! The task that owns the node.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use quorate_core::configuration::Addresses;
use quorate_core::{
    Command, CommandId, Event, Generation, Input, LogId, Node, NodeConfig, NodeId, Output,
    Recovered, Reply, StopReason, Time,
};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::copies::{Copies, CopyAnswered};
use super::engines::{Answered, Engines};
use super::entries::{Entries, EntryReader};
use super::handle::{Ask, Inbox, NoSnapshot, SqlAnswer};
use super::narrator::Narrator;
use super::seeds;
use crate::config::Members;
use crate::lull::Lull;
use crate::net::{NetConfig, NetEvent, StartError, Transport, Trouble};
use crate::store::{Completion, DataDir, Options, Store, StoreError};

/// How many events of the network may wait for the node. A packet may have 8 MiB.
const NETWORK_EVENTS_MAX: usize = 256;
/// So many things are taken in a row before others on the thread have their turn.
const TURN_MAX: usize = 64;

/// What a node is started with.
#[derive(Debug)]
pub struct Setup {
    /// Core's own, but for the addresses, which are known when the port is bound.
    pub node: NodeConfig,
    /// Sockets.
    pub net: NetConfig,
    /// The TCP/IP member list.
    pub members: Option<Members>,
    /// Where others reach HTTP; an unspecified IP stands for the node's own. `None`: nowhere.
    pub http: Option<SocketAddr>,
    /// Where others reach the port for clients, likewise.
    pub client: Option<SocketAddr>,
}

/// Why a node could not be started.
#[derive(Debug, Error)]
pub enum RuntimeError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The sockets cannot be opened.
    #[error(transparent)]
    Network(#[from] StartError),
    /// The member list is too long.
    #[error(transparent)]
    Members(#[from] crate::config::TooManyCandidates),
    /// No thread can be started.
    #[error("cannot start a thread: {0}; the limit of processes of this user may be reached")]
    Thread(std::io::Error),
    /// The operating system gives no randomness.
    #[error("the operating system gives no randomness: {0}")]
    Random(getrandom::Error),
}

/// A node with its store and its sockets open, and not running yet.
pub struct Runtime {
    node: Node,
    narrator: Narrator,
    clock: Clock,
    store: Store,
    durable: mpsc::UnboundedReceiver<Completion>,
    transport: Transport,
    network: mpsc::Receiver<NetEvent>,
    seeds: mpsc::Receiver<Vec<SocketAddr>>,
    resolver: Option<JoinHandle<()>>,
    engines: Engines,
    engine_answers: mpsc::UnboundedReceiver<Answered>,
    entry_reader: EntryReader,
    entries: mpsc::UnboundedReceiver<Entries>,
    copies: Copies,
    copy_answers: mpsc::UnboundedReceiver<CopyAnswered>,
    replies: BTreeMap<CommandId, oneshot::Sender<Reply>>,
    sql_replies: BTreeMap<CommandId, oneshot::Sender<SqlAnswer>>,
    commands: u64,
    /// The source that was looked at last.
    source: usize,
    /// Why the store took no more.
    unstored: Option<String>,
    /// Core has asked for what went over the links.
    counting: bool,
}

/// Something outside that the node has to deal with.
enum Happened {
    Due,
    Network(NetEvent),
    Durable(Completion),
    Engine(Answered),
    Entries(Entries),
    Copy(CopyAnswered),
    Ask(Ask),
    Seeds(Vec<SocketAddr>),
}

/// How many sources there are beside the timer.
const SOURCES: usize = 7;

/// How a node has ended.
#[derive(Debug)]
pub struct Ended {
    /// Why.
    pub reason: StopReason,
    /// What it was called.
    pub name: String,
    /// Its directory, still locked.
    pub dir: DataDir,
}

/// Monotonic time, counted from the start of the node.
#[derive(Clone, Copy, Debug)]
struct Clock(Instant);

impl Clock {
    fn now(self) -> Time {
        Time::ZERO + self.0.elapsed()
    }

    fn instant(self, time: Time) -> Instant {
        // Beyond what the system can count is as good as never.
        let later = self.0.checked_add(time.since(Time::ZERO));
        later.unwrap_or_else(|| Instant::now() + Duration::from_secs(86_400))
    }
}

impl Runtime {
    /// Opens store and sockets and makes the node. Nothing has been sent yet.
    ///
    /// # Errors
    /// [`RuntimeError`]: nothing runs, and the lock on the directory is gone.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn open(setup: Setup, dir: DataDir) -> Result<Self, RuntimeError> {
        let Setup { node: mut config, net, members, http, client } = setup;
        if let Some(members) = &members {
            members.expand()?;
        }
        let (completed, durable) = mpsc::unbounded_channel();
        let complete = move |completion| {
            // After the end of the node nobody waits for it.
            let _ = completed.send(completion);
        };
        let (answers, engine_answers) = mpsc::unbounded_channel();
        let engines = Engines::new(dir.path(), answers);
        let (copied, copy_answers) = mpsc::unbounded_channel();
        let copies = Copies::new(dir.path(), copied);
        let (store, recovered) = dir.open(Options::default(), complete)?;
        let (found, entries) = mpsc::unbounded_channel();
        let entry_reader =
            EntryReader::start(store.reader(), found).map_err(RuntimeError::Thread)?;
        let id = recovered.identity.node;
        let (events, network) = mpsc::channel(NETWORK_EVENTS_MAX);
        let transport = Transport::start(net, id, events)?;
        config.addresses = addresses(transport.advertised_addr(), http, client);
        let (seeds, resolver) = resolver(members, &config.seeds);
        let clock = Clock(Instant::now());
        let node = new_node(config, recovered, clock.now())?;
        Ok(Self {
            narrator: Narrator::new(id),
            node,
            clock,
            store,
            durable,
            transport,
            network,
            seeds,
            resolver,
            engines,
            engine_answers,
            entry_reader,
            entries,
            copies,
            copy_answers,
            replies: BTreeMap::new(),
            sql_replies: BTreeMap::new(),
            commands: 0,
            source: 0,
            unstored: None,
            counting: false,
        })
    }

    /// Who the node is.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.node.id()
    }

    /// What it is called, as far as is known before it runs.
    #[must_use]
    pub fn name(&self) -> String {
        self.node.status(self.clock.now()).name
    }

    /// Where others reach it.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.transport.advertised_addr()
    }

    /// Where it listens; the IP may be unspecified.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.transport.local_addr()
    }

    /// Runs the node to its end. Whatever was sent or written by then has gone out.
    pub async fn run(mut self, inbox: &mut Inbox) -> Ended {
        inbox.forget_layout();
        let mut in_a_row = 0;
        let mut lull = Lull::default();
        let reason = loop {
            if let Some(reason) = self.drain(inbox) {
                break reason;
            }
            let input = if let Some(reason) = self.unstored.take() {
                Some(Input::StorageFailed { reason })
            } else if std::mem::take(&mut self.counting) {
                Some(Input::Traffic { traffic: self.transport.traffic() })
            } else {
                if in_a_row == TURN_MAX {
                    in_a_row = 0;
                    tokio::task::yield_now().await;
                }
                in_a_row += 1;
                let happened = match self.at_hand(inbox) {
                    Some(happened) => happened,
                    None => {
                        in_a_row = 0;
                        let began = Instant::now();
                        let happened = match self.linger(inbox, &lull, began).await {
                            Some(happened) => happened,
                            None => self.wait(inbox).await,
                        };
                        lull.ended(began.into_std());
                        happened
                    }
                };
                self.input(happened)
            };
            if let Some(input) = input {
                self.node.handle(self.clock.now(), input);
            }
        };
        debug!(%reason, "the node has ended");
        if let Some(resolver) = &self.resolver {
            resolver.abort();
        }
        let name = self.node.status(self.clock.now()).name;
        self.transport.shutdown().await;
        self.engines.shutdown();
        self.copies.shutdown();
        Ended { reason, name, dir: self.store.close() }
    }

    /// What has happened already, one source after the other. A timer that is due needs no turn: core
    /// looks at the time with every input.
    fn at_hand(&mut self, inbox: &mut Inbox) -> Option<Happened> {
        for _ in 0..SOURCES {
            self.source = (self.source + 1) % SOURCES;
            let found = match self.source {
                0 => self.network.try_recv().ok().map(Happened::Network),
                1 => self.durable.try_recv().ok().map(Happened::Durable),
                2 => self.engine_answers.try_recv().ok().map(Happened::Engine),
                3 => self.entries.try_recv().ok().map(Happened::Entries),
                4 => self.copy_answers.try_recv().ok().map(Happened::Copy),
                5 => inbox.next_now().map(Happened::Ask),
                _ => self.seeds.try_recv().ok().map(Happened::Seeds),
            };
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// Looks again for what happens, if that is likely to be soon: links and HTTP, which are on this
    /// thread, have their turn between two looks.
    async fn linger(&mut self, inbox: &mut Inbox, lull: &Lull, began: Instant) -> Option<Happened> {
        let patience = lull.patience()?;
        let due = self.node.next_timeout();
        loop {
            tokio::task::yield_now().await;
            if let Some(happened) = self.at_hand(inbox) {
                return Some(happened);
            }
            if due.is_some_and(|due| self.clock.now() >= due) {
                return Some(Happened::Due);
            }
            if began.elapsed() >= patience {
                return None;
            }
            std::thread::yield_now();
        }
    }

    /// Waits for the next thing to happen.
    async fn wait(&mut self, inbox: &mut Inbox) -> Happened {
        let due = self.node.next_timeout().map(|time| self.clock.instant(time));
        let timer = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = timer => Happened::Due,
            Some(event) = self.network.recv() => Happened::Network(event),
            Some(completion) = self.durable.recv() => Happened::Durable(completion),
            Some(answered) = self.engine_answers.recv() => Happened::Engine(answered),
            Some(entries) = self.entries.recv() => Happened::Entries(entries),
            Some(answered) = self.copy_answers.recv() => Happened::Copy(answered),
            Some(ask) = inbox.next() => Happened::Ask(ask),
            Some(addrs) = self.seeds.recv() => Happened::Seeds(addrs),
        }
    }

    /// What core should hear of it; `None` if it is none of its business.
    fn input(&mut self, happened: Happened) -> Option<Input> {
        match happened {
            Happened::Due => Some(Input::Timer),
            Happened::Network(event) => self.network_input(event),
            Happened::Durable(Completion { id, result }) => Some(match result {
                Ok(()) => Input::Persisted { id },
                Err(error) => Input::StorageFailed { reason: error.to_string() },
            }),
            Happened::Engine((log, epoch, answer)) => Some(Input::Engine { log, epoch, answer }),
            Happened::Entries((log, id, result)) => Some(Input::LogRead { log, id, result }),
            Happened::Copy((log, answer)) => Some(Input::Copy { log, answer }),
            Happened::Ask(ask) => self.answer(ask),
            Happened::Seeds(addrs) => Some(Input::Seeds { addrs }),
        }
    }

    fn network_input(&self, event: NetEvent) -> Option<Input> {
        if !self.transport.admits(&event) {
            return None;
        }
        Some(match event {
            NetEvent::LinkUp { link, peer, dialed } => Input::LinkUp { link, peer, dialed },
            NetEvent::LinkDown { link } => Input::LinkDown { link },
            NetEvent::DialFailed { addr, error } => Input::DialFailed { addr, error },
            NetEvent::PeerRefused { from } => Input::PeerRefused { from },
            NetEvent::Packet { link, bytes } => Input::Packet { link, bytes },
            NetEvent::Datagram { from, bytes } => Input::Datagram { from, bytes },
            NetEvent::Trouble(trouble) => {
                match trouble {
                    Trouble::MulticastWorks { .. } => info!("{trouble}"),
                    _ => warn!("{trouble}"),
                }
                return None;
            }
        })
    }

    fn answer(&mut self, ask: Ask) -> Option<Input> {
        match ask {
            Ask::Status(answer) => {
                // Whoever asked may have gone.
                let _ = answer.send(self.node.status(self.clock.now()));
                None
            }
            Ask::Measures(answer) => {
                let measures = self.node.measures(self.clock.now(), self.transport.traffic());
                let _ = answer.send(measures);
                None
            }
            Ask::Command(command, answer) => Some(self.command(*command, answer)),
            Ask::Snapshot { database, shard, answer } => {
                match self.held(&database, &shard) {
                    Ok((log, live)) => self.copies.snapshot(log, live, answer),
                    Err(why) => {
                        let _ = answer.send(Err(why));
                    }
                }
                None
            }
            Ask::Upload { database, shard, answer } => {
                match self.held(&database, &shard) {
                    Ok((log, _)) => self.copies.upload(log, answer),
                    Err(why) => {
                        let _ = answer.send(Err(why));
                    }
                }
                None
            }
            Ask::Sql(request, answer) => {
                self.commands += 1;
                let id = CommandId(self.commands);
                self.sql_replies.insert(id, answer);
                Some(Input::Sql { id, request: *request })
            }
        }
    }

    /// The node's own copy of a shard, if it can be used now.
    fn held(&self, database: &str, shard: &str) -> Result<(LogId, Generation), NoSnapshot> {
        let found = self
            .node
            .configuration()
            .and_then(|held| held.shard(database, shard).map(|shard| shard.shard.log));
        let Some(log) = found else {
            let (database, shard) = (database.to_owned(), shard.to_owned());
            return Err(NoSnapshot::Unknown { database, shard });
        };
        let copy = self.node.shard(log).filter(|copy| copy.is_open());
        let live = copy.and_then(|copy| copy.generation()).ok_or(NoSnapshot::NotHere)?;
        Ok((log, live))
    }

    fn command(&mut self, command: Command, answer: oneshot::Sender<Reply>) -> Input {
        self.commands += 1;
        let id = CommandId(self.commands);
        self.replies.insert(id, answer);
        Input::Command { id, command }
    }

    /// Carries out every output, in order; the reason once the node has ended.
    fn drain(&mut self, inbox: &Inbox) -> Option<StopReason> {
        while let Some(output) = self.node.poll_output() {
            match output {
                Output::Persist { id, ops } => {
                    if let Err(error) = self.store.submit(id, &ops) {
                        // Told as the next input: first everything is drained.
                        self.unstored.get_or_insert(error.to_string());
                    }
                }
                Output::Datagram { bytes } => self.transport.multicast(&bytes),
                Output::Dial { addr } => self.transport.dial(addr),
                Output::Close { link } => self.transport.close(link),
                Output::Packet { link, bytes } => self.transport.send(link, bytes),
                Output::Reply { id, reply } => {
                    if let Some(answer) = self.replies.remove(&id) {
                        let _ = answer.send(reply);
                    }
                }
                Output::SqlReply { id, reply, of } => {
                    if let Some(answer) = self.sql_replies.remove(&id) {
                        let _ = answer.send(SqlAnswer { reply, of });
                    }
                }
                Output::Engine { log, call } => self.engines.call(log, call),
                Output::ReadLog { log, read } => self.entry_reader.ask(log, read),
                Output::Copy { log, call } => self.copies.call(log, call),
                Output::CloseEngine { log } => self.engines.close(log),
                Output::CountTraffic => self.counting = true,
                Output::Event(event) => self.report(event, inbox),
                Output::Stop(reason) => return Some(reason),
            }
        }
        None
    }

    fn report(&mut self, event: Event, inbox: &Inbox) {
        self.narrator.tell(&event);
        match event {
            Event::Configuration(configuration) => {
                inbox.publish(|layout| layout.configuration = Some(configuration));
            }
            Event::Coordinator { node, term } => inbox.publish(|layout| {
                layout.coordinator = node;
                layout.term = term;
            }),
            Event::Owner { log, node, term } => inbox.publish(|layout| {
                layout.owners.insert(log, (node, term));
            }),
            Event::Copies(copies) => inbox.publish(|layout| layout.copies = copies),
            _ => {}
        }
    }
}

fn addresses(node: SocketAddr, http: Option<SocketAddr>, client: Option<SocketAddr>) -> Addresses {
    let reached = |at: SocketAddr| match at.ip().is_unspecified() {
        true => SocketAddr::new(node.ip(), at.port()),
        false => at,
    };
    Addresses { node, client: client.map(reached), http: http.map(reached) }
}

/// Starts the task that keeps the member list resolved, if there is a list.
fn resolver(
    members: Option<Members>,
    extra: &[SocketAddr],
) -> (mpsc::Receiver<Vec<SocketAddr>>, Option<JoinHandle<()>>) {
    let (sender, seeds) = mpsc::channel(1);
    let extra = extra.to_vec();
    let task = members.map(|members| tokio::spawn(seeds::resolve(members, extra, sender)));
    (seeds, task)
}

fn new_node(config: NodeConfig, recovered: Recovered, now: Time) -> Result<Node, RuntimeError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(RuntimeError::Random)?;
    Ok(Node::new(config, recovered, seed, now))
}
