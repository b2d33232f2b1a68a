//! A client of a Quorate cluster: it finds the servers, goes on with another one when one is gone, and
//! does nothing twice.
//!
//! ```no_run
//! use quorate_io::client::Client;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect("quorate://10.0.0.1,10.0.0.2/demo?token=...").await?;
//! client.execute("CREATE TABLE IF NOT EXISTS person (id INTEGER PRIMARY KEY, name TEXT)", ()).await?;
//! client.execute("INSERT INTO person (name) VALUES (?)", ("Ada",)).await?;
//! for (id, name) in client.fetch::<(i64, String)>("SELECT id, name FROM person", ()).await? {
//!     println!("{id} {name}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Several statements that are done together, or not at all:
//!
//! ```no_run
//! # use quorate_io::client::{Client, Error};
//! # async fn example(client: Client) -> Result<(), Error> {
//! let results = client
//!     .batch()
//!     .add("UPDATE account SET sum = sum - ? WHERE id = ?", (100, 1))
//!     .add("UPDATE account SET sum = sum + ? WHERE id = ?", (100, 2))
//!     .run()
//!     .await?;
//! assert_eq!(results[0].affected(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! Statements of which the next depends on what the one before found. The transaction is open at the
//! owner of the shard, and no other writes while it is: so the owner ends one that takes longer than 5
//! seconds, or of which nothing is heard for 2.
//!
//! ```no_run
//! # use quorate_io::client::{Client, Error};
//! # async fn example(client: Client) -> Result<(), Error> {
//! let mut transaction = client.begin().await?;
//! let (sum,) = transaction.fetch_one::<(i64,)>("SELECT sum FROM account WHERE id = ?", (1,)).await?;
//! if sum >= 100 {
//!     transaction.execute("UPDATE account SET sum = sum - 100 WHERE id = ?", (1,)).await?;
//!     transaction.commit().await?;
//! } else {
//!     transaction.rollback().await?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Who is there, and who has what, as it changes:
//!
//! ```no_run
//! # use quorate_io::client::Client;
//! # async fn example(client: Client) {
//! let mut view = client.watch();
//! while view.changed().await.is_ok() {
//!     let names: Vec<String> =
//!         view.borrow_and_update().layout.servers.iter().map(|s| s.name.clone()).collect();
//!     println!("servers: {}", names.join(", "));
//! }
//! # }
//! ```
//!
//! How far copies are that are on their way to a server, for a bar or a log:
//!
//! ```no_run
//! # use quorate_io::client::{Client, CopyState};
//! # async fn example(client: Client) {
//! let mut view = client.watch();
//! while view.changed().await.is_ok() {
//!     for copy in view.borrow_and_update().copies() {
//!         if let CopyState::Receiving(progress) = copy.state {
//!             let (done, total, left) = (progress.done, progress.total, progress.seconds_left());
//!             println!("{} on {}: {done} of {total} bytes, {left:?} s left", copy.shard, copy.server);
//!         }
//!     }
//! }
//! # }
//! ```
//!
//! # What can be relied on
//!
//! * A write is done once, however often it had to be sent and to whichever server. If its time is up
//!   and nobody could say what became of it, that is [`Error::OutcomeUnknown`], and only that.
//! * Reads see what this client wrote and read before, on whatever server, unless [`Reading::Local`] is
//!   asked for.
//! * Each call ends by its time-out ([`Client::timeout`]).
//! * A client may be cloned; all clones share connections, and what they have seen.
//!
//! What decides is `quorate_core::client`, a pure machine that the simulator puts through crashes and
//! cut networks; here are its sockets and its clock.

/// Hands a macro the tuples of one to eight, each as the names of its types with their places.
macro_rules! for_tuples {
    ($each:ident) => {
        $each! {
            (A 0)
            (A 0, B 1)
            (A 0, B 1, C 2)
            (A 0, B 1, C 2, D 3)
            (A 0, B 1, C 2, D 3, E 4)
            (A 0, B 1, C 2, D 3, E 4, F 5)
            (A 0, B 1, C 2, D 3, E 4, F 5, G 6)
            (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7)
        }
    };
}

mod address;
mod connection;
mod driver;
mod params;
mod rows;
mod tls;
mod transaction;
pub mod wire;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use quorate_core::client::{Client as Machine, ClientConfig, ClientError, Layout, Request};
use quorate_core::engine::{Position, Statement};
use quorate_core::shard::ShardError;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};

