//! Drives a [`quorate_core::Node`] with real sockets, a real disk and the real clock.
//!
//! One task owns the node and does as core's contract says: one input, then every output, then
//! the next input. It decides nothing. What happens outside reaches it through channels:
//!
//! ```text
//! net::Transport ── events ───┐
//! store (its thread) ─ done ──┤                  ┌── Persist ──> store
//! config::Members ── seeds ───┼─> Runtime::run ──┼── Packet, Dial, Close, Datagram ──> transport
//! Handle (HTTP, signals) ─────┤   owns the Node  ├── Reply ──> Handle
//! timer ──────────────────────┘                  └── Event ──> Handle's listeners, and the log
//! ```

mod copies;
mod driver;
mod engines;
mod entries;
mod handle;
mod mailbox;
mod narrator;
mod refusals;
mod seeds;

pub use driver::{Ended, Runtime, RuntimeError, Setup};
pub use handle::{Handle, Inbox, Layout, NoSnapshot, SqlAnswer, Stopped, channel};

#[cfg(test)]
mod tests;
