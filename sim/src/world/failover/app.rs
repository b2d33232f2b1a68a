//! What the application of a client asks for, and how what it is told is judged.

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_core::client::{Answer, ClientError, Input, Kind, Reading, Request, TicketId};
use quorate_core::engine::{Statement, Transaction, Value};
use quorate_core::shard::{Consistency, Reply, ShardError};
use quorate_core::{ClusterId, LogId, Time};

use super::steps::Stepping;
use super::{Happening, World};
use crate::checks::guarantees::Bound;
use crate::checks::histories::{Did, Outcome};
use crate::checks::workloads::{
    APPENDS, Asked, BANK, Before, COUNTERS, Operation, REGISTERS, number,
};
use crate::counts::Count;
use crate::network::MS;
use crate::outcome::{Verdict, Violation};
use crate::plan::{AppPlan, Task};
use crate::trace::tell;
use crate::view::{Ask, Became, Lane, Told};
use crate::world::What;
use crate::world::workload::{append, statement, table};

/// The first register that failover clients use; those below are of the other clients.
const FIRST_REGISTER: i64 = 1_000;
/// How late an answer may come, by the client's clock, besides how late timers are.
const SLACK: Duration = Duration::from_millis(3);
/// Their operations have numbers of their own.
pub(super) const OPERATIONS: u64 = 1 << 63;
/// In the end each application asks until a write is done, and so often.
const LAST_EVERY: u64 = 300 * MS;
/// How long that may take.
const LAST_TIMEOUT_MS: u64 = 4_000;

/// A request of an application that is not answered.
#[derive(Debug)]
pub(super) struct Asking {
    /// Names it in the checks, whatever it is sent as.
    pub(super) operation: u64,
    /// The counter to which it adds.
    pub(super) adds: Option<i64>,
    pub(super) statements: Vec<Statement>,
    pub(super) what: Operation,
    /// By the client's clock.
    pub(super) deadline: Time,
    /// How far each shard was when it was asked.
    pub(super) before: BTreeMap<(ClusterId, LogId), Before>,
    /// What this client had seen.
    pub(super) bound: Bound,
    pub(super) reading: Option<Reading>,
    /// As what it was noted in the history of a register.
    pub(super) noted: Option<(i64, u64)>,
    /// Asked for after all faults had ended.
    pub(super) is_last: bool,
    /// In the midst of which transaction.
    pub(super) steps: Option<Box<Stepping>>,
}

impl World {
    /// It is an application's turn.
    pub(super) fn turn(&mut self, which: usize) -> Verdict {
        let calm = self.peace.is_some();
        let Some(failover) = &mut self.failover else { return Ok(()) };
        let every = failover.apps[which].plan.every_ms * MS;
        let wait = 1 + failover.dice.tailed(every);
        let app = &failover.apps[which];
        // One that nobody can serve does not keep the world from settling.
        let after = if calm { LAST_EVERY << app.in_vain.min(5) } else { wait };
        let busy = app.open.len() >= app.plan.at_once;
        let done = calm && app.at_rest.is_ok();
        if !done {
            self.queue.push(self.now + after, What::Failover(Happening::Turn(which)));
        }
        let last_asked = app.open.values().any(|asking| asking.is_last);
        if done || (busy && !calm) || last_asked {
            return Ok(());
        }
        self.begin(which)
    }

