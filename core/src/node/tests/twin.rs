use super::lifecycle::{SECOND, cluster, dynamic};
use super::world::World;
use crate::configuration::Defaults;
use crate::marks::reaches;
use crate::{Command, Recovered, State, StopReason};

/// Another machine with such a directory.
fn twin(world: &mut World, directory: Recovered) -> usize {
    let twin = world.add("twin", Defaults::default());
    world.machines[twin].disk = directory;
    world.start(twin);
    twin
}

fn restarted(world: &mut World, number: usize) {
    world.kill(number);
    world.start(number);
    assert!(world.until(SECOND * 5, |w| w.agree(&[0, 1, 2])));
    world.run(SECOND);
}

fn is_stale(world: &World, number: usize) -> bool {
    matches!(world.machines[number].stopped, Some(StopReason::StaleDisk(_)))
}

#[test]
fn an_old_directory_gives_way_to_its_successor_where_nobody_else_is_left_to_tell() {
    reaches!(StaleDirectory);
    let mut world = cluster(3, &dynamic());
    let old = world.machines[2].disk.clone();
    restarted(&mut world, 2);
    for other in 0..2 {
        world.command(other, Command::Stop);
        assert!(world.until(SECOND * 5, |w| w.machines[other].stopped.is_some()));
    }
    assert!(world.until(SECOND * 5, |w| w.agree(&[2])));
    let twin = twin(&mut world, old);
    assert!(world.until(SECOND * 10, |w| is_stale(w, twin)), "{world:?}");
    world.run(SECOND);
    assert_eq!(world.machines[2].stopped, None);
}

#[test]
fn a_directory_does_not_give_way_to_one_whose_log_ends_before_its_own() {
    let mut world = cluster(1, &dynamic());
    let alone = world.machines[0].disk.clone();
    for number in 1..3 {
        world.add(&format!("n{number}"), dynamic());
        world.start(number);
        assert!(world.until(SECOND * 5, |w| w.node(number).state() == State::Member));
    }
    assert!(world.until(SECOND * 5, |w| w.agree(&[0, 1, 2])));
    (0..3).for_each(|number| world.kill(number));
    // Of a time when it decided alone, as it does again.
    let twin = twin(&mut world, alone);
    assert!(world.until(SECOND * 5, |w| w.agree(&[twin])));
    world.start(0);
    world.run(SECOND * 20);
    assert_eq!(
        (world.machines[0].stopped.clone(), world.machines[twin].stopped.clone()),
        (None, None)
    );
    assert_eq!(world.node(0).state(), State::Returning);
}

#[test]
fn of_two_directories_that_nobody_can_tell_apart_neither_gives_way_until_somebody_can() {
    let mut world = cluster(3, &Defaults::default());
    let old = world.machines[2].disk.clone();
    restarted(&mut world, 2);
    (0..2).for_each(|other| world.kill(other));
    world.run(SECOND * 10);
    let twin = twin(&mut world, old);
    world.run(SECOND * 20);
    assert_eq!(
        (world.machines[2].stopped.clone(), world.machines[twin].stopped.clone()),
        (None, None)
    );
    (0..2).for_each(|other| world.cut(other, twin));
    world.start(0);
    assert!(world.until(SECOND * 20, |w| is_stale(w, twin)), "by what the other has learned");
    assert!(world.until(SECOND * 10, |w| w.agree(&[0, 2])));
}
