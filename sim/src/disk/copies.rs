//! The files of the copies of shards in a directory.

use std::collections::{BTreeMap, BTreeSet};

use quorate_core::copies::memory::MemoryFiles;
use quorate_core::engine::memory::Memory;
use quorate_core::{Generation, LogId};

/// All files of one shard.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// What they hold: durable, in the system's memory, and open.
    pub held: MemoryFiles,
    /// Generations that are damaged: whoever opens or reads them finds out.
    pub rotten: BTreeSet<Generation>,
}

impl Files {
    /// A copy, if it lies there.
    pub fn copy(&mut self, generation: Generation) -> Option<&mut Memory> {
        self.held.generations.get_mut(&generation)
    }

    /// Whether a copy lies there and is whole.
    #[must_use]
    pub fn is_sound(&self, generation: Generation) -> bool {
        self.held.generations.contains_key(&generation) && !self.rotten.contains(&generation)
    }
}

/// All of them, by log.
pub type Copies = BTreeMap<LogId, Files>;
