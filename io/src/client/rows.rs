//! Results of statements, as values of Rust.

use std::sync::Arc;

use quorate_core::engine::{Column, Rows as Raw, Value};
use thiserror::Error;

/// A column has not what was asked for.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ColumnError {
    /// There is no such column.
    #[error("the result has no column '{column}'; it has {known}")]
    Missing {
        /// By its name, or its number from 0.
        column: String,
        /// Those that there are.
        known: String,
    },
    /// It holds something else.
    #[error("the column '{column}' holds {found}, and {wanted} was asked for")]
    Type {
        /// Its name.
        column: String,
        /// What it holds.
        found: &'static str,
        /// What was asked for.
        wanted: &'static str,
    },
}

/// What a column can be read as.
pub trait FromValue: Sized {
    /// For messages.
    const WANTED: &'static str;

    /// `None`: it is something else.
    fn from_value(value: &Value) -> Option<Self>;
}

macro_rules! integers {
    ($($of:ty),*) => {$(
        impl FromValue for $of {
            const WANTED: &'static str = concat!("an INTEGER that fits ", stringify!($of));

            fn from_value(value: &Value) -> Option<Self> {
                match value {
                    Value::Integer(integer) => Self::try_from(*integer).ok(),
                    _ => None,
                }
            }
        }
    )*};
}

integers!(i8, i16, i32, i64, u8, u16, u32, u64, usize);

impl FromValue for bool {
    const WANTED: &'static str = "an INTEGER as true or false";

    fn from_value(value: &Value) -> Option<Self> {
        i64::from_value(value).map(|integer| integer != 0)
    }
}

impl FromValue for f64 {
    const WANTED: &'static str = "a REAL";

    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Real(real) => Some(*real),
            // Up to there each integer is a real of its own.
            Value::Integer(integer) if integer.unsigned_abs() <= 1 << 53 => Some(*integer as Self),
            _ => None,
        }
    }
}

impl FromValue for String {
    const WANTED: &'static str = "TEXT";

    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        }
    }
}

impl FromValue for Vec<u8> {
    const WANTED: &'static str = "a BLOB";

    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Blob(bytes) => Some(bytes.clone()),
            _ => None,
        }
    }
}

impl FromValue for Value {
    const WANTED: &'static str = "anything";

    fn from_value(value: &Value) -> Option<Self> {
        Some(value.clone())
    }
}

impl<T: FromValue> FromValue for Option<T> {
    const WANTED: &'static str = T::WANTED;

    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Null => Some(None),
            other => T::from_value(other).map(Some),
        }
    }
}

/// Names a column: by its number from 0, or its name.
pub trait ColumnIndex {
    /// Which one.
    fn find(&self, columns: &[Column]) -> Option<usize>;

    /// For messages.
    fn shown(&self) -> String;
}

impl ColumnIndex for usize {
    fn find(&self, columns: &[Column]) -> Option<usize> {
        Some(*self).filter(|at| *at < columns.len())
    }

    fn shown(&self) -> String {
        self.to_string()
    }
}

impl ColumnIndex for &str {
    fn find(&self, columns: &[Column]) -> Option<usize> {
        let exactly = columns.iter().position(|column| column.name == *self);
        exactly.or_else(|| columns.iter().position(|c| c.name.eq_ignore_ascii_case(self)))
    }

    fn shown(&self) -> String {
        (*self).to_owned()
    }
}

/// The result of a statement.
#[derive(Clone, PartialEq, Debug)]
pub struct Rows {
    columns: Arc<[Column]>,
    rows: Vec<Row>,
    affected: u64,
    last_insert_rowid: Option<i64>,
}

impl Rows {
    pub(super) fn of(raw: Raw) -> Self {
        let Raw { columns, rows, affected, last_insert_rowid } = raw;
        let columns: Arc<[Column]> = columns.into();
        let row = |values| Row { columns: Arc::clone(&columns), values };
        let rows = rows.into_iter().map(row).collect();
        Self { columns, rows, affected, last_insert_rowid }
    }

    /// All as tuples.
    pub(super) fn fetch<T: FromRow>(&self) -> Result<Vec<T>, super::Error> {
        Ok(self.iter().map(T::from_row).collect::<Result<_, _>>()?)
    }

    /// The one row, if there is one.
    pub(super) fn fetch_optional<T: FromRow>(&self) -> Result<Option<T>, super::Error> {
        match self.len() {
            0 | 1 => Ok(self.first().map(T::from_row).transpose()?),
            more => Err(super::Error::NotOneRow(more)),
        }
    }

    /// The one row that there is.
    pub(super) fn fetch_one<T: FromRow>(&self) -> Result<T, super::Error> {
        self.fetch_optional()?.ok_or(super::Error::NotOneRow(0))
    }

