//! The pure transitions of the configuration document.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::document::{
    Absorption, Addresses, Configuration, Database, Defaults, Dissolved, Registration, Role,
    Server, ServerStatus,
};
use crate::ids::{ClusterId, ConfigVersion, NodeId, Start};

/// Why a server is removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum RemoveReason {
    /// Dynamic, and out of contact with every voter for longer than the limit.
    Unreachable,
    /// Dynamic, and stopped in good order.
    Left,
    /// An operator said so.
    Operator,
}

/// What an operator may change about a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum OperatorChange {
    /// Take it out.
    Remove,
    /// Make it a master or a replica.
    Role(Role),
    /// Register it as static or dynamic.
    Registration(Registration),
}

/// One change of the configuration document, carried by an entry of the configuration log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ConfigCommand {
    /// The first entry of a cluster.
    Found {
        /// The new cluster.
        cluster: ClusterId,
        /// Its group name.
        group: String,
        /// The founder.
        node: NodeId,
        /// Its name.
        name: String,
        /// Where it is.
        addresses: Addresses,
        /// Its present start.
        start: Start,
        /// From its database JSON.
        defaults: Defaults,
    },
    /// A server joins, or one that is in already says where it is now.
    Join {
        /// Who.
        node: NodeId,
        /// Under which name.
        name: String,
        /// Where it is.
        addresses: Addresses,
        /// Its present start, as the coordinator knows it.
        start: Option<Start>,
        /// The cluster it left by a committed `Dissolve`.
        dissolved_from: Option<ClusterId>,
    },
    /// A server is back, perhaps at another address, or gone.
    SetStatus {
        /// Who.
        node: NodeId,
        /// There or away.
        status: ServerStatus,
        /// Its address if it has changed.
        addresses: Option<Addresses>,
        /// Its present start if it is there.
        start: Option<Start>,
    },
    /// An operator's change of a server. The operator meant a name, the node that was asked knew
    /// whose that was; if it is another's by now, nothing is changed.
    Operator {
        /// Who.
        node: NodeId,
        /// The name that was meant, unless an id was.
        name: Option<String>,
        /// What.
        change: OperatorChange,
    },
    /// A server is taken out.
    Remove {
        /// Who.
        node: NodeId,
        /// Why.
        reason: RemoveReason,
    },
    /// Master or replica.
    SetRole {
        /// Who.
        node: NodeId,
        /// The new role.
        role: Role,
    },
    /// Static or dynamic.
    SetRegistration {
        /// Who.
        node: NodeId,
        /// The new registration.
        registration: Registration,
    },
    /// A database is made.
    CreateDatabase {
        /// Its name.
        name: String,
    },
    /// A database is dropped.
    DropDatabase {
        /// Its name.
        name: String,
    },
    /// This cluster offers to take in `cluster`, and from here on may not dissolve itself.
    Absorb {
        /// The other one.
        cluster: ClusterId,
    },
    /// The offer is taken back: crossed offers, the larger cluster id withdraws.
    WithdrawAbsorb {
        /// The other one.
        cluster: ClusterId,
    },
    /// The other cluster has committed its `Dissolve`.
    Absorbed {
        /// The other one.
        cluster: ClusterId,
    },
    /// This cluster ends; its servers join the other one with new ids.
    Dissolve {
        /// The other one.
        into: ClusterId,
        /// Where its servers are.
        addresses: Vec<SocketAddr>,
    },
    /// `recover --unsafe`: one survivor goes on alone under a new cluster id.
    Recover {
        /// The new id.
        cluster: ClusterId,
        /// Who goes on.
        survivor: NodeId,
    },
}

/// What a command did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Applied {
    /// The document changed and has a new version.
    Changed,
    /// The document already was so.
    Unchanged,
}

