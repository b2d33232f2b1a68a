//! The cluster as its clients know it: `/layout`, and `/events` whenever it is another one.
//!
//! What is told has the names that a node gives it; a node knows more, which clients are not told.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use futures_util::stream;
use quorate_core::client::Layout;
use quorate_core::configuration::ServerStatus;
use quorate_io::client::{Client, View};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::{Caller, Proxy};
use crate::http::{ANSWER_MAX_WAIT, EVENTS_MAX, refuse};
use crate::view::{LayoutCopy, LayoutShard};

/// How often something is sent when nothing changes, so that both ends notice a dead connection.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// The cluster.
#[derive(Debug, Serialize)]
struct Told {
    cluster: Option<String>,
    version: u64,
    servers: Vec<Server>,
    databases: Vec<String>,
    shards: Vec<LayoutShard>,
}

/// One server.
#[derive(Debug, Serialize)]
struct Server {
    id: String,
    name: String,
    status: ServerStatus,
    client: Option<std::net::SocketAddr>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    data_centers: Vec<String>,
}

impl Told {
    fn of(layout: &Layout) -> Self {
        let server = |server: &quorate_core::client::LayoutServer| Server {
            id: server.node.to_string(),
            name: server.name.clone(),
            status: if server.is_online { ServerStatus::Online } else { ServerStatus::Away },
            client: server.address,
            data_centers: server.data_centers.clone(),
        };
        let shard = |shard: &quorate_core::client::LayoutShard| LayoutShard {
            database: shard.database.clone(),
            shard: shard.name.clone(),
            owner: shard.owner.map(|owner| layout.name_of(owner)),
            term: shard.term.0,
            copies: shard
                .copies
                .iter()
                .map(|(node, status)| LayoutCopy {
                    server: layout.name_of(*node),
                    status: status.to_string(),
                })
                .collect(),
        };
        let mut databases: Vec<String> =
            layout.shards.iter().map(|shard| shard.database.clone()).collect();
        databases.dedup();
        Self {
            cluster: layout.cluster.map(|cluster| cluster.to_string()),
            version: layout.version.0,
            servers: layout.servers.iter().map(server).collect(),
            databases,
            shards: layout.shards.iter().map(shard).collect(),
        }
    }
}

pub(super) async fn show(Extension(caller): Extension<Caller>) -> Response {
    match caller.let_in(ANSWER_MAX_WAIT).await {
        Ok(layout) => Json(Told::of(&layout)).into_response(),
        Err(shut) => shut.into_response(),
    }
}

struct Listener {
    /// It goes on for as long as somebody has it.
    _client: Client,
    view: watch::Receiver<View>,
    ended: watch::Receiver<bool>,
    /// What was told last.
    told: Option<Arc<Layout>>,
    /// Frees the place when the listener goes.
    _place: OwnedSemaphorePermit,
}

/// Streams the present layout and then every change, for as long as the cluster lets the token in. A
/// listener that is too slow is skipped to the newest.
pub(super) async fn events(
    State(proxy): State<Proxy>,
    Extension(caller): Extension<Caller>,
) -> Response {
    let Ok(place) = Arc::clone(&proxy.listeners).try_acquire_owned() else {
        let message = format!("{EVENTS_MAX} listeners are connected already");
        return refuse(StatusCode::SERVICE_UNAVAILABLE, &message);
    };
    let client = match caller.client_let_in(ANSWER_MAX_WAIT).await {
        Ok(client) => client,
        Err(shut) => return shut.into_response(),
    };
    let (view, ended) = (client.watch(), proxy.ended.clone());
    let listener = Listener { _client: client, view, ended, told: None, _place: place };
    let events = stream::unfold(listener, |mut listener| async move {
        let layout = listener.next().await?;
        // A view is plain data: it always becomes JSON.
        let json = serde_json::to_string(&Told::of(&layout)).unwrap_or_default();
        let event = Event::default().event("layout").id(layout.version.0.to_string()).data(json);
        Some((Ok::<_, Infallible>(event), listener))
    });
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE).text("alive");
    Sse::new(events).keep_alive(keep_alive).into_response()
}

impl Listener {
    async fn next(&mut self) -> Option<Arc<Layout>> {
        let told = self.told.clone();
        let other = |view: &View| {
            view.refused.is_some() || told.as_ref().is_none_or(|told| *told != view.layout)
        };
        let layout = tokio::select! {
            view = self.view.wait_for(other) => {
                let view = view.ok()?;
                view.refused.is_none().then(|| Arc::clone(&view.layout))?
            }
            _ = self.ended.wait_for(|ended| *ended) => return None,
        };
        self.told = Some(Arc::clone(&layout));
        Some(layout)
    }
}
