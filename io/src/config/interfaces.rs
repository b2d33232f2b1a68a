//! Which of a host's addresses to use, and whose datagrams to heed.

use std::net::IpAddr;

use thiserror::Error;

use super::pattern::AddressPattern;

/// A list of address patterns.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Patterns(pub Vec<AddressPattern>);

impl Patterns {
    /// Whether one of them holds `address`.
    #[must_use]
    pub fn matches(&self, address: IpAddr) -> bool {
        self.0.iter().any(|pattern| pattern.matches(address))
    }

    /// `<trusted-interfaces>`: whether a datagram from `address` is heeded. An empty list trusts
    /// all. This is a filter against noise, not a proof: only the handshake proves who a peer is.
    #[must_use]
    pub fn trusted(&self, address: IpAddr) -> bool {
        self.0.is_empty() || self.matches(address)
    }
}

/// `<interfaces>`: which of this host's addresses a node may use.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Interfaces {
    /// Whether the list holds; if not, every address may be used.
    pub enabled: bool,
    /// The list.
    pub patterns: Patterns,
}

/// None of this host's addresses is allowed by `<interfaces>`. The node cannot start.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error(
    "none of this host's addresses ({local}) is listed in <interfaces> ({listed}); add one of \
     them there, or set enabled=\"false\""
)]
pub struct NoInterface {
    /// The host's addresses, joined by commas.
    pub local: String,
    /// The patterns, joined by commas.
    pub listed: String,
}

impl Interfaces {
    /// Whether `address` may be used.
    #[must_use]
    pub fn allow(&self, address: IpAddr) -> bool {
        !self.enabled || self.patterns.matches(address)
    }

    /// Those of this host's addresses that may be used, in the order given.
    ///
    /// # Errors
    /// [`NoInterface`] if the list is enabled and allows none.
    pub fn select(&self, local: &[IpAddr]) -> Result<Vec<IpAddr>, NoInterface> {
        let allowed: Vec<IpAddr> = local.iter().copied().filter(|a| self.allow(*a)).collect();
        if allowed.is_empty() && self.enabled {
            return Err(NoInterface { local: join(local), listed: join(&self.patterns.0) });
        }
        Ok(allowed)
    }
}

fn join<T: ToString>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}
