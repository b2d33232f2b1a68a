//! Full copies on real processes: a copy that is gone or damaged comes from another server, while
//! writes go on, and nothing is put aside before its successor is whole.

use std::path::PathBuf;
use std::time::Duration;

use quorate_tests::{Lab, Node, eventually};
use serde_json::json;

use super::databases::{SETTLE, data, equal, post, with_database};

/// Some megabytes of rows.
fn fill(node: &Node, from: i64, count: i64) {
    let rows: Vec<serde_json::Value> = (from..from + count)
        .map(|id| {
            let sql = "INSERT INTO big VALUES (?, hex(randomblob(1000)))";
            json!({ "sql": sql, "args": [id] })
        })
        .collect();
    for some in rows.chunks(200) {
        let body = json!({ "statements": some });
        let answer = post(node, "/db/demo/execute", &body);
        assert_eq!(answer.as_ref().map(|a| a.0), Ok(200), "{answer:?}");
    }
}

fn with_rows(lab: &Lab, count: i64) -> Vec<Node> {
    let nodes = with_database(lab, 3);
    let table = json!({ "sql": "CREATE TABLE big (id INTEGER PRIMARY KEY, v TEXT)" });
    assert_eq!(post(&nodes[0], "/db/demo/execute", &table).map(|a| a.0), Ok(200));
    fill(&nodes[0], 0, count);
    nodes
}

/// The directories of the copies in a node's data directory.
fn generations(node: &Node) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for shard in std::fs::read_dir(node.data.join("shards")).expect("it has shards") {
        for copy in std::fs::read_dir(shard.expect("listed").path()).expect("a directory") {
            found.push(copy.expect("listed").path());
        }
    }
    found.sort();
    found
}

fn backups(node: &Node) -> Vec<PathBuf> {
    let of = node.data.join("backup/databases/demo");
    let Ok(listed) = std::fs::read_dir(of) else { return Vec::new() };
    listed.map(|entry| entry.expect("listed").path()).collect()
}

/// All three copies are online and say the same.
fn whole(lab: &Lab, nodes: &[Node], rows: i64) {
    eventually("all copies are online", SETTLE, || {
        let (_, list) = lab.run(1, &["db", "list", "--data", &data(&nodes[0])]);
        if list.matches("ONLINE").count() == 3 { Ok(()) } else { Err(list) }
    });
    for node in nodes {
        eventually(&format!("{} has all rows", node.name), SETTLE, || {
            let sql = "SELECT count(*), sum(length(v)) FROM big";
            let (code, body) = post(node, "/db/demo/query", &json!({ "sql": sql }))?;
            let row = &body["results"][0]["rows"][0];
            if code == 200 && *row == json!([rows, rows * 2000]) {
                Ok(())
            } else {
                Err(body.to_string())
            }
        });
    }
}

#[test]
fn a_copy_that_is_gone_or_damaged_comes_from_another_server_while_writes_go_on() {
    let lab = Lab::loopback();
    let mut nodes = with_rows(&lab, 2000);
    whole(&lab, &nodes, 2000);
    // Gone.
    assert_eq!(nodes[2].stop(), 0);
    for copy in generations(&nodes[2]) {
        std::fs::remove_dir_all(copy).expect("removed");
    }
    nodes[2].start();
    fill(&nodes[0], 2000, 500);
    whole(&lab, &nodes, 2500);
    let log = nodes[2].log();
    assert!(log.contains("the database file is not there"), "{log}");
    assert!(backups(&nodes[2]).is_empty(), "there was nothing to put away");
    // Damaged: what it was is put away, not removed.
    assert_eq!(nodes[2].stop(), 0);
    let live = generations(&nodes[2]);
    assert_eq!(live.len(), 1, "{live:?}");
    std::fs::write(live[0].join("copy.sqlite"), b"this is no database").expect("written");
    nodes[2].start();
    fill(&nodes[1], 2500, 500);
    whole(&lab, &nodes, 3000);
    eventually("the old copy is put away", Duration::from_secs(10), || {
        let (kept, live) = (backups(&nodes[2]), generations(&nodes[2]));
        if kept.len() == 1 && live.len() == 1 { Ok(()) } else { Err(format!("{kept:?} {live:?}")) }
    });
    let kept = backups(&nodes[2]).remove(0).join("copy.sqlite");
    assert_eq!(std::fs::read(kept).expect("kept"), b"this is no database");
    equal(&nodes, &std::collections::BTreeSet::new());
}

