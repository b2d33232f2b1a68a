//! Which kinds of faults a campaign is about.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::case::calm;
use super::{DatabasePlan, FailoverPlan, FaultPlan, Plan, WorkloadPlan};
use crate::random::{Dice, Stream};

/// What the faults of a run are about. Whatever else a seed draws stays as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Processes that die, are killed in the midst of a write or a swap, or stand still.
    Crash,
    /// Cuts of every shape, slow links, and whatever a network does to packets.
    Partition,
    /// Disks that are lost, full, slow, damaged, put back or copied; crashes beside it.
    Disk,
    /// Servers that come, go, and change what they are; databases that do.
    Churn,
    /// Clients that go on with another server, and what keeps them from it.
    Client,
    /// Each seed draws which faults there are at all.
    #[default]
    Swarm,
}

impl Profile {
    /// All of them, with their names.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Crash, "crash"),
        (Self::Partition, "partition"),
        (Self::Disk, "disk"),
        (Self::Churn, "churn"),
        (Self::Client, "client"),
        (Self::Swarm, "swarm"),
    ];

    /// What `seed` means in it.
    #[must_use]
    pub fn plan(self, seed: u64) -> Plan {
        let mut plan = Plan::of(seed);
        let (faults, of_engines): (&[&str], &[&str]) = match self {
            Self::Swarm => return plan,
            Self::Crash => (&["pause", "long-pause", "crash", "crash-at-write", "crash-many"], &[]),
            Self::Partition => (
                &[
                    "partition",
                    "one-way",
                    "isolate",
                    "datagrams-only",
                    "streams-only",
                    "slow-links",
                    "reset",
                ],
                &[],
            ),
            Self::Disk => (
                &[
                    "crash",
                    "crash-at-write",
                    "wipe",
                    "restore",
                    "clone",
                    "disk-failure",
                    "slow-disk",
                ],
                &DatabasePlan::FAULTS,
            ),
            Self::Churn => (&["crash", "pause"], &[]),
            Self::Client => (&["isolate", "crash", "long-pause", "reset", "clock"], &[]),
        };
        only(&FaultPlan::KINDS, &mut plan.faults.weights, faults);
        let is = |profiles: &[Self]| profiles.contains(&self);
        plan.shape_every_ms = match (self, plan.shape_every_ms) {
            (Self::Partition, 0) => 5_000,
            (Self::Partition, every) => every,
            _ => 0,
        };
        plan.log_rot_every_ms = match (self, plan.log_rot_every_ms) {
            (Self::Disk, 0) => 10_000,
            (Self::Disk, every) => every,
            _ => 0,
        };
        plan.misplace_every_ms = match (self, plan.misplace_every_ms) {
            (Self::Disk, 0) => 10_000,
            (Self::Disk, every) => every,
            _ => 0,
        };
        if !is(&[Self::Churn]) {
            plan.ambush_every_ms = 0;
            plan.workload.every_ms = 0;
        } else {
            plan.workload.every_ms = plan.workload.every_ms.max(200);
            only(&WorkloadPlan::KINDS, &mut plan.workload.weights, &WorkloadPlan::KINDS);
        }
        if is(&[Self::Client]) {
            plan = if plan.databases.is_none() { plan.with_database() } else { plan };
            if let (None, Some(databases)) = (&plan.failover, &mut plan.databases) {
                let mut dice = Dice::new(seed ^ 0xc11e, Stream::Failover);
                plan.failover = Some(FailoverPlan::draw(&mut dice, databases, &plan.hosts));
            }
        }
        if let Some(databases) = &mut plan.databases {
            only(&DatabasePlan::FAULTS, &mut databases.fault_weights, of_engines);
            if !is(&[Self::Churn]) {
                databases.order_every_ms = 0;
                databases.loners.clear();
            }
            if !is(&[Self::Churn, Self::Disk]) {
                databases.restore_every_ms = 0;
            }
            if !is(&[Self::Crash, Self::Disk]) {
                databases.swap_crash_every_ms = 0;
            }
            if !is(&[Self::Churn, Self::Disk]) {
                databases.sync_every_ms = 0;
            }
        }
        let off: &[&str] = match self {
            Self::Partition => &["disk-hiccups", "sudden-deaths", "engine-faults"],
            Self::Client => &["sudden-deaths", "engine-faults"],
            Self::Swarm | Self::Crash | Self::Churn | Self::Disk => {
                &["loss", "doubles", "reordering", "mangling", "replays", "client-faults"]
            }
        };
        off.iter().for_each(|name| calm(&mut plan, name));
        plan
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(profile, _)| profile == self).map(|(_, name)| *name);
        f.write_str(name.unwrap_or_default())
    }
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.iter().find(|(_, name)| *name == text);
        known.map(|(profile, _)| *profile).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|(_, name)| *name).collect();
            format!("there is no profile '{text}'; there are {}", names.join(", "))
        })
    }
}

/// Leaves only the kinds that are named; all of them evenly, if none of them was drawn.
fn only(kinds: &[&str], weights: &mut [u32], named: &[&str]) {
    for (kind, weight) in kinds.iter().zip(weights.iter_mut()) {
        *weight = if named.contains(kind) { *weight } else { 0 };
    }
    if weights.iter().all(|weight| *weight == 0) {
        for (kind, weight) in kinds.iter().zip(weights.iter_mut()) {
            *weight = u32::from(named.contains(kind));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Action, schedule};

    #[test]
    fn a_profile_has_its_faults_in_every_world_and_no_others() {
        for seed in 0..200 {
            let of = |profile: Profile| {
                schedule(&profile.plan(seed)).into_iter().map(|due| due.action).collect::<Vec<_>>()
            };
            let apart = |action: &Action| matches!(action, Action::Cut { .. });
            assert!(of(Profile::Partition).iter().all(|action| matches!(
                action,
                Action::Cut { .. }
                    | Action::IsolateLeader { .. }
                    | Action::SlowLinks { .. }
                    | Action::Reset { .. }
                    | Action::Order { .. }
            )));
            let crash = of(Profile::Crash);
            assert!(crash.iter().skip_while(|action| apart(action)).all(|action| matches!(
                action,
                Action::Pause { .. }
                    | Action::Crash { .. }
                    | Action::Arm { .. }
                    | Action::Order { .. }
            )));
            assert!(Profile::Client.plan(seed).failover.is_some());
            assert!(Profile::Churn.plan(seed).workload.every_ms > 0);
        }
    }

    #[test]
    fn the_swarm_is_what_the_seed_draws() {
        assert_eq!(format!("{:?}", Profile::Swarm.plan(7)), format!("{:?}", Plan::of(7)));
        assert_eq!("disk".parse(), Ok(Profile::Disk));
        assert!("dsik".parse::<Profile>().is_err_and(|said| said.contains("partition")));
    }
}
