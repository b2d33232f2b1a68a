//! Clusters of one server that bring their databases (DESIGN §4.3).
//!
//! Y is a cluster of one server, *the holder*, with databases; X is the cluster that it meets. Y asks,
//! X reserves the names by [`ConfigCommand::Reserve`](super::ConfigCommand::Reserve), Y seals its shards
//! and commits [`ConfigCommand::DissolveBringing`](super::ConfigCommand::DissolveBringing), and the
//! holder joins X with a new id. That `Join` makes the databases in X, in the same entry. What must hold:
//!
//! * *Y alone decides.* From its asking until its `Dissolve` is applied nobody but Y can tell whether it
//!   will dissolve, so X never takes a reservation back by itself: Y does, or an operator of X who drops
//!   the name. Of the questions of one cluster only the latest counts ([`Attempt`]): one that was held up
//!   on its way changes nothing.
//! * *What Y dissolves with is what X has reserved*: the `Dissolve` carries it and is refused if the
//!   document holds anything else by then.
//! * *A shard is imported once.* Its log in X is founded with the holder as its only voter, which writes
//!   as its beginning not an empty copy but the one that it brings: see [`super::Founding`]. So nobody
//!   can write before the content is there, and what makes sure that a log begins once makes sure that it
//!   is imported once. LSNs restart, and the database has a new id, so that tokens of before are known to
//!   be of another one.
//! * *Whole or not at all*: all shards of all databases that were reserved are made in one entry.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::command::Applied;
use super::database::{CopyStatus, PlaceRule};
use super::document::{
    Absorption, Addresses, Configuration, Registration, Role, Server, ServerStatus,
};
use super::founding::{Founding, Origin};
use super::rejection::Rejection;
use super::rules::{DatabaseRules, Judged};
use super::{Shard, databases, placement};
use crate::ids::{ClusterId, DatabaseId, LogId, NodeId};

/// Orders the questions of one cluster: the term of its coordinator, then a number that rises while that
/// one runs.
pub type Attempt = (u64, u64);

/// A database that is brought.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Brought {
    /// Its name, there and here.
    pub name: String,
    /// Its id there.
    pub was: DatabaseId,
    /// The id that it gets here.
    pub id: DatabaseId,
    /// What holds in it, and its shards.
    pub rules: DatabaseRules,
    /// The log of each shard there.
    pub logs: BTreeMap<String, LogId>,
}

/// What a cluster of one server is to bring, and who brings it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Bringing {
    /// The one server.
    pub holder: NodeId,
    /// Its name.
    pub name: String,
    /// Which of its questions this is.
    pub attempt: Attempt,
    /// All its databases, by name; an operator may have given up some since.
    pub databases: Vec<Brought>,
}

impl Bringing {
    /// Whether it is to bring a database of that name; upper and lower case are not told apart.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.databases.iter().any(|database| database.name.eq_ignore_ascii_case(name))
    }

    fn logs(&self) -> usize {
        self.databases.iter().map(|database| database.logs.len()).sum()
    }
}

impl Configuration {
    /// The databases of this cluster, as it would bring them; the ids are those that they have.
    #[must_use]
    pub fn to_bring(&self) -> Vec<Brought> {
        let brought = self.databases.iter().map(|(name, database)| Brought {
            name: name.clone(),
            was: database.id,
            id: database.id,
            rules: DatabaseRules::of(database),
            logs: database.shards.iter().map(|(name, shard)| (name.clone(), shard.log)).collect(),
        });
        brought.collect()
    }

    /// Whether these are all databases of this cluster, as it would bring them, whatever ids they are to
    /// get.
    #[must_use]
    pub fn is_all(&self, databases: &[Brought]) -> bool {
        let as_here = databases.iter().map(|it| Brought { id: it.was, ..it.clone() });
        self.to_bring().into_iter().eq(as_here)
    }

    /// The one server of this cluster, if it has no other and that holds a copy of every shard.
    #[must_use]
    pub fn lone_holder(&self) -> Option<(NodeId, &Server)> {
        let (id, server) = self.servers.iter().next().filter(|_| self.servers.len() == 1)?;
        let whole = self.shards().all(|shard| shard.shard.copies.contains_key(id));
        whole.then_some((*id, server))
    }

    /// Who is to bring a database of that name, and from which cluster.
    #[must_use]
    pub fn reserved(&self, name: &str) -> Option<(ClusterId, &Bringing)> {
        let found = self.bringing.iter().find(|(_, bringing)| bringing.has(name));
        found.map(|(cluster, bringing)| (*cluster, bringing))
    }

    /// How many databases this cluster has, or keeps the names of. Both count alike where it meets
    /// another one: a cluster that has ended may have left what is kept for it to this one alone.
    #[must_use]
    pub fn databases_promised(&self) -> usize {
        self.databases.len() + self.reserved_room().0
    }

    /// How many databases and shards are reserved.
    pub(super) fn reserved_room(&self) -> (usize, usize) {
        let all = self.bringing.values();
        all.fold((0, 0), |(d, l), b| (d + b.databases.len(), l + b.logs()))
    }
}

