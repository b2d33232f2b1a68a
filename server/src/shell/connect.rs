//! The way to a cluster: a URL with any of its servers, or the data directory of a node on this machine.

use std::path::{Path, PathBuf};

use quorate_io::client::{Client, Options};

use super::errors::unconnected;
use crate::cli::{Shell, Target};
use crate::client::{reached, running, token_of};
use crate::databases::named;
use crate::exit::Failure;

/// A connection, and what was asked for.
pub(super) struct Connected {
    pub(super) client: Client,
    /// `None`: none was named.
    pub(super) database: Option<String>,
    pub(super) shard: Option<String>,
    /// The data directory that led here.
    pub(super) data: Option<PathBuf>,
}

/// Connects.
///
/// # Errors
/// Why not, and what to do.
pub(super) async fn connect(args: &Shell) -> Result<Connected, Failure> {
    let wanted = args.database.as_deref().map(named).transpose()?;
    let mut database = wanted.map(|(database, _)| database.to_owned());
    let mut shard = wanted.and_then(|(_, shard)| shard.map(str::to_owned));
    let (mut options, data) = match &args.url {
        Some(url) => {
            let url = wanted.map_or_else(|| url.clone(), |_| for_database(url, args));
            let (options, of_url, shard_of_url) =
                Options::parse(&url).map_err(|error| unconnected(&error))?;
            database.get_or_insert(of_url);
            shard = shard.or(shard_of_url);
            (options, None)
        }
        None => (of_directory(&args.data)?, Some(args.data.clone())),
    };
    let target = Target {
        data: args.data.clone(),
        http: None,
        token: args.token.clone(),
        token_file: args.token_file.clone(),
        user: None,
        tls: false,
        tls_ca: None,
    };
    // The token of a URL was written by hand as well, but for one place only.
    if options.token.is_none() {
        options.token = token_of(&target, data.is_some())?;
    }
    if let Some(file) = &args.tls_ca {
        (options.tls, options.tls_ca) = (true, Some(file.clone()));
    }
    let name = database.as_deref().unwrap_or_default();
    let client = Client::with(options, name, shard.as_deref()).await;
    let client = client.map_err(|error| unconnected(&error))?;
    Ok(Connected { client, database, shard, data })
}

/// The URL with the database that the command line names, whatever it names itself.
fn for_database(url: &str, args: &Shell) -> String {
    let database = args.database.as_deref().unwrap_or_default();
    let (rest, query) = match url.split_once('?') {
        Some((rest, query)) => (rest, format!("?{query}")),
        None => (url, String::new()),
    };
    let (scheme, rest) = match rest.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), rest),
    };
    let hosts = rest.split('/').next().unwrap_or_default();
    format!("{scheme}{hosts}/{database}{query}")
}

fn of_directory(data: &Path) -> Result<Options, Failure> {
    let present = running(data)?;
    let shown = data.display();
    let Some(listening) = present.client else {
        return Err(Failure::NoNode(format!(
            "the node on {shown} (process {}) was started with --client off: start it with a port for \
             clients, or name another node with --url quorate://HOST:PORT/DATABASE",
            present.pid
        )));
    };
    let at = reached(listening);
    let mut options = Options::new(vec![(at.ip().to_string(), at.port())]);
    options.tls = present.tls;
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(database: &str) -> Shell {
        Shell {
            database: Some(database.to_owned()),
            url: None,
            data: "none".into(),
            token: None,
            token_file: None,
            tls_ca: None,
            mode: super::super::output::Mode::Table,
        }
    }

    #[test]
    fn a_database_of_the_command_line_wins_over_that_of_the_url() {
        let of = |url: &str| for_database(url, &shell("demo/usa"));
        assert_eq!(of("quorate://a,b:1"), "quorate://a,b:1/demo/usa");
        assert_eq!(of("quorate://a/other/x?token=t/t"), "quorate://a/demo/usa?token=t/t");
        // What is wrong stays wrong, and is named by whoever reads it.
        assert_eq!(of("a/other"), "a/demo/usa");
    }
}
