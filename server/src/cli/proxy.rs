//! The command for machines of applications: `proxy`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::LogFormat;

/// `quorate proxy`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  quorate proxy --to quorate://db1,db2             then use http://127.0.0.1:8081/db/NAME/
  quorate proxy --to quorate://db1,db2/demo        drivers whose URL names no database mean demo
  quorate proxy --to quorate://db1 --tls-ca ca.pem --token-file app.token

It serves POST /db/NAME/query and /db/NAME/execute, what libSQL drivers send (/db/NAME/v1 to v3), and
GET /layout, /events, /healthz and /readyz. When a node goes, requests go on with another one: each read
is answered, and each write done once. What cannot be done within a request's time-out fails with 503, and
nothing is done; 504 says that it is not known.

The cluster judges each request by the token that it brings. With --token the proxy lends its own to those
that bring none: to whoever may connect. A user's token is good at every node; a node's admin token is
good on that node alone. SIGTERM or SIGINT (Ctrl-C) lets open requests finish, for 15 seconds at most.")]
pub(crate) struct Proxy {
    /// The cluster, by some of its servers: `quorate://HOST[:PORT],HOST[/DB][?key=value]`; keys:
    /// strategy, data-center, reading, tls, tls-ca
    #[arg(long, env = "QUORATE_TO", value_name = "URL")]
    pub(crate) to: String,
    /// Where to serve: IP:PORT
    #[arg(long, env = "QUORATE_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:8081")]
    pub(crate) listen: SocketAddr,
    /// A user's token for requests that bring none. In the environment others on this machine do not
    /// see it
    #[arg(long, env = "QUORATE_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// A file with that token
    #[arg(long, env = "QUORATE_TOKEN_FILE", value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Lend that token also to other machines, when --listen is not a loopback address
    #[arg(long)]
    pub(crate) lend_token: bool,
    /// Speak TLS with the cluster, and trust the authorities in this file (PEM)
    #[arg(long, env = "QUORATE_TLS_CA", value_name = "FILE")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// Speak TLS on the port: a PEM file with the certificate, and those that lead to its authority
    #[arg(long, env = "QUORATE_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The PEM file with the key of that certificate
    #[arg(long, env = "QUORATE_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// How log lines are written
    #[arg(long, env = "QUORATE_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    /// Which log lines: a level, or `target=level,...`
    #[arg(long, env = "QUORATE_LOG", value_name = "FILTER", default_value = "info")]
    pub(crate) log: String,
}
