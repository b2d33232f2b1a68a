//! One client: its requests, their answers, and the layout whenever it is another one.

use std::time::Duration;

use bytes::BytesMut;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use quorate_core::client::{self, NumberInUse, Rights, Service, ToClient, ToServer};
use quorate_core::node::SqlRequest;
use quorate_io::client::wire::{
    self, HELLO_BYTES_MAX, Hello, Incoming, MAGIC, REQUEST_BYTES_MAX, WireError,
};
use quorate_io::runtime::{Handle, SqlAnswer, Stopped};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::time::Instant;

use super::layouts::{Layouts, Told};
use super::{END_MAX_WAIT, HELLO_MAX_WAIT};
use crate::http::{App, Peer, Who, client_let_in, client_rights};

/// Bytes on their way to a client beyond which nothing more is taken from it.
const UNREAD_BYTES_MAX: usize = 1024 * 1024;
/// A client with more than so much on its way to it, that takes nothing, is let go: it would cost others
/// their memory.
const UNREAD_BYTES_END: usize = 32 * 1024 * 1024;
/// Who takes nothing for so long, while something is on its way to him, is let go.
const UNREAD_MAX_WAIT: Duration = Duration::from_secs(15);
/// From whom nothing is heard for so long: clients ask every half second whether the node is there.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Whether a client still may be here is looked at so often; also at each layout.
const LOOK: Duration = Duration::from_secs(10);

/// What is said to who speaks HTTP.
const NOT_HTTP: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n\
    this port speaks Quorate's own protocol for clients; HTTP is on another (usually 2480)\n";

