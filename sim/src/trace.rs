//! What is told of a run: nothing, every event as it happens, or the last ones before a failure.

use std::collections::VecDeque;
use std::fmt;

/// Where the lines go.
#[derive(Debug, Default)]
pub enum Trace {
    /// Nowhere: lines are not even made.
    #[default]
    Off,
    /// To standard output.
    Print {
        /// Heartbeats too.
        heartbeats: bool,
    },
    /// Only so many are kept.
    Keep {
        /// The latest ones.
        lines: VecDeque<String>,
        /// How many.
        max: usize,
    },
}

impl Trace {
    /// Keeps the last `max` lines.
    #[must_use]
    pub fn keep(max: usize) -> Self {
        Self::Keep { lines: VecDeque::new(), max }
    }

    /// Whether lines are made at all.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !matches!(self, Self::Off)
    }

    /// Whether heartbeats are told of, of which there are many.
    #[must_use]
    pub fn has_heartbeats(&self) -> bool {
        matches!(self, Self::Print { heartbeats: true })
    }

    /// One line.
    pub fn line(&mut self, now: u64, text: fmt::Arguments<'_>) {
        let stamp = format!("{:>7}.{:06}", now / 1_000_000, now % 1_000_000);
        match self {
            Self::Off => {}
            Self::Print { .. } => println!("{stamp} {text}"),
            Self::Keep { lines, max } => {
                if lines.len() >= *max {
                    lines.pop_front();
                }
                lines.push_back(format!("{stamp} {text}"));
            }
        }
    }

    /// The lines that were kept.
    #[must_use]
    pub fn into_lines(self) -> Vec<String> {
        match self {
            Self::Keep { lines, .. } => lines.into(),
            Self::Off | Self::Print { .. } => Vec::new(),
        }
    }
}

/// Traces a line of a world, making it only if somebody listens.
macro_rules! tell {
    ($world:expr, $($text:tt)*) => {
        if $world.trace.is_on() {
            let now = $world.now;
            $world.trace.line(now, format_args!($($text)*));
        }
    };
}
pub(crate) use tell;
