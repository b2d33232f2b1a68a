//! A database's configuration as it is written: OrientDB's JSON, which the reader of `quorate-io`
//! takes back.

use std::collections::BTreeMap;

use quorate_core::configuration::{
    DatabaseRules, EVERY, ExecutionMode, PlaceRule, QuorumRule, Role, ShardRules,
};
use serde::{Deserialize, Serialize};

/// The whole file, its keys in the order of OrientDB's own.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Written {
    version: u64,
    auto_deploy: bool,
    execution_mode: String,
    read_quorum: Quorum,
    write_quorum: Quorum,
    read_your_writes: bool,
    servers: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    data_centers: BTreeMap<String, WrittenCenter>,
    clusters: BTreeMap<String, WrittenShard>,
}

/// What the file says of a data centre.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct WrittenCenter {
    servers: Vec<String>,
}

/// What the file says of one shard.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenShard {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    servers: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    write_quorum: Option<Quorum>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    read_quorum: Option<Quorum>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    read_your_writes: Option<bool>,
}

/// A number or a word.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Quorum {
    Count(u32),
    Word(String),
}

impl Written {
    /// `rules` as a file, with the version of the configuration that they are from.
    pub(crate) fn of(rules: &DatabaseRules, version: u64) -> Self {
        let settings = &rules.settings;
        let mode = match settings.execution_mode {
            ExecutionMode::Undefined => "undefined",
            ExecutionMode::Synchronous => "synchronous",
            ExecutionMode::Asynchronous => "asynchronous",
        };
        let role = |role: &Role| match role {
            Role::Master => "master".to_owned(),
            Role::Replica => "replica".to_owned(),
        };
        let every = ShardRules {
            places: Some(settings.places.clone()),
            owner: settings.owner.clone(),
            ..ShardRules::default()
        };
        let mut clusters: BTreeMap<String, WrittenShard> =
            rules.shards.iter().map(|(name, rules)| (name.clone(), shard(rules))).collect();
        clusters.insert(EVERY.to_owned(), shard(&every));
        Self {
            version,
            auto_deploy: settings.auto_deploy,
            execution_mode: mode.to_owned(),
            read_quorum: quorum(settings.read_quorum),
            write_quorum: quorum(settings.write_quorum),
            read_your_writes: settings.read_your_writes,
            servers: settings.roles.iter().map(|(name, r)| (name.clone(), role(r))).collect(),
            data_centers: settings
                .data_centers
                .iter()
                .map(|(name, servers)| (name.clone(), WrittenCenter { servers: servers.clone() }))
                .collect(),
            clusters,
        }
    }

    /// What differs in `after`, but for the version: each key with the value before and after.
    pub(crate) fn changes(&self, after: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        let (before, after) =
            (Self { version: 0, ..self.clone() }, Self { version: 0, ..after.clone() });
        let tree = |written: &Self| serde_json::to_value(written).unwrap_or_default();
        differ("", &tree(&before), &tree(&after), &mut changes);
        changes
    }
}

/// Goes down where both are objects; elsewhere says what differs.
fn differ(
    path: &str,
    before: &serde_json::Value,
    after: &serde_json::Value,
    changes: &mut Vec<String>,
) {
    use serde_json::Value;
    if before == after {
        return;
    }
    if let (Value::Object(old), Value::Object(new)) = (before, after) {
        let names: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for name in names {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            let of = |object: &serde_json::Map<String, Value>| {
                object.get(name).cloned().unwrap_or_default()
            };
            differ(&path, &of(old), &of(new), changes);
        }
        return;
    }
    let shown = |value: &Value| match value {
        Value::Null => "not said".to_owned(),
        other => other.to_string(),
    };
    changes.push(format!("{path}: {}, before {}", shown(after), shown(before)));
}

fn shard(rules: &ShardRules) -> WrittenShard {
    let place = |place: &PlaceRule| match place {
        PlaceRule::Server(name) => name.clone(),
        PlaceRule::NewNode => "<NEW_NODE>".to_owned(),
    };
    WrittenShard {
        servers: rules.places.as_ref().map(|places| places.iter().map(place).collect()),
        owner: rules.owner.clone(),
        write_quorum: rules.write_quorum.map(quorum),
        read_quorum: rules.read_quorum.map(quorum),
        read_your_writes: rules.read_your_writes,
    }
}

fn quorum(rule: QuorumRule) -> Quorum {
    match rule {
        QuorumRule::Count(count) => Quorum::Count(count),
        QuorumRule::Majority => Quorum::Word("majority".to_owned()),
        QuorumRule::All => Quorum::Word("all".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use quorate_io::config::DatabaseConfig;

    use super::*;

    fn read(text: &str) -> DatabaseRules {
        DatabaseConfig::parse("a file", text.as_bytes()).unwrap().0.rules()
    }

    #[test]
    fn what_is_written_is_read_back_as_the_same_rules() {
        let files = [
            "{}",
            r#"{"autoDeploy": false, "executionMode": "asynchronous", "readQuorum": 2,
                "writeQuorum": "all", "readYourWrites": false,
                "servers": {"*": "master", "archive": "replica"},
                "clusters": {"usa": {"servers": ["a", "<NEW_NODE>"], "owner": "a", "writeQuorum": 1},
                             "notes": {"readQuorum": 3, "readYourWrites": true},
                             "*": {"servers": ["b", "a", "<NEW_NODE>"], "owner": "b"}}}"#,
        ];
        for file in files {
            let rules = read(file);
            let written = Written::of(&rules, 7);
            let text = serde_json::to_string_pretty(&written).unwrap();
            assert_eq!(read(&text), rules, "{text}");
            assert_eq!(serde_json::from_str::<Written>(&text).unwrap(), written);
        }
    }

    #[test]
    fn changes_name_the_key_and_the_value_before_and_after() {
        let before = Written::of(&read(r#"{"clusters": {"usa": {"servers": ["a"]}}}"#), 3);
        let after = Written::of(&read(r#"{"writeQuorum": "all", "clusters": {"usa": {}}}"#), 4);
        assert_eq!(
            before.changes(&after),
            [
                "clusters.usa.servers: not said, before [\"a\"]",
                "writeQuorum: \"all\", before \"majority\"",
            ]
        );
        assert_eq!(before.changes(&before), Vec::<String>::new());
    }
}
