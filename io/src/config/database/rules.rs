//! From the file's words to what the configuration document is told.

use quorate_core::configuration as core;
use quorate_core::configuration::{DatabaseRules, EVERY, HOLLOW, PlaceRule, Settings};

use super::{DatabaseConfig, ExecutionMode, Placement, QuorumRule, ShardRules};

impl DatabaseConfig {
    /// What a command that creates or configures a database is given: the top level with `*` over
    /// it, and each shard that the file names. `internal` and `index` hold nothing and are left out.
    ///
    /// `newNodeStrategy` and `autoRemoveOfflineServers` are the cluster's, taken from its founder's
    /// file ([`DatabaseConfig::defaults`]), for a server is in the cluster or not, whatever databases
    /// there are. `dataCenters` tell clients which servers are near; `localDataCenter`
    /// counts all masters.
    #[must_use]
    pub fn rules(&self) -> DatabaseRules {
        let nothing = ShardRules::default();
        let every = self.shards.get(EVERY).unwrap_or(&nothing);
        let everywhere = vec![PlaceRule::NewNode];
        let settings = Settings {
            write_quorum: quorum(every.write_quorum.unwrap_or(self.write_quorum)),
            read_quorum: quorum(every.read_quorum.unwrap_or(self.read_quorum)),
            read_your_writes: every.read_your_writes.unwrap_or(self.read_your_writes),
            execution_mode: execution_mode(self.execution_mode),
            auto_deploy: self.auto_deploy,
            roles: self.servers.clone(),
            places: places(&every.servers).unwrap_or(everywhere),
            owner: every.owner.clone(),
            data_centers: self
                .data_centers
                .iter()
                .map(|(name, center)| (name.clone(), center.servers.clone()))
                .collect(),
        };
        let hollow = |name: &str| HOLLOW.iter().any(|hollow| hollow.eq_ignore_ascii_case(name));
        let named = self.shards.iter().filter(|(name, _)| *name != EVERY && !hollow(name));
        let shards = named.map(|(name, rules)| (name.clone(), shard(rules))).collect();
        DatabaseRules { settings, shards }
    }
}

fn shard(rules: &ShardRules) -> core::ShardRules {
    core::ShardRules {
        places: places(&rules.servers),
        owner: rules.owner.clone(),
        write_quorum: rules.write_quorum.map(quorum),
        read_quorum: rules.read_quorum.map(quorum),
        read_your_writes: rules.read_your_writes,
    }
}

/// An empty list says nothing.
fn places(servers: &[Placement]) -> Option<Vec<PlaceRule>> {
    let place = |placement: &Placement| match placement {
        Placement::Server(name) => PlaceRule::Server(name.clone()),
        Placement::NewNode => PlaceRule::NewNode,
    };
    (!servers.is_empty()).then(|| servers.iter().map(place).collect())
}

fn quorum(rule: QuorumRule) -> core::QuorumRule {
    match rule {
        QuorumRule::Count(count) => core::QuorumRule::Count(count),
        QuorumRule::Majority | QuorumRule::LocalDataCenter => core::QuorumRule::Majority,
        QuorumRule::All => core::QuorumRule::All,
    }
}

fn execution_mode(mode: ExecutionMode) -> core::ExecutionMode {
    match mode {
        ExecutionMode::Undefined => core::ExecutionMode::Undefined,
        ExecutionMode::Synchronous => core::ExecutionMode::Synchronous,
        ExecutionMode::Asynchronous => core::ExecutionMode::Asynchronous,
    }
}
