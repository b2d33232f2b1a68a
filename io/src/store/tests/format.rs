//! The codec of frames and segment headers.

use std::collections::BTreeSet;

use proptest::prelude::*;
use quorate_core::{LogId, NodeId};

use super::super::frame::{
    BLOCK, FrameHeader, Kind, Position, SegmentHeader, encode_frame, frame_bytes_max,
};
use super::super::item::{Touched, decode_changes, decode_entry, decode_snapshot};

const SEGMENT: SegmentHeader = SegmentHeader {
    number: 5,
    salt: 77,
    first_frame: 100,
    born_with: 2,
    previous_salt: 76,
    size: 1 << 20,
    checkpoint: true,
    node: NodeId(1 << 100),
};

/// A segment that holds one frame, at the second block.
fn segment_with_frame(touched: &Touched, payload: &[u8]) -> Vec<u8> {
    let at = Position { segment: 5, salt: 77, offset: BLOCK, number: 103, synced: 102 };
    let mut frame = Vec::new();
    encode_frame(&mut frame, at, Kind::Data, touched, payload);
    assert!(frame.len() as u64 <= frame_bytes_max(payload.len()));
    [SEGMENT.encode(), frame].concat()
}

#[test]
fn a_segment_header_comes_back_as_written_and_not_with_any_bit_changed() {
    let block = SEGMENT.encode();
    assert_eq!(SegmentHeader::decode(&block), Some(SEGMENT));
    for bit in 0..80 * 8 {
        let mut changed = block.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(SegmentHeader::decode(&changed), None, "bit {bit}");
    }
}

#[test]
fn a_frame_counts_only_in_its_own_segment_and_place() {
    let bytes = segment_with_frame(&Touched::default(), &[9; 100]);
    assert!(FrameHeader::decode(&SEGMENT, &bytes, BLOCK).is_some());
    let other_salt = SegmentHeader { salt: 78, ..SEGMENT };
    assert_eq!(FrameHeader::decode(&other_salt, &bytes, BLOCK), None);
    let other_number = SegmentHeader { number: 6, ..SEGMENT };
    assert_eq!(FrameHeader::decode(&other_number, &bytes, BLOCK), None);
    let moved = [vec![0; 4096], bytes].concat();
    assert_eq!(FrameHeader::decode(&SEGMENT, &moved, 2 * BLOCK), None);
}

proptest! {
    #[test]
    fn a_frame_comes_back_as_written_and_not_with_any_bit_changed(
        payload in prop::collection::vec(any::<u8>(), 0..9000),
        logs in prop::collection::btree_set(any::<u64>().prop_map(LogId), 0..140),
        identity in any::<bool>(),
        peers in any::<bool>(),
        bit in any::<prop::sample::Index>(),
    ) {
        let touched = Touched { identity, peers, everything: false, logs };
        let bytes = segment_with_frame(&touched, &payload);
        let found = FrameHeader::decode(&SEGMENT, &bytes, BLOCK).expect("just written");
        prop_assert_eq!((found.number, found.synced, found.kind), (103, 102, Kind::Data));
        prop_assert_eq!(found.payload(&bytes), Some(&payload[..]));
        prop_assert_eq!(found.stride() + BLOCK, bytes.len() as u64);
        // Too many logs to list are written as "everything".
        let listed = touched.logs.len() <= 128;
        prop_assert_eq!(found.touched.everything, !listed);
        let logs = if listed { touched.logs } else { BTreeSet::new() };
        prop_assert_eq!(&found.touched.logs, &logs);
        prop_assert_eq!((found.touched.identity, found.touched.peers), (identity, peers));

        let used = found.header_bytes as usize + payload.len();
        let bit = bit.index(used * 8);
        let mut changed = bytes.clone();
        changed[4096 + bit / 8] ^= 1 << (bit % 8);
        let sound = FrameHeader::decode(&SEGMENT, &changed, BLOCK)
            .is_some_and(|header| header.payload(&changed).is_some());
        prop_assert!(!sound, "bit {} was changed unnoticed", bit);
    }

    #[test]
    fn decoding_arbitrary_bytes_never_panics(
        bytes in prop::collection::vec(any::<u8>(), 0..5000),
        sound in any::<bool>(),
    ) {
        let _ = SegmentHeader::decode(&bytes);
        let _ = FrameHeader::decode(&SEGMENT, &bytes, 0);
        // Also behind a length and a checksum that are right.
        let mut item = bytes;
        if sound && item.len() >= 8 {
            let length = u32::try_from(item.len() - 8).expect("it is short");
            let crc = crc32c::crc32c(&item[8..]);
            item[..4].copy_from_slice(&length.to_le_bytes());
            item[4..8].copy_from_slice(&crc.to_le_bytes());
        }
        if let Some(changes) = decode_changes(&item) {
            prop_assert!(changes.len() <= item.len());
        }
        let _ = (decode_entry(&item), decode_snapshot(&item));
    }
}
