//! Clusters of one server that bring their databases, on real processes.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use quorate_tests::{Lab, Node, eventually};
use serde_json::{Value, json};

use super::databases::{SETTLE, data, post};

const TABLE: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)";

/// Nodes that were started where they do not see each other, in groups of these sizes.
fn apart(lab: &Lab, groups: &[usize]) -> Vec<Node> {
    let count = groups.iter().sum();
    let mut nodes = lab.nodes(count);
    for number in 1..=count {
        lab.unplug(number);
    }
    let mut first = 0;
    for size in groups {
        let group = first..first + size;
        if *size > 1 {
            let numbers: Vec<usize> = group.clone().map(|place| place + 1).collect();
            lab.cut(&numbers);
        }
        nodes[group.clone()].iter_mut().for_each(Node::start);
        lab.one_cluster(&nodes[group]);
        first += size;
    }
    nodes
}

fn run(node: &Node, database: &str, sql: &str) {
    let answer = post(node, &format!("/db/{database}/execute"), &json!({ "sql": sql }));
    assert_eq!(answer.as_ref().map(|a| a.0), Ok(200), "{}: {answer:?}", node.name);
}

/// A database with these rows.
fn make(lab: &Lab, nodes: &[Node], at: usize, name: &str, rows: std::ops::Range<i64>) {
    let node = &nodes[at];
    let (code, said) = lab.run(at + 1, &["db", "create", name, "--data", &data(node)]);
    assert_eq!(code, 0, "{said}");
    run(node, name, TABLE);
    for id in rows {
        run(node, name, &format!("INSERT INTO t VALUES ({id}, '{name}')"));
    }
}

/// The rows that the node's own copy has.
fn held(node: &Node, database: &str) -> Result<BTreeSet<i64>, String> {
    let body = json!({ "sql": "SELECT id FROM t" });
    let (code, said) = post(node, &format!("/db/{database}/query"), &body)?;
    if code != 200 {
        return Err(format!("{code}: {said}"));
    }
    let rows = said["results"][0]["rows"].as_array().cloned().unwrap_or_default();
    Ok(rows.iter().filter_map(|row| row[0].as_i64()).collect())
}

fn all_hold(nodes: &[Node], database: &str, test: impl Fn(&BTreeSet<i64>) -> bool) {
    for node in nodes {
        eventually(&format!("{} has all of {database}", node.name), SETTLE, || {
            let held = held(node, database)?;
            if test(&held) { Ok(()) } else { Err(format!("{} rows", held.len())) }
        });
    }
}

fn verified(lab: &Lab, node: &Node, database: &str) {
    eventually(&format!("all copies of {database} are equal"), SETTLE, || {
        let args = ["verify", database, "--timeout", "5", "--data", &data(node)];
        match lab.run(1, &args) {
            (0, _) => Ok(()),
            (code, said) => Err(format!("{code} {said}")),
        }
    });
}

#[test]
fn three_nodes_with_different_local_databases_end_with_all_of_them_everywhere() {
    let lab = Lab::wired(3);
    let nodes = apart(&lab, &[1, 1, 1]);
    let names = ["africa", "berlin", "china"];
    for (at, name) in names.iter().enumerate() {
        make(&lab, &nodes, at, name, 0..20);
    }
    let over = AtomicBool::new(false);
    let mut acked: Vec<BTreeSet<i64>> = Vec::new();
    std::thread::scope(|scope| {
        let writers: Vec<_> = nodes
            .iter()
            .zip(names)
            .map(|(node, name)| {
                let over = &over;
                scope.spawn(move || {
                    let mut acked = BTreeSet::new();
                    for id in 1000.. {
                        if over.load(Ordering::Relaxed) {
                            break;
                        }
                        let sql = format!("INSERT INTO t VALUES ({id}, 'w')");
                        let path = format!("/db/{name}/execute");
                        if let Ok((200, _)) = post(node, &path, &json!({ "sql": sql })) {
                            acked.insert(id);
                        }
                    }
                    acked
                })
            })
            .collect();
        lab.heal();
        let one = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            lab.one_cluster(&nodes);
            std::thread::sleep(Duration::from_secs(1));
        }));
        over.store(true, Ordering::Relaxed);
        acked = writers.into_iter().map(|w| w.join().expect("a writer")).collect();
        if let Err(panic) = one {
            std::panic::resume_unwind(panic);
        }
    });
    for (name, acked) in names.iter().zip(&acked) {
        let first: BTreeSet<i64> = (0..20).collect();
        all_hold(&nodes, name, |held| held.is_superset(&first) && held.is_superset(acked));
        assert!(acked.len() > 20, "{name}: {} writes in all this time", acked.len());
        verified(&lab, &nodes[0], name);
    }
    // Each is written through any.
    for (number, node) in nodes.iter().enumerate() {
        for name in names {
            run(node, name, &format!("INSERT INTO t VALUES ({}, 'after')", -1 - number as i64));
        }
    }
    for name in names {
        all_hold(&nodes, name, |held| (-3..0).all(|id| held.contains(&id)));
    }
    let (code, said) = lab.run(1, &["db", "list", "--data", &data(&nodes[0])]);
    assert!(code == 0 && names.iter().all(|name| said.contains(name)), "{said}");
}

