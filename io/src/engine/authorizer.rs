//! What statements may do, and what each one is: SQLite asks before it compiles anything.
//!
//! Statements may read and change what can be replicated, in the one file of the copy. Refused by name: what
//! ends or begins transactions, touches other files or the form of this one, lives in one
//! connection only, or belongs to Quorate.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};

/// Tables and everything else whose names begin so are Quorate's own.
pub(super) const OWN_PREFIX: &str = "_quorate";

/// The modules of virtual tables that keep their content in ordinary tables, row by row, or have
/// none.
pub(super) const MODULES: [&str; 3] = ["fts5", "fts5vocab", "rtree"];

/// Pragmas that only tell something, with or without an argument.
const TELLING: [&str; 21] = [
    "collation_list",
    "compile_options",
    "data_version",
    "database_list",
    "foreign_key_check",
    "foreign_key_list",
    "freelist_count",
    "function_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "module_list",
    "page_count",
    "pragma_list",
    "quick_check",
    "stats",
    "table_info",
    "table_list",
    "table_xinfo",
    "optimize",
];

/// Pragmas that tell something without an argument, and change something with one.
const TELLING_ALONE: [&str; 28] = [
    "analysis_limit",
    "application_id",
    "auto_vacuum",
    "automatic_index",
    "busy_timeout",
    "cache_size",
    "cache_spill",
    "case_sensitive_like",
    "cell_size_check",
    "checkpoint_fullfsync",
    "defer_foreign_keys",
    "encoding",
    "foreign_keys",
    "fullfsync",
    "ignore_check_constraints",
    "journal_mode",
    "journal_size_limit",
    "legacy_alter_table",
    "locking_mode",
    "max_page_count",
    "mmap_size",
    "page_size",
    "query_only",
    "recursive_triggers",
    "schema_version",
    "synchronous",
    "user_version",
    "wal_autocheckpoint",
];

/// What a statement is, as far as replication is concerned.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Info {
    /// It inserts, updates or deletes rows.
    pub(super) writes: bool,
    /// It inserts rows, by itself or through a trigger.
    pub(super) inserts: bool,
    /// Something inserts rows that is no trigger: the statement, or a virtual table by its means.
    pub(super) inserts_directly: bool,
    /// It adds rows by itself: an insert in any form, or a table made of what a query returns.
    pub(super) adds: bool,
    /// There is a query in it.
    pub(super) selects: bool,
    /// It writes `sqlite_sequence` itself.
    pub(super) sequences: bool,
    /// It changes the schema.
    pub(super) schema: bool,
    /// It creates this table.
    pub(super) created: Option<String>,
    /// It drops this table.
    pub(super) dropped: Option<String>,
    /// It rebuilds indexes.
    pub(super) reindexes: bool,
    /// It fills the tables of statistics.
    pub(super) analyzes: bool,
    /// The pragma that it is, and its argument.
    pub(super) pragma: Option<(String, Option<String>)>,
}

struct State {
    guarded: bool,
    info: Info,
    denied: Option<String>,
}

/// What the authorizer of one connection decides, and what it has seen.
#[derive(Clone)]
pub(super) struct Authorizer(Arc<Mutex<State>>);

