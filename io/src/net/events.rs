//! What the transport tells the runtime.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use quorate_core::{DialError, LinkId, NodeId};
use thiserror::Error;

use super::frame::FrameError;

/// Something that happened. All but the last mean what [`quorate_core::Input`] says of them.
#[derive(Debug)]
pub enum NetEvent {
    /// A link is open, authenticated and encrypted.
    LinkUp {
        /// Its name, never used again.
        link: LinkId,
        /// The other end.
        peer: NodeId,
        /// The address that was dialled; `None` if the peer dialled.
        dialed: Option<SocketAddr>,
    },
    /// A link is gone.
    LinkDown {
        /// Which.
        link: LinkId,
    },
    /// A dial came to nothing.
    DialFailed {
        /// What was dialled.
        addr: SocketAddr,
        /// Why.
        error: DialError,
    },
    /// A peer dialled and could not prove that it knows group, password and settings.
    PeerRefused {
        /// From where it came.
        from: SocketAddr,
    },
    /// One packet, whole and decrypted.
    Packet {
        /// On which link.
        link: LinkId,
        /// Its bytes.
        bytes: Bytes,
    },
    /// A datagram of the multicast group, from a trusted address.
    Datagram {
        /// From where.
        from: SocketAddr,
        /// What it holds.
        bytes: Bytes,
    },
    /// Something for the log; core does not need to know.
    Trouble(Trouble),
}

/// Something an operator may want to know. Said when it begins, not each time it is noticed.
#[derive(Debug, Error)]
pub enum Trouble {
    /// A node of another version, dialled or dialling.
    #[error(
        "the node at {peer} speaks version {theirs} of the node protocol, this one version \
         {ours}: run versions of Quorate that fit together"
    )]
    VersionMismatch {
        /// Where it is.
        peer: SocketAddr,
        /// Its version.
        theirs: u16,
        /// This node's.
        ours: u16,
    },
    /// Two processes have one node id.
    #[error(
        "the node at {peer} has the id of this node: one data directory is a copy of the other; \
         the older one stops by itself once it meets a server that knows so: if neither does, stop \
         the one that is not wanted, and start it again with an empty directory"
    )]
    SameNodeId {
        /// Where the other one is.
        peer: SocketAddr,
    },
    /// Something that is no node, dialled or dialling.
    #[error("what is at {peer} is no Quorate node: check the member list and the port")]
    NotQuorate {
        /// Where it is.
        peer: SocketAddr,
    },
    /// Connections come faster than their handshakes end.
    #[error("too many connections are in their handshake: {from} was sent away")]
    TooManyHandshakes {
        /// From where.
        from: SocketAddr,
    },
    /// Too many links.
    #[error("there are {max} links already: {peer} was sent away")]
    TooManyLinks {
        /// From where.
        peer: SocketAddr,
        /// The bound.
        max: usize,
    },
    /// Connections cannot be accepted for the moment.
    #[error("connections cannot be accepted: {error}; is the limit of open files too low?")]
    Accept {
        /// What the system said.
        error: io::Error,
    },
    /// A peer does not read what is sent to it.
    #[error("the node {peer} does not read: {queued_bytes} bytes wait, its link is closed")]
    SlowPeer {
        /// Which link.
        link: LinkId,
        /// Which node.
        peer: NodeId,
        /// How much waits.
        queued_bytes: usize,
    },
    /// What came on a link, or was to go out on it, is no stream of packets.
    #[error("the link to the node {peer} is closed: {error}")]
    BadFrame {
        /// Which link.
        link: LinkId,
        /// Which node.
        peer: NodeId,
        /// What was wrong.
        error: FrameError,
    },
    /// Multicast on an interface does not work for the moment; it is tried again.
    #[error("multicast on {interface} does not work: {error}; it is tried again every second")]
    MulticastFailing {
        /// Which interface.
        interface: String,
        /// What the system said.
        error: io::Error,
    },
    /// Multicast on an interface works, for the first time or again.
    #[error("multicast on {interface} works")]
    MulticastWorks {
        /// Which interface.
        interface: String,
    },
    /// An interface that was used for multicast is gone or down; it is awaited.
    #[error("the interface {interface} is gone or down; multicast goes on there when it is back")]
    InterfaceGone {
        /// Which interface.
        interface: String,
    },
    /// There is nothing to multicast on.
    #[error("no interface is up that multicast may use; waiting for one")]
    NoMulticastInterface,
}

/// What was refused and dropped since the start.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct NetCounters {
    /// Peers that could not prove that they know the credentials.
    pub peers_refused: u64,
    /// Connections that were closed before a handshake: too many at once.
    pub handshakes_turned_away: u64,
    /// Handshakes that ended in time-out, loss or garbage.
    pub handshakes_broken: u64,
    /// Links closed because of what came on them.
    pub links_bad: u64,
    /// Links closed because the peer did not read.
    pub links_slow: u64,
    /// Datagrams above the bound.
    pub datagrams_oversized: u64,
    /// Datagrams from addresses that are not trusted.
    pub datagrams_untrusted: u64,
    /// Datagrams dropped because the runtime was behind, or the socket was full.
    pub datagrams_dropped: u64,
    /// Datagrams delivered.
    pub datagrams_received: u64,
    /// Links opened.
    pub links_opened: u64,
}
