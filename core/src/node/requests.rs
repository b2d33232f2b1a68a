//! Questions to the coordinator, from peers and from this node's own operators.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::document::encode_command;
use super::{Command, CommandError, Node, Output, Reply, State};
use crate::configuration::{
    self, Applied, ConfigCommand, Configuration, CopyStatus, OperatorChange, Rejection,
    RemoveReason, Role, ServerStatus,
};
use crate::ids::{CommandId, ConfigVersion, Index, LinkId, NodeId, Term};
use crate::time::Time;
use crate::wire::{Packet, Request, Response};

/// Commands of this node that may wait at one time.
const PENDING_MAX: usize = 256;
/// Answers that a coordinator may owe at one time.
const WAITERS_MAX: usize = 4096;

/// Who waits for the outcome of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Waiter {
    /// A peer's request.
    Peer { link: LinkId, id: u64 },
    /// This node's own.
    Own(u64),
}

/// An answer that is owed once an entry is applied.
#[derive(Clone, Copy, Debug)]
struct Owed {
    to: Waiter,
    /// The server that takes its leave with this entry: it is let go only when the others can do
    /// without it. Every other answer goes at once, with the version in which its effect stands.
    leaver: Option<NodeId>,
}

/// What a node of its own wants from the coordinator.
#[derive(Clone, Debug)]
struct Pending {
    what: Request,
    purpose: Purpose,
    deadline: Time,
    /// Over which link it is out, if it is; `None` for this node itself, as the coordinator.
    sent: Option<(Option<LinkId>, Time)>,
    /// It was out before, without a certain answer: it may have been done.
    unresolved: bool,
}

impl Pending {
    fn maybe_done(&self) -> bool {
        self.unresolved || self.sent.is_some()
    }

    /// No certain answer will come to what is out.
    fn lose(&mut self) {
        self.unresolved |= self.sent.take().is_some();
    }
}

/// What becomes of the answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Purpose {
    Command(CommandId),
    Leave,
    /// A leader of a shard tells what it has seen: asked again if it comes to nothing.
    Duty,
}

/// Requests in both directions.
#[derive(Default, Debug)]
pub(super) struct Requests {
    last: u64,
    pending: BTreeMap<u64, Pending>,
    waiters: BTreeMap<Index, (Term, Vec<Owed>)>,
    /// What the leaders of shards have asked for and is not decided yet, by what it says.
    open: BTreeMap<Bytes, (Index, Term)>,
    /// Servers whose leave is committed and whose membership has still to follow.
    leaving: BTreeMap<NodeId, Vec<Waiter>>,
    /// Commands of this node that are done, in a version that it has not applied yet, and how long
    /// that is waited for.
    applying: Vec<(CommandId, ConfigVersion, Time)>,
    next: Option<Time>,
}

impl Requests {
    pub(super) fn next(&self) -> Option<Time> {
        let next = self.next.filter(|_| !self.pending.is_empty());
        if self.applying.is_empty() {
            return next;
        }
        let applying = self.applying.iter().map(|(.., until)| *until).min();
        next.into_iter().chain(applying).min()
    }

    /// Somebody new may answer: look at once.
    pub(super) fn retry(&mut self, now: Time) {
        self.next = Some(now);
    }

    pub(super) fn is_leaving(&self, node: NodeId) -> bool {
        self.leaving.contains_key(&node)
    }
}

impl Node {
    pub(super) fn next_request(&mut self) -> u64 {
        self.requests.last += 1;
        self.requests.last
    }

