//! Raft, sans I/O: the one consensus algorithm, used for the configuration log and for shard logs.
//!
//! After Ongaro and Ousterhout, *In Search of an Understandable Consensus Algorithm* (the extended
//! version), and Ongaro's thesis: pre-vote (9.6), check-quorum (6.2), leader transfer (3.10),
//! learners (4.2.1), joint consensus (4.3), read index (6.4). What differs is the [`Quorum`]: a
//! majority, or exactly half with the tie-breaker. With it, changing one voter at a time is unsafe,
//! so that every change of voters or tie-breaker is joint.
//!
//! The owner of a [`Raft`] drives it:
//!
//! ```text
//! receive / tick / propose / change / link_lost / persisted     something happened
//! flush(now)                                                    once after it
//! take_batch -> write it, then persisted(ticket)                what must become durable
//! next_message                                                  what may leave
//! next_read -> read it from the store, then log_read(answer)    entries that are not in memory
//! take_restored, take_committed                                 what the state machine is to do
//! ```
//!
//! Files: `quorum` what is enough · `log` entries and memberships · `progress` a leader's view of
//! one member, `latency` how long it takes · `outbox` nothing leaves before it is durable · `election` votes · `replication`
//! entries and commit · `fetch` entries from below the window · `change` memberships · `read` read
//! index. `model` (a feature) is for a model checker: copies, a hash, time as an event.

mod change;
mod election;
mod fetch;
mod latency;
mod log;
#[cfg(feature = "model")]
mod model;
mod outbox;
mod progress;
mod quorum;
mod read;
mod replication;
#[cfg(test)]
mod tests;
mod types;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use rand_chacha::ChaCha8Rng;
use rand_core::Rng as _;
use thiserror::Error;

pub use change::{Change, ChangeError};
pub use fetch::{LogRead, ReadId, Unreadable};
pub use latency::Latency;
use log::Log;
pub use log::size_of_entry;
#[cfg(feature = "model")]
pub use model::Lapse;
pub use outbox::Ticket;
use outbox::{Outbox, Rests};
use progress::Progress;
pub use quorum::Quorum;
pub use read::ReadError;
use read::Reads;
pub use types::{
    Body, ConfigVersion, Entry, Half, Index, Membership, Message, NodeId, Payload, Snapshot, Term,
};

use crate::faults::{self, Fault};
use crate::ids::{Generation, LogId};
use crate::storage::{HardState, RecoveredLog, StorageOp, Window};
use crate::time::Time;

/// The longest `Data` of one entry, in bytes.
pub const ENTRY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Entries of one append message, together, in bytes (a single longer entry goes alone).
const APPEND_BYTES_MAX: usize = 1024 * 1024;
/// Entries of one append message.
const APPEND_COUNT_MAX: usize = 1024;
/// Entries that a leader takes beyond what is committed.
const UNCOMMITTED_MAX: u64 = 16 * 1024;
/// Batches on their way to a leader's disk beyond which it takes no further entry. What a follower
/// is owed is bounded by its leader's window.
const BATCHES_MAX: usize = 256;
/// How long a leader of a log whose content is apart keeps a new commit index to itself, for the next
/// entry to take it along. Followers only apply by it, and an acknowledgement rests on none of them; a
/// message of its own for every entry, and its answer, cost them and the leader as much as the entry.
const COMMIT_TOLD_WITHIN: Duration = Duration::from_millis(2);
/// Append messages to one member that may be unanswered.
const IN_FLIGHT_MAX: usize = 64;

/// How much a replica sends and keeps at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Entries of one append message; at least 1.
    pub append_count_max: usize,
    /// Bytes of the entries of one append message; a single longer entry goes alone.
    pub append_bytes_max: usize,
    /// Append messages to one member that may be unanswered; at least 1.
    pub in_flight_max: usize,
    /// Applied entries behind the last snapshot before the owner makes a new one.
    pub entries_before_snapshot: u64,
    /// Entries that stay in memory, of a log whose content is apart. Of any other log all do.
    pub window: Window,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            append_count_max: APPEND_COUNT_MAX,
            append_bytes_max: APPEND_BYTES_MAX,
            in_flight_max: IN_FLIGHT_MAX,
            entries_before_snapshot: 256,
            window: Window::default(),
        }
    }
}

