//! What goes into a [`crate::Node`] and what comes out.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::configuration::{
    Addresses, ConfigCommand, Configuration, Defaults, Registration, Rejection, Role,
};
use crate::copies::{CopyAnswer, CopyCall, CopyReport};
use crate::engine::Transaction;
use crate::ids::{
    ClusterId, CommandId, ConfigVersion, Index, LinkId, LogId, NodeId, PersistId, Start, Term,
};
use crate::measures::{Measures, NoMeasures, Traffic};
use crate::raft::{Entry, Limits, LogRead, ReadId, Unreadable};
use crate::shard::{Answer, Call, Reply as SqlReply, ShardId, ShardLimits, SqlKind};
use crate::storage::StorageOp;
use crate::wire::StaleReason;

/// How long things take and how long they are waited for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Timings {
    /// Between two heartbeats of a leader.
    pub heartbeat: Duration,
    /// The shortest time without a leader before an election.
    pub election_min: Duration,
    /// The longest; each node draws anew each time.
    pub election_max: Duration,
    /// Without contact from any voter for this long, a server counts as unreachable.
    pub max_no_heartbeat: Duration,
    /// How long a new node looks for a cluster before it may found one.
    pub found_wait: Duration,
    /// How long it waits for a smaller node id to found, before it looks again.
    pub defer_wait: Duration,
    /// Between two announcements while seeking.
    pub announce_seeking: Duration,
    /// Between two announcements of a member.
    pub announce_member: Duration,
    /// Between two attempts to reach a peer; doubles up to eight times this.
    pub redial: Duration,
    /// Between two attempts to join, and the time after which a request counts as unanswered.
    pub retry: Duration,
    /// How long a graceful stop may take before the node stops anyway.
    pub leave: Duration,
    /// After a silence of the adapter longer than this the node was paused: its suspicions are void.
    pub pause: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(300),
            election_max: Duration::from_millis(600),
            max_no_heartbeat: Duration::from_secs(5),
            found_wait: Duration::from_millis(500),
            defer_wait: Duration::from_millis(1_500),
            announce_seeking: Duration::from_millis(100),
            announce_member: Duration::from_millis(1_000),
            redial: Duration::from_millis(100),
            retry: Duration::from_millis(500),
            leave: Duration::from_secs(10),
            pause: Duration::from_millis(300),
        }
    }
}

/// What a node is told once, at its start.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The name it wants; `None`: the one it had, or `node-` and the start of its id.
    pub name: Option<String>,
    /// The group name.
    pub group: String,
    /// Where it is reached.
    pub addresses: Addresses,
    /// Addresses that may be other nodes (the TCP/IP member list); [`Input::Seeds`] replaces them.
    pub seeds: Vec<SocketAddr>,
    /// Whether to send announcements and heed those of others.
    pub multicast: bool,
    /// Cluster-wide defaults, used if this node founds.
    pub defaults: Defaults,
    /// All durations.
    pub timings: Timings,
    /// How much of a log is sent and kept at a time.
    pub limits: Limits,
    /// What its copies of shards take at a time; `None`: the adapter carries no engines, and the
    /// node holds no copies.
    pub shards: Option<ShardLimits>,
}

