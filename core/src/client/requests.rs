//! Requests on their way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::api::{
    Answer, ClientError, ConnectionId, Done, Kind, Output, Reading, Request, TicketId, ToServer,
};
use super::session::{Name, Seen, Session};
use super::transactions::in_transaction;
use super::{Client, Held, backoff};
use crate::engine::{Position, Transaction};
use crate::faults::{self, Fault};
use crate::marks::sometimes;
use crate::shard::{Consistency, Once, Reply, ShardError, ShardId, SqlKind, Token};
use crate::time::Time;

/// A shard by name.
pub(super) type Of = (String, Option<String>);

impl Request {
    /// Of which shard it is.
    pub(super) fn of(&self) -> Of {
        (self.database.clone(), self.shard.clone())
    }
}

/// A request that is not answered yet.
#[derive(Debug)]
struct Pending {
    request: Request,
    deadline: Time,
    /// Where it is, and under which number on the wire.
    with: Option<(ConnectionId, u64)>,
    /// A write: under which name it is done once.
    once: Option<(Name, u64)>,
    /// It was sent, and what became of that is not known.
    doubtful: bool,
    /// How often in a row it came to nothing.
    failures: u32,
    /// What stood in the way last.
    last: Option<ShardError>,
    /// Tried again at that time.
    again: Option<Time>,
    /// Who could not do it last.
    but: Option<ConnectionId>,
}

#[derive(Debug)]
enum Flight {
    Request(TicketId),
    Session(Of),
}

/// Requests on their way.
#[derive(Debug, Default)]
pub(super) struct Requests {
    all: BTreeMap<TicketId, Pending>,
    /// To be sent as soon as there is a server.
    ready: VecDeque<TicketId>,
    /// Deadlines, and when something is tried again.
    due: BTreeSet<(Time, TicketId)>,
    /// Shards whose session may be asked for again.
    sessions_due: BTreeSet<(Time, Of)>,
    flights: BTreeMap<u64, (ConnectionId, Flight)>,
    /// Interactive transactions that were begun, and that nobody waits for any more.
    pub(super) orphans: BTreeMap<u64, (ConnectionId, Of)>,
    sessions: BTreeMap<Of, Session>,
    seen: BTreeMap<Of, Seen>,
    last: u64,
}

impl Requests {
    /// A number for the wire, never used twice.
    pub(super) fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// What is asked for under a ticket, while it is not answered.
    pub(super) fn request(&self, ticket: TicketId) -> Option<&Request> {
        self.all.get(&ticket).map(|pending| &pending.request)
    }
}

/// What an error means for a request that has time left.
enum Means {
    /// It is the answer.
    Answer,
    /// Another server may do better.
    Elsewhere,
    /// Later it may work.
    Later,
}

fn means(error: &ShardError, tried_all: bool) -> Means {
    match error {
        ShardError::Sql(_)
        | ShardError::OwnerAway { .. }
        | ShardError::CommittedBelowQuorum { .. }
        | ShardError::UnknownDatabase { .. }
        | ShardError::UnknownShard { .. }
        | ShardError::StaleToken { .. }
        | ShardError::TokenOfAnotherHistory { .. }
        | ShardError::Restoring
        | ShardError::NotStaged(_)
        | ShardError::TransactionLost { .. }
        | ShardError::AlreadyDone { .. }
        | ShardError::Superseded => Means::Answer,
        // One that is cut off says so too, while the others can.
        ShardError::NoQuorum { .. } if tried_all => Means::Answer,
        ShardError::NoQuorum { .. }
        | ShardError::NotOwner { .. }
        | ShardError::Unavailable(_)
        | ShardError::OutcomeUnknown
        | ShardError::TimedOut => Means::Elsewhere,
        ShardError::Busy | ShardError::SessionExpired => Means::Later,
    }
}

/// Whether there were as many failures in a row as there are servers.
fn tried_all(failures: u32, servers: usize) -> bool {
    usize::try_from(failures).unwrap_or(usize::MAX) >= servers.max(1)
}

