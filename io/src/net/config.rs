//! What the transport is told once, at its start.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::credentials::Credentials;
use super::filter::AddressFilter;

/// The first port that is tried unless another is configured.
pub const PORT_DEFAULT: u16 = 2434;
/// How many ports are tried by default (`port-count` of `hazelcast.xml`).
pub const PORT_COUNT_DEFAULT: u16 = 100;

/// Everything the transport needs to know. [`NetConfig::new`] gives the defaults.
#[derive(Clone, Debug)]
pub struct NetConfig {
    /// What both ends of a link must prove to know.
    pub credentials: Credentials,
    /// The address to listen on; unspecified (`0.0.0.0`, `::`) means all.
    pub bind: IpAddr,
    /// The first port to try; 0 lets the system choose.
    pub port: u16,
    /// Whether the next port is tried when one is taken.
    pub port_auto_increment: bool,
    /// How many ports are tried; ignored unless `port_auto_increment`. At least 1 is tried.
    pub port_count: u16,
    /// The port that is tried before all others, if it is one of those that may be taken: where the
    /// node listened last, so that it is found again where it was.
    pub port_preferred: Option<u16>,
    /// `SO_REUSEADDR` on the listener: a restarted node gets its port back at once.
    pub reuse_address: bool,
    /// The ports that dialled connections may come from; empty: the system chooses.
    pub outbound_ports: Vec<RangeInclusive<u16>>,
    /// What others are told to dial, when it differs from the bound address.
    pub public_address: Option<PublicAddress>,
    /// The `interfaces` filter: which of this host's addresses may be used. Empty: all.
    pub interfaces: AddressFilter,
    /// Multicast discovery; `None`: off.
    pub multicast: Option<MulticastConfig>,
    /// Bounds and time-outs.
    pub limits: NetLimits,
}

/// The address that others are told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PublicAddress {
    /// The address.
    pub ip: IpAddr,
    /// The port; `None`: the one that was bound.
    pub port: Option<u16>,
}

/// How announcements are multicast (IPv4).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MulticastConfig {
    /// The group.
    pub group: Ipv4Addr,
    /// The UDP port, the same on all nodes.
    pub port: u16,
    /// How many routers a datagram may pass; 1 stays on the wire, 0 on the host.
    pub ttl: u8,
    /// Whether other nodes of this host get what this one sends over a real interface. On the
    /// loopback interface they always do.
    pub loopback: bool,
    /// Whose datagrams are heeded (`trusted-interfaces`). Empty: everyone's.
    pub trusted: AddressFilter,
    /// Between two looks at the host's interfaces, to join again on one that has come back.
    pub poll: Duration,
}

impl Default for MulticastConfig {
    /// The group and port that OrientDB ships, other nodes of the host included.
    fn default() -> Self {
        Self {
            group: Ipv4Addr::new(235, 1, 1, 1),
            port: 2434,
            ttl: 32,
            loopback: true,
            trusted: AddressFilter::default(),
            poll: Duration::from_secs(1),
        }
    }
}

/// Every bound and time-out of the transport.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NetLimits {
    /// How long a TCP connection may take to open.
    pub connect_timeout: Duration,
    /// How long a handshake may take, from the first byte to the last.
    pub handshake_timeout: Duration,
    /// How many incoming connections may be in their handshake at once.
    pub half_open_max: usize,
    /// How many of those may come from one source (an IPv4 address, an IPv6 /64).
    pub half_open_per_source_max: usize,
    /// How long a refusal is held back after a source's first failure; doubles with each one.
    pub penalty_first: Duration,
    /// The longest a refusal is held back.
    pub penalty_max: Duration,
    /// How many dials may be under way at once.
    pub dials_max: usize,
    /// How many links may be open at once.
    pub links_max: usize,
    /// How much may wait to be written on one link, in bytes. A link that would hold more is
    /// closed. At least two packets of the longest kind are always allowed.
    pub write_queue_bytes_max: usize,
    /// How long a link that is closed may take to deliver what was sent on it before.
    pub flush_timeout: Duration,
}

impl Default for NetLimits {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            handshake_timeout: Duration::from_secs(5),
            half_open_max: 256,
            half_open_per_source_max: 64,
            penalty_first: Duration::from_millis(100),
            penalty_max: Duration::from_secs(1),
            dials_max: 512,
            links_max: 1_024,
            write_queue_bytes_max: 64 * 1024 * 1024,
            flush_timeout: Duration::from_secs(2),
        }
    }
}

impl NetConfig {
    /// All addresses, port 2434 or one of the 99 after it, multicast on.
    #[must_use]
    pub fn new(credentials: Credentials) -> Self {
        Self {
            credentials,
            bind: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            port: PORT_DEFAULT,
            port_auto_increment: true,
            port_count: PORT_COUNT_DEFAULT,
            port_preferred: None,
            reuse_address: true,
            outbound_ports: Vec::new(),
            public_address: None,
            interfaces: AddressFilter::default(),
            multicast: Some(MulticastConfig::default()),
            limits: NetLimits::default(),
        }
    }

    /// The ports that may be taken: the first and, with auto-increment, those after it.
    pub(crate) fn ports(&self) -> RangeInclusive<u16> {
        if !self.port_auto_increment || self.port == 0 {
            return self.port..=self.port;
        }
        self.port..=self.port.saturating_add(self.port_count.max(1) - 1)
    }

    /// The same in the order in which they are tried.
    pub(crate) fn ports_in_order(&self) -> impl Iterator<Item = u16> + use<> {
        let preferred = self.port_preferred.filter(|port| self.ports().contains(port));
        preferred.into_iter().chain(self.ports().filter(move |port| Some(*port) != preferred))
    }
}

impl PublicAddress {
    /// The whole address, given the port that was bound.
    pub(crate) fn with_bound_port(self, bound: u16) -> SocketAddr {
        SocketAddr::new(self.ip, self.port.unwrap_or(bound))
    }
}
