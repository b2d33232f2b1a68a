//! What a statement is, without running it.

use quorate_core::engine::{Rows, Statement, Value};

use super::super::sql::SQL_BYTES_MAX;
use super::asking::first;
use super::inside::Inside;
use super::proto::{DescribedColumn, Description, Error, Parameter, SqlText};
use super::stream::{Run, no_statement, too_big};
use super::text::{self, Kind};

impl Run<'_> {
    /// What a statement is, without running it.
    pub(super) async fn describe(&mut self, given: &SqlText) -> Result<Description, Error> {
        self.has_room()?;
        let sql = self.stream.sql(given)?;
        // A driver describes what it prepares, which may be several statements, of which it runs the
        // first.
        let sql = text::statements(sql).first().map(|first| (*first).to_owned());
        let sql = sql.ok_or_else(no_statement)?;
        if sql.len() > SQL_BYTES_MAX {
            return Err(too_big(sql.len()));
        }
        if let Kind::Begin(_) | Kind::Commit | Kind::Rollback = text::kind(&sql) {
            return Ok(Description {
                params: Vec::new(),
                cols: Vec::new(),
                is_explain: false,
                is_readonly: true,
            });
        }
        let describe = Statement::new(format!("DESCRIBE {sql}"));
        let rows = match self.stream.inside {
            Inside::Open(_) => self.step(describe).await?,
            _ => self.done(vec![describe], false).await.map_err(|e| self.told(&e)).map(first)?,
        };
        Ok(description(rows))
    }
}

/// What `DESCRIBE` has answered.
fn description(rows: Rows) -> Description {
    let (mut params, mut cols) = (Vec::new(), Vec::new());
    let (mut is_explain, mut is_readonly) = (false, false);
    let text = |value: Option<Value>| match value {
        Some(Value::Text(text)) => Some(text),
        _ => None,
    };
    for row in rows.rows {
        let mut row = row.into_iter();
        let (what, name, decltype) = (text(row.next()), text(row.next()), text(row.next()));
        match (what.as_deref(), name) {
            (Some("column"), name) => {
                cols.push(DescribedColumn { name: name.unwrap_or_default(), decltype });
            }
            (Some("parameter"), name) => params.push(Parameter { name }),
            (_, Some(name)) => {
                is_explain = name == "explain";
                is_readonly = name != "write";
            }
            _ => {}
        }
    }
    Description { params, cols, is_explain, is_readonly }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_is_read_from_the_rows_that_the_engine_gives() {
        let row = |what: &str, name: Option<&str>, decltype: Option<&str>| -> Vec<Value> {
            let text = |text: &str| Value::Text(text.to_owned());
            let optional = |given: Option<&str>| given.map_or(Value::Null, text);
            vec![text(what), optional(name), optional(decltype)]
        };
        let read = |what: &str| {
            let rows = vec![
                row("statement", Some(what), None),
                row("column", Some("id"), Some("INTEGER")),
                row("column", Some("explain"), None),
                row("parameter", None, None),
                row("parameter", Some(":n"), None),
            ];
            description(Rows { rows, ..Rows::default() })
        };
        let told = read("write");
        assert!(!told.is_explain && !told.is_readonly);
        assert!(read("explain").is_explain && read("explain").is_readonly);
        assert!(!read("read").is_explain && read("read").is_readonly);
        let column = |name: &str, decltype: Option<&str>| DescribedColumn {
            name: name.to_owned(),
            decltype: decltype.map(str::to_owned),
        };
        assert_eq!(told.cols, [column("id", Some("INTEGER")), column("explain", None)]);
        let names: Vec<Option<&str>> = told.params.iter().map(|p| p.name.as_deref()).collect();
        assert_eq!(names, [None, Some(":n")]);
    }
}
