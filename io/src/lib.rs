//! What *happens* in a real Quorate node: tokio, sockets, the log store, configuration files.
//!
//! Nothing in here decides anything; that is `quorate-core`'s.

pub mod config;
pub mod net;
pub mod runtime;
pub mod store;
