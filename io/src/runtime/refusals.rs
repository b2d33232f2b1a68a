//! How often the refusal of one host is said: a stranger knocks every second, from ever new ports.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

/// Between two log lines about one host.
const AGAIN: Duration = Duration::from_secs(60);
/// How many hosts are remembered; while so many are, further ones are not logged.
const HOSTS_MAX: usize = 64;

/// Remembers which hosts were logged of late, and how often they came since.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    hosts: BTreeMap<IpAddr, (Instant, u32)>,
}

impl Refusals {
    /// Whether to log that `host` was refused, and then how many refusals before went unlogged.
    pub(super) fn due(&mut self, host: IpAddr, now: Instant) -> Option<u32> {
        let recent = |said: Instant| now.duration_since(said) < AGAIN;
        let not_logged = match self.hosts.get_mut(&host) {
            Some((said, times)) if recent(*said) => {
                *times = times.saturating_add(1);
                return None;
            }
            Some((_, times)) => *times,
            None => 0,
        };
        if self.hosts.len() >= HOSTS_MAX {
            self.hosts.retain(|_, (said, _)| recent(*said));
        }
        if self.hosts.len() >= HOSTS_MAX {
            return None;
        }
        self.hosts.insert(host, (now, 0));
        Some(not_logged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_knocks_all_the_time_is_logged_once_a_minute_with_a_count() {
        let (mut refusals, begin) = (Refusals::default(), Instant::now());
        let host = IpAddr::from([10, 0, 0, 7]);
        let logged: Vec<(u64, u32)> = (0..180)
            .filter_map(|s| Some((s, refusals.due(host, begin + Duration::from_secs(s))?)))
            .collect();
        assert_eq!(logged, [(0, 0), (60, 59), (120, 59)]);
        assert_eq!(refusals.due(IpAddr::from([10, 0, 0, 8]), begin), Some(0), "others are heard");
    }

    #[test]
    fn ever_new_hosts_are_bounded_and_forgotten() {
        let (mut refusals, begin) = (Refusals::default(), Instant::now());
        let host = |n: u32| IpAddr::from(n.to_be_bytes());
        let logged = (0..10_000).filter(|n| refusals.due(host(*n), begin).is_some()).count();
        assert_eq!((logged, refusals.hosts.len()), (HOSTS_MAX, HOSTS_MAX));
        assert_eq!(refusals.due(host(20_000), begin + AGAIN), Some(0));
        assert_eq!(refusals.hosts.len(), 1);
    }
}
