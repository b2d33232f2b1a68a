//! What a shell is connected to, and what it asks there.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quorate_core::client::{Layout, LayoutShard};
use quorate_core::configuration::MAIN;
use quorate_io::client::{Client, Error, Rows, SqlErrorKind};
use tokio::runtime::Runtime;

use super::connect::Connected;
use super::errors::undone;
use super::output::{Mode, printable};
use super::statement::first_word;
use super::used::Used;
use crate::exit::Failure;

/// How long the first layout is waited for.
const LAYOUT_MAX_WAIT: Duration = Duration::from_secs(2);
/// Who waits for longer than this is told so.
const PATIENCE: Duration = Duration::from_secs(1);
/// Begins what only reads, unless it turns out to write.
const READS: [&str; 5] = ["SELECT", "WITH", "VALUES", "EXPLAIN", "PRAGMA"];
/// Begins what holds several statements together.
const OF_TRANSACTIONS: [&str; 6] = ["BEGIN", "COMMIT", "END", "ROLLBACK", "SAVEPOINT", "RELEASE"];
const BY_ITSELF: &str = "the shell runs each statement by itself, done or not done as a whole: there is \
    nothing to begin or to commit. Several that are done together or not at all: \
    `quorate sql DATABASE STATEMENT STATEMENT ...`";

/// A shell's connection and settings.
pub(super) struct Session {
    pub(super) runtime: Runtime,
    client: Client,
    /// The node's data directory, if that led here.
    pub(super) data: Option<PathBuf>,
    /// In use; `None`: none is.
    database: Option<String>,
    shard: Option<String>,
    pub(super) mode: Mode,
    pub(super) timer: bool,
    /// Ctrl-C ends a statement, and not the shell.
    pub(super) interruptible: bool,
    used: Used,
}

impl Session {
    pub(super) fn new(runtime: Runtime, connected: Connected, mode: Mode) -> Result<Self, Failure> {
        let Connected { client, database, shard, data } = connected;
        let mut watch = client.watch();
        let known = async {
            let known = watch.wait_for(|view| view.layout.cluster.is_some());
            _ = tokio::time::timeout(LAYOUT_MAX_WAIT, known).await;
        };
        runtime.block_on(known);
        let used = Used::new(&client.view());
        let mut session = Self {
            runtime,
            client,
            data,
            database: None,
            shard: None,
            mode,
            timer: false,
            interruptible: false,
            used,
        };
        match database {
            Some(database) => {
                session.use_shard(&database, shard.as_deref()).map_err(Failure::Refused)?;
            }
            None => session.use_only(),
        }
        Ok(session)
    }

    /// Where there is one database, it is the one that is meant.
    fn use_only(&mut self) {
        let layout = self.layout();
        let mut names: Vec<&str> = layout.shards.iter().map(|s| s.database.as_str()).collect();
        names.dedup();
        if let [only] = names.as_slice() {
            self.database = Some((*only).to_owned());
            self.client = self.client.database(only);
        }
    }

    /// Uses a database, or one shard of it, from now on.
    ///
    /// # Errors
    /// There is none of that name; which there are.
    pub(super) fn use_shard(&mut self, database: &str, shard: Option<&str>) -> Result<(), String> {
        let layout = self.layout();
        if layout.cluster.is_some() && layout.shard(database, shard).is_none() {
            return Err(missing(&layout, database, shard));
        }
        let client = self.client.database(database);
        self.client = shard.map_or_else(|| client.clone(), |shard| client.shard(shard));
        (self.database, self.shard) = (Some(database.to_owned()), shard.map(str::to_owned));
        Ok(())
    }

    pub(super) fn layout(&self) -> Arc<Layout> {
        self.client.layout()
    }

    /// The database and the shard in use.
    pub(super) fn place(&self) -> Option<(&str, &str)> {
        Some((self.database.as_deref()?, self.shard.as_deref().unwrap_or(MAIN)))
    }

    /// The name of the node in use.
    pub(super) fn node(&self) -> Option<String> {
        super::used::name(&self.client.view())
    }

