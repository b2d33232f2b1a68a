//! Databases come, change and go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::command::{Applied, ConfigCommand};
use super::database::{CopyStatus, Database, MAIN, Shard};
use super::document::Configuration;
use super::ownership::ShardRef;
use super::placement;
use super::rejection::{Rejection, check_server_name};
use super::rules::{
    DatabaseRules, ShardRules, Site, check_settings, check_shard_name, shard_names,
};
use crate::ids::{ConfigVersion, DatabaseId, LogId, NodeId};

pub(super) fn transition(
    held: &mut Configuration,
    command: &ConfigCommand,
) -> Result<Applied, Rejection> {
    match command {
        ConfigCommand::CreateDatabase { name, id, rules } => create(held, name, *id, rules),
        ConfigCommand::DropDatabase { name } => match held.databases.remove(name) {
            Some(_) => Ok(Applied::Changed),
            None => Err(Rejection::UnknownDatabase { name: name.clone() }),
        },
        ConfigCommand::Configure { name, id, rules } => configure(held, name, *id, rules),
        ConfigCommand::AddShard { name, id, shard, rules } => {
            add_shard(held, name, *id, (shard, rules))
        }
        ConfigCommand::DropShard { name, id, shard } => drop_shard(held, name, *id, shard),
        ConfigCommand::SetOwner { name, id, shard, owner } => {
            set_owner(held, name, *id, (shard, owner.as_deref()))
        }
        ConfigCommand::SetCopy { log, node, status, judged_at } => {
            set_copy(held, *log, *node, (*status, *judged_at))
        }
        ConfigCommand::SetOffline { log, node, offline } => {
            set_offline(held, *log, *node, *offline)
        }
        ConfigCommand::Born { log, nodes } => born(held, *log, nodes),
        other => unreachable!("no command about databases: {other:?}"),
    }
}

fn create(
    held: &mut Configuration,
    name: &str,
    id: DatabaseId,
    rules: &DatabaseRules,
) -> Result<Applied, Rejection> {
    if check_server_name(name).is_err() {
        return Err(Rejection::BadDatabaseName { name: name.chars().take(80).collect() });
    }
    // Names become directories, and not every file system tells upper from lower case.
    if let Some(taken) = held.databases.keys().find(|held| held.eq_ignore_ascii_case(name)) {
        return Err(Rejection::DatabaseExists { name: taken.clone() });
    }
    if !held.expect_met {
        let present = u32::try_from(held.servers.len()).unwrap_or(u32::MAX);
        return Err(Rejection::ExpectNotMet { expected: held.defaults.expect, present });
    }
    if held.databases.len() >= Configuration::DATABASES_MAX {
        return Err(Rejection::TooManyDatabases { max: Configuration::DATABASES_MAX });
    }
    let created = held.version.next();
    let settings = rules.settings.clone();
    let empty = Database { id, created, settings, shards: BTreeMap::new() };
    put(held, name, empty, rules)
}

fn configure(
    held: &mut Configuration,
    name: &str,
    id: DatabaseId,
    rules: &DatabaseRules,
) -> Result<Applied, Rejection> {
    let before = database(held, name, id)?;
    let mut database = Database::clone(before);
    database.settings = rules.settings.clone();
    put(held, name, database, rules)
}

/// Gives `database` the shards that `rules` ask for, and puts it into the document.
fn put(
    held: &mut Configuration,
    name: &str,
    mut database: Database,
    rules: &DatabaseRules,
) -> Result<Applied, Rejection> {
    check_settings(&rules.settings)?;
    let mut names = shard_names(rules);
    names.extend(database.shards.keys().cloned());
    check_room(held, name, &database, names.len())?;
    let as_all = ShardRules::default();
    let mut shards = BTreeMap::new();
    let mut last = held.last_log;
    for shard in names {
        let own = rules.shards.get(&shard).unwrap_or(&as_all);
        let before = database.shards.get(&shard).map(Arc::as_ref);
        if before.is_none() {
            check_new_shard(name, &shard, shards.keys().chain(database.shards.keys()))?;
        }
        let log = before.map_or_else(|| last.next(), |before| before.log);
        let made = Site { held, name, database: &database }.shard(&shard, own, before, log)?;
        last = last.max(log);
        shards.insert(shard, Arc::new(made));
    }
    database.shards = shards;
    replace(held, name, database, last)
}

