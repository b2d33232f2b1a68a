//! From a run that fails to the least that still fails: fewer faults and orders, then fewer hosts, then
//! fewer clients, then less chance, over and over until nothing more can be left out.
//!
//! Lists are minimised by *ddmin* (Zeller and Hildebrandt, *Simplifying and isolating failure-inducing
//! input*, 2002). What is left out changes what is drawn afterwards, so that the smaller run is another
//! one; it counts if it breaks the same invariant.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use crate::plan::{CHANCES, Case};
use crate::{Options, Violation, run_plan};

/// What came of it.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The least that was found.
    pub case: Case,
    /// What it breaks.
    pub violation: Violation,
    /// How many runs that took.
    pub runs: u64,
    /// It was stopped before nothing more could be left out.
    pub stopped: bool,
}

/// How long it may take, and on how many threads.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Runs that are tried at once.
    pub jobs: NonZeroUsize,
    /// Nothing new is tried after this.
    pub time: Duration,
}

struct Shrinking<'a> {
    effort: Effort,
    until: Instant,
    runs: u64,
    best: Case,
    violation: Violation,
    told: &'a mut dyn FnMut(&Case, u64),
}

fn fails(case: &Case) -> Option<Violation> {
    run_plan(case.plan(), Options::default()).0.violation
}

/// Shrinks a case. `told` hears of each smaller one, and of how many runs were made.
///
/// # Errors
/// The case does not fail.
pub fn shrink(
    case: Case,
    effort: Effort,
    told: &mut dyn FnMut(&Case, u64),
) -> Result<Shrunk, String> {
    let (report, _) = run_plan(case.plan(), Options::default());
    let Some(violation) = report.violation else {
        return Err(format!("seed {} breaks no invariant", case.seed));
    };
    let until = Instant::now() + effort.time;
    let mut shrinking = Shrinking { effort, until, runs: 1, best: case, violation, told };
    // What comes later cannot have been the cause.
    let at = report.violated_at;
    let mut before = shrinking.best.clone();
    before.schedule.retain(|due| due.at <= at);
    shrinking.take_first(vec![before]);
    loop {
        let size = size(&shrinking.best);
        shrinking.schedule();
        shrinking.hosts();
        shrinking.clients();
        shrinking.chances();
        if size == self::size(&shrinking.best) || shrinking.is_over() {
            break;
        }
    }
    let stopped = shrinking.is_over();
    let Shrinking { best, violation, runs, .. } = shrinking;
    Ok(Shrunk { case: best, violation, runs, stopped })
}

/// What is left, each kind by itself.
fn size(case: &Case) -> [usize; 5] {
    let left_out = [&case.without_hosts, &case.without_clients, &case.without_apps];
    let [hosts, clients, apps] = left_out.map(BTreeSet::len);
    [case.schedule.len(), hosts, clients, apps, case.without.len()]
}

