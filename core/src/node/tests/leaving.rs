//! Leaving: in good order, all at once, without a quorum; and being taken out.

use super::lifecycle::{SECOND, cluster, coordinator, dynamic, status_of};
use super::world::World;
use crate::configuration::{Defaults, Registration, Rejection, Role};
use crate::{Command, CommandError, Reply, StopReason};

fn remove(name: &str) -> Command {
    Command::RemoveServer { server: name.to_owned() }
}

#[test]
fn servers_told_to_stop_all_at_once_stop_soon() {
    for defaults in [Defaults::default(), dynamic()] {
        for count in [2, 3, 5] {
            let mut world = cluster(count, &defaults);
            let began = world.now;
            (0..count).for_each(|n| {
                world.command(n, Command::Stop);
            });
            let stopped = |w: &World| w.machines.iter().all(|m| m.stopped.is_some());
            assert!(
                world.until(SECOND * 6, stopped),
                "{count} after {:?}: {world:?}",
                world.now.since(began)
            );
            (0..count).for_each(|n| world.start(n));
            let all: Vec<usize> = (0..count).collect();
            assert!(world.until(SECOND * 10, |w| w.agree(&all)), "{count}: {world:?}");
        }
    }
}

#[test]
fn dynamic_servers_that_stop_at_once_leave_the_cluster_to_the_last() {
    for count in [2, 3] {
        let mut world = cluster(count, &dynamic());
        (0..count).for_each(|n| {
            world.command(n, Command::Stop);
        });
        world.run(SECOND * 6);
        let left = |w: &World, n: usize| w.machines[n].stopped == Some(StopReason::Left);
        assert!(
            (0..count).all(|n| left(&world, n)),
            "{:?}",
            world
                .machines
                .iter()
                .map(|m| (&m.stopped, &m.events[m.events.len() - 4..]))
                .collect::<Vec<_>>()
        );
        // Some one of them is the cluster now, and comes up alone.
        let alone = |n: &usize| {
            let mut world = World::clone_disks(&world);
            world.start(*n);
            world.until(SECOND * 3, |w| w.agree(&[*n]))
        };
        assert_eq!((0..count).filter(alone).count(), 1);
    }
}

#[test]
fn the_last_dynamic_server_in_reach_does_not_leave_the_cluster_to_a_dead_one() {
    let mut world = cluster(2, &dynamic());
    world.kill(1);
    world.command(0, Command::Stop);
    assert!(world.until(SECOND * 11, |w| w.machines[0].stopped.is_some()));
    world.start(0);
    assert!(world.until(SECOND * 12, |w| w.agree(&[0])), "{world:?}");
    world.start(1);
    assert!(world.until(SECOND * 10, |w| w.agree(&[0, 1])), "{world:?}");
}

#[test]
fn a_leaving_coordinator_hands_over_first() {
    let mut world = cluster(3, &Defaults::default());
    let leader = coordinator(&world, 0);
    world.command(leader, Command::Stop);
    assert!(world.until(SECOND * 3, |w| w.machines[leader].stopped.is_some()));
    let other = (leader + 1) % 3;
    let now = world.node(other).configuration_log().unwrap().leader();
    assert!(now.is_some_and(|node| node != world.id(leader)), "somebody leads already");
}

#[test]
fn leaving_without_a_quorum_ends_in_bounded_time_and_says_so() {
    let mut world = cluster(3, &Defaults::default());
    world.kill(0);
    world.kill(1);
    world.command(2, Command::Stop);
    assert!(world.until(SECOND * 5, |w| w.machines[2].stopped.is_some()));
    assert_eq!(world.machines[2].stopped, Some(StopReason::LeftUnheard));
}

#[test]
fn a_removal_that_leaves_only_dead_servers_is_refused() {
    let mut world = cluster(2, &Defaults::default());
    world.kill(1);
    world.run(SECOND * 7);
    let id = world.command(0, remove("n0"));
    world.run(SECOND * 2);
    let reply = world.machines[0].replies.get(&id);
    assert!(matches!(reply, Some(Reply::Failed(CommandError::Refused(_)))), "{reply:?}");
    let id = world.command(0, Command::SetRole { server: "n0".to_owned(), role: Role::Replica });
    world.run(SECOND * 2);
    let reply = world.machines[0].replies.get(&id);
    assert!(matches!(reply, Some(Reply::Failed(CommandError::Refused(_)))), "{reply:?}");
    // The dead one can go.
    world.command(0, remove("n1"));
    assert!(world.until(SECOND * 3, |w| w.agree(&[0])));
}

#[test]
fn an_operator_removes_the_coordinator() {
    let mut world = cluster(3, &Defaults::default());
    let leader = coordinator(&world, 0);
    let (a, b) = ((leader + 1) % 3, (leader + 2) % 3);
    let id = world.command(a, remove(&format!("n{leader}")));
    assert!(world.until(SECOND * 3, |w| w.machines[leader].stopped == Some(StopReason::Removed)));
    assert!(world.until(SECOND * 3, |w| w.agree(&[a, b])));
    assert!(matches!(world.machines[a].replies.get(&id), Some(Reply::Done { .. })));
}

