//! What every node has measured, gathered by one: whoever does not answer is named, and never counted
//! as zero.

use std::time::Duration;

use super::databases::{done, insert, log, online, with_database, write};
use super::lifecycle::SECOND;
use super::moving::places;
use super::world::World;
use crate::configuration::{Defaults, QuorumRule, Settings};
use crate::measures::{Measures, NoMeasures, Owned};
use crate::shard::ShardError;
use crate::{Command, NodeId, Reply};

type Told = Vec<(NodeId, Result<Measures, NoMeasures>)>;

fn gathered(world: &mut World, at: usize) -> Told {
    let id = world.command(at, Command::Measure { timeout: SECOND });
    let answered = |w: &World| w.machines[at].replies.contains_key(&id);
    assert!(world.until(SECOND * 2, answered), "{world:?}");
    match world.machines[at].replies.remove(&id) {
        Some(Reply::Measured { servers }) => servers,
        other => panic!("{other:?}"),
    }
}

fn of<'a>(told: &'a Told, world: &World, number: usize) -> &'a Result<Measures, NoMeasures> {
    let of = |node: NodeId| told.iter().find(|(of, _)| *of == node).map(|(_, measures)| measures);
    of(world.id(number)).expect("every server is in it")
}

fn three() -> World {
    let mut world = with_database(3, &Defaults::default(), &places(&["n0", "n1", "n2"]));
    assert!(world.until(SECOND * 5, |w| online(w, 0, "demo") == 3), "{world:?}");
    world
}

#[test]
fn every_server_tells_what_it_owns_and_how_long_the_others_take() {
    let mut world = three();
    for key in 0..20 {
        assert!(done(&write(&mut world, 1, insert(key))));
    }
    let log = log(&world, 0, "demo");
    for asked in 0..3 {
        let told = gathered(&mut world, asked);
        assert_eq!(told.len(), 3);
        let measures =
            |number: usize| of(&told, &world, number).as_ref().expect("all are in reach");
        let owner = measures(0);
        let term = world.node(0).shard(log).unwrap().log().term();
        assert_eq!(owner.owned, [Owned { log, term, refuses: None }]);
        for (follower, (node, latency)) in [1, 2].into_iter().zip(&owner.followers) {
            assert_eq!(*node, world.id(follower));
            // A message there and one back take a millisecond each, the disk one more.
            assert!(latency.acknowledged >= 20, "{latency:?}");
            assert!((2_000..=4_000).contains(&latency.average_us().unwrap()), "{latency:?}");
            assert!((2_000..=20_000).contains(&latency.worst_us), "{latency:?}");
            assert_eq!((latency.waiting_us, latency.behind), (0, 0));
        }
        for number in [1, 2] {
            assert!(measures(number).owned.is_empty() && measures(number).followers.is_empty());
        }
        for number in 0..3 {
            assert_eq!(measures(number).traffic.len(), 2, "one for each other server");
        }
    }
}

#[test]
fn whoever_is_gone_or_silent_is_named_and_the_others_tell_all_the_same() {
    let mut world = three();
    world.kill(2);
    world.run(Duration::from_millis(50));
    // Nothing of it comes any more, though its link stands.
    world.deafen(1, 0);
    let told = gathered(&mut world, 0);
    assert!(of(&told, &world, 0).is_ok());
    assert_eq!(*of(&told, &world, 1), Err(NoMeasures::TooLate));
    assert_eq!(*of(&told, &world, 2), Err(NoMeasures::OutOfReach));
}

#[test]
fn who_is_asked_and_cut_off_meanwhile_is_out_of_reach() {
    let mut world = three();
    let id = world.command(0, Command::Measure { timeout: SECOND * 60 });
    world.kill(1);
    world.kill(2);
    let answered = |w: &World| w.machines[0].replies.contains_key(&id);
    assert!(world.until(SECOND * 5, answered), "{world:?}");
    let Some(Reply::Measured { servers }) = world.machines[0].replies.remove(&id) else {
        panic!("{world:?}");
    };
    assert_eq!(*of(&servers, &world, 1), Err(NoMeasures::OutOfReach));
    assert_eq!(*of(&servers, &world, 2), Err(NoMeasures::OutOfReach));
    assert!(of(&servers, &world, 0).is_ok());
}

#[test]
fn an_owner_that_reaches_too_few_says_so_and_whom_it_lacks() {
    let settings = Settings { write_quorum: QuorumRule::All, ..places(&["n0", "n1", "n2"]) };
    let mut world = with_database(3, &Defaults::default(), &settings);
    assert!(world.until(SECOND * 5, |w| online(w, 0, "demo") == 3), "{world:?}");
    world.kill(1);
    let waits = |w: &World| w.node(0).measures(w.now, Vec::new()).owned[0].refuses.is_some();
    assert!(world.until(SECOND * 5, waits), "a majority is there: it goes on leading");
    let told = gathered(&mut world, 2);
    let owned = &of(&told, &world, 0).as_ref().expect("it is in reach").owned;
    let missing = vec![world.id(1)];
    assert_eq!(owned[0].refuses, Some(ShardError::NoQuorum { missing, needed: 3, voters: 3 }));
}

#[test]
fn a_node_that_is_in_no_cluster_tells_of_itself() {
    let mut world = World::new();
    let alone = world.add("n0", Defaults::default());
    world.start(alone);
    let told = gathered(&mut world, alone);
    assert_eq!(told, [(world.id(alone), Ok(Measures::default()))]);
}

#[test]
fn too_many_who_gather_are_told_to_come_back() {
    let mut world = three();
    world.deafen(1, 0);
    let ids: Vec<_> =
        (0..17).map(|_| world.command(0, Command::Measure { timeout: SECOND })).collect();
    world.run(Duration::from_millis(1));
    let last = world.machines[0].replies.get(&ids[16]);
    assert_eq!(last, Some(&Reply::Failed(crate::CommandError::Busy)));
    world.run(SECOND * 2);
    assert!(ids.iter().all(|id| world.machines[0].replies.contains_key(id)));
}
