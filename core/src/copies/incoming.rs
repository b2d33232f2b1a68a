//! The receiver of one full copy, from one donor.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::api::{
    ChunkData, ChunkHash, CopyAnswer, CopyCall, CopyMessage, CopyProgress, CopyRefusal, FileShape,
};
use crate::engine::{Fault, Position};
use crate::ids::{Generation, Index, NodeId};
use crate::marks::sometimes;
use crate::raft::Snapshot;
use crate::shard::StageId;
use crate::time::Time;

/// Chunks that are asked for or being written at one time, at first: enough to keep both ends busy, and
/// few enough that what shares the link with them does not wait for long.
const WINDOW: usize = 12;
/// At least so many later, and at most: as many as donors allow, or 8 MiB of them in memory.
const WINDOW_MIN: usize = 4;
const WINDOW_MAX: usize = 32;
/// The window is fitted to what came in such a span: so long does what shares the link wait at most,
/// and half as long again while the window grows.
const SPAN: Duration = Duration::from_millis(50);
/// A donor that is silent for so long is replaced.
const SILENCE: Duration = Duration::from_secs(5);
/// How often the rate is measured.
const MEASURE: Duration = Duration::from_millis(500);
/// Below so many bytes a second compressing is faster than the link.
const SLOW: u64 = 60_000_000;

/// What the file is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Goal {
    /// To become the live copy.
    Copy {
        /// What it is to be called.
        generation: Generation,
        /// What it must hold.
        at_least: Index,
    },
    /// To be staged.
    Stage {
        /// What it is to be called.
        stage: StageId,
        /// How the donor calls it.
        upload: u64,
    },
}

/// What the receiver wants done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Tell the donor.
    Send(CopyMessage),
    /// Have the files do something.
    Call(CopyCall),
    /// The donor is of no use; what came from it stays.
    DonorFailed {
        /// In words.
        reason: String,
        /// It has said no, for now.
        refused: bool,
    },
    /// The files of this node failed.
    Failed(Fault),
    /// The copy lies whole and durable in its place.
    Ready { base: Box<Snapshot>, generation: Generation },
    /// The file is staged, durably.
    Staged(StageId),
}

#[derive(Debug)]
enum Phase {
    Asking,
    /// The file is made ready.
    Opening {
        base: Box<Snapshot>,
        shape: FileShape,
    },
    Fetching(Fetching),
    /// The file is made durable and put in its place.
    Finishing {
        base: Box<Snapshot>,
    },
    Over,
}

#[derive(Debug)]
struct Fetching {
    base: Box<Snapshot>,
    shape: FileShape,
    known: Vec<ChunkHash>,
    /// The next chunk to ask for.
    next: u32,
    asked: BTreeSet<u32>,
    /// By where they lie.
    writing: BTreeMap<u64, u32>,
    /// Bytes that came over the link.
    moved: u64,
    began: Time,
    /// Chunks that may be on their way now, and how many have come since when.
    window: usize,
    come: usize,
    since: Time,
}

impl Fetching {
    /// A chunk has come: fits the window to how fast they come.
    fn fit_window(&mut self, now: Time) {
        self.come += 1;
        let (elapsed, full) = (now.since(self.since), self.come >= self.window);
        if elapsed < SPAN && !full {
            return;
        }
        // So many as come in one span, and half as many again: more is tried for as long as they come.
        let nanos = elapsed.as_nanos().max(1);
        let in_span = SPAN.as_nanos().saturating_mul(self.come as u128) / nanos;
        let in_span = usize::try_from(in_span).unwrap_or(usize::MAX).min(WINDOW_MAX);
        self.window = (in_span + in_span / 2).clamp(WINDOW_MIN, WINDOW_MAX);
        (self.come, self.since) = (0, now);
    }
}

/// One transfer.
#[derive(Debug)]
pub(crate) struct Incoming {
    transfer: u64,
    goal: Goal,
    rate_max: Option<u64>,
    phase: Phase,
    progress: CopyProgress,
    /// When the donor was last heard, or the own files answered.
    heard: Time,
    measured: (Time, u64),
    pack: bool,
    steps: VecDeque<Step>,
}

impl Incoming {
    /// Asks `donor` for what `goal` says. No more than `rate_max` bytes a second are asked for.
    pub(crate) fn new(
        (transfer, donor): (u64, NodeId),
        goal: Goal,
        rate_max: Option<u64>,
        now: Time,
    ) -> Self {
        let ask = Step::Send(match goal {
            Goal::Copy { at_least, .. } => CopyMessage::Ask { transfer, at_least },
            Goal::Stage { upload, .. } => CopyMessage::AskUpload { transfer, upload },
        });
        Self {
            transfer,
            goal,
            rate_max,
            phase: Phase::Asking,
            progress: CopyProgress::from(donor),
            heard: now,
            measured: (now, 0),
            pack: false,
            steps: VecDeque::from([ask]),
        }
    }

