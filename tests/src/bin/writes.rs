//! Measures writes: `cargo run --release -p quorate-tests --bin writes [SECONDS] [WRITERS…]`.
//!
//! Three real nodes on the loopback address, their data in the system's temporary directory. So many
//! writers insert single rows over HTTP, each on a connection of its own, at the owner of the shard
//! and through another node. HTTP and JSON are in every figure. All writers are one thread that waits
//! for all its connections together: the nodes are what is measured, and they share the machine with
//! it. Nothing is asserted. Where the owner changes during a measurement that is said, and it is made
//! again at the new one; writes that are refused meanwhile are counted beside the others.
//!
//! Beside rate and latency: rows an entry of the log, and for each process what one write took of the
//! processors (user and system time) and how often its threads went to sleep.

use std::collections::BTreeSet;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use quorate_tests::{Lab, Node, eventually};
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

/// So many microseconds are one tick of `/proc/PID/stat`: the kernel's `USER_HZ` is 100 everywhere.
const TICK_US: u64 = 10_000;
/// All ids have as many digits, so that every request has one length.
const FIRST_ID: u64 = 1_000_000_000;
/// How long no write may succeed.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often one measurement is made because the owner changed.
const ATTEMPTS_MAX: usize = 5;

fn main() {
    let mut args = std::env::args().skip(1);
    let seconds = args.next().and_then(|a| a.parse().ok()).unwrap_or(3.0);
    let span = Duration::from_secs_f64(seconds);
    let mut counts: Vec<usize> = args.filter_map(|a| a.parse().ok()).collect();
    if counts.is_empty() {
        counts = vec![1, 16, 64];
    }
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
    std::thread::sleep(Duration::from_secs(1));
    let mut next = FIRST_ID;
    println!("{:>67} {:^31} {:^23}", "", "processor µs a write", "sleeps a write");
    println!(
        "{:<16} {:>7} {:>9} {:>7} {:>7} {:>8} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7}",
        "",
        "writers",
        "inserts/s",
        "p50 ms",
        "p99 ms",
        "rows/entry",
        "owner",
        "other",
        "other",
        "writers",
        "owner",
        "other",
        "other"
    );
    for (what, at) in [("at the owner", 0), ("through another", 1)] {
        for writers in &counts {
            measure(what, at, *writers, span, &mut nodes, &mut next);
        }
    }
}

/// Measures writers at the node that is so many behind the owner, and prints what came of it.
fn measure(
    what: &str,
    at: usize,
    writers: usize,
    span: Duration,
    nodes: &mut [Node],
    next: &mut u64,
) {
    for _ in 0..ATTEMPTS_MAX {
        owner_first(nodes);
        let before = Used::now(nodes);
        let done = run(&nodes[at], writers, span, next);
        let used = Used::now(nodes).since(&before);
        if done.refused > 0 {
            println!("{what:<16} {writers:>7} {} writes were refused", done.refused);
        }
        let owner = nodes[0].name.clone();
        owner_first(nodes);
        if nodes[0].name == owner {
            print(what, writers, done, &used);
            return;
        }
        let now = &nodes[0].name;
        println!("{what:<16} {writers:>7} the owner was {owner} and is {now}: measured again");
    }
    println!("{what:<16} {writers:>7} not measured: the owner has changed {ATTEMPTS_MAX} times");
}

/// Puts the owner of the shard first.
fn owner_first(nodes: &mut [Node]) {
    let at = eventually("an owner", PATIENCE, || {
        let (_, list) = nodes[0].get("/db")?;
        let owner = list[0]["shards"]["main"]["owner"].as_str().unwrap_or_default();
        nodes.iter().position(|node| node.name == owner).ok_or_else(|| list.to_string())
    });
    nodes.rotate_left(at);
}

fn print(what: &str, writers: usize, done: Done, used: &Used) {
    let Done { mut times, entries, took, .. } = done;
    times.sort_unstable();
    let rank = |percent: usize| {
        let place = times.len().saturating_sub(1) * percent / 100;
        times.get(place).map_or(f64::NAN, |t| t.as_secs_f64() * 1e3)
    };
    let count = times.len() as f64;
    let (rate, p50, p99) = (count / took.as_secs_f64(), rank(50), rank(99));
    let rows = count / entries.len() as f64;
    print!("{what:<16} {writers:>7} {rate:>9.0} {p50:>7.2} {p99:>7.2} {rows:>10.1}");
    used.cpu_us.iter().for_each(|us| print!(" {:>7.1}", *us as f64 / count));
    used.sleeps.iter().for_each(|sleeps| print!(" {:>7.2}", *sleeps as f64 / count));
    println!();
}

/// What processes have used: the nodes in their order, and this one.
struct Used {
    cpu_us: Vec<u64>,
    sleeps: Vec<u64>,
}

impl Used {
    fn now(nodes: &[Node]) -> Self {
        let ids: Vec<u32> = nodes.iter().map(Node::id).collect();
        let all = ids.iter().copied().chain([std::process::id()]);
        Self { cpu_us: all.map(cpu_us).collect(), sleeps: ids.into_iter().map(sleeps).collect() }
    }

