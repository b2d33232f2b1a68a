//! Clients that go on with another server when one is gone: each a process of its own with the machine
//! of `core::client`, a clock, connections to the hosts' client ports, and an application that asks.
//!
//! `wire` connections · `server` their other end · `app` what the application asks for and is told ·
//! `steps` the same in interactive transactions ·
//! `faults` what happens to clients alone · `judge` what must have become of them in the end.
//! All that is drawn here comes from a stream of its own, and nothing happens in a world without them.

mod app;
mod faults;
mod judge;
mod server;
mod steps;
mod wire;

use std::collections::{BTreeMap, BTreeSet};

use quorate_core::client::{
    Client, ClientConfig, ConnectionId, Event, Input, Output, TicketId, ToClient, ToServer,
};
use quorate_core::shard::{SessionId, ShardId, SqlKind};
use quorate_core::{ClusterId, LogId};

pub(super) use judge::HeldUp;
pub(super) use server::is_of_a_client;
use wire::Line;
pub(super) use wire::client_address;

use super::{What, World};
use crate::checks::Meant;
use crate::checks::guarantees::{Guarantees, LayoutsSeen};
use crate::checks::histories::Histories;
use crate::clock::Clock;
use crate::counts::Count;
use crate::network::{HOSTS_MAX, MS};
use crate::outcome::{Verdict, Violation};
use crate::plan::{AppPlan, FailoverPlan, Plan};
use crate::random::{Dice, Stream};
use crate::trace::tell;
use crate::view::{Kind, Lane, Mark, Told};

/// Something that happens to clients or their connections.
#[derive(Clone, Debug)]
pub enum Happening {
    /// A client's process starts.
    Start(usize),
    /// It is an application's turn.
    Turn(usize),
    /// A client's timer is due; only if none was set since.
    Timer {
        /// Whose.
        app: usize,
        /// Which one.
        generation: u64,
    },
    /// Somebody who dials arrives.
    Knock(u64),
    /// Something arrives at a host.
    AtHost(u64, ToServer, Option<Mark>),
    /// Something arrives at a client.
    AtClient {
        /// Over which line.
        line: u64,
        /// Whose.
        app: usize,
        /// As the client calls the line.
        id: ConnectionId,
        /// What.
        message: Box<ToClient>,
        /// As what it is recorded.
        mark: Option<Mark>,
    },
    /// A client finds that a connection is gone.
    Gone(u64),
    /// A host finds that a connection is gone.
    HungUp(u64),
    /// What could not be sent is tried again, towards the host or the client.
    Again(u64, bool),
    /// A fault of clients.
    Fault,
    /// It ends.
    Heal(u64),
}

/// What was sent in a session, under which sequence.
type Name = (ClusterId, LogId, SessionId, u64);

/// A client's process.
#[derive(Debug)]
struct App {
    plan: AppPlan,
    machine: Option<Client>,
    clock: Clock,
    /// When that last jumped, in the world's time.
    jumped: u64,
    /// Which timer counts.
    generation: u64,
    /// When it is due, in the world's time.
    due: Option<u64>,
    /// What the application has asked for and waits for.
    open: BTreeMap<TicketId, app::Asking>,
    /// Lines that the machine takes for open.
    lines: BTreeMap<ConnectionId, u64>,
    /// It has been told that these are gone: nothing comes of them any more.
    told_gone: BTreeSet<ConnectionId>,
    /// Names of what it sent in sessions, and over which connection first.
    named: BTreeMap<Name, (u64, ConnectionId)>,
    /// It has had a session.
    had_session: bool,
    /// Tables that it knows to be missing.
    lacks_table: bool,
    /// What it last read of the register in use.
    read: Option<(i64, i64)>,
    /// The server in use, the last one that there was.
    used: Option<quorate_core::NodeId>,
    layouts: LayoutsSeen,
    guarantees: Guarantees,
    /// How often in a row it was not done, since all faults have ended.
    in_vain: u32,
    /// It has written since all faults have ended; or why not.
    at_rest: Result<(), String>,
}

