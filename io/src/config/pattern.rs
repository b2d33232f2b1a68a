//! Addresses with wildcards and ranges: `10.3.16.*`, `10.3.10.4-18`, `fe80::1-ff`.
//!
//! As in Hazelcast, each octet (IPv4) or group (IPv6) is a number, a range or `*`, and an IPv6
//! scope (`%eth0`) is dropped.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// One octet or group: the numbers from `low` to `high`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
struct Part {
    low: u16,
    high: u16,
}

impl Part {
    fn holds(self, number: u16) -> bool {
        (self.low..=self.high).contains(&number)
    }

    fn is_single(self) -> bool {
        self.low == self.high
    }
}

/// A set of addresses of one family.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum AddressPattern {
    /// IPv4, four octets.
    V4(V4Pattern),
    /// IPv6, eight groups.
    V6(V6Pattern),
}

/// Four octets, each a number, a range or `*`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct V4Pattern([Part; 4]);

/// Eight groups, each a number, a range or `*`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct V6Pattern([Part; 8]);

/// What an address pattern may look like, for messages.
pub(crate) const PATTERN_SYNTAX: &str = "an address whose parts are numbers, ranges or *, such as \
     10.3.10.7, 10.3.16.*, 10.3.10.4-18 or fe80::1-ff";

impl AddressPattern {
    /// Reads a pattern; `None` if `text` is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.rsplit_once(':') {
            None => v4(text).map(Self::V4),
            Some((prefix, mapped)) if mapped.contains('.') => {
                let is_mapped = prefix.eq_ignore_ascii_case("::ffff");
                v4(mapped).filter(|_| is_mapped).map(Self::V4)
            }
            Some(_) => v6(text).map(Self::V6),
        }
    }

    /// Whether `address` is one of the set. An IPv4 address mapped into IPv6 counts as IPv4.
    #[must_use]
    pub fn matches(&self, address: IpAddr) -> bool {
        match (self, address.to_canonical()) {
            (Self::V4(pattern), IpAddr::V4(address)) => {
                pattern.0.iter().zip(address.octets()).all(|(part, n)| part.holds(u16::from(n)))
            }
            (Self::V6(pattern), IpAddr::V6(address)) => {
                pattern.0.iter().zip(address.segments()).all(|(part, n)| part.holds(n))
            }
            _ => false,
        }
    }

    /// Whether it can stand in a member list: only the last octet of an IPv4 address may be a
    /// range or `*`, and an IPv6 address must be a single one.
    #[must_use]
    pub fn is_listable(&self) -> bool {
        match self {
            Self::V4(pattern) => pattern.0[..3].iter().all(|part| part.is_single()),
            Self::V6(pattern) => pattern.0.iter().all(|part| part.is_single()),
        }
    }

    /// How many addresses it holds; saturates.
    #[must_use]
    pub fn count(&self) -> u64 {
        let parts: &[Part] = match self {
            Self::V4(pattern) => &pattern.0,
            Self::V6(pattern) => &pattern.0,
        };
        let sizes = parts.iter().map(|part| u64::from(part.high - part.low) + 1);
        sizes.fold(1, u64::saturating_mul)
    }

    /// The addresses of a pattern that [`is_listable`](Self::is_listable), in order; of any other
    /// only those that begin with the lowest numbers.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let (lows, last) = match self {
            Self::V4(V4Pattern(parts)) => (parts.iter().map(|p| p.low).collect(), parts[3]),
            Self::V6(V6Pattern(parts)) => {
                (parts.iter().map(|p| p.low).collect::<Vec<_>>(), parts[7])
            }
        };
        (last.low..=last.high).filter_map(move |number| match lows.as_slice() {
            [a, b, c, _] => {
                let [a, b, c, d] = [*a, *b, *c, number].map(u8::try_from);
                Some(IpAddr::V4(Ipv4Addr::new(a.ok()?, b.ok()?, c.ok()?, d.ok()?)))
            }
            [a, b, c, d, e, f, g, _] => {
                Some(IpAddr::V6(Ipv6Addr::new(*a, *b, *c, *d, *e, *f, *g, number)))
            }
            _ => None,
        })
    }
}

fn v4(text: &str) -> Option<V4Pattern> {
    let parts: Vec<Part> =
        text.split('.').map(|piece| part(piece, 10, 255)).collect::<Option<_>>()?;
    Some(V4Pattern(parts.try_into().ok()?))
}

fn v6(text: &str) -> Option<V6Pattern> {
    let text = text.split_once('%').map_or(text, |(address, _)| address);
    let groups = |side: &str| -> Option<Vec<Part>> {
        if side.is_empty() {
            return Some(Vec::new());
        }
        side.split(':').map(|piece| part(piece, 16, u16::MAX)).collect()
    };
    let parts = match text.split_once("::") {
        None => groups(text)?,
        Some((left, right)) => {
            let (mut left, right) = (groups(left)?, groups(right)?);
            let missing = 8_usize.checked_sub(left.len() + right.len()).filter(|n| *n > 0)?;
            left.extend(std::iter::repeat_n(Part { low: 0, high: 0 }, missing));
            left.extend(right);
            left
        }
    };
    Some(V6Pattern(parts.try_into().ok()?))
}

fn part(piece: &str, radix: u32, max: u16) -> Option<Part> {
    if piece == "*" {
        return Some(Part { low: 0, high: max });
    }
    let number = |text: &str| {
        // `from_str_radix` takes a sign, an address does not.
        let digits = text.chars().all(|c| c.is_digit(radix));
        u16::from_str_radix(text, radix).ok().filter(|n| digits && *n <= max)
    };
    let (low, high) = match piece.split_once('-') {
        Some((low, high)) => (number(low)?, number(high)?),
        None => (number(piece)?, number(piece)?),
    };
    (low <= high).then_some(Part { low, high })
}

impl fmt::Display for AddressPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (parts, separator, max): (&[Part], _, _) = match self {
            Self::V4(pattern) => (&pattern.0, '.', 255),
            Self::V6(pattern) => (&pattern.0, ':', u16::MAX),
        };
        for (at, part) in parts.iter().enumerate() {
            if at > 0 {
                write!(f, "{separator}")?;
            }
            match (part.low, part.high, separator) {
                (0, high, _) if high == max => f.write_str("*")?,
                (low, high, '.') if low == high => write!(f, "{low}")?,
                (low, high, '.') => write!(f, "{low}-{high}")?,
                (low, high, _) if low == high => write!(f, "{low:x}")?,
                (low, high, _) => write!(f, "{low:x}-{high:x}")?,
            }
        }
        Ok(())
    }
}
