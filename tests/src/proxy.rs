//! A running `quorate proxy`.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::lab::Lab;
use crate::wait::eventually;

/// How long any one answer may take.
const ANSWER: Duration = Duration::from_secs(90);

/// A `quorate proxy` on the first host, at a port that the system has chosen. Dropped, it is killed.
#[derive(Debug)]
pub struct Proxy {
    child: Child,
    /// Kept open: whoever prints must not be hindered.
    _said: BufReader<ChildStdout>,
    /// Where it serves: IP:PORT.
    pub address: String,
    log: PathBuf,
}

impl Proxy {
    /// Starts one with these flags, and waits until it serves.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start(lab: &Lab, name: &str, flags: &[&str]) -> Self {
        let log = lab.path(&format!("{name}.log"));
        let mut command = lab.command(1, &["proxy", "--listen", "127.0.0.1:0"]);
        command.args(flags).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child =
            command.stderr(File::create(&log).expect("a log")).spawn().expect("quorate runs");
        let mut said = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = String::new();
        said.read_line(&mut line).expect("a line");
        let address = line.trim().rsplit('/').next().unwrap_or_default().to_owned();
        let text = || fs::read_to_string(&log).unwrap_or_default();
        assert!(!address.is_empty(), "the proxy did not start: {}", text());
        Self { child, _said: said, address, log }
    }

    /// What it has written to its log.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends a request from a thread on the same host; see [`exchange`].
    ///
    /// # Errors
    /// Why there is no answer.
    pub fn send(
        &self,
        lab: &Lab,
        method: &str,
        path: &str,
        authorization: &str,
        body: &str,
    ) -> Result<(u16, String), String> {
        lab.inside(1, || exchange(&self.address, method, path, authorization, body))
    }

    /// Sends `SIGTERM` and does not wait.
    ///
    /// # Panics
    /// If it does not run.
    pub fn terminate(&self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("an id");
        kill_process(pid, Signal::TERM).expect("signalled");
    }

    /// The exit code once it has ended.
    ///
    /// # Panics
    /// If it does not end in time.
    pub fn exit_code(&mut self) -> Option<i32> {
        eventually("the proxy ends", Duration::from_secs(30), || {
            match self.child.try_wait().map_err(|error| error.to_string())? {
                Some(status) => Ok(status.code()),
                None => Err(self.log()),
            }
        })
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends one request on a connection of its own, with this after `authorization:` unless it is empty;
/// the status and the body. Nothing is sent again.
///
/// # Errors
/// Why there is no answer.
pub fn exchange(
    address: &str,
    method: &str,
    path: &str,
    authorization: &str,
    body: &str,
) -> Result<(u16, String), String> {
    let failed = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect(address).map_err(failed)?;
    stream.set_read_timeout(Some(ANSWER)).map_err(failed)?;
    let authorization = match authorization {
        "" => String::new(),
        given => format!("authorization: {given}\r\n"),
    };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: proxy\r\ncontent-type: application/json\r\n{authorization}\
         content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).map_err(failed)?;
    // Whoever refuses a long body may close before it has all of it.
    let _ = stream.write_all(body.as_bytes());
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    let code = code.ok_or_else(|| format!("no answer: {read:?} {answer}"))?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((code, body.to_owned()))
}
