//! What holds of the document after any commands at all.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::{
    AccessToken, Applied, ConfigCommand, Configuration, CopyStatus, DatabaseRules, Founding, MAIN,
    PasswordHash, Place, PlaceRule, Presence, QuorumRule, RemoveReason, Role, ServerStatus, Shard,
    ShardMoves, ShardRules, TokenHash, User, UserChange, UserRole, apply, check_user_name, preview,
    problems,
};
use super::{away, back, cluster, join, node, remove, role};
use crate::ids::{ClusterId, DatabaseId, LogId, NodeId};
use crate::raft::Quorum;

/// A command by numbers; which database and log it means is looked up when it is its turn.
#[derive(Clone, Debug)]
enum Act {
    Plain(ConfigCommand),
    Create(u8, DatabaseId, DatabaseRules),
    Configure(u8, DatabaseRules, Option<u8>),
    Drop(u8),
    AddShard(u8, u8, ShardRules),
    DropShard(u8, u8),
    Owner(u8, u8, Option<u8>),
    Copy(usize, u128, CopyStatus),
    Offline(usize, u128, bool),
    Born(usize, Vec<u128>),
    User(u8, UserAct),
}

/// What is done to a user; tokens are told apart by number.
#[derive(Clone, Debug)]
enum UserAct {
    Add(UserRole, bool),
    Drop,
    Role(UserRole),
    Password(bool),
    AddToken(u8),
    DropToken(u8),
}

fn any_user_act() -> impl Strategy<Value = UserAct> {
    let role = prop_oneof![
        2 => Just(UserRole::Admin),
        1 => Just(UserRole::Writer),
        1 => Just(UserRole::Reader),
    ];
    prop_oneof![
        3 => (role.clone(), any::<bool>()).prop_map(|(role, known)| UserAct::Add(role, known)),
        2 => Just(UserAct::Drop),
        2 => role.prop_map(UserAct::Role),
        1 => any::<bool>().prop_map(UserAct::Password),
        2 => (0_u8..3).prop_map(UserAct::AddToken),
        1 => (0_u8..3).prop_map(UserAct::DropToken),
    ]
}

fn user_change(act: &UserAct) -> UserChange {
    let password = |known: bool| known.then(|| PasswordHash("$argon2id$v=19$x".to_owned()));
    let name = |number: &u8| format!("t{number}");
    match act {
        UserAct::Add(role, known) => UserChange::Add { role: *role, password: password(*known) },
        UserAct::Drop => UserChange::Drop,
        UserAct::Role(role) => UserChange::Role(*role),
        UserAct::Password(known) => UserChange::Password(password(*known)),
        UserAct::AddToken(n) => {
            let token = AccessToken { hash: TokenHash([*n; 32]), made: 1, expires: None };
            UserChange::AddToken { name: name(n), token }
        }
        UserAct::DropToken(n) => UserChange::DropToken { name: name(n) },
    }
}

fn any_shard_rules() -> impl Strategy<Value = ShardRules> {
    let place = prop_oneof![
        3 => (1_u8..8).prop_map(|n| PlaceRule::Server(format!("n{n}"))),
        1 => Just(PlaceRule::NewNode),
    ];
    let places = proptest::option::of(proptest::collection::vec(place, 0..5));
    let owner = proptest::option::weighted(0.2, (1_u8..8).prop_map(|n| format!("n{n}")));
    let quorum = proptest::option::of((1_u32..5).prop_map(QuorumRule::Count));
    (places, owner, quorum).prop_map(|(places, owner, write_quorum)| ShardRules {
        places,
        owner,
        write_quorum,
        ..ShardRules::default()
    })
}

fn any_rules() -> impl Strategy<Value = DatabaseRules> {
    let shards = proptest::collection::btree_map(shard_name(), any_shard_rules(), 0..3);
    let replica = proptest::option::weighted(0.2, 1_u8..8);
    (shards, any_shard_rules(), replica).prop_map(|(shards, every, replica)| {
        let mut rules = DatabaseRules { shards, ..DatabaseRules::default() };
        if let Some(places) = every.places.filter(|places| !places.is_empty()) {
            rules.settings.places = places;
        }
        let replica = replica.map(|n| (format!("n{n}"), Role::Replica));
        rules.settings.roles.extend(replica);
        rules
    })
}

