//! What a change of the document would move: for an operator to read before it is made.

use core::fmt;
use std::collections::BTreeSet;

use super::command::{ConfigCommand, apply};
use super::document::Configuration;
use super::ownership::ShardRef;
use super::rejection::Rejection;
use crate::ids::{LogId, NodeId};

/// Whether a shard is there before and after a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Presence {
    /// Before and after.
    Kept,
    /// Only after: its log will be founded.
    Added,
    /// Only before: its log and its copies go.
    Dropped,
}

/// What a change means for one shard. Servers are given by name, in the order of the places.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShardMoves {
    /// The database.
    pub database: String,
    /// The shard.
    pub shard: String,
    /// Whether it comes or goes.
    pub presence: Presence,
    /// Who will hold a copy and does not yet.
    pub gains: Vec<String>,
    /// Who holds a copy and will not.
    pub loses: Vec<String>,
    /// Who has a place from now on and is not in the cluster.
    pub awaited: Vec<String>,
    /// Who owns it before.
    pub owner_before: Option<String>,
    /// Who is to own it.
    pub owner_after: Option<String>,
}

impl ShardMoves {
    fn is_nothing(&self) -> bool {
        self.presence == Presence::Kept
            && self.gains.is_empty()
            && self.loses.is_empty()
            && self.awaited.is_empty()
            && self.owner_before == self.owner_after
    }
}

impl fmt::Display for ShardMoves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:", self.database, self.shard)?;
        match self.presence {
            Presence::Kept => {}
            Presence::Added => f.write_str(" is new;")?,
            Presence::Dropped => f.write_str(" is dropped;")?,
        }
        let lists = [("on", &self.gains), ("no longer on", &self.loses), ("awaits", &self.awaited)];
        for (what, names) in lists.into_iter().filter(|(_, names)| !names.is_empty()) {
            write!(f, " {what} {};", names.join(", "))?;
        }
        let name = |owner: &Option<String>| owner.clone().unwrap_or_else(|| "nobody".to_owned());
        if self.owner_before == self.owner_after {
            write!(f, " owner {}", name(&self.owner_after))
        } else {
            write!(f, " owner {}, before {}", name(&self.owner_after), name(&self.owner_before))
        }
    }
}

/// What differs for each shard between two versions of the document; shards for which nothing does
/// are left out. A shard that was dropped and made anew is both dropped and added.
#[must_use]
pub fn what_moves(before: &Configuration, after: &Configuration) -> Vec<ShardMoves> {
    let same = |shard: ShardRef<'_>, document: &Configuration| {
        let other = document.shard(shard.database_name, shard.name);
        other.is_some_and(|other| other.shard.log == shard.shard.log)
    };
    let dropped = before.shards().filter(|shard| !same(*shard, after));
    let mut all: Vec<(LogId, ShardMoves)> =
        dropped.map(|shard| (shard.shard.log, moves(Some(shard), None))).collect();
    for shard in after.shards() {
        let old = before.shard(shard.database_name, shard.name);
        let old = old.filter(|old| old.shard.log == shard.shard.log);
        all.push((shard.shard.log, moves(old, Some(shard))));
    }
    all.retain(|(_, moves)| !moves.is_nothing());
    let name = |moves: &ShardMoves| (moves.database.clone(), moves.shard.clone());
    all.sort_by_cached_key(|(log, moves)| (name(moves), *log));
    all.into_iter().map(|(_, moves)| moves).collect()
}

/// What `command` would move, were it applied to `document` now.
///
/// # Errors
/// The [`Rejection`] that the command would meet.
pub fn preview(
    document: &Configuration,
    command: &ConfigCommand,
) -> Result<Vec<ShardMoves>, Rejection> {
    let mut after = Some(document.clone());
    apply(&mut after, command)?;
    Ok(after.map_or_else(Vec::new, |after| what_moves(document, &after)))
}

fn moves(before: Option<ShardRef<'_>>, after: Option<ShardRef<'_>>) -> ShardMoves {
    let (any, presence) = match (before, after) {
        (Some(_), Some(after)) => (after, Presence::Kept),
        (None, Some(after)) => (after, Presence::Added),
        (Some(before), None) => (before, Presence::Dropped),
        (None, None) => unreachable!("a shard is there before or after"),
    };
    let ids = |shard: Option<ShardRef<'_>>| -> BTreeSet<NodeId> {
        shard.map(|shard| shard.servers().map(|(id, _)| id).collect()).unwrap_or_default()
    };
    let without = |shard: Option<ShardRef<'_>>, others: BTreeSet<NodeId>| -> Vec<String> {
        let servers = shard.into_iter().flat_map(ShardRef::servers);
        servers.filter(|(id, _)| !others.contains(id)).map(|(_, s)| s.name.clone()).collect()
    };
    let known: BTreeSet<&str> = before.into_iter().flat_map(ShardRef::awaited).collect();
    let awaited =
        after.into_iter().flat_map(ShardRef::awaited).filter(|name| !known.contains(name));
    let owner = |shard: Option<ShardRef<'_>>| {
        let shard = shard?;
        shard.preferred_owner().map(|owner| shard.document.name_of(owner))
    };
    ShardMoves {
        database: any.database_name.to_owned(),
        shard: any.name.to_owned(),
        presence,
        gains: without(after, ids(before)),
        loses: without(before, ids(after)),
        awaited: awaited.map(str::to_owned).collect(),
        owner_before: owner(before),
        owner_after: owner(after),
    }
}
