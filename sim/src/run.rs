//! One seed, from its plan to its report.

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use quorate_core::marks;

use crate::hash::Fingerprint;
use crate::outcome::{Report, Violation};
use crate::plan::Plan;
use crate::trace::Trace;
use crate::world::World;

/// How a seed is run.
#[derive(Debug, Default)]
pub struct Options {
    /// What is told of it.
    pub trace: Trace,
}

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
    static QUIET: RefCell<bool> = const { RefCell::new(false) };
}

/// Panics of a run are findings: they are kept for the report instead of being printed.
fn keep_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if QUIET.with(|quiet| *quiet.borrow()) {
                PANIC.with(|kept| *kept.borrow_mut() = Some(info.to_string()));
            } else {
                usual(info);
            }
        }));
    });
}

/// Runs a world to its end. An assertion of core that fails is a violation like any other.
fn run_world(plan: Plan, print: Fingerprint, trace: Trace) -> (Report, Fingerprint, Trace) {
    keep_panics();
    let _before = marks::take();
    let mut world = World::new(plan, print, trace);
    QUIET.with(|quiet| *quiet.borrow_mut() = true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| world.run()));
    QUIET.with(|quiet| *quiet.borrow_mut() = false);
    let mut report = outcome.unwrap_or_else(|_| {
        let text = PANIC.with(|kept| kept.borrow_mut().take()).unwrap_or_default();
        Report {
            seed: world.plan.seed,
            simulated_ms: world.now / 1_000_000,
            hash: world.hash(),
            violation: Some(Violation::new("panic", text)),
            violated_at: world.now,
            ..Report::default()
        }
    });
    report.marks =
        marks::take().into_iter().map(|(mark, count)| (mark.to_owned(), count)).collect();
    let (print, trace) = world.into_parts();
    (report, print, trace)
}

/// Runs a seed once. What was kept of it comes with the report.
#[must_use]
pub fn run(seed: u64, options: Options) -> (Report, Trace) {
    run_plan(Plan::of(seed), options)
}

/// Runs a plan once.
#[must_use]
pub fn run_plan(plan: Plan, options: Options) -> (Report, Trace) {
    let (report, _, trace) = run_world(plan, Fingerprint::default(), options.trace);
    (report, trace)
}

/// Runs a seed twice: the same things must happen, event by event.
#[must_use]
pub fn run_twice(seed: u64) -> Report {
    run_plan_twice(Plan::of(seed))
}

/// Runs a plan twice: the same things must happen, event by event.
#[must_use]
pub fn run_plan_twice(plan: Plan) -> Report {
    let seed = plan.seed;
    let (first, print, _) = run_world(plan.clone(), Fingerprint::recording(), Trace::default());
    let record = print.into_record();
    let (mut second, print, _) = run_world(plan, Fingerprint::comparing(record), Trace::default());
    if let Some(event) = print.differs_at() {
        let detail = format!("two runs of seed {seed} differ first at event {event}");
        second.violation = Some(Violation::new("not-deterministic", detail));
    } else if first.hash != second.hash {
        let detail = format!("two runs of seed {seed} differ after their last event");
        second.violation = Some(Violation::new("not-deterministic", detail));
    }
    second
}
