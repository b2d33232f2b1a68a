//! Patterns of addresses, as `hazelcast.xml` writes them: `10.3.16.*`, `10.3.10.4-18`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use thiserror::Error;

/// One pattern: an IP address whose parts may each be `*` or a range `low-high`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AddressPattern {
    parts: Parts,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Parts {
    V4([(u8, u8); 4]),
    V6([(u16, u16); 8]),
}

/// A text is not a pattern of addresses.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error(
    "'{text}' is no address pattern: write an address whose parts are numbers, '*' or \
     'low-high', such as 10.3.16.*, 10.3.10.4-18 or fe80:0:0:0:0:0:0:10-20"
)]
pub struct PatternError {
    /// What was written.
    pub text: String,
}

impl FromStr for AddressPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let trimmed = text.trim();
        let parsed = if trimmed.contains(':') { v6(trimmed) } else { v4(trimmed) };
        let error = || PatternError { text: text.chars().take(80).collect() };
        parsed.map(|parts| Self { parts }).ok_or_else(error)
    }
}

fn v4(text: &str) -> Option<Parts> {
    let mut parts = [(0, 0); 4];
    let mut given = text.split('.');
    for part in &mut parts {
        *part = range(given.next()?, u8::MAX, |digits| digits.parse().ok())?;
    }
    given.next().is_none().then_some(Parts::V4(parts))
}

fn v6(text: &str) -> Option<Parts> {
    if let Ok(exact) = text.parse::<Ipv6Addr>() {
        return Some(Parts::V6(exact.segments().map(|s| (s, s))));
    }
    let mut parts = [(0, 0); 8];
    let mut given = text.split(':');
    for part in &mut parts {
        *part = range(given.next()?, u16::MAX, |digits| u16::from_str_radix(digits, 16).ok())?;
    }
    given.next().is_none().then_some(Parts::V6(parts))
}

fn range<T: Copy + Default + PartialOrd>(
    text: &str,
    max: T,
    number: impl Fn(&str) -> Option<T>,
) -> Option<(T, T)> {
    if text == "*" {
        return Some((T::default(), max));
    }
    let (low, high) = match text.split_once('-') {
        Some((low, high)) => (number(low)?, number(high)?),
        None => (number(text)?, number(text)?),
    };
    (low <= high).then_some((low, high))
}

impl AddressPattern {
    /// Whether the address fits.
    #[must_use]
    pub fn matches(&self, ip: IpAddr) -> bool {
        match (&self.parts, ip.to_canonical()) {
            (Parts::V4(parts), IpAddr::V4(ip)) => {
                parts.iter().zip(ip.octets()).all(|((low, high), o)| (*low..=*high).contains(&o))
            }
            (Parts::V6(parts), IpAddr::V6(ip)) => {
                parts.iter().zip(ip.segments()).all(|((low, high), s)| (*low..=*high).contains(&s))
            }
            _ => false,
        }
    }
}

impl From<Ipv4Addr> for AddressPattern {
    fn from(ip: Ipv4Addr) -> Self {
        Self { parts: Parts::V4(ip.octets().map(|o| (o, o))) }
    }
}

impl fmt::Display for AddressPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |low: u32, high: u32, max: u32, hex: bool| match (low, high) {
            (0, h) if h == max => "*".to_owned(),
            (l, h) if l == h && hex => format!("{l:x}"),
            (l, h) if l == h => format!("{l}"),
            (l, h) if hex => format!("{l:x}-{h:x}"),
            (l, h) => format!("{l}-{h}"),
        };
        let (parts, dot): (Vec<String>, _) = match &self.parts {
            Parts::V4(p) => {
                (p.iter().map(|(l, h)| part((*l).into(), (*h).into(), 0xff, false)).collect(), ".")
            }
            Parts::V6(p) => {
                (p.iter().map(|(l, h)| part((*l).into(), (*h).into(), 0xffff, true)).collect(), ":")
            }
        };
        f.write_str(&parts.join(dot))
    }
}

/// A list of patterns; an empty one lets everything through.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct AddressFilter {
    patterns: Vec<AddressPattern>,
}

impl AddressFilter {
    /// Lets through what fits one of the patterns; everything if there is none.
    #[must_use]
    pub fn new(patterns: Vec<AddressPattern>) -> Self {
        Self { patterns }
    }

    /// Whether the filter lets everything through.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether the address may pass.
    #[must_use]
    pub fn allows(&self, ip: IpAddr) -> bool {
        self.patterns.is_empty() || self.patterns.iter().any(|p| p.matches(ip))
    }
}

impl fmt::Display for AddressFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let patterns: Vec<String> = self.patterns.iter().map(ToString::to_string).collect();
        f.write_str(&patterns.join(", "))
    }
}
