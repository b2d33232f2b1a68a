//! Hrana 1, 2 and 3 over HTTP in JSON, so that the libSQL drivers work unchanged, at any node.
//!
//! ```text
//! path       which paths these are
//! proto      what is sent and answered
//! problem    errors, with codes for programs
//! text       where a statement ends, and what it is
//! streams    the streams between two requests, and their batons
//! stream     one stream: what is run on it, and how
//! asking     what a stream asks the database
//! describe   what a statement is, without running it
//! inside     interactive transactions
//! holder     whose a stream is
//! batch      steps with conditions
//! cursor     a batch whose results come line by line
//! ```
//!
//! | path, behind `/db/{db}` or by itself | method | |
//! |---|---|---|
//! | `/v1`, `/v2`, `/v3` | GET | 200: the version is spoken |
//! | `/v1/execute`, `/v1/batch` | POST | one statement, one batch, on a stream of its own |
//! | `/v2/pipeline`, `/v3/pipeline` | POST | requests on a stream |
//! | `/v3/cursor` | POST | a batch on a stream, answered line by line |
//!
//! Without `/db/{db}` it is the database that `--default-database` names, or else the only one. It is
//! the shard `main` always.
//!
//! A reader may send what reads, a writer everything; each statement is looked at. What begins as a read is
//! answered from the node's own copy, as the database's `readQuorum` says, and a stream sees what it
//! has been answered before; what writes goes to the owner, wherever it is. Nothing is ever redirected.
//! A request that cannot be read is refused with 400 before anything is done; what fails in a pipeline
//! is an error in its place, and the others are carried out.
//!
//! Bounds: [`BODY_BYTES_MAX`] of a request, [`REQUESTS_MAX`] in a pipeline, results up to
//! [`stream::ANSWER_BYTES_MAX`] and one more, [`streams::STREAMS_MAX`] streams that are idle for
//! [`streams::IDLE_MAX`], in a transaction [`streams::IDLE_MAX_INSIDE`].

mod asking;
mod batch;
mod cursor;
mod describe;
mod holder;
mod inside;
mod path;
mod problem;
mod proto;
mod stream;
mod streams;
mod text;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::Bytes;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use quorate_core::NodeId;
use serde::de::DeserializeOwned;
use tokio::sync::OnceCell;

pub(super) use path::{Asked, asked};
use streams::Streams;

use self::holder::Holder;
use self::path::{Endpoint, Which};
use self::problem::Refusal;
use self::proto::{
    Answer, BatchRequest, ExecuteRequest, PipelineAnswer, PipelineRequest, StreamResult,
};
use self::stream::{Run, Stream, TIMEOUT};
use self::streams::Lease;
use super::App;
use super::access::{self, Need, Peer};
use super::backend::Backend;
use super::proxy;

/// The longest body of a request, in bytes: BLOBs come as base64.
const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How much of a longer one is read and thrown away, that its sender hears why it is refused.
const DRAIN_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Requests of one pipeline.
const REQUESTS_MAX: usize = 4096;
/// Between two looks for streams that are idle.
const SWEEP: Duration = Duration::from_secs(1);

/// What belongs to Hrana in a node, or in a proxy.
pub(super) struct Hrana {
    /// Whose requests name no database.
    default: Option<String>,
    streams: Streams,
    /// Somebody looks for streams that are idle.
    sweeping: AtomicBool,
    /// The node, as batons name it.
    node: OnceCell<NodeId>,
}

impl Hrana {
    /// `default`: the database of requests that name none; without it the only one there is.
    ///
    /// # Errors
    /// The operating system gives no randomness.
    pub(super) fn new(default: Option<String>) -> std::io::Result<Self> {
        let (streams, sweeping) = (Streams::new()?, AtomicBool::new(false));
        Ok(Self { default, streams, sweeping, node: OnceCell::new() })
    }
}

/// Answers a request of Hrana, from the node.
pub(super) async fn serve(
    app: App,
    peer: Peer,
    asked: Asked,
    request: Request<Incoming>,
) -> Response {
    let admit = async |headers: &HeaderMap, which| Caller::of(&app, peer, headers, which).await;
    respond(admit, asked, request).await.unwrap_or_else(Refusal::into_response)
}

/// Answers a request of Hrana, from a cluster.
pub(super) async fn serve_through(
    proxy: &proxy::Proxy,
    asked: Asked,
    request: Request<Incoming>,
) -> Response {
    let admit = async |headers: &HeaderMap, which| Caller::through(proxy, headers, which).await;
    respond(admit, asked, request).await.unwrap_or_else(Refusal::into_response)
}

