//! Which copies come to whom, on real processes: not without being asked where `autoDeploy` is off, the
//! parts of a sharded database from several servers at once, and what stays of those before.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use quorate_tests::{Door, Lab, Node, eventually};
use serde_json::{Value, json};

use super::databases::{SETTLE, data, equal, post, sql, with_database};

/// What is said of the copies of one server.
fn copies_of(at: &Node, server: &str) -> Result<Vec<Value>, String> {
    let (_, copies) = at.get("/db/demo/copies")?;
    let all = copies.as_array().ok_or_else(|| copies.to_string())?;
    Ok(all.iter().filter(|copy| copy["server"] == server).cloned().collect())
}

fn all_online(at: &Node, count: usize) {
    eventually("all copies are online", SETTLE, || {
        let (_, copies) = at.get("/db/demo/copies")?;
        let online = |copy: &&Value| copy["status"] == "ONLINE" && copy["state"] == "whole";
        let found = copies.as_array().map_or(0, |all| all.iter().filter(online).count());
        if found == count { Ok(()) } else { Err(copies.to_string()) }
    });
}

#[test]
fn without_auto_deploy_a_joining_server_holds_nothing_until_it_is_asked_for() {
    let lab = Lab::loopback();
    let config = lab.file("manual.json", r#"{ "autoDeploy": false }"#);
    let mut nodes = lab.nodes(3);
    nodes[..2].iter_mut().for_each(Node::start);
    lab.one_cluster(&nodes[..2]);
    let create = ["db", "create", "demo", "--db-config", &config, "--data", &data(&nodes[0])];
    let (code, said) = lab.run(1, &create);
    assert_eq!(code, 0, "{said}");
    let table = "CREATE TABLE t (id INTEGER PRIMARY KEY, writer INTEGER, number INTEGER)";
    let (code, said) = sql(&lab, &nodes[0], "demo", table);
    assert_eq!(code, 0, "{said}");
    for id in 0..20 {
        let body = json!({ "sql": "INSERT INTO t VALUES (?, 0, 0)", "args": [id] });
        assert_eq!(post(&nodes[1], "/db/demo/execute", &body).map(|a| a.0), Ok(200));
    }
    nodes[2].start();
    lab.one_cluster(&nodes);
    // Long enough for any copy of this size to have come.
    for _ in 0..15 {
        std::thread::sleep(Duration::from_millis(200));
        let own = copies_of(&nodes[0], "n3").expect("it answers");
        let held = |copy: &Value| copy["applied"].as_u64().unwrap_or(0) > 0;
        assert!(own.iter().all(|copy| copy["status"] == "NOT_AVAILABLE" && !held(copy)), "{own:?}");
    }
    // Others hold it all the same, and it can be asked for through this one.
    let through =
        post(&nodes[2], "/db/demo/execute", &json!({ "sql": "INSERT INTO t VALUES (20, 0, 0)" }));
    assert_eq!(through.as_ref().map(|a| a.0), Ok(200), "{through:?}");
    let (code, said) = lab.run(1, &["sync", "demo", "--data", &data(&nodes[2])]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("autoDeploy is off"), "{said}");
    all_online(&nodes[0], 3);
    equal(&nodes, &(0..21).collect());
    // Once it is there it follows as any other, over restarts too.
    nodes[2].kill();
    let body = json!({ "sql": "INSERT INTO t VALUES (21, 0, 0)" });
    eventually("the others write", SETTLE, || match post(&nodes[0], "/db/demo/execute", &body)? {
        (200, _) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    nodes[2].start();
    equal(&nodes, &(0..22).collect());
}

/// What has been put away of a database, oldest first.
fn backups(node: &Node) -> Vec<PathBuf> {
    let Ok(listed) = std::fs::read_dir(node.data.join("backup/databases/demo")) else {
        return Vec::new();
    };
    let mut found: Vec<PathBuf> = listed.flatten().map(|entry| entry.path()).collect();
    found.sort();
    found
}

/// Opens what was put away as anybody would, and counts.
fn opened(backup: &std::path::Path) -> i64 {
    let file = backup.join("copy.sqlite");
    let connection = rusqlite::Connection::open(file).expect("it can be opened");
    let sound: String =
        connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("checked");
    assert_eq!(sound, "ok", "{}", backup.display());
    connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).expect("counted")
}

#[test]
fn what_is_put_away_by_whole_copies_and_by_a_drop_is_complete_and_three_are_kept() {
    let lab = Lab::loopback();
    let nodes = with_database(&lab, 3);
    let mut next = 0;
    for round in 1..=5 {
        for _ in 0..10 {
            let body = json!({ "sql": "INSERT INTO t VALUES (?, 0, 0)", "args": [next] });
            assert_eq!(post(&nodes[0], "/db/demo/execute", &body).map(|a| a.0), Ok(200));
            next += 1;
        }
        equal(&nodes, &(0..next).collect());
        all_online(&nodes[0], 3);
        let args = ["sync", "demo", "--full", "--force", "--data", &data(&nodes[1])];
        let (code, said) = lab.run(1, &args);
        assert_eq!(code, 0, "{said}");
        eventually("the old copy is put away", SETTLE, || {
            let kept = backups(&nodes[1]);
            let last = kept.last().map(|path| path.display().to_string()).unwrap_or_default();
            let wanted = format!("-main-{round}");
            if kept.len() == round.min(3) && last.ends_with(&wanted) {
                return Ok(());
            }
            Err(format!("{kept:?}"))
        });
    }
    // Each as it was when another took its place: whole, and older than what came.
    let counts: Vec<i64> = backups(&nodes[1]).iter().map(|backup| opened(backup)).collect();
    assert_eq!(counts, [30, 40, 50]);
    assert!(backups(&nodes[0]).is_empty(), "nothing was replaced there");
    equal(&nodes, &(0..next).collect());
    let (code, said) = lab.run(1, &["db", "drop", "demo", "--data", &data(&nodes[2])]);
    assert_eq!(code, 0, "{said}");
    for (at, node) in nodes.iter().enumerate() {
        let kept = eventually("the dropped one is put away", SETTLE, || {
            let kept = backups(node);
            let shards = std::fs::read_dir(node.data.join("shards")).map_or(0, Iterator::count);
            let count = if at == 1 { 3 } else { 1 };
            if kept.len() == count && shards == 0 { Ok(kept) } else { Err(format!("{kept:?}")) }
        });
        assert_eq!(opened(kept.last().expect("one at least")), next, "{}", node.name);
    }
}

#[test]
fn a_joining_server_fetches_its_parts_from_different_donors_at_once() {
    let lab = Lab::loopback();
    let config = lab.file(
        "sharded.json",
        r#"{ "clusters": { "*": { "servers": ["<NEW_NODE>"] },
        "one": { "servers": ["<NEW_NODE>"] }, "two": { "servers": ["<NEW_NODE>"] } } }"#,
    );
    let mut nodes = lab.nodes(4);
    nodes[..3].iter_mut().for_each(Node::start);
    lab.one_cluster(&nodes[..3]);
    let create = ["db", "create", "demo", "--db-config", &config, "--data", &data(&nodes[0])];
    let (code, said) = lab.run(1, &create);
    assert_eq!(code, 0, "{said}");
    let shards = ["main", "one", "two"];
    let write = |shard: &str| {
        let door = Door::to(&nodes[0]);
        let path = format!("/db/demo/execute?shard={shard}");
        let run = |sql: &str| {
            let answer = door.post(&path, &json!({ "sql": sql }));
            assert_eq!(answer.as_ref().map(|a| a.0), Ok(200), "{answer:?}");
        };
        run("CREATE TABLE t (id INTEGER PRIMARY KEY, v BLOB)");
        // More entries than a new copy would follow one by one, and enough for a transfer to last.
        for _ in 0..1050 {
            run("INSERT INTO t (v) VALUES (randomblob(15000))");
        }
    };
    let write = &write;
    std::thread::scope(|scope| {
        for shard in shards {
            scope.spawn(move || write(shard));
        }
    });
    all_online(&nodes[0], 9);
    nodes[3].start();
    all_online(&nodes[0], 12);
    let log = nodes[3].log();
    let lines = |words: &str| -> Vec<(usize, String, String)> {
        let of = |line: &str, name: &str| {
            let rest = line.split_once(&format!(" {name}="))?.1;
            Some(rest.split_whitespace().next()?.trim_matches('"').to_owned())
        };
        let found = log.lines().enumerate().filter(|(_, line)| line.contains(words));
        found.filter_map(|(at, line)| Some((at, of(line, "shard")?, of(line, "donor")?))).collect()
    };
    let (begun, done) = (lines("a whole copy is fetched"), lines("a whole copy has come"));
    let fetched: BTreeSet<&str> = begun.iter().map(|(_, shard, _)| shard.as_str()).collect();
    assert_eq!(fetched, shards.into(), "{log}");
    let donors: BTreeSet<&str> = done.iter().map(|(_, _, donor)| donor.as_str()).collect();
    assert!(donors.len() >= 2, "the parts came from {donors:?}\n{log}");
    let first_done = done.iter().map(|(at, ..)| *at).min().expect("they came");
    let before = begun.iter().filter(|(at, ..)| *at < first_done).count();
    assert!(before >= 2, "one after the other\n{log}");
    for shard in shards {
        let path = format!("/db/demo/query?shard={shard}");
        let count = json!({ "sql": "SELECT count(*) FROM t", "consistency": "local" });
        let (code, body) = post(&nodes[3], &path, &count).expect("it answers");
        assert_eq!((code, &body["results"][0]["rows"][0][0]), (200, &json!(1050)), "{body}");
    }
}
