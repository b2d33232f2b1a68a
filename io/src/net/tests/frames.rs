//! Records and packets, without sockets.

use bytes::Bytes;
use proptest::prelude::*;
use quorate_core::NodeId;
use quorate_core::wire::PACKET_BYTES_MAX;

use super::credentials;
use crate::net::frame::{FrameError, FrameReader, FrameWriter, PacketReader, RECORD_HEAD_BYTES};
use crate::net::handshake::Established;
use crate::net::handshake::messages::{Initiator, Responder};
use crate::net::handshake::session::{RECORD_BYTES_MAX, Session, SessionError, TAG_BYTES};

/// Both ends of a channel.
fn sessions() -> (Session, Session) {
    let (initiator, hello) = Initiator::new(&credentials(), NodeId(1));
    let (responder, challenge) = Responder::challenge(&credentials(), NodeId(2), &hello).unwrap();
    let (proving, proof) = initiator.prove(&challenge).unwrap();
    let (Established { session: b, .. }, answer) = responder.answer(&proof).unwrap();
    (proving.finish(&answer).unwrap().session, b)
}

fn direction() -> (FrameWriter, FrameReader) {
    let (a, b) = sessions();
    (FrameWriter::new(a.sealer), FrameReader::new(b.opener))
}

fn read_all(reader: &mut FrameReader) -> Result<Vec<Bytes>, FrameError> {
    let mut packets = Vec::new();
    while let Some(packet) = reader.next_packet()? {
        packets.push(packet);
    }
    Ok(packets)
}

#[test]
fn small_packets_share_a_record_and_long_ones_span_several() {
    let (mut writer, mut reader) = direction();
    for n in 0..100_u8 {
        writer.push(&[n; 10]).unwrap();
    }
    writer.flush().unwrap();
    let one_record = RECORD_HEAD_BYTES + 100 * 14 + TAG_BYTES;
    assert_eq!(writer.sealed().len(), one_record);
    let long = vec![9; PACKET_BYTES_MAX];
    writer.push(&long).unwrap();
    writer.flush().unwrap();
    for chunk in writer.sealed()[..one_record].chunks(7) {
        reader.buffer().extend_from_slice(chunk);
    }
    assert_eq!(read_all(&mut reader).unwrap().len(), 100);
    let mut packets = Vec::new();
    for chunk in writer.sealed()[one_record..].chunks(100_000) {
        reader.buffer().extend_from_slice(chunk);
        packets.extend(read_all(&mut reader).unwrap());
        assert!(reader.held_bytes() <= PACKET_BYTES_MAX + 2 * RECORD_BYTES_MAX + 100_000);
    }
    assert_eq!(packets, [long]);
    assert_eq!(reader.held_bytes(), 0);
}

#[test]
fn a_packet_above_the_bound_is_refused_before_anything_is_written() {
    let (mut writer, _) = direction();
    let error = writer.push(&vec![0; PACKET_BYTES_MAX + 1]).unwrap_err();
    assert_eq!(error, FrameError::PacketTooLong { bytes: PACKET_BYTES_MAX + 1 });
    writer.flush().unwrap();
    assert!(writer.sealed().is_empty());
}

#[test]
fn a_length_above_the_bound_is_refused_with_its_four_bytes() {
    for claimed in [u32::MAX, u32::try_from(PACKET_BYTES_MAX).unwrap() + 1] {
        let mut packets = PacketReader::default();
        packets.feed(&claimed.to_be_bytes());
        assert!(matches!(packets.next_packet(), Err(FrameError::PacketTooLong { .. })));
    }
}

#[test]
fn a_record_too_short_to_hold_anything_is_refused() {
    for length in 0..=u16::try_from(TAG_BYTES).unwrap() {
        let (_, mut reader) = direction();
        reader.buffer().extend_from_slice(&length.to_be_bytes());
        let bytes = usize::from(length);
        assert_eq!(reader.next_packet(), Err(FrameError::RecordTooShort { bytes }));
    }
}

#[test]
fn a_replayed_a_dropped_and_a_swapped_record_are_found_out() {
    let record = |writer: &mut FrameWriter, text: &[u8]| {
        writer.push(text).unwrap();
        writer.flush().unwrap();
        let sealed = writer.sealed().to_vec();
        writer.written(0);
        sealed
    };
    let forged = Err(FrameError::Session(SessionError::Forged));
    for order in [&[0, 0][..], &[1], &[1, 0], &[0, 2]] {
        let (mut writer, mut reader) = direction();
        let records: Vec<_> = [b"one", b"two", b"six"].map(|text| record(&mut writer, text)).into();
        for n in order {
            reader.buffer().extend_from_slice(&records[*n]);
        }
        assert_eq!(read_all(&mut reader), forged, "{order:?}");
    }
}

