//! What was sent: a set, for whatever was sent may arrive at any time, and again.

use std::sync::Arc;

use quorate_core::raft::{Body, Message, NodeId, Role};

use crate::state::{Host, digest};

/// A message and whose it is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Letter {
    /// Who sent it.
    pub from: NodeId,
    /// For whom it is.
    pub to: NodeId,
    /// What it says.
    pub message: Message,
}

impl Letter {
    /// Heartbeats are numbered for reads, of which there are none here: without, they are all the same.
    pub(crate) fn without_round(mut self) -> Self {
        if let Body::Heartbeat { round, .. } | Body::HeartbeatReply { round } =
            &mut self.message.body
        {
            *round = 0;
        }
        self
    }
}

/// All that was sent and may still do something.
#[derive(Clone, Default, Debug)]
pub struct Network {
    /// In the order of their hashes, which is the same whatever order they were sent in.
    letters: Arc<Vec<(u64, Arc<Letter>)>>,
}

impl Network {
    /// Puts a letter on its way, unless the same is there already. Returns whether it was not.
    pub fn send(&mut self, letter: &Letter) -> bool {
        let key = digest(letter);
        let place = self.letters.binary_search_by_key(&key, |(digest, _)| *digest);
        let Err(place) = place else { return false };
        Arc::make_mut(&mut self.letters).insert(place, (key, Arc::new(letter.clone())));
        true
    }

    /// Takes a letter away.
    pub(crate) fn take_first(&mut self) -> Option<Arc<Letter>> {
        if self.letters.is_empty() {
            return None;
        }
        Some(Arc::make_mut(&mut self.letters).remove(0).1)
    }

    /// Whether it is on its way.
    #[must_use]
    pub fn has(&self, letter: &Letter) -> bool {
        let key = digest(letter);
        self.letters.binary_search_by_key(&key, |(digest, _)| *digest).is_ok()
    }

    /// Takes away what `node` will ignore for ever.
    pub fn forget_dead(&mut self, node: NodeId, host: &Host) {
        let dead = |letter: &Letter| letter.to == node && is_dead(&letter.message, host);
        if self.letters().any(|letter| dead(letter)) {
            Arc::make_mut(&mut self.letters).retain(|(_, letter)| !dead(letter));
        }
    }

    /// All that may arrive.
    pub fn letters(&self) -> impl Iterator<Item = &Arc<Letter>> {
        self.letters.iter().map(|(_, letter)| letter)
    }

    /// The hashes of all that may arrive, in order.
    pub(crate) fn digests(&self) -> impl Iterator<Item = u64> {
        self.letters.iter().map(|(digest, _)| *digest)
    }
}

/// Whether `host` will never again do anything on this message. That is so for the answer to a pre-vote
/// for a term that its disk has; for answers of an earlier term than that, which get none; and for answers
/// to a candidate or leader of that very term, if it is none: it will not be one again, for a term on a
/// disk is not campaigned for.
#[must_use]
pub fn is_dead(message: &Message, host: &Host) -> bool {
    let term = host.durable().hard_state.term;
    let open = |roles: &[Role]| {
        message.term > term
            || (message.term == term
                && (host.raft.term() < term || roles.contains(&host.raft.role())))
    };
    match &message.body {
        Body::PreVoteReply { next, .. } => message.term <= term && *next <= term,
        Body::VoteReply { .. } => !open(&[Role::Candidate]),
        Body::Appended { .. } | Body::AppendRefused { .. } | Body::HeartbeatReply { .. } => {
            !open(&[Role::Candidate, Role::Leader])
        }
        Body::TimeoutNow => message.term < term,
        _ => false,
    }
}
