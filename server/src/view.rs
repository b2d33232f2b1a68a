//! What is told over HTTP: the node's status for people and the layout for clients.
//!
//! One definition for both ends: the node writes these as JSON, the command line reads them.
//! There is no field in here that could hold a secret.

use std::net::SocketAddr;

use quorate_core::configuration::{
    Configuration, CopyStatus, Registration, Role, Server, ServerStatus, ShardRef,
};
use quorate_core::copies::CopyReport;
use quorate_core::{Counters, LogId, NoQuorum, NodeId, State, Status};
use quorate_io::runtime::Layout;
use serde::{Deserialize, Serialize};

use crate::gathered::Gathered;
use crate::http::{CopyNews, news};

/// `/status`: all that a node knows of itself and the others.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct StatusView {
    /// The id of the answering node, 32 hexadecimal digits.
    pub(crate) node: String,
    /// Its name.
    pub(crate) name: String,
    /// Its version of the software.
    pub(crate) software: String,
    /// Where it is in its life.
    pub(crate) state: State,
    /// Its group.
    pub(crate) group: String,
    /// Its cluster, 32 hexadecimal digits.
    pub(crate) cluster: Option<String>,
    /// The version of the configuration it has applied; 0: none.
    pub(crate) version: u64,
    /// The id of the coordinator, as far as it knows.
    pub(crate) coordinator: Option<String>,
    /// The servers of the configuration, by name.
    pub(crate) servers: Vec<ServerView>,
    /// The names of the databases.
    pub(crate) databases: Vec<String>,
    /// Who decides.
    pub(crate) quorum: QuorumView,
    /// Why nothing can be decided, if so.
    pub(crate) no_quorum: Option<NoQuorum>,
    /// Addresses whose nodes refused this one, or were refused, of late.
    pub(crate) refused: Vec<SocketAddr>,
    /// Why the cluster would not let this node in.
    pub(crate) join_refused: Option<String>,
    /// Other clusters of this group that hold databases, as this one does.
    pub(crate) split_with: Vec<String>,
    /// Why databases of one server cannot be brought from, or to, one of these.
    #[serde(default)]
    pub(crate) clashes: Vec<(String, String)>,
    /// How many servers are still missing for `--expect`.
    pub(crate) expect: Option<ExpectView>,
    /// Part of the log is unreadable: the node takes no part in decisions.
    pub(crate) damaged: bool,
    /// How often this data directory was started.
    pub(crate) start: Option<u64>,
    /// The configuration log.
    pub(crate) log: LogView,
    /// The copies that are not whole: what each lacks, and how far what it is sent is.
    #[serde(default)]
    pub(crate) copies: Vec<CopyNews>,
    /// What was dropped and refused since the start.
    pub(crate) counters: CountersView,
    /// What an operator should do something about.
    pub(crate) warnings: Vec<String>,
    /// What all servers together tell, as far as it was asked for.
    #[serde(flatten, default)]
    pub(crate) gathered: Gathered,
}

/// One server.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct ServerView {
    /// 32 hexadecimal digits.
    pub(crate) id: String,
    /// Unique in the cluster.
    pub(crate) name: String,
    /// Master or replica.
    pub(crate) role: Role,
    /// Static or dynamic.
    pub(crate) registration: Registration,
    /// There or awaited.
    pub(crate) status: ServerStatus,
    /// Where other nodes reach it.
    pub(crate) address: SocketAddr,
    /// Where clients reach it.
    pub(crate) client: Option<SocketAddr>,
    /// Where it serves HTTP.
    pub(crate) http: Option<SocketAddr>,
    /// Whether it votes in the configuration log.
    pub(crate) voter: bool,
    /// Whether it coordinates.
    pub(crate) coordinator: bool,
    /// Whether it makes half of an even number of voters a quorum.
    pub(crate) tie_breaker: bool,
    /// Whether it is the answering node.
    pub(crate) answering: bool,
    /// Milliseconds since the answering node heard from it; `None`: not since its start.
    pub(crate) heard_ms: Option<u64>,
}

/// Who decides.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct QuorumView {
    /// How many vote.
    pub(crate) voters: u32,
    /// How many of them are needed.
    pub(crate) needed: u32,
    /// Whether one fewer is enough if the tie-breaker is among them.
    pub(crate) tie_breaker_counts: bool,
    /// Whether a change of voters is under way.
    pub(crate) joint: bool,
}

/// `--expect`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct ExpectView {
    /// How many servers are still missing.
    pub(crate) missing: u32,
    /// How many are expected.
    pub(crate) expected: u32,
}

