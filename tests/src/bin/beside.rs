//! Measures writes side by side with etcd and MariaDB Galera on this machine, in one run:
//! `cargo run --release -p quorate-tests --bin beside [SECONDS [ROUNDS [WRITERS…]]]`.
//!
//! Each round starts one system after the other, three servers each with fresh data in the system's
//! temporary directory, and has so many writers insert single rows at the owner, the leader or (of
//! Galera) one server. At last it kills that server and has one client try the others until a write
//! succeeds; the one that took it must then hold every acknowledged row. All systems are at full
//! durability, with the defaults but for what the head of the table says. Each writer has a connection
//! of its own, and all of them are one thread that sends prepared requests, whatever the protocol. Of
//! the rounds the median is printed for each figure.
//!
//! Ratios tell more than figures do: an `fdatasync`, which the first line tells of, costs ten times as
//! much on one machine as on another. No figure is asserted. What is not installed is left out;
//! Debian's packages are `etcd-server`, `mariadb-server`, `galera-4` and `rsync`. No service is started
//! or stopped, and nothing leaves the network namespaces that it makes: it runs as root, with iproute2.

use std::fmt::Write;
use std::time::{Duration, Instant};

use quorate_tests::writers::{self, Done, FIRST_ID, Writer};
use quorate_tests::{Cluster, System, Used, appends, measure, worked_us};

/// How long writers write before they are measured.
const WARM_UP: Duration = Duration::from_millis(500);
/// How often one measurement is made because the owner or leader changed, or others disturbed: so
/// often that one bad moment is passed over, and the run takes twice as long at most.
const ATTEMPTS_MAX: usize = 2;
/// How many processors others may use. What the kernel does in its own threads, for any of the
/// systems, is 0.15 at most.
const OTHERS_MAX: f64 = 0.3;
/// How long one write may take before it is tried at another server.
const ATTEMPT: Duration = Duration::from_millis(250);
/// How long no server may take writes after a kill.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() {
    let mut args = std::env::args().skip(1);
    let seconds = args.next().and_then(|a| a.parse().ok()).unwrap_or(3.0);
    let rounds = args.next().and_then(|a| a.parse().ok()).unwrap_or(3);
    let mut counts: Vec<usize> = args.filter_map(|a| a.parse().ok()).collect();
    if counts.is_empty() {
        counts = vec![1, 16, 64];
    }
    let plan = Plan { span: Duration::from_secs_f64(seconds), counts };
    print_disk();
    let mut tried: Vec<Tried> = System::ALL.into_iter().filter_map(Tried::installed).collect();
    println!("{rounds} rounds of {seconds} s, medians; lowest and highest rate of the rounds;");
    println!("processor µs a write; others: processors at anything else, in the worst round\n");
    for round in 1..=rounds {
        for tried in &mut tried {
            eprintln!("round {round} of {rounds}: {}", tried.system.name());
            tried.round(&plan);
        }
    }
    print_writes(&tried, &plan);
    print_ratios(&tried, &plan);
    print_kills(&tried);
}

fn print_disk() {
    let us = |at_once: usize| {
        let times = appends(500, at_once).expect("a file");
        let rank = |percent: usize| times[times.len() * percent / 100].as_micros();
        format!("p50 {} µs, p99 {} µs", rank(50), rank(99))
    };
    println!("one fdatasync of a 4 KiB append here: {}; three at once: {}", us(1), us(3));
}

/// What is measured in each round.
struct Plan {
    span: Duration,
    counts: Vec<usize>,
}

/// What one run of writers has shown.
struct Figures {
    rate: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// Processor time of a write, in microseconds: of all servers, and of the writers.
    servers_us: f64,
    writers_us: f64,
    refused: u64,
    /// What anything else has used meanwhile, in processors: the kernel's own threads, and whatever
    /// disturbs.
    others: f64,
}

/// From the kill to the next write that succeeded.
struct Kill {
    ms: f64,
    /// Attempts that failed meanwhile.
    failed: usize,
    /// Rows that were acknowledged before, and are not there after.
    missing: u64,
}

/// One system and all that was measured of it.
struct Tried {
    system: System,
    /// By the plan's counts of writers, each round's.
    figures: Vec<Vec<Figures>>,
    kills: Vec<Kill>,
}

