//! Clusters of one server that bring their databases: nothing acknowledged is lost, nothing is brought
//! twice, whenever who crashes.

use std::collections::{BTreeMap, BTreeSet};

use super::databases::{answer, done, sql};
use super::lifecycle::SECOND;
use super::merging::{apart, become_one, restart_the_dissolved, set_aside};
use super::world::{Aside, STEP, World};
use crate::configuration::{
    Absorption, ConfigCommand, CopyStatus, DatabaseRules, Defaults, PlaceRule, Registration,
    Rejection, Settings, ShardRules,
};
use crate::node::SqlRequest;
use crate::shard::{Consistency, Reply as SqlReply, ShardError, SqlKind, Token};
use crate::{
    Command, CommandError, CommandId, DatabaseId, Event, Input, LogId, NodeId, Reply, State,
    StopReason,
};

/// The machine of the cluster of one server, in most worlds here.
const SOLO: usize = 3;

fn make(world: &mut World, at: usize, name: &str, id: u128, rules: DatabaseRules) -> Reply {
    let rules = Box::new(rules);
    let create = ConfigCommand::CreateDatabase { name: name.to_owned(), id: DatabaseId(id), rules };
    change(world, at, create)
}

fn change(world: &mut World, at: usize, command: ConfigCommand) -> Reply {
    let id = world.command(at, Command::Change(command));
    assert!(world.until(SECOND * 6, |w| w.machines[at].replies.contains_key(&id)), "{world:?}");
    world.machines[at].replies[&id].clone()
}

fn ask(
    world: &mut World,
    at: usize,
    database: &str,
    shard: &str,
    text: &str,
    key: i64,
) -> CommandId {
    let id = world.next_command_id();
    let args: &[i64] = if text.starts_with("INSERT") { &[key, 1] } else { &[] };
    let request = SqlRequest {
        database: database.to_owned(),
        shard: Some(shard.to_owned()),
        transaction: sql(text, args),
        kind: SqlKind::Write,
        timeout: SECOND * 5,
    };
    world.input(at, Input::Sql { id, request });
    id
}

const INSERT: &str = "INSERT INTO t (k, v) VALUES (?, ?)";
const TABLE: &str = "CREATE TABLE t (k INTEGER PRIMARY KEY, v)";

fn insert(world: &mut World, at: usize, database: &str, key: i64) -> SqlReply {
    let id = ask(world, at, database, "main", INSERT, key);
    answer(world, at, id)
}

/// A database with a table in every shard, and these rows in each.
fn fill(
    world: &mut World,
    at: usize,
    name: &str,
    rules: DatabaseRules,
    keys: std::ops::Range<i64>,
) {
    let shards: Vec<String> = rules.shards.keys().cloned().chain(["main".to_owned()]).collect();
    let id = u128::from(name.as_bytes()[0]) << 64 | u128::try_from(at).unwrap();
    assert!(matches!(make(world, at, name, id, rules), Reply::Done { .. }));
    for shard in shards {
        let table = ask(world, at, name, &shard, TABLE, 0);
        assert!(done(&answer(world, at, table)), "{world:?}");
        for key in keys.clone() {
            let row = ask(world, at, name, &shard, INSERT, key);
            assert!(done(&answer(world, at, row)));
        }
    }
}

/// Three servers with the database `demo`, and one alone with `solo`, that do not see each other yet.
fn demo_and_solo() -> World {
    let (mut world, _) = apart(&[3, 1]);
    fill(&mut world, 0, "demo", DatabaseRules::default(), 0..5);
    fill(&mut world, SOLO, "solo", DatabaseRules::default(), 0..20);
    world.run(SECOND);
    world
}

fn log(world: &World, at: usize, database: &str, shard: &str) -> Option<LogId> {
    let document = world.machines[at].node.as_ref()?.configuration()?;
    Some(document.databases.get(database)?.shards.get(shard)?.log)
}

/// What the copy of a shard holds at a machine; `None` while it is not online there.
fn held(world: &World, at: usize, database: &str, shard: &str) -> Option<Vec<i64>> {
    let log = log(world, at, database, shard)?;
    let node = world.machines[at].node.as_ref()?;
    let copies = &node.configuration()?.databases[database].shards[shard].copies;
    if copies.get(&node.id()) != Some(&CopyStatus::Online) || !node.shard(log)?.is_open() {
        return None;
    }
    Some(world.machines[at].engine(log).table("t").into_keys().collect())
}

