//! `quorate status` as operators know it: owners and copies, latencies and messages between servers.

use quorate_tests::{Lab, Node, Pty, eventually};
use serde_json::{Value, json};

use super::databases::{SETTLE, data, post, with_database};

fn status(lab: &Lab, node: &Node, parts: &[&str]) -> (i32, String) {
    lab.run(1, &[&["status", "--data", &data(node)], parts].concat())
}

fn told(lab: &Lab, node: &Node, parts: &[&str]) -> Value {
    let (code, said) = status(lab, node, &[parts, &["--json"]].concat());
    assert_eq!(code, 0, "{said}");
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

fn insert(node: &Node) -> Result<(u16, Value), String> {
    post(node, "/db/demo/execute", &json!({ "sql": "INSERT INTO t (number) VALUES (1)" }))
}

/// The mark of a server's copy of the main shard.
fn mark(told: &Value, server: &str) -> String {
    let copies = told["shards"][0]["copies"].as_array().expect("copies").clone();
    let copy = copies.iter().find(|copy| copy["server"] == server).expect("a copy");
    copy["mark"].as_str().expect("a mark").to_owned()
}

fn pair<'a>(told: &'a Value, part: &str, from: &str, to: &str) -> &'a Value {
    let pairs = told[part].as_array().expect("pairs");
    pairs.iter().find(|pair| pair["from"] == from && pair["to"] == to).unwrap_or(&Value::Null)
}

fn owner(lab: &Lab, nodes: &[Node]) -> usize {
    let told = told(lab, &nodes[0], &["--db"]);
    let owner = told["shards"][0]["owner"].as_str().expect("an owner").to_owned();
    nodes.iter().position(|node| node.name == owner).expect("one of the nodes")
}

#[test]
fn owners_copies_latencies_and_messages_are_told_by_every_node_and_a_dead_one_is_never_zero() {
    let lab = Lab::loopback();
    let mut nodes = with_database(&lab, 3);
    let all_online = |node: &Node| {
        let told = told(&lab, node, &["--db", "demo"]);
        let marks: Vec<String> = ["n1", "n2", "n3"].map(|name| mark(&told, name)).to_vec();
        let owners = marks.iter().filter(|mark| *mark == "X").count();
        let copies = marks.iter().filter(|mark| *mark == "o").count();
        if (owners, copies) == (1, 2) { Ok(told) } else { Err(told.to_string()) }
    };
    for node in &nodes {
        let told = eventually("all copies are whole", SETTLE, || all_online(node));
        let shard = &told["shards"][0];
        assert_eq!((&shard["database"], &shard["writes"]), (&json!("demo"), &json!("yes")));
        assert_eq!(shard["write_quorum"], json!({ "rule": "majority", "copies": 2, "of": 3 }));
        assert_eq!(mark(&told, shard["owner"].as_str().unwrap()), "X");
        assert_eq!(told.get("latency"), None, "only what was asked for");
    }
    for _ in 0..50 {
        assert_eq!(insert(&nodes[1]).map(|answer| answer.0), Ok(200));
    }

    let at = owner(&lab, &nodes);
    let (dead, asked) = (nodes[at].name.clone(), (at + 1) % 3);
    let before = told(&lab, &nodes[asked], &["--latency", "--messages"]);
    for other in nodes.iter().filter(|node| node.name != dead) {
        let measured = &pair(&before, "latency", &dead, &other.name)["measured"];
        assert!(measured["acknowledged"].as_u64() >= Some(20), "{before}");
        assert!((1..2_000_000).contains(&measured["average_us"].as_u64().unwrap()), "{before}");
        assert!(measured["worst_us"].as_u64() >= measured["average_us"].as_u64(), "{before}");
        let back = pair(&before, "latency", &other.name, &dead);
        assert_eq!(*back, Value::Null, "it owns nothing: {before}");
    }
    assert_eq!(insert(&nodes[asked]).map(|answer| answer.0), Ok(200));
    let after = told(&lab, &nodes[asked], &["--all"]);
    for from in &nodes {
        for to in nodes.iter().filter(|to| to.name != from.name) {
            let total = |told: &Value, way: &str| {
                let pair = pair(told, "messages", &from.name, &to.name);
                pair[way]["total"]["messages"].as_u64().expect("a number")
            };
            for way in ["sent", "received"] {
                assert!(total(&before, way) > 0, "{before}");
                assert!(total(&after, way) > total(&before, way), "they grow: {after}");
            }
            assert!(total(&after, "received") <= total(&after, "sent") + 100, "{after}");
        }
    }
    let kinds = &pair(&after, "messages", &dead, &nodes[asked].name)["sent"]["kinds"];
    assert!(kinds["entries"]["messages"].as_u64() >= Some(20), "{kinds}");

    nodes[at].kill();
    let moved = |shown: &str| {
        let told = told(&lab, &nodes[asked], &["--all"]);
        let shard = &told["shards"][0];
        let owner = shard["owner"].as_str().unwrap_or_default().to_owned();
        let moved = !owner.is_empty() && owner != dead && mark(&told, &owner) == "X";
        let moved = moved && mark(&told, &dead) == shown && shard["writes"] == "yes";
        if moved { Ok((told.clone(), owner)) } else { Err(told.to_string()) }
    };
    let (told, heir) = eventually("another owns it", SETTLE, || moved("-"));
    assert_eq!(told["unanswered"], json!([{ "server": dead, "why": "not in reach" }]));
    assert_eq!(pair(&told, "messages", &dead, &heir)["sent"], Value::Null, "not zero: {told}");
    assert!(!pair(&told, "messages", &heir, &dead)["sent"].is_null(), "{told}");
    assert_eq!(pair(&told, "latency", &dead, &heir)["measured"], Value::Null, "{told}");

    let (code, said) = status(&lab, &nodes[asked], &["--db", "--latency", "--messages"]);
    assert_eq!(code, 0, "{said}");
    let heading = said.lines().find(|line| line.trim_start().starts_with("AWAY"));
    assert!(heading.is_some(), "the dead column says so:\n{said}");
    assert!(said.contains(&format!("NO ANSWER: {dead} (not in reach)")), "{said}");
    assert!(!said.contains("REGISTRATION"), "the servers were not asked for:\n{said}");
    let row = said.lines().find(|line| line.starts_with("main")).expect("its row");
    // Whoever owns it now may be the last column.
    let has = |cell: &str| row.split_whitespace().any(|held| held == cell);
    assert!(has("yes") && has("X") && has("-"), "{row}");
    assert!(!row.contains('?'), "{row}");
}

