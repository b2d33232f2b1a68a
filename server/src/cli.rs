//! The command line.

mod interactive;
mod proxy;
mod users;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use percent_encoding::NON_ALPHANUMERIC;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::exit;
pub(crate) use interactive::{Playground, Shell};
pub(crate) use proxy::Proxy;
pub(crate) use users::{User, UserRole, UserToken};

/// Where a node keeps everything, unless told otherwise.
pub(crate) const DATA_DEFAULT: &str = "./quorate-data";

/// A cluster node for replicated SQLite databases that looks after its own life.
#[derive(Parser, Debug)]
#[command(
    name = "quorate",
    version,
    max_term_width = 100,
    arg_required_else_help = true,
    after_help = "Start three nodes on one machine; they find each other and become one cluster:\n  \
        quorate start --data a\n  quorate start --data b\n  quorate start --data c\n  \
        quorate status --data a",
    after_long_help = concat_codes()
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

fn concat_codes() -> String {
    format!(
        "Start three nodes on one machine; they find each other and become one cluster:\n  \
         quorate start --data a\n  quorate start --data b\n  quorate start --data c\n  \
         quorate status --data a\n\n{}",
        exit::CODES
    )
}

/// What can be asked of the binary.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Start a node: it finds its cluster and joins it, or founds one
    Start(Box<Start>),
    /// Show the cluster as a running node sees it
    Status(Status),
    /// Let a running node leave in good order and stop
    Stop(Stop),
    /// Change a server's place in the cluster
    #[command(subcommand)]
    Server(Server),
    /// Make, drop and list databases
    #[command(subcommand)]
    Db(Db),
    /// Say who may use the cluster over HTTP
    #[command(subcommand)]
    User(User),
    /// Run SQL in a database, through any node
    Sql(Sql),
    /// Type SQL, or run a file of it, through whatever node is there
    Shell(Shell),
    /// Be the cluster on a local port: any HTTP or libSQL client, and none notices that a node goes
    Proxy(Proxy),
    /// Try it out: three nodes here, a running writer, and you kill the nodes
    Playground(Playground),
    /// Compare all copies of a database at one position, while writes go on
    Verify(Verify),
    /// Bring a node's copies of a database up to date, or fetch them whole
    Sync(Sync),
    /// Write a copy of a database to a file, while writes go on
    Backup(Backup),
    /// Replace the content of a database, or of one shard of it, by that of a file
    Restore(Restore),
    /// Go on alone with what one stopped node has, after a quorum was lost for good
    Recover(Recover),
}

/// `quorate start`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  quorate start                                   everything by default, multicast discovery
  quorate start --name db1 --data /srv/quorate    a name and a place of its own
  quorate start --config hazelcast.xml --db-config default-distributed-db-config.json
  quorate start --bind 127.0.0.1                  for trying out: nothing leaves this machine
  quorate start --expect 3                        no database before three servers were there
  quorate start --http 0.0.0.0:2480 --tls-cert n1.pem --tls-key n1.key    for other machines