/// Whether all machines come to hold these rows in a shard.
fn all_hold(world: &mut World, database: &str, shard: &str, keys: &[i64]) -> bool {
    let count = world.machines.len();
    let whole =
        |w: &World| (0..count).all(|at| held(w, at, database, shard).as_deref() == Some(keys));
    (0..120).any(|_| {
        restart_the_dissolved(world);
        world.until(SECOND / 4, whole)
    })
}

fn rows(keys: std::ops::Range<i64>) -> Vec<i64> {
    keys.collect()
}

fn reserved(world: &World, at: usize, name: &str) -> bool {
    let node = world.machines[at].node.as_ref();
    node.and_then(|n| n.configuration()).is_some_and(|d| d.reserved(name).is_some())
}

/// What the rows of a database in its present place are, and that it is there once.
fn settled(world: &mut World, at_least: &BTreeSet<i64>, at_most: &BTreeSet<i64>) {
    assert!(become_one(world, 60), "{world:?}");
    world.run(SECOND * 3);
    let found = held(world, 0, "solo", "main").expect("it is online");
    assert!(all_hold(world, "solo", "main", &found), "{world:?}");
    let found: BTreeSet<i64> = found.into_iter().collect();
    assert!(at_least.is_subset(&found), "lost: {:?}", at_least.difference(&found));
    assert!(found.is_subset(at_most), "out of nothing: {:?}", found.difference(at_most));
    // The ownership may be on its way to another just now.
    let mut more = (9_000..9_003).map(|key| insert(world, 1, "solo", key));
    assert!(more.any(|reply| done(&reply)));
    drop(more);
    let document = world.node(0).configuration().unwrap();
    assert!(document.bringing.is_empty(), "nothing is reserved any more");
    let brought = |event: &&Event| matches!(event, Event::Brought { .. });
    let times: usize = world.machines.iter().map(|m| m.events.iter().filter(brought).count()).sum();
    assert!(times >= 1);
}

#[test]
fn a_cluster_of_one_server_brings_its_databases_and_all_have_them() {
    let mut world = demo_and_solo();
    let before = world.node(SOLO).configuration().unwrap().databases["solo"].id;
    let survivor = world.node(0).cluster();
    world.heal();
    assert!(become_one(&mut world, 20), "{world:?}");
    assert_eq!(world.node(SOLO).cluster(), survivor);
    assert!(!set_aside(&world, &[0, 1, 2]));
    assert!(all_hold(&mut world, "solo", "main", &rows(0..20)), "{world:?}");
    assert!(all_hold(&mut world, "demo", "main", &rows(0..5)), "{world:?}");
    for (at, key) in (0..4).zip(100..) {
        assert!(done(&insert(&mut world, at, "solo", key)));
        assert!(done(&insert(&mut world, at, "demo", key)));
    }
    let document = world.node(0).configuration().unwrap();
    assert_ne!(document.databases["solo"].id, before, "tokens of before are of another database");
    assert!(document.databases["solo"].shards["main"].founding.is_none());
    let files = &world.machines[SOLO].aside.values().next().unwrap().1;
    let first = files.values().next().unwrap().generations.values().next().unwrap();
    assert_eq!(first.table("t").len(), 20, "what it held lies aside as it was");
}

#[test]
fn three_servers_with_a_database_each_end_with_all_of_them_everywhere() {
    let (mut world, _) = apart(&[1, 1, 1]);
    for (at, name) in ["africa", "berlin", "china"].into_iter().enumerate() {
        let first = i64::try_from(at).unwrap() * 100;
        fill(&mut world, at, name, DatabaseRules::default(), first..first + 10);
    }
    world.heal();
    assert!(become_one(&mut world, 40), "{world:?}");
    for (at, name) in ["africa", "berlin", "china"].into_iter().enumerate() {
        let first = i64::try_from(at).unwrap() * 100;
        assert!(all_hold(&mut world, name, "main", &rows(first..first + 10)), "{name}: {world:?}");
    }
    assert!((0..3).all(|at| world.node(at).status(world.now).split_with.is_empty()));
}