fn shard_name() -> impl Strategy<Value = String> {
    prop_oneof![Just("s1".to_owned()), Just("s2".to_owned()), Just(MAIN.to_owned())]
}

fn any_act() -> impl Strategy<Value = Act> {
    let number = 1_u128..8;
    let of_server = prop_oneof![
        4 => (number.clone(), 1_u8..8).prop_map(|(n, name)| join(n, &format!("n{name}"))),
        4 => number.clone().prop_map(|n| join(n, &format!("n{n}"))),
        2 => number.clone().prop_map(away),
        2 => number.clone().prop_map(back),
        2 => (number.clone(), any::<bool>()).prop_map(|(n, operator)| {
            let by = if operator { RemoveReason::Operator } else { RemoveReason::Unreachable };
            remove(n, by)
        }),
        1 => (number.clone(), any::<bool>())
            .prop_map(|(n, master)| role(n, if master { Role::Master } else { Role::Replica })),
    ];
    let status = prop_oneof![
        Just(CopyStatus::Online),
        Just(CopyStatus::Online),
        Just(CopyStatus::Synchronizing),
        Just(CopyStatus::NotAvailable),
        Just(CopyStatus::Backup),
        Just(CopyStatus::Offline),
    ];
    let db = 0_u8..2;
    prop_oneof![
        12 => of_server.prop_map(Act::Plain),
        3 => (db.clone(), any::<u128>(), any_rules())
            .prop_map(|(db, id, rules)| Act::Create(db, DatabaseId(id), rules)),
        3 => (db.clone(), any_rules(), proptest::option::weighted(0.3, 0_u8..4))
            .prop_map(|(db, rules, dropped)| Act::Configure(db, rules, dropped)),
        1 => db.clone().prop_map(Act::Drop),
        2 => (db.clone(), 0_u8..4, any_shard_rules()).prop_map(|(d, s, r)| Act::AddShard(d, s, r)),
        1 => (db.clone(), 0_u8..4).prop_map(|(db, shard)| Act::DropShard(db, shard)),
        2 => (db, 0_u8..4, proptest::option::of(1_u8..8)).prop_map(|(d, s, o)| Act::Owner(d, s, o)),
        6 => (any::<usize>(), number.clone(), status).prop_map(|(l, n, s)| Act::Copy(l, n, s)),
        1 => (any::<usize>(), number.clone(), any::<bool>())
            .prop_map(|(log, n, offline)| Act::Offline(log, n, offline)),
        2 => (any::<usize>(), proptest::collection::vec(number.clone(), 1..4))
            .prop_map(|(log, nodes)| Act::Born(log, nodes)),
        4 => (0_u8..4, any_user_act()).prop_map(|(user, act)| Act::User(user, act)),
        1 => number.prop_map(|n| {
            Act::Plain(ConfigCommand::Recover { cluster: ClusterId(n), survivor: node(n) })
        }).prop_filter("a recovery ends everything; seldom", |act| {
            matches!(act, Act::Plain(ConfigCommand::Recover { cluster, .. }) if cluster.0 == 1)
        }),
    ]
}