    /// The names of the columns.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|column| column.name.as_str())
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows.
    pub fn iter(&self) -> std::slice::Iter<'_, Row> {
        self.rows.iter()
    }

    /// The first row.
    #[must_use]
    pub fn first(&self) -> Option<&Row> {
        self.rows.first()
    }

    /// Rows that the statement itself inserted, updated or deleted; not its triggers.
    #[must_use]
    pub fn affected(&self) -> u64 {
        self.affected
    }

    /// The rowid of the last row that it inserted.
    #[must_use]
    pub fn last_insert_rowid(&self) -> Option<i64> {
        self.last_insert_rowid
    }
}

impl IntoIterator for Rows {
    type Item = Row;
    type IntoIter = std::vec::IntoIter<Row>;

    fn into_iter(self) -> Self::IntoIter {
        self.rows.into_iter()
    }
}

impl<'a> IntoIterator for &'a Rows {
    type Item = &'a Row;
    type IntoIter = std::slice::Iter<'a, Row>;

    fn into_iter(self) -> Self::IntoIter {
        self.rows.iter()
    }
}

/// A row.
#[derive(Clone, PartialEq, Debug)]
pub struct Row {
    columns: Arc<[Column]>,
    values: Vec<Value>,
}

impl Row {
    /// A column, by its number from 0 or its name.
    ///
    /// # Errors
    /// [`ColumnError`]: there is none of that name, or it holds something else.
    pub fn get<T: FromValue>(&self, column: impl ColumnIndex) -> Result<T, ColumnError> {
        let missing = || ColumnError::Missing {
            column: column.shown(),
            known: self.columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", "),
        };
        let at = column.find(&self.columns).ok_or_else(missing)?;
        let value = self.values.get(at).ok_or_else(missing)?;
        T::from_value(value).ok_or_else(|| ColumnError::Type {
            column: self.columns[at].name.clone(),
            found: match value {
                Value::Null => "NULL",
                Value::Integer(_) => "an INTEGER",
                Value::Real(_) => "a REAL",
                Value::Text(_) => "TEXT",
                Value::Blob(_) => "a BLOB",
            },
            wanted: T::WANTED,
        })
    }

    /// All values, in the order of the columns.
    #[must_use]
    pub fn values(&self) -> &[Value] {
        &self.values
    }
}

/// What a row can be read as: a tuple of what its columns hold, from the first on.
pub trait FromRow: Sized {
    /// Reads it.
    ///
    /// # Errors
    /// [`ColumnError`]: there are too few columns, or one holds something else.
    fn from_row(row: &Row) -> Result<Self, ColumnError>;
}

impl FromRow for Row {
    fn from_row(row: &Row) -> Result<Self, ColumnError> {
        Ok(row.clone())
    }
}

macro_rules! tuples {
    ($(($($of:ident $at:tt),+))*) => {$(
        impl<$($of: FromValue),+> FromRow for ($($of,)+) {
            fn from_row(row: &Row) -> Result<Self, ColumnError> {
                Ok(($(row.get::<$of>($at)?,)+))
            }
        }
    )*};
}

for_tuples!(tuples);

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        let column = |name: &str| Column { name: name.to_owned(), decltype: None };
        let columns = vec![column("id"), column("Name"), column("score"), column("none")];
        let values =
            vec![Value::Integer(300), Value::Text("ada".to_owned()), Value::Real(1.5), Value::Null];
        Rows::of(Raw { columns, rows: vec![values], ..Raw::default() }).first().unwrap().clone()
    }

    #[test]
    fn columns_are_read_by_number_and_name_as_what_they_hold() {
        let row = row();
        assert_eq!(row.get::<i64>("id"), Ok(300));
        assert_eq!(row.get::<f64>(0), Ok(300.0));
        assert_eq!(row.get::<String>("name").as_deref(), Ok("ada"));
        assert_eq!(row.get::<Option<i64>>("none"), Ok(None));
        assert_eq!(row.get::<Option<String>>("Name"), Ok(Some("ada".to_owned())));
    }

    #[test]
    fn what_a_column_does_not_hold_is_named() {
        let row = row();
        let error = row.get::<u8>("id").unwrap_err().to_string();
        assert!(error.contains("'id'") && error.contains("u8"), "{error}");
        let error = row.get::<i64>("none").unwrap_err().to_string();
        assert!(error.contains("NULL"), "{error}");
        let error = row.get::<i64>("age").unwrap_err().to_string();
        assert!(error.contains("'age'") && error.contains("id, Name, score, none"), "{error}");
        assert!(row.get::<i64>(4).is_err());
    }
}
