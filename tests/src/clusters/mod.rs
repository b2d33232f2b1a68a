//! Clusters of three servers of several systems, for measuring them on one machine: Quorate, etcd and
//! MariaDB Galera, each in a network namespace of its own, its data in the system's temporary
//! directory.
//!
//! No system is measured with less than full durability: an answered write is on the disks of a
//! majority (etcd, Quorate) or of the server and in the memory of the others (Galera, which never
//! waits for the disks of the others).

mod etcd;
mod galera;
mod process;
mod quorate;

use std::process::Command;
use std::time::Duration;

use crate::writers::Writer;

/// How long a cluster may take to start on a busy machine.
const SETTLE: Duration = Duration::from_secs(60);
/// How long opening a connection may take.
const CONNECT: Duration = Duration::from_millis(250);

/// Three servers that run. Dropping them ends them and removes what they have stored.
pub trait Cluster {
    /// Their process ids.
    fn processes(&self) -> Vec<u32>;

    /// Where writes are best sent to: the owner or the leader.
    ///
    /// # Panics
    /// If there is none for long.
    fn leader(&self) -> usize;

    /// A connection to one of them that writes rows.
    ///
    /// # Errors
    /// It does not answer, or takes no writes.
    fn writer(&self, server: usize) -> Result<Writer, String>;

    /// How many rows one of them knows.
    ///
    /// # Errors
    /// It does not answer.
    fn rows(&self, server: usize) -> Result<u64, String>;

    /// `kill -9`.
    fn kill(&mut self, server: usize);
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    /// The binary of this workspace.
    Quorate,
    /// etcd with its defaults.
    Etcd,
    /// MariaDB with Galera, and InnoDB's log on the disk with each commit.
    Galera,
}

impl System {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Quorate, Self::Etcd, Self::Galera];

    /// Its name in a table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Quorate => "Quorate",
            Self::Etcd => "etcd",
            Self::Galera => "Galera",
        }
    }

    /// What it runs with, where that is not its default, as far as it bears on figures.
    #[must_use]
    pub const fn settings(self) -> &'static str {
        match self {
            Self::Quorate | Self::Etcd => "its defaults",
            Self::Galera => {
                "innodb_flush_log_at_trx_commit=1, no binary log, wsrep_sync_wait=0, \
                 wsrep_slave_threads=4"
            }
        }
    }

    /// What its server says of its version.
    ///
    /// # Errors
    /// It is not installed: which of Debian's packages it is in.
    pub fn version(self) -> Result<String, String> {
        let ask = |program: &str| {
            let output = Command::new(program).arg("--version").output().ok()?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            text.lines().next().map(|line| line.trim().to_owned())
        };
        let found = match self {
            Self::Quorate => ask(&crate::quorate().display().to_string()),
            Self::Etcd => ask(etcd::PROGRAM),
            Self::Galera => ask(galera::PROGRAM).filter(|_| galera::has_provider()),
        };
        found.ok_or_else(|| {
            let packages = match self {
                Self::Quorate => return "`quorate --version` says nothing".to_owned(),
                Self::Etcd => "etcd-server",
                Self::Galera => "mariadb-server galera-4 rsync",
            };
            format!("{} is not here: apt-get install {packages}", self.name())
        })
    }

    /// Starts three servers and waits until they are a cluster that takes writes.
    ///
    /// # Panics
    /// If they are none in time.
    #[must_use]
    pub fn start(self) -> Box<dyn Cluster> {
        match self {
            Self::Quorate => Box::new(quorate::Quorate::start()),
            Self::Etcd => Box::new(etcd::Etcd::start()),
            Self::Galera => Box::new(galera::Galera::start()),
        }
    }
}
