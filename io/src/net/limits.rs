//! What strangers may cost: how many handshakes at once, and how fast passwords may be tried.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::config::NetLimits;

/// How many sources with failures are remembered.
const FAILURES_MAX: usize = 1_024;
/// A source that has not failed for so long is forgotten.
const FAILURES_FORGOTTEN_AFTER: Duration = Duration::from_secs(30);

/// Who is behind an address, as far as limits go: whoever has one IPv6 address has its /64.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Source(IpAddr);

impl From<IpAddr> for Source {
    fn from(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V6(v6) => {
                let prefix = u128::from(v6) & !u128::from(u64::MAX);
                Self(IpAddr::V6(Ipv6Addr::from(prefix)))
            }
            v4 => Self(v4),
        }
    }
}

#[derive(Clone, Copy)]
struct Failures {
    count: u32,
    last: Instant,
}

#[derive(Default)]
struct State {
    open: usize,
    /// Never longer than `open`.
    by_source: HashMap<Source, usize>,
    /// Never longer than [`FAILURES_MAX`].
    failures: HashMap<Source, Failures>,
}

/// Lets incoming connections into their handshake, or not.
pub(crate) struct Gate {
    limits: NetLimits,
    state: Mutex<State>,
}

/// The right to be in a handshake; given back when dropped.
pub(crate) struct Ticket {
    gate: Arc<Gate>,
    source: Source,
}

impl Gate {
    pub(crate) fn new(limits: NetLimits) -> Arc<Self> {
        Arc::new(Self { limits, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a connection in; `None` when too many are in their handshake, of all or of its source.
    pub(crate) fn enter(self: &Arc<Self>, from: IpAddr) -> Option<Ticket> {
        let source = Source::from(from);
        let mut state = self.state();
        let of_source = state.by_source.get(&source).copied().unwrap_or(0);
        if state.open >= self.limits.half_open_max
            || of_source >= self.limits.half_open_per_source_max
        {
            return None;
        }
        state.open += 1;
        state.by_source.insert(source, of_source + 1);
        debug_assert!(state.by_source.len() <= state.open);
        Some(Ticket { gate: self.clone(), source })
    }

    /// Notes a failure and says how long the refusal is to be held back, ticket in hand: so one
    /// source tries at most `half_open_per_source_max` passwords in `penalty_max`. Those who know
    /// the password are never held back, also beside one who does not at the same address.
    pub(crate) fn failed(&self, from: IpAddr, now: Instant) -> Duration {
        let source = Source::from(from);
        let mut state = self.state();
        let known = state.failures.get(&source).copied().filter(|f| f.is_fresh(now));
        if known.is_none() && state.failures.len() >= FAILURES_MAX {
            state.make_room(now);
        }
        let count = known.map_or(0, |f| f.count).saturating_add(1);
        state.failures.insert(source, Failures { count, last: now });
        debug_assert!(state.failures.len() <= FAILURES_MAX);
        let doubled = 1_u32.checked_shl(count - 1).unwrap_or(u32::MAX);
        self.limits.penalty_first.saturating_mul(doubled).min(self.limits.penalty_max)
    }

    /// How many connections are in their handshake.
    pub(crate) fn half_open(&self) -> usize {
        self.state().open
    }
}

impl Failures {
    fn is_fresh(&self, now: Instant) -> bool {
        now.duration_since(self.last) < FAILURES_FORGOTTEN_AFTER
    }
}

impl State {
    /// Forgets the stale ones, or if there are none the one that failed longest ago.
    fn make_room(&mut self, now: Instant) {
        self.failures.retain(|_, f| f.is_fresh(now));
        if self.failures.len() >= FAILURES_MAX {
            let oldest =
                self.failures.iter().min_by_key(|(_, f)| f.last).map(|(source, _)| *source);
            if let Some(oldest) = oldest {
                self.failures.remove(&oldest);
            }
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        debug_assert!(state.open > 0);
        state.open = state.open.saturating_sub(1);
        match state.by_source.get_mut(&self.source) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                state.by_source.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(n: u32) -> IpAddr {
        IpAddr::V4(n.into())
    }

    #[tokio::test]
    async fn half_open_connections_are_bounded_in_all_and_per_source() {
        let limits =
            NetLimits { half_open_max: 5, half_open_per_source_max: 2, ..Default::default() };
        let gate = Gate::new(limits);
        let mut tickets = vec![gate.enter(ip(1)).unwrap(), gate.enter(ip(1)).unwrap()];
        assert!(gate.enter(ip(1)).is_none());
        tickets.extend([2, 3, 4].map(|n| gate.enter(ip(n)).unwrap()));
        assert!(gate.enter(ip(5)).is_none());
        tickets.remove(0);
        assert!(gate.enter(ip(1)).is_some());
        drop(tickets);
        assert_eq!(gate.half_open(), 0);
        assert!(gate.state().by_source.is_empty());
    }

    #[tokio::test]
    async fn refusals_of_one_source_come_ever_later_up_to_a_bound() {
        let gate = Gate::new(NetLimits::default());
        let now = Instant::now();
        let held: Vec<u128> = (0..70).map(|_| gate.failed(ip(1), now).as_millis()).collect();
        assert_eq!(held[..5], [100, 200, 400, 800, 1_000]);
        assert_eq!(held[69], 1_000);
        assert_eq!(gate.failed(ip(2), now).as_millis(), 100, "another source starts anew");
        let later = now + FAILURES_FORGOTTEN_AFTER;
        assert_eq!(gate.failed(ip(1), later).as_millis(), 100, "forgotten in time");
    }

    #[tokio::test]
    async fn the_table_of_failures_is_bounded_and_forgets_the_oldest() {
        let gate = Gate::new(NetLimits::default());
        let now = Instant::now();
        for n in 0..5_000 {
            gate.failed(ip(n), now + Duration::from_millis(n.into()));
        }
        let at = now + Duration::from_secs(5);
        assert_eq!(gate.state().failures.len(), FAILURES_MAX);
        assert_eq!(gate.failed(ip(4_999), at).as_millis(), 200, "the latest is remembered");
        assert_eq!(gate.failed(ip(0), at).as_millis(), 100, "the oldest is not");
    }

    #[tokio::test]
    async fn addresses_of_one_ipv6_network_are_one_source() {
        let gate = Gate::new(NetLimits::default());
        let now = Instant::now();
        gate.failed("2001:db8::1".parse().unwrap(), now);
        assert_eq!(gate.failed("2001:db8::2".parse().unwrap(), now).as_millis(), 200);
        assert_eq!(gate.failed("2001:db8:0:1::2".parse().unwrap(), now).as_millis(), 100);
    }
}