/// Why a command was refused. Deterministic: every node refuses alike.
#[derive(Clone, PartialEq, Eq, Debug, Error, Serialize, Deserialize)]
pub enum Rejection {
    /// Another server has the name.
    #[error(
        "the name '{name}' is taken by the server at {holder}; choose another with --name, \
         or wait until that server is recorded as away"
    )]
    DuplicateName {
        /// The name.
        name: String,
        /// Where the holder is.
        holder: SocketAddr,
    },
    /// The name cannot be used.
    #[error("'{name}' is not a server name: 1 to 64 letters, digits, '-' and '_' are allowed")]
    BadName {
        /// The name.
        name: String,
    },
    /// No such server.
    #[error("there is no server '{server}' in the cluster; `quorate status` lists them")]
    UnknownServer {
        /// As given.
        server: String,
    },
    /// The change would leave no master.
    #[error("'{name}' is the last master: make another server a master first")]
    LastMaster {
        /// The server.
        name: String,
    },
    /// No room for another server.
    #[error("the cluster is full: {max} servers")]
    Full {
        /// The bound.
        max: usize,
    },
    /// Fewer servers than `--expect` have been members at once.
    #[error("the cluster expects {expected} servers before its first database; {present} are here")]
    ExpectNotMet {
        /// As configured.
        expected: u32,
        /// How many there are.
        present: u32,
    },
    /// The name cannot be used for a database.
    #[error("'{name}' is not a database name: 1 to 64 letters, digits, '-' and '_' are allowed")]
    BadDatabaseName {
        /// The name, cut short.
        name: String,
    },
    /// The name of a database is taken.
    #[error("the database '{name}' already exists")]
    DatabaseExists {
        /// Its name.
        name: String,
    },
    /// No such database.
    #[error("there is no database '{name}'")]
    UnknownDatabase {
        /// Its name.
        name: String,
    },
    /// Clusters with databases do not dissolve.
    #[error("this cluster holds databases and cannot dissolve")]
    HoldsDatabases,
    /// A cluster that has offered to absorb another may not dissolve.
    #[error("this cluster has offered to absorb another and cannot dissolve")]
    Absorbing,
    /// A cluster that has ended takes nobody in.
    #[error("the cluster {into} has ended and takes nobody in")]
    IntoEnded {
        /// Which.
        into: ClusterId,
    },
    /// The cluster has ended.
    #[error("this cluster has dissolved into {into}")]
    Dissolved {
        /// The cluster that its servers join.
        into: ClusterId,
    },
    /// Those that would be left to decide are not there.
    #[error(
        "without '{name}' the masters that remain cannot decide: {} away; remove or restart them \
         first", missing.join(", ")
    )]
    MastersAway {
        /// The server that was to go.
        name: String,
        /// The masters that are not reached.
        missing: Vec<String>,
    },
    /// The cluster is founded already, or not yet.
    #[error("the command does not fit the age of the cluster")]
    NotFounding,
}

/// Whether `name` can be a server's name.
///
/// # Errors
/// [`Rejection::BadName`] if not 1 to 64 ASCII letters, digits, `-` and `_`. No dots: OrientDB
/// users know that a dot in a node name breaks things in one path and not in another.
pub fn check_server_name(name: &str) -> Result<(), Rejection> {
    let fits = (1..=64).contains(&name.len())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if fits { Ok(()) } else { Err(Rejection::BadName { name: name.chars().take(80).collect() }) }
}

/// Applies `command` to the document; on a refusal it is as before.
///
/// # Errors
/// A [`Rejection`], the same on every node.
pub fn apply(
    document: &mut Option<Configuration>,
    command: &ConfigCommand,
) -> Result<Applied, Rejection> {
    if let ConfigCommand::Found { cluster, group, node, name, addresses, start, defaults } = command
    {
        if document.is_some() {
            return Err(Rejection::NotFounding);
        }
        check_server_name(name)?;
        let founder = (*node, name.as_str(), *addresses, *start);
        *document = Some(found(*cluster, group, founder, defaults));
        return Ok(Applied::Changed);
    }
    let Some(held) = document.as_mut() else { return Err(Rejection::NotFounding) };
    if let Some(dissolved) = &held.dissolved_into {
        return Err(Rejection::Dissolved { into: dissolved.into });
    }
    let applied = transition(held, command)?;
    if applied == Applied::Changed {
        held.version = held.version.next();
        let online = u32::try_from(held.servers.len()).unwrap_or(u32::MAX);
        held.expect_met = held.expect_met || online >= held.defaults.expect;
    }
    Ok(applied)
}

