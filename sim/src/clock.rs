//! A host's clock: it starts anywhere, runs a little too fast or too slow, and may jump ahead.

use quorate_core::Time;

/// 32 binary places.
const ONE: u64 = 1 << 32;

/// Local time as a piecewise linear function of the world's time; never goes back.
#[derive(Clone, Debug)]
pub struct Clock {
    /// World time at the start of this piece, in nanoseconds.
    base_world: u64,
    /// Local time there.
    base_local: u64,
    /// Local nanoseconds in a world nanosecond, in units of 2^-32.
    rate: u64,
    /// The inverse of `rate`, a little too small at most.
    inverse: u64,
}

impl Clock {
    /// A clock that shows `offset` when the world begins and gains `ppm` millionths.
    #[must_use]
    pub fn new(offset: u64, ppm: i32) -> Self {
        let mut clock = Self { base_world: 0, base_local: offset, rate: ONE, inverse: ONE };
        clock.set_rate(0, ppm);
        clock
    }

    /// What the clock shows at world time `now`.
    #[must_use]
    pub fn local(&self, now: u64) -> Time {
        let passed = (u128::from(now - self.base_world) * u128::from(self.rate)) >> 32;
        Time(self.base_local + u64::try_from(passed).unwrap_or(u64::MAX / 2))
    }

    /// The first world time at which the clock shows `local` or more.
    #[must_use]
    pub fn world(&self, local: Time) -> u64 {
        let ahead = local.0.saturating_sub(self.base_local);
        let guess = (u128::from(ahead) * u128::from(self.inverse)) >> 32;
        let mut world =
            self.base_world.saturating_add(u64::try_from(guess).unwrap_or(u64::MAX / 2));
        if ahead > u64::MAX / 4 {
            return u64::MAX; // A timer in the far future: never.
        }
        // The inverse is rounded down: the guess is early by a little, never late.
        loop {
            let shown = self.local(world);
            if shown >= local {
                return world;
            }
            world += (local.0 - shown.0).div_ceil(2).max(1);
        }
    }

    /// From `now` on the clock gains `ppm` millionths.
    pub fn set_rate(&mut self, now: u64, ppm: i32) {
        self.base_local = self.local(now).0;
        self.base_world = now;
        let parts = u64::try_from(1_000_000 + i64::from(ppm.max(-900_000))).unwrap_or(1_000_000);
        self.rate = u64::try_from(u128::from(parts) * u128::from(ONE) / 1_000_000).unwrap_or(ONE);
        self.inverse =
            u64::try_from(u128::from(ONE) * u128::from(ONE) / u128::from(self.rate)).unwrap_or(ONE);
    }

    /// The clock jumps ahead by so many nanoseconds, as after a suspension.
    pub fn jump(&mut self, now: u64, ahead: u64) {
        self.base_local = self.local(now).0 + ahead;
        self.base_world = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_is_due_at_the_first_moment_the_clock_shows_it() {
        for ppm in [-500_000, -200, 0, 1, 37, 200, 250_000] {
            let clock = Clock::new(123_456_789, ppm);
            for ahead in [0, 1, 999, 100_000_000, 7_777_777_777, 3_600_000_000_000] {
                let target = Time(clock.local(5_000).0 + ahead);
                let world = clock.world(target);
                assert!(clock.local(world) >= target);
                let early = world.saturating_sub(4);
                assert!(world < 5_004 || clock.local(early) <= target, "ppm {ppm} ahead {ahead}");
            }
        }
    }

    #[test]
    fn local_time_never_goes_back() {
        let mut clock = Clock::new(0, 0);
        let mut last = Time::ZERO;
        for step in 0..1_000_u64 {
            let now = step * 1_000_003;
            match step % 7 {
                0 => clock.set_rate(now, -300),
                3 => clock.set_rate(now, 100_000),
                5 => clock.jump(now, step),
                _ => {}
            }
            assert!(clock.local(now) >= last);
            last = clock.local(now);
        }
    }
}
