//! HTTP: the node's status for people and monitors, the layout for clients, commands for operators.
//!
//! | path | method | role | answer |
//! |---|---|---|---|
//! | `/healthz` | GET | open | 200 while the node runs |
//! | `/readyz` | GET | open | 200, or 503 and the reason |
//! | `/status` | GET | reader | [`StatusView`]; `?db=&latency=true&messages=true`: see [`status`] |
//! | `/layout` | GET | reader | [`LayoutView`], or 503 before there is one |
//! | `/events` | GET | reader | server-sent events, each a layout; the present one first |
//! | `/metrics` | GET | reader | Prometheus text |
//! | `/db` | GET | reader | the databases, their shards and copies |
//! | `/db/{db}` | GET | reader | one of them, with its configuration |
//! | `/db/{db}/copies` | GET | reader | the copies that are not whole |
//! | `/db/{db}/query` | POST | reader | a transaction that only reads; `?shard=` |
//! | `/db/{db}/execute` | POST | writer | a transaction; `?shard=` |
//! | `/db/{db}/v2/pipeline` … | POST | reader, or writer to write | what libSQL drivers send: see [`hrana`] |
//! | `/db/{db}/session` | POST | writer | a session, in which a transaction is done once; `?shard=` |
//! | `/db/{db}/verify` | POST | admin | whether all copies are the same; `?shard=` |
//! | `/db/{db}/sync` | POST | admin | brings the node's copies up to date; `?shard=` |
//! | `/db/{db}/backup` | GET | admin | the node's copy, as a file; `?shard=` |
//! | `/db/{db}/restore` | POST | admin | its content becomes that of the database in the body; `?shard=` |
//! | `/admin/db` | POST | admin | makes, changes or drops a database |
//! | `/admin/db/preview` | POST | admin | what that would move, and lose |
//! | `/admin/server` | POST | admin | a change of one server |
//! | `/admin/stop` | POST | admin | answers when the node has stopped |
//! | `/users` | GET | admin | who may use the cluster |
//! | `/users` | POST | admin | a change of one user; a new token |
//!
//! Without users only this machine is let in, to what is GET for a reader; the rest needs the node's admin
//! token (see [`access`]).
//!
//! Bounds: [`server::CONNECTIONS_MAX`] connections, a request head within [`server::HEAD_MAX_WAIT`],
//! a body of [`BODY_BYTES_MAX`] ([`sql::SQL_BYTES_MAX`] with SQL,
//! [`quorate_io::copies::UPLOAD_BYTES_MAX`] to restore), [`EVENTS_MAX`] listeners, an answer within [`ANSWER_MAX_WAIT`].

mod access;
mod admin;
mod backend;
mod body;
mod copies;
mod databases;
mod events;
mod front;
mod hrana;
mod metrics;
mod news;
mod preview;
mod proxy;
mod restore;
mod server;
mod session;
mod sql;
mod status;
mod tls;
mod users;
mod verify;
mod written;

use std::io;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, middleware};
use quorate_core::Status;
use quorate_io::runtime::Handle;
use serde_json::json;
use tokio::sync::Semaphore;

pub(crate) use access::{Password, Peer, Who, client as client_let_in, rights as client_rights};
pub(crate) use admin::{ChangeAnswer, ChangeRequest, StopAnswer, ToDo};
pub(crate) use copies::{CopyNews, Progress, SyncBody, SyncNews, news};
pub(crate) use databases::{DatabaseRequest, DatabaseView};
pub(crate) use preview::{Preview, WouldDo};
pub(crate) use proxy::{Proxy, serve as serve_proxy};
pub(crate) use restore::Restored;
pub(crate) use server::serve;
pub(crate) use sql::{Args, ConsistencyBody, OWNER_AWAY, SqlAnswer, SqlBody, StatementBody};
pub(crate) use tls::{Tls, certificates};
pub(crate) use users::{EXPIRES_MAX, TokenView, UserAnswer, UserRequest, UserView};
pub(crate) use verify::{Comparison, VerifyBody};

use crate::token::Token;
use crate::view::{LayoutView, StatusView};
use access::Access;
use hrana::Hrana;
use news::News;

/// The longest body of a request, in bytes.
pub(crate) const BODY_BYTES_MAX: usize = 16 * 1024;
/// How many listeners `/events` serves at once.
pub(crate) const EVENTS_MAX: usize = 2048;
/// How long an answer may take, `/events` and the commands of operators excepted.
pub(crate) const ANSWER_MAX_WAIT: Duration = Duration::from_secs(5);

/// What every request can reach. The router copies it several times a request.
#[derive(Clone)]
pub(crate) struct App(Arc<Parts>);

/// What an [`App`] holds.
pub(crate) struct Parts {
    handle: Handle,
    access: Access,
    hrana: Arc<Hrana>,
    warnings: Vec<String>,
    listeners: Arc<Semaphore>,
    news: News,
    served: Served,
}

/// What clients with Quorate's own protocol have been served since the start.
#[derive(Default)]
pub(crate) struct Served {
    /// Connections that are open.
    clients: AtomicU64,
    requests: AtomicU64,
}

