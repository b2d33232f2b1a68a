//! Drives the pure machine of a client: its connections, its clock, and whoever asks.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quorate_core::client::{
    Answer, Client as Machine, ConnectionId, Done, Event, Input, Kind, Layout, Output, Request,
    TicketId, ToClient, ToServer,
};
use quorate_core::copies::{CopyReport, CopyState};
use quorate_core::engine::Transaction;
use quorate_core::shard::TransactionId;
use quorate_core::{LogId, NodeId, Time};
use tokio::sync::{mpsc, oneshot, watch};

use super::connection::{self, ARRIVALS_MAX, Arrival, Way};

/// What the application asks for.
#[derive(Debug)]
pub(super) enum Ask {
    Request(Box<Request>, oneshot::Sender<Answer>),
    /// Nobody waits for the answer.
    Post(Box<Request>),
}

/// What the application may look at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// The cluster, as far as it is known.
    pub layout: Arc<Layout>,
    /// The copies that are not whole, by log and server, as the server in use knows: see
    /// [`View::copies`].
    pub unwhole: Arc<Vec<(LogId, NodeId, CopyReport)>>,
    /// The server in use; `None`: there is none.
    pub using: Option<NodeId>,
    /// What became of the last connection to each address that led nowhere.
    pub problems: BTreeMap<SocketAddr, String>,
    /// Why no server wants this client.
    pub refused: Option<String>,
}

/// A copy of a shard that is not whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CopyNews {
    /// Its database.
    pub database: String,
    /// Its shard.
    pub shard: String,
    /// The name of the server that has it, or the start of its id when it has left.
    pub server: String,
    /// The last entry of the shard's log that is in it: the LSN.
    pub lsn: u64,
    /// What it is: if it is received from another server, how many bytes of how many, at which rate.
    pub state: CopyState,
}

impl View {
    /// The copies that are not whole, by database, shard and server: those that wait for something, and
    /// those on their way, told anew every second.
    #[must_use]
    pub fn copies(&self) -> Vec<CopyNews> {
        let named = self.unwhole.iter().filter_map(|(log, node, report)| {
            let shard = self.layout.shards.iter().find(|shard| shard.log == *log)?;
            Some(CopyNews {
                database: shard.database.clone(),
                shard: shard.name.clone(),
                server: self.layout.name_of(*node),
                lsn: report.applied.0,
                state: report.state.clone(),
            })
        });
        let mut all: Vec<CopyNews> = named.collect();
        all.sort_by(|a, b| {
            (&a.database, &a.shard, &a.server).cmp(&(&b.database, &b.shard, &b.server))
        });
        all
    }

    /// The problems in one line; empty: there are none.
    #[must_use]
    pub fn problems(&self) -> String {
        let problem = |(address, why): (&SocketAddr, &String)| format!("{address}: {why}");
        self.problems.iter().map(problem).collect::<Vec<_>>().join("; ")
    }
}

/// Addresses whose trouble is remembered.
const PROBLEMS_MAX: usize = 64;

/// How long it is tried to undo a transaction: by then its owner has ended it.
const UNDO_WITHIN: Duration = Duration::from_secs(5);

/// After so many requests it is looked whose caller has given up.
const FORGET_EVERY: u64 = 64;

/// A connection that the machine has wanted, and still wants.
struct Connection {
    address: SocketAddr,
    send: mpsc::UnboundedSender<ToServer>,
    /// The node has sent something.
    heard: bool,
}

/// Who waits for an answer.
struct Waiting {
    answer: oneshot::Sender<Answer>,
    /// Of which database and shard a transaction is begun, if one is: it is undone if nobody takes it.
    begins: Option<(String, Option<String>)>,
}

pub(super) struct Driver {
    machine: Machine,
    began: Instant,
    way: Way,
    asks: mpsc::Receiver<Ask>,
    arrivals: mpsc::Receiver<Arrival>,
    arrive: mpsc::Sender<Arrival>,
    connections: BTreeMap<ConnectionId, Connection>,
    waiting: BTreeMap<TicketId, Waiting>,
    tickets: u64,
    view: watch::Sender<View>,
}

impl Driver {
    pub(super) fn new(
        machine: impl FnOnce(Time) -> Machine,
        way: Way,
        asks: mpsc::Receiver<Ask>,
        view: watch::Sender<View>,
    ) -> Self {
        let (arrive, arrivals) = mpsc::channel(ARRIVALS_MAX);
        Self {
            machine: machine(Time::ZERO),
            began: Instant::now(),
            way,
            asks,
            arrivals,
            arrive,
            connections: BTreeMap::new(),
            waiting: BTreeMap::new(),
            tickets: 0,
            view,
        }
    }

