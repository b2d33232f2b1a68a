//! `quorate playground`: nodes on this machine, a running writer, and a person who kills the nodes.
//!
//! ```text
//! plan       what is done to the nodes: a script, or one step a key
//! nodes      the processes · ports where they listen · cluster how they become one, with a database
//! writer     the application: it writes, and reads back · observer looks at the cluster
//! board      what is known at the moment · screen shows it · terminal keys
//! ```

mod board;
mod cluster;
mod nodes;
mod observer;
mod plan;
mod ports;
mod screen;
mod terminal;
mod writer;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use quorate_io::client::Client;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::Playground as Args;
use crate::exit::Failure;
use crate::shell::unconnected;
use board::{Board, Tally};
use nodes::Node;
use observer::Looker;
pub(crate) use plan::Plan;
use plan::Step;
use writer::Writer;

/// The name of the database.
const DATABASE: &str = "demo";
/// How often nodes, signals and the script are looked after.
const TICK: Duration = Duration::from_millis(20);
/// How often a script says how things stand.
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// How long the writes that are under way may take at the end: of a script, whose nodes may just have
/// come back; and where a person waits.
const END_OF_SCRIPT: Duration = Duration::from_secs(30);
const END_OF_SCREEN: Duration = Duration::from_secs(3);

/// `quorate playground`.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let count = usize::from(args.nodes);
    if let Some(plan) = args.script.as_ref().filter(|plan| plan.highest() > count) {
        let highest = plan.highest();
        return Err(Failure::Usage(format!(
            "--script: there is no node {highest}, with --nodes {count}"
        )));
    }
    if args.script.is_none() {
        terminal::required()?;
    }
    let place = Place::of(args.dir.as_deref())?;
    let runtime = crate::terminal::runtime()?;
    let over = Arc::new(AtomicBool::new(false));
    listen(&runtime, &over)?;
    let mut playground =
        Playground::begin(place.path(), count, runtime, over, args.script.is_some())?;
    let ended = match &args.script {
        Some(plan) => playground.follow(plan),
        None => terminal::run(&mut playground),
    };
    // Who ends a screen may have killed all nodes before, and who interrupts does not want to wait.
    let strict = args.script.is_some() && ended.is_ok();
    let tally = playground.end(if strict { END_OF_SCRIPT } else { END_OF_SCREEN }, strict);
    // The nodes have ended: nothing writes there any more.
    drop(place);
    let summed_up = sum_up(&tally);
    ended?;
    summed_up
}

/// SIGINT, SIGTERM and the end of the terminal end it in good order.
fn listen(runtime: &Runtime, over: &Arc<AtomicBool>) -> Result<(), Failure> {
    let _inside = runtime.enter();
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        let mut signals = signal(kind)
            .map_err(|error| Failure::Refused(format!("signals cannot be listened to: {error}")))?;
        let over = Arc::clone(over);
        runtime.spawn(async move {
            while signals.recv().await.is_some() {
                over.store(true, Ordering::Relaxed);
            }
        });
    }
    Ok(())
}

/// What came of it, in one line, and as the exit code.
fn sum_up(tally: &Tally) -> Result<(), Failure> {
    let Tally { written, errors, refused, lost, twice, .. } = tally;
    line(&format!(
        "{written} writes, {errors} errors, {lost} lost, {twice} done twice; {refused} refused for want of \
         a quorum; the longest wait {}",
        screen::span(tally.longest)
    ));
    if *errors > 0 || *lost > 0 || *twice > 0 {
        let last = tally.last_error.as_deref().unwrap_or("see above");
        return Err(Failure::Refused(format!("not all went well; the last error: {last}")));
    }
    if *refused > 0 {
        return Err(Failure::NoQuorum(
            "fewer nodes than a majority were there for a while: writes were refused, not lost"
                .to_owned(),
        ));
    }
    Ok(())
}