/// Where the state is that the entries of a log make.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content {
    /// Whole in every snapshot of the log: whoever is sent one has it.
    InSnapshots,
    /// Kept apart, in a copy of its own. A snapshot only says where the log begins; whoever lacks
    /// what is before that gets a copy first, and acknowledges nothing until it has one.
    Apart,
}

/// What a replica is told once.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who it is.
    pub node: NodeId,
    /// Which log.
    pub log: LogId,
    /// Where its state is.
    pub content: Content,
    /// Between two heartbeats.
    pub heartbeat: Duration,
    /// The shortest time without a leader before an election; also the leader's lease.
    pub election_min: Duration,
    /// The longest.
    pub election_max: Duration,
    /// How much at a time.
    pub limits: Limits,
}

/// What a replica does at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Follows.
    Follower,
    /// Asks whether an election could be won.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

/// Why a proposal was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum ProposeError {
    /// Ask the leader.
    #[error("not the leader")]
    NotLeader,
    /// The leader hands over; ask the next one.
    #[error("the leader is handing over")]
    Transferring,
    /// Too many entries wait to be committed: the quorum, or the own disk, does not keep up.
    #[error("too many entries are waiting to be committed")]
    Busy,
    /// Longer than [`ENTRY_BYTES_MAX`].
    #[error("the entry is too large")]
    TooLarge,
}

/// Why leadership is not handed over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum TransferError {
    /// Ask the leader.
    #[error("not the leader")]
    NotLeader,
    /// The target is not a voter of the membership to come (it was removed, or is a learner).
    #[error("the target is not a voter")]
    NotVoter,
}

#[cfg_attr(feature = "model", derive(Clone))]
#[derive(Debug)]
enum Office {
    Follower,
    PreCandidate { granted: BTreeSet<NodeId>, refused: BTreeSet<NodeId> },
    Candidate { granted: BTreeSet<NodeId>, refused: BTreeSet<NodeId> },
    Leader(Box<Leading>),
}

#[cfg_attr(feature = "model", derive(Clone))]
#[derive(Debug)]
struct Leading {
    progress: BTreeMap<NodeId, Progress>,
    /// The leader's own log is durable up to here.
    durable: Index,
    /// The entry that opened the term.
    first: Index,
    /// The last heartbeat round sent.
    round: u64,
    reads: Reads,
    transfer: Option<Transfer>,
    /// New entries or a new commit index are to be sent at the next flush.
    unsent: bool,
    /// When a new commit index is sent, unless entries take it along before.
    tell_commit: Option<Time>,
    check_quorum: Time,
    heartbeat: Time,
}

#[derive(Clone, Copy, Debug)]
struct Transfer {
    to: NodeId,
    until: Time,
    sent: bool,
}

/// One replica of one log.
#[cfg_attr(feature = "model", derive(Clone))]
#[derive(Debug)]
pub struct Raft {
    settings: Settings,
    rng: ChaCha8Rng,
    log: Log,
    term: Term,
    vote: Option<NodeId>,
    commit: Index,
    /// The commit index that was last put into a batch.
    commit_written: Index,
    applied: Index,
    restored: Option<Snapshot>,
    /// Where the leader's log begins, if that is behind the end of this one and the content is apart.
    wanted: Option<Index>,
    /// The log is durable up to here.
    stored: Index,
    fetches: fetch::Fetches,
    /// What was ever appended, what was there at the start included, in bytes.
    appended_bytes: u64,
    office: Office,
    leader: Option<NodeId>,
    /// When the leader was last heard: its lease.
    leader_heard: Option<Time>,
    election: Time,
    abstains: bool,
    campaigns: u64,
    outbox: Outbox,
    #[cfg(quorate_faults)]
    document_tie_breaker: Option<NodeId>,
}

