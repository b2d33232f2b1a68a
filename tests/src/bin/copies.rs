//! Measures what copies cost: `cargo run --release -p quorate-tests --bin copies [MEGABYTES [PART…]]`.
//!
//! Three real nodes on the loopback address of a network of their own, with every default, and a
//! database of that size (300 unless given). The parts, all of them unless some are named:
//!
//! * `join`: a fourth joins while four writers insert single rows, three times;
//! * `copy`: a whole copy against `cp`, sync and a hash of the same file, three times;
//! * `back`: a node killed and started again after 1,000 missed rows, and what crossed the network;
//! * `delta`: the same after 100,000 rows;
//! * `read`: reads by key;
//! * `kill`: `kill -9` of the owner until the next write is committed, five times.
//!
//! Each figure stands beside its target; of several the median does, with the worst. Nothing is asserted.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use quorate_tests::{Door, Lab, Line, Node, measure};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(600);

fn main() {
    let megabytes = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(300);
    let lab = Lab::loopback();
    let mut nodes = lab.nodes(3);
    nodes.iter_mut().for_each(Node::start);
    lab.one_cluster(&nodes);
    let data = nodes[0].data.display().to_string();
    let (code, said) = lab.run(1, &["db", "create", "bench", "--data", &data]);
    assert_eq!(code, 0, "{said}");
    let began = Instant::now();
    fill(&nodes[0], megabytes);
    let took = began.elapsed().as_secs_f64();
    let at = owner(&nodes);
    online(&nodes[0], 3);
    let size = live(&nodes[at]).metadata().map_or(0, |m| m.len()) as f64 / 1e6;
    println!("{:<46} {size:>10.0} MB, written in {took:.1} s", "the database");
    let parts: Vec<String> = std::env::args().skip(2).collect();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|named| named == part);
    println!("{:<46} {:>10} {:<6} {:<10} more", "what", "measured", "", "target");
    if wanted("join") {
        joins(&lab, &mut nodes);
    }
    if wanted("copy") {
        whole_copy(&lab, &nodes);
    }
    if wanted("back") {
        rejoins(&mut nodes, megabytes);
    }
    if wanted("delta") {
        delta(&mut nodes);
    }
    if wanted("read") {
        reads(&nodes);
    }
    if wanted("kill") {
        failover(&mut nodes);
    }
}

/// One line of the table; without a target it is only told.
fn told(what: &str, value: f64, unit: &str, target: &str, more: &str) {
    println!("{what:<46} {value:>10.1} {unit:<6} {target:<10} {more}");
}

/// The one in the middle, and the largest.
fn median_and_worst(values: &mut [f64]) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let at = |at: usize| values.get(at).copied().unwrap_or(f64::NAN);
    (at(values.len() / 2), at(values.len().saturating_sub(1)))
}

/// Rows of two kilobytes, a thousand a transaction.
fn fill(node: &Node, megabytes: u64) {
    let mut line = Line::open(node).expect("a connection");
    let mut run = |sql: &str| {
        let (code, body) =
            line.post("/db/bench/execute", &json!({ "sql": sql })).expect("an answer");
        assert_eq!(code, 200, "{}", String::from_utf8_lossy(&body));
    };
    run("CREATE TABLE t (id INTEGER PRIMARY KEY, v BLOB)");
    run("CREATE TABLE w (id INTEGER PRIMARY KEY, v TEXT)");
    let rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
                INSERT INTO t (v) SELECT randomblob(2000) FROM n";
    for _ in 0..megabytes.div_ceil(2) {
        run(rows);
    }
}

/// The file of a node's copy.
fn live(node: &Node) -> PathBuf {
    let shards = fs::read_dir(node.data.join("shards")).expect("it has shards");
    let shard = shards.flatten().next().expect("it has a shard").path();
    let number = |path: &Path| path.file_name()?.to_str()?.parse::<u64>().ok();
    let mut copies: Vec<PathBuf> =
        fs::read_dir(shard).expect("a directory").flatten().map(|entry| entry.path()).collect();
    copies.retain(|path| number(path).is_some());
    copies.sort_by_key(|path| number(path));
    copies.pop().expect("it has a copy").join("copy.sqlite")
}

