//! `<properties>`: those that mean something here, each with its line.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use quorate_core::configuration::AutoRemove;

use super::super::error::{ConfigError, Place};
use super::super::note::Notes;
use super::super::xml::Node;
use super::read::{attributes, number};

type Result<T> = std::result::Result<T, ConfigError>;

/// A value and where it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Where.
    pub place: Place,
}

/// The properties that mean something to Quorate; `None`: not in the file. Seconds throughout.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Properties {
    /// `hazelcast.wait.seconds.before.join` (Hazelcast: 5): how long to look before founding.
    pub wait_before_join: Option<At<u32>>,
    /// `hazelcast.max.wait.seconds.before.join` (20): how long founding may be put off in all.
    pub max_wait_before_join: Option<At<u32>>,
    /// `hazelcast.max.join.seconds` (300): when Hazelcast gives up joining. Quorate goes on.
    pub max_join: Option<At<u32>>,
    /// `hazelcast.heartbeat.interval.seconds` (5), at least 1.
    pub heartbeat_interval: Option<At<u32>>,
    /// `hazelcast.max.no.heartbeat.seconds` (300; OrientDB ships 30), at least 1.
    pub max_no_heartbeat: Option<At<u32>>,
    /// `hazelcast.merge.first.run.delay.seconds` (300).
    pub merge_first_run_delay: Option<At<u32>>,
    /// `hazelcast.merge.next.run.delay.seconds` (120; OrientDB ships 15).
    pub merge_next_run_delay: Option<At<u32>>,
    /// `hazelcast.initial.min.cluster.size` (0).
    pub initial_min_cluster_size: Option<At<u32>>,
    /// `hazelcast.tcp.join.port.try.count` (3), at least 1.
    pub tcp_join_port_try_count: Option<At<u32>>,
    /// `distributed.autoRemoveOfflineServers`, a setting of the OrientDB server.
    pub auto_remove: Option<At<AutoRemove>>,
}

/// About ten years: what is meant by such a number is "never".
const SECONDS_MAX: u32 = 315_360_000;

pub(super) fn read(node: &Node<'_>, notes: &mut Notes) -> Result<Properties> {
    let mut properties = Properties::default();
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    attributes(node, &[], notes);
    for child in node.children() {
        // Hazelcast also takes <the.name>value</the.name>.
        let name = match (child.name(), child.attribute("name")) {
            ("property", Some(name)) => name,
            ("property", None) => {
                let missing = "attribute name";
                return Err(ConfigError::Missing { place: child.place(), missing });
            }
            (name, _) => name,
        };
        let mut place = child.place();
        if child.name() == "property" {
            let shown: String = name.chars().take(80).collect();
            place.path.push_str(&format!("[{shown}]"));
        }
        let name = name.to_ascii_lowercase();
        if !property(&mut properties, &name, child.text(), &place)? {
            notes.info(place, "is ignored: it has no meaning here");
        } else if seen.insert(name, place.line).is_some() {
            notes.warn(place, "stands here again; this one counts");
        }
    }
    Ok(properties)
}

/// Reads one property; false if it is none of those that mean something.
fn property(all: &mut Properties, name: &str, text: &str, place: &Place) -> Result<bool> {
    if name == "distributed.autoremoveofflineservers" {
        all.auto_remove = Some(At { value: auto_remove(text, place)?, place: place.clone() });
        return Ok(true);
    }
    let (slot, range, unit) = match name {
        "hazelcast.wait.seconds.before.join" => (&mut all.wait_before_join, 0..=86_400, SECONDS),
        "hazelcast.max.wait.seconds.before.join" => {
            (&mut all.max_wait_before_join, 0..=86_400, SECONDS)
        }
        "hazelcast.max.join.seconds" => (&mut all.max_join, 0..=SECONDS_MAX, SECONDS),
        "hazelcast.heartbeat.interval.seconds" => (&mut all.heartbeat_interval, 1..=3_600, SECONDS),
        "hazelcast.max.no.heartbeat.seconds" => {
            (&mut all.max_no_heartbeat, 1..=SECONDS_MAX, SECONDS)
        }
        "hazelcast.merge.first.run.delay.seconds" => {
            (&mut all.merge_first_run_delay, 0..=SECONDS_MAX, SECONDS)
        }
        "hazelcast.merge.next.run.delay.seconds" => {
            (&mut all.merge_next_run_delay, 0..=SECONDS_MAX, SECONDS)
        }
        "hazelcast.initial.min.cluster.size" => {
            (&mut all.initial_min_cluster_size, 0..=SERVERS_MAX, " of servers")
        }
        "hazelcast.tcp.join.port.try.count" => {
            (&mut all.tcp_join_port_try_count, 1..=65_535, " of ports")
        }
        _ => return Ok(false),
    };
    *slot = Some(At { value: ranged(text, &range, unit, place)?, place: place.clone() });
    Ok(true)
}

const SECONDS: &str = " of seconds";
/// [`quorate_core::configuration::Configuration::SERVERS_MAX`] in the type of the property.
const SERVERS_MAX: u32 = 64;

fn ranged(text: &str, range: &RangeInclusive<u32>, unit: &str, place: &Place) -> Result<u32> {
    number(text, range).ok_or_else(|| {
        let allowed = format!("a whole number{unit} from {} to {}", range.start(), range.end());
        ConfigError::value(place.clone(), text, allowed)
    })
}

/// What `autoRemoveOfflineServers` may be, for messages.
pub(in crate::config) const AUTO_REMOVE: &str =
    "-1 (never), 0 (at once) or a whole number of milliseconds";

fn auto_remove(text: &str, place: &Place) -> Result<AutoRemove> {
    let number = text.parse::<i64>().ok();
    number
        .and_then(auto_remove_of)
        .ok_or_else(|| ConfigError::value(place.clone(), text, AUTO_REMOVE))
}

/// −1, 0 and milliseconds; `None` for other negative numbers.
pub(in crate::config) fn auto_remove_of(number: i64) -> Option<AutoRemove> {
    match number {
        -1 => Some(AutoRemove::Never),
        0 => Some(AutoRemove::AtOnce),
        _ => u64::try_from(number).ok().map(AutoRemove::AfterMs),
    }
}
