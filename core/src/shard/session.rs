//! Sessions: what makes sure that a request which is sent more than once is done once.
//!
//! A session is opened by an entry of the log and named by its place there, so that no other ever has
//! its name. A request in it bears a *sequence*; with the effects of the batch in which it ran, the
//! entry carries what it was answered. What must hold:
//!
//! * A sequence that has run is not run again, by whatever owner, for as long as the session is known:
//!   it gets the answer that it had.
//! * In a session that is not known nothing is run. One that was not used for its time to live is
//!   forgotten, by the *log's time*: it comes with the entries and goes on at the pace of the leader's
//!   clock, so that nobody's wall clock is asked.
//! * The table is a function of the log, so it is the same on all copies at one position. It belongs
//!   to the content of the copy, as its *notes*: written with the entry that changes it, read when the
//!   copy is opened, and part of every full copy. A file that is restored brings none.
//! * It is bounded: sessions, sequences and bytes of a session, bytes in all. Of an answer that finds no
//!   room only whether it was done is kept.
//!
//! Logs are numbered, and so are entries: a session goes by its cluster too. Where a recovery by hand has
//! made another of it, none of before is known, for what they remember may have been given up.
//!
//! A client says up to which sequence it has all its answers; those are dropped. Requests may overtake
//! each other. Errors are kept like other answers: else one that was told could be followed by the
//! late arrival of the same request, which then works.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::interactive::TransactionId;
use super::writer::Told;
use super::{Name, ShardError, ShardLimits, Write};
use crate::engine::{Note, Outcome, Position, SqlError, SqlErrorKind};
use crate::faults::{self, Fault};
use crate::ids::{ClusterId, Index, LogId, Term};
use crate::marks::sometimes;

/// Sessions of one shard.
pub(super) const SESSIONS_MAX: usize = 65_536;
/// Sequences of one session whose answers are kept.
const KEPT_MAX: usize = 1024;
/// Bytes of the kept answers of one session, by default: DESIGN §7.
pub(super) const SESSION_BYTES_MAX: usize = 64 * 1024;
/// Bytes of the kept answers of all sessions of a shard.
const ALL_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of answers in one entry, which has room for the effects of its batch beside them.
const ENTRY_BYTES_MAX: usize = 512 * 1024;
/// The form of a session's note.
const FORMAT: u8 = 1;

/// Names a session of a shard's log; never used twice in one log of one cluster.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct SessionId {
    /// The entry that opened it.
    pub at: Position,
    /// Which of those that this entry opened.
    pub number: u8,
}

impl SessionId {
    /// Under which key a copy notes it.
    #[must_use]
    pub fn key(self) -> u64 {
        key(self.at.index, self.number)
    }
}

/// Under which key a session is noted. Indexes stay far below the bits that go.
fn key(index: Index, number: u8) -> u64 {
    index.0 << 8 | u64::from(number)
}

/// Makes sure that a request is done once, however often it is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Once {
    /// The cluster that the session was opened in: in another one a log and an entry of it may bear the
    /// same numbers.
    pub cluster: ClusterId,
    /// The log that has the session.
    pub log: LogId,
    /// Which session.
    pub session: SessionId,
    /// Names the request in it; never used for another one. Above `acknowledged`.
    pub sequence: u64,
    /// All requests up to this sequence have been answered, and are not asked for again.
    pub acknowledged: u64,
}

/// What is to be done about a request that comes twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Delivery {
    /// Nothing: when its outcome is not known, whoever asked has to look.
    #[default]
    Plain,
    /// It opens a session, and runs nothing.
    Opens,
    /// It is done once.
    Once(Once),
    /// It begins an interactive transaction, and runs nothing.
    Begins,
    /// It commits an interactive transaction, and runs nothing; once, if in a session.
    Finishes(TransactionId, Option<Once>),
}

impl Delivery {
    /// What makes sure that it is done once.
    pub(super) fn once(&self) -> Option<&Once> {
        match self {
            Self::Once(once) | Self::Finishes(_, Some(once)) => Some(once),
            Self::Plain | Self::Opens | Self::Begins | Self::Finishes(_, None) => None,
        }
    }
}

/// A request of a session that has run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ran {
    /// In which session: [`SessionId::key`].
    pub key: u64,
    /// Which request.
    pub sequence: u64,
    /// All requests of the session up to this sequence had been answered.
    pub acknowledged: u64,
    /// [`Ran::outcome`], encoded; empty if there was no room for it.
    pub answer: Bytes,
}

impl Ran {
    /// What it was answered; `None` if that is not kept.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        decode(&self.answer)
    }
}

