//! What is told of a run: nothing, every event as it happens, or the last ones before a failure; and, beside
//! that, a recording for a page.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;

use bytes::Bytes;
use quorate_core::Node;
use quorate_core::wire::{self, Packet};

use crate::view::{Facts, Fate, Lane, Mark, Recording, Told};

/// Where the lines go.
#[derive(Debug, Default)]
enum Lines {
    /// Nowhere: they are not even made.
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

/// Who is told of a run; by default nobody.
#[derive(Debug, Default)]
pub struct Trace {
    lines: Lines,
    recording: Option<Box<Recording>>,
}

impl Trace {
    /// Prints every line; heartbeats too, if they are wanted.
    #[must_use]
    pub fn print(heartbeats: bool) -> Self {
        Self { lines: Lines::Print { heartbeats }, recording: None }
    }

    /// Keeps the last `max` lines.
    #[must_use]
    pub fn keep(max: usize) -> Self {
        Self { lines: Lines::Keep { lines: VecDeque::new(), max }, recording: None }
    }

    /// Records everything besides.
    #[must_use]
    pub fn recording(self) -> Self {
        Self { recording: Some(Box::default()), ..self }
    }

    /// Whether anybody is told anything at all.
    #[must_use]
    #[inline]
    pub fn is_on(&self) -> bool {
        self.recording.is_some() || !matches!(self.lines, Lines::Off)
    }

    /// Whether everything is recorded.
    #[must_use]
    pub fn is_recording(&self) -> bool {
        self.recording.is_some()
    }

    /// What happens, and the line that says it. Mostly nobody listens.
    #[cold]
    pub fn tell(&mut self, now: u64, told: Told<'_>, text: fmt::Arguments<'_>) {
        if let Some(recording) = &mut self.recording {
            recording.tell(now, told, text);
        }
        self.line(now, text);
    }

    /// A packet that leaves a host for another; `cut`: it does not get through at the moment.
    #[cold]
    pub fn packet(
        &mut self,
        now: u64,
        (from, to): (usize, usize),
        cut: bool,
        (packet, bytes): (&Packet, usize),
    ) -> Option<Mark> {
        let facts = Facts::from(packet);
        if !facts.is_routine() || matches!(self.lines, Lines::Print { heartbeats: true }) {
            self.line(now, format_args!("host {from} -> {to} {packet:?}"));
        }
        let ends = (Lane::Host(from), Some(Lane::Host(to)));
        let cut = if cut { 1 << to } else { 0 };
        let recording = self.recording.as_mut()?;
        recording.sends(now, ends, cut, (facts, bytes), format_args!("{packet:?}"))
    }

    /// A datagram to every host; those of `cut`, a bit each, it does not reach.
    pub fn announces(&mut self, now: u64, host: usize, cut: u32, bytes: &Bytes) -> Option<Mark> {
        let recording = self.recording.as_mut()?;
        let what = (Facts::announcement(), bytes.len());
        let said = wire::decode_announce(bytes).ok();
        recording.sends(now, (Lane::Host(host), None), cut, what, format_args!("{said:?}"))
    }

    /// A host dials another.
    pub fn dials(
        &mut self,
        now: u64,
        ends: (Lane, Option<Lane>),
        addr: SocketAddr,
    ) -> Option<Mark> {
        let recording = self.recording.as_mut()?;
        ends.1?;
        recording.sends(now, ends, 0, (Facts::dial(), 0), format_args!("dials {addr}"))
    }

    /// A message between a client and a host.
    pub fn speaks<'a, M>(&mut self, now: u64, ends: (Lane, Lane), message: &'a M) -> Option<Mark>
    where
        M: fmt::Debug,
        Facts: From<&'a M>,
    {
        let recording = self.recording.as_mut()?;
        let ends = (ends.0, Some(ends.1));
        recording.sends(now, ends, 0, (Facts::from(message), 0), format_args!("{message:?}"))
    }

    /// What was sent comes to its end.
    #[inline]
    pub fn ends(&mut self, now: u64, mark: Option<Mark>, to: Lane, fate: Fate) {
        if let (Some(recording), Some(mark)) = (&mut self.recording, mark) {
            recording.ends(now, mark, to, fate);
        }
    }

    /// What the process of a host has become.
    #[inline]
    pub fn watch(&mut self, now: u64, host: usize, node: Option<&Node>) {
        if let (Some(recording), Some(node)) = (&mut self.recording, node) {
            recording.watch(now, host, node);
        }
    }

    fn line(&mut self, now: u64, text: fmt::Arguments<'_>) {
        let stamp = |text| format!("{:>7}.{:06} {text}", now / 1_000_000, now % 1_000_000);
        match &mut self.lines {
            Lines::Off => {}
            Lines::Print { .. } => println!("{}", stamp(text)),
            Lines::Keep { lines, max } => {
                if lines.len() >= *max {
                    lines.pop_front();
                }
                lines.push_back(stamp(text));
            }
        }
    }

    /// The lines that were kept, and what was recorded.
    #[must_use]
    pub fn into_parts(self) -> (Vec<String>, Option<Box<Recording>>) {
        let lines = match self.lines {
            Lines::Keep { lines, .. } => lines.into(),
            Lines::Off | Lines::Print { .. } => Vec::new(),
        };
        (lines, self.recording)
    }
}

/// Tells something of a world, making the line only if somebody listens.
macro_rules! tell {
    ($world:expr, $told:expr, $($text:tt)*) => {
        if $world.trace.is_on() {
            let now = $world.now;
            $world.trace.tell(now, $told, format_args!($($text)*));
        }
    };
}
pub(crate) use tell;
