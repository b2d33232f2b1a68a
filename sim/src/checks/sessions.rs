//! Sessions of a shard: what every copy must note of them, worked out beside the copies from the
//! committed entries, and that each operation of a client was done once.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quorate_core::Index;
use quorate_core::engine::{Position, SqlError, Value};
use quorate_core::shard::{Kept, Name, Ran, Records, Reply, Session, SessionId, ShardError};

use crate::hash::mix_bytes;
use crate::outcome::{Verdict, Violation};

/// A request of a session: [`SessionId::key`], and its sequence.
pub type Sent = (u64, u64);

/// What a client means by a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Meant {
    /// Names the operation, whatever it is sent as.
    pub operation: u64,
    /// The counter to which it adds one.
    pub adds: Option<i64>,
}

/// What is known of one shard's sessions.
#[derive(Clone, Debug, Default)]
pub struct Sessions {
    /// As every copy notes them at the last position.
    held: BTreeMap<u64, Session>,
    /// The sum over all notes, from which position on.
    sums: Vec<(Index, u64)>,
    /// What clients mean by what they send.
    meant: BTreeMap<Sent, Meant>,
    /// Up to where clients have said, at most, that they have their answers.
    acknowledged: BTreeMap<u64, u64>,
    /// Everything that has run, as which entry, and what it was answered.
    ran: BTreeMap<Sent, (Position, Ran)>,
    /// Operations that have run.
    done: BTreeMap<u64, Sent>,
    /// Sessions of which somebody was told.
    told: BTreeSet<SessionId>,
    /// What the counters hold by that, at least.
    counted: BTreeMap<i64, i64>,
    /// How much more they may hold: by requests whose answers found no room.
    uncertain: BTreeMap<i64, i64>,
}

fn sum_of(key: u64, note: &Bytes) -> u64 {
    mix_bytes(key, note)
}

fn violation(invariant: &str, detail: String) -> Violation {
    Violation::new(invariant, detail)
}

impl Sessions {
    /// A client sends a request.
    pub fn sends(&mut self, sent: Sent, meant: Meant, acknowledged: u64) {
        self.meant.insert(sent, meant);
        let known = self.acknowledged.entry(sent.0).or_default();
        *known = (*known).max(acknowledged);
    }

    /// The same, of a history that gives up its end.
    pub(super) fn meaning_as(mut self, other: &Self) -> Self {
        self.meant.clone_from(&other.meant);
        self.acknowledged.clone_from(&other.acknowledged);
        self
    }

    /// Whether every copy knows a session at the last position.
    #[must_use]
    pub fn knows(&self, id: SessionId) -> bool {
        self.held.get(&id.key()).is_some_and(|session| session.term == id.at.term)
    }

    /// As which entry a request has run.
    #[must_use]
    pub fn ran_at(&self, sent: Sent) -> Option<Position> {
        self.ran.get(&sent).map(|(at, _)| *at)
    }

    /// A committed entry says something of sessions.
    ///
    /// # Errors
    /// `ran-in-no-session`, `ran-twice`, `ran-unasked`, `done-twice` if the operation has run as
    /// another request.
    pub(super) fn take(&mut self, at: Position, records: &Records) -> Verdict {
        let mut sum = self.sum_at(at.index);
        let over = self.held.iter().filter(|(_, session)| session.ends() <= records.time);
        for key in over.map(|(key, _)| *key).collect::<Vec<_>>() {
            sum = sum.wrapping_sub(self.weight(key));
            self.held.remove(&key);
        }
        for (number, time_to_live) in (0..=u8::MAX).zip(&records.opened) {
            let key = SessionId { at, number }.key();
            let session = Session {
                term: at.term,
                time_to_live: *time_to_live,
                used: records.time,
                acknowledged: 0,
                kept: BTreeMap::new(),
            };
            self.held.insert(key, session);
            sum = sum.wrapping_add(self.weight(key));
        }
        for ran in &records.ran {
            let before = self.weight(ran.key);
            self.runs(at, records.time, ran)?;
            sum = sum.wrapping_sub(before).wrapping_add(self.weight(ran.key));
        }
        self.sums.push((at.index, sum));
        Ok(())
    }

    fn weight(&self, key: u64) -> u64 {
        self.held.get(&key).map_or(0, |session| sum_of(key, &session.encode()))
    }

    fn runs(&mut self, at: Position, time: u64, ran: &Ran) -> Verdict {
        let sent = (ran.key, ran.sequence);
        let index = at.index;
        let Some(session) = self.held.get_mut(&ran.key) else {
            let detail = format!("entry {index} holds {ran:?}, whose session is over");
            return Err(violation("ran-in-no-session", detail));
        };
        session.used = session.used.max(time);
        session.acknowledged = session.acknowledged.max(ran.acknowledged);
        session.kept.insert(ran.sequence, Kept { at, answer: ran.answer.clone() });
        let acknowledged = session.acknowledged;
        session.kept.retain(|sequence, _| *sequence > acknowledged);
        if let Some((before, _)) = self.ran.insert(sent, (at, ran.clone())) {
            let detail = format!("{sent:?} has run as entry {} and as {index}", before.index);
            return Err(violation("ran-twice", detail));
        }
        let Some(meant) = self.meant.get(&sent) else {
            let detail = format!("{sent:?} has run as entry {index}, which nobody has sent");
            return Err(violation("ran-unasked", detail));
        };
        if let Some(before) = self.done.insert(meant.operation, sent) {
            let detail = format!("{meant:?} has run as {before:?} and as {sent:?}, entry {index}");
            return Err(violation("done-twice", detail));
        }
        match (meant.adds, changed_a_row(ran)) {
            (Some(row), Some(true)) => *self.counted.entry(row).or_default() += 1,
            (Some(row), None) => {
                *self.uncertain.entry(row).or_default() += 1;
            }
            (_, Some(false)) | (None, _) => {}
        }
        Ok(())
    }

