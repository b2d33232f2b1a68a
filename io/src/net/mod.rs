//! The network of a node: links between nodes, and multicast announcements.
//!
//! * [`handshake`]: both ends prove that they know group, password and encryption settings; every
//!   byte after it is encrypted.
//! * [`frame`]: packets on a link.
//! * [`Transport`]: sockets, dials and links, as the runtime sees them.
//!
//! No length that comes from outside is trusted before its bound is checked, and everything that
//! a stranger can make the node hold is bounded: see [`NetLimits`].

mod bind;
mod config;
mod credentials;
mod events;
mod filter;
pub mod frame;
pub mod handshake;
mod interfaces;
mod limits;
mod link;
mod links;
mod multicast;
mod shared;
mod traffic;
mod transport;

#[cfg(test)]
mod tests;

pub use bind::StartError;
pub use config::{
    MulticastConfig, NetConfig, NetLimits, PORT_COUNT_DEFAULT, PORT_DEFAULT, PublicAddress,
};
pub use credentials::{Credentials, EncryptionSettings};
pub use events::{NetCounters, NetEvent, Trouble};
pub use filter::{AddressFilter, AddressPattern, PatternError};
pub use transport::Transport;
