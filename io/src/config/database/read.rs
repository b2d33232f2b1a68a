//! From JSON to [`DatabaseConfig`]. The only place that says `clusters`.

use std::collections::{BTreeMap, BTreeSet};

use quorate_core::configuration::{
    AutoRemove, Configuration, Registration, Role, check_server_name,
};

use super::super::error::{ConfigError, Place};
use super::super::hazelcast::{AUTO_REMOVE, At, auto_remove_of};
use super::super::json::{Json, Kind, join};
use super::super::note::Notes;
use super::{DataCenter, DatabaseConfig, ExecutionMode, Placement, QuorumRule, ShardRules};

type Result<T> = std::result::Result<T, ConfigError>;

const QUORUM: &str = "a number from 1 to 64, \"majority\", \"all\" or \"localDataCenter\"";
const SERVER: &str = "a server's name: 1 to 64 letters, digits, - or _";
const OBJECT: &str = "an object: {\"name\": value, …}";
const LIST: &str = "a list: [value, …]";
const OLD: &str = "is ignored: OrientDB has no such setting since 2.2";
const KEYS: [&str; 12] = [
    "autoDeploy",
    "executionMode",
    "readQuorum",
    "writeQuorum",
    "readYourWrites",
    "newNodeStrategy",
    "dataCenters",
    "servers",
    "clusters",
    "version",
    "autoRemoveOfflineServers",
    "owner",
];

/// A value with its path.
struct Field<'a> {
    file: &'a str,
    path: String,
    json: &'a Json,
}

pub(super) fn database(file: &str, json: &Json, notes: &mut Notes) -> Result<DatabaseConfig> {
    let root = Field { file, path: String::new(), json };
    let mut config = DatabaseConfig { shards: BTreeMap::new(), ..DatabaseConfig::default() };
    let mut local = Vec::new();
    for (name, field) in root.fields()? {
        match name {
            "autoDeploy" => config.auto_deploy = field.bool()?,
            "executionMode" => config.execution_mode = execution_mode(&field)?,
            "readQuorum" => config.read_quorum = quorum(&field, &mut local, notes)?,
            "writeQuorum" => config.write_quorum = quorum(&field, &mut local, notes)?,
            "readYourWrites" => config.read_your_writes = field.bool()?,
            "newNodeStrategy" => config.new_node_strategy = strategy(&field)?,
            "servers" => config.servers = roles(&field)?,
            "dataCenters" => config.data_centers = data_centers(&field, notes)?,
            "clusters" => config.shards = shards(&field, &mut local, notes)?,
            "version" => config.version = version(&field)?,
            "autoRemoveOfflineServers" => {
                config.auto_remove = Some(At { value: auto_remove(&field)?, place: field.place() });
            }
            "hotAlignment" | "failureAvailableNodesLessQuorum" => notes.info(field.place(), OLD),
            _ => unknown(name, &field, notes),
        }
    }
    match local.into_iter().next() {
        Some(place) if config.data_centers.is_empty() => Err(ConfigError::value(
            place,
            "localDataCenter",
            "a number from 1 to 64, \"majority\" or \"all\"; or this one, with \"dataCenters\"",
        )),
        _ => Ok(config),
    }
}

impl<'a> Field<'a> {
    fn place(&self) -> Place {
        let path = if self.path.is_empty() { "the file".to_owned() } else { self.path.clone() };
        Place { file: self.file.to_owned(), line: self.json.line, path }
    }

    fn refused(&self, allowed: impl Into<String>) -> ConfigError {
        let value = match &self.json.kind {
            Kind::Null => "null".to_owned(),
            Kind::Bool(value) => value.to_string(),
            Kind::Number(value) => value.to_string(),
            Kind::Text(value) => value.clone(),
            Kind::List(_) => "a list".to_owned(),
            Kind::Object(_) => "an object".to_owned(),
        };
        ConfigError::value(self.place(), &value, allowed)
    }

