//! Core's codec: packets and datagrams. What decodes must encode and decode to the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quorate_core::wire::{decode_announce, decode_packet, encode_announce, encode_packet};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(packet) = decode_packet(bytes) {
        assert_eq!(decode_packet(&encode_packet(&packet)), Ok(packet));
    }
    if let Ok(announce) = decode_announce(bytes) {
        assert_eq!(decode_announce(&encode_announce(&announce)), Ok(announce));
    }
});