pub use driver::{CopyNews, View};
pub use params::{Params, ToValue};
pub use quorate_core::client::{Done, Kind, Reading, Strategy};
pub use quorate_core::copies::{CopyProgress, CopyState};
pub use quorate_core::engine::{SqlError, SqlErrorKind, Value};
pub use rows::{ColumnError, ColumnIndex, FromRow, FromValue, Row, Rows};
pub use transaction::Transaction;

use address::Address;
use connection::Way;
use driver::{Ask, Driver};

/// Calls that may wait for the client's machine; more callers wait for their turn.
const ASKS_MAX: usize = 256;

/// Where a client begins and how it behaves.
#[derive(Clone, PartialEq, Debug)]
pub struct Options {
    /// Servers to begin with, by name or address, and port: any one tells of all others.
    pub servers: Vec<(String, u16)>,
    /// A user's token, or the node's admin token.
    pub token: Option<String>,
    /// Which server is asked.
    pub strategy: Strategy,
    /// The data centre that the client is in: its servers come first.
    pub data_center: Option<String>,
    /// What reads must have seen.
    pub reading: Reading,
    /// How long a call may take; connecting, too.
    pub timeout: Duration,
    /// Speak TLS.
    pub tls: bool,
    /// A PEM file with the authorities that are trusted; without it the system's.
    pub tls_ca: Option<PathBuf>,
}

impl Options {
    /// The usual ones: one server is used until it is gone, reads see what was done before, calls take
    /// 10 seconds at most.
    #[must_use]
    pub fn new(servers: Vec<(String, u16)>) -> Self {
        Self {
            servers,
            token: None,
            strategy: Strategy::default(),
            data_center: None,
            reading: Reading::default(),
            timeout: Duration::from_secs(10),
            tls: false,
            tls_ca: None,
        }
    }

    /// Those of a URL as [`Client::connect`] takes it, with its database and its shard: for programs that
    /// change some of them before they connect.
    ///
    /// # Errors
    /// [`ConnectError::Url`].
    pub fn parse(url: &str) -> Result<(Self, String, Option<String>), ConnectError> {
        let Address { options, database, shard } = Address::parse(url)?;
        Ok((options, database, shard))
    }

    /// As [`Options::parse`], for programs that learn the database elsewhere: the URL may leave it out,
    /// as in `quorate://host1,host2`.
    ///
    /// # Errors
    /// [`ConnectError::Url`].
    pub fn of_cluster(url: &str) -> Result<(Self, Option<String>, Option<String>), ConnectError> {
        let (options, place) = Address::of_cluster(url)?;
        let (database, shard) = place.map_or((None, None), |(db, shard)| (Some(db), shard));
        Ok((options, database, shard))
    }
}

/// Why a client could not begin.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ConnectError {
    /// The URL is wrong.
    #[error("the address of the cluster is wrong: {problem}")]
    Url {
        /// What about it.
        problem: String,
    },
    /// None of the names stands for an address.
    #[error("no address is known for {names}: {problem}")]
    Names {
        /// Which.
        names: String,
        /// What the system says.
        problem: String,
    },
    /// TLS cannot be set up.
    #[error("TLS: {problem}")]
    Tls {
        /// Why.
        problem: String,
    },
    /// No server was there in time.
    #[error("no server is in reach: {problems}")]
    NoServer {
        /// What became of the last connection to each address.
        problems: String,
    },
    /// A server does not let this client in, and no other one would.
    #[error("the cluster does not let this client in: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// The operating system gives no randomness.
    #[error("the operating system gives no randomness")]
    Random,
}

