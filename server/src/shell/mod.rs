//! `quorate shell`: SQL as it is typed, or from a file, through whatever node is there.
//!
//! ```text
//! connect       the way to the cluster
//! session       what is connected, and what is asked there
//! statement     where a statement ends
//! editor        the line that is edited · completion what Tab offers
//! script        statements from a file
//! dot tell      commands of the shell · the cluster as tables
//! output errors results, and what went wrong, in words
//! used          which node is in use
//! ```

mod completion;
mod connect;
mod dot;
mod editor;
mod errors;
mod output;
mod script;
mod session;
mod statement;
mod tell;
mod used;

use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use crate::cli::Shell;
use crate::databases::print;
use crate::exit::Failure;
use completion::{NAMES_MAX, Names};
use dot::Next;
use editor::{Line, Typed};
pub(crate) use errors::{unconnected, undone};
pub(crate) use output::Mode;
use script::{Step, ToDo};
use session::Session;
pub(crate) use used::Used;

/// How long looking up names for Tab may keep a prompt from coming.
const NAMES_MAX_WAIT: Duration = Duration::from_millis(300);
/// Names are looked up again after this long: others make tables too.
const NAMES_AGE_MAX: Duration = Duration::from_secs(20);

/// `quorate shell`.
pub(crate) fn run(args: &Shell) -> Result<(), Failure> {
    // The client goes on by itself while a line is being typed.
    let runtime = crate::terminal::runtime()?;
    let connected = runtime.block_on(connect::connect(args))?;
    let mut session = Session::new(runtime, connected, args.mode)?;
    if crate::terminal::is_there() { interactive(&mut session) } else { from_input(&mut session) }
}

fn from_input(session: &mut Session) -> Result<(), Failure> {
    let done = script::read(io::stdin().lock(), |Step { todo, .. }| {
        let done = match todo {
            ToDo::Sql(sql) => statement(session, &sql).map(|()| true),
            ToDo::Dot(line) => command(session, &line),
        };
        if let Some(switched) = session.switched() {
            eprintln!("quorate: {switched}");
        }
        done
    });
    done.map_err(Failure::Refused)
}

fn interactive(session: &mut Session) -> Result<(), Failure> {
    session.interruptible = true;
    let (mut line, trouble) = Line::new()?;
    println!("quorate {}; .help for help, .quit or Ctrl-D to leave", env!("CARGO_PKG_VERSION"));
    if let Some(trouble) = trouble {
        println!("{trouble}");
    }
    let mut looked: Option<Instant> = None;
    loop {
        if let Some(switched) = session.switched() {
            println!("{switched}");
        }
        if looked.is_none_or(|at| at.elapsed() > NAMES_AGE_MAX) {
            line.offer(names(session));
            looked = Some(Instant::now());
        }
        let text = match line.read(&session.prompt())? {
            Typed::Line(text) => text,
            Typed::Nothing => continue,
            Typed::End => return Ok(()),
        };
        let trimmed = text.trim();
        if trimmed.starts_with('.') {
            looked = looked.filter(|_| !trimmed.starts_with(".u"));
            match command(session, trimmed) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(problem) => eprintln!("{problem}"),
            }
            continue;
        }
        for one in statement::split(&text) {
            let first = statement::first_word(one.text);
            if matches!(first.as_str(), "CREATE" | "DROP" | "ALTER") {
                looked = None;
            }
            if let Err(problem) = statement(session, one.text) {
                eprintln!("error: {}", output::printable(&problem));
                // What comes behind it was meant to come behind it.
                break;
            }
        }
    }
}

/// Runs a statement and writes what it returned.
fn statement(session: &Session, sql: &str) -> Result<(), String> {
    let (rows, took) = session.run(sql)?;
    show(&session.mode.written(&rows))?;
    if session.timer {
        let ms = took.as_secs_f64() * 1_000.0;
        show(&format!("took {ms:.1} ms\n"))?;
    }
    Ok(())
}

/// Runs a command; whether it goes on.
fn command(session: &mut Session, line: &str) -> Result<bool, String> {
    match dot::run(session, line)? {
        Next::Show(text) => show(&text).map(|()| true),
        Next::Quit => Ok(false),
    }
}

fn show(text: &str) -> Result<(), String> {
    print(text).map_err(|failure| failure.to_string())?;
    io::stdout().flush().map_err(|error| error.to_string())
}

/// What Tab may offer; as far as it is known.
fn names(session: &Session) -> Names {
    let layout = session.layout();
    let mut places: Vec<String> =
        layout.shards.iter().map(|shard| shard.database.clone()).collect();
    places.extend(layout.shards.iter().map(|shard| format!("{}/{}", shard.database, shard.name)));
    places.sort_unstable();
    places.dedup();
    let sql = format!(
        "SELECT m.name, c.name FROM sqlite_schema m, pragma_table_xinfo(m.name) c \
         WHERE m.type IN ('table', 'view') AND m.name NOT LIKE '\\_quorate%' ESCAPE '\\' LIMIT {NAMES_MAX}"
    );
    let mut tables: Vec<(String, Vec<String>)> = Vec::new();
    for row in session.look(&sql, NAMES_MAX_WAIT).into_iter().flatten() {
        let (Ok(table), Ok(column)) = (row.get::<String>(0), row.get::<String>(1)) else {
            continue;
        };
        match tables.last_mut().filter(|(last, _)| *last == table) {
            Some((_, columns)) => columns.push(column),
            None => tables.push((table, vec![column])),
        }
    }
    Names { tables, places }
}
