//! Three servers of MariaDB with Galera: InnoDB's log is on the disk with each commit, there is no
//! binary log beside it, and four threads apply what others have written (one is the default).
//!
//! They run as the user `mysql`, whom Debian's package makes: run by root, rsync would give up its
//! rights and could not write the copy that a joining server gets.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;
use std::{fs, io};

use super::process::Servers;
use super::{Cluster, SETTLE};
use crate::eventually;
use crate::writers::{Writer, ask_mysql, open_mysql, run_mysql, speak_mysql};

pub(super) const PROGRAM: &str = "mariadbd";
const PROVIDER: &str = "/usr/lib/galera/libgalera_smm.so";
const USER: &str = "mysql";
const PORT: u16 = 3306;
const STATE: &str = "SELECT variable_value FROM information_schema.global_status WHERE \
                     variable_name = 'wsrep_local_state_comment'";

/// Whether the library that replicates is there.
pub(super) fn has_provider() -> bool {
    Path::new(PROVIDER).exists()
}

pub(super) struct Galera(Servers);

impl Galera {
    pub(super) fn start() -> Self {
        let mut servers = Servers::new();
        fs::set_permissions(servers.dir(), fs::Permissions::from_mode(0o755)).expect("it is ours");
        let all: Vec<String> = (0..3).map(Servers::address).collect();
        for server in 0..3 {
            let dir = servers.dir().join(format!("n{server}"));
            fs::create_dir(&dir).expect("a directory");
            owned_by_user(&dir).expect("the user mysql");
            if server == 0 {
                install(&dir);
            }
            servers.start(PROGRAM, &flags(&dir, server, &all));
            eventually("a server of Galera is synced", SETTLE, || {
                let stream = servers.connect(server, PORT)?;
                let mut stream = speak_mysql(stream, None).map_err(|e| e.to_string())?;
                match ask_mysql(&mut stream, STATE).map_err(|e| e.to_string())? {
                    state if state == "Synced" => Ok(()),
                    other => Err(other),
                }
            });
        }
        let cluster = Self(servers);
        let stream = cluster.0.connect(0, PORT).expect("it is synced");
        let mut stream = speak_mysql(stream, None).expect("it is synced");
        stream.set_read_timeout(Some(SETTLE)).expect("a socket");
        for sql in [
            "CREATE DATABASE bench",
            "CREATE TABLE bench.t (id BIGINT PRIMARY KEY, text VARCHAR(200)) ENGINE = InnoDB",
        ] {
            run_mysql(&mut stream, sql).expect("a table");
        }
        cluster
    }
}

/// Makes the system's own tables.
fn install(dir: &Path) {
    let mut command = Command::new("mariadb-install-db");
    command.args(["--no-defaults", "--skip-test-db", "--auth-root-authentication-method=normal"]);
    command.arg(format!("--user={USER}")).arg(format!("--datadir={}", dir.display()));
    let output = command.output().expect("mariadb-install-db of mariadb-server");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "mariadb-install-db: {said}");
}

fn owned_by_user(dir: &Path) -> io::Result<()> {
    let users = fs::read_to_string("/etc/passwd")?;
    let line = users.lines().find(|line| line.split(':').next() == Some(USER));
    let mut ids = line.into_iter().flat_map(|line| line.split(':').skip(2).take(2));
    let mut id = || ids.next().and_then(|id| id.parse().ok());
    chown(dir, id(), id())
}

fn flags(dir: &Path, server: usize, all: &[String]) -> Vec<String> {
    let (dir, address) = (dir.display(), &all[server]);
    let mut flags = vec![
        "--no-defaults".to_owned(),
        format!("--user={USER}"),
        format!("--datadir={dir}"),
        format!("--socket={dir}/socket"),
        format!("--pid-file={dir}/pid"),
        format!("--bind-address={address}"),
        format!("--port={PORT}"),
        "--skip-name-resolve".to_owned(),
        "--skip-log-bin".to_owned(),
        "--binlog-format=ROW".to_owned(),
        "--innodb-autoinc-lock-mode=2".to_owned(),
        "--innodb-flush-log-at-trx-commit=1".to_owned(),
        "--wsrep-on=ON".to_owned(),
        format!("--wsrep-provider={PROVIDER}"),
        format!("--wsrep-provider-options=gmcast.listen_addr=tcp://{address}:4567"),
        format!("--wsrep-cluster-address=gcomm://{}", all.join(",")),
        format!("--wsrep-node-address={address}"),
        format!("--wsrep-node-name=n{server}"),
        "--wsrep-sst-method=rsync".to_owned(),
        "--wsrep-sync-wait=0".to_owned(),
        "--wsrep-slave-threads=4".to_owned(),
    ];
    if server == 0 {
        flags.push("--wsrep-new-cluster".to_owned());
    }
    flags
}

impl Cluster for Galera {
    fn processes(&self) -> Vec<u32> {
        self.0.processes()
    }

    /// All of them are alike.
    fn leader(&self) -> usize {
        0
    }

    fn writer(&self, server: usize) -> Result<Writer, String> {
        let stream = self.0.connect(server, PORT)?;
        let stream = speak_mysql(stream, Some("bench")).map_err(|error| error.to_string())?;
        open_mysql(stream).map_err(|error| error.to_string())
    }

    fn rows(&self, server: usize) -> Result<u64, String> {
        let counted = || {
            let mut stream = speak_mysql(
                self.0.connect(server, PORT).map_err(io::Error::other)?,
                Some("bench"),
            )?;
            stream.set_read_timeout(Some(SETTLE))?;
            ask_mysql(&mut stream, "SELECT count(*) FROM t")
        };
        let text = counted().map_err(|error: io::Error| error.to_string())?;
        text.parse().map_err(|_| format!("no number: {text}"))
    }

    fn kill(&mut self, server: usize) {
        self.0.kill(server);
    }
}
