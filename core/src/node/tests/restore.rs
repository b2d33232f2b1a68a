//! Restores between whole nodes: the content of all copies becomes that of a file, at one entry of the
//! log, or nothing changes.

use super::databases::{answer, done, insert, keys, log, online, sql, with_database, write};
use super::lifecycle::SECOND;
use super::moving::{configure, places};
use super::world::{STEP, World};
use crate::configuration::{Defaults, QuorumRule, Settings};
use crate::engine::memory::Memory;
use crate::engine::{Engine as _, Fault, Position, SqlLimits};
use crate::ids::{Index, Term};
use crate::shard::{Consistency, Reply, ShardError, SqlKind, Upload};
use crate::{CommandId, LogId, NodeId};

/// A file with the table `t`, and rows with these keys.
fn file(keys: std::ops::Range<i64>) -> Vec<u8> {
    let mut made = Memory::default();
    let mut batch = vec![sql("CREATE TABLE t (k INTEGER PRIMARY KEY, v)", &[])];
    batch.extend(keys.map(insert));
    made.execute(&batch, &SqlLimits::default()).unwrap();
    made.commit(Position { index: Index(1), term: Term(1) }, &[]).unwrap();
    made.to_file()
}

const FILE: std::ops::Range<i64> = 500..560;

/// Hands a file to a node, which is to make it the content of the database.
fn begin(world: &mut World, at: usize, content: Vec<u8>) -> CommandId {
    let log = log(world, at, "demo");
    let number = 77;
    world.machines[at].files.entry(log).or_default().uploads.insert(number, content);
    let upload = Upload { node: NodeId(0), number };
    world.sql(at, "demo", SqlKind::Restore(upload), crate::engine::Transaction::default())
}

fn restore(world: &mut World, at: usize, content: Vec<u8>) -> Reply {
    let id = begin(world, at, content);
    answer(world, at, id)
}

fn with_rows(count: usize) -> (World, LogId) {
    let mut world = with_database(count, &Defaults::default(), &Settings::default());
    for key in 0..20 {
        assert!(done(&write(&mut world, 0, insert(key))));
    }
    world.run(SECOND);
    for machine in &mut world.machines {
        machine.config.shards.as_mut().unwrap().chunk_bytes = 64;
    }
    for machine in 0..count {
        world.kill(machine);
    }
    for machine in 0..count {
        world.start(machine);
    }
    assert!(world.until(SECOND * 5, |w| whole(w, count)), "{world:?}");
    world.run(SECOND);
    let log = log(&world, 0, "demo");
    (world, log)
}

fn is_whole(world: &World, at: usize) -> bool {
    let Some(node) = world.machines[at].node.as_ref() else { return false };
    let Some(document) = node.configuration() else { return false };
    let Some(found) = document.databases.get("demo") else { return false };
    node.shard(found.shards["main"].log).is_some_and(|held| held.is_open())
}

/// All copies are open and online.
fn whole(world: &World, count: usize) -> bool {
    (0..count).all(|at| is_whole(world, at)) && online(world, 0, "demo") == count
}

fn owner(world: &World, log: LogId) -> Option<usize> {
    (0..world.machines.len()).find(|at| {
        let node = world.machines[*at].node.as_ref();
        node.and_then(|n| n.shard(log)).is_some_and(|held| held.log().is_settled_leader())
    })
}

fn lsn(world: &World, at: usize, log: LogId) -> Position {
    world.machines[at].engine(log).position()
}

/// All copies hold the same at the same position.
fn equal(world: &World, log: LogId) {
    let first = world.machines[0].engine(log).hash();
    for machine in &world.machines {
        assert_eq!(machine.engine(log).hash(), first);
    }
}

