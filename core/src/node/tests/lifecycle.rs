use std::time::Duration;

use super::world::World;
use crate::configuration::{Defaults, Registration, Rejection, Role, ServerStatus};
use crate::marks::reaches;
use crate::{Command, CommandError, Event, Reply, State, StopReason};

pub(super) const SECOND: Duration = Duration::from_secs(1);

pub(super) fn dynamic() -> Defaults {
    Defaults { new_node_strategy: Registration::Dynamic, ..Defaults::default() }
}

/// `count` machines started at once and joined.
pub(super) fn cluster(count: usize, defaults: &Defaults) -> World {
    let mut world = World::new();
    for number in 0..count {
        world.add(&format!("n{number}"), defaults.clone());
        world.start(number);
    }
    let all: Vec<usize> = (0..count).collect();
    assert!(
        world.until(SECOND * 5, |w| w.agree(&all)),
        "no cluster of {count} within 5 s: {world:?}"
    );
    world
}

pub(super) fn coordinator(world: &World, of: usize) -> usize {
    let leader = world.node(of).configuration_log().unwrap().leader().unwrap();
    (0..world.machines.len()).find(|n| world.id(*n) == leader).unwrap()
}

pub(super) fn status_of(world: &World, at: usize, of: usize) -> Option<ServerStatus> {
    let id = world.id(of);
    world.node(at).configuration().unwrap().servers.get(&id).map(|s| s.status)
}

#[test]
fn three_nodes_started_together_become_one_cluster() {
    let world = cluster(3, &Defaults::default());
    assert!(world.now.as_millis() < 1_000, "took {} ms", world.now.as_millis());
}

#[test]
fn a_late_fourth_joins_quickly() {
    let mut world = cluster(3, &Defaults::default());
    world.run(SECOND * 3);
    world.add("late", Defaults::default());
    let began = world.now;
    world.start(3);
    assert!(world.until(SECOND * 2, |w| w.agree(&[0, 1, 2, 3])));
    assert!(world.now.since(began) < Duration::from_millis(300), "{:?}", world.now.since(began));
}

#[test]
fn a_killed_static_server_is_away_and_still_counted() {
    let mut world = cluster(3, &Defaults::default());
    world.kill(2);
    assert!(world.until(SECOND * 10, |w| status_of(w, 0, 2) == Some(ServerStatus::Away)));
    world.run(SECOND * 2);
    let raft = world.node(0).configuration_log().unwrap();
    assert_eq!(raft.membership().incoming.voters.len(), 3);
    world.start(2);
    assert!(world.until(SECOND * 5, |w| w.agree(&[0, 1, 2])
        && status_of(w, 0, 2) == Some(ServerStatus::Online)));
}

#[test]
fn a_killed_coordinator_is_replaced_quickly() {
    let mut world = cluster(3, &Defaults::default());
    let old = coordinator(&world, 0);
    world.kill(old);
    let other = (old + 1) % 3;
    let began = world.now;
    let id = world.id(old);
    assert!(world.until(SECOND, |w| {
        let raft = w.node(other).configuration_log().unwrap();
        raft.leader().is_some_and(|leader| leader != id)
    }));
    assert!(world.now.since(began) < Duration::from_millis(200));
}

#[test]
fn a_dynamic_cluster_shrinks_one_at_a_time_to_the_tie_breaker() {
    let mut world = cluster(3, &dynamic());
    world.kill(2);
    assert!(world.until(SECOND * 10, |w| w.agree(&[0, 1]) && status_of(w, 0, 2).is_none()));
    world.kill(1);
    assert!(world.until(SECOND * 10, |w| w.agree(&[0]) && status_of(w, 0, 1).is_none()));
}

#[test]
fn without_the_tie_breaker_the_last_of_two_says_no_quorum_and_whom_it_needs() {
    let mut world = cluster(2, &dynamic());
    world.kill(0);
    world.run(SECOND * 10);
    let status = world.node(1).status(world.now);
    let reason = status.no_quorum.expect("no quorum is named");
    assert_eq!(reason.missing, vec!["n0".to_owned()]);
    assert_eq!(reason.tie_breaker, Some("n0".to_owned()));
    assert_eq!(status_of(&world, 1, 0), Some(ServerStatus::Online), "nothing was decided");
    world.start(0);
    assert!(world.until(SECOND * 5, |w| w.agree(&[0, 1])));
}

