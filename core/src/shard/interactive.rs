//! Interactive transactions: those that run step by step, because what comes next depends on what was
//! found.
//!
//! One is a batch of its own: open in the owner's engine from its beginning on, and what it has changed
//! becomes one entry of the log when it is finished. What must hold:
//!
//! * While it is open no other transaction runs. So its time is bounded, and so is the time in which
//!   nothing is asked of it; and those who waited for it go before the next one is begun.
//! * It never outlives the term in which it was begun, nor the opening of the copy. Whatever ends it
//!   before its end undoes it as a whole, and its next call is told what that was.
//! * What is known of one that is gone is never a reason to run it again. Finished in a session, it is
//!   answered from there, by whatever owner.
//! * For what would have it end, so that something else can happen: a hand-over that the configuration
//!   asks for, and a restore, wait for it, and none is begun before they are done. A server that stops,
//!   the end of the log (`seal`), and other rights than it began with end it at once.
//!
//! A finish that has come to the engine ends it, whatever comes of that: if a deferred foreign key
//! fails, nothing is left. (In SQLite a failing COMMIT leaves the transaction open. Here a finish may
//! arrive twice, and the second would commit what was to be mended.)

use std::collections::VecDeque;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::follow::Order;
use super::{CallKind, Delivery, Reply, RequestId, Shard, ShardError, Write};
use crate::engine::{Outcome, Position, Rights, Stepped, Transaction};
use crate::faults::{self, Fault};
use crate::ids::Term;
use crate::time::Time;

/// Calls of one interactive transaction that may wait for the one before them.
const WAITING_MAX: usize = 16;
/// So many that have ended are remembered, with the reason.
const ENDED_MAX: usize = 64;

/// Names an interactive transaction; never used twice in one log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct TransactionId {
    /// The term of the owner that began it.
    pub term: Term,
    /// Its number, which that owner has not used in that term.
    pub number: u64,
}

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.term.0, self.number)
    }
}

/// The next statements of an interactive transaction.
#[derive(Clone, PartialEq, Debug)]
pub struct Step {
    /// Whose answer it is.
    pub id: RequestId,
    /// Of which.
    pub of: TransactionId,
    /// The statements.
    pub transaction: Transaction,
    /// When the asker gives up.
    pub deadline: Time,
}

/// What waits for the call before it.
#[derive(Debug)]
enum Asked {
    Step(Step),
    Finish(Write),
}

impl Asked {
    fn deadline(&self) -> Time {
        match self {
            Self::Step(step) => step.deadline,
            Self::Finish(write) => write.deadline,
        }
    }
}

/// What the engine is at.
#[derive(Debug)]
enum Running {
    /// Beginning it.
    Begin(Write),
    /// A step, until when it is waited for.
    Step(RequestId, Time),
}

impl Running {
    fn deadline(&self) -> Time {
        match self {
            Self::Begin(write) => write.deadline,
            Self::Step(_, deadline) => *deadline,
        }
    }
}

/// The one that is open, or about to be.
#[derive(Debug)]
pub(super) struct Interactive {
    id: TransactionId,
    rights: Rights,
    begun: Time,
    /// Since when nothing was asked of it, if nothing is.
    idle_since: Time,
    running: Option<Running>,
    waiting: VecDeque<Asked>,
}

impl Interactive {
    fn is_idle(&self) -> bool {
        self.running.is_none() && self.waiting.is_empty()
    }

    /// When the first of those who ask gives up.
    fn first_deadline(&self) -> Option<Time> {
        let running = self.running.iter().map(Running::deadline);
        running.chain(self.waiting.iter().map(Asked::deadline)).min()
    }
}

/// What became of one that is not open any more.
#[derive(Clone, Debug)]
enum Ended {
    /// Nothing is left of it.
    Lost(String),
    /// It is an entry, if that is committed; or it changed nothing.
    Finished(Position),
    /// The engine is at it.
    Finishing,
}

