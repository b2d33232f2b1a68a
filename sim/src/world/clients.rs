//! Clients: what they ask, at which node, and what they are told.

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_core::configuration::ExecutionMode;
use quorate_core::engine::{Position, Statement, Transaction, Value};
use quorate_core::node::SqlRequest;
use quorate_core::shard::{Consistency, Reply, ShardError, SqlKind};
use quorate_core::{ClusterId, CommandId, Input, LinkId, LogId};

use super::{RunRef, What, World};
use crate::checks::copies::Promise;
use crate::checks::workloads::{APPENDS, Asked, BANK, Operation, REGISTERS, number};
use crate::counts::Count;
use crate::network::MS;
use crate::outcome::{Verdict, Violation};
use crate::plan::{ClientPlan, Work};
use crate::trace::tell;

/// How many accounts there are.
const ACCOUNTS: i64 = 4;
/// What each holds at first.
const DEPOSIT: i64 = 100;
/// How many registers there are.
const REGISTERS_MAX: i64 = 2;

/// A client as it is now.
#[derive(Debug)]
pub struct Client {
    plan: ClientPlan,
    /// The request that is not answered.
    waits: Option<u64>,
    /// The host that it asks.
    host: usize,
    /// The table is not there, as it was told.
    lacks_table: bool,
    /// Its last write, and in which shard.
    wrote: Option<(LogId, Position)>,
    /// What it last read of each register.
    read: BTreeMap<i64, i64>,
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
    /// Whether it writes.
    pub writes: bool,
}

/// All clients, and what they wait for.
#[derive(Debug, Default)]
pub struct Clients {
    all: Vec<Client>,
    /// Requests, by id.
    pub requests: BTreeMap<u64, Request>,
    /// Requests that one node passed on to another, by the link as the asker calls it.
    passed_on: BTreeMap<(LinkId, u64), (LogId, bool)>,
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

    pub(super) fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// What [`Clients::next`] will give.
    pub(super) fn peek_next(&self) -> u64 {
        self.last + 1
    }

    fn unique(&mut self) -> i64 {
        i64::try_from(self.next()).unwrap_or(i64::MAX)
    }

    /// A packet with a transaction leaves over a link, as its sender calls it.
    pub(super) fn passes_on(&mut self, link: LinkId, id: u64, log: LogId, kind: SqlKind) {
        self.passed_on.insert((link, id), (log, writes(kind)));
    }

