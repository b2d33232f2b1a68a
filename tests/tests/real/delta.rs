//! Delta on real processes: whoever was away gets what it lacks from the owner's log on disk.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use quorate_tests::{Lab, Node, eventually, resident_kb};
use serde_json::{Value, json};

use super::databases::{data, post, with_database};

/// So many rows of some two kilobytes, 400 a transaction.
fn fill(node: &Node, from: i64, count: i64) {
    let rows: Vec<Value> = (from..from + count)
        .map(|id| json!({ "sql": "INSERT INTO big VALUES (?, hex(randomblob(1000)))", "args": [id] }))
        .collect();
    for some in rows.chunks(400) {
        let answer = post(node, "/db/demo/execute", &json!({ "statements": some }));
        assert_eq!(answer.as_ref().map(|a| a.0), Ok(200), "{answer:?}");
    }
}

fn count(node: &Node) -> Result<i64, String> {
    let sql = json!({ "sql": "SELECT count(*), coalesce(sum(length(v)), 0) FROM big" });
    let (code, body) = post(node, "/db/demo/query", &sql)?;
    let row = &body["results"][0]["rows"][0];
    match (code, row[0].as_i64(), row[1].as_i64()) {
        (200, Some(rows), Some(bytes)) if bytes == rows * 2000 => Ok(rows),
        _ => Err(body.to_string()),
    }
}

fn has(node: &Node, rows: i64, limit: Duration) {
    eventually(&format!("{} has all rows", node.name), limit, || match count(node)? {
        held if held == rows => Ok(()),
        held => Err(format!("{held} of {rows} rows")),
    });
}

fn files(dir: PathBuf, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.path() {
            path if path.is_dir() => files(path, found),
            path => found.push(path),
        }
    }
}

fn log_mib(node: &Node) -> u64 {
    let mut found = Vec::new();
    files(node.data.join("log"), &mut found);
    found.iter().filter_map(|path| path.metadata().ok()).map(|m| m.len()).sum::<u64>() >> 20
}

/// The generation of each copy in a node's data directory.
fn generations(node: &Node) -> Vec<PathBuf> {
    let mut found = Vec::new();
    files(node.data.join("shards"), &mut found);
    let mut dirs: Vec<PathBuf> =
        found.iter().filter_map(|path| path.parent().map(PathBuf::from)).collect();
    dirs.sort();
    dirs.dedup();
    dirs
}

fn with_rows(lab: &Lab, rows: i64) -> Vec<Node> {
    let nodes = with_database(lab, 3);
    let table = json!({ "sql": "CREATE TABLE big (id INTEGER PRIMARY KEY, v TEXT)" });
    assert_eq!(post(&nodes[0], "/db/demo/execute", &table).map(|a| a.0), Ok(200));
    fill(&nodes[0], 0, rows);
    for node in &nodes {
        has(node, rows, Duration::from_secs(60));
    }
    eventually("all copies are online", Duration::from_secs(30), || {
        let (_, list) = lab.run(1, &["db", "list", "--data", &data(&nodes[0])]);
        if list.matches("ONLINE").count() == 3 { Ok(()) } else { Err(list) }
    });
    nodes
}

/// Ends one node, writes so many rows, starts it again; says how long it took to have them.
fn away(nodes: &mut [Node], from: i64, rows: i64) -> Duration {
    let before = generations(&nodes[2]);
    nodes[2].kill();
    fill(&nodes[0], from, rows);
    let begun = Instant::now();
    nodes[2].start();
    has(&nodes[2], from + rows, Duration::from_secs(120));
    let took = begun.elapsed();
    assert_eq!(generations(&nodes[2]), before, "it is the same copy still");
    took
}

fn tell(nodes: &[Node], when: &str) {
    for node in nodes {
        let (resident, log) = (resident_kb(node.id()) / 1024, log_mib(node));
        println!("{when}: {} has {resident} MiB resident, its logs take {log} MiB", node.name);
    }
}

#[test]
fn a_node_that_was_away_while_more_was_written_than_memory_keeps_catches_up_from_the_log() {
    let lab = Lab::loopback();
    let mut nodes = with_rows(&lab, 1000);
    tell(&nodes, "before");
    // Of the log some eight megabytes stay in memory.
    let took = away(&mut nodes, 1000, 10_000);
    println!("20 MB of delta in {} ms, the start of the node included", took.as_millis());
    tell(&nodes, "after");
    // And from the disk alone, when everybody has been started again.
    nodes[2].kill();
    fill(&nodes[0], 11_000, 6000);
    nodes[..2].iter_mut().for_each(Node::kill);
    nodes.iter_mut().for_each(Node::start);
    for node in &nodes {
        has(node, 17_000, Duration::from_secs(60));
    }
    for node in &nodes {
        let of = node.data.join("backup/databases");
        assert!(!of.exists(), "{}: no copy was replaced", node.name);
    }
}

#[test]
#[ignore = "figures: takes minutes and 4 GB of disk"]
fn figures_memory_after_a_gigabyte_and_the_pace_of_delta() {
    let lab = Lab::loopback();
    let mut nodes = with_rows(&lab, 400);
    let mut rows = 400;
    for part in 1..=5 {
        fill(&nodes[0], rows, 100_000);
        rows += 100_000;
        tell(&nodes, &format!("{} MB written", part * 200));
    }
    let took = away(&mut nodes, rows, 20_000);
    let pace = 20_000.0 / took.as_secs_f64();
    println!("delta of 20,000 rows of 2 kB: {} ms, {pace:.0} rows/s", took.as_millis());
    tell(&nodes, "after the delta");
}
