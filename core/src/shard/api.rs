//! What goes into a shard's machine and what comes out of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::interactive::TransactionId;
use super::restore::Upload;
use super::session::{Delivery, Once, SESSION_BYTES_MAX, SessionId};
use super::verify::{Hashed, Mark};
use crate::configuration::QuorumRule;
use crate::engine::{
    ContentHash, Effect, Executed, Fault, Note, Outcome, Position, Rights, Rows, SqlError, Stepped,
    Transaction,
};
use crate::ids::{ClusterId, DatabaseId, Generation, LogId, NodeId};
use crate::time::Time;

/// Names a request of this node; never used twice in one run.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct RequestId(pub u64);

/// The server that alone may own a shard, seen from another one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StaticOwner {
    /// Its name, whether there is such a server or not.
    pub name: String,
    /// The node, if by the configuration it could own the shard now.
    pub node: Option<NodeId>,
}

/// What the configuration says of a shard, as far as its machine needs to know.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Terms {
    /// How many voters must hold an entry durably before a write counts as acknowledged, beyond what
    /// its commit takes. Replicas never count.
    pub write_quorum: QuorumRule,
    /// Answer a write when the log commits it, without waiting for a larger write quorum.
    pub asynchronous: bool,
    /// Who should own the shard: a leader hands over to it once it holds everything.
    pub preferred: Option<NodeId>,
    /// Whether this copy may serve reads of its own: it is `ONLINE`.
    pub online: bool,
    /// The static owner, if that is another one: leading the log, this node is a caretaker.
    pub static_owner: Option<StaticOwner>,
}

/// A transaction that writes, or may.
#[derive(Clone, PartialEq, Debug)]
pub struct Write {
    /// Whose answer it is.
    pub id: RequestId,
    /// What to run.
    pub transaction: Transaction,
    /// What is to be done about its coming twice.
    pub delivery: Delivery,
    /// When the asker gives up.
    pub deadline: Time,
}

/// What a read must have seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Consistency {
    /// Whatever this copy has.
    Local,
    /// At least the entry at this position: the reader's own writes. [`Reply::Failed`] with
    /// [`ShardError::TokenOfAnotherHistory`] if this log holds another entry there.
    AtLeast(Position),
    /// Everything that was acknowledged before the read began. Only the owner can tell.
    Linearizable,
    /// What the configuration says: this copy if `readQuorum` is 1, else [`Consistency::Linearizable`].
    /// Only the node that is asked resolves it.
    AsConfigured,
    /// What the configuration says, and at least what the answer with this token had. Only the node that
    /// is asked resolves it.
    Since(Token),
    /// As [`Consistency::Linearizable`], in a history that holds the entry at this position.
    Holding(Position),
}

impl Consistency {
    /// Whether whatever copy has what it asks for may answer. Everything else is for the owner.
    #[must_use]
    pub fn any_copy_will_do(self) -> bool {
        match self {
            Self::Local | Self::AtLeast(_) => true,
            Self::Linearizable | Self::AsConfigured | Self::Since(_) | Self::Holding(_) => false,
        }
    }
}

/// Names a shard in all clusters and for all time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct ShardId {
    /// The cluster: log numbers are each cluster's own.
    pub cluster: ClusterId,
    /// Its database: another one of the same name has another id.
    pub database: DatabaseId,
    /// Its log, which no other shard of the cluster ever has.
    pub log: LogId,
}

/// What a reader has seen, to be given along with its next read (`readYourWrites`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Token {
    /// Of which database: another one of the same name has another id.
    pub database: DatabaseId,
    /// Of which shard, by its log, which no other shard ever has.
    pub log: LogId,
    /// The last entry seen: the LSN, with its term.
    pub at: Position,
}

/// What a transaction may do, and what it must have seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum SqlKind {
    /// It writes, or may.
    Write,
    /// It only reads.
    Read(Consistency),
    /// There is none: the shard's copies are compared at one position.
    Compare,
    /// There is none: the content is replaced by that of a file that was handed to a node.
    Restore(Upload),
    /// It writes, or may, and is done once, however often it is sent.
    Once(Once),
    /// There is none: a session is opened.
    OpenSession,
    /// There is none: an interactive transaction is begun. While it is open no other writes.
    Begin,
    /// The next statements of an interactive transaction.
    Step(TransactionId),
    /// There is none: an interactive transaction is committed. With a session that is done once, however
    /// often it is sent. Without one it is to be sent once: of a second sending nobody may know any more
    /// that the first one did it.
    Finish(TransactionId, Option<Once>),
    /// There is none: an interactive transaction is undone. Done also if it is gone.
    Abandon(TransactionId),
}