#[test]
fn what_one_direction_sealed_the_same_direction_does_not_open() {
    let (a, _) = sessions();
    let (mut writer, mut reader) = (FrameWriter::new(a.sealer), FrameReader::new(a.opener));
    writer.push(b"mirror").unwrap();
    writer.flush().unwrap();
    reader.buffer().extend_from_slice(writer.sealed());
    assert_eq!(reader.next_packet(), Err(FrameError::Session(SessionError::Forged)));
}

#[test]
fn keys_are_replaced_on_both_ends_at_the_same_record_in_both_directions() {
    let (a, b) = sessions();
    let (a, b) = (a.rekey_every(3), b.rekey_every(3));
    let mut forth = (FrameWriter::new(a.sealer), FrameReader::new(b.opener));
    let mut back = (FrameWriter::new(b.sealer), FrameReader::new(a.opener));
    for n in 0..20_u8 {
        for (writer, reader) in [&mut forth, &mut back] {
            writer.push(&[n]).unwrap();
            writer.flush().unwrap();
            reader.buffer().extend_from_slice(writer.sealed());
            writer.written(0);
            assert_eq!(read_all(reader).unwrap(), [vec![n]]);
        }
    }
}

#[test]
fn ends_that_replace_keys_at_different_records_do_not_understand_each_other() {
    let (a, b) = sessions();
    let mut writer = FrameWriter::new(a.rekey_every(2).sealer);
    let mut reader = FrameReader::new(b.opener);
    for _ in 0..3 {
        writer.push(b"x").unwrap();
        writer.flush().unwrap();
    }
    reader.buffer().extend_from_slice(writer.sealed());
    assert_eq!(read_all(&mut reader), Err(FrameError::Session(SessionError::Forged)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn packets_arrive_whole_and_in_order_however_they_are_cut(
        packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3000), 0..20),
        flushes in prop::collection::vec(any::<bool>(), 20),
        cut in 1_usize..5000,
    ) {
        let (mut writer, mut reader) = direction();
        for (packet, flush) in packets.iter().zip(&flushes) {
            writer.push(packet).unwrap();
            if *flush {
                writer.flush().unwrap();
            }
        }
        writer.flush().unwrap();
        let mut got = Vec::new();
        for chunk in writer.sealed().chunks(cut) {
            reader.buffer().extend_from_slice(chunk);
            got.extend(read_all(&mut reader).unwrap());
        }
        prop_assert_eq!(got, packets);
        prop_assert_eq!(reader.held_bytes(), 0);
    }

    #[test]
    fn a_changed_byte_lets_through_only_what_was_sealed_before_it(
        packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..200), 1..10),
        at in any::<prop::sample::Index>(),
        change in 1_u8..=255,
    ) {
        let (mut writer, mut reader) = direction();
        for packet in &packets {
            writer.push(packet).unwrap();
            writer.flush().unwrap();
        }
        let mut bytes = writer.sealed().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= change;
        reader.buffer().extend_from_slice(&bytes);
        let mut got: Vec<Bytes> = Vec::new();
        while let Ok(Some(packet)) = reader.next_packet() {
            got.push(packet);
        }
        prop_assert!(got.len() < packets.len());
        prop_assert!(got.iter().zip(&packets).all(|(got, sent)| got == sent));
    }

    #[test]
    fn garbage_never_panics_and_is_never_a_packet(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..2000), 0..20),
    ) {
        let (_, mut reader) = direction();
        for chunk in &chunks {
            reader.buffer().extend_from_slice(chunk);
            match reader.next_packet() {
                Ok(None) => {}
                Ok(Some(_)) => prop_assert!(false, "garbage was taken for a packet"),
                Err(_) => break,
            }
        }
    }

    #[test]
    fn the_packet_decoder_never_holds_more_than_it_was_fed(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..50),
    ) {
        let mut packets = PacketReader::default();
        let mut fed = 0;
        'all: for chunk in &chunks {
            packets.feed(chunk);
            fed += chunk.len();
            loop {
                prop_assert!(packets.held_bytes() <= fed);
                match packets.next_packet() {
                    Ok(Some(packet)) => fed -= packet.len() + 4,
                    Ok(None) => break,
                    Err(FrameError::PacketTooLong { bytes }) => {
                        prop_assert!(bytes > PACKET_BYTES_MAX);
                        break 'all;
                    }
                    Err(other) => prop_assert!(false, "{}", other),
                }
            }
        }
    }
}
