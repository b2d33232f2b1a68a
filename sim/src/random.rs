//! Separate streams of random numbers, one for each part of the world.
//!
//! The parts draw from their own streams so that a change of one (another workload, say) leaves
//! what the others draw as it was. All draws are integers: floating point differs by platform.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::hash::mix;

/// Which part of the world draws.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Stream {
    /// What exists at all: hosts, rates, timings.
    Plan = 1,
    /// Delays, losses, resets.
    Network = 2,
    /// Sync latencies and what survives a crash.
    Disks = 3,
    /// Offsets and drifts.
    Clocks = 4,
    /// What operators do.
    Workload = 5,
    /// Which faults happen when.
    Faults = 6,
    /// The seeds handed to the nodes, and their ids.
    Nodes = 7,
    /// Databases, engines, and their clients: what exists of them at all.
    Databases = 8,
    /// Delays and failures of engines.
    Engines = 9,
    /// What clients do.
    Clients = 10,
    /// Which clients use sessions, and how they send what they send again.
    Sessions = 11,
    /// Clients that go on with another server when one is gone: which there are, what they do, their
    /// connections and what happens to those.
    Failover = 12,
}

/// One stream.
#[derive(Debug)]
pub struct Dice {
    rng: ChaCha8Rng,
    hash: u64,
}

/// One in so many: chances are counted in parts per million.
pub const MILLION: u32 = 1_000_000;

impl Dice {
    /// The stream of one part in the world of `seed`.
    #[must_use]
    pub fn new(seed: u64, stream: Stream) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream as u64);
        Self { rng, hash: stream as u64 }
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        let drawn = self.rng.next_u64();
        self.hash = mix(self.hash, drawn);
        drawn
    }

    /// The next 128 bits.
    pub fn wide(&mut self) -> u128 {
        (u128::from(self.bits()) << 64) | u128::from(self.bits())
    }

    /// Uniform below `bound`; 0 if `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.bits()) * u128::from(bound);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// Uniform from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// Uniform index below `len`.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }

    /// True in `ppm` of a million draws. What never or always happens draws nothing.
    pub fn chance(&mut self, ppm: u32) -> bool {
        match ppm {
            0 => false,
            MILLION.. => true,
            _ => self.below(u64::from(MILLION)) < u64::from(ppm),
        }
    }

    /// True once in `n`.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One of `choices`.
    ///
    /// # Panics
    /// If there is none.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.index(choices.len())]
    }

    /// An index, each as likely as its weight says; 0 if all weights are 0.
    pub fn weighted(&mut self, weights: &[u32]) -> usize {
        let total: u64 = weights.iter().map(|w| u64::from(*w)).sum();
        let mut drawn = self.below(total);
        for (index, weight) in weights.iter().enumerate() {
            if drawn < u64::from(*weight) {
                return index;
            }
            drawn -= u64::from(*weight);
        }
        0
    }

    /// A duration around `mean` with a long tail: mostly below it, at times eight times as long.
    pub fn tailed(&mut self, mean: u64) -> u64 {
        let base = self.below(mean.saturating_mul(3) / 2);
        if self.one_in(16) { base.saturating_add(self.below(mean.saturating_mul(8))) } else { base }
    }

    /// A number that stands for everything drawn so far.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_one_seed_differ_and_repeat() {
        let draw = |seed, stream| {
            let mut dice = Dice::new(seed, stream);
            [dice.bits(), dice.bits(), dice.bits()]
        };
        assert_eq!(draw(7, Stream::Network), draw(7, Stream::Network));
        assert_ne!(draw(7, Stream::Network), draw(7, Stream::Disks));
        assert_ne!(draw(7, Stream::Network), draw(8, Stream::Network));
    }

    #[test]
    fn draws_stay_within_their_bounds() {
        let mut dice = Dice::new(1, Stream::Plan);
        for _ in 0..10_000 {
            assert!((3..=9).contains(&dice.between(3, 9)));
            assert!(dice.index(5) < 5);
            assert!(dice.weighted(&[0, 2, 0, 3]) % 2 == 1);
        }
        assert!(!dice.chance(0));
        assert!(dice.chance(MILLION));
    }
}