/// Those that have ended of late, and how many there were.
#[derive(Debug, Default)]
pub(super) struct Past {
    count: u64,
    ended: VecDeque<(TransactionId, Ended)>,
}

impl Past {
    fn note(&mut self, of: TransactionId, ended: Ended) {
        self.ended.retain(|(known, _)| *known != of);
        self.ended.push_back((of, ended));
        if self.ended.len() > ENDED_MAX {
            self.ended.pop_front();
        }
    }
}

impl Shard {
    /// The next statements of an interactive transaction. The answer comes from [`Shard::next_reply`].
    pub fn step(&mut self, now: Time, step: Step) {
        self.now = now;
        if self.is_led_elsewhere(step.of) {
            let error = self.not_owner();
            self.fail(step.id, error);
        } else if let Some(open) = self.writer.interactive.as_mut().filter(|o| o.id == step.of) {
            if open.waiting.len() < WAITING_MAX {
                open.waiting.push_back(Asked::Step(step));
            } else {
                self.fail(step.id, ShardError::Busy);
            }
        } else {
            let error = self.gone(step.of);
            self.fail(step.id, error);
        }
        self.drive();
    }

    /// Undoes an interactive transaction. That it is gone is an answer too.
    pub fn abandon(&mut self, now: Time, id: RequestId, of: TransactionId) {
        self.now = now;
        if self.is_led_elsewhere(of) {
            let error = self.not_owner();
            self.fail(id, error);
        } else {
            if self.writer.interactive.as_ref().is_some_and(|open| open.id == of) {
                self.end_interactive("it was abandoned");
            }
            self.reply(id, Reply::Done { at: self.follow.position, rows: Vec::new() });
        }
        self.drive();
    }

    /// Whether its term is over, as far as this replica knows: then it is open nowhere where it could be
    /// finished.
    #[must_use]
    pub fn is_over(&self, of: TransactionId) -> bool {
        of.term < self.raft.term()
    }

    /// Whether another one has to be asked.
    fn is_led_elsewhere(&self, of: TransactionId) -> bool {
        !self.raft.is_leader() && !self.is_over(of)
    }

    /// Somebody finishes an interactive transaction. Whether that is taken up here: it is open, or
    /// another one is, and then all that sessions could know of it is known.
    pub(super) fn finish_now(&mut self, write: Write) -> Option<Write> {
        let (Delivery::Finishes(of, _), Some(open)) =
            (write.delivery, &mut self.writer.interactive)
        else {
            return Some(write);
        };
        if open.id != of {
            let time = self.log_time();
            self.finish_gone(write, of, time);
        } else if open.waiting.len() < WAITING_MAX {
            open.waiting.push_back(Asked::Finish(write));
        } else {
            self.fail(write.id, ShardError::Busy);
        }
        None
    }

    /// Somebody finishes one that is not open. What its session knows is told; otherwise it is not done.
    pub(super) fn finish_gone(&mut self, write: Write, of: TransactionId, time: u64) {
        if self.is_new(&write, time) {
            let error = self.gone(of);
            self.fail(write.id, error);
        }
    }

    /// Why one that is not open cannot go on.
    #[must_use]
    pub fn gone(&self, of: TransactionId) -> ShardError {
        let known = self.writer.past.ended.iter().find(|(id, _)| *id == of);
        let reason = match known.map(|(_, ended)| ended) {
            Some(Ended::Finished(at)) => match self.term_of(at.index) {
                Some(term) if term == at.term => return ShardError::AlreadyDone { at: *at },
                Some(_) => "the owner has changed before it was committed",
                None => return ShardError::OutcomeUnknown,
            },
            Some(Ended::Finishing) => return ShardError::OutcomeUnknown,
            Some(Ended::Lost(reason)) => reason,
            None if self.is_over(of) => "the owner of the shard has changed since it was begun",
            None => "the owner of the shard does not know it",
        };
        ShardError::TransactionLost { reason: reason.to_owned() }
    }

