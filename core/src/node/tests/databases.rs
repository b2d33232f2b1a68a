//! Databases on whole nodes: made on one, written through any, held by all.

use std::collections::BTreeMap;

use super::lifecycle::{SECOND, cluster, dynamic};
use super::world::World;
use crate::configuration::{
    ConfigCommand, CopyStatus, DatabaseRules, Defaults, PlaceRule, QuorumRule, Role, Settings,
};
use crate::engine::{Statement, Transaction, Value};
use crate::marks::reaches;
use crate::shard::{Consistency, Once, Reply, ShardError, SqlKind, Token};
use crate::{Command, CommandId, DatabaseId, LogId, NodeId};

pub(super) fn sql(text: &str, args: &[i64]) -> Transaction {
    let args: Vec<Value> = args.iter().map(|arg| Value::Integer(*arg)).collect();
    Transaction { statements: vec![Statement::with(text, args)] }
}

pub(super) fn insert(key: i64) -> Transaction {
    sql("INSERT INTO t (k, v) VALUES (?, ?)", &[key, 1])
}

pub(super) fn log(world: &World, at: usize, database: &str) -> LogId {
    world.node(at).configuration().unwrap().databases[database].shards["main"].log
}

pub(super) fn keys(world: &World, at: usize, log: LogId) -> Vec<i64> {
    world.machines[at].engine(log).table("t").into_keys().collect()
}

pub(super) fn online(world: &World, at: usize, database: &str) -> usize {
    let document = world.node(at).configuration().unwrap();
    let copies = &document.databases[database].shards["main"].copies;
    copies.values().filter(|status| **status == CopyStatus::Online).count()
}

pub(super) fn write(world: &mut World, at: usize, transaction: Transaction) -> Reply {
    let id = world.sql(at, "demo", SqlKind::Write, transaction);
    answer(world, at, id)
}

fn read(world: &mut World, at: usize, consistency: Consistency) -> Vec<Vec<Value>> {
    let all = sql("SELECT k, v FROM t ORDER BY k", &[]);
    let id = world.sql(at, "demo", SqlKind::Read(consistency), all);
    match answer(world, at, id) {
        Reply::Done { rows, .. } => rows[0].rows.clone(),
        other => panic!("{other:?}"),
    }
}

pub(super) fn answer(world: &mut World, at: usize, id: CommandId) -> Reply {
    let told = world.until(SECOND * 8, |w| w.machines[at].answers.contains_key(&id));
    assert!(told, "no answer: {world:?}");
    world.machines[at].answers[&id].clone()
}

pub(super) fn done(reply: &Reply) -> bool {
    matches!(reply, Reply::Done { .. })
}

fn create_demo(rules: DatabaseRules) -> ConfigCommand {
    let rules = Box::new(rules);
    ConfigCommand::CreateDatabase { name: "demo".to_owned(), id: DatabaseId(7), rules }
}

/// A cluster with the database `demo`, whose table is there.
pub(super) fn with_database(count: usize, defaults: &Defaults, settings: &Settings) -> World {
    let mut world = cluster(count, defaults);
    let create = create_demo(DatabaseRules { settings: settings.clone(), shards: BTreeMap::new() });
    let id = world.command(count - 1, Command::Change(create));
    assert!(world.until(SECOND * 3, |w| w.machines[count - 1].replies.contains_key(&id)));
    let table = write(&mut world, 0, sql("CREATE TABLE t (k INTEGER PRIMARY KEY, v)", &[]));
    assert!(done(&table), "{table:?}");
    world
}

#[test]
fn a_database_made_on_one_node_is_written_through_any_and_is_on_all() {
    for count in [1, 2, 3, 5] {
        let mut world = with_database(count, &Defaults::default(), &Settings::default());
        for (at, key) in (0..count).zip(1..) {
            let reply = write(&mut world, at, insert(key));
            assert!(done(&reply), "{at}: {reply:?}");
        }
        world.run(SECOND);
        let log = log(&world, 0, "demo");
        let expected: Vec<i64> = (1..=i64::try_from(count).unwrap()).collect();
        for at in 0..count {
            assert_eq!(keys(&world, at, log), expected, "{count} servers, at {at}");
            assert_eq!(read(&mut world, at, Consistency::Local).len(), count);
            assert_eq!(read(&mut world, at, Consistency::Linearizable).len(), count);
        }
        assert_eq!(online(&world, 0, "demo"), count);
    }
}

#[test]
fn a_server_that_joins_later_gets_the_database_and_a_vote_in_its_log() {
    let mut world = with_database(3, &Defaults::default(), &Settings::default());
    for key in 0..50 {
        assert!(done(&write(&mut world, 0, insert(key))));
    }
    let late = world.add("late", Defaults::default());
    world.start(late);
    let log = log(&world, 0, "demo");
    let id = world.id(late);
    let whole = |w: &World| {
        online(w, 0, "demo") == 4
            && w.node(late).shard(log).is_some_and(|s| s.log().membership().is_voter(id))
    };
    assert!(world.until(SECOND * 5, whole), "{world:?}");
    world.run(SECOND);
    assert_eq!(keys(&world, late, log).len(), 50);
    assert!(done(&write(&mut world, late, insert(100))));
}

