//! The one codec for bytes that come from outside: packets on links and datagrams.
//!
//! Every length is bounded before anything is allocated for it: a packet cannot be longer than
//! [`PACKET_BYTES_MAX`], a datagram not longer than [`DATAGRAM_BYTES_MAX`], and the decoder never
//! reserves more than the bytes it was given can hold. What does not decode to the last byte is
//! refused whole.

mod kind;

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::configuration::{
    Absorption, Addresses, Attempt, Bringing, ConfigCommand, Configuration, Rejection,
};
use crate::copies::{CopyMessage, CopyReport};
use crate::engine::Transaction;
use crate::ids::{ClusterId, ConfigVersion, Index, LogId, NodeId, Start, Term};
use crate::measures::Measures;
use crate::raft::{Body, Message, size_of_entry};
use crate::shard::{Hashed, Mark, Reply, SqlKind};
pub use kind::PacketKind;

/// The longest packet on a link, in bytes.
pub const PACKET_BYTES_MAX: usize = 8 * 1024 * 1024;
/// What nearly all packets fit in, the entries of a log apart.
const PACKET_BYTES_USUAL: usize = 256;
/// The longest datagram, in bytes: fits one unfragmented Ethernet frame.
pub const DATAGRAM_BYTES_MAX: usize = 1200;
/// The first bytes of every datagram; the last is the version of its format.
pub const DATAGRAM_MAGIC: [u8; 4] = *b"QRT\x01";
/// The most entries in one [`Heard`] report.
pub const HEARD_MAX: usize = 256;

/// The most messages in one [`Packet::Logs`].
pub const LOGS_MAX: usize = 256;

/// The most reports in one [`Packet::Copies`].
pub const COPIES_MAX: usize = 256;

/// What is sent on an authenticated link. The sender's [`NodeId`] is known from the handshake.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Packet {
    /// The first packet in each direction.
    Hello(Hello),
    /// The sender has durably remembered the receiver's start: from here on it listens to it.
    Welcome {
        /// The start that is remembered.
        start: Start,
    },
    /// By what the receiver remembers, the sender has found its own directory to be an old copy or
    /// a second one. It stops after this.
    Stale(StaleReason),
    /// What the sender is now; sent after the hello and whenever it changes.
    Info(Info),
    /// A message of a log.
    Raft {
        /// Of which cluster; another cluster's is dropped.
        cluster: ClusterId,
        /// Of which log.
        log: LogId,
        /// The message.
        message: Message,
    },
    /// The sender is alive, and these are the nodes it has heard from.
    Alive {
        /// Whom it has heard from, and how long ago; at most [`HEARD_MAX`].
        heard: Vec<Heard>,
    },
    /// A question to the coordinator; answered once, or not at all if the link is lost.
    Request {
        /// Repeated in the answer.
        id: u64,
        /// What is asked.
        request: Request,
    },
    /// The answer.
    Response {
        /// Of the request.
        id: u64,
        /// What it says.
        response: Response,
    },
    /// Small messages of several logs, in order: what many shards have to say at one time.
    Logs {
        /// Of which cluster; another cluster's are dropped.
        cluster: ClusterId,
        /// At most [`LOGS_MAX`].
        messages: Vec<(LogId, Message)>,
    },
    /// A transaction for the receiver's copy of a shard; answered once, or not at all if the link is
    /// lost.
    Sql {
        /// Repeated in the answer.
        id: u64,
        /// The shard's log.
        log: LogId,
        /// What to run.
        transaction: Transaction,
        /// Whether it may write, or what it must have seen.
        kind: SqlKind,
        /// How long the asker still waits, in milliseconds.
        timeout_ms: u32,
    },
    /// A full copy on its way.
    Copy {
        /// Of which cluster; another cluster's is dropped.
        cluster: ClusterId,
        /// The shard's log.
        log: LogId,
        /// What it says.
        message: CopyMessage,
    },
    /// What the sender's own copies are, those of which there is news.
    Copies {
        /// Of which cluster; another cluster's are dropped.
        cluster: ClusterId,
        /// By log; at most [`COPIES_MAX`].
        copies: Vec<(LogId, CopyReport)>,
    },
    /// The answer.
    SqlReply {
        /// Of the request.
        id: u64,
        /// What came of it.
        reply: Reply,
    },
    /// The sender compares copies of a shard: what is the receiver's at this mark, which it will
    /// find in the shard's log? Answered at most once.
    Verify {
        /// The shard's log.
        log: LogId,
        /// The mark.
        mark: Mark,
        /// How long the answer is waited for, in milliseconds.
        timeout_ms: u32,
    },
    /// The answer.
    Verified {
        /// The shard's log.
        log: LogId,
        /// The mark.
        mark: Mark,
        /// What the sender's copy is there.
        hashed: Hashed,
    },
    /// What has the receiver measured? Answered at most once.
    Measure {
        /// Repeated in the answer.
        id: u64,
    },
    /// The answer.
    Measured {
        /// Of the question.
        id: u64,
        /// What the sender has measured.
        measures: Box<Measures>,
    },
}

