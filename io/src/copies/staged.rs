//! Files that are to become the content of a shard: handed to this node, staged, put in their place.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use quorate_core::copies::Unneeded;
use quorate_core::engine::{Fault, Note, Position};
use quorate_core::shard::StageId;
use quorate_core::{Generation, LogId, Term};

use super::{FILE, Files, list, make_dir, name_of, remove_dir, rename, sync};
use crate::engine::{NotAdopted, adopt, check_adopted, io_fault, put_position};

/// A file as it was handed to this node; gone with the next start.
pub(super) const UPLOAD: &str = "upload-";
/// What has come of a file that is to be staged; gone with the next start.
pub(super) const STAGING: &str = "staging-";
const STAGED: &str = "staged-";
/// A staged file on its way to its place; gone with the next start.
pub(super) const PLACING: &str = "placing-";

/// The longest file that is taken.
pub const UPLOAD_BYTES_MAX: u64 = 1 << 40;

/// A file that is handed to this node, to be the content of a shard; removed when it is dropped.
#[derive(Debug)]
pub struct UploadFile {
    number: u64,
    dir: PathBuf,
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl UploadFile {
    /// An empty one. The number must not have been used before.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn begin(files: &Files, log: LogId, number: u64) -> Result<Self, Fault> {
        let dir = files.shard(log).join(format!("{UPLOAD}{number}"));
        remove_dir(&dir)?;
        make_dir(&dir)?;
        let path = dir.join(FILE);
        let file = File::create_new(&path).map_err(|error| io_fault(&path, &error))?;
        Ok(Self { number, dir, path, file, bytes: 0 })
    }

    /// What it is called.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// How long it is.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next part of it.
    ///
    /// # Errors
    /// It cannot be written, or is longer than [`UPLOAD_BYTES_MAX`].
    pub fn write(&mut self, part: &[u8]) -> Result<(), Fault> {
        self.bytes += part.len() as u64;
        if self.bytes > UPLOAD_BYTES_MAX {
            return Err(Fault::Full(format!(
                "no file may have more than {UPLOAD_BYTES_MAX} bytes"
            )));
        }
        self.file.write_all(part).map_err(|error| io_fault(&self.path, &error))
    }

    /// All has come: it is checked, and brought into the form of a copy.
    ///
    /// # Errors
    /// [`NotAdopted`].
    pub fn check(&mut self) -> Result<(), NotAdopted> {
        let synced = self.file.sync_all();
        synced.map_err(|error| NotAdopted::Failed(io_fault(&self.path, &error)))?;
        adopt(&self.path)
    }
}

impl Drop for UploadFile {
    fn drop(&mut self) {
        // What stays is removed at the next start.
        let _ = remove_dir(&self.dir);
    }
}

impl Files {
    /// The file of an upload.
    pub(super) fn upload(&self, log: LogId, number: u64) -> PathBuf {
        self.shard(log).join(format!("{UPLOAD}{number}")).join(FILE)
    }

    pub(super) fn staging(&self, log: LogId, stage: StageId) -> PathBuf {
        self.shard(log).join(format!("{STAGING}{stage}"))
    }

    fn staged(&self, log: LogId, stage: StageId) -> PathBuf {
        self.shard(log).join(format!("{STAGED}{stage}"))
    }

    /// Stages a file that was handed to this node, durably.
    ///
    /// # Errors
    /// It is not there, is no copy, or cannot be copied.
    pub fn stage_own(&self, log: LogId, stage: StageId, upload: u64) -> Result<(), Fault> {
        let (from, dir) = (self.upload(log, upload), self.staging(log, stage));
        remove_dir(&dir)?;
        make_dir(&dir)?;
        let to = dir.join(FILE);
        std::fs::copy(&from, &to).map_err(|error| io_fault(&from, &error))?;
        sync(&to)?;
        self.keep_stage(log, stage)
    }

    /// What lies in the directory of a stage that was to come is whole: it is checked, and kept.
    pub(super) fn keep_stage(&self, log: LogId, stage: StageId) -> Result<(), Fault> {
        let (dir, to) = (self.staging(log, stage), self.staged(log, stage));
        if let Err(fault) = check_adopted(&dir.join(FILE)) {
            remove_dir(&dir)?;
            return Err(fault);
        }
        sync(&dir)?;
        // One that is there already has been reported: it stays.
        if exists(&to)? {
            remove_dir(&dir)?
        } else {
            rename(&dir, &to)?
        }
        sync(&self.shard(log))
    }

    /// Gives a staged file its position and what it remembers, and its place as a generation, durably. The stage stays. May be
    /// done again.
    ///
    /// # Errors
    /// [`Fault::Missing`]: there is no such stage. [`Fault::Corrupt`]: it is no copy. Others: it cannot
    /// be written, and is where it was.
    pub fn place(
        &self,
        log: LogId,
        stage: StageId,
        (at, notes): (Position, &[Note]),
        to: Generation,
    ) -> Result<(), Fault> {
        let path = self.staged(log, stage).join(FILE);
        if !exists(&path)? {
            return Err(Fault::Missing(format!("{} was never staged", path.display())));
        }
        put_position(&path, at, notes)?;
        let shard = self.shard(log);
        let (made, place) = (shard.join(format!("{PLACING}{to}")), shard.join(to.to_string()));
        remove_dir(&made)?;
        make_dir(&made)?;
        // It was never named, or it would be the live one, which this is to come after.
        remove_dir(&place)?;
        put_link(&path, &made.join(FILE))?;
        sync(&made.join(FILE))?;
        sync(&made)?;
        rename(&made, &place)?;
        sync(&shard)
    }

    /// Removes staged files.
    ///
    /// # Errors
    /// One of them cannot be removed.
    pub fn unstage(&self, log: LogId, which: Unneeded) -> Result<(), Fault> {
        for path in list(&self.shard(log))? {
            let name = name_of(&path);
            let named = name.strip_prefix(STAGED).or_else(|| name.strip_prefix(STAGING));
            let goes = named.and_then(parse).is_some_and(|stage| match which {
                Unneeded::One(one) => stage == one,
                Unneeded::Before(term) => stage.term < term,
            });
            if goes {
                remove_dir(&path)?;
            }
        }
        Ok(())
    }
}

fn parse(name: &str) -> Option<StageId> {
    let (term, number) = name.split_once('-')?;
    Some(StageId { term: Term(term.parse().ok()?), number: number.parse().ok()? })
}

fn exists(path: &Path) -> Result<bool, Fault> {
    path.try_exists().map_err(|error| io_fault(path, &error))
}

/// One file under two names costs nothing, but the second must not be written while a third name leads
/// there: what an earlier attempt has left may have been put into the backups.
fn put_link(from: &Path, to: &Path) -> Result<(), Fault> {
    let names = from.metadata().map_err(|error| io_fault(from, &error))?.nlink();
    if names == 1 && std::fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    std::fs::copy(from, to).map(|_| ()).map_err(|error| io_fault(to, &error))
}

#[cfg(test)]
mod tests;
