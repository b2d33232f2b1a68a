//! The encrypted channel that a handshake ends in: one sealer and one opener for each end.

use std::sync::{Arc, PoisonError, RwLock};

use snow::StatelessTransportState;
use thiserror::Error;

/// The authentication tag at the end of each sealed record, in bytes.
pub const TAG_BYTES: usize = 16;
/// The longest sealed record, in bytes: the limit of the Noise protocol.
pub const RECORD_BYTES_MAX: usize = 65_535;
/// The longest plaintext of one record, in bytes.
pub const PLAIN_BYTES_MAX: usize = RECORD_BYTES_MAX - TAG_BYTES;
/// After so many records in one direction its key is replaced (Noise section 11.3); both ends
/// count, so nothing is sent for it. At most 4 GiB are sealed under one key.
pub const REKEY_RECORDS: u64 = 1 << 16;

/// A record cannot be sealed or opened. The link is of no use any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum SessionError {
    /// Forged, changed, replayed, out of order, or sealed with another key.
    #[error("a record does not authenticate: it was changed on its way, or is out of order")]
    Forged,
    /// The nonces of the direction are used up.
    #[error("the link has sent as many records as its key allows")]
    Exhausted,
}

/// Both directions of one channel, shared by its sealer and its opener.
type Shared = Arc<RwLock<StatelessTransportState>>;

/// The two halves that the handshake yields.
pub struct Session {
    /// Encrypts what this end sends.
    pub sealer: Sealer,
    /// Decrypts what the other end has sent.
    pub opener: Opener,
}

impl Session {
    pub(crate) fn new(state: StatelessTransportState) -> Self {
        let state = Arc::new(RwLock::new(state));
        Self {
            sealer: Sealer { state: state.clone(), nonce: 0, rekey: REKEY_RECORDS },
            opener: Opener { state, nonce: 0, rekey: REKEY_RECORDS },
        }
    }

    /// Replaces keys after `records` records: both ends must be told the same number.
    #[cfg(test)]
    pub(crate) fn rekey_every(mut self, records: u64) -> Self {
        self.sealer.rekey = records;
        self.opener.rekey = records;
        self
    }
}

/// Encrypts records, one after the other.
pub struct Sealer {
    state: Shared,
    nonce: u64,
    rekey: u64,
}

impl Sealer {
    /// Appends the sealed form of `plain` to `out`: its bytes and [`TAG_BYTES`].
    ///
    /// # Errors
    /// [`SessionError::Exhausted`] after 2^64 − 1 records.
    ///
    /// # Panics
    /// If `plain` is longer than [`PLAIN_BYTES_MAX`].
    pub fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), SessionError> {
        assert!(plain.len() <= PLAIN_BYTES_MAX, "a record is cut before it is sealed");
        let next = self.nonce.checked_add(1).ok_or(SessionError::Exhausted)?;
        if self.nonce > 0 && self.nonce.is_multiple_of(self.rekey) {
            self.state.write().unwrap_or_else(PoisonError::into_inner).rekey_outgoing();
        }
        let start = out.len();
        out.resize(start + plain.len() + TAG_BYTES, 0);
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let sealed = state.write_message(self.nonce, plain, &mut out[start..]);
        self.nonce = next;
        match sealed {
            Ok(bytes) => {
                debug_assert_eq!(bytes, plain.len() + TAG_BYTES);
                Ok(())
            }
            Err(_) => {
                out.truncate(start);
                Err(SessionError::Exhausted)
            }
        }
    }
}

/// Decrypts records in the order in which they were sealed.
pub struct Opener {
    state: Shared,
    nonce: u64,
    rekey: u64,
}

impl Opener {
    /// Opens `sealed` into the first bytes of `plain` and says how many those are; what follows them
    /// there may be written over. With room for the whole record it is opened in place, and not
    /// copied once more.
    ///
    /// # Errors
    /// [`SessionError::Forged`] for everything but the next record of the other end.
    ///
    /// # Panics
    /// If `plain` is shorter than the record's plaintext.
    pub fn open(&mut self, sealed: &[u8], plain: &mut [u8]) -> Result<usize, SessionError> {
        let bytes = sealed.len().checked_sub(TAG_BYTES).ok_or(SessionError::Forged)?;
        assert!(plain.len() >= bytes, "the caller makes room for the record");
        let next = self.nonce.checked_add(1).ok_or(SessionError::Exhausted)?;
        if self.nonce > 0 && self.nonce.is_multiple_of(self.rekey) {
            self.state.write().unwrap_or_else(PoisonError::into_inner).rekey_incoming();
        }
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let opened = state.read_message(self.nonce, sealed, plain);
        self.nonce = next;
        opened.map_err(|_| SessionError::Forged)
    }
}
