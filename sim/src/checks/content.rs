//! What a shard's log makes of its copies, worked out once beside them, from the committed entries.

use std::collections::BTreeMap;

use quorate_core::engine::memory::Memory;
use quorate_core::engine::{ContentHash, Effect, Engine as _, Position, Value};
use quorate_core::raft::{Entry, Payload};
use quorate_core::shard::{self, StageId, effects, is_mark, records};
use quorate_core::{Index, Term};

use super::sessions::Sessions;
use super::workloads::{APPENDS, BANK, COUNTERS, REGISTERS};
use crate::outcome::{Verdict, Violation};

/// The files that were staged to become the content, by the stage that an entry names.
pub type Stages = BTreeMap<StageId, Memory>;

/// The stage that an entry of a shard's log makes the content, if it does.
#[must_use]
pub fn restores(payload: &Payload) -> Option<StageId> {
    let Payload::Data(data) = payload else { return None };
    shard::restores(data)
}

/// The content at every position, in short, and in full at the last and before each restore.
#[derive(Clone, Debug, Default)]
pub struct Content {
    /// The content after the last committed entry.
    pub last: Memory,
    /// The entries that replaced all content, and what was there before them.
    before: Vec<(Index, Memory)>,
    /// The term and the hash of the content at each position that a copy can have.
    hashes: BTreeMap<Index, (Term, [u8; 32])>,
    /// The sum of all accounts, if there are any, and from which position on.
    sums: Vec<(Index, Option<i64>)>,
    /// What each register held, and from which position on.
    registers: BTreeMap<i64, Vec<(Index, Option<Value>)>>,
    /// What is noted with it.
    pub sessions: Sessions,
}

impl Content {
    /// The next committed entry.
    ///
    /// # Errors
    /// `committed-effects-unfit` if its effects do not follow from those before it, `money-made` if
    /// the sum of all accounts is another one than before, `restored-unstaged` if it makes a file the
    /// content that was never staged, and what its sessions find wrong.
    pub fn take(&mut self, entry: &Entry, stages: &Stages) -> Verdict {
        let Payload::Data(data) = &entry.payload else { return Ok(()) };
        let at = Position { index: entry.index, term: entry.term };
        if let Some(stage) = restores(&entry.payload) {
            return self.replace(at, stage, stages);
        }
        let unfit = |why: String| {
            let detail = format!("entry {} of term {}: {why}", at.index, at.term);
            Violation::new("committed-effects-unfit", detail)
        };
        if is_mark(data) {
            return Ok(());
        }
        let effects = effects(data).ok_or_else(|| unfit("of an unknown kind".to_owned()))?;
        let records = records(data);
        self.last
            .apply(&[Effect { at, effects }], &[])
            .map_err(|fault| unfit(fault.to_string()))?;
        self.last.sync().map_err(|fault| unfit(fault.to_string()))?;
        if let Some(records) = records {
            self.sessions.take(at, &records)?;
        }
        self.sessions.counts(at, self.last.rows(COUNTERS))?;
        self.note(at);
        self.no_money_is_made(at)
    }

    /// A staged file becomes the content.
    fn replace(&mut self, at: Position, stage: StageId, stages: &Stages) -> Verdict {
        let Some(staged) = stages.get(&stage) else {
            let detail = format!("entry {} of term {} names {stage}", at.index, at.term);
            return Err(Violation::new("restored-unstaged", detail));
        };
        let before = std::mem::replace(&mut self.last, staged.placed(at, &[]));
        self.before.push((at.index, before));
        self.sessions.begin_anew(at, self.last.rows(COUNTERS));
        self.note(at);
        self.sums.push((at.index, self.last.rows(BANK).map(|rows| total(rows.values()))));
        Ok(())
    }

    /// Remembers what there is at a position.
    fn note(&mut self, at: Position) {
        self.hashes.insert(at.index, (at.term, self.last.hash().hash));
        let held = self.last.rows(REGISTERS);
        for (key, _) in held.into_iter().flatten() {
            self.registers.entry(*key).or_default();
        }
        for (key, versions) in &mut self.registers {
            let value = held.and_then(|rows| rows.get(key));
            let last = versions.last().and_then(|(_, value)| value.as_ref());
            if last != value {
                versions.push((at.index, value.cloned()));
            }
        }
    }

    fn no_money_is_made(&mut self, at: Position) -> Verdict {
        let Some(accounts) = self.last.rows(BANK) else { return Ok(()) };
        let sum = total(accounts.values());
        let Some(before) = self.sum_at(at.index) else {
            self.sums.push((at.index, Some(sum)));
            return Ok(());
        };
        if before == sum {
            return Ok(());
        }
        let detail = format!("with entry {} the accounts hold {sum}, before it {before}", at.index);
        Err(Violation::new("money-made", detail))
    }

    /// The same content, as what a log begins behind at this position.
    #[must_use]
    pub fn brought(&self, at: Position) -> Self {
        let last = self.last.placed(at, &[]);
        let registers = self.registers.iter().filter_map(|(key, versions)| {
            let (_, value) = versions.last()?;
            Some((*key, vec![(at.index, value.clone())]))
        });
        let mut sessions = Sessions::default();
        sessions.begin_anew(at, last.rows(COUNTERS));
        Self {
            sessions,
            registers: registers.collect(),
            hashes: BTreeMap::from([(at.index, (at.term, last.hash().hash))]),
            sums: self.sums.last().map(|(_, sum)| (at.index, *sum)).into_iter().collect(),
            before: Vec::new(),
            last,
        }
    }

    /// The entry that began the content of which this position is a part; 0 without any restore.
    #[must_use]
    pub fn began(&self, at: Index) -> Index {
        let count = self.before.partition_point(|(from, _)| *from <= at);
        self.before[..count].last().map_or(Index::ZERO, |(from, _)| *from)
    }

    /// The entries that replaced all content.
    pub fn replaced(&self) -> impl Iterator<Item = Index> {
        self.before.iter().map(|(at, _)| *at)
    }

    /// Whether what was added at a position was there until all content was replaced, or is there yet.
    #[must_use]
    pub fn kept(&self, key: i64, at: Index) -> bool {
        let later = self.before.partition_point(|(from, _)| *from <= at);
        let held = self.before.get(later).map_or(&self.last, |(_, before)| before);
        held.row(APPENDS, key).is_some()
    }

    /// Whether a key was ever there.
    #[must_use]
    pub fn had(&self, key: i64) -> bool {
        let all = self.before.iter().map(|(_, before)| before).chain([&self.last]);
        all.into_iter().any(|held| held.row(APPENDS, key).is_some())
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
        versions[..count].last().and_then(|(_, value)| value.as_ref())
    }

    /// The sum of all accounts at a position, if there are any.
    #[must_use]
    pub fn sum_at(&self, at: Index) -> Option<i64> {
        let count = self.sums.partition_point(|(from, _)| *from <= at);
        self.sums[..count].last().and_then(|(_, sum)| *sum)
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