A flag wins over its environment variable, that over the configuration file, that over the
default. SIGTERM or SIGINT (Ctrl-C) leaves in good order; a second one stops at once.")]
pub(crate) struct Start {
    /// The network configuration, as OrientDB and Hazelcast write it [default: none]
    #[arg(long, env = "QUORATE_CONFIG", value_name = "HAZELCAST.XML")]
    pub(crate) config: Option<PathBuf>,
    /// Defaults of databases and servers, as OrientDB writes them (JSON) [default: none]
    #[arg(long, env = "QUORATE_DB_CONFIG", value_name = "FILE")]
    pub(crate) db_config: Option<PathBuf>,
    /// The server's name, unique in the cluster [default: the one it had, or one made up]
    #[arg(long, env = "QUORATE_NAME")]
    pub(crate) name: Option<String>,
    /// Where the node keeps everything; made if it is not there
    #[arg(long, env = "QUORATE_DATA", value_name = "DIR", default_value = DATA_DEFAULT)]
    pub(crate) data: PathBuf,
    /// The address to listen on for nodes and to send multicast from [default: all interfaces]
    #[arg(long, env = "QUORATE_BIND", value_name = "IP")]
    pub(crate) bind: Option<IpAddr>,
    /// The port for nodes; the one of the last start or the next free one, unless given here
    /// [default: 2434]
    #[arg(long, env = "QUORATE_PORT")]
    pub(crate) port: Option<u16>,
    /// Where to serve HTTP: PORT, IP:PORT or `off`. Given here, the port must be free; by default
    /// it is 127.0.0.1:2480 or the next free one, and from then on the same
    #[arg(long, env = "QUORATE_HTTP", value_name = "ADDR")]
    pub(crate) http: Option<Listen>,
    /// The database of libSQL drivers whose URL names none, as http://HOST:PORT [default: the only
    /// one there is]
    #[arg(long, env = "QUORATE_DEFAULT_DATABASE", value_name = "NAME")]
    pub(crate) default_database: Option<String>,
    /// Where to serve clients with Quorate's own protocol: PORT, IP:PORT or `off`; by default
    /// 127.0.0.1:2424 or the next free one, and from then on the same
    #[arg(long, env = "QUORATE_CLIENT", value_name = "ADDR")]
    pub(crate) client: Option<Listen>,
    /// Speak TLS on the ports for HTTP and for clients: a PEM file with the certificate, and those that lead to its
    /// authority. Read anew when it changes, and on SIGHUP
    #[arg(long, env = "QUORATE_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The PEM file with the key of that certificate
    #[arg(long, env = "QUORATE_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// The group: only nodes of one group become one cluster [default: orientdb]
    #[arg(long, env = "QUORATE_GROUP", value_name = "NAME")]
    pub(crate) group: Option<String>,
    /// A file that holds the group's password in its first line
    #[arg(long, env = "QUORATE_PASSWORD_FILE", value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// Refuse the first database until so many servers were members at once; the node that founds
    /// the cluster decides, so give it to all of the first ones [default: 0]
    #[arg(long, env = "QUORATE_EXPECT", value_name = "N")]
    pub(crate) expect: Option<u32>,
    /// Move what the data directory holds aside, delete nothing, and start as a new node: the way
    /// back for a directory that was refused as StaleDisk
    #[arg(long)]
    pub(crate) new_identity: bool,
    /// The process that has started this one, with which it ends: for the nodes of a playground
    #[arg(long, hide = true, value_name = "PID")]
    pub(crate) ends_with: Option<u32>,
    /// How log lines are written
    #[arg(long, env = "QUORATE_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    /// Which log lines: a level, or `target=level,...`
    #[arg(long, env = "QUORATE_LOG", value_name = "FILTER", default_value = "info")]
    pub(crate) log: String,
}

/// How log lines are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Where `quorate start` serves HTTP, or clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Listen {
    /// Nowhere.
    Off,
    /// On the loopback address, at this port.
    Port(u16),
    /// Exactly there.
    Addr(SocketAddr),
}

impl std::str::FromStr for Listen {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.eq_ignore_ascii_case("off") {
            return Ok(Self::Off);
        }
        if let Ok(port) = text.parse() {
            return Ok(Self::Port(port));
        }
        text.parse()
            .map(Self::Addr)
            .map_err(|_| "give a port (2480), IP:PORT (0.0.0.0:2480) or off")
    }
}

/// Which running node to ask.
#[derive(Args, Debug, Clone)]
pub(crate) struct Target {
    /// The data directory of a node on this machine: its address and admin token are found there
    #[arg(long, env = "QUORATE_DATA", value_name = "DIR", default_value = DATA_DEFAULT)]
    pub(crate) data: PathBuf,
    /// The HTTP address of a node, instead of looking into --data: http://HOST:PORT or https://
    #[arg(long, env = "QUORATE_URL", value_name = "URL")]
    pub(crate) http: Option<String>,
    /// A token of a user. In the environment others on this machine do not see it
    #[arg(long, env = "QUORATE_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// A file with a token of a user, or with a node's admin token [default: admin.token in --data,
    /// unless --http leads to another machine]
    #[arg(long, env = "QUORATE_TOKEN_FILE", value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// A user, instead of a token: the password is taken from QUORATE_PASSWORD, or asked for
    #[arg(id = "as_user", long = "user", env = "QUORATE_USER", value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// Speak TLS with the node, as with an address that begins with https://
    #[arg(long, env = "QUORATE_TLS")]
    pub(crate) tls: bool,
    /// The authorities whose certificates are trusted (PEM) [default: those of this system]
    #[arg(long, env = "QUORATE_TLS_CA", value_name = "FILE")]
    pub(crate) tls_ca: Option<PathBuf>,
}

