//! The connection that runs transactions, and what goes with it.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate_core::engine::Fault;
use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::authorizer::Authorizer;
use super::capture::{Capture, Listen};
use super::errors::fault;
use super::ffi::preupdate::Observed;
use super::open::{self, Role};
use super::sequences::Sequences;
use super::statement::Statements;
use super::watch::{STEPS, Watch};

/// The connection that runs transactions.
pub(super) struct Executor {
    pub(super) conn: Observed,
    pub(super) statements: Statements,
    pub(super) capture: Arc<Mutex<Capture>>,
    pub(super) watch: Arc<Watch>,
    pub(super) sequences: Arc<Sequences>,
    /// Whether foreign keys are enforced now, in the open batch.
    pub(super) foreign_keys: bool,
    /// Whether the schema has virtual tables, which hold back what they write.
    pub(super) has_virtual_tables: bool,
    /// Whether another connection may have changed schema and sequences.
    pub(super) stale: bool,
    /// Whether the open batch has changed the schema.
    pub(super) schema_changed: bool,
    /// What the connection's limit on lengths was set for.
    pub(super) lengths_for: u64,
}

impl Executor {
    pub(super) fn open(path: &Path, foreign_keys: bool) -> Result<Self, Fault> {
        let mut conn = open::connect(path, Role::Executor)?;
        let watch = Arc::new(Watch::new());
        let capture = Arc::new(Mutex::new(Capture::new(Arc::clone(&watch))));
        let authorizer = install(&mut conn, &watch, &capture).map_err(|error| fault(&error))?;
        let observed = Arc::clone(&capture);
        let conn = Observed::new(conn, move |row| lock(&observed).row(row));
        let mut executor = Self {
            conn,
            statements: Statements::new(authorizer, Arc::clone(&watch)),
            capture,
            watch,
            sequences: Arc::default(),
            foreign_keys,
            has_virtual_tables: false,
            stale: true,
            schema_changed: false,
            lengths_for: 0,
        };
        executor.set_foreign_keys(foreign_keys).map_err(|error| fault(&error))?;
        Ok(executor)
    }

    /// What is captured; held only between steps of SQLite, for the hook takes it too.
    pub(super) fn capture(&self) -> MutexGuard<'_, Capture> {
        lock(&self.capture)
    }

    pub(super) fn listen(&self, listen: Listen) {
        self.capture().listen = listen;
    }

    /// Enforces foreign keys from here on, or no longer. Unlike the pragma this works inside of a
    /// transaction too.
    pub(super) fn set_foreign_keys(&mut self, on: bool) -> rusqlite::Result<()> {
        self.conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, on)?;
        self.foreign_keys = on;
        Ok(())
    }

    /// Runs one of our own statements, to which no rules apply.
    pub(super) fn own(&self, sql: &str) -> rusqlite::Result<()> {
        open::run(&self.conn, sql)
    }

    /// The schema is, or may be, another one.
    pub(super) fn forget_schema(&mut self) {
        self.statements.forget(&self.conn);
        self.capture().forget_tables();
        self.stale = true;
    }

    pub(super) fn look_for_virtual_tables(&mut self) -> rusqlite::Result<()> {
        self.has_virtual_tables = self.conn.query_row(
            "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE rootpage = 0 AND type = 'table')",
            [],
            |row| row.get(0),
        )?;
        Ok(())
    }

    /// Looks again at what is kept of schema and sequences.
    pub(super) fn refresh(&mut self) -> rusqlite::Result<()> {
        self.look_for_virtual_tables()?;
        self.sequences = Arc::new(Sequences::read(&self.conn)?);
        self.stale = false;
        Ok(())
    }
}

fn install(
    conn: &mut Connection,
    watch: &Arc<Watch>,
    capture: &Arc<Mutex<Capture>>,
) -> rusqlite::Result<Authorizer> {
    let stops = Arc::clone(watch);
    conn.progress_handler(STEPS, Some(move || stops.stops()))?;
    let captured = Arc::clone(capture);
    // The last moment to refuse: a virtual table may write what it held back when SQLite commits.
    conn.commit_hook(Some(move || lock(&captured).stray().is_some()))?;
    Authorizer::install(conn)
}

fn lock(capture: &Mutex<Capture>) -> MutexGuard<'_, Capture> {
    capture.lock().unwrap_or_else(PoisonError::into_inner)
}
