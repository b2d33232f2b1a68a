//! Network namespaces, made with iproute2 and removed when dropped.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// How the namespaces of these tests begin: `qrt-PID-N`.
const PREFIX: &str = "qrt-";

/// One namespace of its own: nothing in it, nothing leaves it.
#[derive(Debug)]
pub(crate) struct Namespace {
    pub(crate) name: String,
}

impl Namespace {
    /// With nothing but a loopback interface.
    pub(crate) fn new() -> Self {
        static SWEEP: Once = Once::new();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        SWEEP.call_once(sweep);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        ip(&["netns", "add", &name]);
        let space = Self { name };
        space.ip(&["link", "set", "lo", "up"]);
        space
    }

    /// `ip` inside of it.
    pub(crate) fn ip(&self, args: &[&str]) {
        let mut all = vec!["-n", self.name.as_str()];
        all.extend_from_slice(args);
        ip(&all);
    }

    /// A command that will run inside of it, under the process id it is given at its start.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Runs `work` on a thread that is inside of it.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let file = File::open(Path::new("/run/netns").join(&self.name)).expect("the namespace");
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                use std::os::fd::AsFd;
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("entering a namespace needs root");
                work()
            });
            thread.join().expect("the work inside does not panic")
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}

/// Runs `ip` and insists that it succeeds.
fn ip(args: &[&str]) {
    let output = Command::new("ip").args(args).output().unwrap_or_else(|error| {
        panic!("`ip` does not run ({error}): these tests need iproute2 (apt-get install iproute2)")
    });
    let said = String::from_utf8_lossy(&output.stderr);
    let args = args.join(" ");
    assert!(
        output.status.success(),
        "`ip {args}` failed: {said}\nthese tests make network namespaces: run them as root, in a \
         container with CAP_SYS_ADMIN and CAP_NET_ADMIN"
    );
}

/// Removes the namespaces of test processes that are gone, and ends what still runs in them.
fn sweep() {
    let Ok(list) = Command::new("ip").args(["netns", "list"]).output() else { return };
    for line in String::from_utf8_lossy(&list.stdout).lines() {
        let name = line.split_whitespace().next().unwrap_or_default();
        let Some(owner) = name.strip_prefix(PREFIX).and_then(|n| n.split('-').next()) else {
            continue;
        };
        if Path::new("/proc").join(owner).exists() {
            continue;
        }
        let pids = Command::new("ip").args(["netns", "pids", name]).output();
        let pids = pids.map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
        for pid in pids.unwrap_or_default().split_whitespace().filter_map(|p| p.parse().ok()) {
            if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        let _ = Command::new("ip").args(["netns", "del", name]).output();
    }
}
