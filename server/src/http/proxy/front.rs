//! Which path is whose.

use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{Request, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use serde_json::json;

use super::{Caller, Proxy, layout};
use crate::http::backend::Backend;
use crate::http::sql::{self, Access, OfShard, SQL_BYTES_MAX, SqlBody};
use crate::http::{hrana, refuse};

/// How long `/readyz` looks for a server.
const READY_MAX_WAIT: Duration = Duration::from_secs(2);

/// What is on its way to one request.
type Answering = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

/// The handler of all requests of one connection; cheap to clone.
#[derive(Clone)]
pub(super) struct Front {
    proxy: Proxy,
    router: TowerToHyperService<Router>,
}

impl Front {
    /// `router` is that of [`routes`].
    pub(super) fn new(proxy: Proxy, router: TowerToHyperService<Router>) -> Self {
        Self { proxy, router }
    }
}

impl Service<Request<Incoming>> for Front {
    type Response = Response;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: Request<Incoming>) -> Answering {
        match hrana::asked(request.uri().path()) {
            Some(asked) => {
                let proxy = self.proxy.clone();
                Box::pin(async move { Ok(hrana::serve_through(&proxy, asked, request).await) })
            }
            None => Box::pin(self.router.call(request)),
        }
    }
}

/// All paths but those of Hrana, made once for all connections.
pub(super) fn routes(proxy: Proxy) -> TowerToHyperService<Router> {
    let asking = Router::new()
        .route("/db/{db}/query", post(query))
        .route("/db/{db}/execute", post(execute))
        .layer(DefaultBodyLimit::max(SQL_BYTES_MAX))
        .route("/layout", get(layout::show))
        .route("/events", get(layout::events))
        .layer(middleware::from_fn_with_state(proxy.clone(), known));
    let open = Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz));
    let all = open.merge(asking).fallback(nowhere).method_not_allowed_fallback(otherwise);
    TowerToHyperService::new(all.with_state(proxy))
}

/// Says by its token who asks.
async fn known(
    State(proxy): State<Proxy>,
    mut request: axum::extract::Request,
    next: Next,
) -> Response {
    match proxy.caller(request.headers()) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(shut) => shut.into_response(),
    }
}

async fn query(
    Extension(caller): Extension<Caller>,
    Path(database): Path<String>,
    Query(of): Query<OfShard>,
    body: Result<Json<SqlBody>, JsonRejection>,
) -> Response {
    sql::read_and_run(&Backend::Cluster(caller), database, of, body, Access::Read).await
}

async fn execute(
    Extension(caller): Extension<Caller>,
    Path(database): Path<String>,
    Query(of): Query<OfShard>,
    body: Result<Json<SqlBody>, JsonRejection>,
) -> Response {
    sql::read_and_run(&Backend::Cluster(caller), database, of, body, Access::Write).await
}

async fn healthz() -> Response {
    (StatusCode::OK, [(header::CONTENT_TYPE, "text/plain")], "ok\n").into_response()
}

/// Whether any server is in reach. One that lets nobody in without a token is, too: requests bring their
/// own.
async fn readyz(State(proxy): State<Proxy>) -> Response {
    match proxy.unreached(READY_MAX_WAIT).await {
        None => Json(json!({ "ready": true })).into_response(),
        Some(reason) => {
            let body = json!({ "ready": false, "reason": reason });
            (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
        }
    }
}

/// What there is.
const SERVED: &str = "a proxy serves POST /db/NAME/query, /db/NAME/execute and what libSQL drivers send \
                      (/db/NAME/v1 to v3), and GET /layout, /events, /healthz and /readyz";

async fn nowhere() -> Response {
    let said = format!("no such path: {SERVED}; the rest is asked of a node itself");
    refuse(StatusCode::NOT_FOUND, &said)
}

async fn otherwise() -> Response {
    let said = format!("this path is asked for by another method: {SERVED}");
    refuse(StatusCode::METHOD_NOT_ALLOWED, &said)
}
