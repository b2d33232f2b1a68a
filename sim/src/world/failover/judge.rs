//! What must have become of clients once all faults have ended: each has its requests done, and sees the
//! cluster as it is; and all that was refused for certain was never done.

use std::collections::BTreeSet;

use quorate_core::{ClusterId, State};

use crate::counts::Count;
use crate::outcome::Verdict;
use crate::world::{Probe, World};

/// What holds a client up.
pub(in crate::world) enum HeldUp {
    /// It has a name, and is nobody's fault.
    Named(&'static str),
    /// It is wrong.
    Wrong(String),
}

impl World {
    /// What clients wait for once everything else has settled.
    pub(in crate::world) fn clients_held_up(&self, probes: &[Probe]) -> Vec<HeldUp> {
        let Some(failover) = &self.failover else { return Vec::new() };
        let clusters: BTreeSet<ClusterId> =
            self.running().filter_map(|(_, node)| node.cluster()).collect();
        let one = clusters.len() <= 1;
        let apps = (0..failover.apps.len()).filter_map(|which| self.held_up(which, one, probes));
        apps.collect()
    }

    /// `one`: there is no more than one cluster.
    fn held_up(&self, which: usize, one: bool, probes: &[Probe]) -> Option<HeldUp> {
        let failover = self.failover.as_ref()?;
        let app = &failover.apps[which];
        if let Err(why) = &app.at_rest {
            let database = format!("db{}", app.plan.database);
            let takes = probes.iter().any(|(host, _, log)| {
                let node = self.hosts[*host].node.as_ref();
                let document = node.and_then(|node| node.configuration());
                let shard = document.and_then(|document| document.shard(&database, app.plan.shard));
                shard.is_some_and(|shard| shard.shard.log == *log)
            });
            return Some(match () {
                () if !takes => HeldUp::Named("client-of-a-shard-without-writes"),
                () if !one => HeldUp::Named("client-between-clusters"),
                () if !self.knows_somebody(which) => HeldUp::Named("client-knows-nobody"),
                () => HeldUp::Wrong(format!("client {which} has not written: {why}")),
            });
        }
        if !one {
            return None;
        }
        let host = app.used.and_then(|node| self.host_of(node))?;
        let told = self.hosts[host].node.as_ref()?.layout()?;
        let machine = app.machine.as_ref()?;
        let seen = machine.layout();
        let mut lines = app.lines.values().filter_map(|line| failover.lines.get(line));
        if !lines.any(|line| line.host == host && line.host_open) {
            return None;
        }
        let owners = told.shards.iter().all(|shard| {
            let known = seen.shards.iter().find(|known| known.log == shard.log);
            // One that it does not know may have been dropped since.
            known.map_or(seen.version > told.version, |known| known.term >= shard.term)
        });
        // A host that has not come back to its cluster may tell of less than others did.
        let newest = seen.cluster == told.cluster && seen.version >= told.version && owners;
        if !newest {
            return Some(HeldUp::Wrong(format!(
                "client {which} sees version {} of {:?}; host {host}, which it uses, tells of \
                 version {} of {:?}, owners known: {owners}",
                seen.version, seen.cluster, told.version, told.cluster
            )));
        }
        let (told, seen) = (&failover.ends[host].copies, machine.copies());
        (told != seen).then(|| {
            HeldUp::Wrong(format!(
                "client {which} sees copies {seen:?}; host {host}, which it uses, tells of {told:?}"
            ))
        })
    }

    /// Whether one of the addresses that a client knows leads to a member of a cluster.
    fn knows_somebody(&self, which: usize) -> bool {
        let Some(app) = self.failover.as_ref().map(|failover| &failover.apps[which]) else {
            return false;
        };
        let layout = app.machine.as_ref().map(|machine| machine.layout());
        let listed = layout.into_iter().flat_map(|layout| &layout.servers);
        let listed: Vec<_> = listed.filter_map(|server| server.address).collect();
        self.running().any(|(host, node)| {
            let known = app.plan.seeds.contains(&host)
                || listed.contains(&super::wire::client_address(host));
            // One that asks to be let in may keep the name of a cluster that it was taken out of.
            let is_in = matches!(node.state(), State::Member | State::Returning);
            known && is_in && node.cluster().is_some()
        })
    }

    /// The run has ended: histories of registers, and what was refused.
    pub(in crate::world) fn judge_clients(&mut self) -> Verdict {
        let Some(failover) = &self.failover else { return Ok(()) };
        for key in &failover.refused {
            self.checks.nobody_holds(*key)?;
        }
        let (judged, skipped) = failover.histories.judge(|(cluster, log)| {
            let ledger = self.checks.shard(cluster, log);
            ledger.is_some_and(|ledger| ledger.content.replaced().next().is_some())
        })?;
        for _ in 0..judged {
            self.counts.add(Count::HistoriesJudged);
        }
        for _ in 0..skipped {
            self.counts.add(Count::HistoriesSkipped);
        }
        Ok(())
    }
}
