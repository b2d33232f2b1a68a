//! The handshake: both ends of a connection prove that they know group, password and encryption
//! settings, and get an encrypted channel (DESIGN section 8). See [`messages`] for what is sent.

pub mod messages;
pub mod session;

use std::io;

use quorate_core::NodeId;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use self::messages::{
    ANSWER_BYTES, CHALLENGE_BYTES, HEAD_BYTES, HELLO_BYTES, Initiator, PROOF_BYTES, Responder,
};
use self::session::Session;
use super::credentials::Credentials;

/// A handshake that has succeeded.
pub struct Established {
    /// The other end, proven to know the credentials.
    pub peer: NodeId,
    /// Whether the other end is in this very process. With this node's own id and another
    /// process, it runs on a copy of the data directory.
    pub same_process: bool,
    /// The channel.
    pub session: Session,
}

/// Why there is no channel.
#[derive(Debug, Error)]
pub enum HandshakeError {
    /// The connection failed, or was closed in the middle.
    #[error("the connection was lost in the handshake: {0}")]
    Io(#[from] io::Error),
    /// Whatever is there, it is not a Quorate node.
    #[error("the other end is no Quorate node")]
    NotQuorate,
    /// A node of another version.
    #[error(
        "the other node speaks version {theirs} of the node protocol, this one version {ours}: \
         run versions of Quorate that fit together"
    )]
    VersionMismatch {
        /// The other end's version.
        theirs: u16,
        /// This node's version.
        ours: u16,
    },
    /// Group, password or encryption settings differ. Which of them cannot be known.
    #[error("group name, password or encryption settings differ")]
    Refused,
}

/// Runs the handshake of the end that dialled. The caller bounds its time.
///
/// # Errors
/// [`HandshakeError`]; drop the connection.
pub async fn initiate<S>(
    stream: &mut S,
    credentials: &Credentials,
    me: NodeId,
) -> Result<Established, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (initiator, hello) = Initiator::new(credentials, me);
    stream.write_all(&hello).await?;
    let challenge: [u8; CHALLENGE_BYTES] = read_with_head(stream).await?;
    let (proving, proof) = initiator.prove(&challenge)?;
    stream.write_all(&proof).await?;
    let mut answer = [0; ANSWER_BYTES];
    stream.read_exact(&mut answer).await?;
    proving.finish(&answer)
}

/// Runs the handshake of the end that was dialled. The caller bounds its time.
///
/// # Errors
/// [`HandshakeError`]; drop the connection. After [`HandshakeError::Refused`] the other end still
/// waits: send it [`messages::refusal`], when it has waited long enough.
pub async fn respond<S>(
    stream: &mut S,
    credentials: &Credentials,
    me: NodeId,
) -> Result<Established, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let hello: [u8; HELLO_BYTES] = match read_with_head(stream).await {
        Err(mismatch @ HandshakeError::VersionMismatch { .. }) => {
            // Tell it our version, so that its operator learns of both.
            stream.write_all(&messages::head()).await?;
            return Err(mismatch);
        }
        read => read?,
    };
    let (responder, challenge) = Responder::challenge(credentials, me, &hello)?;
    stream.write_all(&challenge).await?;
    let mut proof = [0; PROOF_BYTES];
    stream.read_exact(&mut proof).await?;
    let (established, answer) = responder.answer(&proof)?;
    stream.write_all(&answer).await?;
    Ok(established)
}

/// Reads a message that begins with a head, and no more than the head if that is not right: what
/// follows is of another length in another version.
async fn read_with_head<S, const BYTES: usize>(
    stream: &mut S,
) -> Result<[u8; BYTES], HandshakeError>
where
    S: AsyncRead + Unpin,
{
    let mut message = [0; BYTES];
    let mut head = [0; HEAD_BYTES];
    stream.read_exact(&mut head).await?;
    messages::check_head(&head)?;
    message[..HEAD_BYTES].copy_from_slice(&head);
    stream.read_exact(&mut message[HEAD_BYTES..]).await?;
    Ok(message)
}
