//! What all servers together tell of owners, copies, latencies and messages: gathered by one node, told
//! as JSON, and shown by `quorate status`.
//!
//! Whatever a server that did not answer would have told is left open, never told as nothing.

use std::collections::BTreeMap;

use quorate_core::configuration::{Configuration, CopyStatus, QuorumRule, ServerStatus, ShardRef};
use quorate_core::measures::{Measures, NoMeasures, Tally, Traffic};
use quorate_core::raft::Latency;
use quorate_core::shard::ShardError;
use quorate_core::wire::PacketKind;
use quorate_core::{LogId, NodeId, Status, Term};
use serde::{Deserialize, Serialize};

use crate::http::{CopyNews, Progress, news};

/// What was gathered, as far as it was asked for.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Gathered {
    /// The shards, by database and name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) shards: Option<Vec<ShardRow>>,
    /// How long followers take to acknowledge, of each pair of servers of which the first owns a shard
    /// that the second has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) latency: Option<Vec<PairLatency>>,
    /// What went over the links, of each pair of servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) messages: Option<Vec<PairMessages>>,
    /// The servers that did not answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) unanswered: Vec<Unanswered>,
}

/// A server that did not answer.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Unanswered {
    /// Its name.
    pub(crate) server: String,
    /// Why.
    pub(crate) why: String,
}

/// One shard.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct ShardRow {
    /// The database.
    pub(crate) database: String,
    /// The shard.
    pub(crate) shard: String,
    /// Who owns it, by its own word; `None`: nobody that answered.
    pub(crate) owner: Option<String>,
    /// The term of the shard's log in which it does.
    pub(crate) term: Option<u64>,
    /// Whether it can be written now.
    pub(crate) writes: Writes,
    /// Why not, or not all, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
    /// Who must hold a write.
    pub(crate) write_quorum: QuorumShown,
    /// Who must agree on a read.
    pub(crate) read_quorum: QuorumShown,
    /// The copies, by server.
    pub(crate) copies: Vec<CopyCell>,
    /// Servers that have a place in it, and are not in the cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) awaited: Vec<String>,
}

/// Whether a shard can be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Writes {
    /// It can.
    Yes,
    /// All but what adds rows: its static owner is away.
    NoInserts,
    /// It cannot.
    No,
    /// Who should know did not answer.
    Unknown,
}

/// A quorum of a shard.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct QuorumShown {
    /// `majority`, `all` or a number, as it is configured.
    pub(crate) rule: String,
    /// How many copies that is.
    pub(crate) copies: usize,
    /// Of how many masters.
    pub(crate) of: usize,
}

/// One copy of a shard.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct CopyCell {
    /// The name of the server that has it.
    pub(crate) server: String,
    /// `X`: it owns the shard; `o`: online; or another mark of [`MARKS`], or how far it is received.
    pub(crate) mark: String,
    /// What the configuration says of it.
    pub(crate) status: String,
    /// How far the whole copy is that is fetched, if one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) progress: Option<Progress>,
}

/// The marks of copies, and what they mean.
pub(crate) const MARKS: [(&str, &str); 7] = [
    ("X", "owner"),
    ("o", "copy"),
    ("s", "catching up"),
    ("b", "in backup"),
    ("-", "not available"),
    ("off", "put out of use"),
    ("?", "its server does not answer"),
];

/// How a server follows what another sends it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct PairLatency {
    /// The owner.
    pub(crate) from: String,
    /// Who acknowledges.
    pub(crate) to: String,
    /// What the owner has measured; `None`: it did not answer.
    pub(crate) measured: Option<LatencyShown>,
}

/// How long a server takes to acknowledge what an owner sends it, over the last minute.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct LatencyShown {
    /// Messages with entries that were acknowledged.
    pub(crate) acknowledged: u64,
    /// From when one was sent until it was known to be durable there, on average, in microseconds.
    pub(crate) average_us: Option<u64>,
    /// At worst.
    pub(crate) worst_us: Option<u64>,
    /// For how long the oldest that is under way waits, in microseconds.
    pub(crate) waiting_us: u64,
    /// Entries that are not acknowledged.
    pub(crate) behind: u64,
}