    fn begin(&mut self, which: usize) -> Verdict {
        let is_last = self.peace.is_some();
        if let Some(failover) = self.failover.as_mut().filter(|_| !is_last) {
            let app = &failover.apps[which];
            let moves = app.plan.task == Task::Bank && !app.lacks_table;
            if moves && failover.dice.one_in(4) {
                return self.begin_steps(which);
            }
        }
        let (what, mut statements, reading) = self.next_of(which, is_last);
        let before = self.checks.before_all();
        let now = self.now;
        let Some(failover) = &mut self.failover else { return Ok(()) };
        let number = failover.next();
        let operation = OPERATIONS | number;
        if let (None, Some(first)) = (reading, statements.first_mut()) {
            // No two writes are the same, so that what is sent can be told apart; the engine takes no
            // notice.
            first.args.push(Value::Integer(i64::try_from(number).unwrap_or(i64::MAX)));
        }
        let ticket = TicketId(failover.next());
        let timeout_ms = failover.dice.pick(&failover.apps[which].plan.timeouts_ms);
        let timeout_ms = if is_last { LAST_TIMEOUT_MS } else { timeout_ms };
        let did = match &what {
            Operation::Set(key, value) => Some((*key, Did::Set(*value))),
            Operation::Swap { key, old, new } => Some((*key, Did::Swap(*old, *new))),
            Operation::Read(key, Consistency::Linearizable) => Some((*key, Did::Read)),
            _ => None,
        };
        let noted = did.map(|(key, did)| (key, failover.histories.begins(key, which, did)));
        let app = &mut failover.apps[which];
        let timeout = Duration::from_millis(timeout_ms);
        let deadline = app.clock.local(now) + timeout;
        let adds = match what {
            Operation::Count(row) => Some(row),
            _ => None,
        };
        let bound = app.guarantees.bound();
        let kind = reading.map_or(Kind::Write, Kind::Read);
        let request = request(&app.plan, &statements, kind, timeout);
        let asking = Asking {
            operation,
            adds,
            statements,
            what,
            deadline,
            before,
            bound,
            reading,
            noted,
            is_last,
            steps: None,
        };
        let (who, ask) = (Lane::Failover(which), Ask::Ticket(which, ticket.0));
        let told = Told::Asks { ask, who, host: None, log: None, what: &asking.what };
        tell!(
            self,
            told,
            "client {which} asks {}: {:?} for {timeout_ms} ms",
            ticket.0,
            asking.what
        );
        self.counts.add(Count::ClientRequests);
        app.open.insert(ticket, asking);
        self.tell_client(which, Input::Request(ticket, request))
    }

    /// What an application does next. Statements of no two requests are the same, but reads.
    fn next_of(
        &mut self,
        which: usize,
        is_last: bool,
    ) -> (Operation, Vec<Statement>, Option<Reading>) {
        let Some(failover) = &mut self.failover else { return (Operation::Compare, vec![], None) };
        let app = &failover.apps[which];
        let (task, place) = (app.plan.task, (app.plan.database, app.plan.shard));
        let reading = failover.dice.pick(&app.plan.readings);
        let name = match task {
            _ if is_last => APPENDS,
            Task::Registers => REGISTERS,
            Task::Appends => APPENDS,
            Task::Counts => COUNTERS,
            Task::Bank => BANK,
        };
        if std::mem::take(&mut failover.apps[which].lacks_table) {
            let (operation, statements) = table(name);
            return (operation, statements, None);
        }
        if is_last {
            let (operation, statements) = append(failover.unique());
            return (operation, statements, None);
        }
        match task {
            Task::Appends => {
                let (operation, statements) = append(failover.unique());
                (operation, statements, None)
            }
            Task::Counts => {
                let row = i64::try_from(which % 8).unwrap_or(0);
                let sql = format!("UPDATE {COUNTERS} SET v = v + ? WHERE k = ?");
                (Operation::Count(row), vec![statement(sql, &[1, row])], None)
            }
            Task::Bank if failover.dice.one_in(3) => {
                let consistency = consistency(reading, false);
                let sql = format!("SELECT k, v FROM {BANK} ORDER BY k");
                (Operation::ReadBank(consistency), vec![statement(sql, &[])], Some(reading))
            }
            Task::Bank => {
                let sum = i64::try_from(failover.dice.between(1, 9)).unwrap_or(1);
                let (from, to) = (failover.dice.below(4), failover.dice.below(4));
                let account = |drawn: u64| i64::try_from(drawn).unwrap_or(0);
                let sql = format!("UPDATE {BANK} SET v = v + ? WHERE k = ?");
                let both = [
                    statement(sql.clone(), &[-sum, account(from)]),
                    statement(sql, &[sum, account(to)]),
                ];
                (Operation::Transfer, both.to_vec(), None)
            }
            Task::Registers => {
                let most = failover.plan.register_max;
                let next = FIRST_REGISTER + i64::try_from(failover.registers.len()).unwrap_or(0);
                let key = *failover.registers.entry(place).or_insert(next * 100_000);
                let key = if failover.histories.is_full(key, most) {
                    failover.registers.insert(place, key + 1);
                    key + 1
                } else {
                    key
                };
                let strict = failover.plan.linearizable.contains(&place.0);
                let known = failover.apps[which].read.filter(|(of, _)| *of == key);
                match (failover.dice.below(5), known) {
                    (0 | 1, _) => {
                        let new = failover.unique();
                        let sql =
                            format!("INSERT OR REPLACE INTO {REGISTERS} (k, v) VALUES (?, ?)");
                        (Operation::Set(key, new), vec![statement(sql, &[key, new])], None)
                    }
                    (2, Some((_, old))) => {
                        let new = failover.unique();
                        let sql = format!("UPDATE {REGISTERS} SET v = ? WHERE k = ? AND v = ?");
                        let swap = statement(sql, &[new, key, old]);
                        (Operation::Swap { key, old, new }, vec![swap], None)
                    }
                    _ => {
                        let sql = format!("SELECT v FROM {REGISTERS} WHERE k = ?");
                        let read = Operation::Read(key, consistency(reading, strict));
                        (read, vec![statement(sql, &[key])], Some(reading))
                    }
                }
            }
        }
    }

