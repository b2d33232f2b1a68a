//! In front of the router: transactions, which are nearly all that is asked, go straight to their
//! handler. So do the requests of libSQL drivers, whose slashes no router would know.
//!
//! Only a request in its plainest form is taken here: it may be made, as can be told at once, names a database and nothing
//! else, says how long its body is, and that body is sound. Everything else goes through the router,
//! what is to be refused too: so there is one place for each refusal.

use std::convert::Infallible;
use std::pin::Pin;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Method, Request, StatusCode, header};
use axum::response::Response;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;

use super::access::{self, Need, Peer};
use super::backend::Backend;
use super::hrana;
use super::sql::{self, Access, SQL_BYTES_MAX, SqlBody};
use super::{App, refuse, router};

/// What is on its way to one request.
type Answering = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

/// The handler of all requests of one connection; cheap to clone.
#[derive(Clone)]
pub(super) struct Front {
    app: App,
    router: TowerToHyperService<Router>,
    peer: Peer,
}

impl Front {
    /// For the connection of `peer`; `router` is that of [`routes`].
    pub(super) fn new(app: App, router: TowerToHyperService<Router>, peer: Peer) -> Self {
        Self { app, router, peer }
    }

    async fn transaction(
        self,
        request: Request<Incoming>,
        database: String,
        access: Access,
    ) -> Result<Response, Infallible> {
        let (parts, body) = request.into_parts();
        let Ok(body) = body.collect().await else {
            return Ok(refuse(StatusCode::BAD_REQUEST, "the request broke off. Nothing was done"));
        };
        let body: Bytes = body.to_bytes();
        match serde_json::from_slice::<SqlBody>(&body) {
            Ok(body) => {
                let node = Backend::Node(self.app.clone());
                Ok(sql::run(&node, database, None, body, access).await)
            }
            Err(_) => {
                let mut request = Request::from_parts(parts, Body::from(body));
                request.extensions_mut().insert(self.peer);
                self.router.call(request).await
            }
        }
    }
}

/// All paths, made once for all connections.
pub(super) fn routes(app: App) -> TowerToHyperService<Router> {
    TowerToHyperService::new(router(app))
}

impl Service<Request<Incoming>> for Front {
    type Response = Response;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, mut request: Request<Incoming>) -> Answering {
        let length = request.body().size_hint().exact();
        let bounded = length.is_some_and(|bytes| bytes <= SQL_BYTES_MAX as u64);
        let may = |access| {
            let need = if access == Access::Write { Need::Write } else { Need::Query };
            access::at_once(&self.app, self.peer, request.headers(), need)
        };
        match asked(&request).filter(|(_, access)| bounded && may(*access)) {
            Some((database, access)) => {
                let database = database.to_owned();
                Box::pin(self.clone().transaction(request, database, access))
            }
            None => match hrana::asked(request.uri().path()) {
                Some(asked) => {
                    let serve = hrana::serve(self.app.clone(), self.peer, asked, request);
                    Box::pin(async { Ok(serve.await) })
                }
                None => {
                    request.extensions_mut().insert(self.peer);
                    Box::pin(self.router.call(request))
                }
            },
        }
    }
}

/// The database of a transaction in its plainest form, and what it may do.
fn asked<B>(request: &Request<B>) -> Option<(&str, Access)> {
    let json = request.headers().get(header::CONTENT_TYPE);
    let plain = request.method() == Method::POST
        && request.uri().query().is_none()
        && json.is_some_and(|json| json == "application/json");
    let path = request.uri().path().strip_prefix("/db/").filter(|_| plain)?;
    let (database, what) = path.split_once('/')?;
    let access = match what {
        "execute" => Access::Write,
        "query" => Access::Read,
        _ => return None,
    };
    // An escaped name is read by the router.
    (!database.is_empty() && !database.contains('%')).then_some((database, access))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: Method, target: &str, json: Option<&str>) -> Request<()> {
        let mut request = Request::builder().method(method).uri(target);
        if let Some(json) = json {
            request = request.header(header::CONTENT_TYPE, json);
        }
        request.body(()).unwrap()
    }

    #[test]
    fn only_the_plainest_transactions_pass_the_router_by() {
        let json = Some("application/json");
        let plain = |target| request(Method::POST, target, json);
        assert_eq!(asked(&plain("/db/demo/execute")), Some(("demo", Access::Write)));
        assert_eq!(asked(&plain("/db/demo/query")), Some(("demo", Access::Read)));
        for target in [
            "/db/demo/query?shard=usa",
            "/db/demo/execute?",
            "/db/a%2Fb/query",
            "/db//query",
            "/db/demo/query/",
            "/db/demo/x/query",
            "/db/demo/verify",
            "/db/demo",
            "/admin/db",
        ] {
            assert_eq!(asked(&plain(target)), None, "{target}");
        }
        assert_eq!(asked(&request(Method::GET, "/db/demo/query", json)), None);
        assert_eq!(asked(&request(Method::POST, "/db/demo/query", None)), None);
        let text = Some("text/plain");
        assert_eq!(asked(&request(Method::POST, "/db/demo/query", text)), None);
    }
}
