//! What the shards of a healthy cluster look like: led, whole, equal, and served by who holds them.

use std::collections::BTreeSet;

use quorate_core::configuration::{Configuration, CopyStatus, QuorumRule, Role, ShardRef};
use quorate_core::raft::Membership;
use quorate_core::{ClusterId, LogId, NodeId};

use super::quorate::can_elect;
use super::{Assessment, Living};
use crate::disk::Shadow;
use crate::world::World;

/// Looks at all shards of a cluster that can decide.
pub(super) fn check(
    world: &World,
    cluster: ClusterId,
    document: &Configuration,
    members: &[&Living<'_>],
    all: &mut Assessment,
) {
    if world.plan.databases.is_none() {
        return;
    }
    // Whoever was taken out and still votes has a vote in the logs of shards, too.
    for shard in document.shards() {
        Look { world, cluster, shard, members }.check(all);
    }
}

struct Look<'a> {
    world: &'a World,
    cluster: ClusterId,
    shard: ShardRef<'a>,
    members: &'a [&'a Living<'a>],
}

impl Look<'_> {
    fn log(&self) -> LogId {
        self.shard.shard.log
    }

    fn shadow(&self, member: &Living<'_>) -> Option<&Shadow> {
        let directory = self.world.disks.get(self.world.hosts[member.host].dir?);
        directory.written(self.log()).filter(|log| log.last_index() > quorate_core::Index::ZERO)
    }

    fn is_whole(&self, member: &Living<'_>) -> bool {
        let directory = self.world.hosts[member.host].dir.map(|dir| self.world.disks.get(dir));
        directory.is_none_or(|directory| directory.has_sound_copy(self.log()) != Some(false))
    }

    fn name(&self) -> String {
        format!("{:?} ({}/{})", self.log(), self.shard.database_name, self.shard.name)
    }

    fn check(&self, all: &mut Assessment) {
        let logs: Vec<(NodeId, &Shadow)> =
            self.members.iter().filter_map(|m| Some((m.id, self.shadow(m)?))).collect();
        if !can_elect(&logs) {
            all.tally.add(if logs.is_empty() { "shard-holders-away" } else { "shard-quorum-lost" });
            self.says_so(all);
            return;
        }
        // Whoever was refused, for its name is another's by now, learns of no shard that was made since
        // it was last let in, though it holds its log. Its operator is told to start it under another
        // name.
        let learns = |member: &&&Living<'_>| {
            let known = member.status.configuration.as_ref().map(|held| held.version);
            self.shard.document.servers.contains_key(&member.id)
                || known >= Some(self.shard.database.created)
        };
        let answering = self.members.iter().filter(learns);
        let answering: Vec<(NodeId, &Shadow)> =
            answering.filter_map(|m| Some((m.id, self.shadow(m)?))).collect();
        if !can_elect(&answering) {
            all.tally.add("shard-voter-refused");
            return;
        }
        let leads = |member: &&&Living<'_>| {
            let node = self.world.hosts[member.host].node.as_ref();
            node.and_then(|node| node.shard(self.log())).is_some_and(|s| s.log().is_leader())
        };
        let leaders: Vec<&&Living<'_>> = self.members.iter().filter(leads).collect();
        let [leader] = leaders.as_slice() else {
            let hosts: Vec<usize> = leaders.iter().map(|l| l.host).collect();
            all.unnamed.push(format!("{} has leaders {hosts:?}", self.name()));
            return;
        };
        let Some(log) = self.shadow(leader) else { return };
        all.hash = crate::hash::mix(all.hash, log.hard.term.0 + leader.host as u64);
        let servers = &self.shard.document.servers;
        let known = leader.status.configuration.as_ref().map(|held| held.version);
        if !servers.contains_key(&leader.id) && known < Some(self.shard.document.version) {
            // One that was taken out and is not let in again learns nothing more of the document,
            // and yet leads those who elected it: see the open bugs in `sim/BUGS.md`.
            all.tally.add("shard-led-from-outside");
            return;
        }
        let damaged = self.members.iter().any(|member| !self.is_whole(member));
        if (damaged || self.sound_one_ended())
            && self.members.iter().all(|member| self.holds_nothing_sound(member))
        {
            // There is nothing that could be given: all who had it sound were given up by hand, were
            // taken out, or left, before anybody had read the damaged file, or could have another.
            let ledger = self.world.checks.shard(self.cluster, self.log());
            let recovered = ledger.is_some_and(|ledger| ledger.base() > quorate_core::Index::ZERO);
            let names = ["shard-sound-copies-gone", "recovered-without-content"];
            all.tally.add(names[usize::from(recovered)]);
            return;
        }
        let before = all.unnamed.len();
        let mut takes_writes = false;
        if let Some(membership) = log.membership() {
            self.follows(membership, all);
            takes_writes = self.takes_writes(membership, all);
        }
        for member in self.members {
            self.copy(member, log, takes_writes, all);
        }
        if all.unnamed.len() > before {
            let listed = self.shard.document.servers.contains_key(&leader.id);
            let held = leader.status.configuration.as_ref().map(|held| held.version);
            all.unnamed.push(format!(
                "{} is led by host {} {:?}, listed {listed}, {}, which knows version {held:?}",
                self.name(),
                leader.host,
                leader.id,
                leader.status.state
            ));
        }
    }

    /// Whether somebody who is gone for good had a sound copy.
    fn sound_one_ended(&self) -> bool {
        let ended = self.world.hosts.iter().filter(|host| host.ended.is_some());
        let mut held = ended.filter_map(|host| Some(self.world.disks.get(host.dir?)));
        held.any(|directory| directory.has_sound_copy(self.log()) == Some(true))
    }

    /// Whether its copy is damaged, or has never come to hold what its log does not give any more.
    fn holds_nothing_sound(&self, member: &Living<'_>) -> bool {
        let node = self.world.hosts[member.host].node.as_ref();
        let held = node.and_then(|node| node.shard(self.log()));
        let lacks = held.is_none_or(|held| held.needs_copy().is_some());
        !self.is_whole(member) || lacks
    }

    /// Nobody says that a shard without a quorum has a leader.
    fn says_so(&self, all: &mut Assessment) {
        for member in self.members {
            let node = self.world.hosts[member.host].node.as_ref();
            let shard = node.and_then(|node| node.shard(self.log()));
            if shard.is_some_and(|shard| shard.log().is_settled_leader()) {
                let host = member.host;
                all.unnamed.push(format!("host {host} leads {} without a quorum", self.name()));
            }
        }
    }

    /// A copy is `ONLINE`, and holds what every copy holds, or there is a reason.
    fn copy(&self, member: &Living<'_>, leader: &Shadow, takes_writes: bool, all: &mut Assessment) {
        let Some(status) = self.shard.shard.copies.get(&member.id) else { return };
        let host = member.host;
        if *status == CopyStatus::Offline {
            all.tally.add("copy-offline");
            return;
        }
        if !self.is_whole(member) {
            // Whoever does not read it does not find out.
            if takes_writes {
                all.after_writes.push(format!("host {host} has a damaged copy of {}", self.name()));
            } else {
                all.tally.add("copy-rotten-unread");
            }
        }
        if *status != CopyStatus::Online {
            let node = self.world.hosts[host].node.as_ref();
            let held = node.and_then(|node| node.shard(self.log()));
            let state = held.map(|held| (held.is_open(), held.lack(), held.applied()));
            all.unnamed.push(format!(
                "the copy of {} at host {host} is {status}, in truth {state:?}; {:?}",
                self.name(),
                leader.membership()
            ));
            return;
        }
        let content = self.world.checks.shard(self.cluster, self.log()).map(|l| &l.content);
        let node = self.world.hosts[host].node.as_ref();
        let held = node.and_then(|node| node.shard(self.log()));
        let at = held.map(|shard| shard.position());
        if at != content.map(|content| content.position()) {
            all.unnamed.push(format!(
                "the copy of {} at host {host} stands at {at:?}, the others at {:?}",
                self.name(),
                content.map(|content| content.position())
            ));
        }
        if !leader.membership().is_some_and(|membership| membership.contains(member.id)) {
            all.unnamed.push(format!("host {host} does not receive {}", self.name()));
        }
    }

    /// The masters that are there and have copies vote, and nobody else who need not.
    fn follows(&self, membership: &Membership, all: &mut Assessment) {
        if membership.is_joint() {
            all.unnamed.push(format!("a change of the voters of {} is under way", self.name()));
        }
        let masters: BTreeSet<NodeId> = self.shard.masters().map(|(id, _)| id).collect();
        let living = |id: &NodeId| self.members.iter().find(|m| m.id == *id);
        for id in masters.difference(&membership.incoming.voters) {
            let status = self.shard.shard.copies.get(id);
            if living(id).is_some() && status == Some(&CopyStatus::Online) {
                all.unnamed.push(format!("{id:?} is ONLINE and does not vote in {}", self.name()));
            }
        }
        let there = |id: &NodeId| living(id).is_some();
        // One that is out of use comes to vote only when an operator ends that.
        let offline = |id: NodeId| self.shard.shard.copies.get(&id) == Some(&CopyStatus::Offline);
        let may_vote = |id: &&NodeId| membership.incoming.voters.contains(id) || !offline(**id);
        let to_vote: Vec<&NodeId> = masters.iter().filter(may_vote).collect();
        let held_up = to_vote.iter().filter(|id| there(id)).count() * 2 <= to_vote.len();
        for id in membership.incoming.voters.difference(&masters) {
            let server = self.shard.document.servers.get(id);
            let replica =
                server.is_some_and(|server| self.shard.database.role_of(server) == Role::Replica);
            // Whose name was taken over votes until its successor can, which takes that it is there
            // and has a whole copy.
            let mut servers = self.shard.document.servers.iter();
            let awaited = servers.find(|(_, server)| server.replaces == Some(*id)).is_some_and(
                |(successor, _)| {
                    let status = self.shard.shard.copies.get(successor);
                    !there(successor) || status == Some(&CopyStatus::Offline)
                },
            );
            if awaited {
                all.tally.add("successor-away");
            } else if held_up {
                let names = ["shard-masters-away", "shard-masters-out-of-use"];
                all.tally.add(names[usize::from(to_vote.len() < masters.len())]);
            } else {
                all.unnamed.push(format!(
                    "{id:?}, listed {}, replica {replica}, votes in {} and has no place there: \
                     places {:?}, {membership:?}",
                    server.is_some(),
                    self.name(),
                    self.shard.shard.places
                ));
            }
        }
    }

    /// Whether a write could be acknowledged, and by whom it must be taken.
    fn takes_writes(&self, membership: &Membership, all: &mut Assessment) -> bool {
        let rule = self.shard.write_quorum();
        let living = |id: &&NodeId| self.members.iter().any(|m| m.id == **id);
        let half = &membership.incoming;
        let needed = match rule {
            QuorumRule::Majority => half.voters.len() / 2 + 1,
            QuorumRule::All => half.voters.len(),
            QuorumRule::Count(count) => usize::try_from(count).unwrap_or(usize::MAX).max(1),
        };
        if half.voters.iter().filter(living).count() < needed {
            all.tally.add("write-quorum-away");
            return false;
        }
        let servers = &self.shard.document.servers;
        let in_use = |(id, _): (NodeId, _)| {
            let status = self.shard.shard.copies.get(&id);
            living(&&id) && status != Some(&CopyStatus::Offline)
        };
        if !self.shard.masters().any(in_use) {
            all.tally.add("copies-offline");
            return false;
        }
        let owner = self.shard.shard.owner.as_ref();
        let there = |name: &String| {
            self.members.iter().any(|m| servers.get(&m.id).is_some_and(|s| s.name == *name))
        };
        if owner.is_some_and(|owner| !there(owner)) {
            all.tally.add("owner-away");
            return false;
        }
        let unfit = |name: &String| {
            let found = self.shard.document.by_name(name);
            found.is_none_or(|(id, server)| {
                let status = self.shard.shard.copies.get(&id);
                self.shard.database.role_of(server) == Role::Replica
                    || status.is_none_or(|status| *status == CopyStatus::Offline)
            })
        };
        if owner.is_some_and(unfit) {
            all.tally.add("owner-unfit");
            return false;
        }
        for member in self.members.iter().filter(|member| servers.contains_key(&member.id)) {
            all.probes.push((member.host, self.cluster, self.log()));
        }
        true
    }
}
