//! Opening sockets: the listener on the first free port, and connections from allowed ports.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use thiserror::Error;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::config::NetConfig;

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 1_024;

/// The transport cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// Every port that may be used is taken.
    #[error(
        "no free port on {ip}: {first} to {last} are all taken; \
         choose another with --port, or raise port-count in hazelcast.xml"
    )]
    NoFreePort {
        /// Where.
        ip: IpAddr,
        /// The first that was tried.
        first: u16,
        /// The last.
        last: u16,
    },
    /// The one port that may be used is taken.
    #[error(
        "port {port} on {ip} is taken by another process; choose another with --port, \
         or set auto-increment=\"true\" in hazelcast.xml"
    )]
    PortTaken {
        /// Where.
        ip: IpAddr,
        /// Which.
        port: u16,
    },
    /// The address is none of this host's.
    #[error("cannot listen on {ip}: this host has no such address; see --bind and `ip address`")]
    NoSuchAddress {
        /// The address.
        ip: IpAddr,
    },
    /// No interface passes the `interfaces` filter.
    #[error(
        "none of this host's addresses matches <interfaces> {filter}; \
         correct the list in hazelcast.xml, or disable it"
    )]
    NoInterface {
        /// The filter.
        filter: String,
    },
    /// The system refused.
    #[error("cannot listen on {addr}: {error}")]
    Listen {
        /// Where.
        addr: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The interfaces of the host cannot be listed.
    #[error("cannot list this host's network interfaces: {0}")]
    Interfaces(io::Error),
    /// The multicast socket cannot be opened.
    #[error(
        "cannot receive multicast on {group}: {error}; choose another multicast-port, \
         or switch multicast off and list the members under <tcp-ip>"
    )]
    Multicast {
        /// Group and port.
        group: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The group is not one.
    #[error("{0} is no multicast group: use an address from 224.0.0.0 to 239.255.255.255")]
    NotAGroup(std::net::Ipv4Addr),
}

/// Listens on the preferred port, or else the first free one of the configured range.
pub(crate) fn listen(config: &NetConfig) -> Result<TcpListener, StartError> {
    let ports = config.ports();
    let ip = config.bind;
    for port in config.ports_in_order() {
        let addr = SocketAddr::new(ip, port);
        match listen_on(addr, config.reuse_address) {
            Ok(listener) => return Ok(listener),
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => {}
            Err(e) if e.kind() == io::ErrorKind::AddrNotAvailable => {
                return Err(StartError::NoSuchAddress { ip });
            }
            Err(error) => return Err(StartError::Listen { addr, error }),
        }
    }
    let (first, last) = ports.into_inner();
    if first == last {
        return Err(StartError::PortTaken { ip, port: first });
    }
    Err(StartError::NoFreePort { ip, first, last })
}

fn listen_on(addr: SocketAddr, reuse: bool) -> io::Result<TcpListener> {
    let socket = socket_for(addr)?;
    socket.set_reuseaddr(reuse)?;
    socket.bind(addr)?;
    // Two sockets may bind one port with SO_REUSEADDR; only one of them can listen.
    socket.listen(BACKLOG)
}

fn socket_for(addr: SocketAddr) -> io::Result<TcpSocket> {
    if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }
}

/// Where dialled connections come from.
#[derive(Clone, Debug)]
pub(crate) struct Outbound {
    bind: IpAddr,
    ports: Vec<RangeInclusive<u16>>,
    reuse: bool,
}

impl Outbound {
    pub(crate) fn new(config: &NetConfig) -> Self {
        let (bind, reuse) = (config.bind, config.reuse_address);
        Self { bind, ports: config.outbound_ports.clone(), reuse }
    }

    /// Connects from the bound address and one of the allowed ports. `start` says with which of
    /// them to begin, so that dials at one time do not all try the same.
    ///
    /// # Errors
    /// What the system says; `AddrInUse` when every allowed port is taken.
    pub(crate) async fn connect(&self, to: SocketAddr, start: usize) -> io::Result<TcpStream> {
        let ports: Vec<u16> = self.ports.iter().cloned().flatten().collect();
        if ports.is_empty() {
            return self.connect_from(0, to).await;
        }
        let mut last = io::Error::from(io::ErrorKind::AddrInUse);
        for step in 0..ports.len() {
            let port = ports[start.wrapping_add(step) % ports.len()];
            match self.connect_from(port, to).await {
                Err(e) if is_port_taken(&e) => last = e,
                connected => return connected,
            }
        }
        Err(last)
    }

    async fn connect_from(&self, port: u16, to: SocketAddr) -> io::Result<TcpStream> {
        let socket = socket_for(to)?;
        let bound_ip = !self.bind.is_unspecified() && self.bind.is_ipv4() == to.is_ipv4();
        let unspecified = match to {
            SocketAddr::V4(_) => IpAddr::from([0_u8; 4]),
            SocketAddr::V6(_) => IpAddr::from([0_u8; 16]),
        };
        if bound_ip || port != 0 {
            if port != 0 {
                socket.set_reuseaddr(self.reuse)?;
            }
            socket.bind(SocketAddr::new(if bound_ip { self.bind } else { unspecified }, port))?;
        }
        let stream = socket.connect(to).await?;
        // A free local port that is dialled can, by chance, be connected to itself.
        if stream.local_addr()? == stream.peer_addr()? {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

fn is_port_taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable)
}