impl SqlKind {
    /// Whether whatever copy has what it asks for may answer. Everything else is for the owner.
    #[must_use]
    pub fn any_copy_will_do(&self) -> bool {
        match self {
            Self::Read(consistency) => consistency.any_copy_will_do(),
            Self::Write
            | Self::Once(_)
            | Self::Compare
            | Self::Restore(_)
            | Self::OpenSession
            | Self::Begin
            | Self::Step(_)
            | Self::Finish(..)
            | Self::Abandon(_) => false,
        }
    }

    /// What makes sure that it is done once, if anything does.
    #[must_use]
    pub fn once(&self) -> Option<&Once> {
        match self {
            Self::Once(once) | Self::Finish(_, Some(once)) => Some(once),
            Self::Write
            | Self::Read(_)
            | Self::Compare
            | Self::Restore(_)
            | Self::OpenSession
            | Self::Begin
            | Self::Step(_)
            | Self::Finish(_, None)
            | Self::Abandon(_) => None,
        }
    }
}

/// A transaction that only reads.
#[derive(Clone, PartialEq, Debug)]
pub struct Read {
    /// Whose answer it is.
    pub id: RequestId,
    /// What to run.
    pub transaction: Transaction,
    /// What it must have seen.
    pub consistency: Consistency,
    /// When the asker gives up.
    pub deadline: Time,
}

/// The answer to a request.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Reply {
    /// Done. A write: acknowledged, and in the copy at this position. A read: of the copy as it was
    /// at this position.
    Done {
        /// Where the shard's log stood.
        at: Position,
        /// The result of each statement.
        rows: Vec<Rows>,
    },
    /// Not done, or not certainly.
    Failed(ShardError),
    /// To [`SqlKind::Compare`]: what each copy is, at the same mark of the log.
    Compared {
        /// The copies that there are, by the configuration.
        copies: Vec<CopyHash>,
    },
    /// To [`SqlKind::OpenSession`]: the session is open.
    Session {
        /// Its name in the shard's log.
        session: SessionId,
    },
    /// To [`SqlKind::Begin`]: it is open, and nothing is in it.
    Began {
        /// Its name in the shard's log.
        transaction: TransactionId,
    },
    /// To [`SqlKind::Step`]: the transaction is open still.
    Stepped {
        /// The results of the statements that ran, in order.
        rows: Vec<Rows>,
        /// Why the one after those failed. Nothing of it is left, and those behind it were not run.
        error: Option<SqlError>,
    },
}

/// What one copy is at a mark.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CopyHash {
    /// Whose.
    pub node: NodeId,
    /// The hash of its content, or why there is none.
    pub hashed: Hashed,
}

/// Why a request was not done, or not certainly.
#[derive(Clone, PartialEq, Debug, Error, Serialize, Deserialize)]
pub enum ShardError {
    /// The transaction itself failed; nothing of it is left.
    #[error(transparent)]
    Sql(SqlError),
    /// Nothing ran: another node owns the shard, or none at the moment.
    #[error("this node does not own the shard")]
    NotOwner {
        /// Who does, as far as is known.
        owner: Option<NodeId>,
    },
    /// Nothing is left of it: it inserts, and the shard's static owner is away. Everything else works.
    #[error(
        "the owner of the shard, '{owner}', is away, and nobody else inserts; reads, updates and \
         deletions work. Start it, or name another with `quorate server set-owner`"
    )]
    OwnerAway {
        /// Its name.
        owner: String,
    },
    /// Nothing ran: too few of the copies that count are in reach.
    #[error("too few copies are in reach: {needed} of {voters} are needed")]
    NoQuorum {
        /// The voters that are not in reach.
        missing: Vec<NodeId>,
        /// How many must be.
        needed: usize,
        /// How many there are.
        voters: usize,
    },
    /// Done, and not to be done again; but fewer copies than the write quorum asks for held it when
    /// the time was up.
    #[error("committed as entry {}, but on fewer copies than the write quorum asks for", .at.index)]
    CommittedBelowQuorum {
        /// As which entry.
        at: Position,
    },
    /// It may be done or not: whoever asked has to look.
    #[error("whether it was done is not known: the owner changed before the answer")]
    OutcomeUnknown,
    /// Nothing ran: too much is waiting.
    #[error("too many requests are waiting for this shard")]
    Busy,
    /// Nothing ran, for the time was up.
    #[error("the time was up before it could run")]
    TimedOut,
    /// There is no such database.
    #[error("there is no database '{name}'; `quorate db list` lists them")]
    UnknownDatabase {
        /// As given.
        name: String,
    },
    /// There is no such shard.
    #[error("the database '{database}' has no shard '{shard}'")]
    UnknownShard {
        /// The database.
        database: String,
        /// As given.
        shard: String,
    },
    /// Nothing ran: the token is of a database or a shard that is not there any more.
    #[error(
        "StaleToken: the token is of another database or shard than '{database}' is now, made anew \
         or dropped since: read without it"
    )]
    StaleToken {
        /// The database that was asked.
        database: String,
    },
    /// Nothing ran: the entry of the token is not in the shard's log, and never will be.
    #[error(
        "StaleToken: the log of the shard holds another entry than the token's at {}, or none: what \
         its holder saw was given up when the cluster was recovered by hand, or is of another \
         cluster: read without it",
        .at.index
    )]
    TokenOfAnotherHistory {
        /// The entry that the token names.
        at: Position,
    },
    /// Nothing ran: this node's copy is not there, not whole, or cannot be opened.
    #[error("the copy of the shard that would have to do it is of no use: {0}")]
    Unavailable(String),
    /// Nothing has changed: another file is about to replace the shard's content.
    #[error("the content of the shard is being replaced already: wait until that is done")]
    Restoring,
    /// Nothing ran now: the session is not known, or not any more. If the request had been sent before,
    /// it may be done or not.
    #[error("the session is not known any more: open another one")]
    SessionExpired,
    /// Done before, when it was sent earlier; what it was answered was not kept.
    #[error("it was done before, as entry {}, and its answer was not kept", .at.index)]
    AlreadyDone {
        /// As which entry.
        at: Position,
    },
    /// Nothing ran now: whoever has the session has said that it has the answer.
    #[error("a request of this sequence was answered before, and its answer was let go of")]
    Superseded,
    /// Nothing has changed: the file did not come to as many copies as must hold it.
    #[error("the file could not be given to enough servers, and nothing has changed: {0}")]
    NotStaged(String),
    /// The interactive transaction is not open any more, and nothing of it is left.
    #[error(
        "the interactive transaction is lost, and nothing of it was done: {reason}; begin another one"
    )]
    TransactionLost {
        /// What ended it.
        reason: String,
    },
}

