//! Full copies between whole nodes: a copy that cannot go on from the log is replaced by another's,
//! and at no moment is there less on a disk than before.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::databases::{answer, done, insert, keys, log, online, with_database, write};
use super::lifecycle::SECOND;
use super::world::World;
use crate::configuration::{
    ConfigCommand, CopyStatus, DatabaseRules, Defaults, PlaceRule, ServerStatus, Settings,
};
use crate::copies::CopyState;
use crate::engine::Fault;
use crate::marks::reaches;
use crate::shard::{Consistency, ShardLimits, SqlKind};
use crate::wire::Request;
use crate::{Command, Event, Generation, Index, LogId, Reply, SyncStart};

/// Three servers with a database of some hundred chunks, and `at` switched off.
pub(super) fn with_rows(rows: i64, at: usize) -> (World, LogId) {
    let mut world = with_database(3, &Defaults::default(), &Settings::default());
    for key in 0..rows {
        assert!(done(&write(&mut world, 0, insert(key))));
    }
    world.run(SECOND);
    let log = log(&world, 0, "demo");
    for machine in &mut world.machines {
        machine.config.shards.as_mut().unwrap().chunk_bytes = 4;
    }
    for machine in 0..3 {
        world.kill(machine);
    }
    for machine in (0..3).filter(|m| *m != at) {
        world.start(machine);
    }
    let others = (at + 1) % 3;
    assert!(world.until(SECOND * 5, |w| online(w, others, "demo") >= 2), "{world:?}");
    world.run(SECOND * 2);
    (world, log)
}

/// Three servers with all copies online, and 20 rows.
pub(super) fn online_with_rows(settings: &Settings) -> (World, LogId) {
    let mut world = with_database(3, &Defaults::default(), settings);
    let log = log(&world, 0, "demo");
    assert!(world.until(SECOND * 5, |w| online(w, 0, "demo") == 3), "{world:?}");
    for key in 0..20 {
        assert!(done(&write(&mut world, 0, insert(key))));
    }
    (world, log)
}

fn whole(world: &World, at: usize, log: LogId) -> bool {
    let held = world.machines[at].node.as_ref().and_then(|node| node.shard(log));
    held.is_some_and(|held| held.is_open()) && world.machines[at].files.contains_key(&log)
}

fn events(world: &World, at: usize) -> (usize, usize, Vec<(u64, u64)>) {
    let (mut began, mut failed, mut kept) = (0, 0, Vec::new());
    for event in &world.machines[at].events {
        match event {
            Event::CopyBegan { .. } => began += 1,
            Event::CopyFailed { .. } => failed += 1,
            Event::CopyDone { kept: k, bytes, .. } => kept.push((*k, *bytes)),
            _ => {}
        }
    }
    (began, failed, kept)
}

#[test]
fn a_copy_whose_file_is_gone_is_fetched_whole_and_comes_online_when_it_is() {
    let (mut world, log) = with_rows(60, 2);
    world.machines[2].files.clear();
    world.start(2);
    assert!(
        world.until(SECOND * 5, |w| whole(w, 2, log) && online(w, 0, "demo") == 3),
        "{world:?}"
    );
    assert_eq!(world.machines[2].disk.logs[&log].copy, Some(Generation(2)));
    assert_eq!(keys(&world, 2, log), keys(&world, 0, log));
    let (began, failed, done_copies) = events(&world, 2);
    assert_eq!((began, failed, done_copies.len()), (1, 0, 1));
    // The snapshot of the donor is gone.
    world.run(SECOND);
    assert!(world.machines.iter().all(|m| m.files[&log].exports.is_empty()));
    assert!(done(&write(&mut world, 2, insert(1000))));
    world.run(SECOND);
    assert_eq!(keys(&world, 2, log).last(), Some(&1000));
}

