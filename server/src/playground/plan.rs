//! What is done to the nodes: by keys, or as a script says.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The longest wait of a script, in seconds.
const SECONDS_MAX: f64 = 3_600.0;
/// Steps of a script.
const STEPS_MAX: usize = 10_000;

/// One thing to do. Nodes are numbered from 0 here, and from 1 where a person reads them.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Step {
    /// `kill -9`.
    Kill(usize),
    /// In good order: it leaves the cluster.
    Stop(usize),
    /// It was killed or stopped, and comes back with the same directory.
    Start(usize),
    /// `SIGSTOP`; goes on by itself after so long, if that is said.
    Freeze(usize, Option<Duration>),
    /// `SIGCONT`.
    Thaw(usize),
    /// Look on.
    Wait(Duration),
    /// The end.
    Quit,
}

impl Step {
    /// Which node.
    pub(super) fn node(self) -> Option<usize> {
        match self {
            Self::Kill(at) | Self::Stop(at) | Self::Start(at) | Self::Freeze(at, _) => Some(at),
            Self::Thaw(at) => Some(at),
            Self::Wait(_) | Self::Quit => None,
        }
    }
}

/// A script.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Plan(pub(super) Vec<Step>);

impl Plan {
    /// The highest number of a node in it, from 1.
    pub(super) fn highest(&self) -> usize {
        self.0.iter().filter_map(|step| step.node()).map(|at| at + 1).max().unwrap_or(0)
    }
}

/// What is wrong with a script.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Wrong(String);

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}; write kill N, stop N, start N, freeze N [SECONDS], thaw N, wait SECONDS or quit, with ; \
             between them",
            self.0
        )
    }
}

impl std::error::Error for Wrong {}

impl FromStr for Plan {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        let pieces = text.split([';', '\n']).map(str::trim).filter(|piece| !piece.is_empty());
        let steps = pieces.map(step).collect::<Result<Vec<_>, _>>()?;
        match steps.len() {
            0 => Err(Wrong("there is nothing in it".to_owned())),
            1..=STEPS_MAX => Ok(Self(steps)),
            _ => Err(Wrong(format!("it has more than {STEPS_MAX} steps"))),
        }
    }
}

fn step(text: &str) -> Result<Step, Wrong> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let (what, rest) = (words[0], &words[1..]);
    let step = match (what, rest) {
        ("kill", [node]) => Step::Kill(number(node)?),
        ("stop", [node]) => Step::Stop(number(node)?),
        ("start" | "restart", [node]) => Step::Start(number(node)?),
        ("freeze", [node]) => Step::Freeze(number(node)?, None),
        ("freeze", [node, span]) => Step::Freeze(number(node)?, Some(seconds(span)?)),
        ("thaw", [node]) => Step::Thaw(number(node)?),
        ("wait", [span]) => Step::Wait(seconds(span)?),
        ("quit", []) => Step::Quit,
        _ => return Err(Wrong(format!("'{text}' is nothing that can be done"))),
    };
    Ok(step)
}

fn number(text: &str) -> Result<usize, Wrong> {
    let number = text.trim_start_matches('n').parse::<usize>().ok();
    let at = number.filter(|number| (1..=9).contains(number)).map(|number| number - 1);
    at.ok_or_else(|| Wrong(format!("'{text}' is no node: they are 1, 2, 3 …")))
}

fn seconds(text: &str) -> Result<Duration, Wrong> {
    let wrong = || Wrong(format!("'{text}' is no number of seconds, an hour at most"));
    let seconds = text.trim_end_matches('s').parse::<f64>().map_err(|_| wrong())?;
    let fits = (0.0..=SECONDS_MAX).contains(&seconds);
    fits.then(|| Duration::from_secs_f64(seconds)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_says_what_is_done_one_after_the_other() {
        let plan: Plan =
            "kill 2; wait 0.5; start n2\nfreeze 1 4;thaw 1 ; stop 3; quit;".parse().unwrap();
        let expected = [
            Step::Kill(1),
            Step::Wait(Duration::from_millis(500)),
            Step::Start(1),
            Step::Freeze(0, Some(Duration::from_secs(4))),
            Step::Thaw(0),
            Step::Stop(2),
            Step::Quit,
        ];
        assert_eq!((plan.0.as_slice(), plan.highest()), (expected.as_slice(), 3));
    }

    #[test]
    fn what_is_wrong_with_a_script_is_named() {
        for wrong in [
            "", ";", "kill", "kill 0", "kill x", "wait -1", "wait NaN", "wait 1e9", "dance 1",
            "quit 1",
        ] {
            let error = wrong.parse::<Plan>().unwrap_err().to_string();
            assert!(error.contains("write kill N"), "{wrong}: {error}");
        }
        assert!("kill 0".parse::<Plan>().unwrap_err().to_string().contains("'0'"));
    }
}