    /// Begins the one that is first in the queue.
    pub(super) fn begin_next(&mut self) {
        let begins = |write: &Write| write.delivery == Delivery::Begins;
        if self.writer.hands_over || !self.writer.queue.front().is_some_and(begins) {
            return;
        }
        let Some(write) = self.writer.queue.pop_front() else { return };
        self.writer.past.count += 1;
        let id = TransactionId { term: self.raft.term(), number: self.writer.past.count };
        let rights = self.rights();
        let (begun, idle_since) = (self.now, self.now);
        let (running, waiting) = (Some(Running::Begin(write)), VecDeque::new());
        let open = Interactive { id, rights, begun, idle_since, running, waiting };
        self.writer.interactive = Some(open);
        self.follow.orders.push_back(Order::Begin(id));
        self.call(CallKind::Begin(rights, self.limits.interactive_time));
    }

    /// The engine has it open.
    pub(super) fn on_begun(&mut self) {
        let Some(Order::Begin(id)) = self.follow.orders.pop_front() else {
            unreachable!("calls are answered in order");
        };
        let now = self.now;
        let open = self.writer.interactive.as_mut().filter(|open| open.id == id);
        if let Some(open) = open
            && let Some(Running::Begin(write)) = open.running.take()
        {
            open.idle_since = now;
            self.reply(write.id, Reply::Began { transaction: id });
        }
    }

    /// The engine has run a step.
    pub(super) fn on_stepped(&mut self, stepped: Stepped) {
        let Some(Order::Step(of, id)) = self.follow.orders.pop_front() else {
            unreachable!("calls are answered in order");
        };
        let now = self.now;
        // If it was ended meanwhile, whoever asked knows.
        let Some(open) = self.writer.interactive.as_mut().filter(|open| open.id == of) else {
            return;
        };
        let Stepped { rows, error, lost } = stepped;
        match error {
            Some(error) if lost => self.end_interactive(&format!("SQLite has undone it: {error}")),
            error => {
                (open.running, open.idle_since) = (None, now);
                self.reply(id, Reply::Stepped { rows, error });
            }
        }
    }

    /// Ends it if its time has come, or gives its next call to the engine.
    pub(super) fn drive_interactive(&mut self) {
        if let Some(reason) = self.why_over() {
            self.end_interactive(&reason);
        }
        while let Some(open) = &mut self.writer.interactive
            && open.running.is_none()
            && self.follow.orders.len() < self.limits.calls_max
        {
            match open.waiting.pop_front() {
                None => return,
                Some(Asked::Step(Step { id, of, transaction, deadline })) => {
                    open.running = Some(Running::Step(id, deadline));
                    self.follow.orders.push_back(Order::Step(of, id));
                    self.call(CallKind::Step(transaction));
                }
                Some(Asked::Finish(write)) => self.start_finish(write),
            }
        }
    }

    /// Its effects are to become an entry. If that cannot be now, it stays open.
    fn start_finish(&mut self, write: Write) {
        let now = self.now;
        if let Some(open) = &mut self.writer.interactive {
            open.idle_since = now;
        }
        let time = self.log_time();
        if !self.is_new(&write, time) {
            return;
        }
        if let Some(error) = self.out_of_reach() {
            self.fail(write.id, error);
            return;
        }
        let Some(open) = self.writer.interactive.take() else { return };
        let term = self.raft.term();
        self.follow.orders.push_back(Order::Execute { writes: vec![write], term, time });
        self.call(CallKind::Finish);
        self.writer.past.note(open.id, Ended::Finishing);
        self.let_go(open);
    }

