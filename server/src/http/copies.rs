//! `GET /db/{db}/copies`, `POST /db/{db}/sync`, `GET /db/{db}/backup`: how far each copy is, bringing
//! the node's own up to date, and a copy as a file.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use quorate_core::configuration::{Configuration, MAIN};
use quorate_core::copies::{ChunkData, CopyReport, CopyState};
use quorate_core::engine::{Statement, Transaction};
use quorate_core::node::SqlRequest;
use quorate_core::shard::{Consistency, Reply as SqlReply, SqlKind};
use quorate_core::{Command, CommandError, LogId, NodeId, Reply, SyncStart};
use quorate_io::copies::Outgoing;
use quorate_io::runtime::{NoSnapshot, Stopped};
use serde::{Deserialize, Serialize};

use super::admin::answer;
use super::body::GivenOrDefault;
use super::sql::OfShard;
use super::{App, refuse};

/// How long a backup waits to know what was acknowledged, and as long for the copy to hold it.
const CATCH_UP: Duration = Duration::from_secs(2);
/// Bytes of a backup that are read at a time.
const PART: u32 = 256 * 1024;

/// One copy of a shard.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct CopyNews {
    /// The database.
    pub(crate) database: String,
    /// The shard.
    pub(crate) shard: String,
    /// The name of the server.
    pub(crate) server: String,
    /// What the configuration says of it.
    pub(crate) status: String,
    /// The last entry of the shard's log that is in it.
    pub(crate) lsn: u64,
    /// `whole`, `opening`, `lacking` or `receiving`.
    pub(crate) state: String,
    /// Why it cannot go on from the log, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lacks: Option<String>,
    /// How far the whole copy is that is fetched, if one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) progress: Option<Progress>,
}

/// How far a transfer is.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// The name of the server that it comes from.
    pub(crate) donor: String,
    /// Bytes that are there.
    pub(crate) done: u64,
    /// Bytes in all; 0 while the donor makes it ready.
    pub(crate) total: u64,
    /// Bytes a second of late.
    pub(crate) rate: u64,
    /// Seconds that are left at this rate; nothing while that cannot be told.
    pub(crate) seconds_left: Option<u64>,
    /// Bytes that were there from an earlier attempt.
    pub(crate) kept: u64,
}

/// The body of `/sync`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SyncBody {
    /// One shard only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) shard: Option<String>,
    /// By a whole copy, even where the log would do.
    #[serde(default)]
    pub(crate) full: bool,
    /// With `full`: even if the copy is online and holds everything.
    #[serde(default)]
    pub(crate) force: bool,
}

/// How one copy comes to be up to date.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct SyncNews {
    /// The shard.
    pub(crate) shard: String,
    /// How.
    #[serde(flatten)]
    pub(crate) start: SyncStart,
}

/// What is known of copies, by names.
pub(crate) fn news(
    configuration: &Configuration,
    copies: &[(LogId, NodeId, CopyReport)],
) -> Vec<CopyNews> {
    let mut all = Vec::new();
    for shard in configuration.shards() {
        for (log, node, report) in copies {
            let status = shard.shard.copies.get(node);
            let (true, Some(status)) = (*log == shard.shard.log, status) else { continue };
            let (state, lacks, progress) = match &report.state {
                CopyState::Whole => ("whole", None, None),
                CopyState::Opening => ("opening", None, None),
                CopyState::Lacking(why) => ("lacking", Some(why.clone()), None),
                CopyState::Receiving(progress) => ("receiving", None, Some(progress)),
            };
            all.push(CopyNews {
                database: shard.database_name.to_owned(),
                shard: shard.name.to_owned(),
                server: configuration.name_of(*node),
                status: status.to_string(),
                lsn: report.applied.0,
                state: state.to_owned(),
                lacks,
                progress: progress.map(|progress| Progress {
                    donor: configuration.name_of(progress.donor),
                    done: progress.done,
                    total: progress.total,
                    rate: progress.rate,
                    seconds_left: progress.seconds_left(),
                    kept: progress.kept,
                }),
            });
        }
    }
    all.sort_by(|a, b| (&a.database, &a.shard, &a.server).cmp(&(&b.database, &b.shard, &b.server)));
    all
}

pub(super) async fn list(State(app): State<App>, Path(database): Path<String>) -> Response {
    let Ok(status) = app.handle.status().await else {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "the node has stopped");
    };
    let Some(configuration) = status.configuration.as_deref() else {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "this node is in no cluster yet");
    };
    if !configuration.databases.contains_key(&database) {
        let message = format!("there is no database '{database}'; `quorate db list` lists them");
        return refuse(StatusCode::NOT_FOUND, &message);
    }
    let mut all = news(configuration, &status.copies);
    all.retain(|copy| copy.database == database);
    Json(all).into_response()
}

