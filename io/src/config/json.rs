//! JSON to a small tree of values that know their line.
//!
//! serde_json checks the syntax of the whole text first and says line and column. The tree is then
//! made of its raw values: each is a piece of the text, so its position is known.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Number;
use serde_json::value::RawValue;

use super::error::{Bounds, ConfigError, Place};
use super::file::Lines;

/// A value and the line that it begins on.
#[derive(Debug)]
pub(crate) struct Json {
    pub(crate) line: u32,
    pub(crate) kind: Kind,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Json>),
    /// In the order of the file, each name once.
    Object(Vec<(String, Json)>),
}

/// Reads the whole text.
pub(crate) fn read(file: &str, text: &str) -> Result<Json, ConfigError> {
    let reader = Reader { file, text, lines: Lines::new(text.as_bytes()) };
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| reader.syntax(0, &error))?;
    let whole: &RawValue = serde_json::from_str(text).map_err(|error| reader.syntax(0, &error))?;
    reader.value(whole.get(), "", 0)
}

struct Reader<'a> {
    file: &'a str,
    text: &'a str,
    lines: Lines,
}

impl Reader<'_> {
    /// Where `piece`, which is a part of the text, begins.
    fn offset(&self, piece: &str) -> usize {
        (piece.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize)
    }

    fn place(&self, piece: &str, path: &str) -> Place {
        let line = self.lines.of(self.offset(piece));
        Place { file: self.file.to_owned(), line, path: path.to_owned() }
    }

    fn syntax(&self, offset: usize, error: &serde_json::Error) -> ConfigError {
        let inner = u32::try_from(error.line().saturating_sub(1)).unwrap_or(u32::MAX);
        let said = error.to_string();
        // The position is given as the file's own line, in front.
        let reason = said.split(" at line ").next().unwrap_or(&said);
        ConfigError::Syntax {
            file: self.file.to_owned(),
            line: self.lines.of(offset).saturating_add(inner),
            format: "JSON",
            reason: format!("{reason} (column {})", error.column()),
        }
    }

    fn value(&self, piece: &str, path: &str, depth: usize) -> Result<Json, ConfigError> {
        if depth > Bounds::DEPTH {
            let (place, max) = (self.place(piece, path), Bounds::DEPTH);
            return Err(ConfigError::Bound { place, max, what: "levels of objects and lists" });
        }
        let kind = match piece.as_bytes().first() {
            Some(b'{') => self.object(piece, path, depth)?,
            Some(b'[') => self.list(piece, path, depth)?,
            Some(b'"') => Kind::Text(self.parse(piece)?),
            Some(b't' | b'f') => Kind::Bool(self.parse(piece)?),
            Some(b'n') => Kind::Null,
            _ => Kind::Number(self.parse(piece)?),
        };
        Ok(Json { line: self.lines.of(self.offset(piece)), kind })
    }

    fn parse<'t, T: Deserialize<'t>>(&self, piece: &'t str) -> Result<T, ConfigError> {
        serde_json::from_str(piece).map_err(|error| self.syntax(self.offset(piece), &error))
    }

    fn list(&self, piece: &str, path: &str, depth: usize) -> Result<Kind, ConfigError> {
        let pieces: Vec<&RawValue> = self.parse(piece)?;
        let values = pieces
            .iter()
            .enumerate()
            .map(|(at, raw)| self.value(raw.get(), &format!("{path}[{at}]"), depth + 1));
        Ok(Kind::List(values.collect::<Result<_, _>>()?))
    }

    fn object(&self, piece: &str, path: &str, depth: usize) -> Result<Kind, ConfigError> {
        let Pairs(pairs) = self.parse(piece)?;
        let mut fields: Vec<(String, Json)> = Vec::with_capacity(pairs.len());
        let mut lines = std::collections::BTreeMap::new();
        for (name, raw) in pairs {
            if name.len() > Bounds::NAME_BYTES {
                let (place, max) = (self.place(raw.get(), path), Bounds::NAME_BYTES);
                return Err(ConfigError::Bound { place, max, what: "bytes in a name" });
            }
            let path = join(path, &name);
            let value = self.value(raw.get(), &path, depth + 1)?;
            if let Some(first) = lines.insert(name.clone(), value.line) {
                let place = self.place(raw.get(), &path);
                return Err(ConfigError::Duplicate { place, first });
            }
            fields.push((name, value));
        }
        Ok(Kind::Object(fields))
    }
}

/// `a.b`, or `b` at the top.
pub(crate) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// An object's fields in order, names that stand twice included.
struct Pairs<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry::<String, &'de RawValue>()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(All)
    }
}
