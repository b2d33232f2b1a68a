//! `run`: one seed.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::outcome::Report;
use crate::plan::Plan;
use crate::trace::Trace;
use crate::view::page;
use crate::{Options, run_plan, run_plan_twice};

use super::shrink::Which;

/// How many of the last lines are shown of a run that failed.
const LINES_SHOWN: usize = 60;

/// Run one seed.
#[derive(Debug, Args)]
pub(super) struct Run {
    #[command(flatten)]
    which: Which,
    /// Print what was drawn, and every event; twice: heartbeats too.
    #[arg(long, short, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Run it twice and compare every event.
    #[arg(long)]
    twice: bool,
    /// Write the run as a page, to be watched event by event: one file, for any browser. What is asked
    /// for and sent, what hosts are, faults, and where an invariant is broken are in it.
    #[arg(long, value_name = "FILE", conflicts_with = "twice")]
    html: Option<PathBuf>,
    /// A deliberate fault of core, by name.
    #[cfg(quorate_faults)]
    #[arg(long)]
    fault: Option<quorate_core::Fault>,
}

impl Run {
    pub(super) fn run(&self) -> ExitCode {
        #[cfg(quorate_faults)]
        quorate_core::set_fault(self.fault);
        let plan = match self.which.case() {
            Ok(case) => case.plan(),
            Err(problem) => {
                eprintln!("{problem}");
                return ExitCode::from(2);
            }
        };
        if self.verbose > 0 {
            print!("{plan}");
        }
        let report = if self.twice {
            run_plan_twice(plan)
        } else {
            match self.once(plan) {
                Ok(report) => report,
                Err(problem) => {
                    eprintln!("{problem}");
                    return ExitCode::from(2);
                }
            }
        };
        println!("{}", line(&report));
        if self.verbose > 0 {
            let (counts, marks) = (report.counts.iter(), report.marks.iter());
            for (name, count) in counts.chain(marks).filter(|(_, count)| **count > 0) {
                println!("  {name} {count}");
            }
        }
        if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn once(&self, plan: Plan) -> Result<Report, String> {
        let trace = match self.verbose {
            0 => Trace::keep(LINES_SHOWN),
            more => Trace::print(more > 1),
        };
        let trace = if self.html.is_some() { trace.recording() } else { trace };
        let shown = self.html.as_ref().map(|file| (file, plan.clone()));
        let (report, trace) = run_plan(plan, Options { trace });
        let (lines, recording) = trace.into_parts();
        if !report.is_clean() {
            lines.iter().for_each(|line| println!("{line}"));
        }
        if let (Some((file, plan)), Some(recording)) = (shown, recording) {
            let page = page(&plan, &report, &recording, &self.command());
            std::fs::write(file, page)
                .map_err(|error| format!("cannot write {}: {error}", file.display()))?;
            println!("{} shows it", file.display());
        }
        Ok(report)
    }

    /// What repeats this run.
    fn command(&self) -> String {
        #[cfg(quorate_faults)]
        let fault = self.fault.map_or(String::new(), |fault| format!(" --fault {}", fault.name()));
        #[cfg(not(quorate_faults))]
        let fault = "";
        let which = &self.which;
        format!("quorate-sim run {which}{fault} --verbose")
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
