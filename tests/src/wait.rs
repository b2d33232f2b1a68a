//! Waiting for what must come, with a bound; and for what must not.

use std::thread;
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(25);

/// Tries until it succeeds.
///
/// # Panics
/// When `limit` has passed: with the last reason.
#[track_caller]
pub fn eventually<T>(
    what: &str,
    limit: Duration,
    mut attempt: impl FnMut() -> Result<T, String>,
) -> T {
    let begin = Instant::now();
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(reason) if begin.elapsed() > limit => {
                panic!("not within {limit:?}: {what}\nlast seen: {reason}")
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

/// How long it takes until `attempt` succeeds, looked at every two milliseconds; `None` if it has
/// not within `limit`.
pub fn measure<T>(
    limit: Duration,
    mut attempt: impl FnMut() -> Result<T, String>,
) -> Option<Duration> {
    let begin = Instant::now();
    while begin.elapsed() < limit {
        if attempt().is_ok() {
            return Some(begin.elapsed());
        }
        thread::sleep(Duration::from_millis(2));
    }
    None
}

/// Looks again and again for so long that it holds.
///
/// # Panics
/// The first time it does not.
#[track_caller]
pub fn holds_for(what: &str, span: Duration, mut attempt: impl FnMut() -> Result<(), String>) {
    let begin = Instant::now();
    while begin.elapsed() < span {
        if let Err(reason) = attempt() {
            panic!("did not hold for {span:?}: {what}\nseen: {reason}");
        }
        thread::sleep(PAUSE);
    }
}
