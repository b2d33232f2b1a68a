//! What the directory held as another node, taken over as the content of shards.
//!
//! It lies where it was moved aside, whole, and stays there: it is read, never written. The store that
//! lies beside it says which copy was live, and what its log holds: a copy that lacks an entry of its log
//! is refused, for it was to be whole before it was put there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use quorate_core::configuration::Origin;
use quorate_core::engine::{Fault, Note, Position};
use quorate_core::raft::Payload;
use quorate_core::{Generation, Index, LogId, NodeId, RecoveredLog};

use super::{FILE, Files, make_dir, remove_dir, rename, staged, sync};
use crate::engine::{put_position, snapshot_to};
use crate::store;

/// What was live of a log.
#[derive(Debug)]
struct Live {
    generation: Generation,
    /// The last entry with content.
    last: Index,
}

/// What the directory held as another node; read once, for many shards.
#[derive(Debug, Default)]
pub struct Former(Option<(NodeId, PathBuf, BTreeMap<LogId, Live>)>);

impl Former {
    fn of(&mut self, data: &Path, node: NodeId) -> Result<(&Path, &BTreeMap<LogId, Live>), Fault> {
        if self.0.as_ref().is_none_or(|(held, ..)| *held != node) {
            let failed = |error: store::StoreError| Fault::Io(error.to_string());
            let path = store::put_aside(data, node).map_err(failed)?.ok_or_else(|| {
                let clusters = data.join("backup/clusters");
                Fault::Missing(format!("what the node {node} held under {}", clusters.display()))
            })?;
            let found = store::read_only(&path).map_err(failed)?;
            let live = found.recovered.logs.iter();
            let live = live.filter_map(|(log, held)| Some((*log, live_of(held)?))).collect();
            self.0 = Some((node, path, live));
        }
        match &self.0 {
            Some((_, path, live)) => Ok((path, live)),
            None => Err(Fault::Missing(format!("what the node {node} held"))),
        }
    }
}

fn live_of(held: &RecoveredLog) -> Option<Live> {
    let content = held.entries.iter().rev().find(|e| matches!(e.payload, Payload::Data(_)));
    let last = content.map_or(Index::ZERO, |entry| entry.index);
    Some(Live { generation: held.copy?, last })
}

impl Files {
    /// Takes what this directory held as another node as a copy at this position, and gives it its place
    /// as this generation, durably with every name on the way to it. May be done again.
    ///
    /// # Errors
    /// [`Fault::Missing`]: it is not where it was moved. [`Fault::Corrupt`]: it is damaged, or lacks
    /// something. Others: it cannot be read, or the copy cannot be written.
    pub fn import(
        &self,
        former: &mut Former,
        (log, to): (LogId, Generation),
        origin: Origin,
        (at, notes): (Position, &[Note]),
    ) -> Result<(), Fault> {
        let (path, live) = former.of(&self.data, origin.node)?;
        let there = Files::new(path);
        let Some(live) = live.get(&origin.log) else {
            return Err(Fault::Missing(format!("a copy in {}", there.shard(origin.log).display())));
        };
        let from = there.copy(origin.log, live.generation);
        if !from.exists() {
            return Err(Fault::Missing(from.display().to_string()));
        }
        let shard = self.shard(log);
        let (made, place) =
            (shard.join(format!("{}{to}", staged::PLACING)), shard.join(to.to_string()));
        remove_dir(&made)?;
        make_dir(&made)?;
        let held = snapshot_to(&from, &made.join(FILE), |_| true)?;
        if held.index < live.last {
            let (path, last) = (from.display(), live.last);
            return Err(Fault::Corrupt(format!(
                "{path} ends at entry {}, its log at {last}",
                held.index
            )));
        }
        put_position(&made.join(FILE), at, notes)?;
        sync(&made)?;
        // What an interrupted attempt has put there was never opened.
        remove_dir(&place)?;
        rename(&made, &place)?;
        for dir in [shard, self.shards(), self.data.clone()] {
            sync(&dir)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