/// What all copies hold: all of the old or all of the new, and behind it what was acknowledged.
fn settled(world: &mut World, log: LogId, restored: bool) {
    let count = world.machines.len();
    let all = |w: &World| whole(w, count) && owner(w, log).is_some();
    assert!(world.until(SECOND * 20, all), "{world:?}");
    assert!(done(&write(world, 0, insert(9000))));
    world.run(SECOND * 3);
    equal(world, log);
    let held = keys(world, 0, log);
    let old: Vec<i64> = (0..20).chain([9000]).collect();
    let new: Vec<i64> = FILE.chain([9000]).collect();
    match restored {
        true => assert_eq!(held, new),
        false => assert!(held == old || held == new, "{held:?}"),
    }
    for machine in &world.machines {
        let files = &machine.files[&log];
        assert_eq!(files.generations.len(), 1, "what is not live is put away");
    }
}

#[test]
fn a_restored_file_is_the_content_of_all_copies_and_entries_go_on_counting() {
    for count in [1, 2, 3] {
        for at in 0..count {
            let (mut world, log) = with_rows(count);
            let before = lsn(&world, at, log);
            let reply = restore(&mut world, at, file(FILE));
            let Reply::Done { at: entry, .. } = reply else { panic!("{reply:?}") };
            assert!(entry.index > before.index, "{entry:?} {before:?}");
            world.run(SECOND);
            for machine in &world.machines {
                assert_eq!(machine.engine(log).position(), entry);
                let files = &machine.files[&log];
                assert_eq!(files.backups.len(), 1, "the old content is kept");
                assert_eq!(files.backups[0].1.table("t").len(), 20);
                assert!(files.staged.is_empty() && files.staging.is_none());
            }
            assert_eq!(keys(&world, at, log), FILE.collect::<Vec<i64>>());
            settled(&mut world, log, true);
        }
    }
}

#[test]
fn writes_before_a_restore_are_gone_and_those_behind_it_stay_in_order() {
    let (mut world, log) = with_rows(3);
    let mut key = 1000;
    let id = begin(&mut world, 1, file(FILE));
    let mut done_at = Vec::new();
    while !world.machines[1].answers.contains_key(&id) {
        let write = write(&mut world, 0, insert(key));
        match write {
            Reply::Done { at, .. } => done_at.push((at, key)),
            other => panic!("{other:?}"),
        }
        key += 1;
        assert!(key < 3000, "{world:?}");
    }
    for _ in 0..10 {
        let Reply::Done { at, .. } = write(&mut world, 2, insert(key)) else { panic!() };
        done_at.push((at, key));
        key += 1;
    }
    let Reply::Done { at: entry, .. } = answer(&mut world, 1, id) else { panic!("not done") };
    world.run(SECOND);
    let behind = done_at.iter().filter(|(at, _)| at.index > entry.index).map(|(_, key)| *key);
    let expected: Vec<i64> = FILE.chain(behind).collect();
    assert_eq!(keys(&world, 0, log), expected);
    assert!(done_at.iter().any(|(at, _)| at.index < entry.index), "some ran before it");
    equal(&world, log);
}

#[test]
fn a_crash_of_any_server_at_every_step_leaves_all_of_the_old_or_all_of_the_new() {
    for role in 0..3 {
        let mut done_once = false;
        for steps in 0.. {
            let (mut world, log) = with_rows(3);
            let owner = owner(&world, log).unwrap();
            // The one with the file is never the owner here.
            let at = (owner + 1) % 3;
            let victim = [owner, at, (owner + 2) % 3][role];
            let id = begin(&mut world, at, file(FILE));
            for _ in 0..steps {
                world.run(STEP);
            }
            let told = world.machines[at].answers.get(&id).cloned();
            world.crash(victim, steps % 3);
            world.run(SECOND / 10);
            world.start(victim);
            let told = match (&told, victim == at) {
                (Some(told), _) => Some(told.clone()),
                (None, true) => None,
                (None, false) => Some(answer(&mut world, at, id)),
            };
            let restored = told.as_ref().is_some_and(done);
            done_once |= restored;
            settled(&mut world, log, restored);
            let held = keys(&world, 0, log);
            if let Some(Reply::Failed(error)) = &told
                && !matches!(error, ShardError::OutcomeUnknown)
                && !matches!(error, ShardError::CommittedBelowQuorum { .. })
            {
                assert_eq!(held.len(), 21, "refused, and done all the same: {error}");
            }
            if restored && steps > 60 {
                break;
            }
            assert!(steps < 600, "it never ends");
        }
        assert!(done_once);
    }
}

