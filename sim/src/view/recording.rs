//! What is kept of a run, event by event, for somebody who looks at it later.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::num::NonZeroU32;

use quorate_core::{LogId, NodeId};

use super::message::Facts;
use super::state::{State, Track};
use super::told::{Ask, Became, Kind, Lane, Told};
use crate::plan::Action;

/// No more is kept of one line.
const TEXT_MAX: usize = 1_500;
/// No more is kept of what comes again and again.
const ROUTINE_TEXT_MAX: usize = 160;
/// No more of what something is called.
const LABEL_MAX: usize = 48;

/// Names something that was sent, as long as it is on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark {
    number: NonZeroU32,
    way: Way,
}

impl Mark {
    /// The same, but this happens to it.
    #[must_use]
    pub fn but(self, way: Way) -> Self {
        Self { way, ..self }
    }
}

/// What happens to something on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// Nothing.
    Whole,
    /// It comes a second time.
    Double,
    /// It is changed.
    Mangled,
    /// An older one comes in its place, besides.
    Older,
}

/// How something that was sent ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It arrives.
    Arrived,
    /// It arrives at a process that is stopped, and waits there.
    Waits,
    /// Nobody is there, or listens, or the link is broken.
    Nobody,
    /// Lost on its way.
    Lost,
    /// It did not get through a cut.
    Cut,
    /// It is on its way when the run ends.
    UnderWay,
    /// Its link ends first.
    Never,
}

/// The life of a host's process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Life {
    Up,
    Paused,
    Killed,
    Ended,
}

/// Something at one moment.
#[derive(Debug)]
pub(super) struct Point {
    pub(super) at: u64,
    pub(super) lane: Lane,
    pub(super) kind: Kind,
    pub(super) log: Option<LogId>,
    /// The span that it begins or ends.
    pub(super) span: Option<usize>,
    pub(super) text: u32,
}

/// Something that was sent.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) at: u64,
    pub(super) from: Lane,
    /// `None`: to every host.
    pub(super) to: Option<Lane>,
    /// The hosts that it cannot reach, a bit each.
    pub(super) cut: u32,
    pub(super) facts: Facts,
    pub(super) bytes: usize,
    pub(super) text: u32,
}

/// How it ends at one receiver.
#[derive(Debug)]
pub(super) struct Leg {
    pub(super) sent: u32,
    pub(super) to: Lane,
    pub(super) at: u64,
    pub(super) fate: Fate,
    pub(super) way: Way,
}

/// Something that lasts: a fault, or a question until its answer.
#[derive(Debug)]
pub(super) struct Span {
    pub(super) lane: Lane,
    pub(super) from: u64,
    pub(super) to: Option<u64>,
    pub(super) label: u32,
    /// `None`: a fault.
    pub(super) outcome: Option<Became>,
    pub(super) log: Option<LogId>,
    pub(super) host: Option<usize>,
    cut: Option<u32>,
}

/// Texts, each once.
#[derive(Debug, Default)]
pub(super) struct Texts {
    places: BTreeMap<String, u32>,
    all: Vec<String>,
}

impl Texts {
    fn add(&mut self, text: String) -> u32 {
        if let Some(place) = self.places.get(&text) {
            return *place;
        }
        let place = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        self.all.push(text.clone());
        self.places.insert(text, place);
        place
    }

    pub(super) fn all(&self) -> &[String] {
        &self.all
    }
}

/// A line that ends where it becomes too long: contents of files must not be written out.
struct Bounded {
    text: String,
    max: usize,
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let left = self.max.saturating_sub(self.text.len());
        if part.len() <= left {
            self.text.push_str(part);
            return Ok(());
        }
        let fits = (0..=left).rev().find(|end| part.is_char_boundary(*end)).unwrap_or(0);
        self.text.push_str(&part[..fits]);
        self.text.push('…');
        Err(fmt::Error)
    }
}

fn bounded(max: usize, text: fmt::Arguments<'_>) -> String {
    let mut line = Bounded { text: String::new(), max };
    // Too long is not a failure.
    let _cut_off = line.write_fmt(text);
    line.text
}

