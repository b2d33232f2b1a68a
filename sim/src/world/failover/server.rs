//! The hosts' end of clients' connections: what a real server does around its node, with the same code
//! for what messages mean and what clients are told.

use std::collections::BTreeMap;

use quorate_core::client::{
    Input as ClientInput, Layout, Rights, Served, Service, ToClient, ToServer, greeting,
};
use quorate_core::configuration::MAIN;
use quorate_core::copies::CopyReport;
use quorate_core::node::SqlRequest;
use quorate_core::shard::{Consistency, Reply, ShardError, ShardId, SqlKind};
use quorate_core::{CommandId, Input, LogId, NodeId};

use crate::checks::workloads::{Asked as AskedOf, Before, Operation};
use crate::counts::Count;
use crate::outcome::{Verdict, Violation};
use crate::plan::NEVER_ENDS;
use crate::trace::tell;
use crate::view::{Kind, Lane, Mark, Told};
use crate::world::clients::Acknowledged;
use crate::world::outputs::Late;
use crate::world::shown::Shows;
use crate::world::{Failover, RunRef, World};

/// Commands from here on are of failover clients.
const FIRST: u64 = 1 << 62;
/// Requests at one host that may be under way.
const ASKED_MAX: usize = 16 * 1024;

/// Whether a command is a request of a failover client.
pub(in crate::world) fn is_of_a_client(id: CommandId) -> bool {
    id.0 >= FIRST
}

/// One host's clients, by the line of each.
#[derive(Debug, Default)]
pub(super) struct HostEnd {
    services: BTreeMap<u64, Service>,
    /// What came while the process was stopped.
    inbox: Vec<(u64, Option<ToServer>)>,
    /// What clients were told last.
    told: Option<Layout>,
    /// The cluster may look otherwise than they were told.
    stale: bool,
    /// The copies that are not whole, as they were told last.
    pub(super) copies: Vec<(LogId, NodeId, CopyReport)>,
}

/// A request that a node was given for a client.
#[derive(Debug)]
pub(super) struct Asked {
    by: RunRef,
    line: u64,
    id: u64,
    kind: SqlKind,
    /// What the node had shown of the shard, if it knows that.
    shows: Option<Shows>,
}

impl Failover {
    /// What nodes are asked to see that they have shown before.
    pub(in crate::world) fn open_shows(&self) -> impl Iterator<Item = Shows> {
        self.asked.values().filter_map(|asked| asked.shows)
    }
}

impl World {
    fn host_end(&mut self, host: usize) -> Option<&mut HostEnd> {
        self.failover.as_mut().map(|failover| &mut failover.ends[host])
    }

    /// A host has taken a connection.
    pub(super) fn accepted(&mut self, number: u64) {
        let Some(line) = self.failover.as_ref().and_then(|f| f.lines.get(&number)) else { return };
        let host = line.host;
        if self.hosts[host].paused {
            self.counts.add(Count::ClientFrozen);
            if let Some(end) = self.host_end(host) {
                end.inbox.push((number, None));
            }
            return;
        }
        self.greet(host, number);
    }

    fn greet(&mut self, host: usize, number: u64) {
        let Some(node) = &self.hosts[host].node else { return };
        let failover = self.failover.as_ref();
        let line = failover.and_then(|failover| failover.lines.get(&number));
        let app = line.and_then(|line| Some(&failover?.apps[line.app]));
        if app.is_some_and(|app| app.plan.stranger) {
            let reason = "there is no such user".to_owned();
            self.send_to_client(number, ToClient::Refused { reason, final_: true });
            return;
        }
        let (welcome, layout) = (greeting(node.id()), node.layout());
        if let Some(end) = self.host_end(host) {
            end.services.insert(number, Service::default());
        }
        let copies = self.host_end(host).map(|end| end.copies.clone()).unwrap_or_default();
        self.send_to_client(number, welcome);
        if let Some(layout) = layout {
            self.send_to_client(number, ToClient::Layout(layout));
        }
        if !copies.is_empty() {
            self.send_to_client(number, ToClient::Copies(copies));
        }
    }

    /// Something arrives at a host.
    pub(super) fn at_host(
        &mut self,
        number: u64,
        message: ToServer,
        mark: Option<Mark>,
    ) -> Verdict {
        let Some(line) = self.failover.as_ref().and_then(|f| f.lines.get(&number)) else {
            return Ok(());
        };
        let (host, run) = (line.host, line.run);
        let there = line.host_open && run.is_some_and(|run| self.is_now(run));
        self.trace.ends(self.now, mark, Lane::Host(host), self.hosts[host].fate(there));
        if !there {
            return Ok(());
        }
        if self.hosts[host].paused {
            self.counts.add(Count::ClientFrozen);
            if let Some(end) = self.host_end(host) {
                end.inbox.push((number, Some(message)));
            }
            return Ok(());
        }
        self.serve(host, number, message)
    }