#[test]
fn of_two_dynamic_servers_cut_apart_only_the_tie_breaker_decides() {
    let mut world = cluster(2, &dynamic());
    world.cut(0, 1);
    world.run(SECOND * 10);
    assert!(status_of(&world, 0, 1).is_none(), "the tie-breaker removed the other");
    assert!(status_of(&world, 1, 0).is_some(), "the other removed nobody");
    world.heal();
    assert!(world.until(SECOND * 10, |w| w.agree(&[0, 1])));
}

#[test]
fn a_minority_never_removes_a_server() {
    let mut world = cluster(3, &dynamic());
    world.cut(0, 1);
    world.cut(0, 2);
    let before = world.node(0).configuration().unwrap().version;
    let id = world.command(0, Command::RemoveServer { server: "n1".to_owned() });
    world.run(SECOND * 12);
    assert_eq!(world.node(0).configuration().unwrap().version, before);
    let refused = &world.machines[0].replies[&id];
    assert!(
        matches!(refused, Reply::Failed(CommandError::NoQuorum(_) | CommandError::OutcomeUnknown)),
        "{refused:?}"
    );
    world.heal();
    assert!(
        world.until(SECOND * 10, |w| w.agree(&[0, 1, 2])),
        "{:?}",
        (0..3).map(|n| world.node(n).status(world.now)).collect::<Vec<_>>()
    );
}

#[test]
fn a_graceful_stop_of_a_dynamic_server_removes_it_at_once() {
    let mut world = cluster(3, &dynamic());
    let leader = coordinator(&world, 0);
    world.command(leader, Command::Stop);
    let (a, b) = ((leader + 1) % 3, (leader + 2) % 3);
    assert!(world.until(SECOND * 3, |w| w.machines[leader].stopped.is_some()));
    assert_eq!(world.machines[leader].stopped, Some(StopReason::Left));
    assert!(world.until(SECOND, |w| w.agree(&[a, b])));
}

#[test]
fn a_graceful_stop_of_a_static_tie_breaker_leaves_the_other_able_to_decide() {
    let mut world = cluster(2, &Defaults::default());
    world.command(0, Command::Stop);
    assert!(world.until(SECOND * 3, |w| w.machines[0].stopped.is_some()));
    assert_eq!(world.machines[0].stopped, Some(StopReason::Left));
    let id = world.command(
        1,
        Command::SetRegistration { server: "n0".to_owned(), registration: Registration::Dynamic },
    );
    assert!(
        world.until(SECOND * 3, |w| matches!(
            w.machines[1].replies.get(&id),
            Some(Reply::Done { .. })
        ))
    );
}

#[test]
fn two_servers_that_leave_at_once_do_not_hand_the_office_to_and_fro() {
    let mut world = cluster(3, &Defaults::default());
    world.kill(2);
    world.run(SECOND * 7);
    let term = world.node(0).configuration_log().unwrap().term();
    world.command(0, Command::Stop);
    world.command(1, Command::Stop);
    let log_term =
        |w: &World, n: usize| w.machines[n].disk.logs[&crate::LogId::CONFIGURATION].hard_state.term;
    assert!(world.until(SECOND * 12, |w| (0..2).all(|n| w.machines[n].stopped.is_some())));
    let last = log_term(&world, 0).max(log_term(&world, 1));
    assert!(last.0 <= term.0 + 2, "from term {term} to {last}");
    assert!((0..2).any(|n| world.machines[n].stopped == Some(StopReason::Left)));
}

#[test]
fn a_server_removed_while_it_was_down_asks_to_be_let_in_when_it_is_started() {
    let mut world = cluster(3, &Defaults::default());
    world.kill(2);
    world.run(SECOND * 7);
    world.command(1, Command::RemoveServer { server: "n2".to_owned() });
    assert!(world.until(SECOND * 3, |w| w.agree(&[0, 1])));
    world.start(2);
    assert!(world.until(SECOND * 5, |w| w.agree(&[0, 1, 2])), "{:?}", world.machines[2].events);
}

#[test]
fn a_full_stop_and_a_start_in_reverse_order_ends_with_one_cluster() {
    let mut world = cluster(3, &Defaults::default());
    let cluster_id = world.node(0).cluster();
    for number in 0..3 {
        world.command(number, Command::Stop);
        assert!(world.until(SECOND * 12, |w| w.machines[number].stopped.is_some()));
    }
    for number in [2, 1, 0] {
        world.start(number);
        world.run(SECOND);
    }
    assert!(world.until(SECOND * 10, |w| w.agree(&[0, 1, 2])));
    assert_eq!(world.node(0).cluster(), cluster_id);
}

#[test]
fn a_cluster_of_one_is_back_without_being_welcomed_by_anybody() {
    let mut world = cluster(1, &Defaults::default());
    world.kill(0);
    world.start(0);
    assert!(world.until(SECOND, |w| w.agree(&[0])));
}

