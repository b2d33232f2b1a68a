//! Clusters of one name that meet, and what is left of them.

use super::lifecycle::{SECOND, cluster};
use super::world::World;
use crate::configuration::{ConfigCommand, Defaults, Rejection};
use crate::marks::reaches;
use crate::{ClusterId, Command, CommandError, Event, NodeId, Recovered, Reply, StopReason};

fn create(name: &str) -> Command {
    Command::Change(ConfigCommand::create_database(name, crate::DatabaseId(1)))
}

/// Clusters of the sizes given, that do not see each other yet.
pub(super) fn apart(sizes: &[usize]) -> (World, Vec<Vec<usize>>) {
    let mut world = World::new();
    let mut groups = Vec::new();
    for size in sizes {
        let first = world.machines.len();
        let group: Vec<usize> = (first..first + size).collect();
        for number in &group {
            world.add(&format!("n{number}"), Defaults::default());
        }
        groups.push(group);
    }
    for group in &groups {
        for number in group {
            for other in (0..world.machines.len()).filter(|n| !group.contains(n)) {
                world.cut(*number, other);
            }
        }
    }
    (0..world.machines.len()).for_each(|n| world.start(n));
    let formed = world.until(SECOND * 5, |w| groups.iter().all(|group| w.agree(group)));
    assert!(formed, "{world:?}");
    (world, groups)
}

/// What the server does when its cluster has dissolved: a new directory, a new id.
pub(super) fn restart_the_dissolved(world: &mut World) -> usize {
    let mut restarted = 0;
    for number in 0..world.machines.len() {
        let Some(StopReason::Dissolved { from, brings, .. }) = world.machines[number].stopped
        else {
            continue;
        };
        let id = NodeId(world.id(number).0 + 77 + (u128::try_from(number).unwrap() << 16));
        let fresh = Recovered::after_dissolve(id, from);
        let fresh = brings.map_or(fresh.clone(), |was| fresh.bringing(was));
        world.machines[number].move_aside(fresh);
        world.start(number);
        restarted += 1;
    }
    restarted
}

/// Lets time pass, restarting whoever has dissolved, until all are one cluster.
pub(super) fn become_one(world: &mut World, seconds: u32) -> bool {
    let all: Vec<usize> = (0..world.machines.len()).collect();
    for _ in 0..seconds * 4 {
        world.run(SECOND / 4);
        restart_the_dissolved(world);
        if world.agree(&all) {
            return true;
        }
    }
    false
}

pub(super) fn set_aside(world: &World, numbers: &[usize]) -> bool {
    numbers.iter().any(|n| world.machines[*n].events.contains(&Event::State(crate::State::Left)))
}

#[test]
fn three_empty_clusters_that_meet_become_one() {
    let (mut world, _) = apart(&[2, 2, 2]);
    world.heal();
    assert!(become_one(&mut world, 30), "{world:?}");
}

#[test]
fn the_cluster_with_a_database_survives_whatever_its_id() {
    for holder in [0, 1] {
        let (mut world, groups) = apart(&[2, 2]);
        let group = groups[holder].clone();
        let id = world.command(group[0], create("demo"));
        world.run(SECOND);
        assert!(world.machines[group[0]].replies.contains_key(&id));
        let survivor = world.node(group[0]).cluster();
        world.heal();
        assert!(become_one(&mut world, 20), "{world:?}");
        assert!(!set_aside(&world, &group));
        assert_eq!(world.node(0).cluster(), survivor);
        assert!(world.node(3).configuration().unwrap().databases.contains_key("demo"));
    }
}

#[test]
fn two_clusters_with_databases_report_a_split_and_go_on_serving() {
    reaches!(SplitSeen);
    let (mut world, groups) = apart(&[2, 2]);
    for group in &groups {
        world.command(group[0], create("demo"));
    }
    world.run(SECOND);
    world.heal();
    world.run(SECOND * 10);
    for group in &groups {
        assert!(world.agree(group));
        assert!(!set_aside(&world, group));
        for number in group {
            assert_eq!(world.node(*number).status(world.now).split_with.len(), 1, "n{number}");
        }
        let id = world.command(group[1], create("more"));
        world.run(SECOND);
        let reply = &world.machines[group[1]].replies[&id];
        assert!(matches!(reply, crate::Reply::Done { .. }), "{reply:?}");
    }
}

