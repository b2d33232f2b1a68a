//! `<join>`: how the others are found.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::super::error::{Bounds, ConfigError};
use super::super::members::{MEMBER_SYNTAX, Member, Members};
use super::super::note::Notes;
use super::super::secret::Secret;
use super::super::xml::Node;
use super::read::{
    attribute_number, attributes, flag, ignored, patterns, port, repeated, text_number, unless_off,
};
use super::{Aws, Discovery, Hazelcast, Join, Multicast, TcpIp};

type Result<T> = std::result::Result<T, ConfigError>;

/// What Hazelcast 3.12 has beyond those of 3.8.
const CLOUDS: [&str; 3] = ["gcp", "azure", "eureka"];
const USE_TCP_IP: &str = "use <multicast>, or list the nodes in <tcp-ip>";
const USE_SERVICE_DNS: &str = "use <tcp-ip> with the headless service's DNS name as <member>: it may resolve to many addresses";
/// Up to a day.
const TIMEOUT: std::ops::RangeInclusive<u32> = 1..=86_400;

/// Reads every `<join>` of a `<network>`; a second one adds to the first, as in Hazelcast.
#[derive(Default)]
pub(super) struct Reader {
    join: Join,
    /// The element that is enabled.
    enabled: Option<String>,
    /// Whether there was a `<join>` at all.
    any: bool,
}

impl Reader {
    pub(super) fn read(&mut self, node: &Node<'_>, notes: &mut Notes) -> Result<()> {
        self.any = true;
        attributes(node, &[], notes);
        for child in node.children() {
            match child.name() {
                "multicast" => {
                    self.join.multicast = multicast(&child, notes)?;
                    self.only_one(&child, self.join.multicast.enabled)?;
                }
                "tcp-ip" => {
                    self.join.tcp_ip = tcp_ip(&child, notes)?;
                    self.only_one(&child, self.join.tcp_ip.enabled)?;
                }
                "aws" => {
                    let (enabled, aws) = aws(&child, notes)?;
                    self.join.aws = aws;
                    self.not_built(&child, enabled, USE_TCP_IP)?;
                }
                "kubernetes" => {
                    let enabled = flag(&child, "enabled")?.unwrap_or(false);
                    self.not_built(&child, enabled, USE_SERVICE_DNS)?;
                    let service_dns = text_of(&child, "service-dns");
                    let name = child.name().to_owned();
                    self.join.discovery.push(Discovery { name, service_dns });
                    is_off(&child, notes);
                }
                "discovery-strategies" => self.strategies(&child, notes)?,
                name if CLOUDS.contains(&name) => {
                    let enabled = flag(&child, "enabled")?.unwrap_or(false);
                    self.not_built(&child, enabled, USE_TCP_IP)?;
                    is_off(&child, notes);
                }
                _ => ignored(&child, notes),
            }
        }
        Ok(())
    }

    fn strategies(&mut self, node: &Node<'_>, notes: &mut Notes) -> Result<()> {
        for child in node.children() {
            if child.name() != "discovery-strategy" {
                ignored(&child, notes);
                continue;
            }
            let enabled = flag(&child, "enabled")?.unwrap_or(false);
            self.not_built(&child, enabled, USE_SERVICE_DNS)?;
            let name = child.attribute("class").unwrap_or_default().to_owned();
            self.join.discovery.push(Discovery { name, service_dns: service_dns(&child) });
            is_off(&child, notes);
        }
        Ok(())
    }

    fn only_one(&mut self, node: &Node<'_>, enabled: bool) -> Result<()> {
        if !enabled {
            return Ok(());
        }
        match self.enabled.replace(node.name().to_owned()) {
            Some(first) if first != node.name() => Err(ConfigError::Joiners {
                place: node.place(),
                first: format!("<{first}>"),
                second: format!("<{}>", node.name()),
            }),
            _ => Ok(()),
        }
    }

