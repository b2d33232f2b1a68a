//! The data directory: its lock, its format, whose it is, and moving its contents aside.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use quorate_core::{ClusterId, Identity, NodeId, Recovered, StorageOp};

use super::error::StoreError;
use super::fs::{FileSystem, RealFs, read_full, write_all};
use super::item::Batch;
use super::log::{Log, random_u64, read_only as read_log};
use super::scan::Finding;
use super::{Completion, Options, Store};

const LOCK: &str = "lock";
const FORMAT: &str = "FORMAT";
const LOG: &str = "log";
const BACKUP: &str = "backup";
/// Names the place that the contents are being moved to; there only while they are.
const MOVING: &str = "MOVING";
/// Says what the next node in this directory is to know of the one before; there from before the contents
/// are moved until a new node has been made that knows it.
const FOLLOWS: &str = "FOLLOWS";
const UNFINISHED: &str = ".tmp";

/// A data directory that this process has locked. Dropping it lets go of the lock.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

/// What a node is to know of the one that was in its directory before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Follows {
    /// The node before.
    pub was: NodeId,
    /// What it was called.
    pub name: String,
    /// The cluster that it left by a committed dissolution, if it was that.
    pub from: Option<ClusterId>,
    /// Whether the new node brings the databases of the old one.
    pub brings: bool,
}

/// What a stopped node's directory holds.
#[derive(Debug, Clone)]
pub struct View {
    /// Its state, as the node would find it.
    pub recovered: Recovered,
    /// What of it is unreadable; empty in a sound directory.
    pub findings: Vec<Finding>,
    /// Bytes that the log store takes on the disk.
    pub log_bytes: u64,
}

impl DataDir {
    /// Makes the directory if it is not there (mode 0700) and locks it against other processes.
    ///
    /// # Errors
    /// [`StoreError::Locked`] if another process has it, [`StoreError::Io`] if it cannot be made.
    pub fn lock(path: &Path) -> Result<Self, StoreError> {
        let absent = |dir: &&Path| !dir.as_os_str().is_empty() && !dir.exists();
        let missing = path.ancestors().take_while(absent).count();
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(StoreError::io("make the directory", path))?;
        let path = path.canonicalize().map_err(StoreError::io("find", path))?;
        for parent in path.ancestors().skip(1).take(missing) {
            RealFs.sync_dir(parent).map_err(StoreError::io("sync", parent))?;
        }
        let name = path.join(LOCK);
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut lock = options.open(&name).map_err(StoreError::io("open", &name))?;
        try_lock(&path, &lock, File::try_lock)?;
        // For people and for the message to a second process; the lock itself is the system's.
        let written = lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id()));
        written.map_err(StoreError::io("write", &name))?;
        Ok(Self { path, _lock: lock })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the store; a new directory gets an identity, made durable first. `complete` hears of
    /// every batch, in order, on the writing thread: it must be quick and must not wait.
    ///
    /// # Errors
    /// [`StoreError::Format`], [`StoreError::WrongLog`], [`StoreError::IdentityUnreadable`] and
    /// [`StoreError::Io`]. Damage that leaves the identity readable is no error: it is told by
    /// [`quorate_core::RecoveredLog::damaged`] and by [`Store::findings`].
    pub fn open(
        self,
        options: Options,
        complete: impl FnMut(Completion) + Send + 'static,
    ) -> Result<(Store, Recovered), StoreError> {
        let (log, findings) = open_log(Arc::new(RealFs), &self.path, options.clone())?;
        let recovered = super::read_shared(&log.shared()).recovered()?;
        let store = Store::start(self, log, findings, options, complete)?;
        Ok((store, recovered))
    }

    /// Writes operations while no node runs, durably; the directory must hold a node.
    ///
    /// # Errors
    /// As [`DataDir::open`]; [`StoreError::Absent`] if no node was ever made here.
    pub fn append_offline(&self, ops: &[StorageOp]) -> Result<(), StoreError> {
        let id = quorate_core::PersistId::default();
        let batch = Batch::encode(ops).map_err(|why| StoreError::BadBatch { id, why })?;
        if !has_node(&RealFs, &self.path)? {
            return Err(StoreError::Absent { dir: self.path.clone() });
        }
        let (mut log, _) = open_log(Arc::new(RealFs), &self.path, Options::default())?;
        log.append(&batch)?;
        log.seal(true)
    }

    /// Moves everything but the lock and earlier backups to `backup/clusters/<time>-<id>/` in the
    /// directory and returns that path; `None` if there is nothing to move. Nothing is deleted. A
    /// crash on the way is finished by the next call or the next opening.
    ///
    /// # Errors
    /// [`StoreError::Io`]; the move may then be half done, and is finished by the next call.
    pub fn move_aside(&self) -> Result<Option<PathBuf>, StoreError> {
        move_aside(&RealFs, &self.path, SystemTime::now())
    }

    /// Moves the contents aside and makes a new node with a new id in their place. Returns its id
    /// and where the old contents are.
    ///
    /// # Errors
    /// As [`DataDir::move_aside`] and [`DataDir::open`].
    pub fn new_identity(&self) -> Result<(NodeId, Option<PathBuf>), StoreError> {
        remove_note(&RealFs, &self.path)?;
        self.renew()
    }

    /// The same for a node whose cluster has dissolved: the new one knows what it follows, durably from
    /// the beginning, and whenever this is interrupted.
    ///
    /// # Errors
    /// As [`DataDir::new_identity`].
    pub fn follow(&self, follows: &Follows) -> Result<(NodeId, Option<PathBuf>), StoreError> {
        write_small(&RealFs, &self.path, FOLLOWS, &follows.to_text())?;
        self.renew()
    }

    fn renew(&self) -> Result<(NodeId, Option<PathBuf>), StoreError> {
        let aside = self.move_aside()?;
        let (mut log, _) = open_log(Arc::new(RealFs), &self.path, Options::default())?;
        log.seal(true)?;
        let recovered = super::read_shared(&log.shared()).recovered()?;
        Ok((recovered.identity.node, aside))
    }
}

