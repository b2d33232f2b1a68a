//! `${name}` in hazelcast.xml.

use super::error::{Bounds, ConfigError, Place};
use super::note::Notes;

/// Where the values of `${name}` come from: the environment, the command line, a test's table.
pub struct Variables<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
}

impl std::fmt::Debug for Variables<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Variables")
    }
}

impl<'a> Variables<'a> {
    /// Asks `lookup` for each variable.
    #[must_use]
    pub fn new(lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { lookup }
    }

    /// The environment of this process. A variable that is not valid Unicode counts as undefined.
    #[must_use]
    pub fn environment() -> Variables<'static> {
        Variables { lookup: &|name| std::env::var(name).ok() }
    }

    /// No variable is defined.
    #[must_use]
    pub fn none() -> Variables<'static> {
        Variables { lookup: &|_| None }
    }

    /// Replaces each `${name}` once; what is put in is not searched again. An undefined one, and
    /// one that is never closed, stays as it is, with a warning.
    pub(crate) fn replace(
        &self,
        text: &str,
        place: &Place,
        notes: &mut Notes,
    ) -> Result<String, ConfigError> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            out.push_str(&rest[..start]);
            let Some(length) = rest[start..].find('}') else {
                notes.warn(place.clone(), "`${` is never closed by `}` and stays as it is");
                rest = &rest[start..];
                break;
            };
            let name = rest[start + 2..start + length].trim();
            match (self.lookup)(name) {
                Some(value) => out.push_str(&value),
                None => {
                    let shown: String = name.chars().take(60).collect();
                    notes.warn(
                        place.clone(),
                        format!("the variable ${{{shown}}} is not defined and stays as it is"),
                    );
                    out.push_str(&rest[start..=start + length]);
                }
            }
            rest = &rest[start + length + 1..];
            within(&out, place)?;
        }
        out.push_str(rest);
        within(&out, place)?;
        Ok(out)
    }
}

fn within(text: &str, place: &Place) -> Result<(), ConfigError> {
    if text.len() <= Bounds::TEXT_BYTES {
        return Ok(());
    }
    let what = "bytes of text in one element";
    Err(ConfigError::Bound { place: place.clone(), max: Bounds::TEXT_BYTES, what })
}