/// The configuration log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct LogView {
    /// The current term.
    pub(crate) term: u64,
    /// The last index.
    pub(crate) last: u64,
    /// What is known to be committed.
    pub(crate) commit: u64,
}

/// What was dropped and refused since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct CountersView {
    /// Datagrams that were malformed or foreign.
    pub(crate) datagrams_bad: u64,
    /// Datagrams of other groups.
    pub(crate) datagrams_other_group: u64,
    /// Malformed packets; their links were closed.
    pub(crate) packets_bad: u64,
    /// Log messages of another cluster, or before the welcome.
    pub(crate) messages_dropped: u64,
    /// Handshakes refused.
    pub(crate) refused: u64,
    /// Elections started.
    pub(crate) campaigns: u64,
}

impl From<Counters> for CountersView {
    fn from(c: Counters) -> Self {
        Self {
            datagrams_bad: c.datagrams_bad,
            datagrams_other_group: c.datagrams_other_group,
            packets_bad: c.packets_bad,
            messages_dropped: c.messages_dropped,
            refused: c.refused,
            campaigns: c.campaigns,
        }
    }
}

impl StatusView {
    /// From what core says, with the warnings of the process around it.
    pub(crate) fn new(status: &Status, warnings: Vec<String>) -> Self {
        let configuration = status.configuration.as_deref();
        Self {
            node: status.node.to_string(),
            name: status.name.clone(),
            software: env!("CARGO_PKG_VERSION").to_owned(),
            state: status.state,
            group: status.group.clone(),
            cluster: status.cluster.map(|c| c.to_string()),
            version: configuration.map_or(0, |c| c.version.0),
            coordinator: status.coordinator.map(|c| c.to_string()),
            servers: configuration.map(|c| servers(c, status)).unwrap_or_default(),
            databases: configuration
                .map(|c| c.databases.keys().cloned().collect())
                .unwrap_or_default(),
            quorum: quorum(status),
            no_quorum: status.no_quorum.clone(),
            refused: status.refused.clone(),
            join_refused: status.join_refused.as_ref().map(ToString::to_string),
            split_with: status.split_with.iter().map(ToString::to_string).collect(),
            clashes: status.clashes.iter().map(|(c, why)| (c.to_string(), why.clone())).collect(),
            expect: status.expect.map(|(missing, expected)| ExpectView { missing, expected }),
            damaged: status.damaged,
            start: status.start.map(|s| s.number),
            log: LogView { term: status.term.0, last: status.last_index, commit: status.commit },
            copies: configuration.map(|c| unwhole(c, &status.copies)).unwrap_or_default(),
            counters: status.counters.into(),
            warnings,
            gathered: Gathered::default(),
        }
    }

    /// Why the node is not ready to serve its cluster; `None`: it is.
    pub(crate) fn unready(&self) -> Option<String> {
        if self.damaged {
            return Some(
                "damaged: part of a log is unreadable; this node takes no part there".into(),
            );
        }
        if self.state != State::Member {
            let why = self.join_refused.as_deref();
            let why = why.map(|w| format!(": the cluster refused: {w}")).unwrap_or_default();
            return Some(format!("not a member yet: {}{why}", self.state));
        }
        if let Some(no_quorum) = &self.no_quorum {
            return Some(format!("NoQuorum: {no_quorum}"));
        }
        if let Some(ExpectView { missing, expected }) = self.expect.filter(|e| e.missing > 0) {
            return Some(format!("--expect {expected}: {missing} more servers must join"));
        }
        None
    }
}

fn unwhole(configuration: &Configuration, copies: &[(LogId, NodeId, CopyReport)]) -> Vec<CopyNews> {
    let mut all = news(configuration, copies);
    all.retain(|copy| copy.state != "whole");
    all
}

