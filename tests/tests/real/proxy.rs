//! `quorate proxy`: applications that know nothing of a cluster notice nothing of what happens to it.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use quorate_tests::drivers::{Language, script};
use quorate_tests::{Lab, Node, Proxy, eventually, exchange};
use serde_json::{Value, json};

use super::clients::{freeze, settled, token_of, with_user};
use super::databases::{SETTLE, equal};
use super::users::run;

/// How many write at once.
const WRITERS: usize = 8;

/// The cluster as the proxy is told of it, beginning with these nodes.
fn to(nodes: &[Node], database: &str) -> String {
    let known: Vec<String> = nodes.iter().map(|node| node.client().expect("it listens")).collect();
    format!("quorate://{}{database}", known.join(","))
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// Kills, freezes and restarts one node at a time, for `PROXY_SECONDS` or 10, and each kind at least once.
fn disturb(lab: &Lab, nodes: &mut [Node]) {
    let given = std::env::var("PROXY_SECONDS").ok().and_then(|text| text.parse().ok());
    let (span, began) = (Duration::from_secs(given.unwrap_or(10)), Instant::now());
    let mut round = 0_usize;
    while began.elapsed() < span || round < 4 {
        let at = round % nodes.len();
        match round % 4 {
            0 => {
                nodes[at].kill();
                thread::sleep(Duration::from_millis(700));
                nodes[at].start();
            }
            // Shorter than what is waited for an answer, and longer.
            1 => freeze(&nodes[at], Duration::from_millis(600)),
            2 => {
                assert_eq!(nodes[at].stop(), 0);
                nodes[at].start();
            }
            _ => freeze(&nodes[at], Duration::from_secs(4)),
        }
        // One at a time: the next only when all are there again.
        lab.one_cluster(&*nodes);
        settled(nodes);
        round += 1;
    }
}

/// Writes and reads by plain HTTP until it is over; the rows that were acknowledged, and the longest wait.
fn write(
    address: &str,
    token: &str,
    writer: usize,
    over: &AtomicBool,
) -> Result<(Vec<i64>, Duration), String> {
    let (mut acknowledged, mut longest) = (Vec::new(), Duration::ZERO);
    let mut send = |path: &str, body: Value| {
        let began = Instant::now();
        let answer = exchange(address, "POST", path, &bearer(token), &body.to_string());
        longest = longest.max(began.elapsed());
        match answer? {
            (200, body) => serde_json::from_str::<Value>(&body).map_err(|e| e.to_string()),
            other => Err(format!("{other:?}")),
        }
    };
    while !over.load(Ordering::Relaxed) {
        let id = i64::try_from(writer * 1_000_000 + acknowledged.len()).expect("a row");
        let insert = json!({ "sql": "INSERT INTO t VALUES (?, ?, 0)", "args": [id, writer] });
        send("/db/demo/execute", insert).map_err(|error| format!("row {id}: {error}"))?;
        acknowledged.push(id);
        let own = json!({ "sql": "SELECT count(*) FROM t WHERE writer = ?", "args": [writer] });
        let seen = send("/db/demo/query", own)?["results"][0]["rows"][0][0].as_u64();
        if seen != Some(acknowledged.len() as u64) {
            return Err(format!("{} rows are written and {seen:?} seen", acknowledged.len()));
        }
    }
    Ok((acknowledged, longest))
}

#[test]
fn plain_http_sees_no_error_while_nodes_are_killed_frozen_and_restarted_and_each_write_is_once() {
    let lab = Lab::loopback();
    let (mut nodes, token) = with_user(&lab, 3);
    let proxy = Proxy::start(&lab, "proxy", &["--to", &to(&nodes, "")]);
    let over = AtomicBool::new(false);
    let all = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (lab, proxy, token, over, all) = (&lab, &proxy, &token, &over, &all);
            scope.spawn(move || {
                let written = lab.inside(1, || write(&proxy.address, token, writer, over));
                all.lock().expect("nobody panics").push(written);
            });
        }
        let _over = super::clients::Over(&over);
        disturb(&lab, &mut nodes);
    });
    let all = all.into_inner().expect("nobody panics");
    let errors: Vec<&String> = all.iter().filter_map(|written| written.as_ref().err()).collect();
    assert!(errors.is_empty(), "{errors:?}\n{}", proxy.log());
    let written: BTreeSet<i64> = all.iter().flatten().flat_map(|(ids, _)| ids.clone()).collect();
    let longest = all.iter().flatten().map(|(_, longest)| *longest).max().unwrap_or_default();
    println!("plain HTTP: {} writes, 0 errors, the longest stall {longest:?}", written.len());
    assert!(written.len() > 100, "{}", written.len());
    equal(&nodes, &written);
}

