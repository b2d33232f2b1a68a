//! One real node: a process that can be started, killed, frozen and asked.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::binary::quorate;
use crate::net::Namespace;
use crate::view::View;
use crate::wait::eventually;

/// How long anything that one process does by itself may take on a busy machine.
const LONG: Duration = Duration::from_secs(30);

/// A node with a data directory of its own. Dropping it kills the process.
#[derive(Debug)]
pub struct Node {
    /// Its `--name`.
    pub name: String,
    /// Its `--data`.
    pub data: PathBuf,
    /// All other flags of `quorate start`.
    pub flags: Vec<String>,
    pub(crate) space: Arc<Namespace>,
    log: PathBuf,
    child: Option<Child>,
}

impl Node {
    pub(crate) fn new(name: &str, dir: &Path, space: Arc<Namespace>, flags: Vec<String>) -> Self {
        Self {
            name: name.to_owned(),
            data: dir.join(name),
            flags,
            space,
            log: dir.join(format!("{name}.log")),
            child: None,
        }
    }

    /// Adds flags to `quorate start`.
    #[must_use]
    pub fn with<const N: usize>(mut self, flags: [&str; N]) -> Self {
        self.flags.extend(flags.map(str::to_owned));
        self
    }

    /// Starts the process, and does not wait for anything.
    ///
    /// # Panics
    /// If it runs already or cannot be started.
    pub fn start(&mut self) {
        self.start_with(&[]);
    }

    /// As [`Node::start`], with more flags for this one time.
    ///
    /// # Panics
    /// If it runs already or cannot be started.
    pub fn start_with(&mut self, more: &[&str]) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = OpenOptions::new().create(true).append(true).open(&self.log).expect("a log file");
        let mut command = self.space.command(quorate());
        command.args(["start", "--name", &self.name, "--data"]).arg(&self.data);
        command.args(&self.flags).args(more);
        let errors = log.try_clone().expect("a second handle");
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        self.child = Some(command.spawn().expect("the node starts"));
    }

    fn pid(&self) -> Pid {
        let child = self.child.as_ref().expect("the node runs");
        Pid::from_raw(i32::try_from(child.id()).expect("a process id")).expect("a process id")
    }

    /// The process id.
    ///
    /// # Panics
    /// If it does not run.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.as_ref().expect("the node runs").id()
    }

    /// `kill -9`, and waits for the end of the process.
    ///
    /// # Panics
    /// If it does not run.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("the node runs");
        child.kill().expect("kill");
        child.wait().expect("wait");
    }

    /// Stops the process from running at all (`SIGSTOP`): silence, with all connections open.
    ///
    /// # Panics
    /// If it does not run.
    pub fn freeze(&self) {
        kill_process(self.pid(), Signal::STOP).expect("freeze");
    }

    /// Lets a frozen process go on.
    ///
    /// # Panics
    /// If it does not run.
    pub fn thaw(&self) {
        kill_process(self.pid(), Signal::CONT).expect("thaw");
    }

    /// Sends `SIGTERM` and does not wait.
    ///
    /// # Panics
    /// If it does not run.
    pub fn terminate(&self) {
        kill_process(self.pid(), Signal::TERM).expect("terminate");
    }

    /// `SIGTERM`, and the exit code once the process has ended.
    ///
    /// # Panics
    /// If it does not end in time.
    pub fn stop(&mut self) -> i32 {
        self.terminate();
        self.exit_code()
    }

    /// Waits until the process has ended by itself; its exit code.
    ///
    /// # Panics
    /// If it does not end in time, or was ended by a signal.
    #[track_caller]
    pub fn exit_code(&mut self) -> i32 {
        let status: ExitStatus = eventually("the process ends", LONG, || {
            let child = self.child.as_mut().expect("the node runs");
            child.try_wait().expect("wait").ok_or_else(|| "it still runs".to_owned())
        });
        self.child = None;
        status.code().unwrap_or_else(|| panic!("{} ended by {status}:\n{}", self.name, self.log()))
    }

    /// Whether the process runs.
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|c| matches!(c.try_wait(), Ok(None)))
    }

    /// All it has printed since it was first started.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// What `/status` says.
    ///
    /// # Errors
    /// Why it says nothing.
    pub fn view(&self) -> Result<View, String> {
        serde_json::from_value(self.get("/status")?.1).map_err(|e| format!("{}: {e}", self.name))
    }

    /// What HTTP answers at `path`: code and JSON.
    ///
    /// # Errors
    /// Why it does not answer.
    pub fn get(&self, path: &str) -> Result<(u16, Value), String> {
        let url = format!("http://{}{path}", self.http()?);
        let token = fs::read_to_string(self.data.join("admin.token")).unwrap_or_default();
        let fetched = self.space.inside(|| fetch(&url, token.trim()));
        let (code, body) = fetched.map_err(|e| self.failed(&e))?;
        let json = serde_json::from_str(&body).unwrap_or(Value::String(body));
        Ok((code, json))
    }

    /// Reads the first `count` server-sent events of `/events`, each as (id, data).
    ///
    /// # Errors
    /// Why they do not come.
    pub fn events(&self, count: usize) -> Result<Vec<(String, Value)>, String> {
        let url = format!("http://{}/events", self.http()?);
        self.space.inside(|| listen(&url, count)).map_err(|e| self.failed(&e))
    }

    /// Sends bytes to the HTTP port and reads what comes back, to its end or for `limit`.
    ///
    /// # Errors
    /// Why nothing can be sent.
    pub fn exchange(&self, request: &[u8], limit: Duration) -> Result<String, String> {
        let address = self.http()?;
        self.space.inside(|| converse(&address, request, limit)).map_err(|e| self.failed(&e))
    }

    /// Opens connections to the HTTP port, sends `request` on each, and keeps them.
    ///
    /// # Errors
    /// Why one cannot be opened.
    pub fn connections(&self, count: usize, request: &[u8]) -> Result<Vec<TcpStream>, String> {
        let address = self.http()?;
        let open = || {
            let mut stream = TcpStream::connect(&address)?;
            stream.write_all(request)?;
            Ok::<_, std::io::Error>(stream)
        };
        let open = || (0..count).map(|_| open()).collect::<Result<_, _>>();
        self.space.inside(open).map_err(|e| self.failed(&e.to_string()))
    }

    /// Where it serves clients: IP:PORT.
    ///
    /// # Errors
    /// Why that is not known.
    pub fn client(&self) -> Result<String, String> {
        self.listens("client")
    }

    /// Where it serves HTTP: IP:PORT.
    ///
    /// # Errors
    /// Why that is not known.
    pub fn http(&self) -> Result<String, String> {
        self.listens("http")
    }

    fn listens(&self, what: &str) -> Result<String, String> {
        let file = self.data.join("node.json");
        let text = fs::read_to_string(file).map_err(|e| self.failed(&e.to_string()))?;
        let json: Value = serde_json::from_str(&text).map_err(|e| self.failed(&e.to_string()))?;
        let pid = self.child.as_ref().map(Child::id).map(u64::from);
        if json["pid"].as_u64() != pid {
            return Err(self.failed("node.json is of an earlier start"));
        }
        json[what].as_str().map(str::to_owned).ok_or_else(|| self.failed(&format!("no {what}")))
    }

    fn failed(&self, what: &str) -> String {
        format!("{}: {what}", self.name)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("---- {} ----\n{}", self.name, self.log());
        }
    }
}

