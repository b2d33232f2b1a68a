//! Whose a stream is.

use super::super::access::Who;
use super::super::proxy::Shown;

/// Whose a stream is.
#[derive(Clone, Debug)]
pub(super) enum Holder {
    /// Somebody whom the node knows.
    Known(Who),
    /// Somebody whom only the cluster knows, by what it shows.
    Shown(Shown),
}

impl Holder {
    /// For messages and logs.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Known(who) => who.name(),
            Self::Shown(_) => "the holder of this token",
        }
    }

    /// Whether the other is the same somebody.
    pub(super) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Known(who), Self::Known(other)) => who.is(other),
            (Self::Shown(shown), Self::Shown(other)) => shown == other,
            _ => false,
        }
    }
}

impl From<Who> for Holder {
    fn from(who: Who) -> Self {
        Self::Known(who)
    }
}
