//! `mutants`: that the simulator can find what is wrong. Only in a build with
//! `--cfg quorate_faults`.

use std::ops::Range;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clap::Args;
use quorate_core::{Fault, set_fault};

use super::campaign::seeds;
use crate::{Options, run};

/// Switch on each deliberate fault of core, and look for it.
#[derive(Debug, Args)]
pub(super) struct Mutants {
    /// Which seeds to try at most.
    #[arg(long, value_parser = seeds, default_value = "0..5000")]
    seeds: Range<u64>,
    /// Only this fault.
    #[arg(long)]
    fault: Option<Fault>,
    /// How many worlds at once; by default as many as there are cores.
    #[arg(long)]
    jobs: Option<usize>,
}

/// How a fault was found.
struct Found {
    seed: u64,
    tried: u64,
    invariant: String,
}

impl Mutants {
    pub(super) fn run(&self) -> ExitCode {
        let mut missed = 0;
        println!("{:<28} {:>8} {:>8} {:>8}  invariant", "fault", "seed", "seeds", "seconds");
        for (fault, name) in Fault::ALL {
            if self.fault.is_some_and(|only| only != fault) {
                continue;
            }
            let started = Instant::now();
            let seconds = |started: Instant| started.elapsed().as_millis() as f64 / 1_000.0;
            match self.find(fault) {
                Some(found) => println!(
                    "{name:<28} {:>8} {:>8} {:>8.1}  {}",
                    found.seed,
                    found.tried,
                    seconds(started),
                    found.invariant
                ),
                None => {
                    missed += 1;
                    let tried = self.seeds.end - self.seeds.start;
                    println!(
                        "{name:<28} {:>8} {tried:>8} {:>8.1}  NOT FOUND",
                        "-",
                        seconds(started)
                    );
                }
            }
            set_fault(None);
        }
        if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// The first seed that fails with the fault and does not fail without it.
    fn find(&self, fault: Fault) -> Option<Found> {
        let mut from = self.seeds.start;
        loop {
            set_fault(Some(fault));
            let seed = self.first(from)?;
            let violation = run(seed, Options::default()).0.violation;
            set_fault(None);
            if run(seed, Options::default()).0.is_clean() {
                let tried = seed - self.seeds.start + 1;
                let again = "a failure that does not repeat".to_owned();
                let invariant = violation.map_or(again, |violation| violation.invariant);
                return Some(Found { seed, tried, invariant });
            }
            from = seed + 1;
        }
    }

    /// The first seed from `from` on that fails.
    fn first(&self, from: u64) -> Option<u64> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let jobs = self.jobs.unwrap_or(cores).max(1);
        let next = AtomicU64::new(from);
        let first = AtomicU64::new(u64::MAX);
        std::thread::scope(|scope| {
            for _ in 0..jobs {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= self.seeds.end || seed > first.load(Ordering::Relaxed) {
                            return;
                        }
                        if !run(seed, Options::default()).0.is_clean() {
                            first.fetch_min(seed, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        let seed = first.into_inner();
        (seed < u64::MAX).then_some(seed)
    }
}
