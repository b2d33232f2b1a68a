//! A cluster served as a node serves itself: `quorate proxy`.
//!
//! ```text
//! front    which path is whose
//! pool     clients of the cluster: one for each token that is shown
//! caller   what one of those who ask has the cluster do
//! layout   the cluster as its clients know it, as JSON and as events
//! ```
//!
//! SQL and Hrana are those of a node, put to another [`Backend`](super::backend::Backend). A request that
//! was taken in is put to whatever server is there, under the same session and sequence for as long as it
//! may take: so it is done once. Who may do what, the cluster decides by the token of each request; the
//! proxy knows nobody.
//!
//! Requests with one token share one client, and what that has seen: a read sees what any of them has
//! written or read before, whichever server answers.
//!
//! Bounds: those of a node for connections, heads, bodies, streams and listeners;
//! [`pool::CLIENTS_MAX`] tokens at once.

mod caller;
mod front;
mod layout;
mod pool;

use std::io;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode, header};
use quorate_core::NodeId;
use quorate_io::client::{ConnectError, Options};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

pub(super) use caller::Caller;
pub(super) use pool::Shown;

use self::front::{Front, routes};
use self::pool::Pool;
use super::EVENTS_MAX;
use super::access::{Given, Shut};
use super::hrana::Hrana;
use super::server::serve_by;
use crate::listening::Listening;

/// How long requests under way may take at the end.
pub(crate) const DRAIN_MAX_WAIT: Duration = Duration::from_secs(15);

/// What every request can reach.
#[derive(Clone)]
pub(crate) struct Proxy(Arc<Parts>);

/// What a [`Proxy`] holds.
pub(crate) struct Parts {
    pool: Pool,
    /// The operator's token, for requests that show none.
    lent: Option<Arc<str>>,
    pub(super) hrana: Arc<Hrana>,
    /// Names this process in batons.
    id: NodeId,
    listeners: Arc<Semaphore>,
    ended: watch::Receiver<bool>,
}

impl Deref for Proxy {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl Proxy {
    /// For the cluster that `options` lead to, whose token is lent to requests that show none. `database`
    /// is that of drivers whose URL names none. Listeners are let go once `ended`.
    ///
    /// # Errors
    /// The operating system gives no randomness.
    pub(crate) fn new(
        mut options: Options,
        database: Option<String>,
        ended: watch::Receiver<bool>,
    ) -> io::Result<Self> {
        let lent = options.token.take().map(Into::into);
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(io::Error::other)?;
        Ok(Self(Arc::new(Parts {
            pool: Pool::new(options),
            lent,
            hrana: Arc::new(Hrana::new(database)?),
            id: NodeId(u128::from_le_bytes(id)),
            listeners: Arc::new(Semaphore::new(EVENTS_MAX)),
            ended,
        })))
    }

    /// Begins to connect with the operator's token, or with none.
    ///
    /// # Errors
    /// What would go wrong with every request.
    pub(crate) async fn begin(&self) -> Result<(), ConnectError> {
        let shown = Shown::of(self.lent.as_deref());
        self.pool.client(shown, self.lent.as_deref()).await.map(|_| ())
    }

    /// Why no server is in reach, if none is within that time.
    pub(crate) async fn unreached(&self, timeout: Duration) -> Option<String> {
        let caller = Caller::new(self.clone(), self.lent.clone());
        let shut = caller.let_in(timeout).await.err()?;
        (shut.status != StatusCode::UNAUTHORIZED || self.lent.is_some()).then_some(shut.said)
    }

