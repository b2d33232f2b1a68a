//! The state machine of the configuration log: the document.

use std::sync::Arc;

use bytes::Bytes;

use super::{Event, Node, Output, State, StopReason};
use crate::configuration::{self, Applied, ConfigCommand, Configuration, Rejection};
use crate::raft::{Entry, Payload};

pub(super) fn encode_command(command: &ConfigCommand) -> Bytes {
    let bytes = postcard::to_allocvec(command);
    bytes.unwrap_or_else(|e| unreachable!("a command always encodes: {e}")).into()
}

/// Reads the command in an entry of the configuration log; `None` if it is none that this version
/// knows.
#[must_use]
pub fn decode_command(data: &[u8]) -> Option<ConfigCommand> {
    postcard::from_bytes(data).ok()
}

impl Node {
    /// Applies what has been committed, and keeps the log short.
    pub(super) fn apply_committed(&mut self) {
        let before = self.document.as_ref().map(|document| document.version);
        let Some(raft) = &mut self.raft else { return };
        if let Some(snapshot) = raft.take_restored() {
            match postcard::from_bytes::<Option<Configuration>>(&snapshot.data) {
                Ok(document) => self.replace_document(document),
                Err(_) => {
                    let reason = "the snapshot of the configuration does not decode".to_owned();
                    self.stop(StopReason::StorageFailed(reason));
                    return;
                }
            }
        }
        while let Some(entry) = self.raft.as_mut().and_then(|raft| raft.take_committed()) {
            self.apply_entry(&entry);
            if self.stopped {
                return;
            }
        }
        // Not before all that is known to be committed is applied: after a start the document goes
        // through versions in which shards are to be begun that were dropped since.
        if let Some(document) = self.document.clone()
            && Some(document.version) != before
        {
            self.adopt_shards(&document);
        }
        let Some(raft) = &mut self.raft else { return };
        if raft.applied().0 >= raft.snapshot().index.0 + self.config.limits.entries_before_snapshot
        {
            let data = postcard::to_allocvec(&self.document);
            raft.compact(data.unwrap_or_else(|e| unreachable!("a document encodes: {e}")).into());
        }
    }

    fn replace_document(&mut self, document: Option<Configuration>) {
        self.document = document.map(Arc::new);
        if let Some(document) = &self.document {
            let event = Event::Configuration(Arc::clone(document));
            self.out.push_back(Output::Event(event));
        }
        self.after_document_changed();
    }

    fn apply_entry(&mut self, entry: &Entry) {
        let outcome = match &entry.payload {
            Payload::Data(data) => decode_command(data).map(|command| self.apply_command(&command)),
            Payload::Empty | Payload::Membership(_) => None,
        };
        let changed = outcome == Some(Ok(Applied::Changed));
        self.settle_waiters(entry.index, entry.term, outcome);
        if changed {
            self.after_document_changed();
        }
    }

    /// Applies a command to the document and tells of the new version.
    pub(super) fn apply_command(&mut self, command: &ConfigCommand) -> Result<Applied, Rejection> {
        let mut document = self.document.as_deref().cloned();
        let result = configuration::apply(&mut document, command);
        if result == Ok(Applied::Changed) {
            self.document = document.map(Arc::new);
            if let Some(document) = &self.document {
                let event = Event::Configuration(Arc::clone(document));
                self.out.push_back(Output::Event(event));
            }
        }
        result
    }

    fn after_document_changed(&mut self) {
        let Some(document) = self.document.clone() else { return };
        let me = self.id();
        self.sql.shown.keep(&document);
        self.next_dial = self.now;
        self.doubt_links();
        #[cfg(quorate_faults)]
        self.suggest_tie_breaker(&document);
        if document.dissolved_into.is_some() {
            self.on_dissolved();
            return;
        }
        if document.servers.contains_key(&me)
            && self.state == State::Joining
            && document.version > self.joining.out_at
            && self.identity.cluster == Some(document.cluster)
        {
            self.set_state(State::Member);
        }
    }

    /// For the deliberate fault that takes the tie-breaker from the document.
    #[cfg(quorate_faults)]
    fn suggest_tie_breaker(&mut self, document: &Configuration) {
        let online = document
            .masters()
            .filter(|(_, s)| s.status == crate::configuration::ServerStatus::Online);
        let oldest = online.map(|(id, s)| (s.joined, id)).min().map(|(_, id)| id);
        if let Some(raft) = &mut self.raft {
            raft.set_document_tie_breaker(oldest);
        }
    }

    /// The document no longer has this node in it. Taken out by an operator while it ran, it stops;
    /// taken out for its silence, it asks to be let in again.
    pub(super) fn notice_removal(&mut self) {
        let Some((document, raft)) = self.document.as_ref().zip(self.raft.as_ref()) else { return };
        let me = self.identity.node;
        let known = document.version >= self.joining.since;
        let running = matches!(self.state, State::Member | State::Returning);
        if !running || !known || document.servers.contains_key(&me) {
            return;
        }
        if raft.is_leader() && (self.state == State::Member || !self.is_coordinator()) {
            // A leader that is out sees its own removal through, and resigns. One that was taken out
            // before it was started, and leads because nobody else can, stays.
            return;
        }
        if self.state == State::Member && document.expelled.contains_key(&me) {
            // Its vote is needed until the membership has followed; the coordinator says when.
            let peers = self.links.peers();
            let own = self.identity.cluster;
            if peers.values().any(|(_, info)| info.released && info.cluster == own) {
                self.stop(StopReason::Removed);
            }
        } else {
            let version = document.version;
            self.knock_again(version);
        }
    }
}
