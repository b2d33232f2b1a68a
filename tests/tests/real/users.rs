//! Users, their roles, passwords and tokens, at real nodes.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use quorate_tests::{Door, Lab, Node, eventually};
use serde_json::json;

const QUICKLY: Duration = Duration::from_secs(2);
/// How long a change may take to reach a node that is in contact.
const AT_ONCE: Duration = Duration::from_secs(1);
const PASSWORD: &str = "correct horse battery";

fn data(node: &Node) -> String {
    node.data.display().to_string()
}

/// Runs a command at `node`, as the owner of its data directory; insists that it succeeds.
#[track_caller]
pub(super) fn run(lab: &Lab, node: &Node, args: &[&str]) -> String {
    let (code, said, errors) = lab.run_with(1, &[args, &["--data", &data(node)]].concat(), &[], "");
    assert_eq!(code, 0, "{args:?}: {said}{errors}");
    said
}

/// A token of `user`, made at `node`.
#[track_caller]
pub(super) fn token(lab: &Lab, node: &Node, user: &str, name: &str) -> String {
    let said = run(lab, node, &["user", "token", "add", user, "--name", name]);
    let token = said.trim().to_owned();
    assert!(token.starts_with("quorate_") && token.len() == 51, "nothing but the token: {said}");
    token
}

fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}\r\n")
}

/// The status and the answer of a request that shows this.
fn ask(
    node: &Node,
    method: &str,
    path: &str,
    shown: &str,
    body: &str,
) -> Result<(u16, String), String> {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: n\r\n{shown}content-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let limit = if path == "/events" { Duration::from_millis(500) } else { QUICKLY };
    let answer = node.exchange(request.as_bytes(), limit)?;
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    code.map(|code| (code, answer.clone())).ok_or(answer)
}

#[track_caller]
fn status(node: &Node, method: &str, path: &str, shown: &str, body: &str) -> u16 {
    ask(node, method, path, shown, body).expect("an answer").0
}

/// A cluster of `count` nodes with a database `demo`, an admin `ada`, a writer `bob`, a reader `eve`.
fn with_users(lab: &Lab, count: usize) -> Vec<Node> {
    let mut nodes = lab.nodes(count);
    nodes.iter_mut().for_each(Node::start);
    lab.one_cluster(&nodes);
    run(lab, &nodes[0], &["db", "create", "demo"]);
    run(lab, &nodes[0], &["sql", "demo", "CREATE TABLE t (id INTEGER PRIMARY KEY)"]);
    for (name, role) in [("ada", "admin"), ("bob", "writer"), ("eve", "reader")] {
        run(lab, &nodes[0], &["user", "add", name, "--role", role]);
    }
    nodes
}

