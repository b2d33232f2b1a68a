//! Histories: batches of operations that keep the contract, and the state after each.

use bytes::Bytes;
use proptest::prelude::*;
use quorate_core::raft::{Entry, Index, Membership, Payload, Snapshot};
use quorate_core::{
    ClusterId, ConfigVersion, Generation, HardState, LogId, NodeId, Recovered, Start, StorageOp,
    Term,
};

use super::world::Dice;

/// One operation, still to be fitted to the state it meets.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Identity(u64),
    PeerStart(u64),
    HardState(u64, u64),
    Append { log: u64, back: u64, count: u64, bytes: usize },
    Truncate { log: u64, back: u64 },
    Snapshot { log: u64, back: u64, reset: bool, bytes: usize },
    Copy(u64, u64),
    DropLog(u64),
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => (0..9u64).prop_map(Step::Identity),
        1 => (0..9u64).prop_map(Step::PeerStart),
        2 => (0..3u64, 0..9u64).prop_map(|(log, n)| Step::HardState(log, n)),
        6 => (0..3u64, 0..3u64, 0..4u64, 0..6000usize)
            .prop_map(|(log, back, count, bytes)| Step::Append { log, back, count, bytes }),
        1 => (0..3u64, 0..3u64).prop_map(|(log, back)| Step::Truncate { log, back }),
        2 => (0..3u64, 0..4u64, any::<bool>(), 0..3000usize)
            .prop_map(|(log, back, reset, bytes)| Step::Snapshot { log, back, reset, bytes }),
        1 => (0..3u64, 1..9u64).prop_map(|(log, n)| Step::Copy(log, n)),
        1 => (0..3u64).prop_map(Step::DropLog),
    ]
}

pub(super) fn batches() -> impl Strategy<Value = Vec<Vec<Step>>> {
    prop::collection::vec(prop::collection::vec(step(), 1..4), 1..16)
}

/// A step drawn from the dice, for tests that run through seeds.
fn drawn(dice: &mut Dice) -> Step {
    let log = dice.roll() % 3;
    match dice.below(15) {
        0 => Step::Identity(dice.roll() % 9),
        1 => Step::PeerStart(dice.roll() % 9),
        2 | 3 => Step::HardState(log, dice.roll() % 9),
        4 => Step::Truncate { log, back: dice.roll() % 3 },
        5 | 6 => Step::Snapshot {
            log,
            back: dice.roll() % 4,
            reset: dice.below(2) == 0,
            bytes: dice.below(3000),
        },
        7 => Step::DropLog(log),
        8 => Step::Copy(log, 1 + dice.roll() % 8),
        _ => Step::Append {
            log,
            back: dice.roll() % 3,
            count: dice.roll() % 4,
            bytes: dice.below(6000),
        },
    }
}

pub(super) fn history(seed: u64, batches: usize) -> Vec<Vec<Step>> {
    let mut dice = Dice(seed);
    (0..batches).map(|_| (0..=dice.below(3)).map(|_| drawn(&mut dice)).collect()).collect()
}

impl Step {
    /// The operation this is in the given state.
    pub(super) fn op(&self, state: &Recovered) -> StorageOp {
        let last = |log: u64| {
            let held = state.logs.get(&LogId(log));
            let base = held.map_or(0, |held| held.snapshot.index.0);
            (base, held.and_then(|held| held.entries.last()).map_or(base, |entry| entry.index.0))
        };
        match *self {
            Self::Identity(n) => {
                let mut identity = state.identity.clone();
                identity.name = Some(format!("name-{n}"));
                identity.cluster = Some(ClusterId(u128::from(n)));
                let number = identity.starts.len() as u64 + 1;
                identity.starts.push(Start { number, nonce: n });
                StorageOp::Identity(identity)
            }
            Self::PeerStart(n) => StorageOp::PeerStart {
                peer: NodeId(u128::from(n % 3)),
                start: Start { number: n, nonce: n },
            },
            Self::HardState(log, n) => StorageOp::HardState {
                log: LogId(log),
                state: HardState { term: Term(n), vote: Some(NodeId(7)), commit: Index(n) },
            },
            Self::Append { log, back, count, bytes } => {
                let (base, last) = last(log);
                let first = (last + 1).saturating_sub(back).max(base + 1);
                let entry = |index| Entry {
                    index: Index(index),
                    term: Term(back),
                    payload: match bytes % 5 {
                        0 => Payload::Empty,
                        1 => Payload::Membership(Membership::founder(NodeId(1), ConfigVersion(2))),
                        _ => Payload::Data(Bytes::from(vec![0xAB; bytes])),
                    },
                };
                let entries = (first..first + count).map(entry).collect();
                StorageOp::Append { log: LogId(log), entries }
            }
            Self::Truncate { log, back } => {
                let (base, last) = last(log);
                let from = (last + 1).saturating_sub(back).max(base + 1);
                StorageOp::Truncate { log: LogId(log), from: Index(from) }
            }
            Self::Snapshot { log, back, reset, bytes } => {
                let (base, last) = last(log);
                let index = Index((last + 1).saturating_sub(back).max(base));
                let data = Bytes::from(vec![0xCD; bytes]);
                let snapshot = Snapshot { index, term: Term(1), data, ..Snapshot::default() };
                StorageOp::Snapshot { log: LogId(log), snapshot, reset }
            }
            Self::Copy(log, n) => StorageOp::Copy { log: LogId(log), generation: Generation(n) },
            Self::DropLog(log) => StorageOp::DropLog { log: LogId(log) },
        }
    }
}

/// The batches of a history as operations, and the state before the first and after each.
pub(super) fn play(
    start: &Recovered,
    batches: &[Vec<Step>],
) -> (Vec<Vec<StorageOp>>, Vec<Recovered>) {
    let mut state = start.clone();
    let mut states = vec![state.clone()];
    let mut all = Vec::new();
    for steps in batches {
        let mut ops = Vec::new();
        for step in steps {
            let op = step.op(&state);
            state.apply(&op);
            ops.push(op);
        }
        all.push(ops);
        states.push(state.clone());
    }
    (all, states)
}