impl Served {
    /// A client has come; it is one less when that is dropped.
    pub(crate) fn client(&self) -> impl Drop + '_ {
        struct Here<'a>(&'a AtomicU64);
        impl Drop for Here<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        self.clients.fetch_add(1, Ordering::Relaxed);
        Here(&self.clients)
    }

    /// Connections that are open, and requests so far.
    fn counts(&self) -> (u64, u64) {
        (self.clients.load(Ordering::Relaxed), self.requests.load(Ordering::Relaxed))
    }

    /// A client has asked for something.
    pub(crate) fn request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }
}

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl App {
    /// The node.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// What was served to clients.
    pub(crate) fn served(&self) -> &Served {
        &self.served
    }

    /// For the node behind `handle`; `warnings` are shown with its status, `database` is that of
    /// drivers whose URL names none. Made within a runtime: it follows what the node knows.
    ///
    /// # Errors
    /// The operating system gives no randomness.
    pub(crate) fn new(
        handle: Handle,
        admin: Token,
        warnings: Vec<String>,
        database: Option<String>,
    ) -> io::Result<Self> {
        let listeners = Arc::new(Semaphore::new(EVENTS_MAX));
        let (access, hrana) = (Access::new(admin)?, Arc::new(Hrana::new(database)?));
        let news = News::follow(handle.clone());
        let served = Served::default();
        let parts = Parts { handle, access, hrana, warnings, listeners, news, served };
        Ok(Self(Arc::new(parts)))
    }

    async fn status(&self) -> Result<Status, Response> {
        let status = self.handle.status().await;
        status.map_err(|stopped| refuse(StatusCode::SERVICE_UNAVAILABLE, &stopped.to_string()))
    }

    async fn view(&self) -> Result<StatusView, Response> {
        Ok(StatusView::new(&self.status().await?, self.warnings.clone()))
    }
}

/// An error as every path answers it: `{"error": "..."}`.
fn refuse(code: StatusCode, message: &str) -> Response {
    (code, Json(json!({ "error": message }))).into_response()
}

fn router(app: App) -> Router {
    let open = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .layer(middleware::from_fn(in_time));
    // Each group has its own guard, and what is nowhere is guarded too: a path that is added is open to
    // those only for whom its group is.
    let guarded = looking(&app).merge(querying(&app)).merge(writing(&app)).merge(commanding(&app));
    open.merge(guarded).with_state(app)
}

/// What a reader may see, and without users anybody on this machine.
fn looking(app: &App) -> Router<App> {
    let quick = Router::new()
        .route("/status", get(status::serve))
        .route("/layout", get(layout))
        .route("/db", get(databases::list))
        .route("/db/{db}", get(databases::show))
        .route("/db/{db}/copies", get(copies::list))
        .route("/metrics", get(metrics::serve))
        .layer(middleware::from_fn(in_time))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX));
    quick
        .route("/events", get(events::serve))
        .fallback(nowhere)
        .layer(middleware::from_fn_with_state(app.clone(), access::look))
}

/// What a reader may do.
fn querying(app: &App) -> Router<App> {
    Router::new()
        .route("/db/{db}/query", post(sql::query))
        .layer(DefaultBodyLimit::max(sql::SQL_BYTES_MAX))
        .layer(middleware::from_fn_with_state(app.clone(), access::query))
}

/// What a writer may do.
fn writing(app: &App) -> Router<App> {
    Router::new()
        .route("/db/{db}/execute", post(sql::execute))
        .route("/db/{db}/session", post(session::open))
        .layer(DefaultBodyLimit::max(sql::SQL_BYTES_MAX))
        .layer(middleware::from_fn_with_state(app.clone(), access::write))
}

/// All else.
fn commanding(app: &App) -> Router<App> {
    let commands = Router::new()
        .route("/admin/stop", post(admin::stop))
        .route("/admin/server", post(admin::change))
        .route("/users", get(users::list).post(users::change))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX));
    let databases = Router::new()
        .route("/admin/db", post(databases::change))
        .route("/admin/db/preview", post(databases::preview))
        .route("/db/{db}/verify", post(verify::verify))
        .route("/db/{db}/sync", post(copies::sync))
        .route("/db/{db}/backup", get(copies::backup))
        .route("/db/{db}/restore", post(restore::restore))
        .layer(DefaultBodyLimit::max(sql::SQL_BYTES_MAX));
    commands.merge(databases).layer(middleware::from_fn_with_state(app.clone(), access::admin))
}

async fn in_time(request: axum::extract::Request, next: middleware::Next) -> Response {
    match tokio::time::timeout(ANSWER_MAX_WAIT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => refuse(StatusCode::GATEWAY_TIMEOUT, "the node did not answer in time"),
    }
}

async fn nowhere() -> Response {
    refuse(
        StatusCode::NOT_FOUND,
        "no such path; there are /status /layout /events /db /healthz /readyz /metrics",
    )
}

async fn layout(State(app): State<App>) -> Response {
    let layout = app.handle.layout();
    match &layout.configuration {
        Some(configuration) => {
            let view = LayoutView::of(configuration, &layout);
            Json(view).into_response()
        }
        None => refuse(StatusCode::SERVICE_UNAVAILABLE, "this node is in no cluster yet"),
    }
}

async fn healthz(State(app): State<App>) -> Response {
    match app.view().await {
        Ok(_) => (StatusCode::OK, [(header::CONTENT_TYPE, "text/plain")], "ok\n").into_response(),
        Err(response) => response,
    }
}

async fn readyz(State(app): State<App>) -> Response {
    match app.view().await {
        Ok(view) => match view.unready() {
            None => (StatusCode::OK, Json(json!({ "ready": true }))).into_response(),
            Some(reason) => {
                let body = json!({ "ready": false, "reason": reason });
                (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
            }
        },
        Err(response) => response,
    }
}
