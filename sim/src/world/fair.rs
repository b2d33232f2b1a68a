//! Which old disks may come back.
//!
//! A restored or copied directory lacks what its node promised since, and only its peers can know:
//! they remember the last start that they acknowledged. No protocol can find out a directory whose
//! later promises nobody alive knows of, as when the only other node that saw them is lost too, or
//! when the old copy could decide by itself. So an old copy `r` of node `a` is started only if
//!
//! 0. `r` belongs to a cluster: else it would found or join one under an id that is in use;
//! 1. `a` alone is not a quorum of the membership in force in `r`, of no log in it;
//! 2. every other directory that may still take part in `a`'s cluster, and is not wiped, durably
//!    remembers a start of `a` that `r` does not know; those of servers that were away all the time
//!    included, for they could make a quorum of an old membership with it;
//! 3. the same still holds for every old copy that is at large already, so that two old copies
//!    cannot vouch for each other.
//!
//! Then every peer that it meets sends it away as `StaleDisk`, and the world behaves as if `a` were
//! lost for good, which is always safe.

use quorate_core::{LogId, NodeId, Recovered};

use super::World;
use crate::checks::quorum::is_enough;
use crate::disk::{DirId, Directory, Shadow};

impl World {
    /// Whether the directory `dir`, itself an old copy, may be started.
    pub(super) fn is_fair_to_start(&self, dir: DirId) -> bool {
        let directory = self.disks.get(dir);
        self.is_known_stale(dir, &directory.durable, None)
    }

    /// Whether `old` may be put back into `dir`.
    pub(super) fn is_fair_to_restore(&self, dir: DirId, old: &Recovered) -> bool {
        if !self.is_known_stale(dir, old, None) {
            return false;
        }
        let at_large =
            self.disks.iter().filter(|(other, d)| *other != dir && self.is_at_large(*other, d));
        at_large
            .filter(|(_, d)| d.durable.identity.cluster == old.identity.cluster)
            .all(|(other, d)| self.is_known_stale(other, &d.durable, Some((dir, old))))
    }

    /// An old copy that a host may still start.
    fn is_at_large(&self, dir: DirId, directory: &Directory) -> bool {
        directory.gone.is_some()
            && self.hosts.iter().any(|h| h.dir == Some(dir) && h.ended.is_none())
    }

    /// Whether all others know a start that `old` does not. `instead`: one of them is about to
    /// hold that.
    fn is_known_stale(
        &self,
        dir: DirId,
        old: &Recovered,
        instead: Option<(DirId, &Recovered)>,
    ) -> bool {
        let node = old.identity.node;
        // Without a cluster it would found or join one under an id that is in use.
        let Some(cluster) = old.identity.cluster else { return false };
        let alone = |log: LogId| {
            let log = Shadow::of(old, log);
            log.membership().is_none_or(|m| is_enough(m, &|id| id == node))
        };
        // A shard whose only copy is there would be written to before anybody is met.
        let shards = old.logs.keys().filter(|log| **log != LogId::CONFIGURATION);
        if alone(LogId::CONFIGURATION) || shards.copied().any(alone) {
            return false;
        }
        self.disks.iter().all(|(other, directory)| {
            let takes_part = directory.gone.is_none() || self.is_at_large(other, directory);
            let held = match instead {
                Some((replaced, with)) if replaced == other => with,
                _ => &directory.durable,
            };
            let concerned = takes_part
                && other != dir
                && held.identity.cluster == Some(cluster)
                && held.identity.node != node;
            !concerned || remembers_newer(held, node, old)
        })
    }
}

fn remembers_newer(held: &Recovered, node: NodeId, old: &Recovered) -> bool {
    held.peer_starts.get(&node).is_some_and(|start| !old.identity.knows_start(*start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Copies, OldCopy};
    use crate::hash::Fingerprint;
    use crate::network::MS;
    use crate::plan::Plan;
    use crate::trace::Trace;

    /// A calm world of `hosts` hosts after so many milliseconds.
    fn world(hosts: usize, ms: u64) -> World {
        let mut world =
            World::new(Plan::calm(3, hosts, 600_000), Fingerprint::default(), Trace::default());
        pass(&mut world, ms);
        world
    }

    fn pass(world: &mut World, ms: u64) {
        let until = world.now + ms * MS;
        while world.now < until {
            assert!(world.step().expect("a calm world"));
        }
    }

    fn dir(world: &World, host: usize) -> DirId {
        world.hosts[host].dir.expect("started")
    }

    #[test]
    fn an_old_copy_comes_back_only_once_all_others_know_a_start_that_it_does_not() {
        let mut world = world(3, 4_000);
        let first = dir(&world, 0);
        let old = world.disks.get(first).durable.clone();
        assert!(!world.is_fair_to_restore(first, &old), "it is of the present start");
        world.kill(0, false, Some(MS)).expect("killed");
        pass(&mut world, 4_000);
        assert!(world.is_fair_to_restore(first, &old), "the others know of the restart");
        let second = dir(&world, 1);
        let forgetful = &mut world.disks.get_mut(second).durable.peer_starts;
        forgetful.remove(&old.identity.node);
        assert!(!world.is_fair_to_restore(first, &old), "one of them does not");
    }

    #[test]
    fn a_copy_that_could_decide_alone_or_belongs_to_no_cluster_never_comes_back() {
        let mut world = world(1, 4_000);
        let only = dir(&world, 0);
        let old = world.disks.get(only).durable.clone();
        world.kill(0, false, Some(MS)).expect("killed");
        pass(&mut world, 4_000);
        assert!(!world.is_fair_to_restore(only, &old), "alone it is a quorum");
        let fresh = Recovered::fresh(old.identity.node);
        assert!(!world.is_fair_to_restore(only, &fresh), "it would found again under its id");
    }

    #[test]
    fn two_old_copies_do_not_vouch_for_each_other() {
        let mut world = world(4, 4_000);
        let dirs: Vec<DirId> = (0..2).map(|host| dir(&world, host)).collect();
        let old: Vec<Recovered> =
            dirs.iter().map(|dir| world.disks.get(*dir).durable.clone()).collect();
        for host in 0..2 {
            world.kill(host, false, Some(MS)).expect("killed");
            pass(&mut world, 4_000);
        }
        assert!(world.is_fair_to_restore(dirs[0], &old[0]));
        assert!(world.is_fair_to_restore(dirs[1], &old[1]));
        world.kill(0, false, None).expect("killed");
        world.disks.get_mut(dirs[0]).restore(OldCopy {
            at: 0,
            held: old[0].clone(),
            copies: Copies::default(),
        });
        assert!(!world.is_fair_to_restore(dirs[1], &old[1]), "they would believe each other");
    }
}