    /// A client's machine answers its application.
    pub(super) fn app_answered(
        &mut self,
        which: usize,
        ticket: TicketId,
        answer: &Answer,
    ) -> Verdict {
        let told = Told::Answered(Ask::Ticket(which, ticket.0), Became::from(answer));
        tell!(self, told, "client {which} is told of {}: {answer:?}", ticket.0);
        let (now, late) = (self.now, Duration::from_micros(self.plan.clocks.lateness_us));
        let Some(failover) = &mut self.failover else { return Ok(()) };
        let of = failover.told_by;
        let app = &mut failover.apps[which];
        let Some(asking) = app.open.remove(&ticket) else {
            let detail =
                format!("client {which} is told of {}, and had been: {answer:?}", ticket.0);
            return Err(Violation::new("answered-twice", detail));
        };
        if app.plan.stranger && answer.is_ok() {
            let detail = format!("client {which}, whom no server knows: {answer:?}");
            return Err(Violation::new("stranger-served", detail));
        }
        let local = app.clock.local(now);
        // A clock that has just jumped shows a time at which nobody could have answered.
        let jumped = now - app.jumped < 60 * MS;
        // What comes just when the time is up may still be the answer.
        if local > asking.deadline + late + late + SLACK && !jumped {
            let detail = format!(
                "client {which} is told of {:?} {} ms after its time was up: {answer:?}",
                asking.what,
                local.since(asking.deadline).as_millis()
            );
            return Err(Violation::new("answered-late", detail));
        }
        app.in_vain = match (self.peace.is_some(), answer) {
            (true, Err(_)) => app.in_vain.saturating_add(1),
            _ => 0,
        };
        self.counts.add(match answer {
            Ok(_) => Count::ClientDone,
            Err(ClientError::OutcomeUnknown { .. }) => Count::ClientUnknown,
            Err(ClientError::TimedOut { .. }) => Count::ClientTimedOut,
            Err(ClientError::Busy) => Count::ClientBusy,
            Err(ClientError::Shard(ShardError::CommittedBelowQuorum { .. })) => {
                Count::ClientBelowQuorum
            }
            Err(_) => Count::ClientFailed,
        });
        let of = of.map(|of| (of.cluster, of.log));
        if let (Operation::Finish { .. }, Ok(_)) = (&asking.what, answer) {
            self.counts.add(Count::ClientTransactionsDone);
        }
        if self.step_answered(which, &asking, answer)? {
            return Ok(());
        }
        let mut asking = asking;
        let strict = of.is_some_and(|(cluster, log)| self.checks.is_strict(cluster, log));
        if let (Operation::Read(_, consistency), Some(Reading::Session), false) =
            (&mut asking.what, asking.reading, strict)
        {
            // Somebody has made a database of that name with other rules.
            (*consistency, asking.noted) = (Consistency::AsConfigured, None);
        }
        self.note_history(&asking, of, answer);
        self.judge_answer(which, &asking, of, answer)?;
        self.learn_of(which, &asking, answer);
        Ok(())
    }

    fn note_history(&mut self, asking: &Asking, of: Option<(ClusterId, LogId)>, answer: &Answer) {
        let Some((key, number)) = asking.noted else { return };
        let Some(failover) = &mut self.failover else { return };
        let affected = |rows: &[quorate_core::engine::Rows]| {
            rows.iter().map(|rows| rows.affected).sum::<u64>() > 0
        };
        let outcome = match answer {
            Ok(done) => match asking.what {
                Operation::Read(..) => Outcome::Held(value(&done.rows)),
                Operation::Swap { .. } => Outcome::Swapped(affected(&done.rows)),
                _ => Outcome::Done,
            },
            Err(ClientError::Shard(error)) if error.done_at().is_some() => Outcome::Done,
            Err(ClientError::OutcomeUnknown { .. }) => Outcome::Unknown,
            Err(_) => Outcome::Nothing,
        };
        failover.histories.ends(key, number, outcome, of);
    }

