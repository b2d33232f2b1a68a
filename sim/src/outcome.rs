//! What became of a run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// An invariant that was broken.
#[derive(Clone, PartialEq, Eq, Debug, Error, Serialize, Deserialize)]
#[error("{invariant}: {detail}")]
pub struct Violation {
    /// Which: a short name that stays the same, so that failures can be counted by it.
    pub invariant: String,
    /// Who did what.
    pub detail: String,
}

impl Violation {
    /// The violation of `invariant`.
    #[must_use]
    pub fn new(invariant: &str, detail: impl Into<String>) -> Self {
        Self { invariant: invariant.to_owned(), detail: detail.into() }
    }
}

/// What a check says.
pub type Verdict = Result<(), Violation>;

/// A run from its beginning to its end, or to the first violation.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Of which seed.
    pub seed: u64,
    /// How many events happened.
    pub events: u64,
    /// How long the run took in the world's time, in milliseconds.
    pub simulated_ms: u64,
    /// The hash of every event and every random draw.
    pub hash: u64,
    /// The first violation, if there was one.
    pub violation: Option<Violation>,
    /// When it happened in the world's time, in nanoseconds.
    pub violated_at: u64,
    /// How long after the last fault the world had converged, in milliseconds.
    pub converged_ms: Option<u64>,
    /// Why the world did not converge to one healthy cluster, by name, where that is no failure.
    pub reasons: BTreeMap<String, u32>,
    /// How often rare things happened: a campaign in which one never does has proved little.
    pub counts: BTreeMap<String, u64>,
    /// How often core came to the states that it marks ([`quorate_core::marks`]).
    #[serde(default)]
    pub marks: BTreeMap<String, u64>,
}

impl Report {
    /// Whether the run is without fault.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.violation.is_none()
    }
}
