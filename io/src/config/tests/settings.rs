//! From the files to what a node is started with.

use std::net::Ipv4Addr;
use std::time::Duration;

use quorate_core::Timings;
use quorate_core::configuration::{AutoRemove, Defaults};

use super::super::{DatabaseConfig, Hazelcast, Level, Note, Settings, Variables};

fn of(xml: &str) -> (Settings, Vec<Note>) {
    let read = Hazelcast::parse("x.xml", xml.as_bytes(), &Variables::none()).expect("accepted").0;
    Settings::new(Some(read), None).expect("settings")
}

/// A file with these properties (the part of the name after `hazelcast.`) and nothing else.
fn with(properties: &[(&str, u32)]) -> String {
    let all: String = properties
        .iter()
        .map(|(name, value)| format!("\n<property name='hazelcast.{name}'>{value}</property>"))
        .collect();
    format!("<hazelcast><properties>{all}</properties></hazelcast>")
}

const INTERVAL: &str = "heartbeat.interval.seconds";
const LIMIT: &str = "max.no.heartbeat.seconds";
const WAIT: &str = "wait.seconds.before.join";
const MAX_WAIT: &str = "max.wait.seconds.before.join";

fn warnings(notes: &[Note]) -> usize {
    notes.iter().filter(|note| note.level == Level::Warning).count()
}

#[test]
fn without_files_quorates_own_timings_and_orientdbs_network_hold() {
    let (settings, notes) = Settings::new(None, None).expect("settings");
    assert_eq!(settings.timings, Timings::default());
    assert_eq!(settings.group, "orientdb");
    assert!(settings.password_is_public());
    assert_eq!(settings.port.first, 2434);
    let multicast = settings.multicast.expect("on");
    assert_eq!((multicast.group, multicast.port), (Ipv4Addr::new(235, 1, 1, 1), 2434));
    assert_eq!((multicast.time_to_live, multicast.loopback), (32, false));
    assert!(settings.members.is_none() && settings.encryption.is_none());
    assert_eq!(settings.defaults, Defaults::default());
    assert!(notes.is_empty());
}

#[test]
fn orientdbs_default_files_keep_elections_fast_and_their_own_limits() {
    let (settings, notes) = of(include_str!("../testdata/orientdb-2.2-hazelcast.xml"));
    let expected = Timings {
        max_no_heartbeat: Duration::from_secs(30),
        found_wait: Duration::from_secs(5),
        defer_wait: Duration::from_secs(6),
        ..Timings::default()
    };
    assert_eq!(settings.timings, expected);
    assert_eq!(warnings(&notes), 0, "{notes:#?}");
}

#[test]
fn every_row_reaches_the_settings() {
    let (settings, _) = of(include_str!("../testdata/full-hazelcast.xml"));
    assert_eq!((settings.group.as_str(), settings.password.expose()), ("shop", "<p&w>"));
    assert!(!settings.password_is_public());
    assert!(settings.multicast.is_none());
    let members = settings.members.expect("on");
    assert_eq!((members.list.len(), members.port_tries), (7, 2));
    assert!(members.required.is_some());
    let encryption = settings.encryption.expect("on");
    assert_eq!((encryption.algorithm.as_str(), encryption.salt.as_str()), ("Blowfish", "sea"));
    assert_eq!(encryption.iteration_count, 4096);
    assert_eq!(settings.connect_timeout, Duration::from_secs(11));
    assert_eq!(settings.defaults.expect, 3);
    assert_eq!(settings.defaults.auto_remove, AutoRemove::Never);
    assert_eq!(settings.timings.heartbeat, Duration::from_millis(200));
    assert_eq!(settings.timings.max_no_heartbeat, Duration::from_secs(60));
    assert_eq!(settings.timings.found_wait, Duration::from_secs(3));
}

#[test]
fn the_leaders_heartbeat_stays_well_below_the_election_time_whatever_the_interval() {
    for (interval, heartbeat_ms) in [(1, 100), (5, 100), (10, 200), (50, 1_000), (3_600, 1_000)] {
        let (settings, _) = of(&with(&[(INTERVAL, interval), (LIMIT, interval * 6)]));
        let timings = settings.timings;
        assert_eq!(timings.heartbeat, Duration::from_millis(heartbeat_ms), "{interval}");
        assert_eq!(timings.election_min, timings.heartbeat * 3);
        assert_eq!(timings.election_max, timings.heartbeat * 6);
        assert!(timings.heartbeat <= Duration::from_secs(u64::from(interval)));
    }
}

