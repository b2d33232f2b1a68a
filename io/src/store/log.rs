//! The log on the disk: appending frames, going on to the next segment, checkpoints.
//!
//! Synchronous; one thread owns it (see [`super::writer`]). What others may read meanwhile is
//! [`Shared`].

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use quorate_core::{Identity, NodeId, Recovered, Window};

use super::Options;
use super::checkpoint::{self, Plan};
use super::directory::check_format;
use super::error::StoreError;
use super::frame::{BLOCK, Kind, Position, SegmentHeader, encode_frame, frame_bytes_max};
use super::fs::FileSystem;
use super::item::{Batch, Touched};
use super::scan::{Finding, Scan, Unproven, scan};
use super::segment::{self, Segment};
use super::shared::Shared;
use super::state::{Base, Placed, State};

/// The segment that is being written.
struct Active {
    header: SegmentHeader,
    segment: Segment,
    /// Where the next frame goes.
    offset: u64,
}

/// The log, open for writing.
pub(super) struct Log {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    options: Options,
    shared: Arc<RwLock<Shared>>,
    active: Active,
    next_frame: u64,
    sealed: bool,
    failed: Option<Arc<StoreError>>,
    buffer: Vec<u8>,
}

/// A segment that is being made: written, synced and named before anything rests on it.
struct Born {
    segment: Segment,
    header: SegmentHeader,
    offset: u64,
    next_frame: u64,
    /// What its frames change, and where they are.
    changes: Vec<Placed>,
    buffer: Vec<u8>,
}

impl Log {
    /// Makes the log of a new directory, with an identity and nothing else.
    pub(super) fn create(
        fs: Arc<dyn FileSystem>,
        dir: &Path,
        identity: Identity,
        options: Options,
    ) -> Result<Self, StoreError> {
        let node = identity.node;
        remove_unfinished(&*fs, dir)?;
        let header = SegmentHeader {
            number: 1,
            salt: random_u64()?,
            first_frame: 0,
            born_with: 0,
            previous_salt: 0,
            size: 0,
            checkpoint: true,
            node,
        };
        let state = State { identity: Some(identity), ..State::default() };
        let mut shared = Shared { state, ..Shared::default() };
        let mut born = Born::new(&*fs, dir, header)?;
        born.checkpoint(&shared, &Plan::default())?;
        let next_frame = born.next_frame;
        let (active, changes) = born.finish(&*fs, dir, &options)?;
        shared.begin(&active.segment, header.number, &changes);
        let shared = Arc::new(RwLock::new(shared));
        let dir = dir.to_owned();
        let buffer = Vec::new();
        Ok(Self {
            fs,
            dir,
            options,
            shared,
            active,
            next_frame,
            sealed: true,
            failed: None,
            buffer,
        })
    }

