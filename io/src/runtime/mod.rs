//! Drives a [`quorate_core::Node`] with real sockets, a real disk and the real clock.

mod handle;

pub use handle::{Handle, Inbox, Layout, Stopped, channel};