#[test]
fn a_duplicate_name_is_refused_before_anything_changes() {
    let mut world = cluster(2, &Defaults::default());
    let version = world.node(0).configuration().unwrap().version;
    world.add("n1", Defaults::default());
    world.start(2);
    world.run(SECOND * 3);
    let refused = world.node(2).status(world.now).join_refused;
    let holder = world.machines[1].config.addresses.node;
    assert_eq!(refused, Some(Rejection::DuplicateName { name: "n1".to_owned(), holder }));
    assert_eq!(world.node(0).configuration().unwrap().version, version);
    assert_eq!(world.node(2).state(), State::Joining);
}

#[test]
fn a_wiped_disk_returns_under_its_old_name_with_a_new_id() {
    let mut world = cluster(3, &Defaults::default());
    world.kill(2);
    world.add("n2", Defaults::default());
    world.start(3);
    assert!(world.until(SECOND * 12, |w| w.agree(&[0, 1, 3])));
    assert_eq!(world.node(0).configuration().unwrap().servers.len(), 3);
}

#[test]
fn a_restored_old_directory_is_stale() {
    reaches!(StaleDirectory);
    let mut world = cluster(3, &Defaults::default());
    let old = world.machines[2].disk.clone();
    world.kill(2);
    world.start(2);
    world.run(SECOND * 2);
    world.kill(2);
    world.machines[2].disk = old;
    world.start(2);
    assert!(world.until(SECOND * 3, |w| w.machines[2].stopped.is_some()));
    assert!(matches!(world.machines[2].stopped, Some(StopReason::StaleDisk(_))));
}

#[test]
fn a_wrong_password_is_refused_and_disturbs_nobody() {
    let mut world = cluster(2, &Defaults::default());
    let version = world.node(0).configuration().unwrap().version;
    world.add("stranger", Defaults::default());
    world.machines[2].password = "wrong";
    world.start(2);
    world.run(SECOND * 5);
    assert!(world.node(2).cluster().is_none(), "it does not found a cluster of its own");
    assert!(!world.node(2).status(world.now).refused.is_empty());
    assert_eq!(world.node(0).configuration().unwrap().version, version);
    assert!(world.machines[2].events.iter().any(|e| matches!(e, Event::Refused { .. })));
    world.kill(2);
    world.machines[2].password = "secret";
    world.start(2);
    assert!(world.until(SECOND * 3, |w| w.agree(&[0, 1, 2])));
}

#[test]
fn two_empty_clusters_of_one_name_become_one() {
    let mut world = World::new();
    for number in 0..4 {
        world.add(&format!("n{number}"), Defaults::default());
    }
    for (a, b) in [(0, 2), (0, 3), (1, 2), (1, 3)] {
        world.cut(a, b);
    }
    for number in 0..4 {
        world.start(number);
    }
    assert!(world.until(SECOND * 5, |w| w.agree(&[0, 1]) && w.agree(&[2, 3])));
    world.heal();
    assert!(world.until(SECOND * 15, |w| {
        w.machines.iter().filter(|m| m.stopped.is_some()).count() == 2
    }));
    // What the server does: the directory moves aside, a new id joins the other cluster.
    let gone: Vec<usize> = (0..4).filter(|n| world.machines[*n].stopped.is_some()).collect();
    for number in &gone {
        let Some(StopReason::Dissolved { from, .. }) = world.machines[*number].stopped.clone()
        else {
            panic!("{:?}", world.machines[*number].stopped)
        };
        let id = crate::NodeId(world.id(*number).0 + 77);
        world.machines[*number].disk = crate::Recovered::after_dissolve(id, from);
        world.start(*number);
    }
    assert!(world.until(SECOND * 10, |w| w.agree(&[0, 1, 2, 3])));
}

#[test]
fn expect_refuses_the_first_database_until_so_many_servers_are_in() {
    let mut world = cluster(2, &Defaults { expect: 3, ..Defaults::default() });
    let create = |w: &mut World| {
        let name = "demo".to_owned();
        let command =
            crate::configuration::ConfigCommand::create_database(name, crate::DatabaseId(1));
        w.command(0, Command::Change(command))
    };
    let id = create(&mut world);
    world.run(SECOND);
    let refused =
        Reply::Failed(CommandError::Refused(Rejection::ExpectNotMet { expected: 3, present: 2 }));
    assert_eq!(world.machines[0].replies.get(&id), Some(&refused));
    assert_eq!(world.node(0).status(world.now).expect, Some((1, 3)));
    world.add("n2", Defaults::default());
    world.start(2);
    assert!(world.until(SECOND * 3, |w| w.agree(&[0, 1, 2])));
    let id = create(&mut world);
    world.run(SECOND);
    assert!(matches!(world.machines[0].replies.get(&id), Some(Reply::Done { .. })));
}

