//! What goes into a client's machine and what comes out of it.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::layout::Layout;
use crate::copies::CopyReport;
use crate::engine::{Position, Rows, Transaction};
use crate::ids::{LogId, NodeId};
use crate::shard::{Reply, ShardError, ShardId, SqlKind, Token, TransactionId};

/// A connection to a server, as the client numbers them; never used twice.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct ConnectionId(pub u64);

/// A request of the application, as it numbers them; never used twice.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct TicketId(pub u64);

/// Which server is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Strategy {
    /// The one in use, for as long as it is there.
    #[default]
    Sticky,
    /// The one in use; each new connection goes to the next in turn.
    RoundRobinConnect,
    /// Each request goes to the next in turn, over connections to all of them.
    RoundRobinRequest,
}

/// How a client behaves.
#[derive(Clone, PartialEq, Debug)]
pub struct ClientConfig {
    /// Where to begin: any server tells of all others.
    pub seeds: Vec<SocketAddr>,
    /// Which server is asked.
    pub strategy: Strategy,
    /// The data centre that the client is in: its servers come first.
    pub data_center: Option<String>,
    /// Requests that may be under way or wait; one more is refused.
    pub requests_max: usize,
    /// How often a server is asked whether it is there.
    pub ping: Duration,
    /// A server of which nothing is heard for so long is left for another.
    pub silence: Duration,
    /// How long a connection may take before the next server is tried beside it.
    pub stagger: Duration,
    /// The first wait before something is tried again; it doubles up to `retry_max`, and is drawn from
    /// its second half.
    pub retry: Duration,
    /// The longest wait before something is tried again.
    pub retry_max: Duration,
}

impl ClientConfig {
    /// The usual times, beginning at these servers.
    #[must_use]
    pub fn new(seeds: Vec<SocketAddr>) -> Self {
        Self {
            seeds,
            strategy: Strategy::default(),
            data_center: None,
            requests_max: 4096,
            ping: Duration::from_millis(500),
            silence: Duration::from_millis(1500),
            stagger: Duration::from_millis(200),
            retry: Duration::from_millis(10),
            retry_max: Duration::from_secs(1),
        }
    }

    /// How long one server is given for a request: one that is cut off from the others knows nothing
    /// better than to wait.
    pub(super) fn attempt(&self) -> Duration {
        self.silence * 2
    }
}

/// What a read of a client must have seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Reading {
    /// What this client has written and read before; all that was acknowledged to anybody, if the
    /// database's `readQuorum` is above 1.
    #[default]
    Session,
    /// Whatever the copy has that is asked.
    Local,
    /// All that was acknowledged to anybody before.
    Linearizable,
    /// What this client has written and read before, and what the token stands for: somebody for whom
    /// it asks has seen that elsewhere.
    Since(Token),
}

/// What to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// It writes, or may: done once.
    Write,
    /// It only reads.
    Read(Reading),
    /// There is none: an interactive transaction is begun at the shard's owner. While it is open no
    /// other writes, and the owner ends it when it takes too long.
    Begin,
    /// The next statements of an interactive transaction, each run once. If the outcome is not known
    /// the transaction is undone: [`ShardError::TransactionLost`]. After any other error it is open
    /// still, and nothing of the statement that failed is left.
    Step(TransactionId),
    /// There is none: an interactive transaction is committed, once. After an error it is not open.
    Finish(TransactionId),
    /// There is none: an interactive transaction is undone.
    Abandon(TransactionId),
}

impl Kind {
    /// Whether something of it may stay, so that its outcome matters once it was sent.
    pub(super) fn is_for_good(self) -> bool {
        match self {
            Self::Write | Self::Finish(_) => true,
            Self::Read(_) | Self::Begin | Self::Step(_) | Self::Abandon(_) => false,
        }
    }
}

/// A request of the application.
#[derive(Clone, PartialEq, Debug)]
pub struct Request {
    /// The database.
    pub database: String,
    /// Its shard; `None`: the main one.
    pub shard: Option<String>,
    /// What to run.
    pub transaction: Transaction,
    /// What to do.
    pub kind: Kind,
    /// How long to try.
    pub timeout: Duration,
}

/// What came of a request.
pub type Answer = Result<Done, ClientError>;

