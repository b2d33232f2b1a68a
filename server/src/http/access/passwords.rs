//! Users' passwords: hashed by Argon2id, verified beside the node's thread, remembered once they were
//! right.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use argon2::password_hash::{
    PasswordHash as Phc, PasswordHasher as _, PasswordVerifier as _, SaltString,
};
use argon2::{Algorithm, Argon2, Params, Version};
use quorate_core::configuration::{Configuration, PasswordHash};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use zeroize::Zeroize;

/// Memory of one hash in KiB, passes and lanes (OWASP's first recommendation for Argon2id).
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// What a hash in the document may cost at most: more is not computed, whoever wrote it there.
const MEMORY_KIB_MAX: u32 = 64 * 1024;
const PASSES_MAX: u32 = 10;
const LANES_MAX: u32 = 4;
/// How many are computed at once.
const AT_ONCE: usize = 2;
/// How many may wait or be computed.
const WAITING_MAX: usize = 32;
/// How long a password is, in bytes.
const BYTES_MIN: usize = 8;
const BYTES_MAX: usize = 1024;

/// A password on its way. It does not print, and its memory is wiped.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Password(String);

impl From<String> for Password {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl Password {
    /// The text itself.
    #[cfg(test)]
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Drop for Password {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Why a password was not hashed or verified.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unverified {
    /// Too many wait.
    Busy,
    /// It cannot be a password, and why.
    Unfit(&'static str),
}

/// Hashes and verifies, a few at a time.
pub(super) struct Passwords {
    /// Of this process only: what is remembered is worth nothing elsewhere.
    key: [u8; 32],
    remembered: Mutex<BTreeMap<String, Remembered>>,
    waiting: Arc<Semaphore>,
    at_once: Arc<Semaphore>,
}

/// A password that was right.
struct Remembered {
    /// For the hash that the document had: another one, and it is forgotten.
    stored: PasswordHash,
    keyed: blake3::Hash,
}

impl Passwords {
    /// # Errors
    /// The operating system gives no randomness.
    pub(super) fn new() -> io::Result<Self> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(io::Error::other)?;
        Ok(Self {
            key,
            remembered: Mutex::default(),
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
            at_once: Arc::new(Semaphore::new(AT_ONCE)),
        })
    }

    /// Whether it was right before, for the same hash. Takes no time to speak of.
    pub(super) fn remembers(&self, user: &str, given: &Password, stored: &PasswordHash) -> bool {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        // A `blake3::Hash` is compared in constant time.
        remembered.get(user).is_some_and(|held| {
            held.stored == *stored
                && held.keyed == blake3::keyed_hash(&self.key, given.0.as_bytes())
        })
    }

    /// Verifies it, and remembers it if it is right; the hash that it is right for. A user that is not
    /// there, or has no password, takes as long as one that has.
    ///
    /// # Errors
    /// [`Unverified::Busy`].
    pub(super) async fn verify(
        &self,
        user: &str,
        given: Password,
        stored: Option<PasswordHash>,
        document: &Configuration,
    ) -> Result<Option<PasswordHash>, Unverified> {
        let keyed = blake3::keyed_hash(&self.key, given.0.as_bytes());
        let work = move || {
            let right = is_right(&given, stored.as_ref());
            stored.filter(|_| right)
        };
        let Some(stored) = self.aside(work).await? else { return Ok(None) };
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        // No more of them than users.
        remembered.retain(|name, _| document.users.contains_key(name));
        remembered.insert(user.to_owned(), Remembered { stored: stored.clone(), keyed });
        Ok(Some(stored))
    }

    /// What the document is to hold of it.
    ///
    /// # Errors
    /// [`Unverified`].
    pub(super) async fn hash(&self, password: Password) -> Result<PasswordHash, Unverified> {
        if !(BYTES_MIN..=BYTES_MAX).contains(&password.0.len()) {
            return Err(Unverified::Unfit("a password has 8 to 1024 bytes"));
        }
        let mut salt = [0; 16];
        getrandom::fill(&mut salt)
            .map_err(|_| Unverified::Unfit("the operating system gives no randomness"))?;
        let hashed = self.aside(move || hashed(&password, &salt)).await?;
        hashed.ok_or(Unverified::Unfit("the password could not be hashed"))
    }

    /// Runs what takes long, and a lot of memory, on a thread of its own when it is its turn.
    async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Unverified> {
        let waiting = self.waiting.clone().try_acquire_owned().map_err(|_| Unverified::Busy)?;
        let place = self.at_once.clone().acquire_owned().await.map_err(|_| Unverified::Busy)?;
        // Whoever asks may go away meanwhile: the places are given back when the work is done.
        let work = move || {
            let _held = (waiting, place);
            work()
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| Unverified::Busy)
    }
}

fn argon2() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None)
        .unwrap_or_else(|error| unreachable!("constant Argon2 parameters are valid: {error}"));
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

fn hashed(password: &Password, salt: &[u8]) -> Option<PasswordHash> {
    let salt = SaltString::encode_b64(salt).ok()?;
    let hash = argon2().hash_password(password.0.as_bytes(), &salt).ok()?;
    Some(PasswordHash(hash.to_string()))
}

fn is_right(given: &Password, stored: Option<&PasswordHash>) -> bool {
    let parsed = stored.and_then(|stored| Phc::new(&stored.0).ok());
    match parsed.filter(is_affordable) {
        Some(phc) => argon2().verify_password(given.0.as_bytes(), &phc).is_ok(),
        None => {
            // As much work as with one.
            hashed(given, &[0; 16]);
            false
        }
    }
}

/// Whether the parameters are within what one verification may cost.
fn is_affordable(phc: &Phc<'_>) -> bool {
    Params::try_from(phc).is_ok_and(|params| {
        params.m_cost() <= MEMORY_KIB_MAX
            && params.t_cost() <= PASSES_MAX
            && params.p_cost() <= LANES_MAX
    })
}

#[cfg(test)]
mod tests {
    use quorate_core::configuration::{ConfigCommand, UserChange, UserRole, apply};