#[test]
fn a_straggler_of_a_dissolved_cluster_follows_it() {
    let (mut world, groups) = apart(&[3, 3]);
    // One of each is away when the two meet.
    world.kill(groups[0][2]);
    world.kill(groups[1][2]);
    world.heal();
    let first = [groups[0][0], groups[0][1], groups[1][0], groups[1][1]];
    for _ in 0..80 {
        world.run(SECOND / 4);
        restart_the_dissolved(&mut world);
    }
    let cluster = world.node(first[0]).cluster();
    assert!(first.iter().all(|n| world.node(*n).cluster() == cluster), "{world:?}");
    world.start(groups[0][2]);
    world.start(groups[1][2]);
    assert!(become_one(&mut world, 20), "{world:?}");
}

#[test]
fn a_straggler_is_told_although_nothing_else_is_new() {
    reaches!(StragglerFollows);
    for victim in [2, 5] {
        let (mut world, _) = apart(&[3, 3]);
        world.kill(victim);
        world.heal();
        let all: Vec<usize> = (0..6).filter(|n| *n != victim).collect();
        for _ in 0..80 {
            world.run(SECOND / 4);
            restart_the_dissolved(&mut world);
        }
        let cluster = world.node(all[0]).cluster();
        assert!(all.iter().all(|n| world.node(*n).cluster() == cluster), "{world:?}");
        world.start(victim);
        assert!(become_one(&mut world, 10), "{victim}: {world:?}");
    }
}

#[test]
fn a_coordinator_that_dies_in_the_middle_of_a_merge_stops_nothing() {
    for victim in 0..6 {
        for ms in [1, 3, 5, 7, 9, 12, 20, 60, 400, 1_100] {
            let (mut world, _) = apart(&[3, 3]);
            world.heal();
            world.run(std::time::Duration::from_millis(ms));
            if world.machines[victim].node.is_some() {
                world.kill(victim);
            }
            for _ in 0..40 {
                world.run(SECOND / 4);
                restart_the_dissolved(&mut world);
            }
            if world.machines[victim].node.is_none() {
                world.start(victim);
            }
            assert!(become_one(&mut world, 30), "victim {victim} at {ms} ms: {world:?}");
        }
    }
}

#[test]
fn an_offer_to_a_cluster_without_quorum_does_not_keep_this_one_from_dissolving() {
    let (mut world, groups) = apart(&[1, 1, 2]);
    let mut by_id: Vec<(Option<ClusterId>, usize)> =
        (0..3).map(|g| (world.node(groups[g][0]).cluster(), g)).collect();
    by_id.sort();
    // The pair is to be the one without a quorum: it holds a database or has the largest id.
    let lame = groups[2].clone();
    world.kill(lame[0]);
    world.run(SECOND * 2);
    let [a, b] = [groups[0][0], groups[1][0]];
    world.cut.remove(&(a, lame[1]));
    world.cut.remove(&(b, lame[1]));
    world.run(SECOND * 8);
    world.cut.remove(&(a, b));
    let mut one = false;
    for _ in 0..80 {
        world.run(SECOND / 4);
        restart_the_dissolved(&mut world);
        one |= world.agree(&[a, b]);
    }
    assert!(one, "{by_id:?} {world:?}");
}

#[test]
fn a_new_node_joins_the_cluster_that_can_let_it_in() {
    for lame in [0, 1] {
        let (mut world, groups) = apart(&[2, 2]);
        for group in &groups {
            world.command(group[0], create("demo"));
        }
        world.run(SECOND);
        // Of one cluster only the second server is left: it has no quorum.
        world.kill(groups[lame][0]);
        world.heal();
        world.run(SECOND * 2);
        let fresh = world.add("fresh", Defaults::default());
        world.start(fresh);
        let other = groups[1 - lame].clone();
        assert!(
            world.until(SECOND * 10, |w| w.agree(&[other[0], other[1], fresh])),
            "{lame}: {world:?}"
        );
    }
}

