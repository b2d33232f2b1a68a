//! One node's copy of one shard: a replica of the shard's log, and the engine that it drives.
//!
//! The leader of the log owns the shard: it alone runs transactions that write. (While a static owner
//! is away another one leads as caretaker, and inserts nothing.) It runs them in
//! batches, in one open transaction of its engine; the effects of a batch become an entry of the log;
//! when that is committed, so is the open transaction, and everybody is answered. The other copies
//! apply the entries. What must hold:
//!
//! * A transaction runs only on a copy that has applied every entry of its log, one of the owner's
//!   own term among them.
//! * What is open belongs to one entry of one term. A new term, or another entry in its place, undoes
//!   it first.
//! * Nobody is answered before the entry is committed, neither errors nor reads.
//! * The engine may fail at every call: the copy is opened again and goes on from the position that
//!   it says it has.
//!
//! Files: `api` what goes in and out · `entry` what an entry carries · `writer` batches and their
//! entries · `follow` committed entries on their way into the copy · `copy` another file in its place
//! · `interactive` transactions that run step by step · `name` of which shard a copy is · `answers` who is told what, and when · `reads` · `restore` content that is replaced by a file's ·
//! `retain` what the log keeps · `seal` the end of a log · `session` what is done once · `verify` what the copy is at a mark.

mod answers;
mod api;
mod copy;
mod entry;
mod follow;
mod interactive;
mod name;
mod reads;
mod restore;
mod retain;
mod seal;
mod session;
#[cfg(test)]
mod tests;
mod verify;
mod writer;

use std::collections::VecDeque;
use std::time::Duration;

pub use api::{
    Answer, Call, CallKind, Consistency, CopyHash, Read, Reply, RequestId, ShardError, ShardId,
    ShardLimits, SqlKind, StaticOwner, Terms, Token, Write,
};
pub use entry::{effects, is_mark, records, restores};
pub use interactive::{Step, TransactionId};
pub use name::Name;
pub use restore::{Placing, RestoreState, StageId, Upload};
pub use session::{Delivery, Kept, Once, Ran, Records, Session, SessionId};
pub use verify::{Hashed, Mark, NoHash};

use crate::engine::{Fault, Position};
use crate::ids::{Generation, Index, NodeId, Term};
use crate::raft::{
    Body, Change, ChangeError, Entry, LogRead, Message, Raft, ReadId, Ticket, Unreadable,
};
use crate::storage::StorageOp;
use crate::time::Time;

/// How often waiting requests are looked through for those whose time is up.
const SWEEP: Duration = Duration::from_millis(50);
/// How long after a hand-over that came to nothing the next is tried.
const HANDOVER: Duration = Duration::from_secs(5);

/// What the engine is believed to be.
#[derive(Clone, PartialEq, Debug)]
enum CopyState {
    /// To be opened at that time; the next wait is twice this one.
    Closed { until: Time, wait: Duration },
    /// Asked to open.
    Opening { wait: Duration },
    /// Takes calls.
    Open,
    /// Opening it again would not help: it must be replaced.
    Broken(Fault),
    /// Another one takes its place, and is opened when the store names it.
    Swapping(copy::Swap),
    /// It has come to an entry that replaces its content, and the staged file is made ready.
    Placing(restore::Placing),
}

