//! What an operator says of a database, checked, and what the document makes of it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::database::{
    CopyStatus, Database, EVERY, HOLLOW, MAIN, Place, PlaceRule, QuorumRule, Settings, Shard,
    role_of_name,
};
use super::document::{Configuration, Role, ServerStatus};
use super::founding::Founding;
use super::ownership::ShardRef;
use super::placement;
use super::rejection::{Rejection, check_server_name};
use crate::ids::{LogId, NodeId};

/// What an operator says of a database: the content of its JSON.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct DatabaseRules {
    /// What holds for all shards: the top level, with `*` over it.
    pub settings: Settings,
    /// The shards that the JSON names, but for `*`, `internal` and `index`.
    pub shards: BTreeMap<String, ShardRules>,
}

/// What an operator says of one shard; `None`: as for all shards.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ShardRules {
    /// Who holds a copy, in order. Servers and owner belong together: a shard that names servers
    /// does not get its owner from `*`.
    pub places: Option<Vec<PlaceRule>>,
    /// The static owner.
    pub owner: Option<String>,
    /// Overrides the database's.
    pub write_quorum: Option<QuorumRule>,
    /// Overrides the database's.
    pub read_quorum: Option<QuorumRule>,
    /// Overrides the database's.
    pub read_your_writes: Option<bool>,
}

impl DatabaseRules {
    /// What an operator would have to say to get `database` as it is: configured by it, nothing moves.
    ///
    /// Servers that came by the mark are left to it. A shard that is where `*` says, under the same
    /// owner, says nothing of its own about that.
    #[must_use]
    pub fn of(database: &Database) -> Self {
        let settings = &database.settings;
        let rules = |shard: &Shard| {
            let places: Vec<PlaceRule> = shard.places.iter().filter_map(rule_of).collect();
            let as_all = places == settings.places && shard.owner == settings.owner;
            ShardRules {
                places: (!as_all).then_some(places),
                owner: shard.owner.clone().filter(|_| !as_all),
                write_quorum: shard.write_quorum,
                read_quorum: shard.read_quorum,
                read_your_writes: shard.read_your_writes,
            }
        };
        let shards = database.shards.iter().map(|(name, shard)| (name.clone(), rules(shard)));
        Self { settings: settings.clone(), shards: shards.collect() }
    }
}

fn rule_of(place: &Place) -> Option<PlaceRule> {
    match place {
        Place::Named(name) => Some(PlaceRule::Server(name.clone())),
        Place::NewNode => Some(PlaceRule::NewNode),
        Place::Joined(_) => None,
    }
}

/// The names of the shards that `rules` ask for, [`MAIN`] always among them.
pub(super) fn shard_names(rules: &DatabaseRules) -> BTreeSet<String> {
    let named = rules.shards.keys().filter(|name| *name != EVERY && !is_hollow(name));
    named.cloned().chain([MAIN.to_owned()]).collect()
}

fn is_hollow(name: &str) -> bool {
    HOLLOW.iter().any(|hollow| hollow.eq_ignore_ascii_case(name))
}

/// Whether `name` can be a shard's: it names a directory, also where letters have no case.
pub(super) fn check_shard_name(database: &str, name: &str) -> Result<(), Rejection> {
    if check_server_name(name).is_ok() && !is_hollow(name) {
        return Ok(());
    }
    let shard = name.chars().take(80).collect();
    Err(Rejection::BadShardName { database: database.to_owned(), shard })
}

/// Checks names in the settings themselves.
pub(super) fn check_settings(settings: &Settings) -> Result<(), Rejection> {
    let roles = settings.roles.keys().filter(|name| *name != EVERY);
    let places = settings.places.iter().filter_map(|place| match place {
        PlaceRule::Server(name) => Some(name),
        PlaceRule::NewNode => None,
    });
    let listed = settings.data_centers.values().flatten();
    let names = roles.chain(places).chain(&settings.owner).chain(listed);
    names.chain(settings.data_centers.keys()).try_for_each(|name| check_server_name(name))
}

/// When what is asked for was found to be in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Judged {
    /// It is looked at now.
    Now,
    /// It was agreed on before: that roles are others since refuses it no more than it would if it was
    /// there already.
    Before,
}

/// A shard that is to be, in a database that has no such shard yet.
pub(super) struct Site<'a> {
    pub(super) held: &'a Configuration,
    /// The name of the database.
    pub(super) name: &'a str,
    /// Its settings are those that will hold.
    pub(super) database: &'a Database,
    pub(super) judged: Judged,
}