#[test]
fn after_a_recovery_the_old_members_follow_if_they_hold_nothing() {
    let mut world = cluster(3, &Defaults::default());
    (0..3).for_each(|n| world.kill(n));
    recover(&mut world, 2);
    world.start(2);
    assert!(world.until(SECOND * 3, |w| w.agree(&[2])));
    world.start(1);
    world.run(SECOND);
    world.start(0);
    assert!(become_one(&mut world, 30), "{world:?}");
}

#[test]
fn after_a_recovery_old_members_with_databases_keep_them_and_count_the_survivor_as_gone() {
    let mut world = cluster(3, &Defaults::default());
    world.command(0, create("demo"));
    world.run(SECOND);
    (0..3).for_each(|n| world.kill(n));
    recover(&mut world, 2);
    world.start(2);
    assert!(world.until(SECOND * 3, |w| w.agree(&[2])));
    let recovered = world.node(2).cluster();
    world.start(1);
    world.run(SECOND * 10);
    assert!(!world.machines[1].events.contains(&Event::State(crate::State::Left)));
    let reason = world.node(1).status(world.now).no_quorum.expect("two of three are missing");
    assert_eq!(reason.missing, vec!["n0".to_owned(), "n2".to_owned()]);
    world.start(0);
    world.run(SECOND * 10);
    assert_ne!(world.node(0).cluster(), recovered);
    assert_eq!(world.node(0).cluster(), world.node(1).cluster());
    let away = Some(crate::configuration::ServerStatus::Away);
    assert_eq!(super::lifecycle::status_of(&world, 0, 2), away, "it is in another cluster now");
    assert!(world.agree(&[2]));
}

fn recover(world: &mut World, number: usize) {
    let recovery =
        crate::recover_unsafe(&world.machines[number].disk, &Default::default(), ClusterId(42))
            .unwrap();
    for op in &recovery.ops {
        world.machines[number].disk.apply(op);
    }
}

#[test]
fn a_recovery_cut_short_decides_nothing_and_can_be_done_again() {
    for kept in 0..3 {
        let mut world = cluster(3, &Defaults::default());
        (0..3).for_each(|n| world.kill(n));
        let recovery =
            crate::recover_unsafe(&world.machines[2].disk, &Default::default(), ClusterId(42))
                .unwrap();
        for op in recovery.ops.iter().take(kept) {
            world.machines[2].disk.apply(op);
        }
        world.start(2);
        world.run(SECOND * 3);
        let raft = world.node(2).configuration_log().unwrap();
        let decides = raft.is_settled_leader();
        assert!(!decides || world.node(2).cluster() == Some(ClusterId(42)), "{kept}");
        world.kill(2);
        recover(&mut world, 2);
        world.start(2);
        assert!(world.until(SECOND * 3, |w| w.agree(&[2])), "{kept}: {world:?}");
    }
}