/// Puts `database` in its place, unless it is there already.
fn replace(
    held: &mut Configuration,
    name: &str,
    database: Database,
    last_log: LogId,
) -> Result<Applied, Rejection> {
    let before = held.databases.insert(name.to_owned(), Arc::new(database));
    held.last_log = last_log;
    placement::adapt(held);
    match before.is_some_and(|before| held.databases.get(name) == Some(&before)) {
        true => Ok(Applied::Unchanged),
        false => Ok(Applied::Changed),
    }
}

fn add_shard(
    held: &mut Configuration,
    name: &str,
    id: DatabaseId,
    (shard, rules): (&str, &ShardRules),
) -> Result<Applied, Rejection> {
    let mut database = Database::clone(database(held, name, id)?);
    check_new_shard(name, shard, database.shards.keys())?;
    check_room(held, name, &database, database.shards.len() + 1)?;
    let log = held.last_log.next();
    let made = Site { held, name, database: &database }.shard(shard, rules, None, log)?;
    database.shards.insert(shard.to_owned(), Arc::new(made));
    replace(held, name, database, log)
}

fn drop_shard(
    held: &mut Configuration,
    name: &str,
    id: DatabaseId,
    shard: &str,
) -> Result<Applied, Rejection> {
    let database = database(held, name, id)?;
    if shard == MAIN {
        return Err(Rejection::MainShard { database: name.to_owned() });
    }
    if !database.shards.contains_key(shard) {
        return Err(unknown_shard(name, shard));
    }
    if let Some(database) = held.databases.get_mut(name) {
        Arc::make_mut(database).shards.remove(shard);
    }
    Ok(Applied::Changed)
}

fn set_owner(
    held: &mut Configuration,
    name: &str,
    id: DatabaseId,
    (shard, owner): (&str, Option<&str>),
) -> Result<Applied, Rejection> {
    let mut database = Database::clone(database(held, name, id)?);
    let before = database.shards.get(shard).ok_or_else(|| unknown_shard(name, shard))?;
    let mut made = Shard { owner: None, ..Shard::clone(before) };
    if let Some(owner) = owner {
        Site { held, name, database: &database }.give(shard, &mut made, owner)?;
    }
    database.shards.insert(shard.to_owned(), Arc::new(made));
    let last_log = held.last_log;
    replace(held, name, database, last_log)
}

fn set_copy(
    held: &mut Configuration,
    log: LogId,
    node: NodeId,
    (to, judged_at): (CopyStatus, ConfigVersion),
) -> Result<Applied, Rejection> {
    let (shard, from) = copy(held, log, node)?;
    if from == to {
        return Ok(Applied::Unchanged);
    }
    if judged_at < shard.shard.revised {
        let (revised, asked) = (shard.shard.revised, judged_at);
        let (database, shard) = (shard.database_name.to_owned(), shard.name.to_owned());
        return Err(Rejection::Overtaken { database, shard, revised, asked });
    }
    if !from.may_become(to) {
        return Err(copy_change(shard, node, from, to));
    }
    if to != CopyStatus::NotAvailable && !placement::is_online(held, node) {
        return Err(Rejection::ServerAway { server: held.name_of(node) });
    }
    Ok(put_copy(held, log, node, to))
}

fn set_offline(
    held: &mut Configuration,
    log: LogId,
    node: NodeId,
    offline: bool,
) -> Result<Applied, Rejection> {
    let (_, from) = copy(held, log, node)?;
    let to = match (from, offline) {
        (_, true) => CopyStatus::Offline,
        (CopyStatus::Offline, false) => CopyStatus::NotAvailable,
        (_, false) => from,
    };
    Ok(put_copy(held, log, node, to))
}

