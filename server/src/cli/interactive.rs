//! The commands that a person sits before: `shell` and `playground`.

use std::path::PathBuf;

use clap::Args;

use super::DATA_DEFAULT;
use crate::playground::Plan;
use crate::shell::Mode;

/// `quorate shell`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  quorate shell demo                              through the node in ./quorate-data
  quorate shell --url quorate://db1,db2/demo      through any server; the token is in QUORATE_TOKEN
  quorate shell demo < tables.sql                 one statement after the other, up to the first error
  echo 'SELECT * FROM t;' | quorate shell demo --mode csv

When the node in use goes, the shell goes on with another one: no statement is lost, and none is
done twice. It speaks with the port for clients (quorate start --client). A node's admin token, which
--data finds, is good on that node alone; with a user's token any node will do.")]
pub(crate) struct Shell {
    /// The database, and the shard unless it is `main`: DB or DB/SHARD [default: the only one there is]
    pub(crate) database: Option<String>,
    /// The cluster, by some of its servers: `quorate://HOST[:PORT],HOST/DB[/SHARD][?key=value]`
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// The data directory of a node on this machine: its address and admin token are found there
    #[arg(long, env = "QUORATE_DATA", value_name = "DIR", default_value = DATA_DEFAULT)]
    pub(crate) data: PathBuf,
    /// A token of a user. In the environment others on this machine do not see it
    #[arg(long, env = "QUORATE_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// A file with a token of a user, or with a node's admin token
    #[arg(long, env = "QUORATE_TOKEN_FILE", value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Speak TLS, and trust the authorities in this file (PEM)
    #[arg(long, env = "QUORATE_TLS_CA", value_name = "FILE")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// How results are written
    #[arg(long, value_enum, default_value_t = Mode::Table)]
    pub(crate) mode: Mode,
}

/// `quorate playground`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  quorate playground
  quorate playground --nodes 5
  quorate playground --script 'kill 2; wait 3; start 2; freeze 1 4; wait 6; quit'

Nothing leaves this machine. Keys: 1 to 9 choose a node; k kills it, f freezes it or lets it go on,
s starts it again, t stops it in good order; q ends. With --script: kill N, stop N, start N,
freeze N [SECONDS], thaw N, wait SECONDS, quit. The exit code is 0 if no write failed and none is
lost, 4 if some were refused for want of a quorum.")]
pub(crate) struct Playground {
    /// How many nodes
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
    pub(crate) nodes: u8,
    /// Where the nodes keep everything, and it stays there; must be new or empty [default: a directory
    /// that is removed at the end]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Do this, and print what happens, instead of a screen: commands with `;` between them
    #[arg(long, value_name = "COMMANDS")]
    pub(crate) script: Option<Plan>,
}