#[test]
fn a_database_of_several_shards_is_brought_whole_with_its_own_rules() {
    let (mut world, _) = apart(&[3, 1]);
    fill(&mut world, 0, "demo", DatabaseRules::default(), 0..5);
    let own = ShardRules {
        places: Some(vec![PlaceRule::Server(format!("n{SOLO}"))]),
        owner: Some(format!("n{SOLO}")),
        ..ShardRules::default()
    };
    let shards =
        BTreeMap::from([("local".to_owned(), own), ("more".to_owned(), ShardRules::default())]);
    let settings = Settings { auto_deploy: true, ..Settings::default() };
    fill(&mut world, SOLO, "solo", DatabaseRules { settings, shards }, 0..7);
    world.heal();
    assert!(become_one(&mut world, 20), "{world:?}");
    for shard in ["main", "more"] {
        assert!(all_hold(&mut world, "solo", shard, &rows(0..7)), "{shard} {world:?}");
    }
    assert_eq!(held(&world, SOLO, "solo", "local"), Some(rows(0..7)));
    let document = world.node(0).configuration().unwrap();
    let local = &document.databases["solo"].shards["local"];
    assert_eq!(local.copies.keys().copied().collect::<Vec<_>>(), [world.id(SOLO)]);
    assert_eq!(local.owner.as_deref(), Some("n3"));
}

/// Lets time pass step by step with a writer at the one that brings, and a crash after so many steps.
/// What was acknowledged, and what was tried.
fn crash_after(
    world: &mut World,
    steps: usize,
    victim: usize,
    keep: usize,
) -> (BTreeSet<i64>, BTreeSet<i64>) {
    let mut asked: Vec<(CommandId, i64)> = Vec::new();
    let mut key = 1_000;
    let mut crashed = false;
    for step in 0..steps + 60 {
        world.run(STEP);
        if step == steps {
            world.crash(victim, keep);
            crashed = true;
        }
        if step == steps + 20 {
            world.start(victim);
        }
        if !crashed && step % 3 == 0 {
            // The new node of a dissolved one, at some time.
            restart_the_dissolved(world);
        }
        if world.machines[SOLO].node.is_some() {
            let id = ask(world, SOLO, "solo", "main", INSERT, key);
            asked.push((id, key));
            key += 1;
        }
    }
    for _ in 0..8 {
        restart_the_dissolved(world);
        world.run(SECOND / 4);
    }
    let answers = &world.machines[SOLO].answers;
    let acked =
        asked.iter().filter(|(id, _)| answers.get(id).is_some_and(done)).map(|(_, key)| *key);
    let acked = acked.chain(0..20).collect();
    let tried = asked.iter().map(|(_, key)| *key).chain(0..20).collect();
    (acked, tried)
}

fn crash_at_every_step(victims: &[usize], every: usize) {
    for victim in victims {
        let mut last = false;
        for steps in (0..).step_by(every) {
            let mut world = demo_and_solo();
            world.heal();
            assert!(world.until(SECOND * 10, |w| reserved(w, 0, "solo")), "{world:?}");
            let (acked, tried) = crash_after(&mut world, steps, *victim, steps % 3);
            settled(&mut world, &acked, &tried);
            if last {
                break;
            }
            // One round more once all was over before the crash.
            last = steps > 160;
            assert!(steps < 600, "it never ends");
        }
    }
}

#[test]
fn a_crash_of_the_one_that_brings_at_every_step_loses_nothing_and_brings_nothing_twice() {
    crash_at_every_step(&[SOLO], 1);
}

#[test]
fn a_crash_of_those_that_take_it_in_at_every_step_loses_nothing() {
    crash_at_every_step(&[0, 1], 7);
}

#[test]
fn every_prefix_of_what_is_written_leaves_all_of_it() {
    for operations in 0..60 {
        let mut world = demo_and_solo();
        world.heal();
        assert!(world.until(SECOND * 10, |w| reserved(w, 0, "solo")), "{world:?}");
        world.machines[SOLO].written = 0;
        world.machines[SOLO].crash_after = Some(operations);
        for _ in 0..40 {
            world.run(SECOND / 20);
            if world.machines[SOLO].node.is_none() && world.machines[SOLO].stopped.is_none() {
                world.start(SOLO);
            }
            restart_the_dissolved(&mut world);
        }
        settled(&mut world, &(0..20).collect(), &(0..20).collect());
    }
}

