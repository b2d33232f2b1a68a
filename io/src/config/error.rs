//! What can be wrong with a configuration file, and where: file, line, path, value, what is allowed.

use std::fmt;
use std::io;

use thiserror::Error;

/// The bounds of a configuration file. A file that exceeds one is refused; none is ever expanded.
#[derive(Clone, Copy, Debug)]
pub struct Bounds;

impl Bounds {
    /// The largest file, in bytes.
    pub const FILE_BYTES: usize = 1024 * 1024;
    /// The deepest nesting of elements, or of JSON objects and lists.
    pub const DEPTH: usize = 32;
    /// The most elements of an XML file.
    pub const ELEMENTS: usize = 16_384;
    /// The most attributes of one element.
    pub const ATTRIBUTES: usize = 64;
    /// The longest name of an element or attribute, in bytes.
    pub const NAME_BYTES: usize = 128;
    /// The longest text of an element or attribute after `${var}` is replaced, in bytes.
    pub const TEXT_BYTES: usize = 64 * 1024;
    /// The most addresses that a member list may stand for.
    pub const CANDIDATES: usize = 4_096;
    /// The most notes that are kept; the last one says how many were not.
    pub const NOTES: usize = 256;
}

/// Where something stands in a file.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    /// The file, as it was named when it was opened.
    pub file: String,
    /// The line, counted from 1.
    pub line: u32,
    /// The path: `hazelcast/network/port`, `…/port/@port-count` for an attribute, and
    /// `clusters.*.servers[0]` in JSON.
    pub path: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, printable(&self.path))
    }
}

/// `text` without control characters: a file cannot write to a terminal through its messages, nor
/// begin a new line in a log.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            out.extend(character.escape_unicode());
        } else {
            out.push(character);
        }
    }
    out
}

/// Why a configuration file cannot be used. Nothing has been started or changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// It cannot be opened or read.
    #[error("{file}: cannot be read: {source}; check the path and its permissions")]
    Unreadable {
        /// The file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// It exceeds [`Bounds::FILE_BYTES`].
    #[error("{file}: is larger than {max} bytes, which no configuration file is; check the path")]
    TooLarge {
        /// The file.
        file: String,
        /// The bound.
        max: usize,
    },
    /// It is not text in UTF-8.
    #[error("{file}:{line}: is not valid UTF-8; save the file in UTF-8")]
    NotUtf8 {
        /// The file.
        file: String,
        /// The first line that is not.
        line: u32,
    },
    /// It is not well-formed XML or JSON.
    #[error("{file}:{line}: is not well-formed {format}: {reason}")]
    Syntax {
        /// The file.
        file: String,
        /// The line.
        line: u32,
        /// `XML` or `JSON`.
        format: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A document type declaration or an entity, which could make the file read other files or
    /// grow without bound.
    #[error(
        "{file}:{line}: {what} is not allowed in a configuration file; write the text itself, \
         or use ${{variable}}"
    )]
    Entity {
        /// The file.
        file: String,
        /// The line.
        line: u32,
        /// `a DOCTYPE` or `the entity &x;`.
        what: String,
    },
    /// One of [`Bounds`] other than the size is exceeded.
    #[error("{place}: more than {max} {what}; that is more than a configuration file needs")]
    Bound {
        /// Where it is exceeded.
        place: Place,
        /// How many are allowed.
        max: usize,
        /// Of what.
        what: &'static str,
    },
    /// The outermost element is another, so this is another kind of file.
    #[error("{place}: the outermost element is <{found}>, but it must be <hazelcast>")]
    Root {
        /// Where.
        place: Place,
        /// What stands there.
        found: String,
    },
    /// An element or key that may occur once occurs again.
    #[error("{place}: stands here again, after line {first}; keep one of the two")]
    Duplicate {
        /// Where it occurs again.
        place: Place,
        /// The line of the first.
        first: u32,
    },
    /// A value that is not allowed.
    #[error("{place}: {value:?} is not allowed; allowed is {allowed}")]
    Value {
        /// Where.
        place: Place,
        /// The value, shortened if it is long.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// Something that must be there is not.
    #[error("{place}: has no {missing}; add it")]
    Missing {
        /// Where it should be.
        place: Place,
        /// What.
        missing: &'static str,
    },
    /// More than one way of finding the others is enabled.
    #[error(
        "{place}: {first} and {second} are both enabled, but only one may be; \
         set enabled=\"false\" on the other"
    )]
    Joiners {
        /// The second enabled one.
        place: Place,
        /// The element of the first, as in `<multicast>`.
        first: String,
        /// The element of the second.
        second: String,
    },
    /// An enabled way of finding the others that Quorate does not have.
    #[error("{place}: is enabled, but Quorate cannot find nodes this way yet; {instead}")]
    NotBuilt {
        /// Where.
        place: Place,
        /// What to do.
        instead: &'static str,
    },
    /// The limit of missed heartbeats is not above the interval between them: it would remove the
    /// healthy (hazelcast #6108).
    #[error(
        "{place}: a server would count as unreachable after {limit_seconds} s, but it is heard \
         only every {interval_seconds} s; set it to {least_seconds} or more, or lower \
         hazelcast.heartbeat.interval.seconds"
    )]
    HeartbeatLimit {
        /// Where the limit stands.
        place: Place,
        /// The limit, in seconds.
        limit_seconds: u64,
        /// The interval, in seconds.
        interval_seconds: u64,
        /// The smallest limit that leaves room for lost heartbeats: three intervals.
        least_seconds: u64,
    },
}

impl ConfigError {
    /// A value that is not allowed at `place`.
    pub(crate) fn value(place: Place, value: &str, allowed: impl Into<String>) -> Self {
        Self::Value { place, value: shortened(value), allowed: allowed.into() }
    }
}

/// At most 80 characters of `value`: a message is read by a person.
fn shortened(value: &str) -> String {
    match value.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}
