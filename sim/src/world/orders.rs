//! Operators: what they ask for, at which node, and what they are told.

use std::time::Duration;

use quorate_core::configuration::{ConfigCommand, Configuration};
use quorate_core::{Command, CommandId, ConfigVersion, DatabaseId, Input, Reply};

use super::{RunRef, World};
use crate::checks::workloads::Operation;
use crate::counts::Count;
use crate::network::MS;
use crate::outcome::{Verdict, Violation};
use crate::plan::{DatabaseOrder, Order};
use crate::trace::tell;
use crate::view::{Ask, Became, Lane, Told};

/// So much later than it was told to give up a node may answer.
const GRACE: u64 = 5_000 * MS;

/// How long the measures of the servers are waited for.
const MEASURED_WITHIN_MS: u64 = 500;

/// No client waits for a session for longer.
const LONGEST: u64 = 10_000 * MS;

/// A command that was given.
#[derive(Clone, Debug)]
pub struct Issued {
    /// To whom.
    pub by: RunRef,
    /// When.
    pub at: u64,
    /// What.
    pub command: Command,
    /// The version of the document that the asked node knew: who is named is meant as of then.
    pub since: ConfigVersion,
    /// The answer, once there is one.
    pub reply: Option<Reply>,
}

impl World {
    pub(super) fn order(&mut self, host: usize, order: Order) -> Verdict {
        if !self.hosts[host].is_up() || self.hosts[host].paused {
            return Ok(());
        }
        if let Order::Database(database, order) = &order
            && self.file_order(host, *database, order)?
        {
            return Ok(());
        }
        let Some(command) = self.command(host, order) else { return Ok(()) };
        self.give(host, command)?;
        if !self.hosts[host].is_up() {
            return Ok(());
        }
        // Whoever gives orders looks at what became of them.
        self.give(host, Command::Measure { timeout: Duration::from_millis(MEASURED_WITHIN_MS) })
    }

    fn give(&mut self, host: usize, command: Command) -> Verdict {
        let id = CommandId(self.issued.len() as u64);
        let (ask, who) = (Ask::Order(id.0), Lane::Operators);
        let told = Told::Asks { ask, who, host: Some(host), log: None, what: &command };
        tell!(self, told, "host {host} is asked {}: {command:?}", id.0);
        self.counts.add(Count::Commands);
        let by = self.run_of(host);
        let known = self.hosts[host].node.as_ref().and_then(|node| node.configuration());
        let since = known.map_or(ConfigVersion::ZERO, |document| document.version);
        self.issued.push(Issued { by, at: self.now, command: command.clone(), since, reply: None });
        self.deliver(host, Input::Command { id, command }, false)
    }

    fn command(&self, asked: usize, order: Order) -> Option<Command> {
        let server = |host: usize| {
            let node = self.disks.get(self.hosts[host].dir?).node;
            // An operator names a server as it is named, or by its id.
            let by_id = (self.issued.len() / 2).is_multiple_of(2);
            let name = self.hosts[host].plan.name.clone().filter(|_| !by_id);
            Some(name.unwrap_or_else(|| node.to_string()))
        };
        let database = |number| format!("db{number}");
        Some(match order {
            Order::Remove(host) => Command::RemoveServer { server: server(host)? },
            Order::SetRole(host, role) => Command::SetRole { server: server(host)?, role },
            Order::SetRegistration(host, registration) => {
                Command::SetRegistration { server: server(host)?, registration }
            }
            Order::Create(n) => {
                let id = DatabaseId(self.issued.len() as u128 + 1);
                Command::Change(ConfigCommand::create_database(database(n), id))
            }
            Order::Drop(n) => Command::Change(ConfigCommand::DropDatabase { name: database(n) }),
            Order::Stop => Command::Stop,
            Order::Database(n, order) if let DatabaseOrder::Sync(shard, full, force) = *order => {
                let shard = Some(shard.to_owned());
                Command::Sync { database: database(n), shard, full, force }
            }
            Order::Database(n, order) => {
                Command::Change(self.database_command(asked, database(n), *order)?)
            }
        })
    }

