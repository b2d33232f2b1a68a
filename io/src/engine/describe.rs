//! `DESCRIBE`: what a statement is, without running it.
//!
//! `DESCRIBE statement` is no SQL of SQLite's. It answers rows of three columns: first `statement` with
//! `explain`, `read` or `write`; then `column`, name and declared type for each column of the result;
//! then `parameter` and its name for each parameter, with NULL for `?` and for a number that is left out.

use quorate_core::engine::{Column, Rows, Value};
use rusqlite::Statement;

use super::authorizer::{self, Info};

/// The statement that is to be described, if that is what is asked.
pub(super) fn described(sql: &str) -> Option<&str> {
    let sql = sql.trim_start();
    let (word, rest) = sql.split_at_checked("describe".len())?;
    let ends = rest.starts_with(|c: char| c.is_ascii_whitespace() || c == '-' || c == '/');
    (ends && word.eq_ignore_ascii_case("describe")).then_some(rest)
}

/// What a compiled statement is.
pub(super) fn describe(statement: &Statement<'_>, info: &Info) -> Rows {
    let text = |text: &str| Value::Text(text.to_owned());
    let optional = |given: Option<&str>| given.map_or(Value::Null, text);
    let what = match (statement.is_explain() != 0, writes(statement, info)) {
        (true, _) => "explain",
        (false, true) => "write",
        (false, false) => "read",
    };
    let mut rows = vec![vec![text("statement"), text(what), Value::Null]];
    rows.extend(
        statement
            .columns()
            .map(|column| vec![text("column"), text(column.name()), optional(column.decl_type())]),
    );
    rows.extend((1..=statement.parameter_count()).map(|number| {
        vec![text("parameter"), optional(statement.parameter_name(number)), Value::Null]
    }));
    let column = |name: &str| Column { name: name.to_owned(), decltype: None };
    let columns = ["what", "name", "decltype"].map(column).to_vec();
    Rows { columns, rows, ..Rows::default() }
}

/// Whether a statement changes anything. SQLite takes some pragmas that set something for reads.
pub(super) fn writes(statement: &Statement<'_>, info: &Info) -> bool {
    let sets = info.pragma.as_ref().is_some_and(|(name, value)| {
        (name == "optimize" || value.is_some()) && !authorizer::only_tells(name)
    });
    sets || (statement.is_explain() == 0 && !statement.readonly())
}

#[cfg(test)]
mod tests {
    use super::described;

    #[test]
    fn only_the_word_itself_asks_for_a_description() {
        assert_eq!(described("DESCRIBE SELECT 1"), Some(" SELECT 1"));
        assert_eq!(described(" \n describe-- of\nx"), Some("-- of\nx"));
        for other in ["DESCRIBED x", "DESCRIBE", "", "SELECT 1", "describé x", "(describe x)"] {
            assert_eq!(described(other), None, "{other}");
        }
    }
}