    /// What has become of the node in use since this was asked last, if it is another one.
    pub(super) fn switched(&mut self) -> Option<String> {
        self.used.follow(&self.client.view())
    }

    /// What stands before what is typed.
    pub(super) fn prompt(&self) -> String {
        let place = match (&self.database, &self.shard) {
            (None, _) => "(no database)".to_owned(),
            (Some(database), None) => database.clone(),
            (Some(database), Some(shard)) => format!("{database}/{shard}"),
        };
        let node = self.node().unwrap_or_else(|| "(no node)".to_owned());
        printable(&format!("{place}@{node}> "))
    }

    /// Runs a statement; what it returned, and how long that took.
    ///
    /// # Errors
    /// In words.
    pub(super) fn run(&self, sql: &str) -> Result<(Rows, Duration), String> {
        if self.database.is_none() {
            return Err(none_in_use(&self.layout()));
        }
        if OF_TRANSACTIONS.contains(&first_word(sql).as_str()) {
            return Err(BY_ITSELF.to_owned());
        }
        let began = Instant::now();
        let rows = self.runtime.block_on(async {
            tokio::select! {
                rows = ask(&self.client, sql) => {
                    rows.map_err(|error| undone(&error, &self.layout()))
                }
                () = self.waited(), if self.interruptible => Err(
                    "given up: whether it was done, or still will be, is not known".to_owned()
                ),
            }
        })?;
        Ok((rows, began.elapsed()))
    }

    /// Ends with Ctrl-C. Who waits for long is told for what.
    async fn waited(&self) {
        let mut interrupted = std::pin::pin!(async {
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
        });
        tokio::select! {
            () = &mut interrupted => return,
            () = tokio::time::sleep(PATIENCE) => {}
        }
        let view = self.client.view();
        let why = match (&view.using, view.problems().as_str()) {
            (Some(_), _) => String::new(),
            (None, "") => ": no node answers".to_owned(),
            (None, problems) => format!(": no node answers ({problems})"),
        };
        eprintln!("still waiting{}; Ctrl-C gives up", printable(&why));
        interrupted.await;
    }

    /// Reads for the shell itself, within a time that nobody minds.
    pub(super) fn look(&self, sql: &str, within: Duration) -> Option<Rows> {
        self.database.as_ref()?;
        let client = self.client.timeout(within);
        self.runtime.block_on(client.query(sql, ())).ok()
    }
}

/// As a read, if it looks like one; a statement that then turns out to write is run as a write.
async fn ask(client: &Client, sql: &str) -> Result<Rows, Error> {
    if READS.contains(&first_word(sql).as_str()) {
        match client.query(sql, ()).await {
            Err(Error::Sql(error)) if error.kind == SqlErrorKind::ReadOnly => {}
            answered => return answered,
        }
    }
    client.execute(sql, ()).await.map(|done| done.rows)
}

fn missing(layout: &Layout, database: &str, shard: Option<&str>) -> String {
    let shards: Vec<&LayoutShard> =
        layout.shards.iter().filter(|shard| shard.database == database).collect();
    match shard {
        Some(shard) if !shards.is_empty() => {
            let names: Vec<&str> = shards.iter().map(|shard| shard.name.as_str()).collect();
            let names = names.join(", ");
            format!("the database '{database}' has no shard '{shard}'; it has {names}")
        }
        _ => format!("there is no database '{database}'; {}", those_there_are(layout)),
    }
}

fn none_in_use(layout: &Layout) -> String {
    format!("no database is in use: choose one with .use DATABASE; {}", those_there_are(layout))
}

fn those_there_are(layout: &Layout) -> String {
    let mut names: Vec<&str> = layout.shards.iter().map(|shard| shard.database.as_str()).collect();
    names.dedup();
    match names.as_slice() {
        [] => "there is none yet: make one with `quorate db create NAME`".to_owned(),
        [one] => format!("there is {one}"),
        several => format!("there are {}", several.join(", ")),
    }
}
