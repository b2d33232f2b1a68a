//! Clients: what they ask, at which node, and what they are told.

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_core::configuration::ExecutionMode;
use quorate_core::engine::{Position, Transaction};
use quorate_core::node::SqlRequest;
use quorate_core::shard::{Consistency, Reply, ShardError, SqlKind};
use quorate_core::{ClusterId, CommandId, Index, Input, LinkId, LogId};

use super::sessions::{Attempt, Sessions};
use super::shown::{Shown, Shows};
use super::steps::Steps;
use super::{RunRef, What, World};
use crate::checks::copies::Promise;
use crate::checks::workloads::{Asked, Operation, number};
use crate::counts::Count;
use crate::disk::Shadow;
use crate::network::MS;
use crate::outcome::{Verdict, Violation};
use crate::plan::ClientPlan;
use crate::trace::tell;
use crate::view::{Ask, Became, Lane, Told};

/// A client as it is now.
#[derive(Debug)]
pub struct Client {
    pub(super) plan: ClientPlan,
    /// The request that is not answered.
    waits: Option<u64>,
    /// The host that it asks.
    host: usize,
    /// The table is not there, as it was told.
    pub(super) lacks_table: bool,
    /// Its last write, and in which shard.
    pub(super) wrote: Option<(LogId, Position)>,
    /// What it last read of each register.
    pub(super) read: BTreeMap<i64, i64>,
}

/// A request that is not answered yet.
#[derive(Debug)]
pub struct Request {
    /// Whose; `None`: of a probe.
    pub client: Option<usize>,
    /// At whom.
    pub by: RunRef,
    /// When.
    pub at: u64,
    /// What.
    pub asked: Asked,
    /// What its answer promises.
    pub promises: Acknowledged,
    /// As part of which operation it was sent, if it may be sent again.
    pub attempt: Option<Attempt>,
    /// The last position that the node had answered with before, of the same shard.
    pub shown: Index,
    /// How long the node was given.
    pub timeout: Duration,
}

impl Request {
    pub(super) fn shows(&self) -> Shows {
        let as_configured = matches!(
            self.asked.operation,
            Operation::Read(_, Consistency::AsConfigured)
                | Operation::ReadBank(Consistency::AsConfigured)
        );
        let of = (self.asked.cluster, self.asked.log);
        let Self { by, at, timeout, shown, .. } = *self;
        Shows { by, of, at, timeout, shown, as_configured }
    }
}

/// All clients, and what they wait for.
#[derive(Debug, Default)]
pub struct Clients {
    pub(super) all: Vec<Client>,
    /// Requests, by id.
    pub requests: BTreeMap<u64, Request>,
    /// Requests that one node passed on to another, by the link as the asker calls it.
    passed_on: BTreeMap<(LinkId, u64), (LogId, Acknowledged)>,
    pub(super) shown: Shown,
    /// What is done in sessions.
    pub(super) sessions: Sessions,
    /// What is done step by step.
    pub(super) steps: Steps,
    /// The last number given to a request, a key or a value.
    last: u64,
}

impl Clients {
    /// The clients of a plan.
    #[must_use]
    pub fn of(plans: &[ClientPlan]) -> Self {
        let client = |plan: &ClientPlan| Client {
            plan: plan.clone(),
            waits: None,
            host: plan.home,
            lacks_table: true,
            wrote: None,
            read: BTreeMap::new(),
        };
        Self { all: plans.iter().map(client).collect(), ..Self::default() }
    }

    pub(super) fn plan(&self, which: usize) -> &ClientPlan {
        &self.all[which].plan
    }

    /// The host that a client asks usually.
    pub(super) fn host(&self, which: usize) -> usize {
        self.all[which].host
    }

    pub(super) fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// What [`Clients::next`] will give.
    pub(super) fn peek_next(&self) -> u64 {
        self.last + 1
    }

    /// What nodes are asked to see that they have shown before.
    pub(super) fn open_shows(&self) -> impl Iterator<Item = Shows> {
        self.requests.values().map(Request::shows)
    }