/// How long ago the sender heard from a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Heard {
    /// From whom.
    pub node: NodeId,
    /// How long ago, in milliseconds.
    pub age_ms: u32,
}

/// The first packet in each direction of a link.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// The sender's name.
    pub name: String,
    /// This start of the sender: already durable.
    pub start: Start,
    /// Its last starts, oldest first, this one included; at most [`Hello::RECENT_MAX`]. A receiver
    /// that knows of another one in their place is met by a restored or cloned directory.
    pub recent: Vec<Start>,
    /// The last start of the *receiver* that the sender knows of, or one that the receiver's hello
    /// contradicts. A receiver whose directory does not know it is a restored or cloned one.
    pub remembered: Option<Start>,
    /// The end of the sender's configuration log.
    pub last_index: Index,
    /// The sender's term in the configuration log.
    pub term: Term,
    /// What the sender knows the receiver to have acknowledged in the configuration log of this
    /// cluster. A receiver whose log of that cluster ends below has lost what it promised.
    pub acknowledged: Option<Acknowledged>,
    /// Where the sender is reached.
    pub addresses: Addresses,
}

impl Hello {
    /// How many starts a hello names. Of older ones only the sender itself can tell.
    pub const RECENT_MAX: usize = 32;

    /// Whether the sender cannot have been through `start`: one of its later starts is known here,
    /// or another one was in its place.
    #[must_use]
    pub fn contradicts(&self, start: Start) -> bool {
        let oldest = self.recent.first().unwrap_or(&self.start);
        start.number >= oldest.number && !self.recent.contains(&start)
    }
}

/// What a leader knows of a member's log. Within one term a log never gets shorter than what it
/// acknowledged; in a later term it may.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Acknowledged {
    /// Of which cluster.
    pub cluster: ClusterId,
    /// The leader's term, in which it was acknowledged.
    pub term: Term,
    /// The member has said that its log agrees with the leader's up to here, durably.
    pub index: Index,
}

/// How a restored or cloned directory gave itself away.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, Error)]
pub enum StaleReason {
    /// The peer remembers a start that the directory does not know.
    #[error("a peer remembers start {} of this node, which this directory does not know of", .0.number)]
    UnknownStart(Start),
    /// The log ends below what the node acknowledged.
    #[error(
        "this node acknowledged its log up to {acknowledged}, but the directory's ends at {held}"
    )]
    LogShrank {
        /// What it once promised to hold.
        acknowledged: Index,
        /// What it holds.
        held: Index,
    },
}

/// What a node is at the moment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Info {
    /// Its cluster, once durable.
    pub cluster: Option<ClusterId>,
    /// Whether it is looking for a cluster and would found one or join one.
    pub seeking: bool,
    /// The version of the configuration it has applied.
    pub version: ConfigVersion,
    /// How many servers that configuration has.
    pub servers: u32,
    /// How many databases it has, or keeps the names of.
    pub databases: u32,
    /// Whom it takes for the coordinator, and where that is.
    pub coordinator: Option<(NodeId, SocketAddr)>,
    /// Whether the *receiver* is a server of that configuration.
    pub you_are_member: bool,
    /// Whether an operator took the receiver out of it.
    pub you_were_removed: bool,
    /// The sender coordinates, and the committed membership of its log does without the receiver.
    pub released: bool,
    /// The sender is stopping in good order: it is not to be brought back.
    pub leaving: bool,
    /// What the sender's configuration says of the receiver's cluster, if that is another one.
    pub your_cluster: Option<Absorption>,
    /// Whether the sender's log is unreadable in part, so that it takes no part.
    pub damaged: bool,
    /// Why the receiver's cluster does not take in the databases of the sender's.
    pub clash: Option<Rejection>,
}

/// A question to the coordinator.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Request {
    /// Let me in.
    Join {
        /// Under which name.
        name: String,
        /// Where the sender is.
        addresses: Addresses,
        /// The cluster it left by a committed `Dissolve`.
        dissolved_from: Option<ClusterId>,
        /// What it was called there, if it brings the databases of that cluster.
        brings: Option<NodeId>,
    },
    /// The sender's cluster of one server would bring its databases: keep their names.
    Bring {
        /// The sender's cluster.
        cluster: ClusterId,
        /// What it brings; at most [`Configuration::DATABASES_MAX`] databases.
        bringing: Box<Bringing>,
    },
    /// It will not bring them.
    Unbring {
        /// The sender's cluster.
        cluster: ClusterId,
        /// Which question this is.
        attempt: Attempt,
    },
    /// The sender is stopping.
    Leave,
    /// A change of the configuration that an operator asked for on the sender's node.
    Change(ConfigCommand),
    /// The sender's cluster has committed `Absorb` of the receiver's: dissolve.
    Dissolve {
        /// The sender's cluster.
        into: ClusterId,
        /// Where its servers are; at most 16.
        addresses: Vec<SocketAddr>,
    },
}

