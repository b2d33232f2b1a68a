//! Clients in sessions: they send what they ask for until they know what became of it, again and
//! again and to whichever node, and it is done once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quorate_core::engine::{Statement, Transaction};
use quorate_core::node::SqlRequest;
use quorate_core::shard::{Reply, SessionId, ShardError, SqlKind};
use quorate_core::{ClusterId, LogId};

use super::clients::Request;
use super::outputs::Late;
use super::{What, World};
use crate::checks::workloads::{Asked, Operation};
use crate::counts::Count;
use crate::network::MS;
use crate::outcome::{Verdict, Violation};
use crate::plan::{NEVER_ENDS, SessionPlan};
use crate::trace::tell;
use crate::view::{Kind, Lane, Told};

/// A session as its client knows it.
#[derive(Debug)]
pub(super) struct Open {
    of: (ClusterId, LogId),
    pub(super) id: SessionId,
    /// The last sequence that was used.
    pub(super) last: u64,
    /// What has its final answer, above `acknowledged`.
    ended: BTreeSet<u64>,
    /// All up to here have.
    pub(super) acknowledged: u64,
}

impl Open {
    /// Logs number their sessions alike, those of two clusters with the same databases above all.
    pub(super) fn is(&self, of: (ClusterId, LogId), id: SessionId) -> bool {
        (self.of, self.id) == (of, id)
    }
}

/// A request of a session, as it was sent in an attempt.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// For which operation.
    pub operation: u64,
    /// In which session.
    pub session: SessionId,
    /// As which request of it.
    pub sequence: u64,
    /// When its time is up, in nanoseconds.
    pub until: u64,
}

/// An operation, from its first attempt on.
#[derive(Debug)]
pub(super) struct Doing {
    pub(super) client: usize,
    pub(super) of: (ClusterId, LogId),
    pub(super) asked: Asked,
    pub(super) statements: Vec<Statement>,
    pub(super) session: SessionId,
    pub(super) sequence: u64,
    /// How often it was sent in this session.
    pub(super) sent: u32,
    /// Attempts that are not answered.
    pub(super) open: BTreeSet<u64>,
    /// It has its final answer, and is sent once more.
    pub(super) over: bool,
    /// Only the latest turn that was planned for it counts.
    turn: u32,
}

/// All sessions, and what is done in them.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    pub(super) open: BTreeMap<usize, Open>,
    /// Who waits for one to be opened, as which request.
    opening: BTreeMap<usize, u64>,
    pub(super) doing: BTreeMap<u64, Doing>,
}

impl Sessions {
    /// How many operations of a client have not ended.
    fn under_way(&self, client: usize) -> usize {
        self.doing.values().filter(|doing| doing.client == client && !doing.over).count()
    }

    /// Operations that have not ended, in these shards.
    pub(super) fn unfinished(&self, of: &BTreeSet<(ClusterId, LogId)>) -> Vec<String> {
        let open = self.doing.iter().filter(|(_, doing)| !doing.over && of.contains(&doing.of));
        open.map(|(number, doing)| format!("{number} {:?}", doing.asked)).collect()
    }
}

impl World {
    /// Whether a client may begin another operation in its session; it opens one if it has none.
    pub(super) fn may_begin(
        &mut self,
        which: usize,
        host: usize,
        plan: &SessionPlan,
    ) -> Result<bool, Violation> {
        if !self.clients.sessions.open.contains_key(&which) {
            self.open_session(which, host)?;
            return Ok(false);
        }
        Ok(self.clients.sessions.under_way(which) < plan.at_once)
    }

    fn open_session(&mut self, which: usize, host: usize) -> Verdict {
        if let Some(id) = self.clients.sessions.opening.get(&which) {
            let waits = self.clients.requests.get(id).is_some_and(|r| self.is_now(r.by));
            if waits {
                return Ok(());
            }
            self.clients.requests.remove(id);
        }
        let plan = self.clients.plan(which).clone();
        let name = format!("db{}", plan.database);
        let Some(of) = self.shard_at(host, &name, plan.shard) else { return Ok(()) };
        let request = SqlRequest {
            database: name,
            shard: Some(plan.shard.to_owned()),
            transaction: Transaction::default(),
            kind: SqlKind::OpenSession,
            timeout: Duration::from_millis(plan.timeout_ms),
        };
        let id = self.clients.peek_next();
        self.clients.sessions.opening.insert(which, id);
        let asked = self.ask(host, Some(which), of, Operation::Open, request)?;
        assert_eq!(asked, id, "the number that was foreseen");
        Ok(())
    }

