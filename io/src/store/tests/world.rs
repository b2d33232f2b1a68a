//! A file system in memory that loses what was not synced, fails when told to, and dies on the
//! n-th change.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use super::super::fs::{FileSystem, StoreFile};
use super::parent;

/// What a disk writes as a whole.
const SECTOR: usize = 512;

/// A small deterministic stream of numbers (SplitMix64, Steele et al. 2014).
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.roll() % bound.max(1) as u64).expect("below a usize")
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Node {
    File(usize),
    Dir(usize),
}

#[derive(Default, Clone)]
struct Inode {
    durable: Vec<u8>,
    current: Vec<u8>,
    /// Written and neither synced nor given up by a failed sync.
    dirty: Vec<(usize, Vec<u8>)>,
}

#[derive(Default, Clone)]
struct Names {
    durable: BTreeMap<String, Node>,
    current: BTreeMap<String, Node>,
}

/// A change of names; a rename is one change.
#[derive(Clone)]
struct NameChange {
    unlink: Option<(usize, String)>,
    link: Option<(usize, String, Node)>,
}

/// What is to go wrong. Counters count the calls that change something.
#[derive(Default, Clone)]
pub(super) struct Faults {
    /// The machine dies instead of carrying out this change (counted from 0).
    pub(super) die_at: Option<u64>,
    /// This sync of a file (counted from 0) fails once, and its pages are given up.
    pub(super) fail_sync_at: Option<u64>,
    /// This write (counted from 0) fails once.
    pub(super) fail_write_at: Option<u64>,
    /// All files together may have so many bytes.
    pub(super) space: Option<usize>,
    /// Writes and reads do only a part at a time.
    pub(super) short: bool,
}

#[derive(Default, Clone)]
struct Disk {
    inodes: Vec<Inode>,
    dirs: Vec<Names>,
    journal: Vec<NameChange>,
    faults: Faults,
    changes: u64,
    syncs: u64,
    writes: u64,
    bytes: u64,
    dead: bool,
}

/// A machine's disk; clones are the same disk.
#[derive(Clone)]
pub(super) struct World(Arc<Mutex<Disk>>);

impl World {
    /// A disk with an empty, durable directory `/data`.
    pub(super) fn new() -> Self {
        let data = Names::default();
        let entry = BTreeMap::from([("data".to_owned(), Node::Dir(1))]);
        let root = Names { durable: entry.clone(), current: entry };
        let disk = Disk { dirs: vec![root, data], ..Disk::default() };
        Self(Arc::new(Mutex::new(disk)))
    }

