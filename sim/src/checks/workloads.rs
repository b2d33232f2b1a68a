//! What clients did and what they were told: nothing acknowledged is lost, nothing refused is done,
//! and whoever reads sees one state, not older than it may be.
//!
//! That a history is linearizable is checked by a witness: each answer names the position in the
//! shard's log at which it took effect. It must agree with the content there, and lie behind
//! everything that was answered before it was asked.

use std::collections::{BTreeMap, BTreeSet};

use quorate_core::engine::{Position, Rows, SqlErrorKind, Value};
use quorate_core::shard::{Consistency, Reply, ShardError};
use quorate_core::{ClusterId, Index, LogId};

use super::{Checks, Ledger, total};
use crate::outcome::{Verdict, Violation};

/// The table to which keys are added that were never used before.
pub const APPENDS: &str = "a";
/// The table of accounts, whose sum stays.
pub const BANK: &str = "b";
/// The table of registers.
pub const REGISTERS: &str = "r";

/// What a client asked for.
#[derive(Clone, PartialEq, Debug)]
pub enum Operation {
    /// To make a table, with its first rows.
    Make(&'static str),
    /// To add a key.
    Append(i64),
    /// To move money.
    Transfer,
    /// To read all accounts.
    ReadBank(Consistency),
    /// To set a register to a value that is used once.
    Set(i64, i64),
    /// To set a register if it holds a value.
    Swap {
        /// Which.
        key: i64,
        /// It holds this.
        old: i64,
        /// A value that is used once.
        new: i64,
    },
    /// To read a register.
    Read(i64, Consistency),
    /// To compare all copies at one position.
    Compare,
}

/// A request as it was made.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Of which cluster.
    pub cluster: ClusterId,
    /// Of which shard.
    pub log: LogId,
    /// What.
    pub operation: Operation,
    /// Everything up to here had been answered before.
    pub floor: Index,
}

/// What is known of one shard's clients.
#[derive(Clone, Debug, Default)]
struct Clients {
    /// The last position that anybody was told of as done.
    floor: Index,
    /// Keys that were acknowledged as added.
    added: BTreeSet<i64>,
    /// Keys that were not added, as somebody was told.
    refused: BTreeSet<i64>,
    /// Values that a swap has replaced, by register.
    swapped: BTreeSet<(i64, i64)>,
}

/// What clients did and saw.
#[derive(Debug, Default)]
pub struct Workloads {
    shards: BTreeMap<(ClusterId, LogId), Clients>,
}

impl Workloads {
    /// Everything up to here has been answered.
    #[must_use]
    pub fn floor(&self, cluster: ClusterId, log: LogId) -> Index {
        self.shards.get(&(cluster, log)).map_or(Index::ZERO, |clients| clients.floor)
    }
}

fn wrong(invariant: &str, asked: &Asked, reply: &Reply) -> Violation {
    Violation::new(invariant, format!("{asked:?} is answered with {reply:?}"))
}

impl Checks {
    /// A client has its answer.
    ///
    /// # Errors
    /// `answered-before-commit`, `answered-behind` an earlier answer, `acknowledged-lost`,
    /// `done-twice`, `refused-and-done`, `read-of-another-state`, `money-made`, `own-token-refused`.
    pub fn answered(&mut self, asked: &Asked, reply: &Reply) -> Verdict {
        let key = (asked.cluster, asked.log);
        let clients = self.workloads.shards.entry(key).or_default();
        let Some(ledger) = self.shards.get(&key) else {
            return match reply {
                Reply::Done { .. } | Reply::Compared { .. } => {
                    Err(wrong("answered-before-commit", asked, reply))
                }
                Reply::Failed(_) => Ok(()),
            };
        };
        match (&asked.operation, reply) {
            (Operation::Read(..) | Operation::ReadBank(_), Reply::Done { at, rows }) => {
                saw(ledger, asked, (*at, rows), reply)
            }
            (
                Operation::Read(..) | Operation::ReadBank(_),
                Reply::Failed(ShardError::TokenOfAnotherHistory { at }),
            ) if ledger.committed_term(at.index) == Some(at.term) => {
                Err(wrong("own-token-refused", asked, reply))
            }
            (Operation::Read(..) | Operation::ReadBank(_), Reply::Failed(_)) => Ok(()),
            (Operation::Compare, Reply::Compared { copies }) => {
                let hashes =
                    copies.iter().filter_map(|copy| Some((copy.node, copy.hashed.as_ref().ok()?)));
                for (node, hash) in hashes {
                    ledger.content.agrees(&format!("the copy of {node:?}"), hash)?;
                }
                let mut places =
                    copies.iter().filter_map(|copy| Some(copy.hashed.as_ref().ok()?.at));
                let first = places.next();
                if places.any(|at| Some(at) != first) {
                    return Err(wrong("compared-apart", asked, reply));
                }
                Ok(())
            }
            (Operation::Compare, Reply::Done { .. }) | (_, Reply::Compared { .. }) => {
                Err(wrong("answered-otherwise", asked, reply))
            }
            (_, Reply::Done { at, rows }) => {
                done(clients, ledger, asked, *at, reply)?;
                has_effect(clients, asked, rows, reply)
            }
            (_, Reply::Failed(ShardError::CommittedBelowQuorum { at })) => {
                done(clients, ledger, asked, *at, reply)
            }
            (_, Reply::Failed(ShardError::OutcomeUnknown)) => Ok(()),
            (Operation::Append(key), Reply::Failed(error)) => {
                if let ShardError::Sql(sql) = error
                    && sql.kind == SqlErrorKind::Constraint
                {
                    return Err(wrong("done-twice", asked, reply));
                }
                clients.refused.insert(*key);
                if ledger.content.last.row(APPENDS, *key).is_some() {
                    return Err(wrong("refused-and-done", asked, reply));
                }
                Ok(())
            }
            (_, Reply::Failed(_)) => Ok(()),
        }
    }