#[test]
fn while_its_copy_is_not_whole_the_document_does_not_call_it_online() {
    let (mut world, log) = with_rows(400, 2);
    world.machines[2].files.clear();
    world.start(2);
    let id = world.id(2);
    let end = world.now + SECOND * 5;
    let mut seen = Vec::new();
    while world.now < end {
        world.run(super::world::STEP);
        let document = world.node(0).configuration().unwrap().clone();
        let status = document.databases["demo"].shards["main"].copies[&id];
        if seen.last() != Some(&status) {
            seen.push(status);
        }
        // A moment passes before the leader knows.
        let lacks = !whole(&world, 2, log);
        if status == CopyStatus::Online && seen.len() > 1 {
            assert!(!lacks);
        }
    }
    assert_eq!(seen.last(), Some(&CopyStatus::Online), "{seen:?}");
    assert!(seen.contains(&CopyStatus::Synchronizing), "{seen:?}");
}

#[test]
fn an_order_for_a_copy_that_nobody_can_give_lapses_and_one_that_somebody_can_is_carried_out() {
    let (mut world, log) = with_rows(60, 2);
    world.start(2);
    assert!(world.until(SECOND * 5, |w| online(w, 0, "demo") == 3), "{world:?}");
    let order = Command::Sync { database: "demo".into(), shard: None, full: true, force: true };
    let owner = (0..3).find(|at| world.node(*at).shard(log).unwrap().log().is_leader()).unwrap();
    let before = world.machines[owner].disk.logs[&log].copy;
    world.command(owner, order.clone());
    world.run(SECOND * 5);
    assert_ne!(world.machines[owner].disk.logs[&log].copy, before, "{world:?}");
    assert_eq!(events(&world, owner).0, 1);
    world.command(owner, order.clone());
    for other in (0..3).filter(|at| *at != owner) {
        world.kill(other);
    }
    world.run(SECOND * 40);
    let asked = world.command(owner, order);
    let said = vec![("main".to_owned(), SyncStart::NobodyElse)];
    assert_eq!(world.machines[owner].replies[&asked], Reply::Syncing { shards: said });
    let lapsed = |event: &&Event| match event {
        Event::CopyFailed { donor: None, reason, .. } => reason.contains("lapses"),
        _ => false,
    };
    assert_eq!(world.machines[owner].events.iter().filter(lapsed).count(), 1);
    let live = world.machines[owner].disk.logs[&log].copy;
    (0..3).filter(|at| *at != owner).for_each(|other| world.start(other));
    assert!(world.until(SECOND * 10, |w| online(w, owner, "demo") == 3), "{world:?}");
    world.run(SECOND * 10);
    assert_eq!(world.machines[owner].disk.logs[&log].copy, live, "nobody wants it any more");
}

/// It waited for a coordinator, and the shard has another owner by now.
#[test]
fn whoever_does_not_own_a_shard_any_more_does_not_ask_for_online() {
    let (mut world, log) = with_rows(60, 2);
    let leads = |w: &World, at: usize| w.node(at).shard(log).unwrap().log().is_leader();
    let deposed = (0..2).find(|at| !leads(&world, *at)).unwrap();
    world.machines[2].files.clear();
    world.start(2);
    world.machines[2].files.entry(log).or_default().fail = Some(Fault::Full("no space".into()));
    let id = world.id(2);
    let status = |w: &World, at: usize| {
        w.node(at).configuration().unwrap().databases["demo"].shards["main"].copies[&id]
    };
    let online = |w: &World| w.node(deposed).configuration().unwrap().servers[&id].status;
    world.run(SECOND);
    assert_eq!(online(&world), ServerStatus::Online);
    assert_ne!(status(&world, deposed), CopyStatus::Online);
    let node = world.machines[deposed].node.as_mut().unwrap();
    let judged_at = node.configuration().unwrap().version;
    let grant = ConfigCommand::SetCopy { log, node: id, status: CopyStatus::Online, judged_at };
    node.begin_duty(Request::Change(grant));
    let end = world.now + SECOND;
    while world.now < end {
        world.run(super::world::STEP);
        let granted = (0..2).any(|at| status(&world, at) == CopyStatus::Online);
        assert!(!granted || whole(&world, 2, log), "{world:?}");
    }
}