    /// An independent copy of the disk as it is now.
    pub(super) fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.lock().clone())))
    }

    pub(super) fn set(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// How many changes, syncs of files, and writes there have been.
    pub(super) fn counts(&self) -> (u64, u64, u64) {
        let disk = self.lock();
        (disk.changes, disk.syncs, disk.writes)
    }

    /// How many bytes were written in all.
    pub(super) fn bytes_written(&self) -> u64 {
        self.lock().bytes
    }

    /// The process has died, and the machine goes on: what was written is still seen.
    pub(super) fn restart_process(&self) {
        let mut disk = self.lock();
        disk.dead = false;
        disk.faults = Faults::default();
    }

    /// The power fails: of what was not synced, sectors and names survive by chance.
    pub(super) fn lose_power(&self, seed: u64) {
        let mut dice = Dice(seed);
        let mut disk = self.lock();
        for inode in &mut disk.inodes {
            for (offset, bytes) in std::mem::take(&mut inode.dirty) {
                write_some(&mut inode.durable, offset, &bytes, &mut dice);
            }
            inode.current = inode.durable.clone();
        }
        // Either the first so many changes of names survive, or any of them.
        let journal = std::mem::take(&mut disk.journal);
        let prefix = (dice.below(2) == 0).then(|| dice.below(journal.len() + 1));
        for (at, change) in journal.into_iter().enumerate() {
            let survives = prefix.map_or_else(|| dice.below(2) == 0, |prefix| at < prefix);
            if survives {
                disk.make_durable(change);
            }
        }
        for names in &mut disk.dirs {
            names.current = names.durable.clone();
        }
        disk.dead = false;
        disk.faults = Faults::default();
    }

    /// The names in a directory.
    pub(super) fn names(&self, dir: &Path) -> Vec<String> {
        let disk = self.lock();
        let Ok(dir) = disk.dir(dir) else { return Vec::new() };
        disk.dirs[dir].current.keys().cloned().collect()
    }

    /// Changes a file behind the back of the store, durably.
    pub(super) fn tamper(&self, path: &Path, how: impl FnOnce(&mut Vec<u8>)) {
        let mut disk = self.lock();
        let inode = disk.file(path).expect("the file is there");
        how(&mut disk.inodes[inode].current);
        disk.inodes[inode].durable = disk.inodes[inode].current.clone();
    }

    /// The bytes of a file.
    pub(super) fn content(&self, path: &Path) -> Vec<u8> {
        let disk = self.lock();
        let inode = disk.file(path).expect("the file is there");
        disk.inodes[inode].current.clone()
    }

    /// Takes a name away behind the back of the store, durably.
    pub(super) fn vanish(&self, path: &Path) {
        let mut disk = self.lock();
        let dir = disk.dir(parent(path)).expect("the directory is there");
        disk.dirs[dir].current.remove(&name(path));
        disk.dirs[dir].durable.remove(&name(path));
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().expect("no test goes on after a panic")
    }

    fn change(&self) -> io::Result<MutexGuard<'_, Disk>> {
        let mut disk = self.lock();
        if disk.faults.die_at == Some(disk.changes) {
            disk.dead = true;
        }
        disk.changes += 1;
        if disk.dead { Err(io::Error::other("the machine is dead")) } else { Ok(disk) }
    }
}

fn name(path: &Path) -> String {
    path.file_name().and_then(|name| name.to_str()).expect("names are UTF-8").to_owned()
}

fn write_at(bytes: &mut Vec<u8>, offset: usize, new: &[u8]) {
    if bytes.len() < offset + new.len() {
        bytes.resize(offset + new.len(), 0);
    }
    bytes[offset..offset + new.len()].copy_from_slice(new);
}

/// Writes some of the sectors of `new`; all, or none, a good part of the time.
fn write_some(bytes: &mut Vec<u8>, offset: usize, new: &[u8], dice: &mut Dice) {
    let mode = dice.below(4);
    for (at, sector) in new.chunks(SECTOR).enumerate() {
        let survives = match mode {
            0 => true,
            1 => false,
            _ => dice.below(2) == 0,
        };
        if survives {
            write_at(bytes, offset + at * SECTOR, sector);
        }
    }
}

impl Disk {
    fn dir(&self, path: &Path) -> io::Result<usize> {
        let mut dir = 0;
        for part in path.iter().skip(1).filter_map(|part| part.to_str()) {
            match self.dirs[dir].current.get(part) {
                Some(Node::Dir(next)) => dir = *next,
                _ => return Err(io::ErrorKind::NotFound.into()),
            }
        }
        Ok(dir)
    }