    /// What was told of one shard holds of the one that it was brought as.
    pub(super) fn carry_answers(&mut self, from: (ClusterId, LogId), to: (ClusterId, LogId)) {
        if let Some(clients) = self.workloads.shards.get(&from).cloned() {
            self.workloads.shards.insert(to, Clients { floor: Index::ZERO, ..clients });
        }
    }

    /// Looks at everything that was ever acknowledged or refused.
    ///
    /// # Errors
    /// `acknowledged-lost`, `refused-and-done`.
    pub fn all_answers_hold(&self) -> Verdict {
        for (key, clients) in &self.workloads.shards {
            let Some(ledger) = self.shards.get(key) else { continue };
            let held = |key: &&i64| ledger.content.last.row(APPENDS, **key).is_some();
            if let Some(lost) = clients.added.iter().find(|key| !held(key)) {
                let detail = format!("{key:?} was told that {lost} was added, and it is not there");
                return Err(Violation::new("acknowledged-lost", detail));
            }
            if let Some(there) = clients.refused.iter().find(held) {
                let detail =
                    format!("{key:?} was told that {there} was not added, and it is there");
                return Err(Violation::new("refused-and-done", detail));
            }
        }
        Ok(())
    }
}

/// A write is done, as the entry at `at`.
fn done(
    clients: &mut Clients,
    ledger: &Ledger,
    asked: &Asked,
    at: Position,
    reply: &Reply,
) -> Verdict {
    is_committed(ledger, asked, at, reply)?;
    if at.index < asked.floor {
        return Err(wrong("answered-behind", asked, reply));
    }
    clients.floor = clients.floor.max(at.index);
    if let Operation::Append(key) = asked.operation {
        clients.added.insert(key);
        if ledger.content.last.row(APPENDS, key).is_none() {
            return Err(wrong("acknowledged-lost", asked, reply));
        }
    }
    Ok(())
}

fn is_committed(ledger: &Ledger, asked: &Asked, at: Position, reply: &Reply) -> Verdict {
    let nothing = at == Position::default();
    if nothing || ledger.base() >= at.index || ledger.committed_term(at.index) == Some(at.term) {
        return Ok(());
    }
    Err(wrong("answered-before-commit", asked, reply))
}

fn has_effect(clients: &mut Clients, asked: &Asked, rows: &[Rows], reply: &Reply) -> Verdict {
    let affected: u64 = rows.iter().map(|rows| rows.affected).sum();
    let due = match &asked.operation {
        Operation::Append(_) | Operation::Set(..) => affected == 1,
        Operation::Transfer => affected == 2,
        // Values are used once: none can be replaced by two swaps.
        Operation::Swap { key, old, .. } => affected == 0 || clients.swapped.insert((*key, *old)),
        Operation::Make(_) | Operation::Read(..) | Operation::ReadBank(_) | Operation::Compare => {
            true
        }
    };
    if due { Ok(()) } else { Err(wrong("done-otherwise", asked, reply)) }
}

/// Somebody has read at a position.
fn saw(
    ledger: &Ledger,
    asked: &Asked,
    (at, rows): (Position, &Vec<Rows>),
    reply: &Reply,
) -> Verdict {
    is_committed(ledger, asked, at, reply)?;
    let consistency = match &asked.operation {
        Operation::Read(_, consistency) | Operation::ReadBank(consistency) => *consistency,
        _ => return Ok(()),
    };
    let least = match consistency {
        Consistency::Local | Consistency::AsConfigured => Index::ZERO,
        Consistency::Since(token) => token.at.index.min(ledger.content.position().index),
        Consistency::AtLeast(position) | Consistency::Holding(position) => {
            position.index.min(ledger.content.position().index)
        }
        Consistency::Linearizable => asked.floor,
    };
    // A copy stands at the last entry with content: behind it there may be others.
    if at.index < least && ledger.content.position_at(least) > at.index {
        return Err(wrong("answered-behind", asked, reply));
    }
    let first = rows.first().map(|rows| rows.rows.as_slice()).unwrap_or_default();
    match &asked.operation {
        Operation::Read(key, _) => {
            let value = first.first().and_then(|row| row.first());
            if value != ledger.content.register_at(*key, at.index) {
                return Err(wrong("read-of-another-state", asked, reply));
            }
        }
        _ => {
            let values = first.iter().filter_map(|row| row.get(1));
            let sum = total(values);
            if !first.is_empty() && ledger.content.sum() != Some(sum) {
                return Err(wrong("money-made", asked, reply));
            }
        }
    }
    Ok(())
}

/// The value that a register is set to.
#[must_use]
pub fn number(value: Option<&Value>) -> Option<i64> {
    match value {
        Some(Value::Integer(number)) => Some(*number),
        _ => None,
    }
}
