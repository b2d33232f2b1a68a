//! What an input does not concern is left alone, and nothing is forgotten for that. (Every debug build
//! asserts besides that what a calm node leaves out would have done nothing.)

use super::databases::{done, insert, keys, log, with_database, write};
use super::lifecycle::SECOND;
use super::world::World;
use crate::LogId;
use crate::configuration::{Defaults, Settings};
use crate::node::shards::Touched;

fn all_calm(world: &World, count: usize) -> bool {
    (0..count).all(|number| world.node(number).is_calm())
}

#[test]
fn a_settled_cluster_is_calm_between_its_timers_and_while_it_writes() {
    let mut world = with_database(3, &Defaults::default(), &Settings::default());
    for key in 1..=20 {
        assert!(world.until(SECOND, |w| all_calm(w, 3)), "never calm: {world:?}");
        assert!(done(&write(&mut world, 1, insert(key))));
    }
    let log = log(&world, 0, "demo");
    assert!(world.until(SECOND, |w| (0..3).all(|at| keys(w, at, log).len() == 20)), "{world:?}");
}

#[test]
fn a_node_that_loses_its_links_is_not_calm_until_it_has_a_leader_again() {
    let mut world = with_database(3, &Defaults::default(), &Settings::default());
    assert!(world.until(SECOND, |w| all_calm(w, 3)));
    let others = [1, 2];
    others.iter().for_each(|other| world.cut(0, *other));
    world.run(SECOND * 2);
    assert!(!world.node(0).is_calm(), "alone and calm: {world:?}");
    world.heal();
    assert!(world.until(SECOND * 10, |w| all_calm(w, 3)), "never calm again: {world:?}");
}

#[test]
fn touched_logs_come_once_each_and_in_order_whenever_they_are_touched() {
    let mut touched = Touched::default();
    [5, 2, 9, 5, 2, 7].into_iter().for_each(|log| touched.insert(LogId(log)));
    touched.remove(LogId(7));
    touched.remove(LogId(8));
    assert_eq!(touched.pop_first(), Some(LogId(2)));
    [3, 9, 1].into_iter().for_each(|log| touched.insert(LogId(log)));
    let rest: Vec<u64> = std::iter::from_fn(|| touched.pop_first()).map(|log| log.0).collect();
    assert_eq!(rest, [1, 3, 5, 9]);
}