/// A request is done.
#[derive(Clone, PartialEq, Debug)]
pub struct Done {
    /// Where the shard's log stood; nowhere in the midst of an interactive transaction.
    pub at: Position,
    /// Of which shard; `None`: the server could not say any more.
    pub of: Option<ShardId>,
    /// The result of each statement.
    pub rows: Vec<Rows>,
    /// To [`Kind::Begin`]: the transaction that is open.
    pub transaction: Option<TransactionId>,
}

/// Why a request was not done, or not certainly.
#[derive(Clone, PartialEq, Debug, Error)]
pub enum ClientError {
    /// Nothing is left of it: a server said why. Or, as [`ShardError::CommittedBelowQuorum`], it is
    /// done.
    #[error(transparent)]
    Shard(ShardError),
    /// Nothing was done in the time that it had.
    #[error("it was not done in the time that it had: {last}")]
    TimedOut {
        /// What stood in the way last.
        last: String,
    },
    /// It may be done or not: it was sent, and no server could say what became of it.
    #[error("whether it was done is not known: {last}")]
    OutcomeUnknown {
        /// What stood in the way last.
        last: String,
    },
    /// It was not begun: too many are under way.
    #[error("too many requests are under way")]
    Busy,
    /// No server wants this client.
    #[error("the server refuses this client: {0}")]
    Refused(String),
    /// The client may not do this. Nothing was done.
    #[error("this client may not do that: {0}")]
    Denied(String),
}

/// What a client sends to a server.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum ToServer {
    /// Run this; answered once by [`ToClient::Reply`].
    Sql {
        /// Names it on this connection.
        id: u64,
        /// The database.
        database: String,
        /// Its shard; `None`: the main one.
        shard: Option<String>,
        /// What to run.
        transaction: Transaction,
        /// How.
        kind: SqlKind,
        /// How long the answer is waited for.
        timeout_ms: u32,
    },
    /// Are you there?
    Ping(u64),
}

/// What a server sends to a client.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum ToClient {
    /// The first: whom the client has reached.
    Welcome {
        /// Which node.
        node: NodeId,
    },
    /// The first, and the last: the client is not wanted.
    Refused {
        /// Why.
        reason: String,
        /// Another server would say the same.
        final_: bool,
    },
    /// The cluster has changed, or this is how it is.
    Layout(Layout),
    /// Which copies are not whole, and how far they are, by log and server: when one comes or goes, and
    /// every second while one makes progress. Before the first there are none, as far as the server knows.
    Copies(Vec<(LogId, NodeId, CopyReport)>),
    /// To [`ToServer::Sql`].
    Reply {
        /// As it was asked.
        id: u64,
        /// The answer.
        reply: Reply,
        /// Of which shard; `None`: nobody was asked.
        of: Option<ShardId>,
    },
    /// To [`ToServer::Sql`]: this client may not do that. Nothing was done.
    Denied {
        /// As it was asked.
        id: u64,
        /// Why.
        reason: String,
    },
    /// To [`ToServer::Ping`].
    Pong(u64),
}

/// What happens to a client.
#[derive(Clone, PartialEq, Debug)]
pub enum Input {
    /// Time has passed: see [`super::Client::next_timeout`].
    Timer,
    /// The application asks; answered once by [`Output::Answer`].
    Request(TicketId, Request),
    /// The application waits no longer; nothing is answered. A write may be done.
    Forget(TicketId),
    /// A server has sent something.
    Received(ConnectionId, ToClient),
    /// A connection was not made, or is gone; nothing comes of it any more.
    Closed(ConnectionId),
}

/// What a client wants.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    /// To be connected; answered by what it receives, or by [`Input::Closed`].
    Dial(ConnectionId, SocketAddr),
    /// To send.
    Send(ConnectionId, ToServer),
    /// To close: there is no answer.
    Close(ConnectionId),
    /// The application's answer.
    Answer(TicketId, Answer),
    /// Something to tell.
    Event(Event),
}

/// Something worth telling.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// The server in use is another one; `None`: there is none.
    Using(Option<NodeId>),
    /// The cluster is another one, or looks otherwise.
    Layout(Layout),
    /// Which copies are not whole, by log and server, as the server in use knows.
    Copies(Vec<(LogId, NodeId, CopyReport)>),
    /// A server does not want this client.
    Refused {
        /// Why.
        reason: String,
        /// Another server would say the same: none is tried any more.
        final_: bool,
    },
}
