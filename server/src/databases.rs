//! The commands of databases: making them, and SQL.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

use crate::cli::{Db, Sql};
use crate::client::Client;
use crate::commands::changed;
use crate::configure;
use crate::exit::Failure;
use crate::http::{Args, DatabaseRequest, DatabaseView, SqlAnswer, SqlBody};

/// `quorate db …`.
pub(crate) fn db(args: &Db) -> Result<(), Failure> {
    match args {
        Db::Create { name, db_config, target } => {
            let config = db_config.as_deref().map(text_of).transpose()?;
            let request = DatabaseRequest::Create { name: name.clone(), config };
            let version = changed(Client::find(target)?.post("/admin/db", &request)?)?;
            println!("the database {name} is made; the configuration has version {version}");
            Ok(())
        }
        Db::Drop { name, target } => {
            let request = DatabaseRequest::Drop { name: name.clone() };
            let version = changed(Client::find(target)?.post("/admin/db", &request)?)?;
            println!("the database {name} is dropped; the configuration has version {version}");
            Ok(())
        }
        Db::Config { name, file, drop, dry_run, yes, json, target } => {
            let change =
                configure::Change { file: file.as_deref(), drop, dry_run: *dry_run, yes: *yes };
            configure::config(name, &change, *json, target)
        }
        Db::List { json, target } => {
            let databases: Vec<DatabaseView> = Client::find(target)?.get("/db")?;
            let text = if *json { pretty(&databases)? } else { list(&databases) };
            print(&text)
        }
    }
}

/// What is in a file.
///
/// # Errors
/// [`Failure::Usage`] if it cannot be read.
pub(crate) fn text_of(file: &Path) -> Result<String, Failure> {
    fs::read_to_string(file).map_err(|error| Failure::Usage(format!("{}: {error}", file.display())))
}

pub(crate) fn list(databases: &[DatabaseView]) -> String {
    if databases.is_empty() {
        return "there are no databases; make one with `quorate db create NAME`\n".to_owned();
    }
    let mut table = table(&["DATABASE", "SHARD", "OWNER", "COPIES"]);
    for database in databases {
        if let Some(server) = &database.awaited_from {
            let row = format!("to be brought by {server}, whose own cluster has it");
            table.add_row([database.name.as_str(), "-", "-", &row]);
        }
        for (name, shard) in &database.shards {
            let copies: Vec<String> =
                shard.copies.iter().map(|(server, status)| format!("{server} {status}")).collect();
            let owner = match (&shard.owner, &shard.caretaker, &shard.static_owner) {
                (Some(owner), _, Some(_)) => format!("{owner} (static)"),
                (Some(owner), _, None) => owner.clone(),
                (None, Some(caretaker), Some(owner)) => {
                    format!("{owner} (static, not there: no inserts; {caretaker} takes care)")
                }
                (None, ..) => "nobody".to_owned(),
            };
            let awaited = shard.awaited.iter().map(|server| format!("{server} awaited"));
            let copies: Vec<String> = copies.into_iter().chain(awaited).collect();
            table.add_row([database.name.as_str(), name, &owner, &copies.join(", ")]);
        }
    }
    format!("{table}\n")
}

/// `quorate sql`.
pub(crate) fn sql(args: &Sql) -> Result<(), Failure> {
    let (database, shard) = named(&args.database)?;
    let mut body = SqlBody::default();
    match (args.statements.as_slice(), args.args.is_empty()) {
        ([sql], _) => {
            body.sql = Some(sql.clone());
            body.args = Some(Args::List(args.args.iter().map(|text| parameter(text)).collect()));
        }
        (several, true) => {
            let statement =
                |sql: &String| crate::http::StatementBody { sql: sql.clone(), args: None };
            body.statements = several.iter().map(statement).collect();
        }
        (_, false) => {
            let problem = "--arg goes with one statement; write the values into several";
            return Err(Failure::Usage(problem.to_owned()));
        }
    }
    if args.linearizable {
        body.consistency = Some(crate::http::ConsistencyBody::Linearizable);
    }
    body.token = args.since.clone();
    let what = if args.query { "query" } else { "execute" };
    let of = shard.map(|shard| format!("?shard={shard}")).unwrap_or_default();
    let answer: SqlAnswer =
        Client::find(&args.target)?.sql(&format!("/db/{database}/{what}{of}"), &body)?;
    let text = if args.json { pretty(&answer)? } else { results(&answer) };
    print(&text)
}

/// `DB` or `DB/SHARD`.
///
/// # Errors
/// [`Failure::Usage`] if it is neither.
pub(crate) fn named(given: &str) -> Result<(&str, Option<&str>), Failure> {
    let (database, shard) = match given.split_once('/') {
        Some((database, shard)) => (database, Some(shard)),
        None => (given, None),
    };
    let fits = |text: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        !text.is_empty() && text.chars().all(fits)
    };
    if fits(database) && shard.is_none_or(fits) {
        return Ok((database, shard));
    }
    Err(Failure::Usage(format!(
        "'{given}' names no database: give DB or DB/SHARD, of letters, digits, '-' and '_'"
    )))
}

/// What looks like a number is one; `null` is NULL; all else is text.
fn parameter(text: &str) -> Value {
    if text == "null" {
        return Value::Null;
    }
    let number = text.parse::<i64>().map(Value::from);
    let real = || text.parse::<f64>().ok().filter(|real| real.is_finite()).map(Value::from);
    number.ok().or_else(real).unwrap_or_else(|| Value::from(text))
}

fn results(answer: &SqlAnswer) -> String {
    let mut text = String::new();
    for result in &answer.results {
        if result.columns.is_empty() {
            let rows = if result.affected == 1 { "row" } else { "rows" };
            text += &format!("{} {rows} affected\n", result.affected);
            continue;
        }
        let mut shown = table(&result.columns.iter().map(String::as_str).collect::<Vec<_>>());
        for row in &result.rows {
            shown.add_row(row.iter().map(cell));
        }
        let rows = if result.rows.len() == 1 { "row" } else { "rows" };
        text += &format!("{shown}\n{} {rows}\n", result.rows.len());
    }
    text
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

pub(crate) fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(head.iter().copied());
    table
}

pub(crate) fn pretty(value: &impl serde::Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(value);
    text.map(|text| text + "\n").map_err(|error| Failure::Refused(error.to_string()))
}

pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // The reader of a pipe has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => other.map_err(|error| Failure::Refused(format!("standard output: {error}"))),
    }
}
