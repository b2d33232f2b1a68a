//! The command line.

mod bench;
mod beside;
mod campaign;
#[cfg(quorate_faults)]
mod mutants;
mod shrink;
mod single;
mod summary;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A seeded world that drives real Quorate nodes and injects every fault it can.
#[derive(Debug, Parser)]
#[command(name = "quorate-sim", version, about, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  quorate-sim run --seed 7 --verbose
  quorate-sim run --seed 7 --html seed-7.html
  quorate-sim campaign --seeds 0..2000 --twice
  quorate-sim campaign --seeds 0..2000 --profile partition
  quorate-sim shrink --seed 7 --out case.json
  quorate-sim run --case case.json --verbose
  quorate-sim campaign --seeds 0..1000000 --shard 2/8 --summary shard-2.json
  quorate-sim bench
  quorate-sim bench --beside-madsim";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one seed and say what became of it.
    Run(single::Run),
    /// Run many seeds; exit 1 with the command that replays the first failure.
    Campaign(campaign::Campaign),
    /// Print the faults and orders of a seed, to be saved, edited, and run again by `run --case`.
    Schedule(shrink::Schedule),
    /// Leave out of a run that fails whatever it also fails without, and print it as a test.
    Shrink(shrink::Shrink),
    /// For each deliberate fault of core: how long until it is found.
    #[cfg(quorate_faults)]
    Mutants(mutants::Mutants),
    /// Measure simulated seconds and events a second with five nodes and no faults.
    Bench(bench::Bench),
}

/// Reads the command line and does what it says.
#[must_use]
pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run(run) => run.run(),
        Command::Campaign(campaign) => campaign.run(),
        Command::Schedule(schedule) => schedule.run(),
        Command::Shrink(shrink) => shrink.run(),
        #[cfg(quorate_faults)]
        Command::Mutants(mutants) => mutants.run(),
        Command::Bench(bench) => bench.run(),
    }
}
