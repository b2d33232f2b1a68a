//! Listening and serving within bounds: connections, time for a request's head, the end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::Request;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::App;
use super::access::Peer;
use super::front::{Front, routes};
use crate::listening::Listening;

/// How many connections are served at once; more wait in the system's queue.
pub(crate) const CONNECTIONS_MAX: u32 = 4096;
/// How long a client may take to send the head of a request, and to think of the next one.
pub(crate) const HEAD_MAX_WAIT: Duration = Duration::from_secs(15);
/// How long a client may take to agree on keys.
const HANDSHAKE_MAX_WAIT: Duration = Duration::from_secs(10);
/// How long, and for how many bytes, a client that is sent away is listened to, that it hears why.
const DRAIN_MAX_WAIT: Duration = Duration::from_secs(1);
const DRAIN_BYTES_MAX: u64 = 64 * 1024;
/// The first byte of whoever speaks TLS: a record of the handshake.
const TLS_HANDSHAKE: u8 = 0x16;
/// Between two lines in the log about clients that speak something else than the port.
const TOLD_PAUSE: Duration = Duration::from_secs(60);
/// How long requests under way may take once the node has ended.
const END_MAX_WAIT: Duration = Duration::from_secs(2);

/// Serves until `ended`, and then until the requests under way are answered, two seconds at most.
pub(crate) async fn serve(
    listening: Listening,
    app: App,
    tls: Option<TlsAcceptor>,
    ended: watch::Receiver<bool>,
) {
    let routes = routes(app.clone());
    let front = move |peer| Front::new(app.clone(), routes.clone(), peer);
    serve_by(listening, front, tls, ended, END_MAX_WAIT).await;
}

/// Serves until `ended`, and then until the requests under way are answered, for `grace` at most.
/// `front`: what answers all that comes on one connection.
pub(super) async fn serve_by<S>(
    listening: Listening,
    front: impl Fn(Peer) -> S + Clone + Send + Sync + 'static,
    tls: Option<TlsAcceptor>,
    ended: watch::Receiver<bool>,
    grace: Duration,
) where
    S: Answers + Send + 'static,
    S::Future: Send,
{
    let door = Door { front, tls, grace, told: Arc::default() };
    let connection = |stream, from| door.clone().connection(stream, from, ended.clone());
    listening.serve_each(CONNECTIONS_MAX, grace, ended.clone(), connection).await;
}

/// What answers requests.
pub(super) trait Answers:
    Service<Request<Incoming>, Response = Response, Error = Infallible>
{
}

impl<S: Service<Request<Incoming>, Response = Response, Error = Infallible>> Answers for S {}

/// What every connection passes through.
#[derive(Clone)]
struct Door<F> {
    front: F,
    tls: Option<TlsAcceptor>,
    /// How long requests under way may take at the end.
    grace: Duration,
    /// When the log last heard of a client that speaks something else than the port.
    told: Arc<Mutex<Option<Instant>>>,
}

impl<F> Door<F> {
    async fn connection<S: Answers>(
        self,
        stream: TcpStream,
        from: SocketAddr,
        mut ended: watch::Receiver<bool>,
    ) where
        F: Fn(Peer) -> S,
    {
        let peer = Peer::new(from, stream.local_addr().ok());
        let (front, grace) = ((self.front)(peer), self.grace);
        let Some(tls) = &self.tls else {
            let served = http(stream, front, ended, grace).await;
            if served.is_err_and(|error| error.is_parse()) {
                self.tell(
                    from,
                    "this port speaks HTTP, and something else came: for TLS give it --tls-cert and \
                     --tls-key",
                );
            }
            return;
        };
        let secured = tokio::time::timeout(HANDSHAKE_MAX_WAIT, self.secured(tls, stream, from));
        let secured = tokio::select! {
            secured = secured => secured,
            _ = ended.wait_for(|e| *e) => return,
        };
        // Who stays silent in the middle of it is let go.
        if let Ok(Some(stream)) = secured {
            let _ = http(stream, front, ended, grace).await;
        }
    }

    /// The keys are agreed on; or whoever speaks plain HTTP has been told.
    async fn secured(
        &self,
        tls: &TlsAcceptor,
        stream: TcpStream,
        from: SocketAddr,
    ) -> Option<TlsStream<TcpStream>> {
        let mut first = [0];
        if stream.peek(&mut first).await.ok()? == 0 {
            return None;
        }
        if first != [TLS_HANDSHAKE] {
            self.tell(from, "this port speaks TLS, and a client spoke plain HTTP");
            let _ = tokio::time::timeout(DRAIN_MAX_WAIT, send_away(stream)).await;
            return None;
        }
        match tls.accept(stream).await {
            Ok(stream) => Some(stream),
            Err(error) => {
                self.tell(from, &format!("no TLS came about with a client: {error}"));
                None
            }
        }
    }

    /// Writes to the log, but not for every one of many clients.
    fn tell(&self, from: SocketAddr, what: &str) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|at| at.elapsed() >= TOLD_PAUSE) {
            *told = Some(Instant::now());
            tracing::warn!(client = %from, "{what}");
        }
    }
}

/// Tells a client that speaks plain HTTP to a port that speaks TLS.
async fn send_away(mut stream: TcpStream) {
    const BODY: &str = "{\"error\":\"this port speaks TLS: use https://\"}";
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{BODY}",
        BODY.len()
    );
    if stream.write_all(answer.as_bytes()).await.is_ok() && stream.shutdown().await.is_ok() {
        // Closed with something unread the answer would be lost on its way.
        let mut rest = stream.take(DRAIN_BYTES_MAX);
        let _ = tokio::io::copy(&mut rest, &mut tokio::io::sink()).await;
    }
}

async fn http(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    front: impl Answers,
    mut ended: watch::Receiver<bool>,
    grace: Duration,
) -> hyper::Result<()> {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_MAX_WAIT).max_buf_size(16 * 1024);
    let connection = builder.serve_connection(TokioIo::new(stream), front);
    let mut connection = std::pin::pin!(connection);
    // Errors of one connection (a client that went away, a head that is too long) concern nobody else.
    tokio::select! {
        served = connection.as_mut() => return served,
        _ = ended.wait_for(|e| *e) => connection.as_mut().graceful_shutdown(),
    }
    let _ = tokio::time::timeout(grace, connection).await;
    Ok(())
}