/// A transaction for a shard of a database.
#[derive(Clone, PartialEq, Debug)]
pub struct SqlRequest {
    /// The name of the database.
    pub database: String,
    /// The shard; `None`: `main`.
    pub shard: Option<String>,
    /// What to run.
    pub transaction: Transaction,
    /// Whether it may write, or what it must have seen.
    pub kind: SqlKind,
    /// How long the answer is waited for.
    pub timeout: Duration,
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// [`crate::Node::next_timeout`] has passed.
    Timer,
    /// A datagram came.
    Datagram {
        /// From where.
        from: SocketAddr,
        /// What it holds.
        bytes: Bytes,
    },
    /// A link is open and both ends have proven that they know group, password and settings.
    LinkUp {
        /// Its name.
        link: LinkId,
        /// Whom it leads to, proven by the handshake.
        peer: NodeId,
        /// The address that was dialled; `None` if the peer dialled.
        dialed: Option<SocketAddr>,
    },
    /// A link is gone. Everything sent and not received is lost.
    LinkDown {
        /// Which.
        link: LinkId,
    },
    /// An [`Output::Dial`] came to nothing.
    DialFailed {
        /// What was dialled.
        addr: SocketAddr,
        /// Why.
        error: DialError,
    },
    /// A peer dialled this node and could not prove that it knows group, password and settings.
    PeerRefused {
        /// From where it came.
        from: SocketAddr,
    },
    /// One packet from a link, whole and decrypted.
    Packet {
        /// Which link.
        link: LinkId,
        /// Its bytes.
        bytes: Bytes,
    },
    /// A batch of operations is durable. Comes in the order of the batches.
    Persisted {
        /// Which.
        id: PersistId,
    },
    /// The disk is full, a sync failed or the like: nothing more will become durable.
    StorageFailed {
        /// What the system said.
        reason: String,
    },
    /// The member list was resolved anew.
    Seeds {
        /// All of it.
        addrs: Vec<SocketAddr>,
    },
    /// Somebody wants a transaction run; answered once by [`Output::SqlReply`].
    Sql {
        /// To be repeated in the reply; never used twice in one run.
        id: CommandId,
        /// What is wanted.
        request: SqlRequest,
    },
    /// The engine of a copy has answered an [`Output::Engine`].
    Engine {
        /// Whose copy.
        log: LogId,
        /// Of the call.
        epoch: u64,
        /// The answer.
        answer: Answer,
    },
    /// The answer to an [`Output::ReadLog`].
    LogRead {
        /// Which log.
        log: LogId,
        /// Of the question.
        id: ReadId,
        /// Those entries that are there, from the first on; or one of them cannot be read.
        result: Result<Vec<Entry>, Unreadable>,
    },
    /// The files of a copy have answered.
    Copy {
        /// Whose copy.
        log: LogId,
        /// What they say.
        answer: CopyAnswer,
    },
    /// What went over the links: the answer to [`Output::CountTraffic`].
    Traffic {
        /// By the node at the other end.
        traffic: Vec<(NodeId, Traffic)>,
    },
    /// An operator wants something; answered once by [`Output::Reply`].
    Command {
        /// To be repeated in the reply.
        id: CommandId,
        /// What.
        command: Command,
    },
}

/// Why a dialled peer was not reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DialError {
    /// Nobody there, or no answer in time.
    Unreachable,
    /// Somebody is there who refused, or was refused: group, password or encryption differ.
    Refused,
    /// The dialled node was this one.
    Myself,
}

/// What an operator can ask of a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Leave in good order, then stop.
    Stop,
    /// Take a server out of the configuration.
    RemoveServer {
        /// Its name or id.
        server: String,
    },
    /// Make it a master or a replica.
    SetRole {
        /// Its name or id.
        server: String,
        /// The new role.
        role: Role,
    },
    /// Register it as static or dynamic.
    SetRegistration {
        /// Its name or id.
        server: String,
        /// The new registration.
        registration: Registration,
    },
    /// Bring this node's copies of a database up to date, and say how each comes to be.
    Sync {
        /// The database.
        database: String,
        /// One shard of it; `None`: all that have a copy here.
        shard: Option<String>,
        /// By a whole copy of another server's, even where the log would do.
        full: bool,
        /// With `full`: even if the copy is online and holds everything.
        force: bool,
    },
    /// Tell what every server has measured, and which did not answer. Changes nothing.
    Measure {
        /// How long the servers are waited for.
        timeout: Duration,
    },
    /// Any change of the document (the simulator's operators, and later commands).
    Change(ConfigCommand),
}

/// How a copy comes to hold everything, as the answer to [`Command::Sync`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "kebab-case")]
pub enum SyncStart {
    /// It holds everything that is known to be committed.
    UpToDate,
    /// It goes on from the log.
    Delta {
        /// The last entry that it holds.
        from: u64,
        /// The last that is known to be committed.
        to: u64,
    },
    /// A whole copy is fetched, as soon as a server can give one.
    Full,
    /// It was not copied for itself (`autoDeploy` is off); it has been asked for now.
    Asked,
    /// A whole copy was wanted in the place of one in order, and no other server in reach has one.
    NobodyElse,
    /// An operator has put it out of use.
    Offline,
    /// This node has no place in the shard.
    NotHere,
}