    fn serve(&mut self, host: usize, number: u64, message: ToServer) -> Verdict {
        let Some(end) = self.host_end(host) else { return Ok(()) };
        let Some(service) = end.services.get_mut(&number) else { return Ok(()) };
        match service.received(message, Rights::Write) {
            Ok(Served::Send(answer)) => self.send_to_client(number, answer),
            Ok(Served::Ask(id, request)) => {
                let Some(failover) = &mut self.failover else { return Ok(()) };
                let command = FIRST + failover.next();
                let by = RunRef { host, run: self.hosts[host].run };
                let kind = request.kind;
                let shows = self.shows(by, &request);
                let Some(failover) = &mut self.failover else { return Ok(()) };
                failover.asked.insert(command, Asked { by, line: number, id, kind, shows });
                if failover.asked.len() > ASKED_MAX {
                    let detail = format!("{} requests of clients", failover.asked.len());
                    return Err(Violation::new("queue-unbounded", detail));
                }
                self.counts.add(Count::Requests);
                tell!(
                    self,
                    Told::at(host, Kind::Requests),
                    "host {host} is asked {command} for line {number}: {kind:?}"
                );
                let input = Input::Sql { id: CommandId(command), request };
                return self.deliver(host, input, false);
            }
            Err(wrong) => {
                let detail = format!("host {host}, line {number}: {wrong}");
                return Err(Violation::new("protocol-broken-by-client", detail));
            }
        }
        Ok(())
    }

    /// What a node is asked to see that it has shown before.
    fn shows(&self, by: RunRef, request: &SqlRequest) -> Option<Shows> {
        let document = self.hosts[by.host].node.as_ref()?.configuration()?;
        let shard = document.shard(&request.database, request.shard.as_deref().unwrap_or(MAIN));
        let of = (document.cluster, shard?.shard.log);
        let shown = self.clients.shown.of(by, of.0, of.1);
        let as_configured = request.kind == SqlKind::Read(Consistency::AsConfigured);
        Some(Shows { by, of, at: self.now, timeout: request.timeout, shown, as_configured })
    }

    /// A node answers a request of a client.
    pub(in crate::world) fn client_replied(
        &mut self,
        host: usize,
        id: CommandId,
        reply: Reply,
        of: Option<ShardId>,
    ) -> Verdict {
        tell!(
            self,
            Told::at(host, Kind::Requests),
            "host {host} answers {} of {of:?}: {reply:?}",
            id.0
        );
        let run = self.run_of(host);
        let asked = self.failover.as_mut().and_then(|failover| failover.asked.remove(&id.0));
        let Some(asked) = asked.filter(|asked| asked.by == run) else {
            let detail = format!("host {host} answers command {}: {reply:?}: nobody asked", id.0);
            return Err(Violation::new("answered-wrongly", detail));
        };
        self.count_reply(&reply);
        if let Some(shows) = asked.shows {
            self.note_shown(shows, &reply);
        }
        self.judge_reply(host, &asked, &reply, of);
        let Some(end) = self.host_end(host) else { return Ok(()) };
        let service = end.services.get_mut(&asked.line);
        if let Some(answer) = service.and_then(|service| service.replied(asked.id, reply, of)) {
            self.send_to_client(asked.line, answer);
        }
        Ok(())
    }

    /// What the answer promises is checked once all outputs of the input are there.
    fn judge_reply(&mut self, host: usize, asked: &Asked, reply: &Reply, of: Option<ShardId>) {
        let Some(of) = of else { return };
        let promises = Acknowledged::of(asked.kind);
        self.late.push(Late::Promises(of.log, promises, reply.clone()));
        let key = (of.cluster, of.log);
        if let Reply::Session { .. } = reply {
            self.counts.add(Count::SessionsOpened);
            let (cluster, log, before) = (of.cluster, of.log, Before::default());
            let opened = AskedOf { cluster, log, operation: Operation::Open, before };
            self.late.push(Late::Answered(Box::new(opened), reply.clone()));
        }
        let Some(once) = asked.kind.once() else { return };
        let sent = (once.session.key(), once.sequence);
        if reply.is_final() && (once.cluster, once.log) == key {
            self.late.push(Late::Once(key, sent, reply.clone()));
        }
        if *reply == Reply::Failed(ShardError::SessionExpired) {
            self.counts.add(Count::SessionsExpired);
            let ends = self.plan.databases.as_ref().map(|plan| plan.limits.session_time_to_live);
            let node = self.hosts[host].node.as_ref();
            let here = node.and_then(|node| node.cluster()) == Some(once.cluster);
            if here && once.log == of.log && ends == Some(NEVER_ENDS) {
                self.late.push(Late::Expired(key, once.session));
            }
        }
    }