    /// Another content takes the place of all: it comes without sessions, and with these counters.
    pub(super) fn begin_anew(&mut self, at: Position, counters: Option<&BTreeMap<i64, Value>>) {
        self.held.clear();
        self.sums.push((at.index, 0));
        let number = |value: &Value| match value {
            Value::Integer(number) => *number,
            _ => 0,
        };
        let rows = counters.into_iter().flatten();
        self.counted = rows.map(|(row, value)| (*row, number(value))).collect();
        self.uncertain.clear();
    }

    /// Each counter holds as many as operations have added to it.
    ///
    /// # Errors
    /// `counted-otherwise`.
    pub(super) fn counts(&self, at: Position, rows: Option<&BTreeMap<i64, Value>>) -> Verdict {
        for (row, value) in rows.into_iter().flatten() {
            let counted = self.counted.get(row).copied().unwrap_or(0);
            let most = counted + self.uncertain.get(row).copied().unwrap_or(0);
            if !matches!(value, Value::Integer(held) if (counted..=most).contains(held)) {
                let index = at.index;
                let detail = format!("counter {row} is {value:?} at {index}, {counted} were added");
                return Err(violation("counted-otherwise", detail));
            }
        }
        Ok(())
    }

    fn sum_at(&self, index: Index) -> u64 {
        let count = self.sums.partition_point(|(from, _)| *from <= index);
        self.sums[..count].last().map_or(0, |(_, sum)| *sum)
    }

    /// Whether a copy that stands at `at` notes what it must.
    ///
    /// # Errors
    /// `sessions-differ`.
    pub fn agrees(&self, who: &str, at: Position, notes: &BTreeMap<u64, Bytes>) -> Verdict {
        let sessions = notes.iter().filter(|(key, _)| **key != Name::KEY);
        let sum = sessions.fold(0, |sum: u64, (key, note)| sum.wrapping_add(sum_of(*key, note)));
        if sum == self.sum_at(at.index) {
            return Ok(());
        }
        let (index, notes) = (at.index, notes.len());
        let detail = format!("{who} stands at entry {index}; its {notes} sessions are others");
        Err(violation("sessions-differ", detail))
    }

    /// Somebody is told that a session is open.
    ///
    /// # Errors
    /// `session-given-twice`.
    pub(super) fn opened(&mut self, id: SessionId) -> Verdict {
        if self.told.insert(id) {
            return Ok(());
        }
        Err(violation("session-given-twice", format!("{id:?}")))
    }

    /// A request has an answer that is final: it is the one that was committed with it.
    ///
    /// # Errors
    /// `answered-otherwise-again`, `superseded-unanswered`.
    pub(super) fn answered(&self, sent: Sent, reply: &Reply) -> Verdict {
        let ran = self.ran.get(&sent);
        let outcome = ran.and_then(|(_, ran)| ran.outcome());
        let place = |at: &Position| ran.is_some_and(|(known, _)| known == at);
        let agrees = match reply {
            Reply::Done { at, rows } => {
                let same = |known| match known {
                    Some(Ok(known)) => known == *rows,
                    // There was no room for it.
                    None => ran.is_some_and(|(_, ran)| ran.answer.is_empty()),
                    Some(Err(_)) => false,
                };
                place(at) && same(outcome)
            }
            // Of one that found no room the words are not kept.
            Reply::Failed(ShardError::Sql(error)) => {
                let same = |known: SqlError| SqlError { message: error.message.clone(), ..known };
                outcome.and_then(Result::err).is_some_and(|known| same(known) == *error)
            }
            Reply::Failed(ShardError::CommittedBelowQuorum { at }) => {
                place(at) && outcome.is_none_or(|outcome| outcome.is_ok())
            }
            Reply::Failed(ShardError::AlreadyDone { at }) => place(at),
            // That an interactive transaction is lost is told for good.
            Reply::Failed(ShardError::TransactionLost { .. }) => ran.is_none(),
            Reply::Failed(ShardError::Superseded) => {
                if self.acknowledged.get(&sent.0).is_some_and(|known| *known >= sent.1) {
                    return Ok(());
                }
                let detail = format!("{sent:?} is not said to be answered");
                return Err(violation("superseded-unanswered", detail));
            }
            _ => true,
        };
        if agrees {
            return Ok(());
        }
        let detail = format!("{sent:?} has run as {ran:?}, and is answered with {reply:?}");
        Err(violation("answered-otherwise-again", detail))
    }
}

/// `None` if there was no room to say so.
fn changed_a_row(ran: &Ran) -> Option<bool> {
    let rows = ran.outcome()?.unwrap_or_default();
    Some(rows.iter().any(|rows| rows.affected > 0))
}
