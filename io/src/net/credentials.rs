//! What a node proves to know: group, password and encryption settings, stretched into one key.

use std::fmt;
use std::sync::Arc;

use argon2::{Algorithm, Argon2, Params, Version};
use zeroize::Zeroizing;

/// The contexts of every blake3 key derivation of this file; each is used for one thing only.
const SALT_CONTEXT: &str = "quorate 2026 node credentials: argon2 salt of a group";
const INPUT_CONTEXT: &str = "quorate 2026 node credentials: argon2 input";
const SETTINGS_CONTEXT: &str = "quorate 2026 node credentials: hash of encryption settings";

/// Memory of one Argon2 pass, in KiB (OWASP's first recommendation for Argon2id: 19 MiB, 2, 1).
const ARGON2_MEMORY_KIB: u32 = 19 * 1024;
const ARGON2_PASSES: u32 = 2;
const ARGON2_LANES: u32 = 1;

/// `<symmetric-encryption>`: must be equal on all nodes. The cipher is always a modern AEAD, so
/// the algorithm named in the file is not part of it.
#[derive(Clone, PartialEq, Eq)]
pub struct EncryptionSettings {
    /// `password`.
    pub passphrase: String,
    /// `salt`.
    pub salt: String,
    /// `iteration-count`.
    pub iteration_count: u32,
}

impl fmt::Debug for EncryptionSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EncryptionSettings(..)")
    }
}

/// The key that group, password and encryption settings make together. Two nodes whose keys
/// differ refuse each other, and neither can tell which of the three was different.
#[derive(Clone)]
pub struct Credentials {
    secrets: Arc<Secrets>,
}

struct Secrets {
    /// The password of the key exchange. Never sent, nor anything that allows to guess it offline.
    key: Zeroizing<[u8; 32]>,
    /// Goes into the transcript; never sent either.
    settings: Zeroizing<[u8; 32]>,
    /// Random: what this process knows itself by.
    mark: [u8; 16],
}

impl Credentials {
    /// Stretches the password with Argon2id. Takes some tens of milliseconds and 19 MiB on
    /// purpose: call it once a process, and clone the result.
    ///
    /// # Panics
    /// Never: the parameters of Argon2 are constants within its limits.
    #[must_use]
    pub fn derive(group: &str, password: &str, encryption: Option<&EncryptionSettings>) -> Self {
        let salt = blake3::derive_key(SALT_CONTEXT, group.as_bytes());
        let settings = Zeroizing::new(settings_hash(encryption));
        let input = input_hash(password, &settings);
        let params = Params::new(ARGON2_MEMORY_KIB, ARGON2_PASSES, ARGON2_LANES, Some(32))
            .unwrap_or_else(|e| unreachable!("constant Argon2 parameters are valid: {e}"));
        let mut key = Zeroizing::new([0; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(input.as_slice(), &salt, key.as_mut_slice())
            .unwrap_or_else(|e| unreachable!("constant lengths are valid for Argon2: {e}"));
        let mut mark = [0; 16];
        // Without randomness a copy of this node would be taken for this node itself, as if there
        // were no marks; nothing else rests on it.
        let _ = getrandom::fill(&mut mark);
        Self { secrets: Arc::new(Secrets { key, settings, mark }) }
    }

    /// The password of the key exchange.
    pub(crate) fn key(&self) -> &[u8; 32] {
        &self.secrets.key
    }

    /// What this process knows itself by, so that a node that meets its own id knows whether it
    /// has dialled itself or met a copy of its data directory. Sent encrypted only.
    pub(crate) fn mark(&self) -> [u8; 16] {
        self.secrets.mark
    }

    /// The hash of the encryption settings.
    pub(crate) fn settings(&self) -> &[u8; 32] {
        &self.secrets.settings
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(..)")
    }
}

/// Every field with its length before it, so that no two settings make the same bytes.
fn settings_hash(encryption: Option<&EncryptionSettings>) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(SETTINGS_CONTEXT);
    match encryption {
        None => {
            hasher.update(&[0]);
        }
        Some(EncryptionSettings { passphrase, salt, iteration_count }) => {
            hasher.update(&[1]);
            for field in [passphrase, salt] {
                hasher.update(&(field.len() as u64).to_le_bytes());
                hasher.update(field.as_bytes());
            }
            hasher.update(&iteration_count.to_le_bytes());
        }
    }
    *hasher.finalize().as_bytes()
}

fn input_hash(password: &str, settings: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    let mut hasher = blake3::Hasher::new_derive_key(INPUT_CONTEXT);
    hasher.update(settings);
    hasher.update(password.as_bytes());
    Zeroizing::new(*hasher.finalize().as_bytes())
}
