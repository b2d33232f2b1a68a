//! Taking the ports that others than nodes connect to.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use crate::cli::Listen;
use crate::exit::Failure;

/// How long nothing is accepted when that has failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How many ports from the usual one on are tried when none is given.
const PORTS: u16 = 100;

/// What listens.
pub(crate) struct What {
    /// For messages.
    name: &'static str,
    /// The flag that chooses.
    flag: &'static str,
    /// The usual port.
    port: u16,
}

/// HTTP.
pub(crate) const HTTP: What = What { name: "HTTP", flag: "--http", port: 2480 };
/// Clients with Quorate's own protocol.
pub(crate) const CLIENTS: What =
    What { name: "the port for clients", flag: "--client", port: quorate_io::client::wire::PORT };

/// A port that is held, and not served yet.
pub(crate) struct Listening {
    listener: TcpListener,
    /// Where.
    pub(crate) address: SocketAddr,
}

/// Takes the port: exactly the one that was asked for, or by default, on the loopback address, the one
/// of the last start if it is free, else the first free one from the usual one on.
///
/// # Errors
/// [`Failure::Usage`] naming the address that is in use.
pub(crate) async fn bind(
    what: &What,
    listen: Option<Listen>,
    last: Option<u16>,
) -> Result<Option<Listening>, Failure> {
    let What { name, flag, port } = what;
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let exactly = match listen {
        Some(Listen::Off) => return Ok(None),
        Some(Listen::Port(port)) => SocketAddr::new(loopback, port),
        Some(Listen::Addr(address)) => address,
        None => return first_free(what, loopback, last).await.map(Some),
    };
    held(exactly).await.map(Some).map_err(|error| {
        Failure::Usage(format!(
            "{name} cannot listen on {exactly}: {error}. Give another address with {flag}, or leave \
             {flag} out to take the first free port from {port}"
        ))
    })
}

async fn first_free(what: &What, ip: IpAddr, last: Option<u16>) -> Result<Listening, Failure> {
    let What { name, flag, port } = what;
    let range = *port..port + PORTS;
    let last = last.filter(|port| range.contains(port));
    for port in last.into_iter().chain(range) {
        match held(SocketAddr::new(ip, port)).await {
            Ok(listening) => return Ok(listening),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => {
                return Err(Failure::Usage(format!(
                    "{name} cannot listen on {ip}:{port}: {error}"
                )));
            }
        }
    }
    let last = port + PORTS - 1;
    Err(Failure::Usage(format!(
        "{name} found no free port on {ip} from {port} to {last}; give one with {flag}, or {flag} off"
    )))
}

impl Listening {
    /// Serves each connection by a task of its own, no more than `places` at once (more wait in the
    /// system's queue), until `ended`; and then until all are served, for `grace` at most.
    pub(crate) async fn serve_each<F: Future<Output = ()> + Send + 'static>(
        self,
        places: u32,
        grace: Duration,
        mut ended: watch::Receiver<bool>,
        connection: impl Fn(TcpStream, SocketAddr) -> F,
    ) {
        let all = places;
        let places = Arc::new(Semaphore::new(usize::try_from(places).unwrap_or(usize::MAX)));
        loop {
            let place = tokio::select! {
                place = places.clone().acquire_owned() => place,
                _ = ended.wait_for(|ended| *ended) => break,
            };
            // The semaphore is never closed.
            let Ok(place) = place else { break };
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                _ = ended.wait_for(|ended| *ended) => break,
            };
            match accepted {
                Ok((stream, from)) => {
                    let _ = stream.set_nodelay(true);
                    let served = connection(stream, from);
                    tokio::spawn(async move {
                        served.await;
                        drop(place);
                    });
                }
                Err(error) => {
                    // Out of file descriptors, or a client that is gone already: others may do better.
                    let at = self.address;
                    tracing::warn!(%at, %error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        // Whoever comes now is refused by the system, and need not wait to hear that nobody serves it.
        drop(self.listener);
        // Every connection gives its place back when it ends.
        let _ = tokio::time::timeout(grace, places.acquire_many(all)).await;
    }
}

/// Takes exactly this port.
///
/// # Errors
/// The system's, as when another program has it.
pub(crate) async fn held(address: SocketAddr) -> io::Result<Listening> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    Ok(Listening { listener, address })
}
