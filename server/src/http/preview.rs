//! What a change of databases would do, for an operator to read before it is done.

use std::time::Duration;

use quorate_core::configuration::{self, ConfigCommand, Configuration, DatabaseRules, Presence};
use quorate_core::engine::{Statement, Transaction, Value};
use quorate_core::node::SqlRequest;
use quorate_core::shard::{Consistency, Reply, SqlKind};
use quorate_io::config::DatabaseConfig;
use serde::{Deserialize, Serialize};

use super::App;
use super::databases::DatabaseRequest;
use super::written::Written;

/// How long the content of a shard that would be dropped is looked at.
const LOOK_MAX: Duration = Duration::from_secs(2);
/// So many shards that would be dropped are looked into; of the others it is said that they go.
const LOOKS_MAX: usize = 16;

/// What would come of a change.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub(crate) enum Preview {
    /// It would be done.
    WouldDo(WouldDo),
    /// It would be refused.
    Refused {
        /// All that is wrong.
        errors: Vec<String>,
    },
}

/// What would be done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WouldDo {
    /// To be sent along with the change: it is refused if this is not what it would do any more.
    pub(crate) moves: Moves,
    /// Data that would be gone, shard by shard.
    pub(crate) lost: Vec<String>,
    /// What else an operator should know.
    pub(crate) notes: Vec<String>,
}

/// What would be another one, and where.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub(crate) struct Moves {
    /// Keys of the JSON, with the value before and after.
    pub(crate) settings: Vec<String>,
    /// Shards that come, go, move, or change their owner.
    pub(crate) shards: Vec<String>,
}

impl Moves {
    /// Whether it would change nothing.
    pub(crate) fn is_nothing(&self) -> bool {
        self.settings.is_empty() && self.shards.is_empty()
    }
}

/// All that is wrong with a command, in words.
pub(super) fn problems(document: &Configuration, command: &ConfigCommand) -> Vec<String> {
    configuration::problems(document, command).iter().map(ToString::to_string).collect()
}

/// What an acceptable command changes.
pub(super) fn moves(document: &Configuration, command: &ConfigCommand) -> Moves {
    let moves = configuration::preview(document, command).unwrap_or_default();
    let mut after = Some(document.clone());
    // Refused is the same as changing nothing: the caller has looked for problems.
    let _ = configuration::apply(&mut after, command);
    let name = match command {
        ConfigCommand::Configure { name, .. } | ConfigCommand::SetOwner { name, .. } => Some(name),
        _ => None,
    };
    let written = |document: &Configuration| {
        let held = document.databases.get(name?)?;
        Some(Written::of(&DatabaseRules::of(held), 0))
    };
    let settings = written(document).zip(after.as_ref().and_then(written));
    Moves {
        settings: settings.map(|(before, after)| before.changes(&after)).unwrap_or_default(),
        shards: moves.iter().map(ToString::to_string).collect(),
    }
}

pub(super) async fn of(
    app: &App,
    document: &Configuration,
    request: &DatabaseRequest,
    command: &ConfigCommand,
) -> Preview {
    let errors = problems(document, command);
    if !errors.is_empty() {
        return Preview::Refused { errors };
    }
    let lost = lost(app, document, command).await;
    let notes = notes(document, request);
    Preview::WouldDo(WouldDo { moves: moves(document, command), lost, notes })
}

/// The data that would be gone.
async fn lost(app: &App, document: &Configuration, command: &ConfigCommand) -> Vec<String> {
    let moves = configuration::preview(document, command).unwrap_or_default();
    let dropped = moves.into_iter().filter(|moves| moves.presence == Presence::Dropped);
    let mut lost = Vec::new();
    for (number, moves) in dropped.enumerate() {
        let holds = match number < LOOKS_MAX {
            true => content(app, &moves.database, &moves.shard).await,
            false => "was not looked into".to_owned(),
        };
        let at = match moves.loses.is_empty() {
            true => "no server".to_owned(),
            false => moves.loses.join(", "),
        };
        let (database, shard) = (&moves.database, &moves.shard);
        lost.push(format!("{database}/{shard} GOES WITH ITS DATA on {at}; it {holds}"));
    }
    lost
}

