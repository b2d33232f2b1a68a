//! What is wrong is named, leaves nothing behind, and loses nothing: one cluster for all of it.

use std::time::Duration;

use quorate_tests::{Lab, Node, eventually};
use serde_json::{Value, json};

use super::databases::{SETTLE, data, equal, ids, post, with_database};

fn run(lab: &Lab, node: &Node, args: &[&str]) -> (i32, String) {
    lab.run(1, &[args, &["--data", &data(node)]].concat())
}

#[track_caller]
fn refused(node: &Node, path: &str, body: &Value, expected: u16, part: &str) {
    let (code, said) = post(node, path, body).expect("it answers");
    let error = said["error"].as_str().unwrap_or_default();
    assert!(code == expected && error.contains(part), "{path}: {code} {said}");
}

#[test]
fn bad_input_of_every_kind_is_refused_by_name_and_nothing_is_lost() {
    let lab = Lab::loopback();
    let mut nodes = with_database(&lab, 3);
    for statement in [
        "CREATE TABLE strict (id INTEGER PRIMARY KEY, n INTEGER NOT NULL CHECK (n > 0)) STRICT",
        "CREATE TABLE child (id INTEGER PRIMARY KEY, \
         parent REFERENCES strict DEFERRABLE INITIALLY DEFERRED)",
        "INSERT INTO t VALUES (1, 1, 1)",
    ] {
        let (code, said) = run(&lab, &nodes[0], &["sql", "demo", statement]);
        assert_eq!(code, 0, "{said}");
    }
    statements(&lab, &nodes[1]);
    names(&lab, &nodes[1]);
    too_large(&lab, &nodes[2]);
    configurations(&lab, &nodes[1]);
    assert_eq!(ids(&nodes[0]), Ok([1].into()));
    damaged(&lab, &mut nodes);
    equal(&nodes, &[1].into());
    let (code, said) = run(&lab, &nodes[0], &["verify", "demo"]);
    assert_eq!(code, 0, "{said}");
}

/// SQL, constraints, types: through a node that may not own it, by command and over HTTP.
fn statements(lab: &Lab, node: &Node) {
    let wrong = [
        ("INSERT INTO t VALUES (1, 1, 1)", "UNIQUE constraint failed: t.id"),
        ("INSERT INTO strict VALUES (1, NULL)", "NOT NULL constraint failed: strict.n"),
        ("INSERT INTO strict VALUES (1, -1)", "CHECK constraint failed: n > 0"),
        (
            "INSERT INTO strict VALUES (1, 'one')",
            "cannot store TEXT value in INTEGER column strict.n",
        ),
        ("INSERT INTO child VALUES (1, 99)", "FOREIGN KEY constraint failed"),
        ("INSERT INTO t VALUES ('x', 1, 1)", "datatype mismatch"),
        ("UPDATE nowhere SET a = 1", "no such table: nowhere"),
        ("SELECT missing FROM t", "no such column: missing"),
        ("SELEC 1", "syntax error"),
        ("", "no SQL statement"),
        ("SELECT 1; SELECT 2", "second statement"),
        ("BEGIN", "is one transaction"),
        ("PRAGMA journal_mode = DELETE", "journal_mode"),
        ("ATTACH '/tmp/x' AS x", "ATTACH"),
        ("DELETE FROM _quorate_meta", "belongs to Quorate"),
    ];
    for (sql, part) in wrong {
        let (code, said) = run(lab, node, &["sql", "demo", sql]);
        assert!(code == 1 && said.contains(part), "{sql}: {code} {said}");
        let body = json!({ "statements": [
            { "sql": "INSERT INTO t VALUES (7, 7, 7)" }, { "sql": sql },
        ] });
        let (code, said) = post(node, "/db/demo/execute", &body).expect("it answers");
        // The deferred foreign key fails at the end, behind the last statement.
        let at = if sql.contains("child") { 2 } else { 1 };
        assert_eq!(
            (code, &said["kind"], &said["statement"]),
            (400, &json!("sql"), &json!(at)),
            "{sql}: {said}"
        );
        assert_eq!(said["outcome"], "nothing-done");
    }
    let path = "/db/demo/execute";
    refused(node, path, &json!({ "sql": "SELECT ?", "args": [] }), 400, "no value is given");
    refused(node, path, &json!({ "sql": "SELECT ?", "args": [[1]] }), 400, "a list is no value");
    refused(node, path, &json!({ "sql": "SELECT 1", "token": "1.1.1.1" }), 400, "for /query");
    refused(node, "/db/demo/query", &json!({ "sql": "SELECT 1", "token": "1" }), 400, "no token");
    refused(node, "/db/demo/query", &json!({ "sql": "DELETE FROM t" }), 400, "only reading");
    refused(node, path, &json!({ "nonsense": 1 }), 422, "nonsense");
}

