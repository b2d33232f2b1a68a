//! The libSQL drivers, unchanged, against real nodes; and what no driver would send.
//!
//! The scripts beside this file do what applications do; here is only where they do it.

use std::time::Duration;

use quorate_tests::drivers::{Language, script};
use quorate_tests::{Lab, Node, eventually};
use serde_json::{Value, json};

use super::databases::data;

const SETTLE: Duration = Duration::from_secs(30);
/// How long any one answer may take.
const ANSWER: Duration = Duration::from_secs(20);

/// A cluster with a database, and tokens of a writer and of a reader.
struct Cluster {
    lab: Lab,
    nodes: Vec<Node>,
    writer: String,
    reader: String,
}

impl Cluster {
    fn new(count: usize) -> Self {
        let lab = Lab::loopback();
        let mut nodes = lab.nodes(count);
        nodes.iter_mut().for_each(Node::start);
        lab.one_cluster(&nodes);
        let run = |args: &[&str]| {
            let dir = data(&nodes[0]);
            let args = [args, &["--data", &dir]].concat();
            let (code, said, errors) = lab.run_with(1, &args, &[], "");
            assert_eq!(code, 0, "{args:?}: {said}{errors}");
            said.trim().to_owned()
        };
        run(&["db", "create", "demo"]);
        for (name, role) in [("ada", "admin"), ("bob", "writer"), ("eve", "reader")] {
            run(&["user", "add", name, "--role", role]);
        }
        let (writer, reader) =
            (run(&["user", "token", "add", "bob"]), run(&["user", "token", "add", "eve"]));
        let cluster = Self { lab, nodes, writer, reader };
        for node in &cluster.nodes {
            eventually("the database and the users are known everywhere", SETTLE, || {
                let answer = cluster.execute(node, "SELECT 1");
                if answer["results"][0]["type"] == "ok" { Ok(()) } else { Err(answer.to_string()) }
            });
        }
        cluster
    }

    /// The owner of the database, and a node that is not.
    fn owner_and_another(&self) -> (&Node, &Node) {
        let owner = eventually("somebody owns the database", SETTLE, || {
            let (code, body) = self.send(&self.nodes[0], "GET", "/db/demo", &self.reader, "");
            let body: Value = serde_json::from_str(&body).map_err(|e| format!("{code} {e}"))?;
            let owner = body["shards"]["main"]["owner"].as_str().map(str::to_owned);
            owner.ok_or_else(|| body.to_string())
        });
        let owner_at = |node: &&Node| node.name == owner;
        let find = |owns: bool| self.nodes.iter().find(|node| owner_at(node) == owns);
        (find(true).expect("the owner"), find(false).expect("another"))
    }

    /// Runs a driver's script against the owner and another node.
    fn drive(&self, language: Language, name: &str) {
        let (program, script) = script(language, name);
        let (owner, other) = self.owner_and_another();
        let url = |node: &Node| format!("http://{}/db/demo", node.http().expect("an address"));
        // JavaScript's URLs lose what is behind the last slash.
        let slash = if language == Language::JavaScript { "/" } else { "" };
        let (owner, other) = (url(owner) + slash, url(other) + slash);
        let script = script.to_str().expect("a path of ours");
        let args = [script, &owner, &other, &self.writer];
        let (code, said) = self.lab.run_program(1, &program, &args);
        assert!(code == 0 && said.contains("all done"), "{name}: {code}\n{said}");
    }

    fn send(
        &self,
        node: &Node,
        method: &str,
        path: &str,
        token: &str,
        body: &str,
    ) -> (u16, String) {
        // No content type: the Rust driver sends none.
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: n\r\nauthorization: Bearer {token}\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        let request = [head.as_bytes(), body.as_bytes()].concat();
        let answer = node.exchange(&request, ANSWER).expect("an answer");
        let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        assert!(!head.to_ascii_lowercase().contains("\nlocation:"), "redirected: {head}");
        let code = code.unwrap_or_else(|| panic!("no answer: {answer}"));
        (code, body.to_owned())
    }