    /// Who asks, by what the request shows. Whether it is let in the cluster says.
    ///
    /// # Errors
    /// It shows what cannot be passed on.
    pub(super) fn caller(&self, headers: &HeaderMap) -> Result<Caller, Shut> {
        let no = |status, said: &str| Err(Shut::new(status, said));
        let token = match Given::of(headers) {
            Given::Bearer(token) => Some(token.into()),
            // A page in a browser on this machine can reach this port, whoever has made it.
            Given::Nothing if self.lent.is_some() && headers.contains_key(header::ORIGIN) => {
                return no(
                    StatusCode::UNAUTHORIZED,
                    "the proxy's own token is not lent to pages in a browser: send a user's token as \
                     `Authorization: Bearer TOKEN`",
                );
            }
            Given::Nothing => self.lent.clone(),
            Given::Basic { .. } => {
                return no(
                    StatusCode::UNAUTHORIZED,
                    "a proxy passes on tokens, and no passwords: send a user's token as \
                     `Authorization: Bearer TOKEN`; an admin makes one with `quorate user token add NAME`",
                );
            }
            Given::Unreadable => {
                return no(
                    StatusCode::UNAUTHORIZED,
                    "the Authorization header cannot be read: send a user's token as `Bearer TOKEN`",
                );
            }
        };
        Ok(Caller::new(self.clone(), token))
    }
}

/// Serves until `ended`, and then until the requests under way are answered, [`DRAIN_MAX_WAIT`] at most.
pub(crate) async fn serve(listening: Listening, proxy: Proxy, tls: Option<TlsAcceptor>) {
    let (routes, ended) = (routes(proxy.clone()), proxy.ended.clone());
    let sweeping = tokio::spawn(pool::sweep(proxy.clone()));
    let front = move |_| Front::new(proxy.clone(), routes.clone());
    serve_by(listening, front, tls, ended, DRAIN_MAX_WAIT).await;
    sweeping.abort();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(token: Option<&str>) -> Proxy {
        let mut options = Options::new(vec![("127.0.0.1".to_owned(), 1)]);
        options.token = token.map(str::to_owned);
        Proxy::new(options, None, watch::channel(false).1).unwrap()
    }

    fn shown(proxy: &Proxy, headers: &[(&'static str, &str)]) -> Result<Shown, StatusCode> {
        let pairs = headers
            .iter()
            .map(|(name, value)| (header::HeaderName::from_static(name), value.parse().unwrap()));
        let headers: HeaderMap = pairs.collect();
        proxy.caller(&headers).map(|caller| caller.shown()).map_err(|shut| shut.status)
    }

    #[test]
    fn each_request_is_judged_by_its_own_token_and_by_the_proxys_only_if_it_shows_none() {
        let (own, lending) = (proxy(None), proxy(Some("lent")));
        let of = |token| Ok(Shown::of(token));
        for proxy in [&own, &lending] {
            let mine = [("authorization", "Bearer mine")];
            assert_eq!(shown(proxy, &mine), of(Some("mine")));
            let page = [mine[0], ("origin", "http://localhost")];
            assert_eq!(shown(proxy, &page), of(Some("mine")));
            for wrong in ["Basic YTpi", "Bearer", "Bearer a b c", "Digest x"] {
                let is = shown(proxy, &[("authorization", wrong)]);
                // What a token may look like the cluster knows.
                let expected = match wrong {
                    "Bearer a b c" => of(Some("a b c")),
                    _ => Err(StatusCode::UNAUTHORIZED),
                };
                assert_eq!(is, expected, "{wrong}");
            }
        }
        assert_eq!(shown(&own, &[]), of(None));
        assert_eq!(shown(&lending, &[]), of(Some("lent")));
    }

    #[test]
    fn a_page_in_a_browser_is_not_lent_the_proxys_token() {
        let page = [("origin", "http://elsewhere.example")];
        assert_eq!(shown(&proxy(Some("lent")), &page), Err(StatusCode::UNAUTHORIZED));
        // Without one there is nothing to lend, and the cluster decides.
        assert_eq!(shown(&proxy(None), &page), Ok(Shown::of(None)));
    }

    #[test]
    fn another_proxy_is_another_name_in_batons() {
        assert_ne!(proxy(None).id, proxy(None).id);
    }
}