fn owner(nodes: &[Node]) -> usize {
    let (_, list) = nodes.iter().find_map(|node| node.get("/db").ok()).expect("a list");
    let name = list[0]["shards"]["main"]["owner"].as_str().unwrap_or_default().to_owned();
    nodes.iter().position(|node| node.name == name).unwrap_or(0)
}

fn statuses(node: &Node) -> Result<Vec<Value>, String> {
    let (_, copies) = node.get("/db/bench/copies")?;
    Ok(copies.as_array().cloned().unwrap_or_default())
}

/// How long until so many copies are whole and online.
fn online(node: &Node, count: usize) -> Option<Duration> {
    measure(LIMIT, || {
        let copies = statuses(node)?;
        let whole = copies.iter().filter(|c| c["status"] == "ONLINE" && c["state"] == "whole");
        if whole.count() >= count { Ok(()) } else { Err(format!("{copies:?}")) }
    })
}

/// Inserts single rows until it is over; the longest that any of them took.
fn write(node: &Node, ids: &AtomicI64, over: &AtomicBool, all: &Mutex<Vec<Duration>>) {
    let mut line = Line::open(node).expect("a connection");
    let mut times = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let id = ids.fetch_add(1, Ordering::Relaxed);
        let body = json!({ "sql": "INSERT INTO w VALUES (?, 'a row')", "args": [id] });
        let began = Instant::now();
        let (code, body) = line.post("/db/bench/execute", &body).expect("an answer");
        assert_eq!(code, 200, "{}", String::from_utf8_lossy(&body));
        times.push(began.elapsed());
    }
    all.lock().expect("sound").extend(times);
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Has writers at work around something; the times of their writes.
fn among_writers<T>(node: &Node, ids: &AtomicI64, work: impl FnOnce() -> T) -> (T, Vec<Duration>) {
    let (over, times) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let done = thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| write(node, ids, &over, &times));
        }
        thread::sleep(Duration::from_millis(300));
        let done = work();
        over.store(true, Ordering::Relaxed);
        done
    });
    let mut times = times.into_inner().expect("sound");
    times.sort_unstable();
    (done, times)
}

fn joins(lab: &Lab, nodes: &mut Vec<Node>) {
    let ids = AtomicI64::new(1);
    let (mut took, mut longest, mut without, mut rows) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for number in 4..7 {
        let at = owner(nodes);
        let alone = among_writers(&nodes[at], &ids, || thread::sleep(Duration::from_secs(1))).1;
        let mut joining = lab.node(number);
        let (online, times) = among_writers(&nodes[at], &ids, || {
            let began = Instant::now();
            joining.start();
            online(&nodes[at], 4).map(|_| began.elapsed())
        });
        took.push(online.map_or(f64::NAN, ms));
        longest.push(times.last().copied().map_or(f64::NAN, ms));
        without.push(alone.last().copied().map_or(f64::NAN, ms));
        rows = times.len();
        if number == 6 {
            nodes.push(joining);
        } else {
            joining.kill();
            let data = nodes[at].data.display().to_string();
            let (code, said) = lab.run(1, &["server", "remove", &joining.name, "--data", &data]);
            assert_eq!(code, 0, "{said}");
            lab.one_cluster(&nodes[..]);
        }
    }
    let (middle, worst) = median_and_worst(&mut took);
    let what = "a fourth joins, from process start to ONLINE";
    told(what, middle, "ms", "< 1000", &format!("worst {worst:.0}"));
    let (middle, worst) = median_and_worst(&mut longest);
    let (alone, _) = median_and_worst(&mut without);
    let more =
        format!("worst {worst:.0}; without a join {alone:.1}; {rows} writes in the last of three");
    told("  the longest write of four writers", middle, "ms", "< 100", &more);
}