#[test]
fn a_server_that_never_learnt_of_its_admission_does_not_count_for_expect() {
    let mut world = World::new();
    for number in 0..5 {
        world.add(&format!("n{number}"), Defaults { expect: 3, ..Defaults::default() });
    }
    let (one, two) = ([0, 1], [2, 3]);
    for a in one {
        for b in two {
            world.cut(a, b);
        }
    }
    (0..4).for_each(|n| world.start(n));
    assert!(world.until(SECOND * 5, |w| w.agree(&one) && w.agree(&two)));
    // The fifth asks to be let in here, and loses the connection before it hears that it is.
    two.iter().for_each(|n| world.cut(*n, 4));
    world.start(4);
    let there = |w: &World, at: usize| {
        let id = w.id(4);
        w.node(at).configuration().is_some_and(|d| d.servers.contains_key(&id))
    };
    assert!(world.until(SECOND * 5, |w| there(w, 0)));
    world.cut.clear();
    for a in one {
        for b in [2, 3, 4] {
            world.cut(a, b);
        }
    }
    assert_eq!(world.node(4).cluster(), None);
    assert!(world.until(SECOND * 10, |w| w.agree(&[2, 3, 4])), "it joins the other cluster");
    let ids = [world.command(0, create("demo")), world.command(2, create("demo"))];
    world.run(SECOND);
    let refused = &world.machines[0].replies[&ids[0]];
    let not_met = Rejection::ExpectNotMet { expected: 3, present: 2 };
    assert_eq!(*refused, Reply::Failed(CommandError::Refused(not_met)));
    assert!(matches!(world.machines[2].replies[&ids[1]], Reply::Done { .. }));
}

#[test]
fn an_offer_is_taken_back_once_however_slow_the_disk() {
    reaches!(OfferWithdrawn);
    let (mut world, _) = apart(&[1, 1]);
    let cluster = |w: &World, n: usize| w.node(n).cluster().unwrap();
    let (a, b) = if cluster(&world, 0) < cluster(&world, 1) { (0, 1) } else { (1, 0) };
    let other = cluster(&world, b);
    world.heal();
    let offered = move |w: &World| {
        let document = w.node(a).configuration();
        document.is_some_and(|d| d.absorbed.contains_key(&other))
    };
    assert!(world.until(SECOND * 5, offered));
    // Before the other can dissolve it is cut off, and holds a database when it is seen again.
    world.cut(a, b);
    world.machines[a].sync = SECOND * 60;
    world.run(SECOND);
    world.command(b, create("kept"));
    let before = world.node(a).status(world.now).last_index;
    world.run(SECOND * 3);
    world.heal();
    world.run(SECOND * 30);
    let appended = world.node(a).status(world.now).last_index - before;
    assert!(appended <= 1, "{appended} entries");
    world.run(SECOND * 60);
    world.machines[a].sync = super::world::STEP;
    assert!(become_one(&mut world, 120), "{world:?}");
}

#[test]
fn a_seeker_that_one_cluster_refuses_asks_the_next() {
    let (mut world, groups) = apart(&[2, 2]);
    for group in &groups {
        world.command(group[0], create("demo"));
    }
    world.run(SECOND);
    let cluster = |w: &World, n: usize| w.node(n).cluster().unwrap();
    let first = usize::from(cluster(&world, 0) > cluster(&world, 2));
    let other = groups[1 - first].clone();
    world.heal();
    world.run(SECOND * 2);
    // In the cluster that is asked first its name is taken.
    let fresh = world.add(&format!("n{}", groups[first][0]), Defaults::default());
    world.start(fresh);
    assert!(world.until(SECOND * 10, |w| w.agree(&[other[0], other[1], fresh])), "{world:?}");
}

#[test]
fn of_two_that_offer_to_take_each_other_in_one_gives_way() {
    reaches!(OffersCrossed);
    let (mut world, _) = apart(&[1, 1]);
    let cluster = |w: &World, n: usize| w.node(n).cluster().unwrap();
    let last = |w: &World, n: usize| w.node(n).status(w.now).last_index;
    let (small, large) = if cluster(&world, 0) < cluster(&world, 1) { (0, 1) } else { (1, 0) };
    // The offer of the one with the smaller id is long on its way to the disk, and meanwhile it does not
    // hear that the other has got a database, and offers too.
    world.machines[small].sync = SECOND / 10;
    let before = last(&world, small);
    world.heal();
    assert!(world.until(SECOND * 5, |w| last(w, small) > before), "{world:?}");
    world.deaf.insert((large, small));
    world.command(large, create("kept"));
    world.run(SECOND / 2);
    world.deaf.clear();
    let kept = cluster(&world, large);
    assert!(become_one(&mut world, 60), "{world:?}");
    assert_eq!(cluster(&world, large), kept, "the one with the database goes on");
}
