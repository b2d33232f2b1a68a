//! The simulator: a seeded world that drives real [`quorate_core::Node`]s and attacks them.
//!
//! ```text
//! seed -> Plan (which faults exist, rates, hosts) -> schedule (faults in time) -> World -> Report
//! ```
//!
//! The world holds hosts (a clock, a directory on a disk, a process), a network of datagrams and
//! streams, and one queue of events. After every event the checks look at what was written, sent
//! and decided; at the end of the schedule every fault is healed and the nodes must become one
//! healthy cluster by a deadline, or there must be a reason that has a name.
//!
//! One thread, one queue, no clock and no map with a random order: a seed is a run, bit for bit.
#![forbid(unsafe_code)]

pub mod checks;
pub mod cli;
pub mod clock;
pub mod counts;
pub mod disk;
pub mod hash;
pub mod liveness;
pub mod messengers;
pub mod network;
pub mod outcome;
pub mod plan;
pub mod queue;
pub mod random;
mod run;
pub mod shrink;
pub mod trace;
pub mod view;
pub mod world;

pub use outcome::{Report, Violation};
pub use run::{Options, run, run_plan, run_plan_twice, run_twice};