impl Client {
    pub(super) fn on_request(&mut self, ticket: TicketId, request: Request) {
        let refused = self.refused.clone().map(ClientError::Refused);
        let busy = self.requests.all.len() >= self.config.requests_max;
        if let Some(error) = refused.or(busy.then_some(ClientError::Busy)) {
            self.out.push_back(Output::Answer(ticket, Err(error)));
            return;
        }
        let deadline = self.now + request.timeout;
        let pending = Pending {
            request,
            deadline,
            with: None,
            once: None,
            doubtful: false,
            failures: 0,
            last: None,
            again: None,
            but: None,
        };
        self.requests.all.insert(ticket, pending);
        self.requests.due.insert((deadline, ticket));
        self.requests.ready.push_back(ticket);
    }

    /// Sends what can be sent, and gives up what is late.
    pub(super) fn drive_requests(&mut self) {
        let now = self.now;
        while let Some((at, ticket)) = self.requests.due.first().copied().filter(|d| d.0 <= now) {
            self.requests.due.remove(&(at, ticket));
            let Some(pending) = self.requests.all.get_mut(&ticket) else { continue };
            if now >= pending.deadline {
                self.give_up(ticket);
            } else if pending.again.take_if(|again| *again <= now).is_some() {
                self.requests.ready.push_back(ticket);
            }
        }
        while let Some((at, of)) = self.requests.sessions_due.first().cloned() {
            if at > now {
                break;
            }
            self.requests.sessions_due.remove(&(at, of.clone()));
            self.wake(&of);
        }
        // Whoever waits for a server, or for a session, is not asked about again until there is one.
        for _ in 0..self.requests.ready.len() {
            let Some(ticket) = self.requests.ready.pop_front() else { break };
            if !self.send(ticket) {
                self.requests.ready.push_front(ticket);
                break;
            }
        }
    }

    /// Those that wait for a session of a shard are looked at again.
    fn wake(&mut self, of: &Of) {
        if let Some(session) = self.requests.sessions.get_mut(of) {
            self.requests.ready.extend(std::mem::take(&mut session.waiting));
        }
    }

    /// Sends a request, or lets it wait for its session. False: there is no server.
    fn send(&mut self, ticket: TicketId) -> bool {
        let Some(pending) = self.requests.all.get(&ticket).filter(|p| p.with.is_none()) else {
            return true;
        };
        let (but, kind) = (pending.but, pending.request.kind);
        let Some(connection) = self.choose(but) else { return false };
        let kind = match kind {
            Kind::Write => match self.once(ticket, connection) {
                Some(once) => SqlKind::Once(once),
                None => return true,
            },
            Kind::Read(reading) => SqlKind::Read(self.consistency(ticket, reading)),
            Kind::Begin if self.has_session(ticket, connection) => SqlKind::Begin,
            Kind::Begin => return true,
            Kind::Step(of) => SqlKind::Step(of),
            Kind::Finish(of) => match self.once(ticket, connection) {
                Some(once) => SqlKind::Finish(of, Some(once)),
                None => return true,
            },
            Kind::Abandon(of) => SqlKind::Abandon(of),
        };
        let Some(pending) = self.requests.all.get(&ticket) else { return true };
        let Request { database, shard, transaction, .. } = pending.request.clone();
        let mut left = pending.deadline.since(self.now);
        // What runs for long in a transaction is not asked of another server, but given up.
        if !matches!(kind, SqlKind::Step(_)) {
            left = left.min(self.config.attempt());
        }
        let what = (transaction, kind, left);
        let number = self.transmit(connection, Flight::Request(ticket), (database, shard), what);
        if let Some(pending) = self.requests.all.get_mut(&ticket) {
            pending.with = Some((connection, number));
        }
        true
    }