impl Tried {
    /// If it can be measured; says what it is, or where it can be had.
    fn installed(system: System) -> Option<Self> {
        match system.version() {
            Ok(version) => println!("{}: {version}; {}", system.name(), system.settings()),
            Err(missing) => {
                println!("{missing}");
                return None;
            }
        }
        Some(Self { system, figures: Vec::new(), kills: Vec::new() })
    }

    fn round(&mut self, plan: &Plan) {
        let mut round = Round::start(self.system);
        round.run(round.cluster.leader(), 16, WARM_UP);
        self.figures.resize_with(plan.counts.len(), Vec::new);
        for (count, all) in plan.counts.iter().zip(&mut self.figures) {
            all.extend(round.measured(*count, plan.span));
        }
        self.kills.extend(round.killed());
    }

    fn median(&self, at: usize, of: impl Fn(&Figures) -> f64) -> f64 {
        let all = self.figures.get(at).map_or(&[][..], Vec::as_slice);
        median(all.iter().map(of).collect())
    }
}

/// One cluster while it lives.
struct Round {
    cluster: Box<dyn Cluster>,
    next: u64,
    /// Writes that have succeeded.
    acknowledged: u64,
}

impl Round {
    fn start(system: System) -> Self {
        let cluster = system.start();
        // What starting has left to be written is not to be in the way.
        rustix::fs::sync();
        Self { cluster, next: FIRST_ID, acknowledged: 0 }
    }

    /// What writers did, what each process used, and what all processors worked.
    fn run(&mut self, server: usize, count: usize, span: Duration) -> (Done, Used, u64) {
        let all: Result<Vec<_>, _> = (0..count).map(|_| self.cluster.writer(server)).collect();
        let all = all.expect("a connection");
        let processes = [&self.cluster.processes()[..], &[std::process::id()]].concat();
        let (before, worked) = (Used::now(&processes), worked_us());
        let done = writers::run(all, span, &mut self.next);
        let (used, worked) = (Used::now(&processes).since(&before), worked_us() - worked);
        self.acknowledged += done.times.len() as u64;
        (done, used, worked)
    }

    /// Writers at the leader, again if it was not the leader to the end or others disturbed: the time
    /// that was disturbed least.
    fn measured(&mut self, count: usize, span: Duration) -> Option<Figures> {
        let mut best: Option<Figures> = None;
        for _ in 0..ATTEMPTS_MAX {
            let at = self.cluster.leader();
            let (done, used, worked) = self.run(at, count, span);
            if self.cluster.leader() != at {
                eprintln!("{count:>4} writers: the leader has changed");
                continue;
            }
            let figures = Figures::new(&done, &used, worked);
            let (rate, others) = (figures.rate, figures.others);
            let calm = others < OTHERS_MAX;
            let so = if calm { "" } else { ": disturbed" };
            eprintln!("{count:>4} writers {rate:>7.0}/s, others use {others:.2} processors{so}");
            if best.as_ref().is_none_or(|best| others < best.others) {
                best = Some(figures);
            }
            if calm {
                break;
            }
        }
        best
    }

    fn write(&mut self, writer: &mut Writer, limit: Duration) -> Result<(), String> {
        self.next += 1;
        writer.write(self.next - 1, limit)?;
        self.acknowledged += 1;
        Ok(())
    }

