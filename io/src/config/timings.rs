//! From Hazelcast's seconds to [`Timings`]; the rules stand at [`Settings`](super::Settings).

use std::time::Duration;

use quorate_core::Timings;

use super::error::{ConfigError, Place};
use super::hazelcast::{At, Hazelcast, Properties};
use super::note::Notes;

/// Hazelcast's heartbeat interval is so many of ours.
const RATIO: u32 = 50;
/// The slowest heartbeat of a leader: the election then takes 3 to 6 s.
const HEARTBEAT_MAX: Duration = Duration::from_secs(1);
/// The fewest intervals in a limit.
const LIMIT_INTERVALS: u64 = 3;
/// The limit if there is none, in intervals.
const LIMIT_INTERVALS_USUAL: u64 = 6;
/// How much longer than its own wait a node defers.
const DEFER_MARGIN: Duration = Duration::from_secs(1);

/// The timings of a node with this file.
pub(super) fn of(hazelcast: &Hazelcast, notes: &mut Notes) -> Result<Timings, ConfigError> {
    let mut timings = Timings::default();
    let properties = &hazelcast.properties;
    heartbeat(&mut timings, properties, notes);
    limit(&mut timings, properties, notes)?;
    founding(&mut timings, hazelcast, notes);
    remarks(properties, notes);
    Ok(timings)
}

fn seconds(at: &At<u32>) -> Duration {
    Duration::from_secs(u64::from(at.value))
}

fn heartbeat(timings: &mut Timings, properties: &Properties, notes: &mut Notes) {
    let Some(interval) = &properties.heartbeat_interval else { return };
    let own = timings.heartbeat;
    timings.heartbeat = (seconds(interval) / RATIO).clamp(own, HEARTBEAT_MAX);
    timings.election_min = timings.heartbeat * 3;
    timings.election_max = timings.heartbeat * 6;
    notes.info(
        interval.place.clone(),
        format!(
            "nodes hear from each other at least that often; the leader's own heartbeat is {} ms, \
             so that a new one is found in time",
            timings.heartbeat.as_millis()
        ),
    );
}

fn limit(
    timings: &mut Timings,
    properties: &Properties,
    notes: &mut Notes,
) -> Result<(), ConfigError> {
    let interval = properties.heartbeat_interval.as_ref().map(|at| u64::from(at.value));
    let Some(limit) = &properties.max_no_heartbeat else {
        let usual = Duration::from_secs(interval.unwrap_or(0) * LIMIT_INTERVALS_USUAL);
        timings.max_no_heartbeat = timings.max_no_heartbeat.max(usual);
        return Ok(());
    };
    timings.max_no_heartbeat = seconds(limit);
    let limit_seconds = u64::from(limit.value);
    if let Some(interval_seconds) = interval {
        let least_seconds = interval_seconds * LIMIT_INTERVALS;
        if limit_seconds <= interval_seconds {
            let place = limit.place.clone();
            return Err(ConfigError::HeartbeatLimit {
                place,
                limit_seconds,
                interval_seconds,
                least_seconds,
            });
        }
        if limit_seconds < least_seconds {
            notes.warn(
                limit.place.clone(),
                format!(
                    "is less than three heartbeat intervals: a short pause may remove healthy \
                     servers; {least_seconds} or more is safe"
                ),
            );
            return Ok(());
        }
    }
    if timings.max_no_heartbeat < timings.election_max * 3 {
        notes.warn(
            limit.place.clone(),
            format!(
                "is near the time that an election takes (up to {} ms): a short pause may remove \
                 healthy servers; 2 or more is safe",
                timings.election_max.as_millis()
            ),
        );
    }
    Ok(())
}

fn founding(timings: &mut Timings, hazelcast: &Hazelcast, notes: &mut Notes) {
    let properties = &hazelcast.properties;
    let multicast = &hazelcast.network.join.multicast;
    let wait = match &properties.wait_before_join {
        Some(wait) => Some(seconds(wait)),
        None => multicast.timeout.filter(|_| multicast.enabled),
    };
    if let Some(wait) = wait {
        let least = timings.announce_seeking * 2;
        timings.found_wait = wait.max(least);
        timings.defer_wait = timings.found_wait + DEFER_MARGIN;
        if let Some(at) = properties.wait_before_join.as_ref().filter(|_| wait < least) {
            notes.warn(
                at.place.clone(),
                format!("counts as {} ms: nobody is found in no time", least.as_millis()),
            );
        }
    }
    let Some(most) = &properties.max_wait_before_join else { return };
    if seconds(most) < timings.found_wait {
        notes.warn(most.place.clone(), "is less than the wait before founding, which is kept");
    }
    let rest = seconds(most).saturating_sub(timings.found_wait);
    timings.defer_wait = timings.defer_wait.min(rest.max(DEFER_MARGIN));
}

fn remarks(properties: &Properties, notes: &mut Notes) {
    let mut say = |at: &Option<At<u32>>, message: &str| {
        if let Some(At { place, .. }) = at {
            let place: Place = place.clone();
            notes.info(place, message);
        }
    };
    if properties.initial_min_cluster_size.as_ref().is_some_and(|at| at.value > 1) {
        say(
            &properties.initial_min_cluster_size,
            "nodes start, but no database can be created before so many were members at once",
        );
    }
    say(&properties.max_join, "changes nothing: a node goes on trying until it has joined");
    let merge = "changes nothing: clusters of one name are compared as soon as they meet";
    say(&properties.merge_first_run_delay, merge);
    say(&properties.merge_next_run_delay, merge);
}
