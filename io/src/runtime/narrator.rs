//! Turns what core reports into log lines that a person can act on.

use std::net::SocketAddr;
use std::sync::Arc;

use quorate_core::configuration::{Absorption, Configuration, Server, ServerStatus};
use quorate_core::{ConfigVersion, Event, LogId, NoQuorum, NodeId, State};
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use super::refusals::Refusals;

/// Remembers the last configuration, so that it can say what changed, and names for ids.
#[derive(Debug)]
pub(super) struct Narrator {
    me: NodeId,
    held: Option<Arc<Configuration>>,
    state: Option<State>,
    refused: Refusals,
}

impl Narrator {
    pub(super) fn new(me: NodeId) -> Self {
        Self { me, held: None, state: None, refused: Refusals::default() }
    }

    /// Writes the line, or the lines, for one event.
    pub(super) fn tell(&mut self, event: &Event) {
        match event {
            Event::Configuration(configuration) => self.configuration(configuration),
            Event::State(state) => self.life(*state),
            Event::Coordinator { node, term } => self.coordinator(*node, term.0),
            Event::Refused { peer } => self.refused(*peer),
            Event::JoinRefused(rejection) => {
                warn!(reason = %rejection, "the cluster does not let this node in; it goes on asking");
            }
            Event::NoQuorum(no_quorum) => no_quorum_lost(no_quorum),
            Event::QuorumRestored => info!("the quorum is back: changes are decided again"),
            Event::Split { other, clash: Some(clash) } => error!(
                other = %other, reason = %clash,
                "SPLIT: one of two clusters of this group has one server, and cannot bring its \
                 databases to the other. Both go on serving; as soon as the reason is gone they \
                 become one"
            ),
            Event::Bringing { into } => warn!(
                %into,
                "this cluster of one server ends, and brings its databases to another of its group: \
                 writes wait until they are there"
            ),
            Event::Brought { database, shard } => info!(
                %database, %shard, "a shard that this node has brought is in its place"
            ),
            Event::NotBrought { database, shard, reason } => error!(
                %database, %shard, %reason,
                "a shard that this node brings cannot be put in its place; it is tried again. Nobody \
                 else has it: do not remove what lies under backup/clusters"
            ),
            Event::Split { other, clash: None } => error!(
                other = %other,
                "SPLIT: another cluster of this group is met, and both hold databases or wait for \
                 some. Both go on serving; an operator must decide which one stays"
            ),
            Event::StalePeer { peer, reason } => warn!(
                peer = self.name(*peer),
                id = %peer,
                %reason,
                "a peer with a restored or cloned data directory was sent away; it can come back \
                 with `quorate start --new-identity`"
            ),
            Event::Copies(_) => {}
            Event::Owner { log, node, term } => {
                debug!(log = log.0, owner = self.name(*node), term = term.0, "a shard has an owner")
            }
            Event::CopyBegan { database, shard, donor, why } => info!(
                %database, %shard, donor = self.name(*donor), %why,
                "a whole copy is fetched: the log alone would not do"
            ),
            Event::CopyDone { database, shard, donor, bytes, kept, ms } => info!(
                %database, %shard, donor = self.name(*donor), bytes, kept, ms,
                "a whole copy has come and takes the place of the old one"
            ),
            Event::CopyFailed { database, shard, donor: Some(donor), reason } => warn!(
                %database, %shard, donor = self.name(*donor), %reason,
                "a copy does not come from this server; what came of it is kept, and another is asked"
            ),
            Event::CopyFailed { database, shard, donor: None, reason } => warn!(
                %database, %shard, %reason,
                "a copy cannot be written here; it is tried again. Look at the data directory's disk"
            ),
            Event::Damaged { log: LogId::CONFIGURATION } => error!(
                "DAMAGED: part of this node's log is unreadable; it takes no part in decisions. \
                 Stop it and bring it back with `quorate start --new-identity`"
            ),
            Event::Damaged { log } => error!(
                log = log.0,
                "DAMAGED: part of a database's log is unreadable; this node takes no part in what is \
                 decided about that database. Stop it and bring it back with \
                 `quorate start --new-identity`"
            ),
            Event::LogUnreadable { log, index } => error!(
                log = log.0,
                entry = index.0,
                "an entry of a database's log cannot be read from the disk any more; whoever lacks it \
                 gets a full copy. Look after the disk"
            ),
            Event::Paused { ms } => warn!(
                ms,
                "this process was not running for a while (a suspended machine, a stopped process, \
                 no processor time); what it believed of others in that time is void"
            ),
        }
    }

    fn refused(&mut self, peer: SocketAddr) {
        if let Some(not_logged) = self.refused.due(peer.ip(), Instant::now()) {
            warn!(
                %peer,
                not_logged,
                "group, password or encryption settings differ from this peer's: neither lets the \
                 other in; make them equal on both. This node goes on trying"
            );
        }
    }

