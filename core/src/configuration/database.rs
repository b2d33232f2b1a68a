//! Databases, their shards, and the copies of these: what the document says of them.

use core::fmt;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::document::{Role, Server};
use super::founding::Founding;
use crate::ids::{ConfigVersion, DatabaseId, LogId, NodeId};

/// The shard that every database has.
pub const MAIN: &str = "main";
/// The name that gives defaults to all shards, and governs [`MAIN`] unless that is named itself.
pub const EVERY: &str = "*";
/// Names that OrientDB's files use for clusters which hold nothing here: accepted, never a shard.
pub const HOLLOW: [&str; 2] = ["internal", "index"];

/// How many copies must take part in a write or a read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum QuorumRule {
    /// So many, at least one.
    Count(u32),
    /// N/2+1 of the voters. For an even number that is one more than the log itself needs.
    #[default]
    Majority,
    /// All voters.
    All,
}

impl QuorumRule {
    /// How many of `voters` copies that is; never 0. A number may ask for more than there are.
    #[must_use]
    pub fn copies(self, voters: usize) -> usize {
        match self {
            Self::Count(count) => usize::try_from(count).unwrap_or(usize::MAX).max(1),
            Self::Majority => voters / 2 + 1,
            Self::All => voters.max(1),
        }
    }
}

/// `executionMode`: when a write is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum ExecutionMode {
    /// As [`ExecutionMode::Synchronous`], unless the client asks otherwise.
    #[default]
    Undefined,
    /// When as many copies as `writeQuorum` says are durable.
    Synchronous,
    /// When the log commits, without waiting for a larger write quorum.
    Asynchronous,
}

/// An entry of a shard's list of servers, as an operator writes it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum PlaceRule {
    /// The server of that name, whether it is there or not.
    Server(String),
    /// `<NEW_NODE>`: whoever joins.
    NewNode,
}

/// What holds for a whole database. Its shards may override quorums and `readYourWrites`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// How many copies are durable before a write is acknowledged.
    pub write_quorum: QuorumRule,
    /// How many copies agree on a read; 1 is the local copy.
    pub read_quorum: QuorumRule,
    /// Whether a client sees its own writes on whatever server it asks.
    pub read_your_writes: bool,
    /// When a write is answered.
    pub execution_mode: ExecutionMode,
    /// Whether a server that is to hold a copy downloads it by itself.
    pub auto_deploy: bool,
    /// Roles in this database by server name, `*` for all others. A server that is a replica of the
    /// cluster is one here too, whatever stands here.
    pub roles: BTreeMap<String, Role>,
    /// `servers` of `*`: where a shard is that does not say so itself.
    pub places: Vec<PlaceRule>,
    /// `owner` of `*`.
    pub owner: Option<String>,
    /// `dataCenters`: names of servers by data centre. Clients prefer those of their own.
    pub data_centers: BTreeMap<String, Vec<String>>,
}

impl Settings {
    /// A server goes on under another name in the data centres.
    pub(super) fn rename_in_data_centers(&mut self, from: &str, to: &str) {
        for names in self.data_centers.values_mut() {
            if names.iter().any(|name| name == from) {
                names.retain(|name| name != to);
                names.iter_mut().filter(|name| *name == from).for_each(|name| to.clone_into(name));
            }
        }
    }
}

impl Default for Settings {
    /// As the file that OrientDB 2.2 ships: everything everywhere, majority, readers local.
    fn default() -> Self {
        Self {
            write_quorum: QuorumRule::Majority,
            read_quorum: QuorumRule::Count(1),
            read_your_writes: true,
            execution_mode: ExecutionMode::Undefined,
            auto_deploy: true,
            roles: BTreeMap::from([(EVERY.to_owned(), Role::Master)]),
            places: vec![PlaceRule::NewNode],
            owner: None,
            data_centers: BTreeMap::new(),
        }
    }
}

/// A named set of shards.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Database {
    /// Which one; a later database of the same name has another.
    pub id: DatabaseId,
    /// The configuration version that created it.
    pub created: ConfigVersion,
    /// What holds for all its shards.
    pub settings: Settings,
    /// The shards by name; [`MAIN`] is always among them. Versions of the document share those that
    /// have not changed.
    pub shards: BTreeMap<String, Arc<Shard>>,
}

