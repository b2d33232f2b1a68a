//! `bench --beside-madsim`: one job on this simulator and on madsim, in turns.

use std::io::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use crate::messengers::{Job, Messengers};

/// Where madsim's side is: a workspace of its own, for it wants `--cfg madsim`.
const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/beside-madsim/Cargo.toml");
/// Where that is built.
const TARGET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/beside-madsim");

/// Five hosts, each sending 64 bytes to its four peers every 100 ms for 600 seconds.
const JOB: Job = Job { hosts: 5, bytes: 64, every_ms: 100, for_ms: 600_000 };

/// One run: what a side prints, as numbers in this order.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// Messages that have arrived.
    arrived: u64,
    /// What passed in the world, in nanoseconds.
    simulated_ns: u64,
    /// What passed outside, in nanoseconds.
    took_ns: u64,
}

impl Run {
    fn of(line: &str) -> Option<Self> {
        let mut numbers = line.split_whitespace().map(|number| number.parse().ok());
        let mut next = || numbers.next().flatten();
        Some(Self { arrived: next()?, simulated_ns: next()?, took_ns: next()? })
    }

    /// Simulated seconds in a second.
    fn simulated_a_second(self) -> u64 {
        self.simulated_ns / self.took_ns.max(1)
    }

    /// Messages in a second.
    fn messages_a_second(self) -> u64 {
        self.arrived.saturating_mul(1_000_000_000) / self.took_ns.max(1)
    }
}

/// Our side, as one run in a process of its own.
pub(super) fn one_side() -> ExitCode {
    let started = Instant::now();
    let done = Messengers::new(1, JOB).run();
    println!("{} {} {}", done.arrived, done.simulated_ns, started.elapsed().as_nanos());
    ExitCode::SUCCESS
}

/// Both sides in turns, so many times, and the medians.
pub(super) fn both_sides(rounds: u32) -> ExitCode {
    match measure(rounds) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(rounds: u32) -> Result<()> {
    println!(
        "{} hosts, each sending {} bytes to its {} peers every {} ms for {} simulated seconds: {} \
         messages, each 1 to 10 ms under way",
        JOB.hosts,
        JOB.bytes,
        JOB.hosts - 1,
        JOB.every_ms,
        JOB.for_ms / 1_000,
        JOB.messages()
    );
    let madsim = build()?;
    let ours = std::env::current_exe()?;
    let job = [JOB.hosts as u64, JOB.bytes as u64, JOB.every_ms, JOB.rounds()];
    let job = job.map(|number| number.to_string());
    let mut runs = [Vec::new(), Vec::new()];
    println!("{HEAD}");
    for round in 0..rounds {
        // Whoever begins has no advantage over the whole.
        for side in [round % 2, (round + 1) % 2] {
            if side == 0 {
                runs[0].push(run(Command::new(&ours).args(["bench", "--messengers"]))?);
            } else {
                runs[1].push(run(Command::new(&madsim).args(&job))?);
            }
        }
        let last = |side: usize| runs[side].last().copied();
        if let (Some(ours), Some(madsim)) = (last(0), last(1)) {
            println!("{}", line(&format!("{}", round + 1), ours, madsim));
        }
    }
    let [ours, madsim] = runs.map(median);
    println!("{}", line("median", ours, madsim));
    let tenths = 10 * ours.messages_a_second() / madsim.messages_a_second().max(1);
    println!("{}.{} times as many messages a second as madsim", tenths / 10, tenths % 10);
    Ok(())
}

/// Builds madsim's side, and says where it is.
fn build() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--release", "--locked", "--manifest-path", MANIFEST]);
    command.args(["--target-dir", TARGET]).env("RUSTFLAGS", "--cfg madsim");
    let status = command.status()?;
    let path = Path::new(TARGET).join("release/beside-madsim");
    status
        .success()
        .then_some(path)
        .ok_or_else(|| Error::other(format!("{MANIFEST} does not build")))
}

fn run(command: &mut Command) -> Result<Run> {
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let run = Run::of(&said).filter(|_| output.status.success());
    let run = run.ok_or_else(|| {
        Error::other(format!("{command:?}: {said}{}", String::from_utf8_lossy(&output.stderr)))
    })?;
    if run.arrived == JOB.messages() {
        Ok(run)
    } else {
        Err(Error::other(format!("{command:?}: {} messages have arrived", run.arrived)))
    }
}

/// The run in the middle, by its pace; of an even number the slower one.
fn median(mut runs: Vec<Run>) -> Run {
    runs.sort_by_key(|run| run.simulated_a_second());
    runs[(runs.len() - 1) / 2]
}

const HEAD: &str = "        |      quorate-sim       |         madsim
        | sim. s / s  messages/s | sim. s / s  messages/s";

fn line(name: &str, ours: Run, madsim: Run) -> String {
    let side =
        |run: Run| format!("{:>10}  {:>10}", run.simulated_a_second(), run.messages_a_second());
    format!("{name:<7} | {} | {}", side(ours), side(madsim))
}
