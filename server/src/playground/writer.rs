//! The application of the playground: it writes, and reads back what it has written.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use quorate_core::shard::ShardError;
use quorate_io::client::{Client, Error, Reading, Value};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::board::{Board, STALL};
use crate::exit::Failure;
use crate::shell::undone;

/// Writers side by side. With [`PACE`] that is 200 writes a second.
pub(super) const LANES: usize = 4;
/// Each begins one write in this time at most.
const PACE: Duration = Duration::from_millis(20);
/// How long a write may take: nodes that are all killed may come back.
const WRITE_MAX: Duration = Duration::from_secs(600);
/// A refusal for want of a quorum is not met again at once.
const AGAIN: Duration = Duration::from_millis(200);
/// How often is read back, and how long that may take.
const CHECK_EVERY: Duration = Duration::from_secs(2);
const CHECK_MAX: Duration = Duration::from_secs(5);
/// Failed writes of one lane that are remembered by their numbers.
const FAILED_MAX: usize = 1_000;

/// What one lane has written: the numbers 1 to `last` but for the `failed` ones, which may be there or not.
#[derive(Clone, Debug, Default)]
struct Lane {
    last: u64,
    failed: Vec<u64>,
}

impl Lane {
    fn acknowledged(&self) -> u64 {
        self.last - u64::try_from(self.failed.len()).unwrap_or(self.last)
    }
}

/// The running writer.
pub(super) struct Writer {
    client: Client,
    board: Arc<Board>,
    lanes: Arc<Mutex<Vec<Lane>>>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Writer {
    /// Makes the table and begins.
    ///
    /// # Errors
    /// The table cannot be made.
    pub(super) async fn begin(client: Client, board: Arc<Board>) -> Result<Self, Failure> {
        for sql in [
            // No key: what were done twice would be there twice.
            "CREATE TABLE writes (lane INTEGER, number INTEGER)",
            "CREATE INDEX writes_by_lane ON writes (lane, number)",
        ] {
            let done = client.execute(sql, ()).await;
            done.map_err(|error| Failure::Refused(undone(&error, &client.layout())))?;
        }
        let lanes = Arc::new(Mutex::new(vec![Lane::default(); LANES]));
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for at in 0..LANES {
            let lane = Writing {
                at,
                client: client.timeout(WRITE_MAX),
                board: Arc::clone(&board),
                lanes: Arc::clone(&lanes),
            };
            tasks.spawn(lane.run(stopped.clone()));
        }
        let checking = check_again_and_again(
            client.timeout(CHECK_MAX),
            Arc::clone(&board),
            Arc::clone(&lanes),
            stopped,
        );
        tasks.spawn(checking);
        Ok(Self { client, board, lanes, stop, tasks })
    }

    /// Begins no more writes, waits for those that are under way, and reads all back once more. `strict`:
    /// it is an error if that cannot be done.
    pub(super) async fn end(mut self, within: Duration, strict: bool) {
        let _ = self.stop.send(true);
        let deadline = tokio::time::Instant::now() + within;
        while let Ok(Some(done)) = tokio::time::timeout_at(deadline, self.tasks.join_next()).await {
            if let Err(error) = done {
                self.failed(&format!("a writer has ended: {error}"), true);
            }
        }
        let unanswered = self.board.lock().waiting.iter().flatten().count();
        self.tasks.shutdown().await;
        if unanswered > 0 {
            let within = within.as_secs();
            let problem = format!("{unanswered} writes were not answered within {within} s");
            self.failed(&problem, strict);
        }
        let client = self.client.timeout(within.max(CHECK_MAX));
        if let Err(problem) = check(&client, &self.board, &self.lanes).await {
            let problem = format!("what was written could not be read back: {problem}");
            self.failed(&problem, strict);
        }
    }

    fn failed(&self, problem: &str, counts: bool) {
        if !counts {
            return super::line(&format!("at the end {problem}"));
        }
        self.board.failed(problem);
    }
}

/// One lane at work.
struct Writing {
    at: usize,
    client: Client,
    board: Arc<Board>,
    lanes: Arc<Mutex<Vec<Lane>>>,
}

impl Writing {
    async fn run(self, stop: watch::Receiver<bool>) {
        let mut pace = tokio::time::interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut number = 1_u64;
        while !*stop.borrow() {
            pace.tick().await;
            let began = Instant::now();
            self.board.lock().waiting[self.at] = Some(began);
            while !self.write(number).await {
                tokio::time::sleep(AGAIN).await;
                if *stop.borrow() {
                    self.board.lock().waiting[self.at] = None;
                    return;
                }
            }
            self.took(began.elapsed());
            number += 1;
        }
    }

    /// Whether it is decided what became of it.
    async fn write(&self, number: u64) -> bool {
        let parameters =
            (i64::try_from(self.at).unwrap_or(-1), i64::try_from(number).unwrap_or(i64::MAX));
        let done = self
            .client
            .execute("INSERT INTO writes (lane, number) VALUES (?, ?)", parameters)
            .await;
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.board.lock();
        match done {
            Ok(_) => {
                lanes[self.at].last = number;
                state.tally.written += 1;
                true
            }
            // Nothing was done, and that was said.
            Err(Error::Shard(ShardError::NoQuorum { .. })) => {
                state.tally.refused += 1;
                false
            }
            Err(error) => {
                let lane = &mut lanes[self.at];
                lane.last = number;
                if lane.failed.len() < FAILED_MAX {
                    lane.failed.push(number);
                }
                let problem = undone(&error, &self.client.layout());
                drop(state);
                self.board.failed(&problem);
                true
            }
        }
    }

    fn took(&self, time: Duration) {
        let mut state = self.board.lock();
        state.waiting[self.at] = None;
        state.tally.longest = state.tally.longest.max(time);
        if time >= STALL {
            state.tally.last_stall = time;
        }
    }
}

async fn check_again_and_again(
    client: Client,
    board: Arc<Board>,
    lanes: Arc<Mutex<Vec<Lane>>>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(CHECK_EVERY) => {}
        }
        // While nobody can answer, nothing is known: the last check, at the end, has to succeed.
        let _ = check(&client, &board, &lanes).await;
    }
}

/// Reads back all that was acknowledged before this began: linearizable, so that it must be there.
async fn check(client: &Client, board: &Board, lanes: &Mutex<Vec<Lane>>) -> Result<(), String> {
    let written = lanes.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let client = client.reading(Reading::Linearizable);
    let (mut expected, mut found, mut twice) = (0, 0, 0);
    for (at, lane) in written.iter().enumerate() {
        let but: Vec<String> = lane.failed.iter().map(u64::to_string).collect();
        let sql = format!(
            "SELECT count(*), count(DISTINCT number) FROM writes \
             WHERE lane = ? AND number <= ? AND number NOT IN ({})",
            but.join(",")
        );
        let of = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let parameters =
            vec![Value::Integer(i64::try_from(at).unwrap_or(-1)), Value::Integer(of(lane.last))];
        let read = client.fetch_one::<(u64, u64)>(&sql, parameters).await;
        let (rows, different) = read.map_err(|error| undone(&error, &client.layout()))?;
        expected += lane.acknowledged();
        found += different;
        twice += rows - different;
    }
    let mut state = board.lock();
    let before = (state.tally.lost, state.tally.twice);
    let lost = expected.saturating_sub(found);
    (state.tally.expected, state.tally.found) = (expected, found);
    (state.tally.lost, state.tally.twice) = (lost, twice);
    drop(state);
    if (lost, twice) != before {
        board.tell(format!("READ BACK: {lost} writes are lost, {twice} are there twice"));
    }
    Ok(())
}
