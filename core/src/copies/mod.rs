//! Full copies: how the content of a shard comes to a node that cannot get it from the log.
//!
//! Most of the time a copy follows its log, and one that was away catches up from it. When the log
//! of the leader begins behind what the copy holds, or the copy is damaged or gone, the content comes
//! as a file instead: one of the other copies, the *donor*, holds its own at one position, and the
//! receiver fetches it in chunks, puts it in place beside its old copy, names it in its store, and
//! goes on from the log. What must hold:
//!
//! * The old copy stays where it is, and the one that is opened after a crash, until the new one is
//!   whole, durable and named: [`CopyCall::Finish`], then the record, then [`CopyCall::Tidy`].
//! * A chunk counts when its hash is right. What lies there from an earlier attempt is not fetched
//!   again where the donor's chunk has the same hash, whoever the donor is.
//! * A donor that is silent, fails or goes is replaced; what came from it stays.
//! * Nothing here decides what is committed: a snapshot is of a committed position, and a log that
//!   begins behind it says no more than that.
//!
//! A file that is to replace the content of all copies comes to each in the same chunks, and is kept
//! beside the live copy until the log says when it takes its place (`shard::restore`).
//!
//! Files: `api` what goes in and out · `plan` what a copy needs, and from whom · `incoming` the
//! receiver · `outgoing` the donor.

mod api;
mod incoming;
#[cfg(any(test, feature = "memory-engine"))]
pub mod memory;
mod outgoing;
mod plan;

pub use api::{
    ChunkData, ChunkHash, CopyAnswer, CopyCall, CopyMessage, CopyProgress, CopyRefusal, CopyReport,
    CopyState, FileShape, Unneeded,
};
pub(crate) use incoming::{Goal, Incoming, Step as IncomingStep};
pub(crate) use outgoing::{Outgoing, Step as OutgoingStep};
pub use plan::{Donor, Need, SyncPlan, plan_sync};
