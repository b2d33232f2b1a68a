//! Parameters of statements, from values of Rust.

use quorate_core::engine::{Statement, Value};

/// What can be a parameter of a statement.
pub trait ToValue {
    /// As SQLite keeps it.
    fn to_value(&self) -> Value;
}

macro_rules! integers {
    ($($of:ty),*) => {$(
        impl ToValue for $of {
            fn to_value(&self) -> Value {
                Value::Integer(i64::from(*self))
            }
        }
    )*};
}

integers!(i8, i16, i32, i64, u8, u16, u32, bool);

impl ToValue for f64 {
    fn to_value(&self) -> Value {
        Value::Real(*self)
    }
}

impl ToValue for f32 {
    fn to_value(&self) -> Value {
        Value::Real(f64::from(*self))
    }
}

impl ToValue for str {
    fn to_value(&self) -> Value {
        Value::Text(self.to_owned())
    }
}

impl ToValue for String {
    fn to_value(&self) -> Value {
        Value::Text(self.clone())
    }
}

impl ToValue for [u8] {
    fn to_value(&self) -> Value {
        Value::Blob(self.to_vec())
    }
}

impl ToValue for Vec<u8> {
    fn to_value(&self) -> Value {
        Value::Blob(self.clone())
    }
}

impl ToValue for Value {
    fn to_value(&self) -> Value {
        self.clone()
    }
}

impl<T: ToValue> ToValue for Option<T> {
    fn to_value(&self) -> Value {
        self.as_ref().map_or(Value::Null, ToValue::to_value)
    }
}

impl<T: ToValue + ?Sized> ToValue for &T {
    fn to_value(&self) -> Value {
        (**self).to_value()
    }
}

/// The parameters of a statement: `()` for none, a tuple or an array for `?`, a slice of pairs for
/// `:name`.
pub trait Params {
    /// A statement with them.
    fn statement(self, sql: &str) -> Statement;
}

impl Params for () {
    fn statement(self, sql: &str) -> Statement {
        Statement::new(sql)
    }
}

impl<T: ToValue, const N: usize> Params for [T; N] {
    fn statement(self, sql: &str) -> Statement {
        Statement::with(sql, self.iter().map(ToValue::to_value).collect::<Vec<_>>())
    }
}

impl Params for Vec<Value> {
    fn statement(self, sql: &str) -> Statement {
        Statement::with(sql, self)
    }
}

impl Params for &[(&str, &dyn ToValue)] {
    fn statement(self, sql: &str) -> Statement {
        let named = self.iter().map(|(name, value)| ((*name).to_owned(), value.to_value()));
        Statement { sql: sql.to_owned(), args: Vec::new(), named: named.collect() }
    }
}

impl<const N: usize> Params for &[(&str, &dyn ToValue); N] {
    fn statement(self, sql: &str) -> Statement {
        self.as_slice().statement(sql)
    }
}

macro_rules! tuples {
    ($(($($of:ident $at:tt),+))*) => {$(
        impl<$($of: ToValue),+> Params for ($($of,)+) {
            fn statement(self, sql: &str) -> Statement {
                Statement::with(sql, vec![$(self.$at.to_value()),+])
            }
        }
    )*};
}

for_tuples!(tuples);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_become_values_in_their_order() {
        let statement = (1, "two", None::<i64>, 4.5, vec![5_u8]).statement("?");
        let expected = [
            Value::Integer(1),
            Value::Text("two".to_owned()),
            Value::Null,
            Value::Real(4.5),
            Value::Blob(vec![5]),
        ];
        assert_eq!(statement.args, expected);
        let statement = (&[(":a", &1_i64 as &dyn ToValue), ("b", &"x")]).statement(":a");
        assert_eq!(statement.named[1], ("b".to_owned(), Value::Text("x".to_owned())));
        assert_eq!([1_i64, 2].statement("").args.len(), 2);
        assert!(().statement("SELECT 1").args.is_empty());
    }
}
