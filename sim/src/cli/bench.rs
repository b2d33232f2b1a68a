//! `bench`: how fast the simulator is.

use std::process::ExitCode;
use std::time::Instant;

use clap::Args;

use super::beside;
use crate::plan::Plan;
use crate::{Options, run_plan};

/// Measure with a calm world.
#[derive(Debug, Args)]
pub(super) struct Bench {
    /// How many nodes.
    #[arg(long, default_value_t = 5)]
    nodes: usize,
    /// How many simulated seconds.
    #[arg(long, default_value_t = 2_000)]
    seconds: u64,
    /// With a database and three clients, who ask some thirty times a second.
    #[arg(long)]
    databases: bool,
    /// How many runs; the best counts, for the others were disturbed. Beside madsim so many of each, 9 if
    /// nothing is said, and the median counts.
    #[arg(long)]
    runs: Option<u32>,
    /// Have hosts without nodes send each other messages, here and on the simulator madsim, in turns.
    #[arg(long, conflicts_with_all = ["nodes", "seconds", "databases"])]
    beside_madsim: bool,
    /// One run of our side of that.
    #[arg(long, hide = true)]
    messengers: bool,
}

impl Bench {
    pub(super) fn run(&self) -> ExitCode {
        if self.messengers {
            return beside::one_side();
        }
        if self.beside_madsim {
            return beside::both_sides(self.runs.unwrap_or(9).max(1));
        }
        self.calm_worlds()
    }

    fn calm_worlds(&self) -> ExitCode {
        let mut best = 0;
        for seed in 0..u64::from(self.runs.unwrap_or(3).max(1)) {
            let mut plan = Plan::calm(seed, self.nodes.clamp(1, 16), self.seconds * 1_000);
            if self.databases {
                plan = plan.with_database();
            }
            let started = Instant::now();
            let (report, _) = run_plan(plan, Options::default());
            let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX).max(1);
            if let Some(violation) = &report.violation {
                println!("a calm world failed: {violation}");
                return ExitCode::FAILURE;
            }
            let pace = report.simulated_ms * 1_000 / micros;
            let events = report.events * 1_000_000 / micros;
            println!(
                "{} nodes: {} simulated seconds in {} ms: {pace} simulated seconds and {events} \
                 events a second, {} transactions",
                self.nodes,
                report.simulated_ms / 1_000,
                micros / 1_000,
                report.counts.get("requests-done").copied().unwrap_or(0)
            );
            best = best.max(pace);
        }
        println!("best: {best} simulated seconds a second");
        ExitCode::SUCCESS
    }
}