#[test]
fn a_donor_that_dies_is_replaced_and_what_came_from_it_stays() {
    reaches!(CopyResumed);
    let (mut world, log) = with_rows(200, 2);
    world.machines[2].files.clear();
    world.start(2);
    let half = |w: &World| {
        let report = w.node(2).status(w.now).copies.into_iter();
        let mut own = report.filter(|(of, node, _)| *of == log && *node == w.id(2));
        own.any(|(_, _, r)| match r.state {
            CopyState::Receiving(p) => p.total > 0 && p.done * 2 > p.total,
            _ => false,
        })
    };
    assert!(world.until(SECOND * 5, half), "{world:?}");
    let donor = world.machines[2].events.iter().find_map(|event| match event {
        Event::CopyBegan { donor, .. } => Some(*donor),
        _ => None,
    });
    let donor = (0..2).find(|m| Some(world.id(*m)) == donor).unwrap();
    let owner = world.node(2).shard(log).unwrap().log().leader();
    assert_ne!(owner, Some(world.id(donor)), "the owner has enough to do");
    world.kill(donor);
    assert!(world.until(SECOND * 8, |w| whole(w, 2, log)), "{world:?}");
    let (began, failed, copies) = events(&world, 2);
    assert!(began >= 2 && failed >= 1, "{began} {failed}");
    let (kept, bytes) = copies[0];
    assert!(kept * 3 > bytes, "{kept} of {bytes}");
    assert_eq!(keys(&world, 2, log).len(), 200);
}

#[test]
fn writes_go_on_while_a_copy_is_fetched_and_are_in_it() {
    let (mut world, log) = with_rows(200, 2);
    world.machines[2].files.clear();
    world.start(2);
    let mut key = 1000;
    while !whole(&world, 2, log) {
        assert!(done(&write(&mut world, 0, insert(key))));
        key += 1;
        assert!(key < 3000, "{world:?}");
    }
    assert!(key > 1010, "{key}");
    world.run(SECOND * 2);
    assert_eq!(keys(&world, 2, log), keys(&world, 0, log));
    assert_eq!(keys(&world, 2, log).len() as i64, 200 + key - 1000);
}

#[test]
fn a_disk_that_is_full_delays_a_copy_and_loses_nothing() {
    let (mut world, log) = with_rows(60, 2);
    world.machines[2].files.clear();
    world.start(2);
    world.machines[2].files.entry(log).or_default().fail = Some(Fault::Full("no space".into()));
    world.run(SECOND * 3);
    assert!(!whole(&world, 2, log));
    let report = world.node(2).status(world.now).copies;
    let id = world.id(2);
    let own = report.iter().find(|(_, node, _)| *node == id).unwrap();
    assert!(matches!(&own.2.state, CopyState::Lacking(why) if why.contains("no space")), "{own:?}");
    // The others know it too.
    let told = world.node(0).status(world.now).copies;
    assert!(told.iter().any(|(_, node, r)| *node == id && r.state == own.2.state), "{told:?}");
    assert!(world.until(SECOND * 10, |w| whole(w, 2, log)), "{world:?}");
}

#[test]
fn at_every_step_of_a_copy_and_of_its_swap_a_crash_leaves_a_whole_one() {
    for steps in 0.. {
        let (mut world, log) = with_rows(20, 2);
        // It differs from the others: it opens, and its first entry of the log does not fit.
        let live = world.machines[2].disk.logs[&log].copy.unwrap();
        let old = world.machines[2].files[&log].generations[&live].clone();
        world.start(2);
        world.run(SECOND);
        world.distrust(2, log);
        for _ in 0..steps {
            world.run(super::world::STEP);
        }
        let finished = world.machines[2].disk.logs[&log].copy != Some(live);
        world.crash(2, steps % 3);
        let machine = &world.machines[2];
        let named = machine.disk.logs[&log].copy.unwrap();
        let files = &machine.files[&log];
        let held = files.generations.get(&named);
        let held = held.unwrap_or_else(|| panic!("step {steps}: what is named is not there"));
        assert!(held.table("t").len() >= old.table("t").len(), "step {steps}");
        world.start(2);
        assert!(world.until(SECOND * 8, |w| whole(w, 2, log)), "step {steps}: {world:?}");
        world.run(SECOND * 2);
        assert_eq!(keys(&world, 2, log), keys(&world, 0, log), "step {steps}");
        let files = &world.machines[2].files[&log];
        assert_eq!(files.generations.len(), 1, "what is not live is put away");
        assert_eq!(files.incoming, None);
        if finished {
            assert_eq!(files.backups.len(), 1);
            assert_eq!(files.backups[0].0, ("demo".to_owned(), "main".to_owned()));
            return;
        }
    }
}

