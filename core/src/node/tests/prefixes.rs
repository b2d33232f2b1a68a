//! Crashes after which only a prefix of what was being written is there.

use super::lifecycle::{SECOND, cluster, dynamic};
use super::world::World;
use crate::configuration::Defaults;
use crate::marks::reaches;

#[test]
fn a_joiner_that_dies_after_any_of_its_writes_joins_after_the_restart() {
    for writes in 0..24 {
        let mut world = cluster(2, &Defaults::default());
        world.add("n2", Defaults::default());
        world.machines[2].sync = std::time::Duration::from_millis(7);
        world.machines[2].crash_after = Some(writes);
        world.start(2);
        world.run(SECOND * 3);
        if world.machines[2].node.is_none() {
            world.start(2);
        }
        assert!(
            world.until(SECOND * 10, |w| w.agree(&[0, 1, 2])),
            "after {writes} writes: {world:?}"
        );
        assert_eq!(world.node(0).configuration().unwrap().servers.len(), 3);
    }
}

#[test]
fn a_founder_that_dies_after_any_of_its_writes_founds_or_goes_on() {
    for writes in 0..12 {
        let mut world = World::new();
        world.add("n0", Defaults::default());
        world.machines[0].crash_after = Some(writes);
        world.start(0);
        world.run(SECOND * 3);
        if world.machines[0].node.is_none() {
            world.start(0);
        }
        assert!(world.until(SECOND * 5, |w| w.agree(&[0])), "after {writes} writes: {world:?}");
    }
}

#[test]
fn what_a_founding_that_was_cut_short_has_left_does_no_harm_in_another_cluster() {
    for founding in 0..8 {
        for joining in [usize::MAX, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12] {
            let mut world = World::new();
            for number in 0..3 {
                world.add(&format!("n{number}"), Defaults::default());
            }
            world.machines[0].crash_after = Some(founding);
            world.start(0);
            world.run(SECOND * 2);
            if world.machines[0].node.is_some() || world.machines[0].disk.identity.cluster.is_some()
            {
                continue; // It has founded: another test's matter.
            }
            world.start(1);
            world.start(2);
            assert!(world.until(SECOND * 5, |w| w.agree(&[1, 2])));
            let written = world.machines[0].written;
            world.machines[0].crash_after = written.checked_add(joining);
            world.start(0);
            world.run(SECOND * 3);
            if world.machines[0].node.is_none() {
                world.start(0);
            }
            assert!(
                world.until(SECOND * 10, |w| w.agree(&[0, 1, 2])),
                "{founding} then {joining}: {world:?}"
            );
        }
    }
}

#[test]
fn servers_that_die_together_after_any_of_their_writes_become_a_cluster_again() {
    for victim in 0..3 {
        for writes in 4..30 {
            let mut world = World::new();
            for number in 0..3 {
                world.add(&format!("n{number}"), dynamic());
                world.machines[number].sync = std::time::Duration::from_millis(3);
            }
            world.machines[victim].crash_after = Some(writes);
            (0..3).for_each(|n| world.start(n));
            world.run(SECOND * 2);
            (0..3).for_each(|n| world.crash(n, 0));
            world.machines[victim].crash_after = None;
            (0..3).for_each(|n| world.start(n));
            let one = world.until(SECOND * 15, |w| w.agree(&[0, 1, 2]));
            if !one {
                // Two may have been founded apart: then the directories of one move aside.
                let stopped = world.machines.iter().any(|m| m.stopped.is_some());
                assert!(stopped, "n{victim} after {writes}: {world:?}");
            }
        }
    }
}

#[test]
fn five_started_with_staggered_clocks_and_disks_become_one_cluster() {
    for step_ms in [0_u64, 1, 40, 130, 450, 520] {
        let mut world = World::new();
        for number in 0..5_u64 {
            let index = world.add(&format!("n{number}"), Defaults::default());
            world.machines[index].sync = std::time::Duration::from_millis(1 + number * 9 % 31);
            world.start(index);
            world.run(std::time::Duration::from_millis(step_ms));
        }
        assert!(world.until(SECOND * 5, |w| w.agree(&[0, 1, 2, 3, 4])), "{step_ms}: {world:?}");
    }
}

#[test]
fn with_a_member_list_and_slow_disks_one_cluster_is_founded() {
    let mut world = World::new();
    for number in 0..3 {
        world.add(&format!("n{number}"), Defaults::default());
        world.machines[number].config.multicast = false;
        world.machines[number].sync = std::time::Duration::from_millis(600);
    }
    let seeds: Vec<_> = world.machines.iter().map(|m| m.config.addresses.node).collect();
    for machine in &mut world.machines {
        machine.config.seeds.clone_from(&seeds);
    }
    (0..3).for_each(|n| world.start(n));
    world.run(std::time::Duration::from_millis(1_300));
    for machine in &mut world.machines {
        machine.sync = super::world::STEP;
    }
    let one = world.until(SECOND * 5, |w| w.agree(&[0, 1, 2]));
    assert!(one, "{world:?}");
}

#[test]
fn a_disk_slower_than_an_election_sees_one_through() {
    reaches!(OwnVoteSlow);
    let mut world = World::new();
    world.add("n0", Defaults::default());
    world.machines[0].sync = SECOND;
    world.start(0);
    assert!(world.until(SECOND * 20, |w| w.agree(&[0])), "{world:?}");
}
