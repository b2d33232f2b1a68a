//! What clients know of a cluster.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::configuration::CopyStatus;
use crate::faults::{self, Fault};
use crate::ids::{ClusterId, ConfigVersion, DatabaseId, LogId, NodeId, Term};
use crate::marks::sometimes;

/// A cluster as its clients see it: who is there, and who has what. Nothing in it is secret.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Layout {
    /// Which cluster; `None` before anything is known.
    pub cluster: Option<ClusterId>,
    /// The version of the configuration that it is drawn from.
    pub version: ConfigVersion,
    /// All servers, by name.
    pub servers: Vec<LayoutServer>,
    /// All shards, by database and name.
    pub shards: Vec<LayoutShard>,
}

/// A server of the cluster.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LayoutServer {
    /// Which node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Where it listens for clients, if it does.
    pub address: Option<SocketAddr>,
    /// The data centres that it is listed in.
    pub data_centers: Vec<String>,
    /// Whether it is there, as far as the configuration says.
    pub is_online: bool,
}

/// A shard of a database.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LayoutShard {
    /// Its database.
    pub database: String,
    /// Which one of that name.
    pub id: DatabaseId,
    /// Its name.
    pub name: String,
    /// Its log.
    pub log: LogId,
    /// Who was last known to own it.
    pub owner: Option<NodeId>,
    /// In which term of its log.
    pub term: Term,
    /// Whether reads are as configured linearizable: `readQuorum` is above 1.
    pub is_linearizable: bool,
    /// The servers that have a copy, and what it is.
    pub copies: Vec<(NodeId, CopyStatus)>,
}

impl Layout {
    /// Takes what a server has told. The document goes by its version, each owner by its term, so that
    /// what comes late from a server that is behind takes nothing back. Whether anything is new.
    pub fn merge(&mut self, told: Self) -> bool {
        if told.cluster.is_none() {
            return false;
        }
        if told.cluster != self.cluster {
            *self = told;
            return true;
        }
        let before = self.clone();
        let older = told.version < self.version && !faults::active(Fault::OlderLayoutAccepted);
        sometimes!(older, OlderLayout);
        let (mut newest, other) =
            if older { (std::mem::take(self), told) } else { (told, std::mem::take(self)) };
        for shard in &mut newest.shards {
            let known = other.shards.iter().find(|known| known.log == shard.log);
            if let Some(known) = known.filter(|known| known.term > shard.term) {
                (shard.owner, shard.term) = (known.owner, known.term);
            }
        }
        *self = newest;
        *self != before
    }

    /// A shard by its database and name; without one the main shard.
    #[must_use]
    pub fn shard(&self, database: &str, shard: Option<&str>) -> Option<&LayoutShard> {
        let shard = shard.unwrap_or(crate::configuration::MAIN);
        self.shards.iter().find(|s| s.database == database && s.name == shard)
    }

    /// Who is called what: the name, or the start of the id for one that has left.
    #[must_use]
    pub fn name_of(&self, node: NodeId) -> String {
        self.server(node).map_or_else(|| node.short(), |server| server.name.clone())
    }

    /// A server by its node.
    #[must_use]
    pub fn server(&self, node: NodeId) -> Option<&LayoutServer> {
        self.servers.iter().find(|server| server.node == node)
    }
}