/// Why a call was not done, or not certainly.
#[derive(Clone, PartialEq, Debug, Error)]
pub enum Error {
    /// SQL: the statement is wrong, or violates a constraint, or is too large. Nothing of it is left.
    #[error("{0}")]
    Sql(SqlError),
    /// The cluster says why not. Nothing is left of it, but for
    /// [`ShardError::CommittedBelowQuorum`] and [`ShardError::AlreadyDone`], which say so.
    #[error("{0}")]
    Shard(ShardError),
    /// Nothing was done in the time that it had.
    #[error("it was not done in the time that it had: {last}")]
    TimedOut {
        /// What stood in the way last.
        last: String,
    },
    /// It may be done or not: it was sent, and no server could say what became of it.
    #[error("whether it was done is not known: {last}")]
    OutcomeUnknown {
        /// What stood in the way last.
        last: String,
    },
    /// It was not begun: too many calls are under way.
    #[error("too many calls are under way")]
    Busy,
    /// It was not begun: statement and parameters are longer than a request may be.
    #[error("the request has {bytes} bytes, and {max} are the most: split it")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The longest.
        max: usize,
    },
    /// The user of this client may not. Nothing was done.
    #[error("this client may not do that: {0}")]
    Denied(String),
    /// No server wants this client (any more). Nothing was done.
    #[error("the cluster does not let this client in: {0}")]
    Refused(String),
    /// A result has not the column that was asked for, or another number of rows.
    #[error(transparent)]
    Column(#[from] ColumnError),
    /// One row was asked for.
    #[error("one row was asked for, and the result has {0}")]
    NotOneRow(usize),
    /// The runtime on which the client was made has ended.
    #[error("the client's runtime has ended")]
    Closed,
}

impl From<ClientError> for Error {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Shard(ShardError::Sql(error)) => Self::Sql(error),
            ClientError::Shard(error) => Self::Shard(error),
            ClientError::TimedOut { last } => Self::TimedOut { last },
            ClientError::OutcomeUnknown { last } => Self::OutcomeUnknown { last },
            ClientError::Busy => Self::Busy,
            ClientError::Refused(reason) => Self::Refused(reason),
            ClientError::Denied(reason) => Self::Denied(reason),
        }
    }
}

/// What a write has done.
#[derive(Clone, PartialEq, Debug)]
pub struct Executed {
    /// Rows that it returned (`RETURNING`), and how many it changed.
    pub rows: Rows,
    /// The entry of the shard's log that the content stands at: the LSN.
    pub lsn: u64,
}

impl Executed {
    /// Rows that the statement itself inserted, updated or deleted; not its triggers.
    #[must_use]
    pub fn affected(&self) -> u64 {
        self.rows.affected()
    }

    /// The rowid of the last row that it inserted.
    #[must_use]
    pub fn last_insert_rowid(&self) -> Option<i64> {
        self.rows.last_insert_rowid()
    }
}

/// A client of one database, or one shard of it. See the module's documentation.
#[derive(Clone, Debug)]
pub struct Client {
    asks: mpsc::Sender<Ask>,
    view: watch::Receiver<View>,
    database: Arc<str>,
    shard: Option<Arc<str>>,
    reading: Reading,
    timeout: Duration,
}

impl Client {
    /// Connects by `quorate://host,host:port/database/shard?key=value`: the port is 2424 unless given, the
    /// shard `main`. Keys: `token`, `strategy` (`sticky`, `round-robin-connect`,
    /// `round-robin-request`), `data-center`, `reading` (`session`, `local`, `linearizable`),
    /// `timeout-ms`, `tls` (`on`, `off`), `tls-ca` (a PEM file).
    ///
    /// # Errors
    /// [`ConnectError`], after the time-out at most.
    pub async fn connect(url: &str) -> Result<Self, ConnectError> {
        let Address { options, database, shard } = Address::parse(url)?;
        Self::with(options, &database, shard.as_deref()).await
    }

    /// Connects to a database, or one shard of it.
    ///
    /// # Errors
    /// [`ConnectError`], after the time-out at most.
    pub async fn with(
        options: Options,
        database: &str,
        shard: Option<&str>,
    ) -> Result<Self, ConnectError> {
        let client = Self::beginning(options, database, shard).await?;
        client.connected().await?;
        Ok(client)
    }

