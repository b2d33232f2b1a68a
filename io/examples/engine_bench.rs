//! How fast one copy executes, applies and reads.
//!
//! ```text
//! cargo run --release -p quorate-io --example engine_bench [DIR] [SECONDS]
//! ```
//!
//! `DIR` (default: the current directory) gets a scratch directory, which is removed again. A write
//! is a transaction with one single-row INSERT into a table with an integer key and a text of 100
//! bytes; a batch is executed, then committed.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use quorate_core::engine::{
    Effect, Engine, Position, Reader, SqlLimits, Statement, Transaction, Value,
};
use quorate_core::{Index, Term};
use quorate_io::engine::SqliteEngine;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let mut args = std::env::args_os().skip(1);
    let parent = args.next().map_or_else(|| PathBuf::from("."), PathBuf::from);
    let seconds: f64 = match args.next() {
        Some(text) => text.to_string_lossy().parse()?,
        None => 2.0,
    };
    let time = Duration::from_secs_f64(seconds);
    let scratch = parent.join(format!("engine_bench.{}", std::process::id()));
    std::fs::create_dir(&scratch)?;
    let result = measure(&scratch, time);
    std::fs::remove_dir_all(&scratch)?;
    result
}

fn measure(scratch: &Path, time: Duration) -> Outcome<()> {
    for batch in [1, 16, 64] {
        let (owner, log, writes, took) = write(&scratch.join(format!("w{batch}.db")), batch, time)?;
        report(&format!("execute and commit, batches of {batch}"), writes, took);
        let bytes: usize = log.iter().map(|entry| entry.effects.len()).sum();
        println!("{:>48} {} bytes of effects a write", "", bytes / writes.max(1));
        for together in [1, 64] {
            let name = scratch.join(format!("a{batch}-{together}.db"));
            let (entries, took) = apply(&name, &log, together)?;
            report(&format!("  apply its entries, {together} in one commit"), entries, took);
        }
        if batch == 64 {
            let (reads, took) = read(&owner, writes, time)?;
            report("read one row by its key", reads, took);
        }
    }
    updates(&scratch.join("u.db"), time)
}

/// Time on the clock, and on the processor: on a busy machine only the second says what work costs.
struct Watch {
    start: Instant,
    cpu: Duration,
}

impl Watch {
    fn start() -> Self {
        Self { start: Instant::now(), cpu: cpu() }
    }

    fn stop(&self) -> [Duration; 2] {
        [self.start.elapsed(), cpu().saturating_sub(self.cpu)]
    }
}

/// What this thread has run so far; zero where the system does not tell.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split_whitespace().next().and_then(|first| first.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

fn report(what: &str, count: usize, [took, cpu]: [Duration; 2]) {
    println!(
        "{what:<44} {:>9.0} a second, {:>7.2} µs each, {:>6.2} µs of CPU",
        count as f64 / took.as_secs_f64(),
        took.as_secs_f64() * 1e6 / count as f64,
        cpu.as_secs_f64() * 1e6 / count as f64
    );
}

fn at(index: usize) -> Position {
    Position { index: Index(index as u64), term: Term(1) }
}

fn one(sql: &str, args: Vec<Value>) -> Transaction {
    Transaction { statements: vec![Statement::with(sql, args)] }
}

fn create(path: &Path) -> Outcome<(SqliteEngine, Vec<Effect>)> {
    let mut engine = SqliteEngine::create(path)?;
    let create = one("CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)", Vec::new());
    let effects = engine.execute(&[create], &SqlLimits::default())?.effects;
    engine.commit(at(1), &[])?;
    Ok((engine, vec![Effect { at: at(1), effects }]))
}

fn write(
    path: &Path,
    batch: usize,
    time: Duration,
) -> Outcome<(SqliteEngine, Vec<Effect>, usize, [Duration; 2])> {
    let (mut engine, mut log) = create(path)?;
    let limits = SqlLimits::default();
    let insert = one("INSERT INTO t(v) VALUES(?)", vec![Value::Text("x".repeat(100))]);
    let transactions = vec![insert; batch];
    let mut writes = 0;
    let watch = Watch::start();
    while watch.start.elapsed() < time {
        let executed = engine.execute(&transactions, &limits)?;
        let at = at(log.len() + 1);
        engine.commit(at, &[])?;
        log.push(Effect { at, effects: executed.effects });
        writes += batch;
        if log.len() % 256 == 0 {
            engine.sync()?;
        }
    }
    Ok((engine, log, writes, watch.stop()))
}

fn apply(path: &Path, log: &[Effect], together: usize) -> Outcome<(usize, [Duration; 2])> {
    let mut engine = SqliteEngine::create(path)?;
    let watch = Watch::start();
    for (nth, entries) in log.chunks(together).enumerate() {
        engine.apply(entries, &[])?;
        if nth % 256 == 255 {
            engine.sync()?;
        }
    }
    Ok((log.len(), watch.stop()))
}

fn read(engine: &SqliteEngine, rows: usize, time: Duration) -> Outcome<(usize, [Duration; 2])> {
    let mut reader = engine.reader()?;
    let limits = SqlLimits::default();
    let mut reads = 0_usize;
    let watch = Watch::start();
    while watch.start.elapsed() < time {
        let id = (reads.wrapping_mul(7_919) % rows.max(1)) as i64 + 1;
        let select = one("SELECT v FROM t WHERE id = ?", vec![Value::Integer(id)]);
        let (_, outcome) = reader.query(&select, &limits)?;
        assert_eq!(outcome?[0].rows.len(), 1);
        reads += 1;
    }
    Ok((reads, watch.stop()))
}

/// Updates by key, and their application: the receiver compares the old row first.
fn updates(path: &Path, time: Duration) -> Outcome<()> {
    let (mut engine, mut log) = create(path)?;
    let limits = SqlLimits::default();
    let fill: Vec<Transaction> = (0..10_000)
        .map(|_| one("INSERT INTO t(v) VALUES(?)", vec![Value::Text("x".repeat(100))]))
        .collect();
    let effects = engine.execute(&fill, &limits)?.effects;
    engine.commit(at(2), &[])?;
    log.push(Effect { at: at(2), effects });
    let mut writes = 0;
    let watch = Watch::start();
    while watch.start.elapsed() < time {
        let batch: Vec<Transaction> = (0..64)
            .map(|nth| {
                let id = ((writes + nth) * 7_919 % 10_000) as i64 + 1;
                let value = Value::Text(format!("{:0100}", writes));
                one("UPDATE t SET v = ? WHERE id = ?", vec![value, Value::Integer(id)])
            })
            .collect();
        let effects = engine.execute(&batch, &limits)?.effects;
        let at = at(log.len() + 1);
        engine.commit(at, &[])?;
        log.push(Effect { at, effects });
        writes += batch.len();
        if log.len() % 64 == 0 {
            engine.sync()?;
        }
    }
    report("update by key, batches of 64", writes, watch.stop());
    let (_, took) = apply(&path.with_extension("applied.db"), &log, 64)?;
    report("  apply them, 64 entries in one commit", writes, took);
    Ok(())
}