/// What an entry says of sessions.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Records {
    /// The log's time, in milliseconds.
    pub time: u64,
    /// How long each session that it opens lives without being used, in milliseconds.
    pub opened: Vec<u64>,
    /// What has run with it.
    pub ran: Vec<Ran>,
}

impl Records {
    #[cfg(test)]
    pub(super) fn opening(time: u64, times_to_live: &[u64]) -> Self {
        Self { time, opened: times_to_live.to_vec(), ran: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.opened.is_empty() && self.ran.is_empty()
    }
}

/// A request that has run, as a session remembers it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Kept {
    /// As which entry.
    pub at: Position,
    /// [`Ran::answer`].
    pub answer: Bytes,
}

/// A session, as a copy notes it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Session {
    /// Of the entry that opened it.
    pub term: Term,
    /// How long it lives without being used, in milliseconds.
    pub time_to_live: u64,
    /// When it was last used, by the log's time in milliseconds.
    pub used: u64,
    /// All requests up to this sequence have been answered.
    pub acknowledged: u64,
    /// What has run of those above, by sequence.
    pub kept: BTreeMap<u64, Kept>,
}

impl Session {
    /// When it is forgotten, by the log's time in milliseconds.
    #[must_use]
    pub fn ends(&self) -> u64 {
        self.used.saturating_add(self.time_to_live)
    }

    fn bytes(&self) -> usize {
        self.kept.values().map(|kept| kept.answer.len()).sum()
    }

    /// As it is noted.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut bytes = vec![FORMAT];
        bytes.extend(
            postcard::to_allocvec(self).unwrap_or_else(|e| unreachable!("it encodes: {e}")),
        );
        bytes.into()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (format, rest) = bytes.split_first()?;
        let (session, rest) = postcard::take_from_bytes(rest).ok()?;
        (*format == FORMAT && rest.is_empty()).then_some(session)
    }
}

/// What a request in a session is.
#[derive(Debug)]
pub(super) enum Judgement {
    /// It has not run.
    New,
    /// It has run, as this entry, and was answered so.
    Known(Position, Told),
    /// It is not to be run.
    Refused(ShardError),
    /// The session is not known: whoever does not lead any more may not have heard of it.
    Expired,
}

/// The sessions of a shard, as far as the engine was told of entries.
#[derive(Clone, Default, Debug)]
pub(super) struct Sessions {
    /// The log's time, as the last entry had it.
    time: u64,
    all: BTreeMap<u64, Session>,
    /// When each would end.
    ends: BTreeSet<(u64, u64)>,
    /// Of all kept answers.
    bytes: usize,
}

impl Sessions {
    /// As the copy has them; `None` if a later version wrote them.
    pub(super) fn load(notes: &[Note]) -> Option<Self> {
        let mut sessions = Self::default();
        for Note { key, value } in notes.iter().filter(|note| !Name::is(note)) {
            let session = Session::decode(value)?;
            sessions.time = sessions.time.max(session.used);
            sessions.bytes += session.bytes();
            sessions.ends.insert((session.ends(), *key));
            sessions.all.insert(*key, session);
        }
        Some(sessions)
    }

