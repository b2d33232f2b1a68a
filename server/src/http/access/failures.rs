//! Wrong credentials, counted by address: whoever guesses is made to wait.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many attempts may fail at once.
const ATTEMPTS_MAX: u32 = 10;
/// And then one more each time so much has passed.
const REFILL: Duration = Duration::from_secs(3);
/// How many addresses are watched; beyond, those are forgotten that have been quiet longest.
const ADDRESSES_MAX: usize = 4096;

/// When the attempts of each address that failed of late will all be forgotten.
///
/// An attempt moves that by [`REFILL`]; it may not lie further ahead than [`ATTEMPTS_MAX`] of them.
#[derive(Default)]
pub(super) struct Failures {
    forgotten: Mutex<BTreeMap<IpAddr, Instant>>,
}

impl Failures {
    /// Somebody tries. To be taken back by [`Failures::pardon`] if it was right.
    ///
    /// # Errors
    /// It has tried too often: the seconds until it may again.
    pub(super) fn attempt(&self, ip: IpAddr, now: Instant) -> Result<(), u64> {
        let mut forgotten = self.forgotten.lock().unwrap_or_else(PoisonError::into_inner);
        let ip = network(ip);
        let ahead = forgotten.get(&ip).map_or(Duration::ZERO, |at| at.duration_since(now));
        let ahead = ahead + REFILL;
        let over = ahead.saturating_sub(REFILL * ATTEMPTS_MAX);
        if over > Duration::ZERO {
            return Err(over.as_secs() + 1);
        }
        if forgotten.len() >= ADDRESSES_MAX && !forgotten.contains_key(&ip) {
            make_room(&mut forgotten, now);
        }
        forgotten.insert(ip, now + ahead);
        Ok(())
    }

    /// The last attempt from there was right, or was never looked at.
    pub(super) fn pardon(&self, ip: IpAddr) {
        let mut forgotten = self.forgotten.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = forgotten.get_mut(&network(ip)) {
            *at = at.checked_sub(REFILL).unwrap_or(*at);
        }
    }
}

fn make_room(forgotten: &mut BTreeMap<IpAddr, Instant>, now: Instant) {
    forgotten.retain(|_, at| *at > now);
    if forgotten.len() >= ADDRESSES_MAX {
        let quietest = forgotten.iter().min_by_key(|(_, at)| **at).map(|(ip, _)| *ip);
        quietest.map(|ip| forgotten.remove(&ip));
    }
}

/// What one party holds: with IPv6 that is a network of 64 bits at least.
fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn after_ten_failures_there_is_one_attempt_in_three_seconds() {
        let (failures, begin) = (Failures::default(), Instant::now());
        let guesser = ip("10.0.0.1");
        for _ in 0..10 {
            assert_eq!(failures.attempt(guesser, begin), Ok(()));
        }
        assert_eq!(failures.attempt(guesser, begin), Err(4));
        assert_eq!(failures.attempt(ip("10.0.0.2"), begin), Ok(()), "nobody else waits");
        let later = begin + REFILL;
        assert_eq!(failures.attempt(guesser, later), Ok(()));
        assert!(failures.attempt(guesser, later).is_err());
        let much_later = begin + REFILL * 100;
        for _ in 0..10 {
            assert_eq!(failures.attempt(guesser, much_later), Ok(()));
        }
        assert!(failures.attempt(guesser, much_later).is_err(), "patience does not add up");
    }

    #[test]
    fn what_was_right_does_not_count() {
        let (failures, now) = (Failures::default(), Instant::now());
        for _ in 0..1000 {
            assert_eq!(failures.attempt(ip("::1"), now), Ok(()));
            failures.pardon(ip("::1"));
        }
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_are_one_party() {
        let (failures, now) = (Failures::default(), Instant::now());
        for number in 0..10 {
            assert_eq!(failures.attempt(ip(&format!("2001:db8::{number}")), now), Ok(()));
        }
        assert!(failures.attempt(ip("2001:db8::ffff"), now).is_err());
        assert_eq!(failures.attempt(ip("2001:db8:0:1::"), now), Ok(()));
    }

    #[test]
    fn however_many_addresses_there_are_the_room_is_bounded() {
        let (failures, now) = (Failures::default(), Instant::now());
        for number in 0..10_000_u32 {
            assert_eq!(failures.attempt(IpAddr::V4(number.into()), now), Ok(()));
        }
        assert!(failures.forgotten.lock().unwrap().len() <= ADDRESSES_MAX);
    }
}