    /// A client has its answer to having asked for a session.
    pub(super) fn session_answered(&mut self, which: usize, asked: &Asked, reply: &Reply) {
        self.clients.sessions.opening.remove(&which);
        if let Reply::Session { session } = reply {
            self.counts.add(Count::SessionsOpened);
            let of = (asked.cluster, asked.log);
            let (id, ended) = (*session, BTreeSet::new());
            let open = Open { of, id, last: 0, ended, acknowledged: 0 };
            self.clients.sessions.open.insert(which, open);
        }
    }

    /// A client begins an operation, which is done once.
    pub(super) fn begin_once(
        &mut self,
        which: usize,
        operation: Operation,
        statements: Vec<Statement>,
    ) -> Verdict {
        let number = self.clients.next();
        let Some(open) = self.clients.sessions.open.get_mut(&which) else { return Ok(()) };
        open.last += 1;
        let ((cluster, log), session, sequence) = (open.of, open.id, open.last);
        let before = self.checks.before(cluster, log);
        let doing = Doing {
            client: which,
            of: (cluster, log),
            asked: Asked { cluster, log, operation, before },
            statements,
            session,
            sequence,
            sent: 0,
            open: BTreeSet::new(),
            over: false,
            turn: 0,
        };
        self.clients.sessions.doing.insert(number, doing);
        let host = self.clients.host(which);
        self.attempt(number, host)
    }

    /// It is an operation's turn.
    pub(super) fn once(&mut self, number: u64, turn: u32) -> Verdict {
        let Some(doing) = self.clients.sessions.doing.get(&number) else { return Ok(()) };
        if doing.turn != turn {
            return Ok(());
        }
        let (which, of, session) = (doing.client, doing.of, doing.session);
        let (sent, over) = (doing.sent, doing.over);
        let open = doing.open.clone();
        let Some(host) = self.host_for(which, of) else {
            self.once_again(number, 300 * MS);
            return Ok(());
        };
        let current = self.clients.sessions.open.get(&which);
        if sent == 0 && !current.is_some_and(|open| open.is(of, session)) {
            return self.renew(number, host);
        }
        if over {
            self.counts.add(Count::DuplicatesLate);
            self.attempt(number, host)?;
            self.clients.sessions.doing.remove(&number);
            return Ok(());
        }
        let lost: Vec<u64> = open.into_iter().filter(|id| self.is_lost(*id)).collect();
        for id in lost {
            self.clients.requests.remove(&id);
            if let Some(doing) = self.clients.sessions.doing.get_mut(&number) {
                doing.open.remove(&id);
            }
        }
        self.attempt(number, host)
    }

    /// Whether nobody will answer a request any more: it is answered, or its process has ended.
    pub(super) fn is_lost(&self, id: u64) -> bool {
        self.clients.requests.get(&id).is_none_or(|request| !self.is_now(request.by))
    }

    /// The host that is asked next: once all faults have ended, one that has the shard.
    fn host_for(&mut self, which: usize, of: (ClusterId, LogId)) -> Option<usize> {
        let hosts = self.hosts.len();
        let dice = &mut self.session_dice;
        let usual = self.clients.host(which);
        let drawn = if dice.one_in(3) { usual } else { dice.index(hosts) };
        if self.peace.is_none() {
            return Some(drawn);
        }
        let plan = self.clients.plan(which);
        let name = format!("db{}", plan.database);
        let mut all = (0..hosts).map(|step| (drawn + step) % hosts);
        all.find(|host| self.shard_at(*host, &name, plan.shard) == Some(of))
    }

    /// An operation that was never sent in the session that it was meant for goes into the next.
    fn renew(&mut self, number: u64, host: usize) -> Verdict {
        let Some(doing) = self.clients.sessions.doing.get_mut(&number) else { return Ok(()) };
        let which = doing.client;
        let Some(open) = self.clients.sessions.open.get_mut(&which) else {
            self.open_session(which, host)?;
            self.once_again(number, 50 * MS);
            return Ok(());
        };
        if open.of != doing.of {
            // The shard that it was meant for is another one by now.
            self.clients.sessions.doing.remove(&number);
            return Ok(());
        }
        open.last += 1;
        (doing.session, doing.sequence) = (open.id, open.last);
        self.counts.add(Count::SessionsRenewed);
        self.attempt(number, host)
    }

    /// An operation has its next turn after some time.
    pub(super) fn once_again(&mut self, number: u64, after: u64) {
        let Some(doing) = self.clients.sessions.doing.get_mut(&number) else { return };
        doing.turn += 1;
        self.queue.push(self.now + after, What::Once { operation: number, turn: doing.turn });
    }