#[test]
fn the_driver_of_javascript_sees_no_error_through_a_proxy_while_nodes_go_and_come() {
    let lab = Lab::loopback();
    let (mut nodes, token) = with_user(&lab, 3);
    let proxy = Proxy::start(&lab, "proxy", &["--to", &to(&nodes, "")]);
    let (program, script) = script(Language::JavaScript, "writers.mjs");
    let url = format!("http://{}/db/demo/", proxy.address);
    let mut command = lab.command_of(1, &program);
    command.arg(script).args([&url, &token, &WRITERS.to_string()]);
    let mut driver =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("node runs");
    disturb(&lab, &mut nodes);
    drop(driver.stdin.take());
    let output = driver.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout);
    let said: Value = serde_json::from_str(&said).unwrap_or_else(|e| panic!("{e}: {said}"));
    assert_eq!(said["errors"], json!([]), "{}", proxy.log());
    let acknowledged = said["acknowledged"].as_array().into_iter().flatten();
    let written: BTreeSet<i64> = acknowledged.filter_map(Value::as_i64).collect();
    println!(
        "@libsql/client: {} writes, 0 errors, the longest stall {} ms",
        written.len(),
        said["longest_ms"]
    );
    assert!(written.len() > 100, "{}", written.len());
    equal(&nodes, &written);
}

#[test]
fn a_transaction_whose_owner_dies_is_lost_as_a_whole_and_a_commit_is_done_once() {
    let lab = Lab::loopback();
    let (mut nodes, token) = with_user(&lab, 3);
    let proxy = Proxy::start(&lab, "proxy", &["--to", &to(&nodes, "")]);
    let shown = bearer(&token);
    let ask = |baton: &Value, statements: &[&str]| {
        let execute = |sql: &&str| json!({ "type": "execute", "stmt": { "sql": sql } });
        let requests: Vec<Value> = statements.iter().map(execute).collect();
        let body = json!({ "baton": baton, "requests": requests }).to_string();
        let (code, said) =
            proxy.send(&lab, "POST", "/db/demo/v3/pipeline", &shown, &body).expect("an answer");
        assert_eq!(code, 200, "{said}");
        serde_json::from_str::<Value>(&said).expect("JSON")
    };
    let codes = |answer: &Value| -> Vec<String> {
        let result = |result: &Value| result["error"]["code"].as_str().unwrap_or("ok").to_owned();
        answer["results"].as_array().into_iter().flatten().map(result).collect()
    };
    let mut acknowledged = BTreeSet::new();
    for id in [1_i64, 2] {
        let answer = ask(&Value::Null, &["BEGIN", &format!("INSERT INTO t VALUES ({id}, 0, 0)")]);
        assert_eq!(codes(&answer), ["ok", "ok"]);
        // Of what is not committed nobody else sees anything.
        let other = ask(&Value::Null, &[&format!("SELECT count(*) FROM t WHERE id = {id}")]);
        assert_eq!(other["results"][0]["response"]["result"]["rows"][0][0]["value"], "0");
        let owner = owner(&mut nodes);
        owner.kill();
        let answer = ask(&answer["baton"], &["SELECT 1", "ROLLBACK"]);
        assert_eq!(codes(&answer), ["TRANSACTION_LOST", "ok"], "{answer}");
        let insert = format!("INSERT INTO t VALUES ({}, 0, 0)", id + 10);
        let answer = ask(&answer["baton"], &["BEGIN", &insert]);
        assert_eq!(
            codes(&answer),
            ["ok", "ok"],
            "another is begun at whoever owns it now: {answer}"
        );
        let answer = ask(&answer["baton"], &["COMMIT"]);
        assert_eq!(codes(&answer), ["ok"], "{answer}");
        acknowledged.insert(id + 10);
        nodes
            .iter_mut()
            .filter_map(|node| (!node.is_running()).then_some(node))
            .for_each(Node::start);
        lab.one_cluster(&nodes);
        settled(&nodes);
    }
    // The answer to a commit is lost: the owner does not answer in time, and did it or not. The client
    // asks on until it knows, and tells one or the other.
    let insert = "INSERT INTO t VALUES (3, 0, 0)";
    let answer = ask(&Value::Null, &["BEGIN", insert]);
    assert_eq!(codes(&answer), ["ok", "ok"]);
    let frozen = owner(&mut nodes);
    frozen.freeze();
    let answer = ask(&answer["baton"], &["COMMIT"]);
    frozen.thaw();
    match codes(&answer)[0].as_str() {
        "ok" => _ = acknowledged.insert(3),
        "TRANSACTION_LOST" => {}
        other => panic!("{other}: {answer}"),
    }
    equal(&nodes, &acknowledged);
}

