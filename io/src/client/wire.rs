//! What travels between a client and a node: frames with their length in front, four bytes, the highest
//! first; in each one message of `quorate_core::client`, as postcard. The first from the client is a
//! [`Hello`].
//!
//! No length from outside is trusted: what is longer than it may be is refused before anything is
//! allocated for it, and what does not decode to its last byte is refused whole.

use std::io;
use std::marker::PhantomData;

use bytes::{BufMut as _, BytesMut};
use futures_util::StreamExt as _;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::io::AsyncRead;
use tokio_util::codec::{FramedRead, LengthDelimitedCodec, LengthDelimitedCodecError};

/// The port of a node for clients, if it is free.
pub const PORT: u16 = 2424;
/// The first bytes of a [`Hello`]: this protocol, and its version.
pub const MAGIC: [u8; 5] = *b"QRTC\x01";
/// The longest [`Hello`], in bytes.
pub const HELLO_BYTES_MAX: usize = 4096;
/// The longest request, in bytes.
pub const REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024 + 64 * 1024;
/// The longest message of a node, in bytes: a result has 4 MiB at most, and a layout many servers.
pub const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The first that a client sends.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// [`MAGIC`].
    pub magic: [u8; 5],
    /// A user's token, or the node's admin token.
    pub token: Option<String>,
}

/// How a TLS server begins to say that what came was no TLS: an alert of any version 3 (RFC 8446, 5.1).
const TLS_ALERT: [u8; 2] = [0x15, 0x03];

/// Why a connection cannot go on.
#[derive(Debug, Error)]
pub enum WireError {
    /// The other end closed it, or the network failed.
    #[error("{0}")]
    Io(io::Error),
    /// A message is longer than it may be: usually the other end speaks something else.
    #[error("the other end does not speak Quorate's protocol for clients")]
    TooLong,
    /// TLS is asked for.
    #[error("the other end speaks TLS, and the client does not: say so, in a URL with `tls=on`")]
    Tls,
    /// A message cannot be read.
    #[error("a message cannot be read: the other end speaks something else, or a later version")]
    Unreadable,
}

/// Messages that come from the other end.
#[derive(Debug)]
pub struct Incoming<R, T> {
    frames: FramedRead<R, LengthDelimitedCodec>,
    _of: PhantomData<fn() -> T>,
}

impl<R: AsyncRead + Unpin, T: DeserializeOwned> Incoming<R, T> {
    /// Reads messages no longer than `bytes_max`.
    #[must_use]
    pub fn new(reader: R, bytes_max: usize) -> Self {
        let codec = LengthDelimitedCodec::builder().max_frame_length(bytes_max).new_codec();
        Self { frames: FramedRead::new(reader, codec), _of: PhantomData }
    }

    /// The next message; `None`: the other end has closed. A wait that is given up loses nothing.
    ///
    /// # Errors
    /// [`WireError`]; nothing more comes then.
    pub async fn next(&mut self) -> Option<Result<T, WireError>> {
        let frame = match self.frames.next().await? {
            Ok(frame) => frame,
            Err(error) => {
                let too_long =
                    error.get_ref().is_some_and(|inner| inner.is::<LengthDelimitedCodecError>());
                return Some(Err(match too_long {
                    true if self.frames.read_buffer().starts_with(&TLS_ALERT) => WireError::Tls,
                    true => WireError::TooLong,
                    false => WireError::Io(error),
                }));
            }
        };
        Some(match postcard::take_from_bytes(&frame) {
            Ok((message, [])) => Ok(message),
            Ok(_) | Err(_) => Err(WireError::Unreadable),
        })
    }

    /// Goes on with messages of another kind.
    #[must_use]
    pub fn then<U>(mut self, bytes_max: usize) -> Incoming<R, U> {
        self.frames.decoder_mut().set_max_frame_length(bytes_max);
        Incoming { frames: self.frames, _of: PhantomData }
    }

    /// What was read and not understood, and where the rest comes from.
    pub fn into_parts(self) -> (BytesMut, R) {
        let parts = self.frames.into_parts();
        (parts.read_buf, parts.io)
    }
}

/// Appends a message as a frame.
///
/// # Panics
/// Never: messages always encode, and none is 4 GiB long.
pub fn frame<T: Serialize>(message: &T, out: &mut BytesMut) {
    let encoded = postcard::to_allocvec(message);
    let encoded = encoded.unwrap_or_else(|error| unreachable!("messages always encode: {error}"));
    out.reserve(4 + encoded.len());
    out.put_u32(u32::try_from(encoded.len()).unwrap_or(u32::MAX));
    out.extend_from_slice(&encoded);
}

#[cfg(test)]
mod tests {
    use quorate_core::client::{ToClient, ToServer};
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    fn incoming<T: DeserializeOwned>(bytes: &[u8]) -> Incoming<&[u8], T> {
        Incoming::new(bytes, 1024)
    }

    #[tokio::test]
    async fn messages_come_as_they_were_sent_however_the_bytes_come() {
        let mut bytes = BytesMut::new();
        for number in 0..3 {
            frame(&ToServer::Ping(number), &mut bytes);
        }
        let (mut near, far) = tokio::io::duplex(3);
        let sent = tokio::spawn(async move { near.write_all(&bytes).await });
        let mut incoming = Incoming::<_, ToServer>::new(far, 1024);
        for number in 0..3 {
            let message = incoming.next().await.unwrap().unwrap();
            assert_eq!(message, ToServer::Ping(number));
        }
        sent.await.unwrap().unwrap();
        assert!(incoming.next().await.is_none());
    }

    #[tokio::test]
    async fn what_is_no_message_is_refused_by_name() {
        let http = b"HTTP/1.1 400 Bad Request\r\n\r\n";
        let error = incoming::<ToClient>(http).next().await.unwrap().unwrap_err();
        assert!(matches!(error, WireError::TooLong), "{error}");
        let error = incoming::<ToClient>(&[0, 0, 0, 2, 99, 99]).next().await.unwrap().unwrap_err();
        assert!(matches!(error, WireError::Unreadable), "{error}");
        // A message with something behind it.
        let mut bytes = BytesMut::new();
        frame(&(ToServer::Ping(1), 7_u8), &mut bytes);
        let error = incoming::<ToServer>(&bytes).next().await.unwrap().unwrap_err();
        assert!(matches!(error, WireError::Unreadable), "{error}");
        // One that breaks off.
        let error = incoming::<ToServer>(&bytes[..5]).next().await.unwrap().unwrap_err();
        assert!(matches!(error, WireError::Io(_)), "{error}");
    }
}
