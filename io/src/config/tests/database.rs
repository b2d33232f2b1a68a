//! The database JSON: OrientDB's files unchanged, every key, every default.

use std::collections::BTreeMap;

use quorate_core::configuration::{
    self as core, AutoRemove, DatabaseRules, Defaults, PlaceRule, Registration, Role,
};

use super::super::{DatabaseConfig, ExecutionMode, Level, Note, Placement, QuorumRule, ShardRules};

fn read(json: &str) -> (DatabaseConfig, Vec<Note>) {
    DatabaseConfig::parse("x.json", json.as_bytes()).expect("accepted")
}

fn on(name: &str) -> Placement {
    Placement::Server(name.to_owned())
}

#[test]
fn orientdb_22_default_file_loads_unchanged() {
    let (read, notes) = read(include_str!("../testdata/orientdb-2.2-db-config.json"));
    assert_eq!(read, DatabaseConfig::default());
    assert!(notes.is_empty(), "{notes:#?}");
}

#[test]
fn orientdb_17_default_file_loads_and_notes_what_is_old() {
    let (read, notes) = read(include_str!("../testdata/orientdb-1.7-db-config.json"));
    assert_eq!(read.write_quorum, QuorumRule::Count(2));
    assert_eq!(read.new_node_strategy, Registration::Static);
    assert!(read.shards.contains_key("index"));
    let shown: Vec<String> = notes.iter().map(ToString::to_string).collect();
    let old = "is ignored: OrientDB has no such setting since 2.2";
    let expected = [
        format!("x.json:3: hotAlignment: {old}"),
        format!("x.json:6: failureAvailableNodesLessQuorum: {old}"),
    ];
    assert_eq!(shown, expected);
}

#[test]
fn every_key_is_read_and_words_have_no_case() {
    let (read, notes) = read(include_str!("../testdata/sharded-db-config.json"));
    assert_eq!((read.version, read.auto_deploy, read.read_your_writes), (7, false, false));
    assert_eq!(read.execution_mode, ExecutionMode::Asynchronous);
    assert_eq!(read.read_quorum, QuorumRule::All);
    assert_eq!(read.write_quorum, QuorumRule::LocalDataCenter);
    assert_eq!(read.new_node_strategy, Registration::Dynamic);
    assert_eq!(read.auto_remove.as_ref().map(|at| at.value), Some(AutoRemove::AfterMs(5000)));
    assert_eq!(read.data_centers["rome"].servers, ["europe-0", "europe-1"]);
    assert_eq!(read.data_centers["rome"].write_quorum, QuorumRule::Majority);
    assert_eq!(read.data_centers["austin"].write_quorum, QuorumRule::All);
    assert_eq!(read.servers["europe-0"], Role::Master);
    assert_eq!(read.servers["archive"], Role::Replica);
    assert_eq!(read.shards["internal"], ShardRules::default());
    let europe = &read.shards["client_europe"];
    assert_eq!(europe.servers, [on("europe-0"), on("europe-1"), Placement::NewNode]);
    assert_eq!(europe.owner.as_deref(), Some("europe-1"));
    assert_eq!(europe.read_your_writes, Some(true));
    assert_eq!(notes.len(), 1);
    assert_eq!((notes[0].level, notes[0].place.path.as_str()), (Level::Warning, "dataCenters"));
}

#[test]
fn a_shard_takes_what_it_does_not_say_from_the_star_and_then_from_the_top() {
    let (read, _) = read(include_str!("../testdata/sharded-db-config.json"));
    let unnamed = read.effective("main");
    assert_eq!(unnamed.servers, [on("europe-0"), Placement::NewNode]);
    assert_eq!((unnamed.owner.as_deref(), unnamed.owner_is_static), (Some("europe-0"), false));
    assert_eq!(unnamed.write_quorum, QuorumRule::Majority);
    assert_eq!(unnamed.read_quorum, QuorumRule::All);
    assert!(!unnamed.read_your_writes);
    let usa = read.effective("client_usa");
    assert_eq!((usa.owner.as_deref(), usa.write_quorum), (Some("usa-0"), QuorumRule::Count(1)));
    let europe = read.effective("client_europe");
    assert_eq!((europe.owner.as_deref(), europe.owner_is_static), (Some("europe-1"), true));
    assert!(europe.read_your_writes);
    let notes = read.effective("notes");
    assert_eq!((notes.read_quorum, notes.servers.len()), (QuorumRule::Count(2), 2));
}

#[test]
fn an_empty_object_has_every_default() {
    let (read, notes) = read("{}");
    let expected = DatabaseConfig { shards: BTreeMap::new(), ..DatabaseConfig::default() };
    assert_eq!(read, expected);
    assert!(notes.is_empty());
    assert_eq!(read.effective("main").write_quorum, QuorumRule::Majority);
}