    fn fields(&self) -> Result<impl Iterator<Item = (&'a str, Field<'a>)>> {
        let Kind::Object(fields) = &self.json.kind else { return Err(self.refused(OBJECT)) };
        let (file, path) = (self.file, self.path.clone());
        Ok(fields.iter().map(move |(name, json)| {
            (name.as_str(), Field { file, path: join(&path, name), json })
        }))
    }

    fn items(&self) -> Result<impl Iterator<Item = Field<'a>>> {
        let Kind::List(items) = &self.json.kind else { return Err(self.refused(LIST)) };
        let (file, path) = (self.file, self.path.clone());
        let with_path = move |(at, json)| Field { file, path: format!("{path}[{at}]"), json };
        Ok(items.iter().enumerate().map(with_path))
    }

    fn bool(&self) -> Result<bool> {
        let Kind::Bool(value) = self.json.kind else { return Err(self.refused("true or false")) };
        Ok(value)
    }

    /// The text in lower case: words are compared without regard to case.
    fn word(&self) -> Option<String> {
        let Kind::Text(text) = &self.json.kind else { return None };
        Some(text.trim().to_ascii_lowercase())
    }

    fn integer(&self) -> Option<i64> {
        let Kind::Number(number) = &self.json.kind else { return None };
        number.as_i64()
    }

    fn server(&self) -> Result<String> {
        match &self.json.kind {
            Kind::Text(name) if check_server_name(name).is_ok() => Ok(name.clone()),
            _ => Err(self.refused(SERVER)),
        }
    }
}

fn unknown(name: &str, field: &Field<'_>, notes: &mut Notes) {
    match KEYS.iter().find(|key| **key != name && key.eq_ignore_ascii_case(name)) {
        Some(key) => notes.warn(field.place(), format!("is ignored: write this key as {key:?}")),
        None => notes.info(field.place(), "is ignored: it has no meaning here"),
    }
}

fn execution_mode(field: &Field<'_>) -> Result<ExecutionMode> {
    match field.word().as_deref() {
        Some("undefined") => Ok(ExecutionMode::Undefined),
        Some("synchronous") => Ok(ExecutionMode::Synchronous),
        Some("asynchronous") => Ok(ExecutionMode::Asynchronous),
        _ => Err(field.refused("\"undefined\", \"synchronous\" or \"asynchronous\"")),
    }
}

/// Places that say `localDataCenter` are gathered: whether it is allowed is known at the end.
fn quorum(field: &Field<'_>, local: &mut Vec<Place>, notes: &mut Notes) -> Result<QuorumRule> {
    if let Some(number) = field.integer() {
        if number == 0 {
            notes.warn(field.place(), "is 0 and counts as 1: no quorum is below one copy");
            return Ok(QuorumRule::Count(1));
        }
        let most = Configuration::SERVERS_MAX;
        let count = usize::try_from(number).ok().filter(|count| (1..=most).contains(count));
        let count = count.and_then(|count| u32::try_from(count).ok());
        return count.map(QuorumRule::Count).ok_or_else(|| field.refused(QUORUM));
    }
    match field.word().as_deref() {
        Some("majority") => Ok(QuorumRule::Majority),
        Some("all") => Ok(QuorumRule::All),
        Some("localdatacenter") => {
            local.push(field.place());
            Ok(QuorumRule::LocalDataCenter)
        }
        _ => Err(field.refused(QUORUM)),
    }
}

fn strategy(field: &Field<'_>) -> Result<Registration> {
    match field.word().as_deref() {
        Some("static") => Ok(Registration::Static),
        Some("dynamic") => Ok(Registration::Dynamic),
        _ => Err(field.refused("\"static\" or \"dynamic\"")),
    }
}

fn roles(field: &Field<'_>) -> Result<BTreeMap<String, Role>> {
    let mut roles = BTreeMap::new();
    for (name, role) in field.fields()? {
        if name != "*" && check_server_name(name).is_err() {
            let allowed = format!("{SERVER}, or * for all others");
            return Err(ConfigError::value(role.place(), name, allowed));
        }
        let value = match role.word().as_deref() {
            Some("master") => Role::Master,
            Some("replica") => Role::Replica,
            _ => return Err(role.refused("\"master\" or \"replica\"")),
        };
        roles.insert(name.to_owned(), value);
    }
    Ok(roles)
}

