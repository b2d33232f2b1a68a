//! `node.json`: how the commands on this machine find the node that runs on a data directory.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// What a running node writes into its data directory.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Presence {
    /// Its process.
    pub(crate) pid: u32,
    /// Where it listens for nodes.
    pub(crate) address: SocketAddr,
    /// Where it serves HTTP.
    pub(crate) http: Option<SocketAddr>,
    /// Where it serves clients.
    #[serde(default)]
    pub(crate) client: Option<SocketAddr>,
    /// Whether that is TLS.
    #[serde(default)]
    pub(crate) tls: bool,
}

/// Where the file of the node on `data` is.
pub(crate) fn path(data: &Path) -> PathBuf {
    data.join("node.json")
}

/// Writes a small file aside, under its name and `.new`, and puts it in the place of the one that is
/// there.
///
/// # Errors
/// What the system says.
pub(crate) fn replace(file: &Path, content: &[u8]) -> io::Result<()> {
    let mut aside = file.as_os_str().to_owned();
    aside.push(".new");
    fs::write(&aside, content)?;
    fs::rename(aside, file)
}

impl Presence {
    /// Writes the file; a reader sees the old one or the new one, never half of it.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn write(&self, data: &Path) -> io::Result<()> {
        replace(&path(data), &serde_json::to_vec_pretty(self)?)
    }

    /// Reads the file; `None` if there is none.
    ///
    /// # Errors
    /// What the system says, or that it is not such a file.
    pub(crate) fn read(data: &Path) -> io::Result<Option<Self>> {
        match fs::read(path(data)) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes the file away at the end.
    pub(crate) fn remove(data: &Path) {
        // If it stays, readers find out that the process is gone.
        let _ = fs::remove_file(path(data));
    }

    /// Whether its process is still there (perhaps another one under its number).
    pub(crate) fn is_running(&self) -> bool {
        Path::new("/proc").join(self.pid.to_string()).exists() || !Path::new("/proc/self").exists()
    }
}
