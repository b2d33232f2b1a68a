//! Thousands of short random runs. Anything may happen in any order: messages late, lost, twice and
//! in the wrong order, crashes that keep any prefix of what was being written, changes, hand-overs,
//! compaction. [`super::checks::Checks`] holds the safety properties after every step; then faults
//! stop, and everything must come together again by itself.

use std::collections::BTreeMap;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

use super::super::*;
use super::net::{Net, membership};
use crate::storage::Window;

const NODES: u128 = 6;
/// How long it may take to come together again, in simulated time.
const RECOVERY_MS: u64 = 30_000;

struct Explorer {
    net: Net,
    rng: ChaCha8Rng,
    /// Whether messages may overtake each other and come twice.
    chaos: bool,
    /// What was committed anywhere when a read was asked for.
    reads: BTreeMap<u64, Index>,
    committed: Index,
    asked: u64,
    version: u64,
    /// What the runs have reached; a campaign that never got there has shown nothing.
    marks: BTreeMap<&'static str, u64>,
}

impl Explorer {
    fn new(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let voters = 1 + rng.next_u64() % 5;
        let ids: Vec<NodeId> = (1..=NODES).map(NodeId).collect();
        let (voters, rest) = ids.split_at(usize::try_from(voters).unwrap());
        let mut first = membership(voters, rest);
        if rng.next_u64().is_multiple_of(4) {
            first.incoming.tie_breaker = None;
        }
        let chaos = rng.next_u64().is_multiple_of(2);
        let mut net = Net::with_membership(first, seed);
        if rng.next_u64().is_multiple_of(2) {
            // Small messages and windows: what is rare becomes common.
            net.limits.append_count_max = 1 + usize::try_from(rng.next_u64() % 3).unwrap();
            net.limits.in_flight_max = 1 + usize::try_from(rng.next_u64() % 3).unwrap();
            net.restart_all();
        }
        if rng.next_u64().is_multiple_of(2) {
            // Logs that keep next to nothing in memory, and content that is apart from them.
            let entries_max = usize::try_from(rng.next_u64() % 5).unwrap();
            let bytes_max = [usize::MAX, 100, 300][usize::try_from(rng.next_u64() % 3).unwrap()];
            net.limits.window = Window { entries_max, bytes_max };
            net.content = Content::Apart;
            net.copies = true;
            net.restart_all();
        }
        let (reads, marks) = (BTreeMap::new(), BTreeMap::new());
        let committed = Index(1);
        Self { net, rng, chaos, reads, committed, asked: 0, version: 1, marks }
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.rng.next_u64() % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }

    fn chance(&mut self, one_in: u64) -> bool {
        self.rng.next_u64().is_multiple_of(one_in)
    }

    fn node(&mut self) -> NodeId {
        NodeId(1 + u128::from(self.rng.next_u64()) % NODES)
    }

    fn mark(&mut self, name: &'static str) {
        *self.marks.entry(name).or_default() += 1;
    }

    fn step(&mut self) {
        match self.rng.next_u64() % 100 {
            0..48 => self.deliver(),
            48..55 => self.answer_read(),
            55..78 => {
                let node = self.node();
                self.net.persist(node);
            }
            78..86 => self.time(),
            86..92 => self.client(),
            92..96 => self.change(),
            96 if self.chance(2) => self.links(),
            97 => self.crash_or_restart(),
            98 => self.owner(),
            // A calm while: most of what is interesting needs a leader.
            99 if self.chance(3) => self.calm(),
            _ => self.deliver(),
        }
        self.look();
    }

    fn deliver(&mut self) {
        let busy = self.net.wires.iter().filter(|(_, wire)| !wire.is_empty());
        let busy: Vec<_> = busy.map(|(ends, _)| *ends).collect();
        if busy.is_empty() {
            return self.time();
        }
        let (from, to) = busy[self.below(busy.len())];
        if !self.chaos {
            for _ in 0..=self.below(3) {
                self.net.deliver(from, to);
            }
            return;
        }
        let at = self.below(self.net.wires[&(from, to)].len());
        let twice = self.chance(4);
        let wire = self.net.wires.get_mut(&(from, to)).unwrap();
        let message = wire[at].clone();
        if !twice {
            wire.remove(at);
        }
        if !self.chance(8) {
            self.net.inject(from, to, message);
        }
    }