impl Raft {
    /// A replica on what its disk holds. A damaged log abstains: it neither votes nor acknowledges
    /// nor campaigns, for it may have promised what it can no longer read.
    #[must_use]
    pub fn new(settings: Settings, recovered: RecoveredLog, rng: ChaCha8Rng, now: Time) -> Self {
        let RecoveredLog { hard_state, snapshot, on_disk, entries, copy: _, damaged } = recovered;
        let restored = (snapshot.index > Index::ZERO).then(|| snapshot.clone());
        let applied = snapshot.index;
        let in_memory: usize = entries.iter().map(size_of_entry).sum();
        let appended_bytes = on_disk.bytes + in_memory as u64;
        let log = Log::new(snapshot, on_disk, entries);
        let stored = log.last_index();
        // The hard state may be older than the log: a commit index is a lower bound, and a term is
        // at least that of the last entry.
        let commit = hard_state.commit.max(applied).min(log.last_index());
        let term = hard_state.term.max(log.last_term());
        let vote = hard_state.vote.filter(|_| term == hard_state.term);
        let mut raft = Self {
            settings,
            rng,
            log,
            term,
            vote: if faults::active(Fault::VoteForgotten) { None } else { vote },
            commit,
            commit_written: commit,
            applied,
            restored,
            wanted: None,
            stored,
            fetches: fetch::Fetches::default(),
            appended_bytes,
            office: Office::Follower,
            leader: None,
            leader_heard: None,
            election: now,
            abstains: damaged,
            campaigns: 0,
            outbox: Outbox::new(),
            #[cfg(quorate_faults)]
            document_tie_breaker: None,
        };
        raft.reset_election(now);
        let voters = raft.log.membership().voters();
        if !raft.abstains && voters == BTreeSet::from([raft.settings.node]) {
            // Nobody else to wait for. (A tie-breaker of two could lead by itself, but the other
            // may lead at the moment.)
            raft.election = now;
        }
        raft
    }

    /// The disk content of a log that `founder` alone founds with `entries` after a membership of
    /// itself: to be written and synced before anybody is told of it.
    #[must_use]
    pub fn founding(
        founder: NodeId,
        data: Bytes,
        version: ConfigVersion,
    ) -> (HardState, Vec<Entry>) {
        let term = Term(1);
        let membership = Payload::Membership(Membership::founder(founder, version));
        let entries = vec![
            Entry { index: Index(1), term, payload: membership },
            Entry { index: Index(2), term, payload: Payload::Data(data) },
        ];
        (HardState { term, vote: Some(founder), commit: Index(2) }, entries)
    }

