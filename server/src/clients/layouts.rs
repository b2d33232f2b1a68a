//! What clients are told of the cluster: made once for all of them, at each change.

use bytes::{Bytes, BytesMut};
use quorate_core::client::{Layout, ToClient};
use quorate_io::client::wire;
use quorate_io::runtime::{Handle, Layout as Known};
use tokio::sync::watch;

/// The newest layout as a frame; empty: the node is in no cluster yet. Who is slow sees the newest only.
pub(super) type Layouts = watch::Receiver<Bytes>;

/// Follows what the node knows, until it ends.
pub(super) fn follow(handle: Handle) -> Layouts {
    let (tell, layouts) = watch::channel(Bytes::new());
    tokio::spawn(handle.follow(move |known| {
        let frame = frame(known);
        // Progress of copies changes nothing of it.
        tell.send_if_modified(|told| {
            let is_new = *told != frame;
            if is_new {
                *told = frame;
            }
            is_new
        });
    }));
    layouts
}

fn frame(known: &Known) -> Bytes {
    let mut frame = BytesMut::new();
    if let Some(document) = &known.configuration {
        wire::frame(&ToClient::Layout(Layout::of(document, &known.owners)), &mut frame);
    }
    frame.freeze()
}