/// All failover clients of a world.
#[derive(Debug)]
pub struct Failover {
    plan: FailoverPlan,
    dice: Dice,
    apps: Vec<App>,
    lines: BTreeMap<u64, Line>,
    last: u64,
    ends: Vec<server::HostEnd>,
    /// Requests that nodes were given for clients, by the number of the command.
    asked: BTreeMap<u64, server::Asked>,
    /// The usual delay between each client and each host.
    base: Vec<[u64; HOSTS_MAX]>,
    cuts: Vec<faults::ClientCut>,
    /// The register in use, by database and shard.
    registers: BTreeMap<(u8, &'static str), i64>,
    /// What is asked of registers, and what comes of it.
    pub(super) histories: Histories,
    /// Keys that were certainly not added.
    refused: BTreeSet<i64>,
    /// Of which shard the answer is that a client is being handed.
    told_by: Option<ShardId>,
}

impl Failover {
    /// The clients of a plan, if it has any.
    #[must_use]
    pub fn of(plan: &Plan) -> Option<Self> {
        let drawn = plan.failover.clone()?;
        let mut dice = Dice::new(plan.seed ^ 0xc11e, Stream::Failover);
        let mut base = Vec::new();
        let mut apps = Vec::new();
        for app in &drawn.apps {
            let mut delays = [0; HOSTS_MAX];
            for delay in &mut delays {
                let (low, high) = (plan.network.delay_min_us, plan.network.delay_max_us);
                *delay = dice.between(low, high) * 1_000;
            }
            base.push(delays);
            apps.push(App {
                plan: app.clone(),
                machine: None,
                clock: Clock::new(dice.below(1 << 50), app.drift_ppm),
                generation: 0,
                jumped: 0,
                due: None,
                open: BTreeMap::new(),
                lines: BTreeMap::new(),
                told_gone: BTreeSet::new(),
                named: BTreeMap::new(),
                had_session: false,
                lacks_table: true,
                read: None,
                used: None,
                layouts: LayoutsSeen::default(),
                guarantees: Guarantees::default(),
                in_vain: 0,
                at_rest: match app.stranger {
                    true => Ok(()),
                    false => Err("it has asked for nothing yet".to_owned()),
                },
            });
        }
        let hosts = plan.hosts.len();
        Some(Self {
            plan: drawn,
            dice,
            apps,
            lines: BTreeMap::new(),
            last: 0,
            ends: (0..hosts).map(|_| server::HostEnd::default()).collect(),
            asked: BTreeMap::new(),
            base,
            cuts: Vec::new(),
            registers: BTreeMap::new(),
            histories: Histories::default(),
            refused: BTreeSet::new(),
            told_by: None,
        })
    }

    /// A number that stands for everything drawn so far.
    pub(super) fn draws(&self) -> u64 {
        self.dice.hash()
    }

    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// A value or a key that nobody else uses.
    fn unique(&mut self) -> i64 {
        (1 << 40) + i64::try_from(self.next()).unwrap_or(i64::MAX >> 2)
    }
}

impl World {
    /// What happens first to clients.
    pub(super) fn begin_failover(&mut self) {
        let Some(failover) = &mut self.failover else { return };
        let starts: Vec<u64> = failover.apps.iter().map(|app| app.plan.start_at).collect();
        let fault = (failover.plan.fault_every_ms > 0)
            .then(|| 1 + failover.dice.tailed(failover.plan.fault_every_ms * MS));
        for (app, at) in starts.into_iter().enumerate() {
            self.queue.push(at, What::Failover(Happening::Start(app)));
        }
        if let Some(at) = fault {
            self.queue.push(at, What::Failover(Happening::Fault));
        }
    }

    pub(super) fn failover(&mut self, happening: Happening) -> Verdict {
        match happening {
            Happening::Start(app) => self.start_app(app),
            Happening::Turn(app) => self.turn(app),
            Happening::Timer { app, generation } => {
                let Some(held) = self.failover.as_mut().and_then(|f| f.apps.get_mut(app)) else {
                    return Ok(());
                };
                if held.generation != generation {
                    return Ok(());
                }
                held.due = None;
                self.tell_client(app, Input::Timer)
            }
            Happening::Knock(line) => self.knock_of_client(line),
            Happening::AtHost(line, message, mark) => self.at_host(line, message, mark),
            Happening::AtClient { line, app, id, message, mark } => {
                self.at_client(line, (app, id), (*message, mark))
            }
            Happening::Gone(line) => self.line_gone(line),
            Happening::HungUp(line) => {
                self.hung_up(line);
                Ok(())
            }
            Happening::Again(line, to_host) => {
                self.try_line_again(line, to_host);
                Ok(())
            }
            Happening::Fault => {
                self.client_fault();
                Ok(())
            }
            Happening::Heal(cut) => {
                if let Some(failover) = &mut self.failover {
                    failover.cuts.retain(|held| held.number != cut);
                }
                Ok(())
            }
        }
    }