    pub(super) fn time(&self) -> u64 {
        self.time
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// What a request is, at this time of the log.
    pub(super) fn judge(&self, once: &Once, time: u64) -> Judgement {
        let session = self.all.get(&once.session.key());
        let session = session.filter(|s| s.term == once.session.at.term && time < s.ends());
        let Some(session) = session else {
            return match faults::active(Fault::ExpiredSessionExecuted) {
                true => Judgement::New,
                false => Judgement::Expired,
            };
        };
        if let Some(kept) = session.kept.get(&once.sequence) {
            return Judgement::Known(kept.at, told(kept));
        }
        if once.sequence <= session.acknowledged.max(once.acknowledged) {
            sometimes!(Superseded);
            return Judgement::Refused(ShardError::Superseded);
        }
        if session.kept.range(once.acknowledged.saturating_add(1)..).count() >= KEPT_MAX {
            return Judgement::Refused(ShardError::Busy);
        }
        Judgement::New
    }

    /// What the entry of a batch says of these requests, which have run at this time of the log.
    pub(super) fn records(
        &self,
        time: u64,
        limits: &ShardLimits,
        ran: &[(&Write, &Outcome)],
    ) -> Records {
        let time_to_live = limits.session_time_to_live.as_millis();
        let time_to_live = u64::try_from(time_to_live).unwrap_or(u64::MAX);
        let mut records = Records { time, ..Records::default() };
        let (mut of_session, mut in_all) = (BTreeMap::<u64, usize>::new(), 0);
        for (write, outcome) in ran {
            match write.delivery {
                Delivery::Plain | Delivery::Begins | Delivery::Finishes(_, None) => {}
                Delivery::Opens if outcome.is_ok() => records.opened.push(time_to_live),
                Delivery::Opens => {}
                // It was not run, and may be, by the owner.
                Delivery::Once(_) if is_for_the_owner(outcome) => {}
                Delivery::Once(once) | Delivery::Finishes(_, Some(once)) => {
                    let key = once.session.key();
                    let mut answer = encode(outcome);
                    let known = || self.all.get(&key).map_or(0, Session::bytes);
                    let held = of_session.entry(key).or_insert_with(known);
                    let size = answer.len();
                    let fits = *held + size <= limits.session_bytes_max
                        && in_all + size <= ENTRY_BYTES_MAX
                        && self.bytes + in_all + size <= ALL_BYTES_MAX;
                    if fits {
                        (*held, in_all) = (*held + size, in_all + size);
                    } else {
                        sometimes!(AnswerNotKept);
                        answer = in_short(outcome);
                    }
                    let Once { sequence, acknowledged, .. } = once;
                    records.ran.push(Ran { key, sequence, acknowledged, answer });
                }
            }
        }
        // An entry without any says nothing of the time either.
        if records.is_empty() { Records::default() } else { records }
    }

    /// An entry is given to the copy: what becomes of the notes is added to those.
    pub(super) fn apply(
        &mut self,
        at: Position,
        records: &Records,
        notes: &mut BTreeMap<u64, Bytes>,
    ) {
        self.time = self.time.max(records.time);
        let mut touched = BTreeSet::new();
        while let Some((_, key)) = self.ends.first().filter(|(end, _)| *end <= records.time) {
            let key = *key;
            self.forget(key);
            notes.insert(key, Bytes::new());
        }
        for (number, time_to_live) in (0..=u8::MAX).zip(&records.opened) {
            let key = key(at.index, number);
            let session = Session {
                term: at.term,
                time_to_live: *time_to_live,
                used: records.time,
                acknowledged: 0,
                kept: BTreeMap::new(),
            };
            self.ends.insert((session.ends(), key));
            self.all.insert(key, session);
            touched.insert(key);
        }
        for ran in &records.ran {
            if self.note_run(at, records.time, ran) {
                touched.insert(ran.key);
            }
        }
        for key in touched {
            if let Some(session) = self.all.get(&key) {
                notes.insert(key, session.encode());
            }
        }
    }

    fn note_run(&mut self, at: Position, time: u64, ran: &Ran) -> bool {
        let Some(session) = self.all.get_mut(&ran.key) else { return false };
        self.ends.remove(&(session.ends(), ran.key));
        let before = session.bytes();
        session.used = session.used.max(time);
        session.acknowledged = session.acknowledged.max(ran.acknowledged);
        session.kept.insert(ran.sequence, Kept { at, answer: ran.answer.clone() });
        session.kept = session.kept.split_off(&session.acknowledged.saturating_add(1));
        self.bytes = self.bytes + session.bytes() - before;
        self.ends.insert((session.ends(), ran.key));
        true
    }

    fn forget(&mut self, key: u64) {
        if let Some(session) = self.all.remove(&key) {
            self.ends.remove(&(session.ends(), key));
            self.bytes -= session.bytes();
        }
    }
}

fn is_for_the_owner(outcome: &Outcome) -> bool {
    matches!(outcome, Err(error) if error.kind == SqlErrorKind::OwnerOnly)
}

fn encode(outcome: &Outcome) -> Bytes {
    let bytes = postcard::to_allocvec(outcome);
    bytes.unwrap_or_else(|e| unreachable!("answers always encode: {e}")).into()
}

/// What is kept of an answer for which there is no room: nothing of one that was done, and that it
/// failed of one that was not, which must never be taken for done.
fn in_short(outcome: &Outcome) -> Bytes {
    match outcome {
        Ok(_) => Bytes::new(),
        Err(error) => encode(&Err(SqlError { message: String::new(), ..error.clone() })),
    }
}

/// `None`: there was no room for it, or a later version wrote it. That it was done is known all the same.
fn decode(answer: &Bytes) -> Option<Outcome> {
    postcard::from_bytes(answer).ok()
}

fn told(kept: &Kept) -> Told {
    match decode(&kept.answer) {
        Some(Ok(rows)) => Told::Rows(rows),
        Some(Err(error)) if error.message.is_empty() => {
            let message = "it failed, and why was not kept".to_owned();
            Told::Sql(SqlError { message, ..error })
        }
        Some(Err(error)) => Told::Sql(error),
        None => Told::Refused(ShardError::AlreadyDone { at: kept.at }),
    }
}
