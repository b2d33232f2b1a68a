//! What clients did and what they were told: nothing acknowledged is lost, nothing refused is done,
//! and whoever reads sees one state, not older than it may be.
//!
//! That a history is linearizable is checked by a witness: each answer names the position in the
//! shard's log at which it took effect. It must agree with the content there, and lie behind
//! everything that was answered before it was asked.

use std::collections::{BTreeMap, BTreeSet};

use quorate_core::engine::memory::Memory;
use quorate_core::engine::{Position, Rows, SqlErrorKind, Value};
use quorate_core::shard::{Consistency, Reply, SessionId, ShardError, StageId};
use quorate_core::{ClusterId, Index, LogId};

use super::{Checks, Ledger, Sent, total};
use crate::outcome::{Verdict, Violation};

/// The table to which keys are added that were never used before.
pub const APPENDS: &str = "a";
/// The table of accounts, whose sum stays.
pub const BANK: &str = "b";
/// The table of registers.
pub const REGISTERS: &str = "r";
/// The table of counters, to which clients in sessions add one at a time.
pub const COUNTERS: &str = "n";

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
    /// To add one to a counter.
    Count(i64),
    /// To open a session.
    Open,
    /// To compare all copies at one position.
    Compare,
    /// To make a file the content, which has this number.
    Restore(u64),
    /// To begin an interactive transaction, or a step of one.
    Step,
    /// To finish one that added this key, when its time was over for long (`late`) or not.
    Finish {
        /// Which, if any.
        key: Option<i64>,
        /// Nothing may be done.
        late: bool,
    },
    /// To abandon one that added this key.
    Abandon(Option<i64>),
}

impl Operation {
    /// Whether it belongs to an interactive transaction.
    #[must_use]
    pub fn is_in_steps(&self) -> bool {
        matches!(self, Self::Step | Self::Finish { .. } | Self::Abandon(_))
    }
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
    /// How far the shard was then.
    pub before: Before,
}

/// How far a shard is when something is asked of it.
#[derive(Clone, Copy, Default, Debug)]
pub struct Before {
    /// Everything up to here has been answered.
    pub answered: Index,
    /// And everything up to here is committed.
    pub committed: Index,
}

/// What is known of one shard's clients.
#[derive(Clone, Debug, Default)]
struct Clients {
    /// The last position that anybody was told of as done.
    floor: Index,
    /// Keys that were acknowledged as added, and as which entry.
    added: BTreeMap<i64, Index>,
    /// Keys that were not added, as somebody was told.
    refused: BTreeSet<i64>,
    /// Values that a swap has replaced, by register, and by the entry that began the content.
    swapped: BTreeSet<(Index, i64, i64)>,
    /// Files that were given to nodes, to be the content: by the hash of what they hold.
    files: BTreeMap<[u8; 32], u64>,
    /// Those of which somebody was told that they will not be.
    given_up: BTreeSet<u64>,
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
    /// How far a shard is.
    #[must_use]
    pub fn before(&self, cluster: ClusterId, log: LogId) -> Before {
        let committed = self.shard(cluster, log).map_or(Index::ZERO, Ledger::commit);
        Before { answered: self.workloads.floor(cluster, log), committed }
    }

    /// How far each shard is.
    #[must_use]
    pub fn before_all(&self) -> BTreeMap<(ClusterId, LogId), Before> {
        self.shards.keys().map(|of| (*of, self.before(of.0, of.1))).collect()
    }

    /// A node has answered from `at`, at once, though it had answered from `shown` before.
    ///
    /// # Errors
    /// `shown-taken-back`, if there is content between the two.
    pub fn answered_behind(&self, key: (ClusterId, LogId), at: Index, shown: Index) -> Verdict {
        let Some(ledger) = self.shards.get(&key) else { return Ok(()) };
        if ledger.content.position_at(shown) <= at {
            return Ok(());
        }
        let detail = format!("{key:?}: from {at} at once, and from {shown} before");
        Err(Violation::new("shown-taken-back", detail))
    }

