//! What *happens* in a real node: sockets, multicast, the handshake, the log store, config files.
//!
//! Nothing in here decides: decisions are `quorate-core`'s, and this crate carries them out.

pub mod config;
pub mod net;
pub mod store;
