//! `campaign`: many seeds on all cores, in chunks, so that a long one can be split and resumed.

use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::summary::{Failure, Summary};
use crate::outcome::Report;
use crate::plan::Profile;
use crate::{Options, run_plan, run_plan_twice};

/// So many seeds are handed to a worker, and noted as done, at once.
const CHUNK: u64 = 32;
/// In so many runs everything that is counted happens.
const RUNS_ENOUGH: u64 = 2_000;
/// In so many runs core comes to every rare state that it marks.
const RUNS_TO_MARKS: u64 = 20_000;
/// The summary is written so often.
const SAVE_EVERY: Duration = Duration::from_secs(10);

/// Run many seeds.
#[derive(Clone, Debug, Args)]
pub(super) struct Campaign {
    /// Which seeds: `A..B`, B not included.
    #[arg(long, value_parser = seeds)]
    seeds: Range<u64>,
    /// How many at once; by default as many as there are cores.
    #[arg(long)]
    jobs: Option<usize>,
    /// Only the i-th of n parts, counted from 1: `i/n`.
    #[arg(long, value_parser = shard, default_value = "1/1")]
    shard: (u64, u64),
    /// What the faults are about: crash, partition, disk, churn, client or swarm.
    #[arg(long, default_value = "swarm")]
    profile: Profile,
    /// Run every seed twice and compare every event.
    #[arg(long)]
    twice: bool,
    /// Go on after a failure, to count all of them.
    #[arg(long)]
    keep_going: bool,
    /// Write what became of it here, as JSON; a campaign that finds its own summary goes on from it.
    #[arg(long)]
    summary: Option<PathBuf>,
}

pub(super) fn seeds(text: &str) -> Result<Range<u64>, String> {
    let parts = text.split_once("..").and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    match parts {
        Some((from, to)) if from < to => Ok(from..to),
        _ => Err(format!("'{text}' is not a range of seeds; write A..B with A below B")),
    }
}

fn shard(text: &str) -> Result<(u64, u64), String> {
    let parts = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
    match parts {
        Some((part, of)) if (1..=of).contains(&part) => Ok((part, of)),
        _ => Err(format!("'{text}' is not a shard; write i/n with i from 1 to n")),
    }
}

/// What the workers share.
struct Work<'a> {
    campaign: &'a Campaign,
    next: AtomicU64,
    stop: AtomicBool,
    summary: Mutex<Summary>,
    bar: ProgressBar,
}

impl Campaign {
    pub(super) fn run(&self) -> ExitCode {
        let summary = match self.begin() {
            Ok(summary) => summary,
            Err(problem) => {
                eprintln!("{problem}");
                return ExitCode::from(2);
            }
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let jobs = self.jobs.unwrap_or(cores).max(1);
        let bar = ProgressBar::new(self.chunks().end * CHUNK);
        if let Ok(style) =
            ProgressStyle::with_template("{bar:40} {pos}/{len} seeds {per_sec} {msg} {eta}")
        {
            bar.set_style(style);
        }
        let work = Work {
            campaign: self,
            next: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            summary: Mutex::new(summary),
            bar,
        };
        let started = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..jobs {
                scope.spawn(|| work.toil());
            }
        });
        work.bar.finish_and_clear();
        let summary = work.summary.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        self.finish(&summary, started.elapsed())
    }

    fn begin(&self) -> Result<Summary, String> {
        let new = Summary::new(self.seeds.clone(), self.shard, self.twice, self.profile);
        let Some(path) = self.summary.as_ref().filter(|path| path.exists()) else {
            return Ok(new);
        };
        let held = Summary::load(path)?;
        if !held.is_of(&new) {
            return Err(format!(
                "{} is the summary of another campaign (seeds {:?}, shard {:?}, twice {}, profile \
                 {:?}); name another file or remove it",
                path.display(),
                held.seeds,
                held.shard,
                held.twice,
                held.profile
            ));
        }
        Ok(held)
    }

    /// The chunks of this shard, counted within it.
    fn chunks(&self) -> Range<u64> {
        let all = (self.seeds.end - self.seeds.start).div_ceil(CHUNK);
        let (part, of) = self.shard;
        0..(all + of - part) / of
    }

    /// The seeds of a chunk: the shards take turns.
    fn chunk(&self, number: u64) -> Range<u64> {
        let (part, of) = self.shard;
        let from = self.seeds.start + (number * of + part - 1) * CHUNK;
        from..(from + CHUNK).min(self.seeds.end)
    }

    fn finish(&self, summary: &Summary, took: Duration) -> ExitCode {
        if let Some(Err(problem)) = self.summary.as_ref().map(|path| summary.save(path)) {
            eprintln!("{problem}");
            return ExitCode::from(2);
        }
        print!("{}", summary.to_text(took));
        let never = summary.never(RUNS_ENOUGH, RUNS_TO_MARKS);
        if !never.is_empty() {
            println!("FAILED: what never happened was not tested: {}", never.join(", "));
            return ExitCode::FAILURE;
        }
        let Some(failure) = summary.failures.first() else { return ExitCode::SUCCESS };
        let twice = if self.twice { " --twice" } else { "" };
        let profile = match self.profile {
            Profile::Swarm => String::new(),
            other => format!(" --profile {other}"),
        };
        println!("replay: quorate-sim run --seed {}{profile}{twice} --verbose", failure.seed);
        ExitCode::FAILURE
    }
}