/// What went from one server to another, since each of the two started.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct PairMessages {
    /// Who sends.
    pub(crate) from: String,
    /// Who receives.
    pub(crate) to: String,
    /// What the first has counted; `None`: it did not answer.
    pub(crate) sent: Option<SentShown>,
    /// What the second has received of it; `None`: it did not answer.
    pub(crate) received: Option<Tallies>,
}

/// What a server has counted on its way to another.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct SentShown {
    /// Written to the socket.
    #[serde(flatten)]
    pub(crate) written: Tallies,
    /// Waiting to be written.
    pub(crate) queued: Tally,
    /// Not written, for the link ended.
    pub(crate) dropped: Tally,
    /// How many links there were between the two.
    pub(crate) links: u64,
}

/// Messages by kind.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Tallies {
    /// All together.
    pub(crate) total: Tally,
    /// By what they are for; those kinds of which there were any.
    pub(crate) kinds: BTreeMap<String, Tally>,
}

impl Tallies {
    pub(crate) fn of(counted: &[Tally; PacketKind::COUNT]) -> Self {
        let kinds = PacketKind::ALL.into_iter().zip(counted);
        let kinds = kinds.filter(|(_, tally)| tally.messages > 0);
        Self {
            total: counted.iter().copied().sum(),
            kinds: kinds.map(|(kind, tally)| (kind.name().to_owned(), *tally)).collect(),
        }
    }
}

impl From<Latency> for LatencyShown {
    fn from(latency: Latency) -> Self {
        let average_us = latency.average_us();
        Self {
            acknowledged: latency.acknowledged,
            average_us,
            worst_us: average_us.map(|_| latency.worst_us),
            waiting_us: latency.waiting_us,
            behind: latency.behind,
        }
    }
}

/// What is to be shown.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Parts {
    /// Shards: of this database, or of all.
    pub(crate) shards: Option<Option<String>>,
    /// Latencies.
    pub(crate) latency: bool,
    /// Messages.
    pub(crate) messages: bool,
}

/// What the servers told, and what the node that asked them knows.
pub(crate) struct Told<'a> {
    configuration: &'a Configuration,
    status: &'a Status,
    servers: BTreeMap<NodeId, Result<Measures, NoMeasures>>,
    /// Who owns a shard by its own word, in which term, and what it would refuse a write with. Of
    /// several, who does in the latest term.
    owners: BTreeMap<LogId, (Term, NodeId, Option<ShardError>)>,
}

impl<'a> Told<'a> {
    pub(crate) fn new(
        configuration: &'a Configuration,
        status: &'a Status,
        servers: Vec<(NodeId, Result<Measures, NoMeasures>)>,
    ) -> Self {
        let servers: BTreeMap<_, _> = servers.into_iter().collect();
        let mut owners: BTreeMap<LogId, (Term, NodeId, Option<ShardError>)> = BTreeMap::new();
        for (node, measures) in &servers {
            for owned in measures.iter().flat_map(|measures| &measures.owned) {
                let later = owners.get(&owned.log).is_none_or(|(term, ..)| *term < owned.term);
                if later {
                    owners.insert(owned.log, (owned.term, *node, owned.refuses.clone()));
                }
            }
        }
        Self { configuration, status, servers, owners }
    }

    /// As far as `parts` ask for it.
    pub(crate) fn shown(&self, parts: &Parts) -> Gathered {
        Gathered {
            shards: parts.shards.as_ref().map(|of| self.shards(of.as_deref())),
            latency: parts.latency.then(|| self.latency()),
            messages: parts.messages.then(|| self.messages()),
            unanswered: self.unanswered(),
        }
    }

    fn name(&self, node: NodeId) -> String {
        self.configuration.name_of(node)
    }

    fn measures(&self, node: NodeId) -> Option<&Measures> {
        self.servers.get(&node)?.as_ref().ok()
    }

