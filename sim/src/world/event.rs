//! What can happen next.

use std::net::SocketAddr;

use bytes::Bytes;
use quorate_core::raft::LogRead;
use quorate_core::shard::Call;
use quorate_core::{DialError, LogId};

use super::Happening;
use crate::disk::DirId;
use crate::network::{LinkRef, Parcel, Side};
use crate::view::Mark;

/// One run of a host's process: what was meant for an earlier one is void.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RunRef {
    /// Which host.
    pub host: usize,
    /// Which of its runs.
    pub run: u32,
}

/// An event of the world.
#[derive(Clone, Debug)]
pub enum What {
    /// A datagram arrives.
    Datagram {
        /// Where.
        to: usize,
        /// From where.
        from: SocketAddr,
        /// As what it is recorded.
        mark: Option<Mark>,
        /// What it holds.
        bytes: Bytes,
    },
    /// A packet arrives.
    Packet {
        /// On which link.
        link: LinkRef,
        /// At which end.
        side: Side,
        /// What.
        parcel: Parcel,
    },
    /// Somebody who dials arrives at the host that he dialled.
    Knock {
        /// Who dials.
        by: RunRef,
        /// What he dialled.
        addr: SocketAddr,
        /// As what it is recorded.
        mark: Option<Mark>,
    },
    /// The handshake is done at one end.
    LinkUp {
        /// Of which link.
        link: LinkRef,
        /// Which end.
        side: Side,
    },
    /// One end finds that its link is gone.
    LinkDown {
        /// Which link.
        link: LinkRef,
        /// Which end.
        side: Side,
    },
    /// What could not be sent towards one end is tried again.
    Retransmit {
        /// On which link.
        link: LinkRef,
        /// Towards which end.
        side: Side,
    },
    /// A dial has come to nothing.
    DialFailed {
        /// Whose.
        by: RunRef,
        /// What was dialled.
        addr: SocketAddr,
        /// Why.
        error: DialError,
    },
    /// A host learns that it was dialled by somebody who could not authenticate.
    Refused {
        /// Who learns it.
        by: RunRef,
        /// Who it was.
        from: SocketAddr,
    },
    /// The oldest outstanding batch of a directory is durable.
    Synced {
        /// Which directory.
        dir: DirId,
        /// As it was opened by that run.
        by: RunRef,
    },
    /// The oldest call of an engine has come to its end.
    Engine {
        /// As it was opened by that run.
        by: RunRef,
        /// Whose copy.
        log: LogId,
    },
    /// The oldest call to the files of a copy has come to its end.
    Files {
        /// As it was asked by that run.
        by: RunRef,
        /// Whose copy.
        log: LogId,
    },
    /// A reader of a copy has come to its end.
    Query {
        /// As it was opened by that run.
        by: RunRef,
        /// Whose copy.
        log: LogId,
        /// What was asked.
        call: Box<Call>,
    },
    /// It is a client's turn.
    Client(usize),
    /// It is the turn of an operation in a session.
    Once {
        /// Which.
        operation: u64,
        /// Only if no other turn was planned for it since.
        turn: u32,
    },
    /// Something happens to clients that go on with another server.
    Failover(Happening),
    /// A host's disk has space again.
    Emptied(usize),
    /// Engines of a host are as fast as before.
    HastenEngines(usize),
    /// Entries of a log were read from a disk.
    LogRead {
        /// From which directory.
        dir: DirId,
        /// For that run.
        by: RunRef,
        /// Of which log.
        log: LogId,
        /// What was asked for.
        read: LogRead,
    },
    /// A transport has counted what went over its links, for that run.
    Traffic(RunRef),
    /// A fault or an operator's order, by its place in the schedule.
    Act(usize),
    /// A partition ends.
    Heal(u32),
    /// Links of a host are as fast as before.
    Hasten(usize),
    /// A disk is as fast as before.
    HastenDisk(usize),
    /// A host starts (again).
    Start {
        /// Which.
        host: usize,
        /// Only if it has not been started since.
        run: u32,
    },
    /// An operator does what that process asked for when it found part of its log unreadable.
    Renew(RunRef),
    /// A process that was stopped goes on.
    Resume(RunRef),
    /// Every fault ends.
    Peace,
    /// An operator looks for clusters that have lost their quorum for good.
    Rescue,
    /// Has the world converged?
    Watch,
}