fn found(
    cluster: ClusterId,
    group: &str,
    (node, name, addresses, start): (NodeId, &str, Addresses, Start),
    defaults: &Defaults,
) -> Configuration {
    let version = ConfigVersion(1);
    let founder = Server {
        name: name.to_owned(),
        // Somebody must be able to decide: the founder is a master whatever the file says of it.
        role: Role::Master,
        registration: defaults.registration_of(name),
        status: ServerStatus::Online,
        addresses,
        joined: version,
        start: Some(start),
        replaces: None,
    };
    Configuration {
        cluster,
        group: group.to_owned(),
        version,
        servers: [(node, founder)].into(),
        defaults: defaults.clone(),
        expect_met: defaults.expect <= 1,
        databases: Default::default(),
        absorbed: Default::default(),
        expelled: Default::default(),
        dissolved_into: None,
    }
}

fn transition(held: &mut Configuration, command: &ConfigCommand) -> Result<Applied, Rejection> {
    match command {
        ConfigCommand::Found { .. } => Err(Rejection::NotFounding),
        ConfigCommand::Join { node, name, addresses, start, dissolved_from } => {
            join(held, *node, name, (*addresses, *start), *dissolved_from)
        }
        ConfigCommand::SetStatus { node, status, addresses, start } => {
            let server = server_mut(held, *node)?;
            let to = addresses.unwrap_or(server.addresses);
            let started = note_start(server, *start);
            Ok(change(&mut server.status, *status)
                .or(change(&mut server.addresses, to))
                .or(started))
        }
        ConfigCommand::Operator { node, name, change } => {
            operate(held, *node, name.as_deref(), *change)
        }
        ConfigCommand::Remove { node, reason } => remove(held, *node, *reason),
        ConfigCommand::SetRole { node, role } => {
            if *role == Role::Replica {
                keep_a_master(held, *node)?;
            }
            Ok(change(&mut server_mut(held, *node)?.role, *role))
        }
        ConfigCommand::SetRegistration { node, registration } => {
            Ok(change(&mut server_mut(held, *node)?.registration, *registration))
        }
        ConfigCommand::CreateDatabase { name } => create_database(held, name),
        ConfigCommand::DropDatabase { name } => match held.databases.remove(name) {
            Some(_) => Ok(Applied::Changed),
            None => Err(Rejection::UnknownDatabase { name: name.clone() }),
        },
        ConfigCommand::Absorb { cluster } => absorb(held, *cluster),
        ConfigCommand::WithdrawAbsorb { cluster } => match held.absorbed.get(cluster) {
            Some(Absorption::Offered) => {
                held.absorbed.remove(cluster);
                Ok(Applied::Changed)
            }
            Some(Absorption::Done | Absorption::Abandoned) | None => Ok(Applied::Unchanged),
        },
        ConfigCommand::Absorbed { cluster } => absorbed(held, *cluster),
        ConfigCommand::Dissolve { into, addresses } => dissolve(held, *into, addresses),
        ConfigCommand::Recover { cluster, survivor } => recover(held, *cluster, *survivor),
    }
}

impl Applied {
    fn or(self, other: Self) -> Self {
        if self == Self::Changed { self } else { other }
    }
}

fn change<T: PartialEq>(place: &mut T, value: T) -> Applied {
    if *place == value {
        return Applied::Unchanged;
    }
    *place = value;
    Applied::Changed
}

fn server_mut(held: &mut Configuration, node: NodeId) -> Result<&mut Server, Rejection> {
    held.servers.get_mut(&node).ok_or_else(|| Rejection::UnknownServer { server: node.short() })
}

