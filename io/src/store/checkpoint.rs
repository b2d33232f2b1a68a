//! A checkpoint: the live state as frames at the head of a segment.

use quorate_core::StorageOp;

use super::error::StoreError;
use super::item::{Batch, Change, decode_entry, decode_snapshot};
use super::shared::Shared;

/// A frame of a checkpoint is written when it has grown to this.
const FRAME_BYTES: usize = 4 * 1024 * 1024;

/// Writes the state as batches, in an order in which they rebuild it. Entries and snapshots are
/// copied as they lie, each one checked again on the way.
pub(super) fn write(
    shared: &Shared,
    mut frame: impl FnMut(&Batch) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let state = &shared.state;
    debug_assert!(!state.damage.any(), "damage is evidence: no checkpoint may replace it");
    let mut batch = Batch::default();
    let mut ops: Vec<StorageOp> = Vec::new();
    ops.extend(state.identity.clone().map(StorageOp::Identity));
    for (peer, start) in &state.peer_starts {
        ops.push(StorageOp::PeerStart { peer: *peer, start: *start });
    }
    for (log, held) in &state.logs {
        ops.push(StorageOp::HardState { log: *log, state: held.hard_state });
        let copy = held.copy.map(|generation| StorageOp::Copy { log: *log, generation });
        ops.extend(copy);
    }
    batch.extend(&Batch::encode(&ops).unwrap_or_default());
    for (log, held) in &state.logs {
        if let Some((index, place)) = held.snapshot {
            let item = shared.item(place)?;
            let sound =
                decode_snapshot(&item).is_some_and(|(of, s)| of == *log && s.index == index);
            if !sound {
                return Err(shared.unreadable(*log, index, place));
            }
            batch.push_raw(&item, |span| Change::Snapshot { log: *log, index, reset: false, span });
        }
        for (index, place) in &held.entries {
            let item = shared.item(*place)?;
            if !decode_entry(&item).is_some_and(|(of, e)| of == *log && e.index == *index) {
                return Err(shared.unreadable(*log, *index, *place));
            }
            batch.push_raw(&item, |span| Change::Entry(*log, *index, span));
            if batch.bytes.len() >= FRAME_BYTES {
                frame(&std::mem::take(&mut batch))?;
            }
        }
    }
    frame(&batch)
}
