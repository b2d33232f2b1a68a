//! Log lines: on standard error, for people or for programs.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::cli::LogFormat;
use crate::exit::Failure;

/// Starts writing log lines.
///
/// # Errors
/// [`Failure::Usage`] for a filter that cannot be read.
pub(crate) fn start(log: &str, format: LogFormat) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(log).map_err(|error| {
        Failure::Usage(format!(
            "--log {log}: {error}; give a level (error, warn, info, debug, trace) or target=level,..."
        ))
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(false);
    let colors = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let done = match format {
        LogFormat::Text => builder.with_ansi(colors).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    done.map_err(|error| Failure::Refused(format!("logging does not start: {error}")))
}