#[test]
fn a_start_after_the_end_of_its_cluster_finds_that_end_and_takes_no_writes() {
    let mut world = demo_and_solo();
    world.heal();
    let ended = |w: &World| w.machines[SOLO].stopped.is_some();
    assert!(world.until(SECOND * 10, ended), "{world:?}");
    for _ in 0..3 {
        // The process is killed before it has moved anything aside.
        world.start(SOLO);
        let id = ask(&mut world, SOLO, "solo", "main", INSERT, 777);
        assert!(world.until(SECOND * 5, ended), "{world:?}");
        assert!(!world.machines[SOLO].answers.get(&id).is_some_and(done));
        let reason = world.machines[SOLO].stopped.clone();
        assert!(
            matches!(reason, Some(StopReason::Dissolved { brings: Some(_), .. })),
            "{reason:?}"
        );
    }
    settled(&mut world, &(0..20).collect(), &(0..20).collect());
}

#[test]
fn a_name_that_is_in_both_keeps_them_apart_and_is_named_on_both_sides() {
    let (mut world, _) = apart(&[3, 1]);
    fill(&mut world, 0, "demo", DatabaseRules::default(), 0..5);
    fill(&mut world, SOLO, "solo", DatabaseRules::default(), 0..5);
    fill(&mut world, SOLO, "DEMO", DatabaseRules::default(), 50..60);
    world.heal();
    world.run(SECOND * 10);
    assert!(world.agree(&[0, 1, 2]) && world.agree(&[SOLO]), "{world:?}");
    for at in 0..4 {
        let status = world.node(at).status(world.now);
        assert_eq!(status.split_with.len(), 1, "n{at}: {world:?}");
        let (_, why) = &status.clashes[0];
        assert!(why.contains("DEMO") && why.contains("drop"), "n{at}: {why}");
        assert!(!why.contains("solo"));
    }
    assert!(done(&insert(&mut world, SOLO, "DEMO", 100)));
    assert!(done(&insert(&mut world, 0, "demo", 100)));
    assert!(world.node(0).configuration().unwrap().bringing.is_empty());
    // Another name is in the way too (seed 8077938: what had taken the place of another reason was not
    // told).
    fill(&mut world, 0, "solo", DatabaseRules::default(), 0..0);
    world.run(SECOND * 10);
    for at in 0..4 {
        let (_, why) = &world.node(at).status(world.now).clashes[0];
        assert!(why.contains("DEMO") && why.contains("solo"), "n{at}: {why}");
    }
    let drop = ConfigCommand::DropDatabase { name: "solo".to_owned() };
    assert!(matches!(change(&mut world, 0, drop), Reply::Done { .. }));
    // An operator does what is said: the rest is brought.
    let drop = ConfigCommand::DropDatabase { name: "DEMO".to_owned() };
    assert!(matches!(change(&mut world, SOLO, drop), Reply::Done { .. }));
    assert!(become_one(&mut world, 30), "{world:?}");
    assert!(all_hold(&mut world, "solo", "main", &rows(0..5)));
    assert!((0..4).all(|at| world.node(at).status(world.now).split_with.is_empty()));
}

#[test]
fn of_two_that_bring_the_same_name_one_comes_in_and_the_other_says_why_not() {
    let (mut world, _) = apart(&[3, 1, 1]);
    fill(&mut world, 0, "demo", DatabaseRules::default(), 0..5);
    fill(&mut world, 3, "same", DatabaseRules::default(), 0..10);
    fill(&mut world, 4, "same", DatabaseRules::default(), 10..20);
    world.cut.remove(&(3, 4));
    world.cut.clear();
    world.cut(3, 4);
    let one_is_in = |w: &World| w.agree(&[0, 1, 2, 3]) || w.agree(&[0, 1, 2, 4]);
    for _ in 0..80 {
        world.run(SECOND / 4);
        restart_the_dissolved(&mut world);
    }
    assert!(one_is_in(&world), "{world:?}");
    let other = if world.agree(&[0, 1, 2, 3]) { 4 } else { 3 };
    let keys = if other == 4 { rows(0..10) } else { rows(10..20) };
    assert!(world.until(SECOND * 10, |w| held(w, 0, "same", "main") == Some(keys.clone())));
    let status = world.node(other).status(world.now);
    assert_eq!(status.clashes.len(), 1, "{world:?}");
    assert!(status.clashes[0].1.contains("same"));
    assert_eq!(world.node(0).status(world.now).clashes.len(), 1);
    assert!(done(&insert(&mut world, other, "same", 500)));
}

