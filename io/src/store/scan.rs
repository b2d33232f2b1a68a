//! Reading the log after a start: what is in it, where it ends, and whether something is missing.
//!
//! The reasoning is in the documentation of [`super`]; the words here are the same.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use quorate_core::{LogId, NodeId};

use super::error::StoreError;
use super::frame::{BLOCK, FrameHeader, Kind, SegmentHeader};
use super::fs::FileSystem;
use super::item::{Change, Kept, Touched, decode_changes};
use super::segment::{self, Segment};
use super::state::{Base, State};

/// Something durable that cannot be read, in words for a person.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// The file.
    pub path: PathBuf,
    /// Where in it, in bytes.
    pub offset: u64,
    /// What is wrong.
    pub what: &'static str,
    /// The logs known to be hit; `None`: it cannot be told which.
    pub logs: Option<Vec<LogId>>,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at byte {}: {}", self.path.display(), self.offset, self.what)?;
        match &self.logs {
            Some(logs) if logs.is_empty() => {
                f.write_str("; it held the identity or starts of peers")
            }
            None => f.write_str("; all logs are suspect"),
            Some(logs) => {
                let logs: Vec<String> = logs.iter().map(|log| log.0.to_string()).collect();
                write!(f, "; it held changes of log {}", logs.join(", "))
            }
        }
    }
}

/// The last data frame, when nothing proves that it was ever synced.
#[derive(Clone, Debug)]
pub(super) struct Unproven {
    pub(super) payload: Vec<u8>,
    pub(super) changes: Vec<Change>,
    pub(super) touched: Touched,
    pub(super) base: Base,
}

/// Where the last readable segment ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tail {
    pub(super) header: SegmentHeader,
    /// Where the frame after its last would stand.
    pub(super) offset: u64,
}

/// What was found.
pub(super) struct Scan {
    /// Whose log it says it is.
    pub(super) node: NodeId,
    /// All but the unproven frame, applied.
    pub(super) state: State,
    pub(super) findings: Vec<Finding>,
    /// Every segment from the last checkpoint on, and those that it keeps.
    pub(super) segments: BTreeMap<u64, Segment>,
    /// Other segments before it, left over by a crash.
    pub(super) leftovers: Vec<u64>,
    /// The number after the last frame.
    pub(super) next_frame: u64,
    /// The last frame, to be written anew; its number is `next_frame - 1`.
    pub(super) unproven: Option<Unproven>,
    /// `None` when the newest segment has no readable header.
    pub(super) tail: Option<Tail>,
}

/// Reads all segments of `dir`; `None` if there are none.
pub(super) fn scan(fs: &dyn FileSystem, dir: &Path) -> Result<Option<Scan>, StoreError> {
    let names = fs.list(dir).map_err(StoreError::io("list", dir))?;
    let numbers: Vec<u64> = names.iter().filter_map(|name| segment::parse_name(name)).collect();
    let mut all = BTreeMap::new();
    for number in numbers {
        let mut segment = segment::open(fs, dir, number, false)?;
        // A header that does not fit its file's name is as good as none.
        let header = segment.header()?.filter(|header| header.number == number);
        segment.salt = header.map_or(0, |header| header.salt);
        all.insert(number, (segment, header));
    }
    if all.is_empty() {
        return Ok(None);
    }
    let whole =
        |(_, header): &(Segment, Option<SegmentHeader>)| header.is_some_and(|h| h.checkpoint);
    let Some(base) = all.iter().rev().find(|(_, s)| whole(s)).map(|(number, _)| *number) else {
        return Err(StoreError::IdentityUnreadable {
            dir: dir.to_owned(),
            why: "no segment with a readable checkpoint is left".to_owned(),
        });
    };
    let mut used = all.split_off(&base);
    let kept = kept_by(used.get(&base))?;
    for Kept { number, .. } in &kept {
        used.extend(all.remove(number).map(|segment| (*number, segment)));
    }
    let leftovers = all.into_keys().collect();
    Scanner::new(dir, &used, base, kept).run(used, leftovers).map(Some)
}

/// The older segments that a checkpoint keeps. If it cannot be read, the pass over it will tell.
fn kept_by(checkpoint: Option<&(Segment, Option<SegmentHeader>)>) -> Result<Vec<Kept>, StoreError> {
    let Some((segment, Some(header))) = checkpoint else { return Ok(Vec::new()) };
    let content = Content { header: *header, bytes: segment.read()?, end: None, newest: false };
    let Found::Frame(_, changes) = content.at(BLOCK, header.first_frame) else {
        return Ok(Vec::new());
    };
    let said = changes.into_iter().find_map(|change| match change {
        Change::Checkpoint(checkpoint) => Some(checkpoint.kept),
        _ => None,
    });
    Ok(said.unwrap_or_default())
}

