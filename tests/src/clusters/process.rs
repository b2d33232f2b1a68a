//! Servers of other makers: processes in one network namespace, each on a loopback address of its own.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use tempfile::TempDir;

use super::CONNECT;
use crate::net::Namespace;

/// Where servers run, and those that do.
pub(super) struct Servers {
    /// In the order they were started.
    running: Vec<Child>,
    pub(super) space: Namespace,
    dir: TempDir,
}

impl Servers {
    pub(super) fn new() -> Self {
        let dir = TempDir::new().expect("a scratch directory");
        Self { running: Vec::new(), space: Namespace::new(), dir }
    }

    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The address of a server, counted from 0.
    pub(super) fn address(server: usize) -> String {
        format!("127.0.0.{}", 11 + server)
    }

    /// Starts the next one, its output in a file.
    pub(super) fn start(&mut self, program: &str, args: &[String]) {
        let log = File::create(self.log_of(self.running.len())).expect("a log file");
        let errors = log.try_clone().expect("a second handle");
        let mut command = self.space.command(Path::new(program));
        command.args(args).current_dir(self.dir()).stdin(Stdio::null()).stdout(log).stderr(errors);
        self.running.push(command.spawn().expect("it starts"));
    }

    fn log_of(&self, server: usize) -> PathBuf {
        self.dir().join(format!("{server}.log"))
    }

    pub(super) fn processes(&self) -> Vec<u32> {
        self.running.iter().map(Child::id).collect()
    }

    pub(super) fn kill(&mut self, server: usize) {
        let _ = self.running[server].kill();
        let _ = self.running[server].wait();
    }

    pub(super) fn connect(&self, server: usize, port: u16) -> Result<TcpStream, String> {
        let address = SocketAddr::new(Self::address(server).parse().expect("an address"), port);
        let stream = self.space.inside(|| TcpStream::connect_timeout(&address, CONNECT));
        let stream = stream.map_err(|error| format!("{address}: {error}"))?;
        stream.set_read_timeout(Some(CONNECT)).map_err(|error| error.to_string())?;
        Ok(stream)
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for server in 0..self.running.len() {
            self.kill(server);
            if std::thread::panicking() {
                let log = fs::read_to_string(self.log_of(server)).unwrap_or_default();
                let last: Vec<&str> = log.lines().rev().take(40).collect();
                eprintln!("---- server {server} ----");
                last.iter().rev().for_each(|line| eprintln!("{line}"));
            }
        }
    }
}
