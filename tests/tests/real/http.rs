//! What is told over HTTP.

use std::io::Read;
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

const QUICKLY: Duration = Duration::from_secs(2);

#[test]
fn nothing_is_changed_without_the_token() {
    let lab = Lab::loopback();
    let mut node = lab.node(1);
    node.start();
    lab.one_cluster([&node]);
    let wrong = "a".repeat(64);
    for authorization in
        ["", "authorization: Bearer\r\n", &format!("authorization: Bearer {wrong}\r\n")]
    {
        for path in ["/admin/stop", "/admin/server"] {
            let request = format!(
                "POST {path} HTTP/1.1\r\nhost: n1\r\n{authorization}content-type: application/json\r\n\
                 content-length: 2\r\nconnection: close\r\n\r\n{{}}"
            );
            let answer = node.exchange(request.as_bytes(), QUICKLY).expect("an answer");
            assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
            assert!(answer.contains("admin.token"), "it says what is needed: {answer}");
        }
    }
    let view = lab.one_cluster([&node]);
    assert_eq!(view.servers.len(), 1);
}

#[test]
fn requests_beyond_their_bounds_are_refused() {
    let lab = Lab::loopback();
    let mut node = lab.node(1);
    node.start();
    lab.one_cluster([&node]);
    let token = std::fs::read_to_string(node.data.join("admin.token")).expect("a token");
    let long = format!(
        "POST /admin/server HTTP/1.1\r\nhost: n1\r\nauthorization: Bearer {}\r\ncontent-type: \
         application/json\r\ncontent-length: 100000\r\nconnection: close\r\n\r\n{}",
        token.trim(),
        " ".repeat(100_000)
    );
    let answer = node.exchange(long.as_bytes(), QUICKLY).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    let head = format!("GET /status HTTP/1.1\r\nhost: n1\r\nx: {}\r\n\r\n", "x".repeat(100_000));
    let answer = node.exchange(head.as_bytes(), QUICKLY).expect("an answer");
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    let listening = b"GET /events HTTP/1.1\r\nhost: n1\r\n\r\n";
    let mut listeners = node.connections(2048, listening).expect("2048 listeners");
    for listener in &mut listeners {
        let mut begin = [0; 12];
        listener.read_exact(&mut begin).expect("an answer");
        assert_eq!(&begin, b"HTTP/1.1 200");
    }
    let one_more = b"GET /events HTTP/1.1\r\nhost: n1\r\nconnection: close\r\n\r\n";
    let answer = node.exchange(one_more, QUICKLY).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 503"), "one more is sent away: {answer}");
    drop(listeners);
    eventually("places are given back", Duration::from_secs(10), || node.events(1));
}

#[test]
fn clients_that_say_nothing_keep_others_out_for_seconds_only() {
    let lab = Lab::loopback();
    let mut node = lab.node(1);
    node.start();
    lab.one_cluster([&node]);
    let silent = node.connections(4200, b"GET /st").expect("4200 connections");
    eventually("the node answers all the same", Duration::from_secs(40), || node.view());
    drop(silent);
}
