//! Listening and serving within bounds: connections, time for a request's head, the end.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use super::App;
use super::front::Front;
use crate::cli::HttpListen;
use crate::exit::Failure;

/// How many connections are served at once; more wait in the system's queue.
pub(crate) const CONNECTIONS_MAX: usize = 256;
/// How long a client may take to send the head of a request, and to think of the next one.
pub(crate) const HEAD_MAX_WAIT: Duration = Duration::from_secs(15);
/// How long requests under way may take once the node has ended.
const END_MAX_WAIT: Duration = Duration::from_secs(2);
/// The port when none is given, and how many after it are tried.
const PORT: u16 = 2480;
const PORTS: u16 = 100;

/// An HTTP port that is held, and not served yet.
pub(crate) struct Listening {
    listener: TcpListener,
    /// Where.
    pub(crate) address: SocketAddr,
}

/// Takes the port: exactly the one that was asked for, or by default, on the loopback address, the one
/// of the last start if it is free, else the first free one from 2480.
///
/// # Errors
/// [`Failure::Usage`] naming the address that is in use.
pub(crate) async fn bind(
    listen: Option<HttpListen>,
    last: Option<u16>,
) -> Result<Option<Listening>, Failure> {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let exactly = match listen {
        Some(HttpListen::Off) => return Ok(None),
        Some(HttpListen::Port(port)) => SocketAddr::new(loopback, port),
        Some(HttpListen::Addr(address)) => address,
        None => return first_free(loopback, last).await.map(Some),
    };
    held(exactly).await.map(Some).map_err(|error| {
        Failure::Usage(format!(
            "HTTP cannot listen on {exactly}: {error}. Give another address with --http, or leave \
             --http out to take the first free port from {PORT}"
        ))
    })
}

async fn first_free(ip: IpAddr, last: Option<u16>) -> Result<Listening, Failure> {
    let range = PORT..PORT + PORTS;
    let last = last.filter(|port| range.contains(port));
    for port in last.into_iter().chain(range) {
        match held(SocketAddr::new(ip, port)).await {
            Ok(listening) => return Ok(listening),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => {
                return Err(Failure::Usage(format!("HTTP cannot listen on {ip}:{port}: {error}")));
            }
        }
    }
    let last = PORT + PORTS - 1;
    Err(Failure::Usage(format!(
        "HTTP found no free port on {ip} from {PORT} to {last}; give one with --http, or --http off"
    )))
}

async fn held(address: SocketAddr) -> io::Result<Listening> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    Ok(Listening { listener, address })
}

/// Serves until `ended`, and then until the requests under way are answered, two seconds at most.
pub(crate) async fn serve(listening: Listening, app: App, mut ended: watch::Receiver<bool>) {
    let service = Front::new(app);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let place = tokio::select! {
            place = places.clone().acquire_owned() => place,
            _ = ended.wait_for(|e| *e) => break,
        };
        // The semaphore is never closed.
        let Ok(place) = place else { break };
        let accepted = tokio::select! {
            accepted = listening.listener.accept() => accepted,
            _ = ended.wait_for(|e| *e) => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let (service, ended) = (service.clone(), ended.clone());
                tokio::spawn(async move {
                    connection(stream, service, ended).await;
                    drop(place);
                });
            }
            Err(error) => {
                // Out of file descriptors, or a client that is gone already: others may do better.
                tracing::warn!(%error, "HTTP could not accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    // Every connection gives its place back when it ends.
    let all = u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX);
    let _ = tokio::time::timeout(END_MAX_WAIT, places.acquire_many(all)).await;
}

async fn connection(stream: TcpStream, service: Front, mut ended: watch::Receiver<bool>) {
    let _ = stream.set_nodelay(true);
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_MAX_WAIT).max_buf_size(16 * 1024);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // Errors of one connection (a client that went away, a head that is too long) concern nobody.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = ended.wait_for(|e| *e) => connection.as_mut().graceful_shutdown(),
    }
    let _ = tokio::time::timeout(END_MAX_WAIT, connection).await;
}
