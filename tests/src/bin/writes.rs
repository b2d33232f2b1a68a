//! Measures writes: `cargo run --release -p quorate-tests --bin writes [SECONDS]`.
//!
//! Three real nodes on the loopback address; so many writers insert single rows over HTTP, each on a
//! connection of its own, at the owner of the shard and through another node. HTTP and JSON are in
//! every figure. Nothing is asserted.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use quorate_tests::{Lab, Node};
use serde_json::json;

fn main() {
    let seconds = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(3.0);
    let span = Duration::from_secs_f64(seconds);
    let lab = Lab::loopback();
    let mut nodes = lab.nodes(3);
    nodes.iter_mut().for_each(Node::start);
    lab.one_cluster(&nodes);
    let data: Vec<String> = nodes.iter().map(|node| node.data.display().to_string()).collect();
    let table = "CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT)";
    for args in [["db", "create", "bench"], ["sql", "bench", table]] {
        let (code, said) = lab.run(1, &[&args[..], &["--data", &data[0]]].concat());
        assert_eq!(code, 0, "{said}");
    }
    thread::sleep(Duration::from_secs(1));
    let (_, list) = nodes[0].get("/db").expect("the list of databases");
    let owner = list[0]["shards"]["main"]["owner"].as_str().unwrap_or_default();
    let at = nodes.iter().position(|node| node.name == owner).expect("an owner");
    let ids = AtomicU64::new(1);
    println!("{:<24} {:>7} {:>12} {:>9} {:>9}", "", "writers", "inserts/s", "p50 ms", "p99 ms");
    for (what, node) in [("at the owner", &nodes[at]), ("through another", &nodes[(at + 1) % 3])] {
        for writers in [1, 16, 64] {
            let mut times = run(node, writers, span, &ids);
            times.sort_unstable();
            let rank = |percent: usize| {
                let place = times.len().saturating_sub(1) * percent / 100;
                times.get(place).map_or(f64::NAN, |t| t.as_secs_f64() * 1e3)
            };
            let rate = times.len() as f64 / span.as_secs_f64();
            let (p50, p99) = (rank(50), rank(99));
            println!("{what:<24} {writers:>7} {rate:>12.0} {p50:>9.2} {p99:>9.2}");
        }
    }
}

fn run(node: &Node, writers: u64, span: Duration, ids: &AtomicU64) -> Vec<Duration> {
    let token = fs::read_to_string(node.data.join("admin.token")).expect("the token");
    let node_json = fs::read_to_string(node.data.join("node.json")).expect("where it listens");
    let parsed: serde_json::Value = serde_json::from_str(&node_json).expect("JSON");
    let http = parsed["http"].as_str().expect("an address").to_owned();
    let streams =
        node.connections(usize::try_from(writers).unwrap_or(1), b"").expect("connections");
    thread::scope(|scope| {
        let writer = |stream: TcpStream| {
            let (token, http) = (token.trim(), http.as_str());
            scope.spawn(move || write(stream, http, token, span, ids))
        };
        let running: Vec<_> = streams.into_iter().map(writer).collect();
        running.into_iter().flat_map(|thread| thread.join().expect("a writer ends")).collect()
    })
}

/// Inserts row after row until the time is up; how long each took.
fn write(
    mut stream: TcpStream,
    http: &str,
    token: &str,
    span: Duration,
    ids: &AtomicU64,
) -> Vec<Duration> {
    let _ = stream.set_nodelay(true);
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    let began = Instant::now();
    let mut times = Vec::new();
    while began.elapsed() < span {
        let id = ids.fetch_add(1, Ordering::Relaxed);
        let args =
            json!([id, "some hundred bytes of text, as a row of an application would have them"]);
        let body = json!({ "sql": "INSERT INTO t VALUES (?, ?)", "args": args }).to_string();
        let request = format!(
            "POST /db/bench/execute HTTP/1.1\r\nhost: {http}\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let sent = Instant::now();
        stream.write_all(request.as_bytes()).expect("it is sent");
        let (status, length) = head(&mut reader);
        let mut answer = vec![0; length];
        reader.read_exact(&mut answer).expect("a body");
        assert!(status.contains(" 200 "), "{status}: {}", String::from_utf8_lossy(&answer));
        times.push(sent.elapsed());
    }
    times
}

/// The status line of an answer, and the length of its body.
fn head(reader: &mut impl BufRead) -> (String, usize) {
    let (mut status, mut length) = (String::new(), 0);
    reader.read_line(&mut status).expect("a status line");
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a header");
        if line.trim().is_empty() {
            return (status, length);
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
    }
}
