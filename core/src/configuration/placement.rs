//! Where shards are: names and marks become servers, and copies follow the servers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::database::{CopyStatus, Place, PlaceRule, Shard};
use super::document::{Configuration, ServerStatus};
use crate::ids::{ConfigVersion, NodeId};

/// The servers by name: resolving the places of thousands of shards must not scan for each.
pub(super) type Names = BTreeMap<String, NodeId>;

pub(super) fn names(held: &Configuration) -> Names {
    held.servers.iter().map(|(id, server)| (server.name.clone(), *id)).collect()
}

/// The server at a place, if there is one now.
pub(super) fn resolve(place: &Place, names: &Names) -> Option<NodeId> {
    match place {
        Place::Named(name) => names.get(name).copied(),
        Place::Joined(node) => Some(*node),
        Place::NewNode => None,
    }
}

/// The places that `rules` mean now. The mark stands for all servers that are in and not named:
/// those that `before` has first and in its order, then by the time they joined.
pub(super) fn places(held: &Configuration, rules: &[PlaceRule], before: &[Place]) -> Vec<Place> {
    let named = |name: &str| rules.contains(&PlaceRule::Server(name.to_owned()));
    let unnamed = held.servers.iter().filter(|(_, server)| !named(&server.name));
    let rank = |id: &NodeId| before.iter().position(|place| *place == Place::Joined(*id));
    let mut joined: Vec<_> =
        unnamed.map(|(id, server)| (rank(id).unwrap_or(usize::MAX), server.joined, *id)).collect();
    joined.sort_unstable();
    let mut places = Vec::new();
    for rule in rules {
        match rule {
            PlaceRule::Server(name) => places.push(Place::Named(name.clone())),
            PlaceRule::NewNode => {
                places.extend(joined.drain(..).map(|(_, _, id)| Place::Joined(id)));
                places.push(Place::NewNode);
            }
        }
    }
    let mut seen = BTreeSet::new();
    places.retain(|place| match place {
        Place::Named(name) => seen.insert(Some(name.clone())),
        Place::NewNode => seen.insert(None),
        Place::Joined(_) => true,
    });
    places
}

/// A server has joined: it takes its predecessor's places, and stands before every mark.
pub(super) fn enter(held: &mut Configuration, node: NodeId, replaces: Option<NodeId>) {
    let name = held.name_of(node);
    change_shards(held, |shard| {
        let mut places = shard.places.clone();
        for place in &mut places {
            if replaces.is_some_and(|old| *place == Place::Joined(old)) {
                *place = Place::Joined(node);
            }
        }
        let listed =
            places.iter().any(|p| *p == Place::Joined(node) || *p == Place::Named(name.clone()));
        if let Some(mark) = places.iter().position(|place| *place == Place::NewNode)
            && !listed
        {
            places.insert(mark, Place::Joined(node));
        }
        (places != shard.places).then(|| Shard { places, ..shard.clone() })
    });
    take_turn(held, node, replaces);
    adapt(held);
}

/// A server goes on under another name: what names it means it still, and its copies stay.
pub(super) fn rename(held: &mut Configuration, from: &str, to: &str) {
    let (was, is) = (PlaceRule::Server(from.to_owned()), PlaceRule::Server(to.to_owned()));
    for database in held.databases.values_mut() {
        let settings = &database.settings;
        let meant = settings.places.contains(&was)
            || settings.owner.as_deref() == Some(from)
            || settings.roles.contains_key(from)
            || settings.roles.contains_key(to)
            || settings.data_centers.values().flatten().any(|name| name == from);
        if meant {
            let settings = &mut Arc::make_mut(database).settings;
            if settings.places.contains(&was) {
                settings.places.retain(|rule| *rule != is);
                for rule in settings.places.iter_mut().filter(|rule| **rule == was) {
                    *rule = is.clone();
                }
            }
            if settings.owner.as_deref() == Some(from) {
                settings.owner = Some(to.to_owned());
            }
            match settings.roles.remove(from) {
                Some(role) => settings.roles.insert(to.to_owned(), role),
                None => settings.roles.remove(to),
            };
            settings.rename_in_data_centers(from, to);
        }
    }
    change_shards(held, |shard| {
        let was = Place::Named(from.to_owned());
        let owns = shard.owner.as_deref() == Some(from);
        if !owns && !shard.places.contains(&was) {
            return None;
        }
        let mut renamed = shard.clone();
        let is = Place::Named(to.to_owned());
        renamed.places.retain(|place| *place != is);
        for place in renamed.places.iter_mut().filter(|place| **place == was) {
            *place = is.clone();
        }
        if owns {
            renamed.owner = Some(to.to_owned());
        }
        Some(renamed)
    });
    adapt(held);
}

