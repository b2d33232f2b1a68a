//! `ports.json`: where the node listened last, to be found there again.
//!
//! By default a node takes the first free port of a range. If it took another one at each start, two
//! that restart at the same moment could change places, and whoever remembers an address (a list of
//! members, a client, a monitor) would find somebody else there.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::presence::replace;

const FILE: &str = "ports.json";

/// The ports of the last start, tried before all others.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub(super) struct Ports {
    /// For nodes.
    pub(super) node: Option<u16>,
    /// For HTTP.
    pub(super) http: Option<u16>,
    /// For clients.
    #[serde(default)]
    pub(super) client: Option<u16>,
}

impl Ports {
    /// Reads them; none if there are none. They are a help, so that no trouble with them stops a node.
    pub(super) fn read(data: &Path) -> Self {
        let read = || Ok(serde_json::from_slice(&fs::read(data.join(FILE))?)?);
        read().unwrap_or_else(|error: io::Error| {
            if error.kind() != io::ErrorKind::NotFound {
                let file = data.join(FILE);
                warn!(file = %file.display(), %error, "unreadable: the first free ports are taken");
            }
            Self::default()
        })
    }

    /// Writes them.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn write(self, data: &Path) -> io::Result<()> {
        replace(&data.join(FILE), &serde_json::to_vec(&self)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_as_they_were_written_and_damage_costs_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Ports::read(dir.path()), Ports::default());
        let ports = Ports { node: Some(2435), http: Some(2481), client: None };
        ports.write(dir.path()).unwrap();
        assert_eq!(Ports::read(dir.path()), ports);
        fs::write(dir.path().join(FILE), "{ \"node\": 24").unwrap();
        assert_eq!(Ports::read(dir.path()), Ports::default());
        ports.write(dir.path()).unwrap();
        assert_eq!(Ports::read(dir.path()), ports);
    }
}
