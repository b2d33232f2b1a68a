//! What is told over HTTP.

use std::time::Duration;

use quorate_tests::{Lab, Node, eventually};

#[test]
fn the_layout_says_all_a_client_needs_and_no_secret() {
    let lab = Lab::loopback();
    let password = lab.file("password", "a-very-secret-word\n");
    let mut nodes: Vec<Node> =
        (1..=2).map(|n| lab.node(n).with(["--password-file", &password])).collect();
    nodes.iter_mut().for_each(Node::start);
    let view = lab.one_cluster(&nodes);
    let token = std::fs::read_to_string(nodes[0].data.join("admin.token")).expect("a token");
    for path in ["/layout", "/status", "/metrics", "/readyz", "/nowhere"] {
        let (_, body) = nodes[0].get(path).expect("an answer");
        assert!(!body.to_string().contains("a-very-secret-word"), "{path}");
        assert!(!body.to_string().contains(token.trim()), "{path}");
    }
    let (code, layout) = nodes[0].get("/layout").expect("a layout");
    assert_eq!(code, 200);
    assert_eq!(layout["version"].as_u64(), Some(view.version));
    assert_eq!(layout["cluster"].as_str(), view.cluster.as_deref());
    assert_eq!(layout["coordinator"].as_str(), view.coordinator.as_deref());
    let servers = layout["servers"].as_array().expect("servers");
    assert_eq!(servers.len(), 2);
    for server in servers {
        assert_eq!(server["status"], "ONLINE");
        assert!(server["address"].is_string() && server["http"].is_string());
    }
    assert!(!nodes[0].log().contains("a-very-secret-word"));
}

#[test]
fn events_begin_with_the_present_layout_and_never_go_back() {
    let lab = Lab::loopback();
    let mut nodes = lab.nodes(2);
    nodes.iter_mut().for_each(Node::start);
    let before = lab.one_cluster(&nodes);
    let mut third = lab.node(3);
    let node = &nodes[0];
    let events = std::thread::scope(|scope| {
        // The present one, and the one that the third server's joining makes.
        let events = scope.spawn(move || node.events(2));
        std::thread::sleep(Duration::from_millis(300));
        third.start();
        events.join().expect("no panic")
    })
    .expect("events");
    assert_eq!(events[0].0, before.version.to_string(), "the present one first");
    assert_eq!(events[0].1["servers"].as_array().map(Vec::len), Some(2));
    let after: u64 = events[1].0.parse().expect("a version");
    assert!(after > before.version, "{events:?}");
    assert_eq!(events[1].1["version"].as_u64(), Some(after));
    assert_eq!(events[1].1["servers"].as_array().map(Vec::len), Some(3), "{events:?}");
}

#[test]
fn ready_is_said_by_members_with_a_quorum_only() {
    let lab = Lab::loopback();
    let mut nodes = lab.nodes(3);
    nodes.iter_mut().for_each(Node::start);
    lab.one_cluster(&nodes);
    for node in &nodes {
        assert_eq!(node.get("/readyz").expect("readyz").0, 200);
        assert_eq!(node.get("/healthz").expect("healthz").0, 200);
    }
    nodes[1].kill();
    nodes[2].kill();
    eventually("it is not ready without a quorum", Duration::from_secs(20), || {
        let (code, body) = nodes[0].get("/readyz")?;
        if code == 503 { Ok(()) } else { Err(body.to_string()) }
    });
    assert_eq!(nodes[0].get("/healthz").expect("healthz").0, 200, "but it is alive");
}
