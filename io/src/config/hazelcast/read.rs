//! From the tree of elements to [`Hazelcast`], but for `<join>` and `<properties>`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use super::super::error::ConfigError;
use super::super::interfaces::Patterns;
use super::super::note::Notes;
use super::super::pattern::{AddressPattern, PATTERN_SYNTAX};
use super::super::ports::{PORTS_SYNTAX, joined, parse_outbound_ports};
use super::super::public::PublicAddress;
use super::super::secret::Secret;
use super::super::xml::Node;
use super::{Group, Hazelcast, Network, SymmetricEncryption, join, properties};

type Result<T> = std::result::Result<T, ConfigError>;

/// Elements that may stand once in `<hazelcast>`, as in Hazelcast 3.6 to 3.12.
const ONCE: [&str; 16] = [
    "group",
    "network",
    "properties",
    "instance-name",
    "license-key",
    "management-center",
    "partition-group",
    "listeners",
    "serialization",
    "services",
    "security",
    "member-attributes",
    "native-memory",
    "lite-member",
    "hot-restart-persistence",
    "user-code-deployment",
];

pub(super) fn hazelcast(root: &Node<'_>, notes: &mut Notes) -> Result<Hazelcast> {
    let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
    let mut read = Hazelcast {
        group: Group::default(),
        network: Network::default(),
        properties: properties::Properties::default(),
    };
    attributes(root, &["id"], notes);
    for child in root.children() {
        if ONCE.contains(&child.name()) {
            let line = child.element.line;
            if let Some(first) = seen.insert(child.name(), line) {
                return Err(ConfigError::Duplicate { place: child.place(), first });
            }
        }
        match child.name() {
            "group" => read.group = group(&child, notes)?,
            "network" => read.network = network(&child, notes)?,
            "properties" => read.properties = properties::read(&child, notes)?,
            "import" => notes.warn(
                child.place(),
                "is ignored: Quorate reads one file; copy what it imports into this one",
            ),
            "cluster-name" => notes.warn(
                child.place(),
                "is ignored: it is an element of Hazelcast 4; write <group><name>",
            ),
            _ => ignored(&child, notes),
        }
    }
    if !seen.contains_key("group") {
        notes.info(root.place(), "has no <group>: group and password are orientdb");
    }
    match root.children().find(|child| child.name() == "network") {
        Some(network) => join::check_candidates(&network, &read)?,
        None => join::nobody_is_looked_for(root, notes),
    }
    Ok(read)
}

/// Says that an element is not used.
pub(super) fn ignored(node: &Node<'_>, notes: &mut Notes) {
    let message = match node.name() {
        "ssl" => "is ignored: every byte between nodes is always encrypted",
        _ => "is ignored: it has no meaning here",
    };
    notes.info(node.place(), message);
}

/// Says which attributes of `node` are not used.
pub(super) fn attributes(node: &Node<'_>, known: &[&str], notes: &mut Notes) {
    for (name, _) in &node.element.attributes {
        if !known.contains(&name.as_str()) {
            notes.info(node.attribute_place(name), "is ignored: it has no meaning here");
        }
    }
}

/// Says that an element which counts once stands again; the later one counts, as in Hazelcast.
pub(super) fn repeated(node: &Node<'_>, seen: &mut BTreeSet<String>, notes: &mut Notes) {
    if !seen.insert(node.name().to_owned()) {
        notes.warn(node.place(), "stands here again; this one counts");
    }
}

/// `enabled` and the like: Hazelcast's words, and their opposites.
fn word(text: &str) -> Option<bool> {
    let is = |words: &[&str]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is(&["true", "yes", "on"]) {
        Some(true)
    } else if is(&["false", "no", "off"]) {
        Some(false)
    } else {
        None
    }
}

const BOOLEAN: &str = "true, yes, on, false, no or off";

/// An attribute that is true or false; `None` if it is missing.
pub(super) fn flag(node: &Node<'_>, name: &str) -> Result<Option<bool>> {
    let Some(text) = node.attribute(name) else { return Ok(None) };
    let refused = || ConfigError::value(node.attribute_place(name), text, BOOLEAN);
    word(text).map(Some).ok_or_else(refused)
}