    /// The cluster may look otherwise, as a node says.
    pub(in crate::world) fn layout_is_stale(&mut self, host: usize) {
        if let Some(end) = self.host_end(host) {
            end.stale = true;
        }
    }

    /// Clients of a host are told how the cluster looks, if that is otherwise than they were told.
    pub(in crate::world) fn push_layout(&mut self, host: usize) {
        let Some(failover) = &mut self.failover else { return };
        let end = &mut failover.ends[host];
        if !std::mem::take(&mut end.stale) {
            return;
        }
        let layout = self.hosts[host].node.as_ref().and_then(|node| node.layout());
        if layout == end.told {
            return;
        }
        end.told.clone_from(&layout);
        if let Some(layout) = layout {
            self.send_to_clients(host, &ToClient::Layout(layout));
        }
    }

    /// Clients of a host are told which copies are not whole, as its node says.
    pub(in crate::world) fn push_copies(
        &mut self,
        host: usize,
        copies: &[(LogId, NodeId, CopyReport)],
    ) {
        let Some(end) = self.host_end(host) else { return };
        end.copies = copies.to_vec();
        self.send_to_clients(host, &ToClient::Copies(copies.to_vec()));
    }

    fn send_to_clients(&mut self, host: usize, message: &ToClient) {
        let lines = self.host_end(host).map(|end| end.services.keys().copied().collect());
        let lines: Vec<u64> = lines.unwrap_or_default();
        for line in lines {
            self.send_to_client(line, message.clone());
        }
    }

    /// A process that was stopped goes on with what came meanwhile.
    pub(in crate::world) fn clients_resume(&mut self, host: usize) -> Verdict {
        let run = self.hosts[host].run;
        let inbox =
            self.host_end(host).map(|end| std::mem::take(&mut end.inbox)).unwrap_or_default();
        for (number, message) in inbox {
            if self.hosts[host].run != run || !self.hosts[host].is_up() {
                return Ok(());
            }
            match message {
                None => self.greet(host, number),
                Some(message) => self.serve(host, number, message)?,
            }
        }
        Ok(())
    }

    /// A host's process has ended: its clients' connections are gone.
    pub(in crate::world) fn clients_end(&mut self, host: usize, silent: bool) {
        let by = self.run_of(host);
        let Some(failover) = &mut self.failover else { return };
        failover.ends[host] = HostEnd::default();
        failover.asked.retain(|_, asked| asked.by != by);
        let lines =
            failover.lines.iter().filter(|(_, line)| line.run == Some(by) && line.host_open);
        let lines: Vec<u64> = lines.map(|(number, _)| *number).collect();
        for line in lines {
            self.host_closes(line, silent);
        }
    }

    /// A host finds that a connection is gone.
    pub(super) fn hung_up(&mut self, number: u64) {
        let Some(failover) = &mut self.failover else { return };
        let Some(line) = failover.lines.get_mut(&number) else { return };
        line.host_open = false;
        let (host, app, id) = (line.host, line.app, line.id);
        failover.ends[host].services.remove(&number);
        failover.ends[host].inbox.retain(|(of, _)| *of != number);
        if !failover.apps[app].lines.contains_key(&id) {
            failover.lines.remove(&number);
        }
    }

    /// What a client is told of the node that it has reached.
    pub(super) fn received(
        &mut self,
        which: usize,
        id: quorate_core::client::ConnectionId,
        message: ToClient,
    ) -> Verdict {
        tell!(
            self,
            Told::In(Lane::Failover(which), Kind::Clients),
            "client {which} hears over {}: {message:?}",
            id.0
        );
        let Some(failover) = &mut self.failover else { return Ok(()) };
        failover.told_by = match &message {
            ToClient::Reply { of, .. } => *of,
            _ => None,
        };
        if let (ToClient::Layout(layout), Some(machine)) = (&message, &failover.apps[which].machine)
        {
            let known = machine.layout();
            if known.cluster == layout.cluster && layout.version < known.version {
                self.counts.add(Count::ClientLayoutsOlder);
            }
        }
        self.tell_client(which, ClientInput::Received(id, message))?;
        if let Some(failover) = &mut self.failover {
            failover.told_by = None;
        }
        Ok(())
    }

    /// The node that a client's server in use is, and its host.
    pub(super) fn host_of(&self, node: NodeId) -> Option<usize> {
        self.running().find(|(_, held)| held.id() == node).map(|(host, _)| host)
    }
}