    fn start_app(&mut self, which: usize) -> Verdict {
        let Some(failover) = &mut self.failover else { return Ok(()) };
        let mut seed = [0; 32];
        for word in seed.chunks_mut(8) {
            word.copy_from_slice(&failover.dice.bits().to_le_bytes());
        }
        let app = &mut failover.apps[which];
        let plan = &app.plan;
        let seeds = plan.seeds.iter().map(|host| wire::client_address(*host)).collect();
        let config = ClientConfig {
            strategy: plan.strategy,
            data_center: plan.data_center.map(str::to_owned),
            requests_max: plan.requests_max,
            ping: plan.ping,
            silence: plan.silence,
            stagger: plan.silence / 5,
            retry_max: plan.retry_max,
            ..ClientConfig::new(seeds)
        };
        app.machine = Some(Client::new(config, seed, app.clock.local(self.now)));
        let first = failover.dice.tailed(failover.apps[which].plan.every_ms * MS);
        tell!(self, Told::In(Lane::Failover(which), Kind::Clients), "client {which} starts");
        self.queue.push(self.now + first, What::Failover(Happening::Turn(which)));
        self.settle_client(which)
    }

    /// Hands an input to a client's machine, and carries out what it wants.
    fn tell_client(&mut self, which: usize, input: Input) -> Verdict {
        let Some(failover) = &mut self.failover else { return Ok(()) };
        let app = &mut failover.apps[which];
        let local = app.clock.local(self.now);
        let Some(machine) = app.machine.as_mut() else { return Ok(()) };
        machine.handle(local, input);
        self.print.word(0x700 + which as u64);
        self.settle_client(which)
    }

    fn settle_client(&mut self, which: usize) -> Verdict {
        let mut outputs = 0;
        loop {
            let machine = self.failover.as_mut().and_then(|f| f.apps[which].machine.as_mut());
            let Some(output) = machine.and_then(Client::poll_output) else { break };
            outputs += 1;
            self.carry_out_of_client(which, output)?;
        }
        let Some(failover) = &mut self.failover else { return Ok(()) };
        let bound = 4 * failover.apps[which].plan.requests_max + 64;
        if outputs > bound {
            let detail = format!("client {which} wants {outputs} things for one input");
            return Err(Violation::new("queue-unbounded", detail));
        }
        self.client_is_bounded(which)?;
        self.set_client_timer(which);
        Ok(())
    }

    fn set_client_timer(&mut self, which: usize) {
        let Some(failover) = &mut self.failover else { return };
        let app = &mut failover.apps[which];
        let due = app.machine.as_ref().and_then(Client::next_timeout);
        let due = due.map(|local| app.clock.world(local).max(self.now));
        let late = |at: u64| at.saturating_add(self.plan.clocks.lateness(at));
        let due = due.filter(|at| *at < u64::MAX / 2).map(late);
        if due == app.due {
            return;
        }
        app.due = due;
        app.generation += 1;
        if let Some(at) = due {
            let generation = app.generation;
            self.queue.push(at, What::Failover(Happening::Timer { app: which, generation }));
        }
    }

    /// What a client keeps has bounds.
    fn client_is_bounded(&self, which: usize) -> Verdict {
        let Some(failover) = &self.failover else { return Ok(()) };
        let app = &failover.apps[which];
        let Some(machine) = &app.machine else { return Ok(()) };
        let held = machine.held();
        let most = app.plan.requests_max;
        let bounds = [
            ("requests", held.requests, most),
            ("requests on their way", held.flights, most + 8),
            ("requests to be sent", held.ready, most),
            ("connections", held.connections, HOSTS_MAX + 8),
            ("known addresses", held.addresses, 3 * HOSTS_MAX),
        ];
        match bounds.iter().find(|(_, length, bound)| length > bound) {
            None if app.open.len() == held.requests => Ok(()),
            None => {
                let detail = format!(
                    "client {which} holds {} requests, its application waits for {}",
                    held.requests,
                    app.open.len()
                );
                Err(Violation::new("request-unanswered", detail))
            }
            Some((what, length, bound)) => {
                let detail = format!("client {which} has {length} {what}, allowed are {bound}");
                Err(Violation::new("queue-unbounded", detail))
            }
        }
    }