async fn respond<'a>(
    admit: impl AsyncFnOnce(&HeaderMap, Which) -> Result<Caller<'a>, Refusal>,
    Asked { which, endpoint }: Asked,
    request: Request<Incoming>,
) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    let probes = endpoint == Endpoint::Probe;
    let fits = match probes {
        true => matches!(parts.method, Method::GET | Method::HEAD),
        false => parts.method == Method::POST,
    };
    if !fits {
        let method = if probes { "GET" } else { "POST" };
        let code = StatusCode::METHOD_NOT_ALLOWED;
        return Err(Refusal::new(code, "HRANA_PROTO_ERROR", format!("send it as {method}")));
    }
    if probes {
        // Drivers ask without a token, and learn nothing that is not in the documentation.
        let plain = [(header::CONTENT_TYPE, "text/plain")];
        return Ok((StatusCode::OK, plain, "Hrana over HTTP, JSON\n").into_response());
    }
    let caller = admit(&parts.headers, which).await?;
    let body = read(body).await?;
    match endpoint {
        Endpoint::Execute => caller.execute(body).await,
        Endpoint::Batch => caller.batch(body).await,
        Endpoint::Cursor => caller.cursor(body).await,
        Endpoint::Pipeline | Endpoint::Probe => caller.pipeline(body).await,
    }
}

/// Who asks, and of which database.
struct Caller<'a> {
    hrana: &'a Arc<Hrana>,
    backend: Backend,
    who: Holder,
    may_write: bool,
    database: String,
}

impl<'a> Caller<'a> {
    async fn of(
        app: &'a App,
        peer: Peer,
        headers: &HeaderMap,
        which: Which,
    ) -> Result<Self, Refusal> {
        let who = access::admit(app, peer, headers, Need::Query).await?;
        let document = app.handle.configuration();
        let may_write = who.may(Need::Write, document.as_deref());
        let Some(document) = document else {
            let code = StatusCode::SERVICE_UNAVAILABLE;
            let message = "this node is in no cluster yet: ask another, or wait";
            return Err(Refusal::new(code, "UNAVAILABLE", message));
        };
        let known = document.databases.keys().map(String::as_str).collect();
        let database = database(which, app.hrana.default.as_deref(), &known)?;
        let backend = Backend::Node(app.clone());
        Ok(Self { hrana: &app.hrana, backend, who: who.into(), may_write, database })
    }

    /// Somebody whom the cluster lets in. What it may do there the cluster says when it tries.
    async fn through(
        proxy: &'a proxy::Proxy,
        headers: &HeaderMap,
        which: Which,
    ) -> Result<Self, Refusal> {
        let caller = proxy.caller(headers)?;
        let layout = caller.let_in(TIMEOUT).await?;
        let mut known: BTreeSet<&str> =
            layout.shards.iter().map(|shard| shard.database.as_str()).collect();
        // One that was made a moment ago is not in every layout yet: the cluster knows.
        if let Which::Named(name) = &which
            && !known.contains(name.as_str())
            && caller.has(name).await?
        {
            known.insert(name);
        }
        let database = database(which.clone(), proxy.hrana.default.as_deref(), &known)?;
        let who = Holder::Shown(caller.shown());
        let backend = Backend::Cluster(caller);
        Ok(Self { hrana: &proxy.hrana, backend, who, may_write: true, database })
    }

    /// The stream of `baton`, or a new one.
    fn stream(&self, baton: Option<&str>) -> Result<Lease<'a>, Refusal> {
        let streams = &self.hrana.streams;
        let Some(baton) = baton else {
            return streams.open(Stream::new(self.who.clone(), self.database.clone()));
        };
        streams.take(baton, &self.who, &self.database, |node| self.backend.name_of(node))
    }

    /// The baton of a stream that stays open.
    async fn keep(&self, mut lease: Lease<'a>) -> Option<String> {
        if lease.stream().is_closed {
            return None;
        }
        let node = match &self.backend {
            Backend::Cluster(caller) => caller.proxy(),
            Backend::Node(app) => {
                let asked = async || app.handle.status().await.map(|status| status.node);
                let node = self.hrana.node.get_or_try_init(asked).await;
                node.copied().unwrap_or(NodeId(0))
            }
        };
        let baton = lease.keep(node);
        if !self.hrana.sweeping.swap(true, Ordering::AcqRel) {
            tokio::spawn(sweep(Arc::clone(self.hrana)));
        }
        Some(baton)
    }

    async fn pipeline(self, body: Bytes) -> Result<Response, Refusal> {
        let PipelineRequest { baton, requests } = json(&body)?;
        if requests.len() > REQUESTS_MAX {
            return Err(Refusal::malformed(format!(
                "the pipeline has {} requests; {REQUESTS_MAX} are allowed. Nothing was done",
                requests.len()
            )));
        }
        let mut lease = self.stream(baton.as_deref())?;
        let mut results = Vec::with_capacity(requests.len());
        let mut run = Run::new(&self.backend, lease.stream(), self.may_write);
        for request in requests {
            results.push(match run.request(request).await {
                Ok(response) => StreamResult::Ok { response },
                Err(error) => StreamResult::Error { error },
            });
        }
        let baton = self.keep(lease).await;
        Ok(Json(PipelineAnswer { baton, base_url: None, results }).into_response())
    }

    async fn cursor(self, body: Bytes) -> Result<Response, Refusal> {
        let proto::CursorRequest { baton, batch } = json(&body)?;
        let mut lease = self.stream(baton.as_deref())?;
        let steps =
            batch::run(&mut Run::new(&self.backend, lease.stream(), self.may_write), batch).await;
        let baton = self.keep(lease).await;
        Ok(cursor::answer(baton, steps))
    }

    async fn execute(self, body: Bytes) -> Result<Response, Refusal> {
        let ExecuteRequest { stmt } = json(&body)?;
        let mut lease = self.stream(None)?;
        let mut run = Run::new(&self.backend, lease.stream(), self.may_write);
        let result = run.execute(stmt).await;
        run.abandon().await;
        Ok(Json(Answer { result: result.map_err(Refusal::of)? }).into_response())
    }

    async fn batch(self, body: Bytes) -> Result<Response, Refusal> {
        let BatchRequest { batch } = json(&body)?;
        let mut lease = self.stream(None)?;
        let mut run = Run::new(&self.backend, lease.stream(), self.may_write);
        let steps = batch::run(&mut run, batch).await;
        run.abandon().await;
        let result = batch::result(steps.map_err(Refusal::of)?);
        Ok(Json(Answer { result }).into_response())
    }
}