/// The answer to a [`Command`].
#[derive(Clone, PartialEq, Debug)]
pub enum Reply {
    /// Committed; the document now has this version.
    Done {
        /// The version.
        version: ConfigVersion,
    },
    /// To [`Command::Sync`]: how the copies come to be up to date, by shard.
    Syncing {
        /// Each shard, by name.
        shards: Vec<(String, SyncStart)>,
    },
    /// To [`Command::Measure`]: what each server has measured, this node included.
    Measured {
        /// By server; at most [`Configuration::SERVERS_MAX`] and this node.
        servers: Vec<(NodeId, Result<Measures, NoMeasures>)>,
    },
    /// Not done.
    Failed(CommandError),
}

/// Why a command was not done.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum CommandError {
    /// The cluster refused.
    #[error(transparent)]
    Refused(#[from] Rejection),
    /// Nobody can decide at the moment.
    #[error("no quorum: {0}")]
    NoQuorum(NoQuorum),
    /// The node is not, or not yet, part of a cluster.
    #[error("this node is not part of a cluster yet: {state}")]
    NotMember {
        /// What it is doing.
        state: State,
    },
    /// Sent, and no answer in time: it may have been done or not.
    #[error(
        "no answer in time: it may have been done; look with `quorate status` before trying again"
    )]
    OutcomeUnknown,
    /// Too many commands wait already.
    #[error("too many commands are waiting; try again later")]
    Busy,
    /// The node is stopping.
    #[error("this node is stopping")]
    Stopping,
}

/// Who would have to be there for a decision.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NoQuorum {
    /// The voters that are not reached, by name.
    pub missing: Vec<String>,
    /// The tie-breaker among them, if its return alone would do.
    pub tie_breaker: Option<String>,
    /// How many voters there are in all.
    pub voters: u32,
}

impl core::fmt::Display for NoQuorum {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        if self.missing.is_empty() {
            return write!(f, "an election among {} voters is under way", self.voters);
        }
        let missing = self.missing.join(", ");
        write!(f, "{} of {} voters are missing: {missing}", self.missing.len(), self.voters)?;
        if let Some(tie) = &self.tie_breaker {
            write!(f, "; the tie-breaker {tie} alone would be enough")?;
        }
        Ok(())
    }
}

/// Where a node is in its life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Looks for others.
    Discovering,
    /// Writes the first entry of a new cluster.
    Founding,
    /// Has found a cluster and asks to be let in.
    Joining,
    /// Was a member before its restart and has not been acknowledged by one since.
    Returning,
    /// Takes part.
    Member,
    /// Stops in good order.
    Leaving,
    /// Has stopped.
    Left,
}

impl core::fmt::Display for State {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Discovering => "discovering",
            Self::Founding => "founding",
            Self::Joining => "joining",
            Self::Returning => "returning",
            Self::Member => "member",
            Self::Leaving => "leaving",
            Self::Left => "left",
        })
    }
}

/// What the adapter is to do. Outputs of one input are carried out in their order.
#[derive(Clone, Debug)]
pub enum Output {
    /// Make these durable, in order, and say [`Input::Persisted`].
    Persist {
        /// To be repeated.
        id: PersistId,
        /// In order.
        ops: Vec<StorageOp>,
    },
    /// Send to the multicast group.
    Datagram {
        /// What.
        bytes: Bytes,
    },
    /// Open a link to that address: [`Input::LinkUp`] or [`Input::DialFailed`] follows.
    Dial {
        /// Where.
        addr: SocketAddr,
    },
    /// Close a link. No [`Input::LinkDown`] follows.
    Close {
        /// Which.
        link: LinkId,
    },
    /// Send on a link; in order, or the link goes down.
    Packet {
        /// Which.
        link: LinkId,
        /// What.
        bytes: Bytes,
    },
    /// Answer a command.
    Reply {
        /// Which.
        id: CommandId,
        /// What to say.
        reply: Reply,
    },
    /// Answer a transaction.
    SqlReply {
        /// Which.
        id: CommandId,
        /// What came of it.
        reply: SqlReply,
        /// The shard that was asked; `None`: nobody was, or the cluster is another one by now.
        of: Option<ShardId>,
    },
    /// A call to the engine of a copy: [`Input::Engine`] follows, see [`CallKind`].
    ///
    /// [`CallKind`]: crate::shard::CallKind
    Engine {
        /// Whose copy.
        log: LogId,
        /// What to do.
        call: Call,
    },
    /// Read entries of a log back from the store: [`Input::LogRead`] follows, always.
    ReadLog {
        /// Which log.
        log: LogId,
        /// Which entries.
        read: LogRead,
    },
    /// The copy is not this node's any more, for its database was dropped: close its engine.
    CloseEngine {
        /// Whose copy.
        log: LogId,
    },
    /// The files of a copy are to do something: [`Input::Copy`] follows, see [`CopyCall`].
    Copy {
        /// Whose copy.
        log: LogId,
        /// What to do.
        call: CopyCall,
    },
    /// Somebody wants to know what went over the links: [`Input::Traffic`] follows, always.
    CountTraffic,
    /// Something that people and clients want to know.
    Event(Event),
    /// The node has ended; it emits nothing more. Its directory may be reused as `StopReason` says.
    Stop(StopReason),
}