/// One node's copy of one shard.
#[derive(Debug)]
pub struct Shard {
    raft: Raft,
    limits: ShardLimits,
    terms: Terms,
    now: Time,
    copy: CopyState,
    /// Nothing is run any more: see [`Shard::seal`].
    sealed: bool,
    /// Entries are passed over until a whole copy has come.
    awaits_copy: bool,
    /// The live copy; `None` until the first is there.
    generation: Option<Generation>,
    /// What its copies call themselves; `None`: nothing is known of it, and none is looked at.
    name: Option<Name>,
    writer: writer::Writer,
    follow: follow::Follow,
    retain: retain::Retain,
    reads: reads::Reads,
    restore: restore::Restore,
    sessions: session::Sessions,
    verify: verify::Verify,
    calls: VecDeque<Call>,
    replies: VecDeque<(RequestId, Reply)>,
    /// The term in which this replica last was seen to lead.
    led: Option<Term>,
    /// Since when it leads, or follows.
    office_since: Time,
    /// Since when it leads without a copy that it could write.
    lame: Option<Time>,
    /// Since when no write of the copy has succeeded although it could be opened, and why.
    ails: Option<(Time, Fault)>,
    /// Since when the copy is open, if it is.
    open_since: Time,
    /// No hand-over before this.
    next_handover: Time,
    next_sweep: Option<Time>,
}

impl Shard {
    /// A copy whose log is `raft`, and whose content is what the store names as `generation`, if
    /// that calls itself `name` or nothing. Its first call is there at once: to open the engine.
    #[must_use]
    pub fn new(
        raft: Raft,
        (generation, name): (Option<Generation>, Option<Name>),
        limits: ShardLimits,
        now: Time,
    ) -> Self {
        let retain = retain::Retain::new(&raft, now);
        let mut shard = Self {
            raft,
            limits,
            terms: Terms::default(),
            now,
            copy: CopyState::Closed { until: now, wait: limits.reopen },
            sealed: false,
            awaits_copy: false,
            generation,
            name,
            writer: writer::Writer::default(),
            follow: follow::Follow::default(),
            retain,
            reads: reads::Reads::default(),
            restore: restore::Restore::default(),
            sessions: session::Sessions::default(),
            verify: verify::Verify::default(),
            calls: VecDeque::new(),
            replies: VecDeque::new(),
            led: None,
            office_since: now,
            lame: None,
            ails: None,
            open_since: now,
            next_handover: now,
            next_sweep: None,
        };
        shard.drive();
        shard
    }

    /// Its replica of the log.
    #[must_use]
    pub fn log(&self) -> &Raft {
        &self.raft
    }

    /// The last content that is committed in the copy, as far as the engine has confirmed it.
    #[must_use]
    pub fn position(&self) -> Position {
        self.follow.position
    }

    /// The last content that is durable in the copy: the log may forget what is not after it.
    #[must_use]
    pub fn synced(&self) -> Position {
        self.follow.synced
    }

    /// Every entry of the log up to here is in the copy.
    #[must_use]
    pub fn applied(&self) -> Index {
        self.follow.applied
    }

    /// Whether the configuration says that the copy serves.
    #[must_use]
    pub fn is_online(&self) -> bool {
        self.terms.online
    }

    /// Why the copy cannot be used again without being replaced.
    #[must_use]
    pub fn broken(&self) -> Option<&Fault> {
        match &self.copy {
            CopyState::Broken(fault) => Some(fault),
            CopyState::Closed { .. }
            | CopyState::Opening { .. }
            | CopyState::Open
            | CopyState::Swapping(_)
            | CopyState::Placing(_) => None,
        }
    }

    /// Why the copy cannot be written, if that has been so for a while: it can be opened, and the next
    /// write fails. A disk that is full does that.
    #[must_use]
    pub fn ails(&self) -> Option<&Fault> {
        let (since, fault) = self.ails.as_ref()?;
        (self.now.since(*since) >= self.limits.patience).then_some(fault)
    }

    /// Whether it runs transactions at the moment.
    #[must_use]
    pub fn is_owner(&self) -> bool {
        self.raft.is_settled_leader()
            && !self.raft.is_transferring()
            && self.copy == CopyState::Open
    }

    /// What the configuration says of the shard has changed.
    pub fn set_terms(&mut self, now: Time, terms: Terms) {
        self.now = now;
        self.terms = terms;
        self.drive();
    }

