//! One node: routes between its machines.

mod api;

pub use api::{
    Command, CommandError, Counters, DialError, Event, Input, NoQuorum, NodeConfig, Output, Reply,
    State, Status, StopReason, Timings,
};

use crate::ids::NodeId;
use crate::raft::Raft;
use crate::storage::Recovered;
use crate::time::Time;

/// One node of a cluster.
#[derive(Debug)]
pub struct Node {}

impl Node {
    /// A node on the directory that holds `recovered`, with one random stream from `seed`.
    /// Its first outputs are there at once.
    #[must_use]
    pub fn new(_config: NodeConfig, _recovered: Recovered, _seed: [u8; 32], _now: Time) -> Self {
        Self {}
    }
    /// One thing happened.
    pub fn handle(&mut self, _now: Time, _input: Input) {}
    /// The next thing to do; `None` when all is drained.
    pub fn poll_output(&mut self) -> Option<Output> {
        None
    }
    /// When [`Input::Timer`] is due.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Time> {
        None
    }
    /// What it knows, for people.
    #[must_use]
    pub fn status(&self, _now: Time) -> Status {
        unreachable!()
    }
    /// Its id.
    #[must_use]
    pub fn id(&self) -> NodeId {
        NodeId(0)
    }
    /// Its replica of the configuration log, once there is one.
    #[must_use]
    pub fn configuration_log(&self) -> Option<&Raft> {
        None
    }
}