/// The names are kept for the cluster of one server that is to bring them.
pub(super) fn reserve(
    held: &mut Configuration,
    cluster: ClusterId,
    bringing: &Bringing,
) -> Result<Applied, Rejection> {
    if cluster == held.cluster {
        return Err(Rejection::NotFounding);
    }
    if matches!(held.absorbed.get(&cluster), Some(Absorption::Done | Absorption::Abandoned)) {
        return Err(Rejection::BroughtBefore { cluster });
    }
    let before = held.bringing.remove(&cluster);
    if let Some(before) = &before {
        if before.attempt > bringing.attempt {
            return Err(Rejection::OldAttempt);
        }
        if before == bringing {
            held.bringing.insert(cluster, bringing.clone());
            return Ok(Applied::Unchanged);
        }
    }
    check_name(held, cluster, bringing)?;
    check_free(held, bringing)?;
    // Whatever could be refused when it comes is refused now: afterwards there is no way back.
    let mut trial = held.clone();
    trial.servers.insert(bringing.holder, stand_in(&trial, bringing));
    placement::enter(&mut trial, bringing.holder, None);
    make(&mut trial, cluster, (bringing.holder, &bringing.name), bringing, Judged::Now)?;
    super::merging::absorb(held, cluster)?;
    held.bringing.insert(cluster, bringing.clone());
    Ok(Applied::Changed)
}

/// Once its cluster has ended the holder must come, so its own name must be free too: also that of a
/// server which is away, whose place it would take.
fn check_name(
    held: &Configuration,
    cluster: ClusterId,
    bringing: &Bringing,
) -> Result<(), Rejection> {
    let name = bringing.name.clone();
    super::rejection::check_server_name(&name)?;
    if let Some((_, server)) = held.by_name(&name) {
        return Err(Rejection::DuplicateName { name, holder: server.addresses.node });
    }
    // Whoever joins under the name of a holder that is to come is let in: it may be that holder, with
    // an empty disk.
    let mut others = held.bringing.iter().filter(|(other, _)| **other != cluster);
    match others.find(|(_, other)| other.name == name) {
        Some((cluster, _)) => Err(Rejection::ServerNameReserved { name, cluster: *cluster }),
        None => Ok(()),
    }
}

fn check_free(held: &Configuration, bringing: &Bringing) -> Result<(), Rejection> {
    let taken = |name: &String| {
        held.databases.keys().any(|held| held.eq_ignore_ascii_case(name))
            || held.reserved(name).is_some()
    };
    let names = bringing.databases.iter().map(|database| database.name.clone());
    let names: Vec<String> = names.filter(taken).take(Rejection::NAMES_MAX).collect();
    if !names.is_empty() {
        return Err(Rejection::NamesTaken { names });
    }
    let (databases, logs) = held.reserved_room();
    if held.databases.len() + databases + bringing.databases.len() > Configuration::DATABASES_MAX {
        return Err(Rejection::TooManyDatabases { max: Configuration::DATABASES_MAX });
    }
    let (asked, max) = (held.shards().count() + logs + bringing.logs(), Configuration::LOGS_MAX);
    if asked > max { Err(Rejection::TooManyLogs { asked, max }) } else { Ok(()) }
}

/// The holder as it will be.
fn stand_in(held: &Configuration, bringing: &Bringing) -> Server {
    let nowhere = std::net::SocketAddr::from(([0, 0, 0, 0], 0));
    Server {
        name: bringing.name.clone(),
        role: Role::Master,
        registration: Registration::Static,
        status: ServerStatus::Online,
        addresses: Addresses { node: nowhere, client: None, http: None },
        joined: held.version.next(),
        start: None,
        replaces: None,
    }
}

/// The holder will not bring them, by its own word.
pub(super) fn release(
    held: &mut Configuration,
    cluster: ClusterId,
    attempt: Attempt,
) -> Result<Applied, Rejection> {
    let Some(bringing) = held.bringing.get(&cluster) else { return Ok(Applied::Unchanged) };
    if bringing.attempt > attempt {
        return Err(Rejection::OldAttempt);
    }
    held.bringing.remove(&cluster);
    if held.absorbed.get(&cluster) == Some(&Absorption::Offered) {
        held.absorbed.remove(&cluster);
    }
    Ok(Applied::Changed)
}

/// An operator gives up a name that is reserved. `None`: it is not.
pub(super) fn give_up(held: &mut Configuration, name: &str) -> Option<Applied> {
    let (cluster, _) = held.reserved(name)?;
    let bringing = held.bringing.get_mut(&cluster)?;
    bringing.databases.retain(|database| !database.name.eq_ignore_ascii_case(name));
    if bringing.databases.is_empty() {
        held.bringing.remove(&cluster);
    }
    Some(Applied::Changed)
}

/// Y ends, and its one server brings to X what `databases` says, which must be all there is.
pub(super) fn dissolve(
    held: &mut Configuration,
    into: ClusterId,
    addresses: &[std::net::SocketAddr],
    databases: &[Brought],
) -> Result<Applied, Rejection> {
    if held.lone_holder().is_none() {
        return Err(Rejection::NotAlone);
    }
    if !held.is_all(databases) {
        return Err(Rejection::BringsOther);
    }
    super::merging::end(held, into, addresses, true)
}