#[test]
fn the_files_of_a_dropped_database_go_to_the_backups() {
    use crate::configuration::ConfigCommand;
    let (mut world, log) = with_rows(5, 2);
    let drop = ConfigCommand::DropDatabase { name: "demo".to_owned() };
    world.command(0, crate::Command::Change(drop));
    world.run(SECOND);
    world.start(2);
    world.run(SECOND * 2);
    for machine in &world.machines {
        assert!(!machine.disk.logs.contains_key(&log));
        assert!(machine.files[&log].generations.is_empty());
        assert_eq!(machine.files[&log].backups.len(), 1);
    }
}

#[test]
fn reads_of_a_copy_that_is_being_fetched_are_served_by_another() {
    let (mut world, log) = with_rows(200, 2);
    world.machines[2].files.clear();
    world.start(2);
    let receives =
        |w: &World| w.machines[2].events.iter().any(|e| matches!(e, Event::CopyBegan { .. }));
    assert!(world.until(SECOND * 5, receives), "{world:?}");
    assert!(!whole(&world, 2, log));
    let all = super::databases::sql("SELECT k, v FROM t ORDER BY k", &[]);
    let id = world.sql(2, "demo", SqlKind::Read(Consistency::Local), all);
    let reply = answer(&mut world, 2, id);
    assert!(done(&reply), "{reply:?}");
}

#[test]
fn a_new_server_fetches_a_copy_that_is_large_and_takes_the_log_of_one_that_is_small() {
    for (rows, whole_copies) in [(50, 0), (1100, 1)] {
        let mut world = with_database(2, &Defaults::default(), &Settings::default());
        let log = log(&world, 0, "demo");
        for key in 0..rows {
            world.sql(0, "demo", SqlKind::Write, insert(key));
        }
        world.run(SECOND * 2);
        let held = world.node(0).shard(log).unwrap().log().last_index().0;
        assert_eq!(keys(&world, 0, log).len(), usize::try_from(rows).unwrap(), "{held}");
        while rows > 1000 && world.node(0).shard(log).unwrap().applied().0 < 1000 {
            let key = 10_000 + i64::try_from(world.packets).unwrap();
            assert!(done(&write(&mut world, 0, insert(key))));
        }
        let late = world.add("late", Defaults::default());
        world.start(late);
        assert!(world.until(SECOND * 5, |w| online(w, 0, "demo") == 3), "{rows}: {world:?}");
        assert_eq!(events(&world, late).2.len(), whole_copies, "{rows}");
        assert_eq!(keys(&world, late, log), keys(&world, 0, log));
        // It goes on as any copy does.
        assert!(done(&write(&mut world, late, insert(1_000_000))));
    }
}

#[test]
fn a_new_server_takes_the_log_if_nobody_gives_it_a_copy() {
    reaches!(DonorRefused, BlankTakesLog);
    let mut world = with_database(2, &Defaults::default(), &Settings::default());
    let log = log(&world, 0, "demo");
    while world.node(0).shard(log).unwrap().applied().0 < 1000 {
        let key = i64::try_from(world.packets).unwrap();
        assert!(done(&write(&mut world, 0, insert(key))));
    }
    for machine in &mut world.machines {
        let files = machine.files.get_mut(&log).unwrap();
        files.fail = Some(Fault::Full("no space for a snapshot".into()));
    }
    let late = world.add("late", Defaults::default());
    world.start(late);
    assert!(world.until(SECOND * 10, |w| online(w, 0, "demo") == 3), "{world:?}");
    assert_eq!(keys(&world, late, log), keys(&world, 0, log));
}

