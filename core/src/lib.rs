//! The part of Quorate that *decides*: a pure, deterministic state machine.
//!
//! No sockets, files, clock, threads or operating-system randomness in here: one [`Node`] runs
//! unchanged in production, driven by `quorate-io`, and in the simulator, driven by `quorate-sim`.
//!
//! # The contract
//!
//! One thing happens at a time, and everything it causes comes out before the next:
//!
//! ```text
//! node.handle(now, input)          one thing happened
//! node.poll_output() -> Option     drain until None before the next handle
//! node.next_timeout() -> Option    when Input::Timer is due, unless something happens before
//! ```
//!
//! * `now` never goes back. It is monotonic, not wall-clock time.
//! * Storage is asynchronous. [`Output::Persist`] goes out, [`Input::Persisted`] comes back, in
//!   order; whatever rests on a write is held back until then. After a crash any prefix of the
//!   writes that were outstanding may have survived.
//! * The adapter authenticates links and encrypts them; core trusts the [`NodeId`] of a link and
//!   nothing else. Every byte is decoded by [`wire`], whose bounds hold whatever was sent.
//! * [`Output::Stop`] is the last output. What it says decides whether the directory may be reused.
//!
//! The canonical loop, complete and compiled:
//!
//! ```
//! use quorate_core::{Input, Node, NodeConfig, NodeId, Output, Recovered, Time};
//!
//! let config = NodeConfig::loopback("demo", 2434);
//! let mut node = Node::new(config, Recovered::fresh(NodeId(7)), [0; 32], Time::ZERO);
//! let mut now = Time::ZERO;
//! for _ in 0..100 {
//!     // Drain: a real adapter writes, sends and dials here.
//!     let mut durable = Vec::new();
//!     while let Some(output) = node.poll_output() {
//!         if let Output::Persist { id, .. } = output {
//!             durable.push(id);
//!         }
//!     }
//!     // Something happens: a write has become durable, or the next timer is due.
//!     if let Some(id) = durable.pop() {
//!         node.handle(now, Input::Persisted { id });
//!     } else if let Some(due) = node.next_timeout() {
//!         now = now.max(due);
//!         node.handle(now, Input::Timer);
//!     }
//! }
//! // Alone, it has founded a cluster after the wait.
//! assert!(node.status(now).cluster.is_some());
//! ```
#![forbid(unsafe_code)]

pub mod client;
pub mod configuration;
pub mod copies;
pub mod engine;
mod faults;
mod ids;
pub mod marks;
pub mod measures;
pub mod node;
pub mod raft;
mod recover;
pub mod shard;
mod storage;
mod time;
pub mod wire;

pub use faults::Fault;
pub use ids::{
    ClusterId, CommandId, ConfigVersion, DatabaseId, Generation, Index, LinkId, LogId, NodeId,
    PersistId, Start, Term,
};
pub use node::{
    Command, CommandError, Counters, DialError, Event, Input, NoQuorum, Node, NodeConfig, Output,
    Reply, State, Status, StopReason, SyncStart, Timings,
};
pub use raft::Limits;
pub use recover::{RecoverError, Recovery, recover_unsafe};
pub use storage::{HardState, Identity, OnDisk, Recovered, RecoveredLog, StorageOp, Window};
pub use time::Time;

#[cfg(quorate_faults)]
pub use faults::{active as has_fault, set as set_fault};