impl Shrinking<'_> {
    fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    /// Takes the first of these that breaks the same invariant.
    fn take_first(&mut self, candidates: Vec<Case>) -> bool {
        for some in candidates.chunks(self.effort.jobs.get()) {
            if self.is_over() {
                return false;
            }
            self.runs += some.len() as u64;
            let found: Vec<Option<Violation>> = std::thread::scope(|scope| {
                let runs: Vec<_> = some.iter().map(|case| scope.spawn(|| fails(case))).collect();
                runs.into_iter().map(|run| run.join().unwrap_or_default()).collect()
            });
            let same = |(place, found): (usize, Option<Violation>)| {
                found.filter(|f| f.invariant == self.violation.invariant).map(|f| (place, f))
            };
            if let Some((place, violation)) = found.into_iter().enumerate().find_map(same) {
                self.best = some[place].clone();
                self.violation = violation;
                (self.told)(&self.best, self.runs);
                return true;
            }
        }
        false
    }

    /// *ddmin*: leaves out ever smaller parts.
    fn schedule(&mut self) {
        let mut parts = 2;
        while self.best.schedule.len() > 1 && !self.is_over() {
            let len = self.best.schedule.len();
            let size = len.div_ceil(parts);
            let without = |from: usize| {
                let mut case = self.best.clone();
                case.schedule.drain(from..(from + size).min(len));
                case
            };
            let candidates = (0..len).step_by(size).map(without).collect();
            if self.take_first(candidates) {
                parts = (parts - 1).max(2);
            } else if size == 1 {
                break;
            } else {
                parts = (parts * 2).min(len);
            }
        }
        if self.best.schedule.len() == 1 {
            self.take_first(vec![Case { schedule: Vec::new(), ..self.best.clone() }]);
        }
    }

    /// Leaves out one after the other, for as long as any can be.
    fn each<T>(&mut self, all: &[T], leave_out: impl Fn(&mut Case, &T) -> bool) {
        loop {
            let candidates = all.iter().filter_map(|one| {
                let mut case = self.best.clone();
                leave_out(&mut case, one).then_some(case)
            });
            let candidates: Vec<Case> = candidates.collect();
            if !self.take_first(candidates) {
                return;
            }
        }
    }

    fn hosts(&mut self) {
        let plan = self.best.plan();
        let places: Vec<usize> = plan.starting().map(|host| host.place).collect();
        self.each(&places, |case, place| case.without_hosts.insert(*place));
    }

    fn clients(&mut self) {
        let plan = self.best.profile.plan(self.best.seed);
        let (clients, apps) = (plan.clients().len(), plan.apps().len());
        let mut none = self.best.clone();
        none.without_clients.extend(0..clients);
        none.without_apps.extend(0..apps);
        if size(&none) == size(&self.best) || self.take_first(vec![none]) {
            return;
        }
        let places: Vec<usize> = (0..apps).collect();
        self.each(&places, |case, place| case.without_apps.insert(*place));
        let places: Vec<usize> = (0..clients).collect();
        self.each(&places, |case, place| case.without_clients.insert(*place));
    }

    fn chances(&mut self) {
        let names = CHANCES.map(|(name, _)| name);
        let mut none = self.best.clone();
        none.without.extend(names.map(str::to_owned));
        if size(&none) == size(&self.best) || self.take_first(vec![none]) {
            return;
        }
        self.each(&names, |case, name| case.without.insert((*name).to_owned()));
    }
}

/// The case as a test in Rust that fails for as long as the invariant is broken.
#[must_use]
pub fn as_test(case: &Case, violation: &Violation) -> String {
    let invariant = violation.invariant.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    format!(
        "/// {}\n#[test]\nfn seed_{}_{invariant}() {{\n    let case = r#\"{}\"#;\n    let case = \
         quorate_sim::plan::Case::parse(case).expect(\"a case of this version\");\n    let \
         (report, _) = quorate_sim::run_plan(case.plan(), quorate_sim::Options::default());\n    \
         assert!(report.is_clean(), \"{{:?}}\", report.violation);\n}}\n",
        violation.to_string().replace('\n', " "),
        case.seed,
        case.to_json()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Profile;

    const EFFORT: Effort =
        Effort { jobs: NonZeroUsize::new(2).expect("not zero"), time: Duration::from_secs(60) };

    #[test]
    fn a_run_that_does_not_fail_is_not_shrunk() {
        let said = shrink(Case::of(3, Profile::Swarm), EFFORT, &mut |_, _| {}).unwrap_err();
        assert!(said.contains("seed 3"), "{said}");
    }

    #[test]
    fn a_test_that_is_printed_holds_the_case() {
        let case = Case { schedule: Vec::new(), ..Case::of(3, Profile::Crash) };
        let text = as_test(&case, &Violation::new("two-leaders", "in\nterm 3"));
        assert!(text.starts_with("/// two-leaders: in term 3\n#[test]\nfn seed_3_two_leaders() {"));
        let json = text.split("r#\"").nth(1).and_then(|rest| rest.split("\"#").next());
        let read = Case::parse(json.expect("it holds one")).expect("it is one");
        assert_eq!((read.seed, read.profile), (3, Profile::Crash));
    }
}
