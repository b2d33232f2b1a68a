//! The sockets of multicast, and the options that they need.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket as StdUdpSocket};

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockRef, Socket, Type};
use tokio::net::UdpSocket;

use crate::net::config::MulticastConfig;
use crate::net::interfaces::MulticastInterface;

/// The one socket that receives. Several processes on a host may each have one.
pub(super) fn receiver(group: SocketAddrV4) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    // Elsewhere than on Linux it takes this as well for several processes to share the port.
    #[cfg(all(unix, not(any(target_os = "linux", target_os = "android", target_os = "solaris"))))]
    socket.set_reuse_port(true)?;
    // Linux delivers what any process of the host has joined, on any interface, unless told not to.
    #[cfg(target_os = "linux")]
    socket.set_multicast_all_v4(false)?;
    // Bound to the group, not to all addresses: no unicast datagram of the port strays in here.
    let addr = if cfg!(unix) { *group.ip() } else { Ipv4Addr::UNSPECIFIED };
    socket.bind(&SocketAddr::from((addr, group.port())).into())?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket.into())
}

/// Becomes a member on an interface; already to be one is fine.
pub(super) fn join(receiver: &UdpSocket, group: Ipv4Addr, interface: u32) -> io::Result<()> {
    let interface = InterfaceIndexOrAddress::Index(interface);
    match SockRef::from(receiver).join_multicast_v4_n(&group, &interface) {
        Err(e) if e.kind() == io::ErrorKind::AddrInUse => Ok(()),
        joined => joined,
    }
}

/// Ends the membership on an interface.
pub(super) fn leave(receiver: &UdpSocket, group: Ipv4Addr, interface: u32) -> io::Result<()> {
    let interface = InterfaceIndexOrAddress::Index(interface);
    SockRef::from(receiver).leave_multicast_v4_n(&group, &interface)
}

/// Sends from one interface.
pub(super) struct Sender {
    socket: StdUdpSocket,
    local: SocketAddr,
}

impl Sender {
    pub(super) fn open(
        interface: &MulticastInterface,
        config: &MulticastConfig,
    ) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_multicast_if_v4(&interface.ip)?;
        socket.set_multicast_ttl_v4(u32::from(config.ttl))?;
        socket.set_multicast_loop_v4(config.loopback || interface.ip.is_loopback())?;
        // Its source tells the others where this node is.
        socket.bind(&SocketAddr::from((interface.ip, 0)).into())?;
        socket.set_nonblocking(true)?;
        let socket: StdUdpSocket = socket.into();
        let local = socket.local_addr()?;
        Ok(Self { socket, local })
    }

    pub(super) fn local(&self) -> SocketAddr {
        self.local
    }

    pub(super) fn send(&self, datagram: &[u8], group: SocketAddrV4) -> io::Result<()> {
        self.socket.send_to(datagram, group).map(|_| ())
    }
}
