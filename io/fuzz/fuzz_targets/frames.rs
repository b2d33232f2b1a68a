//! The stream of packets inside a link, as an authenticated but malicious peer could send it, and
//! the records around it, as a stranger could change them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quorate_core::NodeId;
use quorate_core::wire::PACKET_BYTES_MAX;
use quorate_io::net::Credentials;
use quorate_io::net::frame::{FrameReader, FrameWriter, PacketReader};
use quorate_io::net::handshake::messages::{Initiator, Responder};
use std::sync::OnceLock;

fuzz_target!(|chunks: Vec<Vec<u8>>| {
    plaintext(&chunks);
    records(&chunks);
});

fn plaintext(chunks: &[Vec<u8>]) {
    let mut packets = PacketReader::default();
    let mut held = 0;
    for chunk in chunks {
        packets.feed(chunk);
        held += chunk.len();
        loop {
            assert_eq!(packets.held_bytes(), held);
            match packets.next_packet() {
                Ok(Some(packet)) => {
                    assert!(packet.len() <= PACKET_BYTES_MAX);
                    held -= packet.len() + 4;
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

/// The first chunk is a genuine packet; the others follow it unsealed.
fn records(chunks: &[Vec<u8>]) {
    static CREDENTIALS: OnceLock<Credentials> = OnceLock::new();
    let credentials = CREDENTIALS.get_or_init(|| Credentials::derive("group", "password", None));
    let (initiator, hello) = Initiator::new(credentials, NodeId(1));
    let Ok((responder, challenge)) = Responder::challenge(credentials, NodeId(2), &hello) else {
        unreachable!("a genuine hello is answered")
    };
    let Ok((proving, proof)) = initiator.prove(&challenge) else {
        unreachable!("a genuine challenge is answered")
    };
    let Ok((ours, answer)) = responder.answer(&proof) else {
        unreachable!("a genuine proof is accepted")
    };
    let Ok(theirs) = proving.finish(&answer) else { unreachable!("a genuine answer is accepted") };
    let mut writer = FrameWriter::new(theirs.session.sealer);
    let mut reader = FrameReader::new(ours.session.opener);
    let Some((genuine, rest)) = chunks.split_first() else { return };
    if writer.push(genuine).and_then(|()| writer.flush()).is_err() {
        return;
    }
    reader.buffer().extend_from_slice(writer.sealed());
    assert_eq!(reader.next_packet().unwrap().as_deref(), Some(&genuine[..]));
    for chunk in rest {
        reader.buffer().extend_from_slice(chunk);
        match reader.next_packet() {
            Ok(packet) => assert_eq!(packet, None, "garbage was taken for a packet"),
            Err(_) => return,
        }
    }
}
