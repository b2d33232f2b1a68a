//! Transactions on their way to the copy that can run them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::shards::TRY_AGAIN;
use super::verify::Verifications;
use super::{Node, Output, SqlRequest};
use crate::configuration::{MAIN, ShardRef};
use crate::engine::Transaction;
use crate::ids::{CommandId, LinkId, LogId, NodeId};
use crate::shard::{Consistency, Read, Reply, RequestId, ShardError, SqlKind, Upload, Write};
use crate::time::Time;
use crate::wire::Packet;

/// Transactions of this node's own that may wait at one time.
const PENDING_MAX: usize = 16 * 1024;

/// How long a read waits for the copy at hand to have what it must see, before it goes to the owner.
const PATIENCE: Duration = Duration::from_secs(1);

/// Who asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asker {
    /// Somebody at this node.
    Own(CommandId),
    /// A peer, which passed it on.
    Peer { link: LinkId, id: u64 },
}

/// A transaction on its way.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    asker: Asker,
    pub(super) log: LogId,
    transaction: Transaction,
    pub(super) kind: SqlKind,
    deadline: Time,
    /// Where it is: with the own copy, or over which link; `None`: waiting to be tried.
    with: Option<Where>,
    /// Not before this.
    next: Time,
    /// Who is said to own the shard.
    hint: Option<NodeId>,
    /// Since when too few are in reach for anybody to own it.
    pub(super) lost_since: Option<Time>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Where {
    Here,
    There(LinkId),
}

/// Transactions on their way.
#[derive(Default, Debug)]
pub(super) struct Sql {
    last: u64,
    pub(super) pending: BTreeMap<RequestId, Pending>,
    /// Those that wait to be tried, and those that give up, by time.
    waiting: BTreeSet<(Time, RequestId)>,
    pub(super) verify: Verifications,
}

impl Sql {
    pub(super) fn next(&self) -> Option<Time> {
        let first = self.waiting.first().map(|(at, _)| *at);
        [first, self.verify.next()].into_iter().flatten().min()
    }
}

impl Node {
    /// A transaction of this node's own.
    pub(super) fn on_sql(&mut self, id: CommandId, request: SqlRequest) {
        let SqlRequest { database, shard, transaction, kind, timeout } = request;
        let log = self.log_of(&database, shard.as_deref());
        let resolved = log.and_then(|log| Ok((log, self.resolve(&database, log, kind)?)));
        let (log, kind) = match resolved {
            Ok(resolved) => resolved,
            Err(error) => {
                self.out.push_back(Output::SqlReply { id, reply: Reply::Failed(error) });
                return;
            }
        };
        self.enter(Asker::Own(id), log, (transaction, kind), timeout);
    }

    /// What a read must have seen, where that depends on the configuration.
    fn resolve(&self, database: &str, log: LogId, kind: SqlKind) -> Result<SqlKind, ShardError> {
        let shard = self.document.as_ref().and_then(|document| document.shard_of(log));
        let consistency = match kind {
            SqlKind::Read(Consistency::AsConfigured) => {
                let more = shard.is_some_and(|s| s.read_quorum().copies(s.masters().count()) > 1);
                if more { Consistency::Linearizable } else { Consistency::Local }
            }
            SqlKind::Read(Consistency::Since(token)) => {
                if token.log != log || shard.is_none_or(|s| s.database.id != token.database) {
                    let database = database.chars().take(80).collect();
                    return Err(ShardError::StaleToken { database });
                }
                Consistency::AtLeast(token.at)
            }
            // Whoever was handed the file is asked for it.
            SqlKind::Restore(upload) => {
                let node = self.id();
                return Ok(SqlKind::Restore(Upload { node, ..upload }));
            }
            other => return Ok(other),
        };
        Ok(SqlKind::Read(consistency))
    }

