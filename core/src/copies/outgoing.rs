//! The donor: one snapshot of a copy, and all who fetch it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::api::{CopyAnswer, CopyCall, CopyMessage, CopyRefusal, FileShape};
use crate::engine::Position;
use crate::ids::{Generation, Index, NodeId};
use crate::raft::Snapshot;
use crate::time::Time;

/// Chunks that one receiver may have asked for and not been given. A sound one asks for fewer.
const WINDOW_MAX: usize = 32;
/// How often those who wait for a snapshot are told that it is being made.
const BEAT: Duration = Duration::from_secs(1);
/// A snapshot that nobody has read from for so long is removed. Until then one who was cut off
/// finds it, and what it has already.
const IDLE: Duration = Duration::from_secs(30);

/// What the donor wants done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Tell a receiver.
    Send(NodeId, CopyMessage),
    /// Have the files do something.
    Call(CopyCall),
}

/// Who fetches: the node, and how it calls the transfer.
type User = (NodeId, u64);

/// One snapshot.
#[derive(Debug)]
pub(crate) struct Outgoing {
    export: u64,
    /// A file that was handed to this node; `None`: a snapshot of its copy.
    upload: Option<u64>,
    /// What it holds; `None` while it is being made.
    made: Option<(Box<Snapshot>, FileShape)>,
    chunk: u32,
    /// When each was last heard.
    users: BTreeMap<User, Time>,
    /// Chunks that are being read, in order, and for whom.
    reading: VecDeque<(User, u32)>,
    next: Time,
    used: Time,
    over: bool,
    steps: VecDeque<Step>,
}

impl Outgoing {
    /// Begins a snapshot of the live copy, to be given in chunks of so many bytes.
    pub(crate) fn new(export: u64, live: Generation, chunk: u32, now: Time) -> Self {
        Self::begin(export, None, CopyCall::Export { export, live }, chunk, now)
    }

    /// Begins to give a file that was handed to this node.
    pub(crate) fn of_upload(export: u64, upload: u64, chunk: u32, now: Time) -> Self {
        let open = CopyCall::ExportUpload { export, upload };
        Self::begin(export, Some(upload), open, chunk, now)
    }

    fn begin(export: u64, upload: Option<u64>, make: CopyCall, chunk: u32, now: Time) -> Self {
        Self {
            export,
            upload,
            made: None,
            chunk,
            users: BTreeMap::new(),
            reading: VecDeque::new(),
            next: now + BEAT,
            used: now,
            over: false,
            steps: VecDeque::from([Step::Call(make)]),
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over && self.steps.is_empty()
    }

    pub(crate) fn next(&self) -> Time {
        self.next
    }

    pub(crate) fn next_step(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    pub(crate) fn serves(&self, user: User) -> bool {
        self.users.contains_key(&user)
    }

    /// Whether it will do for somebody who needs this much. One that is being made will.
    pub(crate) fn suits(&self, at_least: Index) -> bool {
        self.upload.is_none()
            && !self.over
            && self.made.as_ref().is_none_or(|(base, _)| base.index >= at_least)
    }

    /// Whether it gives this file that was handed to the node.
    pub(crate) fn gives(&self, upload: u64) -> bool {
        self.upload == Some(upload) && !self.over
    }

    /// Whether it is no snapshot of a copy, and has no place in the log.
    pub(crate) fn is_upload(&self) -> bool {
        self.upload.is_some()
    }

    /// Somebody wants it.
    pub(crate) fn ask(&mut self, now: Time, user: User) {
        self.users.insert(user, now);
        self.used = now;
        match &self.made {
            Some((base, shape)) => {
                let (base, shape) = (base.clone(), *shape);
                self.send(user.0, CopyMessage::Offer { transfer: user.1, base, shape });
            }
            None => self.send(user.0, CopyMessage::Preparing { transfer: user.1 }),
        }
    }

    pub(crate) fn fetch(
        &mut self,
        now: Time,
        user: User,
        (chunk, known, pack): (u32, Option<super::ChunkHash>, bool),
    ) {
        let waiting = self.reading.iter().filter(|(of, _)| *of == user).count();
        let Some((_, shape)) = &self.made else { return };
        if waiting >= WINDOW_MAX || chunk >= shape.chunks() {
            return;
        }
        let (at, len) = shape.place(chunk);
        self.users.insert(user, now);
        self.used = now;
        self.reading.push_back((user, chunk));
        let export = self.export;
        self.steps.push_back(Step::Call(CopyCall::Read { export, at, len, known, pack }));
    }

    /// Somebody needs it no more.
    pub(crate) fn end(&mut self, user: User) {
        self.users.remove(&user);
        if self.users.is_empty() {
            self.close();
        }
    }

    /// The snapshot is made; `base` says what the log knows of its position.
    pub(crate) fn on_made(&mut self, base: Option<Snapshot>, at: Position, bytes: u64) {
        let Some(base) = base else {
            let reason = format!("its log does not know entry {}", at.index);
            self.fail(&CopyRefusal::Failed(reason));
            return;
        };
        let shape = FileShape { bytes, chunk: self.chunk };
        self.made = Some((Box::new(base.clone()), shape));
        let users: Vec<User> = self.users.keys().copied().collect();
        for (node, transfer) in users {
            let base = Box::new(base.clone());
            self.send(node, CopyMessage::Offer { transfer, base, shape });
        }
    }

    pub(crate) fn on_answer(&mut self, answer: CopyAnswer) {
        match answer {
            CopyAnswer::Read { hash, data, .. } => {
                // Chunks are read in the order in which they were asked for.
                let Some(((node, transfer), chunk)) = self.reading.pop_front() else { return };
                if self.users.contains_key(&(node, transfer)) {
                    self.send(node, CopyMessage::Chunk { transfer, chunk, hash, data });
                }
            }
            CopyAnswer::ExportFailed { fault, .. } => {
                self.fail(&CopyRefusal::Failed(fault.to_string()));
            }
            _ => {}
        }
    }

    pub(crate) fn tick(&mut self, now: Time) {
        if now < self.next {
            return;
        }
        self.next = now + BEAT;
        if self.made.is_none() {
            let users: Vec<User> = self.users.keys().copied().collect();
            for (node, transfer) in users {
                self.send(node, CopyMessage::Preparing { transfer });
            }
            return;
        }
        self.users.retain(|_, heard| now.since(*heard) < IDLE);
        if now.since(self.used) >= IDLE {
            self.close();
        }
    }

    fn fail(&mut self, reason: &CopyRefusal) {
        for (node, transfer) in std::mem::take(&mut self.users).into_keys() {
            self.send(node, CopyMessage::Refused { transfer, reason: reason.clone() });
        }
        self.over = true;
    }

    pub(crate) fn close(&mut self) {
        if !self.over {
            self.over = true;
            self.steps.push_back(Step::Call(CopyCall::EndExport { export: self.export }));
        }
    }

    fn send(&mut self, to: NodeId, message: CopyMessage) {
        self.steps.push_back(Step::Send(to, message));
    }
}
