//! The server's end of a client's connection, as a pure machine: what a message asks of the node, and
//! what is told.
//!
//! A connection begins with [`greeting`] and the layout. Then the layout is sent again whenever it is
//! another one, always the newest only: a client that reads slowly is skipped to it. What must hold:
//! each request is answered once, under its own number; nobody is let do more than he may; no more is
//! under way than [`FLIGHTS_MAX`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use thiserror::Error;

use super::api::{ToClient, ToServer};
use super::layout::{Layout, LayoutServer, LayoutShard};
use crate::configuration::{Configuration, ServerStatus, ShardRef};
use crate::ids::{LogId, NodeId, Term};
use crate::node::SqlRequest;
use crate::shard::{Reply, ShardError, ShardId, SqlKind};

/// Requests of one connection that may be under way; one more is answered as [`ShardError::Busy`].
pub const FLIGHTS_MAX: usize = 4096;

/// The longest that a server waits for the answer to a request.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// What a client may do, when its message comes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Rights {
    /// Be connected, and see the layout.
    Look,
    /// Read what databases hold.
    Read,
    /// Write, too.
    Write,
}

/// What a message comes to.
#[derive(Clone, PartialEq, Debug)]
pub enum Served {
    /// The node is to run this; [`Service::replied`] follows.
    Ask(u64, SqlRequest),
    /// This is to be sent.
    Send(ToClient),
}

/// A client does not keep to the protocol: the connection is to be closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("a request came under the number {0}, which one that is under way has")]
pub struct NumberInUse(pub u64);

/// The first that a client is sent.
#[must_use]
pub fn greeting(node: NodeId) -> ToClient {
    ToClient::Welcome { node }
}

/// One client's connection at its server. See the module's documentation.
#[derive(Clone, Debug, Default)]
pub struct Service {
    flights: BTreeSet<u64>,
}

impl Service {
    /// A client has sent something.
    ///
    /// # Errors
    /// [`NumberInUse`].
    pub fn received(&mut self, message: ToServer, rights: Rights) -> Result<Served, NumberInUse> {
        let (id, database, shard, transaction, kind, timeout_ms) = match message {
            ToServer::Ping(number) => return Ok(Served::Send(ToClient::Pong(number))),
            ToServer::Sql { id, database, shard, transaction, kind, timeout_ms } => {
                (id, database, shard, transaction, kind, timeout_ms)
            }
        };
        if self.flights.contains(&id) {
            return Err(NumberInUse(id));
        }
        if let Some(reason) = denied(kind, rights) {
            let reason = reason.to_owned();
            return Ok(Served::Send(ToClient::Denied { id, reason }));
        }
        if self.flights.len() >= FLIGHTS_MAX {
            let reply = Reply::Failed(ShardError::Busy);
            return Ok(Served::Send(ToClient::Reply { id, reply, of: None }));
        }
        self.flights.insert(id);
        let timeout = Duration::from_millis(timeout_ms.into()).min(TIMEOUT_MAX);
        Ok(Served::Ask(id, SqlRequest { database, shard, transaction, kind, timeout }))
    }

    /// The node has answered; `None`: nobody waits for that.
    pub fn replied(&mut self, id: u64, reply: Reply, of: Option<ShardId>) -> Option<ToClient> {
        self.flights.remove(&id).then_some(ToClient::Reply { id, reply, of })
    }

    /// Requests that are under way.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.flights.len()
    }
}

/// Why a client is not let do something.
fn denied(kind: SqlKind, rights: Rights) -> Option<&'static str> {
    let needed = match kind {
        SqlKind::Read(_) => Rights::Read,
        SqlKind::Write
        | SqlKind::Once(_)
        | SqlKind::OpenSession
        | SqlKind::Begin
        | SqlKind::Step(_)
        | SqlKind::Finish(..)
        | SqlKind::Abandon(_) => Rights::Write,
        SqlKind::Compare | SqlKind::Restore(_) => {
            return Some(
                "copies are compared and restored by `quorate verify` and `quorate restore`",
            );
        }
    };
    (rights < needed).then_some(match needed {
        Rights::Write => "it writes, and the client's user may not: it needs the role writer",
        Rights::Read | Rights::Look => "it needs a user, or the node's admin token",
    })
}

impl Layout {
    /// What a node tells: from the document that it has applied, and the owners that it knows, each with
    /// the term of the shard's log in which that leads.
    #[must_use]
    pub fn of(document: &Configuration, owners: &BTreeMap<LogId, (NodeId, Term)>) -> Self {
        let server = |node: NodeId| {
            let server = &document.servers[&node];
            let centers = document.data_centers_of(&server.name);
            LayoutServer {
                node,
                name: server.name.clone(),
                address: server.addresses.client,
                data_centers: centers,
                is_online: server.status == ServerStatus::Online,
            }
        };
        let mut servers: Vec<LayoutServer> = document.servers.keys().copied().map(server).collect();
        servers.sort_by(|a, b| a.name.cmp(&b.name));
        let shard = |shard: ShardRef<'_>| {
            let owner = owners.get(&shard.shard.log);
            LayoutShard {
                database: shard.database_name.to_owned(),
                id: shard.database.id,
                name: shard.name.to_owned(),
                log: shard.shard.log,
                owner: owner.map(|(node, _)| *node),
                term: owner.map(|(_, term)| *term).unwrap_or_default(),
                is_linearizable: shard.reads_are_linearizable(),
                copies: shard.shard.copies.iter().map(|(node, status)| (*node, *status)).collect(),
            }
        };
        let shards = document.shards().map(shard).collect();
        Self { cluster: Some(document.cluster), version: document.version, servers, shards }
    }
}
