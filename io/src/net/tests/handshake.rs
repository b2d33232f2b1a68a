//! The handshake, without sockets.

use std::time::Duration;

use proptest::prelude::*;
use quorate_core::NodeId;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::timeout;

use super::{PATIENCE, credentials, settings, wrong};
use crate::net::handshake::messages::{
    ANSWER_BYTES, CHALLENGE_BYTES, HEAD_BYTES, HELLO_BYTES, Initiator, MAGIC, PROOF_BYTES,
    PROTOCOL_VERSION, Responder, refusal,
};
use crate::net::handshake::{Established, HandshakeError, initiate, respond};
use crate::net::{Credentials, EncryptionSettings};

const A: NodeId = NodeId(0xa);
const B: NodeId = NodeId(0xb);

type Outcome = Result<Established, HandshakeError>;

/// Runs a handshake in which `on_the_way(message, bytes)` may change each of the four messages.
/// A responder that refuses answers with a refusal, as the transport does.
fn exchange(
    initiators: &Credentials,
    responders: &Credentials,
    on_the_way: impl Fn(usize, &mut [u8]),
) -> (Outcome, Outcome) {
    let (initiator, mut hello) = Initiator::new(initiators, A);
    on_the_way(1, &mut hello);
    let (responder, mut challenge) = match Responder::challenge(responders, B, &hello) {
        Ok(challenged) => challenged,
        Err(error) => return (Err(HandshakeError::NotQuorate), Err(error)),
    };
    on_the_way(2, &mut challenge);
    let (proving, mut proof) = match initiator.prove(&challenge) {
        Ok(proven) => proven,
        Err(error) => return (Err(error), Err(HandshakeError::NotQuorate)),
    };
    on_the_way(3, &mut proof);
    let (responded, mut answer) = match responder.answer(&proof) {
        Ok((established, answer)) => (Ok(established), answer),
        Err(error) => (Err(error), refusal()),
    };
    on_the_way(4, &mut answer);
    (proving.finish(&answer), responded)
}

fn is_refused(outcome: &Outcome) -> bool {
    matches!(outcome, Err(HandshakeError::Refused))
}

#[test]
fn equal_credentials_give_a_channel_and_prove_the_ids() {
    let (initiated, responded) = exchange(&credentials(), &credentials(), |_, _| {});
    let (mut a, mut b) = (initiated.unwrap(), responded.unwrap());
    assert_eq!((a.peer, b.peer), (B, A));
    for text in [&b"first"[..], b"", b"second"] {
        let (mut sealed, mut plain) = (Vec::new(), vec![0; text.len()]);
        a.session.sealer.seal(text, &mut sealed).unwrap();
        assert_eq!(b.session.opener.open(&sealed, &mut plain), Ok(text.len()));
        assert_eq!(plain, text);
        sealed.clear();
        b.session.sealer.seal(text, &mut sealed).unwrap();
        assert_eq!(a.session.opener.open(&sealed, &mut plain), Ok(text.len()));
    }
}

#[test]
fn equal_encryption_settings_fit_and_any_difference_in_them_is_refused() {
    fn derive(settings: &EncryptionSettings) -> Credentials {
        Credentials::derive("group", "password", Some(settings))
    }
    let ours = derive(&settings("thepass", "thesalt", 19));
    let (initiated, responded) =
        exchange(&ours, &derive(&settings("thepass", "thesalt", 19)), |_, _| {});
    assert!(initiated.is_ok() && responded.is_ok());
    let others = [
        settings("thepas", "sthesalt", 19),
        settings("thepass", "thesalz", 19),
        settings("thepass", "thesalt", 20),
    ];
    for other in &others {
        let (initiated, responded) = exchange(&ours, &derive(other), |_, _| {});
        assert!(is_refused(&initiated) && is_refused(&responded), "{}", other.iteration_count);
    }
}

#[test]
fn whatever_differs_both_ends_refuse_alike() {
    for (what, other) in wrong() {
        for (initiators, responders) in [(other, &credentials()), (&credentials(), other)] {
            let (initiated, responded) = exchange(initiators, responders, |_, _| {});
            assert!(is_refused(&initiated), "{what}");
            assert!(is_refused(&responded), "{what}");
            let texts = [initiated, responded].map(|o| o.err().unwrap().to_string());
            assert_eq!(texts[0], texts[1]);
            assert!(texts[0].contains("group name, password or encryption settings differ"));
        }
    }
}

