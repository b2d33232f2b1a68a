//! What is sent and answered, as the specifications of Hrana 1, 2 and 3 over HTTP have it in JSON.
//!
//! Own types, not those of the crate `libsql-hrana`: that one refuses strings with escapes in them where
//! it expects integers or base64, does not know what kind of value was wrong, and brings protocol buffers.
//! Fields that are not known are passed over; a field that is `null` is as good as none.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD_NO_PAD};
use quorate_core::engine::{Column, Rows, Value};
use serde::de::{Error as _, Unexpected, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// BLOBs come with padding or without; they go without, as from libSQL's own server.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The body of `POST v2/pipeline` and `v3/pipeline`.
#[derive(Debug, Deserialize)]
pub(super) struct PipelineRequest {
    /// The stream; `None`: a new one.
    #[serde(default)]
    pub(super) baton: Option<String>,
    pub(super) requests: Vec<StreamRequest>,
}

/// The body of `POST v3/cursor`.
#[derive(Debug, Deserialize)]
pub(super) struct CursorRequest {
    #[serde(default)]
    pub(super) baton: Option<String>,
    pub(super) batch: Batch,
}

/// The body of `POST v1/execute`.
#[derive(Debug, Deserialize)]
pub(super) struct ExecuteRequest {
    pub(super) stmt: Stmt,
}

/// The body of `POST v1/batch`.
#[derive(Debug, Deserialize)]
pub(super) struct BatchRequest {
    pub(super) batch: Batch,
}

/// One request of a pipeline.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum StreamRequest {
    Close,
    Execute { stmt: Stmt },
    Batch { batch: Batch },
    Sequence(SqlText),
    Describe(SqlText),
    StoreSql { sql_id: i32, sql: String },
    CloseSql { sql_id: i32 },
    GetAutocommit,
}

/// SQL, or the number under which it was stored.
#[derive(Debug, Deserialize)]
pub(super) struct SqlText {
    #[serde(default)]
    pub(super) sql: Option<String>,
    #[serde(default)]
    pub(super) sql_id: Option<i32>,
}

/// A statement.
#[derive(Debug, Deserialize)]
pub(super) struct Stmt {
    #[serde(flatten)]
    pub(super) text: SqlText,
    #[serde(default)]
    pub(super) args: Option<Vec<Given>>,
    #[serde(default)]
    pub(super) named_args: Option<Vec<NamedArg>>,
    #[serde(default)]
    pub(super) want_rows: Option<bool>,
}

/// A value for a parameter that has a name.
#[derive(Debug, Deserialize)]
pub(super) struct NamedArg {
    pub(super) name: String,
    pub(super) value: Given,
}

/// Statements with conditions.
#[derive(Debug, Deserialize)]
pub(super) struct Batch {
    pub(super) steps: Vec<BatchStep>,
}

/// One of them.
#[derive(Debug, Deserialize)]
pub(super) struct BatchStep {
    #[serde(default)]
    pub(super) condition: Option<Condition>,
    pub(super) stmt: Stmt,
}

/// When a step of a batch is run.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Condition {
    Ok { step: usize },
    Error { step: usize },
    Not { cond: Box<Condition> },
    And { conds: Vec<Condition> },
    Or { conds: Vec<Condition> },
    IsAutocommit,
}

/// A value as it is sent.
#[derive(Debug, PartialEq)]
pub(super) struct Given(pub(super) Value);

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Sent {
    Null,
    Integer {
        #[serde(deserialize_with = "integer")]
        value: i64,
    },
    Float {
        value: f64,
    },
    Text {
        value: String,
    },
    Blob {
        #[serde(deserialize_with = "blob")]
        base64: Vec<u8>,
    },
}

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(match Sent::deserialize(deserializer)? {
            Sent::Null => Value::Null,
            Sent::Integer { value } => Value::Integer(value),
            Sent::Float { value } => Value::Real(value),
            Sent::Text { value } => Value::Text(value),
            Sent::Blob { base64 } => Value::Blob(base64),
        }))
    }
}

/// 64 bits in decimal digits; from those who send it so, as a number of JSON.
fn integer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    struct Integer;

    impl Visitor<'_> for Integer {
        type Value = i64;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an integer of 64 bits as a string of decimal digits")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<i64, E> {
            text.parse().map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
        }

        fn visit_i64<E>(self, number: i64) -> Result<i64, E> {
            Ok(number)
        }

        fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<i64, E> {
            number.try_into().map_err(|_| E::invalid_value(Unexpected::Unsigned(number), &self))
        }
    }

    deserializer.deserialize_any(Integer)
}

fn blob<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    BASE64.decode(text).map_err(|error| D::Error::custom(format!("\"base64\": {error}")))
}