/// One line on standard output. Nobody may be there to read it, and the nodes have to be ended all the same.
fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Where the nodes keep everything.
enum Place {
    /// Gone with it.
    Scratch(TempDir),
    /// Stays.
    Given(PathBuf),
}

impl Place {
    fn of(given: Option<&Path>) -> Result<Self, Failure> {
        let Some(dir) = given else {
            let made = tempfile::Builder::new().prefix("quorate-playground-").tempdir();
            let made = made.map_err(|error| {
                Failure::Storage(format!("no directory can be made (--dir DIR names one): {error}"))
            })?;
            return Ok(Self::Scratch(made));
        };
        let unusable =
            |error: std::io::Error| Failure::Storage(format!("--dir {}: {error}", dir.display()));
        fs::create_dir_all(dir).map_err(unusable)?;
        if fs::read_dir(dir).map_err(unusable)?.next().is_some() {
            return Err(Failure::Usage(format!(
                "--dir {} is not empty: give a new directory, so that nothing in it is overwritten",
                dir.display()
            )));
        }
        Ok(Self::Given(fs::canonicalize(dir).map_err(unusable)?))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Scratch(dir) => dir.path(),
            Self::Given(dir) => dir,
        }
    }
}

/// All that runs. Dropping it ends the nodes.
pub(super) struct Playground {
    nodes: Vec<Node>,
    board: Arc<Board>,
    // Ends before the nodes do.
    looker: Option<Looker>,
    writer: Option<Writer>,
    runtime: Runtime,
    over: Arc<AtomicBool>,
}

impl Playground {
    /// Starts nodes and writer.
    fn begin(
        dir: &Path,
        count: usize,
        runtime: Runtime,
        over: Arc<AtomicBool>,
        echo: bool,
    ) -> Result<Self, Failure> {
        line(&format!("starting {count} nodes in {}", dir.display()));
        let nodes = cluster::start(dir, count, &over)?;
        let options = cluster::furnish(&nodes)?;
        let names = nodes.iter().map(|node| node.name.clone()).collect();
        let board = Arc::new(Board::new(names, writer::LANES, echo));
        let writer = runtime.block_on(async {
            let client = Client::with(options, DATABASE, None).await;
            let client = client.map_err(|error| unconnected(&error))?;
            tokio::spawn(observer::follow(client.clone(), Arc::clone(&board)));
            Writer::begin(client, Arc::clone(&board)).await
        })?;
        let data = nodes.iter().map(|node| node.data.clone()).collect();
        let looker = Looker::begin(data, Arc::clone(&board))
            .map_err(|error| Failure::Refused(format!("cannot start a thread: {error}")))?;
        board.tell("the writer has begun");
        Ok(Self { nodes, board, looker: Some(looker), writer: Some(writer), runtime, over })
    }

    /// Whether it was told to end from outside.
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Does what a script says.
    fn follow(&mut self, plan: &Plan) -> Result<(), Failure> {
        let mut next_status = Instant::now();
        for step in &plan.0 {
            match *step {
                Step::Quit => break,
                Step::Wait(span) => {
                    let until = Instant::now() + span;
                    while Instant::now() < until && !self.is_over() {
                        self.tend();
                        if Instant::now() >= next_status {
                            next_status = Instant::now() + STATUS_EVERY;
                            self.say();
                        }
                        std::thread::sleep(
                            TICK.min(until.saturating_duration_since(Instant::now())),
                        );
                    }
                }
                step => self.step(step).map_err(Failure::Refused)?,
            }
            if self.is_over() {
                return Err(Failure::Killed("interrupted".to_owned()));
            }
        }
        Ok(())
    }

