//! What clients are told of the cluster and of copies: made once for all of them, at each change.

use bytes::{Bytes, BytesMut};
use quorate_core::client::{Layout, ToClient};
use quorate_io::client::wire;
use quorate_io::runtime::{Handle, Layout as Known};
use tokio::sync::watch;

/// The newest, as frames. Who is slow sees the newest only.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Told {
    /// The layout; empty: the node is in no cluster yet.
    pub(super) layout: Bytes,
    /// The copies that are not whole; empty: it was never otherwise than that all are.
    pub(super) copies: Bytes,
}

/// What is told, as it changes.
pub(super) type Layouts = watch::Receiver<Told>;

/// Follows what the node knows, until it ends.
pub(super) fn follow(handle: Handle) -> Layouts {
    let (tell, layouts) = watch::channel(Told::default());
    tokio::spawn(handle.follow(move |known| {
        // Before it is told: whoever reads what was told last does not wait for this.
        let never = tell.borrow().copies.is_empty();
        let next = Told { layout: layout(known), copies: copies(known, never) };
        tell.send_if_modified(|told| {
            let is_new = *told != next;
            if is_new {
                *told = next;
            }
            is_new
        });
    }));
    layouts
}

fn layout(known: &Known) -> Bytes {
    let mut frame = BytesMut::new();
    if let Some(document) = &known.configuration {
        wire::frame(&ToClient::Layout(Layout::of(document, &known.owners)), &mut frame);
    }
    frame.freeze()
}

/// That all are whole is told only to those who may have been told otherwise: not if it `never` was.
fn copies(known: &Known, never: bool) -> Bytes {
    if known.copies.is_empty() && never {
        return Bytes::new();
    }
    let mut frame = BytesMut::new();
    wire::frame(&ToClient::Copies(known.copies.clone()), &mut frame);
    frame.freeze()
}
