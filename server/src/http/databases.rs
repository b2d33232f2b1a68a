//! `GET /db`, `GET /db/{db}`, `POST /admin/db` and `/admin/db/preview`: which databases there are,
//! making, changing and dropping them, and what that would move.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use quorate_core::configuration::{
    ConfigCommand, Configuration, DatabaseRules, MAIN, Rejection, ShardRef,
};
use quorate_core::{Command, CommandError, DatabaseId, Reply};
use quorate_io::config::DatabaseConfig;
use serde::{Deserialize, Serialize};

use super::admin::{ChangeAnswer, answer};
use super::body::Given;
use super::preview::{self, Preview};
use super::written::Written;
use super::{App, refuse};

/// The body of `/admin/db` and of `/admin/db/preview`.
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
    /// Change one while it runs.
    Configure {
        /// Its name.
        name: String,
        /// Its JSON; without it what it has now holds on. Shards that it does not name follow `*`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        config: Option<String>,
        /// Shards to drop, with their data.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        drop: BTreeSet<String>,
        /// What `/admin/db/preview` said that it would do: if it would do something else by now, it
        /// is refused.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shown: Option<preview::Moves>,
    },
    /// Give a shard a static owner, or none.
    SetOwner {
        /// The database.
        name: String,
        /// The shard; without it `main`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shard: Option<String>,
        /// The server that is to own it; without it whoever is preferred.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        owner: Option<String>,
    },
    /// Drop one, with all its data on all servers.
    Drop {
        /// Its name.
        name: String,
    },
}

/// One database, in the answers of `GET /db` and `GET /db/{db}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct DatabaseView {
    /// Its name.
    pub(crate) name: String,
    /// Its id.
    pub(crate) id: String,
    /// Its shards, by name.
    pub(crate) shards: BTreeMap<String, ShardView>,
    /// Whom it comes from: a server that is to bring it from its own cluster. Nothing of it is here yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) awaited_from: Option<String>,
    /// Its configuration, as its JSON says it (`GET /db/{db}` only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) config: Option<Written>,
}

/// One shard of a database.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ShardView {
    /// Who is to own it: to run its writes.
    pub(crate) owner: Option<String>,
    /// Who owns it whether there or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) static_owner: Option<String>,
    /// Who leads its log while its static owner is away: there are updates, and no inserts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) caretaker: Option<String>,
    /// How far each server's copy is.
    pub(crate) copies: BTreeMap<String, String>,
    /// Servers that have a place and are not in the cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) awaited: Vec<String>,
}

pub(super) async fn list(State(app): State<App>) -> Response {
    match &app.handle.layout().configuration {
        Some(configuration) => Json(views(configuration)).into_response(),
        None => in_no_cluster(),
    }
}

pub(super) async fn show(State(app): State<App>, Path(name): Path<String>) -> Response {
    let Some(configuration) = app.handle.layout().configuration else { return in_no_cluster() };
    let view = views(&configuration).into_iter().find(|view| view.name == name);
    let (Some(mut view), Some(held)) = (view, configuration.databases.get(&name)) else {
        return refuse(StatusCode::NOT_FOUND, &unknown(&name).to_string());
    };
    view.config = Some(Written::of(&DatabaseRules::of(held), configuration.version.0));
    Json(view).into_response()
}

pub(super) fn in_no_cluster() -> Response {
    refuse(StatusCode::SERVICE_UNAVAILABLE, "this node is in no cluster yet")
}

fn unknown(name: &str) -> Rejection {
    Rejection::UnknownDatabase { name: name.chars().take(80).collect() }
}

fn views(configuration: &Configuration) -> Vec<DatabaseView> {
    let mut views: BTreeMap<&str, DatabaseView> = BTreeMap::new();
    for shard in configuration.shards() {
        let view = views.entry(shard.database_name).or_insert_with(|| DatabaseView {
            name: shard.database_name.to_owned(),
            id: shard.database.id.to_string(),
            shards: BTreeMap::new(),
            awaited_from: None,
            config: None,
        });
        view.shards.insert(shard.name.to_owned(), shard_view(shard));
    }
    // Their names are nobody else's.
    views.extend(configuration.bringing.values().flat_map(|bringing| {
        bringing.databases.iter().map(|database| {
            let view = DatabaseView {
                name: database.name.clone(),
                id: database.id.to_string(),
                shards: BTreeMap::new(),
                awaited_from: Some(bringing.name.clone()),
                config: None,
            };
            (database.name.as_str(), view)
        })
    }));
    views.into_values().collect()
}