#[test]
fn a_man_in_the_middle_who_swaps_an_id_is_refused_by_both() {
    for message in [1, 2] {
        let (initiated, responded) = exchange(&credentials(), &credentials(), |n, bytes| {
            if n == message {
                bytes[HEAD_BYTES..HELLO_BYTES].copy_from_slice(&0xc_u128.to_be_bytes());
            }
        });
        assert!(is_refused(&initiated), "message {message}");
        assert!(is_refused(&responded), "message {message}");
    }
}

#[test]
fn a_recorded_handshake_proves_nothing_a_second_time() {
    let recorded = std::cell::RefCell::new(Vec::new());
    let (initiated, responded) = exchange(&credentials(), &credentials(), |_, bytes| {
        recorded.borrow_mut().push(bytes.to_vec());
    });
    assert!(initiated.is_ok() && responded.is_ok());
    let recorded = recorded.into_inner();
    // To the responder: the initiator's messages again.
    let (_, responded) = exchange(&credentials(), &credentials(), |n, bytes| {
        if n == 1 || n == 3 {
            bytes.copy_from_slice(&recorded[n - 1]);
        }
    });
    assert!(is_refused(&responded));
    // To the initiator: the responder's.
    let (initiated, _) = exchange(&credentials(), &credentials(), |n, bytes| {
        if n == 2 || n == 4 {
            bytes.copy_from_slice(&recorded[n - 1]);
        }
    });
    assert!(is_refused(&initiated));
}

#[test]
fn a_peer_that_only_mirrors_is_refused() {
    // It returns the initiator's own element and confirmation.
    let (initiator, hello) = Initiator::new(&credentials(), A);
    let mut challenge = [0; CHALLENGE_BYTES];
    challenge[..HELLO_BYTES].copy_from_slice(&hello);
    let (proving, proof) = initiator.prove(&challenge).unwrap();
    let mut answer = [0; ANSWER_BYTES];
    answer.copy_from_slice(&proof[32..]);
    assert!(is_refused(&proving.finish(&answer)));
}

#[test]
fn elements_of_small_order_or_none_are_refused_like_a_wrong_password() {
    let identity = {
        let mut bytes = [0; 32];
        bytes[0] = 1;
        bytes
    };
    let no_point = [0xff; 32];
    for element in [identity, [0; 32], no_point] {
        for (message, at) in [(2, HELLO_BYTES), (3, 0)] {
            let (initiated, responded) = exchange(&credentials(), &credentials(), |n, bytes| {
                if n == message {
                    bytes[at..at + 32].copy_from_slice(&element);
                }
            });
            assert!(is_refused(&initiated) && is_refused(&responded));
        }
    }
}

/// What a listener sees of one handshake: the bytes of each direction.
async fn overheard(initiators: Credentials, responders: Credentials) -> (Vec<u8>, Vec<u8>) {
    async fn pump(
        mut from: impl AsyncReadExt + Unpin,
        mut to: impl AsyncWriteExt + Unpin,
    ) -> Vec<u8> {
        let mut seen = Vec::new();
        let mut buffer = [0; 512];
        while let Ok(bytes @ 1..) = from.read(&mut buffer).await {
            seen.extend_from_slice(&buffer[..bytes]);
            if to.write_all(&buffer[..bytes]).await.is_err() {
                break;
            }
        }
        seen
    }
    let (mut a, left) = duplex(1024);
    let (right, mut b) = duplex(1024);
    let (left_read, left_write) = tokio::io::split(left);
    let (right_read, right_write) = tokio::io::split(right);
    let forth = tokio::spawn(pump(left_read, right_write));
    let back = tokio::spawn(pump(right_read, left_write));
    let initiating = async {
        let _ = initiate(&mut a, &initiators, A).await;
        drop(a);
    };
    let responding = async {
        if let Err(HandshakeError::Refused) = respond(&mut b, &responders, B).await {
            b.write_all(&refusal()).await.unwrap();
        }
        drop(b);
    };
    timeout(PATIENCE, async { tokio::join!(initiating, responding) }).await.unwrap();
    (forth.await.unwrap(), back.await.unwrap())
}

#[tokio::test]
async fn a_listener_sees_the_same_shape_whether_the_credentials_are_right_or_wrong() {
    let right = overheard(credentials(), credentials()).await;
    assert_eq!(right.0.len(), HELLO_BYTES + PROOF_BYTES);
    assert_eq!(right.1.len(), CHALLENGE_BYTES + ANSWER_BYTES);
    for (what, other) in wrong() {
        let seen = overheard(credentials(), other.clone()).await;
        assert_eq!((seen.0.len(), seen.1.len()), (right.0.len(), right.1.len()), "{what}");
        // What is not random is equal, and holds nothing but magic, version and id.
        assert_eq!(seen.0[..HELLO_BYTES], right.0[..HELLO_BYTES], "{what}");
        assert_eq!(seen.1[..HELLO_BYTES], right.1[..HELLO_BYTES], "{what}");
        assert_ne!(seen.0[HELLO_BYTES..], right.0[HELLO_BYTES..], "{what}");
    }
}