    /// As [`Client::with`], without waiting for a server: each call waits for one, as long as it may take.
    /// [`Client::connected`] tells when there is one.
    ///
    /// # Errors
    /// [`ConnectError::Names`], [`ConnectError::Tls`] or [`ConnectError::Random`].
    pub async fn beginning(
        options: Options,
        database: &str,
        shard: Option<&str>,
    ) -> Result<Self, ConnectError> {
        let names = resolve(&options.servers).await?;
        let tls = if options.tls { Some(tls::connector(options.tls_ca.as_deref())?) } else { None };
        let config = ClientConfig {
            strategy: options.strategy,
            data_center: options.data_center,
            ..ClientConfig::new(names.keys().copied().collect())
        };
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|_| ConnectError::Random)?;
        let way = Way { token: options.token.map(Into::into), tls, names: Arc::new(names) };
        let (asks, inbox) = mpsc::channel(ASKS_MAX);
        let (tell, view) = watch::channel(View::default());
        let driver = Driver::new(|now| Machine::new(config, seed, now), way, inbox, tell);
        tokio::spawn(driver.run());
        Ok(Self {
            asks,
            view,
            database: database.into(),
            shard: shard.map(Into::into),
            reading: options.reading,
            timeout: options.timeout,
        })
    }

    /// Waits until a server is in use, for the time-out at most.
    ///
    /// # Errors
    /// [`ConnectError::Refused`], or [`ConnectError::NoServer`].
    pub async fn connected(&self) -> Result<(), ConnectError> {
        let mut view = self.view.clone();
        let there = view.wait_for(|view| view.using.is_some() || view.refused.is_some());
        let there = tokio::time::timeout(self.timeout, there).await.is_ok();
        let view = self.view.borrow();
        if let Some(reason) = view.refused.clone() {
            return Err(ConnectError::Refused { reason });
        }
        if there { Ok(()) } else { Err(ConnectError::NoServer { problems: view.problems() }) }
    }

    /// The same client, for another shard of the database.
    #[must_use]
    pub fn shard(&self, shard: &str) -> Self {
        Self { shard: Some(shard.into()), ..self.clone() }
    }

    /// The same client, for another database.
    #[must_use]
    pub fn database(&self, database: &str) -> Self {
        Self { database: database.into(), shard: None, ..self.clone() }
    }

    /// The same client, whose calls may take so long.
    #[must_use]
    pub fn timeout(&self, timeout: Duration) -> Self {
        Self { timeout, ..self.clone() }
    }

    /// The same client, whose reads must have seen this.
    #[must_use]
    pub fn reading(&self, reading: Reading) -> Self {
        Self { reading, ..self.clone() }
    }

    /// Reads. A statement that writes is refused: that is for [`Client::execute`].
    ///
    /// # Errors
    /// [`enum@Error`].
    pub async fn query(&self, sql: &str, params: impl Params) -> Result<Rows, Error> {
        let statements = vec![params.statement(sql)];
        let done = self.ask(statements, Kind::Read(self.reading)).await?;
        Ok(first(done.rows))
    }

    /// Reads rows as tuples.
    ///
    /// # Errors
    /// [`enum@Error`]; [`Error::Column`] if a row does not fit.
    pub async fn fetch<T: FromRow>(&self, sql: &str, params: impl Params) -> Result<Vec<T>, Error> {
        self.query(sql, params).await?.fetch()
    }

    /// Reads the one row that there is.
    ///
    /// # Errors
    /// [`enum@Error`]; [`Error::NotOneRow`] if there is none, or more than one.
    pub async fn fetch_one<T: FromRow>(&self, sql: &str, params: impl Params) -> Result<T, Error> {
        self.query(sql, params).await?.fetch_one()
    }

    /// Reads the one row that there is, if there is one.
    ///
    /// # Errors
    /// [`enum@Error`]; [`Error::NotOneRow`] if there is more than one.
    pub async fn fetch_optional<T: FromRow>(
        &self,
        sql: &str,
        params: impl Params,
    ) -> Result<Option<T>, Error> {
        self.query(sql, params).await?.fetch_optional()
    }

    /// Writes, or may: done once.
    ///
    /// # Errors
    /// [`enum@Error`].
    pub async fn execute(&self, sql: &str, params: impl Params) -> Result<Executed, Error> {
        let done = self.ask(vec![params.statement(sql)], Kind::Write).await?;
        Ok(Executed { lsn: done.at.index.0, rows: first(done.rows) })
    }

    /// Runs statements together as they are, for programs that pass on what others ask: reads as one
    /// state, a write done once, the steps of a transaction. Says where the shard's log stood, and the
    /// result of each statement. A transaction that is begun so is undone by nobody but who asks for it,
    /// and by the owner in time.
    ///
    /// # Errors
    /// [`enum@Error`]: none of them is done.
    pub async fn run(&self, statements: Vec<Statement>, kind: Kind) -> Result<Done, Error> {
        self.ask(statements, kind).await
    }

    /// Statements that are done together or not at all.
    #[must_use]
    pub fn batch(&self) -> Batch {
        Batch { client: self.clone(), statements: Vec::new() }
    }

    /// Begins an interactive transaction at the owner of the shard, which waits for those that are open
    /// and for writes that came before. See the module's documentation for how long it may take.
    ///
    /// # Errors
    /// [`enum@Error`]: none is begun.
    pub async fn begin(&self) -> Result<Transaction, Error> {
        Transaction::begin(self.clone()).await
    }

    /// The cluster as it is known at the moment, the copies that are not whole, the server in use, and
    /// what is wrong with others.
    #[must_use]
    pub fn view(&self) -> View {
        self.view.borrow().clone()
    }

    /// The same, as it changes: every layout that a server tells, and how far copies are, unless whoever
    /// watches is slower.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<View> {
        self.view.clone()
    }

    /// The cluster as it is known at the moment.
    #[must_use]
    pub fn layout(&self) -> Arc<Layout> {
        Arc::clone(&self.view.borrow().layout)
    }

    fn request(&self, statements: Vec<Statement>, kind: Kind) -> Request {
        Request {
            database: self.database.as_ref().to_owned(),
            shard: self.shard.as_deref().map(str::to_owned),
            transaction: quorate_core::engine::Transaction { statements },
            kind,
            timeout: self.timeout,
        }
    }

    /// Asks, and does not wait. If too much waits already it is not asked for.
    fn post(&self, statements: Vec<Statement>, kind: Kind) {
        let request = Box::new(self.request(statements, kind));
        let _ = self.asks.try_send(Ask::Post(request));
    }

    async fn ask(&self, statements: Vec<Statement>, kind: Kind) -> Result<Done, Error> {
        let request = self.request(statements, kind);
        let bytes = length_of(&request.transaction);
        if bytes > wire::REQUEST_BYTES_MAX {
            return Err(Error::TooLarge { bytes, max: wire::REQUEST_BYTES_MAX });
        }
        let (answer, answered) = oneshot::channel();
        let ask = Ask::Request(Box::new(request), answer);
        self.asks.send(ask).await.map_err(|_| Error::Closed)?;
        let answer = answered.await.map_err(|_| Error::Closed)?;
        answer.map_err(|error| match error {
            ClientError::TimedOut { last } => {
                let problems = self.view.borrow().problems();
                let last = if problems.is_empty() { last } else { format!("{last}; {problems}") };
                Error::TimedOut { last }
            }
            other => other.into(),
        })
    }
}