#[test]
fn a_frozen_server_is_waited_for_briefly_and_named_and_a_shard_without_a_quorum_says_whom_it_lacks()
{
    let lab = Lab::loopback();
    let mut nodes = with_database(&lab, 3);
    nodes[2].freeze();
    let began = std::time::Instant::now();
    let frozen = told(&lab, &nodes[0], &["--db"]);
    assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
    let unanswered = &frozen["unanswered"][0];
    assert_eq!(unanswered["server"], "n3", "{frozen}");
    assert!(["?", "-"].contains(&mark(&frozen, "n3").as_str()), "{frozen}");
    nodes[2].thaw();
    nodes[1].kill();
    nodes[2].kill();
    let told = eventually("it is known that nobody can write", SETTLE, || {
        let told = told(&lab, &nodes[0], &["--db"]);
        let why = told["shards"][0]["why"].as_str().unwrap_or_default().to_owned();
        let known = told["shards"][0]["writes"] == "no" && why.contains("nobody owns it");
        if known { Ok(why) } else { Err(told.to_string()) }
    });
    assert!(told.contains("n2") && told.contains("n3") && !told.contains("n1"), "{told}");
    let (code, said) = status(&lab, &nodes[0], &["--db"]);
    assert!(code == 0 && said.contains("WRITES: demo/main takes none"), "{said}");
    let row = said.lines().find(|line| line.starts_with("main")).expect("its row");
    assert!(row.contains(" NO "), "{row}");
}

#[test]
fn wrong_flags_and_parameters_say_what_there_is() {
    let lab = Lab::loopback();
    let nodes = with_database(&lab, 1);
    for (args, expected, part) in [
        (&["--db", "nothing"][..], 1, "there is no database 'nothing'; `quorate db list`"),
        (&["--latencies"], 2, "'--latency'"),
        (&["--db", "demo", "more"], 2, "unexpected argument 'more'"),
        (&["--interval", "2", "--db"], 2, "--watch"),
    ] {
        let (code, said) = status(&lab, &nodes[0], args);
        assert!(code == expected && said.contains(part), "{args:?}: {code} {said}");
    }
    let (code, said) = nodes[0].get("/status?latencies=true").expect("it answers");
    let error = said["error"].as_str().unwrap_or_default();
    assert!(code == 400 && error.contains("messages=true"), "{code} {said}");
    let (code, said) = nodes[0].get("/status?db=demo&latency=true").expect("it answers");
    assert!(code == 200 && said["shards"][0]["writes"] == "yes", "{code} {said}");
    assert_eq!(said["latency"], json!([]), "there is nobody else");
    let shown = |columns: u16| {
        let command = lab.command(1, &["status", "--all", "--data", &data(&nodes[0])]);
        let mut terminal = Pty::start(command, (columns, 60));
        terminal.until_screen("KIND");
        assert!(terminal.end().success());
        terminal.screen()
    };
    for columns in [80, 160] {
        let screen = shown(columns);
        assert!(screen.contains("database demo") && screen.contains("X owner"), "{screen}");
    }
    let metrics = nodes[0]
        .exchange(b"GET /metrics HTTP/1.1\r\nhost: n1\r\nconnection: close\r\n\r\n", SETTLE);
    let metrics = metrics.expect("it answers");
    assert!(metrics.contains("\nquorate_shards_owned 1\n"), "{metrics}");
    assert!(metrics.contains("\nquorate_shards_refusing_writes 0\n"), "{metrics}");
}