impl Target {
    /// The node that runs on a data directory, asked with its own token.
    pub(crate) fn of(data: &std::path::Path) -> Self {
        Self {
            data: data.to_owned(),
            http: None,
            token: None,
            token_file: None,
            user: None,
            tls: false,
            tls_ca: None,
        }
    }
}

/// `quorate status`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  quorate status                          the node in ./quorate-data
  quorate status --data /srv/quorate
  quorate status --http http://127.0.0.1:2481 --json
  quorate status --watch                  again every second, until Ctrl-C
  quorate status --db                     who owns (X) and who has a copy (o) of each shard
  quorate status --db shop --latency      of one database; how long its followers take
  quorate status --all --json

With --db, --latency and --messages the node asks all servers, for two seconds at most. What one that did
not answer would have told is shown as `?`, and the server is named.")]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) target: Target,
    /// The table of servers, which is shown unless another part is asked for
    #[arg(long)]
    pub(crate) servers: bool,
    /// For each database, or this one: owners and copies by shard and server, quorums, and whether each
    /// shard can be written
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "")]
    pub(crate) db: Option<String>,
    /// How long an entry takes from its owner until it is durable at each other server
    #[arg(long)]
    pub(crate) latency: bool,
    /// Messages and bytes between servers, by kind; what waits, and what was dropped
    #[arg(long)]
    pub(crate) messages: bool,
    /// All of these parts
    #[arg(long)]
    pub(crate) all: bool,
    /// As JSON, for programs
    #[arg(long)]
    pub(crate) json: bool,
    /// Go on showing it until stopped
    #[arg(long)]
    pub(crate) watch: bool,
    /// Seconds between two looks of --watch
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, requires = "watch")]
    pub(crate) interval: f64,
}

impl Status {
    /// Whether the table of servers is shown.
    pub(crate) fn with_servers(&self) -> bool {
        let other = self.db.is_some() || self.latency || self.messages;
        self.servers || self.all || !other
    }

    /// Where a node tells what is asked for.
    pub(crate) fn path(&self) -> String {
        let database = self.db.as_deref().or(self.all.then_some(""));
        let name = |name| percent_encoding::utf8_percent_encode(name, NON_ALPHANUMERIC);
        let asked = [
            database.map(|database| format!("db={}", name(database))),
            (self.latency || self.all).then(|| "latency=true".to_owned()),
            (self.messages || self.all).then(|| "messages=true".to_owned()),
        ];
        let asked: Vec<String> = asked.into_iter().flatten().collect();
        match asked.is_empty() {
            true => "/status".to_owned(),
            false => format!("/status?{}", asked.join("&")),
        }
    }
}

/// `quorate stop`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  quorate stop                       the node in ./quorate-data
  quorate stop --data /srv/quorate

The node hands over what it coordinates first. A dynamic server is taken out of the configuration,
a static one is recorded as AWAY and awaited.")]
pub(crate) struct Stop {
    #[command(flatten)]
    pub(crate) target: Target,
}

