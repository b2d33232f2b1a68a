//! Servers come, change and go.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::command::{Applied, change, server_mut, transition};
use super::document::{Addresses, Configuration, Role, Server, ServerStatus};
use super::merging::absorbed;
use super::rejection::{Rejection, check_server_name};
use super::{ConfigCommand, OperatorChange, RemoveReason, ShardRef};
use super::{bringing, placement, rules};
use crate::ids::{ClusterId, ConfigVersion, NodeId, Start};

/// A server joins, or one that is in already says where it is and what it is called.
pub(super) fn join(
    held: &mut Configuration,
    node: NodeId,
    name: &str,
    (addresses, start): (Addresses, Option<Start>),
    from: Option<(ClusterId, Option<NodeId>)>,
) -> Result<Applied, Rejection> {
    check_server_name(name)?;
    let holder = held.by_name(name).map(|(id, s)| (id, s.status, s.addresses.node));
    let replaces = match holder {
        Some((id, _, _)) if id == node => None,
        Some((_, ServerStatus::Online, at)) => {
            return Err(Rejection::DuplicateName { name: name.to_owned(), holder: at });
        }
        // A server that is in does not take another's name by renaming itself.
        Some((_, ServerStatus::Away, at)) if held.servers.contains_key(&node) => {
            return Err(Rejection::DuplicateName { name: name.to_owned(), holder: at });
        }
        // A wiped disk returns under its old name: old out, new in, as one change.
        Some((id, ServerStatus::Away, _)) => Some(id),
        None => None,
    };
    if !held.servers.contains_key(&node)
        && replaces.is_none()
        && held.servers.len() >= Configuration::SERVERS_MAX
    {
        return Err(Rejection::Full { max: Configuration::SERVERS_MAX });
    }
    let from = from.filter(|(other, _)| *other != held.cluster);
    if let Some((other, Some(_))) = from
        && !held.absorbed.contains_key(&other)
    {
        // It has come to another cluster than the one that keeps its names for it.
        return Err(Rejection::NotReserved { cluster: other });
    }
    let done = match from {
        Some((other, brings)) => {
            if brings.is_none() {
                // It has dissolved without databases: there is nothing to wait for.
                held.bringing.remove(&other);
            }
            absorbed(held, other)?
        }
        None => Applied::Unchanged,
    };
    if let Some(known) = held.servers.get_mut(&node) {
        // It is in: only what may have changed since. A rename is a change like any other.
        let before = known.name.clone();
        let renamed = change(&mut known.name, name.to_owned());
        let moved = change(&mut known.addresses, addresses);
        let back = change(&mut known.status, ServerStatus::Online);
        let back = back.or(note_start(known, start));
        if renamed == Applied::Changed {
            placement::rename(held, &before, name);
        }
        return Ok(done.or(renamed).or(moved).or(back));
    }
    held.expelled.remove(&node);
    let before = held.departed.remove(&node).map(|(_, start)| start);
    let start = newer(before, start);
    let (role, registration) = match replaces.and_then(|old| take_out(held, old)) {
        Some(old) => (old.role, old.registration),
        None => (held.defaults.role_of(name), held.defaults.registration_of(name)),
    };
    let joined = held.version.next();
    let status = ServerStatus::Online;
    let name = name.to_owned();
    let server = Server { name, role, registration, status, addresses, joined, start, replaces };
    held.servers.insert(node, server);
    placement::enter(held, node, replaces);
    if let Some((other, Some(was))) = from {
        bringing::claim(held, other, was, node)?;
    }
    Ok(Applied::Changed)
}

/// A server is back, perhaps at another address, or gone and its copies with it.
pub(super) fn set_status(
    held: &mut Configuration,
    node: NodeId,
    (status, addresses): (ServerStatus, Option<Addresses>),
    start: Option<Start>,
) -> Result<Applied, Rejection> {
    let server = server_mut(held, node)?;
    let to = addresses.unwrap_or(server.addresses);
    let started = note_start(server, start);
    let changed = change(&mut server.status, status);
    let moved = change(&mut server.addresses, to);
    if changed == Applied::Changed && status == ServerStatus::Away {
        placement::gone_away(held, node);
        if crate::faults::active(crate::faults::Fault::StaticOwnerReassigned) {
            let name = held.servers.get(&node).map(|server| server.name.clone());
            placement::change_shards(held, |shard| {
                let mine = name.is_some() && shard.owner == name;
                mine.then(|| super::Shard { owner: None, ..shard.clone() })
            });
        }
    }
    Ok(changed.or(moved).or(started))
}

fn note_start(server: &mut Server, start: Option<Start>) -> Applied {
    let newer = newer(server.start, start);
    change(&mut server.start, newer)
}

/// Starts only ever rise: an older one is what an old copy of a directory would say.
fn newer(held: Option<Start>, told: Option<Start>) -> Option<Start> {
    told.filter(|told| held.is_none_or(|held| told.number > held.number)).or(held)
}

/// What an operator wants of a server, whose name they may have given.
pub(super) fn operate(
    held: &mut Configuration,
    node: NodeId,
    name: Option<&str>,
    what: OperatorChange,
) -> Result<Applied, Rejection> {
    if let (Some(server), Some(meant)) = (held.servers.get(&node), name)
        && server.name != meant
    {
        return Err(Rejection::UnknownServer { server: meant.to_owned() });
    }
    let command = match what {
        OperatorChange::Remove => ConfigCommand::Remove { node, reason: RemoveReason::Operator },
        OperatorChange::Role(role) => ConfigCommand::SetRole { node, role },
        OperatorChange::Registration(registration) => {
            ConfigCommand::SetRegistration { node, registration }
        }
    };
    transition(held, &command)
}

