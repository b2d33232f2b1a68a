//! The four messages of the handshake, without any I/O.
//!
//! ```text
//! 1  initiator → responder   hello      magic, version, initiator's id
//! 2  responder → initiator   challenge  magic, version, responder's id, SPAKE2 element Y
//! 3  initiator → responder   proof      SPAKE2 element X, confirmation, Noise message 1
//! 4  responder → initiator   answer     confirmation, Noise message 2
//! ```
//!
//! All four have one length each, whatever the credentials. X and Y are blinded by the password,
//! and a confirmation can be checked only by who took part in the exchange: a listener learns
//! nothing to try passwords against, and an active attacker tests one password an attempt.
//! Who cannot confirm gets an answer of random bytes, so that the wire looks alike.
//!
//! Each Noise message holds, sealed, the mark of the sender's process: a node that meets its own id
//! learns whether it has dialled itself or met a copy of its data directory.
//!
//! The transcript (messages 1 and 2, X, and the hash of the encryption settings) goes into the
//! key, both confirmations and the prologue of the Noise channel. So neither ids nor roles nor
//! versions can be swapped, and nothing of one handshake is of use in another.

use quorate_core::NodeId;
use snow::{Builder, HandshakeState};
use spake2::{Ed25519Group, Identity, Password, Spake2};
use zeroize::Zeroizing;

use super::session::{Session, TAG_BYTES};
use super::{Established, HandshakeError};
use crate::net::credentials::Credentials;

/// The version of this handshake and of all that follows on the link.
pub const PROTOCOL_VERSION: u16 = 1;
/// The first bytes that each end sends.
pub const MAGIC: [u8; 4] = *b"QRTN";
/// Magic and version: the part that every version, past and future, begins with.
pub const HEAD_BYTES: usize = 6;
/// Length of message 1.
pub const HELLO_BYTES: usize = HEAD_BYTES + 16;
/// Length of message 2.
pub const CHALLENGE_BYTES: usize = HELLO_BYTES + ELEMENT_BYTES;
/// Length of message 3.
pub const PROOF_BYTES: usize = ELEMENT_BYTES + CONFIRM_BYTES + NOISE_BYTES;
/// Length of message 4.
pub const ANSWER_BYTES: usize = CONFIRM_BYTES + NOISE_BYTES;

const ELEMENT_BYTES: usize = 32;
const CONFIRM_BYTES: usize = 32;
const MARK_BYTES: usize = 16;
/// An X25519 key, and the sealed mark of the sender's process.
const NOISE_BYTES: usize = 32 + MARK_BYTES + TAG_BYTES;

const NOISE_PATTERN: &str = "Noise_NNpsk0_25519_AESGCM_BLAKE2s";
const TRANSCRIPT_CONTEXT: &str = "quorate 2026 node handshake: transcript";
const CONFIRM_INITIATOR_CONTEXT: &str = "quorate 2026 node handshake: the initiator confirms";
const CONFIRM_RESPONDER_CONTEXT: &str = "quorate 2026 node handshake: the responder confirms";
const PSK_CONTEXT: &str = "quorate 2026 node handshake: noise psk";
/// How spake2 marks the sides' elements; the roles are known, so the marks are not sent.
const SIDE_A: u8 = b'A';
const SIDE_B: u8 = b'B';

/// Magic and version, as this node sends them.
#[must_use]
pub fn head() -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[..4].copy_from_slice(&MAGIC);
    head[4..].copy_from_slice(&PROTOCOL_VERSION.to_be_bytes());
    head
}

/// Checks the first bytes of the other end.
///
/// # Errors
/// [`HandshakeError::NotQuorate`] or [`HandshakeError::VersionMismatch`].
pub fn check_head(head: &[u8; HEAD_BYTES]) -> Result<(), HandshakeError> {
    let [m0, m1, m2, m3, high, low] = *head;
    if [m0, m1, m2, m3] != MAGIC {
        return Err(HandshakeError::NotQuorate);
    }
    let theirs = u16::from_be_bytes([high, low]);
    if theirs != PROTOCOL_VERSION {
        return Err(HandshakeError::VersionMismatch { theirs, ours: PROTOCOL_VERSION });
    }
    Ok(())
}

fn hello(me: NodeId) -> [u8; HELLO_BYTES] {
    let mut hello = [0; HELLO_BYTES];
    hello[..HEAD_BYTES].copy_from_slice(&head());
    hello[HEAD_BYTES..].copy_from_slice(&me.0.to_be_bytes());
    hello
}

fn id_of(hello: &[u8]) -> NodeId {
    let mut id = [0; 16];
    id.copy_from_slice(&hello[HEAD_BYTES..HELLO_BYTES]);
    NodeId(u128::from_be_bytes(id))
}

