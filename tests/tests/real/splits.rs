//! Databases while the wire is cut: one side writes, the other refuses and reads, and all converge.

use std::collections::BTreeSet;

use quorate_tests::{Lab, Node, eventually};
use serde_json::json;

use super::databases::{SETTLE, equal, ids, post};

/// A cluster on a wire with a database that has a table.
fn with_table(lab: &Lab, count: usize, config: &str) -> Vec<Node> {
    let file = lab.file("cluster.json", config);
    let mut nodes: Vec<Node> =
        (1..=count).map(|n| lab.node(n).with(["--db-config", &file])).collect();
    nodes.iter_mut().for_each(Node::start);
    lab.one_cluster(&nodes);
    let create = json!({ "todo": "create", "name": "demo" });
    let (_, said) = post(&nodes[0], "/admin/db", &create).expect("it answers");
    assert_eq!(said["outcome"], "done", "{said}");
    let table = "CREATE TABLE t (id INTEGER PRIMARY KEY, side TEXT)";
    let (code, said) =
        post(&nodes[0], "/db/demo/execute", &json!({ "sql": table })).expect("it answers");
    assert_eq!(code, 200, "{said}");
    equal(&nodes, &BTreeSet::new());
    nodes
}

/// Writes until it is acknowledged.
fn writes(node: &Node, id: i64) {
    let sql = "INSERT INTO t VALUES (?, 'x') ON CONFLICT DO NOTHING";
    eventually(&format!("{} writes", node.name), SETTLE, || {
        match post(node, "/db/demo/execute", &json!({ "sql": sql, "args": [id] }))? {
            (200, _) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

/// Refused for want of a quorum, naming `missing`.
fn refuses(node: &Node, missing: &str) {
    let body = json!({ "sql": "INSERT INTO t VALUES (999, 'lost')", "timeout_ms": 3000 });
    eventually(&format!("{} refuses", node.name), SETTLE, || {
        match post(node, "/db/demo/execute", &body)? {
            (503, said) if said["kind"] == "no-quorum" => {
                assert!(said["error"].as_str().is_some_and(|e| e.contains(missing)), "{said}");
                Ok(())
            }
            (200, said) => panic!("both sides decide: {said}"),
            other => Err(format!("{other:?}")),
        }
    });
}

#[test]
fn two_dynamic_nodes_split_and_converge() {
    let lab = Lab::wired(2);
    let nodes = with_table(&lab, 2, r#"{ "newNodeStrategy": "dynamic" }"#);
    writes(&nodes[0], 1);
    equal(&nodes, &[1].into());
    let tie = nodes[0].view().expect("it answers").tie_breaker().map(str::to_owned);
    let (stays, goes) =
        if tie.as_deref() == Some("n1") { (&nodes[0], &nodes[1]) } else { (&nodes[1], &nodes[0]) };
    lab.unplug(2);
    lab.until(stays, "goes on alone", |v| v.servers.len() == 1 && v.no_quorum.is_none());
    refuses(goes, &stays.name);
    assert_eq!(ids(goes), Ok([1].into()), "it reads what it has");
    // The tie-breaker of the shard's log may be the other one: then nobody writes, and it says so.
    let body = json!({ "sql": "INSERT INTO t VALUES (2, 'x')" });
    let alone = eventually("it is clear who may write", SETTLE, || {
        match post(stays, "/db/demo/execute", &body)? {
            (200, _) => Ok(true),
            (400, said) if said["error"].as_str().is_some_and(|e| e.contains("UNIQUE")) => Ok(true),
            (503, said) if said["kind"] == "no-quorum" => Ok(false),
            other => Err(format!("{other:?}")),
        }
    });
    lab.heal();
    lab.one_cluster(&nodes);
    writes(&nodes[1], 3);
    let expected: BTreeSet<i64> = if alone { [1, 2, 3].into() } else { [1, 3].into() };
    equal(&nodes, &expected);
}

#[test]
fn three_static_nodes_split_and_converge() {
    let lab = Lab::wired(3);
    let nodes = with_table(&lab, 3, r#"{ "newNodeStrategy": "static" }"#);
    writes(&nodes[2], 1);
    equal(&nodes, &[1].into());
    lab.unplug(3);
    for id in 2..20 {
        writes(&nodes[usize::try_from(id % 2).unwrap_or(0)], id);
    }
    refuses(&nodes[2], "n1");
    let held = ids(&nodes[2]).expect("it reads what it has");
    assert!(!held.contains(&999) && held.contains(&1), "{held:?}");
    lab.heal();
    lab.one_cluster(&nodes);
    equal(&nodes, &(1..20).collect());
}