/// The database that is meant, of those there are.
fn database(
    which: Which,
    default: Option<&str>,
    known: &BTreeSet<&str>,
) -> Result<String, Refusal> {
    let lost = match &which {
        Which::Lost => {
            "; this driver needs a slash at the end of its URL, or it loses the name of the database: \
             http://HOST:PORT/db/NAME/"
        }
        Which::Named(_) | Which::Default => "",
    };
    let only = known.first().filter(|_| known.len() == 1);
    let name = match which {
        Which::Named(name) => Some(name),
        Which::Default | Which::Lost => {
            default.map(str::to_owned).or_else(|| only.map(|only| (*only).to_owned()))
        }
    };
    let problem = match name {
        Some(name) if known.contains(name.as_str()) => return Ok(name),
        Some(name) => {
            let shown: String = name.chars().take(80).collect();
            format!("there is no database '{shown}'; `quorate db list` lists them")
        }
        None if known.is_empty() => "there is no database".to_owned(),
        None => format!(
            "there are {} databases: name one, as in http://HOST:PORT/db/NAME, or start the node with \
             --default-database (a proxy: with --to quorate://HOST/NAME)",
            known.len()
        ),
    };
    let code = StatusCode::NOT_FOUND;
    Err(Refusal::new(code, "UNKNOWN_DATABASE", format!("{problem}{lost}")))
}

/// The body of a request, as a whole.
async fn read(mut body: Incoming) -> Result<Bytes, Refusal> {
    let mut held = Vec::new();
    let mut length = 0_usize;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return Err(Refusal::malformed("the request broke off. Nothing was done"));
        };
        let Ok(data) = frame.into_data() else { continue };
        length += data.len();
        if length <= BODY_BYTES_MAX {
            held.extend_from_slice(&data);
        } else if length > DRAIN_BYTES_MAX {
            break;
        } else {
            held = Vec::new();
        }
    }
    if length > BODY_BYTES_MAX {
        let message = format!(
            "the request is longer than {BODY_BYTES_MAX} bytes: split it. Nothing was done"
        );
        return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "REQUEST_TOO_LARGE", message));
    }
    Ok(held.into())
}

/// What a body says, whatever its content type.
fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| {
        Refusal::malformed(format!("the request cannot be read: {error}. Nothing was done"))
    })
}

/// Closes streams that are idle, until there are none.
async fn sweep(hrana: Arc<Hrana>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        if !hrana.streams.sweep(Instant::now()) {
            hrana.sweeping.store(false, Ordering::Release);
            // One that was kept meanwhile has found somebody sweeping.
            if hrana.streams.is_empty() || hrana.sweeping.swap(true, Ordering::AcqRel) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_is_the_one_named_or_the_default_or_the_only_one() {
        let named = |name: &str| Which::Named(name.to_owned());
        let of = |which, default, names: &[&str]| {
            let known = names.iter().copied().collect();
            database(which, default, &known).map_err(|refusal| refusal.message().to_owned())
        };
        let both = ["demo", "other"];
        assert_eq!(of(named("demo"), Some("other"), &both), Ok("demo".to_owned()));
        assert_eq!(of(Which::Default, Some("other"), &both), Ok("other".to_owned()));
        assert_eq!(of(Which::Lost, None, &["demo"]), Ok("demo".to_owned()));
        for (which, default, names, part) in [
            (named("x"), None, both.as_slice(), "no database 'x'"),
            (Which::Default, None, &both, "2 databases"),
            (Which::Lost, None, &both, "slash at the end"),
            (Which::Default, None, &[], "there is no database"),
            (Which::Default, Some("x"), &both, "no database 'x'"),
        ] {
            let problem = of(which, default, names).unwrap_err();
            assert!(problem.contains(part), "{problem}");
        }
    }
}
