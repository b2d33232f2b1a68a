//! What cannot be replicated is refused by name, and leaves nothing.

use super::*;

#[track_caller]
fn unsupported(copies: &mut Copies, sql: &str, says: &str) {
    let error = copies.refused(&["INSERT INTO t VALUES(1)", sql]);
    assert_eq!(error.statement, 1, "{sql}: {error}");
    assert_kind(&error, SqlErrorKind::Unsupported, says);
}

fn table() -> Copies {
    let mut copies = Copies::new();
    copies.run(&["CREATE TABLE t(a)", "CREATE VIRTUAL TABLE ft USING fts5(x)"]);
    copies
}

#[test]
fn transaction_control_inside_a_transaction_is_refused() {
    let mut copies = table();
    for sql in [
        "BEGIN",
        "BEGIN IMMEDIATE",
        "COMMIT",
        "END",
        "ROLLBACK",
        "SAVEPOINT x",
        "RELEASE _quorate",
        "ROLLBACK TO _quorate",
        "SAVEPOINT _quorate",
        " begin ;",
    ] {
        unsupported(&mut copies, sql, "is one transaction");
    }
    copies.finish();
}

#[test]
fn our_own_statements_are_refused_to_others_even_when_they_are_kept_compiled() {
    let mut copies = table();
    copies.run(&["INSERT INTO t VALUES(1)"]);
    for sql in super::super::open::OWN {
        unsupported(&mut copies, sql, "");
        unsupported(&mut copies, &format!(" {sql} "), "");
    }
    copies.run(&["INSERT INTO t VALUES(2)"]);
    copies.finish();
}

#[test]
fn vacuum_attach_and_detach_are_refused() {
    let mut copies = table();
    unsupported(&mut copies, "VACUUM", "VACUUM");
    unsupported(&mut copies, "/* x */ -- y\n vacuum INTO '/tmp/quorate-refused.db'", "VACUUM");
    unsupported(&mut copies, "ATTACH '/tmp/quorate-refused.db' AS other", "ATTACH");
    unsupported(&mut copies, "DETACH main", "DETACH");
    copies.finish();
}

#[test]
fn pragmas_that_change_the_file_or_a_connection_are_refused_and_others_answered() {
    let mut copies = table();
    for pragma in [
        "journal_mode = DELETE",
        "page_size = 8192",
        "auto_vacuum = 1",
        "encoding = 'UTF-16'",
        "writable_schema = ON",
        "ignore_check_constraints = 1",
        "recursive_triggers = 1",
        "locking_mode = EXCLUSIVE",
        "synchronous = OFF",
        "query_only = 1",
        "schema_version = 7",
        "legacy_alter_table = ON",
        "wal_checkpoint",
        "incremental_vacuum",
        "max_page_count = 3",
        "temp_store = 2",
        "trusted_schema = 0",
        "cache_size = 3",
        "case_sensitive_like = 1",
    ] {
        unsupported(&mut copies, &format!("PRAGMA {pragma}"), "PRAGMA");
    }
    copies.run(&["PRAGMA journal_mode"]);
    assert_eq!(copies.run(&["PRAGMA journal_mode = WAL"])[0].rows, [[text("wal")]]);
    assert_eq!(copies.run(&["SELECT name FROM pragma_table_info('t')"])[0].rows, [[text("a")]]);
    copies.run(&["PRAGMA user_version = 5", "PRAGMA application_id = 77"]);
    assert_eq!(query(&copies.follower, "PRAGMA user_version"), [[int(5)]]);
    copies.finish();
}

#[test]
fn temporary_things_are_refused() {
    let mut copies = table();
    for sql in [
        "CREATE TEMP TABLE x(a)",
        "CREATE TABLE temp.x(a)",
        "CREATE TEMPORARY VIEW x AS SELECT 1",
        "CREATE TEMP TRIGGER x AFTER INSERT ON t BEGIN SELECT 1; END",
        "CREATE TEMP TABLE x AS SELECT * FROM t",
        "CREATE VIRTUAL TABLE temp.x USING fts5(a)",
    ] {
        unsupported(&mut copies, sql, "temporary");
    }
    copies.finish();
}

#[test]
fn other_virtual_tables_and_loading_code_are_refused() {
    let mut copies = table();
    unsupported(&mut copies, "CREATE VIRTUAL TABLE x USING fts4(a)", "fts4");
    unsupported(&mut copies, "CREATE VIRTUAL TABLE x USING dbstat", "dbstat");
    unsupported(&mut copies, "SELECT load_extension('x')", "load_extension");
    copies.finish();
}