#[test]
fn a_name_is_kept_until_its_holder_comes_however_late() {
    let mut world = demo_and_solo();
    world.heal();
    assert!(world.until(SECOND * 10, |w| w.machines[SOLO].stopped.is_some()), "{world:?}");
    world.run(SECOND * 30);
    assert!(reserved(&world, 0, "solo"));
    let refused = make(&mut world, 1, "Solo", 5, DatabaseRules::default());
    let why = Rejection::NameReserved {
        name: "Solo".to_owned(),
        server: "n3".to_owned(),
        cluster: world.node(0).configuration().unwrap().reserved("solo").unwrap().0,
    };
    assert_eq!(refused, Reply::Failed(CommandError::Refused(why)));
    // The cluster cannot go away meanwhile, nor does it take the offer back.
    assert!(
        world.node(0).configuration().unwrap().absorbed.values().any(|a| *a == Absorption::Offered)
    );
    settled(&mut world, &(0..20).collect(), &(0..20).collect());
}

/// Lets the group `from` meet the group `to`.
fn meet(world: &mut World, from: &[usize], to: &[usize]) {
    let between = |(a, b): &(usize, usize)| {
        from.contains(a) && to.contains(b) || from.contains(b) && to.contains(a)
    };
    world.cut.retain(|pair| !between(pair));
}

/// A group that has given up its own database and waits for `brings`, which never comes; now it sees all
/// others.
fn waits_in_vain(world: &mut World, group: &[usize], brings: usize) {
    meet(world, group, &[brings]);
    assert!(world.until(SECOND * 10, |w| w.machines[brings].stopped.is_some()), "{world:?}");
    let drop = ConfigCommand::DropDatabase { name: "demo".to_owned() };
    assert!(matches!(change(world, group[0], drop), Reply::Done { .. }));
    assert!(reserved(world, group[0], "solo"));
    world.heal();
    (0..world.machines.len()).filter(|n| *n != brings).for_each(|n| world.cut(n, brings));
    world.run(SECOND * 10);
}

/// The operator does what is said, and the two groups are one cluster.
fn give_up_and_become_one(world: &mut World, group: &[usize], others: &[usize]) {
    let drop = ConfigCommand::DropDatabase { name: "solo".to_owned() };
    assert!(matches!(change(world, group[0], drop), Reply::Done { .. }));
    let both: Vec<usize> = group.iter().chain(others).copied().collect();
    let one = (0..120).any(|_| {
        restart_the_dissolved(world);
        world.until(SECOND / 4, |w| w.agree(&both))
    });
    assert!(one, "{world:?}");
    assert!(world.node(others[0]).configuration().unwrap().databases.contains_key("other"));
}

/// Seed 9162919: the other cluster offered to take it in, was refused and withdrew, for ever.
#[test]
fn a_cluster_that_only_keeps_names_is_not_offered_a_place_but_reported_as_a_split() {
    // The one that keeps names has once the smaller id and once the larger one.
    for (keeps, other) in [(0, 2), (2, 0)] {
        let (mut world, groups) = apart(&[2, 1, 2]);
        let (group, brings, others) = (&groups[keeps], groups[1][0], &groups[other]);
        fill(&mut world, group[0], "demo", DatabaseRules::default(), 0..2);
        fill(&mut world, brings, "solo", DatabaseRules::default(), 0..2);
        fill(&mut world, others[0], "other", DatabaseRules::default(), 0..2);
        waits_in_vain(&mut world, group, brings);
        let last = |w: &World| [group[0], others[0]].map(|at| w.node(at).status(w.now).last_index);
        let before = last(&world);
        world.run(SECOND * 20);
        assert_eq!(last(&world), before, "nothing is decided over and over: {world:?}");
        for at in group.iter().chain(others) {
            assert_eq!(world.node(*at).status(world.now).split_with.len(), 1, "n{at}: {world:?}");
        }
        give_up_and_become_one(&mut world, group, others);
    }
}