fn join(
    held: &mut Configuration,
    node: NodeId,
    name: &str,
    (addresses, start): (Addresses, Option<Start>),
    dissolved_from: Option<ClusterId>,
) -> Result<Applied, Rejection> {
    check_server_name(name)?;
    let holder = held.by_name(name).map(|(id, s)| (id, s.status, s.addresses.node));
    let replaces = match holder {
        Some((id, _, _)) if id == node => None,
        Some((_, ServerStatus::Online, at)) => {
            return Err(Rejection::DuplicateName { name: name.to_owned(), holder: at });
        }
        // A server that is in does not take another's name by renaming itself.
        Some((_, ServerStatus::Away, at)) if held.servers.contains_key(&node) => {
            return Err(Rejection::DuplicateName { name: name.to_owned(), holder: at });
        }
        // A wiped disk returns under its old name: old out, new in, as one change.
        Some((id, ServerStatus::Away, _)) => Some(id),
        None => None,
    };
    if !held.servers.contains_key(&node)
        && replaces.is_none()
        && held.servers.len() >= Configuration::SERVERS_MAX
    {
        return Err(Rejection::Full { max: Configuration::SERVERS_MAX });
    }
    let done = match dissolved_from {
        Some(other) if other != held.cluster => absorbed(held, other)?,
        _ => Applied::Unchanged,
    };
    if let Some(known) = held.servers.get_mut(&node) {
        // It is in: only what may have changed since. A rename is a change like any other.
        let renamed = change(&mut known.name, name.to_owned());
        let moved = change(&mut known.addresses, addresses);
        let back = change(&mut known.status, ServerStatus::Online);
        let back = back.or(note_start(known, start));
        return Ok(done.or(renamed).or(moved).or(back));
    }
    held.expelled.remove(&node);
    let (role, registration) = match replaces.and_then(|old| held.servers.remove(&old)) {
        Some(old) => (old.role, old.registration),
        None => (held.defaults.role_of(name), held.defaults.registration_of(name)),
    };
    let joined = held.version.next();
    let status = ServerStatus::Online;
    let name = name.to_owned();
    let server = Server { name, role, registration, status, addresses, joined, start, replaces };
    held.servers.insert(node, server);
    Ok(Applied::Changed)
}

/// Starts only ever rise: an older one is what an old copy of a directory would say.
fn note_start(server: &mut Server, start: Option<Start>) -> Applied {
    let newer = start.filter(|s| server.start.is_none_or(|held| s.number > held.number));
    match newer {
        Some(start) => change(&mut server.start, Some(start)),
        None => Applied::Unchanged,
    }
}

fn operate(
    held: &mut Configuration,
    node: NodeId,
    name: Option<&str>,
    what: OperatorChange,
) -> Result<Applied, Rejection> {
    if let (Some(server), Some(meant)) = (held.servers.get(&node), name)
        && server.name != meant
    {
        return Err(Rejection::UnknownServer { server: meant.to_owned() });
    }
    let command = match what {
        OperatorChange::Remove => ConfigCommand::Remove { node, reason: RemoveReason::Operator },
        OperatorChange::Role(role) => ConfigCommand::SetRole { node, role },
        OperatorChange::Registration(registration) => {
            ConfigCommand::SetRegistration { node, registration }
        }
    };
    transition(held, &command)
}

fn keep_a_master(held: &Configuration, node: NodeId) -> Result<(), Rejection> {
    let name = match held.servers.get(&node) {
        Some(server) => server.name.clone(),
        None => return Err(Rejection::UnknownServer { server: node.short() }),
    };
    if held.masters().all(|(id, _)| id == node) {
        return Err(Rejection::LastMaster { name });
    }
    Ok(())
}

fn remove(
    held: &mut Configuration,
    node: NodeId,
    reason: RemoveReason,
) -> Result<Applied, Rejection> {
    if !held.servers.contains_key(&node) {
        return Ok(Applied::Unchanged);
    }
    keep_a_master(held, node)?;
    held.servers.remove(&node);
    if reason == RemoveReason::Operator {
        held.expelled.insert(node, held.version.next());
        if held.expelled.len() > Configuration::EXPELLED_MAX
            && let Some((_, oldest)) = held.expelled.iter().map(|(id, at)| (*at, *id)).min()
        {
            held.expelled.remove(&oldest);
        }
    }
    for server in held.servers.values_mut().filter(|s| s.replaces == Some(node)) {
        server.replaces = None;
    }
    Ok(Applied::Changed)
}

