//! The hosts of a world and what their nodes are told.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use quorate_core::configuration::{AutoRemove, Defaults, Registration, Role};

use crate::network::{MS, address};
use crate::random::{Dice, Stream};

/// What two nodes must have in common to talk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Credentials {
    /// Which group name.
    pub group: u8,
    /// Which password.
    pub password: u8,
    /// Which encryption settings.
    pub encryption: u8,
}

impl Credentials {
    /// The group name.
    #[must_use]
    pub fn group_name(self) -> String {
        format!("group-{}", self.group)
    }
}

/// One host.
#[derive(Clone, Debug)]
pub struct HostPlan {
    /// Its place.
    pub place: usize,
    /// The name its node is told to bear.
    pub name: Option<String>,
    /// When it starts first; `None`: only as the clone of another.
    pub start_at: Option<u64>,
    /// Whether it uses multicast.
    pub multicast: bool,
    /// Its member list.
    pub seeds: Vec<SocketAddr>,
    /// What it authenticates with.
    pub credentials: Credentials,
    /// Whether a node that left in good order is started again in the end.
    pub returns_after_leaving: bool,
    /// Whether a stale directory is replaced by a new one.
    pub renews_stale: bool,
}

impl HostPlan {
    /// A host with every default.
    #[must_use]
    pub fn plain(place: usize) -> Self {
        Self {
            place,
            name: Some(format!("n{place}")),
            start_at: Some(0),
            multicast: true,
            seeds: Vec::new(),
            credentials: Credentials { group: 0, password: 0, encryption: 0 },
            returns_after_leaving: true,
            renews_stale: true,
        }
    }
}

impl fmt::Display for HostPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "host {} '{}'", self.place, self.name.as_deref().unwrap_or("(by id)"))?;
        match self.start_at {
            Some(at) => write!(f, " from {} ms", at / MS)?,
            None => write!(f, " as a clone")?,
        }
        let Credentials { group, password, encryption } = self.credentials;
        write!(f, " group {group} password {password} encryption {encryption}")?;
        write!(f, " multicast {} seeds {:?}", self.multicast, self.seeds)
    }
}

/// Hosts that hold nothing until a disk is copied to them.
const SPARES: usize = 2;

/// How nodes find each other in this world.
#[derive(Clone, Copy)]
enum Finding {
    Multicast,
    List,
    Both,
    Mixed,
}

/// Sizes that are not usual: alone, a pair, and more than anybody is likely to have.
fn unusual(seed: u64) -> Option<usize> {
    let mut dice = Dice::new(seed ^ 0x512e, Stream::Plan);
    dice.one_in(12).then(|| dice.pick(&[1, 2, 2, 10, 12, 15]))
}

pub(super) fn draw(seed: u64, dice: &mut Dice) -> Vec<HostPlan> {
    let usual = usize::try_from(dice.between(3, 9)).unwrap_or(3);
    let count = unusual(seed).unwrap_or(usual);
    let finding = dice.pick(&[
        Finding::Multicast,
        Finding::Multicast,
        Finding::List,
        Finding::Both,
        Finding::Mixed,
    ]);
    let late = dice.one_in(2);
    let strangers = dice.one_in(6);
    let spread = dice.pick(&[50, 50, 500, 3_000]);
    let mut hosts = Vec::new();
    for place in 0..count {
        let mut host = HostPlan::plain(place);
        let is_late = late && place >= 2 && dice.one_in(3);
        let range = if is_late { 20_000 } else { spread };
        host.start_at = Some(dice.below(range * MS));
        // Member lists name the spare hosts too: who lists hosts lists all of them.
        let seeds = || (0..count + SPARES).map(address).collect();
        (host.multicast, host.seeds) = match finding {
            Finding::Multicast => (true, Vec::new()),
            Finding::List => (false, seeds()),
            Finding::Both => (true, seeds()),
            Finding::Mixed if place == 0 || dice.one_in(2) => (true, seeds()),
            Finding::Mixed => (true, vec![address(0)]),
        };
        if strangers && place >= 2 && dice.one_in(3) {
            let wrong = dice.index(3);
            let differs = |which| u8::from(wrong == which);
            host.credentials =
                Credentials { group: differs(0), password: differs(1), encryption: differs(2) };
        }
        host.returns_after_leaving = dice.one_in(2);
        host.renews_stale = dice.one_in(2);
        hosts.push(host);
    }
    names(dice, &mut hosts);
    spares(dice, &mut hosts);
    hosts
}

/// Mostly each has its own name; at times two are told the same, or some are named by their ids.
fn names(dice: &mut Dice, hosts: &mut [HostPlan]) {
    if dice.one_in(8) {
        let (one, other) = (dice.index(hosts.len()), dice.index(hosts.len()));
        hosts[one].name = hosts[other].name.clone();
    }
    if dice.one_in(8) {
        let place = dice.index(hosts.len());
        hosts[place].name = None;
    }
}

/// Two hosts that hold nothing until a disk is copied to them.
fn spares(dice: &mut Dice, hosts: &mut Vec<HostPlan>) {
    for _ in 0..SPARES {
        let of = dice.index(hosts.len());
        let mut spare = hosts[of].clone();
        spare.place = hosts.len();
        spare.start_at = None;
        hosts.push(spare);
    }
}

pub(super) fn defaults(dice: &mut Dice, hosts: &[HostPlan]) -> Defaults {
    let new_node_strategy =
        dice.pick(&[Registration::Static, Registration::Dynamic, Registration::Dynamic]);
    let mut roles = BTreeMap::from([("*".to_owned(), Role::Master)]);
    if dice.one_in(3) {
        for name in hosts.iter().filter_map(|host| host.name.clone()) {
            if dice.one_in(3) {
                roles.insert(name, dice.pick(&[Role::Master, Role::Replica, Role::Replica]));
            }
        }
    }
    if dice.one_in(10) {
        roles.insert("*".to_owned(), Role::Replica);
    }
    let after = AutoRemove::AfterMs(dice.between(500, 10_000));
    let auto_remove =
        dice.pick(&[AutoRemove::AtOnce, AutoRemove::AtOnce, after, AutoRemove::Never]);
    let expect = if dice.one_in(4) { u32::try_from(dice.between(2, 4)).unwrap_or(2) } else { 0 };
    Defaults { new_node_strategy, roles, auto_remove, expect }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::plan::Plan;

    #[test]
    fn worlds_are_of_one_host_to_fifteen() {
        let started = |seed| {
            let hosts = Plan::of(seed).hosts;
            hosts.iter().filter(|host| host.start_at.is_some()).count()
        };
        let sizes: BTreeSet<usize> = (0..1_000).map(started).collect();
        assert_eq!(sizes, (1..=10).chain([12, 15]).collect());
    }
}
