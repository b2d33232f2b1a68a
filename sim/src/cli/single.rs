//! `run`: one seed.

use std::process::ExitCode;

use clap::Args;

use crate::outcome::Report;
use crate::plan::{Plan, Profile};
use crate::trace::Trace;
use crate::{Options, run_plan, run_plan_twice};

use super::shrink::Which;

/// How many of the last lines are shown of a run that failed.
const LINES_SHOWN: usize = 60;

/// Run one seed.
#[derive(Debug, Args)]
pub(super) struct Run {
    #[command(flatten)]
    which: Which,
    /// What the faults of the seed are about: crash, partition, disk, churn, client or swarm.
    #[arg(long, default_value = "swarm", conflicts_with = "case")]
    profile: Profile,
    /// Print what was drawn, and every event; twice: heartbeats too.
    #[arg(long, short, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Run it twice and compare every event.
    #[arg(long)]
    twice: bool,
    /// A deliberate fault of core, by name.
    #[cfg(quorate_faults)]
    #[arg(long, value_parser = super::mutants::fault)]
    fault: Option<quorate_core::Fault>,
}

impl Run {
    pub(super) fn run(&self) -> ExitCode {
        #[cfg(quorate_faults)]
        quorate_core::set_fault(self.fault);
        let plan = match self.which.case(self.profile) {
            Ok(case) => case.plan(),
            Err(problem) => {
                eprintln!("{problem}");
                return ExitCode::from(2);
            }
        };
        if self.verbose > 0 {
            print!("{plan}");
        }
        let report = if self.twice { run_plan_twice(plan) } else { self.once(plan) };
        println!("{}", line(&report));
        if self.verbose > 0 {
            let (counts, marks) = (report.counts.iter(), report.marks.iter());
            for (name, count) in counts.chain(marks).filter(|(_, count)| **count > 0) {
                println!("  {name} {count}");
            }
        }
        if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn once(&self, plan: Plan) -> Report {
        let trace = match self.verbose {
            0 => Trace::keep(LINES_SHOWN),
            more => Trace::Print { heartbeats: more > 1 },
        };
        let (report, lines) = run_plan(plan, Options { trace });
        if !report.is_clean() {
            lines.iter().for_each(|line| println!("{line}"));
        }
        report
    }
}

/// What became of a run, in a line.
pub(super) fn line(report: &Report) -> String {
    let seconds = report.simulated_ms / 1_000;
    let head = format!(
        "seed {}: {} events in {seconds} simulated seconds, hash {:016x}",
        report.seed, report.events, report.hash
    );
    match (&report.violation, report.converged_ms) {
        (Some(violation), _) => {
            format!("{head}\nFAILED at {} ms: {violation}", report.violated_at / 1_000_000)
        }
        (None, Some(ms)) if report.reasons.is_empty() => {
            format!("{head}, one healthy cluster {ms} ms after the last fault")
        }
        (None, Some(ms)) => {
            format!(
                "{head}, settled {ms} ms after the last fault, held back by {:?}",
                report.reasons
            )
        }
        (None, None) => head,
    }
}
