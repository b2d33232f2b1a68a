//! Comparing the copies of a shard at one position: the leader of its log puts a mark, and gathers what
//! each copy is there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Node;
use crate::ids::{LinkId, LogId, NodeId};
use crate::shard::{CopyHash, Hashed, Mark, NoHash, Reply, RequestId, ShardError};
use crate::time::Time;
use crate::wire::Packet;

/// Hashes that other nodes wait for at one time.
const OWED_MAX: usize = 64;

/// A comparison under way.
#[derive(Debug)]
struct Running {
    id: RequestId,
    until: Time,
    waiting: BTreeMap<NodeId, Option<LinkId>>,
    told: BTreeMap<NodeId, Hashed>,
}

/// Comparisons of this node, and hashes that it owes to others.
#[derive(Default, Debug)]
pub(super) struct Verifications {
    last: u64,
    running: BTreeMap<(LogId, Mark), Running>,
    owed: BTreeMap<(LogId, Mark), (LinkId, Time)>,
}

impl Verifications {
    pub(super) fn next(&self) -> Option<Time> {
        if self.running.is_empty() {
            return None;
        }
        self.running.values().map(|running| running.until).min()
    }
}

impl Node {
    /// Compares the copies of a shard whose log this node leads; answered by its deadline.
    pub(super) fn compare_copies(&mut self, id: RequestId, log: LogId, until: Time) {
        let (now, me) = (self.now, self.id());
        let nodes: BTreeSet<NodeId> = match self.document.as_ref().and_then(|d| d.shard_of(log)) {
            Some(shard) => shard.shard.copies.keys().copied().collect(),
            None => BTreeSet::new(),
        };
        // Only who leads in a term may name marks by it.
        if !self.shards.all.get(&log).is_some_and(|held| held.log().is_settled_leader()) {
            self.on_shard_reply(id, Reply::Failed(ShardError::NotOwner { owner: None }));
            return;
        }
        let under_way = self.sql.verify.running.keys().any(|(of, _)| *of == log);
        self.sql.verify.last += 1;
        let number = self.sql.verify.last;
        let Some(shard) = self.shards.touch(log).filter(|_| !under_way) else {
            self.on_shard_reply(id, Reply::Failed(ShardError::Busy));
            return;
        };
        let mark = Mark { term: shard.log().term(), number };
        // Nobody is asked to wait for a mark that was not put. It leaves this node when all that
        // happened at this time is sent, behind the packets below: who gets it expects it.
        if let Err(error) = shard.put_mark(now, mark) {
            self.on_shard_reply(id, Reply::Failed(error));
            return;
        }
        let mut running = Running { id, until, waiting: BTreeMap::new(), told: BTreeMap::new() };
        let left = until.since(now);
        // So that what a copy has to say is here in time.
        let left = left.saturating_sub(left / 16);
        if nodes.contains(&me) {
            shard.expect_mark(now, mark, now + left);
            running.waiting.insert(me, None);
        }
        let timeout_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
        for node in nodes.into_iter().filter(|node| *node != me) {
            match self.links.usable(node) {
                Some(link) => {
                    self.send_packet(link, &Packet::Verify { log, mark, timeout_ms });
                    running.waiting.insert(node, Some(link));
                }
                None => {
                    running.told.insert(node, Err(NoHash::OutOfReach));
                }
            }
        }
        self.sql.verify.running.insert((log, mark), running);
    }

    /// Another node compares copies, and asks what this node's is at a mark.
    pub(super) fn on_verify(
        &mut self,
        (link, peer): (LinkId, NodeId),
        log: LogId,
        mark: Mark,
        timeout: Duration,
    ) {
        let now = self.now;
        let is_server = self.is_server(peer);
        let owed = self.sql.verify.owed.len();
        let held = self.shards.touch(log).filter(|_| is_server && owed < OWED_MAX);
        let Some(shard) = held else {
            self.send_packet(link, &Packet::Verified { log, mark, hashed: Err(NoHash::NotNow) });
            return;
        };
        shard.expect_mark(now, mark, now + timeout);
        self.sql.verify.owed.insert((log, mark), (link, now + timeout * 2));
    }