fn clashes(node: &Node) -> Result<Vec<Value>, String> {
    let (_, status) = node.get("/status")?;
    Ok(status["clashes"].as_array().cloned().unwrap_or_default())
}

#[test]
fn a_name_clash_stays_a_split_that_says_what_to_do_and_ends_when_it_is_done() {
    let lab = Lab::wired(3);
    let nodes = apart(&lab, &[2, 1]);
    make(&lab, &nodes, 0, "demo", 0..5);
    make(&lab, &nodes, 2, "demo", 100..105);
    make(&lab, &nodes, 2, "solo", 0..5);
    lab.heal();
    for (number, node) in nodes.iter().enumerate() {
        eventually(&format!("{} sees the clash", node.name), SETTLE, || {
            let said = clashes(node)?;
            let why = said.first().and_then(|clash| clash[1].as_str()).unwrap_or_default();
            let names = why.contains("demo") && !why.contains("solo") && why.contains("drop");
            if names { Ok(()) } else { Err(format!("{said:?}")) }
        });
        let (_, table) = lab.run(number + 1, &["status", "--data", &data(node)]);
        assert!(table.contains("SPLIT") && table.contains("demo"), "{table}");
    }
    run(&nodes[0], "demo", "INSERT INTO t VALUES (6, 'here')");
    run(&nodes[2], "demo", "INSERT INTO t VALUES (106, 'there')");
    let (code, said) = lab.run(3, &["db", "drop", "demo", "--data", &data(&nodes[2])]);
    assert_eq!(code, 0, "{said}");
    lab.one_cluster(&nodes);
    all_hold(&nodes, "solo", |held| *held == (0..5).collect());
    all_hold(&nodes, "demo", |held| held.contains(&6) && !held.contains(&106));
    // What was seen of the other cluster is forgotten after a moment.
    eventually("nobody speaks of the clash any more", SETTLE, || {
        let said = clashes(&nodes[0])?;
        if said.is_empty() { Ok(()) } else { Err(format!("{said:?}")) }
    });
}

/// Whether something lies in a directory whose name begins so, at this depth.
fn lies_there(dir: &Path, depth: usize, mark: &str) -> bool {
    let Ok(entries) = std::fs::read_dir(dir) else { return false };
    entries.flatten().any(|entry| match depth {
        0 => entry.file_name().to_string_lossy().starts_with(mark),
        _ => lies_there(&entry.path(), depth - 1, mark),
    })
}

#[test]
fn a_kill_in_the_middle_of_bringing_resumes_at_every_step() {
    // What is there when it is killed: the note, the old directory put aside, the copy on its way to
    // its place, the copy in its place.
    let moments: [(&str, usize, &str); 4] = [
        ("", 0, "FOLLOWS"),
        ("backup/clusters", 0, "2"),
        ("shards", 1, "placing-"),
        ("shards", 1, "1"),
    ];
    for (under, depth, mark) in moments {
        let lab = Lab::wired(3);
        let mut nodes = apart(&lab, &[2, 1]);
        make(&lab, &nodes, 0, "demo", 0..5);
        make(&lab, &nodes, 2, "solo", 0..0);
        let fill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400)
             INSERT INTO t (v) SELECT hex(randomblob(2000)) FROM n";
        for _ in 0..20 {
            run(&nodes[2], "solo", fill);
        }
        lab.heal();
        let dir = nodes[2].data.join(under);
        let seen = || match mark {
            // The old copy has the same name: it must be the one beside what was put aside.
            "1" => {
                lies_there(&nodes[2].data.join("backup/clusters"), 0, "2")
                    && lies_there(&dir, depth, mark)
            }
            _ => lies_there(&dir, depth, mark),
        };
        let until = Instant::now() + Duration::from_secs(30);
        while !seen() {
            assert!(Instant::now() < until, "{mark} never was there: {}", nodes[2].log());
            std::thread::sleep(Duration::from_micros(200));
        }
        nodes[2].kill();
        std::thread::sleep(Duration::from_millis(300));
        nodes[2].start();
        lab.one_cluster(&nodes);
        all_hold(&nodes, "solo", |held| held.len() == 8_000);
        all_hold(&nodes, "demo", |held| held.len() == 5);
        verified(&lab, &nodes[0], "solo");
        run(&nodes[1], "solo", "INSERT INTO t VALUES (1000000, 'after')");
        all_hold(&nodes, "solo", |held| held.len() == 8_001);
        assert!(!nodes[2].data.join("FOLLOWS").exists());
    }
}
