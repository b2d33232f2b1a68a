//! Histories of registers, as clients saw them: each must be linearizable.
//!
//! This knows nothing of logs and positions; it is a second judge beside the one that goes by them
//! (`workloads`). The search is that of Wing, Gong and Lowe, by `todc-utils`. Its cost grows with what is
//! open at one time, so a history is short: then clients go on with another register. What may have been
//! done or not stays open to the end, where it does no harm if it never was.

use std::collections::BTreeMap;

use quorate_core::{ClusterId, LogId};
use todc_utils::linearizability::WGLChecker;
use todc_utils::linearizability::history::{Action, History};
use todc_utils::specifications::Specification;

use crate::outcome::Violation;

/// So many requests of one register may be of unknown outcome, or under way.
const OPEN_MAX: usize = 6;

/// What was asked of a register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Did {
    /// To read it.
    Read,
    /// To set it.
    Set(i64),
    /// To set it to the second if it holds the first.
    Swap(i64, i64),
}

/// What came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It is done; of a swap nothing is said but that it ran.
    Done,
    /// It held this.
    Held(Option<i64>),
    /// Whether it was changed.
    Swapped(bool),
    /// It was not done, for certain.
    Nothing,
    /// It may be done or not.
    Unknown,
}

/// A shard.
type Of = (ClusterId, LogId);

#[derive(Clone, Debug)]
struct Call {
    by: usize,
    did: Did,
    began: u64,
    ended: Option<(u64, Outcome)>,
}

#[derive(Clone, Debug, Default)]
struct Register {
    calls: Vec<Call>,
    /// Who has answered.
    of: Vec<Of>,
}

/// The histories of all registers.
#[derive(Clone, Debug, Default)]
pub struct Histories {
    registers: BTreeMap<i64, Register>,
    /// Orders what happens.
    last: u64,
}

/// A request with its outcome, as the search takes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Read(Option<i64>),
    Set(i64),
    /// What it found, what it set; whether it did; `None`: nobody said.
    Swap(i64, i64, Option<bool>),
}

struct Cell;

impl Specification for Cell {
    type State = Option<i64>;
    type Operation = Step;

    fn init() -> Self::State {
        None
    }

    fn apply(step: &Step, held: &Self::State) -> (bool, Self::State) {
        match *step {
            Step::Read(value) => (value == *held, *held),
            Step::Set(value) => (true, Some(value)),
            Step::Swap(old, new, told) => {
                let fits = *held == Some(old);
                let after = if fits { Some(new) } else { *held };
                (told.is_none_or(|told| told == fits), after)
            }
        }
    }
}

impl Register {
    fn open(&self) -> usize {
        let open = |call: &&Call| matches!(call.ended, None | Some((_, Outcome::Unknown)));
        self.calls.iter().filter(open).count()
    }

    /// As the search takes it: what is open ends behind everything else.
    fn actions(&self) -> Vec<(usize, Action<Step>)> {
        let mut timed = Vec::new();
        for (process, call) in self.calls.iter().enumerate() {
            let (ended, outcome) = call.ended.unwrap_or((u64::MAX, Outcome::Unknown));
            let (ended, step) = match (call.did, outcome) {
                (_, Outcome::Nothing) | (Did::Read, Outcome::Unknown) => continue,
                (Did::Read, Outcome::Held(value)) => (ended, Step::Read(value)),
                (Did::Set(value), Outcome::Unknown) => (u64::MAX, Step::Set(value)),
                (Did::Set(value), _) => (ended, Step::Set(value)),
                (Did::Swap(old, new), Outcome::Swapped(done)) => {
                    (ended, Step::Swap(old, new, Some(done)))
                }
                (Did::Swap(old, new), Outcome::Unknown) => (u64::MAX, Step::Swap(old, new, None)),
                (Did::Swap(old, new), _) => (ended, Step::Swap(old, new, None)),
                (Did::Read, _) => continue,
            };
            timed.push((call.began, process, Action::Call(step)));
            timed.push((ended, process, Action::Response(step)));
        }
        timed.sort_by_key(|(at, process, _)| (*at, *process));
        timed.into_iter().map(|(_, process, action)| (process, action)).collect()
    }

    fn is_linearizable(&self) -> bool {
        let actions = self.actions();
        actions.is_empty() || WGLChecker::<Cell>::is_linearizable(History::from_actions(actions))
    }
}

impl Histories {
    /// Whether the next request is better asked of another register.
    #[must_use]
    pub fn is_full(&self, key: i64, most: usize) -> bool {
        let register = self.registers.get(&key);
        register.is_some_and(|held| held.calls.len() >= most || held.open() >= OPEN_MAX)
    }

    /// A client asks for something; under which number.
    pub fn begins(&mut self, key: i64, by: usize, did: Did) -> u64 {
        self.last += 1;
        let register = self.registers.entry(key).or_default();
        register.calls.push(Call { by, did, began: self.last, ended: None });
        register.calls.len() as u64 - 1
    }

