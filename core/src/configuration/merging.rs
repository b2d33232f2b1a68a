//! Clusters that meet, and one that is recovered.

use std::net::SocketAddr;

use super::command::{Applied, server_mut};
use super::document::{Absorption, Configuration, Dissolved, Role, ServerStatus};
use super::founding::Founding;
use super::placement;
use super::rejection::Rejection;
use crate::ids::{ClusterId, NodeId};

pub(super) fn absorb(held: &mut Configuration, cluster: ClusterId) -> Result<Applied, Rejection> {
    if cluster == held.cluster || held.absorbed.contains_key(&cluster) {
        return Ok(Applied::Unchanged);
    }
    let kept = held.absorbed.values().filter(|state| **state != Absorption::Done).count();
    if kept >= Configuration::ABSORBED_MAX {
        return Err(Rejection::Full { max: Configuration::ABSORBED_MAX });
    }
    held.absorbed.insert(cluster, Absorption::Offered);
    forget_absorbed(held, cluster);
    Ok(Applied::Changed)
}

/// Keeps to the bound: an absorption that is over goes, never an offer that still binds nor a cluster
/// that was abandoned. A straggler of a cluster that is forgotten is left to an operator.
fn forget_absorbed(held: &mut Configuration, entered: ClusterId) {
    if held.absorbed.len() <= Configuration::ABSORBED_MAX {
        return;
    }
    let over = |(id, state): &(&ClusterId, &Absorption)| {
        **state == Absorption::Done && **id != entered && !held.bringing.contains_key(id)
    };
    let victim = held.absorbed.iter().find(over).map_or(entered, |(id, _)| *id);
    held.absorbed.remove(&victim);
}

pub(super) fn absorbed(held: &mut Configuration, cluster: ClusterId) -> Result<Applied, Rejection> {
    // What was abandoned may still hold databases somewhere: nobody's word changes that.
    if matches!(held.absorbed.get(&cluster), Some(Absorption::Done | Absorption::Abandoned)) {
        return Ok(Applied::Unchanged);
    }
    held.absorbed.insert(cluster, Absorption::Done);
    forget_absorbed(held, cluster);
    Ok(Applied::Changed)
}

pub(super) fn dissolve(
    held: &mut Configuration,
    into: ClusterId,
    addresses: &[SocketAddr],
) -> Result<Applied, Rejection> {
    if !held.databases.is_empty() {
        return Err(Rejection::HoldsDatabases);
    }
    end(held, into, addresses, false)
}

/// This cluster ends, unless it is taking in others, or keeps names for one, whatever it has been told of
/// that one's end, or has taken in the one that it is to go to.
pub(super) fn end(
    held: &mut Configuration,
    into: ClusterId,
    addresses: &[SocketAddr],
    brings: bool,
) -> Result<Applied, Rejection> {
    let offered = held.absorbed.values().any(|state| *state == Absorption::Offered);
    if offered || !held.bringing.is_empty() {
        return Err(Rejection::Absorbing);
    }
    if held.absorbed.contains_key(&into) {
        // An old request of a cluster that has ended since.
        return Err(Rejection::IntoEnded { into });
    }
    let addresses = addresses.iter().copied().take(16).collect();
    held.dissolved_into = Some(Dissolved { into, addresses, brings });
    Ok(Applied::Changed)
}

pub(super) fn recover(
    held: &mut Configuration,
    cluster: ClusterId,
    survivor: NodeId,
) -> Result<Applied, Rejection> {
    let server = server_mut(held, survivor)?;
    server.status = ServerStatus::Online;
    server.role = Role::Master;
    server.replaces = None;
    held.servers.retain(|id, _| *id == survivor);
    held.turns = vec![survivor];
    found_alone(held, survivor);
    placement::adapt(held);
    // Whoever is left of the old cluster and holds no database may join this one.
    // Whoever was to bring something may have dissolved by now, and is awaited here.
    held.absorbed.retain(|cluster, _| held.bringing.contains_key(cluster));
    held.absorbed.insert(held.cluster, Absorption::Abandoned);
    held.cluster = cluster;
    Ok(Applied::Changed)
}

/// A log that was never known to begin begins with the survivor alone: nobody else is left to.
fn found_alone(held: &mut Configuration, survivor: NodeId) {
    let version = held.version.next();
    placement::change_shards(held, |shard| {
        let founding = shard.founding.as_ref()?;
        let alone = founding.unborn.contains(&survivor) && shard.copies.contains_key(&survivor);
        let founding = alone.then(|| Founding {
            origin: founding.origin,
            ..Founding::new([survivor].into(), survivor, version)
        });
        Some(super::Shard { founding, ..shard.clone() })
    });
}
