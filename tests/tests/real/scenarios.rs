//! What users of the like of this have lived through, by name: servers that are down, stopped, frozen
//! and cut off while there is work.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use quorate_tests::{Lab, Node, eventually};
use serde_json::{Value, json};

use super::databases::{SETTLE, data, equal, ids, post, sql, with_database};

/// Writes a row through `node`: the code and the answer.
fn insert(node: &Node, id: i64) -> Result<(u16, Value), String> {
    post(
        node,
        "/db/demo/execute",
        &json!({ "sql": "INSERT INTO t VALUES (?, 0, 0)", "args": [id] }),
    )
}

/// Rows that must be acknowledged.
fn fill(node: &Node, numbers: std::ops::Range<i64>) {
    for id in numbers {
        let answer = insert(node, id);
        assert_eq!(answer.as_ref().map(|a| a.0), Ok(200), "{id}: {answer:?}");
    }
}

fn configure(lab: &Lab, node: &Node, config: &str) {
    let file = lab.file("config.json", config);
    let args = ["db", "config", "demo", "--file", &file, "--yes", "--data", &data(node)];
    let (code, said) = lab.run(1, &args);
    assert_eq!(code, 0, "{said}");
}

fn command(lab: &Lab, node: &Node, args: &[&str]) -> (i32, String) {
    lab.run(1, &[args, &["--data", &data(node)]].concat())
}

/// All copies are the same, by content.
fn verified(lab: &Lab, node: &Node) {
    eventually("all copies are equal", SETTLE, || {
        match command(lab, node, &["verify", "demo", "--timeout", "5"]) {
            (0, _) => Ok(()),
            (code, said) => Err(format!("{code} {said}")),
        }
    });
}

/// What a node holds once that is all that was acknowledged: a local read may be a moment behind.
fn none_lost(node: &Node, acknowledged: &BTreeSet<i64>) -> BTreeSet<i64> {
    eventually("no acknowledged write is lost", SETTLE, || {
        let held = ids(node)?;
        let lost: Vec<_> = acknowledged.difference(&held).take(5).collect();
        if lost.is_empty() { Ok(held) } else { Err(format!("{lost:?} are not there")) }
    })
}