/// Why a node has ended.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum StopReason {
    /// It left in good order.
    #[error("left in good order")]
    Left,
    /// Asked to stop, it could not hand over in time (no quorum) and stopped anyway.
    #[error("stopped without a quorum to take leave of; the others will find it away")]
    LeftUnheard,
    /// The directory is an old copy, or a second one: it may return only with a new id.
    #[error("StaleDisk: {0}")]
    StaleDisk(StaleReason),
    /// Its cluster has dissolved. The directory is to be moved aside, nothing deleted; a new node
    /// with a new id joins the other cluster.
    #[error("its cluster {from} has dissolved into {into}")]
    Dissolved {
        /// The cluster that has ended.
        from: ClusterId,
        /// The one to join.
        into: ClusterId,
        /// Where its servers are.
        addresses: Vec<SocketAddr>,
        /// Its `Dissolve` was committed, which the new node is to say when it joins
        /// ([`crate::Recovered::after_dissolve`]); else it was abandoned by `recover --unsafe`.
        committed: bool,
        /// What this node is called, if the new one brings its databases
        /// ([`crate::Recovered::bringing`]).
        brings: Option<NodeId>,
    },
    /// An operator took it out of the cluster. Started again, it asks to be let in again.
    #[error("an operator removed this server from the cluster")]
    Removed,
    /// The disk no longer takes writes.
    #[error("the data directory can no longer be written: {0}")]
    StorageFailed(String),
}

/// Something that people and clients want to know.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// A new version of the configuration has been committed and applied here.
    Configuration(Arc<Configuration>),
    /// The node is in another state of its life.
    State(State),
    /// Another coordinator, or none.
    Coordinator {
        /// Who.
        node: Option<NodeId>,
        /// In which term.
        term: Term,
    },
    /// Somebody leads the log of a shard of which this node has a part, who did not before.
    Owner {
        /// Whose log.
        log: LogId,
        /// Who.
        node: NodeId,
        /// In which term.
        term: Term,
    },
    /// Which copies are not whole, by log and server, as far as this node knows: when one comes or
    /// goes, and every second while one makes progress.
    Copies(Vec<(LogId, NodeId, CopyReport)>),
    /// A full copy of a shard is fetched.
    CopyBegan {
        /// Of which database.
        database: String,
        /// Which shard.
        shard: String,
        /// From whom.
        donor: NodeId,
        /// Why the log alone would not do.
        why: String,
    },
    /// It has come whole, and is put in place.
    CopyDone {
        /// Of which database.
        database: String,
        /// Which shard.
        shard: String,
        /// From whom, the last of it at least.
        donor: NodeId,
        /// Bytes of the file.
        bytes: u64,
        /// How many of them were there from an earlier attempt.
        kept: u64,
        /// How long this attempt took, in milliseconds.
        ms: u64,
    },
    /// It has not come whole; what came stays, and it is tried again.
    CopyFailed {
        /// Of which database.
        database: String,
        /// Which shard.
        shard: String,
        /// Who failed; `None`: this node's own files.
        donor: Option<NodeId>,
        /// How.
        reason: String,
    },
    /// A peer refused this node or was refused: group, password or encryption settings differ.
    Refused {
        /// Where the peer is.
        peer: SocketAddr,
    },
    /// The cluster will not let this node in; it goes on asking.
    JoinRefused(Rejection),
    /// There is no quorum any more; repeated when those missing change.
    NoQuorum(NoQuorum),
    /// There is a quorum again.
    QuorumRestored,
    /// Another cluster of this name holds databases, as does this one: an operator must decide.
    Split {
        /// The other one.
        other: ClusterId,
        /// Why one of the two, of one server, cannot bring its databases to the other; `None`: both have
        /// several servers.
        clash: Option<Rejection>,
    },
    /// This cluster of one server ends, and its databases go to another one.
    Bringing {
        /// Which.
        into: ClusterId,
    },
    /// A shard that this node has brought from its former cluster is in its place.
    Brought {
        /// Of which database.
        database: String,
        /// Which shard.
        shard: String,
    },
    /// It cannot be put there; it is tried again.
    NotBrought {
        /// Of which database.
        database: String,
        /// Which shard.
        shard: String,
        /// Why.
        reason: String,
    },
    /// A peer's directory was found to be restored or cloned, and the peer was sent away.
    StalePeer {
        /// Which peer.
        peer: NodeId,
        /// How it gave itself away.
        reason: StaleReason,
    },
    /// Part of a log is unreadable: the node takes no part in what is decided there, for good. It must
    /// come back as another one.
    Damaged {
        /// Which log.
        log: LogId,
    },
    /// An entry of a shard's log that was durable cannot be read back from the disk. Whoever needs it
    /// gets a full copy; nothing is lost as long as the copies are there.
    LogUnreadable {
        /// Which log.
        log: LogId,
        /// Which entry.
        index: Index,
    },
    /// The node has noticed that it was paused for so many milliseconds.
    Paused {
        /// How long.
        ms: u64,
    },
}

