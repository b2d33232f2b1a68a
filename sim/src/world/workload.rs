//! What clients ask for: their tables, and the next operation of each.

use quorate_core::LogId;
use quorate_core::engine::{Statement, Value};
use quorate_core::shard::Consistency;

use super::World;
use crate::checks::workloads::{APPENDS, BANK, COUNTERS, Operation, REGISTERS};
use crate::plan::Work;

/// How many accounts there are.
pub(super) const ACCOUNTS: i64 = 4;
/// What each holds at first.
const DEPOSIT: i64 = 100;
/// How many registers there are.
const REGISTERS_MAX: i64 = 2;
/// How many counters there are: mostly one for each client.
const COUNTERS_MAX: i64 = 8;

pub(super) fn statement(sql: String, args: &[i64]) -> Statement {
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
        COUNTERS => (0..COUNTERS_MAX).map(|counter| [counter, 0]).collect(),
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

impl World {
    /// What a client does next, in the shard of this log.
    pub(super) fn next_operation(
        &mut self,
        which: usize,
        log: LogId,
    ) -> (Operation, Vec<Statement>) {
        let dice = &mut self.client_dice;
        let client = &self.clients.all[which].plan;
        let work = client.work;
        let counts = client.sessions.as_ref().is_some_and(|sessions| sessions.counts);
        if std::mem::take(&mut self.clients.all[which].lacks_table) {
            return table(match work {
                _ if counts => COUNTERS,
                Work::Appends => APPENDS,
                Work::Bank => BANK,
                Work::Registers => REGISTERS,
            });
        }
        if dice.one_in(40) {
            return (Operation::Compare, Vec::new());
        }
        if counts {
            let row = i64::try_from(which).unwrap_or(0) % COUNTERS_MAX;
            let sql = format!("UPDATE {COUNTERS} SET v = v + ? WHERE k = ?");
            return (Operation::Count(row), vec![statement(sql, &[1, row])]);
        }
        let wrote = self.clients.all[which].wrote.filter(|(of, _)| *of == log);
        let consistency = match (dice.below(4), wrote) {
            (0, _) => Consistency::Local,
            (1, Some((_, position))) => Consistency::AtLeast(position),
            (2, _) => Consistency::AsConfigured,
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
}