    /// Sends JSON as the writer; the status, and the JSON that is answered.
    fn post(&self, node: &Node, path: &str, body: &Value) -> (u16, Value) {
        let (code, said) = self.send(node, "POST", path, &self.writer, &body.to_string());
        (code, serde_json::from_str(&said).unwrap_or_else(|e| panic!("{path}: {e}: {said}")))
    }

    fn pipeline(&self, node: &Node, baton: &Value, requests: Value) -> (u16, Value) {
        let body = json!({ "baton": baton, "requests": requests });
        self.post(node, "/db/demo/v3/pipeline", &body)
    }

    fn execute(&self, node: &Node, sql: &str) -> Value {
        let requests = json!([execute(sql), { "type": "close" }]);
        self.pipeline(node, &Value::Null, requests).1
    }
}

fn execute(sql: &str) -> Value {
    json!({ "type": "execute", "stmt": { "sql": sql } })
}

/// The value of the first row and column of the result at this place of a pipeline.
fn single(answer: &Value, at: usize) -> &Value {
    &answer["results"][at]["response"]["result"]["rows"][0][0]["value"]
}

fn code_of(answer: &Value, at: usize) -> &str {
    answer["results"][at]["error"]["code"].as_str().unwrap_or("no error")
}

#[test]
fn the_driver_of_javascript_works_unchanged_at_an_owner_and_elsewhere() {
    Cluster::new(3).drive(Language::JavaScript, "javascript.mjs");
}

#[test]
fn the_driver_of_python_that_speaks_version_1_works_unchanged_at_an_owner_and_elsewhere() {
    Cluster::new(3).drive(Language::Python, "python1.py");
}

#[test]
fn the_rust_driver_in_python_works_unchanged_at_an_owner_and_elsewhere() {
    Cluster::new(3).drive(Language::Python, "python3.py");
}

#[test]
fn slashes_and_a_url_without_a_database_lead_where_they_should() {
    let cluster = Cluster::new(1);
    let node = &cluster.nodes[0];
    let body = json!({ "requests": [execute("SELECT 7"), { "type": "close" }] });
    for path in [
        "/db/demo/v2/pipeline",
        "/db/demo//v3/pipeline",
        "/db/demo/v3/pipeline/",
        "//db//demo//v2//pipeline//",
        "/v2/pipeline",
        "//v3/pipeline",
        "/db/v2/pipeline",
    ] {
        let (code, answer) = cluster.post(node, path, &body);
        assert!(code == 200 && single(&answer, 0) == "7", "{path}: {code} {answer}");
    }
    let stmt = json!({ "stmt": { "sql": "SELECT 8" } });
    let (code, answer) = cluster.post(node, "/db/demo//v1/execute/", &stmt);
    assert!(code == 200 && answer["result"]["rows"][0][0]["value"] == "8", "{answer}");
    // Whether a version is spoken is asked without a token.
    for path in ["/v1", "/v2", "/v3", "/db/demo/v2", "/db/demo//v3/"] {
        assert_eq!(cluster.send(node, "GET", path, "", "").0, 200, "{path}");
    }
    for path in ["/v3-protobuf", "/v4", "/db/demo/v3-protobuf"] {
        assert_eq!(cluster.send(node, "GET", path, &cluster.reader, "").0, 404, "{path}");
    }
    assert_eq!(cluster.send(node, "GET", "/v2/pipeline", &cluster.reader, "").0, 405);
    // With a second database the name must be given, and is missed in words.
    let create = ["db", "create", "other", "--data", &data(node)];
    assert_eq!(cluster.lab.run(1, &create).0, 0);
    for (path, part) in [
        ("/v2/pipeline", "--default-database"),
        ("/db/v2/pipeline", "needs a slash at the end"),
        ("/db/nosuch/v2/pipeline", "no database 'nosuch'"),
    ] {
        let (code, answer) = cluster.post(node, path, &body);
        let said = answer["message"].as_str().unwrap_or_default();
        assert!(code == 404 && said.contains(part), "{path}: {answer}");
        assert_eq!(answer["code"], "UNKNOWN_DATABASE");
    }
}

