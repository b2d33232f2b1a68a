//! What the two ends of a whole copy cost without the network between them:
//! `cargo run --release -p quorate-io --example copy_bench DIR [MEGABYTES]`. Nothing is asserted.

use std::path::PathBuf;
use std::time::Instant;

use quorate_core::copies::{ChunkData, FileShape};
use quorate_core::engine::{Engine as _, Position, SqlLimits, Statement, Transaction};
use quorate_core::{Generation, Index, LogId, Term};
use quorate_io::copies::{Files, Given, Incoming};

const LOG: LogId = LogId(1);

fn main() {
    let mut args = std::env::args().skip(1);
    let dir = PathBuf::from(args.next().expect("a directory"));
    let megabytes: u64 = args.next().and_then(|a| a.parse().ok()).unwrap_or(300);
    let donor = Files::new(&dir.join("donor"));
    let taker = Files::new(&dir.join("taker"));
    let mut engine = donor.create(LOG, Generation(1)).expect("a copy");
    drop(taker.create(LOG, Generation(1)).expect("a copy"));
    let rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
                INSERT INTO t (v) SELECT randomblob(2000) FROM n";
    let table = "CREATE TABLE t (id INTEGER PRIMARY KEY, v BLOB)";
    let mut at = Position::default();
    let all = std::iter::once(table).chain((0..megabytes / 2).map(|_| rows));
    for (index, sql) in (1..).zip(all) {
        let batch = [Transaction { statements: vec![Statement::new(sql)] }];
        engine.execute(&batch, &SqlLimits::default()).expect("it runs");
        at = Position { index: Index(index), term: Term(1) };
        engine.commit(at, &[]).expect("it commits");
    }
    engine.sync().expect("it is durable");
    for _ in 0..3 {
        let began = Instant::now();
        let given = Given::hold(&donor, LOG, Generation(1), 1, || true).expect("a snapshot");
        let snapshot = began.elapsed();
        let shape = FileShape { bytes: given.bytes(), chunk: 256 * 1024 };
        let began = Instant::now();
        let mut chunks = Vec::new();
        for chunk in 0..shape.chunks() {
            let (from, len) = shape.place(chunk);
            let (hash, data) = given.read(from, len, None, false).expect("a chunk");
            chunks.push((from, len, hash, data));
        }
        let read = began.elapsed();
        let began = Instant::now();
        let (mut taken, _) = Incoming::begin(&taker, LOG, shape).expect("it begins");
        for (from, len, hash, data) in &chunks {
            assert!(!matches!(data, ChunkData::Same));
            taken.write(*from, *len, *hash, data).expect("it is written");
        }
        let written = began.elapsed();
        let began = Instant::now();
        taken.finish(shape.bytes, at, Generation(2)).expect("it is whole");
        let finished = began.elapsed();
        println!(
            "{} MB: held in {snapshot:.1?}, read and hashed {read:.0?}, hashed and written \
             {written:.0?}, made durable and placed {finished:.0?}",
            shape.bytes / 1_000_000
        );
    }
}
