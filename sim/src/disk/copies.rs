//! The files of the copies of shards in a directory.

use std::collections::{BTreeMap, BTreeSet};

use quorate_core::copies::memory::MemoryFiles;
use quorate_core::copies::{CopyAnswer, CopyCall};
use quorate_core::engine::Engine as _;
use quorate_core::engine::memory::Memory;
use quorate_core::{Generation, LogId};

/// All files of one shard.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// What they hold: durable, in the system's memory, and open.
    pub held: MemoryFiles,
    /// Generations that are damaged: whoever opens or reads them finds out.
    pub rotten: BTreeSet<Generation>,
    /// Generations in whose place a copy of another shard lies.
    pub misplaced: BTreeSet<Generation>,
    /// What was put away last, in this order, as a directory says that was not synced since.
    unsynced: Vec<Generation>,
}

impl Files {
    /// Carries out a call; whatever puts a file in its place syncs the directory with it.
    pub fn carry_out(&mut self, call: CopyCall) -> Option<CopyAnswer> {
        let tidies = matches!(call, CopyCall::Tidy { .. });
        let names = matches!(
            call,
            CopyCall::Finish { .. } | CopyCall::Place { .. } | CopyCall::Import { .. }
        );
        let before: Vec<Generation> = self.held.generations.keys().copied().collect();
        let answer = self.held.carry_out(call);
        if names {
            self.unsynced.clear();
        }
        if tidies {
            let gone = before.into_iter().filter(|g| !self.held.generations.contains_key(g));
            self.unsynced.extend(gone);
        }
        answer
    }

    /// How many files were put away since the directory was synced.
    #[must_use]
    pub fn unsynced(&self) -> usize {
        self.unsynced.len()
    }

    /// Only the first `kept` of them are; the others lie where they lay.
    pub fn lose_names_after(&mut self, kept: usize) {
        while self.unsynced.len() > kept
            && let Some(generation) = self.unsynced.pop()
            && let Some((_, copy)) = self.held.backups.pop()
        {
            self.held.generations.entry(generation).or_insert(copy);
        }
        self.unsynced.clear();
    }

    /// A copy, if it lies there.
    pub fn copy(&mut self, generation: Generation) -> Option<&mut Memory> {
        self.held.generations.get_mut(&generation)
    }

    /// Whether a copy lies there and is whole.
    #[must_use]
    pub fn is_sound(&self, generation: Generation) -> bool {
        let spoiled = self.rotten.contains(&generation) || self.misplaced.contains(&generation);
        self.held.generations.contains_key(&generation) && !spoiled
    }

    /// A generation is written anew.
    pub fn renewed(&mut self, generation: Generation) {
        self.rotten.remove(&generation);
        self.misplaced.remove(&generation);
    }

    /// The file of a copy is replaced by one of another shard.
    pub fn misplace(&mut self, generation: Generation, mut other: Memory) {
        other.kill();
        let synced = other.sync();
        debug_assert!(synced.is_ok(), "nothing is open, and nothing fails");
        self.held.generations.insert(generation, other);
        self.rotten.remove(&generation);
        self.misplaced.insert(generation);
    }
}

/// All of them, by log.
pub type Copies = BTreeMap<LogId, Files>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_away_and_not_synced_lies_where_it_lay_after_the_power_has_failed() {
        let [old, middle, live] = [1, 2, 3].map(Generation);
        for kept in 0..=2 {
            let mut files = Files::default();
            for generation in [old, middle, live] {
                files.held.open(generation, true).expect("it is made");
            }
            let name = ("db".to_owned(), "main".to_owned());
            files.carry_out(CopyCall::Tidy { live: Some(live), receiving: false, name });
            assert_eq!((files.unsynced(), files.held.backups.len()), (2, 2));
            files.lose_names_after(kept);
            let there: Vec<Generation> = files.held.generations.keys().copied().collect();
            assert_eq!(there, [old, middle, live][kept..], "{kept} were kept");
            assert_eq!(files.held.backups.len(), kept);
        }
    }
}
