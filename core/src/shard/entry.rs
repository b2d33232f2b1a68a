//! What an entry of a shard's log carries.

use bytes::{BufMut as _, Bytes, BytesMut};

/// The effects of a batch of transactions.
const EFFECTS: u8 = 1;

/// Wraps the effects of a batch for the log.
pub(super) fn encode(effects: &Bytes) -> Bytes {
    let mut data = BytesMut::with_capacity(effects.len() + 1);
    data.put_u8(EFFECTS);
    data.put_slice(effects);
    data.freeze()
}

/// The effects in an entry; `None` if a later version made it.
#[must_use]
pub fn effects(data: &Bytes) -> Option<Bytes> {
    match data.first() {
        Some(&EFFECTS) => Some(data.slice(1..)),
        _ => None,
    }
}