/// Why a client is not served any more.
#[derive(Debug, Error)]
pub(super) enum Served {
    #[error("no TLS came about with a client: {0}")]
    NoTls(String),
    #[error("a client did not say hello in time")]
    NoHello,
    #[error("a client said hello otherwise than Quorate's clients of this version do")]
    OtherHello,
    #[error("a client's connection has failed: {0}")]
    Wire(#[from] WireError),
    #[error("a client does not keep to the protocol: {0}")]
    Protocol(#[from] NumberInUse),
    #[error("a client's connection has failed: {0}")]
    Io(#[from] std::io::Error),
    #[error("a client does not take what it is sent")]
    Unread,
    #[error("nothing was heard from a client")]
    Silent,
}

/// Serves a client until it goes, or the node ends.
pub(super) async fn serve(
    app: App,
    stream: impl AsyncRead + AsyncWrite,
    peer: Peer,
    layouts: Layouts,
    ended: watch::Receiver<bool>,
) -> Result<(), Served> {
    let (reader, writer) = tokio::io::split(stream);
    let (reader, mut writer) = (std::pin::pin!(reader), std::pin::pin!(writer));
    let mut incoming = Incoming::<_, Hello>::new(reader, HELLO_BYTES_MAX);
    let hello = tokio::time::timeout(HELLO_MAX_WAIT, incoming.next()).await;
    let hello = match hello.map_err(|_| Served::NoHello)? {
        None => return Ok(()),
        Some(Ok(hello)) if hello.magic == MAGIC => hello,
        Some(Ok(_)) | Some(Err(WireError::Unreadable)) => {
            refuse(&mut writer, "the client speaks another version of the protocol", true).await?;
            return Err(Served::OtherHello);
        }
        Some(Err(error @ WireError::TooLong)) => {
            // Letters where the length should be: somebody's HTTP.
            writer.write_all(NOT_HTTP).await?;
            return Err(error.into());
        }
        Some(Err(error)) => return Err(error.into()),
    };
    let who = match client_let_in(&app, peer, hello.token.as_deref()) {
        Ok(who) => who,
        Err((reason, final_)) => return Ok(refuse(&mut writer, &reason, final_).await?),
    };
    let node = match app.handle().status().await {
        Ok(status) => status.node,
        Err(Stopped) => return Ok(()),
    };
    let incoming = incoming.then::<ToServer>(REQUEST_BYTES_MAX);
    let mut out = BytesMut::new();
    wire::frame(&client::greeting(node), &mut out);
    let counted = app.clone();
    let _here = counted.served().client();
    let now = Instant::now();
    let (service, sent, heard) = (Service::default(), Told::default(), now);
    let conversation = Conversation { app, who, layouts, service, out, sent, heard, taken: now };
    conversation.run(incoming, writer, ended).await
}

async fn refuse(
    writer: &mut (impl AsyncWrite + Unpin),
    reason: &str,
    final_: bool,
) -> std::io::Result<()> {
    let mut out = BytesMut::new();
    wire::frame(&ToClient::Refused { reason: reason.to_owned(), final_ }, &mut out);
    writer.write_all(&out).await?;
    writer.shutdown().await
}

struct Conversation {
    app: App,
    who: Who,
    layouts: Layouts,
    service: Service,
    /// On its way to the client.
    out: BytesMut,
    /// What it was sent last of the cluster.
    sent: Told,
    /// When something came from it last.
    heard: Instant,
    /// When it took something last, or had taken all.
    taken: Instant,
}

impl Conversation {
    async fn run<R: AsyncRead + Unpin>(
        mut self,
        mut incoming: Incoming<R, ToServer>,
        mut writer: impl AsyncWrite + Unpin,
        mut ended: watch::Receiver<bool>,
    ) -> Result<(), Served> {
        let mut under_way = FuturesUnordered::new();
        let mut look = tokio::time::interval(LOOK);
        let mut ending = None;
        loop {
            // The layout goes out when nothing else does: who is slow is skipped to the newest.
            if self.out.is_empty() {
                self.taken = Instant::now();
                let newest = self.layouts.borrow_and_update().clone();
                if newest != self.sent {
                    if !self.is_let_in(&mut writer).await? {
                        return Ok(());
                    }
                    if newest.layout != self.sent.layout {
                        self.out.extend_from_slice(&newest.layout);
                    }
                    if newest.copies != self.sent.copies {
                        self.out.extend_from_slice(&newest.copies);
                    }
                    self.sent = newest;
                }
            }
            if ending.is_some() && self.out.is_empty() && under_way.is_empty() {
                return Ok(writer.shutdown().await?);
            }
            tokio::select! {
                written = writer.write_buf(&mut self.out), if !self.out.is_empty() => {
                    if written? > 0 {
                        self.taken = Instant::now();
                    }
                }
                Some((id, answer)) = under_way.next(), if !under_way.is_empty() => {
                    let Ok(SqlAnswer { reply, of }) = answer else { return Ok(()) };
                    if let Some(message) = self.service.replied(id, reply, of) {
                        wire::frame(&message, &mut self.out);
                    }
                    if self.out.len() > UNREAD_BYTES_END {
                        return Err(Served::Unread);
                    }
                }
                message = incoming.next(),
                    if ending.is_none() && self.out.len() <= UNREAD_BYTES_MAX =>
                {
                    let Some(message) = message else { return Ok(()) };
                    self.heard = Instant::now();
                    if let Some((id, request)) = self.received(message?)? {
                        let handle = self.app.handle().clone();
                        under_way.push(ask(handle, id, request));
                    }
                }
                changed = self.layouts.changed(), if self.out.is_empty() && ending.is_none() => {
                    // Nobody tells of changes any more: the node has ended.
                    if changed.is_err() {
                        ending = Some(Instant::now() + END_MAX_WAIT);
                    }
                }
                _ = look.tick() => {
                    self.is_in_order()?;
                    if !self.is_let_in(&mut writer).await? {
                        return Ok(());
                    }
                }
                () = ends(&mut ended), if ending.is_none() => {
                    ending = Some(Instant::now() + END_MAX_WAIT);
                }
                () = tokio::time::sleep_until(ending.unwrap_or(self.heard)), if ending.is_some() => {
                    return Ok(());
                }
            }
        }
    }

    fn received(&mut self, message: ToServer) -> Result<Option<(u64, SqlRequest)>, NumberInUse> {
        let rights = client_rights(&self.app, &self.who).unwrap_or(Rights::Look);
        match self.service.received(message, rights)? {
            client::Served::Ask(id, request) => {
                self.app.served().request();
                Ok(Some((id, request)))
            }
            client::Served::Send(message) => {
                wire::frame(&message, &mut self.out);
                Ok(None)
            }
        }
    }

    /// Whether the client takes what it is sent, and is there.
    fn is_in_order(&self) -> Result<(), Served> {
        if !self.out.is_empty() && self.taken.elapsed() >= UNREAD_MAX_WAIT {
            return Err(Served::Unread);
        }
        if self.heard.elapsed() >= SILENCE_MAX {
            return Err(Served::Silent);
        }
        Ok(())
    }

    /// Whether who was let in still is: a token may have been dropped, or have expired.
    async fn is_let_in(&self, writer: &mut (impl AsyncWrite + Unpin)) -> std::io::Result<bool> {
        if client_rights(&self.app, &self.who).is_some() {
            return Ok(true);
        }
        let reason = "the user, or the token, that let this client in is not there any more";
        if self.out.is_empty() {
            refuse(writer, reason, true).await?;
        }
        Ok(false)
    }
}

async fn ends(ended: &mut watch::Receiver<bool>) {
    let _ = ended.wait_for(|ended| *ended).await;
}

async fn ask(handle: Handle, id: u64, request: SqlRequest) -> (u64, Result<SqlAnswer, Stopped>) {
    (id, handle.sql(request).await)
}
