//! Who does not belong to the cluster stays out, is told so, and disturbs nobody.

use std::time::Duration;

use quorate_tests::{Lab, Node, View, eventually, hazelcast, holds_for};

const ENCRYPTION: &str = "<symmetric-encryption enabled=\"true\"><salt>s</salt>\
    <password>p</password><iteration-count>19</iteration-count></symmetric-encryption>";

/// A file with a member list, so that a node of another group is dialled too.
fn listed(group: &str, password: &str, more: &str) -> String {
    let join = "<join><multicast enabled=\"false\"/><tcp-ip enabled=\"true\">\
                <member>10.77.0.1-3</member></tcp-ip></join>";
    format!(
        "<hazelcast><group><name>{group}</name><password>{password}</password></group>\
         <network><port>2434</port>{join}{more}</network>\
         <properties><property name=\"hazelcast.wait.seconds.before.join\">1</property></properties>\
         </hazelcast>"
    )
}

/// What must not change while a stranger knocks.
fn decided(view: &View) -> (Option<String>, u64, Option<String>, usize) {
    (view.cluster.clone(), view.version, view.coordinator.clone(), view.servers.len())
}

/// A stranger whose file is `theirs` knocks at a cluster of two whose file is `ours`.
fn knocks(ours: &str, theirs: &str) -> String {
    let lab = Lab::wired(3);
    let (ours, theirs) = (lab.file("ours.xml", ours), lab.file("theirs.xml", theirs));
    let mut nodes: Vec<Node> = (1..=2).map(|n| lab.node(n).with(["--config", &ours])).collect();
    nodes.iter_mut().for_each(Node::start);
    let before = decided(&lab.one_cluster(&nodes));
    let mut stranger = lab.node(3).with(["--config", &theirs]);
    stranger.start();
    lab.until(&stranger, "says that it is refused", |v| !v.refused.is_empty());
    lab.until(&nodes[0], "says that it refused", |v| !v.refused.is_empty());
    holds_for("the cluster is undisturbed", Duration::from_secs(3), || {
        let views = nodes.iter().map(Node::view).collect::<Result<Vec<View>, String>>()?;
        let same = views.iter().all(|v| decided(v) == before);
        if same { Ok(()) } else { Err(format!("{views:#?}")) }
    });
    let still = stranger.view().expect("the stranger goes on");
    assert!(!still.refused.is_empty(), "and goes on trying: {still:#?}");
    assert_ne!(still.cluster, before.0);
    let log = stranger.log();
    let line = log.lines().find(|l| l.contains("differ")).expect("it says so in its log");
    // The message without its time and the address of the peer.
    let message = line.split("group, password").nth(1).expect("the message");
    message.split(" peer=").next().expect("a part").to_owned()
}

#[test]
fn wrong_group_wrong_password_and_unequal_encryption_are_refused_alike() {
    let ours = listed("red", "secret", "");
    let said = [
        knocks(&ours, &listed("blue", "secret", "")),
        knocks(&ours, &listed("red", "guess", "")),
        knocks(&ours, &listed("red", "secret", ENCRYPTION)),
    ];
    assert_eq!(said[0], said[1]);
    assert_eq!(said[1], said[2]);
}

#[test]
fn a_node_with_a_wrong_password_joins_once_it_has_the_right_one() {
    let lab = Lab::loopback();
    let right = lab.file("right.xml", &hazelcast("red", "secret", ""));
    let mut nodes: Vec<Node> = (1..=2).map(|n| lab.node(n).with(["--config", &right])).collect();
    nodes.iter_mut().for_each(Node::start);
    lab.one_cluster(&nodes);
    let wrong = lab.file("wrong.txt", "guess\n");
    let mut third = lab.node(3).with(["--config", &right]);
    third.start_with(&["--password-file", &wrong]);
    lab.until(&third, "says that it is refused", |v| !v.refused.is_empty());
    third.kill();
    third.start();
    nodes.push(third);
    lab.one_cluster(&nodes);
}

#[test]
fn a_duplicate_name_is_refused_before_anything_changes() {
    let lab = Lab::wired(3);
    let mut nodes = lab.nodes(2);
    nodes.iter_mut().for_each(Node::start);
    let before = lab.one_cluster(&nodes);
    // The name n2 again, with a directory of its own, on the third host.
    let mut double = lab.node(3);
    double.name = "n2".to_owned();
    double.start();
    let view = lab.until(&double, "is told why", |v| v.join_refused.is_some());
    let reason = view.join_refused.expect("a reason");
    let holder = &before.server("n2").expect("n2").address;
    assert!(
        reason.contains("'n2' is taken by the server at") && reason.contains(holder),
        "{reason}"
    );
    holds_for("the incumbent never notices", Duration::from_secs(3), || {
        let now = nodes[0].view()?;
        if decided(&now) == decided(&before) && now.servers == before.servers {
            return Ok(());
        }
        Err(format!("{now:#?}"))
    });
    let (code, body) = double.get("/readyz").expect("readyz");
    assert_eq!(code, 503);
    assert!(body["reason"].as_str().is_some_and(|r| r.contains("taken")), "{body}");
}

#[test]
fn garbage_on_every_port_disturbs_nobody() {
    let lab = Lab::wired(2);
    let mut nodes = lab.nodes(2);
    nodes.iter_mut().for_each(Node::start);
    let before = lab.one_cluster(&nodes);
    lab.throw_garbage(1, &before.servers.iter().map(|s| s.address.clone()).collect::<Vec<_>>());
    eventually("the garbage is counted", Duration::from_secs(10), || {
        let (_, status) = nodes[0].get("/status")?;
        let bad = status["counters"]["datagrams_bad"].as_u64().unwrap_or(0);
        if bad > 0 { Ok(()) } else { Err(status.to_string()) }
    });
    let after = lab.one_cluster(&nodes);
    assert_eq!(decided(&after), decided(&before));
}
