//! Hashing the copy at a mark in its log, so that all copies can be compared at one position.
//!
//! A mark is an entry without content. Whoever compares asks each copy beforehand to expect it; a
//! copy that comes to it in the order of its engine's calls has its content hashed as it is then,
//! beside the writer. A mark that nobody has asked for is passed over: a log that is applied again,
//! or by a new copy, is full of them.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{CallKind, CopyState, Shard, ShardError, entry};
use crate::engine::{ContentHash, Fault};
use crate::ids::Term;
use crate::raft::ProposeError;
use crate::time::Time;

/// How many marks a copy expects at one time.
const EXPECTED_MAX: usize = 16;

/// Names a mark: the term of the leader that put it, and a number that it has not used in that term.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Mark {
    /// The leader's term.
    pub term: Term,
    /// Its number.
    pub number: u64,
}

/// Why there is no hash of a copy.
#[derive(Clone, PartialEq, Eq, Debug, Error, Serialize, Deserialize)]
pub enum NoHash {
    /// Its server is not in reach.
    #[error("not in reach")]
    OutOfReach,
    /// It did not come to the mark in time, or took too long to read itself.
    #[error("no answer in time")]
    TooLate,
    /// The server holds no such copy, or is asked to compare too much at once.
    #[error("it cannot be asked now")]
    NotNow,
    /// The copy cannot be read.
    #[error("{0}")]
    Failed(String),
}

/// What a copy is at a mark.
pub type Hashed = Result<ContentHash, NoHash>;

/// Marks that somebody waits for.
#[derive(Debug, Default)]
pub(super) struct Verify {
    expected: BTreeMap<Mark, Expected>,
    done: VecDeque<(Mark, Hashed)>,
}

#[derive(Debug)]
struct Expected {
    until: Time,
    /// The engine is at it, in this epoch.
    asked: Option<u64>,
}

impl Verify {
    pub(super) fn any(&self) -> bool {
        !self.expected.is_empty()
    }

    fn end(&mut self, mark: Mark, hashed: Hashed) {
        if self.expected.remove(&mark).is_some() {
            self.done.push_back((mark, hashed));
        }
    }
}

impl Shard {
    /// Somebody wants to know the content at `mark`, and waits until `until`. The answer comes from
    /// [`Shard::next_hash`], once.
    pub fn expect_mark(&mut self, now: Time, mark: Mark, until: Time) {
        self.now = now;
        let broken = self.broken().map(Fault::to_string);
        if let Some(reason) = broken {
            self.verify.done.push_back((mark, Err(NoHash::Failed(reason))));
        } else if self.verify.expected.len() >= EXPECTED_MAX {
            self.verify.done.push_back((mark, Err(NoHash::NotNow)));
        } else {
            self.verify.expected.insert(mark, Expected { until, asked: None });
        }
        self.drive();
    }

    /// Puts a mark into the log.
    ///
    /// # Errors
    /// [`ShardError::NotOwner`] or [`ShardError::Busy`]: no mark was put.
    pub fn put_mark(&mut self, now: Time, mark: Mark) -> Result<(), ShardError> {
        self.now = now;
        let put = match self.raft.is_settled_leader() {
            true => self.raft.propose(entry::mark(mark)),
            false => Err(ProposeError::NotLeader),
        };
        self.drive();
        match put {
            Ok(_) => Ok(()),
            Err(ProposeError::NotLeader | ProposeError::Transferring) => Err(self.not_owner()),
            Err(ProposeError::Busy | ProposeError::TooLarge) => Err(ShardError::Busy),
        }
    }

    /// What has come of an expected mark.
    pub fn next_hash(&mut self) -> Option<(Mark, Hashed)> {
        self.verify.done.pop_front()
    }

    /// The copy holds everything before `mark` and nothing behind it.
    pub(super) fn at_mark(&mut self, mark: Mark) {
        if let Some(expected) = self.verify.expected.get_mut(&mark) {
            expected.asked = Some(self.follow.epoch);
            self.call(CallKind::Hash(mark));
        }
    }

    pub(super) fn on_hashed(&mut self, mark: Mark, result: Result<ContentHash, Fault>) {
        let hashed = result.map_err(|fault| NoHash::Failed(fault.to_string()));
        self.verify.end(mark, hashed);
    }

    /// Gives up on marks that will not be reached in time, or not any more.
    pub(super) fn sweep_marks(&mut self) {
        let now = self.now;
        let broken = self.broken().map(Fault::to_string);
        let open = (self.copy == CopyState::Open).then_some(self.follow.epoch);
        let ended = |expected: &Expected| {
            if let Some(reason) = &broken {
                Some(NoHash::Failed(reason.clone()))
            } else if expected.asked.is_some() && expected.asked != open {
                let reason = "the copy had to be opened again".to_owned();
                Some(NoHash::Failed(reason))
            } else {
                (now >= expected.until).then_some(NoHash::TooLate)
            }
        };
        let over: Vec<(Mark, NoHash)> = self
            .verify
            .expected
            .iter()
            .filter_map(|(mark, expected)| Some((*mark, ended(expected)?)))
            .collect();
        over.into_iter().for_each(|(mark, why)| self.verify.end(mark, Err(why)));
    }
}
