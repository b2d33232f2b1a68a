//! What is to be known of a message at a glance: of which kind it is, and the numbers in it.

use quorate_core::client::{ToClient, ToServer};
use quorate_core::raft::{Body, Message};
use quorate_core::wire::Packet;
use quorate_core::{Index, LogId, Term};

/// Which kinds of messages are shown and hidden together, in order of what matters most.
pub(super) const CLASSES: [&str; 10] = [
    "elections",
    "links",
    "copies",
    "requests",
    "sql",
    "client protocol",
    "entries",
    "acknowledgements",
    "heartbeats",
    "announcements",
];

/// The names of all kinds and the place of their class, in the order of their numbers.
pub(super) const KINDS: [(&str, u8); 39] = [
    ("announcement", 9),
    ("dial", 1),
    ("hello", 1),
    ("welcome", 1),
    ("stale", 1),
    ("info", 1),
    ("pre-vote?", 0),
    ("pre-vote", 0),
    ("vote?", 0),
    ("vote", 0),
    ("append", 6),
    ("appended", 7),
    ("append refused", 7),
    ("install", 2),
    ("heartbeat", 8),
    ("heartbeat reply", 8),
    ("time out now", 0),
    ("alive", 8),
    ("request", 3),
    ("response", 3),
    ("heartbeats of logs", 8),
    ("sql", 4),
    ("sql reply", 4),
    ("copy", 2),
    ("copies", 2),
    ("verify", 2),
    ("verified", 2),
    ("measure", 3),
    ("measured", 3),
    ("unreadable", 1),
    ("sql of a client", 5),
    ("ping", 5),
    ("greeting", 5),
    ("refusal", 5),
    ("layout", 5),
    ("reply to a client", 5),
    ("denied", 5),
    ("pong", 5),
    ("copies for clients", 5),
];

/// The numbers of a message.
#[derive(Clone, Copy, Default, Debug)]
pub struct Facts {
    /// Its place in [`KINDS`].
    pub(super) kind: u8,
    pub(super) log: Option<LogId>,
    pub(super) term: Option<Term>,
    /// The last index that it is about: of its entries, acknowledged, or of the sender's log.
    pub(super) index: Option<Index>,
    pub(super) commit: Option<Index>,
    /// How many entries, or messages of logs, it holds.
    pub(super) count: Option<usize>,
}

impl Facts {
    fn of(kind: u8) -> Self {
        Self { kind, ..Self::default() }
    }

    /// Of an announcement to the multicast group.
    pub(crate) fn announcement() -> Self {
        Self::of(0)
    }

    /// Of somebody who dials.
    pub(crate) fn dial() -> Self {
        Self::of(1)
    }

    /// Whether such messages come again and again, and say nothing new.
    pub(crate) fn is_routine(self) -> bool {
        matches!(self.kind, 0 | 14 | 15 | 17 | 20)
    }
}

impl From<&Packet> for Facts {
    fn from(packet: &Packet) -> Self {
        let about = |kind, log: &LogId| Self { log: Some(*log), ..Self::of(kind) };
        match packet {
            Packet::Hello(hello) => {
                Self { term: Some(hello.term), index: Some(hello.last_index), ..Self::of(2) }
            }
            Packet::Welcome { .. } => Self::of(3),
            Packet::Stale(_) => Self::of(4),
            Packet::Info(_) => Self::of(5),
            Packet::Raft { log, message, .. } => of_log(*log, message),
            Packet::Alive { heard } => Self { count: Some(heard.len()), ..Self::of(17) },
            Packet::Request { .. } => Self::of(18),
            Packet::Response { .. } => Self::of(19),
            Packet::Logs { messages, .. } => of_logs(messages),
            Packet::Sql { log, .. } => about(21, log),
            Packet::SqlReply { .. } => Self::of(22),
            Packet::Copy { log, .. } => about(23, log),
            Packet::Copies { copies, .. } => Self { count: Some(copies.len()), ..Self::of(24) },
            Packet::Verify { log, .. } => about(25, log),
            Packet::Verified { log, .. } => about(26, log),
            Packet::Measure { .. } => Self::of(27),
            Packet::Measured { .. } => Self::of(28),
        }
    }
}

/// Of messages of several logs: of the one if they are of one, and of the most important kind in them.
fn of_logs(messages: &[(LogId, Message)]) -> Facts {
    let facts = |(log, message): &(LogId, Message)| of_log(*log, message);
    let count = Some(messages.len());
    match messages {
        [only] => Facts { count, ..facts(only) },
        _ => {
            let kind = messages.iter().map(facts).find(|facts| !facts.is_routine());
            Facts { kind: kind.map_or(20, |facts| facts.kind), count, ..Facts::default() }
        }
    }
}

fn of_log(log: LogId, message: &Message) -> Facts {
    let (kind, index, commit, count) = match &message.body {
        Body::PreVote { last_index, .. } => (6, Some(*last_index), None, None),
        Body::PreVoteReply { .. } => (7, None, None, None),
        Body::Vote { last_index, .. } => (8, Some(*last_index), None, None),
        Body::VoteReply { .. } => (9, None, None, None),
        Body::Append { prev_index, entries, commit, .. } => {
            let last = entries.last().map_or(*prev_index, |entry| entry.index);
            (10, Some(last), Some(*commit), Some(entries.len()))
        }
        Body::Appended { matched } => (11, Some(*matched), None, None),
        Body::AppendRefused { prev_index, .. } => (12, Some(*prev_index), None, None),
        Body::Install { snapshot } => (13, Some(snapshot.index), None, None),
        Body::Heartbeat { commit, .. } => (14, None, Some(*commit), None),
        Body::HeartbeatReply { .. } => (15, None, None, None),
        Body::TimeoutNow => (16, None, None, None),
    };
    Facts { kind, log: Some(log), term: Some(message.term), index, commit, count }
}

impl From<&ToServer> for Facts {
    fn from(message: &ToServer) -> Self {
        Self::of(match message {
            ToServer::Sql { .. } => 30,
            ToServer::Ping(_) => 31,
        })
    }
}

impl From<&ToClient> for Facts {
    fn from(message: &ToClient) -> Self {
        Self::of(match message {
            ToClient::Welcome { .. } => 32,
            ToClient::Refused { .. } => 33,
            ToClient::Layout(_) => 34,
            ToClient::Reply { .. } => 35,
            ToClient::Denied { .. } => 36,
            ToClient::Pong(_) => 37,
            ToClient::Copies(_) => 38,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_name_of_its_own_and_a_class_that_there_is() {
        let names: std::collections::BTreeSet<&str> = KINDS.iter().map(|(name, _)| *name).collect();
        assert_eq!(names.len(), KINDS.len());
        assert!(KINDS.iter().all(|(_, class)| usize::from(*class) < CLASSES.len()));
    }

    #[test]
    fn of_several_logs_the_kind_that_says_something_is_named() {
        let round = |kind| (LogId(1), Message { term: Term(3), body: kind });
        let beats = Body::Heartbeat { commit: Index(4), round: 1 };
        let votes = Body::VoteReply { granted: true };
        assert_eq!(of_logs(&[round(beats.clone()), round(beats.clone())]).kind, 20);
        assert_eq!(of_logs(&[round(beats), round(votes.clone())]).kind, 9);
        let alone = of_logs(&[round(votes)]);
        assert_eq!((alone.kind, alone.term, alone.log), (9, Some(Term(3)), Some(LogId(1))));
    }
}
