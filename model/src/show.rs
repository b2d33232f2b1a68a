//! Outcomes as text.

use std::fmt::Write as _;

use crate::cluster::Step;
use crate::search::Outcome;
use crate::world::World;

impl World {
    /// Within what everything happens, in words.
    #[must_use]
    pub fn bound(&self) -> String {
        let mut text = format!("{} voters", self.voters.len());
        let counted = [
            (self.learners.len(), "learner", "learners"),
            (self.budget.timeouts.into(), "election time-out", "election time-outs"),
            (self.budget.heartbeats.into(), "round of heartbeats", "rounds of heartbeats"),
            (self.budget.silences.into(), "silence", "silences"),
            (self.budget.proposals.into(), "entry", "entries"),
            (self.budget.changes.into(), "change", "changes"),
            (self.budget.transfers.into(), "hand-over", "hand-overs"),
            (self.budget.crashes.into(), "crash", "crashes"),
        ];
        for (count, one, several) in counted.into_iter().filter(|(count, ..)| *count > 0) {
            write!(text, ", {count} {}", if count == 1 { one } else { several }).ok();
        }
        let first = if self.led { "the first leads in term 2" } else { "nobody leads at first" };
        let disks = if self.slow_disks { ", slow disks" } else { "" };
        write!(text, ", terms up to {}, {first}{disks}", self.terms_max).ok();
        text
    }
}

impl Outcome {
    /// What the columns of [`Outcome::line`] are.
    pub const HEAD: &'static str =
        "world            generated       unique  depth  seconds  complete  bound";

    /// One line of a table.
    #[must_use]
    pub fn line(&self, world: &World) -> String {
        let complete = if self.complete { "yes" } else { "NO" };
        format!(
            "{:<16} {:>9} {:>12} {:>6} {:>8.1}  {complete:<8}  {}",
            world.name,
            self.generated,
            self.unique,
            self.depth,
            self.took.as_secs_f64(),
            world.bound(),
        )
    }

    /// What is wrong, in lines; nothing if nothing is.
    #[must_use]
    pub fn trouble(&self) -> String {
        let mut text = String::new();
        if let Some((broken, steps)) = &self.broken {
            let name = broken.law.name();
            writeln!(text, "BROKEN: {name}: {}", broken.what).ok();
            for (number, step) in steps.iter().enumerate() {
                writeln!(text, "{:>4}. {}", number + 1, told(step)).ok();
            }
        }
        for mark in &self.missed {
            writeln!(text, "NOT REACHED: {}", mark.name()).ok();
        }
        text
    }
}

fn told(step: &Step) -> String {
    match step {
        Step::Deliver { letter, late } => {
            let lease = if *late { ", its lease over," } else { "" };
            let (from, to, message) = (letter.from.0, letter.to.0, &letter.message);
            format!("{to}{lease} gets from {from}, term {}: {:?}", message.term, message.body)
        }
        Step::Sync(node) => format!("{}'s oldest write is durable", node.0),
        Step::Timeout(node) => format!("{} has waited long enough for a leader", node.0),
        Step::Heartbeat(node) => format!("{} sends heartbeats", node.0),
        Step::Silence(node) => format!("{} has heard of nobody for long", node.0),
        Step::GiveUpTransfer(node) => format!("{} gives up its hand-over", node.0),
        Step::Propose(node) => format!("a client proposes an entry to {}", node.0),
        Step::Change(node) => format!("{} is told to change the membership", node.0),
        Step::Transfer(node, to) => format!("{} is told to hand over to {}", node.0, to.0),
        Step::Crash(node, kept) => {
            format!("{} crashes, starts again with {kept} of its operations under way", node.0)
        }
    }
}