    /// Opens the log of a directory: reads it, and begins a new segment. `None`: there is no log.
    /// One that is not `expected`'s is refused.
    pub(super) fn open(
        fs: Arc<dyn FileSystem>,
        dir: &Path,
        expected: Option<NodeId>,
        options: Options,
    ) -> Result<Option<(Self, Vec<Finding>)>, StoreError> {
        let Some(found) = scan(&*fs, dir)? else { return Ok(None) };
        check_format(dir, expected, Some(found.node))?;
        check_identity(dir, &found)?;
        // What was just read may stand only in the system's memory: names here, the last frame
        // by being written anew below.
        remove_unfinished(&*fs, dir)?;
        fs.sync_dir(dir).map_err(StoreError::io("sync", dir))?;
        let Scan { node, state, findings, segments, leftovers, next_frame, unproven, tail } = found;
        let number = segments.keys().next_back().map_or(1, |last| last + 1);
        let window = options.window;
        let mut shared = Shared { state, segments, window };
        if !shared.state.damage.any() {
            remove_segments(&*fs, dir, &leftovers);
        }
        let end = next_frame;
        let mut header = SegmentHeader {
            number,
            salt: random_u64()?,
            first_frame: next_frame - u64::from(unproven.is_some()),
            born_with: 0,
            previous_salt: tail.map_or(0, |tail| tail.header.salt),
            size: 0,
            checkpoint: false,
            node,
        };
        if let Some(mut last) = shared.segments.last_entry() {
            last.get_mut().end = header.first_frame;
        }
        let plan = checkpoint::plan(&shared, &options);
        header.checkpoint = plan.is_some();
        let mut born = Born::new(&*fs, dir, header)?;
        if let Some(plan) = &plan {
            born.checkpoint(&shared, plan)?;
        }
        if let Some(Unproven { payload: bytes, changes, touched, .. }) = unproven {
            born.frame(&Batch { bytes, changes, touched })?;
        }
        let next_frame = born.next_frame;
        let (active, changes) = born.finish(&*fs, dir, &options)?;
        let gone = plan.map(|plan| plan.gone).unwrap_or_default();
        if let Some(tail) = tail.filter(|tail| !gone.contains(&tail.header.number)) {
            mark_continued(&*fs, dir, &tail.header, tail.offset, end)?;
        }
        shared.begin(&active.segment, number, &changes);
        shared.forget(&gone);
        remove_segments(&*fs, dir, &gone);
        let shared = Arc::new(RwLock::new(shared));
        let dir = dir.to_owned();
        let buffer = Vec::new();
        let log = Self {
            fs,
            dir,
            options,
            shared,
            active,
            next_frame,
            sealed: true,
            failed: None,
            buffer,
        };
        Ok(Some((log, findings)))
    }

    /// Whose log this is.
    pub(super) fn node(&self) -> NodeId {
        self.active.header.node
    }

    /// What others may read.
    pub(super) fn shared(&self) -> Arc<RwLock<Shared>> {
        Arc::clone(&self.shared)
    }

    /// Writes batches as one frame, with one write and one sync. After the first error nothing is
    /// ever written again: what a failed sync has left on the disk cannot be known.
    pub(super) fn append(&mut self, group: &Batch) -> Result<(), StoreError> {
        if let Some(earlier) = &self.failed {
            return Err(StoreError::Failed(Arc::clone(earlier)));
        }
        let result = self.try_append(group);
        self.note_failure(result)
    }

    /// Makes every later call fail with this reason.
    pub(super) fn poison(&mut self, reason: &StoreError) {
        self.failed.get_or_insert_with(|| Arc::new(reason.clone()));
    }

    /// Says on the disk that the last frame was synced, so that its later loss is noticed. Without
    /// `sync` it costs one write to the system's memory; a crash before that is written out only
    /// leaves the last frame unproven.
    pub(super) fn seal(&mut self, sync: bool) -> Result<(), StoreError> {
        if self.failed.is_some() || (self.sealed && !sync) {
            return Ok(());
        }
        let result = self.try_seal(sync);
        self.note_failure(result)
    }

    fn note_failure(&mut self, result: Result<(), StoreError>) -> Result<(), StoreError> {
        if let Err(error) = &result {
            self.poison(error);
        }
        result
    }

    fn try_append(&mut self, group: &Batch) -> Result<(), StoreError> {
        let need = frame_bytes_max(group.bytes.len());
        if self.active.offset + need > self.options.segment_bytes && self.active.offset > BLOCK {
            self.roll()?;
        }
        let at = self.position();
        let header = encode_frame(&mut self.buffer, at, Kind::Data, &group.touched, &group.bytes);
        let end = at.offset + self.buffer.len() as u64;
        if end > self.active.segment.size {
            let wanted = self.options.allocation(end);
            self.active.segment.extend(wanted)?;
        }
        self.active.segment.write(&self.buffer, at.offset)?;
        self.active.segment.sync()?;
        self.active.offset = end;
        self.next_frame += 1;
        self.sealed = false;
        let base = Base { segment: at.segment, offset: at.offset + header };
        let mut shared = self.shared.write().unwrap_or_else(PoisonError::into_inner);
        group.changes.iter().for_each(|change| shared.state.apply(change, base));
        drop(shared);
        self.buffer.shrink_to(self.options.group_bytes_max);
        Ok(())
    }

