//! One connection to a node: made, greeted, read and written, until either end gives it up.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use quorate_core::client::{ConnectionId, ToClient, ToServer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::wire::{self, ANSWER_BYTES_MAX, Hello, Incoming, MAGIC};

/// Messages from nodes that may wait for the client's machine.
pub(super) const ARRIVALS_MAX: usize = 256;

/// What connections tell.
#[derive(Debug)]
pub(super) enum Arrival {
    /// The node has sent something.
    Message(ConnectionId, ToClient),
    /// It is over; why.
    Closed(ConnectionId, String),
}

/// How connections are made.
#[derive(Clone)]
pub(super) struct Way {
    pub(super) token: Option<Arc<str>>,
    pub(super) tls: Option<TlsConnector>,
    /// The names by which addresses were given: certificates are checked against them.
    pub(super) names: Arc<BTreeMap<SocketAddr, String>>,
}

/// Runs a connection until it is over; nobody sends any more: then it is closed.
pub(super) async fn run(
    id: ConnectionId,
    to: SocketAddr,
    way: Way,
    outgoing: mpsc::UnboundedReceiver<ToServer>,
    arrivals: mpsc::Sender<Arrival>,
) {
    let ended = connect(id, to, &way, outgoing, &arrivals).await;
    let why = ended.err().unwrap_or_else(|| "the server has closed the connection".to_owned());
    // Nobody is there to hear it: so be it.
    let _ = arrivals.send(Arrival::Closed(id, why)).await;
}

async fn connect(
    id: ConnectionId,
    to: SocketAddr,
    way: &Way,
    mut outgoing: mpsc::UnboundedReceiver<ToServer>,
    arrivals: &mpsc::Sender<Arrival>,
) -> Result<(), String> {
    let given_up = || "given up".to_owned();
    // Whoever dialled closes by dropping his end.
    let stream = tokio::select! {
        stream = TcpStream::connect(to) => stream.map_err(|error| error.to_string())?,
        () = closed(&mut outgoing) => return Err(given_up()),
    };
    let _ = stream.set_nodelay(true);
    match &way.tls {
        None => talk(id, stream, way, outgoing, arrivals).await,
        Some(tls) => {
            let given = way.names.get(&to).and_then(|name| name.clone().try_into().ok());
            let name = given.unwrap_or_else(|| ServerName::IpAddress(to.ip().into()));
            let secured = tokio::select! {
                secured = tls.connect(name, stream) => secured,
                () = closed(&mut outgoing) => return Err(given_up()),
            };
            let stream = secured.map_err(|error| format!("no TLS came about: {error}"))?;
            talk(id, stream, way, outgoing, arrivals).await
        }
    }
}

/// Nothing is sent before the machine has heard the welcome: until then only its end is awaited.
async fn closed(outgoing: &mut mpsc::UnboundedReceiver<ToServer>) {
    while outgoing.recv().await.is_some() {}
}

async fn talk(
    id: ConnectionId,
    stream: impl AsyncRead + AsyncWrite,
    way: &Way,
    mut outgoing: mpsc::UnboundedReceiver<ToServer>,
    arrivals: &mpsc::Sender<Arrival>,
) -> Result<(), String> {
    let (reader, mut writer) = tokio::io::split(stream);
    let mut reader = std::pin::pin!(reader);
    let mut incoming = Incoming::<_, ToClient>::new(&mut reader, ANSWER_BYTES_MAX);
    let mut out = BytesMut::new();
    let token = way.token.as_deref().map(str::to_owned);
    wire::frame(&Hello { magic: MAGIC, token }, &mut out);
    loop {
        tokio::select! {
            biased;
            written = writer.write_buf(&mut out), if !out.is_empty() => {
                written.map_err(|error| error.to_string())?;
            }
            message = incoming.next() => match message {
                Some(Ok(message)) => {
                    if arrivals.send(Arrival::Message(id, message)).await.is_err() {
                        return Ok(());
                    }
                }
                Some(Err(error)) => return Err(error.to_string()),
                None => return Ok(()),
            },
            message = outgoing.recv() => match message {
                Some(message) => {
                    wire::frame(&message, &mut out);
                    while let Ok(message) = outgoing.try_recv() {
                        wire::frame(&message, &mut out);
                    }
                }
                None => return Ok(()),
            },
        }
    }
}