#[test]
fn files_that_take_their_time_are_waited_for_and_a_silent_donor_is_not() {
    reaches!(DonorSilent);
    use crate::copies::{CopyAnswer, CopyMessage, FileShape, Goal, Incoming, IncomingStep};
    let goal = || Goal::Copy { generation: Generation(2), at_least: crate::Index(5) };
    let start = |now| Incoming::new((1, crate::NodeId(7)), goal(), None, now);
    let second = |n: u64| crate::Time::from_millis(n * 1000);
    // Nothing comes.
    let mut silent = start(second(0));
    while silent.next_step().is_some() {}
    silent.tick(second(4));
    assert!(silent.next_step().is_none());
    silent.tick(second(6));
    let steps: Vec<_> = std::iter::from_fn(|| silent.next_step()).collect();
    assert!(steps.iter().any(|s| matches!(s, IncomingStep::DonorFailed { .. })), "{steps:?}");
    // It is offered, and the own disk needs a minute to get ready.
    let mut slow = start(second(0));
    let base = Box::new(crate::raft::Snapshot { index: crate::Index(9), ..Default::default() });
    let shape = FileShape { bytes: 100, chunk: 64 };
    slow.on_message(second(1), CopyMessage::Offer { transfer: 1, base, shape });
    while slow.next_step().is_some() {}
    for n in 2..60 {
        slow.tick(second(n));
        assert!(slow.next_step().is_none());
        assert!(slow.next() > second(n), "it is not looked at again and again");
    }
    slow.on_answer(second(60), CopyAnswer::Receiving { transfer: 1, known: Vec::new() });
    let asked = std::iter::from_fn(|| slow.next_step()).count();
    assert_eq!(asked, 2, "both chunks are asked for");
}

#[test]
fn a_copy_that_holds_nothing_is_not_fetched_for_ever_from_others_that_hold_nothing() {
    let mut world = with_database(3, &Defaults::default(), &Settings::default());
    let log = log(&world, 0, "demo");
    // A log may be long and all of it without content.
    assert!(world.node(0).shard(log).unwrap().applied() > Index::ZERO);
    let late = world.add("late", Defaults::default());
    let limits = ShardLimits { blank_worth: 1, ..ShardLimits::default() };
    world.machines[late].config.shards = Some(limits);
    world.start(late);
    assert!(world.until(SECOND * 10, |w| online(w, 0, "demo") == 4), "{world:?}");
    assert!(done(&write(&mut world, late, insert(1))));
}

#[test]
fn a_copy_that_is_out_of_use_and_votes_is_mended() {
    let (mut world, log) = online_with_rows(&Settings::default());
    let node = world.node(2).id();
    world.command(0, Command::Change(ConfigCommand::SetOffline { log, node, offline: true }));
    assert!(world.until(SECOND * 5, |w| online(w, 0, "demo") == 2), "{world:?}");
    world.kill(2);
    world.machines[2].files.clear();
    world.start(2);
    assert!(world.until(SECOND * 20, |w| whole(w, 2, log)), "{world:?}");
    // With another one gone its vote is needed.
    world.kill(1);
    world.run(SECOND * 2);
    assert!(done(&write(&mut world, 0, insert(100))));
}

#[test]
fn what_is_only_left_in_a_copy_that_is_out_of_use_is_given_from_there() {
    let (mut world, log) = online_with_rows(&Settings::default());
    let node = world.node(0).id();
    let offline = ConfigCommand::SetOffline { log, node, offline: true };
    world.command(0, Command::Change(offline));
    assert!(world.until(SECOND * 5, |w| online(w, 0, "demo") == 2), "{world:?}");
    // All that is in use is lost.
    for machine in 1..3 {
        world.kill(machine);
        world.machines[machine].files.clear();
    }
    for machine in 1..3 {
        world.start(machine);
    }
    let mended = |w: &World| online(w, 0, "demo") == 2 && [1, 2].iter().all(|m| whole(w, *m, log));
    assert!(world.until(SECOND * 20, mended), "{world:?}");
    assert_eq!(keys(&world, 1, log), keys(&world, 0, log));
    assert!(done(&write(&mut world, 1, insert(100))));
}

#[test]
fn without_deployment_a_copy_that_was_part_of_the_log_is_mended_and_none_is_made() {
    let settings = Settings { auto_deploy: false, ..Settings::default() };
    let (mut world, log) = online_with_rows(&settings);
    world.run(SECOND);
    world.kill(2);
    world.machines[2].files.clear();
    world.start(2);
    let mended = |w: &World| whole(w, 2, log) && online(w, 0, "demo") == 3;
    assert!(world.until(SECOND * 10, mended), "{world:?}");
    assert_eq!(keys(&world, 2, log), keys(&world, 0, log));
    let late = world.add("late", Defaults::default());
    world.start(late);
    world.run(SECOND * 5);
    assert!(world.machines[late].files.get(&log).is_none_or(|files| files.exports.is_empty()));
    assert_eq!(online(&world, 0, "demo"), 3);
}