    fn not_built(&mut self, node: &Node<'_>, enabled: bool, instead: &'static str) -> Result<()> {
        self.only_one(node, enabled)?;
        if enabled {
            return Err(ConfigError::NotBuilt { place: node.place(), instead });
        }
        Ok(())
    }

    pub(super) fn finish(self, network: &Node<'_>, notes: &mut Notes) -> Join {
        if self.enabled.is_none() {
            nobody_is_looked_for(network, notes);
        }
        self.join
    }
}

/// A file that enables no joiner describes a node on its own. Rarely what is meant.
pub(super) fn nobody_is_looked_for(node: &Node<'_>, notes: &mut Notes) {
    notes.warn(
        node.place(),
        "enables neither <multicast> nor <tcp-ip> in <join>: this node looks for no other",
    );
}

fn is_off(node: &Node<'_>, notes: &mut Notes) {
    notes.info(node.place(), "is ignored: it is not enabled");
}

fn text_of(node: &Node<'_>, name: &str) -> Option<String> {
    node.children().find(|child| child.name() == name).map(|child| child.text().to_owned())
}

/// `<properties><property name="service-dns">`.
fn service_dns(strategy: &Node<'_>) -> Option<String> {
    let properties = strategy.children().find(|child| child.name() == "properties")?;
    let found = properties.children().find(|child| child.attribute("name") == Some("service-dns"));
    found.map(|child| child.text().to_owned())
}

fn seconds(number: u32) -> Duration {
    Duration::from_secs(u64::from(number))
}

fn multicast(node: &Node<'_>, notes: &mut Notes) -> Result<Multicast> {
    attributes(node, &["enabled", "loopbackmodeenabled"], notes);
    let enabled = flag(node, "enabled")?.unwrap_or(false);
    let loopback = flag(node, "loopbackmodeenabled")?.unwrap_or(false);
    let read = unless_off(enabled, multicast_content(node, notes), notes)?;
    Ok(Multicast { enabled, loopback, ..read.unwrap_or_default() })
}

fn multicast_content(node: &Node<'_>, notes: &mut Notes) -> Result<Multicast> {
    let mut multicast = Multicast::default();
    let mut seen = BTreeSet::new();
    for child in node.children() {
        repeated(&child, &mut seen, notes);
        match child.name() {
            "multicast-group" => {
                let group = child.text().parse::<Ipv4Addr>().ok().filter(Ipv4Addr::is_multicast);
                multicast.group = group.ok_or_else(|| {
                    child.refused("an IPv4 multicast address, 224.0.0.0 to 239.255.255.255")
                })?;
            }
            "multicast-port" => multicast.port = port(&child)?,
            "multicast-time-to-live" | "multicast-time-to-live-seconds" => {
                let hops = text_number(&child, 0..=255, " of hops")?;
                multicast.time_to_live = u8::try_from(hops).unwrap_or(u8::MAX);
            }
            "multicast-timeout-seconds" => {
                let limit = text_number(&child, TIMEOUT, " of seconds")?;
                multicast.timeout = Some(seconds(limit));
            }
            "trusted-interfaces" => multicast.trusted = patterns(&child, notes)?,
            _ => ignored(&child, notes),
        }
    }
    Ok(multicast)
}

fn tcp_ip(node: &Node<'_>, notes: &mut Notes) -> Result<TcpIp> {
    attributes(node, &["enabled", "connection-timeout-seconds"], notes);
    let enabled = flag(node, "enabled")?.unwrap_or(false);
    let read = unless_off(enabled, tcp_ip_content(node, notes), notes)?;
    let tcp_ip = TcpIp { enabled, ..read.unwrap_or_default() };
    if enabled && tcp_ip.members.is_empty() && tcp_ip.required_member.is_none() {
        return Err(ConfigError::Missing { place: node.place(), missing: "<member>" });
    }
    if enabled && tcp_ip.required_member.is_some() {
        notes.warn(
            node.place(),
            "<required-member> is tried first, but this node joins through any other too; \
             to keep small groups from deciding alone, start every node with --expect",
        );
    }
    Ok(tcp_ip)
}

