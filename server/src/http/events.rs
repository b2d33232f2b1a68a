//! `/events`: every version of the layout, as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::{self, error::RecvError};

use super::access::{self, Who};
use super::news::Told;
use super::{App, EVENTS_MAX, refuse};

/// How often something is sent when nothing changes, so that both ends notice a dead connection.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

struct Listener {
    app: App,
    changes: broadcast::Receiver<Arc<Told>>,
    /// What goes out next without waiting: the present layout, at first and after a lag.
    next: Option<Arc<Told>>,
    /// Frees the place when the listener goes.
    _place: OwnedSemaphorePermit,
}

/// Streams the present layout and then every change. A listener that is too slow is skipped to the
/// newest; the queue behind it is bounded.
pub(super) async fn serve(State(app): State<App>, Extension(who): Extension<Who>) -> Response {
    let Ok(place) = app.listeners.clone().try_acquire_owned() else {
        let message = format!("{EVENTS_MAX} listeners are connected already; ask another server");
        return refuse(StatusCode::SERVICE_UNAVAILABLE, &message);
    };
    let listener = Listener::new(app, place);
    let events = stream::unfold((listener, who), |(mut listener, who)| async move {
        let told = listener.next_for(&who).await?;
        Some((Ok::<_, Infallible>(event(&told)), (listener, who)))
    });
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE).text("alive");
    Sse::new(events).keep_alive(keep_alive).into_response()
}

impl Listener {
    fn new(app: App, place: OwnedSemaphorePermit) -> Self {
        // First the subscription, then the present state: nothing falls between the two.
        let changes = app.news.changes();
        let next = app.news.newest();
        Self { app, changes, next, _place: place }
    }

    /// The next layout, as long as `who` may look: no longer when its token was dropped or has expired,
    /// or when it gave no name and there are users now.
    async fn next_for(&mut self, who: &Who) -> Option<Arc<Told>> {
        loop {
            // A token expires without anything happening.
            let next = tokio::time::timeout(KEEP_ALIVE, self.next()).await;
            let document = match &next {
                Ok(told) => Some(Arc::clone(&told.as_ref()?.configuration)),
                Err(_) => self.app.handle.configuration(),
            };
            document.filter(|document| access::still(who, document))?;
            if let Ok(told) = next {
                return told;
            }
        }
    }

    async fn next(&mut self) -> Option<Arc<Told>> {
        loop {
            if let Some(told) = self.next.take() {
                return Some(told);
            }
            let change = tokio::select! {
                change = self.changes.recv() => change,
                // The node has ended: so does the stream, that the process need not wait for it.
                _ = self.app.handle.stopped() => return None,
            };
            match change {
                Ok(told) => return Some(told),
                Err(RecvError::Lagged(_)) => {
                    self.changes = self.app.news.changes();
                    self.next = self.app.news.newest();
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

fn event(told: &Told) -> Event {
    let version = told.configuration.version.0;
    Event::default().event("layout").id(version.to_string()).data(&told.json)
}

#[cfg(test)]
mod tests {
    use quorate_core::configuration::{Configuration, Defaults};
    use quorate_core::{ClusterId, ConfigVersion};
    use quorate_io::runtime::{Layout, channel};
    use tokio::sync::Semaphore;

    use super::*;

    fn version(version: u64) -> impl FnOnce(&mut Layout) {
        let configuration = Configuration {
            cluster: ClusterId(1),
            origin: quorate_core::ClusterId(1),
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
            departed: Default::default(),
            dissolved_into: None,
            users: Default::default(),
        };
        |layout| layout.configuration = Some(Arc::new(configuration))
    }

    async fn next(listener: &mut Listener) -> u64 {
        listener.next().await.unwrap().configuration.version.0
    }

    #[tokio::test]
    async fn a_listener_gets_every_version_and_a_slow_one_is_skipped_to_the_newest() {
        let (handle, inbox) = channel();
        let dir = tempfile::tempdir().unwrap();
        let admin = crate::token::Token::of(dir.path()).unwrap();
        let app = App::new(handle, admin, Vec::new(), None).unwrap();
        let places = Arc::new(Semaphore::new(2));
        let place = || places.clone().try_acquire_owned().unwrap();
        let mut early = Listener::new(app.clone(), place());
        inbox.publish(version(1));
        let mut quick = Listener::new(app.clone(), place());
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
