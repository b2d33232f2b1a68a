//! The port for clients: Quorate's own protocol, with the layout pushed to every client of it.
//!
//! ```text
//! layouts      what clients are told of the cluster: made once for all of them, at each change
//! connection   one client: its requests, their answers, the layout
//! ```
//!
//! What a message asks of the node, and who may, is decided by `quorate_core::client::Service`.

mod connection;
mod layouts;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::http::{App, Peer};
use crate::listening::Listening;
use connection::Served;

/// How many clients are served at once; more wait in the system's queue.
const CLIENTS_MAX: u32 = 4096;
/// How long a client may take to agree on keys, and to say hello.
const HELLO_MAX_WAIT: Duration = Duration::from_secs(10);
/// How long answers on their way may take once the node has ended.
const END_MAX_WAIT: Duration = Duration::from_secs(1);

/// Serves until `ended`, and then until what was asked is answered, a second at most.
pub(crate) async fn serve(
    listening: Listening,
    app: App,
    tls: Option<TlsAcceptor>,
    ended: watch::Receiver<bool>,
) {
    let layouts = layouts::follow(app.handle().clone());
    let connection = |stream, from| {
        client(app.clone(), stream, from, tls.clone(), layouts.clone(), ended.clone())
    };
    listening.serve_each(CLIENTS_MAX, END_MAX_WAIT, ended.clone(), connection).await;
}

async fn client(
    app: App,
    stream: TcpStream,
    from: SocketAddr,
    tls: Option<TlsAcceptor>,
    layouts: layouts::Layouts,
    ended: watch::Receiver<bool>,
) {
    let peer = Peer::new(from, stream.local_addr().ok());
    let served = match tls {
        None => connection::serve(app, stream, peer, layouts, ended).await,
        Some(tls) => match tokio::time::timeout(HELLO_MAX_WAIT, tls.accept(stream)).await {
            Ok(Ok(stream)) => connection::serve(app, stream, peer, layouts, ended).await,
            Ok(Err(error)) => Err(Served::NoTls(error.to_string())),
            Err(_) => Err(Served::NoHello),
        },
    };
    if let Err(why) = served {
        tracing::debug!(client = %from, "{why}");
    }
}
