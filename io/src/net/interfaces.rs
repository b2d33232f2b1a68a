//! The addresses of this host, and which of them to use.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr};

use super::filter::AddressFilter;

/// One address of one interface.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct HostAddress {
    /// The system's number of the interface; a new one when it is made anew.
    pub(crate) index: u32,
    /// The interface's name.
    pub(crate) name: String,
    /// The address.
    pub(crate) ip: IpAddr,
    /// Whether the interface is up and has a carrier.
    pub(crate) up: bool,
    /// Whether it leads to one other host only, as tunnels do.
    pub(crate) point_to_point: bool,
}

/// An interface to send to a multicast group and to be a member of it on.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct MulticastInterface {
    /// The system's number of it.
    pub(crate) index: u32,
    /// The address that datagrams come from.
    pub(crate) ip: Ipv4Addr,
    /// Its name.
    pub(crate) name: String,
}

/// All addresses of the host, as they are now.
pub(crate) fn list() -> io::Result<Vec<HostAddress>> {
    let mut all: Vec<HostAddress> = if_addrs::get_if_addrs()?
        .into_iter()
        .map(|found| HostAddress {
            index: found.index.unwrap_or(0),
            up: found.is_oper_up(),
            point_to_point: found.is_p2p(),
            ip: found.ip(),
            name: found.name,
        })
        .collect();
    all.sort();
    Ok(all)
}

/// Where to multicast: 127.0.0.1 alone when bound to loopback; the interface of the bound address
/// when bound to one; otherwise every interface that is up, not loopback, not a tunnel, and let
/// through by the filter. A host that has no network at all uses loopback, so that several nodes
/// on it find each other. One address an interface, the smallest.
pub(crate) fn for_multicast(
    all: &[HostAddress],
    bind: IpAddr,
    filter: &AddressFilter,
) -> BTreeSet<MulticastInterface> {
    let usable = |loopback: bool| {
        let mut chosen = BTreeSet::new();
        for host in all.iter().filter(|h| h.up && h.ip.is_loopback() == loopback) {
            let IpAddr::V4(ip) = host.ip else { continue };
            let seen = chosen.iter().any(|c: &MulticastInterface| c.index == host.index);
            let fits = match bind {
                IpAddr::V4(bound) if !bound.is_unspecified() && !loopback => bound == ip,
                _ => loopback || (filter.allows(host.ip) && !host.point_to_point),
            };
            if fits && !seen {
                chosen.insert(MulticastInterface {
                    index: host.index,
                    ip,
                    name: host.name.clone(),
                });
            }
        }
        chosen
    };
    if bind.is_loopback() {
        return usable(true);
    }
    let has_network = all.iter().any(|h| h.up && h.ip.is_ipv4() && !h.ip.is_loopback());
    usable(!has_network && bind.is_unspecified())
}

/// The address to tell others when listening on all: IPv4 before IPv6, one that is routed before
/// a link-local one, networks before tunnels and the bridges of containers, then the first.
/// `None` when the filter lets none through; loopback when there is nothing else.
pub(crate) fn best(all: &[HostAddress], bind: IpAddr, filter: &AddressFilter) -> Option<IpAddr> {
    let v4_only = bind.is_ipv4();
    let virtual_names = ["docker", "br-", "veth", "virbr", "cni", "flannel", "podman"];
    let rank = |host: &HostAddress| {
        let link_local = match host.ip {
            IpAddr::V4(ip) => ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
        let bridge = virtual_names.iter().any(|n| host.name.starts_with(n));
        (!host.up, link_local, bridge, host.point_to_point, host.ip.is_ipv6(), host.index, host.ip)
    };
    let candidates = all.iter().filter(|h| !h.ip.is_loopback() && filter.allows(h.ip));
    let chosen = candidates.filter(|h| h.ip.is_ipv4() || !v4_only).min_by_key(|h| rank(h));
    match chosen {
        Some(host) => Some(host.ip),
        None if filter.is_empty() => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(index: u32, name: &str, ip: &str) -> HostAddress {
        let ip = ip.parse().unwrap();
        HostAddress { index, name: name.into(), ip, up: true, point_to_point: name == "tun0" }
    }

    fn filter(pattern: &str) -> AddressFilter {
        AddressFilter::new(vec![pattern.parse().unwrap()])
    }

    fn names(chosen: &BTreeSet<MulticastInterface>) -> Vec<&str> {
        chosen.iter().map(|i| i.name.as_str()).collect()
    }

    const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

    fn machine() -> Vec<HostAddress> {
        vec![
            host(1, "lo", "127.0.0.1"),
            host(2, "docker0", "172.17.0.1"),
            host(3, "eth0", "10.0.0.7"),
            host(3, "eth0", "10.0.0.8"),
            host(4, "eth1", "192.168.1.2"),
            host(5, "tun0", "10.9.0.1"),
        ]
    }

    #[test]
    fn multicast_uses_every_network_by_default_and_loopback_alone_when_bound_there() {
        let none = AddressFilter::default();
        assert_eq!(names(&for_multicast(&machine(), ANY, &none)), ["docker0", "eth0", "eth1"]);
        let loopback = "127.0.0.1".parse().unwrap();
        assert_eq!(names(&for_multicast(&machine(), loopback, &none)), ["lo"]);
        let eth1 = "192.168.1.2".parse().unwrap();
        assert_eq!(names(&for_multicast(&machine(), eth1, &none)), ["eth1"]);
        assert_eq!(names(&for_multicast(&machine(), ANY, &filter("10.0.*.*"))), ["eth0"]);
        assert_eq!(names(&for_multicast(&machine()[..1], ANY, &none)), ["lo"]);
    }

    #[test]
    fn an_interface_that_is_down_is_not_used() {
        let mut all = machine();
        all.iter_mut().filter(|h| h.name == "eth0").for_each(|h| h.up = false);
        let none = AddressFilter::default();
        assert_eq!(names(&for_multicast(&all, ANY, &none)), ["docker0", "eth1"]);
        let eth0 = "10.0.0.7".parse().unwrap();
        assert!(for_multicast(&all, eth0, &none).is_empty(), "never falls back to loopback");
    }

    #[test]
    fn the_best_address_is_of_a_real_network_that_the_filter_allows() {
        let none = AddressFilter::default();
        assert_eq!(best(&machine(), ANY, &none), "10.0.0.7".parse().ok());
        assert_eq!(best(&machine(), ANY, &filter("192.168.1.0-9")), "192.168.1.2".parse().ok());
        assert_eq!(best(&machine(), ANY, &filter("11.*.*.*")), None);
        assert_eq!(best(&machine()[..1], ANY, &none), "127.0.0.1".parse().ok());
    }
}
