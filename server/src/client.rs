//! How the other commands reach a running node: over its HTTP address, as a user, or with the node's
//! own token.

mod credentials;
mod way;

use std::io::{self, ErrorKind};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::Agent;
use ureq::http::{Response, StatusCode};

use crate::cli::Target;
use crate::exit::Failure;
use crate::http::OWNER_AWAY;
pub(crate) use credentials::{asked, token_of};
use way::Way;
pub(crate) use way::{reached, running};

/// How long an answer may take.
const ANSWER_MAX_WAIT: Duration = Duration::from_secs(10);
/// How long a graceful stop, or a change that has to be committed, may take.
const COMMAND_MAX_WAIT: Duration = Duration::from_secs(60);

/// A request that was sent, and what has come of it.
type Sent = Result<Response<ureq::Body>, ureq::Error>;

/// A way to one running node.
pub(crate) struct Client {
    url: String,
    /// The header that says who asks.
    authorization: Option<String>,
    agent: Agent,
    /// For messages: how the user named it.
    pub(crate) at: String,
}

impl Client {
    /// Finds the node that `target` means, and what to show it.
    ///
    /// # Errors
    /// [`Failure::NoNode`] saying where it looked and what to do; [`Failure::Usage`] for files and
    /// addresses that cannot be used.
    pub(crate) fn find(target: &Target) -> Result<Self, Failure> {
        let way = match &target.http {
            Some(address) => Way::to(address, target)?,
            None => Way::in_directory(&target.data)?,
        };
        let authorization = credentials::authorization(target, way.local)?;
        let agent = Agent::config_builder()
            .timeout_connect(Some(Duration::from_secs(3)))
            .http_status_as_error(false)
            .proxy(None)
            // A redirection could lead the credentials elsewhere; no node makes one.
            .max_redirects(0)
            .tls_config(way.tls(target)?)
            .build()
            .new_agent();
        Ok(Self { url: way.url, authorization, agent, at: way.at })
    }