    /// A disk answers what it was asked, or finds that it cannot; and copies arrive.
    fn answer_read(&mut self) {
        let node = self.node();
        let Some(read) = self.net.host(node).wanted.front().copied() else {
            if self.chance(2) && self.net.is_up(node) && self.net.copy_to(node) {
                self.mark("copy");
            }
            return self.deliver();
        };
        if !self.net.is_up(node) {
            return;
        }
        if self.chance(6) {
            self.mark("unreadable");
            self.net.refuse_read(node, Index(read.from.0 + self.rng.next_u64() % 3));
        } else {
            self.mark("read");
            self.net.answer_read(node);
        }
    }

    fn time(&mut self) {
        let ms = 1 + self.rng.next_u64() % 150;
        self.net.pass(ms);
        let now = self.net.now;
        for node in self.net.nodes() {
            let due = self.net.host(node).raft.as_ref().is_some_and(|r| r.next_timeout() <= now);
            if due && !self.chance(4) {
                self.net.tick(node);
            }
        }
    }

    fn leader(&mut self) -> Option<NodeId> {
        let nodes = self.net.nodes();
        let leaders =
            nodes.into_iter().filter(|n| self.net.is_up(*n) && self.net.at(*n).is_leader());
        let leaders: Vec<NodeId> = leaders.collect();
        (!leaders.is_empty()).then(|| leaders[self.below(leaders.len())])
    }

    fn client(&mut self) {
        let Some(leader) = self.leader() else { return };
        self.asked += 1;
        if self.chance(3) {
            let token = self.asked;
            if self.net.with(leader, |raft, _| raft.read(token)).is_ok() {
                self.reads.insert(token, self.committed);
            }
        } else {
            let text = format!("{}", self.asked);
            self.net.propose(leader, &text).ok();
        }
    }

    fn change(&mut self) {
        let Some(leader) = self.leader() else { return };
        let now = self.net.now;
        let present = self.net.at(leader).membership().clone();
        let mut half = present.incoming.clone();
        // Mostly what a plan would do: some learners in, some voters out, the tie-breaker moved.
        for id in (1..=NODES).map(NodeId) {
            let ready = present.learners.contains(&id) && self.net.at(leader).is_caught_up(now, id);
            if half.voters.contains(&id) {
                if self.chance(5) && half.voters.len() > 1 {
                    half.voters.remove(&id);
                }
            } else if ready && self.chance(2) {
                half.voters.insert(id);
            }
        }
        let kept = half.tie_breaker.is_some_and(|tie| half.voters.contains(&tie));
        if !kept || self.chance(3) {
            let voters: Vec<NodeId> = half.voters.iter().copied().collect();
            let tie = voters[self.below(voters.len())];
            half.tie_breaker = (!self.chance(5)).then_some(tie);
        }
        let out: Vec<NodeId> = (1..=NODES).map(NodeId).collect();
        let learners = out.into_iter().filter(|id| !half.voters.contains(id));
        let learners = learners.filter(|_| !self.chance(4)).collect();
        self.version += 1;
        let version = ConfigVersion(self.version);
        let joint = half != present.incoming;
        let without_leader = !half.voters.contains(&leader);
        if self.net.change(leader, Change { half, learners, version }).is_ok() {
            self.mark(if joint { "joint change" } else { "learners changed" });
            if without_leader {
                self.mark("leader removes itself");
            }
        }
    }

    fn links(&mut self) {
        let (one, other) = (self.node(), self.node());
        if one == other {
            self.net.heal();
        } else if self.chance(2) {
            self.net.cut_one_way(one, other);
        } else {
            self.net.cut(one, other);
            for (node, peer) in [(one, other), (other, one)] {
                if self.net.is_up(node) {
                    self.net.with(node, |raft, now| raft.link_lost(now, peer));
                }
            }
        }
    }

    fn crash_or_restart(&mut self) {
        let node = self.node();
        if self.net.is_up(node) {
            let survive = self.below(self.net.unwritten(node) + 1);
            self.net.crash(node, survive);
            self.mark("crash");
        }
        let down: Vec<NodeId> =
            self.net.nodes().into_iter().filter(|n| !self.net.is_up(*n)).collect();
        for node in down {
            if self.chance(2) {
                self.net.restart(node);
            }
        }
    }

