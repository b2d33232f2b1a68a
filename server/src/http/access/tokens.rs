//! Users' tokens: 256 random bits, of which the document holds a BLAKE3 hash.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use quorate_core::configuration::{AccessToken, Configuration, TokenHash};
use zeroize::Zeroizing;

/// How a token begins, so that whoever finds one in a file knows what it is.
const PREFIX: &str = "quorate_";
/// Longer ones are not even hashed.
const BYTES_MAX: usize = 128;

/// Whose a token is: the user, and what the token is called.
type Owner = (String, String);

/// The users' tokens by their hashes, as of one document.
#[derive(Default)]
pub(super) struct Tokens {
    index: Mutex<Option<Index>>,
}

struct Index {
    /// Held, so that no other document comes to lie where it lies.
    of: Arc<Configuration>,
    by_hash: BTreeMap<TokenHash, Owner>,
}

impl Tokens {
    /// Whose token it is; whether it has expired is not looked at.
    ///
    /// The hash is looked up, which takes longer the more of it is right. That tells nothing: whoever
    /// tries tokens cannot choose their hashes, and of a hash that is known no token can be made.
    pub(super) fn find(
        &self,
        token: &str,
        document: &Arc<Configuration>,
    ) -> Option<(String, String, TokenHash)> {
        if token.len() > BYTES_MAX {
            return None;
        }
        let hash = hash(token);
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        if index.as_ref().is_none_or(|index| !Arc::ptr_eq(&index.of, document)) {
            *index = Some(Index::of(document));
        }
        let (user, name) = index.as_ref()?.by_hash.get(&hash)?.clone();
        Some((user, name, hash))
    }
}

impl Index {
    fn of(document: &Arc<Configuration>) -> Self {
        let mut by_hash = BTreeMap::new();
        for (user, held) in &document.users {
            let own = held.tokens.iter();
            by_hash.extend(own.map(|(name, token)| (token.hash, (user.clone(), name.clone()))));
        }
        Self { of: Arc::clone(document), by_hash }
    }
}

/// A new token, and what the document is to hold of it.
///
/// # Errors
/// The operating system gives no randomness.
pub(in crate::http) fn generate() -> io::Result<(Zeroizing<String>, TokenHash)> {
    let mut random = Zeroizing::new([0_u8; 32]);
    getrandom::fill(random.as_mut_slice()).map_err(io::Error::other)?;
    let token = Zeroizing::new(format!("{PREFIX}{}", BASE64.encode(random.as_slice())));
    let hash = hash(&token);
    Ok((token, hash))
}

fn hash(token: &str) -> TokenHash {
    TokenHash(*blake3::hash(token.as_bytes()).as_bytes())
}

/// Whether the token is worth nothing any more.
pub(in crate::http) fn is_over(token: &AccessToken, now: SystemTime) -> bool {
    let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    token.expires.is_some_and(|expires| now >= expires)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn no_two_tokens_are_alike_and_each_has_256_random_bits() {
        let (one, hash_of_one) = generate().unwrap();
        let (two, hash_of_two) = generate().unwrap();
        assert_ne!(*one, *two);
        assert_ne!(hash_of_one, hash_of_two);
        assert_eq!(hash(&one), hash_of_one);
        let random = one.strip_prefix(PREFIX).unwrap();
        assert_eq!(BASE64.decode(random).unwrap().len(), 32);
        assert!(one.len() <= BYTES_MAX);
    }

    #[test]
    fn a_token_is_over_from_the_second_on_in_which_it_expires() {
        let token = |expires| AccessToken { hash: TokenHash([0; 32]), made: 0, expires };
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert!(!is_over(&token(None), at(u32::MAX.into())));
        assert!(!is_over(&token(Some(100)), at(99)));
        assert!(is_over(&token(Some(100)), at(100)));
    }
}
