//! `recover --unsafe`: an operator gives up a cluster that has lost its quorum for good, and lets
//! one survivor go on.

use std::collections::BTreeMap;

use quorate_core::engine::{Engine as _, Position};
use quorate_core::raft::Membership;
use quorate_core::{
    ClusterId, Generation, Index, LogId, NodeId, Recovery, StorageOp, Term, recover_unsafe,
};

use super::{What, World};
use crate::checks::Ledger;
use crate::counts::Count;
use crate::disk::{DirId, Directory, Shadow};
use crate::liveness::quorate::can_elect;
use crate::network::MS;
use crate::outcome::Verdict;
use crate::trace::tell;
use crate::view::{Kind, Told};

impl World {
    /// For each cluster that can never decide again, an operator may give it up.
    pub(super) fn rescue(&mut self) -> Verdict {
        let clusters: Vec<ClusterId> = self.checks.ledgers().iter().map(|l| l.cluster).collect();
        for cluster in clusters {
            let members = self.members(cluster);
            let logs: Vec<(NodeId, &Shadow)> = members
                .iter()
                .map(|(_, dir)| self.disks.get(*dir))
                .map(|d| (d.node, &d.written_log))
                .collect();
            if can_elect(&logs) || self.checks.is_given_up(cluster) || self.fault_dice.one_in(2) {
                continue;
            }
            // The one whose log reaches farthest, as `quorate recover` advises, and can be read.
            let sound = |(_, dir): &(usize, DirId)| !self.disks.get(*dir).has_rotten_logs();
            let reach = |dir: &DirId| {
                let log = &self.disks.get(*dir).durable_log;
                (log.last_term(), log.last_index())
            };
            if let Some((host, dir)) =
                members.into_iter().filter(sound).max_by_key(|(_, dir)| reach(dir))
            {
                self.recover(host, dir, cluster)?;
            }
        }
        Ok(())
    }

    /// The hosts that may still take part in a cluster, up or down.
    fn members(&self, cluster: ClusterId) -> Vec<(usize, DirId)> {
        let hosts = self.hosts.iter().enumerate().filter(|(_, host)| host.ended.is_none());
        let with_dir = hosts.filter_map(|(place, host)| host.dir.map(|dir| (place, dir)));
        let takes_part =
            |dir: &Directory| dir.gone.is_none() && dir.written_log.cluster == Some(cluster);
        with_dir.filter(|(_, dir)| takes_part(self.disks.get(*dir))).collect()
    }

    fn recover(&mut self, host: usize, dir: DirId, from: ClusterId) -> Verdict {
        self.kill(host, false, None)?;
        let into = ClusterId(self.node_dice.wide());
        let held = &self.disks.get(dir).durable;
        if held.identity.cluster != Some(from) {
            return Ok(());
        }
        let run = self.hosts[host].run;
        let again = self.now + self.fault_dice.between(1, 1_000) * MS;
        self.queue.push(again, What::Start { host, run });
        let live = held.logs.iter().filter_map(|(log, held)| Some((*log, held.copy?)));
        let live: Vec<(LogId, Generation)> = live.collect();
        let files = &self.disks.get(dir).engines;
        let stands = |(log, generation): (LogId, Generation)| {
            let files = files.get(&log).filter(|files| files.is_sound(generation))?;
            Some((log, files.held.generations.get(&generation)?.position()))
        };
        let copies: BTreeMap<LogId, Position> = live.into_iter().filter_map(stands).collect();
        let Ok(Recovery { ops, configuration, .. }) = recover_unsafe(held, &copies, into) else {
            return Ok(());
        };
        tell!(
            self,
            Told::at(host, Kind::Life),
            "host {host} is recovered: {from:?} is given up for {into:?}"
        );
        self.counts.add(Count::Recoveries);
        let mut held = held.clone();
        let ends: BTreeMap<LogId, (Index, Term)> = self.disks.get(dir).shard_ends();
        ops.iter().for_each(|op| held.apply(op));
        let begins = ops.iter().find_map(|op| match op {
            StorageOp::Snapshot { log: LogId::CONFIGURATION, snapshot, .. } => {
                Some((snapshot.index, snapshot.term))
            }
            _ => None,
        });
        if let Some((index, term)) = begins {
            let survivor = Membership::founder(held.identity.node, configuration.version);
            self.checks.recovers(from, Ledger::recovered(configuration, index, term, survivor));
        }
        let engines = self.disks.get(dir).engines.clone();
        self.disks.get_mut(dir).retire();
        let mut directory = Directory::new(held);
        directory.engines = engines;
        for (log, shadow) in &directory.durable_shards {
            // Of what the survivor's log has let go of, its copy holds the outcome.
            let end = ends.get(log).copied().unwrap_or_default();
            let copy = copies.get(log).filter(|copy| copy.index > end.0);
            let end = copy.map_or(end, |copy| (copy.index, copy.term));
            let given_up = self.checks.shard(from, *log);
            let ledger = Ledger::carried_over(shadow, given_up.map(|g| (g, end)), into)?;
            self.checks.carries_over(ledger);
        }
        self.hosts[host].dir = Some(self.disks.add(directory));
        Ok(())
    }
}