/// A value as it is answered.
#[derive(Debug)]
pub(super) struct Told<'v>(pub(super) &'v Value);

impl Serialize for Told<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        match self.0 {
            Value::Null => map.serialize_entry("type", "null")?,
            Value::Integer(integer) => {
                map.serialize_entry("type", "integer")?;
                map.serialize_entry("value", &integer.to_string())?;
            }
            Value::Real(real) => {
                map.serialize_entry("type", "float")?;
                match real.is_infinite() {
                    false => map.serialize_entry("value", real)?,
                    true => map.serialize_entry("value", infinity(*real > 0.0))?,
                }
            }
            Value::Text(text) => {
                map.serialize_entry("type", "text")?;
                map.serialize_entry("value", text)?;
            }
            Value::Blob(bytes) => {
                map.serialize_entry("type", "blob")?;
                map.serialize_entry("base64", &STANDARD_NO_PAD.encode(bytes))?;
            }
        }
        map.end()
    }
}

/// JSON has no infinities, but numbers that no float can hold: read, they are infinite.
fn infinity(positive: bool) -> &'static RawValue {
    let text = if positive { "1e999" } else { "-1e999" };
    serde_json::from_str(text).unwrap_or(RawValue::NULL)
}

/// An error, wherever it is told.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(super) struct Error {
    /// For people.
    pub(super) message: String,
    /// For programs.
    pub(super) code: String,
}

/// The answer to a pipeline.
#[derive(Debug, Serialize)]
pub(super) struct PipelineAnswer {
    /// To go on with the stream; `None`: it is closed.
    pub(super) baton: Option<String>,
    /// Never set: whoever holds a baton stays where it was given.
    pub(super) base_url: Option<String>,
    pub(super) results: Vec<StreamResult>,
}

/// The first line of the answer to a cursor.
#[derive(Debug, Serialize)]
pub(super) struct CursorAnswer {
    pub(super) baton: Option<String>,
    pub(super) base_url: Option<String>,
}

/// What came of one request of a pipeline.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum StreamResult {
    Ok { response: StreamResponse },
    Error { error: Error },
}

/// The answer to one request of a pipeline.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum StreamResponse {
    Close,
    Execute { result: StmtResult },
    Batch { result: BatchResult },
    Sequence,
    Describe { result: Description },
    StoreSql,
    CloseSql,
    GetAutocommit { is_autocommit: bool },
}

/// The answer of version 1.
#[derive(Debug, Serialize)]
pub(super) struct Answer<T> {
    pub(super) result: T,
}

/// What a statement has returned.
#[derive(Debug, Default)]
pub(super) struct StmtResult {
    pub(super) rows: Rows,
    /// The rows are not asked for.
    pub(super) without_rows: bool,
}

impl Serialize for StmtResult {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Rows { columns, rows, affected, last_insert_rowid } = &self.rows;
        let rows = if self.without_rows { &[] } else { rows.as_slice() };
        let rows: Vec<Vec<Told<'_>>> = rows.iter().map(|row| told(row)).collect();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("cols", &cols(columns))?;
        map.serialize_entry("rows", &rows)?;
        map.serialize_entry("affected_row_count", affected)?;
        map.serialize_entry("last_insert_rowid", &last_insert_rowid.map(|id| id.to_string()))?;
        map.end()
    }
}

/// A row as it is answered.
pub(super) fn told(row: &[Value]) -> Vec<Told<'_>> {
    row.iter().map(Told).collect()
}

/// Columns as they are answered.
pub(super) fn cols(columns: &[Column]) -> Vec<Col<'_>> {
    let named = columns.iter().map(|column| (&column.name, column.decltype.as_deref()));
    named.map(|(name, decltype)| Col { name, decltype }).collect()
}

/// A column.
#[derive(Debug, Serialize)]
pub(super) struct Col<'c> {
    name: &'c str,
    decltype: Option<&'c str>,
}

/// What the steps of a batch have returned; neither for one that was passed over.
#[derive(Debug, Default, Serialize)]
pub(super) struct BatchResult {
    pub(super) step_results: Vec<Option<StmtResult>>,
    pub(super) step_errors: Vec<Option<Error>>,
}

/// What a statement is.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Description {
    pub(super) params: Vec<Parameter>,
    pub(super) cols: Vec<DescribedColumn>,
    pub(super) is_explain: bool,
    pub(super) is_readonly: bool,
}

/// A parameter; nameless if it is `?`, or not in the statement.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Parameter {
    pub(super) name: Option<String>,
}

