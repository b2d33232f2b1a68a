//! What a packet is for, told from its first bytes: for whoever counts packets without reading them.

use serde::{Deserialize, Serialize};

use super::Packet;
use crate::raft::Body;

/// What a packet is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PacketKind {
    /// Greetings, and what the sender is.
    Links,
    /// The sender is alive, and whom it has heard.
    Alive,
    /// Entries of a log, and commit indices.
    Entries,
    /// Answers to entries.
    Acknowledgements,
    /// Heartbeats of the configuration log, and their answers.
    Heartbeats,
    /// Votes, and what asks for them.
    Elections,
    /// Small messages of several logs together: mostly heartbeats of shards, and answers.
    Batches,
    /// Questions to the coordinator, and answers.
    Requests,
    /// Transactions on their way to an owner, and what came of them.
    Sql,
    /// Whole copies, snapshots, and how far copies are.
    Copies,
    /// Comparisons of copies.
    Comparisons,
    /// What nodes have measured.
    Measures,
    /// Not to be told: malformed, or of another version.
    Unknown,
}

impl PacketKind {
    /// How many there are.
    pub const COUNT: usize = 13;

    /// All of them, each at the place of its number.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Links,
        Self::Alive,
        Self::Entries,
        Self::Acknowledgements,
        Self::Heartbeats,
        Self::Elections,
        Self::Batches,
        Self::Requests,
        Self::Sql,
        Self::Copies,
        Self::Comparisons,
        Self::Measures,
        Self::Unknown,
    ];

    /// Its name, one word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Links => "links",
            Self::Alive => "alive",
            Self::Entries => "entries",
            Self::Acknowledgements => "acknowledgements",
            Self::Heartbeats => "heartbeats",
            Self::Elections => "elections",
            Self::Batches => "batches",
            Self::Requests => "requests",
            Self::Sql => "sql",
            Self::Copies => "copies",
            Self::Comparisons => "comparisons",
            Self::Measures => "measures",
            Self::Unknown => "unknown",
        }
    }

    /// What an encoded packet is for. It looks at some 30 bytes at most, and does not say that the rest
    /// is well formed.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        // An enum is encoded as its variant's number, below 128 in one byte.
        let Some((variant, rest)) = bytes.split_first() else { return Self::Unknown };
        match variant {
            0..=3 => Self::Links,
            4 => Self::of_log(rest),
            5 => Self::Alive,
            6 | 7 => Self::Requests,
            8 => Self::Batches,
            9 | 12 => Self::Sql,
            10 | 11 => Self::Copies,
            13 | 14 => Self::Comparisons,
            15 | 16 => Self::Measures,
            _ => Self::Unknown,
        }
    }

    /// Of a message of a log: behind cluster, log and term stands what it is.
    fn of_log(bytes: &[u8]) -> Self {
        let body = after_number(bytes).and_then(after_number).and_then(after_number);
        match body.and_then(<[u8]>::first) {
            Some(0..=3 | 10) => Self::Elections,
            Some(4) => Self::Entries,
            Some(5 | 6) => Self::Acknowledgements,
            Some(7) => Self::Copies,
            Some(8 | 9) => Self::Heartbeats,
            _ => Self::Unknown,
        }
    }
}

/// What follows an integer of variable length, of at most 128 bits.
fn after_number(bytes: &[u8]) -> Option<&[u8]> {
    const BYTES_MAX: usize = 19;
    let last = bytes.iter().take(BYTES_MAX).position(|byte| byte & 0x80 == 0)?;
    bytes.get(last + 1..)
}

impl Packet {
    /// What it is for.
    #[must_use]
    pub fn kind(&self) -> PacketKind {
        match self {
            Self::Hello(_) | Self::Welcome { .. } | Self::Stale(_) | Self::Info(_) => {
                PacketKind::Links
            }
            Self::Raft { message, .. } => match &message.body {
                Body::PreVote { .. }
                | Body::PreVoteReply { .. }
                | Body::Vote { .. }
                | Body::VoteReply { .. }
                | Body::TimeoutNow => PacketKind::Elections,
                Body::Append { .. } => PacketKind::Entries,
                Body::Appended { .. } | Body::AppendRefused { .. } => PacketKind::Acknowledgements,
                Body::Install { .. } => PacketKind::Copies,
                Body::Heartbeat { .. } | Body::HeartbeatReply { .. } => PacketKind::Heartbeats,
            },
            Self::Alive { .. } => PacketKind::Alive,
            Self::Request { .. } | Self::Response { .. } => PacketKind::Requests,
            Self::Logs { .. } => PacketKind::Batches,
            Self::Sql { .. } | Self::SqlReply { .. } => PacketKind::Sql,
            Self::Copy { .. } | Self::Copies { .. } => PacketKind::Copies,
            Self::Verify { .. } | Self::Verified { .. } => PacketKind::Comparisons,
            Self::Measure { .. } | Self::Measured { .. } => PacketKind::Measures,
        }
    }
}
