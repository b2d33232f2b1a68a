//! Databases on real processes: made on one, written through any, kept by all.

use std::collections::BTreeSet;
use std::time::Duration;

use quorate_tests::{Lab, Node, eventually};
use serde_json::{Value, json};

pub(super) const SETTLE: Duration = Duration::from_secs(30);

/// A cluster of `count` with the database `demo` and a table in it.
pub(super) fn with_database(lab: &Lab, count: usize) -> Vec<Node> {
    let mut nodes = lab.nodes(count);
    nodes.iter_mut().for_each(Node::start);
    lab.one_cluster(&nodes);
    let (code, said) =
        lab.run(count, &["db", "create", "demo", "--data", &data(&nodes[count - 1])]);
    assert_eq!(code, 0, "{said}");
    let table = "CREATE TABLE t (id INTEGER PRIMARY KEY, writer INTEGER, number INTEGER)";
    let (code, said) = sql(lab, &nodes[0], "demo", table);
    assert_eq!(code, 0, "{said}");
    nodes
}

pub(super) fn data(node: &Node) -> String {
    node.data.display().to_string()
}

pub(super) fn sql(lab: &Lab, node: &Node, database: &str, statement: &str) -> (i32, String) {
    lab.run(1, &["sql", database, statement, "--data", &data(node)])
}

/// What HTTP answers to a transaction: the code, and the body.
pub(super) fn post(node: &Node, path: &str, body: &Value) -> Result<(u16, Value), String> {
    let token =
        std::fs::read_to_string(node.data.join("admin.token")).map_err(|e| e.to_string())?;
    let (token, body) = (token.trim(), body.to_string());
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    let answer = node.exchange(request.as_bytes(), Duration::from_secs(20))?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or("no code")?;
    Ok((code, serde_json::from_str(body).unwrap_or(Value::Null)))
}

/// Ids that are asked for in one request.
const IDS_AT_ONCE: usize = 50_000;

/// The rows that the node's own copy has.
pub(super) fn rows(node: &Node, statement: &str) -> Result<Vec<Value>, String> {
    let (code, body) = post(node, "/db/demo/query", &json!({ "sql": statement }))?;
    if code != 200 {
        return Err(format!("{code}: {body}"));
    }
    Ok(body["results"][0]["rows"].as_array().cloned().unwrap_or_default())
}

/// All that the node's own copy has, asked for in parts: an answer is bounded.
pub(super) fn ids(node: &Node) -> Result<BTreeSet<i64>, String> {
    let mut all = BTreeSet::new();
    let mut last = i64::MIN;
    loop {
        let sql = format!("SELECT id FROM t WHERE id > {last} ORDER BY id LIMIT {IDS_AT_ONCE}");
        let part: Vec<i64> = rows(node, &sql)?.iter().filter_map(|row| row[0].as_i64()).collect();
        all.extend(&part);
        match part.last() {
            Some(id) if part.len() == IDS_AT_ONCE => last = *id,
            _ => return Ok(all),
        }
    }
}

pub(super) fn equal(nodes: &[Node], expected: &BTreeSet<i64>) {
    for node in nodes {
        eventually(&format!("{} has all", node.name), SETTLE, || {
            let held = ids(node)?;
            if held == *expected {
                return Ok(());
            }
            let missing: Vec<_> = expected.difference(&held).take(5).collect();
            Err(format!("{} rows of {}, without {missing:?}", held.len(), expected.len()))
        });
    }
}

#[test]
fn basic_three_servers_with_five_writers_each_and_a_hundred_records() {
    let lab = Lab::loopback();
    let nodes = with_database(&lab, 3);
    std::thread::scope(|scope| {
        for (server, node) in nodes.iter().enumerate() {
            for writer in 0..5 {
                scope.spawn(move || {
                    for number in 0..100 {
                        let id = (server * 5 + writer) * 100 + number;
                        let body = json!({
                            "sql": "INSERT INTO t VALUES (?, ?, ?)",
                            "args": [id, writer, number],
                        });
                        let answer = post(node, "/db/demo/execute", &body);
                        assert_eq!(answer.as_ref().map(|a| a.0), Ok(200), "{answer:?}");
                    }
                });
            }
        }
    });
    equal(&nodes, &(0..1500).collect());
}

