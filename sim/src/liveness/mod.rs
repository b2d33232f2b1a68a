//! Once faults stop, everything converges, or there is a reason that has a name.
//!
//! The nodes that could talk to each other (same group, password and encryption settings) must
//! become one cluster: one coordinator, one configuration that lists exactly who belongs, voters
//! that are its masters, nothing half done. What cannot be is judged from the disks, not from what
//! the nodes say of themselves.

mod health;
pub(crate) mod quorate;
mod shards;
mod split;

use std::collections::{BTreeMap, BTreeSet};

use quorate_core::configuration::{Absorption, Rejection};
use quorate_core::{ClusterId, NodeId, Status};

use crate::disk::Directory;
use crate::hash::mix;
use crate::plan::Credentials;
use crate::world::{Probe, World};

/// Named reasons, and how many nodes each holds back.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    reasons: BTreeMap<String, u32>,
}

impl Tally {
    pub(crate) fn add(&mut self, reason: &str) {
        *self.reasons.entry(reason.to_owned()).or_insert(0) += 1;
    }

    /// By name.
    #[must_use]
    pub fn into_reasons(self) -> BTreeMap<String, u32> {
        self.reasons
    }
}

/// What the world looks like.
#[derive(Debug, Default)]
pub struct Assessment {
    /// What is wrong without a good reason.
    pub unnamed: Vec<String>,
    /// Good reasons.
    pub tally: Tally,
    /// What is still wrong once all have taken a write, without a good reason.
    pub after_writes: Vec<String>,
    /// Who must take a write, into which shard.
    pub probes: Vec<Probe>,
    /// Stands for who leads and what is in force: a world that has settled keeps it.
    pub hash: u64,
}

/// A node that runs.
#[derive(Debug)]
pub(crate) struct Living<'a> {
    pub(crate) host: usize,
    pub(crate) id: NodeId,
    pub(crate) status: Status,
    pub(crate) leads: bool,
    pub(crate) directory: &'a Directory,
}

/// Looks at the whole world.
#[must_use]
pub fn assess(world: &World) -> Assessment {
    let mut all = Assessment::default();
    let mut classes: BTreeMap<Credentials, Vec<Living<'_>>> = BTreeMap::new();
    for (host, node) in world.running() {
        let held = &world.hosts[host];
        let Some(dir) = held.dir else { continue };
        let status = node.status(held.clock.local(world.now));
        let leads = node.configuration_log().is_some_and(|raft| raft.is_leader());
        let directory = world.disks.get(dir);
        let living = Living { host, id: node.id(), status, leads, directory };
        classes.entry(held.plan.credentials).or_default().push(living);
    }
    for host in &world.hosts {
        if let Some(reason) = host.ended {
            all.tally.add(reason);
        }
        let waits = host.ended.is_none() && !host.is_up();
        if waits && (host.plan.start_at.is_some() || host.dir.is_some()) {
            all.unnamed.push(format!("host {} is down", host.plan.place));
        }
    }
    if classes.len() > 1 {
        all.tally.add("unlike-credentials");
    }
    let strangers = classes.len() > 1;
    for living in classes.into_values() {
        let (stale, living): (Vec<_>, Vec<_>) =
            living.into_iter().partition(|l| l.directory.gone.is_some());
        // One that nobody has found out passes for a member: whoever looks for a cluster waits for
        // its cluster, and founds none beside it. It hides the one whose copy it is from whoever met
        // it first.
        let hides = |old: &Living<'_>| living.iter().any(|l| l.leads && l.id == old.id);
        let alone = living.iter().all(|l| l.status.cluster.is_none());
        let awaits_old =
            stale.iter().any(|old| old.status.cluster.is_some() && (alone || hides(old)));
        old_copies(stale, &living, &mut all);
        class(world, &living, strangers, awaits_old, &mut all);
    }
    all
}

/// Nodes on old copies of disks: every peer that they meet sends them away. Two copies of one
/// directory cannot tell each other from themselves.
fn old_copies(stale: Vec<Living<'_>>, living: &[Living<'_>], all: &mut Assessment) {
    for old in stale {
        let knows = &old.directory.durable.identity;
        let peer = |l: &Living<'_>| {
            let remembered = l.directory.remembers(old.id);
            // One that waits for the others of its cluster does not go to those of another.
            let waits = old.status.cluster.is_some() && old.status.no_quorum.is_some();
            let meets = !waits || old.status.cluster == l.status.cluster;
            meets && l.id != old.id && remembered.is_some_and(|start| !knows.knows_start(start))
        };
        if living.iter().any(peer) {
            all.unnamed.push(format!("host {} runs on an old disk and nobody minds", old.host));
        } else {
            all.tally.add("stale-unfound");
        }
    }
}

