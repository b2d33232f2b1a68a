//! After the last fault: every shard that can decide takes a write through every node.

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_core::engine::Transaction;
use quorate_core::node::SqlRequest;
use quorate_core::shard::{Reply, ShardError, SqlKind};
use quorate_core::{ClusterId, LogId};

use super::World;
use super::clients::Request;
use super::workload::{append, table};
use crate::checks::workloads::{APPENDS, Operation};
use crate::counts::Count;
use crate::outcome::Verdict;

/// Which node is asked to take a write, into which shard.
pub type Probe = (usize, ClusterId, LogId);

/// What became of a probe.
#[derive(Clone, Debug)]
enum State {
    /// Asked, and not answered.
    Asked(u64),
    /// Refused, because.
    Refused(String),
    /// Done.
    Done,
}

/// All probes.
#[derive(Debug, Default)]
pub struct Probes {
    all: BTreeMap<Probe, State>,
    /// Whether the table is there: asked for, or known to be.
    tables: BTreeMap<(ClusterId, LogId), Option<u64>>,
}

impl World {
    /// Asks those that have not taken a write yet; says who has not.
    pub(super) fn probe(&mut self, wanted: &[Probe]) -> Result<Vec<String>, crate::Violation> {
        for probe in wanted {
            let (host, cluster, log) = *probe;
            match self.probes.all.get(probe) {
                Some(State::Done) => continue,
                Some(State::Asked(id)) if !self.is_lost(*id) => continue,
                _ => {}
            }
            self.ask_probe(host, cluster, log)?;
        }
        let open = wanted.iter().filter_map(|probe| match self.probes.all.get(probe) {
            Some(State::Done) => None,
            Some(State::Refused(why)) => Some(format!("host {} {:?}: {why}", probe.0, probe.2)),
            _ => Some(format!("host {} {:?}: no answer", probe.0, probe.2)),
        });
        Ok(open.collect())
    }

    fn ask_probe(&mut self, host: usize, cluster: ClusterId, log: LogId) -> Verdict {
        let node = self.hosts[host].node.as_ref();
        let document = node.and_then(|node| node.configuration());
        let Some(shard) = document.and_then(|document| document.shard_of(log)) else {
            return Ok(());
        };
        let (database, shard) = (shard.database_name.to_owned(), Some(shard.name.to_owned()));
        let key = (cluster, log);
        let (operation, statements) = match self.probes.tables.get(&key).copied() {
            Some(Some(id)) if !self.is_lost(id) => return Ok(()),
            None | Some(Some(_)) => {
                self.probes.tables.insert(key, Some(self.clients.peek_next()));
                table(APPENDS)
            }
            Some(None) => append(i64::try_from(self.clients.next()).unwrap_or(i64::MAX)),
        };
        let transaction = Transaction { statements };
        let timeout = Duration::from_secs(3);
        let kind = SqlKind::Write;
        let request = SqlRequest { database, shard, transaction, kind, timeout };
        let id = self.clients.peek_next();
        self.probes.all.insert((host, cluster, log), State::Asked(id));
        let asked = self.ask(host, None, (cluster, log), operation, request)?;
        assert_eq!(asked, id, "the number that was foreseen");
        Ok(())
    }

    pub(super) fn probe_answered(&mut self, host: usize, request: &Request, reply: &Reply) {
        let asked = &request.asked;
        if matches!(asked.operation, Operation::Restore(_)) {
            return;
        }
        // A file may have become the content that holds no table.
        if let Reply::Failed(ShardError::Sql(error)) = reply
            && error.message.starts_with("no such table")
        {
            self.probes.tables.remove(&(asked.cluster, asked.log));
        }
        let probe = (host, asked.cluster, asked.log);
        if asked.operation == Operation::Make(APPENDS) {
            let there = match reply {
                Reply::Done { .. } => true,
                Reply::Failed(ShardError::Sql(error)) => error.message.ends_with("already exists"),
                Reply::Failed(_)
                | Reply::Compared { .. }
                | Reply::Session { .. }
                | Reply::Began { .. }
                | Reply::Stepped { .. } => false,
            };
            if there {
                self.probes.tables.insert((asked.cluster, asked.log), None);
            }
            self.probes.all.insert(probe, State::Refused(format!("table made: {reply:?}")));
            return;
        }
        let state = match reply {
            Reply::Done { .. } => {
                self.counts.add(Count::Probes);
                State::Done
            }
            Reply::Failed(error) => State::Refused(error.to_string()),
            Reply::Compared { .. }
            | Reply::Session { .. }
            | Reply::Began { .. }
            | Reply::Stepped { .. } => State::Refused("answered otherwise".to_owned()),
        };
        self.probes.all.insert(probe, state);
    }
}