    /// An operator's command.
    pub(super) fn on_command(&mut self, id: CommandId, command: Command) {
        if let Command::Measure { timeout } = command {
            // It changes nothing, and is wanted most of all when little else works.
            self.gather_measures(id, timeout);
            return;
        }
        let failed = if self.state == State::Leaving {
            Some(CommandError::Stopping)
        } else if matches!(command, Command::Stop) {
            self.leave(Some(id));
            return;
        } else if self.document.is_none() || self.state != State::Member {
            let lost = self.no_quorum().filter(|_| self.state == State::Returning);
            let other = CommandError::NotMember { state: self.state };
            Some(lost.map_or(other, CommandError::NoQuorum))
        } else if self.requests.pending.len() >= PENDING_MAX {
            Some(CommandError::Busy)
        } else {
            None
        };
        if let Some(error) = failed {
            self.reply(id, Reply::Failed(error));
            return;
        }
        if let Command::Sync { database, shard, full, force } = command {
            let reply = match self.sync_copies(&database, shard.as_deref(), full, force) {
                Ok(shards) => Reply::Syncing { shards },
                Err(rejection) => Reply::Failed(rejection.into()),
            };
            self.reply(id, reply);
            return;
        }
        match self.change_of(command) {
            Ok(change) => self.begin(Request::Change(change), Purpose::Command(id)),
            Err(rejection) => self.reply(id, Reply::Failed(rejection.into())),
        }
    }

    fn change_of(&self, command: Command) -> Result<ConfigCommand, Rejection> {
        let (server, change) = match command {
            Command::RemoveServer { server } => (server, OperatorChange::Remove),
            Command::SetRole { server, role } => (server, OperatorChange::Role(role)),
            Command::SetRegistration { server, registration } => {
                (server, OperatorChange::Registration(registration))
            }
            Command::Change(change) => return Ok(change),
            Command::Stop | Command::Sync { .. } | Command::Measure { .. } => {
                unreachable!("it is no change")
            }
        };
        let named = self.document.as_ref().and_then(|d| d.by_name(&server).map(|(id, _)| id));
        if let Some(node) = named {
            return Ok(ConfigCommand::Operator { node, name: Some(server), change });
        }
        let node = NodeId::parse(&server).ok_or(Rejection::UnknownServer { server })?;
        Ok(ConfigCommand::Operator { node, name: None, change })
    }

    fn begin(&mut self, what: Request, purpose: Purpose) {
        let id = self.next_request();
        let timings = &self.config.timings;
        let wait = if purpose == Purpose::Leave { timings.leave } else { timings.retry * 10 };
        let deadline = self.now + wait;
        let pending = Pending { what, purpose, deadline, sent: None, unresolved: false };
        self.requests.pending.insert(id, pending);
        self.requests.next = Some(self.now);
        self.stirred = true;
    }

    pub(super) fn begin_duty(&mut self, what: Request) {
        if self.requests.pending.len() < PENDING_MAX {
            self.begin(what, Purpose::Duty);
        }
    }

    pub(super) fn begin_leave(&mut self) {
        self.begin(Request::Leave, Purpose::Leave);
    }

    /// Sends what is not out, and gives up what has waited too long.
    pub(super) fn drive_requests(&mut self) {
        let (now, retry) = (self.now, self.config.timings.retry);
        self.tell_applied();
        if self.requests.next.is_none_or(|next| now < next) {
            return;
        }
        self.requests.next = Some(now + retry / 4);
        let ids: Vec<u64> = self.requests.pending.keys().copied().collect();
        for id in ids {
            let Some(pending) = self.requests.pending.get(&id) else { continue };
            if now >= pending.deadline {
                self.give_up(id);
                continue;
            }
            if pending.sent.is_some_and(|(_, at)| now.since(at) < retry * 6) {
                continue;
            }
            let once = matches!(&pending.what, Request::Change(command) if command.is_once());
            if (once && pending.maybe_done()) || self.is_for_others_to_judge(&pending.what) {
                self.give_up(id);
                continue;
            }
            self.send_pending(id);
        }
    }

