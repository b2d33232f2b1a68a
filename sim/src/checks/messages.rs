//! What a node says must be implied by what is durable on its disk.

use quorate_core::raft::{Body, Message};
use quorate_core::wire::{Announce, Packet};
use quorate_core::{ClusterId, Index, LogId, NodeId, Term};

use super::Checks;
use crate::disk::Directory;
use crate::outcome::{Verdict, Violation};

impl Checks {
    /// The owner of `directory` sends `packet` to `to`.
    ///
    /// # Errors
    /// `vote-not-durable`, `vote-given-twice`, `append-not-durable`, `term-not-durable`,
    /// `start-not-durable`, `welcome-not-durable`, `cluster-not-durable`.
    pub fn sends(&mut self, directory: &Directory, to: NodeId, packet: &Packet) -> Verdict {
        let node = directory.node;
        match packet {
            Packet::Raft { log, message, .. } => self.says(directory, to, *log, message),
            Packet::Logs { messages, .. } => messages
                .iter()
                .try_for_each(|(log, message)| self.says(directory, to, *log, message)),
            Packet::Hello(hello) => {
                if directory.durable.identity.starts.last() == Some(&hello.start) {
                    return Ok(());
                }
                let detail = format!("{node:?} greets {to:?} with {:?}", hello.start);
                Err(Violation::new("start-not-durable", detail))
            }
            Packet::Welcome { start } => {
                let kept = directory.remembers(to);
                if kept.is_some_and(|kept| kept.number >= start.number) {
                    return Ok(());
                }
                let detail = format!("{node:?} welcomes {start:?} of {to:?}, durable is {kept:?}");
                Err(Violation::new("welcome-not-durable", detail))
            }
            Packet::Info(info) => self.tells_cluster(directory, info.cluster),
            _ => Ok(()),
        }
    }

    /// The owner of `directory` multicasts `announce`.
    ///
    /// # Errors
    /// `cluster-not-durable`.
    pub fn announces(&mut self, directory: &Directory, announce: &Announce) -> Verdict {
        self.tells_cluster(directory, announce.cluster)
    }

    fn tells_cluster(&mut self, directory: &Directory, cluster: Option<ClusterId>) -> Verdict {
        let Some(cluster) = cluster else { return Ok(()) };
        let log = &directory.durable_log;
        let ledger = self.ledger(cluster);
        // Whoever names a cluster first must be its founder: nobody else can know of it.
        let founded = ledger.announced || log.last_index() > Index::ZERO;
        ledger.announced = true;
        if log.cluster == Some(cluster) && founded {
            return Ok(());
        }
        let detail = format!(
            "{:?} names {cluster:?}; its disk holds {:?} and a log of {}",
            directory.node,
            log.cluster,
            log.last_index()
        );
        Err(Violation::new("cluster-not-durable", detail))
    }

    fn says(
        &mut self,
        directory: &Directory,
        to: NodeId,
        log: LogId,
        message: &Message,
    ) -> Verdict {
        let node = directory.node;
        let term = message.term;
        match &message.body {
            Body::Vote { .. } => voted(directory, log, term, node),
            Body::VoteReply { granted: true } => {
                voted(directory, log, term, to)?;
                let before = *self.votes.entry((node, log, term)).or_insert(to);
                if before == to {
                    return Ok(());
                }
                let detail =
                    format!("{node:?} gives {before:?} and {to:?} its vote in term {term}");
                Err(Violation::new("vote-given-twice", detail))
            }
            Body::Appended { matched } => appended(directory, log, term, *matched),
            Body::Append { .. } | Body::Heartbeat { .. } | Body::Install { .. } => {
                in_term(directory, log, term)
            }
            _ => Ok(()),
        }
    }
}

fn voted(directory: &Directory, log: LogId, term: Term, candidate: NodeId) -> Verdict {
    if directory.votes.get(&(log, term)) == Some(&candidate) {
        return Ok(());
    }
    let detail = format!(
        "{:?} says it votes for {candidate:?} in term {term} of {log:?}; durable is {:?}",
        directory.node,
        directory.durable_log_of(log).map(|held| held.hard)
    );
    Err(Violation::new("vote-not-durable", detail))
}

fn appended(directory: &Directory, log: LogId, term: Term, matched: Index) -> Verdict {
    if matched == Index::ZERO {
        return Ok(());
    }
    in_term(directory, log, term)?;
    let (Some(log), Some(written)) = (directory.durable_log_of(log), directory.written(log)) else {
        let detail =
            format!("{:?} says that it holds {matched} of {log:?}: no log", directory.node);
        return Err(Violation::new("append-not-durable", detail));
    };
    // The log in writing may have been cut since: what is durable must agree with it so far.
    let agrees = match written.term_at(matched) {
        Some(term) => log.covers(matched, term),
        None => log.last_index() >= matched,
    };
    if log.base >= matched || agrees {
        return Ok(());
    }
    let detail = format!(
        "{:?} says in term {term} that it holds {matched}; durable is its log to {}",
        directory.node,
        log.last_index()
    );
    Err(Violation::new("append-not-durable", detail))
}

fn in_term(directory: &Directory, log: LogId, term: Term) -> Verdict {
    let held = directory.durable_log_of(log).map(|held| held.hard.term.max(held.last_term()));
    let held = held.unwrap_or_default();
    if held >= term {
        return Ok(());
    }
    let detail =
        format!("{:?} speaks in term {term} of {log:?}, durable is {held}", directory.node);
    Err(Violation::new("term-not-durable", detail))
}
