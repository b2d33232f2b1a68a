//! Whether a thread that has nothing to do should look again before it sleeps.
//!
//! One write is handed on some ten times between threads that have each little to do. To fall asleep and
//! to be woken takes a processor longer than that, most of all in a virtual machine, where an idle
//! processor is given back. So a thread whose waits have been short looks again for a moment, and lets
//! others run between two looks. Where waits are long, as in a node at rest, it sleeps at once.

use std::time::{Duration, Instant};

/// A wait that is shorter is a short one.
const SHORT: Duration = Duration::from_millis(1);
/// For so long it is looked again: the wait for an answer of another thread, not for a disk.
const LOOKED_FOR: Duration = Duration::from_micros(100);
/// So many short waits in a row say that the next will be one.
const SHORT_IN_A_ROW: u8 = 3;

/// The last waits of one thread.
#[derive(Debug, Default)]
pub(crate) struct Lull {
    /// Counted up to what is asked for.
    short_in_a_row: u8,
}

impl Lull {
    /// How long to look again before sleeping; `None`: not at all.
    pub(crate) fn patience(&self) -> Option<Duration> {
        (self.short_in_a_row >= SHORT_IN_A_ROW).then_some(LOOKED_FOR)
    }

    /// Looks until something is there, if that is likely to be soon. The wait began at `began`.
    pub(crate) fn look<T>(&self, began: Instant, mut look: impl FnMut() -> Option<T>) -> Option<T> {
        let patience = self.patience()?;
        loop {
            if let Some(found) = look() {
                return Some(found);
            }
            if began.elapsed() >= patience {
                return None;
            }
            std::thread::yield_now();
        }
    }

    /// The wait that began at `began` is over.
    pub(crate) fn ended(&mut self, began: Instant) {
        self.note(began.elapsed());
    }

    fn note(&mut self, waited: Duration) {
        let counted = (self.short_in_a_row + 1).min(SHORT_IN_A_ROW);
        self.short_in_a_row = if waited < SHORT { counted } else { 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_thread_whose_last_waits_were_all_short_looks_again() {
        let mut lull = Lull::default();
        for _ in 0..2 {
            for _ in 0..SHORT_IN_A_ROW {
                assert_eq!(lull.patience(), None);
                let mut looks = 0;
                let found = lull.look(Instant::now(), || {
                    looks += 1;
                    Some(())
                });
                assert_eq!((found, looks), (None, 0), "it sleeps at once");
                lull.note(SHORT / 2);
            }
            assert_eq!(lull.patience(), Some(LOOKED_FOR));
            lull.note(SHORT);
        }
    }

    #[test]
    fn looking_again_ends_when_something_is_there_or_its_time_is_up() {
        let lull = Lull { short_in_a_row: SHORT_IN_A_ROW };
        let mut looks = 0;
        let third = lull.look(Instant::now(), || {
            looks += 1;
            (looks == 3).then_some(looks)
        });
        // The machine may be so busy that the time was up before.
        assert!(third == Some(3) || looks < 3);
        let began = Instant::now();
        assert_eq!(lull.look(began, || None::<()>), None);
        assert!(began.elapsed() >= LOOKED_FOR);
    }
}
