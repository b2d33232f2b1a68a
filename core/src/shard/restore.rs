//! Replacing the content by that of a file, as an entry of the log.
//!
//! The file lies *staged* beside the copies, durably, on as many of them as the log and the write
//! quorum ask for, before the entry that names it is proposed. What must hold:
//!
//! * Nothing changes before the entry is committed, and it takes effect at its place among the others:
//!   what ran before it is gone, what runs behind it finds the new content.
//! * A stage is named by the term of the leader that had it made, and only an entry of that term names
//!   it. So a copy that holds an entry of a later term knows all entries that can ever name it, and the
//!   file may go without anybody's clock being asked.
//! * The owner runs nothing from before the entry behind it: the entry is put while no transaction runs,
//!   and none is begun until the copy has come to it.
//! * A copy that comes to the entry without the file does not go on: it needs a copy that holds the
//!   entry.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{CopyState, Shard, ShardError, entry};
use crate::engine::{Fault, Position};
use crate::ids::{Generation, Index, NodeId, Term};
use crate::raft::{Membership, ProposeError, Quorum};
use crate::time::Time;

/// Names a staged file: the term of the leader that has it staged, and a number that it has not used
/// in that term.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct StageId {
    /// The leader's term.
    pub term: Term,
    /// Its number.
    pub number: u64,
}

impl fmt::Display for StageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.term.0, self.number)
    }
}

/// A file that was handed to a node, to be the content of a shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Upload {
    /// Which node has it.
    pub node: NodeId,
    /// How that node calls it; never used twice.
    pub number: u64,
}

/// What has become of an entry that was to be put.
#[derive(Clone, PartialEq, Debug)]
pub enum RestoreState {
    /// It waits for what runs.
    Waiting,
    /// It is in the log here; whether it is ever committed will show.
    Proposed(Position),
    /// It is not in the log and never will be.
    Refused(ShardError),
}

/// A staged file that is to take the place of the live copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Placing {
    /// Which.
    pub stage: StageId,
    /// The entry that names it: what the copy is to say that it holds.
    pub at: Position,
    /// What it is to be called.
    pub generation: Generation,
}

#[derive(Debug)]
struct Wanted {
    stage: StageId,
    holders: BTreeSet<NodeId>,
    state: RestoreState,
}

/// Content that is to be replaced.
#[derive(Default, Debug)]
pub(super) struct Restore {
    /// The entry that this owner is to put.
    wanted: Option<Wanted>,
    /// To be handed out.
    place: Option<Placing>,
    /// The stage whose file is taking the place of the live one, and the entry that names it.
    pub(super) placed: Option<(StageId, Index)>,
    /// The last entry that has replaced the content here: its file is gone since.
    pub(super) done: Index,
    /// A stage that is not needed any more.
    used: Option<StageId>,
    /// What a copy must hold at least that came to an entry without its file.
    pub(super) at_least: Index,
}

impl Restore {
    /// Whether nothing may be run before the entry is put.
    pub(super) fn waits(&self) -> bool {
        self.wanted.as_ref().is_some_and(|wanted| wanted.state == RestoreState::Waiting)
    }
}

impl Shard {
    /// The file `stage` lies durably at `holders`: the entry that names it is to be put. What comes of
    /// it is told by [`Shard::restore_state`].
    pub fn put_restore(&mut self, now: Time, stage: StageId, holders: BTreeSet<NodeId>) {
        self.now = now;
        let state = RestoreState::Waiting;
        self.restore.wanted = Some(Wanted { stage, holders, state });
        self.drive();
    }

    /// What has become of the entry for `stage`; `None` if nobody has asked for it.
    #[must_use]
    pub fn restore_state(&self, stage: StageId) -> Option<&RestoreState> {
        self.restore.wanted.as_ref().filter(|w| w.stage == stage).map(|wanted| &wanted.state)
    }

    /// Nobody wants it any more. Whether that is in time: false if the entry has been put.
    pub fn cancel_restore(&mut self, stage: StageId) -> bool {
        match self.restore_state(stage) {
            Some(RestoreState::Proposed(_)) => false,
            Some(_) => {
                self.restore.wanted = None;
                true
            }
            None => true,
        }
    }

    /// Whether the copies in `holders` are as many as the log and the write quorum ask for.
    #[must_use]
    pub fn are_enough(&self, holders: &BTreeSet<NodeId>) -> bool {
        self.are_enough_of(self.raft.membership(), holders)
    }