#[test]
fn a_missing_strategy_is_static_and_servers_become_roles() {
    let (read, _) = read(r#"{"servers": {"a": "replica", "*": "master"}}"#);
    let defaults = read.defaults(None, 3);
    assert_eq!(defaults.new_node_strategy, Registration::Static);
    assert_eq!((defaults.role_of("a"), defaults.role_of("b")), (Role::Replica, Role::Master));
    assert_eq!((defaults.auto_remove, defaults.expect), (AutoRemove::AtOnce, 3));
    assert_eq!(DatabaseConfig::default().defaults(None, 0), Defaults::default());
}

#[test]
fn a_listed_server_is_static_even_if_new_ones_are_dynamic() {
    let (read, _) =
        read(r#"{"newNodeStrategy": "dynamic", "servers": {"a": "master", "*": "master"}}"#);
    let defaults = read.defaults(None, 0);
    assert_eq!(defaults.registration_of("a"), Registration::Static);
    assert_eq!(defaults.registration_of("b"), Registration::Dynamic);
}

#[test]
fn every_removal_time_is_understood() {
    let cases =
        [("-1", AutoRemove::Never), ("0", AutoRemove::AtOnce), ("100", AutoRemove::AfterMs(100))];
    for (text, expected) in cases {
        let (read, _) = read(&format!("{{\"autoRemoveOfflineServers\": {text}}}"));
        assert_eq!(read.defaults(None, 0).auto_remove, expected);
    }
}

#[test]
fn unknown_keys_are_noted_and_a_mistyped_case_is_a_warning() {
    let json = "{\n\"frob\": [1, {\"x\": null}],\n\"writequorum\": 2,\n\"clusters\": {\"*\": {\n\
                \"replication\": true, \"readQuorum\": 1.0e0}}}";
    let error = DatabaseConfig::parse("x.json", json.as_bytes()).expect_err("1.0e0 is no count");
    assert!(error.to_string().starts_with("x.json:5: clusters.*.readQuorum: \"1.0\""), "{error}");
    let (_, notes) = read(&json.replace("1.0e0", "1"));
    let shown: Vec<String> = notes.iter().map(ToString::to_string).collect();
    let expected = [
        "x.json:2: frob: is ignored: it has no meaning here",
        "x.json:3: writequorum: is ignored: write this key as \"writeQuorum\"",
        "x.json:5: clusters.*.replication: is ignored: it has no meaning here",
    ];
    assert_eq!(shown, expected);
}

#[test]
fn a_quorum_of_zero_counts_as_one_and_65_is_refused() {
    let (zero, notes) = read(r#"{"writeQuorum": 0}"#);
    assert_eq!(zero.write_quorum, QuorumRule::Count(1));
    assert_eq!(notes[0].level, Level::Warning);
    assert_eq!(read(r#"{"writeQuorum": 64}"#).0.write_quorum, QuorumRule::Count(64));
    assert!(DatabaseConfig::parse("x.json", br#"{"writeQuorum": 65}"#).is_err());
    assert!(DatabaseConfig::parse("x.json", br#"{"writeQuorum": -1}"#).is_err());
    assert!(DatabaseConfig::parse("x.json", br#"{"writeQuorum": "2"}"#).is_err());
}

#[test]
fn a_server_listed_twice_holds_one_copy() {
    let (read, notes) = read(r#"{"clusters": {"*": {"servers": ["a", "<NEW_NODE>", "a"]}}}"#);
    assert_eq!(read.shards["*"].servers, [on("a"), Placement::NewNode]);
    assert_eq!(notes[0].place.path, "clusters.*.servers[2]");
}

#[test]
fn what_is_not_an_object_is_refused_with_its_line() {
    for text in ["[]", "1", "null", "\"x\""] {
        let error = DatabaseConfig::parse("x.json", text.as_bytes()).expect_err("refused");
        assert!(error.to_string().starts_with("x.json:1: the file: "), "{error}");
    }
    assert!(DatabaseConfig::parse("x.json", b"").is_err());
}

#[test]
fn the_shipped_file_makes_the_default_rules() {
    let (read, _) = read(include_str!("../testdata/orientdb-2.2-db-config.json"));
    assert_eq!(read.rules(), DatabaseRules::default());
    let (empty, _) = DatabaseConfig::parse("x.json", b"{}").expect("accepted");
    assert_eq!(empty.rules(), DatabaseRules::default());
    let (old, _) =
        DatabaseConfig::parse("x.json", include_bytes!("../testdata/orientdb-1.7-db-config.json"))
            .expect("accepted");
    assert!(old.rules().shards.is_empty(), "internal and index hold nothing");
}

#[test]
fn what_the_document_is_told_is_what_holds_for_each_shard() {
    let (read, _) = read(include_str!("../testdata/sharded-db-config.json"));
    let rules = read.rules();
    let place = |name: &str| PlaceRule::Server(name.to_owned());
    assert_eq!(rules.settings.places, [place("europe-0"), PlaceRule::NewNode]);
    assert_eq!(rules.settings.write_quorum, core::QuorumRule::Majority, "of the star");
    assert_eq!(rules.settings.read_quorum, core::QuorumRule::All, "of the top");
    assert_eq!(rules.settings.execution_mode, core::ExecutionMode::Asynchronous);
    assert_eq!(rules.settings.roles["archive"], Role::Replica);
    assert!(!rules.settings.auto_deploy && !rules.settings.read_your_writes);
    let names: Vec<&String> = rules.shards.keys().collect();
    assert_eq!(names, ["client_europe", "client_usa", "notes"]);
    let usa = &rules.shards["client_usa"];
    assert_eq!(usa.places, Some(vec![place("usa-0"), place("europe-0")]));
    assert_eq!(usa.write_quorum, Some(core::QuorumRule::Count(1)));
    let europe = &rules.shards["client_europe"];
    assert_eq!((europe.owner.as_deref(), europe.read_your_writes), (Some("europe-1"), Some(true)));
    assert_eq!((&rules.shards["notes"].places, &rules.shards["notes"].owner), (&None, &None));
    // The reader's own view and the document's agree wherever both say something.
    for name in ["main", "client_usa", "client_europe", "notes"] {
        let effective = read.effective(name);
        let own = rules.shards.get(name).cloned().unwrap_or_default();
        let places = own.places.unwrap_or_else(|| rules.settings.places.clone());
        assert_eq!(places.len(), effective.servers.len(), "{name}");
        let write = own.write_quorum.unwrap_or(rules.settings.write_quorum);
        assert_eq!(format!("{write:?}"), format!("{:?}", effective.write_quorum), "{name}");
    }
}
