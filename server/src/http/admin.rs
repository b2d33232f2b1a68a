//! What changes servers, and ends the node: for admins.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use quorate_core::configuration::{Registration, Role};
use quorate_core::{Command, CommandError, Reply, StopReason};
use serde::{Deserialize, Serialize};

use super::App;
use super::body::Given;

/// The body of `/admin/server`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeRequest {
    /// The server's name or id.
    pub(crate) server: String,
    /// What to do with it.
    pub(crate) todo: ToDo,
}

/// What can be done with a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ToDo {
    /// Take it out of the configuration.
    Remove,
    /// Make it a master.
    SetMaster,
    /// Make it a replica.
    SetReplica,
    /// Await it when it is gone.
    SetStatic,
    /// Remove it when it is gone.
    SetDynamic,
}

/// What came of it. Answered with 200, whatever the outcome: the outcome is the answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub(crate) enum ChangeAnswer {
    /// Committed.
    Done {
        /// The version of the configuration now.
        version: u64,
    },
    /// The cluster refused.
    Refused {
        /// Why, and what to do.
        error: String,
    },
    /// Nobody can decide.
    NoQuorum {
        /// Who is missing.
        error: String,
    },
    /// It may have been done.
    OutcomeUnknown {
        /// What to do.
        error: String,
    },
}

/// The answer of `/admin/stop`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StopAnswer {
    /// Whether the others were told, and could take over in good order.
    pub(crate) in_good_order: bool,
    /// Why the node ended.
    pub(crate) reason: String,
}

pub(super) async fn change(
    State(app): State<App>,
    Given(ChangeRequest { server, todo }): Given<ChangeRequest>,
) -> Response {
    tracing::info!(server, ?todo, "an operator asks for a change");
    let command = match todo {
        ToDo::Remove => Command::RemoveServer { server },
        ToDo::SetMaster => Command::SetRole { server, role: Role::Master },
        ToDo::SetReplica => Command::SetRole { server, role: Role::Replica },
        ToDo::SetStatic => Command::SetRegistration { server, registration: Registration::Static },
        ToDo::SetDynamic => {
            Command::SetRegistration { server, registration: Registration::Dynamic }
        }
    };
    match app.handle.command(command).await {
        Ok(reply) => Json(answer(reply)).into_response(),
        Err(_) => Json(answer(Reply::Failed(CommandError::OutcomeUnknown))).into_response(),
    }
}

/// What became of a command.
pub(super) fn answer(reply: Reply) -> ChangeAnswer {
    match reply {
        Reply::Done { version } => ChangeAnswer::Done { version: version.0 },
        Reply::Failed(error @ CommandError::NoQuorum(_)) => {
            ChangeAnswer::NoQuorum { error: error.to_string() }
        }
        Reply::Failed(error @ CommandError::OutcomeUnknown) => {
            ChangeAnswer::OutcomeUnknown { error: error.to_string() }
        }
        Reply::Failed(error) => ChangeAnswer::Refused { error: error.to_string() },
        Reply::Syncing { .. } | Reply::Measured { .. } => {
            ChangeAnswer::OutcomeUnknown { error: "the answer is to another question".to_owned() }
        }
    }
}

pub(super) async fn stop(State(app): State<App>) -> Response {
    tracing::info!("an operator asks this node to stop");
    // The node ends after its answer, or without one: what counts is how it ended.
    let _ = app.handle.command(Command::Stop).await;
    let reason = app.handle.stopped().await;
    let in_good_order = matches!(reason, Some(StopReason::Left));
    let reason = reason.map_or_else(|| "the process has ended".to_owned(), |r| r.to_string());
    Json(StopAnswer { in_good_order, reason }).into_response()
}