/// A column of the result.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct DescribedColumn {
    pub(super) name: String,
    pub(super) decltype: Option<String>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn given(value: serde_json::Value) -> Result<Value, String> {
        // As text, for that is how it comes.
        serde_json::from_str::<Given>(&value.to_string()).map(|v| v.0).map_err(|e| e.to_string())
    }

    #[test]
    fn values_come_and_go_as_they_are_and_keep_their_type() {
        let cases = [
            (json!({ "type": "null" }), Value::Null),
            (json!({ "type": "integer", "value": "1" }), Value::Integer(1)),
            (
                json!({ "type": "integer", "value": "-9223372036854775808" }),
                Value::Integer(i64::MIN),
            ),
            (json!({ "type": "float", "value": 1.5 }), Value::Real(1.5)),
            (json!({ "type": "text", "value": "a\"\\é\n" }), Value::Text("a\"\\é\n".to_owned())),
            (json!({ "type": "blob", "base64": "AP8" }), Value::Blob(vec![0, 255])),
            (json!({ "type": "blob", "base64": "" }), Value::Blob(Vec::new())),
        ];
        for (text, value) in cases {
            assert_eq!(given(text.clone()), Ok(value.clone()), "{text}");
            assert_eq!(serde_json::to_value(Told(&value)).unwrap(), text);
        }
    }

    #[test]
    fn values_are_understood_as_drivers_write_them() {
        // JavaScript sends every number as a float, and 1 without a point.
        assert_eq!(given(json!({ "type": "float", "value": 1 })), Ok(Value::Real(1.0)));
        assert_eq!(given(json!({ "type": "integer", "value": 7 })), Ok(Value::Integer(7)));
        let padded = json!({ "type": "blob", "base64": "AP8=" });
        assert_eq!(given(padded), Ok(Value::Blob(vec![0, 255])));
        // Escapes in a string are no reason to refuse it.
        let escaped = r#"{"type":"blob","base64":"\u002f\/8="}"#;
        let read = serde_json::from_str::<Given>(escaped).unwrap();
        assert_eq!(read, Given(Value::Blob(vec![0xff, 0xff])));
        let escaped = r#"{"type":"integer","value":"\u0034"}"#;
        assert_eq!(serde_json::from_str::<Given>(escaped).unwrap(), Given(Value::Integer(4)));
    }

    #[test]
    fn what_is_no_value_is_refused_by_what_is_wrong() {
        for (wrong, part) in [
            (json!({ "type": "integer", "value": "9223372036854775808" }), "64 bits"),
            (json!({ "type": "integer", "value": 1.5 }), "64 bits"),
            (json!({ "type": "float", "value": "1" }), "f64"),
            (json!({ "type": "blob", "base64": "?" }), "base64"),
            (json!({ "type": "bool", "value": true }), "unknown variant `bool`"),
            (json!({ "value": 1 }), "type"),
            (json!(1), "type"),
        ] {
            let error = given(wrong.clone()).unwrap_err();
            assert!(error.contains(part), "{wrong}: {error}");
        }
    }

    #[test]
    fn infinities_are_numbers_that_read_as_such() {
        let text = serde_json::to_string(&Told(&Value::Real(f64::NEG_INFINITY))).unwrap();
        assert_eq!(text, r#"{"type":"float","value":-1e999}"#);
        let text = serde_json::to_string(&Told(&Value::Real(f64::INFINITY))).unwrap();
        assert_eq!(text, r#"{"type":"float","value":1e999}"#);
    }

    #[test]
    fn fields_that_are_null_or_unknown_are_as_good_as_none() {
        let text = r#"{"baton": null, "requests": [
            {"type": "execute", "stmt": {"sql": "SELECT 1", "sql_id": null, "args": null,
             "named_args": [], "want_rows": null, "replication_index": null}},
            {"type": "close", "more": 1},
            {"type": "batch", "batch": {"steps": [{"condition": null, "stmt": {"sql_id": 3}}]}},
            {"type": "get_autocommit"}
        ]}"#;
        let read: PipelineRequest = serde_json::from_str(text).unwrap();
        assert_eq!(read.requests.len(), 4);
        let StreamRequest::Batch { batch } = &read.requests[2] else { panic!("a batch") };
        assert_eq!(batch.steps[0].stmt.text.sql_id, Some(3));
    }

    #[test]
    fn conditions_are_read_to_any_depth_that_is_sensible_and_no_deeper() {
        let nested = |depth: usize| {
            let (open, close) = (r#"{"type":"not","cond":"#, "}");
            let inner = r#"{"type":"is_autocommit"}"#;
            format!("{}{inner}{}", open.repeat(depth), close.repeat(depth))
        };
        assert!(serde_json::from_str::<Condition>(&nested(20)).is_ok());
        assert!(serde_json::from_str::<Condition>(&nested(100_000)).is_err());
    }
}