    /// A message of a peer's, over an authenticated link.
    pub fn receive(&mut self, now: Time, from: NodeId, message: Message) {
        if self.abstains {
            let leads = matches!(message.body, Body::Heartbeat { .. } | Body::Append { .. });
            if leads && message.term >= self.term {
                // Who leads which term is all that it keeps, and in memory only.
                self.term = message.term;
                self.leader = Some(from);
                self.leader_heard = Some(now);
            }
            return;
        }
        if message.term > self.term && !self.meet_higher_term(now, from, &message) {
            return;
        }
        if message.term < self.term {
            if let Body::PreVoteReply { next, granted } = message.body {
                // Whoever would vote in the next term says so from its own, which may be lower: it
                // may not campaign by itself, and then nothing else would bring it further.
                self.on_pre_vote_reply(now, from, next, granted);
            } else {
                self.answer_lower_term(from, &message);
            }
            return;
        }
        match message.body {
            Body::PreVote { next, last_index, last_term } => {
                self.on_pre_vote(now, from, next, last_index, last_term);
            }
            Body::PreVoteReply { next, granted } => {
                self.on_pre_vote_reply(now, from, next, granted)
            }
            Body::Vote { last_index, last_term, transfer } => {
                self.on_vote(now, from, last_index, last_term, transfer);
            }
            Body::VoteReply { granted } => self.on_vote_reply(now, from, granted),
            Body::Append { prev_index, prev_term, entries, commit } => {
                self.follow(now, from);
                self.on_append(from, prev_index, prev_term, entries, commit);
            }
            Body::Install { snapshot } => {
                self.follow(now, from);
                self.on_install(from, snapshot);
            }
            Body::Heartbeat { commit, round } => {
                self.follow(now, from);
                self.on_heartbeat(from, commit, round);
            }
            Body::Appended { matched } => self.on_appended(now, from, matched),
            Body::AppendRefused { prev_index, hint_index, hint_term } => {
                self.on_append_refused(now, from, prev_index, hint_index, hint_term);
            }
            Body::HeartbeatReply { round } => self.on_heartbeat_reply(now, from, round),
            Body::TimeoutNow => self.on_timeout_now(now, from),
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Time) {
        match &self.office {
            Office::Leader(_) => self.tick_leader(now),
            Office::Follower | Office::PreCandidate { .. } | Office::Candidate { .. } => {
                if now >= self.election {
                    self.reset_election(now);
                    self.campaign_if_voter(now);
                }
            }
        }
    }

    /// When [`Raft::tick`] has something to do.
    #[must_use]
    pub fn next_timeout(&self) -> Time {
        match &self.office {
            Office::Leader(leading) => {
                let due = leading.heartbeat.min(leading.check_quorum);
                leading.tell_commit.map_or(due, |at| due.min(at))
            }
            _ => self.election,
        }
    }

    /// The batch that `ticket` names is durable.
    pub fn persisted(&mut self, now: Time, ticket: Ticket) {
        let last = self.outbox.complete(ticket);
        self.stored = self.stored.max(last);
        if ticket.term != self.term {
            return;
        }
        if let Office::Leader(leading) = &mut self.office {
            leading.durable = leading.durable.max(last);
            self.advance_commit(now);
        } else if matches!(self.office, Office::Candidate { .. }) {
            // The batch held this term's vote for itself: only now does it count.
            self.count_vote(now, self.settings.node, true);
        }
    }

    /// Appends `data` if this replica leads. It is committed when [`Raft::take_committed`] returns
    /// it, and lost if another entry is committed at its index.
    ///
    /// # Errors
    /// [`ProposeError`]: nothing was appended.
    pub fn propose(&mut self, data: Bytes) -> Result<(Index, Term), ProposeError> {
        if data.len() > ENTRY_BYTES_MAX {
            return Err(ProposeError::TooLarge);
        }
        let uncommitted = self.log.last_index().0 - self.commit.0;
        let behind = uncommitted >= UNCOMMITTED_MAX || self.outbox.in_flight() >= BATCHES_MAX;
        if self.is_leader() && behind {
            return Err(ProposeError::Busy);
        }
        match &self.office {
            Office::Leader(leading) if leading.transfer.is_some() => {
                Err(ProposeError::Transferring)
            }
            Office::Leader(_) => Ok((self.append_own(Payload::Data(data)), self.term)),
            _ => Err(ProposeError::NotLeader),
        }
    }

    /// Sends what has come together. Call once after everything that happened at one time.
    pub fn flush(&mut self, now: Time) {
        self.trim_window();
        let Office::Leader(leading) = &mut self.office else { return };
        if !std::mem::take(&mut leading.unsent) {
            return;
        }
        leading.tell_commit = None;
        let members: Vec<NodeId> = leading.progress.keys().copied().collect();
        for member in members {
            self.send_entries(now, member, true);
        }
    }

    /// The next batch that must become durable, if any. Batches become durable in order.
    pub fn take_batch(&mut self, now: Time) -> Option<(Ticket, Vec<StorageOp>)> {
        if self.outbox.has_ops() && self.commit > self.commit_written {
            self.write_hard_state(false);
        }
        self.outbox.take_batch(now, self.term, self.log.last_index())
    }

    /// The next message that may leave.
    pub fn next_message(&mut self) -> Option<(NodeId, Message)> {
        self.outbox.next_message()
    }

    /// A snapshot that the state machine must be replaced with before it applies more.
    pub fn take_restored(&mut self) -> Option<Snapshot> {
        self.restored.take()
    }

    /// The content that this log needs a copy of, at least up to this index, before it can go on: the
    /// leader's log begins behind the end of this one.
    #[must_use]
    pub fn wanted(&self) -> Option<Index> {
        self.wanted.filter(|index| *index > self.commit)
    }

    /// A copy with the content at `base`, which is committed, lies whole and durable in `generation`:
    /// it is the live one from here on. The log goes on behind it, with what it holds there if it
    /// agrees with it. One record says both, and until it is durable nothing is said to anybody.
    ///
    /// # Panics
    /// If the log begins behind `base`: entries between the two would be lacking.
    pub fn install_copy(&mut self, generation: Generation, base: Snapshot) {
        assert!(base.index >= self.log.snapshot().index, "the log begins behind the copy");
        if base.term > self.term {
            // The copy comes from one that was further. No log ends in a term that is yet to come.
            self.enter(base.term);
        }
        // First the copy: should only that survive, the log is compared with it when it comes. A log
        // that begins behind what its copy holds could not go on.
        self.record_copy(generation);
        let index = base.index;
        if self.log.term_at(index) == Some(base.term) {
            self.commit_to(index);
        } else {
            self.begin_behind(base);
        }
        if let (Some(leader), Office::Follower) = (self.leader, &self.office) {
            self.send(leader, Body::Appended { matched: index }, Rests::Log);
        }
    }

    /// The content of the entry at `index` of `term` is in the own copy, which nothing enters before it
    /// is committed. If the log holds that entry, its commit is known from here on: after a restart of
    /// all, or of a majority, nobody else might be able to tell.
    pub fn learn_committed(&mut self, index: Index, term: Term) {
        if index > self.commit && self.log.term_at(index) == Some(term) {
            self.commit_to(index);
        }
    }

    /// The copy in `generation` is whole and durable: only that is opened from here on.
    pub fn record_copy(&mut self, generation: Generation) {
        let log = self.settings.log;
        self.outbox.write_log(StorageOp::Copy { log, generation });
    }

    /// The next committed entry for the state machine, each once, in order.
    pub fn take_committed(&mut self) -> Option<Entry> {
        if self.applied >= self.commit {
            return None;
        }
        let next = self.applied.next();
        let entry = self.log.entry(next).cloned();
        self.applied = next;
        Some(entry.unwrap_or_else(|| unreachable!("what is committed is in the log")))
    }

    /// Passes over what is committed: whoever applies it takes it from [`Raft::entry`], or from the
    /// store if it is not in memory. The first and the last of it, if there is any.
    pub fn pass_committed(&mut self) -> Option<(Index, Index)> {
        let next = (self.applied < self.commit).then(|| (self.applied.next(), self.commit));
        self.applied = self.applied.max(self.commit);
        next
    }

    /// Replaces the entries up to the applied index by a snapshot with the state `data` there.
    pub fn compact(&mut self, data: Bytes) {
        self.compact_behind(self.applied, data);
    }

    /// Lets go of the entries up to `index`, as far as they are applied. The content is apart: its copy
    /// must hold all of them, durably.
    pub fn compact_to(&mut self, index: Index) {
        debug_assert_eq!(self.settings.content, Content::Apart);
        self.compact_behind(index.min(self.applied), Bytes::new());
    }

    fn compact_behind(&mut self, index: Index, data: Bytes) {
        if index <= self.log.snapshot().index {
            return;
        }
        let term = self.log.term_at(index).unwrap_or(Term::ZERO);
        let membership = self.log.membership_at(index).clone();
        let snapshot = Snapshot { index, term, membership, data };
        self.log.compact(snapshot.clone());
        self.fetches.log_changed();
        let log = self.settings.log;
        self.outbox.write_log(StorageOp::Snapshot { log, snapshot, reset: false });
    }

    /// No link to `peer` is left: whatever was under way is lost, and a leader that was just cut
    /// off is not waited for. A lone lost link removes nobody: the others hold their lease.
    pub fn link_lost(&mut self, now: Time, peer: NodeId) {
        if let Office::Leader(leading) = &mut self.office {
            if let Some(progress) = leading.progress.get_mut(&peer) {
                progress.probe();
            }
        } else if self.leader == Some(peer) {
            self.leader = None;
            self.leader_heard = None;
            let spread = self.settings.heartbeat / 2;
            self.election = now + self.random(spread);
        }
    }

    /// A link to `peer` is open: what it lacks can be sent.
    pub fn link_open(&mut self, now: Time, peer: NodeId) {
        let Office::Leader(leading) = &mut self.office else { return };
        if let Some(progress) = leading.progress.get_mut(&peer) {
            progress.probe();
            self.send_entries(now, peer, true);
        }
    }

    /// The process was paused: what it believes of others' silence is void. A leader goes on as if
    /// all had just answered; if it has a successor by now, the first answer will tell.
    pub fn paused(&mut self, now: Time) {
        self.reset_election(now);
        if let Office::Leader(leading) = &mut self.office {
            leading.check_quorum = now + self.settings.election_max;
            for progress in leading.progress.values_mut() {
                progress.active = now;
            }
        }
    }

    /// Whose replica it is.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.settings.node
    }