#[test]
fn a_shard_moves_to_a_server_that_holds_nothing_though_its_log_begins_late() {
    let (mut world, log) = with_rows(60, 2);
    world.start(2);
    let late = world.add("late", Defaults::default());
    for machine in &mut world.machines {
        let shards = machine.config.shards.as_mut().unwrap();
        (shards.sync_after, shards.retain_bytes, shards.retain_age) = (1, 1, Duration::ZERO);
        shards.chunk_bytes = 16;
    }
    for machine in 0..3 {
        world.kill(machine);
        world.start(machine);
    }
    assert!(world.until(SECOND * 5, |w| online(w, 0, "demo") == 3), "{world:?}");
    for key in 100..110 {
        assert!(done(&write(&mut world, 0, insert(key))));
    }
    world.run(SECOND);
    let begins = world.node(0).shard(log).unwrap().log().snapshot().index;
    assert!(begins > Index(50), "{begins}");
    let place = |world: &mut World, names: &[&str]| {
        let places = names.iter().map(|name| PlaceRule::Server((*name).to_owned())).collect();
        let settings = Settings { places, ..Settings::default() };
        let id = world.node(0).configuration().unwrap().databases["demo"].id;
        let rules = Box::new(DatabaseRules { settings, shards: BTreeMap::new() });
        let name = "demo".to_owned();
        let configure = ConfigCommand::Configure { name, id, rules, drop: BTreeSet::new() };
        world.command(0, Command::Change(configure));
        world.run(SECOND);
    };
    place(&mut world, &["n0", "n1", "n2"]);
    world.start(late);
    assert!(world.until(SECOND * 5, |w| w.agree(&[0, 1, 2, late])), "{world:?}");
    assert!(world.node(late).shard(log).is_none());
    // All who hold it lose their place at once.
    place(&mut world, &["late"]);
    let only = |w: &World| {
        let log = w.machines[late].node.as_ref().and_then(|node| node.shard(log));
        log.is_some_and(|held| held.is_owner() && held.log().membership().voters().len() == 1)
    };
    assert!(world.until(SECOND * 15, only), "{world:?}");
    assert_eq!(keys(&world, late, log).len(), 70);
    assert!(done(&write(&mut world, 0, insert(1000))));
}

#[test]
fn what_is_put_away_beside_a_live_copy_is_never_the_one_that_is_about_to_take_its_place() {
    let mut swapped = 0;
    for opening in (500..3_000).step_by(100).map(Duration::from_millis) {
        let mut world = with_database(3, &Defaults::default(), &Settings::default());
        let log = log(&world, 0, "demo");
        for machine in 0..3 {
            // The log begins late, so that its leader has nothing but a whole copy to offer.
            let limits = world.machines[machine].config.shards.as_mut().unwrap();
            (limits.retain_bytes, limits.retain_bytes_max, limits.sync_after) = (0, 0, 1);
            limits.retain_age = Duration::ZERO;
            world.kill(machine);
            world.start(machine);
        }
        world.run(SECOND * 4);
        assert_eq!(online(&world, 0, "demo"), 3);
        for key in 0..20 {
            assert!(done(&write(&mut world, 0, insert(key))));
        }
        let late = world.add("late", Defaults::default());
        // Its empty copy is open at last while the whole one is being put in its place.
        world.machines[late].engine = opening;
        world.machines[late].filing = Duration::from_millis(400);
        world.start(late);
        let end = world.now + SECOND * 5;
        while world.now < end {
            world.run(super::world::STEP * 20);
            let live = world.machines[late].disk.logs.get(&log).and_then(|held| held.copy);
            let Some(live) = live else { continue };
            let there = world.machines[late].files[&log].generations.contains_key(&live);
            assert!(there, "{live:?} is recorded and put away, opened after {opening:?}");
        }
        let live = world.machines[late].disk.logs[&log].copy;
        swapped += usize::from(live == Some(Generation(2)));
    }
    assert!(swapped > 10, "a whole copy came in {swapped} of the runs");
}