/// Unknown names, and names that are none.
fn names(lab: &Lab, node: &Node) {
    let select = json!({ "sql": "SELECT 1" });
    for path in ["/db/nothing/query", "/db/nothing/execute", "/db/nothing/verify"] {
        let body = if path.ends_with("verify") { json!({}) } else { select.clone() };
        refused(node, path, &body, 404, "there is no database 'nothing'");
    }
    refused(node, "/db/demo/query?shard=far", &select, 404, "has no shard 'far'");
    refused(node, "/db/demo/query?shard=..%2F..", &select, 404, "has no shard '../..'");
    refused(node, "/db/a%2Fb/query", &select, 404, "there is no database 'a/b'");
    refused(node, "/db/de.mo/query", &select, 404, "there is no database 'de.mo'");
    refused(node, "/db/../query", &select, 404, "");
    for name in ["a/b", "a.b", "..", "", " ", "ü", &"x".repeat(65)] {
        let (code, said) = lab.run(1, &["db", "create", "--data", &data(node), "--", name]);
        assert!(code == 1 && said.contains("is not a database name"), "{name}: {code} {said}");
    }
    let (code, said) = run(lab, node, &["db", "create", "DEMO"]);
    assert!(code == 1 && said.contains("'demo' already exists"), "{code} {said}");
    for name in ["a/b/c", "demo/", "/demo", "de.mo/x", "demo/x.y"] {
        let (code, said) = run(lab, node, &["sql", name, "SELECT 1"]);
        assert!(code == 2 && said.contains("names no database"), "{name}: {code} {said}");
    }
}

/// More than a request, a value, a result or an entry may hold.
fn too_large(lab: &Lab, node: &Node) {
    let path = "/db/demo/execute";
    let huge =
        json!({ "sql": "INSERT INTO t (number) VALUES (?)", "args": ["x".repeat(100_000_000)] });
    // It is refused at the first bytes; whether the answer outlives the rest is up to the network.
    match post(node, path, &huge) {
        Ok((413, said)) => {
            let error = said["error"].as_str().unwrap_or_default();
            assert!(error.contains("longer than 4194304 bytes"), "{said}");
        }
        Ok(other) => panic!("{other:?}"),
        Err(why) => assert!(why.contains("no answer"), "{why}"),
    }
    let large =
        json!({ "sql": "INSERT INTO t (number) VALUES (?)", "args": ["x".repeat(3_500_000)] });
    refused(node, path, &large, 413, "larger than an entry may be");
    let body = json!({ "sql": "INSERT INTO t (number) VALUES (zeroblob(100000000))" });
    refused(node, path, &body, 413, "");
    let several = json!({ "statements": [
        { "sql": "INSERT INTO t VALUES (8, 8, zeroblob(2000000))" },
        { "sql": "INSERT INTO t VALUES (9, 9, zeroblob(2000000))" },
    ] });
    refused(node, path, &several, 413, "larger than an entry may be: split it");
    let (code, said) =
        run(lab, node, &["sql", "demo", "INSERT INTO t (number) VALUES (zeroblob(4000000))"]);
    assert!(code == 1 && said.contains("larger than an entry may be"), "{code} {said}");
    refused(node, "/db/demo/query", &json!({ "sql": "SELECT zeroblob(5000000)" }), 413, "results");
    let many: Vec<Value> = (0..1025).map(|_| json!({ "sql": "SELECT 1" })).collect();
    refused(node, path, &json!({ "statements": many }), 400, "at most 1024 statements");
}

