//! Clones, restored directories, paths that work one way only, and what is said meanwhile.

use super::lifecycle::{SECOND, cluster, dynamic, status_of};
use super::world::World;
use crate::configuration::{Defaults, Role};
use crate::{Command, CommandError, Reply, State, StopReason};

#[test]
fn of_a_directory_and_its_clone_at_most_one_goes_on() {
    for cut_from in [None, Some(0), Some(1)] {
        let mut world = cluster(3, &Defaults::default());
        let clone = world.add("n2", Defaults::default());
        world.machines[clone].disk = world.machines[2].disk.clone();
        world.cut(2, clone);
        if let Some(at) = cut_from {
            world.cut(at, clone);
        }
        world.start(clone);
        world.run(SECOND * 5);
        world.heal();
        world.run(SECOND * 5);
        let stopped: Vec<_> = [2, clone]
            .into_iter()
            .filter(|n| matches!(world.machines[*n].stopped, Some(StopReason::StaleDisk(_))))
            .collect();
        assert!(!stopped.is_empty(), "{cut_from:?}: {world:?}");
        assert!(world.node(0).configuration_log().unwrap().leader().is_some());
    }
}

#[test]
fn a_server_that_nobody_hears_is_removed_and_returns() {
    let mut world = cluster(3, &dynamic());
    world.deafen(2, 0);
    world.deafen(2, 1);
    assert!(world.until(SECOND * 12, |w| status_of(w, 0, 2).is_none()));
    let campaigns = world.node(0).status(world.now).counters.campaigns;
    world.run(SECOND * 10);
    assert_eq!(world.node(0).status(world.now).counters.campaigns, campaigns);
    world.heal();
    assert!(world.until(SECOND * 5, |w| w.agree(&[0, 1, 2])), "{world:?}");
}

#[test]
fn a_server_that_hears_nobody_is_removed_by_nobody_in_vain_and_returns() {
    let mut world = cluster(3, &dynamic());
    world.deafen(0, 2);
    world.deafen(1, 2);
    world.run(SECOND * 15);
    assert!(world.node(0).configuration_log().unwrap().leader().is_some());
    world.heal();
    assert!(world.until(SECOND * 10, |w| w.agree(&[0, 1, 2])), "{world:?}");
}

#[test]
fn a_server_cut_from_the_coordinator_alone_is_not_removed() {
    let mut world = cluster(3, &dynamic());
    world.cut(0, 2);
    world.run(SECOND * 15);
    assert!(status_of(&world, 1, 2).is_some(), "a voter hears it");
    assert!(status_of(&world, 1, 0).is_some());
    world.heal();
    assert!(world.until(SECOND * 5, |w| w.agree(&[0, 1, 2])));
}

#[test]
fn a_replica_left_with_a_deposed_coordinator_says_that_there_is_no_quorum() {
    let roles = [("*".to_owned(), Role::Master), ("n3".to_owned(), Role::Replica)];
    let mut world = cluster(4, &Defaults { roles: roles.into(), ..Defaults::default() });
    for (a, b) in [(0, 1), (0, 2), (3, 1), (3, 2)] {
        world.cut(a, b);
    }
    world.run(SECOND * 5);
    let status = world.node(3).status(world.now);
    assert_eq!(status.coordinator, None, "{status:#?}");
    let reason = status.no_quorum.expect("it says so");
    assert_eq!(reason.missing, vec!["n1".to_owned(), "n2".to_owned()]);
}

#[test]
fn a_server_back_without_a_quorum_answers_commands_with_whom_it_needs() {
    let mut world = cluster(5, &Defaults::default());
    (0..5).for_each(|n| world.kill(n));
    world.start(3);
    world.start(4);
    world.run(SECOND * 5);
    let id = world.command(3, Command::RemoveServer { server: "n0".to_owned() });
    world.run(SECOND * 6);
    let reply = world.machines[3].replies.get(&id);
    let Some(Reply::Failed(CommandError::NoQuorum(reason))) = reply else { panic!("{reply:?}") };
    assert_eq!(reason.missing.len(), 3, "{reason:?}");
}

#[test]
fn a_damaged_server_counts_as_missing() {
    let mut world = cluster(3, &Defaults::default());
    world.kill(0);
    world.kill(1);
    world.machines[1].disk.logs.values_mut().for_each(|log| log.damaged = true);
    world.start(1);
    world.run(SECOND * 5);
    let reason = world.node(2).status(world.now).no_quorum.expect("one of three can vote");
    assert_eq!(reason.missing, vec!["n0".to_owned(), "n1".to_owned()]);
    let status = world.node(1).status(world.now);
    assert!(status.damaged);
    assert_eq!(status.coordinator, None);
}

#[test]
fn a_joining_server_that_is_cut_off_for_good_is_not_waited_for() {
    let mut world = cluster(2, &dynamic());
    world.add("n2", dynamic());
    world.start(2);
    let there = |w: &World| status_of(w, 0, 2).is_some();
    assert!(world.until(SECOND * 3, there));
    world.kill(2);
    assert!(world.until(SECOND * 10, |w| !there(w) && w.agree(&[0, 1])));
    world.start(2);
    assert!(world.until(SECOND * 5, |w| w.agree(&[0, 1, 2])));
}

