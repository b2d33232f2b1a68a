//! Searching a world to its end.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Model as _, Path};

use crate::cluster::{Cluster, Step};
use crate::laws::{Broken, Mark};
use crate::state::State;

/// How often [`search`] tells of its progress.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// How a world is searched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Search {
    /// Whether breadth first: paths to what is wrong are the shortest with one thread, but all states
    /// of a depth are kept at one time. Otherwise depth first.
    pub breadth_first: bool,
    /// How many threads.
    pub threads: NonZeroUsize,
    /// After how many generated states to give up; `None`: never.
    pub states_max: Option<NonZeroUsize>,
}

impl Default for Search {
    fn default() -> Self {
        Self { breadth_first: true, threads: NonZeroUsize::MIN, states_max: None }
    }
}

/// What a search has found.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The states that were generated, the same ones again included.
    pub generated: usize,
    /// The states.
    pub unique: usize,
    /// The most steps from the beginning to a state.
    pub depth: usize,
    /// How long it took.
    pub took: Duration,
    /// Whether that is all there is.
    pub complete: bool,
    /// The law that was broken first, and the steps to there.
    pub broken: Option<(Broken, Vec<Step>)>,
    /// What was to be reached and was not.
    pub missed: Vec<Mark>,
}

impl Outcome {
    /// Whether no law was broken and everything expected was reached.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.broken.is_none() && self.missed.is_empty()
    }
}

/// Searches a world until a law is broken or there is nothing left. `tell` hears now and then how many
/// states there were, and how many different ones.
///
/// # Panics
/// If a thread of the checker does.
#[must_use]
pub fn search(cluster: Cluster, how: Search, tell: impl FnMut(usize, usize)) -> Outcome {
    let mut checker = cluster.checker().threads(how.threads.get());
    checker = checker.finish_when(HasDiscoveries::AnyFailures);
    if let Some(states) = how.states_max {
        checker = checker.target_state_count(states.get());
    }
    if how.breadth_first {
        finish(checker.spawn_bfs(), how, tell)
    } else {
        finish(checker.spawn_dfs(), how, tell)
    }
}

fn finish(
    mut checker: impl Checker<Cluster>,
    how: Search,
    mut tell: impl FnMut(usize, usize),
) -> Outcome {
    let started = Instant::now();
    let mut told = started;
    let threads = checker.handles();
    while threads.iter().any(|thread| !thread.is_finished()) {
        std::thread::sleep(Duration::from_millis(20));
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            tell(checker.state_count(), checker.unique_state_count());
        }
    }
    let took = started.elapsed();
    for thread in threads {
        assert!(thread.join().is_ok(), "a thread of the checker has panicked");
    }
    let generated = checker.state_count();
    let mut broken: Vec<_> = checker.discoveries().into_values().filter_map(told_of).collect();
    broken.sort_by_key(|(_, steps)| steps.len());
    let broken = broken.into_iter().next();
    let stopped = how.states_max.is_some_and(|max| generated >= max.get());
    Outcome {
        generated,
        unique: checker.unique_state_count(),
        depth: checker.max_depth().saturating_sub(1),
        took,
        complete: broken.is_none() && !stopped,
        broken,
        missed: checker.model().missed(),
    }
}

/// What a path ends in, if that is broken.
fn told_of(path: Path<State, Step>) -> Option<(Broken, Vec<Step>)> {
    let broken = path.last_state().broken.as_deref().cloned()?;
    Some((broken, path.into_actions()))
}