    fn file(&self, path: &Path) -> io::Result<usize> {
        let dir = self.dir(parent(path))?;
        match self.dirs[dir].current.get(&name(path)) {
            Some(Node::File(inode)) => Ok(*inode),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn note(&mut self, change: NameChange) {
        if let Some((dir, name)) = &change.unlink {
            self.dirs[*dir].current.remove(name);
        }
        if let Some((dir, name, node)) = &change.link {
            self.dirs[*dir].current.insert(name.clone(), *node);
        }
        self.journal.push(change);
    }

    fn make_durable(&mut self, change: NameChange) {
        if let Some((dir, name)) = change.unlink {
            self.dirs[dir].durable.remove(&name);
        }
        if let Some((dir, name, node)) = change.link {
            self.dirs[dir].durable.insert(name, node);
        }
    }

    fn link(&mut self, path: &Path, node: Node) -> io::Result<()> {
        let dir = self.dir(parent(path))?;
        if self.dirs[dir].current.contains_key(&name(path)) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.note(NameChange { unlink: None, link: Some((dir, name(path), node)) });
        Ok(())
    }
}

struct SimFile {
    world: World,
    inode: usize,
}

impl StoreFile for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let disk = self.world.lock();
        let bytes = &disk.inodes[self.inode].current;
        let start = usize::try_from(offset).expect("files are small").min(bytes.len());
        let mut len = buf.len().min(bytes.len() - start);
        if disk.faults.short && len > 1 {
            len = len.div_ceil(2);
        }
        buf[..len].copy_from_slice(&bytes[start..start + len]);
        Ok(len)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let mut disk = self.world.change()?;
        let this = disk.writes;
        disk.writes += 1;
        if disk.faults.fail_write_at == Some(this) {
            return Err(io::Error::other("input/output error"));
        }
        let offset = usize::try_from(offset).expect("files are small");
        let used: usize = disk.inodes.iter().map(|inode| inode.current.len()).sum();
        let len = disk.inodes[self.inode].current.len();
        let mut take = buf.len();
        if disk.faults.short && take > 1 {
            take = take.div_ceil(2);
        }
        if let Some(space) = disk.faults.space {
            let end = (len + space.saturating_sub(used)).max(len);
            take = take.min(end.saturating_sub(offset));
            if take == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        disk.bytes += take as u64;
        let inode = &mut disk.inodes[self.inode];
        write_at(&mut inode.current, offset, &buf[..take]);
        inode.dirty.push((offset, buf[..take].to_vec()));
        Ok(take)
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.world.change()?;
        let this = disk.syncs;
        disk.syncs += 1;
        let failed = disk.faults.fail_sync_at == Some(this);
        let inode = &mut disk.inodes[self.inode];
        let mut dice = Dice(this);
        for (offset, bytes) in std::mem::take(&mut inode.dirty) {
            if failed {
                // What did not reach the disk is clean from now on, and still seen.
                write_some(&mut inode.durable, offset, &bytes, &mut dice);
            } else {
                write_at(&mut inode.durable, offset, &bytes);
            }
        }
        if failed { Err(io::Error::other("input/output error")) } else { Ok(()) }
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.world.lock().inodes[self.inode].current.len() as u64)
    }
}

impl FileSystem for World {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn StoreFile>> {
        let mut disk = self.change()?;
        let inode = disk.inodes.len();
        disk.link(path, Node::File(inode))?;
        disk.inodes.push(Inode::default());
        Ok(Arc::new(SimFile { world: self.clone(), inode }))
    }

    fn open(&self, path: &Path, _write: bool) -> io::Result<Arc<dyn StoreFile>> {
        let inode = self.lock().file(path)?;
        Ok(Arc::new(SimFile { world: self.clone(), inode }))
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.change()?;
        if disk.dir(path).is_ok() {
            return Ok(());
        }
        let dir = disk.dirs.len();
        disk.link(path, Node::Dir(dir))?;
        disk.dirs.push(Names::default());
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let disk = self.lock();
        let dir = disk.dir(dir)?;
        Ok(disk.dirs[dir].current.keys().cloned().collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.change()?;
        let (from_dir, to_dir) = (disk.dir(parent(from))?, disk.dir(parent(to))?);
        let node = disk.dirs[from_dir].current.get(&name(from)).copied();
        let node = node.ok_or(io::ErrorKind::NotFound)?;
        disk.note(NameChange {
            unlink: Some((from_dir, name(from))),
            link: Some((to_dir, name(to), node)),
        });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.change()?;
        disk.file(path)?;
        let dir = disk.dir(parent(path))?;
        disk.note(NameChange { unlink: Some((dir, name(path))), link: None });
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut disk = self.change()?;
        let dir = disk.dir(dir)?;
        let concerns = |change: &NameChange| {
            change.unlink.as_ref().is_some_and(|(d, _)| *d == dir)
                || change.link.as_ref().is_some_and(|(d, ..)| *d == dir)
        };
        let (now, later) = std::mem::take(&mut disk.journal).into_iter().partition(concerns);
        disk.journal = later;
        let now: Vec<NameChange> = now;
        for change in now {
            disk.make_durable(change);
        }
        Ok(())
    }
}