    fn try_seal(&mut self, sync: bool) -> Result<(), StoreError> {
        let at = self.position();
        let kind = Kind::Seal { continues: false };
        encode_frame(&mut self.buffer, at, kind, &Touched::default(), &[]);
        self.active.segment.write(&self.buffer, at.offset)?;
        if sync {
            self.active.segment.sync()?;
        }
        self.sealed = true;
        Ok(())
    }

    fn position(&self) -> Position {
        Position {
            segment: self.active.header.number,
            salt: self.active.header.salt,
            offset: self.active.offset,
            number: self.next_frame,
            synced: self.next_frame,
        }
    }

    /// Goes on to the next segment, which begins with a checkpoint if that pays.
    fn roll(&mut self) -> Result<(), StoreError> {
        let mut header = SegmentHeader {
            number: self.active.header.number + 1,
            salt: random_u64()?,
            first_frame: self.next_frame,
            born_with: 0,
            previous_salt: self.active.header.salt,
            size: 0,
            checkpoint: false,
            node: self.active.header.node,
        };
        let mut shared = self.shared.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut last) = shared.segments.last_entry() {
            // What it has grown to counts for what is freed with it.
            last.get_mut().size = self.active.segment.size;
            last.get_mut().end = self.next_frame;
        }
        drop(shared);
        let shared = self.shared.read().unwrap_or_else(PoisonError::into_inner);
        let plan = checkpoint::plan(&shared, &self.options);
        header.checkpoint = plan.is_some();
        let mut born = Born::new(&*self.fs, &self.dir, header)?;
        if let Some(plan) = &plan {
            born.checkpoint(&shared, plan)?;
        }
        drop(shared);
        self.next_frame = born.next_frame;
        let (next, changes) = born.finish(&*self.fs, &self.dir, &self.options)?;
        let gone = plan.map(|plan| plan.gone).unwrap_or_default();
        let mut shared = self.shared.write().unwrap_or_else(PoisonError::into_inner);
        shared.begin(&next.segment, next.header.number, &changes);
        shared.forget(&gone);
        drop(shared);
        let before = std::mem::replace(&mut self.active, next);
        self.sealed = true;
        if !gone.contains(&before.header.number) {
            let end = self.active.header.first_frame;
            mark_continued(&*self.fs, &self.dir, &before.header, before.offset, end)?;
        }
        remove_segments(&*self.fs, &self.dir, &gone);
        Ok(())
    }
}

impl Born {
    fn new(fs: &dyn FileSystem, dir: &Path, header: SegmentHeader) -> Result<Self, StoreError> {
        let path = segment::unfinished_path(dir, header.number);
        let file = fs.create(&path).map_err(StoreError::io("create", &path))?;
        let segment = Segment { path, file, size: 0, salt: header.salt, end: 0, rotten: false };
        let next_frame = header.first_frame;
        let (changes, buffer) = (Vec::new(), Vec::new());
        Ok(Self { segment, header, offset: BLOCK, next_frame, changes, buffer })
    }

    /// Writes a frame that the segment is born with.
    fn frame(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let at = Position {
            segment: self.header.number,
            salt: self.header.salt,
            offset: self.offset,
            number: self.next_frame,
            synced: self.next_frame,
        };
        let header = encode_frame(&mut self.buffer, at, Kind::Data, &batch.touched, &batch.bytes);
        self.segment.write(&self.buffer, at.offset)?;
        let base = Base { segment: at.segment, offset: at.offset + header };
        self.changes.push((base, batch.changes.clone()));
        self.offset += self.buffer.len() as u64;
        self.next_frame += 1;
        self.header.born_with += 1;
        Ok(())
    }

    /// Writes the state, as planned.
    fn checkpoint(&mut self, shared: &Shared, plan: &Plan) -> Result<(), StoreError> {
        checkpoint::write(shared, plan, |batch| self.frame(batch))
    }