/// What a node knows of itself and the others, for people.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Status {
    /// Its id.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Where it is in its life.
    pub state: State,
    /// Its group.
    pub group: String,
    /// Its cluster.
    pub cluster: Option<ClusterId>,
    /// The term of the configuration log.
    pub term: Term,
    /// Who coordinates, as far as it knows.
    pub coordinator: Option<NodeId>,
    /// The configuration it has applied.
    pub configuration: Option<Arc<Configuration>>,
    /// Voters of the configuration log.
    pub voters: Vec<NodeId>,
    /// Who breaks ties among them.
    pub tie_breaker: Option<NodeId>,
    /// A change of voters is under way.
    pub joint: bool,
    /// Why nothing can be decided, if so.
    pub no_quorum: Option<NoQuorum>,
    /// Nodes heard from, and how many milliseconds ago.
    pub heard_ms: BTreeMap<NodeId, u64>,
    /// Addresses whose nodes refused this one or were refused of late.
    pub refused: Vec<SocketAddr>,
    /// The last reason for which the cluster would not let this node in.
    pub join_refused: Option<Rejection>,
    /// Other clusters of this name that hold databases while this one does too.
    pub split_with: Vec<ClusterId>,
    /// Of those with one server, or if this one has one: why it cannot bring its databases.
    pub clashes: Vec<(ClusterId, String)>,
    /// Servers still missing for `--expect`, and the number expected.
    pub expect: Option<(u32, u32)>,
    /// Part of a log is unreadable, the configuration's or that of a shard.
    pub damaged: bool,
    /// The present start of the node.
    pub start: Option<Start>,
    /// Last index of the configuration log.
    pub last_index: u64,
    /// Its commit index.
    pub commit: u64,
    /// The copies of shards, as far as this node knows: by log and server, its own included.
    pub copies: Vec<(LogId, NodeId, CopyReport)>,
    /// What was dropped and refused so far.
    pub counters: Counters,
}

/// What was dropped and refused since the start.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize)]
pub struct Counters {
    /// Datagrams that were malformed or foreign.
    pub datagrams_bad: u64,
    /// Datagrams of other groups.
    pub datagrams_other_group: u64,
    /// Packets that were malformed; their links were closed.
    pub packets_bad: u64,
    /// Log messages of another cluster or before the welcome.
    pub messages_dropped: u64,
    /// Handshakes refused.
    pub refused: u64,
    /// Elections this node has started.
    pub campaigns: u64,
}

impl NodeConfig {
    /// A configuration for a node on `127.0.0.1:port` with every default: for tests and examples.
    #[must_use]
    pub fn loopback(group: &str, port: u16) -> Self {
        Self {
            name: None,
            group: group.to_owned(),
            addresses: Addresses {
                node: SocketAddr::from(([127, 0, 0, 1], port)),
                client: None,
                http: None,
            },
            seeds: Vec::new(),
            multicast: true,
            defaults: Defaults::default(),
            timings: Timings::default(),
            limits: Limits::default(),
            shards: None,
        }
    }
}