    /// The servers, by name.
    fn nodes(&self) -> Vec<NodeId> {
        let servers = &self.configuration.servers;
        let mut nodes: Vec<(&str, NodeId)> =
            servers.iter().map(|(node, server)| (server.name.as_str(), *node)).collect();
        nodes.sort_unstable();
        nodes.into_iter().map(|(_, node)| node).collect()
    }

    fn unanswered(&self) -> Vec<Unanswered> {
        let silent = self.nodes().into_iter().filter_map(|node| match self.servers.get(&node) {
            Some(Ok(_)) => None,
            Some(Err(why)) => Some((node, why.to_string())),
            None => Some((node, "not asked: it has just joined".to_owned())),
        });
        silent.map(|(node, why)| Unanswered { server: self.name(node), why }).collect()
    }

    fn shards(&self, of: Option<&str>) -> Vec<ShardRow> {
        let copies = news(self.configuration, &self.status.copies);
        let mut by_shard: BTreeMap<(&str, &str), Vec<&CopyNews>> = BTreeMap::new();
        for copy in &copies {
            by_shard.entry((&copy.database, &copy.shard)).or_default().push(copy);
        }
        let all = self.configuration.shards();
        let asked = all.filter(|shard| of.is_none_or(|of| of == shard.database_name));
        asked
            .map(|shard| {
                let news = by_shard.get(&(shard.database_name, shard.name));
                self.shard(shard, news.map_or(&[][..], Vec::as_slice))
            })
            .collect()
    }

    fn shard(&self, shard: ShardRef<'_>, news: &[&CopyNews]) -> ShardRow {
        let owner = self.owners.get(&shard.shard.log);
        let (writes, why) = self.writes(shard);
        let masters = shard.masters().count();
        let quorum = |rule: QuorumRule| QuorumShown {
            rule: match rule {
                QuorumRule::Majority => "majority".to_owned(),
                QuorumRule::All => "all".to_owned(),
                QuorumRule::Count(count) => count.to_string(),
            },
            copies: rule.copies(masters),
            of: masters,
        };
        let mut copies: Vec<CopyCell> = (shard.shard.copies.iter())
            .map(|(node, status)| self.copy(shard, *node, *status, news))
            .collect();
        copies.sort_by(|a, b| a.server.cmp(&b.server));
        ShardRow {
            database: shard.database_name.to_owned(),
            shard: shard.name.to_owned(),
            owner: owner.map(|(_, node, _)| self.name(*node)),
            term: owner.map(|(term, ..)| term.0),
            writes,
            why,
            write_quorum: quorum(shard.write_quorum()),
            read_quorum: quorum(shard.read_quorum()),
            copies,
            awaited: shard.awaited().map(str::to_owned).collect(),
        }
    }

    fn copy(
        &self,
        shard: ShardRef<'_>,
        node: NodeId,
        status: CopyStatus,
        news: &[&CopyNews],
    ) -> CopyCell {
        let server = self.name(node);
        let owns = self.owners.get(&shard.shard.log).is_some_and(|(_, owner, _)| *owner == node);
        let progress = news.iter().find(|copy| copy.server == server);
        let progress = progress.and_then(|copy| copy.progress.clone());
        let mark = match (status, &progress) {
            _ if owns => "X".to_owned(),
            (CopyStatus::Offline, _) => "off".to_owned(),
            _ if self.measures(node).is_none() && !self.is_away(node) => "?".to_owned(),
            (CopyStatus::Online, _) => "o".to_owned(),
            (CopyStatus::Backup, _) => "b".to_owned(),
            (_, Some(progress)) => percent(progress),
            (CopyStatus::Synchronizing, None) => "s".to_owned(),
            (CopyStatus::NotAvailable, None) => "-".to_owned(),
        };
        CopyCell { server, mark, status: status.to_string(), progress }
    }

    fn is_away(&self, node: NodeId) -> bool {
        let server = self.configuration.servers.get(&node);
        server.is_some_and(|server| server.status == ServerStatus::Away)
    }