    /// The answer leaves; `link` is what the asker calls it.
    pub(super) fn answers(&mut self, link: LinkId, id: u64) -> Option<(LogId, bool)> {
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

fn statement(sql: String, args: &[i64]) -> Statement {
    let args: Vec<Value> = args.iter().map(|arg| Value::Integer(*arg)).collect();
    Statement::with(sql, args)
}

/// Makes a table with its first rows.
pub(super) fn table(name: &'static str) -> (Operation, Vec<Statement>) {
    let mut statements =
        vec![statement(format!("CREATE TABLE {name} (k INTEGER PRIMARY KEY, v)"), &[])];
    let rows = match name {
        BANK => (0..ACCOUNTS).map(|account| [account, DEPOSIT]).collect(),
        REGISTERS => (0..REGISTERS_MAX).map(|register| [register, 0]).collect(),
        _ => Vec::new(),
    };
    for row in rows {
        statements.push(statement(format!("INSERT INTO {name} (k, v) VALUES (?, ?)"), &row));
    }
    (Operation::Make(name), statements)
}

/// Adds a key that was never used before.
pub(super) fn append(key: i64) -> (Operation, Vec<Statement>) {
    let sql = format!("INSERT INTO {APPENDS} (k, v) VALUES (?, ?)");
    (Operation::Append(key), vec![statement(sql, &[key, 1])])
}

/// Whether it may change the content.
fn writes(kind: SqlKind) -> bool {
    matches!(kind, SqlKind::Write | SqlKind::Restore(_))
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
            self.clients.requests.remove(&id);
            self.clients.all[which].waits = None;
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
        let (operation, statements) = self.next_operation(which, log);
        let kind = match &operation {
            Operation::Read(_, consistency) | Operation::ReadBank(consistency) => {
                SqlKind::Read(*consistency)
            }
            Operation::Compare => SqlKind::Compare,
            _ => SqlKind::Write,
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
        let id = self.clients.next();
        let floor = self.checks.workloads.floor(cluster, log);
        let asked = Asked { cluster, log, operation, floor };
        tell!(self, "host {host} is asked {id}: {asked:?}");
        self.counts.add(Count::Requests);
        let (by, writes) = (self.run_of(host), writes(request.kind));
        let held = Request { client, by, at: self.now, asked, writes };
        self.clients.requests.insert(id, held);
        self.deliver(host, Input::Sql { id: CommandId(id), request }, false)?;
        Ok(id)
    }

    fn next_operation(&mut self, which: usize, log: LogId) -> (Operation, Vec<Statement>) {
        let dice = &mut self.client_dice;
        let work = self.clients.all[which].plan.work;
        if std::mem::take(&mut self.clients.all[which].lacks_table) {
            return table(match work {
                Work::Appends => APPENDS,
                Work::Bank => BANK,
                Work::Registers => REGISTERS,
            });
        }
        if dice.one_in(40) {
            return (Operation::Compare, Vec::new());
        }
        let wrote = self.clients.all[which].wrote.filter(|(of, _)| *of == log);
        let consistency = match (dice.below(3), wrote) {
            (0, _) => Consistency::Local,
            (1, Some((_, position))) => Consistency::AtLeast(position),
            _ => Consistency::Linearizable,
        };
        match work {
            Work::Appends => append(self.clients.unique()),
            Work::Bank if dice.one_in(3) => {
                let sql = format!("SELECT k, v FROM {BANK} ORDER BY k");
                (Operation::ReadBank(consistency), vec![statement(sql, &[])])
            }
            Work::Bank => {
                let accounts = u64::try_from(ACCOUNTS).unwrap_or(1);
                let mut account = || i64::try_from(dice.below(accounts)).unwrap_or(0);
                let (from, to) = (account(), account());
                let sum = i64::try_from(dice.between(1, 9)).unwrap_or(1);
                let sql = format!("UPDATE {BANK} SET v = v + ? WHERE k = ?");
                let both = [statement(sql.clone(), &[-sum, from]), statement(sql, &[sum, to])];
                (Operation::Transfer, both.to_vec())
            }
            Work::Registers => {
                let registers = u64::try_from(REGISTERS_MAX).unwrap_or(1);
                let key = i64::try_from(dice.below(registers)).unwrap_or(0);
                let known = self.clients.all[which].read.get(&key).copied();
                match (dice.below(3), known) {
                    (0, _) => {
                        let new = self.clients.unique();
                        let sql = format!("UPDATE {REGISTERS} SET v = ? WHERE k = ?");
                        (Operation::Set(key, new), vec![statement(sql, &[new, key])])
                    }
                    (1, Some(old)) => {
                        let new = self.clients.unique();
                        let sql = format!("UPDATE {REGISTERS} SET v = ? WHERE k = ? AND v = ?");
                        let swap = statement(sql, &[new, key, old]);
                        (Operation::Swap { key, old, new }, vec![swap])
                    }
                    _ => {
                        let sql = format!("SELECT v FROM {REGISTERS} WHERE k = ?");
                        (Operation::Read(key, consistency), vec![statement(sql, &[key])])
                    }
                }
            }
        }
    }

    /// A node answers a transaction. What it was asked by a client is checked there; what it
    /// promises as the owner, here.
    pub(super) fn sql_replied(&mut self, host: usize, id: CommandId, reply: &Reply) -> Verdict {
        tell!(self, "host {host} answers {}: {reply:?}", id.0);
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
        if request.writes {
            self.late.push(super::outputs::Late::Promises(request.asked.log, reply.clone()));
        }
        self.count_reply(reply);
        self.late
            .push(super::outputs::Late::Answered(Box::new(request.asked.clone()), reply.clone()));
        if let (Operation::Restore(_), Reply::Done { .. }) = (&request.asked.operation, reply) {
            self.counts.add(Count::ContentRestored);
        }
        let Some(which) = request.client else {
            self.probe_answered(host, &request, reply);
            return Ok(());
        };
        self.learn(which, &request.asked, reply);
        Ok(())
    }

    fn count_reply(&mut self, reply: &Reply) {
        self.counts.add(match reply {
            Reply::Done { .. } => Count::RequestsDone,
            Reply::Compared { .. } => Count::Comparisons,
            Reply::Failed(ShardError::NoQuorum { .. }) => Count::RequestsNoQuorum,
            Reply::Failed(ShardError::OutcomeUnknown) => Count::RequestsUnknown,
            Reply::Failed(ShardError::CommittedBelowQuorum { .. }) => Count::RequestsBelowQuorum,
            Reply::Failed(_) => Count::RequestsFailed,
        });
    }

    fn learn(&mut self, which: usize, asked: &Asked, reply: &Reply) {
        let client = &mut self.clients.all[which];
        client.waits = None;
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
            Reply::Failed(_) | Reply::Compared { .. } => {}
        }
    }

    /// What the node of a host goes by when it acknowledges a write, if it ran it itself.
    pub(super) fn promise(&self, host: usize, log: LogId, reply: &Reply) -> Option<Promise> {
        let Reply::Done { at, rows } = reply else { return None };
        // What changed nothing says where the copy stood, which is committed and no more.
        if !rows.is_empty() && rows.iter().all(|rows| rows.affected == 0) {
            return None;
        }
        let node = self.hosts[host].node.as_ref()?;
        let cluster = node.cluster()?;
        let ran = self.checks.shard(cluster, log)?.leaders.get(&at.term) == Some(&node.id());
        let shard = node.configuration()?.shard_of(log).filter(|_| ran)?;
        let mode = shard.database.settings.execution_mode;
        let asynchronous = mode == ExecutionMode::Asynchronous;
        Some(Promise { log, at: *at, rule: shard.write_quorum(), asynchronous })
    }
}