    /// Whether that holds of those who vote now and of those who did at the entry at `index`, which
    /// made the promise.
    #[must_use]
    pub fn are_enough_for(&self, index: Index, holders: &BTreeSet<NodeId>) -> bool {
        self.are_enough(holders) && self.are_enough_of(self.raft.membership_at(index), holders)
    }

    fn are_enough_of(&self, membership: &Membership, holders: &BTreeSet<NodeId>) -> bool {
        let mut halves = std::iter::once(&membership.incoming).chain(&membership.outgoing);
        let enough = halves.all(|half| {
            let held = half.voters.iter().filter(|voter| holders.contains(voter)).count();
            held >= self.terms.write_quorum.copies(half.voters.len())
        });
        enough && Quorum::of(membership).is_met(|node| holders.contains(&node))
    }

    /// Puts the entry as soon as nothing runs that does not know of it.
    pub(super) fn put_wanted(&mut self) {
        let Some(wanted) = self.restore.wanted.as_ref().filter(|_| self.restore.waits()) else {
            return;
        };
        let stage = wanted.stage;
        let leads = self.raft.is_settled_leader()
            && !self.raft.is_transferring()
            && self.raft.term() == stage.term;
        let runs = self.follow.executes() || self.writer.interactive.is_some();
        if leads && (runs || self.raft.membership().is_joint()) {
            return;
        }
        let put = match leads {
            true if self.sealed => Err(ShardError::Busy),
            false => Err(self.not_owner()),
            true if !self.are_enough(&wanted.holders) => {
                Err(ShardError::NotStaged("the shard's servers have changed since".to_owned()))
            }
            true => self.raft.propose(entry::restore(stage)).map_err(|error| match error {
                ProposeError::NotLeader | ProposeError::Transferring => self.not_owner(),
                ProposeError::Busy | ProposeError::TooLarge => ShardError::Busy,
            }),
        };
        let state = match put {
            Ok((index, term)) => RestoreState::Proposed(Position { index, term }),
            Err(error) => RestoreState::Refused(error),
        };
        if let Some(wanted) = &mut self.restore.wanted {
            wanted.state = state;
        }
    }

    /// The copy has come to an entry that replaces its content. What was given to the engine before is
    /// finished first; until the new content is there nothing else is done.
    pub(super) fn come_to_restore(&mut self, at: Position, stage: StageId) {
        self.undo_open();
        if !self.follow.orders.is_empty() {
            return;
        }
        let generation = self.next_generation();
        let placing = Placing { stage, at, generation };
        self.copy = CopyState::Placing(placing);
        self.restore.place = Some(placing);
    }

    /// The next staged file that is to be put in its place; [`Shard::placed`] is the answer.
    pub fn next_place(&mut self) -> Option<Placing> {
        self.restore.place.take()
    }

    /// The staged file lies whole and durable in its place, or cannot.
    pub fn placed(&mut self, now: Time, stage: StageId, result: Result<(), Fault>) {
        self.now = now;
        let CopyState::Placing(placing) = self.copy else { return };
        if placing.stage != stage {
            return;
        }
        match result {
            Ok(()) => {
                let base = self.base_at(placing.at);
                let fits = base.is_some_and(|base| self.install(now, placing.generation, base));
                if fits {
                    self.restore.placed = Some((stage, placing.at.index));
                } else {
                    self.lacks_restored(placing, Fault::Missing("the entry's place".to_owned()));
                }
            }
            // The next opening comes to the same entry again.
            Err(Fault::Full(_) | Fault::Io(_) | Fault::Misuse { .. }) => {
                let wait = self.limits.reopen * 8;
                self.follow.epoch += 1;
                self.copy = CopyState::Closed { until: now + wait, wait };
            }
            Err(fault) => self.lacks_restored(placing, fault),
        }
        self.drive();
    }

    fn lacks_restored(&mut self, placing: Placing, fault: Fault) {
        self.restore.at_least = placing.at.index;
        self.break_copy(fault);
    }

    /// The record of another copy is durable.
    pub(super) fn restore_is_recorded(&mut self) {
        self.restore.at_least = Index::ZERO;
        if let Some((stage, index)) = self.restore.placed.take() {
            self.restore.used = Some(stage);
            self.restore.done = index;
        }
    }

    /// A staged file that has done its part.
    pub fn take_used_stage(&mut self) -> Option<StageId> {
        self.restore.used.take()
    }
}
