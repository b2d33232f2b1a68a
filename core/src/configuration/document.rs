//! The configuration: the one replicated document that says what the cluster is.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use postcard::ser_flavors::Size;
use serde::{Deserialize, Serialize};

use super::bringing::Bringing;
use super::database::Database;
use super::users::User;
use crate::ids::{ClusterId, ConfigVersion, LogId, NodeId, Start};

/// What a server does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Votes, may coordinate and own.
    Master,
    /// Receives everything, counts in no quorum, owns nothing.
    Replica,
}

/// Whether a server is awaited when it is gone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Registration {
    /// Kept in the configuration as `AWAY`, still counted, awaited.
    Static,
    /// Removed from the configuration when unreachable; the quorum shrinks.
    Dynamic,
}

/// Whether a server is believed to be there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ServerStatus {
    /// In contact with the coordinator.
    Online,
    /// Unreachable or stopped, and awaited.
    Away,
}

/// Where a server is reached.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Addresses {
    /// By other nodes (default port 2434).
    pub node: SocketAddr,
    /// By clients (default port 2424), once it listens for them.
    pub client: Option<SocketAddr>,
    /// By HTTP (default port 2480), unless switched off.
    pub http: Option<SocketAddr>,
}

/// A node's entry in the configuration.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Server {
    /// Unique in the cluster.
    pub name: String,
    /// Master or replica.
    pub role: Role,
    /// Static or dynamic.
    pub registration: Registration,
    /// There or awaited.
    pub status: ServerStatus,
    /// Where it is.
    pub addresses: Addresses,
    /// The configuration version that it joined with: the smaller, the longer a member.
    pub joined: ConfigVersion,
    /// Its last start that the cluster knows of. Whoever learns the configuration knows it too, so
    /// that a server which has never met this one finds out an old copy of its directory.
    pub start: Option<Start>,
    /// The server whose name it took over, until the membership of the log has followed.
    pub replaces: Option<NodeId>,
}

/// What becomes of a dynamic server that stays unreachable (`autoRemoveOfflineServers`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum AutoRemove {
    /// Removed as soon as it counts as unreachable (0, the default).
    #[default]
    AtOnce,
    /// `AWAY` first; removed unless it is back within so many milliseconds.
    AfterMs(u64),
    /// Never removed by itself (−1): treated like a static one.
    Never,
}

/// Cluster-wide defaults, taken from the founder's database JSON.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Defaults {
    /// `newNodeStrategy`: what a joining server is registered as when it is not listed in `roles`.
    pub new_node_strategy: Registration,
    /// `servers`: roles by server name; `*` is for all others. A server named here is static.
    pub roles: BTreeMap<String, Role>,
    /// `distributed.autoRemoveOfflineServers`.
    pub auto_remove: AutoRemove,
    /// `--expect`: no database may be created before so many servers were members at once.
    pub expect: u32,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            new_node_strategy: Registration::Static,
            roles: BTreeMap::from([("*".to_owned(), Role::Master)]),
            auto_remove: AutoRemove::AtOnce,
            expect: 0,
        }
    }
}

impl Defaults {
    /// The role of a server that joins under `name`.
    #[must_use]
    pub fn role_of(&self, name: &str) -> Role {
        let listed = self.roles.get(name).or_else(|| self.roles.get("*"));
        listed.copied().unwrap_or(Role::Master)
    }

    /// The registration of a server that joins under `name`.
    #[must_use]
    pub fn registration_of(&self, name: &str) -> Registration {
        if name != "*" && self.roles.contains_key(name) {
            return Registration::Static;
        }
        self.new_node_strategy
    }
}

/// How far the absorption of another cluster of the same name has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Absorption {
    /// Announced: from here on this cluster may not dissolve.
    Offered,
    /// The other cluster is known to have committed its `Dissolve`. Remembered for stragglers.
    Done,
    /// The other cluster was given up by `recover --unsafe`, and this one goes on from it. Those of
    /// its servers that hold no database may follow.
    Abandoned,
}