    /// Runs until nobody can ask any more. What is on its way then is given up.
    pub(super) async fn run(mut self) {
        loop {
            self.carry_out();
            let due = self.machine.next_timeout().map(|due| self.until(due));
            tokio::select! {
                biased;
                arrival = self.arrivals.recv() => match arrival {
                    Some(arrival) => self.arrived(arrival),
                    None => return,
                },
                ask = self.asks.recv() => match ask {
                    Some(ask) => self.asked(ask),
                    None => return,
                },
                () = tokio::time::sleep(due.unwrap_or(Duration::MAX)), if due.is_some() => {
                    self.handle(Input::Timer);
                }
            }
        }
    }

    fn now(&self) -> Time {
        Time::ZERO + self.began.elapsed()
    }

    fn until(&self, due: Time) -> Duration {
        due.since(self.now())
    }

    fn handle(&mut self, input: Input) {
        let now = self.now();
        self.machine.handle(now, input);
    }

    fn asked(&mut self, ask: Ask) {
        self.tickets += 1;
        let ticket = TicketId(self.tickets);
        let request = match ask {
            Ask::Request(request, answer) => {
                let begins = (request.kind == Kind::Begin)
                    .then(|| (request.database.clone(), request.shard.clone()));
                self.waiting.insert(ticket, Waiting { answer, begins });
                request
            }
            Ask::Post(request) => request,
        };
        self.handle(Input::Request(ticket, *request));
        if self.tickets.is_multiple_of(FORGET_EVERY) {
            self.forget_gone();
        }
    }

    /// Nobody has taken a transaction that is open by now.
    fn undo(&mut self, begun: Option<(String, Option<String>)>, of: TransactionId) {
        let Some((database, shard)) = begun else { return };
        let (transaction, kind) = (Transaction::default(), Kind::Abandon(of));
        let timeout = UNDO_WITHIN;
        let request = Request { database, shard, transaction, kind, timeout };
        self.asked(Ask::Post(Box::new(request)));
    }

    /// Who does not wait any more need not be kept.
    fn forget_gone(&mut self) {
        let gone: Vec<TicketId> =
            self.waiting.iter().filter(|(_, w)| w.answer.is_closed()).map(|(t, _)| *t).collect();
        for ticket in gone {
            self.waiting.remove(&ticket);
            self.handle(Input::Forget(ticket));
        }
    }

    fn arrived(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Message(id, message) => {
                let Some(connection) = self.connections.get_mut(&id) else { return };
                connection.heard = true;
                if let ToClient::Refused { reason, .. } = &message {
                    let (address, reason) = (connection.address, reason.clone());
                    self.note_problem(address, reason);
                }
                self.handle(Input::Received(id, message));
            }
            Arrival::Closed(id, why) => {
                let Some(connection) = self.connections.remove(&id) else { return };
                self.note_problem(connection.address, why);
                self.handle(Input::Closed(id));
            }
        }
    }

    fn note_problem(&self, address: SocketAddr, why: String) {
        self.view.send_modify(|view| {
            if view.problems.len() < PROBLEMS_MAX || view.problems.contains_key(&address) {
                view.problems.insert(address, why);
            }
        });
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Dial(id, address) => {
                    let (send, outgoing) = mpsc::unbounded_channel();
                    self.connections.insert(id, Connection { address, send, heard: false });
                    let (way, arrive) = (self.way.clone(), self.arrive.clone());
                    tokio::spawn(connection::run(id, address, way, outgoing, arrive));
                }
                Output::Send(id, message) => {
                    // One that is over says so itself.
                    if let Some(connection) = self.connections.get(&id) {
                        let _ = connection.send.send(message);
                    }
                }
                Output::Close(id) => {
                    let closed = self.connections.remove(&id);
                    if let Some(connection) = closed.filter(|connection| !connection.heard) {
                        self.note_problem(connection.address, "it does not answer".to_owned());
                    }
                }
                Output::Answer(ticket, answer) => {
                    let Some(waiting) = self.waiting.remove(&ticket) else { continue };
                    if let Err(Ok(Done { transaction: Some(of), .. })) = waiting.answer.send(answer)
                    {
                        self.undo(waiting.begins, of);
                    }
                }
                Output::Event(Event::Using(node)) => {
                    self.view.send_modify(|view| {
                        view.using = node;
                        if node.is_some() {
                            view.problems.clear();
                        }
                    });
                }
                Output::Event(Event::Refused { reason, final_ }) => {
                    self.view.send_modify(|view| view.refused = Some(reason).filter(|_| final_));
                }
                Output::Event(Event::Copies(copies)) => {
                    self.view.send_modify(|view| view.unwhole = Arc::new(copies));
                }
                Output::Event(Event::Layout(layout)) => {
                    self.view.send_modify(|view| view.layout = Arc::new(layout));
                }
            }
        }
    }
}