/// Reads the directory of a stopped node; changes nothing.
///
/// # Errors
/// [`StoreError::Locked`] while a node runs on it, [`StoreError::Absent`] if there is none, and
/// what [`DataDir::open`] says.
pub fn read_only(dir: &Path) -> Result<View, StoreError> {
    let name = dir.join(LOCK);
    let lock = match File::open(&name) {
        Ok(lock) => Some(lock),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(e) => return Err(StoreError::io("open", &name)(e)),
    };
    if let Some(lock) = &lock {
        try_lock(dir, lock, File::try_lock_shared)?;
    }
    if !has_node(&RealFs, dir)? {
        return Err(StoreError::Absent { dir: dir.to_owned() });
    }
    let format = read_format(&RealFs, dir)?;
    let found = read_log(&RealFs, &dir.join(LOG))?;
    let node = found.as_ref().map(|(recovered, ..)| recovered.identity.node);
    check_format(dir, format, node)?;
    let Some((recovered, findings, log_bytes)) = found else {
        return Err(StoreError::Absent { dir: dir.to_owned() });
    };
    Ok(View { recovered, findings, log_bytes })
}

/// How long a lock is tried for. One that was let go may linger: a child process that is just being
/// started has a copy of every open file until its program is loaded.
const LINGERING: Duration = Duration::from_millis(200);

fn try_lock(
    dir: &Path,
    lock: &File,
    how: impl Fn(&File) -> Result<(), TryLockError>,
) -> Result<(), StoreError> {
    let begin = Instant::now();
    let mut tried = how(lock);
    while matches!(tried, Err(TryLockError::WouldBlock)) && begin.elapsed() < LINGERING {
        std::thread::sleep(LINGERING / 20);
        tried = how(lock);
    }
    match tried {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let mut bounded = lock.take(32);
            let holder = match bounded.read_to_string(&mut text) {
                Ok(_) => text.trim().parse().ok(),
                Err(_) => None,
            };
            Err(StoreError::Locked { dir: dir.to_owned(), holder })
        }
        Err(TryLockError::Error(e)) => Err(StoreError::io("lock", dir)(e)),
    }
}

/// Opens the log in a data directory, or makes a new node there.
pub(super) fn open_log(
    fs: Arc<dyn FileSystem>,
    dir: &Path,
    options: Options,
) -> Result<(Log, Vec<Finding>), StoreError> {
    finish_move(&*fs, dir)?;
    let log_dir = dir.join(LOG);
    let format = read_format(&*fs, dir)?;
    let names = fs.list(dir).map_err(StoreError::io("list", dir))?;
    if !names.iter().any(|name| name == LOG) {
        check_format(dir, format, None)?;
        fs.make_dir(&log_dir).map_err(StoreError::io("make the directory", &log_dir))?;
        fs.sync_dir(dir).map_err(StoreError::io("sync", dir))?;
    }
    let (log, findings) = match Log::open(Arc::clone(&fs), &log_dir, format, options.clone())? {
        Some(found) => found,
        None => {
            check_format(dir, format, None)?;
            let node = (u128::from(random_u64()?) << 64) | u128::from(random_u64()?);
            let mut identity = Identity::new(NodeId(node));
            if let Some(follows) = read_note(&*fs, dir)? {
                identity.dissolved_from = follows.from;
                identity.brings = follows.brings.then_some(follows.was);
                identity.name = Some(follows.name);
            }
            (Log::create(Arc::clone(&fs), &log_dir, identity, options)?, Vec::new())
        }
    };
    if format.is_none() {
        // Written last: whoever reads it may rely on the log being there.
        write_format(&*fs, dir, log.node())?;
    }
    // As long as the old node is there the note is still to be heeded.
    if read_note(&*fs, dir)?.is_some_and(|follows| follows.was != log.node()) {
        remove_note(&*fs, dir)?;
    }
    Ok((log, findings))
}