#[test]
fn the_owner_is_lost_when_the_entry_is_committed_and_the_others_have_the_file() {
    let (mut world, log) = with_rows(3);
    let owner = owner(&world, log).unwrap();
    let at = (owner + 1) % 3;
    begin(&mut world, at, file(FILE));
    let committed = |w: &World| {
        let entry = w.node(owner).is_restoring(log).flatten();
        entry.is_some_and(|e| w.node(owner).shard(log).unwrap().log().commit() >= e.index)
    };
    assert!(world.until(SECOND * 5, committed), "{world:?}");
    world.kill(owner);
    world.machines[owner].files.clear();
    let others = |w: &World| (0..3).filter(|m| *m != owner).all(|m| is_whole(w, m));
    world.run(SECOND * 3);
    assert!(world.until(SECOND * 5, others), "{world:?}");
    for other in (0..3).filter(|m| *m != owner) {
        assert_eq!(keys(&world, other, log), FILE.collect::<Vec<i64>>());
    }
    world.start(owner);
    settled(&mut world, log, true);
}

#[test]
fn a_copy_without_the_staged_file_gets_a_whole_copy_that_is_past_it() {
    let (mut world, log) = with_rows(3);
    let owner = owner(&world, log).unwrap();
    let away = (owner + 1) % 3;
    world.kill(away);
    world.run(SECOND);
    let reply = restore(&mut world, owner, file(FILE));
    assert!(done(&reply), "{reply:?}");
    world.start(away);
    settled(&mut world, log, true);
    let fetched = |event: &crate::Event| matches!(event, crate::Event::CopyDone { .. });
    assert_eq!(world.machines[away].events.iter().filter(|e| fetched(e)).count(), 1);
}

#[test]
fn a_staged_file_waits_for_the_entry_over_a_restart() {
    let (mut world, log) = with_rows(3);
    let owner = owner(&world, log).unwrap();
    let late = (owner + 1) % 3;
    let id = begin(&mut world, owner, file(FILE));
    assert!(world.until(SECOND * 5, |w| !w.machines[late].files[&log].staged.is_empty()));
    world.kill(late);
    assert!(done(&answer(&mut world, owner, id)));
    assert_eq!(world.machines[late].files[&log].staged.len(), 1);
    world.start(late);
    settled(&mut world, log, true);
    let copies = |event: &crate::Event| matches!(event, crate::Event::CopyBegan { .. });
    assert!(!world.machines[late].events.iter().any(copies), "it had what it needed");
    assert!(world.machines[late].files[&log].staged.is_empty());
}

#[test]
fn a_restore_is_not_done_before_the_voters_of_its_entry_hold_it_though_others_vote_by_then() {
    let (mut world, log) = with_rows(3);
    let all = |names: &[&str]| Settings { write_quorum: QuorumRule::All, ..places(names) };
    configure(&mut world, 0, all(&["n0", "n1", "n2"]));
    world.run(SECOND * 2);
    let owner = owner(&world, log).unwrap();
    let late = (owner + 1) % 3;
    let id = begin(&mut world, owner, file(FILE));
    assert!(world.until(SECOND * 5, |w| !w.machines[late].files[&log].staged.is_empty()));
    // It has the file, and is slow to put it in its place.
    world.machines[late].filing = SECOND * 600;
    let put = |w: &World| w.node(owner).is_restoring(log).flatten().is_some();
    assert!(world.until(SECOND * 5, put), "{world:?}");
    let stay: Vec<String> = (0..3).filter(|at| *at != late).map(|at| format!("n{at}")).collect();
    configure(&mut world, owner, all(&stay.iter().map(String::as_str).collect::<Vec<_>>()));
    let others = |w: &World| {
        let held = w.node(owner).shard(log).unwrap().log().membership();
        !held.is_joint() && held.incoming.voters.len() == 2
    };
    assert!(world.until(SECOND * 3, others), "{world:?}");
    let reply = answer(&mut world, owner, id);
    assert!(matches!(reply, Reply::Failed(ShardError::CommittedBelowQuorum { .. })), "{reply:?}");
    assert_eq!(keys(&world, owner, log), FILE.collect::<Vec<i64>>());
}