    /// Sends something to a server, which is given so long; under which number.
    fn transmit(
        &mut self,
        connection: ConnectionId,
        flight: Flight,
        (database, shard): Of,
        (transaction, kind, left): (Transaction, SqlKind, Duration),
    ) -> u64 {
        let id = self.requests.number();
        let timeout_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX).max(1);
        let message = ToServer::Sql { id, database, shard, transaction, kind, timeout_ms };
        self.requests.flights.insert(id, (connection, flight));
        self.out.push_back(Output::Send(connection, message));
        id
    }

    /// Under which name a write is done once; `None`: it waits for a session, or is answered.
    fn once(&mut self, ticket: TicketId, connection: ConnectionId) -> Option<Once> {
        let pending = self.requests.all.get_mut(&ticket)?;
        let of = pending.request.of();
        let session = self.requests.sessions.entry(of.clone()).or_default();
        if faults::active(Fault::RetryWithNewSequence) && session.is().is_some() {
            pending.once = None;
        }
        if let Some((id, sequence)) = pending.once {
            if let Some(once) = session.once(id, sequence) {
                return Some(once);
            }
            // The session is not known any more. What was not done in it may be done in another.
            if pending.doubtful {
                self.give_up(ticket);
                return None;
            }
            pending.once = None;
        }
        if let (Kind::Finish(_), None) = (pending.request.kind, session.is()) {
            // Nobody else writes while the transaction is open: no session would be opened.
            self.lose_transaction(ticket, "the session in which it was to be committed has ended");
            return None;
        }
        if let Some((id, sequence)) = session.sequence() {
            pending.once = Some((id, sequence));
            return session.once(id, sequence);
        }
        session.waiting.push_back(ticket);
        if session.is().is_none() {
            self.open_session(of, connection);
        }
        None
    }

    /// Whether there is a session with the shard of a request; otherwise the request waits for one.
    fn has_session(&mut self, ticket: TicketId, connection: ConnectionId) -> bool {
        let Some(pending) = self.requests.all.get(&ticket) else { return false };
        let of = pending.request.of();
        let session = self.requests.sessions.entry(of.clone()).or_default();
        if session.is().is_some() {
            return true;
        }
        session.waiting.push_back(ticket);
        self.open_session(of, connection);
        false
    }

    fn open_session(&mut self, of: Of, connection: ConnectionId) {
        let Some(session) = self.requests.sessions.get_mut(&of) else { return };
        if session.opening || self.now < session.not_before {
            return;
        }
        session.opening = true;
        let left = self.config.attempt();
        let what = (Transaction::default(), SqlKind::OpenSession, left);
        self.transmit(connection, Flight::Session(of.clone()), of, what);
    }

    /// What a read must have seen.
    fn consistency(&self, ticket: TicketId, reading: Reading) -> Consistency {
        let Some(pending) = self.requests.all.get(&ticket) else {
            return Consistency::AsConfigured;
        };
        let Request { database, shard, .. } = &pending.request;
        match reading {
            Reading::Local => Consistency::Local,
            Reading::Linearizable => Consistency::Linearizable,
            // What the configuration asks for beyond that the server knows, and no layout for sure.
            Reading::Session => match self.seen(database, shard) {
                Some(seen) => Consistency::Since(seen),
                None => Consistency::AsConfigured,
            },
            // Of two histories only the server knows which one is over: what was asked for decides.
            Reading::Since(given) => {
                let newer = |seen: &Token| {
                    (seen.database, seen.log) == (given.database, given.log)
                        && seen.at.index > given.at.index
                };
                Consistency::Since(self.seen(database, shard).filter(newer).unwrap_or(given))
            }
        }
    }

    /// What this client has seen of a shard.
    fn seen(&self, database: &str, shard: &Option<String>) -> Option<Token> {
        let seen = self.requests.seen.get(&(database.to_owned(), shard.clone()))?;
        let Seen { of: ShardId { database, log, .. }, at } = *seen;
        Some(Token { database, log, at })
    }

    /// A server has answered.
    pub(super) fn on_reply(
        &mut self,
        connection: ConnectionId,
        number: u64,
        reply: Reply,
        of: Option<ShardId>,
    ) {
        let (connection, number) = match self.requests.flights.first_key_value() {
            Some((first, (of, _)))
                if faults::active(Fault::ReplyOfEarlierConnection)
                    && !self.servers.all.contains_key(&connection) =>
            {
                (*of, *first)
            }
            _ => (connection, number),
        };
        match self.landed(connection, number) {
            Some(Flight::Request(ticket)) => self.on_answer(ticket, connection, reply, of),
            Some(Flight::Session(shard)) => self.on_session(shard, connection, reply, of),
            None => self.on_orphan(connection, number, &reply),
        }
    }

    /// What a server answers, if it was sent over that connection.
    fn landed(&mut self, connection: ConnectionId, number: u64) -> Option<Flight> {
        let flights = &mut self.requests.flights;
        flights.get(&number).filter(|(over, _)| *over == connection)?;
        flights.remove(&number).map(|(_, flight)| flight)
    }

    /// A server does not let this client do what it asked for: no other one would either.
    pub(super) fn on_denied(&mut self, connection: ConnectionId, number: u64, reason: &str) {
        match self.landed(connection, number) {
            None => {}
            Some(Flight::Request(ticket)) => self.not_let(ticket, reason, ClientError::Denied),
            Some(Flight::Session(shard)) => {
                let Some(session) = self.requests.sessions.get_mut(&shard) else { return };
                session.opening = false;
                // None of them was sent: nothing is doubtful.
                for ticket in std::mem::take(&mut session.waiting) {
                    self.answer(ticket, Err(ClientError::Denied(reason.to_owned())));
                }
            }
        }
    }

    /// A request is not let be done now; what was sent of it before may be done.
    fn not_let(&mut self, ticket: TicketId, reason: &str, error: fn(String) -> ClientError) {
        let doubtful = self.requests.all.get(&ticket).is_some_and(|pending| pending.doubtful);
        let last = reason.to_owned();
        let error = if doubtful { ClientError::OutcomeUnknown { last } } else { error(last) };
        self.answer(ticket, Err(error));
    }

    fn on_session(
        &mut self,
        shard: Of,
        connection: ConnectionId,
        reply: Reply,
        of: Option<ShardId>,
    ) {
        let servers = self.layout.servers.len();
        let Some(session) = self.requests.sessions.get_mut(&shard) else { return };
        session.opening = false;
        if let (Reply::Session { session: id }, Some(of)) = (&reply, of) {
            session.opened(of, *id);
            self.fit(connection, true);
            self.wake(&shard);
            return;
        }
        session.failures = session.failures.saturating_add(1);
        let tried = tried_all(session.failures, servers);
        let (error, meaning) = match reply {
            // What is done is that one was opened, of which nobody says the name: those who wait for it
            // have not been sent at all.
            Reply::Failed(ShardError::CommittedBelowQuorum { .. }) => {
                let few = "a session was opened on fewer copies than the write quorum asks for";
                (ShardError::Unavailable(few.to_owned()), Means::Later)
            }
            Reply::Failed(error) => {
                let meaning = means(&error, tried);
                (error, meaning)
            }
            _ => (ShardError::TimedOut, Means::Elsewhere),
        };
        let retry = (self.config.retry, self.config.retry_max);
        session.not_before = self.now + backoff(retry, session.failures, &mut self.rng);
        let at = session.not_before;
        let waiting: Vec<TicketId> = session.waiting.iter().copied().collect();
        match meaning {
            Means::Answer => {
                session.waiting.clear();
                for ticket in waiting {
                    self.answer(ticket, Err(ClientError::Shard(error.clone())));
                }
            }
            Means::Elsewhere | Means::Later => {
                if matches!(meaning, Means::Elsewhere) {
                    self.fit(connection, false);
                }
                for ticket in waiting {
                    if let Some(pending) = self.requests.all.get_mut(&ticket) {
                        pending.last = Some(error.clone());
                    }
                }
                self.requests.sessions_due.insert((at, shard));
            }
        }
    }

    fn on_answer(
        &mut self,
        ticket: TicketId,
        connection: ConnectionId,
        reply: Reply,
        of: Option<ShardId>,
    ) {
        let servers = self.layout.servers.len();
        let Some(pending) = self.requests.all.get_mut(&ticket) else { return };
        pending.with = None;
        let shard = pending.request.of();
        let error = match reply {
            Reply::Done { at, rows } => {
                self.saw(shard, of, at);
                self.fit(connection, true);
                self.answer(ticket, Ok(Done { at, of, rows, transaction: None }));
                return;
            }
            Reply::Began { .. } | Reply::Stepped { .. } => {
                self.fit(connection, true);
                self.answer(ticket, in_transaction(reply));
                return;
            }
            Reply::Failed(error) => error,
            Reply::Compared { .. } | Reply::Session { .. } => ShardError::OutcomeUnknown,
        };
        let given = matches!(pending.request.kind, Kind::Read(Reading::Since(_)));
        let kind = pending.request.kind;
        if let (Kind::Step(_), ShardError::OutcomeUnknown) = (kind, &error) {
            self.lose_transaction(ticket, "the server that has it open has not answered");
            return;
        }
        pending.failures = pending.failures.saturating_add(1);
        let tried = tried_all(pending.failures, servers);
        let final_ = !pending.doubtful || error.is_final();
        match means(&error, tried) {
            Means::Answer if final_ => {
                if let Some(at) = error.done_at() {
                    self.saw(shard.clone(), of, at);
                }
                // That a token from elsewhere stands for nothing says nothing of what was seen here.
                if !given
                    && matches!(
                        error,
                        ShardError::StaleToken { .. } | ShardError::TokenOfAnotherHistory { .. }
                    )
                {
                    self.requests.seen.remove(&shard);
                }
                self.answer(ticket, Err(ClientError::Shard(error)));
            }
            Means::Later if matches!(error, ShardError::SessionExpired) => {
                self.session_expired(ticket, &shard);
            }
            meaning => {
                let unknown = matches!(error, ShardError::OutcomeUnknown);
                sometimes!(kind.is_for_good() && unknown, OutcomeInDoubt);
                pending.doubtful |= kind.is_for_good() && unknown;
                pending.but = Some(connection);
                pending.last = Some(error);
                let retry = (self.config.retry, self.config.retry_max);
                let at = self.now + backoff(retry, pending.failures, &mut self.rng);
                pending.again = Some(at);
                self.requests.due.insert((at, ticket));
                if matches!(meaning, Means::Elsewhere) {
                    self.fit(connection, false);
                }
            }
        }
    }

    /// A server does not know the session of a request.
    fn session_expired(&mut self, ticket: TicketId, shard: &Of) {
        let Some(pending) = self.requests.all.get_mut(&ticket) else { return };
        if let (Some((id, _)), Some(session)) =
            (pending.once, self.requests.sessions.get_mut(shard))
            && session.expired(id)
        {
            // One that ends before anything is done in it is not opened again and again at once.
            sometimes!(SessionReplaced);
            session.failures = session.failures.saturating_add(1);
            let retry = (self.config.retry, self.config.retry_max);
            session.not_before = self.now + backoff(retry, session.failures, &mut self.rng);
            self.requests.sessions_due.insert((session.not_before, shard.clone()));
        }
        pending.last = Some(ShardError::SessionExpired);
        if pending.doubtful {
            self.give_up(ticket);
        } else {
            self.requests.ready.push_back(ticket);
        }
    }

    fn saw(&mut self, shard: Of, of: Option<ShardId>, at: Position) {
        let Some(of) = of.filter(|_| at != Position::default()) else { return };
        let seen = self.requests.seen.entry(shard).or_insert(Seen { of, at });
        if seen.of != of || at.index > seen.at.index {
            *seen = Seen { of, at };
        }
    }

    /// A connection is gone: what was on its way may be done.
    pub(super) fn requests_lost(&mut self, connection: ConnectionId) {
        let gone = |(_, (of, _)): &(&u64, &(ConnectionId, Flight))| *of == connection;
        let lost: Vec<u64> = self.requests.flights.iter().filter(gone).map(|(n, _)| *n).collect();
        self.requests.orphans.retain(|_, (of, _)| *of != connection);
        for number in lost {
            match self.requests.flights.remove(&number) {
                Some((_, Flight::Request(ticket))) => {
                    let Some(pending) = self.requests.all.get_mut(&ticket) else { continue };
                    pending.with = None;
                    if let Kind::Step(_) = pending.request.kind {
                        sometimes!(TransactionLost);
                        let why = "the connection to the server was lost in the midst of it";
                        self.lose_transaction(ticket, why);
                        continue;
                    }
                    sometimes!(pending.request.kind.is_for_good(), WriteInDoubt);
                    pending.doubtful |= pending.request.kind.is_for_good();
                    self.requests.ready.push_back(ticket);
                }
                Some((_, Flight::Session(shard))) => {
                    if let Some(session) = self.requests.sessions.get_mut(&shard) {
                        session.opening = false;
                    }
                    self.wake(&shard);
                }
                None => {}
            }
        }
    }

    /// Its time is up, or nobody can say any more what became of it.
    fn give_up(&mut self, ticket: TicketId) {
        let Some(pending) = self.requests.all.get(&ticket) else { return };
        let nobody = || match self.servers.all.is_empty() {
            true => "no server is in reach".to_owned(),
            false => "no server has answered".to_owned(),
        };
        let last = pending.last.as_ref().map_or_else(nobody, ToString::to_string);
        let kind = pending.request.kind;
        if let (Kind::Step(_), true) = (kind, pending.with.is_some()) {
            self.lose_transaction(ticket, "its last statements were not answered in time");
            return;
        }
        let sent = pending.with.is_some() && kind.is_for_good();
        let error = match sent || pending.doubtful {
            true => ClientError::OutcomeUnknown { last },
            false => ClientError::TimedOut { last },
        };
        self.answer(ticket, Err(error));
    }

    /// The server in use is another one.
    pub(super) fn switched(&mut self) {
        if faults::active(Fault::TokenIgnoredAfterSwitch) {
            self.requests.seen.clear();
        }
    }

    pub(super) fn refuse_all(&mut self, reason: &str) {
        let all: Vec<TicketId> = self.requests.all.keys().copied().collect();
        for ticket in all {
            self.not_let(ticket, reason, ClientError::Refused);
        }
    }

    pub(super) fn answer(&mut self, ticket: TicketId, answer: Answer) {
        if self.end(ticket) {
            self.out.push_back(Output::Answer(ticket, answer));
        }
    }

    /// Forgets a request: it is not sent again. Whether it was there.
    pub(super) fn end(&mut self, ticket: TicketId) -> bool {
        let Some(pending) = self.requests.all.remove(&ticket) else { return false };
        self.requests.due.remove(&(pending.deadline, ticket));
        if let Some(again) = pending.again {
            self.requests.due.remove(&(again, ticket));
        }
        let of = (pending.request.database, pending.request.shard);
        if let Some((connection, number)) = pending.with {
            self.requests.flights.remove(&number);
            if pending.request.kind == Kind::Begin {
                self.requests.orphan(number, connection, &of);
            }
        } else {
            // Without any server nobody would take it from there, however many come after it.
            self.requests.ready.retain(|ready| *ready != ticket);
        }
        let Some(session) = self.requests.sessions.get_mut(&of) else { return true };
        session.waiting.retain(|waiting| *waiting != ticket);
        if let Some((id, sequence)) = pending.once {
            session.answered(id, sequence);
            // There may be room for another sequence.
            self.requests.ready.extend(session.waiting.pop_front());
        }
        true
    }

    pub(super) fn count_held(&self) -> Held {
        Held {
            requests: self.requests.all.len(),
            flights: self.requests.flights.len(),
            ready: self.requests.ready.len(),
            connections: self.servers.all.len(),
            addresses: self.servers.addresses(),
        }
    }

    pub(super) fn requests_due(&self) -> Option<Time> {
        let first = self.requests.due.first().map(|(at, _)| *at);
        let session = self.requests.sessions_due.first().map(|(at, _)| *at);
        first.into_iter().chain(session).min()
    }
}
