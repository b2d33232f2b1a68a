//! `mutants`: that a search can find what is wrong. Only in a build with `--cfg quorate_faults`.

use std::num::NonZeroUsize;
use std::process::ExitCode;

use clap::Args;
use quorate_core::{Fault, set_fault};
use quorate_model::{Cluster, Outcome, Search, World, search};

/// Switch on each deliberate fault of the consensus machine, and search the worlds that can show it.
#[derive(Debug, Args)]
pub(crate) struct Mutants {
    /// Only this fault.
    #[arg(long)]
    fault: Option<Fault>,
    /// Tell the steps to what each breaks.
    #[arg(long)]
    paths: bool,
    /// Give up a fault after so many generated states.
    #[arg(long, default_value = "6000000")]
    states_max: NonZeroUsize,
}

/// The faults that a log shows by itself, and the world in which each is looked for.
const FAULTS: [(Fault, &str); 8] = [
    (Fault::SendBeforePersist, "contention"),
    (Fault::CommitOldTerm, "diverged"),
    (Fault::SingleStepChange, "two-removal"),
    (Fault::TieBreakAtOddSizes, "contention"),
    (Fault::LearnerCounted, "learner"),
    (Fault::VoteForgotten, "vote"),
    (Fault::MembershipNotReverted, "removal"),
    (Fault::DeltaFromDivergedHistory, "diverged"),
];

impl Mutants {
    pub(crate) fn run(&self) -> ExitCode {
        // An assertion of core's that fails is what is looked for; it is told in the table.
        std::panic::set_hook(Box::new(|_| {}));
        if let Some(only) = self.fault.filter(|only| FAULTS.iter().all(|(fault, _)| fault != only))
        {
            let shown: Vec<&str> = FAULTS.iter().map(|(fault, _)| fault.name()).collect();
            eprintln!(
                "a log by itself does not show '{}'; it shows {}",
                only.name(),
                shown.join(", ")
            );
            return ExitCode::from(2);
        }
        let mut missed = 0;
        println!(
            "{:<28} {:<14} {:>9} {:>6} {:>8}  law",
            "fault", "world", "unique", "steps", "seconds"
        );
        for (fault, world) in FAULTS {
            if self.fault.is_some_and(|only| only != fault) {
                continue;
            }
            let Some(world) = World::named(world) else { continue };
            set_fault(Some(fault));
            let how = Search { states_max: Some(self.states_max), ..Search::default() };
            let outcome = search(Cluster::new(world), how, |_, _| {});
            // The paths that are told were walked with the fault: only now is it taken away.
            set_fault(None);
            missed += u32::from(outcome.broken.is_none());
            self.tell(fault.name(), world, &outcome);
        }
        if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn tell(&self, name: &str, world: &World, outcome: &Outcome) {
        let seconds = outcome.took.as_secs_f64();
        let (law, steps) = match &outcome.broken {
            Some((broken, steps)) => (broken.law.name(), steps.len()),
            None => ("NOT FOUND", 0),
        };
        let unique = outcome.unique;
        println!("{name:<28} {:<14} {unique:>9} {steps:>6} {seconds:>8.1}  {law}", world.name);
        if self.paths {
            print!("{}", outcome.trouble());
        }
    }
}
