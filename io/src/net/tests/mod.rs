//! Tests of the parts together: real sockets on loopback, or in network namespaces.

mod filter;
mod frames;
mod handshake;
mod multicast;
mod namespaces;
mod traffic;
mod transport;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use quorate_core::{LinkId, NodeId};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{Credentials, EncryptionSettings, NetConfig, NetEvent, NetLimits, Transport};

/// Longer than anything here takes on a busy machine; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// The credentials that most tests use: deriving is slow on purpose, so it is done once.
fn credentials() -> Credentials {
    static CREDENTIALS: OnceLock<Credentials> = OnceLock::new();
    CREDENTIALS.get_or_init(|| Credentials::derive("group", "password", None)).clone()
}

fn settings(passphrase: &str, salt: &str, iteration_count: u32) -> EncryptionSettings {
    EncryptionSettings { passphrase: passphrase.into(), salt: salt.into(), iteration_count }
}

/// Credentials that each differ from [`credentials`] in one respect.
fn wrong() -> &'static [(&'static str, Credentials)] {
    static WRONG: OnceLock<Vec<(&str, Credentials)>> = OnceLock::new();
    WRONG.get_or_init(|| {
        let encrypted = settings("thepass", "thesalt", 19);
        vec![
            ("another group", Credentials::derive("groups", "password", None)),
            ("another password", Credentials::derive("group", "Password", None)),
            ("other encryption", Credentials::derive("group", "password", Some(&encrypted))),
        ]
    })
}

/// A transport, and what it says.
struct Peer {
    net: Transport,
    events: mpsc::Receiver<NetEvent>,
}

/// On 127.0.0.1, at any free port, without multicast.
fn config() -> NetConfig {
    NetConfig {
        bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
        port: 0,
        multicast: None,
        ..NetConfig::new(credentials())
    }
}

impl Peer {
    fn start(config: NetConfig, node: u128) -> Self {
        let (sender, events) = mpsc::channel(256);
        let net = Transport::start(config, NodeId(node), sender).unwrap();
        Self { net, events }
    }

    fn addr(&self) -> SocketAddr {
        self.net.local_addr()
    }

    /// The next event that holds.
    async fn event(&mut self) -> NetEvent {
        loop {
            let event = timeout(PATIENCE, self.events.recv()).await.expect("an event in time");
            let event = event.expect("the transport runs");
            if self.net.admits(&event) {
                return event;
            }
        }
    }

    /// The next event that is no trouble.
    async fn news(&mut self) -> NetEvent {
        loop {
            match self.event().await {
                NetEvent::Trouble(_) => {}
                news => return news,
            }
        }
    }

    async fn link_up(&mut self) -> (LinkId, NodeId, Option<SocketAddr>) {
        match self.news().await {
            NetEvent::LinkUp { link, peer, dialed } => (link, peer, dialed),
            other => panic!("expected LinkUp, got {other:?}"),
        }
    }

    async fn packet(&mut self) -> Bytes {
        match self.news().await {
            NetEvent::Packet { bytes, .. } => bytes,
            other => panic!("expected Packet, got {other:?}"),
        }
    }

    /// Whether nothing but trouble is said for a moment.
    async fn is_quiet(&mut self) -> bool {
        timeout(Duration::from_millis(200), self.news()).await.is_err()
    }
}

/// Two transports and a link between them: the first has dialled.
async fn linked() -> (Peer, LinkId, Peer, LinkId) {
    let (mut a, mut b) = (Peer::start(config(), 1), Peer::start(config(), 2));
    a.net.dial(b.addr());
    let (at_a, peer, dialed) = a.link_up().await;
    assert_eq!((peer, dialed), (NodeId(2), Some(b.addr())));
    let (at_b, peer, dialed) = b.link_up().await;
    assert_eq!((peer, dialed), (NodeId(1), None));
    (a, at_a, b, at_b)
}

/// Node 1, with no room for packets that wait, and its link to a node 2 that reads nothing from then on.
async fn unread() -> (Peer, LinkId, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let limits = NetLimits { write_queue_bytes_max: 0, ..Default::default() };
    let mut a = Peer::start(NetConfig { limits, ..config() }, 1);
    a.net.dial(listener.local_addr().unwrap());
    let (mut stream, _) = listener.accept().await.unwrap();
    let responded = super::handshake::respond(&mut stream, &credentials(), NodeId(2)).await;
    responded.unwrap();
    let (link, ..) = a.link_up().await;
    (a, link, stream)
}