    pub(super) fn unique(&mut self) -> i64 {
        i64::try_from(self.next()).unwrap_or(i64::MAX)
    }

    /// A packet with a transaction leaves over a link, as its sender calls it.
    pub(super) fn passes_on(&mut self, link: LinkId, id: u64, log: LogId, kind: SqlKind) {
        self.passed_on.insert((link, id), (log, Acknowledged::of(kind)));
    }

    /// The answer leaves; `link` is what the asker calls it.
    pub(super) fn answers(&mut self, link: LinkId, id: u64) -> Option<(LogId, Acknowledged)> {
        self.passed_on.remove(&(link, id))
    }

    /// Nothing more comes over a link.
    pub(super) fn link_ends(&mut self, link: LinkId) {
        let all = (link, 0)..=(link, u64::MAX);
        let gone: Vec<(LinkId, u64)> = self.passed_on.range(all).map(|(key, _)| *key).collect();
        for key in gone {
            self.passed_on.remove(&key);
        }
    }
}

/// What an answer to a request promises.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acknowledged {
    /// Nothing: it reads.
    Nothing,
    /// A write of the owner's own.
    Write,
    /// A write in a session, perhaps of an owner before.
    Once,
}

impl Acknowledged {
    pub(super) fn of(kind: SqlKind) -> Self {
        match kind {
            SqlKind::Write
            | SqlKind::OpenSession
            | SqlKind::Restore(_)
            | SqlKind::Finish(_, None) => Self::Write,
            SqlKind::Once(_) | SqlKind::Finish(_, Some(_)) => Self::Once,
            SqlKind::Read(_)
            | SqlKind::Compare
            | SqlKind::Begin
            | SqlKind::Step(_)
            | SqlKind::Abandon(_) => Self::Nothing,
        }
    }
}

impl World {
    /// It is a client's turn.
    pub(super) fn client(&mut self, which: usize) -> Verdict {
        if self.peace.is_some() {
            return Ok(());
        }
        let plan = self.clients.all[which].plan.clone();
        let wait = 1 + self.client_dice.tailed(plan.every_ms * MS);
        self.queue.push(self.now + wait, What::Client(which));
        if let Some(id) = self.clients.all[which].waits {
            // A process that has ended answers nobody.
            let gone = self.clients.requests.get(&id).is_none_or(|r| !self.is_now(r.by));
            if !gone {
                return Ok(());
            }
            let asked = self.clients.requests.remove(&id).map(|request| request.asked.operation);
            self.clients.all[which].waits = None;
            if asked.is_none_or(|operation| operation.is_in_steps()) {
                self.stepped(which, None);
            }
        }
        let hosts = self.hosts.len();
        let usual = self.clients.all[which].host;
        let stays = plan.sticky && self.hosts[usual].is_up() && !self.client_dice.one_in(20);
        let host = if stays { usual } else { self.client_dice.index(hosts) };
        self.clients.all[which].host = host;
        let shard = Some(plan.shard).filter(|shard| *shard != "main" || self.client_dice.one_in(2));
        let name = format!("db{}", plan.database);
        let Some((cluster, log)) = self.shard_at(host, &name, plan.shard) else {
            self.clients.all[which].host = plan.home;
            return Ok(());
        };
        if let Some(sessions) = &plan.sessions
            && !self.may_begin(which, host, sessions)?
        {
            return Ok(());
        }
        let (operation, kind, statements) = match self.next_step(which, (cluster, log)) {
            Some(step) => step,
            None => {
                let (operation, statements) = self.next_operation(which, log);
                let kind = match &operation {
                    Operation::Read(_, consistency) | Operation::ReadBank(consistency) => {
                        SqlKind::Read(*consistency)
                    }
                    Operation::Compare => SqlKind::Compare,
                    _ if plan.sessions.is_some() => {
                        return self.begin_once(which, operation, statements);
                    }
                    _ => SqlKind::Write,
                };
                (operation, kind, statements)
            }
        };
        let request = SqlRequest {
            database: name,
            shard: shard.map(str::to_owned),
            transaction: Transaction { statements },
            kind,
            timeout: Duration::from_millis(plan.timeout_ms),
        };
        let id = self.ask(host, Some(which), (cluster, log), operation, request)?;
        if self.clients.requests.contains_key(&id) {
            self.clients.all[which].waits = Some(id);
        }
        Ok(())
    }