#[test]
fn a_file_of_another_database_in_the_place_of_a_copy_is_not_taken_for_it() {
    let lab = Lab::loopback();
    let mut nodes = with_rows(&lab, 500);
    whole(&lab, &nodes, 500);
    let (code, said) = lab.run(1, &["db", "create", "other", "--data", &data(&nodes[0])]);
    assert_eq!(code, 0, "{said}");
    // The same table, and more rows: only what the file says of itself tells it from the right one.
    for sql in [
        "CREATE TABLE big (id INTEGER PRIMARY KEY, v TEXT)",
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 900) \
         INSERT INTO big SELECT i, hex(randomblob(1000)) FROM n",
    ] {
        let answer = post(&nodes[0], "/db/other/execute", &json!({ "sql": sql }));
        assert_eq!(answer.as_ref().map(|a| a.0), Ok(200), "{answer:?}");
    }
    eventually("all copies are online", SETTLE, || {
        let (_, list) = lab.run(1, &["db", "list", "--data", &data(&nodes[0])]);
        if list.matches("ONLINE").count() == 6 { Ok(()) } else { Err(list) }
    });
    assert_eq!(nodes[2].stop(), 0);
    let live = generations(&nodes[2]);
    let [demo, other] = live.as_slice() else { panic!("{live:?}") };
    assert!(demo.ends_with("shards/1/1") && other.ends_with("shards/2/1"), "{live:?}");
    std::fs::remove_dir_all(demo).expect("removed");
    std::fs::create_dir(demo).expect("made");
    for file in std::fs::read_dir(other).expect("it is there") {
        let file = file.expect("listed");
        std::fs::copy(file.path(), demo.join(file.file_name())).expect("copied");
    }
    nodes[2].start();
    eventually("another copy takes its place", SETTLE, || {
        let (kept, live) = (backups(&nodes[2]), generations(&nodes[2]));
        if kept.len() == 1 && live.len() == 2 { Ok(()) } else { Err(format!("{kept:?} {live:?}")) }
    });
    let log = nodes[2].log();
    assert!(log.contains("the database file is a copy of another shard: it holds log 2"), "{log}");
    equal(&nodes, &std::collections::BTreeSet::new());
    let sql = json!({ "sql": "SELECT count(*) FROM big" });
    let (_, body) = post(&nodes[2], "/db/demo/query", &sql).expect("it answers");
    assert_eq!(body["results"][0]["rows"][0], json!([500]));
}

#[test]
fn a_whole_copy_is_fetched_by_command_and_a_backup_is_an_ordinary_database() {
    let lab = Lab::loopback();
    let nodes = with_rows(&lab, 500);
    whole(&lab, &nodes, 500);
    let of = data(&nodes[1]);
    let (code, said) = lab.run(1, &["sync", "demo", "--data", &of]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("demo/main is up to date"), "{said}");
    let (code, said) = lab.run(1, &["sync", "demo", "--full", "--data", &of]);
    assert!(code == 0 && said.contains("is up to date"), "{said}");
    assert_eq!(generations(&nodes[1]).len(), 1);
    let (code, said) = lab.run(1, &["sync", "demo", "--full", "--force", "--data", &of]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("copied whole"), "{said}");
    eventually("the old copy is put away", Duration::from_secs(10), || {
        let (kept, live) = (backups(&nodes[1]), generations(&nodes[1]));
        if kept.len() == 1 && live.len() == 1 { Ok(()) } else { Err(format!("{kept:?} {live:?}")) }
    });
    whole(&lab, &nodes, 500);
    let (code, said) = lab.run(1, &["verify", "demo", "--data", &of]);
    assert_eq!(code, 0, "{said}");
    let (code, said) = lab.run(1, &["sync", "other", "--data", &of]);
    assert!(code != 0 && said.contains("there is no database 'other'"), "{code} {said}");
    let (code, said) = lab.run(1, &["sync", "demo", "--shard", "no", "--data", &of]);
    assert!(code != 0 && said.contains("no shard 'no'"), "{code} {said}");
    // A backup, and what it refuses.
    let file = lab.path("demo.sqlite").display().to_string();
    let (code, said) = lab.run(1, &["backup", "demo", &file, "--data", &of]);
    assert_eq!(code, 0, "{said}");
    let head = std::fs::read(&file).expect("it is written");
    assert!(head.starts_with(b"SQLite format 3\0"), "{} bytes", head.len());
    assert!(head.len() > 500 * 2000, "{} bytes", head.len());
    let (code, said) = lab.run(1, &["backup", "demo", &file, "--data", &of]);
    assert!(code == 2 && said.contains("is there already"), "{code} {said}");
    let (code, said) = lab.run(1, &["backup", "other", "x.sqlite", "--data", &of]);
    assert!(code != 0 && said.contains("there is no database 'other'"), "{code} {said}");
    let (code, said) = lab.run(1, &["backup", "demo/no", "x.sqlite", "--data", &of]);
    assert!(code != 0 && said.contains("no shard 'no'"), "{code} {said}");
}
