//! The files of copies: where they lie, how one is given to others, and how another takes its place.
//!
//! ```text
//! <data>/shards/<log>/<generation>/copy.sqlite   a copy; the store names the live one
//!                     incoming/copy.sqlite       what has come of another one; kept over a restart
//!                     outgoing-<n>/copy.sqlite   a snapshot for others, or what of the live copy was copied
//!                                                aside for them; removed at the next start
//!                     upload-<n>/copy.sqlite     a file that was handed to the node; removed likewise
//!                     staging-<stage>/           what has come of one that is to be staged; likewise
//!                     staged-<stage>/copy.sqlite a file that waits for the entry that names it
//! <data>/backup/databases/<database>/<time>-<shard>-<generation>/   what was live once
//! <data>/backup/clusters/<time>-<node>/   all that the directory held as another node
//! ```
//!
//! A name that leads to a copy is durable before anything says that the copy is there: the file is
//! synced, then its directory, then it is renamed to its generation, then that name is synced. Only
//! then does the caller write the record, and only when that is durable is the old one put away.

mod backup;
mod brought;
mod given;
mod incoming;
mod outgoing;
mod room;
mod staged;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::path::{Path, PathBuf};

use quorate_core::engine::Fault;
use quorate_core::{Generation, LogId};

pub use backup::{BACKUPS_MAX, retire};
pub use brought::Former;
pub use given::Given;
pub use incoming::Incoming;
pub use outgoing::Outgoing;
pub use staged::{UPLOAD_BYTES_MAX, UploadFile};

use crate::engine::{SqliteEngine, io_fault};

/// The database file in the directory of a copy.
const FILE: &str = "copy.sqlite";
const INCOMING: &str = "incoming";
const OUTGOING: &str = "outgoing-";

/// The files of all copies in a data directory.
#[derive(Clone, Debug)]
pub struct Files {
    data: PathBuf,
}

impl Files {
    /// Those of the data directory `data`.
    #[must_use]
    pub fn new(data: &Path) -> Self {
        Self { data: data.to_owned() }
    }

    fn shards(&self) -> PathBuf {
        self.data.join("shards")
    }

    /// Everything of one shard.
    #[must_use]
    pub fn shard(&self, log: LogId) -> PathBuf {
        self.shards().join(log.0.to_string())
    }

    /// The database file of one copy of a shard.
    #[must_use]
    pub fn copy(&self, log: LogId, generation: Generation) -> PathBuf {
        self.shard(log).join(generation.to_string()).join(FILE)
    }

    /// Makes an empty copy, durable with every name on the way to it. What lies there was never whole,
    /// or its record would be there.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn create(&self, log: LogId, generation: Generation) -> Result<SqliteEngine, Fault> {
        let path = self.copy(log, generation);
        let dir = self.shard(log).join(generation.to_string());
        remove_dir(&dir)?;
        make_dir(&dir)?;
        let engine = SqliteEngine::create(&path)?;
        for dir in [self.shard(log), self.shards(), self.data.clone()] {
            sync(&dir)?;
        }
        Ok(engine)
    }

    /// Opens the live copy.
    ///
    /// # Errors
    /// [`Fault::Missing`]: it is not there. Others: it cannot be read, or is damaged.
    pub fn open(&self, log: LogId, generation: Generation) -> Result<SqliteEngine, Fault> {
        let path = self.copy(log, generation);
        match path.try_exists().map_err(|error| io_fault(&path, &error))? {
            true => SqliteEngine::open(&path),
            false => Err(Fault::Missing(path.display().to_string())),
        }
    }

    /// Removes what only a running process needs: snapshots for others, files that were handed to it.
    ///
    /// # Errors
    /// Something cannot be listed or removed.
    pub fn sweep(&self) -> Result<(), Fault> {
        for shard in list(&self.shards())? {
            for path in list(&shard)? {
                let temporary = [OUTGOING, staged::UPLOAD, staged::STAGING, staged::PLACING];
                if temporary.iter().any(|mark| name_of(&path).starts_with(mark)) {
                    remove_dir(&path)?;
                }
            }
        }
        Ok(())
    }

    /// Puts away everything of a shard but the live copy: other generations go to the backups of
    /// `name`, database and shard; what has been received goes, unless `receiving`. With no live copy
    /// nothing stays.
    ///
    /// # Errors
    /// Something cannot be moved: it stays where it is.
    pub fn tidy(
        &self,
        log: LogId,
        live: Option<Generation>,
        receiving: bool,
        name: &(String, String),
    ) -> Result<(), Fault> {
        let shard = self.shard(log);
        for path in list(&shard)? {
            match name_of(&path).parse::<u64>() {
                Ok(generation) if Some(Generation(generation)) == live => {}
                Ok(generation) => retire(&self.data, &path, name, Generation(generation))?,
                Err(_) if name_of(&path) == INCOMING && !receiving => remove_dir(&path)?,
                Err(_) => {}
            }
        }
        if live.is_none() {
            remove_dir(&shard)?;
        }
        Ok(())
    }
}

fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// What is in a directory, in order; nothing if there is none.
fn list(dir: &Path) -> Result<Vec<PathBuf>, Fault> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_fault(dir, &error)),
    };
    let paths: Result<Vec<PathBuf>, _> = entries.map(|entry| entry.map(|e| e.path())).collect();
    let mut paths = paths.map_err(|error| io_fault(dir, &error))?;
    paths.sort();
    Ok(paths)
}

fn make_dir(dir: &Path) -> Result<(), Fault> {
    std::fs::create_dir_all(dir).map_err(|error| io_fault(dir, &error))
}

fn remove_dir(dir: &Path) -> Result<(), Fault> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io_fault(dir, &error)),
        _ => Ok(()),
    }
}

fn rename(from: &Path, to: &Path) -> Result<(), Fault> {
    std::fs::rename(from, to).map_err(|error| io_fault(from, &error))
}

/// Makes a file, or the names in a directory, durable.
fn sync(path: &Path) -> Result<(), Fault> {
    File::open(path).and_then(|file| file.sync_all()).map_err(|error| io_fault(path, &error))
}