impl Site<'_> {
    /// The shard that `rules` mean, placed and checked, with `log`. It keeps from `before` what
    /// rules cannot change; without one it is founded.
    pub(super) fn shard(
        &self,
        shard: &str,
        rules: &ShardRules,
        before: Option<&Shard>,
        log: LogId,
    ) -> Result<Shard, Rejection> {
        let settings = &self.database.settings;
        let places = rules.places.as_ref().unwrap_or(&settings.places);
        let (asked, max) = (places.len(), Configuration::SERVERS_MAX + 1);
        if asked > max {
            let (database, shard) = (self.name.to_owned(), shard.to_owned());
            return Err(Rejection::TooManyPlaces { database, shard, asked, max: max - 1 });
        }
        for place in places {
            if let PlaceRule::Server(name) = place {
                check_server_name(name)?;
            }
        }
        let inherited = settings.owner.as_ref().filter(|_| rules.places.is_none());
        let old_places = before.map(|shard| shard.places.as_slice()).unwrap_or_default();
        let version = self.held.version.next();
        let mut made = Shard {
            log,
            places: placement::places(self.held, places, old_places),
            owner: None,
            write_quorum: rules.write_quorum,
            read_quorum: rules.read_quorum,
            read_your_writes: rules.read_your_writes,
            copies: before.map(|shard| shard.copies.clone()).unwrap_or_default(),
            revised: before.map_or(version, |shard| shard.revised),
            founding: before.and_then(|shard| shard.founding.clone()),
        };
        self.check_places(self.seen(shard, &made))?;
        if let Some(owner) = rules.owner.as_ref().or(inherited) {
            self.give(shard, &mut made, owner)?;
        }
        if self.judged == Judged::Now {
            check_quorums(self.seen(shard, &made), 0)?;
        }
        if before.is_none() {
            self.found(shard, &mut made)?;
        }
        Ok(made)
    }

    fn seen<'s>(&'s self, name: &'s str, shard: &'s Shard) -> ShardRef<'s> {
        let Site { held: document, name: database_name, database, .. } = *self;
        ShardRef { document, database_name, database, name, shard }
    }

    fn check_places(&self, shard: ShardRef<'_>) -> Result<(), Rejection> {
        let names = || (shard.database_name.to_owned(), shard.name.to_owned());
        if shard.shard.places.is_empty() {
            let (database, shard) = names();
            return Err(Rejection::NoPlace { database, shard });
        }
        if shard.servers().next().is_none() {
            let servers = shard.awaited().map(str::to_owned).collect();
            let (database, shard) = names();
            return Err(Rejection::NoneThere { database, shard, servers });
        }
        if shard.masters().next().is_none() {
            let (database, shard) = names();
            return Err(Rejection::NoMaster { database, shard });
        }
        Ok(())
    }

    /// Makes `owner` the static owner. Its place is by name from now on: an owner is awaited.
    pub(super) fn give(&self, name: &str, shard: &mut Shard, owner: &str) -> Result<(), Rejection> {
        let (database, shard_name) = (self.name.to_owned(), name.to_owned());
        let server = self.held.by_name(owner);
        let joined = server.map(|(id, _)| Place::Joined(id));
        let named = Place::Named(owner.to_owned());
        let place = shard.places.iter_mut().find(|p| **p == named || Some(&**p) == joined.as_ref());
        let Some(place) = place else {
            let owner = owner.to_owned();
            return Err(Rejection::OwnerNotListed { database, shard: shard_name, owner });
        };
        let role = match server {
            Some((_, server)) => self.database.role_of(server),
            None => role_of_name(&self.database.settings, owner),
        };
        if role == Role::Replica && self.judged == Judged::Now {
            let owner = owner.to_owned();
            return Err(Rejection::OwnerIsReplica { database, shard: shard_name, owner });
        }
        *place = named;
        shard.owner = Some(owner.to_owned());
        Ok(())
    }

    /// Fixes how the log begins: its voters are the masters that are there, and their copies, all
    /// empty, are equal, hence online.
    fn found(&self, name: &str, shard: &mut Shard) -> Result<(), Rejection> {
        let seen = self.seen(name, shard);
        let (there, away): (Vec<_>, Vec<_>) =
            seen.masters().partition(|(_, server)| server.status == ServerStatus::Online);
        let voters: BTreeSet<NodeId> = there.into_iter().map(|(id, _)| id).collect();
        let away = away.into_iter().map(|(_, server)| server.name.clone()).collect();
        let status = |id: NodeId| match voters.contains(&id) {
            true => CopyStatus::Online,
            false => CopyStatus::NotAvailable,
        };
        shard.copies = seen.servers().map(|(id, _)| (id, status(id))).collect();
        let Some(tie_breaker) = self.seen(name, shard).preferred_leader() else {
            let (database, shard) = (self.name.to_owned(), name.to_owned());
            return Err(Rejection::NoneOnline { database, shard, away });
        };
        shard.founding = Some(Founding::new(voters, tie_breaker, self.held.version.next()));
        Ok(())
    }
}

/// A quorum that is given as a number must be within the masters that the shard could have, were
/// there `fewer` of them. The mark has place for any number.
pub(super) fn check_quorums(shard: ShardRef<'_>, fewer: usize) -> Result<(), Rejection> {
    let settings = &shard.database.settings;
    let awaited = shard.awaited().filter(|name| role_of_name(settings, name) == Role::Master);
    let most = match shard.shard.places.contains(&Place::NewNode) {
        true => Configuration::SERVERS_MAX,
        false => (shard.masters().count() + awaited.count()).saturating_sub(fewer),
    };
    let quorums = [("writeQuorum", shard.write_quorum()), ("readQuorum", shard.read_quorum())];
    for (key, quorum) in quorums {
        if let QuorumRule::Count(asked) = quorum
            && quorum.copies(most) > most
        {
            let (database, shard) = (shard.database_name.to_owned(), shard.name.to_owned());
            let key = key.to_owned();
            return Err(Rejection::QuorumTooLarge { database, shard, key, asked, most });
        }
    }
    Ok(())
}
