//! The command line, at a real node.

use quorate_tests::{Lab, Node};

fn data(node: &Node) -> String {
    node.data.display().to_string()
}

#[test]
fn the_status_table_shows_every_server_with_what_it_is() {
    let lab = Lab::loopback();
    let mut nodes = lab.nodes(3);
    nodes.iter_mut().for_each(Node::start);
    let view = lab.one_cluster(&nodes);
    let (code, said) = lab.run(1, &["status", "--data", &data(&nodes[1])]);
    assert_eq!(code, 0, "{said}");
    for server in &view.servers {
        let begins = |l: &&str| l.trim_start().starts_with(&server.name);
        let line = said.lines().find(begins).unwrap_or_else(|| panic!("{said}"));
        for part in ["master", "static", "ONLINE", server.address.as_str()] {
            assert!(line.contains(part), "{part} is missing in {line}");
        }
        assert_eq!(line.contains("coordinator"), view.coordinator.as_ref() == Some(&server.id));
        assert_eq!(line.contains("tie-breaker"), server.tie_breaker);
    }
    assert!(said.contains("quorum 2 of 3") && said.contains("PASSWORD"), "{said}");
    let (code, json) = lab.run(1, &["status", "--json", "--data", &data(&nodes[1])]);
    assert_eq!(code, 0);
    assert!(json.contains("\"tie_breaker\": true"), "{json}");
}

#[test]
fn servers_change_their_role_and_registration_and_are_removed_by_command() {
    let lab = Lab::loopback();
    let mut nodes = lab.nodes(3);
    nodes.iter_mut().for_each(Node::start);
    lab.one_cluster(&nodes);
    let at = data(&nodes[0]);
    let run = |args: &[&str]| lab.run(1, &[&["server"], args, &["--data", &at]].concat());
    let (code, said) = run(&["set-role", "n3", "replica"]);
    assert_eq!(code, 0, "{said}");
    let is_replica = |v: &quorate_tests::View| {
        v.server("n3").is_some_and(|s| s.role == "replica" && !s.voter) && v.quorum.voters == 2
    };
    lab.until(&nodes[1], "has a replica that does not vote", is_replica);
    let (code, said) = run(&["set-role", "n3", "master"]);
    assert_eq!(code, 0, "{said}");
    lab.until(&nodes[1], "has three voters", |v| v.quorum.voters == 3);
    let (code, said) = run(&["set-dynamic", "n3"]);
    assert_eq!(code, 0, "{said}");
    lab.until(&nodes[1], "knows it", |v| {
        v.server("n3").is_some_and(|s| s.registration == "dynamic")
    });
    let (code, said) = run(&["remove", "nobody"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("there is no server 'nobody'"), "{said}");
    nodes[2].kill();
    lab.until(&nodes[0], "removed it", |v| v.servers.len() == 2 && v.quorum.voters == 2);
    let (code, said) = run(&["remove", "n2"]);
    assert_eq!(code, 0, "{said}");
    lab.until(&nodes[0], "is alone", |v| v.servers.len() == 1 && v.quorum.voters == 1);
}

#[test]
fn a_lost_quorum_is_ended_by_recover_and_by_nothing_else() {
    let lab = Lab::loopback();
    let mut nodes = lab.nodes(3);
    nodes.iter_mut().for_each(Node::start);
    let before = lab.one_cluster(&nodes);
    let at = data(&nodes[0]);
    let (code, said) = lab.run(1, &["recover", "--unsafe", "--data", &at]);
    assert_eq!(code, 7, "a running node is not touched: {said}");
    nodes.iter_mut().for_each(Node::kill);
    let (code, said) = lab.run(1, &["recover", "--data", &at]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("--unsafe"), "{said}");
    let (code, said) = lab.run(1, &["recover", "--unsafe", "--data", &at]);
    assert_eq!(code, 2, "{said}");
    let cluster = before.cluster.as_deref().and_then(|c| c.get(..8)).expect("a cluster");
    for part in ["n1", "n2", "n3", "last index", "--confirm", cluster] {
        assert!(said.contains(part), "{part} is missing in\n{said}");
    }
    let (code, said) = lab.run(1, &["recover", "--unsafe", "--data", &at, "--confirm", cluster]);
    assert_eq!(code, 0, "{said}");
    nodes[0].start();
    let after = lab.one_cluster(&nodes[..1]);
    assert_ne!(after.cluster, before.cluster);
    assert_eq!(after.server("n1").map(|s| &s.id), before.server("n1").map(|s| &s.id));
}

#[test]
fn commands_that_find_no_node_say_what_to_do() {
    let lab = Lab::loopback();
    let nowhere = lab.path("nowhere").display().to_string();
    let (code, said) = lab.run(1, &["status", "--data", &nowhere]);
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("--data") && said.contains("--http"), "{said}");
    let mut node = lab.node(1);
    node.start();
    lab.one_cluster([&node]);
    node.kill();
    let (code, said) = lab.run(1, &["status", "--data", &data(&node)]);
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("quorate start"), "{said}");
    let (code, said) = lab.run(1, &["stop", "--http", "http://127.0.0.1:9"]);
    assert_eq!(code, 2, "it has no token to send: {said}");
    assert!(said.contains("--token-file") && said.contains("--user"), "{said}");
    let (code, said) = lab.run(1, &["status", "--http", "http://127.0.0.1:9"]);
    assert_eq!(code, 3, "{said}");
}
