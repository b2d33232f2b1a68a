//! What listeners are told of the cluster: written as JSON once for all of them, at each change.

use std::sync::Arc;

use quorate_core::configuration::Configuration;
use quorate_io::runtime::{Handle, Layout};
use tokio::sync::{broadcast, watch};

use crate::view::LayoutView;

/// How many changes a slow listener may lag behind before it is sent the newest.
const CHANGES_MAX: usize = 64;

/// A layout as it is told.
#[derive(Debug)]
pub(super) struct Told {
    /// From which it is drawn.
    pub(super) configuration: Arc<Configuration>,
    /// As JSON.
    pub(super) json: String,
}

/// What is told, as it changes.
#[derive(Debug)]
pub(super) struct News {
    newest: watch::Receiver<Option<Arc<Told>>>,
    changes: broadcast::Sender<Arc<Told>>,
}

impl News {
    /// Follows what the node knows, until it ends.
    pub(super) fn follow(handle: Handle) -> Self {
        let (tell, newest) = watch::channel(None);
        let (changes, _) = broadcast::channel(CHANGES_MAX);
        let all = changes.clone();
        tokio::spawn(handle.follow(move |layout| {
            let Some(told) = told(layout) else { return };
            tell.send_replace(Some(Arc::clone(&told)));
            // Nobody listening is no error.
            let _ = all.send(told);
        }));
        Self { newest, changes }
    }

    /// The changes from now on.
    pub(super) fn changes(&self) -> broadcast::Receiver<Arc<Told>> {
        self.changes.subscribe()
    }

    /// The newest; `None`: the node is in no cluster yet.
    pub(super) fn newest(&self) -> Option<Arc<Told>> {
        self.newest.borrow().clone()
    }
}

fn told(layout: &Layout) -> Option<Arc<Told>> {
    let configuration = Arc::clone(layout.configuration.as_ref()?);
    let view = LayoutView::of(&configuration, layout);
    // A view is plain data: it always becomes JSON.
    let json = serde_json::to_string(&view).unwrap_or_default();
    Some(Arc::new(Told { configuration, json }))
}