    /// That a copy holds all that is committed an owner can say, while it is one: what has waited for
    /// a coordinator may be of a time before others have committed more.
    fn is_for_others_to_judge(&self, what: &Request) -> bool {
        let Request::Change(ConfigCommand::SetCopy { log, status: CopyStatus::Online, .. }) = what
        else {
            return false;
        };
        self.shards.all.get(log).is_none_or(|held| !held.log().is_leader())
    }

    /// Whoever was told that something is done finds it so at the node that told it.
    fn tell_applied(&mut self) {
        if self.requests.applying.is_empty() {
            return;
        }
        let held = self.document.as_ref().map(|document| document.version);
        let now = self.now;
        let there = |(_, version, until): &(CommandId, ConfigVersion, Time)| {
            held.is_some_and(|held| held >= *version) || now >= *until
        };
        let told: Vec<_> = self.requests.applying.extract_if(.., |done| there(done)).collect();
        for (id, version, _) in told {
            self.reply(id, Reply::Done { version });
        }
    }

    fn send_pending(&mut self, id: u64) {
        let Some(pending) = self.requests.pending.get(&id) else { return };
        let what = pending.what.clone();
        if pending.purpose == Purpose::Leave && self.sees_others_off() {
            return;
        }
        if self.is_coordinator() {
            self.mark_sent(id, None);
            let me = self.id();
            self.on_request(me, Waiter::Own(id), what);
            return;
        }
        let coordinator = self.raft.as_ref().and_then(|raft| raft.leader());
        let link = coordinator.and_then(|node| self.links.usable(node));
        if let Some(link) = link {
            self.mark_sent(id, Some(link));
            self.send_packet(link, &Packet::Request { id, request: what });
        }
    }

    fn mark_sent(&mut self, id: u64, link: Option<LinkId>) {
        let now = self.now;
        if let Some(pending) = self.requests.pending.get_mut(&id) {
            pending.lose();
            pending.sent = Some((link, now));
        }
    }

    fn give_up(&mut self, id: u64) {
        let Some(pending) = self.requests.pending.remove(&id) else { return };
        let Purpose::Command(command) = pending.purpose else { return };
        let no_quorum = self.no_quorum();
        let error = match no_quorum {
            Some(reason) if !pending.maybe_done() => CommandError::NoQuorum(reason),
            _ => CommandError::OutcomeUnknown,
        };
        self.reply(command, Reply::Failed(error));
    }

    pub(super) fn reply(&mut self, id: CommandId, reply: Reply) {
        self.out.push_back(Output::Reply { id, reply });
    }

    /// The links that carried requests are gone: ask again over others.
    pub(super) fn requests_link_down(&mut self, link: LinkId) {
        let now = self.now;
        self.joining.link_down(now, link);
        self.merge.link_down(link);
        self.bring.link_down(link);
        for pending in self.requests.pending.values_mut() {
            if pending.sent.is_some_and(|(over, _)| over == Some(link)) {
                pending.lose();
                self.requests.next = Some(now);
            }
        }
        let keep = |w: &Waiter| !matches!(w, Waiter::Peer { link: of, .. } if *of == link);
        for (_, waiters) in self.requests.waiters.values_mut() {
            waiters.retain(|owed| keep(&owed.to));
        }
        for waiters in self.requests.leaving.values_mut() {
            waiters.retain(keep);
        }
    }

    pub(super) fn on_peer_request(&mut self, link: LinkId, from: NodeId, id: u64, what: Request) {
        let waiter = Waiter::Peer { link, id };
        if !self.is_coordinator() {
            let coordinator = self.known_coordinator();
            self.answer(waiter, Response::NotCoordinator { coordinator });
            return;
        }
        self.on_request(from, waiter, what);
    }