/// `quorate server …`.
#[derive(Subcommand, Debug)]
pub(crate) enum Server {
    /// Take a server out of the cluster; its data directory stays as it is
    #[command(after_help = "Example:\n  quorate server remove db3")]
    Remove {
        /// Its name, or its id
        server: String,
        #[command(flatten)]
        target: Target,
    },
    /// Make a server a master (votes, may coordinate) or a replica (only receives)
    #[command(after_help = "Example:\n  quorate server set-role db3 replica")]
    SetRole {
        /// Its name, or its id
        server: String,
        /// The new role
        role: Role,
        #[command(flatten)]
        target: Target,
    },
    /// Keep a server in the configuration when it is gone: AWAY, still counted, awaited
    #[command(after_help = "Example:\n  quorate server set-static db3")]
    SetStatic {
        /// Its name, or its id
        server: String,
        #[command(flatten)]
        target: Target,
    },
    /// Let one server own a shard, and no other: while it is away there are no inserts
    #[command(after_help = "\
Examples:
  quorate server set-owner demo db3
  quorate server set-owner world/client_usa usa
  quorate server set-owner demo --none          whoever is preferred owns it again")]
    SetOwner {
        /// The database, and the shard unless it is `main`: DB or DB/SHARD
        database: String,
        /// The name of the server: a master that has a place in the shard
        #[arg(required_unless_present = "none", conflicts_with = "none")]
        server: Option<String>,
        /// No static owner any more
        #[arg(long)]
        none: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Take a server out of the configuration when it is unreachable: the quorum shrinks
    #[command(after_help = "Example:\n  quorate server set-dynamic db3")]
    SetDynamic {
        /// Its name, or its id
        server: String,
        #[command(flatten)]
        target: Target,
    },
}

/// `quorate db …`.
#[derive(Subcommand, Debug)]
pub(crate) enum Db {
    /// Make a database: every server that is to hold it gets a copy
    #[command(after_help = "\
Examples:
  quorate db create demo
  quorate db create world --db-config sharded-db-config.json")]
    Create {
        /// Its name: 1 to 64 letters, digits, '-' and '_'
        name: String,
        /// Where its shards are and what its quorums are, as OrientDB writes them (JSON)
        #[arg(long, value_name = "FILE")]
        db_config: Option<PathBuf>,
        #[command(flatten)]
        target: Target,
    },
    /// Drop a database, with all its data on all servers
    #[command(after_help = "Example:\n  quorate db drop demo")]
    Drop {
        /// Its name
        name: String,
        #[command(flatten)]
        target: Target,
    },
    /// Show a database's configuration and who holds what, or change it while it runs
    #[command(after_help = "\
Examples:
  quorate db config demo > demo.json            its configuration, as JSON
  quorate db config demo --file demo.json       show what would move, ask, and do it
  quorate db config demo --file demo.json --dry-run
  quorate db config demo --drop notes --yes     drop a shard, with its data

A shard that the file names and the database lacks is made. One that the database has and the file
does not name stays, and follows \"*\": only --drop drops one.")]
    Config {
        /// Its name
        name: String,
        /// The new configuration, as OrientDB writes it (JSON)
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// A shard to drop, with its data on all servers; may be given several times
        #[arg(long, value_name = "SHARD")]
        drop: Vec<String>,
        /// Only show what would be done
        #[arg(long, conflicts_with = "yes")]
        dry_run: bool,
        /// Do it without asking
        #[arg(long)]
        yes: bool,
        /// As JSON: with who holds what, or with what would be done
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        target: Target,
    },
    /// List the databases, their shards, and how far each copy is
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        target: Target,
    },
}

/// `quorate sql`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  quorate sql demo \"CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)\"
  quorate sql demo \"INSERT INTO t (name) VALUES (?)\" --arg Ada
  quorate sql demo/client_usa \"SELECT * FROM t\" --query --json

Several statements are one transaction: give them one after the other.")]
pub(crate) struct Sql {
    /// The database, and the shard unless it is `main`: DB or DB/SHARD
    pub(crate) database: String,
    /// The statements: all of them are done, or none
    #[arg(required = true, value_name = "STATEMENT")]
    pub(crate) statements: Vec<String>,
    /// A value for a `?`, the first for the first (one statement only): a number, or text
    #[arg(long = "arg", value_name = "VALUE", allow_hyphen_values = true)]
    pub(crate) args: Vec<String>,
    /// Only read: from the copy of the node that is asked, unless the database's readQuorum is above 1
    #[arg(long)]
    pub(crate) query: bool,
    /// With --query: see everything that was acknowledged before, wherever
    #[arg(long, requires = "query")]
    pub(crate) linearizable: bool,
    /// With --query: see at least what the answer with this "token" (see --json) had
    #[arg(long, value_name = "TOKEN", requires = "query", conflicts_with = "linearizable")]
    pub(crate) since: Option<String>,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) target: Target,
}

/// `quorate verify`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  quorate verify demo                       all shards
  quorate verify world --shard client_usa
  quorate verify demo --json --timeout 600  a large one

Each copy hashes its content at the same entry of the shard's log. Exit code 11 if one differs from
the others or does not answer; nothing is repaired.")]
pub(crate) struct Verify {
    /// The database: DB or DB/SHARD
    pub(crate) database: String,
    /// One shard only
    #[arg(long, value_name = "SHARD")]
    pub(crate) shard: Option<String>,
    /// Seconds that the copies of a shard may take
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) timeout: u64,
    /// As JSON, with the whole hashes
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) target: Target,
}

