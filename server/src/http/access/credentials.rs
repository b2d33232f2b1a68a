//! What a request shows of who sends it.

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use zeroize::Zeroizing;

use super::passwords::Password;

/// The content of `Authorization`.
pub(in crate::http) enum Given<'a> {
    /// There is none.
    Nothing,
    /// A token.
    Bearer(&'a str),
    /// A name and a password (RFC 7617).
    Basic { user: String, password: Password },
    /// Something else, or several of them.
    Unreadable,
}

impl<'a> Given<'a> {
    pub(in crate::http) fn of(headers: &'a HeaderMap) -> Self {
        let mut all = headers.get_all(header::AUTHORIZATION).iter();
        let (first, more) = (all.next(), all.next());
        let Some(value) = first else { return Self::Nothing };
        let text = value.to_str().ok().filter(|_| more.is_none());
        let Some((scheme, shown)) = text.and_then(|text| text.split_once(' ')) else {
            return Self::Unreadable;
        };
        let shown = shown.trim_matches(' ');
        if scheme.eq_ignore_ascii_case("bearer") && !shown.is_empty() {
            return Self::Bearer(shown);
        }
        if scheme.eq_ignore_ascii_case("basic") {
            return basic(shown).unwrap_or(Self::Unreadable);
        }
        Self::Unreadable
    }
}

fn basic(shown: &str) -> Option<Given<'static>> {
    let bytes = Zeroizing::new(BASE64.decode(shown).ok()?);
    let (user, password) = std::str::from_utf8(&bytes).ok()?.split_once(':')?;
    Some(Given::Basic { user: user.to_owned(), password: Password::from(password.to_owned()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(values: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, value.parse().unwrap());
        }
        match Given::of(&headers) {
            Given::Nothing => "nothing".to_owned(),
            Given::Bearer(token) => format!("bearer {token}"),
            Given::Basic { user, password } => format!("basic {user} {}", password.expose()),
            Given::Unreadable => "unreadable".to_owned(),
        }
    }

    #[test]
    fn tokens_and_passwords_are_read_and_nothing_is_guessed() {
        assert_eq!(given(&[]), "nothing");
        assert_eq!(given(&["Bearer abc"]), "bearer abc");
        assert_eq!(given(&["bearer  abc "]), "bearer abc");
        let basic = |text: &str| format!("Basic {}", BASE64.encode(text));
        assert_eq!(given(&[&basic("ada:se:cret")]), "basic ada se:cret");
        assert_eq!(given(&[&basic("ada:")]), "basic ada ");
        for wrong in ["", "Bearer", "Bearer ", "Basic", "Basic ???", "Digest x", &basic("ada")] {
            assert_eq!(given(&[wrong]), "unreadable", "{wrong}");
        }
        assert_eq!(given(&["Bearer a", "Bearer b"]), "unreadable", "which one is meant?");
    }
}