/// Statements that are done together or not at all; see [`Client::batch`].
#[derive(Clone, Debug)]
pub struct Batch {
    client: Client,
    statements: Vec<Statement>,
}

impl Batch {
    /// One more statement.
    #[must_use]
    pub fn add(mut self, sql: &str, params: impl Params) -> Self {
        self.statements.push(params.statement(sql));
        self
    }

    /// Runs them, once; the result of each.
    ///
    /// # Errors
    /// [`enum@Error`]: none of them is done.
    pub async fn run(self) -> Result<Vec<Rows>, Error> {
        Ok(self.run_at().await?.1)
    }

    /// Runs them, once; where the shard's log stands then, and the result of each.
    ///
    /// # Errors
    /// [`enum@Error`]: none of them is done.
    pub async fn run_at(self) -> Result<(Position, Vec<Rows>), Error> {
        let done = self.client.ask(self.statements, Kind::Write).await?;
        Ok((done.at, done.rows.into_iter().map(Rows::of).collect()))
    }
}

fn first(rows: Vec<quorate_core::engine::Rows>) -> Rows {
    Rows::of(rows.into_iter().next().unwrap_or_default())
}

fn length_of(transaction: &quorate_core::engine::Transaction) -> usize {
    postcard::experimental::serialized_size(transaction).unwrap_or(usize::MAX)
}

/// The addresses of the servers, each with the name that it was given by.
async fn resolve(servers: &[(String, u16)]) -> Result<BTreeMap<SocketAddr, String>, ConnectError> {
    let (mut found, mut problem) = (BTreeMap::new(), "no server is named".to_owned());
    for (host, port) in servers {
        match tokio::net::lookup_host((host.as_str(), *port)).await {
            Ok(addresses) => found.extend(addresses.map(|address| (address, host.clone()))),
            Err(error) => problem = error.to_string(),
        }
    }
    if found.is_empty() {
        let names: Vec<&str> = servers.iter().map(|(host, _)| host.as_str()).collect();
        return Err(ConnectError::Names { names: names.join(", "), problem });
    }
    Ok(found)
}
