//! HTTP: the node's status for people and monitors, the layout for clients, commands for operators.
//!
//! | path | method | answer |
//! |---|---|---|
//! | `/status` | GET | [`StatusView`] |
//! | `/layout` | GET | [`LayoutView`], or 503 before there is one |
//! | `/events` | GET | server-sent events, each a layout; the present one first |
//! | `/healthz` | GET | 200 while the node runs |
//! | `/readyz` | GET | 200, or 503 and the reason |
//! | `/metrics` | GET | Prometheus text |
//! | `/admin/stop` | POST | answers when the node has stopped; needs the token |
//! | `/admin/server` | POST | a change of one server; needs the token |
//! | `/admin/db` | POST | makes, changes or drops a database; needs the token |
//! | `/admin/db/preview` | POST | what that would move, and lose; needs the token |
//! | `/db` | GET | the databases, their shards and copies |
//! | `/db/{db}` | GET | one of them, with its configuration |
//! | `/db/{db}/execute` | POST | a transaction; `?shard=`; needs the token |
//! | `/db/{db}/query` | POST | one that only reads; `?shard=`; needs the token |
//! | `/db/{db}/verify` | POST | whether all copies are the same; `?shard=`; needs the token |
//! | `/db/{db}/restore` | POST | its content becomes that of the database in the body; `?shard=`; needs the token |
//!
//! Bounds: [`server::CONNECTIONS_MAX`] connections, a request head within [`server::HEAD_MAX_WAIT`],
//! a body of [`BODY_BYTES_MAX`] ([`sql::SQL_BYTES_MAX`] with SQL,
//! [`quorate_io::copies::UPLOAD_BYTES_MAX`] to restore), [`EVENTS_MAX`] listeners, an answer within [`ANSWER_MAX_WAIT`].

mod admin;
mod body;
mod copies;
mod databases;
mod events;
mod front;
mod metrics;
mod preview;
mod restore;
mod server;
mod sql;
mod verify;
mod written;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, middleware};
use quorate_io::runtime::Handle;
use serde_json::json;
use tokio::sync::Semaphore;

pub(crate) use admin::{ChangeAnswer, ChangeRequest, StopAnswer, ToDo};
#[cfg(test)]
pub(crate) use copies::Progress;
pub(crate) use copies::{CopyNews, SyncBody, SyncNews, news};
pub(crate) use databases::{DatabaseRequest, DatabaseView};
pub(crate) use preview::{Preview, WouldDo};
pub(crate) use restore::Restored;
pub(crate) use server::{Listening, bind, serve};
pub(crate) use sql::{Args, ConsistencyBody, OWNER_AWAY, SqlAnswer, SqlBody, StatementBody};
pub(crate) use verify::{Comparison, VerifyBody};

use crate::token::Token;
use crate::view::{LayoutView, StatusView};

/// The longest body of a request, in bytes.
pub(crate) const BODY_BYTES_MAX: usize = 16 * 1024;
/// How many listeners `/events` serves at once.
pub(crate) const EVENTS_MAX: usize = 64;
/// How long an answer may take, `/events` and the commands of operators excepted.
pub(crate) const ANSWER_MAX_WAIT: Duration = Duration::from_secs(5);

/// What every request can reach. The router copies it several times a request.
#[derive(Clone)]
pub(crate) struct App(Arc<Parts>);

/// What an [`App`] holds.
pub(crate) struct Parts {
    handle: Handle,
    token: Token,
    warnings: Vec<String>,
    listeners: Arc<Semaphore>,
}

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl App {
    /// For the node behind `handle`; `warnings` are shown with its status.
    pub(crate) fn new(handle: Handle, token: Token, warnings: Vec<String>) -> Self {
        let listeners = Arc::new(Semaphore::new(EVENTS_MAX));
        Self(Arc::new(Parts { handle, token, warnings, listeners }))
    }

    async fn view(&self) -> Result<StatusView, Response> {
        match self.handle.status().await {
            Ok(status) => Ok(StatusView::new(&status, self.warnings.clone())),
            Err(stopped) => Err(refuse(StatusCode::SERVICE_UNAVAILABLE, &stopped.to_string())),
        }
    }
}

/// An error as every path answers it: `{"error": "..."}`.
fn refuse(code: StatusCode, message: &str) -> Response {
    (code, Json(json!({ "error": message }))).into_response()
}

fn router(app: App) -> Router {
    let quick = Router::new()
        .route("/status", get(status))
        .route("/layout", get(layout))
        .route("/db", get(databases::list))
        .route("/db/{db}", get(databases::show))
        .route("/db/{db}/copies", get(copies::list))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics::serve))
        .layer(middleware::from_fn(in_time));
    let commands = Router::new()
        .route("/admin/stop", post(admin::stop))
        .route("/admin/server", post(admin::change))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX));
    let databases = Router::new()
        .route("/admin/db", post(databases::change))
        .route("/admin/db/preview", post(databases::preview))
        .route("/db/{db}/execute", post(sql::execute))
        .route("/db/{db}/query", post(sql::query))
        .route("/db/{db}/verify", post(verify::verify))
        .route("/db/{db}/sync", post(copies::sync))
        .route("/db/{db}/backup", get(copies::backup))
        .route("/db/{db}/restore", post(restore::restore))
        .layer(DefaultBodyLimit::max(sql::SQL_BYTES_MAX));
    let admin = commands
        .merge(databases)
        .layer(middleware::from_fn_with_state(app.clone(), admin::authorize));
    Router::new()
        .merge(quick.layer(DefaultBodyLimit::max(BODY_BYTES_MAX)))
        .merge(admin)
        .route("/events", get(events::serve))
        .fallback(nowhere)
        .with_state(app)
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

async fn status(State(app): State<App>) -> Response {
    match app.view().await {
        Ok(view) => Json(view).into_response(),
        Err(response) => response,
    }
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