    /// The log that a host takes a shard's name for.
    pub(super) fn shard_at(
        &self,
        host: usize,
        database: &str,
        shard: &str,
    ) -> Option<(ClusterId, LogId)> {
        let held = &self.hosts[host];
        let node = held.node.as_ref().filter(|_| !held.paused)?;
        let shard = node.configuration()?.shard(database, shard)?;
        Some((node.cluster()?, shard.shard.log))
    }

    /// Hands a transaction to a node.
    pub(super) fn ask(
        &mut self,
        host: usize,
        client: Option<usize>,
        (cluster, log): (ClusterId, LogId),
        operation: Operation,
        request: SqlRequest,
    ) -> Result<u64, Violation> {
        let asked = Asked { cluster, log, operation, before: self.checks.before(cluster, log) };
        let (by, promises) = (self.run_of(host), Acknowledged::of(request.kind));
        let shown = self.clients.shown.of(by, cluster, log);
        let (at, timeout, attempt) = (self.now, request.timeout, None);
        let held = Request { client, by, at, asked, promises, attempt, shown, timeout };
        self.hand_over_request(host, held, request)
    }

    pub(super) fn hand_over_request(
        &mut self,
        host: usize,
        held: Request,
        request: SqlRequest,
    ) -> Result<u64, Violation> {
        let id = self.clients.next();
        let (who, log) = (held.client.map_or(Lane::Operators, Lane::Client), Some(held.asked.log));
        let (ask, what) = (Ask::Request(id), &held.asked.operation);
        let told = Told::Asks { ask, who, host: Some(host), log, what };
        tell!(self, told, "host {host} is asked {id}: {:?} {:?}", held.asked, request.kind);
        self.counts.add(Count::Requests);
        self.clients.requests.insert(id, held);
        self.deliver(host, Input::Sql { id: CommandId(id), request }, false)?;
        Ok(id)
    }

    /// A node answers a transaction. What it was asked by a client is checked there; what it
    /// promises as the owner, here.
    pub(super) fn sql_replied(&mut self, host: usize, id: CommandId, reply: &Reply) -> Verdict {
        let told = Told::Answered(Ask::Request(id.0), Became::from(reply));
        tell!(self, told, "host {host} answers {}: {reply:?}", id.0);
        let by = self.run_of(host);
        let wrong = |what: &str| {
            let detail = format!("host {host} answers transaction {} with {reply:?}: {what}", id.0);
            Err(Violation::new("answered-wrongly", detail))
        };
        let Some(request) = self.clients.requests.remove(&id.0) else {
            return wrong("nobody asked, or it was answered before");
        };
        if request.by != by {
            return wrong("it was asked of another");
        }
        let (log, promises) = (request.asked.log, request.promises);
        self.late.push(super::outputs::Late::Promises(log, promises, reply.clone()));
        self.count_reply(reply);
        self.note_shown(request.shows(), reply);
        if let Some(attempt) = request.attempt {
            self.attempt_answered(host, id.0, (&request, attempt), reply);
            return Ok(());
        }
        self.late
            .push(super::outputs::Late::Answered(Box::new(request.asked.clone()), reply.clone()));
        if let (Operation::Restore(_), Reply::Done { .. }) = (&request.asked.operation, reply) {
            self.counts.add(Count::ContentRestored);
        }
        let Some(which) = request.client else {
            self.probe_answered(host, &request, reply);
            return Ok(());
        };
        if request.asked.operation == Operation::Open {
            self.session_answered(which, &request.asked, reply);
            return Ok(());
        }
        self.clients.all[which].waits = None;
        if request.asked.operation.is_in_steps() {
            match (&request.asked.operation, reply) {
                (Operation::Finish { .. }, Reply::Done { .. }) => {
                    self.counts.add(Count::InteractiveFinished);
                }
                (Operation::Abandon(_), Reply::Done { .. }) => {
                    self.counts.add(Count::InteractiveAbandoned);
                }
                _ => {}
            }
            self.stepped(which, Some(reply));
        }
        self.learn(which, &request.asked, reply);
        Ok(())
    }