#[test]
fn a_second_restore_at_the_same_time_is_refused_by_name() {
    let (mut world, log) = with_rows(3);
    let first = begin(&mut world, 0, file(FILE));
    world.run(STEP * 3);
    let second = restore(&mut world, 1, file(0..3));
    assert_eq!(second, Reply::Failed(ShardError::Restoring));
    assert!(done(&answer(&mut world, 0, first)));
    settled(&mut world, log, true);
    // When the first is done, another may follow.
    let third = restore(&mut world, 1, file(FILE));
    assert!(done(&third), "{third:?}");
    settled(&mut world, log, true);
}

#[test]
fn a_file_that_is_no_database_is_refused_and_nothing_changes() {
    let (mut world, log) = with_rows(3);
    let before = lsn(&world, 0, log);
    let reply = restore(&mut world, 1, vec![255; 300]);
    let Reply::Failed(ShardError::NotStaged(why)) = &reply else { panic!("{reply:?}") };
    assert!(why.contains("it is no database"), "{why}");
    world.run(SECOND);
    assert_eq!(lsn(&world, 0, log), before);
    for machine in &world.machines {
        assert!(machine.files[&log].staged.is_empty());
        assert!(machine.files[&log].backups.is_empty());
    }
}

#[test]
fn a_full_disk_on_one_server_does_not_hinder_and_on_most_of_them_nothing_changes() {
    for full in [1, 2] {
        let (mut world, log) = with_rows(3);
        let owner = owner(&world, log).unwrap();
        for other in 1..=full {
            let other = (owner + other) % 3;
            let files = world.machines[other].files.get_mut(&log).unwrap();
            files.fail = Some(Fault::Full("no space".into()));
        }
        let reply = restore(&mut world, owner, file(FILE));
        match full {
            1 => assert!(done(&reply), "{reply:?}"),
            _ => {
                let refused = matches!(&reply, Reply::Failed(ShardError::NotStaged(why))
                    if why.contains("no space"));
                assert!(refused, "{reply:?}");
                assert_eq!(keys(&world, owner, log).len(), 20);
            }
        }
        settled(&mut world, log, full == 1);
        assert!(world.machines.iter().all(|m| m.files[&log].staged.is_empty()));
    }
}

#[test]
fn without_a_quorum_nothing_is_staged() {
    let (mut world, log) = with_rows(3);
    let owner = owner(&world, log).unwrap();
    let id = begin(&mut world, owner, file(FILE));
    for other in (0..3).filter(|m| *m != owner) {
        world.kill(other);
    }
    let reply = answer(&mut world, owner, id);
    assert!(matches!(reply, Reply::Failed(_)), "{reply:?}");
    for other in (0..3).filter(|m| *m != owner) {
        world.start(other);
    }
    settled(&mut world, log, false);
    assert_eq!(keys(&world, 0, log).len(), 21);
    // The leader of another term has made sure that no entry can name it.
    assert!(world.machines.iter().all(|m| m.files[&log].staged.is_empty()), "{world:?}");
}

#[test]
fn a_token_from_before_a_restore_finds_the_new_content() {
    let (mut world, _) = with_rows(3);
    let Reply::Done { at, .. } = write(&mut world, 0, insert(300)) else { panic!() };
    assert!(done(&restore(&mut world, 2, file(FILE))));
    let all = sql("SELECT k, v FROM t ORDER BY k", &[]);
    for machine in 0..3 {
        let read = SqlKind::Read(Consistency::AtLeast(at));
        let id = world.sql(machine, "demo", read, all.clone());
        let reply = answer(&mut world, machine, id);
        assert!(done(&reply), "{reply:?}");
    }
}