/// Makes a server a master or a replica, in every database too: an operator's word for it weighs
/// more than the files that the databases were made by.
pub(super) fn set_role(
    held: &mut Configuration,
    node: NodeId,
    role: Role,
) -> Result<Applied, Rejection> {
    if role == Role::Replica {
        keep_a_master(held, node)?;
        keep_copies(held, node)?;
        keep_quorums(held, node)?;
    }
    let server = server_mut(held, node)?;
    let done = change(&mut server.role, role);
    let server = server.clone();
    if role == Role::Replica {
        return Ok(done);
    }
    let mut lifted = Applied::Unchanged;
    for database in held.databases.values_mut() {
        if database.role_of(&server) == Role::Replica {
            let roles = &mut Arc::make_mut(database).settings.roles;
            roles.insert(server.name.clone(), Role::Master);
            lifted = Applied::Changed;
        }
    }
    Ok(done.or(lifted))
}

fn keep_a_master(held: &Configuration, node: NodeId) -> Result<(), Rejection> {
    let name = match held.servers.get(&node) {
        Some(server) => server.name.clone(),
        None => return Err(Rejection::UnknownServer { server: node.short() }),
    };
    if held.masters().all(|(id, _)| id == node) {
        return Err(Rejection::LastMaster { name });
    }
    Ok(())
}

impl Configuration {
    /// Whether a dynamic server that is gone, or goes, may be taken out: nothing would go with it that
    /// nobody else holds, and somebody is left to decide.
    #[must_use]
    pub fn may_go(&self, node: NodeId) -> bool {
        keep_a_master(self, node).is_ok() && keep_what_only_it_has(self, node).is_ok()
    }
}

/// A server that is gone, or leaves in good order, is not taken out while it may hold what nobody else
/// does: once out, it could only come back as a new one, with nothing. It is awaited instead.
fn keep_what_only_it_has(held: &Configuration, node: NodeId) -> Result<(), Rejection> {
    for shard in held.shards().filter(|shard| shard.shard.copies.contains_key(&node)) {
        let mut others = shard.shard.copies.iter().filter(|(id, _)| **id != node);
        if !others.any(|(_, status)| status.is_whole()) {
            return Err(last_copy(shard, node));
        }
    }
    Ok(())
}

/// No operator takes the last whole copy of a shard from its masters.
fn keep_copies(held: &Configuration, node: NodeId) -> Result<(), Rejection> {
    for shard in held.shards() {
        if bringing::is_awaited(shard.shard, node) {
            return Err(last_copy(shard, node));
        }
        let is_master = shard.masters().any(|(id, _)| id == node);
        let Some(own) = shard.shard.copies.get(&node).filter(|_| is_master) else { continue };
        let mut others = shard.masters().filter(|(id, _)| *id != node).peekable();
        let alone = others.peek().is_none();
        let whole = |id: &NodeId| shard.shard.copies.get(id).is_some_and(|c| c.is_whole());
        if (own.is_whole() || alone) && !others.any(|(id, _)| whole(&id)) {
            return Err(last_copy(shard, node));
        }
    }
    Ok(())
}

fn last_copy(shard: ShardRef<'_>, node: NodeId) -> Rejection {
    Rejection::LastCopy {
        server: shard.document.name_of(node),
        database: shard.database_name.to_owned(),
        shard: shard.name.to_owned(),
    }
}

/// No server becomes a replica whose vote a quorum that is given as a number needs.
fn keep_quorums(held: &Configuration, node: NodeId) -> Result<(), Rejection> {
    for shard in held.shards().filter(|s| s.masters().any(|(id, _)| id == node)) {
        rules::check_quorums(shard, 1)?;
    }
    Ok(())
}

/// A server is taken out.
pub(super) fn remove(
    held: &mut Configuration,
    node: NodeId,
    reason: RemoveReason,
) -> Result<Applied, Rejection> {
    if !held.servers.contains_key(&node) {
        return Ok(Applied::Unchanged);
    }
    keep_a_master(held, node)?;
    match reason {
        RemoveReason::Operator => keep_copies(held, node)?,
        RemoveReason::Unreachable | RemoveReason::Left => keep_what_only_it_has(held, node)?,
    }
    take_out(held, node);
    if reason == RemoveReason::Operator {
        held.expelled.insert(node, held.version.next());
        forget_oldest(&mut held.expelled, Configuration::EXPELLED_MAX, |at| *at);
    }
    for server in held.servers.values_mut().filter(|s| s.replaces == Some(node)) {
        server.replaces = None;
    }
    placement::adapt(held);
    Ok(Applied::Changed)
}

/// A server is in no more; which of its starts was the last stays known.
fn take_out(held: &mut Configuration, node: NodeId) -> Option<Server> {
    let server = held.servers.remove(&node)?;
    if let Some(start) = server.start {
        held.departed.insert(node, (held.version.next(), start));
        forget_oldest(&mut held.departed, Configuration::DEPARTED_MAX, |(at, _)| *at);
    }
    Some(server)
}

fn forget_oldest<T>(of: &mut BTreeMap<NodeId, T>, max: usize, at: impl Fn(&T) -> ConfigVersion) {
    if of.len() > max
        && let Some((_, oldest)) = of.iter().map(|(id, held)| (at(held), *id)).min()
    {
        of.remove(&oldest);
    }
}
