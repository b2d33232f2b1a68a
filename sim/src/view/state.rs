//! What a host's process is in each log that it has a part of: noted whenever it becomes something else.

use quorate_core::configuration::CopyStatus;
use quorate_core::raft::{Raft, Role};
use quorate_core::{LogId, Node, Term};

use super::Recording;

/// A log at a host.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Track {
    pub(super) host: usize,
    /// [`LogId::CONFIGURATION`] is the cluster's.
    pub(super) log: LogId,
}

/// What it is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct State {
    /// Its role, as [`State::ROLES`] numbers them.
    pub(super) role: u8,
    pub(super) term: Term,
    /// The version of the document that it knows; of a shard, the status of its copy by that document, as
    /// [`State::COPIES`] numbers them.
    pub(super) version: u64,
    /// It owns the shard, as far as it knows.
    pub(super) owns: bool,
}

impl State {
    /// Roles by their numbers.
    pub(super) const ROLES: [&str; 5] =
        ["follower", "pre-candidate", "candidate", "leader", "learner"];
    /// Statuses of copies by their numbers.
    pub(super) const COPIES: [&str; 6] =
        ["no copy", "NOT_AVAILABLE", "SYNCHRONIZING", "ONLINE", "BACKUP", "OFFLINE"];
}

impl Recording {
    /// Looks at what a host's process is now.
    pub(crate) fn watch(&mut self, now: u64, host: usize, node: &Node) {
        let document = node.configuration();
        if let Some(raft) = node.configuration_log() {
            let version = document.map_or(0, |document| document.version.0);
            let (role, term) = (role(raft), raft.term());
            let state = State { role, term, version, owns: false };
            self.is(now, Track { host, log: LogId::CONFIGURATION }, state);
        }
        for (log, shard) in node.shards() {
            let raft = shard.log();
            let held = document.and_then(|document| document.shard_of(log));
            if let Some(held) = held
                && !self.shards.contains_key(&log)
            {
                let name = format!("{}/{}", held.database_name, held.name);
                self.shards.insert(log, name);
            }
            let copy = held.and_then(|held| held.shard.copies.get(&node.id()).copied());
            let (role, term, version) = (role(raft), raft.term(), number(copy));
            let state = State { role, term, version, owns: shard.is_owner() };
            self.is(now, Track { host, log }, state);
        }
        let gone =
            |track: &Track| track.log != LogId::CONFIGURATION && node.shard(track.log).is_none();
        let all = Track { host, log: LogId(0) }..Track { host: host + 1, log: LogId(0) };
        let gone: Vec<Track> = self.shown.range(all).map(|(t, _)| *t).filter(gone).collect();
        gone.into_iter().for_each(|track| self.is_nothing(now, track));
    }

    /// A host's process is gone.
    pub(super) fn forget(&mut self, now: u64, host: usize) {
        let all = Track { host, log: LogId(0) }..Track { host: host + 1, log: LogId(0) };
        let held: Vec<Track> = self.shown.range(all).map(|(track, _)| *track).collect();
        held.into_iter().for_each(|track| self.is_nothing(now, track));
    }

    fn is(&mut self, now: u64, track: Track, state: State) {
        if self.shown.get(&track) != Some(&state) {
            self.shown.insert(track, state);
            self.states.push((now, track, Some(state)));
        }
    }

    fn is_nothing(&mut self, now: u64, track: Track) {
        self.shown.remove(&track);
        self.states.push((now, track, None));
    }
}

fn role(raft: &Raft) -> u8 {
    match raft.role() {
        Role::Follower if !raft.membership().is_voter(raft.node()) => 4,
        Role::Follower => 0,
        Role::PreCandidate => 1,
        Role::Candidate => 2,
        Role::Leader => 3,
    }
}

fn number(copy: Option<CopyStatus>) -> u64 {
    match copy {
        None => 0,
        Some(CopyStatus::NotAvailable) => 1,
        Some(CopyStatus::Synchronizing) => 2,
        Some(CopyStatus::Online) => 3,
        Some(CopyStatus::Backup) => 4,
        Some(CopyStatus::Offline) => 5,
    }
}