#[test]
fn the_default_database_is_the_one_that_the_configuration_names() {
    let lab = Lab::loopback();
    let mut node = lab.node(1).with(["--default-database", "second"]);
    node.start();
    lab.one_cluster([&node]);
    for name in ["first", "second"] {
        assert_eq!(lab.run(1, &["db", "create", name, "--data", &data(&node)]).0, 0);
    }
    let token = std::fs::read_to_string(node.data.join("admin.token")).expect("a token");
    let nodes = vec![node];
    let writer = token.trim().to_owned();
    let cluster = Cluster { lab, nodes, reader: String::new(), writer };
    let node = &cluster.nodes[0];
    let stmt = |sql: &str| json!({ "stmt": { "sql": sql } });
    eventually("the databases are ready", SETTLE, || {
        let (code, answer) =
            cluster.post(node, "/v1/execute", &stmt("CREATE TABLE IF NOT EXISTS s (a)"));
        if code == 200 { Ok(()) } else { Err(answer.to_string()) }
    });
    assert_eq!(cluster.post(node, "/db/second/v1/execute", &stmt("SELECT * FROM s")).0, 200);
    let (code, answer) = cluster.post(node, "/db/first/v1/execute", &stmt("SELECT * FROM s"));
    assert!(code == 400 && answer["code"] == "SQLITE_ERROR", "{code} {answer}");
}

#[test]
fn a_reader_reads_and_whatever_writes_is_refused_by_statement() {
    let cluster = Cluster::new(1);
    let node = &cluster.nodes[0];
    cluster.execute(node, "CREATE TABLE t (a)");
    let ask = |requests: Value| {
        let body = json!({ "requests": requests }).to_string();
        let (code, said) =
            cluster.send(node, "POST", "/db/demo/v2/pipeline", &cluster.reader, &body);
        assert_eq!(code, 200, "{said}");
        serde_json::from_str::<Value>(&said).expect("JSON")
    };
    let answer = ask(json!([
        execute("SELECT count(*) FROM t"),
        execute("INSERT INTO t VALUES (1)"),
        execute("WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x"),
        execute("BEGIN IMMEDIATE"),
        execute("PRAGMA user_version = 3"),
        execute("SELECT count(*) FROM t"),
    ]));
    assert_eq!((single(&answer, 0), single(&answer, 5)), (&json!("0"), &json!("0")));
    for at in 1..5 {
        assert_eq!(code_of(&answer, at), "SQLITE_AUTH", "{at}: {answer}");
    }
    // A batch that only reads is one transaction; a reader's may not write.
    let batch = |sql: &str| {
        let ok = |step: usize| json!({ "type": "ok", "step": step });
        let steps = json!([
            { "stmt": { "sql": "BEGIN" } },
            { "stmt": { "sql": sql }, "condition": ok(0) },
            { "stmt": { "sql": "COMMIT" }, "condition": ok(1) },
            { "stmt": { "sql": "ROLLBACK" }, "condition": { "type": "not", "cond": ok(2) } },
        ]);
        json!([{ "type": "batch", "batch": { "steps": steps } }])
    };
    let answer = ask(batch("SELECT 5"));
    let result = &answer["results"][0]["response"]["result"];
    assert_eq!(result["step_results"][1]["rows"][0][0]["value"], "5", "{answer}");
    assert_eq!(result["step_errors"], json!([null, null, null, null]));
    let answer = ask(batch("DELETE FROM t"));
    let errors = &answer["results"][0]["response"]["result"]["step_errors"];
    assert_eq!(errors[1]["code"], "SQLITE_AUTH", "{answer}");
    // Nobody at all gets no further than the door.
    let (code, said) = cluster.send(node, "POST", "/db/demo/v2/pipeline", "quorate_wrong", "{}");
    let said: Value = serde_json::from_str(&said).expect("JSON");
    assert!(code == 401 && said["code"] == "AUTH_REQUIRED", "{code} {said}");
    assert!(said["message"].is_string());
}