    pub(super) fn count_reply(&mut self, reply: &Reply) {
        self.counts.add(match reply {
            Reply::Done { .. }
            | Reply::Session { .. }
            | Reply::Began { .. }
            | Reply::Stepped { .. } => Count::RequestsDone,
            Reply::Compared { .. } => Count::Comparisons,
            Reply::Failed(ShardError::NoQuorum { .. }) => Count::RequestsNoQuorum,
            Reply::Failed(ShardError::OutcomeUnknown) => Count::RequestsUnknown,
            Reply::Failed(ShardError::CommittedBelowQuorum { .. }) => Count::RequestsBelowQuorum,
            Reply::Failed(_) => Count::RequestsFailed,
        });
    }

    pub(super) fn learn(&mut self, which: usize, asked: &Asked, reply: &Reply) {
        let client = &mut self.clients.all[which];
        match reply {
            Reply::Done { at, rows } => match &asked.operation {
                Operation::Read(key, _) => {
                    let row = rows.first().and_then(|rows| rows.rows.first());
                    if let Some(value) = number(row.and_then(|row| row.first())) {
                        client.read.insert(*key, value);
                    }
                }
                Operation::ReadBank(_) => {}
                _ => client.wrote = Some((asked.log, *at)),
            },
            Reply::Failed(ShardError::Sql(error)) => {
                client.lacks_table = error.message.starts_with("no such table");
            }
            Reply::Failed(_)
            | Reply::Compared { .. }
            | Reply::Session { .. }
            | Reply::Began { .. }
            | Reply::Stepped { .. } => {}
        }
    }

    /// What the node of a host goes by when it acknowledges a write, if it ran it itself.
    pub(super) fn promise(
        &self,
        host: usize,
        log: LogId,
        promises: Acknowledged,
        reply: &Reply,
    ) -> Option<Promise> {
        let none = Vec::new();
        let (at, rows) = match reply {
            Reply::Done { at, rows } => (at, rows),
            Reply::Session { session } => (&session.at, &none),
            Reply::Compared { .. }
            | Reply::Began { .. }
            | Reply::Stepped { .. }
            | Reply::Failed(_) => return None,
        };
        // What changed nothing says where the copy stood, which is committed and no more.
        if !rows.is_empty() && rows.iter().all(|rows| rows.affected == 0) {
            return None;
        }
        let node = self.hosts[host].node.as_ref()?;
        let cluster = node.cluster()?;
        let ran = match promises {
            Acknowledged::Nothing => false,
            Acknowledged::Write => {
                self.checks.shard(cluster, log)?.leaders.get(&at.term) == Some(&node.id())
            }
            // Whoever owns the shard now knows what was done before, and goes by what holds now.
            Acknowledged::Once => node.shard(log)?.log().is_leader(),
        };
        let shard = node.configuration()?.shard_of(log).filter(|_| ran)?;
        let mode = shard.database.settings.execution_mode;
        let asynchronous = mode == ExecutionMode::Asynchronous;
        let repeats = promises == Acknowledged::Once;
        let directory = self.hosts[host].dir.map(|dir| self.disks.get(dir));
        let written = directory.and_then(|directory| directory.written(log)).filter(|_| repeats);
        let known_from = written.map(Shadow::remembered_from).unwrap_or_default();
        Some(Promise { log, at: *at, known_from, rule: shard.write_quorum(), asynchronous })
    }
}