#[test]
fn a_killed_owner_is_followed_by_another_and_nothing_acknowledged_is_lost() {
    let mut world = with_database(3, &Defaults::default(), &Settings::default());
    let log = log(&world, 0, "demo");
    let owner = owner(&world, log);
    let through = (owner + 1) % 3;
    let mut acknowledged = Vec::new();
    for key in 0..200 {
        if key == 60 {
            world.kill(owner);
        }
        if key == 140 {
            world.start(owner);
        }
        match write(&mut world, through, insert(key)) {
            Reply::Done { .. } => acknowledged.push(key),
            Reply::Failed(ShardError::OutcomeUnknown) => {}
            other => panic!("{key}: {other:?}"),
        }
    }
    assert!(acknowledged.len() >= 199, "{}", acknowledged.len());
    world.run(SECOND * 8);
    for at in 0..3 {
        let held = keys(&world, at, log);
        assert!(acknowledged.iter().all(|key| held.contains(key)), "{at}");
        assert_eq!(held, keys(&world, 0, log));
    }
}

pub(super) fn owner(world: &World, log: LogId) -> usize {
    let owns = |n: &usize| {
        let node = world.machines[*n].node.as_ref();
        node.and_then(|node| node.shard(log)).is_some_and(crate::shard::Shard::is_owner)
    };
    (0..world.machines.len()).find(owns).expect("somebody owns it")
}

#[test]
fn a_node_that_comes_back_gets_only_what_it_missed_and_owns_its_shard_again() {
    let mut world = with_database(3, &Defaults::default(), &Settings::default());
    let log = log(&world, 0, "demo");
    let first = owner(&world, log);
    world.kill(first);
    world.run(SECOND * 7);
    let through = (first + 1) % 3;
    for key in 0..30 {
        assert!(done(&write(&mut world, through, insert(key))), "{key}");
    }
    let before = world.machines[first].engine(log).clone();
    world.start(first);
    let back = |w: &World| {
        w.node(first).shard(log).is_some_and(crate::shard::Shard::is_owner)
            && online(w, first, "demo") == 3
    };
    assert!(world.until(SECOND * 15, back), "{world:?}");
    assert_eq!(keys(&world, first, log).len(), 30);
    assert!(before.table("t").is_empty());
}

#[test]
fn half_of_two_writes_with_a_number_and_not_with_the_majority() {
    for (quorum, works) in [(QuorumRule::Majority, false), (QuorumRule::Count(1), true)] {
        let settings = Settings { write_quorum: quorum, ..Settings::default() };
        let mut world = with_database(2, &Defaults::default(), &settings);
        assert!(done(&write(&mut world, 0, insert(1))));
        let log = log(&world, 0, "demo");
        let tie = world.node(0).shard(log).unwrap().log().membership().incoming.tie_breaker;
        let (stays, goes) = if tie == Some(world.id(0)) { (0, 1) } else { (1, 0) };
        world.kill(goes);
        world.run(SECOND * 3);
        let reply = write(&mut world, stays, insert(2));
        match reply {
            Reply::Done { .. } => assert!(works),
            Reply::Failed(ShardError::NoQuorum { missing, .. }) => {
                assert!(!works);
                assert_eq!(missing, [world.id(goes)]);
            }
            other => panic!("{other:?}"),
        }
        world.start(goes);
        world.run(SECOND * 3);
        assert!(done(&write(&mut world, goes, insert(3))));
    }
}

#[test]
fn of_two_dynamic_servers_the_one_that_is_left_goes_on() {
    reaches!(ElectedByTieBreaker);
    let mut world = with_database(2, &dynamic(), &Settings::default());
    assert!(done(&write(&mut world, 0, insert(1))));
    let tie = world.node(0).configuration_log().unwrap().membership().incoming.tie_breaker;
    let (stays, goes) = if tie == Some(world.id(0)) { (0, 1) } else { (1, 0) };
    world.kill(goes);
    let alone = |w: &World| w.node(stays).configuration().unwrap().servers.len() == 1;
    assert!(world.until(SECOND * 12, alone), "{world:?}");
    world.run(SECOND * 3);
    let reply = write(&mut world, stays, insert(2));
    // The shard's tie-breaker may be the one that is gone: then nobody may decide.
    let log = log(&world, stays, "demo");
    let shard_tie = world.node(stays).shard(log).unwrap().log().membership().incoming.tie_breaker;
    if shard_tie == Some(world.id(stays)) {
        assert!(done(&reply), "{reply:?}");
    } else {
        let missing = vec![world.id(goes)];
        assert!(
            matches!(&reply, Reply::Failed(ShardError::NoQuorum { missing: m, .. }) if *m == missing),
            "{reply:?}"
        );
    }
    world.start(goes);
    world.run(SECOND * 5);
    let reply = write(&mut world, goes, insert(3));
    assert!(done(&reply), "{reply:?}");
}