#[test]
fn what_is_ours_can_be_neither_read_nor_changed_nor_named() {
    let mut copies = table();
    for sql in [
        "SELECT * FROM _quorate_meta",
        "SELECT * FROM _quorate_notes",
        "INSERT INTO _quorate_notes VALUES(1, x'01')",
        "DELETE FROM _quorate_notes",
        "DROP TABLE _quorate_notes",
        "UPDATE _quorate_meta SET position_index = 9",
        "DELETE FROM main._QUORATE_META",
        "DROP TABLE _quorate_meta",
        "ALTER TABLE _quorate_meta ADD COLUMN x",
        "CREATE INDEX i ON _quorate_meta(format)",
        "CREATE TRIGGER tr AFTER UPDATE ON _quorate_meta BEGIN SELECT 1; END",
        "CREATE TABLE _quorate_x(a)",
        "ALTER TABLE t RENAME TO _Quorate_t",
        "CREATE VIEW _quorate_v AS SELECT 1",
        "CREATE INDEX _quorate_i ON t(a)",
        "CREATE VIRTUAL TABLE _quorate_ft USING fts5(a)",
        "INSERT INTO t SELECT format FROM _quorate_meta",
        "ANALYZE _quorate_meta; SELECT no",
    ] {
        if sql.starts_with("ANALYZE") {
            continue;
        }
        unsupported(&mut copies, sql, "Quorate");
    }
    copies.run(&["CREATE VIEW v AS SELECT * FROM _quorate_meta"]);
    unsupported(&mut copies, "SELECT * FROM v", "_quorate_meta");
    let reader = &mut copies.owner.reader().unwrap();
    let (_, outcome) =
        reader.query(&transaction(&["SELECT * FROM _quorate_meta"]), &copies.limits).unwrap();
    assert_kind(&outcome.unwrap_err(), SqlErrorKind::Unsupported, "Quorate");
    copies.finish();
}

#[test]
fn the_tables_behind_a_virtual_table_and_the_schema_cannot_be_written() {
    let mut copies = table();
    let error = copies.refused(&["INSERT INTO ft_data VALUES(5, x'00')"]);
    assert_kind(&error, SqlErrorKind::Statement, "ft_data");
    let error = copies.refused(&["DELETE FROM sqlite_schema"]);
    assert_kind(&error, SqlErrorKind::Statement, "sqlite_master");
    copies.finish();
}

#[test]
fn a_table_whose_columns_hide_the_rowid_is_refused() {
    let mut copies = table();
    unsupported(&mut copies, "CREATE TABLE x(rowid, _rowid_, OID)", "INTEGER PRIMARY KEY");
    copies.run(&["CREATE TABLE x(rowid, oid, z)", "INSERT INTO x VALUES(1, 2, 3)"]);
    let error = copies.refused(&["ALTER TABLE x RENAME COLUMN z TO _rowid_"]);
    assert_kind(&error, SqlErrorKind::Statement, "_rowid_");
    let error = copies.refused(&["ALTER TABLE x ADD COLUMN _rowid_"]);
    assert_kind(&error, SqlErrorKind::Statement, "_rowid_");
    copies.run(&["UPDATE x SET z = 4"]);
    copies.finish();
}

#[test]
fn sql_that_is_wrong_says_what_is_wrong() {
    let mut copies = table();
    let kind = SqlErrorKind::Statement;
    assert_kind(&copies.refused(&["SELEC 1"]), kind, "SELEC");
    assert_kind(&copies.refused(&["SELECT absent FROM t"]), kind, "no such column: absent");
    assert_kind(&copies.refused(&["INSERT INTO nowhere VALUES(1)"]), kind, "nowhere");
    assert_kind(
        &copies.refused(&["INSERT INTO t VALUES(1); DELETE FROM t"]),
        kind,
        "second statement",
    );
    assert_kind(
        &copies.refused(&["INSERT INTO t VALUES(1); COMMIT"]),
        SqlErrorKind::Unsupported,
        "",
    );
    assert_kind(&copies.refused(&[""]), kind, "no SQL statement");
    assert_kind(&copies.refused(&["-- nothing"]), kind, "no SQL statement");
    assert_kind(&copies.refused(&["SELECT 1\0; DELETE FROM t"]), kind, "NUL");
    copies.run(&["INSERT INTO t VALUES(1); -- the end"]);
    copies.finish();
}

#[test]
fn explain_changes_nothing() {
    let mut copies = table();
    let before = copies.log.len();
    copies.run(&["EXPLAIN INSERT INTO t VALUES(1)"]);
    copies.run(&["EXPLAIN QUERY PLAN DELETE FROM t"]);
    copies.run(&["EXPLAIN CREATE TABLE x(a)"]);
    assert_eq!(copies.log.len(), before);
    copies.finish();
}

#[test]
fn a_statement_that_is_kept_uncompiled_by_the_rules_is_compiled_again() {
    let mut copies = table();
    for sql in ["DROP TABLE t", "INSERT INTO t VALUES(7)"] {
        // As if something of ours had the same text.
        drop(copies.owner.executor.conn.prepare_cached(sql).unwrap());
    }
    copies.run(&["INSERT INTO t VALUES(7)", "DROP TABLE t"]);
    assert!(query(&copies.follower, "SELECT * FROM sqlite_schema WHERE name = 't'").is_empty());
    copies.finish();
}
