//! `POST /db/{db}/restore`: the content of a shard becomes that of the SQLite database in the body.

use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use quorate_core::NodeId;
use quorate_core::configuration::MAIN;
use quorate_core::engine::{Fault, Transaction};
use quorate_core::node::SqlRequest;
use quorate_core::shard::{Reply, ShardError, SqlKind, Upload};
use quorate_io::copies::UploadFile;
use quorate_io::engine::NotAdopted;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::copies::of_copy;
use super::sql::failed;
use super::{App, refuse};

/// How long the servers may take once the file is here, unless the request says otherwise, and at most.
const TIMEOUT: Duration = Duration::from_secs(3600);
const TIMEOUT_MAX: Duration = Duration::from_secs(86_400);
/// Parts of the body are gathered to so many bytes before they are written.
const PART: usize = 1 << 20;

/// Which shard, and how long the servers may take.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    shard: Option<String>,
    /// In milliseconds.
    timeout_ms: Option<u64>,
}

/// What was restored.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Restored {
    /// The shard.
    pub(crate) shard: String,
    /// As which entry of its log.
    pub(crate) lsn: u64,
    /// How long the file was.
    pub(crate) bytes: u64,
}

pub(super) async fn restore(
    State(app): State<App>,
    Path(database): Path<String>,
    Query(asked): Query<Asked>,
    body: Body,
) -> Response {
    let shard = asked.shard.unwrap_or_else(|| MAIN.to_owned());
    let file = match of_copy(app.handle.upload(&database, &shard).await) {
        Ok(file) => file,
        Err((code, problem)) => return refuse(code, &problem),
    };
    let file = match received(file, body).await {
        Ok(file) => file,
        Err(refusal) => return refusal,
    };
    let (bytes, number) = (file.bytes(), file.number());
    info!(database, shard, bytes, "the content of a shard is to be replaced");
    let timeout = asked.timeout_ms.map_or(TIMEOUT, Duration::from_millis).min(TIMEOUT_MAX);
    let request = SqlRequest {
        database: database.clone(),
        shard: Some(shard.clone()),
        transaction: Transaction::default(),
        // Which node this is, it knows itself.
        kind: SqlKind::Restore(Upload { node: NodeId(0), number }),
        timeout,
    };
    let answered = app.handle.sql(request).await.map(|answer| answer.reply);
    drop(file);
    match answered {
        Ok(Reply::Done { at, .. }) => {
            let lsn = at.index.0;
            info!(database, shard, lsn, "the content of a shard was replaced");
            Json(Restored { shard, lsn, bytes }).into_response()
        }
        Ok(Reply::Failed(error)) => {
            warn!(database, shard, %error, "the content of a shard was not replaced for certain");
            failed(&app, &error)
        }
        Ok(
            Reply::Compared { .. }
            | Reply::Session { .. }
            | Reply::Began { .. }
            | Reply::Stepped { .. },
        )
        | Err(_) => failed(&app, &ShardError::OutcomeUnknown),
    }
}

/// The file, whole and checked. What does not fit on the disk is read to its end all the same, so that
/// the sender is there to hear of it.
async fn received(mut file: UploadFile, body: Body) -> Result<UploadFile, Response> {
    let mut parts = body.into_data_stream();
    let (mut gathered, mut full): (Vec<Bytes>, Option<Fault>) = (Vec::new(), None);
    let mut length = 0;
    loop {
        let part = match parts.next().await {
            Some(Ok(part)) => Some(part),
            Some(Err(error)) => {
                let said = format!("the file did not come whole, and nothing was changed: {error}");
                return Err(refuse(StatusCode::BAD_REQUEST, &said));
            }
            None => None,
        };
        let over = part.is_none();
        if let Some(part) = part.filter(|_| full.is_none()) {
            length += part.len();
            gathered.push(part);
        }
        if length >= PART || over {
            length = 0;
            let some = std::mem::take(&mut gathered);
            let (returned, written) = beside(move || {
                let written = some.iter().try_for_each(|part| file.write(part));
                (file, written)
            })
            .await?;
            file = returned;
            full = full.or(written.err());
        }
        if over {
            break;
        }
    }
    if let Some(fault) = full {
        let said = format!("the file cannot be kept here, and nothing was changed: {fault}");
        return Err(refuse(StatusCode::INSUFFICIENT_STORAGE, &said));
    }
    let (file, checked) = beside(move || {
        let checked = file.check();
        (file, checked)
    })
    .await?;
    checked.map(|()| file).map_err(|why| {
        let code = match why {
            NotAdopted::Failed(_) => StatusCode::INSUFFICIENT_STORAGE,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        refuse(code, &format!("nothing was changed: {why}"))
    })
}

/// Beside the tasks that must not wait for a disk.
async fn beside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Response> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        let said = format!("nothing was changed: {error}");
        refuse(StatusCode::INTERNAL_SERVER_ERROR, &said)
    })
}