fn data_centers(field: &Field<'_>, notes: &mut Notes) -> Result<BTreeMap<String, DataCenter>> {
    let mut all = BTreeMap::new();
    let mut taken: BTreeMap<String, u32> = BTreeMap::new();
    for (name, center) in field.fields()? {
        let mut read = DataCenter { write_quorum: QuorumRule::Majority, servers: Vec::new() };
        for (key, value) in center.fields()? {
            match key {
                "writeQuorum" => {
                    read.write_quorum = quorum(&value, &mut Vec::new(), notes)?;
                    if read.write_quorum == QuorumRule::LocalDataCenter {
                        let allowed = "a number from 1 to 64, \"majority\" or \"all\"";
                        return Err(value.refused(allowed));
                    }
                }
                "servers" => {
                    for item in value.items()? {
                        let server = item.server()?;
                        if let Some(first) = taken.insert(server.clone(), item.json.line) {
                            let place = item.place();
                            return Err(ConfigError::Duplicate { place, first });
                        }
                        read.servers.push(server);
                    }
                }
                _ => unknown(key, &value, notes),
            }
        }
        if read.servers.is_empty() {
            return Err(ConfigError::Missing { place: center.place(), missing: "\"servers\"" });
        }
        all.insert(name.to_owned(), read);
    }
    if !all.is_empty() {
        notes.warn(
            field.place(),
            "is read but changes nothing yet: quorums count all masters, wherever they are",
        );
    }
    Ok(all)
}

fn shards(
    field: &Field<'_>,
    local: &mut Vec<Place>,
    notes: &mut Notes,
) -> Result<BTreeMap<String, ShardRules>> {
    let mut all = BTreeMap::new();
    for (name, shard) in field.fields()? {
        all.insert(name.to_owned(), rules(&shard, local, notes)?);
    }
    Ok(all)
}

fn rules(shard: &Field<'_>, local: &mut Vec<Place>, notes: &mut Notes) -> Result<ShardRules> {
    let mut rules = ShardRules::default();
    for (key, value) in shard.fields()? {
        match key {
            "servers" => rules.servers = placements(&value, notes)?,
            "owner" => rules.owner = owner(&value)?,
            "writeQuorum" => rules.write_quorum = Some(quorum(&value, local, notes)?),
            "readQuorum" => rules.read_quorum = Some(quorum(&value, local, notes)?),
            "readYourWrites" => rules.read_your_writes = Some(value.bool()?),
            "hotAlignment" | "failureAvailableNodesLessQuorum" => notes.info(value.place(), OLD),
            _ => unknown(key, &value, notes),
        }
    }
    Ok(rules)
}

fn placements(field: &Field<'_>, notes: &mut Notes) -> Result<Vec<Placement>> {
    let mut all = Vec::new();
    let mut seen = BTreeSet::new();
    for item in field.items()? {
        let placement = match item.word().as_deref() {
            Some("<new_node>") => Placement::NewNode,
            _ => Placement::Server(
                item.server().map_err(|_| item.refused(format!("<NEW_NODE>, or {SERVER}")))?,
            ),
        };
        if seen.insert(placement.clone()) {
            all.push(placement);
        } else {
            notes.warn(item.place(), "is named twice in this list; once is enough");
        }
    }
    Ok(all)
}

/// An empty owner is none, as in files that OrientDB wrote itself.
fn owner(field: &Field<'_>) -> Result<Option<String>> {
    match &field.json.kind {
        Kind::Null => Ok(None),
        Kind::Text(name) if name.is_empty() => Ok(None),
        _ => field.server().map(Some),
    }
}

fn version(field: &Field<'_>) -> Result<u64> {
    let number = field.integer().and_then(|number| u64::try_from(number).ok());
    number.ok_or_else(|| field.refused("a whole number from 0 on"))
}

fn auto_remove(field: &Field<'_>) -> Result<AutoRemove> {
    field.integer().and_then(auto_remove_of).ok_or_else(|| field.refused(AUTO_REMOVE))
}