    use super::super::tests::founded;
    use super::*;

    fn password(text: &str) -> Password {
        text.to_owned().into()
    }

    fn with_ada(stored: &PasswordHash) -> Configuration {
        let mut document = Some(founded());
        let add = UserChange::Add { role: UserRole::Admin, password: Some(stored.clone()) };
        let command = ConfigCommand::User { name: "ada".to_owned(), change: add };
        apply(&mut document, &command).unwrap();
        document.unwrap()
    }

    #[tokio::test]
    async fn a_password_is_verified_once_and_then_remembered_until_it_changes() {
        let passwords = Passwords::new().unwrap();
        let stored = passwords.hash(password("correct horse")).await.unwrap();
        let document = with_ada(&stored);
        let right = password("correct horse");
        assert!(!passwords.remembers("ada", &right, &stored));
        let verify =
            |text: &str| passwords.verify("ada", password(text), Some(stored.clone()), &document);
        assert_eq!(verify("wrong horse").await, Ok(None));
        assert!(!passwords.remembers("ada", &password("wrong horse"), &stored));
        assert_eq!(verify("correct horse").await, Ok(Some(stored.clone())));
        assert!(passwords.remembers("ada", &right, &stored));
        assert!(!passwords.remembers("ada", &password("wrong horse"), &stored));
        assert!(!passwords.remembers("bob", &right, &stored));
        let other = passwords.hash(password("correct horse")).await.unwrap();
        assert_ne!(other, stored, "each hash has a salt of its own");
        assert!(!passwords.remembers("ada", &right, &other), "set anew, it is verified anew");
    }

    #[tokio::test]
    async fn who_has_no_password_has_no_right_one() {
        let passwords = Passwords::new().unwrap();
        let nothing = passwords.verify("ada", password(""), None, &founded()).await;
        assert_eq!(nothing, Ok(None));
        for text in ["short", &"x".repeat(1025)] {
            assert!(matches!(passwords.hash(password(text)).await, Err(Unverified::Unfit(_))));
        }
    }

    #[test]
    fn a_hash_that_would_cost_too_much_is_not_computed() {
        let right = hashed(&password("correct horse"), &[1; 16]).unwrap();
        assert!(is_right(&password("correct horse"), Some(&right)));
        for (from, to) in [("m=19456", "m=4194304"), ("t=2", "t=1000000"), ("p=1", "p=200")] {
            assert!(right.0.contains(from));
            let dear = PasswordHash(right.0.replace(from, to));
            assert!(!is_right(&password("correct horse"), Some(&dear)), "{to}");
        }
    }

    #[tokio::test]
    async fn only_so_many_wait_and_a_password_never_prints() {
        let passwords = Arc::new(Passwords::new().unwrap());
        assert_eq!(format!("{:?}", password("secret")), "***");
        let all = passwords.waiting.clone().acquire_many_owned(32).await.unwrap();
        let verified = passwords.verify("ada", password("x"), None, &founded()).await;
        assert_eq!(verified, Err(Unverified::Busy));
        drop(all);
        let verified = passwords.verify("ada", password("x"), None, &founded()).await;
        assert_eq!(verified, Ok(None));
    }
}