/// `quorate sync`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  quorate sync demo                        what the node lacks; also where autoDeploy is off
  quorate sync demo --full                 as a whole copy of another server's
  quorate sync world --shard client_usa --full --force

The copy that is there serves on until the new one is whole; then it goes to backup/databases in the
node's data directory. One in order gives way to none that holds less than is durable in it: --force
asks for 30 seconds for another server that holds as much, then it lapses, and the node's log says so.")]
pub(crate) struct Sync {
    /// The database: DB or DB/SHARD
    pub(crate) database: String,
    /// One shard only
    #[arg(long, value_name = "SHARD")]
    pub(crate) shard: Option<String>,
    /// Fetch a whole copy, even where the log would do
    #[arg(long)]
    pub(crate) full: bool,
    /// With --full: also if the copy is ONLINE and holds everything
    #[arg(long, requires = "full")]
    pub(crate) force: bool,
    /// Do not wait until it is done
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Seconds to wait; the node goes on after that
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400)]
    pub(crate) timeout: u64,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) target: Target,
}

/// `quorate backup`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  quorate backup demo demo.sqlite
  quorate backup world/client_usa usa.sqlite
  quorate backup world world.sqlite          several shards: world-main.sqlite, world-client_usa.sqlite

The file is the node's own copy at one entry of the shard's log, an ordinary SQLite database.")]
pub(crate) struct Backup {
    /// The database, and one shard of it: DB or DB/SHARD
    pub(crate) database: String,
    /// Where to write it; must not be there yet
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) target: Target,
}

/// `quorate restore`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  quorate restore demo demo.sqlite
  quorate restore world/client_usa usa.sqlite --yes

The file is what `quorate backup` wrote, or any SQLite database. It is checked first, then given to all
servers that are in reach, and takes effect on all copies at one entry of the shard's log: nothing that
was written before it stays, all that is written behind it does. What the copies held goes to
backup/databases in each node's data directory. Ask a node that holds a copy of the shard.")]
pub(crate) struct Restore {
    /// The database, and one shard of it: DB or DB/SHARD [default shard: main]
    pub(crate) database: String,
    /// What it is to hold: an SQLite database that no program has open
    pub(crate) file: PathBuf,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
    /// Seconds that the servers may take once the file is with the node
    #[arg(long, value_name = "SECONDS", default_value_t = 3600,
        value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) timeout: u64,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) target: Target,
}

/// A server's role.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Role {
    /// Votes, may coordinate and own.
    Master,
    /// Receives everything, counts in no quorum.
    Replica,
}

/// `quorate recover`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  quorate recover --unsafe --data /srv/quorate                      show what would be kept and lost
  quorate recover --unsafe --data /srv/quorate --confirm 1a2b3c4d   do it

Only for a cluster whose quorum will never come back. The node must be stopped. Run it on ONE
node, the one whose logs end last; every other node of the old cluster must come back with an
empty data directory (or `start --new-identity`). Writes that only the lost servers held are gone.")]
pub(crate) struct Recover {
    /// The data directory of the stopped node
    #[arg(long, env = "QUORATE_DATA", value_name = "DIR", default_value = DATA_DEFAULT)]
    pub(crate) data: PathBuf,
    /// Yes, this gives up the promise that an acknowledged write is never lost
    #[arg(long = "unsafe")]
    pub(crate) accept_unsafe: bool,
    /// The first eight digits of the cluster's id, as shown without this flag
    #[arg(long, value_name = "CLUSTER")]
    pub(crate) confirm: Option<String>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn http_takes_a_port_an_address_or_off() {
        assert_eq!("off".parse(), Ok(Listen::Off));
        assert_eq!("2481".parse(), Ok(Listen::Port(2481)));
        let any = SocketAddr::from(([0, 0, 0, 0], 80));
        assert_eq!("0.0.0.0:80".parse(), Ok(Listen::Addr(any)));
        assert!("localhost".parse::<Listen>().is_err());
    }

    #[test]
    fn help_shows_no_token_of_the_environment() {
        let command = Cli::command();
        let status = command.find_subcommand("status").unwrap();
        let token = status.get_arguments().find(|arg| arg.get_id() == "token").unwrap();
        assert!(token.is_hide_env_values_set());
    }

    #[test]
    fn every_exit_code_is_documented() {
        for code in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 130] {
            assert!(exit::CODES.contains(&format!("\n  {code:<5}")), "{code}");
        }
    }
}
