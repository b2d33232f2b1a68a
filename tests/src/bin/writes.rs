//! Measures writes: `cargo run --release -p quorate-tests --bin writes [SECONDS] [WRITERS…]`.
//!
//! Three real nodes on the loopback address, their data in the system's temporary directory. So many
//! writers insert single rows over HTTP, each on a connection of its own, at the owner of the shard,
//! through another node and through `quorate proxy`; HTTP and JSON are in these figures. The others are of
//! Quorate's own client, which all writers share. All writers are one thread that waits
//! for all its connections together: the nodes are what is measured, and they share the machine with
//! it. Nothing is asserted. Where the owner changes during a measurement that is said, and it is made
//! again at the new one; writes that are refused meanwhile are counted beside the others.
//!
//! Beside rate and latency: rows an entry of the log, and for each process what one write took of the
//! processors (user and system time) and how often its threads went to sleep.

use std::time::Duration;

use quorate_tests::writers::{self, Done, FIRST_ID};
use quorate_tests::{Lab, Node, Proxy, Used, eventually};

/// How long there may be no owner.
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
    for way in [Way::Owner, Way::Another, Way::Client, Way::Proxy] {
        for writers in &counts {
            measure(&lab, way, *writers, span, &mut nodes, &mut next);
        }
    }
}

/// How writes come to the owner.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// By HTTP, straight.
    Owner,
    /// By HTTP at another node.
    Another,
    /// By one client of Quorate's own, connected to the owner, with all writers behind it.
    Client,
    /// By HTTP at a proxy, connected to the owner.
    Proxy,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Owner => "at the owner",
            Self::Another => "through another",
            Self::Client => "by a client",
            Self::Proxy => "through a proxy",
        }
    }

    /// Lets writers write; the owner comes first among the nodes.
    fn run(
        self,
        lab: &Lab,
        nodes: &[Node],
        writers: usize,
        span: Duration,
        next: &mut u64,
    ) -> Done {
        let at = nodes[0].client().expect("it listens");
        let over = |all: Result<Vec<_>, String>, next: &mut u64| {
            writers::run(all.expect("connections"), span, next)
        };
        match self {
            Self::Owner => over(writers::to_node(&nodes[0], writers), next),
            Self::Another => over(writers::to_node(&nodes[1], writers), next),
            Self::Client => {
                let token = writers::token(&nodes[0]).expect("a token");
                let url = format!("quorate://{at}/bench?token={token}");
                lab.inside(1, || writers::run_client(&url, writers, span, next))
            }
            Self::Proxy => {
                let proxy = Proxy::start(lab, "proxy", &["--to", &format!("quorate://{at}")]);
                over(writers::to_proxy(lab, &proxy, &nodes[0], writers), next)
            }
        }
    }
}

/// Measures writers, and prints what came of it.
fn measure(
    lab: &Lab,
    way: Way,
    writers: usize,
    span: Duration,
    nodes: &mut [Node],
    next: &mut u64,
) {
    let what = way.name();
    for _ in 0..ATTEMPTS_MAX {
        owner_first(nodes);
        let mut processes: Vec<u32> = nodes.iter().map(Node::id).collect();
        processes.push(std::process::id());
        let before = Used::now(&processes);
        let done = way.run(lab, nodes, writers, span, next);
        let used = Used::now(&processes).since(&before);
        if done.refused > 0 {
            println!("{what:<16} {writers:>7} {} writes were refused", done.refused);
        }
        let owner = nodes[0].name.clone();
        owner_first(nodes);
        if nodes[0].name == owner {
            print(what, writers, &done, &used);
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

fn print(what: &str, writers: usize, done: &Done, used: &Used) {
    let count = done.times.len() as f64;
    let (rate, p50, p99) = (done.rate(), done.rank_ms(50), done.rank_ms(99));
    let rows = count / done.entries.len() as f64;
    print!("{what:<16} {writers:>7} {rate:>9.0} {p50:>7.2} {p99:>7.2} {rows:>10.1}");
    used.cpu_us.iter().for_each(|us| print!(" {:>7.1}", *us as f64 / count));
    // This process's own are of no interest.
    let nodes = used.sleeps.split_last().map_or(&[][..], |(_, nodes)| nodes);
    nodes.iter().for_each(|sleeps| print!(" {:>7.2}", *sleeps as f64 / count));
    println!();
}