#[test]
fn the_last_server_cannot_be_removed() {
    let mut world = cluster(1, &Defaults::default());
    let id = world.command(0, remove("n0"));
    world.run(SECOND);
    let refused = Rejection::LastMaster { name: "n0".to_owned() };
    let refused = Reply::Failed(CommandError::Refused(refused));
    assert_eq!(world.machines[0].replies.get(&id), Some(&refused));
}

#[test]
fn a_removed_server_whose_disk_is_slow_stops_all_the_same() {
    for ms in [1, 50, 200, 400] {
        let mut world = cluster(3, &Defaults::default());
        world.machines[2].sync = std::time::Duration::from_millis(ms);
        world.command(0, remove("n2"));
        assert!(
            world.until(SECOND * 5, |w| w.machines[2].stopped == Some(StopReason::Removed)),
            "{ms} ms: {world:?}"
        );
        assert!(world.until(SECOND, |w| w.agree(&[0, 1])));
    }
}

#[test]
fn a_static_five_that_loses_three_refuses_and_says_who_is_missing() {
    let mut world = cluster(5, &Defaults::default());
    for number in [0, 2, 4] {
        world.kill(number);
    }
    world.run(SECOND * 10);
    let id = world.command(1, remove("n0"));
    world.run(SECOND * 6);
    let Some(Reply::Failed(CommandError::NoQuorum(reason))) = world.machines[1].replies.get(&id)
    else {
        panic!("{:?}", world.machines[1].replies)
    };
    assert_eq!(reason.missing, ["n0", "n2", "n4"].map(str::to_owned).to_vec());
    assert_eq!(reason.voters, 5);
    assert!(status_of(&world, 1, 0).is_some());
    world.start(4);
    assert!(world.until(SECOND * 5, |w| w.node(1).status(w.now).no_quorum.is_none()));
}

#[test]
fn a_replica_never_leads_and_never_counts() {
    let roles = [("*".to_owned(), Role::Master), ("n2".to_owned(), Role::Replica)];
    let defaults = Defaults { roles: roles.into(), ..Defaults::default() };
    let mut world = cluster(3, &defaults);
    world.kill(0);
    world.run(SECOND * 8);
    for number in [1, 2] {
        let status = world.node(number).status(world.now);
        assert_eq!(status.coordinator, None, "one master of two, with a replica, decides nothing");
        let reason = status.no_quorum.unwrap_or_else(|| panic!("n{number} does not say so"));
        assert_eq!(reason.missing, vec!["n0".to_owned()]);
    }
}

#[test]
fn an_offline_dynamic_server_is_removed_as_configured() {
    use crate::configuration::AutoRemove;
    for (auto_remove, at_8_s, at_14_s) in [
        (AutoRemove::AtOnce, false, false),
        (AutoRemove::AfterMs(6_000), true, false),
        (AutoRemove::Never, true, true),
    ] {
        let mut world = cluster(3, &Defaults { auto_remove, ..dynamic() });
        world.kill(2);
        world.run(SECOND * 8);
        assert_eq!(status_of(&world, 0, 2).is_some(), at_8_s, "{auto_remove:?}");
        world.run(SECOND * 6);
        assert_eq!(status_of(&world, 0, 2).is_some(), at_14_s, "{auto_remove:?}");
        world.start(2);
        assert!(world.until(SECOND * 5, |w| w.agree(&[0, 1, 2])), "{auto_remove:?}");
    }
    let defaults = Defaults { auto_remove: AutoRemove::AfterMs(6_000), ..dynamic() };
    let mut world = cluster(3, &defaults);
    world.kill(2);
    world.run(SECOND * 8);
    world.start(2);
    world.run(SECOND * 10);
    assert!(world.agree(&[0, 1, 2]), "back in time, it stays");
    let registration = world.node(0).configuration().unwrap().servers[&world.id(2)].registration;
    assert_eq!(registration, Registration::Dynamic);
}

#[test]
fn a_change_is_answered_with_the_version_that_has_it_though_its_sender_leaves_with_it() {
    let create = |name: &str| {
        Command::Change(crate::configuration::ConfigCommand::create_database(
            name,
            crate::DatabaseId(1),
        ))
    };
    let mut world = cluster(4, &dynamic());
    let leader = coordinator(&world, 0);
    let (leaver, third) = ((leader + 1) % 4, (leader + 2) % 4);
    // Taken out, at work and leaving, all at one time; and what it makes is gone again soon.
    world.command(leader, remove(&format!("n{leaver}")));
    let made = world.command(leaver, create("brief"));
    world.command(leaver, Command::Stop);
    let there = |w: &World| w.node(leader).configuration().unwrap().databases.contains_key("brief");
    assert!(world.until(SECOND, there));
    let drop = crate::configuration::ConfigCommand::DropDatabase { name: "brief".to_owned() };
    let dropped = world.command(leader, Command::Change(drop));
    world.run(SECOND * 3);
    assert!(matches!(world.machines[leader].replies[&dropped], Reply::Done { .. }));
    let Reply::Done { version } = world.machines[leaver].replies[&made] else {
        panic!("{:?}", world.machines[leaver].replies)
    };
    let mut documents = world.machines[third].events.iter().filter_map(|event| match event {
        crate::Event::Configuration(document) => Some(document),
        _ => None,
    });
    let answered = documents.find(|document| document.version == version);
    assert!(answered.is_some_and(|d| d.databases.contains_key("brief")), "{version} {answered:?}");
}
