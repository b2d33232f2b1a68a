//! `quorate start`: from flags and files to a running node, and to its end.

mod directory;
mod logging;
mod ports;
mod setup;
mod signals;

use std::path::Path;

use quorate_core::{ClusterId, StopReason};
use quorate_io::runtime::{self, Ended, Handle, Inbox, Runtime, RuntimeError};
use quorate_io::store::{DataDir, Follows};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::cli::Start;
use crate::exit::Failure;
use crate::http::{self, App, Listening};
use crate::presence::Presence;
use crate::token::Token;
use ports::Ports;
use setup::Prepared;

/// Starts a node and returns when it has ended.
pub(crate) fn run(args: &Start) -> Result<(), Failure> {
    logging::start(args)?;
    // One thread for the node, its links and HTTP: what a write does there takes less than waking
    // another thread would. What waits for a disk or may take long (the log store, the engines,
    // copies) has threads of its own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Storage(format!("cannot start the runtime: {error}")))?;
    runtime.block_on(node(args))
}

async fn node(args: &Start) -> Result<(), Failure> {
    let mut prepared = setup::prepare(args)?;
    let dir = directory::lock(args)?;
    let data = dir.path().to_owned();
    let last = Ports::read(&data);
    prepared.prefer_port(last.node);
    let listening = http::bind(args.http, last.http).await?;
    let (handle, inbox) = runtime::channel();
    signals::listen(handle.clone(), data.clone())?;
    let (end, ended) = watch::channel(false);
    let serving = Serving { handle, listening, end, ended };
    let ending = one_after_another(prepared, dir, &data, serving, inbox).await;
    Presence::remove(&data);
    ending
}

/// HTTP, until the first identity of the node is up; it then serves all that follow.
struct Serving {
    handle: Handle,
    listening: Option<Listening>,
    end: watch::Sender<bool>,
    ended: watch::Receiver<bool>,
}

/// Runs the node; if its cluster dissolves into another, moves what it had aside and goes on as a
/// new node of that one.
async fn one_after_another(
    mut prepared: Prepared,
    mut dir: DataDir,
    data: &Path,
    serving: Serving,
    mut inbox: Inbox,
) -> Result<(), Failure> {
    let Serving { handle, mut listening, end, ended } = serving;
    let http = listening.as_ref().map(|l| l.address);
    let token = Token::of(data).map_err(|error| storage(data, &error))?;
    let app = App::new(handle, token.clone(), prepared.warnings.clone());
    let mut server = None;
    let reason = loop {
        let runtime = Runtime::open(prepared.setup(http), dir).map_err(unopened)?;
        let (address, local) = (runtime.address(), runtime.local_address());
        token.write(data).map_err(|error| storage(data, &error))?;
        let presence = Presence { pid: std::process::id(), address, http };
        presence.write(data).map_err(|error| storage(data, &error))?;
        let ports = Ports { node: Some(local.port()), http: http.map(|http| http.port()) };
        ports.write(data).map_err(|error| storage(data, &error))?;
        let http = http.map_or_else(|| "off".to_owned(), |h| h.to_string());
        let (id, name, data) = (runtime.id(), runtime.name(), data.display());
        info!(name, %id, %address, listening = %local, http, %data, "node started");
        if let Some(listening) = listening.take() {
            server = Some(tokio::spawn(http::serve(listening, app.clone(), ended.clone())));
        }
        let Ended { reason, name, dir: left } = runtime.run(&mut inbox).await;
        dir = left;
        let StopReason::Dissolved { from, into, addresses, committed, brings } = reason else {
            break reason;
        };
        let from = committed.then_some(from);
        let follows = Follows { was: id, name: name.clone(), from, brings: brings.is_some() };
        dir = move_on(dir, &follows, into)?;
        prepared.follow(name, addresses);
    };
    info!(%reason, "node ended");
    Presence::remove(data);
    drop(dir);
    inbox.close(reason.clone());
    if let Some(server) = server {
        // Whoever asked the node to stop gets the answer; then the process ends.
        let _ = end.send(true);
        let _ = server.await;
    }
    ending(reason, data)
}

/// Moves the contents of a dissolved node's directory aside and makes a new node in it.
fn move_on(dir: DataDir, follows: &Follows, into: ClusterId) -> Result<DataDir, Failure> {
    let (id, aside) = dir.follow(follows).map_err(|error| Failure::Storage(error.to_string()))?;
    let aside = aside.map(|a| a.display().to_string()).unwrap_or_default();
    if follows.brings {
        warn!(
            %into, %id, aside,
            "this node's cluster of one server has dissolved into another of its group: it joins that \
             one as a new node, and its databases are taken there from where they were moved aside"
        );
    } else {
        warn!(
            %into, %id, aside,
            "this node's cluster has dissolved into another of its group: what it held was moved \
             aside, and it joins that one as a new node"
        );
    }
    Ok(dir)
}

fn storage(data: &Path, error: &std::io::Error) -> Failure {
    let data = data.display();
    Failure::Storage(format!("the data directory {data} cannot be written: {error}"))
}

fn unopened(error: RuntimeError) -> Failure {
    match error {
        RuntimeError::Store(error) => Failure::Storage(error.to_string()),
        RuntimeError::Random(_) | RuntimeError::Thread(_) => Failure::Refused(error.to_string()),
        RuntimeError::Network(_) | RuntimeError::Members(_) => Failure::Usage(error.to_string()),
    }
}

fn ending(reason: StopReason, data: &Path) -> Result<(), Failure> {
    let data = data.display();
    match reason {
        StopReason::Left => Ok(()),
        StopReason::LeftUnheard => Err(Failure::LeftUnheard(reason.to_string())),
        StopReason::StaleDisk(_) => Err(Failure::StaleDisk(format!(
            "{reason}. The directory {data} is an old copy (restored from a backup?), or another \
             node runs on a copy of it. It must not take part as it is, for it has forgotten what \
             it promised. If you have the directory it was copied from, start on that one. \
             Otherwise come back as a new node, nothing is deleted: \
             quorate start --new-identity --data {data}"
        ))),
        StopReason::Removed => Err(Failure::Removed(format!(
            "{reason}. Its data directory {data} is as it was. Started again, the node asks to be \
             let in again: quorate start --data {data}"
        ))),
        StopReason::StorageFailed(_) => Err(Failure::Storage(format!(
            "{reason}. Nothing that was acknowledged is lost: the other servers go on, and this \
             one returns with the same directory once the disk takes writes again. Look for a full \
             or failing disk under {data}"
        ))),
        // Handled where it can be followed.
        StopReason::Dissolved { .. } => Err(Failure::Refused(reason.to_string())),
    }
}