    /// The current term.
    #[must_use]
    pub fn term(&self) -> Term {
        self.term
    }

    /// Whom it voted for in this term.
    #[must_use]
    pub fn vote(&self) -> Option<NodeId> {
        self.vote
    }

    /// What it does.
    #[must_use]
    pub fn role(&self) -> Role {
        match self.office {
            Office::Follower => Role::Follower,
            Office::PreCandidate { .. } => Role::PreCandidate,
            Office::Candidate { .. } => Role::Candidate,
            Office::Leader(_) => Role::Leader,
        }
    }

    /// Whether it leads.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        matches!(self.office, Office::Leader(_))
    }

    /// Whether it leads and has committed an entry of its own term: only then does it know all that
    /// is committed.
    #[must_use]
    pub fn is_settled_leader(&self) -> bool {
        matches!(&self.office, Office::Leader(leading) if self.commit >= leading.first)
    }

    /// Whether it hands over at the moment.
    #[must_use]
    pub fn is_transferring(&self) -> bool {
        matches!(&self.office, Office::Leader(leading) if leading.transfer.is_some())
    }

    /// Whom it takes for the leader of its term.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// The commit index.
    #[must_use]
    pub fn commit(&self) -> Index {
        self.commit
    }

    /// The last index handed to the state machine.
    #[must_use]
    pub fn applied(&self) -> Index {
        self.applied
    }

    /// The last index of the log.
    #[must_use]
    pub fn last_index(&self) -> Index {
        self.log.last_index()
    }

    /// The membership in force: that of the last membership entry, committed or not.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        self.log.membership()
    }

    /// The index of the entry that brought the membership in force.
    #[must_use]
    pub fn membership_index(&self) -> Index {
        self.log.membership_index()
    }

    /// The membership that governs the entry at `index`, also if the log has let go of that. If it is not
    /// known any more, for long ago or before a restart: the first that is.
    #[must_use]
    pub fn membership_at(&self, index: Index) -> &Membership {
        self.log.membership_at(index)
    }

    /// The term of the entry at `index`, in memory or not, or of the one that the log begins behind.
    #[must_use]
    pub fn term_at(&self, index: Index) -> Option<Term> {
        self.log.term_at(index)
    }

    /// What was ever appended to the log, what it held at the start included, in bytes, roughly.
    #[must_use]
    pub fn appended_bytes(&self) -> u64 {
        self.appended_bytes
    }

    /// What the entries in memory take, in bytes.
    #[must_use]
    pub fn window_bytes(&self) -> usize {
        self.log.window_bytes()
    }

    /// As a leader: how far those that have answered of late hold the log, itself apart.
    pub fn reached(&self, now: Time) -> impl Iterator<Item = Index> + '_ {
        let progress = match &self.office {
            Office::Leader(leading) => Some(&leading.progress),
            _ => None,
        };
        let active = move |node: NodeId| self.is_active(now, node);
        let members = progress.into_iter().flatten();
        members.filter(move |(node, _)| active(**node)).map(|(_, progress)| progress.matched)
    }

    /// The entry at `index`, if it is still kept, and in memory.
    #[must_use]
    pub fn entry(&self, index: Index) -> Option<&Entry> {
        self.log.entry(index)
    }

    /// The state that the entries build on.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        self.log.snapshot()
    }

    /// Whether part of the log is unreadable.
    #[must_use]
    pub fn abstains(&self) -> bool {
        self.abstains
    }

    /// How many elections (pre-votes) it has started.
    #[must_use]
    pub fn campaigns(&self) -> u64 {
        self.campaigns
    }

    /// As a leader: up to where `member` is known to hold the log.
    #[must_use]
    pub fn matched(&self, member: NodeId) -> Option<Index> {
        match &self.office {
            Office::Leader(leading) => leading.progress.get(&member).map(|p| p.matched),
            _ => None,
        }
    }

    /// As a leader: how each other member follows.
    pub fn followers(&self, now: Time) -> impl Iterator<Item = (NodeId, Latency)> + '_ {
        let leading = match &self.office {
            Office::Leader(leading) => Some(leading),
            _ => None,
        };
        let last = self.log.last_index();
        let members = leading.into_iter().flat_map(|leading| &leading.progress);
        members.map(move |(node, progress)| {
            let behind = last.0.saturating_sub(progress.matched.0);
            (*node, progress.measured.told(now, behind))
        })
    }

    /// As a leader: up to where `member` is known to hold the log durably, itself included; else 0.
    #[must_use]
    pub fn durable_at(&self, member: NodeId) -> Index {
        match &self.office {
            Office::Leader(leading) if member == self.settings.node => leading.durable,
            _ => self.matched(member).unwrap_or_default(),
        }
    }

    /// As a leader: whether `member` has answered of late. True for itself.
    #[must_use]
    pub fn is_active(&self, now: Time, member: NodeId) -> bool {
        let answered = match &self.office {
            Office::Leader(leading) => leading.progress.get(&member).is_some_and(|p| p.answered),
            _ => false,
        };
        self.counts_as_active(now, member) && (answered || member == self.settings.node)
    }

    /// Check-quorum's view: whoever has just been met, or was absolved, has the benefit of doubt.
    fn counts_as_active(&self, now: Time, member: NodeId) -> bool {
        let Office::Leader(leading) = &self.office else { return false };
        member == self.settings.node
            || leading
                .progress
                .get(&member)
                .is_some_and(|p| now.since(p.active) <= self.settings.election_max)
    }

    /// As a leader: whether `member` holds all that is committed and has answered of late.
    #[must_use]
    pub fn is_caught_up(&self, now: Time, member: NodeId) -> bool {
        self.is_active(now, member)
            && (member == self.settings.node
                || self.matched(member).is_some_and(|matched| matched >= self.commit))
    }

    /// The tie-breaker that the configuration document would suggest, for the deliberate fault.
    #[cfg(quorate_faults)]
    pub fn set_document_tie_breaker(&mut self, node: Option<NodeId>) {
        self.document_tie_breaker = node;
    }

    fn is_alone(&self) -> bool {
        let me = self.settings.node;
        Quorum::of(self.log.membership()).is_met(|node| node == me)
    }

    /// Whether the nodes for which `agrees` holds are enough for the membership in force.
    fn quorum_met(&self, agrees: impl Fn(NodeId) -> bool) -> bool {
        Quorum::of(&self.effective_membership()).is_met(agrees)
    }

    #[cfg(not(quorate_faults))]
    fn effective_membership(&self) -> Cow<'_, Membership> {
        Cow::Borrowed(self.log.membership())
    }

    #[cfg(quorate_faults)]
    fn effective_membership(&self) -> Cow<'_, Membership> {
        if !faults::active(Fault::TieBreakerFromDocument) {
            return Cow::Borrowed(self.log.membership());
        }
        let mut membership = self.log.membership().clone();
        membership.incoming.tie_breaker = self.document_tie_breaker;
        if let Some(half) = &mut membership.outgoing {
            half.tie_breaker = self.document_tie_breaker;
        }
        Cow::Owned(membership)
    }

    /// A duration from zero to `max`.
    fn random(&mut self, max: Duration) -> Duration {
        let nanos = u64::try_from(max.as_nanos()).unwrap_or(u64::MAX).max(1);
        Duration::from_nanos(self.rng.next_u64() % nanos)
    }

    fn reset_election(&mut self, now: Time) {
        let spread = self.settings.election_max.saturating_sub(self.settings.election_min);
        self.election = now + self.settings.election_min + self.random(spread);
    }

    fn send(&mut self, to: NodeId, body: Body, rests: Rests) {
        debug_assert_ne!(to, self.settings.node);
        if self.abstains {
            // Nothing that it says may be counted on, whatever the occasion.
            return;
        }
        self.outbox.send(to, Message { term: self.term, body }, rests);
    }

    /// Term or vote have changed.
    fn write_state(&mut self) {
        self.write_hard_state(true);
    }

    fn write_hard_state(&mut self, binds: bool) {
        let state = HardState { term: self.term, vote: self.vote, commit: self.commit };
        self.commit_written = self.commit;
        let log = self.settings.log;
        self.outbox.write_state(StorageOp::HardState { log, state }, binds);
    }
}