    pub(crate) fn donor(&self) -> NodeId {
        self.progress.donor
    }

    pub(crate) fn progress(&self) -> CopyProgress {
        self.progress
    }

    /// The content that it will have, once that is known: the log is needed from there on.
    pub(crate) fn base(&self) -> Option<&Snapshot> {
        match &self.phase {
            Phase::Opening { base, .. } | Phase::Finishing { base } => Some(base),
            Phase::Fetching(fetching) => Some(&fetching.base),
            Phase::Asking | Phase::Over => None,
        }
    }

    pub(crate) fn next_step(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    /// When it is to be looked at.
    pub(crate) fn next(&self) -> Time {
        match &self.phase {
            Phase::Fetching(fetching) => {
                let paced = self.paced_until(fetching).unwrap_or(self.measured.0 + MEASURE);
                paced.min(self.measured.0 + MEASURE)
            }
            Phase::Over => Time(u64::MAX),
            _ => self.heard + SILENCE,
        }
    }

    /// Tells the donor that it is not needed any more.
    pub(crate) fn end(&mut self) {
        self.steps.push_back(Step::Send(CopyMessage::End { transfer: self.transfer }));
        self.phase = Phase::Over;
    }

    pub(crate) fn tick(&mut self, now: Time) {
        // While this node's own files are at work, nothing is expected of the donor.
        let expected = match &self.phase {
            Phase::Asking => true,
            Phase::Fetching(fetching) => !fetching.asked.is_empty(),
            Phase::Opening { .. } | Phase::Finishing { .. } | Phase::Over => false,
        };
        if !expected {
            self.heard = now;
        } else if now.since(self.heard) >= SILENCE {
            sometimes!(DonorSilent);
            self.give_up("it has been silent for too long", false);
            return;
        }
        self.measure(now);
        self.fetch(now);
    }

    pub(crate) fn on_message(&mut self, now: Time, message: CopyMessage) {
        self.heard = now;
        match message {
            CopyMessage::Offer { transfer, base, shape } if transfer == self.transfer => {
                self.on_offer(base, shape);
            }
            CopyMessage::Chunk { transfer, chunk, hash, data } if transfer == self.transfer => {
                self.on_chunk(now, chunk, hash, data);
            }
            CopyMessage::Refused { transfer, reason } if transfer == self.transfer => {
                sometimes!(DonorRefused);
                self.give_up(&reason.to_string(), !matches!(reason, CopyRefusal::Failed(_)));
            }
            _ => {}
        }
    }

    fn on_offer(&mut self, base: Box<Snapshot>, shape: FileShape) {
        if !matches!(self.phase, Phase::Asking) {
            return;
        }
        let at_least = match self.goal {
            Goal::Copy { at_least, .. } => at_least,
            Goal::Stage { .. } => Index::ZERO,
        };
        if base.index < at_least || !shape.is_sound() {
            self.give_up("it offers less than was asked for", false);
            return;
        }
        self.progress.total = shape.bytes;
        let stage = match self.goal {
            Goal::Copy { .. } => None,
            Goal::Stage { stage, .. } => Some(stage),
        };
        let receive = CopyCall::Receive { transfer: self.transfer, shape, stage };
        self.steps.push_back(Step::Call(receive));
        self.phase = Phase::Opening { base, shape };
    }

    pub(crate) fn on_answer(&mut self, now: Time, answer: CopyAnswer) {
        let of = match &answer {
            CopyAnswer::Receiving { transfer, .. }
            | CopyAnswer::Written { transfer, .. }
            | CopyAnswer::Finished { transfer }
            | CopyAnswer::ReceiveFailed { transfer, .. } => *transfer,
            _ => return,
        };
        if of != self.transfer || matches!(self.phase, Phase::Over) {
            return;
        }
        self.heard = now;
        match answer {
            CopyAnswer::Receiving { known, .. } => self.begin(now, known),
            CopyAnswer::Written { at, .. } => self.on_written(now, at),
            CopyAnswer::Finished { .. } => self.on_finished(),
            CopyAnswer::ReceiveFailed { fault, .. } => {
                self.end();
                self.steps.push_back(Step::Failed(fault));
            }
            _ => {}
        }
    }

    fn begin(&mut self, now: Time, known: Vec<ChunkHash>) {
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Opening { base, shape } => {
                self.measured = (now, 0);
                self.phase = Phase::Fetching(Fetching {
                    base,
                    shape,
                    known,
                    next: 0,
                    asked: BTreeSet::new(),
                    writing: BTreeMap::new(),
                    moved: 0,
                    began: now,
                    window: WINDOW,
                    come: 0,
                    since: now,
                });
                self.fetch(now);
            }
            other => self.phase = other,
        }
    }

