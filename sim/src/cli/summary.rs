//! What became of a campaign, kept as JSON, so that it can go on where it was stopped.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::outcome::Report;
use crate::plan::Profile;

/// A seed that failed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Failure {
    pub(super) seed: u64,
    pub(super) invariant: String,
    pub(super) detail: String,
}

/// The sum of many reports.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Summary {
    pub(super) seeds: Range<u64>,
    pub(super) shard: (u64, u64),
    pub(super) twice: bool,
    #[serde(default)]
    pub(super) profile: Profile,
    /// Ranges of seeds that are done, in order, apart from each other.
    done: Vec<Range<u64>>,
    runs: u64,
    events: u64,
    simulated_ms: u64,
    converged_ms_max: u64,
    /// Runs that were held back, by reason.
    reasons: BTreeMap<String, u64>,
    counts: BTreeMap<String, u64>,
    /// How often core came to the states that it marks.
    #[serde(default)]
    marks: BTreeMap<String, u64>,
    pub(super) failures: Vec<Failure>,
    #[serde(skip)]
    saved: Option<Instant>,
}

impl Summary {
    pub(super) fn new(seeds: Range<u64>, shard: (u64, u64), twice: bool, profile: Profile) -> Self {
        Self {
            seeds,
            shard,
            twice,
            profile,
            done: Vec::new(),
            runs: 0,
            events: 0,
            simulated_ms: 0,
            converged_ms_max: 0,
            reasons: BTreeMap::new(),
            counts: BTreeMap::new(),
            marks: BTreeMap::new(),
            failures: Vec::new(),
            saved: None,
        }
    }

    /// Whether both are of the same campaign.
    pub(super) fn is_of(&self, other: &Self) -> bool {
        let of = |it: &Self| (it.seeds.clone(), it.shard, it.twice, it.profile);
        of(self) == of(other)
    }

    pub(super) fn add(&mut self, report: &Report) {
        self.runs += 1;
        self.events += report.events;
        self.simulated_ms += report.simulated_ms;
        self.converged_ms_max = self.converged_ms_max.max(report.converged_ms.unwrap_or(0));
        for reason in report.reasons.keys() {
            *self.reasons.entry(reason.clone()).or_insert(0) += 1;
        }
        for (all, some) in [(&mut self.counts, &report.counts), (&mut self.marks, &report.marks)] {
            for (name, count) in some {
                *all.entry(name.clone()).or_insert(0) += count;
            }
        }
        self.failures.extend(Option::<Failure>::from(report));
    }

    pub(super) fn mark_done(&mut self, seeds: &Range<u64>) {
        self.done.push(seeds.clone());
        self.done.sort_by_key(|range| range.start);
        let mut merged: Vec<Range<u64>> = Vec::new();
        for range in self.done.drain(..) {
            match merged.last_mut() {
                Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        self.done = merged;
    }

    pub(super) fn has_done(&self, seeds: &Range<u64>) -> bool {
        self.done.iter().any(|range| range.start <= seeds.start && seeds.end <= range.end)
    }

    /// Whether it is time to save it again.
    pub(super) fn is_due(&self, every: Duration) -> bool {
        self.saved.is_none_or(|at| at.elapsed() >= every)
    }

    pub(super) fn load(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        serde_json::from_str(&text).map_err(|error| {
            format!("{} is not the summary of a campaign: {error}", path.display())
        })
    }

    /// Writes it beside and renames it, so that a killed campaign leaves a whole summary.
    pub(super) fn save(&self, path: &Path) -> Result<(), String> {
        let beside = path.with_extension("part");
        let text = serde_json::to_string_pretty(self).map_err(|error| error.to_string())?;
        let written = std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, path));
        written.map_err(|error| format!("cannot write {}: {error}", path.display()))
    }

    pub(super) fn note_saved(&mut self) {
        self.saved = Some(Instant::now());
    }

    /// What has not happened once in a campaign of at least so many runs, and what core marks in one of at
    /// least so many more.
    pub(super) fn never(&self, runs: u64, runs_to_marks: u64) -> Vec<&str> {
        let counts = self.counts.iter().filter(|_| self.runs >= runs);
        let marks = self.marks.iter().filter(|_| self.runs >= runs_to_marks);
        let never = counts.chain(marks).filter(|(_, count)| **count == 0);
        never.map(|(name, _)| name.as_str()).collect()
    }

    /// For people.
    pub(super) fn to_text(&self, took: Duration) -> String {
        let mut text = String::new();
        let seconds = self.simulated_ms / 1_000;
        let _infallible = writeln!(
            text,
            "{} runs of seeds {:?}, {} events, {seconds} simulated seconds, in {} s; the slowest \
             settled after {} ms",
            self.runs,
            self.seeds,
            self.events,
            took.as_secs(),
            self.converged_ms_max
        );
        let _infallible = writeln!(text, "held back: {:?}", self.reasons);
        let list = |(name, count): (&String, &u64)| format!("{name} {count}");
        let counts: Vec<String> = self.counts.iter().map(list).collect();
        let _infallible = writeln!(text, "{}", counts.join(", "));
        let marks: Vec<String> = self.marks.iter().map(list).collect();
        let _infallible = writeln!(text, "rare states: {}", marks.join(", "));
        let mut kinds: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for failure in &self.failures {
            kinds.entry(&failure.invariant).or_default().push(failure.seed);
        }
        for (invariant, seeds) in &kinds {
            let first: Vec<u64> = seeds.iter().copied().take(12).collect();
            let _infallible =
                writeln!(text, "FAILED {invariant}: {} seeds, {first:?}", seeds.len());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_happened_in_a_long_campaign_is_named() {
        let mut summary = Summary::new(0..2, (1, 1), false, Profile::Swarm);
        let counts = [("rare".to_owned(), 0), ("usual".to_owned(), 1)].into();
        let marks = [("reached".to_owned(), 1), ("missed".to_owned(), 0)].into();
        let report = Report { counts, marks, ..Report::default() };
        summary.add(&report);
        assert!(summary.never(2, 3).is_empty(), "it is too short");
        summary.add(&report);
        assert_eq!(summary.never(2, 3), ["rare"]);
        summary.add(&report);
        assert_eq!(summary.never(2, 3), ["rare", "missed"]);
    }

    #[test]
    fn a_summary_that_was_saved_goes_on_where_it_was() {
        let mut summary = Summary::new(0..100, (1, 1), true, Profile::Swarm);
        for range in [32..64, 0..32, 96..100] {
            summary.mark_done(&range);
        }
        assert_eq!(summary.done, [0..64, 96..100]);
        let text = serde_json::to_string(&summary).expect("plain values");
        let back: Summary = serde_json::from_str(&text).expect("its own text");
        assert!(back.is_of(&summary));
        assert!(back.has_done(&(0..64)) && back.has_done(&(97..98)) && !back.has_done(&(60..70)));
    }
}
