//! The transport: what the runtime calls.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_core::measures::Traffic;
use quorate_core::{DialError, LinkId, NodeId};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use super::bind::{self, Outbound, StartError};
use super::config::NetConfig;
use super::events::{NetCounters, NetEvent, Trouble};
use super::handshake::{self, Established, HandshakeError};
use super::interfaces;
use super::limits::Ticket;
use super::link;
use super::links::Dial;
use super::multicast::Multicast;
use super::shared::{Shared, Tasks};

/// How long to wait before connections are accepted again after the system refused to.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// All sockets of a node. Its calls do not wait; what comes of them arrives as [`NetEvent`]s.
///
/// Every event of a link comes after its `LinkUp`, and the last is its `LinkDown`, unless it was
/// closed. An event may have been in the channel when its link was closed: ask
/// [`Transport::admits`] before handing it to core.
pub struct Transport {
    shared: Arc<Shared>,
    multicast: Option<Arc<Multicast>>,
    local: SocketAddr,
    advertised: SocketAddr,
    stop: watch::Sender<bool>,
    ended: mpsc::Receiver<()>,
}

impl Transport {
    /// Binds, listens and joins the multicast group. At most as many events as `events` holds
    /// wait for the runtime; when it is behind, links are read no further and datagrams are
    /// dropped. A packet may have 8 MiB, so let it hold some hundred events, not more.
    ///
    /// # Errors
    /// [`StartError`]: nothing runs.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(
        config: NetConfig,
        node: NodeId,
        events: mpsc::Sender<NetEvent>,
    ) -> Result<Self, StartError> {
        let listener = bind::listen(&config)?;
        let unnamed = |error| StartError::Listen { addr: (config.bind, config.port).into(), error };
        let local = listener.local_addr().map_err(unnamed)?;
        let advertised = advertised(&config, local)?;
        let (stop, stopped) = watch::channel(false);
        let (tasks, ended) = Tasks::new(Handle::current());
        let outbound = Outbound::new(&config);
        let NetConfig { credentials, limits, bind, interfaces, multicast, .. } = config;
        let shared = Shared::new(node, credentials, limits, outbound, events, tasks, stopped);
        let shared = Arc::new(shared);
        let multicast = multicast
            .map(|multicast| Multicast::start(multicast, bind, interfaces, shared.clone()))
            .transpose()?;
        shared.tasks.spawn(accept(shared.clone(), listener));
        Ok(Self { shared, multicast, local, advertised, stop, ended })
    }

    /// Where it listens. The IP may be unspecified.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// What others are to dial: the public address, or else the bound one, or else the best
    /// address of this host.
    #[must_use]
    pub fn advertised_addr(&self) -> SocketAddr {
        self.advertised
    }

    /// Opens a link: one `LinkUp` or `DialFailed` with this address follows. A dial to an address
    /// that is being dialled already is answered together with the first.
    pub fn dial(&self, addr: SocketAddr) {
        let shared = self.shared.clone();
        match self.shared.links.begin_dial(addr) {
            Dial::Merged => {}
            Dial::Begun => self.shared.tasks.spawn(dial(shared, addr)),
            Dial::TooMany => self.shared.tasks.spawn(async move {
                shared.links.dial_failed(addr, DialError::Unreachable).await;
            }),
        }
    }

    /// Sends a packet. Packets of a link arrive in their order, or the link goes down; a link
    /// whose peer does not read, so that more waits than is allowed, goes down. For a link that
    /// is down or unknown nothing happens.
    pub fn send(&self, link: LinkId, packet: Bytes) {
        self.shared.links.send(link, packet);
    }

    /// Closes a link, after what was sent on it has gone out. No `LinkDown` follows.
    pub fn close(&self, link: LinkId) {
        self.shared.links.close(link);
    }

    /// Sends a datagram to the multicast group on every chosen interface. What cannot be sent at
    /// once is dropped, as the network may do with any datagram.
    pub fn multicast(&self, datagram: &Bytes) {
        if let Some(multicast) = &self.multicast {
            multicast.send(datagram);
        }
    }

    /// Whether an event that was received still holds. Call it once for each event, and drop
    /// those for which it is false: their links were closed while they were in the channel.
    #[must_use]
    pub fn admits(&self, event: &NetEvent) -> bool {
        self.shared.links.admits(event)
    }

    /// What was refused and dropped so far.
    #[must_use]
    pub fn counters(&self) -> NetCounters {
        self.shared.counters()
    }

    /// What has gone over links so far, by the node at the other end: since the start, and while there
    /// are few enough of them.
    #[must_use]
    pub fn traffic(&self) -> Vec<(NodeId, Traffic)> {
        self.shared.links.traffic()
    }

    /// How many links are open and how many connections are in their handshake.
    #[must_use]
    pub fn open(&self) -> (usize, usize) {
        (self.shared.links.open(), self.shared.gate.half_open())
    }

    /// Stops: what was sent goes out, within the flush time-out; then all sockets are closed.
    pub async fn shutdown(mut self) {
        self.signal_stop();
        let grace = self.shared.limits.flush_timeout + ACCEPT_PAUSE;
        let _ = timeout(grace, self.ended.recv()).await;
    }

    fn signal_stop(&self) {
        self.shared.tasks.close();
        self.shared.links.stop();
        let _ = self.stop.send(true);
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        self.signal_stop();
    }
}