#[test]
fn a_pipeline_that_is_malformed_is_refused_before_anything_is_done() {
    let cluster = Cluster::new(1);
    let node = &cluster.nodes[0];
    cluster.execute(node, "CREATE TABLE t (a)");
    let insert = r#"{"type": "execute", "stmt": {"sql": "INSERT INTO t VALUES (1)"}}"#;
    let value = |value: &str| {
        let stmt = format!(r#"{{"sql": "INSERT INTO t VALUES (?)", "args": [{value}]}}"#);
        format!(r#"{{"requests": [{insert}, {{"type": "execute", "stmt": {stmt}}}]}}"#)
    };
    let nested = |depth: usize| {
        let (open, close) = (r#"{"type": "not", "cond": "#.repeat(depth), "}".repeat(depth));
        let step = format!(r#"{{"stmt": {{"sql": "SELECT 1"}}, "condition": {open}1{close}}}"#);
        format!(r#"{{"requests": [{{"type": "batch", "batch": {{"steps": [{step}]}}}}]}}"#)
    };
    for (body, part) in [
        (String::new(), "EOF"),
        ("{".to_owned(), "EOF"),
        ("[]".to_owned(), "cannot be read"),
        ("{}".to_owned(), "requests"),
        (format!(r#"{{"requests": [{insert}, {{"type": "explode"}}]}}"#), "explode"),
        (format!(r#"{{"requests": [{insert}, {{"type": "execute"}}]}}"#), "stmt"),
        (format!(r#"{{"requests": [{insert}, 7]}}"#), "cannot be read"),
        (value(r#"{"type": "integer", "value": "9223372036854775808"}"#), "64 bits"),
        (value(r#"{"type": "blob", "base64": "*"}"#), "base64"),
        (value(r#"{"type": "money", "value": 1}"#), "money"),
        (nested(100_000), "recursion"),
        (format!(r#"{{"requests": [{}{insert}]}}"#, format!("{insert},").repeat(4096)), "4097"),
    ] {
        let (code, said) =
            cluster.send(node, "POST", "/db/demo/v3/pipeline", &cluster.writer, &body);
        let said: Value = serde_json::from_str(&said).expect("JSON");
        let message = said["message"].as_str().unwrap_or_default();
        assert!(code == 400 && message.contains(part), "{part}: {code} {said}");
        assert_eq!(said["code"], "HRANA_PROTO_ERROR");
    }
    assert_eq!(single(&cluster.execute(node, "SELECT count(*) FROM t"), 0), "0");
}

#[test]
fn what_fails_in_a_pipeline_is_an_error_in_its_place_and_the_rest_is_done() {
    let cluster = Cluster::new(1);
    let node = &cluster.nodes[0];
    cluster.execute(node, "CREATE TABLE t (a)");
    let beyond = json!([
        { "stmt": { "sql": "DELETE FROM t" } },
        { "stmt": { "sql": "SELECT 1" }, "condition": { "type": "ok", "step": 1 } },
    ]);
    let large = format!("SELECT '{}'", "x".repeat(5_000_000));
    let (code, answer) = cluster.pipeline(
        node,
        &Value::Null,
        json!([
            execute("INSERT INTO t VALUES (1)"),
            { "type": "batch", "batch": { "steps": beyond } },
            { "type": "execute", "stmt": { "sql_id": 7 } },
            { "type": "execute", "stmt": { "sql": "SELECT 1", "sql_id": 7 } },
            { "type": "store_sql", "sql_id": 7, "sql": "SELECT count(*) FROM t" },
            { "type": "store_sql", "sql_id": 7, "sql": "SELECT 2" },
            { "type": "execute", "stmt": { "sql_id": 7 } },
            { "type": "close_sql", "sql_id": 7 },
            { "type": "close_sql", "sql_id": 7 },
            execute(&large),
            { "type": "describe", "sql": "SELECT a, ?1 AS b, :c FROM t" },
            { "type": "describe", "sql": "SELECT * FROM nosuch" },
            { "type": "get_autocommit" },
            { "type": "sequence", "sql": "INSERT INTO t VALUES (2); INSERT INTO t VALUES (3)" },
            execute("SELECT count(*) FROM t"),
            { "type": "close" },
            execute("SELECT 1"),
        ]),
    );
    assert!(code == 200 && answer["baton"].is_null(), "{answer}");
    let codes: Vec<&str> = (0..17).map(|at| code_of(&answer, at)).collect();
    let (fine, wrong) = ("no error", "HRANA_PROTO_ERROR");
    let expected = [
        fine,
        wrong,
        wrong,
        wrong,
        fine,
        wrong,
        fine,
        fine,
        fine,
        "SQLITE_TOOBIG",
        fine,
        "SQLITE_ERROR",
        fine,
        fine,
        fine,
        fine,
        "STREAM_CLOSED",
    ];
    assert_eq!(codes, expected, "{answer}");
    assert_eq!((single(&answer, 6), single(&answer, 14)), (&json!("1"), &json!("3")));
    let described = &answer["results"][10]["response"]["result"];
    assert_eq!(
        described,
        &json!({
            "params": [{ "name": "?1" }, { "name": ":c" }],
            "cols": [
                { "name": "a", "decltype": null },
                { "name": "b", "decltype": null },
                { "name": ":c", "decltype": null },
            ],
            "is_explain": false,
            "is_readonly": true,
        })
    );
    assert_eq!(answer["results"][12]["response"]["is_autocommit"], true);
    // The whole of a request that is too long is read before it is refused: its sender hears why.
    let body = format!(r#"{{"requests": [{}]}}"#, execute(&large.repeat(2)));
    let (code, said) = cluster.send(node, "POST", "/db/demo/v2/pipeline", &cluster.writer, &body);
    assert!(code == 413 && said.contains("REQUEST_TOO_LARGE"), "{code} {said}");
}

#[test]
fn a_baton_is_good_once_here_for_its_holder_until_it_expires() {
    let cluster = Cluster::new(2);
    let (node, other) = (&cluster.nodes[0], &cluster.nodes[1]);
    let ask = |node: &Node, baton: &Value| {
        cluster.pipeline(node, baton, json!([{ "type": "execute", "stmt": { "sql_id": 1 } }]))
    };
    let store = json!([{ "type": "store_sql", "sql_id": 1, "sql": "SELECT 9" }]);
    let (_, opened) = cluster.pipeline(node, &Value::Null, store);
    let first = &opened["baton"];
    let (code, answer) = ask(node, first);
    assert!(code == 200 && single(&answer, 0) == "9" && answer["baton"] != *first, "{answer}");
    let second = &answer["baton"];
    let (code, said) = ask(node, first);
    assert!(code == 400 && said["code"] == "BATON_REUSED", "{code} {said}");
    let (code, said) = ask(other, second);
    let message = said["message"].as_str().unwrap_or_default();
    assert!(code == 400 && said["code"] == "BATON_INVALID", "{code} {said}");
    assert!(message.contains("of the node 'n1'"), "{message}");
    let body = json!({ "baton": second, "requests": [execute("SELECT 1")] }).to_string();
    let (code, said) = cluster.send(node, "POST", "/db/demo/v3/pipeline", &cluster.reader, &body);
    assert!(code == 400 && said.contains("somebody else"), "{code} {said}");
    for wrong in [json!(""), json!("x"), json!("A".repeat(96))] {
        let (code, said) = ask(node, &wrong);
        assert!(code == 400 && said["code"] == "BATON_INVALID", "{wrong}: {code} {said}");
    }
    // In a transaction a stream is kept for ten seconds.
    let (_, answer) = cluster.pipeline(node, second, json!([execute("BEGIN READONLY")]));
    let inside = answer["baton"].clone();
    std::thread::sleep(Duration::from_millis(11_500));
    let (code, said) = ask(node, &inside);
    assert!(code == 410 && said["code"] == "STREAM_EXPIRED", "{code} {said}");
}

#[test]
fn a_stream_sees_what_it_has_written_through_any_node() {
    let cluster = Cluster::new(3);
    let (_, other) = cluster.owner_and_another();
    cluster.execute(other, "CREATE TABLE t (a)");
    for number in 1..=100 {
        let insert = execute(&format!("INSERT INTO t VALUES ({number})"));
        let count = execute("SELECT count(*) FROM t");
        let (_, answer) = cluster.pipeline(other, &Value::Null, json!([insert, count]));
        assert_eq!(single(&answer, 1), &json!(number.to_string()), "{answer}");
        let (_, answer) = cluster.pipeline(
            other,
            &answer["baton"],
            json!([execute("SELECT max(a) FROM t"), { "type": "close" }]),
        );
        assert_eq!(single(&answer, 0), &json!(number.to_string()), "{answer}");
    }
}

#[test]
fn a_cursor_answers_line_by_line() {
    let cluster = Cluster::new(1);
    let node = &cluster.nodes[0];
    let steps = json!([
        { "stmt": { "sql": "SELECT 1 AS a UNION SELECT 2" } },
        { "stmt": { "sql": "SELECT 3" }, "condition": { "type": "error", "step": 0 } },
        { "stmt": { "sql": "SELECT * FROM nosuch" } },
    ]);
    let body = json!({ "baton": null, "batch": { "steps": steps } }).to_string();
    let (code, said) = cluster.send(node, "POST", "/db/demo/v3/cursor", &cluster.writer, &body);
    let lines: Vec<Value> =
        said.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let types: Vec<&str> = lines.iter().map(|l| l["type"].as_str().unwrap_or("first")).collect();
    let expected = ["first", "step_begin", "row", "row", "step_end", "step_error"];
    assert!(code == 200 && types == expected, "{code} {said}");
    assert_eq!((&lines[1]["step"], &lines[5]["step"]), (&json!(0), &json!(2)));
    assert!(lines[0]["baton"].is_string() && lines[0]["base_url"].is_null());
}

#[test]
fn a_write_whose_outcome_nobody_knows_is_told_as_such() {
    let cluster = Cluster::new(3);
    cluster.execute(&cluster.nodes[0], "CREATE TABLE t (a)");
    let (owner, other) = cluster.owner_and_another();
    // The owner takes it and is not heard of again: it may have done it.
    owner.freeze();
    let answer = cluster.execute(other, "INSERT INTO t VALUES (1)");
    owner.thaw();
    let told = code_of(&answer, 0);
    let count = eventually("the cluster goes on", SETTLE, || {
        let answer = cluster.execute(other, "SELECT count(*) FROM t");
        let count = single(&answer, 0).as_str().map(str::to_owned);
        count.ok_or_else(|| answer.to_string())
    });
    match told {
        "OUTCOME_UNKNOWN" => {
            let message = answer["results"][0]["error"]["message"].as_str().unwrap_or_default();
            assert!(message.contains("not known"), "{message}");
        }
        "no error" => assert_eq!(count, "1", "told as done"),
        // Whoever says that nothing was done knows.
        _ => assert_eq!(count, "0", "{answer}"),
    }
}

#[test]
fn a_transaction_that_loses_its_owner_says_so_and_nothing_of_it_or_behind_it_is_done() {
    let mut cluster = Cluster::new(3);
    cluster.execute(&cluster.nodes[0], "CREATE TABLE t (a)");
    let (owner, other) = cluster.owner_and_another();
    let (owner, other) = (owner.name.clone(), other.name.clone());
    let at = |cluster: &Cluster, name: &str| {
        cluster.nodes.iter().position(|node| node.name == name).expect("a node")
    };
    let other = at(&cluster, &other);
    let requests = json!([execute("BEGIN IMMEDIATE"), execute("INSERT INTO t VALUES (1)")]);
    let (_, begun) = cluster.pipeline(&cluster.nodes[other], &Value::Null, requests);
    assert_eq!(code_of(&begun, 1), "no error", "{begun}");
    let owner = at(&cluster, &owner);
    cluster.nodes[owner].kill();
    let requests = json!([
        execute("INSERT INTO t VALUES (2)"),
        execute("INSERT INTO t VALUES (3)"),
        { "type": "get_autocommit" },
        execute("COMMIT"),
        execute("SELECT 1"),
    ]);
    let (_, answer) = cluster.pipeline(&cluster.nodes[other], &begun["baton"], requests);
    // What comes behind the loss would be run by itself: it is not.
    assert_eq!(code_of(&answer, 0), "TRANSACTION_LOST", "{answer}");
    assert_eq!(code_of(&answer, 1), "TRANSACTION_LOST");
    assert_eq!(answer["results"][2]["response"]["is_autocommit"], true);
    assert_eq!(code_of(&answer, 3), "TRANSACTION_LOST");
    assert_eq!(code_of(&answer, 4), "no error", "the stream goes on outside of it: {answer}");
    eventually("the others go on", SETTLE, || {
        let insert =
            execute("INSERT INTO t SELECT 9 WHERE NOT EXISTS (SELECT 1 FROM t WHERE a = 9)");
        let (_, answer) = cluster.pipeline(&cluster.nodes[other], &Value::Null, json!([insert]));
        if code_of(&answer, 0) == "no error" { Ok(()) } else { Err(answer.to_string()) }
    });
    let answer = cluster.execute(&cluster.nodes[other], "SELECT group_concat(a) FROM t");
    assert_eq!(single(&answer, 0), "9");
}

#[test]
fn whoever_leaves_a_transaction_open_holds_up_others_for_a_short_while_only() {
    let cluster = Cluster::new(2);
    let (owner, other) = cluster.owner_and_another();
    cluster.execute(owner, "CREATE TABLE t (a)");
    for (node, elsewhere) in [(owner, other), (other, owner)] {
        let requests = json!([execute("BEGIN"), execute("INSERT INTO t VALUES (1)")]);
        let (_, begun) = cluster.pipeline(node, &Value::Null, requests);
        assert_eq!(code_of(&begun, 1), "no error", "{begun}");
        // It waits, and is done: nobody has to send it again.
        let answer = cluster.execute(elsewhere, "INSERT INTO t VALUES (2)");
        assert_eq!(code_of(&answer, 0), "no error", "{answer}");
        let (_, late) = cluster.pipeline(
            node,
            &begun["baton"],
            json!([execute("COMMIT"), { "type": "close" }]),
        );
        assert_eq!(code_of(&late, 0), "TRANSACTION_LOST", "{late}");
        // A close, on the other hand, ends it at once.
        let requests = json!([
            execute("BEGIN"),
            execute("INSERT INTO t VALUES (1)"),
            { "type": "close" },
        ]);
        let (_, closed) = cluster.pipeline(node, &Value::Null, requests);
        assert!(closed["baton"].is_null(), "{closed}");
    }
    let answer = cluster.execute(other, "SELECT group_concat(a) FROM t");
    assert_eq!(single(&answer, 0), "2,2");
}