    fn on_request(&mut self, from: NodeId, waiter: Waiter, what: Request) {
        let Some(document) = &self.document else {
            self.answer(waiter, Response::NotCoordinator { coordinator: None });
            return;
        };
        if !self.may_ask(from, &what) {
            let server = from.short();
            self.answer(waiter, Response::Refused(Rejection::UnknownServer { server }));
            return;
        }
        let leaver = matches!(what, Request::Leave).then_some(from);
        let command = match what {
            Request::Join { name, addresses, dissolved_from, brings } => {
                let start = self.links.hello(from).map(|hello| hello.start);
                ConfigCommand::Join { node: from, name, addresses, start, dissolved_from, brings }
            }
            Request::Leave => match document.servers.get(&from).map(|s| s.registration) {
                Some(configuration::Registration::Dynamic) | None if document.may_go(from) => {
                    ConfigCommand::Remove { node: from, reason: RemoveReason::Left }
                }
                _ => ConfigCommand::SetStatus {
                    node: from,
                    status: ServerStatus::Away,
                    addresses: None,
                    start: None,
                },
            },
            Request::Change(command) => command,
            Request::Bring { cluster, bringing } => {
                match self.may_take_in(from, cluster, &bringing) {
                    Ok(()) => ConfigCommand::Reserve { cluster, bringing },
                    Err(rejection) => {
                        self.answer(waiter, Response::Refused(rejection));
                        return;
                    }
                }
            }
            Request::Unbring { cluster, .. } if !document.bringing.contains_key(&cluster) => {
                // Nothing is kept for it: there is nothing to decide, however often it says so.
                let (cluster, version) = (document.cluster, document.version);
                self.answer(waiter, Response::Done { cluster, version });
                return;
            }
            Request::Unbring { cluster, attempt } => ConfigCommand::Release { cluster, attempt },
            Request::Dissolve { into, addresses } => match self.may_dissolve(into) {
                Ok(()) => ConfigCommand::Dissolve { into, addresses },
                Err(rejection) => {
                    self.answer(waiter, Response::Refused(rejection));
                    return;
                }
            },
        };
        self.propose_for(Owed { to: waiter, leaver }, &command);
    }

    /// Whether `from` may ask for this: everybody may knock, only servers may change something, and
    /// only what an operator could change; only another cluster's server speaks for that cluster.
    fn may_ask(&self, from: NodeId, what: &Request) -> bool {
        let is_server = self.is_server(from);
        match what {
            Request::Join { .. } => true,
            Request::Leave => is_server,
            Request::Change(command) => {
                let told =
                    matches!(command, ConfigCommand::SetCopy { .. } | ConfigCommand::Born { .. });
                is_server && (told || command.is_of_operator())
            }
            Request::Dissolve { into: cluster, .. }
            | Request::Bring { cluster, .. }
            | Request::Unbring { cluster, .. } => {
                self.links.info(from).is_some_and(|info| info.cluster == Some(*cluster))
            }
        }
    }

    /// Proposes on behalf of a waiter; refuses at once what the document as it is would refuse.
    fn propose_for(&mut self, owed: Owed, command: &ConfigCommand) {
        let waiter = owed.to;
        let mut trial = self.document.as_deref().cloned();
        if let Err(rejection) = configuration::apply(&mut trial, command) {
            self.answer(waiter, Response::Refused(rejection));
            return;
        }
        let refused = self
            .expect_not_met(command)
            .or_else(|| trial.as_ref().and_then(|t| self.masters_away(command, t)));
        if let Some(rejection) = refused {
            self.answer(waiter, Response::Refused(rejection));
            return;
        }
        if self.requests.waiters.len() >= WAITERS_MAX {
            self.answer(waiter, Response::Unknown);
            return;
        }
        match self.propose_once(command) {
            Some((index, term)) => {
                let waiters = self.requests.waiters.entry(index).or_insert((term, Vec::new()));
                waiters.1.push(owed);
            }
            None => self.answer(waiter, Response::NotCoordinator { coordinator: None }),
        }
    }