    fn log_of(&self, database: &str, shard: Option<&str>) -> Result<LogId, ShardError> {
        let document = self.document.as_ref().filter(|_| self.takes_requests());
        let Some(document) = document else {
            let reason = format!("this node is no member of a cluster: it is {}", self.state);
            return Err(ShardError::Unavailable(reason));
        };
        let shard = shard.unwrap_or(MAIN);
        match (document.databases.contains_key(database), document.shard(database, shard)) {
            (_, Some(found)) => Ok(found.shard.log),
            (true, None) => Err(ShardError::UnknownShard {
                database: database.to_owned(),
                shard: shard.chars().take(80).collect(),
            }),
            (false, None) => {
                Err(ShardError::UnknownDatabase { name: database.chars().take(80).collect() })
            }
        }
    }

    /// A peer passes a transaction on: it is run here or not at all. Only servers of the cluster may.
    pub(super) fn on_peer_sql(
        &mut self,
        (link, peer): (LinkId, NodeId),
        id: u64,
        log: LogId,
        (transaction, kind): (Transaction, SqlKind),
        timeout: Duration,
    ) {
        if !self.is_server(peer) {
            let reply = Reply::Failed(ShardError::NotOwner { owner: None });
            self.tell(Asker::Peer { link, id }, reply);
            return;
        }
        self.enter(Asker::Peer { link, id }, log, (transaction, kind), timeout);
    }

    fn enter(
        &mut self,
        asker: Asker,
        log: LogId,
        (transaction, kind): (Transaction, SqlKind),
        timeout: Duration,
    ) {
        if self.sql.pending.len() >= PENDING_MAX {
            self.tell(asker, Reply::Failed(ShardError::Busy));
            return;
        }
        self.sql.last += 1;
        let id = RequestId(self.sql.last);
        let (deadline, next) = (self.now + timeout, self.now);
        let (with, hint, lost_since) = (None, None, None);
        let pending =
            Pending { asker, log, transaction, kind, deadline, with, next, hint, lost_since };
        self.sql.pending.insert(id, pending);
        self.sql.waiting.insert((deadline, id));
        self.try_sql(id);
    }

    /// Gives a transaction to whoever can run it.
    fn try_sql(&mut self, id: RequestId) {
        let Some(pending) = self.sql.pending.get(&id) else { return };
        let (log, kind, deadline) = (pending.log, pending.kind, pending.deadline);
        let transaction = pending.transaction.clone();
        let passed_on = matches!(pending.asker, Asker::Peer { .. });
        let now = self.now;
        if passed_on || self.can_run_here(log, kind) {
            self.place(id, Where::Here);
            let Some(shard) = self.shards.touch(log) else {
                let owner = None;
                self.settle_sql(id, Reply::Failed(ShardError::NotOwner { owner }));
                return;
            };
            match kind {
                SqlKind::Write => shard.write(now, Write { id, transaction, deadline }),
                SqlKind::Read(consistency) => {
                    // A copy that does not come to what was seen in a while leaves it to the owner.
                    let deadline = match consistency {
                        Consistency::AtLeast(_) if !passed_on => {
                            deadline.min(now + (deadline.since(now) / 2).min(PATIENCE))
                        }
                        _ => deadline,
                    };
                    shard.read(now, Read { id, transaction, consistency, deadline });
                }
                SqlKind::Compare => self.compare_copies(id, log, deadline),
                SqlKind::Restore(upload) => self.restore(id, log, upload, deadline),
            }
            return;
        }
        let link = self.whom_to_pass_to(id).and_then(|node| self.links.usable(node));
        let Some(link) = link else {
            match self.lost_for_good(id) {
                Some(error) => self.settle_sql(id, Reply::Failed(error)),
                None => self.try_later(id),
            }
            return;
        };
        self.place(id, Where::There(link));
        let left = u32::try_from(deadline.since(now).as_millis()).unwrap_or(u32::MAX);
        // A little less than this node waits, so that the answer is here in time.
        let timeout_ms = left.saturating_sub(left / 16).max(1);
        let packet = Packet::Sql { id: id.0, log, transaction, kind, timeout_ms };
        self.send_packet(link, &packet);
    }

