//! What is said to whoever is not let in, or may not.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use quorate_core::configuration::Configuration;

use super::super::refuse;
use super::{Need, Proof, Who};

/// Why somebody is not let in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Denied {
    /// There are no users, and it is not on this machine.
    NotLocal,
    /// This node does not know any users yet.
    InNoCluster,
    /// It shows nothing, and would have to.
    Nameless,
    /// What it shows is not in the form of anything that is known here.
    Unreadable,
    /// No user has this token, or this password.
    Wrong,
    /// The token was good once.
    Expired { user: String, token: String },
    /// It has guessed too often: so many seconds.
    TooOften { seconds: u64 },
    /// Too many passwords wait to be verified.
    Busy,
}

/// What is said to somebody who stays outside, before it is put into the form of the path that was asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::http) struct Shut {
    /// As which status.
    pub(in crate::http) status: StatusCode,
    /// Why, and what to do.
    pub(in crate::http) said: String,
    /// Nothing is looked at for so many seconds.
    pub(in crate::http) retry_after: Option<u64>,
    /// Ways to say who one is would help.
    challenge: bool,
}

impl Shut {
    pub(in crate::http) fn new(status: StatusCode, said: impl Into<String>) -> Self {
        let challenge = status == StatusCode::UNAUTHORIZED;
        Self { status, said: said.into(), retry_after: None, challenge }
    }
}

impl IntoResponse for Shut {
    fn into_response(self) -> Response {
        let mut response = refuse(self.status, &self.said);
        let headers = response.headers_mut();
        if self.challenge {
            for scheme in ["Bearer realm=\"quorate\"", "Basic realm=\"quorate\", charset=\"UTF-8\""]
            {
                headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_static(scheme));
            }
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl From<&Denied> for Shut {
    fn from(why: &Denied) -> Self {
        let (status, said) = in_words(why);
        let retry_after = match why {
            Denied::TooOften { seconds } => Some(*seconds),
            _ => None,
        };
        Self { status, said, retry_after, challenge: status == StatusCode::UNAUTHORIZED }
    }
}

/// The answer to somebody who is known and may not.
pub(super) fn may_not(who: &Who, need: Need, document: Option<&Configuration>) -> Shut {
    let shut = |status, said| Shut { status, said, retry_after: None, challenge: false };
    match (&who.0, who.role(document)) {
        (Proof::Local, _) => shut(
            StatusCode::UNAUTHORIZED,
            "this needs the token in admin.token of the node's data directory, sent as \
             `Authorization: Bearer TOKEN`"
                .to_owned(),
        ),
        (_, Some(role)) => {
            let (user, needed) = (who.name(), need.role());
            let problem = format!(
                "this needs the role {needed}; '{user}' is a {role}. An admin changes that with \
                 `quorate user role {user} {needed}`"
            );
            shut(StatusCode::FORBIDDEN, problem)
        }
        (_, None) => Shut::from(&Denied::Wrong),
    }
}

pub(super) fn denied(why: &Denied) -> Response {
    Shut::from(why).into_response()
}

pub(super) fn in_words(why: &Denied) -> (StatusCode, String) {
    let (code, said) = match why {
        Denied::NotLocal => (
            StatusCode::FORBIDDEN,
            "no users are configured, so that only the machine of the node itself may connect: add \
             one there with `quorate user add NAME --role admin`",
        ),
        Denied::InNoCluster => (
            StatusCode::SERVICE_UNAVAILABLE,
            "this node is in no cluster yet and knows no users: ask another, or wait",
        ),
        Denied::Nameless => (
            StatusCode::UNAUTHORIZED,
            "this cluster has users: send a token as `Authorization: Bearer TOKEN`, or a name and \
             password as `Authorization: Basic`; an admin makes a token with \
             `quorate user token add NAME`",
        ),
        Denied::Unreadable => (
            StatusCode::UNAUTHORIZED,
            "the Authorization header cannot be read: send `Bearer TOKEN`, or `Basic` and the base64 \
             of NAME:PASSWORD",
        ),
        Denied::Wrong => (
            StatusCode::UNAUTHORIZED,
            "the token, or the name and password, are not those of a user of this cluster",
        ),
        Denied::Expired { user, token } => {
            let said = format!(
                "the token '{token}' of '{user}' has expired: an admin makes another with \
                 `quorate user token add {user}`"
            );
            return (StatusCode::UNAUTHORIZED, said);
        }
        Denied::TooOften { seconds } => {
            let said = format!(
                "too many attempts with wrong credentials came from this address: try again in \
                 {seconds} s"
            );
            return (StatusCode::TOO_MANY_REQUESTS, said);
        }
        Denied::Busy => (
            StatusCode::SERVICE_UNAVAILABLE,
            "too many passwords are being verified: try again, or use a token, which takes no time",
        ),
    };
    (code, said.to_owned())
}