#[test]
fn each_shard_is_only_where_it_belongs_and_works_while_its_holders_do() {
    use crate::configuration::ShardRules;
    let mut world = World::new();
    for name in ["usa", "europe", "china"] {
        let number = world.add(name, Defaults::default());
        world.start(number);
    }
    assert!(world.until(SECOND * 5, |w| w.agree(&[0, 1, 2])));
    let on = |names: &[&str]| {
        let places = names.iter().map(|n| PlaceRule::Server((*n).to_owned())).collect();
        ShardRules { places: Some(places), ..ShardRules::default() }
    };
    let shards = [
        ("client_usa".to_owned(), on(&["usa", "europe"])),
        ("client_europe".to_owned(), on(&["europe"])),
        ("client_china".to_owned(), on(&["china", "usa", "europe"])),
    ];
    let create =
        create_demo(DatabaseRules { settings: Settings::default(), shards: shards.into() });
    world.command(2, Command::Change(create));
    world.run(SECOND * 2);
    let holders = |w: &World, shard: &str| -> Vec<usize> {
        let document = w.node(0).configuration().unwrap();
        let log = document.databases["demo"].shards[shard].log;
        (0..3).filter(|n| w.machines[*n].disk.logs.contains_key(&log)).collect()
    };
    assert_eq!(holders(&world, "client_usa"), [0, 1]);
    assert_eq!(holders(&world, "client_europe"), [1]);
    assert_eq!(holders(&world, "client_china"), [0, 1, 2]);
    let create_in = |world: &mut World, at: usize, shard: &str| {
        let request = crate::node::SqlRequest {
            database: "demo".to_owned(),
            shard: Some(shard.to_owned()),
            transaction: sql("CREATE TABLE t (k INTEGER PRIMARY KEY, v)", &[]),
            kind: SqlKind::Write,
            timeout: SECOND * 3,
        };
        let id = world.next_command_id();
        world.input(at, crate::Input::Sql { id, request });
        answer(world, at, id)
    };
    // Written through one that holds nothing of it.
    assert!(done(&create_in(&mut world, 2, "client_europe")));
    world.kill(1);
    world.run(SECOND);
    let reply = create_in(&mut world, 2, "client_europe");
    let missing: Vec<NodeId> = vec![world.id(1)];
    assert!(
        matches!(&reply, Reply::Failed(ShardError::NoQuorum { missing: m, .. }) if *m == missing),
        "{reply:?}"
    );
    assert!(done(&create_in(&mut world, 2, "client_china")), "the others work");
}

#[test]
fn a_replica_serves_reads_and_neither_votes_nor_owns() {
    let roles = [("*".to_owned(), Role::Master), ("n2".to_owned(), Role::Replica)];
    let defaults = Defaults { roles: roles.into(), ..Defaults::default() };
    let mut world = with_database(3, &defaults, &Settings::default());
    assert!(done(&write(&mut world, 2, insert(1))), "it passes writes on");
    world.run(SECOND);
    assert_eq!(read(&mut world, 2, Consistency::Local).len(), 1);
    let log = log(&world, 0, "demo");
    let membership = world.node(0).shard(log).unwrap().log().membership().clone();
    assert!(!membership.is_voter(world.id(2)) && membership.contains(world.id(2)));
}

#[test]
fn what_is_not_there_is_named() {
    let mut world = with_database(1, &Defaults::default(), &Settings::default());
    let id = world.sql(0, "nothing", SqlKind::Write, insert(1));
    let reply = answer(&mut world, 0, id);
    let unknown = ShardError::UnknownDatabase { name: "nothing".to_owned() };
    assert_eq!(reply, Reply::Failed(unknown));
}

#[test]
fn a_dropped_database_is_gone_and_one_of_the_same_name_begins_empty() {
    let mut world = with_database(3, &Defaults::default(), &Settings::default());
    assert!(done(&write(&mut world, 0, insert(1))));
    let old = log(&world, 0, "demo");
    let drop = ConfigCommand::DropDatabase { name: "demo".to_owned() };
    world.command(1, Command::Change(drop));
    world.run(SECOND);
    let create = ConfigCommand::create_database("demo", DatabaseId(8));
    world.command(2, Command::Change(create));
    world.run(SECOND);
    // It is on the disks until these are sure to know that the database is gone.
    assert!((0..3).all(|n| !world.machines[n].disk.logs.contains_key(&old)));
    assert_ne!(log(&world, 0, "demo"), old);
    let table = write(&mut world, 0, sql("CREATE TABLE t (k INTEGER PRIMARY KEY, v)", &[]));
    assert!(done(&table), "{table:?}");
    assert!(read(&mut world, 1, Consistency::Linearizable).is_empty());
}

#[test]
fn servers_that_stop_hand_their_shards_over() {
    let mut world = with_database(3, &Defaults::default(), &Settings::default());
    let log = log(&world, 0, "demo");
    let first = owner(&world, log);
    world.command(first, Command::Stop);
    assert!(world.until(SECOND * 5, |w| w.machines[first].stopped.is_some()));
    let began = world.now;
    let reply = write(&mut world, (first + 1) % 3, insert(1));
    assert!(done(&reply), "{reply:?}");
    let took = world.now.since(began);
    assert!(took < SECOND / 5, "the shard was handed over before: {took:?}");
}

#[test]
fn only_servers_of_the_cluster_pass_transactions_on() {
    use crate::wire::{Packet, encode_packet};
    let mut world = with_database(1, &Defaults::default(), &Settings::default());
    let log = log(&world, 0, "demo");
    // A node of the group that was never let in, for its name is taken.
    let stranger = world.add("n0", Defaults::default());
    world.start(stranger);
    world.run(SECOND * 2);
    let (link, peer) = world.link_between(0, stranger).expect("they are linked");
    assert_eq!(peer, stranger);
    let timeout_ms = 1000;
    let (transaction, kind) = (insert(1), SqlKind::Write);
    let packet = Packet::Sql { id: 1, log, transaction, kind, timeout_ms };
    let bytes = encode_packet(&packet).into();
    world.input(0, crate::Input::Packet { link, bytes });
    world.run(SECOND);
    assert!(keys(&world, 0, log).is_empty());
}