    fn place(&mut self, id: RequestId, at: Where) {
        if let Some(pending) = self.sql.pending.get_mut(&id) {
            pending.with = Some(at);
        }
    }

    fn try_later(&mut self, id: RequestId) {
        let at = self.now + TRY_AGAIN;
        if let Some(pending) = self.sql.pending.get_mut(&id) {
            pending.with = None;
            pending.next = at;
            self.sql.waiting.insert((at, id));
        }
    }

    /// Whether the own copy is the one to ask.
    fn can_run_here(&self, log: LogId, kind: SqlKind) -> bool {
        let Some(shard) = self.shards.all.get(&log) else { return false };
        let document = self.document.as_ref();
        let me = self.id();
        match kind {
            SqlKind::Read(Consistency::Local | Consistency::AtLeast(_)) => {
                let listed = document.and_then(|d| d.shard_of(log));
                listed.is_some_and(|s| is_online(s, me)) && shard.broken().is_none()
            }
            SqlKind::Write | SqlKind::Read(_) | SqlKind::Compare | SqlKind::Restore(_) => {
                shard.log().is_leader()
            }
        }
    }

    /// The owner, as far as is known; for reads of any copy, any that serves.
    fn whom_to_pass_to(&self, id: RequestId) -> Option<NodeId> {
        let pending = self.sql.pending.get(&id)?;
        let me = self.id();
        let leader = self.shards.all.get(&pending.log).and_then(|shard| shard.log().leader());
        let known = pending.hint.or(leader).filter(|node| *node != me);
        let document = self.document.as_ref()?;
        let shard = document.shard_of(pending.log)?;
        let reached = |node: &NodeId| *node != me && self.links.usable(*node).is_some();
        let any = || {
            let online = shard.servers().map(|(node, _)| node).filter(|n| is_online(shard, *n));
            online.into_iter().find(reached)
        };
        match pending.kind {
            SqlKind::Read(Consistency::Local | Consistency::AtLeast(_)) => any(),
            SqlKind::Write | SqlKind::Read(_) | SqlKind::Compare | SqlKind::Restore(_) => {
                known.filter(reached).or_else(|| shard.candidates().into_iter().find(reached))
            }
        }
    }

    /// A copy of this node has answered.
    pub(super) fn on_shard_reply(&mut self, id: RequestId, reply: Reply) {
        if self.sql.pending.get(&id).is_some_and(|p| p.with == Some(Where::Here)) {
            self.on_sql_answer(id, reply);
        }
    }

    /// A peer has answered.
    pub(super) fn on_sql_reply(&mut self, link: LinkId, id: u64, reply: Reply) {
        let id = RequestId(id);
        if self.sql.pending.get(&id).is_some_and(|p| p.with == Some(Where::There(link))) {
            self.on_sql_answer(id, reply);
        }
    }

    fn on_sql_answer(&mut self, id: RequestId, reply: Reply) {
        let Some(pending) = self.sql.pending.get_mut(&id) else { return };
        let own = matches!(pending.asker, Asker::Own(_));
        match reply {
            // Nothing ran: there is time to find the owner.
            Reply::Failed(ShardError::NotOwner { owner }) if own && self.now < pending.deadline => {
                let told = owner.filter(|node| Some(*node) != pending.hint);
                pending.hint = owner;
                match told {
                    Some(_) => self.try_sql(id),
                    None => self.try_later(id),
                }
            }
            Reply::Failed(ShardError::TimedOut) if own && self.now < pending.deadline => {
                match pending.kind {
                    SqlKind::Read(Consistency::AtLeast(at)) => {
                        pending.kind = SqlKind::Read(Consistency::Holding(at));
                        self.try_sql(id);
                    }
                    _ => self.settle_sql(id, reply),
                }
            }
            reply => self.settle_sql(id, reply),
        }
    }