/// A server joins that left `cluster` by its `Dissolve`, in which it was `was`: if that is the holder,
/// what it brings is made.
pub(super) fn claim(
    held: &mut Configuration,
    cluster: ClusterId,
    was: NodeId,
    node: NodeId,
) -> Result<Applied, Rejection> {
    let Some(bringing) = held.bringing.get(&cluster).filter(|b| b.holder == was).cloned() else {
        return Ok(Applied::Unchanged);
    };
    held.bringing.remove(&cluster);
    let Some(server) = held.servers.get_mut(&node) else { return Ok(Applied::Unchanged) };
    // Somebody must be able to decide in what it brings.
    server.role = Role::Master;
    let name = server.name.clone();
    make(held, cluster, (node, &name), &bringing, Judged::Before)?;
    Ok(Applied::Changed)
}

/// Makes the databases, each shard founded by the holder alone, which begins it with what it brings.
fn make(
    held: &mut Configuration,
    cluster: ClusterId,
    (node, name): (NodeId, &str),
    bringing: &Bringing,
    judged: Judged,
) -> Result<(), Rejection> {
    for database in &bringing.databases {
        let mut rules = database.rules.clone();
        rename(&mut rules, &bringing.name, name);
        give_place(&mut rules, &database.logs, name);
        databases::create(held, &database.name, database.id, &rules, judged)?;
        let version = held.version.next();
        let Some(made) = held.databases.get_mut(&database.name).map(Arc::make_mut) else {
            continue;
        };
        for (shard, log) in &database.logs {
            let Some(shard) = made.shards.get_mut(shard).map(Arc::make_mut) else { continue };
            found(shard, node, version, Origin { cluster, node: bringing.holder, log: *log });
        }
    }
    Ok(())
}

/// Nothing of the shard is anywhere until its holder has begun it.
fn found(shard: &mut Shard, node: NodeId, version: crate::ids::ConfigVersion, origin: Origin) {
    shard.copies.values_mut().for_each(|status| *status = CopyStatus::NotAvailable);
    assert!(shard.copies.contains_key(&node), "the holder has a place");
    let mut founding = Founding::new(BTreeSet::from([node]), node, version);
    founding.origin = Some(origin);
    shard.founding = Some(founding);
    shard.revised = version;
}

/// What the holder was called there, it may not be called here.
fn rename(rules: &mut DatabaseRules, from: &str, to: &str) {
    if from == to {
        return;
    }
    let of_places = |places: &mut Vec<PlaceRule>| {
        let (was, is) = (PlaceRule::Server(from.to_owned()), PlaceRule::Server(to.to_owned()));
        if places.contains(&was) {
            places.retain(|rule| *rule != is);
            places.iter_mut().filter(|rule| **rule == was).for_each(|rule| *rule = is.clone());
        }
    };
    let of_owner = |owner: &mut Option<String>| {
        if owner.as_deref() == Some(from) {
            *owner = Some(to.to_owned());
        }
    };
    of_places(&mut rules.settings.places);
    of_owner(&mut rules.settings.owner);
    match rules.settings.roles.remove(from) {
        Some(role) => rules.settings.roles.insert(to.to_owned(), role),
        None => rules.settings.roles.remove(to),
    };
    rules.settings.rename_in_data_centers(from, to);
    for shard in rules.shards.values_mut() {
        if let Some(places) = &mut shard.places {
            of_places(places);
        }
        of_owner(&mut shard.owner);
    }
}

/// The holder has a place in every shard that it brings, and may decide in it.
fn give_place(rules: &mut DatabaseRules, shards: &BTreeMap<String, LogId>, name: &str) {
    let own = PlaceRule::Server(name.to_owned());
    let placed =
        |places: &[PlaceRule]| places.contains(&own) || places.contains(&PlaceRule::NewNode);
    for shard in shards.keys() {
        let of_all = placed(&rules.settings.places);
        let mine = rules.shards.entry(shard.clone()).or_default();
        match &mut mine.places {
            Some(places) if !placed(places) => places.insert(0, own.clone()),
            None if !of_all => {
                let mut places = rules.settings.places.clone();
                places.insert(0, own.clone());
                mine.owner = mine.owner.take().or_else(|| rules.settings.owner.clone());
                mine.places = Some(places);
            }
            Some(_) | None => {}
        }
    }
    let listed = rules.settings.roles.get(name).or_else(|| rules.settings.roles.get(super::EVERY));
    if listed == Some(&Role::Replica) {
        rules.settings.roles.insert(name.to_owned(), Role::Master);
    }
}

/// Whether `node` is awaited with what nobody else has.
pub(super) fn is_awaited(shard: &Shard, node: NodeId) -> bool {
    let founding = shard.founding.as_ref();
    founding.is_some_and(|f| f.origin.is_some() && f.unborn.contains(&node))
}
