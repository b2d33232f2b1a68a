//! `GET /db` and `POST /admin/db`: which databases there are, and making and dropping them.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use quorate_core::configuration::{ConfigCommand, Configuration, DatabaseRules};
use quorate_core::{Command, CommandError, DatabaseId, Reply};
use quorate_io::config::DatabaseConfig;
use serde::{Deserialize, Serialize};

use super::admin::answer;
use super::{App, refuse};

/// The body of `/admin/db`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "todo", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum DatabaseRequest {
    /// Make one.
    Create {
        /// Its name.
        name: String,
        /// Its JSON as OrientDB writes it; without it: everything everywhere, majority.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        config: Option<String>,
    },
    /// Drop one, with all its data on all servers.
    Drop {
        /// Its name.
        name: String,
    },
}

/// One database, in the answer of `GET /db`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct DatabaseView {
    /// Its name.
    pub(crate) name: String,
    /// Its id.
    pub(crate) id: String,
    /// Its shards, by name.
    pub(crate) shards: BTreeMap<String, ShardView>,
}

/// One shard of a database.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ShardView {
    /// Who is to own it: to run its writes.
    pub(crate) owner: Option<String>,
    /// How far each server's copy is.
    pub(crate) copies: BTreeMap<String, String>,
}

pub(super) async fn list(State(app): State<App>) -> Response {
    match &app.handle.layout().configuration {
        Some(configuration) => Json(views(configuration)).into_response(),
        None => refuse(StatusCode::SERVICE_UNAVAILABLE, "this node is in no cluster yet"),
    }
}

fn views(configuration: &Configuration) -> Vec<DatabaseView> {
    let mut views: BTreeMap<&str, DatabaseView> = BTreeMap::new();
    for shard in configuration.shards() {
        let view = views.entry(shard.database_name).or_insert_with(|| DatabaseView {
            name: shard.database_name.to_owned(),
            id: shard.database.id.to_string(),
            shards: BTreeMap::new(),
        });
        let copies = shard.shard.copies.iter().map(|(node, status)| {
            let status = serde_json::to_value(status).ok();
            let status = status.and_then(|s| s.as_str().map(str::to_owned)).unwrap_or_default();
            (configuration.name_of(*node), status)
        });
        let owner = shard.preferred_owner().map(|node| configuration.name_of(node));
        let told = ShardView { owner, copies: copies.collect() };
        view.shards.insert(shard.name.to_owned(), told);
    }
    views.into_values().collect()
}

pub(super) async fn change(
    State(app): State<App>,
    request: Result<Json<DatabaseRequest>, JsonRejection>,
) -> Response {
    let request = match request {
        Ok(Json(request)) => request,
        Err(rejection) => return refuse(rejection.status(), &rejection.body_text()),
    };
    tracing::info!(?request, "an operator asks for a change of databases");
    let command = match request {
        DatabaseRequest::Create { name, config } => {
            let rules = match config.as_deref().map(rules).transpose() {
                Ok(rules) => rules.unwrap_or_default(),
                Err(problem) => return refuse(StatusCode::BAD_REQUEST, &problem),
            };
            let mut id = [0; 16];
            if let Err(error) = getrandom::fill(&mut id) {
                let problem = format!("the operating system gives no randomness: {error}");
                return refuse(StatusCode::INTERNAL_SERVER_ERROR, &problem);
            }
            let id = DatabaseId(u128::from_le_bytes(id));
            ConfigCommand::CreateDatabase { name, id, rules: Box::new(rules) }
        }
        DatabaseRequest::Drop { name } => ConfigCommand::DropDatabase { name },
    };
    match app.handle.command(Command::Change(command)).await {
        Ok(reply) => Json(answer(reply)).into_response(),
        Err(_) => Json(answer(Reply::Failed(CommandError::OutcomeUnknown))).into_response(),
    }
}

fn rules(text: &str) -> Result<DatabaseRules, String> {
    let read = DatabaseConfig::parse("the configuration", text.as_bytes());
    let (config, _notes) = read.map_err(|error| error.to_string())?;
    Ok(config.rules())
}
