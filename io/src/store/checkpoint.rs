//! A checkpoint: the state as frames at the head of a segment, but for the entries that stay where
//! they are.
//!
//! A segment of which little is live goes: what is live in it is *carried over* into the checkpoint.
//! The others are kept, and named by it. So what a checkpoint costs is bounded by what it frees and by
//! [`Options::carry_bytes_max`], however much the logs retain.

use quorate_core::{LogId, StorageOp};

use super::Options;
use super::error::StoreError;
use super::item::{Batch, Checkpoint, Kept, decode_entry, decode_snapshot};
use super::shared::Shared;

/// A frame of a checkpoint is written when it has grown to this.
const FRAME_BYTES: usize = 4 * 1024 * 1024;

/// A checkpoint to be.
#[derive(Default)]
pub(super) struct Plan {
    /// The segments that are needed no more once it is written.
    pub(super) gone: Vec<u64>,
    /// Those that are.
    kept: Vec<Kept>,
    /// What is carried over from those that go.
    carried: Vec<Batch>,
}

/// Whether a checkpoint pays, and what it is to do: it may write at most a quarter of what it frees.
/// Never while something is damaged: the evidence must stay. Once all is healed it must go: what
/// healed it is not said again by a checkpoint, so that a segment which shows it must not be kept.
pub(super) fn plan(shared: &Shared, options: &Options) -> Option<Plan> {
    if shared.state.damage.any() {
        return None;
    }
    let live = shared.state.live_bytes();
    let mut little: Vec<(bool, u64, u64, u64)> = shared
        .segments
        .iter()
        .map(|(number, held)| {
            (!held.rotten, live.get(number).copied().unwrap_or(0), *number, held.size)
        })
        .filter(|(sound, live, _, size)| !sound || *live <= size / 4)
        .collect();
    // Those that must go come first, and whatever they cost.
    little.sort_unstable();
    let mut cost = 0;
    little.retain(|(sound, live, ..)| {
        cost += live;
        !sound || cost <= options.carry_bytes_max
    });
    let freed: u64 = little.iter().map(|(.., size)| size).sum();
    let carried: u64 = little.iter().map(|(_, live, ..)| live).sum();
    let cost = carried + shared.state.small_bytes();
    if freed < options.checkpoint_bytes_min || cost > freed / 4 {
        return None;
    }
    let mut plan = Plan::default();
    for (sound, _, number, _) in little {
        match carry(shared, number) {
            Ok(batches) => {
                plan.carried.extend(batches);
                plan.gone.push(number);
            }
            // It stays where it is, for whoever asks for it to find out.
            Err(error) => {
                tracing::error!(%error, "an old log segment is kept");
                if !sound {
                    return None;
                }
            }
        }
    }
    let stays = |number: &u64| !plan.gone.contains(number);
    let kept = shared.segments.iter().filter(|(number, _)| stays(number));
    plan.kept = kept
        .map(|(number, segment)| Kept { number: *number, salt: segment.salt, end: segment.end })
        .collect();
    (!plan.gone.is_empty()).then_some(plan)
}

/// What is live in a segment, each item checked again on the way.
fn carry(shared: &Shared, segment: u64) -> Result<Vec<Batch>, StoreError> {
    let mut batches = Vec::new();
    let mut batch = Batch::default();
    for (log, held) in &shared.state.logs {
        for (mark, place) in held.entries.in_segment(segment) {
            let unreadable = || shared.unreadable(*log, mark.index, place);
            let found = decode_entry(&shared.item(place)?);
            let found = found.filter(|(of, entry)| of == log && entry.index == mark.index);
            let (_, entry) = found.ok_or_else(unreadable)?;
            batch.push_carried(*log, &entry).map_err(|_| unreadable())?;
            if batch.bytes.len() >= FRAME_BYTES {
                batches.push(std::mem::take(&mut batch));
            }
        }
    }
    batches.push(batch);
    Ok(batches)
}

/// Writes the state as batches, in an order in which they rebuild it.
pub(super) fn write(
    shared: &Shared,
    plan: &Plan,
    mut frame: impl FnMut(&Batch) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let state = &shared.state;
    debug_assert!(!state.damage.any(), "damage is evidence: no checkpoint may replace it");
    let mut batch = Batch::default();
    let logs = state.logs.iter().map(|(log, held)| {
        let base = held.snapshot.map(|(index, _)| index).unwrap_or_default();
        (*log, held.entries.last().unwrap_or(base))
    });
    let checkpoint = Checkpoint { kept: plan.kept.clone(), logs: logs.collect() };
    // Far below the bound: some bytes for each segment and each log.
    batch.push_checkpoint(checkpoint).unwrap_or_default();
    batch.extend(&Batch::encode(&small(shared)).unwrap_or_default());
    for (log, held) in &state.logs {
        if let Some((index, place)) = held.snapshot {
            let found = decode_snapshot(&shared.item(place)?);
            let found = found.filter(|(of, snapshot)| of == log && snapshot.index == index);
            let (log, snapshot) = found.ok_or_else(|| shared.unreadable(*log, index, place))?;
            // It may have been a reset; the entries that stay where they are must outlive it here.
            let op = StorageOp::Snapshot { log, snapshot, reset: false };
            batch.extend(&Batch::encode(&[op]).unwrap_or_default());
        }
        if batch.bytes.len() >= FRAME_BYTES {
            frame(&std::mem::take(&mut batch))?;
        }
    }
    frame(&batch)?;
    plan.carried.iter().filter(|batch| !batch.changes.is_empty()).try_for_each(frame)
}

fn small(shared: &Shared) -> Vec<StorageOp> {
    let state = &shared.state;
    let mut ops: Vec<StorageOp> = Vec::new();
    ops.extend(state.identity.clone().map(StorageOp::Identity));
    for (peer, start) in &state.peer_starts {
        ops.push(StorageOp::PeerStart { peer: *peer, start: *start });
    }
    for (log, held) in &state.logs {
        let log: LogId = *log;
        ops.push(StorageOp::HardState { log, state: held.hard_state });
        ops.extend(held.copy.map(|generation| StorageOp::Copy { log, generation }));
    }
    ops
}
