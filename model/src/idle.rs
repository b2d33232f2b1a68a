//! Deliveries that leave their receiver as it is. Most do, in the same way in a great many states, for
//! what a replica does depends on itself and the letter alone: what was seen once is not done again.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::network::{Letter, is_dead};
use crate::state::{Host, State, digest};

/// Beyond this, a thread begins anew.
const KNOWN_MAX: usize = 1 << 20;

thread_local! {
    /// What is sent upon a delivery that changes nothing, by search, receiver and letter. Each thread
    /// of a search has its own.
    static KNOWN: RefCell<HashMap<u64, Vec<Letter>>> = RefCell::default();
}

/// Counts searches.
static SEARCHES: AtomicU64 = AtomicU64::new(0);

/// The idle deliveries of one search.
#[derive(Debug)]
pub(crate) struct Idle {
    search: u64,
}

impl Default for Idle {
    fn default() -> Self {
        Self { search: SEARCHES.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Idle {
    fn key(&self, host: &Host, letter: &Letter, late: bool) -> u64 {
        digest(&(self.search, host.digest, letter, late))
    }

    /// The delivery has changed nothing, and was answered so.
    pub(crate) fn note(&self, host: &Host, letter: &Letter, late: bool, answers: Vec<Letter>) {
        KNOWN.with_borrow_mut(|known| {
            if known.len() >= KNOWN_MAX {
                known.clear();
            }
            known.insert(self.key(host, letter, late), answers);
        });
    }

    /// Whether the delivery is known to change nothing, what it is answered with being on its way.
    pub(crate) fn is_known(&self, state: &State, letter: &Letter, late: bool) -> bool {
        let key = self.key(state.host(letter.to), letter, late);
        let there = |answer: &Letter| {
            let receiver = state.hosts.iter().find(|(id, _)| *id == answer.to);
            receiver.is_none_or(|(_, peer)| is_dead(&answer.message, peer))
                || state.network.has(answer)
        };
        KNOWN.with_borrow(|known| known.get(&key).is_some_and(|answers| answers.iter().all(there)))
    }
}
