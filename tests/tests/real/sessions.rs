//! Requests that are sent more than once and done once, over HTTP.

use std::time::Duration;

use quorate_tests::{Lab, Node, eventually};
use serde_json::{Value, json};

use super::databases::{post, rows, with_database};

const SETTLE: Duration = Duration::from_secs(30);

fn open(node: &Node) -> String {
    let (code, body) = post(node, "/db/demo/session", &json!({})).expect("an answer");
    assert_eq!(code, 200, "{body}");
    body["session"].as_str().expect("a session").to_owned()
}

fn add(session: &str, sequence: u64, writer: u64) -> Value {
    json!({
        "sql": "INSERT INTO t (writer, number) VALUES (?, ?)",
        "args": [writer, sequence],
        "once": { "session": session, "sequence": sequence, "acknowledged": sequence - 1 },
    })
}

/// The request is sent to one node after the other until somebody answers that it is done.
fn until_done(nodes: &[Node], body: &Value) -> Value {
    let mut turn = nodes.iter().cycle();
    let mut answer = Value::Null;
    eventually("it is done", SETTLE, || {
        let node = turn.next().expect("nodes");
        let (code, said) = post(node, "/db/demo/execute", body)?;
        answer = said;
        if code == 200 { Ok(()) } else { Err(format!("{}: {code} {answer}", node.name)) }
    });
    answer
}

#[test]
fn what_is_sent_again_to_any_server_is_done_once_though_owners_die() {
    let lab = Lab::loopback();
    let mut nodes = with_database(&lab, 3);
    let session = open(&nodes[1]);
    let mut answers = Vec::new();
    for sequence in 1..=6 {
        let body = add(&session, sequence, 7);
        // Sent, and the answer thrown away, as if the connection had broken.
        let _ = post(&nodes[usize::try_from(sequence % 3).unwrap()], "/db/demo/execute", &body);
        if sequence % 2 == 0 {
            let killed = usize::try_from(sequence / 2 - 1).unwrap();
            nodes[killed].kill();
            let mut dead = nodes.remove(killed);
            answers.push((until_done(&nodes, &body), body));
            dead.start();
            nodes.insert(killed, dead);
            lab.one_cluster(&nodes);
        } else {
            answers.push((until_done(&nodes, &body), body));
        }
    }
    eventually("every copy has six rows", SETTLE, || {
        for node in &nodes {
            let held = rows(node, "SELECT number FROM t WHERE writer = 7 ORDER BY number")?;
            let numbers: Vec<u64> = held.iter().filter_map(|row| row[0].as_u64()).collect();
            if numbers != [1, 2, 3, 4, 5, 6] {
                return Err(format!("{} has {numbers:?}", node.name));
            }
        }
        Ok(())
    });
    // The last may be asked for again, and is answered as it was.
    let (last, body) = answers.last().expect("six");
    assert_eq!(until_done(&nodes, body)["lsn"], last["lsn"]);
}

#[test]
fn a_session_that_is_wrong_is_refused_by_name_and_nothing_is_done() {
    let lab = Lab::loopback();
    let nodes = with_database(&lab, 1);
    let session = open(&nodes[0]);
    let (cluster, _) = session.split_once('.').expect("its cluster");
    let with = |once: Value| json!({ "sql": "INSERT INTO t (writer) VALUES (1)", "once": once });
    let cases = [
        (with(json!({ "session": "x", "sequence": 1 })), 400, "is no session"),
        (with(json!({ "session": session, "sequence": 0 })), 400, "must be above"),
        (
            with(json!({ "session": session, "sequence": 4, "acknowledged": 4 })),
            400,
            "must be above",
        ),
        (with(json!({ "session": session })), 422, "sequence"),
        (
            with(json!({ "session": format!("{cluster}.9999.1.1.0"), "sequence": 1 })),
            410,
            "not known any more",
        ),
        (
            with(json!({ "session": format!("{session}9"), "sequence": 1 })),
            410,
            "not known any more",
        ),
    ];
    for (body, expected, part) in cases {
        let (code, said) = post(&nodes[0], "/db/demo/execute", &body).expect("an answer");
        let error = said["error"].as_str().unwrap_or_default();
        assert!(code == expected && error.contains(part), "{body}: {code} {said}");
    }
    let query = json!({ "sql": "SELECT 1", "once": { "session": session, "sequence": 1 } });
    let (code, said) = post(&nodes[0], "/db/demo/query", &query).expect("an answer");
    assert!(
        code == 400 && said["error"].as_str().is_some_and(|e| e.contains("/execute")),
        "{said}"
    );
    let (code, said) = post(&nodes[0], "/db/none/session", &json!({})).expect("an answer");
    assert!(code == 404, "{said}");
    assert_eq!(rows(&nodes[0], "SELECT count(*) FROM t"), Ok(vec![json!([0])]));
}
