//! Several clusters that can decide: each pair of them must have a reason not to become one.

use std::collections::BTreeSet;

use quorate_core::ClusterId;
use quorate_core::configuration::Configuration;

use super::{Assessment, Living};
use crate::world::World;

/// Why the clusters that can decide have not become one.
pub(super) fn check(
    world: &World,
    alive: &[ClusterId],
    living: &[Living<'_>],
    all: &mut Assessment,
) {
    let document = |cluster: &ClusterId| world.checks.known(*cluster).and_then(|l| l.document());
    let documents: Vec<&Configuration> = alive.iter().filter_map(document).collect();
    // One that has only names does not end before their holder has come, and that may never be: an
    // operator has to drop them.
    let awaits = |held: &&Configuration| held.databases.is_empty() && !held.bringing.is_empty();
    let (awaiting, documents): (Vec<_>, Vec<_>) = documents.into_iter().partition(awaits);
    let holding = documents.iter().filter(|held| !held.databases.is_empty()).count();
    if holding + awaiting.len() < alive.len() {
        all.unnamed.push(format!("clusters {alive:?} have not become one"));
        return;
    }
    for held in awaiting.iter().chain(&documents) {
        let of_it = || living.iter().filter(|l| l.status.cluster == Some(held.cluster));
        if of_it().all(|member| member.status.split_with.is_empty()) {
            all.unnamed.push(format!("nobody in {:?} sees the split", held.cluster));
        }
    }
    if !awaiting.is_empty() {
        all.tally.add("split-awaits-what-is-brought");
        if documents.len() < 2 {
            return;
        }
    }
    all.tally.add("split-with-databases");
    let lone: Vec<&&Configuration> = documents.iter().filter(|d| d.servers.len() == 1).collect();
    for brings in lone {
        let others = documents.iter().filter(|other| other.cluster != brings.cluster);
        if !others.into_iter().any(|other| keeps_apart(brings, other, living, all)) {
            let brings = brings.cluster;
            all.unnamed.push(format!("{brings:?} has one server and does not bring what it holds"));
        }
    }
}

/// Whether there is a reason why the one server of a cluster does not bring its databases to another.
fn keeps_apart(
    brings: &Configuration,
    other: &Configuration,
    living: &[Living<'_>],
    all: &mut Assessment,
) -> bool {
    let names = |held: &Configuration| -> BTreeSet<String> {
        held.databases.keys().map(|name| name.to_ascii_lowercase()).collect()
    };
    if !names(brings).is_disjoint(&names(other)) {
        all.tally.add("split-same-name");
        return true;
    }
    let of_it = |l: &&Living<'_>| l.status.cluster == Some(brings.cluster);
    let damaged = living.iter().filter(of_it).any(|holder| {
        let sound = |log| holder.directory.has_sound_copy(log) == Some(true);
        brings.shards().any(|shard| !sound(shard.shard.log))
    });
    if damaged {
        all.tally.add("split-damaged-copy");
        return true;
    }
    // What others have to say is theirs: a name that is kept for a third one, or a server that was
    // taken for a member.
    let said = living.iter().any(|l| {
        let pair = [Some(brings.cluster), Some(other.cluster)];
        let clash = l.status.clashes.iter().any(|(with, _)| pair.contains(&Some(*with)));
        pair.contains(&l.status.cluster) && clash
    });
    if said {
        all.tally.add("split-refused");
    }
    said
}
