//! `/events`: every version of the layout, as server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use quorate_io::runtime::{Handle, Layout};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::{self, error::RecvError};

use super::{App, EVENTS_MAX, refuse};
use crate::view::LayoutView;

/// How often something is sent when nothing changes, so that both ends notice a dead connection.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

struct Listener {
    handle: Handle,
    changes: broadcast::Receiver<Layout>,
    /// What goes out next without waiting: the present layout, at first and after a lag.
    next: Option<Layout>,
    /// Frees the place when the listener goes.
    _place: OwnedSemaphorePermit,
}

/// Streams the present layout and then every change. A listener that is too slow is skipped to the
/// newest; the queue behind it is bounded.
pub(super) async fn serve(State(app): State<App>) -> Response {
    let Ok(place) = app.listeners.clone().try_acquire_owned() else {
        let message = format!("{EVENTS_MAX} listeners are connected already; ask another server");
        return refuse(StatusCode::SERVICE_UNAVAILABLE, &message);
    };
    let listener = Listener::new(app.handle.clone(), place);
    let events = stream::unfold(listener, |mut listener| async move {
        let layout = listener.next().await?;
        Some((Ok::<_, Infallible>(event(&layout)), listener))
    });
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE).text("alive");
    Sse::new(events).keep_alive(keep_alive).into_response()
}

impl Listener {
    fn new(handle: Handle, place: OwnedSemaphorePermit) -> Self {
        // First the subscription, then the present state: nothing falls between the two.
        let changes = handle.changes();
        let next = Some(handle.layout()).filter(|l| l.configuration.is_some());
        Self { handle, changes, next, _place: place }
    }

    async fn next(&mut self) -> Option<Layout> {
        loop {
            if let Some(layout) = self.next.take() {
                return Some(layout);
            }
            let change = tokio::select! {
                change = self.changes.recv() => change,
                // The node has ended: so does the stream, that the process need not wait for it.
                _ = self.handle.stopped() => return None,
            };
            match change {
                Ok(layout) if layout.configuration.is_some() => return Some(layout),
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => {
                    self.changes = self.handle.changes();
                    self.next = Some(self.handle.layout()).filter(|l| l.configuration.is_some());
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

fn event(layout: &Layout) -> Event {
    let Some(configuration) = &layout.configuration else { return Event::default() };
    let view = LayoutView::of(configuration, layout);
    // A view is plain data: it always becomes JSON.
    let data = serde_json::to_string(&view).unwrap_or_default();
    Event::default().event("layout").id(view.version.to_string()).data(data)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use quorate_core::configuration::{Configuration, Defaults};
    use quorate_core::{ClusterId, ConfigVersion};
    use quorate_io::runtime::channel;
    use tokio::sync::Semaphore;

    use super::*;

    fn version(version: u64) -> impl FnOnce(&mut Layout) {
        let configuration = Configuration {
            cluster: ClusterId(1),
            group: "demo".to_owned(),
            version: ConfigVersion(version),
            servers: Default::default(),
            defaults: Defaults::default(),
            expect_met: true,
            turns: Vec::new(),
            databases: Default::default(),
            last_log: quorate_core::LogId::CONFIGURATION,
            bringing: std::collections::BTreeMap::new(),
            absorbed: Default::default(),
            expelled: Default::default(),
            dissolved_into: None,
        };
        |layout| layout.configuration = Some(Arc::new(configuration))
    }

    async fn next(listener: &mut Listener) -> u64 {
        let layout = listener.next().await.unwrap();
        layout.configuration.unwrap().version.0
    }

    #[tokio::test]
    async fn a_listener_gets_every_version_and_a_slow_one_is_skipped_to_the_newest() {
        let (handle, inbox) = channel();
        let places = Arc::new(Semaphore::new(2));
        let place = || places.clone().try_acquire_owned().unwrap();
        let mut early = Listener::new(handle.clone(), place());
        inbox.publish(version(1));
        let mut quick = Listener::new(handle.clone(), place());
        assert_eq!((next(&mut early).await, next(&mut quick).await), (1, 1));
        for n in 2..=200 {
            inbox.publish(version(n));
            assert_eq!(next(&mut quick).await, n, "whoever reads misses none");
        }
        assert_eq!(next(&mut early).await, 200, "whoever did not read goes on with the newest");
        inbox.publish(version(201));
        assert_eq!(next(&mut early).await, 201);
        inbox.close(quorate_core::StopReason::Left);
        assert!(early.next().await.is_none(), "the stream ends with the node");
        drop((early, quick));
        assert_eq!(places.available_permits(), 2, "and gives its place back");
    }
}