impl Reply {
    /// Where the shard's log stood, if it says that something was done, or read.
    #[must_use]
    pub fn done_at(&self) -> Option<Position> {
        match self {
            Self::Done { at, .. } => Some(*at),
            Self::Failed(error) => error.done_at(),
            Self::Compared { .. }
            | Self::Session { .. }
            | Self::Began { .. }
            | Self::Stepped { .. } => None,
        }
    }

    /// Whether it says what became of a request in a session: [`ShardError::is_final`].
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Failed(error) => error.is_final(),
            Self::Done { .. }
            | Self::Compared { .. }
            | Self::Session { .. }
            | Self::Began { .. }
            | Self::Stepped { .. } => true,
        }
    }
}

impl ShardError {
    /// As which entry the request is done all the same, if it is.
    #[must_use]
    pub fn done_at(&self) -> Option<Position> {
        match self {
            Self::CommittedBelowQuorum { at } | Self::AlreadyDone { at } => Some(*at),
            _ => None,
        }
    }

    /// Whether it says what became of a request in a session, however often that was sent; any other
    /// says what became of it this time.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Sql(_)
            | Self::CommittedBelowQuorum { .. }
            | Self::AlreadyDone { .. }
            | Self::TransactionLost { .. }
            | Self::Superseded => true,
            Self::NotOwner { .. }
            | Self::OwnerAway { .. }
            | Self::NoQuorum { .. }
            | Self::OutcomeUnknown
            | Self::Busy
            | Self::TimedOut
            | Self::UnknownDatabase { .. }
            | Self::UnknownShard { .. }
            | Self::StaleToken { .. }
            | Self::TokenOfAnotherHistory { .. }
            | Self::Unavailable(_)
            | Self::Restoring
            | Self::NotStaged(_)
            | Self::SessionExpired => false,
        }
    }
}

/// A call to the engine of a copy.
#[derive(Clone, PartialEq, Debug)]
pub struct Call {
    /// Calls of an earlier opening count for nothing any more.
    pub epoch: u64,
    /// What to do.
    pub what: CallKind,
}

/// What the engine is to do. All but queries are carried out one after the other, in order; queries
/// run beside them. A hash takes its turn, and is then made beside them too.
#[derive(Clone, PartialEq, Debug)]
pub enum CallKind {
    /// Open the copy, closing it first if it is open. Whatever was open in it is undone.
    Open {
        /// Which directory it is in.
        generation: Generation,
        /// Whether it is made: empty, and durable with the names that lead to it, before the answer.
        /// What lies there was never whole and goes. Otherwise one that is not there is
        /// [`Fault::Missing`].
        create: bool,
    },
    /// [`crate::engine::Engine::execute`].
    Execute(Vec<Transaction>, Rights),
    /// [`crate::engine::Engine::begin`], with so much time from then on.
    Begin(Rights, Duration),
    /// [`crate::engine::Engine::step`].
    Step(Transaction),
    /// [`crate::engine::Engine::finish`].
    Finish,
    /// [`crate::engine::Engine::commit`].
    Commit(Position, Vec<Note>),
    /// [`crate::engine::Engine::rollback`].
    Rollback,
    /// [`crate::engine::Engine::apply`].
    Apply(Vec<Effect>, Vec<Note>),
    /// [`crate::engine::Engine::sync`].
    Sync,
    /// [`crate::engine::Reader::query`].
    Query(RequestId, Transaction),
    /// The hash of the content as it stands when this call's turn has come, of one state, while later
    /// calls are carried out.
    Hash(Mark),
}

