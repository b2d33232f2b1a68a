//! Results on the screen or in a pipe.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use quorate_io::client::{Rows, Value};

use crate::databases::table;

/// How results are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub(crate) enum Mode {
    /// For people.
    #[default]
    Table,
    /// One array of objects a statement, on a line of its own.
    Json,
    /// Comma-separated values, with a line of names.
    Csv,
}

impl Mode {
    /// All of them, as they are written.
    pub(super) const NAMES: [&str; 3] = ["table", "json", "csv"];

    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "table" => Some(Self::Table),
            "json" => Some(Self::Json),
            "csv" => Some(Self::Csv),
            _ => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Json => "json",
            Self::Csv => "csv",
        }
    }

    /// The result of a statement. What returns no columns is told only where a person reads.
    pub(super) fn written(self, rows: &Rows) -> String {
        let columns: Vec<&str> = rows.columns().collect();
        match self {
            Self::Table if columns.is_empty() => format!("{} affected\n", counted(rows.affected())),
            Self::Table => as_table(&columns, rows),
            Self::Json | Self::Csv if columns.is_empty() => String::new(),
            Self::Json => as_json(&columns, rows),
            Self::Csv => as_csv(&columns, rows),
        }
    }
}

fn counted(rows: u64) -> String {
    if rows == 1 { "1 row".to_owned() } else { format!("{rows} rows") }
}

fn as_table(columns: &[&str], rows: &Rows) -> String {
    let mut shown = table(columns);
    for row in rows {
        shown.add_row(row.values().iter().map(cell));
    }
    let count = u64::try_from(rows.len()).unwrap_or(u64::MAX);
    format!("{}\n{}\n", shown.trim_fmt(), counted(count))
}

/// A value as a person reads it. Control characters could make a terminal do anything: they are shown.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Integer(integer) => integer.to_string(),
        Value::Real(real) => self::real(*real),
        Value::Text(text) => printable(text),
        Value::Blob(bytes) => hex(bytes),
    }
}

/// Text without what a terminal would take for a command; lines stay lines.
pub(super) fn printable(text: &str) -> String {
    let shown = |c: char| -> String {
        match c {
            '\n' | '\t' => c.to_string(),
            c if c.is_control() => c.escape_default().to_string(),
            c => c.to_string(),
        }
    };
    text.chars().map(shown).collect()
}

/// With a point in it, so that it is seen to be a real.
fn real(real: f64) -> String {
    match real {
        f64::INFINITY => "Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        _ => format!("{real:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = "x'".to_owned();
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text + "'"
}

/// Objects whose members are in the order of the columns, however often a name is there: as SQLite's own
/// shell writes them. A BLOB is `{"base64": "..."}`, as over HTTP.
fn as_json(columns: &[&str], rows: &Rows) -> String {
    let names: Vec<String> = columns.iter().map(|name| json_text(name)).collect();
    let object = |values: &[Value]| {
        let members = names.iter().zip(values);
        let members: Vec<String> =
            members.map(|(name, value)| format!("{name}:{}", json_value(value))).collect();
        format!("{{{}}}", members.join(","))
    };
    let objects: Vec<String> = rows.iter().map(|row| object(row.values())).collect();
    format!("[{}]\n", objects.join(",\n"))
}

fn json_text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn json_value(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Integer(integer) => integer.to_string(),
        // JSON has no infinity; a number that is larger than any is read as one.
        Value::Real(real) if real.is_infinite() => {
            if *real > 0.0 { "9.0e+999" } else { "-9.0e+999" }.to_owned()
        }
        Value::Real(real) => serde_json::Value::from(*real).to_string(),
        Value::Text(text) => json_text(text),
        Value::Blob(bytes) => format!("{{\"base64\":\"{}\"}}", BASE64.encode(bytes)),
    }
}

/// As RFC 4180 has it, but for the ends of lines, which are those of this system. NULL is empty.
fn as_csv(columns: &[&str], rows: &Rows) -> String {
    let line = |fields: Vec<String>| fields.join(",") + "\n";
    let mut text = line(columns.iter().map(|name| csv_field(name)).collect());
    for row in rows {
        text += &line(row.values().iter().map(csv_value).collect());
    }
    text
}

fn csv_value(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Text(text) => csv_field(text),
        other => cell(other),
    }
}

/// Quoted where it must be; an empty text too, so that it is not taken for NULL.
fn csv_field(text: &str) -> String {
    let plain = !text.is_empty()
        && !text.contains([',', '"', '\n', '\r'])
        && !text.starts_with(' ')
        && !text.ends_with(' ');
    if plain { text.to_owned() } else { format!("\"{}\"", text.replace('"', "\"\"")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_so_that_they_can_be_told_apart() {
        assert_eq!(cell(&Value::Real(3.0)), "3.0");
        assert_eq!(cell(&Value::Blob(vec![0, 255])), "x'00ff'");
        assert_eq!(cell(&Value::Text("a\u{1b}[2Jb\nc".to_owned())), "a\\u{1b}[2Jb\nc");
        assert_eq!(json_value(&Value::Real(3.0)), "3.0");
        assert_eq!(json_value(&Value::Text("a\"b\n".to_owned())), "\"a\\\"b\\n\"");
        assert_eq!(json_value(&Value::Blob(vec![0, 255])), "{\"base64\":\"AP8=\"}");
        assert_eq!(json_value(&Value::Integer(i64::MIN)), "-9223372036854775808");
        assert_eq!(csv_value(&Value::Null), "");
        assert_eq!(csv_value(&Value::Text(String::new())), "\"\"");
        assert_eq!(csv_value(&Value::Text("a,\"b\"\nc".to_owned())), "\"a,\"\"b\"\"\nc\"");
    }

    #[test]
    fn every_mode_has_a_name() {
        for name in Mode::NAMES {
            assert_eq!(Mode::named(name).map(Mode::name), Some(name));
        }
        assert_eq!(Mode::named("xml"), None);
    }
}
