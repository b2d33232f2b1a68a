//! The database JSON (`default-distributed-db-config.json`), the union of OrientDB's versions.

mod read;
mod rules;

use std::collections::BTreeMap;
use std::path::Path;

use quorate_core::configuration::{AutoRemove, Defaults, Registration, Role};

use super::error::ConfigError;
use super::file;
use super::hazelcast::At;
use super::note::{Note, Notes};

/// What a database JSON says.
///
/// The file calls `clusters` what Quorate calls shards; only the reader says so. Words are
/// compared without regard to case, keys with it. A key that no version of OrientDB has is
/// ignored with a note.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DatabaseConfig {
    /// `autoDeploy` (true): whether a joining node downloads the databases by itself.
    pub auto_deploy: bool,
    /// `executionMode` (undefined).
    pub execution_mode: ExecutionMode,
    /// `readQuorum` (1).
    pub read_quorum: QuorumRule,
    /// `writeQuorum` (majority).
    pub write_quorum: QuorumRule,
    /// `readYourWrites` (true).
    pub read_your_writes: bool,
    /// `newNodeStrategy` (static).
    pub new_node_strategy: Registration,
    /// `servers`: roles by name; `*` is for all others (master). A server named here is static.
    pub servers: BTreeMap<String, Role>,
    /// `dataCenters`, by name: clients prefer the servers of their own.
    pub data_centers: BTreeMap<String, DataCenter>,
    /// `clusters`: rules by name; `*` is for those that are not named.
    pub shards: BTreeMap<String, ShardRules>,
    /// `version` (0).
    pub version: u64,
    /// `autoRemoveOfflineServers`, if the file says it: Quorate's own key, since OrientDB has it
    /// among the settings of the server.
    pub auto_remove: Option<At<AutoRemove>>,
}

/// `executionMode`: when a write is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ExecutionMode {
    /// `undefined`: as `synchronous`, unless the client asks otherwise.
    #[default]
    Undefined,
    /// `synchronous`: when as many copies as `writeQuorum` says are durable.
    Synchronous,
    /// `asynchronous`: when the log commits, without waiting for a larger write quorum.
    Asynchronous,
}

/// `readQuorum` or `writeQuorum`: how many copies must take part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum QuorumRule {
    /// So many, 1 to 64.
    Count(u32),
    /// `majority`: N/2+1 of the masters.
    Majority,
    /// `all` masters.
    All,
    /// `localDataCenter`: a majority of the masters of the owner's data centre.
    LocalDataCenter,
}

/// A data centre.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DataCenter {
    /// `writeQuorum` (majority).
    pub write_quorum: QuorumRule,
    /// `servers`, by name.
    pub servers: Vec<String>,
}

/// Rules of one shard; `None` and an empty list: as `*`, or else as the file's top level, says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ShardRules {
    /// `servers`: who holds a copy, the owner first unless `owner` is set.
    pub servers: Vec<Placement>,
    /// `owner`.
    pub owner: Option<String>,
    /// `writeQuorum`.
    pub write_quorum: Option<QuorumRule>,
    /// `readQuorum`.
    pub read_quorum: Option<QuorumRule>,
    /// `readYourWrites`.
    pub read_your_writes: Option<bool>,
}

/// An entry of a shard's `servers`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Placement {
    /// The server of that name.
    Server(String),
    /// `<NEW_NODE>`: every joining server is inserted before it.
    NewNode,
}

/// What holds for one shard, all defaults applied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EffectiveRules {
    /// Who holds a copy.
    pub servers: Vec<Placement>,
    /// The preferred owner: `owner`, or else the first server named.
    pub owner: Option<String>,
    /// Whether the owner is static: set by `owner`, kept even while that server is away.
    pub owner_is_static: bool,
    /// How many copies must be durable before a write is acknowledged.
    pub write_quorum: QuorumRule,
    /// How many must agree on a read.
    pub read_quorum: QuorumRule,
    /// Whether a client sees its own writes.
    pub read_your_writes: bool,
}

impl Default for DatabaseConfig {
    /// What holds without a file: as the file that OrientDB 2.2 ships.
    fn default() -> Self {
        let every = ShardRules { servers: vec![Placement::NewNode], ..ShardRules::default() };
        Self {
            auto_deploy: true,
            execution_mode: ExecutionMode::Undefined,
            read_quorum: QuorumRule::Count(1),
            write_quorum: QuorumRule::Majority,
            read_your_writes: true,
            new_node_strategy: Registration::Static,
            servers: BTreeMap::from([("*".to_owned(), Role::Master)]),
            data_centers: BTreeMap::new(),
            shards: BTreeMap::from([
                ("internal".to_owned(), ShardRules::default()),
                ("*".to_owned(), every),
            ]),
            version: 0,
            auto_remove: None,
        }
    }
}

impl DatabaseConfig {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`ConfigError`]: unreadable, beyond a bound, or wrong.
    pub fn load(path: &Path) -> Result<(Self, Vec<Note>), ConfigError> {
        Self::parse(&path.display().to_string(), &file::read(path)?)
    }

    /// Reads `bytes`, which messages call `name`.
    ///
    /// # Errors
    /// [`ConfigError`]: beyond a bound, or wrong. Never panics, whatever the bytes.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<(Self, Vec<Note>), ConfigError> {
        let text = file::text(name, bytes)?;
        let mut notes = Notes::default();
        let json = super::json::read(name, text)?;
        let config = read::database(name, &json, &mut notes)?;
        Ok((config, notes.finish()))
    }

    /// The cluster-wide defaults that a founder takes from this file. `auto_remove` is used where
    /// the file says nothing; `expect` is 0 for no expectation.
    #[must_use]
    pub fn defaults(&self, auto_remove: Option<AutoRemove>, expect: u32) -> Defaults {
        let here = self.auto_remove.as_ref().map(|at| at.value);
        Defaults {
            new_node_strategy: self.new_node_strategy,
            roles: self.servers.clone(),
            auto_remove: here.or(auto_remove).unwrap_or_default(),
            expect,
        }
    }

    /// What holds for the shard `name`: its own rules, then those of `*`, then the top level's.
    /// Quorums and `readYourWrites` are taken one by one. Servers and owner belong together: they
    /// come from `*` only if the shard names neither.
    #[must_use]
    pub fn effective(&self, name: &str) -> EffectiveRules {
        let nothing = ShardRules::default();
        let every = self.shards.get("*").unwrap_or(&nothing);
        let own = self.shards.get(name).unwrap_or(every);
        let placed = if own.servers.is_empty() && own.owner.is_none() { every } else { own };
        let first = placed.servers.iter().find_map(|placement| match placement {
            Placement::Server(name) => Some(name.clone()),
            Placement::NewNode => None,
        });
        EffectiveRules {
            servers: placed.servers.clone(),
            owner: placed.owner.clone().or(first),
            owner_is_static: placed.owner.is_some(),
            write_quorum: own.write_quorum.or(every.write_quorum).unwrap_or(self.write_quorum),
            read_quorum: own.read_quorum.or(every.read_quorum).unwrap_or(self.read_quorum),
            read_your_writes: own
                .read_your_writes
                .or(every.read_your_writes)
                .unwrap_or(self.read_your_writes),
        }
    }
}
