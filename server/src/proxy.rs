//! `quorate proxy`: the cluster on a local port. What it serves is in [`crate::http`].

use std::io::Write as _;
use std::time::Duration;

use quorate_io::client::{ConnectError, Options};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::cli::{DATA_DEFAULT, Proxy as Args, Target};
use crate::client::token_of;
use crate::exit::Failure;
use crate::http::{self, Proxy, Tls};
use crate::listening::{Listening, held};
use crate::signals;
use crate::start::{logging, raise_open_files};

/// How long a server is looked for before the log says that none is there.
const LOOK_MAX_WAIT: Duration = Duration::from_secs(5);

/// Serves until a signal asks it to end.
///
/// # Errors
/// [`Failure::Usage`] for what is wrong with the flags, and for a port that is in use.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let (options, database) = cluster(args)?;
    logging::start(&args.log, args.log_format)?;
    raise_open_files();
    // One thread: what a request needs here is less than waking another one.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Refused(format!("cannot start the runtime: {error}")))?;
    runtime.block_on(serve(args, options, database))
}

async fn serve(args: &Args, options: Options, database: Option<String>) -> Result<(), Failure> {
    let tls = match (&args.tls_cert, &args.tls_key) {
        (Some(certificate), Some(key)) => Some(Tls::load(certificate, key)?),
        _ => None,
    };
    let listening = listen(args).await?;
    let (end, ended) = watch::channel(false);
    let drain = move || {
        info!("ending when the requests under way are answered; a second signal ends at once");
        let _ = end.send(true);
    };
    signals::listen(drain, || {}, "a second signal cut requests under way short")?;
    let lends = options.token.is_some();
    let proxy = Proxy::new(options, database, ended)
        .map_err(|error| Failure::Refused(format!("no randomness: {error}")))?;
    match proxy.begin().await {
        Err(error @ ConnectError::Tls { .. }) => return Err(Failure::Usage(error.to_string())),
        Err(error) => warn!("{error}; requests wait for it, as long as they may take"),
        Ok(()) => {}
    }
    if let Some(tls) = &tls {
        tls.watch()?;
    }
    let acceptor = tls.as_ref().map(Tls::acceptor).transpose()?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let at = listening.address;
    if tls.is_none() && !at.ip().is_loopback() {
        warn!(%at, "tokens and data travel readably to this port: --tls-cert and --tls-key end that");
    }
    info!(listening = %at, to = %without_keys(&args.to), lends_token = lends, "proxy started");
    // For programs that have let the system choose the port; nobody need read it.
    let _ = writeln!(std::io::stdout(), "{scheme}://{at}");
    let looked = proxy.clone();
    tokio::spawn(async move {
        if let Some(reason) = looked.unreached(LOOK_MAX_WAIT).await {
            warn!("{reason}");
        }
    });
    http::serve_proxy(listening, proxy, acceptor).await;
    info!("proxy ended");
    Ok(())
}

/// The way to the cluster, and the database of drivers that name none.
fn cluster(args: &Args) -> Result<(Options, Option<String>), Failure> {
    let usage = |problem: String| Err(Failure::Usage(problem));
    let (mut options, database, shard) = Options::of_cluster(&args.to)
        .map_err(|error| Failure::Usage(format!("--to {}: {error}", without_keys(&args.to))))?;
    if let Some(shard) = shard {
        return usage(format!(
            "--to: a proxy serves all shards: leave '/{shard}' out; requests name theirs by ?shard="
        ));
    }
    if options.timeout != Options::new(Vec::new()).timeout {
        return usage(
            "--to: each request has a time-out of its own (\"timeout_ms\"): leave timeout-ms out"
                .to_owned(),
        );
    }
    if options.token.is_none() {
        let mut target = Target::of(DATA_DEFAULT.as_ref());
        (target.token, target.token_file) = (args.token.clone(), args.token_file.clone());
        options.token = token_of(&target, false)?;
    }
    if let Some(file) = &args.tls_ca {
        (options.tls, options.tls_ca) = (true, Some(file.clone()));
    }
    if options.token.is_some() && !args.listen.ip().is_loopback() && !args.lend_token {
        return usage(format!(
            "--listen {}: whoever reaches this port would act by the proxy's token. Leave the token out, \
             so that each request brings its own; or say --lend-token",
            args.listen
        ));
    }
    Ok((options, database))
}

/// A URL as it may be shown: the token may stand behind the question mark.
fn without_keys(url: &str) -> &str {
    url.split('?').next().unwrap_or_default()
}

async fn listen(args: &Args) -> Result<Listening, Failure> {
    held(args.listen).await.map_err(|error| {
        Failure::Usage(format!(
            "the proxy cannot listen on {}: {error}. Give another address with --listen; port 0 takes a \
             free one and prints it",
            args.listen
        ))
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn args(flags: &[&str]) -> Args {
        let line = [&["quorate", "proxy"], flags].concat();
        match Cli::parse_from(line).command {
            Command::Proxy(args) => args,
            other => panic!("{other:?}"),
        }
    }

    fn problem(flags: &[&str]) -> String {
        match cluster(&args(flags)) {
            Err(Failure::Usage(problem)) => problem,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_url_names_the_cluster_and_perhaps_the_database() {
        let (options, database) = cluster(&args(&["--to", "quorate://a,b:7"])).unwrap();
        assert_eq!((options.servers.len(), database), (2, None));
        let (_, database) = cluster(&args(&["--to", "quorate://a/demo"])).unwrap();
        assert_eq!(database.as_deref(), Some("demo"));
        assert!(problem(&["--to", "http://a"]).contains("quorate://"));
        assert!(problem(&["--to", "quorate://a/demo/usa"]).contains("?shard="));
        assert!(problem(&["--to", "quorate://a?timeout-ms=5"]).contains("timeout_ms"));
    }

    #[test]
    fn a_token_is_lent_beyond_this_machine_only_if_that_is_said() {
        let to = ["--to", "quorate://a", "--listen", "0.0.0.0:8081"];
        let (options, _) = cluster(&args(&to)).unwrap();
        assert_eq!(options.token, None);
        let lent = [&to[..], &["--token", "secret"]].concat();
        assert!(problem(&lent).contains("--lend-token"));
        assert!(
            problem(&["--to", "quorate://a?token=secret", "--listen", "10.0.0.1:1"])
                .contains("--lend-token")
        );
        let (options, _) = cluster(&args(&[&lent[..], &["--lend-token"]].concat())).unwrap();
        assert_eq!(options.token.as_deref(), Some("secret"));
        let here = ["--to", "quorate://a", "--token", "secret", "--listen", "[::1]:1"];
        assert_eq!(cluster(&args(&here)).unwrap().0.token.as_deref(), Some("secret"));
    }

    #[test]
    fn a_token_in_a_url_is_not_shown() {
        let said = problem(&["--to", "quorate://a/x/y?token=secret"]);
        assert!(!said.contains("secret"), "{said}");
        assert_eq!(without_keys("quorate://a?token=secret"), "quorate://a");
    }
}
