//! The results of a batch, line by line.
//!
//! The batch has run to its end before the first line is sent: its results are bounded, and so a baton is
//! never in the hands of two requests.

use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::batch::Step;
use super::proto::{Col, CursorAnswer, Error, Told, cols, told};

/// A line behind the first.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Entry<'e> {
    StepBegin { step: usize, cols: Vec<Col<'e>> },
    Row { row: Vec<Told<'e>> },
    StepEnd { affected_row_count: u64, last_insert_rowid: Option<String> },
    StepError { step: usize, error: &'e Error },
    Error { error: &'e Error },
}

/// The answer to a cursor.
pub(super) fn answer(baton: Option<String>, steps: Result<Vec<Step>, Error>) -> Response {
    let body = lines(baton, &steps);
    ([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

fn lines(baton: Option<String>, steps: &Result<Vec<Step>, Error>) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, &CursorAnswer { baton, base_url: None });
    match steps {
        Err(error) => put(&mut out, &Entry::Error { error }),
        Ok(steps) => {
            steps.iter().enumerate().for_each(|(number, step)| put_step(&mut out, number, step));
        }
    }
    out
}

fn put_step(out: &mut Vec<u8>, step: usize, what: &Step) {
    match what {
        Step::Skipped => {}
        Step::Failed(error) => put(out, &Entry::StepError { step, error }),
        Step::Done(result) => {
            put(out, &Entry::StepBegin { step, cols: cols(&result.rows.columns) });
            let rows = if result.without_rows { &[] } else { result.rows.rows.as_slice() };
            rows.iter().for_each(|row| put(out, &Entry::Row { row: told(row) }));
            let last_insert_rowid = result.rows.last_insert_rowid.map(|id| id.to_string());
            let affected_row_count = result.rows.affected;
            put(out, &Entry::StepEnd { affected_row_count, last_insert_rowid });
        }
    }
}

fn put(out: &mut Vec<u8>, line: &impl Serialize) {
    // Writing to memory does not fail, and what is written has no keys but text.
    let written = serde_json::to_writer(&mut *out, line);
    debug_assert!(written.is_ok(), "{written:?}");
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use quorate_core::engine::{Column, Rows, Value};

    use super::super::proto::StmtResult;
    use super::*;

    #[test]
    fn each_step_that_ran_has_its_lines_and_the_baton_comes_first() {
        let rows = Rows {
            columns: vec![Column { name: "a".to_owned(), decltype: Some("INTEGER".to_owned()) }],
            rows: vec![vec![Value::Integer(1)], vec![Value::Null]],
            affected: 2,
            last_insert_rowid: Some(7),
        };
        let steps = vec![
            Step::Done(StmtResult { rows, without_rows: false }),
            Step::Skipped,
            Step::Failed(Error::new("SQLITE_ERROR", "no\nsuch")),
        ];
        let text = String::from_utf8(lines(Some("b".to_owned()), &Ok(steps))).unwrap();
        let expected = r#"{"baton":"b","base_url":null}
{"type":"step_begin","step":0,"cols":[{"name":"a","decltype":"INTEGER"}]}
{"type":"row","row":[{"type":"integer","value":"1"}]}
{"type":"row","row":[{"type":"null"}]}
{"type":"step_end","affected_row_count":2,"last_insert_rowid":"7"}
{"type":"step_error","step":2,"error":{"message":"no\nsuch","code":"SQLITE_ERROR"}}
"#;
        assert_eq!(text, expected);
        let text = String::from_utf8(lines(None, &Err(Error::new("BUSY", "later")))).unwrap();
        let expected = r#"{"baton":null,"base_url":null}
{"type":"error","error":{"message":"later","code":"BUSY"}}
"#;
        assert_eq!(text, expected);
    }
}
