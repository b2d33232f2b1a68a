//! One link: a task that reads and a task that writes.

use std::io;
use std::sync::Arc;

use quorate_core::LinkId;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::events::{NetEvent, Trouble};
use super::frame::{FrameError, FrameReader, FrameWriter};
use super::handshake::session::Session;
use super::links::{Abort, LinkEnds, Queue};
use super::shared::Shared;
use super::traffic::{Batch, PeerTraffic};

/// Queued packets are written together until so many bytes have come together.
const BATCH_BYTES: usize = 256 * 1024;
/// What a link keeps of its write buffer while more is to be written: what a batch and a long packet
/// behind it need.
const WRITE_BUSY_BYTES: usize = 4 * BATCH_BYTES;
/// What it keeps while nothing is to be written.
const WRITE_KEEP_BYTES: usize = 16 * 1024;
/// Bounds of one read from the socket: small for a quiet link, larger while much comes.
const READ_BYTES_MIN: usize = 4 * 1024;
const READ_BYTES_MAX: usize = 256 * 1024;

/// Why a link has ended.
#[derive(Debug, Error)]
enum End {
    #[error("closed here")]
    ClosedHere,
    #[error("closed by the peer")]
    ClosedByPeer,
    #[error("the transport has stopped")]
    Stopped,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("the peer does not read")]
    Slow { queued_bytes: usize },
}

impl From<Abort> for End {
    fn from(abort: Abort) -> Self {
        match abort {
            Abort::Slow { queued_bytes } => Self::Slow { queued_bytes },
            Abort::TooLong { bytes } => Self::Frame(FrameError::PacketTooLong { bytes }),
        }
    }
}

/// Runs a link from its `LinkUp` to its end.
pub(crate) async fn run(shared: Arc<Shared>, stream: TcpStream, session: Session, ends: LinkEnds) {
    let LinkEnds { link, peer, queue, traffic, mut abort } = ends;
    let (mut from, to) = stream.into_split();
    let mut writing =
        tokio::spawn(write(to, FrameWriter::new(session.sealer), queue, traffic.clone()));
    let reader = FrameReader::new(session.opener);
    let end = tokio::select! {
        biased;
        aborted = &mut abort => aborted.map_or(End::ClosedHere, End::from),
        written = &mut writing => match written {
            Ok(Ok(())) => End::ClosedHere,
            Ok(Err(end)) => end,
            Err(_) => End::Stopped,
        },
        end = read(&mut from, reader, (link, &traffic), &shared.events) => end,
    };
    tracing::debug!(link = link.0, ?peer, %end, "link ended");
    match end {
        End::ClosedHere => {
            // What was sent goes out first. What still comes in is read and dropped: closing a
            // socket with unread bytes would reset it, and the peer would lose our last packets.
            let flushed = async {
                if !writing.is_finished() {
                    let _ = (&mut writing).await;
                }
                let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
            };
            let _ = timeout(shared.limits.flush_timeout, flushed).await;
            writing.abort();
            return;
        }
        End::Slow { queued_bytes } => {
            shared.count(|c| c.links_slow += 1);
            shared.trouble(Trouble::SlowPeer { link, peer, queued_bytes });
        }
        End::Frame(error) => {
            shared.count(|c| c.links_bad += 1);
            shared.trouble(Trouble::BadFrame { link, peer, error });
        }
        End::ClosedByPeer | End::Io(_) | End::Stopped => {}
    }
    writing.abort();
    drop(from);
    shared.links.down(link).await;
}

/// Reads until something ends it. One packet at a time is handed on: while the runtime is behind,
/// nothing more is read, and the peer's writes wait.
async fn read(
    from: &mut OwnedReadHalf,
    mut frames: FrameReader,
    (link, traffic): (LinkId, &PeerTraffic),
    events: &mpsc::Sender<NetEvent>,
) -> End {
    let mut want = READ_BYTES_MIN;
    loop {
        loop {
            match frames.next_packet() {
                Ok(Some(bytes)) => {
                    traffic.received(&bytes);
                    if events.send(NetEvent::Packet { link, bytes }).await.is_err() {
                        return End::Stopped;
                    }
                }
                Ok(None) => break,
                Err(error) => return End::Frame(error),
            }
        }
        frames.buffer().reserve(want);
        match from.read_buf(frames.buffer()).await {
            Ok(0) => return End::ClosedByPeer,
            Ok(bytes) if bytes >= want => want = (want * 2).min(READ_BYTES_MAX),
            Ok(bytes) if bytes < want / 8 => want = (want / 2).max(READ_BYTES_MIN),
            Ok(_) => {}
            Err(error) => return End::Io(error),
        }
    }
}

/// Writes until the queue is closed and empty.
async fn write(
    mut to: OwnedWriteHalf,
    mut frames: FrameWriter,
    mut queue: Queue,
    traffic: Arc<PeerTraffic>,
) -> Result<(), End> {
    let mut next = queue.next().await;
    while let Some(first) = next {
        let (mut packets, mut bytes) = (1, first.len());
        let mut batch = Batch::default();
        batch.add(&first);
        frames.reserve(first.len());
        frames.push(&first)?;
        while frames.sealed().len() < BATCH_BYTES {
            let Some(packet) = queue.next_now() else { break };
            packets += 1;
            bytes += packet.len();
            batch.add(&packet);
            frames.push(&packet)?;
        }
        frames.flush()?;
        to.write_all(frames.sealed()).await?;
        queue.written(packets, bytes);
        traffic.sent(&batch);
        next = queue.next_now();
        frames.written(if next.is_some() { WRITE_BUSY_BYTES } else { WRITE_KEEP_BYTES });
        if next.is_none() {
            next = queue.next().await;
        }
    }
    to.shutdown().await?;
    Ok(())
}
