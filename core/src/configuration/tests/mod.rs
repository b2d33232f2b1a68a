//! The document's transitions and the plan, one property a test.

mod bounds;
mod bringing;
mod configure;
mod copies;
mod databases;
mod founding;
mod invariants;
mod ownership;
mod plan;
mod shard_plan;
mod sharded;
mod transitions;
mod users;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::{
    Addresses, ConfigCommand, Configuration, CopyStatus, DatabaseRules, Defaults, PlaceRule,
    Registration, RemoveReason, Role, ServerStatus, ShardRef, ShardRules, apply,
};
use crate::ids::{ClusterId, DatabaseId, LogId, NodeId};

fn node(number: u128) -> NodeId {
    NodeId(number)
}

fn nodes(numbers: &[u128]) -> BTreeSet<NodeId> {
    numbers.iter().map(|n| NodeId(*n)).collect()
}

fn addresses(number: u16) -> Addresses {
    let node = SocketAddr::from(([127, 0, 0, 1], 2434 + number));
    Addresses { node, client: None, http: None }
}

fn join(number: u128, name: &str) -> ConfigCommand {
    let addresses = addresses(u16::try_from(number).unwrap());
    ConfigCommand::Join {
        node: node(number),
        name: name.to_owned(),
        addresses,
        start: None,
        dissolved_from: None,
        brings: None,
    }
}

/// A cluster of servers 1 to `count`, named `n1` and so on.
fn founded(count: u128, defaults: Defaults) -> Configuration {
    let mut document = None;
    let found = ConfigCommand::Found {
        cluster: ClusterId(1),
        group: "demo".to_owned(),
        node: node(1),
        name: "n1".to_owned(),
        addresses: addresses(1),
        start: crate::Start { number: 1, nonce: 1 },
        defaults,
    };
    apply(&mut document, &found).unwrap();
    for number in 2..=count {
        apply(&mut document, &join(number, &format!("n{number}"))).unwrap();
    }
    document.unwrap()
}

/// Applies and returns the changed document.
fn after(document: &Configuration, command: &ConfigCommand) -> Configuration {
    let mut document = Some(document.clone());
    apply(&mut document, command).unwrap();
    document.unwrap()
}

/// The reason for which a command is refused; the document must be untouched.
fn refused(document: &Configuration, command: &ConfigCommand) -> super::Rejection {
    let mut changed = Some(document.clone());
    let reason = apply(&mut changed, command).unwrap_err();
    assert_eq!(changed.as_ref(), Some(document), "a refused command changes nothing");
    reason
}

/// A dynamic cluster of servers with these names, numbered from 1.
fn cluster(names: &[&str]) -> Configuration {
    cluster_of(names, Defaults { new_node_strategy: Registration::Dynamic, ..Defaults::default() })
}

fn cluster_of(names: &[&str], defaults: Defaults) -> Configuration {
    let founder = founded(1, defaults);
    let mut document = after(&founder, &join(1, names[0]));
    for (name, number) in names[1..].iter().zip(2..) {
        document = after(&document, &join(number, name));
    }
    document
}

fn away(number: u128) -> ConfigCommand {
    status(number, ServerStatus::Away)
}

fn back(number: u128) -> ConfigCommand {
    status(number, ServerStatus::Online)
}

fn status(number: u128, status: ServerStatus) -> ConfigCommand {
    ConfigCommand::SetStatus { node: node(number), status, addresses: None, start: None }
}

fn remove(number: u128, reason: RemoveReason) -> ConfigCommand {
    ConfigCommand::Remove { node: node(number), reason }
}

fn role(number: u128, role: Role) -> ConfigCommand {
    ConfigCommand::SetRole { node: node(number), role }
}

/// The id of the database that tests create.
const DEMO: DatabaseId = DatabaseId(1 << 100);

fn create(rules: &DatabaseRules) -> ConfigCommand {
    ConfigCommand::CreateDatabase { name: "demo".into(), id: DEMO, rules: Box::new(rules.clone()) }
}

fn configure(rules: &DatabaseRules) -> ConfigCommand {
    ConfigCommand::Configure {
        name: "demo".into(),
        id: DEMO,
        rules: Box::new(rules.clone()),
        drop: BTreeSet::new(),
    }
}

fn set_owner(shard: &str, owner: Option<&str>) -> ConfigCommand {
    let owner = owner.map(str::to_owned);
    ConfigCommand::SetOwner { name: "demo".into(), id: DEMO, shard: shard.into(), owner }
}

fn add_shard(shard: &str, rules: &ShardRules) -> ConfigCommand {
    let rules = Box::new(rules.clone());
    ConfigCommand::AddShard { name: "demo".into(), id: DEMO, shard: shard.into(), rules }
}

fn drop_shard(shard: &str) -> ConfigCommand {
    ConfigCommand::DropShard { name: "demo".into(), id: DEMO, shard: shard.into() }
}

/// A list of servers as in the JSON; `+` is the mark.
fn places(text: &str) -> Vec<PlaceRule> {
    let place = |name: &str| match name {
        "+" => PlaceRule::NewNode,
        name => PlaceRule::Server(name.to_owned()),
    };
    text.split_whitespace().map(place).collect()
}

fn on(text: &str) -> ShardRules {
    ShardRules { places: Some(places(text)), ..ShardRules::default() }
}

/// Rules with these shards: name and servers.
fn rules(shards: &[(&str, &str)]) -> DatabaseRules {
    let shards = shards.iter().map(|(name, servers)| ((*name).to_owned(), on(servers))).collect();
    DatabaseRules { shards, ..DatabaseRules::default() }
}

fn shard<'a>(document: &'a Configuration, name: &str) -> ShardRef<'a> {
    document.shard("demo", name).unwrap()
}

/// The leader of the shard's log, knowing the present document, says how far a copy is.
fn set_copy(
    document: &Configuration,
    name: &str,
    number: u128,
    status: CopyStatus,
) -> ConfigCommand {
    let log = shard(document, name).shard.log;
    ConfigCommand::SetCopy { log, node: node(number), status, judged_at: document.version }
}

/// All copies of the shard that can come online have.
fn caught_up(document: &Configuration, name: &str) -> Configuration {
    let mut document = document.clone();
    for id in shard(&document.clone(), name).shard.copies.keys() {
        let command = set_copy(&document, name, id.0, CopyStatus::Online);
        let mut held = Some(document.clone());
        if apply(&mut held, &command).is_ok() {
            document = held.unwrap();
        }
    }
    document
}

fn born(document: &Configuration, name: &str, numbers: &[u128]) -> ConfigCommand {
    ConfigCommand::Born { log: shard(document, name).shard.log, nodes: nodes(numbers) }
}

/// The names of the servers of a shard, in the order of its places; `+` is the mark, and a name
/// without a server is in brackets.
fn placed(document: &Configuration, name: &str) -> String {
    use super::Place;
    let shard = shard(document, name);
    let word = |place: &Place| match place {
        Place::NewNode => "+".to_owned(),
        Place::Joined(id) => document.servers[id].name.clone(),
        Place::Named(name) if document.by_name(name).is_some() => name.clone(),
        Place::Named(name) => format!("[{name}]"),
    };
    shard.shard.places.iter().map(word).collect::<Vec<_>>().join(" ")
}

fn logs(document: &Configuration) -> Vec<LogId> {
    document.shards().map(|shard| shard.shard.log).collect()
}