    /// One client writes at the leader; that one is killed, and the client tries the others in turn.
    fn killed(&mut self) -> Option<Kill> {
        let leader = self.cluster.leader();
        let mut writer = self.cluster.writer(leader).expect("a connection");
        for _ in 0..100 {
            self.write(&mut writer, PATIENCE).expect("it is written");
        }
        let began = Instant::now();
        self.cluster.kill(leader);
        for failed in 0.. {
            let other = (leader + 1 + failed % 2) % 3;
            let writer = self.cluster.writer(other);
            if writer.and_then(|mut writer| self.write(&mut writer, ATTEMPT)).is_ok() {
                let ms = began.elapsed().as_secs_f64() * 1e3;
                return Some(Kill { ms, failed, missing: self.missing(other) });
            }
            if began.elapsed() > PATIENCE {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        eprintln!("no write within {PATIENCE:?} of the kill");
        None
    }

    /// How many rows that were acknowledged a server does not hold, after a while.
    fn missing(&self, server: usize) -> u64 {
        let mut rows = 0;
        measure(PATIENCE, || {
            rows = self.cluster.rows(server)?;
            if rows >= self.acknowledged { Ok(()) } else { Err(rows.to_string()) }
        });
        assert!(rows <= self.next - FIRST_ID, "{rows} rows, and so many were never sent");
        self.acknowledged.saturating_sub(rows)
    }
}

impl Figures {
    fn new(done: &Done, used: &Used, worked_us: u64) -> Self {
        let each = |us: &[u64]| us.iter().sum::<u64>() as f64 / done.times.len() as f64;
        let (servers, writers) = used.cpu_us.split_at(used.cpu_us.len() - 1);
        let others_us = worked_us.saturating_sub(used.cpu_us.iter().sum());
        Self {
            rate: done.rate(),
            p50_ms: done.rank_ms(50),
            p99_ms: done.rank_ms(99),
            servers_us: each(servers),
            writers_us: each(writers),
            refused: done.refused,
            others: others_us as f64 / 1e6 / done.took.as_secs_f64(),
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn print_writes(all: &[Tried], plan: &Plan) {
    println!(
        "{:<8} {:>7} {:>8} {:>15} {:>7} {:>7} {:>11} {:>11} {:>7}",
        "", "writers", "writes/s", "", "p50 ms", "p99 ms", "servers µs", "writers µs", "others"
    );
    for tried in all {
        for (at, writers) in plan.counts.iter().enumerate() {
            let of = |of: fn(&Figures) -> f64| tried.median(at, of);
            let rates = tried.figures[at].iter().map(|figures| figures.rate);
            let (low, high) = rates.fold((f64::INFINITY, 0.0_f64), |(low, high), rate| {
                (low.min(rate), high.max(rate))
            });
            let mut line = format!("{:<8} {writers:>7} ", tried.system.name());
            let _ = write!(line, "{:>8.0} {:>15}", of(|f| f.rate), format!("{low:.0}–{high:.0}"));
            let _ = write!(line, " {:>7.2} {:>7.2}", of(|f| f.p50_ms), of(|f| f.p99_ms));
            let _ = write!(line, " {:>11.1} {:>11.1}", of(|f| f.servers_us), of(|f| f.writers_us));
            let others = tried.figures[at].iter().map(|figures| figures.others);
            let _ = write!(line, " {:>7.2}", others.fold(0.0, f64::max));
            let refused: u64 = tried.figures[at].iter().map(|figures| figures.refused).sum();
            if refused > 0 {
                let _ = write!(line, " {refused} refused");
            }
            println!("{line}");
        }
    }
}

fn print_ratios(all: &[Tried], plan: &Plan) {
    let found = |system| all.iter().find(|tried| tried.system == system);
    let Some(ours) = found(System::Quorate) else { return };
    println!("\n{:<24} {:>9} {:>9} {:>7}", "Quorate to", "rate ×", "p50 ÷", "target");
    for (system, target) in [(System::Etcd, 2), (System::Galera, 3)] {
        let Some(other) = found(system) else { continue };
        for (at, writers) in plan.counts.iter().enumerate() {
            let ratio = |of: fn(&Figures) -> f64| ours.median(at, of) / other.median(at, of);
            let (rate, p50) = (ratio(|f| f.rate), 1.0 / ratio(|f| f.p50_ms));
            let what = format!("{}, {writers} writers", system.name());
            println!("{what:<24} {rate:>9.2} {p50:>9.2} {target:>7}");
        }
    }
}

fn print_kills(all: &[Tried]) {
    println!("\nkill -9 of that server until a client's next write at another, {ATTEMPT:?} a try");
    for tried in all {
        let times: Vec<f64> = tried.kills.iter().map(|kill| kill.ms).collect();
        let worst = times.iter().copied().fold(0.0, f64::max);
        let failed: Vec<String> = tried.kills.iter().map(|k| k.failed.to_string()).collect();
        let missing: u64 = tried.kills.iter().map(|kill| kill.missing).sum();
        println!(
            "{:<8} median {:>6.0} ms, worst {worst:>6.0} ms, failed tries {}; {missing} \
             acknowledged rows missing",
            tried.system.name(),
            median(times),
            failed.join(" "),
        );
    }
}
