//! `quorate start`: from flags and files to a running node, and to its end.

mod directory;
pub(crate) mod logging;
mod ports;
mod setup;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use quorate_core::{ClusterId, Command, StopReason};
use quorate_io::runtime::{self, Ended, Handle, Inbox, Runtime, RuntimeError};
use quorate_io::store::{DataDir, Follows};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};

use crate::cli::Start;
use crate::clients;
use crate::exit::Failure;
use crate::http::{self, App, Tls};
use crate::listening::{self, Listening};
use crate::presence::Presence;
use crate::signals;
use crate::token::Token;
use ports::Ports;
use setup::Prepared;

/// The first signal has the node leave in good order, the second stops it at once.
fn leave_on_signals(handle: Handle, data: PathBuf) -> Result<(), Failure> {
    let leave = move || {
        info!("leaving in good order, as a signal asks; a second signal stops at once");
        tokio::spawn(async move { handle.command(Command::Stop).await });
    };
    let stop = move || {
        warn!("stopping at once, as a second signal asks: the others will find this node away");
        Presence::remove(&data);
    };
    signals::listen(leave, stop, "a second signal cut the graceful stop short")
}

/// Starts a node and returns when it has ended.
pub(crate) fn run(args: &Start) -> Result<(), Failure> {
    if let Some(parent) = args.ends_with {
        end_with(parent)?;
    }
    logging::start(&args.log, args.log_format)?;
    raise_open_files();
    // One thread for the node, its links and HTTP: what a write does there takes less than waking
    // another thread would. What waits for a disk or may take long (the log store, the engines,
    // copies) has threads of its own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Storage(format!("cannot start the runtime: {error}")))?;
    runtime.block_on(node(args))
}

/// Clients and listeners may be thousands of connections. The usual soft limit of open files is 1024,
/// for programs that can count no further; the hard one is what the operator allows.
pub(crate) fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    }
}

/// Has the system kill this process when the one that has started it ends, however it does.
fn end_with(parent: u32) -> Result<(), Failure> {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};
    let failed = |error| Failure::Refused(format!("--ends-with {parent}: {error}"));
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(failed)?;
    // It may have ended before.
    let is = getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
    if is == Some(parent) {
        return Ok(());
    }
    Err(Failure::Refused(format!(
        "--ends-with {parent}: that is not what has started this process"
    )))
}

async fn node(args: &Start) -> Result<(), Failure> {
    let mut prepared = setup::prepare(args)?;
    let tls = match (&args.tls_cert, &args.tls_key) {
        (Some(certificate), Some(key)) => Some(Tls::load(certificate, key)?),
        _ => None,
    };
    let dir = directory::lock(args)?;
    let data = dir.path().to_owned();
    let last = Ports::read(&data);
    prepared.prefer_port(last.node);
    let listening = listening::bind(&listening::HTTP, args.http, last.http).await?;
    let for_clients = listening::bind(&listening::CLIENTS, args.client, last.client).await?;
    let (handle, inbox) = runtime::channel();
    leave_on_signals(handle.clone(), data.clone())?;
    let (end, ended) = watch::channel(false);
    if let Some(tls) = &tls {
        tls.watch()?;
    }
    let tls = tls.map(|tls| tls.acceptor()).transpose()?;
    let serving = Serving { handle, listening, for_clients, tls, end, ended };
    let ending = one_after_another(prepared, dir, &data, serving, inbox).await;
    Presence::remove(&data);
    ending
}

/// HTTP and the port for clients, until the first identity of the node is up; it then serves all that follow.
struct Serving {
    handle: Handle,
    listening: Option<Listening>,
    for_clients: Option<Listening>,
    tls: Option<TlsAcceptor>,
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
    let Serving { handle, mut listening, mut for_clients, tls, end, ended } = serving;
    let http = listening.as_ref().map(|l| l.address);
    let client = for_clients.as_ref().map(|l| l.address);
    let token = Token::of(data).map_err(|error| storage(data, &error))?;
    let warnings = prepared.warnings.clone();
    let app = App::new(handle, token.clone(), warnings, prepared.default_database.clone());
    let app = app.map_err(|error| Failure::Refused(format!("no randomness: {error}")))?;
    let mut servers = JoinSet::new();
    let reason = loop {
        let runtime = Runtime::open(prepared.setup(http, client), dir).map_err(unopened)?;
        let (address, local) = (runtime.address(), runtime.local_address());
        token.write(data).map_err(|error| storage(data, &error))?;
        let presence =
            Presence { pid: std::process::id(), address, http, client, tls: tls.is_some() };
        presence.write(data).map_err(|error| storage(data, &error))?;
        let port = |at: Option<SocketAddr>| at.map(|at| at.port());
        let ports = Ports { node: Some(local.port()), http: port(http), client: port(client) };
        ports.write(data).map_err(|error| storage(data, &error))?;
        let shown = |at: Option<SocketAddr>| at.map_or("off".to_owned(), |at| at.to_string());
        let (http, client) = (shown(http), shown(client));
        let (id, name, data) = (runtime.id(), runtime.name(), data.display());
        info!(name, %id, %address, listening = %local, http, client, %data, "node started");
        if let Some(listening) = listening.take() {
            servers.spawn(http::serve(listening, app.clone(), tls.clone(), ended.clone()));
        }
        if let Some(listening) = for_clients.take() {
            servers.spawn(clients::serve(listening, app.clone(), tls.clone(), ended.clone()));
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
    // Whoever asked the node to stop gets the answer; then the process ends.
    let _ = end.send(true);
    servers.join_all().await;
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