#[test]
fn a_database_created_on_one_node_appears_on_all_and_one_that_joins_later_gets_it() {
    let lab = Lab::loopback();
    let mut nodes = with_database(&lab, 2);
    let (code, said) = sql(&lab, &nodes[1], "demo", "INSERT INTO t VALUES (1, 1, 1)");
    assert_eq!(code, 0, "{said}");
    nodes.push(lab.node(3));
    nodes[2].start();
    lab.one_cluster(&nodes);
    equal(&nodes, &[1].into());
    eventually("all copies are online", SETTLE, || {
        let (_, list) = lab.run(1, &["db", "list", "--data", &data(&nodes[2])]);
        if list.matches("ONLINE").count() == 3 { Ok(()) } else { Err(list) }
    });
    let (code, said) = lab.run(1, &["db", "drop", "demo", "--data", &data(&nodes[2])]);
    assert_eq!(code, 0, "{said}");
    eventually("it is gone everywhere", SETTLE, || {
        let (code, said) = sql(&lab, &nodes[0], "demo", "SELECT 1");
        if code == 1 && said.contains("there is no database 'demo'") { Ok(()) } else { Err(said) }
    });
}

#[test]
fn the_writers_server_is_killed_and_every_acknowledged_write_is_on_all() {
    let lab = Lab::loopback();
    let mut nodes = with_database(&lab, 3);
    let mut acknowledged = BTreeSet::new();
    let mut unknown = BTreeSet::new();
    for id in 0..500_i64 {
        if id == 150 {
            // Its clients ask another one; it is the owner for one or the other of the kills.
            nodes[0].kill();
        }
        if id == 300 {
            nodes[0].start();
            nodes[1].kill();
        }
        if id == 400 {
            nodes[1].start();
        }
        let body = json!({ "sql": "INSERT INTO t VALUES (?, 0, 0)", "args": [id] });
        match post(&nodes[2], "/db/demo/execute", &body).expect("the node answers") {
            (200, _) => {
                acknowledged.insert(id);
            }
            (504, _) => {
                unknown.insert(id);
            }
            // While two of three come back at once there may be no quorum for a moment.
            (503, _) if (300..400).contains(&id) => {}
            other => panic!("{id}: {other:?}"),
        }
    }
    assert!(unknown.len() <= 2, "{unknown:?}");
    assert!(acknowledged.len() >= 490, "{}", acknowledged.len());
    let reference = eventually("the last node answers", SETTLE, || ids(&nodes[2]));
    let lost: Vec<_> = acknowledged.difference(&reference).collect();
    assert!(lost.is_empty(), "acknowledged and not there: {lost:?}");
    assert!(reference.difference(&acknowledged).all(|id| unknown.contains(id)));
    equal(&nodes, &reference);
}

#[test]
fn two_of_three_down_refuses_and_names_the_missing_and_a_staged_restart_recovers() {
    let lab = Lab::loopback();
    let mut nodes = with_database(&lab, 3);
    let (code, said) = sql(&lab, &nodes[0], "demo", "INSERT INTO t VALUES (1, 1, 1)");
    assert_eq!(code, 0, "{said}");
    nodes[1].kill();
    nodes[2].kill();
    // What it takes before it knows that they are gone may be done or not: so it says.
    let body = json!({ "sql": "INSERT OR REPLACE INTO t VALUES (2, 2, 2)", "timeout_ms": 2000 });
    let said =
        eventually("it refuses", SETTLE, || match post(&nodes[0], "/db/demo/execute", &body)? {
            (503, said) => Ok(said),
            (504, said) if said["outcome"] == "unknown" => Err(said.to_string()),
            other => panic!("{other:?}"),
        });
    let error = said["error"].as_str().unwrap_or_default();
    assert!(error.contains("n2") && error.contains("n3"), "{said}");
    assert_eq!(said["outcome"], "nothing-done");
    nodes[2].start();
    eventually("two of three write", SETTLE, || {
        let (code, said) =
            sql(&lab, &nodes[2], "demo", "INSERT OR REPLACE INTO t VALUES (3, 3, 3)");
        if code == 0 { Ok(()) } else { Err(said) }
    });
    nodes[1].start();
    let held = eventually("the one that wrote answers", SETTLE, || ids(&nodes[2]));
    assert!(held.is_superset(&[1, 3].into()), "{held:?}");
    equal(&nodes, &held);
}