    /// It is told what came of it, by a shard.
    pub fn ends(&mut self, key: i64, number: u64, outcome: Outcome, of: Option<Of>) {
        self.last += 1;
        let Some(register) = self.registers.get_mut(&key) else { return };
        let place = usize::try_from(number).unwrap_or(usize::MAX);
        if let Some(call) = register.calls.get_mut(place) {
            call.ended = Some((self.last, outcome));
        }
        let told = !matches!(outcome, Outcome::Nothing | Outcome::Unknown);
        if let Some(of) = of.filter(|of| told && !register.of.contains(of)) {
            register.of.push(of);
        }
    }

    /// Judges all of them but those that lay in several shards of one name, and in shards whose content
    /// was replaced. How many were judged, and how many were not.
    ///
    /// # Errors
    /// `not-linearizable`.
    pub fn judge(&self, replaced: impl Fn(Of) -> bool) -> Result<(u64, u64), Violation> {
        let (mut judged, mut skipped) = (0, 0);
        for (key, register) in &self.registers {
            if register.of.len() > 1 || register.of.iter().any(|of| replaced(*of)) {
                skipped += 1;
                continue;
            }
            judged += 1;
            if !register.is_linearizable() {
                let call = |call: &Call| {
                    let Call { by, did, began, ended } = call;
                    let ended =
                        ended.map_or("..".to_owned(), |(at, what)| format!("{at} {what:?}"));
                    format!("client {by} {did:?} {began}-{ended}")
                };
                let calls: Vec<String> = register.calls.iter().map(call).collect();
                let detail = format!("register {key}: {}", calls.join("; "));
                return Err(Violation::new("not-linearizable", detail));
            }
        }
        Ok((judged, skipped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Requests one after the other, unless one is left open.
    fn verdict(steps: &[(Did, Option<Outcome>)]) -> bool {
        let mut histories = Histories::default();
        for (did, outcome) in steps {
            let number = histories.begins(1, 0, *did);
            if let Some(outcome) = outcome {
                histories.ends(1, number, *outcome, None);
            }
        }
        histories.judge(|_| false).is_ok()
    }

    #[test]
    fn who_reads_what_was_replaced_before_is_found() {
        let set = |value| (Did::Set(value), Some(Outcome::Done));
        let held = |value| (Did::Read, Some(Outcome::Held(value)));
        assert!(verdict(&[held(None), set(1), held(Some(1)), set(2), held(Some(2))]));
        assert!(!verdict(&[set(1), set(2), held(Some(1))]));
        assert!(!verdict(&[set(1), held(None)]));
    }

    #[test]
    fn what_is_not_known_may_be_done_at_any_time_or_never_but_once() {
        let set = (Did::Set(1), Some(Outcome::Done));
        let held = |value| (Did::Read, Some(Outcome::Held(value)));
        for unknown in [Some(Outcome::Unknown), None] {
            let unknown = (Did::Set(2), unknown);
            assert!(verdict(&[unknown, set, held(Some(1)), held(Some(2)), held(Some(2))]));
            assert!(verdict(&[unknown, set, held(Some(1))]));
            assert!(!verdict(&[unknown, set, held(Some(2)), held(Some(1))]));
        }
    }

    #[test]
    fn what_was_certainly_not_done_is_never_read() {
        let not = (Did::Set(2), Some(Outcome::Nothing));
        let held = |value| (Did::Read, Some(Outcome::Held(value)));
        assert!(verdict(&[not, held(None)]));
        assert!(!verdict(&[not, held(Some(2))]));
    }

    #[test]
    fn a_comparison_is_done_if_and_only_if_it_holds() {
        let set = |value| (Did::Set(value), Some(Outcome::Done));
        let swap = |old, new, done| (Did::Swap(old, new), Some(Outcome::Swapped(done)));
        let held = |value| (Did::Read, Some(Outcome::Held(Some(value))));
        assert!(verdict(&[set(1), swap(1, 2, true), swap(1, 3, false), held(2)]));
        assert!(!verdict(&[set(1), swap(1, 2, true), swap(1, 3, true)]));
        assert!(!verdict(&[set(1), swap(1, 2, false)]));
        let unknown = (Did::Swap(1, 2), Some(Outcome::Unknown));
        assert!(verdict(&[unknown, set(1), held(1), held(2)]));
        assert!(!verdict(&[unknown, set(3), held(2)]));
    }

    #[test]
    fn a_register_takes_no_more_once_much_is_open() {
        let mut histories = Histories::default();
        for value in 0..6 {
            assert!(!histories.is_full(1, 40));
            let number = histories.begins(1, 0, Did::Set(value));
            histories.ends(1, number, Outcome::Unknown, None);
        }
        assert!(histories.is_full(1, 40));
    }
}