/// Who owns the database.
fn owner(nodes: &mut [Node]) -> &mut Node {
    let name = eventually("somebody owns the database", SETTLE, || {
        let (_, layout) = nodes[0].get("/layout").or_else(|_| nodes[1].get("/layout"))?;
        layout["shards"][0]["owner"].as_str().map(str::to_owned).ok_or(layout.to_string())
    });
    nodes.iter_mut().find(|node| node.name == name).expect("one of them")
}

/// Runs a driver's script, which uses all that the driver can do, with a proxy in the place of nodes.
fn drive(language: Language, name: &str, slash: &str) {
    let lab = Lab::loopback();
    let (nodes, token) = with_user(&lab, 3);
    let (program, script) = script(language, name);
    let proxies = ["one", "two"].map(|name| Proxy::start(&lab, name, &["--to", &to(&nodes, "")]));
    let urls = proxies.each_ref().map(|proxy| format!("http://{}/db/demo{slash}", proxy.address));
    let args = [script.to_str().expect("a path of ours"), &urls[0], &urls[1], &token];
    let (code, said) = lab.run_program(1, &program, &args);
    assert!(code == 0 && said.contains("all done"), "{name}: {code}\n{said}");
}

#[test]
fn the_driver_of_javascript_works_unchanged_through_a_proxy() {
    drive(Language::JavaScript, "javascript.mjs", "/");
}

#[test]
fn the_driver_of_python_that_speaks_version_1_works_unchanged_through_a_proxy() {
    drive(Language::Python, "python1.py", "");
}

#[test]
fn the_rust_driver_in_python_works_unchanged_through_a_proxy() {
    drive(Language::Python, "python3.py", "");
}

/// A pipeline of one statement.
fn pipeline(sql: &str) -> String {
    let stmt = json!({ "type": "execute", "stmt": { "sql": sql } });
    json!({ "requests": [stmt, { "type": "close" }] }).to_string()
}

