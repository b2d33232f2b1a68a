//! Coming back: with the same data, alone, elsewhere, under another name, too late.

use super::lifecycle::{SECOND, cluster, coordinator, dynamic, status_of};
use super::world::World;
use crate::configuration::{Defaults, ServerStatus};
use crate::{Command, Reply, State, StopReason};

fn set_static(name: &str) -> Command {
    let registration = crate::configuration::Registration::Static;
    Command::SetRegistration { server: name.to_owned(), registration }
}

fn done(world: &World, at: usize, id: crate::CommandId) -> bool {
    matches!(world.machines[at].replies.get(&id), Some(Reply::Done { .. }))
}

#[test]
fn the_only_server_of_a_cluster_is_a_member_again_after_a_restart() {
    let mut world = cluster(1, &Defaults::default());
    world.kill(0);
    world.start(0);
    world.run(SECOND * 2);
    assert_eq!(world.node(0).state(), State::Member);
    let id = world.command(0, set_static("n0"));
    assert!(world.until(SECOND, |w| done(w, 0, id)), "{:?}", world.machines[0].replies);
}

#[test]
fn a_tie_breaker_that_returns_alone_decides() {
    let mut world = cluster(2, &dynamic());
    world.kill(1);
    world.kill(0);
    world.start(0);
    assert!(world.until(SECOND * 12, |w| w.agree(&[0]) && status_of(w, 0, 1).is_none()));
}

#[test]
fn a_dynamic_pair_that_died_restarts_in_either_order() {
    for order in [[0, 1], [1, 0]] {
        let mut world = cluster(2, &dynamic());
        world.kill(0);
        world.kill(1);
        world.start(order[0]);
        world.run(SECOND * 3);
        world.start(order[1]);
        assert!(world.until(SECOND * 10, |w| w.agree(&[0, 1])), "{order:?} {world:?}");
    }
}

#[test]
fn a_dynamic_server_that_left_in_good_order_is_let_in_again_with_its_data() {
    for count in [2, 3] {
        let mut world = cluster(count, &dynamic());
        let last = count - 1;
        let all: Vec<usize> = (0..count).collect();
        world.command(last, Command::Stop);
        assert!(world.until(SECOND * 3, |w| w.machines[last].stopped == Some(StopReason::Left)));
        assert!(world.until(SECOND * 3, |w| w.agree(&all[..last])));
        world.start(last);
        assert!(world.until(SECOND * 3, |w| w.agree(&all)), "{world:?}");
    }
}

#[test]
fn a_returning_server_is_not_let_in_twice() {
    let mut world = cluster(3, &Defaults::default());
    world.kill(2);
    assert!(world.until(SECOND * 10, |w| status_of(w, 0, 2) == Some(ServerStatus::Away)));
    world.start(2);
    assert!(world.until(SECOND * 5, |w| w.agree(&[0, 1, 2])));
    world.run(SECOND * 5);
    let document = world.node(0).configuration().unwrap();
    assert_eq!(document.servers.len(), 3);
    // Founded, two joined, one away, one back: nothing else has happened.
    assert_eq!(document.version.0, 5);
}

#[test]
fn a_server_that_returns_elsewhere_is_recorded_there() {
    let mut world = cluster(3, &Defaults::default());
    world.kill(2);
    world.machines[2].config.addresses.node.set_port(9_999);
    world.start(2);
    let at = |w: &World| w.node(0).configuration().unwrap().servers[&w.id(2)].addresses.node.port();
    assert!(world.until(SECOND * 5, |w| w.agree(&[0, 1, 2]) && at(w) == 9_999));
}

#[test]
fn a_server_that_returns_under_a_new_name_is_renamed_and_keeps_that_name() {
    let mut world = cluster(3, &Defaults::default());
    let name = |w: &World| w.node(0).configuration().unwrap().servers[&w.id(2)].name.clone();
    world.kill(2);
    world.machines[2].config.name = Some("other".to_owned());
    world.start(2);
    assert!(world.until(SECOND * 5, |w| w.agree(&[0, 1, 2]) && name(w) == "other"));
    // Started without a name it goes by the one that it had.
    world.kill(2);
    world.machines[2].config.name = None;
    world.start(2);
    world.run(SECOND * 5);
    assert!(world.agree(&[0, 1, 2]));
    assert_eq!(name(&world), "other");
}

#[test]
fn a_new_name_that_is_taken_changes_nothing() {
    let mut world = cluster(3, &Defaults::default());
    world.kill(2);
    world.machines[2].config.name = Some("n0".to_owned());
    world.start(2);
    world.run(SECOND * 3);
    assert!(world.agree(&[0, 1, 2]));
    assert_eq!(world.node(0).configuration().unwrap().servers[&world.id(2)].name, "n2");
}

#[test]
fn a_full_stop_of_a_dynamic_cluster_at_once_and_a_start_ends_with_one_cluster() {
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let mut world = cluster(3, &dynamic());
        (0..3).for_each(|n| world.kill(n));
        for number in order {
            world.start(number);
            world.run(SECOND);
        }
        assert!(world.until(SECOND * 10, |w| w.agree(&[0, 1, 2])), "{order:?}: {world:?}");
    }
}