/// A whole number within `range`.
pub(super) fn number(text: &str, range: &RangeInclusive<u32>) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| digits && range.contains(number))
}

fn between(range: &RangeInclusive<u32>, unit: &str) -> String {
    format!("a whole number{unit} from {} to {}", range.start(), range.end())
}

/// The text of `node` as a number.
pub(super) fn text_number(node: &Node<'_>, range: RangeInclusive<u32>, unit: &str) -> Result<u32> {
    number(node.text(), &range).ok_or_else(|| node.refused(between(&range, unit)))
}

/// The text of `node` as a port.
pub(super) fn port(node: &Node<'_>) -> Result<u16> {
    let port = number(node.text(), &(1..=65_535)).and_then(|port| u16::try_from(port).ok());
    port.ok_or_else(|| node.refused("a port from 1 to 65535"))
}

/// An attribute as a number; `None` if it is missing.
pub(super) fn attribute_number(
    node: &Node<'_>,
    name: &str,
    range: RangeInclusive<u32>,
    unit: &str,
) -> Result<Option<u32>> {
    let Some(text) = node.attribute(name) else { return Ok(None) };
    let refused = || ConfigError::value(node.attribute_place(name), text, between(&range, unit));
    number(text, &range).map(Some).ok_or_else(refused)
}

fn group(node: &Node<'_>, notes: &mut Notes) -> Result<Group> {
    let mut group = Group::default();
    let mut seen = BTreeSet::new();
    attributes(node, &[], notes);
    for child in node.children() {
        repeated(&child, &mut seen, notes);
        match child.name() {
            "name" => {
                let fits = (1..=255).contains(&child.text().len());
                if !fits || child.text().chars().any(char::is_control) {
                    return Err(child.refused("a name of 1 to 255 bytes on one line"));
                }
                child.text().clone_into(&mut group.name);
            }
            "password" => {
                if child.text().is_empty() {
                    notes.warn(child.place(), "is empty: anyone who knows the group name can join");
                }
                group.password = Secret::new(child.text().to_owned());
            }
            _ => ignored(&child, notes),
        }
    }
    Ok(group)
}

fn network(node: &Node<'_>, notes: &mut Notes) -> Result<Network> {
    let mut network = Network::default();
    let mut seen = BTreeSet::new();
    let mut joins = join::Reader::default();
    attributes(node, &[], notes);
    for child in node.children() {
        if child.name() != "join" {
            repeated(&child, &mut seen, notes);
        }
        match child.name() {
            "port" => port_element(&child, &mut network, notes)?,
            "outbound-ports" => network.outbound_ports = outbound_ports(&child, notes)?,
            "reuse-address" => {
                network.reuse_address = word(child.text()).ok_or_else(|| child.refused(BOOLEAN))?;
            }
            "public-address" => network.public_address = public_address(&child)?,
            "interfaces" => interfaces(&child, &mut network, notes)?,
            "join" => joins.read(&child, notes)?,
            "symmetric-encryption" => network.encryption = encryption(&child, notes)?,
            _ => ignored(&child, notes),
        }
    }
    network.join = joins.finish(node, notes);
    Ok(network)
}

fn port_element(node: &Node<'_>, network: &mut Network, notes: &mut Notes) -> Result<()> {
    attributes(node, &["auto-increment", "port-count"], notes);
    if !node.text().is_empty() {
        network.port.first = port(node)?;
    }
    if let Some(auto_increment) = flag(node, "auto-increment")? {
        network.port.auto_increment = auto_increment;
    }
    if let Some(count) = attribute_number(node, "port-count", 1..=65_535, "")? {
        network.port.count = u16::try_from(count).unwrap_or(u16::MAX);
    }
    Ok(())
}

