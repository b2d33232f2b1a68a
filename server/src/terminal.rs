//! What is asked and shown on a terminal while a command runs.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use indicatif::ProgressStyle;
use tokio::runtime::Runtime;

use crate::exit::Failure;

/// Asks on the terminal; elsewhere nobody could answer, and `otherwise` says what to do.
///
/// # Errors
/// [`Failure::Usage`] where nobody can answer, [`Failure::Refused`] if the answer is not yes.
pub(crate) fn confirm(question: &str, otherwise: &str) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::Usage(format!("nothing was changed: {otherwise}")));
    }
    print!("{question} [y/N] ");
    // What was not shown is not asked, and no answer is no.
    let _ = io::stdout().flush();
    let mut answer = String::new();
    let _ = io::stdin().lock().read_line(&mut answer);
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::Refused("nothing was changed".to_owned())),
    }
}

/// Whether somebody sits at both ends, who types and reads.
pub(crate) fn is_there() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// What lets a client go on by itself while a command waits for somebody.
///
/// # Errors
/// [`Failure::Refused`] if the system gives no thread.
pub(crate) fn runtime() -> Result<Runtime, Failure> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.map_err(|error| Failure::Refused(format!("cannot start the runtime: {error}")))
}

/// How a bar of progress is written.
pub(crate) fn style(form: &str) -> ProgressStyle {
    ProgressStyle::with_template(form).unwrap_or_else(|_| ProgressStyle::default_bar())
}
