//! Applications that move money in interactive transactions, through a client that fails over: they
//! read two accounts, write both with what they make of that, add a key, and finish or abandon it.
//! Whoever got between would make money or lose some; the key shows whether it was done.

use std::time::Duration;

use quorate_core::client::{Answer, ClientError, Input, Kind, TicketId};
use quorate_core::engine::Statement;
use quorate_core::shard::{ShardError, TransactionId};

use super::World;
use super::app::{Asking, OPERATIONS, request};
use crate::checks::workloads::{BANK, Operation};
use crate::counts::Count;
use crate::outcome::Verdict;
use crate::trace::tell;
use crate::view::{Ask, Lane, Told};
use crate::world::steps::balance;
use crate::world::workload::{ACCOUNTS, append, statement};

/// What was asked for last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Begin,
    Read,
    Write,
    AddKey,
    /// To be finished or abandoned.
    End,
}

/// A transaction of an application.
#[derive(Clone, Debug)]
pub(super) struct Stepping {
    stage: Stage,
    pub(super) transaction: Option<TransactionId>,
    accounts: [i64; 2],
    sum: i64,
    key: i64,
    keyed: bool,
}

impl World {
    /// An application begins a transaction.
    pub(super) fn begin_steps(&mut self, which: usize) -> Verdict {
        let Some(failover) = &mut self.failover else { return Ok(()) };
        let accounts = u64::try_from(ACCOUNTS).unwrap_or(2);
        let from = failover.dice.below(accounts);
        let to = (from + 1 + failover.dice.below(accounts - 1)) % accounts;
        let stepping = Stepping {
            stage: Stage::Begin,
            transaction: None,
            accounts: [from, to].map(|account| i64::try_from(account).unwrap_or(0)),
            sum: i64::try_from(failover.dice.between(1, 9)).unwrap_or(1),
            key: failover.unique(),
            keyed: false,
        };
        self.ask_in_steps(which, stepping, Kind::Begin, Operation::Step, Vec::new())
    }

    fn ask_in_steps(
        &mut self,
        which: usize,
        stepping: Stepping,
        kind: Kind,
        what: Operation,
        statements: Vec<Statement>,
    ) -> Verdict {
        let before = self.checks.before_all();
        let now = self.now;
        let Some(failover) = &mut self.failover else { return Ok(()) };
        let operation = OPERATIONS | failover.next();
        let ticket = TicketId(failover.next());
        let timeout_ms = failover.dice.pick(&failover.apps[which].plan.timeouts_ms);
        let timeout = Duration::from_millis(timeout_ms);
        let app = &mut failover.apps[which];
        let request = request(&app.plan, &statements, kind, timeout);
        let asking = Asking {
            operation,
            adds: None,
            statements,
            what,
            deadline: app.clock.local(now) + timeout,
            before,
            bound: app.guarantees.bound(),
            reading: None,
            noted: None,
            is_last: false,
            steps: Some(Box::new(stepping)),
        };
        let (who, ask) = (Lane::Failover(which), Ask::Ticket(which, ticket.0));
        let told = Told::Asks { ask, who, host: None, log: None, what: &kind };
        tell!(self, told, "client {which} asks {}: {kind:?} for {timeout_ms} ms", ticket.0);
        self.counts.add(Count::ClientRequests);
        app.open.insert(ticket, asking);
        self.tell_client(which, Input::Request(ticket, request))
    }

    /// A call in a transaction that goes on is answered. Whether it was one.
    pub(super) fn step_answered(
        &mut self,
        which: usize,
        asking: &Asking,
        answer: &Answer,
    ) -> Result<bool, crate::outcome::Violation> {
        let Some(stepping) = asking.steps.as_deref().filter(|_| asking.what == Operation::Step)
        else {
            return Ok(false);
        };
        let mut stepping = stepping.clone();
        let held: Vec<i64> = match answer {
            Ok(done) => done.rows.iter().filter_map(balance).collect(),
            Err(ClientError::Shard(ShardError::Sql(_))) if stepping.stage == Stage::AddKey => {
                Vec::new()
            }
            Err(error) => {
                if let ClientError::Shard(ShardError::TransactionLost { .. }) = error {
                    self.counts.add(Count::ClientTransactionsLost);
                }
                return self.leave_steps(which, &stepping, error).map(|()| true);
            }
        };
        let Some(failover) = &mut self.failover else { return Ok(true) };
        let next: (fn(TransactionId) -> Kind, _, _) = match stepping.stage {
            Stage::Begin => {
                stepping.transaction = answer.as_ref().ok().and_then(|done| done.transaction);
                stepping.stage = Stage::Read;
                let sql = format!("SELECT v FROM {BANK} WHERE k = ?");
                let both = stepping.accounts.map(|account| statement(sql.clone(), &[account]));
                (Kind::Step, Operation::Step, both.to_vec())
            }
            Stage::Read if held.len() == stepping.accounts.len() => {
                stepping.stage = Stage::Write;
                let sql = format!("UPDATE {BANK} SET v = ? WHERE k = ?");
                let after = [held[0] - stepping.sum, held[1] + stepping.sum];
                let both = after.iter().zip(stepping.accounts);
                let both = both.map(|(v, k)| statement(sql.clone(), &[*v, k])).collect();
                (Kind::Step, Operation::Step, both)
            }
            // Such a row there is not.
            Stage::Read => {
                stepping.stage = Stage::End;
                (Kind::Abandon, Operation::Abandon(None), Vec::new())
            }
            Stage::Write => {
                stepping.stage = Stage::AddKey;
                (Kind::Step, Operation::Step, append(stepping.key).1)
            }
            Stage::AddKey | Stage::End => {
                // There may be no table for keys.
                stepping.keyed = answer.is_ok();
                stepping.stage = Stage::End;
                let key = stepping.keyed.then_some(stepping.key);
                if failover.dice.one_in(6) {
                    (Kind::Abandon, Operation::Abandon(key), Vec::new())
                } else {
                    (Kind::Finish, Operation::Finish { key, late: false }, Vec::new())
                }
            }
        };
        let (Some(of), (kind, what, statements)) = (stepping.transaction, next) else {
            return Ok(true);
        };
        self.ask_in_steps(which, stepping, kind(of), what, statements).map(|()| true)
    }

    /// An application goes on with something else: what it did not ask to be finished never is.
    fn leave_steps(&mut self, which: usize, stepping: &Stepping, error: &ClientError) -> Verdict {
        if let Some(failover) = &mut self.failover {
            failover.refused.insert(stepping.key);
            if let ClientError::Shard(ShardError::Sql(sql)) = error {
                failover.apps[which].lacks_table |= sql.message.starts_with("no such table");
            }
        }
        self.checks.nobody_holds(stepping.key)
    }
}
