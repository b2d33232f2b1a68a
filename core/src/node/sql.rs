//! Transactions on their way to the copy that can run them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::shards::TRY_AGAIN;
use super::shown::Shown;
use super::verify::Verifications;
use super::{Node, Output, SqlRequest, State};
use crate::configuration::{MAIN, ShardRef};
use crate::engine::Transaction;
use crate::faults::{self, Fault};
use crate::ids::{ClusterId, CommandId, LinkId, LogId, NodeId};
use crate::shard::{
    Consistency, Delivery, Read, Reply, RequestId, ShardError, ShardId, SqlKind, Step,
    TransactionId, Upload, Write,
};
use crate::time::Time;
use crate::wire::Packet;

/// Transactions of this node's own that may wait at one time.
const PENDING_MAX: usize = 16 * 1024;

/// How long a read waits for the copy at hand to have what it must see, before it goes to the owner.
const PATIENCE: Duration = Duration::from_secs(1);

/// Who asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asker {
    /// Somebody at this node, of this shard. If `as_configured`, what this node has shown before is not
    /// waited for at any price.
    Own { id: CommandId, of: ShardId, as_configured: bool },
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
    /// It was sent, in a session, to somebody of whom nothing was heard since: it may be done.
    doubtful: bool,
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
    pub(super) shown: Shown,
}

impl Sql {
    pub(super) fn next(&self) -> Option<Time> {
        let first = self.waiting.first().map(|(at, _)| *at);
        first.into_iter().chain(self.verify.next()).min()
    }
}

impl Node {
    /// A transaction of this node's own.
    pub(super) fn on_sql(&mut self, id: CommandId, request: SqlRequest) {
        let SqlRequest { database, shard, transaction, kind, timeout } = request;
        let as_configured = kind == SqlKind::Read(Consistency::AsConfigured);
        let of = self.shard_named(&database, shard.as_deref());
        let resolved = of.and_then(|of| Ok((of, self.resolve(&database, of, kind)?)));
        let (of, kind) = match resolved {
            Ok(resolved) => resolved,
            Err(error) => {
                self.out.push_back(Output::SqlReply { id, reply: Reply::Failed(error), of: None });
                return;
            }
        };
        let asker = Asker::Own { id, of, as_configured };
        self.enter(asker, of.log, (transaction, kind), timeout);
    }

    /// What a read must have seen, where that depends on the configuration.
    fn resolve(&self, database: &str, of: ShardId, kind: SqlKind) -> Result<SqlKind, ShardError> {
        // Of writes, which are most, nothing of that is asked.
        let shard = || self.document.as_ref().and_then(|document| document.shard_of(of.log));
        let more = || shard().is_some_and(ShardRef::reads_are_linearizable);
        let consistency = match kind {
            SqlKind::Read(Consistency::AsConfigured) => {
                let own = || {
                    shard().is_some_and(ShardRef::read_your_writes)
                        && !faults::active(Fault::ShownIgnored)
                };
                match self.sql.shown.of(of).filter(|_| own()) {
                    _ if more() => Consistency::Linearizable,
                    Some(at) => Consistency::AtLeast(at),
                    None => Consistency::Local,
                }
            }
            SqlKind::Read(Consistency::Since(token)) => {
                if (token.database, token.log) != (of.database, of.log) {
                    let database = database.chars().take(80).collect();
                    return Err(ShardError::StaleToken { database });
                }
                // A token asks for no less than whoever has none gets.
                if more() { Consistency::Holding(token.at) } else { Consistency::AtLeast(token.at) }
            }
            // Whoever was handed the file is asked for it.
            SqlKind::Restore(upload) => {
                let node = self.id();
                return Ok(SqlKind::Restore(Upload { node, ..upload }));
            }
            // A session of a database of the same name that is not there any more, or elsewhere.
            SqlKind::Once(once) | SqlKind::Finish(_, Some(once))
                if once.log != of.log || self.is_elsewhere(once.cluster) =>
            {
                return Err(ShardError::SessionExpired);
            }
            other => return Ok(other),
        };
        Ok(SqlKind::Read(consistency))
    }