/// The pass over the segments from the last checkpoint on.
struct Scanner<'a> {
    dir: &'a Path,
    headers: BTreeMap<u64, Option<SegmentHeader>>,
    /// The segment with the last checkpoint.
    base: u64,
    /// What that keeps of the segments before it, and where those end.
    kept: Vec<Kept>,
    ends: BTreeMap<u64, u64>,
    state: State,
    findings: Vec<Finding>,
    next_frame: u64,
    unproven: Option<Unproven>,
    tail: Option<Tail>,
}

/// What stands where a frame is expected.
enum Found {
    Frame(FrameHeader, Vec<Change>),
    Seal {
        continues: bool,
    },
    /// A header that is sound and a payload that is not.
    BadPayload(FrameHeader),
    /// As it was written, and this program cannot read it. No torn write looks like that.
    Undecodable(FrameHeader),
    Nothing,
}

impl<'a> Scanner<'a> {
    fn new(
        dir: &'a Path,
        used: &BTreeMap<u64, (Segment, Option<SegmentHeader>)>,
        base: u64,
        kept: Vec<Kept>,
    ) -> Self {
        Self {
            dir,
            base,
            ends: kept.iter().map(|kept| (kept.number, kept.end)).collect(),
            kept,
            headers: used.iter().map(|(number, (_, header))| (*number, *header)).collect(),
            state: State::default(),
            findings: Vec::new(),
            next_frame: 0,
            unproven: None,
            tail: None,
        }
    }

    fn run(
        mut self,
        used: BTreeMap<u64, (Segment, Option<SegmentHeader>)>,
        leftovers: Vec<u64>,
    ) -> Result<Scan, StoreError> {
        let mut segments = BTreeMap::new();
        let mut previous: Option<(u64, Option<SegmentHeader>)> = None;
        let first = self.headers.values().flatten().next();
        let node = first.map_or(NodeId(0), |header| header.node);
        self.check_kept();
        for (number, (mut segment, header)) in used {
            self.check_link(&segment, number, header, previous);
            match header {
                Some(header) => self.segment(&segment, header)?,
                None => {
                    self.lose(&segment.path, 0, "the header of the segment is unreadable", None);
                    self.tail = None;
                }
            }
            previous = Some((number, header));
            segment.end = self.end_of(number).unwrap_or(self.next_frame);
            segment.rotten = self.findings.iter().any(|finding| finding.path == segment.path);
            segments.insert(number, segment);
        }
        if self.tail.is_none() {
            // How many frames the unreadable segment held is not known: far more than it can.
            self.next_frame += 1 << 32;
        }
        Ok(Scan {
            node,
            state: self.state,
            findings: self.findings,
            segments,
            leftovers,
            next_frame: self.next_frame,
            unproven: self.unproven,
            tail: self.tail,
        })
    }

    /// A segment that is still needed, and is missing or another, shows here.
    fn check_kept(&mut self) {
        for Kept { number, salt, .. } in std::mem::take(&mut self.kept) {
            let path = segment::segment_path(self.dir, number);
            match self.headers.get(&number) {
                None => self.lose(&path, 0, "a segment that is still needed is missing", None),
                Some(Some(header)) if header.salt != salt => {
                    self.lose(&path, 0, "the segment is not the one that was kept", None);
                }
                Some(_) => {}
            }
        }
    }

    /// The number of the frame after the last of a segment, if there is a later one that tells.
    fn end_of(&self, number: u64) -> Option<u64> {
        if let Some(kept) = self.ends.get(&number) {
            return Some(*kept);
        }
        let later = self.headers.range(number + 1..);
        later.filter_map(|(_, h)| h.as_ref()).map(|h| h.first_frame).next()
    }

    /// A missing, exchanged or reordered segment shows here; of those before the last checkpoint not
    /// all are there.
    fn check_link(
        &mut self,
        segment: &Segment,
        number: u64,
        header: Option<SegmentHeader>,
        previous: Option<(u64, Option<SegmentHeader>)>,
    ) {
        let Some((before, before_header)) = previous else {
            self.next_frame = header.map_or(0, |h| h.first_frame);
            return;
        };
        if number <= self.base {
            // What is kept was compared with what the checkpoint says of it.
        } else if before + 1 != number {
            let path = segment::segment_path(self.dir, before + 1);
            self.lose(&path, 0, "the segment is missing", None);
        } else if let (Some(before), Some(header)) = (before_header, header)
            && before.salt != header.previous_salt
        {
            self.lose(&segment.path, 0, "the segment before it is not its own", None);
        }
        if let Some(header) = header {
            self.next_frame = header.first_frame;
        }
    }