/// The end that dialled, before the challenge.
pub struct Initiator {
    credentials: Credentials,
    me: NodeId,
    hello: [u8; HELLO_BYTES],
}

/// The end that dialled, after its proof.
pub struct Proving {
    peer: NodeId,
    keys: Keys,
    noise: HandshakeState,
    mark: [u8; MARK_BYTES],
}

/// The end that was dialled, after its challenge.
pub struct Responder {
    peer: NodeId,
    transcript: blake3::Hasher,
    spake: Spake2<Ed25519Group>,
    mark: [u8; MARK_BYTES],
}

/// What both ends derive from the exchange and the transcript.
struct Keys {
    confirm_initiator: blake3::Hash,
    confirm_responder: blake3::Hash,
    psk: Zeroizing<[u8; 32]>,
    transcript: [u8; 32],
}

impl Initiator {
    /// Begins: the message to send first.
    #[must_use]
    pub fn new(credentials: &Credentials, me: NodeId) -> (Self, [u8; HELLO_BYTES]) {
        let hello = hello(me);
        (Self { credentials: credentials.clone(), me, hello }, hello)
    }

    /// Answers the challenge. A challenge that is no element of the group leads to a proof like
    /// any other, which fails.
    ///
    /// # Errors
    /// What [`check_head`] says of its head.
    pub fn prove(
        self,
        challenge: &[u8; CHALLENGE_BYTES],
    ) -> Result<(Proving, [u8; PROOF_BYTES]), HandshakeError> {
        check_head(challenge.first_chunk().unwrap_or(&[0; HEAD_BYTES]))?;
        let peer = id_of(challenge);
        let (ids, password) = (identities(self.me, peer), Password::new(self.credentials.key()));
        let (spake, x) = Spake2::<Ed25519Group>::start_a(&password, &ids.0, &ids.1);
        let mut transcript = transcript(&self.credentials, &self.hello, challenge);
        transcript.update(&x[1..]);
        let keys = Keys::derive(spake, SIDE_B, &challenge[HELLO_BYTES..], &transcript);
        let mut noise = keys.noise(true);
        let mut proof = [0; PROOF_BYTES];
        proof[..ELEMENT_BYTES].copy_from_slice(&x[1..]);
        proof[ELEMENT_BYTES..][..CONFIRM_BYTES].copy_from_slice(keys.confirm_initiator.as_bytes());
        let mark = self.credentials.mark();
        write_noise(&mut noise, &mark, &mut proof[ELEMENT_BYTES + CONFIRM_BYTES..]);
        Ok((Proving { peer, keys, noise, mark }, proof))
    }
}

impl Proving {
    /// Checks the responder's confirmation.
    ///
    /// # Errors
    /// [`HandshakeError::Refused`].
    pub fn finish(mut self, answer: &[u8; ANSWER_BYTES]) -> Result<Established, HandshakeError> {
        let (confirm, noise) = answer.split_at(CONFIRM_BYTES);
        // blake3's comparison takes the same time wherever the bytes differ.
        if self.keys.confirm_responder != *confirm {
            return Err(HandshakeError::Refused);
        }
        let same_process = read_noise(&mut self.noise, noise)? == self.mark;
        established(self.peer, same_process, self.noise)
    }
}

impl Responder {
    /// Answers the hello with the challenge.
    ///
    /// # Errors
    /// What [`check_head`] says of its head.
    pub fn challenge(
        credentials: &Credentials,
        me: NodeId,
        their_hello: &[u8; HELLO_BYTES],
    ) -> Result<(Self, [u8; CHALLENGE_BYTES]), HandshakeError> {
        check_head(their_hello.first_chunk().unwrap_or(&[0; HEAD_BYTES]))?;
        let peer = id_of(their_hello);
        let (ids, password) = (identities(peer, me), Password::new(credentials.key()));
        let (spake, y) = Spake2::<Ed25519Group>::start_b(&password, &ids.0, &ids.1);
        let mut challenge = [0; CHALLENGE_BYTES];
        challenge[..HELLO_BYTES].copy_from_slice(&hello(me));
        challenge[HELLO_BYTES..].copy_from_slice(&y[1..]);
        let transcript = transcript(credentials, their_hello, &challenge);
        Ok((Self { peer, transcript, spake, mark: credentials.mark() }, challenge))
    }