fn agent(limit: Duration) -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_global(Some(limit))
        .http_status_as_error(false)
        .proxy(None)
        .build()
        .new_agent()
}

fn fetch(url: &str, token: &str) -> Result<(u16, String), String> {
    let asked = agent(Duration::from_secs(2)).get(url);
    let asked = asked.header("authorization", format!("Bearer {token}"));
    let mut response = asked.call().map_err(|e| format!("{url}: {e}"))?;
    let body = response.body_mut().read_to_string().map_err(|e| format!("{url}: {e}"))?;
    Ok((response.status().as_u16(), body))
}

fn converse(address: &str, request: &[u8], limit: Duration) -> Result<String, String> {
    let mut stream = TcpStream::connect(address).map_err(|e| e.to_string())?;
    stream.set_read_timeout(Some(limit)).map_err(|e| e.to_string())?;
    // The other end may refuse before all is sent.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut part) {
        answer.extend_from_slice(&part[..read]);
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn listen(url: &str, count: usize) -> Result<Vec<(String, Value)>, String> {
    use std::io::{BufRead, BufReader};
    let response = agent(LONG).get(url).call().map_err(|e| format!("{url}: {e}"))?;
    let mut events = Vec::new();
    let mut id = String::new();
    for line in BufReader::new(response.into_body().into_reader()).lines() {
        let line = line.map_err(|e| e.to_string())?;
        if let Some(text) = line.strip_prefix("id: ") {
            id = text.to_owned();
        } else if let Some(text) = line.strip_prefix("data: ") {
            let data = serde_json::from_str(text).map_err(|e| e.to_string())?;
            events.push((id.clone(), data));
            if events.len() == count {
                return Ok(events);
            }
        }
    }
    Err(format!("{url} ended after {} events", events.len()))
}
