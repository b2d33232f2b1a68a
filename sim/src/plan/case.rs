//! A run as a file: a seed, what of its plan is left out, and its faults and orders as a list. It can be
//! saved, edited, replayed and shrunk.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Due, Plan, Profile, schedule};

/// A run that need not be all of what its seed draws. What a seed means may change with every version of
/// the simulator, so a case is one of the commit that made it, or of those that change nothing of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Whatever is not said otherwise is drawn from it.
    pub seed: u64,
    /// What its faults are about.
    #[serde(default)]
    pub profile: Profile,
    /// Hosts, by place, that never start.
    #[serde(default)]
    pub without_hosts: BTreeSet<usize>,
    /// Clients, by place, that ask for nothing.
    #[serde(default)]
    pub without_clients: BTreeSet<usize>,
    /// Clients that fail over, by place, that are not there.
    #[serde(default)]
    pub without_apps: BTreeSet<usize>,
    /// What is not to happen by chance: some of [`CHANCES`].
    #[serde(default)]
    pub without: BTreeSet<String>,
    /// Faults and orders.
    pub schedule: Vec<Due>,
}

/// The name of something that happens by chance, and what switches it off.
pub type Chance = (&'static str, fn(&mut Plan));

/// What happens by chance in a run, beside its schedule.
pub const CHANCES: [Chance; 13] = [
    ("loss", |plan| plan.network.loss_ppm = 0),
    ("doubles", |plan| plan.network.double_ppm = 0),
    ("reordering", |plan| plan.network.reorder_ppm = 0),
    ("mangling", |plan| plan.network.mangle_ppm = 0),
    ("replays", |plan| plan.network.replay_ppm = 0),
    ("retransmissions", |plan| plan.network.retransmit_ppm = 0),
    ("failed-dials", |plan| plan.network.dial_fail_ppm = 0),
    ("disk-hiccups", |plan| plan.disks.hiccup_ppm = 0),
    ("sudden-deaths", |plan| plan.disks.die_ppm = 0),
    ("clock-drift", |plan| plan.clocks.drift_ppm = 0),
    ("engine-faults", |plan| {
        if let Some(databases) = &mut plan.databases {
            (databases.hiccup_ppm, databases.fail_ppm) = (0, 0);
        }
    }),
    ("client-faults", |plan| {
        if let Some(failover) = &mut plan.failover {
            failover.fault_every_ms = 0;
        }
    }),
    ("client-links", |plan| {
        if let Some(failover) = &mut plan.failover {
            (failover.reset_ppm, failover.late_ppm, failover.after_close_ppm) = (0, 0, 0);
        }
    }),
];

/// Switches off one of [`CHANCES`].
pub(super) fn calm(plan: &mut Plan, name: &str) {
    let chance = CHANCES.iter().find(|(known, _)| *known == name);
    chance.into_iter().for_each(|(_, off)| off(plan));
}

impl Case {
    /// All of what a seed draws.
    #[must_use]
    pub fn of(seed: u64, profile: Profile) -> Self {
        Self {
            seed,
            profile,
            without_hosts: BTreeSet::new(),
            without_clients: BTreeSet::new(),
            without_apps: BTreeSet::new(),
            without: BTreeSet::new(),
            schedule: schedule(&profile.plan(seed)),
        }
    }

    /// Reads one.
    ///
    /// # Errors
    /// In words: it is no case, or names what its seed does not have.
    pub fn parse(text: &str) -> Result<Self, String> {
        let case: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let plan = case.profile.plan(case.seed);
        let places = [
            ("without_hosts", &case.without_hosts, plan.hosts.len()),
            ("without_clients", &case.without_clients, plan.clients().len()),
            ("without_apps", &case.without_apps, plan.apps().len()),
        ];
        for (field, named, there) in places {
            if let Some(place) = named.iter().find(|place| **place >= there) {
                return Err(format!("{field} names {place}; seed {} has {there}", case.seed));
            }
        }
        for name in &case.without {
            if !CHANCES.iter().any(|(known, _)| known == name) {
                let known: Vec<&str> = CHANCES.iter().map(|(name, _)| *name).collect();
                return Err(format!("nothing is called '{name}'; there are {}", known.join(", ")));
            }
        }
        let host = case
            .schedule
            .iter()
            .find_map(|due| due.action.last_host().filter(|host| *host >= plan.hosts.len()));
        match host {
            Some(host) => Err(format!(
                "the schedule names host {host}; seed {} has {}",
                case.seed,
                plan.hosts.len()
            )),
            None => Ok(case),
        }
    }

    /// As text that [`Case::parse`] reads, an entry of the schedule a line.
    #[must_use]
    pub fn to_json(&self) -> String {
        let line = |due: &Due| serde_json::to_string(due).unwrap_or_default();
        let lines: Vec<String> = self.schedule.iter().map(line).collect();
        let head = Self { schedule: Vec::new(), ..self.clone() };
        let head = serde_json::to_string(&head).unwrap_or_default();
        let head = head.strip_suffix("[]}").unwrap_or(&head);
        let gap = if lines.is_empty() { "" } else { "\n" };
        format!("{head}[{gap}{}{gap}]}}", lines.join(",\n"))
    }

    /// What is to be run.
    #[must_use]
    pub fn plan(&self) -> Plan {
        let mut plan = self.profile.plan(self.seed);
        for host in plan.hosts.iter_mut().filter(|host| self.without_hosts.contains(&host.place)) {
            host.start_at = None;
        }
        if let Some(databases) = &mut plan.databases {
            databases.loners.retain(|loner| !self.without_hosts.contains(&loner.host));
        }
        if let Some(failover) = &mut plan.failover {
            let mut places = 0..;
            let without = &self.without_apps;
            failover.apps.retain(|_| places.next().is_some_and(|place| !without.contains(&place)));
        }
        plan.failover = plan.failover.filter(|failover| !failover.apps.is_empty());
        self.without.iter().for_each(|name| calm(&mut plan, name));
        plan.idle_clients.clone_from(&self.without_clients);
        plan.schedule = Some(self.schedule.clone());
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, run, run_plan};

    #[test]
    fn a_case_that_was_saved_is_the_same_run() {
        for seed in [3, 17, 40] {
            let case = Case::of(seed, Profile::Swarm);
            let read = Case::parse(&case.to_json()).expect("its own text");
            let (as_drawn, _) = run(seed, Options::default());
            let (as_read, _) = run_plan(read.plan(), Options::default());
            assert_eq!((as_drawn.hash, as_drawn.events), (as_read.hash, as_read.events), "{seed}");
        }
    }

    #[test]
    fn what_a_case_names_must_be_there() {
        let case = Case { schedule: Vec::new(), ..Case::of(3, Profile::Crash) };
        let with = |change: fn(&mut Case)| {
            let mut case = case.clone();
            change(&mut case);
            Case::parse(&case.to_json()).map(|_| ()).unwrap_err()
        };
        assert!(with(|case| case.without_hosts.extend([99])).contains("without_hosts names 99"));
        let unknown = with(|case| case.without.extend(["los".to_owned()]));
        assert!(unknown.contains("'los'") && unknown.contains("loss"), "{unknown}");
        let far = with(|case| {
            let action = crate::plan::Action::Pause { host: 77, lasts: 1 };
            case.schedule.push(Due { at: 1, action });
        });
        assert!(far.contains("host 77"), "{far}");
        assert!(Case::parse(&case.to_json()).is_ok());
        assert!(Case::parse("{\"seed\":3}").is_err_and(|said| said.contains("schedule")));
    }
}
