//! What a healthy cluster looks like.

use std::collections::BTreeSet;

use quorate_core::configuration::{
    AutoRemove, Configuration, Registration, Role, Server, ServerStatus,
};
use quorate_core::raft::Membership;
use quorate_core::{ClusterId, NodeId};

use super::{Assessment, Living, is_namesake};
use crate::world::World;

/// Looks at the members of a cluster that can decide.
pub(super) fn check(
    world: &World,
    cluster: ClusterId,
    members: &[&Living<'_>],
    class: &[Living<'_>],
    all: &mut Assessment,
) {
    let leaders: Vec<&&Living<'_>> = members.iter().filter(|m| m.leads).collect();
    let [leader] = leaders.as_slice() else {
        let hosts: Vec<usize> = leaders.iter().map(|l| l.host).collect();
        all.unnamed.push(format!("{cluster:?} has leaders {hosts:?}"));
        return;
    };
    let Some(document) = world.checks.known(cluster).and_then(|l| l.document()) else {
        all.unnamed.push(format!("{cluster:?} has no document"));
        return;
    };
    super::shards::check(world, cluster, document, members, all);
    let living: BTreeSet<NodeId> = members.iter().map(|m| m.id).collect();
    let in_force = leader.directory.written_log.membership();
    let held_up = in_force.is_some_and(|m| is_held_up(document, m, &living));
    if held_up {
        all.tally.add("masters-away");
    }
    for member in members {
        // Whoever was taken out votes on until those who are to decide without it can.
        let needed = in_force.is_some_and(|m| m.is_voter(member.id));
        if held_up && needed && !document.servers.contains_key(&member.id) {
            continue;
        }
        // Whoever lost its name while it was away is refused while the new holder lives.
        if !document.servers.contains_key(&member.id) && is_namesake(member, class) {
            all.tally.add("duplicate-name");
            continue;
        }
        agrees(member, leader.id, document, all);
    }
    for (id, server) in &document.servers {
        listed(document, *id, server, living.contains(id), all);
    }
    match in_force {
        Some(_) if held_up => {}
        Some(membership) => follows(document, membership, &living, all),
        None => all.unnamed.push(format!("{cluster:?} has no membership")),
    }
}

/// The membership cannot follow the document yet: the masters that are listed and not yet the only
/// voters include too many who are away, so that they could not decide.
fn is_held_up(
    document: &Configuration,
    membership: &Membership,
    living: &BTreeSet<NodeId>,
) -> bool {
    let masters: BTreeSet<NodeId> = document.masters().map(|(id, _)| id).collect();
    let there = masters.intersection(living).count();
    let follows = membership.incoming.voters == masters && !membership.is_joint();
    !follows && there * 2 < masters.len()
}

/// A member knows the coordinator and the document, and is listed in it.
fn agrees(member: &Living<'_>, leader: NodeId, document: &Configuration, all: &mut Assessment) {
    let host = member.host;
    if member.status.coordinator != Some(leader) {
        let other = member.status.coordinator;
        all.unnamed
            .push(format!("host {host} takes {other:?} for the coordinator, not {leader:?}"));
    }
    let version = member.status.configuration.as_ref().map(|held| held.version);
    if version != Some(document.version) {
        let due = document.version;
        all.unnamed.push(format!("host {host} has version {version:?}, committed is {due}"));
    }
    if !document.servers.contains_key(&member.id) {
        all.unnamed.push(format!("host {host} {:?} is not in the configuration", member.id));
    }
    if member.status.joint {
        all.unnamed.push(format!("host {host} sees a change of voters under way"));
    }
    if member.status.no_quorum.is_some() {
        all.unnamed.push(format!("host {host} sees no quorum where there is one"));
    }
}

/// Who lives is `ONLINE`; who does not is `AWAY`, or gone if nobody waits for it.
fn listed(
    document: &Configuration,
    id: NodeId,
    server: &Server,
    lives: bool,
    all: &mut Assessment,
) {
    // The last master is never removed: nobody would be left to decide.
    let last = server.role == Role::Master && document.masters().count() == 1;
    let awaited = server.registration == Registration::Static
        || document.defaults.auto_remove == AutoRemove::Never
        || last;
    if !lives && !awaited && server.status == ServerStatus::Away && !document.may_go(id) {
        // What it holds, nobody else may have; whether the others' copies are whole is looked at by itself.
        all.tally.add("last-copy-away");
        return;
    }
    let problem = match (lives, server.status) {
        (true, ServerStatus::Away) => "is there, but AWAY",
        (false, ServerStatus::Online) => "is not there, but ONLINE",
        (false, ServerStatus::Away) if !awaited => "is not there, dynamic, and still listed",
        _ => return,
    };
    all.unnamed.push(format!("server {id:?} '{}' {problem}", server.name));
}

/// The membership implements the document: voters are the masters, learners the others.
fn follows(
    document: &Configuration,
    membership: &Membership,
    living: &BTreeSet<NodeId>,
    all: &mut Assessment,
) {
    if membership.is_joint() {
        all.unnamed.push("a change of voters is under way".to_owned());
    }
    let voters = &membership.incoming.voters;
    for (id, server) in &document.servers {
        let votes = voters.contains(id);
        // A master that died before it had caught up cannot be promoted.
        let problem = match server.role {
            Role::Master if !votes && living.contains(id) => "is a master and does not vote",
            Role::Replica if votes => "is a replica and votes",
            _ if !membership.contains(*id) => "does not receive the log",
            _ => continue,
        };
        all.unnamed.push(format!("server {id:?} '{}' {problem}", server.name));
    }
    // Whose name was taken over stays until its successor has been promoted, which takes that it
    // is there.
    let replaced = |id: &NodeId| {
        let successor = document.servers.iter().find(|(_, server)| server.replaces == Some(*id));
        successor.is_some_and(|(successor, _)| !living.contains(successor))
    };
    let strangers = membership.members();
    let strangers = strangers.iter().filter(|id| !document.servers.contains_key(id));
    for id in strangers.filter(|id| !replaced(id)) {
        all.unnamed.push(format!("{id:?} takes part in the log, but is no server"));
    }
    if membership.incoming.tie_breaker.is_none_or(|id| !living.contains(&id)) {
        let holder = membership.incoming.tie_breaker;
        all.unnamed.push(format!("the tie-breaker {holder:?} is not there"));
    }
}