/// All that is kept of a run.
#[derive(Debug, Default)]
pub struct Recording {
    pub(super) texts: Texts,
    pub(super) points: Vec<Point>,
    pub(super) sent: Vec<Sent>,
    pub(super) legs: Vec<Leg>,
    pub(super) spans: Vec<Span>,
    pub(super) lives: Vec<(u64, usize, Life)>,
    pub(super) nodes: BTreeMap<NodeId, usize>,
    pub(super) shards: BTreeMap<LogId, String>,
    pub(super) states: Vec<(u64, Track, Option<State>)>,
    pub(super) shown: BTreeMap<Track, State>,
    pub(super) peace: Option<u64>,
    open: BTreeMap<Ask, usize>,
}

impl Recording {
    /// Something happens.
    pub fn tell(&mut self, now: u64, told: Told<'_>, line: fmt::Arguments<'_>) {
        let text = self.texts.add(bounded(TEXT_MAX, line));
        let mut point = |lane, kind, log, span| {
            self.points.push(Point { at: now, lane, kind, log, span, text });
        };
        match told {
            Told::In(lane, kind) => point(lane, kind, None, None),
            Told::Log(host, kind, log) => point(Lane::Host(host), kind, Some(log), None),
            Told::Starts(host, node) => {
                point(Lane::Host(host), Kind::Life, None, None);
                self.nodes.insert(node, host);
                self.lives.push((now, host, Life::Up));
            }
            Told::Dies(host) | Told::Stops(host) | Told::Pauses(host) | Told::GoesOn(host) => {
                point(Lane::Host(host), Kind::Life, None, None);
                let life = match told {
                    Told::Dies(_) => Life::Killed,
                    Told::Stops(_) => Life::Ended,
                    Told::Pauses(_) => Life::Paused,
                    _ => Life::Up,
                };
                self.lives.push((now, host, life));
                if matches!(told, Told::Dies(_) | Told::Stops(_)) {
                    self.forget(now, host);
                    self.answers_nobody(now, host);
                }
            }
            Told::Fault(action) => self.fault(now, action, text),
            Told::ClientFault(client, kind, lasts) => {
                let lane = Lane::Failover(client);
                let span = matches!(kind, "client-cut" | "client-mute" | "client-deaf");
                let span = span.then_some(self.spans.len());
                point(lane, Kind::Faults, None, span);
                if span.is_some() {
                    self.lasts(lane, now, lasts, format_args!("{kind}"), None);
                }
            }
            Told::Healed(cut) => {
                point(Lane::World, Kind::Faults, None, None);
                let ends = |span: &&mut Span| span.cut == Some(cut);
                self.spans.iter_mut().filter(ends).for_each(|span| span.to = Some(now));
            }
            Told::Peace => {
                point(Lane::World, Kind::Faults, None, None);
                self.peace = Some(now);
                for span in self.spans.iter_mut().filter(|span| span.outcome.is_none()) {
                    span.to = span.to.map(|to| to.min(now));
                }
            }
            Told::Asks { ask, who, host, log, what } => {
                point(who, Kind::of_lane(who), log, Some(self.spans.len()));
                if let Some(host) = host {
                    point(Lane::Host(host), Kind::of_lane(who), log, Some(self.spans.len()));
                }
                let label = self.texts.add(bounded(LABEL_MAX, format_args!("{what:?}")));
                self.open.insert(ask, self.spans.len());
                let outcome = Some(Became::Open);
                let (lane, from) = (who, now);
                self.spans.push(Span {
                    lane,
                    from,
                    to: None,
                    label,
                    outcome,
                    log,
                    host,
                    cut: None,
                });
            }
            Told::Answered(ask, outcome) => {
                let Some(place) = self.open.remove(&ask) else { return };
                let span = &mut self.spans[place];
                (span.to, span.outcome) = (Some(now), Some(outcome));
                let (lane, log) = (span.host.map_or(span.lane, Lane::Host), span.log);
                let kind = Kind::of_lane(span.lane);
                self.points.push(Point { at: now, lane, kind, log, span: Some(place), text });
            }
        }
    }

