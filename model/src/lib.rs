//! Every state that a small cluster can reach: the very [`quorate_core::raft`] machine under the model
//! checker `stateright`.
//!
//! The simulator looks at few paths through large worlds; this looks at all paths through small ones.
//! A [`World`] bounds how often what may happen; within that, anything may happen in any order, and
//! after each step the [`Law`]s must hold.
//!
//! What is true of every world:
//!
//! * **Network.** Whatever was sent may arrive, at any later time, in any order, never, or again and
//!   again. So the network is the set of all that was ever sent, and losing or doubling something needs
//!   no action of its own. What its receiver would ignore for ever is left out ([`network`]).
//! * **Disks.** A write becomes durable at once, or, with slow disks, whenever it likes, in order. A
//!   crash keeps any prefix of what was under way, operation by operation. A process that crashes starts
//!   again in the same step: one that stays down cannot be told from one that nothing reaches.
//! * **Time.** The clock stands still; what time does is a step of its own (`Lapse` in core's `raft`), or
//!   part of the delivery that looks at it. Any timer may go off at any moment, so when one is due, and
//!   what the random generator yields, is no part of a state. Instants are either *of now* or *long
//!   ago*, and hashed as such where both can lead to something else.
//! * **Sameness.** Two states are one if their hashes of 64 bits are equal. With a hundred million
//!   states the chance that any one was mistaken for another is about one in four thousand.
//!
//! Not in any world: logs whose content is apart, compaction and snapshots, damaged disks, reads. An
//! answer to a heartbeat makes what its sender lacks count as lost; it does so only if something is lacking.
#![forbid(unsafe_code)]

mod cluster;
mod history;
mod idle;
mod laws;
pub mod network;
mod quorums;
mod search;
mod show;
mod state;
mod steps;
mod world;
mod worlds;

pub use cluster::{Cluster, Step};
pub use laws::{Broken, Law, Mark};
pub use search::{Outcome, Search, search};
pub use state::{Host, State};
pub use world::{Budget, Disk, World};
