//! What is told of a run, as far as it must be known without reading the line that says it.

use std::fmt;

use quorate_core::client::{Answer, ClientError};
use quorate_core::shard::{Reply, ShardError};
use quorate_core::{CommandError, LogId, NodeId};

use crate::plan::Action;

/// Whose lane something is drawn in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Lane {
    /// That of the world: faults of nobody in particular, and the end.
    World,
    /// That of operators, and of those who look whether every shard takes writes in the end.
    Operators,
    /// That of a host.
    Host(usize),
    /// That of a client that asks nodes directly.
    Client(usize),
    /// That of a client with the machine of `core::client`.
    Failover(usize),
}

/// Of what kind something is: what a reader may want to see by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Processes start and end, pause and go on.
    Life,
    /// Somebody comes to lead a log.
    Leads,
    /// Entries are committed.
    Commits,
    /// A node shows a version of the document.
    Shows,
    /// A node says something to people and monitors.
    Says,
    /// Writes, and that they are durable.
    Disk,
    /// Dials, and links that come and go.
    Links,
    /// Engines and files of copies.
    Copies,
    /// What is asked of nodes, and answered.
    Requests,
    /// What operators want.
    Orders,
    /// What clients with the machine of `core::client` do.
    Clients,
    /// Faults, and their end.
    Faults,
    /// What is broken.
    Violation,
}

impl Kind {
    /// All of them, in order, with what a page calls them.
    pub const ALL: [(Self, &'static str); 13] = [
        (Self::Life, "processes"),
        (Self::Leads, "leads"),
        (Self::Commits, "commits"),
        (Self::Shows, "configurations"),
        (Self::Says, "node events"),
        (Self::Disk, "disk"),
        (Self::Links, "links"),
        (Self::Copies, "engines and copies"),
        (Self::Requests, "requests"),
        (Self::Orders, "orders"),
        (Self::Clients, "clients"),
        (Self::Faults, "faults"),
        (Self::Violation, "violation"),
    ];
}

impl Kind {
    /// Of what kind it is that somebody in a lane asks for something.
    pub(super) fn of_lane(lane: Lane) -> Self {
        match lane {
            Lane::Operators | Lane::World => Self::Orders,
            Lane::Failover(_) => Self::Clients,
            Lane::Host(_) | Lane::Client(_) => Self::Requests,
        }
    }
}

/// Names something that is asked for until it is answered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Ask {
    /// A transaction handed to a node, by its number.
    Request(u64),
    /// An order, by its number.
    Order(u64),
    /// What an application asks its client for: whose, and its ticket.
    Ticket(usize, u64),
}

/// What became of what was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Became {
    /// It was not answered.
    Open,
    /// Done.
    Done,
    /// Refused, or failed for certain.
    Failed,
    /// Nobody can say whether it was done.
    Unknown,
}

/// What is told.
#[derive(Clone, Copy, Debug)]
pub enum Told<'a> {
    /// Something happens in a lane.
    In(Lane, Kind),
    /// Something happens to a log, or to a copy, of a host.
    Log(usize, Kind, LogId),
    /// A process starts, as this node.
    Starts(usize, NodeId),
    /// A process is killed.
    Dies(usize),
    /// A process ends by itself.
    Stops(usize),
    /// A process is stopped, and does not know it.
    Pauses(usize),
    /// It goes on.
    GoesOn(usize),
    /// A fault begins, or just happens.
    Fault(&'a Action),
    /// Something happens to a client alone; for so long, in nanoseconds.
    ClientFault(usize, &'static str, u64),
    /// A cut is over, by its number.
    Healed(u32),
    /// Every fault ends.
    Peace,
    /// Somebody asks.
    Asks {
        /// What to know it by.
        ask: Ask,
        /// Who.
        who: Lane,
        /// Which host, if it is one.
        host: Option<usize>,
        /// Of which log.
        log: Option<LogId>,
        /// What for.
        what: &'a dyn fmt::Debug,
    },
    /// Somebody is answered.
    Answered(Ask, Became),
}

impl Told<'_> {
    /// Something of a kind happens at a host.
    #[must_use]
    pub fn at(host: usize, kind: Kind) -> Self {
        Self::In(Lane::Host(host), kind)
    }
}

impl From<&quorate_core::Reply> for Became {
    fn from(reply: &quorate_core::Reply) -> Self {
        match reply {
            quorate_core::Reply::Done { .. }
            | quorate_core::Reply::Syncing { .. }
            | quorate_core::Reply::Measured { .. } => Self::Done,
            quorate_core::Reply::Failed(CommandError::OutcomeUnknown) => Self::Unknown,
            quorate_core::Reply::Failed(_) => Self::Failed,
        }
    }
}

impl From<&Reply> for Became {
    fn from(reply: &Reply) -> Self {
        match reply {
            Reply::Failed(ShardError::OutcomeUnknown) => Self::Unknown,
            Reply::Failed(_) => Self::Failed,
            Reply::Done { .. }
            | Reply::Session { .. }
            | Reply::Began { .. }
            | Reply::Stepped { .. }
            | Reply::Compared { .. } => Self::Done,
        }
    }
}

impl From<&Answer> for Became {
    fn from(answer: &Answer) -> Self {
        match answer {
            Ok(_) => Self::Done,
            Err(ClientError::OutcomeUnknown { .. }) => Self::Unknown,
            Err(_) => Self::Failed,
        }
    }
}