fn whole_copy(lab: &Lab, nodes: &[Node]) {
    let at = (owner(nodes) + 1) % 3;
    let file = live(&nodes[at]);
    let bytes = file.metadata().map_or(0, |m| m.len()) as f64;
    let target = nodes[at].data.join("compared");
    let mut plain = Vec::new();
    for _ in 0..3 {
        let began = Instant::now();
        fs::copy(&file, &target).expect("it is copied");
        fs::File::open(&target).and_then(|copy| copy.sync_all()).expect("it is durable");
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(fs::File::open(&target).expect("it is there")).expect("it is read");
        let _ = hasher.finalize();
        plain.push(began.elapsed().as_secs_f64());
        fs::remove_file(&target).expect("it goes");
    }
    plain.sort_by(f64::total_cmp);
    let data = nodes[at].data.display().to_string();
    let mut whole = Vec::new();
    for _ in 0..3 {
        let before = copies_done(&nodes[at]).len();
        let args = ["sync", "bench", "--full", "--force", "--data", &data];
        let (code, said) = lab.run(1, &args);
        assert_eq!(code, 0, "{said}");
        let done = copies_done(&nodes[at]);
        whole.extend(done.get(before).copied());
    }
    whole.sort_by(f64::total_cmp);
    let (plain, whole) = (plain[1], whole.get(1).copied().unwrap_or(f64::NAN));
    told("a whole copy from another server", bytes / 1e6 / whole, "MB/s", "", "");
    told("  cp, sync and BLAKE3 of the same file", bytes / 1e6 / plain, "MB/s", "", "");
    told("  ratio of the times", whole / plain, "", "< 1.5", "");
}

/// How long each whole copy took, in seconds, by the node's own log.
fn copies_done(node: &Node) -> Vec<f64> {
    let log = node.log();
    let done = log.lines().filter(|line| line.contains("a whole copy has come"));
    let ms = |line: &str| line.split(" ms=").nth(1)?.split_whitespace().next()?.parse().ok();
    done.filter_map(ms).map(|ms: f64| ms / 1e3).collect()
}

fn rows(node: &Node, table: &str) -> Result<i64, String> {
    let sql = format!("SELECT count(*) FROM {table}");
    let (code, body) = Door::to(node).post("/db/bench/query", &json!({ "sql": sql }))?;
    let count = body["results"][0]["rows"][0][0].as_i64();
    count.filter(|_| code == 200).ok_or_else(|| body.to_string())
}

/// Bytes that have crossed the loopback of the network.
fn crossed(door: &Door) -> u64 {
    door.inside(|| {
        let text = fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
        let line = text.lines().find(|line| line.trim_start().starts_with("lo:"));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
    })
}

/// Inserts `count` rows, `each` a transaction.
fn insert(node: &Node, from: i64, count: i64, each: usize) {
    let mut line = Line::open(node).expect("a connection");
    let one =
        |id| json!({ "sql": "INSERT INTO w VALUES (?, 'a row that was missed')", "args": [id] });
    let all: Vec<Value> = (from..from + count).map(one).collect();
    for some in all.chunks(each) {
        let (code, body) =
            line.post("/db/bench/execute", &json!({ "statements": some })).expect("an answer");
        assert_eq!(code, 200, "{}", String::from_utf8_lossy(&body));
    }
}