/// What a shard holds, as the nearest copy tells.
async fn content(app: &App, database: &str, shard: &str) -> String {
    let tables = "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0 \
                  AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' \
                  AND name NOT LIKE '\\_quorate%' ESCAPE '\\' ORDER BY name LIMIT 400";
    let tables = match ask(app, database, shard, tables).await {
        Ok(rows) => rows,
        Err(why) => return format!("could not be looked into ({why})"),
    };
    let names: Vec<String> = tables
        .into_iter()
        .filter_map(|row| match row.into_iter().next() {
            Some(Value::Text(name)) => Some(name),
            _ => None,
        })
        .collect();
    if names.is_empty() {
        return "holds no tables".to_owned();
    }
    let of = |name: &String| format!("(SELECT count(*) FROM \"{}\")", name.replace('"', "\"\""));
    let sum = names.iter().map(of).collect::<Vec<_>>().join(" + ");
    let count = match ask(app, database, shard, &format!("SELECT {sum}")).await {
        Ok(rows) => match rows.first().and_then(|row| row.first()) {
            Some(Value::Integer(1)) => "1 row".to_owned(),
            Some(Value::Integer(count)) => format!("{count} rows"),
            _ => "rows that were not counted".to_owned(),
        },
        Err(_) => "rows that were not counted".to_owned(),
    };
    let tables = if names.len() == 1 { "table" } else { "tables" };
    format!("holds {count} in {} {tables}: {}", names.len(), names.join(", "))
}

async fn ask(app: &App, database: &str, shard: &str, sql: &str) -> Result<Vec<Vec<Value>>, String> {
    let request = SqlRequest {
        database: database.to_owned(),
        shard: Some(shard.to_owned()),
        transaction: Transaction { statements: vec![Statement::new(sql)] },
        kind: SqlKind::Read(Consistency::Local),
        timeout: LOOK_MAX,
    };
    match app.handle.sql(request).await.map(|answer| answer.reply) {
        Ok(Reply::Done { rows, .. }) => {
            Ok(rows.into_iter().next().map(|rows| rows.rows).unwrap_or_default())
        }
        Ok(Reply::Failed(error)) => Err(error.to_string()),
        Ok(
            Reply::Compared { .. }
            | Reply::Session { .. }
            | Reply::Began { .. }
            | Reply::Stepped { .. },
        ) => Err("it was answered otherwise".to_owned()),
        Err(stopped) => Err(stopped.to_string()),
    }
}

/// What the reader remarks on the file, and what it says that has no effect here.
fn notes(document: &Configuration, request: &DatabaseRequest) -> Vec<String> {
    let (DatabaseRequest::Create { config: Some(text), .. }
    | DatabaseRequest::Configure { config: Some(text), .. }) = request
    else {
        return Vec::new();
    };
    let Ok((read, notes)) = DatabaseConfig::parse("the configuration", text.as_bytes()) else {
        return Vec::new();
    };
    let mut notes: Vec<String> = notes.iter().map(ToString::to_string).collect();
    let given: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    let defaults = &document.defaults;
    let of_cluster = [
        ("newNodeStrategy", read.new_node_strategy != defaults.new_node_strategy),
        (
            "autoRemoveOfflineServers",
            read.auto_remove.as_ref().is_some_and(|at| at.value != defaults.auto_remove),
        ),
    ];
    for (key, differs) in of_cluster {
        if differs && given.get(key).is_some() {
            notes.push(format!(
                "{key} is the cluster's, from its founder's file: it stays as it is"
            ));
        }
    }
    if let DatabaseRequest::Configure { name, drop, .. } = request
        && let Some(held) = document.databases.get(name)
    {
        let named = read.rules().shards;
        let left_out = held.shards.keys().filter(|shard| {
            *shard != configuration::MAIN && !named.contains_key(*shard) && !drop.contains(*shard)
        });
        notes.extend(left_out.map(|shard| {
            format!("the shard {shard} is not named: it stays, and follows \"*\"; --drop {shard} drops it")
        }));
    }
    notes
}