/// Each path with what it asks for: 0 nothing, 1 a reader, 2 a writer, 3 an admin.
const PATHS: [(&str, &str, &str, usize); 30] = [
    ("GET", "/healthz", "", 0),
    ("GET", "/readyz", "", 0),
    ("GET", "/status", "", 1),
    ("GET", "/layout", "", 1),
    ("GET", "/events", "", 1),
    ("GET", "/metrics", "", 1),
    ("GET", "/db", "", 1),
    ("GET", "/db/demo", "", 1),
    ("GET", "/db/demo/copies", "", 1),
    ("GET", "/nowhere", "", 1),
    ("POST", "/db/demo/query", r#"{"sql": "SELECT 1"}"#, 1),
    ("POST", "/db/demo/query?shard=main", r#"{"sql": "SELECT 1"}"#, 1),
    ("POST", "/db/demo/execute", r#"{"sql": "INSERT INTO t DEFAULT VALUES"}"#, 2),
    ("POST", "/db/demo/session", "{}", 2),
    ("POST", "/db/demo/execute?shard=main", r#"{"sql": "DELETE FROM t"}"#, 2),
    ("GET", "/v2", "", 0),
    ("GET", "/db/demo/v3", "", 0),
    ("POST", "/db/demo/v2/pipeline", r#"{"requests": []}"#, 1),
    ("POST", "/db/demo//v1/execute/", r#"{"stmt": {"sql": "SELECT 1"}}"#, 1),
    ("POST", "/v1/execute", r#"{"stmt": {"sql": "INSERT INTO t DEFAULT VALUES"}}"#, 2),
    ("POST", "/db/demo/verify", "{}", 3),
    ("POST", "/db/demo/sync", "{}", 3),
    ("GET", "/db/demo/backup", "", 3),
    ("POST", "/db/demo/restore", "{}", 3),
    ("POST", "/admin/db", r#"{"todo": "drop", "name": "nosuch"}"#, 3),
    ("POST", "/admin/db/preview", r#"{"todo": "drop", "name": "nosuch"}"#, 3),
    ("POST", "/admin/server", r#"{"server": "nosuch", "todo": "remove"}"#, 3),
    ("GET", "/users", "", 3),
    ("POST", "/users", r#"{"todo": "drop", "user": "nosuch"}"#, 3),
    // Last, for it ends the node.
    ("POST", "/admin/stop", "{}", 3),
];

#[test]
fn each_role_may_what_it_may_at_every_path_and_no_more() {
    let lab = Lab::loopback();
    let nodes = with_users(&lab, 1);
    let node = &nodes[0];
    let own = fs::read_to_string(node.data.join("admin.token")).expect("a token");
    let token = |user: &str| bearer(&token(&lab, node, user, "t"));
    // What each shows, and up to what it may.
    let shown = [
        (String::new(), 0),
        ("authorization: Digest x\r\n".to_owned(), 0),
        (bearer("quorate_wrong"), 0),
        (token("eve"), 1),
        (token("bob"), 2),
        (token("ada"), 3),
        (bearer(own.trim()), 3),
    ];
    for (method, path, body, needed) in PATHS {
        for (number, (shown, may)) in shown.iter().enumerate() {
            if path == "/admin/stop" && number == shown.len() {
                continue; // It has ended by then.
            }
            let Ok((code, said)) = ask(node, method, path, shown, body) else {
                assert!(path == "/admin/stop" && *may == 3, "{method} {path}: no answer");
                continue;
            };
            let named = ["", "reader", "writer", "admin"][needed];
            match (*may >= needed, *may) {
                (true, _) => {
                    assert!(![401, 403, 429].contains(&code), "{method} {path} {number}: {said}");
                    let expected = if path == "/nowhere" { 404 } else { code };
                    assert!(code == expected && code != 405, "{method} {path}: {said}");
                }
                // Who shows nothing that is known.
                (false, 0) => {
                    let often = code == 429 && number == 2;
                    assert!(code == 401 || often, "{method} {path} {number}: {said}");
                    assert!(often || said.contains("www-authenticate"), "{said}");
                }
                (false, _) => {
                    assert_eq!(code, 403, "{method} {path} {number}: {said}");
                    assert!(said.contains(&format!("needs the role {named}")), "{said}");
                }
            }
        }
    }
}

#[test]
fn a_user_added_on_one_node_works_on_the_others_at_once_and_a_dropped_token_nowhere() {
    let lab = Lab::loopback();
    let nodes = with_users(&lab, 3);
    let mut slowest = Duration::ZERO;
    for (number, node) in nodes.iter().enumerate() {
        let name = format!("t{number}");
        let shown = bearer(&token(&lab, node, "bob", &name));
        let begin = Instant::now();
        for other in &nodes {
            eventually("the token is good everywhere", AT_ONCE, || {
                match ask(other, "GET", "/status", &shown, "")? {
                    (200, _) => Ok(()),
                    (_, said) => Err(said),
                }
            });
            slowest = slowest.max(begin.elapsed());
        }
        run(&lab, node, &["user", "token", "drop", "bob", &name]);
        for other in &nodes {
            eventually("the token is good nowhere", AT_ONCE, || {
                match ask(other, "GET", "/status", &shown, "")? {
                    (401, _) => Ok(()),
                    (_, said) => Err(said),
                }
            });
        }
        assert_eq!(status(node, "GET", "/status", &shown, ""), 401, "at the node that dropped it");
    }
    println!("a new token was good on three nodes after {slowest:?} at most");
}

#[test]
fn a_stream_of_layouts_ends_when_its_token_is_dropped_or_expires() {
    let lab = Lab::loopback();
    let nodes = with_users(&lab, 1);
    let shown = bearer(&token(&lab, &nodes[0], "eve", "t"));
    let request = format!("GET /events HTTP/1.1\r\nhost: n\r\nconnection: close\r\n{shown}\r\n");
    let mut streams = nodes[0].connections(1, request.as_bytes()).expect("a stream");
    std::thread::sleep(Duration::from_millis(200));
    run(&lab, &nodes[0], &["user", "token", "drop", "eve", "t"]);
    let stream = &mut streams[0];
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a limit");
    let mut told = Vec::new();
    std::io::Read::read_to_end(stream, &mut told).expect("the stream ends");
    let told = String::from_utf8_lossy(&told);
    assert_eq!(told.matches("event: layout").count(), 1, "the first, and none after: {told}");
    let expires = ["user", "token", "add", "eve", "--expires", "2s"];
    let shown = bearer(run(&lab, &nodes[0], &expires).trim());
    let request = format!("GET /events HTTP/1.1\r\nhost: n\r\nconnection: close\r\n{shown}\r\n");
    let mut stream = nodes[0].connections(1, request.as_bytes()).expect("a stream").remove(0);
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a limit");
    let mut told = String::new();
    std::io::Read::read_to_string(&mut stream, &mut told).expect("it ends, with nothing happening");
    assert!(told.starts_with("HTTP/1.1 200") && told.contains("event: layout"), "{told}");
}

/// Whether any file below holds these bytes.
fn holds(dir: &Path, needle: &[u8]) -> bool {
    let entries =
        fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path());
    entries.into_iter().any(|path| {
        if path.is_dir() {
            return holds(&path, needle);
        }
        let bytes = fs::read(&path).expect("a file");
        bytes.windows(needle.len()).any(|window| window == needle)
    })
}

#[test]
fn disks_and_logs_hold_hashes_and_no_secret() {
    let lab = Lab::loopback();
    let mut nodes: Vec<Node> = (1..=2).map(|n| lab.node(n).with(["--log", "trace"])).collect();
    nodes.iter_mut().for_each(Node::start);
    lab.one_cluster(&nodes);
    let at = data(&nodes[0]);
    let add = ["user", "add", "ada", "--role", "admin", "--password-stdin", "--data", &at];
    let (code, said, errors) = lab.run_with(1, &add, &[], &format!("{PASSWORD}\n"));
    assert_eq!(code, 0, "{said}{errors}");
    let token = token(&lab, &nodes[0], "ada", "t");
    let basic = ["status", "--user", "ada", "--data", &at];
    let (code, said, errors) = lab.run_with(1, &basic, &[("QUORATE_PASSWORD", PASSWORD)], "");
    assert_eq!(code, 0, "{said}{errors}");
    assert_eq!(status(&nodes[1], "GET", "/status", &bearer(&token), ""), 200);
    let own = bearer(fs::read_to_string(nodes[1].data.join("admin.token")).expect("one").trim());
    for path in ["/status", "/layout", "/metrics", "/users", "/db"] {
        let (_, said) = ask(&nodes[1], "GET", path, &own, "").expect("an answer");
        assert!(!said.contains(&token) && !said.contains("argon2"), "{path}: {said}");
    }
    // Their processes have ended, and everything is where it stays.
    nodes.iter_mut().for_each(Node::kill);
    for node in &nodes {
        assert!(holds(&node.data, b"$argon2id$"), "the hash of the password is there");
        for secret in [&token[8..], PASSWORD] {
            assert!(!holds(&node.data, secret.as_bytes()), "a secret lies in {:?}", node.data);
            assert!(!node.log().contains(secret), "a secret is in the log of {}", node.name);
        }
        assert!(!node.log().contains("$argon2id$"), "nor is the hash in the log");
    }
}

#[test]
fn passwords_are_set_changed_taken_and_outlive_a_restart() {
    let lab = Lab::loopback();
    let mut nodes = with_users(&lab, 2);
    let at = data(&nodes[1]);
    let password = |args: &[&str], input: &str| {
        let args = [&["user", "password", "bob", "--data", &at], args].concat();
        let (code, said, errors) = lab.run_with(1, &args, &[], input);
        (code, said + &errors)
    };
    let insert = ["sql", "demo", "INSERT INTO t DEFAULT VALUES", "--user", "bob", "--data", &at];
    let as_bob = |given: &str| lab.run_with(1, &insert, &[("QUORATE_PASSWORD", given)], "");
    assert_eq!(as_bob(PASSWORD).0, 12, "bob has no password yet");
    let (code, said) = password(&["--password-stdin"], "short\n");
    assert!(code == 1 && said.contains("8 to 1024 bytes"), "{code} {said}");
    let (code, said) = password(&["--password-stdin"], "");
    assert!(code == 2 && said.contains("standard input"), "{code} {said}");
    let (code, said) = password(&[], "");
    assert!(code == 2 && said.contains("--password-stdin"), "{code} {said}");
    let (code, said) = password(&["--password-stdin"], &format!("{PASSWORD}\n"));
    assert_eq!(code, 0, "{said}");
    for given in [PASSWORD, PASSWORD] {
        let (code, said, errors) = as_bob(given);
        assert_eq!(code, 0, "{said}{errors}");
    }
    let (code, _, errors) = as_bob("wrong password");
    assert!(code == 12 && errors.contains("not those of a user"), "{code} {errors}");
    let (code, _, errors) = lab.run_with(1, &insert, &[], "");
    assert!(code == 2 && errors.contains("QUORATE_PASSWORD"), "{code} {errors}");
    for node in &mut nodes {
        node.kill();
        node.start();
    }
    eventually("it works after a restart", Duration::from_secs(30), || match as_bob(PASSWORD) {
        (0, ..) => Ok(()),
        (code, said, errors) => Err(format!("{code} {said}{errors}")),
    });
    let (code, said) = password(&["--password-stdin"], "another password\n");
    assert_eq!(code, 0, "{said}");
    assert_eq!(as_bob(PASSWORD).0, 12, "what was remembered is forgotten");
    assert_eq!(as_bob("another password").0, 0);
    let (code, said) = password(&["--none"], "");
    assert_eq!(code, 0, "{said}");
    assert_eq!(as_bob("another password").0, 12);
}

#[test]
fn whoever_guesses_passwords_is_made_to_wait_and_the_node_goes_on() {
    let lab = Lab::loopback();
    let nodes = with_users(&lab, 1);
    let good = bearer(&token(&lab, &nodes[0], "bob", "t"));
    // ada:wrong, in parallel, more than are ever verified.
    let guess = "authorization: Basic YWRhOndyb25n\r\n";
    let codes: Vec<u16> = std::thread::scope(|scope| {
        let ask = || status(&nodes[0], "GET", "/status", guess, "");
        let threads: Vec<_> = (0..40).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().expect("an answer")).collect()
    });
    let count = |code| codes.iter().filter(|c| **c == code).count();
    assert_eq!(count(401) + count(429), 40, "{codes:?}");
    assert!((1..=12).contains(&count(401)), "ten, and what is forgotten meanwhile: {codes:?}");
    let (code, said) = ask(&nodes[0], "GET", "/status", guess, "").expect("an answer");
    assert!(code == 429 && said.contains("retry-after: "), "{said}");
    assert_eq!(
        status(&nodes[0], "GET", "/status", &good, ""),
        200,
        "a token from the same address"
    );
}

#[test]
fn users_are_changed_over_http_and_what_is_wrong_is_refused_by_name() {
    let lab = Lab::loopback();
    let nodes = with_users(&lab, 1);
    let node = &nodes[0];
    let admin = bearer(&token(&lab, node, "ada", "t"));
    let change = |body: serde_json::Value| {
        let (code, said) =
            ask(node, "POST", "/users", &admin, &body.to_string()).expect("an answer");
        assert_eq!(code, 200, "{said}");
        said
    };
    let said = change(json!({"todo": "add-token", "user": "eve", "expires_seconds": 1}));
    assert!(said.contains(r#""name":"token-1""#), "{said}");
    let made = said.split("quorate_").nth(1).and_then(|rest| rest.split('"').next()).expect("one");
    let shown = bearer(&format!("quorate_{made}"));
    eventually("it expires", Duration::from_secs(5), || {
        let (code, said) = ask(node, "GET", "/status", &shown, "")?;
        if code == 401 && said.contains("has expired") { Ok(()) } else { Err(said) }
    });
    for (body, part) in [
        (json!({"todo": "add", "user": "ada", "role": "reader"}), "'ada' already"),
        (json!({"todo": "add", "user": "a:b", "role": "reader"}), "'a:b' is not a name"),
        (json!({"todo": "drop", "user": "ada"}), "'ada' is the last admin"),
        (json!({"todo": "set-role", "user": "ada", "role": "writer"}), "'ada' is the last admin"),
        (json!({"todo": "set-role", "user": "zoe", "role": "writer"}), "no user 'zoe'"),
        (
            json!({"todo": "add-token", "user": "eve", "name": "token-1"}),
            "a token 'token-1' already",
        ),
        (json!({"todo": "drop-token", "user": "eve", "name": "x"}), "no token 'x'"),
    ] {
        let said = change(body.clone());
        assert!(said.contains(r#""outcome":"refused""#) && said.contains(part), "{body}: {said}");
    }
    for body in ["", "{}", r#"{"todo": "add"}"#, r#"{"todo": "add", "user": "x", "role": "root"}"#]
    {
        let (code, said) = ask(node, "POST", "/users", &admin, body).expect("an answer");
        assert!((400..=422).contains(&code) && said.contains("error"), "{body}: {said}");
    }
    let listed = run(&lab, node, &["user", "list"]);
    for part in ["ada", "admin", "bob", "writer", "eve", "reader", "token-1", "expired"] {
        assert!(listed.contains(part), "{part} is missing in\n{listed}");
    }
    for name in ["bob", "eve"] {
        run(&lab, node, &["user", "drop", name]);
    }
    let said = run(&lab, node, &["user", "drop", "ada"]);
    assert!(said.contains("no users any more"), "{said}");
    assert_eq!(status(node, "GET", "/status", "", ""), 200, "loopback is let in again");
}

#[test]
fn without_users_only_the_nodes_own_machine_may_connect() {
    let lab = Lab::wired(2);
    let mut nodes = lab.nodes(2);
    // One listens everywhere, the other on its outer address only.
    nodes[0].flags.extend(["--http".to_owned(), "0.0.0.0:2480".to_owned()]);
    nodes[1].flags.extend(["--http".to_owned(), "10.77.0.2:2480".to_owned()]);
    nodes.iter_mut().for_each(Node::start);
    let all = nodes.iter().map(data).collect::<Vec<_>>();
    for (number, data) in all.iter().enumerate() {
        eventually("its own machine is let in", Duration::from_secs(40), || {
            match lab.run(number + 1, &["status", "--data", data]) {
                (0, said) if said.contains("n1") && said.contains("n2") => Ok(()),
                (code, said) => Err(format!("{code}: {said}")),
            }
        });
    }
    let own = nodes[0].data.join("admin.token").display().to_string();
    let far = |args: &[&str]| {
        lab.run(2, &[args, &["--http", "http://10.77.0.1:2480", "--data", "none"]].concat())
    };
    for more in
        [&["status"][..], &["status", "--token-file", &own], &["stop", "--token-file", &own]]
    {
        let (code, said) = far(more);
        assert!(code == 12 && said.contains("quorate user add NAME"), "{more:?}: {code} {said}");
    }
    let fetch = |path: &'static str| {
        let (door, path) = (Door::to(&nodes[1]), path);
        door.inside(move || {
            let agent: ureq::Agent =
                ureq::Agent::config_builder().http_status_as_error(false).build().into();
            let url = format!("http://10.77.0.1:2480{path}");
            agent.get(&url).call().map(|answer| answer.status().as_u16()).expect("an answer")
        })
    };
    assert_eq!((fetch("/healthz"), fetch("/readyz")), (200, 200), "monitors are let in");
    assert_eq!((fetch("/layout"), fetch("/events"), fetch("/db")), (403, 403, 403));
    let (code, said) = lab.run(2, &["user", "add", "ada", "--role", "admin", "--data", &all[1]]);
    assert_eq!(code, 0, "{said}");
    let (code, token, errors) =
        lab.run_with(2, &["user", "token", "add", "ada", "--data", &all[1]], &[], "");
    assert_eq!(code, 0, "{errors}");
    eventually("with a token everybody is let in", AT_ONCE, || {
        match far(&["status", "--token", token.trim()]) {
            (0, _) => Ok(()),
            (_, said) => Err(said),
        }
    });
    let (code, said) = far(&["status"]);
    assert!(code == 12 && said.contains("this cluster has users"), "{code} {said}");
    let (code, said) = far(&["status", "--token", "quorate_wrong"]);
    assert!(code == 12 && said.contains("not those of a user"), "{code} {said}");
    assert_eq!(fetch("/layout"), 401);
}