#[test]
fn a_dropped_log_is_not_begun_anew_by_who_starts_with_an_older_document() {
    let mut world = with_database(3, &Defaults::default(), &Settings::default());
    for key in 0..10 {
        assert!(done(&write(&mut world, 0, insert(key))));
    }
    let log = log(&world, 0, "demo");
    let drop = ConfigCommand::DropDatabase { name: "demo".to_owned() };
    let id = world.command(0, Command::Change(drop));
    let gone = |w: &World| (0..3).all(|at| w.node(at).shard(log).is_none());
    assert!(world.until(SECOND * 3, |w| w.machines[0].replies.contains_key(&id) && gone(w)));
    // Nobody has written yet how far the drop was committed.
    (0..3).for_each(|at| world.kill(at));
    for at in 0..3 {
        let known = |w: &World| w.machines[at].disk.logs.get(&log).map(|held| held.entries.len());
        let before = known(&world);
        world.start(at);
        world.run(SECOND / 2);
        let after = known(&world);
        assert!(after.is_none() || after >= before.map(|len| len.max(2)), "{before:?} {after:?}");
        world.kill(at);
    }
    (0..3).for_each(|at| world.start(at));
    assert!(world.until(SECOND * 5, gone), "{world:?}");
    // What is left goes when the next start knows that the database is gone.
    world.run(SECOND * 2);
    let write =
        world.command(0, Command::Change(ConfigCommand::create_database("next", DatabaseId(9))));
    assert!(world.until(SECOND * 3, |w| w.machines[0].replies.contains_key(&write)));
    world.run(SECOND * 2);
    (0..3).for_each(|at| world.kill(at));
    (0..3).for_each(|at| world.start(at));
    world.run(SECOND * 2);
    assert!((0..3).all(|at| !world.machines[at].disk.logs.contains_key(&log)));
}

#[test]
fn what_a_dropped_database_was_asked_for_is_answered() {
    let mut world = with_database(1, &Defaults::default(), &Settings::default());
    let log = log(&world, 0, "demo");
    let drop = ConfigCommand::DropDatabase { name: "demo".to_owned() };
    world.command(0, Command::Change(drop));
    let write = world.sql(0, "demo", SqlKind::Write, insert(1));
    let all = sql("SELECT k, v FROM t ORDER BY k", &[]);
    let read = world.sql(0, "demo", SqlKind::Read(Consistency::Linearizable), all);
    assert!(world.node(0).shard(log).is_some(), "asked before it is gone");
    assert!(world.until(SECOND, |w| w.node(0).shard(log).is_none()));
    let told = |id| world.machines[0].answers.get(&id).cloned();
    let (write, read) = (told(write), told(read));
    assert!(matches!(write, Some(Reply::Failed(ShardError::OutcomeUnknown))), "{write:?}");
    assert!(matches!(read, Some(Reply::Failed(ShardError::Unavailable(_)))), "{read:?}");
}

#[test]
fn while_its_static_owner_is_away_another_takes_care_and_inserts_nothing_until_it_is_back() {
    let mut world = with_database(3, &Defaults::default(), &Settings::default());
    let log = log(&world, 0, "demo");
    let first = owner(&world, log);
    let fixed = (first + 1) % 3;
    let through = (first + 2) % 3;
    let name = world.node(0).configuration().unwrap().name_of(world.id(fixed));
    let set = ConfigCommand::SetOwner {
        name: "demo".to_owned(),
        id: DatabaseId(7),
        shard: "main".to_owned(),
        owner: Some(name.clone()),
    };
    let id = world.command(through, Command::Change(set));
    assert!(world.until(SECOND * 3, |w| w.machines[through].replies.contains_key(&id)));
    // Sent on until it has taken over, never refused.
    assert!(done(&write(&mut world, through, insert(1))));
    assert_eq!(owner(&world, log), fixed);
    world.kill(fixed);
    world.run(SECOND);
    // Before the configuration knows, and after.
    for key in [2, 3] {
        let away = Reply::Failed(ShardError::OwnerAway { owner: name.clone() });
        assert_eq!(write(&mut world, through, insert(key)), away);
        let update = sql("UPDATE t SET v = v + ? WHERE k = ?", &[1, 1]);
        assert!(done(&write(&mut world, through, update)), "{key}");
        world.run(SECOND * 8);
    }
    assert_eq!(read(&mut world, through, Consistency::Linearizable).len(), 1);
    world.start(fixed);
    assert!(world.until(SECOND * 10, |w| online(w, through, "demo") == 3));
    assert!(done(&write(&mut world, through, insert(2))));
    assert_eq!(owner(&world, log), fixed);
    world.run(SECOND);
    for at in 0..3 {
        assert_eq!(keys(&world, at, log), [1, 2], "{at}");
    }
}