fn advertised(config: &NetConfig, local: SocketAddr) -> Result<SocketAddr, StartError> {
    if let Some(public) = config.public_address {
        return Ok(public.with_bound_port(local.port()));
    }
    if !local.ip().is_unspecified() {
        return Ok(local);
    }
    let all = interfaces::list().map_err(StartError::Interfaces)?;
    let no_interface = || StartError::NoInterface { filter: config.interfaces.to_string() };
    let best = interfaces::best(&all, config.bind, &config.interfaces).ok_or_else(no_interface)?;
    Ok(SocketAddr::new(best, local.port()))
}

/// Accepts connections until the transport stops.
async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.stopped() => return,
        };
        match accepted {
            Ok((stream, from)) => match shared.gate.enter(from.ip()) {
                Some(ticket) => {
                    shared.tasks.spawn(answer(shared.clone(), stream, from, ticket));
                }
                None => {
                    shared.count(|c| c.handshakes_turned_away += 1);
                    shared.trouble_with(from.ip(), Trouble::TooManyHandshakes { from });
                }
            },
            Err(error) => {
                let nobody = IpAddr::from([0, 0, 0, 0]);
                shared.trouble_with(nobody, Trouble::Accept { error });
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Handles one connection that was accepted, up to the end of its link.
async fn answer(shared: Arc<Shared>, mut stream: TcpStream, from: SocketAddr, ticket: Ticket) {
    let outcome = tokio::select! {
        outcome = respond(&shared, &mut stream) => outcome,
        () = shared.stopped() => return,
    };
    match outcome {
        // The end that dialled reports it to core.
        Ok(established) if is_self(&shared, &established) => {}
        Ok(established) => {
            drop(ticket);
            go_on(shared, stream, established, None, from).await;
        }
        Err(HandshakeError::Refused) => refuse(shared, stream, from, ticket).await,
        Err(error) => {
            shared.count(|c| c.handshakes_broken += 1);
            report(&shared, from, error);
            linger(&mut stream).await;
        }
    }
}

/// Lets a peer know that it is refused, in its time.
async fn refuse(shared: Arc<Shared>, mut stream: TcpStream, from: SocketAddr, ticket: Ticket) {
    shared.count(|c| c.peers_refused += 1);
    let held_back = shared.gate.failed(from.ip(), Instant::now());
    let told = async {
        let _ = shared.events.send(NetEvent::PeerRefused { from }).await;
        // The place is kept, also when the peer has hung up: it cannot try the next password.
        sleep(held_back).await;
        let refusal = handshake::messages::refusal();
        let answered = stream.write_all(&refusal);
        if matches!(timeout(shared.limits.handshake_timeout, answered).await, Ok(Ok(()))) {
            linger(&mut stream).await;
        }
    };
    tokio::select! {
        () = told => {}
        () = shared.stopped() => {}
    }
    drop(ticket);
}

/// Lets the last bytes arrive: a socket that is closed with unread bytes is reset.
async fn linger(stream: &mut TcpStream) {
    let _ = stream.shutdown().await;
    let mut rest = [0; 256];
    let _ = stream.try_read(&mut rest);
}

async fn respond(shared: &Shared, stream: &mut TcpStream) -> Result<Established, HandshakeError> {
    stream.set_nodelay(true)?;
    let responded = handshake::respond(stream, &shared.credentials, shared.me);
    timeout(shared.limits.handshake_timeout, responded).await.unwrap_or_else(|_| late())
}

fn late() -> Result<Established, HandshakeError> {
    Err(io::Error::from(io::ErrorKind::TimedOut).into())
}

/// Handles one dial, up to the end of its link.
async fn dial(shared: Arc<Shared>, addr: SocketAddr) {
    let outcome = tokio::select! {
        outcome = connect(&shared, addr) => outcome,
        () = shared.stopped() => return,
    };
    let error = match outcome {
        Ok((_, established)) if is_self(&shared, &established) => DialError::Myself,
        Ok((stream, established)) => {
            return go_on(shared, stream, established, Some(addr), addr).await;
        }
        Err(HandshakeError::Refused) => {
            // Each dial lets whoever is there try one password: held back like those who dial.
            let held_back = shared.gate.failed(addr.ip(), Instant::now());
            tokio::select! {
                () = sleep(held_back) => DialError::Refused,
                () = shared.stopped() => return,
            }
        }
        Err(error) => {
            report(&shared, addr, error);
            DialError::Unreachable
        }
    };
    shared.links.dial_failed(addr, error).await;
}

async fn connect(
    shared: &Shared,
    addr: SocketAddr,
) -> Result<(TcpStream, Established), HandshakeError> {
    let mut random = [0; 8];
    // Only to spread dials over the outbound ports: without randomness they begin at the first.
    let _ = getrandom::fill(&mut random);
    let start = usize::from_ne_bytes(random);
    let connected = timeout(shared.limits.connect_timeout, shared.outbound.connect(addr, start));
    let mut stream = connected.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let proven = handshake::initiate(&mut stream, &shared.credentials, shared.me);
    let proven = timeout(shared.limits.handshake_timeout, proven);
    let established = proven.await.unwrap_or_else(|_| late())?;
    Ok((stream, established))
}

/// The handshake is done: the connection becomes a link.
async fn go_on(
    shared: Arc<Shared>,
    stream: TcpStream,
    established: Established,
    dialed: Option<SocketAddr>,
    at: SocketAddr,
) {
    let Established { peer, session, .. } = established;
    if peer == shared.me {
        shared.trouble_with(at.ip(), Trouble::SameNodeId { peer: at });
    }
    match shared.links.up(peer, dialed).await {
        Some(ends) => {
            shared.count(|c| c.links_opened += 1);
            link::run(shared, stream, session, ends).await;
        }
        None => {
            let max = shared.limits.links_max;
            shared.trouble_with(at.ip(), Trouble::TooManyLinks { peer: at, max });
        }
    }
}

fn is_self(shared: &Shared, met: &Established) -> bool {
    met.peer == shared.me && met.same_process
}

fn report(shared: &Shared, peer: SocketAddr, error: HandshakeError) {
    let trouble = match error {
        HandshakeError::VersionMismatch { theirs, ours } => {
            Trouble::VersionMismatch { peer, theirs, ours }
        }
        HandshakeError::NotQuorate => Trouble::NotQuorate { peer },
        HandshakeError::Io(error) => {
            tracing::debug!(%peer, %error, "no handshake");
            return;
        }
        HandshakeError::Refused => return,
    };
    shared.trouble_with(peer.ip(), trouble);
}
