//! What was read and not used, or used otherwise than a reader of the file would expect.

use std::fmt;

use super::error::{Bounds, Place, printable};

/// How much a [`Note`] matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// Something is ignored that has no meaning here.
    Info,
    /// Something is not as the writer of the file may think.
    Warning,
}

/// One remark on a configuration file, to be logged at the start. Never holds a secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// How much it matters.
    pub level: Level,
    /// Where.
    pub place: Place,
    /// What.
    pub message: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, printable(&self.message))
    }
}

/// Collects notes, at most [`Bounds::NOTES`] of them.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    kept: Vec<Note>,
    left_out: usize,
}

impl Notes {
    pub(crate) fn info(&mut self, place: Place, message: impl Into<String>) {
        self.add(Level::Info, place, message.into());
    }

    pub(crate) fn warn(&mut self, place: Place, message: impl Into<String>) {
        self.add(Level::Warning, place, message.into());
    }

    fn add(&mut self, level: Level, place: Place, message: String) {
        if self.kept.len() < Bounds::NOTES {
            self.kept.push(Note { level, place, message });
        } else {
            self.left_out += 1;
        }
    }

    /// All of them; the last says how many were left out.
    pub(crate) fn finish(mut self) -> Vec<Note> {
        if let (Some(last), 1..) = (self.kept.last_mut(), self.left_out) {
            last.level = Level::Warning;
            last.message = format!("and {} more remarks that are not shown", self.left_out + 1);
        }
        self.kept
    }
}