    /// Of those that `--expect` counts each must have written down that it belongs to this cluster.
    /// One that was let in and never heard of it may join another cluster and be counted there too.
    fn expect_not_met(&self, command: &ConfigCommand) -> Option<Rejection> {
        let (raft, document) = (self.raft.as_ref()?, self.document.as_ref()?);
        if !matches!(command, ConfigCommand::CreateDatabase { .. })
            || !document.databases.is_empty()
        {
            return None;
        }
        // A voter has once acknowledged the log, and that it does only as a member for good.
        let bound = |id: &NodeId| {
            raft.membership().is_voter(*id) || raft.matched(*id).is_some_and(|m| m > Index::ZERO)
        };
        let present = document.servers.keys().filter(|id| bound(id)).count();
        let (expected, present) =
            (document.defaults.expect, u32::try_from(present).unwrap_or(u32::MAX));
        (present < expected).then_some(Rejection::ExpectNotMet { expected, present })
    }

    /// Taking out a master that is there must leave masters that can decide: with the tie-breaker
    /// moved to one in reach, half of them are enough.
    fn masters_away(&self, command: &ConfigCommand, after: &Configuration) -> Option<Rejection> {
        let node = match command {
            ConfigCommand::Remove { node, .. }
            | ConfigCommand::Operator {
                node,
                change: OperatorChange::Remove | OperatorChange::Role(Role::Replica),
                ..
            } => *node,
            _ => return None,
        };
        let (raft, before) = (self.raft.as_ref()?, self.document.as_ref()?);
        let now = self.now;
        if !raft.is_active(now, node) {
            return None;
        }
        // Who neither votes nor has caught up cannot take over.
        let able = |id: NodeId| raft.membership().is_voter(id) || raft.is_caught_up(now, id);
        let here = |id: NodeId| raft.is_active(now, id) && able(id);
        // Whoever is about to stop decides nothing any more, except that this node still does.
        let stays = |id: NodeId| id == self.id() || here(id) && !self.peer_is_leaving(id);
        let (there, missing): (Vec<_>, Vec<_>) = after.masters().partition(|(id, _)| stays(*id));
        if there.len() >= missing.len() && !there.is_empty() {
            return None;
        }
        let missing = missing.into_iter().map(|(_, s)| s.name.clone()).collect();
        Some(Rejection::MastersAway { name: before.name_of(node), missing })
    }

    /// Appends a command to the configuration log if this node leads it.
    pub(super) fn propose(&mut self, command: &ConfigCommand) -> Option<(Index, Term)> {
        self.propose_encoded(encode_command(command))
    }

    fn propose_encoded(&mut self, command: Bytes) -> Option<(Index, Term)> {
        let proposed = self.raft.as_mut()?.propose(command).ok();
        self.stirred |= proposed.is_some();
        proposed
    }

    /// Proposes what the leader of a shard asks again and again until the document says so only if it
    /// is not under way: where entries are slow to commit, the log would fill with it faster than it
    /// is worked off. Should another entry undo it meanwhile, it is asked for again.
    fn propose_once(&mut self, command: &ConfigCommand) -> Option<(Index, Term)> {
        if !matches!(command, ConfigCommand::SetCopy { .. } | ConfigCommand::Born { .. }) {
            return self.propose(command);
        }
        let mut open = std::mem::take(&mut self.requests.open);
        open.retain(|_, entry| self.is_open(*entry));
        let said = encode_command(command);
        let entry = match open.get(&said) {
            Some(entry) => Some(*entry),
            None => self.propose_encoded(said.clone()),
        };
        open.extend(entry.map(|entry| (said, entry)));
        self.requests.open = open;
        entry
    }

    /// The entry at `index` was applied with this outcome.
    pub(super) fn settle_waiters(
        &mut self,
        index: Index,
        term: Term,
        outcome: Option<Result<Applied, Rejection>>,
    ) {
        let Some((expected, waiters)) = self.requests.waiters.remove(&index) else { return };
        for owed in waiters {
            match (&outcome, expected == term) {
                (Some(Ok(_)), true) => self.settled(owed),
                (Some(Err(rejection)), true) => {
                    self.answer(owed.to, Response::Refused(rejection.clone()));
                }
                _ => self.answer(owed.to, Response::Unknown),
            }
        }
    }