impl Work<'_> {
    fn toil(&self) {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.campaign.chunks().end || self.stop.load(Ordering::Relaxed) {
                return;
            }
            let seeds = self.campaign.chunk(number);
            if self.with(|summary| summary.has_done(&seeds)) {
                self.bar.inc(seeds.end - seeds.start);
                continue;
            }
            let mut part = Vec::new();
            for seed in seeds.clone() {
                let report = self.one(seed);
                let clean = report.is_clean();
                part.push(report);
                self.bar.inc(1);
                if !clean && !self.campaign.keep_going {
                    self.stop.store(true, Ordering::Relaxed);
                }
                if self.stop.load(Ordering::Relaxed) {
                    break;
                }
            }
            self.note(&seeds, &part);
        }
    }

    fn one(&self, seed: u64) -> Report {
        let plan = self.campaign.profile.plan(seed);
        match self.campaign.twice {
            true => run_plan_twice(plan),
            false => run_plan(plan, Options::default()).0,
        }
    }

    fn note(&self, seeds: &Range<u64>, reports: &[Report]) {
        self.with(|summary| {
            for report in reports {
                summary.add(report);
                if let Some(violation) = &report.violation {
                    self.bar.println(format!("seed {}: {violation}", report.seed));
                }
            }
            if reports.len() as u64 == seeds.end - seeds.start {
                summary.mark_done(seeds);
            }
            self.bar.set_message(format!("{} failed", summary.failures.len()));
            if let Some(path) = &self.campaign.summary
                && summary.is_due(SAVE_EVERY)
            {
                summary.note_saved();
                if let Err(problem) = summary.save(path) {
                    self.bar.println(problem);
                }
            }
        });
    }

    fn with<T>(&self, act: impl FnOnce(&mut Summary) -> T) -> T {
        let mut summary = self.summary.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        act(&mut summary)
    }
}

/// The failure of a report, if it has one.
impl From<&Report> for Option<Failure> {
    fn from(report: &Report) -> Self {
        report.violation.as_ref().map(|violation| Failure {
            seed: report.seed,
            invariant: violation.invariant.clone(),
            detail: violation.detail.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn campaign(seeds: Range<u64>, shard: (u64, u64)) -> Campaign {
        let profile = Profile::Swarm;
        Campaign {
            seeds,
            jobs: None,
            shard,
            twice: false,
            keep_going: false,
            summary: None,
            profile,
        }
    }

    #[test]
    fn the_shards_share_the_seeds_without_gap_or_overlap() {
        for (seeds, of) in [(0..1_000, 3), (7..8, 2), (5..5 + 32 * 7 + 1, 4), (0..32, 1)] {
            let mut seen: Vec<u64> = Vec::new();
            for part in 1..=of {
                let campaign = campaign(seeds.clone(), (part, of));
                seen.extend(campaign.chunks().flat_map(|number| campaign.chunk(number)));
            }
            seen.sort_unstable();
            assert_eq!(seen, seeds.collect::<Vec<_>>());
        }
    }

    #[test]
    fn ranges_and_shards_that_make_no_sense_are_refused() {
        assert_eq!(seeds("3..9"), Ok(3..9));
        assert!(seeds("9..3").is_err() && seeds("3").is_err() && seeds("a..b").is_err());
        assert_eq!(shard("2/8"), Ok((2, 8)));
        assert!(shard("0/8").is_err() && shard("9/8").is_err() && shard("1").is_err());
    }
}
