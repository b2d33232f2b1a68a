//! Those who wait for a rare state of a node, and strike when one has come to it.

use quorate_core::marks::{self, Mark};

use super::World;
use crate::counts::Count;
use crate::outcome::Verdict;
use crate::plan::Strike;
use crate::trace::tell;
use crate::view::{Kind, Told};

/// One who waits.
#[derive(Debug)]
pub(super) struct Ambush {
    /// For what.
    mark: Mark,
    /// How often nodes may have come to it.
    passed: u64,
    /// What is done to the next one.
    strike: Strike,
}

impl World {
    /// Somebody begins to wait for the state of that name.
    pub(super) fn lie_in_ambush(&mut self, name: &str, skip: u64, strike: Strike) {
        let known = Mark::ALL.iter().find(|(_, known)| *known == name);
        let Some((mark, _)) = known.copied() else { return };
        let passed = marks::reached(mark) + skip;
        self.ambushes.push(Ambush { mark, passed, strike });
    }

    /// An event is over: whoever sees what he has waited for strikes.
    pub(super) fn spring(&mut self) -> Verdict {
        let host = self.acting;
        let seen = |ambush: &mut Ambush| marks::reached(ambush.mark) > ambush.passed;
        let struck: Vec<Ambush> = self.ambushes.extract_if(.., seen).collect();
        for Ambush { mark, strike, .. } in struck {
            self.counts.add(Count::Ambushes);
            tell!(
                self,
                Told::at(host, Kind::Life),
                "host {host} has come to {mark:?}, where somebody waited: {strike:?}"
            );
            match strike {
                Strike::Crash { power, down } => self.kill(host, power, Some(down))?,
                Strike::Pause { lasts } => self.pause(host, lasts),
                Strike::Order { host: asked, order } => self.order(asked, order.about(host))?,
            }
        }
        Ok(())
    }
}
