//! Statements that change something else than rows: they travel as SQL, or as what they left.

use std::sync::Arc;

use quorate_core::engine::{Rows, SqlErrorKind, SqlLimits, Statement};
use rusqlite::types::ValueRef;
use rusqlite::{OptionalExtension as _, Row};

use super::authorizer::{Info, OWN_PREFIX};
use super::capture::{Listen, hidden_rowid};
use super::effects;
use super::errors::{Stop, refusal};
use super::execute::Seen;
use super::executor::Executor;
use super::open::{META, NOTES};
use super::statement::{ResultBytes, bind};
use super::tables::{Table, TableError, quoted};

/// The tables that ANALYZE fills.
pub(super) const STATISTICS: [&str; 2] = ["sqlite_stat1", "sqlite_stat4"];

impl Executor {
    /// A statement that changes the schema, rebuilds indexes or gathers statistics.
    pub(super) fn schema_statement(
        &mut self,
        statement: &Statement,
        info: &Info,
        limits: &SqlLimits,
        bytes: &mut ResultBytes,
    ) -> Result<Rows, Stop> {
        let before = self.unguarded(|executor| {
            // What a virtual table holds back it would write now, when nobody listens.
            if executor.has_virtual_tables {
                executor.flush_virtual_tables()?;
            }
            executor.schema_version()
        })?;
        // What it does to rows, the receiver's own run of it does too. But dropping a table may
        // change rows of other tables, through foreign keys, which the receiver does not follow.
        self.listen(match &info.dropped {
            Some(table) => Listen::AllBut(table.clone()),
            None => Listen::Nothing,
        });
        let rows = {
            let (mut prepared, _) = self.statements.prepare(&self.conn, &statement.sql, limits)?;
            if prepared.parameter_count() > 0 && info.created.is_none() {
                return Err(refusal(
                    SqlErrorKind::Unsupported,
                    "a statement that changes the schema travels as it is written: put the values \
                     into it instead of parameters",
                ));
            }
            bind(&mut prepared, statement, limits)?;
            self.statements.run(&mut prepared, bytes)?
        };
        self.listen(Listen::Closed);
        self.check_capture()?;
        let changed = self.unguarded(Self::schema_version)? != before;
        if changed {
            self.schema_changed = true;
            self.statements.forget(&self.conn);
            self.capture().forget_tables();
        }
        self.unguarded(|executor| executor.note_schema(statement, info, changed))?;
        Ok(rows)
    }

    fn note_schema(
        &mut self,
        statement: &Statement,
        info: &Info,
        changed: bool,
    ) -> Result<(), Stop> {
        if info.analyzes {
            return self.note_statistics();
        }
        if info.reindexes {
            self.capture().script(&statement.sql);
        } else if changed {
            match &info.created {
                Some(table) => self.note_created(table)?,
                None => self.capture().script(&statement.sql),
            }
            self.check_names()?;
            self.sql(Self::look_for_virtual_tables)?;
            if !self.sequences.exist() {
                let exist = self.sql(|executor| {
                    super::sequences::Sequences::read(&executor.conn).map(|read| read.exist())
                })?;
                if exist {
                    self.sequences = Arc::new(self.sequences.existing());
                }
            }
        }
        Ok(())
    }