/// The document. Changed only by [`crate::configuration::ConfigCommand`]s, in log order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Configuration {
    /// Which cluster.
    pub cluster: ClusterId,
    /// The cluster in which its logs were begun: itself, or the first of those that it was recovered
    /// from, one out of the other. What the copies of its shards call themselves.
    pub origin: ClusterId,
    /// Its group name.
    pub group: String,
    /// Rises by one with every change.
    pub version: ConfigVersion,
    /// Every server, by node id.
    pub servers: BTreeMap<NodeId, Server>,
    /// What joining servers become.
    pub defaults: Defaults,
    /// Whether [`Defaults::expect`] has ever been met; stays true.
    pub expect_met: bool,
    /// Whose turn it is to own a shard: one slot for each server that is in, or was and may be back.
    /// A newcomer takes the slot of one that is gone. At most [`Configuration::SERVERS_MAX`].
    pub turns: Vec<NodeId>,
    /// The databases, by name; at most [`Configuration::DATABASES_MAX`].
    pub databases: BTreeMap<String, Arc<Database>>,
    /// The last log id that was given to a shard. None is ever given twice.
    pub last_log: LogId,
    /// Clusters that dissolve, or have dissolved, into this one; at most
    /// [`Configuration::ABSORBED_MAX`].
    pub absorbed: BTreeMap<ClusterId, Absorption>,
    /// Servers that an operator took out, and when; forgotten when they join again. At most
    /// [`Configuration::EXPELLED_MAX`], the oldest fall out.
    pub expelled: BTreeMap<NodeId, ConfigVersion>,
    /// The last start of each server that was in, and when it went; forgotten when it joins again. By
    /// it a newcomer tells the directory of such a server from an old copy of it, which may lack what
    /// the server has promised. At most [`Configuration::DEPARTED_MAX`], the oldest fall out.
    pub departed: BTreeMap<NodeId, (ConfigVersion, Start)>,
    /// What clusters of one server are to bring, from when the names are kept for them until they
    /// come. Whoever is in here is in `absorbed` as well.
    pub bringing: BTreeMap<ClusterId, Bringing>,
    /// The cluster that this one has dissolved into: final.
    pub dissolved_into: Option<Dissolved>,
    /// Who may use the cluster over HTTP, by name; nobody: only who is on a server's own machine.
    /// At most [`Configuration::USERS_MAX`]. If there is any user, one is an admin.
    pub users: BTreeMap<String, Arc<User>>,
}

/// Where the members of a dissolved cluster go.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Dissolved {
    /// The cluster to join.
    pub into: ClusterId,
    /// Where its servers were when it made the offer; at most 16.
    pub addresses: Vec<SocketAddr>,
    /// Whether its one server brings its databases there.
    pub brings: bool,
}

impl Configuration {
    /// The last start of a server, also of one that is in no more, as far as the cluster knows.
    #[must_use]
    pub fn last_start(&self, node: NodeId) -> Option<Start> {
        match self.servers.get(&node) {
            Some(server) => server.start,
            None => self.departed.get(&node).map(|(_, start)| *start),
        }
    }

    /// The data centres that a server is listed in, by whatever database.
    #[must_use]
    pub fn data_centers_of(&self, server: &str) -> Vec<String> {
        let all = self.databases.values().flat_map(|database| &database.settings.data_centers);
        let of = all.filter(|(_, names)| names.iter().any(|name| name == server));
        let centers: std::collections::BTreeSet<&String> = of.map(|(center, _)| center).collect();
        centers.into_iter().cloned().collect()
    }

    /// How many absorbed clusters are remembered.
    pub const ABSORBED_MAX: usize = 64;
    /// How many servers taken out by an operator are remembered.
    pub const EXPELLED_MAX: usize = 64;
    /// How many starts of servers that are gone are remembered.
    pub const DEPARTED_MAX: usize = 256;
    /// How many servers a cluster may have: the full mesh and the quorums are made for this.
    pub const SERVERS_MAX: usize = 64;
    /// How many databases a cluster may have.
    pub const DATABASES_MAX: usize = 1000;
    /// How many shards a database may have.
    pub const SHARDS_MAX: usize = 256;
    /// How many shards all databases may have together: each has a log on every server it is on.
    pub const LOGS_MAX: usize = 4096;
    /// How many users a cluster may have.
    pub const USERS_MAX: usize = 256;
    /// How long the encoded document may get by creating, configuring, joining or renaming, in
    /// bytes. The document travels whole, as the snapshot of the configuration log, in one packet
    /// ([`crate::wire::PACKET_BYTES_MAX`]); the rest of that is for what else is in the packet, and
    /// for the little by which other commands lengthen the document.
    pub const BYTES_MAX: usize = 6 * 1024 * 1024;

    /// How long the document is on the wire and on disk, in bytes.
    #[must_use]
    pub fn encoded_bytes(&self) -> usize {
        postcard::serialize_with_flavor(self, Size::default()).unwrap_or(usize::MAX)
    }

    /// The server of that name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<(NodeId, &Server)> {
        self.servers.iter().find(|(_, s)| s.name == name).map(|(id, s)| (*id, s))
    }

    /// The servers that vote in the configuration log.
    pub fn masters(&self) -> impl Iterator<Item = (NodeId, &Server)> {
        self.servers.iter().filter(|(_, s)| s.role == Role::Master).map(|(id, s)| (*id, s))
    }

    /// Who is called what: the name, or the start of the id for one that has left.
    #[must_use]
    pub fn name_of(&self, node: NodeId) -> String {
        self.servers.get(&node).map_or_else(|| node.short(), |s| s.name.clone())
    }
}
