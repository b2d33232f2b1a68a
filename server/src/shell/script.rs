//! Statements from a file or a pipe, one after the other, until one fails.

use std::io::BufRead;

use super::statement::{Scanner, split};

/// The longest text without an end of a statement, in bytes. A server takes less; what is longer is not
/// read to its end.
const STATEMENT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// One thing to do, and the line on which it begins, from 1.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Step {
    pub(super) line: usize,
    pub(super) todo: ToDo,
}

/// What to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum ToDo {
    /// A statement.
    Sql(String),
    /// For the shell itself.
    Dot(String),
}

/// Reads to the end, and hands over each step as soon as it is whole.
///
/// # Errors
/// That of `step`, or what cannot be read; with its line.
pub(super) fn read(
    mut input: impl BufRead,
    mut step: impl FnMut(Step) -> Result<bool, String>,
) -> Result<(), String> {
    let (mut gathered, mut begins, mut number) = (String::new(), 1, 0);
    let mut scanner = Scanner::default();
    loop {
        let mut line = Vec::new();
        let read = input.read_until(b'\n', &mut line);
        let read = read.map_err(|error| format!("line {}: {error}", number + 1))?;
        number += 1;
        let line = String::from_utf8(line).map_err(|_| format!("line {number} is not UTF-8"))?;
        if line.starts_with('.') && scanner.is_between() {
            gathered.clear();
            let todo = ToDo::Dot(line.trim_end().to_owned());
            if !told(&mut step, Step { line: number, todo })? {
                return Ok(());
            }
            continue;
        }
        if gathered.is_empty() {
            begins = number;
        }
        gathered += &line;
        scanner.feed(&line);
        if gathered.len() > STATEMENT_BYTES_MAX {
            return Err(format!(
                "line {begins}: no statement is longer than {STATEMENT_BYTES_MAX} bytes: is there a \
                 semicolon, or the end of a string, missing?"
            ));
        }
        if read == 0 || scanner.is_between() {
            for statement in split(&gathered) {
                let line = begins + statement.lines_before;
                let todo = ToDo::Sql(statement.text.to_owned());
                if !told(&mut step, Step { line, todo })? {
                    return Ok(());
                }
            }
            gathered.clear();
        }
        if read == 0 {
            return Ok(());
        }
    }
}

fn told(step: &mut impl FnMut(Step) -> Result<bool, String>, next: Step) -> Result<bool, String> {
    let line = next.line;
    step(next).map_err(|problem| format!("line {line}: {problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(text: &str) -> Vec<(usize, String)> {
        let mut all = Vec::new();
        read(text.as_bytes(), |step| {
            all.push(match step.todo {
                ToDo::Sql(text) => (step.line, text),
                ToDo::Dot(text) => (step.line, format!("dot {text}")),
            });
            Ok(true)
        })
        .unwrap();
        all
    }

    #[test]
    fn each_statement_knows_its_line_and_the_last_needs_no_semicolon() {
        let text =
            "-- a comment\nSELECT 1; SELECT\n2;\n.mode csv\n\nSELECT '\n.no command';\nSELECT 3";
        let expected = [
            (2, "SELECT 1;"),
            (2, "SELECT\n2;"),
            (4, "dot .mode csv"),
            (6, "SELECT '\n.no command';"),
            (8, "SELECT 3"),
        ];
        assert_eq!(steps(text), expected.map(|(line, text)| (line, text.to_owned())));
        assert!(steps("\n\n -- nothing\n").is_empty());
    }

    #[test]
    fn the_first_error_ends_it_and_names_its_line() {
        let mut done = 0;
        let error = read("SELECT 1;\n\nSELECT 2;\nSELECT 3;".as_bytes(), |step| {
            if step.line == 3 {
                return Err("no".to_owned());
            }
            done += 1;
            Ok(true)
        });
        assert_eq!((error, done), (Err("line 3: no".to_owned()), 1));
        assert_eq!(
            read(&b"SELECT 1;\n\xff;"[..], |_| Ok(true)),
            Err("line 2 is not UTF-8".to_owned())
        );
    }

    #[test]
    fn a_text_whose_end_is_missing_is_not_gathered_without_a_bound() {
        let endless = format!("SELECT 1;\nSELECT '{}", "x\n".repeat(STATEMENT_BYTES_MAX / 2));
        let error = read(endless.as_bytes(), |_| Ok(true)).unwrap_err();
        assert!(error.starts_with("line 2: ") && error.contains("missing"), "{error}");
    }
}