    /// This node's own copy has come to a mark, or will not.
    pub(super) fn on_own_hash(&mut self, log: LogId, mark: Mark, hashed: Hashed) {
        if let Some((link, _)) = self.sql.verify.owed.remove(&(log, mark)) {
            if self.links.all.contains_key(&link) {
                self.send_packet(link, &Packet::Verified { log, mark, hashed });
            }
            return;
        }
        let me = self.id();
        self.on_hash(me, None, (log, mark), hashed);
    }

    /// A peer says what its copy is at a mark.
    pub(super) fn on_verified(
        &mut self,
        (link, peer): (LinkId, NodeId),
        log: LogId,
        mark: Mark,
        hashed: Hashed,
    ) {
        self.on_hash(peer, Some(link), (log, mark), hashed);
    }

    fn on_hash(&mut self, node: NodeId, over: Option<LinkId>, of: (LogId, Mark), hashed: Hashed) {
        let Some(running) = self.sql.verify.running.get_mut(&of) else { return };
        if running.waiting.get(&node) == Some(&over) {
            running.waiting.remove(&node);
            running.told.insert(node, hashed);
        }
        if running.waiting.is_empty() {
            self.tell_comparison(of);
        }
    }

    /// Those that were asked over a link that is gone do not answer any more.
    pub(super) fn verify_link_down(&mut self, link: LinkId) {
        self.sql.verify.owed.retain(|_, (of, _)| *of != link);
        let mut lost = Vec::new();
        for (of, running) in &self.sql.verify.running {
            let waiting = running.waiting.iter().filter(|(_, over)| **over == Some(link));
            lost.extend(waiting.map(|(node, over)| (*node, *over, *of)));
        }
        for (node, over, of) in lost {
            self.on_hash(node, over, of, Err(NoHash::OutOfReach));
        }
    }

    /// Tells of comparisons whose time is up, and ends those whose mark may have been lost: whoever
    /// asked finds the next owner.
    pub(super) fn drive_verify(&mut self) {
        let Verifications { running, owed, .. } = &self.sql.verify;
        if running.is_empty() && owed.is_empty() {
            return;
        }
        let now = self.now;
        self.sql.verify.owed.retain(|_, (_, until)| now < *until);
        let running = self.sql.verify.running.iter();
        let late: Vec<(LogId, Mark)> =
            running.filter(|(_, running)| now >= running.until).map(|(of, _)| *of).collect();
        late.into_iter().for_each(|of| self.tell_comparison(of));
        let leads = |(log, mark): &(LogId, Mark)| {
            let log = self.shards.all.get(log).map(|shard| shard.log());
            log.is_some_and(|raft| raft.is_leader() && raft.term() == mark.term)
        };
        let running = self.sql.verify.running.keys().copied();
        let lost: Vec<(LogId, Mark)> = running.filter(|of| !leads(of)).collect();
        for of in lost {
            let Some(Running { id, .. }) = self.sql.verify.running.remove(&of) else { continue };
            let me = self.id();
            let leader = self.shards.all.get(&of.0).and_then(|shard| shard.log().leader());
            let owner = leader.filter(|leader| *leader != me);
            self.on_shard_reply(id, Reply::Failed(ShardError::NotOwner { owner }));
        }
    }

    fn tell_comparison(&mut self, of: (LogId, Mark)) {
        let Some(running) = self.sql.verify.running.remove(&of) else { return };
        let Running { id, waiting, mut told, .. } = running;
        told.extend(waiting.into_keys().map(|node| (node, Err(NoHash::TooLate))));
        let copies = told.into_iter().map(|(node, hashed)| CopyHash { node, hashed }).collect();
        self.on_shard_reply(id, Reply::Compared { copies });
    }
}
