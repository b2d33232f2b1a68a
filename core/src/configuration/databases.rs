//! Databases come, change and go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::command::{Applied, ConfigCommand};
use super::database::{CopyStatus, Database, MAIN, Shard};
use super::document::Configuration;
use super::moves::preview;
use super::ownership::ShardRef;
use super::rejection::{Rejection, check_server_name};
use super::rules::{
    DatabaseRules, Judged, ShardRules, Site, check_settings, check_shard_name, shard_names,
};
use super::{bringing, placement};
use crate::ids::{ConfigVersion, DatabaseId, LogId, NodeId};

pub(super) fn transition(
    held: &mut Configuration,
    command: &ConfigCommand,
) -> Result<Applied, Rejection> {
    match command {
        ConfigCommand::CreateDatabase { name, id, rules } => {
            create(held, name, *id, rules, Judged::Now)
        }
        ConfigCommand::DropDatabase { name } => match held.databases.remove(name) {
            Some(_) => Ok(Applied::Changed),
            None => bringing::give_up(held, name)
                .ok_or_else(|| Rejection::UnknownDatabase { name: name.clone() }),
        },
        ConfigCommand::Configure { name, id, rules, drop } => {
            configure(held, name, *id, (rules, drop))
        }
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

/// Everything for which `command` would be refused, as far as it can be told at once: of a database's
/// rules each shard is looked at, where the command itself stops at the first that is wrong.
#[must_use]
pub fn problems(document: &Configuration, command: &ConfigCommand) -> Vec<Rejection> {
    let made = match command {
        ConfigCommand::CreateDatabase { name, id, rules } => {
            new_database(document, name, *id, rules)
                .map(|new| make(document, name, new, rules, Judged::Now))
        }
        ConfigCommand::Configure { name, id, rules, drop } => {
            changed_database(document, name, *id, (rules, drop))
                .map(|changed| make(document, name, changed, rules, Judged::Now))
        }
        _ => Ok(Err(Vec::new())),
    };
    match made {
        Ok(Err(problems)) if !problems.is_empty() => problems,
        Err(problem) => vec![problem],
        Ok(_) => preview(document, command).err().into_iter().collect(),
    }
}

pub(super) fn create(
    held: &mut Configuration,
    name: &str,
    id: DatabaseId,
    rules: &DatabaseRules,
    judged: Judged,
) -> Result<Applied, Rejection> {
    let empty = new_database(held, name, id, rules)?;
    put(held, name, empty, rules, judged)
}

fn new_database(
    held: &Configuration,
    name: &str,
    id: DatabaseId,
    rules: &DatabaseRules,
) -> Result<Database, Rejection> {
    if check_server_name(name).is_err() {
        return Err(Rejection::BadDatabaseName { name: name.chars().take(80).collect() });
    }
    // Names become directories, and not every file system tells upper from lower case.
    if let Some(taken) = held.databases.keys().find(|held| held.eq_ignore_ascii_case(name)) {
        return Err(Rejection::DatabaseExists { name: taken.clone() });
    }
    if let Some((cluster, bringing)) = held.reserved(name) {
        let (name, server) = (name.to_owned(), bringing.name.clone());
        return Err(Rejection::NameReserved { name, server, cluster });
    }
    if !held.expect_met {
        let present = u32::try_from(held.servers.len()).unwrap_or(u32::MAX);
        return Err(Rejection::ExpectNotMet { expected: held.defaults.expect, present });
    }
    let (reserved, _) = held.reserved_room();
    if held.databases.len() + reserved >= Configuration::DATABASES_MAX {
        return Err(Rejection::TooManyDatabases { max: Configuration::DATABASES_MAX });
    }
    let created = held.version.next();
    Ok(Database { id, created, settings: rules.settings.clone(), shards: BTreeMap::new() })
}

fn configure(
    held: &mut Configuration,
    name: &str,
    id: DatabaseId,
    (rules, drop): (&DatabaseRules, &BTreeSet<String>),
) -> Result<Applied, Rejection> {
    let changed = changed_database(held, name, id, (rules, drop))?;
    put(held, name, changed, rules, Judged::Now)
}

/// The database with the settings of `rules` and without the shards that go.
fn changed_database(
    held: &Configuration,
    name: &str,
    id: DatabaseId,
    (rules, drop): (&DatabaseRules, &BTreeSet<String>),
) -> Result<Database, Rejection> {
    let mut database = Database::clone(database(held, name, id)?);
    for shard in drop {
        if shard == MAIN {
            return Err(Rejection::MainShard { database: name.to_owned() });
        }
        if rules.shards.contains_key(shard) {
            let (database, shard) = (name.to_owned(), shard.clone());
            return Err(Rejection::DroppedAndNamed { database, shard });
        }
        database.shards.remove(shard).ok_or_else(|| unknown_shard(name, shard))?;
    }
    database.settings = rules.settings.clone();
    Ok(database)
}

/// Gives `database` the shards that `rules` ask for, and puts it into the document.
fn put(
    held: &mut Configuration,
    name: &str,
    database: Database,
    rules: &DatabaseRules,
    judged: Judged,
) -> Result<Applied, Rejection> {
    match make(held, name, database, rules, judged) {
        Ok((database, last)) => replace(held, name, database, last),
        Err(mut problems) => Err(problems.swap_remove(0)),
    }
}

/// The database with the shards that `rules` ask for, and the last log then; or all that is wrong,
/// each thing once, and at least one.
fn make(
    held: &Configuration,
    name: &str,
    mut database: Database,
    rules: &DatabaseRules,
    judged: Judged,
) -> Result<(Database, LogId), Vec<Rejection>> {
    let mut problems: Vec<Rejection> = check_settings(&rules.settings).err().into_iter().collect();
    let mut names = shard_names(rules);
    names.extend(database.shards.keys().cloned());
    if let Err(problem) = check_room(held, name, names.len()) {
        // Too many to look at each.
        problems.push(problem);
        return Err(problems);
    }
    let as_all = ShardRules::default();
    let mut shards = BTreeMap::new();
    let mut last = held.last_log;
    for shard in names {
        let own = rules.shards.get(&shard).unwrap_or(&as_all);
        let before = database.shards.get(&shard).map(Arc::as_ref);
        let others = shards.keys().chain(database.shards.keys());
        let named = if before.is_none() { check_new_shard(name, &shard, others) } else { Ok(()) };
        let log = before.map_or_else(|| last.next(), |before| before.log);
        let site = Site { held, name, database: &database, judged };
        match named.and_then(|()| site.shard(&shard, own, before, log)) {
            Ok(made) => {
                last = last.max(log);
                shards.insert(shard, Arc::new(made));
            }
            Err(problem) if problems.contains(&problem) => {}
            Err(problem) => problems.push(problem),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    database.shards = shards;
    Ok((database, last))
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
    check_room(held, name, database.shards.len() + 1)?;
    let log = held.last_log.next();
    let made = Site { held, name, database: &database, judged: Judged::Now }
        .shard(shard, rules, None, log)?;
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
        Site { held, name, database: &database, judged: Judged::Now }
            .give(shard, &mut made, owner)?;
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

/// Whether the database `name` may come to have `asked` shards.
fn check_room(held: &Configuration, name: &str, asked: usize) -> Result<(), Rejection> {
    let max = Configuration::SHARDS_MAX;
    if asked > max {
        let database = name.to_owned();
        return Err(Rejection::TooManyShards { database, asked, max });
    }
    let others = held.databases.iter().filter(|(other, _)| *other != name);
    let others = others.map(|(_, database)| database.shards.len()).sum::<usize>();
    let (_, reserved) = held.reserved_room();
    let (asked, max) = (others + reserved + asked, Configuration::LOGS_MAX);
    match asked > max {
        true => Err(Rejection::TooManyLogs { asked, max }),
        false => Ok(()),
    }
}