    fn settle_sql(&mut self, id: RequestId, reply: Reply) {
        let Some(pending) = self.sql.pending.remove(&id) else { return };
        self.sql.waiting.remove(&(pending.deadline, id));
        self.sql.waiting.remove(&(pending.next, id));
        self.tell(pending.asker, reply);
    }

    fn tell(&mut self, asker: Asker, reply: Reply) {
        match asker {
            Asker::Own(id) => self.out.push_back(Output::SqlReply { id, reply }),
            Asker::Peer { link, id } if self.links.all.contains_key(&link) => {
                self.send_packet(link, &Packet::SqlReply { id, reply });
            }
            Asker::Peer { .. } => {}
        }
    }

    /// Tries those whose time has come, and gives up those whose time is up.
    pub(super) fn drive_sql(&mut self) {
        let now = self.now;
        self.drive_verify();
        while let Some((at, id)) = self.sql.waiting.first().copied().filter(|(at, _)| *at <= now) {
            self.sql.waiting.remove(&(at, id));
            let Some(pending) = self.sql.pending.get(&id) else { continue };
            if now >= pending.deadline {
                self.give_up_sql(id);
            } else if pending.with.is_none() {
                self.try_sql(id);
            }
        }
    }

    fn give_up_sql(&mut self, id: RequestId) {
        let Some(pending) = self.sql.pending.get(&id) else { return };
        let error = match (pending.with, pending.kind) {
            // The own copy gives up by itself, and knows better what has been done.
            (Some(Where::Here), _) => {
                let at = self.now + TRY_AGAIN * 5;
                self.sql.waiting.insert((at, id));
                return;
            }
            (Some(Where::There(_)), SqlKind::Write | SqlKind::Restore(_)) => {
                ShardError::OutcomeUnknown
            }
            (Some(Where::There(_)), SqlKind::Read(_) | SqlKind::Compare) => ShardError::TimedOut,
            (None, _) => self.why_nobody(pending.log),
        };
        self.settle_sql(id, Reply::Failed(error));
    }

    /// The database of a shard was dropped: what its copy was asked for is answered by nobody else.
    pub(super) fn sql_shard_gone(&mut self, log: LogId) {
        let here = |p: &Pending| p.log == log && p.with == Some(Where::Here);
        let left: Vec<(RequestId, SqlKind)> = self
            .sql
            .pending
            .iter()
            .filter(|(_, pending)| here(pending))
            .map(|(id, pending)| (*id, pending.kind))
            .collect();
        for (id, kind) in left {
            let error = match kind {
                SqlKind::Write | SqlKind::Restore(_) => ShardError::OutcomeUnknown,
                SqlKind::Read(_) | SqlKind::Compare => {
                    ShardError::Unavailable("its database was dropped".to_owned())
                }
            };
            self.settle_sql(id, Reply::Failed(error));
        }
    }

    /// What was on its way over a link that is gone: a write may have been done.
    pub(super) fn sql_link_down(&mut self, link: LinkId) {
        self.verify_link_down(link);
        let lost: Vec<(RequestId, SqlKind)> = self
            .sql
            .pending
            .iter()
            .filter(|(_, p)| p.with == Some(Where::There(link)))
            .map(|(id, p)| (*id, p.kind))
            .collect();
        for (id, kind) in lost {
            match kind {
                SqlKind::Write | SqlKind::Restore(_) => {
                    self.settle_sql(id, Reply::Failed(ShardError::OutcomeUnknown));
                }
                SqlKind::Read(_) | SqlKind::Compare => self.try_later(id),
            }
        }
    }
}

fn is_online(shard: ShardRef<'_>, node: NodeId) -> bool {
    shard.shard.copies.get(&node) == Some(&crate::configuration::CopyStatus::Online)
}
