//! The pure transitions of the configuration document.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::bringing::{self, Attempt, Bringing, Brought};
use super::database::CopyStatus;
use super::document::{
    Absorption, Addresses, Configuration, Defaults, Registration, Role, Server, ServerStatus,
};
use super::rejection::{Rejection, check_server_name};
use super::rules::{DatabaseRules, ShardRules};
use super::users::{self, UserChange};
use super::{databases, merging, servers};
use crate::ids::{ClusterId, ConfigVersion, DatabaseId, LogId, NodeId, Start};

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
        /// What it was called there, if it brings the databases of that cluster.
        brings: Option<NodeId>,
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
    /// A database is made, and its shards founded on the masters that are there.
    CreateDatabase {
        /// Its name.
        name: String,
        /// Its id, drawn by the proposer.
        id: DatabaseId,
        /// What holds in it, and its shards.
        rules: Box<DatabaseRules>,
    },
    /// A database is dropped, with its shards and their logs.
    DropDatabase {
        /// Its name.
        name: String,
    },
    /// A database gets other rules while it runs. Shards that the rules name and that it lacks are
    /// added; those that it has and the rules do not name follow `*`, but for those that are
    /// dropped by name: leaving a shard out of a file by mistake loses nothing.
    Configure {
        /// Its name.
        name: String,
        /// The one that was meant.
        id: DatabaseId,
        /// All that holds from now on.
        rules: Box<DatabaseRules>,
        /// Shards that go, with their logs; the rules may not name them.
        drop: BTreeSet<String>,
    },
    /// A database gets another shard.
    AddShard {
        /// The database.
        name: String,
        /// The one that was meant.
        id: DatabaseId,
        /// The name of the shard.
        shard: String,
        /// Its own rules; what they do not say is as for all shards.
        rules: Box<ShardRules>,
    },
    /// A shard is dropped, with its log.
    DropShard {
        /// The database.
        name: String,
        /// The one that was meant.
        id: DatabaseId,
        /// The shard.
        shard: String,
    },
    /// A shard gets a static owner, or none.
    SetOwner {
        /// The database.
        name: String,
        /// The one that was meant.
        id: DatabaseId,
        /// The shard.
        shard: String,
        /// The name of the owner; it must have a place.
        owner: Option<String>,
    },
    /// The leader of a shard's log says how far a copy is. Nothing else makes a copy `ONLINE`.
    SetCopy {
        /// The shard's log.
        log: LogId,
        /// Whose copy.
        node: NodeId,
        /// How far it is: see [`CopyStatus::may_become`].
        status: CopyStatus,
        /// The version of the document that the leader judged by. Refused if the shard's copies
        /// have changed since: a grant that was overtaken by its server's leaving is void.
        judged_at: ConfigVersion,
    },
    /// An operator puts a copy out of use (`OFFLINE`), or takes it back (`NOT_AVAILABLE`, from where
    /// it comes online again).
    SetOffline {
        /// The shard's log.
        log: LogId,
        /// Whose copy.
        node: NodeId,
        /// Out of use or back.
        offline: bool,
    },
    /// The leader of a shard's log, having committed an entry of its own term, has seen these nodes
    /// hold the log: none of them may begin it any more.
    Born {
        /// The shard's log.
        log: LogId,
        /// Who holds it, the leader included.
        nodes: BTreeSet<NodeId>,
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
    /// A cluster of one server is to bring its databases: their names are kept for it, and from here
    /// on this cluster may not dissolve.
    Reserve {
        /// The other one.
        cluster: ClusterId,
        /// What it brings.
        bringing: Box<Bringing>,
    },
    /// The other one does not bring them, by its own word.
    Release {
        /// The other one.
        cluster: ClusterId,
        /// The last question that it has asked.
        attempt: Attempt,
    },
    /// This cluster of one server ends, and brings its databases to the other one.
    DissolveBringing {
        /// The other one.
        into: ClusterId,
        /// Where its servers are.
        addresses: Vec<SocketAddr>,
        /// What the other one has reserved: refused unless it is all there is.
        databases: Vec<Brought>,
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
    /// A user comes, changes or goes.
    User {
        /// Its name.
        name: String,
        /// What.
        change: UserChange,
    },
}

impl ConfigCommand {
    /// Creates a database as without a file: one shard, on every server.
    #[must_use]
    pub fn create_database(name: impl Into<String>, id: DatabaseId) -> Self {
        Self::CreateDatabase { name: name.into(), id, rules: Box::default() }
    }

    /// Whether only the leader of a shard's log may ask for it, and the coordinator should make
    /// sure that it is one who asks.
    #[must_use]
    pub fn is_of_shard_leader(&self) -> bool {
        matches!(self, Self::SetCopy { .. } | Self::Born { .. })
    }

    /// Whether it is an operator's, who may ask any server.
    #[must_use]
    pub fn is_of_operator(&self) -> bool {
        matches!(
            self,
            Self::Operator { .. }
                | Self::CreateDatabase { .. }
                | Self::DropDatabase { .. }
                | Self::Configure { .. }
                | Self::AddShard { .. }
                | Self::DropShard { .. }
                | Self::SetOwner { .. }
                | Self::SetOffline { .. }
                | Self::User { .. }
        )
    }

    /// Whether, applied a second time, it would be refused or meet something that has come since,
    /// so that it must not be sent again while its first outcome is unknown.
    #[must_use]
    pub fn is_once(&self) -> bool {
        matches!(
            self,
            Self::CreateDatabase { .. }
                | Self::DropDatabase { .. }
                | Self::AddShard { .. }
                | Self::DropShard { .. }
                | Self::User { .. }
        )
    }

    /// Whether it can lengthen the document by more than a few bytes.
    fn lengthens(&self) -> bool {
        matches!(
            self,
            Self::CreateDatabase { .. }
                | Self::Configure { .. }
                | Self::AddShard { .. }
                | Self::SetOwner { .. }
                | Self::SetRole { .. }
                | Self::Operator { .. }
                | Self::Join { .. }
                | Self::Reserve { .. }
                | Self::User { .. }
        )
    }
}

/// What a command did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Applied {
    /// The document changed and has a new version.
    Changed,
    /// The document already was so.
    Unchanged,
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
    let applied = if command.lengthens() {
        let mut trial = held.clone();
        let applied = transition(&mut trial, command)?;
        check_length(held, &trial)?;
        *held = trial;
        applied
    } else {
        transition(held, command)?
    };
    if applied == Applied::Changed {
        held.version = held.version.next();
        let online = u32::try_from(held.servers.len()).unwrap_or(u32::MAX);
        held.expect_met = held.expect_met || online >= held.defaults.expect;
    }
    Ok(applied)
}