#[test]
fn quorum_3_refuses_while_one_is_down() {
    let lab = Lab::loopback();
    let mut nodes = with_database(&lab, 3);
    configure(&lab, &nodes[0], r#"{ "writeQuorum": 3 }"#);
    fill(&nodes[0], 0..5);
    nodes[2].kill();
    let said = eventually("it is refused", SETTLE, || match insert(&nodes[0], 100)? {
        (503, said) if said["kind"] == "no-quorum" => Ok(said),
        // On its way to a server that was just killed.
        (503 | 504, said) => Err(said.to_string()),
        (200, _) => panic!("two of three are not three"),
        other => panic!("{other:?}"),
    });
    assert!(said["error"].as_str().is_some_and(|error| error.contains("n3")), "{said}");
    let (code, said) = sql(&lab, &nodes[1], "demo", "INSERT INTO t VALUES (101, 0, 0)");
    assert!(code == 4 && said.contains("n3"), "{code} {said}");
    nodes[2].start();
    eventually("it writes again", SETTLE, || match insert(&nodes[1], 5)? {
        (200, _) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    // Acknowledged through another node: a local read here may be a moment behind.
    let held = eventually("all of it is here", SETTLE, || {
        let held = ids(&nodes[0])?;
        if held.is_superset(&(0..6).collect()) { Ok(held) } else { Err(format!("{held:?}")) }
    });
    assert!(!held.contains(&101), "{held:?}");
    equal(&nodes, &held);
}

#[test]
fn a_node_down_during_writes_rejoins_by_delta_at_quorum_2_and_1() {
    let lab = Lab::loopback();
    let mut nodes = with_database(&lab, 3);
    let mut next = 0;
    for quorum in [2, 1] {
        configure(&lab, &nodes[0], &format!(r#"{{ "writeQuorum": {quorum} }}"#));
        fill(&nodes[0], next..next + 20);
        nodes[2].kill();
        eventually("the others write", SETTLE, || match insert(&nodes[0], next + 20)? {
            (200, _) => Ok(()),
            (400, said) if said["error"].as_str().is_some_and(|e| e.contains("UNIQUE")) => Ok(()),
            other => Err(format!("{other:?}")),
        });
        fill(&nodes[0], next + 21..next + 60);
        nodes[2].start();
        next += 60;
        equal(&nodes, &(0..next).collect());
    }
    // What it missed came with the log: no copy was put aside for another one.
    assert!(!nodes[2].data.join("backup/databases").exists());
    verified(&lab, &nodes[1]);
}

#[test]
fn a_replica_never_owns_and_decides_nothing_without_masters() {
    let lab = Lab::loopback();
    let mut nodes = with_database(&lab, 3);
    let (code, said) = command(&lab, &nodes[0], &["server", "set-role", "n3", "replica"]);
    assert_eq!(code, 0, "{said}");
    let (code, said) = command(&lab, &nodes[0], &["server", "set-owner", "demo", "n3"]);
    assert!(code == 1 && said.contains("it is a replica"), "{code} {said}");
    // Asked at the replica, the owner does it.
    eventually("it is passed on", SETTLE, || match insert(&nodes[2], 1)? {
        (200, _) => Ok(()),
        (400, said) if said["error"].as_str().is_some_and(|e| e.contains("UNIQUE")) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    equal(&nodes, &[1].into());
    eventually("another owns it", SETTLE, || {
        let (_, view) = nodes[2].get("/db/demo")?;
        let owner = view["shards"]["main"]["owner"].as_str().unwrap_or_default().to_owned();
        if ["n1", "n2"].contains(&owner.as_str()) { Ok(()) } else { Err(view.to_string()) }
    });
    nodes[0].kill();
    nodes[1].kill();
    let said = eventually("it refuses", SETTLE, || match insert(&nodes[2], 2)? {
        (503, said) if said["kind"] == "no-quorum" => Ok(said),
        (503 | 504, said) => Err(said.to_string()),
        other => panic!("{other:?}"),
    });
    let error = said["error"].as_str().unwrap_or_default();
    assert!(error.contains("n1") && error.contains("n2") && !error.contains("n3"), "{said}");
    assert_eq!(ids(&nodes[2]), Ok([1].into()), "it still reads");
    nodes[0].start();
    nodes[1].start();
    eventually("the masters write", SETTLE, || match insert(&nodes[2], 3)? {
        (200, _) => Ok(()),
        (400, said) if said["error"].as_str().is_some_and(|e| e.contains("UNIQUE")) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    verified(&lab, &nodes[2]);
}

#[test]
fn stopped_one_by_one_and_restarted_in_reverse_order_all_counts_are_equal() {
    let lab = Lab::loopback();
    let mut nodes = with_database(&lab, 3);
    fill(&nodes[0], 0..10);
    // Stop and restart by command, with work going on.
    let (code, said) = command(&lab, &nodes[1], &["stop"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(nodes[1].exit_code(), 0);
    fill(&nodes[0], 10..20);
    nodes[1].start();
    equal(&nodes, &(0..20).collect());
    // All of them, staged; the last one has more than the first.
    let (code, said) = command(&lab, &nodes[2], &["stop"]);
    assert_eq!(code, 0, "{said}");
    nodes[2].exit_code();
    fill(&nodes[1], 20..30);
    for at in [1, 0] {
        let (code, said) = command(&lab, &nodes[at], &["stop"]);
        assert!([0, 8].contains(&code), "{code} {said}");
        nodes[at].exit_code();
    }
    for node in nodes.iter_mut().rev() {
        node.start();
    }
    equal(&nodes, &(0..30).collect());
    eventually("it writes", SETTLE, || match insert(&nodes[2], 30)? {
        (200, _) => Ok(()),
        (400, said) if said["error"].as_str().is_some_and(|e| e.contains("UNIQUE")) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    equal(&nodes, &(0..31).collect());
    verified(&lab, &nodes[0]);
}

#[test]
fn a_database_dropped_and_recreated_while_one_is_down_has_nothing_of_the_old_one() {
    let lab = Lab::loopback();
    let mut nodes = with_database(&lab, 3);
    fill(&nodes[0], 0..10);
    equal(&nodes, &(0..10).collect());
    nodes[2].kill();
    let (code, said) = command(&lab, &nodes[0], &["db", "drop", "demo"]);
    assert_eq!(code, 0, "{said}");
    let (code, said) = sql(&lab, &nodes[1], "demo", "SELECT 1");
    assert!(code == 1 && said.contains("there is no database"), "{code} {said}");
    let (code, said) = command(&lab, &nodes[1], &["db", "create", "demo"]);
    assert_eq!(code, 0, "{said}");
    let table = "CREATE TABLE t (id INTEGER PRIMARY KEY, writer INTEGER, number INTEGER)";
    let (code, said) = sql(&lab, &nodes[0], "demo", table);
    assert_eq!(code, 0, "{said}");
    fill(&nodes[0], 100..110);
    nodes[2].start();
    equal(&nodes, &(100..110).collect());
    verified(&lab, &nodes[2]);
    let (code, said) = command(&lab, &nodes[2], &["db", "drop", "demo"]);
    assert_eq!(code, 0, "{said}");
    for node in &nodes {
        eventually("it is gone", SETTLE, || match node.get("/db")? {
            (200, list) if list == json!([]) => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }
}

#[test]
fn a_delete_without_quorum_is_undone_then_succeeds() {
    let lab = Lab::loopback();
    let mut nodes = with_database(&lab, 3);
    fill(&nodes[0], 0..10);
    equal(&nodes, &(0..10).collect());
    nodes[1].kill();
    nodes[2].kill();
    let body = json!({ "sql": "DELETE FROM t WHERE id < 5", "timeout_ms": 3000 });
    eventually("it is refused", SETTLE, || match post(&nodes[0], "/db/demo/execute", &body)? {
        (503, said) if said["kind"] == "no-quorum" => Ok(()),
        // It may have run as the others were killed, and then what becomes of it is open.
        (503 | 504, said) => Err(said.to_string()),
        other => panic!("{other:?}"),
    });
    assert_eq!(ids(&nodes[0]).map(|ids| ids.len()), Ok(10), "nothing of it is seen");
    nodes[1].start();
    nodes[2].start();
    eventually("it succeeds", SETTLE, || match post(&nodes[0], "/db/demo/execute", &body)? {
        (200, _) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    equal(&nodes, &(5..10).collect());
    verified(&lab, &nodes[1]);
}

#[test]
fn a_crash_under_load_moves_clients_to_others_and_every_acknowledged_write_is_there_once() {
    let lab = Lab::loopback();
    let mut nodes = with_database(&lab, 3);
    let over = AtomicBool::new(false);
    let (mut acknowledged, mut unknown) = (BTreeSet::new(), BTreeSet::new());
    let (left, right) = nodes.split_at_mut(2);
    let (stay, victim) = (&left[..], &mut right[0]);
    std::thread::scope(|scope| {
        let over = &over;
        let writers: Vec<_> = (0..4_i64)
            .map(|writer| {
                scope.spawn(move || {
                    let (mut done, mut open) = (BTreeSet::new(), BTreeSet::new());
                    let mut id = writer * 100_000;
                    while !over.load(Ordering::Relaxed) {
                        id += 1;
                        // Another node each time: a client that has lost its own goes on so.
                        match insert(&stay[usize::from(id % 2 == 0)], id) {
                            Ok((200, _)) => done.insert(id),
                            Ok((503, _)) => false,
                            _ => open.insert(id),
                        };
                    }
                    (done, open)
                })
            })
            .collect();
        for _ in 0..2 {
            std::thread::sleep(Duration::from_millis(700));
            victim.kill();
            std::thread::sleep(Duration::from_millis(700));
            victim.start();
        }
        std::thread::sleep(Duration::from_millis(500));
        over.store(true, Ordering::Relaxed);
        for writer in writers {
            let (done, open) = writer.join().expect("a writer");
            acknowledged.extend(done);
            unknown.extend(open);
        }
    });
    assert!(acknowledged.len() > 100, "{}", acknowledged.len());
    let held = none_lost(&nodes[0], &acknowledged);
    assert!(held.difference(&acknowledged).all(|id| unknown.contains(id)));
    verified(&lab, &nodes[0]);
    let held = ids(&nodes[0]).expect("it answers");
    equal(&nodes, &held);
}

#[test]
fn a_query_survives_its_servers_shutdown() {
    let lab = Lab::loopback();
    let mut nodes = with_database(&lab, 3);
    fill(&nodes[0], 0..50);
    equal(&nodes, &(0..50).collect());
    let over = AtomicBool::new(false);
    let (first, others) = nodes.split_at_mut(1);
    let (first, others) = (&mut first[0], &others[..]);
    let path = data(first);
    let answered = std::thread::scope(|scope| {
        let over = &over;
        let client = scope.spawn(move || {
            let mut answered = 0;
            while !over.load(Ordering::Relaxed) {
                let held = ids(&others[answered % 2]).expect("it answers");
                assert_eq!(held.len(), 50, "not one of them is missing, whoever stops");
                answered += 1;
            }
            answered
        });
        // A query under way at the server that stops is answered whole, or not at all.
        let slow = json!({ "sql": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n \
                                   WHERE i < 3000000) SELECT count(*) FROM n", "timeout_ms": 20000 });
        let asked = {
            let first = &*first;
            post_in_background(scope, first, slow)
        };
        std::thread::sleep(Duration::from_millis(100));
        let (code, said) = lab.run(1, &["stop", "--data", &path]);
        assert_eq!(code, 0, "{said}");
        match asked.join().expect("asked") {
            Ok((200, said)) => assert_eq!(said["results"][0]["rows"], json!([[3_000_000]])),
            Ok((503 | 504, _)) | Err(_) => {}
            other => panic!("{other:?}"),
        }
        std::thread::sleep(Duration::from_millis(300));
        over.store(true, Ordering::Relaxed);
        client.join().expect("the client")
    });
    assert!(answered > 10, "{answered}");
    first.exit_code();
    fill(&others[0], 50..60);
    first.start();
    equal(&nodes, &(0..60).collect());
}

type Asked<'scope> = std::thread::ScopedJoinHandle<'scope, Result<(u16, Value), String>>;

fn post_in_background<'scope, 'env>(
    scope: &'scope std::thread::Scope<'scope, 'env>,
    node: &'env Node,
    body: Value,
) -> Asked<'scope> {
    scope.spawn(move || post(node, "/db/demo/query", &body))
}

#[test]
fn with_auto_remove_after_100_ms_a_dynamic_server_is_gone_then_back() {
    let lab = Lab::loopback();
    let file = lab
        .file("auto.json", r#"{ "newNodeStrategy": "dynamic", "autoRemoveOfflineServers": 100 }"#);
    let mut nodes: Vec<Node> = (1..=3).map(|n| lab.node(n).with(["--db-config", &file])).collect();
    nodes.iter_mut().for_each(Node::start);
    lab.one_cluster(&nodes);
    let (code, said) = command(&lab, &nodes[0], &["db", "create", "demo"]);
    assert_eq!(code, 0, "{said}");
    let table = "CREATE TABLE t (id INTEGER PRIMARY KEY, writer INTEGER, number INTEGER)";
    let (code, said) = sql(&lab, &nodes[0], "demo", table);
    assert_eq!(code, 0, "{said}");
    fill(&nodes[0], 0..10);
    nodes[2].kill();
    lab.until(&nodes[0], "n3 is removed", |view| view.server("n3").is_none());
    eventually("its copy is not listed", SETTLE, || match nodes[1].get("/db/demo")? {
        (200, view) if view["shards"]["main"]["copies"].get("n3").is_none() => Ok(()),
        other => Err(format!("{other:?}")),
    });
    fill(&nodes[0], 10..20);
    nodes[2].start();
    lab.one_cluster(&nodes);
    equal(&nodes, &(0..20).collect());
    verified(&lab, &nodes[0]);
}

#[test]
fn a_frozen_node_catches_up() {
    let lab = Lab::loopback();
    let nodes = with_database(&lab, 3);
    fill(&nodes[0], 0..10);
    nodes[2].freeze();
    let begin = Instant::now();
    let mut next = 10_i64;
    let (mut acknowledged, mut open): (BTreeSet<i64>, BTreeSet<i64>) =
        ((0..10).collect(), BTreeSet::new());
    // Past the time after which it counts as gone.
    while begin.elapsed() < Duration::from_secs(7) {
        match insert(&nodes[usize::from(next % 2 == 0)], next) {
            Ok((200, _)) => acknowledged.insert(next),
            _ => open.insert(next),
        };
        next += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(acknowledged.len() > 50, "{}", acknowledged.len());
    nodes[2].thaw();
    let held = none_lost(&nodes[0], &acknowledged);
    assert!(held.difference(&acknowledged).all(|id| open.contains(id)));
    equal(&nodes, &held);
    verified(&lab, &nodes[2]);
}

#[test]
fn a_token_shows_a_client_its_own_writes_on_any_node_and_a_read_quorum_asks_for_one() {
    let lab = Lab::loopback();
    let mut nodes = with_database(&lab, 3);
    let count = json!({ "sql": "SELECT count(*) FROM t" });
    for id in 0..40 {
        let body = json!({ "sql": "INSERT INTO t VALUES (?, 0, 0)", "args": [id] });
        let (code, said) = post(&nodes[0], "/db/demo/execute", &body).expect("it answers");
        assert_eq!(code, 200, "{said}");
        let mut query = count.clone();
        query["token"] = said["token"].clone();
        let other = &nodes[usize::from(id % 2 == 0) + 1];
        let (code, said) = post(other, "/db/demo/query", &query).expect("it answers");
        assert_eq!((code, &said["results"][0]["rows"]), (200, &json!([[id + 1]])), "{said}");
    }
    let (_, said) = post(&nodes[0], "/db/demo/query", &count).expect("it answers");
    let token = said["token"].as_str().expect("a token").to_owned();
    let query = ["sql", "demo", "SELECT count(*) FROM t", "--query", "--since", &token];
    let (code, said) = command(&lab, &nodes[1], &query);
    assert!(code == 0 && said.contains("40"), "{code} {said}");
    for args in [["db", "drop", "demo"], ["db", "create", "demo"]] {
        let (code, said) = command(&lab, &nodes[0], &args);
        assert_eq!(code, 0, "{said}");
    }
    let (code, said) = command(&lab, &nodes[0], &query);
    assert!(code == 1 && said.contains("StaleToken"), "{code} {said}");

    // More than one copy has to agree: alone, a node answers only what is asked of it alone.
    configure(&lab, &nodes[0], r#"{ "readQuorum": 2 }"#);
    let select = json!({ "sql": "SELECT 1" });
    let (code, said) = post(&nodes[0], "/db/demo/query", &select).expect("it answers");
    assert_eq!(code, 200, "{said}");
    nodes[1].kill();
    nodes[2].kill();
    let begin = Instant::now();
    eventually("it refuses", SETTLE, || match post(&nodes[0], "/db/demo/query", &select)? {
        (503, said) if said["kind"] == "no-quorum" => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert!(begin.elapsed() < Duration::from_secs(9), "{:?}, not at the deadline", begin.elapsed());
    let local = json!({ "sql": "SELECT 1", "consistency": "local" });
    let (code, said) = post(&nodes[0], "/db/demo/query", &local).expect("it answers");
    assert_eq!(code, 200, "{said}");
}