    fn segment(&mut self, segment: &Segment, header: SegmentHeader) -> Result<(), StoreError> {
        let bytes = segment.read()?;
        if (bytes.len() as u64) < header.size {
            let end = bytes.len() as u64;
            self.lose(&segment.path, end, "the segment is shorter than it was made", None);
        }
        // The next readable segment says how far the frames of the earlier ones go, durably.
        let end = self.end_of(header.number);
        let newest = self.headers.keys().next_back() == Some(&header.number);
        let content = Content { header, bytes, end, newest };
        let mut offset = BLOCK;
        self.next_frame = header.first_frame;
        while end.is_none_or(|end| self.next_frame < end) {
            match self.step(segment, &content, offset) {
                Some(next) => offset = next,
                None => break,
            }
        }
        self.tail = Some(Tail { header, offset });
        Ok(())
    }

    /// Takes in what stands at `offset` and returns where to go on; `None` at the end.
    fn step(&mut self, segment: &Segment, content: &Content, offset: u64) -> Option<u64> {
        let expected = self.next_frame;
        let proven = || content.proves(expected, offset + BLOCK);
        match content.at(offset, expected) {
            Found::Frame(frame, changes) => {
                let next = offset + frame.stride();
                let payload_at = offset + u64::from(frame.header_bytes);
                let base = Base { segment: frame.segment, offset: payload_at };
                if content.proves(expected, next) {
                    changes.iter().for_each(|change| self.state.apply(change, base));
                } else {
                    let payload = frame.payload(&content.bytes).unwrap_or_default().to_vec();
                    let touched = frame.touched;
                    self.unproven = Some(Unproven { payload, changes, touched, base });
                }
                self.next_frame += 1;
                Some(next)
            }
            Found::BadPayload(frame) if proven() => {
                Some(self.skip(segment, &frame, "the checksum of a frame fails"))
            }
            Found::Undecodable(frame) => {
                Some(self.skip(segment, &frame, "this program cannot decode a frame that is whole"))
            }
            // The segment behind it is there, though its header cannot be read.
            Found::Seal { continues: true } if !content.newest && content.end.is_none() => None,
            Found::Seal { continues } if !proven() => {
                if continues {
                    let path = segment::segment_path(self.dir, content.header.number + 1);
                    self.lose(&path, 0, "the newest segment is missing", None);
                }
                None
            }
            _ if proven() => {
                self.lose(&segment.path, offset, "a frame is missing or unreadable", None);
                let next = content.valid_behind(offset + BLOCK, expected)?;
                self.next_frame = next.number;
                Some(next.offset)
            }
            // A torn or unsynced write, or the end: nothing behind it was ever synced.
            _ => None,
        }
    }

    /// Gives a frame up whose header says what is lost with it; returns where the next one is.
    fn skip(&mut self, segment: &Segment, frame: &FrameHeader, what: &'static str) -> u64 {
        let touched = (!frame.touched.everything).then_some(&frame.touched);
        self.lose(&segment.path, frame.offset, what, touched);
        self.next_frame += 1;
        frame.offset + frame.stride()
    }

    fn lose(&mut self, path: &Path, offset: u64, what: &'static str, touched: Option<&Touched>) {
        self.state.lose(touched.unwrap_or(&Touched::unknown()));
        let logs = touched.map(|touched| touched.logs.iter().copied().collect());
        self.findings.push(Finding { path: path.to_owned(), offset, what, logs });
    }
}

/// A segment in memory, and what the other segments say of it.
struct Content {
    header: SegmentHeader,
    bytes: Vec<u8>,
    /// The first frame of the next readable segment.
    end: Option<u64>,
    newest: bool,
}

impl Content {
    /// Whether something proves that the frame `number` was synced: another segment, this one's
    /// header, or a readable frame at or behind `from`.
    fn proves(&self, number: u64, from: u64) -> bool {
        !self.newest
            || number < self.header.first_frame + self.header.born_with
            || self.valid_behind(from, number).is_some()
    }

    /// The first frame header at or behind `from` that was written when frame `number` had been
    /// synced.
    fn valid_behind(&self, from: u64, number: u64) -> Option<FrameHeader> {
        let mut offset = from.next_multiple_of(BLOCK);
        while offset < self.bytes.len() as u64 {
            let found = FrameHeader::decode(&self.header, &self.bytes, offset);
            if let Some(frame) = found.filter(|f| f.number > number && f.synced > number) {
                return Some(frame);
            }
            offset += BLOCK;
        }
        None
    }

    /// What stands at `offset`, where frame `expected` should be.
    fn at(&self, offset: u64, expected: u64) -> Found {
        let found = FrameHeader::decode(&self.header, &self.bytes, offset);
        let Some(frame) = found.filter(|frame| frame.number == expected) else {
            return Found::Nothing;
        };
        match (frame.kind, frame.payload(&self.bytes)) {
            (Kind::Seal { continues }, _) => Found::Seal { continues },
            (Kind::Data, None) => Found::BadPayload(frame),
            (Kind::Data, Some(payload)) => match decode_changes(payload) {
                Some(changes) => Found::Frame(frame, changes),
                None => Found::Undecodable(frame),
            },
        }
    }
}
