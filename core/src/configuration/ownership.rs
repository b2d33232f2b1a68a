//! One shard, seen together with the servers it is on: who votes, who owns, what quorums hold.

use std::collections::BTreeSet;

use super::database::{CopyStatus, Database, Place, QuorumRule, Shard};
use super::document::{Configuration, Role, Server, ServerStatus};
use super::rotation;
use crate::ids::{LogId, NodeId};

/// A shard within its document.
#[derive(Clone, Copy, Debug)]
pub struct ShardRef<'a> {
    /// The document.
    pub document: &'a Configuration,
    /// The name of its database.
    pub database_name: &'a str,
    /// Its database.
    pub database: &'a Database,
    /// Its name.
    pub name: &'a str,
    /// What the document says of it.
    pub shard: &'a Shard,
}

impl Configuration {
    /// All shards, by database and name. Linear in their number: who asks often keeps an index.
    pub fn shards(&self) -> impl Iterator<Item = ShardRef<'_>> {
        self.databases.iter().flat_map(move |(database_name, database)| {
            database.shards.iter().map(move |(name, shard)| {
                let document = self;
                ShardRef { document, database_name, database, name, shard }
            })
        })
    }

    /// The shard of that name.
    #[must_use]
    pub fn shard<'a>(&'a self, database: &str, shard: &str) -> Option<ShardRef<'a>> {
        let (database_name, database) = self.databases.get_key_value(database)?;
        let (name, shard) = database.shards.get_key_value(shard)?;
        Some(ShardRef { document: self, database_name, database, name, shard })
    }

    /// The shard with that log. Linear in the number of shards.
    #[must_use]
    pub fn shard_of(&self, log: LogId) -> Option<ShardRef<'_>> {
        self.shards().find(|shard| shard.shard.log == log)
    }
}

impl<'a> ShardRef<'a> {
    /// The servers that have a place, in the order of the places.
    pub fn servers(self) -> impl Iterator<Item = (NodeId, &'a Server)> {
        let document = self.document;
        self.shard.places.iter().filter_map(move |place| match place {
            Place::Named(name) => document.by_name(name),
            Place::Joined(node) => document.servers.get(node).map(|server| (*node, server)),
            Place::NewNode => None,
        })
    }

    /// Of [`ShardRef::servers`] those that vote and may own.
    pub fn masters(self) -> impl Iterator<Item = (NodeId, &'a Server)> {
        self.servers().filter(move |(_, server)| self.database.role_of(server) == Role::Master)
    }

    /// The names that have a place and no server.
    pub fn awaited(self) -> impl Iterator<Item = &'a str> {
        self.shard.places.iter().filter_map(move |place| match place {
            Place::Named(name) if self.document.by_name(name).is_none() => Some(name.as_str()),
            Place::Named(_) | Place::Joined(_) | Place::NewNode => None,
        })
    }

    /// How many copies are durable before a write is acknowledged.
    #[must_use]
    pub fn write_quorum(self) -> QuorumRule {
        self.shard.write_quorum.unwrap_or(self.database.settings.write_quorum)
    }

    /// How many copies agree on a read.
    #[must_use]
    pub fn read_quorum(self) -> QuorumRule {
        self.shard.read_quorum.unwrap_or(self.database.settings.read_quorum)
    }

    /// Whether reads ask the owner what was acknowledged, and not the copy at hand alone.
    #[must_use]
    pub fn reads_are_linearizable(self) -> bool {
        self.read_quorum().copies(self.masters().count()) > 1
    }

    /// Whether a client sees its own writes.
    #[must_use]
    pub fn read_your_writes(self) -> bool {
        self.shard.read_your_writes.unwrap_or(self.database.settings.read_your_writes)
    }

    /// Who may lead the shard's log for long, the most preferred first: masters that are `ONLINE`
    /// and whose copy is. The static owner is first if it can be, then the server in the first
    /// place if that is named, then all in turns, which differ from log to log.
    ///
    /// Stable: a server that goes moves only what it was first for, and gets just that back. The
    /// turns go by [`Configuration::turns`], which keeps the slot of one that is gone.
    #[must_use]
    pub fn candidates(self) -> Vec<NodeId> {
        let online = |id: &NodeId| self.shard.copies.get(id) == Some(&CopyStatus::Online);
        let fit =
            |(id, server): &(NodeId, &Server)| server.status == ServerStatus::Online && online(id);
        let mut fit: BTreeSet<NodeId> = self.masters().filter(fit).map(|(id, _)| id).collect();
        let by_name = |name: &str| self.document.by_name(name).map(|(id, _)| id);
        let first = match self.shard.places.first() {
            Some(Place::Named(name)) => by_name(name),
            Some(Place::Joined(_) | Place::NewNode) | None => None,
        };
        let preferred = self.shard.owner.as_deref().and_then(by_name).into_iter().chain(first);
        let turns = &self.document.turns;
        let in_turn = rotation::order(self.shard.log.previous().0, turns.len());
        let in_turn = in_turn.into_iter().filter_map(|slot| turns.get(slot).copied());
        let order: Vec<NodeId> = preferred.chain(in_turn).filter(|id| fit.remove(id)).collect();
        assert!(fit.is_empty(), "every server has a slot");
        order
    }

    /// Who is to own the shard: execute all its writes. Nobody while its static owner cannot, or
    /// while no copy is `ONLINE`.
    #[must_use]
    pub fn preferred_owner(self) -> Option<NodeId> {
        self.preferred_leader().filter(|node| self.may_own(*node))
    }

    /// Who is to lead the shard's log: its owner, or, while a static owner cannot, a caretaker, who
    /// sees to membership, copies, reads and updates, and inserts nothing.
    #[must_use]
    pub fn preferred_leader(self) -> Option<NodeId> {
        self.candidates().first().copied()
    }

    /// Whether `node`, leading the log, owns the shard. Otherwise it is a caretaker.
    #[must_use]
    pub fn may_own(self, node: NodeId) -> bool {
        let named = |owner: &str| self.document.by_name(owner).is_some_and(|(id, _)| id == node);
        self.shard.owner.as_deref().is_none_or(named)
    }
}

/// Who is to own `shard`: see [`ShardRef::preferred_owner`].
#[must_use]
pub fn preferred_owner(shard: ShardRef<'_>) -> Option<NodeId> {
    shard.preferred_owner()
}
