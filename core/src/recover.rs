//! `recover --unsafe`: one survivor of a lost quorum goes on alone, under a new cluster id.
//!
//! Unsafe because nobody can tell what the missing servers have acknowledged without this one.
//! Everything in the survivor's log is kept, committed or not: what was acknowledged and reached
//! this node is among it.

use thiserror::Error;

use crate::configuration::{self, ConfigCommand, Configuration, Rejection};
use crate::ids::{ClusterId, Index, LogId, NodeId, Term};
use crate::raft::{Entry, Membership, Payload, Snapshot};
use crate::storage::{HardState, Recovered, StorageOp};

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

/// What to write so that the node of this directory founds `into` with all it holds.
///
/// # Errors
/// [`RecoverError`]: nothing can be recovered here.
pub fn recover_unsafe(recovered: &Recovered, into: ClusterId) -> Result<Recovery, RecoverError> {
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
    let end = |log: &crate::storage::RecoveredLog| {
        let last = log.entries.last();
        last.map_or((log.snapshot.index, log.snapshot.term), |e| (e.index, e.term))
    };
    let (index, term) = end(log);
    let term = log.hard_state.term.max(term).next();
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
            let (index, term) = end(held);
            ops.extend(alone(
                *log,
                survivor,
                (index, term.max(held.hard_state.term)),
                &configuration,
            ));
        }
    }
    ops.push(StorageOp::Snapshot {
        log: id,
        snapshot: Snapshot { index, term, membership, data },
        reset: true,
    });
    let state = HardState { term, vote: None, commit: index };
    ops.push(StorageOp::HardState { log: id, state });
    let last = recovered.logs.iter().map(|(id, log)| (*id, end(log).0, end(log).1)).collect();
    let commit = log.hard_state.commit;
    Ok(Recovery { ops, from, into, last, commit, survivor, before, configuration })
}

/// Makes the survivor the only voter of a shard's log, behind everything that the log holds: a next
/// entry of a next term, committed with all before it.
fn alone(
    log: LogId,
    survivor: NodeId,
    (last, term): (Index, Term),
    configuration: &Configuration,
) -> [StorageOp; 2] {
    let (index, term) = (last.next(), term.next());
    let membership = Membership::founder(survivor, configuration.version);
    let entries = vec![Entry { index, term, payload: Payload::Membership(membership) }];
    let state = HardState { term, vote: None, commit: index };
    [StorageOp::Append { log, entries }, StorageOp::HardState { log, state }]
}