#[tokio::test]
async fn nothing_of_two_handshakes_with_one_password_is_equal_but_magic_version_and_ids() {
    let (one, two) = (
        overheard(credentials(), credentials()).await,
        overheard(credentials(), credentials()).await,
    );
    for (one, two) in [(&one.0, &two.0), (&one.1, &two.1)] {
        let later = one[HELLO_BYTES..].chunks(16).zip(two[HELLO_BYTES..].chunks(16));
        assert!(later.into_iter().all(|(a, b)| a != b));
    }
}

#[tokio::test]
async fn another_version_is_named_to_both_ends_whatever_follows_its_head() {
    let (mut ours, mut theirs) = duplex(1024);
    let newer = async {
        let mut head = Vec::from(MAGIC);
        head.extend_from_slice(&(PROTOCOL_VERSION + 1).to_be_bytes());
        head.extend_from_slice(b"?");
        theirs.write_all(&head).await.unwrap();
        let mut told = [0; HEAD_BYTES];
        theirs.read_exact(&mut told).await.unwrap();
        told
    };
    let credentials = credentials();
    let (responded, told) = tokio::join!(respond(&mut ours, &credentials, B), newer);
    assert_eq!(told[4..], PROTOCOL_VERSION.to_be_bytes());
    let mismatch = |outcome: &Outcome| match outcome {
        Err(HandshakeError::VersionMismatch { theirs, ours }) => Some((*theirs, *ours)),
        _ => None,
    };
    assert_eq!(mismatch(&responded), Some((PROTOCOL_VERSION + 1, PROTOCOL_VERSION)));

    let (mut ours, mut theirs) = duplex(1024);
    theirs.write_all(&MAGIC).await.unwrap();
    theirs.write_all(&0_u16.to_be_bytes()).await.unwrap();
    let initiated = initiate(&mut ours, &credentials, A).await;
    assert_eq!(mismatch(&initiated), Some((0, PROTOCOL_VERSION)));
}

#[tokio::test]
async fn what_is_no_node_is_found_out_by_its_first_bytes() {
    let (mut ours, mut theirs) = duplex(1024);
    theirs.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let responded = respond(&mut ours, &credentials(), B).await;
    assert!(matches!(responded, Err(HandshakeError::NotQuorate)));
}

/// Plays one end with bytes of its own choice, then hangs up.
async fn play(mut stream: DuplexStream, bytes: Vec<u8>) {
    let _ = stream.write_all(&bytes).await;
    let _ = stream.shutdown().await;
    let _ = timeout(Duration::from_millis(20), stream.read_to_end(&mut Vec::new())).await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn one_changed_bit_anywhere_is_never_accepted_by_both_ends(
        message in 1_usize..=4,
        at in any::<prop::sample::Index>(),
        bit in 0_u8..8,
    ) {
        let (initiated, responded) = exchange(&credentials(), &credentials(), |n, bytes| {
            if n == message {
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
            }
        });
        // Who receives the changed message, or what follows from it, refuses. The responder is
        // done when its answer is on the way, so only the initiator can notice a change of that.
        prop_assert!(initiated.is_err());
        prop_assert!(message == 4 || responded.is_err());
    }

    #[test]
    fn garbage_and_truncated_messages_end_the_handshake_and_never_panic(
        prefix in 0_usize..=HELLO_BYTES + PROOF_BYTES,
        garbage in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut bytes = Initiator::new(&credentials(), A).1.to_vec();
            bytes.extend([7; PROOF_BYTES]);
            bytes.truncate(prefix);
            bytes.extend(garbage);
            let (mut ours, theirs) = duplex(2048);
            let playing = tokio::spawn(play(theirs, bytes.clone()));
            let responded = timeout(PATIENCE, respond(&mut ours, &credentials(), B)).await;
            assert!(responded.expect("it ends").is_err());
            drop(ours);
            playing.await.unwrap();

            let (mut ours, theirs) = duplex(2048);
            let playing = tokio::spawn(play(theirs, bytes));
            let initiated = timeout(PATIENCE, initiate(&mut ours, &credentials(), A)).await;
            assert!(initiated.expect("it ends").is_err());
            drop(ours);
            playing.await.unwrap();
        });
    }
}