#[test]
fn a_lagging_peer_does_not_send_away_a_server_that_was_let_in_again() {
    let mut world = cluster(4, &Defaults::default());
    let leader = coordinator(&world, 0);
    assert_eq!(leader, 0);
    // n1 sees the removal of n3 and not that n3 is let in again.
    let id = world.command(0, Command::RemoveServer { server: "n3".to_owned() });
    assert!(world.until(SECOND * 3, |w| done(w, 0, id) && w.agree(&[0, 1, 2])));
    assert!(world.until(SECOND * 3, |w| w.machines[3].stopped == Some(StopReason::Removed)));
    world.cut(0, 1);
    world.cut(1, 2);
    world.cut(1, 3);
    world.start(3);
    assert!(world.until(SECOND * 5, |w| w.agree(&[0, 2, 3])));
    world.kill(3);
    world.cut.remove(&(1, 3));
    world.start(3);
    // Its commit index was not written for its own sake, so it does not know its own document yet.
    world.run(SECOND * 3);
    assert_eq!(world.machines[3].stopped, None);
    world.heal();
    assert!(world.until(SECOND * 10, |w| w.agree(&[0, 1, 2, 3])));
}

#[test]
fn an_address_that_another_server_has_taken_over_is_not_dialled_for_ever() {
    let mut world = cluster(3, &Defaults::default());
    world.kill(2);
    // The disk is wiped and the name is new: the old server stays, away, at the same address.
    let taken = world.machines[2].config.addresses;
    world.add("fresh", Defaults::default());
    world.machines[2].config.addresses.node.set_port(1);
    world.machines[3].config.addresses = taken;
    // Of two servers at one address the last in the document was dialled: the dead one.
    world.machines[3].disk = crate::Recovered::fresh(crate::NodeId(5));
    world.start(3);
    assert!(world.until(SECOND * 10, |w| status_of(w, 0, 2) == Some(ServerStatus::Away)
        && status_of(w, 0, 3) == Some(ServerStatus::Online)));
    world.run(SECOND);
    let before = world.dials;
    world.run(SECOND * 10);
    assert!(world.dials - before < 10, "{} dials in 10 s", world.dials - before);
}

#[test]
fn an_old_disk_is_found_out_by_the_clusters_memory_however_often_it_was_started_since() {
    let mut world = cluster(3, &Defaults::default());
    let old = world.machines[2].disk.clone();
    let start = |w: &World| w.node(0).configuration().unwrap().servers[&w.id(2)].start;
    let first = start(&world);
    world.kill(2);
    world.run(SECOND);
    world.start(2);
    assert!(world.until(SECOND * 5, |w| w.agree(&[0, 1, 2]) && start(w) != first));
    world.kill(2);
    world.machines[2].disk = old;
    [0, 1].into_iter().for_each(|n| world.cut(n, 2));
    // Alone it starts twice, and meets one who has never heard of it.
    for _ in 0..2 {
        world.start(2);
        world.run(SECOND);
        world.kill(2);
    }
    let newcomer = world.add("n3", Defaults::default());
    [0, 1].into_iter().for_each(|n| world.cut(n, newcomer));
    world.start(2);
    world.start(newcomer);
    world.run(SECOND * 2);
    assert_eq!(world.machines[2].stopped, None);
    world.heal();
    [0, 1].into_iter().for_each(|n| world.cut(n, 2));
    let found_out = |w: &World| matches!(w.machines[2].stopped, Some(StopReason::StaleDisk(_)));
    assert!(world.until(SECOND * 10, found_out), "{world:?}");
}

#[test]
fn a_coordinator_whose_name_was_taken_over_lets_itself_in_again() {
    let mut world = cluster(3, &Defaults::default());
    world.kill(2);
    assert!(world.until(SECOND * 10, |w| status_of(w, 0, 2) == Some(ServerStatus::Away)));
    // Its successor dies before it has a vote, and is not missed yet when the old one is back.
    let successor = world.add("n2", Defaults::default());
    world.start(successor);
    assert!(world.until(SECOND * 3, |w| status_of(w, 0, successor).is_some()));
    world.kill(successor);
    let leader = coordinator(&world, 0);
    let other = 1 - leader;
    world.start(2);
    let linked = |w: &World| w.node(2).state() == State::Joining;
    assert!(world.until(SECOND, linked));
    world.cut(leader, other);
    world.run(SECOND);
    world.command(leader, Command::Stop);
    let old = world.id(2);
    let leads = |w: &World| {
        let log = w.node(2).configuration_log();
        log.is_some_and(|raft| raft.leader() == Some(old))
    };
    assert!(world.until(SECOND * 3, leads), "{world:?}");
    world.heal();
    assert!(world.until(SECOND * 15, |w| w.agree(&[other, 2])), "{world:?}");
}

#[test]
fn a_leave_that_is_decided_only_by_the_one_that_left_when_it_is_back_is_void() {
    use crate::configuration::{ConfigCommand, RemoveReason};
    use crate::raft::{Entry, Payload};

    let mut world = cluster(2, &dynamic());
    [0, 1].into_iter().for_each(|n| world.kill(n));
    // The last entry that it received, and that nobody has committed: its own leave.
    let leave = ConfigCommand::Remove { node: world.id(0), reason: RemoveReason::Left };
    let data = super::super::document::encode_command(&leave);
    let log = world.machines[0].disk.logs.get_mut(&crate::LogId::CONFIGURATION).unwrap();
    let last = log.entries.last().expect("entries").clone();
    let payload = Payload::Data(data);
    log.entries.push(Entry { index: last.index.next(), term: last.term, payload });
    world.start(0);
    assert!(world.until(SECOND * 12, |w| w.agree(&[0])), "{world:?}");
    world.start(1);
    assert!(world.until(SECOND * 10, |w| w.agree(&[0, 1])), "{world:?}");
}