#[test]
fn an_operator_changes_role_and_removes_a_server() {
    let mut world = cluster(3, &Defaults::default());
    let id = world.command(1, Command::SetRole { server: "n2".to_owned(), role: Role::Replica });
    assert!(world.until(SECOND * 3, |w| w.agree(&[0, 1, 2])
        && w.machines[1].replies.contains_key(&id)
        && w.node(0).configuration_log().unwrap().membership().incoming.voters.len() == 2));
    world.command(1, Command::RemoveServer { server: "n2".to_owned() });
    assert!(world.until(SECOND * 5, |w| w.machines[2].stopped.is_some()));
    assert_eq!(world.machines[2].stopped, Some(StopReason::Removed));
    assert!(world.until(SECOND, |w| w.agree(&[0, 1])));
    world.start(2);
    assert!(world.until(SECOND * 3, |w| w.agree(&[0, 1, 2])), "started again, it is let in");
}

#[test]
fn a_paused_node_removes_nobody() {
    let mut world = cluster(2, &dynamic());
    let leader = coordinator(&world, 0);
    assert_eq!(leader, 0);
    // The process stands still for 20 s; its peer's packets wait.
    let node = world.machines[0].node.take().unwrap();
    world.run(SECOND * 20);
    world.machines[0].node = Some(node);
    world.input(0, crate::Input::Timer);
    world.run(SECOND * 2);
    assert!(status_of(&world, 0, 1).is_some());
    assert!(world.until(SECOND * 5, |w| w.agree(&[0, 1])));
}

#[test]
fn either_of_two_can_be_removed_and_stops_only_when_its_vote_is_not_needed_any_more() {
    for gone in 0..2 {
        let mut world = cluster(2, &Defaults::default());
        let stays = 1 - gone;
        world.command(stays, Command::RemoveServer { server: format!("n{gone}") });
        let ended = world.until(SECOND * 5, |w| w.machines[gone].stopped.is_some());
        assert!(ended && world.machines[gone].stopped == Some(StopReason::Removed), "{world:?}");
        assert!(world.until(SECOND * 3, |w| w.agree(&[stays])), "{world:?}");
        assert_eq!(world.node(stays).configuration_log().unwrap().leader(), Some(world.id(stays)));
    }
}

#[test]
fn a_server_that_joined_later_finds_out_a_restored_directory_too() {
    let mut world = cluster(3, &Defaults::default());
    let old = world.machines[2].disk.clone();
    world.kill(2);
    world.start(2);
    assert!(world.until(SECOND * 5, |w| w.agree(&[0, 1, 2])));
    world.run(SECOND);
    world.add("n3", Defaults::default());
    world.start(3);
    assert!(world.until(SECOND * 3, |w| w.agree(&[0, 1, 2, 3])));
    world.kill(2);
    world.machines[2].disk = old;
    // Those that have met the later start are out of its reach.
    world.cut(0, 2);
    world.cut(1, 2);
    world.start(2);
    assert!(world.until(SECOND * 3, |w| w.machines[2].stopped.is_some()));
    assert!(matches!(world.machines[2].stopped, Some(StopReason::StaleDisk(_))));
}

#[test]
fn a_server_that_joined_after_a_removal_finds_out_an_old_copy_of_what_was_removed() {
    let mut world = cluster(3, &Defaults::default());
    let old = world.machines[2].disk.clone();
    world.kill(2);
    world.start(2);
    assert!(world.until(SECOND * 5, |w| w.agree(&[0, 1, 2])));
    world.run(SECOND);
    let server = world.machines[2].config.name.clone().expect("it has a name");
    world.command(0, Command::RemoveServer { server });
    assert!(world.until(SECOND * 5, |w| w.machines[2].stopped.is_some() && w.agree(&[0, 1])));
    world.add("n3", Defaults::default());
    world.start(3);
    assert!(world.until(SECOND * 3, |w| w.agree(&[0, 1, 3])));
    // Those that have met the later start are out of its reach, and the newcomer would let it in.
    world.machines[2].disk = old;
    world.cut(0, 2);
    world.cut(1, 2);
    world.start(2);
    assert!(world.until(SECOND * 3, |w| w.machines[2].stopped.is_some()), "{world:?}");
    assert!(matches!(world.machines[2].stopped, Some(StopReason::StaleDisk(_))));
}