/// The answer to a [`Request`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Response {
    /// Committed. The document now has this version.
    Done {
        /// Of which cluster.
        cluster: ClusterId,
        /// The version.
        version: ConfigVersion,
    },
    /// Not the coordinator: ask there, or later if nobody is.
    NotCoordinator {
        /// Who is, and where.
        coordinator: Option<(NodeId, SocketAddr)>,
    },
    /// Refused for good reason.
    Refused(Rejection),
    /// Lost its office before the outcome was known: ask again.
    Unknown,
}

/// What is multicast: an untrusted hint.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Announce {
    /// A hash of the group name (never of the password).
    pub group: u64,
    /// The sender.
    pub node: NodeId,
    /// Its cluster, once durable.
    pub cluster: Option<ClusterId>,
    /// Where it listens for nodes. An unspecified IP means: the address the datagram came from.
    pub address: SocketAddr,
    /// The sender wants members to announce themselves now.
    pub seeking: bool,
}

/// Why bytes were dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum WireError {
    /// Longer than allowed.
    #[error("longer than allowed")]
    TooLong,
    /// Another protocol, or another version of this one.
    #[error("not of this protocol or version")]
    Foreign,
    /// Does not decode.
    #[error("malformed")]
    Malformed,
    /// A list in it is longer than its bound.
    #[error("a list in it is longer than allowed")]
    Bound,
}

/// Encodes a packet.
///
/// # Panics
/// Never for values that core builds: the encoder writes to memory and knows every type.
#[must_use]
pub fn encode_packet(packet: &Packet) -> Vec<u8> {
    // Room for the bulk of it: growing would copy it several times.
    let entries = match packet {
        Packet::Raft { message: Message { body: Body::Append { entries, .. }, .. }, .. } => {
            entries.iter().map(size_of_entry).sum()
        }
        _ => 0,
    };
    postcard::to_extend(packet, Vec::with_capacity(PACKET_BYTES_USUAL + entries))
        .unwrap_or_else(|e| unreachable!("a packet always encodes: {e}"))
}

/// Decodes a packet, to the last byte.
///
/// # Errors
/// [`WireError`]: drop the bytes, count them, and close the link they came on.
pub fn decode_packet(bytes: &[u8]) -> Result<Packet, WireError> {
    if bytes.len() > PACKET_BYTES_MAX {
        return Err(WireError::TooLong);
    }
    let (packet, rest): (Packet, &[u8]) =
        postcard::take_from_bytes(bytes).map_err(|_| WireError::Malformed)?;
    if !rest.is_empty() {
        return Err(WireError::Malformed);
    }
    let fits = match &packet {
        Packet::Alive { heard } => heard.len() <= HEARD_MAX,
        Packet::Logs { messages, .. } => messages.len() <= LOGS_MAX,
        Packet::Copies { copies, .. } => copies.len() <= COPIES_MAX,
        Packet::Hello(hello) => hello.name.len() <= 64,
        Packet::Measured { measures, .. } => measures.fits(),
        Packet::Request { request: Request::Dissolve { addresses, .. }, .. } => {
            addresses.len() <= 16
        }
        Packet::Request { request: Request::Bring { bringing, .. }, .. } => {
            bringing.databases.len() <= Configuration::DATABASES_MAX
        }
        _ => true,
    };
    if fits { Ok(packet) } else { Err(WireError::Bound) }
}

/// Encodes an announcement with its magic.
///
/// # Panics
/// Never: see [`encode_packet`].
#[must_use]
pub fn encode_announce(announce: &Announce) -> Vec<u8> {
    let mut bytes = DATAGRAM_MAGIC.to_vec();
    let body = postcard::to_allocvec(announce)
        .unwrap_or_else(|e| unreachable!("an announcement always encodes: {e}"));
    bytes.extend(body);
    debug_assert!(bytes.len() <= DATAGRAM_BYTES_MAX);
    bytes
}

/// Decodes an announcement.
///
/// # Errors
/// [`WireError`]: drop the datagram and count it.
pub fn decode_announce(bytes: &[u8]) -> Result<Announce, WireError> {
    if bytes.len() > DATAGRAM_BYTES_MAX {
        return Err(WireError::TooLong);
    }
    let body = bytes.strip_prefix(&DATAGRAM_MAGIC).ok_or(WireError::Foreign)?;
    let (announce, rest) = postcard::take_from_bytes(body).map_err(|_| WireError::Malformed)?;
    if rest.is_empty() { Ok(announce) } else { Err(WireError::Malformed) }
}

/// The hash of a group name that goes into announcements: 64-bit FNV-1a. It tells groups apart on
/// one wire; it protects nothing, the handshake does.
#[must_use]
pub fn group_hash(group: &str) -> u64 {
    group.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
