//! `recover --unsafe`: one survivor of a lost quorum goes on alone, under a new cluster id.
//!
//! Unsafe because nobody can tell what the missing servers have acknowledged without this one.
//! Everything in the survivor's log is kept, committed or not: what was acknowledged and reached
//! this node is among it.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::configuration::{self, ConfigCommand, Configuration, Rejection};
use crate::engine::Position;
use crate::ids::{ClusterId, Index, LogId, NodeId, Term};
use crate::raft::{Entry, Membership, Payload, Snapshot};
use crate::storage::{HardState, Recovered, RecoveredLog, StorageOp};

/// How far the new cluster's terms begin behind those that the survivor knows. The servers that are
/// given up may have been further: no entry of theirs must bear the name, index and term, of one of the
/// new cluster's, for tokens and sessions of clients go by it.
const TERMS_APART: u64 = 1 << 32;

/// What a recovery keeps, for the operator to read before and after.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovery {
    /// To be made durable, all or nothing.
    pub ops: Vec<StorageOp>,
    /// The cluster that is given up.
    pub from: ClusterId,
    /// The new cluster.
    pub into: ClusterId,
    /// The last entry of each log of the survivor: what is not in there is lost.
    pub last: Vec<(LogId, Index, Term)>,
    /// How far the survivor knew its configuration log to be committed.
    pub commit: Index,
    /// Who goes on.
    pub survivor: NodeId,
    /// The configuration as the survivor's log has it: who is given up is in there.
    pub before: Configuration,
    /// The configuration that the survivor goes on with.
    pub configuration: Configuration,
}

/// Why there is nothing to recover.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum RecoverError {
    /// The directory never belonged to a cluster.
    #[error("this directory never belonged to a cluster: there is nothing to recover, start it")]
    NoCluster,
    /// No configuration in the log.
    #[error("this directory holds no configuration: its node had not received it; recover another")]
    NoConfiguration,
    /// Part of the log is unreadable.
    #[error("part of the log in this directory is unreadable: recover another server's")]
    Damaged,
    /// The node is not a server of the configuration that it holds.
    #[error("this node is not a server of its cluster any more: {0}")]
    NotServer(#[from] Rejection),
}

/// What to write so that the node of this directory founds `into` with all it holds. `copies` says
/// where the live copies of its shards stand, as far as they can be read: one may hold what its log
/// does not reach, when the process ended between the record of a copy and the log's beginning behind
/// it. Then the log begins behind the copy.
///
/// # Errors
/// [`RecoverError`]: nothing can be recovered here.
pub fn recover_unsafe(
    recovered: &Recovered,
    copies: &BTreeMap<LogId, Position>,
    into: ClusterId,
) -> Result<Recovery, RecoverError> {
    let from = recovered.identity.cluster.ok_or(RecoverError::NoCluster)?;
    let log = recovered.logs.get(&LogId::CONFIGURATION).ok_or(RecoverError::NoConfiguration)?;
    if log.damaged {
        return Err(RecoverError::Damaged);
    }
    let mut document: Option<Configuration> = if log.snapshot.index > Index::ZERO {
        postcard::from_bytes(&log.snapshot.data).map_err(|_| RecoverError::Damaged)?
    } else {
        None
    };
    for entry in &log.entries {
        if let Payload::Data(data) = &entry.payload
            && let Some(command) = crate::node::decode_command(data)
        {
            // What the document refused then, it refuses again.
            let _ = configuration::apply(&mut document, &command);
        }
    }
    let survivor = recovered.identity.node;
    if let Some(held) = &mut document {
        held.dissolved_into = None;
    }
    let before = document.clone().ok_or(RecoverError::NoConfiguration)?;
    configuration::apply(&mut document, &ConfigCommand::Recover { cluster: into, survivor })?;
    let configuration = document.clone().ok_or(RecoverError::NoConfiguration)?;
    let end = |log: &RecoveredLog| {
        let last = log.entries.last();
        last.map_or((log.snapshot.index, log.snapshot.term), |e| (e.index, e.term))
    };
    let ahead =
        |id: &LogId, log: &RecoveredLog| copies.get(id).filter(|copy| copy.index > end(log).0);
    // What is kept of a log, be it in the copy alone.
    let reached = |id: &LogId, log: &RecoveredLog| {
        ahead(id, log).map_or(end(log), |copy| (copy.index, copy.term))
    };
    let (index, term) = end(log);
    let term = apart(log.hard_state.term.max(term));
    let index = index.next();
    let membership = Membership::founder(survivor, configuration.version);
    let data = postcard::to_allocvec(&document);
    let data = data.unwrap_or_else(|e| unreachable!("a document encodes: {e}")).into();
    let mut identity = recovered.identity.clone();
    identity.cluster = Some(into);
    let id = LogId::CONFIGURATION;
    // The identity first: should only part of this survive, then a node that speaks for the new
    // cluster cannot decide yet. The other way round it would decide alone in the old one.
    let mut ops = vec![StorageOp::Identity(identity)];
    for (log, held) in &recovered.logs {
        let kept = configuration.shard_of(*log);
        let unbegun = held.entries.is_empty() && held.snapshot.index == Index::ZERO;
        let brought = |founding: &configuration::Founding| founding.origin.is_some();
        if unbegun && kept.is_some_and(|s| s.shard.founding.as_ref().is_some_and(brought)) {
            continue; // What the survivor brings is not in its place yet: it begins the log with that.
        }
        if kept.is_some_and(|shard| shard.shard.copies.contains_key(&survivor)) && !held.damaged {
            if let Some(copy) = ahead(log, held) {
                ops.push(behind(*log, *copy, survivor, &configuration));
            }
            let (index, term) = reached(log, held);
            let term = term.max(end(held).1).max(held.hard_state.term);
            ops.extend(alone(*log, survivor, (index, term), &configuration));
        }
    }
    ops.push(StorageOp::Snapshot {
        log: id,
        snapshot: Snapshot { index, term, membership, data },
        reset: true,
    });
    let state = HardState { term, vote: None, commit: index };
    ops.push(StorageOp::HardState { log: id, state });
    let kept = |(id, log): (&LogId, &RecoveredLog)| {
        let (index, term) = reached(id, log);
        (*id, index, term)
    };
    let last = recovered.logs.iter().map(kept).collect();
    let commit = log.hard_state.commit;
    Ok(Recovery { ops, from, into, last, commit, survivor, before, configuration })
}

/// The first term of the new cluster.
fn apart(known: Term) -> Term {
    Term(known.0.saturating_add(TERMS_APART))
}

/// Has a log begin behind what the copy holds.
fn behind(
    log: LogId,
    copy: Position,
    survivor: NodeId,
    configuration: &Configuration,
) -> StorageOp {
    let membership = Membership::founder(survivor, configuration.version);
    let Position { index, term } = copy;
    let snapshot = Snapshot { index, term, membership, data: bytes::Bytes::new() };
    StorageOp::Snapshot { log, snapshot, reset: true }
}

/// Makes the survivor the only voter of a shard's log, behind everything that the log holds: a next
/// entry of a next term, committed with all before it.
fn alone(
    log: LogId,
    survivor: NodeId,
    (last, term): (Index, Term),
    configuration: &Configuration,
) -> [StorageOp; 2] {
    let (index, term) = (last.next(), apart(term));
    let membership = Membership::founder(survivor, configuration.version);
    let entries = vec![Entry { index, term, payload: Payload::Membership(membership) }];
    let state = HardState { term, vote: None, commit: index };
    [StorageOp::Append { log, entries }, StorageOp::HardState { log, state }]
}