/// Kills one, has `count` rows written, starts it: from its start until it holds all and is online.
fn missed(nodes: &mut [Node], from: i64, count: i64, each: usize) -> (Option<Duration>, u64) {
    let at = owner(nodes);
    let victim = (at + 1) % 3;
    nodes[victim].kill();
    insert(&nodes[at], from, count, each);
    let all = rows(&nodes[at], "w").expect("a count");
    let door = Door::to(&nodes[at]);
    // A static server is AWAY soon, and its copy with it: only then does ONLINE mean anything.
    thread::sleep(Duration::from_secs(1));
    let before = crossed(&door);
    let began = Instant::now();
    nodes[victim].start();
    let name = nodes[victim].name.clone();
    let took = measure(LIMIT, || {
        let copies = statuses(&nodes[victim])?;
        let own = copies.iter().find(|copy| copy["server"] == name.as_str());
        match own {
            Some(own) if own["state"] == "whole" && own["status"] == "ONLINE" => {
                let held = rows(&nodes[victim], "w")?;
                if held >= all { Ok(()) } else { Err(held.to_string()) }
            }
            _ => Err(format!("{copies:?}")),
        }
    });
    (took.map(|_| began.elapsed()), crossed(&door) - before)
}

fn rejoins(nodes: &mut [Node], megabytes: u64) {
    let (took, bytes) = missed(nodes, 10_000_000, 1000, 1);
    let took = took.map_or(f64::NAN, ms);
    told("back after kill -9 and 1,000 missed rows", took, "ms", "< 1000", "");
    let more = format!("of {megabytes} MB; heartbeats and the looking are in it");
    told("  what crossed the network", bytes as f64 / 1e3, "kB", "", &more);
}

fn delta(nodes: &mut [Node]) {
    let (took, bytes) = missed(nodes, 20_000_000, 100_000, 500);
    let seconds = took.map_or(f64::NAN, |took| took.as_secs_f64());
    let more = format!("{:.0} rows/s, {:.1} MB", 1e5 / seconds, bytes as f64 / 1e6);
    told("back after 100,000 missed rows", seconds * 1e3, "ms", "", &more);
}

fn reads(nodes: &[Node]) {
    for readers in [1, 8] {
        let (over, count) = (AtomicBool::new(false), AtomicI64::new(0));
        let span = Duration::from_secs(3);
        thread::scope(|scope| {
            for reader in 0..readers {
                let (over, count) = (&over, &count);
                let node = &nodes[reader % nodes.len()];
                scope.spawn(move || {
                    let mut line = Line::open(node).expect("a connection");
                    let mut id = reader as i64 * 7919;
                    while !over.load(Ordering::Relaxed) {
                        id = (id + 7919) % 100_000 + 1;
                        let sql = "SELECT length(v) FROM t WHERE id = ?";
                        let body = json!({ "sql": sql, "args": [id] });
                        let (code, _) = line.post("/db/bench/query", &body).expect("an answer");
                        assert_eq!(code, 200);
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            thread::sleep(span);
            over.store(true, Ordering::Relaxed);
        });
        let rate = count.load(Ordering::Relaxed) as f64 / span.as_secs_f64();
        told(&format!("reads by key, {readers} readers over all nodes"), rate, "/s", "", "");
    }
}

fn failover(nodes: &mut [Node]) {
    let mut times = Vec::new();
    let mut id = 30_000_000;
    for _ in 0..5 {
        online(&nodes[(owner(nodes) + 1) % 3], nodes.len());
        let at = owner(nodes);
        let other = (at + 1) % 3;
        let door = Door::to(&nodes[other]);
        nodes[at].kill();
        let began = Instant::now();
        let took = measure(LIMIT, || {
            id += 1;
            let body = json!({ "sql": "INSERT INTO w VALUES (?, 'after')", "args": [id] });
            match door.post("/db/bench/execute", &body)? {
                (200, _) => Ok(()),
                (code, answer) => Err(format!("{code} {answer}")),
            }
        });
        times.extend(took.map(|_| began.elapsed()));
        nodes[at].start();
        thread::sleep(Duration::from_secs(2));
    }
    let mut times: Vec<f64> = times.into_iter().map(ms).collect();
    let (middle, worst) = median_and_worst(&mut times);
    let more = format!("worst {worst:.0}");
    told("kill -9 of the owner to the next write", middle, "ms", "< 500", &more);
}
