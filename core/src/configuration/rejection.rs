//! Why a change of the document is refused.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::database::CopyStatus;
use super::users::UserRole;
use crate::ids::{ClusterId, ConfigVersion, LogId};

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
    /// The name of a database is taken; upper and lower case are not told apart.
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
    /// The database was dropped, and another has its name.
    #[error("the database '{name}' is not the one that was meant: it was made anew; look again")]
    OtherDatabase {
        /// The name.
        name: String,
    },
    /// No room for another database.
    #[error("the cluster holds {max} databases, its most: drop one first")]
    TooManyDatabases {
        /// The bound.
        max: usize,
    },
    /// No room for so many shards in a database.
    #[error("'{database}' would have {asked} shards; a database holds at most {max}")]
    TooManyShards {
        /// The database.
        database: String,
        /// How many it would have.
        asked: usize,
        /// The bound.
        max: usize,
    },
    /// No room for so many shards in the cluster.
    #[error("the cluster would have {asked} shards; it holds at most {max}: drop some first")]
    TooManyLogs {
        /// How many it would have.
        asked: usize,
        /// The bound.
        max: usize,
    },
    /// The document would be too long to travel.
    #[error(
        "the configuration would take {bytes} bytes, at most {max} are allowed: drop databases or \
         shards, or list fewer servers in them"
    )]
    DocumentFull {
        /// How long it would be.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// The name cannot be used for a shard.
    #[error(
        "'{shard}' is not a shard name for '{database}': 1 to 64 letters, digits, '-' and '_' are \
         allowed, 'internal' and 'index' are not"
    )]
    BadShardName {
        /// The database.
        database: String,
        /// The name, cut short.
        shard: String,
    },
    /// The name of a shard is taken; upper and lower case are not told apart.
    #[error("the database '{database}' already has a shard '{shard}'")]
    ShardExists {
        /// The database.
        database: String,
        /// The shard that has the name.
        shard: String,
    },
    /// No such shard.
    #[error("there is no shard '{shard}' in the database '{database}'")]
    UnknownShard {
        /// The database.
        database: String,
        /// As given.
        shard: String,
    },
    /// Every database has it.
    #[error("every database has the shard 'main': drop the database '{database}' instead")]
    MainShard {
        /// The database.
        database: String,
    },
    /// A list without servers and without the mark.
    #[error("the shard '{shard}' of '{database}' has no place: list a server, or \"<NEW_NODE>\"")]
    NoPlace {
        /// The database.
        database: String,
        /// The shard.
        shard: String,
    },
    /// More servers than a cluster may have.
    #[error(
        "the shard '{shard}' of '{database}' lists {asked} servers; a cluster has at most {max}"
    )]
    TooManyPlaces {
        /// The database.
        database: String,
        /// The shard.
        shard: String,
        /// How many it lists.
        asked: usize,
        /// The bound.
        max: usize,
    },
    /// Nobody of those listed is in the cluster.
    #[error(
        "the shard '{shard}' of '{database}' is placed on {} only, not in the cluster: start one \
         of them first, or list another", servers.join(", ")
    )]
    NoneThere {
        /// The database.
        database: String,
        /// The shard.
        shard: String,
        /// Those listed.
        servers: Vec<String>,
    },
    /// Only replicas have a place.
    #[error(
        "the shard '{shard}' of '{database}' has no master among its servers: list one, or make one \
         of them a master"
    )]
    NoMaster {
        /// The database.
        database: String,
        /// The shard.
        shard: String,
    },
    /// A shard is founded by masters that are there.
    #[error(
        "no master of the shard '{shard}' of '{database}' is online: start {} first",
        away.join(" or ")
    )]
    NoneOnline {
        /// The database.
        database: String,
        /// The shard.
        shard: String,
        /// The masters that are away.
        away: Vec<String>,
    },
    /// The owner has no place.
    #[error("'{owner}' owns the shard '{shard}' of '{database}' but has no place in it: list it")]
    OwnerNotListed {
        /// The database.
        database: String,
        /// The shard.
        shard: String,
        /// The owner.
        owner: String,
    },
    /// Replicas own nothing.
    #[error(
        "'{owner}' cannot own the shard '{shard}' of '{database}': it is a replica; name a master"
    )]
    OwnerIsReplica {
        /// The database.
        database: String,
        /// The shard.
        shard: String,
        /// The owner.
        owner: String,
    },
    /// A quorum that could never be met.
    #[error(
        "{key} {asked} of the shard '{shard}' of '{database}' can never be met: it has places for \
         {most} masters"
    )]
    QuorumTooLarge {
        /// The database.
        database: String,
        /// The shard.
        shard: String,
        /// `writeQuorum` or `readQuorum`.
        key: String,
        /// The number asked for.
        asked: u32,
        /// How many masters it could have.
        most: usize,
    },
    /// A server holds what no other master holds whole.
    #[error(
        "'{server}' holds the last whole copy of the shard '{shard}' of '{database}' on a master: \
         bring another online first, or drop the shard"
    )]
    LastCopy {
        /// The server.
        server: String,
        /// The database.
        database: String,
        /// The shard.
        shard: String,
    },
    /// No shard has the log: it was dropped.
    #[error("no shard has the log {}: it was dropped", log.0)]
    UnknownLog {
        /// The log.
        log: LogId,
    },
    /// The server has no copy.
    #[error("'{server}' has no place in the shard '{shard}' of '{database}'")]
    NoCopy {
        /// The server.
        server: String,
        /// The database.
        database: String,
        /// The shard.
        shard: String,
    },
    /// A copy cannot go from one status to the other.
    #[error("the copy of '{shard}' of '{database}' on '{server}' is {from} and cannot become {to}")]
    CopyChange {
        /// The server.
        server: String,
        /// The database.
        database: String,
        /// The shard.
        shard: String,
        /// What it is.
        from: CopyStatus,
        /// What was asked.
        to: CopyStatus,
    },
    /// A server that is away serves nothing.
    #[error("'{server}' is away: its copies cannot serve")]
    ServerAway {
        /// The server.
        server: String,
    },
    /// Something about the shard's copies changed since the command was thought of.
    #[error(
        "the copies of '{shard}' of '{database}' changed in version {revised}, after {asked}: look \
         again"
    )]
    Overtaken {
        /// The database.
        database: String,
        /// The shard.
        shard: String,
        /// The version that changed them.
        revised: ConfigVersion,
        /// The version that the command was thought of by.
        asked: ConfigVersion,
    },
    /// A shard that is to go and to stay.
    #[error("the shard '{shard}' of '{database}' is to be dropped, but its new rules name it")]
    DroppedAndNamed {
        /// The database.
        database: String,
        /// The shard.
        shard: String,
    },
    /// Databases of these names are in both clusters.
    #[error(
        "this cluster has databases of the same names, or keeps them for another server: {}; back up \
         and drop one of the two of each name, in either cluster, and all others are brought",
        names.join(", ")
    )]
    NamesTaken {
        /// Which, at most [`Rejection::NAMES_MAX`] of them.
        names: Vec<String>,
    },
    /// The name is kept for a server that is to bring a database.
    #[error(
        "the name '{name}' is kept for the server '{server}', which is to bring a database of that \
         name from its own cluster {cluster}: start that server, or give the name up with \
         `quorate db drop {name}`"
    )]
    NameReserved {
        /// The name.
        name: String,
        /// What the server is called in its own cluster.
        server: String,
        /// Its cluster.
        cluster: ClusterId,
    },
    /// A holder of that name is awaited already.
    #[error(
        "another server named '{name}' is to come from its own cluster {cluster} with databases: start \
         this one with another --name, or that one first, or give up what it brings with \
         `quorate db drop`"
    )]
    ServerNameReserved {
        /// The server's name.
        name: String,
        /// Its cluster.
        cluster: ClusterId,
    },
    /// A cluster that waits for databases does not itself go to another one.
    #[error(
        "this cluster waits for '{server}', which is to bring databases from its own cluster \
         {cluster}, and cannot become part of another one before: start that server, or give up what \
         it brings with `quorate db drop`"
    )]
    AwaitsOther {
        /// What the server is called there.
        server: String,
        /// Its cluster.
        cluster: ClusterId,
    },
    /// What should be brought cannot be read.
    #[error(
        "the only copy of the shard '{shard}' of '{database}' cannot be used, so that this cluster's \
         databases are not brought to the other one: see why in `quorate status`; restore that \
         database from a backup, or drop it"
    )]
    CopyUnusable {
        /// The database.
        database: String,
        /// The shard.
        shard: String,
    },
    /// This cluster keeps nothing for the server.
    #[error(
        "this cluster does not wait for the databases of the cluster {cluster} (any more): to join \
         without them start with --new-identity; their files stay under backup/clusters"
    )]
    NotReserved {
        /// The cluster that has dissolved.
        cluster: ClusterId,
    },
    /// The other cluster has been taken in before, or was given up.
    #[error(
        "the cluster {cluster} was taken in, or given up, before: it can bring nothing any more"
    )]
    BroughtBefore {
        /// Which.
        cluster: ClusterId,
    },
    /// A question that was overtaken by a later one.
    #[error("a later question of the same server has been answered")]
    OldAttempt,
    /// Only a cluster of one server that holds everything brings its databases.
    #[error(
        "only a cluster of one server that holds every shard, and alone votes in it, brings its \
         databases: remove the other servers, or wait until they are out"
    )]
    NotAlone,
    /// The databases have changed since they were asked for.
    #[error("the databases of this cluster are not those that were agreed on")]
    BringsOther,
    /// The name cannot be used.
    #[error(
        "'{name}' is not a name of a user or of a token: 1 to 64 letters, digits, '-', '_', '.' and \
         '@' are allowed, the first a letter or a digit"
    )]
    BadUserName {
        /// The name, cut short.
        name: String,
    },
    /// The user is there already.
    #[error(
        "there is a user '{name}' already; `quorate user role`, `password` and `token` change one"
    )]
    UserExists {
        /// Its name.
        name: String,
    },
    /// No such user.
    #[error("there is no user '{name}'; `quorate user list` lists them")]
    UnknownUser {
        /// As given, cut short.
        name: String,
    },
    /// Nobody could change users over the network.
    #[error(
        "'{name}' would be the first user and a {role}: the first user is an admin; add one with \
         `quorate user add NAME --role admin`"
    )]
    FirstUser {
        /// The name.
        name: String,
        /// What it was to be.
        role: UserRole,
    },
    /// Nobody could change users over the network any more.
    #[error(
        "'{name}' is the last admin: make another user one first, with `quorate user role NAME admin`"
    )]
    LastAdmin {
        /// The user.
        name: String,
    },
    /// No room for another user.
    #[error("the cluster has {max} users, its most: drop one first")]
    TooManyUsers {
        /// The bound.
        max: usize,
    },
    /// It is not what a node makes of a password.
    #[error("the password of '{name}' was not hashed as a node does it: give it to a node")]
    BadPasswordHash {
        /// The user.
        name: String,
    },
    /// The user has a token of that name.
    #[error(
        "the user '{user}' has a token '{token}' already: choose another name with --name, or drop it \
         first"
    )]
    TokenExists {
        /// The user.
        user: String,
        /// The token's name.
        token: String,
    },
    /// The user has no such token.
    #[error("the user '{user}' has no token '{token}'; `quorate user list` lists them")]
    UnknownToken {
        /// The user.
        user: String,
        /// As given, cut short.
        token: String,
    },
    /// No room for another token.
    #[error("the user '{user}' has {max} tokens, its most: drop one first")]
    TooManyTokens {
        /// The user.
        user: String,
        /// The bound.
        max: usize,
    },
    /// The cluster is founded already, or not yet.
    #[error("the command does not fit the age of the cluster")]
    NotFounding,
}

impl Rejection {
    /// How many names are listed in one.
    pub const NAMES_MAX: usize = 16;
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