fn tcp_ip_content(node: &Node<'_>, notes: &mut Notes) -> Result<TcpIp> {
    let mut tcp_ip = TcpIp::default();
    if let Some(limit) =
        attribute_number(node, "connection-timeout-seconds", TIMEOUT, " of seconds")?
    {
        tcp_ip.connection_timeout = seconds(limit);
    }
    for child in node.children() {
        match child.name() {
            "member" | "members" | "interface" => add_members(&child, &mut tcp_ip.members)?,
            "member-list" => {
                for entry in child.children() {
                    match entry.name() {
                        "member" => add_members(&entry, &mut tcp_ip.members)?,
                        _ => ignored(&entry, notes),
                    }
                }
            }
            "required-member" if child.text().is_empty() => {}
            "required-member" => {
                let member = member(&child, child.text())?;
                if matches!(&member, Member::Addresses { pattern, .. } if pattern.count() != 1) {
                    return Err(child.refused("one host or host:port"));
                }
                tcp_ip.required_member = Some(member);
            }
            _ => ignored(&child, notes),
        }
    }
    Ok(tcp_ip)
}

/// Adds what an element lists. Hazelcast splits at commas, semicolons and spaces.
fn add_members(node: &Node<'_>, members: &mut Vec<Member>) -> Result<()> {
    let pieces = node.text().split([',', ';', ' ', '\t', '\n', '\r']);
    for piece in pieces.filter(|piece| !piece.is_empty()) {
        let member = member(node, piece)?;
        if members.contains(&member) {
            continue;
        }
        if members.len() >= Bounds::CANDIDATES {
            let (place, max) = (node.place(), Bounds::CANDIDATES);
            return Err(ConfigError::Bound { place, max, what: "members" });
        }
        members.push(member);
    }
    Ok(())
}

fn member(node: &Node<'_>, text: &str) -> Result<Member> {
    Member::parse(text).ok_or_else(|| ConfigError::value(node.place(), text, MEMBER_SYNTAX))
}

/// That the list stays within its bound, said with the line of the block.
pub(super) fn check_candidates(network: &Node<'_>, read: &Hazelcast) -> Result<()> {
    let Some(Err(error)) = Members::of(read).map(|members| members.expand()) else { return Ok(()) };
    let place = network
        .children()
        .filter(|child| child.name() == "join")
        .flat_map(|join| {
            let blocks = join.children().filter(|child| child.name() == "tcp-ip");
            blocks.map(|block| block.place()).collect::<Vec<_>>()
        })
        .last()
        .unwrap_or_else(|| network.place());
    let allowed = format!("at most {}: narrow the ranges, or give each entry its port", error.max);
    Err(ConfigError::value(place, &format!("{} addresses and ports", error.count), allowed))
}

fn aws(node: &Node<'_>, notes: &mut Notes) -> Result<(bool, Aws)> {
    attributes(node, &["enabled", "connection-timeout-seconds"], notes);
    let enabled = flag(node, "enabled")?.unwrap_or(false);
    let mut aws = Aws::default();
    let limit = attribute_number(node, "connection-timeout-seconds", TIMEOUT, " of seconds");
    if let Some(Some(limit)) = unless_off(enabled, limit, notes)? {
        aws.connection_timeout = seconds(limit);
    }
    for child in node.children() {
        let text = child.text().to_owned();
        match child.name() {
            "access-key" => aws.access_key = Some(Secret::new(text)),
            "secret-key" => aws.secret_key = Some(Secret::new(text)),
            "iam-role" => aws.iam_role = Some(text),
            "region" => aws.region = text,
            "host-header" => aws.host_header = text,
            "security-group-name" => aws.security_group_name = Some(text),
            "tag-key" => aws.tag_key = Some(text),
            "tag-value" => aws.tag_value = Some(text),
            "hz-port" => aws.hz_port = Some(text),
            _ => ignored(&child, notes),
        }
    }
    Ok((enabled, aws))
}
