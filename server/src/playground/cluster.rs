//! A cluster to play with: its nodes, a database, and a user for the writer.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use quorate_core::State;
use quorate_core::configuration::{ServerStatus, UserRole};
use quorate_io::client::Options;

use super::DATABASE;
use super::nodes::{Node, Process};
use super::ports;
use crate::cli::Target;
use crate::client::Client;
use crate::commands::changed;
use crate::exit::Failure;
use crate::http::{ChangeAnswer, DatabaseRequest, UserAnswer, UserRequest};
use crate::view::StatusView;

/// How long the nodes may take to become one cluster.
const FORM_MAX: Duration = Duration::from_secs(60);
/// How long one answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// The user that the writer is.
const USER: &str = "playground";

/// Starts so many nodes in a directory, and waits until they are one cluster.
///
/// # Errors
/// Why not; [`Failure::Killed`] if it is `over` before.
pub(super) fn start(dir: &Path, count: usize, over: &AtomicBool) -> Result<Vec<Node>, Failure> {
    let mut nodes = made(dir, count)?;
    for node in &mut nodes {
        node.start().map_err(|error| Failure::Refused(format!("{}: {error}", node.name)))?;
    }
    let deadline = Instant::now() + FORM_MAX;
    loop {
        if over.load(Ordering::Relaxed) {
            return Err(Failure::Killed("interrupted".to_owned()));
        }
        if let Some(ended) = nodes.iter_mut().find_map(|node| {
            node.tend();
            (node.process == Process::Ended).then_some(node)
        }) {
            return Err(ended.post_mortem());
        }
        let seen = Client::find(&Target::of(&nodes[0].data))
            .and_then(|client| client.get_within::<StatusView>("/status", ANSWER_MAX));
        match seen {
            Ok(view) if is_whole(&view, count) => return Ok(nodes),
            _ if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(50)),
            Ok(_) => {
                return Err(Failure::Refused(format!(
                    "the nodes have not become one cluster in {} s; their logs are in {} (with --dir they \
                     stay there)",
                    FORM_MAX.as_secs(),
                    dir.display()
                )));
            }
            Err(failure) => return Err(failure),
        }
    }
}

fn is_whole(view: &StatusView, count: usize) -> bool {
    view.state == State::Member
        && view.servers.len() == count
        && view.servers.iter().all(|server| server.voter && server.status == ServerStatus::Online)
        && view.no_quorum.is_none()
        && view.coordinator.is_some()
}

/// Nodes that have not been started: they know each other by a list, and speak over the loopback address.
fn made(dir: &Path, count: usize) -> Result<Vec<Node>, Failure> {
    let unwritten = |error: std::io::Error| {
        Failure::Storage(format!("{} cannot be written: {error}", dir.display()))
    };
    let ports = ports::free(3 * count)?;
    let (password, config) = (dir.join("password"), dir.join("hazelcast.xml"));
    let mut file = fs::OpenOptions::new();
    let mut file =
        file.write(true).create_new(true).mode(0o600).open(&password).map_err(unwritten)?;
    writeln!(file, "{}", random()?).map_err(unwritten)?;
    fs::write(&config, members(&ports[..count])).map_err(unwritten)?;
    let text = |path: &Path| {
        let text = path.to_str().map(str::to_owned);
        text.ok_or_else(|| Failure::Usage(format!("--dir {}: it is no text", dir.display())))
    };
    let (password, config) = (text(&password)?, text(&config)?);
    let node = |at: usize| {
        let (port, http, client) = (ports[at], ports[count + at], ports[2 * count + at]);
        let args = [
            ("--bind", "127.0.0.1".to_owned()),
            ("--config", config.clone()),
            ("--group", "playground".to_owned()),
            ("--password-file", password.clone()),
            ("--port", port.to_string()),
            ("--http", http.to_string()),
            ("--client", client.to_string()),
            // None of them founds a cluster of its own while another is slow to start.
            ("--expect", count.to_string()),
        ];
        let args = args.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect();
        Node::new(format!("n{}", at + 1), dir, client, args)
    };
    Ok((0..count).map(node).collect())
}

fn random() -> Result<String, Failure> {
    crate::token::random_hex().map_err(|error| Failure::Refused(format!("no randomness: {error}")))
}

fn members(ports: &[u16]) -> String {
    let members: Vec<String> =
        ports.iter().map(|port| format!("<member>127.0.0.1:{port}</member>")).collect();
    format!(
        "<hazelcast><network><join><multicast enabled=\"false\"/><tcp-ip enabled=\"true\">{}</tcp-ip>\
         </join></network></hazelcast>\n",
        members.concat()
    )
}

/// Makes the database and the writer's user; how a client connects as it.
///
/// # Errors
/// Why not.
pub(super) fn furnish(nodes: &[Node]) -> Result<Options, Failure> {
    let client = Client::find(&Target::of(&nodes[0].data))?;
    let request = DatabaseRequest::Create { name: DATABASE.to_owned(), config: None };
    changed(client.post::<ChangeAnswer>("/admin/db", &request)?)?;
    // The first user has to be an admin; nobody can be that one, for it has neither password nor token.
    for (user, role) in [("admin", UserRole::Admin), (USER, UserRole::Writer)] {
        let request = UserRequest::Add { user: user.to_owned(), role, password: None };
        changed(client.post::<UserAnswer>("/users", &request)?.change)?;
    }
    let user = USER.to_owned();
    let request = UserRequest::AddToken { user, name: None, expires_seconds: None };
    let answer: UserAnswer = client.post("/users", &request)?;
    changed(answer.change)?;
    let at = |node: &Node| ("127.0.0.1".to_owned(), node.client);
    let mut options = Options::new(nodes.iter().map(at).collect());
    options.token = answer.token;
    options.timeout = Duration::from_secs(30);
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_members_of_a_playground_are_read_by_a_node() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("hazelcast.xml");
        fs::write(&file, members(&[1, 2])).unwrap();
        let variables = quorate_io::config::Variables::environment();
        let (read, _) = quorate_io::config::Hazelcast::load(&file, &variables).unwrap();
        let (settings, _) = quorate_io::config::Settings::new(Some(read), None).unwrap();
        assert!(settings.multicast.is_none());
        assert_eq!(settings.members.unwrap().list.len(), 2);
    }
}