#[test]
fn one_server_that_only_keeps_names_says_for_whom_it_waits() {
    let (mut world, _) = apart(&[1, 1, 2]);
    let (keeps, brings) =
        if world.node(0).cluster() < world.node(1).cluster() { (0, 1) } else { (1, 0) };
    fill(&mut world, keeps, "demo", DatabaseRules::default(), 0..2);
    fill(&mut world, brings, "solo", DatabaseRules::default(), 0..2);
    fill(&mut world, 2, "other", DatabaseRules::default(), 0..2);
    waits_in_vain(&mut world, &[keeps], brings);
    for at in [keeps, 2, 3] {
        let status = world.node(at).status(world.now);
        assert_eq!(status.clashes.len(), 1, "n{at}: {world:?}");
        let why = &status.clashes[0].1;
        assert!(why.contains(&format!("waits for 'n{brings}'")), "n{at}: {why}");
    }
    give_up_and_become_one(&mut world, &[keeps], &[2, 3]);
}

#[test]
fn a_cluster_that_only_keeps_names_takes_in_an_empty_one_whatever_its_id() {
    for keeps in [0, 2] {
        let (mut world, groups) = apart(&[2, 1, 2]);
        let (first, brings) = (groups[keeps][0], groups[1][0]);
        fill(&mut world, first, "demo", DatabaseRules::default(), 0..2);
        fill(&mut world, brings, "solo", DatabaseRules::default(), 0..2);
        let survivor = world.node(first).cluster();
        waits_in_vain(&mut world, &groups[keeps], brings);
        let all: Vec<usize> = groups[0].iter().chain(&groups[2]).copied().collect();
        for _ in 0..80 {
            world.run(SECOND / 4);
            restart_the_dissolved(&mut world);
        }
        assert!(world.agree(&all), "{world:?}");
        assert_eq!(world.node(first).cluster(), survivor);
    }
}

#[test]
fn a_name_that_an_operator_gives_up_is_not_brought_and_the_server_joins_without() {
    let (mut world, _) = apart(&[3, 1]);
    fill(&mut world, 0, "demo", DatabaseRules::default(), 0..5);
    fill(&mut world, SOLO, "solo", DatabaseRules::default(), 0..5);
    fill(&mut world, SOLO, "two", DatabaseRules::default(), 0..5);
    world.heal();
    assert!(world.until(SECOND * 10, |w| w.machines[SOLO].stopped.is_some()), "{world:?}");
    let drop = ConfigCommand::DropDatabase { name: "solo".to_owned() };
    assert!(matches!(change(&mut world, 0, drop), Reply::Done { .. }));
    assert!(matches!(make(&mut world, 1, "solo", 5, DatabaseRules::default()), Reply::Done { .. }));
    assert!(become_one(&mut world, 20), "{world:?}");
    assert!(all_hold(&mut world, "two", "main", &rows(0..5)));
    let document = world.node(0).configuration().unwrap();
    assert_eq!(document.databases["solo"].id, DatabaseId(5));
}

#[test]
fn one_that_is_not_alone_any_more_takes_its_question_back() {
    let mut world = demo_and_solo();
    world.heal();
    assert!(world.until(SECOND * 10, |w| reserved(w, 0, "solo")), "{world:?}");
    // Its question has come through, the answer does not. The links are given up after a while.
    for at in 0..3 {
        world.cut(at, SOLO);
    }
    world.run(SECOND * 12);
    assert!(world.machines[SOLO].node.is_some(), "{world:?}");
    let fresh = world.add("late", Defaults::default());
    for at in 0..3 {
        world.cut(at, fresh);
    }
    world.start(fresh);
    assert!(world.until(SECOND * 5, |w| w.agree(&[SOLO, fresh])), "{world:?}");
    assert!(reserved(&world, 0, "solo"));
    world.heal();
    assert!(world.until(SECOND * 10, |w| !reserved(w, 0, "solo")), "{world:?}");
    world.run(SECOND * 5);
    assert!(world.agree(&[0, 1, 2]) && world.agree(&[SOLO, fresh]), "{world:?}");
    assert_eq!(world.node(SOLO).status(world.now).split_with.len(), 1);
    assert!(done(&insert(&mut world, fresh, "solo", 300)));
}

#[test]
fn an_old_copy_of_the_directory_brings_nothing() {
    let mut world = demo_and_solo();
    let old = (world.machines[SOLO].disk.clone(), world.machines[SOLO].files.clone());
    assert!(done(&insert(&mut world, SOLO, "solo", 20)));
    world.heal();
    assert!(become_one(&mut world, 20), "{world:?}");
    assert!(all_hold(&mut world, "solo", "main", &rows(0..21)));
    let clone = world.add("clone", Defaults::default());
    (world.machines[clone].disk, world.machines[clone].files) = old;
    world.start(clone);
    assert!(become_one(&mut world, 30), "{world:?}");
    assert!(all_hold(&mut world, "solo", "main", &rows(0..21)), "{world:?}");
    assert_eq!(world.node(0).configuration().unwrap().databases.len(), 2);
}