fn has_node(fs: &dyn FileSystem, dir: &Path) -> Result<bool, StoreError> {
    let names = match fs.list(dir) {
        Ok(names) => names,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(StoreError::io("list", dir)(e)),
    };
    Ok(names.iter().any(|name| name == LOG) && !names.iter().any(|name| name == MOVING))
}

/// The node that FORMAT names, `None` if there is no such file (yet).
fn read_format(fs: &dyn FileSystem, dir: &Path) -> Result<Option<NodeId>, StoreError> {
    let path = dir.join(FORMAT);
    let Some(text) = read_small(fs, &path)? else { return Ok(None) };
    let mut lines = text.lines();
    let version = lines.next().unwrap_or_default();
    if version != "quorate 1" {
        let found = version.chars().take(40).collect();
        return Err(StoreError::Format { dir: dir.to_owned(), found });
    }
    let node = lines.next().and_then(|line| NodeId::parse(line.strip_prefix("node ")?));
    node.map(Some).ok_or_else(|| StoreError::Format { dir: dir.to_owned(), found: text.clone() })
}

fn write_format(fs: &dyn FileSystem, dir: &Path, node: NodeId) -> Result<(), StoreError> {
    write_small(fs, dir, FORMAT, &format!("quorate 1\nnode {node}\n"))
}

impl Follows {
    fn to_text(&self) -> String {
        let from = self.from.map_or_else(|| "-".to_owned(), |from| from.to_string());
        let brings = if self.brings { "brings" } else { "-" };
        format!("quorate 1\nwas {}\nfrom {from}\n{brings}\nname {}\n", self.was, self.name)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let mut line = || lines.next();
        if line()? != "quorate 1" {
            return None;
        }
        let was = NodeId::parse(line()?.strip_prefix("was ")?)?;
        let from = line()?.strip_prefix("from ")?;
        let from = if from == "-" { None } else { Some(ClusterId::parse(from)?) };
        let brings = line()? == "brings";
        let name = line()?.strip_prefix("name ")?.to_owned();
        Some(Self { was, name, from, brings })
    }
}

/// The note for the next node, if there is one.
fn read_note(fs: &dyn FileSystem, dir: &Path) -> Result<Option<Follows>, StoreError> {
    let Some(text) = read_small(fs, &dir.join(FOLLOWS))? else { return Ok(None) };
    // Nobody else writes it: what cannot be read must not be passed over, databases hang on it.
    let found = text.chars().take(40).collect();
    Follows::parse(&text).map(Some).ok_or(StoreError::Format { dir: dir.join(FOLLOWS), found })
}

fn remove_note(fs: &dyn FileSystem, dir: &Path) -> Result<(), StoreError> {
    let note = dir.join(FOLLOWS);
    if read_small(fs, &note)?.is_none() {
        return Ok(());
    }
    fs.remove(&note).map_err(StoreError::io("remove", &note))?;
    fs.sync_dir(dir).map_err(StoreError::io("sync", dir))
}

/// Where the contents lie that were moved aside when the directory was this node's.
///
/// # Errors
/// The backups cannot be listed.
pub fn put_aside(dir: &Path, node: NodeId) -> Result<Option<PathBuf>, StoreError> {
    let clusters = dir.join(BACKUP).join("clusters");
    let names = match RealFs.list(&clusters) {
        Ok(names) => names,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(StoreError::io("list", &clusters)(e)),
    };
    let of = |path: &PathBuf| matches!(read_format(&RealFs, path), Ok(Some(id)) if id == node);
    Ok(names.iter().map(|name| clusters.join(name)).find(of))
}

/// Refuses a log that is not the one that FORMAT speaks of.
pub(super) fn check_format(
    dir: &Path,
    format: Option<NodeId>,
    found: Option<NodeId>,
) -> Result<(), StoreError> {
    match format {
        Some(expected) if found != Some(expected) => {
            Err(StoreError::WrongLog { dir: dir.to_owned(), expected, found })
        }
        _ => Ok(()),
    }
}