fn create_database(held: &mut Configuration, name: &str) -> Result<Applied, Rejection> {
    if check_server_name(name).is_err() {
        return Err(Rejection::BadDatabaseName { name: name.chars().take(80).collect() });
    }
    if held.databases.contains_key(name) {
        return Err(Rejection::DatabaseExists { name: name.to_owned() });
    }
    if !held.expect_met {
        let present = u32::try_from(held.servers.len()).unwrap_or(u32::MAX);
        return Err(Rejection::ExpectNotMet { expected: held.defaults.expect, present });
    }
    held.databases.insert(name.to_owned(), Database { created: held.version.next() });
    Ok(Applied::Changed)
}

fn absorb(held: &mut Configuration, cluster: ClusterId) -> Result<Applied, Rejection> {
    if cluster == held.cluster || held.absorbed.contains_key(&cluster) {
        return Ok(Applied::Unchanged);
    }
    let kept = held.absorbed.values().filter(|state| **state != Absorption::Done).count();
    if kept >= Configuration::ABSORBED_MAX {
        return Err(Rejection::Full { max: Configuration::ABSORBED_MAX });
    }
    held.absorbed.insert(cluster, Absorption::Offered);
    forget_absorbed(held, cluster);
    Ok(Applied::Changed)
}

/// Keeps to the bound: an absorption that is over goes, never an offer that still binds nor a cluster
/// that was abandoned. A straggler of a cluster that is forgotten is left to an operator.
fn forget_absorbed(held: &mut Configuration, entered: ClusterId) {
    if held.absorbed.len() <= Configuration::ABSORBED_MAX {
        return;
    }
    let over =
        |(id, state): &(&ClusterId, &Absorption)| **state == Absorption::Done && **id != entered;
    let victim = held.absorbed.iter().find(over).map_or(entered, |(id, _)| *id);
    held.absorbed.remove(&victim);
}

fn absorbed(held: &mut Configuration, cluster: ClusterId) -> Result<Applied, Rejection> {
    // What was abandoned may still hold databases somewhere: nobody's word changes that.
    if matches!(held.absorbed.get(&cluster), Some(Absorption::Done | Absorption::Abandoned)) {
        return Ok(Applied::Unchanged);
    }
    held.absorbed.insert(cluster, Absorption::Done);
    forget_absorbed(held, cluster);
    Ok(Applied::Changed)
}

fn dissolve(
    held: &mut Configuration,
    into: ClusterId,
    addresses: &[SocketAddr],
) -> Result<Applied, Rejection> {
    if !held.databases.is_empty() {
        return Err(Rejection::HoldsDatabases);
    }
    if held.absorbed.values().any(|state| *state == Absorption::Offered) {
        return Err(Rejection::Absorbing);
    }
    if held.absorbed.contains_key(&into) {
        // An old request of a cluster that has ended since.
        return Err(Rejection::IntoEnded { into });
    }
    let addresses = addresses.iter().copied().take(16).collect();
    held.dissolved_into = Some(Dissolved { into, addresses });
    Ok(Applied::Changed)
}

fn recover(
    held: &mut Configuration,
    cluster: ClusterId,
    survivor: NodeId,
) -> Result<Applied, Rejection> {
    let server = server_mut(held, survivor)?;
    server.status = ServerStatus::Online;
    server.role = Role::Master;
    server.replaces = None;
    held.servers.retain(|id, _| *id == survivor);
    // Whoever is left of the old cluster and holds no database may join this one.
    held.absorbed = [(held.cluster, Absorption::Abandoned)].into();
    held.cluster = cluster;
    Ok(Applied::Changed)
}
