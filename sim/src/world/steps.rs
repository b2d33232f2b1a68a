//! Clients that move money in interactive transactions: they read two accounts, write both with what
//! they make of that, and finish or abandon it. Whoever got between would make money or lose some.
//!
//! Each adds a key as well, where there is a table for keys: that shows whether it was done.

use std::collections::BTreeMap;

use quorate_core::engine::{Rows, Statement, Value};
use quorate_core::shard::{Reply, ShardError, SqlKind, TransactionId};
use quorate_core::{ClusterId, LogId};

use super::World;
use super::workload::{ACCOUNTS, append, statement};
use crate::checks::workloads::{BANK, Operation, number};
use crate::counts::Count;
use crate::plan::Work;

/// What comes next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Begin,
    Read,
    Write,
    AddKey,
    End,
    /// It is abandoned, or finished: the answer is awaited.
    Ended,
}

/// A transaction of a client that is not over.
#[derive(Debug)]
struct Stepping {
    of: (ClusterId, LogId),
    stage: Stage,
    transaction: Option<TransactionId>,
    accounts: [i64; 2],
    sum: i64,
    /// What the accounts held.
    held: Vec<i64>,
    /// A key that is added with it, and whether it was.
    key: i64,
    keyed: bool,
    /// When it was open, as the client heard.
    begun: u64,
}

/// The transactions of all clients, by client.
#[derive(Debug, Default)]
pub(super) struct Steps(BTreeMap<usize, Stepping>);

impl World {
    /// What a client does next, if that is in an interactive transaction.
    pub(super) fn next_step(
        &mut self,
        which: usize,
        of: (ClusterId, LogId),
    ) -> Option<(Operation, SqlKind, Vec<Statement>)> {
        if self.clients.steps.0.get(&which).is_some_and(|stepping| stepping.of != of) {
            self.drop_steps(which);
        }
        if !self.clients.steps.0.contains_key(&which) {
            let client = &self.clients.all[which];
            let plain = client.plan.work == Work::Bank && client.plan.sessions.is_none();
            if !plain || client.lacks_table || !self.client_dice.one_in(3) {
                return None;
            }
            self.draw_transfer(which, of);
        }
        let limit = self.plan.databases.as_ref()?.limits.interactive_time;
        let abandons = self.client_dice.one_in(6);
        let now = self.now;
        let stepping = self.clients.steps.0.get_mut(&which)?;
        let transaction = |stepping: &Stepping| stepping.transaction;
        let step = |statements| Some((Operation::Step, statements));
        let (operation, statements) = match stepping.stage {
            Stage::Begin | Stage::Ended => {
                return Some((Operation::Step, SqlKind::Begin, Vec::new()));
            }
            Stage::Read => {
                let sql = format!("SELECT v FROM {BANK} WHERE k = ?");
                step(stepping.accounts.map(|account| statement(sql.clone(), &[account])).to_vec())?
            }
            Stage::Write => {
                let sql = format!("UPDATE {BANK} SET v = ? WHERE k = ?");
                let after = [stepping.held[0] - stepping.sum, stepping.held[1] + stepping.sum];
                let both = after.iter().zip(stepping.accounts);
                step(both.map(|(v, k)| statement(sql.clone(), &[*v, k])).collect())?
            }
            Stage::AddKey => step(append(stepping.key).1)?,
            Stage::End => {
                stepping.stage = Stage::Ended;
                let of = transaction(stepping)?;
                if abandons {
                    let key = stepping.keyed.then_some(stepping.key);
                    return Some((Operation::Abandon(key), SqlKind::Abandon(of), Vec::new()));
                }
                // Twice as long, for clocks differ.
                let limit = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
                let late = now > stepping.begun.saturating_add(limit.saturating_mul(2));
                let key = stepping.keyed.then_some(stepping.key);
                let operation = Operation::Finish { key, late };
                return Some((operation, SqlKind::Finish(of, None), Vec::new()));
            }
        };
        Some((operation, SqlKind::Step(transaction(stepping)?), statements))
    }

    fn draw_transfer(&mut self, which: usize, of: (ClusterId, LogId)) {
        let accounts = u64::try_from(ACCOUNTS).unwrap_or(2);
        let dice = &mut self.client_dice;
        let from = dice.below(accounts);
        let to = (from + 1 + dice.below(accounts - 1)) % accounts;
        let sum = i64::try_from(dice.between(1, 9)).unwrap_or(1);
        let accounts = [from, to].map(|account| i64::try_from(account).unwrap_or(0));
        let stepping = Stepping {
            of,
            stage: Stage::Begin,
            transaction: None,
            accounts,
            sum,
            held: Vec::new(),
            key: self.clients.unique(),
            keyed: false,
            begun: 0,
        };
        self.clients.steps.0.insert(which, stepping);
    }

    /// A client has the answer to its call; `None`: it will never come.
    pub(super) fn stepped(&mut self, which: usize, reply: Option<&Reply>) {
        let now = self.now;
        let Some(stepping) = self.clients.steps.0.get_mut(&which) else { return };
        match (stepping.stage, reply) {
            (Stage::Begin, Some(Reply::Began { transaction })) => {
                (stepping.transaction, stepping.begun) = (Some(*transaction), now);
                stepping.stage = Stage::Read;
                self.counts.add(Count::InteractiveBegun);
            }
            (Stage::Read, Some(Reply::Stepped { rows, error: None })) => {
                stepping.held = rows.iter().filter_map(balance).collect();
                let both = stepping.held.len() == stepping.accounts.len();
                stepping.stage = if both { Stage::Write } else { Stage::Ended };
                if !both {
                    self.drop_steps(which);
                }
            }
            (Stage::Write, Some(Reply::Stepped { error: None, .. })) => {
                stepping.stage = Stage::AddKey;
            }
            (Stage::AddKey, Some(Reply::Stepped { error, .. })) => {
                // There may be no table for keys.
                stepping.keyed = error.is_none();
                stepping.stage = Stage::End;
            }
            (_, reply) => {
                self.count_end(reply);
                self.drop_steps(which);
            }
        }
    }

    fn count_end(&mut self, reply: Option<&Reply>) {
        if let Some(Reply::Failed(ShardError::TransactionLost { .. })) = reply {
            self.counts.add(Count::InteractiveLost);
        }
    }

    /// A client goes on with something else. What it did not ask to be finished never is.
    fn drop_steps(&mut self, which: usize) {
        let Some(stepping) = self.clients.steps.0.remove(&which) else { return };
        if stepping.stage != Stage::Ended {
            self.checks.never_done(stepping.of, stepping.key);
        }
    }
}

pub(super) fn balance(rows: &Rows) -> Option<i64> {
    let value: Option<&Value> = rows.rows.first().and_then(|row| row.first());
    number(value)
}
