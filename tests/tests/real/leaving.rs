//! Servers that die and servers that stop.

use std::time::Duration;

use quorate_tests::{Lab, Node, View, eventually, hazelcast};

/// A file under which nobody is unreachable for five minutes: what is noticed before was said.
fn patient(lab: &Lab) -> String {
    let limit = "<properties><property name=\"hazelcast.max.no.heartbeat.seconds\">300</property>\
                 </properties></hazelcast>";
    lab.file("patient.xml", &hazelcast("red", "secret", "").replace("</hazelcast>", limit))
}

fn cluster(lab: &Lab, count: usize) -> Vec<Node> {
    let mut nodes = lab.nodes(count);
    nodes.iter_mut().for_each(Node::start);
    lab.one_cluster(&nodes);
    nodes
}

fn dynamic(lab: &Lab, count: usize) -> Vec<Node> {
    let file = lab.dynamic();
    let mut nodes: Vec<Node> =
        (1..=count).map(|n| lab.node(n).with(["--db-config", &file])).collect();
    nodes.iter_mut().for_each(Node::start);
    let view = lab.one_cluster(&nodes);
    assert!(view.servers.iter().all(|s| s.registration == "dynamic"), "{view:#?}");
    nodes
}

/// Takes the node of that name out of the list.
fn take(nodes: &mut Vec<Node>, name: &str) -> Node {
    let at = nodes.iter().position(|n| n.name == name).expect("a node of that name");
    nodes.remove(at)
}

#[test]
fn a_killed_static_server_is_away_and_still_counted() {
    let lab = Lab::loopback();
    let mut nodes = cluster(&lab, 3);
    let gone = nodes
        .pop()
        .map(|mut n| {
            n.kill();
            n.name.clone()
        })
        .expect("a third");
    let away = |v: &View| v.with_status("AWAY") == [gone.as_str()] && v.no_quorum.is_none();
    for node in &nodes {
        let view = lab.until(node, "sees it AWAY", away);
        assert_eq!(view.servers.len(), 3);
        assert_eq!((view.quorum.voters, view.quorum.needed), (3, 2), "still counted");
    }
}

#[test]
fn dynamic_servers_killed_one_at_a_time_leave_a_cluster_of_one_that_decides() {
    let lab = Lab::loopback();
    let mut nodes = dynamic(&lab, 3);
    take(&mut nodes, "n3").kill();
    let view = lab.one_cluster(&nodes);
    assert_eq!(view.quorum.voters, 2, "the quorum is smaller");
    let tie_breaker = view.tie_breaker().expect("two voters have a tie-breaker").to_owned();
    let other = if tie_breaker == "n1" { "n2" } else { "n1" };
    take(&mut nodes, other).kill();
    let view = lab.one_cluster(&nodes);
    assert_eq!((view.quorum.voters, view.quorum.needed), (1, 1));
    let (code, said) =
        lab.run(1, &["server", "set-static", &tie_breaker, "--data", &data(&nodes[0])]);
    assert_eq!(code, 0, "and it still decides: {said}");
}

#[test]
fn the_survivor_of_the_tie_breaker_says_no_quorum_and_whom_it_needs() {
    let lab = Lab::loopback();
    let mut nodes = dynamic(&lab, 2);
    let view = lab.one_cluster(&nodes);
    let tie_breaker = view.tie_breaker().expect("a tie-breaker").to_owned();
    let mut gone = take(&mut nodes, &tie_breaker);
    gone.kill();
    let survivor = &nodes[0];
    let view = lab.until(survivor, "says NoQuorum", |v| {
        v.no_quorum.as_ref().is_some_and(|q| q.missing == [tie_breaker.clone()])
    });
    assert_eq!(view.servers.len(), 2, "it removed nobody");
    let (code, body) = survivor.get("/readyz").expect("readyz");
    let reason = body["reason"].as_str().unwrap_or_default().to_owned();
    assert!(code == 503 && reason.contains("NoQuorum") && reason.contains(&tie_breaker), "{body}");
    // The other order is no end: it comes back, and all is well.
    gone.start();
    nodes.push(gone);
    lab.one_cluster(&nodes);
}

#[test]
fn a_static_set_of_five_that_loses_three_refuses_and_says_who_is_missing() {
    let lab = Lab::loopback();
    let mut nodes = cluster(&lab, 5);
    for node in &mut nodes[2..] {
        node.kill();
    }
    for node in &nodes[..2] {
        let missing = ["n3", "n4", "n5"].map(str::to_owned);
        lab.until(node, "names the three", |v| {
            v.no_quorum.as_ref().is_some_and(|q| sorted(&q.missing) == missing && q.voters == 5)
        });
    }
    let (code, said) = lab.run(1, &["server", "remove", "n5", "--data", &data(&nodes[0])]);
    assert_eq!(code, 4, "{said}");
    assert!(said.contains("n3") && said.contains("n4") && said.contains("n5"), "{said}");
}

#[test]
fn a_static_server_that_stops_is_away_at_once() {
    let lab = Lab::loopback();
    let file = patient(&lab);
    let mut nodes: Vec<Node> = (1..=3).map(|n| lab.node(n).with(["--config", &file])).collect();
    nodes.iter_mut().for_each(Node::start);
    let view = lab.one_cluster(&nodes);
    // The hardest to miss: the coordinator itself.
    let coordinator = view.coordinator_name().expect("a coordinator").to_owned();
    let mut leaving = take(&mut nodes, &coordinator);
    let (code, said) = lab.run(1, &["stop", "--data", &data(&leaving)]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("left in good order"), "{said}");
    assert_eq!(leaving.exit_code(), 0);
    let view = lab.until(&nodes[0], "sees it AWAY", |v| {
        v.with_status("AWAY") == [coordinator.as_str()]
            && v.coordinator_name() != Some(&coordinator)
    });
    assert_eq!(view.quorum.voters, 3);
    assert!(!leaving.data.join("node.json").exists(), "nothing points to a node that is gone");
}

#[test]
fn a_dynamic_server_that_is_terminated_is_removed_at_once() {
    let lab = Lab::loopback();
    let (file, dynamic) = (patient(&lab), lab.dynamic());
    let flags = ["--config", &file, "--db-config", &dynamic];
    let mut nodes: Vec<Node> = (1..=3).map(|n| lab.node(n).with(flags)).collect();
    nodes.iter_mut().for_each(Node::start);
    lab.one_cluster(&nodes);
    assert_eq!(take(&mut nodes, "n2").stop(), 0, "SIGTERM leaves in good order");
    let view = lab.one_cluster(&nodes);
    assert_eq!(view.quorum.voters, 2);
}

#[test]
fn a_second_signal_stops_at_once() {
    let lab = Lab::loopback();
    let mut nodes = cluster(&lab, 3);
    // Nobody answers, and nobody is gone yet: it has to wait for the others.
    nodes[1..].iter().for_each(Node::freeze);
    nodes[0].terminate();
    eventually("it has heard the first", Duration::from_secs(20), || {
        let log = nodes[0].log();
        if log.contains("a second signal stops at once") { Ok(()) } else { Err(log) }
    });
    assert_eq!(nodes[0].stop(), 130, "{}", nodes[0].log());
}

fn sorted(names: &[String]) -> Vec<String> {
    let mut names = names.to_vec();
    names.sort();
    names
}

fn data(node: &Node) -> String {
    node.data.display().to_string()
}