fn servers(configuration: &Configuration, status: &Status) -> Vec<ServerView> {
    let one = |(id, server): (&NodeId, &Server)| ServerView {
        id: id.to_string(),
        name: server.name.clone(),
        role: server.role,
        registration: server.registration,
        status: server.status,
        address: server.addresses.node,
        client: server.addresses.client,
        http: server.addresses.http,
        voter: status.voters.contains(id),
        coordinator: status.coordinator == Some(*id),
        tie_breaker: status.tie_breaker == Some(*id),
        answering: status.node == *id,
        heard_ms: status.heard_ms.get(id).copied(),
    };
    let mut all: Vec<ServerView> = configuration.servers.iter().map(one).collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

fn quorum(status: &Status) -> QuorumView {
    let voters = u32::try_from(status.voters.len()).unwrap_or(u32::MAX);
    QuorumView {
        voters,
        needed: if voters == 0 { 0 } else { voters / 2 + 1 },
        tie_breaker_counts: voters >= 2 && voters % 2 == 0 && status.tie_breaker.is_some(),
        joint: status.joint,
    }
}

fn shards(configuration: &Configuration, layout: &Layout) -> Vec<LayoutShard> {
    let shard = |shard: ShardRef<'_>| {
        let owner = layout.owners.get(&shard.shard.log);
        let copy = |(node, status): (&NodeId, &CopyStatus)| LayoutCopy {
            server: configuration.name_of(*node),
            status: status.to_string(),
        };
        LayoutShard {
            database: shard.database_name.to_owned(),
            shard: shard.name.to_owned(),
            owner: owner.map(|(node, _)| configuration.name_of(*node)),
            term: owner.map(|(_, term)| term.0).unwrap_or_default(),
            copies: shard.shard.copies.iter().map(copy).collect(),
        }
    };
    configuration.shards().map(shard).collect()
}

/// `/layout`: what clients are told.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct LayoutView {
    /// The cluster, 32 hexadecimal digits.
    pub(crate) cluster: String,
    /// Its group.
    pub(crate) group: String,
    /// The version of the configuration: clients keep the highest.
    pub(crate) version: u64,
    /// The id of the coordinator.
    pub(crate) coordinator: Option<String>,
    /// The term in which it coordinates: clients keep the coordinator of the highest.
    pub(crate) term: u64,
    /// The servers, by name.
    pub(crate) servers: Vec<LayoutServer>,
    /// The names of the databases.
    pub(crate) databases: Vec<String>,
    /// Who has what, by database and shard.
    #[serde(default)]
    pub(crate) shards: Vec<LayoutShard>,
    /// The copies that are not whole.
    #[serde(default)]
    pub(crate) copies: Vec<CopyNews>,
}

/// One shard of the layout.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct LayoutShard {
    /// The database.
    pub(crate) database: String,
    /// The shard.
    pub(crate) shard: String,
    /// The name of the server that owns it, as far as the answering node knows.
    pub(crate) owner: Option<String>,
    /// The term of the shard's log in which it does: clients keep the owner of the highest.
    pub(crate) term: u64,
    /// The copies.
    pub(crate) copies: Vec<LayoutCopy>,
}

/// One copy of a shard.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct LayoutCopy {
    /// The name of the server that has it.
    pub(crate) server: String,
    /// `ONLINE` or another word of the configuration.
    pub(crate) status: String,
}

/// One server of the layout.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct LayoutServer {
    /// 32 hexadecimal digits.
    pub(crate) id: String,
    /// Unique in the cluster.
    pub(crate) name: String,
    /// Master or replica.
    pub(crate) role: Role,
    /// Static or dynamic.
    pub(crate) registration: Registration,
    /// There or awaited.
    pub(crate) status: ServerStatus,
    /// Where other nodes reach it.
    pub(crate) address: SocketAddr,
    /// Where clients reach it.
    pub(crate) client: Option<SocketAddr>,
    /// Where it serves HTTP.
    pub(crate) http: Option<SocketAddr>,
    /// The data centres that databases list it in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) data_centers: Vec<String>,
}

impl LayoutView {
    /// From a configuration, and what else the node tells clients.
    pub(crate) fn of(configuration: &Configuration, layout: &Layout) -> Self {
        let one = |(id, server): (&NodeId, &Server)| LayoutServer {
            id: id.to_string(),
            name: server.name.clone(),
            role: server.role,
            registration: server.registration,
            status: server.status,
            address: server.addresses.node,
            client: server.addresses.client,
            http: server.addresses.http,
            data_centers: configuration.data_centers_of(&server.name),
        };
        let mut servers: Vec<LayoutServer> = configuration.servers.iter().map(one).collect();
        servers.sort_by(|a, b| a.name.cmp(&b.name));
        Self {
            cluster: configuration.cluster.to_string(),
            group: configuration.group.clone(),
            version: configuration.version.0,
            coordinator: layout.coordinator.map(|c| c.to_string()),
            term: layout.term.0,
            servers,
            databases: configuration.databases.keys().cloned().collect(),
            shards: shards(configuration, layout),
            copies: unwhole(configuration, &layout.copies),
        }
    }
}