    /// Does one thing to a node.
    ///
    /// # Errors
    /// Why it cannot be done.
    fn step(&mut self, step: Step) -> Result<(), String> {
        let Some(node) = step.node().and_then(|at| self.nodes.get_mut(at)) else { return Ok(()) };
        let is_there = node.process.is_there();
        if is_there == matches!(step, Step::Start(_)) {
            let problem = if is_there { "runs already" } else { "does not run: s starts it" };
            return Err(format!("{} {problem}", node.name));
        }
        let text = match step {
            Step::Kill(_) => "is killed".to_owned(),
            Step::Stop(_) => "is told to stop in good order".to_owned(),
            Step::Start(_) => "is started again".to_owned(),
            Step::Freeze(_, Some(span)) => format!("is frozen for {}", screen::span(span)),
            Step::Freeze(_, None) => "is frozen".to_owned(),
            Step::Thaw(_) | Step::Wait(_) | Step::Quit => "goes on".to_owned(),
        };
        // Before it is done: what comes of it is told, and timed, from there on.
        self.board.tell(format!("{} {text}", node.name));
        if matches!(step, Step::Kill(_) | Step::Freeze(..) | Step::Stop(_)) {
            self.board.blow(&node.name);
        }
        let done = match step {
            Step::Kill(_) => node.kill(),
            Step::Stop(_) => node.stop(),
            Step::Start(_) => node.start(),
            Step::Freeze(_, span) => node.freeze(span),
            Step::Thaw(_) => node.thaw(),
            Step::Wait(_) | Step::Quit => Ok(()),
        };
        done.map_err(|error| format!("{}: {error}", node.name))?;
        self.show_processes();
        Ok(())
    }

    /// Looks after the nodes.
    fn tend(&mut self) {
        let news: Vec<String> = self.nodes.iter_mut().filter_map(Node::tend).collect();
        for text in news {
            self.board.tell(text);
        }
        self.show_processes();
    }

    fn show_processes(&self) {
        let mut state = self.board.lock();
        for (row, node) in state.rows.iter_mut().zip(&self.nodes) {
            row.process = node.process;
        }
    }

    /// How things stand, in one line.
    fn say(&self) {
        let state = self.board.lock();
        let node = |row: &board::Row| {
            let owns = if row.owns { " X" } else { "" };
            let copy = row.copy.map_or_else(|| "-".to_owned(), |copy| copy.to_string());
            let lsn = row.lsn.map_or_else(|| "-".to_owned(), |lsn| lsn.to_string());
            format!("{} {}{owns} {copy} {lsn}", row.name, row.process.shown())
        };
        let nodes: Vec<String> = state.rows.iter().map(node).collect();
        let Tally { written, errors, lost, .. } = state.tally;
        line(&format!(
            "{:8.3} s  {} | {written} written, {errors} errors, {lost} lost, longest {}",
            self.board.began.elapsed().as_secs_f64(),
            nodes.join(" | "),
            screen::span(state.tally.longest)
        ));
    }

    /// Ends the writer, with a last reading back, and then the nodes; `strict`: what is not answered by then,
    /// and cannot be read back, is an error.
    fn end(mut self, within: Duration, strict: bool) -> Tally {
        for node in &mut self.nodes {
            if node.process == nodes::Process::Frozen {
                // So that it can answer; one that cannot go on is killed below.
                let _ = node.thaw();
            }
        }
        if let Some(writer) = self.writer.take() {
            self.runtime.block_on(writer.end(within, strict));
        }
        drop(self.looker.take());
        self.nodes.clear();
        self.board.lock().tally.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_wrong_is_the_exit_code() {
        let tally = Tally { written: 9, ..Tally::default() };
        let code = |tally: Tally| sum_up(&tally).map_err(|failure| failure.code());
        assert_eq!(code(tally.clone()), Ok(()));
        assert_eq!(code(Tally { errors: 1, ..tally.clone() }), Err(1));
        assert_eq!(code(Tally { lost: 1, refused: 1, ..tally.clone() }), Err(1));
        assert_eq!(code(Tally { twice: 1, ..tally.clone() }), Err(1));
        assert_eq!(code(Tally { refused: 1, ..tally }), Err(4));
    }
}
