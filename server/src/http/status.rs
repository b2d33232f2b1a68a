//! `GET /status`: what a node knows of itself and the others, and, if asked, what it gathers from them.
//!
//! | parameter | what is added |
//! |---|---|
//! | `db`, `db=NAME` | `shards`: owners and copies, quorums, and whether each can be written |
//! | `latency=true` | `latency`: how long followers take to acknowledge |
//! | `messages=true` | `messages`: what went over the links |
//!
//! With any of them the node asks all servers; those that did not answer are in `unanswered`.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use quorate_core::{Command, CommandError, Reply};
use serde::Deserialize;

use super::{App, refuse};
use crate::gathered::{Gathered, Parts, Told};
use crate::view::StatusView;

/// How long the other servers are waited for.
const GATHER_MAX_WAIT: Duration = Duration::from_secs(2);

/// The parameters.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Asked {
    db: Option<String>,
    latency: bool,
    messages: bool,
}

pub(super) async fn serve(
    State(app): State<App>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Response {
    let asked = match asked {
        Ok(Query(asked)) => asked,
        Err(rejection) => {
            let known = "there are db=NAME, db=, latency=true and messages=true";
            let problem = format!("{}; {known}", rejection.body_text());
            return refuse(StatusCode::BAD_REQUEST, &problem);
        }
    };
    let database = asked.db.map(|name| Some(name).filter(|name| !name.is_empty()));
    let parts = Parts { shards: database, latency: asked.latency, messages: asked.messages };
    match view(&app, &parts).await {
        Ok(view) => Json(view).into_response(),
        Err(response) => response,
    }
}

async fn view(app: &App, parts: &Parts) -> Result<StatusView, Response> {
    if *parts == Parts::default() {
        return app.view().await;
    }
    let command = Command::Measure { timeout: GATHER_MAX_WAIT };
    let servers = match app.handle.command(command).await {
        Ok(Reply::Measured { servers }) => servers,
        Ok(Reply::Failed(CommandError::Busy)) => {
            let busy = "too many ask for this at a time: ask again in a moment";
            return Err(refuse(StatusCode::SERVICE_UNAVAILABLE, busy));
        }
        Ok(_) | Err(_) => {
            let stopped = "the node has stopped";
            return Err(refuse(StatusCode::SERVICE_UNAVAILABLE, stopped));
        }
    };
    // What the node itself knows is of after the answers.
    let status = app.status().await?;
    let mut view = StatusView::new(&status, app.warnings.clone());
    if let Some(Some(name)) = &parts.shards
        && !view.databases.contains(name)
    {
        let problem = format!("there is no database '{name}'; `quorate db list` lists them");
        return Err(refuse(StatusCode::NOT_FOUND, &problem));
    }
    view.gathered = match &status.configuration {
        Some(configuration) => Told::new(configuration, &status, servers).shown(parts),
        None => Gathered {
            shards: parts.shards.as_ref().map(|_| Vec::new()),
            latency: parts.latency.then(Vec::new),
            messages: parts.messages.then(Vec::new),
            unanswered: Vec::new(),
        },
    };
    Ok(view)
}