    /// Whether a shard can be written, and if not why: by its owner's word, or else by who is there.
    fn writes(&self, shard: ShardRef<'_>) -> (Writes, Option<String>) {
        match self.owners.get(&shard.shard.log) {
            Some((_, _, None)) => (Writes::Yes, None),
            Some((_, _, Some(error @ ShardError::OwnerAway { .. }))) => {
                (Writes::NoInserts, Some(error.to_string()))
            }
            Some((_, _, Some(ShardError::NoQuorum { missing, needed, voters }))) => {
                let missing: Vec<String> = missing.iter().map(|node| self.name(*node)).collect();
                let missing = missing.join(", ");
                let why = format!(
                    "{needed} of its {voters} copies that count are needed, and these are missing: \
                     {missing}"
                );
                (Writes::No, Some(why))
            }
            Some((_, _, Some(error))) => (Writes::No, Some(error.to_string())),
            None => self.ownerless(shard),
        }
    }

    /// Nobody that answered owns the shard.
    fn ownerless(&self, shard: ShardRef<'_>) -> (Writes, Option<String>) {
        let masters: Vec<NodeId> = shard.masters().map(|(node, _)| node).collect();
        let silent = |node: &NodeId| self.measures(*node).is_none();
        let missing: Vec<String> =
            masters.iter().filter(|node| silent(node)).map(|node| self.name(*node)).collect();
        let names = missing.join(", ");
        // Asked over a link that stands, they may still own it.
        let may_own = |node: &NodeId| self.servers.get(node) == Some(&Err(NoMeasures::TooLate));
        if masters.iter().any(may_own) {
            let why = format!("whoever may own it does not answer: {names}");
            return (Writes::Unknown, Some(why));
        }
        if missing.len() * 2 >= masters.len() && !missing.is_empty() {
            let (count, all) = (missing.len(), masters.len());
            let why =
                format!("nobody owns it, for {count} of its {all} masters are missing: {names}");
            return (Writes::No, Some(why));
        }
        (Writes::No, Some("nobody owns it at the moment; an owner is being elected".to_owned()))
    }

    fn latency(&self) -> Vec<PairLatency> {
        let nodes = self.nodes();
        let mut all = Vec::new();
        for from in &nodes {
            let measures = self.measures(*from);
            for to in nodes.iter().filter(|to| *to != from) {
                let of = |(node, latency): &(NodeId, Latency)| (node == to).then_some(*latency);
                let measured = measures.map(|all| all.followers.iter().find_map(of));
                let (from, to) = (self.name(*from), self.name(*to));
                match measured {
                    None => all.push(PairLatency { from, to, measured: None }),
                    Some(Some(latency)) => {
                        all.push(PairLatency { from, to, measured: Some(latency.into()) });
                    }
                    Some(None) => {}
                }
            }
        }
        all
    }

    fn messages(&self) -> Vec<PairMessages> {
        let nodes = self.nodes();
        let counted = |of: NodeId, other: NodeId| {
            let traffic = &self.measures(of)?.traffic;
            let found = traffic.iter().find(|(node, _)| *node == other);
            // Of whom nothing was counted there never was a link to.
            Some(found.map_or_else(Traffic::default, |(_, traffic)| traffic.clone()))
        };
        let pairs = nodes.iter().flat_map(|from| nodes.iter().map(move |to| (*from, *to)));
        pairs
            .filter(|(from, to)| from != to)
            .map(|(from, to)| PairMessages {
                from: self.name(from),
                to: self.name(to),
                sent: counted(from, to).map(|traffic| SentShown {
                    written: Tallies::of(&traffic.sent),
                    queued: traffic.queued,
                    dropped: traffic.dropped,
                    links: traffic.links,
                }),
                received: counted(to, from).map(|traffic| Tallies::of(&traffic.received)),
            })
            .collect()
    }
}

fn percent(progress: &Progress) -> String {
    let percent = progress.done.saturating_mul(100).checked_div(progress.total).unwrap_or_default();
    format!("{}%", percent.min(99))
}
