//! The nodes: child processes that end with the playground, however it ends.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::exit::Failure;

/// The end of a node's log that is shown when it does not start, in bytes.
const TAIL_BYTES: i64 = 2_000;

/// What a process is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Process {
    Running,
    /// `SIGSTOP`: it is there, and does nothing.
    Frozen,
    /// It was told to leave.
    Leaving,
    Killed,
    Stopped,
    /// It has ended, and nobody here wanted it to.
    Ended,
}

impl Process {
    pub(super) fn shown(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Frozen => "frozen",
            Self::Leaving => "leaving",
            Self::Killed => "killed",
            Self::Stopped => "stopped",
            Self::Ended => "ended",
        }
    }

    /// Whether there is a process.
    pub(super) fn is_there(self) -> bool {
        matches!(self, Self::Running | Self::Frozen | Self::Leaving)
    }
}

/// One node. Dropping it kills the process.
pub(super) struct Node {
    pub(super) name: String,
    pub(super) data: PathBuf,
    /// Where it serves clients.
    pub(super) client: u16,
    pub(super) process: Process,
    args: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
    /// When it goes on, if it was frozen for a while.
    thaws: Option<Instant>,
}

impl Node {
    pub(super) fn new(name: String, dir: &std::path::Path, client: u16, args: Vec<String>) -> Self {
        let (data, log) = (dir.join(&name), dir.join(format!("{name}.log")));
        Self { name, data, client, process: Process::Stopped, args, log, child: None, thaws: None }
    }

    /// Starts the process.
    ///
    /// # Errors
    /// It runs, or cannot be started.
    pub(super) fn start(&mut self) -> io::Result<()> {
        if self.child.is_some() {
            return Err(io::Error::other("it runs already"));
        }
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["start", "--name", &self.name, "--data"]).arg(&self.data).args(&self.args);
        command.args(["--ends-with", &std::process::id().to_string()]);
        // What this shell is set up for is another cluster.
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"QUORATE_") {
                command.env_remove(name);
            }
        }
        // Ctrl-C is for the playground: it would reach all processes of its group.
        command.process_group(0);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.child = Some(command.spawn()?);
        self.process = Process::Running;
        Ok(())
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        let child = self.child.as_ref().ok_or_else(|| io::Error::other("it does not run"))?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("it has no process id"))?;
        Ok(kill_process(pid, signal)?)
    }

    /// `kill -9`, and waits for the end of the process.
    ///
    /// # Errors
    /// It does not run.
    pub(super) fn kill(&mut self) -> io::Result<()> {
        let mut child = self.child.take().ok_or_else(|| io::Error::other("it does not run"))?;
        (self.process, self.thaws) = (Process::Killed, None);
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Has it leave in good order; [`Node::tend`] sees when it has.
    ///
    /// # Errors
    /// It does not run.
    pub(super) fn stop(&mut self) -> io::Result<()> {
        if self.process == Process::Frozen {
            self.thaw()?;
        }
        self.signal(Signal::TERM)?;
        self.process = Process::Leaving;
        Ok(())
    }

    /// Silence, with all connections open; for a while, or until [`Node::thaw`].
    ///
    /// # Errors
    /// It does not run.
    pub(super) fn freeze(&mut self, span: Option<Duration>) -> io::Result<()> {
        self.signal(Signal::STOP)?;
        (self.process, self.thaws) = (Process::Frozen, span.map(|span| Instant::now() + span));
        Ok(())
    }

    /// It goes on.
    ///
    /// # Errors
    /// It does not run.
    pub(super) fn thaw(&mut self) -> io::Result<()> {
        self.signal(Signal::CONT)?;
        (self.process, self.thaws) = (Process::Running, None);
        Ok(())
    }

    /// Lets it go on when its time has come, and sees whether it has ended; what is to be told.
    pub(super) fn tend(&mut self) -> Option<String> {
        let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
        if let Some(status) = ended {
            self.child = None;
            self.thaws = None;
            if self.process == Process::Leaving {
                self.process = Process::Stopped;
                return Some(format!("{} has left and stopped ({status})", self.name));
            }
            self.process = Process::Ended;
            return Some(format!("{} ended by itself ({status})", self.name));
        }
        if self.thaws.is_some_and(|at| Instant::now() >= at) {
            return Some(match self.thaw() {
                Ok(()) => format!("{} goes on", self.name),
                Err(error) => format!("{} cannot go on: {error}", self.name),
            });
        }
        None
    }

    /// Why it is not there, with the end of its log.
    pub(super) fn post_mortem(&self) -> Failure {
        let read = || -> io::Result<String> {
            let mut file = File::open(&self.log)?;
            let from = i64::try_from(file.metadata()?.len()).unwrap_or(i64::MAX).min(TAIL_BYTES);
            file.seek(SeekFrom::End(-from))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let log = read().unwrap_or_else(|error| error.to_string());
        Failure::Refused(format!("{} has ended; the end of its log:\n{log}", self.name))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // One that does not run cannot be killed.
        let _ = self.kill();
    }
}