impl Authorizer {
    /// Watches over `conn` from now on.
    pub(super) fn install(conn: &mut Connection) -> rusqlite::Result<Self> {
        let state = State { guarded: false, info: Info::default(), denied: None };
        let authorizer = Self(Arc::new(Mutex::new(state)));
        let asked = authorizer.clone();
        conn.authorizer(Some(move |context: AuthContext<'_>| asked.decide(&context)))?;
        Ok(authorizer)
    }

    /// Whether what is compiled from now on comes from outside, and so has to keep to the rules.
    pub(super) fn guard(&self, guarded: bool) {
        self.state().guarded = guarded;
    }

    /// Forgets what was seen.
    pub(super) fn reset(&self) {
        let mut state = self.state();
        state.info = Info::default();
        state.denied = None;
    }

    /// What was seen since the last reset.
    pub(super) fn info(&self) -> Info {
        self.state().info.clone()
    }

    /// Why something was denied since the last reset.
    pub(super) fn denied(&self) -> Option<String> {
        self.state().denied.take()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn decide(&self, context: &AuthContext<'_>) -> Authorization {
        let mut state = self.state();
        if !state.guarded {
            return Authorization::Allow;
        }
        if let AuthAction::Analyze { table_name } = context.action
            && is_own(table_name)
        {
            // ANALYZE of everything passes over it.
            return Authorization::Ignore;
        }
        let by_trigger = context.accessor.is_some();
        if let AuthAction::Insert { table_name } = context.action {
            state.info.inserts_directly |= !by_trigger && !is_schema(table_name);
        }
        match judge(&context.action, context.database_name, &mut state.info) {
            Ok(()) => Authorization::Allow,
            Err(reason) => {
                state.denied.get_or_insert(reason);
                Authorization::Deny
            }
        }
    }
}

/// Whether `name` is reserved for Quorate.
pub(super) fn is_own(name: &str) -> bool {
    name.get(..OWN_PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(OWN_PREFIX))
}

fn not_own(name: &str) -> Result<(), String> {
    if is_own(name) {
        return Err(format!("{name} belongs to Quorate: no statement may use it"));
    }
    Ok(())
}

fn is_schema(table: &str) -> bool {
    ["sqlite_master", "sqlite_schema", "sqlite_temp_master", "sqlite_temp_schema"]
        .iter()
        .any(|name| table.eq_ignore_ascii_case(name))
}

/// Notes what the statement does; the reason if it may not.
fn judge(action: &AuthAction<'_>, database: Option<&str>, info: &mut Info) -> Result<(), String> {
    match action {
        AuthAction::Read { table_name, .. } => not_own(table_name),
        AuthAction::Select => {
            info.selects = true;
            Ok(())
        }
        AuthAction::Recursive => Ok(()),
        AuthAction::Function { function_name } => function(function_name),
        AuthAction::Insert { table_name } => {
            info.inserts |= !is_schema(table_name);
            row_change(table_name, info)
        }
        AuthAction::Update { table_name, .. } | AuthAction::Delete { table_name } => {
            row_change(table_name, info)
        }
        AuthAction::Pragma { pragma_name, pragma_value } => {
            pragma(pragma_name, *pragma_value, info)
        }
        AuthAction::Analyze { .. } => {
            info.analyzes = true;
            Ok(())
        }
        AuthAction::Reindex { .. } => {
            info.reindexes = true;
            Ok(())
        }
        AuthAction::Transaction { .. } | AuthAction::Savepoint { .. } => Err(
            "BEGIN, COMMIT, ROLLBACK, SAVEPOINT and RELEASE are not statements of a transaction: \
             what is sent together is one transaction"
                .into(),
        ),
        AuthAction::Attach { filename } => Err(format!(
            "ATTACH of {filename:?}: a copy is one file, and others are not replicated"
        )),
        AuthAction::Detach { database_name } => {
            Err(format!("DETACH of {database_name}: a copy is one file"))
        }
        _ => schema_change(action, database, info),
    }
}

fn row_change(table: &str, info: &mut Info) -> Result<(), String> {
    info.writes |= !is_schema(table);
    info.sequences |= table.eq_ignore_ascii_case("sqlite_sequence");
    not_own(table)
}

fn schema_change(
    action: &AuthAction<'_>,
    database: Option<&str>,
    info: &mut Info,
) -> Result<(), String> {
    use AuthAction as A;
    info.schema = true;
    if database.is_some_and(|name| name.eq_ignore_ascii_case("temp")) {
        return Err(TEMPORARY.into());
    }
    match *action {
        A::CreateTable { table_name } => {
            info.created.get_or_insert_with(|| table_name.to_owned());
            not_own(table_name)
        }
        A::DropTable { table_name } => {
            info.dropped.get_or_insert_with(|| table_name.to_owned());
            not_own(table_name)
        }
        A::CreateVtable { table_name, module_name } => {
            if !MODULES.iter().any(|module| module_name.eq_ignore_ascii_case(module)) {
                return Err(format!(
                    "virtual table {table_name}: the module {module_name} cannot be replicated; \
                     fts5, fts5vocab and rtree can"
                ));
            }
            not_own(table_name)
        }
        A::DropVtable { table_name, .. } => not_own(table_name),
        A::AlterTable { table_name, .. } => not_own(table_name),
        A::CreateIndex { index_name: name, table_name }
        | A::DropIndex { index_name: name, table_name }
        | A::CreateTrigger { trigger_name: name, table_name }
        | A::DropTrigger { trigger_name: name, table_name } => {
            not_own(name)?;
            not_own(table_name)
        }
        A::CreateView { view_name } | A::DropView { view_name } => not_own(view_name),
        A::CreateTempIndex { .. }
        | A::CreateTempTable { .. }
        | A::CreateTempTrigger { .. }
        | A::CreateTempView { .. }
        | A::DropTempIndex { .. }
        | A::DropTempTable { .. }
        | A::DropTempTrigger { .. }
        | A::DropTempView { .. } => Err(TEMPORARY.into()),
        A::Unknown { code, .. } => {
            Err(format!("SQLite asks for something that is not known here (action {code})"))
        }
        _ => Err("this kind of statement cannot be replicated".into()),
    }
}

const TEMPORARY: &str = "temporary tables, views, indexes and triggers live in one connection of \
                         one node: use an ordinary table, or WITH for the time of one statement";

fn function(name: &str) -> Result<(), String> {
    if ["load_extension", "fts3_tokenizer"].iter().any(|denied| name.eq_ignore_ascii_case(denied)) {
        return Err(format!("{name}() reaches out of the database: it may not be called"));
    }
    Ok(())
}

/// Whether a pragma changes nothing whatever its argument.
pub(super) fn only_tells(pragma: &str) -> bool {
    pragma != "optimize" && TELLING.contains(&pragma)
}

fn pragma(name: &str, value: Option<&str>, info: &mut Info) -> Result<(), String> {
    let name = name.to_ascii_lowercase();
    let known = |list: &[&str]| list.contains(&name.as_str());
    let may = known(&TELLING)
        || match value {
            None => known(&TELLING_ALONE),
            Some(value) => changes_what_travels(&name, value),
        };
    if !may {
        let wish = value.map_or_else(String::new, |value| format!(" = {value}"));
        return Err(format!(
            "PRAGMA {name}{wish} changes the file or one connection of one node, and cannot be \
             replicated"
        ));
    }
    if name == "optimize" {
        info.analyzes = true;
    }
    info.pragma.get_or_insert((name, value.map(str::to_owned)));
    Ok(())
}

/// Pragmas with an argument that are carried out on every copy, or change nothing.
fn changes_what_travels(name: &str, value: &str) -> bool {
    match name {
        "application_id" | "user_version" | "foreign_keys" | "defer_foreign_keys" => true,
        // What it is already: a statement that many programs begin with.
        "journal_mode" => value.eq_ignore_ascii_case("wal"),
        _ => false,
    }
}