    /// A message of a peer's replica. A copy that has nothing of its log yet answers no request for a
    /// vote: it does not know whether it has one, nor what it may have promised.
    pub fn receive(&mut self, now: Time, from: NodeId, message: Message) {
        let asks = matches!(message.body, Body::Vote { .. } | Body::PreVote { .. });
        if asks && self.raft.last_index() == Index::ZERO {
            return;
        }
        let entries = matches!(&message.body, Body::Append { entries, .. } if !entries.is_empty());
        if entries && self.awaits_copy {
            return;
        }
        self.now = now;
        self.raft.receive(now, from, message);
        self.drive();
    }

    /// A timer is due.
    pub fn tick(&mut self, now: Time) {
        self.now = now;
        if now >= self.raft.next_timeout() {
            self.raft.tick(now);
        }
        self.drive();
    }

    /// When [`Shard::tick`] has something to do.
    #[must_use]
    pub fn next_timeout(&self) -> Time {
        let mut due = self.raft.next_timeout();
        if let CopyState::Closed { until, .. } = self.copy {
            due = due.min(until);
        }
        let parts = [self.next_sweep, self.follow.due(), self.interactive_due()];
        parts.into_iter().flatten().fold(due, Time::min)
    }

    /// A batch of the log is durable.
    pub fn persisted(&mut self, now: Time, ticket: Ticket) {
        self.now = now;
        self.raft.persisted(now, ticket);
        self.swap_is_durable(ticket.sequence);
        self.drive();
    }

    /// A change of the log's membership.
    ///
    /// # Errors
    /// [`ChangeError`]: nothing was appended.
    pub fn change(&mut self, now: Time, change: Change) -> Result<Index, ChangeError> {
        self.now = now;
        let done = self.raft.change(now, change);
        self.drive();
        done
    }

    /// Hands the lead over: this node is about to stop.
    pub fn hand_over(&mut self, now: Time, to: NodeId) {
        self.now = now;
        self.end_interactive("the shard is handed over to another server");
        // Refused if it does not vote: then the others elect somebody when this node is gone.
        let _ = self.raft.transfer(now, to);
        self.drive();
    }

    /// No link to `peer` is left.
    pub fn link_lost(&mut self, now: Time, peer: NodeId) {
        self.now = now;
        self.raft.link_lost(now, peer);
        self.drive();
    }

    /// A link to `peer` is open.
    pub fn link_open(&mut self, now: Time, peer: NodeId) {
        self.now = now;
        self.raft.link_open(now, peer);
        self.drive();
    }

    /// The process was paused.
    pub fn paused(&mut self, now: Time) {
        self.now = now;
        self.raft.paused(now);
        self.drive();
    }

    /// The engine has answered a call. Calls but queries and hashes are answered in order, each once,
    /// until one has failed; queries are answered each once, hashes at most.
    pub fn answer(&mut self, now: Time, epoch: u64, answer: Answer) {
        self.now = now;
        match answer {
            Answer::Queried(id, result) => self.on_queried(id, result),
            Answer::Hashed(mark, result) => self.on_hashed(mark, result),
            _ if epoch != self.follow.epoch => {}
            Answer::Opened(position, notes) => self.on_opened(position, &notes),
            Answer::Executed(executed) => self.on_executed(executed),
            Answer::Begun => self.on_begun(),
            Answer::Stepped(stepped) => self.on_stepped(stepped),
            Answer::Committed | Answer::Applied | Answer::RolledBack => self.on_carried_out(),
            Answer::Synced(position) => self.on_synced(position),
            Answer::Failed(fault) => self.on_failed(fault),
        }
        self.drive();
    }

    /// Sends what has come together. Call once after everything that happened at one time.
    pub fn flush(&mut self, now: Time) {
        self.raft.flush(now);
    }

    /// The next batch of the log that must become durable.
    pub fn take_batch(&mut self, now: Time) -> Option<(Ticket, Vec<StorageOp>)> {
        let batch = self.raft.take_batch(now)?;
        self.swap_is_written(batch.0.sequence);
        Some(batch)
    }