/// Files that ask for what cannot be.
fn configurations(lab: &Lab, node: &Node) {
    let wrong = [
        (r#"{"clusters": {"far": {"servers": ["nowhere"]}}}"#, "placed on nowhere only"),
        (r#"{"clusters": {"a.b": {"servers": ["n1"]}}}"#, "'a.b' is not a shard name"),
        (r#"{"clusters": {"../x": {}}}"#, "'../x' is not a shard name"),
        (r#"{"clusters": {"x": {"servers": ["n1"], "writeQuorum": 2}}}"#, "can never be met"),
        (r#"{"writeQuorum": "most"}"#, "\"most\" is not allowed"),
        (r#"{"servers": {"*": "replica"}}"#, "has no master among its servers"),
        ("not JSON", "JSON"),
        ("", "JSON"),
    ];
    for (text, part) in wrong {
        let file = lab.file("wrong.json", text);
        let (code, said) = run(lab, node, &["db", "create", "other", "--db-config", &file]);
        assert!(code == 1 && said.contains(part), "{text}: {code} {said}");
    }
    let (code, said) = run(lab, node, &["db", "list"]);
    assert!(code == 0 && !said.contains("other"), "{said}");
}

/// A file that is no database, where no other server has the shard: it says so, and is never made
/// anew; everything else goes on.
fn damaged(lab: &Lab, nodes: &mut [Node]) {
    let file = lab.file("alone.json", r#"{"clusters": {"*": {"servers": ["n3"]}}}"#);
    let (code, said) = run(lab, &nodes[0], &["db", "create", "alone", "--db-config", &file]);
    assert_eq!(code, 0, "{said}");
    for statement in ["CREATE TABLE a (id INTEGER PRIMARY KEY)", "INSERT INTO a VALUES (1)"] {
        let (code, said) = run(lab, &nodes[0], &["sql", "alone", statement]);
        assert_eq!(code, 0, "{said}");
    }
    let copy = newest_copy(&nodes[2]);
    nodes[2].kill();
    let kept = std::fs::read(&copy).expect("a file");
    std::fs::write(&copy, "this is no database, whatever its name says ".repeat(1000))
        .expect("written");
    let log = copy.with_file_name("copy.sqlite-wal");
    let kept_log = std::fs::read(&log).unwrap_or_default();
    let _ = std::fs::remove_file(&log);
    nodes[2].start();
    let body = json!({ "sql": "INSERT INTO a VALUES (2)", "timeout_ms": 5000 });
    let said = eventually("it says what is wrong", SETTLE, || {
        match post(&nodes[0], "/db/alone/execute", &body)? {
            (503, said) if said["kind"] == "unavailable" => Ok(said),
            (503 | 504, said) => Err(said.to_string()),
            other => panic!("{other:?}"),
        }
    });
    assert!(said["error"].as_str().is_some_and(|e| e.contains("not a database")), "{said}");
    eventually("no list calls it online", Duration::from_secs(10), || {
        let (_, said) = run(lab, &nodes[0], &["db", "list"]);
        let alone = said.lines().find(|line| line.contains("alone")).unwrap_or_default();
        if alone.contains("ONLINE") { Err(said) } else { Ok(()) }
    });
    // The file was not touched: put back, all is there.
    nodes[2].kill();
    std::fs::write(&copy, kept).expect("written");
    std::fs::write(&log, kept_log).expect("written");
    nodes[2].start();
    eventually("all is there", SETTLE, || {
        let body = json!({ "sql": "SELECT count(*) FROM a" });
        match post(&nodes[0], "/db/alone/query", &body)? {
            (200, said) if said["results"][0]["rows"] == json!([[1]]) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

/// The file of the copy that was made last.
fn newest_copy(node: &Node) -> std::path::PathBuf {
    let number = |path: &std::path::Path| {
        path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<u64>().ok())
    };
    let inside = |dir: &std::path::Path| {
        let all = std::fs::read_dir(dir).expect("a directory").flatten();
        all.map(|entry| entry.path()).max_by_key(|path| number(path)).expect("not empty")
    };
    inside(&inside(&node.data.join("shards"))).join("copy.sqlite")
}
