//! Taking possession of the data directory.

use std::fs;
use std::path::Path;

use quorate_io::store::{self, DataDir};
use tracing::warn;

use crate::cli::Start;
use crate::exit::Failure;

/// What may lie in a directory that no node was made in yet: what an interrupted first start, a
/// backup or the system of a fresh disk leaves there.
const OURS: [&str; 14] = [
    "lock",
    "log",
    "backup",
    "MOVING",
    "FORMAT.tmp",
    "FOLLOWS",
    "FOLLOWS.tmp",
    "node.json",
    "node.json.new",
    "ports.json",
    "ports.json.new",
    "admin.token",
    "admin.token.new",
    "lost+found",
];

/// Locks the directory; with `--new-identity` what it holds is moved aside.
///
/// # Errors
/// [`Failure::Storage`] if another process has it or it cannot be used, [`Failure::Usage`] if it
/// is somebody else's.
pub(super) fn lock(args: &Start) -> Result<DataDir, Failure> {
    let data = args.data.as_path();
    refuse_foreign(data)?;
    let unusable = |error: store::StoreError| Failure::Storage(error.to_string());
    let dir = DataDir::lock(data).map_err(unusable)?;
    if args.new_identity {
        let was_node = store::is_data_dir(data);
        let (id, aside) = dir.new_identity().map_err(unusable)?;
        match aside.filter(|_| was_node) {
            Some(aside) => warn!(
                %id, aside = %aside.display(),
                "a new identity: what the directory held was moved aside, nothing was deleted. To \
                 take the place of the server it was, give that one's --name once it is AWAY"
            ),
            None => {
                warn!(%id, "--new-identity: the directory held no node, there was nothing to move")
            }
        }
    }
    Ok(dir)
}

/// A directory with other things in it was named by mistake: a node would mix with them.
fn refuse_foreign(data: &Path) -> Result<(), Failure> {
    if store::is_data_dir(data) {
        return Ok(());
    }
    let Ok(entries) = fs::read_dir(data) else {
        // Not there yet, or not readable: locking it tells.
        return Ok(());
    };
    let foreign = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .find(|name| !OURS.contains(&name.as_str()));
    match foreign {
        None => Ok(()),
        Some(name) => Err(Failure::Usage(format!(
            "{} is not the data directory of a node, and it is not empty: there is '{name}' in it. \
             Give an empty or a new directory with --data",
            data.display()
        ))),
    }
}
