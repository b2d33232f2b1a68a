//! Putting away what was live once.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use quorate_core::Generation;
use quorate_core::engine::Fault;

use super::{list, make_dir, name_of, remove_dir, rename, sync};
use crate::engine::io_fault;
use crate::store::utc;

/// So many generations of one shard are kept, the newest; the last is never removed.
pub const BACKUPS_MAX: usize = 3;

/// Moves the directory of a copy to `backup/databases/<database>/<time>-<shard>-<generation>/`, the
/// whole of it, and removes the oldest of that shard beyond [`BACKUPS_MAX`]. On another file system it
/// is copied, compared, made durable, and only then removed.
///
/// # Errors
/// It cannot be moved: it is where it was, or in both places.
pub fn retire(
    data: &Path,
    dir: &Path,
    (database, shard): &(String, String),
    generation: Generation,
) -> Result<(), Fault> {
    let backup = data.join("backup");
    let databases = backup.join("databases");
    let of = databases.join(safe(database));
    make_dir(&of)?;
    for above in [&databases, &backup, &data.to_owned()] {
        sync(above)?;
    }
    let mark = format!("-{}-{generation}", safe(shard));
    let to = free_name(&of, &utc(SystemTime::now()), &mark);
    match std::fs::rename(dir, &to) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::CrossesDevices => {
            copy_whole(dir, &to)?;
            remove_dir(dir)?;
        }
        Err(error) => return Err(io_fault(dir, &error)),
    }
    sync(&of)?;
    sync(dir.parent().unwrap_or(data))?;
    thin_out(&of, &safe(shard))
}

fn free_name(of: &Path, time: &str, mark: &str) -> PathBuf {
    let first = of.join(format!("{time}{mark}"));
    let more = (2..).map(|n| of.join(format!("{time}{mark}-{n}")));
    let mut names = std::iter::once(first).chain(more);
    names.find(|path| !path.exists()).unwrap_or_else(|| of.join(mark))
}

/// A name of the document as the name of a file: none can lead elsewhere.
fn safe(name: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() || "_-".contains(c) { c } else { '_' };
    name.chars().take(100).map(plain).collect()
}

fn copy_whole(from: &Path, to: &Path) -> Result<(), Fault> {
    let unfinished = to.with_extension("unfinished");
    remove_dir(&unfinished)?;
    make_dir(&unfinished)?;
    for path in list(from)? {
        let target = unfinished.join(name_of(&path));
        std::fs::copy(&path, &target).map_err(|error| io_fault(&target, &error))?;
        sync(&target)?;
        if hash(&path)? != hash(&target)? {
            return Err(Fault::Io(format!("{} was not copied as it is", path.display())));
        }
    }
    sync(&unfinished)?;
    rename(&unfinished, to)
}

fn hash(path: &Path) -> Result<blake3::Hash, Fault> {
    let mut hasher = blake3::Hasher::new();
    let file = std::fs::File::open(path).map_err(|error| io_fault(path, &error))?;
    hasher.update_reader(file).map_err(|error| io_fault(path, &error))?;
    Ok(hasher.finalize())
}

/// Names sort by time.
fn thin_out(of: &Path, shard: &str) -> Result<(), Fault> {
    let mark = format!("Z-{shard}-");
    let all = list(of)?;
    let kept: Vec<&PathBuf> = all.iter().filter(|path| name_of(path).contains(&mark)).collect();
    for oldest in kept.iter().take(kept.len().saturating_sub(BACKUPS_MAX)) {
        remove_dir(oldest)?;
    }
    Ok(())
}