    fn calm(&mut self) {
        self.net.heal();
        let ms = 100 * (1 + self.rng.next_u64() % 15);
        self.net.run(ms);
    }

    fn owner(&mut self) {
        let (node, other) = (self.node(), self.node());
        if !self.net.is_up(node) {
            return;
        }
        match self.rng.next_u64() % 4 {
            0 => {
                let leader = self.leader().unwrap_or(node);
                if self.net.with(leader, |raft, now| raft.transfer(now, other)).is_ok() {
                    self.mark("transfer");
                }
            }
            1 => self.net.with(node, |raft, now| raft.paused(now)),
            2 => self.net.compact(node),
            _ => self.net.timeout(node),
        }
    }

    /// Reads are linearizable; and what has been reached.
    fn look(&mut self) {
        for host in self.net.hosts.values_mut() {
            if let Some(raft) = &host.raft {
                self.committed = self.committed.max(raft.applied());
            }
            for (token, index) in std::mem::take(&mut host.reads) {
                let committed = self.reads[&token];
                assert!(index >= committed, "read {token} at {index}, {committed} was committed");
            }
        }
    }

    /// Faults stop: everybody runs, every link works.
    fn recover(&mut self) {
        for node in self.net.nodes() {
            if !self.net.is_up(node) {
                self.net.restart(node);
            }
        }
        self.net.heal();
        for _ in 0..RECOVERY_MS / 100 {
            self.net.run(100);
            self.look();
            if self.trouble().is_none() {
                return;
            }
        }
        let nodes: Vec<String> = self
            .net
            .hosts
            .iter()
            .map(|(id, host)| super::show::state(*id, host.raft.as_ref().unwrap()))
            .collect();
        panic!("{}:\n{}", self.trouble().unwrap_or_default(), nodes.join("\n"));
    }

    /// Why it has not come together yet.
    fn trouble(&self) -> Option<String> {
        let Some(leader) = self.net.leader() else { return Some("nobody leads".to_owned()) };
        let raft = self.net.at(leader);
        let membership = raft.membership();
        if !raft.is_settled_leader() || raft.commit() < raft.last_index() {
            return Some("the leader cannot commit".to_owned());
        }
        if membership.is_joint() || !membership.is_voter(leader) {
            return Some("the change does not end".to_owned());
        }
        let behind = |id: &NodeId| self.net.at(*id).commit() < raft.commit();
        let lagging = membership.members().into_iter().find(behind);
        lagging.map(|id| format!("{} does not catch up", super::show::name(id)))
    }
}

fn explore(seeds: std::ops::Range<u64>) {
    let mut marks: BTreeMap<&'static str, u64> = BTreeMap::new();
    let mut reigns = 0;
    for seed in seeds {
        let run = std::panic::AssertUnwindSafe(|| {
            let mut explorer = Explorer::new(seed);
            for _ in 0..explorer.below(1200) {
                explorer.step();
            }
            explorer.recover();
            (explorer.marks, explorer.net.checks.reigns())
        });
        match std::panic::catch_unwind(run) {
            Ok((reached, led)) => {
                reigns += led;
                for (mark, count) in reached {
                    *marks.entry(mark).or_default() += count;
                }
            }
            Err(cause) => {
                eprintln!("seed {seed} fails");
                std::panic::resume_unwind(cause);
            }
        }
    }
    let expected = [
        "joint change",
        "learners changed",
        "leader removes itself",
        "crash",
        "transfer",
        "read",
        "unreadable",
        "copy",
    ];
    for mark in expected {
        assert!(marks.get(mark).is_some_and(|n| *n > 50), "too seldom: {mark} {marks:?}");
    }
    assert!(reigns > 1000, "{reigns} reigns");
}

#[test]
#[ignore = "takes minutes; run it after a change of core::raft"]
fn very_many_random_runs_are_safe_and_recover() {
    explore(3000..100_000);
}

#[test]
fn random_runs_are_safe_and_recover_first_part() {
    explore(0..1500);
}

#[test]
fn random_runs_are_safe_and_recover_second_part() {
    explore(1500..3000);
}
