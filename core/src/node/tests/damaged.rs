//! Logs that cannot be read in part: what was promised by them is not known any more, so nobody may
//! hear of them again, and the operator must.

use super::copies::{online_with_rows, with_rows};
use super::databases::{done, insert, log, online, with_database, write};
use super::lifecycle::SECOND;
use super::world::World;
use crate::configuration::{ConfigCommand, Defaults, Settings};
use crate::copies::CopyState;
use crate::{Command, Event, Index, LogId, Term};

/// The store of a machine that is switched off has lost what a log held from the last entries on.
fn damage(world: &mut World, at: usize, log: LogId, lost: usize) {
    let held = world.machines[at].disk.logs.get_mut(&log).expect("it has the log");
    held.entries.truncate(held.entries.len() - lost);
    held.damaged = true;
}

fn told(world: &World, at: usize) -> Vec<LogId> {
    let told = world.machines[at].events.iter().filter_map(|event| match event {
        Event::Damaged { log } => Some(*log),
        _ => None,
    });
    told.collect()
}

#[test]
fn a_damaged_log_of_a_shard_is_told_and_its_copy_is_not_called_online() {
    let (mut world, log) = with_rows(20, 2);
    damage(&mut world, 2, log, 5);
    world.start(2);
    assert!(world.until(SECOND * 5, |w| online(w, 0, "demo") == 2), "{world:?}");
    assert_eq!(told(&world, 2), [log]);
    assert!(world.node(2).status(world.now).damaged);
    let id = world.id(2);
    let copies = world.node(0).status(world.now).copies;
    let told = copies.iter().find(|(of, node, _)| (*of, *node) == (log, id));
    let Some((.., report)) = told else { panic!("{copies:?}") };
    assert!(
        matches!(&report.state, CopyState::Lacking(why) if why.contains("--new-identity")),
        "{report:?}"
    );
}

#[test]
fn the_copy_of_a_damaged_log_is_left_as_it_is() {
    // Behind another copy the log would begin anew, with less in it than was promised.
    let (mut world, log) = with_rows(20, 2);
    damage(&mut world, 2, log, 5);
    let before = world.machines[2].disk.logs[&log].clone();
    world.machines[2].files.clear();
    world.start(2);
    world.run(SECOND * 5);
    let began = |event: &Event| matches!(event, Event::CopyBegan { .. });
    assert!(!world.machines[2].events.iter().any(began), "{:?}", world.machines[2].events);
    let after = &world.machines[2].disk.logs[&log];
    assert_eq!(after.snapshot.index, before.snapshot.index);
    assert_eq!(after.hard_state, before.hard_state, "and it writes nothing");
}

#[test]
fn whoever_abstains_tells_of_owners_in_the_terms_that_are_theirs() {
    let (mut world, log) = online_with_rows(&Settings::default());
    world.kill(2);
    damage(&mut world, 2, log, 5);
    world.start(2);
    world.run(SECOND * 2);
    let owner = world.node(0).shard(log).and_then(|shard| shard.log().leader()).expect("led");
    let owner = (0..2).find(|at| world.id(*at) == owner).expect("one that is sound");
    world.kill(owner);
    world.start(owner);
    world.run(SECOND * 5);
    let mut terms = std::collections::BTreeMap::new();
    for machine in &world.machines {
        for event in &machine.events {
            if let Event::Owner { log: of, node, term } = event
                && *of == log
            {
                assert_eq!(*terms.entry(*term).or_insert(*node), *node, "{term:?}");
            }
        }
    }
    let at = |at: usize| world.node(at).shard(log).expect("held").log();
    assert_eq!((at(2).leader(), at(2).term()), (at(0).leader(), at(0).term()));
    assert!(at(2).abstains() && at(0).term() > Term(1));
}

#[test]
fn whoever_cannot_read_all_of_the_configuration_begins_no_log_anew() {
    let mut world = with_database(3, &Defaults::default(), &Settings::default());
    for key in 0..10 {
        assert!(done(&write(&mut world, 0, insert(key))));
    }
    let log = log(&world, 0, "demo");
    let mut made = world.machines[2].disk.logs[&LogId::CONFIGURATION].clone();
    made.hard_state.commit = made.entries.last().expect("entries").index;
    let drop = ConfigCommand::DropDatabase { name: "demo".to_owned() };
    let id = world.command(0, Command::Change(drop));
    let gone = |w: &World| (0..3).all(|at| w.node(at).shard(log).is_none());
    assert!(world.until(SECOND * 3, |w| w.machines[0].replies.contains_key(&id) && gone(w)));
    world.run(SECOND * 2);
    world.kill(2);
    // What it can read speaks of the database; of its log nothing is left.
    let held = &mut world.machines[2].disk;
    held.logs.retain(|held, _| *held == LogId::CONFIGURATION);
    held.logs.insert(LogId::CONFIGURATION, made);
    damage(&mut world, 2, LogId::CONFIGURATION, 0);
    world.start(2);
    world.run(SECOND * 5);
    assert!(!world.machines[2].disk.logs.contains_key(&log));
    assert_eq!(told(&world, 2), [LogId::CONFIGURATION]);
}

#[test]
fn with_the_configuration_damaged_no_log_of_a_shard_is_trusted() {
    let (mut world, log) = with_rows(20, 2);
    damage(&mut world, 2, LogId::CONFIGURATION, 1);
    world.start(2);
    world.run(SECOND * 5);
    assert_eq!(told(&world, 2), [LogId::CONFIGURATION, log]);
    let held = world.node(2).shard(log).expect("it is open").log();
    assert!(held.abstains() && held.commit() > Index::ZERO);
}