#[test]
fn each_shard_is_a_file_only_where_it_belongs_and_works_while_its_holders_are_there() {
    let lab = Lab::loopback();
    let mut nodes: Vec<Node> = ["usa", "europe", "china"].map(|name| lab.named(name, 1)).into();
    nodes.iter_mut().for_each(Node::start);
    lab.one_cluster(&nodes);
    let config = lab.file(
        "sharded.json",
        r#"{ "servers": { "*": "master" }, "clusters": {
            "client_usa": { "servers": ["usa", "europe"] },
            "client_europe": { "servers": ["europe"] },
            "client_china": { "servers": ["china", "usa", "europe"] },
            "*": { "servers": ["<NEW_NODE>"] } } }"#,
    );
    let create = ["db", "create", "world", "--db-config", &config, "--data", &data(&nodes[2])];
    let (code, said) = lab.run(1, &create);
    assert_eq!(code, 0, "{said}");
    for shard in ["client_usa", "client_europe", "client_china"] {
        let at = format!("world/{shard}");
        let (code, said) = sql(&lab, &nodes[2], &at, "CREATE TABLE c (id INTEGER PRIMARY KEY)");
        assert_eq!(code, 0, "{shard}: {said}");
    }
    let files =
        |node: &Node| std::fs::read_dir(node.data.join("shards")).map_or(0, Iterator::count);
    // `main` is everywhere besides.
    let expected = [3, 4, 2];
    for (node, expected) in nodes.iter().zip(expected) {
        eventually(&format!("{} has {expected} files", node.name), SETTLE, || match files(node) {
            count if count == expected => Ok(()),
            count => Err(format!("{count} files")),
        });
    }
    nodes[1].kill();
    let body = json!({ "sql": "INSERT INTO c VALUES (1)", "timeout_ms": 3000 });
    let path = |shard: &str| format!("/db/world/execute?shard={shard}");
    // What was sent before the end of the connection was noticed has no known outcome.
    let ask = || match post(&nodes[0], &path("client_europe"), &body)? {
        (504, said) => Err(said.to_string()),
        told => Ok(told),
    };
    let (code, said) = eventually("the lost connection is noticed", SETTLE, ask);
    assert_eq!(code, 503, "{said}");
    assert!(said["error"].as_str().is_some_and(|e| e.contains("europe")), "{said}");
    let body = json!({ "sql": "INSERT INTO c VALUES (1)" });
    let (code, said) = post(&nodes[0], &path("client_china"), &body).expect("it answers");
    assert_eq!(code, 200, "the others work: {said}");
    nodes[1].start();
    eventually("it is intact", SETTLE, || {
        let (code, said) = post(&nodes[0], &path("client_europe"), &body)?;
        if code == 200 { Ok(()) } else { Err(said.to_string()) }
    });
}

#[test]
fn what_sql_gets_wrong_is_named_and_nothing_is_left_of_it() {
    let lab = Lab::loopback();
    let nodes = with_database(&lab, 1);
    let at = data(&nodes[0]);
    let run = |args: &[&str]| lab.run(1, &[args, &["--data", &at]].concat());
    let wrong: [(&[&str], i32, &str); 8] = [
        (&["sql", "demo", "SELEC 1"], 1, "syntax error"),
        (
            &["sql", "demo", "INSERT INTO t VALUES (1,1,1)", "INSERT INTO t VALUES (1,1,1)"],
            1,
            "UNIQUE",
        ),
        (&["sql", "demo", "SELECT * FROM nowhere"], 1, "no such table: nowhere"),
        (&["sql", "demo", "VACUUM"], 1, "VACUUM"),
        (&["sql", "demo", "INSERT INTO t VALUES (9,9,9)", "--query"], 1, "read"),
        (&["sql", "nothing", "SELECT 1"], 1, "there is no database 'nothing'"),
        (&["sql", "demo/nothing", "SELECT 1"], 1, "has no shard 'nothing'"),
        (&["sql", "../demo", "SELECT 1"], 2, "names no database"),
    ];
    for (args, expected, part) in wrong {
        let (code, said) = run(args);
        assert_eq!(code, expected, "{args:?}: {said}");
        assert!(said.contains(part), "{args:?}: {said}");
    }
    assert_eq!(ids(&nodes[0]), Ok(BTreeSet::new()));
    let (code, said) = run(&["db", "create", "a.b"]);
    assert!(code == 1 && said.contains("is not a database name"), "{code} {said}");
    let (code, said) = run(&["db", "create", "demo"]);
    assert!(code == 1 && said.contains("already exists"), "{code} {said}");
    let (code, said) =
        run(&["sql", "demo", "INSERT INTO t VALUES (?, 1, 1)", "--arg", "5", "--json"]);
    assert!(code == 0 && said.contains("\"affected\": 1"), "{code} {said}");
}