    fn since(&self, before: &Self) -> Self {
        let less = |now: &[u64], then: &[u64]| now.iter().zip(then).map(|(n, t)| n - t).collect();
        Self {
            cpu_us: less(&self.cpu_us, &before.cpu_us),
            sleeps: less(&self.sleeps, &before.sleeps),
        }
    }
}

/// User and system time of a process, in microseconds.
fn cpu_us(process: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    // The name, in parentheses, may hold anything.
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    let ticks = fields.split_whitespace().skip(11).take(2);
    ticks.map(|ticks| ticks.parse::<u64>().expect("a number")).sum::<u64>() * TICK_US
}

/// How often the threads of a process have waited for something.
fn sleeps(process: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("it runs");
    let of = |status: String| {
        let line = status.lines().find_map(|l| l.strip_prefix("voluntary_ctxt_switches:"));
        line.and_then(|count| count.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    // A thread may end meanwhile.
    tasks.flatten().filter_map(|t| fs::read_to_string(t.path().join("status")).ok()).map(of).sum()
}

/// What writers have done.
#[derive(Default)]
struct Done {
    times: Vec<Duration>,
    entries: BTreeSet<u64>,
    took: Duration,
    /// Writes that were answered with an error.
    refused: u64,
}

/// One connection, with one request under way.
struct Writer {
    stream: TcpStream,
    request: Vec<u8>,
    /// Where in the request the id is.
    id_at: usize,
    sent: Instant,
    answer: Vec<u8>,
}

fn run(node: &Node, writers: usize, span: Duration, next: &mut u64) -> Done {
    let token = fs::read_to_string(node.data.join("admin.token")).expect("the token");
    let streams = node.connections(writers, b"").expect("connections");
    let poll = epoll::create(CreateFlags::CLOEXEC).expect("a poll");
    let mut all: Vec<Writer> =
        streams.into_iter().map(|stream| Writer::new(stream, token.trim())).collect();
    for (at, writer) in all.iter().enumerate() {
        let data = EventData::new_u64(at as u64);
        epoll::add(&poll, &writer.stream, data, EventFlags::IN).expect("it is watched");
    }
    let began = Instant::now();
    let mut done = Done::default();
    all.iter_mut().for_each(|writer| writer.send(next));
    let mut running = writers;
    let mut last = began;
    let mut events = vec![Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; 64];
    while running > 0 {
        let ready = epoll::wait(&poll, &mut events[..], None).expect("something comes");
        for event in &events[..ready] {
            let at = usize::try_from(event.data.u64()).expect("as it was given");
            match all[at].receive() {
                None => continue,
                Some(Ok(lsn)) => {
                    done.times.push(all[at].sent.elapsed());
                    done.entries.insert(lsn);
                    last = Instant::now();
                }
                Some(Err(answer)) => {
                    assert!(last.elapsed() < PATIENCE, "no write succeeds: {answer}");
                    done.refused += 1;
                }
            }
            if began.elapsed() < span {
                all[at].send(next);
            } else {
                running -= 1;
            }
        }
    }
    done.took = began.elapsed();
    done
}

impl Writer {
    fn new(stream: TcpStream, token: &str) -> Self {
        stream.set_nodelay(true).expect("a socket");
        stream.set_nonblocking(true).expect("a socket");
        let body = format!(
            "{{\"sql\":\"INSERT INTO t VALUES (?, ?)\",\"args\":[{FIRST_ID},\"some hundred bytes of \
             text, as a row of an application would have them\"]}}"
        );
        let head = format!(
            "POST /db/bench/execute HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let id_at = head.len() + body.find(&FIRST_ID.to_string()).expect("the id");
        let request = (head + &body).into_bytes();
        Self { stream, request, id_at, sent: Instant::now(), answer: Vec::new() }
    }

    fn send(&mut self, next: &mut u64) {
        let id = next.to_string();
        self.request[self.id_at..self.id_at + id.len()].copy_from_slice(id.as_bytes());
        *next += 1;
        self.sent = Instant::now();
        // One request waits at a time: there is always room for it.
        self.stream.write_all(&self.request).expect("it is sent");
    }

    /// Once the answer is whole: the entry that the write became, or the answer that it was refused with.
    fn receive(&mut self) -> Option<Result<u64, String>> {
        let mut bytes = [0; 4096];
        match self.stream.read(&mut bytes) {
            Ok(0) => panic!("the node has hung up"),
            Ok(count) => self.answer.extend_from_slice(&bytes[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
            Err(error) => panic!("{error}"),
        }
        let text = std::str::from_utf8(&self.answer).expect("text");
        let (head, body) = text.split_once("\r\n\r\n")?;
        let length = head.split("\r\n").find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.and_then(|l| l.parse().ok()).expect("a length");
        if body.len() < length {
            return None;
        }
        if !head.starts_with("HTTP/1.1 200 ") {
            let refused = text.to_owned();
            self.answer.clear();
            return Some(Err(refused));
        }
        let (_, lsn) = body.split_once("\"lsn\":").expect("an LSN");
        let lsn = lsn.split([',', '}']).next().and_then(|lsn| lsn.parse().ok()).expect("a number");
        self.answer.clear();
        Some(Ok(lsn))
    }
}