    /// Asks for what comes next, as far as the window and the rate allow.
    fn fetch(&mut self, now: Time) {
        let (transfer, pack, rate_max) = (self.transfer, self.pack, self.rate_max);
        let Phase::Fetching(fetching) = &mut self.phase else { return };
        let chunks = fetching.shape.chunks();
        while fetching.next < chunks
            && fetching.asked.len() + fetching.writing.len() < fetching.window
            && rate_max.is_none_or(|rate| fetching.moved <= allowed(rate, now, fetching.began))
        {
            let chunk = fetching.next;
            fetching.next += 1;
            fetching.asked.insert(chunk);
            let known = fetching.known.get(chunk as usize).copied();
            let fetch = CopyMessage::Fetch { transfer, chunk, known, pack };
            self.steps.push_back(Step::Send(fetch));
        }
        let all = fetching.next == chunks;
        if all && fetching.asked.is_empty() && fetching.writing.is_empty() {
            let (base, bytes) = (fetching.base.clone(), fetching.shape.bytes);
            let finish = match self.goal {
                Goal::Copy { generation, .. } => {
                    let at = Position { index: base.index, term: base.term };
                    CopyCall::Finish { transfer, bytes, at, generation }
                }
                Goal::Stage { stage, .. } => CopyCall::FinishStage { transfer, bytes, stage },
            };
            self.steps.push_back(Step::Call(finish));
            self.phase = Phase::Finishing { base };
        }
    }

    fn paced_until(&self, fetching: &Fetching) -> Option<Time> {
        let rate = self.rate_max?;
        let open = fetching.asked.len() + fetching.writing.len() < fetching.window;
        let nanos = u128::from(fetching.moved) * 1_000_000_000 / u128::from(rate.max(1));
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        open.then(|| fetching.began + Duration::from_nanos(nanos))
    }

    fn on_chunk(&mut self, now: Time, chunk: u32, hash: ChunkHash, data: ChunkData) {
        let transfer = self.transfer;
        let Phase::Fetching(fetching) = &mut self.phase else { return };
        if !fetching.asked.remove(&chunk) {
            return;
        }
        fetching.fit_window(now);
        let (at, len) = fetching.shape.place(chunk);
        match data {
            ChunkData::Same if fetching.known.get(chunk as usize) == Some(&hash) => {
                self.progress.done += u64::from(len);
                self.progress.kept += u64::from(len);
            }
            ChunkData::Same => {
                self.give_up("it takes a chunk for known that is not", false);
                return;
            }
            data => {
                fetching.moved += u64::from(len);
                fetching.writing.insert(at, len);
                let write = CopyCall::Write { transfer, at, len, hash, data };
                self.steps.push_back(Step::Call(write));
            }
        }
        self.fetch(now);
    }

    fn on_written(&mut self, now: Time, at: u64) {
        let Phase::Fetching(fetching) = &mut self.phase else { return };
        if let Some(len) = fetching.writing.remove(&at) {
            self.progress.done += u64::from(len);
        }
        self.fetch(now);
    }

    fn on_finished(&mut self) {
        if let Phase::Finishing { base } = std::mem::replace(&mut self.phase, Phase::Over) {
            sometimes!(self.progress.kept > 0, CopyResumed);
            self.end();
            self.steps.push_back(match self.goal {
                Goal::Copy { generation, .. } => Step::Ready { base, generation },
                Goal::Stage { stage, .. } => Step::Staged(stage),
            });
        }
    }

    fn measure(&mut self, now: Time) {
        let (since, done) = self.measured;
        let elapsed = now.since(since);
        if elapsed < MEASURE || !matches!(self.phase, Phase::Fetching(_)) {
            return;
        }
        let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
        let moved = self.progress.done.saturating_sub(done);
        let latest = moved.saturating_mul(1000) / millis;
        let before = self.progress.rate;
        self.progress.rate = if before == 0 { latest } else { (before + latest) / 2 };
        self.measured = (now, self.progress.done);
        // Packing made it faster or not: it is not undone, or the two would alternate.
        self.pack |= self.progress.rate < SLOW && self.rate_max.is_none_or(|max| max > SLOW);
    }

    fn give_up(&mut self, reason: &str, refused: bool) {
        self.end();
        self.steps.push_back(Step::DonorFailed { reason: reason.to_owned(), refused });
    }
}

/// Bytes that may have come by now at this rate.
fn allowed(rate: u64, now: Time, began: Time) -> u64 {
    let millis = u64::try_from(now.since(began).as_millis()).unwrap_or(u64::MAX);
    u64::try_from(u128::from(rate) * u128::from(millis) / 1000).unwrap_or(u64::MAX)
}