    /// The next message that may leave.
    pub fn next_message(&mut self) -> Option<(NodeId, Message)> {
        self.raft.next_message()
    }

    /// The next entries that are wanted from the log on the disk; [`Shard::log_read`] is the answer.
    pub fn next_read(&mut self) -> Option<LogRead> {
        self.raft.next_read()
    }

    /// Entries were read from the log on the disk, or one of them cannot be.
    pub fn log_read(&mut self, now: Time, id: ReadId, result: Result<Vec<Entry>, Unreadable>) {
        self.now = now;
        self.raft.log_read(now, id, result);
        self.drive();
    }

    /// An entry of the log that was durable and cannot be read back; each is told once.
    pub fn take_unreadable(&mut self) -> Option<Index> {
        self.raft.take_unreadable()
    }

    /// The next call to the engine.
    pub fn next_call(&mut self) -> Option<Call> {
        self.calls.pop_front()
    }

    /// The next answer to a request.
    pub fn next_reply(&mut self) -> Option<(RequestId, Reply)> {
        self.replies.pop_front()
    }

    /// Lets each part do what can be done now.
    fn drive(&mut self) {
        self.open_if_due();
        self.heal();
        self.watch_office();
        self.follow_log();
        self.resolve();
        self.put_wanted();
        self.drive_interactive();
        self.start_batch();
        self.serve_reads();
        self.sweep();
        self.care_for_ownership();
        self.compact_log();
        self.refuse_if_broken();
    }

    /// Nothing has failed for as long as makes a copy ail: there was nothing to write.
    fn heal(&mut self) {
        if self.ails.is_none() || self.copy != CopyState::Open {
            return;
        }
        if self.now.since(self.open_since) >= self.limits.patience {
            self.ails = None;
        }
    }

    fn call(&mut self, what: CallKind) {
        self.calls.push_back(Call { epoch: self.follow.epoch, what });
    }

    fn reply(&mut self, id: RequestId, reply: Reply) {
        self.replies.push_back((id, reply));
    }

    fn fail(&mut self, id: RequestId, error: ShardError) {
        self.reply(id, Reply::Failed(error));
    }

    fn not_owner(&self) -> ShardError {
        let me = self.raft.node();
        ShardError::NotOwner { owner: self.raft.leader().filter(|leader| *leader != me) }
    }

    /// An owner that loses the lead, or its term, forgets what it has not appended, and undoes what
    /// is open.
    fn watch_office(&mut self) {
        let leads = self.raft.is_leader().then(|| self.raft.term());
        if leads == self.led {
            return;
        }
        self.led = leads;
        self.office_since = self.now;
        self.lame = None;
        self.undo_open();
        if leads.is_none() {
            self.send_away_waiting();
        }
    }

    /// A leader hands over to the one that should own the shard, or to anybody if its own copy cannot
    /// be written. For the first an interactive transaction that is open comes to its end, and no other is
    /// begun.
    fn care_for_ownership(&mut self) {
        self.writer.hands_over = false;
        let now = self.now;
        if !self.raft.is_settled_leader() || self.raft.is_transferring() {
            return;
        }
        if self.copy == CopyState::Open && self.ails.is_none() {
            self.lame = None;
        } else if self.lame.is_none() {
            self.lame = Some(now);
        }
        if now < self.next_handover {
            return;
        }
        let me = self.raft.node();
        let lame = self.lame.is_some_and(|since| now.since(since) >= self.limits.patience);
        let successor = match self.terms.preferred {
            _ if lame => self.raft.best_successor(now, |_| true),
            Some(node) if node != me && self.raft.is_caught_up(now, node) => Some(node),
            _ => None,
        };
        let Some(successor) = successor else { return };
        if !lame && (self.writer.interactive.is_some() || self.follow.finishes()) {
            self.writer.hands_over = true;
            return;
        }
        self.next_handover = now + HANDOVER;
        // Refused if it does not vote: then this one goes on.
        let _ = self.raft.transfer(now, successor);
    }
}