#[test]
fn a_limit_below_three_intervals_is_a_warning_and_kept() {
    let (settings, notes) = of(&with(&[(INTERVAL, 5), (LIMIT, 14)]));
    assert_eq!(settings.timings.max_no_heartbeat, Duration::from_secs(14));
    let shown: Vec<String> = notes.iter().map(ToString::to_string).collect();
    let expected = "x.xml:3: hazelcast/properties/property[hazelcast.max.no.heartbeat.seconds]: is \
                    less than three heartbeat intervals: a short pause may remove healthy servers; \
                    15 or more is safe";
    assert!(shown.contains(&expected.to_owned()), "{shown:#?}");
    assert_eq!(warnings(&of(&with(&[(INTERVAL, 5), (LIMIT, 15)])).1), 0);
}

#[test]
fn a_limit_near_the_election_time_is_a_warning() {
    assert_eq!(warnings(&of(&with(&[(LIMIT, 1)])).1), 1);
    assert_eq!(warnings(&of(&with(&[(LIMIT, 2)])).1), 0);
}

#[test]
fn an_interval_without_a_limit_leaves_room_for_lost_heartbeats() {
    let limit = |interval| of(&with(&[(INTERVAL, interval)])).0.timings.max_no_heartbeat;
    assert_eq!(limit(5), Duration::from_secs(30));
    assert_eq!(limit(20), Duration::from_secs(120));
    assert_eq!(limit(1), Duration::from_secs(6));
}

#[test]
fn a_wait_of_nothing_still_listens_for_two_announcements() {
    let (settings, notes) = of(&with(&[(WAIT, 0)]));
    assert_eq!(settings.timings.found_wait, settings.timings.announce_seeking * 2);
    assert_eq!(warnings(&notes), 1);
}

#[test]
fn a_node_defers_longer_than_the_other_waits() {
    let (settings, _) = of(&with(&[(WAIT, 7)]));
    assert_eq!(settings.timings.found_wait, Duration::from_secs(7));
    assert!(settings.timings.defer_wait > settings.timings.found_wait);
}

#[test]
fn the_longest_wait_bounds_both_waits_together() {
    let (settings, notes) = of(&with(&[(WAIT, 5), (MAX_WAIT, 8)]));
    assert_eq!(settings.timings.found_wait, Duration::from_secs(5));
    assert_eq!(settings.timings.defer_wait, Duration::from_secs(3));
    assert_eq!(warnings(&notes), 0);
    let (settings, notes) = of(&with(&[(WAIT, 5), (MAX_WAIT, 2)]));
    assert_eq!(settings.timings.found_wait, Duration::from_secs(5));
    assert_eq!(warnings(&notes), 1);
}

#[test]
fn the_multicast_timeout_counts_when_there_is_no_wait() {
    let xml = |enabled: bool, properties: &str| {
        format!(
            "<hazelcast><network><join><multicast enabled='{enabled}'>\
             <multicast-timeout-seconds>4</multicast-timeout-seconds></multicast></join></network>\
             <properties>{properties}</properties></hazelcast>"
        )
    };
    let found_wait = |xml: &str| of(xml).0.timings.found_wait;
    assert_eq!(found_wait(&xml(true, "")), Duration::from_secs(4));
    assert_eq!(found_wait(&xml(false, "")), Timings::default().found_wait);
    let wait = "<property name='hazelcast.wait.seconds.before.join'>6</property>";
    assert_eq!(found_wait(&xml(true, wait)), Duration::from_secs(6));
}

#[test]
fn the_removal_time_of_the_json_wins_over_the_property_with_a_warning() {
    let xml = b"<hazelcast><properties>\
        <property name='distributed.autoRemoveOfflineServers'>100</property></properties>\
        </hazelcast>";
    let hazelcast = Hazelcast::parse("x.xml", xml, &Variables::none()).expect("accepted").0;
    let (settings, notes) = Settings::new(Some(hazelcast.clone()), None).expect("settings");
    assert_eq!(settings.defaults.auto_remove, AutoRemove::AfterMs(100));
    assert_eq!(warnings(&notes), 0);
    let json = DatabaseConfig::parse("x.json", br#"{"autoRemoveOfflineServers": -1}"#);
    let json = json.expect("accepted").0;
    let (settings, notes) = Settings::new(Some(hazelcast), Some(json)).expect("settings");
    assert_eq!(settings.defaults.auto_remove, AutoRemove::Never);
    assert_eq!(warnings(&notes), 1);
}
