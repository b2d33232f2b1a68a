//! The messages of the handshake, each replaced by or mixed with bytes from outside. Whoever does
//! not know the credentials is refused.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use quorate_core::NodeId;
use quorate_io::net::Credentials;
use quorate_io::net::handshake::messages::{Initiator, Responder};

fuzz_target!(|changes: Vec<(u8, u8, u8)>| {
    static CREDENTIALS: OnceLock<Credentials> = OnceLock::new();
    let credentials = CREDENTIALS.get_or_init(|| Credentials::derive("group", "password", None));
    // Each change: which message, where, and what is added to the byte there. Says whether the
    // message is another afterwards: two changes may undo each other.
    let change = |message: u8, bytes: &mut [u8]| {
        let before = bytes.to_vec();
        for (_, at, add) in changes.iter().filter(|(m, ..)| m % 4 == message) {
            let at = usize::from(*at) % bytes.len();
            bytes[at] = bytes[at].wrapping_add(*add);
        }
        before != bytes
    };
    let (initiator, mut hello) = Initiator::new(credentials, NodeId(1));
    let mut changed = change(0, &mut hello);
    let Ok((responder, mut challenge)) = Responder::challenge(credentials, NodeId(2), &hello)
    else {
        return;
    };
    changed |= change(1, &mut challenge);
    let Ok((proving, mut proof)) = initiator.prove(&challenge) else { return };
    changed |= change(2, &mut proof);
    let Ok((_, mut answer)) = responder.answer(&proof) else {
        return assert!(changed, "an untouched proof was refused");
    };
    assert!(!changed, "a changed message was accepted by the responder");
    changed |= change(3, &mut answer);
    assert_eq!(proving.finish(&answer).is_err(), changed);
});