    /// Checks what a client is told, as an answer of its shard.
    fn judge_answer(
        &mut self,
        which: usize,
        asking: &Asking,
        of: Option<(ClusterId, LogId)>,
        answer: &Answer,
    ) -> Verdict {
        let reply = match answer {
            Ok(done) => Reply::Done { at: done.at, rows: done.rows.clone() },
            Err(ClientError::Shard(error)) => Reply::Failed(error.clone()),
            Err(ClientError::OutcomeUnknown { .. }) => Reply::Failed(ShardError::OutcomeUnknown),
            Err(_) => Reply::Failed(ShardError::TimedOut),
        };
        let not_done = matches!(
            &reply,
            Reply::Failed(error) if error.done_at().is_none() && *error != ShardError::OutcomeUnknown
        );
        if let (
            Operation::Append(key) | Operation::Finish { key: Some(key), .. },
            true,
            Some(failover),
        ) = (&asking.what, not_done, &mut self.failover)
        {
            failover.refused.insert(*key);
            self.checks.nobody_holds(*key)?;
        }
        let gone = matches!(
            reply,
            Reply::Failed(ShardError::StaleToken { .. } | ShardError::TokenOfAnotherHistory { .. })
        );
        if let (true, Some(failover)) = (gone, &mut self.failover) {
            failover.apps[which].guarantees.forget();
        }
        let Some((cluster, log)) = of else {
            return match answer {
                Ok(done) => {
                    let detail = format!("{:?} is done, {done:?}, by no shard", asking.what);
                    Err(Violation::new("answered-by-nobody", detail))
                }
                Err(_) => Ok(()),
            };
        };
        if reply == Reply::Failed(ShardError::Superseded) {
            let detail = format!("client {which}: {:?} waits for an answer", asking.what);
            return Err(Violation::new("superseded-unanswered", detail));
        }
        let before = asking.before.get(&(cluster, log)).copied().unwrap_or_default();
        let asked = Asked { cluster, log, operation: asking.what.clone(), before };
        self.checks.answered(&asked, &reply)?;
        if let Operation::Abandon(_) = asking.what {
            return Ok(());
        }
        let Some(at) = reply.done_at() else { return Ok(()) };
        let known = self.checks.shard(cluster, log).map(|ledger| &ledger.content);
        let Some(failover) = &mut self.failover else { return Ok(()) };
        let guarantees = &mut failover.apps[which].guarantees;
        let counts = asking.reading != Some(Reading::Local) && asking.bound.is_of(guarantees);
        let who = || format!("client {which}, {:?}", asking.what);
        if counts && let Some(content) = known {
            asking.bound.holds(who, (cluster, log), at.index, content, asking.reading.is_some())?;
        }
        guarantees.saw((cluster, log), at.index, asking.reading.is_some());
        Ok(())
    }

    fn learn_of(&mut self, which: usize, asking: &Asking, answer: &Answer) {
        let Some(failover) = &mut self.failover else { return };
        let app = &mut failover.apps[which];
        match answer {
            Ok(done) => {
                if let (Operation::Read(key, _), Some(value)) = (&asking.what, value(&done.rows)) {
                    app.read = Some((*key, value));
                }
                if asking.is_last && matches!(asking.what, Operation::Append(_)) {
                    app.at_rest = Ok(());
                }
            }
            Err(error) => {
                if let ClientError::Shard(ShardError::Sql(sql)) = error {
                    app.lacks_table = sql.message.starts_with("no such table");
                } else if let Operation::Make(_) = asking.what {
                    app.lacks_table = true;
                }
                if asking.is_last && app.at_rest.is_err() {
                    app.at_rest = Err(error.to_string());
                }
            }
        }
        // The last table need not be that of the task.
        if asking.is_last
            && let Err(ClientError::Shard(ShardError::CommittedBelowQuorum { .. })) = answer
        {
            app.at_rest = Ok(());
        }
    }
}

/// What an application asks of its shard.
pub(super) fn request(
    plan: &AppPlan,
    statements: &[Statement],
    kind: Kind,
    timeout: Duration,
) -> Request {
    Request {
        database: format!("db{}", plan.database),
        shard: (plan.shard != "main").then(|| plan.shard.to_owned()),
        transaction: Transaction { statements: statements.to_vec() },
        kind,
        timeout,
    }
}

fn value(rows: &[quorate_core::engine::Rows]) -> Option<i64> {
    let row = rows.first().and_then(|rows| rows.rows.first());
    let value: Option<&Value> = row.and_then(|row| row.first());
    number(value)
}

/// What a read must have seen, for the check by positions.
fn consistency(reading: Reading, strict: bool) -> Consistency {
    match reading {
        Reading::Linearizable => Consistency::Linearizable,
        Reading::Session | Reading::Since(_) if strict => Consistency::Linearizable,
        Reading::Session | Reading::Since(_) => Consistency::AsConfigured,
        Reading::Local => Consistency::Local,
    }
}
