//! The TCP/IP member list: from what a person wrote to addresses to dial.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use thiserror::Error;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::error::Bounds;
use super::hazelcast::Hazelcast;
use super::interfaces::Interfaces;
use super::pattern::AddressPattern;
use super::ports::Port;

/// How long one name may take to resolve.
const LOOKUP_LIMIT: Duration = Duration::from_secs(5);
/// How many names are resolved at once: each takes a thread while it lasts.
const LOOKUPS_AT_ONCE: usize = 16;

/// One entry of the list.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Member {
    /// One address or, by a wildcard or range in the last octet, several.
    Addresses {
        /// Which.
        pattern: AddressPattern,
        /// The port; `None`: see [`Members`].
        port: Option<u16>,
    },
    /// A name, which may resolve to many addresses.
    Host {
        /// The name.
        name: String,
        /// The port; `None`: see [`Members`].
        port: Option<u16>,
    },
}

/// What an entry may look like, for messages.
pub(crate) const MEMBER_SYNTAX: &str = "a host, host:port, or an IPv4 address with a range or * \
     in the last octet, such as 192.168.1.0-7:2434 or 192.168.1.* (ports 1 to 65535)";

impl Member {
    /// Reads one entry; `None` if `text` is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = split_port(text)?;
        if let Some(pattern) = AddressPattern::parse(host) {
            return pattern.is_listable().then_some(Self::Addresses { pattern, port });
        }
        is_host_name(host).then(|| Self::Host { name: host.to_owned(), port })
    }
}

/// Splits `host`, `host:port`, `v6`, `[v6]` or `[v6]:port`.
pub(crate) fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    let number = |port: &str| {
        let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        port.parse::<u16>().ok().filter(|n| digits && *n > 0)
    };
    if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        let port = match after.strip_prefix(':') {
            Some(port) => Some(number(port)?),
            None if after.is_empty() => None,
            None => return None,
        };
        return host.contains(':').then_some((host, port));
    }
    match text.split_once(':') {
        None => Some((text, None)),
        Some((_, rest)) if rest.contains(':') => Some((text, None)),
        Some((host, port)) => Some((host, Some(number(port)?))),
    }
}

/// Whether DNS or `/etc/hosts` could know such a name. Underscores are allowed, since container
/// networks use them. A last label of digits alone is a mistyped address, not a name.
pub(crate) fn is_host_name(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let last = name.rsplit('.').next().unwrap_or(name);
    name.len() <= 253
        && name.split('.').all(label)
        && !last.bytes().all(|b| b.is_ascii_digit() || b == b'-')
}

/// The list, with what is needed to turn it into addresses.
///
/// An entry without a port stands for several ports, because with auto-increment a node may have
/// taken a later one: the first [`port_tries`](Self::port_tries) ports from the configured port on, by
/// default three, as in Hazelcast (`hazelcast.tcp.join.port.try.count`), and never more than the
/// port's own `port-count`. The fourth node of a host finds the others at the first three; those
/// tell it of everyone else. Without auto-increment it is the configured port alone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Members {
    /// `member`, `members` and `interface`, merged, in the order of the file, none twice; the
    /// required member, if any, is the first.
    pub list: Vec<Member>,
    /// `required-member`.
    pub required: Option<Member>,
    /// The ports of the nodes.
    pub port: Port,
    /// How many ports an entry without one stands for.
    pub port_tries: u16,
    /// Names resolve only to addresses that these allow.
    pub interfaces: Interfaces,
}

/// The list stands for more than [`Bounds::CANDIDATES`] addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error(
    "the member list stands for {count} addresses with their ports, but at most {max} may be \
     tried; narrow the ranges, or give each entry its port"
)]
pub struct TooManyCandidates {
    /// For how many.
    pub count: u64,
    /// How many are allowed.
    pub max: usize,
}

/// What the list says before any name is resolved.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Candidates {
    /// Addresses, in the order of the list, none twice.
    pub addresses: Vec<SocketAddr>,
    /// Names, each with the ports to try at every address that it resolves to.
    pub hosts: Vec<(String, Vec<u16>)>,
}

/// What the list says after names were resolved.
#[derive(Debug, Default)]
pub struct Resolved {
    /// Addresses, none twice, at most [`Bounds::CANDIDATES`].
    pub addresses: Vec<SocketAddr>,
    /// Names that did not resolve this time. Not fatal: they may later.
    pub failed: Vec<(String, io::Error)>,
    /// How many addresses were left out because there were more than the bound.
    pub left_out: usize,
}

impl Members {
    /// The ports that an entry stands for.
    fn ports(&self, port: Option<u16>) -> Vec<u16> {
        match port {
            Some(port) => vec![port],
            None => self.port.ports().take(usize::from(self.port_tries.max(1))).collect(),
        }
    }