/// A newcomer gets a slot: its predecessor's, its own from before, one of a server that is gone, or
/// a new one.
pub(super) fn take_turn(held: &mut Configuration, node: NodeId, replaces: Option<NodeId>) {
    if held.turns.contains(&node) {
        return;
    }
    let of_old = held.turns.iter().position(|id| Some(*id) == replaces);
    let free = || held.turns.iter().position(|id| !held.servers.contains_key(id));
    match of_old.or_else(free) {
        Some(slot) => held.turns[slot] = node,
        None => held.turns.push(node),
    }
    assert!(held.turns.len() <= Configuration::SERVERS_MAX, "a slot a server");
}

/// The copies of a server that has gone away cannot serve: the same change says so.
pub(super) fn gone_away(held: &mut Configuration, node: NodeId) {
    let version = held.version.next();
    change_shards(held, |shard| {
        let status = shard.copies.get(&node)?;
        if matches!(status, CopyStatus::NotAvailable | CopyStatus::Offline) {
            return None;
        }
        let mut changed = shard.clone();
        changed.copies.insert(node, CopyStatus::NotAvailable);
        changed.revised = version;
        Some(changed)
    });
}

/// Brings every shard in line with the servers and its places: a copy for each server that has a
/// place, none for others, and nobody who has lost its place begins a log.
pub(super) fn adapt(held: &mut Configuration) {
    let names = names(held);
    let servers: BTreeSet<NodeId> = held.servers.keys().copied().collect();
    let version = held.version.next();
    change_shards(held, |shard| adapted(shard, &names, &servers, version));
}

fn adapted(
    shard: &Shard,
    names: &Names,
    servers: &BTreeSet<NodeId>,
    version: ConfigVersion,
) -> Option<Shard> {
    let named = |node: &NodeId| {
        let mut all = shard.places.iter().filter(|p| matches!(p, Place::Named(_)));
        all.any(|place| resolve(place, names) == Some(*node))
    };
    let mut places = shard.places.clone();
    places.retain(|place| match place {
        Place::Joined(node) => servers.contains(node) && !named(node),
        Place::Named(_) | Place::NewNode => true,
    });
    let placed: BTreeSet<NodeId> = places.iter().filter_map(|p| resolve(p, names)).collect();
    let founding = shard.founding_among(&placed);
    let same_copies = shard.copies.keys().eq(placed.iter());
    if places == shard.places && same_copies && founding == shard.founding {
        return None;
    }
    let mut shard = Shard { places, founding, ..shard.clone() };
    if !same_copies {
        shard.copies.retain(|node, _| placed.contains(node));
        for node in placed {
            shard.copies.entry(node).or_insert(CopyStatus::NotAvailable);
        }
        shard.revised = version;
    }
    Some(shard)
}

/// Replaces the shards for which `change` gives another one. Databases without such a shard are
/// not touched: versions of the document share them.
pub(super) fn change_shards(
    held: &mut Configuration,
    mut change: impl FnMut(&Shard) -> Option<Shard>,
) {
    for database in held.databases.values_mut() {
        let changed: Vec<(String, Arc<Shard>)> = database
            .shards
            .iter()
            .filter_map(|(name, shard)| change(shard).map(|shard| (name.clone(), shard.into())))
            .collect();
        if !changed.is_empty() {
            Arc::make_mut(database).shards.extend(changed);
        }
    }
}

/// Whether a server is recorded as there.
pub(super) fn is_online(held: &Configuration, node: NodeId) -> bool {
    held.servers.get(&node).is_some_and(|server| server.status == ServerStatus::Online)
}