    /// An interactive transaction was finished by the engine, and is told to the log at this position.
    pub(super) fn note_finished(&mut self, writes: &[Write], outcomes: &[Outcome], at: Position) {
        for (write, outcome) in writes.iter().zip(outcomes) {
            if let Delivery::Finishes(of, _) = write.delivery {
                let ended = match outcome {
                    Ok(_) => Ended::Finished(at),
                    Err(error) => Ended::Lost(format!("it failed at its end: {error}")),
                };
                self.writer.past.note(of, ended);
            }
        }
    }

    /// What was to be finished was undone before it was in the log.
    pub(super) fn note_undone(&mut self, write: &Write) {
        if let Delivery::Finishes(of, _) = write.delivery {
            let reason = "it could not be put into the shard's log".to_owned();
            self.writer.past.note(of, Ended::Lost(reason));
        }
    }

    /// When it is to be looked at.
    pub(super) fn interactive_due(&self) -> Option<Time> {
        let open = self.writer.interactive.as_ref()?;
        let idle = open.is_idle().then(|| open.idle_since + self.limits.interactive_idle);
        let whole = open.begun + self.limits.interactive_time;
        [idle, open.first_deadline()].into_iter().flatten().chain([whole]).min()
    }

    /// Why it has to end now, if it has to.
    fn why_over(&self) -> Option<String> {
        let (open, limits) = (self.writer.interactive.as_ref()?, &self.limits);
        if self.sealed {
            return Some("the shard goes over to another cluster".to_owned());
        }
        if self.raft.is_transferring() {
            return Some("the shard is handed over to another server".to_owned());
        }
        if open.rights != self.rights() {
            return Some("the shard was given to another owner".to_owned());
        }
        if self.now >= open.begun + limits.interactive_time
            && !faults::active(Fault::InteractiveWithoutLimit)
        {
            let ms = limits.interactive_time.as_millis();
            return Some(format!("it was open for {ms} ms, which is the limit"));
        }
        if open.is_idle() && self.now >= open.idle_since + limits.interactive_idle {
            let ms = limits.interactive_idle.as_millis();
            return Some(format!("nothing was asked of it for {ms} ms, which is the limit"));
        }
        let late = open.first_deadline().is_some_and(|deadline| self.now >= deadline);
        late.then(|| "a call of it was not done within the time that it was given".to_owned())
    }

    /// Undoes it, if there is one; whoever asks something of it is told.
    pub(super) fn end_interactive(&mut self, reason: &str) {
        if self.writer.interactive.is_some() {
            self.undo(true);
            self.forget_interactive(reason);
        }
    }

    /// The engine has undone it, or will, if there is one.
    pub(super) fn forget_interactive(&mut self, reason: &str) {
        let Some(mut open) = self.writer.interactive.take() else { return };
        self.writer.past.note(open.id, Ended::Lost(reason.to_owned()));
        match open.running.take() {
            Some(Running::Begin(write)) if self.now >= write.deadline => {
                self.fail(write.id, ShardError::TimedOut);
            }
            // Nothing ran: another one may be begun.
            Some(Running::Begin(write)) => self.writer.queue.push_front(write),
            Some(Running::Step(id, _)) => {
                let error = self.gone(open.id);
                self.fail(id, error);
            }
            None => {}
        }
        self.let_go(open);
    }

    /// What still waits for it gets an answer, and those who waited beside it go first.
    fn let_go(&mut self, open: Interactive) {
        for asked in open.waiting {
            match asked {
                Asked::Step(step) => {
                    let error = self.gone(open.id);
                    self.fail(step.id, error);
                }
                // Its session may know it.
                Asked::Finish(write) => self.writer.queue.push_front(write),
            }
        }
        let queue = self.writer.queue.make_contiguous();
        queue.sort_by_key(|write| write.delivery == Delivery::Begins);
    }

    /// On whose behalf this owner runs transactions.
    pub(super) fn rights(&self) -> Rights {
        match self.terms.static_owner {
            Some(_) => Rights::Caretaker,
            None => Rights::Owner,
        }
    }
}