    fn is_elsewhere(&self, cluster: ClusterId) -> bool {
        !self.serves(cluster) && !faults::active(Fault::SessionOfAnotherCluster)
    }

    /// Whether this node serves that cluster: it may when that it belongs to it is not durable yet.
    fn serves(&self, cluster: ClusterId) -> bool {
        self.document.as_ref().is_some_and(|document| document.cluster == cluster)
    }

    fn shard_named(&self, database: &str, shard: Option<&str>) -> Result<ShardId, ShardError> {
        let document = self.document.as_ref().filter(|_| self.takes_requests());
        let Some(document) = document else {
            let reason = match self.state {
                State::Member | State::Returning => {
                    "this node has joined, and the configuration has not come yet".to_owned()
                }
                state => format!("this node is no member of a cluster: it is {state}"),
            };
            return Err(ShardError::Unavailable(reason));
        };
        let shard = shard.unwrap_or(MAIN);
        match (document.databases.contains_key(database), document.shard(database, shard)) {
            (_, Some(found)) => Ok(ShardId {
                cluster: document.cluster,
                database: found.database.id,
                log: found.shard.log,
            }),
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
        let (with, hint, lost_since, doubtful) = (None, None, None, false);
        let pending = Pending {
            asker,
            log,
            transaction,
            kind,
            deadline,
            with,
            next,
            hint,
            doubtful,
            lost_since,
        };
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
        if let Some(reply) = self.over_for_good(log, kind).filter(|_| !passed_on) {
            self.settle_sql(id, reply);
            return;
        }
        // A copy that does not come to what was seen in a while leaves it to others.
        let deadline = match kind {
            SqlKind::Read(Consistency::AtLeast(_)) if !passed_on => {
                deadline.min(now + (deadline.since(now) / 2).min(PATIENCE))
            }
            _ => deadline,
        };
        if passed_on || self.can_run_here(log, kind) {
            self.place(id, Where::Here);
            let Some(shard) = self.shards.touch(log) else {
                let owner = None;
                self.settle_sql(id, Reply::Failed(ShardError::NotOwner { owner }));
                return;
            };
            let write = |delivery, transaction| Write { id, transaction, delivery, deadline };
            let nothing = Transaction::default();
            match kind {
                SqlKind::Write => shard.write(now, write(Delivery::Plain, transaction)),
                SqlKind::Once(once) => shard.write(now, write(Delivery::Once(once), transaction)),
                SqlKind::OpenSession => shard.write(now, write(Delivery::Opens, nothing)),
                SqlKind::Begin => shard.write(now, write(Delivery::Begins, nothing)),
                SqlKind::Step(of) => shard.step(now, Step { id, of, transaction, deadline }),
                SqlKind::Finish(of, once) => {
                    shard.write(now, write(Delivery::Finishes(of, once), nothing));
                }
                SqlKind::Abandon(of) => shard.abandon(now, id, of),
                SqlKind::Read(consistency) => {
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

    /// The answer for an interactive transaction that this node knows to be open nowhere any more. What
    /// a session may know of it is for the owner to say.
    fn over_for_good(&self, log: LogId, kind: SqlKind) -> Option<Reply> {
        let (SqlKind::Step(of) | SqlKind::Finish(of, None) | SqlKind::Abandon(of)) = kind else {
            return None;
        };
        let shard = self.shards.all.get(&log).filter(|shard| shard.is_over(of))?;
        Some(match kind {
            SqlKind::Abandon(_) => Reply::Done { at: shard.position(), rows: Vec::new() },
            _ => Reply::Failed(shard.gone(of)),
        })
    }

    /// Nobody waits for what that server does in an interactive transaction. If it does not hear of it,
    /// the transaction ends when nothing has been asked of it for a while.
    fn abandon_there(&mut self, link: LinkId, log: LogId, of: TransactionId) {
        self.sql.last += 1;
        let (id, transaction, kind) = (self.sql.last, Transaction::default(), SqlKind::Abandon(of));
        let timeout_ms = u32::try_from(PATIENCE.as_millis()).unwrap_or(u32::MAX);
        self.send_packet(link, &Packet::Sql { id, log, transaction, kind, timeout_ms });
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
        if !kind.any_copy_will_do() {
            return shard.log().is_leader();
        }
        let listed = document.and_then(|d| d.shard_of(log));
        listed.is_some_and(|s| is_online(s, me)) && shard.broken().is_none()
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
        if pending.kind.any_copy_will_do() {
            let mut servers = shard.servers().map(|(node, _)| node);
            return servers.find(|node| is_online(shard, *node) && reached(node));
        }
        let fit = || shard.candidates().into_iter().find(reached);
        // One whose copy is of no use may lead all the same, and can say what is wrong with it.
        let any = || shard.masters().map(|(node, _)| node).find(reached);
        known.filter(reached).or_else(fit).or_else(any)
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
        if self.read_instead(id, &reply) {
            return;
        }
        let Some(pending) = self.sql.pending.get_mut(&id) else { return };
        let own = matches!(pending.asker, Asker::Own { .. });
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
            // The session knows what became of it.
            Reply::Failed(ShardError::OutcomeUnknown)
                if own && pending.kind.once().is_some() && self.now < pending.deadline =>
            {
                pending.doubtful = true;
                self.try_later(id);
            }
            reply => self.settle_sql(id, reply),
        }
    }

    /// Reads otherwise, if that may do. Whether it does.
    fn read_instead(&mut self, id: RequestId, reply: &Reply) -> bool {
        let Some(pending) = self.sql.pending.get_mut(&id) else { return false };
        let Reply::Failed(error) = reply else { return false };
        let Some(consistency) = instead(pending, error).filter(|_| self.now < pending.deadline)
        else {
            return false;
        };
        if let (
            SqlKind::Read(Consistency::AtLeast(at)),
            Consistency::Local,
            Asker::Own { of, .. },
        ) = (pending.kind, consistency, pending.asker)
        {
            self.sql.shown.gave_up(of, at);
        }
        pending.kind = SqlKind::Read(consistency);
        self.try_sql(id);
        true
    }

    fn settle_sql(&mut self, id: RequestId, reply: Reply) {
        let Some(pending) = self.sql.pending.remove(&id) else { return };
        // That it did not run now says nothing of what became of it before.
        let reply = match reply {
            reply if pending.doubtful && !reply.is_final() => {
                Reply::Failed(ShardError::OutcomeUnknown)
            }
            reply => reply,
        };
        self.sql.waiting.remove(&(pending.deadline, id));
        self.sql.waiting.remove(&(pending.next, id));
        self.tell(pending.asker, reply);
    }

    fn tell(&mut self, asker: Asker, reply: Reply) {
        match asker {
            Asker::Own { id, of, .. } => {
                self.sql.shown.answered(of, &reply);
                // Log and database have other meanings in another cluster.
                let of = Some(of).filter(|of| self.serves(of.cluster));
                self.out.push_back(Output::SqlReply { id, reply, of });
            }
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
            (
                Some(Where::There(_)),
                SqlKind::Write | SqlKind::Once(_) | SqlKind::Finish(..) | SqlKind::Restore(_),
            ) => ShardError::OutcomeUnknown,
            (
                Some(Where::There(_)),
                SqlKind::Read(_)
                | SqlKind::Compare
                | SqlKind::OpenSession
                | SqlKind::Begin
                | SqlKind::Abandon(_),
            ) => ShardError::TimedOut,
            (Some(Where::There(link)), SqlKind::Step(of)) => {
                let log = pending.log;
                self.abandon_there(link, log, of);
                transaction_lost("the server that has it open did not answer in time")
            }
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
                SqlKind::Write | SqlKind::Once(_) | SqlKind::Finish(..) | SqlKind::Restore(_) => {
                    ShardError::OutcomeUnknown
                }
                SqlKind::Step(_) => transaction_lost("its database was dropped"),
                SqlKind::Read(_)
                | SqlKind::Compare
                | SqlKind::OpenSession
                | SqlKind::Begin
                | SqlKind::Abandon(_) => {
                    ShardError::Unavailable("its database was dropped".to_owned())
                }
            };
            self.settle_sql(id, Reply::Failed(error));
        }
    }

    /// Somebody owns a shard from now on. What was passed to who did before, who may be stopped for long
    /// and never answer, is passed on, where it may be asked for twice.
    pub(super) fn sql_owned_by(&mut self, log: LogId, owner: NodeId) {
        let elsewhere = |p: &Pending| match p.with {
            Some(Where::There(link)) if p.log == log && !p.kind.any_copy_will_do() => {
                self.links.all.get(&link).is_some_and(|held| held.peer != owner)
            }
            _ => false,
        };
        let passed = self.sql.pending.iter().filter(|(_, p)| elsewhere(p)).map(|(id, _)| *id);
        for id in passed.collect::<Vec<RequestId>>() {
            let Some(pending) = self.sql.pending.get_mut(&id) else { continue };
            match pending.kind {
                SqlKind::Once(_) | SqlKind::Finish(_, Some(_)) => pending.doubtful = true,
                SqlKind::Read(_) | SqlKind::OpenSession | SqlKind::Begin | SqlKind::Abandon(_) => {}
                // Whoever has it is waited for: nobody else knows what becomes of it.
                SqlKind::Write
                | SqlKind::Restore(_)
                | SqlKind::Compare
                | SqlKind::Step(_)
                | SqlKind::Finish(_, None) => continue,
            }
            pending.hint = Some(owner);
            self.try_later(id);
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
                SqlKind::Write | SqlKind::Restore(_) | SqlKind::Finish(_, None) => {
                    self.settle_sql(id, Reply::Failed(ShardError::OutcomeUnknown));
                }
                // What of it was done nobody here knows any more, and nobody will: nothing is asked of
                // the transaction again.
                SqlKind::Step(_) => {
                    let error =
                        transaction_lost("the link to the server that has it open is broken");
                    self.settle_sql(id, Reply::Failed(error));
                }
                // It is sent again: if it was done, the session knows.
                SqlKind::Once(_) | SqlKind::Finish(_, Some(_)) => {
                    if let Some(pending) = self.sql.pending.get_mut(&id) {
                        pending.doubtful = true;
                    }
                    self.try_later(id);
                }
                SqlKind::Read(_)
                | SqlKind::Compare
                | SqlKind::OpenSession
                | SqlKind::Begin
                | SqlKind::Abandon(_) => self.try_later(id),
            }
        }
    }
}

/// What a read of this node asks for once its copy does not come to what it must have: the owner, or
/// if that is only what this node has shown before, whatever there is.
fn instead(pending: &Pending, error: &ShardError) -> Option<Consistency> {
    let SqlKind::Read(Consistency::AtLeast(at)) = pending.kind else { return None };
    match (error, pending.asker) {
        (
            ShardError::TimedOut | ShardError::TokenOfAnotherHistory { .. },
            Asker::Own { as_configured: true, .. },
        ) => Some(Consistency::Local),
        (ShardError::TimedOut, Asker::Own { .. }) => Some(Consistency::Holding(at)),
        _ => None,
    }
}

fn transaction_lost(reason: &str) -> ShardError {
    ShardError::TransactionLost { reason: reason.to_owned() }
}

fn is_online(shard: ShardRef<'_>, node: NodeId) -> bool {
    shard.shard.copies.get(&node) == Some(&crate::configuration::CopyStatus::Online)
}