#[test]
fn a_proxy_passes_each_token_on_and_the_cluster_judges_it() {
    let lab = Lab::loopback();
    let (nodes, writer) = with_user(&lab, 2);
    let reader = token_of(&lab, &nodes[0], "eyes", "reader");
    let url = to(&nodes, "");
    let proxy = Proxy::start(&lab, "proxy", &["--to", &url]);
    let insert = json!({ "sql": "INSERT INTO t VALUES (1, 1, 1)" }).to_string();
    let count = json!({ "sql": "SELECT count(*) FROM t" }).to_string();
    let (sql, drivers) = ("/db/demo/execute", "/db/demo/v2/pipeline");
    let send = |path: &str, shown: &str, body: &str| {
        proxy.send(&lab, "POST", path, shown, body).expect("an answer")
    };
    for shown in ["", "Bearer wrong", "Basic YTpi", "Nonsense"] {
        for (path, body) in [(sql, &insert), (drivers, &pipeline("INSERT INTO t VALUES (1, 1, 1)"))]
        {
            let (code, said) = send(path, shown, body);
            assert_eq!(code, 401, "{shown} at {path}: {said}");
            assert!(said.contains("token"), "{said}");
        }
    }
    // Many in a row are answered by the proxy itself, and hinder nobody.
    let began = Instant::now();
    for _ in 0..100 {
        assert_eq!(send(sql, "Bearer wrong", &insert).0, 401);
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let eyes = bearer(&reader);
    let (code, said) = send("/db/demo/query", &eyes, &count);
    assert!(code == 200 && said.contains("[0]"), "{code} {said}");
    let (code, said) = send(sql, &eyes, &insert);
    assert!(code == 403 && said.contains("role writer"), "{code} {said}");
    let (code, said) = send(drivers, &eyes, &pipeline("INSERT INTO t VALUES (1, 1, 1)"));
    assert!(code == 200 && said.contains("SQLITE_AUTH"), "{code} {said}");
    let steps = ["BEGIN", "SELECT count(*) FROM t", "ROLLBACK"]
        .map(|sql| json!({ "type": "execute", "stmt": { "sql": sql } }));
    let begin = json!({ "requests": steps });
    let (code, said) = send(drivers, &eyes, &begin.to_string());
    assert!(code == 200 && !said.contains("error"), "a reader's transaction reads: {said}");
    assert_eq!(send(sql, &bearer(&writer), &insert).0, 200);

    // The proxy's own token is for those who show none, and for no page in a browser.
    let lending = Proxy::start(&lab, "lending", &["--to", &url, "--token", &writer]);
    let (code, said) = lending.send(&lab, "POST", "/db/demo/query", "", &count).unwrap();
    assert!(code == 200 && said.contains("[1]"), "{code} {said}");
    let (code, said) =
        lending.send(&lab, "POST", "/db/demo/query", "Bearer wrong", &count).unwrap();
    assert_eq!(code, 401, "a wrong token is not replaced by the proxy's: {said}");
    let page = "/db/demo/query HTTP/1.1\r\norigin: http://elsewhere.example\r\nx-rest:";
    let (code, said) = lending.send(&lab, "POST", page, "", &count).unwrap();
    assert!(code == 401 && said.contains("browser"), "{code} {said}");
}

#[test]
fn what_is_wrong_is_said_precisely_and_harms_nobody() {
    let lab = Lab::loopback();
    let (nodes, token) = with_user(&lab, 2);
    let proxy = Proxy::start(&lab, "proxy", &["--to", &to(&nodes, "/demo")]);
    let shown = bearer(&token);
    let long = "x".repeat(10_000_000);
    let long_sql = json!({ "sql": format!("SELECT '{long}'") }).to_string();
    let ok = json!({ "sql": "SELECT 7" }).to_string();
    let once = json!({ "sql": "SELECT 7", "once": { "session": "s", "sequence": 1 } }).to_string();
    for (method, path, body, code, part) in [
        ("POST", "/db/nosuch/query", ok.as_str(), 404, "nosuch"),
        ("POST", "/db/nosuch/v2/pipeline", &pipeline("SELECT 7"), 404, "no database 'nosuch'"),
        ("POST", "/db/demo/v3/pipeline", "{\"requests\": 7}", 400, "HRANA_PROTO_ERROR"),
        ("POST", "/db/demo/v3/pipeline", "no JSON", 400, "cannot be read"),
        ("POST", "/db/demo/query", "{\"sqll\": 1}", 422, "sqll"),
        ("POST", "/db/demo/query", &long_sql, 413, "longer than"),
        (
            "POST",
            "/db/demo/v2/pipeline",
            &pipeline(&format!("SELECT '{long}'")),
            413,
            "longer than",
        ),
        ("POST", "/db/demo/execute", &once, 400, "leave \\\"once\\\" out"),
        ("POST", "/db/demo/session", "{}", 404, "a proxy serves POST /db/NAME/query"),
        ("GET", "/status", "", 404, "a proxy serves POST /db/NAME/query"),
        ("GET", "/db/demo/query", "", 405, "another method"),
        ("POST", "/db/demo/query?shard=usa", &ok, 404, "usa"),
        ("POST", "/db/demo/v2/pipeline", &pipeline("SELEC 7"), 200, "syntax error"),
        ("POST", "/v2/pipeline", &pipeline("SELECT 7"), 200, "\"7\""),
        ("GET", "/db/demo/v3", "", 200, "Hrana"),
        ("GET", "/healthz", "", 200, "ok"),
        ("GET", "/readyz", "", 200, "true"),
        ("GET", "/layout", "", 200, "\"databases\":[\"demo\"]"),
        ("POST", "/db/demo/query", &ok, 200, "[7]"),
    ] {
        let (is, said) = proxy.send(&lab, method, path, &shown, body).expect("an answer");
        let said: String = said.chars().take(400).collect();
        assert!(is == code && said.contains(part), "{method} {path}: {is} {said}");
    }
    let flags = ["proxy", "--to", "quorate://127.0.0.1:1", "--listen", &proxy.address];
    let (code, said) = lab.run(1, &flags);
    assert!(code == 2 && said.contains("in use") && said.contains("--listen"), "{code} {said}");
}

#[test]
fn whoever_listens_to_a_proxy_hears_of_every_change() {
    let lab = Lab::loopback();
    let (nodes, token) = with_user(&lab, 2);
    let proxy = Proxy::start(&lab, "proxy", &["--to", &to(&nodes, "")]);
    let mut listener = lab.inside(1, || TcpStream::connect(&proxy.address).expect("connected"));
    listener.set_read_timeout(Some(SETTLE)).expect("a limit");
    let get =
        format!("GET /events HTTP/1.1\r\nhost: p\r\nauthorization: {}\r\n\r\n", bearer(&token));
    listener.write_all(get.as_bytes()).expect("sent");
    let mut lines = BufReader::new(listener).lines();
    let mut heard = |part: &str| {
        let line = lines.by_ref().map(|line| line.expect("a line"));
        let found = line.take(1000).find(|line| line.starts_with("data: ") && line.contains(part));
        assert!(found.is_some(), "nothing of {part} is heard");
    };
    heard("\"databases\":[\"demo\"]");
    run(&lab, &nodes[1], &["db", "create", "second"]);
    heard("\"second\"");
    let mut third = lab.node(3);
    third.start();
    heard("\"n3\"");
}

#[test]
fn without_a_server_requests_wait_for_one_as_long_as_they_may_and_then_say_which_were_tried() {
    let lab = Lab::loopback();
    let (mut nodes, token) = with_user(&lab, 2);
    let nowhere = Proxy::start(&lab, "nowhere", &["--to", "quorate://127.0.0.1:1,127.0.0.1:2"]);
    let began = Instant::now();
    let body = json!({ "sql": "SELECT 1", "timeout_ms": 700 }).to_string();
    let (code, said) =
        nowhere.send(&lab, "POST", "/db/demo/query", &bearer(&token), &body).unwrap();
    let took = began.elapsed();
    assert!(code == 503 && said.contains("127.0.0.1:2"), "{code} {said}");
    assert!(said.contains("nothing-done"), "{said}");
    assert!(took >= Duration::from_millis(700) && took < Duration::from_secs(3), "{took:?}");
    let (code, said) = nowhere.send(&lab, "GET", "/readyz", "", "").unwrap();
    assert!(code == 503 && said.contains("no server is in reach"), "{code} {said}");
    assert_eq!(nowhere.send(&lab, "GET", "/healthz", "", "").unwrap().0, 200);

    // A proxy may be there before its cluster is.
    let url = to(&nodes, "");
    nodes.iter_mut().for_each(Node::kill);
    let proxy = Proxy::start(&lab, "early", &["--to", &url]);
    let insert =
        json!({ "sql": "INSERT INTO t VALUES (5, 5, 5)", "timeout_ms": 60_000 }).to_string();
    let shown = bearer(&token);
    let answer = thread::scope(|scope| {
        let asked = scope.spawn(|| proxy.send(&lab, "POST", "/db/demo/execute", &shown, &insert));
        thread::sleep(Duration::from_secs(2));
        nodes.iter_mut().for_each(Node::start);
        asked.join().expect("it ends")
    });
    let (code, said) = answer.expect("an answer");
    assert_eq!(code, 200, "{said}");
    equal(&nodes, &BTreeSet::from([5]));
}

#[test]
fn a_proxy_that_is_asked_to_end_answers_what_is_under_way_first() {
    let lab = Lab::loopback();
    let (nodes, token) = with_user(&lab, 2);
    let mut proxy = Proxy::start(&lab, "proxy", &["--to", &to(&nodes, "")]);
    let shown = bearer(&token);
    let insert =
        json!({ "sql": "INSERT INTO t VALUES (9, 9, 9)", "timeout_ms": 30_000 }).to_string();
    assert_eq!(proxy.send(&lab, "GET", "/layout", &shown, "").unwrap().0, 200);
    nodes.iter().for_each(Node::freeze);
    // An idle connection and a listener of events do not hold it up.
    let idle = lab.inside(1, || {
        let mut listener = TcpStream::connect(&proxy.address).expect("connected");
        let get = format!("GET /events HTTP/1.1\r\nhost: p\r\nauthorization: {shown}\r\n\r\n");
        listener.write_all(get.as_bytes()).expect("sent");
        (listener, TcpStream::connect(&proxy.address).expect("connected"))
    });
    let (answer, refused) = thread::scope(|scope| {
        let asked = scope.spawn(|| proxy.send(&lab, "POST", "/db/demo/execute", &shown, &insert));
        thread::sleep(Duration::from_millis(500));
        proxy.terminate();
        thread::sleep(Duration::from_millis(500));
        let refused = proxy.send(&lab, "GET", "/healthz", "", "");
        nodes.iter().for_each(Node::thaw);
        (asked.join().expect("it ends"), refused)
    });
    let (code, said) = answer.expect("an answer");
    assert_eq!(code, 200, "{said}");
    assert!(refused.is_err(), "nobody new is served: {refused:?}");
    assert_eq!(proxy.exit_code(), Some(0), "{}", proxy.log());
    drop(idle);
    equal(&nodes, &BTreeSet::from([9]));
}
