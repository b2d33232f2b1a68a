//! `/users`: who may use the cluster, for admins.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use quorate_core::configuration::{
    AccessToken, ConfigCommand, Configuration, User, UserChange, UserRole,
};
use quorate_core::{Command, CommandError, Reply};
use serde::{Deserialize, Serialize};

use super::access::{self, Password, Who, is_over};
use super::admin::{ChangeAnswer, answer};
use super::body::Given;
use super::databases::in_no_cluster;
use super::{App, refuse};

/// How long a token may be good, at most: a hundred years.
pub(crate) const EXPIRES_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The body of `POST /users`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "todo", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum UserRequest {
    /// A new one.
    Add {
        /// Its name.
        user: String,
        /// What it may do.
        role: UserRole,
        /// Its password; without it, it needs a token.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        password: Option<Password>,
    },
    /// It goes, with all its tokens.
    Drop {
        /// Its name.
        user: String,
    },
    /// It may do more, or less.
    SetRole {
        /// Its name.
        user: String,
        /// What it may do.
        role: UserRole,
    },
    /// It gets another password.
    SetPassword {
        /// Its name.
        user: String,
        /// The password; without it, it has none any more.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        password: Option<Password>,
    },
    /// It gets another token.
    AddToken {
        /// Its name.
        user: String,
        /// What the token is called; made up if not given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// In how many seconds it is worth nothing any more; never, if not given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_seconds: Option<u64>,
    },
    /// A token is worth nothing any more, on all servers.
    DropToken {
        /// Its name.
        user: String,
        /// What the token is called.
        name: String,
    },
}

impl UserRequest {
    fn user(&self) -> &str {
        match self {
            Self::Add { user, .. }
            | Self::Drop { user }
            | Self::SetRole { user, .. }
            | Self::SetPassword { user, .. }
            | Self::AddToken { user, .. }
            | Self::DropToken { user, .. } => user,
        }
    }
}

/// The answer of `POST /users`.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct UserAnswer {
    /// What came of it.
    #[serde(flatten)]
    pub(crate) change: ChangeAnswer,
    /// The token that was made. It is told this once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
    /// What the token is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
}

/// One user, in the answer of `GET /users`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct UserView {
    /// Its name.
    pub(crate) user: String,
    /// What it may do.
    pub(crate) role: UserRole,
    /// Whether it has a password.
    pub(crate) password: bool,
    /// Its tokens.
    pub(crate) tokens: Vec<TokenView>,
}

/// One token of a user, as far as it is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TokenView {
    /// What it is called.
    pub(crate) name: String,
    /// When it was made, in seconds since 1970.
    pub(crate) made: u64,
    /// From when on it is worth nothing, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expires: Option<u64>,
    /// Whether that is now.
    pub(crate) expired: bool,
}

pub(super) async fn list(State(app): State<App>) -> Response {
    let Some(configuration) = app.handle.configuration() else { return in_no_cluster() };
    let now = SystemTime::now();
    let views: Vec<UserView> =
        configuration.users.iter().map(|(name, user)| view(name, user, now)).collect();
    Json(views).into_response()
}

fn view(name: &str, user: &User, now: SystemTime) -> UserView {
    let token = |(name, token): (&String, &AccessToken)| TokenView {
        name: name.clone(),
        made: token.made,
        expires: token.expires,
        expired: is_over(token, now),
    };
    UserView {
        user: name.to_owned(),
        role: user.role,
        password: user.password.is_some(),
        tokens: user.tokens.iter().map(token).collect(),
    }
}

pub(super) async fn change(
    State(app): State<App>,
    Extension(who): Extension<Who>,
    Given(request): Given<UserRequest>,
) -> Response {
    // A password does not print.
    tracing::info!(by = who.name(), ?request, "a change of users is asked for");
    let Some(configuration) = app.handle.configuration() else { return in_no_cluster() };
    let user = request.user().to_owned();
    let made = match of(&app, &configuration, request).await {
        Ok(made) => made,
        Err(response) => return response,
    };
    let command = ConfigCommand::User { name: user, change: made.change };
    let reply = app.handle.command(Command::Change(command)).await;
    let reply = reply.unwrap_or(Reply::Failed(CommandError::OutcomeUnknown));
    let done = matches!(reply, Reply::Done { .. });
    let (token, name) = made.token.filter(|_| done).unzip();
    Json(UserAnswer { change: answer(reply), token, name }).into_response()
}

/// A change of the document, and the token that it makes good, with its name.
struct Made {
    change: UserChange,
    token: Option<(String, String)>,
}