fn shard_view(shard: ShardRef<'_>) -> ShardView {
    let name = |node| shard.document.name_of(node);
    let copies = shard.shard.copies.iter().map(|(node, status)| (name(*node), status.to_string()));
    let owner = shard.preferred_owner();
    let caretaker = shard.preferred_leader().filter(|_| owner.is_none());
    ShardView {
        owner: owner.map(name),
        static_owner: shard.shard.owner.clone(),
        caretaker: caretaker.map(name),
        copies: copies.collect(),
        awaited: shard.awaited().map(str::to_owned).collect(),
    }
}

pub(super) async fn change(
    State(app): State<App>,
    Given(request): Given<DatabaseRequest>,
) -> Response {
    tracing::info!(?request, "an operator asks for a change of databases");
    let Some(configuration) = app.handle.layout().configuration else { return in_no_cluster() };
    let command = match command(&configuration, &request) {
        Ok(command) => command,
        Err(Unasked::Refused(problem)) => return refused(&[problem]),
        Err(Unasked::Wrong(code, problem)) => return refuse(code, &problem),
    };
    if let DatabaseRequest::Configure { shown, .. } = &request {
        // The command would stop at the first that is wrong.
        let problems = preview::problems(&configuration, &command);
        if !problems.is_empty() {
            return refused(&problems);
        }
        let now = preview::moves(&configuration, &command);
        if shown.as_ref().is_some_and(|shown| *shown != now) {
            return refused(&[
                "the cluster has changed since the preview, so that something else \
                              would be done now; nothing was: look at it again"
                    .to_owned(),
            ]);
        }
    }
    match app.handle.command(Command::Change(command)).await {
        Ok(reply) => Json(answer(reply)).into_response(),
        Err(_) => Json(answer(Reply::Failed(CommandError::OutcomeUnknown))).into_response(),
    }
}

pub(super) async fn preview(
    State(app): State<App>,
    Given(request): Given<DatabaseRequest>,
) -> Response {
    let Some(configuration) = app.handle.layout().configuration else { return in_no_cluster() };
    match command(&configuration, &request) {
        Ok(command) => {
            Json(preview::of(&app, &configuration, &request, &command).await).into_response()
        }
        Err(Unasked::Refused(problem)) => {
            Json(Preview::Refused { errors: vec![problem] }).into_response()
        }
        Err(Unasked::Wrong(code, problem)) => refuse(code, &problem),
    }
}

fn refused(problems: &[String]) -> Response {
    Json(ChangeAnswer::Refused { error: problems.join("\n") }).into_response()
}

/// Why the cluster is not even asked.
enum Unasked {
    /// It would refuse.
    Refused(String),
    /// The request is wrong in itself, or cannot be carried out here.
    Wrong(StatusCode, String),
}

/// The change of the document that is asked for.
fn command(
    configuration: &Configuration,
    request: &DatabaseRequest,
) -> Result<ConfigCommand, Unasked> {
    let id = |name: &str| match configuration.databases.get(name) {
        Some(held) => Ok(held.id),
        None => Err(Unasked::Refused(unknown(name).to_string())),
    };
    let read = |text: &Option<String>| match text.as_deref().map(rules).transpose() {
        Ok(rules) => Ok(rules),
        Err(problem) => Err(Unasked::Wrong(StatusCode::BAD_REQUEST, problem)),
    };
    Ok(match request.clone() {
        DatabaseRequest::Create { name, config } => {
            let rules = Box::new(read(&config)?.unwrap_or_default());
            ConfigCommand::CreateDatabase { name, id: new_id()?, rules }
        }
        DatabaseRequest::Configure { name, config, drop, .. } => {
            let id = id(&name)?;
            let as_it_is = || {
                let mut rules = configuration.databases.get(&name).map(|d| DatabaseRules::of(d));
                if let Some(rules) = &mut rules {
                    rules.shards.retain(|shard, _| !drop.contains(shard));
                }
                rules.unwrap_or_default()
            };
            let rules = Box::new(read(&config)?.unwrap_or_else(as_it_is));
            ConfigCommand::Configure { name, id, rules, drop }
        }
        DatabaseRequest::SetOwner { name, shard, owner } => {
            let (id, shard) = (id(&name)?, shard.unwrap_or_else(|| MAIN.to_owned()));
            ConfigCommand::SetOwner { name, id, shard, owner }
        }
        DatabaseRequest::Drop { name } => ConfigCommand::DropDatabase { name },
    })
}

fn new_id() -> Result<DatabaseId, Unasked> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| {
        let problem = format!("the operating system gives no randomness: {error}");
        Unasked::Wrong(StatusCode::INTERNAL_SERVER_ERROR, problem)
    })?;
    Ok(DatabaseId(u128::from_le_bytes(id)))
}

fn rules(text: &str) -> Result<DatabaseRules, String> {
    let read = DatabaseConfig::parse("the configuration", text.as_bytes());
    let (config, _notes) = read.map_err(|error| error.to_string())?;
    Ok(config.rules())
}
