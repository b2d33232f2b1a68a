//! What a shard's log makes of its copies, worked out once beside them, from the committed entries.

use std::collections::BTreeMap;

use quorate_core::engine::memory::Memory;
use quorate_core::engine::{ContentHash, Effect, Engine as _, Position, Value};
use quorate_core::raft::{Entry, Payload};
use quorate_core::shard::effects;
use quorate_core::{Index, Term};

use super::workloads::{BANK, REGISTERS};
use crate::outcome::{Verdict, Violation};

/// The content at every position, in short, and in full at the last.
#[derive(Clone, Debug, Default)]
pub struct Content {
    /// The content after the last committed entry.
    pub last: Memory,
    /// The term and the hash of the content at each position that a copy can have.
    hashes: BTreeMap<Index, (Term, [u8; 32])>,
    /// The sum of all accounts, once there are any.
    sum: Option<i64>,
    /// What each register held, and from which position on.
    registers: BTreeMap<i64, Vec<(Index, Value)>>,
}

impl Content {
    /// The next committed entry.
    ///
    /// # Errors
    /// `committed-effects-unfit` if its effects do not follow from those before it, `money-made` if
    /// the sum of all accounts is another one than before.
    pub fn take(&mut self, entry: &Entry) -> Verdict {
        let Payload::Data(data) = &entry.payload else { return Ok(()) };
        let at = Position { index: entry.index, term: entry.term };
        let unfit = |why: String| {
            let detail = format!("entry {} of term {}: {why}", at.index, at.term);
            Violation::new("committed-effects-unfit", detail)
        };
        let effects = effects(data).ok_or_else(|| unfit("of an unknown kind".to_owned()))?;
        if effects.is_empty() {
            // A place at which copies are compared.
            return Ok(());
        }
        self.last.apply(&[Effect { at, effects }]).map_err(|fault| unfit(fault.to_string()))?;
        self.last.sync().map_err(|fault| unfit(fault.to_string()))?;
        let hash = self.last.content_hash().map_err(|fault| unfit(fault.to_string()))?.hash;
        self.hashes.insert(at.index, (at.term, hash));
        for (key, value) in self.last.rows(REGISTERS).into_iter().flatten() {
            let versions = self.registers.entry(*key).or_default();
            if versions.last().is_none_or(|(_, last)| last != value) {
                versions.push((at.index, value.clone()));
            }
        }
        self.no_money_is_made(at)
    }

    fn no_money_is_made(&mut self, at: Position) -> Verdict {
        let Some(accounts) = self.last.rows(BANK) else { return Ok(()) };
        let sum = total(accounts.values());
        let before = *self.sum.get_or_insert(sum);
        if before == sum {
            return Ok(());
        }
        let detail = format!("with entry {} the accounts hold {sum}, before it {before}", at.index);
        Err(Violation::new("money-made", detail))
    }

    /// The same content, as what a log begins behind at this position.
    #[must_use]
    pub fn brought(&self, at: Position) -> Self {
        let mut last = self.last.placed(at);
        let hashes = last.content_hash().map(|held| (at.index, (at.term, held.hash)));
        let registers = self.registers.iter().filter_map(|(key, versions)| {
            let (_, value) = versions.last()?;
            Some((*key, vec![(at.index, value.clone())]))
        });
        Self {
            registers: registers.collect(),
            hashes: hashes.into_iter().collect(),
            sum: self.sum,
            last,
        }
    }

    /// Whether a copy that says it stands at `held.at` holds what it must there.
    ///
    /// # Errors
    /// `copy-ahead` if nothing is committed there, `copies-differ`.
    pub fn agrees(&self, who: &str, held: &ContentHash) -> Verdict {
        let at = held.at;
        if at == Position::default() {
            return Ok(());
        }
        match self.hashes.get(&at.index) {
            Some((term, hash)) if *term == at.term && *hash == held.hash => Ok(()),
            Some((term, _)) => {
                let detail = format!(
                    "{who} stands at entry {} of term {}; committed is one of term {term}, whose \
                     content is another one",
                    at.index, at.term
                );
                Err(Violation::new("copies-differ", detail))
            }
            None => {
                let detail = format!(
                    "{who} stands at entry {} of term {}, which is not committed",
                    at.index, at.term
                );
                Err(Violation::new("copy-ahead", detail))
            }
        }
    }

    /// What a register held at a position.
    #[must_use]
    pub fn register_at(&self, key: i64, at: Index) -> Option<&Value> {
        let versions = self.registers.get(&key)?;
        let count = versions.partition_point(|(from, _)| *from <= at);
        versions[..count].last().map(|(_, value)| value)
    }

    /// The sum of all accounts, once there are any.
    #[must_use]
    pub fn sum(&self) -> Option<i64> {
        self.sum
    }

    /// The last position that a copy can have which holds every entry up to `index`.
    #[must_use]
    pub fn position_at(&self, index: Index) -> Index {
        self.hashes.range(..=index).next_back().map_or(Index::ZERO, |(at, _)| *at)
    }

    /// The last position that a copy can have.
    #[must_use]
    pub fn position(&self) -> Position {
        self.last.position()
    }
}

/// The sum of some values; what is no number counts for nothing.
pub fn total<'a>(values: impl Iterator<Item = &'a Value>) -> i64 {
    let number = |value: &Value| match value {
        Value::Integer(number) => *number,
        _ => 0,
    };
    values.map(number).fold(0, i64::wrapping_add)
}
