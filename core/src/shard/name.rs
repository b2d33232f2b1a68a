//! Of which shard a copy is. It says so itself, in a note that goes with its content wherever that goes:
//! a file that lies in the place of another, put back by hand or by a tool that took the wrong one, is
//! found out when it is opened, also where its position would fit.

use bytes::Bytes;

use crate::engine::Note;
use crate::ids::{ClusterId, LogId};

/// A note that says of which shard a copy is. No other shard has the log, in all clusters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Name(Bytes);

impl Name {
    /// Under which key. No session is noted there: its key begins with the index of an entry.
    pub const KEY: u64 = 0;

    /// That of the copies of a shard, by the cluster in which its log was begun
    /// ([`crate::configuration::Configuration::origin`]) and its number there.
    #[must_use]
    pub fn new(origin: ClusterId, log: LogId) -> Self {
        Self([&origin.0.to_be_bytes()[..], &log.0.to_be_bytes()].concat().into())
    }

    /// As it is noted.
    #[must_use]
    pub fn note(&self) -> Note {
        Note { key: Self::KEY, value: self.0.clone() }
    }

    /// What a copy calls itself, if it does.
    #[must_use]
    pub fn of(notes: &[Note]) -> Option<Self> {
        notes.iter().find(|note| note.key == Self::KEY).map(|note| Self(note.value.clone()))
    }

    /// Whether a note is one.
    pub(super) fn is(note: &Note) -> bool {
        note.key == Self::KEY
    }
}

impl core::fmt::Display for Name {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.0.split_first_chunk() {
            Some((cluster, log)) if let Ok(log) = log.try_into() => {
                let cluster = ClusterId(u128::from_be_bytes(*cluster));
                write!(f, "log {} of cluster {cluster}", u64::from_be_bytes(log))
            }
            _ => write!(f, "a shard that a later version named"),
        }
    }
}