    fn life(&mut self, state: State) {
        if self.state.replace(state) == Some(state) {
            return;
        }
        match state {
            State::Discovering => info!("looking for others"),
            State::Founding => info!("there is no cluster to join: founding one"),
            State::Joining => info!("found a cluster: asking to be let in"),
            State::Returning => info!("was a member before: returning to its cluster"),
            State::Member => info!("is a member of its cluster"),
            State::Leaving => info!("leaving in good order: handing over what it coordinates"),
            State::Left => info!("has left"),
        }
    }

    fn coordinator(&self, node: Option<NodeId>, term: u64) {
        match node {
            Some(node) if node == self.me => info!(term, "this node coordinates now"),
            Some(node) => info!(term, coordinator = self.name(node), "has a coordinator"),
            None => info!(term, "has no coordinator"),
        }
    }

    fn configuration(&mut self, new: &Arc<Configuration>) {
        let old = self.held.replace(Arc::clone(new));
        // What it learns at once, at a start or a join, is one line; later changes are a line each.
        let Some(old) = old.filter(|old| old.cluster == new.cluster) else {
            let servers: Vec<&str> = new.servers.values().map(|s| s.name.as_str()).collect();
            let (cluster, version) = (new.cluster, new.version.0);
            info!(%cluster, version, servers = servers.join(", "), "knows its cluster");
            return;
        };
        let version = new.version;
        for (id, server) in &new.servers {
            match old.servers.get(id) {
                None => joined(version, *id, server, &old),
                Some(before) => changed(version, before, server),
            }
        }
        for (id, server) in old.servers.iter().filter(|(id, _)| !new.servers.contains_key(*id)) {
            let renewed = new.servers.values().any(|s| s.replaces == Some(*id));
            if *id == self.me && self.state == Some(State::Leaving) {
                info!(version = version.0, "the others have taken leave of this node");
            } else if *id == self.me {
                warn!(version = version.0, "this node is no longer a server of the cluster");
            } else if !renewed {
                warn!(version = version.0, server = server.name, %id, "server removed");
            }
        }
        databases_and_clusters(&old, new);
    }

    fn name(&self, node: NodeId) -> String {
        self.held.as_ref().map_or_else(|| node.short(), |c| c.name_of(node))
    }
}

fn no_quorum_lost(no_quorum: &NoQuorum) {
    if no_quorum.missing.is_empty() {
        debug!(voters = no_quorum.voters, "an election is under way");
        return;
    }
    error!(
        missing = no_quorum.missing.join(", "),
        voters = no_quorum.voters,
        enough = no_quorum.tie_breaker,
        "NoQuorum: nothing can be changed until enough of the missing servers are back"
    );
}

fn joined(version: ConfigVersion, id: NodeId, server: &Server, old: &Configuration) {
    let (name, at) = (&server.name, server.addresses.node);
    let (role, registration) = (server.role, server.registration);
    if let Some(before) = server.replaces.filter(|before| old.servers.contains_key(before)) {
        info!(version = version.0, server = name, %id, %before, %at, "server back with a new id");
        return;
    }
    info!(version = version.0, server = name, %id, %at, ?role, ?registration, "server joined");
}

fn changed(version: ConfigVersion, before: &Server, now: &Server) {
    let (version, server) = (version.0, &now.name);
    match (before.status, now.status) {
        (ServerStatus::Online, ServerStatus::Away) => {
            warn!(version, server, "server is AWAY: still counted, and awaited");
        }
        (ServerStatus::Away, ServerStatus::Online) => info!(version, server, "server is back"),
        _ => {}
    }
    if before.name != now.name {
        info!(version, server, before = before.name, "server renamed");
    }
    if before.role != now.role {
        info!(version, server, role = ?now.role, "server has a new role");
    }
    if before.registration != now.registration {
        info!(version, server, registration = ?now.registration, "server is registered anew");
    }
    if before.addresses != now.addresses {
        info!(version, server, at = %now.addresses.node, "server has new addresses");
    }
}

fn databases_and_clusters(old: &Configuration, new: &Configuration) {
    let version = new.version.0;
    for name in new.databases.keys().filter(|name| !old.databases.contains_key(*name)) {
        info!(version, database = name, "database created");
    }
    for name in old.databases.keys().filter(|name| !new.databases.contains_key(*name)) {
        info!(version, database = name, "database dropped");
    }
    for (other, state) in &new.absorbed {
        match (old.absorbed.get(other), state) {
            (None, Absorption::Offered) => {
                info!(version, %other, "another cluster of this group was found: offered to take it in");
            }
            (Some(Absorption::Offered) | None, Absorption::Done) => {
                info!(version, %other, "another cluster of this group has dissolved into this one");
            }
            _ => {}
        }
    }
    if let (None, Some(dissolved)) = (&old.dissolved_into, &new.dissolved_into) {
        warn!(version, into = %dissolved.into, "this cluster has dissolved into another of its group");
    }
}
