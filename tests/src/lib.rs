//! Tests that need real processes: a laboratory of network namespaces, and nodes that run in it.
//!
//! ```no_run
//! use quorate_tests::Lab;
//!
//! let lab = Lab::loopback();
//! let mut nodes = lab.nodes(3);
//! nodes.iter_mut().for_each(|n| n.start());
//! lab.one_cluster(&nodes);
//! nodes[2].kill();
//! ```
//!
//! Nothing leaves the laboratory: every node runs in a namespace that it makes itself, with a
//! loopback interface or a bridge between namespaces and no way out. It needs root and iproute2;
//! where they are missing a test fails, it is never skipped. Dropping a laboratory ends its
//! processes and removes its namespaces; what a killed test left behind, the next one sweeps away.

pub mod binary;
mod clusters;
mod disk;
mod door;
pub mod drivers;
mod lab;
mod line;
mod net;
mod node;
mod proxy;
mod pty;
mod used;
mod view;
mod wait;
pub mod writers;

pub use binary::quorate;
pub use clusters::{Cluster, System};
pub use disk::appends;
pub use door::Door;
pub use lab::{Lab, at_rest, hazelcast};
pub use line::Line;
pub use node::Node;
pub use proxy::{Proxy, exchange};
pub use pty::Pty;
pub use used::{Used, resident_kb, worked_us};
pub use view::{Server, View};
pub use wait::{eventually, holds_for, measure};
