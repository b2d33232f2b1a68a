//! How a command ends: one error type for all of them, and the exit codes that scripts rely on.

use std::process::ExitCode;

use thiserror::Error;

/// Why a command did not do what was asked. Each kind has its own exit code.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// The command was refused, or could not be carried out.
    #[error("{0}")]
    Refused(String),
    /// Flags, environment variables or configuration files are wrong. Nothing was started.
    #[error("{0}")]
    Usage(String),
    /// There is no running node where the command looked for one.
    #[error("{0}")]
    NoNode(String),
    /// Nobody can decide at the moment. Nothing was changed.
    #[error("{0}")]
    NoQuorum(String),
    /// The command was sent and its outcome is not known.
    #[error("{0}")]
    OutcomeUnknown(String),
    /// The data directory is a restored or cloned one.
    #[error("{0}")]
    StaleDisk(String),
    /// The data directory cannot be used: locked, full, unreadable.
    #[error("{0}")]
    Storage(String),
    /// The node stopped on request, but without a quorum to take leave of.
    #[error("{0}")]
    LeftUnheard(String),
    /// An operator took the server out of the cluster while it ran.
    #[error("{0}")]
    Removed(String),
    /// Only the shard's static owner inserts, and it is away. Nothing was changed.
    #[error("{0}")]
    OwnerAway(String),
    /// Copies differ, or one did not answer. Nothing was repaired.
    #[error("{0}")]
    Different(String),
    /// The node does not know who asks, or does not let them do this.
    #[error("{0}")]
    NotAllowed(String),
    /// A second signal cut a graceful stop short.
    #[error("{0}")]
    Killed(String),
}

/// The table of exit codes, for `quorate --help`.
pub(crate) const CODES: &str = "\
Exit codes:
  0    done
  1    refused or failed; the message says why
  2    wrong flags, environment variables or configuration files
  3    no running node found there
  4    no quorum: nothing was changed
  5    outcome unknown: look with `quorate status` before trying again
  6    StaleDisk: the data directory is an old or a second copy (start --new-identity)
  7    the data directory cannot be used: locked, full, not writable, damaged
  8    the node stopped, but nobody was there to take leave of
  9    the node stopped: an operator removed it from its cluster
  10   only the shard's static owner inserts, and it is away: nothing was changed
  11   copies differ, or one of them did not answer: nothing was repaired
  12   not allowed: no token or password, a wrong one, or a role that is too low
  130  a second signal cut a graceful stop short";

impl Failure {
    /// The exit code; see [`CODES`].
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Refused(_) => 1,
            Self::Usage(_) => 2,
            Self::NoNode(_) => 3,
            Self::NoQuorum(_) => 4,
            Self::OutcomeUnknown(_) => 5,
            Self::StaleDisk(_) => 6,
            Self::Storage(_) => 7,
            Self::LeftUnheard(_) => 8,
            Self::Removed(_) => 9,
            Self::OwnerAway(_) => 10,
            Self::Different(_) => 11,
            Self::NotAllowed(_) => 12,
            Self::Killed(_) => 130,
        }
    }

    /// Prints the message on standard error and turns into the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        eprintln!("quorate: {self}");
        ExitCode::from(self.code())
    }
}