fn born(
    held: &mut Configuration,
    log: LogId,
    nodes: &BTreeSet<NodeId>,
) -> Result<Applied, Rejection> {
    let shard = held.shard_of(log).ok_or(Rejection::UnknownLog { log })?;
    let founding = shard.shard.founding_after(nodes);
    if founding == shard.shard.founding {
        return Ok(Applied::Unchanged);
    }
    let (database, shard) = (shard.database_name.to_owned(), shard.name.to_owned());
    change_shard(held, &database, &shard, |shard| shard.founding = founding);
    Ok(Applied::Changed)
}

fn put_copy(held: &mut Configuration, log: LogId, node: NodeId, to: CopyStatus) -> Applied {
    let version = held.version.next();
    let Some(shard) = held.shard_of(log) else { return Applied::Unchanged };
    if shard.shard.copies.get(&node) == Some(&to) {
        return Applied::Unchanged;
    }
    let (database, shard) = (shard.database_name.to_owned(), shard.name.to_owned());
    change_shard(held, &database, &shard, |shard| {
        shard.copies.insert(node, to);
        shard.revised = version;
    });
    Applied::Changed
}

/// Changes one shard and leaves all others shared with the version before.
fn change_shard(
    held: &mut Configuration,
    database: &str,
    shard: &str,
    change: impl FnOnce(&mut Shard),
) {
    let database = held.databases.get_mut(database).map(Arc::make_mut);
    if let Some(shard) = database.and_then(|database| database.shards.get_mut(shard)) {
        change(Arc::make_mut(shard));
    }
}

fn copy(
    held: &Configuration,
    log: LogId,
    node: NodeId,
) -> Result<(ShardRef<'_>, CopyStatus), Rejection> {
    let shard = held.shard_of(log).ok_or(Rejection::UnknownLog { log })?;
    match shard.shard.copies.get(&node) {
        Some(status) => Ok((shard, *status)),
        None => Err(Rejection::NoCopy {
            server: held.name_of(node),
            database: shard.database_name.to_owned(),
            shard: shard.name.to_owned(),
        }),
    }
}

fn copy_change(shard: ShardRef<'_>, node: NodeId, from: CopyStatus, to: CopyStatus) -> Rejection {
    Rejection::CopyChange {
        server: shard.document.name_of(node),
        database: shard.database_name.to_owned(),
        shard: shard.name.to_owned(),
        from,
        to,
    }
}

fn database<'a>(
    held: &'a Configuration,
    name: &str,
    id: DatabaseId,
) -> Result<&'a Database, Rejection> {
    match held.databases.get(name) {
        Some(database) if database.id == id => Ok(database),
        Some(_) => Err(Rejection::OtherDatabase { name: name.to_owned() }),
        None => Err(Rejection::UnknownDatabase { name: name.to_owned() }),
    }
}

fn unknown_shard(database: &str, shard: &str) -> Rejection {
    let shard = shard.chars().take(80).collect();
    Rejection::UnknownShard { database: database.to_owned(), shard }
}

fn check_new_shard<'a>(
    database: &str,
    shard: &str,
    mut held: impl Iterator<Item = &'a String>,
) -> Result<(), Rejection> {
    check_shard_name(database, shard)?;
    match held.find(|held| held.eq_ignore_ascii_case(shard)) {
        Some(taken) => {
            let (database, shard) = (database.to_owned(), taken.clone());
            Err(Rejection::ShardExists { database, shard })
        }
        None => Ok(()),
    }
}

/// Whether `database`, as it is, may come to have `asked` shards.
fn check_room(
    held: &Configuration,
    name: &str,
    database: &Database,
    asked: usize,
) -> Result<(), Rejection> {
    let max = Configuration::SHARDS_MAX;
    if asked > max {
        let database = name.to_owned();
        return Err(Rejection::TooManyShards { database, asked, max });
    }
    let all = held.databases.values().map(|database| database.shards.len()).sum::<usize>();
    let (asked, max) = (all + asked - database.shards.len(), Configuration::LOGS_MAX);
    match asked > max {
        true => Err(Rejection::TooManyLogs { asked, max }),
        false => Ok(()),
    }
}