    fn settled(&mut self, Owed { to, leaver }: Owed) {
        match leaver {
            // Not before the others can do without it.
            Some(node) => self.requests.leaving.entry(node).or_default().push(to),
            None => self.answer_done(to),
        }
    }

    fn answer_done(&mut self, waiter: Waiter) {
        let Some(document) = &self.document else { return };
        let (cluster, version) = (document.cluster, document.version);
        self.answer(waiter, Response::Done { cluster, version });
    }

    /// Lets those go whose leave is committed and without whom the membership now works.
    pub(super) fn release_leavers(&mut self) {
        if self.requests.leaving.is_empty() {
            return;
        }
        let Some(raft) = &self.raft else { return };
        let settled = self.is_coordinator()
            && !raft.membership().is_joint()
            && raft.membership_index() <= raft.commit()
            && self.planned_change().is_none();
        if !settled {
            return;
        }
        let leaving = std::mem::take(&mut self.requests.leaving);
        leaving.into_values().flatten().for_each(|waiter| self.answer_done(waiter));
    }

    /// This node no longer coordinates: what is undecided may or may not come to be.
    pub(super) fn forget_waiters(&mut self) {
        let waiters = std::mem::take(&mut self.requests.waiters);
        let leaving = std::mem::take(&mut self.requests.leaving);
        let waiting = waiters.into_values().flat_map(|(_, owed)| owed).map(|owed| owed.to);
        for waiter in waiting.chain(leaving.into_values().flatten()).collect::<Vec<_>>() {
            self.answer(waiter, Response::Unknown);
        }
    }

    fn answer(&mut self, waiter: Waiter, response: Response) {
        match waiter {
            Waiter::Peer { link, id } => {
                if self.links.all.contains_key(&link) {
                    self.send_packet(link, &Packet::Response { id, response });
                }
            }
            Waiter::Own(id) => self.on_own_response(None, id, response),
        }
    }

    pub(super) fn on_response(&mut self, link: LinkId, from: NodeId, id: u64, response: Response) {
        if self.on_join_response(from, id, &response)
            || self.on_merge_response(from, id, &response)
            || self.on_bring_response(id, &response)
        {
            return;
        }
        self.on_own_response(Some(link), id, response);
    }

    fn on_own_response(&mut self, over: Option<LinkId>, id: u64, response: Response) {
        let Some(pending) = self.requests.pending.get_mut(&id) else { return };
        let reply = match response {
            Response::Done { version, .. } => Reply::Done { version },
            Response::Refused(rejection) => Reply::Failed(rejection.into()),
            Response::NotCoordinator { .. } | Response::Unknown
                if pending.sent.is_none_or(|(now_over, _)| now_over != over) =>
            {
                return; // The answer of one that was asked before: it says nothing of the next.
            }
            Response::NotCoordinator { .. } => {
                // Certainly not done there; whoever leads next is asked soon.
                pending.sent = None;
                return;
            }
            Response::Unknown => {
                pending.lose();
                return;
            }
        };
        let (purpose, deadline) = (pending.purpose, pending.deadline);
        self.requests.pending.remove(&id);
        match purpose {
            Purpose::Command(command) => match reply {
                Reply::Done { version } => {
                    self.requests.applying.push((command, version, deadline));
                    self.tell_applied();
                }
                other => self.reply(command, other),
            },
            Purpose::Duty => {}
            Purpose::Leave => {
                // The last master has nobody to take leave of: the cluster rests with it.
                let last = CommandError::Refused(Rejection::LastMaster { name: self.name() });
                let done = matches!(reply, Reply::Done { .. }) || reply == Reply::Failed(last);
                self.on_left(done);
            }
        }
    }
}
