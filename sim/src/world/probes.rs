//! After the last fault: every shard that can decide takes a write through every node.

use super::World;
use super::clients::Request;
use quorate_core::shard::Reply;

impl World {
    pub(super) fn probe_answered(&mut self, _host: usize, _request: &Request, _reply: &Reply) {}
}
