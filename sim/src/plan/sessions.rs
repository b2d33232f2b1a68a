//! Which clients use sessions, and how they send what they send again.

use std::time::Duration;

use super::{ClientPlan, DatabasePlan};
use crate::random::Dice;

/// How a client sends its writes, so that each is done once.
#[derive(Clone, Debug)]
pub struct SessionPlan {
    /// It adds to a counter, instead of what it would do.
    pub counts: bool,
    /// It sends again what is not answered in so many milliseconds, on average.
    pub patience_ms: u64,
    /// So many operations may be under way at once.
    pub at_once: usize,
    /// In a million attempts, the next follows at once.
    pub race_ppm: u32,
    /// In a million operations that have ended, their request is sent once more.
    pub late_ppm: u32,
    /// In a million attempts, it says that it has fewer answers than it has.
    pub lag_ppm: u32,
}

/// What no run is long enough for.
pub const NEVER_ENDS: Duration = Duration::from_secs(24 * 60 * 60);

impl DatabasePlan {
    /// The same with some clients that use sessions.
    pub(super) fn with_sessions(mut self, dice: &mut Dice) -> Self {
        let ends = [150, 1_000, 4_000].map(Duration::from_millis);
        self.limits.session_time_to_live =
            if dice.one_in(2) { NEVER_ENDS } else { dice.pick(&ends) };
        for client in &mut self.clients {
            if !dice.one_in(3) {
                client.sessions = Some(draw(dice, client));
            }
        }
        self
    }
}

fn draw(dice: &mut Dice, client: &ClientPlan) -> SessionPlan {
    let waits = client.timeout_ms;
    SessionPlan {
        counts: dice.one_in(3),
        patience_ms: dice.pick(&[waits / 8, waits / 2, waits, waits * 2]),
        at_once: dice.pick(&[1, 2, 5]),
        race_ppm: dice.pick(&[0, 100_000, 500_000]),
        late_ppm: dice.pick(&[0, 100_000, 500_000]),
        lag_ppm: dice.pick(&[0, 300_000]),
    }
}