/// A small file whole; `None` if it is not there. At most 4 KiB of it.
fn read_small(fs: &dyn FileSystem, path: &Path) -> Result<Option<String>, StoreError> {
    let file = match fs.open(path, false) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(StoreError::io("open", path)(e)),
    };
    let mut bytes = vec![0; 4096];
    let read = read_full(&*file, &mut bytes, 0).map_err(StoreError::io("read", path))?;
    Ok(Some(String::from_utf8_lossy(&bytes[..read]).into_owned()))
}

/// Writes a small file so that it is there whole or not at all.
fn write_small(fs: &dyn FileSystem, dir: &Path, name: &str, text: &str) -> Result<(), StoreError> {
    let unfinished = dir.join(format!("{name}{UNFINISHED}"));
    let path = dir.join(name);
    if fs.open(&unfinished, false).is_ok() {
        fs.remove(&unfinished).map_err(StoreError::io("remove", &unfinished))?;
    }
    let file = fs.create(&unfinished).map_err(StoreError::io("create", &unfinished))?;
    write_all(&*file, text.as_bytes(), 0).map_err(StoreError::io("write", &unfinished))?;
    file.sync().map_err(StoreError::io("sync", &unfinished))?;
    fs.rename(&unfinished, &path).map_err(StoreError::io("rename", &path))?;
    fs.sync_dir(dir).map_err(StoreError::io("sync", dir))
}

/// What stays when the contents are moved.
fn stays(name: &str) -> bool {
    [LOCK, BACKUP, MOVING, FOLLOWS].contains(&name)
}

/// First a durable note of where to, then the moves, then the note goes: a crash at any step is
/// resumed, and a directory that is half moved is never opened as a node.
pub(super) fn move_aside(
    fs: &dyn FileSystem,
    dir: &Path,
    now: SystemTime,
) -> Result<Option<PathBuf>, StoreError> {
    if let Some(resumed) = finish_move(fs, dir)? {
        return Ok(Some(resumed));
    }
    let names = fs.list(dir).map_err(StoreError::io("list", dir))?;
    if names.iter().all(|name| stays(name)) {
        return Ok(None);
    }
    // A directory whose FORMAT cannot be read is moved all the same.
    let node = read_format(fs, dir).ok().flatten();
    let id = node.map_or_else(|| "unknown".to_owned(), |node| node.short());
    let stem = format!("{}-{id}", utc(now));
    let backup = dir.join(BACKUP);
    let clusters = backup.join("clusters");
    for (made, parent) in [(&backup, dir), (&clusters, backup.as_path())] {
        fs.make_dir(made).map_err(StoreError::io("make the directory", made))?;
        fs.sync_dir(parent).map_err(StoreError::io("sync", parent))?;
    }
    let taken = fs.list(&clusters).map_err(StoreError::io("list", &clusters))?;
    let mut name = stem.clone();
    let mut copy = 1;
    while taken.contains(&name) {
        copy += 1;
        name = format!("{stem}-{copy}");
    }
    write_small(fs, dir, MOVING, &name)?;
    finish_move(fs, dir)
}

/// Carries out the move that the note speaks of; `None` if there is no note.
fn finish_move(fs: &dyn FileSystem, dir: &Path) -> Result<Option<PathBuf>, StoreError> {
    let note = dir.join(MOVING);
    let Some(name) = read_small(fs, &note)? else { return Ok(None) };
    let clusters = dir.join(BACKUP).join("clusters");
    // The note is ours; still, no name in it may lead out of the directory.
    let name = name.rsplit('/').next().unwrap_or_default().to_owned();
    let target = clusters.join(if name.is_empty() { "unnamed" } else { &name });
    fs.make_dir(&target).map_err(StoreError::io("make the directory", &target))?;
    fs.sync_dir(&clusters).map_err(StoreError::io("sync", &clusters))?;
    for name in fs.list(dir).map_err(StoreError::io("list", dir))? {
        if !stays(&name) {
            let from = dir.join(&name);
            fs.rename(&from, &target.join(&name)).map_err(StoreError::io("move", &from))?;
        }
    }
    fs.sync_dir(&target).map_err(StoreError::io("sync", &target))?;
    fs.sync_dir(dir).map_err(StoreError::io("sync", dir))?;
    fs.remove(&note).map_err(StoreError::io("remove", &note))?;
    fs.sync_dir(dir).map_err(StoreError::io("sync", dir))?;
    Ok(Some(target))
}

/// `20260131T235959Z`, for names that sort by time (days to dates after Hinnant,
/// <https://howardhinnant.github.io/date_algorithms.html>).
pub(crate) fn utc(now: SystemTime) -> String {
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// Whether a node was ever made in the directory, locked or not. One that is being moved aside may have
/// lost its `FORMAT` already, and has the note of where to.
#[must_use]
pub fn is_data_dir(dir: &Path) -> bool {
    [FORMAT, MOVING].iter().any(|name| fs::exists(dir.join(name)).unwrap_or(false))
}