fn command(held: &Configuration, act: Act) -> ConfigCommand {
    let name = |db: u8| format!("db{db}");
    let id = |db: u8| held.databases.get(&name(db)).map_or(DatabaseId(0), |held| held.id);
    let shard = |number: u8| if number == 0 { MAIN.to_owned() } else { format!("s{number}") };
    let logs: Vec<LogId> = held.shards().map(|shard| shard.shard.log).collect();
    let log = |at: usize| logs.get(at % logs.len().max(1)).copied().unwrap_or_default_log();
    match act {
        Act::Plain(command) => command,
        Act::Create(db, id, rules) => {
            ConfigCommand::CreateDatabase { name: name(db), id, rules: Box::new(rules) }
        }
        Act::Configure(db, rules, dropped) => ConfigCommand::Configure {
            name: name(db),
            id: id(db),
            rules: Box::new(rules),
            drop: dropped.map(shard).into_iter().collect(),
        },
        Act::Drop(db) => ConfigCommand::DropDatabase { name: name(db) },
        Act::AddShard(db, number, rules) => ConfigCommand::AddShard {
            name: name(db),
            id: id(db),
            shard: shard(number),
            rules: Box::new(rules),
        },
        Act::DropShard(db, number) => {
            ConfigCommand::DropShard { name: name(db), id: id(db), shard: shard(number) }
        }
        Act::Owner(db, number, owner) => ConfigCommand::SetOwner {
            name: name(db),
            id: id(db),
            shard: shard(number),
            owner: owner.map(|n| format!("n{n}")),
        },
        Act::Copy(at, number, status) => ConfigCommand::SetCopy {
            log: log(at),
            node: node(number),
            status,
            judged_at: held.version,
        },
        Act::Offline(at, number, offline) => {
            ConfigCommand::SetOffline { log: log(at), node: node(number), offline }
        }
        Act::Born(at, numbers) => {
            ConfigCommand::Born { log: log(at), nodes: super::nodes(&numbers) }
        }
        Act::User(number, act) => {
            ConfigCommand::User { name: format!("u{number}"), change: user_change(&act) }
        }
    }
}

trait OrNoLog {
    fn unwrap_or_default_log(self) -> LogId;
}

impl OrNoLog for Option<LogId> {
    fn unwrap_or_default_log(self) -> LogId {
        self.unwrap_or(LogId(u64::MAX))
    }
}

/// What holds of one document.
fn check(held: &Configuration) {
    let mut logs = BTreeSet::new();
    for (name, database) in &held.databases {
        assert!(database.shards.contains_key(MAIN), "{name}");
        assert!(database.created <= held.version);
    }
    for shard in held.shards() {
        let (seen, shard) = (shard, shard.shard);
        assert!(shard.log > LogId::CONFIGURATION && shard.log <= held.last_log);
        assert!(logs.insert(shard.log), "{:?} twice", shard.log);
        assert!(shard.revised <= held.version);
        let servers: Vec<NodeId> = seen.servers().map(|(id, _)| id).collect();
        let set: BTreeSet<NodeId> = servers.iter().copied().collect();
        assert_eq!(servers.len(), set.len(), "a server has two places: {:?}", shard.places);
        assert!(shard.copies.keys().eq(set.iter()), "{:?} {:?}", shard.copies, shard.places);
        let marks = shard.places.iter().filter(|place| **place == Place::NewNode).count();
        assert!(marks <= 1 && !shard.places.is_empty() || !set.is_empty() || marks == 1);
        for (id, status) in &shard.copies {
            let there = held.servers[id].status == ServerStatus::Online;
            let idle = matches!(status, CopyStatus::NotAvailable | CopyStatus::Offline);
            assert!(there || idle, "{status:?} on a server that is away");
        }
        if let Some(owner) = &shard.owner {
            assert!(shard.places.contains(&Place::Named(owner.clone())), "{owner} has no place");
        }
        if let Some(founding) = &shard.founding {
            check_founding(founding);
        }
        let masters: BTreeSet<NodeId> = seen.masters().map(|(id, _)| id).collect();
        assert!(seen.candidates().iter().all(|id| masters.contains(id)));
        if let Some(owner) = seen.preferred_owner() {
            assert_eq!(shard.copies[&owner], CopyStatus::Online);
            assert!(seen.may_own(owner) && Some(owner) == seen.preferred_leader());
        }
    }
    let turns: BTreeSet<NodeId> = held.turns.iter().copied().collect();
    assert_eq!(turns.len(), held.turns.len(), "two slots");
    assert!(held.servers.keys().all(|id| turns.contains(id)), "no slot");
    check_users(held);
}

fn check_users(held: &Configuration) {
    let admin = held.users.values().any(|user| user.role == UserRole::Admin);
    assert!(admin || held.users.is_empty(), "users, and no admin: {:?}", held.users);
    assert!(held.users.len() <= Configuration::USERS_MAX);
    for (name, user) in &held.users {
        assert!(check_user_name(name).is_ok() && user.tokens.len() <= User::TOKENS_MAX);
    }
}

