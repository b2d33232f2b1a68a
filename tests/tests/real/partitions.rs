//! Cuts in the wire: only one side decides, and all is one again when it is healed.

use std::time::Duration;

use quorate_tests::{Lab, Node, holds_for};

#[test]
fn of_two_dynamic_nodes_cut_apart_only_the_tie_breakers_side_decides() {
    let lab = Lab::wired(2);
    let file = lab.dynamic();
    let mut nodes: Vec<Node> = (1..=2).map(|n| lab.node(n).with(["--db-config", &file])).collect();
    nodes.iter_mut().for_each(Node::start);
    let before = lab.one_cluster(&nodes);
    let winner = usize::from(before.tie_breaker() == Some("n2"));
    let (winner, loser) = (&nodes[winner], &nodes[1 - winner]);
    lab.unplug(2);
    lab.until(winner, "goes on alone", |v| v.servers.len() == 1 && v.no_quorum.is_none());
    lab.until(loser, "has no quorum", |v| {
        v.no_quorum.as_ref().is_some_and(|q| q.missing == [winner.name.clone()])
    });
    holds_for("the other side decides nothing", Duration::from_secs(3), || {
        let view = loser.view()?;
        let idle = view.version == before.version && view.servers.len() == 2;
        if idle { Ok(()) } else { Err(format!("{view:#?}")) }
    });
    lab.heal();
    let after = lab.one_cluster(&nodes);
    assert_eq!(after.cluster, before.cluster);
}

#[test]
fn a_minority_of_three_neither_removes_nor_changes_anything_and_converges() {
    let lab = Lab::wired(3);
    let file = lab.dynamic();
    let mut nodes: Vec<Node> = (1..=3).map(|n| lab.node(n).with(["--db-config", &file])).collect();
    nodes.iter_mut().for_each(Node::start);
    let before = lab.one_cluster(&nodes);
    // The coordinator is cut off: the one that would have the most to say.
    let cut = before.coordinator_name().expect("a coordinator").to_owned();
    let number = 1 + nodes.iter().position(|n| n.name == cut).expect("that node");
    lab.unplug(number);
    let minority = &nodes[number - 1];
    lab.until(minority, "names both others", |v| {
        v.no_quorum.as_ref().is_some_and(|q| q.missing.len() == 2 && !q.missing.contains(&cut))
    });
    let data = minority.data.display().to_string();
    let victim = if cut == "n1" { "n2" } else { "n1" };
    let (code, said) = lab.run(number, &["server", "remove", victim, "--data", &data]);
    assert_eq!(code, 4, "{said}");
    assert!(said.contains("no quorum") && said.contains(victim), "{said}");
    let majority: Vec<&Node> = nodes.iter().filter(|n| n.name != cut).collect();
    for node in &majority {
        lab.until(node, "removes the one cut off", |v| v.servers.len() == 2);
    }
    holds_for("the minority removes nobody", Duration::from_secs(3), || {
        let view = minority.view()?;
        let idle = view.version == before.version && view.servers.len() == 3;
        if idle { Ok(()) } else { Err(format!("{view:#?}")) }
    });
    lab.heal();
    let after = lab.one_cluster(&nodes);
    assert_eq!(after.cluster, before.cluster);
}

#[test]
fn a_frozen_coordinator_is_replaced_and_does_not_disturb_when_it_wakes() {
    let lab = Lab::loopback();
    let mut nodes = lab.nodes(3);
    nodes.iter_mut().for_each(Node::start);
    let before = lab.one_cluster(&nodes);
    let name = before.coordinator_name().expect("a coordinator").to_owned();
    let frozen = nodes.iter().position(|n| n.name == name).expect("that node");
    nodes[frozen].freeze();
    let other = &nodes[(frozen + 1) % 3];
    let led = lab.until(other, "has another coordinator", |v| {
        v.coordinator.is_some() && v.coordinator != before.coordinator && v.no_quorum.is_none()
    });
    nodes[frozen].thaw();
    let after = lab.one_cluster(&nodes);
    assert_eq!(after.cluster, before.cluster);
    assert_eq!(after.coordinator, led.coordinator, "who wakes up follows");
}