    /// Makes the segment durable under its name. A crash before leaves a file that is removed.
    fn finish(
        mut self,
        fs: &dyn FileSystem,
        dir: &Path,
        options: &Options,
    ) -> Result<(Active, Vec<Placed>), StoreError> {
        self.header.size = options.allocation(self.offset);
        self.segment.write(&self.header.encode(), 0)?;
        self.segment.size = self.offset;
        self.segment.extend(self.header.size)?;
        self.segment.sync()?;
        let path = segment::segment_path(dir, self.header.number);
        fs.rename(&self.segment.path, &path).map_err(StoreError::io("rename", &path))?;
        fs.sync_dir(dir).map_err(StoreError::io("sync", dir))?;
        self.segment.path = path;
        let active = Active { header: self.header, segment: self.segment, offset: self.offset };
        Ok((active, self.changes))
    }
}

/// Reads a directory without changing anything in it.
pub(super) fn read_only(
    fs: &dyn FileSystem,
    dir: &Path,
) -> Result<Option<(Recovered, Vec<Finding>, u64)>, StoreError> {
    let Some(mut found) = scan(fs, dir)? else { return Ok(None) };
    check_identity(dir, &found)?;
    apply_unproven(&mut found.state, found.unproven.as_ref());
    let bytes = found.segments.values().map(|segment| segment.size).sum();
    let window = Window::WHOLE;
    let shared = Shared { state: found.state, segments: found.segments, window };
    Ok(Some((shared.recovered()?, found.findings, bytes)))
}

fn apply_unproven(state: &mut State, unproven: Option<&Unproven>) {
    if let Some(frame) = unproven {
        frame.changes.iter().for_each(|change| state.apply(change, frame.base));
    }
}

/// Refuses a log whose newest identity cannot be told.
fn check_identity(dir: &Path, found: &Scan) -> Result<(), StoreError> {
    let renewed = found.unproven.as_ref().is_some_and(|frame| frame.touched.identity);
    if renewed || (found.state.identity.is_some() && !found.state.identity_doubtful) {
        return Ok(());
    }
    let why: Vec<String> = found.findings.iter().map(ToString::to_string).collect();
    Err(StoreError::IdentityUnreadable { dir: dir.to_owned(), why: why.join("; ") })
}

/// Says at the end of a segment, where frame `end` would stand, that there is a later segment:
/// should that be lost, it is noticed.
fn mark_continued(
    fs: &dyn FileSystem,
    dir: &Path,
    header: &SegmentHeader,
    offset: u64,
    end: u64,
) -> Result<(), StoreError> {
    let segment = segment::open(fs, dir, header.number, true)?;
    let at =
        Position { segment: header.number, salt: header.salt, offset, number: end, synced: end };
    let mut seal = Vec::new();
    encode_frame(&mut seal, at, Kind::Seal { continues: true }, &Touched::default(), &[]);
    segment.write(&seal, offset)?;
    segment.sync()
}

/// Removes segments that a checkpoint has made superfluous. One that stays is removed next time.
fn remove_segments(fs: &dyn FileSystem, dir: &Path, numbers: &[u64]) {
    for number in numbers {
        let path = segment::segment_path(dir, *number);
        if let Err(error) = fs.remove(&path) {
            tracing::warn!(path = %path.display(), %error, "cannot remove an old log segment");
        }
    }
}

fn remove_unfinished(fs: &dyn FileSystem, dir: &Path) -> Result<(), StoreError> {
    for name in fs.list(dir).map_err(StoreError::io("list", dir))? {
        if name.ends_with(segment::UNFINISHED) {
            let path = dir.join(name);
            fs.remove(&path).map_err(StoreError::io("remove", &path))?;
        }
    }
    Ok(())
}

pub(super) fn random_u64() -> Result<u64, StoreError> {
    getrandom::u64().map_err(|error| {
        let path = Path::new("the randomness of the system");
        StoreError::io("read", path)(std::io::Error::other(error.to_string()))
    })
}