#[test]
fn a_former_server_of_a_cluster_that_shrank_to_one_follows_with_nothing() {
    let (mut world, _) = apart(&[3, 0]);
    fill(&mut world, 0, "demo", DatabaseRules::default(), 0..5);
    let dynamic = Defaults { new_node_strategy: Registration::Dynamic, ..Defaults::default() };
    for name in ["n3", "n4"] {
        let number = world.add(name, dynamic.clone());
        (0..3).for_each(|at| world.cut(at, number));
    }
    world.start(3);
    assert!(world.until(SECOND * 5, |w| w.agree(&[3])));
    fill(&mut world, 3, "solo", DatabaseRules::default(), 0..10);
    world.start(4);
    let both = |w: &World| w.agree(&[3, 4]) && held(w, 4, "solo", "main").is_some();
    assert!(world.until(SECOND * 10, both), "{world:?}");
    world.run(SECOND * 2);
    // The founder breaks the ties of both logs.
    let (stays, goes) = (3, 4);
    world.kill(goes);
    let alone = |w: &World| w.node(stays).configuration().unwrap().servers.len() == 1;
    assert!(world.until(SECOND * 20, |w| alone(w) && w.agree(&[stays])), "{world:?}");
    let more = |w: &mut World, key| done(&insert(w, stays, "solo", key));
    assert!((10..15).all(|key| more(&mut world, key)), "{world:?}");
    world.heal();
    for _ in 0..60 {
        world.run(SECOND / 4);
        restart_the_dissolved(&mut world);
    }
    assert!(world.agree(&[0, 1, 2, stays]), "{world:?}");
    world.start(goes);
    assert!(become_one(&mut world, 30), "{world:?}");
    assert!(all_hold(&mut world, "solo", "main", &rows(0..15)), "{world:?}");
}

/// The holder has ended its cluster and joined the other, and what it brings is kept from it.
fn join_without_files(world: &mut World) -> Aside {
    world.heal();
    assert!(world.until(SECOND * 10, |w| w.machines[SOLO].stopped.is_some()), "{world:?}");
    restart_the_dissolved(world);
    let aside = std::mem::take(&mut world.machines[SOLO].aside);
    assert!(world.until(SECOND * 10, |w| w.agree(&[0, 1, 2, SOLO])), "{world:?}");
    aside
}

#[test]
fn an_operator_cannot_remove_the_one_that_has_not_put_its_files_in_place_yet() {
    let mut world = demo_and_solo();
    let aside = join_without_files(&mut world);
    let told = |e: &Event| matches!(e, Event::NotBrought { database, .. } if database == "solo");
    assert!(world.until(SECOND * 5, |w| w.machines[SOLO].events.iter().any(told)));
    let id = world.command(0, Command::RemoveServer { server: "n3".to_owned() });
    assert!(world.until(SECOND * 5, |w| w.machines[0].replies.contains_key(&id)));
    let reply = &world.machines[0].replies[&id];
    assert!(
        matches!(reply, Reply::Failed(CommandError::Refused(Rejection::LastCopy { .. }))),
        "{reply:?}"
    );
    let write = insert(&mut world, 0, "solo", 700);
    assert!(!done(&write), "nobody writes into what is not there: {write:?}");
    assert!(!matches!(write, SqlReply::Failed(ShardError::UnknownDatabase { .. })));
    world.machines[SOLO].aside = aside;
    settled(&mut world, &(0..20).collect(), &(0..20).collect());
}

