//! One host: a machine with a clock, a directory, and a process that may run on it.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use quorate_core::{Generation, Index, Input, LinkId, LogId, Node, NodeId, Term, Time};

use super::engines::Pump;
use super::files::FileCalls;
use crate::checks::RunView;
use crate::clock::Clock;
use crate::disk::DirId;
use crate::plan::{HostPlan, Moment};
use crate::view::Fate;

/// A process that is to die at a bad moment.
#[derive(Clone, Copy, Debug)]
pub struct Armed {
    /// When.
    pub moment: Moment,
    /// How many such moments pass before.
    pub skip: u32,
    /// It is started again after this.
    pub down: u64,
}

/// What was last seen of a log of a node.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Seen {
    /// Its term.
    pub term: Term,
    /// Whether it led.
    pub leads: bool,
    /// Its commit index.
    pub commit: Index,
}

/// One host.
#[derive(Debug)]
pub struct Host {
    /// What was planned for it.
    pub plan: HostPlan,
    /// Its clock.
    pub clock: Clock,
    /// What its node asked for last, by its clock, and when that is in the world: mostly it asks for
    /// the same again. Forgotten when the clock changes.
    asked: Option<(Time, u64)>,
    /// Its directory, once it has one.
    pub dir: Option<DirId>,
    /// Its process.
    pub node: Option<Node>,
    /// Counts its processes.
    pub run: u32,
    /// The process is stopped and does not know it.
    pub paused: bool,
    /// When it last went on after it had been stopped.
    pub resumed: u64,
    /// When its clock last jumped: what waited then has waited long enough, as it sees it.
    pub jumped: u64,
    /// What came meanwhile.
    pub inbox: VecDeque<Input>,
    /// What was last seen of the log.
    pub seen: Seen,
    /// What was last seen of the logs of its shards.
    pub seen_shards: BTreeMap<LogId, Seen>,
    /// The copies that it has last named to its logs as the live ones.
    pub recorded: BTreeMap<LogId, Generation>,
    /// The engines of its process.
    pub engines: BTreeMap<LogId, Pump>,
    /// The directories that it had as a node whose databases it brings, or has brought.
    pub former: BTreeMap<NodeId, DirId>,
    /// What its process wants of the files of copies.
    pub file_calls: BTreeMap<LogId, FileCalls>,
    /// Engines find no space left.
    pub full: bool,
    /// Added to each call of an engine, in nanoseconds.
    pub engines_slow: u64,
    /// What this process has shown.
    pub view: RunView,
    /// It is to die soon.
    pub armed: Option<Armed>,
    /// It will not be started again, because.
    pub ended: Option<&'static str>,
    /// Where the cluster that its own has dissolved into was.
    pub leads_to: Vec<SocketAddr>,
    /// Nothing that is written becomes durable.
    pub disk_failed: bool,
    /// Added to each sync, in nanoseconds.
    pub disk_slow: u64,
    /// Syncs end in order: the last one ends then.
    pub disk_busy: u64,
    /// The links that the node takes for open.
    pub links: Vec<LinkId>,
    /// Dials that are not answered yet.
    pub dials: usize,
    /// Inputs in a row without time passing: a node that never rests.
    pub spins: u32,
}

impl Host {
    /// A host that has not been started.
    #[must_use]
    pub fn new(plan: HostPlan, clock: Clock) -> Self {
        Self {
            plan,
            clock,
            asked: None,
            dir: None,
            node: None,
            run: 0,
            paused: false,
            resumed: 0,
            jumped: 0,
            inbox: VecDeque::new(),
            seen: Seen::default(),
            seen_shards: BTreeMap::new(),
            recorded: BTreeMap::new(),
            engines: BTreeMap::new(),
            former: BTreeMap::new(),
            file_calls: BTreeMap::new(),
            full: false,
            engines_slow: 0,
            view: RunView::default(),
            armed: None,
            ended: None,
            leads_to: Vec::new(),
            disk_failed: false,
            disk_slow: 0,
            disk_busy: 0,
            links: Vec::new(),
            dials: 0,
            spins: 0,
        }
    }

    /// The first world time at which its clock shows `local` or more.
    pub fn world_time(&mut self, local: Time) -> u64 {
        if let Some((asked, world)) = self.asked
            && asked == local
        {
            debug_assert_eq!(world, self.clock.world(local), "the clock has changed");
            return world;
        }
        let world = self.clock.world(local);
        self.asked = Some((local, world));
        world
    }

    /// Lets its clock go otherwise from here on.
    pub fn disturb_clock(&mut self, disturb: impl FnOnce(&mut Clock)) {
        self.asked = None;
        disturb(&mut self.clock);
    }

    /// What becomes of what arrives here now, if somebody listens to it.
    #[must_use]
    pub fn fate(&self, listens: bool) -> Fate {
        match (&self.node, self.paused) {
            (Some(_), false) if listens => Fate::Arrived,
            (Some(_), true) if listens => Fate::Waits,
            _ => Fate::Nobody,
        }
    }

    /// Whether its process runs, paused or not.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.node.is_some()
    }
}