    /// A request of a session is answered.
    pub(super) fn attempt_answered(
        &mut self,
        host: usize,
        id: u64,
        (request, attempt): (&Request, Attempt),
        reply: &Reply,
    ) {
        let Attempt { operation: number, session, sequence, .. } = attempt;
        let of = (request.asked.cluster, request.asked.log);
        if let Some(doing) = self.clients.sessions.doing.get_mut(&number) {
            doing.open.remove(&id);
        }
        let is_final = reply.is_final();
        let sent = (session.key(), sequence);
        let first = self.clients.sessions.doing.get(&number).is_some_and(|doing| doing.sent == 1);
        if first && !is_final && *reply != Reply::Failed(ShardError::OutcomeUnknown) {
            self.late.push(Late::NothingRan(of, sent));
        }
        if is_final {
            self.late.push(Late::Once(of, sent, reply.clone()));
            self.once_done(number, &request.asked, reply);
        } else if *reply == Reply::Failed(ShardError::SessionExpired) {
            self.once_expired(host, number, (of, session));
        } else if self.clients.sessions.doing.get(&number).is_some_and(|doing| !doing.over) {
            let after = 1 + self.session_dice.below(100 * MS);
            self.once_again(number, after);
        }
    }

    /// An operation has its final answer, or once more.
    fn once_done(&mut self, number: u64, asked: &Asked, reply: &Reply) {
        let sessions = &mut self.clients.sessions;
        let Some(doing) = sessions.doing.get_mut(&number).filter(|doing| !doing.over) else {
            let superseded = *reply == Reply::Failed(ShardError::Superseded);
            let count = if superseded { Count::AnswersSuperseded } else { Count::AnswersAgain };
            self.counts.add(count);
            return;
        };
        doing.over = true;
        let (which, of, session) = (doing.client, doing.of, doing.session);
        let sequence = doing.sequence;
        let open = sessions.open.get_mut(&which);
        if let Some(open) = open.filter(|open| open.is(of, session)) {
            open.ended.insert(sequence);
            while open.ended.remove(&(open.acknowledged + 1)) {
                open.acknowledged += 1;
            }
        }
        self.late.push(Late::Answered(Box::new(asked.clone()), reply.clone()));
        self.learn(which, asked, reply);
        let plan = self.clients.plan(which).sessions.as_ref();
        let late_ppm = plan.map_or(0, |plan| plan.late_ppm);
        if self.session_dice.chance(late_ppm) {
            let after = 1 + self.session_dice.tailed(2_000 * MS);
            self.once_again(number, after);
        } else {
            self.clients.sessions.doing.remove(&number);
        }
    }

    /// The session of an operation is not known any more.
    fn once_expired(
        &mut self,
        host: usize,
        number: u64,
        (of, session): ((ClusterId, LogId), SessionId),
    ) {
        let sessions = &mut self.clients.sessions;
        let Some(doing) = sessions.doing.get_mut(&number) else { return };
        let (which, over, sent) = (doing.client, doing.over, doing.sent);
        if sessions.open.get(&which).is_some_and(|open| open.is(of, session)) {
            sessions.open.remove(&which);
            self.counts.add(Count::SessionsExpired);
        }
        let plan = self.clients.plan(which);
        let name = format!("db{}", plan.database);
        let here = self.shard_at(host, &name, plan.shard) == Some(of);
        let ends = self.plan.databases.as_ref().map(|plan| plan.limits.session_time_to_live);
        if here && ends == Some(NEVER_ENDS) {
            self.late.push(Late::Expired(of, session));
        }
        if over {
            return;
        }
        tell!(
            self,
            Told::In(Lane::Client(which), Kind::Requests),
            "operation {number} finds its session expired, sent {sent} times"
        );
        if sent == 1 && !(self.peace.is_some() && self.sessions_end_on_their_way()) {
            // Nothing of it was done.
            if let Some(doing) = self.clients.sessions.doing.get_mut(&number) {
                doing.sent = 0;
            }
            self.once_again(number, 10 * MS);
            return;
        }
        self.counts.add(Count::OnceUnknown);
        self.clients.sessions.doing.remove(&number);
    }

    /// Whether a session may end before the first request in it can be there: opened through one host, and
    /// used through another, with the owner on a third. Nobody would ever get anything done in one, which
    /// is no fault of the nodes.
    fn sessions_end_on_their_way(&self) -> bool {
        let Some(databases) = &self.plan.databases else { return false };
        let us = 4 * self.plan.network.way_max_us()
            + 2 * databases.call_max_us
            + 2 * self.plan.disks.sync_max_us;
        databases.limits.session_time_to_live < Duration::from_micros(us)
    }

    /// All faults have ended: nobody waits for long any more.
    pub(super) fn hasten_sessions(&mut self) {
        let open: Vec<u64> = self.clients.sessions.doing.keys().copied().collect();
        for number in open {
            let after = self.session_dice.below(2_000 * MS);
            self.once_again(number, after);
        }
    }

    /// Operations that have not ended in shards that take writes.
    pub(super) fn unfinished(&self, probes: &[super::Probe]) -> Vec<String> {
        let of = probes.iter().map(|(_, cluster, log)| (*cluster, *log)).collect();
        self.clients.sessions.unfinished(&of)
    }
}