/// Configured by what it says of itself, no copy of a database moves.
fn check_told(held: &Configuration) {
    for (name, database) in &held.databases {
        let command = ConfigCommand::Configure {
            name: name.clone(),
            id: database.id,
            rules: Box::new(DatabaseRules::of(database)),
            drop: BTreeSet::new(),
        };
        // Refused where nobody who is listed is left: then it cannot be said anew either.
        let Ok(moves) = preview(held, &command) else { continue };
        let still = |m: &ShardMoves| {
            let lists = [&m.gains, &m.loses, &m.awaited];
            m.presence == Presence::Kept && lists.iter().all(|list| list.is_empty())
        };
        assert!(moves.iter().all(still), "{moves:?}");
    }
}

fn check_founding(founding: &Founding) {
    let first = &founding.first.incoming;
    assert!(founding.unborn.is_subset(&first.voters) && !founding.unborn.is_empty());
    assert!(first.tie_breaker.is_some_and(|tie| first.voters.contains(&tie)));
    let able = |id: NodeId| founding.unborn.contains(&id);
    assert!(founding.led || Quorum::of(&founding.first).is_met(able), "it can never begin");
}

/// What holds of a document and the one after it.
fn check_step(before: &Configuration, after: &Configuration, recovered: bool) {
    assert!(after.last_log >= before.last_log);
    let old: BTreeMap<LogId, (DatabaseId, &str, &Shard)> =
        before.shards().map(|s| (s.shard.log, (s.database.id, s.name, s.shard))).collect();
    for shard in after.shards() {
        let (seen, shard) = (shard, shard.shard);
        let Some((database, name, was)) = old.get(&shard.log) else {
            assert!(shard.log > before.last_log, "{:?} is used again", shard.log);
            let founding = shard.founding.as_ref().expect("a new shard is founded");
            assert_eq!(founding.unborn, founding.first.incoming.voters);
            let online = seen.masters().filter(|(_, s)| s.status == ServerStatus::Online);
            let online: BTreeSet<NodeId> = online.map(|(id, _)| id).collect();
            assert_eq!(founding.unborn, online, "its masters that are there");
            assert!(online.iter().all(|id| shard.copies[id] == CopyStatus::Online));
            assert_eq!(seen.preferred_leader(), founding.first.incoming.tie_breaker);
            continue;
        };
        assert_eq!((*database, *name), (seen.database.id, seen.name));
        if let Some(now) = shard.founding.as_ref().filter(|_| !recovered) {
            let was = was.founding.as_ref().expect("founded anew");
            assert_eq!(now.first, was.first, "constant");
            assert!(now.unborn.is_subset(&was.unborn), "only ever shrinks");
            assert!(now.led >= was.led);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn the_document_stays_whole_whatever_is_asked_of_it(
        acts in proptest::collection::vec(any_act(), 1..80)
    ) {
        let mut held = Some(cluster(&["n1", "n2", "n3"]));
        let mut meant: BTreeMap<LogId, (DatabaseId, String)> = BTreeMap::new();
        for act in acts {
            let before = held.clone().unwrap();
            let command = command(&before, act);
            let problems = problems(&before, &command);
            let result = apply(&mut held, &command);
            let after = held.as_ref().unwrap();
            match result {
                Ok(_) if !problems.is_empty() => prop_assert!(false, "{:?}", problems),
                Ok(Applied::Changed) => prop_assert_eq!(after.version, before.version.next()),
                Ok(Applied::Unchanged) => prop_assert_eq!(after, &before),
                Err(why) => {
                    prop_assert_eq!(after, &before);
                    prop_assert_eq!(problems.first(), Some(&why));
                    prop_assert!(why.to_string().len() < 400);
                }
            }
            check(after);
            check_told(after);
            check_step(&before, after, matches!(command, ConfigCommand::Recover { .. }));
            for shard in after.shards() {
                let is = (shard.database.id, shard.name.to_owned());
                let first = meant.entry(shard.shard.log).or_insert_with(|| is.clone());
                prop_assert_eq!(first, &is, "a log that belonged to another shard");
            }
            let bytes = postcard::to_allocvec(after).unwrap();
            prop_assert_eq!(&postcard::from_bytes::<Configuration>(&bytes).unwrap(), after);
        }
    }
}
