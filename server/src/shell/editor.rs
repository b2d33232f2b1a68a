//! The line that is edited: until its statements are complete, with completion and history.

use std::fs;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Config, Context, Editor, Helper};

use super::completion::{self, Names};
use super::statement::is_complete;
use crate::exit::Failure;

/// Lines of history that are kept.
const HISTORY_MAX: usize = 10_000;

/// What was typed.
pub(super) enum Typed {
    /// A command, or statements.
    Line(String),
    /// Ctrl-C: what was typed is given up.
    Nothing,
    /// Ctrl-D: the end.
    End,
}

/// The editor, and where its history is.
pub(super) struct Line {
    editor: Editor<Help, FileHistory>,
    history: Option<PathBuf>,
}

impl Line {
    /// A new one, with the history of earlier shells. What is wrong with that is told, and nothing else
    /// comes of it.
    ///
    /// # Errors
    /// There is no terminal.
    pub(super) fn new() -> Result<(Self, Option<String>), Failure> {
        let config = Config::builder().max_history_size(HISTORY_MAX);
        let config = config.and_then(|config| config.history_ignore_dups(true)).map_err(failed)?;
        // Several that fit are listed; a paste is one line, whatever ends of lines are in it.
        let config = config.completion_type(rustyline::CompletionType::List).build();
        let mut editor = Editor::with_config(config).map_err(failed)?;
        editor.set_helper(Some(Help { names: Names::default() }));
        let mut line = Self { editor, history: None };
        let trouble = match history_file() {
            None => None,
            Some(file) => match private(&file)
                .and_then(|()| line.editor.load_history(&file).map_err(std::io::Error::other))
            {
                Ok(()) => {
                    line.history = Some(file);
                    None
                }
                Err(error) => Some(format!("no history is kept: {}: {error}", file.display())),
            },
        };
        Ok((line, trouble))
    }

    /// What Tab offers from now on.
    pub(super) fn offer(&mut self, names: Names) {
        if let Some(helper) = self.editor.helper_mut() {
            helper.names = names;
        }
    }

    /// Waits for a line.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(super) fn read(&mut self, prompt: &str) -> Result<Typed, Failure> {
        match self.editor.readline(prompt) {
            Ok(text) => {
                if !text.trim().is_empty() {
                    let _ = self.editor.add_history_entry(text.trim_end());
                    // At once: two shells beside each other, or one that is killed, lose nothing.
                    if let Some(file) = &self.history {
                        let _ = self.editor.append_history(file);
                    }
                }
                Ok(Typed::Line(text))
            }
            Err(ReadlineError::Interrupted) => Ok(Typed::Nothing),
            Err(ReadlineError::Eof) => Ok(Typed::End),
            Err(error) => Err(failed(error)),
        }
    }
}

fn failed(error: ReadlineError) -> Failure {
    Failure::Refused(format!("the terminal cannot be used: {error}"))
}

/// `$XDG_STATE_HOME/quorate/history`, which is `~/.local/state` unless told otherwise: the XDG base
/// directory specification names history as an example of what belongs there.
fn history_file() -> Option<PathBuf> {
    let given = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    // A path that is not absolute is to be ignored.
    let state = given.filter(|path| path.is_absolute());
    let state = state.or_else(|| Some(std::env::home_dir()?.join(".local/state")))?;
    Some(state.join("quorate").join("history"))
}

/// Makes the file where there is none, and sees to it that nobody else reads it: what is typed may be
/// anything.
fn private(file: &Path) -> std::io::Result<()> {
    if let Some(directory) = file.parent() {
        fs::create_dir_all(directory)?;
    }
    let opened = fs::OpenOptions::new().create(true).append(true).mode(0o600).open(file)?;
    if opened.metadata()?.permissions().mode() & 0o077 != 0 {
        opened.set_permissions(fs::Permissions::from_mode(0o600))?;
    }
    Ok(())
}

/// What the editor asks.
struct Help {
    names: Names,
}

impl Helper for Help {}
impl Highlighter for Help {}

impl Hinter for Help {
    type Hint = String;
}

impl Completer for Help {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        pos: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(completion::complete(&self.names, line.get(..pos).unwrap_or(line)))
    }
}

impl Validator for Help {
    fn validate(&self, ctx: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let input = ctx.input();
        let whole = input.trim_start().starts_with('.') || is_complete(input);
        Ok(if whole { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_is_readable_by_its_owner_only_also_where_it_was_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a/b/history");
        let mode = || fs::metadata(&file).unwrap().permissions().mode() & 0o777;
        private(&file).unwrap();
        assert_eq!(mode(), 0o600);
        fs::write(&file, "SELECT 1;\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        private(&file).unwrap();
        assert_eq!(mode(), 0o600);
        assert_eq!(fs::read_to_string(&file).unwrap(), "SELECT 1;\n", "nothing is lost");
    }
}