fn outbound_ports(node: &Node<'_>, notes: &mut Notes) -> Result<Vec<(u16, u16)>> {
    let mut ranges = Vec::new();
    let mut any = false;
    attributes(node, &[], notes);
    for child in node.children() {
        if child.name() != "ports" {
            ignored(&child, notes);
            continue;
        }
        let ports =
            parse_outbound_ports(child.text()).ok_or_else(|| child.refused(PORTS_SYNTAX))?;
        any |= ports.is_empty() && !child.text().is_empty();
        ranges.extend(ports);
    }
    Ok(if any { Vec::new() } else { joined(ranges) })
}

fn public_address(node: &Node<'_>) -> Result<Option<PublicAddress>> {
    if node.text().is_empty() {
        return Ok(None);
    }
    let parsed = PublicAddress::parse(node.text());
    let allowed = "host or host:port, with a port from 1 to 65535";
    parsed.map(Some).ok_or_else(|| node.refused(allowed))
}

fn interfaces(node: &Node<'_>, network: &mut Network, notes: &mut Notes) -> Result<()> {
    attributes(node, &["enabled"], notes);
    let enabled = flag(node, "enabled")?.unwrap_or(false);
    let patterns = unless_off(enabled, patterns(node, notes), notes)?.unwrap_or_default();
    if enabled && patterns.0.is_empty() {
        return Err(ConfigError::Missing { place: node.place(), missing: "<interface>" });
    }
    network.interfaces.enabled = enabled;
    network.interfaces.patterns = patterns;
    Ok(())
}

/// The `<interface>` elements in `node`.
pub(super) fn patterns(node: &Node<'_>, notes: &mut Notes) -> Result<Patterns> {
    let mut patterns = Patterns::default();
    for child in node.children() {
        if child.name() != "interface" {
            ignored(&child, notes);
            continue;
        }
        let pattern = AddressPattern::parse(child.text());
        patterns.0.push(pattern.ok_or_else(|| child.refused(PATTERN_SYNTAX))?);
    }
    Ok(patterns)
}

/// A mistake in a block that is off is a warning: it says nothing until it is switched on.
pub(super) fn unless_off<T>(
    enabled: bool,
    read: Result<T>,
    notes: &mut Notes,
) -> Result<Option<T>> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(ConfigError::Value { place, value, allowed }) if !enabled => {
            notes.warn(
                place,
                format!(
                    "{value:?} would not be allowed if this were enabled; allowed is {allowed}"
                ),
            );
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The passphrase of Hazelcast's manual, which it also takes when there is none.
const EXAMPLE: &str = "thepass";

fn encryption(node: &Node<'_>, notes: &mut Notes) -> Result<SymmetricEncryption> {
    attributes(node, &["enabled"], notes);
    let enabled = flag(node, "enabled")?.unwrap_or(false);
    let read = unless_off(enabled, encryption_content(node, notes), notes)?;
    let encryption = SymmetricEncryption { enabled, ..read.unwrap_or_default() };
    if enabled {
        if [EXAMPLE, ""].contains(&encryption.password.expose()) {
            notes.warn(
                node.place(),
                "has no passphrase of its own in <password>, so it adds nothing to the security",
            );
        }
        notes.info(
            node.place(),
            "passphrase, salt and count go into the key; the cipher is always a modern \
             authenticated one, whatever <algorithm> says",
        );
    }
    Ok(encryption)
}

fn encryption_content(node: &Node<'_>, notes: &mut Notes) -> Result<SymmetricEncryption> {
    let mut encryption = SymmetricEncryption::default();
    let mut seen = BTreeSet::new();
    for child in node.children() {
        repeated(&child, &mut seen, notes);
        match child.name() {
            "algorithm" => child.text().clone_into(&mut encryption.algorithm),
            "salt" => child.text().clone_into(&mut encryption.salt),
            "password" => encryption.password = Secret::new(child.text().to_owned()),
            "iteration-count" => {
                encryption.iteration_count = text_number(&child, 1..=10_000_000, "")?;
            }
            _ => ignored(&child, notes),
        }
    }
    Ok(encryption)
}