    /// Checks the proof; with the channel comes the answer to send.
    ///
    /// # Errors
    /// [`HandshakeError::Refused`]: send [`refusal`] instead.
    pub fn answer(
        mut self,
        proof: &[u8; PROOF_BYTES],
    ) -> Result<(Established, [u8; ANSWER_BYTES]), HandshakeError> {
        let (x, rest) = proof.split_at(ELEMENT_BYTES);
        let (confirm, noise_1) = rest.split_at(CONFIRM_BYTES);
        self.transcript.update(x);
        let keys = Keys::derive(self.spake, SIDE_A, x, &self.transcript);
        if keys.confirm_initiator != *confirm {
            return Err(HandshakeError::Refused);
        }
        let mut noise = keys.noise(false);
        let same_process = read_noise(&mut noise, noise_1)? == self.mark;
        let mut answer = [0; ANSWER_BYTES];
        answer[..CONFIRM_BYTES].copy_from_slice(keys.confirm_responder.as_bytes());
        write_noise(&mut noise, &self.mark, &mut answer[CONFIRM_BYTES..]);
        Ok((established(self.peer, same_process, noise)?, answer))
    }
}

/// What a responder sends to one who could not confirm: an answer that nobody can tell from a
/// good one without the key.
#[must_use]
pub fn refusal() -> [u8; ANSWER_BYTES] {
    let mut bytes = [0; ANSWER_BYTES];
    // Without randomness zeros are sent: they confirm nothing either.
    let _ = getrandom::fill(&mut bytes);
    bytes
}

impl Keys {
    /// An element that is not of the group gives a random key: it fails like a wrong password,
    /// and at the same moment.
    fn derive(
        spake: Spake2<Ed25519Group>,
        their_side: u8,
        theirs: &[u8],
        transcript: &blake3::Hasher,
    ) -> Self {
        let mut marked = [their_side; 1 + ELEMENT_BYTES];
        marked[1..].copy_from_slice(theirs);
        let mut shared = Zeroizing::new([0; 32]);
        match spake.finish(&marked) {
            Ok(key) if key.len() == shared.len() => shared.copy_from_slice(&Zeroizing::new(key)),
            _ => shared.copy_from_slice(&refusal()[..32]),
        }
        let transcript = *transcript.finalize().as_bytes();
        let root = Zeroizing::new(*blake3::keyed_hash(&shared, &transcript).as_bytes());
        let confirm = |context| blake3::Hash::from(blake3::derive_key(context, root.as_slice()));
        Self {
            confirm_initiator: confirm(CONFIRM_INITIATOR_CONTEXT),
            confirm_responder: confirm(CONFIRM_RESPONDER_CONTEXT),
            psk: Zeroizing::new(blake3::derive_key(PSK_CONTEXT, root.as_slice())),
            transcript,
        }
    }

    /// The Noise channel, bound to the confirmed key and the transcript.
    fn noise(&self, initiator: bool) -> HandshakeState {
        let build = || {
            let builder = Builder::new(NOISE_PATTERN.parse()?)
                .psk(0, &self.psk)?
                .prologue(&self.transcript)?;
            if initiator { builder.build_initiator() } else { builder.build_responder() }
        };
        build().unwrap_or_else(|e: snow::Error| unreachable!("a constant pattern builds: {e}"))
    }
}

fn identities(initiator: NodeId, responder: NodeId) -> (Identity, Identity) {
    let id = |role: &str, node: NodeId| Identity::new(format!("quorate {role} {node}").as_bytes());
    (id("initiator", initiator), id("responder", responder))
}

/// Fixed lengths throughout, so that nothing can be shifted from one field into the next.
fn transcript(
    credentials: &Credentials,
    hello: &[u8; HELLO_BYTES],
    challenge: &[u8; CHALLENGE_BYTES],
) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new_derive_key(TRANSCRIPT_CONTEXT);
    hasher.update(credentials.settings());
    hasher.update(hello);
    hasher.update(challenge);
    hasher
}

fn write_noise(noise: &mut HandshakeState, mark: &[u8; MARK_BYTES], out: &mut [u8]) {
    debug_assert_eq!(out.len(), NOISE_BYTES);
    let written = noise.write_message(mark, out);
    assert_eq!(
        written.ok(),
        Some(NOISE_BYTES),
        "a Noise message of a known pattern has one length"
    );
}

fn read_noise(
    noise: &mut HandshakeState,
    message: &[u8],
) -> Result<[u8; MARK_BYTES], HandshakeError> {
    let mut payload = [0; NOISE_BYTES];
    match noise.read_message(message, &mut payload) {
        Ok(MARK_BYTES) => payload.first_chunk().copied().ok_or(HandshakeError::Refused),
        Ok(_) | Err(_) => Err(HandshakeError::Refused),
    }
}

fn established(
    peer: NodeId,
    same_process: bool,
    noise: HandshakeState,
) -> Result<Established, HandshakeError> {
    let state = noise.into_stateless_transport_mode().map_err(|_| HandshakeError::Refused)?;
    Ok(Established { peer, same_process, session: Session::new(state) })
}
