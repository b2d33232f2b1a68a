//! Shards that move, and what is owed to them, while some of their servers are gone, behind, or slow.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::databases::{done, insert, keys, log, online, with_database, write};
use super::lifecycle::{SECOND, coordinator};
use super::world::{STEP, World};
use crate::configuration::{ConfigCommand, DatabaseRules, Defaults, PlaceRule, Settings};
use crate::engine::Fault;
use crate::{Command, Index, LogId};

pub(super) fn places(names: &[&str]) -> Settings {
    let places = names.iter().map(|name| PlaceRule::Server((*name).to_owned())).collect();
    Settings { places, ..Settings::default() }
}

/// The database moves, and follows these settings.
pub(super) fn configure(world: &mut World, at: usize, settings: Settings) {
    let id = world.node(at).configuration().unwrap().databases["demo"].id;
    let rules = Box::new(DatabaseRules { settings, shards: BTreeMap::new() });
    let (name, drop) = ("demo".to_owned(), BTreeSet::new());
    let configure = ConfigCommand::Configure { name, id, rules, drop };
    let before = world.node(at).configuration().unwrap().version;
    world.command(at, Command::Change(configure));
    let after = |w: &World| w.node(at).configuration().unwrap().version > before;
    assert!(world.until(SECOND * 5, after), "{world:?}");
}

/// Logs are let go of as soon as they may be.
fn keep_short_logs(world: &mut World) {
    for at in 0..world.machines.len() {
        let limits = world.machines[at].config.shards.as_mut().unwrap();
        (limits.sync_after, limits.retain_bytes, limits.retain_age) = (1, 1, Duration::ZERO);
        world.kill(at);
        world.start(at);
    }
}

/// The database lies on the first three of five servers, and the third is away for so long that the
/// others have let go of the log that it would need. There are 20 rows; behind which entry the log begins.
fn one_left_behind() -> (World, LogId, Index) {
    let mut world = with_database(5, &Defaults::default(), &places(&["n0", "n1", "n2"]));
    let log = log(&world, 0, "demo");
    assert!(world.until(SECOND * 5, |w| online(w, 0, "demo") == 3), "{world:?}");
    keep_short_logs(&mut world);
    assert!(world.until(SECOND * 5, |w| w.agree(&[0, 1, 2, 3, 4])), "{world:?}");
    world.kill(2);
    let last = world.machines[2].disk.logs[&log].entries.last().unwrap().index;
    world.run(SECOND * 7);
    for key in 0..20 {
        assert!(done(&write(&mut world, 0, insert(key))));
    }
    world.run(SECOND);
    let begins = world.node(0).shard(log).unwrap().log().snapshot().index;
    assert!(begins > last, "{begins} {last}");
    (world, log, begins)
}

#[test]
fn a_voter_without_a_place_is_mended_while_its_vote_is_needed() {
    let (mut world, log, begins) = one_left_behind();
    // Of the three voters one is left, and all lose their place.
    world.kill(1);
    configure(&mut world, 0, places(&["n3", "n4"]));
    world.start(2);
    let new = [world.id(3), world.id(4)];
    let moved = |w: &World| {
        let held = w.node(3).shard(log).map(|held| held.log().membership());
        held.is_some_and(|m| !m.is_joint() && m.incoming.voters == BTreeSet::from(new))
    };
    assert!(world.until(SECOND * 20, moved), "{world:?}");
    assert!(done(&write(&mut world, 3, insert(100))));
    assert_eq!(keys(&world, 3, log).len(), 21);
    assert!(world.node(2).shard(log).unwrap().applied() >= begins);
}

#[test]
fn a_voter_whose_name_another_bears_is_mended_while_its_vote_is_needed() {
    let (mut world, log, begins) = one_left_behind();
    // Another takes over its name and its place, and is slow to get a copy.
    let late = world.add("n2", Defaults::default());
    world.machines[late].filing = SECOND * 600;
    world.start(late);
    let (old, new) = (world.id(2), world.id(late));
    let taken = |w: &World| {
        let document = w.node(0).configuration().unwrap();
        document.servers.contains_key(&new) && !document.servers.contains_key(&old)
    };
    assert!(world.until(SECOND * 20, taken), "{world:?}");
    world.kill(1);
    world.start(2);
    let mended = |w: &World| w.node(2).shard(log).is_some_and(|held| held.applied() >= begins);
    assert!(world.until(SECOND * 20, mended), "{world:?}");
    let voters = world.node(0).shard(log).unwrap().log().membership().voters();
    assert!(voters.contains(&old) && !voters.contains(&new), "{voters:?}");
    assert!(done(&write(&mut world, 0, insert(100))));
}

#[test]
fn what_the_leader_of_a_shard_asks_again_and_again_is_one_entry_however_slow_its_commit_is() {
    let mut world = with_database(3, &Defaults::default(), &Settings::default());
    let log = log(&world, 0, "demo");
    assert!(world.until(SECOND * 5, |w| online(w, 0, "demo") == 3), "{world:?}");
    world.run(SECOND);
    let leads = coordinator(&world, 0);
    let others = [(leads + 1) % 3, (leads + 2) % 3];
    for other in others {
        world.machines[other].sync = SECOND * 60;
    }
    let last = |w: &World| w.node(leads).status(w.now).last_index;
    let before = last(&world);
    // Its copy is not whole any more, and nobody can give it another: whoever leads the shard wants the
    // document to say so.
    for machine in &mut world.machines {
        machine.files.get_mut(&log).unwrap().fail = Some(Fault::Full("no space".to_owned()));
    }
    world.distrust(others[0], log);
    world.run(SECOND * 20);
    assert!((1..=3).contains(&(last(&world) - before)), "{} entries", last(&world) - before);
    assert_eq!(coordinator(&world, leads), leads);
    for machine in &mut world.machines {
        machine.sync = STEP;
        machine.files.get_mut(&log).unwrap().fail = None;
    }
    world.run(SECOND * 90);
    assert_eq!(online(&world, leads, "demo"), 3, "{world:?}");
}