    /// Asks for what is at `path`.
    ///
    /// # Errors
    /// [`Failure::NoNode`] if nobody answers, [`Failure::Refused`] if the answer is an error.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.get_within(path, ANSWER_MAX_WAIT)
    }

    /// As [`Client::get`], of a node that may take so long to answer.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub(crate) fn get_within<T: DeserializeOwned>(
        &self,
        path: &str,
        wait: Duration,
    ) -> Result<T, Failure> {
        let mut request = self.agent.get(format!("{}{path}", self.url));
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        let request = request.config().timeout_global(Some(wait)).build();
        self.read(request.call())
    }

    /// Has the node do something that needs the token.
    ///
    /// # Errors
    /// As [`Client::get`]; [`Failure::OutcomeUnknown`] if the connection broke off.
    pub(crate) fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        self.read(self.send("changing anything", path, body, COMMAND_MAX_WAIT)?)
    }

    /// Fetches a copy: the entry of the log that it stands at, how long it is, and its bytes.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub(crate) fn download(
        &self,
        path: &str,
    ) -> Result<(u64, u64, impl io::Read + use<>), Failure> {
        let authorization = self.authorized("a backup")?;
        let request = self.agent.get(format!("{}{path}", self.url));
        let request = request.header("authorization", authorization);
        let response = request.call().map_err(|error| self.unreached(&error))?;
        if !response.status().is_success() {
            self.read::<serde_json::Value>(Ok(response))?;
            return Err(Failure::Refused(format!("the node at {} gives no copy", self.at)));
        }
        let number = |name: &str| {
            let value = response.headers().get(name).and_then(|value| value.to_str().ok());
            value.and_then(|text| text.parse().ok()).unwrap_or(0)
        };
        let (lsn, bytes) = (number("x-quorate-lsn"), number("content-length"));
        Ok((lsn, bytes, response.into_body().into_reader()))
    }

    /// Sends the node a file, and waits as long as it takes.
    ///
    /// # Errors
    /// As [`Client::sql`].
    pub(crate) fn upload<T: DeserializeOwned>(
        &self,
        path: &str,
        file: &mut impl io::Read,
    ) -> Result<T, Failure> {
        let authorization = self.authorized("replacing content")?;
        let request = self.agent.post(format!("{}{path}", self.url));
        let request = request.header("authorization", authorization);
        let request = request.header("content-type", "application/vnd.sqlite3");
        self.outcome(request.send(ureq::SendBody::from_reader(file)))
    }

    /// Has the node run SQL.
    ///
    /// # Errors
    /// As [`Client::post`]; [`Failure::NoQuorum`] if nobody can run it, [`Failure::OutcomeUnknown`]
    /// if it may have been done.
    pub(crate) fn sql<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        self.outcome(self.send("SQL", path, body, COMMAND_MAX_WAIT)?)
    }

    /// Has the node do what may take `seconds`.
    ///
    /// # Errors
    /// As [`Client::sql`].
    pub(crate) fn slow<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        seconds: u64,
    ) -> Result<T, Failure> {
        let wait = Duration::from_secs(seconds).saturating_add(ANSWER_MAX_WAIT);
        self.outcome(self.send("this", path, body, wait)?)
    }

    fn outcome<T: DeserializeOwned>(&self, sent: Sent) -> Result<T, Failure> {
        let (code, text) = self.received(sent)?;
        if code.is_success() {
            return self.understood(&text);
        }
        let told: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let word = |name: &str| told.get(name).and_then(|value| value.as_str()).unwrap_or_default();
        let said = match word("error") {
            "" => format!("the node at {} answered {code}", self.at),
            said => said.to_owned(),
        };
        Err(match (code.as_u16(), word("outcome")) {
            _ if word("kind") == OWNER_AWAY => Failure::OwnerAway(said),
            (401 | 403 | 429, "") => Failure::NotAllowed(said),
            (503, _) => Failure::NoQuorum(said),
            (_, "unknown") => Failure::OutcomeUnknown(said),
            _ => Failure::Refused(said),
        })
    }

    fn authorized(&self, what: &str) -> Result<&str, Failure> {
        self.authorization.as_deref().ok_or_else(|| {
            Failure::Usage(format!(
                "{what} at {} needs a user: give a token with QUORATE_TOKEN, --token or --token-file, or \
                 a name with --user. On the node's own machine its data directory is enough (--data)",
                self.at
            ))
        })
    }

    /// Sends what needs the token; `what` begins the message if there is none.
    fn send(
        &self,
        what: &str,
        path: &str,
        body: &impl Serialize,
        wait: Duration,
    ) -> Result<Sent, Failure> {
        let authorization = self.authorized(what)?;
        let request = self.agent.post(format!("{}{path}", self.url));
        let request = request.header("authorization", authorization);
        let request = request.config().timeout_global(Some(wait)).build();
        Ok(request.send_json(body))
    }

    fn received(&self, answer: Sent) -> Result<(StatusCode, String), Failure> {
        let mut response = answer.map_err(|error| self.unreached(&error))?;
        let body = response.body_mut().read_to_string().map_err(|error| self.unreached(&error))?;
        Ok((response.status(), body))
    }

    fn understood<T: DeserializeOwned>(&self, body: &str) -> Result<T, Failure> {
        serde_json::from_str(body).map_err(|error| {
            let at = &self.at;
            Failure::Refused(format!("the answer of {at} is not one of a Quorate node: {error}"))
        })
    }

    fn read<T: DeserializeOwned>(&self, answer: Sent) -> Result<T, Failure> {
        let (code, body) = self.received(answer)?;
        if code.is_success() {
            return self.understood(&body);
        }
        let error: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
        let said = error.get("error").and_then(|e| e.as_str()).unwrap_or("no reason given");
        let said = format!("the node at {} answered {code}: {said}", self.at);
        Err(match code.as_u16() {
            401 if self.authorization.is_none() => Failure::NotAllowed(format!(
                "{said} (with this command: QUORATE_TOKEN, --token, --token-file or --user)"
            )),
            401 | 403 | 429 => Failure::NotAllowed(said),
            _ => Failure::Refused(said),
        })
    }

    fn unreached(&self, error: &ureq::Error) -> Failure {
        let at = &self.at;
        if let Some(failure) = way::insecure(at, &self.url, error) {
            return failure;
        }
        match error {
            ureq::Error::Io(e) if e.kind() == ErrorKind::ConnectionRefused => {
                Failure::NoNode(format!("no node answers at {at}: nothing listens at {}", self.url))
            }
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => Failure::Usage(format!(
                "--http {at} is not an address: give http://HOST:PORT or https://HOST:PORT"
            )),
            ureq::Error::Timeout(ureq::Timeout::Connect) | ureq::Error::HostNotFound => {
                Failure::NoNode(format!("no node answers at {at}: {error}"))
            }
            _ => Failure::OutcomeUnknown(format!(
                "the node at {at} did not answer to the end: {error}; it may be stopping, or very \
                 busy"
            )),
        }
    }
}