impl Database {
    /// What `server` is in this database: a master only if the cluster and the database say so.
    #[must_use]
    pub fn role_of(&self, server: &Server) -> Role {
        role_in(&self.settings, server)
    }
}

/// What `server` is where `settings` hold.
pub(super) fn role_in(settings: &Settings, server: &Server) -> Role {
    if server.role == Role::Replica {
        return Role::Replica;
    }
    role_of_name(settings, &server.name)
}

/// What a server of that name is where `settings` hold, as far as these say.
pub(super) fn role_of_name(settings: &Settings, name: &str) -> Role {
    let listed = settings.roles.get(name).or_else(|| settings.roles.get(EVERY));
    listed.copied().unwrap_or(Role::Master)
}

/// An entry of a shard's list of servers, in the document.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Place {
    /// The server of that name. It stays listed while that server is away, removed or not there yet.
    Named(String),
    /// A server that joined through the `<NEW_NODE>` mark. It goes when the server is removed.
    Joined(NodeId),
    /// `<NEW_NODE>`: a joining server is inserted before it.
    NewNode,
}

/// How far a copy is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CopyStatus {
    /// It cannot serve: its server is away, or it has not begun, or has failed.
    NotAvailable,
    /// It is catching up or being copied.
    Synchronizing,
    /// It serves: granted by the leader of the shard's log when it had caught up.
    Online,
    /// It was online and is being backed up: it follows, but neither serves nor owns.
    Backup,
    /// Put out of use by an operator, and only an operator ends it: it survives its server's
    /// leaving and coming back.
    Offline,
}

impl fmt::Display for CopyStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAvailable => "NOT_AVAILABLE",
            Self::Synchronizing => "SYNCHRONIZING",
            Self::Online => "ONLINE",
            Self::Backup => "BACKUP",
            Self::Offline => "OFFLINE",
        })
    }
}

impl CopyStatus {
    /// Whether the leader of the shard's log may change a copy from this status to `to`.
    ///
    /// A copy comes online from anywhere it may serve from; a backup begins and ends at `Online`;
    /// whatever serves or is on its way may fail. Nothing leads into `Offline` or out of it: that
    /// is an operator's.
    #[must_use]
    pub fn may_become(self, to: Self) -> bool {
        use CopyStatus::{Backup, NotAvailable, Offline, Online, Synchronizing};
        match (self, to) {
            (Offline, _) | (_, Offline) => false,
            (NotAvailable, Synchronizing | Online) => true,
            (Synchronizing, Online | NotAvailable) => true,
            (Online, Synchronizing | Backup | NotAvailable) => true,
            (Backup, Online | NotAvailable) => true,
            (NotAvailable, _) | (Synchronizing, _) | (Online, _) | (Backup, _) => false,
        }
    }

    /// Whether the copy is known to hold what its log has committed, but for what is on its way.
    #[must_use]
    pub fn is_whole(self) -> bool {
        matches!(self, Self::Online | Self::Backup)
    }
}

/// The unit of placement, replication and copying: one file with a log of its own.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Shard {
    /// Its log: unique in the cluster for ever, never used again for another shard.
    pub log: LogId,
    /// Who is to hold a copy, in order. Each server once, and the mark at most once.
    pub places: Vec<Place>,
    /// The static owner, by name; always one of `places`. Kept while that server is away, and then
    /// nobody owns the shard.
    pub owner: Option<String>,
    /// Overrides [`Settings::write_quorum`].
    pub write_quorum: Option<QuorumRule>,
    /// Overrides [`Settings::read_quorum`].
    pub read_quorum: Option<QuorumRule>,
    /// Overrides [`Settings::read_your_writes`].
    pub read_your_writes: Option<bool>,
    /// The copy of every server in `places`.
    pub copies: BTreeMap<NodeId, CopyStatus>,
    /// The configuration version that last changed a copy's status, or who has a copy. What a
    /// leader judged by an earlier version counts for nothing.
    pub revised: ConfigVersion,
    /// How its log begins, until every copy that may begin it is known to have.
    pub founding: Option<Founding>,
}