async fn of(
    app: &App,
    configuration: &Configuration,
    request: UserRequest,
) -> Result<Made, Response> {
    let hash = async |password: Option<Password>| match password {
        Some(password) => app.access.hash(password).await.map(Some),
        None => Ok(None),
    };
    let change = match request {
        UserRequest::Add { role, password, .. } => {
            UserChange::Add { role, password: hash(password).await? }
        }
        UserRequest::Drop { .. } => UserChange::Drop,
        UserRequest::SetRole { role, .. } => UserChange::Role(role),
        UserRequest::SetPassword { password, .. } => UserChange::Password(hash(password).await?),
        UserRequest::AddToken { user, name, expires_seconds } => {
            let name = name.unwrap_or_else(|| free_name(configuration.users.get(&user)));
            return new_token(name, expires_seconds).map_err(|(code, why)| refuse(code, &why));
        }
        UserRequest::DropToken { name, .. } => UserChange::DropToken { name },
    };
    Ok(Made { change, token: None })
}

/// The first of `token-1`, `token-2` … that the user does not have.
fn free_name(user: Option<&std::sync::Arc<User>>) -> String {
    let taken = |name: &String| user.is_some_and(|user| user.tokens.contains_key(name));
    let mut names = (1..).map(|number: u32| format!("token-{number}"));
    names.find(|name| !taken(name)).unwrap_or_default()
}

fn new_token(name: String, expires_seconds: Option<u64>) -> Result<Made, (StatusCode, String)> {
    if expires_seconds.is_some_and(|seconds| seconds == 0 || seconds > EXPIRES_MAX.as_secs()) {
        let problem = "\"expires_seconds\" is 1 to 3153600000, a hundred years; leave it out for a \
                       token that does not expire";
        return Err((StatusCode::BAD_REQUEST, problem.to_owned()));
    }
    let (token, hash) = access::generate().map_err(|error| {
        let problem = format!("the operating system gives no randomness: {error}");
        (StatusCode::INTERNAL_SERVER_ERROR, problem)
    })?;
    let made = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let expires = expires_seconds.map(|seconds| made + seconds);
    let value = AccessToken { hash, made, expires };
    let change = UserChange::AddToken { name: name.clone(), token: value };
    Ok(Made { change, token: Some((token.to_string(), name)) })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use quorate_core::configuration::TokenHash;

    use super::*;

    #[test]
    fn a_request_never_prints_its_password() {
        let text = r#"{"todo": "add", "user": "ada", "role": "admin", "password": "do-not-print"}"#;
        let request: UserRequest = serde_json::from_str(text).unwrap();
        assert!(!format!("{request:?}").contains("do-not-print"), "{request:?}");
        assert!(serde_json::to_string(&request).unwrap().contains("do-not-print"));
        let wrong = text.replace("admin", "root");
        let error = serde_json::from_str::<UserRequest>(&wrong).unwrap_err().to_string();
        assert!(error.contains("reader") && !error.contains("do-not-print"), "{error}");
    }

    #[test]
    fn a_token_without_a_name_gets_the_first_that_is_free() {
        let token = AccessToken { hash: TokenHash([0; 32]), made: 0, expires: None };
        let tokens = ["token-1", "token-3", "ci"].map(|name| (name.to_owned(), token));
        let user = User { role: UserRole::Reader, password: None, tokens: tokens.into() };
        assert_eq!(free_name(Some(&Arc::new(user.clone()))), "token-2");
        assert_eq!(free_name(None), "token-1");
        let none = User { tokens: BTreeMap::new(), ..user };
        assert_eq!(free_name(Some(&Arc::new(none))), "token-1");
    }

    #[test]
    fn a_token_expires_between_now_and_in_a_hundred_years() {
        for wrong in [0, EXPIRES_MAX.as_secs() + 1, u64::MAX] {
            assert!(new_token("t".to_owned(), Some(wrong)).is_err());
        }
        let made = new_token("t".to_owned(), Some(60)).unwrap_or_else(|_| panic!());
        let UserChange::AddToken { token, .. } = made.change else { panic!() };
        assert_eq!(token.expires, Some(token.made + 60));
    }

    #[test]
    fn an_answer_with_a_token_is_read_back() {
        let change = ChangeAnswer::Done { version: 3 };
        let told = UserAnswer { change, token: Some("x".to_owned()), name: Some("t".to_owned()) };
        let text = serde_json::to_string(&told).unwrap();
        assert_eq!(text, r#"{"outcome":"done","version":3,"token":"x","name":"t"}"#);
        let read: UserAnswer = serde_json::from_str(&text).unwrap();
        assert_eq!(read.token.as_deref(), Some("x"));
    }
}