/// The answer to a call. After a [`Answer::Failed`] nothing more of its epoch is carried out.
#[derive(Clone, PartialEq, Debug)]
pub enum Answer {
    /// To [`CallKind::Open`]: the copy's position and its notes.
    Opened(Position, Vec<Note>),
    /// To [`CallKind::Execute`] and [`CallKind::Finish`].
    Executed(Executed),
    /// To [`CallKind::Begin`].
    Begun,
    /// To [`CallKind::Step`].
    Stepped(Stepped),
    /// To [`CallKind::Commit`].
    Committed,
    /// To [`CallKind::Rollback`].
    RolledBack,
    /// To [`CallKind::Apply`].
    Applied,
    /// To [`CallKind::Sync`]: durable up to here.
    Synced(Position),
    /// To [`CallKind::Query`].
    Queried(RequestId, Result<(Position, Outcome), Fault>),
    /// To [`CallKind::Hash`]; when it is ready, whatever else has been answered by then.
    Hashed(Mark, Result<ContentHash, Fault>),
    /// To any other: it failed, and so has all behind it.
    Failed(Fault),
}

/// How much a shard takes and how long it waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShardLimits {
    /// Requests that may wait to be run.
    pub queue_max: usize,
    /// Transactions of one batch.
    pub batch_max: usize,
    /// Effects handed to the engine in one call.
    pub apply_max: usize,
    /// Bytes of those effects; a single larger one goes alone.
    pub apply_bytes_max: usize,
    /// Engine calls that may be unanswered, queries apart.
    pub calls_max: usize,
    /// Queries that may be unanswered.
    pub queries_max: usize,
    /// Entries that the copy holds beyond what is durable in it before it is made durable.
    pub sync_after: u64,
    /// Bytes that were given to the copy beyond what is durable in it before it is made durable.
    pub sync_after_bytes: u64,
    /// So many of the newest bytes of the log are kept in any case, for those that come back.
    pub retain_bytes: u64,
    /// And what was appended within so long a time, up to `retain_bytes_max`.
    pub retain_age: Duration,
    /// Beyond so many bytes the log keeps only what its own copy still needs, or a hold.
    pub retain_bytes_max: u64,
    /// Holds at one time.
    pub holds_max: usize,
    /// How long a session lives that is not used, by the log's time.
    pub session_time_to_live: Duration,
    /// Bytes of the answers that are kept of one session, so that they can be given again.
    pub session_bytes_max: usize,
    /// How long an interactive transaction may be open: so long others wait for it.
    pub interactive_time: Duration,
    /// How long nothing may be asked of it.
    pub interactive_idle: Duration,
    /// The first wait before a failed copy is opened again; doubles up to 64 times that.
    pub reopen: Duration,
    /// How long a leader whose copy cannot be written keeps the lead.
    pub patience: Duration,
    /// A copy that holds nothing is fetched whole if others hold at least so many entries: a file is
    /// quicker than the log that made it.
    pub blank_worth: u64,
    /// Bytes of a chunk of a full copy; at most [`FileShape::CHUNK_MAX`].
    ///
    /// [`FileShape::CHUNK_MAX`]: crate::copies::FileShape::CHUNK_MAX
    pub chunk_bytes: u32,
    /// The most bytes of one full copy that are fetched in a second; `None`: as many as come.
    pub copy_rate_max: Option<u64>,
}

impl Default for ShardLimits {
    fn default() -> Self {
        Self {
            queue_max: 4096,
            batch_max: 256,
            apply_max: 256,
            apply_bytes_max: 4 * 1024 * 1024,
            calls_max: 4,
            queries_max: 64,
            sync_after: 1024,
            sync_after_bytes: 16 << 20,
            retain_bytes: 64 << 20,
            retain_age: Duration::from_secs(600),
            retain_bytes_max: 1 << 30,
            holds_max: 64,
            session_time_to_live: Duration::from_secs(600),
            session_bytes_max: SESSION_BYTES_MAX,
            interactive_time: Duration::from_secs(5),
            interactive_idle: Duration::from_secs(2),
            reopen: Duration::from_millis(50),
            patience: Duration::from_millis(500),
            blank_worth: 1_000,
            chunk_bytes: 256 * 1024,
            copy_rate_max: None,
        }
    }
}