#[test]
fn a_dynamic_holder_that_is_gone_for_long_before_it_has_imported_is_awaited() {
    let (mut world, _) = apart(&[0]);
    let dynamic = Defaults { new_node_strategy: Registration::Dynamic, ..Defaults::default() };
    for number in 0..4 {
        world.add(&format!("n{number}"), dynamic.clone());
    }
    (0..3).for_each(|at| world.cut(at, SOLO));
    (0..4).for_each(|at| world.start(at));
    assert!(world.until(SECOND * 5, |w| w.agree(&[0, 1, 2]) && w.agree(&[SOLO])));
    fill(&mut world, 0, "demo", DatabaseRules::default(), 0..5);
    fill(&mut world, SOLO, "solo", DatabaseRules::default(), 0..20);
    let aside = join_without_files(&mut world);
    world.kill(SOLO);
    assert!(world.until(SECOND * 20, |w| w.agree(&[0, 1, 2])), "it is away: {world:?}");
    world.machines[SOLO].aside = aside;
    world.start(SOLO);
    settled(&mut world, &(0..20).collect(), &(0..20).collect());
}

#[test]
fn a_database_that_cannot_be_read_keeps_its_cluster_apart_and_the_others_writable() {
    let mut world = demo_and_solo();
    fill(&mut world, SOLO, "sound", DatabaseRules::default(), 0..5);
    world.run(SECOND);
    let log = log(&world, SOLO, "solo", "main").unwrap();
    world.kill(SOLO);
    world.machines[SOLO].files.remove(&log);
    world.start(SOLO);
    world.heal();
    let reason = |e: &Event| {
        matches!(e, Event::Split { clash: Some(Rejection::CopyUnusable { database, .. }), .. }
            if database == "solo")
    };
    assert!(world.until(SECOND * 10, |w| w.machines[SOLO].events.iter().any(reason)), "{world:?}");
    for key in 100..120 {
        assert!(done(&insert(&mut world, SOLO, "sound", key)));
        world.run(SECOND / 2);
    }
    let drop = ConfigCommand::DropDatabase { name: "solo".to_owned() };
    assert!(matches!(change(&mut world, SOLO, drop), Reply::Done { .. }));
    assert!(become_one(&mut world, 20), "{world:?}");
    let keys: Vec<i64> = (0..5).chain(100..120).collect();
    assert!(all_hold(&mut world, "sound", "main", &keys), "{world:?}");
}

#[test]
fn nothing_is_imported_before_a_member_has_acknowledged_the_start() {
    let mut world = demo_and_solo();
    let aside = join_without_files(&mut world);
    let log = log(&world, SOLO, "solo", "main").unwrap();
    world.kill(SOLO);
    world.machines[SOLO].aside = aside;
    // Alone, it could be an old copy of its directory, and others hold what came after.
    (0..3).for_each(|at| world.cut(at, SOLO));
    world.start(SOLO);
    world.run(SECOND * 5);
    assert_eq!(world.node(SOLO).state(), State::Returning);
    assert!(world.node(SOLO).shard(log).is_none(), "it leads what it has not been told to begin");
    world.heal();
    settled(&mut world, &(0..20).collect(), &(0..20).collect());
}

#[test]
fn a_token_from_before_is_known_to_be_of_another_database() {
    let mut world = demo_and_solo();
    let SqlReply::Done { at, .. } = insert(&mut world, SOLO, "solo", 20) else { panic!() };
    let document = world.node(SOLO).configuration().unwrap();
    let database = document.databases["solo"].id;
    let token = Token { database, log: log(&world, SOLO, "solo", "main").unwrap(), at };
    world.heal();
    assert!(become_one(&mut world, 20), "{world:?}");
    assert!(all_hold(&mut world, "solo", "main", &rows(0..21)));
    let read = SqlKind::Read(Consistency::Since(token));
    let id = world.sql(0, "solo", read, sql("SELECT k FROM t", &[]));
    let reply = answer(&mut world, 0, id);
    assert!(matches!(reply, SqlReply::Failed(ShardError::StaleToken { .. })), "{reply:?}");
}

#[test]
fn the_holder_goes_on_asking_for_the_cluster_that_waits_for_it_and_founds_none() {
    let mut world = demo_and_solo();
    world.heal();
    assert!(world.until(SECOND * 10, |w| w.machines[SOLO].stopped.is_some()), "{world:?}");
    (0..3).for_each(|at| world.cut(at, SOLO));
    restart_the_dissolved(&mut world);
    world.run(SECOND * 20);
    assert_eq!(world.node(SOLO).state(), State::Discovering);
    assert_eq!(world.node(SOLO).cluster(), None::<crate::ClusterId>);
    let _: NodeId = world.id(SOLO);
    world.heal();
    settled(&mut world, &(0..20).collect(), &(0..20).collect());
}
