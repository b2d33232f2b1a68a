//! `quorate db config` and `quorate server set-owner`: showing what a database is, and changing it.

use std::collections::BTreeSet;
use std::path::Path;

use crate::cli::Target;
use crate::client::Client;
use crate::commands::changed;
use crate::databases::{list, named, pretty, print, text_of};
use crate::exit::Failure;
use crate::http::{DatabaseRequest, DatabaseView, Preview, WouldDo};
use crate::terminal::confirm;

/// What is to be changed, and how.
pub(crate) struct Change<'a> {
    /// The new configuration.
    pub(crate) file: Option<&'a Path>,
    /// Shards to drop.
    pub(crate) drop: &'a [String],
    /// Only look.
    pub(crate) dry_run: bool,
    /// Do not ask.
    pub(crate) yes: bool,
}

/// `quorate db config`.
pub(crate) fn config(
    name: &str,
    change: &Change<'_>,
    json: bool,
    target: &Target,
) -> Result<(), Failure> {
    let (name, None) = named(name)? else {
        let problem = format!("'{name}': the configuration is the database's, not one shard's");
        return Err(Failure::Usage(problem));
    };
    let client = Client::find(target)?;
    if change.file.is_none() && change.drop.is_empty() {
        return show(&client, name, json);
    }
    let config = change.file.map(text_of).transpose()?;
    let drop: BTreeSet<String> = change.drop.iter().cloned().collect();
    let request = |shown| DatabaseRequest::Configure {
        name: name.to_owned(),
        config: config.clone(),
        drop: drop.clone(),
        shown,
    };
    let would = look(&client, &request(None))?;
    if json && change.dry_run {
        return print(&pretty(&would)?);
    }
    print(&told(name, &would))?;
    if would.moves.is_nothing() || change.dry_run {
        return Ok(());
    }
    if !change.yes {
        confirm("do it?", "give --yes to do this, or --dry-run only to look")?;
    }
    let answer = client.post("/admin/db", &request(Some(would.moves)))?;
    let version = changed(answer)?;
    println!("done; the configuration has version {version}");
    Ok(())
}

fn show(client: &Client, name: &str, json: bool) -> Result<(), Failure> {
    let view: DatabaseView = client.get(&format!("/db/{name}"))?;
    if json {
        return print(&pretty(&view)?);
    }
    print(&pretty(&view.config)?)?;
    // Apart from the JSON, which may go to a file.
    eprint!("{}", list(&[view]));
    Ok(())
}

/// What would come of it.
fn look(client: &Client, request: &DatabaseRequest) -> Result<WouldDo, Failure> {
    match client.post("/admin/db/preview", request)? {
        Preview::WouldDo(would) => Ok(would),
        Preview::Refused { errors } => Err(Failure::Refused(errors.join("\n"))),
    }
}

fn told(name: &str, would: &WouldDo) -> String {
    let mut text = String::new();
    for note in &would.notes {
        text += &format!("note: {note}\n");
    }
    if would.moves.is_nothing() {
        return text + &format!("{name} is so already: nothing would change\n");
    }
    for (what, lines) in
        [("settings:", &would.moves.settings), ("what moves:", &would.moves.shards)]
    {
        if !lines.is_empty() {
            text += &format!("{what}\n");
        }
        lines.iter().for_each(|line| text += &format!("  {line}\n"));
    }
    for line in &would.lost {
        text += &format!("!!! {line}. There is no way back.\n");
    }
    text
}

/// `quorate server set-owner`.
pub(crate) fn set_owner(
    database: &str,
    server: Option<&str>,
    target: &Target,
) -> Result<(), Failure> {
    let (name, shard) = named(database)?;
    let request = DatabaseRequest::SetOwner {
        name: name.to_owned(),
        shard: shard.map(str::to_owned),
        owner: server.map(str::to_owned),
    };
    let client = Client::find(target)?;
    let would = look(&client, &request)?;
    print(&told(database, &would))?;
    if would.moves.is_nothing() {
        return Ok(());
    }
    let version = changed(client.post("/admin/db", &request)?)?;
    match server {
        Some(server) => println!(
            "{server} owns {database}, there or not; the configuration has version {version}"
        ),
        None => println!("{database} has no static owner; the configuration has version {version}"),
    }
    Ok(())
}