    /// The pure part: ranges and wildcards become addresses, names stay names.
    ///
    /// # Errors
    /// [`TooManyCandidates`], before anything is expanded.
    pub fn expand(&self) -> Result<Candidates, TooManyCandidates> {
        let count = self.list.iter().fold(0_u64, |sum, member| {
            let (addresses, port) = match member {
                Member::Addresses { pattern, port } => (pattern.count(), *port),
                Member::Host { port, .. } => (1, *port),
            };
            let ports = u64::try_from(self.ports(port).len()).unwrap_or(u64::MAX);
            sum.saturating_add(addresses.saturating_mul(ports))
        });
        if count > u64::try_from(Bounds::CANDIDATES).unwrap_or(u64::MAX) {
            return Err(TooManyCandidates { count, max: Bounds::CANDIDATES });
        }
        let mut candidates = Candidates::default();
        let mut seen = BTreeSet::new();
        for member in &self.list {
            match member {
                Member::Addresses { pattern, port } => {
                    let ports = self.ports(*port);
                    for ip in pattern.addresses() {
                        let all = ports.iter().map(|port| SocketAddr::new(ip, *port));
                        candidates.addresses.extend(all.filter(|address| seen.insert(*address)));
                    }
                }
                Member::Host { name, port } => {
                    candidates.hosts.push((name.clone(), self.ports(*port)));
                }
            }
        }
        Ok(candidates)
    }

    /// Expands the list and asks the system's resolver for its names, sixteen at a
    /// time and each for at most five seconds. A name that does not resolve is reported, not
    /// fatal. Call it again from time to time: containers and their addresses come and go.
    ///
    /// # Errors
    /// [`TooManyCandidates`], as [`expand`](Self::expand).
    pub async fn resolve(&self) -> Result<Resolved, TooManyCandidates> {
        let Candidates { addresses, hosts } = self.expand()?;
        let mut seen: BTreeSet<SocketAddr> = addresses.iter().copied().collect();
        let mut resolved = Resolved { addresses, ..Resolved::default() };
        for batch in hosts.chunks(LOOKUPS_AT_ONCE) {
            let mut lookups = JoinSet::new();
            for (at, (name, _)) in batch.iter().enumerate() {
                let name = name.clone();
                lookups.spawn(async move { (at, lookup(&name).await) });
            }
            let mut answers: Vec<_> = lookups.join_all().await;
            answers.sort_by_key(|(at, _)| *at);
            for ((_, answer), (name, ports)) in answers.into_iter().zip(batch) {
                match answer {
                    Ok(ips) => self.add(&mut resolved, &mut seen, &ips, ports),
                    Err(error) => resolved.failed.push((name.clone(), error)),
                }
            }
        }
        Ok(resolved)
    }

    fn add(
        &self,
        resolved: &mut Resolved,
        seen: &mut BTreeSet<SocketAddr>,
        ips: &[IpAddr],
        ports: &[u16],
    ) {
        for ip in ips.iter().filter(|ip| self.interfaces.allow(**ip)) {
            for port in ports {
                let address = SocketAddr::new(*ip, *port);
                if seen.contains(&address) {
                    continue;
                }
                if resolved.addresses.len() < Bounds::CANDIDATES {
                    seen.insert(address);
                    resolved.addresses.push(address);
                } else {
                    resolved.left_out += 1;
                }
            }
        }
    }
}

/// Asks the system's resolver, for at most [`LOOKUP_LIMIT`].
pub(crate) async fn lookup(name: &str) -> io::Result<Vec<IpAddr>> {
    match timeout(LOOKUP_LIMIT, tokio::net::lookup_host((name, 0))).await {
        Ok(answer) => Ok(answer?.map(|address| address.ip()).collect()),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the name server did not answer")),
    }
}

impl Members {
    /// How many ports an entry without one stands for, unless the file says otherwise.
    pub const PORT_TRIES: u16 = 3;

    /// The list of a file, its required member first; `None` unless `<tcp-ip>` is enabled.
    #[must_use]
    pub fn of(hazelcast: &Hazelcast) -> Option<Self> {
        let network = &hazelcast.network;
        let tcp_ip = Some(&network.join.tcp_ip).filter(|tcp_ip| tcp_ip.enabled)?;
        let required = tcp_ip.required_member.clone();
        let mut list: Vec<Member> = required.iter().cloned().collect();
        list.extend(tcp_ip.members.iter().filter(|m| Some(*m) != required.as_ref()).cloned());
        let tries = hazelcast.properties.tcp_join_port_try_count.as_ref();
        let port_tries = tries.and_then(|tries| u16::try_from(tries.value).ok());
        Some(Self {
            list,
            required,
            port: network.port,
            port_tries: port_tries.unwrap_or(Self::PORT_TRIES),
            interfaces: network.interfaces.clone(),
        })
    }
}