pub(super) async fn sync(
    State(app): State<App>,
    Path(database): Path<String>,
    GivenOrDefault(SyncBody { shard, full, force }): GivenOrDefault<SyncBody>,
) -> Response {
    let command = Command::Sync { database, shard, full, force };
    let reply = app.handle.command(command).await;
    match reply.unwrap_or(Reply::Failed(CommandError::OutcomeUnknown)) {
        Reply::Syncing { shards } => {
            let news = shards.into_iter().map(|(shard, start)| SyncNews { shard, start });
            Json(news.collect::<Vec<_>>()).into_response()
        }
        Reply::Failed(error @ CommandError::Refused(_)) => {
            refuse(StatusCode::NOT_FOUND, &error.to_string())
        }
        Reply::Failed(error) => refuse(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
        reply @ (Reply::Done { .. } | Reply::Measured { .. }) => {
            Json(answer(reply)).into_response()
        }
    }
}

/// What the node gives of its copy of a shard, or how it is refused.
pub(super) fn of_copy<T>(
    given: Result<Result<T, NoSnapshot>, Stopped>,
) -> Result<T, (StatusCode, String)> {
    match given {
        Ok(Ok(given)) => Ok(given),
        Ok(Err(error @ NoSnapshot::Unknown { .. })) => {
            Err((StatusCode::NOT_FOUND, error.to_string()))
        }
        Ok(Err(error)) => Err((StatusCode::SERVICE_UNAVAILABLE, error.to_string())),
        Err(stopped) => Err((StatusCode::SERVICE_UNAVAILABLE, stopped.to_string())),
    }
}

/// The node's own copy of a shard as a file, as it was at one position, which a header names.
pub(super) async fn backup(
    State(app): State<App>,
    Path(database): Path<String>,
    Query(of): Query<OfShard>,
) -> Response {
    let shard = of.shard.unwrap_or_else(|| MAIN.to_owned());
    catch_up(&app, &database, &shard).await;
    let snapshot = match of_copy(app.handle.snapshot(&database, &shard).await) {
        Ok(snapshot) => snapshot,
        Err((code, problem)) => return refuse(code, &problem),
    };
    let (lsn, bytes) = (snapshot.position().index.0, snapshot.bytes());
    let headers = [
        (header::CONTENT_TYPE, "application/vnd.sqlite3".to_owned()),
        (header::CONTENT_LENGTH, bytes.to_string()),
        (header::HeaderName::from_static("x-quorate-lsn"), lsn.to_string()),
    ];
    (headers, parts(snapshot)).into_response()
}

/// Waits until the node's own copy holds all that was acknowledged before, through whatever node. Where
/// nobody can tell, or it takes too long, the copy is backed up as it is, for that may be all there is;
/// the answer names its last entry.
async fn catch_up(app: &App, database: &str, shard: &str) {
    let read = |consistency| SqlRequest {
        database: database.to_owned(),
        shard: Some(shard.to_owned()),
        transaction: Transaction { statements: vec![Statement::new("SELECT 1")] },
        kind: SqlKind::Read(consistency),
        timeout: CATCH_UP,
    };
    let asked = app.handle.sql(read(Consistency::Linearizable)).await;
    if let Ok(SqlReply::Done { at, .. }) = asked.map(|answer| answer.reply) {
        let _ = app.handle.sql(read(Consistency::AtLeast(at))).await;
    }
}

/// The file, part by part, read beside the tasks that must not wait for a disk.
fn parts(snapshot: Outgoing) -> Body {
    let snapshot = Arc::new(snapshot);
    Body::from_stream(stream::unfold(0, move |at| {
        let snapshot = Arc::clone(&snapshot);
        async move {
            let left = snapshot.bytes().checked_sub(at).filter(|left| *left > 0)?;
            let len = u32::try_from(left).unwrap_or(u32::MAX).min(PART);
            let read = tokio::task::spawn_blocking(move || snapshot.read(at, len, None, false));
            let part = match read.await {
                Ok(Ok((_, ChunkData::Plain(bytes)))) => Ok::<Bytes, std::io::Error>(bytes),
                Ok(Ok(_)) => Err(std::io::Error::other("a part came in another form")),
                Ok(Err(fault)) => Err(std::io::Error::other(fault)),
                Err(error) => Err(std::io::Error::other(error)),
            };
            Some((part, at + u64::from(len)))
        }
    }))
}
