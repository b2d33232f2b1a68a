//! How the other commands reach a running node: over its HTTP address, with its token.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::Agent;
use ureq::http::{Response, StatusCode};

use crate::cli::Target;
use crate::exit::Failure;
use crate::http::OWNER_AWAY;
use crate::presence::{self, Presence};
use crate::token;

/// How long an answer may take.
const ANSWER_MAX_WAIT: Duration = Duration::from_secs(10);
/// How long a graceful stop, or a change that has to be committed, may take.
const COMMAND_MAX_WAIT: Duration = Duration::from_secs(60);

/// A request that was sent, and what has come of it.
type Sent = Result<Response<ureq::Body>, ureq::Error>;

/// A way to one running node.
pub(crate) struct Client {
    url: String,
    token: Option<String>,
    agent: Agent,
    /// For messages: how the user named it.
    pub(crate) at: String,
}

impl Client {
    /// Finds the node that `target` means.
    ///
    /// # Errors
    /// [`Failure::NoNode`] saying where it looked and what to do.
    pub(crate) fn find(target: &Target) -> Result<Self, Failure> {
        let (url, at) = match &target.http {
            Some(url) if url.contains("://") => (url.trim_end_matches('/').to_owned(), url.clone()),
            Some(address) => (format!("http://{address}"), address.clone()),
            None => in_directory(&target.data)?,
        };
        let file = target.token_file.clone().unwrap_or_else(|| token::path(&target.data));
        let token = match fs::read_to_string(&file) {
            Ok(text) => Some(text.trim().to_owned()),
            Err(error) if target.token_file.is_some() => {
                let file = file.display();
                return Err(Failure::Usage(format!("the token file {file}: {error}")));
            }
            Err(_) => None,
        };
        let agent = Agent::config_builder()
            .timeout_connect(Some(Duration::from_secs(3)))
            .http_status_as_error(false)
            .proxy(None)
            .build()
            .new_agent();
        Ok(Self { url, token, agent, at })
    }

    /// Asks for what is at `path`.
    ///
    /// # Errors
    /// [`Failure::NoNode`] if nobody answers, [`Failure::Refused`] if the answer is an error.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let request = self.agent.get(format!("{}{path}", self.url));
        let request = request.config().timeout_global(Some(ANSWER_MAX_WAIT)).build();
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
        let token = self.token_for("a backup")?;
        let request = self.agent.get(format!("{}{path}", self.url));
        let request = request.header("authorization", format!("Bearer {token}"));
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
        let token = self.token_for("replacing content")?;
        let request = self.agent.post(format!("{}{path}", self.url));
        let request = request.header("authorization", format!("Bearer {token}"));
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
            (503, _) => Failure::NoQuorum(said),
            (_, "unknown") => Failure::OutcomeUnknown(said),
            _ => Failure::Refused(said),
        })
    }

    fn token_for(&self, what: &str) -> Result<&str, Failure> {
        self.token.as_deref().ok_or_else(|| {
            Failure::Usage(format!(
                "{what} at {} needs the node's admin token: name its data directory with --data, or \
                 a copy of its admin.token with --token-file",
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
        let token = self.token_for(what)?;
        let request = self.agent.post(format!("{}{path}", self.url));
        let request = request.header("authorization", format!("Bearer {token}"));
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
        Err(Failure::Refused(format!("the node at {} answered {code}: {said}", self.at)))
    }

    fn unreached(&self, error: &ureq::Error) -> Failure {
        let at = &self.at;
        match error {
            ureq::Error::Io(e) if e.kind() == ErrorKind::ConnectionRefused => {
                Failure::NoNode(format!("no node answers at {at}: nothing listens at {}", self.url))
            }
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => {
                Failure::Usage(format!("--http {at} is not an address: give http://HOST:PORT"))
            }
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

fn in_directory(data: &Path) -> Result<(String, String), Failure> {
    let shown = data.display();
    if !data.is_dir() {
        return Err(Failure::NoNode(format!(
            "there is no data directory {shown}: name the node's own with --data DIR, or its \
             address with --http http://HOST:PORT"
        )));
    }
    let present = Presence::read(data).map_err(|error| {
        Failure::NoNode(format!("{} cannot be read: {error}", presence::path(data).display()))
    })?;
    let Some(present) = present else {
        return Err(Failure::NoNode(format!(
            "no node is running on {shown}: start it with `quorate start --data {shown}`"
        )));
    };
    if !present.is_running() {
        return Err(Failure::NoNode(format!(
            "no node is running on {shown}: its last process, {}, ended without taking leave. \
             Start it again with `quorate start --data {shown}`",
            present.pid
        )));
    }
    let Some(http) = present.http else {
        return Err(Failure::NoNode(format!(
            "the node on {shown} (process {}) was started with --http off: it can only be signalled \
             (SIGTERM leaves in good order)",
            present.pid
        )));
    };
    Ok((format!("http://{http}"), shown.to_string()))
}