#[test]
fn links_are_not_opened_and_closed_without_end() {
    let mut world = cluster(5, &Defaults::default());
    world.run(SECOND * 5);
    let before = world.dials;
    world.run(SECOND * 20);
    assert_eq!(world.dials, before, "a settled mesh dials nobody");
    assert!((0..5).all(|n| world.node(n).state() == State::Member));
}

#[test]
fn an_idle_cluster_writes_nothing_and_a_dead_server_is_written_of_once() {
    let mut world = cluster(3, &Defaults::default());
    world.run(SECOND * 5);
    let last = |w: &World| w.node(0).status(w.now).last_index;
    let before = last(&world);
    world.run(SECOND * 20);
    assert_eq!(last(&world), before);
    world.kill(2);
    world.run(SECOND * 60);
    assert_eq!(last(&world), before + 1, "that it is away");
}

#[test]
fn a_link_whose_other_end_alone_is_gone_is_replaced_without_a_storm_of_dials() {
    for (at, other) in [(0, 1), (1, 0)] {
        let mut world = cluster(2, &Defaults::default());
        world.run(SECOND);
        let before = world.dials;
        world.forget_link(at, other);
        world.run(SECOND * 5);
        assert!(world.agree(&[0, 1]));
        assert!(world.dials - before < 12, "{} dials", world.dials - before);
    }
}

#[test]
fn a_command_that_may_have_been_done_is_never_said_to_have_failed_for_want_of_a_quorum() {
    use std::time::Duration;
    let mut led = 0;
    for (first, second) in (1..4).flat_map(|a| (1..6).map(move |b| (a, b))) {
        let mut world = cluster(3, &Defaults::default());
        let registration = crate::configuration::Registration::Dynamic;
        let id =
            world.command(1, Command::SetRegistration { server: "n0".to_owned(), registration });
        world.run(Duration::from_millis(first));
        world.kill(0);
        // The next coordinator says that it is none yet, and dies too.
        let leads = |w: &World| {
            let log = w.node(2).configuration_log();
            log.is_some_and(crate::raft::Raft::is_leader)
        };
        if !world.until(SECOND, leads) {
            continue;
        }
        led += 1;
        world.run(Duration::from_millis(second));
        world.kill(2);
        world.run(SECOND * 8);
        let reply = &world.machines[1].replies[&id];
        let possible =
            matches!(reply, Reply::Done { .. } | Reply::Failed(CommandError::OutcomeUnknown));
        // Before the second millisecond it has not left this node's own queue.
        assert!(possible || first < 2, "{first} {second}: {reply:?}");
    }
    assert!(led > 0);
}

#[test]
fn what_one_link_told_of_a_cluster_counts_when_the_other_link_is_gone() {
    use crate::ids::{ClusterId, ConfigVersion, Start};
    use crate::wire::{Hello, Info, Packet, encode_packet};
    use crate::{Input, LinkId, Node, NodeConfig, NodeId, Output, Recovered, Time};
    use std::time::Duration;

    let mut config = NodeConfig::loopback("demo", 2434);
    config.multicast = false;
    let (me, peer) = (NodeId(2), NodeId(1));
    let mut node = Node::new(config.clone(), Recovered::fresh(me), [7; 32], Time::ZERO);
    let mut now = Time::ZERO;
    let mut handle = |node: &mut Node, input: Option<Input>| {
        let mut inputs: Vec<Input> = input.into_iter().collect();
        loop {
            while let Some(output) = node.poll_output() {
                if let Output::Persist { id, .. } = output {
                    inputs.push(Input::Persisted { id });
                }
            }
            let Some(next) = (!inputs.is_empty()).then(|| inputs.remove(0)) else { return };
            now = now + Duration::from_millis(1);
            node.handle(now, next);
        }
    };
    handle(&mut node, None);
    let own = node.status(Time::ZERO).start.expect("durable");
    let (first, second) = (LinkId(1), LinkId(2));
    let packet =
        |link, packet: &Packet| Some(Input::Packet { link, bytes: encode_packet(packet).into() });
    let info = |cluster: Option<ClusterId>| {
        Packet::Info(Info {
            cluster,
            seeking: cluster.is_none(),
            version: ConfigVersion(u64::from(cluster.is_some())),
            servers: u32::from(cluster.is_some()),
            databases: 0,
            coordinator: None,
            you_are_member: false,
            you_were_removed: false,
            released: false,
            leaving: false,
            your_cluster: None,
            damaged: false,
            clash: None,
        })
    };
    for link in [first, second] {
        handle(&mut node, Some(Input::LinkUp { link, peer, dialed: None }));
        let hello = Hello {
            name: "other".to_owned(),
            start: Start { number: 1, nonce: 5 },
            recent: vec![Start { number: 1, nonce: 5 }],
            remembered: None,
            last_index: Default::default(),
            term: Default::default(),
            acknowledged: None,
            addresses: config.addresses,
        };
        handle(&mut node, packet(link, &Packet::Hello(hello)));
        handle(&mut node, packet(link, &Packet::Welcome { start: own }));
        handle(&mut node, packet(link, &info(None)));
    }
    // The peer founds, tells it over the link that it keeps, and closes the other.
    handle(&mut node, packet(first, &info(Some(ClusterId(9)))));
    handle(&mut node, Some(Input::LinkDown { link: second }));
    handle(&mut node, Some(Input::Timer));
    assert_eq!(node.state(), State::Joining);
}
