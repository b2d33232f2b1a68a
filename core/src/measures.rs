//! What one node has measured of its own side: how long others take to acknowledge what its logs send,
//! what has gone over its links, and whether the shards that it owns can be written.
//!
//! For people and monitors. Nothing here decides anything, and nothing is kept on the disk.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::configuration::Configuration;
use crate::ids::{LogId, NodeId, Term};
use crate::raft::Latency;
use crate::shard::ShardError;
use crate::wire::PacketKind;

/// What one node has measured.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Measures {
    /// The shards that it owns; at most [`Configuration::LOGS_MAX`].
    pub owned: Vec<Owned>,
    /// How the servers follow the logs of shards that it leads; at most [`Measures::PEERS_MAX`].
    pub followers: Vec<(NodeId, Latency)>,
    /// What went over its links, by the node at the other end; at most [`Measures::PEERS_MAX`].
    pub traffic: Vec<(NodeId, Traffic)>,
}

impl Measures {
    /// Of how many other nodes at most it tells.
    pub const PEERS_MAX: usize = Configuration::SERVERS_MAX;

    /// Whether its lists keep their bounds.
    pub(crate) fn fits(&self) -> bool {
        self.owned.len() <= Configuration::LOGS_MAX
            && self.followers.len() <= Self::PEERS_MAX
            && self.traffic.len() <= Self::PEERS_MAX
    }
}

/// Why a server's measures are not there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoMeasures {
    /// There is no link to it.
    #[error("not in reach")]
    OutOfReach,
    /// It was asked, and did not answer in time.
    #[error("no answer in time")]
    TooLate,
}

/// A shard, as its owner sees it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Owned {
    /// Its log.
    pub log: LogId,
    /// The term in which it is led.
    pub term: Term,
    /// What a write would be refused with at the moment; `None`: it can be written.
    pub refuses: Option<ShardError>,
}

/// What went over the links between two nodes, as one of them counts it, since its start.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Traffic {
    /// Written to the socket, by [`PacketKind`].
    pub sent: [Tally; PacketKind::COUNT],
    /// Read from the socket, whole and authentic, likewise.
    pub received: [Tally; PacketKind::COUNT],
    /// Waiting to be written at the moment.
    pub queued: Tally,
    /// Handed over to be sent, and not written: the link ended before.
    pub dropped: Tally,
    /// How many links there were. Two nodes that dial each other at once open one too many.
    pub links: u64,
}

/// A number of packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Tally {
    /// How many.
    pub messages: u64,
    /// Their bytes together, before they are encrypted.
    pub bytes: u64,
}

impl std::ops::Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { messages: self.messages + other.messages, bytes: self.bytes + other.bytes }
    }
}

impl std::iter::Sum for Tally {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| sum + one)
    }
}
