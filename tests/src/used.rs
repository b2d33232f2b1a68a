//! What processes have used of the processors.

use std::fs;

/// So many microseconds are one tick of `/proc/PID/stat`: the kernel's `USER_HZ` is 100 everywhere.
const TICK_US: u64 = 10_000;

/// What processes have used since they began, or between two moments: in the order they were named.
#[derive(Debug)]
pub struct Used {
    /// User and system time, in microseconds.
    pub cpu_us: Vec<u64>,
    /// How often their threads have waited for something.
    pub sleeps: Vec<u64>,
}

impl Used {
    /// Until now.
    ///
    /// # Panics
    /// If one of them does not run.
    #[must_use]
    pub fn now(processes: &[u32]) -> Self {
        let each = |of: fn(u32) -> u64| processes.iter().copied().map(of).collect();
        Self { cpu_us: each(cpu_us), sleeps: each(sleeps) }
    }

    /// Between two moments.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let less = |now: &[u64], then: &[u64]| now.iter().zip(then).map(|(n, t)| n - t).collect();
        Self {
            cpu_us: less(&self.cpu_us, &before.cpu_us),
            sleeps: less(&self.sleeps, &before.sleeps),
        }
    }
}

/// What a process has in memory, in kB.
///
/// # Panics
/// If it does not run.
#[must_use]
pub fn resident_kb(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
    line.split_whitespace().nth(1).and_then(|kb| kb.parse().ok()).expect("a number")
}

fn cpu_us(process: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    // The name, in parentheses, may hold anything.
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    let ticks = fields.split_whitespace().skip(11).take(2);
    ticks.map(|ticks| ticks.parse::<u64>().expect("a number")).sum::<u64>() * TICK_US
}

fn sleeps(process: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("it runs");
    let of = |status: String| {
        let line = status.lines().find_map(|l| l.strip_prefix("voluntary_ctxt_switches:"));
        line.and_then(|count| count.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    // A thread may end meanwhile.
    tasks.flatten().filter_map(|t| fs::read_to_string(t.path().join("status")).ok()).map(of).sum()
}

/// How long all processors together have worked since the machine was started, at anything, in
/// microseconds.
///
/// # Panics
/// If the kernel does not tell.
#[must_use]
pub fn worked_us() -> u64 {
    let stat = fs::read_to_string("/proc/stat").expect("the kernel tells");
    let line = stat.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = line.split_whitespace().skip(1).map_while(|t| t.parse().ok()).collect();
    // All but idling and waiting for disks; what a guest used is in the user time already.
    let worked = |at: &usize| *at != 3 && *at != 4 && *at < 8;
    (0..ticks.len()).filter(worked).map(|at| ticks[at]).sum::<u64>() * TICK_US
}
