//! `<public-address>`: where others reach this node.

use std::io;
use std::net::{IpAddr, SocketAddr};

use super::members::{is_host_name, lookup, split_port};

/// `host[:port]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublicAddress {
    /// A name or an address.
    pub host: String,
    /// The port; `None`: the one that the node listens on.
    pub port: Option<u16>,
}

impl PublicAddress {
    /// Reads `host`, `host:port`, an IPv6 address, or one in brackets with a port; `None` if
    /// `text` is none of them.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = split_port(text)?;
        let fits = host.parse::<IpAddr>().is_ok() || is_host_name(host);
        fits.then(|| Self { host: host.to_owned(), port })
    }

    /// The address to tell others, for a node that listens on `listen_port`. A name is asked for
    /// once, for at most five seconds, and its first address is taken.
    ///
    /// # Errors
    /// What the system says if the name does not resolve.
    pub async fn resolve(&self, listen_port: u16) -> io::Result<SocketAddr> {
        let port = self.port.unwrap_or(listen_port);
        if let Ok(ip) = self.host.parse::<IpAddr>() {
            return Ok(SocketAddr::new(ip, port));
        }
        let found = lookup(&self.host).await?.first().map(|ip| SocketAddr::new(*ip, port));
        found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
    }
}