/// The document must fit the packet that brings it to a server which lags. One that is too long
/// all the same may still become shorter.
fn check_length(before: &Configuration, after: &Configuration) -> Result<(), Rejection> {
    let (bytes, max) = (after.encoded_bytes(), Configuration::BYTES_MAX);
    if bytes > max && bytes > before.encoded_bytes() {
        return Err(Rejection::DocumentFull { bytes, max });
    }
    Ok(())
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
        origin: cluster,
        group: group.to_owned(),
        version,
        servers: [(node, founder)].into(),
        defaults: defaults.clone(),
        expect_met: defaults.expect <= 1,
        turns: vec![node],
        databases: Default::default(),
        last_log: LogId::CONFIGURATION,
        absorbed: Default::default(),
        bringing: Default::default(),
        expelled: Default::default(),
        departed: Default::default(),
        dissolved_into: None,
        users: Default::default(),
    }
}

pub(super) fn transition(
    held: &mut Configuration,
    command: &ConfigCommand,
) -> Result<Applied, Rejection> {
    match command {
        ConfigCommand::Found { .. } => Err(Rejection::NotFounding),
        ConfigCommand::Join { node, name, addresses, start, dissolved_from, brings } => {
            let from = dissolved_from.map(|cluster| (cluster, *brings));
            servers::join(held, *node, name, (*addresses, *start), from)
        }
        ConfigCommand::SetStatus { node, status, addresses, start } => {
            servers::set_status(held, *node, (*status, *addresses), *start)
        }
        ConfigCommand::Operator { node, name, change } => {
            servers::operate(held, *node, name.as_deref(), *change)
        }
        ConfigCommand::Remove { node, reason } => servers::remove(held, *node, *reason),
        ConfigCommand::SetRole { node, role } => servers::set_role(held, *node, *role),
        ConfigCommand::SetRegistration { node, registration } => {
            Ok(change(&mut server_mut(held, *node)?.registration, *registration))
        }
        ConfigCommand::Absorb { cluster } => merging::absorb(held, *cluster),
        ConfigCommand::WithdrawAbsorb { cluster } => match held.absorbed.get(cluster) {
            // What was reserved is not this cluster's to take back: see `bringing`.
            Some(Absorption::Offered) if held.bringing.contains_key(cluster) => {
                Ok(Applied::Unchanged)
            }
            Some(Absorption::Offered) => {
                held.absorbed.remove(cluster);
                Ok(Applied::Changed)
            }
            Some(Absorption::Done | Absorption::Abandoned) | None => Ok(Applied::Unchanged),
        },
        ConfigCommand::Absorbed { cluster } => merging::absorbed(held, *cluster),
        ConfigCommand::Dissolve { into, addresses } => merging::dissolve(held, *into, addresses),
        ConfigCommand::Reserve { cluster, bringing: what } => {
            bringing::reserve(held, *cluster, what)
        }
        ConfigCommand::Release { cluster, attempt } => bringing::release(held, *cluster, *attempt),
        ConfigCommand::DissolveBringing { into, addresses, databases } => {
            bringing::dissolve(held, *into, addresses, databases)
        }
        ConfigCommand::Recover { cluster, survivor } => merging::recover(held, *cluster, *survivor),
        ConfigCommand::User { name, change } => users::transition(held, name, change),
        of_databases => databases::transition(held, of_databases),
    }
}

impl Applied {
    pub(super) fn or(self, other: Self) -> Self {
        if self == Self::Changed { self } else { other }
    }
}

pub(super) fn change<T: PartialEq>(place: &mut T, value: T) -> Applied {
    if *place == value {
        return Applied::Unchanged;
    }
    *place = value;
    Applied::Changed
}

pub(super) fn server_mut(held: &mut Configuration, node: NodeId) -> Result<&mut Server, Rejection> {
    held.servers.get_mut(&node).ok_or_else(|| Rejection::UnknownServer { server: node.short() })
}
