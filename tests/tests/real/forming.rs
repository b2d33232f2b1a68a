//! Nodes find each other and become one cluster.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use quorate_tests::{Lab, Node, View, holds_for};

/// Starts three nodes within 50 ms and waits until they are one cluster.
fn three_at_once(lab: &Lab) -> Vec<Node> {
    let mut nodes = lab.nodes(3);
    for node in &mut nodes {
        node.start();
        thread::sleep(Duration::from_millis(16));
    }
    lab.one_cluster(&nodes);
    nodes
}

#[test]
fn three_nodes_started_at_once_on_one_machine_are_one_cluster_every_time() {
    quorate_tests::quorate();
    for _ in 0..10 {
        three_at_once(&Lab::loopback());
    }
}

#[test]
fn three_nodes_started_at_once_on_one_wire_are_one_cluster_every_time() {
    quorate_tests::quorate();
    for _ in 0..10 {
        three_at_once(&Lab::wired(3));
    }
}

#[test]
fn a_late_fourth_joins_the_cluster_that_is_there() {
    let lab = Lab::wired(4);
    let mut nodes = three_at_once(&lab);
    let before = lab.one_cluster(&nodes);
    nodes.push(lab.node(4));
    nodes[3].start();
    let after = lab.one_cluster(&nodes);
    assert_eq!(after.cluster, before.cluster);
    assert_eq!(after.quorum.voters, 4);
}

#[test]
fn two_groups_on_one_wire_never_see_each_other() {
    let lab = Lab::wired(4);
    let mut red: Vec<Node> = (1..=2).map(|n| lab.node(n).with(["--group", "red"])).collect();
    let mut blue: Vec<Node> = (3..=4).map(|n| lab.node(n).with(["--group", "blue"])).collect();
    red.iter_mut().chain(&mut blue).for_each(Node::start);
    let (one, other) = (lab.one_cluster(&red), lab.one_cluster(&blue));
    assert_ne!(one.cluster, other.cluster);
    holds_for("the groups are apart", Duration::from_secs(3), || {
        let views: Vec<View> =
            red.iter().chain(&blue).map(Node::view).collect::<Result<_, String>>()?;
        let clusters: BTreeSet<_> = views.iter().map(|v| v.cluster.clone()).collect();
        let quiet = views.iter().all(|v| v.servers.len() == 2 && v.refused.is_empty());
        if quiet && clusters.len() == 2 { Ok(()) } else { Err(format!("{views:#?}")) }
    });
}

#[test]
fn nodes_with_a_member_list_and_no_multicast_become_one_cluster() {
    let lab = Lab::wired(3);
    let join = r#"<join><multicast enabled="false"/><tcp-ip enabled="true">
        <member>10.77.0.1-3</member></tcp-ip></join>"#;
    let xml = format!(
        "<hazelcast><network><port>2434</port>{join}</network><properties>\
         <property name=\"hazelcast.wait.seconds.before.join\">1</property></properties></hazelcast>"
    );
    let file = lab.file("hazelcast.xml", &xml);
    let mut nodes: Vec<Node> = (1..=3).map(|n| lab.node(n).with(["--config", &file])).collect();
    nodes.iter_mut().for_each(Node::start);
    lab.one_cluster(&nodes);
}
