//! Measures real nodes: `cargo run --release -p quorate-tests --bin figures [ROUNDS]`.
//!
//! Every round makes its own network of four hosts with one node each and every default. Printed
//! are the median, the best and the worst of all rounds; nothing is asserted.

use std::fs;
use std::thread;
use std::time::Duration;

use quorate_tests::{Lab, Node, at_rest, eventually, measure};

const LIMIT: Duration = Duration::from_secs(30);
const IDLE: Duration = Duration::from_secs(10);

/// One row of the table.
struct Row {
    what: &'static str,
    target: &'static str,
    values: Vec<f64>,
    unit: &'static str,
}

impl Row {
    fn new(what: &'static str, target: &'static str, unit: &'static str) -> Self {
        Self { what, target, values: Vec::new(), unit }
    }

    fn add(&mut self, value: Option<f64>) {
        match value {
            Some(value) => self.values.push(value),
            None => eprintln!("  {}: not within {LIMIT:?}", self.what),
        }
    }

    fn print(mut self) {
        self.values.sort_by(f64::total_cmp);
        let Some((first, last)) = self.values.first().zip(self.values.last()) else {
            println!("{:<52} never", self.what);
            return;
        };
        let median = self.values[self.values.len() / 2];
        let (what, unit, target) = (self.what, self.unit, self.target);
        println!("{what:<52} {median:>8.1} {unit:<3} {first:>8.1} – {last:<8.1} {target}");
    }
}

fn main() {
    let rounds = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(7);
    quorate_tests::quorate();
    let mut rows = [
        Row::new("three nodes one cluster, after the last start", "< 2 s", "ms"),
        Row::new("a fourth joins, after its start", "< 300 ms", "ms"),
        Row::new("new coordinator after kill -9", "< 500 ms", "ms"),
        Row::new("new coordinator after silence", "< 2 s", "ms"),
        Row::new("processor of an idle node", "< 1 %", "%"),
        Row::new("memory of an idle node", "< 30 MB", "MB"),
    ];
    for number in 1..=rounds {
        eprintln!("round {number} of {rounds}");
        round(&mut rows);
    }
    println!("{:<52} {:>8}     {:>8} – {:<8} target", "", "median", "best", "worst");
    rows.into_iter().for_each(Row::print);
}

fn round(rows: &mut [Row; 6]) {
    let lab = Lab::wired(4);
    let mut nodes = lab.nodes(3);
    nodes.iter_mut().for_each(Node::start);
    rows[0].add(ms(measure(LIMIT, || at_rest(&nodes.iter().collect::<Vec<_>>()))));
    let mut fourth = lab.node(4);
    fourth.start();
    // What a client of the fourth waits for: it is a member, and knows the cluster.
    rows[1].add(ms(measure(LIMIT, || {
        let view = fourth.view()?;
        if view.state == "member" && view.servers.len() == 4 { Ok(()) } else { Err(view.state) }
    })));
    nodes.push(fourth);
    lab.one_cluster(&nodes);
    idle(&nodes, rows);
    let (others, coordinator) = without_coordinator(nodes);
    let id = eventually("its id", LIMIT, || coordinator.view()).node;
    coordinator.freeze();
    rows[3].add(ms(measure(LIMIT, || elected(&others, &id))));
    coordinator.thaw();
    let nodes: Vec<Node> = others.into_iter().chain([coordinator]).collect();
    lab.one_cluster(&nodes);
    let (others, mut coordinator) = without_coordinator(nodes);
    let id = eventually("its id", LIMIT, || coordinator.view()).node;
    coordinator.kill();
    rows[2].add(ms(measure(LIMIT, || elected(&others, &id))));
}

/// Whether all of them follow another coordinator than the one that is gone.
fn elected(others: &[Node], gone: &str) -> Result<(), String> {
    for node in others {
        let view = node.view()?;
        let coordinator = view.coordinator.ok_or("none")?;
        if coordinator == gone || view.no_quorum.is_some() {
            return Err(coordinator);
        }
    }
    Ok(())
}

fn without_coordinator(mut nodes: Vec<Node>) -> (Vec<Node>, Node) {
    let name = eventually("a coordinator", LIMIT, || {
        let view = nodes[0].view()?;
        view.coordinator_name().map(str::to_owned).ok_or_else(|| "none".to_owned())
    });
    let at = nodes.iter().position(|n| n.name == name).unwrap_or(0);
    let coordinator = nodes.remove(at);
    (nodes, coordinator)
}

/// Processor time and memory of every node while nothing happens.
fn idle(nodes: &[Node], rows: &mut [Row; 6]) {
    thread::sleep(Duration::from_secs(1));
    let before: Vec<Option<f64>> = nodes.iter().map(|n| processor_ms(n.id())).collect();
    thread::sleep(IDLE);
    for (node, before) in nodes.iter().zip(before) {
        let used = processor_ms(node.id()).zip(before).map(|(after, before)| after - before);
        rows[4].add(used.map(|ms| ms / IDLE.as_secs_f64() / 10.0));
        rows[5].add(memory_mb(node.id()));
    }
}

fn ms(duration: Option<Duration>) -> Option<f64> {
    duration.map(|d| d.as_secs_f64() * 1_000.0)
}

/// Processor time of a process so far (`schedstat` counts nanoseconds, one file a thread).
fn processor_ms(pid: u32) -> Option<f64> {
    let mut ns = 0.0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        ns += text.split_whitespace().next()?.parse::<f64>().ok()?;
    }
    Some(ns / 1e6)
}

fn memory_mb(pid: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|l| l.starts_with("VmRSS:"))?;
    let kb: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kb / 1024.0)
}
