//! The files of the copies of shards in a directory.

use std::collections::BTreeMap;

use quorate_core::engine::memory::Memory;
use quorate_core::{Generation, LogId};

/// The files of one copy.
#[derive(Clone, Debug, Default)]
pub struct Copy {
    /// What they hold: durable, in the system's memory, and open.
    pub memory: Memory,
    /// They are damaged: whoever opens or reads them finds out.
    pub rotten: bool,
}

/// All of them, by log and generation.
pub type Copies = BTreeMap<(LogId, Generation), Copy>;
