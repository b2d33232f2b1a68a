//! Identities: newtypes, so that a term is never taken for an index.

use core::fmt;

use serde::{Deserialize, Serialize};

macro_rules! id128 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub u128);

        impl $name {
            /// The first eight hexadecimal digits, enough to tell nodes apart in a message.
            #[must_use]
            pub fn short(&self) -> String {
                format!("{:08x}", self.0 >> 96)
            }

            /// Reads the 32 hexadecimal digits that `Display` writes.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                if text.len() != 32 {
                    return None;
                }
                u128::from_str_radix(text, 16).ok().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.short())
            }
        }
    };
}

id128! {
    /// Who a node is: 128 random bits, made with its data directory and never reused.
    NodeId
}
id128! {
    /// Which cluster: 128 random bits, made when the cluster is founded.
    ClusterId
}
id128! {
    /// Which database: 128 random bits, made by whoever proposes to create it. A database that is
    /// dropped and made again under its old name has another.
    DatabaseId
}

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize,
        )]
        pub struct $name(pub u64);

        impl $name {
            /// Zero: before the first.
            pub const ZERO: Self = Self(0);

            /// The next one. Counters of 64 bits do not run out in a cluster's life; saturates.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }

            /// The one before; zero stays zero.
            #[must_use]
            pub const fn previous(self) -> Self {
                Self(self.0.saturating_sub(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

counter! {
    /// A Raft term: at most one leader each (Raft paper, section 5.1).
    Term
}
counter! {
    /// The position of an entry in a log; the first entry has index 1.
    Index
}
counter! {
    /// The version of the configuration document; rises by one with every change of it.
    ConfigVersion
}

counter! {
    /// A directory that holds a copy of a shard on one node: a full copy that takes the place of an
    /// older one gets the next. Never used twice for one shard on one disk; the first is 1.
    Generation
}

/// Which log of a node: the configuration log, or a shard's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct LogId(pub u64);

impl LogId {
    /// The one log that replicates the configuration document.
    pub const CONFIGURATION: Self = Self(0);

    /// The one given out after this one; never given twice in a cluster's life.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The one given out before this one; the configuration log has none before it.
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

/// One start of a node. Persisted before any contact, so that a peer that remembers a start
/// which the node's directory does not know has found a restored or cloned directory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Start {
    /// Counts the starts of this directory from 1.
    pub number: u64,
    /// Random, so that two directories with one past do not agree by counting.
    pub nonce: u64,
}

/// A stream to a peer, named by the adapter; never reused within a run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LinkId(pub u64);

/// A batch of storage operations handed out by [`crate::Output::Persist`].
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PersistId(pub u64);

/// A command of the adapter's (an operator's or a client's), to be answered once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CommandId(pub u64);