    /// The process of a host is gone: what it was asked is not answered any more.
    fn answers_nobody(&mut self, now: u64, host: usize) {
        let Self { open, spans, .. } = self;
        open.retain(|_, place| {
            let span = &mut spans[*place];
            let asked = span.host == Some(host);
            if asked {
                span.to = Some(now);
            }
            !asked
        });
    }

    /// Something is sent.
    pub(crate) fn sends(
        &mut self,
        now: u64,
        (from, to): (Lane, Option<Lane>),
        cut: u32,
        (facts, bytes): (Facts, usize),
        line: fmt::Arguments<'_>,
    ) -> Option<Mark> {
        let max = if facts.is_routine() { ROUTINE_TEXT_MAX } else { TEXT_MAX };
        let text = self.texts.add(bounded(max, line));
        self.sent.push(Sent { at: now, from, to, cut, facts, bytes, text });
        let number = u32::try_from(self.sent.len()).ok().and_then(NonZeroU32::new)?;
        Some(Mark { number, way: Way::Whole })
    }

    /// It ends.
    pub(crate) fn ends(&mut self, now: u64, mark: Mark, to: Lane, fate: Fate) {
        let sent = mark.number.get() - 1;
        self.legs.push(Leg { sent, to, at: now, fate, way: mark.way });
    }

    fn fault(&mut self, now: u64, action: &Action, text: u32) {
        let mut hosts = action.host().map_or(0, |host| 1 << host);
        let first = self.spans.len();
        match action {
            Action::Cut { id, from, to, both, datagrams, streams, lasts } => {
                let (from, to) = (*from, *to);
                hosts = from | to;
                let what = match (datagrams, streams) {
                    (true, true) => "",
                    (true, false) => " datagrams",
                    _ => " streams",
                };
                for host in each(hosts) {
                    let has = |set: u32| set & (1 << host) != 0;
                    let towards = |yes: bool, set: u32| if yes { set & !(1 << host) } else { 0 };
                    let out = towards(has(from), to) | towards(*both && has(to), from);
                    let back = towards(has(to), from) | towards(*both && has(from), to);
                    for (arrow, set) in [("⇄", out & back), ("→", out & !back), ("←", back & !out)]
                    {
                        if set != 0 {
                            let peers: Vec<String> = each(set).map(|h| h.to_string()).collect();
                            let label = format_args!("cut{what} {arrow} {}", peers.join(" "));
                            self.lasts(Lane::Host(host), now, *lasts, label, Some(*id));
                        }
                    }
                }
            }
            Action::SlowDisk { host, extra, lasts } => {
                let label = format_args!("slow disk +{} ms", extra / 1_000_000);
                self.lasts(Lane::Host(*host), now, *lasts, label, None);
            }
            Action::SlowLinks { host, extra, lasts } => {
                let label = format_args!("slow links +{} ms", extra / 1_000_000);
                self.lasts(Lane::Host(*host), now, *lasts, label, None);
            }
            Action::SlowEngines { host, extra, lasts } => {
                let label = format_args!("slow engines +{} ms", extra / 1_000_000);
                self.lasts(Lane::Host(*host), now, *lasts, label, None);
            }
            Action::FillDisk { host, lasts } => {
                self.lasts(Lane::Host(*host), now, *lasts, format_args!("disk full"), None);
            }
            Action::Crash { hosts: crashed, .. } => hosts = *crashed,
            _ => {}
        }
        for host in each(hosts) {
            let lane = Lane::Host(host);
            let span = (first..self.spans.len()).find(|place| self.spans[*place].lane == lane);
            self.points.push(Point { at: now, lane, kind: Kind::Faults, log: None, span, text });
        }
    }

    fn lasts(
        &mut self,
        lane: Lane,
        from: u64,
        lasts: u64,
        label: fmt::Arguments<'_>,
        cut: Option<u32>,
    ) {
        let label = self.texts.add(bounded(LABEL_MAX, label));
        let to = Some(from + lasts);
        self.spans.push(Span { lane, from, to, label, outcome: None, log: None, host: None, cut });
    }
}

fn each(hosts: u32) -> impl Iterator<Item = usize> {
    (0..32).filter(move |host| hosts & (1 << host) != 0)
}
