//! The commands that ask a running node.

use std::io::{self, IsTerminal, Write};
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::cli::{Role, Server, Status, Stop};
use crate::client::Client;
use crate::exit::Failure;
use crate::http::{ChangeAnswer, ChangeRequest, StopAnswer, ToDo};
use crate::table::{self, Screen};
use crate::view::StatusView;

/// Clears the terminal and goes to its first line.
const CLEAR: &str = "\x1b[2J\x1b[H";

/// `quorate status`.
pub(crate) fn status(args: &Status) -> Result<(), Failure> {
    if !args.watch {
        return show(&Client::find(&args.target)?.get(&args.path())?, args, false);
    }
    let pause = Duration::try_from_secs_f64(args.interval.max(0.1)).map_err(|error| {
        Failure::Usage(format!("--interval {}: {error}; give seconds, such as 0.5", args.interval))
    })?;
    loop {
        // Looked up each time: a node that was restarted may have another address.
        match Client::find(&args.target).and_then(|client| client.get(&args.path())) {
            Ok(view) => show(&view, args, true)?,
            Err(failure @ Failure::Usage(_)) => return Err(failure),
            Err(failure) => {
                clear();
                eprintln!("quorate: {failure}");
            }
        }
        thread::sleep(pause);
    }
}

fn clear() {
    if io::stdout().is_terminal() {
        print!("{CLEAR}");
        let _ = io::stdout().flush();
    }
}

fn show(view: &StatusView, args: &Status, again: bool) -> Result<(), Failure> {
    let terminal = io::stdout().is_terminal();
    let text = if args.json {
        // One line a look when watching, so that a program can read line by line.
        let text =
            if again { serde_json::to_string(view) } else { serde_json::to_string_pretty(view) };
        text.map_err(|error| Failure::Refused(error.to_string()))? + "\n"
    } else {
        let colors = terminal && std::env::var_os("NO_COLOR").is_none();
        let width = comfy_table::Table::new().width().map(usize::from);
        table::render(view, args.with_servers(), Screen { width, colors })
    };
    if again && !args.json {
        clear();
    }
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // The reader of a pipe has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => other.map_err(|error| Failure::Refused(format!("standard output: {error}"))),
    }
}

/// `quorate stop`.
pub(crate) fn stop(args: &Stop) -> Result<(), Failure> {
    let client = Client::find(&args.target)?;
    let StopAnswer { in_good_order, reason } = client.post("/admin/stop", &json!({}))?;
    if in_good_order {
        println!("the node at {} has stopped: {reason}", client.at);
        return Ok(());
    }
    Err(Failure::LeftUnheard(format!("the node at {} has stopped: {reason}", client.at)))
}

/// `quorate server …`.
pub(crate) fn server(args: &Server) -> Result<(), Failure> {
    let (server, todo, target) = match args {
        Server::Remove { server, target } => (server, ToDo::Remove, target),
        Server::SetRole { server, role: Role::Master, target } => (server, ToDo::SetMaster, target),
        Server::SetRole { server, role: Role::Replica, target } => {
            (server, ToDo::SetReplica, target)
        }
        Server::SetStatic { server, target } => (server, ToDo::SetStatic, target),
        Server::SetDynamic { server, target } => (server, ToDo::SetDynamic, target),
        Server::SetOwner { database, server, target, .. } => {
            return crate::configure::set_owner(database, server.as_deref(), target);
        }
    };
    let request = ChangeRequest { server: server.clone(), todo };
    let version = changed(Client::find(target)?.post("/admin/server", &request)?)?;
    let done = match todo {
        ToDo::Remove => "is no longer a server of the cluster",
        ToDo::SetMaster => "is a master",
        ToDo::SetReplica => "is a replica",
        ToDo::SetStatic => "is static: awaited when it is gone",
        ToDo::SetDynamic => "is dynamic: removed when it is gone",
    };
    println!("{server} {done}; the configuration has version {version}");
    Ok(())
}

/// The version of the configuration after a change, or why there is none.
///
/// # Errors
/// What the cluster answered, as the kind of failure that it is.
pub(crate) fn changed(answer: ChangeAnswer) -> Result<u64, Failure> {
    match answer {
        ChangeAnswer::Done { version } => Ok(version),
        ChangeAnswer::Refused { error } => Err(Failure::Refused(error)),
        ChangeAnswer::NoQuorum { error } => Err(Failure::NoQuorum(error)),
        ChangeAnswer::OutcomeUnknown { error } => Err(Failure::OutcomeUnknown(error)),
    }
}