/// The nodes that could all talk to each other.
fn class(
    world: &World,
    living: &[Living<'_>],
    strangers: bool,
    awaits_old: bool,
    all: &mut Assessment,
) {
    let clusters: BTreeSet<ClusterId> = living.iter().filter_map(|l| l.status.cluster).collect();
    let of = |cluster| living.iter().filter(move |l| l.status.cluster == Some(cluster));
    let (alive, lost): (Vec<ClusterId>, Vec<ClusterId>) = clusters
        .iter()
        .partition(|cluster| quorate::can_decide(&of(**cluster).collect::<Vec<_>>()));
    for cluster in &lost {
        let members: Vec<&Living<'_>> = of(*cluster).collect();
        let ended = quorate::has_dissolved(world, *cluster);
        for member in &members {
            match ended {
                Some(into) if alive.contains(&into) => {
                    straggler(world, member, into, &alive, all);
                }
                _ => all.tally.add("quorum-lost"),
            }
        }
        // One that was let in and has received nothing yet knows of no voters.
        let knows = |m: &&&Living<'_>| m.directory.written_log.membership().is_some();
        let silent = members.iter().filter(knows).all(|m| m.status.no_quorum.is_none());
        if ended.is_none() && silent && members.iter().any(|m| knows(&m)) {
            all.unnamed.push(format!("{cluster:?} has no quorum and nobody says so"));
        }
    }
    if alive.len() > 1 {
        split::check(world, &alive, living, all);
    }
    for cluster in &alive {
        let members: Vec<&Living<'_>> = of(*cluster).collect();
        health::check(world, *cluster, &members, living, all);
    }
    for seeker in living.iter().filter(|l| l.status.cluster.is_none()) {
        // Who is refused by all others goes on trying, and does not found a cluster of its own.
        if strangers && clusters.is_empty() && !seeker.status.refused.is_empty() {
            all.tally.add("wrong-password");
            continue;
        }
        if awaits_old {
            all.tally.add("stale-unfound");
            continue;
        }
        homeless(seeker, living, !lost.is_empty() && alive.is_empty(), all);
    }
    for member in living {
        all.hash = mix(all.hash, u64::from(member.leads) + 2 * member.status.term.0);
        let version = member.status.configuration.as_ref().map_or(0, |c| c.version.0);
        all.hash = mix(all.hash, version);
    }
}

/// A member that is left of a cluster which has dissolved: it follows as soon as anyone can tell it,
/// unless it might hold databases.
fn straggler(
    world: &World,
    member: &Living<'_>,
    into: ClusterId,
    alive: &[ClusterId],
    all: &mut Assessment,
) {
    let Some(cluster) = member.status.cluster else { return };
    // Nobody of it has ever joined another cluster: that it has dissolved is known to no one.
    let told = alive.iter().any(|other| {
        let document = world.checks.known(*other).and_then(|l| l.document());
        document.is_some_and(|held| held.absorbed.get(&cluster) == Some(&Absorption::Done))
    });
    let holds = member.status.configuration.as_ref().is_some_and(|held| !held.databases.is_empty());
    if !told {
        all.tally.add("dissolved-unheard");
    } else if holds {
        all.tally.add("keeps-its-databases");
    } else {
        all.unnamed.push(format!(
            "host {} is still in {cluster:?}, which has dissolved into {into:?}",
            member.host
        ));
    }
}

/// A node without a cluster: there must be a reason.
fn homeless(seeker: &Living<'_>, living: &[Living<'_>], all_lost: bool, all: &mut Assessment) {
    let brings = seeker.directory.durable.identity.brings.is_some();
    let unknown = matches!(seeker.status.join_refused, Some(Rejection::NotReserved { .. }));
    if is_namesake(seeker, living) {
        all.tally.add("duplicate-name");
    } else if brings && (unknown || living.iter().all(|l| l.status.cluster.is_none())) {
        // Nobody is left who keeps the names for it: an operator has to say what it is to be.
        all.tally.add("brings-to-nobody");
    } else if all_lost {
        all.tally.add("quorum-lost");
    } else {
        let (state, refused) = (seeker.status.state, &seeker.status.join_refused);
        let host = seeker.host;
        all.unnamed.push(format!("host {host} is in no cluster: {state}, refused {refused:?}"));
    }
}

/// Whether a node is kept out because another bears its name, and it says so.
pub(crate) fn is_namesake(seeker: &Living<'_>, living: &[Living<'_>]) -> bool {
    let refused = matches!(seeker.status.join_refused, Some(Rejection::DuplicateName { .. }));
    refused && living.iter().any(|l| l.id != seeker.id && l.status.name == seeker.status.name)
}