fn compare(world: &mut World, at: usize) -> BTreeMap<NodeId, crate::shard::Hashed> {
    let id = world.sql(at, "demo", SqlKind::Compare, Transaction::default());
    match answer(world, at, id) {
        Reply::Compared { copies } => {
            copies.into_iter().map(|copy| (copy.node, copy.hashed)).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn copies_are_compared_from_any_node_and_who_differs_or_is_missing_is_told() {
    let mut world = with_database(3, &Defaults::default(), &Settings::default());
    for key in 0..20 {
        assert!(done(&write(&mut world, 0, insert(key))));
    }
    let log = log(&world, 0, "demo");
    for at in 0..3 {
        let told = compare(&mut world, at);
        assert_eq!(told.len(), 3);
        let first = told.values().next().unwrap().clone().unwrap();
        assert!(told.values().all(|hashed| *hashed == Ok(first)), "{told:?}");
        assert!(first.at.index > crate::Index(20));
    }
    let bad = (owner(&world, log) + 1) % 3;
    let files = world.machines[bad].files.get_mut(&log).unwrap();
    files.generations.values_mut().for_each(|copy| copy.spoil("t", 7));
    let told = compare(&mut world, 0);
    let others = told.iter().filter(|(node, _)| **node != world.id(bad)).map(|(_, h)| h.clone());
    let others: Vec<_> = others.map(Result::unwrap).collect();
    assert_eq!(others[0], others[1]);
    let spoiled = told[&world.id(bad)].clone().unwrap();
    assert_eq!(spoiled.at, others[0].at);
    assert_ne!(spoiled.hash, others[0].hash);
    world.kill(bad);
    world.run(SECOND);
    let told = compare(&mut world, (bad + 1) % 3);
    assert_eq!(told[&world.id(bad)], Err(crate::shard::NoHash::OutOfReach));
    assert_eq!(told.values().filter(|hashed| hashed.is_ok()).count(), 2);
}

#[test]
fn a_voter_that_has_lost_its_place_has_its_vote_after_a_restart_too() {
    let mut world = with_database(3, &Defaults::default(), &Settings::default());
    let log = log(&world, 0, "demo");
    let names: Vec<String> = (0..2).map(|at| format!("n{at}")).collect();
    let places = names.into_iter().map(PlaceRule::Server).collect();
    let settings = Settings { places, ..Settings::default() };
    let rules = Box::new(DatabaseRules { settings, shards: BTreeMap::new() });
    let id = DatabaseId(7);
    let name = "demo".to_owned();
    let drop = std::collections::BTreeSet::new();
    world.command(0, Command::Change(ConfigCommand::Configure { name, id, rules, drop }));
    let out = |w: &World| {
        let document = w.node(2).configuration().unwrap();
        !document.databases["demo"].shards["main"].copies.contains_key(&w.id(2))
    };
    assert!(world.until(SECOND * 2, out));
    (0..3).for_each(|at| world.kill(at));
    world.start(2);
    world.run(SECOND / 2);
    let me = world.id(2);
    let held = world.node(2).shard(log).expect("its vote may be needed");
    assert!(held.log().membership().is_voter(me));
    // With its vote the log goes on, and then it is let go.
    world.start(0);
    world.run(SECOND * 3);
    world.start(1);
    let gone = |w: &World| {
        (0..2).any(|at| w.node(at).shard(log).is_some_and(|s| s.log().is_settled_leader()))
            && (0..2).all(|at| !w.node(at).shard(log).unwrap().log().membership().is_voter(me))
    };
    assert!(world.until(SECOND * 8, gone), "{world:?}");
}

/// Three servers that have ended, with twenty rows on each; the shard's log.
fn with_all_gone() -> (World, LogId) {
    let mut world = with_database(3, &Defaults::default(), &Settings::default());
    for key in 0..20 {
        assert!(done(&write(&mut world, 0, insert(key))));
    }
    world.run(SECOND);
    (0..3).for_each(|n| world.kill(n));
    let log = world.machines[2].disk.logs.keys().copied().find(|l| *l != LogId::CONFIGURATION);
    (world, log.expect("it holds a shard"))
}

#[test]
fn a_survivor_that_is_recovered_owns_its_shards_with_all_that_reached_it() {
    let (mut world, log) = with_all_gone();
    let recovery =
        crate::recover_unsafe(&world.machines[2].disk, &Default::default(), crate::ClusterId(42))
            .unwrap();
    for op in &recovery.ops {
        world.machines[2].disk.apply(op);
    }
    world.start(2);
    world.run(SECOND * 2);
    assert_eq!(read(&mut world, 2, Consistency::Linearizable).len(), 20);
    let reply = write(&mut world, 2, insert(20));
    assert!(done(&reply), "{reply:?}");
    assert_eq!(read(&mut world, 2, Consistency::Local).len(), 21);
    let held = world.node(2).shard(log).unwrap().log();
    assert_eq!(held.membership().voters(), [world.id(2)].into());
    // Another that comes gets everything from it.
    let new = world.add("new", Defaults::default());
    world.start(new);
    assert!(world.until(SECOND * 8, |w| online(w, 2, "demo") == 2), "{world:?}");
    assert_eq!(keys(&world, new, log).len(), 21);
}

/// Killed between the record of a copy and the log's beginning behind it: the log is empty, and the
/// copy, which is the only one, holds everything.
#[test]
fn a_survivor_whose_log_has_not_come_to_its_copy_is_recovered_with_what_the_copy_holds() {
    let (mut world, log) = with_all_gone();
    let machine = &mut world.machines[2];
    let at = crate::engine::Engine::position(machine.engine(log));
    let copy = machine.disk.logs[&log].copy;
    let known = machine.disk.logs[&log].hard_state.term;
    machine.disk.logs.insert(log, crate::RecoveredLog { copy, ..Default::default() });
    let copies = [(log, at)].into();
    let recovery =
        crate::recover_unsafe(&machine.disk, &copies, crate::ClusterId(42)).expect("it goes on");
    assert!(recovery.last.contains(&(log, at.index, at.term)));
    recovery.ops.iter().for_each(|op| machine.disk.apply(op));
    world.start(2);
    world.run(SECOND * 2);
    assert_eq!(read(&mut world, 2, Consistency::Linearizable).len(), 20);
    let reply = write(&mut world, 2, insert(20));
    assert!(done(&reply), "{reply:?}");
    // The others may have been some terms further: none of their entries is named like one from here.
    let Reply::Done { at, .. } = reply else { unreachable!() };
    assert!(at.term.0 > known.0 + 1_000_000, "{at:?}");
}

#[test]
fn the_only_holder_of_a_shard_says_what_is_wrong_with_its_copy_though_the_document_knows_it() {
    use crate::configuration::{PlaceRule, ShardRules};
    let mut world = cluster(3, &Defaults::default());
    let holder = world.node(0).configuration().unwrap().name_of(world.id(2));
    let places = Some(vec![PlaceRule::Server(holder)]);
    let shards = [("main".to_owned(), ShardRules { places, ..ShardRules::default() })].into();
    let create = create_demo(DatabaseRules { settings: Settings::default(), shards });
    world.command(0, Command::Change(create));
    world.run(SECOND * 3);
    let made = write(&mut world, 0, sql("CREATE TABLE t (k INTEGER PRIMARY KEY, v)", &[]));
    assert!(done(&made), "{made:?}");
    let log = log(&world, 0, "demo");
    world.kill(2);
    world.machines[2].files.get_mut(&log).unwrap().generations.clear();
    world.start(2);
    let known = |w: &World| online(w, 0, "demo") == 0;
    assert!(world.until(SECOND * 10, known), "the document does not call it online any more");
    world.run(SECOND * 3);
    let reply = write(&mut world, 0, insert(1));
    assert!(matches!(reply, Reply::Failed(ShardError::Unavailable(_))), "{reply:?}");
}

#[test]
fn the_heartbeats_of_many_shards_are_one_message() {
    use crate::configuration::ShardRules;
    let mut world = cluster(2, &Defaults::default());
    let shards = (0..20).map(|n| (format!("s{n}"), ShardRules::default())).collect();
    let create = create_demo(DatabaseRules { settings: Settings::default(), shards });
    world.command(0, Command::Change(create));
    world.run(SECOND * 3);
    let before = world.packets;
    world.run(SECOND * 5);
    // Ten beats a second of either server, with the answers, and what servers say for themselves.
    let packets = world.packets - before;
    assert!(packets < 5 * (2 * 2 * 10 + 60), "{packets} packets in five seconds");
}

#[test]
fn without_a_quorum_in_reach_a_write_is_refused_long_before_its_time_is_up() {
    reaches!(NobodyInReach);
    let mut world = with_database(3, &Defaults::default(), &Settings::default());
    let log = log(&world, 0, "demo");
    let owner = owner(&world, log);
    let (stays, other) = ((owner + 1) % 3, (owner + 2) % 3);
    world.kill(owner);
    world.kill(other);
    world.run(SECOND);
    let asked = world.now;
    let mut missing = [world.id(owner), world.id(other)];
    missing.sort_unstable();
    match write(&mut world, stays, insert(1)) {
        Reply::Failed(ShardError::NoQuorum { missing: told, needed: 2, voters: 3 }) => {
            assert_eq!(told, missing);
        }
        told => panic!("{told:?}"),
    }
    let took = world.now.since(asked);
    assert!(took < SECOND * 2, "{took:?} of five seconds");
    let id = world.sql(stays, "demo", SqlKind::Write, insert(1));
    world.run(SECOND / 2);
    world.start(owner);
    // One that comes back in time is waited for.
    assert!(done(&answer(&mut world, stays, id)));
}

fn token(world: &World, at: usize, position: crate::engine::Position) -> Token {
    let document = world.node(at).configuration().unwrap();
    Token { database: document.databases["demo"].id, log: log(world, at, "demo"), at: position }
}

#[test]
fn a_token_shows_its_holder_what_it_wrote_on_any_node_and_is_stale_with_its_database() {
    let mut world = with_database(3, &Defaults::default(), &Settings::default());
    let log = log(&world, 0, "demo");
    let owner = owner(&world, log);
    let other = (owner + 1) % 3;
    let Reply::Done { at, .. } = write(&mut world, owner, insert(1)) else { panic!("written") };
    let seen = token(&world, owner, at);
    let all = Consistency::Since(seen);
    assert_eq!(read(&mut world, other, all).len(), 1, "at once, wherever the copy is");

    // A copy that never comes there leaves the read to the owner, who knows that there is no such
    // entry.
    let mut ahead = seen;
    ahead.at.index = crate::Index(10_000);
    let mut elsewhere = seen;
    elsewhere.at.term = crate::Term(elsewhere.at.term.0 + 7);
    for lost in [ahead, elsewhere] {
        let select = sql("SELECT k, v FROM t ORDER BY k", &[]);
        let id = world.sql(other, "demo", SqlKind::Read(Consistency::Since(lost)), select);
        let told = answer(&mut world, other, id);
        assert_eq!(told, Reply::Failed(ShardError::TokenOfAnotherHistory { at: lost.at }));
    }

    let drop = ConfigCommand::DropDatabase { name: "demo".to_owned() };
    let create = ConfigCommand::create_database("demo", DatabaseId(8));
    for command in [drop, create] {
        let id = world.command(other, Command::Change(command));
        assert!(world.until(SECOND * 3, |w| w.machines[other].replies.contains_key(&id)));
    }
    world.run(SECOND);
    let select = sql("SELECT k, v FROM t ORDER BY k", &[]);
    let id = world.sql(other, "demo", SqlKind::Read(all), select);
    let stale = ShardError::StaleToken { database: "demo".to_owned() };
    assert_eq!(answer(&mut world, other, id), Reply::Failed(stale));
}

#[test]
fn a_token_asks_for_no_less_than_whoever_has_none_gets() {
    let settings = Settings { read_quorum: QuorumRule::Count(2), ..Settings::default() };
    let mut world = with_database(3, &Defaults::default(), &settings);
    let log = log(&world, 0, "demo");
    let owner = owner(&world, log);
    let other = (owner + 1) % 3;
    let Reply::Done { at, .. } = write(&mut world, owner, insert(1)) else { panic!("written") };
    let old = Consistency::Since(token(&world, owner, at));
    for key in 2..6 {
        assert!(done(&write(&mut world, owner, insert(key))));
        let rows = read(&mut world, other, old);
        assert_eq!(rows.len(), usize::try_from(key).unwrap(), "all that was acknowledged");
    }
}

#[test]
fn a_session_is_none_of_another_cluster_though_all_numbers_are_the_same_there() {
    let mut world = with_database(1, &Defaults::default(), &Settings::default());
    assert!(done(&write(&mut world, 0, insert(1))));
    let opened = world.sql(0, "demo", SqlKind::OpenSession, Transaction::default());
    let Reply::Session { session } = answer(&mut world, 0, opened) else { panic!("opened") };
    let (cluster, log) = (world.node(0).cluster().unwrap(), log(&world, 0, "demo"));
    let add = |world: &mut World, cluster| {
        let once = Once { cluster, log, session, sequence: 1, acknowledged: 0 };
        let add = sql("UPDATE t SET v = v + ? WHERE k = ?", &[1, 1]);
        let id = world.sql(0, "demo", SqlKind::Once(once), add);
        answer(world, 0, id)
    };
    let elsewhere = add(&mut world, crate::ClusterId(cluster.0 ^ 1));
    assert_eq!(elsewhere, Reply::Failed(ShardError::SessionExpired));
    let mine = add(&mut world, cluster);
    assert!(done(&mine));
    assert_eq!(add(&mut world, cluster), mine, "it was not done for the other one");
    world.run(SECOND / 10);
    let held = world.machines[0].engine(log).table("t");
    assert_eq!(held[&1], Value::Integer(2));
}

#[test]
fn a_read_quorum_above_one_makes_reads_linearizable_unless_they_say_local() {
    let settings = Settings { read_quorum: QuorumRule::Majority, ..Settings::default() };
    let mut world = with_database(3, &Defaults::default(), &settings);
    let log = log(&world, 0, "demo");
    let owner = owner(&world, log);
    let (lone, other) = ((owner + 1) % 3, (owner + 2) % 3);
    world.run(SECOND);
    world.cut(lone, owner);
    world.cut(lone, other);
    world.run(SECOND);
    assert!(done(&write(&mut world, owner, insert(1))));
    assert_eq!(read(&mut world, other, Consistency::AsConfigured).len(), 1);
    let select = sql("SELECT k, v FROM t ORDER BY k", &[]);
    let id = world.sql(lone, "demo", SqlKind::Read(Consistency::AsConfigured), select);
    let told = answer(&mut world, lone, id);
    assert!(matches!(told, Reply::Failed(ShardError::NoQuorum { .. })), "{told:?}");
    assert_eq!(read(&mut world, lone, Consistency::Local).len(), 0, "asked for, and stale");
}

#[test]
fn a_node_shows_to_all_who_ask_it_what_it_has_answered_to_any_and_alone_what_it_has() {
    let mut world = with_database(3, &Defaults::default(), &Settings::default());
    let log = log(&world, 0, "demo");
    let owner = owner(&world, log);
    let other = (owner + 1) % 3;
    world.run(SECOND);
    for count in 1..=20 {
        assert!(done(&write(&mut world, other, insert(count))));
        let seen = read(&mut world, other, Consistency::AsConfigured).len();
        assert_eq!(i64::try_from(seen), Ok(count), "its copy has it a moment later");
    }
    world.run(SECOND);
    // The answer is the last that comes from the owner: the copy is never told that it is committed.
    let id = world.sql(other, "demo", SqlKind::Write, insert(21));
    assert!(world.until(SECOND, |w| w.machines[other].answers.contains_key(&id)));
    world.cut(other, owner);
    world.cut(other, (owner + 2) % 3);
    let select = sql("SELECT k, v FROM t ORDER BY k", &[]);
    let rows = |world: &mut World, within| {
        let kind = SqlKind::Read(Consistency::AsConfigured);
        let id = world.sql(other, "demo", kind, select.clone());
        assert!(world.until(within, |w| w.machines[other].answers.contains_key(&id)), "no answer");
        let Reply::Done { rows, .. } = &world.machines[other].answers[&id] else {
            panic!("{:?}", world.machines[other].answers[&id]);
        };
        rows[0].rows.len()
    };
    assert_eq!(rows(&mut world, SECOND * 2), 20, "cut off, it goes on with what it has");
    assert_eq!(rows(&mut world, SECOND / 10), 20, "and waits once only");
}

#[test]
fn a_comparison_asked_of_one_that_does_not_lead_leaves_nothing_that_disturbs_the_leaders() {
    use crate::wire::{Packet, encode_packet};
    let mut world = with_database(3, &Defaults::default(), &Settings::default());
    let log = log(&world, 0, "demo");
    let owner = owner(&world, log);
    let other = (owner + 1) % 3;
    let (link, _) = world.link_between(other, owner).expect("they are linked");
    let (transaction, kind) = (Transaction::default(), SqlKind::Compare);
    let packet = Packet::Sql { id: 1, log, transaction, kind, timeout_ms: 5000 };
    world.input(other, crate::Input::Packet { link, bytes: encode_packet(&packet).into() });
    world.run(SECOND / 10);
    let told = compare(&mut world, owner);
    assert!(told.len() == 3 && told.values().all(Result::is_ok), "{told:?}");
}

#[test]
fn comparisons_that_could_not_begin_leave_nobody_waiting() {
    let mut world = with_database(3, &Defaults::default(), &Settings::default());
    let log = log(&world, 0, "demo");
    let owner = owner(&world, log);
    let to = world.node((owner + 1) % 3).id();
    // The one that is to lead hears of nothing, so the owner goes on handing over.
    world.deafen(owner, (owner + 1) % 3);
    world.machines[owner]
        .node
        .as_mut()
        .unwrap()
        .shards
        .touch(log)
        .unwrap()
        .hand_over(world.now, to);
    for _ in 0..40 {
        world.sql(owner, "demo", SqlKind::Compare, Transaction::default());
        world.run(SECOND / 1000);
    }
    world.heal();
    world.run(SECOND);
    let told = compare(&mut world, owner);
    assert!(told.len() == 3 && told.values().all(Result::is_ok), "{told:?}");
}

#[test]
fn a_comparison_whose_owner_is_deposed_is_begun_anew_by_the_next() {
    let mut world = with_database(3, &Defaults::default(), &Settings::default());
    let log = log(&world, 0, "demo");
    let owner = owner(&world, log);
    let others = [(owner + 1) % 3, (owner + 2) % 3];
    // What it writes reaches nobody: the mark is lost with its term.
    others.into_iter().for_each(|other| world.deafen(owner, other));
    let asked = world.sql(owner, "demo", SqlKind::Compare, Transaction::default());
    let deposed = |w: &World| w.node(owner).shard(log).is_some_and(|s| !s.log().is_leader());
    assert!(world.until(SECOND * 4, deposed), "another leads by now");
    world.heal();
    assert!(world.until(SECOND * 2, |w| w.machines[owner].answers.contains_key(&asked)));
    let Reply::Compared { copies } = &world.machines[owner].answers[&asked] else {
        panic!("{:?}", world.machines[owner].answers[&asked]);
    };
    assert!(copies.len() == 3 && copies.iter().all(|copy| copy.hashed.is_ok()), "{copies:?}");
}

#[test]
fn a_command_is_answered_when_the_node_that_was_asked_has_applied_it() {
    let mut world = cluster(3, &Defaults::default());
    for (number, at) in (0..9).zip([0, 1, 2].into_iter().cycle()) {
        let name = format!("db{number}");
        let create = ConfigCommand::create_database(&name, DatabaseId(number));
        let id = world.command(at, Command::Change(create));
        assert!(world.until(SECOND * 3, |w| w.machines[at].replies.contains_key(&id)));
        let held = world.node(at).configuration().unwrap();
        assert!(held.databases.contains_key(&name), "{name} is not known at {at}");
    }
}

#[test]
fn what_was_passed_to_an_owner_that_is_stopped_is_passed_on_to_the_next_at_once() {
    let mut world = with_database(3, &Defaults::default(), &Settings::default());
    let log = log(&world, 0, "demo");
    let owner = owner(&world, log);
    let other = (owner + 1) % 3;
    let opened = world.sql(other, "demo", SqlKind::OpenSession, Transaction::default());
    let Reply::Session { session } = answer(&mut world, other, opened) else { panic!("opened") };
    let cluster = world.node(0).cluster().unwrap();
    // Its links stay, and nothing comes from it, nor to it.
    for peer in (0..3).filter(|peer| *peer != owner) {
        world.deafen(owner, peer);
        world.deafen(peer, owner);
    }
    let once = Once { cluster, log, session, sequence: 1, acknowledged: 0 };
    let (write, read) = (SqlKind::Once(once), SqlKind::Read(Consistency::Linearizable));
    let select = sql("SELECT k, v FROM t ORDER BY k", &[]);
    let asked =
        [world.sql(other, "demo", write, insert(1)), world.sql(other, "demo", read, select)];
    let all = |w: &World| asked.iter().all(|id| w.machines[other].answers.contains_key(id));
    // An election, and a little: by far less than the link is given to be heard of.
    assert!(world.until(SECOND * 3 / 2, all), "{:?}", world.machines[other].answers);
    for id in asked {
        assert!(done(&world.machines[other].answers[&id]), "{:?}", world.machines[other].answers);
    }
}