    /// A new table travels as the schema has it, and with the rows that `AS SELECT` gave it.
    fn note_created(&mut self, name: &str) -> Result<(), Stop> {
        let (name, sql): (String, String) = self.sql(|executor| {
            executor.conn.query_row(
                "SELECT name, sql FROM sqlite_schema
                 WHERE type = 'table' AND name = ?1 COLLATE NOCASE",
                [name],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
        })?;
        let table = Arc::new(self.load(&name)?);
        self.capture().script(&sql);
        let failed = {
            let mut statement = self
                .conn
                .prepare(&table.select())
                .map_err(|error| self.statements.explain(&error))?;
            let mut rows = statement.raw_query();
            loop {
                match rows.next() {
                    Ok(None) => break None,
                    Ok(Some(row)) => {
                        if let Err(error) = self.note_row(&table, row) {
                            break Some(error);
                        }
                        if self.watch.has_given_up() {
                            break None;
                        }
                    }
                    Err(error) => break Some(error),
                }
            }
        };
        match failed {
            Some(error) => Err(self.statements.explain(&error)),
            None => self.check_capture(),
        }
    }

    fn note_row(&self, table: &Arc<Table>, row: &Row<'_>) -> rusqlite::Result<()> {
        let (rowid, first) = match &table.rowid {
            Some(_) => (Some(row.get(0)?), 1),
            None => (None, 0),
        };
        let values = (0..table.columns.len())
            .map(|place| row.get_ref(first + place))
            .collect::<rusqlite::Result<Vec<ValueRef<'_>>>>()?;
        self.capture().existing_row(table, rowid, &values);
        Ok(())
    }

    /// What ANALYZE finds depends on the form of the file, so its result travels.
    fn note_statistics(&mut self) -> Result<(), Stop> {
        self.capture().forget_tables();
        let put = self.sql(|executor| {
            let mut tables: Vec<(&str, usize, usize, Vec<u8>)> = Vec::new();
            for name in STATISTICS {
                let there = executor
                    .conn
                    .query_row("SELECT 1 FROM sqlite_schema WHERE name = ?1", [name], |_| Ok(()))
                    .optional()?
                    .is_some();
                if there {
                    let (rows, columns, bytes) = statistics_of(executor, name)?;
                    tables.push((name, rows, columns, bytes));
                }
            }
            Ok(tables)
        })?;
        if !put.is_empty() {
            self.capture().add(|out| {
                effects::put_statistics(out, put.len());
                for (name, rows, columns, bytes) in &put {
                    effects::put_statistics_table(out, name, *rows, *columns);
                    out.extend_from_slice(bytes);
                }
            });
        }
        Ok(())
    }

    /// A pragma that is let through.
    pub(super) fn pragma(
        &mut self,
        name: &str,
        value: Option<&str>,
        statement: &Statement,
        limits: &SqlLimits,
        bytes: &mut ResultBytes,
        seen: &mut Seen,
    ) -> Result<Rows, Stop> {
        match (name, value) {
            ("foreign_keys", Some(value)) => {
                self.note_foreign_keys(truth(value))?;
                return Ok(Rows::default());
            }
            ("optimize", _) => {
                let info = Info { analyzes: true, ..Info::default() };
                return self.schema_statement(statement, &info, limits, bytes);
            }
            _ => {}
        }
        let rows = {
            let (mut prepared, _) = self.statements.prepare(&self.conn, &statement.sql, limits)?;
            self.statements.run(&mut prepared, bytes)?
        };
        match (name, value) {
            ("defer_foreign_keys", Some(_)) => seen.defers = true,
            ("user_version" | "application_id", Some(_)) => {
                let number: i64 = self.unguarded(|executor| {
                    executor.sql(|executor| {
                        executor.conn.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))
                    })
                })?;
                self.capture().script(&format!("PRAGMA {name} = {number}"));
            }
            _ => {}
        }
        Ok(rows)
    }

    /// ALTER can give anything any name.
    fn check_names(&self) -> Result<(), Stop> {
        let taken: Option<String> = self
            .conn
            .prepare_cached(
                "SELECT name FROM sqlite_schema
                 WHERE substr(name, 1, length(?1)) = ?1 COLLATE NOCASE AND name NOT IN (?2, ?3) LIMIT 1",
            )
            .and_then(|mut statement| {
                statement.query_row((OWN_PREFIX, META, NOTES), |row| row.get(0)).optional()
            })
            .map_err(|error| self.statements.explain(&error))?;
        match taken {
            None => Ok(()),
            Some(name) => Err(refusal(
                SqlErrorKind::Unsupported,
                format!("{name}: names that begin with {OWN_PREFIX} belong to Quorate"),
            )),
        }
    }

    fn load(&self, name: &str) -> Result<Table, Stop> {
        Table::load(&self.conn, name).map_err(|error| match error {
            TableError::HiddenRowid => refusal(SqlErrorKind::Unsupported, hidden_rowid(name)),
            TableError::Sql(error) => self.statements.explain(&error),
        })
    }

    fn schema_version(&mut self) -> Result<i64, Stop> {
        self.sql(|executor| {
            executor.conn.prepare_cached("PRAGMA schema_version")?.query_row([], |row| row.get(0))
        })
    }

    /// Runs something of ours in the middle of a transaction, by no rules.
    fn unguarded<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, Stop>) -> Result<T, Stop> {
        self.statements.authorizer.guard(false);
        let result = work(self);
        self.statements.authorizer.guard(true);
        result
    }

    fn sql<T>(&mut self, work: impl FnOnce(&mut Self) -> rusqlite::Result<T>) -> Result<T, Stop> {
        work(self).map_err(|error| self.statements.explain(&error))
    }
}

fn statistics_of(executor: &Executor, table: &str) -> rusqlite::Result<(usize, usize, Vec<u8>)> {
    let sql = format!("SELECT rowid, * FROM main.{} ORDER BY rowid", quoted(table));
    let mut statement = executor.conn.prepare(&sql)?;
    let columns = statement.column_count() - 1;
    let mut bytes = Vec::new();
    let mut count = 0;
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next()? {
        effects::put_rowid(&mut bytes, row.get(0)?);
        for column in 0..columns {
            effects::put_value(&mut bytes, row.get_ref(column + 1)?);
        }
        count += 1;
    }
    Ok((count, columns, bytes))
}

/// What SQLite takes a pragma's argument for.
fn truth(value: &str) -> bool {
    ["on", "yes", "true"].iter().any(|word| value.eq_ignore_ascii_case(word))
        || value.parse::<i64>().is_ok_and(|number| number != 0)
}
