//! Nodes that come back: with their data, without it, and with data that is too old.

use std::fs;
use std::path::Path;
use std::time::Duration;

use quorate_tests::{Lab, Node, eventually};

fn cluster(lab: &Lab, count: usize) -> Vec<Node> {
    let mut nodes = lab.nodes(count);
    nodes.iter_mut().for_each(Node::start);
    lab.one_cluster(&nodes);
    nodes
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

#[test]
fn a_killed_server_returns_with_its_data_as_the_same_server() {
    let lab = Lab::loopback();
    let mut nodes = cluster(&lab, 3);
    let before = lab.one_cluster(&nodes);
    nodes[2].kill();
    lab.until(&nodes[0], "sees it AWAY", |v| v.with_status("AWAY") == ["n3"]);
    nodes[2].start();
    let after = lab.one_cluster(&nodes);
    assert_eq!(after.cluster, before.cluster);
    assert_eq!(after.server("n3").map(|s| &s.id), before.server("n3").map(|s| &s.id));
}

#[test]
fn a_wiped_disk_returns_under_its_old_name_with_a_new_id() {
    let lab = Lab::loopback();
    let mut nodes = cluster(&lab, 3);
    let before = lab.one_cluster(&nodes);
    nodes[2].kill();
    lab.until(&nodes[0], "sees it AWAY", |v| v.with_status("AWAY") == ["n3"]);
    fs::remove_dir_all(&nodes[2].data).expect("wiped");
    nodes[2].start();
    let after = lab.one_cluster(&nodes);
    assert_eq!(after.cluster, before.cluster);
    assert_eq!(after.servers.len(), 3, "the old one is out, the new one in");
    assert_ne!(after.server("n3").map(|s| &s.id), before.server("n3").map(|s| &s.id));
    assert_eq!(after.quorum.voters, 3);
}

#[test]
fn a_restored_old_directory_is_refused_as_stale_and_returns_only_with_a_new_identity() {
    let lab = Lab::loopback();
    let mut nodes = cluster(&lab, 3);
    let before = lab.one_cluster(&nodes);
    nodes[2].kill();
    let backup = lab.path("backup");
    copy(&nodes[2].data, &backup);
    // It goes on after the backup was taken: the others have acknowledged more than that knows.
    nodes[2].start();
    lab.one_cluster(&nodes);
    nodes[2].kill();
    fs::remove_dir_all(&nodes[2].data).expect("the newer directory is lost");
    copy(&backup, &nodes[2].data);
    nodes[2].start();
    assert_eq!(nodes[2].exit_code(), 6, "{}", nodes[2].log());
    assert!(nodes[2].log().contains("StaleDisk"), "{}", nodes[2].log());
    assert!(nodes[2].log().contains("--new-identity"), "{}", nodes[2].log());
    lab.until(&nodes[0], "sees it AWAY", |v| v.with_status("AWAY") == ["n3"]);
    nodes[2].start_with(&["--new-identity"]);
    let after = lab.one_cluster(&nodes);
    assert_ne!(after.server("n3").map(|s| &s.id), before.server("n3").map(|s| &s.id));
    let aside = fs::read_dir(nodes[2].data.join("backup/clusters")).expect("what it held is kept");
    assert_eq!(aside.count(), 1);
}

#[test]
fn a_cluster_stopped_and_started_in_reverse_order_is_the_same_cluster() {
    let lab = Lab::loopback();
    let mut nodes = cluster(&lab, 3);
    let before = lab.one_cluster(&nodes);
    assert_eq!(nodes[0].stop(), 0);
    assert_eq!(nodes[1].stop(), 0);
    // Nobody is left to take leave of.
    assert_eq!(nodes[2].stop(), 8, "{}", nodes[2].log());
    for node in nodes.iter_mut().rev() {
        node.start();
        // One after the other, as a person would.
        eventually("it answers", Duration::from_secs(20), || node.view());
    }
    let after = lab.one_cluster(&nodes);
    assert_eq!(after.cluster, before.cluster);
    for name in ["n1", "n2", "n3"] {
        assert_eq!(after.server(name).map(|s| &s.id), before.server(name).map(|s| &s.id));
    }
}

#[test]
fn one_directory_is_never_used_by_two_nodes() {
    let lab = Lab::loopback();
    let mut node = lab.node(1);
    node.start();
    lab.one_cluster([&node]);
    let data = node.data.display().to_string();
    let (code, said) = lab.run(1, &["start", "--data", &data, "--bind", "127.0.0.1"]);
    assert_eq!(code, 7, "{said}");
    assert!(said.contains("in use") && said.contains(&node.id().to_string()), "{said}");
    assert!(said.contains("--data"), "it says what to do: {said}");
    lab.one_cluster([&node]);
}
