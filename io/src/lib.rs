//! What *happens* in a real node: sockets, multicast, the handshake, the log store, the
//! database engine, config files.
//!
//! Nothing in here decides: decisions are `quorate-core`'s, and this crate carries them out.

#![deny(unsafe_code)]

#[cfg(feature = "client")]
pub mod client;
pub mod config;
#[cfg(feature = "node")]
pub mod copies;
#[cfg(feature = "node")]
pub mod engine;
mod lull;
pub mod net;
#[cfg(feature = "node")]
pub mod runtime;
pub mod store;