    /// A client has its answer. In a session that is what ends the operation, however often it was sent.
    ///
    /// # Errors
    /// `answered-before-commit`, `answered-behind` an earlier answer, `acknowledged-lost`,
    /// `done-twice`, `refused-and-done`, `read-of-another-state`, `money-made`, `own-token-refused`.
    pub fn answered(&mut self, asked: &Asked, reply: &Reply) -> Verdict {
        let key = (asked.cluster, asked.log);
        let clients = self.workloads.shards.entry(key).or_default();
        let Some(ledger) = self.shards.get_mut(&key) else {
            return match reply {
                Reply::Done { .. }
                | Reply::Compared { .. }
                | Reply::Session { .. }
                | Reply::Began { .. }
                | Reply::Stepped { .. } => Err(wrong("answered-before-commit", asked, reply)),
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
            ) if at.index <= asked.before.committed
                // Of an entry that came meanwhile it can be said: another cluster's may have its name.
                && ledger.committed_term(at.index) == Some(at.term) =>
            {
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
            (Operation::Open, Reply::Session { session }) => {
                done(clients, ledger, asked, session.at, reply)?;
                ledger.content.sessions.opened(*session)
            }
            (Operation::Step, Reply::Began { .. } | Reply::Stepped { .. } | Reply::Failed(_)) => {
                Ok(())
            }
            (Operation::Abandon(key), Reply::Done { .. } | Reply::Failed(_)) => {
                refused(clients, ledger, *key, asked, reply)
            }
            (Operation::Finish { late: true, .. }, Reply::Done { .. }) => {
                Err(wrong("finished-after-its-time", asked, reply))
            }
            (Operation::Compare | Operation::Open | Operation::Step, Reply::Done { .. })
            | (
                _,
                Reply::Compared { .. }
                | Reply::Session { .. }
                | Reply::Began { .. }
                | Reply::Stepped { .. },
            ) => Err(wrong("answered-otherwise", asked, reply)),
            (_, Reply::Done { at, rows }) => {
                done(clients, ledger, asked, *at, reply)?;
                has_effect(clients, ledger.content.began(at.index), asked, rows, reply)
            }
            (_, Reply::Failed(ShardError::CommittedBelowQuorum { at })) => {
                done(clients, ledger, asked, *at, reply)
            }
            // Of a request that failed nothing is said but that.
            (_, Reply::Failed(ShardError::AlreadyDone { at })) => {
                is_committed(ledger, asked, *at, reply)
            }
            (_, Reply::Failed(ShardError::OutcomeUnknown)) => Ok(()),
            (Operation::Append(key), Reply::Failed(error)) => {
                if let ShardError::Sql(sql) = error
                    && sql.kind == SqlErrorKind::Constraint
                {
                    return Err(wrong("done-twice", asked, reply));
                }
                clients.refused.insert(*key);
                if ledger.content.had(*key) {
                    return Err(wrong("refused-and-done", asked, reply));
                }
                Ok(())
            }
            (Operation::Finish { key, .. }, Reply::Failed(_)) => {
                refused(clients, ledger, *key, asked, reply)
            }
            (Operation::Restore(file), Reply::Failed(_)) => {
                clients.given_up.insert(*file);
                if ledger.has_restored(|hash| clients.files.get(&hash) == Some(file)) {
                    return Err(wrong("refused-and-done", asked, reply));
                }
                Ok(())
            }
            (_, Reply::Failed(_)) => Ok(()),
        }
    }

    /// Nobody has asked for the end of an interactive transaction that added a key, and nobody will.
    pub fn never_done(&mut self, of: (ClusterId, LogId), key: i64) {
        self.workloads.shards.entry(of).or_default().refused.insert(key);
    }

    /// A request in a session has an answer that is final. What was asked by it may have ended before.
    ///
    /// # Errors
    /// `answered-otherwise-again`, `superseded-unanswered`.
    pub fn answered_once(&self, of: (ClusterId, LogId), sent: Sent, reply: &Reply) -> Verdict {
        match self.shards.get(&of) {
            Some(ledger) => ledger.content.sessions.answered(sent, reply),
            None => Err(Violation::new("answered-before-commit", format!("{sent:?}: {reply:?}"))),
        }
    }

    /// Of a request that was sent once somebody is told that it has not run.
    ///
    /// # Errors
    /// `refused-and-done`.
    pub fn nothing_ran(&self, of: (ClusterId, LogId), sent: Sent) -> Verdict {
        match self.shards.get(&of).and_then(|ledger| ledger.content.sessions.ran_at(sent)) {
            None => Ok(()),
            Some(at) => {
                let detail = format!("{sent:?} of {of:?} has run as entry {}", at.index);
                Err(Violation::new("refused-and-done", detail))
            }
        }
    }

    /// Somebody is told that a session is not known, in a world in which none ends by itself.
    ///
    /// # Errors
    /// `session-lost` if it is.
    pub fn expired(&self, of: (ClusterId, LogId), session: SessionId) -> Verdict {
        let ledger = self.shards.get(&of);
        if !ledger.is_some_and(|ledger| ledger.content.sessions.knows(session)) {
            return Ok(());
        }
        let detail = format!("{session:?} of {of:?} is called expired, and every copy has it");
        Err(Violation::new("session-lost", detail))
    }

    /// What was told of one shard holds of the one that it was brought as, as far as it was not replaced.
    pub(super) fn carry_answers(&mut self, from: (ClusterId, LogId), to: (ClusterId, LogId)) {
        let Some(clients) = self.workloads.shards.get(&from).cloned() else { return };
        let began =
            self.shards.get(&from).map_or(Index::ZERO, |l| l.content.began(Index(u64::MAX)));
        let base = self.shards.get(&to).map_or(Index::ZERO, Ledger::base);
        let added = clients.added.into_iter().filter(|(_, at)| *at >= began);
        let swapped = clients.swapped.into_iter().filter(|(of, ..)| *of == began);
        // It may have been asked, and given files, before it had begun.
        let there = self.workloads.shards.entry(to).or_default();
        there.floor = Index::ZERO;
        there.added.extend(added.map(|(key, _)| (key, base)));
        there.refused.extend(clients.refused);
        there.swapped.extend(swapped.map(|(_, key, old)| (Index::ZERO, key, old)));
    }

    /// A file is given to a node, to be the content of a shard.
    pub fn gives_file(&mut self, of: (ClusterId, LogId), number: u64, holds: &Memory) {
        let clients = self.workloads.shards.entry(of).or_default();
        clients.files.insert(holds.hash().hash, number);
    }

    /// A file lies staged beside a copy.
    ///
    /// # Errors
    /// `staged-otherwise` if nobody gave a file that holds this, or the stage is another file elsewhere.
    pub fn stages(&mut self, of: (ClusterId, LogId), stage: StageId, held: &Memory) -> Verdict {
        let hash = held.hash().hash;
        let given = self.workloads.shards.get(&of).is_some_and(|c| c.files.contains_key(&hash));
        let ledger = self.ledger_of(of.0, of.1);
        let known = ledger.stages.entry(stage).or_insert_with(|| held.clone());
        if given && known.hash().hash == hash {
            return Ok(());
        }
        let detail = format!("the file {stage} of {of:?}, given by somebody: {given}");
        Err(Violation::new("staged-otherwise", detail))
    }

    /// An entry that makes a file the content is committed.
    ///
    /// # Errors
    /// `refused-and-done`.
    pub(super) fn restored(&self, of: (ClusterId, LogId)) -> Verdict {
        let (Some(clients), Some(ledger)) = (self.workloads.shards.get(&of), self.shards.get(&of))
        else {
            return Ok(());
        };
        let given_up = |hash: [u8; 32]| {
            clients.files.get(&hash).is_some_and(|file| clients.given_up.contains(file))
        };
        if ledger.has_restored(given_up) {
            let detail = format!("{of:?} holds a file of which somebody was told that it will not");
            return Err(Violation::new("refused-and-done", detail));
        }
        Ok(())
    }

    /// Looks at everything that was ever acknowledged or refused.
    ///
    /// # Errors
    /// `acknowledged-lost`, `refused-and-done`.
    pub fn all_answers_hold(&self) -> Verdict {
        for (key, clients) in &self.workloads.shards {
            let Some(ledger) = self.shards.get(key) else { continue };
            let lost = clients.added.iter().find(|(key, at)| !ledger.content.kept(**key, **at));
            if let Some((lost, _)) = lost {
                let detail = format!("{key:?} was told that {lost} was added, and it is not there");
                return Err(Violation::new("acknowledged-lost", detail));
            }
            if let Some(there) = clients.refused.iter().find(|key| ledger.content.had(**key)) {
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
    if at.index < asked.before.answered {
        return Err(wrong("answered-behind", asked, reply));
    }
    clients.floor = clients.floor.max(at.index);
    match asked.operation {
        Operation::Append(key) | Operation::Finish { key: Some(key), .. } => {
            clients.added.insert(key, at.index);
            if !ledger.content.kept(key, at.index) {
                return Err(wrong("acknowledged-lost", asked, reply));
            }
        }
        Operation::Restore(file) => {
            let stage = ledger.restored_at(at).and_then(|stage| ledger.stages.get(&stage));
            let holds = stage.and_then(|held| clients.files.get(&held.hash().hash));
            if holds != Some(&file) {
                return Err(wrong("restored-otherwise", asked, reply));
            }
        }
        _ => {}
    }
    Ok(())
}

/// What added a key is not done, and never will be.
fn refused(
    clients: &mut Clients,
    ledger: &Ledger,
    key: Option<i64>,
    asked: &Asked,
    reply: &Reply,
) -> Verdict {
    clients.refused.extend(key);
    match key.is_some_and(|key| ledger.content.had(key)) {
        true => Err(wrong("refused-and-done", asked, reply)),
        false => Ok(()),
    }
}

fn is_committed(ledger: &Ledger, asked: &Asked, at: Position, reply: &Reply) -> Verdict {
    let nothing = at == Position::default();
    if nothing || ledger.base() >= at.index || ledger.committed_term(at.index) == Some(at.term) {
        return Ok(());
    }
    Err(wrong("answered-before-commit", asked, reply))
}

fn has_effect(
    clients: &mut Clients,
    began: Index,
    asked: &Asked,
    rows: &[Rows],
    reply: &Reply,
) -> Verdict {
    let affected: u64 = rows.iter().map(|rows| rows.affected).sum();
    let due = match &asked.operation {
        Operation::Append(_) | Operation::Set(..) | Operation::Count(_) => affected == 1,
        Operation::Transfer => affected == 2,
        // Values are used once: none can be replaced by two swaps, unless a file has brought it back.
        Operation::Swap { key, old, .. } => {
            affected == 0 || clients.swapped.insert((began, *key, *old))
        }
        Operation::Make(_)
        | Operation::Read(..)
        | Operation::ReadBank(_)
        | Operation::Open
        | Operation::Compare
        | Operation::Step
        | Operation::Finish { .. }
        | Operation::Abandon(_)
        | Operation::Restore(_) => true,
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
        Consistency::Linearizable => asked.before.answered,
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
            if !first.is_empty() && ledger.content.sum_at(at.index) != Some(sum) {
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