    fn carry_out_of_client(&mut self, which: usize, output: Output) -> Verdict {
        match output {
            Output::Dial(id, address) => {
                tell!(
                    self,
                    Told::In(Lane::Failover(which), Kind::Clients),
                    "client {which} dials {address} as {}",
                    id.0
                );
                self.dial_of_client(which, id, address);
                Ok(())
            }
            Output::Send(id, message) => {
                self.note_sent(which, id, &message)?;
                self.send_to_host(which, id, message);
                Ok(())
            }
            Output::Close(id) => {
                tell!(
                    self,
                    Told::In(Lane::Failover(which), Kind::Clients),
                    "client {which} closes {}",
                    id.0
                );
                self.close_of_client(which, id);
                Ok(())
            }
            Output::Answer(ticket, answer) => self.app_answered(which, ticket, &answer),
            Output::Event(Event::Using(node)) => {
                tell!(
                    self,
                    Told::In(Lane::Failover(which), Kind::Clients),
                    "client {which} uses {node:?}"
                );
                let Some(failover) = &mut self.failover else { return Ok(()) };
                let app = &mut failover.apps[which];
                if node.is_some() && app.used.is_some() && app.used != node {
                    self.counts.add(Count::ClientSwitches);
                }
                app.used = node.or(app.used);
                Ok(())
            }
            Output::Event(Event::Refused { reason, .. }) => {
                let Some(failover) = &self.failover else { return Ok(()) };
                if failover.apps[which].plan.stranger {
                    self.counts.add(Count::StrangersRefused);
                    return Ok(());
                }
                let detail = format!("client {which}, which every server wants: {reason}");
                Err(Violation::new("client-refused", detail))
            }
            Output::Event(Event::Copies(copies)) => {
                tell!(
                    self,
                    Told::In(Lane::Failover(which), Kind::Clients),
                    "client {which} sees copies {copies:?}"
                );
                self.counts.add(Count::ClientCopies);
                Ok(())
            }
            Output::Event(Event::Layout(layout)) => {
                tell!(
                    self,
                    Told::In(Lane::Failover(which), Kind::Clients),
                    "client {which} sees version {} of {:?}",
                    layout.version,
                    layout.cluster
                );
                self.counts.add(Count::ClientLayouts);
                let Some(failover) = &mut self.failover else { return Ok(()) };
                failover.apps[which].layouts.sees(&layout)?;
                self.checks.layout_is_true(&layout)
            }
        }
    }

    /// What leaves a client in a session is noted, so that what runs of it can be judged.
    fn note_sent(&mut self, which: usize, id: ConnectionId, message: &ToServer) -> Verdict {
        let ToServer::Sql { id: number, kind, transaction, .. } = message else { return Ok(()) };
        tell!(
            self,
            Told::In(Lane::Failover(which), Kind::Clients),
            "client {which} sends {number} over {}: {kind:?} {transaction:?}",
            id.0
        );
        let Some(failover) = &mut self.failover else { return Ok(()) };
        let app = &mut failover.apps[which];
        let once = match kind {
            SqlKind::Once(once) | SqlKind::Finish(_, Some(once)) => once,
            SqlKind::OpenSession => {
                if std::mem::replace(&mut app.had_session, true) {
                    self.counts.add(Count::ClientSessionsAgain);
                }
                return Ok(());
            }
            _ => return Ok(()),
        };
        let asking = app.open.values_mut().find(|asking| match (kind, &asking.steps) {
            (SqlKind::Finish(of, _), Some(steps)) => steps.transaction == Some(*of),
            (SqlKind::Finish(..), None) | (_, Some(_)) => false,
            (_, None) => asking.statements == transaction.statements,
        });
        let Some(asking) = asking else {
            let detail = format!("client {which} sends {message:?}, which nobody waits for");
            return Err(Violation::new("sent-unasked", detail));
        };
        let name = (once.cluster, once.log, once.session, once.sequence);
        let first = app.named.entry(name).or_insert((asking.operation, id));
        if first.0 != asking.operation {
            let detail = format!("client {which} gives {name:?} to a second request: {message:?}");
            return Err(Violation::new("sequence-used-twice", detail));
        }
        if first.1 != id {
            self.counts.add(Count::ClientReplays);
        }
        let meant = Meant { operation: asking.operation, adds: asking.adds };
        let ledger = self.checks.ledger_of(once.cluster, once.log);
        ledger.content.sessions.sends(
            (once.session.key(), once.sequence),
            meant,
            once.acknowledged,
        );
        Ok(())
    }
}
