//! `shrink` and `schedule`: a run as a file, and the least of it that still fails.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::plan::{Case, Due, Profile};
use crate::shrink::{Effort, as_test, shrink};

/// A seed, or a file.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
struct Source {
    /// Which seed.
    #[arg(long)]
    seed: Option<u64>,
    /// A case that was saved by `schedule` or `shrink`, perhaps edited since.
    #[arg(long)]
    case: Option<PathBuf>,
}

/// Which run: what a seed draws, or what a file holds.
#[derive(Clone, Debug, Args)]
pub(super) struct Which {
    #[command(flatten)]
    source: Source,
    /// What the faults of the seed are about: crash, partition, disk, churn, client or swarm.
    #[arg(long, default_value = "swarm", conflicts_with = "case")]
    profile: Profile,
}

/// As it is named on a command line.
impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seed = self.source.seed.unwrap_or_default();
        match (&self.source.case, self.profile) {
            (Some(path), _) => write!(f, "--case {}", path.display()),
            (None, Profile::Swarm) => write!(f, "--seed {seed}"),
            (None, other) => write!(f, "--seed {seed} --profile {other}"),
        }
    }
}

impl Which {
    /// The case; in words why there is none.
    pub(super) fn case(&self) -> Result<Case, String> {
        match (&self.source.case, self.source.seed) {
            (Some(path), _) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
                Case::parse(&text)
                    .map_err(|error| format!("{} is no case: {error}", path.display()))
            }
            (None, Some(seed)) => Ok(Case::of(seed, self.profile)),
            (None, None) => Err("name a seed or a case".to_owned()),
        }
    }
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// Print the faults and orders of a seed, to be saved, edited, and run again.
#[derive(Clone, Debug, Args)]
pub(super) struct Schedule {
    /// Which seed.
    #[arg(long)]
    seed: u64,
    /// What its faults are about: crash, partition, disk, churn, client or swarm.
    #[arg(long, default_value = "swarm")]
    profile: Profile,
    /// Write them here instead.
    #[arg(long)]
    out: Option<PathBuf>,
}

impl Schedule {
    pub(super) fn run(&self) -> ExitCode {
        let text = Case::of(self.seed, self.profile).to_json() + "\n";
        let written = match &self.out {
            Some(path) => write(path, &text),
            None => {
                print!("{text}");
                Ok(())
            }
        };
        said(written)
    }
}

fn said(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::from(2)
        }
    }
}

/// Leave out of a run that fails whatever it also fails without.
#[derive(Clone, Debug, Args)]
pub(super) struct Shrink {
    #[command(flatten)]
    which: Which,
    /// Write the least case that was found here, as JSON.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Stop after so many seconds with what was found by then.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// How many runs at once; by default as many as there are cores.
    #[arg(long)]
    jobs: Option<NonZeroUsize>,
    /// A deliberate fault of core, by name.
    #[cfg(quorate_faults)]
    #[arg(long)]
    fault: Option<quorate_core::Fault>,
}

impl Shrink {
    pub(super) fn run(&self) -> ExitCode {
        #[cfg(quorate_faults)]
        quorate_core::set_fault(self.fault);
        said(self.shrink())
    }

    fn shrink(&self) -> Result<(), String> {
        let case = self.which.case()?;
        let jobs = self.jobs.or(std::thread::available_parallelism().ok());
        let jobs = jobs.unwrap_or(NonZeroUsize::MIN);
        let effort = Effort { jobs, time: Duration::from_secs(self.seconds) };
        let tell = |case: &Case| {
            let hosts = case.plan().starting().count();
            format!("{} faults and orders, {hosts} hosts", case.schedule.len())
        };
        eprintln!("seed {}: {}", case.seed, tell(&case));
        let found = shrink(case, effort, &mut |case, runs| {
            eprintln!("after {runs} runs: {}", tell(case));
        })?;
        let (case, violation) = (&found.case, &found.violation);
        println!("{violation}");
        println!("{} are left, after {} runs", tell(case), found.runs);
        if found.stopped {
            println!("stopped after {} s: there may be less (--seconds)", self.seconds);
        }
        let mut in_time: Vec<&Due> = case.schedule.iter().collect();
        in_time.sort_by_key(|due| due.at);
        for due in in_time {
            println!("  at {} ms: {:?}", due.at / 1_000_000, due.action);
        }
        if let Some(path) = &self.out {
            write(path, &(case.to_json() + "\n"))?;
            println!("replay: quorate-sim run --case {} --verbose", path.display());
        }
        println!("\n{}", as_test(case, violation));
        Ok(())
    }
}