    /// What an operator's node makes of an order, by the document that it knows.
    fn database_command(
        &self,
        asked: usize,
        name: String,
        order: DatabaseOrder,
    ) -> Option<ConfigCommand> {
        let node = self.hosts[asked].node.as_ref()?;
        let held = node.configuration().and_then(|held| held.databases.get(&name));
        let id = held.map(|held| held.id);
        let server = |host: usize| Some(self.disks.get(self.hosts[host].dir?).node);
        let name_of = |host: usize| {
            let document = node.configuration()?;
            Some(document.servers.get(&server(host)?)?.name.clone())
        };
        Some(match order {
            DatabaseOrder::Create(rules) => {
                let id = DatabaseId(self.issued.len() as u128 + 1);
                ConfigCommand::CreateDatabase { name, id, rules: Box::new(rules) }
            }
            DatabaseOrder::Drop => ConfigCommand::DropDatabase { name },
            DatabaseOrder::Configure(rules, all) => {
                let unnamed =
                    |shard: &&String| *shard != "main" && !rules.shards.contains_key(*shard);
                let drop = held?.shards.keys().filter(unnamed).filter(|_| all).cloned().collect();
                ConfigCommand::Configure { name, id: id?, rules: Box::new(rules), drop }
            }
            DatabaseOrder::AddShard(shard, rules) => {
                let (shard, rules) = (shard.to_owned(), Box::new(rules));
                ConfigCommand::AddShard { name, id: id?, shard, rules }
            }
            DatabaseOrder::DropShard(shard) => {
                ConfigCommand::DropShard { name, id: id?, shard: shard.to_owned() }
            }
            DatabaseOrder::SetOwner(shard, owner) => {
                let owner = owner.and_then(name_of);
                ConfigCommand::SetOwner { name, id: id?, shard: shard.to_owned(), owner }
            }
            DatabaseOrder::SetOffline(shard, host, offline) => {
                let log = held?.shards.get(shard)?.log;
                ConfigCommand::SetOffline { log, node: server(host)?, offline }
            }
            // No changes: see `file_order` and `command`.
            DatabaseOrder::BackUp(_) | DatabaseOrder::Restore(..) | DatabaseOrder::Sync(..) => {
                return None;
            }
        })
    }

    pub(super) fn replied(&mut self, host: usize, id: CommandId, reply: &Reply) -> Verdict {
        let told = Told::Answered(Ask::Order(id.0), Became::from(reply));
        tell!(self, told, "host {host} answers {}: {reply:?}", id.0);
        let by = self.run_of(host);
        let place = usize::try_from(id.0).unwrap_or(usize::MAX);
        let wrong = |what: &str| {
            let detail = format!("host {host} answers {id:?} with {reply:?}: {what}");
            Err(Violation::new("answered-wrongly", detail))
        };
        match self.issued.get_mut(place) {
            None => return wrong("nobody asked"),
            Some(issued) if issued.by != by => return wrong("it was asked of another"),
            Some(Issued { reply: Some(_), .. }) => return wrong("it was answered before"),
            Some(issued) => issued.reply = Some(reply.clone()),
        }
        let Issued { command, since, at, .. } = self.issued[place].clone();
        if let Reply::Measured { servers } = reply {
            let whole = servers.iter().all(|(_, measures)| measures.is_ok());
            self.counts.add(if whole { Count::Measured } else { Count::MeasuredInPart });
            let servers_max = Configuration::SERVERS_MAX + 1;
            // Whoever was stopped meanwhile looks at the time when it goes on.
            let since = at.max(self.hosts[host].resumed);
            if servers.len() > servers_max || self.now > since + MEASURED_WITHIN_MS * MS + GRACE {
                return Err(Violation::new("measured-late", format!("by host {host}: {reply:?}")));
            }
        }
        self.acknowledge(command, since, reply);
        Ok(())
    }

    /// Every command given to a process that still runs was answered.
    pub(super) fn all_answered(&self) -> Verdict {
        for (id, issued) in self.issued.iter().enumerate() {
            if issued.reply.is_none() && self.is_now(issued.by) {
                let detail = format!(
                    "host {} was asked {id} at {} ms, {:?}, and has not answered",
                    issued.by.host,
                    issued.at / 1_000_000,
                    issued.command
                );
                return Err(Violation::new("command-unanswered", detail));
            }
        }
        for (id, request) in &self.clients.requests {
            // A probe may be under way.
            let restores = matches!(request.asked.operation, Operation::Restore(_));
            // What is sent until it is done may be under way at any time, but not for ever.
            let until = match (&request.asked.operation, request.attempt) {
                (Operation::Open, _) => request.at + LONGEST,
                (_, Some(attempt)) => attempt.until,
                _ => 0,
            };
            let due = until == 0 || self.now > until + GRACE;
            if (request.client.is_some() || restores) && due && self.is_now(request.by) {
                let detail = format!(
                    "host {} was asked transaction {id} at {} ms, {:?}, and has not answered",
                    request.by.host,
                    request.at / 1_000_000,
                    request.asked
                );
                return Err(Violation::new("transaction-unanswered", detail));
            }
        }
        Ok(())
    }
}
