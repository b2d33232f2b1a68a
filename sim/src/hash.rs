//! One rolling hash over everything that happens: two runs of a seed must agree in it.

/// Folds one word into a hash.
#[must_use]
pub fn mix(hash: u64, word: u64) -> u64 {
    (hash.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Folds bytes into a hash, eight at a time.
#[must_use]
pub fn mix_bytes(mut hash: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        hash = mix(hash, u64::from_le_bytes(*word));
    }
    for byte in rest {
        hash = mix(hash, u64::from(*byte));
    }
    mix(hash, bytes.len() as u64)
}

/// The hash of a run after each of its events, or only after the last.
#[derive(Debug, Default)]
pub struct Fingerprint {
    hash: u64,
    events: u64,
    /// After each event, when asked for.
    record: Option<Vec<u64>>,
    /// What an earlier run of the same seed recorded, and the first event that differed from it.
    expected: Option<Vec<u64>>,
    differs_at: Option<u64>,
}

impl Fingerprint {
    /// Remembers the hash after each event, to compare another run with.
    #[must_use]
    pub fn recording() -> Self {
        Self { record: Some(Vec::new()), ..Self::default() }
    }

    /// Compares each event with what an earlier run recorded.
    #[must_use]
    pub fn comparing(expected: Vec<u64>) -> Self {
        Self { expected: Some(expected), ..Self::default() }
    }

    /// Folds one word of the event that is under way.
    pub fn word(&mut self, word: u64) {
        self.hash = mix(self.hash, word);
    }

    /// Folds bytes of the event that is under way.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.hash = mix_bytes(self.hash, bytes);
    }

    /// The event has ended.
    pub fn end_event(&mut self) {
        self.events += 1;
        if let Some(record) = &mut self.record {
            record.push(self.hash);
        }
        if let Some(expected) = &self.expected {
            let at = usize::try_from(self.events - 1).unwrap_or(usize::MAX);
            if self.differs_at.is_none() && expected.get(at) != Some(&self.hash) {
                self.differs_at = Some(self.events - 1);
            }
        }
    }

    /// How many events there were.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The hash of all so far.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The first event, counted from 0, in which this run differs from the one it is compared with.
    #[must_use]
    pub fn differs_at(&self) -> Option<u64> {
        let shorter = self.expected.as_ref().is_some_and(|e| e.len() as u64 > self.events);
        self.differs_at.or_else(|| shorter.then_some(self.events))
    }

    /// What was recorded.
    #[must_use]
    pub fn into_record(self) -> Vec<u64> {
        self.record.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(words: &[u64], mut print: Fingerprint) -> Fingerprint {
        for word in words {
            print.word(*word);
            print.end_event();
        }
        print
    }

    #[test]
    fn the_first_event_that_differs_is_named() {
        let record = run(&[1, 2, 3, 4], Fingerprint::recording()).into_record();
        let same = run(&[1, 2, 3, 4], Fingerprint::comparing(record.clone()));
        assert_eq!(same.differs_at(), None);
        let other = run(&[1, 2, 9, 4], Fingerprint::comparing(record.clone()));
        assert_eq!(other.differs_at(), Some(2));
        let longer = run(&[1, 2, 3, 4, 5], Fingerprint::comparing(record.clone()));
        assert_eq!(longer.differs_at(), Some(4));
        let shorter = run(&[1, 2, 3], Fingerprint::comparing(record));
        assert_eq!(shorter.differs_at(), Some(3));
    }

    #[test]
    fn bytes_of_any_length_change_the_hash() {
        let mut seen = std::collections::BTreeSet::new();
        for length in 0..40 {
            assert!(seen.insert(mix_bytes(0, &vec![0; length])), "{length} zero bytes collide");
        }
    }
}
