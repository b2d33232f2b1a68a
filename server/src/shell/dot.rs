//! What begins with a dot is for the shell itself.

use super::output::{Mode, printable};
use super::session::Session;
use super::tell;
use crate::databases::{named, table};

/// A command, what it takes, and what it does.
pub(super) const COMMANDS: [(&str, &str, &str); 12] = [
    (".databases", "", "databases, their shards, owners and copies"),
    (".help", "", "this"),
    (".layout", "", "which server owns (X) and which copies (o) each shard"),
    (".mode", "table|json|csv", "how results are written"),
    (".quit", "", "the end; so is Ctrl-D"),
    (".schema", "[TABLE]", "the statements that made the tables, or one of them"),
    (".servers", "", "the servers of the cluster, and the one in use"),
    (".sync", "", "how far each copy of the database is"),
    (".tables", "", "tables and views"),
    (".timer", "on|off", "tell how long each statement took"),
    (".use", "DB[/SHARD]", "another database, or another shard"),
    (".version", "", "the version of this shell"),
];

/// Tables and views that are not SQLite's own or Quorate's.
const OF_THE_USER: &str =
    "name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name NOT LIKE '\\_quorate%' ESCAPE '\\'";

/// What comes after a command.
pub(super) enum Next {
    /// This is shown, and it goes on.
    Show(String),
    /// The end.
    Quit,
}

/// Runs one.
///
/// # Errors
/// In words: what is wrong, and what there is.
pub(super) fn run(session: &mut Session, line: &str) -> Result<Next, String> {
    let mut words = line.split_whitespace();
    let command = words.next().unwrap_or_default();
    let rest: Vec<&str> = words.map(|word| word.trim_end_matches(';')).collect();
    let shown = match (meant(command)?, rest.as_slice()) {
        (".databases", []) => tell::databases(&session.layout()),
        (".servers", []) => tell::servers(&session.layout(), session.node().as_deref()),
        (".layout", []) => tell::layout(&session.layout()),
        (".sync", []) => sync(session)?,
        (".tables", []) => tables(session)?,
        (".schema", []) => schema(session, None)?,
        (".schema", [name]) => schema(session, Some(name))?,
        (".use", [place]) => {
            let (database, shard) = named(place).map_err(|failure| failure.to_string())?;
            session.use_shard(database, shard)?;
            String::new()
        }
        (".mode", []) => format!("{}\n", session.mode.name()),
        (".mode", [name]) => {
            let all = Mode::NAMES.join(", ");
            session.mode = Mode::named(name)
                .ok_or_else(|| format!("there is no mode '{name}'; there are {all}"))?;
            String::new()
        }
        (".timer", [which @ ("on" | "off")]) => {
            session.timer = *which == "on";
            String::new()
        }
        (".help", []) => help(),
        (".version", []) => format!("quorate {}\n", env!("CARGO_PKG_VERSION")),
        (".quit", []) => return Ok(Next::Quit),
        (command, _) => return Err(usage(command)),
    };
    Ok(Next::Show(shown))
}

/// The command of that name, or the one that begins so and no other does.
fn meant(given: &str) -> Result<&'static str, String> {
    let all = || COMMANDS.iter().map(|(name, ..)| *name);
    if let Some(exactly) = all().find(|name| *name == given) {
        return Ok(exactly);
    }
    let begin: Vec<&str> =
        all().filter(|name| given.len() > 1 && name.starts_with(given)).collect();
    match begin.as_slice() {
        _ if given == ".exit" => Ok(".quit"),
        [one] => Ok(one),
        [] => Err(format!("there is no command '{given}'; .help lists them")),
        several => Err(format!("'{given}' may be {}; write more of it", several.join(" or "))),
    }
}

fn usage(command: &str) -> String {
    let found = COMMANDS.iter().find(|(name, ..)| *name == command);
    match found {
        Some((name, "", _)) => format!("{name} takes nothing"),
        Some((name, takes, _)) => format!("write {name} {takes}"),
        None => "there is no such command; .help lists them".to_owned(),
    }
}

fn help() -> String {
    let mut text = String::new();
    for (name, takes, does) in COMMANDS {
        text += &format!("{:<22} {does}\n", format!("{name} {takes}"));
    }
    text + "All else is SQL, and ends with a semicolon. Each statement is done by itself, once, whichever \
            node goes away meanwhile.\n"
}

fn tables(session: &Session) -> Result<String, String> {
    let sql = format!(
        "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND {OF_THE_USER} ORDER BY name"
    );
    let rows = session.run(&sql)?.0;
    let name = |row: &quorate_io::client::Row| row.get::<String>(0).unwrap_or_default();
    Ok(rows.iter().map(|row| printable(&name(row)) + "\n").collect())
}

fn schema(session: &Session, of: Option<&str>) -> Result<String, String> {
    let one =
        of.map(|name| format!(" AND lower(tbl_name) = lower('{}')", name.replace('\'', "''")));
    let sql = format!(
        "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND {OF_THE_USER}{} ORDER BY rowid",
        one.unwrap_or_default()
    );
    let rows = session.run(&sql)?.0;
    match of {
        Some(name) if rows.is_empty() => {
            Err(format!("there is no table '{name}'; .tables lists them"))
        }
        _ => {
            let text = |row: &quorate_io::client::Row| row.get::<String>(0).unwrap_or_default();
            Ok(rows.iter().map(|row| printable(&text(row)) + ";\n").collect())
        }
    }
}

/// From a node on this machine as it is told over HTTP, with what is on its way; else by the layout.
fn sync(session: &Session) -> Result<String, String> {
    let Some((database, _)) = session.place() else {
        return Err("no database is in use: choose one with .use DATABASE".to_owned());
    };
    let told = session.data.as_deref().and_then(|data| tell::asked(data, database));
    if let Some(copies) = told {
        return Ok(tell::copies(&copies));
    }
    let layout = session.layout();
    let mut shown = table(&["SHARD", "SERVER", "STATUS"]);
    for shard in layout.shards.iter().filter(|shard| shard.database == database) {
        for (node, status) in &shard.copies {
            shown.add_row([shard.name.clone(), layout.name_of(*node), status.to_string()]);
        }
    }
    Ok(format!("{}\n", shown.trim_fmt()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_may_be_shortened_as_long_as_one_is_meant() {
        assert_eq!(meant(".q"), Ok(".quit"));
        assert_eq!(meant(".exit"), Ok(".quit"));
        assert_eq!(meant(".sc"), Ok(".schema"));
        assert!(meant(".s").unwrap_err().contains(".schema or .servers or .sync"));
        assert!(meant(".").unwrap_err().contains(".help"));
        assert!(meant(".nope").unwrap_err().contains("'.nope'"));
    }

    #[test]
    fn every_command_says_what_it_takes() {
        for (name, takes, _) in COMMANDS {
            assert!(usage(name).contains(takes) && help().contains(name), "{name}");
        }
    }
}
